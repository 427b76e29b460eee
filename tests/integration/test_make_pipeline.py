"""make as the driver of real work: TensorFlow through the example's Makefile, an image that two rules need at once.

What a change makes run again is tried without TensorFlow in test_example_make.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.conftest import TINY_IMAGE, clean_environment
from tests.cubes import write_tree
from tests.examples import WatchedDocker, containers_of, copy_example, image_id, one_epoch, trained, without_image

MLCUBE = f"MLCUBE={sys.executable} -m mlcube_cli"


@pytest.mark.slow
def test_the_pipeline_trains_only_when_something_changed(shared_home: Path, home: Path, tmp_path: Path) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    model, stamp = cube / "workspace/model", cube / ".make/train.stamp"
    parameters = cube / "workspace/parameters/default.parameters.yaml"

    def make() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", MLCUBE, "PLATFORM=local"], cwd=cube, capture_output=True, text=True, check=False,
                              timeout=900, env={**clean_environment(home), "MLCUBE_HOME": str(shared_home)})

    parameters.write_text("optimizer: adma\ntrain_epochs: 1\nbatch_size: 32\n")
    failed = make()
    assert failed.returncode == 2 and "Error 2" in failed.stderr, "the task's own exit code"
    assert "optimizer: must be one of" in failed.stderr
    assert (cube / ".make/sample.stamp").exists() and not stamp.exists()

    one_epoch(cube)
    mended = make()
    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.count("mlcube_cli run") == 1, "the digits were there already"
    assert trained(model, cube / "workspace/train_logs").digits == {"train": 1498, "test": 299}

    before = (model / "metrics.json").stat().st_mtime_ns
    assert "Nothing to be done" in make().stdout
    assert (model / "metrics.json").stat().st_mtime_ns == before

    os.utime(cube / "workspace/data/mnist.npz")
    again = make()
    assert (again.returncode, again.stdout.count("--task=run/train.yaml")) == (0, 1), again.stderr
    assert "--task=run/sample.yaml" not in again.stdout
    assert (model / "metrics.json").stat().st_mtime_ns > before


CUBE = """
    name: {name}
    docker: {{image: mlcube-test/{name}, build_strategy: build}}
    tasks:
      write:
        entrypoint: sh -c 'cat /name >"$(echo "$1" | cut -d= -f2)"' write
        parameters: {{outputs: {{out: {{type: file, default: out/all}}}}}}
      wait: {{entrypoint: sh -c 'echo started; sleep 61'}}
"""
DOCKERFILE = """
    FROM {base}
    RUN sleep 1; echo {name} >/name
"""
MAKEFILE = """
    RUN = $(MLCUBE) run . --platform docker
    all: a.stamp b.stamp
    %.stamp:
    \t$(RUN) --task write out=out/$* --stamp $@ --deps $@.d
    wait.stamp:
    \t$(RUN) --task wait --grace 1s --stamp $@
"""


@pytest.fixture
def name() -> str:
    return f"made-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def cube(tmp_path: Path, name: str) -> Path:
    return write_tree(tmp_path / "cube", {
        "mlcube.yaml": CUBE.format(name=name), "Makefile": MAKEFILE,
        "Dockerfile": DOCKERFILE.format(base=TINY_IMAGE, name=name)})


@pytest.mark.docker
def test_two_rules_at_once_build_one_image(cube: Path, name: str, home: Path, watched_docker: WatchedDocker) -> None:
    with without_image(f"mlcube-test/{name}"):
        done = subprocess.run(["make", "-j2", MLCUBE], cwd=cube, capture_output=True, text=True, check=False, timeout=300,
                              env={**clean_environment(home), **watched_docker.environment})
        assert done.returncode == 0, done.stderr
        assert len(watched_docker.calls("build")) == 1 and len(watched_docker.calls("run")) == 2
    assert [(cube / "workspace/out" / one).read_text() for one in "ab"] == [f"{name}\n"] * 2
    assert containers_of(name) == ""


@pytest.mark.docker
def test_ctrl_c_ends_make_the_task_and_its_container(cube: Path, name: str, home: Path) -> None:
    with without_image(f"mlcube-test/{name}") as image:
        make = subprocess.Popen(["make", MLCUBE, "wait.stamp"], cwd=cube, text=True, start_new_session=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(home))
        assert make.stdout is not None
        while "started" not in (line := make.stdout.readline()):
            assert line, make.communicate()
        assert image_id(image)
        os.killpg(make.pid, signal.SIGINT)
        make.communicate(timeout=60)
        assert make.returncode == -signal.SIGINT
        assert containers_of(name) == "" and not (cube / "wait.stamp").exists()
