"""Settings files: where they are found, how their platforms lie beneath a cube's, and what a change does to their text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcube_cli.definition import Reading, ReadRequest, read_cube, settings_edit
from mlcube_cli.definition.model import Data
from mlcube_cli.definition.places import SITE_FILE, find_places
from mlcube_cli.definition.settings import load_settings
from mlcube_cli.definition.tree import origins
from mlcube_cli.definition.write_yaml import yaml_text
from mlcube_cli.errors import UsageError
from mlcube_cli.facts import Facts, PathFact, PathKind
from mlcube_cli.job import Job
from mlcube_cli.trust import job_reach, platform_reach
from tests.cubes import codes, options, platform, problems, write_tree
from tests.unit.test_directory import SMALL

CUBE = """
    name: c
    docker: {image: a:1, env: {A: cube}, --memory: null}
    tasks:
      t: {entrypoint: x, parameters: {inputs: {i: i/}, outputs: {o: o/}}}
"""
IMPLEMENTATION = "implementation_type: docker\nimage: i\n"


def read_with(root: Path, user: str = "", *overrides: str, platform: str | None = None, site: str = "",
              environment: Mapping[str, str] | None = None, cube: Mapping[str, str] | None = None) -> Reading:
    """The cube read for a run, with these settings files beside it."""
    write_tree(root, {"user.yaml": user, "site.yaml": site, **(cube or {"mlcube.yaml": CUBE})})
    named = {"MLCUBE_SYSTEM_SETTINGS": "user.yaml", "MLCUBE_SITE_SETTINGS": "site.yaml"}
    return read_cube(ReadRequest(".", overrides, platform, environment={**named, **(environment or {})}, cwd=str(root),
                                 settings=True))


def origin(reading: Reading, name: str, option: str) -> str:
    found = platform(reading, name).find(option)
    assert found is not None
    return found.origin


# --- where they are --------------------------------------------------------------------------------------------------

SETTINGS = "platforms: {gpu: {runner: docker}}\n"


@pytest.mark.parametrize(("text", "is_settings"), [
    (SETTINGS, True), ("runners: {}\n", True), ("platforms:\n", True), ("storage: {}\nother: 1\n", True),
    ("name: c\ntasks: {}\n", False), ("platforms: {}\ntasks: {}\n", False), ("{platforms: {}, tasks: {a: }}\n", False),
    ("docker: {image: x}\n", False), ("platforms: [a]\n", False), ("- platforms\n", False), ("", False),
    ("platforms:\n\t- broken\n", True), ("tasks:\n\tbroken\nplatforms:\n", False), ("name: [\n", False)])
def test_the_file_in_the_home_directory_is_told_by_its_content(tmp_path: Path, text: str, is_settings: bool) -> None:
    (tmp_path / "mlcube.yaml").write_text(text)
    site, user = find_places({"HOME": str(tmp_path)}, "/")
    assert site.path == SITE_FILE
    assert user.path == str(tmp_path / ("mlcube.yaml" if is_settings else ".config/mlcube/settings.yaml"))


def test_variables_name_the_files(tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text(SETTINGS)
    home = {"HOME": str(tmp_path)}
    named = {**home, "MLCUBE_SYSTEM_SETTINGS": "~/mine.yaml", "MLCUBE_SITE_SETTINGS": "site.yaml"}
    assert [place.path for place in find_places(named, "/there")] == ["/there/site.yaml", f"{tmp_path}/mine.yaml"]
    empty = {**home, "MLCUBE_SYSTEM_SETTINGS": "", "MLCUBE_SITE_SETTINGS": "", "XDG_CONFIG_HOME": "/x"}
    assert [place.path for place in find_places(empty, "/")] == [SITE_FILE, f"{tmp_path}/mlcube.yaml"]
    (tmp_path / "mlcube.yaml").unlink()
    assert find_places(empty, "/")[1].path == "/x/mlcube/settings.yaml"
    assert find_places({**empty, "XDG_CONFIG_HOME": "relative"}, "/")[1].path == f"{tmp_path}/.config/mlcube/settings.yaml"


def test_a_named_file_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    site, user = find_places({"MLCUBE_SYSTEM_SETTINGS": str(tmp_path / "no.yaml"), "MLCUBE_SITE_SETTINGS": os.devnull}, "/")
    assert (site.counts, user.counts) == (False, True)
    found = load_settings([user], "/")
    assert [(problem.severity, problem.code) for problem in found.problems] == [("warning", "no-file")]
    assert not found.broken


def test_a_cube_looked_at_by_itself_has_no_settings(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": CUBE, "user.yaml": "platforms: {docker: {runner: docker, memory: 1g}}"})
    reading = read_cube(ReadRequest(".", environment={"MLCUBE_SYSTEM_SETTINGS": "user.yaml"}, cwd=str(tmp_path)))
    assert "memory" not in options(reading, "docker")


# --- platforms that the cube need not name -----------------------------------------------------------------------------


def test_precedence_from_the_runners_defaults_to_the_command_line(tmp_path: Path) -> None:
    site = "platforms: {gpu: {runner: docker, network: s, memory: s, shm_size: s, workdir: /s, image: s, user: s}}"
    user = "platforms: {gpu: {runner: docker, memory: u, shm_size: u, workdir: /u, image: u}}"
    cube = CUBE.replace("image: a:1", "shm_size: c, workdir: /c, image: c")
    reading = read_with(tmp_path, user, "docker.image=p", site=site, platform="gpu", cube={"mlcube.yaml": cube})
    assert reading.problems == ()
    assert reading.platform == "gpu"
    found = {option.name: (option.value, option.origin) for option in platform(reading, "gpu").options}
    assert found["build_context"] == (".", "default")
    assert found["network"] == ("s", "site.yaml:1:44")
    assert found["user"] == ("s", "site.yaml:1:100")
    assert found["memory"] == ("u", "user.yaml:1:43")
    assert found["shm_size"] == ("c", "mlcube.yaml:2:20")
    assert found["workdir"] == ("/c", "mlcube.yaml:2:32")
    assert found["image"] == ("p", "-P")


def test_a_platform_file_lies_over_the_cubes_section_and_that_over_the_settings(tmp_path: Path) -> None:
    user = "platforms: {big: {runner: docker, memory: u, shm_size: u, env: {U: '1'}}}"
    reading = read_with(tmp_path, user, platform="big.yaml", cube={
        "mlcube.yaml": CUBE, "big.yaml": "schema_type: mlcube_docker\nshm_size: f\nenv: {A: file}\n"})
    found = options(reading, "big")
    assert (found["image"], found["memory"], found["shm_size"]) == ("a:1", "u", "f")
    assert found["env"] == {"U": "1", "A": "file"}


def test_settings_with_the_name_and_runner_of_the_cubes_platform_lie_beneath_it(tmp_path: Path) -> None:
    user = "platforms: {docker: {runner: docker, image: u, --memory: 1g, build_strategy: pull, env: {A: u, B: u}}}"
    for chosen in (None, "docker"):
        found = options(read_with(tmp_path, user, platform=chosen), "docker")
        assert (found["image"], found["memory"], found["build_strategy"]) == ("a:1", "1g", "pull")
        assert found["env"] == {"A": "cube", "B": "u"}


def test_a_null_of_the_command_line_counts_and_one_of_the_cube_does_not(tmp_path: Path) -> None:
    user = "platforms: {docker: {runner: docker, memory: 1g}}"
    assert options(read_with(tmp_path, user), "docker")["memory"] == "1g"
    assert "memory" not in options(read_with(tmp_path, user, "docker.memory=null"), "docker")


def test_the_same_name_with_another_runner_is_said_and_not_used(tmp_path: Path) -> None:
    reading = read_with(tmp_path, "platforms: {docker: {runner: ssh, host: h}}", platform="docker")
    assert problems(reading) == ["warning user.yaml:1:13 hidden-platform platforms.docker"]
    assert options(reading, "docker")["image"] == "a:1"


@pytest.mark.parametrize(("name", "runner", "expected"), [
    ("podman", "docker", "podman"), ("docker", "docker", None), ("apptainer", "singularity", "apptainer"),
    ("singularity", "singularity", None), ("local", "local", None)])
def test_built_in_names_are_always_there(tmp_path: Path, name: str, runner: str, expected: str | None) -> None:
    for cube in (CUBE, CUBE.replace("docker:", "other:")):
        reading = read_with(tmp_path, "", platform=name, cube={"mlcube.yaml": cube})
        assert reading.platform == name
        assert platform(reading, name).runner == runner
        assert platform(reading, name).option(runner) == expected
    laid = options(read_with(tmp_path, "", platform="podman"), "podman")
    assert (laid["image"], laid["env"]) == ("a:1", {"A": "cube"})


def test_podman_is_podman_whatever_the_cube_says_and_as_the_user_says(tmp_path: Path) -> None:
    cube = {"mlcube.yaml": CUBE.replace("image:", "docker: docker, image:")}
    reading = read_with(tmp_path, "", platform="podman", cube=cube)
    assert (options(reading, "podman")["docker"], origin(reading, "podman", "docker")) == ("podman", "--platform")
    assert options(reading, "docker")["docker"] == "docker"
    user = "platforms: {podman: {runner: docker, docker: sudo podman, memory: 1g}}"
    found = options(read_with(tmp_path, user, platform="podman", cube=cube), "podman")
    assert (found["docker"], found["memory"]) == ("sudo podman", "1g")


def test_a_runner_called_podman_or_renamed_is_understood(tmp_path: Path) -> None:
    user = "runners: {mine: {pkg: mlcube_docker}}\nplatforms: {a: {runner: mine}, b: {runner: podman}, apptainer: }\n"
    assert platform(read_with(tmp_path, user, platform="a"), "a").runner == "docker"
    assert options(read_with(tmp_path, user, platform="b"), "b")["docker"] == "podman"
    assert platform(read_with(tmp_path, user, platform="apptainer"), "apptainer").runner == "singularity"


def test_a_cube_without_a_docker_section_runs_with_an_image_of_the_command_line(tmp_path: Path) -> None:
    cube = {"mlcube.yaml": "name: c\ntasks: {t: {entrypoint: x}}\n"}
    assert options(read_with(tmp_path, "", "docker.image=x", platform="docker", cube=cube), "docker")["image"] == "x"
    bare = read_with(tmp_path, "", platform="docker", cube=cube)
    assert [(problem.code, problem.hint) for problem in bare.problems] == [("missing-key", "name one: -Pdocker.image=NAME")]


def test_directory_cubes_and_boxes_take_settings_too(tmp_path: Path) -> None:
    user = "platforms: {gpu: {runner: docker, gpus: all, workdir: '${oc.env:W}'}}"
    reading = read_with(tmp_path / "d", user, platform="gpu", cube=SMALL, environment={"W": "/w"})
    found = options(reading, "gpu")
    assert (found["image"], found["gpus"], found["workdir"], found["build_context"]) == ("i", "all", "/w", "build")
    box = {"mlbox.yaml": "type: mlbox\nname: b\ntasks: {t: {inputs: {}, outputs: {}}}\n", "tasks/t/default.yaml": "{}\n",
           "implementation/mlbox_implementation.yaml": IMPLEMENTATION}
    found = options(read_with(tmp_path / "b", user, platform="gpu", cube=box, environment={"W": "/w"}), "gpu")
    assert (found["image"], found["gpus"], found["build_context"]) == ("i", "all", ".")


def test_a_directory_cube_with_several_platforms_of_a_runner_is_asked_which(tmp_path: Path) -> None:
    flat = "schema_type: mlcube_docker\nimage: x\n"
    cube = {**SMALL, "platforms/a.yaml": flat, "platforms/b.yaml": flat}
    assert options(read_with(tmp_path / "1", "", platform="podman", cube=cube), "podman")["image"] == "i"
    del cube["platforms/docker.yaml"]
    with pytest.raises(UsageError, match="several platforms of the runner 'docker': a, b"):
        read_with(tmp_path / "2", "", platform="podman", cube=cube)


def test_a_name_that_an_inline_cube_uses_for_something_else(tmp_path: Path) -> None:
    cube = {"mlcube.yaml": CUBE + "    gpu: {x: 1}\n    other: '${gpu.x}'\n"}
    reading = read_with(tmp_path, "platforms: {gpu: {runner: docker, memory: 1g}}", platform="gpu", cube=cube)
    assert codes(reading) == []
    assert reading.platform == "gpu (docker)"
    assert options(reading, "gpu (docker)")["memory"] == "1g"


def test_names_that_nobody_knows(tmp_path: Path) -> None:
    user = "platforms: {gpu-box: {runner: docker}}"
    for typed, hint in (("gpubox", "did you mean 'gpu-box'?"), ("dockr", "did you mean 'docker'?"),
                        ("podmn", "did you mean 'podman'?"), ("zzz", "its platforms are: docker; there are also: gpu-box, ")):
        with pytest.raises(UsageError) as caught:
            read_with(tmp_path, user, platform=typed)
        assert caught.value.hint.startswith(hint)


# --- what is wrong with them -------------------------------------------------------------------------------------------


def test_faults_of_platforms_that_are_not_used_are_warnings(tmp_path: Path) -> None:
    user = ("platforms:\n  a: {runner: dokcer}\n  b: {image: x}\n  c: {runner: docker, ports: {}}\n"
            "  d: {runner: docker, imgae: x}\n")
    expected = ["2:15 unknown-runner platforms.a.runner", "3:3 missing-key platforms.b.runner",
                "4:30 wrong-type platforms.c.ports", "5:23 unknown-key platforms.d.imgae"]
    reading = read_with(tmp_path, user, platform="docker")
    assert problems(reading) == [f"warning user.yaml:{line}" for line in expected]
    for name, place in (("a", 0), ("b", 1), ("c", 2)):
        reading = read_with(tmp_path, user, platform=name)
        assert [line for line in problems(reading) if line.startswith("error")] == [f"error user.yaml:{expected[place]}"]
    assert reading.problems[-1].hint == "did you mean 'image'?"


def test_a_file_that_cannot_be_read_is_an_error_and_not_an_unknown_platform(tmp_path: Path) -> None:
    reading = read_with(tmp_path, "platforms: [\n", platform="gpu")
    assert reading.platform is None
    assert [problem.severity for problem in reading.problems] == ["error"]
    assert read_with(tmp_path, "# nothing yet\n").problems == ()


def test_what_the_earlier_program_wrote_by_itself_is_nobodys_wish(tmp_path: Path) -> None:
    user = """
        platforms:
          docker: {runner: docker, image: '${docker.image}', docker: docker, env_args: {}, gpu_args: '', cpu_args: '--x',
                   build_args: {}, build_context: ., build_file: Dockerfile, build_strategy: pull, --network: null}
          mine: {runner: docker, build_strategy: pull}
        """
    found = {option.name: option.value for option in platform(read_with(tmp_path, user, cube=SMALL), "docker").options}
    assert found["cpu_args"] == "--x"
    assert (found["build_strategy"], found["build_context"]) == ("build", "build")
    assert options(read_with(tmp_path, user, platform="mine", cube=SMALL), "mine")["build_strategy"] == "pull"


# --- references and secrets --------------------------------------------------------------------------------------------

PRIVATE = "platforms: {docker: {runner: docker, env: {TOKEN: mine, B: '${oc.env:B}'}, setup: [a], run_args: -v /x:/x}}"


def test_references_of_settings_see_the_cube_and_the_environment(tmp_path: Path) -> None:
    user = ("platforms: {gpu: {runner: docker, workdir: '${runtime.workspace}/${name}', memory: '${oc.env:M,2g}', "
            "shm_size: '${.memory}', image: '${docker.image}-gpu', user: '${oc.env:U}'}}")
    cube = {"mlcube.yaml": CUBE.replace("image: a:1, ", "") + "    x: 1\n"}
    reading = read_with(tmp_path, user, "docker.image=o", platform="gpu", environment={"U": "7"}, cube=cube)
    found = options(reading, "gpu")
    assert (found["workdir"], found["memory"], found["shm_size"]) == (f"{tmp_path}/workspace/c", "2g", "2g")
    user_option = platform(reading, "gpu").find("user")
    assert user_option is not None
    assert (user_option.value, user_option.secret) == ("7", True)


def test_an_unset_variable_of_a_platform_in_use_is_told(tmp_path: Path) -> None:
    assert problems(read_with(tmp_path, PRIVATE)) == ["warning user.yaml:1:60 unset-variable platforms.docker.env.B"]
    assert read_with(tmp_path, PRIVATE, platform="podman").problems == ()


def test_a_cube_cannot_read_the_settings(tmp_path: Path) -> None:
    for reference in ("${docker.env.TOKEN}", "${runner.env.TOKEN}", "${platforms.docker.env.TOKEN}"):
        cube = {"mlcube.yaml": CUBE + f"    leak: '{reference}'\n"}
        reading = read_with(tmp_path, PRIVATE, platform="docker", cube=cube, environment={"B": "x"})
        assert codes(reading) == ["unknown-reference"]
        assert "mine" not in str([text for text in reading.problems])


def test_environment_values_of_settings_are_secrets_and_the_rest_is_shown_with_its_place(tmp_path: Path) -> None:
    reading = read_with(tmp_path, PRIVATE, environment={"B": "x"})
    env = platform(reading, "docker").find("env")
    assert env is not None
    assert set(env.secret_keys) == {"TOKEN", "B"}
    assert not env.hides("A")
    assert reading.effective is not None
    for tree in (reading.effective.raw, reading.effective.resolved):
        where = dict(origins(tree))
        assert where["docker", "run_args"] == "user.yaml:1:98"
        assert where["docker", "env", "TOKEN"] == "user.yaml:1:51"
        assert where["docker", "env", "A"] == "mlcube.yaml:2:31"


def test_what_the_settings_say_is_no_strangers_word_and_what_the_cube_adds_is(tmp_path: Path) -> None:
    reading = read_with(tmp_path, PRIVATE, environment={"B": "x"})
    assert platform_reach(platform(reading, "docker")) == ()
    cube = {"mlcube.yaml": CUBE.replace("A: cube", "A: cube, C: null").replace("image:", "privileged: true, image:")}
    reach = platform_reach(platform(read_with(tmp_path, PRIVATE, cube=cube, environment={"B": "x"}), "docker"))
    assert [phrase.partition(" (")[0] for phrase in reach] == ["values of your environment", "privileged containers"]
    cube = {"mlcube.yaml": CUBE.replace("A: cube", "A: '${oc.env:B}'")}
    reach = platform_reach(platform(read_with(tmp_path, PRIVATE, cube=cube, environment={"B": "x"}), "docker"))
    assert [phrase.partition(" (")[0] for phrase in reach] == ["values of your environment"]


@pytest.mark.parametrize(("user", "cube", "expected"), [
    ("build_context: /far", "image: i", []),
    ("memory: 1g", "build_context: /far", ["a 'build_context' outside the cube: /far"])])
def test_a_build_elsewhere_is_told_when_the_cube_asks_for_it(tmp_path: Path, user: str, cube: str, expected: list[str]) -> None:
    reading = read_with(tmp_path, f"platforms: {{docker: {{runner: docker, {user}}}}}", cube={
        "mlcube.yaml": CUBE.replace("image: a:1", cube)})
    job = Job("r", "c", "/cube", "/cube/workspace", "inline", "t", None, (), platform(reading, "docker"))
    known = ("/cube", "/cube/workspace", "/far", "/far/Dockerfile", "/cube/Dockerfile")
    paths = {PathKind(path): PathFact("directory", real=path) for path in known}
    reach = job_reach(job, Facts(0, 0, "/", "/", {}, answers=paths))
    assert [phrase for phrase in reach if "build_context" in phrase] == expected


# --- what a singularity platform can be made from ------------------------------------------------------------------------


def test_a_singularity_platform_knows_the_docker_image(tmp_path: Path) -> None:
    cube = {"mlcube.yaml": CUBE.replace("a:1", "'${name}:2', tar_file: x.tar") + "    singularity: {image: c.sif}\n"}
    for name in ("singularity", "apptainer"):
        found = options(read_with(tmp_path, "", platform=name, cube=cube), name)
        assert (found["docker_image"], found["tar_file"], found["image"]) == ("c:2", "x.tar", "c.sif")
    changed = read_with(tmp_path, "", "docker.image=z", platform="apptainer", cube=cube)
    assert options(changed, "apptainer")["docker_image"] == "z"
    assert origin(changed, "apptainer", "docker_image") == "-P"
    assert "docker_image" not in options(changed, "docker")
    with_settings = read_with(tmp_path, "platforms: {hpc: {runner: singularity, nv: true}}", platform="hpc")
    assert (options(with_settings, "hpc")["docker_image"], options(with_settings, "hpc")["nv"]) == ("a:1", True)


# --- changing their text -------------------------------------------------------------------------------------------------

TEXT = """\
# my settings
platforms:   # all of them
  # the big one
  gpu:
    runner: docker   # as always
    python: 3.10
    env: {A: 1, B: two}   # env
    # below
    setup:
      - module load x
      - |
        a
        b

  # another
  other: {runner: local}
