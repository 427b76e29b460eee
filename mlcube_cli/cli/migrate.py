"""`mlcube migrate`: the same cube in another dialect, in a directory of its own; the old cube is only read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from mlcube_cli.cache import find_cache
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.new_directory import check_new, make_directory, write_file
from mlcube_cli.cli.words import sort_out
from mlcube_cli.command import quote
from mlcube_cli.definition import ReadRequest, read_cube
from mlcube_cli.definition.model import Cube
from mlcube_cli.definition.source import Document, read_document
from mlcube_cli.definition.unsayable import CODE, kubernetes_volumes, left_out, outside, reordered, unsayable
from mlcube_cli.definition.write import TARGETS, DefinitionFile, Whole, same_meaning, write_cube
from mlcube_cli.errors import DefinitionError, Location, PreparationError, Problem, UsageError

_NOT_COPIED = (".git", ".hg", ".svn", "__pycache__")  # of any directory; and `.mlcube`, the records, of the workspace
_READ_AT_ROOT = ("mlbox_docker.yaml", "mlcube_docker.yaml", "mlbox_singularity.yaml", "mlcube_singularity.yaml")
_IMPLEMENTATION = "implementation/mlbox_implementation.yaml"


@dataclass(frozen=True)
class Migration:
    """A migration, decided: what is written, what is copied, what is left out."""

    whole: Whole
    target: str
    output: str  # absolute
    shown: str  # the output as typed
    files: tuple[DefinitionFile, ...]
    copied: tuple[str, ...]  # relative to the root: files, links, and directories that hold nothing else
    size: int  # bytes
    left_out: tuple[Problem, ...]


def migrate(arguments: Arguments) -> int:
    """`mlcube migrate`: 0; 2 for a bad place; 3 when the cube is invalid or cannot be said so; 5 when it cannot be written."""
    words = sort_out(arguments.words, arguments.mlcube)
    if words.values or words.tasks:
        raise UsageError("migrate takes a cube and nothing else", "mlcube migrate CUBE --to inline")
    if arguments.to is None:
        raise UsageError("to which dialect?", f"--to with one of: {', '.join(TARGETS)}")
    cwd = os.getcwd()
    whole = _read(words.cube, cwd, dict(os.environ))
    migration = _decide(arguments, whole, cwd)
    lost = (*migration.left_out, *reordered(whole.cube, _read_back(migration)))
    if not arguments.dry_run:
        _check_space(migration)
        make_directory(migration.output, migration.shown, partial(_fill, migration))
    output.show_problems(lost)
    if arguments.json:
        output.json_result(migrate_data(replace(migration, left_out=lost), arguments.dry_run))
    else:
        output.result(_text(migration, arguments.dry_run))
    return 0


# --- deciding ------------------------------------------------------------------------------------------------------


def _read(where: str, cwd: str, environment: dict[str, str]) -> Whole:
    reading = read_cube(ReadRequest(where=where, environment=environment, cwd=cwd, cache=find_cache(environment, os.getuid())))
    errors = [problem for problem in reading.problems if problem.severity == "error"]
    if reading.cube is None or reading.effective is None or errors:
        raise DefinitionError("this cube cannot be used", problems=reading.problems)
    return Whole(reading.cube, reading.effective.raw, reading.effective.resolved, reading.problems)


def _decide(arguments: Arguments, whole: Whole, cwd: str) -> Migration:
    """What would be written. Raises UsageError for a bad place, DefinitionError with all that cannot be said."""
    cube, target = whole.cube, str(arguments.to)
    if cube.dialect == target:
        raise UsageError(f"this cube is in the {target} dialect already",
                         f"--to {next(name for name in TARGETS if name != target)} is the other one")
    shown = arguments.output or os.path.relpath(f"{cube.root}-{target}", cwd)
    place = os.path.abspath(os.path.join(cwd, os.path.expanduser(shown)))
    _check_place(cube.root, place, shown)
    own = _definition_files(whole, cwd)
    files = write_cube(whole, target, partial(_is_file, cube.root), f"Written by mlcube migrate from the {cube.dialect} "
                       "dialect. The comments of the files it was written from are not in it.")
    copied, size = _inventory(cube.root, own, arguments.without_workspace)
    details = _details(whole, cwd)
    problems = [*unsayable(whole, target), *kubernetes_volumes(details), *_in_the_way(cube.root, target, files, copied)]
    if os.path.realpath(os.path.dirname(place)) != os.path.realpath(os.path.dirname(cube.root)):
        problems += outside(cube)
    if problems:
        raise DefinitionError(f"the {target} dialect cannot say all of this cube", problems=problems)
    return Migration(whole, target, place, shown, files, copied, size, left_out(whole, details))


def _check_place(root: str, place: str, shown: str) -> None:
    real = os.path.realpath(place)
    if real == os.path.realpath(root) or real.startswith(os.path.realpath(root).rstrip("/") + "/"):
        raise UsageError(f"{shown} lies in the cube itself", "name a directory beside it: --output DIR")
    check_new(place, shown)


def _is_file(root: str, path: str) -> bool:
    return os.path.isfile(os.path.join(root, path))


def _definition_files(whole: Whole, cwd: str) -> frozenset[str]:
    """The files that define the cube, relative to its root; what lies elsewhere is not among them."""
    cube = whole.cube
    shown = [task.location.file for task in cube.tasks] + [platform.location.file for platform in cube.platforms]
    shown += [group.location.file for task in cube.tasks for group in task.groups]
    paths = {cube.file, *(os.path.normpath(os.path.join(cwd, file)) for file in shown)}
    return frozenset(os.path.relpath(path, cube.root) for path in paths)


def _details(whole: Whole, cwd: str) -> list[Document]:
    """The files of a directory cube of which the model holds a part: its run configurations and platforms."""
    shown = [group.location.file for task in whole.cube.tasks for group in task.groups]
    shown += [platform.location.file for platform in whole.cube.platforms]
    return [read_document(os.path.join(cwd, file), file) for file in shown if whole.cube.dialect == "directory"]


def _in_the_way(root: str, target: str, files: tuple[DefinitionFile, ...], copied: tuple[str, ...]) -> Iterator[Problem]:
    """Files of the cube where the new definition stands, or that its reader would take for a part of it."""
    new = {file.path for file in files}
    for path in copied:
        if path in new or (_read_by_directory(path) if target == "directory" else path == _IMPLEMENTATION):
            yield Problem(Location(os.path.join(root, path)), f"the new cube's reader would take {path} for a part of the "
                          "definition, which it is not now", CODE, "rename it, or move it away")


def _read_by_directory(path: str) -> bool:
    """Would the directory dialect's reader take the file for a task, a run configuration or a platform?"""
    first, *rest = path.split("/")
    deep = first in ("run", "platforms") or (first == "tasks" and len(rest) == 1)
    return path in _READ_AT_ROOT or (deep and bool(rest) and path.endswith((".yaml", ".yml")))


