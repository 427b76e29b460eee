"""Values to absolute paths, and what is checked before anything starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlcube_cli.command import Command, Plan, Step, merge
from mlcube_cli.definition.model import Binding, Cube, Group, Parameter, Platform, Task
from mlcube_cli.errors import DefinitionError, Location
from mlcube_cli.facts import Facts, Missing, PathFact, PathKind
from mlcube_cli.job import Argument, Job
from mlcube_cli.resolve import Wish, absolute_path, expand, find_copies, resolve
from mlcube_cli.staging import with_copies
from tests.world import World

HERE = Location("mlcube.yaml", 3, 5)
PLATFORM = Platform("docker", "docker", (), HERE)
FACTS = Facts(uid=1000, gid=1000, home="/home/me", cwd="/here", environment={"DATA": "/big", "EMPTY": ""})


def cube(*parameters: Parameter, dialect: str = "inline") -> Cube:
    return Cube("/cube", "mlcube.yaml", dialect, "c", "1", "", (), "/cube/workspace", (Task("train", parameters),), (PLATFORM,))


def given(name: str, default: str | None, direction: str = "input", **rest: Any) -> Parameter:
    rest.setdefault("type", "file")
    rest.setdefault("mode", "ro" if direction == "input" else "rw")
    return Parameter(name, direction, default=default, location=HERE, **rest)



def at(*pairs: tuple[str, PathFact]) -> Facts:
    return FACTS.learn({PathKind(path): fact for path, fact in pairs})


def problems(the_cube: Cube, known: Facts, **wish: Any) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0], **wish), known)
    return [f"{problem.code}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "typed", "expected"), [
    ("data", False, "/cube/workspace/data"),
    ("data", True, "/cube/workspace/data"),
    ("./data", False, "/cube/workspace/data"),
    ("./data", True, "/here/data"),
    ("../data", True, "/data"),
    (".", True, "/here"),
    ("", False, "/cube/workspace"),
    ("./", False, "/cube/workspace"),
    ("/abs//x/", False, "/abs/x"),
    ("../x", False, "/cube/x"),
    ("~/x", False, "/home/me/x"),
    ("~", True, "/home/me"),
    ("$DATA/x", False, "/big/x"),
    ("${DATA}/x", True, "/big/x"),
    ("$WORKSPACE/x", False, "/cube/workspace/x"),
    ("${WORKSPACE}/x", True, "/cube/workspace/x"),
    ("/a/$$DATA", False, "/a/$DATA"),
    ("a\nb 'c'\udcff", False, "/cube/workspace/a\nb 'c'\udcff"),
])
def test_what_a_value_means(text: str, typed: bool, expected: str) -> None:
    assert absolute_path(text, "/cube/workspace", FACTS, typed) == expected


def test_values_expand_once_only() -> None:
    known = Facts(1, 1, "/h", "/", {"A": "$B ~", "B": "no"})
    assert expand("$A", "/w", known) == "$B ~"


def test_workspace_is_ours_whatever_the_environment_holds() -> None:
    assert expand("$WORKSPACE", "/w", Facts(1, 1, "/h", "/", {"WORKSPACE": "/theirs"})) == "/w"


@pytest.mark.parametrize("text", ["$NOT_SET/x", "a\0b"])
def test_values_that_mean_no_path(text: str) -> None:
    with pytest.raises(DefinitionError):
        absolute_path(text, "/w", FACTS)


def test_a_path_nobody_looked_at_is_asked_for() -> None:
    with pytest.raises(Missing) as caught:
        resolve(cube(given("a", "a"), given("b", "b")), PLATFORM, Wish(cube(given("a", "a"), given("b", "b")).tasks[0]), FACTS)
    assert caught.value.questions == (PathKind("/cube/workspace/a"), PathKind("/cube/workspace/b"))


def test_all_problems_come_at_once() -> None:
    the_cube = cube(given("a", "a"), given("b", "$NOT_SET"), given("c", "c", type="directory"))
    known = at(("/cube/workspace/a", PathFact("absent")), ("/cube/workspace/c", PathFact("file")))
    assert [text.split(":")[0] for text in problems(the_cube, known)] == ["bad-path", "missing-input", "wrong-kind"]


def test_a_missing_input_that_stands_in_the_current_directory() -> None:
    the_cube = cube(given("data", "x"))
    known = at(("/cube/workspace/data", PathFact("absent")), ("/here/data", PathFact("directory")))
    with pytest.raises(DefinitionError) as caught:
        resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0], values={"data": "data"}), known)
    assert "data=./data" in caught.value.problems[0].hint


def test_an_input_that_an_earlier_task_writes_counts_as_present() -> None:
    maker = cube(given("out", "data", "output", type="directory"))
    user = cube(given("in", "data/part.npz"))
    known = at(("/cube/workspace/data", PathFact("absent")), ("/cube/workspace/data/part.npz", PathFact("absent")))
    first = resolve(maker, PLATFORM, Wish(maker.tasks[0]), known)
    second = resolve(user, PLATFORM, Wish(user.tasks[0]), known, (first,))
    assert second.arguments[0].host_path == "/cube/workspace/data/part.npz"


def test_one_path_as_input_and_output_is_read_write() -> None:
    the_cube = cube(given("in", "d", type="directory"), given("out", "./d/../d", "output", type="directory"))
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0]), at(("/cube/workspace/d", PathFact("directory"))))
    assert [argument.mode for argument in job.arguments] == ["rw", "rw"]


def test_a_stated_read_only_input_that_is_written_is_a_conflict() -> None:
    the_cube = cube(given("in", "d", type="directory", mode_stated=True), given("out", "d", "output", type="directory"))
    assert problems(the_cube, at(("/cube/workspace/d", PathFact("directory"))))[0].startswith("mode-conflict")


def test_a_name_that_is_input_and_output_is_passed_once() -> None:
    the_cube = cube(given("d", "d", type="directory"), given("d", "d", "output", type="directory"))
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0]), at(("/cube/workspace/d", PathFact("directory"))))
    assert [(argument.name, argument.mode) for argument in job.arguments] == [("d", "rw")]


@pytest.mark.parametrize(("parameter", "fact", "code"), [
    (given("o", "o", "output", type="unknown"), PathFact("absent"), "unknown-type"),
    (given("o", "o", "output"), PathFact("directory"), "wrong-kind"),
    (given("o", "o", "output"), PathFact("absent", creatable=False, ancestor="/cube/workspace"), "not-creatable"),
    (given("o", "o", "output"), PathFact("file", writable=False), "not-writable"),
    (given("i", "i"), PathFact("file", readable=False), "unreadable"),
    (given("i", "i"), PathFact("absent", readable=False), "unreadable"),
    (given("i", "i", type="unknown"), PathFact("other"), "wrong-kind"),
])
def test_what_is_refused_before_anything_starts(parameter: Parameter, fact: PathFact, code: str) -> None:
    assert problems(cube(parameter), at((f"/cube/workspace/{parameter.name}", fact)))[0].startswith(code)


def test_a_file_in_the_way_of_an_output_is_named() -> None:
    blocked = PathFact("absent", creatable=False, ancestor="/cube")
    known = at(("/cube/workspace/o", blocked), ("/cube/workspace", PathFact("file")))
    said, = problems(cube(given("o", "o", "output")), known)
    assert said == "not-creatable: output 'o' cannot be created: /cube/workspace is a file, not a directory"


def test_types_come_from_the_slash_and_the_disk() -> None:
    the_cube = cube(given("i", "i", type="unknown"), given("o", "o/", "output", type="unknown"))
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0]),
                  at(("/cube/workspace/i", PathFact("directory")), ("/cube/workspace/o", PathFact("absent"))))
    assert [argument.type for argument in job.arguments] == ["directory", "directory"]


def test_an_mlbox_output_without_a_kind_stays_unknown() -> None:
    the_cube = cube(given("o", "o", "output", type="unknown"), dialect="mlbox")
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0]), at(("/cube/workspace/o", PathFact("absent"))))
    assert job.arguments[0].type == "unknown"


def test_values_come_from_the_command_line_then_the_group_then_the_default() -> None:
    the_cube = cube(given("a", "default"), given("b", "default"), given("c", "default"))
    values = (("a", "grouped"), ("b", "grouped"), ("c", None))
    group = Group("g", "train", tuple(Binding(name, value, HERE) for name, value in values), HERE)
    known = at(*((f"/cube/workspace/{name}", PathFact("file")) for name in ("typed", "grouped", "default")))
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0], group, {"a": "typed"}), known)
    assert [(one.name, one.host_path.rsplit("/", 1)[1]) for one in job.arguments] == [("a", "typed"), ("b", "grouped")]
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0]), known)
    assert {one.host_path for one in job.arguments} == {"/cube/workspace/default"}


def test_mount_replaces_what_the_definition_says_of_inputs() -> None:
    the_cube = cube(given("a", "a", mode="rw", mode_stated=True), given("o", "o", "output"))
    known = at(("/cube/workspace/a", PathFact("file")), ("/cube/workspace/o", PathFact("absent")))
    assert [one.mode for one in resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0]), known).arguments] == ["rw", "rw"]
    job = resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0], mount="ro"), known)
    assert [one.mode for one in job.arguments] == ["ro", "rw"]


# --- a workspace outside the cube (spec/dialects 3.6) ------------------------------------------------------------------

OWN, OTHER = "/cube/workspace", "/ext"


def elsewhere(*tasks: Task, dialect: str = "inline") -> Cube:
    return Cube("/cube", "mlcube.yaml", dialect, "c", "1", "", (), OTHER, tasks, (PLATFORM,))


def staged(the_cube: Cube, kinds: dict[str, str], earlier: tuple[Job, ...] = (), **wish: Any) -> Job:
    """The first task's job; what is not stated is absent."""
    world = World(paths=kinds, machine={"cwd": "/here", "environment": {"DATA": "/big"}})
    return world.decide(lambda known: resolve(the_cube, PLATFORM, Wish(the_cube.tasks[0], **wish), known, earlier))


