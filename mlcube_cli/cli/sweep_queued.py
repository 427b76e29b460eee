"""The members of a sweep as one array of batch jobs: handed over at once, then waited for, or left to themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result
from mlcube_cli.cli.executing import prepare_step
from mlcube_cli.cli.following import not_started
from mlcube_cli.cli.interrupts import decider
from mlcube_cli.cli.launching import named_jobs, request_start, supervised_of
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.queue import Members
from mlcube_cli.cli.running import show
from mlcube_cli.cli.sweep_deciding import Decided
from mlcube_cli.cli.sweep_reading import standings_now, status_data
from mlcube_cli.cli.sweep_records import entry_of, record_queued, refuse_others
from mlcube_cli.cli.sweep_telling import Progress
from mlcube_cli.cli.trips import Trip, plan_queue
from mlcube_cli.errors import MLCubeError, PreparationError
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Session, ask
from mlcube_cli.run_index import Entry, forget, read_entry
from mlcube_cli.run_states import ending
from mlcube_cli.run_states import keep as keep_index
from mlcube_cli.sweep.document import Attempt, Sweep
from mlcube_cli.sweep.standing import QUEUED, Standing, standings_of

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks at the members' files
_FIRST_QUESTION, _LONGEST_QUESTION = 4.0, 30.0  # seconds between two questions to the batch system


@dataclass
class _Queued:
    """A sweep on its way to a batch system. `document`: what is remembered of it, without this attempt before it is begun."""

    arguments: Arguments
    decided: Decided
    attempt: Attempt
    trip: Trip
    document: Sweep

    @property
    def name(self) -> str:
        return self.trip.name

    def keep(self, document: Sweep) -> None:
        """Raises MachineError."""
        from mlcube_cli.cli.sweep import keep

        keep(document)
        self.document = document


def queue_sweep(arguments: Arguments, decided: Decided, limit: int | None, remember: Callable[[Attempt], Decided]) -> int:
    """Hand the members over as one array (of more than one array may have: as several), and wait for their end, unless the
    command line says --detach. The exit code. Raises MLCubeError where it would not be taken."""
    from mlcube_cli.cli.sweep import conclude

    queued = _planned(arguments, decided, limit, remember)
    if arguments.dry_run:
        plan = replace(queued.trip, before=(*queued.trip.before, *decided.files)).as_plan()
        return show(replace(plan, notes=(*plan.notes, *decided.notes)), arguments.json)
    for note in queued.trip.plan.notes:
        output.warn(note)
    result = Result()
    try:
        with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say,
                     announce=lambda step: output.say(step.title)) as session:
            for step in queued.trip.before:
                if not prepare_step(step, session, result):
                    return conclude(arguments, queued.document, result)
            if _hand_over(queued, session, result):
                if arguments.detach:
                    return _leave(queued)
                _wait(queued, session, result)
    except MLCubeError as error:
        result.fail(error)
    return conclude(arguments, queued.document, result)


def _planned(arguments: Arguments, decided: Decided, limit: int | None, remember: Callable[[Attempt], Decided]) -> _Queued:
    """Its way to the batch system. Raises MLCubeError where the members would not be taken."""
    queue = decided.prepared.queue
    assert queue is not None
    own = queue.platform.option("array_limit")
    limit = limit or (own if isinstance(own, int) else None)
    numbers = tuple(member.number for member in decided.members)
    trip = plan_queue(decided.prepared, decided.plans, Members(numbers, decided.preparation, limit))
    assert trip.batch is not None
    attempt = Attempt(decided.identifier, trip.batch.directory, time.time(), numbers, limit, None, queue.platform.runner)
    return _Queued(arguments, remember(attempt), attempt, trip, decided.sweep)


def _hand_over(queued: _Queued, session: Session, result: Result) -> bool:
    """Enter it into the index, write the members' files, and submit it: one call, whatever the number of members. False when a
    signal came first. Raises MachineError; then there was no such attempt."""
    before, entry = queued.document, entry_of(queued.decided, supervised_of(queued.trip))
    refuse_others(entry)
    begun = False
    try:
        if not all(prepare_step(step, session, result) for step in queued.decided.files):
            return False
        queued.keep(queued.decided.sweep)
        begun = True
    finally:
        if not begun:
            forget(here(), entry.id)
    outcome, answer = request_start(session, queued.trip)
    if not answer.startswith("submitted "):
        if outcome.status == "cancelled":  # perhaps it was handed over: it stays in the index
            result.status, result.exit_code, result.signal = outcome.status, outcome.exit_code, outcome.signal
            return False
        forget(here(), entry.id)
        queued.keep(replace(queued.document, attempts=before.attempts))
        raise not_started(queued.name, answer)
    record_queued(queued.arguments, queued.decided)
    keep_index(here(), replace(entry, supervised=supervised_of(queued.trip, answer)))
    output.say(f"{len(queued.decided.members)} members are queued on {queued.name} as array {_arrays(queued.trip, answer)}")
    return True


def _arrays(trip: Trip, answer: str) -> str:
    """The arrays of this answer, without the job that prepares their members."""
    return named_jobs(" ".join(("submitted", *(job for job in answer.split()[1:] if "_" in job)))) if trip.batch else ""


def _leave(queued: _Queued) -> int:
    """They go on by themselves."""
    sweep = queued.decided.sweep
    if queued.arguments.json:
        output.json_result(status_data(sweep, standings_of(sweep), Result(status="running")))
    else:
        output.result(f"{sweep.id}\n")
    output.say(f"mlcube sweep status {sweep.id} tells how they stand, mlcube wait {queued.attempt.id} waits for them")
    return 0


# --- waiting ---------------------------------------------------------------------------------------------------------


def _wait(queued: _Queued, session: Session, result: Result) -> None:
    """Until all members have ended: their own files are looked at, and now and then the batch system is asked about those
    that do not tell. A signal cancels them, or leaves them."""
    sweep, told = queued.decided.sweep, set[int]()
    mine = set(queued.attempt.members)
    ends = decider(queued.arguments, session, True, f"the {len(mine)} members on {queued.name}")
    pause, question, asked_at = _FIRST_PAUSE, _FIRST_QUESTION, time.monotonic()
    with Progress(queued.decided.members) as progress:
        while True:
            ask_now = time.monotonic() - asked_at > question
            standings = [one for one in (standings_now if ask_now else standings_of)(sweep) if one.member.number in mine]
            if ask_now:
                asked_at, question = time.monotonic(), min(_LONGEST_QUESTION, question * 2)
            for one in standings:
                if one.over and one.member.number not in told:
                    told.add(one.member.number)
                    progress.tell(one)
                    pause = _FIRST_PAUSE
            if all(one.over for one in standings):
                break
            waiting = sum(1 for one in standings if one.status == QUEUED)
            progress.note(sum(1 for one in standings if not one.over) - waiting, waiting)
            session.pause(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.3)
            if session.interrupted:
                progress.wipe()
                if not _cancelled(queued, session, result, ends):
                    return
    if result.signal is None:
        _judge_preparation(queued, standings)


def _judge_preparation(queued: _Queued, standings: Sequence[Standing]) -> None:
    """Raises PreparationError where the members never began, because the job that prepares them did not succeed."""
    entry = _entry(queued) if queued.trip.batch and queued.trip.batch.chain else None
    if entry and entry.message and all(one.started is None for one in standings):
        message, _, hint = entry.message.partition("\nhint: ")
        raise PreparationError(f"on {queued.name}: {message}", hint)


def _entry(queued: _Queued) -> Entry | None:
    return read_entry(os.path.join(here(), f"{queued.attempt.id}.json"))


def _cancelled(queued: _Queued, session: Session, result: Result, ends: Callable[[int], bool]) -> bool:
    """The first signal ends the members, or lets them go on without us (False); a second one ends them at once."""
    number, again = session.signal or 2, result.signal is not None
    if not again and not ends(number):
        session.heed()
        result.status, result.exit_code, result.signal = "running", 128 + number, number
        output.say(f"they go on; mlcube sweep status {queued.decided.sweep.id} tells how they stand")
        return False
    session.heed()
    result.status, result.exit_code, result.signal = "cancelled", 128 + number, number
    output.say(f"ending the members on {queued.name}")
    entry = _entry(queued)
    if entry and entry.supervised:
        ask(queued.trip.way.place.command(ending(entry.supervised, again, new_nonce(), number)))
    return not again
