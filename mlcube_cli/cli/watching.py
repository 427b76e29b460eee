"""A run that is under way, watched from another terminal: what it prints, and how it ends; nothing that we do ends it.

The jobs of a batch system are watched one after the other, as they run; where nothing of what they print is wanted, the
members of an array are looked at all together.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlcube_cli.cli import output
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.queued_run import QueuedRun
from mlcube_cli.errors import Interrupted, MachineError, TransferError
from mlcube_cli.frames import Frame, Frames
from mlcube_cli.outcome import Outcome
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Session, ask
from mlcube_cli.run_index import Entry, QueuedPart, RunTask, read_entry
from mlcube_cli.run_log import NAMES, read_from
from mlcube_cli.run_states import is_attended, keep, look_at, place_of, refreshed, settle, told
from mlcube_cli.runner import load_scheduler
from mlcube_cli.streams import write_all
from mlcube_cli.supervision.requests import follow
from mlcube_cli.supervision.state import parse_end, parse_task

_PATIENCE = 300.0  # seconds for which a lost connection is tried again
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts
_FIRST_NAP, _LONGEST_NAP = 0.05, 0.5  # seconds between two looks at files
_LONGEST_REST = 5.0  # seconds between two looks at all members of an array
_ALL_OF_IT = 1 << 62  # an offset that no log reaches: nothing of it is wanted
NO_PREPARATION = {"p": _ALL_OF_IT, "t": _ALL_OF_IT}  # among the offsets: only what the tasks themselves print

Write = Callable[[int, bytes], object]  # a descriptor of ours, and what is to be written there


class _Enough(Exception):  # noqa: N818 - not an error
    """Those tasks that are wanted have ended; others of the command line go on."""


@dataclass
class Watching:
    """One command line, watched. `write` gets what the tasks in `wanted` print, to 1 or 2, in order; None: nothing of it is
    wanted. `entry` is kept up to date."""

    session: Session
    entry: Entry
    wanted: frozenset[str]  # run ids
    write: Write | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    queued: QueuedRun | None = None  # the job of a batch system that is watched just now
    passed: set[str] = field(default_factory=set)  # the directories of those that have ended

    def to_the_end(self) -> Entry:
        """Watch until the run has ended, or those of its tasks that are wanted.

        Raises Interrupted when we are asked to stop, MachineError when its place cannot be reached at all, TransferError
        when the connection is lost for long: the run goes on.
        """
        while self._open():
            if self.entry.supervised is not None and not is_attended(self.entry):
                if self.write is None and not self.entry.supervised.is_chain:
                    self._look_at_all()
                else:
                    self._follow()
            else:
                self._look_at_files()
        return self.entry

    def now(self) -> None:
        """What the supervisor has to say now, once; of jobs, those of them that are wanted. Raises as `to_the_end`."""
        self._connect()
        assert self.entry.supervised is not None
        for part in self.entry.supervised.all_parts:
            if self.wanted.intersection(part.runs):
                outcome, heard = self._request(until_end=False, part=part)
                if not heard:
                    raise self._unreachable(outcome)

    def _pause(self, seconds: float) -> None:
        """Raises Interrupted."""
        self.session.pause(seconds)
        if self.session.interrupted:
            raise Interrupted(self.session.signal or 2)

    def _open(self) -> bool:
        return any(not task.over for task in self.entry.tasks if task.run_id in self.wanted)

    # --- files of this machine ---------------------------------------------------------------------------------------

    def _look_at_files(self) -> None:
        """Until the run has ended or nobody attends to it any more; then what is left in its logs."""
        nap = _FIRST_NAP
        while True:
            going_on = self._open() and is_attended(self.entry)
            moved = self._copy_logs()
            if not going_on:
                break
            nap = _FIRST_NAP if moved else min(_LONGEST_NAP, nap * 1.5)
            self._pause(nap)
            self.entry = read_entry(os.path.join(here(), f"{self.entry.id}.json")) or self.entry
        if self._open() and self.entry.supervised is None:
            self.entry = look_at(here(), [self.entry], ask)[0].entry

    def _copy_logs(self) -> bool:
        return any([copy_logs(task, self.offsets, self.write) for task in self.entry.tasks if task.run_id in self.wanted]
                   ) if self.write else False

    # --- many supervisors --------------------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        self._connect()
        lost, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            standing = look_at(here(), [self.entry], ask)[0]
            self.entry = standing.entry
            if not self._open():
                return
            if not standing.trouble:
                lost = time.monotonic()
            elif time.monotonic() - lost > _PATIENCE:
                raise TransferError(f"run {self.entry.id} cannot be looked at any more ({standing.trouble}); it goes on",
                                    f"mlcube wait {self.entry.id} waits again")
            self._pause(pause)
            pause = min(_LONGEST_REST, pause * 1.5)

    # --- a supervisor ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self._connect()
        name = place_of(self.entry).name or "this machine"
        lost: float | None = None
        pause, ever = _FIRST_PAUSE, False
        while self._open():
            outcome, heard = self._request()
            if not self._open():
                break
            if heard and self.queued is not None:
                lost = None
                if self.queued.again:
                    self._pause(self.queued.next_pause())
                if self.queued.again or self.queued.part.directory in self.passed:
                    continue
            if not heard and not ever:
                raise self._unreachable(outcome)
            if heard or lost is None:
                lost, pause, ever = time.monotonic(), _FIRST_PAUSE, True
                output.say(f"the connection to {name} is lost; the run goes on there")
            if time.monotonic() - lost > _PATIENCE:
                raise TransferError(f"{name} cannot be reached any more; the run goes on there",
                                    f"mlcube logs -f {self.entry.id} shows it again")
            self._pause(pause)
            with contextlib.suppress(MachineError):
                self._connect()
            pause = min(_LONGEST_PAUSE, pause * 2)
        self.entry = settle(here(), self.entry, ask=ask)

    def _connect(self) -> None:
        """Raises MachineError, Interrupted."""
        if self.entry.fetch is not None:
            from mlcube_cli.cli.homeward import connected

            self.entry = connected(self.entry, self.session)

    def _next_part(self) -> QueuedPart:
        """The one that is watched now: the first that has not ended. What only prepares is one until something else began."""
        assert self.entry.supervised is not None
        parts = self.entry.supervised.all_parts
        going_on = {task.run_id for task in self.entry.tasks if not task.over}
        untouched = len(going_on) == len(self.entry.tasks)
        return next((part for part in parts if part.directory not in self.passed
                     and (going_on.intersection(part.runs) or (untouched and not part.runs))), parts[-1])

    def _watch(self, part: QueuedPart) -> None:
        """From now on the stream is that of this job."""
        assert self.entry.supervised is not None
        if self.entry.supervised.scheduler and (self.queued is None or self.queued.part != part):
            self.queued = QueuedRun(part, load_scheduler(self.entry.supervised.scheduler))
            if self.write:
                self.offsets = {name: offset for name, offset in self.offsets.items()
                                if name not in ("p", "t") or offset == _ALL_OF_IT}

    def _request(self, until_end: bool = True, part: QueuedPart | None = None) -> tuple[Outcome, bool]:
        """One request; whether it was answered. Raises Interrupted."""
        supervised, part = self.entry.supervised, part or self._next_part()
        assert supervised is not None
        self._watch(part)
        nonce, before = new_nonce(), self.entry
        offsets = self._offsets()
        frames = Frames(nonce, offsets)
        script = follow(part.directory, tuple((run_id, supervised.tasks[run_id]) for run_id in part.runs), offsets, nonce,
                        until_end, self.queued.functions() if self.queued else "")

        def feed(data: bytes) -> None:
            for frame in frames.feed(data):
                self._take(frame)
            if until_end and not self._open() and not self.entry.over:
                raise _Enough

        try:
            outcome = self.session.stream(place_of(self.entry).command(script), feed)
        except _Enough:
            outcome = Outcome("succeeded", 0, 0.0)
        if self.write:
            self.offsets.update(frames.offsets)
        if self.entry != before:
            keep(here(), self.entry)
        if outcome.status == "cancelled":
            raise Interrupted(outcome.signal or 2)
        return outcome, frames.begun

    def _offsets(self) -> dict[str, int]:
        """How far everything was seen. What was not asked for counts as seen: it need not travel."""
        silent = {f"{kind}:{task.run_id}": _ALL_OF_IT for task in self.entry.tasks for kind in "oe"
                  if not self.write or task.run_id not in self.wanted}
        return {**self.offsets, **silent, **({} if self.write else NO_PREPARATION)}

    def _take_of_job(self, job: QueuedRun, kind: str, run_id: str, data: bytes) -> None:
        """What a batch job says itself, and what is said of it. Raises _Enough when it has ended without a word."""
        taken = job.take(kind, run_id, data)
        for line in taken.lines:
            output.say(line)
        for state in taken.tasks:
            self.entry = told(self.entry, state)
        if taken.verdict is None:
            return
        self.entry = refreshed(self.entry, taken.verdict, job.part)
        if taken.verdict.over:
            self.passed.add(job.part.directory)
            if kind == "q":
                raise _Enough

    def _take(self, frame: Frame) -> None:
        kind, _, run_id = frame.name.partition(":")
        if kind in ("o", "e", "p") and self.write:
            self.write(1 if kind == "o" else 2, frame.data)
        if self.queued is not None:
            self._take_of_job(self.queued, kind, run_id, frame.data)
        elif kind == "s":
            self.entry = told(self.entry, parse_task(run_id, frame.data))
        elif kind == "S":
            self.entry = refreshed(self.entry, parse_end("", frame.data))

    def _unreachable(self, outcome: Outcome) -> MachineError:
        name = place_of(self.entry).name or "this machine"
        why = outcome.tail[-1] if outcome.tail else f"exit code {outcome.exit_code}"
        return MachineError(f"{name} cannot be asked about run {self.entry.id}: {why}",
                            f"ssh {name} must work; the run itself goes on there" if place_of(self.entry).name else "")


def copy_logs(task: RunTask, offsets: dict[str, int], write: Write) -> bool:
    """Write what the task's logs on this machine hold from `offsets` on, which move along; whether that was anything."""
    moved = False
    for kind, descriptor, name in zip("oe", (1, 2), NAMES):
        key = f"{kind}:{task.run_id}"
        while data := read_from(os.path.join(task.directory, name), offsets.get(key, 0)):
            write(descriptor, data)
            offsets[key] = offsets.get(key, 0) + len(data)
            moved = True
    return moved


def to_our_streams(descriptor: int, data: bytes) -> None:
    """Raises BrokenPipeError when nobody reads stdout any more; a closed stderr keeps nobody from his work."""
    try:
        write_all(descriptor, data)
    except OSError:
        if descriptor == 1:
            raise
