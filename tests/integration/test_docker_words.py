"""What reaches the engine's executable, word for word: a recording fake stands on PATH; no engine is needed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcube_cli.command import Plan
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.process import Session
from mlcube_cli.script import script
from mlcube_shell import docker
from tests.world import job_of

FAKE = Path(__file__).resolve().parent.parent / "fakes" / "docker"


class Fake:
    """A directory of its own, the fake first on PATH, and the calls that it recorded."""

    def __init__(self, place: Path, **environment: str) -> None:
        self.log = place / "calls"
        self.environment = {**os.environ, "PATH": f"{FAKE}{os.pathsep}{os.environ['PATH']}", "FAKE_LOG": str(self.log),
                            "HOME": str(place), "FAKE_IMAGE": "there", **environment}

    def calls(self) -> list[list[str]]:
        words = os.fsdecode(self.log.read_bytes()).split("\0")[:-1] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        calls = []
        while words:
            count, words = int(words[0]), words[1:]
            calls.append(words[:count])
            words = words[count:]
        return calls

    def facts(self) -> Facts:
        return machine(self.environment)

    def plan(self, job: Job) -> Plan:
        plan, _ = with_facts(lambda facts: docker.plan(job, facts), self.facts())
        return plan


def job_in(place: Path, options: Mapping[str, Any], names: tuple[str, str] = ("data", "out"), **fields: Any) -> Job:
    arguments = [{"name": "data", "host_path": str(place / names[0])},
                 {"name": "out", "host_path": str(place / names[1]), "direction": "output"}]
    return job_of("docker", {"image": "mnist", **options}, arguments, root=str(place), workspace=str(place), **fields)


def run_script(plan: Plan, environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    text = script(plan).encode("utf-8", "surrogateescape")
    return subprocess.run(["sh"], input=text, env={**environment, "RUN_ID": "20260102T030405-77"}, capture_output=True,
                          check=False, timeout=60)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    world = Fake(tmp_path)
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    return world


def test_the_script_of_a_dry_run_runs_what_a_run_runs(fake: Fake, tmp_path: Path) -> None:
    options = {"env": {"A": "b 'c' \"d\" $e `f`\n"}, "run_args": "--label 'x y'", "env_args": {"EMPTY": ""}}
    plan = fake.plan(job_in(tmp_path, options, ("a b,c\"d'e", "out*?;&")))
    fake.calls()
    with Session(locks=str(tmp_path / "locks")) as session:
        assert [session.run(step).status for step in plan.steps] == ["succeeded", "succeeded"]
    ran = fake.calls()
    assert run_script(plan, fake.environment).returncode == 0
    assert fake.calls() == ran == [list(plan.steps[-1].command.argv[1:])]


def test_a_run_asks_the_client_twice_when_the_image_is_there(fake: Fake, tmp_path: Path) -> None:
    plan = fake.plan(job_in(tmp_path, {}))
    with Session(locks=str(tmp_path / "locks")) as session:
        for step in plan.steps:
            session.run(step)
    assert [call[0] for call in fake.calls()] == ["image", "run"]


def test_a_build_happens_once_and_its_variables_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Fake(tmp_path, FAKE_IMAGE="absent")
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    plan = world.plan(job_in(tmp_path, {"build_strategy": "build", "build_args": {"A": "b c"}}))
    world.calls()
    with Session(locks=str(tmp_path / "locks")) as session:
        assert [session.run(step).status for step in (*plan.steps, *plan.steps)] == ["succeeded"] * 6
    verbs = [call[0] for call in world.calls()]
    assert verbs.count("build") == 1 and verbs.count("run") == 2


def test_secrets_reach_the_client_in_its_environment_only(fake: Fake, tmp_path: Path) -> None:
    job = job_in(tmp_path, {"env": {"TOKEN": "geheim"}}, secret=("env",))
    step = fake.plan(job).steps[-1]
    seen = tmp_path / "seen"
    spy = tmp_path / "spy" / "docker"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\nprintf %s "$TOKEN" >{seen}; case "$*" in *geheim*) exit 9;; esac\n')
    spy.chmod(0o755)
    environment = {**fake.environment, "PATH": f"{spy.parent}{os.pathsep}{os.environ['PATH']}"}
    os.environ["PATH"] = environment["PATH"]  # monkeypatched by the fixture, and so put back
    with Session(locks=str(tmp_path / "locks")) as session:
        assert session.run(step).exit_code == 0
    assert seen.read_text() == "geheim"


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and "\r\n" not in name and len(os.fsencode(name)) < 200)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES, NAMES, st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20))
def test_every_name_survives_the_shell(tmp_path: Path, data: str, out: str, value: str) -> None:
    world = Fake(tmp_path)
    plan = world.plan(job_in(tmp_path, {"env": {"VALUE": value}}, (data, out)))
    world.calls()
    ended = run_script(plan, world.environment)
    assert ended.returncode == 0, ended.stderr
    assert world.calls() == [list(plan.steps[-1].command.argv[1:])]
    assert (tmp_path / out).is_dir()