# --- what is copied ------------------------------------------------------------------------------------------------


def _inventory(root: str, own: frozenset[str], without_workspace: bool) -> tuple[tuple[str, ...], int]:
    """What goes along as it is, relative to the root, and its size in bytes."""
    found: list[str] = []
    size = 0
    for path, info in _walk(root, "", own, without_workspace):
        found.append(path)
        size += info
    return tuple(found), size


def _walk(root: str, below: str, own: frozenset[str], without_workspace: bool) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(os.path.join(root, below)) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise PreparationError(f"{os.path.join(root, below)} cannot be read: {error.strerror}",
                               "check its permissions; nothing was written") from None
    kept = [entry for entry in listed if entry.name not in _NOT_COPIED and below + entry.name not in own
            and below + entry.name != "workspace/.mlcube" and not (without_workspace and below + entry.name == "workspace")]
    if below and not listed:
        yield below.rstrip("/"), 0
    for entry in kept:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, f"{below}{entry.name}/", own, without_workspace)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield below + entry.name, entry.stat(follow_symlinks=False).st_size
        else:
            output.warn(f"{below}{entry.name} is neither a file nor a directory; it is not copied")


def _check_space(migration: Migration) -> None:
    free = shutil.disk_usage(os.path.dirname(migration.output)).free
    if free < migration.size:
        raise PreparationError(f"the cube's files take {migration.size:,} bytes, and {free:,} are free there",
                               "choose another place with --output, or leave the workspace out: --without-workspace")


