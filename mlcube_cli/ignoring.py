"""What a `.dockerignore` keeps out of a build, and so out of the digest of its inputs.

https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def patterns_of(text: bytes) -> tuple[str, ...]:
    """The patterns of the file, without comments and empty lines, as they stand relative to the context."""
    lines = (line.strip() for line in text.decode("utf-8", "surrogateescape").removeprefix("\ufeff").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


class Ignored:
    """Judges paths relative to the context: the last pattern that matches a path, or a directory above it, counts."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules = [(_compile(pattern.lstrip("!")), not pattern.startswith("!")) for pattern in patterns]
        self.exceptions = any(not ignores for _, ignores in self._rules)  # something may be kept in an ignored directory

    def __call__(self, path: str) -> bool:
        verdict = False
        for rule, ignores in self._rules:
            if verdict != ignores and rule.match(path):
                verdict = ignores
        return verdict


def _compile(pattern: str) -> re.Pattern[str]:
    """Go's filepath.Match, with `**` for any number of directories; a leading `/` and `./` mean nothing."""
    pattern = "/".join(part for part in pattern.strip().split("/") if part not in ("", "."))
    text = ""
    for found in re.finditer(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|\\.|.", pattern, re.DOTALL):
        word = found[0]
        fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(word)
        if fixed is None and word.startswith("[") and len(word) > 2:
            fixed = f"[{word[1:-1]}]"
        text += fixed or re.escape(word[-1])
    try:
        return re.compile(text + r"(?:/.*)?\Z", re.DOTALL)
    except re.error:  # a class such as [z-a], which docker refuses: it ignores nothing
        return re.compile(r"(?!)")
