"""Looks at this machine: answers the questions that deciding functions ask, and calls them again (facts.py)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeVar

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import MachineError
from mlcube_cli.executables import find_executable
from mlcube_cli.facts import (
    Answer,
    Facts,
    FileDigest,
    FileText,
    Missing,
    PathFact,
    PathKind,
    Probe,
    Question,
    Tool,
)

if TYPE_CHECKING:
    from mlcube_cli.ignoring import Ignored

T = TypeVar("T")
Look = Callable[[tuple[Question, ...]], Mapping[Question, Answer]]

ROUNDS = 50
LONGEST_TEXT = 1 << 20  # bytes
MOST_FILES = 2000  # for a digest
MOST_BYTES = 64 << 20
SKIPPED = (".git", ".mlcube")


def with_facts(function: Callable[[Facts], T], facts: Facts, answer: Look | None = None) -> tuple[T, Facts]:
    """What `function` returns once it has all the facts that it asks for, and those facts.

    `answer` looks them up; by default on this machine, with the environment of `facts`. Raises what `function` raises,
    and RuntimeError when it asks without end, which is a fault of ours.
    """
    for _ in range(ROUNDS):
        try:
            return function(facts), facts
        except Missing as missing:
            questions = missing.questions
            facts = facts.learn(answer(questions) if answer else look(questions, facts.environment))
    raise RuntimeError(f"asked for facts {ROUNDS} times, last for {questions}")


def look(questions: tuple[Question, ...], environment: Mapping[str, str] | None = None,
         starting: bool = False) -> dict[Question, Answer]:
    """The answers of this machine. `starting`: something will be started afterwards, so get ready while tools answer."""
    here = os.environ if environment is None else environment
    return {question: _answer(question, here, starting) for question in questions}


def look_before_starting(questions: tuple[Question, ...]) -> dict[Question, Answer]:
    """`look` for a command line that starts what it decides."""
    return look(questions, starting=True)


def machine(environment: Mapping[str, str]) -> Facts:
    """What is always known of this machine. Raises MachineError when the current directory is gone."""
    import sys

    from mlcube_cli.cache import find_cache

    try:
        cwd = os.getcwd()
    except OSError as error:
        raise MachineError(f"the current directory cannot be used: {error.strerror}",
                           "cd to a directory that exists") from error
    return Facts(
        uid=os.getuid(), gid=os.getgid(), home=_home(environment), cwd=cwd, environment=dict(environment),
        cache=find_cache(environment, os.getuid()), terminal=os.isatty(0) and os.isatty(1), python=sys.executable or "",
        processor=os.uname().machine)


def _home(environment: Mapping[str, str]) -> str:
    home = environment.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a uid without a name, as containers have
        return "/"


def _answer(question: Question, environment: Mapping[str, str], starting: bool) -> Answer:
    if isinstance(question, Tool):
        return find_executable(question.name, environment)
    if isinstance(question, Probe):
        from mlcube_cli.process import ask, get_ready

        if starting:
            return ask(question.command, environment=environment, meanwhile=get_ready)
        return ask(question.command, environment=environment)
    if isinstance(question, PathKind):
        return path_fact(question.path)
    if isinstance(question, FileText):
        return _file_text(question.path)
    if isinstance(question, FileDigest):
        from mlcube_cli.cache.digests import file_digest

        return file_digest(question.path, environment)
    return tree_digest(question.paths, question.exclude, question.base, question.ignore)


# --- paths ---------------------------------------------------------------------------------------------------------


def path_fact(path: str) -> PathFact:
    """What is there, links followed. What cannot be looked at (permissions, a loop of links): absent, not readable."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _absent(path, readable=True)
    except (OSError, ValueError):
        return _absent(path, readable=False)
    above = path if stat.S_ISDIR(mode) else os.path.dirname(os.path.realpath(path))
    if stat.S_ISDIR(mode):
        kind, read, write = "directory", os.R_OK | os.X_OK, os.W_OK | os.X_OK
    else:
        kind, read, write = "file" if stat.S_ISREG(mode) else "other", os.R_OK, os.W_OK
    return PathFact(kind, os.access(path, read), os.access(path, write), os.path.realpath(path), above,
                    os.access(above, os.W_OK | os.X_OK))


def _absent(path: str, readable: bool) -> PathFact:
    """Nothing is there: could it be made? Not below a file, nor where a link leads nowhere."""
    if "\0" in path:
        return PathFact("absent", False, False, path, "/", False)
    below, above = path, os.path.dirname(path)
    while not os.path.isdir(above) and above != os.path.dirname(above):
        below, above = above, os.path.dirname(above)
    creatable = readable and not os.path.lexists(below) and os.access(above, os.W_OK | os.X_OK)
    return PathFact("absent", readable, creatable, os.path.realpath(path), above, creatable)


