"""Tasks on another machine or in a batch system, carried out: sent, started or queued, followed, brought home, each with its
record; then the exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result, conclude, ended_sentence
from mlcube_cli.cli.detaching import Leaving
from mlcube_cli.cli.executing import finish_for_make, prepare_step, why_failed
from mlcube_cli.cli.following import LET_GO, Following, not_started
from mlcube_cli.cli.homeward import Homeward
from mlcube_cli.cli.images_there import without_making
from mlcube_cli.cli.interrupts import decider
from mlcube_cli.cli.launching import hand_over, named_jobs, request_start, start_step, supervised_of, travel_data
from mlcube_cli.cli.listed import Listed, entry_for, refuse_busy_outputs
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.cli.running import show
from mlcube_cli.cli.sending import alone, look_before_sending, look_for_links
from mlcube_cli.cli.transfer_line import run_transfer
from mlcube_cli.cli.trips import Trip, plan_queue, plan_trip
from mlcube_cli.command import Plan, Step
from mlcube_cli.cube_id import keep_id
from mlcube_cli.durations import find_seconds
from mlcube_cli.errors import DefinitionError, Interrupted, MachineError, MLCubeError, PreparationError, TransferError
from mlcube_cli.observe import home_of
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Outcome, Session, ask
from mlcube_cli.records import run_directory
from mlcube_cli.run_index import Entry, QueuedPart, state_directory
from mlcube_cli.run_log import opened_logs
from mlcube_cli.streams import Tee, write_all
from mlcube_cli.streams import show as show_bytes
from mlcube_cli.supervision.requests import remove, start_and_follow
from mlcube_cli.supervision.state import CommandState, TaskState

_ERRORS: Mapping[str, type[MLCubeError]] = {
    "preparation": PreparationError, "environment": MachineError, "invalid": DefinitionError}
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
    attended = _Attended(arguments, prepared, trip, plans, result)
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
    recorders: dict[str, Recorder] = field(default_factory=dict)
    states: dict[str, TaskState] = field(default_factory=dict)
    nodes: dict[str, tuple[str, str]] = field(default_factory=dict)  # of a batch system's tasks: the job, and its node
    logs: dict[str, tuple[int, int]] = field(default_factory=dict)
    sending: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # until the run has its copy of the code
    outlets: tuple[Tee, Tee] = field(default_factory=lambda: (Tee(1), Tee(2)))  # our own stdout and stderr

    def go(self, session: Session) -> None:
        """All of it. What went wrong is raised or left in the result."""
        with self.sending:
            if self.plans and self.trip.remote:
                self.sending.enter_context(alone(session, self.trip.remote))
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
            self._begin(session, stack)
            following = self._queue(session) if self.trip.batch else self._following(session)
            if following is None:
                return
            how = following.go(None if self.trip.batch else self._starting)
        self.result.signal = following.signal
        if how == "ended":
            self._finish(session, following)
        else:
            self._leave(how, following)

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
            self._leave(how, following)
        elif following.end is not None and following.end.status != "succeeded":
            self._judge(following.end)
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

    def _begin(self, session: Session, stack: contextlib.ExitStack) -> None:
        travel = travel_data(self.trip) if self.plans else {}
        for number, (job, plan) in enumerate(zip(self.trip.jobs, self.plans)):
            self.recorders[job.run_id] = Recorder(self.arguments, self.prepared, number, plan, lambda: session.interrupted,
                                                  found=travel)
            if self.trip.remote is None:
                continue  # the job itself writes them where they belong
            try:
                self.logs[job.run_id] = stack.enter_context(opened_logs(run_directory(job.workspace, job.run_id)))
            except OSError as error:
                output.warn(f"this run leaves no log: {error.strerror or error}")

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
            self._leave_unknown(session.signal)
        return queued

    def _leave_unknown(self, number: int | None) -> None:
        """Jobs may be queued, or not: whoever looks next is told."""
        self.result.status, self.result.signal = "running", number
        self.result.exit_code = 128 + number if number else 6
        self.result.message = f"nobody has heard whether {self.trip.name} took the jobs"
        self.result.hint = f"mlcube ps tells, once it can be asked; mlcube cancel {self.trip.identifier} ends them"
        output.show_error(TransferError(self.result.message, self.result.hint))
        if self.result.listed:
            self.result.listed.end("running", 0, "")
            self.result.listed = None

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
        for recorder in self.recorders.values():  # whatever becomes of us
            recorder.begin(time.time())
        return replace(self._following(session), supervised=supervised, name=self.trip.name, ends=decider(
            self.arguments, session, True, f"job {named_jobs(answer)}"), stands=self._stands)

    # --- meanwhile ---------------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        option = self.trip.remote.platform.option("reconnect") if self.trip.remote else None
        return _PATIENCE if option is None else find_seconds(str(option)) or 0.0

    def _following(self, session: Session) -> Following:
        return Following(
            session, self.trip.way, self.trip.layout.directory, self.trip.runs,
            self._write, self._prepared, self._changed,
            patience=self._patience, outlets=self.outlets,
            ends=decider(self.arguments, session, False, f"run {self.trip.identifier}"))

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
            record = self.recorders[state.run_id].start(self._by_our_clock(state.started))
            task = next(job.task for job in self.trip.jobs if job.run_id == state.run_id)
            self.result.tasks.append({"task": task, "status": "running", "exit_code": None, "seconds": None,
                                      "run_id": state.run_id, "record": record, "image": None})
            if self.result.listed:
                self.result.listed.begin(state.run_id, self._by_our_clock(state.started))
        if state.run_id in self.states:
            self.states[state.run_id] = state

    def _stands(self, part: QueuedPart, state: CommandState) -> None:
        """What the batch system says of a job."""
        for run_id in part.runs:
            node = state.node or state.host or self.nodes.get(run_id, ("", ""))[1]
            self.nodes[run_id] = part.job, node
            if self.result.listed:
                self.result.listed.stand(run_id, node, state.waiting)

    def _by_our_clock(self, seconds: float | None) -> float:
        return time.time() if seconds is None else seconds - self.trip.ahead

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
            homeward, remote = self.trip.homeward, self.trip.remote
            trouble = homeward.bring(session, remote.here) if homeward and remote else None
        tidying = self._tidy() if trouble is None and (self.trip.remote or not self.plans) else None
        for entry in self.result.tasks:
            self._complete(entry)
        for number, recorder in enumerate(one for run_id, one in self.recorders.items() if run_id not in self.states):
            recorder.close(*(("cancelled", None) if self.states or number else (end.status, end.exit_code)))
        if tidying is not None:
            tidying.join()
        if following.signal is not None:
            self.result.status, self.result.exit_code = "cancelled", 128 + following.signal
        self._judge(end)
        if end.status != "succeeded":
            failed = next((entry for entry in self.result.tasks if entry["status"] != "succeeded"), None)
            why = _said_by(following, end) if self.trip.queue and following.signal is None else ""
            self.result.message = (ended_sentence(str(failed["task"]), end.status, code, why) if failed else
                                   end.message if following.signal is None else "cancelled before it began")
            self.result.hint = end.hint if why else ""
            if following.signal != signal.SIGPIPE:  # nobody reads what it prints any more: it ends quietly (RULINGS 26)
                output.say("\nhint: ".join(text for text in (self.result.message, self.result.hint) if text))
        if isinstance(trouble, Interrupted):
            self._stop_fetching(trouble)
        elif trouble is not None and end.status != "succeeded":
            output.show_error(trouble)  # the task's own code counts (RULINGS 27)
        elif trouble is not None:
            raise trouble

    def _judge(self, end: CommandState) -> None:
        """Raises what kept the tasks from running."""
        if end.status in _ERRORS:
            raise _ERRORS[end.status](f"on {self.trip.name}: {end.message or 'the run could not begin'}", end.hint)

    def _stop_fetching(self, interrupted: Interrupted) -> None:
        """A signal while outputs come home: they are still there."""
        again = f"mlcube fetch {self.trip.identifier} brings the outputs home"
        output.say(f"not all outputs came from {self.trip.name}; {again}")
        if self.result.status == "succeeded":
            self.result.status, self.result.exit_code = interrupted.status, interrupted.exit_code
            self.result.message, self.result.hint = str(interrupted), again
        self.result.signal = interrupted.signal_number

    def _tidy(self) -> threading.Thread:
        """Remove the run's directory there, beside what is to be done here: its logs and outputs have come home."""
        command = self.trip.way.place.command(remove(self.trip.directories, new_nonce()))
        worker = threading.Thread(target=ask, args=(command,), daemon=True)
        worker.start()
        return worker

    def _complete(self, entry: dict[str, object]) -> None:
        """The task's entry in the result, its record, and what the index says of it."""
        state = self.states[str(entry["run_id"])]
        ended = self._by_our_clock(state.ended)
        seconds = max(0.0, ended - self._by_our_clock(state.started))
        entry.update(status=state.status, exit_code=state.exit_code, seconds=round(seconds, 3))
        self.recorders[state.run_id].end(state.status, state.exit_code or 0, seconds,
                                         *self.nodes.get(state.run_id, ()))
        if self.result.listed:
            self.result.listed.finish(state.run_id, state.status, state.exit_code or 0, ended)

    def _leave(self, how: str, following: Following) -> None:
        """The run goes on there, and we do not see it any more."""
        again = f"mlcube logs -f {self.trip.identifier}"
        if how == LET_GO and following.signal is not None:
            goes_on = following.owed or following.left
            self.result.status, self.result.exit_code = "running" if goes_on else "cancelled", 128 + following.signal
            if following.owed:
                self.result.message = f"{self.trip.name} could not be told to end it: what was started there goes on"
                self.result.hint = f"mlcube cancel {self.trip.identifier} ends it, once {self.trip.name} can be reached"
            elif following.left and following.signal != signal.SIGHUP:
                self.result.message = f"it goes on, on {self.trip.name}"
                self.result.hint = f"{again} shows it, mlcube cancel {self.trip.identifier} ends it"
            elif not goes_on:
                self.result.message = f"it is being ended on {self.trip.name}, and nothing was fetched"
                self.result.hint = f"mlcube fetch {self.trip.identifier} brings home what it has written"
            if self.result.message:
                output.say(f"{self.result.message}; {self.result.hint}")
            if self.result.listed and self.result.status == "running":
                self.result.listed.end("running", 0, "")
            self.result.listed = None  # what becomes of it there, the next one who looks is told
            return
        self.result.status, self.result.exit_code = "running", 6
        self.result.message = f"{self.trip.name} cannot be reached any more; the run goes on there"
        self.result.hint = (f"mlcube cancel {self.trip.identifier} ends it, once there is a connection" if following.signal else
                            f"{again} shows it, mlcube fetch {self.trip.identifier} brings its outputs home")
        output.show_error(TransferError(self.result.message, self.result.hint))


def _said_by(following: Following, end: CommandState) -> str:
    """Why a batch job ended as nobody here has asked for: what is said of the job, else that it was somebody else."""
    job = following.queued.part.job if following.queued else ""
    named = end.status != "cancelled" or not job or job in end.message
    return end.message if named else f"job {job} was cancelled from outside"
