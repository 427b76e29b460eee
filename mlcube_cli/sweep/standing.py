"""How the members of a sweep stand: read from what each left in its directories, without starting anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlcube_cli.locks import Owner, myself
from mlcube_cli.run_log import log_paths
from mlcube_cli.supervision.state import LOST_CODE, parse_state
from mlcube_cli.sweep.document import Attempt, Member, Sweep

QUEUED, RUNNING, SUCCEEDED, CANCELLED, LOST = "queued", "running", "succeeded", "cancelled", "lost"
UNFINISHED = (CANCELLED, LOST)  # what `retry` runs again without --failed
_TAIL = 4096  # bytes of a log that a reason is looked for in


@dataclass(frozen=True)
class Standing:
    """A member, and how its newest run stands. `reason`: why it did not succeed, in one line."""

    member: Member
    status: str  # of RULINGS 27
    exit_code: int | None = None
    started: float | None = None  # seconds since the epoch
    ended: float | None = None
    run_id: str = ""
    reason: str = ""
    gone: bool = False  # it has not ended as far as its files tell, and nobody is there who would end it

    @property
    def over(self) -> bool:
        return self.status not in (QUEUED, RUNNING)

    @property
    def seconds(self) -> float | None:
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)


def standings_of(sweep: Sweep, over: str = "") -> tuple[Standing, ...]:
    """How each member stands, in their order: one pass over small files. `over`: the attempt that starts no more of them."""
    me = myself()
    alive = {attempt.id: attempt.id != over and _is_attended(attempt, me) for attempt in sweep.attempts}
    found = []
    for member in sweep.members:
        attempt = sweep.last_attempt(member.number)
        if attempt is None:
            found.append(Standing(member, CANCELLED, reason="it never started", gone=True))
        else:
            found.append(standing_of(sweep, member, attempt, alive[attempt.id], me))
    return tuple(found)


def _is_attended(attempt: Attempt, me: Owner) -> bool:
    """Does whoever starts the members live? A batch system does, if the attempt ever came to it."""
    return os.path.isdir(attempt.directory) if attempt.owner is None else not attempt.owner.is_dead(me)


def standing_of(sweep: Sweep, member: Member, attempt: Attempt, attended: bool, me: Owner) -> Standing:
    """How the attempt at this member stands. `attended`: whoever starts the attempt's members lives; `me`: who asks."""
    directory, run_id = os.path.join(attempt.directory, str(member.number)), attempt.run_id(member.number)
    status, code, started, ended = _state(directory)
    if status in ("", QUEUED, RUNNING):
        owner = _owner(directory, me)
        if owner is not None and owner.is_dead(me):
            status, code, started, ended = _state(directory)  # it may have ended in this very moment
            if status in ("", QUEUED, RUNNING):
                return Standing(member, LOST, LOST_CODE, started, None, run_id, "whoever supervised it is gone", True)
        elif owner is None and not attended:
            return Standing(member, CANCELLED, None, None, None, run_id, "it never started", True)
        else:
            return Standing(member, status or QUEUED, None, started, None, run_id)
    run = sweep.run_directory(attempt, member.number)
    task = parse_state(_text(os.path.join(run, "state")))
    started, ended = task[2] or started, task[3] or ended
    reason = "" if status == SUCCEEDED else _reason(directory, run, status, code)
    return Standing(member, status, code, started, ended, run_id, reason)


def _state(directory: str) -> tuple[str, int | None, float | None, float | None]:
    return parse_state(_text(os.path.join(directory, "state")))


def _owner(directory: str, me: Owner) -> Owner | None:
    said = dict(line.partition("=")[::2] for line in _text(os.path.join(directory, "owner")).splitlines())
    try:
        return Owner(int(said["pid"]), said.get("start", ""), said.get("host", me.host), said.get("boot", me.boot),
                     said.get("space", me.space), token="")
    except (KeyError, ValueError):
        return None


def _reason(directory: str, run: str, status: str, code: int | None) -> str:
    """How it ended: of a task that failed with its last line on stderr; else in its supervisor's own words."""
    if status == "failed":
        lines = _tail(log_paths(run)["stderr"]).strip().splitlines()
        return f"exit code {code}" + (f": {lines[-1].strip()}" if lines else "")
    said = " ".join(_text(os.path.join(directory, "message")).split())
    return said or {"timed_out": "its time was up", CANCELLED: "it was cancelled"}.get(status, f"exit code {code}")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 16)
    except OSError:
        return ""


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def counts_of(standings: tuple[Standing, ...]) -> Mapping[str, int]:
    """How many members have each status, as `count`."""
    return count(one.status for one in standings)


def count(statuses: Iterable[str]) -> Mapping[str, int]:
    """How often each status is there, those that are, in the order of a member's life."""
    order, found = (SUCCEEDED, "failed", "timed_out", CANCELLED, LOST, RUNNING, QUEUED), list(statuses)
    return {status: found.count(status) for status in (*order, *dict.fromkeys(found)) if found.count(status)}


def counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items())


def code_of(standings: tuple[Standing, ...]) -> tuple[str, int]:
    """The status and exit code of all together: of the first member, by number, that did not succeed; one that ended by
    itself comes before one that was cancelled."""
    bad = [one for one in standings if one.status != SUCCEEDED]
    if not bad:
        return SUCCEEDED, 0
    first = next((one for one in bad if one.status != CANCELLED), bad[0])
    if not first.over:
        return RUNNING, 0
    return first.status, first.exit_code or {CANCELLED: 143, LOST: LOST_CODE}.get(first.status, 1)
