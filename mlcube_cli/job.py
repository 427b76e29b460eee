"""A Job: one task with everything decided that does not depend on the engine. A value; runners turn it into words."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import Data, Option, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.identity import Pin


@dataclass(frozen=True)
class Argument:
    """A parameter bound to a path of this machine, or to a text that the task gets as it is.

    `host_path` is absolute and normalised (no `..`, no trailing slash); empty where `text` is the value.
    """

    name: str
    direction: str  # "input" | "output"
    type: str  # "file" | "directory"; "text"; "unknown" only for an MLBox output that is not there yet (RULINGS 6)
    mode: str  # "ro" | "rw"
    host_path: str
    text: str | None = None  # None: a path; else what the task gets after `=`, word for word


@dataclass(frozen=True)
class Copy:
    """An input of the cube's own workspace that a workspace elsewhere lacks: copied there before the run. Absolute paths."""

    name: str  # the parameter's
    source: str
    target: str


@dataclass(frozen=True)
class Job:
    """One task of one cube on one platform, ready for a runner."""

    run_id: str  # unique per task run; names the container
    cube: str  # the cube's name
    root: str
    workspace: str
    dialect: str
    task: str
    entrypoint: tuple[str, ...] | None  # the task's own; None: the platform's or the image's
    arguments: tuple[Argument, ...]  # inputs then outputs, in the definition's order
    platform: Platform
    requirements: Mapping[str, Data] = field(default_factory=dict)
    interactive: bool = False
    grace: float = 10.0  # seconds between TERM and KILL
    timeout: float | None = None  # seconds, for the payload only
    variables: tuple[tuple[str, str], ...] = ()  # MLBox exec: keys and values of the parameters_file
    assume: bool = False  # dry run: where the engine does not answer, assume an absent image and say so in the notes
    copies: tuple[Copy, ...] = ()  # done before the task, as preparation (staging.with_copies)
    lock: str = ""  # the cube's lock file, as shown to the user; "" where there is none, or where it is to be renewed
    locking: bool = False  # its image is to be locked: made from a source that can be named again
    pins: tuple[Pin, ...] = ()  # what it says of this platform, one an architecture
    other_pins: tuple[Pin, ...] = ()  # what it says of other platforms, which this one's image may be made from
    batch: bool = False  # a batch system starts it: what devices, processes and variables it has is known only there and then

    @property
    def command_id(self) -> str:
        """The part of the run id that all tasks of one command share: what preparation for them may be named after."""
        return self.run_id.rpartition("-")[0]

    @property
    def paths(self) -> tuple[Argument, ...]:
        """The arguments that are paths: what is looked at, mounted and made. The others are texts."""
        return tuple(argument for argument in self.arguments if argument.text is None)

    @property
    def host_paths(self) -> Mapping[str, str]:
        """The paths by the arguments' names, for a runner whose tasks see this machine itself."""
        return {argument.name: argument.host_path for argument in self.paths}

    def seen(self, paths: Mapping[str, str]) -> tuple[tuple[Argument, str], ...]:
        """Each argument with what the task gets after `=`: the path in `paths`, under the argument's name, or its text."""
        return tuple((argument, paths[argument.name] if argument.text is None else argument.text)
                     for argument in self.arguments)

    def words(self, paths: Mapping[str, str]) -> tuple[str, ...]:
        """The task's own command line, with each argument's path as the task sees it, and texts as they are.

        Directory and inline: the task's name first (unless it has its own entrypoint), then `--name=path`, inputs then
        outputs. MLBox: `--mlbox_task=TASK` and the arguments, sorted (spec/dialects 1.6, 2.7, 3.8).
        """
        seen = tuple(f"--{argument.name}={value}" for argument, value in self.seen(paths))
        if self.dialect == "mlbox":
            return tuple(sorted((f"--mlbox_task={self.task}", *seen)))
        first = () if self.entrypoint else (self.task,)
        return (*first, *seen)

    def option(self, name: str) -> Data:
        return self.platform.option(name)

    def find_option(self, name: str) -> Option | None:
        return self.platform.find(name)
