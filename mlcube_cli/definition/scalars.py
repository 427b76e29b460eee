"""What a plain (unquoted) YAML scalar means: the YAML 1.2 core schema, with doubtful cases left as text."""

from __future__ import annotations

from typing import Union

Scalar = Union[None, bool, int, float, str]

_WORDS: dict[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}
_DIGITS = frozenset("0123456789")
_NUMBER_CHARACTERS = frozenset("0123456789.eE+-")
_LONGEST_NUMBER = 40  # characters; longer ones are identifiers, and int() is quadratic


def read_scalar(text: str) -> Scalar:
    """The value of a plain scalar.

    Numbers, true, false and null as YAML 1.2 has them. Text stays what 1.2 does not know (`yes`, `on`, `1:30`,
    `2020-01-01`, `1_000`), and what has no single meaning: `0123` (octal in YAML 1.1), `.inf`, `.nan` and `1e999`
    (JSON has no such numbers), and numbers of more than 40 characters.
    """
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if text[:2] in ("0x", "0o"):
        return _based_integer(text)
    if not _NUMBER_CHARACTERS.issuperset(text) or _DIGITS.isdisjoint(text):
        return text
    return _decimal(text)


def _based_integer(text: str) -> Scalar:
    digits = "0123456789abcdefABCDEF" if text[1] == "x" else "01234567"
    if len(text) == 2 or not set(text[2:]) <= set(digits):
        return text
    return int(text[2:], 16 if text[1] == "x" else 8)


def _decimal(text: str) -> Scalar:
    unsigned = text[1:] if text[0] in "+-" else text
    if _DIGITS.issuperset(unsigned):
        return text if len(unsigned) > 1 and unsigned[0] == "0" else int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number in (float("inf"), float("-inf")) else number
