"""What can go wrong, as values: problems with a place in a file, and one exception class per exit code."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Location:
    """A place in a definition file; line and column count from 1, 0 means "the file as a whole"."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


NOWHERE = Location("")


@dataclass(frozen=True)
class Problem:
    """One fault of a definition, with where it stands and what to type instead.

    `path` names the node inside the document (`tasks.train.inputs[0].type`), `code` is a stable word for scripts.
    """

    location: Location
    message: str
    code: str
    hint: str = ""
    path: str = ""
    severity: str = "error"  # "error" | "warning"


class MLCubeError(Exception):
    """An error that the user sees as one message and one hint; never as a traceback."""

    exit_code = 1
    status = "failed"

    def __init__(self, message: str, hint: str = "", location: Location | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location


class UsageError(MLCubeError):
    """The command line names something that does not exist."""

    exit_code = 2
    status = "usage"


class DefinitionError(MLCubeError):
    """A definition is invalid, or an input is missing or of the wrong kind. Carries all problems at once."""

    exit_code = 3
    status = "invalid"

    def __init__(self, message: str, hint: str = "", location: Location | None = None,
                 problems: Iterable[Problem] = ()) -> None:
        super().__init__(message, hint, location)
        self.problems = tuple(problems)


class MachineError(MLCubeError):
    """The environment: a tool is missing or too old, a daemon, host or scheduler is unreachable."""

    exit_code = 4
    status = "environment"


class PreparationError(MLCubeError):
    """An image or a Python environment could not be built, pulled or found."""

    exit_code = 5
    status = "preparation"


class TransferError(MLCubeError):
    """Something did not get from one machine to another, or the connection broke."""

    exit_code = 6
    status = "transfer"


class Interrupted(MLCubeError):  # noqa: N818 - not a fault, but what the user asked for
    """A signal ended the command; `exit_code` is 128 + its number."""

    status = "cancelled"

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"ended by signal {signal_number}")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
