"""A command line whose tasks wait in the queue of a batch system, decided: what is prepared before, and what each job runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.batch import Batch, Part
from mlcube_cli.cli.inside import Layer, read_inside
from mlcube_cli.command import Plan, merge
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import DefinitionError, MachineError, UsageError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.observe import Look
from mlcube_cli.records import run_directory
from mlcube_cli.resolve import expand
from mlcube_cli.runner import Runner, Scheduler, load_scheduler
from mlcube_cli.staging import with_copies
from mlcube_cli.supervision.program import Layout, program, secrets_of

if TYPE_CHECKING:
    from mlcube_cli.cli.arguments import Arguments


@dataclass(frozen=True)
class Queue:
    """The batch system that carries out the tasks. `platform`: the one that names it."""

    platform: Platform
    scheduler: Scheduler
    allocated: bool = False  # the caller holds nodes already: the tasks start there at once
    machine: Platform | None = None  # what leads to the machine that jobs are submitted from, where that is another one

    @property
    def name(self) -> str:
        return self.platform.name

    def on_node(self, job: Job) -> Job:
        """The job as a node runs it."""
        return self.scheduler.on_node(self.platform, job, self.machine)

    def before(self, job: Job) -> Job:
        """The job as whatever prepares it runs, before it is queued."""
        return self.on_node(job) if self.prepares_in_job else self.scheduler.on_login(self.platform, job, self.machine)

    def plan(self, runner: Runner, job: Job, facts: Facts) -> Plan:
        """The plan of a task: what prepares it runs before it is queued, the task as a node runs it. `job`: on_node's."""
        plan = runner.plan(job if self.allocated else self.scheduler.scratched(self.platform, job), facts)
        if plan.preparation:
            plan = replace(plan, steps=(*runner.plan(self.before(job), facts).preparation, *plan.own_steps))
        plan = with_copies(plan if self.allocated else self.scheduler.staged(self.platform, job, plan), job)
        shape = self.scheduler.for_allocation if self.allocated else self.scheduler.for_batch
        return shape(self.platform, plan, facts)

    @property
    def prepares_in_job(self) -> bool:
        """Is the image made in a job of its own, because the machine that jobs are submitted from cannot?"""
        return self.platform.option("configure") == "job"


@dataclass(frozen=True)
class Where:
    """Where a command line's files are, on the cluster's file system."""

    directory: str  # the command's own
    tasks: Mapping[str, str]  # run id -> the task's directory
    locks: str


def enter(arguments: Arguments, layer: Layer, facts: Facts, look: Look) -> tuple[Layer, Queue]:
    """The batch system that this platform names, and the platform that runs in its jobs. `facts`, `look`: of the machine
    that jobs are submitted from. Raises MLCubeError; UsageError for a task that wants the terminal, which a job has not."""
    inner = read_inside(layer, facts, look, f"in the jobs of '{layer.platform.name}'")
    scheduler = load_scheduler(layer.platform.runner)
    queue = Queue(layer.platform, scheduler, scheduler.is_allocated(facts))
    if getattr(arguments, "interactive", False) and not queue.allocated:
        raise UsageError(f"--interactive: platform '{queue.name}' runs tasks as batch jobs, without a terminal",
                         "leave it out, or get nodes first (salloc) and run it there")
    return inner, queue


def where_here(queue: Queue, jobs: Sequence[Job], locks: str, facts: Facts) -> Where:
    """The run's directories where jobs are submitted from this very machine. Raises as `work_directory`."""
    base = work_directory(queue, jobs[0], facts) or run_directory(jobs[0].workspace, jobs[0].command_id)
    return Where(base, {job.run_id: run_directory(job.workspace, job.run_id) for job in jobs}, locks)


def work_directory(queue: Queue, job: Job, facts: Facts) -> str:
    """The run's directory below `work_dir`, in which `~` and `$NAME` mean what they mean on the machine that jobs are submitted
    from (`facts`); empty where it is not set. Raises facts.Missing, DefinitionError for a variable that is not set there,
    MachineError where nothing of ours can be made there."""
    option = queue.platform.find("work_dir")
    if option is None or not option.value:
        return ""
    try:
        place = str(option.value) if option.secret else expand(str(option.value), job.workspace, facts)
    except DefinitionError as error:
        raise DefinitionError(f"'work_dir' of platform '{queue.name}': {error.message} ({option.origin})", error.hint) from None
    if not place.startswith("/"):
        raise DefinitionError(f"'work_dir' of platform '{queue.name}' is relative: {place} ({option.origin})",
                              "a node has no directory of yours to start from: write the whole path")
    found = facts.path(os.path.normpath(place))
    if found.kind not in ("directory", "absent") or not (found.writable if found.kind == "directory" else found.creatable):
        raise MachineError(f"'work_dir' of platform '{queue.name}': {place} cannot be written to ({option.origin})",
                           f"name a directory of yours, on a file system that the nodes see: -P{queue.name}.work_dir=DIRECTORY")
    return os.path.join(os.path.normpath(place), job.command_id)


