"""How batch jobs end, and what is said of that: their own ends, ends from outside, and those that Slurm puts upon them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import CHECKOUT, Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.integration.cluster import Cluster

pytestmark = pytest.mark.slurm

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
    slurm:
      platform: local
"""
SAVING = "trap 'sleep 0.3; echo saved; exit 0' TERM; echo begun; sleep 300 & wait\n"
WAITING = "echo begun; sleep 300\n"


class Queue:
    """A cube whose task is a shell script, and a cluster where it runs."""

    def __init__(self, run_mlcube: RunMLCube, base: Path, home: Path, cluster: Cluster) -> None:
        self._run, self.base, self.home, self.cluster = run_mlcube, base, home, cluster
        self.cube = write_tree(base / "a cube", {"mlcube.yaml": CUBE, "go.sh": "echo done", "then.sh": "echo later"})
        self.children: list[subprocess.Popen[bytes]] = []

    def run(self, *words: str) -> Outcome:
        return self._run(*words, env=self.cluster.environment)

    def detach(self, text: str, *words: str, task: str = "go") -> tuple[str, str]:
        """Queue the script; the command line's id, and its first job."""
        (self.cube / "go.sh").write_text(text)
        done = self.run("run", "a cube", "--platform", "slurm", "--task", task, "--detach", *words)
        assert done.exit_code == 0, done.stderr
        run = done.stdout.strip()
        return run, str(self.seen(run)["job"])

    def started(self, text: str, *words: str) -> tuple[str, str]:
        """The same, once the script has printed `begun`."""
        run, job = self.detach(text, *words)
        self.until(lambda: "begun" in self.log(run), 30)
        return run, job

    def log(self, run: str) -> str:
        logs = self.seen(run)["logs"]
        assert isinstance(logs, dict)
        return Path(logs["stdout"]).read_text() if os.path.exists(logs["stdout"]) else ""

    def until(self, holds: Callable[[], bool], seconds: float) -> None:
        self.cluster.until(holds, seconds, lambda: self.run("ps").stdout)

    def seen(self, run: str, number: int = 1) -> dict[str, object]:
        """What ps tells of it."""
        done = self.run("ps", "--all", "--json")
        assert done.exit_code == 0, done.stderr
        return next(one for one in json.loads(done.stdout)["runs"] if one["run_id"] == f"{run}-{number}")

    def wait(self, run: str) -> tuple[int, str, str]:
        """Exit code and status of what became of it, and the sentence that says why."""
        done = self.run("wait", "--json", run)
        said = json.loads(done.stdout)
        record = json.loads((self.cube / f"workspace/.mlcube/runs/{run}-1/record.json").read_text())
        assert record["status"] == said["status"], "its record says so, too"
        return done.exit_code, str(said["status"]), str(said["message"])

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", *words], cwd=self.base, stdin=subprocess.DEVNULL,
                                 env={**clean_environment(self.home), **self.cluster.environment},
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()
        self.cluster.cancel_all()


@pytest.fixture
def queue(run_mlcube: RunMLCube, tmp_path: Path, home: Path, cluster: Cluster) -> Iterator[Queue]:
    made = Queue(run_mlcube, tmp_path, home, cluster)
    yield made
    made.close()


@pytest.fixture
def queue_on(run_mlcube: RunMLCube, tmp_path: Path, home: Path, own_cluster: Callable[..., Cluster]) -> Callable[..., Queue]:
    """The same on a cluster of the test's own: `queue_on(MinJobAge="2")`."""
    return lambda **settings: Queue(run_mlcube, tmp_path, home, own_cluster(**settings))


# --- its own end -----------------------------------------------------------------------------------------------------


def test_a_short_job_is_seen_soon_and_slurm_is_seldom_asked(queue: Queue) -> None:
    queue.cluster.forget_calls()
    run, _ = queue.detach("sleep 2; echo done; exit 3\n")
    began = time.monotonic()
    assert queue.wait(run) == (3, "failed", "task 'go' failed with exit code 3")
    assert time.monotonic() - began < 10 and len(queue.cluster.calls("squeue")) < 6
    assert queue.run("logs", run).stdout == "done\n"
    asked = len(queue.cluster.calls("squeue"))
    assert queue.seen(run)["status"] == "failed" and len(queue.cluster.calls("squeue")) == asked, "its own word is enough"


