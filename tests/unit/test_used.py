"""Faults of what a run does not use are warnings, and those that reach it through references are errors (RULINGS 1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.cubes import write_tree

CUBE = """
    name: n
    spare: ${nope}
    far: {deep: ['${oc.env:UNSET_ONE}', fine]}
    near: x-${spare}
    docker: {image: 'busybox:${missing}'}
    singularity: {singularity: no-such-program}
    local: {entrypoint: run.py}
    tasks:
      plain: {parameters: {outputs: {o: out/}}}
      broken: {parameters: {outputs: {o: '${nothing}/', p: fine/}}}
      other: {parameters: {outputs: {o: '${tasks.broken.parameters.outputs.o}'}}}
      beside: {parameters: {outputs: {o: '${tasks.broken.parameters.outputs.p}'}}}
      through: {parameters: {outputs: {o: 'a/${near}/'}}}
      variable: {parameters: {outputs: {o: 'a/${far.deep[0]}/'}}}
      engine: {parameters: {outputs: {o: 'a/${docker.image}/'}}}
    """


@pytest.fixture
def run(run_mlcube: RunMLCube, tmp_path: Path) -> RunMLCube:
    write_tree(tmp_path, {"mlcube.yaml": CUBE, "run.py": "print('ran')\n"})
    return run_mlcube


def said(stderr: str, severity: str) -> list[str]:
    """The places named in messages of this severity."""
    lines = stderr.splitlines()
    return [lines[number + 1].rpartition("(")[2].rstrip(")") for number, line in enumerate(lines)
            if line.startswith(f"{severity}: ") and "-->" in lines[number + 1]]


UNUSED = ["spare", "far.deep[0]", "docker.image", "tasks.broken.parameters.outputs.o.default"]


@pytest.mark.parametrize("task", ["plain", "beside"])
def test_references_that_a_run_does_not_use_are_warnings(run: RunMLCube, task: str) -> None:
    done = run("run", ".", "--platform", "local", "--task", task)
    assert (done.exit_code, done.stdout) == (0, "ran\n"), done.stderr
    assert (said(done.stderr, "warning"), said(done.stderr, "error")) == (UNUSED, [])


@pytest.mark.parametrize(("task", "place"), [
    ("broken", "tasks.broken.parameters.outputs.o.default"),
    ("other", "tasks.broken.parameters.outputs.o.default"),
    ("through", "spare"),
    ("variable", "far.deep[0]"),
    ("engine", "docker.image"),
])
def test_references_that_reach_a_run_are_errors(run: RunMLCube, task: str, place: str) -> None:
    done = run("run", ".", "--platform", "local", "--task", task)
    assert (done.exit_code, done.stdout) == (3, "")
    assert (said(done.stderr, "error"), said(done.stderr, "warning")) == ([place], [one for one in UNUSED if one != place])


@pytest.mark.parametrize("platform", ["docker", "podman"])
def test_a_platform_made_from_a_section_has_its_faults(run: RunMLCube, platform: str) -> None:
    done = run("run", ".", "--platform", platform, "--task", "plain", "--dry-run")
    assert done.exit_code == 3 and said(done.stderr, "error") == ["docker.image"]


def test_singularity_takes_no_broken_image_from_docker(run: RunMLCube) -> None:
    done = run("run", ".", "--platform", "singularity", "--task", "plain", "--dry-run")
    assert "docker.image" in said(done.stderr, "warning") and "${missing}" not in done.stdout
    assert done.exit_code != 0 and "error: " in done.stderr


@pytest.mark.parametrize("key", ["spare", "near"])
def test_a_workspace_is_not_named_by_a_broken_reference(run: RunMLCube, key: str) -> None:
    done = run("run", ".", "--platform", "local", "--task", "plain", "--workspace", f"${{{key}}}")
    assert done.exit_code == 2 and "${nope} names nothing in this file" in done.stderr


def test_settings_that_refer_to_what_is_broken(run: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {"settings.yaml": "platforms: {local: {runner: local, env: {A: 'b${near}'}}}\n"})
    done = run("run", ".", "--platform", "local", "--task", "plain",
               env={"MLCUBE_SYSTEM_SETTINGS": str(tmp_path / "settings.yaml")})
    assert done.exit_code == 3 and said(done.stderr, "error") == ["spare"]


def test_validate_has_them_all_as_errors(run: RunMLCube) -> None:
    done = run("validate", ".")
    assert done.exit_code == 3 and set(UNUSED) - {"far.deep[0]"} <= set(said(done.stderr, "error"))
