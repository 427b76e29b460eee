"""Files on disk -> Cube, with everything that is wrong with them: `read_cube`."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.definition.model import Cube
    from mlcube_cli.definition.references import Uses
    from mlcube_cli.definition.tree import Node
    from mlcube_cli.errors import Problem


@dataclass(frozen=True)
class ReadRequest:
    """What to read, and what the command line says to it. `cwd` is absolute; `workspace` is as typed."""

    where: str  # cube directory or definition file, as typed
    overrides: tuple[str, ...] = ()  # `-P` texts: "a.b.c=value"
    platform: str | None = None  # a platform's name, or a platform file (MLBox: also FILE:SECTION)
    workspace: str | None = None
    run_files: tuple[str, ...] = ()  # as typed after --task; those that are files become run configurations
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    cache: str | None = None
    # For what runs, not for what looks at a cube by itself: with the user's and the site's settings, and with what a
    # singularity platform can be made from (`docker_image`, `tar_file`).
    settings: bool = False
    # What runs on the machine that `platform` names, what runs inside of that, ...: platforms' names or files as well. Where
    # this ends, each platform says it itself.
    inside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effective:
    """The whole definition with defaults and overrides as one tree whose nodes know their origin, for `show-config`.

    `tree.plain(node, hide=True)` gives data to print, `tree.origins(node)` where each value came from.
    """

    raw: Node
    resolved: Node  # with references replaced


@dataclass(frozen=True)
class Reading:
    """What was read. Problems of all files at once, errors and warnings; a cube with errors must not be run."""

    cube: Cube | None  # None only when the main file itself cannot be used
    problems: tuple[Problem, ...]
    platform: str | None = None  # the name that `ReadRequest.platform` means; None: none asked for, or its file is broken
    effective: Effective | None = None
    uses: Uses = field(default_factory=dict)
    inside: tuple[str, ...] = ()  # the names of what runs on the machine that `platform` names, inside of that, ...


def read_cube(request: ReadRequest) -> Reading:
    """The cube at `request.where`.

    Raises DefinitionError when there is no cube, UsageError when the command line names a platform or a `-P` path that
    does not exist. Everything else that is wrong is in `problems`.
    """
    from mlcube_cli.definition.reading import read

    return read(request)
