"""`mlcube inspect` and `mlcube lock` on a real apptainer: an image file is the locked one, or nothing starts."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IMAGE_FILES, TINY_IMAGE
from tests.cubes import write_tree
from tests.fakes.registry import serve_registry

pytestmark = pytest.mark.singularity
ON = ("--platform", "singularity")
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
    (cube / "workspace/.image/word.sif").unlink()
    assert run_mlcube("run", *ON, cwd=cube).stdout == "right\n"  # another build of the same files
    (cube / "word.txt").write_text("wrong\n")
    for words in (["run"], ["run", "--dry-run"], ["configure"], ["configure", "--force"]):
        refused = run_mlcube(*words, *ON, cwd=cube)
        assert (refused.exit_code, refused.stdout) == (5, "")
        assert entry_of(cube)["digest"] in refused.stderr and "--> mlcube.lock:8:" in refused.stderr
    (cube / "word.txt").write_text("right\n")
    shutil.copy(IMAGE_FILES / "tiny.sif", cube / "workspace/.image/word.sif")
    refused = run_mlcube("run", *ON, cwd=cube)
    assert refused.exit_code == 5 and "the sha256 of its file" in refused.stderr
    assert run_mlcube("configure", *ON, cwd=cube).exit_code == 0
    assert run_mlcube("run", *ON, cwd=cube).stdout == "right\n"
    (cube / "word.txt").write_text("new\n")
    assert run_mlcube("configure", "--force", "--update-lock", *ON, cwd=cube).exit_code == 0
    assert run_mlcube("run", *ON, cwd=cube).stdout == "new\n"


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


@pytest.mark.docker
def test_an_image_of_a_registry_is_held_to_its_digest(tmp_path: Path, run_mlcube: Any) -> None:
    with serve_registry() as registry:
        repository = f"tests/{uuid.uuid4().hex[:12]}"
        name = f"{registry.address}/{repository}:1"

        def push(says: str) -> str:
            recipe = f'FROM {TINY_IMAGE}\nENTRYPOINT ["echo", "{says}"]\n'
            for words in (["build", "--quiet", "--tag", name, "-"], ["push", "--quiet", name], ["rmi", "--force", name]):
                subprocess.run(["docker", *words], input=recipe, text=True, check=True, capture_output=True, timeout=120)
            return registry.digest(repository, "1")

        plain = {"env": {"APPTAINER_NOHTTPS": "true", "SINGULARITY_NOHTTPS": "true"}}
        right = push("right")
        cube = cube_of(tmp_path / "cube", name, image="pulled.sif")
        locked = run_mlcube("configure", "--update-lock", *ON, cwd=cube, **plain)
        assert locked.exit_code == 0, locked.stderr
        assert entry_of(cube) == {"image": "pulled.sif", "method": "manifest", "digest": right}
        assert run_mlcube("run", *ON, cwd=cube).stdout == "right main\n"
        wrong = push("wrong")
        (cube / "workspace/.image/pulled.sif").unlink()
        assert run_mlcube("run", *ON, cwd=cube, **plain).stdout == "right main\n"
        renewed = run_mlcube("configure", "--force", "--update-lock", *ON, cwd=cube, **plain)
        assert renewed.exit_code == 0 and entry_of(cube)["digest"] == wrong
        lock = (cube / "mlcube.lock").read_text()
        (cube / "mlcube.lock").write_text(lock.replace(wrong, right))
        refused = run_mlcube("run", *ON, cwd=cube)
        assert refused.exit_code == 5 and right in refused.stderr and wrong in refused.stderr
        assert run_mlcube("configure", *ON, cwd=cube, **plain).exit_code == 0
        assert run_mlcube("run", *ON, cwd=cube).stdout == "right main\n"
