"""The record of a task's run: begun before it, completed after it; what it needs is learnt meanwhile."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.rerunning import asked
from mlcube_cli.command import Command, Plan, TaskPlan
from mlcube_cli.errors import DefinitionError, MLCubeError
from mlcube_cli.executables import find_executable
from mlcube_cli.facts import Answer, FileDigest, Observation, Probe, Question
from mlcube_cli.job import Argument, Job
from mlcube_cli.locks import myself
from mlcube_cli.measures import GIVEN_UP, NONE, SIZES, Want, keep_manifest, measure
from mlcube_cli.observe import with_facts
from mlcube_cli.process import ask
from mlcube_cli.provenance import PATIENCE, Gathering, code_data, definition_data, engine_data, git_data, gpu_data
from mlcube_cli.records import (
    QUEUED,
    RUNNING,
    Beginning,
    Ending,
    Execution,
    begin_record,
    close_record,
    entries_of,
    finish_record,
    made_before,
    read_record,
    run_directory,
    start_record,
    write_record,
)
from mlcube_cli.run_log import log_paths

_AFTER_A_SIGNAL = 5.0  # seconds, at most, for the sizes of what a cancelled task left
_MOMENT = 1.0  # seconds, twice, before we leave a run in the background


def beginning_of(arguments: Arguments, prepared: Prepared, number: int, plan: Plan, started: float) -> Beginning:
    """What is known of the run of the task of that number (from 0) before it starts; `job` has this machine's paths."""
    job = prepared.jobs_here[number]
    here = os.getcwd()
    files = [os.path.join(here, file) for file in prepared.files]
    return Beginning(
        job, plan, prepared.cube, started,
        _execution(prepared, job), owner=myself(), elsewhere=_staying(prepared, job),
        logs=None if job.interactive else log_paths(run_directory(job.workspace, job.run_id)),
        definition=definition_data(files, job.root), asked=asked(arguments, prepared, number, plan),
        hashing=getattr(arguments, "hash", None) or "auto")


def _execution(prepared: Prepared, job: Job) -> Execution:
    remote = prepared.remote
    if remote is None:
        return Execution("", os.uname().nodename, user_name(), run_directory(job.workspace, job.run_id))
    there = remote.facts
    user = there.environment.get("USER") or there.environment.get("LOGNAME") or str(there.uid)
    return Execution(remote.name, there.host, user, os.path.join(remote.load.root, "runs", job.command_id, job.run_id))


def _staying(prepared: Prepared, job: Job) -> frozenset[str]:
    """The parameters whose paths are another machine's."""
    remote = prepared.remote
    return frozenset(argument.name for argument in job.paths if remote and not remote.relocation.moves(argument.host_path))


def measure_inputs(job: Job, hashing: str, wanted: Callable[[Argument], bool] = lambda argument: True,
                   give_up: Callable[[], bool] = lambda: False) -> dict[str, Mapping[str, object]]:
    """The inputs' measures by name, as records hold them; manifests are kept in the job's workspace."""
    found: dict[str, Mapping[str, object]] = {}
    for argument in job.paths:
        if argument.direction == "input" and wanted(argument):
            measured = measure(argument.host_path, Want(hashing, give_up=give_up))
            keep_manifest(job.workspace, measured)
            found[argument.name] = measured.as_data()
    return found


