"""A job as Slurm's nodes run it: whose shell lines come first, what runs where jobs are submitted, which GPUs it is told of."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from mlcube_cli.definition.model import Platform
from mlcube_cli.job import Job
from mlcube_shell.shell_setup import setup_lines
from mlcube_shell.slurm_jobs import on_login, on_node
from tests.world import job_of


def platform(runner: str, options: dict[str, Any], **fields: Any) -> Platform:
    return job_of(runner, options, **fields).platform


def printed(job: Job, **environment: str) -> list[str]:
    """What the job's shell lines print, in a shell with these variables."""
    script = "\n".join(("module() { echo module $*; }", *setup_lines(job)))
    said = subprocess.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True,
                          check=True)
    return said.stdout.splitlines()


SLURM = {"modules": ["apptainer"], "setup": ["echo of the node"]}


def test_the_lines_of_slurm_come_before_those_of_the_platform_inside() -> None:
    inside = job_of("singularity", {"modules": ["cuda/12"], "setup": "echo own"})
    job = on_node(platform("slurm", SLURM), inside)
    assert job.batch
    assert printed(job, SLURMD_NODENAME="node1") == ["module load apptainer", "module load cuda/12", "of the node", "own"]


def test_setup_lines_of_slurm_do_nothing_where_jobs_are_submitted() -> None:
    inside = job_of("singularity", {"setup": "echo own"})
    outer = platform("slurm", SLURM)
    assert printed(on_node(outer, inside)) == printed(on_login(outer, inside)) == ["module load apptainer", "own"]


def test_what_prepares_a_job_has_its_lines_and_is_no_batch_job() -> None:
    inside = job_of("local", {"setup": "echo own"})
    node, login = (function(platform("slurm", SLURM), inside) for function in (on_node, on_login))
    assert setup_lines(node) == setup_lines(login), "a Python environment is named after them"
    assert replace(node, batch=False) == login


def test_what_a_job_of_plain_python_is_held_to_is_slurms_matter() -> None:
    outer, inside = platform("slurm", SLURM), job_of("local", {"memory": "3g", "cpuset_cpus": "0,1", "setup": "echo own"})
    assert (on_node(outer, inside).platform.option("memory"), on_login(outer, inside).platform.option("memory")) == ("3g", None)
    contained = job_of("docker", {"memory": "3g", "image": "x"})
    assert on_login(outer, contained).platform.option("memory") == "3g"


def test_lines_that_the_platform_inside_was_read_with_are_not_run_twice() -> None:
    outer = platform("slurm", {"setup": ["echo a", "echo b"], "modules": "m"})
    inside = job_of("singularity", {"setup": ["echo a", "echo b", "echo own"], "modules": ["m", "cuda"]})
    job = on_node(outer, inside)
    assert printed(job, SLURMD_NODENAME="n") == ["module load m", "module load cuda", "a", "b", "own"]
    assert printed(job) == ["module load m", "module load cuda", "own"]
    assert on_node(outer, job_of("singularity", {"setup": ["echo a", "echo b"]})).option("setup") == [
        'if [ -n "${SLURMD_NODENAME-}" ]; then', "echo a", "echo b", "fi"]


def test_the_job_of_a_node_is_prepared_as_any_other() -> None:
    outer, inside = platform("slurm", {**SLURM, "gpus": 2}), job_of("local", {"setup": "echo own"})
    assert on_login(outer, on_node(outer, inside)) == on_login(outer, inside)
    assert on_node(outer, on_node(outer, inside)) == on_node(outer, inside)


def test_the_lines_of_the_machine_that_jobs_are_submitted_from_run_there_and_on_nodes() -> None:
    machine = platform("ssh", {"setup": "echo of the machine"})
    outer = platform("slurm", {"setup": ["echo of the machine", "echo of the node"]})
    job = on_node(outer, job_of("local", {"setup": ["echo of the machine", "echo of the node", "echo own"]}), machine)
    assert printed(job) == ["of the machine", "own"]
    assert printed(job, SLURMD_NODENAME="n") == ["of the machine", "of the node", "own"]


def test_without_lines_of_slurm_the_platform_inside_stays_as_it_is() -> None:
    inside = job_of("docker", {"image": "busybox", "setup": "echo own"})
    assert on_node(platform("slurm", {"partition": "gpu"}), inside) == replace(inside, batch=True)


def test_a_secret_in_the_lines_of_slurm_is_a_secret_of_the_job() -> None:
    outer = platform("slurm", {"setup": "export TOKEN=word"}, secret=("setup",))
    option = on_node(outer, job_of("docker", {"setup": "echo own"})).find_option("setup")
    assert option is not None and option.secret


@pytest.mark.parametrize(("slurm", "inside", "gpus"), [
    ({}, {}, None),
    ({"gpus": 2}, {}, "all"),
    ({"gpus": "a100:2"}, {}, "all"),
    ({"gpus": 0}, {}, "none"),
    ({"gres": "lustre:1"}, {}, None),
    ({"gpus": 2}, {"gpus": "none"}, "none"),
    ({"gpus": 0}, {"gpus": 1}, "none"),
    ({"gpus": 2}, {"gpus": 1}, 1),
    ({"sbatch_args": ["--gpus-per-node=1"]}, {}, "all"),
])
def test_the_platform_inside_gets_the_gpus_that_the_batch_job_has(
        slurm: dict[str, Any], inside: dict[str, Any], gpus: object) -> None:
    assert on_node(platform("slurm", slurm), job_of("singularity", inside)).option("gpus") == gpus


def test_gpus_that_the_cube_asks_for_are_all_that_slurm_gives() -> None:
    inside = job_of("singularity", {}, requirements={"accelerator_count": 2})
    assert on_node(platform("slurm", {}), inside).option("gpus") == "all"
