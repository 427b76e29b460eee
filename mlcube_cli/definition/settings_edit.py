"""Changes to the text of a settings file that leave the rest of it as it stands: comments, order, spelling. Pure.

A change is made on the lines of the text that it concerns, and then compared with what it should have done to the data.
Where the text is too artful for that (aliases, merge keys), the section that changes is written anew.
"""

from __future__ import annotations

import yaml

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.settings_text import (
    Keys,
    Text,
    TooArtful,
    copy_entry,
    remove_entry,
    rename_entry,
    set_entry,
    write_section,
)
from mlcube_cli.definition.source import parse_document
from mlcube_cli.definition.write_yaml import yaml_text
from mlcube_cli.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.source import Document, Path


class _SpelledFloat(float):
    spelled = ""

    def __repr__(self) -> str:
        return self.spelled


class _SpelledInt(int):
    spelled = ""

    def __repr__(self) -> str:
        return self.spelled


def settings_data(text: str, file: str) -> dict[str, Data]:
    """The text's data, numbers with their own spelling as `repr`; an empty file is empty. Raises DefinitionError."""
    try:
        document = parse_document(text.encode("utf-8", "surrogateescape"), file)
    except DefinitionError as error:
        if all(problem.code == "empty-file" for problem in error.problems):
            return {}
        raise
    data = _spelled(document, document.data, ())
    return data if isinstance(data, dict) else {}


def _spelled(document: Document, data: Data, path: Path) -> Data:
    if isinstance(data, dict):
        return {key: _spelled(document, item, (*path, key)) for key, item in data.items()}
    if isinstance(data, list):
        return [_spelled(document, item, (*path, index)) for index, item in enumerate(data)]
    spelled = document.texts.get(path)
    if spelled is None or isinstance(data, bool) or not isinstance(data, (int, float)):
        return data
    number = _SpelledInt(data) if isinstance(data, int) else _SpelledFloat(data)
    number.spelled = spelled
    return number


# --- the changes ---------------------------------------------------------------------------------------------------


def set_value(text: str, path: Keys, value: Data, written: str = "") -> str:
    """The text with `value` at `path`; mappings on the way are made. `written`: how a scalar is to be spelt."""
    plain = not isinstance(value, (dict, list))
    if plain and written and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = settings_data(f"k: {written}\n", "the value")["k"]
    data = _with(settings_data(text, ""), path, value)
    return _changed(text, path[0], data, lambda: set_entry(Text(text), path, value, written if plain else ""))


def remove(text: str, path: Keys) -> str:
    """The text without the entry at `path`, which must be there."""
    data = _without(settings_data(text, ""), path)
    return _changed(text, path[0], data, lambda: remove_entry(Text(text), path))


def rename(text: str, path: Keys, name: str) -> str:
    """The text with the last key of `path` called `name`, in its old place."""
    data = _renamed(settings_data(text, ""), path, name)
    return _changed(text, path[0], data, lambda: rename_entry(Text(text), path, name))


def copy(text: str, path: Keys, name: str) -> str:
    """The text with a second entry like that at `path`, called `name`, comments inside it included."""
    before = settings_data(text, "")
    data = _with(before, (*path[:-1], name), _at(before, path))
    return _changed(text, path[0], data, lambda: copy_entry(Text(text), path, name))


def _changed(text: str, section: str, data: dict[str, Data], change: Callable[[], str]) -> str:
    """What `change` makes of the text if that holds `data`, else the text with `section` written anew."""
    for way in (change, lambda: write_section(Text(text), section, data), lambda: yaml_text(data)):
        try:
            made = way()
            if _same(settings_data(made, ""), data):
                return made
        except (TooArtful, DefinitionError, yaml.YAMLError):
            continue
    raise AssertionError("YAML text that does not read back")  # yaml_text always does


def _same(left: Data, right: Data) -> bool:
    """Equal, and spelt alike; an empty mapping is as good as none."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(one, other) for one, other in zip(left, right))
    return (left or None, right or None) == (None, None) if {type(left), type(right)} == {dict, type(None)} else \
        repr(left) == repr(right)


# --- what they do to the data --------------------------------------------------------------------------------------


def _at(data: Data, path: Keys) -> Data:
    for key in path:
        data = data[key] if isinstance(data, dict) else None
    return data


def _with(data: Data, path: Keys, value: Data) -> dict[str, Data]:
    held = dict(data) if isinstance(data, dict) else {}
    held[path[0]] = _with(held.get(path[0]), path[1:], value) if path[1:] else value
    return held


def _without(data: Data, path: Keys) -> dict[str, Data]:
    held = dict(data) if isinstance(data, dict) else {}
    if path[1:]:
        held[path[0]] = _without(held.get(path[0]), path[1:])
    else:
        held.pop(path[0], None)
    return held


def _renamed(data: Data, path: Keys, name: str) -> dict[str, Data]:
    held = data if isinstance(data, dict) else {}
    if path[1:]:
        return {key: _renamed(item, path[1:], name) if key == path[0] else item for key, item in held.items()}
    return {name if key == path[0] else key: item for key, item in held.items()}
