"""The id that a cube keeps for its directories on other machines."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from mlcube_cli.cube_id import find_id, keep_id
from tests.cubes import write_tree


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "cube", {"mlcube.yaml": "name: x\n"})


def kept(cube: Path) -> Path:
    return cube / "workspace/.mlcube/id"


def keep(cube: Path, state: Path | None = None) -> str:
    found = find_id(str(cube), str(state) if state else None)
    keep_id(str(cube), str(state) if state else None, found)
    return found


def test_nothing_is_written_until_it_is_kept_and_it_is_the_same_before_and_after(cube: Path) -> None:
    first = find_id(str(cube), None)
    assert re.fullmatch("[0-9a-f]{8}", first) and not (cube / "workspace").exists()
    assert keep(cube) == first == find_id(str(cube), None)
    before = kept(cube).stat()
    assert keep(cube) == first and kept(cube).stat().st_mtime_ns == before.st_mtime_ns


def test_it_survives_a_move_another_host_name_and_the_loss_of_the_file(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep(cube)
    shutil.rmtree(cube / "workspace")
    assert find_id(str(cube), None) == first
    keep(cube)
    moved = cube.rename(cube.parent / "moved")
    assert find_id(str(moved), None) == first
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "another-name", "1", "1", "x86_64")))
    assert find_id(str(moved), None) == first


def test_a_copy_is_another_cube(cube: Path) -> None:
    first = keep(cube)
    copy = cube.parent / "copy"
    shutil.copytree(cube, copy)
    assert keep(copy) != first
    assert keep(copy) == find_id(str(copy), None) and find_id(str(cube), None) == first


def test_a_link_to_a_cube_is_the_cube(cube: Path) -> None:
    link = cube.parent / "link"
    link.symlink_to(cube)
    assert find_id(str(link), None) == find_id(str(cube), None)
    first = keep(cube)
    assert find_id(str(link), None) == first


@pytest.mark.parametrize("text", ["../../.ssh", "..", "a/b", "ABCDEF01", "1234567", "123456789", "$(id)", "", "12345678\nx"])
def test_an_id_that_somebody_else_wrote_names_no_other_directory(cube: Path, text: str) -> None:
    write_tree(cube, {"workspace/.mlcube/id": ""})
    kept(cube).write_text(f"{text} {cube.stat().st_ino}\n")
    assert re.fullmatch("[0-9a-f]{8}", find_id(str(cube), None))


def test_where_the_cube_cannot_be_written_the_users_own_state_keeps_it(cube: Path, tmp_path: Path) -> None:
    (cube / "workspace").write_text("in the way, as a directory without permission is for others than root")
    first = keep(cube, tmp_path / "state")
    files = [path for path in (tmp_path / "state/cubes").iterdir() if path.is_file()]
    assert [path.read_text() for path in files] == [f"{first} {cube.stat().st_ino}\n"]
    assert find_id(str(cube), str(tmp_path / "state")) == first
    keep_id(str(cube), None, first)  # nowhere at all: nothing happens
    assert (cube / "workspace").is_file()


def test_a_file_that_is_no_text(cube: Path) -> None:
    write_tree(cube, {"workspace/.mlcube/id": ""})
    kept(cube).write_bytes(b"\xff\xfe" * 1000)
    assert keep(cube) == find_id(str(cube), None)
