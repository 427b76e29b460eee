"""What a dialect cannot say of a cube, each thing with its place and what to do; and what is left out on the way. Pure."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import TEXT, Cube, Parameter, Platform, Task
from mlcube_cli.definition.source import find_node, format_path
from mlcube_cli.definition.tree import Node, entries, find, items, text_of
from mlcube_cli.definition.write import Whole, default_group, portable_default, run_configurations
from mlcube_cli.errors import Location, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlcube_cli.definition.source import Document
    from mlcube_cli.definition.tree import Path

CODE = "not-sayable"
_FROM_ENVIRONMENT = re.compile(r"\$\{\s*(?:oc\.)?env\s*:")
_READ = ("name", "description", "author", "authors", "version", "platform", "tasks", "calling_convention", "workspace",
         "runtime")
# Warnings of a reader that say: this is here, and has no effect.
_PASSED_OVER = ("unknown-key", "unused-section", "unused-platform", "unknown-platform", "unknown-parameter")
_CONTAINERS = ("docker", "singularity")
# Options that name something of the cube, by runner: paths relative to its root (build_file: to the context).
_PATH_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "docker": ("build_context", "build_file", "tar_file"),
    "singularity": ("build_context", "build_file", "image", "image_dir", "tmpdir", "cachedir"),
    "local": ("requirements", "workdir", "python", "entrypoint"),
}


def unsayable(whole: Whole, target: str) -> tuple[Problem, ...]:
    """Everything that the dialect `target` has no words for, as errors, in the order of the definition."""
    found = _for_inline(whole) if target == "inline" else _for_directory(whole)
    return tuple(dict.fromkeys(found))


def left_out(whole: Whole, documents: Iterable[Document]) -> tuple[Problem, ...]:
    """What stands in the definition and will not stand in the new one, as warnings: keys of an inline cube that nothing but
    references reads, words for people that only these run configurations and platform files (`documents`) have a place for,
    and what the cube's own reader passes over."""
    found = [*_unread_keys(whole), *_words_for_people(documents)]
    places = [problem.location for problem in found]
    passed_over = (replace(warning, message=f"{warning.message}; it is not written") for warning in whole.warnings
                   if warning.code in _PASSED_OVER and warning.location not in places
                   and not warning.path.startswith("platform."))  # whatever that section holds is written
    return (*found, *passed_over)


def _unread_keys(whole: Whole) -> Iterator[Problem]:
    if whole.cube.dialect == "inline":
        known = {*_READ, *(platform.name for platform in whole.cube.platforms)}
        yield from (_left_out(node.key, key, f"'{key}' is not written: mlcube reads it for references alone, and their values "
                              "stand where they are used") for key, node in entries(whole.raw).items() if key not in known)


def _words_for_people(documents: Iterable[Document]) -> Iterator[Problem]:
    for document in documents:
        for path, what in (("description",), "description"), (("platform", "version"), "platform's version"):
            if find_node(document.data, path) not in (None, "", {}):
                yield _left_out(document.location(path, key=True), format_path(path), f"the {what} is not written: the other "
                                "dialect has no place for it")


def reordered(cube: Cube, other: Cube) -> tuple[Problem, ...]:
    """A warning where another platform than before is tried first when none is named (RULINGS 7)."""
    ours, theirs = ([platform.name for platform in one.platforms if platform.runner in _CONTAINERS] for one in (cube, other))
    return () if ours == theirs else (Problem(
        cube.platforms[0].location, f"without --platform, mlcube tries '{theirs[0]}' first in the new cube, and '{ours[0]}' in "
        f"this one: the platforms of the {other.dialect} dialect have an order of their own", "reordered",
        "name the platform: --platform NAME", "", "warning"),)


