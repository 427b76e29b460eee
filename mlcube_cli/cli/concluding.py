"""How a command line that runs tasks ends, wherever they ran: its result, what it says of errors, the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import Listed
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.errors import MLCubeError
from mlcube_cli.process import die_by
from mlcube_cli.report import result_data, validate_data


@dataclass
class Result:
    """How the command went so far."""

    status: str = "succeeded"
    exit_code: int = 0
    message: str = ""
    hint: str = ""
    signal: int | None = None
    tasks: list[dict[str, object]] = field(default_factory=list)
    problems: object = ()  # of an error, as in mlcube.validate.v1
    listed: Listed | None = None  # the command line's entry in the index of runs, which then says how it ended

    def fail(self, error: MLCubeError) -> None:
        """The error is how it ended; it is shown."""
        self.status, self.exit_code, self.message, self.hint = error.status, error.exit_code, error.message, error.hint
        output.show_error(error)


@contextlib.contextmanager
def conclude(arguments: Arguments, prepared: Prepared, result: Result) -> Iterator[None]:
    """What is raised in the block becomes the result; then it is shown, and we die by the signal that ended it, if any."""
    try:
        yield
    except MLCubeError as error:
        result.fail(error)
        result.problems = validate_data(getattr(error, "problems", ()))["problems"]
    if result.listed and result.status != "running":
        result.listed.end(result.status, result.exit_code, result.message)
    if arguments.json:
        document = result_data(result.status, result.exit_code, prepared.platform_name, listed_tasks(prepared, result.tasks),
                               result.message, result.hint)
        output.json_result({**document, "problems": result.problems} if result.problems else document)
    if result.signal is not None:
        die_by(result.signal)


def listed_tasks(prepared: Prepared, tasks: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
    """The tasks of a result: those that ran, and with --skip-unchanged those that did not have to."""
    if prepared.judged is None:
        return tasks
    from mlcube_cli.cli.skipping import all_entries

    return all_entries(prepared, tasks)


def ended_sentence(task: str, status: str, exit_code: int, why: str = "") -> str:
    """How a task ended that did not succeed; `why`: what else is known of it, such as a batch system's reason."""
    if status == "lost":
        return f"task '{task}' is lost: {why or 'the machine that it ran on knows nothing of it any more'}"
    if status == "timed_out":
        sentence = f"task '{task}' was ended: its time was up"
    elif status == "cancelled":
        sentence = f"task '{task}' was cancelled"
    else:
        sentence = f"task '{task}' failed with exit code {exit_code}"
    return sentence if why in ("", sentence) else f"{sentence}: {why}"
