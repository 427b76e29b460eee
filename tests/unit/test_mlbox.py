"""The MLBox dialect: both spellings of everything, its implementations, its platform files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.errors import UsageError
from tests.cubes import bound, options, parameter, platform, problems, read, task, write_tree
from tests.unit.test_seed_pages import MLBOX

IMPLEMENTATION = "implementation/mlbox_implementation.yaml"
SMALL = {
    "mlbox.yaml": """
        type: mlbox
        name: small
        tasks:
          t: {inputs: {a: {description: x}}, outputs: {b: {desc: y}}}
        """,
    "tasks/t/default.yaml": "a: in\nb: out\n",
    IMPLEMENTATION: "implementation_type: docker\nimage: i\n",
}



def test_descriptions_groups_and_skipped_parameters(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {**SMALL, "tasks/t/big.yaml": "b: /abs\na: null\n", "tasks/t/notes.txt": ""}))
    assert reading.problems == ()
    assert [(one.name, one.description, one.default) for one in task(reading, "t").parameters] == [
        ("a", "x", "in"), ("b", "y", "out")]
    assert [(group.name, bound(group), str(group.location)) for group in task(reading, "t").groups] == [
        ("big", (("a", None), ("b", "/abs")), "tasks/t/big.yaml"),
        ("default", (("a", "in"), ("b", "out")), "tasks/t/default.yaml")]


@pytest.mark.parametrize("tasks", ["t: {}", "t: {inputs: {}}", "t: {outputs: null}", "t: null"])
def test_missing_inputs_and_outputs(tmp_path: Path, tasks: str) -> None:
    reading = read(write_tree(tmp_path, {"mlbox.yaml": f"type: mlbox\nname: n\ntasks: {{{tasks}}}\n",
                                         IMPLEMENTATION: SMALL[IMPLEMENTATION]}))
    assert reading.problems == ()
    assert task(reading, "t").parameters == ()


def test_group_faults(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        **SMALL, "tasks/t/default.yaml": "a: in\nbb: out\n", "tasks/tt/default.yaml": "x: y\n"}))
    assert problems(reading) == [
        "error tasks/t/default.yaml:1:1 unbound-parameter b",
        "warning tasks/t/default.yaml:2:1 unknown-parameter bb",
        "warning tasks/tt unlisted-file",
    ]
    assert reading.problems[1].hint == "did you mean 'b'?"
    assert reading.problems[2].hint == "did you mean 't'?"


def test_what_below_tasks_belongs_to_no_task_is_warned_of(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {**SMALL, "tasks/t.yaml": "a: x\n", "tasks/README.md": ""}))
    assert problems(reading) == ["warning tasks/t.yaml unlisted-file"]


def test_a_problem_has_the_path_of_its_own_file(tmp_path: Path) -> None:
    box = "type: mlbox\nname: n\ntasks:\n  t: {inputs: {d: {}}, outputs: {d: {}}}\n"
    reading = read(write_tree(tmp_path, {**SMALL, "mlbox.yaml": box, "tasks/t/default.yaml": "d: x\n"}))
    assert problems(reading) == ["warning mlbox.yaml:4:34 both-directions tasks.t.outputs.d"]


def test_a_task_without_its_default_group(tmp_path: Path) -> None:
    write_tree(tmp_path, {**SMALL, "tasks/t/big.yaml": "a: 1\nb: 2\n"})
    (tmp_path / "tasks/t/default.yaml").unlink()
    reading = read(tmp_path)
    assert problems(reading) == ["warning mlbox.yaml:4:3 missing-file tasks.t"]
    assert parameter(reading, "t", "a").default is None
    assert task(reading, "t").groups[0].binding("a").value == "1"


@pytest.mark.parametrize("line", ["implementation: docker", "implementation_type: docker", "implementation: python", ""])
def test_the_implementation_file_decides(tmp_path: Path, line: str) -> None:
    write_tree(tmp_path, {**SMALL, "mlbox.yaml": SMALL["mlbox.yaml"].replace("name: small", f"name: s\n        {line}")})
    reading = read(tmp_path)
    assert reading.problems == ()
    assert options(reading, "docker") == {"image": "i", "build_strategy": "build", "build_context": ".",
                                          "build_file": "implementation/docker/dockerfiles/Dockerfile"}


def test_a_missing_implementation(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlbox.yaml": "type: mlbox\nname: n\nimplementation: docker\ntasks: {t: {}}\n"})
    reading = read(tmp_path)
    assert problems(reading) == ["error mlbox.yaml:3:17 missing-file implementation"]
    assert reading.cube is not None
    assert reading.cube.platforms == ()


@pytest.mark.parametrize(("text", "expected"), [
    ("docker_args: []\ncommand: []\nargs: []", {"image": "i"}),
    ("docker_args: --shm-size=1g", {"image": "i", "run_args": "--shm-size=1g"}),
    ("docker_args: ''", {"image": "i", "run_args": ""}),
    ("configure: pull\ndocker_runtime: docker", {"image": "i", "build_strategy": "pull", "docker": "docker"}),
    ("network: none\nuser: image", {"image": "i", "network": "none", "user": "image"}),
])
def test_docker_implementations(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    write_tree(tmp_path, {**SMALL, IMPLEMENTATION: f"implementation_type: docker\nimage: i\n{text}\n"})
    reading = read(tmp_path)
    assert reading.problems == ()
    found = options(reading, "docker")
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) <= {"build_strategy", "build_context", "build_file"}


@pytest.mark.parametrize(("text", "expected"), [
    ("interpreter: system\nsystem: {interpreter: python3.8}", {"interpreter": "system", "python": "python3.8"}),
    ("interpreter: virtualenv\nvirtualenv: {base_interpreter: python3, location: ws/env}",
     {"interpreter": "virtualenv", "python": "python3"}),
    ("interpreter: conda\nconda: {name: e, version: 3.10, conda: /c}",
     {"interpreter": "conda", "python": "3.10", "conda": "/c"}),
    ("interpreter: pipenv\npipenv: {}", {"interpreter": "pipenv"}),
    ("interpreter:", {"interpreter": "current"}),
    ("interpreter: current", {"interpreter": "current"}),
    ("force_reconfigure: true", {}),
    ("requirements: src/requirements.txt", {"requirements": "src/requirements.txt"}),
    ("requirements: numpy tensorflow==2.1", {"requirements": ["numpy", "tensorflow==2.1"]}),
    ("requirements: ''", {"requirements": []}),
])
def test_python_implementations(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    write_tree(tmp_path, {**SMALL, "src/main.py": "", "src/requirements.txt": "",
                          IMPLEMENTATION: f"implementation_type: python\nentrypoint: src/main.py\n{text}\n"})
    reading = read(tmp_path)
    assert reading.problems == ()
    assert platform(reading, "local").runner == "local"
    assert options(reading, "local") == {"entrypoint": "src/main.py", **expected}


def test_exec_and_singularity_implementations(tmp_path: Path) -> None:
    write_tree(tmp_path, {**SMALL, IMPLEMENTATION: """
        implementation_type: exec
        directories: [workspace/x]
        configure: [make]
        run: ['echo $a']
        """})
    reading = read(tmp_path)
    assert reading.problems == ()
    assert options(reading, "local") == {"kind": "exec", "directories": ["workspace/x"], "configure": ["make"],
                                         "run": ["echo $a"]}
    write_tree(tmp_path, {IMPLEMENTATION: "implementation_type: singularity\n"})
    reading = read(tmp_path)
    assert reading.problems == ()
    assert platform(reading, "singularity").runner == "singularity"


def test_a_platform_file_lies_over_the_implementation(tmp_path: Path) -> None:
    box = write_tree(tmp_path / "box", SMALL)
    write_tree(tmp_path, {"p.yaml": """
        default: gpu
        gpu: {runner: docker, docker_args: --gpus all, build_args: {A: 1.0}, run_args: {B: c}}
        same: {runner: docker, docker_args: -v x}
        far: {runner: ssh, host: h}
        """})
    reading = read(box, where="box", cwd=tmp_path, platform="p.yaml")
    assert reading.problems == ()
    assert reading.platform == "gpu"
    assert [one.name for one in reading.cube.platforms] == ["docker", "gpu"]  # type: ignore[union-attr]
    found = options(reading, "gpu")
    assert (found["image"], found["run_args"], found["build_args"], found["env_args"]) == (
        "i", "--gpus all", {"A": "1.0"}, {"B": "c"})
    assert platform(reading, "gpu").find("run_args").origin == "p.yaml:2:36"  # type: ignore[union-attr]
    named = read(box, where="box", cwd=tmp_path, platform="p.yaml:same")
    assert (named.platform, options(named, "same")["run_args"]) == ("same", "-v x")
    far = read(box, where="box", cwd=tmp_path, platform="p.yaml:far")
    assert platform(far, "far").runner == "ssh"
    with pytest.raises(UsageError) as caught:
        read(box, where="box", cwd=tmp_path, platform="p.yaml:smae")
    assert caught.value.message == "p.yaml has no section 'smae'" and "'same'" in caught.value.hint


def test_an_unknown_platform_lists_those_there_are(tmp_path: Path) -> None:
    write_tree(tmp_path, MLBOX)
    with pytest.raises(UsageError) as caught:
        read(tmp_path, platform="gpu")
    assert caught.value.hint.startswith("its platforms are: docker; there are also: podman,")
    with pytest.raises(UsageError) as caught:
        read(tmp_path, platform="platforms/dokcer.yaml")
    assert caught.value.hint == "did you mean 'docker'?"


def test_bare_descriptions(tmp_path: Path) -> None:
    write_tree(tmp_path, {**SMALL, "mlbox.yaml": "type: mlbox\nname: n\ntasks: {t: {inputs: {a: in data, b: null}}}\n"})
    assert [(one.name, one.description) for one in task(read(tmp_path), "t").parameters] == [("a", "in data"), ("b", "")]
