"""Has a run start where it is to be: by a supervisor on another machine, or handed over to a batch system; and what the index
and the record say of that."""

from __future__ import annotations

import contextlib
import time

from mlcube_cli.cli import output
from mlcube_cli.cli.connecting import connect
from mlcube_cli.cli.executing import why_failed
from mlcube_cli.cli.trips import Trip
from mlcube_cli.command import Command, Step, as_data
from mlcube_cli.errors import Interrupted, MachineError, TransferError
from mlcube_cli.outcome import Outcome
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Session
from mlcube_cli.run_index import QueuedPart, Supervised
from mlcube_cli.supervision.requests import answer_of, jobs_noted, start

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts to ask again
_WAIT = 10  # seconds for which jobs that are being handed over are waited for, each time
_NO_CONNECTION = 255  # what ssh exits with


def start_step(trip: Trip, nonce: str = "0" * 12) -> Step:
    """What starts it, or hands its jobs over, without following it."""
    if trip.batch and trip.queue:
        script = trip.queue.scheduler.submit(trip.batch, nonce)
    else:
        script = start(trip.layout, trip.program, trip.secrets, nonce)
    return Step(f"start it on {trip.name}", trip.way.place.command(script), reasons=trip.way.reasons)


def request_start(session: Session, trip: Trip) -> tuple[Outcome, str]:
    """Do that, once; how that went, and what was answered: `started`, or why not."""
    nonce = new_nonce()
    outcome, answer = _asked(session, start_step(trip, nonce).command, nonce)
    return outcome, answer or "it gave no answer"


def hand_over(session: Session, trip: Trip, patience: float) -> str | None:
    """Have the jobs queued, once, whatever becomes of the connection: `submitted` with their ids, or why not; None where that
    cannot be told: a second signal came, or the connection stays lost for more than so many seconds.

    A first signal ends nothing here: the jobs are queued in a moment, and whoever follows them answers to it. Raises
    TransferError, MachineError where the script fails otherwise.
    """
    lost, pause = 0.0, _FIRST_PAUSE
    outcome, answer = _submitted(session, trip)
    while not answer:
        if outcome.status == "cancelled":
            return None
        if trip.remote is None or outcome.exit_code not in (0, _NO_CONNECTION):
            raise why_failed(start_step(trip), outcome, TransferError if trip.remote else MachineError)
        if not lost:
            lost = time.monotonic()
            output.say(f"the connection to {trip.way.place.name} is lost; whether the jobs are queued is asked again")
        elif time.monotonic() - lost > patience:
            return None
        session.pause(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
        with contextlib.suppress(MachineError, Interrupted):
            connect(trip.way, session)
        outcome, answer = _noted(session, trip)
        if answer == "absent":
            outcome, answer = _submitted(session, trip)
    return answer


def _submitted(session: Session, trip: Trip) -> tuple[Outcome, str]:
    """Submit them; an answer counts when it is whole, and tells what became of them."""
    nonce = new_nonce()
    outcome, answer = _asked(session, start_step(trip, nonce).command, nonce)
    return outcome, answer if answer != "exists" and outcome.status == "succeeded" else ""


def _noted(session: Session, trip: Trip) -> tuple[Outcome, str]:
    """What became of an earlier request to submit them; no answer as long as that is not known."""
    assert trip.batch is not None
    nonce = new_nonce()
    command = trip.way.place.command(jobs_noted(trip.batch.directory, nonce, _WAIT))
    outcome, answer = _asked(session, command, nonce)
    word, *jobs = answer.split() or [""]
    whole = word == "absent" or (word == "submitted" and len(jobs) == len(trip.batch.parts))
    return outcome, answer if whole and outcome.status == "succeeded" else ""


def _asked(session: Session, command: Command, nonce: str) -> tuple[Outcome, str]:
    said = list[bytes]()
    outcome = session.stream(command, said.append, spares=1)
    return outcome, answer_of(b"".join(said).decode("utf-8", "replace"), nonce) or ""


def named_jobs(answer: str) -> str:
    """The jobs of this answer in words; empty where there are none. An array counts as one."""
    return ", ".join(dict.fromkeys(job.partition("_")[0] for job in answer.split()[1:]))


def supervised_of(trip: Trip, submitted: str = "") -> Supervised:
    """Where the command line's run is, for the index; `submitted`: what was answered when its jobs were handed over."""
    place = trip.way.place
    if trip.batch is None or trip.queue is None:
        return Supervised(place.reach, place.name, trip.layout.directory, dict(trip.runs), trip.ahead)
    jobs = submitted.split()[1:] or [""] * len(trip.batch.parts)  # one each, in the order of the parts
    parts = tuple(QueuedPart(part.directory, job, tuple(run for run, _ in part.runs))
                  for part, job in zip(trip.batch.parts, jobs))
    return Supervised(place.reach, place.name, trip.layout.directory, dict(trip.runs), trip.ahead,
                      trip.queue.platform.runner, parts)


def travel_data(trip: Trip) -> dict[str, object]:
    """What this machine does for the run, for its record: the steps before it, the one that starts it, those that bring its
    outputs home. The script that is sent holds the plan, which the record has, and is left out."""
    *before, there = trip.as_plan().steps
    return {"travel": [*(as_data(step) for step in before), {**as_data(there), "stdin": None}]}
