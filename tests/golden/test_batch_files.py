"""Golden batch files: a folder a case. `batch.yaml` states the job and the cluster, `batch.sh` what sbatch must get.

`batch.yaml`: `slurm` (the options of the slurm platform), `runner`, `options`, `job` and `world` as test_golden has them for
what runs inside, `directory` (of the job), `members` and `limit` of an array. What every program has in common is left out.
`make golden` writes the expected files anew; a missing one is a failure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcube_cli.command import Plan
from mlcube_cli.facts import Facts
from mlcube_cli.runner import load_runner
from mlcube_cli.supervision.program import FUNCTIONS, Layout, program
from mlcube_shell import slurm
from tests.world import World, job_of

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/batch.yaml"))
LEFT_OUT = "# (here stands what every supervised run has in common)\n"


def make_file(case: dict[str, Any]) -> str:
    platform = job_of("slurm", case["slurm"]).platform
    job = slurm.on_node(platform, job_of(case["runner"], case.get("options", {}), **case.get("job", {})))
    runner, directory = load_runner(case["runner"]), case["directory"]

    def decide(facts: Facts) -> Plan:
        plan = slurm.staged(platform, job, runner.plan(slurm.scratched(platform, job), facts))
        return slurm.for_batch(platform, plan, facts)

    plan = World(**case["world"]).decide(decide)
    if "members" in case:
        return slurm.array_file(platform, job, plan, directory, case["members"], case.get("limit"))
    tasks = {job.run_id: f"{directory}/{job.run_id}"}
    text = slurm.batch_file(platform, job, plan, directory, program(plan, Layout(directory, tasks)), tuple(tasks.values()))
    assert text.count(FUNCTIONS) == 1
    return text.replace(FUNCTIONS, LEFT_OUT)


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("name", CASES)
def test_batch_file_is_as_written(name: str) -> None:
    text = make_file(yaml.safe_load((HERE / name / "batch.yaml").read_text(encoding="utf-8")))
    path = HERE / name / "batch.sh"
    if os.environ.get("MLCUBE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert path.is_file(), f"{path} is missing; `make golden` writes it, then look at what it says"
    assert text == path.read_text(encoding="utf-8", errors="surrogateescape")
