"""A cube's Python requirements: the words for the installer, and the content that an environment's key is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts, FileText, PathKind
from mlcube_cli.job import Job

_MOST_FILES = 100
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<path>\S.*)\Z")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+|(?<=-e))(?P<path>\S.*)\Z")
_FIND_LINKS = re.compile(r"(?:-f|--find-links)(?:\s*=\s*|\s+|(?<=-f))(?P<path>\S.*)\Z")
_COMMENT = re.compile(r"(^|\s+)#.*\Z")
_NAME = re.compile(r"\$\{([A-Z0-9_]+)\}")  # the one form that pip expands in a requirements file
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")


@dataclass(frozen=True)
class Requirements:
    """`words`: what the installer gets; `cwd`: where its relative paths start; `content`: what the key is made of."""

    shown: str  # for titles and errors
    words: tuple[str, ...]
    cwd: str
    content: tuple[str, ...]


def find_requirements(job: Job, facts: Facts) -> Requirements | None:
    """The platform's requirements, read with everything they include; None where there are none.

    Raises DefinitionError for a file that cannot be read or a value of another kind, facts.Missing for what is not
    looked at yet.
    """
    option = job.find_option("requirements")
    if option is None or option.value is None or option.value in ("", []):
        return None
    value = option.value
    if isinstance(value, str):
        path = os.path.normpath(os.path.join(job.root, value))
        if facts.text(path) is None:
            raise DefinitionError(f"the requirements file {path} cannot be read ({option.origin})",
                                  "name a text file relative to the cube, or write a list: requirements: [numpy]")
        directory = os.path.dirname(path)
        content = tuple(_read(path, facts))
        return Requirements(value, ("--requirement", path), directory, content)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        lines = [line for item in value for line in _lines(str(item))]
        if not lines:
            return None
        words = tuple(word for line in lines for word in _words(line, option.origin))
        content = tuple(_content(lines, job.root, facts, set()))
        shown = f"{len(lines)} requirements" if len(lines) > 1 else lines[0]
        return Requirements(shown, words, job.root, content)
    raise DefinitionError(f"'requirements' must be a file's name or a list of texts ({option.origin})",
                          "write requirements: requirements.txt, or requirements: [numpy, PyYAML]")


def _words(line: str, origin: str) -> list[str]:
    """A requirement is one word for the installer; an option (`-e ./package`) is several."""
    if not line.startswith("-"):
        return [line]
    import shlex

    try:
        return shlex.split(line)
    except ValueError as error:
        raise DefinitionError(f"the requirement {line!r} cannot be split into words: {error} ({origin})",
                              "close its quotes") from None


def _read(path: str, facts: Facts, seen: set[str] | None = None) -> Iterator[str]:
    """The meaningful lines of a requirements file, each included file's lines in the place of its include."""
    seen = set() if seen is None else seen
    if path in seen or len(seen) >= _MOST_FILES:
        return
    seen.add(path)
    text = facts.text(path)
    if text is None:
        raise DefinitionError(f"the requirements name {path}, which cannot be read",
                              "check the '-r' and '-c' lines of the requirements file")
    lines = _lines(text.decode("utf-8-sig", "surrogateescape"))
    yield from _content(lines, os.path.dirname(path), facts, seen)


def _lines(text: str) -> list[str]:
    """Lines as pip reads them: joined at a backslash, without comments and empty ones."""
    joined = re.sub(r"\\\r?\n", "", text).splitlines()
    stripped = (_COMMENT.sub("", line).strip() for line in joined)
    return [line for line in stripped if line]


def _content(lines: Iterable[str], directory: str, facts: Facts, seen: set[str]) -> Iterator[str]:
    everything = list(lines)
    includes = [path for line in everything if (path := _included(line, directory))]
    facts.need(*(FileText(path) for path in includes))
    for line in everything:
        yield line
        yield from (f"{name}={facts.environment.get(name, '')}" for name in _NAME.findall(line))
        included = _included(line, directory)
        if included:
            yield from _read(included, facts, seen)
        else:
            yield from _local(line, directory, facts)


def _included(line: str, directory: str) -> str | None:
    match = _INCLUDE.match(line)
    if match is None or _URL.match(match["path"]):
        return None
    return os.path.normpath(os.path.join(directory, match["path"].strip("'\"")))


def _local(line: str, directory: str, facts: Facts) -> Iterator[str]:
    """What tells a local package from another cube's of the same spelling: its place, and what it declares."""
    path = _local_path(line, directory)
    if path is None:
        return
    yield f"at {path}"
    if path.endswith(_ARCHIVES):
        yield f"digest {facts.digest((path,))}"
        return
    parts = tuple(os.path.join(path, name) for name in _PROJECT_FILES)
    facts.need(PathKind(path), *(FileText(part) for part in parts))
    for part in parts:
        text = facts.text(part)
        if text is not None:
            yield f"{part} " + text.decode("utf-8", "surrogateescape")


def _local_path(line: str, directory: str) -> str | None:
    """The path that a line names on this machine, or None for a name from an index or a URL."""
    match = _EDITABLE.match(line) or _FIND_LINKS.match(line)
    text = match["path"] if match else line
    if not match and line.startswith("-"):
        return None
    text = text.strip("'\"")
    if " @ " in text:
        text = text.split(" @ ", 1)[1].strip()
    if text.startswith("file:"):
        return os.path.normpath(re.sub(r"\Afile:(//(localhost)?)?", "", text.split("#", 1)[0]))
    text = re.split(r"\s+--|\s*;|\[", text, maxsplit=1)[0].strip()
    is_path = match is not None or text.startswith((".", "/")) or "/" in text or text.endswith(_ARCHIVES)
    if not is_path or _URL.match(text) or text.startswith("git+"):
        return None
    return os.path.normpath(os.path.join(directory, text))
