"""examples/mnist/Makefile with a real make and a real mlcube; in place of training, a program that says it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, clean_environment

PROGRAM = """
import sys
task, *words = sys.argv[1:]
values = dict(word[2:].split("=", 1) for word in words)
print("did", task)
if task == "train":
    if "fail" in open(values["parameters_file"]).read():
        sys.exit(7)
    open(values["model_dir"] + "/model.keras", "w").write("a model")
else:
    open(values["data_dir"] + "/mnist.npz", "w").write(task)
"""


class Pipeline:
    """A copy of the example that needs no TensorFlow."""

    def __init__(self, directory: Path) -> None:
        ignored = shutil.ignore_patterns(".make", ".mlcube", "data", "model", "*_logs")
        self.root = Path(shutil.copytree(CHECKOUT / "examples/mnist", directory / "a cube", ignore=ignored))
        (self.root / "build/data").mkdir()
        shutil.copy(CHECKOUT / "examples/mnist/build/data/digits.csv.gz", self.root / "build/data")
        self.write("build/mnist.py", PROGRAM)
        self.write("platforms/local.yaml", "schema_version: 1.0.0\nschema_type: mlcube_local\nentrypoint: build/mnist.py\n")
        self.environment = clean_environment(directory)
        old = time.time() - 60  # make compares times: what the test changes must be newer than what it finds
        for path in self.root.rglob("*"):
            os.utime(path, (old, old))

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def make(self, *words: str, exit_code: int = 0) -> list[str]:
        """The tasks that ran, in order."""
        done = subprocess.run(
            ["make", f"MLCUBE={sys.executable} -m mlcube_cli", "PLATFORM=local", *words],
            cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == exit_code, done.stderr
        self.errors = done.stderr
        return [line[len("did ") :] for line in done.stdout.splitlines() if line.startswith("did ")]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_only_what_changed_runs_again(pipeline: Pipeline) -> None:
    assert pipeline.make("-j4") == ["sample", "train"]
    assert pipeline.make() == []

    pipeline.write("workspace/parameters/default.parameters.yaml", "optimizer: sgd\n")
    assert pipeline.make() == ["train"]
    pipeline.write("build/mnist.py", PROGRAM)
    assert pipeline.make() == ["sample", "train"]
    assert pipeline.make() == []


def test_what_was_removed_is_made_again(pipeline: Pipeline) -> None:
    pipeline.make()
    (pipeline.root / "workspace/model/model.keras").unlink()
    assert pipeline.make() == ["train"]
    shutil.rmtree(pipeline.root / "workspace/data")
    assert pipeline.make() == ["sample", "train"]
    assert pipeline.make("clean") == []
    assert sorted(path.name for path in (pipeline.root / "workspace").iterdir() if path.name != ".mlcube") == ["parameters"]
    assert pipeline.make() == ["sample", "train"]


def test_another_data_set_takes_the_place_of_the_first(pipeline: Pipeline) -> None:
    assert pipeline.make() == ["sample", "train"]
    assert pipeline.make("DATA=download") == ["download", "train"]
    assert pipeline.make("DATA=download") == []
    assert pipeline.make() == ["sample", "train"]


def test_a_failed_task_stops_make_and_runs_again(pipeline: Pipeline) -> None:
    pipeline.write("workspace/parameters/default.parameters.yaml", "fail: 1\n")
    assert pipeline.make(exit_code=2) == ["sample", "train"]
    assert "Error 7" in pipeline.errors
    pipeline.write("workspace/parameters/default.parameters.yaml", "optimizer: adam\n")
    assert pipeline.make() == ["train"]
