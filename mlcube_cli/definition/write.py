"""A cube -> the definition files that say the same in the inline or the directory dialect. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import TEXT, Cube, Group, Parameter, Task
from mlcube_cli.definition.tree import Node, find, text_at, text_of
from mlcube_cli.definition.write_platforms import has_no_effect, option_meaning, written_options
from mlcube_cli.definition.write_yaml import yaml_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlcube_cli.definition.model import Data
    from mlcube_cli.errors import Problem

MAIN_FILE = "mlcube.yaml"
TARGETS = ("inline", "directory")
_SIDES = (("input", "inputs"), ("output", "outputs"))
_SIMPLE_WORD = re.compile(r"[A-Za-z0-9_./=:@%+,$-]+\Z", re.ASCII)
_REFERENCE = re.compile(r"(\\*)\$\{(?!WORKSPACE\})")
_WORKSPACE = re.compile(r"\$\{\s*(?:runtime\.)?workspace\s*\}(?=/|\Z)")


@dataclass(frozen=True)
class Whole:
    """A valid cube as its reader handed it over: the model, and the trees before and after references were replaced."""

    cube: Cube
    raw: Node
    resolved: Node
    warnings: tuple[Problem, ...] = ()  # the reader's

    def written_default(self, task: str, parameter: Parameter) -> Node | None:
        """The parameter's default as the definition writes it."""
        side = dict(_SIDES)[parameter.direction]
        return find(self.raw, "tasks", task, "parameters", side, parameter.name, "default")


@dataclass(frozen=True)
class DefinitionFile:
    """A definition file to be: its path relative to the cube, and its text."""

    path: str
    text: str


def write_cube(whole: Whole, target: str, is_file: Callable[[str], bool], comment: str = "") -> tuple[DefinitionFile, ...]:
    """The definition files of the cube in the dialect `target`, as far as that can say it (see `unsayable`).

    `is_file`: is there such a file in the cube (its path relative to the root)? Build options that only a build file
    gives a meaning to are left out where there is none. `comment` stands at the top of the main file.
    """
    return _inline(whole, is_file, comment) if target == "inline" else _directory(whole, is_file, comment)


# --- inline --------------------------------------------------------------------------------------------------------


def _inline(whole: Whole, is_file: Callable[[str], bool], comment: str) -> tuple[DefinitionFile, ...]:
    cube = whole.cube
    data: dict[str, Data] = {**_about(cube), **_authors(cube)}
    for platform in cube.platforms:
        data[platform.runner] = written_options(cube, platform, "inline", is_file)
    data["tasks"] = {task.name: _inline_task(whole, task) for task in cube.tasks}
    return (DefinitionFile(MAIN_FILE, yaml_text(_escaped(data), comment)),)


def _inline_task(whole: Whole, task: Task) -> Data:
    sides: dict[str, Data] = {}
    for direction, side in _SIDES:
        found: dict[str, Data] = {
            parameter.name: {**_kind(parameter), **_default(parameter), **_rest(parameter)}
            for parameter in task.parameters if parameter.direction == direction}
        if found:
            sides[side] = found
    return {**_task_head(whole, task), **({"parameters": sides} if sides else {})}


def _escaped(data: Data) -> Data:
    """The data with `${` where a definition's reader would see a reference as `\\${`; backslashes before it double."""
    if isinstance(data, dict):
        return {key: _escaped(item) for key, item in data.items()}
    if isinstance(data, list):
        return [_escaped(item) for item in data]
    if isinstance(data, str) and _REFERENCE.search(data):
        return _REFERENCE.sub(lambda found: found[1] * 2 + "\\${", data)
    return data


# --- directory -----------------------------------------------------------------------------------------------------


def _directory(whole: Whole, is_file: Callable[[str], bool], comment: str) -> tuple[DefinitionFile, ...]:
    cube = whole.cube
    root: dict[str, Data] = {**_schema("root"), **_about(cube), **_authors(cube)}
    root["tasks"] = [f"tasks/{task.name}.yaml" for task in cube.tasks]
    files = [DefinitionFile(MAIN_FILE, yaml_text(root, comment))]
    for task in cube.tasks:
        files.append(DefinitionFile(f"tasks/{task.name}.yaml", yaml_text(_directory_task(whole, task))))
        files += [DefinitionFile(f"run/{name}.yaml", yaml_text(_invocation(task, values)))
                  for name, values in run_configurations(whole, task)]
    for platform in cube.platforms:
        options = {**_schema(platform.runner), **written_options(cube, platform, "directory", is_file)}
        files.append(DefinitionFile(f"platforms/{platform.name}.yaml", yaml_text(options)))
    return tuple(files)


def _schema(kind: str) -> dict[str, Data]:
    return {"schema_version": "1.0.0", "schema_type": f"mlcube_{kind}"}


def _directory_task(whole: Whole, task: Task) -> Data:
    data: dict[str, Data] = {**_schema("task"), **_task_head(whole, task)}
    for direction, side in _SIDES:
        data[side] = [{"name": parameter.name, **_kind(parameter), **_rest(parameter)}
                      for parameter in task.parameters if parameter.direction == direction]
    return data


