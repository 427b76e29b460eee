"""What the integration tests share: a built mlcube.pyz, a data set on loopback, a docker that is watched, a big image."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import BASE_IMAGE, IMAGE_FILES, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.examples import QUICK_SQUASH, Served, WatchedDocker, copy_example, docker, image_id, rebase, serve_digits
from tests.integration.cluster import Cluster, start_cluster
from tests.integration.far import Far, make_far
from tests.integration.gpu_box import Box
from tests.package.tools import build

DEFAULT_BASE = "python:3.11-slim"  # what the examples' Dockerfiles start from unless they are told another


@pytest.fixture(scope="session")
def built_pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlcube.pyz of this checkout; not to be changed."""
    output = tmp_path_factory.mktemp("built") / "mlcube.pyz"
    build(output)
    return output


@pytest.fixture
def digits(tmp_path: Path) -> Iterator[Served]:
    """A small data set that a server on loopback gives."""
    with serve_digits(tmp_path / "served") as served:
        yield served


@pytest.fixture
def watched_docker(tmp_path: Path) -> WatchedDocker:
    return WatchedDocker(tmp_path / "watched")


@pytest.fixture
def default_base() -> Iterator[None]:
    """The examples' default base image; where nothing can be pulled, the test base bears its name for a while."""
    if image_id(DEFAULT_BASE):
        yield
        return
    docker("image", "tag", BASE_IMAGE, DEFAULT_BASE)
    try:
        yield
    finally:
        docker("image", "rm", DEFAULT_BASE)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """For TMPDIR: where builds and runs put what they need for a while. It is empty again when the test has ended."""
    place = tmp_path / "scratch"
    place.mkdir()
    yield place
    assert list(place.iterdir()) == []


@pytest.fixture(scope="session")
def mnist_sif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of examples/mnist, built from its recipe by `mlcube configure`: once, since TensorFlow takes a minute."""
    place = tmp_path_factory.mktemp("mnist-image")
    cube, image = copy_example("mnist", place / "mnist"), place / "made for it/mnist.simg"
    rebase(cube / "build/Singularity.recipe", "docker-archive", IMAGE_FILES / "base.tar")
    (place / "home").mkdir()
    configured = subprocess.run(
        [sys.executable, "-m", "mlcube_cli", "configure", str(cube), "--platform=singularity", f"-Psingularity.image={image}"],
        env={**clean_environment(place / "home"), **QUICK_SQUASH}, capture_output=True, text=True, check=False, timeout=900)
    assert configured.returncode == 0, configured.stderr
    assert [path.name for path in image.parent.iterdir()] == ["mnist.simg"], "the directory was made, and nothing else is in it"
    return image


NUMBERS = itertools.count()


@pytest.fixture
def far(gpu_box: Box, run_mlcube: RunMLCube, tmp_path: Path) -> Iterator[Far]:
    """A small cube and a user of this test's own on the machine behind ssh."""
    user = gpu_box.new_user(f"u{os.getpid()}-{next(NUMBERS)}")
    try:
        yield make_far(gpu_box, user, run_mlcube, tmp_path)
    finally:
        gpu_box.remove_user(user)


@pytest.fixture
def broken_far(broken_box: Box, run_mlcube: RunMLCube, tmp_path: Path) -> Far:
    """The same on a machine of the test's own, which may be broken; the user is ada."""
    return make_far(broken_box, "ada", run_mlcube, tmp_path)


@pytest.fixture
def laptop(gpu_box: Box, home: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who has `mlcube`, and `gpu-box` in the ssh configuration: an account of the test's own."""
    user = gpu_box.new_user(f"docs{os.getpid()}")
    gpu_box.add_alias("gpu-box", user)
    gpu_box.add_alias("login", user)
    gpu_box.write("/data/points/points.csv", b"0,2\n1,5\n", owner=user)
    gpu_box.root("docker image inspect python:3-slim >/dev/null 2>&1 || docker tag mlcube-test/base:latest python:3-slim")
    program = write_tree(tmp_path / "bin", {"mlcube": f'#!/bin/sh\nexec {sys.executable} -m mlcube_cli "$@"\n'}) / "mlcube"
    program.chmod(0o755)
    environment = {**clean_environment(home), **gpu_box.environment}
    try:
        yield {**environment, "PATH": f"{program.parent}:{environment['PATH']}"}
    finally:
        gpu_box.remove_user(user)


@pytest.fixture(scope="session")
def login_node(gpu_box: Box) -> Box:
    """The machine behind ssh as the login node of a cluster; jobs run as who submitted them (markers ssh and slurm)."""
    gpu_box.start_slurm()
    return gpu_box


@pytest.fixture(scope="session")
def mnist_there(login_node: Box, mnist_sif: Path) -> Iterator[str]:
    """Where the same image lies on the login node, for everybody there."""
    path = f"/var/tmp/mnist-{os.getpid()}.simg"
    docker("cp", str(mnist_sif), f"{login_node.container}:{path}")
    login_node.root('chown root: "$1" && chmod 755 "$1"', path)
    yield path
    login_node.root('rm -f "$1"', path, check=False)


@pytest.fixture
def broken_login_node(broken_box: Box) -> Box:
    """The same on a machine of this test's own, which may be broken."""
    broken_box.start_slurm()
    return broken_box


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Slurm cluster that the session's tests share: run_mlcube(..., env=cluster.environment). Break another one."""
    with start_cluster() as started:
        yield started


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., Cluster]]:
    """Starts clusters of this test's own, in two seconds each: own_cluster(MaxArraySize="5")."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(start_cluster(**settings))


@pytest.fixture
def broken_cluster(own_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster of this test's own, whose nodes and controller may be stopped."""
    return own_cluster()
