"""Lengths of time as the user writes them: `90`, `1.5s`, `30m`, `2h`, `1d`."""

from __future__ import annotations

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def find_seconds(text: str) -> float | None:
    """The seconds of a length of time; None where the text says none."""
    import re  # only here: most command lines name no time

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower(), re.ASCII)
    return float(match[1]) * _UNITS[match[2]] if match else None
