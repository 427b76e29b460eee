"""The docker runner on real engines, docker and podman: what the task may do, how it ends, and that nothing is left.

What both share is tested on both; what says nothing new about podman is tested on docker alone, to save time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Plan, Step
from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.process import Outcome, Session, ask
from mlcube_cli.script import script
from mlcube_shell import docker
from tests.conftest import DOCKER_AND_PODMAN
from tests.world import job_of

TINY = "mlcube-test/tiny:latest"
only_docker = pytest.mark.parametrize("engine", DOCKER_AND_PODMAN[:1], indirect=True)


@dataclass
class Bench:
    """Runs shell scripts as tasks of a container, in a directory of the test's own."""

    place: Path
    run_id: str
    engine: str = "docker"

    def job(self, text: str, arguments: Sequence[Mapping[str, str]] = (), options: Mapping[str, Any] | None = None,
            **fields: Any) -> Job:
        given = [{**argument, "host_path": str(self.place / argument["host_path"])} for argument in arguments]
        return job_of("docker", {"image": TINY, "docker": self.engine, **(options or {})}, given, run_id=f"{self.run_id}-1",
                      root=str(self.place), workspace=str(self.place),
                      **{"entrypoint": ["sh", "-c", text, "task"], **fields})

    def plan(self, job: Job, facts: Facts | None = None) -> Plan:
        plan, _ = with_facts(lambda known: docker.plan(job, known), facts or machine(os.environ))
        return plan

    def run(self, text: str, arguments: Sequence[Mapping[str, str]] = (), options: Mapping[str, Any] | None = None,
            **fields: Any) -> tuple[Outcome, str, Step]:
        """How the task ended, what it wrote to stdout, and its step."""
        return self.execute(self.plan(self.job(text, arguments, options, **fields)))

    def execute(self, plan: Plan) -> tuple[Outcome, str, Step]:
        said = self.place / "stdout"
        descriptor = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        try:
            with Session(locks=str(self.place / "locks")) as session:
                for step in plan.steps:
                    outcome = session.run(step, plan.tasks[0], descriptor)
        finally:
            os.close(descriptor)
        return outcome, said.read_text(encoding="utf-8", errors="surrogateescape"), plan.steps[-1]

    def leftovers(self) -> str:
        label = f"label=org.mlcommons.mlcube.run={self.run_id}-1"
        return subprocess.run([self.engine, "ps", "--all", "--quiet", "--filter", label], capture_output=True, text=True,
                              check=True, timeout=60).stdout


@pytest.fixture(params=DOCKER_AND_PODMAN)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(tmp_path: Path, engine: str) -> Iterator[Bench]:
    bench = Bench(tmp_path, f"test-{uuid.uuid4().hex[:12]}", engine)
    yield bench
    assert bench.leftovers() == ""


def had_started(step: Step) -> bool:
    assert step.sign is not None
    return ask(step.sign.started).stdout.strip() != ""


DATA = {"name": "data", "host_path": "data"}
OUT = {"name": "out", "host_path": "out", "direction": "output"}


# --- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 125, 126, 127, 137])
def test_the_tasks_exit_code_is_the_tasks_own(bench: Bench, code: int) -> None:
    outcome, _, step = bench.run(f"exit {code}")
    assert outcome.exit_code == code
    assert outcome.status == ("succeeded" if code == 0 else "failed")
    if code in (125, 126, 127):
        assert had_started(step)


def test_a_task_that_kills_itself_ends_with_the_signals_number(bench: Bench) -> None:
    assert bench.run("kill -KILL $$")[0].exit_code == 137


