"""Outputs brought home from another machine: at the end of a run, in the middle of it, or again, from a new terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlcube_cli.cli import output
from mlcube_cli.cli.compared import listed_by, written_over
from mlcube_cli.cli.connecting import connect
from mlcube_cli.cli.executing import why_failed
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.transfer_line import run_transfer
from mlcube_cli.command import Step
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import NOWHERE, Interrupted, MLCubeError, TransferError
from mlcube_cli.facts import Facts
from mlcube_cli.manifest import (
    SUFFIX,
    Manifest,
    changed_since,
    last_known,
    load_manifest,
    renewed,
    save_manifest,
    take_manifest,
    with_changes_since,
)
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.parcels import Load, Parcel, Way
from mlcube_cli.process import Session
from mlcube_cli.relocation import is_at_or_below
from mlcube_cli.run_index import Entry
from mlcube_cli.runner import load_carrier

_OF_TASKS = ("env", "setup", "modules")  # of the platform's options: what tasks have there, which may be secret


@dataclass(frozen=True)
class Homeward:
    """What a command line brings home, and from where; it can be written down (`as_data`) and read again."""

    platform: Platform
    load: Load
    identifier: str  # what the runs of the command line share
    directory: str = ""  # the current one of the command line, which the platform's options may be relative to

    @property
    def name(self) -> str:
        return self.platform.name

    def remember(self) -> None:
        """How the outputs are here now: what is changed here before they come home is not written over (RULINGS 36)."""
        try:
            os.makedirs(os.path.dirname(self._file), mode=0o700, exist_ok=True)
            outputs = [parcel.here for parcel in self.load.outputs]
            save_manifest(self._file, with_changes_since(take_manifest(outputs), last_known(here(), outputs)))
        except OSError as error:
            output.warn(f"{self._file} cannot be written ({error.strerror or error}): outputs that are changed here meanwhile "
                        "will be kept, whatever they were before")

    def bring(self, session: Session, facts: Facts | None = None) -> MLCubeError | None:
        """Fetch the outputs; the error where that fails or is interrupted. What is here already travels no more.

        `facts`: what is known of this machine already.
        """
        before = load_manifest(self._file) or Manifest(tuple(parcel.here for parcel in self.load.outputs))
        try:
            kept = self._kept(before, facts)
        except MLCubeError as trouble:
            return trouble
        for number, step in enumerate(self.steps(kept, facts)):
            if not number:
                output.say(step.title)
            outcome = run_transfer(session, step)
            if outcome.status == "cancelled":
                return Interrupted(outcome.signal or 2)
            if outcome.status != "succeeded":
                error = why_failed(step, outcome, TransferError)
                return TransferError(error.message, f"{error.hint}; then mlcube fetch {self.identifier} brings them home")
        self._after(before, kept)
        return None

    def _kept(self, before: Manifest, facts: Facts | None) -> tuple[str, ...]:
        """Of what was changed here what would be written over: not what an earlier try has brought. Raises MLCubeError."""
        if not before.came and not changed_since(before):
            return ()
        items = listed_by(load_carrier(self.platform.runner), self.steps((), facts))
        return written_over(items, self.load.outputs, before)

    def steps(self, kept: tuple[str, ...] = (), facts: Facts | None = None) -> tuple[Step, ...]:
        """The steps that bring the outputs home; what lies at or below the paths `kept` here stays. Raises MLCubeError."""
        carrier = load_carrier(self.platform.runner)
        return with_facts(lambda known: carrier.pull(self.platform, known, self.load, kept, self.suffix),
                          facts or self.look_around())[0]

    def look_around(self) -> Facts:
        """What is known of this machine, as the command line saw it."""
        facts = machine(os.environ)
        return replace(facts, cwd=self.directory or facts.cwd)

    @property
    def suffix(self) -> str:
        """What is added to the name of an output that was changed on both machines."""
        return f".from-{''.join(c if c.isalnum() or c in '.-_' else '-' for c in self.name)}-{self.identifier}"

    @property
    def _file(self) -> str:
        return os.path.join(here(), f"{self.identifier}{SUFFIX}")

    def _after(self, before: Manifest, kept: tuple[str, ...]) -> None:
        came = [path for path in kept if os.path.lexists(self._beside(path))]
        for path in came:
            output.warn(f"{path} was changed here meanwhile and stays; the one from {self.name} is {self._beside(path)}")
        try:
            save_manifest(self._file, renewed(before, kept))
        except OSError:
            pass

    def _beside(self, path: str) -> str:
        """Where what came for a kept path lies: beside the output that it is part of."""
        top = next((parcel.here for parcel in self.load.outputs if is_at_or_below(path, parcel.here)), path)
        return f"{top}{self.suffix}{path[len(top):]}"

    def as_data(self) -> dict[str, Any]:
        """As JSON data, without anything secret: what leads there stands in ssh's words, which are kept as well."""
        kept = [option for option in self.platform.options if option.name not in _OF_TASKS]
        return {"platform": {"name": self.platform.name, "runner": self.platform.runner,
                             "options": {option.name: option.value for option in kept},
                             "literal": [option.name for option in kept if option.secret]},
                "load": asdict(self.load), "identifier": self.identifier, "directory": self.directory}


def from_data(data: Mapping[str, Any]) -> Homeward:
    """The inverse of `as_data`. Raises KeyError, TypeError for anything else."""
    platform, load = data["platform"], data["load"]
    literal = platform.get("literal", ())  # nothing expands in them: their values were taken from the environment
    options = tuple(Option(name, value, "the run's own note", secret=name in literal)
                    for name, value in platform["options"].items())
    inputs, outputs = (tuple(Parcel(**parcel) for parcel in load[which]) for which in ("inputs", "outputs"))
    return Homeward(
        Platform(platform["name"], platform["runner"], options, NOWHERE),
        Load(load["root"], load["identifier"], (load["code"][0], load["code"][1]), (load["workspace"][0], load["workspace"][1]),
             tuple(load["leave_out"]), inputs, outputs, rsync=load["rsync"]), data["identifier"], data.get("directory", ""))


def bring_home(entry: Entry) -> MLCubeError | None:
    """`mlcube fetch` of a command line on another machine, once or again. Raises MLCubeError where it cannot be reached."""
    if entry.fetch is None:
        return None
    homeward = from_data(entry.fetch)
    with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say) as session:
        connect(_way(homeward), session)
        return homeward.bring(session)


def connected(entry: Entry, session: Session) -> Entry:
    """The entry with an open way to its machine; a password is asked for on the terminal. Raises MachineError, Interrupted."""
    if entry.fetch is None or entry.supervised is None:
        return entry
    way = _way(from_data(entry.fetch))
    connect(way, session)
    return replace(entry, supervised=replace(entry.supervised, reach=way.place.reach))


def _way(homeward: Homeward) -> Way:
    carrier = load_carrier(homeward.platform.runner)
    return with_facts(lambda known: carrier.way(homeward.platform, known), homeward.look_around())[0]
