"""What lies at and below paths of this machine: outputs as they were before a run elsewhere, links that lead out, sizes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mlcube_cli.atomic import write_text

SUFFIX = ".manifest"  # of the files that manifests are kept in
_SCHEMA = "mlcube.manifest.v1"
_SKIPPED = (".mlcube", ".mlcube-partial")  # ours, and no part of an output (RULINGS 30)
Mark = tuple[int, int, int]  # kind and permissions, size (bytes), time of the last change to its content (nanoseconds)


@dataclass(frozen=True)
class Manifest:
    """The files and links at and below `paths`, as they were when it was taken. Absolute paths.

    `came`: those that had been changed here before that, as they were when they last came from elsewhere.
    """

    paths: tuple[str, ...]
    marks: Mapping[str, Mark] = field(default_factory=dict)
    came: Mapping[str, Mark] = field(default_factory=dict)


def take_manifest(paths: Iterable[str]) -> Manifest:
    """How the outputs are now. What cannot be read is left out. Raises nothing."""
    paths = tuple(dict.fromkeys(paths))
    return Manifest(paths, {path: _mark(found) for top in paths for path, found in _below(top)
                            if not stat.S_ISDIR(found.st_mode)})


def changed_since(manifest: Manifest) -> tuple[str, ...]:
    """The files and links that are new here, or other than they were, sorted. What is gone is no loss (RULINGS 36)."""
    now = take_manifest(manifest.paths).marks
    return tuple(sorted(path for path, mark in now.items() if manifest.marks.get(path) != mark))


def renewed(manifest: Manifest, kept: Iterable[str]) -> Manifest:
    """After outputs were brought here: as they are now, but for what was `kept`, which stays changed."""
    kept = frozenset(kept)
    now = take_manifest(manifest.paths).marks
    marks = {path: mark for path, mark in now.items() if path not in kept}
    return Manifest(manifest.paths, {**marks, **{path: manifest.marks[path] for path in kept if path in manifest.marks}},
                    {path: mark for path, mark in manifest.came.items() if path in kept})


def last_known(directory: str, paths: Iterable[str]) -> Manifest:
    """How these outputs were when they last were sent for: of the manifests kept in the directory the newest of each counts."""
    paths = tuple(paths)
    marks: dict[str, Mark] = {}
    came: dict[str, Mark] = {}
    waiting = list(paths)
    for file in _newest_first(directory):
        manifest = load_manifest(file) if waiting else None
        if manifest is None:
            continue
        known = [path for path in waiting if path in manifest.paths]
        waiting = [path for path in waiting if path not in known]
        for found, wanted in ((manifest.marks, marks), (manifest.came, came)):
            wanted.update({path: mark for path, mark in found.items() if _lies_in(path, known)})
    return Manifest(paths, marks, came)


def with_changes_since(manifest: Manifest, before: Manifest) -> Manifest:
    """It, knowing of what was changed here since `before`, how that was when it came."""
    came = {path: before.came.get(path, before.marks.get(path, mark)) for path, mark in manifest.marks.items()}
    return replace(manifest, came={path: mark for path, mark in came.items() if mark != manifest.marks[path]})


def _lies_in(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops)


def _newest_first(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted((entry.path for entry in entries if entry.name.endswith(SUFFIX)), key=os.path.getmtime, reverse=True)
    except OSError:
        return []


def save_manifest(file: str, manifest: Manifest) -> None:
    """Keep it, for a later command that brings outputs home. Raises OSError."""
    data = {"schema": _SCHEMA, "paths": manifest.paths, "marks": manifest.marks, "came": manifest.came}
    write_text(file, json.dumps(data, separators=(",", ":")))


def load_manifest(file: str) -> Manifest | None:
    """What was kept; None where there is nothing, or nothing of ours."""
    try:
        with open(file, encoding="utf-8") as stream:
            data = json.load(stream)
        if data["schema"] != _SCHEMA:
            return None
        return Manifest(tuple(str(path) for path in data["paths"]), _marks(data["marks"]), _marks(data.get("came", {})))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _marks(data: dict[str, list[int]]) -> dict[str, Mark]:
    return {str(path): (int(mode), int(size), int(time)) for path, (mode, size, time) in data.items()}


def _mark(found: os.stat_result) -> Mark:
    return found.st_mode, found.st_size, found.st_mtime_ns


# --- links that lead out ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Escape:
    """A link below an input that leads to nothing that travels. `target`: as the link has it."""

    path: str
    target: str


def find_escaping_links(paths: Iterable[str]) -> tuple[Escape, ...]:
    """The links below these inputs that would lead elsewhere, or nowhere, on another machine (RULINGS 35).

    Those are absolute ones, and those that lead out of the input and into none of the others. A path that is itself a link
    is followed. Raises nothing.
    """
    tops = tuple(dict.fromkeys(paths))
    reals = tuple(os.path.realpath(top) for top in tops)
    found = []
    for top, real in zip(tops, reals):
        for path in _links_below(real):
            target = _leads_out(path, reals)
            if target is not None:
                found.append(Escape(top + path[len(real):], target))
    return tuple(found)


def _links_below(top: str) -> Iterator[str]:
    """The links below a directory. Nothing is looked up but names: 100,000 of them take a fifth of a second."""
    waiting = [top]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.name in _SKIPPED:
                    continue
                if entry.is_symlink():
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _leads_out(path: str, inputs: tuple[str, ...]) -> str | None:
    """The link's target where that is outside the inputs; None where it is inside, or the link is gone."""
    try:
        target = os.readlink(path)
    except OSError:
        return None
    aim = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return None if _lies_in(aim, inputs) and not os.path.isabs(target) else target


# --- sizes -----------------------------------------------------------------------------------------------------------


def measure(paths: Iterable[str]) -> int:
    """How many bytes lie in files at and below the paths, links not followed but for the paths themselves."""
    return sum(found.st_size for top in dict.fromkeys(paths) for _, found in _below(top) if stat.S_ISREG(found.st_mode))


def _below(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """(path, what lstat says) of all that lies at and below `top`, which is followed where it is a link."""
    try:
        found = os.stat(top)
    except (OSError, ValueError):
        return
    yield top, found
    waiting = [top] if stat.S_ISDIR(found.st_mode) else []
    while waiting:
        for path, found in _in_directory(waiting.pop()):
            yield path, found
            if stat.S_ISDIR(found.st_mode):
                waiting.append(path)


def _in_directory(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = os.scandir(directory)
    except OSError:
        return
    with entries:
        for entry in entries:
            if entry.name not in _SKIPPED:
                try:
                    yield entry.path, entry.stat(follow_symlinks=False)
                except OSError:  # it is gone
                    continue
