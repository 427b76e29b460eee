"""Has a run start where it is to be: by a supervisor on another machine, or handed over to a batch system; and what the index
and the record say of that."""

from __future__ import annotations

from mlcube_cli.cli.trips import Trip
from mlcube_cli.command import Step, as_data
from mlcube_cli.outcome import Outcome
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Session
from mlcube_cli.run_index import QueuedPart, Supervised
from mlcube_cli.supervision.requests import answer_of, start


def start_step(trip: Trip, nonce: str = "0" * 12) -> Step:
    """What starts it, or hands its jobs over, without following it."""
    if trip.batch and trip.queue:
        script = trip.queue.scheduler.submit(trip.batch, nonce)
    else:
        script = start(trip.layout, trip.program, trip.secrets, nonce)
    return Step(f"start it on {trip.name}", trip.way.place.command(script), reasons=trip.way.reasons)


def request_start(session: Session, trip: Trip) -> tuple[Outcome, str]:
    """Do that, once; how that went, and what was answered: `started`, `submitted` with the jobs' ids, or why not."""
    nonce, said = new_nonce(), list[bytes]()
    outcome = session.stream(start_step(trip, nonce).command, said.append)
    return outcome, answer_of(b"".join(said).decode("utf-8", "replace"), nonce) or "it gave no answer"


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
