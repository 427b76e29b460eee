"""The sha256 of files, computed once: images of many gigabytes, and inputs of many files, are not read again as long as
they are the same."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping

from mlcube_cli.atomic import write_text
from mlcube_cli.cache import find_cache

SETTLED = 2.0  # seconds: what changed just now may change again without a sign, where a file system's times are coarse
LONG = 1 << 30  # bytes: reading so much is said on a terminal
_PART = 1 << 20
_DAY = 24 * 3600  # seconds
_LITTLE, _FEW = 1 << 20, 50  # bytes and files that are read again as fast as what is known of them


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


def read_digest(path: str, state: os.stat_result, give_up: Callable[[], bool] = lambda: False) -> str | None:
    """`sha256:HEX` of the file, read now; None where it is not the one of `state` at its end, or `give_up` says so.

    Raises OSError.
    """
    digest, done = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while part := os.read(descriptor, _PART):
            digest.update(part)
            done += len(part)
            if give_up():
                return None
        if _signs(os.fstat(descriptor)) != _signs(state):
            return None
    finally:
        os.close(descriptor)
    return f"sha256:{digest.hexdigest()}"


class Known:
    """The sha256 of the files below one directory (or of the one file at a path), as far as they are the same as when
    they were last read: one small file in our cache, loaded when it is first asked. Without `environment`, nothing."""

    def __init__(self, top: str, environment: Mapping[str, str] | None) -> None:
        cache = find_cache(environment, os.getuid()) if environment is not None else None
        key = hashlib.sha256(b"below " + os.fsencode(os.path.realpath(top))).hexdigest()[:32]
        self._place = os.path.join(cache, "digests", key) if cache else None
        self._before: dict[bytes, bytes] | None = None
        self._now: dict[bytes, bytes] = {}
        self._size = 0  # bytes of what is known now

    def find(self, path: bytes, state: os.stat_result) -> str | None:
        """The digest of the file at `path`, relative to the top; None where it is not known, or not the same file."""
        entry = self._load().get(path, b"")
        signs, _, digest = entry.partition(b" ")
        if not digest or signs != _short_signs(state):
            return None
        self._now[path] = entry
        self._size += state.st_size
        return f"sha256:{digest.decode()}"

    def learn(self, path: bytes, state: os.stat_result, digest: str) -> None:
        """Remember it, unless the file was changed so lately that a further change might not show."""
        if self._place and time.time() - max(state.st_mtime, state.st_ctime) > SETTLED:
            self._now[path] = b"%s %s" % (_short_signs(state), digest.partition(":")[2].encode())
            self._size += state.st_size

    def keep(self) -> None:
        """Write down what was found and learnt, where it is news and reading it again would take longer; what was not asked
        for is forgotten."""
        if self._place is None or self._now == self._load() or (self._size < _LITTLE and len(self._now) < _FEW):
            return
        from mlcube_cli.atomic import write_bytes

        try:
            os.makedirs(os.path.dirname(self._place), mode=0o700, exist_ok=True)
            write_bytes(self._place, b"".join(b"%s %s\0" % (value, path) for path, value in self._now.items()))
        except OSError:
            pass

    def _load(self) -> dict[bytes, bytes]:
        if self._before is None:
            self._before = {}
            for line in _content(self._place).split(b"\0"):
                parts = line.split(b" ", 2)
                if len(parts) == 3 and len(parts[1]) == 64:
                    self._before[parts[2]] = b"%s %s" % (parts[0], parts[1])
        return self._before


def _short_signs(state: os.stat_result) -> bytes:
    return b"%x.%x.%x.%x.%x" % _signs(state)


def _content(place: str | None) -> bytes:
    try:
        with open(place or os.devnull, "rb") as stream:
            content = stream.read()
            if place and time.time() - os.fstat(stream.fileno()).st_mtime > _DAY:
                os.utime(place)  # used, as prune sees it
    except OSError:
        return b""
    return content


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
