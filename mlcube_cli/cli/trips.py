"""What a command line for another machine does, from the first thing sent to the last thing fetched: decided, as values."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.batch import Batch
from mlcube_cli.cache import lock_place
from mlcube_cli.cli.compared import VANISHED
from mlcube_cli.cli.homeward import Homeward
from mlcube_cli.cli.images_there import without_making
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.queue import Members, Queue, Where, array_of, batch_of, preparation_of, where_here, work_directory
from mlcube_cli.cli.remote import Remote
from mlcube_cli.command import Command, Plan, Step, Variable, commands_of, merge, stand_in
from mlcube_cli.job import Job
from mlcube_cli.observe import with_facts
from mlcube_cli.parcels import Way
from mlcube_cli.place import HERE
from mlcube_cli.records import new_run_id
from mlcube_cli.relocation import outputs_that_stay
from mlcube_cli.run_entries import directories_of
from mlcube_cli.staging import with_copies
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.requests import remove, start_and_follow

HERE_ALREADY = Way(HERE, Step("", Command(("true",)), unless=Command(("true",))))  # no way at all, which is never lost


@dataclass(frozen=True)
class Trip:
    """One command line's way to where it runs, and back. `plan` is what runs there; `before` runs here, and so does what
    brings its outputs home. With a batch, what is carried out there at once only prepares the tasks: jobs run them."""

    plan: Plan
    identifier: str  # what the runs of this command line share
    before: tuple[Step, ...]
    layout: Layout
    program: str
    secrets: Mapping[str, str]
    jobs: tuple[Job, ...]  # with this machine's paths
    remote: Remote | None = None  # None: this very machine, where a batch system takes the tasks
    queue: Queue | None = None
    batch: Batch | None = None

    @property
    def name(self) -> str:
        """Where the tasks run, as the user knows it."""
        return " on ".join([*([self.queue.name] if self.queue else []), *([self.remote.name] if self.remote else [])])

    @property
    def way(self) -> Way:
        return self.remote.way if self.remote else HERE_ALREADY

    @property
    def ahead(self) -> float:
        """Seconds that the clock there is ahead of ours."""
        return self.remote.machine.skew if self.remote else 0.0

    @property
    def runs(self) -> tuple[tuple[str, str], ...]:
        """Run ids with their task directories there."""
        return tuple(run for part in self.batch.parts for run in part.runs) if self.batch else tuple(self.layout.tasks.items())

    @property
    def directories(self) -> tuple[str, ...]:
        """The command line's own, and that of its jobs where those are elsewhere (`work_dir`)."""
        return directories_of(self.layout.directory, [part.directory for part in self.batch.parts] if self.batch else [])

    @property
    def homeward(self) -> Homeward | None:
        """What comes home; None where nothing has to."""
        remote = self.remote
        return Homeward(remote.platform, remote.load, self.identifier, remote.here.cwd) if remote else None

    def as_plan(self) -> Plan:
        """All of it as one plan to be shown: the task's steps are inside the scripts that some of the steps send."""
        steps = self.before
        if self.remote:
            steps = (self.remote.way.connect, *steps, self._there())
        if self.batch:
            steps = (*steps, self._queued())
        return replace(self.plan, steps=steps, run_id=self.identifier)

    def _home(self) -> tuple[Command, ...]:
        """What brings the outputs home, and what tidies up there, in the end."""
        remote, homeward = self.remote, self.homeward
        fetch = homeward.steps((), remote.here) if homeward and remote and self.plan.tasks else ()
        return (*(step.command for step in fetch),
                self.way.place.command(remove(self.directories, "0" * 12, plain=True)))

    def _there(self) -> Step:
        """What a supervisor on the other machine carries out."""
        tasks = () if self.batch else self.plan.tasks
        stand_ins, hidden = self._hidden(self.secrets)
        command = self.way.place.command(start_and_follow(self.layout, self.program, stand_ins, "0" * 12, plain=True))
        return Step(f"run {', '.join(task.task for task in tasks) or 'the preparation'} on {self.name}",
                    replace(command, env=hidden), after=() if self.batch else self._home())

    def _queued(self) -> Step:
        """What hands the jobs over."""
        assert self.queue is not None and self.batch is not None
        parts, variables = [], dict[str, Variable]()
        for part in self.batch.parts:
            stand_ins, hidden = self._hidden(part.secrets)
            parts.append(replace(part, secrets=stand_ins))
            variables.update((variable.name, variable) for variable in hidden)
        script = self.queue.scheduler.submit(replace(self.batch, parts=tuple(parts)), "0" * 12, plain=True)
        command = replace(self.way.place.command(script), env=tuple(variables.values()))
        named = ", ".join(task.task for task in self.plan.tasks) or "the preparation"
        what = f"{len(self.batch.members)} members" if self.batch.array else named
        return Step(f"queue {what} on {self.name}{' as one array' if self.batch.array else ''}", command)

    def _hidden(self, secrets: Mapping[str, str]) -> tuple[Mapping[str, str], tuple[Variable, ...]]:
        """What stands for these secrets in a script that is shown, and the variables that hold them."""
        known = {variable.value: variable for step in self.plan.steps for command in commands_of(step)
                 for variable in command.env if variable.secret}
        used = {name: known[value] for name, value in secrets.items()}
        return {name: stand_in(variable.name) for name, variable in used.items()}, tuple(used.values())


