"""Where a member's values go: to a parameter of the task, or to a key of one of its parameters files. Pure.

Such a file is an input of the task, YAML or JSON with a mapping. The member gets a copy of it in which only the values of
these keys are others: comments and layout stay, as long as what is read from it comes out as meant.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field

import yaml

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.model import Data
from mlcube_cli.definition.source import parse_document
from mlcube_cli.definition.write_yaml import scalar_text, yaml_text
from mlcube_cli.errors import DefinitionError, UsageError
from mlcube_cli.resolve import Bound, Wish, bind, find_copies

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from mlcube_cli.definition.model import Cube, Task
    from mlcube_cli.errors import Problem
    from mlcube_cli.facts import Facts

Key: TypeAlias = "tuple[str | int, ...]"

_ENDINGS = (".yaml", ".yml", ".json")
_MOST_NAMES = 2000  # keys that are looked through for a misspelling


@dataclass(frozen=True)
class Source:
    """A parameters file: an input of the task. `path`: where the task would read it, `text`: what stands in it."""

    parameter: str
    path: str
    text: str
    data: dict[str, Data]

    @property
    def is_json(self) -> bool:
        return self.path.lower().endswith(".json")


@dataclass(frozen=True)
class Target:
    """Where the values of `name` go. `key`: in the file that the parameter means; empty: they are the parameter's own."""

    name: str
    parameter: str
    key: Key = ()


def find_sources(cube: Cube, wish: Wish, facts: Facts) -> tuple[Source, ...]:
    """The task's parameters files, as they are bound. Raises facts.Missing. What cannot be read as one is none."""
    faults: list[Problem] = []
    bound = {parameter: bind(cube, parameter, wish, facts, faults) for parameter in wish.task.parameters}
    written = {item.path for parameter, items in bound.items() if parameter.direction == "output" for item in items}
    names = {parameter.name for parameter in bound if parameter.direction == "output"}
    candidates = [item for parameter, items in bound.items() for item in items
                  if parameter.direction == "input" and parameter.name not in names and item.is_path
                  and item.path.lower().endswith(_ENDINGS) and item.path not in written]
    if not candidates:
        return ()
    copies = {one.target: one.source for one in find_copies(cube, facts)}
    return tuple(source for item in candidates for source in _source(item, copies, facts))


def _source(item: Bound, copies: Mapping[str, str], facts: Facts) -> Iterator[Source]:
    content = facts.text(copies.get(item.path, item.path))
    if content is None:
        return
    try:
        text = content.decode("utf-8")
        data = json.loads(text) if item.path.lower().endswith(".json") else parse_document(content, item.path).data
    except (ValueError, DefinitionError):
        return
    if isinstance(data, dict):
        yield Source(item.parameter.name, item.path, text, data)


def find_targets(names: Sequence[str], task: Task, sources: Sequence[Source]) -> tuple[Target, ...]:
    """Where each name goes: a parameter of that name; else the one file that has the key. `PARAMETER:KEY` says which file.

    Raises UsageError for a name that is nowhere, or in several files, and for an output: each member has its own.
    """
    found = tuple(_target(name, task, sources) for name in names)
    whole = {target.parameter for target in found if not target.key}
    for target in found:
        if target.key and target.parameter in whole:
            raise UsageError(f"'{target.name}' is a key of the file that '{target.parameter}' means, which is set, too",
                             "set one or the other")
    places = [(target.parameter, target.key) for target in found]
    for target in found:
        if places.count((target.parameter, target.key)) > 1:
            raise UsageError(f"'{target.name}' is set twice, under two names", "leave one of them out")
    return found


def _target(name: str, task: Task, sources: Sequence[Source]) -> Target:
    outputs = {parameter.name for parameter in task.parameters if parameter.direction == "output"}
    if name in outputs:
        raise UsageError(f"'{name}' is an output of task '{task.name}': each member has outputs of its own", "leave it out")
    if task.parameter(name):
        return Target(name, name)
    found = [(source, key) for source in sources for key in (find_key(source.data, name),) if key]
    parameter, colon, rest = name.partition(":")
    if colon and not found:
        found = [(source, key) for source in sources for key in (find_key(source.data, rest),)
                 if key and source.parameter == parameter]
    if len(found) > 1:
        files = ", ".join(f"{source.path} ({source.parameter})" for source, _ in found)
        raise UsageError(f"'{name}' is a key of several files: {files}",
                         f"say which one: --set {found[0][0].parameter}:{name}=...")
    if not found:
        raise _nowhere(name, task, sources)
    return Target(name, found[0][0].parameter, found[0][1])