def kubernetes_volumes(documents: Iterable[Document]) -> Iterator[Problem]:
    """The volumes that run configurations name (spec/dialects 2.9), which no reader keeps; as errors."""
    for document in documents:
        for side in ("input_binding", "output_binding"):
            bound = find_node(document.data, (side,))
            for name in bound if isinstance(bound, dict) else ():
                if find_node(document.data, (side, name, "k8s")):
                    yield _problem(document.location((side, name, "k8s"), key=True), f"the Kubernetes volume of '{name}' has "
                                   "no place in the inline dialect", "remove it, or keep this file for Kubernetes alone")


def _left_out(location: Location, path: str, message: str) -> Problem:
    return Problem(location, message, "left-out", "", path, "warning")


def _problem(location: Location, message: str, hint: str, path: str = "") -> Problem:
    return Problem(location, message, CODE, hint, path)


# --- inline --------------------------------------------------------------------------------------------------------


def _for_inline(whole: Whole) -> Iterator[Problem]:
    cube = whole.cube
    for task in cube.tasks:
        yield from _groups_for_inline(cube, task)
        yield from (_problem(
            one.location if one.location.file else task.location,
            f"parameter '{one.name}' of task '{task.name}' has no value; in the inline dialect its own name would be its value",
            "give it a value, or remove the parameter", one.name,
        ) for one in task.parameters if one.default is None and one.type != TEXT)
    yield from (_problem(
        platform.location, f"an inline cube has no platform of the name '{platform.name}': a section is called by its runner, "
        f"'{platform.runner}'", f"rename it to '{platform.runner}', or take its file out and use it with --platform=FILE",
    ) for platform in cube.platforms if platform.name != platform.runner)


def _groups_for_inline(cube: Cube, task: Task) -> Iterator[Problem]:
    default = default_group(cube, task)
    kind = "group of values" if cube.dialect == "mlbox" else "run configuration"
    for group in task.groups:
        if group is not default:
            yield _problem(group.location, f"task '{task.name}' has the {kind} '{group.name}'; an inline task has one set of "
                           "values", "remove it and give its values on the command line, or make it a task of its own")


# --- directory -----------------------------------------------------------------------------------------------------


def _for_directory(whole: Whole) -> Iterator[Problem]:
    if whole.cube.dialect == "inline":
        yield from _references(whole, whole.raw, whole.resolved, ())
    names: dict[str, str] = {}
    for task in whole.cube.tasks:
        yield from _file_name(task.name, "task", task.location)
        yield from _two_values(whole, task)
        places = {group.name: group.location for group in task.groups}
        for name, _ in run_configurations(whole, task):
            place = places.get(name, task.location)
            if name in places:
                yield from _file_name(name, "run configuration", place, "/")
            if name in names:
                yield _problem(place, f"'{name}' of task '{task.name}' and '{name}' of task '{names[name]}' would be one file, "
                               f"run/{name}.yaml", "rename one of them")
            names.setdefault(name, task.name)


def _file_name(name: str, what: str, location: Location, allowed: str = "") -> Iterator[Problem]:
    """A problem where no file of this name would be found again."""
    size = len(name.encode("utf-8", "surrogateescape"))
    parts = name.split("/")
    if ("/" in name and not allowed) or any(part in ("", ".", "..") or part.startswith(".") for part in parts) or size > 240:
        shown = name if size <= 60 else name[:60] + "..."
        yield _problem(location, f"the {what} '{shown}' cannot be the name of a file, as the directory dialect needs it",
                       "give it a shorter name without '/' and without a '.' in front" if size > 240 else
                       "give it a name without '/' and without a '.' in front")


def _two_values(whole: Whole, task: Task) -> Iterator[Problem]:
    first: dict[str, Parameter] = {}
    for one in task.parameters:
        other = first.setdefault(one.name, one)
        if portable_default(whole, task.name, other) != portable_default(whole, task.name, one):
            yield _problem(one.location, f"'{one.name}' is an input and an output of task '{task.name}' with two values; it is "
                           "passed once", "rename one of them, or give both one value", one.name)


