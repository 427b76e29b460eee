"""What the user wrote in a platform's options, as words: splitting, expanding, errors that name option and place."""

from __future__ import annotations

import re

from mlcube_cli.definition.model import Data, Option
from mlcube_cli.errors import DefinitionError, Location
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.variables import expand_variables

_COMMAND = re.compile(r"`|(?<!\$)(?:\$\$)*\$\(")  # what a shell would run
_TILDE = re.compile(r"(?:--?[A-Za-z][A-Za-z0-9-]*=|)(~)(?=/|:|\Z)")
_NAME = re.compile(r"[^=\x00]+\Z")


def refuse(option: Option, message: str, hint: str = "") -> DefinitionError:
    """The error about this option's value, with the place where the value was written."""
    file, line, column = _place(option.origin)
    where = None if file == "default" else Location(file, line, column)
    return DefinitionError(f"'{option.name}': {message}", hint, where)


def _place(origin: str) -> tuple[str, int, int]:
    file, _, rest = origin.partition(":") if origin.count(":") < 2 else _last_two(origin)
    line, _, column = rest.partition(":")
    return (file, int(line), int(column)) if line.isdigit() and column.isdigit() else (origin, 0, 0)


def _last_two(origin: str) -> tuple[str, str, str]:
    file, line, column = origin.rsplit(":", 2)
    return file, ":", f"{line}:{column}"


def scalar(option: Option, value: Data) -> str:
    """One value of YAML as the text that a command line takes. Raises DefinitionError for a list, a map, or nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        text = str(value)
        if "\x00" in text:
            raise refuse(option, "a NUL byte cannot be passed to a command")
        return text
    raise refuse(option, f"expected a text, found {_kind(value)}")


def text_option(job: Job, name: str) -> str | None:
    """The option's value as text; None where it is not set or null."""
    option = job.find_option(name)
    return None if option is None or option.value is None else scalar(option, option.value)


def list_option(job: Job, name: str) -> tuple[str, ...]:
    """The option as texts, one word each; a single text is a list of one."""
    option = job.find_option(name)
    if option is None or option.value is None:
        return ()
    items = option.value if isinstance(option.value, list) else [option.value]
    return tuple(scalar(option, item) for item in items)


def flag_option(job: Job, name: str) -> bool:
    """An option that is true or false. Raises DefinitionError for anything else."""
    option = job.find_option(name)
    if option is None or option.value is None:
        return False
    if isinstance(option.value, bool):
        return option.value
    raise refuse(option, f"expected true or false, found {_kind(option.value)}")


def split_option(job: Job, name: str, facts: Facts) -> tuple[str, ...]:
    """The option as words: a string is split by shell rules and `~` and `$NAME` expand once, a list is one word each.

    Nothing else of a shell is there: no substitution of commands, no patterns. Values that came from the environment
    do not expand again. Raises DefinitionError for quotes that do not close, commands, and unset variables.
    """
    option = job.find_option(name)
    if option is None or option.value is None:
        return ()
    if isinstance(option.value, list):
        return list_option(job, name)
    words = split_words(option, scalar(option, option.value))
    return words if option.secret else tuple(expand(option, word, job.workspace, facts) for word in words)


def expanded_option(job: Job, name: str, facts: Facts) -> str | None:
    """The option as one text, a path as a rule: `~` and `$NAME` expand once. None where it is not set, null or blank.

    Raises DefinitionError for unset variables.
    """
    option, text = job.find_option(name), text_option(job, name)
    if option is None or text is None or not text.strip():
        return None
    return text if option.secret else expand(option, text, job.workspace, facts)


def expanded_texts(job: Job, name: str, facts: Facts) -> tuple[tuple[Option, str], ...]:
    """The option as texts, one word each, in which `~` and `$NAME` expand once; each with the option for errors."""
    option = job.find_option(name)
    if option is None:
        return ()
    texts = list_option(job, name)
    return tuple((option, text if option.secret else expand(option, text, job.workspace, facts)) for text in texts)


def split_words(option: Option, text: str) -> tuple[str, ...]:
    """A string as words, by shell rules. Raises DefinitionError where it cannot be split."""
    import shlex

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise refuse(option, f"cannot be split into words: {str(error).lower()} in {text!r}",
                     "close the quote, or write a list of words") from None


def mapping_option(job: Job, name: str) -> tuple[tuple[str, str | None], ...]:
    """The option as (NAME, value) pairs; None is a null of YAML: the caller's own value. Raises DefinitionError."""
    option = job.find_option(name)
    if option is None or option.value is None:
        return ()
    if not isinstance(option.value, dict):
        raise refuse(option, f"expected a map of NAME: value, found {_kind(option.value)}")
    pairs = []
    for key, value in option.value.items():
        if not _NAME.match(str(key)):
            raise refuse(option, f"{str(key)!r} cannot be the name of a variable")
        pairs.append((str(key), None if value is None else scalar(option, value)))
    return tuple(pairs)


def is_map(job: Job, name: str) -> bool:
    option = job.find_option(name)
    return option is not None and isinstance(option.value, dict)


def is_secret(job: Job, name: str) -> bool:
    """Whether the option's value was taken from the environment, so that no part of it may stand in an argv."""
    option = job.find_option(name)
    return option is not None and option.secret


def expand(option: Option, word: str, workspace: str, facts: Facts) -> str:
    """The word with `~` and `$NAME` expanded once. Raises DefinitionError for unset variables and for a shell's commands."""

    def unset(name: str) -> DefinitionError:
        return refuse(option, f"the environment variable {name} is not set",
                      f"export {name}=... first, or write $$ where a dollar is meant")

    def expanded(text: str) -> str:
        return expand_variables(text, workspace, facts.environment, unset)

    if _COMMAND.search(word):
        raise refuse(option, f"{word!r} asks a shell to run a command; no shell is involved",
                     "write the value itself, or ${oc.env:NAME}; a dollar itself is written $$")
    tilde = _TILDE.match(word)
    if tilde and facts.home:
        start = tilde.start(1)
        return expanded(word[:start]) + facts.home + expanded(word[start + 1:])
    return expanded(word)


def _kind(value: Data) -> str:
    return {list: "a list", dict: "a map", bool: "true or false", type(None): "nothing"}.get(type(value), repr(value))
