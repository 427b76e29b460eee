"""`$NAME` in values that are expanded before a run: one grammar for paths, options and `--workspace`."""

from __future__ import annotations

import re

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")  # what shells and engines take for one
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\})")


def expand_variables(text: str, workspace: str, environment: Mapping[str, str], unset: Callable[[str], Exception]) -> str:
    """`text` with `$NAME`, `${NAME}` and `$$` (a dollar) replaced, once; `$WORKSPACE` is always ours (RULINGS 1).

    Raises what `unset` makes of the name of a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["bare"] or match["braced"]
        if name == "WORKSPACE":
            return workspace
        if name not in environment:
            raise unset(name)
        return environment[name]

    return VARIABLE.sub(value, text)
