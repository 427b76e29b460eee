"""The members of a sweep as one array of batch jobs: handed over at once, then waited for, or left to themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.batch import Batch, Part
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result
from mlcube_cli.cli.executing import prepare_step
from mlcube_cli.cli.following import not_started
from mlcube_cli.cli.interrupts import decider
from mlcube_cli.cli.launching import named_jobs
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.queue import Queue, in_batch, where_here
from mlcube_cli.cli.running import show
from mlcube_cli.cli.sweep_deciding import Decided
from mlcube_cli.cli.sweep_reading import standings_now, status_data
from mlcube_cli.cli.sweep_records import entry_of, record_queued, refuse_others
from mlcube_cli.cli.sweep_running import lock_place
from mlcube_cli.cli.sweep_telling import Progress
from mlcube_cli.command import Step
from mlcube_cli.errors import MLCubeError, UsageError
from mlcube_cli.facts import Facts
from mlcube_cli.place import HERE, new_nonce
from mlcube_cli.process import Session, ask
from mlcube_cli.run_index import QueuedPart, Supervised, forget
from mlcube_cli.run_states import keep as keep_index
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.requests import answer_of
from mlcube_cli.sweep.document import Attempt
from mlcube_cli.sweep.standing import QUEUED, standings_of

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks at the members' files
_FIRST_QUESTION, _LONGEST_QUESTION = 4.0, 30.0  # seconds between two questions to the batch system


@dataclass(frozen=True)
class _Queued:
    """A sweep on its way to a batch system."""

    arguments: Arguments
    decided: Decided
    attempt: Attempt
    queue: Queue
    batch: Batch

    @property
    def name(self) -> str:
        return self.queue.name

    def supervised(self, jobs: list[str]) -> Supervised:
        parts = tuple(QueuedPart(part.directory, job, tuple(run for run, _ in part.runs))
                      for part, job in zip(self.batch.parts, jobs or [""] * len(self.batch.parts)))
        tasks = dict(run for part in self.batch.parts for run in part.runs)
        return Supervised(HERE.reach, HERE.name, self.batch.directory, tasks, 0.0, self.queue.platform.runner, parts)


def queue_sweep(arguments: Arguments, decided: Decided, limit: int | None, remember: Callable[[Attempt], Decided]) -> int:
    """Hand the members over as one array (of more than one array may have: as several), and wait for their end, unless the
    command line says --detach. The exit code. Raises MLCubeError where it would not be taken."""
    from mlcube_cli.cli.sweep import conclude, keep

    queued, notes = _planned(arguments, decided, limit, remember)
    if arguments.dry_run:
        step = Step(f"queue {len(decided.members)} members on {queued.name} as one array",
                    HERE.command(queued.queue.scheduler.submit(queued.batch, "0" * 12)))
        plan = queued.decided.as_plan()
        return show(replace(plan, steps=(*decided.preparation.steps, step), notes=(*plan.notes, *notes)), arguments.json)
    for note in (*decided.preparation.notes, *notes):
        output.warn(note)
    result = Result()
    try:
        with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say,
                     announce=lambda step: output.say(step.title)) as session:
            for step in decided.preparation.steps:
                if not prepare_step(step, session, result):
                    return conclude(arguments, queued.decided.sweep, result)
            keep(queued.decided.sweep)
            _hand_over(queued, session)
            if arguments.detach:
                return _leave(queued)
            _wait(queued, session, result)
    except MLCubeError as error:
        output.show_error(error)
        result.status, result.exit_code, result.message, result.hint = error.status, error.exit_code, error.message, error.hint
    return conclude(arguments, queued.decided.sweep, result)


def _planned(arguments: Arguments, decided: Decided, limit: int | None,
             remember: Callable[[Attempt], Decided]) -> tuple[_Queued, tuple[str, ...]]:
    """The batch, and what is to be said of it. Raises MLCubeError where the batch system would not take it."""
    queue, prepared = decided.prepared.queue, decided.prepared
    assert queue is not None
    if queue.prepares_in_job and decided.preparation.steps:
        raise UsageError(f"platform '{queue.name}' prepares in a job of its own, and the members' files are written here",
                         "mlcube configure it first; then sweep with -Pslurm.configure=login")
    own = queue.platform.option("array_limit")
    limit = limit or (own if isinstance(own, int) else None)
    where, _ = prepared.decide(lambda known: where_here(queue, prepared.jobs, lock_place(), known))
    numbers = tuple(member.number for member in decided.members)
    attempt = Attempt(decided.identifier, where.directory, time.time(), numbers, limit, None, queue.platform.runner)
    decided = remember(attempt)
    parts = []
    for member, job, plan in zip(decided.members, prepared.jobs, decided.plans):
        layout = in_batch(queue, Layout(os.path.join(where.directory, str(member.number)),
                                        {job.run_id: where.tasks[job.run_id]}, where.locks))
        parts.append(Part(layout.directory, tuple(layout.tasks.items()), program(plan, layout), secrets_of(plan, layout)))

    def checked(known: Facts) -> tuple[Batch, tuple[str, ...]]:
        largest = queue.scheduler.largest_array(queue.platform, known)
        array = queue.scheduler.array_file(queue.platform, prepared.jobs[0], decided.plans[0], where.directory,
                                           _first_array(numbers, largest), limit)
        batch = Batch(where.directory, tuple(parts), array, limit, largest)
        return batch, queue.scheduler.check(queue.platform, batch, prepared.jobs, known)

    (batch, notes), _ = prepared.decide(checked)
    return _Queued(arguments, decided, attempt, queue, batch), notes


def _first_array(numbers: Sequence[int], largest: int | None) -> list[int]:
    """The numbers that the first of the arrays has, where one may have so many: the others are said as they are handed over."""
    if not largest:
        return list(numbers)
    before = (numbers[0] - 1) // largest * largest
    return [number - before for number in numbers if number <= before + largest]


def _hand_over(queued: _Queued, session: Session) -> None:
    """Enter it into the index, and submit it: one call, whatever the number of members. Raises MachineError."""
    entry = entry_of(queued.decided, queued.attempt, queued.supervised([]))
    refuse_others(entry)
    nonce, said = new_nonce(), list[bytes]()
    session.stream(HERE.command(queued.queue.scheduler.submit(queued.batch, nonce)), said.append)
    answer = answer_of(b"".join(said).decode("utf-8", "replace"), nonce) or "it gave no answer"
    if not answer.startswith("submitted "):
        forget(here(), entry.id)
        raise not_started(queued.name, answer)
    jobs = answer.split()[1:]
    record_queued(queued.arguments, queued.decided)
    keep_index(here(), replace(entry, supervised=queued.supervised(jobs)))
    arrays = named_jobs(answer)
    output.say(f"{len(jobs)} members are queued on {queued.name} as array {arrays}")


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
    ends = decider(queued.arguments, session, True, f"the {len(queued.batch.parts)} members on {queued.name}")
    pause, question, asked_at = _FIRST_PAUSE, _FIRST_QUESTION, time.monotonic()
    mine = set(queued.attempt.members)
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
                return
            progress.note(sum(1 for one in standings if one.status == QUEUED))
            session.pause(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.3)
            if session.interrupted and not _cancelled(queued, session, result, ends):
                return


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
    from mlcube_cli.run_index import read_entry

    entry = read_entry(os.path.join(here(), f"{queued.attempt.id}.json"))
    jobs = [part.job for part in entry.supervised.parts] if entry and entry.supervised else []
    ask(HERE.command(queued.queue.scheduler.cancel(jobs, again, new_nonce())))
    return not again
