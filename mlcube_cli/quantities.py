"""Lengths of time and sizes of memory as batch systems write them."""

from __future__ import annotations

import re

from mlcube_cli.durations import find_seconds

_TIME = re.compile(r"(?:(?P<days>\d{1,6})-)?(?P<parts>\d{1,9}(?::\d{1,9}){0,2})", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)[ ]*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"k": 1024, "": 1024 ** 2, "m": 1024 ** 2, "g": 1024 ** 3, "t": 1024 ** 4}
UNLIMITED = ("unlimited", "infinite")


def find_time_limit(text: str) -> int | None:
    """The seconds of a time limit; 0 where there shall be none, None where the text says nothing that we know.

    Slurm's forms (sbatch(1), --time): MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES,
    DAYS-HOURS:MINUTES:SECONDS. And ours: a number with s, m, h or d behind it.
    """
    text = text.strip().lower()
    if text in UNLIMITED:
        return 0
    if text[-1:] in ("s", "m", "h", "d"):
        seconds = find_seconds(text)
        return None if seconds is None else -int(-seconds // 1)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    numbers = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds_ = (*numbers, 0, 0)[:3]
        return int(match["days"]) * 86400 + hours * 3600 + minutes * 60 + seconds_
    hours, minutes, seconds_ = (0, numbers[0], 0) if len(numbers) == 1 else (0, *numbers) if len(numbers) == 2 else numbers
    return hours * 3600 + minutes * 60 + seconds_


def time_limit_text(seconds: int) -> str:
    """A time limit as Slurm reads it back: `HH:MM:SS`, with `D-` in front from a day on; `UNLIMITED` for 0."""
    if not seconds:
        return "UNLIMITED"
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def find_bytes(text: str) -> int | None:
    """The bytes of a size of memory: `16G`, `16GB`, `16GiB` and `16g` are the same 16 x 1024^3, a number alone is of MiB as
    Slurm has it (sbatch(1), --mem). None where the text says no size."""
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else -int(-(float(match[1]) * _UNITS[match[2].lower()]) // 1)


def size_text(size: int) -> str:
    """A size as Slurm reads it back, in the greatest unit that says it exactly, rounded up to whole KiB."""
    for unit, letter in ((1024 ** 4, "T"), (1024 ** 3, "G"), (1024 ** 2, "M")):
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return f"{-(-size // 1024)}K" if size else "0"
