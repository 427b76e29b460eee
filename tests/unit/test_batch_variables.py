"""What a batch job's task gets of the batch system's variables: looked up where it runs, by each of the platforms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Command, Plan
from mlcube_shell import docker, local, singularity
from mlcube_shell.batch_variables import inserting_lines, passing_lines, removing_lines
from tests.world import World, job_of

APPTAINER = {"apptainer": "/usr/bin/apptainer", "bash": "/bin/bash"}
VERSION = {"apptainer --version": {"stdout": "apptainer version 1.4.1\n"}}
LOGIN = {"SLURM_JOB_ID": "1", "SLURM_CONF": "/login/slurm.conf", "CUDA_VISIBLE_DEVICES": "7", "RANK": "99",
         "APPTAINERENV_LOGIN": "x", "TMPDIR": "/login/tmp", "https_proxy": "http://proxy:3128", "TOKEN": "word",
         "http_proxy": "http://me:word@proxy:3128", "PATH": "/login/bin:/usr/bin"}
NODE = {"SLURM_JOB_ID": "42", "SLURM_PROCID": "1", "SLURM_JWT": "key", "SLURMD_NODENAME": "node1", "PMI_RANK": "1", "RANK": "1",
        "CUDA_VISIBLE_DEVICES": "0,1", "MASTER_ADDR": "node0", "OTHER": "x", "APPTAINERENV_STRANGE": "x"}


def world(**fields: Any) -> World:
    base: dict[str, Any] = {
        "tools": APPTAINER, "probes": VERSION, "machine": {"environment": LOGIN},
        "paths": {"/tmp": "directory", "/login/tmp": "directory", "/dev/fuse": "other", "/cube/workspace/.image/x.sif": "file",
                  "/dev/nvidiactl": "other"},
    }
    return World(**{**base, **fields})


def plan_of(module: Any, options: Mapping[str, Any], here: World | None = None, **fields: Any) -> Plan:
    job = job_of(module.__name__.rpartition(".")[2], options, batch=True, **fields)
    plan: Plan = (here or world()).decide(lambda facts: module.plan(job, facts))
    return plan


def payload(plan: Plan) -> Command:
    return next(step.command for step in plan.steps if step.payload)


def become(tmp_path: Path, command: Command, environment: Mapping[str, str]) -> dict[str, Any]:
    """What the engine at the end of this command would see on a node with this environment: its words and variables."""
    for name in ("apptainer", "docker", "podman", "singularity"):
        tool = tmp_path / name
        tool.write_text(f"#!{sys.executable}\nimport json, os, sys\n"
                        "print(json.dumps({'words': sys.argv[1:], 'variables': dict(os.environ)}))\n")
        tool.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
    for variable in command.env:
        variables.pop(variable.name, None)
        if variable.value is not None:
            variables[variable.name] = variable.value
    done = subprocess.run(command.argv, env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


# ---------- singularity


def container_of(tmp_path: Path, options: Mapping[str, Any], environment: Mapping[str, str] = NODE) -> dict[str, str]:
    """The variables that the engine is told to give the container."""
    found = become(tmp_path, payload(plan_of(singularity, {"image": "x.sif", **options})), environment)
    start = "APPTAINERENV_"
    return {name[len(start):]: value for name, value in found["variables"].items() if name.startswith(start)}


def test_a_container_gets_what_the_batch_system_says_on_the_node(tmp_path: Path) -> None:
    assert container_of(tmp_path, {}) == {
        "SLURM_JOB_ID": "42", "SLURM_PROCID": "1", "SLURMD_NODENAME": "node1", "PMI_RANK": "1", "RANK": "1",
        "CUDA_VISIBLE_DEVICES": "0,1", "MASTER_ADDR": "node0", "PYTHONUNBUFFERED": "1",
        "https_proxy": "http://proxy:3128", "http_proxy": "http://me:word@proxy:3128"}


def test_nothing_of_the_login_nodes_own_job_and_devices_stands_in_the_plan() -> None:
    plan = plan_of(singularity, {"image": "x.sif", "gpus": "all", "env": {"SLURM_JOB_ID": None}})
    command = payload(plan)
    names = {variable.name for variable in command.env}
    assert not any("SLURM" in name or "CUDA" in name or name.endswith(("_RANK", "_LOGIN")) for name in names)
    assert "/login/tmp" not in str(plan.steps)


def test_values_are_never_text_of_the_script(tmp_path: Path) -> None:
    odd = f"a'b\"c$(touch {tmp_path}/evil)`touch {tmp_path}/evil`\\ *\nSLURM_FAKE=1"
    found = container_of(tmp_path, {}, {**NODE, "SLURM_JOB_NAME": odd})
    assert found["SLURM_JOB_NAME"] == odd
    assert found.get("SLURM_FAKE", "") == "" and not (tmp_path / "evil").exists()


def test_an_engine_that_evaluates_values_gets_them_escaped(tmp_path: Path) -> None:
    (line,) = passing_lines("SINGULARITYENV_", (), escaped=True)
    done = subprocess.run(["sh", "-c", f"{line}\nenv"], env={"PATH": os.environ["PATH"], "SLURM_X": 'a"b$c`d\\e'},
                          capture_output=True, text=True, check=True)
    assert 'SINGULARITYENV_SLURM_X=a\\"b\\$c\\`d\\\\e' in done.stdout.splitlines()
    plan = plan_of(singularity, {"image": "x.sif"}, world(
        tools={"singularity": "/usr/bin/singularity"}, probes={"--version": {"stdout": "singularity version 3.5.3\n"}}))
    assert "sed 's/[\\\\\"$`]" in payload(plan).argv[2]


def test_what_the_platform_says_of_a_variable_counts_more(tmp_path: Path) -> None:
    found = container_of(tmp_path, {"env": {"MASTER_ADDR": "own", "TOKEN": None, "SLURM_PROCID": None}})
    assert (found["MASTER_ADDR"], found["TOKEN"], found["SLURM_PROCID"]) == ("own", "word", "1")


def test_the_callers_values_are_secrets_of_the_job() -> None:
    command = payload(plan_of(singularity, {"image": "x.sif", "env": {"TOKEN": None}}))
    assert {variable.name for variable in command.env if variable.secret} == {"APPTAINERENV_TOKEN", "APPTAINERENV_http_proxy"}


def test_modules_may_give_containers_variables_and_the_nodes_login_may_not(tmp_path: Path) -> None:
    found = container_of(tmp_path, {"setup": "export APPTAINERENV_OF_MODULE=1"})
    assert found["OF_MODULE"] == "1" and "STRANGE" not in found


@pytest.mark.parametrize(("options", "word", "nvidia"), [
    ({"gpus": "all"}, "--nv", "0,1"), ({"gpus": 1}, "--nv", "0,1"), ({"gpus": 2, "rocm": True}, "--rocm", None)])
def test_gpus_are_those_that_the_batch_system_gives(
        tmp_path: Path, options: dict[str, Any], word: str, nvidia: str | None) -> None:
    plan = plan_of(singularity, {"image": "x.sif", **options})
    found = become(tmp_path, payload(plan), NODE)
    assert word in found["words"] and found["variables"].get("NVIDIA_VISIBLE_DEVICES") == nvidia
    assert plan.notes == ()


def test_gpus_that_are_forbidden_stay_so_in_a_job_that_has_some(tmp_path: Path) -> None:
    found = container_of(tmp_path, {"gpus": "none"})
    assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")


def test_an_engine_that_only_nodes_have_is_assumed() -> None:
    plan = plan_of(singularity, {"image": "x.sif"}, world(tools={"bash": "/bin/bash"}, probes={}))
    assert plan.notes == ("apptainer is not here; the plan assumes a current one on the node",)
    assert [step.task for step in plan.steps] == ["train"]


def test_an_engine_behind_setup_lines_that_fail_where_jobs_are_submitted_is_assumed() -> None:
    plan = plan_of(singularity, {"image": "x.sif", "modules": "apptainer"}, world(
        tools={"bash": "/bin/bash"}, probes={"module load": {"exit_code": 1, "stderr": "mlcube: setup ended"}}))
    assert "apptainer" in payload(plan).argv


def test_sudo_is_told_to_keep_what_the_node_says() -> None:
    here = world(tools={**APPTAINER, "sudo": "/usr/bin/sudo"})
    command = payload(plan_of(singularity, {"image": "x.sif", "singularity": "sudo apptainer"}, here))
    (keep,) = [word for word in command.argv if word.startswith("--preserve-env=")]
    assert {"APPTAINERENV_SLURM_PROCID", "APPTAINERENV_RANK", "APPTAINERENV_CUDA_VISIBLE_DEVICES"} <= set(keep[15:].split(","))


def test_lines_that_remove_variables_spare_those_that_are_given() -> None:
    (line,) = removing_lines(("A_", "B_"), {"A_KEPT"})
    done = subprocess.run(["sh", "-c", f"{line}\nenv"], env={"PATH": os.environ["PATH"], "A_KEPT": "1", "A_X": "1", "B_Y": "1"},
                          capture_output=True, text=True, check=True)
    assert [text for text in done.stdout.splitlines() if text[:2] in ("A_", "B_")] == ["A_KEPT=1"]


# ---------- docker and podman


def words_of(tmp_path: Path, options: Mapping[str, Any], environment: Mapping[str, str] = NODE) -> list[str]:
    found: list[str] = become(tmp_path, payload(plan_of(docker, {"image": "busybox", **options})), environment)["words"]
    return found


def passed(words: list[str]) -> list[str]:
    return [following for word, following in zip(words, words[1:]) if word == "--env"]


def test_docker_is_told_the_jobs_variables_by_name(tmp_path: Path) -> None:
    names = passed(words_of(tmp_path, {"env": {"SLURM_JOB_ID": None, "RANK": "5"}}))
    assert {"SLURM_PROCID", "SLURM_JOB_ID", "SLURMD_NODENAME", "RANK=5", "https_proxy=http://proxy:3128"} <= set(names)
    assert "RANK" not in names and "SLURM_JWT" not in names and "CUDA_VISIBLE_DEVICES" not in names


def test_secrets_reach_docker_through_its_own_environment(tmp_path: Path) -> None:
    command = payload(plan_of(docker, {"image": "busybox", "env": {"TOKEN": None}}))
    assert "word" not in " ".join(command.argv)
    found = become(tmp_path, command, NODE)
    assert found["variables"]["TOKEN"] == "word" and "TOKEN" in passed(found["words"])
    assert found["variables"]["http_proxy"] == LOGIN["http_proxy"] and "http_proxy" in passed(found["words"])


@pytest.mark.parametrize(("options", "environment", "gpus"), [
    ({"gpus": "all"}, {"CUDA_VISIBLE_DEVICES": "0,1"}, ["--gpus", '"device=0,1"']),
    ({"gpus": 2}, {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "2,3"}, ["--gpus", '"device=2,3"']),
    ({"gpus": 2}, {"SLURM_STEP_GPUS": "3", "SLURM_JOB_GPUS": "2,3"}, ["--gpus", '"device=3"']),
    ({"gpus": "all"}, {}, ["--gpus", "all"]),
    ({"gpus": 2, "docker": "podman"}, {"SLURM_JOB_GPUS": "2,3"},
     ["--device", "nvidia.com/gpu=2", "--device", "nvidia.com/gpu=3"]),
    ({"gpus": 2, "docker": "podman"}, {}, ["--device", "nvidia.com/gpu=all"]),
    ({"docker": "nvidia-docker"}, {"SLURM_JOB_GPUS": "2"}, ["--gpus", '"device=2"']),
])
def test_docker_gets_the_devices_of_the_job_behind_its_first_word(
        tmp_path: Path, options: dict[str, Any], environment: dict[str, str], gpus: list[str]) -> None:
    assert words_of(tmp_path, options, environment)[:1 + len(gpus) + 1] == ["run", *gpus, "--rm"]


@pytest.mark.parametrize("options", [{"docker": "nvidia-docker"}, {}, {"gpus": "none"}])
def test_docker_gets_no_devices_that_nobody_gives_it(tmp_path: Path, options: dict[str, Any]) -> None:
    assert words_of(tmp_path, options, {})[:2] == ["run", "--rm"]


def test_words_are_inserted_whatever_they_hold(tmp_path: Path) -> None:
    (line,) = inserting_lines(2, ("FIRST", "SECOND"), ('set -- "$@" "<$mlcube_devices>"',))
    script = f'{line}\nfor word do printf "[%s]" "$word"; done'
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-c", script, "x", "a b", "", "*", "c\nd"], capture_output=True, text=True, check=True,
                              env={"PATH": os.environ["PATH"], "SECOND": "s"})
        assert done.stdout == "[a b][][<s>][*][c\nd]"


def test_an_image_of_dockers_is_the_nodes_matter() -> None:
    here = world(tools={"docker": "/usr/bin/docker"}, probes={"image inspect": {"stdout": "{}"}})
    plan = plan_of(docker, {"image": "busybox"}, here)
    assert [(step.title, step.task, step.unless is not None) for step in plan.steps] == [
        ("pull image busybox", "train", True), ("run task train", "train", False)]
    assert "whether image busybox is there is seen on the node" in plan.notes[0]


# ---------- local


def local_job(options: Mapping[str, Any]) -> tuple[Plan, dict[str, str | None]]:
    here = world(tools={"python3": "/usr/bin/python3", "bash": "/bin/bash"},
                 paths={"/cube/main.py": "file", "/cube": "directory"})
    plan = plan_of(local, {"entrypoint": "main.py", **options}, here)
    return plan, {variable.name: variable.value for variable in payload(plan).env}


def test_a_local_task_inherits_the_nodes_environment_and_gets_what_is_named() -> None:
    plan, variables = local_job({"env": {"TOKEN": None, "RANK": None}, "gpus": 2})
    assert (variables["TOKEN"], variables["https_proxy"]) == ("word", "http://proxy:3128")
    assert not {"CUDA_VISIBLE_DEVICES", "PATH", "RANK", "SLURM_JOB_ID"} & set(variables)
    assert {one.name for one in payload(plan).env if one.secret} == {"TOKEN", "http_proxy"}
    assert plan.notes == ()


def test_a_local_task_that_shall_have_no_gpus_has_none() -> None:
    assert local_job({"gpus": "none"})[1]["CUDA_VISIBLE_DEVICES"] == ""


def test_the_path_of_a_task_in_an_environment_is_the_nodes(tmp_path: Path) -> None:
    said = "cpython\n3.11.2\nlinux-x86_64\ncpython-311\nyes\n/usr/bin/python3"
    here = world(tools={"python3": "/usr/bin/python3", "bash": "/bin/bash"}, probes={"python3 -I": {"stdout": said}},
                 paths={"/cube": "directory"})
    job_fields: dict[str, Any] = {"entrypoint": ("sh", "-c", "echo $PATH")}
    command = payload(plan_of(local, {"interpreter": "virtualenv"}, here, **job_fields))
    names = {variable.name: variable.value for variable in command.env}
    assert "PATH" not in names and "/login/bin" not in str(command)
    done = subprocess.run(command.argv, env={"PATH": "/usr/bin:/bin", **{name: value for name, value in names.items() if value},
                                             "MLCUBE_WORK": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{names['MLCUBE_BIN']}:/usr/bin:/bin"


# ---------- what a job leaves behind when it is killed, and finds when it starts again


def test_a_job_that_starts_again_finds_its_own_directories(tmp_path: Path) -> None:
    plan = plan_of(singularity, {"image": "x.sif", "tmpdir": str(tmp_path)}, world(paths={
        str(tmp_path): "directory", "/dev/fuse": "other", "/cube/workspace/.image/x.sif": "file"}))
    (step,) = [step for step in plan.steps if step.payload]
    for _ in range(2):
        for command in step.before:
            subprocess.run(command.argv, input=command.stdin, check=True)
    (place,) = tmp_path.iterdir()
    assert {path.name for path in place.iterdir()} == {"home", "empty", "started.sh"} and place.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_somebody_else_has_put_there_is_refused(tmp_path: Path) -> None:
    plan = plan_of(singularity, {"image": "x.sif", "tmpdir": str(tmp_path)}, world(paths={
        str(tmp_path): "directory", "/dev/fuse": "other", "/cube/workspace/.image/x.sif": "file"}))
    (step,) = [step for step in plan.steps if step.payload]
    make = step.before[-2]
    (tmp_path / "elsewhere").mkdir()
    Path(make.argv[4]).symlink_to(tmp_path / "elsewhere")
    done = subprocess.run(make.argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "File exists" in done.stderr and list((tmp_path / "elsewhere").iterdir()) == []
