"""What the words of a command line mean: cube, task, group, platform, name=value, lengths of time."""

from __future__ import annotations

import pytest

from mlcube_cli.cli.choose import assign, choose_platform, choose_tasks
from mlcube_cli.cli.words import parse_duration, sort_out, split_address
from mlcube_cli.definition.model import Cube, Group, Parameter, Platform, Task
from mlcube_cli.errors import Location, UsageError

HERE = Location("mlcube.yaml", 1, 1)


def group(name: str, task: str) -> Group:
    return Group(name, task, (), Location(f"cube/run/{name}.yaml", 1, 1))


def cube(*tasks: Task, dialect: str = "directory", platforms: tuple[str, ...] = ("docker",)) -> Cube:
    return Cube("/here/cube", "cube/mlcube.yaml", dialect, "c", "1", "", (), "/here/cube/workspace", tasks,
                tuple(Platform(name, name.split("_")[0], (), HERE) for name in platforms))


TRAIN = Task("train", (Parameter("data_dir", "input", "directory", None, "ro"),),
             groups=(group("train", "train"), group("big", "train")))
DOWNLOAD = Task("download", (), groups=(group("alice/get", "download"),))


def names(chosen: list) -> list[tuple[str, str | None]]:
    return [(task.name, group.name if group else None) for task, group in chosen]


@pytest.mark.parametrize(("spelled", "expected"), [
    (["train"], [("train", None)]),
    (["train/big"], [("train", "big")]),
    (["run/big.yaml"], [("train", "big")]),
    (["cube/run/big.yaml"], [("train", "big")]),
    (["/here/cube/run/big.yaml"], [("train", "big")]),
    (["big"], [("train", "big")]),
    (["download"], [("download", None)]),
    (["run/alice/get.yaml", "train"], [("download", "alice/get"), ("train", None)]),
])
def test_tasks_as_they_are_spelled(spelled: list[str], expected: list) -> None:
    assert names(choose_tasks(cube(TRAIN, DOWNLOAD), spelled, "/here")) == expected


def test_a_cube_with_one_task_needs_none() -> None:
    assert names(choose_tasks(cube(DOWNLOAD, dialect="inline"), [], "/")) == [("download", None)]


@pytest.mark.parametrize(("spelled", "says"), [
    ([], "train, download"), (["trian"], "did you mean 'train'?"), (["train/bigg"], "did you mean 'big'?"),
    (["nothing like it"], "the tasks are: train, download"),
])
def test_tasks_that_do_not_exist(spelled: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_tasks(cube(TRAIN, DOWNLOAD), spelled, "/here")
    assert says in caught.value.hint


def test_several_run_configurations_of_other_names_are_listed() -> None:
    task = Task("t", (), groups=(group("a", "t"), group("b", "t")))
    with pytest.raises(UsageError) as caught:
        choose_tasks(cube(task), ["t"], "/here")
    assert "run/a.yaml, run/b.yaml" in caught.value.hint


def test_a_misspelt_run_configuration_is_named() -> None:
    task = Task("t", (), groups=(group("a", "t"), group("small", "t")))
    with pytest.raises(UsageError) as caught:
        choose_tasks(cube(task), ["run/smal.yaml"], "/here")
    assert caught.value.hint == "did you mean 'run/small.yaml'?"


def test_parameters_are_known_and_given_once() -> None:
    assert assign([TRAIN], [("data_dir", "a=b")]) == {"data_dir": "a=b"}
    with pytest.raises(UsageError) as caught:
        assign([TRAIN], [("data_dri", "x")])
    assert caught.value.hint == "did you mean 'data_dir'?"
    with pytest.raises(UsageError):
        assign([TRAIN], [("data_dir", "x"), ("data_dir", "y")])
    with pytest.raises(UsageError) as caught:
        assign([TRAIN], [("data_dir", "")])
    assert caught.value.hint == "write data_dir=PATH"


@pytest.mark.parametrize(("words", "options", "expected"), [
    ([], {}, (".", (), ())),
    (["box:train/big", "a=b=c"], {}, ("box", ("train/big",), (("a", "b=c"),))),
    (["a=b"], {}, (".", (), (("a", "b"),))),
    (["a=b"], {"cube": "x"}, ("x", (), (("a", "b"),))),
    (["."], {"tasks": ["a, b", "c"]}, (".", ("a", "b", "c"), ())),
    ([":train"], {}, (".", ("train",), ())),
    (["2=x", "données=y"], {}, (".", (), (("2", "x"), ("données", "y")))),
])
def test_positional_words(words: list[str], options: dict, expected: tuple) -> None:
    found = sort_out(words, **options)
    assert (found.cube, found.tasks, found.values) == expected


def test_an_existing_path_is_the_cube_whatever_it_holds(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=b", "c:d"):
        (tmp_path / name).mkdir()
        assert sort_out([name]).cube == name
    assert split_address("c:d:train") == ("c:d", "train")


def test_two_cubes_are_one_too_many() -> None:
    with pytest.raises(UsageError) as caught:
        sort_out(["cube", "train"])
    assert "--task train" in caught.value.hint


def test_a_url_is_not_a_cube() -> None:
    with pytest.raises(UsageError):
        sort_out(["https://example.org/cube"])


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("2H", 7200), ("1d", 86400)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "-3", "1w", "٣s", "1e3"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text, "--timeout")


def test_no_grace_is_allowed() -> None:
    assert parse_duration("0", "--grace") == 0


def reasons(**known: str):
    return lambda platform: known.get(platform.name)


def test_the_only_platform_is_chosen_silently() -> None:
    platform, why = choose_platform(cube(TRAIN, platforms=("local",)), None, None, reasons())
    assert (platform.name, why) == ("local", "")


def test_a_container_that_answers_comes_before_local() -> None:
    the_cube = cube(TRAIN, platforms=("local", "ssh", "docker"))
    platform, why = choose_platform(the_cube, None, None, reasons())
    assert platform.name == "docker" and "docker" in why
    platform, why = choose_platform(the_cube, None, None, reasons(docker="it does not answer"))
    assert platform.name == "local" and "docker: it does not answer" in why


def test_a_remote_platform_is_never_chosen_for_the_user() -> None:
    for names in (("ssh", "slurm"), ("ssh",), ("slurm",)):  # not even where it is the only one
        with pytest.raises(UsageError) as caught:
            choose_platform(cube(TRAIN, platforms=names), None, None, reasons())
        assert "which machine is meant?" in caught.value.message and f"--platform {names[-1]}" in (caught.value.hint or "")
    for name in ("ssh", "slurm"):
        assert choose_platform(cube(TRAIN, platforms=(name, "docker")), None, name, reasons())[0].name == name
        assert choose_platform(cube(TRAIN, platforms=(name, "docker")), None, None, reasons())[0].name == "docker"


def test_an_applet_without_a_platform_of_its_kind() -> None:
    for runner, hint in (("docker", "-Pdocker.image=NAME"), ("ssh", "one of your settings")):
        with pytest.raises(UsageError, match=f"this cube has no {runner} platform") as caught:
            choose_platform(cube(TRAIN, platforms=("local",)), None, runner, reasons())
        assert hint in (caught.value.hint or "")


def test_a_named_platform_must_be_there_and_of_the_applets_kind() -> None:
    the_cube = cube(TRAIN, platforms=("docker", "local"))
    assert choose_platform(the_cube, "local", None, reasons())[0].name == "local"
    for named, runner in (("dokcer", None), ("local", "docker")):
        with pytest.raises(UsageError):
            choose_platform(the_cube, named, runner, reasons())
