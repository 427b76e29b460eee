"""A sweep's own document, `sweep.json` in its directory: what was asked, its members, and each attempt at running them.

The directory is `WORKSPACE/sweeps/ID`; a member's outputs, and its copies of parameters files, lie in `ID/0001` and so on.
How members stand is not in it: that is asked of what they left (standing.py).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING, __version__
from mlcube_cli.atomic import write_text
from mlcube_cli.errors import DefinitionError, UsageError
from mlcube_cli.locks import Owner
from mlcube_cli.records import RUNS
from mlcube_cli.sweep.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCHEMA = "mlcube.sweep.v1"
SWEEPS = "sweeps"  # below the workspace
FILE = "sweep.json"


@dataclass(frozen=True)
class Member:
    """One run of the task. `number` counts from 1."""

    number: int
    values: Mapping[str, Value]

    @property
    def typed(self) -> dict[str, str]:
        return {name: value.text for name, value in self.values.items()}


@dataclass(frozen=True)
class Output:
    """An output of each member. `file`: its name in the member's directory; `home`: the last part of the task's own path."""

    name: str
    file: str
    home: str


@dataclass(frozen=True)
class Attempt:
    """Members that were started together. `id`: their command line's; `directory`: below it each has one of its number.

    `owner`: the process that starts them; None: the batch system does (`scheduler` names it).
    """

    id: str
    directory: str
    started: float  # seconds since the epoch
    members: tuple[int, ...]
    limit: int | None = None  # how many run at once
    owner: Owner | None = None
    scheduler: str = ""

    def run_id(self, number: int) -> str:
        return f"{self.id}-{number}"


@dataclass(frozen=True)
class Sweep:
    """A sweep. `directory` is absolute; `line`: the command line that asked for it, as `again` takes it."""

    id: str
    directory: str
    cube: str
    root: str
    task: str
    platform: str
    outputs: tuple[Output, ...]
    members: tuple[Member, ...]
    attempts: tuple[Attempt, ...] = ()
    line: Mapping[str, Any] = field(default_factory=dict)

    @property
    def workspace(self) -> str:
        return os.path.dirname(os.path.dirname(self.directory))

    def member_directory(self, number: int) -> str:
        return os.path.join(self.directory, member_name(number, len(self.members)))

    def run_directory(self, attempt: Attempt, number: int) -> str:
        return os.path.join(self.workspace, RUNS, attempt.run_id(number))

    def last_attempt(self, number: int) -> Attempt | None:
        """The newest attempt at running this member."""
        return next((attempt for attempt in reversed(self.attempts) if number in attempt.members), None)

    def output(self, name: str, number: int) -> str:
        """The path of a member's output."""
        return next(os.path.join(self.member_directory(number), one.file) for one in self.outputs if one.name == name)


def member_name(number: int, count: int) -> str:
    """The name of a member's directory: it sorts by number."""
    return f"{number:0{max(4, len(str(count)))}d}"


def sweep_directory(workspace: str, identifier: str) -> str:
    return os.path.join(workspace, SWEEPS, identifier)


def write_sweep(sweep: Sweep) -> str:
    """Write the document by rename; returns its path. Raises OSError."""
    os.makedirs(sweep.directory, exist_ok=True)
    path = os.path.join(sweep.directory, FILE)
    write_text(path, json.dumps(as_data(sweep), indent=1, ensure_ascii=True) + "\n")
    return path


def read_sweep(directory: str) -> Sweep:
    """The sweep in this directory. Raises DefinitionError for a document that is absent, cut short, or none."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, encoding="utf-8") as stream:
            return from_data(json.load(stream), os.path.abspath(directory))
    except OSError as error:
        raise DefinitionError(f"{path} cannot be read: {error.strerror or error}", "mlcube sweep starts a sweep") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DefinitionError(f"{path} is no document of a sweep that this version reads ({SCHEMA})",
                              "take the version of mlcube that wrote it") from None


def find_sweep(workspace: str, word: str | None) -> str:
    """The directory of the sweep that a word means: its id, or a part of one that only one has; None: the newest of this
    workspace. Raises UsageError."""
    base = os.path.join(workspace, SWEEPS)
    names = sorted(name for name in _names(base) if os.path.exists(os.path.join(base, name, FILE)))
    if not names:
        raise UsageError(f"there is no sweep in {base}", "mlcube sweep CUBE --set NAME=VALUE,VALUE starts one")
    if word is None:
        return os.path.join(base, names[-1])
    found = [name for name in names if name == word] or [name for name in names if word in name]
    if len(found) == 1:
        return os.path.join(base, found[0])
    if found:
        some = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise UsageError(f"'{word}' may be any of {len(found)} sweeps: {some}", "give more of the id")
    raise UsageError(f"there is no sweep '{word}' in {base}", f"the newest is {names[-1]}")


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as found:
            return [one.name for one in found]
    except OSError:
        return []


# --- JSON ------------------------------------------------------------------------------------------------------------


def as_data(sweep: Sweep) -> dict[str, Any]:
    """The document mlcube.sweep.v1."""
    return {
        "schema": SCHEMA, "mlcube": __version__, "sweep_id": sweep.id, "cube": {"name": sweep.cube, "root": sweep.root},
        "task": sweep.task, "platform": sweep.platform, "asked": dict(sweep.line),
        "outputs": [dict(vars(one)) for one in sweep.outputs],
        "members": [{
            "number": member.number, "directory": member_name(member.number, len(sweep.members)),
            "values": {name: value.data for name, value in member.values.items()}, "typed": member.typed,
            "runs": [attempt.run_id(member.number) for attempt in sweep.attempts if member.number in attempt.members],
        } for member in sweep.members],
        "attempts": [{
            "id": attempt.id, "directory": attempt.directory, "started": attempt.started, "members": list(attempt.members),
            "limit": attempt.limit, "scheduler": attempt.scheduler, "owner": owner_data(attempt.owner),
        } for attempt in sweep.attempts],
    }


def owner_data(owner: Owner | None) -> dict[str, object] | None:
    return {name: value for name, value in vars(owner).items() if name != "token"} if owner else None


def from_data(data: Mapping[str, Any], directory: str) -> Sweep:
    """The sweep of JSON data. Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    if data["schema"] != SCHEMA:
        raise ValueError(data["schema"])
    return Sweep(
        id=str(data["sweep_id"]), directory=directory, cube=str(data["cube"]["name"]), root=str(data["cube"]["root"]),
        task=str(data["task"]), platform=str(data["platform"]), line=dict(data["asked"]),
        outputs=tuple(Output(str(one["name"]), str(one["file"]), str(one["home"])) for one in data["outputs"]),
        members=tuple(_member(one) for one in data["members"]), attempts=tuple(_attempt(one) for one in data["attempts"]))


def _member(data: Mapping[str, Any]) -> Member:
    return Member(int(data["number"]), {str(name): Value(value, str(data["typed"][name]))
                                        for name, value in data["values"].items()})


def _attempt(data: Mapping[str, Any]) -> Attempt:
    limit, owner = data["limit"], data["owner"]
    return Attempt(str(data["id"]), str(data["directory"]), float(data["started"]), tuple(int(one) for one in data["members"]),
                   None if limit is None else int(limit), _owner(owner) if owner else None, str(data["scheduler"]))


def _owner(data: Mapping[str, Any]) -> Owner:
    return Owner(int(data["pid"]), str(data["start"]), str(data["host"]), str(data["boot"]), str(data["space"]), token="")
