"""What was started, when and where: a small file for each command line below the state directory (RULINGS 37).

So `ps`, `logs`, `wait`, `cancel`, `fetch` and `reap` find a run from any terminal, and after a restart. What the index
says is a memory, not the truth: how a run stands is asked where it is (run_states.py).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcube_cli.atomic import write_text
from mlcube_cli.command import Plan
from mlcube_cli.errors import UsageError
from mlcube_cli.run_entries import (
    ENDED,
    SCHEMA,
    Entry,
    Leftover,
    QueuedPart,
    RunTask,
    Started,
    Supervised,
    as_data,
    from_data,
)

__all__ = ("ENDED", "KEPT", "SCHEMA", "Entry", "Index", "Leftover", "QueuedPart", "RunTask", "Started", "Supervised", "as_data",
           "concluded", "find_runs", "forget", "from_data", "index_directory", "leftovers_of", "make_room", "read_entry",
           "read_index", "state_directory", "with_tasks", "write_entry")

KEPT = 500  # entries; beyond that the oldest of those that have ended go


@dataclass(frozen=True)
class Index:
    """All entries, the newest first, and the files that are none."""

    entries: tuple[Entry, ...] = ()
    broken: tuple[str, ...] = field(default=())


def state_directory(environment: Mapping[str, str], home: str) -> str:
    """`$XDG_STATE_HOME/mlcube`, else `~/.local/state/mlcube`; whether it is there or not."""
    base = environment.get("XDG_STATE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.join(home, ".local", "state"), "mlcube")


def index_directory(environment: Mapping[str, str], home: str) -> str:
    return os.path.join(state_directory(environment, home), "runs")


def write_entry(directory: str, entry: Entry) -> str:
    """Keep the entry, by rename, in a file of mode 0600; returns its path. Raises OSError.

    The directory is made with mode 0700. One that belongs to somebody else (sudo keeps HOME), or that others may write
    into, is not used.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.stat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(1, "it belongs to somebody else, or others may write into it", directory)
    path = _file(directory, entry.id)
    before = os.umask(0o077)
    try:
        write_text(path, json.dumps(as_data(entry), indent=1, ensure_ascii=True) + "\n")
    finally:
        os.umask(before)
    return path


def make_room(directory: str, kept: int = KEPT) -> None:
    """Forget the oldest of those that have ended, where there are more than `kept` in all. Never raises."""
    names = _names(directory)
    for name in names[:max(0, len(names) - kept)]:
        entry = read_entry(os.path.join(directory, name))
        if entry is None or entry.settled:
            forget(directory, name[:-len(".json")])


def forget(directory: str, identifier: str) -> None:
    """Remove the entry, and what else is kept beside it under its name."""
    for ending in (".json", ".manifest"):
        try:
            os.unlink(os.path.join(directory, identifier + ending))
        except OSError:  # gone, or not ours to remove
            pass


def read_index(directory: str) -> Index:
    """What is in the index now. Files that are no entries are named, and are in nobody's way. Never raises."""
    found = [(name, read_entry(os.path.join(directory, name))) for name in reversed(_names(directory))]
    return Index(tuple(entry for _, entry in found if entry is not None),
                 tuple(os.path.join(directory, name) for name, entry in found if entry is None))


def read_entry(path: str) -> Entry | None:
    """The entry in this file; None for what cannot be read as one."""
    try:
        with open(path, encoding="utf-8") as stream:
            entry = from_data(json.load(stream))
        return entry if os.path.basename(path) == f"{entry.id}.json" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_runs(entries: Sequence[Entry], word: str | None) -> tuple[Entry, tuple[RunTask, ...]]:
    """The command line, and which of its tasks, that a word means: a run id, a command id, or a part of one that only one
    has; None: the newest. Raises UsageError."""
    if word is None:
        if not entries:
            raise UsageError("nothing was started so far", "mlcube run starts a task; mlcube ps shows what was started")
        return entries[0], entries[0].tasks
    whole: list[tuple[Entry, tuple[RunTask, ...]]] = [
        (entry, (task,)) for entry in entries for task in entry.tasks if task.run_id == word]
    whole += [(entry, entry.tasks) for entry in entries if entry.id == word]
    if whole:
        return whole[0]
    commands = [entry for entry in entries if word in entry.id]
    if len(commands) == 1:
        return commands[0], commands[0].tasks
    runs = [(entry, (task,)) for entry in entries for task in entry.tasks if word in task.run_id]
    if len(runs) == 1 and not commands:
        return runs[0]
    if commands or runs:
        several = [entry.id for entry in commands] or [task.run_id for _, (task,) in runs]
        raise UsageError(f"'{word}' may be any of {len(several)} runs: {', '.join(several[:4])}"
                         f"{', ...' if len(several) > 4 else ''}", "give more of the id")
    raise UsageError(f"there is no run '{word}'", "mlcube ps --all lists all that are known here")


def with_tasks(entry: Entry, tasks: Mapping[str, RunTask]) -> Entry:
    """The entry with these tasks, by run id, in the places of its own."""
    return replace(entry, tasks=tuple(tasks.get(task.run_id, task) for task in entry.tasks))


def leftovers_of(plan: Plan) -> tuple[Leftover, ...]:
    """What the plan's steps may leave when they are cut short. Pure."""
    found = [Leftover(f"the container of '{step.title}'", step.stop.find, (step.stop.kill, step.stop.remove))
             for step in plan.steps if step.stop]
    found += [Leftover(f"temporary files of '{step.title}'", None, step.after) for step in plan.steps if step.after]
    return tuple(dict.fromkeys(found))


def concluded(entry: Entry, status: str, exit_code: int | None, message: str = "", runs: Container[str] | None = None) -> Entry:
    """The entry of a command line that has ended so: what it was to do next has that status, what comes after is cancelled.

    A task that never began has no exit code of its own. `runs`: the ids of those that have ended so, where others go on.
    """
    mine = [task for task in entry.tasks if runs is None or task.run_id in runs]
    rest = [task for task in mine if not task.over]
    tasks = {task.run_id: replace(task, status="cancelled", waiting="") for task in rest}
    if rest and all(task.status == "succeeded" for task in mine if task.over):
        tasks[rest[0].run_id] = replace(rest[0], status=status if status in ENDED else "lost", exit_code=exit_code,
                                          waiting="")
    return replace(with_tasks(entry, tasks), message=message or entry.message)


def _file(directory: str, identifier: str) -> str:
    return os.path.join(directory, f"{identifier}.json")


def _names(directory: str) -> list[str]:
    """The files of the index, the oldest first: the ids sort by time."""
    try:
        with os.scandir(directory) as found:
            return sorted(one.name for one in found if one.name.endswith(".json") and not one.name.startswith("."))
    except OSError:
        return []
