"""One job of a batch system, as it is seen from here: what its run has told, what its scheduler says, and what that means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlcube_cli.run_index import QueuedPart
from mlcube_cli.runner import Scheduler
from mlcube_cli.supervision.state import CommandState, TaskState, is_from_outside, parse_end, parse_task

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between two looks at an end that may not be one


@dataclass(frozen=True)
class Taken:
    """What a frame of a job's stream means. `verdict`: how the job stands, where that was said; `lines`: for whoever waits."""

    tasks: tuple[TaskState, ...] = ()
    verdict: CommandState | None = None
    lines: tuple[str, ...] = ()


@dataclass
class QueuedRun:
    """A part of a command line, followed. An end that may be the scheduler's doing is none before its judge says so."""

    part: QueuedPart
    scheduler: Scheduler
    tasks: dict[str, TaskState] = field(default_factory=dict)
    report: bytes = b""
    begun: bool = False  # it was heard to be at work
    again: bool = False  # what seemed to be its end is none, or not yet: it is to be looked at once more
    _state: CommandState | None = None  # the verdict before
    _silent: int = 0  # reports in a row that say nothing
    _pause: float = _FIRST_PAUSE

    def functions(self) -> str:
        """What asks the scheduler about the job, for `requests.follow`."""
        self.again = False
        return self.scheduler.queue_functions(((self.part.directory, self.part.job),))

    def take(self, kind: str, run_id: str, data: bytes) -> Taken:
        """A frame of the stream (frames.Frame), by the kind and the run that its name tells."""
        if kind == "s":
            state = parse_task(run_id, data)
            self.tasks[run_id], self.begun = state, self.begun or state.status != "queued"
            return Taken() if is_from_outside(state.status, state.exit_code) else Taken((state,))
        if kind in ("q", "Q"):
            self.report = data
        if kind == "q":
            return self._told(self._judged(CommandState(self.part.directory, "running" if self.begun else "")))
        if kind == "S":
            verdict = self._judged(parse_end(self.part.directory, data))
            self.again = not verdict.over
            return self._told(verdict)
        self.begun = self.begun or kind in ("p", "t", "o", "e")
        return Taken()

    def next_pause(self) -> float:
        """Seconds until it is looked at once more."""
        pause, self._pause = self._pause, min(_LONGEST_PAUSE, self._pause * 2)
        return pause

    def _told(self, verdict: CommandState) -> Taken:
        return Taken(verdict.tasks if verdict.over else (), verdict, tuple(self._news(verdict)))

    def _news(self, verdict: CommandState) -> list[str]:
        """Why it does not run, once a change; where it runs, if it had to wait; that nothing is said of it, when that lasts."""
        before, self._state = self._state, verdict
        self._silent = self._silent + 1 if verdict.silence else 0
        if verdict.over:
            return []
        if verdict.silence:
            return [f"the scheduler says nothing of job {self.part.job}: {verdict.silence}"] if self._silent == 1 else []
        waited = before.waiting if before else ""
        if verdict.waiting and verdict.waiting != waited:
            return [f"job {self.part.job} waits in the queue: {verdict.waiting}"]
        if waited and not verdict.waiting and verdict.node:
            return [f"job {self.part.job} runs on {verdict.node}"]
        return []

    def _judged(self, state: CommandState) -> CommandState:
        state = replace(state, tasks=tuple(self.tasks.values()))
        return self.scheduler.judge(state, self.part.job, self.report.decode("utf-8", "surrogateescape"))
