"""A cluster behind its login node: pushed, queued, followed or left, and fetched, from a machine that has no Slurm."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.far import COPY, Far, until
from tests.integration.gpu_box import Box

pytestmark = [pytest.mark.ssh, pytest.mark.slurm]


@pytest.fixture
def cluster_far(login_node: Box, far: Far) -> Far:
    """The small cube, on a user's account of the login node; slurm is between ssh and what runs in the job."""
    definition = far.cube / "mlcube.yaml"
    text = definition.read_text().replace("ssh: {host:", "slurm: {platform: local, time: 10}\nssh: {host:")
    definition.write_text(text)
    far.options = (*far.options, "-Pssh.platform=slurm")
    return far


@pytest.mark.parametrize("inside", ["local", "singularity", "docker"])
def test_an_input_travels_a_job_runs_and_its_output_comes_home(cluster_far: Far, inside: str) -> None:
    cluster_far.script(COPY + 'echo "job $SLURM_JOB_ID" >"$result/job"\n')
    done = cluster_far.run(f"-Pslurm.platform={inside}")
    assert done.stdout == "copied\n", done.stderr
    assert (cluster_far.result / "job").read_text().split()[1].isdigit()


def test_runs_lie_where_the_platform_says_and_leave_nothing_there(cluster_far: Far) -> None:
    cluster_far.script(COPY + 'echo "$MLCUBE_JOB_DIRECTORY" >"$result/where"\n')
    done = cluster_far.run("-Pslurm.work_dir=$HOME/of jobs")
    assert done.exit_code == 0, done.stderr
    place = f"{cluster_far.far_home}/of jobs"
    assert (cluster_far.result / "where").read_text().startswith(f"{place}/")
    assert cluster_far.box.root('ls -A "$1"', place) == b"", "it is gone with the run"
    refused = cluster_far("run", "--task", "work", "-Pslurm.work_dir=$NOWHERE/x")
    assert refused.exit_code == 3 and "variable NOWHERE is not set" in refused.stderr


def test_doctor_has_a_node_look_before_anything_was_sent(cluster_far: Far) -> None:
    done = cluster_far("doctor", "-Pslurm.platform=local")
    assert done.exit_code == 0, done.stdout + done.stderr
    assert f"sees {cluster_far.far_home}\n" in done.stdout and "has python: Python 3." in done.stdout
    assert not cluster_far.box.exists(f"{cluster_far.far_home}/.mlcube/cubes")


def test_one_login_is_enough_to_leave_and_to_come_back(cluster_far: Far) -> None:
    cluster_far.script(COPY + "sleep 3; echo over >&2\n")
    cluster_far.script('ls "$data" >"$result/list"\n', "again.sh")
    left = cluster_far("run", "--task", "work,again", "--detach")
    assert left.exit_code == 0, left.stderr
    seen = cluster_far.plain("ps")
    assert left.stdout.strip() in seen.stdout and "queued: Dependency" in seen.stdout, seen.stdout
    assert cluster_far.plain("logs", "-f").stdout == "copied\n"
    assert [cluster_far.plain(verb).exit_code for verb in ("wait", "fetch")] == [0, 0]
    assert (cluster_far.workspace / "second/list").read_text() == "one\n"
    assert cluster_far.there("runs") == set()
    assert cluster_far.box.logins(cluster_far.user) == 1
    assert len(cluster_far.box.slurm_calls(cluster_far.user, "squeue")) < 8, "seconds apart at first, and one answer for all"


def test_who_ended_a_job_from_outside_is_not_us(cluster_far: Far) -> None:
    cluster_far.script(COPY + "sleep 60\n")
    with cluster_far.started("--task", "work") as run:
        run.hear(b"queued on")
        cluster_far.wait_for(f"{cluster_far.root}/workspace/result/one")
        cluster_far.box.slurm("scancel", f"--user={cluster_far.user}", user=cluster_far.user)
        done = run.end()
    assert done.exit_code == 143 and "was cancelled from outside\n" in done.stderr, done.stderr
    assert (cluster_far.result / "one").exists()


