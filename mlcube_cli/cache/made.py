"""Which images outside the cache are ours to remove: a note in the cache for each that a step of ours made.

The note says what the file looked like when it was made. A file that is another one by now is not ours any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from mlcube_cli.atomic import write_text
from mlcube_cli.cache import find_cache
from mlcube_cli.cache.uses import MADE, note_of

Look = tuple[int, int, int]


@dataclass(frozen=True)
class Made:
    """A note: the image's path, and whether what is there now is what was made."""

    path: str
    there: bool


@contextlib.contextmanager
def noting(path: str | None) -> Iterator[None]:
    """Note the file at `path` as made by us, when it is another one at the end of the block than at its beginning.

    None, a directory (of which nobody can tell whether it is still the one that was made), no cache: nothing is noted.
    """
    before = _look(path) if path else None
    yield
    after = _look(path) if path else None
    cache = find_cache(os.environ, os.getuid())
    if path and after and after != before and cache:
        with contextlib.suppress(OSError):
            os.makedirs(os.path.join(cache, MADE), mode=0o700, exist_ok=True)
            note = note_of(cache, os.path.realpath(path))
            write_text(note, json.dumps({"path": os.path.realpath(path), "look": after}) + "\n")


def read_note(note: str) -> Made | None:
    """What the note says; None where it cannot be read as one."""
    try:
        with open(note, encoding="utf-8", errors="surrogateescape") as file:
            data = json.load(file)
        path, look = data["path"], tuple(data["look"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Made(path, _look(path) == look) if isinstance(path, str) and os.path.isabs(path) else None


def _look(path: str) -> Look | None:
    """What tells a file from another one in its place; None where there is no plain file of the caller's own."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    return (status.st_ino, status.st_size, status.st_mtime_ns) if own else None
