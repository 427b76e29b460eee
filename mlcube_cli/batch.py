"""What is handed to a batch system in one go: directories of supervised commands, each of which one job carries out. Values."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Part:
    """One job. `directory`: of the supervised command that it carries out, on the cluster's file system.

    `text` becomes the directory's `program`: the batch file itself, or, of an array's member, what the array's own runs.
    """

    directory: str
    runs: tuple[tuple[str, str], ...]  # run ids with their tasks' directories there
    text: str
    secrets: Mapping[str, str] = field(default_factory=dict)  # what the program reads from a file of mode 0600


@dataclass(frozen=True)
class Batch:
    """The jobs of one command line: in a chain, where each begins when the one before has succeeded, or as one array."""

    directory: str  # of the command line: the parts lie below it
    parts: tuple[Part, ...]
    array: str = ""  # the array's batch file; empty: the parts are a chain
    limit: int | None = None  # how many members of the array run at once; None: as many as there is room for
    largest: int | None = None  # how many members one array may have there; more are handed over in several
