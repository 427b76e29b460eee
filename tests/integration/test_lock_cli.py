"""`mlcube inspect` and `mlcube lock` on a real docker, with a registry on loopback: the locked image runs, no other one."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY_IMAGE
from tests.cubes import write_tree
from tests.fakes.registry import Registry, serve_registry

pytestmark = pytest.mark.docker
METHOD, DIGEST, PLATFORM = "method", "digest", "platforms"


def docker(*words: str, stdin: str = "") -> str:
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Images:
    """Images of this test alone, known by a label, and names; all are taken away at the end."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.key = uuid.uuid4().hex[:12]

    def name(self, name: str) -> str:
        self.names.append(name)
        return name

    def make(self, name: str, says: str) -> str:
        """An image that nobody else has; its entry point says a word. Returns its id."""
        recipe = f'FROM {TINY_IMAGE}\nLABEL test={self.key}\nENTRYPOINT ["echo", "{says}"]\n'
        docker("build", "--quiet", "--tag", self.name(name), "-", stdin=recipe)
        return docker("image", "inspect", "--format", "{{.Id}}", name)


@pytest.fixture
def images() -> Iterator[Images]:
    made = Images()
    yield made
    marked = docker("images", "--all", "--quiet", "--no-trunc", "--filter", f"label=test={made.key}").split()
    for name in dict.fromkeys((*made.names, *marked)):
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False, timeout=60)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as served:
        yield served


def cube_of(place: Path, image: str, **docker_options: Any) -> Path:
    cube = {"name": "locked", "docker": {"image": image, **docker_options}, "tasks": {"main": {"parameters": {}}}}
    return write_tree(place, {"mlcube.yaml": json.dumps(cube)})


def entry_of(cube: Path, platform: str = "docker", architecture: str = "linux/amd64") -> dict[str, str]:
    found: dict[str, str] = json.loads((cube / "mlcube.lock").read_text())["platforms"][platform][architecture]
    return found


@pytest.fixture
def pulled(images: Images, registry: Registry, tmp_path: Path, run_mlcube: Any) -> tuple[Path, str, str]:
    """A cube whose image was pulled and locked; the registry's tag has moved to another image since.

    Returns the cube, the image's name, and the digest that its tag has now.
    """
    name = f"{registry.address}/tests/{images.key}:1"
    images.make(name, "right")
    docker("push", "--quiet", name)
    docker("rmi", "--force", name)
    cube = cube_of(tmp_path / "cube", name)
    absent = run_mlcube("lock", "--platform", "docker", cwd=cube)
    assert (absent.exit_code, (cube / "mlcube.lock").exists()) == (5, False)
    assert "hint: mlcube configure --platform docker" in absent.stderr
    locked = run_mlcube("configure", "--update-lock", cwd=cube)
    assert locked.exit_code == 0, locked.stderr
    assert entry_of(cube) == {"image": name, "method": "manifest", "digest": registry.digest(f"tests/{images.key}", "1")}
    docker("rmi", "--force", name)
    images.make(name, "wrong")
    docker("push", "--quiet", name)
    registry.fetched.clear()
    return cube, name, registry.digest(f"tests/{images.key}", "1")


def test_another_image_of_the_same_name_is_refused_and_the_locked_one_comes_back(pulled: tuple[Path, str, str],
                                                                                 run_mlcube: Any) -> None:
    cube, name, moved = pulled
    renamed = run_mlcube("run", f"-Prunner.image={TINY_IMAGE}", cwd=cube)
    assert renamed.exit_code == 5 and TINY_IMAGE in renamed.stderr and name in renamed.stderr
    for words in (["run"], ["run", "--dry-run"]):
        refused = run_mlcube(*words, cwd=cube)
        assert (refused.exit_code, refused.stdout) == (5, "")
        assert entry_of(cube)["digest"] in refused.stderr and moved in refused.stderr
        assert "--> mlcube.lock:8:" in refused.stderr
        assert "mlcube configure --platform docker --update-lock" in refused.stderr
    assert not (cube / "workspace").exists()
    assert run_mlcube("configure", cwd=cube).exit_code == 0
    assert run_mlcube("run", cwd=cube).stdout == "right main\n"


