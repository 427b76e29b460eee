"""The digest of what a build is made of: of files and directories, without what a `.dockerignore` keeps out."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence

from mlcube_cli.observe import file_text, read_all

MOST_FILES = 2000
MOST_BYTES = 64 << 20
SKIPPED = (".git", ".mlcube")


class _TooMuch(Exception):  # noqa: N818 - not an error: it ends the counting
    """More files or bytes than a digest looks at, or something that cannot be read."""


def tree_digest(paths: tuple[str, ...], exclude: tuple[str, ...] = (), base: str = "",
                ignore: tuple[str, ...] = ()) -> str | None:
    """sha256 over names, kinds, executable bits, link targets and contents below the paths; not over where they lie.

    Left out: `exclude`, what the patterns of `ignore` (a .dockerignore's) keep out of `base`, directories called .git or
    .mlcube, and lock files of ours, which state this very digest. None above 2,000 entries or 64 MB, and where something
    cannot be read.
    """
    digest = hashlib.sha256()
    left_out = _LeftOut(exclude, base, ignore)
    files, size = 0, 0
    try:
        for number, path in enumerate(paths):
            entries = _below(path, left_out, MOST_FILES - files)
            files += len(entries)
            for relative, full in entries:
                content = _content(full, top=not relative, limit=MOST_BYTES - size)
                size += len(content)
                for part in (str(number).encode(), os.fsencode(relative), content):
                    digest.update(b"%d:" % len(part) + part)
    except (_TooMuch, OSError, ValueError):
        return None
    return digest.hexdigest()


class _LeftOut:
    """What does not count in a digest."""

    def __init__(self, exclude: tuple[str, ...], base: str, ignore: tuple[str, ...]) -> None:
        self.paths = frozenset(os.path.normpath(path) for path in exclude)
        self.base = os.path.normpath(base) + "/"
        self.ignored = Ignored(ignore) if ignore else None

    def whole(self, entry: os.DirEntry[str], is_directory: bool) -> bool:
        """With all that is below it."""
        if os.path.normpath(entry.path) in self.paths or (is_directory and entry.name in SKIPPED):
            return True
        if entry.name.endswith(".lock") and _is_our_lock(entry.path):
            return True
        return self.itself(entry.path) and not (is_directory and self.ignored is not None and self.ignored.exceptions)

    def itself(self, path: str) -> bool:
        path = os.path.normpath(path)
        return self.ignored is not None and path.startswith(self.base) and self.ignored(path[len(self.base):])


def _below(top: str, left_out: _LeftOut, limit: int) -> list[tuple[str, str]]:
    """(relative name, path) of all that lies at and below `top`, sorted; the relative name of `top` itself is empty."""
    found = [("", top)]
    waiting = [("", top)] if os.path.isdir(top) and os.path.normpath(top) not in left_out.paths else []
    while waiting:
        prefix, directory = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if left_out.whole(entry, is_directory):
                    continue
                if not left_out.itself(entry.path):
                    found.append((prefix + entry.name, entry.path))
                if len(found) > limit:
                    raise _TooMuch
                if is_directory:
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
    return sorted(found)


def _is_our_lock(path: str) -> bool:
    """By content: other programs' lock files (of packages) count in a digest."""
    return b'"schema": "mlcube.lock.' in (file_text(path) or b"")[:200]


def _content(path: str, top: bool, limit: int) -> bytes:
    """Kind and content in one; a link is its target, but for the path that was asked for. Raises _TooMuch, OSError."""
    try:
        mode = os.stat(path).st_mode if top else os.lstat(path).st_mode
    except FileNotFoundError:
        return b"absent"
    if stat.S_ISLNK(mode):
        return b"link " + os.readlink(os.fsencode(path))
    if stat.S_ISDIR(mode):
        return b"directory"
    if not stat.S_ISREG(mode):
        return b"other"
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW * (not top))
    try:
        data = read_all(descriptor, limit)
    finally:
        os.close(descriptor)
    if data is None:
        raise _TooMuch
    return (b"program " if mode & stat.S_IXUSR else b"file ") + data


# --- what a .dockerignore keeps out (https://docs.docker.com/build/concepts/context/#dockerignore-files) --------------


class Ignored:
    """Judges paths relative to the context: the last pattern that matches a path, or a directory above it, counts."""

    def __init__(self, lines: Sequence[str]) -> None:
        texts = (line.lstrip("\ufeff").strip() for line in lines)
        patterns = [text for text in texts if text and not text.startswith("#")]
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
