"""Looks at this machine: answers the questions that deciding functions ask, and calls them again (facts.py)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeVar

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

T = TypeVar("T")
Look = Callable[[tuple[Question, ...]], Mapping[Question, Answer]]

ROUNDS = 50
LONGEST_TEXT = 1 << 20  # bytes


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
        uid=os.getuid(), gid=os.getgid(), home=home_of(environment), cwd=cwd, environment=dict(environment),
        cache=find_cache(environment, os.getuid()), terminal=os.isatty(0) and os.isatty(1), python=sys.executable or "",
        processor=os.uname().machine, host=os.uname().nodename)


def home_of(environment: Mapping[str, str]) -> str:
    """The caller's home directory."""
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
        from mlcube_cli.process import ask
        from mlcube_cli.starting import get_ready

        if starting:
            return ask(question.command, environment=environment, meanwhile=get_ready)
        return ask(question.command, environment=environment)
    if isinstance(question, PathKind):
        return path_fact(question.path)
    if isinstance(question, FileText):
        return file_text(question.path)
    if isinstance(question, FileDigest):
        from mlcube_cli.cache.digests import file_digest

        return file_digest(question.path, environment)
    from mlcube_cli.tree_digest import tree_digest

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


def file_text(path: str) -> bytes | None:
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
        return read_all(descriptor, LONGEST_TEXT)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_all(descriptor: int, limit: int) -> bytes | None:
    """All bytes that are left; None when they are more than the limit."""
    parts, size = [], 0
    while part := os.read(descriptor, 1 << 18):
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)
