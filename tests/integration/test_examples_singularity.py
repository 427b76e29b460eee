"""The examples on a real apptainer, and the smallest one on podman too, through the command line alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import BASE_IMAGE, IMAGE_FILES, TINY_IMAGE, Outcome, RunMLCube
from tests.examples import (
    QUICK_SQUASH,
    copy_example,
    docker,
    image_id,
    one_epoch,
    owners,
    rebase,
    records,
    trained,
    without_image,
)

US = {(os.getuid(), os.getgid())}
DIGITS = {"train": 1498, "test": 299}
BASE = f"-Pdocker.build_args.BASE_IMAGE={BASE_IMAGE}"
MLBOX = (sys.executable, "-m", "mlbox")


@pytest.mark.singularity
@pytest.mark.slow
def test_the_mnist_cube_trains_in_the_image_of_its_recipe(run_mlcube: RunMLCube, tmp_path: Path, mnist_sif: Path,
                                                          scratch: Path) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    one_epoch(cube)
    rebase(cube / "build/Singularity.recipe", "docker-archive", IMAGE_FILES / "base.tar")  # so that the image is not old
    done = run_mlcube("run", "mnist", "--platform=singularity", "--task=sample,train", f"-Psingularity.image={mnist_sif}",
                      env={"TMPDIR": str(scratch)}, timeout=900)
    assert (done.exit_code, done.stderr) == (0, "")
    workspace = cube / "workspace"
    result = trained(workspace / "model", workspace / "train_logs")
    assert result.accuracy >= 0.8 and result.digits == DIGITS
    assert f"test accuracy: {result.accuracy:.4f}" in done.stdout
    assert records(workspace) == {"sample": "succeeded", "train": "succeeded"}
    assert owners(cube) == US


@pytest.mark.docker
@pytest.mark.singularity
@pytest.mark.slow
@pytest.mark.parametrize("source", ["docker-daemon", pytest.param("docker-archive", marks=pytest.mark.stress)])
def test_the_mnist_cube_trains_in_the_image_that_docker_built(run_mlcube: RunMLCube, tmp_path: Path, scratch: Path,
                                                              source: str) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    one_epoch(cube)
    words = ["--platform=singularity", "-Psingularity.image=mnist.simg", "-Psingularity.build_strategy=pull"]
    with without_image("mlcommons/mlcube:mnist") as name:
        built = run_mlcube("configure", "mnist", "--platform=docker", BASE, timeout=900)
        assert built.exit_code == 0, built.stderr
        if source == "docker-archive":
            docker("image", "save", "--output", str(cube / "mnist.tar"), name)
            docker("image", "rm", "--force", name)
            words.append("-Psingularity.tar_file=mnist.tar")
        done = run_mlcube("run", "mnist", *words, "--task=sample,train", timeout=900,
                          env={"TMPDIR": str(scratch), **QUICK_SQUASH})
        assert bool(image_id(name)) is (source == "docker-daemon")
    assert done.exit_code == 0, done.stderr
    assert f"build image {cube}/workspace/mnist.simg" in done.stderr
    assert trained(cube / "workspace/model", cube / "workspace/train_logs").digits == DIGITS
    assert owners(cube) == US


@pytest.mark.singularity
@pytest.mark.slow
def test_the_mlbox_is_built_by_its_first_run(run_mlcube: RunMLCube, tmp_path: Path, mnist_sif: Path, scratch: Path) -> None:
    """Its recipe starts from the cube's image, so that TensorFlow is there already."""
    box = copy_example("mlbox/mnist/singularity", tmp_path / "examples/mlbox/mnist/singularity")
    one_epoch(box)
    recipe = box / "implementation/singularity/recipes/Singularity.recipe"
    rebase(recipe, "localimage", mnist_sif)
    for task in ("sample", "train"):
        done = run_mlcube("run", f"examples/mlbox/mnist/singularity:{task}", command=MLBOX, timeout=900,
                          env={"TMPDIR": str(scratch), **QUICK_SQUASH})
        assert done.exit_code == 0, done.stderr
        assert (f"build image {recipe.parent}/mlbox.simg" in done.stderr) is (task == "sample")
    assert trained(box / "workspace/model", box / "workspace/log").digits == DIGITS
    assert sorted(path.name for path in recipe.parent.iterdir()) == ["Singularity.recipe", "mlbox.simg"]
    assert owners(box) == US


@pytest.mark.parametrize("words", [
    pytest.param(["--platform=apptainer", f"-Pdocker.image={TINY_IMAGE}"], id="docker-daemon",
                 marks=[pytest.mark.singularity, pytest.mark.docker]),
    pytest.param(["--platform=apptainer", f"-Pdocker.tar_file={IMAGE_FILES}/tiny.tar"], id="docker-archive",
                 marks=pytest.mark.singularity),
    pytest.param(["--platform=apptainer", f"-Psingularity.image={IMAGE_FILES}/tiny.sif"], id="image",
                 marks=pytest.mark.singularity),
])
def test_hello(run_mlcube: RunMLCube, tmp_path: Path, scratch: Path, words: list[str]) -> None:
    cube = copy_example("hello", tmp_path / "hello")
    greeted(cube, run_mlcube("run", "hello", *words, "--task=hello,bye", env={"TMPDIR": str(scratch)}))


@pytest.mark.podman
def test_hello_on_podman(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("hello", tmp_path / "hello")
    greeted(cube, run_mlcube("run", "hello", "--platform=podman", "--task=hello,bye", f"-Pdocker.image={TINY_IMAGE}"))


def greeted(cube: Path, done: Outcome) -> None:
    said = done.stdout.splitlines()
    assert (done.exit_code, len(said)) == (0, 3), done.stderr
    assert (said[0], said[2]) == ("The greeting is written.", "Bye.")
    assert f"{said[1]}\n" == (cube / "workspace/greeting.txt").read_text() and said[1].startswith("Hello from ")
    assert owners(cube) == US