def copied(job: Job) -> dict[str, tuple[str, str]]:
    return {copy.name: (copy.source, copy.target) for copy in job.copies}


@pytest.mark.parametrize(("text", "target"), [
    ("a", "/ext/a"), ("d/../a", "/ext/a"), ("$WORKSPACE/a", "/ext/a"), ("/ext/a", "/ext/a"), ("./a", "/ext/a"),
])
@pytest.mark.parametrize("dialect", ["inline", "directory"])
def test_an_input_that_only_the_cubes_own_workspace_has_is_copied(text: str, target: str, dialect: str) -> None:
    job = staged(elsewhere(Task("t", (given("i", text, type="unknown"),)), dialect=dialect), {"/cube/workspace/a": "directory"})
    assert copied(job) == {"i": ("/cube/workspace/a", target)}
    assert job.arguments == (Argument("i", "input", "directory", "ro", target),)


@pytest.mark.parametrize(("text", "kinds"), [
    ("a", {f"{OWN}/a": "file", f"{OTHER}/a": "file"}),  # it is there: never overwritten
    ("/cube/workspace/a", {f"{OWN}/a": "file"}),  # absolute: it is meant where it is
    ("../x", {"/cube/x": "file", "/x": "file"}),  # outside the workspace
    ("$DATA", {"/big": "file"}),
])
def test_other_inputs_are_not_copied(text: str, kinds: dict[str, str]) -> None:
    assert staged(elsewhere(Task("t", (given("i", text),))), kinds).copies == ()


