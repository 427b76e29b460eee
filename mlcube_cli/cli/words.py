"""What the positional words of a command mean: the cube, `CUBE:TASK/GROUP`, `name=value`; and times such as 30m."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.durations import find_seconds
from mlcube_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Words:
    """The positional words, sorted out. `cube` is as typed (default `.`); `tasks` are the task words, in order."""

    cube: str
    tasks: tuple[str, ...]
    values: tuple[tuple[str, str], ...]  # name=value, in order


def sort_out(words: Sequence[str], cube: str | None = None, tasks: Sequence[str] = ()) -> Words:
    """Which word is the cube, which assigns a parameter. `cube` is --mlcube's value, `tasks` those of --task.

    An existing path is the cube, whatever characters it holds; else the first `=` makes an assignment. The part behind the
    last `:` of a cube that does not exist as a whole is `TASK[/GROUP]`. Raises UsageError.
    """
    values: list[tuple[str, str]] = []
    places: list[str] = [cube] if cube is not None else []
    for word in words:
        if _is_assignment(word) and not (not places and os.path.lexists(word)):
            name, _, value = word.partition("=")
            values.append((name, value))
        else:
            places.append(word)
    if len(places) > 1:
        raise UsageError(f"'{places[1]}' is one word too many: the cube is '{places[0]}'",
                         f"tasks are given with --task {places[1]}, parameters as name=value")
    chosen = [name.strip() for text in tasks for name in text.split(",") if name.strip()]
    place, task = split_address(places[0] if places else ".")
    return Words(place, tuple(chosen) or ((task,) if task else ()), tuple(values))


def _is_assignment(word: str) -> bool:
    """Does the word begin with a name and `=`? Names are made of letters, digits, `_`, and behind the first `.` and `-`."""
    name, equals, _ = word.partition("=")
    return bool(equals) and name[:1] not in ("", ".", "-") and all(char.isalnum() or char in "_.-" for char in name)


def split_address(address: str) -> tuple[str, str]:
    """`CUBE:TASK/GROUP` -> (CUBE, TASK/GROUP); a path that exists is never split."""
    if ":" not in address or os.path.lexists(address):
        return address, ""
    cube, _, task = address.rpartition(":")
    if "://" in address:
        raise UsageError(f"'{address}' is a URL, not a directory", "fetch the cube first, then give its directory")
    return cube or ".", task


def parse_duration(text: str, option: str) -> float:
    """Seconds of `90`, `1.5s`, `30m`, `2h`, `1d`. Raises UsageError for anything else and for zero or less."""
    seconds = find_seconds(text)
    if seconds is None or (seconds <= 0 and option != "--grace"):
        raise UsageError(f"{option}: '{text}' is not a length of time", f"write seconds or a unit: {option} 90, {option} 30m")
    return seconds


def refuse_attendance(arguments: object) -> None:
    """What needs somebody to stay cannot be had with --detach. Raises UsageError."""
    for flag, why in (("interactive", "nobody is there to type"), ("stamp", "make waits for what it starts")):
        if getattr(arguments, flag, None):
            raise UsageError(f"--detach and --{flag}: {why}", "leave out one of them; mlcube wait waits for a run")
