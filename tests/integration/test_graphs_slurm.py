"""run --all, --skip-unchanged and outputs that one run holds, in a batch system: here, and behind its login node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Outcome, RunMLCube
from tests.cubes import write_tree
from tests.integration.cluster import Cluster
from tests.integration.far import COPY, Far
from tests.integration.gpu_box import Box

pytestmark = pytest.mark.slurm

CUBE = r"""
    name: two
    tasks:
      use:
        entrypoint: sh -c 'cat "\${1#*=}/made" > "\${2#*=}"; echo use' sh
        parameters: {inputs: {data: data/}, outputs: {text: {type: file, default: out/text}}}
      make:
        entrypoint: sh -c '. "\${1#*=}"; echo made > "\${2#*=}/made"; echo make' sh
        parameters:
          inputs: {script: {type: file, default: script.sh}, n: {type: integer, default: 0}}
          outputs: {data: data/}
    local: {}
    slurm: {platform: local, time: 5m}
"""


class Two:
    """A cube of two tasks, of which `use` reads what `make` writes, on a cluster."""

    def __init__(self, run_mlcube: RunMLCube, base: Path, cluster: Cluster) -> None:
        self._run, self.cluster = run_mlcube, cluster
        self.cube = write_tree(base / "two", {"mlcube.yaml": CUBE, "workspace/script.sh": ":\n"})
        self.script = self.cube / "workspace/script.sh"

    def __call__(self, *words: str, verb: str = "run", platform: str = "slurm") -> Outcome:
        return self._run(verb, str(self.cube), "--platform", platform, *words, env=self.cluster.environment)

    def plain(self, *words: str) -> Outcome:
        return self._run(*words, env=self.cluster.environment)

    def handed_over(self) -> int:
        return len([call for call in self.cluster.calls("sbatch") if "--test-only" not in call])


@pytest.fixture
def two(run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> Two:
    cluster.forget_calls()
    return Two(run_mlcube, tmp_path, cluster)


def ran(done: Outcome) -> list[str]:
    assert done.exit_code == 0, done.stderr
    return done.stdout.split()


def test_a_skipped_task_leaves_no_job_and_what_comes_after_one_that_runs_is_chained_to_it(two: Two) -> None:
    words = ("--all", "--skip-unchanged", "--explain")
    assert ran(two(*words)) == ["make", "use"]
    assert two.handed_over() == 2
    assert any(word.startswith("--dependency=afterok:") for call in two.cluster.calls("sbatch") for word in call)
    two.cluster.forget_calls()
    assert ran(two(*words)) == [] and two.handed_over() == 0
    (two.cube / "workspace/out/text").unlink()
    assert ran(two(*words)) == ["use"] and two.handed_over() == 1
    two.script.write_text(": changed\n")
    done = two(*words)
    assert ran(done) == ["make", "use"] and "task 'use' runs, since this comes before it: task 'make'" in done.stderr


def test_a_queued_run_holds_its_outputs_until_it_is_cancelled_and_nobody_queues_for_them(two: Two) -> None:
    run = two("--task", "make", "--detach", "-Pslurm.sbatch_args=[--hold]").stdout.strip()
    two.cluster.forget_calls()
    for platform in ("slurm", "local"):
        done = two("--task", "make", platform=platform)
        assert done.exit_code == 4 and f"is being written by run {run} (task 'make')" in done.stderr, done.stderr
    assert two.handed_over() == 0
    dry = two("--all", "--skip-unchanged", "--explain", "--dry-run")
    assert f"task 'make' would run: its last run ({run}-1) is queued" in dry.stderr, dry.stderr
    assert two.plain("cancel", run).exit_code == 0
    assert ran(two("--task", "make", platform="local")) == ["make"]


def test_the_members_of_a_sweep_hold_theirs(two: Two, home: Path) -> None:
    done = two("--task", "make", "--set", "n=1..3", "--detach", "-Pslurm.sbatch_args=[--hold]", verb="sweep")
    sweep = done.stdout.strip()
    member = two.cube / f"workspace/sweeps/{sweep}/0002/data"
    for path in (member, member / "below", member.parent.parent):
        done = two("--task", "make", f"data={path}", platform="local")
        assert done.exit_code == 4 and f"is being written by run {sweep} (task 'make')" in done.stderr, done.stderr
    assert ran(two("--task", "make", platform="local")) == ["make"], "the task's own output is nobody's"
    job = two.cluster.run("squeue", "--noheader", "--array", "--states=PENDING", "--format=%F|%Z").stdout.partition("|")[0]
    two.cluster.cancel(job)
    for kept in (home / ".cache/mlcube").glob("queue.*"):
        kept.unlink()  # else up to 30 seconds go by before Slurm is asked again
    done = two.plain("wait", sweep)
    assert done.exit_code == 143 and "was cancelled before it began" in done.stderr, "Slurm has one entry for all of them"
    assert ran(two("--task", "make", f"data={member}", platform="local")) == ["make"]


@pytest.mark.ssh
def test_behind_a_login_node_what_is_skipped_is_an_input_and_leaves_no_job(login_node: Box, far: Far) -> None:
    definition = far.cube / "mlcube.yaml"
    definition.write_text(definition.read_text().replace("ssh: {host:", "slurm: {platform: local, time: 10}\nssh: {host:"))
    far.options = (*far.options, "-Pssh.platform=slurm")
    far.script(COPY)
    far.script('cat "$data/one" > "$result/two"; echo again\n', "again.sh")
    write_tree(far.workspace, {"data/one": "1"})
    words = ("--all", "--skip-unchanged", "--explain")
    assert ran(far("run", *words)) == ["copied", "again"]
    done = far("run", *words, "--json")
    assert [task["skipped"] for task in json.loads(done.stdout)["tasks"]] == [True, True] and "queued" not in done.stderr
    far.script('cat "$data/one" > "$result/three"; echo changed\n', "again.sh")
    assert ran(far("run", *words)) == ["changed"]
    write_tree(far.workspace, {"data/one": "2"})
    done = far("run", *words)
    assert ran(done) == ["copied", "changed"] and "task 'again' runs, since this comes before it: task 'work'" in done.stderr
    run = far.run("--detach", "-Pslurm.sbatch_args=[--hold]").stdout.strip()
    done = far("run", "--task", "work")
    assert done.exit_code == 4 and f"is being written by run {run} (task 'work' on " in done.stderr, done.stderr
    assert far.plain("cancel", run).exit_code == 0
