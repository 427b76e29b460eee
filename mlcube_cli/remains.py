"""What runs that nobody attends to any more have left: found, and removed. Only what is theirs, never an output (RULINGS 34).

Whose it is, the index says: a run of ours whose owner is gone for sure, by host, boot id, process id and start time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlcube_cli.command import Command
from mlcube_cli.facts import Observation
from mlcube_cli.family import Family, end, marked
from mlcube_cli.locks import myself, start_time
from mlcube_cli.place import new_nonce
from mlcube_cli.run_index import Entry, Index, Leftover, RunTask, forget
from mlcube_cli.run_states import Standing, ending, is_attended, keep, place_of
from mlcube_cli.supervision.requests import answer_of, remove

Ask = Callable[[Command], Observation]
_GRACE = 10.0  # seconds between TERM and KILL
PROCESS, ENGINE, FILES, DIRECTORY, ENTRY = "process", "container", "files", "directory", "entry"


@dataclass(frozen=True)
class Remnant:
    """One thing that is left. `run`: the id of its run or command line; `place`: the machine, empty for this one."""

    kind: str
    run: str
    name: str
    place: str = ""
    leftover: Leftover | None = None
    path: str = ""  # of a directory or an entry


def find_remains(index: Index, standings: Sequence[Standing], ask: Ask) -> tuple[Remnant, ...]:
    """What is left, in the order in which it is to be removed. Looks only."""
    found: list[Remnant] = []
    for standing in standings:
        if standing.trouble or is_attended(standing.entry) or not standing.entry.over:
            continue
        found += remains_of(standing.entry, ask)
    found += [Remnant(ENTRY, os.path.basename(path), f"{path}: cannot be read as a run", path=path) for path in index.broken]
    return tuple(found)


def remains_of(entry: Entry, ask: Ask) -> tuple[Remnant, ...]:
    """What one ended command line has left."""
    return (*_processes(entry), *_leftovers(entry, ask), *_directory(entry), *_forgotten(entry))


def remove_remnant(remnant: Remnant, entry: Entry | None, directory: str, ask: Ask) -> str:
    """Remove it; empty, or why it is still there. `directory`: of the index."""
    if remnant.kind == ENTRY:
        return _forget(remnant, directory)
    assert entry is not None
    if remnant.kind == PROCESS:
        return "" if end(_family(entry, remnant.run), _GRACE) else "some of them could not be ended"
    if remnant.kind == DIRECTORY:
        return _remove_directory(entry, ask)
    assert remnant.leftover is not None
    said = Observation(0)
    for command in remnant.leftover.remove:
        said = ask(command)
    return "" if said.exit_code == 0 else said.last_line(f"exit code {said.exit_code}")


def cleared(entry: Entry, gone: Sequence[Remnant]) -> Entry:
    """The entry without what is gone."""
    left = tuple(one for one in entry.leftovers if all(remnant.leftover != one for remnant in gone))
    return replace(entry, leftovers=left, cleared=entry.cleared or any(remnant.kind == DIRECTORY for remnant in gone))


# --- looking -------------------------------------------------------------------------------------------------------


def _processes(entry: Entry) -> Iterator[Remnant]:
    if entry.supervised is not None and entry.supervised.place:
        return
    for task in entry.tasks:
        pids = sorted(pid for pid in _family(entry, task.run_id).alive() if pid > 0)
        if pids:
            yield Remnant(PROCESS, task.run_id, f"processes of task '{task.task}': {' '.join(map(str, pids))}")


def _family(entry: Entry, run_id: str) -> Family:
    """The processes of a task: with its mark, and those of the one it began with, where that is there and no other one."""
    one, owner = entry.processes.get(run_id), entry.owner
    if one is None or owner is None or owner.host != myself().host or owner.boot != myself().boot:
        return marked(run_id)
    if not one.start or start_time(one.pid)[0] != one.start:
        return marked(run_id)
    return Family(one.pid, True, run_id, one.passes_on)


def _leftovers(entry: Entry, ask: Ask) -> Iterator[Remnant]:
    for one in entry.leftovers:
        if one.find is None:
            yield Remnant(FILES, entry.id, one.title, leftover=one)
            continue
        said = ask(one.find)
        if said.exit_code != 0:
            yield Remnant(ENGINE, entry.id, f"{one.title}, if it is there: {one.find.argv[0]} does not answer", leftover=one)
        elif said.stdout.strip():
            yield Remnant(ENGINE, entry.id, f"{one.title}: {' '.join(said.stdout.split())}", leftover=one)


def _directory(entry: Entry) -> Iterator[Remnant]:
    """Of a supervised run that is lost: what its supervisor was at, and its directory."""
    supervised = entry.supervised
    if supervised is None or entry.cleared or all(task.status != "lost" for task in entry.tasks):
        return
    if not supervised.place and not os.path.lexists(supervised.directory):
        return
    yield Remnant(DIRECTORY, entry.id, supervised.directory, supervised.place, path=supervised.directory)


def _forgotten(entry: Entry) -> Iterator[Remnant]:
    if entry.settled and not entry.leftovers and not any(_is_there(task) for task in entry.tasks):
        yield Remnant(ENTRY, entry.id, f"what is remembered of {entry.id}: {entry.tasks[0].directory} is gone")


def _is_there(task: RunTask) -> bool:
    """Or may it come back: a disk that is not mounted just now?"""
    above = os.path.dirname(os.path.dirname(os.path.dirname(task.directory)))  # the workspace
    return os.path.lexists(task.directory) or not os.path.isdir(above)


# --- removing ------------------------------------------------------------------------------------------------------


def _remove_directory(entry: Entry, ask: Ask) -> str:
    """What its supervisor left behind is ended first."""
    assert entry.supervised is not None
    place, answer = place_of(entry), None
    nonces = new_nonce(), new_nonce()
    requests = ending(entry.supervised, True, nonces[0]), remove(entry.supervised.directories, nonces[1])
    for nonce, request in zip(nonces, requests):
        said = ask(place.command(request))
        answer = answer_of(said.stdout, nonce)
        if answer is None:
            return said.last_line(f"{place.name or 'sh'} gave no answer")
        if answer == "foreign":
            return "another machine supervises it"
    return "" if answer in ("removed", "absent") else f"it is {answer}"


def _forget(remnant: Remnant, directory: str) -> str:
    if not remnant.path:
        forget(directory, remnant.run)
        return ""
    try:
        os.unlink(remnant.path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def clear(directory: str, entry: Entry, remnants: Sequence[Remnant], ask: Ask) -> dict[Remnant, str]:
    """Remove all these of one entry, which is kept without them; each with why it is still there, or nothing."""
    results = {remnant: remove_remnant(remnant, entry, directory, ask) for remnant in remnants}
    gone = [remnant for remnant, obstacle in results.items() if not obstacle]
    if not any(remnant.kind == ENTRY for remnant in gone):
        keep(directory, cleared(entry, gone))
    return results
