"""What is looked at before anything is sent to another machine: links that lead out, and how much it is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from mlcube_cli.cache import lock_directory
from mlcube_cli.cli import output
from mlcube_cli.cli.compared import listed_by
from mlcube_cli.cli.remote import Remote
from mlcube_cli.command import Command
from mlcube_cli.errors import DefinitionError, Interrupted, Location, Problem, TransferError
from mlcube_cli.facts import Observation, PathFact, PathKind, Probe
from mlcube_cli.locks import lock
from mlcube_cli.manifest import Escape, find_escaping_links, measure
from mlcube_cli.observe import with_facts
from mlcube_cli.parcels import Listed
from mlcube_cli.process import Session

_PATIENCE = 24 * 3600.0  # seconds for which another command line's transfer is waited for
MUCH = 1_000_000_000  # bytes of a first push that are said, and asked about


def look_before_sending(remote: Remote) -> None:
    """Raises DefinitionError for links that would lead nowhere there, TransferError where there is no room, or where the
    user does not want so much to be sent."""
    look_for_links(remote)
    if not remote.load.made:
        root = remote.look_there(PathKind(remote.load.code[1]))
        if isinstance(root, PathFact) and root.kind != "directory":  # nothing was sent there so far
            _ask_about(remote, root.ancestor)


@contextlib.contextmanager
def alone(session: Session, remote: Remote) -> Iterator[None]:
    """Of this machine's processes, be the only one that sends this cube there: until a run has its copy of the code, that is
    no other's (RULINGS 36). Without a place for locks, go on without. Raises MachineError, Interrupted."""

    def pause(seconds: float) -> None:
        session.pause(seconds)
        if session.interrupted:
            raise Interrupted(session.signal or 2)

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(lock(lock_directory(os.environ, os.getuid()), f"sending to {remote.load.root} on {remote.name}",
                                     _PATIENCE, output.say, pause))
        yield


def look_for_links(remote: Remote) -> None:
    """Raises DefinitionError for links in inputs that would lead elsewhere, or nowhere, there (RULINGS 35)."""
    escapes = _travelling(remote, find_escaping_links(parcel.here for parcel in remote.load.inputs))
    if escapes:
        raise DefinitionError("inputs hold links that lead out of them", problems=[
            Problem(Location(escape.path), f"this link leads to {escape.target}, which does not travel with the input",
                    "escaping-link", "replace it by what it leads to, name that path as an input itself, or leave it out "
                    "(sync.exclude)") for escape in escapes])


def _travelling(remote: Remote, escapes: tuple[Escape, ...]) -> tuple[Escape, ...]:
    """Those that no rule of the user's leaves out, where there are any."""
    sent = frozenset(item.path for item in _sent(remote) if item.kind == "link") if escapes else ()
    return tuple(escape for escape in escapes if escape.path in sent)


def _sent(remote: Remote) -> tuple[Listed, ...]:
    """What would travel: rsync itself is asked. Raises TransferError."""
    steps, _ = with_facts(lambda known: remote.carrier.push(remote.platform, known, remote.load), remote.here)
    return listed_by(remote.carrier, steps)


def _ask_about(remote: Remote, directory: str) -> None:
    """How much would be sent for the first time, and is there room for it? Rules may leave out much of what is here, so that
    where all of it would be too much, they are asked."""
    free = _room(remote, directory)
    most = measure((remote.load.code[0], *(parcel.here for parcel in remote.load.inputs)))
    if most < min(MUCH, MUCH if free is None else free):
        return
    sizes = [item.size for item in _sent(remote) if item.kind == "file" and item.change != "deleted"]
    size = sum(sizes)
    if free is not None and size > free:
        raise TransferError(f"{_shown(size)} are to be sent to {remote.name}, where {_shown(free)} are free",
                            "make room there, or set remote_root to a directory on another disk")
    if size < MUCH:
        return
    output.say(f"{_shown(size)} in {len(sizes)} file{'' if len(sizes) == 1 else 's'} are to be sent to {remote.name} for the "
               "first time; later only what has changed")
    if os.isatty(0) and os.isatty(2) and not output.confirm(f"send {_shown(size)} to {remote.name}?"):
        raise TransferError("nothing was sent",
                            "data that is on the other machine already can be named by its absolute path there")


def _room(remote: Remote, directory: str) -> int | None:
    """Bytes that are free there; None where nobody can say."""
    answer = remote.look_there(Probe(Command(("df", "-P", "-k", directory))))
    said = answer.stdout if isinstance(answer, Observation) else ""
    found = re.search(r"\s\d+\s+-?\d+\s+(-?\d+)\s+\S+\s+/.*\Z", said, re.DOTALL)  # total, used, free; names hold anything
    return max(0, int(found[1])) * 1024 if found else None


def _shown(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
