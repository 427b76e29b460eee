"""How runs stand: what supervisors, owners and records tell, put together; and what killed ones leave."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.command import Command, Plan, Step, Stop, Variable
from mlcube_cli.facts import Observation
from mlcube_cli.locks import myself
from mlcube_cli.remains import clear, find_remains, remains_of
from mlcube_cli.run_index import (
    Entry,
    Index,
    Leftover,
    RunTask,
    Supervised,
    concluded,
    leftovers_of,
    read_index,
    write_entry,
)
from mlcube_cli.run_states import Standing, is_attended, look_at, refreshed
from mlcube_cli.supervision.state import CommandState, TaskState

ID = "20260102T030405-abcdef"
LIVING = replace(myself(), token="")
DEAD = replace(LIVING, boot="another")


def entry_of(tasks: int = 1, **fields: object) -> Entry:
    listed = tuple(RunTask(f"t{number}", f"{ID}-{number}", f"/nowhere/{number}") for number in range(1, tasks + 1))
    return replace(Entry(ID, 1.5, "cube", "/c", "/w", "docker", "docker", listed), **fields)


def supervised(place: str = "", reach: tuple[str, ...] = ("sh", "-s")) -> Supervised:
    return Supervised(reach, place, "/d", {f"{ID}-1": "/d/1"})


def stands(entry: Entry) -> list[tuple[str, int | None]]:
    return [(task.status, task.exit_code) for task in entry.tasks]


def never(command: Command) -> Observation:
    raise AssertionError(f"nobody is to be asked: {command.argv}")


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_run_whose_owner_lives_stands_as_it_says() -> None:
    entry = entry_of(owner=LIVING)
    assert is_attended(entry) and look_at("/nowhere", [entry], never)[0] == Standing(entry)


def test_a_run_whose_owner_is_gone_is_lost_and_what_came_after_it_cancelled(tmp_path: Path) -> None:
    standing = look_at(str(tmp_path), [entry_of(2, owner=DEAD)], never)[0]
    assert stands(standing.entry) == [("lost", 4), ("cancelled", None)] and standing.entry.settled
    assert read_index(str(tmp_path)).entries == (standing.entry,), "the next one who looks need not ask"


def test_an_owner_on_another_host_may_be_alive() -> None:
    entry = entry_of(owner=replace(LIVING, host="elsewhere", pid=1))
    assert stands(look_at("/nowhere", [entry], never)[0].entry) == [("queued", None)]


def test_what_a_record_tells_of_the_end_counts_more_than_the_index(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps({"schema": "mlcube.record.v1", "status": "failed", "exit_code": 7}))
    task = replace(entry_of().tasks[0], directory=str(tmp_path), status="running")
    assert stands(look_at(str(tmp_path), [entry_of(owner=DEAD, tasks=1)], never)[0].entry) == [("lost", 4)]
    assert stands(look_at(str(tmp_path), [replace(entry_of(owner=DEAD), tasks=(task,))], never)[0].entry) == [("failed", 7)]


def test_each_place_is_asked_once_and_what_does_not_answer_stays_as_it_was_seen(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def ask(command: Command) -> Observation:
        asked.append(command.argv)
        return Observation(255, "noise", "banner\nno route to host\n")

    first = entry_of(supervised=supervised("box", ("ssh", "box")))
    entries = [first, replace(first, id="b"),
               replace(entry_of(supervised=supervised("other", ("ssh", "other"))), id="c")]
    standings = look_at(str(tmp_path), entries, ask)
    assert asked == [("ssh", "box"), ("ssh", "other")]
    assert {standing.trouble for standing in standings} == {"no route to host"}
    assert [standing.entry for standing in standings] == entries


@pytest.mark.parametrize(("status", "code", "tasks", "expected"), [
    ("running", None, (), [("queued", None), ("queued", None)]),
    ("running", None, (("running", None), ("queued", None)), [("running", None), ("queued", None)]),
    ("failed", 3, (("failed", 3), ("queued", None)), [("failed", 3), ("cancelled", None)]),
    ("preparation", 5, (("queued", None), ("queued", None)), [("preparation", 5), ("cancelled", None)]),
    ("invalid", 3, (("succeeded", 0), ("queued", None)), [("succeeded", 0), ("invalid", 3)]),
    ("lost", 4, (("succeeded", 0), ("lost", 4)), [("succeeded", 0), ("lost", 4)]),
    ("succeeded", 0, (("succeeded", 0), ("succeeded", 0)), [("succeeded", 0), ("succeeded", 0)]),
])
def test_what_a_supervisor_tells(status: str, code: int | None, tasks: tuple, expected: list) -> None:
    told = tuple(TaskState(f"{ID}-{number}", *task) for number, task in enumerate(tasks, 1))
    assert stands(refreshed(entry_of(2), CommandState("/d", status, code, tasks=told))) == expected


def test_times_of_another_machine_are_told_by_our_clock() -> None:
    there = entry_of(1, supervised=replace(supervised("box", ("ssh", "box")), ahead=-10800.0))
    (task,) = refreshed(there, CommandState("/d", "succeeded", 0, tasks=(
        TaskState(f"{ID}-1", "succeeded", 0, 1000.0, 1002.5),))).tasks
    assert (task.started, task.ended) == (11800.0, 11802.5)


def test_a_conclusion_keeps_what_is_known() -> None:
    entry = concluded(entry_of(2), "running", 1)  # no end that there is
    assert stands(entry) == [("lost", 1), ("cancelled", None)]
    assert concluded(entry, "succeeded", 0).tasks == entry.tasks


# --- what is left ----------------------------------------------------------------------------------------------------


def test_what_a_plan_may_leave_without_its_secrets(tmp_path: Path) -> None:
    variables = (Variable("HOST", "h"), Variable("TOKEN", "hidden", secret=True))
    kill, find = Command(("e", "kill"), variables), Command(("e", "ps"), variables)
    stop = Stop(Command(("e", "stop")), kill, Command(("e", "rm")), find)
    plan = Plan("p", (Step("make it", Command(("a",))), Step("run it", Command(("b",)), payload=True, stop=stop,
                                                            after=(Command(("rm", "-r", "/t")),))))
    entry = entry_of(leftovers=leftovers_of(plan))
    assert [one.title for one in entry.leftovers] == ["the container of 'run it'", "temporary files of 'run it'"]
    text = Path(write_entry(str(tmp_path), entry)).read_text()
    assert "hidden" not in text and '"HOST": "h"' in text
    back = read_index(str(tmp_path)).entries[0].leftovers
    assert [command.argv for one in back for command in one.remove] == [("e", "kill"), ("e", "rm"), ("rm", "-r", "/t")]


def lost(*leftovers: Leftover, **fields: object) -> Entry:
    return concluded(entry_of(owner=DEAD, leftovers=leftovers, settled=True, **fields), "lost", 4)


def container(said: str, code: int = 0) -> Leftover:
    return Leftover("the container", Command(("sh", "-c", f"{said}; exit {code}")), (Command(("rm", "it")),))


def ask(command: Command) -> Observation:
    done = subprocess.run(command.argv, capture_output=True, text=True, check=False)
    return Observation(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(("leftover", "found"), [
    (container("echo 4711"), ["the container: 4711"]),
    (container(":"), []),
    (container("echo no daemon >&2", 1), ["the container, if it is there: sh does not answer"]),
    (Leftover("files", None, ()), ["files"]),
])
def test_only_what_is_there_is_listed(leftover: Leftover, found: list[str], tmp_path: Path) -> None:
    entry = lost(leftover)
    entry = replace(entry, tasks=(replace(entry.tasks[0], directory=str(tmp_path)),))
    assert [remnant.name for remnant in remains_of(entry, ask)] == found


def test_nothing_is_listed_of_runs_that_go_on_or_that_nobody_can_tell_of() -> None:
    going_on = entry_of(owner=LIVING, leftovers=(Leftover("files", None, ()),))
    queued = entry_of(supervised=supervised("box"), leftovers=(Leftover("files", None, ()),))
    for standing in (Standing(going_on), Standing(queued), Standing(replace(lost(Leftover("files", None, ()))), "no route")):
        assert find_remains(Index(), [standing], never) == ()


def test_what_could_not_be_removed_is_told_and_listed_again(tmp_path: Path) -> None:
    good = Leftover("good", None, (Command(("sh", "-c", f"rm -r {tmp_path}/good")),))
    bad = Leftover("bad", None, (Command(("sh", "-c", "echo it is busy >&2; exit 1")),))
    (tmp_path / "good").mkdir()
    (tmp_path / "run").mkdir()
    entry = lost(good, bad)
    entry = replace(entry, tasks=(replace(entry.tasks[0], directory=str(tmp_path / "run")),))
    results = clear(str(tmp_path / "index"), entry, remains_of(entry, ask), ask)
    assert {remnant.name: why for remnant, why in results.items()} == {"good": "", "bad": "it is busy"}
    assert not (tmp_path / "good").exists()
    assert read_index(str(tmp_path / "index")).entries[0].leftovers == (bad,)


def test_a_run_on_a_disk_that_is_not_mounted_is_not_forgotten(tmp_path: Path) -> None:
    entry = lost()
    away = replace(entry, tasks=(replace(entry.tasks[0], directory="/no/disk/.mlcube/runs/x"),))
    here = replace(entry, tasks=(replace(entry.tasks[0], directory=str(tmp_path / ".mlcube/runs/x")),))
    assert remains_of(away, ask) == ()
    assert [remnant.kind for remnant in remains_of(here, ask)] == ["entry"]


def test_a_process_that_took_the_number_of_a_killed_one_is_not_ours(tmp_path: Path) -> None:
    from mlcube_cli.run_index import Started

    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        dead = replace(LIVING, pid=(1 << 31) - 2)
        entry = replace(lost(), owner=dead, processes={f"{ID}-1": Started(other.pid, "1")})
        entry = replace(entry, tasks=(replace(entry.tasks[0], directory=str(tmp_path)),))
        assert remains_of(entry, ask) == ()
        from mlcube_cli.locks import start_time

        entry = replace(entry, processes={f"{ID}-1": Started(other.pid, start_time(other.pid)[0])})
        assert [remnant.name for remnant in remains_of(entry, ask)] == [f"processes of task 't1': {other.pid}"]
        entry = replace(entry, owner=DEAD)  # before a restart of the machine
        assert remains_of(entry, ask) == ()
    finally:
        other.kill()
        other.wait()

