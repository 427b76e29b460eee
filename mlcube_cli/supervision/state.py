"""What is known of a supervised command and its tasks, as values, and the reader of what `requests.states` prints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

LOST_CODE = 4  # the exit code of a run that nobody supervises any more (RULINGS 27)
_UNENDED = ("", "-", "queued", "running")


@dataclass(frozen=True)
class TaskState:
    """One task of a supervised command. A task that is `queued` in a command that has ended was never started."""

    run_id: str
    status: str  # RULINGS 27
    exit_code: int | None = None
    started: float | None = None  # seconds since 1970, by the clock of the machine where it runs
    ended: float | None = None
    stdout_size: int = 0  # bytes
    stderr_size: int = 0


@dataclass(frozen=True)
class CommandState:
    """A supervised command as a whole; `message` and `hint` say why it ended as it did."""

    directory: str
    status: str  # RULINGS 27; lost: it was running, and its supervisor is gone, or the whole directory is
    exit_code: int | None = None  # as mlcube's own would be
    started: float | None = None
    ended: float | None = None
    alive: bool = False  # its supervisor is, as far as that can be told: another machine's counts as alive
    host: str = ""
    boot: str = ""
    message: str = ""
    hint: str = ""
    tasks: tuple[TaskState, ...] = ()
    node: str = ""  # the machines that a batch system has given it, as that names them
    partition: str = ""  # and the part of that system which they belong to
    waiting: str = ""  # why a batch system does not run it just now, in its own words
    silence: str = ""  # why a batch system says nothing of it

    @property
    def over(self) -> bool:
        """Has it ended, one way or another?"""
        return self.status not in _UNENDED


def is_from_outside(status: str, exit_code: int | None) -> bool:
    """May something else than the task itself have ended it, such as the batch system that it runs in?"""
    return status in ("cancelled", "lost") or (status == "failed" and exit_code is not None and exit_code > 128)


def parse_state(text: str) -> tuple[str, int | None, float | None, float | None]:
    """The first line of a `state` file, or the content of an `s:` frame: status, exit code, start, end."""
    words = [*text.partition("\n")[0].split(), "-", "-", "-", "-"]
    return "" if words[0] == "-" else words[0], _whole(words[1]), _number(words[2]), _number(words[3])


def parse_end(directory: str, data: bytes) -> CommandState:
    """The content of an `S` frame: the command, less its tasks. The last frame of a stream; a lost run is told as such."""
    said = data.decode("utf-8", "surrogateescape")
    first, _, rest = said.partition("\n")
    status, code, started, ended = parse_state(first)
    owner, *words = first.split()[4:9] or ["none"]
    host, boot, node, partition = ["" if word == "-" else word for word in (*words, "-", "-", "-", "-")][:4]
    before, has_hint, hint = ("\n" + rest).rpartition("\nhint: ")
    state = CommandState(directory, status, code, started, ended, owner in ("alive", "foreign"), host, boot,
                         (before if has_hint else "\n" + rest)[1:].rstrip("\n"),
                         hint.rstrip("\n") if has_hint else "", node=node, partition=partition)
    return _explained(state)


def parse_task(run_id: str, data: bytes) -> TaskState:
    """The content of an `s:` frame; sizes only in the answer of `requests.states`."""
    said = data.decode("utf-8", "surrogateescape")
    words = [*said.split(), "-", "-", "-", "-", "-", "-"]
    status, code, started, ended = parse_state(said)
    return TaskState(run_id, status or "queued", code, started, ended, _whole(words[4]) or 0, _whole(words[5]) or 0)


def parse_states(text: str, nonce: str, queued: Container[str] = ()) -> tuple[CommandState, ...]:
    """What `requests.states` printed, in the order of its directories. Noise before the answer does not matter.

    Of those in `queued` nothing is concluded from the absence of a supervisor: a scheduler starts it, and is asked.
    """
    return tuple(state if state.directory in queued else _judged(state) for state in _commands(text, nonce))


def parse_report(text: str, nonce: str) -> str:
    """What a scheduler said in the same answer (Scheduler.judge reads it); empty: it was not asked."""
    frames = Frames(nonce).feed(text.encode("utf-8", "surrogateescape"))
    return next((frame.data.decode("utf-8", "surrogateescape") for frame in frames if frame.name == "q"), "")


def _commands(text: str, nonce: str) -> Iterator[CommandState]:
    state: CommandState | None = None
    directory = ""
    for frame in Frames(nonce).feed(text.encode("utf-8", "surrogateescape")):
        if frame.name == "d":
            directory = frame.data.decode("utf-8", "surrogateescape")
        elif frame.name == "S":
            if state is not None:
                yield state
            state = parse_end(directory, frame.data)
        elif frame.name.startswith("s:") and state is not None:
            state = dataclasses.replace(state, tasks=(*state.tasks, parse_task(frame.name[2:], frame.data)))
    if state is not None:
        yield state


def _judged(state: CommandState) -> CommandState:
    """A command that did not end and that nobody supervises is lost, and with it the task that it was at."""
    if state.over or state.alive:
        return state
    tasks = tuple(dataclasses.replace(task, status="lost", exit_code=LOST_CODE) if task.status == "running" else task
                  for task in state.tasks)
    return _explained(dataclasses.replace(state, status="lost", exit_code=LOST_CODE, tasks=tasks))


def _explained(state: CommandState) -> CommandState:
    if state.status != "lost" or state.message:
        return state
    return dataclasses.replace(state, message="whoever supervised it is gone" if state.host else "its directory is gone")


def _whole(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def _number(word: str) -> float | None:
    return float(word) if word.replace(".", "", 1).isdigit() else None
