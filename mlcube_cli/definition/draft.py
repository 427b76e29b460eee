"""What a dialect's reader hands over: normal tree, groups, platforms; before overrides and interpolation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.tree import Node, from_data
from mlcube_cli.errors import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class PlatformDraft:
    """A platform whose options stand under their canonical names already."""

    name: str
    runner: str
    options: Node  # a mapping
    location: Location
    file: str = ""  # absolute; the file that defines it


@dataclass(frozen=True)
class GroupDraft:
    """A run configuration or parameter group: values by (direction, parameter). A null value skips the parameter."""

    name: str
    task: str
    values: tuple[tuple[str, str, Node], ...]  # (direction, parameter, value); direction "" where the dialect has none
    location: Location
    default: bool = False  # this one gives the parameters their defaults


@dataclass(frozen=True)
class Draft:
    """A cube as its dialect's reader found it.

    `tree` is shaped like an inline cube: name, version, description, authors, platform, and
    tasks.T.{entrypoint, parameters.{inputs,outputs}.P.{type, default, opts, description}}.
    """

    dialect: str
    file: str  # absolute
    tree: Node
    groups: tuple[GroupDraft, ...] = ()
    platforms: tuple[PlatformDraft, ...] = ()


def with_options(draft: Draft, change: Callable[[PlatformDraft], Node]) -> Draft:
    """The draft with the options that `change` gives each platform."""
    return replace(draft, platforms=tuple(replace(item, options=change(item)) for item in draft.platforms))


def generated(root: str, workspace: str) -> Mapping[str, Node]:
    """What references can name although nobody writes it (spec/dialects 3.3)."""
    return {"workspace": from_data(workspace, "generated"),
            "runtime": from_data({"root": root, "workspace": workspace}, "generated")}
