"""What we ask Slurm for, word by word, as a real sbatch takes it; and its short letters, which we know by heart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.definition.slurm_options import LETTERS
from mlcube_cli.errors import Location
from mlcube_shell.slurm_requests import directives
from tests.conftest import RunMLCube
from tests.cubes import write_tree
from tests.integration.cluster import Cluster

pytestmark = pytest.mark.slurm


def words_of(options: Mapping[str, Any]) -> list[str]:
    platform = Platform("slurm", "slurm", tuple(Option(name, value) for name, value in options.items()), Location("f"))
    return [name + (f"={value}" if value is not None else "") for name, value in directives(platform, {}, "cube-task")]


@pytest.mark.parametrize("options", [
    {}, {"partition": "debug,short", "time": 59}, {"time": 90061}, {"nodes": "1-2", "ntasks": 2, "ntasks_per_node": 1},
    {"cpus_per_task": 1, "memory": 1 << 20}, {"memory": 1536 << 10}, {"memory": 0}, {"gpus": 1}, {"exclusive": True},
    {"exclusive": "user"}, {"time": 600, "signal_before_end": "USR1@65535"},
    {"sbatch_args": ["--nice=5", "--requeue", "--comment=a-b", "--mail-type=END"]},
])
def test_sbatch_takes_what_a_platform_says(cluster: Cluster, options: Mapping[str, Any]) -> None:
    done = cluster.run("sbatch", "--test-only", *words_of(options), check=False, stdin="#!/bin/sh\ntrue\n")
    assert done.returncode == 0, done.stderr
    assert "to start at" in done.stderr


def test_a_job_has_what_was_asked_for(cluster: Cluster) -> None:
    job = cluster.submit("sleep 30", *words_of({"time": 90061, "memory": 64 << 20, "gpus": 1, "cpus_per_task": 2, "qos": "any",
                                                "partition": "debug"}))
    shown = cluster.show(job)
    cluster.cancel(job)
    assert (shown["JobName"], shown["TimeLimit"], shown["MinMemoryNode"], shown["CPUs/Task"]) == (
        "cube-task", "1-01:02:00", "64M", "2")
    assert shown["TresPerNode"] == "gres:gpu:1"


def test_sbatchs_letters_are_the_words_that_we_take_them_for(cluster: Cluster) -> None:
    shown = cluster.run("sbatch", "--help").stdout
    letters = dict(re.findall(r"^ +-(\w), --([a-z-]+)", shown, re.MULTILINE))
    assert len(letters) > 20
    assert {letter: LETTERS.get(letter) for letter in letters} == letters


def test_a_dry_run_shows_what_is_asked_for_and_for_whom(cluster: Cluster, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": """
        name: c
        platform: {accelerator_count: 1, host_memory_gb: 0.5, host_disk_space_gb: 5}
        local: {entrypoint: main.py}
        slurm: {time: 2h, platform: local, sbatch_args: --nice=5}
        tasks: {t: {entrypoint: main.py}}
        """, "main.py": ""})
    done = run_mlcube("run", ".", "--platform", "slurm", "--dry-run", "--gpus", "2",
                      env=cluster.environment)
    assert done.exit_code == 0, done.stderr
    for line in ("#SBATCH --job-name=c-t", "#SBATCH --time=02:00:00", "#SBATCH --mem=512M", "#SBATCH --gres=gpu:2",
                 "#SBATCH --signal=B:XCPU@60", "#SBATCH --export=NONE", "#SBATCH --nice=5"):
        assert line in done.stdout.splitlines(), done.stdout
    said = done.stdout + done.stderr
    assert "2 GPUs on each node, as --gpus asks" in said
    assert "512M of memory on each node, as the cube asks ('platform.host_memory_gb')" in said
    assert "5 GB of disk" in said
