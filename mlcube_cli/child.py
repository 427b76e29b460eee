"""One running child process: the manner it is run in, and the streams between it and us."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from mlcube_cli.command import Command, Step, Stop, TaskPlan
from mlcube_cli.family import Family
from mlcube_cli.streams import Fed, Sink, Tail, Tee, Through, show

_CHUNK = 65536
_LAST_CHUNKS = 64  # read at the end, whatever still writes


@dataclass(frozen=True)
class Manner:
    """How a command is run. The default: captured, stdin empty, in a session of its own, without limits."""

    payload: bool = False  # it writes to our stdout and stderr, and nothing that it starts outlives it
    forward: bool = False  # captured output is shown on our stderr as well
    stdout: int | None = None  # a payload's standard output, if it is not ours
    interactive: bool = False
    grace: float = 10.0
    timeout: float | None = None
    stop: Stop | None = None
    run_id: str = ""  # put into the environment as MLCUBE_RUN_ID
    passes_on: bool = False  # it passes TERM on itself
    logs: tuple[int, int] | None = None  # a payload's stdout and stderr go to these descriptors, too
    feed: Callable[[bytes], object] | None = None  # takes the captured stdout as it comes; the tail is stderr's
    outlets: tuple[Tee, ...] = ()  # what `feed` writes to, as fast as somebody reads there
    spares: int = 0  # so many signals do not end it: it is soon done

    @property
    def foreground(self) -> bool:
        """Does it have the terminal, and with it our process group?"""
        return self.interactive and os.isatty(0)


def manner_of(step: Step, limits: TaskPlan | None, stdout: int | None, forward: bool,
              logs: tuple[int, int] | None = None) -> Manner:
    """The manner that a step asks for, with the limits of its task. Who has the terminal writes no logs (RULINGS 19)."""
    if limits is None:
        limits = TaskPlan("", "", ())
    if not step.payload:
        return Manner(forward=forward, grace=limits.grace)
    return Manner(payload=True, stdout=stdout, interactive=limits.interactive, grace=limits.grace,
                  timeout=limits.timeout, stop=step.stop, run_id="" if step.stop else limits.run_id,
                  passes_on=step.passes_on, logs=None if limits.interactive else logs)


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
    stderr: IO[bytes] | None

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
        self._input = _descriptors(process.stdin)
        self._sinks: dict[int, Sink] = {}  # by the descriptor that is read; none once all was read
        self._all: list[Sink] = []
        for stream, sink in ((process.stdout, self._sink(0)), (process.stderr, self._sink(1))):
            for descriptor in _descriptors(stream):
                self._sinks[descriptor] = sink
                self._all.append(sink)

    def _sink(self, number: int) -> Sink:
        """Where its stdout (0) or stderr (1) goes."""
        manner = self.manner
        if manner.logs is not None:
            ours = (1 if manner.stdout is None else manner.stdout, 2)
            return Tee(ours[number], manner.logs[number])
        if manner.feed is not None and number == 0:
            return Through(manner.feed, manner.outlets) if manner.outlets else Fed(manner.feed)
        return Fed(self._tail.feed, show) if manner.forward else Fed(self._tail.feed)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None and self.family.kill():
            self._process.wait()
        self.drain()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        return self._process.poll()

    def tail(self) -> tuple[str, ...]:
        return self._tail.lines()

    @property
    def readers(self) -> list[int]:
        """The descriptors to read from, as far as there is room for what comes."""
        return [descriptor for descriptor, sink in self._sinks.items() if not sink.full]

    @property
    def writers(self) -> list[int]:
        """The descriptors that something waits to be written to."""
        return [*self._input, *self.waiting]

    @property
    def waiting(self) -> list[int]:
        """Descriptors of ours that the child's output waits to be written to."""
        return list(dict.fromkeys(sink.target for sink in self._all if sink.target is not None))

    @property
    def deserted(self) -> bool:
        """Has somebody gone who was to read what the child writes?"""
        return any(sink.deserted for sink in self._all)

    def patience(self, ended: bool, received: Sequence[int], little: float) -> float:
        """Seconds to wait for whoever reads our streams, now that it has gone, by itself (`ended`) or after signals.

        What outlets hold is not lost with the child.
        """
        if ended and not received:
            return float("inf")
        return 0.0 if self.manner.outlets and not ended else little

    def faults(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sink.fault for sink in self._all if sink.fault))

    def serve(self, readable: Sequence[int], writable: Sequence[int]) -> None:
        """Move what can be moved between us and the child without waiting."""
        for descriptor in readable:
            self._read(descriptor)
        for descriptor in writable:
            if descriptor in self._input:
                self._write()
            else:
                next(sink for sink in self._all if sink.target == descriptor).write_on()

    def drain(self) -> None:
        """Read what is left of its output. Bounded: others may hold the pipe open, and write on."""
        for descriptor in list(self._sinks):
            for _ in range(_LAST_CHUNKS):
                if not self._read(descriptor):
                    break

    def _read(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            del self._sinks[descriptor]
            return False
        self._sinks[descriptor].take(data)
        return True

    def _write(self) -> None:
        try:
            sent = os.write(self._input[0], self._unsent[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it does not want to read any more, which is its own affair
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._input = []
            if self._process.stdin is not None:
                self._process.stdin.close()


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
