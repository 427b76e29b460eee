"""How the runs of the index stand now: asked of the processes here and of the places there, and completed where they ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.command import Command
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Observation
from mlcube_cli.locks import myself
from mlcube_cli.place import Place, new_nonce
from mlcube_cli.records import (
    LOST,
    RUNNING,
    Ending,
    close_record,
    entries_of,
    finish_record,
    read_record,
    start_record,
)
from mlcube_cli.run_index import ENDED, Entry, QueuedPart, RunTask, Supervised, concluded, with_tasks, write_entry
from mlcube_cli.runner import load_scheduler
from mlcube_cli.supervision.requests import answer_of, cancel, forget_secrets, jobs_noted, states
from mlcube_cli.supervision.state import LOST_CODE, CommandState, TaskState, parse_report, parse_states

Ask = Callable[[Command], Observation]
_NOT_HERE = {"kind": "", "note": "not fetched yet"}


@dataclass(frozen=True)
class Standing:
    """An entry as it stands now; `trouble`: why its place could not be asked, so that it stands as it was last seen."""

    entry: Entry
    trouble: str = ""


def look_at(directory: str, entries: Sequence[Entry], ask: Ask) -> tuple[Standing, ...]:
    """How each of them stands, each place asked once; what is new is written into the index, and records are completed.

    `ask` runs a command that sends a script to a place. Never raises for what a place says.
    """
    entries = [_with_jobs(directory, entry, ask) if _is_supervised(entry) and not entry.over else entry for entry in entries]
    asked = [entry for entry in entries if _is_supervised(entry) and not entry.over]
    answers: dict[str, tuple[CommandState, ...] | str] = {}
    for reach in dict.fromkeys(entry.supervised.reach for entry in asked if entry.supervised):
        answers.update(_ask_place([entry for entry in asked if entry.supervised and entry.supervised.reach == reach], ask))
    return tuple(_stand(directory, entry, answers.get(entry.id), ask) for entry in entries)


def place_of(entry: Entry) -> Place:
    """Where the command line is supervised."""
    assert entry.supervised is not None
    return Place(entry.supervised.reach, entry.supervised.place)


def ending(supervised: Supervised, hard: bool, nonce: str, signal: int = 15) -> str:
    """The script that ends the command line: at its supervisor, or the jobs of its batch system. Its answers are those of
    `requests.cancel`."""
    if not supervised.scheduler:
        return cancel(supervised.directory, hard, nonce, signal)
    jobs = tuple((part.directory, part.job) for part in supervised.parts)
    return load_scheduler(supervised.scheduler).cancel(jobs, hard, nonce)


def is_attended(entry: Entry) -> bool:
    """May a process of this or another machine still be looking after it?"""
    return entry.owner is not None and not entry.owner.is_dead(myself())


def refreshed(entry: Entry, state: CommandState, part: QueuedPart | None = None) -> Entry:
    """The entry as its supervisor, or that of one `part` of it, tells it. Pure."""
    for task in state.tasks:
        entry = told(entry, task)
    if part is not None:
        entry = with_tasks(entry, {task.run_id: replace(
            task, node=state.node or state.host or task.node, waiting="" if task.over else state.waiting)
            for task in entry.tasks if task.run_id in part.runs})
    if state.status not in ENDED:
        return entry
    message = "\nhint: ".join(text for text in (state.message, state.hint) if text)
    if part is None or not (part.runs or state.status == "succeeded"):
        return concluded(entry, state.status, state.exit_code, message)
    entry = concluded(entry, state.status, state.exit_code, entry.message or message, part.runs)
    return _without_those_after(entry, part) if state.status != "succeeded" else entry


def _without_those_after(entry: Entry, part: QueuedPart) -> Entry:
    """The entry of a chain whose `part` did not succeed: those that wait for it never start."""
    supervised = entry.supervised
    if supervised is None or not supervised.is_chain or part not in supervised.parts:
        return entry
    later = {run_id for one in supervised.parts[supervised.parts.index(part) + 1:] for run_id in one.runs}
    return with_tasks(entry, {task.run_id: replace(task, status="cancelled", waiting="")
                              for task in entry.tasks if task.run_id in later and not task.over})


def told(entry: Entry, state: TaskState) -> Entry:
    """The entry with what is said of one of its tasks; times become those of our clock. Pure."""
    task = next((task for task in entry.tasks if task.run_id == state.run_id), None)
    if task is None or not state.status:
        return entry
    ahead = entry.supervised.ahead if entry.supervised else 0.0
    started, ended = (None if moment is None else moment - ahead for moment in (state.started, state.ended))
    return with_tasks(entry, {task.run_id: replace(
        task, status=state.status, exit_code=state.exit_code, started=started or task.started, ended=ended)})


def settle(directory: str, entry: Entry, fetched: bool = False, ask: Ask | None = None) -> Entry:
    """Complete the records of a supervised run that has ended, once; outputs on another machine count once `fetched`.

    What cannot be written is left for the next one who looks. Where a batch system has ended a job, the secrets that it might
    have needed again go, through `ask`.
    """
    if entry.settled or not entry.over:
        return entry
    assert entry.supervised is not None
    if ask and any(task.status != "succeeded" for task in entry.tasks) and entry.supervised.parts:
        ask(place_of(entry).command(forget_secrets([part.directory for part in entry.supervised.parts])))
    here = not entry.supervised.place or fetched
    for task in entry.tasks:
        try:
            _complete(task, here, entry.supervised.job_of(task.run_id))
        except (OSError, DefinitionError):
            continue
    entry = replace(entry, settled=here)
    keep(directory, entry)
    return entry


# --- one entry -----------------------------------------------------------------------------------------------------


def _is_supervised(entry: Entry) -> bool:
    return entry.supervised is not None and not is_attended(entry)


def _stand(directory: str, entry: Entry, answer: tuple[CommandState, ...] | str | None, ask: Ask) -> Standing:
    if entry.settled or is_attended(entry):
        return Standing(entry)
    if isinstance(answer, str):
        return Standing(entry, answer)
    before, trouble = entry, ""
    if entry.supervised is None:
        entry = replace(_orphaned(entry), settled=True)
        for task in entry.tasks:
            if task.status == LOST:
                with contextlib.suppress(OSError, DefinitionError):
                    _complete(task, True)
    elif answer is not None:
        parts = {part.directory: part for part in entry.supervised.parts}
        for state in answer:
            entry = refreshed(entry, state, parts.get(state.directory))
        trouble = next((state.silence for state in answer if state.silence), "")
        _note_begun(before, entry)
    if entry != before:
        keep(directory, entry)
    return Standing(settle(directory, entry, ask=ask) if entry.supervised else entry, "" if entry.over else trouble)


def _note_begun(before: Entry, now: Entry) -> None:
    """The records of the tasks that have begun since. Where that cannot be written, their end will be."""
    for old, task in zip(before.tasks, now.tasks):
        if task.status == RUNNING and old.status != RUNNING:
            with contextlib.suppress(OSError, DefinitionError):
                start_record(task.directory, task.started)


def _orphaned(entry: Entry) -> Entry:
    """Whoever looked after it is gone: what its tasks' records do not tell the end of is lost (RULINGS 27)."""
    return concluded(with_tasks(entry, {task.run_id: _recorded(task) for task in entry.tasks}), "lost", LOST_CODE)


