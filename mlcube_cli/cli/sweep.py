"""`mlcube sweep`: one task, many times, with values that differ; and what its further words ask of a sweep that is there."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments, find_verb
from mlcube_cli.cli.concluding import Result
from mlcube_cli.cli.rerunning import again, asked
from mlcube_cli.cli.running import show
from mlcube_cli.cli.sweep_deciding import Decided, decide
from mlcube_cli.cli.sweep_reading import find, plot, say_end, standings_now, status, status_data, table
from mlcube_cli.cli.words import parse_duration
from mlcube_cli.errors import MachineError, MLCubeError, UsageError
from mlcube_cli.locks import myself
from mlcube_cli.process import die_by
from mlcube_cli.records import run_directory
from mlcube_cli.sweep.document import Attempt, Member, Sweep, write_sweep
from mlcube_cli.sweep.standing import UNFINISHED, code_of
from mlcube_cli.sweep.values import members_of, parse_set, parse_table

_ALWAYS = ("mlcube", "workspace", "json", "quiet", "debug", "log_level")
_ACTIONS = {
    "status": (status, ()),
    "table": (table, ("csv", "metric", "largest", "smallest", "sort")),
    "plot": (plot, ("metric", "against", "by", "largest", "smallest", "output")),
}
_OF_RETRY = ("failed", "jobs", "fail_fast", "detach", "on_interrupt", "dry_run", "overrides")
_OF_OTHERS = ("failed", "csv", "metric", "against", "by", "largest", "smallest", "sort", "output")


def sweep(arguments: Arguments) -> int:
    """0 when all members succeeded; else the exit code of the first, by number, that did not. Or CONTRACT's."""
    action = arguments.words[0] if arguments.words else ""
    if action in _ACTIONS:
        function, options = _ACTIONS[action]
        _refuse_others(arguments, action, (*_ALWAYS, *options))
        return function(arguments, _one(arguments, action))
    if action == "retry":
        _refuse_others(arguments, action, (*_ALWAYS, *_OF_RETRY))
        return _retry(arguments, _one(arguments, action))
    _refuse_others(arguments, "", tuple(option.attribute for option in find_verb("sweep").options
                                        if option.attribute not in _OF_OTHERS))
    return _begin(arguments)


def _one(arguments: Arguments, action: str) -> str | None:
    """The sweep that is named behind the action. Raises UsageError for more than one."""
    if len(arguments.words) > 2:
        raise UsageError(f"mlcube sweep {action} takes one sweep, but was given '{arguments.words[2]}', too",
                         f"mlcube sweep {action} {arguments.words[1]}")
    return arguments.words[1] if len(arguments.words) == 2 else None


def _refuse_others(arguments: Arguments, action: str, known: Sequence[str]) -> None:
    """Raises UsageError for an option that means nothing here."""
    for option in find_verb("sweep").options:
        value = getattr(arguments, option.attribute)
        if option.attribute not in known and value not in (None, False, []) and value != option.setting("default"):
            where = f"mlcube sweep {action}" if action else "a new sweep"
            raise UsageError(f"{option.flags[-1]} means nothing for {where}", "mlcube sweep --help says what it goes with"
                             + ("" if action else ": status, table, plot or retry"))


# --- a new one -------------------------------------------------------------------------------------------------------


def _begin(arguments: Arguments) -> int:
    members = _members(arguments)
    _read_times(arguments)
    limit = _limit(arguments)
    return _carry_out(arguments, decide(arguments, members), limit)


def _members(arguments: Arguments) -> tuple[Member, ...]:
    rows = parse_table(_table_text(arguments.table), arguments.table) if arguments.table else ()
    found = members_of([parse_set(text) for text in arguments.sets], rows)
    return tuple(Member(number, values) for number, values in enumerate(found, 1))


def _table_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f"--from: {path} cannot be read: {error.strerror or error}", "name a CSV file") from None


def _read_times(arguments: Arguments) -> None:
    arguments.timeout = parse_duration(arguments.timeout, "--timeout") if arguments.timeout else None
    arguments.grace = parse_duration(arguments.grace, "--grace")
    arguments.interactive = False
    arguments.doing = "sweeping on"


def _limit(arguments: Arguments) -> int | None:
    """What -j says. Raises UsageError."""
    if arguments.jobs is None:
        return None
    if not arguments.jobs.isdecimal() or int(arguments.jobs) < 1:
        raise UsageError(f"-j {arguments.jobs}: this is no number of members", "-j 4 runs four at once")
    return int(arguments.jobs)


