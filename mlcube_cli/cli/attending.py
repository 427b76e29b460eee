"""Tasks on another machine, carried out: sent, started, followed, brought home, each with its record; then the exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result, conclude, ended_sentence
from mlcube_cli.cli.detaching import Leaving
from mlcube_cli.cli.executing import finish_for_make, why_failed
from mlcube_cli.cli.following import LET_GO, Following, not_started
from mlcube_cli.cli.homeward import Homeward
from mlcube_cli.cli.images_there import without_making
from mlcube_cli.cli.listed import Listed, entry_for
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.cli.running import Prepared, show
from mlcube_cli.cli.sending import alone, look_before_sending, look_for_links
from mlcube_cli.cli.transfer_line import run_transfer
from mlcube_cli.cli.trips import Trip, plan_trip
from mlcube_cli.command import Plan, Step, as_data, merge
from mlcube_cli.cube_id import keep_id
from mlcube_cli.durations import find_seconds
from mlcube_cli.errors import DefinitionError, Interrupted, MachineError, MLCubeError, PreparationError, TransferError
from mlcube_cli.observe import home_of
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Outcome, Session, ask
from mlcube_cli.records import run_directory
from mlcube_cli.run_index import Supervised, state_directory
from mlcube_cli.run_log import opened_logs
from mlcube_cli.streams import Tee, write_all
from mlcube_cli.streams import show as show_bytes
from mlcube_cli.supervision.requests import answer_of, remove, start, start_and_follow
from mlcube_cli.supervision.state import TaskState

_ERRORS: Mapping[str, type[MLCubeError]] = {
    "preparation": PreparationError, "environment": MachineError, "invalid": DefinitionError}
_PATIENCE = 300.0  # seconds for which a lost connection is tried again, unless the platform says otherwise


def run_there(arguments: Arguments, prepared: Prepared, plans: Sequence[Plan]) -> int:
    """`mlcube run` on another machine. Returns the exit code, or dies by the signal that ended it."""
    assert prepared.remote is not None
    shipped = prepared.remote.shipped
    plans = [replace(without_making(plan, shipped) if shipped else plan, platform=prepared.platform_name) for plan in plans]
    trip = plan_trip(prepared, merge(plans))
    if arguments.dry_run:
        look_for_links(trip.remote)
        trip.remote.keep_questions(trip.identifier)
        return show(trip.as_plan(), arguments.json)
    return _carry_out(arguments, prepared, trip, plans)


def configure_there(arguments: Arguments, prepared: Prepared, plan: Plan,
                    afterwards: Callable[[], object] | None = None) -> int:
    """`mlcube configure` for another machine: what prepares the platform runs there. `afterwards`: once it has succeeded."""
    trip = plan_trip(prepared, plan)
    if arguments.dry_run:
        trip.remote.keep_questions(trip.identifier)
        return show(trip.as_plan(), arguments.json)
    return _carry_out(arguments, prepared, trip, (), afterwards)


def _carry_out(arguments: Arguments, prepared: Prepared, trip: Trip, plans: Sequence[Plan],
               afterwards: Callable[[], object] | None = None) -> int:
    result = Result()
    for note in trip.plan.notes:
        output.warn(note)
    started = time.time()
    attended = _Attended(arguments, prepared, trip, plans, result)
    with conclude(arguments, prepared, result):
        look_before_sending(trip.remote)
        state = state_directory(os.environ, home_of(os.environ))
        keep_id(prepared.cube.root, state, trip.remote.load.identifier)
        with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say) as session:
            try:
                attended.go(session)
            finally:
                trip.remote.keep_questions(trip.identifier)  # with those that the record has asked
        if result.status == "succeeded" and afterwards:
            afterwards()
        if result.status == "succeeded" and getattr(arguments, "stamp", None):
            finish_for_make(arguments, prepared, started)
    return result.exit_code


def supervised_of(trip: Trip) -> Supervised:
    """Where the command line's run is, for the index."""
    place = trip.remote.way.place
    return Supervised(place.reach, place.name, trip.layout.directory, dict(trip.layout.tasks),
                      trip.remote.machine.skew)


def travel_data(trip: Trip) -> dict[str, object]:
    """What this machine does for the run, for its record: the steps before it, the one that starts it, those that bring its
    outputs home. The script that is sent holds the plan, which the record has, and is left out."""
    *before, there = trip.as_plan().steps
    return {"travel": [*(as_data(step) for step in before), {**as_data(there), "stdin": None}]}


