"""References as they are written, `${...}` in a text, and which values take theirs from which."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.tree import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeAlias

LONGEST = 1_000_000  # characters of a value with references
DEEPEST = 50  # references from value to value, and inside each other
FAULTS = frozenset(("bad-interpolation", "cyclic-reference", "unknown-reference", "unset-variable"))  # codes of their problems


@dataclass(frozen=True)
class Reference:
    """`${...}`: its parts (text and inner references) and its own text."""

    parts: tuple[Part, ...]
    written: str


Part: TypeAlias = "str | Reference"
Uses: TypeAlias = "Mapping[Path, tuple[Path, ...]]"  # each value with references, and the values that it refers to


def parse_text(text: str) -> tuple[Part, ...]:
    """The text's parts; `\\${` is a literal `${`. Raises ValueError for a `${` that nothing closes."""
    if len(text) > LONGEST:
        raise ValueError(f"a text with references is longer than {LONGEST:,} characters")
    return _parse(text, 0, -1)[0]


def _parse(text: str, at: int, depth: int) -> tuple[tuple[Part, ...], int]:
    """The parts from `at` to the end, or inside a reference (depth from 0) to its `}`; and where that is."""
    if depth >= DEEPEST:
        raise ValueError("references are nested too deeply")
    parts: list[Part] = []
    plain: list[str] = []
    while True:
        start = text.find("${", at)
        close = text.find("}", at, start if start >= 0 else len(text)) if depth >= 0 else -1
        stop = close if close >= 0 else start if start >= 0 else len(text)
        before = text[at:stop]
        if close < 0 and start >= 0:
            slashes = len(before) - len(before.rstrip("\\"))
            plain.append(before[:len(before) - slashes] + "\\" * (slashes // 2))
            if slashes % 2:
                plain.append("${")
                at = start + 2
                continue
            inside, at = _parse(text, start + 2, depth + 1)
            parts += [*_one(plain), Reference(inside, text[start:at])]
            plain = []
            continue
        if depth >= 0 and close < 0:
            raise ValueError("'${' is not closed by '}'")
        return (*parts, *_one([*plain, before])), stop + 1


def _one(pieces: list[str]) -> tuple[str, ...]:
    text = "".join(pieces)
    return (text,) if text else ()


def reached(uses: Uses, sections: Iterable[Path]) -> frozenset[Path]:
    """The values with references in these sections of the tree, and those that they take theirs from, near or far."""
    below: dict[Path, list[Path]] = {}
    for user in uses:
        for end in range(len(user) + 1):
            below.setdefault(user[:end], []).append(user)
    found: set[Path] = set()
    left = list(sections)
    while left:
        for user in below.pop(left.pop(), ()):
            if user not in found:
                found.add(user)
                left += uses[user]
    return frozenset(found)
