"""The record of a run behind ssh: what came home is measured here, and what stays there is said to; verified, and run again."""

from __future__ import annotations

import json
import os

import jsonschema
import pytest

from tests.conftest import CHECKOUT
from tests.cubes import write_tree
from tests.integration.far import Far

pytestmark = pytest.mark.ssh


@pytest.mark.parametrize("inside", ["local", "docker", "singularity"])
def test_the_record_of_a_run_elsewhere_is_whole(far: Far, inside: str) -> None:
    far.options = (f"-Pssh.platform={inside}",)
    far.run()
    record = far.record()
    jsonschema.Draft202012Validator(json.loads((CHECKOUT / "schemas/mlcube.record.v1.json").read_text())).validate(record)
    execution = record["execution"]
    assert execution["place"] and execution["host"] != os.uname().nodename and execution["user"] == far.user
    assert execution["directory"].startswith(f"{far.root}/runs/") and record["host"] == execution["host"]
    assert {entry["hash"] for entry in (*record["inputs"], *record["outputs"])} == {"full"}
    assert [engine["version"][0].isdigit() for engine in record["engines"]] == [True]
    assert inside == "local" or len(record["image"]["id"]) == 71
    assert record["code"]["sha256"] and record["definition"]["files"]
    assert far.plain("runs", "verify").exit_code == 0
    (far.result / "one").write_text("changed")
    assert far.plain("runs", "verify").exit_code == 3
    again = far.plain("runs", "rerun", "--strict")
    assert again.exit_code == 0 and "not as in run" not in again.stderr, again.stderr


def test_the_record_of_a_detached_run_is_as_whole(far: Far) -> None:
    done = json.loads(far.run("--detach", "--json").stdout)
    assert [os.path.exists(task["record"]) for task in done["tasks"]] == [True]
    early = far.record()
    assert {entry["hash"] for entry in early["inputs"]} == {"full"} and early["engines"] and early["code"]["sha256"]
    (far.workspace / "data/one").write_text("changed here, while it runs there")
    assert far.plain("wait").exit_code == far.plain("fetch").exit_code == 0
    record = far.record()
    assert record["status"] == "succeeded" and record["inputs"] == early["inputs"]
    assert {entry["hash"] for entry in record["outputs"]} == {"full"}
    assert far.plain("runs", "verify").exit_code == 3


@pytest.mark.parametrize("words", [(), ("--detach",)])
def test_what_one_task_makes_for_the_next_is_known_when_it_has_come_home(far: Far, words: tuple[str, ...]) -> None:
    far.script("echo of now >$result/new\n", "again.sh")
    write_tree(far.result, {"one": "of an earlier run\n"})
    done = far("run", "--task", "work,again", *words)
    assert done.exit_code == 0, done.stderr
    assert far.plain("wait").exit_code == far.plain("fetch").exit_code == 0
    made, used = (json.loads(path.read_text()) for path in sorted(far.workspace.glob(".mlcube/runs/*/record.json")))
    assert (far.result / "one").read_text() == "first\n"
    assert made["outputs"][0]["sha256"] == used["inputs"][1]["sha256"] is not None
    assert far.plain("runs", "verify").exit_code == 0


def test_what_travelled_is_in_the_record_word_for_word(far: Far) -> None:
    far.run()
    travel = far.record()["travel"]
    sent = [step["argv"] for step in travel if step["argv"][0] == "rsync"]
    assert any(f"{far.user}:{far.root}/workspace/" in words for words in sent)
    (home,) = [words for words in travel[-1]["after"] if words[0] == "rsync"]
    assert any(word.startswith(f"{far.user}:{far.root}/workspace/") for word in home) and travel[-1]["stdin"] is None


def test_a_run_that_goes_on_there_is_not_lost_with_the_mlcube_here(far: Far) -> None:
    far.script("echo begun; exec sleep 60\n")
    with far.started("--task", "work") as started:
        assert started.process.stdout is not None and started.process.stdout.readline() == b"begun\n"
        started.process.kill()
        started.process.wait()
    (run,) = json.loads(far.plain("runs", "--json").stdout)["runs"]
    assert run["status"] == "running" and "mlcube ps asks it" in far.plain("runs", "show").stdout
    assert far.plain("cancel").exit_code == 0
    (run,) = json.loads(far.plain("runs", "--json").stdout)["runs"]
    assert (run["status"], run["exit_code"]) == ("cancelled", 143)


def test_data_that_stays_there_has_no_digest(far: Far) -> None:
    far.box.write(f"{far.far_home}/shared/one", b"shared\n", owner=far.user)
    far.run(f"data={far.far_home}/shared")
    entry = next(one for one in far.record()["inputs"] if one["name"] == "data")
    assert (entry["kind"], entry["hash"], entry["sha256"]) == ("remote", "none", None)
    told = far.plain("runs", "verify")
    assert told.exit_code == 0 and f"it stays on {far.record()['execution']['host']}" in told.stdout
