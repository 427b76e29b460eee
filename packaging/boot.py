"""The start of mlcube.pyz: run from this build's own copy in the cache, else from the zip itself.

build_pyz.py puts mlcube_cli/cache/__init__.py in place of its import, fills in BUILD, and stores the result as text behind the
sh header; so the warm start reads a few kilobytes of the archive and opens nothing else before the copy.
"""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO

from mlcube_cli.cache import find_cache

BUILD = "@BUILD@"
DAY = 24 * 3600


def start(archive: BinaryIO, applet: str) -> int:
    """Put the program on sys.path, ahead of everything but nothing else than the standard library, and run it.

    `archive` is the pyz, open: what is imported in place comes from this very file, also when another takes its name.
    """
    sys.dont_write_bytecode = True  # the copy is complete when it appears; nothing is ever added to it
    sys.pycache_prefix = None
    if not sys.flags.isolated:  # `python3 mlcube.pyz`: PYTHONPATH and site-packages are on the path
        sys.path[:] = [entry for entry in sys.path if is_standard(entry)]
    copy = find_copy()
    sys.path.insert(0, copy or in_place(archive))
    if not copy:
        sys.path[0] = copied(archive) or sys.path[0]
    from mlcube_cli.__main__ import main

    return main(applet=applet)


def is_standard(entry: str) -> bool:
    """Whether an entry of sys.path holds the standard library."""
    name = os.path.basename(entry)
    return (entry == os.path.dirname(os.__file__) or name == "lib-dynload"
            or (name.startswith("python") and name.endswith(".zip")))


def copy_name() -> str:
    """The name of this build's copy for this interpreter: its bytecode belongs to one release of one implementation."""
    return f"{BUILD}-{sys.implementation.cache_tag}-{sys.hexversion:x}"


def find_room() -> str:
    """The directory that holds the copies of all builds, or '' where the caller has no cache of their own."""
    cache = find_cache(os.environ, os.geteuid())
    return f"{cache}/pyz" if cache else ""


def find_copy() -> str:
    """The complete copy of this build for this interpreter, looked over within the last day, or ''."""
    room = find_room()
    copy = f"{room}/{copy_name()}"
    try:
        status = os.lstat(room)
        age = time.time() - os.stat(f"{copy}/complete").st_mtime
    except (OSError, ValueError):
        return ""
    return copy if status.st_uid == os.geteuid() and not status.st_mode & 0o022 and abs(age) < DAY else ""


def in_place(archive: BinaryIO) -> str:
    """A sys.path entry for the packages inside the archive; by its descriptor where that has a path (Linux)."""
    opened = f"/proc/self/fd/{archive.fileno()}"
    return (opened if os.path.exists(opened) else archive.name) + "/site-packages"


def copied(archive: BinaryIO) -> str:
    """Look over this build's copy, or make it; its path, or '' where that cannot be done now."""
    room = find_room()
    if not room:
        return ""
    from mlcube_unpack import ensure_copy  # unpack.py under the name it has inside the archive

    return ensure_copy(archive, room, copy_name())


def run(archive: BinaryIO, applet: str = "") -> int:
    """Start, and turn what can go wrong before the program has started into one sentence."""
    try:
        return start(archive, applet)
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130
    except ImportError as error:
        copies = find_room()
        more = f", and remove {copies}" if copies else ""
        sys.stderr.write(f"error: {archive.name} is damaged ({error}); get the file again{more}\n")
        return 4


if __name__ == "__main__":
    sys.exit(run(globals()["archive"], globals().get("applet", "")))
