"""Which questions a machine was asked last time, kept in the cache, so that they go along with the first round trip.

Questions only, never answers: those are asked for each time. What is kept here is a guess that saves time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping

from mlcube_cli.atomic import write_text
from mlcube_cli.command import Command, Variable
from mlcube_cli.facts import FileDigest, FileText, PathKind, Probe, Question, Tool, TreeDigest

FORMAT = 1  # raise it when the file's form changes
MOST = 500  # questions that are kept
_LARGEST = 1 << 20  # bytes of the file
_BY_WORD: Mapping[str, type[Tool | PathKind | FileText | FileDigest]] = {
    "tool": Tool, "path": PathKind, "text": FileText, "digest": FileDigest}


def recall(cache: str | None, key: str) -> tuple[Question, ...]:
    """The questions that `remember` kept under this key; none where there are none, or where they cannot be read."""
    if cache is None:
        return ()
    try:
        with open(_place(cache, key), encoding="ascii") as stream:
            data = json.loads(stream.read(_LARGEST))
        if data["format"] != FORMAT or data["key"] != key:
            return ()
        return tuple(_question(entry) for entry in data["questions"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def remember(cache: str | None, key: str, questions: Iterable[Question]) -> None:
    """Keep these questions for the next time, less those that a secret stands in. Where that fails, nothing is kept.

    `key` says who asks whom for what: the machine, the cube, the platform, the tasks.
    """
    if cache is None:
        return
    entries = [entry for entry in map(_entry, dict.fromkeys(questions)) if entry is not None][:MOST]
    text = json.dumps({"format": FORMAT, "key": key, "questions": entries}) + "\n"
    place = _place(cache, key)
    try:
        if len(text) < _LARGEST and not _is(place, text):
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            write_text(place, text)
    except OSError:
        pass


def _is(place: str, text: str) -> bool:
    """Whether the file holds this text already. It is marked as used then."""
    try:
        with open(place, encoding="ascii") as stream:
            same = stream.read(_LARGEST) == text
        if same:
            os.utime(place)
        return same
    except (OSError, ValueError):
        return False


def _place(cache: str, key: str) -> str:
    return os.path.join(cache, "questions", hashlib.sha256(os.fsencode(key)).hexdigest()[:32])


def _entry(question: Question) -> list[object] | None:
    """JSON data; None for what is not kept: digests of trees, which nobody there can compute, and what holds a secret."""
    if isinstance(question, Probe):
        command = question.command
        if any(variable.secret for variable in command.env):
            return None
        stdin = None if command.stdin is None else command.stdin.decode("latin-1")
        return ["probe", list(command.argv), [[one.name, one.value] for one in command.env], command.cwd, stdin]
    if isinstance(question, TreeDigest):
        return None
    word = next(word for word, kind in _BY_WORD.items() if isinstance(question, kind))
    return [word, question.name if isinstance(question, Tool) else question.path]


def _question(entry: list[object]) -> Question:
    """Raises KeyError, TypeError or ValueError for what `_entry` did not write."""
    word, *values = entry
    if word != "probe":
        (name,) = values
        kind = _BY_WORD[str(word)]
        return kind(_text(name))
    argv, env, cwd, stdin = values
    if not isinstance(argv, list) or not isinstance(env, list):
        raise TypeError(entry)
    variables = tuple(Variable(_text(name), None if value is None else _text(value)) for name, value in env)
    return Probe(Command(tuple(_text(item) for item in argv), variables, None if cwd is None else _text(cwd),
                         None if stdin is None else _text(stdin).encode("latin-1")))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
