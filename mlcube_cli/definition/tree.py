"""The normal tree: a definition's data in which every node remembers where it was written, whatever the dialect."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import Data
from mlcube_cli.errors import NOWHERE, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    from mlcube_cli.definition.source import Document

HIDDEN = "***"
Path: TypeAlias = "tuple[str | int, ...]"
Value: TypeAlias = "bool | int | float | str | tuple[Node, ...] | dict[str, Node] | None"


@dataclass(frozen=True)
class Node:
    """A value of the tree: a scalar, a tuple of nodes, or a mapping of nodes.

    `origin` is empty where `location` says it all, else `default` or `-P`. `folded` marks a parameter that was written
    as a bare value (`data: path/`) and stands in the tree as a mapping with that value as its `default`.
    """

    value: Value
    location: Location = NOWHERE
    key: Location = NOWHERE  # where the key stands; of a list's items, the item itself
    text: str | None = None  # a scalar as the user wrote it (1.10, true); None for null and for collections
    origin: str = ""
    secret: bool = False  # taken from the environment: never shown, never recorded
    folded: bool = False
    own: bool = False  # the user's settings say it, not the cube


def from_document(document: Document, path: Path = ()) -> Node:
    """The document's node at `path` as a tree."""
    return _build(document, _data_at(document.data, path), path)


def _data_at(data: Data, path: Path) -> Data:
    for step in path:
        data = data[step]  # type: ignore[index]  # the caller knows the path
    return data


def _build(document: Document, data: Data, path: Path) -> Node:
    value: Value
    text = None
    if isinstance(data, dict):
        value = {key: _build(document, item, (*path, key)) for key, item in data.items()}
    elif isinstance(data, list):
        value = tuple(_build(document, item, (*path, index)) for index, item in enumerate(data))
    else:
        value = data
        text = None if data is None else document.text(path)
    return Node(value, document.location(path), document.location(path, key=True), text)


def from_data(data: Data, origin: str, location: Location | None = None) -> Node:
    """Plain data as a tree whose nodes all have this origin."""
    place = location or Location(origin)
    if isinstance(data, dict):
        return Node({key: from_data(item, origin, place) for key, item in data.items()}, place, place, origin=origin)
    if isinstance(data, list):
        return Node(tuple(from_data(item, origin, place) for item in data), place, place, origin=origin)
    return Node(data, place, place, scalar_text(data), origin)


def scalar_text(data: Data) -> str | None:
    """A scalar in YAML's own spelling; None for null and for collections."""
    if data is None or isinstance(data, (dict, list)):
        return None
    if isinstance(data, bool):
        return "true" if data else "false"
    return str(data)


# --- looking -------------------------------------------------------------------------------------------------------


def entries(node: Node | None) -> Mapping[str, Node]:
    """The node's mapping; empty for everything else (a wrong shape is the schema's to report)."""
    return node.value if node is not None and isinstance(node.value, dict) else {}


def items(node: Node | None) -> tuple[Node, ...]:
    """The node's list items; empty for everything else."""
    return node.value if node is not None and isinstance(node.value, tuple) else ()


def find(node: Node | None, *path: str | int) -> Node | None:
    """The node at `path` below `node`, or None."""
    for step in path:
        if isinstance(step, int):
            found = items(node)
            node = found[step] if 0 <= step < len(found) else None
        else:
            node = entries(node).get(step)
        if node is None:
            return None
    return node


def text_of(node: Node | None) -> str | None:
    """A scalar as text, the way it was written; None for null, collections and nothing."""
    if node is None or node.value is None or isinstance(node.value, (dict, tuple)):
        return None
    return node.text if node.text is not None else scalar_text(node.value)


def text_at(node: Node | None, *path: str) -> str:
    """The text at `path`, or the empty string."""
    return text_of(find(node, *path)) or ""


def is_set(node: Node | None) -> bool:
    """True for a node that is there and not null."""
    return node is not None and node.value is not None


def plain(node: Node, hide: bool = False) -> Data:
    """The tree as plain data; with `hide`, values from the environment as `***`."""
    if hide and node.secret:
        return HIDDEN
    if isinstance(node.value, dict):
        return {key: plain(item, hide) for key, item in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(item, hide) for item in node.value]
    return node.value


def is_secret(node: Node) -> bool:
    """True when the node or anything in it was taken from the environment."""
    if node.secret:
        return True
    inner: Iterable[Node] = node.value.values() if isinstance(node.value, dict) else items(node)
    return any(is_secret(item) for item in inner)


def origin_of(node: Node) -> str:
    """Where the value came from: `FILE:LINE:COLUMN`, `default`, `-P`."""
    return node.origin or str(node.location)


def origins(node: Node, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every scalar (and empty collection) of the tree with its origin."""
    children = list(node.value.items()) if isinstance(node.value, dict) else list(enumerate(items(node)))
    if not children:
        yield path, origin_of(node)
    for step, item in children:
        yield from origins(item, (*path, step))


# --- making --------------------------------------------------------------------------------------------------------


def mapping(values: Mapping[str, Node | None], like: Node | None = None) -> Node:
    """A mapping node of the values that are there, placed where `like` stands."""
    kept = {name: item for name, item in values.items() if item is not None}
    return replace(like, value=kept, text=None) if like is not None else Node(kept)


def sequence(values: Iterable[Node], like: Node) -> Node:
    """A list node placed where `like` stands."""
    return replace(like, value=tuple(values), text=None)


def put(node: Node, path: Path, new: Node) -> Node:
    """The tree with `new` at `path`; mappings on the way are made, a mapping over a mapping is merged."""
    if not path:
        return merge(node, new)
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        found = list(items(node))
        found[step] = put(found[step], rest, new)
        return replace(node, value=tuple(found))
    if not isinstance(node.value, dict):
        node = replace(node, value={}, text=None, folded=False)
    inner = entries(node)
    base = inner[step] if step in inner else replace(new, value={}, text=None, folded=False)
    changed = put(base, rest, new) if rest or step in inner else new
    return replace(node, value={**inner, step: changed}, text=None)


def merge(base: Node, over: Node) -> Node:
    """`over` laid upon `base`: mappings key by key, anything else replaced."""
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        merged = dict(base.value)
        for key, item in over.value.items():
            merged[key] = merge(merged[key], item) if key in merged else item
        return replace(base, value=merged)
    return replace(over, key=base.key if base.key != NOWHERE else over.key)
