"""Starts the daemons of a test's Slurm cluster, and ends all of it when whoever asked for it is gone, however that went.

Usage: python cluster_keeper.py ROOM. Standard library only. Each line on stdin is a request in JSON, and gets a line of JSON
as its answer: `{"start": NAME, "words": [...], "environment": {...}}` (its output goes to ROOM/log/NAME.out) and
`{"end": NAME, "signal": NUMBER}`, answered when the daemon has gone. The end of stdin ends everything: the keeper adopts what
its daemons leave behind (a job's processes too), kills it all and removes ROOM.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h: orphans below us become our children
PATIENCE = 20.0  # seconds for a daemon to end by itself


def main() -> None:
    room = sys.argv[1]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody becomes a zombie
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of stdin is what ends us
    daemons: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            daemons[request["start"]] = answer = start(room, request["start"], request["words"], request["environment"])
        else:
            answer = end(daemons.pop(request["end"], 0), request["signal"])
        print(json.dumps(answer), flush=True)
    while below := descendants(os.getpid()):
        for pid in below:
            send(pid, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(room, ignore_errors=True)


def start(room: str, name: str, words: list[str], environment: dict[str, str]) -> int:
    """The process number of the daemon."""
    with open(f"{room}/log/{name}.out", "ab") as log:
        child = subprocess.Popen(words, env=environment, cwd=room, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_DFL) and None)
    child.returncode = 0  # it is not waited for
    return child.pid


def end(pid: int, number: int) -> bool:
    """Whether this daemon ended by the signal; it is killed when it takes too long. Its jobs go on."""
    if not pid:
        return False
    send(pid, number)
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > deadline:
            send(pid, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def descendants(root: int) -> list[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(place.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    main()
