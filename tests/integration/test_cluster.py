"""The Slurm cluster that other tests use is what they take it for, and what Slurm does where documents are silent.

`cluster` is shared: a test that stops something has a cluster of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, IMAGE_FILES, clean_environment
from tests.integration.cluster import Cluster
from tests.integration.gpu_box import Box
from tests.integration.slurm_conf import NODES

pytestmark = pytest.mark.slurm


def output(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


@pytest.fixture(scope="module", autouse=True)
def late(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A job whose time is over, and its log: Slurm looks for that every 30 seconds, while other tests run."""
    log = tmp_path_factory.mktemp("late") / "log"
    job = cluster.submit("sleep 1000", "--time=1", output=str(log))
    cluster.wait_for(job, "RUNNING")
    cluster.end_soon(job)
    return job, log


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_runs_and_its_end_is_told(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("echo here; exit 3", output=str(tmp_path / "log"))
    assert (cluster.wait_for(job), cluster.show(job)["ExitCode"]) == ("FAILED", "3:0")
    assert output(tmp_path / "log") == "here\n"
    killed = cluster.submit("sleep 60 & wait")
    cluster.wait_for(killed, "RUNNING")
    cluster.until(lambda: cluster.kill_job_processes(killed) > 0, 20, lambda: "nothing to kill")
    assert (cluster.wait_for(killed), cluster.show(killed)["ExitCode"]) == ("FAILED", "0:9")
    assert cluster.show(killed)["Reason"] == "JobLaunchFailure"


def test_nothing_of_the_caller_travels_but_the_job_reaches_slurm(cluster: Cluster, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    lines = 'echo "$HOME $PATH $SECRET"; squeue --noheader --job "$SLURM_JOB_ID" --format %T; srun --export=ALL --ntasks=1 pwd'
    job = cluster.submit(lines, "--export=NONE", f"--chdir={tmp_path}", output=str(tmp_path / "log"))
    assert cluster.wait_for(job) == "COMPLETED", output(tmp_path / "log")
    environment, *rest = output(tmp_path / "log").splitlines()
    assert environment.startswith(os.path.expanduser("~") + " ") and "/usr/bin" in environment and environment.endswith(" ")
    assert rest == ["RUNNING", str(tmp_path)]


def test_several_nodes_start_their_ranks_and_see_their_gpus(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("srun --label printenv SLURM_PROCID SLURMD_NODENAME", "--nodes=3", output=str(tmp_path / "ranks"))
    assert cluster.wait_for(job) == "COMPLETED"
    assert sorted(output(tmp_path / "ranks").splitlines()) == sorted(
        line for rank, node in enumerate(NODES) for line in (f"{rank}: {rank}", f"{rank}: {node}"))
    gpus = cluster.submit("echo $CUDA_VISIBLE_DEVICES on $SLURMD_NODENAME", "--gpus=2", output=str(tmp_path / "gpus"))
    assert cluster.wait_for(gpus) == "COMPLETED"
    assert output(tmp_path / "gpus") == "0,1 on node3\n"


@pytest.mark.singularity
def test_apptainer_works_inside_a_job(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit(f"apptainer exec {IMAGE_FILES}/tiny.sif echo inside", "--export=NONE", output=str(tmp_path / "log"))
    assert cluster.wait_for(job) == "COMPLETED", output(tmp_path / "log")
    assert output(tmp_path / "log").splitlines()[-1] == "inside"


def test_more_memory_than_asked_for_ends_a_job_and_only_the_log_says_why(cluster: Cluster, tmp_path: Path) -> None:
    hungry = f"{sys.executable} -c 'hungry = bytearray(300 << 20); import time; time.sleep(30)'"
    job = cluster.submit(hungry, "--mem=50", output=str(tmp_path / "log"))
    assert (cluster.wait_for(job), cluster.show(job)["Reason"]) == ("FAILED", "JobLaunchFailure")
    cluster.until(lambda: "error: Exceeded job memory limit" in output(tmp_path / "log"), 20, lambda: output(tmp_path / "log"))


def test_an_array_runs_so_many_members_at_once(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("echo $SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID", "--array=0-3%2", output=str(tmp_path / "%a"))
    assert [cluster.wait_for(f"{job}_{member}") for member in range(4)] == ["COMPLETED", "FAILED", "FAILED", "FAILED"]
    assert [output(tmp_path / str(member)) for member in range(4)] == ["0\n", "1\n", "2\n", "3\n"]
    refused = cluster.run("sbatch", "--array=0-1001", "--wrap=true", check=False)
    assert "Invalid job array specification" in refused.stderr


def test_an_allocation_runs_commands_here_and_there(cluster: Cluster) -> None:
    done = cluster.run("salloc", "--nodes=2", "sh", "-c", "echo $SLURM_JOB_ID; srun printenv SLURM_NODEID")
    assert sorted(done.stdout.split()[1:]) == ["0", "1"] and done.stdout.split()[0].isdigit()


def test_there_is_no_accounting(cluster: Cluster) -> None:
    asked = cluster.run("sacct", check=False)
    assert (asked.returncode, asked.stderr) == (1, "Slurm accounting storage is disabled\n")


# --- what ends jobs --------------------------------------------------------------------------------------------------


def test_a_job_that_ignores_term_is_killed_when_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("trap '' TERM; echo ready; while :; do sleep 1; done", output=str(tmp_path / "log"))
    cluster.until(lambda: "ready" in output(tmp_path / "log"), 30, lambda: output(tmp_path / "log"))
    cluster.cancel(job)
    assert (cluster.wait_for(job), cluster.show(job)["ExitCode"]) == ("CANCELLED", "0:9")
    assert f"*** JOB {job} ON node" in output(tmp_path / "log") and "DUE TO" not in output(tmp_path / "log")


def test_urgent_jobs_take_the_place_of_others(cluster: Cluster) -> None:
    cancelled, again = (cluster.submit("sleep 60", f"--partition={partition}", f"--nodelist={node}")
                        for partition, node in (("spot", "node2"), ("low", "node3")))
    for job in (cancelled, again):
        cluster.wait_for(job, "RUNNING")
    urgent = [cluster.preempt(job, seconds=1) for job in (cancelled, again)]
    assert cluster.wait_for(cancelled) == "PREEMPTED"
    cluster.wait_for(again, "PENDING")
    assert (cluster.show(again)["Reason"], cluster.show(again)["Restarts"]) == ("BeginTime", "1")
    assert [cluster.wait_for(job) for job in urgent] == ["COMPLETED"] * 2
    cluster.start_now(again)
    cluster.wait_for(again, "RUNNING")
    cluster.cancel(again)


def test_nodes_drain_and_fail_and_come_back(broken_cluster: Cluster) -> None:
    broken_cluster.drain("node1", "new disk")
    assert broken_cluster.node_state("node1") == "drained"
    assert "new disk" in broken_cluster.run("sinfo", "--list-reasons").stdout
    trial = broken_cluster.run("sbatch", "--test-only", "--nodelist=node1", "--wrap=true", check=False)
    assert (trial.returncode, "Requested node configuration is not available" in trial.stderr) == (1, True)
    broken_cluster.resume("node1")

    lost = broken_cluster.submit("sleep 60", "--nodelist=node2", "--no-requeue")
    broken_cluster.wait_for(lost, "RUNNING")
    broken_cluster.stop_node("node2")
    broken_cluster.down("node2")
    assert (broken_cluster.wait_for(lost), broken_cluster.show(lost)["Reason"]) == ("NODE_FAIL", "NodeDown")
    broken_cluster.start_node("node2")
    assert broken_cluster.wait_for(broken_cluster.submit("true", "--nodelist=node2")) == "COMPLETED"


def test_jobs_outlive_the_controller(broken_cluster: Cluster, tmp_path: Path) -> None:
    job = broken_cluster.submit("until [ -e go ]; do sleep 0.1; done; exit 5", f"--chdir={tmp_path}")
    broken_cluster.wait_for(job, "RUNNING")
    broken_cluster.stop_controller()
    assert "is DOWN" in broken_cluster.run("scontrol", "ping", check=False).stdout
    (tmp_path / "go").touch()
    broken_cluster.start_controller()
    assert (broken_cluster.wait_for(job), broken_cluster.show(job)["ExitCode"]) == ("FAILED", "5:0")


def test_ended_jobs_are_forgotten(own_cluster: Callable[..., Cluster]) -> None:
    cluster = own_cluster(MinJobAge="2")
    job = cluster.submit("exit 4")
    cluster.until(lambda: not cluster.state(job), 30, lambda: cluster.state(job))
    assert "Invalid job id specified" in cluster.run("squeue", f"--jobs={job}", check=False).stderr


# --- the engine itself -----------------------------------------------------------------------------------------------


def test_calls_are_noted_and_answers_can_be_made_up(cluster: Cluster) -> None:
    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env={**os.environ, **cluster.environment}, capture_output=True, text=True, check=False)

    cluster.forget_calls()
    assert typed("squeue", "--noheader", "--format", "%i\n%T").returncode == 0
    typed("sinfo")
    assert cluster.calls("squeue") == [["squeue", "--noheader", "--format", "%i\n%T"]]
    cluster.pretend("sacct", "7|OUT_OF_MEMORY\n", errors="slow today\n", code=3)
    try:
        answer = typed("sacct", "-j", "7")
    finally:
        cluster.stop_pretending("sacct")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("7|OUT_OF_MEMORY\n", "slow today\n", 3)
    assert [call[0] for call in cluster.calls()] == ["squeue", "sinfo", "sacct"]
    absent = subprocess.run(["sh", "-c", "command -v sacct || command -v squeue"], env=cluster.without("sacct"),
                            capture_output=True, text=True, check=False)
    assert absent.stdout.endswith("/squeue\n")


STARTS_ONE = """\
import sys
from tests.integration.cluster import start_cluster
with start_cluster() as cluster:
    cluster.wait_for(cluster.submit("setsid sleep 1000 & sleep 1000"), "RUNNING")
    print(cluster.room, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("keeper_too", [False, True])
def test_a_killed_session_leaves_nothing(own_cluster: Callable[..., Cluster], tmp_path: Path, keeper_too: bool) -> None:
    session = subprocess.Popen([sys.executable, "-c", STARTS_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**clean_environment(tmp_path), "PYTHONPATH": str(CHECKOUT)}, cwd=CHECKOUT)
    assert session.stdin and session.stdout
    room = Path(session.stdout.readline().strip())
    keeper = int((room / "keeper").read_text("utf-8"))
    assert processes_of(room)
    if keeper_too:
        os.kill(keeper, signal.SIGKILL)  # what it left is swept when the next cluster starts
    session.kill()
    session.communicate(timeout=20)
    if keeper_too:
        own_cluster()
    deadline = time.monotonic() + 20
    while processes_of(room) or room.exists():
        assert time.monotonic() < deadline, processes_of(room)
        time.sleep(0.1)


def processes_of(room: Path) -> list[str]:
    """The command lines of what runs with this cluster's configuration."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"SLURM_CONF={room}/slurm.conf".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_a_job_whose_time_is_over_is_ended(cluster: Cluster, late: tuple[str, Path]) -> None:
    job, log = late
    assert (cluster.wait_for(job), cluster.show(job)["Reason"]) == ("TIMEOUT", "TimeLimit")
    cluster.until(lambda: "DUE TO TIME LIMIT ***" in output(log), 20, lambda: output(log))


# --- behind ssh ------------------------------------------------------------------------------------------------------


@pytest.mark.ssh
def test_the_machine_behind_ssh_is_a_login_node(login_node: Box) -> None:
    user = login_node.new_user(f"slurm-{os.getpid()}", "tcsh")
    try:
        lines = "docker run --rm mlcube-test/tiny:latest echo docker; apptainer exec /images/tiny.sif echo apptainer"
        script = f"echo '#!/bin/sh\n{lines}; srun --export=ALL --nodes=2 --label printenv SLURM_PROCID' >job\n" \
                 "sbatch --parsable --export=NONE --nodes=2 --output=log job\n"
        submitted = login_node.ssh(user, script)
        job = submitted.stdout.decode().strip()
        assert job.isdigit(), submitted.stderr
        assert login_node.wait_for_job(job) == "COMPLETED"
        said = login_node.read(f"/home/{user}/log").decode().splitlines()
        assert sorted(line for line in said if not line.startswith("INFO")) == ["0: 0", "1: 1", "apptainer", "docker"]
        assert login_node.slurm_calls(user, "sbatch") == [
            ["sbatch", "--parsable", "--export=NONE", "--nodes=2", "--output=log", "job"]]
        assert [call[0] for call in login_node.slurm_calls(user)] == ["sbatch", "srun"]
    finally:
        login_node.remove_user(user)


@pytest.mark.ssh
def test_every_login_shell_reaches_slurm(broken_login_node: Box) -> None:
    for user in ("ada", "fish", "tcsh", "noisy", "bare"):
        asked = broken_login_node.ssh(user, "sinfo --noheader --partition=debug --format=%D\n")
        assert asked.stdout.endswith(b"2\n"), asked.stderr
    long = broken_login_node.submit("sleep 60", user="fish")
    broken_login_node.wait_for_job(long, "RUNNING")
    broken_login_node.slurm("scancel", long, user="fish")
    assert broken_login_node.wait_for_job(long) == "CANCELLED"