def _references(whole: Whole, raw: Node, resolved: Node | None, path: Path) -> Iterator[Problem]:
    """Values that the directory dialect, which has no references, would freeze: the environment's, and the cube's place."""
    if isinstance(raw.value, dict):
        for key, node in raw.value.items():
            if path or key not in ("workspace", "runtime"):
                yield from _references(whole, node, find(resolved, key), (*path, key))
    elif isinstance(raw.value, tuple):
        for index, node in enumerate(items(raw)):
            yield from _references(whole, node, find(resolved, index), (*path, index))
    else:
        written, value = text_of(raw) or "", text_of(resolved) or ""
        if _FROM_ENVIRONMENT.search(written):
            yield _problem(raw.location, f"'{written}' takes its value from the environment; the directory dialect has no "
                           "references", _instead(path), format_path(path))
        elif "${" in written and whole.cube.root in value and not _is_portable(whole, path):
            yield _problem(raw.location, f"'{written}' refers to where the cube lies; the directory dialect has no references",
                           "write a path relative to the cube, or the value itself", format_path(path))


def _instead(path: Path) -> str:
    if path[:1] == ("tasks",) and "parameters" in path:
        return "write $NAME, which every dialect expands in a path"
    if "env" in path or "env_args" in path:
        return "write the name without a value (env: {NAME: }), which passes the caller's"
    return "write the value itself, or leave the cube in its dialect"


def _is_portable(whole: Whole, path: Path) -> bool:
    """Is it a parameter's default that becomes `$WORKSPACE/...`, or a key that is left out anyway?"""
    task = whole.cube.task(str(path[1])) if path[0] == "tasks" and len(path) > 4 else None
    for one in task.parameters if task else ():
        if one.name == path[4] and f"{one.direction}s" == path[3]:
            return (portable_default(whole, str(path[1]), one) or "").startswith("$WORKSPACE")
    return path[0] not in (*_READ, *(platform.name for platform in whole.cube.platforms))


# --- paths that lead out of the cube -------------------------------------------------------------------------------


def outside(cube: Cube) -> tuple[Problem, ...]:
    """The relative paths of the definition that lead out of the cube: they mean the same beside the old cube only."""
    found: list[Problem] = []
    for task in cube.tasks:
        values = [(one.default, one.location) for one in task.parameters if one.type != TEXT]
        texts = [one.name for one in task.parameters if one.type == TEXT]
        values += [(binding.value, binding.location) for group in task.groups for binding in group.bindings
                   if binding.parameter not in texts]
        found += [_leads_out(value, location) for value, location in values if _leaves(value or "", 1)]
    for platform in cube.platforms:
        for option in platform.options:
            first = option.value[0] if isinstance(option.value, list) and option.value else option.value
            if option.name == "build_file" and platform.runner == "docker":
                first = os.path.join(str(platform.option("build_context") or "."), str(first))
            if option.name in _PATH_OPTIONS.get(platform.runner, ()) and isinstance(first, str) and _leaves(first, 0):
                found.append(_leads_out(first, _location(option.origin, platform)))
    return tuple(dict.fromkeys(found))


def _leaves(value: str, depth: int) -> bool:
    """Does the relative path, that begins `depth` directories below the root, lead out of the root?"""
    for name in ("$WORKSPACE/", "${WORKSPACE}/"):
        value = value[len(name):] if depth and value.startswith(name) else value
    steps = os.path.normpath(value).split("/") if value and value[0] not in "/~$" else []
    return steps[:depth + 1].count("..") > depth


def _leads_out(value: str | None, location: Location) -> Problem:
    return _problem(location, f"'{value}' leads out of the cube, so it would mean something else there",
                    "write the new cube beside the old one, or make this an absolute path")


def _location(origin: str, platform: Platform) -> Location:
    file, _, place = origin.partition(":")
    line, _, column = place.partition(":")
    return Location(file, int(line), int(column)) if line.isdigit() and column.isdigit() else platform.location
