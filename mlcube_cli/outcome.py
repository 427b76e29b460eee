"""How a step ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli.command import Command


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    status: str  # "succeeded" | "failed" | "timed_out" | "cancelled" | "environment" (it could not be started)
    exit_code: int  # of the child; 124 for timed_out; 128+n for cancelled, and for a child that died of signal n
    seconds: float
    signal: int | None = None  # the signal that cancelled us
    tail: tuple[str, ...] = ()  # the last 25 lines, for captured steps; the reason, for "environment"
    command: Command | None = None  # the one that ended so; None where nothing was started
    first: Outcome | None = None  # how the step's own command ended, where `otherwise` was run after it
