"""run --all, --skip-unchanged and --explain as a user types them, on this machine; two runs into one output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import CHECKOUT, Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree

CUBE = """
    name: chain
    tasks:
      report:
        entrypoint: sh task.sh report
        parameters:
          inputs: {model: {type: file, default: model/weights}}
          outputs: {text: {type: file, default: report.txt}}
      train:
        entrypoint: sh task.sh train
        parameters:
          inputs: {data: {type: directory, default: data}, rate: {type: float, default: 0.1}}
          outputs: {model: {type: directory, default: model}}
      prepare:
        entrypoint: sh task.sh prepare
        parameters:
          inputs: {raw: {type: directory, default: raw}}
          outputs: {data: {type: directory, default: data}}
    local:
"""
TASK = """
    task=$1; shift
    for word; do name=${word%%=*}; eval "${name#--}=\\${word#*=}"; done
    echo "$task runs"
    case $task in
    prepare) mkdir -p "$data/parts"; head -c 1 "$raw/one" > "$data/parts/one" ;;
    train) wc -c < "$data/parts/one" | tr -d ' ' > "$model/weights"; echo "$rate" >> "$model/weights" ;;
    report) wc -c < "$model" > "$text" ;;
    esac
"""
ALL = ["prepare", "train", "report"]


class Chain:
    """A cube of three tasks, of which each reads what the one before it writes."""

    def __init__(self, run_mlcube: RunMLCube, base: Path) -> None:
        self.run_mlcube, self.base = run_mlcube, base
        self.cube = write_tree(base / "chain", {"mlcube.yaml": CUBE, "task.sh": TASK, "workspace/raw/one": "abc",
                                                "workspace/raw/deep/two": "2"})
        self.workspace = self.cube / "workspace"

    def run(self, *words: str) -> Outcome:
        return self.run_mlcube("run", str(self.cube), *words)

    def ran(self, *words: str) -> tuple[list[str], list[str], list[str]]:
        """With --skip-unchanged and --explain: the tasks that ran, those that were skipped, and why the first ones ran."""
        done = self.run("--skip-unchanged", "--explain", *(words or ("--all",)))
        assert done.exit_code == 0, done.stderr
        lines = [line[len("mlcube: "):] for line in done.stderr.splitlines() if line.startswith("mlcube: task ")]
        skipped = [line.split("'")[1] for line in lines if " is skipped: nothing has changed since run " in line]
        return ([line.split()[0] for line in done.stdout.splitlines()], skipped,
                [line for line in lines if " is skipped" not in line])


@pytest.fixture
def chain(run_mlcube: RunMLCube, tmp_path: Path) -> Chain:
    return Chain(run_mlcube, tmp_path)


# --- --all -----------------------------------------------------------------------------------------------------------


def test_all_runs_each_task_once_after_those_that_write_what_it_reads(chain: Chain) -> None:
    done = chain.run("--all")
    assert (done.exit_code, done.stdout) == (0, "prepare runs\ntrain runs\nreport runs\n"), done.stderr
    assert (chain.workspace / "report.txt").read_text().strip() == "6"
    plan = json.loads(chain.run("--all", "--dry-run", "--json").stdout)
    assert [task["task"] for task in plan["tasks"]] == ALL
    assert chain.run("--task", "prepare,train", "--task", "train").stdout == "prepare runs\ntrain runs\ntrain runs\n"


def test_values_go_to_the_tasks_that_have_them(chain: Chain) -> None:
    assert chain.run("--all", "rate=0.5", "model=other").exit_code == 3, "report reads a file and train writes a directory"
    done = chain.run("--all", "rate=0.5", "data=elsewhere")
    assert done.exit_code == 0, done.stderr
    assert (chain.workspace / "model/weights").read_text() == "1\n0.5\n" and (chain.workspace / "elsewhere/parts/one").exists()
    wrong = chain.run("--all", "raet=0.5")
    assert wrong.exit_code == 2 and "did you mean 'rate'?" in wrong.stderr


def test_the_number_of_tasks_has_no_bound(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    count = 150
    tasks = "".join(f"  t{number}: {{entrypoint: 'true', parameters: {{inputs: {{a: {{type: directory, default: d{number}}}}}, "
                    f"outputs: {{b: {{type: directory, default: d{number + 1}}}}}}}}}\n" for number in reversed(range(count)))
    cube = write_tree(tmp_path / "long", {"mlcube.yaml": f"name: long\ntasks:\n{tasks}local:\n", "workspace/d0/file": ""})
    done = run_mlcube("run", str(cube), "--all", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr[-2000:]
    assert [task["task"] for task in json.loads(done.stdout)["tasks"]] == [f"t{number}" for number in range(count)]


@pytest.mark.parametrize("words", [("--task", "train"), ("--json", "--task=train,report")])
def test_all_and_a_task_contradict_each_other(chain: Chain, words: tuple[str, ...]) -> None:
    done = chain.run("--all", *words)
    assert done.exit_code == 2 and "leave out one or the other" in done.stderr


def test_what_has_no_order_is_named_with_its_places_before_anything_runs(chain: Chain) -> None:
    definition = chain.cube / "mlcube.yaml"
    text = definition.read_text()
    definition.write_text(text.replace("default: report.txt", "default: raw/report.txt"))
    done = chain.run("--all")
    assert done.exit_code == 3 and "these tasks wait for each other" in done.stderr and done.stdout == ""
    assert "hint: say in which order they run: --task prepare,train,report" in done.stderr
    definition.write_text(text.replace("default: report.txt", "default: data/report.txt"))
    done = chain.run("--all")
    assert done.exit_code == 3 and done.stdout == ""
    assert "tasks 'report' (output 'text'" in done.stderr and "'prepare' (output 'data')" in done.stderr
    assert f"{chain.workspace}/data/report.txt" in done.stderr and "chain/mlcube.yaml:7:" in done.stderr


def test_a_task_that_needs_to_be_told_more_is_named_and_one_that_is_not_listed_is_left_out(
        run_mlcube: RunMLCube, tmp_path: Path) -> None:
    task = "schema_type: mlcube_task\nschema_version: 0.1.0\ninputs: []\noutputs:\n- {name: out, type: directory}\n"
    run = "schema_type: mlcube_invoke\nschema_version: 0.1.0\ntask_name: %s\ninput_binding: {}\noutput_binding: {out: %s}\n"
    root = write_tree(tmp_path / "old", {
        "mlcube.yaml": "schema_type: mlcube_root\nschema_version: 0.1.0\nname: old\nversion: 0.1.0\nauthor: me\n"
                       "tasks: [tasks/b.yaml, tasks/a.yaml]\n",
        "tasks/a.yaml": task, "tasks/b.yaml": task.replace("inputs: []", "inputs: [{name: in, type: directory}]"),
        "tasks/c.yaml": task, "run/a.yaml": run % ("a", "made"), "run/c.yaml": run % ("c", "never"),
        "run/b.yaml": (run % ("b", "more")).replace("input_binding: {}", "input_binding: {in: made}"),
        "platforms/local.yaml": "schema_version: 1.0.0\nschema_type: mlcube_local\nentrypoint: echo\n"})
    done = run_mlcube("run", str(root), "--all", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    assert [one["task"] for one in json.loads(done.stdout)["tasks"]] == ["a", "b"]
    assert "task 'c' is left out: the cube does not list" in done.stderr
    (root / "run/b.yaml").rename(root / "run/one.yaml")
    (root / "run/two.yaml").write_text((root / "run/one.yaml").read_text())
    done = run_mlcube("run", str(root), "--all", "--dry-run")
    assert done.exit_code == 3 and "task 'b' has several run configurations" in done.stderr and "run/one.yaml" in done.stderr


# --- --skip-unchanged ------------------------------------------------------------------------------------------------


def test_nothing_runs_twice_until_something_is_not_as_recorded(chain: Chain) -> None:
    assert chain.ran() == (ALL, [], [f"task '{task}' runs: it never ran here" for task in ALL])
    assert chain.ran() == ([], ALL, [])
    (chain.workspace / "raw/one").touch()
    (chain.workspace / "raw/deep/two").write_text("2")
    assert chain.ran() == ([], ALL, []), "touched, and equal"


def test_an_edited_file_in_an_input_runs_its_task_and_what_equal_outputs_lead_to_is_skipped(chain: Chain) -> None:
    chain.ran()
    (chain.workspace / "raw/deep/two").write_text("3")
    ran, skipped, why = chain.ran()
    assert (ran, skipped) == (["prepare"], ["train", "report"])
    assert why[0] == "task 'prepare' runs: input 'raw' has changed: deep/two (changed)"
    assert why[1] == "task 'train' runs unless all is as it was after: task 'prepare'; so far nothing has changed"
    (chain.workspace / "raw/one").write_text("xyz")
    ran, skipped, why = chain.ran()
    assert (ran, skipped) == (["prepare", "train"], ["report"]), "the report is the same"
    assert "task 'train' runs: input 'data' has changed: parts/one (changed)" in why


def test_what_is_read_through_a_link_comes_after_what_writes_it_and_is_not_skipped_before_that(chain: Chain) -> None:
    definition = chain.cube / "mlcube.yaml"
    definition.write_text(definition.read_text().replace("default: data}, rate", "default: alias}, rate"))
    (chain.workspace / "alias").symlink_to("data")
    files = ("--stamp", str(chain.base / "stamp"), "--deps", str(chain.base / "deps"))
    assert chain.ran()[0] == ALL, "a link to what is not there yet"
    (chain.workspace / "raw/one").write_text("xyz")
    assert chain.ran("--all", *files)[:2] == (["prepare", "train"], ["report"])
    assert "alias" not in (chain.base / "deps").read_text(), "one of the tasks writes it"


def test_a_name_in_an_input_says_nothing_of_its_own_in_an_explanation(chain: Chain) -> None:
    odd = os.fsencode(chain.workspace / "raw") + b"/\xff\x1b[2J\nmlcube: task 'x' runs"
    chain.ran()
    with open(odd, "wb"):
        pass
    _, _, why = chain.ran()
    assert why[0] == "task 'prepare' runs: input 'raw' has changed: \\udcff\\x1b[2J\\nmlcube: task 'x' runs (new)"


def test_an_output_that_is_gone_or_altered_is_made_again(chain: Chain) -> None:
    chain.ran()
    (chain.workspace / "report.txt").unlink()
    ran, skipped, why = chain.ran()
    assert (ran, skipped) == (["report"], ["prepare", "train"]) and "output 'text' is gone" in why[0]
    (chain.workspace / "data/parts/new").write_text("")
    assert chain.ran()[2][0] == "task 'prepare' runs: output 'data' has changed: parts/new (new)"


def test_parameters_definition_and_code_count_each_by_its_name(chain: Chain) -> None:
    chain.ran()
    ran, _, why = chain.ran("--all", "rate=0.2")
    assert ran == ["train", "report"] and why[0] == "task 'train' runs: parameter 'rate' was '0.1', and is '0.2'"
    assert chain.ran("--all", "rate=0.2")[0] == []
    definition = chain.cube / "mlcube.yaml"
    definition.write_text(definition.read_text() + "# a comment\n")
    assert chain.ran("--all", "rate=0.2")[0] == [], "its words are what counts"
    definition.write_text(definition.read_text().replace("sh task.sh report", "sh -u task.sh report"))
    ran, _, why = chain.ran("--all", "rate=0.2")
    assert ran == ["report"] and "step 'run task report' is another one" in why[0]
    (chain.cube / "task.sh").write_text((chain.cube / "task.sh").read_text() + "\n:\n")
    ran, _, why = chain.ran("--all", "rate=0.2")
    assert ran == ALL and why[0] == "task 'prepare' runs: the cube's files have changed: task.sh (changed)"


def test_a_failed_run_is_tried_again_and_one_with_hashing_off_cannot_be_compared(chain: Chain) -> None:
    chain.ran()
    text = (chain.cube / "task.sh").read_text()
    (chain.cube / "task.sh").write_text(text + "exit 3\n")
    assert chain.run("--task", "report", "--skip-unchanged").exit_code == 3
    (chain.cube / "task.sh").write_text(text)
    ran, skipped, why = chain.ran()
    assert (ran, skipped) == (["report"], ["prepare", "train"])
    assert "ended as 'failed', exit code 3" in why[0]
    chain.run("--task", "train", "--hash", "none")
    _, _, why = chain.ran("--task", "train")
    assert why[0] == "task 'train' runs: input 'data' cannot be compared: hashing was turned off"


def test_named_tasks_are_skipped_too_and_a_stamp_is_written(chain: Chain) -> None:
    chain.run("--all")
    files = ("--stamp", str(chain.base / "stamp"), "--deps", str(chain.base / "deps"))
    done = chain.run("--task", "train", "--skip-unchanged", *files)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert (chain.base / "stamp").exists() and "workspace/data" in (chain.base / "deps").read_text()
    assert "task 'train' is skipped: nothing has changed since run" in done.stderr
    runs = chain.workspace / ".mlcube/runs"
    assert len(list(runs.iterdir())) == 3, "what is skipped leaves no record"
    assert (runs / (chain.base / "stamp").read_text().strip() / "record.json").exists(), "the run that has made what is here"


def test_a_workspace_that_was_moved_is_known_again(chain: Chain) -> None:
    chain.ran()
    moved = chain.base / "moved"
    chain.cube.rename(moved)
    chain.cube, chain.workspace = moved, moved / "workspace"
    assert chain.ran() == ([], ALL, [])


def test_runs_into_other_outputs_do_not_hide_the_one_that_counts(chain: Chain) -> None:
    chain.ran()
    assert chain.ran("--task", "train", "model=other", "rate=0.7")[0] == ["train"]
    assert chain.ran("--task", "train", "model=other", "rate=0.7")[1] == ["train"]
    assert chain.ran() == ([], ALL, [])


def test_the_result_says_what_was_skipped_and_what_has_changed(chain: Chain) -> None:
    schema = json.loads((CHECKOUT / "schemas/mlcube.result.v1.json").read_text())
    chain.run("--all")
    (chain.workspace / "raw/one").write_text("q")
    done = chain.run("--all", "--skip-unchanged", "--json")
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert [(task["task"], task["status"], task.get("skipped", False)) for task in document["tasks"]] == [
        ("prepare", "succeeded", False), ("train", "succeeded", False), ("report", "succeeded", True)]
    (change,) = document["tasks"][0]["changes"]
    assert (change["kind"], change["name"], change["files"]) == ("input", "raw", [{"path": "one", "change": "changed"}])
    skipped = document["tasks"][2]
    assert json.loads(Path(skipped["record"]).read_text())["run_id"] == skipped["run_id"] and skipped["changes"] == []
    document = json.loads(chain.run("--all", "--skip-unchanged", "--json").stdout)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert (document["status"], [task["skipped"] for task in document["tasks"]]) == ("succeeded", [True] * 3)


def test_a_dry_run_tells_what_would_run_and_explain_alone_runs_all(chain: Chain) -> None:
    chain.run("--all")
    done = chain.run("--all", "--skip-unchanged", "--explain", "--dry-run")
    assert done.exit_code == 0 and done.stderr.count("would be skipped") == 3 and "task.sh" not in done.stdout
    assert done.stdout.startswith("#!/bin/sh") and done.stdout.count("is left out: nothing has changed since run") == 3
    (chain.workspace / "raw/one").write_text("z")
    done = chain.run("--all", "--skip-unchanged", "--explain", "--dry-run")
    assert "task 'prepare' would run: input 'raw' has changed: one (changed)" in done.stderr
    assert "task 'train' would run unless all is as it was after: task 'prepare'" in done.stderr
    assert "mlcube run judges task 'train' again before its turn" in done.stdout and "task.sh train" in done.stdout
    done = chain.run("--all", "--explain")
    assert done.stdout.split("\n")[:3] == [f"{task} runs" for task in ALL] and "is skipped" not in done.stderr
    assert "task 'report' runs, though nothing has changed" in done.stderr


def test_in_the_background_what_comes_after_a_task_that_runs_does_too(chain: Chain) -> None:
    chain.run("--all")
    (chain.workspace / "raw/deep/two").write_text("4")
    done = chain.run("--all", "--skip-unchanged", "--explain", "--detach", "--json")
    document = json.loads(done.stdout)
    assert [task["status"] for task in document["tasks"]] == ["queued"] * 3, done.stderr
    assert "task 'train' runs, since this comes before it: task 'prepare'" in done.stderr
    assert chain.run_mlcube("wait").exit_code == 0
    done = chain.run("--all", "--skip-unchanged", "--detach", "--json")
    assert [task["skipped"] for task in json.loads(done.stdout)["tasks"]] == [True] * 3, done.stderr
    chain.run("--task", "prepare", "--detach")
    until = time.monotonic() + 60
    while chain.run("--task", "prepare", "--skip-unchanged", "--json").exit_code == 4 and time.monotonic() < until:
        time.sleep(0.2)
    assert chain.ran("--task", "prepare")[1] == ["prepare"], "its record is completed where nobody has asked how it ended"


# --- two at once -----------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(chain: Chain, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`prepare` runs, until the file `go` is there."""
    (chain.cube / "task.sh").write_text('touch "$PWD/begun"; while [ ! -e "$PWD/go" ]; do sleep 0.05; done\n')
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(chain.cube), "--task", "prepare"],
                             env=clean_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (chain.cube / "begun").exists() and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield child
    finally:
        (chain.cube / "go").touch()
        child.wait(60)


