"""Printing: results to stdout, everything of ours to stderr; colour only on a terminal and never with NO_COLOR."""

from __future__ import annotations

import os
import sys

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import MLCubeError, Problem
from mlcube_cli.report import error_lines, printable, problem_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUIET = False  # --quiet and --debug: set once, by the command line
DEBUG = False
_COLOURS = {"error": "31;1", "warning": "33;1", "hint": "36", "mlcube": "2"}


def result(text: str) -> None:
    """Write a result to stdout as it is; undecodable bytes come out as the bytes they were."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def json_result(document: Mapping[str, object]) -> None:
    import json

    result(json.dumps(document, indent=2) + "\n")


def say(message: str) -> None:
    """A line of ours, unless --quiet."""
    if not QUIET:
        _stderr([f"mlcube: {printable(message)}"])


def warn(message: str) -> None:
    if not QUIET:
        _stderr([f"warning: {printable(message)}"])


def confirm(question: str) -> bool:
    """Ask on the terminal; only y or yes is a yes."""
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    try:
        return os.read(0, 1024).strip().lower() in (b"y", b"yes")
    except OSError:
        return False


def show_problems(problems: Sequence[Problem]) -> None:
    """Problems to stderr; warnings are left out by --quiet."""
    for problem in problems:
        if problem.severity == "error" or not QUIET:
            _stderr(problem_lines(problem))


def show_error(error: MLCubeError) -> None:
    _stderr(error_lines(error))


def on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def fail(error: MLCubeError, verb: str, words: Sequence[str]) -> int:
    """Show an error and return its exit code; with --json also one document (RULINGS 28)."""
    _stderr(error_lines(error))
    if DEBUG or "--debug" in words:  # the latter: the words could not be read
        import traceback

        traceback.print_exc()
    if "--json" in words:
        json_result(_error_document(error, verb))
    return error.exit_code


def _error_document(error: MLCubeError, verb: str) -> dict[str, object]:
    from mlcube_cli.report import result_data, validate_data

    problems = getattr(error, "problems", ()) or (as_problem(error),)
    if verb not in ("run", "configure"):
        return validate_data(problems)
    document = result_data(error.status, error.exit_code, None, message=error.message, hint=error.hint)
    return {**document, "problems": validate_data(problems)["problems"]}


def as_problem(error: MLCubeError) -> Problem:
    from mlcube_cli.errors import Location

    return Problem(error.location or Location("the command line"), error.message, error.status, error.hint)


def _stderr(lines: Sequence[str]) -> None:
    if sys.stderr is None:
        return
    colour = on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for line in lines:
        word, colon, rest = line.partition(":")
        code = _COLOURS.get(word) if colour and colon else None
        text = f"\x1b[{code}m{word}:\x1b[0m{rest}" if code else line
        try:
            sys.stderr.write(text + "\n")
        except (OSError, ValueError):
            return
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        return
