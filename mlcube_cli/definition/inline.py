"""The inline dialect (everything in one mlcube.yaml) -> Draft; spec/dialects section 3."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli.definition.draft import Draft, GroupDraft, PlatformDraft
from mlcube_cli.definition.kinds import is_text
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.options import canonical_options
from mlcube_cli.definition.platforms import RUNNER_NAMES
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, entries, find, items, mapping, text_at, text_of
from mlcube_cli.errors import NOWHERE


def read_inline(files: Files, file: str, node: Node) -> Draft:
    """The cube whose only definition is `node`. Unknown keys stay in the tree: interpolation may use them."""
    platforms = []
    rest: dict[str, Node | None] = {}
    for key, item in entries(node).items():
        if key in RUNNER_NAMES:
            options, problems = canonical_options(key, item, key)
            files.problems += problems
            section = options if isinstance(item.value, dict) else replace(options, value={})
            platforms.append(PlatformDraft(key, key, section, item.key, file))
        else:
            rest[key] = item
    if "authors" not in rest and "author" in rest:
        rest["authors"] = rest["author"]
    tasks = find(node, "tasks")
    groups: list[GroupDraft] = []
    if tasks is not None:
        rest["tasks"] = mapping({name: _task(name, task, groups) for name, task in entries(tasks).items()}, tasks)
    return Draft("inline", file, mapping(rest, node), tuple(groups), tuple(platforms))


def _task(name: str, task: Node, groups: list[GroupDraft]) -> Node:
    """The task with both sections there and each parameter a mapping; null levels are empty ones."""
    parameters = find(task, "parameters")
    if items(parameters):
        return _compact_task(name, task, groups)
    sides = {}
    for side in ("inputs", "outputs"):
        section = find(parameters, side)
        folded = {parameter: fold(parameter, item) for parameter, item in entries(section).items()}
        sides[side] = mapping(folded, section or parameters or task)
    return mapping({**entries(task), "parameters": mapping(sides, parameters or task)}, task)


def fold(name: str, node: Node) -> Node:
    """A parameter as a mapping: a bare value is its default, null (or no default) means the parameter's own name.

    What is no path and has no default is left out unless it is given: its name is not its value.
    """
    if isinstance(node.value, dict):
        default = find(node, "default")
        if (default is not None and default.value is not None) or is_text(node):
            return node
        value = Node(name, node.key, node.key, name, node.origin)
        return mapping({**entries(node), "default": value}, node)
    default = replace(node, value=name, text=name, location=node.key) if node.value is None else node
    return replace(node, value={"default": default}, text=None, folded=True)


# --- the compact form of March 2021 (spec/dialects 2.11) -----------------------------------------------------------


def _compact_task(name: str, task: Node, groups: list[GroupDraft]) -> Node:
    """`parameters: [{name, type, io}]` and `tasks: {RUN: {parameter: value}}` as everybody else writes them."""
    runs = entries(find(task, "tasks"))
    default = runs.get(name) or (next(iter(runs.values())) if len(runs) == 1 else None)
    sides: dict[str, dict[str, Node | None]] = {"inputs": {}, "outputs": {}}
    for item in items(find(task, "parameters")):
        parameter, side = text_at(item, "name"), "outputs" if text_at(item, "io") == "output" else "inputs"
        if not parameter:
            continue  # then the list is none of the compact form, as the schema says
        value = find(default, parameter) or find(item, "default")
        kept = {key: value for key, value in entries(item).items() if key not in ("name", "io")}
        sides[side][parameter] = mapping({**kept, "default": value}, item)
    for run, values in runs.items():
        bound = tuple((side, parameter, entries(values)[parameter])
                      for side, known in sides.items() for parameter in known if parameter in entries(values))
        groups.append(GroupDraft(run, name, bound, values.location, values is default))
    kept_task = {key: item for key, item in entries(task).items() if key not in ("tasks", "parameters")}
    sections = {side: mapping(known, task) for side, known in sides.items()}
    return mapping({**kept_task, "parameters": mapping(sections, task)}, task)


def check_inline(files: Files, tree: Node) -> None:
    """Warn of `opts: ro` on an output: an output that cannot be written is none (spec/dialects 3.7)."""
    for name, task in entries(find(tree, "tasks")).items():
        for parameter, node in entries(find(task, "parameters", "outputs")).items():
            opts = find(node, "opts")
            if opts is not None and text_of(opts) == "ro":
                place = opts.location if opts.location != NOWHERE else node.location
                files.warn(place, f"output '{parameter}' says 'opts: ro'; an output is written, so this is ignored",
                           "readonly-output", "remove the line, or make it an input",
                           format_path(("tasks", name, "parameters", "outputs", parameter, "opts")))
