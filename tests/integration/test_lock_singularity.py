"""`mlcube inspect` and `mlcube lock` on a real apptainer: an image file is the locked one, or nothing starts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.observe import machine, with_facts
from mlcube_shell.docker_lock import ask_registry
from tests.conftest import IMAGE_FILES, TINY_IMAGE
from tests.cubes import write_tree
from tests.fakes.registry import Registry, serve_registry

pytestmark = pytest.mark.singularity
ON = ("--platform", "singularity")
PLAIN = {"APPTAINER_NOHTTPS": "true", "SINGULARITY_NOHTTPS": "true"}
RECIPE = f"""
    Bootstrap: docker-archive
    From: {IMAGE_FILES}/tiny.tar
    %files
      word.txt /word.txt
    %runscript
      cat /word.txt"""  # without a newline at its end


def cube_of(place: Path, docker: str = "", **singularity: Any) -> Path:
    cube = {"name": "locked", "singularity": singularity, "tasks": {"main": {"parameters": {}}},
            **({"docker": {"image": docker}} if docker else {})}
    return write_tree(place, {"mlcube.yaml": json.dumps(cube)})


def entry_of(cube: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((cube / "mlcube.lock").read_text())["platforms"]["singularity"]["linux/amd64"]
    return found


def left_behind(cube: Path) -> list[str]:
    return sorted(path.name for path in (cube / "workspace/.image").iterdir())


def test_an_image_of_a_recipe_is_held_to_what_it_was_built_from(tmp_path: Path, run_mlcube: Any) -> None:
    cube = cube_of(tmp_path / "cube", image="word.sif")
    write_tree(cube, {"Singularity.recipe": RECIPE, "word.txt": "right\n"})
    absent = run_mlcube("lock", *ON, cwd=cube)
    assert absent.exit_code == 5 and "mlcube configure --platform singularity" in absent.stderr
    assert run_mlcube("configure", *ON, cwd=cube).exit_code == 0
    assert left_behind(cube) == ["word.sif"]
    assert run_mlcube("lock", *ON, cwd=cube).exit_code == 0
    assert (entry_of(cube)["image"], entry_of(cube)["method"]) == ("word.sif", "inputs")
    assert str(tmp_path) not in (cube / "mlcube.lock").read_text()
    ran = run_mlcube("run", *ON, cwd=cube)
    assert ran.stdout == "right\n", ran.stderr
    record = json.loads(next((cube / "workspace/.mlcube/runs").glob("*/record.json")).read_text())
    sif = cube / "workspace/.image/word.sif"
    assert record["image"] == {"name": str(sif), "id": entry_of(cube)["digest"],
                               "sha256": f"sha256:{hashlib.sha256(sif.read_bytes()).hexdigest()}"}
    (cube / "word.txt").write_text("wrong\n")
    for words in (["run"], ["run", "--dry-run"], ["configure", "--force"]):
        refused = run_mlcube(*words, *ON, cwd=cube)
        assert (refused.exit_code, refused.stdout) == (5, "")
        assert entry_of(cube)["digest"] in refused.stderr and "--> mlcube.lock:8:" in refused.stderr
    (cube / "word.txt").write_text("right\n")
    shutil.copy(IMAGE_FILES / "tiny.sif", cube / "workspace/.image/word.sif")
    refused = run_mlcube("run", *ON, cwd=cube)
    assert refused.exit_code == 5 and "the sha256 of its file" in refused.stderr
    assert run_mlcube("configure", *ON, cwd=cube).exit_code == 0  # another build of the same files
    assert run_mlcube("run", *ON, cwd=cube).stdout == "right\n"


def test_an_image_that_was_put_there_is_held_to_its_bytes(tmp_path: Path, run_mlcube: Any) -> None:
    cube = cube_of(tmp_path / "cube", image="given.sif")
    given = cube / "workspace/.image/given.sif"
    given.parent.mkdir(parents=True)
    shutil.copy(IMAGE_FILES / "tiny.sif", given)
    digest = hashlib.sha256(given.read_bytes()).hexdigest()
    assert run_mlcube("lock", cwd=cube).exit_code == 0
    assert entry_of(cube) == {"image": "given.sif", "method": "file", "digest": f"sha256:{digest}"}
    assert json.loads(run_mlcube("inspect", "--json", cwd=cube).stdout)["hash"] == digest
    assert run_mlcube("run", "--dry-run", cwd=cube).exit_code == 0
    with given.open("r+b") as stream:  # in place: the same file, size and name
        stream.seek(-1, 2)
        stream.write(b"\x01")
    refused = run_mlcube("run", cwd=cube)
    assert refused.exit_code == 5 and digest in refused.stderr
    given.unlink()
    assert run_mlcube("run", cwd=cube).exit_code == 5


class Pushed:
    """An image of this test alone in a registry on loopback."""

    def __init__(self, registry: Registry) -> None:
        self.repository = f"tests/{uuid.uuid4().hex[:12]}"
        self.name = f"{registry.address}/{self.repository}:1"
        self._registry = registry

    def push(self, says: str) -> str:
        """Moves the tag to an image that says this word; docker keeps no copy. Returns the digest."""
        recipe = f'FROM {TINY_IMAGE}\nENTRYPOINT ["echo", "{says}"]\n'
        name = self.name
        for words in (["build", "--quiet", "--tag", name, "-"], ["push", "--quiet", name], ["rmi", "--force", name]):
            subprocess.run(["docker", *words], input=recipe, text=True, check=True, capture_output=True, timeout=120)
        return self._registry.digest(self.repository, "1")


@pytest.fixture
def pushed() -> Iterator[Pushed]:
    with serve_registry() as registry:
        yield Pushed(registry)


@pytest.mark.docker
def test_an_image_of_a_registry_is_held_to_its_digest(pushed: Pushed, tmp_path: Path, run_mlcube: Any) -> None:
    right = pushed.push("right")
    cube = cube_of(tmp_path / "cube", pushed.name, image="pulled.sif")
    locked = run_mlcube("configure", "--update-lock", *ON, cwd=cube, env=PLAIN)
    assert locked.exit_code == 0, locked.stderr
    assert entry_of(cube) == {"image": "pulled.sif", "method": "manifest", "digest": right}
    assert run_mlcube("run", *ON, cwd=cube).stdout == "right main\n"
    other = pushed.push("other")
    lock = (cube / "mlcube.lock").read_text()
    (cube / "mlcube.lock").write_text(lock.replace(right, other))
    refused = run_mlcube("run", *ON, cwd=cube)
    assert refused.exit_code == 5 and right in refused.stderr and other in refused.stderr
    assert run_mlcube("configure", *ON, cwd=cube, env=PLAIN).exit_code == 0
    assert run_mlcube("run", *ON, cwd=cube).stdout == "other main\n"


@pytest.mark.docker
def test_a_lock_that_docker_made_holds_where_there_is_apptainer_alone(pushed: Pushed, tmp_path: Path, run_mlcube: Any) -> None:
    right = pushed.push("right")
    cube = write_tree(tmp_path / "cube", {"mlcube.yaml": json.dumps({
        "name": "locked", "docker": {"image": pushed.name}, "tasks": {"main": {"parameters": {}}}})})
    assert run_mlcube("configure", "--platform", "docker", "--update-lock", cwd=cube).exit_code == 0
    subprocess.run(["docker", "rmi", "--force", pushed.name], check=True, capture_output=True, timeout=60)
    lock = (cube / "mlcube.lock").read_text()
    pushed.push("wrong")
    cluster = {"PATH": without_docker(tmp_path / "bin")}

    def on_cluster(*words: str, **env: str) -> Any:
        return run_mlcube(*words, "--platform", "apptainer", cwd=cube, env={**cluster, **env})

    first = on_cluster("run", **PLAIN)
    assert first.stdout == "right main\n" and "not checked" not in first.stderr, first.stderr
    assert on_cluster("run").stdout == "right main\n"  # no registry is needed any more
    shown = json.loads(on_cluster("inspect", "--json").stdout)
    assert (shown["lock"]["platform"], shown["lock"]["digest"], shown["lock"]["same"]) == ("docker", right, True)
    image = next((cube / "workspace/.image").glob("*.sif"))
    subprocess.run(["apptainer", "--quiet", "build", "--force", str(image), f"docker://{pushed.name}"], check=True,
                   capture_output=True, timeout=120, env={**os.environ, **PLAIN, "APPTAINER_DISABLE_CACHE": "true"})
    refused = on_cluster("run")
    assert (refused.exit_code, refused.stdout) == (5, "")
    assert right in refused.stderr and f"made from docker://{pushed.name}" in refused.stderr
    assert "mlcube configure --platform apptainer" in refused.stderr and "--> mlcube.lock:8:" in refused.stderr
    other = on_cluster("run", "--dry-run", "-Pdocker.image=other:1")
    assert other.exit_code == 5 and "asks for another image" in other.stderr
    alone = on_cluster("configure", "--update-lock", "--force", **PLAIN)  # nobody to ask what the tag means
    assert "nobody here says which digest" in alone.stderr and alone.exit_code == 0
    mine = json.loads((cube / "mlcube.lock").read_text())["platforms"]
    assert mine["apptainer"]["linux/amd64"]["method"] == "file" and mine["docker"] == json.loads(lock)["platforms"]["docker"]


def without_docker(place: Path) -> str:
    """A PATH with all programs but docker, podman and skopeo."""
    place.mkdir()
    directories = (Path(directory) for directory in os.environ["PATH"].split(os.pathsep))
    for program in (program for directory in directories if directory.is_dir() for program in directory.iterdir()):
        if program.name not in ("docker", "podman", "skopeo") and not (place / program.name).is_symlink():
            (place / program.name).symlink_to(program)
    return str(place)


@pytest.mark.parametrize("tool", [pytest.param("docker", marks=pytest.mark.docker),
                                  pytest.param("skopeo", marks=[pytest.mark.podman, pytest.mark.docker])])
def test_the_tools_say_what_a_name_means(tool: str, pushed: Pushed, home: Path, tmp_path: Path) -> None:
    digest = pushed.push("right")
    found = shutil.which(tool)
    assert found is not None
    write_tree(home, {".config/containers/registries.conf": f"""
        [[registry]]
        location = "{pushed.name.partition('/')[0]}"
        insecure = true
        """, "auth.json": "{}"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / tool).symlink_to(found)
    facts = machine({"HOME": str(home), "PATH": str(tmp_path / "bin"), "REGISTRY_AUTH_FILE": str(home / "auth.json")})
    assert with_facts(lambda known: ask_registry(known, pushed.name), facts)[0] == (digest, "")
    absent, why = with_facts(lambda known: ask_registry(known, f"{pushed.name}-absent"), facts)[0]
    assert absent == "" and tool in why
