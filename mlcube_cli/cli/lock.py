"""`mlcube lock`, and `configure --update-lock`: what the cube's lock file says is what was seen here, and nothing else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from mlcube_cli.atomic import write_text
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.preparing import Prepared, preparation_job, prepare, read_request
from mlcube_cli.cli.words import sort_out
from mlcube_cli.definition import read_cube
from mlcube_cli.definition.detect import shown_path
from mlcube_cli.definition.model import Cube
from mlcube_cli.errors import DefinitionError, MachineError, PreparationError, UsageError
from mlcube_cli.identity import Identity, Pin
from mlcube_cli.lock_file import Lock, lock_path, read_lock, with_pins
from mlcube_cli.locks import lock as exclusive
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.runner import CONTAINER, RUNNERS

_WAIT = 60.0  # seconds for another mlcube that writes the same lock


def lock(arguments: Arguments) -> int:
    """`mlcube lock`: the platforms that were named, or all whose image is here. 0, or 5 where an image is not here."""
    words = sort_out(arguments.words, arguments.mlcube)
    if words.values or words.tasks:
        raise UsageError("lock takes a cube and nothing else", "mlcube lock CUBE --platform P")
    names = tuple(dict.fromkeys(name for text in arguments.platforms for name in text.split(",") if name))
    cube = _read(arguments)
    refuse_unwritable(lock_path(os.path.join(os.getcwd(), cube.file)))
    found: list[tuple[Prepared, Identity]] = []
    left_out: list[str] = []
    for name in names or _lockable(cube):
        try:
            found.append(_identified(arguments, name))
        except (MachineError, PreparationError) as error:
            if names:
                raise
            left_out.append(f"platform '{name}' is left out: {error.message}")
    if not found:
        raise PreparationError("; ".join(left_out) or "no platform of this cube has an image to lock",
                               "mlcube configure --platform P prepares a platform")
    for sentence in left_out:
        output.warn(sentence)
    written = _write(found[0][0].lock, [_entry(prepared, identity) for prepared, identity in found])
    if arguments.json:
        assert written.document is not None
        output.json_result(written.document.data if isinstance(written.document.data, dict) else {})
    else:
        output.result("".join(_line(*_entry(prepared, identity)) for prepared, identity in found))
    return 0


def renew(prepared: Prepared) -> None:
    """Lock what the platform has now. Raises PreparationError when its image is not here after all."""
    _write(prepared.lock, [_entry(prepared, _present(prepared))])


def identify(prepared: Prepared, renewing: bool = True) -> Identity:
    """What the platform's image is; looked up afresh, since it may just have been made. `renewing`: whatever the lock says."""
    job = preparation_job(prepared, renewing=renewing)
    identity, _ = with_facts(lambda known: prepared.runner.identify(job, known), prepared.afresh(), prepared.look)
    return identity


# --- what to lock --------------------------------------------------------------------------------------------------


def _read(arguments: Arguments) -> Cube:
    """The cube. Raises DefinitionError for one that cannot be read."""
    words = sort_out(arguments.words, arguments.mlcube)
    reading = read_cube(read_request(_asking(arguments, None), words, machine(os.environ)))
    if reading.cube is None:
        raise DefinitionError("this cube cannot be used", problems=reading.problems)
    return reading.cube


def _lockable(cube: Cube) -> tuple[str, ...]:
    """The names of the cube's platforms that have images."""
    kinds = {name: entry.kind for name, entry in RUNNERS.items()}
    return tuple(platform.name for platform in cube.platforms if kinds.get(platform.runner) == CONTAINER)


def _asking(arguments: Arguments, platform: str | None) -> Arguments:
    """The command line as `prepare` takes it, for one platform."""
    return Arguments(**{**vars(arguments), "platform": platform, "runner": None, "overrides": [], "dry_run": True})


def _identified(arguments: Arguments, name: str) -> tuple[Prepared, Identity]:
    prepared = prepare(_asking(arguments, name))
    if RUNNERS[prepared.platform.runner].kind != CONTAINER:
        raise UsageError(f"platform '{name}' has no image to lock: it runs no container",
                         "name platforms that run containers")
    return prepared, _present(prepared)


def _present(prepared: Prepared) -> Identity:
    identity = identify(prepared)
    if not identity.present:
        raise PreparationError(f"image {identity.name} is not here, so there is nothing to lock",
                               f"mlcube configure --platform {prepared.platform.name}")
    for note in identity.notes:
        output.warn(note)
    return identity


def _entry(prepared: Prepared, identity: Identity) -> tuple[str, Pin]:
    if identity.pin is None:
        raise PreparationError(f"image {identity.name} of platform '{prepared.platform.name}' cannot be locked",
                               "mlcube inspect shows what is known of it")
    return prepared.platform.name, identity.pin


def _line(name: str, pin: Pin) -> str:
    return f"{name}  {pin.architecture}  {pin.image}  {pin.digest} ({pin.method})\n"


# --- writing -------------------------------------------------------------------------------------------------------


def refuse_unwritable(path: str) -> None:
    """Raises PreparationError, before anything is prepared, where the lock file could not be written in the end."""
    facts = machine(os.environ)
    directory = os.path.dirname(os.path.realpath(path))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PreparationError(f"{shown_path(path, facts.cwd)} cannot be written: {directory} does not let you write",
                               "check its permissions, or work in a copy of the cube")


def _write(lock: Lock, entries: Sequence[tuple[str, Pin]]) -> Lock:
    """Lay the entries over the lock as it is now, and say what was done. Raises PreparationError when it cannot be written."""
    facts = machine(os.environ)
    with _alone(facts.cache, lock.path):
        now = read_lock(lock.path, facts.cwd, facts.cache)
        text = with_pins(now, entries)
        try:
            if _text(now.path) == text:
                output.say(f"{now.shown} stays as it is")
            else:
                write_text(os.path.realpath(now.path), text)
                output.say(f"wrote {now.shown}: {', '.join(name for name, _ in entries)}")
        except OSError as error:
            raise PreparationError(f"{now.shown} cannot be written: {error.strerror or error}",
                                   "check the permissions of the cube's directory") from None
        return read_lock(now.path, facts.cwd, facts.cache)


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _alone(cache: str | None, path: str) -> Iterator[None]:
    """No other mlcube of ours writes this lock meanwhile, so that entries of both stay."""
    with contextlib.ExitStack() as stack:
        if cache is not None:
            try:
                stack.enter_context(exclusive(os.path.join(cache, "locks"), f"lock-file-{path}", _WAIT, output.say))
            except OSError as error:
                output.say(f"going on without a lock for {path}: {error}")
        yield