# --- again -----------------------------------------------------------------------------------------------------------


def _retry(arguments: Arguments, word: str | None) -> int:
    """Run those members again that did not come to an end of their own; with --failed those, too, that failed."""
    limit = _limit(arguments)
    before = find(arguments, word)
    standings = standings_now(before)
    wanted = [one.member.number for one in standings
              if one.over and (one.status in UNFINISHED or (arguments.failed and one.status != "succeeded"))]
    if not wanted:
        failed = sum(1 for one in standings if one.over and one.status != "succeeded")
        going_on = sum(1 for one in standings if not one.over)
        output.say(f"sweep {before.id}: there is nothing to run again"
                   + (f": {going_on} of its members still run, or wait for it" if going_on else "")
                   + (f"; --failed runs the {failed} that failed" if failed else ""))
        return 0
    cube = arguments.mlcube or str(before.line.get("cube"))
    try:
        os.chdir(str(before.line.get("cwd")))
    except OSError:
        output.warn(f"this sweep was started in {before.line.get('cwd')}, which is not there any more: names relative to it "
                    "have another meaning")
    line = again(before.line, cube, arguments.overrides)
    if line.workspace is None and not arguments.mlcube:
        line.workspace = before.workspace if before.line.get("workspace") else None
    for name in ("json", "dry_run", "quiet", "debug", "log_level", "detach", "on_interrupt", "fail_fast"):
        setattr(line, name, getattr(arguments, name))
    _read_times(line)
    output.say(f"sweep {before.id}: {len(wanted)} of {len(before.members)} members again")
    return _carry_out(line, decide(line, before.members, wanted, before), limit)


# --- carrying it out -------------------------------------------------------------------------------------------------


def _carry_out(arguments: Arguments, decided: Decided, limit: int | None) -> int:
    queue = decided.prepared.queue
    queued = queue is not None and not queue.allocated
    if arguments.detach and not queued:
        raise UsageError(f"--detach: on platform '{decided.prepared.platform_name}' this very process starts one member after "
                         "the other", "leave it out, or put the command line into the background (nohup ... &)")
    if queued:
        from mlcube_cli.cli.sweep_queued import queue_sweep

        return queue_sweep(arguments, decided, limit, lambda attempt: _with_attempt(arguments, decided, attempt))
    if arguments.dry_run:
        return show(decided.as_plan(), arguments.json)
    from mlcube_cli.cli.sweep_running import run_here

    job = decided.prepared.jobs[0]
    attempt = Attempt(decided.identifier, run_directory(job.workspace, job.command_id), time.time(),
                      tuple(member.number for member in decided.members), limit or 1, replace(myself(), token=""))
    decided = _with_attempt(arguments, decided, attempt)
    for note in decided.preparation.notes:
        output.warn(note)
    result = Result()
    try:
        run_here(arguments, decided, attempt, result, lambda: keep(decided.sweep))
    except MLCubeError as error:
        result.fail(error)
    return conclude(arguments, decided.sweep, result)


def _with_attempt(arguments: Arguments, decided: Decided, attempt: Attempt) -> Decided:
    """The sweep with what was asked, and this attempt as its newest."""
    line = {**asked(arguments, decided.prepared, 0, decided.plans[0]), "values": dict(decided.shared)}
    if decided.sweep.attempts:  # it is the first one's that stays
        from mlcube_cli.sweep.document import read_sweep

        line = dict(read_sweep(decided.sweep.directory).line)
    return replace(decided, sweep=replace(decided.sweep, attempts=(*decided.sweep.attempts, attempt), line=line))


def keep(document: Sweep) -> None:
    """Write the sweep's document. Raises MachineError: without it nobody would find the members again."""
    try:
        write_sweep(document)
    except OSError as error:
        raise MachineError(f"the sweep cannot be remembered: {document.directory}: {error.strerror or error}",
                           "the workspace must be a place that you can write to: --workspace DIR") from error


def conclude(arguments: Arguments, document: Sweep, result: Result) -> int:
    """Say how the members stand, and return the exit code; or die by the signal that ended it."""
    own = document.attempts[-1] if document.attempts else None
    standings = standings_now(document, "" if own is None or own.scheduler else own.id)
    if result.status == "succeeded":
        result.status, result.exit_code = code_of(standings)
    if arguments.json:
        output.json_result(status_data(document, standings, result))
    elif os.path.exists(os.path.join(document.directory, "sweep.json")):
        output.result(f"{document.id}\n")
        say_end(document, standings)
    if result.signal is not None:
        die_by(result.signal)
    return result.exit_code
