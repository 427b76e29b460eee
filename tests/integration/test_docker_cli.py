"""The whole program on real docker and podman: exit codes that tell whose fault it was, and one build for many runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DOCKER_AND_PODMAN

TINY = "mlcube-test/tiny:latest"


def write_cube(place: Path, image: str = TINY, entrypoint: str = "sh -c 'exit 0'", **docker: Any) -> None:
    task = {"entrypoint": entrypoint, "parameters": {"outputs": {"out": {"type": "directory"}}}}
    cube = {"name": "tried", "docker": {"image": image, **docker}, "tasks": {"main": task}}
    (place / "mlcube.yaml").write_text(json.dumps(cube))


@pytest.mark.parametrize("engine", DOCKER_AND_PODMAN)
@pytest.mark.parametrize(("entrypoint", "docker", "code", "status"), [
    ("sh -c 'exit 0'", {}, 0, "succeeded"),
    ("sh -c 'exit 125'", {}, 125, "failed"),
    ("sh -c 'exit 127'", {}, 127, "failed"),
    ("sh -c 'exit 4'", {}, 4, "failed"),
    ("sh -c 'exit 0'", {"--network": "no-such-network"}, 4, "environment"),
    ("/no/such/program", {"cpu_args": "--init=false"}, 4, "environment"),
    ("sh -c 'exit 0'", {"cpu_args": "--name mine"}, 3, "invalid"),
    ("sh -c 'exit 0'", {"image": "localhost:1/no-such-image"}, 5, "preparation"),
])
def test_the_exit_code_says_whose_fault_it_was(run_mlcube: Any, tmp_path: Path, entrypoint: str, docker: dict[str, Any],
                                               code: int, status: str, engine: str) -> None:
    write_cube(tmp_path, entrypoint=entrypoint, **docker)
    ended = run_mlcube("run", str(tmp_path), f"--platform={engine}", "--json")
    assert (ended.exit_code, json.loads(ended.stdout)["status"]) == (code, status), ended.stderr


@pytest.mark.podman
@pytest.mark.parametrize(("platform", "words"), [
    ({"docker": {"image": TINY}}, ["--platform=podman"]),
    ({"docker": {"image": TINY, "docker": "podman"}}, []),
    ({"docker": {"image": TINY}}, ["--platform=docker", "-Pdocker.docker=podman"]),
    ({}, ["--platform=podman.yaml"]),
])
def test_podman_is_meant_in_many_ways(run_mlcube: Any, tmp_path: Path, platform: dict[str, Any], words: list[str]) -> None:
    task = {"entrypoint": "sh -c 'id -u; cat /mlcube_io0/text'", "parameters": {
        "inputs": {"data": {"type": "directory"}}, "outputs": {"out": {"type": "directory"}}}}
    (tmp_path / "mlcube.yaml").write_text(json.dumps({"name": "tried", **platform, "tasks": {"main": task}}))
    nested = {"schema_type": "mlcube_platform", "schema_version": "0.1.0", "platform": {"name": "podman", "version": ">=1"},
              "container": {"image": TINY}}
    (tmp_path / "podman.yaml").write_text(json.dumps(nested))
    (tmp_path / "workspace" / "data").mkdir(parents=True)
    (tmp_path / "workspace" / "data" / "text").write_text("read by podman")
    ended = run_mlcube("run", str(tmp_path), *words)
    assert (ended.exit_code, ended.stdout) == (0, f"{os.getuid()}\nread by podman"), ended.stderr
    (record,) = (tmp_path / "workspace").glob(".mlcube/runs/*/record.json")
    assert "podman" in json.dumps(json.loads(record.read_text())["plan"])


@pytest.fixture
def image() -> Iterator[str]:
    name = f"mlcube-test/built-{uuid.uuid4().hex[:12]}"
    yield name
    subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False, timeout=60)


@pytest.mark.docker
def test_runs_that_start_together_build_once(home: Path, tmp_path: Path, image: str) -> None:
    write_cube(tmp_path, image, "sh -c 'cat /stamp'", build_strategy="auto")
    (tmp_path / "Dockerfile").write_text(f"FROM {TINY}\nRUN sleep 1; cat /proc/sys/kernel/random/uuid >/stamp\n")
    counter = tmp_path / "bin" / "docker"
    counter.parent.mkdir()
    real = subprocess.run(["sh", "-c", "command -v docker"], capture_output=True, text=True, check=True).stdout.strip()
    counter.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/calls\nexec {real} "$@"\n')
    counter.chmod(0o755)
    environment = {**os.environ, "HOME": str(home), "MLCUBE_HOME": str(home / "cache"),
                   "PATH": f"{counter.parent}{os.pathsep}{os.environ['PATH']}"}
    runs = [subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(tmp_path), f"out=out{number}"],
                             env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for number in range(3)]
    said = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert len({stdout for stdout, _ in said}) == 1
    assert (tmp_path / "calls").read_text().split().count("build") == 1
