"""Supervised runs of the docker runner on a real docker: how they end, and that no container is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Plan
from mlcube_cli.observe import machine, with_facts
from mlcube_shell import docker
from tests.supervised import SHELLS, Supervised, gone
from tests.world import job_of

pytestmark = pytest.mark.docker


@pytest.fixture(params=SHELLS)
def run(request, tmp_path):
    identifier = uuid.uuid4().hex[:12]
    yield Supervised(tmp_path, request.param, runs=(f"{identifier}-1",))
    assert containers(identifier) == []


def containers(identifier: str) -> list[str]:
    words = ["docker", "ps", "--all", "--filter", f"name=mlcube-{identifier}", "--format", "{{.Names}} {{.State}}"]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    return said.stdout.splitlines()


def plan_of(run: Supervised, text: str, options: dict[str, Any] | None = None, **fields: Any) -> Plan:
    place = str(run.folder)
    job = job_of("docker", {"image": "mlcube-test/tiny:latest", **(options or {})}, [], run_id=run.runs[0], root=place,
                 workspace=place, **{"entrypoint": ["sh", "-c", text, "task"], **fields})
    plan, _ = with_facts(lambda known: docker.plan(job, known), machine(os.environ))
    return plan


def started(run: Supervised, plan: Plan) -> None:
    """Start it; wait until the task says something."""
    assert run.start(plan) == "started"
    until = time.monotonic() + 30
    while not Path(run.tasks[run.runs[0]], "stdout.log").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("code", [0, 125])
def test_a_tasks_exit_code_is_its_own(run, code):
    state = run.run(plan_of(run, f"echo out; exit {code}"))
    assert (state.status, state.exit_code) == ("failed" if code else "succeeded", code)
    assert run.stream(f"o:{run.runs[0]}") == b"out\n"


def test_an_engine_that_cannot_start_it_is_the_machines_fault(run):
    state = run.run(plan_of(run, "true", {"container_runtime": "no-such-runtime"}))
    assert (state.status, state.exit_code) == ("environment", 4) and "the engine could not start task" in state.message


@pytest.mark.parametrize("hard", [False, True])
def test_cancel_ends_and_removes_the_container(run, hard):
    started(run, plan_of(run, "trap 'echo asked; exit 0' TERM; echo here; while :; do sleep 0.1; done"))
    run.cancel(hard)
    state = run.wait()
    assert (state.status, state.exit_code) == ("cancelled", 143)
    said = Path(run.tasks[run.runs[0]], "stdout.log").read_text()
    assert said == ("here\n" if hard else "here\nasked\n")


def test_the_time_limit_ends_and_removes_the_container(run):
    state = run.run(plan_of(run, "trap '' TERM; echo here; while :; do sleep 0.1; done", timeout=1.5, grace=1.0))
    assert (state.status, state.exit_code) == ("timed_out", 124)


def test_a_container_whose_supervisor_was_killed_is_ended_by_cancel(run):
    started(run, plan_of(run, "echo here; sleep 600"))
    os.kill(run.owner(), signal.SIGKILL)
    assert gone(run.owner()) and run.state().status == "lost"
    assert len(containers(run.runs[0])) == 1
    assert run.cancel() == "gone" and run.state().status == "lost"