@pytest.mark.parametrize("outputs", [
    (given("o", "made", "output", type="directory"),), (given("o", "made/a", "output"),), (given("o", "./made/", "output"),)])
def test_what_any_task_of_the_cube_writes_is_missing_rather_than_copied(outputs: tuple[Parameter, ...]) -> None:
    the_cube = elsewhere(Task("t", (given("i", "made/a"),)), Task("other", outputs))
    with pytest.raises(DefinitionError, match="cannot start") as caught:
        staged(the_cube, {f"{OWN}/made/a": "file", f"{OWN}/made": "directory"})
    assert caught.value.problems[0].message == "input 'i' is missing: there is no /ext/made/a"


def test_outputs_of_groups_and_those_typed_count_too() -> None:
    group = Group("g", "other", (Binding("o", "x", HERE),), HERE)
    the_cube = elsewhere(Task("t", (given("i", "x"), given("j", "y"))),
                         Task("other", (given("o", None, "output"),), groups=(group,)))
    with pytest.raises(DefinitionError) as caught:
        staged(the_cube, {f"{OWN}/x": "file", f"{OWN}/y": "file"})
    assert [problem.path for problem in caught.value.problems] == ["i"]
    with pytest.raises(DefinitionError) as caught:
        staged(the_cube, {f"{OWN}/x": "file", f"{OWN}/y": "file"}, values={"o": "y"})
    assert [problem.path for problem in caught.value.problems] == ["i", "j"]


