"""WHERE: another runner's plan on another machine, over ssh and rsync. Pure: says which steps lead there and back."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli.command import Command, Step, quote
from mlcube_cli.definition.model import Data, Platform
from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Facts, FileText, Probe
from mlcube_cli.parcels import Listed, Load, Way
from mlcube_cli.variables import expand_variables
from mlcube_shell.rsync import REASONS, Travel, list_command, parse_listing
from mlcube_shell.ssh_connection import (
    Connection,
    connect_step,
    connection_of,
    feed_of,
    place_of,
    reasons_of,
    remote_shell,
    rsync_host,
)
from mlcube_shell.travel import IGNORE_FILE, UNFINISHED, bring_outputs, send_code, send_inputs, travel_of, user_rules

MARKER = ".mlcube-remote"  # in the cube's directory there: made by us, so that we may delete below it (RULINGS 34)

# Nothing is deleted and nothing of anybody else's is written over: a directory that is not empty must bear the marker, with the
# cube's id or its name, and both are this user's. So clones of one cube may share it; another cube, or another user, may not.
_MAKE = """\
set -eu
umask 077
root={root}
marker=$root/{marker}
cube={name}
for one in "$root" "$marker"; do
  if [ -e "$one" ] && [ -z "$(find -H "$one" -prune -user "$(id -u)")" ]; then
    printf '%s belongs to another user\\n' "$one" >&2
    exit 3
  fi
done
if [ ! -e "$marker" ] && [ -e "$root" ] && {{ ! found=$(ls -A "$root" 2>/dev/null) || [ -n "$found" ]; }}; then
  printf '%s is there already, and mlcube did not make it\\n' "$root" >&2
  exit 3
fi
mkdir -p "$root"
name=
if [ -s "$marker" ]; then
  {{ IFS= read -r found || :; IFS= read -r name || :; }} < "$marker"
  if [ "$found" != {identifier} ] && [ "$name" != "$cube" ]; then
    printf '%s belongs to another cube: %s\\n' "$root" "$name" >&2
    exit 3
  fi
else
  chmod 700 "$root"
fi
if [ ! -s "$marker" ] || [ "$name" != "$cube" ]; then
  printf '%s\\n%s\\n' {identifier} "$cube" > "$marker"
fi
mkdir -p {directories}
"""


def way(platform: Platform, facts: Facts) -> Way:
    """How the machine is reached: one connection that is kept, for all that follows. Raises DefinitionError, MachineError."""
    connection = connection_of(platform, facts)
    return Way(place_of(connection), connect_step(connection), feed_of(connection), reasons_of(connection),
               connection.control_path)


def root(platform: Platform, name: str, there: Facts) -> str:
    """`remote_root`, where `~` and `$NAME` mean what they mean there, else `~/.mlcube/cubes/NAME` (RULINGS 34, 35, 37). That of
    the user's settings is for every cube, so each has a directory below it."""
    option = platform.find("remote_root")
    text = str(option.value) if option and option.value else f"~/.mlcube/cubes/{name}"
    if option and option.value and option.own:
        text = os.path.join(text, name)
    at_home = text == "~" or text.startswith("~/")

    def unset(variable: str) -> DefinitionError:
        return DefinitionError(f"remote_root: the variable {variable} is not set there ({option.origin if option else ''})",
                               "write the whole path, or one that begins with ~")

    rest = expand_variables(text[1:] if at_home else text, there.home, there.environment, unset)
    path = "/" + os.path.normpath(there.home + rest if at_home else os.path.join(there.home, rest)).lstrip("/")
    if path in ("/", os.path.normpath(there.home)):
        raise DefinitionError(f"remote_root: {path} cannot be a directory of ours",
                              "name one below it, such as ~/.mlcube/cubes/NAME")
    return path


def push(platform: Platform, facts: Facts, load: Load) -> tuple[Step, ...]:
    """The steps that make the cube's directory there and bring it up to date. Raises facts.Missing, MachineError."""
    connection, travel = _both(platform, facts, load)
    make = () if load.made else (Step("make the cube's directory there", place_of(connection).command(_directories(load)),
                                 reasons=reasons_of(connection),
                                 hint="name another directory: -Prunner.remote_root=DIRECTORY"),)
    inputs = send_inputs(travel, load, facts)
    return (*make, Step(f"send the cube to {connection.name}", send_code(travel, load), reasons=REASONS),
            *(Step(f"send inputs to {connection.name}", command, reasons=REASONS) for command in inputs))


def pull(platform: Platform, facts: Facts, load: Load, kept: tuple[str, ...], suffix: str) -> tuple[Step, ...]:
    """The steps that bring the outputs home. Raises facts.Missing, MachineError."""
    connection, travel = _both(platform, facts, load)
    return tuple(Step(f"fetch outputs from {connection.name}", command, reasons=REASONS)
                 for command in bring_outputs(travel, load, facts, kept, suffix))


def told(step: Step, doing: bool = False) -> Command | None:
    """The transfer as rsync's dry run, or, `doing` it, with rsync's list of it; None where the step is none."""
    return list_command(step.command, doing) if step.command.argv[0] == "rsync" else None


def listed(step: Step, text: str) -> tuple[Listed, ...]:
    """What `told` says, with paths of this machine."""
    return parse_listing(text, step.command)


def _both(platform: Platform, facts: Facts, load: Load) -> tuple[Connection, Travel]:
    """The connection and what rsync needs to know. Raises MachineError where there is no rsync on this machine."""
    connection = connection_of(platform, facts)
    ignore = os.path.join(load.code[0], IGNORE_FILE)
    version = Probe(Command(("rsync", "--version")))
    facts.need(version, FileText(ignore))
    said = facts.probe(version.command)
    if said.exit_code == 127:
        raise MachineError("'rsync' is not on PATH", "install rsync (Debian, Fedora and Homebrew: rsync)")
    option = platform.option("sync")
    sync = option if isinstance(option, dict) else {}
    rules = user_rules(_texts(sync.get("include")), _texts(sync.get("exclude")), facts.text(ignore))
    travel = travel_of(remote_shell(connection), rsync_host(connection), sync, rules, said.stdout, load.rsync)
    return connection, replace(travel, progress=facts.terminal)


def _texts(value: Data) -> tuple[str, ...]:
    return () if value is None else tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)


def places(load: Load) -> tuple[str, ...]:
    """What must be there before anything is sent: our marker, which holds the cube's id and name, and directories."""
    parents = (os.path.dirname(parcel.there) for parcel in (*load.inputs, *load.outputs) if not load.is_of_code(parcel))
    wanted = (load.code[1], load.workspace[1], os.path.join(load.root, "runs"), os.path.join(load.root, UNFINISHED), *parents)
    return (os.path.join(load.root, MARKER), *dict.fromkeys(wanted))


def _directories(load: Load) -> str:
    return _MAKE.format(root=quote(load.root), marker=MARKER, identifier=quote(load.identifier), name=quote(load.name),
                        directories=" ".join(map(quote, places(load)[1:])))
