"""Stress-sized cases of a machine behind ssh, run by `make stress` only; tests/integration holds small versions."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.integration.far import make_far
from tests.integration.gpu_box import Box

pytestmark = [pytest.mark.stress, pytest.mark.ssh]


def test_a_hundred_thousand_small_files_there_and_back(broken_box: Box, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    far = make_far(broken_box, "ada", run_mlcube, tmp_path)
    for folder in range(100):
        directory = far.workspace / f"data/{folder}"
        directory.mkdir(parents=True)
        for number in range(1_000):
            os.close(os.open(directory / str(number), os.O_CREAT | os.O_WRONLY))
    far.script('cp -R "$data/." "$result/"; find "$data" -type f | wc -l >"$result/count"\n')
    far.run(timeout=600)
    assert (far.result / "count").read_text().strip() == "100001"
    assert sum(len(files) for _, _, files in os.walk(far.result)) == 100_002
    began = time.monotonic()
    far.script('find "$data" -type f | wc -l >"$result/count"\n')
    far.run(timeout=600)
    assert time.monotonic() - began < 60


def test_one_file_of_two_gigabytes_there_and_back_with_a_cut_on_the_way(broken_box: Box, run_mlcube: RunMLCube,
                                                                      tmp_path: Path) -> None:
    far = make_far(broken_box, "ada", run_mlcube, tmp_path)
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with (far.workspace / "data/big").open("wb") as file:
        for number in range(2048):
            part = number.to_bytes(8, "big") + block[8:]
            digest.update(part)
            file.write(part)
    far.script('cp "$data/big" "$result/big"\n')
    with far.started("--task", "work") as started:
        broken_box.until('find "$1"/.mlcube -size +300M 2>/dev/null | grep -q .', far.far_home)
        broken_box.cut()
        assert started.end().exit_code == 6
    assert not broken_box.exists(f"{far.root}/workspace/data/big")
    far.run(timeout=600)
    found = hashlib.sha256()
    with (far.result / "big").open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    assert found.digest() == digest.digest()
