"""Reads what a script of `there_script` answered: fields that end with NUL, and bytes whose number a field states. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlcube_cli.facts import Answer, Observation, PathFact, PathKind, Probe, Question
from mlcube_cli.place import answer_line
from mlcube_cli.there_script import SECONDS, is_answered_here

TIMED_OUT = 124
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Cut(Exception):  # noqa: N818 - what the reader of an answer says of it; the caller makes an error of it
    """The answer does not begin, or ends too early. `noise`: what was there before the place where it begins."""

    def __init__(self, begun: bool, noise: str = "") -> None:
        super().__init__(begun, noise)
        self.begun = begun
        self.noise = noise


@dataclass(frozen=True)
class Said:
    """All that one answer holds. `answers`: by the number of the question. `noise`: what a login shell printed before it."""

    noise: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str | None] = field(default_factory=dict)
    answers: Mapping[int, Answer] = field(default_factory=dict)


class _Reader:
    """Takes fields and stretches of bytes from the front. Raises Cut when they are not there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def field(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise Cut(True)
        start, self._at = self._at, end + 1
        return text_of(self._data[start:end])

    def bytes(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if size < 0 or self._at > len(self._data):
            raise Cut(True)
        return self._data[start:self._at]


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def read_answer(stdout: str, nonce: str) -> Said:
    """What was said behind the answer line. Raises Cut where it does not begin, or is not whole."""
    data, line = stdout.encode("utf-8", "surrogateescape"), (answer_line(nonce) + "\n").encode()
    at = data.find(line)
    if at < 0:
        raise Cut(False, stdout)
    try:
        return _read(_Reader(data[at + len(line):]), text_of(data[:at]))
    except (ValueError, IndexError):  # what no script of ours says
        raise Cut(True) from None


def _read(reader: _Reader, noise: str) -> Said:
    values: dict[str, str] = {}
    environment: dict[str, str] = {}
    tools: dict[str, str | None] = {}
    answers: dict[int, Answer] = {}
    while (words := reader.field().split(" ")) != ["end"]:
        if words[0] == "value":
            values[words[1]] = reader.field()
        elif words[0] == "environment":
            environment = _environment(reader)
        elif words[0] == "tool" and not words[1].isdigit():
            tools[words[1]] = reader.field() or None
        else:
            answers[int(words[1])] = _answer(words, reader)
    return Said(noise, values, environment, tools, answers)


def _environment(reader: _Reader) -> dict[str, str]:
    found = {}
    while entry := reader.field():
        name, _, value = entry.partition("=")
        found[name] = value
    found.pop("_", None)  # what was started last, which was our own question
    return found


def _answer(words: list[str], reader: _Reader) -> Answer:
    kind, numbers = words[0], words[2:]
    if kind == "tool":
        return reader.field() or None
    if kind == "path":
        read, write, make = (flag == "1" for flag in numbers[1])
        return PathFact(numbers[0], read, write, reader.field(), reader.field(), make)
    if kind == "text":
        return None if numbers[0] == "none" else reader.bytes(int(numbers[0]))
    if kind == "digest":
        digest = reader.field()
        return digest if _DIGEST.match(digest) else None
    code, late, out, err = (int(number) for number in numbers)
    stdout, stderr = text_of(reader.bytes(out)), text_of(reader.bytes(err))
    return Observation(TIMED_OUT if late else code, "" if late else stdout, "" if late else stderr)


def match_answers(questions: tuple[Question, ...], said: Said, seconds: int = SECONDS) -> dict[Question, Answer]:
    """The answers by their questions. Raises Cut when one is not there."""
    found: dict[Question, Answer] = {}
    for number, question in enumerate(questions):
        if is_answered_here(question):
            found[question] = _answer_here(question)
        elif number in said.answers:
            found[question] = _worded(question, said.answers[number], seconds)
        else:
            raise Cut(True)
    return found


def _worded(question: Question, answer: Answer, seconds: int) -> Answer:
    if isinstance(question, Probe) and isinstance(answer, Observation) and answer.exit_code == TIMED_OUT and not answer.stderr:
        return Observation(TIMED_OUT, "", f"{question.command.argv[0]} gave no answer within {seconds} seconds")
    return answer


def _answer_here(question: Question) -> Answer:
    """What can only have one answer: of names with a NUL byte, and of empty ones."""
    if isinstance(question, Probe):
        name = question.command.argv[0] if question.command.argv else ""
        why = "an empty word or a NUL byte stands in it, which no program can be started with"
        return Observation(127, "", f"cannot start {name or 'an empty command'}: {why}")
    return PathFact("absent", False, False, question.path, os.sep, False) if isinstance(question, PathKind) else None
