"""mlcube sweep on this machine, as typed: members with outputs of their own, ended, failed, killed, run again, compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.dom.minidom
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import CHECKOUT, Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree

CUBE = """
    name: fit
    tasks:
      train:
        entrypoint: sh train.sh
        parameters:
          inputs:
            settings: {type: file, default: settings.yaml}
            data: {type: directory, default: data}
            label: {type: string, default: plain}
          outputs: {out: {type: directory, default: made}, scores: {type: file, default: metrics.json}}
      other:
        entrypoint: sh train.sh
        parameters:
          inputs: {state: {type: file, default: settings.yaml, opts: rw}}
          outputs: {state: {type: file, default: settings.yaml}}
    local: {}
    docker: {image: nowhere}
"""
TRAIN = """\
for word; do
  case $word in --settings=*) settings=${word#*=};; --out=*) out=${word#*=};; --scores=*) scores=${word#*=};;
    --label=*) label=${word#*=};; esac
done
rate=$(sed -n 's/^rate: \\([^ ]*\\).*/\\1/p' "$settings") seed=$(sed -n 's/^seed: //p' "$settings")
echo "rate $rate seed $seed label $label"
date +%s.%N >>order
if [ -e slow ] && [ "$seed" -lt 10 ]; then sleep 30; fi
[ "$seed" != 13 ] || [ -e lucky ] || { echo 'bad luck' >&2; exit 3; }
echo "$seed" >"$out/seed"
printf '{"accuracy": 0.%s, "test": {"loss": %s}}' "$seed" "$rate" >"$scores"
"""
SETTINGS = "# how it learns\nrate: 0.1  # a step\nseed: 1\n"


class Bench:
    """A cube whose task is a shell script, and a user with a home of his own."""

    def __init__(self, run_mlcube: RunMLCube, base: Path, home: Path) -> None:
        self._run, self.home = run_mlcube, home
        self.cube = write_tree(base / "a cube's", {"mlcube.yaml": CUBE, "train.sh": TRAIN, "workspace/data/x": "1"})
        (self.cube / "workspace/settings.yaml").write_text(SETTINGS)
        self.children: list[subprocess.Popen[str]] = []

    def run(self, *words: str) -> Outcome:
        return self._run(*words, cwd=self.cube)

    def sweep(self, *words: str, code: int = 0) -> Outcome:
        done = self.run("sweep", ".", "--platform", "local", "--task", "train", *words)
        assert done.exit_code == code, done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "mlcube_cli", "sweep", ".", "--platform", "local", "--task", "train", *words],
            cwd=self.cube, env=clean_environment(self.home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        return child

    @property
    def directory(self) -> Path:
        return max((self.cube / "workspace/sweeps").iterdir())

    def status(self) -> dict:
        done = self.run("sweep", "status", "--json")
        document = json.loads(done.stdout)
        if done.exit_code == 0:
            schema = json.loads((CHECKOUT / "schemas/mlcube.sweep-status.v1.json").read_text())
            jsonschema.Draft202012Validator(schema).validate(document)
        return document.get("counts", {})

    def until(self, **counts: int) -> None:
        end = time.monotonic() + 60
        while self.status() != counts:
            assert time.monotonic() < end, self.status()
            time.sleep(0.2)

    def running(self) -> list[str]:
        """The command lines of the cube's tasks that run now."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode("utf-8", "replace").split("\0")
                here = os.readlink(entry.parent / "cwd")
            except OSError:
                continue
            if here == str(self.cube) and any(word in ("train.sh", "30") for word in words):
                found.append(" ".join(words))
        return found


@pytest.fixture
def bench(run_mlcube: RunMLCube, tmp_path: Path, home: Path) -> Iterator[Bench]:
    found = Bench(run_mlcube, tmp_path, home)
    yield found
    for child in found.children:
        child.kill()
        child.communicate()
    (found.cube / "slow").unlink(missing_ok=True)
    found.run("cancel", "--now")


def test_each_member_has_its_values_and_its_outputs(bench: Bench) -> None:
    done = bench.sweep("--set", "rate=0.5,1e-3", "--set", "seed=1..2", "--set", "label=a b,c", "-j", "2")
    assert done.stdout == f"{bench.directory.name}\n"
    assert "8 succeeded" in done.stderr
    names = [*(f"000{number}" for number in range(1, 9)), "sweep.json"]
    assert sorted(path.name for path in bench.directory.iterdir()) == names
    last = bench.directory / "0008"
    assert (last / "settings.yaml").read_text() == "# how it learns\nrate: 0.001  # a step\nseed: 2\n"
    assert (last / "out/seed").read_text() == "2\n"
    assert (bench.cube / "workspace/settings.yaml").read_text() == SETTINGS, "the original stays"
    assert not (bench.cube / "workspace/made").exists()
    assert bench.run("logs", f"{bench.directory.name}-1").stdout == "rate 0.5 seed 1 label a b\n"
    schema = json.loads((CHECKOUT / "schemas/mlcube.sweep.v1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads((bench.directory / "sweep.json").read_text()))


def test_every_member_has_a_record_and_ps_has_one_line(bench: Bench) -> None:
    bench.sweep("--set", "seed=1..3")
    paths = sorted((bench.cube / "workspace/.mlcube/runs").glob("*-*-[0-9]/record.json"))
    records = [json.loads(path.read_text()) for path in paths]
    assert [(record["status"], record["exit_code"]) for record in records] == [("succeeded", 0)] * 3
    schema = json.loads((CHECKOUT / "schemas/mlcube.record.v1.json").read_text())
    for number, record in enumerate(records, 1):
        jsonschema.Draft202012Validator(schema).validate(record)
        assert record["code"] == records[0]["code"]
        inputs = {entry["name"]: entry for entry in record["inputs"]}
        assert inputs["data"]["sha256"] == next(one for one in records[0]["inputs"] if one["name"] == "data")["sha256"]
        assert inputs["settings"]["path"].endswith(f"000{number}/settings.yaml")
        assert inputs["settings"]["sha256"]
    assert len({entry["sha256"] for record in records for entry in record["outputs"] if entry["name"] == "scores"}) == 3
    listed = bench.run("ps").stdout.splitlines()
    assert len(listed) == 2
    assert "train x 3" in listed[1]
    assert "3 succeeded" in listed[1]
    (line,) = json.loads(bench.run("ps", "--json").stdout)["runs"]
    assert line["sweep"] == {"directory": str(bench.directory), "members": 3, "counts": {"succeeded": 3}}
    again = bench.run("runs", "rerun", f"{bench.directory.name}-2", "--dry-run")
    assert again.exit_code == 0, again.stderr
    assert "0002/settings.yaml" in again.stdout


def test_a_failed_member_stops_no_other_and_is_run_again(bench: Bench) -> None:
    done = bench.sweep("--set", "seed=12..14", code=3)
    assert "member 2 (seed=13): failed, exit code 3: bad luck" in done.stderr
    assert bench.status() == {"succeeded": 2, "failed": 1}
    assert "nothing to run again; --failed runs the 1" in bench.run("sweep", "retry").stderr
    (bench.cube / "lucky").touch()
    again = bench.run("sweep", "retry", "--failed", "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["counts"] == {"succeeded": 3}
    members = json.loads((bench.directory / "sweep.json").read_text())["members"]
    assert [len(member["runs"]) for member in members] == [1, 2, 1]


def test_fail_fast_starts_no_more(bench: Bench) -> None:
    bench.sweep("--set", "seed=13..15", "--fail-fast", code=3)
    assert bench.status() == {"failed": 1, "cancelled": 2}
    assert bench.run("sweep", "retry").exit_code == 3, "those that are missing; the failed one stays failed"
    assert bench.status() == {"succeeded": 2, "failed": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_leaves_no_process(bench: Bench, number: signal.Signals) -> None:
    (bench.cube / "slow").touch()
    child = bench.start("--set", "seed=1..5", "-j", "2")
    bench.until(running=2, queued=3)
    assert "nothing to run again: 5 of its members still run, or wait for it" in bench.run("sweep", "retry").stderr
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == -number, said
    assert bench.running() == []
    assert bench.status() == {"cancelled": 5}
    (bench.cube / "slow").unlink()
    assert bench.run("sweep", "retry", "-j", "3").exit_code == 0
    assert bench.status() == {"succeeded": 5}


def test_a_killed_sweep_is_told_and_gone_on_with(bench: Bench) -> None:
    (bench.cube / "slow").touch()
    child = bench.start("--set", "seed=9..12", "-j", "1")
    bench.until(running=1, queued=3)
    child.kill()
    child.wait()
    assert bench.status() == {"running": 1, "cancelled": 3}, "what runs goes on, and nobody starts the others"
    held = bench.run("sweep", "retry")
    assert held.exit_code == 4
    assert "is being written by run" in held.stderr
    assert bench.run("cancel", "--now").exit_code == 0
    assert bench.running() == []
    (bench.cube / "slow").unlink()
    assert bench.run("sweep", "retry").exit_code == 0
    assert bench.status() == {"succeeded": 4}


def test_a_table_of_values_makes_members(bench: Bench) -> None:
    (bench.cube / "table.csv").write_text('rate,label\n0.5,"a, b"\n0.25,\n')
    done = bench.sweep("--from", "table.csv", "--set", "seed=1..2", "--json")
    document = json.loads(done.stdout)
    assert [member["values"] for member in document["members"]] == [
        {"rate": 0.5, "label": "a, b", "seed": 1}, {"rate": 0.5, "label": "a, b", "seed": 2}, {"rate": 0.25, "seed": 1},
        {"rate": 0.25, "seed": 2}]
    assert bench.run("logs", f"{document['sweep_id']}-4").stdout == "rate 0.25 seed 2 label plain\n"


def test_a_dry_run_is_a_script_that_does_it_and_writes_nothing(bench: Bench) -> None:
    done = bench.sweep("--set", "seed=7..8", "--dry-run")
    assert not (bench.cube / "workspace/sweeps").exists()
    assert "# note: member 2: seed=8" in done.stdout
    script = bench.cube / "script"
    script.write_text(done.stdout)
    assert subprocess.run(["sh", str(script)], cwd="/", check=False, env=clean_environment(bench.home)).returncode == 0
    assert sorted(path.read_text() for path in bench.directory.glob("*/out/seed")) == ["7\n", "8\n"]
    plan = json.loads(bench.sweep("--set", "seed=7..8", "--dry-run", "--json").stdout)
    assert [task["run_id"][-2:] for task in plan["tasks"]] == ["-1", "-2"]


def test_the_table_and_the_plot_show_the_best(bench: Bench) -> None:
    bench.sweep("--set", "rate=0.1,0.2", "--set", "seed=3..4")
    text = bench.run("sweep", "table", "--metric", "accuracy").stdout
    assert "*  2       0.1   4" in text
    assert text.endswith("largest accuracy: member 2 with 0.4 (rate=0.1 seed=4)\n")
    rows = json.loads(bench.run("sweep", "table", "--metric", "test.loss", "--sort", "--json").stdout)["rows"]
    assert [row["number"] for row in rows][-1] in (3, 4)
    head = "member,rate,seed,status,exit_code,seconds,accuracy,test.loss\n1,"
    assert bench.run("sweep", "table", "--csv").stdout.startswith(head)
    done = bench.run("sweep", "plot", bench.directory.name[-6:], "--metric", "accuracy", "--against", "seed", "-o", "p.svg")
    assert done.exit_code == 0, done.stderr
    assert len(xml.dom.minidom.parse(str(bench.cube / "p.svg")).getElementsByTagName("circle")) == 4 + 1 + 2
    printed = bench.run("sweep", "plot", ".", "--metric", "accuracy", "--against", "seed").stdout
    assert printed == (bench.cube / "p.svg").read_text()


@pytest.mark.parametrize(("words", "said"), [
    (["--set", "rat=1,2"], "did you mean 'rate'?"), ([], "a sweep needs values that differ"),
    (["--set", "out=a,b"], "is an output"),
    (["--set", "seed=1,2", "out=x"], "'out' is an output of task 'train'"), (["--set", "seed=1,1"], "are the same"),
    (["--set", "label=x,y", "label=z"], "set for all members"), (["--set", "seed=1,2", "-j", "0"], "-j 0"),
    (["--set", "label=[[1]]"], "takes no list"), (["--set", "seed=1,2", "--detach"], "--detach"),
    (["--set", "seed=1,2", "--failed"], "--failed means nothing for a new sweep"), (["--from", "absent.csv"], "absent.csv"),
    (["--set", "seed=1,2", "--task", "other"], "a sweep runs one task")])
def test_what_cannot_be_swept_is_refused_before_anything_starts(bench: Bench, words: list[str], said: str) -> None:
    assert said in bench.sweep(*words, code=2).stderr
    assert not (bench.cube / "workspace/sweeps").exists()
    assert not (bench.cube / "workspace/.mlcube").exists()


def test_a_task_that_changes_a_file_in_place_is_refused(bench: Bench) -> None:
    done = bench.run("sweep", ".", "--platform", "local", "--task", "other", "--set", "seed=1,2")
    assert done.exit_code == 3
    assert "changes 'state' in place" in done.stderr


@pytest.mark.parametrize(("words", "said"), [
    (["status"], "there is no sweep in"), (["status", "--metric", "x"], "--metric means nothing for mlcube sweep status"),
    (["table", "a", "b"], "takes one sweep"), (["plot", "--against", "x"], "there is no sweep in")])
def test_words_about_no_sweep_are_refused(bench: Bench, words: list[str], said: str) -> None:
    done = bench.run("sweep", *words)
    assert done.exit_code == 2
    assert said in done.stderr
