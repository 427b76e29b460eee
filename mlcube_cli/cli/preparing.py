"""A command line, decided: read, chosen, resolved, checked against the lock and for what a stranger asks. Nothing starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.choose import assign, choose_platform, choose_tasks
from mlcube_cli.cli.flags import with_flags
from mlcube_cli.cli.inside import Layer
from mlcube_cli.cli.used import Chosen, Used, judge_problems, used_files
from mlcube_cli.cli.words import Words, sort_out
from mlcube_cli.command import Plan
from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.definition.model import Cube, Platform
from mlcube_cli.errors import DefinitionError, MachineError, PreparationError, Problem, UsageError
from mlcube_cli.exec_values import with_variables
from mlcube_cli.facts import Facts, for_each
from mlcube_cli.job import Job
from mlcube_cli.lock_file import Lock, read_lock, under
from mlcube_cli.observe import Look, T, look, look_before_starting, machine, with_facts
from mlcube_cli.records import RUNS, new_run_id
from mlcube_cli.resolve import Wish, resolve
from mlcube_cli.runner import BATCH, HOST, REMOTE, RUNNERS, Runner, load_runner
from mlcube_cli.staging import with_copies
from mlcube_cli.trust import job_reach, platform_reach

if TYPE_CHECKING:
    from mlcube_cli.cli.queue import Queue
    from mlcube_cli.cli.remote import Remote
    from mlcube_cli.cli.skipping import Judged


@dataclass(frozen=True)
class Prepared:
    """A command line, decided: nothing was started and nothing was written so far."""

    cube: Cube
    platform: Platform
    runner: Runner
    jobs: tuple[Job, ...]  # none for configure
    wishes: tuple[Wish, ...]
    facts: Facts
    files: tuple[str, ...]  # the definition files that this command line uses, as shown to the user
    lock: Lock  # the cube's own
    look: Look  # how questions about the machine that runs the tasks are answered
    remote: Remote | None = None  # that machine, where it is another one; platform, runner, jobs and facts are of it then
    queue: Queue | None = None  # the batch system that carries out the tasks; platform is what runs in its jobs then
    judged: Judged | None = None  # with --skip-unchanged and --explain: what has changed, and which tasks are left out

    @property
    def platform_name(self) -> str:
        """The platform that the command line means, whatever runs behind it."""
        return self.remote.platform.name if self.remote else self.queue.name if self.queue else self.platform.name

    @property
    def jobs_here(self) -> tuple[Job, ...]:
        """The jobs with the paths of this machine."""
        return self.remote.jobs if self.remote else self.jobs

    def plan(self, job: Job, facts: Facts) -> Plan:
        """The plan of one of the jobs. Raises Missing, MLCubeError."""
        if self.queue:
            return self.queue.plan(self.runner, job, facts)
        return with_copies(self.runner.plan(job, facts), job)

    def afresh(self) -> Facts:
        """The machine that runs the tasks, looked at anew."""
        return self.remote.facts if self.remote else machine(os.environ)

    def decide(self, function: Callable[[Facts], T]) -> tuple[T, Facts]:
        """What the function makes of the machine that runs the tasks; what another machine lacks is said of that one."""
        try:
            return with_facts(function, self.facts, self.look)
        except (MachineError, PreparationError) as error:
            if self.remote:
                error.message = f"on {self.remote.name}: {error.message}"
            raise


def prepare(arguments: Arguments, decide: Decide | None = None) -> Prepared:
    """The command line, decided. `decide`: which tasks that means, instead of each that is named, once: what only this machine
    and its batch systems carry out. Raises MLCubeError."""
    words = sort_out(arguments.words, arguments.mlcube, getattr(arguments, "task", ()))
    running = hasattr(arguments, "task")
    facts = machine(os.environ)
    request = read_request(arguments, words, facts)
    reading = read_cube(request)
    if reading.cube is None:
        raise DefinitionError("this cube cannot be used", problems=reading.problems)
    cube = reading.cube
    if arguments.platform is not None and reading.platform is None:
        raise DefinitionError("this platform cannot be used", problems=reading.problems)
    tasks = _tasks(arguments, reading, words, facts) if running else []
    values = assign([task for task, _ in tasks], words.values)
    (platform, why), facts = with_facts(lambda known: choose_platform(
        cube, reading.platform, arguments.runner, lambda candidate: _unavailable(arguments, candidate, known)),
        facts, ways_to_look(arguments))
    if why:
        output.say(f"{getattr(arguments, 'doing', 'running on' if running else 'configuring')} {why}")
    if platform.runner in RUNNERS and RUNNERS[platform.runner].kind == REMOTE:
        if decide:
            raise UsageError(f"platform '{platform.name}' is another machine: this runs here, or as batch jobs from here",
                             f"log in to {platform.option('host') or platform.name}, and type it there")
        from mlcube_cli.cli.remote import prepare_there

        return prepare_there(arguments, request, reading, Asked(platform, tasks, values), facts)
    queue = None
    if platform.runner in RUNNERS and RUNNERS[platform.runner].kind == BATCH:
        from mlcube_cli.cli.queue import enter

        inner, queue = enter(arguments, Layer(request, reading, platform, arguments.untrusted), facts, ways_to_look(arguments))
        reading, platform = inner.reading, inner.platform
    outer = (queue.platform,) if queue else ()
    platform, cube = with_flags(platform, arguments), reading.cube or cube
    files = tuple(dict.fromkeys(file for one in (*outer, platform) for file in used_files(cube, one, tasks)))
    judge_problems(reading, Used(cube, platform, tasks, files, facts.cwd, outer))
    wishes, jobs, facts = (decide or _each_task)(arguments, cube, Asked(platform, tasks, values), facts)
    jobs = tuple(queue.on_node(job) for job in jobs) if queue else jobs
    lock = lock_of(cube, facts)
    prepared = Prepared(cube, platform, load_runner(platform.runner), tuple(under(lock, job) for job in jobs), wishes, facts,
                        files, lock, ways_to_look(arguments), queue=queue)
    guard_against_strangers(arguments, prepared)
    return prepared


def _tasks(arguments: Arguments, reading: Reading, words: Words, facts: Facts) -> Chosen:
    """The tasks that run, in their order. Raises UsageError, DefinitionError."""
    assert reading.cube is not None
    if not getattr(arguments, "all", False):
        return choose_tasks(reading.cube, words.tasks, facts.cwd)
    from mlcube_cli.cli.graphs import every_task

    return every_task(reading, words, facts)


@dataclass(frozen=True)
class Asked:
    """What a command line names, found in the cube."""

    platform: Platform
    tasks: Chosen
    values: Mapping[str, str]  # `name=value`


Decide = Callable[[Arguments, Cube, Asked, Facts], "tuple[tuple[Wish, ...], tuple[Job, ...], Facts]"]


def _each_task(arguments: Arguments, cube: Cube, asked: Asked, facts: Facts) -> tuple[tuple[Wish, ...], tuple[Job, ...], Facts]:
    """Each task that is named, once, in that order. Raises DefinitionError."""
    wishes = wishes_of(arguments, asked)
    jobs, facts = with_facts(lambda known: jobs_of(cube, asked.platform, wishes, known), facts)
    return wishes, jobs, facts


def lock_of(cube: Cube, facts: Facts) -> Lock:
    """The cube's lock file, its warnings shown. `facts`: of this machine."""
    lock = read_lock(os.path.join(facts.cwd, cube.file), facts.cwd, facts.cache)
    output.show_problems(lock.warnings)
    return lock


