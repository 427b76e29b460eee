"""What the words that definitions write under `type` mean."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import TEXT
from mlcube_cli.definition.tree import Node, text_at

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: Mapping[str, str] = {
    "file": "file", "directory": "directory", "unknown": "unknown",
    **dict.fromkeys(("string", "str", "text", "int", "integer", "float", "number", "bool", "boolean"), TEXT),
}
# Read, with a warning that names the word to write: `path` does not say which of the two it is.
UNUSUAL: Mapping[str, str] = {"folder": "directory", "dir": "directory", "path": "unknown"}


def kind_of(parameter: Node | None) -> str:
    """`file`, `directory`, `text`, or `unknown` where the parameter's `type` is absent or no word that we know."""
    word = text_at(parameter, "type")
    return _KINDS.get(word) or UNUSUAL.get(word, "unknown")


def is_text(parameter: Node | None) -> bool:
    """True for a parameter that is no path: the task gets its value as it is."""
    return kind_of(parameter) == TEXT
