"""What is remembered of a sweep's runs: a record for each member, and one entry in the index for all of them together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import entry_for, here
from mlcube_cli.cli.recording import Recorder, beginning_of
from mlcube_cli.cli.sweep_deciding import Decided
from mlcube_cli.errors import DefinitionError
from mlcube_cli.holding import hold
from mlcube_cli.job import Job
from mlcube_cli.locks import myself
from mlcube_cli.place import HERE
from mlcube_cli.process import Session, ask
from mlcube_cli.records import Ending, begin_record, close_record, entries_of, finish_record, read_record, run_directory
from mlcube_cli.run_index import Entry, QueuedPart, Supervised, make_room, with_tasks
from mlcube_cli.run_states import keep
from mlcube_cli.sweep.document import Attempt, Member
from mlcube_cli.sweep.standing import CANCELLED, LOST, QUEUED, Standing

_SHARED = ("code", "git", "engines", "gpus")  # what is learnt for the first record, and holds for all
_PAUSE = 1.0  # seconds, at least, between two times that the index is written: it is a memory, not the truth


def entry_of(decided: Decided, supervised: Supervised) -> Entry:
    """The sweep in the index: one entry, whatever the number of its members."""
    entry = entry_for(decided.prepared, supervised=supervised)
    return replace(entry, sweep=decided.sweep.directory, writes={"": (os.path.realpath(decided.sweep.directory),)})


def _supervised_here(decided: Decided, attempt: Attempt) -> Supervised:
    """Where the members of this attempt are supervised on this machine."""
    tasks = {job.run_id: run_directory(job.workspace, job.run_id) for job in decided.prepared.jobs}
    parts = tuple(QueuedPart(os.path.join(attempt.directory, str(member.number)), "", (attempt.run_id(member.number),))
                  for member in decided.members)
    return Supervised(HERE.reach, HERE.name, attempt.directory, tasks, parts=parts)


def record_queued(arguments: Arguments, decided: Decided) -> None:
    """The records of members that a batch system has taken over: whoever sees their end completes them. What cannot be written
    is a warning."""
    now, silent = time.time(), False
    first = Recorder(arguments, decided.prepared, 0, decided.plans[0], lambda: False, detached=True)
    first.begin(now)
    first.leave()
    shared, measured = _learnt(first)
    for number, plan in enumerate(decided.plans):
        try:
            beginning = beginning_of(arguments, decided.prepared, number, plan, now)
            begin_record(replace(beginning, owner=None, status=QUEUED, found=shared, measured=_known(beginning.job, measured)))
        except OSError as error:
            if not silent:
                output.warn(f"records of this sweep are not complete: {error.strerror or error}")
            silent = True


def _learnt(first: Recorder) -> tuple[dict[str, object], dict[str, tuple[str, Mapping[str, object]]]]:
    """What the first record says of the machine and of inputs (by name: path, measures): it holds for all."""
    if first.path is None:
        return {}, {}
    try:
        record = read_record(first.path)
    except DefinitionError:
        return {}, {}
    inputs: dict[str, tuple[str, Mapping[str, object]]] = {
        str(entry["name"]): (str(entry["path"]), {name: value for name, value in entry.items()
                                                  if name not in ("name", "path", "mode")})
        for entry in entries_of(record, "inputs") if entry.get("kind") and entry.get("mode") != "rw"}
    return {name: record[name] for name in _SHARED if record.get(name)}, inputs


def _known(job: Job, measured: Mapping[str, tuple[str, Mapping[str, object]]]) -> dict[str, Mapping[str, object]]:
    """The measures of those inputs of the job that are at the same paths."""
    return {argument.name: measured[argument.name][1] for argument in job.paths
            if argument.name in measured and measured[argument.name][0] == argument.host_path}


def refuse_others(entry: Entry) -> None:
    """Enter it into the index, unless somebody else runs members of this sweep: raises MachineError then."""
    directory = here()
    try:
        make_room(directory)
        hold(directory, replace(entry, owner=replace(myself(), token="")), ask)
    except OSError as error:
        output.warn(f"mlcube ps will not know this sweep: {directory}: {error.strerror or error}")


@dataclass
class Records:
    """Context manager around the members that this process starts. What cannot be written is a warning."""

    arguments: Arguments
    decided: Decided
    attempt: Attempt
    session: Session
    _entry: Entry | None = None
    _shared: dict[str, object] = field(default_factory=dict)
    _measured: dict[str, tuple[str, Mapping[str, object]]] = field(default_factory=dict)  # inputs, by name: path, measures
    _first: Recorder | None = None
    _is_learnt: bool = False  # what its record says
    _written: float = 0.0
    _silent: bool = False  # it was said already that records cannot be written
    _numbers: dict[int, int] = field(default_factory=dict)  # a member's place among those of this attempt, by its own number

    def __enter__(self) -> Records:
        """Raises MachineError where somebody else runs members of this sweep."""
        self._numbers = {member.number: number for number, member in enumerate(self.decided.members)}
        self._entry = replace(entry_of(self.decided, _supervised_here(self.decided, self.attempt)),
                              owner=replace(myself(), token=""))
        refuse_others(self._entry)
        return self

    def __exit__(self, *_: object) -> None:
        """None of them goes on: those that never began are cancelled."""
        if self._entry is None:
            return
        rest = {task.run_id: replace(task, status=CANCELLED) for task in self._entry.tasks if not task.over}
        self._entry = replace(with_tasks(self._entry, rest), settled=True, owner=None)
        self._keep(always=True)

    # --- a member ----------------------------------------------------------------------------------------------------

    def begin(self, member: Member) -> None:
        """The member is about to start."""
        number = self._numbers[member.number]
        self._change(member, status="running", started=time.time())
        plan = self.decided.plans[number]
        if self._first is None:
            self._first = Recorder(self.arguments, self.decided.prepared, number, plan, lambda: self.session.interrupted,
                                   detached=True)
            self._first.begin(time.time())
            return
        beginning = beginning_of(self.arguments, self.decided.prepared, number, plan, time.time())
        with self._warned():
            begin_record(replace(beginning, owner=None, found=self._shared, measured=_known(beginning.job, self._measured)))

    def started(self) -> None:
        """A member is on its way. What is learnt of the machine and of the inputs for the first one holds for all."""
        if self._first is None or self._is_learnt:
            return
        self._is_learnt = True
        self._first.leave()
        self._shared, self._measured = _learnt(self._first)

    def refused(self, member: Member) -> None:
        """It could not be started."""
        self._change(member, status=CANCELLED, started=None)
        with self._warned():
            close_record(self._directory(member), "environment", 4, "the task never started")

    def end(self, standing: Standing) -> None:
        """The member has ended."""
        code = standing.exit_code
        self._change(standing.member, status=standing.status, exit_code=code, started=standing.started, ended=standing.ended)
        with self._warned():
            directory = self._directory(standing.member)
            if standing.status == LOST:
                close_record(directory, LOST, code, "the run was lost before it was measured")
            else:
                finish_record(directory, Ending(standing.status, code or 0, standing.seconds, standing.ended or time.time()))

    def _directory(self, member: Member) -> str:
        return self.decided.sweep.run_directory(self.attempt, member.number)

    @contextlib.contextmanager
    def _warned(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DefinitionError) as error:
            if not self._silent:
                output.warn(f"records of this sweep are not complete: {getattr(error, 'strerror', None) or error}")
            self._silent = True

    # --- the index ---------------------------------------------------------------------------------------------------

    def _change(self, member: Member, **values: object) -> None:
        assert self._entry is not None
        run_id = self.attempt.run_id(member.number)
        task = next(task for task in self._entry.tasks if task.run_id == run_id)
        self._entry = with_tasks(self._entry, {run_id: replace(task, **values)})  # type: ignore[arg-type] # fields of it
        self._keep()

    def _keep(self, always: bool = False) -> None:
        if self._entry is not None and (always or time.monotonic() - self._written > _PAUSE):
            keep(here(), self._entry)
            self._written = time.monotonic()
