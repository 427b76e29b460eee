"""YAML text -> Document: plain data with the line and column of every node; what could surprise or harm is refused."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import DefinitionError, Location, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from mlcube_cli.definition.model import Data

Path: TypeAlias = "tuple[str | int, ...]"
Mark: TypeAlias = "tuple[int, int, int, int]"  # line and column of the value, line and column of its key; from 1

LARGEST_FILE = 10_000_000  # bytes

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_BINARY_STARTS = {
    b"#!/usr/bin/env run-singularity": "a singularity image (SIF)", b"\x89HDF": "an HDF5 file", b"hsqs": "a squashfs image",
    b"\x1f\x8b": "a gzip archive", b"PK\x03\x04": "a zip archive", b"\x7fELF": "a program", b"%PDF": "a PDF",
    b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"SQLite": "a database",
}


@dataclass(frozen=True)
class Document:
    """A YAML file, read. `data` is plain (dict with text keys, list, str, int, float, bool, None).

    `marks`: for each node the line and column of its value and of its key (list items: the value twice).
    `texts`: the source text of plain scalars that print otherwise than they were written (`1.10`, `0x10`, `True`, `~`).
    """

    file: str  # as shown to the user
    data: Data
    marks: Mapping[Path, Mark]
    texts: Mapping[Path, str]

    def location(self, path: Path = (), key: bool = False) -> Location:
        """Where the node's value (or key) stands; for a node that is not there, its nearest parent."""
        while path and path not in self.marks:
            path = path[:-1]
        mark = self.marks.get(path)
        if mark is None:
            return Location(self.file)
        return Location(self.file, *(mark[2:] if key else mark[:2]))

    def text(self, path: Path) -> str | None:
        """The scalar as the user wrote it (`version: 1.10` -> "1.10"); None for null, mappings, lists, absent nodes."""
        value = find_node(self.data, path)
        if value is None or isinstance(value, (dict, list)):
            return None
        return self.texts.get(path, str(value))


def find_node(data: Data, path: Path) -> Data:
    """The node at `path`, or None."""
    for segment in path:
        if isinstance(data, dict) and isinstance(segment, str):
            data = data.get(segment)
        elif isinstance(data, list) and isinstance(segment, int) and 0 <= segment < len(data):
            data = data[segment]
        else:
            return None
    return data


def format_path(path: Path) -> str:
    """The path as messages show it: `tasks.train.inputs[0].type`; odd keys as `env["a.b"]`."""
    text = ""
    for segment in path:
        if isinstance(segment, int):
            text += f"[{segment}]"
        elif segment and segment.replace("_", "").replace("-", "").replace("/", "").isalnum():
            text += f".{segment}" if text else segment
        else:
            text += '["' + segment.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return text


def refusal(problems: tuple[Problem, ...]) -> DefinitionError:
    """The error that carries these problems (at least one); a single one is its message."""
    first = problems[0]
    if len(problems) == 1:
        return DefinitionError(first.message, first.hint, first.location, problems)
    file = first.location.file
    return DefinitionError(f"{file} has {len(problems)} problems", "", Location(file), problems)


def read_document(path: str, shown: str | None = None) -> Document:
    """The document in the file at `path`, named `shown` in messages. Raises DefinitionError carrying its problems."""
    return parse_document(read_bytes(path, shown), shown or path)


def parse_document(text: bytes, file: str) -> Document:
    """The one YAML document in `text`. Raises DefinitionError carrying all problems that can be told apart."""
    from mlcube_cli.definition.compose import compose

    data, marks, texts = compose(_decode(text, file), file)
    return Document(file, data, marks, texts)


def read_bytes(path: str, shown: str | None = None) -> bytes:
    """The content of a regular file of up to 10 MB; never waits on a pipe or device. Raises DefinitionError."""
    file = shown or path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(file, status.st_mode)
        if status.st_size > LARGEST_FILE:
            raise _too_large(file)
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(file, error) from None
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE:
        raise _too_large(file)
    return content


def _refuse(file: str, code: str, message: str, hint: str = "", line: int = 0, column: int = 0) -> DefinitionError:
    return refusal((Problem(Location(file, line, column), message, code, hint),))


def _unreadable(file: str, error: Exception) -> DefinitionError:
    if isinstance(error, FileNotFoundError):
        return _refuse(file, "no-file", "there is no such file", "check the spelling of its name")
    if isinstance(error, NotADirectoryError):
        return _refuse(file, "no-file", "there is no such file: a part of its path is a file, not a directory")
    if isinstance(error, PermissionError):
        return _refuse(file, "unreadable", "the file may not be read", "give yourself the right to read it (chmod u+r)")
    if isinstance(error, OSError) and error.errno == 6:  # ENXIO: a socket, or a device without its hardware
        return _refuse(file, "not-a-file", "this is a socket or device, not a file", "name a YAML file")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _refuse(file, "unreadable", f"the file cannot be read: {reason}")


def _not_a_file(file: str, mode: int) -> DefinitionError:
    if stat.S_ISDIR(mode):
        return _refuse(file, "not-a-file", "this is a directory, not a file", "name the YAML file inside it")
    kind = "named pipe" if stat.S_ISFIFO(mode) else "device or socket"
    return _refuse(file, "not-a-file", f"this is a {kind}, not a file", "write its content to a file and name that one")


def _too_large(file: str) -> DefinitionError:
    return _refuse(file, "too-large", f"the file is larger than {LARGEST_FILE // 1_000_000} MB",
                   "is it data rather than a definition?")


def _decode(content: bytes, file: str) -> str:
    encoding, skip = "utf-8", 0
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            encoding, skip = name, len(mark)
            break
    if encoding == "utf-8" and b"\x00" in content:
        raise _refuse(file, "binary-file", f"this is {_binary_kind(content) or 'a binary file'}, not text",
                      "name a YAML file, saved as UTF-8")
    try:
        return content[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        before = content[skip:skip + error.start].decode(encoding, "replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        kind = _binary_kind(content)
        message = f"this is {kind}, not text" if kind else f"the text is not {encoding.upper()}"
        raise _refuse(file, "binary-file", message, "save the file as UTF-8", line, column) from None


def _binary_kind(content: bytes) -> str:
    if content[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for start, kind in _BINARY_STARTS.items() if content.startswith(start)), "")
