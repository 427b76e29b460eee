"""`run` and `configure`: read, decide, then show or start; everything is checked before anything starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.choose import assign, choose_platform, choose_tasks
from mlcube_cli.cli.flags import with_flags
from mlcube_cli.cli.inside import Layer
from mlcube_cli.cli.used import Chosen, Used, judge_problems, used_files
from mlcube_cli.cli.words import Words, parse_duration, sort_out
from mlcube_cli.command import Plan, merge
from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.definition.model import Cube, Platform
from mlcube_cli.errors import DefinitionError, MachineError, PreparationError, Problem, UsageError
from mlcube_cli.exec_values import with_variables
from mlcube_cli.facts import Facts
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


def run(arguments: Arguments) -> int:
    """`mlcube run`: 0, the task's own exit code, or one of CONTRACT's."""
    if arguments.deps and not arguments.stamp:
        raise UsageError("--deps needs --stamp: the stamp is the target whose prerequisites it lists", "add --stamp FILE")
    if arguments.detach:
        from mlcube_cli.cli.words import refuse_attendance

        refuse_attendance(arguments)
    if arguments.deps:
        from mlcube_cli.cli.make import can_hold

        if not can_hold(arguments.stamp):
            raise UsageError(f"--stamp: no make rule can mean a file called {arguments.stamp!r}", "give it a simpler name")
    arguments.timeout = parse_duration(arguments.timeout, "--timeout") if arguments.timeout else None
    arguments.grace = parse_duration(arguments.grace, "--grace")
    prepared = prepare(arguments)
    plans, facts = _plans(arguments, prepared)
    if judge := getattr(arguments, "judge", None):  # of `runs rerun`
        judge(prepared, plans)
    if getattr(arguments, "skip_unchanged", False) or getattr(arguments, "explain", False):
        from mlcube_cli.cli.skipping import narrow, nothing_to_run

        prepared, plans = narrow(arguments, replace(prepared, facts=facts), plans)
        if not plans:
            return nothing_to_run(arguments, prepared)
    if prepared.remote or (prepared.queue and not prepared.queue.allocated):
        from mlcube_cli.cli.attending import run_there

        return run_there(arguments, replace(prepared, facts=facts), plans)
    if arguments.dry_run:
        return show(merge(plans), arguments.json)
    from mlcube_cli.cli.executing import execute
    from mlcube_cli.cli.interrupts import refuse_detaching

    refuse_detaching(arguments, prepared.platform_name)
    if not _claimed(plans):  # somebody pruned the cache in the very moment
        plans, facts = _plans(arguments, prepared)
    if arguments.detach:
        from mlcube_cli.cli.detaching import detach

        return detach(arguments, replace(prepared, facts=facts), plans)
    return execute(arguments, replace(prepared, facts=facts), plans)


def _plans(arguments: Arguments, prepared: Prepared) -> tuple[tuple[Plan, ...], Facts]:
    """The plan of each task, and what was looked up for it. Raises MLCubeError."""
    plans, facts = prepared.decide(
        lambda known: tuple(prepared.plan(job, known) for job in prepared.jobs))
    return _with_flag_notes(arguments, prepared, plans), facts


def _claimed(plans: Sequence[Plan]) -> bool:
    """Note the use of what the plans take from the cache; whether it is there, or they make it themselves."""
    from mlcube_cli.cache.uses import claim

    there = [claim(step.keep) for plan in plans for step in plan.steps if step.keep]
    return all(there) or any(step.task is None for plan in plans for step in plan.steps)


def _with_flag_notes(arguments: Arguments, prepared: Prepared, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """The plans, and what of the command line their platform cannot hold its task to."""
    protected = any(argument.direction == "input" for job in prepared.jobs for argument in job.paths)
    if arguments.mount != "ro" or RUNNERS[prepared.platform.runner].kind != HOST or not protected:
        return plans
    note = f"--mount=ro: platform '{prepared.platform.name}' cannot keep a task from writing to its inputs"
    return tuple(replace(plan, notes=(*plan.notes, note)) for plan in plans)


def configure(arguments: Arguments) -> int:
    """`mlcube configure`: prepares the platform, whether or not it was prepared before."""
    if "=" in "".join(word for word in arguments.words if not os.path.lexists(word)):
        raise UsageError("configure takes no task parameters", "give them to mlcube run")
    prepared = prepare(arguments)
    job = preparation_job(prepared, arguments.dry_run, arguments.update_lock)
    plan, facts = prepared.decide(lambda known: prepared.runner.configure(job, known, arguments.force))
    prepared = replace(prepared, facts=facts)
    if arguments.update_lock and RUNNERS[prepared.platform.runner].kind == HOST:
        raise UsageError(f"--update-lock: platform '{prepared.platform.name}' has no image to lock",
                         "leave it out, or choose a platform that runs containers")
    if arguments.update_lock and arguments.dry_run:
        plan = replace(plan, notes=(*plan.notes, f"then {prepared.lock.shown} is renewed: this script does not do that"))
    afterwards = _renewal(prepared) if arguments.update_lock and not arguments.dry_run else None
    if prepared.remote or (prepared.queue and prepared.queue.prepares_in_job):
        from mlcube_cli.cli.attending import configure_there

        return configure_there(arguments, replace(prepared, jobs=(job,)), plan, afterwards)
    if arguments.dry_run:
        return show(plan, arguments.json)
    from mlcube_cli.cli.executing import execute

    return execute(arguments, prepared, (plan,), afterwards)


def _renewal(prepared: Prepared) -> Callable[[], object]:
    """What renews the lock in the end. Raises MLCubeError where that could not be written."""
    from mlcube_cli.cli.lock import refuse_unwritable, renew

    refuse_unwritable(prepared.lock.path)
    return lambda: renew(prepared)


def show(plan: Plan, as_json: bool) -> int:
    """Print the plan, as a script or as JSON; nothing is started."""
    if as_json:
        from mlcube_cli.report import plan_data

        output.json_result(plan_data(plan))
    else:
        from mlcube_cli.script import script

        output.result(script(plan))
    return 0


# --- deciding ------------------------------------------------------------------------------------------------------


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

    return every_task(arguments, reading, words, facts)


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
    for wish in wishes:
        try:
            jobs.append(with_variables(resolve(cube, platform, wish, facts, tuple(jobs)), facts))
        except DefinitionError as error:
            problems += error.problems
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