def test_ps_says_where_it_runs_and_why_it_does_not(queue: Queue) -> None:
    waiting, _ = queue.detach(WAITING, "-Pslurm.sbatch_args=[--begin=now+1hour]")
    running, job = queue.started(WAITING, "--workspace", "other")
    schema = json.loads((CHECKOUT / "schemas" / "mlcube.ps.v1.json").read_text())
    queue.cluster.forget_calls()
    done = queue.run("ps", "--json")
    jsonschema.validate(json.loads(done.stdout), schema)
    assert queue.seen(waiting)["waiting"] == "BeginTime" and queue.seen(waiting)["status"] == "queued"
    assert (queue.seen(running)["status"], queue.seen(running)["job"]) == ("running", job)
    assert str(queue.seen(running)["node"]).startswith("node")
    shown = queue.run("ps").stdout
    assert "queued: BeginTime" in shown and shown.splitlines()[0].endswith("JOB  NODE")
    assert len(queue.cluster.calls("squeue")) <= 1, "one question for all, and its answer is kept for half a minute"


def test_the_next_task_is_not_started_after_a_failure(queue: Queue) -> None:
    run, _ = queue.detach("exit 4\n", task="go,then")
    assert queue.wait(run)[:2] == (4, "failed")
    assert queue.seen(run, 2)["status"] == "cancelled"
    queue.until(lambda: not queue.cluster.run("squeue", "--noheader").stdout, 20)


# --- from outside ----------------------------------------------------------------------------------------------------


def test_cancel_takes_a_job_from_the_queue(queue: Queue) -> None:
    run, job = queue.detach(WAITING, "-Pslurm.sbatch_args=[--begin=now+1hour]")
    assert queue.run("cancel", run).exit_code == 0
    assert queue.cluster.state(job) == "CANCELLED" and queue.seen(run)["status"] == "cancelled"


def test_cancel_lets_a_task_save_what_it_has(queue: Queue) -> None:
    run, job = queue.started(SAVING)
    done = queue.run("cancel", run)
    assert done.exit_code == 0, done.stderr
    assert queue.log(run) == "begun\nsaved\n"
    assert queue.wait(run) == (143, "cancelled", "task 'go' was cancelled")
    queue.cluster.wait_for(job)


def test_cancel_now_ends_a_task_that_does_not_listen(queue: Queue) -> None:
    run, job = queue.started("trap '' TERM; echo begun; while :; do sleep 0.2; done\n")
    began = time.monotonic()
    assert queue.run("cancel", "--now", run).exit_code == 0
    assert time.monotonic() - began < 20 and queue.wait(run)[:2] == (143, "cancelled")
    queue.cluster.wait_for(job)


def test_a_job_that_somebody_else_cancels_is_cancelled(queue: Queue) -> None:
    run, job = queue.started(SAVING)
    queue.cluster.cancel(job)
    assert queue.wait(run)[:2] == (143, "cancelled")
    waiting, job = queue.detach(WAITING, "-Pslurm.sbatch_args=[--begin=now+1hour]")
    queue.cluster.cancel(job)
    assert queue.wait(waiting) == (143, "cancelled", f"job {job} was cancelled before it began")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_left_in_the_queue_has_its_record(queue: Queue, number: int) -> None:
    (queue.cube / "go.sh").write_text("exit 3\n")
    child = queue.start("run", "a cube", "--platform", "slurm", "--task", "go", "--on-interrupt", "detach",
                        "-Pslurm.sbatch_args=[--begin=now+1hour]")
    assert child.stderr is not None
    while b"waits in the queue" not in child.stderr.readline():
        assert child.poll() is None
    child.send_signal(number)
    assert child.wait(20) == -number
    seen = json.loads(queue.run("ps", "--json").stdout)["runs"][0]
    run, shown = str(seen["command_id"]), queue.run("runs", "show", "--json", str(seen["run_id"]))
    record = json.loads(shown.stdout)
    assert (seen["status"], record["status"], record["owner"]) == ("queued", "queued", None)
    time.sleep(1)
    queue.cluster.start_now(str(seen["job"]))
    assert queue.wait(run)[:2] == (3, "failed")
    ended = json.loads(queue.run("runs", "show", "--json", f"{run}-1").stdout)
    assert ended["started"] > record["started"] and ended["seconds"] < 5, "the time in the queue is none of the task's"


