"""The programs of the examples two_ranks and sweep by themselves: ranks as processes with variables, and wrong parameters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.examples import EXAMPLES

RANKS, SWEEP = EXAMPLES / "two_ranks", EXAMPLES / "sweep"
PARAMETERS = {"learning_rate": "0.5", "epochs": "3", "seed": "1"}
DIGITS = {"learning_rate": "0.1", "epochs": "1", "batch_size": "32", "weight_decay": "0", "seed": "1"}


def start(example: Path, place: Path, parameters: dict[str, str], **environment: object) -> subprocess.Popen[str]:
    """The program's `train`; what it writes goes to a directory `model` below `place`."""
    (place / "model").mkdir(exist_ok=True)
    file = place / "parameters.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in parameters.items()))
    words = [sys.executable, str(example / "train.py"), "train", f"--parameters_file={file}", f"--model_dir={place}/model"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **{name: str(value) for name, value in environment.items()}})


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def weights_of(place: Path) -> list[float]:
    found: list[float] = json.loads((place / "model/model.json").read_text())["weights"]
    return found


def ranks(place: Path, size: int, *started: int) -> list[subprocess.Popen[str]]:
    port = free_port()
    return [start(RANKS, place, PARAMETERS, RANK=rank, WORLD_SIZE=size, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            for rank in started]


def test_three_ranks_train_the_model_of_one(tmp_path: Path) -> None:
    alone = start(RANKS, tmp_path, PARAMETERS)
    assert "rank 0 of 1" in alone.communicate(timeout=60)[0]
    expected = weights_of(tmp_path)
    said = [one.communicate(timeout=60) for one in ranks(tmp_path, 3, 2, 1, 0)]
    assert [errors for _, errors in said] == ["", "", ""]
    assert [text.count("epoch") for text, _ in said] == [0, 0, 3] and "rank 2 of 3" in said[0][0]
    assert weights_of(tmp_path) == pytest.approx(expected, abs=1e-12)
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert (metrics["ranks"], metrics["hosts"]) == (3, [socket.gethostname()])


def test_a_rank_that_loses_another_one_ends(tmp_path: Path) -> None:
    (first,) = ranks(tmp_path, 2, 0)
    port = int(next(word for word in Path(f"/proc/{first.pid}/environ").read_text().split("\0")
                    if word.startswith("MASTER_PORT="))[len("MASTER_PORT="):])
    deadline = time.monotonic() + 30
    while True:
        try:
            other = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    other.sendall(b"\0\0\0\x011")
    other.close()
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 1 and errors.startswith("error: ") and len(errors.splitlines()) == 1
    assert not (tmp_path / "model/metrics.json").exists()


@pytest.mark.parametrize(("name", "value", "sentence"), [
    ("learning_rate", "high", "learning_rate: not a number: 'high'"),
    ("learning_rate", "nan", "learning_rate: not a number: 'nan'"),
    ("learning_rate", "0", "must be positive"),
    ("epochs", "1.5", "epochs: must be a whole number, not 1.5"),
    ("batchsize", "1", "batchsize: unknown; known are learning_rate, epochs, batch_size, weight_decay, seed"),
])
def test_wrong_parameters_are_one_line(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    _, errors = (done := start(SWEEP, tmp_path, {**DIGITS, name: value})).communicate(timeout=60)
    assert done.returncode == 1 and len(errors.splitlines()) == 1
    assert errors.startswith(f"error: {tmp_path}/parameters.yaml") and sentence in errors


def test_a_missing_parameter_is_named(tmp_path: Path) -> None:
    parameters = {name: value for name, value in DIGITS.items() if name != "seed"}
    assert "seed: missing" in start(SWEEP, tmp_path, parameters).communicate(timeout=60)[1]


@pytest.mark.parametrize("learning_rate", ["1e-9", "1e6"])
def test_a_hopeless_learning_rate_still_gives_metrics(tmp_path: Path, learning_rate: str) -> None:
    done = start(SWEEP, tmp_path, {**DIGITS, "learning_rate": learning_rate, "weight_decay": "0.1"})
    assert done.communicate(timeout=60)[1] == "" and done.returncode == 0
    metrics = json.loads((tmp_path / "model/metrics.json").read_text(), parse_constant=pytest.fail)
    assert 0 <= metrics["accuracy"] <= 0.9


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    found = []
    for seed in ("7", "7", "8"):
        start(SWEEP, tmp_path, {**DIGITS, "seed": seed}).communicate(timeout=60)
        found.append((tmp_path / "model/model.json").read_text())
    assert found[0] == found[1] != found[2]


def test_the_digits_are_those_of_mnists_sample() -> None:
    stated = re.search(r"sha256: `([0-9a-f]{64})`", (SWEEP / "data/README.md").read_text())
    digits = (SWEEP / "data/digits.csv.gz").read_bytes()
    assert stated is not None and stated.group(1) == hashlib.sha256(digits).hexdigest()
    assert digits == (EXAMPLES / "mnist/build/data/digits.csv.gz").read_bytes()
