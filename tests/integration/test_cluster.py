"""The Slurm cluster that other tests use is what they take it for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cluster import Cluster

pytestmark = pytest.mark.slurm


def test_a_job_runs_and_its_end_is_told(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("echo here; exit 3", output=str(tmp_path / "log"))
    assert (cluster.wait_for(job), cluster.show(job)["ExitCode"]) == ("FAILED", "3:0")
    assert (tmp_path / "log").read_text() == "here\n"
