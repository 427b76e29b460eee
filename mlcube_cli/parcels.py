"""What travels between two machines, and the way there, as values (a carrier makes them: runner.Carrier)."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli.command import Reason, Step
from mlcube_cli.errors import TransferError
from mlcube_cli.place import Place
from mlcube_cli.relocation import is_at_or_below


@dataclass(frozen=True)
class Parcel:
    """A file or directory here, and where it is there. Absolute paths."""

    name: str  # the parameter's, for messages
    here: str
    there: str
    kind: str = "unknown"  # "file" | "directory" | "unknown"


@dataclass(frozen=True)
class Way:
    """How a machine is reached. `connect`: authenticates once for all that follows; skipped where that was done."""

    place: Place
    connect: Step
    feed: tuple[str, ...] = ()  # words that reach a shell which reads the length of a script, the script, and leaves the rest
    reasons: tuple[Reason, ...] = ()  # what the words of a failed connection mean
    socket: str = ""  # whoever is connected to it keeps the connection up; empty: it is not ours


@dataclass(frozen=True)
class Load:
    """What one command line sends and brings home."""

    root: str  # the cube's directory there, ours
    identifier: str  # the cube's id, on the first line of the marker file in `root`
    code: tuple[str, str]  # the cube's root here, the mirror of its code there
    workspace: tuple[str, str]
    leave_out: tuple[str, ...]  # absolute paths below the cube's root that are no code: the workspace
    inputs: tuple[Parcel, ...] = ()
    outputs: tuple[Parcel, ...] = ()
    made: bool = False  # all that the carrier's `places` names is there already
    rsync: str = ""  # what `rsync --version` says there; empty: not known
    name: str = ""  # the cube's, without control characters: the marker's second line, which clones of the cube share

    def is_marked(self, marker: object, machine: str) -> bool:
        """Does this text of the marker file there say that the directory is this cube's, or that of a clone of it?

        Raises TransferError where it is another cube's (RULINGS 34).
        """
        lines = marker.decode("utf-8", "surrogateescape").split("\n") if isinstance(marker, bytes) else []
        if lines[2:] == [""] and lines[0] != self.identifier and lines[1] != self.name:
            raise TransferError(f"{self.root} on {machine} belongs to another cube: {lines[1]}",
                                "name another directory: -Prunner.remote_root=DIRECTORY")
        return lines[1:] == [self.name, ""]

    def is_of_code(self, parcel: Parcel) -> bool:
        """Does it lie in the cube's directory, and is no part of a workspace? Then it travels with the code."""
        return is_at_or_below(parcel.here, self.code[0]) and not any(
            is_at_or_below(parcel.here, other) for other in (self.workspace[0], *self.leave_out))


@dataclass(frozen=True)
class Listed:
    """One thing that a transfer would send, change or delete. `size`: bytes of a file, else 0."""

    path: str  # of this machine; that it has, or would have, here. A directory's ends with a slash
    size: int
    change: str  # "new" | "changed" | "deleted"
    kind: str = "file"  # "file" | "directory" | "link"
    modified: int = 0  # of what would come: its time on the machine that it comes from (whole seconds)