def test_a_task_that_never_began_is_no_open_record(queue: Queue) -> None:
    child = queue.start("run", "a cube", "--platform", "slurm", "--task", "go", "-Pslurm.sbatch_args=[--begin=now+1hour]")
    assert child.stderr is not None
    while b"waits in the queue" not in child.stderr.readline():
        assert child.poll() is None
    child.terminate()
    assert child.wait(20) == -signal.SIGTERM
    assert [run["status"] for run in json.loads(queue.run("runs", "--json").stdout)["runs"]] == ["cancelled"]


def test_ctrl_c_of_wait_and_of_logs_does_nothing_to_the_job(queue: Queue) -> None:
    run, job = queue.started(WAITING)
    child = queue.start("logs", "-f", run)
    assert child.stdout is not None and child.stdout.readline() == b"begun\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == -signal.SIGINT and queue.cluster.state(job) == "RUNNING"


def test_a_job_that_cannot_write_down_how_it_stands_does_not_begin(queue: Queue) -> None:
    """As on a disk that is full by the time it starts."""
    run, job = queue.detach("echo >../ran\n", "-Pslurm.sbatch_args=[--begin=now+1hour]")
    part = queue.cube / f"workspace/.mlcube/runs/{run}/1"
    (part / "state").mkdir()
    queue.cluster.start_now(job)
    code, status, message = queue.wait(run)
    assert (code, status) == (4, "environment") and f"cannot write into {part}\nhint: is the disk full?" in message
    assert not list(queue.cube.rglob("ran"))


# --- Slurm's doing ---------------------------------------------------------------------------------------------------


def test_a_job_that_was_killed_without_a_word_has_failed(queue: Queue) -> None:
    run, job = queue.started(WAITING)
    child = queue.start("wait", run)
    time.sleep(2)
    assert queue.cluster.kill_job_processes(job) > 1
    assert child.wait(60) == 137
    code, status, message = queue.wait(run)
    assert (code, status) == (137, "failed") and "killed by signal 9" in message and "Slurm says FAILED" in message


def test_a_job_that_needs_too_much_memory_has_failed_for_that(queue: Queue) -> None:
    (queue.cube / "hungry.py").write_text("print('begun', flush=True); x = bytearray(900_000_000); input()\n")
    run, _ = queue.started(f"sleep 60 | {sys.executable} hungry.py\n", "-Pslurm.memory=50M")
    code, status, message = queue.wait(run)
    assert (code, status) == (137, "failed") and "more memory" in message


def test_a_job_whose_node_fails_is_lost_unless_it_is_queued_again(queue_on: Callable[..., Queue]) -> None:
    queue = queue_on()
    run, job = queue.started(WAITING, "-Pslurm.sbatch_args=[--no-requeue]")
    queue.cluster.down(queue.cluster.show(job)["NodeList"])
    code, status, message = queue.wait(run)
    assert (code, status) == (4, "lost") and "NODE_FAIL" in message


def test_a_job_that_slurm_has_forgotten_is_lost_not_running_for_ever(queue_on: Callable[..., Queue]) -> None:
    queue = queue_on(MinJobAge="2")
    run, job = queue.started(WAITING)
    queue.cluster.kill_job_processes(job)
    queue.until(lambda: queue.cluster.state(job) == "", 60)
    code, status, message = queue.wait(run)
    assert (code, status) == (4, "lost") and "does not know" in message


def test_nothing_is_concluded_while_the_controller_is_away(queue_on: Callable[..., Queue]) -> None:
    """squeue itself would try for 9 to 18 seconds, each time."""
    queue = queue_on()
    run, _ = queue.started("echo begun; sleep 4; echo end\n")
    queue.cluster.stop_controller()
    for kept in queue.home.glob(".cache/mlcube/queue.*"):
        kept.unlink()
    began = time.monotonic()
    done = queue.run("ps")
    assert "running?" in done.stdout and "is DOWN" in done.stderr, "nothing is concluded"
    child = queue.start("wait", run)
    said = child.communicate(timeout=60)[1].decode()
    assert child.returncode == 0, "its own word is enough"
    assert said.startswith("mlcube: the scheduler says nothing") and said.count("says nothing") == 1, said
    assert time.monotonic() - began < 15


