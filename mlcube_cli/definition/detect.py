"""Which file defines a cube, and in which dialect it is written: by content, never by the file's name."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import NO_CUBE_HINT
from mlcube_cli.definition.model import Data
from mlcube_cli.errors import DefinitionError, Location, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

MAIN_FILES = ("mlcube.yaml", "mlcube.yml", "mlbox.yaml", ".mlcube.yaml")
IMPLEMENTATION = ("implementation", "mlbox_implementation.yaml")
INLINE_KEYS = ("docker", "singularity", "local", "name", "platform", "ssh", "slurm", "authors", "task", "taks")
_UNPARSED = ("yaml", "template", "bad-key", "yaml-tag", "not-a-cube", "empty-file", "duplicate-key")
_ENOUGH = 100_000  # bytes that tell what a file is


def absolute(path: str, cwd: str) -> str:
    """`path` as an absolute path without `.` and `..`; links stay as typed, unless a `..` would step out of one."""
    joined = os.path.join(cwd, path)
    if ".." in path.split("/"):
        return os.path.realpath(joined)
    return os.path.normpath(joined)


def shown_path(path: str, cwd: str) -> str:
    """An absolute path the way users see it: relative when it lies below the current directory."""
    base = cwd.rstrip("/") + "/"
    return path[len(base):] if path.startswith(base) and len(path) > len(base) else path


def names_in(directory: str, most: int = 10_000) -> list[str] | None:
    """The sorted names in a directory (of its first `most`), or None when it cannot be read."""
    try:
        with os.scandir(directory) as found:
            return sorted(entry.name for entry, _ in zip(found, range(most)))
    except OSError:
        return None


def find_definition(where: str, cwd: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The cube's root directory and main file, both absolute. Raises DefinitionError when there is none."""
    home = environment.get("HOME", "")
    if home and (where == "~" or where.startswith("~/")):
        where = home + where[1:]
    if "\x00" in where:
        raise DefinitionError("a path cannot hold a NUL byte")
    path = absolute(where or ".", cwd)
    if os.path.isdir(path):
        return path, _main_file(path, cwd)
    if os.path.lexists(path):
        return os.path.dirname(path), path
    raise _not_there(where, path, cwd)


def _main_file(root: str, cwd: str) -> str:
    for name in MAIN_FILES:
        if os.path.lexists(os.path.join(root, name)):
            return os.path.join(root, name)
    shown = shown_path(root, cwd) if root != cwd else "the current directory"
    raise DefinitionError(f"there is no cube in {shown}: no mlcube.yaml or mlbox.yaml", _other_places(root, cwd),
                          Location(shown_path(root, cwd)))


def _other_places(root: str, cwd: str) -> str:
    """A hint that names a cube nearby: another spelling in the directory, a child directory, a parent."""
    names = names_in(root)
    if names is None:
        return "the directory cannot be read; check its permissions"
    from mlcube_cli.definition.hints import nearest

    if guess := nearest("mlcube.yaml", [name for name in names if name.endswith((".yaml", ".yml", ".ymal"))]):
        return f"is '{guess}' the definition? Then name that file"
    others = [name for name in names if name.startswith(("mlcube", "mlbox")) and name.endswith((".yaml", ".yml"))]
    if others:
        listed = ", ".join(shown_path(os.path.join(root, name), cwd) for name in others[:5])
        return f"name the file itself, with --mlcube: {listed}"
    for name in names:
        if any(os.path.isfile(os.path.join(root, name, main)) for main in MAIN_FILES):
            if name.startswith("{{"):
                return f"this is a cookiecutter template; make a cube from it: cookiecutter {shown_path(root, cwd)}"
            return f"there is one in {shown_path(os.path.join(root, name), cwd)}"
    parent = os.path.dirname(root)
    if any(os.path.isfile(os.path.join(parent, main)) for main in MAIN_FILES):
        return f"there is one in the directory above: {parent}"
    return "name a directory that holds one, or a definition file"


def _not_there(where: str, path: str, cwd: str) -> DefinitionError:
    if "://" in where or where.startswith("git@"):
        return DefinitionError(f"{where} is a URL, not a path", "clone or download it first, then name the directory")
    parent, name = os.path.split(path)
    names = names_in(parent)
    if names is None:
        return DefinitionError(f"there is no {where}", f"the directory {shown_path(parent, cwd)} does not exist "
                                                       "or cannot be read", Location(where))
    from mlcube_cli.definition.hints import nearest

    guess = nearest(name, names)
    typed = os.path.join(os.path.dirname(where), guess) if guess else ""
    return DefinitionError(f"there is no {where}", f"did you mean '{typed}'?" if guess else
                           "name a directory that holds a cube, or a definition file", Location(where))


def detect_dialect(data: Data, root: str, file: str) -> str:
    """`mlbox`, `directory` or `inline` (spec/dialects 7.1). Raises DefinitionError: what it is instead."""
    if not isinstance(data, dict):
        raise _no_cube(file, f"it holds {_kind(data)}, not keys and values")
    if _holds_template(data):
        raise _no_cube(file, "it is a template")
    if "tasks" not in data or "container_type" in data:
        _refuse_stranger(data, root, file)
    if "schema_type" in data:
        return "directory"
    if data.get("type") == "mlbox" or os.path.isfile(os.path.join(root, *IMPLEMENTATION)):
        return "mlbox"
    if "tasks" in data:
        return "directory" if _lists_files(data) else "inline"
    if any(key in data for key in INLINE_KEYS):
        return "inline"
    raise _no_cube(file, "it has no 'tasks'")


def _lists_files(data: dict[str, Data]) -> bool:
    """True for the directory dialect's list of task files; a list of mappings is a mistake in an inline cube."""
    tasks = data["tasks"]
    own = any(key in data for key in ("docker", "singularity", "local"))
    return isinstance(tasks, list) and not own and not any(isinstance(item, dict) for item in tasks)


def _holds_template(data: Data) -> bool:
    """True when a value is a tag of a cookiecutter template."""
    if isinstance(data, str):
        return "{{" in data and "cookiecutter." in data
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return any(_holds_template(item) for item in inner)


def _refuse_stranger(data: dict[str, Data], root: str, file: str) -> None:
    from mlcube_cli.definition.strangers import as_part, by_keys

    found = as_part(data, root, file) or by_keys(data)
    if found is not None:
        raise _no_cube(file, f"it is {found.what}", found.hint)


def named(problems: list[Problem], path: str, file: str) -> list[Problem]:
    """The problems of a main file that cannot be used; a single one where its text shows that it is something else."""
    if not any(problem.code in _UNPARSED for problem in problems):
        return problems
    from mlcube_cli.definition.strangers import by_text, template_line

    try:
        with open(path, "rb") as stream:
            text = stream.read(_ENOUGH).decode("utf-8", "replace")
    except OSError:
        return problems
    if line := template_line(text):
        return [Problem(Location(file, line, 1), "this is a cookiecutter template that has not been filled in", "template",
                        "make a cube from it (cookiecutter DIRECTORY), and name that")]
    found = by_text(text)
    if found is None:
        return problems
    message = f"this file does not define a cube: it is {found.what}"
    return [Problem(Location(file), message, "not-a-cube", found.hint)]


def _kind(data: Data) -> str:
    if isinstance(data, list):
        return "a list"
    return "nothing" if data is None else "a single value"


def _no_cube(file: str, why: str, hint: str = "") -> DefinitionError:
    hint = hint or NO_CUBE_HINT
    message = f"this file does not define a cube: {why}"
    return DefinitionError(message, hint, Location(file), (Problem(Location(file), message, "not-a-cube", hint),))