# What the engine cannot do, and the exit codes of docker and podman; None: on cgroups v1 podman without root ignores limits,
# and says so.
IMPOSSIBLE: dict[str, tuple[dict[str, str], int, int | None]] = {
    "network": ({"network": "no-such-network"}, 125, 125),
    "runtime": ({"container_runtime": "no-such-runtime"}, 125, 125),
    "memory": ({"memory": "1"}, 125, None),
    "option": ({"run_args": "--no-such-option"}, 125, 125),
    "gpus": ({"gpus": "all"}, 125, 126),
    "users gpus": ({"run_args": "--gpus all"}, 125, 126),
    "workdir": ({"workdir": "relative"}, 125, 126),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_container_that_could_not_be_made_is_told_apart(bench: Bench, what: str) -> None:
    options, docker_code, podman_code = IMPOSSIBLE[what]
    code = docker_code if bench.engine == "docker" else podman_code
    outcome, _, step = bench.run("exit 0", options=options)
    if code is None:
        assert outcome.exit_code == 0 or not had_started(step)
    else:
        assert outcome.exit_code == code and not had_started(step)


def test_a_program_that_is_not_there_is_told_apart_without_the_init(bench: Bench) -> None:
    outcome, _, step = bench.run("", options={"run_args": "--init=false"}, entrypoint=["/no/such/program"])
    assert outcome.exit_code == 127 and not had_started(step)


STUBBORN = "trap 'echo TERM >/mlcube_io0/asked' TERM; : >/mlcube_io0/ready; while :; do sleep 0.1; done"


def test_a_time_limit_ends_a_task_that_ignores_term(bench: Bench) -> None:
    outcome, _, _ = bench.run(STUBBORN, [OUT], timeout=3.0, grace=1.0)
    assert (outcome.status, outcome.exit_code) == ("timed_out", 124)
    assert (bench.place / "out" / "asked").read_text() == "TERM\n"
    assert outcome.seconds < 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_task_that_ignores_term(bench: Bench, number: signal.Signals) -> None:
    ready = bench.place / "out" / "ready"

    def send_when_ready() -> None:
        for _ in range(300):
            if ready.exists():
                break
            waited.wait(0.1)
        os.kill(os.getpid(), number)

    waited = threading.Event()
    sender = threading.Thread(target=send_when_ready)
    sender.start()
    outcome, _, _ = bench.run(STUBBORN, [OUT], grace=1.0)
    sender.join()
    assert (outcome.status, outcome.exit_code, outcome.signal) == ("cancelled", 128 + number, number)
    assert bench.leftovers() == ""


def test_a_task_that_listens_ends_at_once(bench: Bench) -> None:
    outcome, said, _ = bench.run("trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done", timeout=2.0, grace=30.0)
    assert (outcome.status, said) == ("timed_out", "bye\n")
    assert outcome.seconds < 12


def test_what_a_task_leaves_running_ends_with_it(bench: Bench) -> None:
    busy = 'while :; do : >/mlcube_io0/alive; sleep 0.05; done'
    outcome, _, _ = bench.run(f"trap '' TERM INT HUP; ({busy}) & sleep 0.3; exit 0", [OUT])
    assert outcome.exit_code == 0
    alive = bench.place / "out" / "alive"
    alive.unlink()
    time.sleep(0.3)
    assert not alive.exists()


# --- what the task sees ----------------------------------------------------------------------------------------------


def test_outputs_belong_to_the_caller(bench: Bench) -> None:
    assert bench.run("mkdir /mlcube_io0/d && : >/mlcube_io0/d/f && : >$HOME/f", [OUT])[0].exit_code == 0
    for path in ("out", "out/d", "out/d/f"):
        found = (bench.place / path).stat()
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())


def test_the_images_own_user_runs_where_the_platform_says_so(bench: Bench) -> None:
    assert bench.run("id -u", options={"user": "image"})[1] == "0\n"
    assert bench.run("id -u; id -g", options={"user": "1234:5678"})[1] == "1234\n5678\n"


def test_inputs_cannot_be_written(bench: Bench) -> None:
    (bench.place / "data").mkdir()
    (bench.place / "data" / "f").write_text("old")
    (bench.place / "s.yaml").write_text("old")
    settings = {"name": "settings", "type": "file", "host_path": "s.yaml"}
    outcome, said, _ = bench.run(
        "for f in /mlcube_io0/f /mlcube_io0/new /mlcube_io1/s.yaml; do (echo new >$f) 2>/dev/null && echo $f; done; "
        "rm -rf /mlcube_io0/f 2>/dev/null; cat /mlcube_io0/f /mlcube_io1/s.yaml", [DATA, settings])
    assert (outcome.exit_code, said) == (0, "oldold")


def test_inputs_inside_an_output_cannot_be_written_and_the_rest_can(bench: Bench) -> None:
    (bench.place / "out" / "raw").mkdir(parents=True)
    (bench.place / "out" / "raw" / "f").write_text("old")
    (bench.place / "out" / "s.yaml").write_text("old")
    outcome, said, _ = bench.run(
        "for f in /mlcube_io2/raw/f /mlcube_io2/raw/new /mlcube_io2/s.yaml /mlcube_io2/new; do "
        "(echo new >$f) 2>/dev/null && echo $f; done; true",
        [{"name": "raw", "host_path": "out/raw"}, {"name": "s", "type": "file", "host_path": "out/s.yaml"}, OUT])
    assert (outcome.exit_code, said) == (0, "/mlcube_io2/new\n")


@only_docker
def test_an_output_inside_an_input_can_be_written(bench: Bench) -> None:
    (bench.place / "data").mkdir()
    inside = {"name": "out", "host_path": "data/out", "direction": "output"}
    outcome, _, _ = bench.run(": >/mlcube_io1/f; (: >/mlcube_io0/f) 2>/dev/null && exit 1; exit 0", [DATA, inside])
    assert outcome.exit_code == 0 and (bench.place / "data" / "out" / "f").exists()