def plan_queue(prepared: Prepared, plans: Sequence[Plan], members: Members | None = None) -> Trip:
    """The way of plans through a batch system that this machine submits jobs to; with `members` they become one array.
    Raises MLCubeError. Nothing is started."""
    queue, jobs = prepared.queue, prepared.jobs
    assert queue is not None
    locks = lock_place(os.environ, os.getuid())
    where, _ = prepared.decide(lambda known: where_here(queue, jobs, locks, known))
    batch, notes = _checked(prepared, plans, where, members)
    plan = merge((members.preparation, *plans) if members else plans)
    plan = replace(plan, platform=queue.name, notes=(*plan.notes, *notes))
    first = () if queue.prepares_in_job else preparation_of([plan]).steps
    return Trip(plan, jobs[0].command_id, first, Layout(where.directory, {}), "", {}, jobs, None, queue, batch)


def plan_trip(prepared: Prepared, plans: Sequence[Plan]) -> Trip:
    """The way of plans that were made for the other machine: of the tasks, or of what only prepares. Raises MLCubeError.
    Nothing is started."""
    remote = prepared.remote
    assert remote is not None
    plan = merge([without_making(one, remote.shipped) if remote.shipped else one for one in plans])
    identifier = remote.jobs[0].command_id if remote.jobs else new_run_id(time.time(), os.urandom(3))
    directory = os.path.join(remote.load.root, "runs", identifier)
    where = Where(directory, {task.run_id: os.path.join(directory, task.run_id) for task in plan.tasks},
                  os.path.join(remote.facts.cache or os.path.join(remote.load.root, "cache"), "locks"))
    first = (_snapshot(remote),) if plan.tasks else ()
    batch: Batch | None = None
    if prepared.queue and (plan.tasks or (prepared.queue.prepares_in_job and plan.steps)):
        work = _work_directory(prepared, prepared.queue) if prepared.jobs else ""
        batch, notes = _checked(prepared, plans, replace(where, directory=work or os.path.join(directory, "jobs")))
        plan = replace(plan, notes=(*plan.notes, *notes))
        carried = preparation_of(plans, prepared.queue.prepares_in_job)
        layout = Layout(directory, {}, where.locks, first)
    else:
        carried, layout = plan, Layout(directory, where.tasks, where.locks, first, {
            job.run_id: tuple(argument.host_path for argument in job.paths if argument.direction == "input")
            for job in prepared.jobs[1:]})
    said_there = (f"on {remote.name}: {note}" for note in plan.notes)
    plan = replace(plan, platform=remote.platform.name, notes=(*said_there, *_notes(remote)))
    here = tuple(step for job in remote.jobs for step in with_copies(Plan("", ()), job).steps)
    push, facts = with_facts(lambda known: remote.carrier.push(remote.platform, known, remote.load), remote.here)
    before = (*dict.fromkeys(here), *push, *remote.shipping)
    return Trip(plan, identifier, before, layout, program(carried, layout), secrets_of(carried), remote.jobs,
                replace(remote, here=facts), prepared.queue, batch)


def _checked(prepared: Prepared, plans: Sequence[Plan], where: Where,
             members: Members | None = None) -> tuple[Batch, tuple[str, ...]]:
    """The jobs that are handed over, and what is to be said of them. Raises MLCubeError where they cannot work."""
    queue, jobs = prepared.queue, prepared.jobs
    assert queue is not None
    if members:
        largest, _ = prepared.decide(lambda known: queue.scheduler.largest_array(queue.platform, known))
        batch = array_of(queue, jobs, plans, where, members, largest)
    else:
        batch = batch_of(queue, jobs, plans, where)
    return batch, prepared.decide(lambda known: queue.scheduler.check(queue.platform, batch, jobs, known))[0]


def _work_directory(prepared: Prepared, queue: Queue) -> str:
    return prepared.decide(lambda known: work_directory(queue, prepared.jobs[0], known))[0]


def _snapshot(remote: Remote) -> Command:
    """The run's own copy of the code: files are links to those of the mirror, so that it costs next to nothing (RULINGS 36)."""
    mirror, code = remote.load.code[1], remote.relocation.code[1]
    return Command(("sh", "-c", f'rsync "$@" || [ $? -eq {VANISHED} ]', "mlcube",  # another push may delete a file meanwhile
                    "--archive", f"--link-dest={mirror}/", f"{mirror}/", f"{code}/"))


def _notes(remote: Remote) -> tuple[str, ...]:
    stay = outputs_that_stay(remote.jobs, remote.relocation)
    return tuple(f"output '{argument.name}' stays on {remote.name}: {argument.host_path}" for argument in stay)
