"""The members of a sweep, carried out on this machine: so many at once, each under a supervisor of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlcube_cli.cache import lock_place
from mlcube_cli.cache.uses import keeping
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result
from mlcube_cli.cli.detaching import mark_uses
from mlcube_cli.cli.executing import prepare_step
from mlcube_cli.cli.sweep_deciding import Decided
from mlcube_cli.cli.sweep_records import Records
from mlcube_cli.cli.sweep_telling import Progress
from mlcube_cli.command import Plan
from mlcube_cli.errors import MachineError
from mlcube_cli.job import Job
from mlcube_cli.locks import myself
from mlcube_cli.place import HERE, new_nonce
from mlcube_cli.process import Session, ask
from mlcube_cli.records import run_directory
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.requests import answer_of, cancel, start
from mlcube_cli.sweep.document import Attempt, Member
from mlcube_cli.sweep.standing import CANCELLED, Standing, standing_of

_FIRST_NAP, _LONGEST_NAP = 0.02, 0.3  # seconds between two looks at those that run


def run_here(arguments: Arguments, decided: Decided, attempt: Attempt, result: Result, begun: Callable[[], object]) -> None:
    """Prepare, then run the members, `attempt.limit` at once, to their end; `begun` is called in between. What went wrong
    besides the members themselves is raised; a signal ends those that run, starts no more, and is left in the result."""
    with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say,
                 announce=lambda step: output.say(step.title)) as session, contextlib.ExitStack() as kept:
        if not all(prepare_step(step, session, result) for step in decided.preparation.steps):
            return
        for path in dict.fromkeys(step.keep for plan in decided.plans for step in plan.steps if step.keep):
            kept.enter_context(keeping(path))
        with Records(arguments, decided, attempt, session) as records:
            if not all(prepare_step(step, session, result) for step in decided.files):
                return
            begun()
            _Running(decided, attempt, session, records, fail_fast=arguments.fail_fast).go()
        if session.signal is not None:
            result.signal, result.status, result.exit_code = session.signal, CANCELLED, 128 + session.signal


@dataclass
class _Running:
    """Those members that run, and those that wait for it."""

    decided: Decided
    attempt: Attempt
    session: Session
    records: Records
    fail_fast: bool = False
    busy: dict[int, tuple[Member, Job, Plan]] = field(default_factory=dict)
    _asked: int = 0  # how many times they were asked to end

    def go(self) -> None:
        """Until all have ended, or no more are to start and those that run have. Raises MachineError where one cannot be
        started, once the others have ended."""
        decided = self.decided
        waiting = iter(list(zip(decided.members, decided.prepared.jobs, decided.plans)))
        trouble: MachineError | None = None
        nap, more = _FIRST_NAP, True
        with Progress(decided.members) as progress:
            while more or self.busy:
                while more and trouble is None and len(self.busy) < (self.attempt.limit or 1):
                    following = next(waiting, None) if not self.session.interrupted and self._may_go_on(progress) else None
                    more = following is not None
                    if following is not None:
                        trouble = self._start(*following)
                more = more and trouble is None
                ended = list(self._ended())
                for standing in ended:
                    progress.tell(standing)
                nap = _FIRST_NAP if ended else min(_LONGEST_NAP, nap * 1.5)
                if self.busy:
                    self._heed_signals(progress)
                    self.session.pause(nap)
            if trouble is not None:
                raise trouble

    def _may_go_on(self, progress: Progress) -> bool:
        return not self._asked and not (self.fail_fast and progress.failed)

    def _start(self, member: Member, job: Job, plan: Plan) -> MachineError | None:
        """Start a supervisor for the member; what went wrong."""
        layout = _layout(self.attempt, member, job)
        self.records.begin(member)
        nonce, said = new_nonce(), list[bytes]()
        self.busy[member.number] = member, job, plan
        outcome = self.session.stream(
            HERE.command(start(layout, program(plan, layout), secrets_of(plan, layout), nonce)), said.append)
        answer = answer_of(b"".join(said).decode("utf-8", "replace"), nonce)
        if answer == "started":
            mark_uses(plan, layout)
            self.records.started()
            return None
        if outcome.status == "cancelled":
            return None  # perhaps it was: then it is asked to end like the others
        del self.busy[member.number]
        why = (answer or "").partition("failed ")[2] or answer or (outcome.tail or ("it gave no answer",))[-1]
        self.records.refused(member)
        return MachineError(f"member {member.number} could not be started: {why}",
                            f"{layout.directory} must be a place that you can write to")

    def _ended(self) -> Iterator[Standing]:
        """Those that have ended since; their records are complete then."""
        me = myself()
        for number, (member, _, _) in list(self.busy.items()):
            standing = standing_of(self.decided.sweep, member, self.attempt, not self._asked, me)
            if standing.over:
                del self.busy[number]
                self.records.end(standing)
                yield standing

    def _heed_signals(self, progress: Progress) -> None:
        """The first signal ends those that run, a second one at once."""
        if not self.session.interrupted:
            return
        self.session.heed()
        again = self._asked > 0
        self._asked += 1
        progress.wipe()
        output.say(f"ending the {len(self.busy)} members that run{', at once' if again else '; once more ends them at once'}")
        for number in self.busy:
            place = os.path.join(self.attempt.directory, str(number))
            ask(HERE.command(cancel(place, again, new_nonce(), self.session.signal or 15)))


def _layout(attempt: Attempt, member: Member, job: Job) -> Layout:
    return Layout(os.path.join(attempt.directory, str(member.number)), {job.run_id: run_directory(job.workspace, job.run_id)},
                  lock_place(os.environ, os.getuid()))
