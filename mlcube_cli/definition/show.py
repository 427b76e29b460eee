"""The effective definition for `show-config`: YAML text with origins as comments, or data. Pure."""

from __future__ import annotations

import json
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.tree import (
    HIDDEN,
    Node,
    entries,
    find,
    is_secret,
    items,
    mapping,
    origin_of,
    origins,
    plain,
    put,
    sequence,
    text_of,
)
from mlcube_cli.definition.write_yaml import scalar_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlcube_cli.definition import Effective
    from mlcube_cli.definition.model import Cube, Data

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


def only_platform(cube: Cube, tree: Node, name: str | None, inside: Iterable[str] = ()) -> Node:
    """The tree with just the platform of that name and what runs inside of it; None: with all of them."""
    platforms = find(tree, "platforms")
    if name is None:
        return tree
    shown = {name, *inside}
    if cube.dialect == "inline":
        return _without(tree, {platform.name for platform in cube.platforms} - shown)
    assert platforms is not None
    return mapping({**entries(tree), "platforms": _without(platforms, set(entries(platforms)) - shown)}, tree)


def _without(node: Node, names: set[str]) -> Node:
    return mapping({key: item for key, item in entries(node).items() if key not in names}, node)


def without_secrets(cube: Cube, effective: Effective) -> Cube:
    """The cube with what came from the environment as the definition writes it (`${oc.env:NAME}`), to be shown."""
    from mlcube_cli.definition.assemble import build_cube
    from mlcube_cli.definition.draft import Draft
    from mlcube_cli.definition.load import Files

    tree = _as_written(effective.resolved, effective.raw)
    shown = build_cube(Draft(cube.dialect, cube.file, tree), Files(cube.root, cube.root), cube.workspace)
    tasks = (replace(task, groups=known.groups) for task, known in zip(shown.tasks, cube.tasks))
    return replace(shown, tasks=tuple(tasks), platforms=cube.platforms)


def _as_written(resolved: Node, raw: Node) -> Node:
    """The tree with the raw node wherever the resolved one is secret."""
    if resolved.secret:
        return raw
    if isinstance(resolved.value, dict) and isinstance(raw.value, dict):
        return mapping({key: _as_written(item, entries(raw).get(key, item)) for key, item in resolved.value.items()},
                       resolved)
    if items(resolved) and len(items(resolved)) == len(items(raw)):
        return sequence((_as_written(item, written) for item, written in zip(items(resolved), items(raw))), resolved)
    return raw if is_secret(resolved) else resolved


def config_data(cube: Cube, tree: Node, resolved: bool) -> dict[str, Data]:
    """The document mlcube.show-config.v1."""
    return {
        "schema": "mlcube.show-config.v1", "root": cube.root, "dialect": cube.dialect, "resolved": resolved,
        "config": plain(tree, hide=True),
        "origins": {".".join(map(str, path)): origin for path, origin in origins(tree)},
    }


def config_text(cube: Cube, tree: Node) -> str:
    """YAML that reads back as the same data; platform values, and all that no file says, with their origin."""
    platforms = [platform.name for platform in cube.platforms] if cube.dialect == "inline" else ["platforms"]
    return "".join(line + "\n" for key, item in entries(tree).items()
                   for line in _entry_lines(f"{scalar_text(key)}:", item, 0, key in platforms))


def tree_text(node: Node, sourced: bool) -> str:
    """Any node as YAML; `sourced`: each value with where it came from."""
    lines = _mapping_lines(node, 0, sourced) if entries(node) else (
        line for item in items(node) for line in _item_lines(item, 0, sourced)) if items(node) else (
        [_with_origin(_bare(node), node, sourced)])
    return "".join(line + "\n" for line in lines)


def _bare(node: Node) -> str:
    """A value that stands alone: text as it is, for scripts."""
    return node.value if isinstance(node.value, str) else _leaf(node)


def _mapping_lines(node: Node, indent: int, sourced: bool) -> Iterator[str]:
    for key, item in entries(node).items():
        yield from _entry_lines(f"{' ' * indent}{scalar_text(key)}:", item, indent, sourced)


def _entry_lines(head: str, node: Node, indent: int, sourced: bool) -> Iterator[str]:
    """The lines of one key; `sourced`: each value with where it came from."""
    if entries(node):
        yield head
        yield from _mapping_lines(node, indent + 2, sourced)
    elif items(node):
        yield head
        for item in items(node):
            yield from _item_lines(item, indent + 2, sourced)
    else:
        yield _with_origin(f"{head} {_leaf(node)}", node, sourced)


def _item_lines(node: Node, indent: int, sourced: bool) -> Iterator[str]:
    if not entries(node) and not items(node):
        yield _with_origin(f"{' ' * indent}- {_leaf(node)}", node, sourced)
        return
    lines = list(_mapping_lines(node, indent + 2, sourced)) or [
        line for item in items(node) for line in _item_lines(item, indent + 2, sourced)]
    yield f"{' ' * indent}- {lines[0].lstrip()}"
    yield from lines[1:]


def _leaf(node: Node) -> str:
    if node.secret:
        return json.dumps(HIDDEN)
    if isinstance(node.value, (dict, tuple)):
        return "{}" if isinstance(node.value, dict) else "[]"
    return scalar_text(node.value) if isinstance(node.value, str) else text_of(node) or "null"


def _with_origin(line: str, node: Node, sourced: bool) -> str:
    origin = origin_of(node)
    if sourced or ":" not in origin:
        return f"{line:<{_COLUMN}}  # {origin}" if origin not in ("", "generated") else line
    return line
