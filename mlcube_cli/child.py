"""One running child process: the manner it is run in, and the streams between it and us."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from mlcube_cli.command import Command, Step, Stop, TaskPlan
from mlcube_cli.family import Family

LINES = 25
_LONGEST_LINE = 4096  # bytes of a line that are kept, the last ones
_CHUNK = 65536
_LAST_CHUNKS = 64  # read at the end, whatever still writes


@dataclass(frozen=True)
class Manner:
    """How a command is run. The default: captured, stdin empty, in a session of its own, without limits."""

    payload: bool = False  # it has our stdout and stderr themselves, and nothing that it starts outlives it
    forward: bool = False  # captured output is shown on our stderr as well
    stdout: int | None = None  # a payload's standard output, if it is not ours
    interactive: bool = False
    grace: float = 10.0
    timeout: float | None = None
    stop: Stop | None = None
    run_id: str = ""  # put into the environment as MLCUBE_RUN_ID
    passes_on: bool = False  # it passes TERM on itself

    @property
    def foreground(self) -> bool:
        """Does it have the terminal, and with it our process group?"""
        return self.interactive and os.isatty(0)


def manner_of(step: Step, limits: TaskPlan | None, stdout: int | None, forward: bool) -> Manner:
    """The manner that a step asks for, with the limits of its task."""
    if limits is None:
        limits = TaskPlan("", "", ())
    if not step.payload:
        return Manner(forward=forward, grace=limits.grace)
    return Manner(payload=True, stdout=stdout, interactive=limits.interactive, grace=limits.grace,
                  timeout=limits.timeout, stop=step.stop, run_id="" if step.stop else limits.run_id,
                  passes_on=step.passes_on)


def environment_of(command: Command, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The command's whole environment; `base` is the caller's, by default ours."""
    environment = dict(os.environ if base is None else base)
    for variable in command.env:
        if variable.value is None:
            environment.pop(variable.name, None)
        else:
            environment[variable.name] = variable.value
    return environment


def exit_code(returncode: int) -> int:
    """A child's exit code as shells count: 128+n for one that died of signal n."""
    return 128 - returncode if returncode < 0 else returncode


class Process(Protocol):
    """What we use of subprocess.Popen, and of plumbum's wrapper around it."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


class Child:
    """A started process, as a context manager that leaves nothing behind when its body fails. `data` is its stdin."""

    def __init__(self, process: Process, manner: Manner, data: bytes | None) -> None:
        self.manner = manner
        self.family = Family(process.pid, not manner.foreground, manner.run_id, manner.passes_on)
        self._process = process
        self._tail = Tail()
        self._unsent = data or b""
        self.readers = _descriptors(process.stdout)
        self.writers = _descriptors(process.stdin)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None and self.family.kill():
            self._process.wait()
        self.drain()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        return self._process.poll()

    def tail(self) -> tuple[str, ...]:
        return self._tail.lines()

    def serve(self, readable: Sequence[int], writable: Sequence[int]) -> None:
        """Move what can be moved between us and the child without waiting."""
        for _ in readable:
            self._read()
        for _ in writable:
            self._write()

    def drain(self) -> None:
        """Read what is left of its output. Bounded: others may hold the pipe open, and write on."""
        for _ in range(_LAST_CHUNKS):
            if not self.readers or not self._read():
                return

    def _read(self) -> bool:
        try:
            data = os.read(self.readers[0], _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.readers = []
            return False
        self._tail.feed(data)
        if self.manner.forward:
            _show(data)
        return True

    def _write(self) -> None:
        try:
            sent = os.write(self.writers[0], self._unsent[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it does not want to read any more, which is its own affair
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self.writers = []
            if self._process.stdin is not None:
                self._process.stdin.close()


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


def _show(data: bytes) -> None:
    try:
        while data:
            data = data[os.write(2, data):]
    except OSError:  # a closed or hung-up stderr does not stop the work
        pass


def _descriptors(stream: IO[bytes] | None) -> list[int]:
    """The stream's descriptor, made non-blocking; none when there is no stream."""
    if stream is None:
        return []
    os.set_blocking(stream.fileno(), False)
    return [stream.fileno()]


def why_not_started(command: Command, error: Exception) -> str:
    """One sentence for the user: what could not be started, and why."""
    import errno

    name = command.argv[0] if command.argv else "an empty command"
    if command.cwd is not None and not os.path.isdir(command.cwd):
        return f"cannot start {name}: its working directory {command.cwd} does not exist"
    if isinstance(error, FileNotFoundError):
        if not _is_cwd_there():
            return f"cannot start {name}: the current directory no longer exists"
        where = "it does not exist" if "/" in name else "there is no such program on PATH"
        return f"cannot start {name}: {where}"
    if isinstance(error, PermissionError):
        return f"cannot start {name}: it is not executable for you"
    code = error.errno if isinstance(error, OSError) else None
    reasons = {errno.ENOEXEC: "it is not a program for this machine, and has no '#!' line",
               errno.E2BIG: "its arguments and environment are longer than the system allows"}
    return f"cannot start {name}: {reasons.get(code or 0, str(error))}"


def unusable(command: Command) -> OSError:
    """Why there is nothing to execute: absent, or there and not executable."""
    path = os.path.join(command.cwd or ".", command.argv[0])
    return (PermissionError if "/" in command.argv[0] and os.path.exists(path) else FileNotFoundError)(path)


def _is_cwd_there() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False