def ways_to_look(arguments: Arguments) -> Look:
    """How facts are looked up: a dry run starts nothing, so it need not get ready for it."""
    return look if arguments.dry_run else look_before_starting


def _unavailable(arguments: Arguments, platform: Platform, facts: Facts) -> str | None:
    """Why this machine cannot run the platform, or None. With --untrusted nothing that a stranger names is asked."""
    reach = platform_reach(platform) if arguments.untrusted else ()
    return f"it asks for {'; '.join(reach)}" if reach else load_runner(platform.runner).available(platform, facts)


def read_request(arguments: Arguments, words: Words, facts: Facts) -> ReadRequest:
    return ReadRequest(
        where=words.cube, overrides=tuple(arguments.overrides), platform=arguments.platform,
        workspace=getattr(arguments, "workspace", None),
        run_files=words.tasks, environment=facts.environment, cwd=facts.cwd, cache=facts.cache, settings=True)


def wishes_of(arguments: Arguments, asked: Asked) -> tuple[Wish, ...]:
    """What is asked of each task, under run ids that share all but their number; none for configure."""
    if not asked.tasks:
        return ()
    run_id = new_run_id(time.time(), os.urandom(3))
    return tuple(
        Wish(task, group, {name: value for name, value in asked.values.items() if task.parameter(name)}, arguments.mount,
             f"{run_id}-{number}", arguments.interactive, arguments.grace, arguments.timeout, arguments.dry_run)
        for number, (task, group) in enumerate(asked.tasks, 1))


