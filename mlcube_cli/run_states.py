"""How the runs of the index stand now: asked of the processes here and of the places there, and completed where they ended."""

from __future__ import annotations

import contextlib
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
from mlcube_cli.run_index import ENDED, Entry, RunTask, concluded, with_tasks, write_entry
from mlcube_cli.supervision.requests import states
from mlcube_cli.supervision.state import CommandState, TaskState, parse_states

Ask = Callable[[Command], Observation]
LOST_CODE = 4
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
    asked = [entry for entry in entries if _is_supervised(entry) and not entry.over]
    answers: dict[str, CommandState | str] = {}
    for reach in dict.fromkeys(entry.supervised.reach for entry in asked if entry.supervised):
        answers.update(_ask_place([entry for entry in asked if entry.supervised and entry.supervised.reach == reach], ask))
    return tuple(_stand(directory, entry, answers.get(entry.id)) for entry in entries)


def place_of(entry: Entry) -> Place:
    """Where the command line is supervised."""
    assert entry.supervised is not None
    return Place(entry.supervised.reach, entry.supervised.place)


def is_attended(entry: Entry) -> bool:
    """May a process of this or another machine still be looking after it?"""
    return entry.owner is not None and not entry.owner.is_dead(myself())


def refreshed(entry: Entry, state: CommandState) -> Entry:
    """The entry as its supervisor tells it. Pure."""
    for task in state.tasks:
        entry = told(entry, task)
    if state.status not in ENDED:
        return entry
    message = "\nhint: ".join(text for text in (state.message, state.hint) if text)
    return concluded(entry, state.status, state.exit_code, message)


def told(entry: Entry, state: TaskState) -> Entry:
    """The entry with what is said of one of its tasks; times become those of our clock. Pure."""
    task = next((task for task in entry.tasks if task.run_id == state.run_id), None)
    if task is None or not state.status:
        return entry
    ahead = entry.supervised.ahead if entry.supervised else 0.0
    started, ended = (None if moment is None else moment - ahead for moment in (state.started, state.ended))
    return with_tasks(entry, {task.run_id: replace(
        task, status=state.status, exit_code=state.exit_code, started=started or task.started, ended=ended)})


def settle(directory: str, entry: Entry, fetched: bool = False) -> Entry:
    """Complete the records of a supervised run that has ended, once; outputs on another machine count once `fetched`.

    What cannot be written is left for the next one who looks.
    """
    if entry.settled or not entry.over:
        return entry
    assert entry.supervised is not None
    here = not entry.supervised.place or fetched
    for task in entry.tasks:
        try:
            _complete(task, here)
        except (OSError, DefinitionError):
            continue
    entry = replace(entry, settled=here)
    keep(directory, entry)
    return entry


# --- one entry -----------------------------------------------------------------------------------------------------


def _is_supervised(entry: Entry) -> bool:
    return entry.supervised is not None and not is_attended(entry)


def _stand(directory: str, entry: Entry, answer: CommandState | str | None) -> Standing:
    if entry.settled or is_attended(entry):
        return Standing(entry)
    if isinstance(answer, str):
        return Standing(entry, answer)
    before = entry
    if entry.supervised is None:
        entry = replace(_orphaned(entry), settled=True)
        for task in entry.tasks:
            if task.status == LOST:
                with contextlib.suppress(OSError, DefinitionError):
                    _complete(task, True)
    elif answer is not None:
        entry = refreshed(entry, answer)
        _note_begun(before, entry)
    if entry != before:
        keep(directory, entry)
    return Standing(settle(directory, entry) if entry.supervised else entry)


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


def _complete(task: RunTask, here: bool) -> None:
    """Raises OSError, DefinitionError for a record that is not there."""
    if task.status == LOST:
        close_record(task.directory, LOST, LOST_CODE, "the run was lost before it was measured")
        return
    if task.started is None and task.status == "cancelled":
        close_record(task.directory, task.status, None, "the task never started")
        return
    record = {} if here else read_record(task.directory)
    measured = {str(entry.get("name")): _NOT_HERE for which in ("inputs", "outputs")
                for entry in entries_of(record, which) if not entry.get("kind")}
    seconds = None if task.started is None or task.ended is None else max(0.0, task.ended - task.started)
    finish_record(task.directory, Ending(
        task.status, task.exit_code or 0, seconds, task.ended or time.time(), measured=measured))


def keep(directory: str, entry: Entry) -> None:
    """Write the entry as it is now, where that is possible."""
    try:
        write_entry(directory, entry)
    except OSError:  # it is only a memory; the next one who looks learns the same
        pass


# --- places --------------------------------------------------------------------------------------------------------


def _ask_place(entries: Sequence[Entry], ask: Ask) -> dict[str, CommandState | str]:
    """What one place says of these, by their ids; or why it says nothing."""
    nonce = new_nonce()
    script = states({entry.supervised.directory: tuple(entry.supervised.tasks.items())
                     for entry in entries if entry.supervised}, nonce)
    answer = ask(place_of(entries[0]).command(script))
    found = {state.directory: state for state in parse_states(answer.stdout, nonce)}
    trouble = answer.last_line(f"it gave no answer (exit code {answer.exit_code})")
    return {entry.id: found.get(entry.supervised.directory, trouble) for entry in entries if entry.supervised}
