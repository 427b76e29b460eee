"""Sizes and sha256 of inputs and outputs: every kind of file, any name, nothing read twice, changes named."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from mlcube_cli.cache.digests import SETTLED
from mlcube_cli.measures import ENOUGH, FULL, GIVEN_UP, NONE, SIZES, Want, differences, keep_manifest, load_manifest, measure


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def plain(**settings: object) -> Want:
    return Want(environment=None, **settings)  # type: ignore[arg-type]



def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc\0")
    found = measure(str(tmp_path / "f"), plain())
    assert (found.kind, found.size, found.files, found.hashing, found.sha256) == ("file", 4, 1, FULL, sha256(b"abc\0"))
    assert found.as_data()["manifest"] is None


def test_a_directory_is_known_by_all_that_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "d"
    (root / "empty").mkdir(parents=True)
    (root / os.fsdecode(b"odd \n \xff name")).write_text("x")
    (root / "link").symlink_to("/nowhere")
    os.mkfifo(root / "pipe")
    before = measure(str(root), plain())
    assert (before.kind, before.size, before.files, before.note) == ("directory", 1, 1, "")
    assert before.sha256 == sha256(before.manifest) and before.as_data()["manifest"] == before.sha256[7:]
    changes = {
        "a file's content": lambda: (root / os.fsdecode(b"odd \n \xff name")).write_text("y"),
        "an executable bit": lambda: (root / os.fsdecode(b"odd \n \xff name")).chmod(0o755),
        "a link's target": lambda: ((root / "link").unlink(), (root / "link").symlink_to("/elsewhere")),
        "an empty directory": lambda: (root / "empty").rmdir(),
        "a new directory": lambda: (root / "more").mkdir(),
    }
    seen = {before.sha256}
    for what, change in changes.items():
        change()
        now = measure(str(root), plain()).sha256
        assert now not in seen, what
        seen.add(now)


def test_where_a_directory_lies_and_what_is_ours_in_it_does_not_count(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
    (tmp_path / "two/.mlcube/runs").mkdir(parents=True)
    assert measure(str(tmp_path / "one"), plain()).sha256 == measure(str(tmp_path / "two"), plain()).sha256


def test_a_link_is_followed_only_at_the_path_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/f").write_text("x")
    (tmp_path / "real/out").symlink_to("/etc")
    (tmp_path / "link").symlink_to("real")
    assert measure(str(tmp_path / "link"), plain()) == measure(str(tmp_path / "real"), plain())
    assert measure(str(tmp_path / "link"), plain()).files == 1


def test_what_is_not_there_cannot_be_read_or_is_something_else_is_said(tmp_path: Path) -> None:
    assert measure(str(tmp_path / "no"), plain()).kind == "absent"
    assert measure(str(tmp_path) + "\0", plain()).kind == "absent"
    os.mkfifo(tmp_path / "pipe")
    assert measure(str(tmp_path / "pipe"), plain()).kind == "other"


def test_a_file_that_cannot_be_read_leaves_no_digest_but_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    (tmp_path / "d/g").write_text("y")
    real = os.open

    def refuse(path: object, *rest: object, **more: object) -> int:  # whoever is root may read everything
        if os.fsdecode(path).endswith("/g"):  # type: ignore[arg-type]
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    found = measure(str(tmp_path / "d"), plain())
    assert (found.sha256, found.size, found.files) == ("", 2, 2) and "1 file could not be read" in found.note
    assert found.note.endswith(": g")
    alone = measure(str(tmp_path / "d/g"), plain())
    assert (alone.sha256, alone.hashing) == ("", SIZES) and alone.note


def test_above_a_gigabyte_sizes_and_times_are_enough(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as stream:
        stream.truncate(ENOUGH + 1)
    assert (measure(str(tmp_path / "sparse"), plain()).hashing, measure(str(tmp_path), plain()).hashing) == (SIZES, SIZES)
    assert measure(str(tmp_path), plain()).sha256 == ""


def test_hashing_can_be_turned_off(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("abc")
    found = measure(str(tmp_path / "f"), plain(hashing=NONE))
    assert (found.kind, found.size, found.sha256, found.hashing) == ("file", 3, "", NONE)
    assert measure(str(tmp_path), plain(hashing=NONE)).manifest_name == ""
    light = measure(str(tmp_path), plain(hashing=SIZES))
    os.utime(tmp_path / "f", (5, 5))
    assert light.sha256 == "" and light.manifest_name != measure(str(tmp_path), plain(hashing=SIZES)).manifest_name


def test_somebody_in_a_hurry_gets_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("abc")
    assert measure(str(tmp_path), plain(give_up=lambda: True)).note == GIVEN_UP
    assert measure(str(tmp_path / "f"), plain(give_up=lambda: True)).note == GIVEN_UP


def test_too_many_entries_are_not_looked_at(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_text("")
    assert "more than 4" in measure(str(tmp_path), plain(most=4)).note
    assert measure(str(tmp_path), plain(most=5)).sha256


# --- nothing is read twice -------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read."""
    import mlcube_cli.measures as measures

    real, found = measures.read_digest, []

    def watched(path: str, *rest: object) -> object:
        found.append(os.path.basename(path))
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measures, "read_digest", watched)
    return found


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds have passed since the files were written."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + SETTLED + 1)


