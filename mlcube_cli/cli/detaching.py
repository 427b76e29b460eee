"""`run --detach` on this machine: a supervisor of its own carries out the plan, and we leave at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from mlcube_cli.cache import lock_directory
from mlcube_cli.cache.uses import mark_for
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import entry_for, here, keep_entry
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.cli.running import Prepared
from mlcube_cli.command import Plan, merge
from mlcube_cli.errors import MachineError
from mlcube_cli.locks import Owner, myself
from mlcube_cli.place import HERE, new_nonce
from mlcube_cli.process import ask
from mlcube_cli.records import run_directory
from mlcube_cli.report import result_data
from mlcube_cli.run_index import Supervised, forget
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
    entry = entry_for(prepared, supervised=supervised)
    keep_entry(entry)
    recorders = [Recorder(arguments, prepared, number, one, lambda: False, detached=True) for number, one in enumerate(plans)]
    records = [recorder.begin(time.time()) for recorder in recorders]
    nonce = new_nonce()
    said = ask(HERE.command(start(layout, text, hidden, nonce)))
    answer = answer_of(said.stdout, nonce)
    if answer != "started":
        forget(here(), entry.id)
        for recorder in recorders:
            recorder.end(MachineError.status, MachineError.exit_code, 0.0)
        why = (answer or said.stderr).partition("failed ")[2] or said.stderr.strip() or f"exit code {said.exit_code}"
        raise MachineError(f"the run could not be started in the background: {why}",
                           f"{layout.directory} must be a place that you can write to")
    keep(here(), entry)  # its supervisor attends to it from now on
    _mark_uses(plan, layout)
    for recorder in recorders:
        recorder.leave()
    if arguments.json:
        tasks = [{"task": task.task, "status": "queued", "exit_code": None, "seconds": None, "run_id": task.run_id,
                  "record": record, "image": None} for task, record in zip(entry.tasks, records)]
        output.json_result(result_data("running", 0, prepared.platform_name, tasks))
    else:
        output.result(f"{entry.id}\n")
    output.say(f"it runs in the background; mlcube logs -f {entry.id} shows it, mlcube cancel {entry.id} ends it")
    return 0


def _layout(prepared: Prepared) -> Layout:
    jobs = prepared.jobs
    try:
        locks = lock_directory(os.environ, os.getuid())
    except OSError:
        locks = ""
    return Layout(
        run_directory(jobs[0].workspace, jobs[0].command_id),
        {job.run_id: run_directory(job.workspace, job.run_id) for job in jobs}, locks,
        needs={job.run_id: tuple(one.host_path for one in job.paths if one.direction == "input") for job in jobs[1:]})


def _mark_uses(plan: Plan, layout: Layout) -> None:
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
