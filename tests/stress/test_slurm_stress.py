"""A minute in which three runs are waited for at once, run by `make stress` only: what it costs the controller."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import clean_environment
from tests.cubes import write_tree
from tests.integration.cluster import Cluster, start_cluster

pytestmark = [pytest.mark.stress]

CUBE = """
    name: long
    tasks:
      go: {entrypoint: sleep 60, parameters: {outputs: {out: {type: directory, default: made}}}}
    slurm: {platform: local}
    local: {}
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with start_cluster() as started:
        yield started


@pytest.mark.slurm
def test_three_runs_that_are_waited_for_ask_once_in_half_a_minute(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    environment = {**clean_environment(home), **cluster.environment}
    cubes = [str(write_tree(tmp_path / name, {"mlcube.yaml": CUBE})) for name in "abc"]
    children = [subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", cube, "--task", "go", "--platform", "slurm"],
                                 env=environment, cwd=tmp_path) for cube in cubes]
    time.sleep(25)  # asked at 1, 2, 4, 8 and 16 seconds, by all of them together
    early = len(cluster.calls("squeue"))
    assert [child.wait(120) for child in children] == [0, 0, 0]
    assert early <= 10, cluster.calls("squeue")
    assert len(cluster.calls("squeue")) - early <= 3, "one question in half a minute, whoever asks"