@only_docker
def test_an_output_file_can_be_replaced_by_renaming(bench: Bench) -> None:
    report = {"name": "report", "type": "file", "direction": "output", "host_path": "deep/er/report.json"}
    outcome, _, _ = bench.run("echo {} >/mlcube_io0/tmp && mv /mlcube_io0/tmp /mlcube_io0/report.json", [report])
    assert outcome.exit_code == 0 and (bench.place / "deep/er/report.json").read_text() == "{}\n"


def test_our_records_in_the_workspace_cannot_be_seen(bench: Bench) -> None:
    (bench.place / ".mlcube").mkdir()
    (bench.place / ".mlcube" / "record").write_text("x")
    everything = {"name": "all", "host_path": str(bench.place)}
    outcome, said, _ = bench.run(
        "ls -A /mlcube_io0/.mlcube; (: >/mlcube_io0/.mlcube/f) 2>/dev/null && echo written; true", [everything, OUT])
    assert (outcome.exit_code, said) == (0, "")
    assert [path.name for path in (bench.place / ".mlcube").iterdir()] == ["record"]


NAMES = ("a b", "a,b", "a:b", 'a"b', "a'b", "a\nb", "a\tb", "a=b", "a\\b", "$HOME", "-x", " a ", "ü*?", "#a", "a\r")


def test_every_name_that_the_engine_can_mount_arrives(bench: Bench) -> None:
    names = [name for name in NAMES if bench.engine == "docker" or "\n" not in name]
    arguments = []
    for number, name in enumerate(names):
        (bench.place / "in" / name).mkdir(parents=True)
        (bench.place / "in" / name / name).write_text(f"content {number}\n")
        arguments += [{"name": f"d{number}", "host_path": f"in/{name}"},
                      {"name": f"f{number}", "type": "file", "host_path": f"in/{name}/{name}"},
                      {"name": f"o{number}", "direction": "output", "host_path": f"out/{name}"}]
    text = 'for word; do case $word in --f*) cat "${word#*=}";; --o*) : >"${word#*=}/made";; esac; done'
    outcome, said, _ = bench.run(text, arguments)
    assert (outcome.exit_code, said.splitlines()) == (0, [f"content {number}" for number in range(len(names))])
    assert [name for name in names if not (bench.place / "out" / name / "made").exists()] == []


def test_a_name_that_the_engine_would_get_wrong_is_refused(bench: Bench) -> None:
    for name in ("a\udcff", "a\r\nb", *(("a\nb",) if bench.engine == "podman" else ())):
        with pytest.raises(DefinitionError):
            bench.run("", [{"name": "d", "host_path": name}])


def test_stdin_is_empty_and_there_is_no_terminal(bench: Bench) -> None:
    assert bench.run("cat; [ -t 0 ] || [ -t 1 ] || echo none")[1] == "none\n"


def test_variables_and_secrets_arrive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED_ON", "caller's")
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    options = {"env": {"A": "b 'c'\n$d", "PASSED_ON": None}, "env_args": "--env B=2", "run_args": "-e TOKEN=geheim"}
    job = bench.job('printf %s "$A|$PASSED_ON|$B|$TOKEN|$http_proxy|$PYTHONUNBUFFERED|$HOME"', options=options,
                    secret=("run_args",))
    plan = bench.plan(job)
    assert "geheim" not in script(plan)
    assert bench.execute(plan)[1] == "b 'c'\n$d|caller's|2|geheim|http://proxy:1|1|/tmp"


def test_settings_reach_the_container(bench: Bench) -> None:
    options = {"network": "none", "memory": "64m", "shm_size": "3m", "workdir": "/tmp", "cpuset_cpus": "0",
               "run_args": "--hostname box"}
    said = bench.run("ls /sys/class/net; pwd; hostname; df -k /dev/shm | tail -1 | awk '{print $2}'; nproc", options=options)[1]
    assert said.split()[:4] == ["lo", "/tmp", "box", "3072"]
    if bench.engine == "docker" or not Path("/sys/fs/cgroup/cpu").exists():  # podman says that it ignores limits there
        assert said.split()[4:] == ["1"]


def test_a_container_is_not_privileged(bench: Bench) -> None:
    assert bench.run("grep -i capprm /proc/self/status", options={"user": "image"})[1].split()[1] != "000001ffffffffff"


