"""What `--set NAME=VALUES` and a table of values say, and the members that they make together. Pure."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from decimal import Decimal

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.scalars import read_scalar
from mlcube_cli.errors import DefinitionError, Location, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcube_cli.definition.model import Data

MOST = 10_000  # members
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_LIKE_A_RANGE = re.compile(r"[0-9eE+.-]*\d\.\.[0-9eE+.-]*")
_QUOTE = "put quotes around a value with a comma or a sign of YAML's in it: --set 'NAME=[\"a, b\", c]'"


@dataclass(frozen=True)
class Value:
    """A value as YAML reads it, and as it was typed: a task's parameter gets the text, a file's key the data."""

    data: Data
    text: str


@dataclass(frozen=True)
class Axis:
    """A name with the values that it takes, in the order typed."""

    name: str
    values: tuple[Value, ...]


def parse_set(text: str) -> Axis:
    """`NAME=V,V,...`: YAML scalars, ranges (`1..5`, `0..1..0.25`, both ends in it), or one YAML list. Raises UsageError."""
    name, equals, typed = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UsageError(f"--set {text}: this does not say which name is set",
                         "write --set NAME=VALUE,VALUE or --set NAME=1..5")
    if not typed.strip():
        raise UsageError(f"--set {text}: there is no value", f"write --set {name}=VALUE,VALUE; the empty text is '{name}=\"\"'")
    if _undecodable(typed):  # a path: no YAML can hold it
        return Axis(name, tuple(Value(part, part) for part in typed.split(",")))
    return Axis(name, tuple(_values(text, typed)))


def _undecodable(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as YAML 1.1 has it


def _values(text: str, typed: str) -> Iterator[Value]:
    from mlcube_cli.definition.source import Document, parse_document

    def read(wrapped: str) -> Document:
        try:
            return parse_document(wrapped.encode(), "--set")
        except DefinitionError as error:
            raise UsageError(f"--set {text}: {error.message}", _QUOTE) from None

    wrapped = f"[{typed}]"
    document = read(wrapped)
    items = document.data
    if isinstance(items, list) and len(items) == 1 and isinstance(items[0], list):  # it is a YAML list itself
        wrapped = typed
        document = read(wrapped)
        items = document.data
    if not isinstance(items, list) or not items:
        raise UsageError(f"--set {text}: this is no list of values", _QUOTE)
    lines = _LINE_END.split(wrapped)
    for number, item in enumerate(items):
        line, column = document.marks[(number,)][:2]
        plain = lines[line - 1][column - 1:column] not in ("'", '"')
        if isinstance(item, str) and plain and _LIKE_A_RANGE.fullmatch(item):
            yield from _range(text, item)
        else:
            yield Value(item, _text(item, document.text((number,))))


def _text(data: Data, typed: str | None) -> str:
    if isinstance(data, (dict, list)):
        return json.dumps(data)
    return "null" if typed is None else typed


def _range(text: str, item: str) -> Iterator[Value]:
    """The values of `FIRST..LAST` or `FIRST..LAST..STEP`, both ends in it, in decimal arithmetic. Raises UsageError."""
    match = _RANGE.fullmatch(item)
    if match is None:
        raise UsageError(f"--set {text}: '{item}' is no range", "write FIRST..LAST or FIRST..LAST..STEP, such as 1..5 or "
                         "0..1..0.25; or put quotes around a text")
    whole = all(re.fullmatch(r"[+-]?\d+", part) for part in match.groups() if part)
    if match[3] is None and not whole:
        raise UsageError(f"--set {text}: a range of fractions needs a step", f"write {item}..STEP, such as 0..1..0.25")
    first, last = Decimal(match[1]), Decimal(match[2])
    step = Decimal(match[3]) if match[3] else Decimal(1 if last >= first else -1)
    if not step or (last - first) * step < 0:
        raise UsageError(f"--set {text}: steps of {match[3]} do not lead from {match[1]} to {match[2]}",
                         "check the step's sign")
    count = (last - first) / step + 1
    if count > MOST:
        raise UsageError(f"--set {text}: this range has more than {MOST:,} values", "a sweep has at most that many members")
    for number in range(int(count)):
        value = first + number * step
        shown = str(int(value)) if whole else format(value.normalize(), "f")
        yield Value(int(value) if whole else float(value), shown)


# --- tables ----------------------------------------------------------------------------------------------------------


def parse_table(text: str, file: str) -> tuple[Mapping[str, Value], ...]:
    """The rows of a CSV text, whose first row has the names; an empty cell sets nothing. Raises UsageError, with the place."""
    import csv
    import io

    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise _bad_table(file, reader.line_num, f"this is no CSV: {error}", "check the quotes") from None
    rows = [(line, row) for line, row in rows if any(row)]
    if len(rows) < 2:
        raise _bad_table(file, 0, "a table has a row of names, and a row of values for each member", "")
    names = rows[0][1]
    for name in names:
        if not name or names.count(name) > 1:
            why = f"'{name}' stands twice among the names" if name else "a column has no name"
            raise _bad_table(file, rows[0][0], why, "the first row has a name for each column, separated by commas")
    found = []
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise _bad_table(file, line, f"this row has {len(row)} cells, and there are {len(names)} names",
                             "put quotes around a cell with a comma in it")
        found.append({name: _cell(cell, file, line) for name, cell in zip(names, row) if cell})
    return tuple(found)


def _cell(text: str, file: str, line: int) -> Value:
    if text[0] not in "[{" or _undecodable(text):
        return Value(read_scalar(text), text)
    from mlcube_cli.definition.source import parse_document

    try:
        return Value(parse_document(text.encode(), file).data, text)
    except DefinitionError as error:
        raise _bad_table(file, line, f"'{text}': {error.message}", error.hint) from None


def _bad_table(file: str, line: int, message: str, hint: str) -> UsageError:
    return UsageError(message, hint, Location(file, line, 1) if line else Location(file))


# --- members ---------------------------------------------------------------------------------------------------------


def members_of(axes: Sequence[Axis], rows: Sequence[Mapping[str, Value]] = ()) -> tuple[dict[str, Value], ...]:
    """Each combination of a row and a value of each axis: the last axis varies fastest. Raises UsageError for a name that is
    set twice, for none, for too many (MOST), and for two that are the same."""
    names = [axis.name for axis in axes]
    for name in (*names, *(name for row in rows for name in row)):
        if names.count(name) > 1 or (name in names and any(name in row for row in rows)):
            raise UsageError(f"'{name}' is set twice", f"give all its values at once: --set {name}=VALUE,VALUE")
    count = len(rows) if rows else 1
    for axis in axes:
        count *= len(axis.values)
    if not axes and not rows:
        raise UsageError("a sweep needs values that differ", "--set NAME=VALUE,VALUE, or --from TABLE.csv")
    if count > MOST:
        raise UsageError(f"these would be {count:,} members: a sweep has at most {MOST:,}", "leave out some of the values")
    found = tuple({**row, **dict(zip(names, values))}
                  for row in rows or ({},) for values in itertools.product(*(axis.values for axis in axes)))
    _refuse_equal(found)
    return found


def _refuse_equal(members: Sequence[Mapping[str, Value]]) -> None:
    seen: dict[str, int] = {}
    for number, values in enumerate(members, 1):
        key = json.dumps({name: value.data for name, value in values.items()}, sort_keys=True)
        first = seen.setdefault(key, number)
        if first != number:
            said = ", ".join(f"{name}={value.text}" for name, value in values.items()) or "nothing set at all"
            raise UsageError(f"members {first} and {number} are the same: {said}", "leave one of them out")


def shown(values: Mapping[str, str]) -> str:
    """A member's values on one line, as they were typed."""
    return " ".join(f"{name}={text}" for name, text in values.items())
