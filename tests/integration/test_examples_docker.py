"""The examples, and small cubes of the tests' own, in real containers, through the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BASE_IMAGE, TINY_IMAGE, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.examples import (
    Served,
    WatchedDocker,
    containers_of,
    copy_example,
    docker,
    image_id,
    one_epoch,
    owners,
    records,
    trained,
    without_image,
)
from tests.integration.resident import peak_resident

pytestmark = pytest.mark.docker
US = {(os.getuid(), os.getgid())}
BASE = f"-Pdocker.build_args.BASE_IMAGE={BASE_IMAGE}"
MLBOX = (sys.executable, "-m", "mlbox")


# --- the MNIST cube ----------------------------------------------------------------------------------------------------


@pytest.fixture
def mnist_image() -> Iterator[str]:
    with without_image("mlcommons/mlcube:mnist") as name:
        yield name


@pytest.mark.slow
def test_the_mnist_cube_is_built_and_trains_in_its_container(run_mlcube: RunMLCube, tmp_path: Path, mnist_image: str,
                                                             watched_docker: WatchedDocker) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    words, env = ("mnist", "--platform", "docker", BASE), watched_docker.environment

    configured = run_mlcube("configure", *words, env=env, timeout=900)
    assert configured.exit_code == 0, configured.stderr
    assert watched_docker.calls("pull") == [], "the printed name may belong to somebody else"
    built = image_id(mnist_image)
    began = time.monotonic()
    again = run_mlcube("configure", *words, env=env)
    assert (again.exit_code, image_id(mnist_image)) == (0, built)
    assert time.monotonic() - began < 30, "all layers were there"

    done = run_mlcube("run", *words, "--task", "sample,train", env=env, timeout=900)
    assert done.exit_code == 0, done.stderr
    workspace = cube / "workspace"
    result = trained(workspace / "model", workspace / "train_logs")
    assert result.accuracy >= 0.95 and result.digits == {"train": 1498, "test": 299}
    assert f"test accuracy: {result.accuracy:.4f}" in done.stdout
    assert records(workspace) == {"sample": "succeeded", "train": "succeeded"}
    assert owners(cube) == US
    assert containers_of("mnist") == ""
    assert "changed" not in done.stderr

    with (cube / "build/mnist.py").open("a") as program:
        program.write("# one line more\n")
    warned = run_mlcube("run", *words, "--task", "sample", env=env)
    assert warned.exit_code == 0
    assert f"image {mnist_image}" in warned.stderr and "changed since" in warned.stderr
    assert "mlcube configure" in warned.stderr and image_id(mnist_image) == built, "it says so, and builds nothing"
    assert run_mlcube("configure", *words, env=env, timeout=900).exit_code == 0
    docker("image", "rm", "--force", built)  # it has lost its name to the new one
    assert "changed" not in run_mlcube("run", *words, "--task", "sample", env=env).stderr
    assert watched_docker.calls("pull") == [] and len(watched_docker.calls("build")) == 3


@pytest.mark.slow
def test_the_mlbox_is_built_by_its_first_run(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    box = copy_example("mlbox/mnist/docker", tmp_path / "examples/mlbox/mnist/docker")
    one_epoch(box)
    with without_image("mlperf/mlbox-example-mnist"):
        for task in ("sample", "train"):
            done = run_mlcube("run", f"examples/mlbox/mnist/docker:{task}", BASE, command=MLBOX, timeout=900)
            assert done.exit_code == 0, done.stderr
            assert ("build image mlperf/mlbox-example-mnist" in done.stderr) is (task == "sample")
    assert trained(box / "workspace/model", box / "workspace/log").digits == {"train": 1498, "test": 299}
    assert owners(box) == US
    assert containers_of("MNIST") == ""


@pytest.mark.slow
def test_download_reaches_the_hosts_loopback_through_the_hosts_network(run_mlcube: RunMLCube, tmp_path: Path,
                                                                       mnist_image: str, digits: Served) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    done = run_mlcube("run", "mnist", "--platform=docker", "--task=download", BASE, *digits.docker_words, timeout=900)
    assert done.exit_code == 0, done.stderr
    assert digits.sha256 in (cube / "workspace/data/SOURCE.txt").read_text()
    assert "100 %" in done.stderr and owners(cube) == US


def test_hello(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("hello", tmp_path / "hello")
    done = run_mlcube("run", "hello", "--platform", "docker", "--task", "hello,bye", f"-Pdocker.image={TINY_IMAGE}")
    said = done.stdout.splitlines()
    assert (done.exit_code, done.stderr, len(said)) == (0, "", 3)
    assert (said[0], said[2]) == ("The greeting is written.", "Bye.")
    assert f"{said[1]}\n" == (cube / "workspace/greeting.txt").read_text() and said[1].startswith("Hello from ")
    assert owners(cube) == US


# --- what a task may do, and how it ends -------------------------------------------------------------------------------

CUBE = r"""
    name: {name}
    docker: {{image: {image}}}
    tasks:
      meddle:
        entrypoint: sh -c 'for word; do path=\${{word#*=}}; echo x >"$path" || echo x >"$path/new"; done' meddle
        parameters:
          inputs: {{letter: {{type: file, default: letter}}, box: {{type: directory, default: box}}}}
          outputs: {{out: {{type: directory, default: out}}}}
      stubborn:
        entrypoint: sh -c "trap '' TERM INT HUP; echo started; while :; do sleep 0.1; done"
      talk:
        entrypoint: sh -c 'cat /raw; cat /raw >&2'
      much:
        entrypoint: sh -c 'yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde | head -c 134217728'
