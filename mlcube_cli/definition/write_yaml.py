"""Plain data -> YAML text that reads back as the same data, here and in every other YAML program."""

from __future__ import annotations

import re

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.scalars import Scalar

_PLAIN = re.compile(r"[A-Za-z_/$][\w./$ -]*(?<! )\Z", re.ASCII)
_WORDS_WITH_ANOTHER_MEANING = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def yaml_text(data: Data, comment: str = "") -> str:
    """The document in block style, one line a value; `comment` lines stand above it."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    if not isinstance(data, (dict, list)) or not data:
        return head + _leaf(data) + "\n"
    return head + "".join(line + "\n" for line in _lines(data, ""))


def scalar_text(value: Scalar) -> str:
    """The scalar as one line; text is quoted unless every YAML program takes it for text without quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        number = repr(value)  # YAML 1.1 takes 1e-05 for text, and 1.0e-05 for a number
        return number.replace("e", ".0e") if "e" in number and "." not in number else number
    if _PLAIN.match(value) and value.lower() not in _WORDS_WITH_ANOTHER_MEANING:
        return value
    return '"' + "".join(_quoted(character) for character in value) + '"'


def _quoted(character: str) -> str:
    """The character inside double quotes; U+DC80 to U+DCFF, which stand for undecodable bytes, survive as escapes."""
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _lines(data: Data, indent: str) -> Iterator[str]:
    if isinstance(data, dict):
        for key, item in data.items():
            yield from _entry(f"{indent}{scalar_text(key)}:", item, indent)
    elif isinstance(data, list):
        for item in data:
            yield from _item(item, indent)


def _entry(head: str, item: Data, indent: str) -> Iterator[str]:
    if isinstance(item, (dict, list)) and item:
        yield head
        yield from _lines(item, indent + "  ")
    else:
        yield f"{head} {_leaf(item)}"


def _item(item: Data, indent: str) -> Iterator[str]:
    if not isinstance(item, (dict, list)) or not item:
        yield f"{indent}- {_leaf(item)}"
        return
    first, *rest = _lines(item, indent + "  ")
    yield f"{indent}- {first[len(indent) + 2:]}"
    yield from rest


def _leaf(data: Data) -> str:
    if isinstance(data, (dict, list)):
        return "{}" if isinstance(data, dict) else "[]"
    return scalar_text(data)
