"""A Draft with everything applied -> the frozen Cube."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.draft import Draft, GroupDraft, PlatformDraft
from mlcube_cli.definition.kinds import kind_of
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.model import (
    OVERRIDE,
    TEXT,
    Author,
    Binding,
    Cube,
    Data,
    Group,
    Option,
    Parameter,
    Platform,
    Task,
)
from mlcube_cli.definition.options import typed_options
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import (
    Node,
    entries,
    find,
    is_secret,
    is_set,
    items,
    origin_of,
    plain,
    text_at,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_SIDES = {"inputs": "input", "outputs": "output"}


def build_cube(draft: Draft, files: Files, workspace: str) -> Cube:
    """The cube; a word list that no shell rule can split is noted in `files`."""
    tree = draft.tree
    requirements = find(tree, "platform")
    return Cube(
        root=files.root, file=draft.file, dialect=draft.dialect,
        name=text_at(tree, "name") or os.path.basename(files.root), version=text_at(tree, "version"),
        description=text_at(tree, "description"), authors=_authors(find(tree, "authors")), workspace=workspace,
        tasks=tuple(_task(draft, files, name, node) for name, node in entries(find(tree, "tasks")).items()),
        platforms=tuple(_platform(draft, files, platform) for platform in draft.platforms),
        requirements=_requirements(requirements), convention=text_at(tree, "calling_convention"),
    )


def _requirements(node: Node | None) -> Mapping[str, Data]:
    return {name: plain(item) for name, item in entries(node).items()}


# --- authors -------------------------------------------------------------------------------------------------------


def _authors(node: Node | None) -> tuple[Author, ...]:
    """Authors in every shape that is about: a list of mappings or of texts, one mapping, one text."""
    listed = items(node) or ((node,) if is_set(node) and node is not None else ())
    return tuple(author for item in listed for author in _author(item))


def _author(node: Node) -> tuple[Author, ...]:
    if isinstance(node.value, dict):
        email = text_at(node, "email")
        author = Author(text_at(node, "name") or email, email, text_at(node, "org") or text_at(node, "organization"))
        return (author,) if author.name or author.org else ()
    name, _, rest = (text_of(node) or "").strip().partition("<")
    if rest.endswith(">"):
        return (Author(name.strip() or rest[:-1], rest[:-1]),)
    text = (text_of(node) or "").strip()
    return (Author(text),) if text else ()


# --- tasks ---------------------------------------------------------------------------------------------------------


def _task(draft: Draft, files: Files, name: str, node: Node) -> Task:
    parameters = tuple(_parameter(draft.dialect, side, parameter, item) for side in _SIDES
                       for parameter, item in entries(find(node, "parameters", side)).items())
    groups = tuple(_group(group, node) for group in draft.groups if group.task == name)
    return Task(name, parameters, _entrypoint(files, name, find(node, "entrypoint")), groups, node.key)


def _parameter(dialect: str, side: str, name: str, node: Node) -> Parameter:
    default, opts = find(node, "default"), text_at(node, "opts")
    value = text_of(default)
    direction = _SIDES[side]
    stated = opts in ("ro", "rw")
    location = default.location if default is not None and value is not None else node.key
    kind = _kind(dialect, node, value)
    mode = "rw" if direction == "output" else opts if stated and kind != TEXT else "ro"
    return Parameter(name, direction, kind, value, mode, text_at(node, "description") or text_at(node, "desc"), location,
                     stated)


def _kind(dialect: str, node: Node, value: str | None) -> str:
    """The declared type, else what a trailing slash says (spec/dialects 3.4); what needs the disk stays unknown."""
    if (kind := kind_of(node)) != "unknown":
        return kind
    slash = dialect == "inline" and value is not None and value.endswith(("/", "\\"))
    return "directory" if slash else "unknown"


def _group(group: GroupDraft, task: Node) -> Group:
    """The group's values; a default that `-P` set holds in every group."""
    bindings: dict[str, Binding] = {}
    for _, name, node in group.values:
        bindings.setdefault(name, Binding(name, text_of(node), node.location))
    for side in _SIDES:
        for name, node in entries(find(task, "parameters", side)).items():
            default = find(node, "default")
            if default is not None and default.origin == OVERRIDE:
                bindings[name] = Binding(name, text_of(default), default.location)
    return Group(group.name, group.task, tuple(bindings.values()), group.location)


def _entrypoint(files: Files, task: str, node: Node | None) -> tuple[str, ...] | None:
    """The words of an entry point, split by shell rules; None where there is none."""
    if node is None or not is_set(node):
        return None
    if items(node):
        return tuple(text_of(item) or "" for item in items(node))
    text = text_of(node) or ""
    if not text.strip():
        files.warn(node.location, f"the entry point of task '{task}' is empty, so the platform's own is used, with the task's "
                   "name as its first word", "empty-entrypoint", "remove the line, or name a command",
                   format_path(("tasks", task, "entrypoint")))
        return None
    if not any(char in text for char in "'\"\\"):
        return tuple(text.split())
    import shlex

    try:
        return tuple(shlex.split(text)) or None
    except ValueError as error:
        reason = str(error)
        files.note(node.location, f"the entry point cannot be split into words: {reason[:1].lower()}{reason[1:]}",
                   "bad-value", "close the quotes, or write it as a list of words",
                   format_path(("tasks", task, "entrypoint")))
        return None


# --- platforms -----------------------------------------------------------------------------------------------------


def _platform(cube: Draft, files: Files, draft: PlatformDraft) -> Platform:
    typed = typed_options(entries(draft.options))
    if draft.runner == "slurm":
        from mlcube_cli.definition.slurm_options import typed_slurm

        wrong = {problem.location for problem in files.problems if problem.severity == "error"}
        path = draft.name if cube.dialect == "inline" else ""
        typed, problems = typed_slurm(typed, path, lambda node: node.location in wrong)
        files.problems += problems
    return Platform(draft.name, draft.runner, tuple(_option(name, node) for name, node in typed.items()), draft.location)


def _option(name: str, node: Node) -> Option:
    hidden = {key: item for key, item in entries(node).items() if is_secret(item)}
    taken = any(item.origin != OVERRIDE and not item.own for item in hidden.values()) if hidden else is_secret(node)
    own = tuple(key for key, item in entries(node).items() if item.own)
    return Option(name, plain(node), origin_of(node), taken, tuple(hidden), node.own, own)
