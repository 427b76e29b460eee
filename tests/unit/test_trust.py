"""What a cube asks for beyond its inputs and outputs: named, refused with --untrusted, and hidden by no spelling."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.definition.model import OVERRIDE, Data, Option, Platform
from mlcube_cli.errors import Location
from mlcube_cli.job import Argument, Job
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.trust import job_reach, platform_reach


def reach(name: str, value: Data, secret: bool = False, runner: str = "docker") -> str:
    return "; ".join(platform_reach(Platform("p", runner, (Option(name, value, "f:1:1", secret),), Location("f"))))


@pytest.mark.parametrize("words", [
    "--privileged", "--network host", "--network=host", "--net host", "--net=host", "-v /:/host", "-v=/:/host", "-itv/:/host",
    "-v/:/host", "--mount type=bind,source=/,target=/host", "--pid host", "--pid=host", "--ipc host", "--uts host",
    "--cap-add ALL", "--device /dev/sda", "--device=/dev/sda", "--security-opt seccomp=unconfined", "--userns host",
    "--volumes-from other", "--env-file /home/me/.env", "-e AWS_SECRET_ACCESS_KEY", "--runtime /evil", "--cgroupns=host",
    "--gpus all --network host", "--label -v /:/host", "-p 22:22", "--network container:other", "--not-known-to-us",
])
def test_words_that_reach_further_are_named_however_they_are_spelt(words: str) -> None:
    assert "words for the engine" in reach("run_args", words)
    assert "words for the engine" in reach("gpu_args", words.split())


@pytest.mark.parametrize("words", [
    "", "-it", "--rm --init", "--env A=1 -e B=2 --label x=y", "--gpus all --shm-size 8g --memory=4g --cpus 2", "-u 1000:1000",
    "--network none", "--network=bridge", "--user 1000 --ulimit nofile=1024 --workdir /w",
])
def test_words_that_give_nothing_more_are_not_named(words: str) -> None:
    assert reach("run_args", words) == ""


def test_words_for_a_build_are_named_too() -> None:
    assert reach("build_args", "BASE=python:3.12 X=y") == reach("build_args", "--build-arg BASE=a --no-cache") == ""
    assert "--output /home/me" in reach("build_args", "--output /home/me")
    assert "--network host" in reach("build_args", "--network host")


def test_options_that_reach_further_are_named() -> None:
    for name, value in (("privileged", True), ("network", "host"), ("network", "container:x"), ("setup", ["true"]),
                        ("docker", "docker --host tcp://elsewhere"), ("docker", "./docker"), ("container_runtime", "/evil"),
                        ("security_opt", ["seccomp=unconfined"]), ("ports", ["22:22"]), ("env", {"TOKEN": None})):
        assert "(f:1:1)" in reach(name, value), name
    for name, value in (("privileged", False), ("network", "none"), ("setup", None), ("docker", "podman"), ("image", "a:1"),
                        ("security_opt", ["no-new-privileges"]), ("ports", None), ("env", {"A": "b"}), ("gpus", "all")):
        assert reach(name, value) == "", name


@pytest.mark.parametrize(("name", "value", "said"), [
    ("host", "theirs.example.org", "another machine: theirs.example.org (f:1:1)"),
    ("jump", "theirs", "a machine to go through: theirs (f:1:1)"),
    ("identity_file", "~/.ssh/id_rsa", "a key of yours: ~/.ssh/id_rsa (f:1:1)"),
    ("ssh_options", ["ForwardAgent=yes"], "words for ssh: ForwardAgent=yes (f:1:1)"),
    ("host_key", "accept-new", "the key of a host that you never saw (f:1:1)"),
    ("sync", {"absolute": "push"}, "files of this machine sent there (f:1:1)"),
    ("setup", ["true"], "shell lines of its own ('setup') (f:1:1)"),
    ("env", {"T": None}, "values of your environment ('env') (f:1:1)"),
    ("user", "root", ""), ("port", 22, ""), ("host_key", "strict", ""), ("sync", {"exclude": ["a"]}, ""), ("host", "", ""),
])
def test_the_way_to_another_machine_that_a_cube_names(name: str, value: Data, said: str) -> None:
    assert reach(name, value, runner="ssh") == said
    if "words" in said or "machine:" in said:
        assert "***" in reach(name, value, secret=True, runner="ssh")


def test_values_of_the_environment_are_announced_but_never_shown() -> None:
    for name in ("env_args", "run_args", "docker", "container_runtime", "security_opt"):
        said = reach(name, "--volume hunter2 -v=hunter2", secret=True)
        assert f"values of your environment ('{name}')" in said and "hunter2" not in said
    assert reach("env", {"A": "hunter2"}, secret=True, runner="local") == ""


def outside(job: Job, *typed: str) -> str:
    return "; ".join(with_facts(lambda facts: job_reach(job, facts, typed), machine(os.environ))[0])


def job_at(root: Path, path: Path, *options: Option, workspace: Path | None = None) -> Job:
    (root / "workspace").mkdir(parents=True, exist_ok=True)
    return Job("id-1", "c", str(root), str(workspace or root / "workspace"), "inline", "t", None,
               (Argument("data", "input", "directory", "ro", str(path)),), Platform("p", "docker", options, Location("f")))


def test_a_path_outside_the_workspace_is_named_also_behind_a_link(tmp_path: Path) -> None:
    root = tmp_path / "cube"
    private = tmp_path / "private"
    private.mkdir()
    assert outside(job_at(root, root / "workspace" / "data")) == ""
    (root / "workspace" / "data").symlink_to(private)
    assert "input 'data' outside the workspace" in outside(job_at(root, root / "workspace" / "data"))
    assert "input 'data' outside the workspace" in outside(job_at(root, root / "workspace-2"))
    assert outside(job_at(root, private), "data") == ""


def test_a_workspace_or_a_build_outside_the_cube_is_named(tmp_path: Path) -> None:
    root, private = tmp_path / "cube", tmp_path / "private"
    assert "a workspace outside the cube" in outside(job_at(root, private / "data", workspace=private))
    assert outside(job_at(root, private / "data", workspace=private), "--workspace") == ""
    for context in ("../private", str(private)):
        option = Option("build_context", context)
        assert "a 'build_context' outside the cube" in outside(job_at(root, root / "workspace", option))
    assert "a 'build_file' outside the cube" in outside(job_at(root, root / "workspace", Option("build_file", "/etc/hosts")))
    assert outside(job_at(root, root / "workspace", Option("build_context", "build"), Option("build_file", "../D"))) == ""


@pytest.mark.parametrize(("origin", "typed"), [
    (OVERRIDE, True), ("--network", True), ("--odd/mlcube.yaml:1:2", False), ("-P:1:2", False), ("mlcube.yaml:1:2", False)])
def test_what_was_typed_is_no_strangers_word(tmp_path: Path, origin: str, typed: bool) -> None:
    options = (Option("network", "host", origin), Option("build_context", "/private", origin))
    assert (outside(job_at(tmp_path, tmp_path / "workspace", *options)) == "") is typed


@pytest.mark.parametrize(("name", "value", "said"), [
    ("run_args", "-eC --nv", ""), ("run_args", "--containall --pwd /w", ""), ("build_args", "--fakeroot", ""),
    ("run_args", "-B /:/host", "words for the engine"), ("run_args", "--bind=/:/host", "words for the engine"),
    ("run_args", "--writable", "words for the engine"), ("run_args", "-e --home /root", "words for the engine"),
    ("run_args", "--network host", "words for the engine"), ("run_args", "--env-file /root/x", "words for the engine"),
    ("binds", ["/scratch:/scratch"], "paths of this machine"), ("security", ["uid:0"], "other confinement"),
    ("cleanenv", False, "your environment"), ("contain", False, "your home directory"), ("cleanenv", True, ""),
    ("contain", True, ""), ("singularity", "apptainer", ""), ("singularity", "./apptainer", "another executable"),
])
def test_what_a_singularity_platform_reaches_for(name: str, value: Data, said: str) -> None:
    found = reach(name, value, runner="singularity")
    assert said in found and bool(found) is bool(said)


def test_an_image_outside_the_cube_and_a_setup_section_are_named(tmp_path: Path) -> None:
    root = tmp_path / "cube"

    def said(*options: Option) -> str:
        job = job_at(root, root / "workspace" / "data", *options)
        return outside(replace(job, platform=replace(job.platform, runner="singularity")))

    assert said(Option("image", "a.sif", "f:1:1")) == ""
    assert "an image outside the cube: /opt/a.sif (f:1:1)" in said(Option("image", "/opt/a.sif", "f:1:1"))
    assert "an image outside the cube" in said(Option("image_dir", "~/x", "f:1:1"))
    assert said(Option("image", "/opt/a.sif", OVERRIDE)) == said(Option("image", "docker://a", "f:1:1")) == ""
    (root / "Singularity.recipe").write_text("Bootstrap: docker\nFrom: x\n%setup\n  rm -rf ~\n")
    assert "%setup lines run on this machine" in said()
