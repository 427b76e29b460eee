"""What a run on another machine or in a batch system prints, here as it comes: through lost connections, until it is ended.

A batch system's jobs (`Following.supervised`, with parts) are followed one after the other, as they run: the end is that of
the first that does not succeed, else of the last. What the scheduler says of them comes along (frames `q`), and its judge says
when a job is over that has no word of its own any more, and when one that seemed over starts again.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlcube_cli.cli import output
from mlcube_cli.cli.connecting import connect
from mlcube_cli.cli.queued_run import QueuedRun
from mlcube_cli.errors import Interrupted, MachineError
from mlcube_cli.frames import Frames
from mlcube_cli.outcome import Outcome
from mlcube_cli.parcels import Way
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Session
from mlcube_cli.run_index import QueuedPart, Supervised
from mlcube_cli.run_states import ending
from mlcube_cli.runner import load_scheduler
from mlcube_cli.streams import Tee
from mlcube_cli.supervision.requests import answer_of, follow
from mlcube_cli.supervision.state import CommandState, TaskState, parse_end, parse_task

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between attempts to connect again, and to ask for an end once more
LET_GO = "let go"  # the run goes on without us


class _Enough(Exception):  # noqa: N818 - not an error
    """It is known how the job has ended."""


@dataclass
class Following:
    """One command line's run, as it is seen from here.

    `write(run_id, stream, data)` gets what the tasks print (stream: "stdout" or "stderr"), in order, each byte once;
    `prepare(data)` what the preparation prints; `changed(state)` each change of a task. `offsets`: how many bytes of each
    frame's name were seen already. `supervised`: of jobs of a batch system; then `directory` and `runs` are not used.
    """

    session: Session
    way: Way
    directory: str
    runs: tuple[tuple[str, str], ...]
    write: Callable[[str, str, bytes], object]
    prepare: Callable[[bytes], object]
    changed: Callable[[TaskState], object]
    patience: float = 300.0  # seconds for which a lost connection is tried again
    outlets: tuple[Tee, ...] = ()  # of ours, that `write` writes to: when nobody reads there any more, the run is ended
    offsets: dict[str, int] = field(default_factory=dict)
    end: CommandState | None = None
    signal: int | None = None  # that ended it, or us
    started: bool = False
    tried: bool = False  # it was asked to start, and nothing was heard of that
    refused: str = ""  # why it could not be started there
    owed: bool = False  # it is to be cancelled, and does not know that yet
    supervised: Supervised | None = None
    name: str = ""  # where it runs, in words, where that is not the machine
    queued: QueuedRun | None = None  # the job that is followed just now
    ends: Callable[[int], bool] | None = None  # whether a first signal ends the run; None: it does
    left: bool = False  # it was left to itself instead
    stands: Callable[[QueuedPart, CommandState], object] = lambda part, state: None  # gets what is said of a job

    def go(self, first: Callable[[str], str] | None = None) -> str:
        """Follow to the end. `first`: the script of the first request, by its nonce (it starts the run, too).

        Returns "ended", LET_GO (a second Ctrl-C, a hang-up), or "unreachable" with the connection's last words told.
        Raises MachineError when it could not be started there.
        """
        self.started = first is None
        if self.supervised is None or not self.supervised.parts:
            return self._follow(first)
        how = "ended"
        for part in self.supervised.parts:
            self.directory, self.end = part.directory, None
            self.runs = tuple((run_id, self.supervised.tasks[run_id]) for run_id in part.runs)
            self.offsets = {name: offset for name, offset in self.offsets.items() if name not in ("p", "t")}
            self.queued = QueuedRun(part, load_scheduler(self.supervised.scheduler))
            how = self._follow(first)
            if how != "ended" or (self.end is not None and self.end.status != "succeeded"):
                break
        return how

    def _follow(self, first: Callable[[str], str] | None) -> str:
        lost: float | None = None
        pause = _FIRST_PAUSE
        while True:
            begun = self.started
            heard, outcome = self._attempt(self._again if begun or first is None else first)
            if self.end is not None:
                return "ended"
            if self.refused:
                raise not_started(self.way.place.name, self.refused)
            if self.session.interrupted:
                known, self.started = self.started, True  # or it never will be
                if not self._cancel() or (self.owed and not known):
                    return LET_GO
                continue
            if self.started and not begun and outcome.status == "succeeded":
                continue  # an earlier attempt had started it, whose answer was lost
            if self.queued and self.queued.again:
                lost = None
                self.session.pause(self.queued.next_pause())
                continue
            if heard or lost is None:
                lost, pause = time.monotonic(), _FIRST_PAUSE
                output.say(f"the connection to {self.way.place.name} is lost{_last_words(outcome)}"
                           + ("; the run goes on there" if self.started else ""))
            self.tried = True
            if time.monotonic() - lost > self.patience:
                return "unreachable"
            self.session.pause(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
            with contextlib.suppress(MachineError, Interrupted):
                connect(self.way, self.session)

    def _attempt(self, script: Callable[[str], str]) -> tuple[bool, Outcome]:
        """One request, after the cancelling that is owed; whether anything was heard."""
        if self.owed:
            outcome = self._ask_to_end(hard=False)
            if self.owed:
                return False, outcome
        return self._once(script)

    def _once(self, script: Callable[[str], str]) -> tuple[bool, Outcome]:
        nonce = new_nonce()
        frames, seen = Frames(nonce), [False]

        def feed(data: bytes) -> None:
            for frame in frames.feed(data):
                seen[0] = True
                self._take(frame.name, frame.data)

        try:
            outcome = self.session.stream(self.way.place.command(script(nonce)), feed, outlets=self.outlets)
        except _Enough:
            outcome = Outcome("succeeded", 0, 0.0)
        return seen[0], outcome

    def _again(self, nonce: str) -> str:
        return follow(self.directory, self.runs, self.offsets, nonce, queue=self.queued.functions() if self.queued else "")

    def _take(self, name: str, data: bytes) -> None:
        kind, _, run_id = name.partition(":")
        if self.queued is not None:
            self._take_of_job(self.queued, kind, run_id, data)
        elif kind == "S":
            self.end = parse_end(self.directory, data)
        elif kind == "s":
            self.changed(parse_task(run_id, data))
        if kind == "p":
            self.prepare(data)
        elif kind in ("o", "e"):
            self.write(run_id, "stdout" if kind == "o" else "stderr", data)
        elif kind == "t":
            output.say(data.decode("utf-8", "replace").rstrip("\n"))
        elif kind == "a" and (data == b"started" or (data == b"exists" and self.tried)):
            self.started = True
        elif kind == "a":
            self.refused = data.decode("utf-8", "replace")
        if kind in ("o", "e", "p", "t"):
            self.offsets[name] = self.offsets.get(name, 0) + len(data)

    def _take_of_job(self, job: QueuedRun, kind: str, run_id: str, data: bytes) -> None:
        """What a batch job says itself, and what is said of it. Raises _Enough when it has ended without a word."""
        taken = job.take(kind, run_id, data)
        for line in taken.lines:
            output.say(line)
        for state in taken.tasks:
            self.changed(state)
        if taken.verdict is not None:
            self.stands(job.part, taken.verdict)
        if taken.verdict is not None and taken.verdict.over:
            self.end = taken.verdict
            if kind == "q":
                raise _Enough

    def _cancel(self) -> bool:
        """The first signal cancels the run, a second one lets go; a hang-up does nothing to it (RULINGS 26)."""
        again, self.signal = self.signal is not None, self.signal or self.session.signal
        self.session.heed()
        for outlet in self.outlets:
            outlet.hurried = True
        self.left = not again and (self.signal == signal.SIGHUP or not (self.ends is None or self.ends(self.signal or 0)))
        if self.left:
            return False
        if self.signal != signal.SIGPIPE:  # nobody reads what it prints any more: it ends quietly (RULINGS 26)
            output.say(f"cancelling on {self.name or self.way.place.name}"
                       + ("; not waiting for it" if again else "; once more lets go"))
        self._ask_to_end(hard=again)
        return not again

    def _ask_to_end(self, hard: bool) -> Outcome:
        """Where no answer comes, it is asked again once there is a connection."""
        nonce = new_nonce()
        what = self.supervised or Supervised((), "", self.directory, {})
        script = ending(what, hard, nonce, self.signal or signal.SIGTERM)
        said: list[bytes] = []
        outcome = self.session.stream(self.way.place.command(script), said.append)
        self.owed = not answer_of(b"".join(said).decode("utf-8", "replace"), nonce)
        return outcome


def not_started(machine: str, answer: str) -> MachineError:
    """What another machine, or a batch system, answers when a run is to be started there, and is not."""
    refused = "sbatch: error" in answer
    return MachineError(f"the run could not be started on {machine}: {answer.partition('failed ')[2] or answer}",
                        "the words are sbatch's own; --dry-run shows what it was given" if refused else
                        "is the disk full, or the directory another user's?")


def _last_words(outcome: Outcome) -> str:
    return f" ({outcome.tail[-1]})" if outcome.tail else ""
