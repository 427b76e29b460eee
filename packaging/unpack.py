"""The cache's copy of a build of mlcube.pyz: made without locks, never half-made, looked over daily, removed unused.

It travels in the pyz as `mlcube_unpack` and is imported only when there is something to do. A copy is made under a name
of its own and renamed when complete; its list of files, `complete`, is the last thing written.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import shutil
import socket
import time
import warnings
import zipfile
from typing import BinaryIO

PREFIX = "site-packages/"
MARKER = "complete"
PARTIAL = ".partial"
GONE = ".gone"
UNUSED_SECONDS = 30 * 24 * 3600
ABANDONED_SECONDS = 600


def ensure_copy(archive: BinaryIO, room: str, name: str) -> str:
    """The path of a complete copy called `name` in the directory `room`; '' where there is none and none can be made.

    Never raises OSError: a cache is a convenience. '' too while another process makes this copy.
    """
    copy = os.path.join(room, name)
    try:
        os.makedirs(room, 0o700, exist_ok=True)
        status = os.lstat(room)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return ""
        if look_over(copy):
            sweep(room, name)
            return copy
        if sweep(room, name):
            return ""
        return copy if make(archive, room, name) else ""
    except (OSError, ValueError, zipfile.BadZipFile):
        return ""


def look_over(copy: str) -> bool:
    """Whether every file of the copy is there, whole; touches them, so that what purges old files spares them."""
    try:
        with open(os.path.join(copy, MARKER), encoding="ascii") as stream:
            listed = [line.split(" ", 1) for line in stream.read().splitlines()]
        for size, name in listed:
            path = os.path.join(copy, name)
            os.utime(path)
            if os.stat(path).st_size != int(size):
                return False
        os.utime(os.path.join(copy, MARKER))
    except (OSError, ValueError):
        return False
    return bool(listed)


def sweep(room: str, name: str) -> bool:
    """Remove what killed processes and unused builds left; True when a living process is making the copy `name`."""
    busy = False
    for entry in sorted(found.name for found in os.scandir(room)):
        path = os.path.join(room, entry)
        if entry.endswith(PARTIAL):
            if not is_being_made(path):
                discard(path)
            elif entry.startswith(name):
                busy = True
        elif entry.endswith(GONE):
            shutil.rmtree(path, ignore_errors=True)
        elif entry != name and age(path, MARKER) > UNUSED_SECONDS:
            discard(path)
    return busy


def age(path: str, name: str = "") -> float:
    """Seconds since `name` in the directory `path`, or else the directory itself, was changed."""
    try:
        return time.time() - os.lstat(os.path.join(path, name) if name else path).st_mtime
    except OSError:
        return age(path) if name else float("inf")


def is_being_made(path: str) -> bool:
    """Whether the process that a partial copy names (`NAME.HOST.PID.partial`) may still be at it."""
    host, _, process = path[: -len(PARTIAL)].rpartition(".")
    if age(path) > ABANDONED_SECONDS or not process.isdigit():
        return False
    if not host.endswith("." + host_name()):
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def host_name() -> str:
    """This machine's name, fit for a file name."""
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in socket.gethostname()) or "-"


def discard(path: str) -> None:
    """Remove a directory; renamed first, so that nobody takes a half-removed one for whole, or goes on filling it."""
    gone = f"{path}.{os.getpid()}{GONE}"
    try:
        os.rename(path, gone)
    except OSError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def make(archive: BinaryIO, room: str, name: str) -> bool:
    """Make the copy; False when another process was faster and its copy is not complete. Cleans up after itself."""
    copy = os.path.join(room, name)
    partial = f"{copy}.{host_name()}.{os.getpid()}{PARTIAL}"
    os.mkdir(partial, 0o700)
    try:
        written = unpack(archive, partial) + compile_all(partial, copy)
        write(os.path.join(partial, MARKER), "".join(f"{size} {file}\n" for file, size in written).encode("ascii"))
        try:
            os.rename(partial, copy)
        except OSError:
            if not os.path.lexists(copy):
                raise
            if not os.path.exists(os.path.join(copy, MARKER)) or not look_over(copy):  # what is there is damaged
                discard(copy)
                os.rename(partial, copy)
    finally:
        if os.path.lexists(partial):
            shutil.rmtree(partial, ignore_errors=True)
    return os.path.exists(os.path.join(copy, MARKER))


def unpack(archive: BinaryIO, directory: str) -> list[tuple[str, int]]:
    """Write the packages of the archive below `directory`; the name and size of each file."""
    written = []
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.namelist():
            if entry.startswith(PREFIX) and not entry.endswith("/"):
                name = entry[len(PREFIX) :]
                path = os.path.join(directory, name)
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                written.append((name, write(path, packed.read(entry))))
    return written


def compile_all(directory: str, final: str) -> list[tuple[str, int]]:
    """Write the bytecode of all modules below `directory`, which will be called `final`; each file's name and size.

    The bytecode is not bound to its source's time (PEP 552, unchecked): file systems round times, and cleaners touch.
    """
    written = []
    for parent, directories, files in os.walk(directory):
        directories.sort()
        for file in sorted(files):
            if not file.endswith(".py"):
                continue
            path = os.path.join(parent, file)
            name = os.path.relpath(path, directory)
            with open(path, "rb") as stream:
                source = stream.read()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    code = compile(source, os.path.join(final, name), "exec", dont_inherit=True, optimize=0)
            except (SyntaxError, ValueError):
                continue  # a module for other versions of Python
            target = importlib.util.cache_from_source(name, optimization="")
            os.makedirs(os.path.dirname(os.path.join(directory, target)), 0o700, exist_ok=True)
            head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
            written.append((target, write(os.path.join(directory, target), head + marshal.dumps(code))))
    return written


def write(path: str, content: bytes) -> int:
    """Write a new file that only its owner can change; its size. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        return stream.write(content)