def _recorded(task: RunTask) -> RunTask:
    if task.over:
        return task
    try:
        record = read_record(task.directory)
    except DefinitionError:
        return task
    status, code = record.get("status"), record.get("exit_code")
    if status not in ENDED or not isinstance(code, int):
        return task
    return replace(task, status=str(status), exit_code=code)


def _complete(task: RunTask, here: bool, job: str = "") -> None:
    """`job`: of a batch system. Raises OSError, DefinitionError for a record that is not there."""
    if task.status == LOST:
        close_record(task.directory, LOST, LOST_CODE, "the run was lost before it was measured")
        return
    if task.started is None and task.status == "cancelled":
        close_record(task.directory, task.status, None, "the task never started")
        return
    if task.started is not None:
        start_record(task.directory, task.started)  # it may have begun and ended while nobody looked
    record = {} if here else read_record(task.directory)
    measured = {str(entry.get("name")): _NOT_HERE for which in ("inputs", "outputs")
                for entry in entries_of(record, which) if not entry.get("kind")}
    seconds = None if task.started is None or task.ended is None else max(0.0, task.ended - task.started)
    finish_record(task.directory, Ending(
        task.status, task.exit_code or 0, seconds, task.ended or time.time(), measured=measured, job=job, node=task.node))


def keep(directory: str, entry: Entry) -> None:
    """Write the entry as it is now, where that is possible."""
    try:
        write_entry(directory, entry)
    except OSError:  # it is only a memory; the next one who looks learns the same
        pass


