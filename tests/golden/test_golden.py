"""Golden plans: a folder a case. `case.yaml` states the job and the machine, `plan.sh` and `plan.json` what must come.

`case.yaml`: `runner`, `call` (`plan`, `configure` or `configure --force`), `options` (the platform's), `secret` (names of
options), `job` (fields of Job; `arguments` as maps), `pins` and `other_pins` (a lock's entries, as maps) and `world` (fields of
tests/world.py). `make golden` writes the expected files anew; a missing one is a failure.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcube_cli.command import Plan, as_data, script
from mlcube_cli.errors import Location
from mlcube_cli.identity import Pin
from mlcube_cli.runner import load_runner
from tests.world import World, job_of

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/case.yaml"))


def make_plan(case: dict[str, Any]) -> Plan:
    runner = load_runner(case["runner"])
    locked = {name: tuple(Pin(**pin, location=Location("mlcube.lock", 8, 19)) for pin in case[name])
              for name in ("pins", "other_pins") if name in case}
    job = job_of(case["runner"], case.get("options", {}), secret=tuple(case.get("secret", ())), **case.get("job", {}),
                 **({**locked, "lock": "mlcube.lock"} if locked else {}))
    world = World(**case.get("world", {}))
    call = case.get("call", "plan")
    if call == "plan":
        return world.decide(lambda facts: runner.plan(job, facts))
    return world.decide(lambda facts: runner.configure(job, facts, call == "configure --force"))


def render(plan: Plan) -> dict[str, str]:
    steps = [{**as_data(step), "payload": step.payload, "lock": step.lock, "task": step.task,
              "stop": [list(command.argv) for command in (step.stop.ask, step.stop.kill, step.stop.remove)]
              if step.stop else None,
              "started": list(step.sign.started.argv) if step.sign else None} for step in plan.steps]
    arguments = {argument.name: seen for task in plan.tasks for argument, seen in task.arguments}
    data = {"platform": plan.platform, "steps": steps, "arguments": arguments, "notes": list(plan.notes)}
    return {"plan.sh": script(plan), "plan.json": json.dumps(data, indent=2, ensure_ascii=True) + "\n"}


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("name", CASES)
def test_plan_is_as_written(name: str) -> None:
    case = yaml.safe_load((HERE / name / "case.yaml").read_text(encoding="utf-8"))
    rendered = render(make_plan(case))
    for file, text in rendered.items():
        path = HERE / name / file
        if os.environ.get("MLCUBE_GOLDEN") == "write":
            path.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert path.is_file(), f"{path} is missing; `make golden` writes it, then look at what it says"
        assert text == path.read_text(encoding="utf-8", errors="surrogateescape")
