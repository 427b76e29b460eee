"""The logs of a task: `stdout.log` and `stderr.log` in its run directory, what it printed, byte for byte."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

NAMES = ("stdout.log", "stderr.log")


def log_paths(directory: str) -> dict[str, str]:
    """The logs of the run whose directory this is, by the stream's name, whether they are there or not."""
    return {name.partition(".")[0]: os.path.join(directory, name) for name in NAMES}


@contextlib.contextmanager
def opened_logs(directory: str, anew: bool = True) -> Iterator[tuple[int, int]]:
    """Descriptors to write a task's stdout and stderr to, mode 0600; the directory is made where it is absent.

    Raises OSError when they cannot be made. A log that was there, and a link in its place, is replaced; not `anew`: a log is
    gone on with, and a link is an error.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptors: list[int] = []
    try:
        for name in NAMES:
            path = os.path.join(directory, name)
            if anew:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            own = os.O_EXCL if anew else os.O_NOFOLLOW
            descriptors.append(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | own, 0o600))
        yield descriptors[0], descriptors[1]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def read_from(path: str, offset: int, limit: int = 1 << 20) -> bytes:
    """Up to `limit` bytes of a log from `offset` on; none where there is nothing (yet)."""
    try:
        with open(path, "rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(limit) or b""
    except OSError:
        return b""
