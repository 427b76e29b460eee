"""What is here of a run elsewhere: what its tasks print, their logs and records, their places in the result and the index."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result
from mlcube_cli.cli.launching import travel_data
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.cli.trips import Trip
from mlcube_cli.command import Plan
from mlcube_cli.process import Session
from mlcube_cli.records import run_directory
from mlcube_cli.run_index import QueuedPart
from mlcube_cli.run_log import opened_logs
from mlcube_cli.streams import Tee, write_all
from mlcube_cli.streams import show as show_bytes
from mlcube_cli.supervision.state import CommandState, TaskState


@dataclass
class Mirror:
    """What is here of one command line's tasks; what is told of them there is told to its methods."""

    arguments: Arguments
    trip: Trip
    result: Result
    recorders: dict[str, Recorder] = field(default_factory=dict)
    states: dict[str, TaskState] = field(default_factory=dict)
    nodes: dict[str, tuple[str, str]] = field(default_factory=dict)  # of a batch system's tasks: the job, and its node
    logs: dict[str, tuple[int, int]] = field(default_factory=dict)
    sending: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # until the run has its copy of the code
    outlets: tuple[Tee, Tee] = field(default_factory=lambda: (Tee(1), Tee(2)))  # our own stdout and stderr

    def begin(self, prepared: Prepared, plans: Sequence[Plan], session: Session, stack: contextlib.ExitStack) -> None:
        """Before it starts: the records to come, and the logs, which are open as long as `stack`."""
        travel = travel_data(self.trip) if plans else {}
        for number, (job, plan) in enumerate(zip(self.trip.jobs, plans)):
            self.recorders[job.run_id] = Recorder(self.arguments, prepared, number, plan, lambda: session.interrupted,
                                                  found=travel)
            if self.trip.remote is None:
                continue  # the job itself writes them where they belong
            try:
                self.logs[job.run_id] = stack.enter_context(opened_logs(run_directory(job.workspace, job.run_id)))
            except OSError as error:
                output.warn(f"this run leaves no log: {error.strerror or error}")

    def write(self, run_id: str, stream: str, data: bytes) -> None:
        """What a task printed: to our own stdout or stderr, and into its log here."""
        if run_id not in self.states:  # what it prints may come before the word that it runs
            self.change(TaskState(run_id, "running"))
        error = stream == "stderr"
        if run_id in self.logs:
            try:
                write_all(self.logs[run_id][1 if error else 0], data)
            except OSError as fault:
                output.warn(f"the log of the task ends early: {fault.strerror or fault}")
                del self.logs[run_id]
        self.outlets[1 if error or self.arguments.json else 0].take(data)

    def prepare(self, data: bytes) -> None:
        """What prepares the tasks there is said once there is the copy."""
        self.sending.close()
        if output.on_terminal() and not output.QUIET:
            show_bytes(data)

    def change(self, state: TaskState) -> None:
        """A task has begun, or ended."""
        if state.status != "queued" and state.run_id not in self.states:
            self.sending.close()
            self.states[state.run_id] = state
            record = self.recorders[state.run_id].start(self.by_our_clock(state.started))
            task = next(job.task for job in self.trip.jobs if job.run_id == state.run_id)
            self.result.tasks.append({"task": task, "status": "running", "exit_code": None, "seconds": None,
                                      "run_id": state.run_id, "record": record, "image": None})
            if self.result.listed:
                self.result.listed.begin(state.run_id, self.by_our_clock(state.started))
        if state.run_id in self.states:
            self.states[state.run_id] = state

    def stand(self, part: QueuedPart, state: CommandState) -> None:
        """What the batch system says of a job."""
        for run_id in part.runs:
            node = state.node or state.host or self.nodes.get(run_id, ("", ""))[1]
            self.nodes[run_id] = part.job, node
            if self.result.listed:
                self.result.listed.stand(run_id, state.status, node, state.waiting)

    def by_our_clock(self, seconds: float | None) -> float:
        return time.time() if seconds is None else seconds - self.trip.ahead

    def complete(self, entry: dict[str, object]) -> None:
        """The task's entry in the result, its record, and what the index says of it."""
        state = self.states[str(entry["run_id"])]
        ended = self.by_our_clock(state.ended)
        seconds = max(0.0, ended - self.by_our_clock(state.started))
        entry.update(status=state.status, exit_code=state.exit_code, seconds=round(seconds, 3))
        self.recorders[state.run_id].end(state.status, state.exit_code or 0, seconds,
                                         *self.nodes.get(state.run_id, ()))
        if self.result.listed:
            self.result.listed.finish(state.run_id, state.status, state.exit_code or 0, ended)

    def complete_all(self, end: CommandState) -> None:
        """All has ended: each task that ran, and the records of those that did not begin."""
        for entry in self.result.tasks:
            self.complete(entry)
        for number, recorder in enumerate(one for run_id, one in self.recorders.items() if run_id not in self.states):
            recorder.close(*(("cancelled", None) if self.states or number else (end.status, end.exit_code)))
