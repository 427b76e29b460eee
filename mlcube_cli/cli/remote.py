"""A command line whose platform is another machine, decided: connect, look around there, resolve for both machines."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.bound import arguments_of, of_machine, paths_of_here, with_outputs_of
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.connecting import connect
from mlcube_cli.cli.flags import with_flags
from mlcube_cli.cli.inside import Layer, read_inside
from mlcube_cli.cli.preparing import Asked, Prepared, guard_against_strangers, jobs_of, lock_of, ways_to_look, wishes_of
from mlcube_cli.cli.used import Used, judge_problems, used_files
from mlcube_cli.command import Command, Step
from mlcube_cli.cube_id import find_id
from mlcube_cli.definition import Reading, ReadRequest
from mlcube_cli.definition.model import Cube, Option, Platform
from mlcube_cli.errors import DefinitionError, MachineError, UsageError
from mlcube_cli.facts import Answer, Facts, FileText, Observation, PathFact, PathKind, Probe, Question
from mlcube_cli.job import Job
from mlcube_cli.lock_file import under
from mlcube_cli.observe import Look, with_facts
from mlcube_cli.observe import look as look_here
from mlcube_cli.parcels import Load, Parcel, Way
from mlcube_cli.process import Session, ask
from mlcube_cli.records import RUNS
from mlcube_cli.relocation import Relocation, is_at_or_below, looking_at_both, looking_before_moving, moved
from mlcube_cli.remembered import recall, remember
from mlcube_cli.report import on_one_line
from mlcube_cli.resolve import Wish
from mlcube_cli.run_index import state_directory
from mlcube_cli.runner import BATCH, RUNNERS, Carrier, load_carrier, load_runner
from mlcube_cli.there import There, reach
from mlcube_cli.trust import platform_reach

_INSIDE = ("env", "env_args", "build_args")  # maps in which a null passes on the caller's own value


@dataclass(frozen=True)
class Remote:
    """The machine that the tasks run on, and how this machine's paths are found there."""

    platform: Platform  # the one that names the machine
    carrier: Carrier
    here: Facts
    way: Way
    machine: There
    relocation: Relocation
    load: Load
    jobs: tuple[Job, ...]  # as this machine sees them
    shipping: tuple[Step, ...] = ()  # what brings the image there before anything runs
    shipped: str = ""  # the image that is brought, as it is called there
    key: str = ""  # what the questions that are asked there are kept under

    @property
    def facts(self) -> Facts:
        return self.machine.facts

    @property
    def name(self) -> str:
        return self.way.place.name

    def look_there(self, question: Question) -> Answer:
        """The answer of that machine."""
        return self.machine.look((question,))[question]

    def keep_questions(self, but: str) -> None:
        """What was asked there goes along with the first question next time; not what is about `but`, this run's own id."""
        asked = self.machine.look.asked
        remember(self.here.cache, self.key, (question for question in asked if not but or but not in repr(question)))

    def moved(self, job: Job) -> Job:
        """A job of this machine as that one sees it."""
        return moved(job, self.relocation, job.platform)


