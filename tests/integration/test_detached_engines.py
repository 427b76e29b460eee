"""Runs in the background, and killed ones, on real engines: seen, ended and reaped like those without any engine."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import DOCKER_AND_PODMAN, IMAGE_FILES, RunMLCube, clean_environment

ENGINES = (*DOCKER_AND_PODMAN, pytest.param("singularity", marks=pytest.mark.singularity))


def write_cube(place: Path, entrypoint: str) -> Path:
    task = {"entrypoint": entrypoint, "parameters": {"outputs": {"out": {"type": "directory"}}}}
    place.mkdir()
    (place / "mlcube.yaml").write_text(json.dumps({
        "name": "tried", "docker": {"image": "mlcube-test/tiny:latest"},
        "singularity": {"image": str(IMAGE_FILES / "tiny.sif")},
        "tasks": {"main": task}}))
    return place


def containers(engine: str, run: str) -> list[str]:
    """The containers of a command line's runs; apptainer has none that outlive their processes."""
    if engine == "singularity":
        return []
    done = subprocess.run([engine, "ps", "--all", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if run in name]


@pytest.fixture
def mark() -> str:
    """For how long the task would sleep: a word that stands in no other process's command line."""
    return str(10 ** 6 + uuid.uuid4().int % 10 ** 6)


def alive(mark: str) -> list[int]:
    """The processes that have this word in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            dead = "Z" in (entry / "stat").read_text().rpartition(")")[2][:3]
            if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0") and not dead:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def until(what: object, within: float = 30) -> None:
    end = time.monotonic() + within
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_detached_container_prints_ends_and_leaves_nothing(run_mlcube: RunMLCube, tmp_path: Path, engine: str) -> None:
    write_cube(tmp_path / "cube", "sh -c 'echo out; echo err >&2; exit 9'")
    started = run_mlcube("run", "cube", f"--platform={engine}", "--detach")
    assert started.exit_code == 0, started.stderr
    run = started.stdout.strip()
    assert run_mlcube("wait", run).exit_code == 9
    logs = run_mlcube("logs", run)
    assert (logs.stdout, "err" in logs.stderr) == ("out\n", True)
    assert containers(engine, run) == []
    record = json.loads((tmp_path / f"cube/workspace/.mlcube/runs/{run}-1/record.json").read_text())
    assert (record["status"], record["exit_code"]) == ("failed", 9)


@pytest.mark.parametrize("engine", ENGINES)
def test_cancel_ends_a_detached_container(run_mlcube: RunMLCube, tmp_path: Path, mark: str, engine: str) -> None:
    write_cube(tmp_path / "cube", f"sh -c 'echo up; sleep {mark}'")
    run = run_mlcube("run", "cube", f"--platform={engine}", "--detach", "--grace", "1s").stdout.strip()
    until(lambda: run_mlcube("logs", run).stdout == "up\n")
    assert len(containers(engine, run)) == (engine != "singularity")
    done = run_mlcube("cancel", run)
    assert done.exit_code == 0, done.stderr
    assert json.loads(run_mlcube("ps", "--json").stdout)["runs"][0]["exit_code"] == 143
    assert containers(engine, run) == [] and alive(mark) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_killed_run_left_in_a_container_is_listed_and_reaped(run_mlcube: RunMLCube, tmp_path: Path, home: Path,
                                                                     mark: str, engine: str) -> None:
    cube = write_cube(tmp_path / "cube", f"sh -c 'echo up; sleep {mark}'")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**clean_environment(home), "TMPDIR": str(temporary)}
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(cube), f"--platform={engine}"], env=environment,
                             cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    run = json.loads(run_mlcube("ps", "--json").stdout)["runs"][0]
    assert (run["status"], run["exit_code"]) == ("lost", 4)
    assert alive(mark)
    listed = run_mlcube("reap", "--dry-run", env={"TMPDIR": str(temporary)})
    assert listed.exit_code == 0 and run["command_id"] in listed.stdout and alive(mark)
    done = run_mlcube("reap", "--yes", env={"TMPDIR": str(temporary)})
    assert done.exit_code == 0, done.stderr
    until(lambda: not alive(mark))
    assert containers(engine, run["command_id"]) == []
    assert [path.name for path in temporary.iterdir() if "mlcube" in path.name] == []
    assert (cube / "workspace/out").is_dir()
    assert run_mlcube("reap", "--yes").stdout == ""
    shutil.rmtree(temporary)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_supervisor_leaves_nothing_that_reap_does_not_end(run_mlcube: RunMLCube, tmp_path: Path, mark: str,
                                                                    engine: str) -> None:
    cube = write_cube(tmp_path / "cube", f"sh -c 'echo up; sleep {mark}'")
    run = run_mlcube("run", "cube", f"--platform={engine}", "--detach").stdout.strip()
    until(lambda: run_mlcube("logs", run).stdout == "up\n")
    owner = dict(line.split("=") for line in (cube / f"workspace/.mlcube/runs/{run}/owner").read_text().splitlines())
    subprocess.run(["kill", "-KILL", owner["pid"]], check=True)
    until(lambda: json.loads(run_mlcube("ps", "--json").stdout)["runs"][0]["status"] == "lost")
    done = run_mlcube("reap", "--yes")
    assert done.exit_code == 0, done.stderr
    until(lambda: not alive(mark))
    assert containers(engine, run) == []
