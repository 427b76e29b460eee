"""New cubes on real engines, in every dialect; and migrated ones that run as their originals do."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BASE_IMAGE, IMAGE_FILES, RunMLCube
from tests.examples import copy_example, docker, owners

REPORT = "y = 3.00 x + 1.99, found in 200 points\n"
DIALECTS = ("inline", "directory", "mlbox")
ARCHIVE = f"docker-archive:{IMAGE_FILES / 'base.tar'}"
# A build by apptainer packs the whole base image, which takes half a minute: one dialect stands for all.
TRIED = [pytest.param(dialect, engine, image, marks=getattr(pytest.mark, engine)) for dialect, engine, image in (
    *((dialect, "docker", BASE_IMAGE) for dialect in DIALECTS), ("inline", "podman", BASE_IMAGE),
    ("directory", "podman", BASE_IMAGE), ("directory", "singularity", ARCHIVE))]


def run_all(run_mlcube: RunMLCube, cube: Path) -> None:
    """The new cube's two tasks, one after the other, and what they leave."""
    for task in ("prepare", "train"):
        done = run_mlcube("run", str(cube), "--task", task)
        assert done.exit_code == 0, done.stderr
    assert (cube / "workspace/report.txt").read_text() == REPORT
    assert owners(cube / "workspace") == {(os.getuid(), os.getgid())}


@pytest.fixture
def name(run_mlcube: RunMLCube) -> Iterator[str]:
    """A cube's name of its own; the images that were built for it are removed."""
    name = f"new-{uuid.uuid4().hex[:8]}"
    yield name
    for engine in ("docker", "podman"):
        run_mlcube("-c", f"{engine} image rm --force mlcube/{name}:0.1.0 || true", command=("sh",))


@pytest.mark.slow
@pytest.mark.parametrize(("dialect", "engine", "image"), TRIED)
def test_a_new_cube_runs_on_the_engine_and_so_do_its_translations(run_mlcube: RunMLCube, tmp_path: Path, name: str, engine: str,
                                                                  image: str, dialect: str) -> None:
    done = run_mlcube("create", name, "--dialect", dialect, "--platform", engine, "--image", image)
    assert done.exit_code == 0, done.stderr
    run_all(run_mlcube, tmp_path / name)

    for target in ("inline", "directory"):
        moved = run_mlcube("migrate", name, "--to", target)
        if target == dialect:
            assert moved.exit_code == 2
        elif engine == "podman" and (dialect, target) == ("directory", "inline"):
            assert moved.exit_code == 3 and "'podman'" in moved.stderr, "an inline cube has no section of that name"
        else:
            assert moved.exit_code == 0, moved.stderr
            for left in ("data/points.csv", "model/model.json", "report.txt"):
                (tmp_path / f"{name}-{target}/workspace" / left).unlink()
            run_all(run_mlcube, tmp_path / f"{name}-{target}")


@pytest.mark.parametrize("target", ["inline", "directory"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_migrated_cube_runs_on_plain_python_as_its_original_does(run_mlcube: RunMLCube, tmp_path: Path, dialect: str,
                                                                   target: str) -> None:
    assert run_mlcube("create", "mine", "--dialect", dialect).exit_code == 0
    moved = run_mlcube("migrate", "mine", "--to", target)
    assert moved.exit_code == (2 if target == dialect else 0), moved.stderr
    if target != dialect:
        assert run_mlcube("validate", "--strict", f"mine-{target}").exit_code == 0
        run_all(run_mlcube, tmp_path / f"mine-{target}")


@pytest.mark.docker
def test_the_image_of_a_migrated_cube_is_the_one_that_its_original_built(run_mlcube: RunMLCube, tmp_path: Path,
                                                                         name: str) -> None:
    """The same files, the same build file, the same digest: nothing is built again."""
    assert run_mlcube("create", name, "--platform", "docker", "--image", BASE_IMAGE).exit_code == 0
    assert run_mlcube("configure", name).exit_code == 0
    built = docker("image", "inspect", "--format", "{{.Id}}", f"mlcube/{name}:0.1.0")
    assert run_mlcube("migrate", name, "--to", "directory").exit_code == 0
    done = run_mlcube("run", f"{name}-directory", "--task", "prepare", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["status"] == "succeeded"
    assert "have changed since" not in done.stderr and "build image" not in done.stderr
    assert docker("image", "inspect", "--format", "{{.Id}}", f"mlcube/{name}:0.1.0") == built


def test_the_mnist_example_as_one_file_plans_what_it_plans_as_many(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    copy_example("mnist", tmp_path / "mnist")
    assert run_mlcube("migrate", "mnist", "--to", "inline").exit_code == 0
    for platform in ("docker", "local", "singularity"):
        plans = []
        for cube in ("mnist", "mnist-inline"):
            done = run_mlcube("run", cube, "--platform", platform, "--task", "sample,train", "--dry-run", "--json")
            assert done.exit_code == 0, done.stderr
            text = re.sub(r"\d{8}T\d{6}-[0-9a-f]{6}", "ID", done.stdout)
            plans.append(json.loads(text.replace(str(tmp_path / cube) + "/", "ROOT/").replace(f'{tmp_path / cube}"', 'ROOT"')))
        assert plans[0] == plans[1]
