"""A connection to another machine: made once for all that a command line does there, and kept up until that ends."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import Interrupted, MachineError
from mlcube_cli.parcels import Way
from mlcube_cli.process import Session, ask

if TYPE_CHECKING:
    from socket import socket

_HELD: dict[str, socket] = {}  # the socket of each connection, by its path: open as long as this process lives


def connect(way: Way, session: Session) -> None:
    """Connect where that is not done yet; a password is asked for on the terminal. Raises MachineError, Interrupted."""
    if way.connect.unless is None or ask(way.connect.unless).exit_code:
        _begin(way, session)
    if way.socket:
        _hold(way.socket)


def _begin(way: Way, session: Session) -> None:
    outcome = session.stream(way.connect.command, lambda data: None, foreground=True)
    if session.interrupted:
        raise Interrupted(session.signal or 2)
    if outcome.status != "succeeded":
        from mlcube_cli.cli.executing import why_failed

        raise why_failed(way.connect, outcome, MachineError)


def _hold(path: str) -> None:
    """Whoever is connected keeps the master up [tried: OpenSSH 9.2], however long nothing is sent and however short it would
    stay: nobody is asked for a password in the middle of a command line."""
    from socket import AF_UNIX, socket

    held = socket(AF_UNIX)
    held.settimeout(2)
    try:
        held.connect(path)
    except OSError:  # it is gone again: whatever is sent next says so
        held.close()
    else:
        let_go(path)
        _HELD[path] = held


def let_go(path: str) -> None:
    """The connection whose socket this is may end by itself now, as the end of this process lets it."""
    held = _HELD.pop(path, None)
    if held:
        held.close()