@dataclass
class _Attended:
    """One command line on another machine, with what is here of it."""

    arguments: Arguments
    prepared: Prepared
    trip: Trip
    plans: Sequence[Plan]
    result: Result
    recorders: dict[str, Recorder] = field(default_factory=dict)
    states: dict[str, TaskState] = field(default_factory=dict)
    logs: dict[str, tuple[int, int]] = field(default_factory=dict)
    sending: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # until the run has its copy of the code
    outlets: tuple[Tee, Tee] = field(default_factory=lambda: (Tee(1), Tee(2)))  # our own stdout and stderr

    def go(self, session: Session) -> None:
        """All of it. What went wrong is raised or left in the result."""
        with self.sending:
            if self.plans:
                self.sending.enter_context(alone(session, self.trip.remote))
            self._go(session)

    def _go(self, session: Session) -> None:
        output.say(f"sending to {self.trip.remote.name}")
        for step in self.trip.before:
            if not self._step(session, step):
                return
        homeward = self.trip.homeward
        homeward.remember()
        if getattr(self.arguments, "detach", False):
            self._detach(session, homeward)
            return
        if self.plans:
            self.result.listed = Listed(entry_for(self.prepared, supervised=supervised_of(self.trip), fetch=homeward.as_data()))
        with contextlib.ExitStack() as stack:
            self._begin(session, stack)
            following = self._following(session)
            how = following.go(lambda nonce: start_and_follow(self.trip.layout, self.trip.program, self.trip.secrets, nonce))
        self.result.signal = following.signal
        if how == "ended":
            self._finish(session, following)
        else:
            self._leave(how, following)

    # --- before ------------------------------------------------------------------------------------------------------

    def _step(self, session: Session, step: Step) -> bool:
        """A step of this machine: a copy, a transfer. False when a signal ended it. Raises TransferError."""
        return self._went_well(step, run_transfer(session, step))

    def _went_well(self, step: Step, outcome: Outcome) -> bool:
        if outcome.status == "cancelled":
            self.result.status, self.result.exit_code, self.result.signal = outcome.status, outcome.exit_code, outcome.signal
            self.result.message = f"cancelled: {step.title}"
            output.say(self.result.message)
            return False
        if outcome.status != "succeeded":
            raise why_failed(step, outcome, TransferError)
        return True

    def _begin(self, session: Session, stack: contextlib.ExitStack) -> None:
        travel = travel_data(self.trip) if self.plans else {}
        for number, (job, plan) in enumerate(zip(self.trip.remote.jobs, self.plans)):
            self.recorders[job.run_id] = Recorder(self.arguments, self.prepared, number, plan, lambda: session.interrupted,
                                                  found=travel)
            try:
                self.logs[job.run_id] = stack.enter_context(opened_logs(run_directory(job.workspace, job.run_id)))
            except OSError as error:
                output.warn(f"this run leaves no log: {error.strerror or error}")

    def _detach(self, session: Session, homeward: Homeward) -> None:
        """Start it and leave."""
        travel = travel_data(self.trip)
        leaving = Leaving(entry_for(self.prepared, supervised=supervised_of(self.trip), fetch=homeward.as_data()), [
            Recorder(self.arguments, self.prepared, number, plan, lambda: False, detached=True, found=travel)
            for number, plan in enumerate(self.plans)])
        leaving.remember()
        nonce, said = new_nonce(), list[bytes]()
        step = Step(f"start it on {self.trip.remote.name}", self.trip.remote.way.place.command(
            start(self.trip.layout, self.trip.program, self.trip.secrets, nonce)), reasons=self.trip.remote.way.reasons)
        if not self._went_well(step, session.stream(step.command, said.append)):
            return  # perhaps it runs: it stays in the index
        answer = answer_of(b"".join(said).decode("utf-8", "replace"), nonce)
        if answer != "started":
            leaving.forget()
            raise not_started(self.trip.remote.name, answer or "it gave no answer")
        self.result.status, self.result.tasks, run = "running", leaving.leave(), leaving.entry.id
        if not self.arguments.json:
            output.result(f"{run}\n")
        output.say(f"it runs on {self.trip.remote.name}; mlcube logs -f {run}, mlcube wait {run}, mlcube fetch {run}")

    # --- meanwhile ---------------------------------------------------------------------------------------------------

    def _following(self, session: Session) -> Following:
        option = self.trip.remote.platform.option("reconnect")
        return Following(
            session, self.trip.remote.way, self.trip.layout.directory, self.trip.runs,
            self._write, self._prepared, self._changed,
            patience=_PATIENCE if option is None else find_seconds(str(option)) or 0.0, outlets=self.outlets)

    def _write(self, run_id: str, stream: str, data: bytes) -> None:
        """What a task printed: to our own stdout or stderr, and into its log here."""
        if run_id not in self.states:  # what it prints may come before the word that it runs
            self._changed(TaskState(run_id, "running"))
        error = stream == "stderr"
        if run_id in self.logs:
            try:
                write_all(self.logs[run_id][1 if error else 0], data)
            except OSError as fault:
                output.warn(f"the log of the task ends early: {fault.strerror or fault}")
                del self.logs[run_id]
        self.outlets[1 if error or self.arguments.json else 0].take(data)

    def _prepared(self, data: bytes) -> None:
        """What prepares the tasks there is said once there is the copy."""
        self.sending.close()
        if output.on_terminal() and not output.QUIET:
            show_bytes(data)

    def _changed(self, state: TaskState) -> None:
        """A task has begun, or ended."""
        if state.status != "queued" and state.run_id not in self.states:
            self.sending.close()
            self.states[state.run_id] = state
            record = self.recorders[state.run_id].begin(self._by_our_clock(state.started))
            task = next(job.task for job in self.trip.remote.jobs if job.run_id == state.run_id)
            self.result.tasks.append({"task": task, "status": "running", "exit_code": None, "seconds": None,
                                      "run_id": state.run_id, "record": record, "image": None})
            if self.result.listed:
                self.result.listed.begin(state.run_id)
        if state.run_id in self.states:
            self.states[state.run_id] = state

    def _by_our_clock(self, seconds: float | None) -> float:
        return time.time() if seconds is None else seconds - self.trip.remote.machine.skew

    # --- afterwards --------------------------------------------------------------------------------------------------

    def _finish(self, session: Session, following: Following) -> None:
        """It has ended there: fetch the outputs of the tasks that ran, and complete what is here. Raises what went wrong
        besides the task itself."""
        end = following.end
        assert end is not None
        code = end.exit_code or 0
        self.result.status, self.result.exit_code = end.status, code
        trouble: MLCubeError | None = None
        if self.states:
            session.heed()
            trouble = self.trip.homeward.bring(session, self.trip.remote.here)
        tidying = self._tidy() if trouble is None else None
        for entry in self.result.tasks:
            self._complete(entry)
        if tidying is not None:
            tidying.join()
        if following.signal is not None:
            self.result.status, self.result.exit_code = "cancelled", 128 + following.signal
        if end.status in _ERRORS:
            raise _ERRORS[end.status](f"on {self.trip.remote.name}: {end.message or 'the run could not begin'}", end.hint)
        if end.status != "succeeded":
            failed = next((entry for entry in self.result.tasks if entry["status"] != "succeeded"), None)
            self.result.message = ended_sentence(str(failed["task"]), end.status, code) if failed else end.message
            if following.signal != signal.SIGPIPE:  # nobody reads what it prints any more: it ends quietly (RULINGS 26)
                output.say(self.result.message)
        if isinstance(trouble, Interrupted):
            self._stop_fetching(trouble)
        elif trouble is not None and end.status != "succeeded":
            output.show_error(trouble)  # the task's own code counts (RULINGS 27)
        elif trouble is not None:
            raise trouble

    def _stop_fetching(self, interrupted: Interrupted) -> None:
        """A signal while outputs come home: they are still there."""
        again = f"mlcube fetch {self.trip.identifier} brings the outputs home"
        output.say(f"not all outputs came from {self.trip.remote.name}; {again}")
        if self.result.status == "succeeded":
            self.result.status, self.result.exit_code = interrupted.status, interrupted.exit_code
            self.result.message, self.result.hint = str(interrupted), again
        self.result.signal = interrupted.signal_number

    def _tidy(self) -> threading.Thread:
        """Remove the run's directory there, beside what is to be done here: its logs and outputs have come home."""
        command = self.trip.remote.way.place.command(remove(self.trip.layout.directory, new_nonce()))
        worker = threading.Thread(target=ask, args=(command,), daemon=True)
        worker.start()
        return worker

    def _complete(self, entry: dict[str, object]) -> None:
        """The task's entry in the result, its record, and what the index says of it."""
        state = self.states[str(entry["run_id"])]
        seconds = max(0.0, (state.ended or 0.0) - (state.started or 0.0))
        entry.update(status=state.status, exit_code=state.exit_code, seconds=round(seconds, 3))
        self.recorders[state.run_id].end(state.status, state.exit_code or 0, seconds)
        if self.result.listed:
            self.result.listed.finish(state.run_id, state.status, state.exit_code or 0)

    def _leave(self, how: str, following: Following) -> None:
        """The run goes on there, and we do not see it any more."""
        again = f"mlcube logs -f {self.trip.identifier}"
        if how == LET_GO and following.signal is not None:
            goes_on = following.owed or following.signal == signal.SIGHUP
            self.result.status, self.result.exit_code = "running" if goes_on else "cancelled", 128 + following.signal
            if following.owed:
                self.result.message = f"{self.trip.remote.name} could not be told to end it: what was started there goes on"
                self.result.hint = f"mlcube cancel {self.trip.identifier} ends it, once {self.trip.remote.name} can be reached"
            elif not goes_on:
                self.result.message = f"it is being ended on {self.trip.remote.name}, and nothing was fetched"
                self.result.hint = f"mlcube fetch {self.trip.identifier} brings home what it has written"
            if self.result.message:
                output.say(f"{self.result.message}; {self.result.hint}")
            self.result.listed = None  # what becomes of it there, the next one who looks is told
            return
        self.result.status, self.result.exit_code = "running", 6
        self.result.message = f"{self.trip.remote.name} cannot be reached any more; the run goes on there"
        self.result.hint = (f"mlcube cancel {self.trip.identifier} ends it, once there is a connection" if following.signal else
                            f"{again} shows it, mlcube fetch {self.trip.identifier} brings its outputs home")
        output.show_error(TransferError(self.result.message, self.result.hint))