def test_an_absent_image_is_pulled_by_its_digest_and_then_runs_without_the_registry(
        pulled: tuple[Path, str, str], registry: Registry, run_mlcube: Any) -> None:
    cube, name, _ = pulled
    docker("rmi", "--force", name)
    script = run_mlcube("run", "--dry-run", cwd=cube).stdout
    assert f"docker pull {name.rpartition(':')[0]}@{entry_of(cube)['digest']}" in script
    assert run_mlcube("run", cwd=cube).stdout == "right main\n"
    assert registry.fetched and set(registry.fetched) == {entry_of(cube)["digest"]}
    registry.manifests.clear()
    assert run_mlcube("run", cwd=cube).stdout == "right main\n"
    assert run_mlcube("configure", cwd=cube).exit_code == 0


def test_inspect_says_whether_it_is_the_locked_image_and_update_lock_takes_what_the_name_means_now(
        pulled: tuple[Path, str, str], run_mlcube: Any) -> None:
    cube, name, moved = pulled
    data = json.loads(run_mlcube("inspect", "--json", cwd=cube).stdout)
    assert data["hash"] == docker("image", "inspect", "--format", "{{.Id}}", name).removeprefix("sha256:")
    assert data["digests"] == [f"{name.rpartition(':')[0]}@{moved}"]
    assert (data["architecture"], data["lock"]["same"]) == ("linux/amd64", False)
    before = (cube / "mlcube.lock").read_text()
    shown = run_mlcube("configure", "--update-lock", "--dry-run", cwd=cube)
    assert "mlcube.lock is renewed" in shown.stdout and (cube / "mlcube.lock").read_text() == before
    renewed = run_mlcube("configure", "--update-lock", "--json", cwd=cube)
    assert json.loads(renewed.stdout)["status"] == "succeeded"
    assert entry_of(cube)["digest"] == moved
    docker("rmi", "--force", name)
    absent = run_mlcube("inspect", cwd=cube)
    assert (absent.exit_code, absent.stdout) == (5, "")
    there = run_mlcube("inspect", "--force", "--output-file", "hash.yaml", "--format", "yaml", cwd=cube)
    assert (there.exit_code, there.stdout) == (0, ""), there.stderr
    assert "same: true" in (cube / "hash.yaml").read_text()
    assert run_mlcube("run", cwd=cube).stdout == "wrong main\n"


def test_a_built_image_is_held_to_its_build_files(images: Images, tmp_path: Path, run_mlcube: Any) -> None:
    name = images.name(f"mlcube-test/locked-{images.key}")
    cube = cube_of(tmp_path / "cube", name)
    recipe = f'FROM {TINY_IMAGE}\nCOPY . /cube\nENTRYPOINT ["echo", "built"]\n'
    write_tree(cube, {"Dockerfile": recipe})
    assert run_mlcube("configure", "--update-lock", cwd=cube).exit_code == 0
    assert entry_of(cube)["method"] == "inputs"
    docker("rmi", "--force", name)
    assert run_mlcube("run", cwd=cube).stdout == "built main\n"  # another build of the same files
    (cube / "Dockerfile").write_text(recipe + "LABEL changed=yes\n")
    for verb in ("run", "configure"):
        refused = run_mlcube(verb, cwd=cube)
        assert refused.exit_code == 5 and entry_of(cube)["digest"] in refused.stderr
    (cube / "Dockerfile").write_text(recipe)
    images.make(name, "other")
    refused = run_mlcube("run", cwd=cube)
    assert refused.exit_code == 5 and "mlcube did not build it" in refused.stderr
    assert run_mlcube("configure", cwd=cube).exit_code == 0
    assert run_mlcube("run", cwd=cube).stdout == "built main\n"


def test_a_loaded_image_is_held_to_its_id(images: Images, tmp_path: Path, run_mlcube: Any) -> None:
    name = f"mlcube-test/loaded-{images.key}"
    image_id = images.make(name, "right")
    cube = cube_of(tmp_path / "cube", name)
    locked = run_mlcube("lock", "--json", cwd=cube)
    assert json.loads(locked.stdout) == json.loads((cube / "mlcube.lock").read_text())
    assert "came from no registry" in locked.stderr
    assert entry_of(cube) == {"image": name, "method": "image", "digest": image_id}
    assert run_mlcube("run", cwd=cube).stdout == "right main\n"
    images.make(name, "wrong")
    for verb in ("run", "configure"):
        refused = run_mlcube(verb, cwd=cube)
        assert refused.exit_code == 5 and image_id in refused.stderr
