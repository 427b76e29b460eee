"""run --all --skip-unchanged on real engines and on another machine: what counts there besides files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DOCKER_AND_PODMAN, IMAGE_FILES, TINY_IMAGE, RunMLCube
from tests.cubes import write_tree
from tests.integration.far import COPY, Far

CUBE = r"""
    name: two
    tasks:
      use:
        entrypoint: sh -c 'cat "\${1#*=}/made" > "\${2#*=}"; echo use' sh
        parameters: {inputs: {data: data/}, outputs: {text: {type: file, default: out/text}}}
      make:
        entrypoint: sh -c 'echo made > "\${1#*=}/made"; echo make' sh
        parameters: {outputs: {data: data/}}
    docker: {image: IMAGE}
    singularity: {image: SIF}
"""


def ran(done: object) -> list[str]:
    assert getattr(done, "exit_code", None) == 0, done
    return str(getattr(done, "stdout", "")).split()


@pytest.fixture
def image() -> Iterator[str]:
    yield f"localhost/mlcube-test-two:{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("engine", DOCKER_AND_PODMAN)
def test_an_image_that_was_built_anew_counts_and_one_that_was_made_again_alike_does_not(
        run_mlcube: RunMLCube, tmp_path: Path, engine: str, image: str) -> None:
    text = CUBE.replace("IMAGE", image).replace("    singularity: {image: SIF}\n", "")
    recipe = f"FROM {TINY_IMAGE}\nCOPY text /text\n"
    cube = write_tree(tmp_path / "two", {"mlcube.yaml": text, "Dockerfile": recipe, "text": "1"})
    words = ("run", str(cube), "--platform", engine, "--all", "--skip-unchanged", "--explain")
    try:
        assert ran(run_mlcube(*words)) == ["make", "use"]
        assert ran(run_mlcube(*words)) == []
        (cube / "text").write_text("two")
        done = run_mlcube(*words)
        assert ran(done) == [] and "its build files or build arguments have changed" in done.stderr
        done = run_mlcube(*words, "-Prunner.build_strategy=always", "--dry-run")
        assert "would run unless all is as it was after: build image" in done.stderr
        done = run_mlcube(*words, "-Prunner.build_strategy=always")
        assert ran(done) == ["make", "use"] and done.stderr.count(f"runs: image {image} is another one") == 2, done.stderr
        assert ran(run_mlcube(*words, "-Prunner.build_strategy=always")) == [], "built again, and the same"
        assert run_mlcube("ps").stdout.count("\n") == 1 + 2 * 2, "what has run, twice two tasks, and nothing else"
        assert ran(run_mlcube(*words)) == []
    finally:
        run_mlcube(image, command=(engine, "image", "rm", "--force"))


@pytest.mark.singularity
def test_an_image_file_counts_by_its_content(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    sif = tmp_path / "own.sif"
    sif.write_bytes((IMAGE_FILES / "tiny.sif").read_bytes())
    text = CUBE.replace("SIF", str(sif)).replace("    docker: {image: IMAGE}\n", "")
    cube = write_tree(tmp_path / "two", {"mlcube.yaml": text})
    words = ("run", str(cube), "--all", "--skip-unchanged", "--explain")
    assert ran(run_mlcube(*words)) == ["make", "use"]
    sif.touch()
    assert ran(run_mlcube(*words)) == []
    sif.write_bytes((IMAGE_FILES / "base.sif").read_bytes())
    done = run_mlcube(*words)
    assert ran(done) == ["make", "use"] and "is another one: it was sha256:" in done.stderr


@pytest.mark.ssh
def test_on_another_machine_the_contents_here_count_and_what_is_skipped_is_sent_as_an_input(far: Far) -> None:
    far.script(COPY)
    far.script('cat "$data/one" > "$result/two"; echo again\n', "again.sh")
    write_tree(far.workspace, {"data/one": "1"})
    words = ("--all", "--skip-unchanged", "--explain")
    assert ran(far("run", *words)) == ["copied", "again"]
    done = far("run", *words, "--json")
    assert [task["skipped"] for task in json.loads(done.stdout)["tasks"]] == [True, True], done.stderr
    far.box.root('rm -r "$1"/workspace/result', far.root)
    far.script('cat "$data/one" > "$result/three"; echo changed\n', "again.sh")
    done = far("run", *words)
    assert ran(done) == ["changed"] and "task 'again' runs: input 'script' has changed" in done.stderr, "with what is here"
    assert (far.workspace / "second/three").read_text() == "1"
    write_tree(far.workspace, {"data/one": "2"})
    done = far("run", *words)
    assert ran(done) == ["copied", "changed"] and "task 'again' runs, since this comes before it: task 'work'" in done.stderr


@pytest.mark.ssh
def test_an_output_of_a_run_on_another_machine_is_not_written_by_a_second_one(far: Far) -> None:
    far.script('while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo 1 > "$result/file"\n')
    write_tree(far.workspace, {"data/one": "1"})
    run = far.run("--detach").stdout.strip()
    for more in ((), ("--detach",)):
        done = far("run", "--task", "work", *more)
        assert done.exit_code == 4 and f"is being written by run {run} (task 'work' on " in done.stderr
    done = far.run_mlcube("run", str(far.cube), "--platform", "local", "--task", "work", env=far.environment)
    assert done.exit_code == 4 and f"mlcube wait {run}" in done.stderr, "it comes home to the same place"
    done = far("run", "--task", "work", "--skip-unchanged", "--dry-run", "--explain")
    assert done.exit_code == 0 and "task 'work' would run: its last run" in done.stderr
    far.box.root('touch "$1/go"', far.far_home)
    assert far.plain("wait", run).exit_code == 0
    done = far("run", "--task", "work", "--skip-unchanged", "--explain", "--dry-run")
    assert "cannot be compared: not fetched yet" in done.stderr
    assert far.plain("fetch", run).exit_code == 0
    assert "task 'work' is skipped" in far("run", "--task", "work", "--skip-unchanged").stderr
