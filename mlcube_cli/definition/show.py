"""The effective definition for `show-config`: YAML text with origins as comments, or data. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mlcube_cli.definition.tree import HIDDEN, Node, entries, find, items, mapping, origin_of, plain, put, text_of

if TYPE_CHECKING:
    from mlcube_cli.definition.model import Cube, Data

_PLAIN = re.compile(r"[A-Za-z_/$][\w./$ -]*(?<! )\Z", re.ASCII)
_WORDS_WITH_ANOTHER_MEANING = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_SECTIONS = ("docker", "singularity", "local", "ssh", "slurm", "platforms")
_COLUMN = 60


def with_values(tree: Node, values: Mapping[str, str]) -> Node:
    """The tree with `name=value` of the command line as the default of every parameter of that name."""
    for task, node in entries(find(tree, "tasks")).items():
        for direction, parameters in entries(find(node, "parameters")).items():
            for name in entries(parameters):
                if name in values:
                    value = Node(values[name], text=values[name], origin="the command line")
                    tree = put(tree, ("tasks", task, "parameters", direction, name, "default"), value)
    return tree


def only_platform(tree: Node, name: str | None) -> Node:
    """The tree with just the platform of that name; None: with all of them."""
    platforms = find(tree, "platforms")
    if name is None or platforms is None:
        return tree
    kept = {key: item for key, item in entries(platforms).items() if key == name}
    return mapping({**entries(tree), "platforms": mapping(dict(kept), platforms)}, tree)


def config_data(cube: Cube, tree: Node, resolved: bool) -> dict[str, Data]:
    """The document mlcube.show-config.v1."""
    return {
        "schema": "mlcube.show-config.v1", "root": cube.root, "dialect": cube.dialect, "resolved": resolved,
        "config": plain(tree, hide=True),
        "origins": {".".join(path): origin for path, origin in _origins(tree, ())},
    }


def _origins(node: Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    children = list(entries(node).items()) or [(str(index), item) for index, item in enumerate(items(node))]
    if not children:
        yield path, origin_of(node)
    for step, item in children:
        yield from _origins(item, (*path, step))


def config_text(tree: Node) -> str:
    """YAML that reads back as the same data; platform values, and all that no file says, with their origin."""
    return "".join(line + "\n" for line in _mapping_lines(tree, 0, ()))


def _mapping_lines(node: Node, indent: int, path: tuple[str, ...]) -> Iterator[str]:
    for key, item in entries(node).items():
        yield from _entry_lines(f"{' ' * indent}{_scalar_text(key)}:", item, indent, (*path, key))


def _entry_lines(head: str, node: Node, indent: int, path: tuple[str, ...]) -> Iterator[str]:
    if entries(node):
        yield head
        yield from _mapping_lines(node, indent + 2, path)
    elif items(node):
        yield head
        for item in items(node):
            yield from _item_lines(item, indent + 2, path)
    else:
        yield _with_origin(f"{head} {_leaf(node)}", node, path)


def _item_lines(node: Node, indent: int, path: tuple[str, ...]) -> Iterator[str]:
    if not entries(node) and not items(node):
        yield _with_origin(f"{' ' * indent}- {_leaf(node)}", node, path)
        return
    lines = list(_mapping_lines(node, indent + 2, path)) or [
        line for item in items(node) for line in _item_lines(item, indent + 2, path)]
    yield f"{' ' * indent}- {lines[0].lstrip()}"
    yield from lines[1:]


def _leaf(node: Node) -> str:
    if node.secret:
        return json.dumps(HIDDEN)
    if isinstance(node.value, (dict, tuple)):
        return "{}" if isinstance(node.value, dict) else "[]"
    return _scalar_text(node.value) if isinstance(node.value, str) else text_of(node) or "null"


def _scalar_text(text: str) -> str:
    """The text as a YAML scalar that reads back as the same text; JSON's quoting is YAML's."""
    if _PLAIN.match(text) and text.lower() not in _WORDS_WITH_ANOTHER_MEANING:
        return text
    return json.dumps(text)


def _with_origin(line: str, node: Node, path: tuple[str, ...]) -> str:
    origin = origin_of(node)
    if path[0] in _SECTIONS or ":" not in origin:
        return f"{line:<{_COLUMN}}  # {origin}" if origin not in ("", "generated") else line
    return line
