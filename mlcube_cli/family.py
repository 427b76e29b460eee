"""A child and everything it started: who of them is still alive, and how they are ended."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

MARKER = "MLCUBE_RUN_ID"
_NOBODY = (1 << 31) - 1  # no process has this id
_SETTLE = 3.0  # seconds for killed processes to go away; longer means uninterruptible sleep, which nobody can end


@dataclass(frozen=True)
class Relative:
    """A living process, as /proc/PID/stat tells it."""

    pid: int
    parent: int
    group: int
    session: int


@dataclass(frozen=True)
class Family:
    """The processes that belong to a child that we started.

    `alone`: the child leads a session of its own, so session and process group are all its. `run_id`: what the child
    has in its environment as MLCUBE_RUN_ID; empty: nothing. Where there is no /proc only the process group counts.
    `passes_on`: the leader passes TERM on to those whom it is meant for, and others of its family must not get it.
    """

    leader: int
    alone: bool
    run_id: str = ""
    passes_on: bool = False

    def alive(self) -> set[int]:
        """The ids of all living members: of its session or group, with its mark, and their descendants.

        A negative id is a whole process group (where /proc does not tell the single ones).
        """
        everyone = _processes()
        if everyone is None:
            return self._alive_without_proc()
        members = {one.pid for one in everyone if self._is_ours(one)}
        while True:
            children = {one.pid for one in everyone if one.parent in members} - members
            if not children:
                return members - {os.getpid()}
            members |= children

    def ask_to_end(self) -> None:
        """Send TERM to each member once: the process group in one go, then those who left it. Or to the leader alone."""
        if self.passes_on:
            _send(self.leader, signal.SIGTERM)
            return
        if self.alone:
            _send(-self.leader, signal.SIGTERM)
        everyone = _processes() or []
        for one in everyone:
            if self._is_ours(one) and not (self.alone and one.group == self.leader):
                _send(one.pid, signal.SIGTERM)

    def kill(self) -> bool:
        """Send KILL until no member is left; False when some could not be ended (another user's, or stuck).

        All are stopped first. Else the one that is killed first takes the trace to its children with it, and one that
        is looked at first may start another meanwhile.
        """
        until = time.monotonic() + _SETTLE
        pause = 0.001
        while members := self.alive():
            stopped: set[int] = set()
            while fresh := members - stopped:
                _send_all(fresh, signal.SIGSTOP)
                stopped |= fresh
                members = self.alive()
            _send_all(stopped, signal.SIGKILL)
            if time.monotonic() > until:
                return False
            time.sleep(pause)
            pause = min(0.05, pause * 2)
        return True

    def bury(self) -> None:
        """Reap dead members that became our children, as they do when we are the first process of a container.

        Only once the leader itself was waited for: else its exit code would be taken from who waits for it.
        """
        try:
            while os.waitpid(-self.leader, os.WNOHANG)[0]:
                pass
        except OSError:
            pass

    def _is_ours(self, one: Relative) -> bool:
        if one.pid == self.leader:
            return True
        if self.alone and self.leader in (one.session, one.group):
            return True
        return bool(self.run_id) and _is_marked(one.pid, self.run_id)

    def _alive_without_proc(self) -> set[int]:
        try:
            if self.alone:
                os.killpg(self.leader, 0)
                return {-self.leader}
            os.kill(self.leader, 0)
            return {self.leader}
        except OSError:  # nobody, or (macOS) only the dead
            return set()


def marked(run_id: str) -> Family:
    """Those who bear this run's mark, and their descendants, whoever started them. Nobody where there is no /proc."""
    return Family(_NOBODY, False, run_id)


def end(family: Family, grace: float) -> bool:
    """TERM, up to `grace` seconds, KILL; False when some could not be ended."""
    family.ask_to_end()
    until = time.monotonic() + grace
    while family.alive() and time.monotonic() < until:
        time.sleep(0.05)
    return family.kill()


def _processes() -> list[Relative] | None:
    """All living processes that we can see; zombies are dead. None without /proc (macOS)."""
    try:
        with os.scandir("/proc") as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
    except OSError:
        return None
    found = []
    for name in names:
        words = _stat_words(name)
        if words is not None and words[0] not in (b"Z", b"X"):
            found.append(Relative(int(name), int(words[1]), int(words[2]), int(words[3])))
    return found or None


def _stat_words(name: str) -> list[bytes] | None:
    """The words of /proc/PID/stat from the state on; the command's name before them may hold spaces and brackets."""
    text = _read(f"/proc/{name}/stat", 4096)
    return text.rpartition(b")")[2].split() if text else None


def _is_marked(pid: int, run_id: str) -> bool:
    mark = os.fsencode(f"\0{MARKER}={run_id}\0")
    return mark in b"\0" + (_read(f"/proc/{pid}/environ", 1 << 22) or b"")


def _read(path: str, limit: int) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            parts = []
            while limit > 0 and (part := file.read(limit)):
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
    except OSError:
        return None


def _send_all(targets: set[int], number: int) -> None:
    for target in targets:
        _send(target, number)


def _send(target: int, number: int) -> None:
    try:
        os.kill(target, number)
    except OSError:  # gone already, or another user's (sudo): whoever waits for it is bounded
        pass
