"""An ssh platform's options in the spellings of earlier programs (spec/dialects 1.7, 2.8, 3.10), under canonical names."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.tree import Node, entries, is_set, items, mapping, merge
from mlcube_cli.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.definition.draft import PlatformDraft

# The earlier place of a value, and the option that says it here. `identify_file` is how they spelt it.
MOVED: Mapping[tuple[str, str], str] = {
    ("authentication", "user"): "user",
    ("authentication", "identity_file"): "identity_file",
    ("authentication", "identify_file"): "identity_file",
    ("mlcube", "path"): "remote_root", ("mlcube", "remote_dir"): "remote_root",
    ("mlbox", "path"): "remote_root", ("mlbox", "remote_dir"): "remote_root",
    ("env", "variables"): "env",
}
_DIRECTORY = ("path", "remote_dir", "sync", "interpreter")  # of the tool that they copied to the other machine
_ALWAYS = "the cube, the inputs and the outputs always travel, as far as they changed"
_NO_TOOL = "nothing of ours is installed on the other machine"
# What has no use any more, and why. An `env` with one of `_DIRECTORY` is the tool's directory, else it holds variables.
NO_USE: Mapping[str, str] = {
    "interpreter": _NO_TOOL, "runtime": _NO_TOOL, "remote_local": _NO_TOOL, "env": _NO_TOOL,
    "authentication": "",  # what else stands there is an unknown key
    "mlcube": _ALWAYS, "mlbox": _ALWAYS, "sync": _ALWAYS,
}
_OF_THE_MACHINE = ("setup", "modules")  # lists; `env` is a map


def canonical_ssh(options: Mapping[str, Node], path: str) -> tuple[dict[str, Node], tuple[Problem, ...]]:
    """The options with every value where it stands here; a problem for what is said twice, a warning for what has no use."""
    kept = dict(options)
    problems: list[Problem] = []
    for section in ("authentication", "mlcube", "mlbox", "env", "runtime", "interpreter", "remote_local", "sync"):
        node = kept.get(section)
        if node is None or (section == "sync" and isinstance(node.value, dict)):
            continue
        inner = entries(node)
        if section == "env" and not any(name in inner for name in (*_DIRECTORY, "variables")):
            continue
        del kept[section]
        rest = {}
        for name, item in inner.items():
            target = MOVED.get((section, name))
            if target is None:
                rest[name] = item
            elif is_set(item):
                problems += _move(kept, target, item, f"{_dotted(path, section)}.{name}")
        if NO_USE[section] and _says_something(mapping(rest, node) if inner else node):
            what = _listed(rest) if len(rest) < len(inner) else "it"
            problems.append(Problem(node.key, no_use(section), "unused-section", f"remove {what}", _dotted(path, section),
                                    "warning"))
    return kept, tuple(problems)


def no_use(section: str) -> str:
    """The sentence about a section that this program does not need."""
    return f"'{section}' has no use any more" + (f": {NO_USE[section]}" if NO_USE[section] else "")


def _move(kept: dict[str, Node], target: str, item: Node, path: str) -> tuple[Problem, ...]:
    if not is_set(kept.get(target)):
        kept[target] = item
        return ()
    return (Problem(item.key, f"'{path.rpartition('.')[2]}' says again what {kept[target].key} says: both are the option "
                    f"'{target}'", "duplicate-key", "keep one of them", path),)


def _listed(rest: Mapping[str, Node]) -> str:
    return ", ".join(f"'{name}'" for name in rest)


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _says_something(node: Node) -> bool:
    """Whether a section asks for anything: not when it is empty, and `sync: true` is what happens anyway."""
    if isinstance(node.value, dict):
        return any(_says_something(item) for name, item in node.value.items() if not (name == "sync" and item.value is True))
    if isinstance(node.value, tuple):
        return bool(node.value)
    return is_set(node) and node.value != ""


# --- what is said of a machine ---------------------------------------------------------------------------------------


def with_machine(machine: PlatformDraft, inside: PlatformDraft) -> PlatformDraft:
    """The platform that runs on a machine with what is said of the machine itself: its `modules` and `setup` lines before
    its own, its `env` beneath its own (RULINGS 24). The lines of a batch system are of its nodes alone: its own runner adds
    them."""
    outer, options = entries(machine.options), dict(entries(inside.options))
    for name in _OF_THE_MACHINE if machine.runner == "ssh" else ():
        if is_set(outer.get(name)):
            options[name] = _joined(outer[name], options.get(name))
    if entries(outer.get("env")):
        below = outer["env"]
        own = options.get("env")
        options["env"] = replace(merge(below, own), own=below.own and own.own) if own is not None and is_set(own) else below
    return replace(inside, options=mapping(options, inside.options))


def _joined(before: Node, after: Node | None) -> Node:
    if after is None or not is_set(after):
        return before
    lines = tuple(item for node in (before, after) for item in (items(node) if isinstance(node.value, tuple) else (node,)))
    return replace(after, value=lines, text=None, own=before.own and after.own)
