"""Finding the records of runs: those of a workspace, those that the index of runs knows, and where their paths are now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mlcube_cli.errors import DefinitionError, UsageError
from mlcube_cli.records import RECORD, RUNS, read_record, status_of


@dataclass(frozen=True)
class Found:
    """A record, with the run directory that it was found in: a workspace may have moved since."""

    directory: str
    record: Mapping[str, object]

    @property
    def path(self) -> str:
        return os.path.join(self.directory, RECORD)

    @property
    def run_id(self) -> str:
        return self.text("run_id")

    @property
    def command_id(self) -> str:
        return self.run_id.rpartition("-")[0]

    @property
    def status(self) -> str:
        return status_of(self.record)

    @property
    def workspace(self) -> str:
        """Where the workspace of the run is now: above the record."""
        above = os.path.dirname(self.directory)
        return above[:-len(RUNS) - 1] if above.endswith(f"/{RUNS}") else self.text("workspace")

    @property
    def root(self) -> str:
        """Where the cube is now, as far as the workspace tells: they move together where one lies in the other."""
        root, workspace = self.text("root", "cube"), self.text("workspace")
        inside = os.path.relpath(workspace, root) if root and workspace else ".."
        end = f"/{inside}"
        return self.workspace[:-len(end)] if not inside.startswith("..") and self.workspace.endswith(end) else root

    @property
    def host(self) -> str:
        """The machine where the record was made: the one that has its paths."""
        return self.text("host", "owner") or self.text("host")

    def here(self, path: str) -> str:
        """Where a path of the record is now."""
        for before, now in ((self.text("workspace"), self.workspace), (self.text("root", "cube"), self.root)):
            if before and (path == before or path.startswith(before + "/")):
                return now + path[len(before):]
        return path

    def holds(self, path: str) -> bool:
        """Is the path in the workspace, as it is now? Such a one is here, whichever machine made the record."""
        return (path + "/").startswith(self.workspace + "/")

    def text(self, key: str, section: str = "") -> str:
        data = self.record.get(section) if section else self.record
        value = data.get(key) if isinstance(data, dict) else None
        return value if isinstance(value, str) else ""


def runs_of(workspace: str) -> tuple[list[Found], list[str]]:
    """The records of a workspace, the newest first; and a sentence for each that is broken."""
    place = os.path.join(workspace, RUNS)
    try:
        with os.scandir(place) as entries:
            names = sorted((entry.name for entry in entries), reverse=True)
    except OSError:
        return [], []
    found, broken = load_all(os.path.join(place, name) for name in names)
    return sorted(found, key=lambda run: (run.text("started"), run.run_id), reverse=True), broken


def newest_first(workspace: str) -> Iterator[Found]:
    """The records of a workspace, the newest first, each read when it is asked for; broken ones are left out."""
    place = os.path.join(workspace, RUNS)
    try:
        with os.scandir(place) as entries:
            names = sorted((entry.name for entry in entries), reverse=True)
    except OSError:
        return
    for _, same in groupby(names, lambda name: name.partition("-")[0]):  # a run's id says when, to the second
        found, _ = load_all(os.path.join(place, name) for name in same)
        yield from sorted(found, key=lambda run: (run.text("started"), run.run_id), reverse=True)


def load_all(directories: Iterable[str]) -> tuple[list[Found], list[str]]:
    """The records of these run directories, in their order, without those that have none; and a sentence for each broken
    one, and one for all that are closed to us."""
    found: list[Found] = []
    broken: list[str] = []
    closed: list[str] = []
    for directory in directories:
        try:
            os.lstat(os.path.join(directory, RECORD))
            found.append(Found(directory, read_record(directory)))
        except PermissionError:
            closed.append(directory)
        except OSError:
            continue
        except DefinitionError as error:
            broken.append(error.message)
    if closed:
        broken.append(f"{len(closed)} run{'s are' if len(closed) > 1 else ' is'} another user's, and not shown: {closed[0]}")
    return found, broken


def load_one(word: str) -> Found | None:
    """The record that a path names, itself or by its directory; None where the word is no such path.

    Raises DefinitionError for a broken record.
    """
    directory = os.path.dirname(word) if os.path.basename(word) == RECORD else word
    if "/" not in word and not os.path.isdir(word):
        return None
    if not os.path.lexists(os.path.join(directory, RECORD)):
        return None
    return Found(os.path.abspath(directory), read_record(directory))


def choose(runs: Sequence[Found], word: str | None) -> list[Found]:
    """The run of that id, all tasks of the command of that id in their order, or those of the one that has the word in its
    id; None: the newest command. Raises UsageError."""
    if not runs:
        raise UsageError("there is no record of a run here", "mlcube run leaves one; --mlcube CUBE names another cube")
    exact = [run for run in runs if word == run.run_id]
    if exact:
        return exact[:1]
    wanted = runs[0].command_id if word is None else word
    commands = {run.command_id for run in runs if wanted in run.command_id}
    if len(commands) == 1:
        return sorted((run for run in runs if run.command_id in commands), key=_number)
    parts = [run for run in runs if wanted in run.run_id]
    if len(parts) == 1:
        return parts
    if not parts:
        raise UsageError(f"there is no run '{word}'", "mlcube runs list shows the runs of a cube")
    names = ", ".join(run.run_id for run in parts[:4]) + (", ..." if len(parts) > 4 else "")
    raise UsageError(f"'{word}' may be any of {len(parts)} runs: {names}", "give more of the id")


def _number(run: Found) -> tuple[int, str]:
    last = run.run_id.rpartition("-")[2]
    return (int(last) if last.isdigit() else 0, run.run_id)