def _nowhere(name: str, task: Task, sources: Sequence[Source]) -> UsageError:
    inputs = [parameter.name for parameter in task.parameters if parameter.direction == "input"]
    known = [*inputs, *(key for source in sources for key in all_keys(source.data))][:_MOST_NAMES]
    guess = nearest(name, known)
    files = ", ".join(source.path for source in sources)
    where = f"a key of {files}" if files else "a key of a parameters file: none of its inputs is a YAML or JSON file with keys"
    hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
    return UsageError(f"'{name}' is neither a parameter of task '{task.name}' nor {where}", hint if known else "")


def find_key(data: Data, name: str) -> Key:
    """The way to the node that a dotted name means, also through keys with dots and into lists; empty: there is none."""
    if isinstance(data, dict) and name in data:
        return (name,)
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        head, rest = ".".join(parts[:count]), ".".join(parts[count:])
        step: str | int = head
        if isinstance(data, dict) and head in data:
            below = data[head]
        elif isinstance(data, list) and head.isdecimal() and int(head) < len(data):
            step, below = int(head), data[int(head)]
        else:
            continue
        key = find_key(below, rest)
        if key:
            return (step, *key)
    if isinstance(data, list) and name.isdecimal() and int(name) < len(data):
        return (int(name),)
    return ()


def all_keys(data: Data, before: str = "") -> Iterator[str]:
    """The dotted names of all keys."""
    if isinstance(data, dict):
        for key, item in data.items():
            yield f"{before}{key}"
            yield from all_keys(item, f"{before}{key}.")


# --- copies ----------------------------------------------------------------------------------------------------------


@dataclass
class Editor:
    """Writes copies of one file. What was found about the file's text is kept from copy to copy."""

    source: Source
    _spans: dict[Key, tuple[int, int] | None] = field(default_factory=dict)
    _tried: dict[tuple[Key, str], bool] = field(default_factory=dict)

    def text(self, changes: Mapping[Key, Data]) -> str:
        """The file's text with these values under their keys."""
        if all(self._fits(key, data) for key, data in changes.items()):
            return self._replaced(changes)
        data = with_values(self.source.data, changes)
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n" if self.source.is_json else yaml_text(data)

    def _fits(self, key: Key, data: Data) -> bool:
        """Does the text with this value in its place mean what it is to mean? One number is as good as another."""
        kind = type(data).__name__ if isinstance(data, (int, float)) or data is None else json.dumps(data)
        if (key, kind) not in self._tried:
            self._tried[key, kind] = self._reads_as_meant(key, data)
        return self._tried[key, kind]

    def _reads_as_meant(self, key: Key, data: Data) -> bool:
        if key not in self._spans:
            self._spans[key] = _span(self.source.text, key)
        if self._spans[key] is None:
            return False
        text = self._replaced({key: data})
        try:
            read = json.loads(text) if self.source.is_json else parse_document(text.encode(), self.source.path).data
        except (ValueError, DefinitionError):
            return False
        return _same(read, with_values(self.source.data, {key: data}))

    def _replaced(self, changes: Mapping[Key, Data]) -> str:
        text = self.source.text
        spans = sorted((span, key) for key in changes for span in (self._spans[key],) if span)
        for (start, end), key in reversed(spans):
            space = " " if text[:start].endswith(":") else ""
            text = text[:start] + space + flow_text(changes[key], self.source.is_json) + text[end:]
        return text


def with_values(data: Data, changes: Mapping[Key, Data]) -> Data:
    """A copy of the data with these values under their keys, all of which are there."""
    changed = copy.deepcopy(data)
    for key, value in changes.items():
        below = changed
        for step in key[:-1]:
            below = below[step]  # type: ignore[index] # find_key went this way
        below[key[-1]] = value  # type: ignore[index]
    return changed


def flow_text(data: Data, as_json: bool = False) -> str:
    """The data on one line, as YAML that every YAML program reads alike, or as JSON."""
    if as_json:
        return json.dumps(data, ensure_ascii=False)
    if isinstance(data, dict):
        return "{" + ", ".join(f"{scalar_text(str(key))}: {flow_text(item)}" for key, item in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(flow_text(item) for item in data) + "]"
    return scalar_text(data)


def _same(one: Data, other: Data) -> bool:
    """Equal, and of the same types: 1, 1.0 and true differ."""
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _span(text: str, key: Key) -> tuple[int, int] | None:
    """Where the value under the key stands in the text; None for what is not one scalar of one line."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    for step in key:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if isinstance(name, yaml.ScalarNode) and name.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return None
    if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
        return None
    return node.start_mark.index, node.end_mark.index