def prepare_there(arguments: Arguments, request: ReadRequest, reading: Reading, asked: Asked, facts: Facts) -> Prepared:
    """The command line for tasks on another machine. It is looked at; nothing is started and nothing is written there."""
    if getattr(arguments, "interactive", False):
        raise UsageError(f"--interactive: platform '{asked.platform.name}' runs tasks on another machine, without a terminal",
                         "leave it out, or log in there and run the task by hand")
    _guard_the_way(arguments, asked.platform, reading)
    carrier = load_carrier(asked.platform.runner)
    way, facts = with_facts(lambda known: carrier.way(asked.platform, known), facts, ways_to_look(arguments))
    key = f"{reading.cube.root if reading.cube else ''} {asked.platform.name}"
    machine = arrive(way, recall(facts.cache, key))
    inner = read_inside(Layer(request, reading, asked.platform, arguments.untrusted), machine.facts, machine.look,
                        f"on {machine.place.name}")
    queue = None
    if RUNNERS[inner.platform.runner].kind == BATCH:
        from mlcube_cli.cli.queue import enter

        inner, queue = enter(arguments, inner, machine.facts, machine.look)
        queue = replace(queue, machine=asked.platform)
    reading, cube = inner.reading, inner.reading.cube
    assert cube is not None
    outer = (asked.platform, *((queue.platform,) if queue else ()))
    platform = with_flags(_with_values_of_here(inner.platform, facts), arguments)
    files = tuple(dict.fromkeys(file for one in (*outer, platform) for file in used_files(cube, one, asked.tasks)))
    judge_problems(reading, Used(cube, platform, asked.tasks, files, facts.cwd, outer))
    wishes = wishes_of(arguments, asked)
    near = _near(cube, asked.platform, wishes, facts, machine)
    jobs = _jobs_here(cube, platform, near.wishes, near)
    lock = lock_of(cube, facts)
    remote = replace(_remote(asked.platform, carrier, way, near, cube, jobs), key=key)
    look = looking_at_both(remote.relocation, ways_to_look(arguments), machine.look)
    there = tuple(under(lock, moved(job, remote.relocation, platform)) for job in jobs)
    prepared = Prepared(cube, platform, load_runner(platform.runner),
                        tuple(queue.on_node(job) for job in there) if queue else there, wishes, machine.facts,
                        files, lock, look, remote, queue)
    guard_against_strangers(arguments, replace(prepared, jobs=jobs, facts=near.mixed, look=near.look(cube), remote=None))
    from mlcube_cli.cli.images_there import with_image

    return with_image(prepared)


def find_travelling(arguments: Arguments, cube: Cube, reading: Reading, asked: Asked, facts: Facts) -> Remote:
    """What the tasks would send and bring home, whether or not they could start now. The machine is connected and looked at."""
    _guard_the_way(arguments, asked.platform, reading)
    carrier = load_carrier(asked.platform.runner)
    way, facts = with_facts(lambda known: carrier.way(asked.platform, known), facts, ways_to_look(arguments))
    machine = arrive(way)
    wishes = wishes_of(arguments, asked)
    near = _near(cube, asked.platform, wishes, facts, machine)

    def jobs_of_wishes(known: Facts) -> tuple[Job, ...]:
        return tuple(Job("", cube.name, cube.root, cube.workspace, cube.calling, wish.task.name, None,
                         arguments_of(cube, wish, known), asked.platform) for wish in near.wishes)

    jobs, _ = with_facts(jobs_of_wishes, near.mixed, near.look(cube))
    remote = _remote(asked.platform, carrier, way, near, cube, jobs)
    parcels = [_parcels(cube, (job,), remote.relocation) for job in jobs]
    inputs, outputs = (tuple({parcel.here: parcel for pair in parcels for parcel in pair[which]}.values()) for which in (0, 1))
    return replace(remote, load=replace(remote.load, inputs=inputs, outputs=outputs))


def _guard_the_way(arguments: Arguments, platform: Platform, reading: Reading) -> None:
    """What a stranger's cube says about the way there counts before the way is taken (RULINGS 25)."""
    reached = platform_reach(platform)
    if reached and arguments.untrusted:
        raise DefinitionError("this cube asks for more than its inputs and outputs: " + "; ".join(reached),
                              "read it, then run it without --untrusted")
    if reached and reading.cube and not os.path.isdir(os.path.join(reading.cube.workspace, RUNS)):
        output.say("this cube says where to connect: " + "; ".join(reached))


