"""What a foreground run on a cluster says of how its tasks ended, and what the list of runs says of them afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.cubes import write_tree
from tests.integration.cluster import Cluster

pytestmark = pytest.mark.slurm

CUBE = f"""
    name: told
    tasks:
      eat: {{entrypoint: {sys.executable} eat.py}}
      nap: {{entrypoint: sleep 3}}
      last: {{entrypoint: 'true'}}
    local: {{}}
    slurm: {{platform: local}}
"""


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "told", {
        "mlcube.yaml": CUBE, "eat.py": "import time\nx = bytearray(b'x') * 900_000_000\ntime.sleep(60)\n"})


def test_the_reason_that_slurm_has_is_said_by_the_run_itself(cube: Path, run_mlcube: RunMLCube, cluster: Cluster) -> None:
    done = run_mlcube("run", str(cube), "--platform", "slurm", "--task", "eat", "-Pslurm.memory=50M", "--json",
                      env=cluster.environment)
    document = json.loads(done.stdout)
    assert done.exit_code == document["exit_code"] == 137, done.stderr
    assert document["message"].startswith("task 'eat' failed with exit code 137: job ")
    assert document["message"].endswith("it used more memory than it had asked for") and "memory" in document["hint"]
    assert f"{document['message']}\nhint: {document['hint']}\n" in done.stderr


def test_each_task_took_its_own_time(cube: Path, run_mlcube: RunMLCube, cluster: Cluster) -> None:
    done = run_mlcube("run", str(cube), "--platform", "slurm", "--task", "nap,last", env=cluster.environment)
    assert done.exit_code == 0, done.stderr
    runs = {run["task"]: run for run in json.loads(run_mlcube("ps", "--all", "--json").stdout)["runs"]}
    assert runs["nap"]["seconds"] >= 3 > runs["last"]["seconds"]
    assert runs["nap"]["ended"] <= runs["last"]["started"] <= runs["last"]["ended"]
