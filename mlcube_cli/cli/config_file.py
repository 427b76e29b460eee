"""A settings file that is changed: one writer at a time, atomically, and never into a file with new faults."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cache import find_cache
from mlcube_cli.cli import output
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.places import SITE
from mlcube_cli.definition.schema import check
from mlcube_cli.definition.settings import find_entries
from mlcube_cli.definition.source import Document, find_node, parse_document, read_bytes
from mlcube_cli.definition.tree import from_document
from mlcube_cli.errors import DefinitionError, Location, MachineError, UsageError
from mlcube_cli.locks import lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.places import Place
    from mlcube_cli.errors import Problem

WAIT = 30.0  # seconds for another writer


@dataclass(frozen=True)
class Content:
    """What a settings file holds: its text, and what is wrong with it."""

    text: str
    document: Document
    problems: tuple[Problem, ...]

    @property
    def data(self) -> dict[str, Data]:
        return self.document.data if isinstance(self.document.data, dict) else {}

    def has(self, *path: str) -> bool:
        above = find_node(self.document.data, path[:-1])
        return isinstance(above, dict) and path[-1] in above


def change_file(place: Place, shown: str, change: Callable[[Content], str], hint: str = "") -> Content:
    """Put what `change` makes of the file into its place, and return that.

    `hint`: what to do where the change would leave something wrong. Raises UsageError for a change that brings a new
    fault, DefinitionError for a file that cannot be read, MachineError for one that cannot be written.
    """
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_alone(os.path.realpath(place.path)))
            before = _read(place, shown)
            after = _content(change(before), place, shown)
            _refuse_faults(before, after, hint)
            if after.text != before.text:
                _write(os.path.realpath(place.path), after.text.encode("utf-8", "surrogateescape"), place.scope == SITE)
            return after
    except OSError as error:
        raise MachineError(f"the settings file {shown} cannot be written: {error.strerror or error}",
                           "check the permissions of its directory, and the space on its disk") from error


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Be the only one who changes the file; without a cache the lock is beside it."""
    cache = find_cache(os.environ, os.getuid())
    directory = os.path.join(cache, "locks") if cache else os.path.join(os.path.dirname(path), ".mlcube-locks")
    try:
        with lock(directory, f"settings {path}", WAIT, output.say):
            yield
    finally:
        if not cache:
            with contextlib.suppress(OSError):  # another one waits there
                os.rmdir(directory)


def _read(place: Place, shown: str) -> Content:
    if not os.path.exists(place.path):  # a link that leads nowhere is a file to be made, too
        return _content("", place, shown)
    content = read_bytes(place.path, shown)
    try:
        return _content(content.decode("utf-8"), place, shown)
    except UnicodeDecodeError:
        message = "this settings file is not UTF-8, so it cannot be changed here"
        raise DefinitionError(message, "save it as UTF-8", Location(shown)) from None


def _content(text: str, place: Place, shown: str) -> Content:
    """The text, read and checked. Raises DefinitionError where it is no YAML."""
    try:
        document = parse_document(text.encode("utf-8", "surrogateescape"), shown)
    except DefinitionError as error:
        if any(problem.code != "empty-file" for problem in error.problems):
            raise
        document = Document(shown, {}, {}, {})
    files = Files(os.path.dirname(place.path), os.path.dirname(place.path))
    find_entries(files, from_document(document), place.path)
    return Content(text, document, (*check(document, "settings"), *files.problems))


def _refuse_faults(before: Content, after: Content, hint: str) -> None:
    known = {(problem.code, problem.path, problem.message) for problem in before.problems}
    new = [problem for problem in after.problems if (problem.code, problem.path, problem.message) not in known]
    if new:
        raise UsageError(f"this would not be valid, and nothing was written: {new[0].path}: {new[0].message}",
                         hint or new[0].hint)


def _write(path: str, content: bytes, for_all: bool) -> None:
    """Put a whole new file in the place of the old one, with its mode and, where we may, its owner. `for_all`: everybody
    reads the site's file, a new one too. Raises OSError."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755 if for_all else 0o700, exist_ok=True)
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            _take_after(path, descriptor, 0o644 if for_all else 0o600)
            while content:
                content = content[os.write(descriptor, content):]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems know no fsync of directories
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_after(path: str, descriptor: int, mode: int) -> None:
    """The mode and owner of the file that is there; a user's new one is the caller's alone, since it may hold secrets."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    with contextlib.suppress(OSError):  # only root may give a file away
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o7777)
