"""The entries of the index of runs, as values and as JSON: what was started, when, where, and how it stood when last seen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlcube_cli.command import Command, Variable
from mlcube_cli.locks import Owner
from mlcube_cli.relocation import is_at_or_below

SCHEMA = "mlcube.run-index.v1"
ENDED = frozenset(("succeeded", "failed", "usage", "invalid", "environment", "preparation", "transfer", "timed_out",
                   "cancelled", "lost"))  # of RULINGS 27, all but queued and running


@dataclass(frozen=True)
class RunTask:
    """A task of a command line. `directory`: the run's own on this machine, where its record and its logs are."""

    task: str
    run_id: str
    directory: str
    status: str = "queued"  # as it was last seen
    exit_code: int | None = None
    started: float | None = None  # seconds since the epoch
    ended: float | None = None
    node: str = ""  # the machine of a batch system that carries it out
    waiting: str = ""  # why a batch system does not start it yet, in its own words

    @property
    def over(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class QueuedPart:
    """One job of a batch system: the supervised command directory that it carries out, its id, and the ids of its runs."""

    directory: str
    job: str  # "123", or of an array's member "123_7"
    runs: tuple[str, ...]


def directories_of(directory: str, parts: Sequence[str]) -> tuple[str, ...]:
    """A command's directory, and those that hold its jobs' directories (`parts`) and lie elsewhere."""
    above = (os.path.dirname(part) for part in parts)
    return (directory, *dict.fromkeys(place for place in above if not is_at_or_below(place, directory)))


@dataclass(frozen=True)
class Supervised:
    """A command line that a supervisor carries out. `reach`: the words of the Place where it is (place.py).

    With a `scheduler`, a batch system starts a supervisor for each of the `parts`, below `directory`: in a chain, where each
    begins when the one before has succeeded, or as the members of arrays.
    """

    reach: tuple[str, ...]
    place: str  # as the user knows the machine; empty: this one
    directory: str  # the command directory there
    tasks: Mapping[str, str]  # run id -> task directory there
    ahead: float = 0.0  # seconds that the clock there is ahead of ours
    scheduler: str = ""  # the name of the runner that knows the batch system (runner.load_scheduler)
    parts: tuple[QueuedPart, ...] = ()

    @property
    def directories(self) -> tuple[str, ...]:
        """What goes when the run does: the command directory, then those of its jobs that are elsewhere."""
        return directories_of(self.directory, [part.directory for part in self.parts])

    @property
    def all_parts(self) -> tuple[QueuedPart, ...]:
        """The command directories with their runs: the parts, or the one that is no batch system's."""
        return self.parts or (QueuedPart(self.directory, "", tuple(self.tasks)),)

    @property
    def is_chain(self) -> bool:
        """Does each part begin only when the one before has succeeded? The members of an array, and of a sweep here, do not."""
        return not self.parts or (bool(self.scheduler) and all("_" not in part.job for part in self.parts))

    def job_of(self, run_id: str) -> str:
        """The job that carries out this run; empty where there is none."""
        return next((part.job for part in self.parts if run_id in part.runs), "")


@dataclass(frozen=True)
class Leftover:
    """What a step leaves when whoever carries it out is killed. `find` says something where it is there; None: unknown."""

    title: str
    find: Command | None
    remove: tuple[Command, ...]


@dataclass(frozen=True)
class Started:
    """The process of this machine that a task began with. `passes_on`: it alone gets TERM (family.py)."""

    pid: int
    start: str  # when, in the kernel's own words (locks.py)
    passes_on: bool = False


@dataclass(frozen=True)
class Entry:
    """One command line. `owner`: the process on this machine that looks after it. `fetch`: the WHERE runner's own data.

    `leftovers` stand here, and not in the record, since a task may write into its workspace, and these are carried out.
    """

    id: str
    started: float  # seconds since the epoch
    cube: str
    root: str
    workspace: str
    platform: str
    runner: str
    tasks: tuple[RunTask, ...]
    owner: Owner | None = None
    supervised: Supervised | None = None
    fetch: Mapping[str, Any] | None = None
    settled: bool = False  # all have ended, and their records are complete
    message: str = ""  # what went wrong with the command line as a whole
    leftovers: tuple[Leftover, ...] = ()  # of what this machine carries out; none once they are gone
    cleared: bool = False  # the command directory is gone
    processes: Mapping[str, Started] = field(default_factory=dict)  # by run id, as long as they may be there
    writes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the outputs' paths by place ("": here); holding.py
    sweep: str = ""  # the directory of the sweep whose members these tasks are (sweep/document.py)

    @property
    def over(self) -> bool:
        return all(task.over for task in self.tasks)


# --- JSON ----------------------------------------------------------------------------------------------------------


def as_data(entry: Entry) -> dict[str, Any]:
    """The entry as JSON data."""
    supervised = entry.supervised
    return {
        "schema": SCHEMA, "id": entry.id, "started": entry.started, "cube": {"name": entry.cube, "root": entry.root},
        "workspace": entry.workspace, "platform": {"name": entry.platform, "runner": entry.runner},
        "tasks": [dict(vars(task)) for task in entry.tasks],
        "owner": {name: value for name, value in vars(entry.owner).items() if name != "token"} if entry.owner else None,
        "supervised": {"reach": list(supervised.reach), "place": supervised.place, "directory": supervised.directory,
                       "tasks": dict(supervised.tasks), "ahead": supervised.ahead, "scheduler": supervised.scheduler,
                       "parts": [{"directory": part.directory, "job": part.job, "runs": list(part.runs)}
                                 for part in supervised.parts]} if supervised else None,
        "fetch": entry.fetch, "settled": entry.settled, "message": entry.message, "cleared": entry.cleared,
        "processes": {run_id: dict(vars(one)) for run_id, one in entry.processes.items()},
        "writes": {place: list(paths) for place, paths in entry.writes.items()}, "sweep": entry.sweep,
        "leftovers": [{"title": one.title, "find": _command_data(one.find) if one.find else None,
                       "remove": [_command_data(command) for command in one.remove]} for one in entry.leftovers],
    }


def _command_data(command: Command) -> dict[str, Any]:
    """Without what is secret: what removes a thing needs none of it."""
    return {"argv": list(command.argv), "cwd": command.cwd,
            "env": {variable.name: variable.value for variable in command.env if not variable.secret}}


def _command(data: Mapping[str, Any]) -> Command:
    variables = tuple(Variable(str(name), None if value is None else str(value)) for name, value in data["env"].items())
    return Command(tuple(str(word) for word in data["argv"]), variables, None if data["cwd"] is None else str(data["cwd"]))


def _leftover(data: Mapping[str, Any]) -> Leftover:
    return Leftover(str(data["title"]), _command(data["find"]) if data["find"] else None,
                    tuple(_command(command) for command in data["remove"]))


def from_data(data: Mapping[str, Any]) -> Entry:
    """The entry of JSON data. Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    if data["schema"] != SCHEMA:
        raise ValueError(data["schema"])
    return Entry(
        id=str(data["id"]), started=float(data["started"]), cube=str(data["cube"]["name"]), root=str(data["cube"]["root"]),
        workspace=str(data["workspace"]), platform=str(data["platform"]["name"]), runner=str(data["platform"]["runner"]),
        tasks=tuple(_task(task) for task in data["tasks"]),
        owner=_owner(data["owner"]) if data["owner"] else None,
        supervised=_supervised(data["supervised"]) if data["supervised"] else None,
        fetch=data["fetch"], settled=bool(data["settled"]), message=str(data["message"]),
        leftovers=tuple(_leftover(one) for one in data["leftovers"]), cleared=bool(data["cleared"]),
        processes={str(run_id): Started(int(one["pid"]), str(one["start"]), bool(one["passes_on"]))
                   for run_id, one in data["processes"].items()},
        writes={str(place): tuple(str(path) for path in paths) for place, paths in data.get("writes", {}).items()},
        sweep=str(data.get("sweep", "")))


def _owner(data: Mapping[str, Any]) -> Owner:
    return Owner(int(data["pid"]), str(data["start"]), str(data["host"]), str(data["boot"]), str(data["space"]), token="")


def _supervised(data: Mapping[str, Any]) -> Supervised:
    tasks = {str(run_id): str(directory) for run_id, directory in data["tasks"].items()}
    parts = tuple(QueuedPart(str(part["directory"]), str(part["job"]), tuple(str(run_id) for run_id in part["runs"]))
                  for part in data.get("parts", ()))
    return Supervised(tuple(str(word) for word in data["reach"]), str(data["place"]), str(data["directory"]), tasks,
                      float(data.get("ahead", 0.0)), str(data.get("scheduler", "")), parts)


def _task(data: Mapping[str, Any]) -> RunTask:
    exit_code, started, ended = data["exit_code"], data["started"], data["ended"]
    return RunTask(str(data["task"]), str(data["run_id"]), str(data["directory"]), str(data["status"]),
                   None if exit_code is None else int(exit_code), None if started is None else float(started),
                   None if ended is None else float(ended), str(data.get("node", "")), str(data.get("waiting", "")))
