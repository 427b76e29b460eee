"""One job of a batch system, as it is seen from here: what its run has told, what its scheduler says, and what that means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlcube_cli.run_index import QueuedPart
from mlcube_cli.runner import Scheduler
from mlcube_cli.supervision.state import CommandState, TaskState, is_from_outside

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between two looks at an end that may not be one


@dataclass
class QueuedRun:
    """A part of a command line, followed. An end that may be the scheduler's doing is none before its judge says so."""

    part: QueuedPart
    scheduler: Scheduler
    tasks: dict[str, TaskState] = field(default_factory=dict)
    report: bytes = b""
    begun: bool = False  # something was heard of it
    again: bool = False  # what seemed to be its end is none, or not yet: it is to be looked at once more
    _state: CommandState | None = None  # the verdict before
    _silent: int = 0  # reports in a row that say nothing
    _pause: float = _FIRST_PAUSE

    def functions(self) -> str:
        """What asks the scheduler about the job, for `requests.follow`."""
        self.again = False
        return self.scheduler.queue_functions(((self.part.directory, self.part.job),))

    def told(self, state: TaskState) -> TaskState | None:
        """A task's own word; None: it is to be kept back until it is known who has ended it."""
        self.tasks[state.run_id] = state
        return None if is_from_outside(state.status, state.exit_code) else state

    def reported(self, report: bytes) -> CommandState:
        """How it stands when its own word is that it goes on."""
        self.report = report
        return self._judged(CommandState(self.part.directory, "running" if self.begun else ""))

    def ended(self, state: CommandState) -> CommandState:
        """How it stands when its own word is that it has ended. Where that is not the end, `again` is set."""
        verdict = self._judged(state)
        self.again = not verdict.over
        return verdict

    def next_pause(self) -> float:
        """Seconds until it is looked at once more."""
        pause, self._pause = self._pause, min(_LONGEST_PAUSE, self._pause * 2)
        return pause

    def news(self, verdict: CommandState) -> list[str]:
        """What is worth a line to whoever waits: why it does not run, once a change; and where it runs, if it had to wait."""
        before, self._state = self._state, verdict
        self._silent = self._silent + 1 if verdict.silence else 0
        if verdict.over:
            return []
        if verdict.silence:
            return [f"the scheduler says nothing of job {self.part.job}: {verdict.silence}"] if self._silent == 2 else []
        waited = before.waiting if before else ""
        if verdict.waiting and verdict.waiting != waited:
            return [f"job {self.part.job} waits in the queue: {verdict.waiting}"]
        if waited and not verdict.waiting and verdict.node:
            return [f"job {self.part.job} runs on {verdict.node}"]
        return []

    def _judged(self, state: CommandState) -> CommandState:
        state = replace(state, tasks=tuple(self.tasks.values()))
        return self.scheduler.judge(state, self.part.job, self.report.decode("utf-8", "surrogateescape"))
