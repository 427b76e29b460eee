"""The examples on the local platform: real environments, and a real TensorFlow that learns real digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RunMLCube, clean_environment
from tests.examples import Served, copy_example, one_epoch, records, trained
from tests.integration.resident import peak_resident

NO_NETWORK = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_OFFLINE": "1"}
MLBOX = (sys.executable, "-m", "mlbox")


def finished_environments(shared_home: Path) -> list[str]:
    """The finished environments: each is a link to a directory that was filled before."""
    return sorted(path.name for path in (shared_home / "environments").iterdir() if path.is_symlink())


@pytest.mark.slow
def test_the_mnist_cube_trains_a_model_that_reads_digits(run_mlcube: RunMLCube, shared_home: Path, tmp_path: Path) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    here = {"MLCUBE_HOME": str(shared_home)}

    done = run_mlcube("run", str(cube), "--platform", "local", "--task", "sample,train", env=here, timeout=900)

    assert done.exit_code == 0, done.stderr
    workspace = cube / "workspace"
    result = trained(workspace / "model", workspace / "train_logs")
    assert result.accuracy >= 0.95
    assert result.digits == {"train": 1498, "test": 299}
    assert f"test accuracy: {result.accuracy:.4f}" in done.stdout
    assert "CC BY 4.0" in (workspace / "data/SOURCE.txt").read_text()
    assert "299 to test on" in (workspace / "sample_logs/sample.log").read_text()
    assert records(workspace) == {"sample": "succeeded", "train": "succeeded"}
    assert sorted(path.name for path in cube.iterdir()) == sorted(path.name for path in copy_example(
        "mnist", tmp_path / "untouched").iterdir()), "what a run makes lies in the workspace and in the cache"

    made = finished_environments(shared_home)
    again = run_mlcube("run", str(cube), "--platform", "local", "--task", "sample", env={**here, **NO_NETWORK})
    assert (again.exit_code, again.stderr) == (0, ""), "the environment is there: nothing to install, nothing to say"
    assert finished_environments(shared_home) == made


@pytest.mark.slow
def test_the_mlbox_on_bare_metal_trains_in_the_same_environment(run_mlcube: RunMLCube, shared_home: Path,
                                                                tmp_path: Path) -> None:
    box = copy_example("mlbox/mnist/baremetal", tmp_path / "examples/mlbox/mnist/baremetal")
    one_epoch(box)
    here = {"MLCUBE_HOME": str(shared_home)}

    for task in ("sample", "train"):
        done = run_mlcube("run", f"examples/mlbox/mnist/baremetal:{task}", env=here, command=MLBOX, timeout=900)
        assert done.exit_code == 0, done.stderr

    assert trained(box / "workspace/model", box / "workspace/log").digits == {"train": 1498, "test": 299}
    assert len(finished_environments(shared_home)) == 1, "the same requirements: one environment for both cubes"


@pytest.mark.slow
def test_download_fetches_from_the_address_in_the_environment(run_mlcube: RunMLCube, shared_home: Path, tmp_path: Path,
                                                              digits: Served) -> None:
    cube = copy_example("mnist", tmp_path / "mnist")
    here = {"MLCUBE_HOME": str(shared_home)}

    wrong = run_mlcube("run", "mnist", "--platform", "local", "--task", "download", timeout=900,
                       env={**here, "MNIST_URL": digits.url})
    assert wrong.exit_code == 1 and "wrong checksum" in wrong.stderr
    assert not (cube / "workspace/data/mnist.npz").exists()

    done = run_mlcube("run", "mnist", "--platform", "local", "--task", "download", env={**here, **digits.environment})
    assert done.exit_code == 0, done.stderr
    assert digits.sha256 in (cube / "workspace/data/SOURCE.txt").read_text()
    assert f"downloading {digits.url}" in (cube / "workspace/download_logs/download.log").read_text()
    assert "100 %" in done.stderr, "the progress"


@pytest.mark.slow
def test_the_program_runs_by_hand(run_mlcube: RunMLCube, shared_home: Path, tmp_path: Path) -> None:
    """`cd build && python mnist.py ...`, as the cube's page asks for: the example does not depend on us."""
    cube = copy_example("mnist", tmp_path / "mnist")
    one_epoch(cube)
    configured = run_mlcube("configure", "mnist", "--platform", "local", env={"MLCUBE_HOME": str(shared_home)}, timeout=900)
    assert configured.exit_code == 0, configured.stderr
    (name,) = finished_environments(shared_home)
    python = str(shared_home / "environments" / name / "bin/python")

    sample = ["sample", f"--data_dir={tmp_path}/data", f"--log_dir={tmp_path}/log"]
    train = ["train", *sample[1:], f"--model_dir={tmp_path}/model",
             f"--parameters_file={cube}/workspace/parameters/default.parameters.yaml"]
    for words in (sample, train):
        subprocess.run([python, "mnist.py", *words], cwd=cube / "build", check=True, capture_output=True, timeout=300)

    assert trained(tmp_path / "model", tmp_path / "log").digits == {"train": 1498, "test": 299}


def test_hello(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = copy_example("hello", tmp_path / "hello")
    done = run_mlcube("run", "hello", "--platform", "local", "--task", "hello,bye")
    said = done.stdout.splitlines()
    assert (done.exit_code, done.stderr, len(said)) == (0, "", 3)
    assert (said[0], said[2]) == ("The greeting is written.", "Bye.")
    assert f"{said[1]}\n" == (cube / "workspace/greeting.txt").read_text() and said[1].startswith("Hello from ")


# --- the output of a task passes through us untouched ------------------------------------------------------------------

RAW = b"  1 %\r 50 %\r100 %\r\n\xff\xfe not UTF-8 \x80\x00\x1b[0m\r\n no newline at the end\xc3"
CUBE = """\
name: talkative
tasks:
  raw: {entrypoint: sh raw.sh}
  much: {entrypoint: head -c 1073741824 /dev/zero}
local:
"""


@pytest.fixture
def talkative(tmp_path: Path) -> Path:
    cube = tmp_path / "talkative"
    cube.mkdir()
    (cube / "mlcube.yaml").write_text(CUBE)
    (cube / "raw").write_bytes(RAW)
    (cube / "raw.sh").write_text("cat raw; cat raw >&2")
    return cube


def test_every_byte_of_the_output_arrives(talkative: Path, home: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mlcube_cli", "run", str(talkative), "--task=raw"], check=True,
                          capture_output=True, env=clean_environment(home), timeout=60)
    assert (done.stdout, done.stderr) == (RAW, RAW)


@pytest.mark.slow
def test_a_gigabyte_of_output_costs_no_memory(talkative: Path, home: Path) -> None:
    count, megabytes = peak_resident([sys.executable, "-m", "mlcube_cli", "run", str(talkative), "--task=much"],
                                     clean_environment(home))
    assert count == 1 << 30
    assert megabytes < 60
