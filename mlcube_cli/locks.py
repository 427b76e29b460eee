"""Locks between processes without flock: a directory made by mkdir, whose one entry says who holds it (RULINGS 14).

The owner stands in the entry's *name*. So taking over a dead owner's lock is one rename of that very name: of several
who try, one succeeds, and a late one cannot take away what a living process has got meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlcube_cli.errors import MachineError

HALF_MADE = 5.0  # seconds without an entry, watched by the one who waits, after which a directory is nobody's


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. `space`: the pid's name space, since containers that share a disk share no pids."""

    pid: int
    start: str  # when the process started, in the kernel's own words; empty where that cannot be learnt
    host: str
    boot: str
    space: str
    token: str  # makes the name unique

    def name(self) -> str:
        return ",".join(f"{word}={value}" for word, value in vars(self).items())

    def is_dead(self, judge: Owner) -> bool:
        """Is it gone for sure, as `judge` on this machine can tell? Another host's owner never is."""
        if self.host != judge.host:
            return False
        if self.boot != judge.boot:
            return True
        if self.space != judge.space:
            return False
        return not _is_running(self.pid, self.start)


@contextlib.contextmanager
def lock(directory: str, key: str, wait: float, tell: Callable[[str], None],
         pause: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """Hold the lock `key` below `directory`, which is made where absent; given back at the end, also after errors.

    Waits up to `wait` seconds, sleeping through `pause`, and tells once for whom. Raises MachineError when the time is
    up, OSError when no lock can be made there.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    place = os.path.join(directory, file_name(key))
    me = myself()
    attempt = _Attempt(place, me)
    until = time.monotonic() + wait
    nap, told = 0.02, ""
    while not attempt.take():
        holder = attempt.holder
        if time.monotonic() >= until:
            raise MachineError(f"gave up after {wait:g} seconds of waiting for {who(holder)}, who is busy with {key}",
                               f"if that process is gone, remove the directory {place}")
        if holder is not None and told != holder.name():
            told = holder.name()
            tell(f"waiting for {who(holder)}, who is busy with {key}")
        pause(min(nap, max(0.0, until - time.monotonic())))
        nap = min(0.5, nap * 1.5)
    try:
        yield
    finally:
        attempt.give_back()


class _Attempt:
    """One process's way to one lock."""

    def __init__(self, place: str, me: Owner) -> None:
        self._place = place
        self._me = me
        self._mine = os.path.join(place, me.name())
        self._empty_since: float | None = None
        self.holder: Owner | None = None  # who had it when we last looked

    def take(self) -> bool:
        """Try once. Where it fails, `holder` says why, or is None for a lock that is just being made or given back."""
        self.holder = None
        try:
            os.mkdir(self._place, 0o700)
        except FileExistsError:
            return self.take_over()
        return self._enter()

    def give_back(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._mine)
        with contextlib.suppress(OSError):  # somebody else has entered already
            os.rmdir(self._place)

    def _enter(self) -> bool:
        """Put our entry into the directory that we made; it may have been taken for half-made and removed meanwhile."""
        try:
            os.close(os.open(self._mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileNotFoundError:
            return False
        except OSError:  # no space, no inodes: leave no half-made lock
            with contextlib.suppress(OSError):
                os.rmdir(self._place)
            raise
        return self._is_alone()

    def _is_alone(self) -> bool:
        """With our entry there: is it the only one of a living process? If not, withdraw; of two, one or both do."""
        others = [owner for owner in self._owners() if owner != self._me]
        living = [owner for owner in others if not owner.is_dead(self._me)]
        if living:
            self.holder = living[0]
            self.give_back()
            return False
        for owner in others:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._place, owner.name()))
        return True

    def take_over(self) -> bool:
        """Try once for a lock directory that is there."""
        there = self._owners()
        if not there:
            return self._clear_half_made()
        self._empty_since = None
        living = [owner for owner in there if not owner.is_dead(self._me)]
        if living:
            self.holder = living[0]
            return False
        try:
            os.rename(os.path.join(self._place, there[0].name()), self._mine)
        except OSError:  # another one was quicker
            return False
        return self._is_alone()

    def _clear_half_made(self) -> bool:
        now = time.monotonic()
        if self._empty_since is None:
            self._empty_since = now
        elif now - self._empty_since > HALF_MADE:
            self._empty_since = None
            with contextlib.suppress(OSError):  # rmdir removes only what is still empty
                os.rmdir(self._place)
        return False

    def _owners(self) -> list[Owner]:
        return owners(self._place)


def clear(place: str) -> bool:
    """Remove the lock directory `place` unless its owner may be alive, or it is just being made; whether it is gone."""
    attempt = _Attempt(place, myself())
    if attempt.take_over():
        attempt.give_back()
    elif attempt.holder is None and _age(place) > HALF_MADE:
        with contextlib.suppress(OSError):  # rmdir removes only what is still empty
            os.rmdir(place)
    return not os.path.lexists(place)


def holder(place: str) -> Owner | None:
    """Who holds the lock directory `place` and may be alive; None for nobody."""
    me = myself()
    return next((owner for owner in owners(place) if not owner.is_dead(me)), None)


def owners(place: str) -> list[Owner]:
    """Whose entries the directory `place` has, dead or alive; none where it is not there."""
    try:
        with os.scandir(place) as entries:
            found = [parse_owner(entry.name) for entry in entries]
    except OSError:
        return []
    return sorted((owner for owner in found if owner is not None), key=Owner.name)


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def file_name(key: str) -> str:
    """Short, safe and unique for the key; its readable end comes first."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", key)[-40:].lstrip(".-")
    return f"{readable}.{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}.lock"


def who(owner: Owner | None) -> str:
    """The owner in a message."""
    return f"process {owner.pid} on {owner.host}" if owner else "another process"


def myself() -> Owner:
    """This process as an owner, with a token of its own."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "_", os.uname().nodename)[:64]
    boot = re.sub(r"[^0-9a-f]", "", _first_line("/proc/sys/kernel/random/boot_id"))[:32]
    try:
        space = re.sub(r"[^0-9]", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        space = ""
    pid = os.getpid()
    return Owner(pid, start_time(pid)[0], host, boot, space, os.urandom(6).hex())


def parse_owner(name: str) -> Owner | None:
    """The owner of an entry's name; None for what is none of ours (a desktop's or a network disk's own files)."""
    values = dict(part.partition("=")[::2] for part in name.split(","))
    if list(values) != ["pid", "start", "host", "boot", "space", "token"] or not values["pid"].isdigit():
        return None
    return Owner(int(values.pop("pid")), **values)


def _is_running(pid: int, start: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    now, state = start_time(pid)
    if state in ("Z", "X"):
        return False
    return not (now and start and now != start)


def start_time(pid: int) -> tuple[str, str]:
    """When a process started, in clock ticks since boot, and its state; empty where /proc does not say."""
    words = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (words[19], words[0]) if len(words) > 19 else ("", "")


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline()
    except OSError:
        return ""
