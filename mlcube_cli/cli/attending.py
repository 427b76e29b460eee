"""Tasks on another machine or in a batch system, carried out: sent, started or queued, followed, brought home, each with its
record; then the exit code."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result, conclude
from mlcube_cli.cli.detaching import Leaving
from mlcube_cli.cli.executing import finish_for_make, prepare_step, why_failed
from mlcube_cli.cli.following import Following, not_started
from mlcube_cli.cli.homeward import Homeward
from mlcube_cli.cli.images_there import without_making
from mlcube_cli.cli.interrupts import decider
from mlcube_cli.cli.launching import hand_over, named_jobs, request_start, start_step, supervised_of, travel_data
from mlcube_cli.cli.listed import Listed, entry_for, refuse_busy_outputs
from mlcube_cli.cli.mirror import Mirror
from mlcube_cli.cli.parting import leave, leave_unknown, refuse_unstarted, stop_fetching, tell_failure
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.cli.running import show
from mlcube_cli.cli.sending import alone, look_before_sending, look_for_links
from mlcube_cli.cli.transfer_line import run_transfer
from mlcube_cli.cli.trips import Trip, plan_queue, plan_trip
from mlcube_cli.command import Plan, Step
from mlcube_cli.cube_id import keep_id
from mlcube_cli.durations import find_seconds
from mlcube_cli.errors import Interrupted, MLCubeError, TransferError
from mlcube_cli.observe import home_of
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Outcome, Session, ask
from mlcube_cli.run_index import Entry, state_directory
from mlcube_cli.supervision.requests import remove, start_and_follow

_PATIENCE = 300.0  # seconds for which a lost connection is tried again, unless the platform says otherwise


def run_there(arguments: Arguments, prepared: Prepared, plans: Sequence[Plan]) -> int:
    """`mlcube run` on another machine, in a batch system, or both. Returns the exit code, or dies by a signal that ended it."""
    shipped = prepared.remote.shipped if prepared.remote else ""
    plans = [replace(without_making(plan, shipped) if shipped else plan, platform=prepared.platform_name) for plan in plans]
    trip = plan_trip(prepared, plans) if prepared.remote else plan_queue(prepared, plans)
    if arguments.dry_run:
        if trip.remote:
            look_for_links(trip.remote)
            trip.remote.keep_questions(trip.identifier)
        return show(trip.as_plan(), arguments.json)
    return _carry_out(arguments, prepared, trip, plans)


def configure_there(arguments: Arguments, prepared: Prepared, plan: Plan,
                    afterwards: Callable[[], object] | None = None) -> int:
    """`mlcube configure` for another machine, or in a job: what prepares the platform runs there. `afterwards`: once it has
    succeeded."""
    trip = plan_trip(prepared, [plan]) if prepared.remote else plan_queue(prepared, [plan])
    if arguments.dry_run:
        if trip.remote:
            trip.remote.keep_questions(trip.identifier)
        return show(trip.as_plan(), arguments.json)
    return _carry_out(arguments, prepared, trip, (), afterwards)


def _carry_out(arguments: Arguments, prepared: Prepared, trip: Trip, plans: Sequence[Plan],
               afterwards: Callable[[], object] | None = None) -> int:
    result = Result()
    for note in trip.plan.notes:
        output.warn(note)
    started = time.time()
    attended = _Attended(arguments, prepared, trip, plans, result, Mirror(arguments, trip, result))
    with conclude(arguments, prepared, result):
        if trip.remote:
            look_before_sending(trip.remote)
            state = state_directory(os.environ, home_of(os.environ))
            keep_id(prepared.cube.root, state, trip.remote.load.identifier)
        with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say) as session:
            try:
                attended.go(session)
            finally:
                if trip.remote:
                    trip.remote.keep_questions(trip.identifier)  # with those that the record has asked
        if result.status == "succeeded" and afterwards:
            afterwards()
        if result.status == "succeeded" and getattr(arguments, "stamp", None):
            finish_for_make(arguments, prepared, started, result.tasks)
    return result.exit_code


@dataclass
class _Attended:
    """One command line on another machine, with what is here of it."""

    arguments: Arguments
    prepared: Prepared
    trip: Trip
    plans: Sequence[Plan]
    result: Result
    mirror: Mirror

    def go(self, session: Session) -> None:
        """All of it. What went wrong is raised or left in the result."""
        with self.mirror.sending:
            if self.plans and self.trip.remote:
                self.mirror.sending.enter_context(alone(session, self.trip.remote))
            self._go(session)

    def _go(self, session: Session) -> None:
        if self.plans:
            refuse_busy_outputs(self.prepared)
        if not all(self._step(session, step) for step in self._steps_before()):
            return
        homeward = self.trip.homeward
        if homeward:
            homeward.remember()
        if self.trip.batch and self.trip.remote and not self._prepare_there(session):
            return
        if getattr(self.arguments, "detach", False):
            self._detach(session, homeward)
            return
        if self.plans:
            self.result.listed = Listed(self._entry(homeward))
        with contextlib.ExitStack() as stack:
            self.mirror.begin(self.prepared, self.plans, session, stack)
            following = self._queue(session) if self.trip.batch else self._following(session)
            if following is None:
                return
            how = following.go(None if self.trip.batch else self._starting)
        self.result.signal = following.signal
        if how == "ended":
            self._finish(session, following)
        else:
            leave(self.trip, self.result, how, following)

    def _starting(self, nonce: str) -> str:
        return start_and_follow(self.trip.layout, self.trip.program, self.trip.secrets, nonce)

    def _entry(self, homeward: Homeward | None) -> Entry:
        return entry_for(self.prepared, supervised=supervised_of(self.trip), fetch=homeward.as_data() if homeward else None)

    # --- before ------------------------------------------------------------------------------------------------------

    def _steps_before(self) -> Iterator[Step]:
        if self.trip.remote:
            output.say(f"sending to {self.trip.name}")
        yield from self.trip.before

    def _step(self, session: Session, step: Step) -> bool:
        """A step of this machine: a copy, a transfer, or what prepares the tasks. False when a signal ended it. Raises
        TransferError, PreparationError, MachineError."""
        if self.trip.remote:
            return self._went_well(step, run_transfer(session, step))
        return prepare_step(step, session, self.result)

    def _prepare_there(self, session: Session) -> bool:
        """Carry out there what prepares the tasks, before they are queued; False when it was ended. Raises what went wrong."""
        following = self._following(session)
        how = following.go(self._starting)
        self.result.signal = following.signal
        if how != "ended":
            leave(self.trip, self.result, how, following)
        elif following.end is not None and following.end.status != "succeeded":
            refuse_unstarted(self.trip, following.end)
            self.result.status, self.result.exit_code = following.end.status, following.end.exit_code or 0
            self.result.message = following.end.message
            output.say(self.result.message)
        return how == "ended" and self.result.status == "succeeded"

    def _went_well(self, step: Step, outcome: Outcome) -> bool:
        if outcome.status == "cancelled":
            self.result.status, self.result.exit_code, self.result.signal = outcome.status, outcome.exit_code, outcome.signal
            self.result.message = f"cancelled: {step.title}"
            output.say(self.result.message)
            return False
        if outcome.status != "succeeded":
            raise why_failed(step, outcome, TransferError)
        return True

    def _detach(self, session: Session, homeward: Homeward | None) -> None:
        """Start it, or queue it, and leave."""
        travel = travel_data(self.trip)
        leaving = Leaving(self._entry(homeward), [
            Recorder(self.arguments, self.prepared, number, plan, lambda: False, detached=True, found=travel)
            for number, plan in enumerate(self.plans)])
        leaving.remember()
        answer = self._start(session)
        if answer is None:
            return  # perhaps it runs: it stays in the index
        if answer.partition(" ")[0] not in ("started", "submitted"):
            leaving.forget()
            raise not_started(self.trip.name, answer)
        leaving.entry = replace(leaving.entry, supervised=supervised_of(self.trip, answer))
        self.result.status, self.result.tasks, run = "running", leaving.leave(), leaving.entry.id
        self.result.signal = session.signal  # it came too late to keep the jobs from being queued
        if not self.arguments.json:
            output.result(f"{run}\n")
        jobs = named_jobs(answer)
        output.say((f"it is queued on {self.trip.name} as job {jobs}" if jobs else f"it runs on {self.trip.name}")
                   + f"; mlcube logs -f {run}, mlcube wait {run}" + (f", mlcube fetch {run}" if homeward else ""))

    def _start(self, session: Session) -> str | None:
        """Have it started, or handed over to the batch system; what is answered. None when a signal came first, or nobody knows
        what became of that."""
        if session.interrupted or not self.trip.batch:
            outcome, answer = request_start(session, self.trip)
            return answer if self._went_well(start_step(self.trip), outcome) else None
        queued = hand_over(session, self.trip, self._patience)
        if queued is None:
            leave_unknown(self.trip, self.result, session.signal)
        return queued

    def _queue(self, session: Session) -> Following | None:
        """Hand the jobs over; who follows them then, None when a signal came first. Raises MachineError."""
        answer = self._start(session)
        if answer is None:
            return None
        if not answer.startswith("submitted "):
            raise not_started(self.trip.name, answer)
        output.say(f"queued on {self.trip.name} as job {named_jobs(answer)}")
        supervised = supervised_of(self.trip, answer)
        if self.result.listed:
            self.result.listed.find(supervised)
        for recorder in self.mirror.recorders.values():  # whatever becomes of us
            recorder.begin(time.time())
        return replace(self._following(session), supervised=supervised, name=self.trip.name, ends=decider(
            self.arguments, session, True, f"job {named_jobs(answer)}"), stands=self.mirror.stand)

    # --- meanwhile ---------------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        option = self.trip.remote.platform.option("reconnect") if self.trip.remote else None
        return _PATIENCE if option is None else find_seconds(str(option)) or 0.0

    def _following(self, session: Session) -> Following:
        return Following(
            session, self.trip.way, self.trip.layout.directory, self.trip.runs,
            self.mirror.write, self.mirror.prepare, self.mirror.change,
            patience=self._patience, outlets=self.mirror.outlets,
            ends=decider(self.arguments, session, False, f"run {self.trip.identifier}"))

    # --- afterwards --------------------------------------------------------------------------------------------------

    def _finish(self, session: Session, following: Following) -> None:
        """It has ended there: fetch the outputs of the tasks that ran, and complete what is here. Raises what went wrong
        besides the task itself."""
        end = following.end
        assert end is not None
        code = end.exit_code or 0
        self.result.status, self.result.exit_code = end.status, code
        trouble: MLCubeError | None = None
        if self.mirror.states:
            session.heed()
            homeward, remote = self.trip.homeward, self.trip.remote
            trouble = homeward.bring(session, remote.here) if homeward and remote else None
        tidying = self._tidy() if trouble is None and (self.trip.remote or not self.plans) else None
        self.mirror.complete_all(end)
        if tidying is not None:
            tidying.join()
        if following.signal is not None:
            self.result.status, self.result.exit_code = "cancelled", 128 + following.signal
        refuse_unstarted(self.trip, end)
        if end.status != "succeeded":
            tell_failure(self.trip, self.result, end, following)
        if isinstance(trouble, Interrupted):
            stop_fetching(self.trip, self.result, trouble)
        elif trouble is not None and end.status != "succeeded":
            output.show_error(trouble)  # the task's own code counts (RULINGS 27)
        elif trouble is not None:
            raise trouble

    def _tidy(self) -> threading.Thread:
        """Remove the run's directory there, beside what is to be done here: its logs and outputs have come home."""
        command = self.trip.way.place.command(remove(self.trip.directories, new_nonce()))
        worker = threading.Thread(target=ask, args=(command,), daemon=True)
        worker.start()
        return worker
