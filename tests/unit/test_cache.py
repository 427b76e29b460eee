"""The cache directory: where it is, and when there is none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlcube_cli.cache import find_cache

UID = os.getuid()


def test_the_order_of_the_candidates(tmp_path: Path) -> None:
    everything = {"MLCUBE_HOME": str(tmp_path / "own"), "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    assert find_cache(everything, UID) == str(tmp_path / "own")
    del everything["MLCUBE_HOME"]
    assert find_cache(everything, UID) == str(tmp_path / "xdg" / "mlcube")
    del everything["XDG_CACHE_HOME"]
    assert find_cache(everything, UID) == str(tmp_path / ".cache" / "mlcube")


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "relative"}, {"MLCUBE_HOME": "relative"},
                                         {"XDG_CACHE_HOME": "relative"}, {"MLCUBE_HOME": ""}])
def test_without_an_absolute_place_there_is_no_cache(environment: dict[str, str], tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_cache(environment, UID) is None
    assert list(tmp_path.iterdir()) == []


def test_relative_values_are_passed_over(tmp_path: Path) -> None:
    environment = {"MLCUBE_HOME": "x", "XDG_CACHE_HOME": "y", "HOME": str(tmp_path)}
    assert find_cache(environment, UID) == str(tmp_path / ".cache" / "mlcube")


def test_it_is_made_for_the_caller_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        found = find_cache({"HOME": str(tmp_path)}, UID)
    finally:
        os.umask(before)
    assert found is not None
    for path in (found, os.path.dirname(found)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_into_is_not_used(tmp_path: Path, mode: int) -> None:
    own = tmp_path / "own"
    own.mkdir()
    own.chmod(mode)
    assert find_cache({"MLCUBE_HOME": str(own)}, UID) is None


def test_another_owners_directory_is_not_used(tmp_path: Path) -> None:
    assert find_cache({"MLCUBE_HOME": str(tmp_path)}, UID + 1) is None


def test_another_owners_home_is_left_alone(tmp_path: Path) -> None:
    """`sudo mlcube` keeps HOME on some systems: nothing of root's may appear in it."""
    home = {"HOME": str(tmp_path)}
    assert find_cache(home, UID + 1) is None
    assert find_cache({**home, "XDG_CACHE_HOME": str(tmp_path / "cache")}, UID + 1) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below", "a\0b"])
def test_a_place_that_cannot_be_made_is_no_cache(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    assert find_cache({"MLCUBE_HOME": f"{tmp_path}/{name}"}, UID) is None


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    assert find_cache({"HOME": str(tmp_path / "nobody")}, UID) is None
    assert not (tmp_path / "nobody").exists()


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    home = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(home)
    assert find_cache({"HOME": home}, UID) == f"{home}/.cache/mlcube"


def test_the_module_costs_nothing_to_import() -> None:
    script = ("import __future__, os, stat, sys, collections.abc; before = set(sys.modules); import mlcube_cli.cache; "
              "print(*sorted(set(sys.modules) - before))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mlcube_cli", "mlcube_cli.cache"]
