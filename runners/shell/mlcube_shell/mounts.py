"""Which paths of this machine a container sees, where, and whether it may write there (RULINGS 16, 17, 30)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts, PathKind
from mlcube_cli.job import Argument, Job


@dataclass(frozen=True)
class Mount:
    """A path of this machine at a path of the container; `source` None hides what is there (an empty directory)."""

    source: str | None
    target: str
    read_only: bool


@dataclass(frozen=True)
class View:
    """What the task sees: mounts in the order in which they must be made, and each argument's path by name."""

    mounts: tuple[Mount, ...]
    paths: Mapping[str, str]
    notes: tuple[str, ...] = ()
    covered: tuple[str, ...] = ()  # directories of this machine that are hidden, and must be made for it


def view_of(job: Job, facts: Facts, prefix: str = "/mlcube_io") -> View:
    """The mounts of a job's arguments: equal paths share one, `{prefix}0`, `{prefix}1`, ... in the arguments' order.

    A directory is mounted itself; an input file alone; an output that is a file, or not known to be a directory, with
    the directory that it lies in. What is read-only and lies inside something writable is mounted again there,
    read-only, and our own `.mlcube` of the workspace is hidden. Raises facts.Missing.
    """
    ours = os.path.join(job.workspace, ".mlcube")
    sources = {argument.name: source_of(argument) for argument in job.paths}
    facts.need(*(PathKind(path) for path in (*sources.values(), ours)))
    written = {argument.host_path for argument in job.paths if _is_written(argument)}
    mounts: dict[tuple[str, bool], Mount] = {}
    paths = {}
    for argument in job.paths:
        source, read_only = sources[argument.name], argument.host_path not in written
        if (source, read_only) not in mounts:
            target = _target(argument, source, f"{prefix}{len(mounts)}")
            mounts[source, read_only] = Mount(source, target, read_only)
        target = mounts[source, read_only].target
        below = source != argument.host_path
        paths[argument.name] = os.path.join(target, os.path.basename(argument.host_path)) if below else target
    own = tuple(mounts.values())
    hidden = _hidden(own, ours, facts)
    inner = tuple(sorted(_protected(own, facts) + hidden, key=lambda mount: mount.target.count("/")))
    return View(own + inner, paths, _notes(job, sources), (ours,) if hidden and facts.path(ours).kind == "absent" else ())


def source_of(argument: Argument) -> str:
    """The path that is mounted for an argument: itself, or for an output that is no directory the one it lies in."""
    if argument.direction == "output" and argument.type != "directory":
        return os.path.dirname(argument.host_path)
    return argument.host_path


def output_directories(job: Job) -> tuple[str, ...]:
    """The directories that must be there before the task starts; inputs are never made."""
    return tuple(dict.fromkeys(source_of(argument) for argument in job.paths if argument.direction == "output"))


def refuse_undecodable(job: Job, engine: str) -> None:
    """Raises DefinitionError for a path that is not valid UTF-8: the engine would mount something else, silently."""
    for argument in job.paths:
        try:
            argument.host_path.encode("utf-8")
        except UnicodeEncodeError:
            shown = argument.host_path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise DefinitionError(
                f"parameter '{argument.name}': {engine} cannot mount {shown}: its name is not valid UTF-8",
                "rename it, or use a platform with the runner 'local'") from None


def csv_field(text: str) -> str:
    """A field of `--mount`'s CSV (RFC 4180)."""
    return '"' + text.replace('"', '""') + '"' if any(character in text for character in ',"\r\n') else text


def _is_written(argument: Argument) -> bool:
    return argument.mode == "rw" or argument.direction == "output"


def _target(argument: Argument, source: str, target: str) -> str:
    """Where the mount goes; a file mounted alone keeps its name, below a directory of its own."""
    if source == argument.host_path and argument.type != "directory":
        return os.path.join(target, os.path.basename(source))
    return target


def _protected(mounts: tuple[Mount, ...], facts: Facts) -> tuple[Mount, ...]:
    """Read-only mounts for what would otherwise be writable through a mount around it."""
    inner = []
    for mount in mounts:
        for outer in mounts:
            if mount.read_only and not outer.read_only and mount.source and outer.source:
                below = _below(_real(mount.source, facts), _real(outer.source, facts))
                if below:
                    inner.append(Mount(mount.source, os.path.join(outer.target, below), True))
    return tuple(dict.fromkeys(inner))


def _hidden(mounts: tuple[Mount, ...], ours: str, facts: Facts) -> tuple[Mount, ...]:
    """Our records are there by the time the task starts, since the run writes them: also where they are absent now."""
    fact = facts.path(ours)
    if fact.kind != "directory" and not (fact.kind == "absent" and fact.creatable):
        return ()
    real = _real(ours, facts)
    places = ((mount.target, _below(real, _real(mount.source, facts))) for mount in mounts if mount.source)
    return tuple(Mount(None, os.path.join(target, below), True) for target, below in places if below)


def _real(path: str, facts: Facts) -> str:
    return facts.path(path).real or path


def _below(path: str, directory: str) -> str:
    """`path` relative to `directory` where it lies strictly below it, else nothing."""
    stem = directory.rstrip("/") + "/"
    return path[len(stem):] if path.startswith(stem) else ""


def _notes(job: Job, sources: Mapping[str, str]) -> tuple[str, ...]:
    """An input directory that an output file is written into cannot be kept read-only: say so."""
    return tuple(
        f"the task can write to input '{one.name}', because output '{other.name}' is a file in that directory"
        for one in job.paths for other in job.paths
        if not _is_written(one) and _is_written(other) and one.host_path == sources[other.name] != other.host_path)
