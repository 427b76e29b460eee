"""The directory dialect (mlcube.yaml, tasks/, run/, platforms/) -> Draft; spec/dialects section 2."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli.definition.draft import Draft, GroupDraft, PlatformDraft
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.platforms import read_platform_file
from mlcube_cli.definition.source import Document, format_path
from mlcube_cli.definition.tree import Node, entries, find, items, mapping, text_at, text_of
from mlcube_cli.errors import Location

# Platform files of the dialect's first stage, beside the main file.
_ROOT_PLATFORMS = {"mlbox_docker.yaml": "docker", "mlcube_docker.yaml": "docker",
                   "mlbox_singularity.yaml": "singularity", "mlcube_singularity.yaml": "singularity"}
_SIDES = {"inputs": "input_binding", "outputs": "output_binding"}


def read_directory(files: Files, file: str, node: Node, run_files: tuple[str, ...] = ()) -> Draft:
    """The cube whose main file is `node`. `run_files`: run configurations, perhaps from elsewhere, that somebody named."""
    tasks = {name: _task(files, task) for name, task in _task_files(files, file, node)}
    groups = _run_configurations(files, tasks, run_files)
    root = mapping({
        "name": find(node, "name"), "version": find(node, "version"), "description": find(node, "description"),
        "authors": find(node, "author") or find(node, "authors"), "platform": find(node, "platform"),
        "calling_convention": find(node, "calling_convention"),
        "tasks": mapping({name: _with_defaults(task, name, groups) for name, task in tasks.items()}, node),
    }, node)
    return Draft("directory", file, root, tuple(groups), tuple(read_platforms(files)))


# --- tasks ---------------------------------------------------------------------------------------------------------


def _task_files(files: Files, file: str, node: Node) -> list[tuple[str, Node]]:
    """The task files that the main file lists, in its order, then those that it does not list (RULINGS 1)."""
    there = {path: name for name, path in files.definitions("tasks")}
    found: dict[str, Node] = {}
    seen: dict[str, Node] = {}
    for index, item in enumerate(items(find(node, "tasks"))):
        text = text_of(item)
        if not text:
            continue
        path = os.path.normpath(os.path.join(files.root, text))
        name = os.path.splitext(os.path.basename(path))[0]
        where = format_path(("tasks", index))
        if path in seen:
            files.warn(item.location, f"'{text}' is listed twice", "duplicate-task", "remove one of the lines", where)
        elif not os.path.lexists(path):
            _missing_task(files, item, text, list(there), where)
        elif name in found:
            files.note(item.location, f"a second file defines the task '{name}'", "duplicate-task",
                       "a task's name is its file's name: rename one of the files", where)
        else:
            task = files.load(path, _task_schema)
            if task is not None:
                found[name] = task
        seen[path] = item
    for path, name in there.items():
        if path not in seen:
            _unlisted(files, file, path, name, found)
    return list(found.items())


def _missing_task(files: Files, item: Node, text: str, there: list[str], where: str) -> None:
    known = [os.path.relpath(path, files.root) for path in there]
    guess = files.guesses.nearest(text, known)
    files.note(item.location, f"there is no task file '{text}'", "missing-task",
               f"did you mean '{guess}'?" if guess else "make the file, or remove this line", where)


def _unlisted(files: Files, file: str, path: str, name: str, found: dict[str, Node]) -> None:
    task = files.load(path, _task_schema)
    main = os.path.basename(file)
    files.warn(Location(files.shown(path)), f"{main} does not list this task file", "unlisted-file",
               f"add '- {os.path.relpath(path, files.root)}' to 'tasks' in {main}")
    if task is not None and name not in found:
        found[name] = task


def _task_schema(_: Document) -> str:
    return "mlcube_task"


def _task(files: Files, node: Node) -> Node:
    """The task as an inline cube writes it: parameters by name."""
    sides = {}
    for side in ("inputs", "outputs"):
        parameters: dict[str, Node | None] = {}
        for index, item in enumerate(items(find(node, side))):
            name = text_at(item, "name")
            if name in parameters:
                files.note(item.location, f"'{name}' is declared twice in '{side}'", "duplicate-parameter",
                           "remove one of them", format_path((side, index, "name")))
            elif find(item, "name") is not None:
                parameters[name] = mapping({key: value for key, value in entries(item).items() if key != "name"}, item)
        sides[side] = mapping(parameters, find(node, side) or node)
    whole = replace(node.location, line=0, column=0)
    described = find(node, "description") or find(node, "desc")
    return replace(mapping({"entrypoint": find(node, "entrypoint"), "description": described,
                            "parameters": mapping(sides, node)}, node), location=whole, key=whole)


# --- run configurations --------------------------------------------------------------------------------------------


def _run_configurations(files: Files, tasks: dict[str, Node], more: tuple[str, ...]) -> list[GroupDraft]:
    found = {path: _load_run(files, name, path, tasks) for name, path in files.definitions("run", deep=True)}
    own = [group for group in found.values() if group is not None]
    named = [_load_run(files, os.path.splitext(os.path.basename(path))[0], path, tasks)
             for path in dict.fromkeys(more) if path not in found]
    return [replace(group, default=_is_default(group, own)) for group in own] + [group for group in named if group]


def _load_run(files: Files, name: str, path: str, tasks: dict[str, Node]) -> GroupDraft | None:
    node = files.load(path, _invoke_schema)
    return _run_configuration(files, name, node, tasks) if node is not None else None


def _is_default(group: GroupDraft, groups: list[GroupDraft]) -> bool:
    """RULINGS 3: the run configuration with the task's own name, else the task's only one."""
    same_task = [other for other in groups if other.task == group.task]
    return group.name == group.task or len(same_task) == 1


def _invoke_schema(_: Document) -> str:
    return "mlcube_invoke"


def _run_configuration(files: Files, name: str, node: Node, tasks: dict[str, Node]) -> GroupDraft | None:
    task_name = find(node, "task_name")
    task = text_of(task_name)
    if task_name is None or not task:
        return None
    if task not in tasks:
        guess = files.guesses.nearest(task, list(tasks))
        files.note(task_name.location, f"this cube has no task '{task}'", "unknown-task", f"did you mean '{guess}'?"
                   if guess else f"its tasks are: {', '.join(tasks) or 'none'}", "task_name")
        return None
    parameters = {side: list(entries(find(tasks[task], "parameters", side))) for side in _SIDES}
    values = []
    for side, binding in _SIDES.items():
        bound = entries(find(node, binding))
        for parameter, value in bound.items():
            if parameter not in parameters[side]:
                _misbound(files, value, (binding, parameter), parameters)
        values += [(side, parameter, _value(files, bound[parameter], (binding, parameter)))
                   for parameter in parameters[side] if parameter in bound]
    _unbound(files, node, name, parameters, values)
    return GroupDraft(name, task, tuple(values), replace(node.location, line=0, column=0))


def _value(files: Files, node: Node, where: tuple[str, str]) -> Node:
    """A binding's value. Kubernetes configurations write `{path: ..., k8s: ...}`, with the path as it is below the cube
    (spec/dialects 2.9): `workspace/data` is the workspace's `data`."""
    if not isinstance(node.value, dict):
        return node
    path = find(node, "path")
    text = text_of(path) or ""
    if path is None or not text:
        files.note(node.location, f"'{where[1]}' is bound to a mapping without a path", "missing-key",
                   f"write '{where[1]}: PATH'", format_path(where))
        return Node(None, node.location, node.key)
    files.warn(node.location, f"'{where[1]}' is bound for Kubernetes: its path is used, the rest is not", "unused-section",
               f"write '{where[1]}: PATH'", format_path(where))
    if text.startswith("workspace/"):
        text = text[len("workspace/"):] or "."
    return replace(path, value=text, text=text)


