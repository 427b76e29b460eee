"""What runs inside of a platform that has its tasks run elsewhere, one step of a chain such as ssh -> slurm -> singularity."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.choose import choose_platform
from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.definition.model import Platform
from mlcube_cli.definition.platforms import CARRIERS
from mlcube_cli.errors import DefinitionError, MachineError, UsageError
from mlcube_cli.facts import Facts
from mlcube_cli.observe import Look, with_facts
from mlcube_cli.runner import load_runner
from mlcube_cli.trust import platform_reach

_HINT = "name one of docker, singularity, local"
_IN_ITSELF = {"ssh": f"a machine to go through is its 'jump'; else {_HINT}"}


@dataclass(frozen=True)
class Layer:
    """A platform, with the reading that it is of and the request that was read."""

    request: ReadRequest  # names all that is outside of this platform
    reading: Reading
    platform: Platform
    untrusted: bool = False  # is nothing asked that a stranger's cube names, such as an executable?


def read_inside(outer: Layer, facts: Facts, look: Look, where: str) -> Layer:
    """The platform that runs inside of this one: the one that it names, else the first of the cube's that the machine can run.

    It knows what is said of the outer one (`env`, `modules`, `setup`). `facts`, `look`: of the machine that the outer
    platform's tasks are planned for. `where`: the same in words, such as "on gpu-box". Raises UsageError, DefinitionError,
    MachineError and whatever `look` raises.
    """
    named = outer.platform.option("platform") or _first_usable(outer, facts, look, where)
    request = replace(outer.request, inside=(*outer.request.inside, str(named)))
    reading = read_cube(request)
    names = reading.inside[len(outer.request.inside):len(request.inside)]
    platform = reading.cube.platform(names[0]) if reading.cube and names else None
    if platform is None:
        raise DefinitionError(f"the platform that runs {where} cannot be used", problems=reading.problems)
    _refuse_nonsense(outer.platform, platform)
    return replace(outer, request=request, reading=reading, platform=platform)


def _first_usable(outer: Layer, facts: Facts, look: Look, where: str) -> str:
    """The name of the first of the cube's platforms that the machine can run (RULINGS 7); which one is said."""
    cube, name = outer.reading.cube, outer.platform.name
    assert cube is not None
    others = tuple(one for one in cube.platforms if one.runner not in CARRIERS)
    if not others:
        raise UsageError(f"what should run {where}? The cube has no platform but '{name}'",
                         f"say it: -P{name}.platform=docker (or singularity, local)")
    try:
        (found, why), _ = with_facts(lambda known: choose_platform(
            replace(cube, platforms=others), None, None, lambda one: _unavailable(outer, one, known)), facts, look)
    except MachineError as error:
        error.hint = f"install an engine there, or say what runs {where}: -P{name}.platform=NAME"
        raise
    output.say(f"running {where}: {why or found.name}")
    return found.name


def _unavailable(outer: Layer, platform: Platform, facts: Facts) -> str | None:
    reach = platform_reach(platform) if outer.untrusted else ()
    return f"it asks for {'; '.join(reach)}" if reach else load_runner(platform.runner).available(platform, facts)


def _refuse_nonsense(outer: Platform, inner: Platform) -> None:
    """A batch job may be submitted on another machine; nothing else that carries tasks elsewhere runs inside of another."""
    if inner.runner not in CARRIERS or CARRIERS.index(inner.runner) > CARRIERS.index(outer.runner):
        return
    hint = _IN_ITSELF.get(outer.runner, _HINT) if inner.runner == outer.runner else (
        f"it is the other way round: -P{inner.name}.platform={outer.name} --platform={inner.name}")
    raise UsageError(f"platform '{inner.name}' (runner {inner.runner}) cannot run inside of '{outer.name}' "
                     f"(runner {outer.runner})", hint)