"""


@pytest.fixture
def name() -> str:
    """The cube's name, which its containers bear as a label."""
    return f"tried-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def cube(tmp_path: Path, name: str) -> Path:
    return write_tree(tmp_path / "my cube", {
        "mlcube.yaml": CUBE.format(name=name, image=TINY_IMAGE),
        "workspace/letter": "as it was\n", "workspace/box/kept": "as it was\n"})


def test_inputs_cannot_be_written(run_mlcube: RunMLCube, cube: Path, name: str) -> None:
    done = run_mlcube("run", "my cube", "--task", "meddle")
    assert done.stderr.count("Read-only file system") == 2, done.stderr
    workspace = cube / "workspace"
    assert (workspace / "letter").read_text() == "as it was\n"
    assert [path.name for path in (workspace / "box").iterdir()] == ["kept"]
    assert (workspace / "out/new").read_text() == "x\n" and owners(workspace / "out") == US
    assert containers_of(name) == ""


@pytest.mark.parametrize("group", [False, True], ids=["kill", "terminal"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_the_container_of_a_task_that_ignores_it(cube: Path, name: str, home: Path, number: int,
                                                                  group: bool) -> None:
    """A terminal sends its signals to the docker client too; `kill` sends them to us alone."""
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(cube), "--task=stubborn", "--grace=1s"],
                             env=clean_environment(home), text=True, start_new_session=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == "started\n"
    assert containers_of(name) != ""
    began = time.monotonic()
    (os.killpg if group else os.kill)(child.pid, number)
    child.communicate(timeout=60)
    assert containers_of(name) == ""
    assert child.returncode == -number and time.monotonic() - began < 20
    assert records(cube / "workspace") == {"stubborn": "cancelled"}


def test_a_time_limit_removes_the_container_of_a_task_that_ignores_it(run_mlcube: RunMLCube, cube: Path, name: str) -> None:
    done = run_mlcube("run", "my cube", "--task", "stubborn", "--timeout=1s", "--grace=1s", "--json")
    assert containers_of(name) == ""
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (124, "timed_out")


def test_a_signal_ends_a_build(cube: Path, name: str, home: Path, run_mlcube: RunMLCube) -> None:
    image = f"mlcube-test/{name}"
    (cube / "Dockerfile").write_text(f"FROM {TINY_IMAGE}\nRUN echo {name}; sleep 61\n")
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(cube), "--task=stubborn", "--grace=1s",
                              f"-Pdocker.image={image}", "-Pdocker.build_strategy=auto"],
                             env=clean_environment(home), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stderr is not None and "build image" in child.stderr.readline()
    time.sleep(2)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert (child.returncode, image_id(image), containers_of(name)) == (-signal.SIGINT, "", "")
    (cube / "Dockerfile").write_text(f"FROM {TINY_IMAGE}\nRUN echo {name}\n")
    try:
        done = run_mlcube("configure", str(cube), f"-Pdocker.image={image}", "-Pdocker.build_strategy=auto", timeout=60)
        assert done.exit_code == 0 and image_id(image) != "", "nobody holds the lock any more"
    finally:
        docker("image", "rm", "--force", image)


# --- output ------------------------------------------------------------------------------------------------------------

RAW = b"  1 %\r 50 %\r100 %\r\n\xff\xfe not UTF-8 \x80\x00\x1b[0m\r\n no newline at the end\xc3"


def test_every_byte_of_the_output_arrives(cube: Path, home: Path) -> None:
    (cube / "workspace/raw").write_bytes(RAW)
    done = subprocess.run([sys.executable, "-m", "mlcube_cli", "run", str(cube), "--task=talk", "-Pdocker.run_args=--mount "
                           f"'type=bind,source={cube}/workspace/raw,target=/raw'"], capture_output=True, check=False,
                          env=clean_environment(home), timeout=60)
    assert (done.returncode, done.stdout) == (0, RAW), done.stderr
    assert done.stderr.endswith(RAW)


@pytest.mark.slow
def test_much_output_costs_no_memory(cube: Path, home: Path) -> None:
    """An eighth of a gigabyte, since docker also keeps it in a log; the local platform passes a whole one."""
    count, megabytes = peak_resident([sys.executable, "-m", "mlcube_cli", "run", str(cube), "--task=much"],
                                     clean_environment(home))
    assert count == 1 << 27
    assert megabytes < 60
