"""Time limits and sizes of memory as batch systems write them: what is read, and that what is written reads back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.quantities import find_bytes, find_time_limit, size_text, time_limit_text


@pytest.mark.parametrize(("text", "seconds"), [
    ("90", 5400), ("1:30", 90), ("1:30:00", 5400), ("1-12", 129600), ("1-12:30", 131400), ("1-0:0:5", 86405), ("0", 0),
    ("2h", 7200), ("1.5h", 5400), ("30s", 30), ("0.5s", 1), ("1d", 86400), (" 2H ", 7200), ("UNLIMITED", 0), ("infinite", 0)])
def test_a_time_limit(text: str, seconds: int) -> None:
    assert find_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1-", "1:2:3:4", "1.5", "tomorrow", "1 h", "1e3", "\u0661", "1-2-3", "9" * 40])
def test_what_is_no_time_limit(text: str) -> None:
    assert find_time_limit(text) is None


@pytest.mark.parametrize(("seconds", "text"), [
    (5400, "01:30:00"), (129600, "1-12:00:00"), (30, "00:00:30"), (0, "UNLIMITED"), (86399, "23:59:59")])
def test_a_time_limit_as_slurm_writes_it(seconds: int, text: str) -> None:
    assert time_limit_text(seconds) == text


@given(st.integers(0, 10 ** 10))
def test_a_time_limit_reads_back(seconds: int) -> None:
    assert find_time_limit(time_limit_text(seconds)) == seconds


@pytest.mark.parametrize(("text", "size"), [
    ("16G", 16 << 30), ("16g", 16 << 30), ("16GB", 16 << 30), ("16 GiB", 16 << 30), ("500", 500 << 20), ("1.5T", 1536 << 30),
    ("64K", 64 << 10), ("2M", 2 << 20), ("0", 0), ("0.5K", 512)])
def test_a_size(text: str, size: int) -> None:
    assert find_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "16 apples", "-1G", "1,5G", "16P", "1e3", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    assert find_bytes(text) is None


@pytest.mark.parametrize(("size", "text"), [
    (16 << 30, "16G"), (1536 << 30, "1536G"), (2 << 40, "2T"), (500 << 20, "500M"), (1, "1K"), (1025, "2K"), (0, "0")])
def test_a_size_as_slurm_writes_it(size: int, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(0, 10 ** 12))
def test_a_size_of_whole_kibibytes_reads_back(kibibytes: int) -> None:
    assert find_bytes(size_text(kibibytes * 1024)) == kibibytes * 1024
