"""The first words of a local task: which script or program runs, and with which Python."""

from __future__ import annotations

import os

from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_shell.shell_setup import find_shell, has_setup


def entry_words(job: Job, facts: Facts, python: str, searched_later: bool) -> tuple[str, ...]:
    """The words before the task's arguments.

    A script (`*.py`, or a file that is not executable) runs with `python`, an executable file by itself; another name
    is a program on PATH. `searched_later`: PATH is only known when the task starts: an environment or the platform's
    shell lines add to it. Raises DefinitionError when there is no entry point or it names a file that is not there.
    """
    words, origin = _entrypoint(job, facts)
    first, rest = words[0], words[1:]
    path = os.path.normpath(os.path.join(job.root, first))
    kind = facts.path(path).kind
    if kind == "file":
        return (*_script(path, facts, python), *rest)
    if "/" in first or first.endswith(".py"):
        what = "is not a file" if kind != "absent" else "is not there"
        raise DefinitionError(f"the entry point {path} {what} ({origin})",
                              "name a script relative to the cube, or a program on PATH")
    if first in ("python", "python3"):
        return (python, *rest)
    if has_setup(job):
        return words
    if searched_later:
        return ("env", *words)
    program = facts.tool(first)
    if program is None:
        raise MachineError(f"the entry point '{first}' is neither a file of the cube nor a program on PATH ({origin})",
                           "correct its name, or list the package that brings it in 'requirements'")
    return (program, *rest)


def _script(path: str, facts: Facts, python: str) -> tuple[str, ...]:
    if path.endswith(".py"):
        return (python, path)
    if facts.tool(path):
        return (path,)
    return (find_shell(facts), path) if path.endswith(".sh") else (python, path)


def _entrypoint(job: Job, facts: Facts) -> tuple[tuple[str, ...], str]:
    """The entry point's words and where they are written: the task's own, else the platform's."""
    if job.entrypoint:
        return job.entrypoint, f"task '{job.task}'"
    option = job.find_option("entrypoint")
    value = option.value if option else None
    origin = option.origin if option else ""
    if isinstance(value, str) and value.strip():
        words = _split(value, job, facts, origin)
    elif isinstance(value, list) and value and all(isinstance(item, (str, int, float)) for item in value):
        words = tuple(str(item) for item in value)
    elif value in (None, "", []):
        raise DefinitionError(f"task '{job.task}' has no entry point on the platform '{job.platform.name}'",
                              "give the platform one (entrypoint: main.py) or the task its own", job.platform.location)
    else:
        raise DefinitionError(f"'entrypoint' must be a script or a list of words ({origin})",
                              "write entrypoint: main.py, or entrypoint: [python, -m, package]")
    return words, origin


def _split(text: str, job: Job, facts: Facts, origin: str) -> tuple[str, ...]:
    """A text that names a file of the cube is one word (it may hold spaces); otherwise it is split by shell rules."""
    whole = os.path.normpath(os.path.join(job.root, text))
    odd = any(character in text for character in " '\"\\") and "\x00" not in text
    if odd and facts.path(whole).kind == "file":
        return (text,)
    import shlex

    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise DefinitionError(f"the entry point {text!r} cannot be split into words: {error} ({origin})",
                              "close its quotes, or write a list of words") from None
    if not words or not words[0]:
        raise DefinitionError(f"the entry point is empty ({origin})", "write entrypoint: main.py")
    return words
