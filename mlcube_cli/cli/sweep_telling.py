"""How a sweep goes, while it does: a line that changes on a terminal, else a line for each member that has ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlcube_cli.cli import output
from mlcube_cli.report import on_one_line
from mlcube_cli.sweep.document import Member
from mlcube_cli.sweep.standing import SUCCEEDED, Standing
from mlcube_cli.sweep.values import shown

_WIDEST = 100  # characters of the line


@dataclass
class Progress:
    """Context manager: in the end the line is gone. `failed`: how many did not succeed."""

    members: Sequence[Member]
    done: int = 0
    failed: int = 0
    _live: bool = field(default_factory=lambda: output.on_terminal() and not output.QUIET)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def tell(self, standing: Standing) -> None:
        """The member has ended."""
        self.done += 1
        good = standing.status == SUCCEEDED
        self.failed += not good
        seconds = "" if standing.seconds is None else f", {standing.seconds:.1f}s"
        how = standing.status.replace("_", " ") + (seconds if good else f": {standing.reason}")
        line = on_one_line(f"[{self.done}/{len(self.members)}] member {standing.member.number} "
                           f"({shown(standing.member.typed)}) {how}")
        if not self._live or not good:
            self.wipe()
            output.say(line)
        if self._live:
            failed = f", {self.failed} did not succeed" if self.failed else ""
            sys.stderr.write(f"\r\x1b[K{f'{self.done} of {len(self.members)} members done{failed}'[:_WIDEST]}")
            sys.stderr.flush()

    def note(self, running: int, waiting: int) -> None:
        """So many run, and so many wait in a queue."""
        if self._live:
            sys.stderr.write(f"\r\x1b[K{self.done} of {len(self.members)} members done, {running} running, {waiting} waiting")
            sys.stderr.flush()

    def wipe(self) -> None:
        """Take the line away, before something else is said."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