def test_values_of_the_command_line_are_copied_too_but_whole_paths_are_meant_as_they_stand() -> None:
    the_cube = elsewhere(Task("t", (given("i", "a"),)))
    assert copied(staged(the_cube, {f"{OWN}/b": "file"}, values={"i": "b"})) == {"i": (f"{OWN}/b", f"{OTHER}/b")}
    for typed in ("/ext/b", "./b"):
        with pytest.raises(DefinitionError):
            staged(the_cube, {f"{OWN}/b": "file"}, values={"i": typed})


def test_a_copy_is_judged_by_its_source_and_by_where_it_goes() -> None:
    the_cube = elsewhere(Task("t", (given("i", "d/a"),)))
    with pytest.raises(DefinitionError) as caught:
        staged(the_cube, {f"{OWN}/d/a": "directory"})
    assert caught.value.problems[0].message == "input 'i' must be a file, but /cube/workspace/d/a is a directory"
    blocked = {"kind": "absent", "creatable": False, "ancestor": "/ext"}
    with pytest.raises(DefinitionError) as caught:
        staged(the_cube, {f"{OWN}/d/a": "file", f"{OTHER}/d/a": blocked, f"{OTHER}/d": "file"})
    assert caught.value.problems[0].message == ("input 'i' cannot be copied from /cube/workspace/d/a: "
                                                "/ext/d is a file, not a directory")


def test_an_mlbox_and_the_cubes_own_workspace_copy_nothing() -> None:
    task = Task("t", (given("i", "a"),))
    assert staged(cube(*task.parameters), {f"{OWN}/a": "file"}).copies == ()
    with pytest.raises(DefinitionError):
        staged(elsewhere(task, dialect="mlbox"), {f"{OWN}/a": "file"})


def test_a_directory_is_not_copied_into_itself() -> None:
    the_cube = replace(elsewhere(Task("t", (given("i", "d", type="directory"),))), workspace=f"{OWN}/d")
    with pytest.raises(DefinitionError) as caught:
        staged(the_cube, {f"{OWN}/d": "directory"})
    assert caught.value.problems[0].code == "missing-input"


def test_copies_are_preparation_shared_by_the_tasks_of_a_command() -> None:
    the_cube = elsewhere(Task("t", (given("i", "a"),)))
    job = staged(the_cube, {f"{OWN}/a": "file"})
    prepare, make, run = (Step(name, Command((name,)), task) for name, task in (("pull", None), ("mkdir", "t"), ("run", "t")))
    plan = with_copies(Plan("docker", (prepare, make, run)), job)
    assert [step.title for step in plan.steps] == ["pull", "copy input i from the cube's own workspace", "mkdir", "run"]
    copy = plan.steps[1]
    assert (copy.task, copy.lock) == (None, "copies into /ext")
    assert copy.command.argv[3:] == ("mlcube", f"{OWN}/a", f"{OTHER}/a", OTHER)
    assert copy.unless == Command(("test", "-e", f"{OTHER}/a"))
    assert [step.title for step in merge((plan, plan)).steps].count(copy.title) == 1


def test_what_describe_lists_are_the_copies_of_all_tasks() -> None:
    the_cube = elsewhere(Task("t", (given("i", "a"), given("gone", "$NOT_SET"))), Task("u", (given("j", "a"), given("k", "b"))))
    world = World(paths={f"{OWN}/a": "file", f"{OWN}/b": "file"})
    assert [copy.source for copy in world.decide(lambda known: find_copies(the_cube, known))] == [f"{OWN}/a", f"{OWN}/b"]