@dataclass
class Recorder:
    """The record of one task's run. What cannot be written is a warning: a run never fails for its record."""

    arguments: Arguments
    prepared: Prepared
    number: int  # of the task, from 0
    plan: Plan
    hurry: Callable[[], bool]  # did a signal come?
    detached: bool = False  # we leave before the task ends: somebody else completes the record
    found: Mapping[str, object] = field(default_factory=dict)  # what is known of the run already, for its record
    path: str | None = None  # of the record, once it is there
    _measured: dict[str, Mapping[str, object]] = field(default_factory=dict)
    _gatherings: tuple[Gathering, ...] = ()
    _hashing: str = NONE
    _writing: Lock = field(default_factory=Lock)  # the record
    _over: bool = False  # nothing is kept of it meanwhile any more

    @property
    def job(self) -> Job:
        return self.prepared.jobs_here[self.number]

    def begin(self, started: float) -> str | None:
        """Write the record of a run that is about to start; its path, or None where there is none."""
        beginning = replace(beginning_of(self.arguments, self.prepared, self.number, self.plan, started), found=self.found)
        self._hashing = beginning.hashing
        queue = self.prepared.queue
        queued = queue is not None and not queue.allocated
        if self.detached or queued:  # it waits for the task before it, or for a batch system, which looks after it
            beginning = replace(beginning, owner=None, status=QUEUED if self.number or queued else RUNNING)
        try:
            self.path = begin_record(beginning)
        except OSError as error:
            output.warn(f"this run leaves no record: {error.strerror or error}")
            return None
        not_now = self._not_now()
        self._measured = measure_inputs(
            self.job, self._hashing, lambda argument: argument.mode == "rw" and argument.name not in not_now, self.hurry)
        self._gatherings = (Gathering(self._of_files(), self._keep), Gathering(self._of_the_machine(), self._keep))
        for gathering in self._gatherings:
            gathering.start()
        return self.path

    def start(self, started: float) -> str | None:
        """The task begins now, or did then (seconds since 1970): what `begin` does, where that was not done already."""
        if self.path is None:
            self.begin(started)
        with self._writing, contextlib.suppress(OSError, DefinitionError):
            if self.path is not None:
                start_record(os.path.dirname(self.path), started)
        return self.path

    def close(self, status: str, exit_code: int | None) -> None:
        """The task never began."""
        with self._writing, contextlib.suppress(OSError, DefinitionError):
            self._over = True
            if self.path is not None:
                close_record(os.path.dirname(self.path), status, exit_code, "the task never started")

    def _not_now(self) -> frozenset[str]:
        """The inputs that are not here, or not yet: those that stay on another machine, and, while this one does not see the
        tasks begin, those that an earlier task makes."""
        jobs = self.prepared.jobs_here
        unseen = self.detached or self.prepared.remote is not None or self.prepared.queue is not None
        return _staying(self.prepared, self.job) | (made_before(jobs, self.number) if unseen else frozenset())

    def leave(self) -> None:
        """The record of a detached run gets what was learnt within a moment; whoever sees its end learns the rest."""
        if self.path is None:
            return
        found = {name: value for gathering in self._gatherings
                 for name, value in gathering.results(self.hurry, _MOMENT).items()}
        with self._writing:
            self._over = True
        try:
            self._add(self.path, found)
        except (OSError, DefinitionError) as error:
            output.warn(f"the record of this run is not complete: {getattr(error, 'strerror', None) or error}")

    def _keep(self, found: Mapping[str, object]) -> None:
        """What was learnt of a run that goes on. Where it cannot be written, its end will say so."""
        with self._writing, contextlib.suppress(OSError, DefinitionError):
            if self.path is not None and not self._over:
                self._add(self.path, found)

    def _add(self, path: str, found: Mapping[str, object]) -> None:
        """Raises OSError, DefinitionError."""
        record, measured = read_record(path), self._known(found.get("inputs"))
        inputs = [{**entry, **measured.get(str(entry.get("name")), {})} for entry in entries_of(record, "inputs")]
        write_record(os.path.dirname(path), {**record, **found, "inputs": inputs})

    def end(self, status: str, exit_code: int, seconds: float, job: str = "", node: str = "") -> None:
        """Complete the record. `job`, `node`: of a batch system."""
        if self.path is None:
            return
        ended = time.time()
        until = ended + _AFTER_A_SIGNAL
        give_up = (lambda: time.time() > until) if self.hurry() else self.hurry
        found = dict(self._gatherings[0].results(self.hurry))
        found.update(self._gatherings[1].results(self.hurry, PATIENCE))
        with self._writing:
            self._over = True
        measured = self._known(found.pop("inputs", None))
        try:
            finish_record(os.path.dirname(self.path), Ending(status, exit_code, seconds, ended, found, measured, job, node),
                          give_up)
        except (OSError, DefinitionError) as error:
            output.warn(f"the record of this run could not be finished: {getattr(error, 'strerror', None) or error}")

    def _known(self, inputs: object) -> dict[str, Mapping[str, object]]:
        """The inputs that were measured to the end, by name."""
        found = {**(inputs if isinstance(inputs, dict) else {}), **self._measured}
        return {name: measured for name, measured in found.items() if not str(measured.get("note")).startswith(GIVEN_UP)}

    # --- what is learnt meanwhile ------------------------------------------------------------------------------------

    def _of_files(self) -> list[tuple[str, Callable[[Callable[[], bool]], object]]]:
        job, hashing, not_now = self.job, self._hashing, self._not_now()
        wanted: list[tuple[str, Callable[[Callable[[], bool]], object]]] = [
            ("code", lambda stop: code_data(job.root, job.workspace, hashing, stop))]
        image = self.plan.tasks[0].image
        if image is not None and (not image[1] or os.path.isabs(image[0])):  # not looked at yet, or a file
            wanted.append(("image", lambda stop: self._image(self.plan.tasks[0])))
        return [*wanted, ("inputs", lambda stop: measure_inputs(
            job, hashing, lambda argument: argument.mode != "rw" and argument.name not in not_now, stop))]

    def _of_the_machine(self) -> list[tuple[str, Callable[[Callable[[], bool]], object]]]:
        job, environment = self.job, dict(os.environ)
        return [("git", lambda stop: git_data(job.root, job.workspace, environment, stop)),
                ("engines", lambda stop: engine_data(self._questions(), partial(self._ask, stop))),
                ("gpus", lambda stop: gpu_data(self._has, partial(self._ask, stop)))]

    def _ask(self, stop: Callable[[], bool], command: Command, seconds: float) -> Observation:
        """Ask the machine that the task runs on; a tool of this one is ended when it has to stop."""
        if self.prepared.remote is None:
            return ask(command, seconds, give_up=stop)
        answer = self.prepared.look((Probe(command),))[Probe(command)]
        assert isinstance(answer, Observation)
        return answer

    def _has(self, tool: str) -> object:
        remote = self.prepared.remote
        return remote.machine.tools.get(tool) if remote else find_executable(tool, os.environ)

    def _questions(self) -> tuple[tuple[str, Command], ...]:
        job = self.prepared.jobs[self.number]
        questions, _ = with_facts(lambda known: self.prepared.runner.versions(job, known), self.prepared.facts,
                                  self.prepared.look)
        return questions

    def _image(self, task: TaskPlan) -> dict[str, str] | None:
        """The image that the run found or made, looked at anew; its file is only read where hashing is not turned off."""
        name, identifier = task.image or ("", "")
        prepared = replace(self.prepared, facts=self.prepared.afresh())
        try:
            found, _ = with_facts(lambda known: prepared.runner.identify(prepared.jobs[self.number], known), prepared.facts,
                                  lambda questions: self._look(questions, prepared))
        except MLCubeError:
            return {"name": name, "id": identifier}
        more = {"sha256": found.sha256} if found.sha256 else {}
        return {"name": name, "id": identifier or found.sha256 or found.id or found.inputs, **more}

    def _look(self, questions: tuple[Question, ...], prepared: Prepared) -> Mapping[Question, Answer]:
        if self._hashing not in (NONE, SIZES):
            return prepared.look(questions)
        quick = tuple(question for question in questions if not isinstance(question, FileDigest))
        return {**dict.fromkeys(questions), **prepared.look(quick)}


def user_name() -> str:
    """The caller's name; his number where he has none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