@only_docker
def test_a_link_as_input_is_followed(bench: Bench) -> None:
    (bench.place / "real").mkdir()
    (bench.place / "real" / "f").write_text("content")
    (bench.place / "data").symlink_to(bench.place / "real")
    assert bench.run("cat /mlcube_io0/f", [DATA])[1] == "content"


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path, engine: str) -> Iterator[str]:
    """The name of an image to build from `build/Dockerfile`; all that was built under it is removed."""
    name = f"mlcube-test/built-{uuid.uuid4().hex[:12]}"
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "Dockerfile").write_text(
        f"ARG BASE={TINY}\nFROM $BASE\nLABEL mlcube-test.built={name}\nARG WORD=none\nRUN echo $WORD >/word\n"
        'ENTRYPOINT ["cat", "/word"]\n')
    yield name
    listed = [engine, "images", "--quiet", "--filter", f"label=mlcube-test.built={name}"]
    for found in subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout.split():
        subprocess.run([engine, "rmi", "--force", found], capture_output=True, check=False, timeout=60)


def test_an_image_is_built_when_it_is_absent_then_used_and_noted_when_it_is_old(bench: Bench, image: str) -> None:
    options = {"image": image, "build_args": {"WORD": "a b"}}

    def plan() -> Plan:
        return bench.plan(bench.job("", options=options, dialect="directory", entrypoint=None, task="/word"))

    first = plan()
    assert [step.title for step in first.steps] == [f"build image {image}", "run task /word"]
    assert bench.execute(first)[1] == "a b\na b\n"
    second = plan()
    assert [step.title for step in second.steps] == ["run task /word"] and not second.notes
    with (bench.place / "build" / "Dockerfile").open("a") as file:
        file.write("LABEL a=b\n")
    assert any("changed since" in note for note in plan().notes)
    configured, _ = with_facts(lambda facts: docker.configure(
        bench.job("", options=options, dialect="directory"), facts, False), machine(os.environ))
    with Session(locks=str(bench.place / "locks")) as session:
        assert session.run(configured.steps[0]).status == "succeeded"
    assert not plan().notes


def test_a_build_that_fails_says_why(bench: Bench, image: str) -> None:
    (bench.place / "build" / "Dockerfile").write_text(f"FROM {TINY}\nRUN echo the reason && false\n")
    step = bench.plan(bench.job("", options={"image": image}, dialect="directory")).steps[0]
    with Session(locks=str(bench.place / "locks")) as session:
        outcome = session.run(step)
    assert outcome.status == "failed" and any("the reason" in line for line in outcome.tail)


@only_docker
def test_configure_is_content_with_an_image_that_only_this_machine_has(bench: Bench) -> None:
    name = f"localhost:1/{bench.run_id}"
    job = bench.job("", options={"image": name, "build_strategy": "pull"})
    plan, _ = with_facts(lambda facts: docker.configure(job, facts, False), machine(os.environ))
    with Session(locks=str(bench.place / "locks")) as session:
        assert session.run(plan.steps[0]).status == "failed"
        subprocess.run([bench.engine, "tag", TINY, name], check=True, timeout=60)
        try:
            assert session.run(plan.steps[0]).status == "succeeded"
        finally:
            subprocess.run([bench.engine, "rmi", name], check=True, capture_output=True, timeout=60)


# --- the client ------------------------------------------------------------------------------------------------------


def test_a_run_calls_the_client_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = bench.place / "bin" / bench.engine
    counter.parent.mkdir()
    real = subprocess.run(["sh", "-c", f"command -v {bench.engine}"], capture_output=True, text=True, check=True).stdout.strip()
    counter.write_text(f'#!/bin/sh\necho "$1" >>{bench.place}/calls\nexec {real} "$@"\n')
    counter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{counter.parent}{os.pathsep}{os.environ['PATH']}")
    assert bench.run("exit 0", [OUT])[0].status == "succeeded"
    assert (bench.place / "calls").read_text().split() == ["image", "run"]


def test_the_script_of_a_dry_run_does_what_a_run_does(bench: Bench) -> None:
    (bench.place / "data").mkdir()
    (bench.place / "data" / "f").write_text("content")
    plan = bench.plan(bench.job("cat /mlcube_io0/f; : >/mlcube_io1/made; exit 3", [DATA, OUT]))
    ended = subprocess.run(["sh"], input=script(plan), env={**os.environ, "RUN_ID": bench.run_id}, capture_output=True,
                           text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (3, "content")
    assert (bench.place / "out" / "made").exists()


@only_docker
def test_a_daemon_that_does_not_answer_is_an_error_of_the_machine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{bench.place}/no.sock")
    with pytest.raises(MachineError, match="does not answer"):
        bench.plan(bench.job(""))
    platform = bench.job("").platform
    assert "does not answer" in str(with_facts(lambda facts: docker.available(platform, facts), machine(os.environ))[0])
    monkeypatch.delenv("DOCKER_HOST")
    assert with_facts(lambda facts: docker.available(platform, facts), machine(os.environ))[0] is None
