"""A job of the platform that runs inside of Slurm, as a node runs it, and as what prepares it before it is queued. Pure."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import Option, Platform
from mlcube_shell.shell_setup import text_lines
from mlcube_shell.slurm_requests import gpus_inside

if TYPE_CHECKING:
    from mlcube_cli.job import Job

# slurmd sets it for all that it starts (sbatch(1), OUTPUT ENVIRONMENT VARIABLES): not on the machine where jobs are submitted.
_ON_NODE = 'if [ -n "${SLURMD_NODENAME-}" ]; then'
_GPUS = "gpus"
_ASKED = ("memory", "cpuset_cpus")  # of plain Python: what its job is asked for, and nothing to what prepares it


def on_node(platform: Platform, job: Job, machine: Platform | None = None) -> Job:
    """The job as a node runs it: Slurm's `modules` and `setup` before those of the platform inside (RULINGS 24).

    Slurm's `setup` lines do their work on nodes only, so that the same command may be asked for its version where jobs are
    submitted. `machine`: the one that jobs are submitted from, where another platform leads there (ssh); what that says
    holds there, too. Where the platform inside says nothing of `gpus`, it gets what the batch job has.
    Raises DefinitionError for options that are not made of text.
    """
    return replace(_behind(platform, job, machine), batch=True)


def on_login(platform: Platform, job: Job, machine: Platform | None = None) -> Job:
    """The job as what prepares it runs, on the machine where jobs are submitted: `setup` of Slurm's does nothing there.

    Its commands are those of `on_node`, so that what they make is what a node looks for.
    """
    before = _behind(platform, job, machine)
    if before.platform.runner != "local":
        return replace(before, batch=False)
    kept = tuple(option for option in before.platform.options if option.name not in _ASKED)
    return replace(before, batch=False, platform=replace(before.platform, options=kept))


def _behind(platform: Platform, job: Job, machine: Platform | None) -> Job:
    outer = replace(job, platform=platform)
    before = text_lines(replace(job, platform=machine), "setup") if machine else ()
    given = text_lines(outer, "setup")
    everywhere = before if given[:len(before)] == before else ()
    lines = given[len(everywhere):]
    guarded = (*everywhere, *((_ON_NODE, *lines, "fi") if lines else ()))
    modules = text_lines(outer, "modules")
    found = {"modules": _in_front(outer, job, "modules", modules, modules),
             "setup": _in_front(outer, job, "setup", given, guarded), _GPUS: _gpus(platform, job)}
    own = tuple(found.pop(option.name, None) or option for option in job.platform.options)
    added = tuple(option for option in found.values() if option is not None)
    return replace(job, platform=replace(job.platform, options=(*own, *added)))


def _in_front(outer: Job, inner: Job, name: str, given: tuple[str, ...], lines: tuple[str, ...]) -> Option | None:
    """The inner platform's option with `lines` before its own; None where it stays as it is. A platform that was read as the
    one inside has the outer one's `given` lines before its own already, and a job that was here before has `lines`."""
    above, own = outer.find_option(name), inner.find_option(name)
    if above is None or not given:
        return None
    rest = text_lines(inner, name)
    there = next((before for before in (lines, given) if rest[:len(before)] == before), ())
    rest = rest[len(there):]
    return replace(own or above, name=name, value=[*lines, *rest], secret=above.secret or bool(own and own.secret))


def _gpus(platform: Platform, job: Job) -> Option | None:
    """What the platform inside is told of GPUs: all that the batch job has, or none of the node's. None where it says that
    itself; how many it then asks for is what Slurm is asked for."""
    stated = job.platform.find(_GPUS)
    asked = gpus_inside(platform, job.requirements, job.platform)
    if asked is None or (stated is not None and stated.value is not None and asked != "none"):
        return None
    above = platform.find(_GPUS)
    return Option(_GPUS, asked, above.origin if above else "default")
