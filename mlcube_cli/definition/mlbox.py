"""The MLBox dialect (mlbox.yaml, groups of values, an implementation file) -> Draft; spec/dialects section 1."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.detect import IMPLEMENTATION, names_in
from mlcube_cli.definition.draft import Draft, GroupDraft, PlatformDraft
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.options import canonical_options, is_empty_list, package_list
from mlcube_cli.definition.platforms import runner_of
from mlcube_cli.definition.source import Document, format_path
from mlcube_cli.definition.tree import Node, entries, find, from_data, is_set, mapping, text_at, text_of
from mlcube_cli.errors import Location

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_GROUP = "default"
_UNUSED = ("implementation_type", "command", "args")  # older boxes carry the last two; nothing ever read them


def read_mlbox(files: Files, file: str, node: Node) -> Draft:
    """The box whose mlbox.yaml is `node`."""
    tasks, groups = {}, []
    for name, task in entries(find(node, "tasks")).items():
        declared = _parameters(task)
        found = _groups(files, name, task, declared)
        groups += found
        tasks[name] = _task(task, declared, next((group for group in found if group.default), None))
    _unlisted(files, tasks)
    root = mapping({
        "name": find(node, "name"), "version": find(node, "version"), "description": _description(node),
        "authors": find(node, "author") or find(node, "authors"), "platform": find(node, "platform"),
        "tasks": mapping(tasks, find(node, "tasks")),
    }, node)
    platform = _implementation(files, node)
    return Draft("mlbox", file, root, tuple(groups), (platform,) if platform else ())


# --- tasks and groups ----------------------------------------------------------------------------------------------


def _description(node: Node) -> Node | None:
    return find(node, "description") or find(node, "desc")


def _parameters(task: Node) -> list[tuple[str, str, Node]]:
    """(direction, name, node), inputs then outputs."""
    return [(side, name, node) for side in ("inputs", "outputs") for name, node in entries(find(task, side)).items()]


def _task(task: Node, declared: list[tuple[str, str, Node]], default: GroupDraft | None) -> Node:
    values = {name: node for _, name, node in default.values} if default else {}
    sides: dict[str, dict[str, Node | None]] = {"inputs": {}, "outputs": {}}
    for side, name, node in declared:
        described = node if isinstance(node.value, str) else _description(node)
        sides[side][name] = mapping({"default": values.get(name), "description": described, "opts": find(node, "opts"),
                                     "type": find(node, "type")}, node)
    sections = {side: mapping(found, find(task, side) or task) for side, found in sides.items()}
    return mapping({"parameters": mapping(sections, task), "description": _description(task)}, task)


def _groups(files: Files, task: str, node: Node, declared: list[tuple[str, str, Node]]) -> list[GroupDraft]:
    if task in (".", "..") or "/" in task:
        return []
    found = []
    for name, path in files.definitions("tasks", task):
        values = files.load(path, _group_schema)
        if values is not None:
            found.append(_group(files, name, task, values, declared))
    if declared and not any(group.default for group in found):
        known = [group.name for group in found]
        hint = f"its groups are: {', '.join(known)}" if known else "make it, with a line 'parameter: path' for each"
        files.warn(node.key, f"there is no tasks/{task}/{DEFAULT_GROUP}.yaml: its parameters have no values",
                   "missing-file", hint, format_path(("tasks", task)))
    return found


def _group_schema(_: Document) -> str:
    return "mlbox_group"


def _group(files: Files, name: str, task: str, node: Node, declared: list[tuple[str, str, Node]]) -> GroupDraft:
    """The group's values in the order of mlbox.yaml; a parameter without one is an error (RULINGS 1)."""
    values, known = entries(node), list(dict.fromkeys(parameter for _, parameter, _ in declared))
    for parameter, value in values.items():
        if parameter not in known:
            guess = files.guesses.nearest(parameter, known)
            files.warn(value.key, f"task '{task}' has no parameter '{parameter}'", "unknown-parameter",
                       f"did you mean '{guess}'?" if guess else f"its parameters are: {', '.join(known) or 'none'}",
                       parameter)
    for parameter in known:
        if parameter not in values:
            files.note(node.location, f"group '{name}' of task '{task}' gives parameter '{parameter}' no value",
                       "unbound-parameter", f"add a line '{parameter}: path' (or '{parameter}: null' to leave it out)",
                       parameter)
    bound = tuple(("", parameter, values[parameter]) for parameter in known if parameter in values)
    return GroupDraft(name, task, bound, replace(node.location, line=0, column=0), name == DEFAULT_GROUP)


