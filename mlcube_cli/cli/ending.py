"""`mlcube wait`, `cancel` and `fetch`: until a run ends, to make it end, and what it made."""

from __future__ import annotations

import os
import signal
import time

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.ps import seconds_of
from mlcube_cli.cli.watching import NO_PREPARATION, Watching
from mlcube_cli.errors import Interrupted, MachineError, UsageError
from mlcube_cli.locks import myself
from mlcube_cli.place import new_nonce
from mlcube_cli.process import Session, ask, die_by
from mlcube_cli.report import result_data
from mlcube_cli.run_index import Entry, RunTask, find_runs, read_index
from mlcube_cli.run_log import opened_logs
from mlcube_cli.run_states import ending, is_attended, look_at, place_of, settle
from mlcube_cli.streams import write_all
from mlcube_cli.supervision.requests import answer_of, remove
from mlcube_cli.sweep.standing import count, counts_text

_CANCELLED = 128 + signal.SIGTERM


def one_word(words: list[str], verb: str) -> str | None:
    """The run that the words name; None: the newest. Raises UsageError for more than one."""
    if len(words) > 1:
        raise UsageError(f"mlcube {verb} takes one run, but was given '{words[1]}', too", f"mlcube {verb} {words[0]}")
    return words[0] if words else None


# --- wait ----------------------------------------------------------------------------------------------------------


def wait(arguments: Arguments) -> int:
    """The task's exit code; of several the first one's that is not 0. 4: lost. Ctrl-C does nothing to the run."""
    entry, tasks = find_runs(read_index(here()).entries, one_word(arguments.words, "wait"))
    entry = _watched(entry, tasks)
    ended = _now(entry, tasks)
    code = code_of(ended, entry)
    if arguments.json:
        output.json_result(result_data(_status(ended, entry), code, entry.platform, [_data(task) for task in ended],
                                       entry.message))
    else:
        for line in _told(ended, entry):
            output.say(line)
        if entry.message and code:
            output.say(entry.message)
    return code


def _told(tasks: tuple[RunTask, ...], entry: Entry) -> list[str]:
    """How they ended: each of them, but a sweep has too many for that."""
    if entry.sweep and len(tasks) > 1:
        return [f"sweep {os.path.basename(entry.sweep)}: {counts_text(count(task.status for task in tasks))}"]
    return [f"task '{task.task}' ({task.run_id}): {task.status}" for task in tasks]


def _watched(entry: Entry, tasks: tuple[RunTask, ...]) -> Entry:
    """The entry once these have ended. We die by a signal that comes meanwhile."""
    with Session(tell=output.say) as session:
        try:
            return Watching(session, entry, frozenset(task.run_id for task in tasks)).to_the_end()
        except Interrupted:
            pass
    die_by(session.signal or signal.SIGINT)


def _now(entry: Entry, tasks: tuple[RunTask, ...]) -> tuple[RunTask, ...]:
    wanted = {task.run_id for task in tasks}
    return tuple(task for task in entry.tasks if task.run_id in wanted)


def code_of(tasks: tuple[RunTask, ...], entry: Entry) -> int:
    """The exit code that these ended tasks have together. One that never began has that of what kept it from it."""
    task = _first_bad(tasks, entry)
    if task is None:
        return 0
    if task.exit_code is not None:
        return task.exit_code
    return next((other.exit_code for other in entry.tasks if other.exit_code), _CANCELLED)


def _first_bad(tasks: tuple[RunTask, ...], entry: Entry) -> RunTask | None:
    """The first that did not succeed; of a sweep's, one that ended by itself comes before one that was cancelled."""
    bad = [task for task in tasks if task.status != "succeeded"]
    own = [task for task in bad if task.status != "cancelled"] if entry.sweep else bad
    return next(iter(own or bad), None)


def _status(tasks: tuple[RunTask, ...], entry: Entry) -> str:
    task = _first_bad(tasks, entry)
    return task.status if task else "succeeded"


def _data(task: RunTask) -> dict[str, object]:
    seconds = seconds_of(task, time.time())
    record = os.path.join(task.directory, "record.json")
    return {"task": task.task, "status": task.status, "exit_code": task.exit_code,
            "seconds": None if seconds is None else round(seconds, 3), "run_id": task.run_id,
            "record": record if os.path.exists(record) else None, "image": None}


# --- cancel --------------------------------------------------------------------------------------------------------