def jobs_of(cube: Cube, platform: Platform, wishes: Sequence[Wish], facts: Facts) -> tuple[Job, ...]:
    """All jobs of the command, or every problem of all of them at once."""
    jobs: list[Job] = []
    problems: list[Problem] = []

    def job(wish: Wish) -> None:
        try:
            jobs.append(with_variables(resolve(cube, platform, wish, facts, tuple(jobs)), facts))
        except DefinitionError as error:
            problems.extend(error.problems)

    for_each(job, wishes)
    if problems:
        raise DefinitionError("the tasks cannot start", problems=dict.fromkeys(problems))
    return tuple(jobs)


def preparation_job(prepared: Prepared, assume: bool = False, renewing: bool = False) -> Job:
    """What `configure` prepares: the platform, for no task in particular. `renewing`: whatever the cube's lock says."""
    cube = prepared.cube
    job = Job(run_id=f"{new_run_id(time.time(), os.urandom(3))}-0", cube=cube.name, root=cube.root, workspace=cube.workspace,
              dialect=cube.calling, task="", entrypoint=None, arguments=(), platform=prepared.platform,
              requirements=cube.requirements, assume=assume, locking=renewing)
    if prepared.remote:
        job = prepared.remote.moved(job)
    if prepared.queue:
        job = prepared.queue.before(job)
    return job if renewing else under(prepared.lock, job)


# --- strangers ------------------------------------------------------------------------------------------------------


def guard_against_strangers(arguments: Arguments, prepared: Prepared) -> None:
    """What reaches beyond the contract is said before the first run, and refused with --untrusted (RULINGS 25).

    Before anything of the platform is asked, since a cube may name the executable to ask.
    """
    reach, _ = with_facts(lambda known: _reach(arguments, prepared, known), prepared.facts, prepared.look)
    if reach and arguments.untrusted:
        raise DefinitionError("this cube asks for more than its inputs and outputs: " + "; ".join(reach),
                              "read it, then run it without --untrusted")
    if arguments.untrusted and RUNNERS[prepared.platform.runner].kind == HOST:
        raise DefinitionError(f"platform '{prepared.platform.name}' runs the cube's code as you, and keeps nothing from it",
                              "choose a platform that runs containers, or read the cube and leave --untrusted out")
    if reach and not os.path.isdir(os.path.join(prepared.cube.workspace, RUNS)):
        output.say("this cube asks for more than its inputs and outputs: " + "; ".join(reach))


def _reach(arguments: Arguments, prepared: Prepared, facts: Facts) -> tuple[str, ...]:
    queue = platform_reach(prepared.queue.platform) if prepared.queue else ()
    if not prepared.jobs:
        return tuple(dict.fromkeys((*queue, *job_reach(preparation_job(prepared), facts))))
    ours = {"--workspace"} if arguments.workspace else set()
    return tuple(dict.fromkeys((*queue, *(phrase for job, wish in zip(prepared.jobs, prepared.wishes)
                                          for phrase in job_reach(job, facts, {*wish.values, *ours})))))
