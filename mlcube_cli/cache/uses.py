"""Who uses what of the cache: a file for each user below `uses/`, so that pruning spares what a run still needs.

Files, not locks: many runs use one environment. They name their owner as locks do, so that a killed one counts no more.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from mlcube_cli.cache import find_cache
from mlcube_cli.locks import Owner, file_name, myself, owners

USES = "uses"  # below the cache
MADE = "images"  # below the cache: the notes about images elsewhere (made.py)
FOREIGN_SECONDS = 30 * 24 * 3600  # an owner on another host, about whom nobody here can know, counts that long


@contextlib.contextmanager
def keeping(path: str | None) -> Iterator[None]:
    """Mark what of the cache is at `path` (links followed) as being used, and as used now, until the end of the block.

    Without a cache that can be written into there is no mark: then nobody can prune there either. None: nothing to mark.
    """
    cache = find_cache(os.environ, os.getuid()) if path else None
    if not path or cache is None:
        yield
        return
    real = os.path.realpath(path)
    place, name = place_of(cache, real), myself().name()
    _touch(cache, real)
    _enter(place, name)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(place, name))
        with contextlib.suppress(OSError):  # others use it
            os.rmdir(place)
        _touch(cache, real)


def mark_for(path: str, owner: Owner) -> None:
    """As `keeping`, for a process that does not mark it itself: the mark counts as long as that lives."""
    cache = find_cache(os.environ, os.getuid())
    if cache:
        _enter(place_of(cache, os.path.realpath(path)), owner.name())


def claim(path: str) -> bool:
    """Note that what of the cache is at `path` is about to be used, which keeps pruning from it; whether it is there."""
    cache = find_cache(os.environ, os.getuid())
    if cache:
        _touch(cache, os.path.realpath(path))
    return os.path.exists(path)


def users(place: str) -> list[Owner]:
    """Whose marks in the directory `place` count, as far as can be known here."""
    me = myself()
    return [owner for owner in owners(place) if not _is_over(place, owner, me)]


def clear_uses(place: str) -> bool:
    """Remove the marks of those who are gone, and their directory where no mark is left; whether it is gone."""
    me = myself()
    for owner in owners(place):
        if _is_over(place, owner, me):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(place, owner.name()))
    with contextlib.suppress(OSError):
        os.rmdir(place)
    return not os.path.lexists(place)


def place_of(cache: str, real: str) -> str:
    """The directory of the marks for a real path."""
    return os.path.join(cache, USES, file_name(real))


def note_of(cache: str, real: str) -> str:
    """Where the note about an image elsewhere is, whether there is one or not."""
    return os.path.join(cache, MADE, file_name(real).replace(".lock", ".json"))


def _is_over(place: str, owner: Owner, me: Owner) -> bool:
    if owner.host == me.host:
        return owner.is_dead(me)
    try:
        return time.time() - os.lstat(os.path.join(place, owner.name())).st_mtime > FOREIGN_SECONDS
    except OSError:
        return True


def _enter(place: str, name: str) -> None:
    for _ in range(5):  # the directory may go between its making and its use: somebody else was its last user
        with contextlib.suppress(OSError):
            os.makedirs(place, mode=0o700, exist_ok=True)
            os.close(os.open(os.path.join(place, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return


def _touch(cache: str, real: str) -> None:
    """Use shows in the time of what is used; of an image outside the cache, in the time of the note about it."""
    with contextlib.suppress(OSError):
        os.utime(real if real.startswith(os.path.realpath(cache) + "/") else note_of(cache, real))
