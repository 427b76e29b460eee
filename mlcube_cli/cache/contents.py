"""What lies in mlcube's cache, looked up on the disk; and its removal, which never follows a link out of the cache."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import mlcube_cli
from mlcube_cli.cache.made import read_note
from mlcube_cli.cache.pruning import BUILD, DIGEST, ENVIRONMENT, IMAGE, LOCK, OTHER, QUESTIONS, VERDICT, WHOLE, Item
from mlcube_cli.cache.uses import MADE, USES, clear_uses, place_of, users
from mlcube_cli.locks import clear, file_name, holder, lock, who

LOCKS = "locks"
GONE = ".gone"  # the ending of what is being removed
_MADE = re.compile(r"(?P<key>.+-[0-9a-f]{20})\.[A-Za-z0-9]+\Z")  # the directory that one installation made
_KEY = re.compile(r".+-[0-9a-f]{20}\Z")
_SMALL = re.compile(r"[0-9a-f]{32}(?P<half>\.[0-9]+\.tmp)?\Z")
_BUILD = re.compile(r"(?P<build>[0-9a-f]{20})-(?P<interpreter>[a-z]+[^.]*-[0-9a-f]+)(?P<half>\..*)?\Z")
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_MARKERS = {ENVIRONMENT: ("environment/mlcube-complete", "environment"), BUILD: ("complete",)}


@dataclass(frozen=True)
class Cache:
    """A cache directory and what processes of this machine name, as bytes: their words and their environments."""

    directory: str
    processes: bytes = b""

    def room(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def user_of(self, item: str, real: str = "", link: str = "") -> str:
        """Who uses it, in words; empty: nobody that is known of. `real`: the path that runs have marked."""
        marked = users(place_of(self.directory, os.path.realpath(real))) if real else []
        if marked:
            return who(marked[0])
        named = (os.fsencode(path) + end for path in (item, link) if path for end in (b"/", b"\0"))
        return "a process of this machine" if any(text in self.processes for text in named) else ""


def look_at(directory: str) -> tuple[list[Item], list[str]]:
    """Everything in the cache, its size not measured yet; and sentences about what is not looked into."""
    cache = Cache(directory, _processes())
    items: list[Item] = []
    notes: list[str] = []
    for name in _names(directory):
        path = cache.room(name)
        look = _ROOMS.get(name)
        if look is None:
            items.append(_item(OTHER, path, name))
        elif not _is_own_directory(path):
            notes.append(f"{path} is left alone: it is no directory, or others can write into it")
        else:
            items += look(cache, path)
    return items, notes


def measured(item: Item) -> Item:
    """The item with the bytes that it takes on the disk; files with several names count once."""
    return replace(item, size=sum(_sizes(item.path)))


def _sizes(path: str) -> Iterator[int]:
    seen = set()
    waiting = [path]
    while waiting:
        at = waiting.pop()
        with contextlib.suppress(OSError):
            status = os.lstat(at)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(at) as found:
                    waiting += [entry.path for entry in found]


# --- what is there -------------------------------------------------------------------------------------------------


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as found:
            return sorted(entry.name for entry in found)
    except OSError:
        return []


def _is_own_directory(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _item(kind: str, path: str, name: str, state: str = WHOLE) -> Item:
    return Item(kind, path, name, 0, last_used(kind, path), state)


def last_used(kind: str, path: str) -> float:
    """When it was last used or changed, in seconds since the epoch; now, where that cannot be seen."""
    times = []
    for name in ("", *_MARKERS.get(kind, ())):
        with contextlib.suppress(OSError):
            times.append(os.lstat(os.path.join(path, name) if name else path).st_mtime)
    return max(times, default=time.time())


def _environments(cache: Cache, room: str) -> Iterator[Item]:
    names = _names(room)
    published = {name: os.readlink(os.path.join(room, name)) for name in names
                 if _KEY.match(name) and os.path.islink(os.path.join(room, name))}
    for name in names:
        path = os.path.join(room, name)
        made = _MADE.match(name)
        if name.endswith(GONE):
            yield _item(ENVIRONMENT, path, name, "half removed")
        elif name in published:
            if not os.path.lexists(os.path.join(room, published[name])):
                yield replace(_item(ENVIRONMENT, path, _title(name, ""), "a link to nothing"), lock=path)
        elif made and not os.path.islink(path):
            yield _environment(cache, path, made["key"], published.get(made["key"]) == f"{name}/environment")
        else:
            yield _item(OTHER, path, name)


def _environment(cache: Cache, path: str, key: str, published: bool) -> Item:
    link = os.path.join(os.path.dirname(path), key)
    if os.path.lexists(os.path.join(path, "making")):
        state = "unfinished"
    elif not published:
        state = "replaced by a newer one"
    else:
        state = WHOLE if os.path.isfile(os.path.join(path, "environment/mlcube-complete")) else "damaged"
    maker = holder(os.path.join(cache.room(LOCKS), file_name(link))) if state != WHOLE else None
    used_by = who(maker) if maker else cache.user_of(path, os.path.join(path, "environment"), link)
    item = _item(ENVIRONMENT, path, _title(key, path), state)
    return replace(item, used_by=used_by, link=link if published else "", lock=link)


def _title(key: str, path: str) -> str:
    """The interpreter and the requirements; addresses without the names and passwords in them."""
    words = ""
    with contextlib.suppress(OSError), open(os.path.join(path, "requirements"), encoding="utf-8", errors="replace") as file:
        words = _CREDENTIALS.sub("://***@", file.read(4096).strip())
    return key[:-21] + (f" with {words}" if words else "")


def _small(kind: str, title: str) -> Callable[[Cache, str], Iterator[Item]]:
    """A room of small files with names that are digests."""
    def look(cache: Cache, room: str) -> Iterator[Item]:
        for name in _names(room):
            known = _SMALL.match(name)
            found, state = (kind, "unfinished" if known["half"] else WHOLE) if known else (OTHER, WHOLE)
            yield _item(found, os.path.join(room, name), title if known else name, state)

    return look


def _builds(cache: Cache, room: str) -> Iterator[Item]:
    running = os.path.realpath(os.path.join(os.path.dirname(mlcube_cli.__file__), ".."))
    for name in _names(room):
        path, known = os.path.join(room, name), _BUILD.match(name)
        if not known or os.path.islink(path):
            yield _item(OTHER, path, name)
            continue
        title = f"mlcube.pyz {known['build']} for {known['interpreter']}"
        whole = not known["half"] and os.path.isfile(os.path.join(path, "complete"))
        state = WHOLE if whole else "half removed" if name.endswith(GONE) else "unfinished"
        ours = "this process" if os.path.realpath(path) == running else ""
        yield replace(_item(BUILD, path, title, state), used_by=ours)


def _images(cache: Cache, room: str) -> Iterator[Item]:
    """The images that we made, wherever they are, by the notes about them."""
    for name in _names(room):
        note = os.path.join(room, name)
        made = read_note(note)
        if made is None:
            yield _item(OTHER, note, name)
        elif not made.there:
            yield _item(IMAGE, note, f"(the note about {made.path})", "the image is gone, or another one")
        else:
            item = Item(IMAGE, made.path, made.path, 0, last_used(IMAGE, note), link=note,
                        lock=f"singularity-image-{made.path}")
            yield replace(item, used_by=cache.user_of(made.path, made.path))


def _locks(cache: Cache, room: str) -> Iterator[Item]:
    for name in _names(room):
        path = os.path.join(room, name)
        owner = holder(path)
        yield _owned(path, f"lock {name}", who(owner) if owner else "")


def _uses(cache: Cache, room: str) -> Iterator[Item]:
    for name in _names(room):
        path = os.path.join(room, name)
        found = users(path)
        yield _owned(path, f"mark of use {name}", who(found[0]) if found else "")


def _owned(path: str, name: str, owner: str) -> Item:
    return replace(_item(LOCK, path, name, WHOLE if owner else "its owner is gone"), used_by=owner)


_ROOMS: dict[str, Callable[[Cache, str], Iterator[Item]]] = {
    "environments": _environments, "verdicts": _small(VERDICT, "a definition found valid"),
    "digests": _small(DIGEST, "the sha256 of an image file"),
    "questions": _small(QUESTIONS, "what another machine was asked last time"),
    "pyz": _builds, MADE: _images, LOCKS: _locks, USES: _uses,
}


def _processes() -> bytes:
    """The words and environments of all processes that we may look at, each ended by NUL; empty where there is no /proc."""
    parts = []
    for process in _names("/proc"):
        if process.isdigit() and int(process) != os.getpid():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError), open(f"/proc/{process}/{name}", "rb") as file:
                    parts.append(file.read())
    return b"\0".join(parts) + b"\0"


# --- removal -------------------------------------------------------------------------------------------------------


def remove(directory: str, item: Item) -> str:
    """Remove an item of the cache `directory`; empty, or why it is still there. Raises nothing.

    It is renamed first, so that nobody takes a half-removed one for whole; and named back when somebody used it in the
    very moment. A lock is held meanwhile where making it takes that lock.
    """
    from mlcube_cli.errors import MachineError

    try:
        if item.kind == LOCK:
            free = clear_uses if os.path.dirname(item.path) == os.path.join(directory, USES) else clear
            return "" if free(item.path) else "somebody holds it now"
        if not item.lock:
            return _remove(directory, item)
        with lock(os.path.join(directory, LOCKS), item.lock, 0, lambda sentence: None):
            return _remove(directory, item)
    except MachineError:
        return "somebody is making it anew"
    except OSError as error:
        return error.strerror or str(error)


def _remove(directory: str, item: Item) -> str:
    marked = os.path.join(item.path, "environment") if item.kind == ENVIRONMENT else item.path
    if Cache(directory).user_of(item.path, marked):
        return "somebody uses it now"
    if item.kind == IMAGE and item.link:
        return _remove_image(item)
    if item.path.endswith(GONE):
        gone = item.path
    else:
        gone = f"{item.path}.{os.getpid()}{GONE}"
        os.rename(item.path, gone)
        if last_used(item.kind, gone) > item.last_used:
            os.rename(gone, item.path)
            return "somebody used it just now"
    if item.link and os.path.islink(item.link) and os.readlink(item.link) == f"{os.path.basename(item.path)}/environment":
        os.unlink(item.link)
    _delete(gone)
    return ""


def _remove_image(item: Item) -> str:
    made = read_note(item.link)
    if made is None or not made.there or last_used(IMAGE, item.link) > item.last_used:
        return "somebody used it just now"
    os.unlink(item.path)
    os.unlink(item.link)
    return ""


def _delete(path: str) -> None:
    """Remove a file, a link itself, or a tree, whatever its modes. Raises OSError when something stays."""
    import shutil

    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    for above, directories, _ in os.walk(path):
        for name in directories:
            below = os.path.join(above, name)
            if not os.path.islink(below):
                os.chmod(below, 0o700)
    shutil.rmtree(path)
