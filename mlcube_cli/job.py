"""A Job: one task with everything decided that does not depend on the engine. A value; runners turn it into words."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import Data, Option, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Argument:
    """A parameter bound to a path of this machine. `host_path` is absolute and normalised (no `..`, no trailing slash)."""

    name: str
    direction: str  # "input" | "output"
    type: str  # "file" | "directory"; "unknown" only for an MLBox output that is not there yet (RULINGS 6)
    mode: str  # "ro" | "rw"
    host_path: str


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

    def words(self, paths: Mapping[str, str]) -> tuple[str, ...]:
        """The task's own command line, with each argument's path as the task sees it.

        Directory and inline: the task's name first (unless it has its own entrypoint), then `--name=path`, inputs then
        outputs. MLBox: `--mlbox_task=TASK` and the arguments, sorted (spec/dialects 1.6, 2.7, 3.8).
        """
        seen = {argument.name: f"--{argument.name}={paths[argument.name]}" for argument in self.arguments}
        if self.dialect == "mlbox":
            return tuple(sorted((f"--mlbox_task={self.task}", *seen.values())))
        first = () if self.entrypoint else (self.task,)
        return (*first, *seen.values())

    def option(self, name: str) -> Data:
        return self.platform.option(name)

    def find_option(self, name: str) -> Option | None:
        return self.platform.find(name)
