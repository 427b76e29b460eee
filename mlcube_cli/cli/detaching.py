"""`run --detach` on this machine: a supervisor of its own carries out the plan, and we leave at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlcube_cli.cache import lock_place
from mlcube_cli.cache.uses import mark_for
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import listed_tasks
from mlcube_cli.cli.listed import entry_for, here, keep_entry
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.command import Plan, merge
from mlcube_cli.errors import MachineError
from mlcube_cli.locks import Owner, myself
from mlcube_cli.place import HERE, new_nonce
from mlcube_cli.process import ask
from mlcube_cli.records import run_directory
from mlcube_cli.report import result_data
from mlcube_cli.run_index import Entry, Supervised, forget
from mlcube_cli.run_states import keep
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.requests import answer_of, start


def detach(arguments: Arguments, prepared: Prepared, plans: Sequence[Plan]) -> int:
    """Start the plans under a supervisor; 0 once it is on its way. Raises MachineError when the run cannot be remembered
    or started: then nothing runs."""
    plan = merge(plans)
    for note in plan.notes:
        output.warn(note)
    layout = _layout(prepared)
    text, hidden = program(plan, layout), secrets_of(plan, layout)
    supervised = Supervised(HERE.reach, HERE.name, layout.directory, dict(layout.tasks))
    leaving = Leaving(entry_for(prepared, supervised=supervised), [
        Recorder(arguments, prepared, number, one, lambda: False, detached=True) for number, one in enumerate(plans)])
    leaving.remember()
    nonce = new_nonce()
    said = ask(HERE.command(start(layout, text, hidden, nonce)))
    answer = answer_of(said.stdout, nonce)
    if answer != "started":
        leaving.forget()
        why = (answer or said.stderr).partition("failed ")[2] or said.stderr.strip() or f"exit code {said.exit_code}"
        raise MachineError(f"the run could not be started in the background: {why}",
                           f"{layout.directory} must be a place that you can write to")
    mark_uses(plan, layout)
    tasks, run = leaving.leave(), leaving.entry.id
    if arguments.json:
        output.json_result(result_data("running", 0, prepared.platform_name, listed_tasks(prepared, tasks)))
    else:
        output.result(f"{run}\n")
    output.say(f"it runs in the background; mlcube logs -f {run} shows it, mlcube cancel {run} ends it")
    return 0


@dataclass
class Leaving:
    """A command line that is started and left, on any machine: its entry in the index, and the records of its tasks."""

    entry: Entry
    recorders: Sequence[Recorder]
    records: Sequence[str | None] = ()

    def remember(self) -> None:
        """Before it starts, since nobody else knows of it. Raises MachineError where it cannot be remembered."""
        keep_entry(self.entry)
        self.records = [recorder.begin(time.time()) for recorder in self.recorders]

    def forget(self) -> None:
        """It could not be started."""
        forget(here(), self.entry.id)
        for recorder in self.recorders:
            recorder.end(MachineError.status, MachineError.exit_code, 0.0)

    def leave(self) -> list[dict[str, object]]:
        """Its supervisor attends to it from now on; the tasks for the result."""
        keep(here(), self.entry)
        for recorder in self.recorders:
            recorder.leave()
        return [{"task": task.task, "status": "queued", "exit_code": None, "seconds": None, "run_id": task.run_id,
                 "record": record, "image": None} for task, record in zip(self.entry.tasks, self.records)]


def _layout(prepared: Prepared) -> Layout:
    jobs = prepared.jobs
    return Layout(
        run_directory(jobs[0].workspace, jobs[0].command_id),
        {job.run_id: run_directory(job.workspace, job.run_id) for job in jobs},
        lock_place(os.environ, os.getuid()),
        needs={job.run_id: tuple(one.host_path for one in job.paths if one.direction == "input") for job in jobs[1:]})


def mark_uses(plan: Plan, layout: Layout) -> None:
    """What of the cache the run uses is spared by pruning for as long as its supervisor lives."""
    kept = [step.keep for step in plan.steps if step.keep]
    owner = _owner(layout.directory) if kept else None
    for path in dict.fromkeys(kept):
        if owner is not None:
            mark_for(path, owner)


def _owner(directory: str) -> Owner | None:
    """Who supervises the run in this directory, under a name of its own; None: it has ended already."""
    try:
        with open(os.path.join(directory, "owner"), encoding="utf-8", errors="replace") as stream:
            said = dict(line.rstrip("\n").partition("=")[::2] for line in stream)
        me = myself()
        return replace(me, pid=int(said["pid"]), start=said["start"])
    except (OSError, KeyError, ValueError):
        return None
