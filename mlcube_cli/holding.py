"""Two runs never write into the same output at once (RULINGS 32): the index of runs says who writes where.

An entry of the index holds the paths that it writes from before its start until it has ended: of a run that this process
attends to, in the background, on another machine and in a batch system alike. Looking and writing the entry is one, under a
lock for a moment; a run that was killed holds nothing, unless what it started is still there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mlcube_cli.command import Command
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Observation
from mlcube_cli.family import MARKER
from mlcube_cli.locks import lock
from mlcube_cli.relocation import meet
from mlcube_cli.remains import ENGINE, PROCESS, remains_of
from mlcube_cli.run_index import Entry, read_entry, write_entry
from mlcube_cli.run_states import look_at

Ask = Callable[[Command], Observation]
_PATIENCE = 30.0  # seconds for the others' moment
_ROUNDS = 10  # of asking how those stand who were there first
# How an entry says that it has ended and has left nothing (run_index.py): it is not looked at any further.
_FREE = (b'\n "settled": true', b'\n "leftovers": []', b'\n "processes": {}')


@dataclass(frozen=True)
class Holder:
    """A run that writes where another one would. `path`: of the other one's; `trouble`: why its place could not be asked;
    `remains`: it was killed, and what it started is still there."""

    entry: Entry
    path: str
    trouble: str = ""
    remains: bool = False


def hold(directory: str, entry: Entry, ask: Ask) -> None:
    """Write the entry into the index in this directory, unless another run writes into one of its outputs.

    Raises MachineError where one does, OSError where the index cannot be written.
    """
    free: set[str] = set()
    for _ in range(_ROUNDS):
        found: list[Holder] = []
        if not any(entry.writes.values()):
            write_entry(directory, entry)
            return
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with lock(os.path.join(os.path.dirname(directory), "locks"), "the outputs of runs", _PATIENCE, lambda said: None):
            found = [holder for holder in _others(directory, entry) if holder.entry.id not in free]
            if not found:
                write_entry(directory, entry)
                return
        for holder in found:  # without the lock: another machine may take its time
            refuse(_as_it_stands(directory, holder, ask))
            free.add(holder.entry.id)
    raise MachineError("runs come and go that write into the same outputs", "try again, or give this one other outputs")


def refuse_held(directory: str, entry: Entry, ask: Ask) -> None:
    """Raises MachineError where another run writes into one of the entry's outputs, as far as can be told now: `hold` is what
    makes it sure, and this saves what would be done before."""
    for holder in _others(directory, entry):
        refuse(_as_it_stands(directory, holder, ask))


def refuse(holder: Holder | None) -> None:
    """Raises MachineError for a run that writes there."""
    if holder is None:
        return
    entry = holder.entry
    names = list(dict.fromkeys(task.task for task in entry.tasks if not task.over)) or [entry.tasks[-1].task]
    tasks = f"task{'s' if len(names) > 1 else ''} " + ", ".join(f"'{name}'" for name in names)
    where = f" on {entry.supervised.place}" if entry.supervised and entry.supervised.place else ""
    if holder.remains:
        raise MachineError(f"{holder.path} is still written by what run {entry.id} ({tasks}) has left, which was killed",
                           "mlcube reap ends it")
    doubt = f"; whether it still runs cannot be told: {holder.trouble}" if holder.trouble else ""
    another = "" if entry.sweep else "; or give this run another output: NAME=PATH"  # members have none but their own
    raise MachineError(f"{holder.path} is being written by run {entry.id} ({tasks}{where}){doubt}",
                       f"mlcube wait {entry.id} waits for its end, mlcube cancel {entry.id} ends it{another}")


def meeting(mine: Mapping[str, tuple[str, ...]], theirs: Mapping[str, tuple[str, ...]]) -> str | None:
    """The first of these paths, by place, that is one of those, or lies above or below one; None. Pure."""
    return next((path for place, paths in mine.items() for path in paths
                 if any(meet(path, other) for other in theirs.get(place, ()))), None)


def _others(directory: str, entry: Entry) -> Iterator[Holder]:
    """Those of the index that may write there."""
    above = os.environ.get(MARKER, "")  # of the task that runs this very mlcube: what it writes is its own matter
    for other in _open_entries(directory):
        path = meeting(entry.writes, other.writes)
        if path is not None and other.id != entry.id and all(task.run_id != above for task in other.tasks):
            yield Holder(other, path)


def _open_entries(directory: str) -> Iterator[Entry]:
    try:
        with os.scandir(directory) as found:
            paths = sorted(one.path for one in found if one.name.endswith(".json") and not one.name.startswith("."))
    except OSError:
        return
    for path in paths:
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except OSError:  # it went meanwhile
            continue
        entry = None if all(sign in content for sign in _FREE) else read_entry(path)
        if entry is not None:
            yield entry


def _as_it_stands(directory: str, holder: Holder, ask: Ask) -> Holder | None:
    """The holder, if it writes there indeed: it is asked."""
    (standing,) = look_at(directory, (holder.entry,), ask)
    entry = standing.entry
    if not entry.over:
        return Holder(entry, holder.path, standing.trouble)
    lost = any(task.status == "lost" for task in entry.tasks)
    left = lost and any(remnant.kind in (PROCESS, ENGINE) for remnant in remains_of(entry, ask))
    return Holder(entry, holder.path, remains=True) if left else None
