"""How a command line that runs elsewhere parts with us: it goes on, nobody knows, it could not run, its outputs stay there."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from mlcube_cli.cli import output
from mlcube_cli.cli.concluding import Result, ended_sentence
from mlcube_cli.cli.following import LET_GO, Following
from mlcube_cli.cli.trips import Trip
from mlcube_cli.errors import DefinitionError, Interrupted, MachineError, MLCubeError, PreparationError, TransferError
from mlcube_cli.supervision.state import CommandState

_ERRORS: Mapping[str, type[MLCubeError]] = {
    "preparation": PreparationError, "environment": MachineError, "invalid": DefinitionError}


def leave(trip: Trip, result: Result, how: str, following: Following) -> None:
    """The run goes on there, and we do not see it any more."""
    again = f"mlcube logs -f {trip.identifier}"
    if how == LET_GO and following.signal is not None:
        goes_on = following.owed or following.left
        result.status, result.exit_code = "running" if goes_on else "cancelled", 128 + following.signal
        if following.owed:
            result.message = f"{trip.name} could not be told to end it: what was started there goes on"
            result.hint = f"mlcube cancel {trip.identifier} ends it, once {trip.name} can be reached"
        elif following.left and following.signal != signal.SIGHUP:
            result.message = f"it goes on, on {trip.name}"
            result.hint = f"{again} shows it, mlcube cancel {trip.identifier} ends it"
        elif not goes_on:
            result.message = f"it is being ended on {trip.name}, and nothing was fetched"
            result.hint = f"mlcube fetch {trip.identifier} brings home what it has written"
        if result.message:
            output.say(f"{result.message}; {result.hint}")
        if result.listed and result.status == "running":
            result.listed.end("running", 0, "")
        result.listed = None  # what becomes of it there, the next one who looks is told
        return
    result.status, result.exit_code = "running", 6
    result.message = f"{trip.name} cannot be reached any more; the run goes on there"
    result.hint = (f"mlcube cancel {trip.identifier} ends it, once there is a connection" if following.signal else
                   f"{again} shows it, mlcube fetch {trip.identifier} brings its outputs home")
    output.show_error(TransferError(result.message, result.hint))


def leave_unknown(trip: Trip, result: Result, number: int | None) -> None:
    """Jobs may be queued, or not: whoever looks next is told."""
    result.status, result.signal = "running", number
    result.exit_code = 128 + number if number else 6
    result.message = f"nobody has heard whether {trip.name} took the jobs"
    result.hint = f"mlcube ps tells, once it can be asked; mlcube cancel {trip.identifier} ends them"
    output.show_error(TransferError(result.message, result.hint))
    if result.listed:
        result.listed.end("running", 0, "")
        result.listed = None


def refuse_unstarted(trip: Trip, end: CommandState) -> None:
    """Raises what kept the tasks from running."""
    if end.status in _ERRORS:
        raise _ERRORS[end.status](f"on {trip.name}: {end.message or 'the run could not begin'}", end.hint)


def stop_fetching(trip: Trip, result: Result, interrupted: Interrupted) -> None:
    """A signal while outputs come home: they are still there."""
    again = f"mlcube fetch {trip.identifier} brings the outputs home"
    output.say(f"not all outputs came from {trip.name}; {again}")
    if result.status == "succeeded":
        result.status, result.exit_code = interrupted.status, interrupted.exit_code
        result.message, result.hint = str(interrupted), again
    result.signal = interrupted.signal_number


def tell_failure(trip: Trip, result: Result, end: CommandState, following: Following) -> None:
    """Say how it ended that did not succeed."""
    code = end.exit_code or 0
    failed = next((entry for entry in result.tasks if entry["status"] != "succeeded"), None)
    why = _said_by(following, end) if trip.queue and following.signal is None else ""
    result.message = (ended_sentence(str(failed["task"]), end.status, code, why) if failed else
                      end.message if following.signal is None else "cancelled before it began")
    result.hint = end.hint if why else ""
    if following.signal != signal.SIGPIPE:  # nobody reads what it prints any more: it ends quietly (RULINGS 26)
        output.say("\nhint: ".join(text for text in (result.message, result.hint) if text))


def _said_by(following: Following, end: CommandState) -> str:
    """Why a batch job ended as nobody here has asked for: what is said of the job, else that it was somebody else."""
    job = following.queued.part.job if following.queued else ""
    named = end.status != "cancelled" or not job or job in end.message
    return end.message if named else f"job {job} was cancelled from outside"