LONG = "1" * (2 << 20)  # what is not read again for nothing


def test_a_file_is_read_once_as_long_as_it_is_the_same(tmp_path: Path, reads: list[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"MLCUBE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    root = tmp_path / "d"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_text(LONG)
    (root / "sub/b").write_text("2")
    (tmp_path / "alone").write_text(LONG)
    later(monkeypatch)
    first = measure(str(root), Want(environment=environment))
    assert sorted(reads) == ["a", "b"]
    assert measure(str(root), Want(environment=environment)) == first and len(reads) == 2
    (root / "sub/b").write_text("4")  # the same size
    assert measure(str(root), Want(environment=environment)) != first
    assert reads[2:] == ["b"]
    for _ in range(2):
        assert measure(str(tmp_path / "alone"), Want(environment=environment)).sha256 == sha256(LONG.encode())
    assert reads[3:] == ["alone"]
    assert measure(str(root), Want(environment=None)).sha256 and sorted(reads[4:]) == ["a", "b"]


def test_what_changed_a_moment_ago_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    environment = {"MLCUBE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    (tmp_path / "f").write_text("1")
    for _ in range(2):
        measure(str(tmp_path / "f"), Want(environment=environment))
    assert reads == ["f", "f"]


def test_a_damaged_memory_is_no_memory(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"MLCUBE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    (tmp_path / "f").write_text(LONG)
    later(monkeypatch)
    measure(str(tmp_path / "f"), Want(environment=environment))
    (kept,) = (tmp_path / "cache/digests").iterdir()
    kept.write_bytes(b"\0 \0x y z\0\xff")
    assert measure(str(tmp_path / "f"), Want(environment=environment)).sha256 == sha256(LONG.encode()) and len(reads) == 2


def test_of_little_files_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"MLCUBE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    (tmp_path / "f").write_text("1")
    later(monkeypatch)
    measure(str(tmp_path / "f"), Want(environment=environment))
    assert not (tmp_path / "cache/digests").exists()


def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (8 << 20))
    asked = []

    def touch() -> bool:
        asked.append(1)
        os.utime(path, (len(asked), len(asked)))
        return False

    found = measure(str(path), plain(give_up=touch))
    assert found.sha256 == "" and "changed meanwhile" in found.note and len(asked) >= 8


# --- manifests -------------------------------------------------------------------------------------------------------


def test_what_could_not_be_read_differs_only_by_its_size() -> None:
    entries = {"read": b"f 3 %s a\0" % (b"0" * 64), "unread": b"f 3 ? a\0", "longer": b"f 4 ? a\0"}
    assert differences(entries["read"], entries["unread"]) == differences(entries["unread"], entries["read"]) == []
    assert differences(entries["read"], entries["longer"]) == [("a", "changed")]
    assert differences(b"", entries["unread"]) == [("a", "new")] and differences(entries["unread"], b"") == [("a", "gone")]


def test_differences_are_named(tmp_path: Path) -> None:
    root, workspace = tmp_path / "d", tmp_path / "w"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "sub/b", os.fsdecode(b"\xff\n")):
        (root / name).write_text("1")
    before = measure(str(root), plain())
    keep_manifest(str(workspace), before)
    (root / "sub/b").write_text("2")
    (root / os.fsdecode(b"\xff\n")).unlink()
    (root / "new").mkdir()
    kept = load_manifest(str(workspace), before.manifest_name)
    assert kept == before.manifest
    assert differences(kept or b"", measure(str(root), plain()).manifest) == [
        ("new", "new"), ("sub/b", "changed"), (os.fsdecode(b"\xff\n"), "gone")]


def test_a_manifest_that_was_changed_is_none(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    found = measure(str(tmp_path / "d"), plain())
    keep_manifest(str(tmp_path), found)
    assert load_manifest(str(tmp_path), found.manifest_name) == b""
    (tmp_path / ".mlcube/manifests" / found.manifest_name).write_bytes(b"f 1 x y\0")
    assert load_manifest(str(tmp_path), found.manifest_name) is None
    assert load_manifest(str(tmp_path), "no such") is None


def test_where_no_manifest_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_manifest(str(tmp_path / "file"), measure(str(tmp_path), plain()))
    assert (tmp_path / "file").read_text() == ""


def test_two_who_measure_the_same_get_the_same(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).write_text(str(number))
    environment = {"MLCUBE_HOME": str(tmp_path / ".mlcube/cache"), "HOME": str(tmp_path)}
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(measure(str(tmp_path), Want(environment=environment)).sha256))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1 and found[0]
