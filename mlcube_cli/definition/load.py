"""Reading a definition's files one after the other; their problems are collected, nothing stops at the first."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition import tree
from mlcube_cli.definition.detect import shown_path
from mlcube_cli.definition.hints import nearest
from mlcube_cli.errors import DefinitionError, Location, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import TypeAlias

    from mlcube_cli.definition.source import Document

DEEPEST_DIRECTORY = 8
MOST_FILES = 10_000
Choose: TypeAlias = "Callable[[Document], str | None]"  # the schema that a document is checked with


@dataclass
class Guesses:
    """The nearest names for what is misspelt, as long as that is cheap: a file of 10,000 faults gets fewer hints."""

    left: int = 200_000  # candidates to compare

    def nearest(self, word: str, candidates: Collection[str]) -> str | None:
        """As `hints.nearest`; None, too, when enough names were compared."""
        self.left -= len(candidates)
        return nearest(word, candidates) if self.left >= 0 else None


@dataclass
class Files:
    """The files of one cube as they are read, with the problems found so far."""

    root: str
    cwd: str
    cache: str | None = None
    problems: list[Problem] = field(default_factory=list)
    guesses: Guesses = field(default_factory=Guesses)
    uses: dict[tree.Path, tuple[tree.Path, ...]] = field(default_factory=dict)  # as `references.Uses`

    def shown(self, path: str) -> str:
        return shown_path(path, self.cwd)

    def load(self, path: str, choose: Choose) -> tree.Node | None:
        """The file as a tree, or None when it cannot be used; its problems are noted."""
        from mlcube_cli.definition.store import read_checked

        try:
            checked = read_checked(path, choose, self.cache, self.shown(path))
        except DefinitionError as error:
            self.problems += error.problems or (
                Problem(error.location or Location(self.shown(path)), error.message, "unreadable", error.hint),)
            return None
        self.problems += checked.problems
        return tree.from_document(checked.document)

    def note(self, location: Location, message: str, code: str, hint: str = "", path: str = "") -> None:
        """Add an error."""
        self.problems.append(Problem(location, message, code, hint, path))

    def warn(self, location: Location, message: str, code: str, hint: str = "", path: str = "") -> None:
        """Add a warning."""
        self.problems.append(Problem(location, message, code, hint, path, "warning"))

    def definitions(self, *below: str, deep: bool = False) -> Iterator[tuple[str, str]]:
        """The YAML files below a directory of the cube, sorted: (name without the ending, absolute path)."""
        yield from _walk(os.path.join(self.root, *below), "", DEEPEST_DIRECTORY if deep else 0, [MOST_FILES])


def _walk(directory: str, prefix: str, deeper: int, left: list[int]) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(directory) as found:
            entries = sorted((entry for entry, _ in zip(found, range(left[0]))), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        stem, ending = os.path.splitext(entry.name)
        if entry.name.startswith(".") or left[0] <= 0:
            continue
        left[0] -= 1
        if ending in (".yaml", ".yml") and not os.path.isdir(entry.path):
            yield prefix + stem, entry.path
        elif deeper and entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", deeper - 1, left)
