"""What Ctrl-C means for a run that can go on without us: end it, or leave it; asked once on a terminal."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.errors import UsageError
from mlcube_cli.process import Session

CANCEL, DETACH, ASK = "cancel", "detach", "ask"
_GLANCE = 0.2  # seconds between two looks for a second Ctrl-C


def refuse_detaching(arguments: Arguments, name: str) -> None:
    """Raises UsageError: what this process carries out itself cannot go on without it."""
    if getattr(arguments, "on_interrupt", None) == DETACH:
        raise UsageError(f"--on-interrupt=detach: platform '{name}' runs tasks under this very process",
                         "start it with --detach, and follow it with mlcube logs -f: then Ctrl-C ends nothing")


def decider(arguments: Arguments, session: Session, queued: bool, what: str) -> Callable[[int], bool]:
    """Whether the first signal, by its number, ends the run (RULINGS 26: a hang-up never does). `queued`: it is a job of a
    batch system, whose fate is asked about where nobody said it; `what`: the run in words."""
    wish = getattr(arguments, "on_interrupt", None) or (ASK if queued else CANCEL)

    def ends(number: int) -> bool:
        if number != signal.SIGINT:
            return True
        if wish == ASK and os.isatty(0) and output.on_terminal():
            return _ask(session, what)
        return wish != DETACH

    return ends


def _ask(session: Session, what: str) -> bool:
    """Ask on the terminal; a further Ctrl-C, and no answer at all, ends the run."""
    session.heed()
    output.say(f"end {what}, or leave it to itself? [e]nd, [l]eave; Ctrl-C again ends it")
    answer = b""
    while not session.interrupted and not answer.endswith(b"\n"):
        if select.select([0], [], [], _GLANCE)[0]:
            data = os.read(0, 100)
            if not data:
                break
            answer += data
            if answer.endswith(b"\n") and answer.strip().lower()[:1] not in (b"e", b"l"):
                output.say("e or l, please")
                answer = b""
    return not answer.strip().lower().startswith(b"l")