def arrive(way: Way, questions: tuple[Question, ...] = ()) -> There:
    """Connect, once for all that follows, and look around. Raises MachineError where the machine does not answer, and
    Interrupted."""
    with Session() as session:
        connect(way, session)
    machine = reach(way.place, ask, questions=questions, reasons=way.reasons)
    if machine.tools.get("rsync") is None:
        raise MachineError(f"there is no rsync on {way.place.name}", "install it there, or ask whoever looks after it")
    if machine.noise:
        said = machine.noise.strip().splitlines()[:1]
        raise MachineError(f"the login shell on {way.place.name} prints something before anything runs, which rsync takes for "
                           f"its own protocol: {''.join(said)[:80]!r}",
                           "in .bashrc, .cshrc or config.fish there, print only in interactive shells")
    return machine


def _with_values_of_here(platform: Platform, facts: Facts) -> Platform:
    """Variables that are passed on by name have the value that they have here; it travels as a secret."""
    return replace(platform, options=tuple(
        _filled(option, facts) if option.name in _INSIDE and isinstance(option.value, dict) else option
        for option in platform.options))


def _filled(option: Option, facts: Facts) -> Option:
    assert isinstance(option.value, dict)
    given = {name: facts.environment[name] for name, value in option.value.items()
             if value is None and name in facts.environment}
    hidden = tuple(name for name in option.value if option.hides(name) or name in given)
    return replace(option, value={**option.value, **given}, secret_keys=hidden) if given else option


# --- paths -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Near:
    """Both machines, and which paths of the tasks are of this one."""

    here: Facts
    machine: There
    paths: tuple[str, ...]  # outside of the cube
    mixed: Facts  # what `~` and `$NAME` mean in a definition
    wishes: tuple[Wish, ...]  # whose values mean in them what they should

    def is_here(self, cube: Cube, path: str) -> bool:
        return any(is_at_or_below(path, one) for one in (cube.workspace, cube.root, *self.paths))

    def names_own(self, cube: Cube, message: str) -> bool:
        """Does this message name a path of this machine?"""
        own = [one.encode("utf-8", "backslashreplace").decode() for one in (cube.workspace, cube.root, *self.paths)]
        return any(re.search(rf"(?<!\S){re.escape(one)}(?![^/\s:,])", message) for one in own)

    def look(self, cube: Cube) -> Look:
        """Answers questions about paths as the definition means them."""
        return looking_before_moving(lambda path: self.is_here(cube, path), look_here, self.machine.look)


def _near(cube: Cube, platform: Platform, wishes: Sequence[Wish], here: Facts, machine: There) -> _Near:
    """`~` and `$NAME` mean what they mean on the machine that holds the path (RULINGS 35)."""
    sync = platform.option("sync")
    pushed = isinstance(sync, dict) and sync.get("absolute") == "push"
    there = replace(here, home=machine.facts.home, environment={**here.environment, **machine.facts.environment})
    mixed = here if pushed else there
    named = tuple(with_outputs_of(cube, wish, there) if pushed else wish for wish in wishes)
    paths = tuple(dict.fromkeys(path for wish in named for path in paths_of_here(cube, wish, mixed, pushed)))
    return _Near(here, machine, paths, mixed, named)


def _jobs_here(cube: Cube, platform: Platform, wishes: Sequence[Wish], near: _Near) -> tuple[Job, ...]:
    """The jobs as this machine sees them: what travels was looked at here, the rest there. Raises DefinitionError."""
    try:
        return with_facts(lambda known: jobs_of(cube, platform, wishes, known), near.mixed, near.look(cube))[0]
    except DefinitionError as error:
        raise DefinitionError(error.message, error.hint, problems=[
            problem if not re.search(r"(?<=\s)/", problem.message) or near.names_own(cube, problem.message) else
            of_machine(problem, near.machine.place.name) for problem in error.problems]) from None