# tail
runners:
"""


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that are gone, and lines that are new."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.parametrize(("path", "value", "written", "gone", "new"), [
    ("gpu.runner", "ssh", "", ["    runner: docker   # as always"], ["    runner: ssh   # as always"]),
    ("gpu.python", 3.2, "3.20", ["    python: 3.10"], ["    python: 3.20"]),
    ("gpu.shm_size", 1.1, "1.10", [], ["    shm_size: 1.10"]),
    ("gpu.env.C", "x: y", "", ["    env: {A: 1, B: two}   # env"], ['    env: {A: 1, B: two, C: "x: y"}   # env']),
    ("gpu.env.A", None, "null", ["    env: {A: 1, B: two}   # env"], ["    env: {A: null, B: two}   # env"]),
    ("gpu.setup", ["q"], "", ["      - module load x", "      - |", "        a", "        b"], ["      - q"]),
    ("gpu.runner", {"a": [1]}, "", ["    runner: docker   # as always"], ["    runner:", "      a:", "        - 1"]),
    ("other.env", {"q": [1, "2"]}, "", ["  other: {runner: local}"], ['  other: {runner: local, env: {q: [1, "2"]}}']),
    ("new.env.Q", "7", "", [], ["  new:", "    env:", '      Q: "7"'])])
def test_a_value_is_set_on_its_own_lines(path: str, value: Data, written: str, gone: list[str], new: list[str]) -> None:
    after = settings_edit.set_value(TEXT, ("platforms", *path.split(".")), value, written)
    assert changed_lines(TEXT, after) == (gone, new)


def test_removing_renaming_and_copying_touch_nothing_else() -> None:
    gpu = TEXT[TEXT.index("  gpu:"):TEXT.index("\n  # another")]
    assert settings_edit.remove(TEXT, ("platforms", "gpu")) == TEXT.replace(gpu, "")
    assert settings_edit.remove(TEXT, ("platforms", "other")) == TEXT.replace("  other: {runner: local}\n", "")
    assert settings_edit.remove(TEXT, ("platforms", "gpu", "env", "A")) == TEXT.replace("A: 1, ", "")
    assert settings_edit.remove(TEXT, ("platforms", "gpu", "env", "B")) == TEXT.replace(", B: two", "")
    assert settings_edit.rename(TEXT, ("platforms", "gpu"), "yes") == TEXT.replace("gpu:", '"yes":')
    copied = settings_edit.copy(TEXT, ("platforms", "gpu"), "g2")
    assert copied == TEXT.replace("local}\n", "local}\n" + gpu.replace("gpu:", "g2:"))


@pytest.mark.parametrize(("text", "after"), [
    ("", "platforms:\n  new:\n    runner: docker\n"),
    ("# c\n", "# c\nplatforms:\n  new:\n    runner: docker\n"),
    ("platforms:\n", "platforms:\n  new:\n    runner: docker\n"),
    ("platforms: null # x\n", "platforms: # x\n  new:\n    runner: docker\n"),
    ("platforms: {} # x\nrunners: {}", "platforms: # x\n  new:\n    runner: docker\nrunners: {}"),
    ("{platforms: {a: {runner: x}}}", "{platforms: {a: {runner: x}, new: {runner: docker}}}"),
    ("platforms:\r\n  a:\r\n    runner: x\r\n", "platforms:\r\n  a:\r\n    runner: x\r\n  new:\r\n    runner: docker\r\n"),
    ("\ufeffplatforms:\n    a: {runner: x}", "\ufeffplatforms:\n    a: {runner: x}\n    new:\n      runner: docker\n"),
    ("---\nplatforms:\n  a: {runner: x}\n...\n", "---\nplatforms:\n  a: {runner: x}\n  new:\n    runner: docker\n...\n"),
    ("? platforms\n: a: {runner: x}\n", "platforms:\n  a:\n    runner: x\n  new:\n    runner: docker\n")])
def test_a_platform_is_added_to_every_kind_of_file(text: str, after: str) -> None:
    assert settings_edit.set_value(text, ("platforms", "new", "runner"), "docker") == after


def test_aliases_keep_their_meaning_and_numbers_their_spelling() -> None:
    text = "platforms:\n  a: &a {runner: docker, python: 3.10}\n  b: *a\n  c:\n    <<: *a\n    x: 1\nrunners: {q: } # kept\n"
    data = settings_edit.settings_data(settings_edit.set_value(text, ("platforms", "b", "runner"), "local"), "")
    section = {"runner": "docker", "python": 3.1}
    assert data["platforms"] == {"a": section, "b": {**section, "runner": "local"}, "c": {**section, "x": 1}}
    after = settings_edit.remove(text, ("platforms", "a"))
    assert after.count("python: 3.10") == 2
    assert "runners: {q: } # kept" in after


_names = st.sampled_from(["a", "b", "on", "x y", "--net", "1", "é"])
_values: st.SearchStrategy[Data] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "t", "a: b", "# c", "1.10", "yes", "a\nb", "{"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3), max_leaves=6)
_sections = st.dictionaries(_names, st.dictionaries(_names, _values, max_size=3), min_size=1, max_size=3)


def with_comments(text: str) -> str:
    """The text with a comment behind each line that can bear one, and above it."""
    return "".join(f"{' ' * (len(line) - len(line.lstrip()))}# above {number}\n{line}\n"
                   for number, line in enumerate(text.splitlines()))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(_sections, _sections, st.data())
def test_any_change_does_to_the_data_what_it_says_and_keeps_the_comments_of_the_other_section(
        platforms: dict[str, Data], runners: dict[str, Data], data: st.DataObject) -> None:
    text = with_comments(yaml_text({"platforms": platforms, "runners": runners}))
    name = data.draw(st.sampled_from(sorted(platforms)))
    what = data.draw(st.sampled_from(["set", "remove", "rename", "copy"]))
    value = data.draw(_values)
    if what == "set":
        after = settings_edit.set_value(text, ("platforms", name, "key"), value)
        expected: Data = {**platforms, name: {**dict(platforms[name] or {}), "key": value}}  # type: ignore[call-overload]
    elif what == "remove":
        after = settings_edit.remove(text, ("platforms", name))
        expected = {key: item for key, item in platforms.items() if key != name}
    elif what == "rename":
        after = settings_edit.rename(text, ("platforms", name), "new")
        expected = {"new" if key == name else key: item for key, item in platforms.items()}
    else:
        after = settings_edit.copy(text, ("platforms", name), "new")
        expected = {**platforms, "new": platforms[name]}
    found = settings_edit.settings_data(after, "")
    assert (found["platforms"] or {}) == expected
    assert found["runners"] == runners
    assert text[text.index("runners:"):] in after


_odd_keys = st.sampled_from(["runner", "image", "env", "setup", "docker", "--network", "network", "build_args", "interpreter",
                             "virtualenv", "pkg", "a.b", ""])
_odd: st.SearchStrategy[Data] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(
        ["docker", "local", "mine", "podman", "${docker.image}", "${oc.env:X}", "${.image}", "${", "${platforms.a}", "x: y"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_odd_keys, inner, max_size=4), max_leaves=10)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(
    st.sampled_from(["platforms", "runners", "storage", "x"]),
    st.dictionaries(st.sampled_from(["a", "docker", "podman", "mine"]), _odd, max_size=3) | _odd, max_size=3),
    st.sampled_from([None, "docker", "podman", "a"]))
def test_whatever_the_settings_hold_there_are_problems_or_a_cube(tmp_path: Path, data: dict[str, Data],
                                                                 name: str | None) -> None:
    try:
        reading = read_with(tmp_path, yaml_text(data), platform=name, site=yaml_text(data))
    except UsageError as error:
        assert name == "a"
        assert "no platform 'a'" in error.message
        return
    assert reading.cube is not None
    if reading.platform is None and name is not None:
        assert any(problem.severity == "error" for problem in reading.problems)
