"""Where the bytes go that a child writes: into its last lines, to a function, or to a descriptor of ours and into a log."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

LINES = 25
_LONGEST_LINE = 4096  # bytes of a line that are kept, the last ones
_ENOUGH = 1 << 16  # bytes on their way to a slow reader, beyond which no more are read from the child
_MOST = 1 << 20  # bytes that are kept for a slow reader in a hurry
_AT_ONCE = 4096  # bytes that a descriptor which is ready takes without making us wait (PIPE_BUF)


class Sink(Protocol):
    """What takes a child's stream. `target`: the descriptor that it waits to write to; None: it waits for nothing.

    `full`: nothing more is to be read for it now. `deserted`: who was to read it has gone.
    """

    fault: str  # what went wrong, in a sentence; empty: nothing

    @property
    def deserted(self) -> bool: ...

    @property
    def target(self) -> int | None: ...

    @property
    def full(self) -> bool: ...

    def take(self, data: bytes) -> None: ...

    def write_on(self) -> None: ...


class Tail:
    """The last lines of a stream of any length, in bounded memory. Of a progress bar, its last state."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=LINES)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[-_LONGEST_LINE:] for line in lines[-LINES:])
        self._rest = rest[-_LONGEST_LINE:]

    def lines(self) -> tuple[str, ...]:
        lines = [*self._lines, self._rest] if self._rest else list(self._lines)
        return tuple(line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace") for line in lines[-LINES:])


class Fed:
    """A sink that hands all it gets to functions, at once."""

    deserted, fault, target, full = False, "", None, False

    def __init__(self, *functions: Callable[[bytes], object]) -> None:
        self._functions = functions

    def take(self, data: bytes) -> None:
        for function in self._functions:
            function(data)

    def write_on(self) -> None:
        """There is nothing that waits."""


class Through:
    """A sink that hands all it gets to a function, which passes it on to `outlets`: it waits for whoever reads those."""

    fault = ""

    def __init__(self, function: Callable[[bytes], object], outlets: Sequence[Tee]) -> None:
        self._function = function
        self._outlets = outlets

    @property
    def deserted(self) -> bool:
        return any(outlet.deserted for outlet in self._outlets)

    @property
    def target(self) -> int | None:
        return next((outlet.target for outlet in self._outlets if outlet.target is not None), None)

    @property
    def full(self) -> bool:
        return any(outlet.full for outlet in self._outlets)

    def take(self, data: bytes) -> None:
        self._function(data)

    def write_on(self) -> None:
        next(outlet for outlet in self._outlets if outlet.target is not None).write_on()


class Tee:
    """A task's stream: into a log at once (None: there is none), and to a descriptor of ours as fast as somebody reads there.

    Our own streams belong to others too, so they cannot be made non-blocking: only what surely fits is written, and only
    when `select` says so. Whoever reads slowly slows the task down, as if it wrote there itself. What cannot be written
    to either (a full disk) is a `fault`, and the other one goes on.
    """

    def __init__(self, ours: int, log: int | None = None) -> None:
        self._ours: int | None = ours
        self._log = log
        self._unsent = b""
        self.hurried = False  # it must not keep the child from ending: a reader who is too slow misses the rest
        self.deserted = False
        self.fault = ""
        try:
            self._plain = stat.S_ISREG(os.fstat(ours).st_mode)
        except OSError:
            self._ours, self._plain = None, False

    @property
    def target(self) -> int | None:
        return self._ours if self._unsent else None

    @property
    def full(self) -> bool:
        return len(self._unsent) > _ENOUGH and not self.hurried

    def take(self, data: bytes) -> None:
        if self._log is not None:
            try:
                write_all(self._log, data)
            except OSError as error:
                self._log = None
                self.fault = f"the log of the task ends early: {error.strerror}"
        if self._ours is None or (self.hurried and len(self._unsent) > _MOST):
            return
        self._unsent += data
        if self._plain:  # a file never makes anybody wait
            while self._unsent:
                self.write_on()

    def write_on(self) -> None:
        if self._ours is None:
            return
        try:
            sent = os.write(self._ours, self._unsent if self._plain else self._unsent[:_AT_ONCE])
        except BlockingIOError:  # somebody made it non-blocking
            return
        except OSError as error:
            self._ours, sent = None, len(self._unsent)
            if error.errno == errno.EPIPE:
                self.deserted = True
            elif error.errno != errno.EIO:  # a terminal that was hung up: SIGHUP says so
                self.fault = f"what the task prints cannot be passed on: {error.strerror}"
        self._unsent = self._unsent[sent:]


def write_all(descriptor: int, data: bytes) -> None:
    """Write it all, however long that takes. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data):]


def show(data: bytes) -> None:
    """Write to our stderr; a closed or hung-up one does not stop the work."""
    try:
        write_all(2, data)
    except OSError:
        pass
