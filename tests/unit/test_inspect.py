"""`mlcube inspect` and `mlcube lock` as commands, with a docker of paper: text, JSON, YAML, files, exit codes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mlcube_cli.definition.schema import load_schema
from tests.cubes import write_tree

ID, MANIFEST = "sha256:" + "1" * 64, "sha256:" + "2" * 64
NAME = "registry.example.org/mnist:1"
CUBE = f"""
    name: mnist
    docker: {{image: {NAME}}}
    local: {{}}
    tasks: {{main: {{entrypoint: echo, parameters: {{}}}}}}
    """
# Answers `image inspect` with the file beside it while there is one; notes every other call.
ENGINE = """\
    #!/bin/sh
    here=${0%/*}
    case "$*" in
      "image inspect"*) [ -e "$here/image.json" ] && cat "$here/image.json" && exit; echo "No such image" >&2; exit 1 ;;
      "pull "*) echo "$*" >>"$here/calls"; cp "$here/pulled.json" "$here/image.json" ;;
      *) echo "$*" >>"$here/calls" ;;
    esac
    """


def image_json(manifest: str = MANIFEST, **fields: Any) -> str:
    return json.dumps({"Id": ID, "RepoDigests": [f"registry.example.org/mnist@{manifest}"], "Os": "linux",
                       "Architecture": "amd64", "Config": {}, **fields})


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    write_tree(tmp_path, {"bin/docker": ENGINE, "bin/pulled.json": image_json(), "cube/mlcube.yaml": CUBE})
    (tmp_path / "bin/docker").chmod(0o755)
    return tmp_path / "cube"


@pytest.fixture
def mlcube(cube: Path, run_mlcube: Any) -> Any:
    """`mlcube` in the cube's directory, with that docker first on PATH."""
    def run(*words: str, **env: str) -> Any:
        import os

        path = f"{cube.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return run_mlcube(*words, cwd=cube, env={"PATH": path, **env})

    return run


def put(cube: Path, text: str = "") -> None:
    """The image is here now."""
    (cube.parent / "bin/image.json").write_text(text or image_json())


def test_text_says_what_is_known(cube: Path, mlcube: Any) -> None:
    put(cube)
    shown = mlcube("inspect", "--platform", "docker")
    assert shown.exit_code == 0
    assert [line.split(maxsplit=1) for line in shown.stdout.splitlines()] == [
        ["platform", "docker (docker)"], ["image", NAME], ["id", ID], ["digest", f"registry.example.org/mnist@{MANIFEST}"],
        ["architecture", "linux/amd64"], ["hash", "1" * 64]]


def test_json_is_as_its_schema_says(cube: Path, mlcube: Any) -> None:
    put(cube)
    for words in (("--json",), ("--format", "json")):
        data = json.loads(mlcube("inspect", ".", "--platform", "docker", *words).stdout)
        Draft202012Validator(load_schema("mlcube.inspect.v1")).validate(data)
        assert (data["hash"], data["lock"]) == ("1" * 64, None)


def test_the_earlier_spelling_writes_a_file_and_nothing_else(cube: Path, mlcube: Any) -> None:
    put(cube)
    for form, read in ((("--format=yaml",), yaml.safe_load), ((), json.loads)):
        done = mlcube("inspect", "--mlcube=.", "--platform=docker", *form, "--output-file=hash.txt")
        assert (done.exit_code, done.stdout) == (0, "")
        assert read((cube / "hash.txt").read_text())["hash"] == "1" * 64


def test_an_absent_image_is_exit_5_and_force_gets_it(cube: Path, mlcube: Any) -> None:
    absent = mlcube("inspect", "--platform", "docker", "--json")
    assert absent.exit_code == 5
    assert json.loads(absent.stdout)["valid"] is False
    assert f"image {NAME} of platform 'docker' is not here" in absent.stderr
    assert not (cube.parent / "bin/calls").exists()
    assert json.loads(mlcube("inspect", "--platform", "docker", "--json", "--force").stdout)["hash"] == "1" * 64
    assert f"pull {NAME}" in (cube.parent / "bin/calls").read_text()


def test_the_local_platform_has_a_python_and_nothing_to_lock(cube: Path, mlcube: Any) -> None:
    data = json.loads(mlcube("inspect", "--platform", "local", "--json").stdout)
    assert data["kind"] == "interpreter" and data["name"].startswith("/")
    refused = mlcube("lock", "--platform", "local")
    assert (refused.exit_code, (cube / "mlcube.lock").exists()) == (2, False)
    assert mlcube("configure", "--platform", "local", "--update-lock").exit_code == 2


@pytest.mark.parametrize("words", [
    ("inspect", "a=b"), ("inspect", "--json", "--format", "yaml"), ("inspect", "--platform", "dokcer"), ("lock", "a=b"),
    ("lock", "--platform", "dokcer"),
])
def test_what_makes_no_sense_is_a_usage_error(mlcube: Any, words: tuple[str, ...]) -> None:
    assert mlcube(*words).exit_code == 2


def test_lock_leaves_out_what_is_not_here_unless_it_was_asked_for(cube: Path, mlcube: Any) -> None:
    nothing = mlcube("lock")
    assert (nothing.exit_code, nothing.stdout) == (5, "") and "mlcube configure --platform P" in nothing.stderr
    put(cube)
    done = mlcube("lock")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"docker  linux/amd64  {NAME}  {MANIFEST} (manifest)\n"
    assert "local" not in (cube / "mlcube.lock").read_text()


def test_inspect_and_a_lock(cube: Path, mlcube: Any) -> None:
    put(cube)
    assert mlcube("lock").exit_code == 0
    shown = mlcube("inspect", "--platform", "docker").stdout
    assert f"lock          the locked image: {MANIFEST}, the registry's manifest digest (mlcube.lock:8:19)" in shown
    put(cube, image_json("sha256:" + "3" * 64))
    assert "NOT the locked image" in mlcube("inspect", "--platform", "docker").stdout


def test_a_dry_run_without_the_image_pulls_by_digest(cube: Path, mlcube: Any) -> None:
    put(cube)
    assert mlcube("lock").exit_code == 0
    (cube.parent / "bin/image.json").unlink()
    script = mlcube("run", "--platform", "docker", "--dry-run").stdout
    assert f"docker pull registry.example.org/mnist@{MANIFEST}" in script
    assert f"docker tag registry.example.org/mnist@{MANIFEST} {NAME}" in script


def test_a_damaged_lock_stops_every_command_that_needs_it(cube: Path, mlcube: Any) -> None:
    put(cube)
    (cube / "mlcube.lock").write_text("{\n")
    for words in (["run"], ["run", "--dry-run"], ["configure"], ["configure", "--update-lock"], ["inspect"], ["lock"]):
        done = mlcube(*words, *(["--platform", "docker"]))
        assert (done.exit_code, done.stdout) == (3, ""), words
        assert "--> mlcube.lock:" in done.stderr and "lock again" in done.stderr
    assert mlcube("describe").exit_code == 0


def test_another_definition_file_has_a_lock_of_its_own(cube: Path, mlcube: Any) -> None:
    put(cube)
    (cube / "mlcube.yaml").rename(cube / "mnist.cpu.yaml")
    assert mlcube("lock", "--mlcube=mnist.cpu.yaml").exit_code == 0
    assert sorted(path.name for path in cube.iterdir()) == ["mnist.cpu.lock", "mnist.cpu.yaml"]


def test_a_lock_keeps_what_other_machines_wrote_and_repeats_itself(cube: Path, mlcube: Any) -> None:
    put(cube)
    other = {"image": NAME, "method": "image", "digest": "sha256:" + "0" * 64}
    (cube / "mlcube.lock").write_text(json.dumps({"schema": "mlcube.lock.v1", "platforms": {
        "zeta": {"linux/arm64": other}, "docker": {"linux/arm64": other}}}))
    unchecked = mlcube("run", "--platform", "docker", "--dry-run")
    assert unchecked.exit_code == 0 and "not checked" in unchecked.stdout and "linux/arm64" in unchecked.stdout
    assert mlcube("lock").exit_code == 0
    text = (cube / "mlcube.lock").read_text()
    assert [list(entries) for entries in json.loads(text)["platforms"].values()] == [["linux/amd64", "linux/arm64"],
                                                                                     ["linux/arm64"]]
    again = mlcube("lock")
    assert (cube / "mlcube.lock").read_text() == text and "stays as it is" in again.stderr
    assert str(cube.parent) not in text and sorted(path.name for path in cube.iterdir()) == ["mlcube.lock", "mlcube.yaml"]


def test_locks_of_several_platforms_at_once_all_stay(cube: Path, mlcube: Any) -> None:
    put(cube)
    names = [f"box-{number}" for number in range(4)]
    sections = "".join(f"  {name}: {{runner: docker, image: {NAME}}}\n" for name in names)
    settings = cube.parent / "settings.yaml"
    settings.write_text(f"platforms:\n{sections}")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda name: mlcube("lock", "--platform", name, MLCUBE_SYSTEM_SETTINGS=str(settings)), names))
    assert [one.exit_code for one in done] == [0] * 4, done
    assert sorted(json.loads((cube / "mlcube.lock").read_text())["platforms"]) == names


def test_a_lock_that_cannot_be_written_is_refused_before_anything_is_made(cube: Path, mlcube: Any) -> None:
    (cube / "mlcube.lock").symlink_to("/proc/self/mlcube.lock")  # nobody can write there, not even root
    for code, words in ((5, ["lock"]), (5, ["lock", "--json"]), (3, ["configure", "--update-lock", "--platform", "docker"])):
        refused = mlcube(*words)
        assert refused.exit_code == code and "mlcube.lock" in refused.stderr, words
        assert bool(refused.stdout) == ("--json" in words)
    assert not (cube.parent / "bin/calls").exists()


def test_a_lock_that_is_a_link_is_written_where_it_leads(cube: Path, mlcube: Any) -> None:
    put(cube)
    shared = cube.parent / "shared.lock"
    shared.write_text('{"schema": "mlcube.lock.v1", "platforms": {}}')
    (cube / "mlcube.lock").symlink_to(shared)
    assert mlcube("lock").exit_code == 0
    assert (cube / "mlcube.lock").is_symlink() and MANIFEST in shared.read_text()


def test_an_unknown_key_of_a_lock_is_warned_about_and_stays(cube: Path, mlcube: Any) -> None:
    put(cube)
    assert mlcube("lock").exit_code == 0
    lock = cube / "mlcube.lock"
    lock.write_text(lock.read_text().replace('"method"', '"digset": 1, "method"'))
    ran = mlcube("run", "--platform", "docker", "--dry-run")
    assert ran.exit_code == 0 and "digset" in ran.stderr and "--> mlcube.lock:7:" in ran.stderr
    assert mlcube("lock").exit_code == 0 and "digset" in lock.read_text()
