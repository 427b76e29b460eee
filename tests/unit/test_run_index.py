"""The index of what was started: what is kept comes back, and nothing that lies there stops anybody."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mlcube_cli.errors import UsageError
from mlcube_cli.locks import myself
from mlcube_cli.run_index import (
    Entry,
    RunTask,
    Supervised,
    find_runs,
    forget,
    index_directory,
    make_room,
    read_index,
    write_entry,
)

ID = "20260102T030405-abcdef"


def entry_of(identifier: str = ID, tasks: int = 1, **fields: object) -> Entry:
    listed = tuple(RunTask(f"t{number}", f"{identifier}-{number}", f"/w/\udcff/{number}") for number in range(1, tasks + 1))
    return replace(Entry(identifier, 1.5, "cube", "/c", "/w", "docker", "docker", listed), **fields)


def test_an_entry_comes_back_as_it_was_whatever_bytes_are_in_its_paths(tmp_path):
    owner = replace(myself(), token="")
    there = Supervised(("ssh", "-T", "box", "exec sh -s"), "box", "/r/d\n\udcfe", {f"{ID}-1": "/r/d/t"}, -3.5)
    for entry in (entry_of(), entry_of(owner=owner), entry_of(supervised=there, fetch={"any": [1]}, message="no", settled=True),
                  entry_of(tasks=2)):
        write_entry(str(tmp_path), entry)
        assert read_index(str(tmp_path)).entries == (entry,)


def test_nobody_else_can_read_the_index(tmp_path):
    directory = str(tmp_path / "a/b")
    path = write_entry(directory, entry_of())
    assert (os.stat(directory).st_mode & 0o777, os.stat(path).st_mode & 0o777) == (0o700, 0o600)


def test_a_directory_that_others_may_write_into_is_not_used(tmp_path):
    os.chmod(tmp_path, 0o777)
    with pytest.raises(PermissionError):
        write_entry(str(tmp_path), entry_of())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', '{"schema": "mlcube.run-index.v1"}', "\0\xff"])
def test_files_that_are_no_entries_are_named_and_in_nobodys_way(tmp_path, text):
    write_entry(str(tmp_path), entry_of())
    (tmp_path / "20270101T000000-000000.json").write_text(text)
    index = read_index(str(tmp_path))
    assert [entry.id for entry in index.entries] == [ID]
    assert index.broken == (str(tmp_path / "20270101T000000-000000.json"),)


def test_an_entry_under_another_name_than_its_own_is_none(tmp_path):
    os.rename(write_entry(str(tmp_path), entry_of()), tmp_path / "other.json")
    assert read_index(str(tmp_path)).entries == ()


def test_no_index_is_an_empty_one(tmp_path):
    assert read_index(str(tmp_path / "absent")).entries == ()


def test_the_newest_comes_first_and_is_meant_where_no_run_is_named(tmp_path):
    for name in ("20260102T030405-aaaaaa", "20260103T030405-bbbbbb"):
        write_entry(str(tmp_path), entry_of(name))
    entries = read_index(str(tmp_path)).entries
    assert [entry.id[-1] for entry in entries] == ["b", "a"]
    assert find_runs(entries, None)[0].id == "20260103T030405-bbbbbb"


def test_a_run_is_found_by_its_id_its_commands_id_or_a_part_that_is_its_alone():
    entries = (entry_of("20260103T030405-bbbbbb", 2), entry_of("20260102T030405-aaaaaa"))
    first, second = entries[0].tasks
    for word, found in {"20260103T030405-bbbbbb-2": (second,),
                        "20260103T030405-bbbbbb": (first, second), "bbb": (first, second),
                        "bbb-1": (first,), "20260102": entries[1].tasks}.items():
        assert find_runs(entries, word)[1] == found, word


@pytest.mark.parametrize(("word", "said"), [("2026", "may be any of 2 runs"), ("nothing", "there is no run 'nothing'")])
def test_a_word_that_means_no_single_run_is_an_error(word, said):
    with pytest.raises(UsageError, match=said):
        find_runs((entry_of("20260103T030405-bbbbbb"), entry_of("20260102T030405-aaaaaa")), word)
    with pytest.raises(UsageError, match="nothing was started"):
        find_runs((), None)


def test_only_the_oldest_that_have_ended_are_forgotten(tmp_path):
    for day, settled in ((1, True), (2, False), (3, True), (4, True)):
        write_entry(str(tmp_path), entry_of(f"2026010{day}T030405-aaaaaa", settled=settled))
    make_room(str(tmp_path), kept=2)
    assert [entry.id[7] for entry in read_index(str(tmp_path)).entries] == ["4", "3", "2"]
    forget(str(tmp_path), "20260104T030405-aaaaaa")
    forget(str(tmp_path), "20260104T030405-aaaaaa")
    assert [entry.id[7] for entry in read_index(str(tmp_path)).entries] == ["3", "2"]


def test_the_index_lies_in_the_state_directory_not_in_the_cache():
    assert index_directory({"XDG_STATE_HOME": "/s"}, "/home/ada") == "/s/mlcube/runs"
    for relative in ({}, {"XDG_STATE_HOME": "s"}):
        assert index_directory(relative, "/home/ada") == "/home/ada/.local/state/mlcube/runs"
