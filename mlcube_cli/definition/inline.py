"""The inline dialect (everything in one mlcube.yaml) -> Draft; spec/dialects section 3."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli.definition.draft import Draft, GroupDraft, PlatformDraft
from mlcube_cli.definition.kinds import is_text
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.options import canonical_options
from mlcube_cli.definition.platforms import FORMER, RUNNER_NAMES
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, entries, find, items, mapping, text_of
from mlcube_cli.errors import NOWHERE


def read_inline(files: Files, file: str, node: Node, compact: bool = False) -> Draft:
    """The cube whose only definition is `node`. Unknown keys stay in the tree: interpolation may use them.

    `compact`: in the form of spec/dialects 2.11, which may have platform files beside it.
    """
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
    if compact:
        from mlcube_cli.definition.compact import compact_platforms

        platforms += compact_platforms(files, file, node)
    _warn_of_unused(files, node)
    tasks = find(node, "tasks")
    groups: list[GroupDraft] = []
    if tasks is not None:
        rest["tasks"] = mapping({name: _task(files, name, task, groups) for name, task in entries(tasks).items()}, tasks)
    return Draft("inline", file, mapping(rest, node), tuple(groups), tuple(platforms))


def _warn_of_unused(files: Files, node: Node) -> None:
    """Name the sections of runners that earlier programs had and this one has not; `${k8s.pvc}` still finds them."""
    for key, item in entries(node).items():
        if key in FORMER:
            files.warn(item.key, f"'{key}' is a section for {FORMER[key]}, which this program does not have: it is not used",
                       "unused-section", "run on one of the other platforms, or with a platform file: --platform FILE", key)


def _task(files: Files, name: str, task: Node, groups: list[GroupDraft]) -> Node:
    """The task with both sections there and each parameter a mapping; null levels are empty ones."""
    parameters = find(task, "parameters")
    if items(parameters) or items(find(task, "io")):
        from mlcube_cli.definition.compact import compact_task

        return compact_task(files, name, task, groups)
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
