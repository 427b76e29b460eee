"""The lines of a settings file and what a change does to them; settings_edit.py checks what comes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.write_yaml import scalar_text, yaml_text

if TYPE_CHECKING:
    from typing import TypeAlias

    from mlcube_cli.definition.model import Data

Keys: TypeAlias = "tuple[str, ...]"
Pair: TypeAlias = "tuple[yaml.Node, yaml.Node]"


class TooArtful(Exception):  # noqa: N818 - another way is tried then
    """The lines of an entry cannot be told from others."""


@dataclass(frozen=True)
class Span:
    """A part of the text, by indices."""

    start: int
    end: int


class Text:
    """A text with its nodes. Raises TooArtful for what is no block of lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        if self.root is not None and not isinstance(self.root, yaml.MappingNode):
            raise TooArtful

    def pair(self, path: Keys) -> Pair | None:
        """The key and value at `path`, or None where it is not there. Raises TooArtful behind an alias."""
        node: yaml.Node | None = self.root
        found: Pair | None = None
        for key in path:
            if not isinstance(node, yaml.MappingNode):
                return None
            found = next(((k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode) and k.value == key), None)
            if found is None:
                return None
            if found[1].start_mark.index < found[0].end_mark.index:
                raise TooArtful
            node = found[1]
        return found

    def parent(self, path: Keys) -> yaml.Node | None:
        """The mapping that the last key of `path` stands in; None for one that is not there."""
        found = self.pair(path[:-1])
        return self.root if len(path) == 1 else found[1] if found else None

    def replace(self, span: Span, new: str) -> str:
        return self.text[:span.start] + new + self.text[span.end:]

    def end(self, key: yaml.Node, value: yaml.Node) -> int:
        """Behind the last character of an entry."""
        return self._end(value, key.end_mark.index)

    def _end(self, node: yaml.Node, start: int) -> int:
        if node.start_mark.index < start:  # an alias: the node stands elsewhere
            return self.line_end(start)
        if isinstance(node, yaml.ScalarNode):
            behind = int(node.end_mark.index)
            return len(self.text[:behind].rstrip()) if node.style in ("|", ">") else behind
        if _in_brackets(node) or not node.value:
            return int(node.end_mark.index)
        last = node.value[-1]
        return self.end(*last) if isinstance(node, yaml.MappingNode) else self._end(last, node.start_mark.index)

    def line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def line_end(self, index: int) -> int:
        """Where the line's break begins."""
        found = self.text.find("\n", index)
        return len(self.text) if found < 0 else found

    def lines(self, key: yaml.Node, value: yaml.Node) -> Span:
        """The whole lines of an entry, and the deeper comments that follow it."""
        start = self.line_start(key.start_mark.index)
        if self.text[start:key.start_mark.index].strip(" \ufeff"):
            raise TooArtful
        column = key.start_mark.index - start
        end = min(self.line_end(self.end(key, value)) + 1, len(self.text))
        at = end
        while at < len(self.text):
            line = self.text[at:self.line_end(at)]
            bare = line.strip()
            if bare and not (bare.startswith("#") and len(line) - len(line.lstrip(" ")) > column):
                break
            at = min(self.line_end(at) + 1, len(self.text))
            end = at if bare else end
        return Span(start, end)

    def block(self, name: str, value: Data, column: int, written: str = "") -> str:
        """An entry as lines of its own."""
        made = yaml_text({name: value})
        if written and made.endswith(f" {_leaf(value)}\n"):
            made = made[:-len(_leaf(value)) - 1] + written + "\n"
        return "".join(" " * column + line + self.newline for line in made.splitlines())


