"""`mlcube ps`: what runs, and what ran lately, wherever it was started."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlcube_cli.cache.pruning import age_text
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import here
from mlcube_cli.errors import UsageError
from mlcube_cli.process import ask
from mlcube_cli.records import rfc3339
from mlcube_cli.report import on_one_line
from mlcube_cli.run_index import Entry, Index, RunTask, read_index
from mlcube_cli.run_log import log_paths
from mlcube_cli.run_states import Standing, is_attended, look_at

_LATELY = 10  # command lines that have ended


def ps(arguments: Arguments) -> int:
    """Always 0: a place that does not answer is said on stderr, and its runs are shown as they were last seen."""
    if arguments.words:
        raise UsageError(f"mlcube ps takes no words, but was given '{arguments.words[0]}'",
                         f"mlcube logs {arguments.words[0]} shows one run")
    index = read_index(here())
    standings = look_at(here(), index.entries if arguments.all else _recent(index), ask)
    _warn(index, standings)
    if arguments.json:
        output.json_result({"schema": "mlcube.ps.v1", "runs": [
            _data(standing, task) for standing in standings for task in standing.entry.tasks]})
    else:
        _print(standings)
    return 0


def _recent(index: Index) -> list[Entry]:
    """Those that go on, as far as is known, and the last ones that ended."""
    over = [entry.id for entry in index.entries if entry.over]
    shown = set(over[:_LATELY])
    return [entry for entry in index.entries if not entry.over or entry.id in shown]


def _warn(index: Index, standings: Sequence[Standing]) -> None:
    for path in index.broken:
        output.warn(f"{path} cannot be read as a run; mlcube reap removes it")
    for name, trouble in dict.fromkeys((_place(one.entry), one.trouble) for one in standings if one.trouble):
        output.warn(f"{name or 'this machine'} says nothing ({trouble}): its runs are shown as they were last seen")


def _print(standings: Sequence[Standing]) -> None:
    now = time.time()
    rows: list[tuple[str, ...]] = [("RUN", "TASK", "CUBE", "PLATFORM", "STATUS", "STARTED", "TOOK")]
    rows += [_row(standing, task, now) for standing in standings for task in standing.entry.tasks]
    if len(rows) == 1:
        output.say("nothing was started so far")
        return
    shown = [tuple(on_one_line(word) for word in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    output.result("".join("  ".join(f"{word:<{width}}" for word, width in zip(row, widths)).rstrip() + "\n" for row in shown))


def _row(standing: Standing, task: RunTask, now: float) -> tuple[str, ...]:
    entry = standing.entry
    code = f" ({task.exit_code})" if task.status == "failed" and task.exit_code is not None else ""
    status = f"{task.status}{code}" + ("?" if standing.trouble else "")
    began = f"{age_text(now - (task.started or entry.started))} ago"
    seconds = seconds_of(task, now)
    return (task.run_id, task.task, entry.cube, entry.platform, status, began, "-" if seconds is None else _length(seconds))


def seconds_of(task: RunTask, now: float) -> float | None:
    """How long the task took, or has taken so far; None where that is not known."""
    if task.started is None or (task.over and task.ended is None):
        return None
    return max(0.0, (task.ended or now) - task.started)


def _length(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 60 else age_text(seconds)


def _place(entry: Entry) -> str:
    return entry.supervised.place if entry.supervised else ""


def _data(standing: Standing, task: RunTask) -> dict[str, object]:
    """A run of the document mlcube.ps.v1."""
    entry, seconds = standing.entry, seconds_of(task, time.time())
    return {
        "run_id": task.run_id, "command_id": entry.id, "task": task.task, "cube": {"name": entry.cube, "root": entry.root},
        "workspace": entry.workspace, "platform": {"name": entry.platform, "runner": entry.runner}, "place": _place(entry),
        "status": task.status, "exit_code": task.exit_code,
        "started": rfc3339(task.started) if task.started else None, "ended": rfc3339(task.ended) if task.ended else None,
        "seconds": None if seconds is None else round(seconds, 3), "message": entry.message,
        "attended": is_attended(entry) and not entry.over, "stale": standing.trouble, "directory": task.directory,
        "logs": log_paths(task.directory),
    }
