"""Small files are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.atomic import write_bytes, write_text


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a b"
    path.write_text("old, and longer than the new one")
    write_text(str(path), "n\udcff\n", modified=12.0)
    assert path.read_bytes() == b"n\xff\n" and path.stat().st_mtime == 12.0
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_take_the_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_bytes(str(tmp_path / "taken"), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
