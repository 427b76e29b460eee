"""A directory that appears whole or not at all: filled under a temporary name, then moved into its place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable

from mlcube_cli.command import quote
from mlcube_cli.definition.detect import names_in
from mlcube_cli.errors import Interrupted, MLCubeError, PreparationError, UsageError
from mlcube_cli.signals import die_by, raising


def check_new(path: str, shown: str) -> None:
    """Raises UsageError where no new directory can stand: something is there, or nothing above it is."""
    if os.path.isdir(path):
        if names_in(path) != []:
            raise UsageError(f"{shown} is there already and is not empty", "choose another name, or empty it first")
    elif os.path.lexists(path):
        raise UsageError(f"{shown} is there already and is not a directory", "choose another name")
    elif not os.path.isdir(os.path.dirname(path)):
        parent = os.path.dirname(shown.rstrip("/")) or os.path.dirname(path)
        there = os.path.lexists(os.path.dirname(path))
        raise UsageError(f"{parent} is no directory" if there else f"there is no directory {parent}",
                         "choose another place" if there else f"mkdir -p {quote(parent)} first")


def make_directory(path: str, shown: str, fill: Callable[[str], None]) -> None:
    """Make the directory `path`, filled by `fill(DIRECTORY)`; an empty one that is there already is kept and filled.

    What `fill` made is removed when it fails, and when a signal ends us meanwhile. Raises UsageError (see check_new),
    PreparationError.
    """
    try:
        with raising():
            _make(path, shown, fill)
    except Interrupted as error:
        die_by(error.signal_number)


def _make(path: str, shown: str, fill: Callable[[str], None]) -> None:
    check_new(path, shown)
    there = os.path.isdir(path)
    base = path if there else os.path.dirname(path)
    temporary = os.path.join(base, f".mlcube-new-{os.getpid()}")
    try:
        os.mkdir(temporary)
        try:
            fill(temporary)
            if there:
                _move_up(temporary, path)
            else:
                os.rename(temporary, path)
        finally:
            if os.path.isdir(temporary):
                shutil.rmtree(temporary, ignore_errors=True)
    except MLCubeError:
        raise
    except OSError as error:
        if not there and os.path.isdir(path) and names_in(path):
            raise UsageError(f"{shown} is there already and is not empty", "choose another name") from None
        raise PreparationError(f"{shown} cannot be written: {error.strerror or error}",
                               "check the permissions and the free space, or choose another place") from None


def _move_up(temporary: str, path: str) -> None:
    """All that `temporary` holds into the directory around it; on failure what was moved goes with the rest."""
    moved: list[str] = []
    try:
        with os.scandir(temporary) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            os.rename(os.path.join(temporary, name), os.path.join(path, name))
            moved.append(name)
    except OSError:
        for name in moved:
            with contextlib.suppress(OSError):
                os.rename(os.path.join(path, name), os.path.join(temporary, name))
        raise


def write_file(directory: str, name: str, text: str, executable: bool = False) -> None:
    """Write the file `name` (relative, its directories are made) below `directory`. Raises OSError."""
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "x", encoding="utf-8") as stream:
        stream.write(text)
    if executable:
        os.chmod(path, os.stat(path).st_mode | 0o111)
