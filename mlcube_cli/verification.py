"""Whether the inputs and outputs of a run are still what its record says: byte by byte, or by size and time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlcube_cli.archive import Found
from mlcube_cli.measures import NONE, SIZES, Measure, Want, differences, load_manifest, measure
from mlcube_cli.records import REMOTE, entries_of

SAME, CHANGED, GONE, NEW, UNKNOWN = "same", "changed", "gone", "new", "unknown"


@dataclass(frozen=True)
class Verdict:
    """One input or output now. `files`: of a directory, (path relative to it, `changed` | `gone` | `new`) of each entry that
    differs; none where only the whole can be told. `reason`: what cannot be told, and why."""

    name: str
    direction: str
    path: str
    verdict: str
    how: str  # "full" | "sizes" | "none"
    files: tuple[tuple[str, str], ...] = ()
    reason: str = ""

    @property
    def differs(self) -> bool:
        return self.verdict in (CHANGED, GONE, NEW)


def verify(found: Found) -> list[Verdict]:
    """Inputs, then outputs of the run, each looked at now; every byte is read where the record has a sha256."""
    return [*verify_some(found, "inputs"), *verify_some(found, "outputs")]


def verify_some(found: Found, which: str, known: bool = False) -> list[Verdict]:
    """The `inputs` or the `outputs` of the run, each looked at now. `known`: files that are as they were when they were last
    read (cache/digests.py) are not read again."""
    if which not in found.record:
        return [_untold(found, argument) for argument in _planned(found.record) if argument.get("direction") == which[:-1]]
    environment = os.environ if known else None
    return [_judge(found, which[:-1], entry, environment) for entry in entries_of(found.record, which)]


def _untold(found: Found, argument: Mapping[str, object]) -> Verdict:
    """An input or output of a record that has none: there is only the plan."""
    name, direction, path = (_text(argument, key) for key in ("name", "direction", "host_path"))
    return Verdict(name, direction, found.here(path), UNKNOWN, NONE,
                   reason="an older version wrote the record, without what it was")


def _planned(record: Mapping[str, object]) -> list[dict[str, object]]:
    """The paths among the arguments of a record's plan."""
    plan = record.get("plan")
    tasks = plan.get("tasks") if isinstance(plan, dict) else None
    arguments = tasks[0].get("arguments") if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) else None
    listed = arguments if isinstance(arguments, list) else []
    return [one for one in listed if isinstance(one, dict) and _text(one, "host_path")]


def _judge(found: Found, direction: str, entry: Mapping[str, object], environment: Mapping[str, str] | None) -> Verdict:
    path, kind, how = found.here(_text(entry, "path")), _text(entry, "kind"), _text(entry, "hash") or NONE
    verdict, reason = UNKNOWN, ""
    files: tuple[tuple[str, str], ...] = ()
    if kind == REMOTE:
        reason = f"it stays on {found.text('host', 'execution') or 'another machine'}, and was not looked at"
    elif kind == "":
        reason = _text(entry, "note") or "the run did not end in a way that let it be measured"
    elif not os.path.lexists(path) and found.host != os.uname().nodename and not found.holds(path):
        reason = f"it is a path of {found.host}"
    else:
        verdict, files, reason = _compare(found, entry, measure(path, Want(how, environment=environment)))
    return Verdict(_text(entry, "name"), direction, path, verdict, how if verdict != UNKNOWN else NONE, files, reason)


def _compare(found: Found, entry: Mapping[str, object], now: Measure) -> tuple[str, tuple[tuple[str, str], ...], str]:
    kind, how = _text(entry, "kind"), _text(entry, "hash")
    if kind == "absent":
        return (SAME, (), "") if now.kind == "absent" else (NEW, (), f"there was nothing; now there is a {now.kind}")
    if now.kind == "absent":
        return GONE, (), ""
    if now.kind != kind:
        return CHANGED, (), f"it was a {kind}, and is a {now.kind}"
    if how in (NONE, ""):
        return UNKNOWN, (), _text(entry, "note") or "its hash was turned off"
    if now.hashing != how:
        return UNKNOWN, (), now.note
    if kind == "directory":
        return _compare_directories(found, entry, now)
    if how == SIZES:
        same = (entry.get("size"), entry.get("modified_ns")) == (now.size, now.modified_ns)
        return (SAME if same else CHANGED), (), _weak(same)
    same = entry.get("sha256") == now.sha256
    return (SAME if same else CHANGED), (), "" if same else f"was {entry.get('sha256')}, is {now.sha256}"


def _compare_directories(found: Found, entry: Mapping[str, object],
                         now: Measure) -> tuple[str, tuple[tuple[str, str], ...], str]:
    name = _text(entry, "manifest")
    if name == now.manifest_name:
        return SAME, (), _text(entry, "note") or _weak(now.hashing == SIZES)
    before = load_manifest(found.workspace, name)
    if before is None:
        return CHANGED, (), "which of its files cannot be told: their list is not kept in the workspace any more"
    files = tuple(differences(before, now.manifest))
    return (CHANGED if files else UNKNOWN), files, now.note or _text(entry, "note")


def _weak(same_by_size: bool) -> str:
    return "by size and time only" if same_by_size else ""


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
