"""Who may write where at once: entries of the index hold the outputs of their runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.command import Command
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Observation
from mlcube_cli.family import MARKER
from mlcube_cli.holding import hold, meeting, refuse_held
from mlcube_cli.locks import myself
from mlcube_cli.run_index import Entry, RunTask, Supervised, read_index

LIVING = replace(myself(), token="")
KILLED = replace(LIVING, boot="another")
NUMBERS = iter(range(1, 1000))


def entry_of(*paths: str, place: str = "", **fields: object) -> Entry:
    identifier = f"20260102T030405-{next(NUMBERS):06x}"
    task = RunTask("train", f"{identifier}-1", f"/nowhere/{identifier}")
    entry = Entry(identifier, 1.5, "cube", "/c", "/w", "local", "local", (task,), LIVING, writes={place: paths})
    return replace(entry, **fields)  # type: ignore[arg-type]


def over(entry: Entry) -> Entry:
    return replace(entry, settled=True, tasks=(replace(entry.tasks[0], status="succeeded", exit_code=0),))


def silent(command: Command) -> Observation:
    """A place that cannot be reached; an engine that has nothing of ours."""
    return Observation(255, "", "no route to host")


@pytest.fixture
def index(tmp_path: Path) -> str:
    return str(tmp_path / "state/runs")


def ids(index: str) -> list[str]:
    return [entry.id for entry in read_index(index).entries]


@pytest.mark.parametrize(("one", "other"), [("/w/out", "/w/out"), ("/w/out", "/w/out/below"), ("/w/out/below", "/w/out")])
def test_a_second_run_into_the_same_output_is_refused(index: str, one: str, other: str) -> None:
    first, second = entry_of(one), entry_of("/w/elsewhere", other)
    hold(index, first, silent)
    with pytest.raises(MachineError) as caught:
        hold(index, second, silent)
    assert caught.value.message == f"{other} is being written by run {first.id} (task 'train')"
    assert f"mlcube wait {first.id}" in caught.value.hint and f"mlcube cancel {first.id}" in caught.value.hint
    with pytest.raises(MachineError):
        refuse_held(index, second, silent)
    assert ids(index) == [first.id], "it has left nothing"


def test_who_writes_there_is_named_once_whatever_the_number_of_its_members(index: str) -> None:
    many = entry_of("/w/out")
    tasks = tuple(replace(many.tasks[0], task=name) for name in ("train", "train", "test", "train"))
    hold(index, replace(many, tasks=tasks), silent)
    with pytest.raises(MachineError, match=r" \(tasks 'train', 'test'\)$"):
        hold(index, entry_of("/w/out"), silent)


def test_members_of_a_sweep_are_offered_no_other_output(index: str) -> None:
    hold(index, entry_of("/w/sweeps/one", sweep="/w/sweeps/one"), silent)
    with pytest.raises(MachineError) as caught:
        hold(index, entry_of("/w/sweeps/one", sweep="/w/sweeps/one"), silent)
    assert "NAME=PATH" not in caught.value.hint and "mlcube wait" in caught.value.hint


def test_others_are_nobodys_business(index: str) -> None:
    entries = (entry_of("/w/out"), entry_of("/w/out2"), entry_of("/w/out", place="gpu-box"), entry_of())
    for entry in entries:
        hold(index, entry, silent)
    assert len(ids(index)) == len(entries)
    assert meeting({"": ("/a",)}, {"": ("/b", "/a/c")}) == "/a"
    assert meeting({"": ("/a",)}, {"box": ("/a",)}) is None


@pytest.mark.parametrize("first", [
    over(entry_of("/w/out")), entry_of("/w/out", owner=KILLED),
    replace(over(entry_of("/w/out")), settled=False, supervised=Supervised(("ssh", "box"), "box", "/d", {}))],
    ids=["ended", "killed", "ended elsewhere and not fetched"])
def test_what_has_ended_holds_nothing(index: str, first: Entry) -> None:
    hold(index, first, silent)
    second = entry_of("/w/out")
    hold(index, second, silent)
    assert sorted(ids(index)) == sorted((first.id, second.id))


def test_what_a_killed_run_has_left_and_still_writes_is_waited_for_by_the_user(index: str) -> None:
    first = entry_of("/w/out", owner=KILLED)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                             env={**os.environ, MARKER: first.tasks[0].run_id})
    try:
        hold(index, first, silent)
        with pytest.raises(MachineError) as caught:
            hold(index, entry_of("/w/out"), silent)
        assert "was killed" in caught.value.message and caught.value.hint == "mlcube reap ends it"
    finally:
        child.communicate(b"\n", timeout=10)
    hold(index, entry_of("/w/out"), silent)


def test_a_run_on_a_machine_that_says_nothing_is_taken_as_it_was(index: str) -> None:
    hold(index, entry_of("/w/out", owner=None, supervised=Supervised(("false",), "gpu-box", "/d", {})), silent)
    with pytest.raises(MachineError, match=r"on gpu-box\); whether it still runs cannot be told: no route to host"):
        hold(index, entry_of("/w/out"), silent)


def test_a_task_may_run_mlcube_itself(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = entry_of("/w/out")
    hold(index, outer, silent)
    monkeypatch.setenv(MARKER, outer.tasks[0].run_id)
    hold(index, entry_of("/w/out/inner"), silent)


def test_of_many_at_once_one_gets_it(index: str) -> None:
    refused: list[str] = []

    def attempt(entry: Entry) -> None:
        try:
            hold(index, entry, silent)
        except MachineError as error:
            refused.append(error.message)

    threads = [threading.Thread(target=attempt, args=(entry_of("/w/out"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids(index)) == 1 and len(refused) == 7