def cancel(arguments: Arguments) -> int:
    """0 once it has ended, by this or before; 4 where it cannot be ended from here. All tasks of its command line end."""
    entries = read_index(here()).entries
    word = one_word(arguments.words, "cancel")
    going_on = [entry for entry in entries if not entry.over]
    if word is None and entries and not going_on:
        raise UsageError("nothing is running", "mlcube ps shows what ran lately; mlcube cancel RUN ends what a lost run left")
    entry, _ = find_runs(entries if word else going_on, word)
    entry = look_at(here(), [_connected(entry)], ask)[0].entry
    if entry.over and all(task.status != "lost" for task in entry.tasks):
        output.say(f"run {entry.id} has ended already: {', '.join(task.status for task in entry.tasks)}")
        return 0
    if is_attended(entry):
        _end_owner(entry, arguments.now)
    elif entry.supervised is not None:
        _end_supervised(entry, arguments.now)
    else:
        from mlcube_cli.cli.reap import end_rest

        output.say(f"whoever ran {entry.id} is gone; what is left of it is ended")
        return end_rest(entry)
    if arguments.no_wait:
        return 0
    ended = _watched(entry, entry.tasks)
    output.say(f"run {ended.id}: {', '.join(task.status for task in ended.tasks)}")
    return 0


def _end_owner(entry: Entry, at_once: bool) -> None:
    """Ask the process that attends to it, here, to end it. Raises MachineError for another machine's."""
    owner, me = entry.owner, myself()
    assert owner is not None
    if owner.host != me.host or owner.boot != me.boot or owner.space != me.space:
        raise MachineError(f"run {entry.id} belongs to process {owner.pid} on {owner.host}, which cannot be reached from here",
                           f"on {owner.host}: kill {owner.pid}")
    try:
        os.kill(owner.pid, signal.SIGTERM)
        if at_once:
            time.sleep(0.2)  # two signals that come at once are one
            os.kill(owner.pid, signal.SIGTERM)
    except ProcessLookupError:  # it has just ended
        pass
    except PermissionError as error:
        raise MachineError(f"run {entry.id} belongs to process {owner.pid}, which is another user's",
                           f"kill {owner.pid}, as that user") from error


def _end_supervised(entry: Entry, at_once: bool) -> None:
    """Raises MachineError."""
    assert entry.supervised is not None
    nonce, name = new_nonce(), place_of(entry).name or "this machine"
    said = ask(place_of(entry).command(ending(entry.supervised, at_once, nonce)))
    answer = answer_of(said.stdout, nonce)
    if answer is None:
        raise MachineError(f"{name} cannot be asked to end run {entry.id}: {said.last_line(f'exit code {said.exit_code}')}",
                           "the run goes on there; try it again")
    if answer == "foreign":
        raise MachineError(f"run {entry.id} is supervised on another machine than {name}, which shares its disk",
                           "log in there, and cancel it there")


# --- fetch ---------------------------------------------------------------------------------------------------------


def fetch(arguments: Arguments) -> int:
    """Outputs of a run on another machine, as they are now: once, again, or in the middle of it. 0, or 6."""
    entry, _ = find_runs(read_index(here()).entries, one_word(arguments.words, "fetch"))
    if entry.fetch is None:
        output.say(f"the outputs of run {entry.id} are on this machine: there is nothing to fetch")
        return 0
    from mlcube_cli.cli.homeward import bring_home

    entry = look_at(here(), [_connected(entry)], ask)[0].entry  # what ends meanwhile is completed by the next one
    error = bring_home(entry)
    if error is not None:
        raise error
    if entry.over and not entry.settled:
        _complete(entry)
    elif entry.over:  # its outputs could not come home in the end: what is ours there stayed with them
        _tidy(entry)
    return 0


def _connected(entry: Entry) -> Entry:
    """With an open way to where it is, where that is another machine and nobody else attends to it. Raises MachineError."""
    if entry.fetch is None or entry.over or is_attended(entry):
        return entry
    from mlcube_cli.cli.homeward import connected

    with Session(tell=output.say) as session:
        return connected(entry, session)


def _complete(entry: Entry) -> None:
    """All is here now: the logs too, then the records; then what is ours there can go."""
    assert entry.supervised is not None
    for task in entry.tasks:
        if task.started is not None:
            bring_logs(entry, task)
    if settle(here(), entry, fetched=True).settled:
        _tidy(entry)


def _tidy(entry: Entry) -> None:
    if entry.supervised is not None:
        ask(place_of(entry).command(remove(entry.supervised.directories, new_nonce())))


def bring_logs(entry: Entry, task: RunTask) -> None:
    """What the task's logs here lack of those where it is supervised: what was seen of it here is in them already.

    Raises MLCubeError, OSError.
    """
    with Session(tell=output.say) as session, opened_logs(task.directory, anew=False) as logs:
        seen = {f"{kind}:{task.run_id}": os.fstat(log).st_size for kind, log in zip("oe", logs)}
        wanted = frozenset((task.run_id,))
        Watching(session, entry, wanted, lambda descriptor, data: write_all(logs[descriptor - 1], data),
                 {**seen, **NO_PREPARATION}).now()
