"""How far a transfer is: one line on the terminal that is written over, and gone at the end."""

from __future__ import annotations

import os
import shutil
import time

from mlcube_cli.cli import output
from mlcube_cli.command import Command, Step
from mlcube_cli.outcome import Outcome
from mlcube_cli.process import Session
from mlcube_cli.report import printable

_PATIENCE = 0.5  # seconds that a transfer takes before anything is shown of it


class TransferLine:
    """What rsync writes about its progress, its last word each time, behind a title. A context manager."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._since = time.monotonic()
        self._shown = False

    def __enter__(self) -> TransferLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            _write("\r\x1b[K")

    def feed(self, data: bytes) -> None:
        words = data.replace(b"\n", b"\r").decode("utf-8", "replace").split("\r")
        last = next((word.strip() for word in reversed(words) if "%" in word and not word[:1].strip()), "")
        if last and time.monotonic() - self._since > _PATIENCE:
            self._shown = True
            width = shutil.get_terminal_size().columns
            _write("\r\x1b[K" + printable(f"{self._title}: {last}")[:max(10, width - 1)])


def run_transfer(session: Session, step: Step) -> Outcome:
    """Run a step that sends or fetches, with its progress where stderr is a terminal."""
    plain = step.unless or step.lock or step.before or step.then or step.otherwise
    if plain or output.QUIET or not output.on_terminal():
        return session.run(step)
    with TransferLine(step.title) as line:
        return session.stream(step.command, line.feed)


def run_told(session: Session, title: str, command: Command) -> tuple[Outcome, str]:
    """Run a transfer that tells what it does; with what it said, which its progress is part of."""
    said: list[bytes] = []
    if output.QUIET or not output.on_terminal():
        outcome = session.stream(command, said.append)
    else:
        with TransferLine(title) as line:
            def feed(data: bytes) -> None:
                said.append(data)
                line.feed(data)

            outcome = session.stream(command, feed)
    return outcome, b"".join(said).decode("utf-8", "surrogateescape")


def _write(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "replace"))
    except OSError:  # a closed or hung-up stderr does not stop the work
        pass
