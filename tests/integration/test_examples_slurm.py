"""MNIST trains as a job of a real Slurm, submitted here and through ssh; examples/sweep as one array of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import IMAGE_FILES, RunMLCube
from tests.examples import QUICK_SQUASH, copy_example, one_epoch, owners, rebase, records, trained
from tests.integration.cluster import Cluster
from tests.integration.gpu_box import Box

pytestmark = [pytest.mark.slurm, pytest.mark.singularity]
US = {(os.getuid(), os.getgid())}
DIGITS = {"train": 1498, "test": 299}
# How many digits of the test the stored model reads, by itself.
READ = """\
import sys, keras, numpy
model, data = keras.models.load_model(sys.argv[1] + "/model/model.keras"), numpy.load(sys.argv[1] + "/data/mnist.npz")
print("read:", int((model.predict(data["x_test"], verbose=0).argmax(1) == data["y_test"]).sum()))
"""


def mnist(target: Path) -> Path:
    """A copy of the example, for a short training; its recipe starts from what is here, so that the image is not old."""
    cube = copy_example("mnist", target)
    one_epoch(cube)
    rebase(cube / "build/Singularity.recipe", "docker-archive", IMAGE_FILES / "base.tar")
    return cube


def learned(workspace: Path, image: Path) -> float:
    """The accuracy of the model that is there; it belongs to us, and another process reads digits with it."""
    result = trained(workspace / "model", workspace / "train_logs")
    assert result.digits == DIGITS and result.accuracy >= 0.8
    assert records(workspace) == {"sample": "succeeded", "train": "succeeded"}
    assert owners(workspace) == US
    reading = subprocess.run(["apptainer", "exec", "--bind", str(workspace), str(image), "/opt/venv/bin/python", "-c", READ,
                              str(workspace)], capture_output=True, text=True, check=False, timeout=300)
    assert f"read: {round(result.accuracy * DIGITS['test'])}\n" in reading.stdout, reading.stderr
    return result.accuracy


@pytest.mark.slow
def test_mnist_trains_as_a_job(run_mlcube: RunMLCube, tmp_path: Path, mnist_sif: Path, cluster: Cluster) -> None:
    cube = mnist(tmp_path / "mnist")
    cluster.forget_calls()
    done = run_mlcube("run", "mnist", "--platform=slurm", "--task=sample,train", f"-Psingularity.image={mnist_sif}",
                      env=cluster.environment, timeout=900)
    assert done.exit_code == 0, done.stderr
    accuracy = learned(cube / "workspace", mnist_sif)
    assert f"test accuracy: {accuracy:.4f}" in done.stdout
    submitted = [call for call in cluster.calls("sbatch") if "--test-only" not in call]
    assert [any(word.startswith("--dependency=afterok:") for word in call) for call in submitted] == [False, True]


@pytest.fixture
def user(login_node: Box) -> Iterator[str]:
    name = login_node.new_user(f"mnist{os.getpid()}")
    yield name
    login_node.remove_user(name)


@pytest.mark.ssh
@pytest.mark.slow
def test_mnist_trains_as_a_job_that_came_through_ssh(run_mlcube: RunMLCube, tmp_path: Path, mnist_sif: Path, mnist_there: str,
                                                     login_node: Box, user: str) -> None:
    cube = mnist(tmp_path / "mnist")
    before = len(login_node.slurm_calls(user, "sbatch"))
    for words in (("--create-platform", "ssh", user), ("--set", f"platforms.{user}.platform=slurm")):
        assert run_mlcube("config", *words).exit_code == 0
    done = run_mlcube("run", "mnist", f"--platform={user}", "--task=sample,train", f"-Psingularity.image={mnist_there}",
                      env=login_node.environment, timeout=900)
    assert done.exit_code == 0, done.stderr
    accuracy = learned(cube / "workspace", mnist_sif)
    assert f"test accuracy: {accuracy:.4f}" in done.stdout
    submitted = [call for call in login_node.slurm_calls(user, "sbatch")[before:] if "--test-only" not in call]
    assert len(submitted) == 2 and login_node.logins(user) == 1


def test_a_sweep_of_twenty_trainings_is_one_array_and_shows_the_best(run_mlcube: RunMLCube, tmp_path: Path,
                                                                     cluster: Cluster) -> None:
    cube = copy_example("sweep", tmp_path / "sweep")
    rebase(cube / "Singularity.recipe", "docker-archive", IMAGE_FILES / "base.tar")
    cluster.forget_calls()
    done = run_mlcube("sweep", ".", "--platform=slurm", "--task=train", "--set", "learning_rate=0.03,0.1,0.3,1",
                      "--set", "seed=1..5", cwd=cube, env={**cluster.environment, **QUICK_SQUASH}, timeout=600)
    assert done.exit_code == 0, done.stderr
    assert len([call for call in cluster.calls("sbatch") if "--test-only" not in call]) == 1
    table = run_mlcube("sweep", "table", "--metric=accuracy", "--json", cwd=cube)
    rows = json.loads(table.stdout)["rows"]
    assert [row["status"] for row in rows] == ["succeeded"] * 20
    accuracies = {row["number"]: row["metrics"]["accuracy"] for row in rows}
    best = max(accuracies, key=lambda number: accuracies[number])
    assert json.loads(table.stdout)["best"] == best and accuracies[best] > 0.95 > min(accuracies.values())
    plotted = run_mlcube("sweep", "plot", "--metric=accuracy", "--against=learning_rate", "-o", "plot.svg", cwd=cube)
    assert f"largest accuracy: member {best} " in plotted.stderr
    picture = (cube / "plot.svg").read_text()
    assert picture.count("<title>member ") == 20
    assert re.search(rf'<title>member {best}: [^<]*</title></circle>\n?<circle class="best"', picture)
    assert owners(cube / "workspace") == US
