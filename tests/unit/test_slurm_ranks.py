"""Ranks, and nodes that the caller holds: the words of srun, and the scripts around them, with a recording srun."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Command, Plan, Step, Stop, TaskPlan
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_shell.slurm_ranks import for_allocation, for_batch, is_allocated, ranks
from tests.world import World, job_of

PAYLOAD = Step("run", Command(("python", "train.py")), task="train", payload=True, before=(Command(("mkdir", "/tmp/x")),),
               after=(Command(("rm", "-r", "/tmp/x")),))
PLAN = Plan("slurm", (Step("make output directories", Command(("mkdir", "/out")), task="train"), PAYLOAD),
            (TaskPlan("train", "r-1", (), 10.0),))
ENDS = Stop(Command(("x",)), Command(("x",)), Command(("x",)))
SRUN = """\
#!/bin/sh
while [ "$1" != sh ]; do echo "word $1"; shift; done
SLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NTASKS=6 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE="2(x2),4,1"
export SLURM_PROCID SLURM_LOCALID SLURM_NTASKS SLURM_NODEID SLURM_STEP_TASKS_PER_NODE
"$@"
exit 143
"""
SCONTROL = """\
#!/bin/sh
case $2 in hostnames) echo node7; echo node8;; *) echo 'NodeName=node7 NodeAddr=10.0.0.7 Port=1';; esac
"""


def batch(plan: Plan = PLAN, wait: int = 30, **options: Any) -> Plan:
    world = World(probes={"scontrol show config": {"stdout": f"KillWait                = {wait} sec\n"}})
    return world.decide(lambda facts: for_batch(job_of("slurm", options).platform, plan, facts))


def allocation(plan: Plan = PLAN, **options: Any) -> Plan:
    world = World(machine={"environment": {"SLURM_JOB_ID": "17"}})
    return world.decide(lambda facts: for_allocation(job_of("slurm", options).platform, plan, facts))


def srun_words(plan: Plan) -> list[str]:
    argv = list(plan.steps[-1].command.argv)
    return argv[4:argv.index("sh", 4)]


def test_one_rank_is_not_started_by_srun() -> None:
    for options in ({}, {"nodes": 1, "ntasks": 1, "cpus_per_task": 8}):
        assert batch(**options).steps == PLAN.steps
        assert ranks(job_of("slurm", options).platform) == ""


@pytest.mark.parametrize(("options", "words"), [
    ({"ntasks": 2}, []),
    ({"nodes": 2}, []),
    ({"nodes": "2-4", "ntasks_per_node": 2, "cpus_per_task": 3}, ["--cpus-per-task=3"]),
    ({"sbatch_args": ["--ntasks=8"]}, []),
])
def test_ranks_of_a_batch_job_have_the_shape_of_the_job(options: dict[str, Any], words: list[str]) -> None:
    assert srun_words(batch(**options)) == ["--export=ALL", "--kill-on-bad-exit=1", "--job-name=r-1", *words]


def test_what_belongs_to_the_task_is_done_on_each_node() -> None:
    one, several = batch(ntasks=2).steps[-1], batch(nodes=2).steps[-1]
    assert one.before == PAYLOAD.before and one.after == PAYLOAD.after
    assert "--ntasks-per-node=1" in several.before[0].argv[2] and several.before[0].argv[5:] == ("mlcube", "mkdir", "/tmp/x")
    assert several.after[0].argv[6:] == ("rm", "-r", "/tmp/x")


def test_nodes_that_share_a_directory_do_not_trip_over_each_other(tmp_path: Path) -> None:
    """What the command got on stdin it gets again."""
    script = '[ -e "$1" ] && exec cat; mkdir "$1"; exit 1'
    made = Command(("sh", "-c", script, "x", str(tmp_path / "a")))
    step = Step("run", Command(("x",)), task="train", payload=True, before=(made,))
    words = batch(Plan("slurm", (step,), PLAN.tasks), nodes=2).steps[-1].before[0].argv
    on_node = words[4:]
    done = subprocess.run(["sh", "-c", *on_node], input="given\n", capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, "SLURM_NODEID": "1"})
    assert (done.returncode, done.stdout) == (0, "given\n")
    on_node = (*words[4:6], "sh", "-c", "exit 3")
    assert subprocess.run(["sh", "-c", *on_node], input="", text=True, check=False, timeout=60,
                          env={**os.environ, "SLURM_NODEID": "0"}).returncode == 3


def test_ranks_end_through_slurm_since_srun_kills_them_at_once() -> None:
    stop = batch(nodes=2).steps[-1].stop
    assert stop is not None and stop.ask.argv[-2:] == ("r-1", "10")


def test_an_engine_that_ends_containers_by_name_cannot_have_several() -> None:
    plan = replace(PLAN, steps=(replace(PAYLOAD, stop=ENDS),))
    assert batch(plan).steps == plan.steps
    for shape in (lambda: batch(plan, nodes=2), lambda: allocation(plan)):
        with pytest.raises(DefinitionError) as caught:
            shape()
        assert "singularity" in caught.value.hint


@pytest.mark.parametrize(("wait", "grace"), [(30, 10.0), (12, 10.0), (5, 3.0), (1, 1.0)])
def test_a_grace_period_ends_before_slurms_own(wait: int, grace: float) -> None:
    plan = batch(wait=wait)
    assert plan.tasks[0].grace == grace
    assert bool(plan.notes) == (grace != 10.0)
    assert all("KillWait" in note for note in plan.notes)


def test_nodes_that_the_caller_holds_get_one_task_unless_more_are_asked_for() -> None:
    assert srun_words(allocation())[3:] == ["--nodes=1", "--ntasks=1"]
    assert srun_words(allocation(nodes=2, ntasks_per_node=4))[3:] == ["--nodes=2", "--ntasks-per-node=4"]
    assert "job 17" in allocation().notes[0]


def test_a_terminal_is_passed_on() -> None:
    plan = replace(PLAN, tasks=(replace(PLAN.tasks[0], interactive=True),))
    assert "--pty" in srun_words(allocation(plan))


def test_who_holds_nodes() -> None:
    def facts(**environment: str) -> Facts:
        return World(machine={"environment": environment}).facts()

    assert is_allocated(facts(SLURM_JOB_ID="17"))
    assert not is_allocated(facts()) and not is_allocated(facts(SLURM_JOB_ID=""))


def carry_out(tmp_path: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The payload of two nodes, with an srun that starts one rank of six and ends as if it had been ended itself."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("getent", "#!/bin/sh\nexit 2\n")):
        path = tmp_path / "bin" / name
        path.write_text(text, "utf-8")
        path.chmod(0o755)
    step = Step("run", Command(("sh", "-c", script)), task="train", payload=True)
    plan = batch(Plan("slurm", (step,), PLAN.tasks), nodes=3)
    return subprocess.run(plan.steps[-1].command.argv, capture_output=True, text=True, check=False, timeout=60, env={
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "10017", "SLURM_JOB_NODELIST": "node[7-8]",
        **environment})


def test_a_rank_knows_who_it_is_and_where_the_ranks_meet(tmp_path: Path) -> None:
    done = carry_out(tmp_path, "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR $MASTER_PORT")
    assert done.stdout.splitlines()[-1] == "3 6 1 4 2 10.0.0.7 20017"


def test_members_of_an_array_meet_elsewhere_and_the_users_own_place_counts(tmp_path: Path) -> None:
    script = "echo $MASTER_ADDR $MASTER_PORT"
    done = carry_out(tmp_path, script, SLURM_ARRAY_JOB_ID="10010", SLURM_ARRAY_TASK_ID="5", MASTER_ADDR="mine")
    assert done.stdout.splitlines()[-1] == "mine 20015"
    assert carry_out(tmp_path, script, MASTER_PORT="29500").stdout.splitlines()[-1] == "10.0.0.7 29500"


def test_the_code_of_the_rank_that_failed_first_counts(tmp_path: Path) -> None:
    (tmp_path / "failed-rank").write_text("9 9\n", "utf-8")  # of the try before
    done = carry_out(tmp_path, "exit 7", MLCUBE_JOB_DIRECTORY=str(tmp_path))
    assert done.returncode == 7 and "rank 3 was the first that failed, with exit code 7" in done.stderr
    assert carry_out(tmp_path, "exit 7").returncode == 143
