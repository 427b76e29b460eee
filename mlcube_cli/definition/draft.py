"""What a dialect's reader hands over: normal tree, groups, platforms; before overrides and interpolation."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli.definition.tree import Node
from mlcube_cli.errors import Location


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
