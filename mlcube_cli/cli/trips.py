"""What a command line for another machine does, from the first thing sent to the last thing fetched: decided, as values."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlcube_cli.cli.compared import VANISHED
from mlcube_cli.cli.homeward import Homeward
from mlcube_cli.cli.images_there import without_making
from mlcube_cli.cli.remote import Remote
from mlcube_cli.cli.running import Prepared
from mlcube_cli.command import Command, Plan, Step, commands_of, stand_in
from mlcube_cli.observe import with_facts
from mlcube_cli.records import new_run_id
from mlcube_cli.relocation import outputs_that_stay
from mlcube_cli.staging import with_copies
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.requests import remove, start_and_follow


@dataclass(frozen=True)
class Trip:
    """One command line's way there and back. `plan` is what runs there; `before` and `after` run here."""

    remote: Remote
    plan: Plan
    identifier: str  # what the runs of this command line share
    before: tuple[Step, ...]
    layout: Layout
    program: str
    secrets: Mapping[str, str]

    @property
    def runs(self) -> tuple[tuple[str, str], ...]:
        """Run ids with their task directories there."""
        return tuple(self.layout.tasks.items())

    @property
    def homeward(self) -> Homeward:
        return Homeward(self.remote.platform, self.remote.load, self.identifier, self.remote.here.cwd)

    def as_plan(self) -> Plan:
        """All of it as one plan to be shown: the task's steps are inside the script that one of the steps sends."""
        hidden = {variable.value: variable for step in self.plan.steps for command in commands_of(step)
                  for variable in command.env if variable.secret}
        stand_ins = {name: stand_in(hidden[value].name) for name, value in self.secrets.items()}
        command = self.remote.way.place.command(start_and_follow(self.layout, self.program, stand_ins, "0" * 12, plain=True))
        there = Step(f"run {', '.join(task.task for task in self.plan.tasks) or 'the preparation'} on {self.remote.name}",
                     replace(command, env=tuple(hidden.values())))
        tidy = self.remote.way.place.command(remove(self.layout.directory, "0" * 12, plain=True))
        fetch = self.homeward.steps((), self.remote.here) if self.plan.tasks else ()
        there = replace(there, after=(*(step.command for step in fetch), tidy))
        return replace(self.plan, steps=(self.remote.way.connect, *self.before, there), run_id=self.identifier)


def plan_trip(prepared: Prepared, plan: Plan) -> Trip:
    """The way of a plan that was made for the other machine. Raises MLCubeError. Nothing is started."""
    remote = prepared.remote
    assert remote is not None
    if remote.shipped:
        plan = without_making(plan, remote.shipped)
    identifier = remote.jobs[0].command_id if remote.jobs else new_run_id(time.time(), os.urandom(3))
    directory = os.path.join(remote.load.root, "runs", identifier)
    layout = Layout(
        directory, {task.run_id: os.path.join(directory, task.run_id) for task in plan.tasks},
        os.path.join(remote.facts.cache or os.path.join(remote.load.root, "cache"), "locks"),
        first=(_snapshot(remote),) if plan.tasks else (),
        needs={job.run_id: tuple(argument.host_path for argument in job.paths if argument.direction == "input")
               for job in prepared.jobs[1:]})
    said_there = (f"on {remote.name}: {note}" for note in plan.notes)
    plan = replace(plan, platform=remote.platform.name, notes=(*said_there, *_notes(remote)))
    here = tuple(step for job in remote.jobs for step in with_copies(Plan("", ()), job).steps)
    push, facts = with_facts(lambda known: remote.carrier.push(remote.platform, known, remote.load), remote.here)
    before = (*dict.fromkeys(here), *push, *remote.shipping)
    return Trip(replace(remote, here=facts), plan, identifier, before, layout, program(plan, layout), secrets_of(plan))


def _snapshot(remote: Remote) -> Command:
    """The run's own copy of the code: files are links to those of the mirror, so that it costs next to nothing (RULINGS 36)."""
    mirror, code = remote.load.code[1], remote.relocation.code[1]
    return Command(("sh", "-c", f'rsync "$@" || [ $? -eq {VANISHED} ]', "mlcube",  # another push may delete a file meanwhile
                    "--archive", f"--link-dest={mirror}/", f"{mirror}/", f"{code}/"))


def _notes(remote: Remote) -> tuple[str, ...]:
    stay = outputs_that_stay(remote.jobs, remote.relocation)
    return tuple(f"output '{argument.name}' stays on {remote.name}: {argument.host_path}" for argument in stay)
