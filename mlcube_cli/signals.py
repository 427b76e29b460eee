"""The signals that end us: noticed while something runs, handed back afterwards, and died of in the end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from mlcube_cli.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
LONGEST_SLEEP = 1.0  # seconds; whoever started us may have blocked SIGCHLD, so that a child's end would not wake us


class Watch:
    """Context manager: signals that would end us are only noted in `received`, in their order, and wake `wait`.

    One that was inherited as ignored stays ignored, for us and for our children (RULINGS 26: nohup, `&`). Handlers
    written in Python are reset by exec, so children start with the default actions. Main thread only.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._before: dict[int, object] = {}
        self._reader = self._writer = self._wakeup = -1

    def __enter__(self) -> Watch:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        # An ignored SIGCHLD would make the kernel throw exit codes away.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _wake_only)
        return self

    def __exit__(self, *_: object) -> None:
        for number, action in self._before.items():
            signal.signal(number, signal.SIG_DFL if action is None else action)  # type: ignore[arg-type] # as it was
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float, readers: Sequence[int] = (),
             writers: Sequence[int] = ()) -> tuple[list[int], list[int]]:
        """Sleep until a signal, a child's end, a stream that is ready, or the time is up. Returns the ready streams."""
        seconds = max(0.0, min(seconds, LONGEST_SLEEP))
        readable, writable, _ = select.select([self._reader, *readers], writers, [], seconds)
        if self._reader in readable:
            readable.remove(self._reader)
            _drain(self._reader)
        return readable, writable

    def sleep(self, seconds: float, wanted: int) -> None:
        """Sleep for so long, or until more than `wanted` signals were received in all."""
        until = time.monotonic() + seconds
        while len(self.received) <= wanted and time.monotonic() < until:
            self.wait(until - time.monotonic())

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received.append(number)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """The first signal that would end us raises Interrupted in the block, further ones do nothing: what is half made can
    be removed. One that was inherited as ignored stays ignored. Main thread only."""
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, signal.SIG_DFL if action is None else action)


def _wake_only(_: int, __: FrameType | None) -> None:
    """The wakeup pipe has done what is needed."""


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


def die_by(number: int) -> NoReturn:
    """End this process by the signal itself, so that a shell loop or make sees the real thing and stops too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or never open
            pass
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container does not die of its own signals
