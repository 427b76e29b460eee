"""Runs a job with the local runner, as a process of its own that tests can start twice, and kill.

Reads a JSON document from its standard input: `verb` (configure, force, plan or run), and the fields of the job;
`options` are the platform's. Prints the plan's script for `plan`, and ends with the exit code of the last step.
"""

from __future__ import annotations

import json
import os
import sys

from mlcube_cli.command import Plan
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import Location, MLCubeError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Argument, Job
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.process import Session
from mlcube_cli.script import script
from mlcube_shell import local


def main() -> int:
    wanted = json.load(sys.stdin)
    job, verb = read_job(wanted), wanted["verb"]

    def decide(facts: Facts) -> Plan:
        return local.plan(job, facts) if verb in ("plan", "run") else local.configure(job, facts, verb == "force")

    try:
        plan, _ = with_facts(decide, machine(os.environ))
    except MLCubeError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    if verb == "plan":
        print(script(plan), end="")
        return 0
    return execute(plan)


def execute(plan: Plan) -> int:
    with Session(forward=True) as session:
        for step in plan.steps:
            print(f"[{step.title}]", file=sys.stderr, flush=True)
            outcome = session.run(step, plan.tasks[0] if plan.tasks else None)
            if outcome.exit_code:
                print("\n".join((outcome.status, *outcome.tail)), file=sys.stderr)
                return outcome.exit_code
    return 0


def read_job(wanted: dict[str, object]) -> Job:
    root = str(wanted["root"])
    options = wanted.get("options", {})
    assert isinstance(options, dict)
    platform = Platform("local", "local", tuple(Option(name, value, "local.yaml:1:1") for name, value in options.items()),
                        Location("local.yaml"))
    # Each run its own id: what bears it in its environment is ended with the run (process.Session).
    arguments, variables = wanted.get("arguments", []), wanted.get("variables", {})
    assert isinstance(arguments, list) and isinstance(variables, dict)
    return Job(f"run-{os.getpid()}", "cube", root, f"{root}/workspace", str(wanted.get("dialect", "inline")), "train", None,
               tuple(Argument(*argument) for argument in arguments), platform, variables=tuple(variables.items()))


if __name__ == "__main__":
    sys.exit(main())
