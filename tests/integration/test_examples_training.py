"""The examples two_ranks and sweep: in real containers, on a real Slurm, as their user types them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BASE_IMAGE, IMAGE_FILES, RunMLCube
from tests.examples import (
    QUICK_SQUASH,
    containers_of,
    copy_example,
    docker,
    owners,
    rebase,
    records,
    without_image,
)
from tests.integration.cluster import Cluster

BASE = f"-Pdocker.build_args.BASE_IMAGE={BASE_IMAGE}"
US = {(os.getuid(), os.getgid())}


def metrics_of(cube: Path) -> dict[str, Any]:
    """What the training has written, which belongs to us."""
    assert owners(cube / "workspace") == US
    found: dict[str, Any] = json.loads((cube / "workspace/model/metrics.json").read_text())
    return found


def with_small_base(name: str, target: Path) -> Path:
    """A copy of the example whose recipe starts from an image file of this machine."""
    cube = copy_example(name, target)
    rebase(cube / "Singularity.recipe", "docker-archive", IMAGE_FILES / "base.tar")
    return cube


def learned(cube: Path, ranks: int) -> None:
    """The model of two_ranks is the same, however many have trained it."""
    metrics = metrics_of(cube)
    assert (metrics["ranks"], metrics["epochs"], len(metrics["hosts"])) == (ranks, 20, 1)
    assert metrics["accuracy"] == pytest.approx(0.954167, abs=1e-6) and metrics["loss"] == pytest.approx(0.173000, abs=1e-6)


# --- two_ranks ---------------------------------------------------------------------------------------------------------


def test_one_rank_is_enough(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("two_ranks", tmp_path / "two_ranks")
    done = run_mlcube("run", "two_ranks", "--platform=local")
    assert (done.exit_code, done.stderr) == (0, "") and "rank 0 of 1" in done.stdout
    learned(cube, ranks=1)


@pytest.mark.docker
def test_one_rank_in_a_container(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("two_ranks", tmp_path / "two_ranks")
    with without_image("mlcube-example/two-ranks:0.1"):
        done = run_mlcube("run", "two_ranks", "--platform=docker", BASE, timeout=300)
    assert done.exit_code == 0, done.stderr
    learned(cube, ranks=1)
    assert containers_of("two_ranks") == ""


@pytest.mark.singularity
def test_one_rank_in_the_image_of_the_recipe(run_mlcube: RunMLCube, tmp_path: Path, scratch: Path) -> None:
    cube = with_small_base("two_ranks", tmp_path / "two_ranks")
    done = run_mlcube("run", "two_ranks", "--platform=singularity", env={"TMPDIR": str(scratch), **QUICK_SQUASH}, timeout=300)
    assert done.exit_code == 0, done.stderr
    learned(cube, ranks=1)


@pytest.mark.slurm
@pytest.mark.singularity
def test_two_ranks_on_two_nodes_train_one_model(run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> None:
    cube = with_small_base("two_ranks", tmp_path / "two_ranks")
    done = run_mlcube("run", "two_ranks", "--platform=slurm", env={**cluster.environment, **QUICK_SQUASH}, timeout=300)
    assert done.exit_code == 0, done.stderr
    said = done.stdout.splitlines()
    assert {line for line in said if line.startswith("rank")} == {line for rank in (0, 1) for line in said
                                                                  if line.startswith(f"rank {rank} of 2 on ")}
    assert sum(line.startswith("epoch") for line in said) == 20, "the first rank alone prints them"
    assert (cube / "workspace/.image/two_ranks.sif").is_file()
    learned(cube, ranks=2)
    assert records(cube / "workspace") == {"train": "succeeded"}


@pytest.mark.slurm
def test_two_ranks_without_a_container(run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> None:
    cube = copy_example("two_ranks", tmp_path / "two_ranks")
    done = run_mlcube("run", "two_ranks", "--platform=slurm", "-Pslurm.platform=local", "-Pslurm.nodes=1", "-Pslurm.ntasks=3",
                      env=cluster.environment, timeout=120)
    assert done.exit_code == 0, done.stderr
    learned(cube, ranks=3)


# --- sweep: one of its runs --------------------------------------------------------------------------------------------


def read_well(cube: Path) -> None:
    metrics = metrics_of(cube)
    assert set(metrics) == {"accuracy", "loss", "epochs", "training_loss"}
    assert metrics["accuracy"] >= 0.9 and metrics["epochs"] == 3


def test_the_digits_are_read(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("sweep", tmp_path / "sweep")
    done = run_mlcube("run", "sweep", "--platform=local")
    assert (done.exit_code, done.stderr) == (0, "") and done.stdout.splitlines()[-1].startswith("test accuracy: 0.9")
    read_well(cube)


@pytest.mark.docker
def test_the_digits_are_read_in_a_container(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("sweep", tmp_path / "sweep")
    with without_image("mlcube-example/sweep:0.1") as name:
        done = run_mlcube("run", "sweep", "--platform=docker", BASE, timeout=300)
        assert docker("image", "inspect", "--format", "{{.Config.Entrypoint}}", name) == "[python3 /app/train.py]"
    assert done.exit_code == 0, done.stderr
    read_well(cube)


@pytest.mark.singularity
def test_the_digits_are_read_in_the_image_of_the_recipe(run_mlcube: RunMLCube, tmp_path: Path, scratch: Path) -> None:
    cube = with_small_base("sweep", tmp_path / "sweep")
    done = run_mlcube("run", "sweep", "--platform=singularity", env={"TMPDIR": str(scratch), **QUICK_SQUASH}, timeout=300)
    assert done.exit_code == 0, done.stderr
    read_well(cube)
