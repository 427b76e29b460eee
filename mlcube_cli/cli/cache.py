"""`mlcube cache list | prune`: what mlcube keeps and can make again, and how to get its space back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from mlcube_cli.cache import candidate, find_cache
from mlcube_cli.cache.contents import look_at, measured, remove
from mlcube_cli.cache.pruning import KINDS, SHORTEST, VERDICT, WHOLE, Item, Wish, age_text, removable, size_text, total
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.words import parse_duration
from mlcube_cli.errors import MachineError, UsageError
from mlcube_cli.records import rfc3339
from mlcube_cli.report import on_one_line

_PATIENCE = 1.0  # seconds of silence on a terminal


def cache(arguments: Arguments) -> int:
    """`mlcube cache list | prune`. Exit 4 without a usable cache, and where something could not be removed."""
    verb = arguments.words[0] if len(arguments.words) == 1 else ""
    if verb not in ("list", "prune"):
        raise UsageError("mlcube cache takes one word: list or prune", "mlcube cache list")
    if verb == "list" and (arguments.older_than or arguments.dry_run):
        raise UsageError("mlcube cache list removes nothing, so it takes neither --older-than nor --dry-run",
                         "mlcube cache prune --dry-run lists what would go")
    wish = _wish(arguments)
    directory = _directory()
    items, notes = look_at(directory)
    for note in notes:
        output.warn(note)
    now = time.time()
    if verb == "list":
        return _list(arguments, directory, [item for item in items if item.kind in wish.kinds or not arguments.kind], now)
    chosen = _measured(removable(items, wish, now))
    return _prune(arguments, directory, chosen)


def _wish(arguments: Arguments) -> Wish:
    """What the options ask for. Raises UsageError."""
    older_than = parse_duration(arguments.older_than, "--older-than") if arguments.older_than else None
    if older_than is not None and older_than < SHORTEST:
        raise UsageError("--older-than: what was used within the last hour stays, since a run may be about to use it",
                         "--older-than 1h, or longer")
    kinds = [name.strip() for text in arguments.kind for name in text.split(",") if name.strip()]
    for name in kinds:
        if name not in KINDS:
            raise UsageError(f"there is no kind '{name}'", f"the kinds are: {', '.join(KINDS)}")
    return Wish(older_than, tuple(kinds) or KINDS)


def _directory() -> str:
    """The cache directory. Raises MachineError that says why there is none that can be used."""
    found = find_cache(os.environ, os.getuid())
    if found is not None:
        return found
    place = candidate(os.environ, os.getuid())
    if place is None:
        raise MachineError("there is no place for a cache: HOME is not set, or belongs to somebody else",
                           "set MLCUBE_HOME to a directory of your own")
    if not os.path.lexists(place):
        raise MachineError(f"the cache directory {place} is not there, and cannot be made",
                           "set MLCUBE_HOME to a directory of your own that can be written")
    raise MachineError(f"the cache directory {place} is not used: it must be a directory of your own that you can write "
                       "into, and nobody else", "check it with ls -ld, or set MLCUBE_HOME")


def _measured(chosen: Sequence[tuple[Item, str]]) -> list[tuple[Item, str]]:
    """The same with sizes. On a terminal a word about it, when it takes long."""
    until: float | None = time.monotonic() + _PATIENCE if output.on_terminal() else None
    found = []
    for item, reason in chosen:
        if until is not None and time.monotonic() > until:
            output.say("measuring what lies in the cache ...")
            until = None
        found.append((measured(item), reason))
    return found


# --- list ----------------------------------------------------------------------------------------------------------


def _list(arguments: Arguments, directory: str, items: Sequence[Item], now: float) -> int:
    known = [item for item, _ in _measured([(item, "") for item in items])]
    if arguments.json:
        output.json_result({**_document(directory, known), "freed": 0})
        return 0
    rows = [("KIND", "SIZE", "LAST USED", "NAME"), *(_row(item, now) for item in known if item.kind != VERDICT)]
    verdicts = [item for item in known if item.kind == VERDICT]
    if verdicts:
        latest = max(item.last_used for item in verdicts)
        rows.append((VERDICT, size_text(total(verdicts)), _ago(latest, now), f"{_many(verdicts)} found valid"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}" for row in rows]
    going = removable(known, Wish(), now)
    lines += ["", f"{size_text(total(known))} in {directory}; mlcube cache prune would free "
                  f"{size_text(total(item for item, _ in going))}"]
    _print(lines if known else [f"{directory} is empty"])
    return 0


def _row(item: Item, now: float) -> tuple[str, str, str, str]:
    more = [item.state] if item.state != WHOLE else []
    more += [f"in use by {item.used_by}"] if item.used_by else []
    return item.kind, size_text(item.size), _ago(item.last_used, now), item.name + (f" ({'; '.join(more)})" if more else "")


def _ago(moment: float, now: float) -> str:
    return f"{age_text(now - moment)} ago"


def _many(verdicts: Sequence[Item]) -> str:
    return f"{len(verdicts)} definition{'s' if len(verdicts) > 1 else ''}"


# --- prune ---------------------------------------------------------------------------------------------------------


def _prune(arguments: Arguments, directory: str, chosen: Sequence[tuple[Item, str]]) -> int:
    kept: dict[str, str] = {}  # path: why it is still there
    if not arguments.dry_run:
        for item, _ in chosen:
            if output.on_terminal() and item.kind != VERDICT:
                output.say(f"removing {item.name} ({size_text(item.size)})")
            if obstacle := remove(directory, item):
                kept[item.path] = obstacle
    gone = [(item, reason) for item, reason in chosen if item.path not in kept]
    if arguments.json:
        reasons = {item.path: reason for item, reason in chosen}
        document = _document(directory, [item for item, _ in chosen], reasons, kept, arguments.dry_run)
        output.json_result({**document, "freed": 0 if arguments.dry_run else total(item for item, _ in gone)})
    else:
        _print(_lines(gone, arguments.dry_run))
    for path, obstacle in kept.items():
        output.warn(f"{path} is still there: {obstacle}")
    return MachineError.exit_code if any(not why.startswith("somebody") for why in kept.values()) else 0


def _lines(gone: Sequence[tuple[Item, str]], dry_run: bool) -> list[str]:
    done = "would remove" if dry_run else "removed"
    lines = [f"{done} {item.kind} {item.name}, {size_text(item.size)}: {reason}" for item, reason in gone
             if item.kind != VERDICT]
    verdicts = [item for item, _ in gone if item.kind == VERDICT]
    if verdicts:
        lines.append(f"{done} what is known of {_many(verdicts)}, {size_text(total(verdicts))}: not used any more")
    freed = size_text(total(item for item, _ in gone))
    return [*lines, f"{'would free' if dry_run else 'freed'} {freed}"]


def _print(lines: Iterable[str]) -> None:
    """The lines to stdout; a name that holds the end of a line stays on one."""
    output.result("".join(on_one_line(line) + "\n" for line in lines))


# --- JSON ----------------------------------------------------------------------------------------------------------


def _document(directory: str, items: Iterable[Item], reasons: dict[str, str] | None = None,
              kept: dict[str, str] | None = None, dry_run: bool = False) -> dict[str, object]:
    """The document mlcube.cache.v1, but for `freed`."""
    listed = list(items)
    removing = reasons is not None and not dry_run
    return {
        "schema": "mlcube.cache.v1", "directory": directory, "dry_run": dry_run, "size": total(listed),
        "items": [{
            "kind": item.kind, "name": item.name, "path": item.path, "size": item.size,
            "last_used": rfc3339(item.last_used), "state": item.state, "used_by": item.used_by,
            "reason": (reasons or {}).get(item.path, ""), "removed": removing and item.path not in (kept or {}),
            "obstacle": (kept or {}).get(item.path, ""),
        } for item in listed],
    }
