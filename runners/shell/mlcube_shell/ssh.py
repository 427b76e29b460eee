"""WHERE: another runner's plan on another machine, over ssh and rsync. Pure: says which steps lead there and back."""

from __future__ import annotations

import os

from mlcube_cli.command import Step, quote
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_cli.parcels import Load, Way
from mlcube_cli.variables import expand_variables
from mlcube_shell.rsync import RSYNC_REASONS, pull_paths, push_code, push_paths
from mlcube_shell.ssh_connection import REASONS, Connection, check_command, connect_command, connection_of, place_of
from mlcube_shell.travel import Travel, travel_of

MARKER = ".mlcube-remote"  # in the cube's directory there: made by us, so that we may delete below it (RULINGS 34)

# Nothing is deleted and nothing of anybody else's is written over: a directory that is not empty must bear the marker.
_MAKE = """\
set -eu
umask 077
root={root}
if [ ! -e "$root/{marker}" ] && [ -n "$(ls -A "$root" 2>/dev/null)" ]; then
  printf '%s is there already, and mlcube did not make it\\n' "$root" >&2
  exit 3
fi
mkdir -p "$root"
[ -e "$root/{marker}" ] || printf '%s\\n' {identifier} > "$root/{marker}"
mkdir -p {directories}
"""


def way(platform: Platform, facts: Facts) -> Way:
    """How the machine is reached: one connection that is kept, for all that follows. Raises DefinitionError, MachineError."""
    connection = connection_of(platform, facts)
    connect = Step(f"connect to {connection.name}", connect_command(connection), unless=check_command(connection),
                   hint=f"try it by hand: ssh {quote(connection.name)}", reasons=REASONS)
    return Way(place_of(connection), connect, REASONS)


def root(platform: Platform, name: str, there: Facts) -> str:
    """`remote_root`, where `~` and `$NAME` mean what they mean there, else `~/.mlcube/cubes/NAME` (RULINGS 34, 35, 37)."""
    option = platform.find("remote_root")
    text = str(option.value) if option and option.value else f"~/.mlcube/cubes/{name}"
    if text == "~" or text.startswith("~/"):
        text = there.home + text[1:]

    def unset(variable: str) -> DefinitionError:
        return DefinitionError(f"remote_root: the variable {variable} is not set there ({option.origin if option else ''})",
                               "write the whole path, or one that begins with ~")

    path = os.path.normpath(os.path.join(there.home, expand_variables(text, there.home, there.environment, unset)))
    if path in ("/", os.path.normpath(there.home)):
        raise DefinitionError(f"remote_root: {path} cannot be a directory of ours",
                              "name one below it, such as ~/.mlcube/cubes/NAME")
    return path


def push(platform: Platform, facts: Facts, load: Load) -> tuple[Step, ...]:
    """The steps that make the cube's directory there and bring it up to date. Raises facts.Missing, MachineError."""
    connection, travel = _both(platform, facts)
    make = Step("make the cube's directory there", place_of(connection).command(_directories(load)), reasons=REASONS,
                hint="empty the directory, or name another one with remote_root")
    code = Step(f"send the cube to {connection.name}", push_code(travel, *load.code, load.leave_out), reasons=RSYNC_REASONS)
    inputs = tuple(Step(f"send {names} to {connection.name}", command, reasons=RSYNC_REASONS)
                   for names, command in push_paths(travel, load.workspace, load.inputs))
    return (make, code, *inputs)


def pull(platform: Platform, facts: Facts, load: Load, kept: tuple[str, ...], suffix: str) -> tuple[Step, ...]:
    """The steps that bring the outputs home. Raises facts.Missing, MachineError."""
    connection, travel = _both(platform, facts)
    return tuple(Step(f"fetch {names} from {connection.name}", command, reasons=RSYNC_REASONS)
                 for names, command in pull_paths(travel, load.workspace, load.outputs, kept, suffix))


def _both(platform: Platform, facts: Facts) -> tuple[Connection, Travel]:
    connection = connection_of(platform, facts)
    return connection, travel_of(connection, platform, facts)


def _directories(load: Load) -> str:
    parents = (os.path.dirname(parcel.there) for parcel in (*load.inputs, *load.outputs))
    wanted = dict.fromkeys((load.code[1], load.workspace[1], os.path.join(load.root, "runs"), *parents))
    return _MAKE.format(root=quote(load.root), marker=MARKER, identifier=quote(load.identifier),
                        directories=" ".join(map(quote, wanted)))