def test_a_second_run_into_an_output_is_refused_until_the_first_one_ends(chain: Chain, slow: subprocess.Popen[bytes]) -> None:
    for words in (("--task", "prepare"), ("--task", "prepare", "data=data/below"), ("--task", "prepare", "--detach")):
        done = chain.run(*words)
        assert done.exit_code == 4 and "is being written by run" in done.stderr, done.stderr
        assert "mlcube wait" in done.stderr and "mlcube cancel" in done.stderr
    document = json.loads(chain.run("--task", "prepare", "--json").stdout)
    assert (document["status"], document["exit_code"]) == ("environment", 4)
    assert chain.run("--task", "prepare", "--dry-run").exit_code == 0
    (chain.cube / "go").touch()
    assert chain.run("--task", "prepare", "data=elsewhere").exit_code == 0
    assert slow.wait(60) == 0
    assert chain.run("--task", "prepare").exit_code == 0


def test_a_killed_run_gives_its_outputs_back_once_nothing_of_it_is_left(chain: Chain, slow: subprocess.Popen[bytes]) -> None:
    os.kill(slow.pid, signal.SIGKILL)
    slow.wait(60)
    done = chain.run("--task", "prepare")
    assert done.exit_code == 4 and "mlcube reap" in done.stderr, "its task goes on"
    assert chain.run_mlcube("reap", "--yes").exit_code == 0
    (chain.cube / "go").touch()
    assert chain.run("--task", "prepare").exit_code == 0