def _unlisted(files: Files, tasks: Mapping[str, object]) -> None:
    """Warn of what lies below tasks/ and that mlbox.yaml does not list."""
    for name in names_in(os.path.join(files.root, "tasks")) or []:
        path = os.path.join(files.root, "tasks", name)
        if name.endswith((".yaml", ".yml")) and not os.path.isdir(path):
            files.warn(Location(files.shown(path)), "this file belongs to no task, so it is not used", "unlisted-file",
                       f"a task's values are in tasks/TASK/{DEFAULT_GROUP}.yaml")
        elif name not in tasks and not name.startswith(".") and os.path.isdir(path):
            guess = files.guesses.nearest(name, list(tasks))
            files.warn(Location(files.shown(path)), f"mlbox.yaml lists no task '{name}', so this directory is not used",
                       "unlisted-file", f"did you mean '{guess}'?" if guess else "list it under 'tasks' in mlbox.yaml")


# --- the implementation --------------------------------------------------------------------------------------------


def _implementation(files: Files, box: Node) -> PlatformDraft | None:
    """The platform that implementation/mlbox_implementation.yaml describes; it decides, whatever mlbox.yaml says."""
    path = os.path.join(files.root, *IMPLEMENTATION)
    stated = find(box, "implementation") or find(box, "implementation_type")
    if not os.path.lexists(path):
        place = stated or box
        files.note(place.location, f"there is no {'/'.join(IMPLEMENTATION)}, so the box cannot run", "missing-file",
                   "make it with 'implementation_type: docker' and 'image: NAME'", "implementation" if stated else "")
        return None
    node = files.load(path, _implementation_schema)
    kind = text_at(node, "implementation_type")
    if node is None or not kind:
        return None
    runner = runner_of(kind)
    section = mapping({name: item for name, item in entries(node).items() if name not in _UNUSED}, node)
    if kind in ("python", "exec"):
        section = _local_section(section, kind)
    if is_empty_list(find(section, "docker_args")):
        section = mapping({name: item for name, item in entries(section).items() if name != "docker_args"}, section)
    options, problems = canonical_options(runner, section, "")
    files.problems += problems
    return PlatformDraft(runner, runner, options, replace(node.location, line=0, column=0), path)


def _implementation_schema(_: Document) -> str:
    return "mlbox_implementation"


def _local_section(section: Node, kind: str) -> Node:
    """`python` and `exec` on this machine; an interpreter that is there but empty is the one that runs us."""
    values: dict[str, Node | None] = dict(entries(section))
    if kind == "exec":
        return mapping({**values, "kind": from_data("exec", "", section.location)}, section)
    interpreter = values.get("interpreter")
    if interpreter is not None and not text_of(interpreter):
        values["interpreter"] = replace(interpreter, value="current", text="current")
    values["requirements"] = package_list(values.get("requirements"))
    return mapping(values, section)


def merge_platform(box: tuple[PlatformDraft, ...], over: PlatformDraft) -> PlatformDraft:
    """A platform file's section laid over the implementation's options when both mean the same runner."""
    base = next((platform for platform in box if over.runner in ("", platform.runner)), None)
    if base is None:
        return over
    set_options = {name: node for name, node in entries(over.options).items() if is_set(node)}
    options = mapping({**entries(base.options), **set_options}, base.options)
    return replace(over, runner=base.runner, options=options)