# --- places --------------------------------------------------------------------------------------------------------


def _ask_place(entries: Sequence[Entry], ask: Ask) -> dict[str, tuple[CommandState, ...] | str]:
    """What one place says of these, by their ids; or why it says nothing. Its batch system is asked once for all."""
    nonce = new_nonce()
    parts = {entry.id: _open_parts(entry) for entry in entries}
    scheduled = [(entry.supervised.scheduler, part) for entry in entries if entry.supervised and entry.supervised.scheduler
                 for part in parts[entry.id]]
    script = states({part.directory: tuple((run_id, entry.supervised.tasks[run_id]) for run_id in part.runs)
                     for entry in entries if entry.supervised for part in parts[entry.id]}, nonce, _queue(scheduled))
    answer = ask(place_of(entries[0]).command(script))
    jobs = {part.directory: (name, part.job) for name, part in scheduled}
    report = parse_report(answer.stdout, nonce)
    found = {state.directory: state for state in parse_states(answer.stdout, nonce, jobs)}
    for directory, (name, job) in jobs.items():
        if directory in found:
            found[directory] = load_scheduler(name).judge(found[directory], job, report)
    trouble = answer.last_line(f"it gave no answer (exit code {answer.exit_code})")
    return {entry.id: tuple(found[part.directory] for part in parts[entry.id])
            if all(part.directory in found for part in parts[entry.id]) else trouble for entry in entries}


def _with_jobs(directory: str, entry: Entry, ask: Ask) -> Entry:
    """With the ids of its jobs, where whoever handed them over went before he could write them down: as their batch's directory
    has them, which all parts lie in."""
    supervised = entry.supervised
    if supervised is None or not supervised.scheduler or all(part.job for part in supervised.parts):
        return entry
    nonce = new_nonce()
    batch = os.path.dirname(supervised.parts[0].directory)
    noted = answer_of(ask(place_of(entry).command(jobs_noted(batch, nonce))).stdout, nonce)
    if noted == "absent":
        return concluded(entry, LOST, LOST_CODE, "its jobs were never handed over")
    word, *jobs = (noted or "-").split()
    if word != "submitted" or len(jobs) != len(supervised.parts):
        return entry
    parts = tuple(replace(part, job=job) for part, job in zip(supervised.parts, jobs))
    entry = replace(entry, supervised=replace(supervised, parts=parts))
    keep(directory, entry)
    return entry


def _open_parts(entry: Entry) -> tuple[QueuedPart, ...]:
    """Those that may go on; and, before anything has begun, what only prepares."""
    assert entry.supervised is not None
    going_on = {task.run_id for task in entry.tasks if not task.over}
    untouched = len(going_on) == len(entry.tasks)
    return tuple(part for part in entry.supervised.all_parts
                 if going_on.intersection(part.runs) or (untouched and not part.runs))


def _queue(scheduled: Sequence[tuple[str, QueuedPart]]) -> str:
    """What asks the batch system of a place about its jobs; a place has one."""
    if not scheduled:
        return ""
    return load_scheduler(scheduled[0][0]).queue_functions([(part.directory, part.job) for _, part in scheduled])
