"""`mlcube sweep status`, `table` and `plot`: what came of a sweep so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.concluding import Result
from mlcube_cli.cli.listed import here
from mlcube_cli.definition import ReadRequest, read_cube
from mlcube_cli.definition.hints import nearest
from mlcube_cli.errors import MLCubeError, UsageError
from mlcube_cli.observe import machine
from mlcube_cli.process import ask
from mlcube_cli.run_index import RunTask, read_entry, read_index
from mlcube_cli.run_states import look_at
from mlcube_cli.sweep.document import FILE, Sweep, find_sweep, member_name, read_sweep
from mlcube_cli.sweep.plot import Labels, Point
from mlcube_cli.sweep.plot import plot as svg
from mlcube_cli.sweep.standing import SUCCEEDED, Standing, code_of, counts_of, counts_text, standings_of
from mlcube_cli.sweep.table import (
    Row,
    Table,
    best_text,
    make_table,
    number_text,
    sorted_rows,
    table_csv,
    table_data,
    table_text,
)
from mlcube_cli.sweep.values import shown

_MOST_TOLD = 20  # members whose failure `status` tells one by one
_FEW = 5  # and the command itself, in the end
_MOST_COLOURS = 12  # values of a name that is chosen for the colours where nobody says which


def find(arguments: Arguments, word: str | None) -> Sweep:
    """The sweep that a word means: its directory; a cube, whose newest one it is; an id that the index knows; one of the
    cube's workspace, the newest without a word. Raises UsageError, DefinitionError."""
    if word and os.path.lexists(os.path.join(word, FILE)):
        return read_sweep(word)
    if word and os.path.exists(word):
        if arguments.mlcube is not None:
            raise UsageError(f"'{word}' is one word too many: the cube is '{arguments.mlcube}'", "name one of them")
        return read_sweep(find_sweep(_workspace(arguments, word), None))
    if word and arguments.mlcube is None and arguments.workspace is None:
        known = dict.fromkeys(entry.sweep for entry in read_index(here()).entries if entry.sweep and word in os.path.basename(
            entry.sweep) and os.path.isdir(entry.sweep))
        exact = [path for path in known if os.path.basename(path) == word] or list(known)
        if len(exact) == 1:
            return read_sweep(exact[0])
    return read_sweep(find_sweep(_workspace(arguments, arguments.mlcube or "."), word))


def _workspace(arguments: Arguments, where: str) -> str:
    """That of the cube. Raises UsageError where there is no cube to ask, and no sweep is named."""
    facts = machine(os.environ)
    request = ReadRequest(where=where, overrides=(), platform=None, workspace=arguments.workspace,
                          run_files=(), environment=facts.environment, cwd=facts.cwd, cache=facts.cache, settings=True)
    try:
        cube = read_cube(request).cube
    except MLCubeError as error:
        raise UsageError(f"whose sweep is meant? {error.message}", "name it by its id or its directory, or its cube: --mlcube "
                         "CUBE") from None
    if cube is None:
        raise UsageError(f"whose sweep is meant? {where} is no cube that can be read",
                         "name the sweep by its id or its directory, or its cube: --mlcube CUBE")
    return cube.workspace


def standings_now(sweep: Sweep, over: str = "") -> tuple[Standing, ...]:
    """How the members stand; a batch system is asked, once for all, about those whose files do not tell. `over`: the attempt
    that starts no more of them."""
    found = standings_of(sweep, over)
    tasks: dict[str, RunTask] = {}
    for attempt in sweep.attempts:
        entry = read_entry(os.path.join(here(), f"{attempt.id}.json")) if attempt.scheduler else None
        if entry is not None:
            entry = entry if entry.over else look_at(here(), [entry], ask)[0].entry
            tasks.update({task.run_id: task for task in entry.tasks})
    return tuple(_as_queued(one, tasks[one.run_id]) if one.run_id in tasks else one for one in found)


