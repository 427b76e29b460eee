"""Where a shell carries out our scripts: on this machine, or behind words that lead to another one. A value."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlcube_cli.command import Command


@dataclass(frozen=True)
class Place:
    """Words that end in a POSIX shell which reads a script from stdin: whatever they go through sees nothing else of ours.

    A login shell on the other side gets one fixed ASCII line (RULINGS 33); it may print before the script runs, so what a
    script answers begins behind a line of its own (`answer_line`).
    """

    reach: tuple[str, ...] = ("sh", "-s")
    name: str = ""  # as the user knows the machine; empty: this one

    def command(self, script: str) -> Command:
        """The command that carries out `script` there. Any byte but NUL may stand in it."""
        return Command(self.reach, stdin=script.encode("utf-8", "surrogateescape"))


HERE = Place()


def new_nonce() -> str:
    """Letters and digits that nobody can know before: of one request alone."""
    return os.urandom(12).hex()


def answer_line(nonce: str) -> str:
    """The line behind which a script's own output begins; `nonce`: letters and digits, new for each request."""
    return f"mlcube-answer {nonce}"
