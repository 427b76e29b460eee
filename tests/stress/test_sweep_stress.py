"""A thousand members that do nothing, run by `make stress` only: one call of sbatch, as fast as the bare array."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.cubes import write_tree
from tests.integration.cluster import Cluster, start_cluster

pytestmark = [pytest.mark.stress]

MEMBERS = 1000
ROUNDS = 3
CUBE = """
    name: nothing
    tasks:
      go:
        entrypoint: "true"
        parameters:
          inputs: {n: {type: int, default: 0}}
          outputs: {out: {type: directory, default: out}}
    slurm: {platform: local}
    local: {}
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with start_cluster(MaxArraySize="2000", MaxJobCount="20000") as started:
        yield started


@pytest.mark.slurm
def test_a_thousand_members_cost_one_call_and_not_much_more_than_the_bare_array(
        cluster: Cluster, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE, "workspace/x": ""})
    bare, ours = [], []
    for _ in range(ROUNDS):
        began = time.monotonic()
        cluster.run("sbatch", "--wait", f"--array=1-{MEMBERS}", "--output=/dev/null", stdin="#!/bin/sh\ntrue\n", timeout=1800)
        bare.append(time.monotonic() - began)
        cluster.forget_calls()
        began = time.monotonic()
        done = run_mlcube("sweep", str(cube), "--platform", "slurm", "--set", f"n=1..{MEMBERS}", env=cluster.environment,
                          timeout=1800)
        ours.append(time.monotonic() - began)
        assert done.exit_code == 0, done.stderr[-2000:]
        assert len([call for call in cluster.calls("sbatch") if "--test-only" not in call]) == 1
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"{MEMBERS} members: {statistics.median(ours):.1f} s, bare {statistics.median(bare):.1f} s, ratio {ratio:.2f}")
    assert ratio < 3, (ours, bare)


def test_a_thousand_members_here_are_told_and_compared_fast(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE, "workspace/x": ""})
    began = time.monotonic()
    plan = run_mlcube("sweep", str(cube), "--platform", "local", "--set", f"n=1..{MEMBERS}", "--dry-run", "--json")
    assert len(json.loads(plan.stdout)["tasks"]) == MEMBERS
    assert time.monotonic() - began < 10
    done = run_mlcube("sweep", str(cube), "--platform", "local", "--set", f"n=1..{MEMBERS}", "-j", "4", timeout=1800)
    assert done.exit_code == 0, done.stderr[-2000:]
    for words in (("status",), ("table", "--csv")):
        began = time.monotonic()
        assert run_mlcube("sweep", *words, str(cube)).exit_code == 0
        assert time.monotonic() - began < 5
