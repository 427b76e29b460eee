"""`mlcube doctor`: what a run would need, looked at; on a cluster by a job of a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import IMAGE_FILES, RunMLCube
from tests.cubes import write_tree
from tests.integration.cluster import Cluster

DEFINITION = """
    name: looked-at
    tasks: {show: {entrypoint: sh show.sh}}
    local: {interpreter: system}
    singularity: {image: NOWHERE.sif}
    slurm: {platform: local}
"""


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    write_tree(tmp_path / "cube", {"mlcube.yaml": DEFINITION, "workspace/": "", "show.sh": "echo shown\n"})
    return tmp_path / "cube"


def test_what_is_there_is_said(cube: Path, run_mlcube: RunMLCube) -> None:
    done = run_mlcube("doctor", str(cube), "--platform", "local")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"ok     cube: looked-at, {cube}/mlcube.yaml\n") and "engine: python 3." in done.stdout


def test_what_is_not_there_is_a_note_or_a_fault(cube: Path, run_mlcube: RunMLCube) -> None:
    done = run_mlcube("doctor", str(cube), "--platform", "local", "--json", "-Plocal.python=python3.99")
    document = json.loads(done.stdout)
    assert done.exit_code == 4 and document["schema"] == "mlcube.doctor.v1" and document["well"] is False
    assert any(one["status"] == "fault" and "python3.99" in one["text"] for one in document["findings"])


@pytest.mark.slurm
def test_a_node_says_what_it_sees(cube: Path, run_mlcube: RunMLCube, cluster: Cluster) -> None:
    done = run_mlcube("doctor", str(cube), "--platform", "slurm", env=cluster.environment)
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "has answered" in done.stdout and f"sees {cube}\n" in done.stdout and "has python: Python 3." in done.stdout


@pytest.mark.slurm
@pytest.mark.singularity
def test_a_node_is_asked_for_the_image_too(cube: Path, run_mlcube: RunMLCube, cluster: Cluster) -> None:
    image = IMAGE_FILES / "tiny.sif"
    done = run_mlcube("doctor", str(cube), "--platform", "slurm", "-Pslurm.platform=singularity",
                      f"-Psingularity.image={image}", env=cluster.environment)
    assert done.exit_code == 0 and f"sees {image}\n" in done.stdout, done.stdout + done.stderr


@pytest.mark.slurm
def test_a_partition_that_is_not_there_is_a_fault(cube: Path, run_mlcube: RunMLCube, cluster: Cluster) -> None:
    done = run_mlcube("doctor", str(cube), "--platform", "slurm", "-Pslurm.partition=nowhere", env=cluster.environment)
    assert done.exit_code == 4 and "invalid partition specified: nowhere" in done.stdout and "it has: debug" in done.stdout


@pytest.mark.slurm
def test_an_engine_that_no_node_has_is_a_fault(cube: Path, run_mlcube: RunMLCube, cluster: Cluster) -> None:
    done = run_mlcube("doctor", str(cube), "--platform", "slurm", "-Pslurm.setup=[PATH=/var/empty]", env=cluster.environment)
    assert done.exit_code == 4 and "fault  node: " in done.stdout
