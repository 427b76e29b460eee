"""Golden plans: a folder a case. `case.yaml` states the job and the machine, `plan.sh` and `plan.json` what must come.

`case.yaml`: `runner`, `call` (`plan`, `configure` or `configure --force`), `options` (the platform's), `secret` (names of
options), `job` (fields of Job; `arguments` as maps), `pins` and `other_pins` (a lock's entries, as maps) and `world` (fields of
tests/world.py). Where the runner is a carrier (ssh), `inside` states what runs there (`runner`, `options`) and `there` the
world of that machine; the plan is the way there, what is sent, what runs there, and what comes home. `make golden` writes the
expected files anew; a missing one is a failure.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcube_cli.command import Plan, as_data
from mlcube_cli.errors import Location
from mlcube_cli.identity import Pin
from mlcube_cli.parcels import Load, Parcel
from mlcube_cli.relocation import Relocation, moved
from mlcube_cli.runner import REMOTE, RUNNERS, load_carrier, load_runner
from mlcube_cli.script import script
from tests.world import World, job_of

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/case.yaml"))


def make_plan(case: dict[str, Any]) -> Plan:
    if RUNNERS[case["runner"]].kind == REMOTE:
        return make_plan_there(case)
    runner = load_runner(case["runner"])
    locked: dict[str, Any] = {name: tuple(Pin(**pin, location=Location("mlcube.lock", 8, 19)) for pin in case[name])
              for name in ("pins", "other_pins") if name in case}
    job = job_of(case["runner"], case.get("options", {}), secret=tuple(case.get("secret", ())), **case.get("job", {}),
                 **({**locked, "lock": "mlcube.lock"} if locked else {}))
    world = World(**case.get("world", {}))
    call = case.get("call", "plan")
    if call == "plan":
        return world.decide(lambda facts: runner.plan(job, facts))
    return world.decide(lambda facts: runner.configure(job, facts, call == "configure --force"))


def make_plan_there(case: dict[str, Any]) -> Plan:
    """What a carrier does around the plan of the runner that works there."""
    carrier, here, there = load_carrier(case["runner"]), World(**case["world"]), World(**case["there"])
    job = job_of(case["runner"], case["options"], **case["job"])
    root = carrier.root(job.platform, "mnist-1a2b3c4d", there.facts())
    relocation = Relocation(("/cube/workspace", f"{root}/workspace"), ("/cube", f"{root}/runs/{job.command_id}/code"))
    inputs, outputs = (
        tuple(Parcel(one.name, one.host_path, relocation.there(one.host_path), one.type) for one in job.paths
              if one.direction == direction and relocation.moves(one.host_path)) for direction in ("input", "output"))
    load = Load(root, "1a2b3c4d", ("/cube", f"{root}/code"), relocation.workspace, ("/cube/workspace",), inputs,
                outputs, rsync="rsync  version 3.2.7  protocol version 31", name="digits")
    inside = job_of(case["inside"]["runner"], case["inside"]["options"]).platform
    way = here.decide(lambda facts: carrier.way(job.platform, facts))
    push = here.decide(lambda facts: carrier.push(job.platform, facts, load))
    runner = load_runner(inside.runner)
    plan = there.decide(lambda facts: runner.plan(moved(job, relocation, inside), facts))
    pull = here.decide(lambda facts: carrier.pull(job.platform, facts, load, (), ".from-box"))
    return replace(plan, platform="box", steps=(way.connect, *push, *plan.steps, *pull))


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
