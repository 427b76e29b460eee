"""The sha256 of big files, computed once: images of many gigabytes are not read again as long as they are the same file."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Mapping

from mlcube_cli.atomic import write_text
from mlcube_cli.cache import find_cache

SETTLED = 2.0  # seconds: what changed just now may change again without a sign, where a file system's times are coarse
LONG = 1 << 30  # bytes: reading so much is said on a terminal
_PART = 1 << 20
_DAY = 24 * 3600  # seconds


def file_digest(path: str, environment: Mapping[str, str]) -> str | None:
    """`sha256:HEX` of a regular file, links followed; None when it cannot be read, or changes while it is read.

    Kept in our cache under what makes out the file: place, number, size, times of content and of its entry (the last one
    cannot be set by hand), so that a file that was replaced or written to is read again.
    """
    try:
        real = os.path.realpath(path)
        state = os.stat(real)
        if not stat.S_ISREG(state.st_mode):
            return None
        kept = _place(real, state, environment)
        known = _read(kept) if kept else None
        if known:
            return known
        found = _compute(real, state)
        if found is None or _signs(os.stat(real)) != _signs(state):
            return None
    except (OSError, ValueError):
        return None
    if kept and time.time() - max(state.st_mtime, state.st_ctime) > SETTLED:
        _keep(kept, found)
    return found


def _signs(state: os.stat_result) -> tuple[int, ...]:
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _place(path: str, state: os.stat_result, environment: Mapping[str, str]) -> str | None:
    cache = find_cache(environment, os.getuid())
    if cache is None:
        return None
    key = hashlib.sha256(os.fsencode(path) + repr(_signs(state)).encode()).hexdigest()
    return os.path.join(cache, "digests", key[:32])


def _read(place: str) -> str | None:
    try:
        with open(place, encoding="ascii") as stream:
            text = stream.read(80).strip()
            if time.time() - os.fstat(stream.fileno()).st_mtime > _DAY:
                os.utime(place)  # used, as prune sees it
    except (OSError, ValueError):
        return None
    return text if text.startswith("sha256:") and len(text) == 71 else None


def _keep(place: str, digest: str) -> None:
    """A digest that cannot be kept is computed again, that is all."""
    try:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        write_text(place, digest + "\n")
    except OSError:
        pass


def _compute(path: str, state: os.stat_result) -> str | None:
    tell = state.st_size >= LONG and sys.stderr is not None and sys.stderr.isatty()
    digest, done = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while part := os.read(descriptor, _PART):
            digest.update(part)
            done += len(part)
            if tell and done % (256 * _PART) < _PART:
                sys.stderr.write(f"\rmlcube: reading the image to know it again: {100 * done // state.st_size} %")
                sys.stderr.flush()
    finally:
        os.close(descriptor)
        if tell:
            sys.stderr.write("\r\x1b[K")
    return f"sha256:{digest.hexdigest()}" if done == state.st_size else None