def _as_queued(standing: Standing, task: RunTask) -> Standing:
    """The member with what the batch system says of it."""
    if task.over:
        told = task.waiting or ("it never started" if task.exit_code is None else f"exit code {task.exit_code}")
        reason = standing.reason or ("" if task.status == SUCCEEDED else told)
        return replace(standing, status=task.status, exit_code=task.exit_code, reason=reason, gone=False,
                       started=standing.started or task.started, ended=standing.ended or task.ended)
    return standing if standing.over and not standing.gone else replace(standing, status=task.status, gone=False,
                                                                        reason=task.waiting, exit_code=None)


# --- status ----------------------------------------------------------------------------------------------------------


def status(arguments: Arguments, word: str | None) -> int:
    """Always 0, however the members stand."""
    sweep = find(arguments, word)
    standings = standings_now(sweep)
    if arguments.json:
        state, code = code_of(standings)
        output.json_result(status_data(sweep, standings, Result(status=state, exit_code=code)))
        return 0
    lines = [f"sweep {sweep.id}: task '{sweep.task}' of {sweep.cube or sweep.root}, platform {sweep.platform}",
             f"{len(standings)} members: {counts_text(counts_of(standings))}", sweep.directory]
    output.result("\n".join((*lines, *_failures(standings, _MOST_TOLD), "")))
    _hint(sweep, standings)
    return 0


def _failures(standings: tuple[Standing, ...], most: int) -> list[str]:
    bad = [one for one in standings if one.over and one.status not in (SUCCEEDED, "cancelled")]
    bad += [one for one in standings if one.status == "cancelled" and one.run_id and not one.gone]
    lines = [f"  member {one.member.number} ({shown(one.member.typed)}): {one.status.replace('_', ' ')}, {one.reason}"
             for one in bad[:most]]
    return lines + ([f"  and {len(bad) - most} more"] if len(bad) > most else [])


def say_end(sweep: Sweep, standings: tuple[Standing, ...]) -> None:
    """How it went, on stderr, and what to type next."""
    output.say(f"sweep {sweep.id}: {counts_text(counts_of(standings))}")
    for line in _failures(standings, _FEW):
        output.say(line.strip())
    _hint(sweep, standings)


def _hint(sweep: Sweep, standings: tuple[Standing, ...]) -> None:
    bad = [one for one in standings if one.over and one.status != SUCCEEDED]
    if any(one.status not in ("cancelled", "lost") for one in bad):
        output.say(f"mlcube sweep retry --failed {sweep.id} runs them again")
    elif bad:
        output.say(f"mlcube sweep retry {sweep.id} goes on with what is missing")
    elif all(one.over for one in standings):
        output.say(f"mlcube sweep table {sweep.id} shows what came of them")


def status_data(sweep: Sweep, standings: tuple[Standing, ...], result: Result) -> dict[str, object]:
    """The document mlcube.sweep-status.v1."""
    return {
        "schema": "mlcube.sweep-status.v1", "sweep_id": sweep.id, "directory": sweep.directory, "task": sweep.task,
        "cube": {"name": sweep.cube, "root": sweep.root}, "platform": sweep.platform, "status": result.status,
        "exit_code": result.exit_code, "message": result.message, "hint": result.hint, "counts": dict(counts_of(standings)),
        "members": [{
            "number": one.member.number, "directory": os.path.join(sweep.directory, member_name(one.member.number,
                                                                                                len(sweep.members))),
            "values": {name: value.data for name, value in one.member.values.items()}, "status": one.status,
            "exit_code": one.exit_code, "seconds": None if one.seconds is None else round(one.seconds, 3),
            "run_id": one.run_id or None, "reason": one.reason,
        } for one in standings],
    }


# --- table and plot --------------------------------------------------------------------------------------------------


def _table(arguments: Arguments, word: str | None) -> Table:
    if arguments.largest and arguments.smallest:
        raise UsageError("--max and --min: only one of them can be the best", "leave one of them out")
    sweep = find(arguments, word)
    found = make_table(sweep, standings_now(sweep), arguments.metric,
                       True if arguments.largest else False if arguments.smallest else None)
    for row in found.rows:
        if row.trouble:
            output.warn(f"member {row.number}: {row.trouble}")
    return found


