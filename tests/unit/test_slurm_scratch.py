"""`scratch`: the paths that a task gets, and the scripts that copy there and back, carried out here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Command, Plan, Step, TaskPlan
from mlcube_cli.errors import DefinitionError
from mlcube_cli.job import Job
from mlcube_shell.slurm_scratch import scratched, staged
from tests.world import job_of


def path_of(name: str, host_path: object, direction: str = "input", type: str = "directory") -> dict[str, str]:
    return {"name": name, "host_path": str(host_path), "direction": direction, "type": type}


def job_with(*arguments: dict[str, str], workspace: str = "/cube/workspace") -> Job:
    return job_of("local", {}, list(arguments), workspace=workspace, run_id=f"test-{os.getpid()}-1")


def plan_with(job: Job, **options: Any) -> Plan:
    moved = scratched(job_of("slurm", options).platform, job)
    arguments = tuple((argument, argument.host_path) for argument in moved.arguments)
    plan = Plan("slurm", (Step("prepare", Command(("true",))), Step("run", Command(("x",)), task="train", payload=True)),
                (TaskPlan("train", job.run_id, arguments),))
    return staged(job_of("slurm", options).platform, job, plan)


def carry_out(command: Command, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command.argv, capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, **environment}, errors="surrogateescape")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """The node's own disk; what a test leaves in /tmp goes, too."""
    place = tmp_path / "node's disk"
    place.mkdir()
    yield place
    for link in Path("/tmp").glob(f"mlcube-scratch-test-{os.getpid()}-*"):
        link.unlink()


def test_without_it_nothing_changes() -> None:
    job = job_with(path_of("data", "/shared/data"))
    for options in ({}, {"scratch": False}):
        assert scratched(job_of("slurm", options).platform, job) == job
        assert len(plan_with(job, **options).steps) == 2


def test_paths_lie_below_one_link_and_what_lies_within_another_stays_there() -> None:
    job = job_with(path_of("data", "/shared/data"), path_of("model", "/cube/workspace/model", "output"),
                   path_of("start", "/cube/workspace/model/start.bin", type="file"))
    moved = scratched(job_of("slurm", {"scratch": True}).platform, job)
    link = f"/tmp/mlcube-scratch-{job.run_id}"
    assert [argument.host_path for argument in moved.arguments] == [
        f"{link}/0/data", f"{link}/1/model", f"{link}/1/model/start.bin"]


def test_the_record_has_the_paths_that_were_meant() -> None:
    ((argument, seen),) = plan_with(job_with(path_of("data", "/shared/data")), scratch=True).tasks[0].arguments
    assert argument.host_path == "/shared/data" and seen.startswith("/tmp/mlcube-scratch-")


def test_it_is_copied_there_before_anything_of_the_task() -> None:
    assert [step.title for step in plan_with(job_with(), scratch=True).steps] == ["prepare", "copy inputs to the node", "run"]


def test_several_nodes_are_refused_and_so_is_what_holds_our_own_files() -> None:
    with pytest.raises(DefinitionError, match="several ranks"):
        plan_with(job_with(), scratch=True, nodes=2)
    with pytest.raises(DefinitionError, match="keeps of runs"):
        plan_with(job_with(path_of("all", "/cube/workspace", "output")), scratch=True)


def test_there_and_back(room: Path, tmp_path: Path) -> None:
    data, model, log = tmp_path / "da ta", tmp_path / "model", tmp_path / "new" / "log\udcff'.txt"
    data.mkdir()
    (data / "x").write_text("one", "utf-8")
    model.mkdir()
    (model / "old").write_text("kept", "utf-8")
    (model / "gone").write_text("deleted by the task", "utf-8")
    job = job_with(path_of("data", data), path_of("model", model, "output"), path_of("log", log, "output", "file"))
    moved = scratched(job_of("slurm", {"scratch": "$ROOM"}).platform, job)
    there = [Path(argument.host_path) for argument in moved.arguments]
    _, fetch, run = plan_with(job, scratch="$ROOM").steps
    done = carry_out(fetch.command, ROOM=str(room))
    assert (done.returncode, done.stderr) == (0, "")
    assert (there[0] / "x").read_text("utf-8") == "one" and str(there[0].resolve()).startswith(str(room))
    (there[1] / "gone").unlink()
    (there[1] / "made").write_text("new", "utf-8")
    there[2].write_text("line", "utf-8")
    for command in (*run.then, *run.after):
        done = carry_out(command)
        assert (done.returncode, done.stderr) == (0, "")
    assert {path.name: path.read_text("utf-8") for path in model.iterdir()} == {"old": "kept", "made": "new"}
    assert log.read_text("utf-8") == "line"
    assert list(room.iterdir()) == [] and not os.path.lexists(f"/tmp/mlcube-scratch-{job.run_id}")


def test_what_cannot_be_brought_back_is_kept(room: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way", "utf-8")
    job = job_with(path_of("model", blocked / "model", "output"))
    _, fetch, run = plan_with(job, scratch=str(room)).steps
    assert carry_out(fetch.command).returncode == 0
    place = Path(scratched(job_of("slurm", {"scratch": str(room)}).platform, job).arguments[0].host_path)
    place.mkdir()
    (place / "weights").write_text("ten hours", "utf-8")
    bring, remove = run.after
    done = carry_out(bring)
    assert done.returncode != 0 and "what the task wrote is still in" in done.stderr
    assert carry_out(remove).returncode != 0
    assert (place / "weights").read_text("utf-8") == "ten hours"


def test_a_place_without_room_or_that_is_not_there_is_told(room: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/df"
    fake.write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available Capacity Mounted on\necho d 9 9 1 9% /\n", "utf-8")
    fake.chmod(0o755)
    data = tmp_path / "data"
    data.write_bytes(b"x" * 100_000)
    job = job_with(path_of("data", data, type="file"))
    fetch = plan_with(job, scratch=str(room)).steps[1].command
    done = carry_out(fetch, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert done.returncode == 1 and "KiB are needed" in done.stderr and list(room.iterdir()) == []
    done = carry_out(plan_with(job, scratch="/no/such/place").steps[1].command)
    assert done.returncode == 1 and "/no/such/place is no directory" in done.stderr


def test_no_shell_reads_the_users_text(room: Path, tmp_path: Path) -> None:
    job = job_with()
    done = carry_out(plan_with(job, scratch=f"{room}$(touch {tmp_path}/pwned)`touch {tmp_path}/pwned`").steps[1].command)
    assert done.returncode == 1 and not (tmp_path / "pwned").exists()
    done = carry_out(plan_with(job, scratch="$NOT_SET_HERE/x").steps[1].command)
    assert done.returncode != 0 and "NOT_SET_HERE" in done.stderr


def test_what_a_killed_try_left_goes_first(room: Path, tmp_path: Path) -> None:
    job = job_with(path_of("data", tmp_path / "data", type="file"))
    (tmp_path / "data").write_text("now", "utf-8")
    fetch = plan_with(job, scratch=str(room)).steps[1].command
    for _ in range(2):
        assert carry_out(fetch).returncode == 0
    (left,) = room.iterdir()
    assert [path.name for path in left.iterdir()] == ["0"]
