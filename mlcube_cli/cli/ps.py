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
from mlcube_cli.sweep.standing import count, counts_text

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
            {**_data(standing, task), "sweep": _sweep_data(standing.entry)}
            for standing in standings for task in _lines_of(standing.entry)]})
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
    rows: list[tuple[str, ...]] = [("RUN", "TASK", "CUBE", "PLATFORM", "STATUS", "STARTED", "TOOK", "JOB", "NODE")]
    rows += [_row(standing, task, now) for standing in standings for task in _lines_of(standing.entry)]
    if len(rows) == 1:
        output.say("nothing was started so far")
        return
    if not any(row[-2] for row in rows[1:]):  # only runs of a batch system have these
        rows = [row[:-2] for row in rows]
    shown = [tuple(on_one_line(word) for word in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    output.result("".join("  ".join(f"{word:<{width}}" for word, width in zip(row, widths)).rstrip() + "\n" for row in shown))


def _lines_of(entry: Entry) -> tuple[RunTask, ...]:
    """What has a line of its own: each task; a sweep as a whole, under the id of its command line."""
    if not entry.sweep:
        return entry.tasks
    states = [task.status for task in entry.tasks]
    first = next((task for task in entry.tasks if task.status not in ("succeeded", "cancelled")), None) or next(
        (task for task in entry.tasks if task.status != "succeeded"), entry.tasks[0])
    status = "running" if "running" in states else "queued" if "queued" in states else first.status
    began = [task.started for task in entry.tasks if task.started is not None]
    ended = [task.ended for task in entry.tasks if task.ended is not None]
    return (RunTask(first.task, entry.id, entry.sweep, status, first.exit_code if status == first.status else None,
                    min(began, default=None), max(ended, default=None) if entry.over else None),)


def _counts(entry: Entry) -> dict[str, int]:
    return dict(count(task.status for task in entry.tasks))


def _sweep_data(entry: Entry) -> dict[str, object] | None:
    """What a line of the document mlcube.ps.v1 says of a sweep; None for a run."""
    return {"directory": entry.sweep, "members": len(entry.tasks), "counts": _counts(entry)} if entry.sweep else None


def _row(standing: Standing, task: RunTask, now: float) -> tuple[str, ...]:
    entry = standing.entry
    code = f" ({task.exit_code})" if task.status == "failed" and task.exit_code is not None else ""
    status = f"{task.status}{code}" + (f": {task.waiting}" if task.waiting and not task.over else "")
    if entry.sweep:
        status = counts_text(_counts(entry))
    status += "?" if standing.trouble else ""
    began = f"{age_text(now - (task.started or entry.started))} ago"
    seconds = seconds_of(task, now)
    name = f"{task.task} x {len(entry.tasks)}" if entry.sweep else task.task
    took = "-" if seconds is None else _length(seconds)
    return (task.run_id, name, entry.cube, entry.platform, status, began, took, _job(entry, task), task.node)


def seconds_of(task: RunTask, now: float) -> float | None:
    """How long the task took, or has taken so far; None where that is not known."""
    if task.started is None or (task.over and task.ended is None):
        return None
    return max(0.0, (task.ended or now) - task.started)


def _length(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 60 else age_text(seconds)


def _job(entry: Entry, task: RunTask) -> str:
    """The batch system's own id; empty where there is none. Of a sweep, the ids of its arrays."""
    if entry.supervised is None or not entry.sweep:
        return entry.supervised.job_of(task.run_id) if entry.supervised else ""
    return ",".join(dict.fromkeys(part.job.partition("_")[0] for part in entry.supervised.parts))


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
        "logs": log_paths(task.directory), "job": _job(entry, task) or None, "node": task.node or None,
        "waiting": task.waiting or None,
    }
