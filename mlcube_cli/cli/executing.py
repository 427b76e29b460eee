"""Starting what was decided: preparation, then task by task, each with its record; then the exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcube_cli.cache.made import noting
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result, conclude, ended_sentence, listed_tasks
from mlcube_cli.cli.listed import Listed, entry_for
from mlcube_cli.cli.make import write_deps, write_stamp
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.cli.recording import Recorder
from mlcube_cli.command import HIDDEN, Command, Plan, Step, TaskPlan, find_reason, merge, shell_line
from mlcube_cli.errors import MachineError, MLCubeError, PreparationError
from mlcube_cli.job import Job
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.process import Outcome, Session, ask
from mlcube_cli.records import run_directory
from mlcube_cli.report import printable
from mlcube_cli.resolve import resolve
from mlcube_cli.run_log import opened_logs


def execute(arguments: Arguments, prepared: Prepared, plans: Sequence[Plan],
            afterwards: Callable[[], object] | None = None) -> int:
    """Start the plans in order; stop at the first failure. Returns the exit code, or dies by the signal that ended it.

    `afterwards` is called once all has succeeded; an MLCubeError of it is the command's own.
    """
    result = Result()
    started = time.time()
    plan = merge(plans)
    for note in plan.notes:
        output.warn(note)
    result.listed = Listed(entry_for(prepared, plan)) if prepared.jobs else None
    with conclude(arguments, prepared, result):
        begun = result.listed.begun if result.listed else lambda family: None
        with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say, announce=_announce,
                     begun=begun) as session:
            _run_all(arguments, prepared, plans, session, result)
        if result.status == "succeeded" and getattr(arguments, "stamp", None):
            finish_for_make(arguments, prepared, started, result.tasks)
        if result.status == "succeeded" and afterwards:
            afterwards()
    return result.exit_code


def _run_all(arguments: Arguments, prepared: Prepared, plans: Sequence[Plan], session: Session,
             result: Result) -> None:
    for step in merge(plans).steps:
        if step.task is None and not prepare_step(step, session, result):
            return
    for number, (job, plan) in enumerate(zip(prepared.jobs, plans)):
        if number:
            _look_again(prepared, number)
        changes = _changes_now(arguments, prepared, number, plan, result) if prepared.judged else {}
        if changes is None:
            continue
        recorder = Recorder(arguments, prepared, number, plan, lambda: session.signal is not None)
        run = _TaskRun(job, plan, session, recorder, to_stderr=arguments.json, entry=changes)
        result.tasks.append(run.entry)
        with _told(result.listed, run):
            outcome = run.go()
        result.status, result.exit_code, result.signal = outcome.status, outcome.exit_code, outcome.signal
        if run.failure is not None:
            raise run.failure
        if outcome.status != "succeeded":
            result.message = ended_sentence(job.task, outcome.status, outcome.exit_code)
            if outcome.signal != signal.SIGPIPE:  # nobody reads what it prints any more: it ends quietly (RULINGS 26)
                output.say(result.message)
            return


def _changes_now(arguments: Arguments, prepared: Prepared, number: int, plan: Plan,
                 result: Result) -> dict[str, object] | None:
    """What has changed since the task last ran, for the result; None: nothing, and the result says that it was skipped."""
    from mlcube_cli.cli.skipping import skipped_now

    skipped, changes = skipped_now(arguments, prepared, number, plan)
    if skipped is None:
        return {"changes": [change.as_data() for change in changes]}
    result.tasks.append(dict(skipped))
    if result.listed:
        result.listed.leave_out(prepared.jobs[number].run_id)
    return None


@contextlib.contextmanager
def _told(listed: Listed | None, run: _TaskRun) -> Iterator[None]:
    """The index knows how the task stands."""
    if listed:
        listed.begin(run.job.run_id)
    yield
    if listed:
        listed.finish(run.job.run_id, str(run.entry["status"]), int(str(run.entry["exit_code"])))


def _announce(step: Step) -> None:
    if step.task is None:
        output.say(step.title)


def _look_again(prepared: Prepared, number: int) -> None:
    """A later task's inputs once more, now that the earlier ones have run (RULINGS 4). Raises DefinitionError."""
    fresh = machine(os.environ)
    with_facts(lambda known: resolve(prepared.cube, prepared.platform, prepared.wishes[number], known), fresh)


def prepare_step(step: Step, session: Session, result: Result) -> bool:
    """Run a preparation step; False when a signal ended it. Raises PreparationError, MachineError."""
    with noting(step.makes):
        outcome = session.run(step)
    _tidy(step, session, outcome)
    if outcome.status == "succeeded":
        return True
    if outcome.status == "cancelled":
        result.status, result.exit_code, result.signal = outcome.status, outcome.exit_code, outcome.signal
        result.message = f"cancelled: {step.title}"
        output.say(result.message)
        return False
    raise why_failed(step, outcome)


def why_failed(step: Step, outcome: Outcome, kind: type[MLCubeError] | None = None) -> MLCubeError:
    """A tool's failure: the step, the command ready to paste, its last lines, its exit code (CONTRIBUTING, Errors)."""
    attempts = (outcome.first, outcome) if outcome.first else (outcome,)
    lines = [line for attempt in attempts for line in _tried(attempt.command or step.command, attempt)]
    reason = find_reason(step, outcome.tail)
    title = f"could not {step.title} (exit code {outcome.exit_code})"
    message = "\n  ".join((f"{title}: {reason.sentence}" if reason else title, *lines))
    kind = kind or (MachineError if outcome.status == "environment" else PreparationError)
    aside = outcome.command in (*step.before, *step.then)
    hint = reason.hint if reason else "" if aside else step.hint
    return kind(message, hint or "the lines above are the tool's own; the command can be pasted into a shell")