def _file_text(path: str) -> bytes | None:
    """The bytes of a regular file up to 1 MB. Opening never waits, as it would for a FIFO that nobody writes to."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _read_all(descriptor, LONGEST_TEXT)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, limit: int) -> bytes | None:
    """All bytes that are left; None when they are more than the limit."""
    parts, size = [], 0
    while part := os.read(descriptor, 1 << 18):
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


# --- digests -------------------------------------------------------------------------------------------------------


class _TooMuch(Exception):  # noqa: N818 - not an error: it ends the counting
    """More files or bytes than a digest looks at, or something that cannot be read."""


def tree_digest(paths: tuple[str, ...], exclude: tuple[str, ...] = (), base: str = "",
                ignore: tuple[str, ...] = ()) -> str | None:
    """sha256 over names, kinds, executable bits, link targets and contents below the paths; not over where they lie.

    Left out: `exclude`, what the patterns of `ignore` (a .dockerignore's) keep out of `base`, directories called .git or
    .mlcube, and lock files of ours, which state this very digest. None above 2,000 entries or 64 MB, and where something
    cannot be read.
    """
    import hashlib

    digest = hashlib.sha256()
    left_out = _LeftOut(exclude, base, ignore)
    files, size = 0, 0
    try:
        for number, path in enumerate(paths):
            entries = _below(path, left_out, MOST_FILES - files)
            files += len(entries)
            for relative, full in entries:
                content = _content(full, top=not relative, limit=MOST_BYTES - size)
                size += len(content)
                for part in (str(number).encode(), os.fsencode(relative), content):
                    digest.update(b"%d:" % len(part) + part)
    except (_TooMuch, OSError, ValueError):
        return None
    return digest.hexdigest()


class _LeftOut:
    """What does not count in a digest."""

    def __init__(self, exclude: tuple[str, ...], base: str, ignore: tuple[str, ...]) -> None:
        self.paths = frozenset(os.path.normpath(path) for path in exclude)
        self.base = os.path.normpath(base) + "/"
        self.ignored: Ignored | None = None
        if ignore:
            from mlcube_cli.ignoring import Ignored

            self.ignored = Ignored(ignore)

    def whole(self, entry: os.DirEntry[str], is_directory: bool) -> bool:
        """With all that is below it."""
        if os.path.normpath(entry.path) in self.paths or (is_directory and entry.name in SKIPPED):
            return True
        if entry.name.endswith(".lock") and _is_our_lock(entry.path):
            return True
        return self.itself(entry.path) and not (is_directory and self.ignored is not None and self.ignored.exceptions)

    def itself(self, path: str) -> bool:
        path = os.path.normpath(path)
        return self.ignored is not None and path.startswith(self.base) and self.ignored(path[len(self.base):])


def _below(top: str, left_out: _LeftOut, limit: int) -> list[tuple[str, str]]:
    """(relative name, path) of all that lies at and below `top`, sorted; the relative name of `top` itself is empty."""
    found = [("", top)]
    waiting = [("", top)] if os.path.isdir(top) and os.path.normpath(top) not in left_out.paths else []
    while waiting:
        prefix, directory = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if left_out.whole(entry, is_directory):
                    continue
                if not left_out.itself(entry.path):
                    found.append((prefix + entry.name, entry.path))
                if len(found) > limit:
                    raise _TooMuch
                if is_directory:
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
    return sorted(found)


def _is_our_lock(path: str) -> bool:
    """By content: other programs' lock files (of packages) count in a digest."""
    return b'"schema": "mlcube.lock.' in (_file_text(path) or b"")[:200]


def _content(path: str, top: bool, limit: int) -> bytes:
    """Kind and content in one; a link is its target, but for the path that was asked for. Raises _TooMuch, OSError."""
    try:
        mode = os.stat(path).st_mode if top else os.lstat(path).st_mode
    except FileNotFoundError:
        return b"absent"
    if stat.S_ISLNK(mode):
        return b"link " + os.readlink(os.fsencode(path))
    if stat.S_ISDIR(mode):
        return b"directory"
    if not stat.S_ISREG(mode):
        return b"other"
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW * (not top))
    try:
        data = _read_all(descriptor, limit)
    finally:
        os.close(descriptor)
    if data is None:
        raise _TooMuch
    return (b"program " if mode & stat.S_IXUSR else b"file ") + data
