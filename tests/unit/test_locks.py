"""Locks without flock: between real processes, with dead owners, other hosts, and many who come at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli import locks
from mlcube_cli.errors import MachineError
from mlcube_cli.locks import Owner, lock

ROOT = Path(__file__).resolve().parents[2]

# Takes the lock, checks that nobody else is inside, stays for a moment.
WORKER = """
import os, sys, time
from mlcube_cli.locks import lock
directory, inside, stay = sys.argv[1:]
for _ in range(3):
    with lock(directory, "k", 60, lambda sentence: None):
        os.mkdir(inside)
        print("in", flush=True)
        time.sleep(float(stay))
        os.rmdir(inside)
"""


def worker(directory: Path, inside: Path, stay: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(directory), str(inside), str(stay)],
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)


def place(directory: Path, key: str = "k") -> Path:
    return directory / locks.file_name(key)


def hold(directory: Path, owner: Owner, key: str = "k") -> Path:
    """The lock as `owner` would have left it."""
    entry = place(directory, key) / owner.name()
    entry.parent.mkdir(parents=True)
    entry.touch()
    return entry


def dead_process() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def take(directory: Path, wait: float = 0.2, key: str = "k") -> list[str]:
    told: list[str] = []
    with lock(str(directory), key, wait, told.append):
        assert len(list(place(directory, key).iterdir())) == 1
    return told


def test_a_lock_says_who_holds_it_and_is_gone_at_the_end(tmp_path):
    with lock(str(tmp_path / "deep" / "er"), "k", 1, print):
        (entry,) = place(tmp_path / "deep" / "er").iterdir()
        assert f"pid={os.getpid()}," in entry.name
        assert f"host={os.uname().nodename}," in entry.name
    assert list((tmp_path / "deep" / "er").iterdir()) == []


def test_a_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock(str(tmp_path), "k", 1, print):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_different_keys_do_not_wait_for_each_other(tmp_path):
    with lock(str(tmp_path), "a/b", 1, print), lock(str(tmp_path), "a-b", 0, print):
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("key", ["x" * 5000, os.fsdecode(b"\xff/\n'"), "..", "", "/"])
def test_any_key_becomes_a_short_safe_name(tmp_path, key):
    with lock(str(tmp_path), key, 1, print):
        (entry,) = tmp_path.iterdir()
    assert len(entry.name) < 100
    assert entry.name.isascii()


def test_waiting_is_bounded_and_says_for_whom(tmp_path):
    hold(tmp_path, locks.myself())
    told: list[str] = []
    began = time.monotonic()
    with pytest.raises(MachineError) as caught, lock(str(tmp_path), "k", 0.3, told.append):
        pass
    assert 0.3 <= time.monotonic() - began < 2
    assert told == [f"waiting for process {os.getpid()} on {os.uname().nodename}, who is busy with k"]
    assert f"process {os.getpid()}" in caught.value.message
    assert str(place(tmp_path)) in caught.value.hint


def test_the_one_who_waits_may_be_called_off(tmp_path):
    hold(tmp_path, locks.myself())

    def pause(seconds: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), lock(str(tmp_path), "k", 60, lambda sentence: None, pause):
        pass


@pytest.mark.parametrize("change", [
    lambda: {"pid": dead_process()},
    lambda: {"start": "1"},  # the pid is somebody else's by now
    lambda: {"boot": "0" * 32, "space": "1"},  # before the last start of the machine
])
def test_a_dead_owners_lock_is_taken_over(tmp_path, change):
    hold(tmp_path, replace(locks.myself(), **change()))
    assert take(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_zombie_is_dead(tmp_path):
    zombie = subprocess.Popen(["true"])
    until = time.monotonic() + 5
    while locks.start_time(zombie.pid)[1] != "Z":
        assert time.monotonic() < until
    hold(tmp_path, replace(locks.myself(), pid=zombie.pid, start=locks.start_time(zombie.pid)[0]))
    take(tmp_path)
    zombie.wait()


@pytest.mark.parametrize("change", [{"host": "elsewhere", "boot": "0" * 32}, {"space": "1", "pid": 4_000_000}])
def test_another_hosts_or_containers_lock_is_waited_for(tmp_path, change):
    entry = hold(tmp_path, replace(locks.myself(), **change))
    with pytest.raises(MachineError):
        take(tmp_path)
    assert entry.exists()


def test_a_killed_owners_lock_is_taken_over(tmp_path):
    owner = worker(tmp_path / "locks", tmp_path / "inside", 60)
    assert owner.stdout.readline() == b"in\n"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert take(tmp_path / "locks", 2) == []


def test_a_half_made_lock_counts_until_it_is_some_seconds_old(tmp_path, monkeypatch):
    place(tmp_path).mkdir()
    with pytest.raises(MachineError) as caught:
        take(tmp_path)
    assert "another process" in caught.value.message
    monkeypatch.setattr(locks, "HALF_MADE", 0.2)
    assert take(tmp_path, 3) == []


def test_one_who_was_slow_to_enter_notices_that_another_is_inside(tmp_path):
    """It made the directory and slept; others took that for half-made, and one of them holds the lock now."""
    slow = locks._Attempt(str(place(tmp_path)), locks.myself())
    entry = hold(tmp_path, replace(locks.myself(), token="other"))
    assert not slow._enter()
    assert slow.holder is not None
    assert list(place(tmp_path).iterdir()) == [entry]


def test_one_who_judged_too_late_takes_nothing_away(tmp_path):
    """Two saw the same dead owner; the first has taken over, held and given back, and a third holds it now."""
    dead = replace(locks.myself(), pid=dead_process())
    late = locks._Attempt(str(place(tmp_path)), locks.myself())
    living = hold(tmp_path, replace(locks.myself(), token="third"))
    late._owners = lambda: [dead]  # type: ignore[method-assign] # what it read before
    assert not late.take_over()
    assert living.exists()


def test_foreign_files_in_a_lock_do_not_hold_it(tmp_path):
    hold(tmp_path, replace(locks.myself(), pid=dead_process()))
    (place(tmp_path) / ".nfs0001").touch()
    told: list[str] = []
    with lock(str(tmp_path), "k", 1, told.append):
        assert told == []


def test_where_no_lock_can_be_made_it_is_an_oserror(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), lock(str(tmp_path / "file" / "x"), "k", 1, print):
        pass


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_only_one_is_inside(tmp_path, stale):
    directory, inside = tmp_path / "locks", tmp_path / "inside"
    if stale:
        hold(directory, replace(locks.myself(), pid=dead_process()))
    workers = [worker(directory, inside, 0.02) for _ in range(8)]
    for one in workers:
        assert one.communicate(timeout=60)[0] == b"in\n" * 3
        assert one.returncode == 0
    assert list(directory.iterdir()) == []
