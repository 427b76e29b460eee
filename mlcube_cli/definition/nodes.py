"""YAML nodes with their places, and their expansion to plain data: what aliases multiply is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.scalars import Scalar
from mlcube_cli.definition.source import Mark, Path, format_path, refusal
from mlcube_cli.errors import Location, Problem

if TYPE_CHECKING:
    from mlcube_cli.definition.model import Data

DEEPEST = 100  # levels of nesting
MOST_COPIES = 100_000  # nodes that aliases and merge keys may add to those written in the file


@dataclass
class Leaf:
    line: int
    column: int
    value: Scalar
    text: str | None  # the source text of a plain scalar, None for a quoted one


@dataclass
class Sequence:
    line: int
    column: int
    items: list[Node]


@dataclass
class Entry:
    key: str
    line: int
    column: int
    value: Node


@dataclass
class Table:
    line: int
    column: int
    entries: list[Entry]
    merged: list[Table]  # from `<<`; the first one wins


@dataclass
class Alias:
    line: int
    column: int
    target: Anchored


Anchored = Union[Leaf, Sequence, Table]
Node = Union[Leaf, Sequence, Table, Alias]


class Expansion:
    """Writes nodes out as data, marks and texts (see source.Document)."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.copies = 0
        self.marks: dict[Path, Mark] = {}
        self.texts: dict[Path, str] = {}

    def expand(self, node: Node, path: Path, key: tuple[int, int], copied: int = 0) -> Data:
        """The data of `node`; `copied` is 1 inside what an alias or merge key brought here. Raises DefinitionError."""
        self.marks[path] = (node.line, node.column, *key)
        if isinstance(node, Alias):
            node, copied = node.target, 1
        self._count(copied, node, path)
        if isinstance(node, Leaf):
            if node.text and node.text != str(node.value):
                self.texts[path] = node.text
            return node.value
        if isinstance(node, Sequence):
            return [self.expand(item, (*path, index), (item.line, item.column), copied)
                    for index, item in enumerate(node.items)]
        return {name: self.expand(entry.value, (*path, name), (entry.line, entry.column), copied or merged)
                for name, (entry, merged) in self._entries(node, path, 0).items()}

    def _entries(self, node: Table, path: Path, copied: int) -> dict[str, tuple[Entry, int]]:
        """The mapping's entries with merge keys applied: its own win, then the first of several merged ones."""
        found: dict[str, tuple[Entry, int]] = {}
        for merged in reversed(node.merged):
            self._count(1, merged, path)
            found.update(self._entries(merged, path, 1))
        for entry in node.entries:
            self._count(copied, node, path)
            found[entry.key] = (entry, copied)
        return found

    def _count(self, copied: int, node: Node, path: Path) -> None:
        self.copies += copied
        if self.copies > MOST_COPIES or len(path) > DEEPEST:
            message = f"aliases blow this document up to more than {MOST_COPIES:,} nodes or {DEEPEST} levels"
            raise refusal((Problem(Location(self.file, node.line, node.column), message, "too-many-aliases",
                                   "write it without aliases inside of aliases", format_path(path[:8])),))
