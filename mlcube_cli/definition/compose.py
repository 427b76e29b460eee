"""The YAML parser's events -> nodes. Imported only when a file is really parsed, since the parser is slow to import."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.nodes import DEEPEST, Alias, Anchored, Entry, Expansion, Leaf, Node, Sequence, Table
from mlcube_cli.definition.scalars import read_scalar
from mlcube_cli.definition.source import Mark, Path, format_path, refusal
from mlcube_cli.definition.syntax import TEMPLATE, TEMPLATE_HINT, explain
from mlcube_cli.errors import DefinitionError, Location, Problem

if TYPE_CHECKING:
    from mlcube_cli.definition.model import Data

_STANDARD = "tag:yaml.org,2002:"
_TEXT_TAGS = (None, "!", _STANDARD + "str")
_SCALAR_TAGS = {"int": (int,), "float": (float, int), "bool": (bool,), "null": (type(None),)}


def compose(text: str, file: str) -> tuple[Data, dict[Path, Mark], dict[Path, str]]:
    """The data, marks and texts (see source.Document) of the document. Raises DefinitionError carrying its problems."""
    builder = _Builder(file, text)
    try:
        # SafeLoader is the pure Python one: it gives the same marks and messages everywhere.
        node = builder.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        builder.add(explain(error, text, file))
    except (ValueError, OverflowError):  # chr() of an escape such as "\U00110000"
        builder.problems.append(Problem(Location(file), "an escape in a double-quoted text names no character", "yaml",
                                        r"check the \U escapes"))
    if builder.problems:
        raise refusal(tuple(builder.problems))
    expansion = Expansion(file)
    return expansion.expand(node, (), (node.line, node.column)), expansion.marks, expansion.texts


class _Builder:
    """Turns events into nodes, reporting what is refused; recursion is bounded by DEEPEST."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.problems: list[Problem] = []
        self.anchors: dict[str, Anchored | None] = {}  # None: not complete yet

    def add(self, problem: Problem) -> None:
        """One more problem; what an unfilled template breaks is told once."""
        if problem.code != "template" or not any(known.code == "template" for known in self.problems):
            self.problems.append(problem)

    def document(self, events: Iterator[Event]) -> Node:
        next(events)  # the stream's start
        first = next(events)
        if isinstance(first, StreamEndEvent):
            what = "the file holds only comments" if self.text.strip() else "the file is empty"
            raise self._fatal((0, 0), (), "empty-file", what, "write the definition into it")
        node = self._node(next(events), events, ())
        if isinstance(node, Leaf) and node.text == "":
            raise self._fatal((0, 0), (), "empty-file", "the file is empty", "write the definition into it")
        next(events)  # the document's end
        after = next(events)
        if isinstance(after, DocumentStartEvent):
            raise self._fatal(_place(after), (), "yaml", "a second document begins here; a definition file holds one",
                              "put it into a file of its own, or remove the '---' or '...' line")
        return node

    def _node(self, event: Event, events: Iterator[Event], path: Path) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        node: Anchored
        if isinstance(event, ScalarEvent):
            node = self._leaf(event, path)
        else:
            assert isinstance(event, CollectionStartEvent)
            if len(path) >= DEEPEST:
                raise self._fatal(_place(event), path[:8], "too-deep", f"this is nested deeper than {DEEPEST} levels",
                                  "flatten it")
            if event.anchor:
                self.anchors[event.anchor] = None
            build = self._table if isinstance(event, MappingStartEvent) else self._sequence
            node = build(event, events, path)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, path: Path) -> Node:
        target = self.anchors.get(event.anchor or "")
        if target is not None:
            return Alias(*_place(event), target)
        if event.anchor in self.anchors:
            self._report(event, path, "yaml", f"'*{event.anchor}' stands inside '&{event.anchor}' itself", "remove it")
        else:
            self._report(event, path, "yaml", f"'*{event.anchor}' refers to '&{event.anchor}', which is not above it",
                         "quote the value when plain text is meant")
        return Leaf(*_place(event), None, None)

    def _leaf(self, event: ScalarEvent, path: Path) -> Leaf:
        bad = _forbidden_character(event.value)
        if bad:
            self._report(event, path, "bad-value", f"the text holds U+{ord(bad):04X}, which no argument can hold",
                         "remove the escape")
        if event.tag is not None:
            return self._tagged_leaf(event, path)
        if event.style:
            return Leaf(*_place(event), event.value, None)
        return Leaf(*_place(event), read_scalar(event.value), event.value)

    def _tagged_leaf(self, event: ScalarEvent, path: Path) -> Leaf:
        if event.tag in _TEXT_TAGS:
            return Leaf(*_place(event), event.value, None)
        tag = event.tag or ""
        kind = tag[len(_STANDARD):] if tag.startswith(_STANDARD) else ""
        value = read_scalar(event.value)
        if kind not in _SCALAR_TAGS:
            self._refuse_tag(event, tag, path)
        elif type(value) not in _SCALAR_TAGS[kind]:
            self._report(event, path, "bad-value", f"'{event.value}' is not what its tag '!!{kind}' says",
                         "remove the tag")
        return Leaf(*_place(event), value, event.value)

    def _sequence(self, event: CollectionStartEvent, events: Iterator[Event], path: Path) -> Sequence:
        if event.tag not in (None, "!", _STANDARD + "seq"):
            self._refuse_tag(event, event.tag, path)
        items: list[Node] = []
        while not isinstance(following := next(events), SequenceEndEvent):
            items.append(self._node(following, events, (*path, len(items))))
        return Sequence(*_place(event), items)

    def _table(self, event: CollectionStartEvent, events: Iterator[Event], path: Path) -> Table:
        if event.tag not in (None, "!", _STANDARD + "map"):
            self._refuse_tag(event, event.tag, path)
        table = Table(*_place(event), [], [])
        seen: dict[str, int] = {}
        while not isinstance(key := next(events), MappingEndEvent):
            name = self._key(key, events, path)
            value = next(events)
            if name is None:
                self._node(value, events, (*path, "?"))
                continue
            if name in seen:
                self._report(key, (*path, name), "duplicate-key", f"'{name}' stands twice in one mapping, first in "
                             f"line {seen[name]}", "remove or rename one of the two")
            seen.setdefault(name, _place(key)[0])
            child = self._node(value, events, (*path, name))
            if event.flow_style:
                self._check_colon(key, name, child, path)
            if name == "<<" and isinstance(key, ScalarEvent) and not key.style:
                table.merged += self._merged(child, value, path)
            else:
                table.entries.append(Entry(name, *_place(key), child))
        return table

    def _key(self, event: Event, events: Iterator[Event], path: Path) -> str | None:
        """The key as it was written, or None (and a report) where it is no word."""
        if isinstance(event, ScalarEvent):
            if not event.value and not event.style:
                self._report(event, path, "bad-key", "the key before this ':' is missing", "write 'key: value'")
                return None
            if event.tag not in _TEXT_TAGS:
                self._refuse_tag(event, event.tag, path)
            bad = _forbidden_character(event.value)
            if bad:
                self._report(event, path, "bad-key", f"the key holds U+{ord(bad):04X}", "remove the escape")
            if event.anchor:
                self.anchors[event.anchor] = Leaf(*_place(event), event.value, None)
            return event.value
        if isinstance(event, AliasEvent):
            node = self._alias(event, path)
            if isinstance(node, Alias) and isinstance(node.target, Leaf):
                return node.target.text if node.target.text is not None else str(node.target.value)
            if isinstance(node, Leaf):
                return None
        else:
            reported = len(self.problems)
            self._node(event, events, (*path, "?"))
            del self.problems[reported:]  # one fault, one message
            if self._is_template(event):
                self._report(event, path, "template", TEMPLATE, TEMPLATE_HINT)
                return None
        self._report(event, path, "bad-key", "a list or mapping stands where a key belongs", "write 'key: value'")
        return None

    def _is_template(self, event: Event) -> bool:
        mark = event.start_mark
        return mark is not None and mark.index is not None and self.text.startswith("{{", max(0, mark.index - 1))

    def _check_colon(self, key: Event, name: str, child: Node, path: Path) -> None:
        """`{type:file}` is the one word `type:file` without a value: surely not what was meant."""
        if ":" in name and not getattr(key, "style", None) and isinstance(child, Leaf) and child.text == "":
            word, value = name.split(":", 1)
            self._report(key, (*path, name), "yaml", f"'{name}' is one word: there is no space behind its ':'",
                         f"write '{word}: {value}'")

    def _merged(self, child: Node, event: Event, path: Path) -> list[Table]:
        node = child.target if isinstance(child, Alias) else child
        parts = node.items if isinstance(node, Sequence) else [node]
        targets = [part.target if isinstance(part, Alias) else part for part in parts]
        tables = [target for target in targets if isinstance(target, Table)]
        if len(tables) < len(targets):
            self._report(event, (*path, "<<"), "bad-value", "'<<' takes a mapping or a list of mappings",
                         "write '<<: *anchor'")
        return tables

    def _refuse_tag(self, event: Event, tag: str | None, path: Path) -> None:
        shown = "!!" + tag[len(_STANDARD):] if tag and tag.startswith(_STANDARD) else tag
        self._report(event, path, "yaml-tag", f"the language tag '{shown}' is not allowed in a definition",
                     "remove it, or quote the value when it begins with '!'")

    def _report(self, event: Event, path: Path, code: str, message: str, hint: str) -> None:
        self.add(Problem(Location(self.file, *_place(event)), message, code, hint, format_path(path)))

    def _fatal(self, place: tuple[int, int], path: Path, code: str, message: str, hint: str) -> DefinitionError:
        return refusal((*self.problems, Problem(Location(self.file, *place), message, code, hint, format_path(path))))


def _place(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _forbidden_character(text: str) -> str:
    """A NUL or half of a surrogate pair, which no argument can carry; U+DC80 to U+DCFF stand for undecodable bytes."""
    if text.isascii() and "\0" not in text:
        return ""
    return next((character for character in text
                 if character == "\0" or "\ud800" <= character <= "\udc7f" or "\udd00" <= character <= "\udfff"), "")
