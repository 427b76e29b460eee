"""How big an input or output is and its sha256, and which of its files differ from what they were; streamed (RULINGS 31)."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from mlcube_cli.atomic import write_bytes
from mlcube_cli.cache.digests import Known, read_digest

AUTO, FULL, SIZES, NONE = "auto", "full", "sizes", "none"
HASHINGS = (AUTO, FULL, SIZES, NONE)
ENOUGH = 1 << 30  # bytes, above which `auto` means sizes and times
MANIFESTS = os.path.join(".mlcube", "manifests")  # below the workspace
GIVEN_UP = "given up, since somebody was waiting"  # the note of what was not measured to the end
OURS = ".mlcube"  # never counted (RULINGS 30)


@dataclass(frozen=True)
class Measure:
    """What lies at a path. `kind`: file | directory | other | absent | remote; "" where nobody has looked.

    `hashing` says how it was done. `sha256` of a file is that of its content, of a directory that of its manifest, which
    names every entry below it with kind, size and sha256 (or, under `sizes`, its time). `note`: why something is missing.
    """

    kind: str
    size: int | None = None  # bytes, of all regular files below
    files: int | None = None  # how many of them
    hashing: str = NONE
    sha256: str = ""  # "sha256:HEX"
    modified_ns: int | None = None  # of a file
    manifest: bytes = b""  # of a directory
    note: str = ""

    @property
    def manifest_name(self) -> str:
        """Under which its manifest is kept; "" without one."""
        return hashlib.sha256(self.manifest).hexdigest() if self.kind == "directory" and self.hashing != NONE else ""

    def as_data(self) -> dict[str, object]:
        """As it stands in a record."""
        return {"kind": self.kind, "size": self.size, "files": self.files, "hash": self.hashing,
                "sha256": self.sha256 or None, "modified_ns": self.modified_ns, "manifest": self.manifest_name or None,
                "note": self.note}


@dataclass(frozen=True)
class Want:
    """How to measure. `environment`: where our cache is; None reads every byte, whatever is remembered."""

    hashing: str = AUTO
    environment: Mapping[str, str] | None = field(default_factory=lambda: os.environ)
    give_up: Callable[[], bool] = lambda: False
    leave_out: frozenset[str] = frozenset()  # absolute paths, with all that is below them
    skipped: frozenset[str] = frozenset({OURS})  # names of directories, anywhere
    most: int | None = None  # entries, above which nothing is hashed


class _GaveUp(Exception):  # noqa: N818 - not an error: somebody wants us to stop
    """Why a measure was not finished."""


def lighter(hashing: str) -> str:
    """The way of hashing that keeps nobody waiting."""
    return NONE if hashing == NONE else SIZES


def measure(path: str, want: Want) -> Measure:
    """What lies at this absolute path now. A link at the path itself is followed, links below it are their targets' names.

    Never raises for what the disk holds: what cannot be read makes a note, and leaves `sha256` empty.
    """
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return Measure("absent")
    if want.hashing == NONE:
        size = state.st_size if stat.S_ISREG(state.st_mode) else None
        return Measure(_kind(state), size, note="hashing was turned off")
    try:
        if stat.S_ISDIR(state.st_mode):
            return _directory(path, want)
        return _file(path, state, want) if stat.S_ISREG(state.st_mode) else Measure("other", hashing=want.hashing)
    except _GaveUp as reason:
        return Measure(_kind(state), note=str(reason))
    except (OSError, ValueError) as error:
        return Measure(_kind(state), note=f"cannot be read: {getattr(error, 'strerror', None) or error}")


def keep_manifest(workspace: str, found: Measure) -> None:
    """Write the manifest of a directory where `load_manifest` finds it; equal ones are kept once. Raises nothing: where it
    cannot be kept, only the names of changed files cannot be told."""
    name = found.manifest_name
    if not name:
        return
    place = os.path.join(workspace, MANIFESTS, name)
    try:
        if not os.path.exists(place):
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            write_bytes(place, found.manifest)
    except OSError:
        pass


def load_manifest(workspace: str, name: str) -> bytes | None:
    """The manifest of that name; None where it is not there, or was changed."""
    try:
        with open(os.path.join(workspace, MANIFESTS, name), "rb") as stream:
            content = stream.read()
    except (OSError, ValueError):
        return None
    return content if hashlib.sha256(content).hexdigest() == name else None


def differences(before: bytes, now: bytes) -> list[tuple[str, str]]:
    """(path, `changed` | `gone` | `new`) of the entries of two manifests that differ, sorted by path. One that could not be
    read, then or now, differs where its size does."""
    old, new = _parse(before), _parse(now)
    found = [(path, "gone" if path not in new else "changed") for path in old
             if new.get(path) != old[path] and not _may_be_equal(old[path], new.get(path, b""))]
    found += [(path, "new") for path in new if path not in old]
    return sorted((os.fsdecode(path), change) for path, change in found)


def _may_be_equal(one: bytes, other: bytes) -> bool:
    (what, _, mark), (what_now, _, mark_now) = one.rpartition(b" "), other.rpartition(b" ")
    return what == what_now and b"?" in (mark, mark_now)


def _parse(manifest: bytes) -> dict[bytes, bytes]:
    found = {}
    for line in manifest.split(b"\0"):
        kind, _, rest = line.partition(b" ")
        size, _, rest = rest.partition(b" ")
        mark, _, path = rest.partition(b" ")
        if path:
            found[path] = b" ".join((kind, size, mark))
    return found


# --- looking -------------------------------------------------------------------------------------------------------


def _kind(state: os.stat_result) -> str:
    return {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}.get(stat.S_IFMT(state.st_mode), "other")


def _file(path: str, state: os.stat_result, want: Want) -> Measure:
    how = _how(want, state.st_size)
    measured = Measure("file", state.st_size, 1, how, modified_ns=state.st_mtime_ns)
    if how == SIZES:
        return measured
    known = Known(path, want.environment)
    digest = known.find(b"", state)
    if digest is None:
        digest = _read(path, state, want)
        if digest is None:
            return Measure("file", state.st_size, 1, SIZES, modified_ns=state.st_mtime_ns, note=_unread(1, path))
        known.learn(b"", state, digest)
        known.keep()
    return Measure("file", state.st_size, 1, how, digest, state.st_mtime_ns)


def _directory(top: str, want: Want) -> Measure:
    entries = sorted(_below(top, want))
    files = [(path, state) for path, state in entries if stat.S_ISREG(state.st_mode)]
    size = sum(state.st_size for _, state in files)
    how = _how(want, size)
    known = Known(top, want.environment)
    lines, unread = [], []
    for path, state in entries:
        mark = _mark(top, path, state, how, want, known)
        if mark is None:
            unread.append(os.fsdecode(path))
        lines.append(b"%s %d %s %s\0" % (_letter(state), state.st_size if stat.S_ISREG(state.st_mode) else 0,
                                         mark or b"?", path))
    known.keep()
    manifest = b"".join(lines)
    whole = how == FULL and not unread
    return Measure("directory", size, len(files), how, f"sha256:{hashlib.sha256(manifest).hexdigest()}" if whole else "",
                   manifest=manifest, note=_unread(len(unread), unread[0]) if unread else "")


def _below(top: str, want: Want) -> Iterator[tuple[bytes, os.stat_result]]:
    """(path relative to the top, state) of everything below it. Raises _GaveUp, OSError."""
    waiting, count = [(b"", os.fsencode(top))], 0
    leave_out = {os.fsencode(path) for path in want.leave_out}
    skipped = {os.fsencode(name) for name in want.skipped}
    while waiting:
        prefix, directory = waiting.pop()
        if want.give_up():
            raise _GaveUp(GIVEN_UP)
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if (is_directory and entry.name in skipped) or entry.path in leave_out:
                    continue
                count += 1
                if want.most is not None and count > want.most:
                    raise _GaveUp(f"it holds more than {want.most} entries")
                yield prefix + entry.name, entry.stat(follow_symlinks=False)
                if is_directory:
                    waiting.append((prefix + entry.name + b"/", entry.path))


def _how(want: Want, size: int) -> str:
    return want.hashing if want.hashing != AUTO else FULL if size <= ENOUGH else SIZES


def _letter(state: os.stat_result) -> bytes:
    kind = {stat.S_IFREG: b"f", stat.S_IFDIR: b"d", stat.S_IFLNK: b"l"}.get(stat.S_IFMT(state.st_mode), b"o")
    return b"x" if kind == b"f" and state.st_mode & stat.S_IXUSR else kind


def _mark(top: str, path: bytes, state: os.stat_result, how: str, want: Want, known: Known) -> bytes | None:
    """What tells an entry's content: the sha256 of a file or of a link's target, or a file's time; None: cannot be told."""
    if stat.S_ISLNK(state.st_mode):
        return hashlib.sha256(os.readlink(os.path.join(os.fsencode(top), path))).hexdigest().encode()
    if not stat.S_ISREG(state.st_mode):
        return b"-"
    if how == SIZES:
        return b"%d" % state.st_mtime_ns
    digest = known.find(path, state)
    if digest is None:
        digest = _read(os.path.join(top, os.fsdecode(path)), state, want)
        if digest is None:
            return None
        known.learn(path, state, digest)
    return digest.partition(":")[2].encode()


def _read(path: str, state: os.stat_result, want: Want) -> str | None:
    try:
        digest = read_digest(path, state, want.give_up)
    except OSError:
        digest = None
    if digest is None and want.give_up():
        raise _GaveUp(GIVEN_UP)
    return digest


def _unread(count: int, first: str) -> str:
    return f"{count} file{'s' if count > 1 else ''} could not be read, or changed meanwhile: {first}"