def _remote(platform: Platform, carrier: Carrier, way: Way, near: _Near, cube: Cube, jobs: tuple[Job, ...]) -> Remote:
    """Where everything lies there, below a directory of ours that is named after the cube (RULINGS 37)."""
    identifier = find_id(cube.root, state_directory(near.here.environment, near.here.home))
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", cube.name).strip(".-")[:40] or "cube"
    root = carrier.root(platform, f"{stem}-{identifier}", near.machine.facts)
    workspace = (cube.workspace, os.path.join(root, _workspace_name(cube)))
    mirror = os.path.join(root, "code")
    paths = [argument.host_path for job in jobs for argument in job.paths]
    of_cube = (cube.workspace, cube.root)
    apart = tuple(dict.fromkeys(path for path in paths if not any(is_at_or_below(path, one) for one in of_cube)
                                and any(is_at_or_below(path, one) for one in near.paths)))
    outside = tuple(path for path in apart if not any(path != one and is_at_or_below(path, one) for one in apart))
    elsewhere = tuple((path, os.path.join(root, "elsewhere", _digest(path), os.path.basename(path) or "root"))
                      for path in outside)
    run = jobs[0].command_id if jobs else ""
    code = os.path.join(root, "runs", run, "code") if run else mirror
    relocation = Relocation(workspace, (cube.root, code), elsewhere, mirror=mirror)
    relocation = replace(relocation, travelling=tuple(dict.fromkeys(path for path in paths if relocation.moves(path))))
    inputs, outputs = _parcels(cube, jobs, relocation)
    own = tuple(dict.fromkeys((cube.workspace, os.path.join(cube.root, "workspace"))))
    load = Load(root, identifier, (cube.root, mirror), workspace, own, inputs, outputs, rsync=near.machine.rsync,
                name=on_one_line(cube.name))
    marker, *directories = carrier.places(load)
    ours = Probe(Command(("find", "-H", root, marker, "-prune", "-user", str(near.machine.facts.uid))))  # prints them
    found = near.machine.look((FileText(marker), ours, *map(PathKind, directories)))
    load = replace(load, made=load.is_marked(found[FileText(marker)], near.machine.place.name) and all(
        isinstance(fact := found[PathKind(path)], PathFact) and fact.kind != "absent" for path in directories)
        and isinstance(seen := found[ours], Observation) and seen.stdout == f"{root}\n{marker}\n")
    return Remote(platform, carrier, near.here, way, near.machine, relocation, load, jobs)


def with_jobs(remote: Remote, cube: Cube, jobs: tuple[Job, ...]) -> Remote:
    """The machine for these of its jobs only: what the others would have made there is sent."""
    inputs, outputs = _parcels(cube, jobs, remote.relocation)
    return replace(remote, jobs=jobs, load=replace(remote.load, inputs=inputs, outputs=outputs))


def _parcels(cube: Cube, jobs: Sequence[Job], relocation: Relocation) -> tuple[tuple[Parcel, ...], tuple[Parcel, ...]]:
    """What travels there and what comes home, each path once. What an earlier task of the command line writes stays there."""
    sent: dict[str, Parcel] = {}
    fetched: dict[str, Parcel] = {}
    for job in jobs:
        task = cube.task(job.task)
        read = {parameter.name for parameter in task.parameters if parameter.direction == "input"} if task else set()
        travelling = [argument for argument in job.paths if relocation.moves(argument.host_path)]
        for argument in travelling:
            path = argument.host_path
            if argument.name in read and not _is_made_before(path, fetched):
                sent.setdefault(path, Parcel(argument.name, path, relocation.there(path), argument.type))
        fetched.update({argument.host_path: Parcel(argument.name, argument.host_path, relocation.there(argument.host_path),
                                                   argument.type)
                        for argument in travelling if argument.direction == "output"})
    return tuple(sent.values()), tuple(fetched.values())


def _is_made_before(path: str, made: Collection[str]) -> bool:
    """Is this input only there, or there anew, once an earlier task of the command line has written it?"""
    return path in made or (any(is_at_or_below(path, one) for one in made) and not os.path.lexists(path))


def _workspace_name(cube: Cube) -> str:
    own = os.path.join(cube.root, "workspace")
    return "workspace" if cube.workspace == own else f"workspace-{_digest(cube.workspace)}"


def _digest(path: str) -> str:
    import hashlib

    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
