"""The YAML parser's complaints in plain words."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import Location, Problem

if TYPE_CHECKING:
    from yaml import YAMLError

TEMPLATE = "this is a template ('{{ ... }}') that has not been filled in"
TEMPLATE_HINT = "fill it in first (cookiecutter, jinja2), or quote the value"

# part of the parser's text -> (message, hint); {line} is the line where the construct began, {character} the odd one
_PLAIN_WORDS = (
    ("mapping values are not allowed", "a ': ' stands inside a value, or the line is indented wrongly",
     "quote the value, align the line with its neighbours, or put a ':' behind the key above"),
    ("could not find expected ':'", "this line is neither 'key: value' nor part of the value above it",
     "put a ':' and a space behind the key of line {line}"),
    ("but found ':'", "the key before this ':' is missing", "write 'key: value'"),
    ("expected <block end>", "this line does not belong to the block that began in line {line}",
     "begin the keys (or the '-') of one block in the same column"),
    ("expected ',' or ']'", "the '[' of line {line} is not closed here", "separate with ',' and end with ']'"),
    ("expected ',' or '}'", "the '{{' of line {line} is not closed here", "separate with ',' and end with '}}'"),
    ("found unexpected end of stream", "the quote that opens in line {line} is never closed", "add the closing quote"),
    ("found unknown escape character", "a backslash in a double-quoted text has no meaning here",
     "use single quotes, or write the backslash twice"),
    ("expected escape sequence of", "an escape in double quotes is incomplete", "check the \\x, \\u or \\U escape"),
    ("expected the node content", "a value is missing here", "remove the stray mark, or write the value"),
    ("expected '<document start>'", "text stands behind the end of the document", "indent it, or quote the value"),
    ("expected alphabetic or numeric character", "a value cannot begin with '*' or '&', which mark names in YAML",
     "quote the value"),
    ("found undefined tag handle", "language tags are not allowed in a definition", "remove it, or quote the value"),
    ("found incompatible YAML document", "the %YAML line asks for an unknown version", "remove that line"),
    ("found unexpected ':'", "a ':' stands inside a value", "quote the value"),
    ("sequence entries are not allowed", "a list ('- ') cannot begin here", "begin the list on a line of its own"),
)


def explain(error: YAMLError, text: str, file: str) -> Problem:
    """What the parser found wrong, where, and what to type instead."""
    position = getattr(error, "position", None)
    if isinstance(position, int):
        return _character(text, position, file)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    begun = getattr(error, "context_mark", None) or mark
    words = str(getattr(error, "problem", None) or error)
    if mark is None or begun is None:
        return Problem(Location(file), f"this is not YAML: {words}", "yaml", "check it with an editor that knows YAML")
    location = Location(file, mark.line + 1, mark.column + 1)
    line = _line(text, mark.line)
    if "{{" in line or "{%" in line or "{%" in _line(text, begun.line):
        return Problem(location, TEMPLATE, "template", TEMPLATE_HINT)
    if "found character" in words:
        return _first_character(line, mark.column, location)
    for part, message, hint in _PLAIN_WORDS:
        if part in words:
            return Problem(location, message.format(line=begun.line + 1), "yaml", hint.format(line=begun.line + 1))
    context = getattr(error, "context", None)
    return Problem(location, f"this is not YAML: {words}" + (f" ({context})" if context else ""), "yaml",
                   "check the indentation and the quotes of this line")


def _first_character(line: str, column: int, location: Location) -> Problem:
    character = line[column:column + 1]
    if character == "\t":
        if line[:column].strip(" \t-?"):
            return Problem(location, "a tab stands where a space belongs", "yaml", "replace the tab by a space")
        return Problem(location, "the line is indented with a tab; YAML is indented with spaces", "yaml",
                       "replace the tabs by spaces (expand -t 2 FILE)")
    return Problem(location, f"a value cannot begin with '{character}'", "yaml", "quote the value")


def _character(text: str, position: int, file: str) -> Problem:
    before = text[:position]
    line, column = before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
    code = ord(text[position]) if position < len(text) else 0
    return Problem(Location(file, line, column), f"the file holds the control character U+{code:04X}", "yaml",
                   f'remove it, or write it as "\\x{code:02x}" in double quotes' if code < 256 else "remove it")


def _line(text: str, number: int) -> str:
    lines = text.split("\n", number + 1)
    return lines[number].rstrip("\r") if number < len(lines) else ""
