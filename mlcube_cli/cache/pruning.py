"""What of the cache may go: pure decisions about the things that were found there, and their words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAY = 86400.0  # seconds
SPARED = 30 * DAY  # builds, verdicts and digests used within this time stay (RULINGS 45)
YOUNG = 600.0  # seconds in which what is unfinished may still be finished, by somebody whom we cannot see
SHORTEST = 3600.0  # the shortest --older-than: what was used within the last hour may be about to be used again

ENVIRONMENT, IMAGE, BUILD, VERDICT, DIGEST = "environment", "image", "build", "verdict", "digest"
QUESTIONS, LOCK, OTHER = "questions", "lock", "other"
KINDS = (ENVIRONMENT, IMAGE, BUILD, VERDICT, DIGEST, QUESTIONS, LOCK)  # what can be chosen; OTHER is not ours and stays
_ON_REQUEST = (ENVIRONMENT, IMAGE)  # costly to make again: they go only when --older-than says so

WHOLE = "whole"


@dataclass(frozen=True)
class Item:
    """A thing in the cache. `state` is WHOLE, or what is wrong with it in one word that fits after "it is"."""

    kind: str
    path: str  # absolute
    name: str  # what it is, for people
    size: int  # bytes on the disk
    last_used: float  # seconds since the epoch
    state: str = WHOLE
    used_by: str = ""  # who uses it, in words; empty: nobody
    link: str = ""  # the name under which it is published, absolute; it goes first
    lock: str = ""  # the key of the lock that is held while it is removed


@dataclass(frozen=True)
class Wish:
    """What somebody wants freed. `older_than`: seconds without use (None: nothing that is whole and costly)."""

    older_than: float | None = None
    kinds: tuple[str, ...] = KINDS


def why_removable(item: Item, wish: Wish, now: float) -> str:
    """Why the item may go, in a few words that fit behind its name; empty: it stays. Nothing in use ever goes."""
    if item.used_by or item.kind not in wish.kinds or item.kind == OTHER:
        return ""
    idle = now - item.last_used
    if item.state != WHOLE:
        return item.state if idle > YOUNG or item.kind == LOCK else ""
    limit = _limit(item.kind, wish.older_than)
    return f"not used for {age_text(idle)}" if limit is not None and idle > limit else ""


def _limit(kind: str, older_than: float | None) -> float | None:
    """Seconds without use after which a whole item of this kind goes; None: it stays."""
    if kind in _ON_REQUEST:
        return older_than
    if kind in (VERDICT, DIGEST, QUESTIONS) and older_than is not None:
        return min(SPARED, older_than)
    return SPARED if kind in (BUILD, VERDICT, DIGEST, QUESTIONS) else None


def removable(items: Iterable[Item], wish: Wish, now: float) -> list[tuple[Item, str]]:
    """The items that may go, each with the reason."""
    judged = ((item, why_removable(item, wish, now)) for item in items)
    return [(item, reason) for item, reason in judged if reason]


def total(items: Iterable[Item]) -> int:
    """Bytes of all of them."""
    return sum(item.size for item in items)


def size_text(size: int) -> str:
    """`0 B`, `512 B`, `4.1 kB`, `1.2 GB`: powers of 1000."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            break
    return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:.0f} {unit}"


def age_text(seconds: float) -> str:
    """`3 days`, `1 hour`, `5 minutes`; below a minute `less than a minute`."""
    for length, unit in ((DAY, "day"), (3600.0, "hour"), (60.0, "minute")):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
