"""ps, logs, wait, cancel, fetch, reap and run --detach on this machine: from a new terminal, and after kills."""

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
    name: long
    tasks:
      go:
        entrypoint: sh go.sh
        parameters:
          outputs: {out: {type: directory, default: made}}
      then:
        entrypoint: sh then.sh
        parameters:
          inputs: {in: {type: directory, default: made}}
    local: {}
"""


class Bench:
    """A cube whose task is a shell script, and a user with a home of his own."""

    def __init__(self, run_mlcube: RunMLCube, base: Path, home: Path) -> None:
        self.run, self.base, self.home = run_mlcube, base, home
        self.cube = write_tree(base / "a cube", {"mlcube.yaml": CUBE, "go.sh": "echo done", "then.sh": "echo later"})
        self.children: list[subprocess.Popen[bytes]] = []

    def script(self, text: str) -> None:
        (self.cube / "go.sh").write_text(text)

    def detach(self, text: str, *words: str) -> str:
        """Start the script in the background; the command line's id."""
        self.script(text)
        done = self.run("run", "a cube", "--task", "go", "--detach", *words)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.count("\n") == 1
        return done.stdout.strip()

    def start(self, *words: str, **options: object) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-m", "mlcube_cli", *words], cwd=self.base, env=clean_environment(self.home),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})
        self.children.append(child)
        return child

    def ps(self, *words: str) -> list[dict]:
        done = self.run("ps", "--json", *words)
        assert done.exit_code == 0, done.stderr
        document = json.loads(done.stdout)
        schema = json.loads((CHECKOUT / "schemas/mlcube.ps.v1.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(document)
        return document["runs"]

    def status(self) -> list[tuple[str, object]]:
        return [(run["status"], run["exit_code"]) for run in self.ps()]

    def record(self, run_id: str) -> dict:
        return json.loads((self.cube / "workspace/.mlcube/runs" / run_id / "record.json").read_text())

    def wait_for(self, name: str) -> Path:
        """Until the file is there, below the cube."""
        until = time.monotonic() + 30
        while not (self.cube / name).exists():
            assert time.monotonic() < until, f"{name} did not appear"
            time.sleep(0.02)
        return self.cube / name

    @property
    def index(self) -> Path:
        return self.home / ".local/state/mlcube/runs"


@pytest.fixture
def bench(run_mlcube: RunMLCube, tmp_path: Path, home: Path) -> Iterator[Bench]:
    made = Bench(run_mlcube, tmp_path, home)
    yield made
    for child in made.children:
        if child.poll() is None:
            child.kill()
            child.wait()
    for path in made.index.glob("*.json"):
        run_mlcube("cancel", path.stem, "--now")


def gone(pid: int, within: float = 15) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


# --- detaching -------------------------------------------------------------------------------------------------------


def test_a_detached_run_goes_on_and_its_end_is_seen_from_anywhere(bench: Bench) -> None:
    run = bench.detach("echo out; echo err >&2; while [ ! -e go_on ]; do sleep 0.05; done; echo end; exit 7")
    bench.wait_for("workspace/.mlcube/runs")
    assert bench.status() == [("running", None)]
    (bench.cube / "go_on").write_text("")
    done = bench.run("wait", run, cwd=Path("/"))
    assert (done.exit_code, done.stdout) == (7, "")
    assert bench.run("logs", run, cwd=Path("/")) == Outcome(0, "out\nend\n", "err\n")
    assert bench.status() == [("failed", 7)]
    record = bench.record(f"{run}-1")
    assert (record["status"], record["exit_code"], record["outputs"][0]["kind"]) == ("failed", 7, "directory")


def test_a_detached_run_survives_the_terminal_and_its_signals(bench: Bench) -> None:
    """Ctrl-C and a hang-up reach the whole group of the terminal; the run is not in it."""
    bench.script("echo $$ >pid; sleep 1.5; echo survived")
    child = bench.start("run", "a cube", "--task", "go", "--detach", start_new_session=True)
    assert child.wait(timeout=60) == 0
    bench.wait_for("pid")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            pass
    assert bench.run("wait").exit_code == 0
    assert bench.run("logs").stdout == "survived\n"


def test_tasks_of_a_detached_command_run_in_order_and_a_failure_stops_the_rest(bench: Bench) -> None:
    bench.script("echo one")
    run = bench.run("run", "a cube", "--task", "go,then", "--detach").stdout.strip()
    assert bench.run("wait").exit_code == 0
    assert bench.run("logs", run).stdout == "one\nlater\n"
    assert bench.run("logs", f"{run}-2").stdout == "later\n"
    bench.script("exit 5")
    bench.run("run", "a cube", "--task", "go,then", "--detach")
    assert bench.run("wait").exit_code == 5
    assert bench.status()[:2] == [("failed", 5), ("cancelled", None)]


def test_one_task_of_several_is_waited_for_and_followed_alone(bench: Bench) -> None:
    bench.script("echo one")
    (bench.cube / "then.sh").write_text("while [ ! -e go_on ]; do sleep 0.05; done; echo later; exit 6")
    run = bench.run("run", "a cube", "--task", "go,then", "--detach").stdout.strip()
    assert bench.run("wait", f"{run}-1").exit_code == 0
    assert bench.run("logs", "-f", f"{run}-1").stdout == "one\n"
    assert bench.status() == [("succeeded", 0), ("running", None)]
    (bench.cube / "go_on").write_text("")
    assert bench.run("wait", run).exit_code == 6
    assert bench.run("logs", f"{run}-2").stdout == "later\n"


def test_logs_that_are_gone_are_said_to_be(bench: Bench) -> None:
    run = bench.detach("echo one")
    assert bench.run("wait").exit_code == 0
    for name in ("stdout.log", "stderr.log"):
        (bench.cube / f"workspace/.mlcube/runs/{run}-1" / name).unlink()
    done = bench.run("logs", run)
    assert (done.exit_code, done.stdout) == (0, "") and "are not there" in done.stderr


def test_detach_prints_a_document_with_json(bench: Bench) -> None:
    done = bench.run("run", "a cube", "--task", "go", "--detach", "--json")
    document = json.loads(done.stdout)
    assert (document["status"], document["exit_code"], document["tasks"][0]["status"]) == ("running", 0, "queued")
    waited = json.loads(bench.run("wait", document["tasks"][0]["run_id"], "--json").stdout)
    assert (waited["status"], waited["tasks"][0]["exit_code"]) == ("succeeded", 0)


@pytest.mark.parametrize("words", [["--interactive"], ["--stamp", "done"]])
def test_what_needs_somebody_to_stay_cannot_be_detached(bench: Bench, words: list[str]) -> None:
    done = bench.run("run", "a cube", "--task", "go", "--detach", *words)
    assert done.exit_code == 2 and "--detach" in done.stderr
    assert not bench.index.exists()


def test_a_run_that_cannot_be_remembered_is_not_detached_but_runs_attended(bench: Bench) -> None:
    state = bench.base / "state"
    state.write_text("a file")
    done = bench.run("run", "a cube", "--task", "go", "--detach", env={"XDG_STATE_HOME": str(state)})
    assert done.exit_code == 4 and "XDG_STATE_HOME" in done.stderr and done.stdout == ""
    assert not (bench.cube / "workspace/.mlcube").exists(), "nothing was started"
    done = bench.run("run", "a cube", "--task", "go", env={"XDG_STATE_HOME": str(state)})
    assert (done.exit_code, done.stdout, done.stderr.count("warning:")) == (0, "done\n", 1)


def test_a_run_that_cannot_be_started_leaves_no_trace_that_it_runs(bench: Bench) -> None:
    shells = bench.base / "shells"
    shells.mkdir()
    (shells / "sh").write_text("#!/bin/false\n")
    (shells / "sh").chmod(0o755)
    done = bench.run("run", "a cube", "--task", "go", "--detach", env={"PATH": f"{shells}:{os.environ['PATH']}"})
    assert done.exit_code == 4 and "could not be started" in done.stderr and done.stdout == ""
    assert bench.ps() == []
    records = list((bench.cube / "workspace/.mlcube/runs").glob("*/record.json"))
    assert [json.loads(path.read_text())["status"] for path in records] == ["environment"]


def test_a_look_before_the_run_has_begun_does_not_take_it_for_lost(bench: Bench) -> None:
    bench.script("sleep 1")
    child = bench.start("run", "a cube", "--task", "go", "--detach")
    seen = set()
    while child.poll() is None:
        seen |= {status for status, _ in bench.status()}
    assert seen <= {"queued", "running", "succeeded"} and child.returncode == 0
    assert bench.run("wait").exit_code == 0


def test_two_runs_at_once_are_told_apart(bench: Bench) -> None:
    first = bench.detach("sleep 1; echo first")
    second = bench.detach("echo second; exit 3", "out=elsewhere")
    assert (bench.run("wait", second).exit_code, bench.run("wait", first[-6:]).exit_code) == (3, 0)
    assert bench.run("logs", first[-6:]).stdout != "" and bench.run("logs", second).stdout == "second\n"
    several = bench.run("logs", "20")
    assert several.exit_code == 2 and "2 runs" in several.stderr


def test_a_time_limit_holds_for_a_detached_task(bench: Bench) -> None:
    bench.detach("sleep 60", "--timeout", "1")
    assert bench.run("wait").exit_code == 124
    assert bench.status() == [("timed_out", 124)]


def test_a_failed_preparation_of_a_detached_run_is_told_by_logs_and_wait(bench: Bench) -> None:
    run = bench.detach("echo never", '-Plocal.requirements=["no-such-package==1"]')
    done = bench.run("wait", run)
    assert done.exit_code == 5 and "no-such-package" in done.stderr
    logs = bench.run("logs", run)
    assert (logs.exit_code, logs.stdout) == (0, "") and "no-such-package" in logs.stderr
    assert bench.status() == [("preparation", 5)]


# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs_follow_streams_until_the_end_and_ctrl_c_leaves_the_run_alone(bench: Bench) -> None:
    bench.detach("echo early; while [ ! -e go_on ]; do sleep 0.05; done; echo late")
    child = bench.start("logs", "-f", start_new_session=True)
    assert child.stdout is not None and child.stdout.readline() == b"early\n"
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(timeout=30) == -signal.SIGINT
    assert bench.status() == [("running", None)]
    child = bench.start("logs", "-f")
    assert child.stdout is not None and child.stdout.readline() == b"early\n"
    (bench.cube / "go_on").write_text("")
    assert child.communicate(timeout=30)[0] == b"late\n"
    assert child.returncode == 0


def test_logs_follow_a_run_that_another_terminal_attends_to(bench: Bench) -> None:
    bench.script("echo early; while [ ! -e go_on ]; do sleep 0.05; done; echo late; exit 3")
    attended = bench.start("run", "a cube", "--task", "go")
    assert attended.stdout is not None and attended.stdout.readline() == b"early\n"
    child = bench.start("logs", "--follow")
    assert child.stdout is not None and child.stdout.readline() == b"early\n"
    waiting = bench.start("wait")
    (bench.cube / "go_on").write_text("")
    assert child.communicate(timeout=30)[0] == b"late\n"
    assert (attended.wait(timeout=30), waiting.wait(timeout=30)) == (3, 3)


def test_a_log_of_50_mb_comes_whole_and_nobody_needs_to_read_it_all(bench: Bench) -> None:
    bench.detach("i=0; while [ $i -lt 50 ]; do head -c 1048576 /dev/zero; i=$((i+1)); done; echo; echo end")
    assert bench.run("wait").exit_code == 0
    for words in (["logs"], ["logs", "-f"]):
        done = bench.run(*words)
        assert (done.exit_code, len(done.stdout), done.stdout[-4:]) == (0, (50 << 20) + 5, "end\n")
    piped = subprocess.run(["sh", "-c", '"$0" -m mlcube_cli logs | head -c 10 | wc -c', sys.executable], cwd=bench.base,
                           env=clean_environment(bench.home), capture_output=True, timeout=60)
    assert (piped.stdout.strip(), piped.stderr) == (b"10", b"")


def test_a_closed_stdout_ends_an_attended_run_quietly(bench: Bench) -> None:
    bench.script("echo $$ >pid; while :; do echo more; sleep 0.01; done")
    command = '"$0" -m mlcube_cli run "a cube" --task go | head -1'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=bench.base, env=clean_environment(bench.home),
                          capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"more\n", b"")
    assert gone(int((bench.cube / "pid").read_text()))
    assert bench.status() == [("cancelled", 141)]


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_ends_the_whole_tree_of_a_detached_run(bench: Bench) -> None:
    bench.detach("setsid sleep 300 & echo $! >child; echo $$ >pid; wait")
    pids = [int(bench.wait_for(name).read_text() or 0) for name in ("pid", "child")]
    done = bench.run("cancel")
    assert done.exit_code == 0 and "cancelled" in done.stderr
    assert all(gone(pid) for pid in pids)
    assert bench.status() == [("cancelled", 143)]
    assert bench.run("wait").exit_code == 143
    again = bench.run("cancel", bench.ps()[0]["command_id"])
    assert again.exit_code == 0 and "has ended already" in again.stderr


def test_cancel_now_does_not_wait_for_a_task_that_ignores_it(bench: Bench) -> None:
    bench.detach("trap '' TERM; echo $$ >pid; while :; do sleep 0.1; done", "--grace", "60s")
    pid = int(bench.wait_for("pid").read_text())
    began = time.monotonic()
    assert bench.run("cancel", "--now").exit_code == 0
    assert gone(pid, 1) and time.monotonic() - began < 30


def test_cancel_ends_a_run_that_another_terminal_attends_to(bench: Bench) -> None:
    bench.script("echo $$ >pid; sleep 300")
    attended = bench.start("run", "a cube", "--task", "go")
    pid = int(bench.wait_for("pid").read_text() or 0)
    assert bench.run("cancel").exit_code == 0
    assert attended.wait(timeout=30) == -signal.SIGTERM
    assert gone(pid) and bench.status() == [("cancelled", 143)]


def test_cancel_without_a_run_that_goes_on(bench: Bench) -> None:
    assert bench.run("run", "a cube", "--task", "go").exit_code == 0
    done = bench.run("cancel")
    assert done.exit_code == 2 and "nothing" in done.stderr


# --- killed ----------------------------------------------------------------------------------------------------------


def test_a_killed_foreground_run_is_lost_and_reap_ends_what_it_left(bench: Bench) -> None:
    bench.script("echo $$ >pid; sleep 300")
    attended = bench.start("run", "a cube", "--task", "go")
    pid = int(bench.wait_for("pid").read_text() or 0)
    attended.kill()
    attended.wait()
    assert bench.status() == [("lost", 4)]
    assert bench.run("wait").exit_code == 4
    listed = bench.run("reap", "--dry-run")
    assert listed.exit_code == 0 and str(pid) in listed.stdout and not gone(pid, 0.2)
    refused = bench.run("reap")
    assert refused.exit_code == 2 and "--yes" in refused.stderr and not gone(pid, 0.2)
    done = json.loads(bench.run("reap", "--yes", "--json").stdout)
    jsonschema.Draft202012Validator(json.loads((CHECKOUT / "schemas/mlcube.reap.v1.json").read_text())).validate(done)
    assert [(item["kind"], item["removed"]) for item in done["items"]] == [("process", True)]
    assert gone(pid)
    assert bench.run("reap", "--yes").stdout == ""
    assert (bench.cube / "workspace/made").is_dir(), "outputs stay"


def test_a_killed_supervisor_is_lost_and_cancel_ends_what_it_left(bench: Bench) -> None:
    run = bench.detach("echo $$ >pid; sleep 300")
    pid = int(bench.wait_for("pid").read_text() or 0)
    owner = dict(line.split("=") for line in
                 (bench.cube / f"workspace/.mlcube/runs/{run}/owner").read_text().splitlines())
    os.kill(int(owner["pid"]), signal.SIGKILL)
    assert gone(int(owner["pid"]))
    assert bench.status() == [("lost", 4)] and bench.run("wait").exit_code == 4
    assert bench.run("reap", "--yes").exit_code == 0
    assert gone(pid)
    assert not (bench.cube / f"workspace/.mlcube/runs/{run}").exists()
    assert bench.record(f"{run}-1")["status"] == "lost"
    assert bench.status() == [("lost", 4)]


def test_reap_leaves_alone_what_lives_and_what_others_own(bench: Bench) -> None:
    run = bench.detach("echo $$ >pid; sleep 300")
    pid = int(bench.wait_for("pid").read_text() or 0)
    stranger = subprocess.Popen(["sleep", "300"], env={**os.environ, "MLCUBE_RUN_ID": f"{run[:-6]}000000-1"})
    try:
        assert bench.run("reap", "--yes").stdout == ""
        assert not gone(pid, 0.3) and stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    assert bench.status() == [("running", None)]


def test_reap_forgets_runs_whose_directory_is_gone_and_files_that_are_no_runs(bench: Bench) -> None:
    import shutil

    assert bench.run("run", "a cube", "--task", "go").exit_code == 0
    (bench.index / "x.json").write_text("{")
    shown = bench.run("ps")
    assert shown.exit_code == 0 and "x.json" in shown.stderr and "succeeded" in shown.stdout
    shutil.rmtree(bench.cube / "workspace/.mlcube")
    assert bench.run("reap", "--yes").exit_code == 0
    assert [path.name for path in bench.index.iterdir()] == []


def test_a_place_that_does_not_answer_is_said_and_its_runs_are_shown_as_last_seen(bench: Bench) -> None:
    run = bench.detach("sleep 300")
    path = bench.index / f"{run}.json"
    text = path.read_text()
    data = json.loads(text)
    data["supervised"].update(reach=["sh", "-c", "echo no route to host >&2; exit 255"], place="gpu-box")
    path.write_text(json.dumps(data))
    shown = bench.run("ps")
    assert shown.exit_code == 0 and "gpu-box says nothing (no route to host)" in shown.stderr and "queued?" in shown.stdout
    for words in (["logs"], ["logs", "-f"], ["wait"], ["cancel"]):
        done = bench.run(*words)
        assert done.exit_code == 4 and "no route to host" in done.stderr, words
    assert bench.run("reap", "--yes").stdout == ""
    path.write_text(text)


def test_fetch_of_a_run_on_this_machine_has_nothing_to_do(bench: Bench) -> None:
    assert bench.run("run", "a cube", "--task", "go").exit_code == 0
    done = bench.run("fetch")
    assert done.exit_code == 0 and "are on this machine: there is nothing to fetch" in done.stderr


def test_ps_without_any_run_and_with_old_ones(bench: Bench) -> None:
    assert bench.run("ps").stdout == ""
    for _ in range(12):
        assert bench.run("run", "a cube", "--task", "go").exit_code == 0
    assert len(bench.ps()) == 10 and len(bench.ps("--all")) == 12
