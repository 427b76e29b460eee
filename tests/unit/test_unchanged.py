"""What has changed since a run: its record, as JSON data, against a task as it would run now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlcube_cli.archive import Found
from mlcube_cli.command import Command, Plan, Step, TaskPlan
from mlcube_cli.job import Argument
from mlcube_cli.report import plan_data
from mlcube_cli.unchanged import Image, Now, decided_changes, last_run

DATA = Argument("data", "input", "directory", "ro", "/w/data")
RATE = Argument("rate", "input", "text", "ro", "", "0.1")
MODEL = Argument("model", "output", "directory", "rw", "/w/model")
SHA, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def plan(*argv: str, run_id: str = "20260102T030405-aaaaaa-1", directories: tuple[str, ...] = ("/w/model",)) -> Plan:
    steps = (Step("make output directories", Command(("mkdir", "-p", "--", *directories)), task="train"),
             Step("run task train", Command((*argv, "--name", f"mlcube-{run_id}")), task="train", payload=True))
    return Plan("docker", steps, (TaskPlan("train", run_id, ()),))


def now(**fields: Any) -> Now:
    made = Now("cube", "train", "docker", (DATA, RATE, MODEL), plan("run", "x", run_id="20260304T050607-bbbbbb-2"),
               Image("mine:1", ids=frozenset({SHA})), runs_code=False)
    return replace(made, **fields)


def run(run_id: str = "20260102T030405-aaaaaa-1", **fields: object) -> Found:
    parameters = [{"name": one.name, "direction": one.direction, "type": one.type, "mode": one.mode,
                   "value": one.host_path if one.text is None else one.text} for one in (DATA, RATE, MODEL)]
    record = {"run_id": run_id, "status": "succeeded", "exit_code": 0, "task": "train", "platform": "docker",
              "cube": {"name": "cube", "root": "/c"}, "workspace": "/w", "parameters": parameters,
              "image": {"name": "mine:1", "id": SHA}, "outputs": [{"name": "model", "path": "/w/model"}],
              "plan": plan_data(plan("run", "x", run_id=run_id)), **fields}
    return Found(f"/w/.mlcube/runs/{run_id}", record)


def said(found: Found | None, **fields: Any) -> list[tuple[str, str]]:
    return [(change.kind, change.message) for change in decided_changes(found, now(**fields))]


def test_the_same_task_under_another_run_id_is_the_same() -> None:
    assert said(run()) == []


def test_a_task_without_a_run() -> None:
    assert said(None) == [("never-ran", "it never ran here")]


@pytest.mark.parametrize(("fields", "message"), [
    ({"status": "failed", "exit_code": 3}, "ended as 'failed', exit code 3"),
    ({"status": "cancelled", "exit_code": 130}, "ended as 'cancelled', exit code 130"),
    ({"status": "lost", "exit_code": 4}, "'lost'"), ({"status": "running", "exit_code": None}, "is running")])
def test_a_run_that_did_not_succeed(fields: dict[str, object], message: str) -> None:
    ((kind, sentence),) = said(run(**fields))
    assert kind == "last-run" and message in sentence


@pytest.mark.parametrize(("arguments", "message"), [
    ((DATA, replace(RATE, text="0.2"), MODEL), "parameter 'rate' was '0.1', and is '0.2'"),
    ((DATA, MODEL), "parameter 'rate' was '0.1', and is not given"),
    ((replace(DATA, host_path="/other"), RATE, MODEL), "parameter 'data' was '/w/data', and is '/other'"),
    ((DATA, RATE, MODEL, replace(RATE, name="seed", text="1")), "parameter 'seed' was not given, and is '1'")])
def test_a_parameter(arguments: tuple[Argument, ...], message: str) -> None:
    assert said(run(), arguments=arguments, plan=plan("run", "other")) == [("parameter", message)], "its words follow from it"


def test_the_platform() -> None:
    assert said(run(), platform="podman")[0] == ("platform", "the platform was 'docker', and is 'podman'")


@pytest.mark.parametrize(("recorded", "image", "message"), [
    ({"name": "mine:1", "id": SHA}, Image("mine:1", ids=frozenset({OTHER})), f"is another one: it was {SHA}, and is {OTHER}"),
    ({"name": "mine:1", "id": SHA}, Image("mine:1"), "is not here"),
    ({"name": "mine:1", "id": ""}, Image("mine:1", ids=frozenset({SHA})), "the record does not say"),
    ({"name": "/i.sif", "id": OTHER, "sha256": SHA}, Image("/i.sif", OTHER, frozenset({OTHER})), "is another one")])
def test_an_image(recorded: dict[str, str], image: Image, message: str) -> None:
    ((kind, sentence),) = said(run(image=recorded), image=image)
    assert kind == "image" and message in sentence


def test_an_image_file_is_known_by_its_content() -> None:
    assert said(run(image={"name": "/i.sif", "id": "x", "sha256": SHA}), image=Image("/i.sif", SHA, frozenset({"y"}))) == []


def test_the_words_of_the_definition() -> None:
    assert said(run(), plan=plan("run", "y")) == [
        ("definition", 'step \'run task train\' is another one: argv was ["x"], and is ["y"]')]
    assert said(run(), plan=Plan("docker", plan("run", "x").steps[1:], plan("run", "x").tasks))[0][0] == "definition"


def test_our_own_directory_that_the_first_run_makes_is_no_difference() -> None:
    first = run(plan=plan_data(plan("run", "x", directories=("/w/model", "/w/.mlcube"))))
    assert said(first, plan=plan("run", "x")) == []
    assert said(run(), plan=plan("run", "x", directories=("/w/model", "/w/more")))[0][0] == "definition"


def test_a_workspace_and_a_cube_that_were_moved() -> None:
    record = run().record
    moved = Found("/new/w/.mlcube/runs/x", {**record, "workspace": "/w", "cube": {"name": "cube", "root": "/c"}})
    here = (replace(DATA, host_path="/new/w/data"), RATE, replace(MODEL, host_path="/new/w/model"))
    assert said(moved, arguments=here, plan=plan("run", "x", directories=("/new/w/model",))) == []


def test_of_several_runs_the_newest_into_the_same_outputs_counts() -> None:
    elsewhere = run("20260202T000000-cccccc-1", outputs=[{"name": "model", "path": "/w/other"}])
    other_task, other_cube = run(task="test"), run(cube={"name": "another", "root": "/c"})
    newer, older = run("20260201T000000-dddddd-1"), run()
    assert last_run((elsewhere, other_task, other_cube, newer, older), now()) is newer
    assert last_run((elsewhere,), now()) is elsewhere, "else the newest at all, so that what differs can be told"
    assert last_run((other_task, other_cube), now()) is None
