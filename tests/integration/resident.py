"""Runs a program, reads all that it writes, and measures the memory of that one process, not of its children."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

BLOCK = 1 << 20


def peak_resident(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, float]:
    """How many bytes the program wrote to stdout, and the most resident memory that it had, in megabytes.

    The kernel's own high-water mark of the living process is read (Linux, `VmHWM`): getrusage would count what the test
    itself had before it turned into the program, and the program's children.
    """
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(environment))
    assert child.stdout is not None and child.stderr is not None
    ended, most = threading.Event(), [0.0]

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], _high_water(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        count = sum(len(block) for block in iter(lambda: child.stdout.read(BLOCK), b""))
        errors = child.stderr.read()
        assert child.wait(60) == 0, errors
    finally:
        ended.set()
        watcher.join()
        child.kill()
    assert most[0] > 0
    return count, most[0]


def _high_water(pid: int) -> float:
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
