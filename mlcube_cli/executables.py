"""Where a program is: the one search of PATH, for facts about this machine and for starting processes."""

from __future__ import annotations

import os
from collections.abc import Mapping


def find_executable(name: str, environment: Mapping[str, str], cwd: str | None = None) -> str | None:
    """The absolute path of an executable file, or None. A name with a slash is a path, relative to `cwd`.

    Searches `PATH` of `environment` as execvp does: an empty entry is the current directory, and without PATH the
    system's default counts. Links are not resolved: a virtual environment's python must keep its name.
    """
    if not name or "\0" in name:
        return None
    base = cwd if cwd is not None else "."
    if "/" in name:
        return _absolute(os.path.join(base, name))
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        found = _absolute(os.path.join(base, directory, name))
        if found is not None:
            return found
    return None


def _absolute(path: str) -> str | None:
    """The path made absolute if it can be executed; `..` stays, since it may follow a link."""
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        return None
    if os.path.isabs(path):
        return path
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    try:
        return os.path.join(os.getcwd(), path)
    except OSError:  # the current directory is gone
        return os.path.join(".", path)
