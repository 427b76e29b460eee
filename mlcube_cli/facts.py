"""What is known of a machine, as a value: deciding functions take it and ask it; they never look at the world.

A deciding function that needs a fact nobody has looked up yet raises `Missing`; the driver (`observe.with_facts`) looks
it up and calls the function again. So each runner states what it wants to know exactly where it uses it, stays pure,
and a remote machine is asked for everything missing in one round trip.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import MLCubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias, TypeVar

    X = TypeVar("X")
    Y = TypeVar("Y")

    from mlcube_cli.command import Command


@dataclass(frozen=True)
class Tool:
    """Question: where is this executable on PATH? Answer: its absolute path, or None."""

    name: str


@dataclass(frozen=True)
class Probe:
    """Question: what does this read-only command say? Answer: `Observation`."""

    command: Command


@dataclass(frozen=True)
class PathKind:
    """Question: what is at this absolute path? Answer: `PathFact`."""

    path: str


@dataclass(frozen=True)
class FileText:
    """Question: what does this small file (up to 1 MB) contain? Answer: bytes, or None when it cannot be read."""

    path: str


@dataclass(frozen=True)
class TreeDigest:
    """Question: a sha256 over names and contents below these paths? Answer: str, or None when there are too many."""

    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()  # absolute paths that do not count
    base: str = ""  # the directory that `ignore` is relative to
    ignore: tuple[str, ...] = ()  # the lines of a .dockerignore


@dataclass(frozen=True)
class FileDigest:
    """Question: the sha256 of this file, of any size? Answer: "sha256:HEX", or None when it cannot be read."""

    path: str


@dataclass(frozen=True)
class Observation:
    """What a probe command said; exit code 127 with empty output where the tool is absent."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""

    def last_line(self, silent: str) -> str:
        """The last line on stderr, where tools say what went wrong; `silent` where they said nothing."""
        return (self.stderr.strip().splitlines() or [silent])[-1].strip()


@dataclass(frozen=True)
class PathFact:
    """`kind`: file | directory | other | absent. `writable`: a file can be changed, a directory written into.

    `ancestor` is the nearest existing directory at or above the path, `creatable` whether we may create below it.
    """

    kind: str
    readable: bool = True
    writable: bool = True
    real: str = ""  # the path with links resolved
    ancestor: str = ""
    creatable: bool = True


Question: TypeAlias = "Tool | Probe | PathKind | FileText | TreeDigest | FileDigest"
Answer: TypeAlias = "str | bytes | Observation | PathFact | None"


class Missing(Exception):  # noqa: N818 - a request for facts, not an error
    """Raised by a deciding function that needs these questions answered before it can go on."""

    def __init__(self, questions: tuple[Question, ...]) -> None:
        super().__init__(questions)
        self.questions = questions


def for_each(function: Callable[[X], Y], items: Iterable[X]) -> tuple[Y, ...]:
    """What the function makes of each item; the facts that all of them lack are asked for at once, so that their number does
    not make more round trips. Raises Missing, and what the function raises: that of the first item that does."""
    lacking: dict[Question, None] = {}
    found: list[Y] = []
    for item in items:
        try:
            found.append(function(item))
        except Missing as missing:
            lacking.update(dict.fromkeys(missing.questions))
        except MLCubeError:
            if not lacking:
                raise
            break  # what an item before it would raise is not known yet
    if lacking:
        raise Missing(tuple(lacking))
    return tuple(found)


@dataclass(frozen=True)
class Facts:
    """A machine as far as it was looked at."""

    uid: int
    gid: int
    home: str
    cwd: str
    environment: Mapping[str, str]
    cache: str | None = None  # mlcube's cache directory (None: there is no usable one)
    terminal: bool = False  # stdin and stdout are a terminal
    answers: Mapping[Question, Answer] = field(default_factory=dict)
    python: str = ""  # the interpreter that runs mlcube itself (sys.executable); "" where it is not known
    processor: str = ""  # as `uname -m` names it: x86_64, aarch64
    host: str = ""  # as `uname -n` names it

    def learn(self, answers: Mapping[Question, Answer]) -> Facts:
        return replace(self, answers={**self.answers, **answers})

    def need(self, *questions: Question) -> None:
        """Ask for several facts at once, so that they come in one round trip. Raises Missing."""
        missing = tuple(question for question in questions if question not in self.answers)
        if missing:
            raise Missing(missing)

    def tool(self, name: str) -> str | None:
        answer = self._answer(Tool(name))
        assert answer is None or isinstance(answer, str)
        return answer

    def probe(self, command: Command) -> Observation:
        answer = self._answer(Probe(command))
        assert isinstance(answer, Observation)
        return answer

    def path(self, path: str) -> PathFact:
        answer = self._answer(PathKind(path))
        assert isinstance(answer, PathFact)
        return answer

    def text(self, path: str) -> bytes | None:
        answer = self._answer(FileText(path))
        assert answer is None or isinstance(answer, bytes)
        return answer

    def digest(self, paths: tuple[str, ...], exclude: tuple[str, ...] = (), base: str = "",
               ignore: tuple[str, ...] = ()) -> str | None:
        answer = self._answer(TreeDigest(paths, exclude, base, ignore))
        assert answer is None or isinstance(answer, str)
        return answer

    def file_digest(self, path: str) -> str | None:
        answer = self._answer(FileDigest(path))
        assert answer is None or isinstance(answer, str)
        return answer

    def _answer(self, question: Question) -> Answer:
        self.need(question)
        return self.answers[question]
