"""A *valid* cube, as frozen values; the same model for all three dialects."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import NOWHERE, Location

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

TEXT = "text"  # the type of a parameter that is no path
OVERRIDE = "-P"  # the origin of values that the command line set; no definition file comes before them

TYPED = "--platform"  # the origin of what a platform's name says by itself, such as the executable of podman

# What a YAML document can hold once it is read: plain data, never a tagged object.
Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"


@dataclass(frozen=True)
class Author:
    name: str
    email: str = ""
    org: str = ""


@dataclass(frozen=True)
class Parameter:
    """One input or output of a task: a file or a directory, passed as `--name=PATH`; or a text, passed as it is."""

    name: str
    direction: str  # "input" | "output"
    type: str  # "file" | "directory" | "unknown" | "text"
    default: str | None  # None: nothing is bound; the parameter is left out, or the user must give it
    mode: str  # "ro" | "rw": what the definition asks for (inputs "ro" unless `opts: rw`, outputs "rw")
    description: str = ""
    location: Location = NOWHERE  # where the default stands, else where the parameter is declared
    mode_stated: bool = False  # the definition says `opts` in so many words


@dataclass(frozen=True)
class Binding:
    """A value for a parameter, with where it stands; None: the parameter is skipped."""

    parameter: str
    value: str | None
    location: Location


@dataclass(frozen=True)
class Group:
    """A named set of values for a task's parameters: a run configuration (directory) or a parameter group (MLBox)."""

    name: str
    task: str
    bindings: tuple[Binding, ...]
    location: Location  # .file is the file, as shown to the user

    def binding(self, parameter: str) -> Binding | None:
        return next((binding for binding in self.bindings if binding.parameter == parameter), None)


@dataclass(frozen=True)
class Task:
    """`entrypoint` is None where the image's or platform's own entry point runs with the task's name as first word."""

    name: str
    parameters: tuple[Parameter, ...]  # inputs then outputs, in the order of the definition
    entrypoint: tuple[str, ...] | None = None
    groups: tuple[Group, ...] = ()
    location: Location = NOWHERE

    def parameter(self, name: str) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


@dataclass(frozen=True)
class Option:
    """A platform's setting under its canonical name (docs/platforms.md), with where the value came from.

    `origin` is `FILE:LINE:COLUMN`, `default`, `-P` or the flag's name. `secret` marks a value that was taken from the
    environment (`${oc.env:X}`) and is therefore neither printed nor recorded; of a map only its `secret_keys` are,
    among them what `-P` put into it. `own` marks a value of the user's own settings; of a map only its `own_keys` are.
    """

    name: str
    value: Data
    origin: str = "default"
    secret: bool = False
    secret_keys: tuple[str, ...] = ()
    own: bool = False
    own_keys: tuple[str, ...] = ()

    def hides(self, key: str) -> bool:
        """Is the map's value under `key` a secret?"""
        return key in self.secret_keys if self.secret_keys else self.secret


@dataclass(frozen=True)
class Platform:
    """A place to run: the runner's name and its options, already under canonical names."""

    name: str
    runner: str  # "docker" | "singularity" | "local" | "ssh" | "slurm"
    options: tuple[Option, ...]
    location: Location

    def option(self, name: str) -> Data:
        """The option's value, or None where it is not set."""
        found = self.find(name)
        return found.value if found else None

    def find(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)


@dataclass(frozen=True)
class Cube:
    """A cube as the definition states it. All paths are absolute; any byte may be in them (surrogateescape)."""

    root: str
    file: str  # the main definition file
    dialect: str  # "mlbox" | "directory" | "inline"
    name: str
    version: str
    description: str
    authors: tuple[Author, ...]
    workspace: str
    tasks: tuple[Task, ...]
    platforms: tuple[Platform, ...]
    requirements: Mapping[str, Data] = field(default_factory=dict)  # the `platform:` section: accelerator_count, ...
    convention: str = ""  # "mlbox": its programs are called as those of an MLBox, whatever the dialect of the definition

    @property
    def calling(self) -> str:
        """The dialect by whose rules the programs are called (spec/dialects 1.6, 2.7, 3.8)."""
        return self.convention or self.dialect

    def task(self, name: str) -> Task | None:
        return next((task for task in self.tasks if task.name == name), None)

    def platform(self, name: str) -> Platform | None:
        return next((platform for platform in self.platforms if platform.name == name), None)
