"""Batch files, what is looked at before, handing over, ranks, nodes that one holds, a node's own disk: on a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.batch import Batch, Part
from mlcube_cli.command import Command, Plan, Step, TaskPlan, Variable
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.requests import answer_of
from mlcube_shell import slurm
from tests.conftest import IMAGE_FILES, Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.integration.cluster import Cluster
from tests.world import job_of

pytestmark = pytest.mark.slurm

CUBE = """
    name: jobs
    tasks:
      go:
        entrypoint: sh go.sh
        parameters:
          inputs: {data: {type: directory, default: data}}
          outputs: {out: {type: directory, default: made}}
    local: {}
    slurm: {platform: local, time: 5m}
"""
ODD = ("it's \"so\"", "100% %j %%", "back\\slash", "new\nline", "\udcff \t tab", "$HOME `id` #")


class Cube:
    """A cube whose task is the shell lines of `go.sh`, on a cluster."""

    def __init__(self, run_mlcube: RunMLCube, base: Path, cluster: Cluster) -> None:
        self._run, self.cluster = run_mlcube, cluster
        self.root = write_tree(base / "a cube", {"mlcube.yaml": CUBE, "go.sh": "echo done", "workspace/data/one": "1"})

    def run(self, script: str, *words: str, env: dict[str, str] | None = None) -> Outcome:
        (self.root / "go.sh").write_text(script, "utf-8")
        return self._run("run", str(self.root), "--platform", "slurm", "--task", "go", *words,
                         env={**self.cluster.environment, **(env or {})})

    def submitted(self) -> list[list[str]]:
        return [call for call in self.cluster.calls("sbatch") if "--test-only" not in call]

    def left(self) -> list[str]:
        runs = self.root / "workspace/.mlcube/runs"
        return sorted(path.name for path in runs.iterdir()) if runs.exists() else []


@pytest.fixture
def cube(run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> Cube:
    cluster.forget_calls()
    return Cube(run_mlcube, tmp_path, cluster)


def part_of(directory: str, script: str, secret: str = "", shell: str = "sh", **options: Any) -> Part:
    """One job whose task is this shell text; `array` among the options: its program alone."""
    env = (Variable("TOKEN", secret, secret=True),) if secret else ()
    plan = Plan("slurm", (Step("run task go", Command((shell, "-c", script), env), task="go", payload=True),),
                (TaskPlan("go", "r-1", ()),))
    layout = Layout(directory, {"r-1": f"{directory}/r-1"})
    text = program(plan, layout)
    if not options.pop("array", False):
        text = slurm.batch_file(job_of("slurm", options).platform, job_of("local", {}), plan, directory, text,
                                tuple(layout.tasks.values()))
    return Part(directory, tuple(layout.tasks.items()), text, secrets_of(plan, layout))


def hand_over(cluster: Cluster, batch: Batch) -> str:
    done = subprocess.run(["sh", "-s"], input=slurm.submit(batch, "0a1b").encode("utf-8", "surrogateescape"), check=True,
                          env={**os.environ, **cluster.environment}, capture_output=True, timeout=60)
    return answer_of(done.stdout.decode(), "0a1b") or done.stderr.decode()


def said(directory: str) -> tuple[str, str]:
    """The state of a part, and what its task printed."""
    state = Path(f"{directory}/state")
    printed = Path(f"{directory}/r-1/stdout.log")
    return (" ".join(state.read_text("utf-8").split()[:2]) if state.exists() else "",
            printed.read_text("utf-8", "surrogateescape") if printed.exists() else "")


# --- batch files -----------------------------------------------------------------------------------------------------


def test_a_batch_file_runs_by_hand(cluster: Cluster, tmp_path: Path) -> None:
    place = tmp_path / "by hand"
    place.mkdir()
    (tmp_path / "job.sh").write_text(part_of(str(place), "echo hello; exit 3").text, "utf-8")
    job = cluster.run("sbatch", "--parsable", str(tmp_path / "job.sh")).stdout.strip()
    assert cluster.wait_for(job) == "FAILED" and cluster.show(job)["ExitCode"] == "3:0"
    assert said(str(place)) == ("failed 3", "hello\n")


def test_directories_may_be_called_anything(cluster: Cluster, tmp_path: Path) -> None:
    places = [f"{tmp_path}/{name}" for name in ODD]
    answers = [hand_over(cluster, Batch(place, (part_of(f"{place}/1", "pwd; exit 5"),))) for place in places]
    for place, answer in zip(places, answers):
        cluster.wait_for(answer.split()[1])
        assert said(f"{place}/1") == ("failed 5", f"{place}/1\n")
        assert Path(f"{place}/1/slurm.log").exists()


def test_a_chain_ends_where_a_job_fails(cluster: Cluster, tmp_path: Path) -> None:
    parts = tuple(part_of(f"{tmp_path}/run/{number}", f"echo {number}; exit {number - 1}") for number in (1, 2, 3))
    _, *jobs = hand_over(cluster, Batch(f"{tmp_path}/run", parts)).split()
    assert [cluster.wait_for(job) for job in jobs] == ["COMPLETED", "FAILED", "CANCELLED"]
    assert [said(part.directory)[0] for part in parts] == ["succeeded 0", "failed 1", ""]


def test_a_chain_that_is_not_taken_whole_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    parts = (part_of(f"{tmp_path}/run/1", "true"), part_of(f"{tmp_path}/run/2", "true", partition="nowhere"))
    assert "invalid partition" in hand_over(cluster, Batch(f"{tmp_path}/run", parts))
    assert not (tmp_path / "run").exists()
    waiting = ("squeue", "--noheader", "--states=PENDING,RUNNING")
    cluster.until(lambda: not cluster.run(*waiting).stdout, 20, lambda: "a job is left")


def test_a_secret_reaches_the_task_and_no_listing(cluster: Cluster, tmp_path: Path) -> None:
    answer = hand_over(cluster, Batch(f"{tmp_path}/run", (part_of(f"{tmp_path}/run/1", "echo $TOKEN; sleep 1", "hunter2"),)))
    assert "hunter2" not in cluster.run("scontrol", "write", "batch_script", answer.split()[1], "-").stdout
    cluster.wait_for(answer.split()[1])
    assert said(f"{tmp_path}/run/1") == ("succeeded 0", "hunter2\n")


def test_an_array_of_more_than_the_cluster_takes(own_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = own_cluster(MaxArraySize="4")
    place, numbers = f"{tmp_path}/a run", (1, 2, 3, 4, 7)
    parts = tuple(part_of(f"{place}/{number}", f"echo {number} $MLCUBE_JOB_DIRECTORY; exit {number % 2}", array=True)
                  for number in numbers)
    file = slurm.array_file(job_of("slurm", {}).platform, job_of("local", {}), Plan("slurm", ()), place, numbers, 2)
    _, *jobs = hand_over(cluster, Batch(place, parts, file, 2, 3)).split()
    assert len(cluster.calls("sbatch")) == 3 and len(jobs) == len(numbers)
    states = [cluster.wait_for(job) for job in jobs]
    assert states == ["FAILED", "COMPLETED", "FAILED", "COMPLETED", "FAILED"]
    for number in numbers:
        assert said(f"{place}/{number}")[1] == f"{number} {place}/{number}\n"
        assert Path(f"{place}/{number}/slurm.log").exists()


# --- before queueing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "message"), [
    ("-Pslurm.partition=nowhere", "it has: debug, low, short, spot, urgent"),
    ("-Pslurm.memory=900G", "4 processors, 16000 MB, gpu:2"),
    ("-Pslurm.constraint=none", "Invalid feature"),
    ("-Pslurm.gres=unicorn:1", "the nodes have: gpu:2"),
    ("-Pslurm.sbatch_args=[--reservation=x]", "reservation is invalid"),
    ("-Pslurm.partition=short", "-Pslurm.time=00:01:00"),
])
def test_what_the_cluster_has_not_fails_before_it_queues(cube: Cube, word: str, message: str) -> None:
    done = cube.run("echo never", word)
    assert done.exit_code == 3 and message in done.stderr, done.stderr
    assert cube.submitted() == [] and cube.left() == []


def test_a_drained_node_is_waited_for(run_mlcube: RunMLCube, tmp_path: Path, broken_cluster: Cluster) -> None:
    cube = Cube(run_mlcube, tmp_path, broken_cluster)
    broken_cluster.drain("node3")
    done = cube.run("echo never", "-Pslurm.gpus=5")
    assert done.exit_code == 3 and cube.submitted() == []
    done = cube.run("echo later", "-Pslurm.gpus=1", "--detach")
    assert done.exit_code == 0 and "node3" in done.stderr and "drained" in done.stderr
    broken_cluster.resume("node3")
    assert run_mlcube("wait", done.stdout.strip(), env=broken_cluster.environment).exit_code == 0


def test_a_cluster_that_does_not_answer(run_mlcube: RunMLCube, tmp_path: Path, broken_cluster: Cluster) -> None:
    cube = Cube(run_mlcube, tmp_path, broken_cluster)
    broken_cluster.stop_controller()
    done = cube.run("echo never")
    assert done.exit_code == 4 and "Slurm does not answer" in done.stderr, done.stderr
    assert cube.submitted() == [] and cube.left() == []


def test_a_machine_that_is_no_login_node(cube: Cube) -> None:
    done = cube.run("echo never", env=cube.cluster.without("sbatch"))
    assert done.exit_code == 4 and "there is no sbatch on PATH" in done.stderr


def test_nothing_of_the_callers_variables_travels(cube: Cube) -> None:
    done = cube.run("env", env={"LEAK": "me", "SBATCH_EXPORT": "ALL"})
    assert done.exit_code == 0 and "SLURM_JOB_ID=" in done.stdout and "LEAK" not in done.stdout


def test_what_the_platform_says_counts_more_than_the_callers_variables(cube: Cube) -> None:
    variables = {"SBATCH_PARTITION": "short", "SBATCH_TIMELIMIT": "1", "SBATCH_MEM_PER_CPU": "10"}
    done = cube.run("squeue --noheader --jobs=$SLURM_JOB_ID --format='%P %l %m'", "-Pslurm.partition=low",
                    "-Pslurm.memory=50M", env=variables)
    assert (done.exit_code, done.stdout) == (0, "low 5:00 50M\n"), done.stderr
    done = cube.run("echo $SLURM_JOB_PARTITION", "-Pslurm.time=50s", env=variables)
    assert (done.exit_code, done.stdout) == (0, "short\n"), done.stderr


@pytest.mark.singularity
def test_slurm_holds_a_container_to_what_it_was_asked_for_and_no_engine_has_to(cube: Cube) -> None:
    text = CUBE.replace("local: {}", f"local: {{}}\n    singularity: {{image: {IMAGE_FILES}/tiny.sif}}")
    write_tree(cube.root, {"mlcube.yaml": text.replace("sh go.sh", "echo ran")})
    done = cube.run("", "-Pslurm.platform=singularity", "--memory=300m", "--cpu=2")
    assert done.exit_code == 0 and done.stdout.startswith("ran "), done.stderr
    assert "300M of memory" in done.stderr and "2 processors a rank" in done.stderr


def test_flags_hold_for_plain_python_too_since_slurm_is_asked(cube: Cube) -> None:
    done = cube.run("squeue --noheader --jobs=$SLURM_JOB_ID --format='%C %m'", "--memory=300m", "--cpu=0-1")
    assert (done.exit_code, done.stdout) == (0, "2 300M\n"), done.stderr
    assert "300M of memory on each node, as --memory asks" in done.stderr
    refused = cube.run("echo never", "--network=none")
    assert refused.exit_code == 3 and "may run in the job" in refused.stderr


def test_modules_are_loaded_and_setup_is_run_where_the_node_is(cube: Cube, tmp_path: Path) -> None:
    lines = 'module() { [ "$2" = tool/1 ] && TOOL="$2 on ${SLURMD_NODENAME%?}" && export TOOL; }'
    home = write_tree(tmp_path / "modules", {"init/bash": lines, "init/sh": lines})
    words = (f"-Pslurm.env.MODULESHOME={home}", "-Pslurm.setup=[export ALSO=$TOOL]")
    done = cube.run("echo $TOOL, $ALSO", "-Pslurm.modules=[tool/1]", *words)
    assert (done.exit_code, done.stdout) == (0, "tool/1 on node, tool/1 on node\n"), done.stderr
    failed = cube.run("echo never", "-Pslurm.modules=[other]", *words)
    assert failed.exit_code == 1 and "setup ended with exit code 1" in failed.stderr and failed.stdout == ""


def test_runs_lie_where_the_platform_says_in_the_login_nodes_words(cube: Cube, tmp_path: Path) -> None:
    done = cube.run("echo here", "-Pslurm.work_dir=$PLACE/of $WHOSE", env={"PLACE": str(tmp_path), "WHOSE": "mine"})
    assert (done.exit_code, done.stdout) == (0, "here\n"), done.stderr
    (run,) = (tmp_path / "of mine").iterdir()
    assert (run / "1/state").read_text("utf-8").startswith("succeeded 0 ")


@pytest.mark.parametrize(("place", "code", "message"), [
    ("$NOWHERE/x", 3, "variable NOWHERE is not set"), ("$RELATIVE/x", 3, "is relative: a/x"),
    ("/proc/x", 4, "/proc/x cannot be written to"),
])
def test_a_place_for_runs_that_is_none_fails_before_anything_is_made(cube: Cube, place: str, code: int, message: str) -> None:
    done = cube.run("echo never", f"-Pslurm.work_dir={place}", env={"RELATIVE": "a"})
    assert done.exit_code == code and message in done.stderr, done.stderr
    assert cube.submitted() == [] and cube.left() == []


def test_what_a_dry_run_prints_queues_the_job(cube: Cube, tmp_path: Path) -> None:
    shown = cube.run("echo queued by hand", "--dry-run")
    environment = {**os.environ, **cube.cluster.environment}

    def carry_out(script: str, run: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh"], input=script, text=True, capture_output=True, check=False, timeout=60,
                              env={**environment, "RUN_ID": run})

    done, again, odd = (carry_out(shown.stdout, run) for run in ("by-hand", "by-hand", "a/b&c"))
    assert done.returncode == 0 and done.stdout.startswith("submitted "), done.stderr
    assert (again.returncode, again.stderr) == (4, "not queued: exists\n")
    assert odd.returncode == 2 and odd.stderr.startswith("RUN_ID: ")
    refused = carry_out(shown.stdout.replace("--time=00:05:00", "--partition=nowhere"), "refused")
    assert refused.returncode == 4 and "invalid partition" in refused.stderr
    assert cube.cluster.wait_for(done.stdout.split()[1]) == "COMPLETED"
    assert cube.left() == ["by-hand", "by-hand-1"]
    assert (cube.root / "workspace/.mlcube/runs/by-hand-1/stdout.log").read_text("utf-8") == "queued by hand\n"


def test_an_environment_is_made_by_a_job_of_its_own(run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> None:
    text = CUBE.replace("local: {}", "local: {interpreter: virtualenv}").replace("time: 5m", "time: 5m, configure: job")
    root = write_tree(tmp_path / "cube", {"mlcube.yaml": text, "go.sh": "echo done", "workspace/data/one": "1"})
    cluster.forget_calls()
    done = run_mlcube("configure", str(root), "--platform=slurm", env=cluster.environment)
    assert done.exit_code == 0, done.stderr
    assert sum("--test-only" not in call for call in cluster.calls("sbatch")) == 1
    assert list((root / "workspace/.mlcube/runs").iterdir()) == [], "what a job left that only prepares is of no use"


def test_where_there_is_nothing_to_prepare_no_job_does_that(cube: Cube, run_mlcube: RunMLCube) -> None:
    done = run_mlcube("configure", str(cube.root), "--platform=slurm", "-Pslurm.configure=job", env=cube.cluster.environment)
    assert done.exit_code == 0 and cube.submitted() == [], done.stderr


@pytest.mark.singularity
def test_an_image_that_no_job_can_make_is_told_and_its_tasks_do_not_begin(cube: Cube) -> None:
    done = cube.run("echo never", "-Pslurm.platform=singularity", "-Psingularity.image=docker://localhost:1/absent:1",
                    "-Pslurm.configure=job")
    assert done.exit_code == 5 and "could not" in done.stderr and "localhost:1/absent" in done.stderr, done.stderr
    assert len(cube.submitted()) == 2 and done.stdout == ""


# --- ranks, and nodes that the caller holds --------------------------------------------------------------------------

RANKS = ("-Pslurm.nodes=2", "-Pslurm.ntasks_per_node=2")


def test_ranks_on_two_nodes(cube: Cube) -> None:
    done = cube.run("echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR $SLURMD_NODENAME", *RANKS)
    assert done.exit_code == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert [line.rpartition(" ")[0] for line in lines] == [
        "0/4 0/2 0 127.0.0.1", "1/4 1/2 0 127.0.0.1", "2/4 0/2 1 127.0.0.1", "3/4 1/2 1 127.0.0.1"]
    assert len({line.rpartition(" ")[2] for line in lines}) == 2


def test_the_rank_that_failed_first_says_how_it_ended(cube: Cube) -> None:
    done = cube.run("[ $RANK != 2 ] || exit 7\nsleep 60", *RANKS)
    assert done.exit_code == 7 and "rank 2 was the first that failed, with exit code 7" in done.stderr


def test_ranks_are_asked_before_they_are_ended(cube: Cube) -> None:
    script = "trap 'echo rank $RANK saves; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done\n"
    (cube.root / "go.sh").write_text(script, "utf-8")
    words = ["run", str(cube.root), "--platform", "slurm", "--task", "go", *RANKS]
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, env={**clean_environment(cube.root.parent / "home"), **cube.cluster.environment})
    assert child.stdout
    for _ in range(4):
        assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert sorted(out.splitlines()) == [f"rank {rank} saves" for rank in range(4)], errors
    assert child.returncode == -signal.SIGINT


def hold(cube: Cube, script: str, *words: str, salloc: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (cube.root / "go.sh").write_text(script, "utf-8")
    mlcube = (sys.executable, "-m", "mlcube_cli", "run", str(cube.root), "--platform", "slurm", "--task", "go", *words)
    environment = {**clean_environment(cube.root.parent / "home"), **cube.cluster.environment}
    return subprocess.run(["salloc", "--quiet", *salloc, *mlcube], capture_output=True, text=True, check=False, timeout=120,
                          env=environment, cwd=cube.root.parent)


def test_nodes_that_the_caller_holds_are_used_at_once(cube: Cube) -> None:
    done = hold(cube, "echo $SLURMD_NODENAME >made/name || echo failed; echo in $SLURM_STEP_ID; exit 6", "-Pslurm.scratch=true")
    assert done.returncode == 6 and "nothing is queued" in done.stderr and "'scratch' is not used" in done.stderr, done.stderr
    assert cube.submitted() == []


def test_ranks_in_nodes_that_the_caller_holds(cube: Cube) -> None:
    script = "echo $RANK of $WORLD_SIZE; [ $RANK != 1 ] || exit 9; sleep 20"
    done = hold(cube, script, *RANKS, salloc=("--nodes=2", "--ntasks=4"))
    assert sorted(done.stdout.splitlines()) == [f"{rank} of 4" for rank in range(4)], done.stderr
    assert done.returncode == 9


# --- a node's own disk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 4])
def test_scratch_brings_outputs_home_however_the_task_ends(cube: Cube, tmp_path: Path, code: int) -> None:
    disk = tmp_path / "local disk"
    disk.mkdir()
    script = f'for one in "$@"; do echo "$one"; done; cp "${{1#*=}}/one" "${{2#*=}}/two"; exit {code}'
    done = cube.run(script, f"-Pslurm.scratch={disk}")
    assert done.exit_code == code, done.stderr
    assert all("=/tmp/mlcube-scratch-" in line for line in done.stdout.splitlines())
    assert (cube.root / "workspace/made/two").read_text("utf-8") == "1"
    assert list(disk.iterdir()) == []


def test_scratch_that_is_not_there_is_told(cube: Cube) -> None:
    done = cube.run("echo never", "-Pslurm.scratch=/no/such/disk")
    assert done.exit_code == 5 and "/no/such/disk is no directory" in done.stderr