def run_configurations(whole: Whole, task: Task) -> list[tuple[str, Mapping[str, str | None]]]:
    """(name, value of each parameter): the one that gives the task its defaults first, then the task's other groups."""
    default = default_group(whole.cube, task)
    name = default.name if default and whole.cube.dialect != "mlbox" else task.name
    values = {parameter.name: portable_default(whole, task.name, parameter) for parameter in task.parameters}
    others = [(group.name, {binding.parameter: binding.value for binding in group.bindings})
              for group in task.groups if group is not default]
    return [(name, values), *others]


def _invocation(task: Task, values: Mapping[str, str | None]) -> Data:
    data: dict[str, Data] = {**_schema("invoke"), "task_name": task.name}
    for direction, _ in _SIDES:
        names = [one.name for one in task.parameters if one.direction == direction and one.name in values]
        data[f"{direction}_binding"] = {name: values[name] for name in names}
    return data


# --- what both have in common --------------------------------------------------------------------------------------


def default_group(cube: Cube, task: Task) -> Group | None:
    """The group that gives the task's parameters their defaults (RULINGS 3; spec/dialects 1.4, 2.11)."""
    wanted = "default" if cube.dialect == "mlbox" else task.name
    named = next((group for group in task.groups if group.name == wanted), None)
    only = task.groups[0] if len(task.groups) == 1 and cube.dialect != "mlbox" else None
    return named or only


def portable_default(whole: Whole, task: str, parameter: Parameter) -> str | None:
    """The default with `$WORKSPACE` where an inline cube refers to its workspace (`${workspace}/data`)."""
    written = text_of(whole.written_default(task, parameter))
    if whole.cube.dialect == "inline" and written and _WORKSPACE.match(written) and parameter.type != TEXT:
        rest = _WORKSPACE.sub("", written, count=1)
        return f"$WORKSPACE{rest}" if "${" not in rest else parameter.default
    return parameter.default


def _about(cube: Cube) -> dict[str, Data]:
    stated: dict[str, Data] = {"name": cube.name}
    stated.update((key, text) for key, text in (("description", cube.description), ("version", cube.version)) if text)
    if cube.requirements:
        stated["platform"] = dict(cube.requirements)
    if cube.calling == "mlbox":
        stated["calling_convention"] = "mlbox"
    return stated


def _authors(cube: Cube) -> dict[str, Data]:
    listed: list[Data] = [{key: text for key, text in (("name", one.name), ("email", one.email), ("org", one.org)) if text}
                          for one in cube.authors]
    return {"authors": listed} if listed else {}


def _task_head(whole: Whole, task: Task) -> dict[str, Data]:
    head: dict[str, Data] = {}
    described = find(whole.resolved, "tasks", task.name)
    if description := text_at(described, "description") or text_at(described, "desc"):
        head["description"] = description
    if task.entrypoint:
        simple = all(_SIMPLE_WORD.match(word) for word in task.entrypoint)
        head["entrypoint"] = " ".join(task.entrypoint) if simple else list(task.entrypoint)
    return head


def _kind(parameter: Parameter) -> dict[str, Data]:
    kind = "string" if parameter.type == TEXT else parameter.type
    return {"type": kind} if kind != "unknown" else {}


def _default(parameter: Parameter) -> dict[str, Data]:
    return {} if parameter.default is None else {"default": parameter.default}


def _rest(parameter: Parameter) -> dict[str, Data]:
    stated = parameter.mode_stated and parameter.direction == "input" and parameter.type != TEXT
    rest: dict[str, Data] = {"opts": parameter.mode} if stated else {}
    return {**rest, "description": parameter.description} if parameter.description else rest


# --- comparing -----------------------------------------------------------------------------------------------------


def same_meaning(whole: Whole, other: Cube, target: str, is_file: Callable[[str], bool]) -> tuple[str, ...]:
    """What differs between the cube and what was read back of it, apart from dialect and places; nothing, one hopes."""
    ignored = has_no_effect(whole.cube, target, is_file)
    left = dict(_meaning(whole.cube, ignored, lambda task, one: portable_default(whole, task, one)))
    right = dict(_meaning(other, ignored, lambda task, one: one.default))
    return tuple(place for place in dict.fromkeys((*left, *right)) if left.get(place) != right.get(place))


def _meaning(cube: Cube, ignored: Callable[[str, str], bool],
             default: Callable[[str, Parameter], str | None]) -> Iterable[tuple[str, object]]:
    yield "name, version or description", (cube.name, cube.version, cube.description)
    yield "authors", cube.authors
    yield "platform", dict(cube.requirements)
    yield "calling_convention", cube.calling == "mlbox"
    yield "tasks", [task.name for task in cube.tasks]
    for task in cube.tasks:
        yield f"tasks.{task.name}.entrypoint", task.entrypoint
        yield f"tasks.{task.name}.parameters", [
            (one.name, one.direction, _seen_kind(one), default(task.name, one), one.mode, one.description)
            for one in task.parameters]
        own = default_group(cube, task)
        yield f"the groups of tasks.{task.name}", {
            group.name: {binding.parameter: binding.value for binding in group.bindings}
            for group in task.groups if group is not own}
    yield "platforms", {platform.name: platform.runner for platform in cube.platforms}
    for platform in cube.platforms:
        yield f"the options of platform '{platform.name}'", option_meaning(cube, platform, partial(ignored, platform.name))


def _seen_kind(parameter: Parameter) -> str:
    """The type; a trailing slash says `directory` in every dialect, though not every reader says so."""
    slash = parameter.type == "unknown" and (parameter.default or "").endswith(("/", "\\"))
    return "directory" if slash else parameter.type
