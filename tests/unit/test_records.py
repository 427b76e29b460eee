"""Records as values: begun, completed by whoever sees the end, read again; and how runners ask for versions."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.archive import Found, choose, load_all, load_one
from mlcube_cli.command import Command, Plan, Step, TaskPlan
from mlcube_cli.definition.model import Cube
from mlcube_cli.errors import DefinitionError, UsageError
from mlcube_cli.locks import myself
from mlcube_cli.records import (
    Beginning,
    Ending,
    Execution,
    begin_record,
    close_record,
    entries_of,
    finish_record,
    read_record,
    rfc3339,
    seconds_of,
    start_record,
    status_of,
)
from mlcube_cli.runner import load_runner
from tests.world import World, job_of

RUN_ID = "20260102T030405-77-1"
ENDING = Ending("succeeded", 0, 1.5, 1000.25)


def beginning(workspace: Path, **fields: Any) -> Beginning:
    job = replace(job_of("docker", {"image": "i"}, [
        {"name": "data", "host_path": str(workspace / "data")},
        {"name": "cache", "host_path": str(workspace / "cache"), "mode": "rw"},
        {"name": "out", "host_path": str(workspace / "out"), "direction": "output"}]), workspace=str(workspace))
    cube = Cube(job.root, "mlcube.yaml", "inline", "mnist", "1.0", "", (), job.workspace, (), ())
    plan = Plan("docker", (Step("run", Command(("true",)), task="train", payload=True),),
                (TaskPlan("train", RUN_ID, job.seen(job.host_paths), image=("i", "sha256:1")),))
    return Beginning(job, plan, cube, 900.0, Execution("", "here", "ada", "/run"), **fields)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in ("data", "cache", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    return tmp_path


def finished(workspace: Path, start: Beginning, end: Ending = ENDING, **fields: Any) -> dict[str, Any]:
    directory = os.path.dirname(begin_record(start))
    return json.loads(Path(finish_record(directory, end, **fields)).read_text())  # type: ignore[no-any-return]


def told(record: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["name"]: (entry["kind"], entry["hash"]) for entry in (*record["inputs"], *record["outputs"])}


def test_whoever_sees_the_end_completes_the_record(workspace: Path) -> None:
    record = finished(workspace, beginning(workspace))
    assert (record["status"], record["started"], record["ended"], record["seconds"]) == (
        "succeeded", "1970-01-01T00:15:00.000Z", "1970-01-01T00:16:40.250Z", 1.5)
    assert told(record) == {"data": ("directory", "full"), "cache": ("", "none"), "out": ("directory", "full")}
    assert "before the task could change it" in record["inputs"][1]["note"]
    assert finished(workspace, beginning(workspace), replace(ENDING, seconds=None))["seconds"] == 100.25
    assert finished(workspace, beginning(workspace), replace(ENDING, ended=899.5))["ended"] == "1970-01-01T00:15:01.500Z"


def test_what_was_measured_elsewhere_is_taken_as_it_is(workspace: Path) -> None:
    known = {"kind": "file", "hash": "full", "sha256": "sha256:2"}
    record = finished(workspace, beginning(workspace, measured={"cache": known}), replace(ENDING, measured={"out": known}))
    assert told(record) == {"data": ("directory", "full"), "cache": ("file", "full"), "out": ("file", "full")}


def test_what_stays_on_another_machine_is_never_looked_at(workspace: Path) -> None:
    there = Execution("gpu-box", "far", "ada", "/there")
    record = finished(workspace, replace(beginning(workspace, elsewhere=frozenset({"data", "out"})), execution=there))
    assert told(record) == {"data": ("remote", "none"), "cache": ("", "none"), "out": ("remote", "none")}
    assert record["execution"] == {"place": "gpu-box", "host": "far", "user": "ada", "directory": "/there"}


@pytest.mark.parametrize(("hashing", "status", "how"), [("auto", "cancelled", "sizes"), ("full", "cancelled", "sizes"),
                                                        ("none", "cancelled", "none"), ("full", "failed", "full")])
def test_nobody_waits_for_the_digests_of_a_cancelled_run(workspace: Path, hashing: str, status: str, how: str) -> None:
    record = finished(workspace, beginning(workspace, hashing=hashing), replace(ENDING, status=status))
    assert told(record)["out"] == ("directory", how)


def test_a_second_end_changes_nothing_that_is_known(workspace: Path) -> None:
    first = finished(workspace, beginning(workspace))
    (workspace / "out/f").write_text("later")
    directory = str(workspace / ".mlcube/runs" / RUN_ID)
    assert read_record(finish_record(directory, ENDING))["outputs"] == first["outputs"]


def test_what_is_not_known_here_yet_can_be_measured_by_a_second_end(workspace: Path) -> None:
    absent = {"out": {"kind": "", "note": "not fetched yet"}}
    first = finished(workspace, beginning(workspace), replace(ENDING, measured=absent))
    assert told(first)["out"] == ("", "none")
    second = read_record(finish_record(str(workspace / ".mlcube/runs" / RUN_ID), ENDING))
    assert entries_of(second, "outputs")[0]["kind"] == "directory"


def test_a_run_is_lost_when_its_owner_is_gone_for_sure(workspace: Path) -> None:
    me = myself()
    child = subprocess.Popen(["true"])
    child.wait()
    for owner, status in ((me, "running"), (None, "running"), (replace(me, pid=child.pid, start="1"), "lost"),
                          (replace(me, boot="0" * 32), "lost"), (replace(me, host="elsewhere", boot="0" * 32), "running")):
        assert status_of(read_record(begin_record(beginning(workspace, owner=owner)))) == status
    assert status_of({"status": "failed", "owner": {"pid": child.pid}}) == "failed"


def test_on_another_machine_a_run_goes_on_without_who_started_it(workspace: Path) -> None:
    gone = replace(myself(), boot="0" * 32)
    there = replace(beginning(workspace, owner=gone), execution=Execution("gpu-box", "far", "ada", "/there"))
    assert status_of(read_record(begin_record(there))) == "running"


def test_a_lost_run_keeps_what_is_known_of_it(workspace: Path) -> None:
    known = {"kind": "file", "hash": "full", "sha256": "sha256:2", "note": ""}
    directory = os.path.dirname(begin_record(beginning(workspace, measured={"data": known})))
    record = read_record(close_record(directory, "lost", 4, "why"))
    assert (record["status"], record["exit_code"], record["ended"], record["seconds"]) == ("lost", 4, None, None)
    entries = (*entries_of(record, "inputs"), *entries_of(record, "outputs"))
    assert [(one["name"], one["kind"], one["note"]) for one in entries] == [
        ("data", "file", ""), ("cache", "", "why"), ("out", "", "why")]


def test_a_run_that_has_ended_is_not_lost(workspace: Path) -> None:
    directory = os.path.dirname(finish_record(os.path.dirname(begin_record(beginning(workspace))), ENDING))
    assert read_record(close_record(directory, "lost", 4, "why"))["status"] == "succeeded"


def test_a_task_that_waits_is_queued_until_it_begins(workspace: Path) -> None:
    directory = os.path.dirname(begin_record(beginning(workspace, status="queued")))
    assert status_of(read_record(directory)) == "queued"
    for started in (950.0, 990.0):  # the second one comes too late
        record = read_record(start_record(directory, started))
        assert (record["status"], record["started"]) == ("running", rfc3339(950.0))


def test_a_run_is_nobody_elses_to_read(workspace: Path) -> None:
    directory = os.path.dirname(finish_record(os.path.dirname(begin_record(beginning(workspace))), ENDING))
    assert [stat.S_IMODE(os.stat(place).st_mode) for place in (directory, workspace / ".mlcube/manifests")] == [0o700, 0o700]


def test_runs_that_are_closed_to_us_are_told_in_one_sentence(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = os.path.dirname(begin_record(beginning(workspace)))

    def refuse(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "lstat", refuse)  # nothing is closed to root
    assert load_all([directory]) == ([], [f"1 run is another user's, and not shown: {directory}"])


@pytest.mark.parametrize("seconds", [0.0, 900.25, 1795344502.999])
def test_times_are_read_as_they_were_written(seconds: float) -> None:
    assert seconds_of(rfc3339(seconds)) == pytest.approx(seconds, abs=0.001)
    assert seconds_of("yesterday") == 0.0


def test_a_record_that_cannot_be_completed_says_so(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        finish_record(str(tmp_path), ENDING)
    (tmp_path / "record.json").write_text('{"schema": "mlcube.record.v9"}')
    with pytest.raises(DefinitionError, match="no record of a run that this version reads"):
        finish_record(str(tmp_path), ENDING)


# --- finding them ----------------------------------------------------------------------------------------------------


def run_of(run_id: str) -> Found:
    return Found(f"/w/.mlcube/runs/{run_id}", {"run_id": run_id, "workspace": "/w", "cube": {"root": "/"}})


RUNS = [run_of(name) for name in ("20260102T030406-bbbbbb-2", "20260102T030406-bbbbbb-1", "20260102T030405-aaabbb-1")]


@pytest.mark.parametrize(("word", "found"), [
    (None, [1, 0]), ("20260102T030406-bbbbbb", [1, 0]), ("20260102T030406-bbbbbb-2", [0]), ("aaa", [2]), ("aaabbb-1", [2]),
    ("bbbbbb-2", [0]), ("030406", [1, 0])])
def test_a_word_means_a_run_or_all_tasks_of_a_command(word: str | None, found: list[int]) -> None:
    assert choose(RUNS, word) == [RUNS[number] for number in found]


def test_a_word_that_may_mean_several_commands_means_none() -> None:
    for word, says in (("bbb", "may be any of 3"), ("zzz", "there is no run 'zzz'")):
        with pytest.raises(UsageError, match=says):
            choose(RUNS, word)
    with pytest.raises(UsageError, match="no record"):
        choose([], None)
    assert load_one("aaa") is None


@pytest.mark.parametrize(("workspace", "root", "directory", "now"), [
    ("/c/workspace", "/c", "/d/workspace/.mlcube/runs/1", ("/d/workspace", "/d")),
    ("/c/workspace", "/c", "/d/elsewhere/.mlcube/runs/1", ("/d/elsewhere", "/c")),
    ("/w", "/c", "/v/.mlcube/runs/1", ("/v", "/c")),
    ("/c/w", "/c", "/not/where/records/are", ("/c/w", "/c")),
])
def test_a_cube_and_its_workspace_move_together(workspace: str, root: str, directory: str, now: tuple[str, str]) -> None:
    found = Found(directory, {"run_id": "1", "workspace": workspace, "cube": {"root": root}})
    assert (found.workspace, found.root) == now
    assert found.here(f"{workspace}/x") == f"{now[0]}/x" and found.here("/other/x") == "/other/x"
    assert found.here(f"{root}/code") == f"{now[1]}/code"


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runner", "options", "tools", "name", "words"), [
    ("docker", {"image": "i"}, ["docker"], "docker", ("docker", "version", "--format", "{{.Server.Version}}")),
    ("docker", {"image": "i", "docker": "podman"}, ["podman"], "podman",
     ("podman", "version", "--format", "{{.Client.Version}}")),
    ("singularity", {"image": "i.sif"}, ["apptainer"], "apptainer", ("apptainer", "--version")),
    ("local", {}, ["python3"], "python", ("/usr/bin/python3", "--version")),
    ("local", {"kind": "exec"}, ["bash"], "bash", ("bash", "--version")),
])
def test_a_runner_says_how_to_ask_for_versions(runner: str, options: dict[str, Any], tools: list[str], name: str,
                                               words: tuple[str, ...]) -> None:
    world = World(tools={tool: f"/usr/bin/{tool}" for tool in tools},
                  probes={"apptainer --version": {"stdout": "apptainer version 1.4.5\n"}})
    ((found, command),) = world.decide(lambda facts: load_runner(runner).versions(job_of(runner, options), facts))
    assert (found, command.argv) == (name, words)
