"""The platform that runs on another machine: what an ssh platform's `platform` names, and what is said of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.errors import UsageError
from mlcube_cli.trust import platform_reach
from tests.cubes import options, platform, problems, write_tree
from tests.unit.test_directory import SMALL
from tests.unit.test_mlbox import SMALL as BOX

CUBE = """
    name: c
    docker: {image: a:1, env: {A: cube}}
    ssh: {host: h}
    tasks: {t: {entrypoint: x}}
"""


def read_behind(root: Path, files: Mapping[str, str], inside: str | None, *overrides: str, platform: str = "ssh",
                user: str = "", cwd: Path | None = None) -> Reading:
    """The cube as it is read for a run of `inside` on the machine that `platform` names."""
    write_tree(root, {**files, "user.yaml": user or "platforms: {}\n"})
    return read_cube(ReadRequest(str(root), overrides, platform, cwd=str(cwd or root), settings=True,
                                 inside=(inside,) if inside else (),
                                 environment={"MLCUBE_SYSTEM_SETTINGS": str(root / "user.yaml")}))


def test_nobody_asked_for_a_platform_inside(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": CUBE})
    reading = read_cube(ReadRequest(".", platform="ssh", cwd=str(tmp_path)))
    assert (reading.platform, reading.inside) == ("ssh", ())


@pytest.mark.parametrize(("user", "platform_name", "overrides", "inside"), [
    ("box: {runner: ssh, host: b, platform: mine}", "box", ("mine.memory=1g",), "mine"),
    ("box: {runner: ssh, host: b, platform: docker}", "box", ("box.platform=mine", "mine.memory=1g"), "mine"),
    ("box: {runner: ssh, host: b}", "box", ("runner.platform=docker", "ssh.platform= mine ", "mine.memory=1g"), "mine"),
    ("ssh: {runner: ssh, platform: mine}", "ssh", ("mine.memory=1g",), "mine"),
    ("box: {runner: ssh, host: b, platform: absent}", "box", (), None), ("box: {runner: ssh, host: b}", "box", (), None),
    ("box: {runner: docker}", "box", (), None),
])
def test_what_the_chosen_platform_itself_names_can_be_addressed(tmp_path: Path, user: str, platform_name: str,
                                                               overrides: tuple[str, ...], inside: str | None) -> None:
    """So a command line is understood before the other machine is asked for anything."""
    reading = read_behind(tmp_path, {"mlcube.yaml": CUBE}, None, *overrides, platform=platform_name,
                          user=f"platforms: {{mine: {{runner: docker, gpus: all}}, {user}}}\n")
    assert reading.inside == ((inside,) if inside else ())
    if inside:
        found = options(reading, "mine")
        assert (found["memory"], found["gpus"], found["image"]) == ("1g", "all", "a:1")


def test_a_platform_of_the_cube(tmp_path: Path) -> None:
    reading = read_behind(tmp_path, {"mlcube.yaml": CUBE}, "docker", "docker.image=mine:1", "runner.host=box")
    assert (reading.problems, reading.platform, reading.inside) == ((), "ssh", ("docker",))
    assert options(reading, "docker")["image"] == "mine:1"
    assert options(reading, "ssh") == {"host": "box"}


@pytest.mark.parametrize(("inside", "runner", "executable"), [
    ("podman", "docker", "podman"), ("apptainer", "singularity", "apptainer"), ("local", "local", None)])
def test_a_name_that_every_cube_knows(tmp_path: Path, inside: str, runner: str, executable: str | None) -> None:
    reading = read_behind(tmp_path, {"mlcube.yaml": CUBE}, inside)
    assert (reading.platform, reading.inside) == ("ssh", (inside,))
    found = platform(reading, inside)
    assert (found.runner, found.option(runner)) == (runner, executable)


def test_a_platform_of_the_settings_beneath_which_the_cubes_lies(tmp_path: Path) -> None:
    user = "platforms: {gpu: {runner: docker, gpus: all}, box: {runner: ssh, host: b, platform: gpu}}\n"
    reading = read_behind(tmp_path, {"mlcube.yaml": CUBE}, "gpu", "gpu.memory=1g", platform="box", user=user)
    assert (problems(reading), reading.platform, reading.inside) == ([], "box", ("gpu",))
    assert {key: value for key, value in options(reading, "gpu").items() if key in ("image", "gpus", "memory")} == {
        "image": "a:1", "gpus": "all", "memory": "1g"}
    assert options(reading, "box") == {"host": "b", "platform": "gpu"}


def test_a_cube_says_nothing_of_a_machine_of_the_users(tmp_path: Path) -> None:
    cube = CUBE.replace("{host: h}", "{host: h, user: u, ssh_options: [ProxyCommand=theirs], setup: theirs}")
    user = "platforms: {box: {runner: ssh, host: mine}}\n"
    reading = read_behind(tmp_path, {"mlcube.yaml": cube}, "docker", platform="box", user=user)
    assert options(reading, "box") == {"host": "mine"}
    assert "setup" not in options(reading, "docker")


def test_a_file_of_the_cube_comes_before_one_of_the_current_directory(tmp_path: Path) -> None:
    files = {**SMALL, "platforms/far.yaml": "schema_type: mlcube_ssh\nhost: h\nplatform: docker.yaml\n",
             "platforms/docker.yaml": "schema_type: mlcube_docker\nimage: i\n"}
    elsewhere = write_tree(tmp_path / "elsewhere", {"docker.yaml": "schema_type: mlcube_docker\nimage: other\n"})
    reading = read_behind(tmp_path / "cube", files, "docker.yaml", platform="far", cwd=elsewhere)
    assert (problems(reading), reading.platform, reading.inside) == ([], "far", ("docker",))
    assert options(reading, "docker")["image"] == "i"


def test_a_section_of_an_mlbox_platform_file(tmp_path: Path) -> None:
    files = {**BOX, "p.yaml": "far: {runner: ssh, host: h, platform: 'p.yaml:gpu'}\n"
                              "gpu: {runner: docker, docker_args: --ipc=host}\n"}
    reading = read_behind(tmp_path, files, "p.yaml:gpu", platform="p.yaml:far")
    assert (problems(reading), reading.platform, reading.inside) == ([], "far", ("gpu",))
    assert options(reading, "gpu")["run_args"] == "--ipc=host"
    assert options(reading, "far") == {"host": "h", "platform": "p.yaml:gpu"}


@pytest.mark.parametrize("name", ["dokcer", "docker.yml"])
def test_a_name_that_is_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_behind(tmp_path, {"mlcube.yaml": CUBE}, name)
    assert caught.value.message.startswith("what should run inside of 'ssh': ")
    assert caught.value.hint == "did you mean 'docker'?"


def test_what_is_said_of_the_machine_holds_for_what_runs_there(tmp_path: Path) -> None:
    cube = CUBE.replace("{host: h}", "{host: h, setup: [one, two], modules: cuda, env: {A: machine, B: machine}}").replace(
        "a:1,", "a:1, setup: three,")
    reading = read_behind(tmp_path, {"mlcube.yaml": cube}, "docker")
    assert problems(reading) == []
    found = options(reading, "docker")
    assert (found["setup"], found["modules"], found["env"]) == (["one", "two", "three"], "cuda", {"A": "cube", "B": "machine"})
    reach = platform_reach(platform(reading, "docker"))
    assert sum("shell lines" in one for one in reach) == 2


def test_lines_that_only_the_users_settings_give_a_machine_are_no_strangers(tmp_path: Path) -> None:
    user = "platforms: {box: {runner: ssh, host: b, setup: [mine], env: {T: secret}}}\n"
    reading = read_behind(tmp_path, {"mlcube.yaml": CUBE}, "docker", platform="box", user=user)
    found = platform(reading, "docker")
    assert (found.option("setup"), found.option("env")) == (["mine"], {"T": "secret", "A": "cube"})
    assert platform_reach(found) == ()
    env = found.find("env")
    assert env is not None and (env.hides("T"), env.hides("A"), env.own_keys) == (True, False, ("T",))
    mixed = read_behind(tmp_path, {"mlcube.yaml": CUBE.replace("a:1,", "a:1, setup: theirs,")}, "docker", platform="box",
                        user=user)
    assert any("shell lines" in one for one in platform_reach(platform(mixed, "docker")))


def test_the_machine_of_another_platform_does_not_matter(tmp_path: Path) -> None:
    cube = CUBE.replace("{host: h}", "{host: h, setup: [one]}")
    reading = read_behind(tmp_path, {"mlcube.yaml": cube}, "docker")
    assert options(reading, "docker")["setup"] == ["one"]
    write_tree(tmp_path, {"mlcube.yaml": cube})
    alone = read_cube(replace(ReadRequest(".", cwd=str(tmp_path), settings=True), platform="docker"))
    assert "setup" not in options(alone, "docker")


@pytest.mark.parametrize(("override", "name", "value"), [
    ("ssh.authentication.user=u", "user", "u"), ("ssh.authentication.identify_file=k", "identity_file", "k"),
    ("ssh.mlcube.path=/r", "remote_root", "/r"), ("runner.env.variables.A=b", "env", {"A": "b"}),
    ("ssh.env.A=b", "env", {"A": "b"}),
    ("ssh.sync.exclude=[a]", "sync", {"exclude": ["a"]}), ("ssh={authentication: {user: u}}", "user", "u"),
    ("ssh.reconnect=1m", "reconnect", "1m"),
])
def test_earlier_places_on_the_command_line(tmp_path: Path, override: str, name: str, value: object) -> None:
    reading = read_behind(tmp_path, {"mlcube.yaml": CUBE}, "docker", override)
    assert options(reading, "ssh") == {"host": "h", name: value}


@pytest.mark.parametrize(("override", "hint"), [
    ("ssh.interpreter.type=system", ""), ("ssh.authentication=null", "-P ssh.user=VALUE or -P ssh.identity_file=VALUE"),
    ("ssh.mlcube.sync=false", "-P ssh.remote_root=VALUE"), ("ssh.sync=true", ""), ("ssh.remote_local=x", "")])
def test_what_has_no_use_is_not_taken_from_the_command_line(tmp_path: Path, override: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_behind(tmp_path, {"mlcube.yaml": CUBE}, "docker", override)
    assert "has no use any more" in caught.value.message
    assert caught.value.hint == hint
