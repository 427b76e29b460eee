"""Where the engine keeps its cache and its temporary files, and how these are removed."""

from __future__ import annotations

import os

from mlcube_cli.command import Command, Variable
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import PathKind
from mlcube_shell.options import expanded_option, refuse
from mlcube_shell.singularity_engine import Engine

_VARIABLES = ("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR")
_UNUSABLE = ":,\n"  # the engine cuts its lists of mounts there
_IN_NAME_SPACE = ("unshare", "--map-root-user", "--map-auto")  # as root over one's further user ids


def tmp_directory(engine: Engine) -> str:
    """Where temporary files go: as the platform says, as the caller's environment says, `/tmp`; of a batch job, on its node.

    Raises facts.Missing, DefinitionError for a name that the engine cannot use, MachineError where nothing can be written.
    """
    job, facts = engine.job, engine.facts
    given, option = expanded_option(job, "tmpdir", facts), job.find_option("tmpdir")
    if given is None:
        place = _of_caller(engine)
    else:
        place = os.path.normpath(os.path.join(job.workspace, given))
        if option is not None and not _is_usable(place):
            raise refuse(option, f"the engine cannot use {place!r}: its name holds a colon, a comma or a newline")
    facts.need(PathKind(place))
    fact = facts.path(place)
    if not (fact.writable if fact.kind == "directory" else fact.kind == "absent" and fact.creatable) and not job.assume:
        raise MachineError(f"temporary files cannot be written to {place}", "set TMPDIR, or -Prunner.tmpdir=DIRECTORY")
    return place


def tmp_making(engine: Engine) -> tuple[Command, ...]:
    """Make that directory where it is absent. Of nodes that a batch system chooses nothing is known."""
    place = tmp_directory(engine)
    there = place == "/tmp" if engine.job.batch else engine.facts.path(place).kind == "directory"
    return () if there else (Command(("mkdir", "-p", "--", place)),)


def tmp_notes(engine: Engine) -> tuple[str, ...]:
    """What the caller's environment says and the engine cannot use."""
    if expanded_option(engine.job, "tmpdir", engine.facts) is not None:
        return ()
    name, place = _stated(engine)
    if not name or _is_usable(place):
        return ()
    return (f"{name}={place}: the engine cannot use a name with a colon, a comma or a newline; /tmp is used instead",)


def _of_caller(engine: Engine) -> str:
    place = _stated(engine)[1]
    return place if place and _is_usable(place) else "/tmp"


def _stated(engine: Engine) -> tuple[str, str]:
    """The variable that counts, and its directory; empty where there is none. What the caller's say of the machine that jobs
    are submitted from is not so on nodes."""
    if engine.job.batch:
        return "", ""
    stated = ((name, engine.facts.environment.get(name, "")) for name in _VARIABLES)
    return next(((name, os.path.normpath(path)) for name, path in stated if os.path.isabs(path)), ("", ""))


def _is_usable(place: str) -> bool:
    return not any(char in place for char in _UNUSABLE)


def cache_variables(engine: Engine) -> tuple[Variable, ...]:
    """The engine's cache: where the platform says, else where the caller's environment does.

    Where nobody says it, there is no cache: the image itself is kept, and a small home stays as it is.
    """
    given = expanded_option(engine.job, "cachedir", engine.facts)
    if given is not None:
        return (Variable(f"{engine.prefix}_CACHEDIR", os.path.normpath(os.path.join(engine.job.workspace, given))),)
    known = [f"{prefix}_{name}" for prefix in ("APPTAINER", "SINGULARITY") for name in ("CACHEDIR", "DISABLE_CACHE")]
    if any(engine.facts.environment.get(name) for name in known):
        return ()
    return (Variable(f"{engine.prefix}_DISABLE_CACHE", "true"),)


def removal(engine: Engine, paths: tuple[str, ...], fakeroot: bool) -> tuple[Command, ...]:
    """What removes directories with all that a task or a build put there; the last command fails when something is left.

    With --fakeroot there may be files of the caller's further user ids, which only a name space of their own removes.
    """
    spaces = (Command((*_IN_NAME_SPACE, "rm", "-rf", "--", *paths)),) if fakeroot and not engine.root else ()
    return (*spaces, Command((*engine.as_root(), "chmod", "-R", "u+rwX", "--", *paths)),
            Command((*engine.as_root(), "rm", "-rf", "--", *paths)))


def stale_removal(engine: Engine, directory: str, tests: tuple[str, ...], fakeroot: bool) -> Command:
    """What removes the directories in a directory that pass find's `tests`, as far as it can."""
    if fakeroot and not engine.root:
        words: tuple[str, ...] = ("-exec", *_IN_NAME_SPACE, "rm", "-rf", "--", "{}", ";")
    else:
        words = ("-exec", "chmod", "-R", "u+rwX", "--", "{}", ";", "-exec", "rm", "-rf", "--", "{}", ";")
    return Command((*engine.as_root(), "find", directory, "-maxdepth", "1", "-type", "d", *tests, *words))
