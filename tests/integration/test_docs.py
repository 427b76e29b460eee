"""What the documentation shows works as printed: command lines are run (real runs as dry runs), makefiles are made."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.integration.gpu_box import Box

REMOTE = CHECKOUT / "docs/remote.md"  # its lines are one story, on a machine behind ssh
CLUSTERS = CHECKOUT / "docs/clusters.md"  # likewise, on a cluster: test_clusters_page
PAGES = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "examples").glob("**/README.md")])
SWEEPS = CHECKOUT / "docs/sweeps.md"  # the same here: a sweep is looked at once it has run
STARTS = ("mlcube ", "mlcube_docker ", "mlbox ")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines() -> list[tuple[str, list[str]]]:
    """(page, words) of each command line of ours in the pages' shell blocks."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh") if page not in (REMOTE, CLUSTERS, SWEEPS) else ():
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if line.strip().startswith(STARTS) and words[1] != "links":  # tests/package makes links, from the pyz
                    found.append((str(page.relative_to(CHECKOUT)), words))
    return found


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the examples, their data sets in place as after the pages' first command lines, and an archive."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(CHECKOUT / "examples", root / "examples", symlinks=True)
    for workspace in (root / "examples").glob("**/workspace"):
        (workspace / "data").mkdir(exist_ok=True)
    (root / "base.tar").touch()
    return root


@pytest.mark.parametrize(("page", "words"), command_lines(),
                         ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_the_printed_command_lines_work(run_mlcube: RunMLCube, examples: Path, page: str, words: list[str]) -> None:
    program = "import sys; from mlcube_cli.cli import main; sys.exit(main(sys.argv[2:], sys.argv[1]))"
    extra = ["--dry-run"] if {"run", "configure"} & set(words[1:2]) and "--dry-run" not in words else []
    done = run_mlcube(*words[1:], *extra, cwd=examples, command=(sys.executable, "-c", program, words[0]))
    assert done.exit_code == 0, done.stderr


def test_the_lines_of_the_sweeps_page_work_one_after_the_other(run_mlcube: RunMLCube, examples: Path) -> None:
    lines = [shlex.split(line) for block in blocks(SWEEPS, "sh") for line in block.splitlines()]
    for words in lines:
        done = run_mlcube(*words[1:], cwd=examples)
        assert done.exit_code == 0, (words, done.stderr)
    assert (examples / "accuracy.svg").read_text().count("<circle") >= 4
    assert len(lines) == 6


def test_there_are_command_lines_to_try() -> None:
    assert len(command_lines()) >= 8


def test_the_makefile_of_the_make_page_works(home: Path, tmp_path: Path) -> None:
    (makefile,) = blocks(CHECKOUT / "docs/make.md", "make")
    write_tree(tmp_path, {
        "Makefile": makefile,
        "mlcube.yaml": """
            name: stub
            tasks:
              sample: {entrypoint: sh run.sh, parameters: {outputs: {data: {type: directory, default: data}}}}
              train:
                entrypoint: sh run.sh
                parameters:
                  inputs: {data: {type: directory, default: data}, settings: {type: file, default: settings.yaml}}
                  outputs: {model: {type: directory, default: model}}
            local:
            """,
        "run.sh": 'for word; do case $word in --model=*) echo trained > "${word#*=}/model";; esac; done; echo "$# words"\n',
        "workspace/settings.yaml": "a: 1\n"})
    make = [shutil.which("make") or "make", "-s", f"MLCUBE={sys.executable} -m mlcube_cli"]

    def made() -> str:
        done = subprocess.run(make, cwd=tmp_path, env=clean_environment(home), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert made() == "1 words\n3 words\n"
    assert made() == ""
    (tmp_path / "workspace/settings.yaml").write_text("a: 2\n")
    assert made() == "3 words\n"


@pytest.mark.ssh
def test_the_page_on_other_machines_is_a_story_that_works(gpu_box: Box, laptop: dict[str, str], tmp_path: Path) -> None:
    """All its lines in their order; then its platform file, and its .mlcubeignore."""
    place = tmp_path / "story"
    place.mkdir()
    (platform,) = blocks(REMOTE, "yaml")
    (ignore,) = blocks(REMOTE, "text")
    write_tree(place, {"gpu-box.yaml": platform, "ignore": ignore})
    story = "".join(blocks(REMOTE, "sh"))
    after = """
        cp ignore digits/.mlcubeignore
        mkdir digits/notes
        touch digits/notes/mine
        mlcube run digits --task train --platform ./gpu-box.yaml
        ssh gpu-box 'test -f ~/cubes/digits/workspace/report.txt && test ! -e ~/cubes/digits/code/notes'
        """
    done = subprocess.run(["sh", "-eux", "-c", story + after], cwd=place, env=laptop, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "\ny = 3.00 x + 2.00\n" in done.stdout, "the data set of that machine"
    assert "asks for more" not in done.stderr
    assert "it runs on gpu-box" in done.stderr and "nothing is left behind" in done.stderr
