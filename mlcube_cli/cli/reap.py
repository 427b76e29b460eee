"""`mlcube reap`: containers, processes and directories of ours that nobody owns any more; listed, then removed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import here
from mlcube_cli.errors import MachineError, MLCubeError, UsageError
from mlcube_cli.place import new_nonce
from mlcube_cli.process import ask
from mlcube_cli.remains import DIRECTORY, ENTRY, Remnant, clear, find_remains, remains_of, remove_remnant
from mlcube_cli.report import on_one_line
from mlcube_cli.run_index import Entry, read_index
from mlcube_cli.run_states import ending, look_at, place_of


def reap(arguments: Arguments) -> int:
    """0; 4 where something could not be removed. On a terminal it asks first; elsewhere it wants --yes."""
    if arguments.words:
        raise UsageError(f"mlcube reap takes no words, but was given '{arguments.words[0]}'",
                         "mlcube cancel ends one run; mlcube reap removes what no run owns any more")
    index = read_index(here())
    standings = look_at(here(), index.entries, ask)
    for standing in standings:
        if standing.trouble:
            output.warn(f"run {standing.entry.id} is left alone: its place says nothing ({standing.trouble})")
    found = find_remains(index, standings, ask)
    if not arguments.json:
        output.result("".join(_line(remnant) for remnant in found))
        if not found:
            output.say("nothing is left behind")
    if found and not arguments.dry_run and not (arguments.yes or _agreed(arguments)):
        return 0
    results = {} if arguments.dry_run else _remove(found, {standing.entry.id: standing.entry for standing in standings})
    if arguments.json:
        output.json_result(_document(found, results, arguments.dry_run))
    return _tell(results)


def end_rest(entry: Entry) -> int:
    """End and remove what this one run has left; 0, or 4 where something is still there."""
    remnants = [remnant for remnant in remains_of(entry, ask) if remnant.kind != ENTRY]
    return _tell(clear(here(), entry, remnants, ask))


def _line(remnant: Remnant) -> str:
    where = f" on {remnant.place}" if remnant.place else ""
    return on_one_line(f"{remnant.kind}{where}: {remnant.name} (run {remnant.run})") + "\n"


def _agreed(arguments: Arguments) -> bool:
    """Raises UsageError where nobody can be asked."""
    if arguments.json or not (output.on_terminal() and os.isatty(0)):
        raise UsageError("there is nobody to ask whether to remove these", "--yes removes them, --dry-run only lists them")
    sys.stderr.write("remove all of these? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(found: Sequence[Remnant], entries: dict[str, Entry]) -> dict[Remnant, str]:
    results: dict[Remnant, str] = {}
    for entry in entries.values():
        own = {entry.id, *(task.run_id for task in entry.tasks)}
        mine = [remnant for remnant in found if remnant.run in own]
        obstacle = _save_logs(entry) if any(remnant.kind == DIRECTORY and remnant.place for remnant in mine) else ""
        if obstacle:
            results.update({remnant: obstacle for remnant in mine if remnant.kind == DIRECTORY})
            mine = [remnant for remnant in mine if remnant.kind != DIRECTORY]
        if mine:
            results.update(clear(here(), entry, mine, ask))
    results.update({remnant: remove_remnant(remnant, None, here(), ask) for remnant in found if remnant not in results})
    return results


def _save_logs(entry: Entry) -> str:
    """Before the directory of a lost run goes, on another machine: what still runs there is ended, and what it printed is
    brought here. Empty, or why that could not be done."""
    from mlcube_cli.cli.ending import bring_logs

    assert entry.supervised is not None
    ask(place_of(entry).command(ending(entry.supervised, True, new_nonce())))
    try:
        for task in entry.tasks:
            if task.started is not None:
                bring_logs(entry, task)
    except (MLCubeError, OSError) as error:
        return f"its logs could not be brought here: {on_one_line(str(error))}"
    return ""


def _tell(results: dict[Remnant, str]) -> int:
    for remnant, obstacle in results.items():
        if obstacle:
            output.warn(f"still there: {remnant.name}: {obstacle}")
    gone = sum(not obstacle for obstacle in results.values())
    if gone:
        output.say(f"removed {gone}")
    return MachineError.exit_code if any(results.values()) else 0


def _document(found: Sequence[Remnant], results: dict[Remnant, str], dry_run: bool) -> dict[str, object]:
    return {"schema": "mlcube.reap.v1", "dry_run": dry_run, "items": [{
        "kind": remnant.kind, "run_id": remnant.run, "place": remnant.place, "name": remnant.name,
        "removed": remnant in results and not results[remnant], "obstacle": results.get(remnant, ""),
    } for remnant in found]}
