"""Where mlcube keeps what it can make again: one directory of the caller's own, or none at all.

The start-up code of the single-file program uses this module too: it imports only what every interpreter has loaded.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_cache(environment: Mapping[str, str], uid: int) -> str | None:
    """The absolute path of the cache directory, made with mode 0700 where it is absent; None: there is no usable one.

    `$MLCUBE_HOME`, else `$XDG_CACHE_HOME/mlcube`, else `~/.cache/mlcube`; relative values do not count. Not used: a
    directory of another owner, one that group or others can write into, and one below a HOME that is not the
    caller's (sudo keeps HOME). Never raises.
    """
    place = candidate(environment, uid)
    if place is None:
        return None
    try:
        _make(place)
        status = os.stat(place)
        usable = (stat.S_ISDIR(status.st_mode) and status.st_uid == uid
                  and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
                  and os.access(place, os.R_OK | os.W_OK | os.X_OK))
    except (OSError, ValueError):
        return None
    return place if usable else None


def lock_directory(environment: Mapping[str, str], uid: int) -> str:
    """Where the locks between runs are, absent or not. Raises OSError where there is no usable cache."""
    place = lock_place(environment, uid)
    if not place:
        raise OSError("there is no usable cache directory; set MLCUBE_HOME")
    return place


def lock_place(environment: Mapping[str, str], uid: int) -> str:
    """The same; empty where there is no usable cache."""
    cache = find_cache(environment, uid)
    return os.path.join(cache, "locks") if cache else ""


def candidate(environment: Mapping[str, str], uid: int) -> str | None:
    """Where the cache would be, usable or not; None where there is no place for one."""
    chosen = environment.get("MLCUBE_HOME", "")
    if os.path.isabs(chosen):
        return os.path.normpath(chosen)
    home = environment.get("HOME", "")
    base = environment.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    if os.path.isabs(home) and _is_below(base, home) and not _is_owner(home, uid):
        return None
    return os.path.join(os.path.normpath(base), "mlcube")


def _is_below(path: str, directory: str) -> bool:
    return (os.path.normpath(path) + "/").startswith(os.path.normpath(directory).rstrip("/") + "/")


def _is_owner(path: str, uid: int) -> bool:
    try:
        return os.stat(path).st_uid == uid
    except (OSError, ValueError):
        return False


def _make(path: str) -> None:
    """Make the directory and its missing parents, each with mode 0700."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        _make(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # another process was faster; what it made is checked like any other
        pass