def _tried(command: Command, outcome: Outcome) -> list[str]:
    """A command and its last lines, without the secrets that it was given."""
    secrets = [variable.value for variable in command.env if variable.secret and len(variable.value or "") > 3]
    lines = [f"$ {shell_line(command)}"]
    for line in outcome.tail:
        for secret in secrets:
            line = line.replace(secret or "", HIDDEN)
        lines.append(f"| {printable(line)}")
    return lines


def finish_for_make(arguments: Arguments, prepared: Prepared, started: float, tasks: Sequence[Mapping[str, object]]) -> None:
    """The stamp and the dependencies, with paths of this machine: what lies on another one make cannot look at.

    `tasks`: those of the result; one that was skipped has the id of the run whose outputs are here."""
    remote = prepared.remote
    jobs, facts = (remote.jobs, remote.here) if remote else (prepared.jobs, prepared.facts)
    jobs = (*jobs, *(one.job for one in prepared.judged.skipped)) if prepared.judged else jobs
    if arguments.deps:
        near = jobs if remote is None else [
            replace(job, arguments=tuple(one for one in job.paths if remote.relocation.moves(one.host_path))) for job in jobs]
        write_deps(arguments.deps, arguments.stamp, near, [os.path.join(facts.cwd, file) for file in prepared.files])
    write_stamp(arguments.stamp, started, [str(entry["run_id"]) for entry in listed_tasks(prepared, tasks)])


@dataclass
class _TaskRun:
    """One task: its steps, its record, its entry in the result."""

    job: Job
    plan: Plan
    session: Session
    recorder: Recorder
    to_stderr: bool
    entry: dict[str, object] = field(default_factory=dict)
    failure: MLCubeError | None = None

    def go(self) -> Outcome:
        """Run the task's steps and keep the record up to date. An engine's failure is left in `failure`."""
        started = time.time()
        self.entry.update({"task": self.job.task, "status": "running", "exit_code": None, "seconds": None,
                           "run_id": self.job.run_id, "record": None, "image": _image_data(self.plan.tasks[0])})
        self.entry["record"] = self.recorder.begin(started)
        outcome = Outcome("succeeded", 0, 0.0)
        for step in self.plan.steps:
            if step.task is None:
                continue
            outcome = self._step(step)
            if outcome.status != "succeeded":
                break
        if self.failure is not None:
            outcome = Outcome(self.failure.status, self.failure.exit_code, outcome.seconds)
        self.entry.update(status=outcome.status, exit_code=outcome.exit_code, seconds=round(outcome.seconds, 3))
        self.recorder.end(outcome.status, outcome.exit_code, outcome.seconds)
        return outcome

    def _step(self, step: Step) -> Outcome:
        limits: TaskPlan = self.plan.tasks[0]
        with self._logs(step, limits) as logs:
            outcome = self.session.run(step, limits, stdout=2 if self.to_stderr else None, logs=logs)
        self._judge(step, outcome)
        _tidy(step, self.session, outcome)
        return outcome

    @contextlib.contextmanager
    def _logs(self, step: Step, limits: TaskPlan) -> Iterator[tuple[int, int] | None]:
        """What the task prints is kept beside its record; a task that has the terminal keeps it for itself."""
        with contextlib.ExitStack() as stack:
            logs = None
            if step.payload and not limits.interactive:
                try:
                    logs = stack.enter_context(opened_logs(run_directory(self.job.workspace, self.job.run_id)))
                except OSError as error:
                    output.warn(f"this run leaves no log: {error.strerror or error}")
            yield logs

    def _judge(self, step: Step, outcome: Outcome) -> None:
        """Leave in `failure` what was not the task's own doing."""
        aside = not step.payload or outcome.command in (*step.before, *step.then)
        if aside and outcome.status in ("failed", "environment"):
            self.failure = why_failed(step, outcome)
        elif outcome.status == "environment":
            self.failure = MachineError("; ".join(outcome.tail) or f"could not {step.title}", step.hint)
        elif outcome.status == "failed" and not _had_started(step, outcome):
            why = step.sign.why if step.sign else None
            reason = find_reason(step, ask(why).stderr.splitlines()) if why else None
            title = f"the engine could not start task '{self.job.task}' (its exit code {outcome.exit_code})"
            self.failure = MachineError(
                f"{title}: {reason.sentence}" if reason else f"{title}\n  $ {shell_line(step.command)}",
                reason.hint if reason else step.hint or "the engine's own message stands above")


def _image_data(task: TaskPlan) -> dict[str, str] | None:
    return {"name": task.image[0], "id": task.image[1]} if task.image else None


def _had_started(step: Step, outcome: Outcome) -> bool:
    """Was it the task that failed? The number alone does not tell its failure from the engine's (RULINGS 20)."""
    sign = step.sign
    if sign is None or (sign.codes is not None and outcome.exit_code not in sign.codes):
        return True
    return bool(ask(sign.started).stdout.strip())


def _tidy(step: Step, session: Session, outcome: Outcome) -> None:
    """What comes after a step that was begun. The session is still open, so that no signal ends us meanwhile."""
    skipped = outcome.status == "succeeded" and outcome.command is None
    if not skipped and not session.tidy(step):
        output.warn(f"something is left of '{step.title}'; to remove it: {shell_line(step.after[-1])}")