# --- writing -------------------------------------------------------------------------------------------------------


def _read_back(migration: Migration) -> Cube:
    """What is to be written, read away from everything. Raises DefinitionError where its meaning differs."""
    whole = migration.whole
    with tempfile.TemporaryDirectory(prefix="mlcube-") as scratch:
        for file in migration.files:
            write_file(scratch, file.path, file.text)
        reading = read_cube(ReadRequest(where=scratch, cwd=scratch))
        problems = [problem for problem in reading.problems
                    if problem.severity == "error" and problem.code != "missing-path"]
        if reading.cube is None or problems:
            raise DefinitionError("what would be written is no valid cube", problems=problems)
        differing = same_meaning(whole, reading.cube, migration.target, partial(_is_file, whole.cube.root))
    if differing:
        raise DefinitionError(f"the {migration.target} dialect would change the meaning of {'; '.join(differing)}",
                              "keep the cube in its dialect, or change these first", Location(whole.cube.file))
    return reading.cube


def _fill(migration: Migration, directory: str) -> None:
    root = migration.whole.cube.root
    for path in migration.copied:
        _copy(os.path.join(root, path), os.path.join(directory, path), root)
    for file in migration.files:
        write_file(directory, file.path, file.text)


def _copy(source: str, target: str, root: str) -> None:
    """Copy a file, a link or an empty directory; a relative link that leads out of the cube becomes an absolute one."""
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(source):
            pointed = os.path.join(os.path.dirname(source), os.readlink(source))
            inside = os.path.normpath(pointed).startswith(root.rstrip("/") + "/")
            os.symlink(os.readlink(source) if inside else os.path.abspath(pointed), target)
        elif os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            shutil.copy2(source, target)
    except OSError as error:
        raise PreparationError(f"{source} cannot be copied: {error.strerror or error}",
                               "check its permissions and the free space; nothing of the new cube was kept") from None


# --- telling -------------------------------------------------------------------------------------------------------


def migrate_data(migration: Migration, dry_run: bool) -> dict[str, object]:
    """The document mlcube.migrate.v1."""
    return {
        "schema": "mlcube.migrate.v1", "root": migration.whole.cube.root, "from": migration.whole.cube.dialect,
        "to": migration.target, "output": migration.output, "dry_run": dry_run,
        "files": [{"path": file.path, "text": file.text} for file in migration.files],
        "copied": {"files": len(migration.copied), "bytes": migration.size},
        "left_out": [{"file": one.location.file, "line": one.location.line, "column": one.location.column, "path": one.path,
                      "message": one.message} for one in migration.left_out],
    }


def _text(migration: Migration, dry_run: bool) -> str:
    if dry_run:
        return "".join(f"--- {os.path.join(migration.shown, file.path)}\n{file.text}" for file in migration.files)
    where = quote(migration.shown)
    lines = [os.path.join(migration.shown, file.path) for file in migration.files]
    lines += ["", f"and {len(migration.copied)} other files ({migration.size:,} bytes), copied as they are; comments of the "
              "definition, records and version control are not in it", "", "next",
              f"  mlcube validate {where}", f"  mlcube describe {where}"]
    return "\n".join(lines) + "\n"