@dataclass(frozen=True)
class Members:
    """Jobs of which each is a member of one array. `preparation`: what is done once, before them; their plans have it not."""

    numbers: tuple[int, ...]  # rising, from 1 on
    preparation: Plan
    limit: int | None = None  # how many run at once


def preparation_of(plans: Sequence[Plan], elsewhere: bool = False) -> Plan:
    """What is done once before anything is queued; nothing of it where a job of its own does that `elsewhere`."""
    plan = merge(plans)
    return replace(plan, steps=() if elsewhere else plan.preparation, tasks=())


def batch_of(queue: Queue, jobs: Sequence[Job], plans: Sequence[Plan], where: Where) -> Batch:
    """The jobs of the batch system, a task each, in a chain; before them what prepares, where that is a job of its own.

    `jobs` and `plans` go together; a plan without a task only prepares."""
    parts = list(_first_part(queue, jobs[0], preparation_of(plans), where))
    for number, (job, plan) in enumerate((job, plan) for job, plan in zip(jobs, plans) if plan.tasks):
        needs = tuple(one.host_path for one in job.paths if one.direction == "input") if number else ()
        layout = Layout(os.path.join(where.directory, str(number + 1)), {job.run_id: where.tasks[job.run_id]}, where.locks,
                        needs={job.run_id: needs} if needs else {})
        parts.append(_part(queue, job, replace(plan, steps=plan.own_steps), layout))
    return Batch(where.directory, tuple(parts))


def array_of(queue: Queue, jobs: Sequence[Job], plans: Sequence[Plan], where: Where, members: Members,
             largest: int | None) -> Batch:
    """The jobs of the batch system as one array; before it what prepares, where that is a job of its own. `jobs`, `plans`:
    the members'; `largest`: how many members one array may have there."""
    first = _first_part(queue, jobs[0], members.preparation, where)
    parts = list(first)
    for number, job, plan in zip(members.numbers, jobs, plans):
        layout = _in_batch(queue, Layout(os.path.join(where.directory, str(number)), {job.run_id: where.tasks[job.run_id]},
                                         where.locks))
        parts.append(Part(layout.directory, tuple(layout.tasks.items()), program(plan, layout), secrets_of(plan, layout)))
    text = queue.scheduler.array_file(queue.platform, jobs[0], plans[0], where.directory,
                                      _first_array(members.numbers, largest), members.limit)
    return Batch(where.directory, tuple(parts), text, members.limit, largest)


def _first_array(numbers: Sequence[int], largest: int | None) -> list[int]:
    """The numbers that the first of the arrays has, where one may have so many: the others are said as they are handed over."""
    if not largest:
        return list(numbers)
    before = (numbers[0] - 1) // largest * largest
    return [number - before for number in numbers if number <= before + largest]


def _first_part(queue: Queue, job: Job, preparation: Plan, where: Where) -> tuple[Part, ...]:
    """The job that prepares the others, where that is one of its own."""
    if not queue.prepares_in_job or not preparation.steps:
        return ()
    return (_part(queue, job, preparation, Layout(os.path.join(where.directory, "0"), {}, where.locks)),)


def _part(queue: Queue, job: Job, plan: Plan, layout: Layout) -> Part:
    layout = _in_batch(queue, layout)
    text = queue.scheduler.batch_file(queue.platform, job, plan, layout.directory, program(plan, layout),
                                      tuple(layout.tasks.values()))
    return Part(layout.directory, tuple(layout.tasks.items()), text, secrets_of(plan, layout))


def _in_batch(queue: Queue, layout: Layout) -> Layout:
    """The layout of what a batch job supervises: it may start again, and is told when its time is nearly up."""
    last = queue.scheduler.last_signal(queue.platform)
    return replace(layout, batch=True, last_signal=f"{last[0]}@{last[1]}" if last else layout.last_signal)