def _misbound(files: Files, value: Node, where: tuple[str, str], parameters: dict[str, list[str]]) -> None:
    binding, name = where
    known = [parameter for names in parameters.values() for parameter in names]
    if name in known:
        other = next(right for side, right in _SIDES.items() if right != binding)
        kind = "an output" if other == "output_binding" else "an input"
        message, code, hint = f"'{name}' is {kind} of the task", "wrong-binding", f"move it to {other}"
    else:
        guess = files.guesses.nearest(name, known)
        message, code = f"the task has no parameter '{name}'", "unknown-parameter"
        hint = f"did you mean '{guess}'?" if guess else f"its parameters are: {', '.join(known) or 'none'}"
    files.note(value.key, message, code, hint, format_path(where))


def _unbound(files: Files, node: Node, name: str, parameters: dict[str, list[str]],
             values: list[tuple[str, str, Node]]) -> None:
    bound = {parameter for _, parameter, _ in values}
    for side, binding in _SIDES.items():
        for parameter in parameters[side]:
            if parameter not in bound:
                place = find(node, binding) or node
                files.warn(place.key, f"run configuration '{name}' has no value for '{parameter}': it is left out",
                           "unbound-parameter", f"add '{parameter}: PATH' to {binding}", binding)
    _bound_twice(files, values)


def _bound_twice(files: Files, values: list[tuple[str, str, Node]]) -> None:
    """One parameter is passed once, so a name that is both input and output needs one value."""
    first: dict[str, Node] = {}
    for side, parameter, value in values:
        other = first.setdefault(parameter, value)
        if text_of(other) != text_of(value):
            files.note(value.key, f"'{parameter}' is bound to another path in {_SIDES['inputs']}", "bound-twice",
                       f"give both bindings one path ({other.location} says '{text_of(other)}')",
                       format_path((_SIDES[side], parameter)))


def _with_defaults(task: Node, name: str, groups: list[GroupDraft]) -> Node:
    """The task with the values of its default run configuration as its parameters' defaults."""
    same = [group for group in groups if group.task == name and group.default]
    chosen = next((group for group in same if group.name == name), same[0] if same else None)
    values = {(side, parameter): value for side, parameter, value in chosen.values} if chosen else {}
    sides = {}
    for side in _SIDES:
        section = find(task, "parameters", side)
        sides[side] = mapping({parameter: mapping({**entries(node), "default": values.get((side, parameter))
                                                   or find(node, "default")}, node)
                               for parameter, node in entries(section).items()}, section)
    return mapping({**entries(task), "parameters": mapping(sides, find(task, "parameters"))}, task)


# --- platforms -----------------------------------------------------------------------------------------------------


def read_platforms(files: Files) -> list[PlatformDraft]:
    """The platforms that the cube's files define: below platforms/, and of the first stage beside the main file."""
    found: dict[str, PlatformDraft] = {}
    for name, path in files.definitions("platforms", deep=True):
        platform = read_platform_file(files, path, name)
        if platform is not None:
            found[name] = platform
    for base, name in _ROOT_PLATFORMS.items():
        path = os.path.join(files.root, base)
        if name not in found and os.path.lexists(path):
            platform = read_platform_file(files, path, name)
            if platform is not None:
                found[name] = platform
    return list(found.values())
