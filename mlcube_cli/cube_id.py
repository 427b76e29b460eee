"""What a cube's directory on other machines is named after: an id that it keeps (RULINGS 37)."""

from __future__ import annotations

import hashlib
import os
import re

from mlcube_cli.atomic import write_text

_FILE = os.path.join("workspace", ".mlcube", "id")  # below the cube's root; .mlcube in a workspace is ours (RULINGS 30)
_ID = re.compile(r"[0-9a-f]{8}")  # all that may stand in the name of a directory there, whoever wrote the file


def find_id(root: str, state: str | None) -> str:
    """Eight hexadecimal digits: those that were kept, else new ones that only depend on which directory this is.

    A copy of a cube is another cube: the id counts only for the directory (its inode) that it was made for. `state`: the
    directory that keeps the ids of cubes that cannot be written into.
    """
    mark = _mark(root)
    for path in _places(root, state):
        words = _read(path).split()
        if len(words) == 2 and _ID.fullmatch(words[0]) and words[1] == mark:
            return words[0]
    return hashlib.sha256(os.fsencode(f"{os.uname().nodename}\0{os.path.realpath(root)}\0{mark}")).hexdigest()[:8]


def keep_id(root: str, state: str | None, identifier: str) -> None:
    """Write it down, in the cube or else in `state`; where neither can be written, nothing is kept."""
    for path in _places(root, state):
        if _read(path).split() == [identifier, _mark(root)]:
            return
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            write_text(path, f"{identifier} {_mark(root)}\n")
            return
        except OSError:
            continue


def _places(root: str, state: str | None) -> tuple[str, ...]:
    key = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return (os.path.join(root, _FILE), *([os.path.join(state, "cubes", key)] if state else ()))


def _mark(root: str) -> str:
    try:
        return str(os.stat(root).st_ino)
    except OSError:
        return "0"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read(100)
    except OSError:
        return ""
