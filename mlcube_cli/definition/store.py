"""The verdict cache: files whose very bytes were found valid before are neither parsed nor checked again.

An entry counts only when everything it depends on is equal; any doubt, and any failure to read or write one, means
reading the file afresh. Hits import neither the YAML parser nor the validator.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING, __version__
from mlcube_cli.definition.bundled import schema_bytes
from mlcube_cli.definition.source import Document, parse_document, read_bytes
from mlcube_cli.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

try:
    from _blake2 import blake2b  # hashlib loads OpenSSL, which takes longer than all the rest of a hit
except ImportError:
    from hashlib import blake2b

FORMAT = 1  # raise it when reading or checking changes its results
LARGEST_KEPT = 1_000_000  # bytes of source; larger files are read afresh each time
_DIGEST = 16  # bytes
_DAY = 24 * 3600  # seconds
Choose: TypeAlias = "Callable[[Document], str | None]"


@dataclass(frozen=True)
class Checked:
    """A document, the schema it was checked with (None: none applies), and the problems found."""

    document: Document
    schema: str | None
    problems: tuple[Problem, ...]


def read_checked(path: str, choose: Choose, cache: str | None, shown: str | None = None) -> Checked:
    """The file's document, checked with the schema that `choose` names for it. Raises DefinitionError as source does.

    `cache` is mlcube's cache directory (None: there is none); `shown` is the file's name in messages.
    """
    source = read_bytes(path, shown)
    entry = _entry_path(cache, path) if cache and len(source) <= LARGEST_KEPT else None
    if entry:
        known = _load(entry, source, shown or path)
        if known is not None and choose(known.document) == known.schema:
            return known
    from mlcube_cli.definition.schema import check

    document = parse_document(source, shown or path)
    schema = choose(document)
    problems = check(document, schema) if schema else ()
    if entry and not problems:
        _save(entry, source, document, schema)
    return Checked(document, schema, problems)


def _entry_path(cache: str, path: str) -> str:
    name = blake2b(os.fsencode(os.path.abspath(path)), digest_size=_DIGEST).hexdigest()
    return os.path.join(cache, "verdicts", name)


def _key(schema: str | None) -> bytes:
    """What a verdict depends on besides the file: our version, the schema, and who reads the entry."""
    content = schema_bytes(schema) if schema else b""
    reader = (FORMAT, __version__, schema, tuple(sys.version_info), sys.implementation.name, marshal.version)
    return blake2b(content, digest_size=_DIGEST).digest() + repr(reader).encode()


def _load(entry: str, source: bytes, file: str) -> Checked | None:
    try:
        with open(entry, "rb") as stream:
            digest, payload = stream.read(_DIGEST), stream.read()
            written = os.fstat(stream.fileno()).st_mtime
        if blake2b(payload, digest_size=_DIGEST).digest() != digest:
            return None
        key, known_source, schema, data, marks, texts = marshal.loads(payload)
        if known_source != source or key != _key(schema):
            return None
        if time.time() - written > _DAY:
            _note_use(entry)
    except Exception:  # whatever a foreign or damaged entry causes: it does not count
        return None
    return Checked(Document(file, data, marks, texts), schema, ())


def _note_use(entry: str) -> None:
    """By its time an entry shows when it was last of use, to the day; old ones are pruned."""
    try:
        os.utime(entry)
    except OSError:  # a cache that can only be read
        pass


def _save(entry: str, source: bytes, document: Document, schema: str | None) -> None:
    from mlcube_cli.atomic import write_bytes

    try:
        payload = marshal.dumps((_key(schema), source, schema, document.data, dict(document.marks),
                                 dict(document.texts)))
        os.makedirs(os.path.dirname(entry), mode=0o700, exist_ok=True)
        write_bytes(entry, blake2b(payload, digest_size=_DIGEST).digest() + payload)
    except (OSError, ValueError):  # a cache that can only be read
        pass