# --- while jobs are handed over ------------------------------------------------------------------------------------------

SLOW = """\
#!/bin/sh
case "$*" in
  *--test-only*) ;;
  *) echo >>"$HOME/submitting"; sleep 2;;
esac
exec /usr/bin/sbatch "$@"
"""


@pytest.fixture
def slow_far(cluster_far: Far) -> Far:
    """Slurm takes a while to take a job there."""
    home = cluster_far.far_home
    cluster_far.box.write(f"{home}/bin/sbatch", SLOW.encode(), cluster_far.user)
    cluster_far.box.root('chmod 755 "$1/bin/sbatch"; echo "PATH=$1/bin:\\$PATH" >"$1/.bashrc"', home)
    cluster_far.script(COPY + "sleep 300\n")
    return cluster_far


def _jobs(far: Far) -> list[str]:
    return far.box.slurm("squeue", "--noheader", "--format=%i", f"--user={far.user}", user=far.user).split()


def test_a_connection_that_is_lost_meanwhile_queues_them_once(slow_far: Far) -> None:
    slow_far.script(COPY)
    with slow_far.started("--task", "work") as run:
        slow_far.wait_for(f"{slow_far.far_home}/submitting")
        assert slow_far.box.cut(slow_far.user)
        done = run.end()
    assert (done.exit_code, done.stdout) == (0, "copied\n"), done.stderr
    assert "whether the jobs are queued is asked again" in done.stderr
    assert slow_far.box.read(f"{slow_far.far_home}/submitting") == b"\n", "one call"


def test_ctrl_c_meanwhile_leaves_no_job(slow_far: Far) -> None:
    with slow_far.started("--task", "work") as run:
        slow_far.wait_for(f"{slow_far.far_home}/submitting")
        run.interrupt()
        done = run.end()
    assert done.exit_code == -signal.SIGINT, done.stderr
    assert "cancelling on" in done.stderr and "from outside" not in done.stderr
    until(lambda: not _jobs(slow_far), 20, "an empty queue")


def test_jobs_of_a_command_that_was_killed_meanwhile_are_found_again(slow_far: Far) -> None:
    with slow_far.started("--task", "work") as run:
        slow_far.wait_for(f"{slow_far.far_home}/submitting")
        run.process.kill()
        run.end()
    seen = json.loads(slow_far.plain("ps", "--json").stdout)["runs"][0]
    assert seen["status"] == "queued", "nothing is concluded while they are handed over"
    until(lambda: bool(_jobs(slow_far)), 20, "the job")
    until(lambda: json.loads(slow_far.plain("ps", "--json").stdout)["runs"][0]["job"] == _jobs(slow_far)[0], 20, "its number")
    cancelled = slow_far.plain("cancel")
    assert cancelled.exit_code == 0 and cancelled.stderr.endswith(": cancelled\n"), cancelled.stderr
    assert not _jobs(slow_far)


# --- what is remembered --------------------------------------------------------------------------------------------------


def test_index_and_record_tell_the_job_and_its_node(cluster_far: Far) -> None:
    cluster_far.script(COPY + "sleep 5\n")
    with cluster_far.started("--task", "work") as run:
        run.hear(b"queued on")
        until(lambda: json.loads(cluster_far.plain("ps", "--json").stdout)["runs"][0]["node"] != "", 30, "the node")
        assert run.end().exit_code == 0
    left = cluster_far("run", "--task", "work", "--detach")
    assert [cluster_far.plain(verb).exit_code for verb in ("wait", "fetch")] == [0, 0], left.stderr
    runs = json.loads(cluster_far.plain("ps", "--all", "--json").stdout)["runs"]
    records = sorted(cluster_far.workspace.glob(".mlcube/runs/*/record.json"), reverse=True)
    assert len(records) == 2
    for seen, path in zip(runs, records):
        execution = json.loads(path.read_text())["execution"]
        assert seen["node"] and (execution["job"], execution["node"]) == (seen["job"], seen["node"])
        assert execution["place"] == cluster_far.user
