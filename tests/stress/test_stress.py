"""Stress-sized cases, run by `make stress` only; the everyday tests hold small versions of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY_IMAGE, RunMLCube, clean_environment
from tests.cubes import write_tree

pytestmark = pytest.mark.stress

SMALL = "name: cube-{}\ntasks: {{train: {{parameters: {{inputs: {{data: data/}}, outputs: {{model: model/}}}}}}}}\n"
COUNT_FILES = r"""
    name: count
    tasks:
      count:
        entrypoint: sh -c 'find "\${1#*=}" -type f | wc -l > "\${2#*=}/count"' sh
        parameters:
          inputs: {data: {type: directory, default: data}}
          outputs: {result: {type: directory, default: result}}
    local: {interpreter: system}
    docker: {image: IMAGE}
"""
IMPORT = """
    name: import
    tasks: {{show: {{parameters: {{outputs: {{result: {{type: directory, default: "{name}"}}}}}}}}}}
    local: {{entrypoint: show.py, requirements: [six]}}
"""


def test_ten_thousand_definitions_in_one_command(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {f"cube{number}/mlcube.yaml": SMALL.format(number) for number in range(10_000)})

    def seconds(count: int) -> float:
        began = time.perf_counter()
        done = run_mlcube("validate", "--json", *(f"cube{number}" for number in range(count)))
        assert done.exit_code == 0 and json.loads(done.stdout)["valid"]
        return time.perf_counter() - began

    few = seconds(1_000)
    assert seconds(10_000) < 20 * few


@pytest.mark.parametrize("platform", ["local", pytest.param("docker", marks=pytest.mark.docker)])
def test_an_input_of_a_hundred_thousand_files(run_mlcube: RunMLCube, tmp_path: Path, platform: str) -> None:
    cube = write_tree(tmp_path / "cube", {"mlcube.yaml": COUNT_FILES.replace("IMAGE", TINY_IMAGE)})
    for folder in range(100):
        directory = cube / f"workspace/data/{folder}"
        directory.mkdir(parents=True)
        for number in range(1_000):
            os.close(os.open(directory / str(number), os.O_CREAT | os.O_WRONLY))
    began = time.perf_counter()
    done = run_mlcube("run", "cube", "--platform", platform)
    assert done.exit_code == 0, done.stderr
    assert (cube / "workspace/result/count").read_text().strip() == "100000"
    assert time.perf_counter() - began < 60  # nobody copies, counts or hashes the files


def test_a_thousand_unchanged_files_are_judged_in_half_a_second(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    """What judging adds to a dry run of the same task, as CPU time; medians of interleaved samples."""

    def cpu() -> float:
        return os.times().children_user + os.times().children_system

    cube = write_tree(tmp_path / "cube", {"mlcube.yaml": COUNT_FILES, **{
        f"workspace/data/{number % 10}/{number}": f"{number}\n" * 100 for number in range(1_000)}})
    words = ("run", "cube", "--platform", "local")
    time.sleep(2.5)  # what was changed just now is not remembered
    assert run_mlcube(*words).exit_code == 0
    assert run_mlcube(*words, "--skip-unchanged").exit_code == 0
    samples: dict[tuple[str, ...], list[float]] = {("--dry-run",): [], ("--skip-unchanged",): []}
    for _ in range(9):
        for more, seconds in samples.items():
            began = cpu()
            done = run_mlcube(*words, *more)
            seconds.append(cpu() - began)
            assert done.exit_code == 0 and ("is skipped" in done.stderr) == (more == ("--skip-unchanged",)), done.stderr
    plain, judged = (sorted(seconds)[4] for seconds in samples.values())
    print(f"a dry run: {plain:.3f} s, judging 1,000 files and skipping: {judged:.3f} s of CPU")
    assert judged - plain < 0.5
    changed = cube / "workspace/data/7/777"
    changed.write_text(changed.read_text().replace("7", "8"))
    assert "input 'data' has changed: 7/777 (changed)" in run_mlcube(*words, "--skip-unchanged", "--explain").stderr


def test_twenty_runs_at_once_make_one_environment(home: Path, tmp_path: Path) -> None:
    show = "import pathlib, sys\nimport six\npathlib.Path(sys.argv[-1].partition('=')[2], 'prefix').write_text(sys.prefix)\n"
    names = [f"run{number}" for number in range(20)]
    for name in names:
        write_tree(tmp_path / name, {"mlcube.yaml": IMPORT.format(name=name), "show.py": show})
    children = [subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", name, "--platform", "local"], cwd=tmp_path,
                                 env=clean_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                for name in names]
    errors = [child.communicate(timeout=300)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 20, errors
    prefixes = {(tmp_path / name / "workspace" / name / "prefix").read_text() for name in names}
    assert len(prefixes) == 1
