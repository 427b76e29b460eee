"""What is handed to a batch system in one go: directories of supervised commands, each of which one job carries out. Values."""

from __future__ import annotations

import os
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
    """The jobs of one command line: in a chain, where each begins when the one before has succeeded, or as one array. Before
    an array there may be a job that prepares its members: the part whose directory is called 0."""

    directory: str  # of the command line: the parts lie below it
    parts: tuple[Part, ...]
    array: str = ""  # the array's batch file; empty: the parts are a chain
    limit: int | None = None  # how many members of the array run at once; None: as many as there is room for
    largest: int | None = None  # how many members one array may have there; more are handed over in several

    @property
    def chain(self) -> tuple[Part, ...]:
        """The parts that are no members of an array: their text is a whole batch file."""
        return tuple(part for part in self.parts if not self.array or number_of(part) == 0)

    @property
    def members(self) -> tuple[Part, ...]:
        """The parts that are members of the array."""
        return tuple(part for part in self.parts if self.array and number_of(part) > 0)

    @property
    def files(self) -> tuple[str, ...]:
        """The texts of its batch files."""
        return (*(part.text for part in self.chain), *((self.array,) if self.array else ()))


def number_of(part: Part) -> int:
    """The number of a part: its directory's name."""
    return int(os.path.basename(part.directory))
