"""`mlcube logs RUN`: what a run's tasks printed, and with -f what they go on to print."""

from __future__ import annotations

import os

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.ending import one_word
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.watching import Watching, copy_logs, to_our_streams
from mlcube_cli.errors import Interrupted
from mlcube_cli.process import Session, die_by
from mlcube_cli.run_index import Entry, RunTask, find_runs, read_index
from mlcube_cli.run_log import log_paths, read_from

_OWN_ENDS = ("queued", "running", "succeeded", "failed", "cancelled", "timed_out")


def logs(arguments: Arguments) -> int:
    """stdout to stdout, stderr to stderr; 0, or 4 and 6 where its place does not answer. Ctrl-C does nothing to the run."""
    entry, tasks = find_runs(read_index(here()).entries, one_word(arguments.words, "logs"))
    wanted = frozenset(task.run_id for task in tasks)
    with Session(tell=output.say) as session:
        watching = Watching(session, entry, wanted, to_our_streams)
        try:
            if arguments.follow and any(not task.over for task in tasks):
                watching.to_the_end()
            else:
                _as_it_is(watching, tasks)
        except Interrupted:
            pass
    if session.signal is not None:
        die_by(session.signal)
    _tell_what_else(watching.entry)
    return 0


def _as_it_is(watching: Watching, tasks: tuple[RunTask, ...]) -> None:
    """From the files here; from its place where the run is on another machine, and its logs did not come home so far."""
    entry = watching.entry
    elsewhere = entry.supervised is not None and bool(entry.supervised.place)
    if elsewhere and not entry.settled and not entry.cleared:
        watching.now()
        return
    if entry.supervised is not None and not elsewhere:
        wanted = {task.run_id for task in tasks}
        for part in entry.supervised.all_parts:
            if not part.runs or wanted.intersection(part.runs):
                to_our_streams(2, _preparation(part.directory))
    for task in tasks:
        if not any(os.path.exists(path) for path in log_paths(task.directory).values()) and task.started is not None:
            output.say(f"the logs of task '{task.task}' are not there (any more): {task.directory}")
        copy_logs(task, {}, to_our_streams)


def _preparation(directory: str) -> bytes:
    data, offset = b"", 0
    while more := read_from(os.path.join(directory, "prepare.log"), offset):
        data, offset = data + more, offset + len(more)
    return data


def _tell_what_else(entry: Entry) -> None:
    """Why a task never printed anything, or no more: what its own log does not say."""
    if entry.message and any(task.status not in _OWN_ENDS for task in entry.tasks):
        output.say(entry.message)