def table(arguments: Arguments, word: str | None) -> int:
    """The members' values and metrics, as text, CSV or JSON."""
    if arguments.csv and arguments.json:
        raise UsageError("--csv and --json: only one of them can be printed", "leave one of them out")
    found = _table(arguments, word)
    if (arguments.sort or arguments.largest or arguments.smallest) and not found.metric:
        raise UsageError("by which metric?", f"--metric with one of: {', '.join(found.metrics) or 'none, so far'}")
    rows = sorted_rows(found) if arguments.sort else found.rows
    if arguments.json:
        output.json_result(table_data(found, rows))
    else:
        output.result((table_csv if arguments.csv else table_text)(found, rows))
    return 0


def plot(arguments: Arguments, word: str | None) -> int:
    """A metric against a value, as SVG, to stdout or into a file."""
    if arguments.json:
        raise UsageError("--json: a plot is SVG", "mlcube sweep table --json has the numbers")
    found = _table(arguments, word)
    if not found.metric:
        raise UsageError("which metric is plotted?", f"--metric with one of: {', '.join(found.metrics) or 'none, so far'}")
    against = _column(found, arguments.against, "--against")
    by = _column(found, arguments.by, "--by") if arguments.by else _colours(found, against)
    points = [Point(x, row.metrics[found.metric], _group(row, by), _tooltip(found, row),
                    f"member {row.number}" if row is found.best else "")
              for row in found.rows if found.metric in row.metrics for x in (_place(row, against),) if x is not None]
    if not points:
        raise UsageError(f"no member has both '{found.metric}' and '{against}' so far",
                         "mlcube sweep status shows how they stand")
    text = svg(points, Labels(f"{found.metric} against {against}: {found.sweep.task}, sweep {found.sweep.id}", against,
                              found.metric, by))
    if arguments.output is None:
        output.result(text)
        return 0
    from mlcube_cli.atomic import write_text

    try:
        write_text(arguments.output, text)
    except OSError as error:
        raise UsageError(f"-o {arguments.output}: {error.strerror or error}", "name a file that you can write") from None
    output.say(f"{arguments.output}: {len(points)} members" + (f"; {best_text(found)}" if found.best else ""))
    return 0


def _column(found: Table, name: str | None, flag: str) -> str:
    """A value or a metric by its name; the only one that varies where none is given. Raises UsageError."""
    varying = [one for one in found.names if len({row.standing.member.typed.get(one) for row in found.rows}) > 1]
    if name is None and len(varying) == 1:
        return varying[0]
    known = (*found.names, *found.metrics)
    if name in known:
        return str(name)
    guess = nearest(name, known) if name else None
    what = f"there is no '{name}'" if name else f"{flag}: against which value?"
    raise UsageError(what, f"did you mean '{guess}'?" if guess else f"{flag} with one of: {', '.join(known)}")


def _colours(found: Table, against: str) -> str:
    """The name that the colours stand for: of those that vary, the one with the fewest values; empty: none."""
    counts = {name: len({row.standing.member.typed.get(name) for row in found.rows}) for name in found.names if name != against}
    few = [name for name, count in counts.items() if 1 < count <= _MOST_COLOURS]
    return min(few, key=lambda name: counts[name]) if few else ""


def _place(row: Row, name: str) -> float | str | None:
    value = row.standing.member.values.get(name)
    if value is None:
        return row.metrics.get(name)
    if isinstance(value.data, (int, float)) and not isinstance(value.data, bool):
        return value.data
    return value.text


def _group(row: Row, name: str) -> str:
    value = row.standing.member.values.get(name)
    if value is not None:
        return value.text
    return number_text(row.metrics[name]) if name in row.metrics else ""


def _tooltip(found: Table, row: Row) -> str:
    values: Mapping[str, str] = row.standing.member.typed
    return f"member {row.number}: {shown(values)}; {found.metric} {number_text(row.metrics[found.metric])}"