def test_a_controller_that_takes_long_to_say_nothing_is_asked_once_in_half_a_minute(queue: Queue) -> None:
    queue.started(WAITING)
    for kept in queue.home.glob(".cache/mlcube/queue.*"):
        kept.unlink()
    queue.cluster.answer("scontrol", "sleep 3; echo 'Slurmctld(primary) at there is DOWN'")
    queue.cluster.forget_calls()
    assert ["running?" in queue.run("ps").stdout for _ in range(3)] == [True] * 3
    assert len(queue.cluster.calls("scontrol")) == 1 and not queue.cluster.calls("squeue")
    queue.cluster.stop_pretending("scontrol")


def test_a_job_that_gives_way_is_cancelled(queue: Queue) -> None:
    run, job = queue.started(SAVING, "-Pslurm.partition=spot")
    child = queue.start("wait", run)
    queue.cluster.preempt(job, seconds=2)
    said = child.communicate(timeout=120)[1].decode()
    assert child.returncode == 143, said
    code, status, message = queue.wait(run)
    assert (code, status) == (143, "cancelled") and "preempted" in message


@dataclass(frozen=True)
class Slow:
    """An end that Slurm takes half a minute for: all of these are waited for at once."""

    script: str
    words: tuple[str, ...]
    end: tuple[int, str]
    says: str  # in the sentence that says why
    log: str


ELSEWHERE = "-Pslurm.sbatch_args=[--exclude=node3]"
SLOW = {
    "its time is up": Slow(WAITING, ("-Pslurm.time=1h", "-Pslurm.signal_before_end=none", ELSEWHERE), (124, "timed_out"),
                           "time", "begun\n"),
    # sbatch sends the notice up to 60 seconds early: here it comes soon after the start
    "it is told that its time is nearly up": Slow(
        SAVING, ("-Pslurm.time=1m", "-Pslurm.signal_before_end=TERM@30", ELSEWHERE), (124, "timed_out"),
        "task 'go' was ended: its time was up", "begun\nsaved\n"),
    "a signal of the user's own leaves the task its last seconds": Slow(
        "trap 'echo saved; exit 7' USR1; echo begun; while :; do sleep 0.2; done\n",
        ("-Pslurm.time=1m", "-Pslurm.signal_before_end=USR1@30", ELSEWHERE), (7, "failed"), "exit code 7", "begun\nsaved\n"),
    "it gives way, and starts again": Slow(
        'echo begun; [ -z "$SLURM_RESTART_COUNT" ] || { echo $TOKEN; exit 0; }\n' + WAITING,
        ("-Pslurm.partition=low", "-Pslurm.sbatch_args=[--nodelist=node3]", "-Plocal.env.TOKEN=still there"), (0, "succeeded"),
        "", "still there\n"),
}


def test_ends_that_take_half_a_minute(run_mlcube: RunMLCube, tmp_path: Path, home: Path, cluster: Cluster) -> None:
    queues = {}
    for number, name in enumerate(SLOW):
        base = tmp_path / str(number)
        base.mkdir()
        queues[name] = Queue(partial(run_mlcube, cwd=base), base, home, cluster)
    try:
        runs = {name: queues[name].started(slow.script, *slow.words) for name, slow in SLOW.items()}
        again, (run, job) = queues["it gives way, and starts again"], runs["it gives way, and starts again"]
        child = again.start("wait", run)
        cluster.end_soon(runs["its time is up"][1])
        cluster.preempt(job, seconds=2)
        for name, slow in SLOW.items():
            code, status, message = queues[name].wait(runs[name][0])
            assert (code, status) == slow.end and slow.says in message, f"{name}: {message}"
            assert queues[name].log(runs[name][0]).endswith(slow.log), name
        assert b"queued again" in child.communicate(timeout=60)[1] and child.returncode == 0
        assert not list(again.cube.rglob("secrets")), "it needs them no more"
    finally:
        for one in queues.values():
            one.close()
