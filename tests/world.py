"""Invented machines for tests of deciding functions: facts as plain data, jobs by their few interesting fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import Location
from mlcube_cli.facts import (
    Answer,
    Facts,
    FileDigest,
    FileText,
    Missing,
    Observation,
    PathFact,
    PathKind,
    Question,
    Tool,
    TreeDigest,
)
from mlcube_cli.job import Argument, Job

T = TypeVar("T")
RUN_ID = "20260102T030405-77-1"


@dataclass
class World:
    """A machine as data. What is not stated is not there; a probe that nothing matches is answered as if absent (127).

    `probes`: {pattern: observation}, the first pattern found in the words, joined by spaces, counts. `paths`: {path:
    kind} or {path: {kind, real, ...}}. `digests`: {paths joined by spaces: digest}, one made of their names by default.
    """

    tools: Mapping[str, str] = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paths: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str | None] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)  # fields of Facts
    asked: list[Question] = field(default_factory=list)

    def facts(self) -> Facts:
        base: dict[str, Any] = {"uid": 1000, "gid": 1000, "home": "/home/user", "cwd": "/home/user", "environment": {},
                                "cache": "/home/user/.cache/mlcube"}
        return Facts(**{**base, **self.machine})

    def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        if isinstance(question, Tool):
            return self.tools.get(question.name)
        if isinstance(question, PathKind):
            given = self.paths.get(question.path, "absent")
            return PathFact(**({"real": question.path} | (given if isinstance(given, dict) else {"kind": given})))
        if isinstance(question, FileText):
            text = self.texts.get(question.path)
            return None if text is None else text.encode("utf-8", "surrogateescape")
        if isinstance(question, FileDigest):
            return self.digests.get(question.path)
        if isinstance(question, TreeDigest):
            name = " ".join(question.paths)
            return self.digests.get(name, f"digest({name})")
        words = " ".join(question.command.argv)
        found = next((said for pattern, said in self.probes.items() if re.search(pattern, words)), {"exit_code": 127})
        return Observation(**{"exit_code": 0, **found})

    def decide(self, function: Callable[[Facts], T]) -> T:
        """What a deciding function says in this world, once all that it asks is answered."""
        facts = self.facts()
        for _ in range(50):
            try:
                return function(facts)
            except Missing as missing:
                facts = facts.learn({question: self.answer(question) for question in missing.questions})
        raise AssertionError("it asks for facts without end")


def job_of(runner: str, options: Mapping[str, Any], arguments: list[Mapping[str, str]] | None = None,
           secret: tuple[str, ...] = (), **fields: Any) -> Job:
    """A job from the few fields that matter. An option's origin is `platform.yaml:LINE:3`, numbered from 1."""
    listed = tuple(Option(name, value, f"platform.yaml:{line}:3", name in secret)
                   for line, (name, value) in enumerate(options.items(), 1))
    platform = Platform(runner, runner, listed, Location("platform.yaml", 1, 1))
    base: dict[str, Any] = {
        "run_id": RUN_ID, "cube": "mnist", "root": "/cube", "workspace": "/cube/workspace", "dialect": "inline",
        "task": "train", "entrypoint": None, "platform": platform,
        "arguments": tuple(argument_of(**argument) for argument in arguments or []),
    }
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Job(**{**base, **given})


def argument_of(name: str, host_path: str, direction: str = "input", type: str = "directory",
                mode: str = "") -> Argument:
    return Argument(name, direction, type, mode or ("ro" if direction == "input" else "rw"), host_path)