def _in_brackets(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _leaf(value: Data) -> str:
    while isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return scalar_text(value) if not isinstance(value, (dict, list)) else ""


def _flow(value: Data) -> str:
    """The value on one line, inside of brackets."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar_text(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return scalar_text(value)


def set_entry(text: Text, path: Keys, value: Data, written: str) -> str:
    found = text.pair(path)
    if found is None:
        depth = next(depth for depth in range(len(path) - 1, -1, -1) if depth == 0 or text.pair(path[:depth]))
        for inner in reversed(path[depth + 1:]):
            value = {inner: value}
        return _insert(text, path[:depth + 1], value, written)
    key, old = found
    parent = text.parent(path)
    if _in_brackets(parent):
        return text.replace(Span(old.start_mark.index, old.end_mark.index), _flow(value))
    plain = isinstance(old, yaml.ScalarNode) and old.style not in ("|", ">") and not isinstance(value, (dict, list))
    if plain and old.end_mark.index > old.start_mark.index:
        return text.replace(Span(old.start_mark.index, old.end_mark.index), written or _leaf(value))
    made = text.block(path[-1], value, key.start_mark.column, written)
    span = text.lines(key, old)
    name = text.text[key.start_mark.index:key.end_mark.index]
    rest = made[key.start_mark.column + len(scalar_text(path[-1])):]
    return text.replace(span, text.text[span.start:key.start_mark.index] + name + rest)


def _insert(text: Text, path: Keys, value: Data, written: str) -> str:
    """The text with a new entry at the end of the mapping above it, which is there, or is null."""
    name = path[-1]
    parent = text.parent(path)
    if parent is None:  # an empty file
        return _ended(text) + text.block(name, value, 0, written)
    holder = text.pair(path[:-1])
    if isinstance(parent, yaml.MappingNode) and parent.value:
        if _in_brackets(parent):
            at = parent.end_mark.index - 1
            return text.replace(Span(at, at), f", {scalar_text(name)}: {_flow(value)}")
        last = text.lines(*parent.value[-1])
        made = text.block(name, value, parent.value[0][0].start_mark.column, written)
        return text.replace(Span(last.end, last.end), ("" if text.text[:last.end].endswith("\n") else text.newline) + made)
    if holder is None:  # the document is `{}`
        return text.replace(Span(parent.start_mark.index, parent.end_mark.index), text.block(name, value, 0, written).rstrip())
    above = text.parent(path[:-1])
    if _in_brackets(above):
        return text.replace(Span(parent.start_mark.index, parent.end_mark.index), _flow({name: value}))
    key = holder[0]
    stop = max(parent.end_mark.index, key.end_mark.index + 1)
    colon = text.text.index(":", key.end_mark.index) + 1
    rest = text.text[max(stop, colon):text.line_end(max(stop, colon))].rstrip()
    head = text.text[:colon] + rest + text.newline
    tail = text.text[min(text.line_end(max(stop, colon)) + 1, len(text.text)):]
    return head + text.block(name, value, key.start_mark.column + 2, written) + tail


def _ended(text: Text) -> str:
    return text.text + ("" if not text.text or text.text.endswith("\n") else text.newline)


def remove_entry(text: Text, path: Keys) -> str:
    found, parent = text.pair(path), text.parent(path)
    if found is None or parent is None:
        raise TooArtful
    if not _in_brackets(parent):
        return text.replace(text.lines(*found), "")
    start, end = found[0].start_mark.index, text.end(*found)
    before, behind = text.text[:start].rstrip(), text.text[end:].lstrip()
    if behind.startswith(","):
        return text.text[:start] + behind[1:].lstrip()
    return (before[:-1] if before.endswith(",") else text.text[:start]) + text.text[end:]


def rename_entry(text: Text, path: Keys, name: str) -> str:
    found = text.pair(path)
    if found is None:
        raise TooArtful
    return text.replace(Span(found[0].start_mark.index, found[0].end_mark.index), scalar_text(name))


def copy_entry(text: Text, path: Keys, name: str) -> str:
    """The new entry stands last, as one that is made anew does."""
    found, parent = text.pair(path), text.parent(path)
    if found is None or not isinstance(parent, yaml.MappingNode):
        raise TooArtful
    key, value = found
    if _in_brackets(parent):
        at = parent.end_mark.index - 1
        body = text.text[key.end_mark.index:text.end(key, value)]
        return text.replace(Span(at, at), f", {scalar_text(name)}{body}")
    span = text.lines(key, value)
    head, tail = text.text[span.start:key.start_mark.index], text.text[key.end_mark.index:span.end]
    made = head + scalar_text(name) + tail
    end = text.lines(*parent.value[-1]).end
    return text.replace(Span(end, end), ("" if text.text[:end].endswith("\n") else text.newline) + made)


def write_section(text: Text, section: str, data: dict[str, Data]) -> str:
    """The text with one top-level section written anew; its comments are lost."""
    found = text.pair((section,))
    made = text.block(section, data[section], 0) if section in data else ""
    if found is None:
        return _ended(text) + made
    if _in_brackets(text.root):
        raise TooArtful
    return text.replace(text.lines(*found), made)
