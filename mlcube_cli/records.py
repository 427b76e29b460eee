"""What each run leaves behind: `WORKSPACE/.mlcube/runs/<id>/record.json`, written at start and end by rename (RULINGS 30)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from mlcube_cli import __version__
from mlcube_cli.atomic import write_text

RUNS = os.path.join(".mlcube", "runs")  # below the workspace


def new_run_id(now: float, salt: bytes) -> str:
    """`20261122T041217-3f9a2c`: sorts by time (seconds, UTC), unique by six hexadecimal digits. Pure."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + "-" + salt.hex()[:6]


def rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def run_directory(workspace: str, run_id: str) -> str:
    return os.path.join(workspace, RUNS, run_id)


def write_record(directory: str, record: Mapping[str, object]) -> str:
    """Write `record.json` into `directory` (made if absent) by rename; returns its path. Raises OSError."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    path = os.path.join(directory, "record.json")
    write_text(path, json.dumps({**record, "mlcube": __version__}, indent=2, ensure_ascii=True) + "\n")
    return path
