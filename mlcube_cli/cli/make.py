"""`--stamp` and `--deps`: what lets make know that a task is done and what it was made from (docs/make.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from mlcube_cli.atomic import write_text
from mlcube_cli.errors import PreparationError
from mlcube_cli.job import Job
from mlcube_cli.relocation import is_at_or_below

MANY = 10_000  # files listed of one input directory; beyond, only its directories are
# No quoting makes a name of these: `;` would begin a recipe, `|` an order-only list, `lib(member)` is a part of an archive.
_BEYOND_MAKE = re.compile(r"[\n\t\\;|]|[ &]\Z|\(.*\)\Z")


def write_stamp(path: str, started: float, run_ids: Iterable[str]) -> None:
    """Write the stamp, dated when the run *started*: an input changed meanwhile is newer, and make runs the task again."""
    _write(path, "".join(f"{run_id}\n" for run_id in run_ids), started)


def write_deps(path: str, target: str, jobs: Sequence[Job], definitions: Iterable[str]) -> None:
    """Write `TARGET: inputs...` in make's syntax; each input is a target too, so that a deleted one does not stop make."""
    names = list(dict.fromkeys((*definitions, *_inputs(jobs))))
    usable = [name for name in names if can_hold(name)]
    left_out = [f"# {len(names) - len(usable)} left out: make cannot hold their names"] if len(usable) < len(names) else []
    lines = [*left_out, f"{escape(target, target=True)}: \\", *(f"  {escape(name)} \\" for name in usable), "",
             *(f"{escape(name, target=True)}:" for name in usable)]
    _write(path, "\n".join(lines) + "\n")


def _write(path: str, text: str, modified: float | None = None) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        write_text(path, text, modified)
    except OSError as error:
        raise PreparationError(f"the tasks succeeded, but {path} could not be written: {error.strerror}",
                               "make will run them again") from None


def _inputs(jobs: Sequence[Job]) -> Iterator[str]:
    """Files that the jobs read and none of them writes; a directory as itself and everything in it."""
    written = [os.path.realpath(argument.host_path) for job in jobs for argument in job.paths if argument.direction == "output"]
    for job in jobs:
        for argument in job.paths:
            if argument.direction == "input" and not any(is_at_or_below(os.path.realpath(argument.host_path), path)
                                                         for path in written):
                yield from _listing(argument.host_path)


def _listing(path: str) -> Iterator[str]:
    yield path
    count = 0
    for directory, below, files in os.walk(path):
        below[:] = sorted(name for name in below if name != ".mlcube")
        if directory != path:
            yield directory
        for name in sorted(files):
            count += 1
            if count <= MANY:
                yield os.path.join(directory, name)


def can_hold(name: str) -> bool:
    """Whether a rule can be written that means this file, and nothing else."""
    return _BEYOND_MAKE.search(name) is None


def escape(name: str, target: bool = False) -> str:
    """A file name as make reads it in a rule (GNU make manual, "Rule Syntax"); `%` is special in targets only.

    A `=` would make an assignment of the line; in a reference nobody looks for one.
    """
    text = name.replace("$", "$$")
    for char in (" ", "#", ":", *(("%",) if target else ())):
        text = text.replace(char, "\\" + char)
    return text.replace("=", "$(strip =)")
