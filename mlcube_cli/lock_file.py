"""The lock file of a cube, `mlcube.lock` beside it: reading it, laying new entries over it, writing it (docs/lock.md)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.detect import shown_path
from mlcube_cli.definition.store import read_checked
from mlcube_cli.errors import DefinitionError, Location, Problem
from mlcube_cli.identity import Pin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlcube_cli.definition.model import Data, Platform
    from mlcube_cli.definition.source import Document
    from mlcube_cli.job import Job

SCHEMA = "mlcube.lock.v1"
_AGAIN = "take the file back from version control, or remove it and lock again: mlcube lock"


@dataclass(frozen=True)
class Lock:
    """A lock file. `document` None: there is none yet."""

    path: str
    shown: str  # its path as messages show it
    document: Document | None = None
    warnings: tuple[Problem, ...] = ()

    def pins(self, platform: Platform) -> tuple[Pin, ...]:
        """What the lock says of a platform: under its name, else under its runner's (`podman` runs docker's image)."""
        found = (self._pins_of(name) for name in (platform.name, platform.runner))
        return next((pins for pins in found if pins), ())

    def other_pins(self, platform: Platform) -> tuple[Pin, ...]:
        """What the lock says of the others."""
        own = {pin.platform for pin in self.pins(platform)}
        names = _entry(self.document.data if self.document else None, "platforms")
        return tuple(pin for name in names if name not in own for pin in self._pins_of(name))

    def _pins_of(self, name: str) -> tuple[Pin, ...]:
        entries = _entry(_entry(self.document.data if self.document else None, "platforms"), name)
        return tuple(self._pin(name, architecture, _entry(entries, architecture)) for architecture in entries)

    def _pin(self, platform: str, architecture: str, entry: dict[str, Data]) -> Pin:
        assert self.document is not None
        image, method, digest = (str(entry.get(key)) for key in ("image", "method", "digest"))
        return Pin(image, method, digest, architecture,
                   self.document.location(("platforms", platform, architecture, "digest")), platform)


def _entry(data: Data, name: str) -> dict[str, Data]:
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def lock_path(definition: str) -> str:
    """Where the lock of a cube lies: `mlcube.yaml` -> `mlcube.lock`, of any other definition file likewise."""
    return os.path.splitext(definition)[0] + ".lock"


def read_lock(definition: str, cwd: str, cache: str | None) -> Lock:
    """The lock beside the definition file. Raises DefinitionError for one that cannot be used, with the place."""
    path = lock_path(definition)
    lock = Lock(path, shown_path(path, cwd))
    if not os.path.lexists(path):
        return lock
    try:
        checked = read_checked(path, _schema_of, cache, lock.shown)
    except DefinitionError as error:
        found = error.problems or (Problem(error.location or Location(lock.shown), error.message, "lock-damaged"),)
        raise _damaged(found) from None
    if checked.schema is None:
        raise _not_a_lock(checked.document)
    if any(problem.severity == "error" for problem in checked.problems):
        raise _damaged(checked.problems)
    return Lock(path, lock.shown, checked.document, checked.problems)


def _schema_of(document: Document) -> str | None:
    return SCHEMA if isinstance(document.data, dict) and document.data.get("schema") == SCHEMA else None


def _not_a_lock(document: Document) -> DefinitionError:
    schema = document.text(("schema",))
    location = document.location(("schema",))
    if schema and schema.startswith("mlcube.lock."):
        problem = Problem(location, f"this lock is of a later version ({schema}); this program knows {SCHEMA}", "lock-version",
                          "update mlcube")
    else:
        problem = Problem(location, f"this is no lock of mlcube: it does not say \"schema\": \"{SCHEMA}\"", "lock-damaged",
                          _AGAIN)
    return DefinitionError(problem.message, problem.hint, location, problems=(problem,))


def _damaged(problems: Iterable[Problem]) -> DefinitionError:
    return DefinitionError("the lock file cannot be used", problems=[
        replace(problem, hint=_AGAIN) if problem.severity == "error" else problem for problem in problems])


def under(lock: Lock, job: Job) -> Job:
    """The job as the lock binds it."""
    if lock.document is None:
        return job
    return replace(job, lock=lock.shown, pins=lock.pins(job.platform), other_pins=lock.other_pins(job.platform))


# --- writing -------------------------------------------------------------------------------------------------------


def with_pins(lock: Lock, pins: Iterable[tuple[str, Pin]]) -> str:
    """The lock's text with these entries (by the platforms' names) laid over it; sorted, and the same for the same images.

    What other platforms and other architectures have is kept, and keys that this version does not know.
    """
    data = dict(lock.document.data) if lock.document and isinstance(lock.document.data, dict) else {}
    platforms = {name: dict(_entry(data.get("platforms"), name)) for name in _entry(data, "platforms")}
    for name, pin in pins:
        kept = _entry(platforms.get(name), pin.architecture)
        platforms.setdefault(name, {})[pin.architecture] = {
            **kept, "image": pin.image, "method": pin.method, "digest": pin.digest}
    ordered = {name: dict(sorted(platforms[name].items())) for name in sorted(platforms)}
    rest = {key: value for key, value in data.items() if key not in ("schema", "platforms")}
    return json.dumps({"schema": SCHEMA, **rest, "platforms": ordered}, indent=2, ensure_ascii=True) + "\n"
