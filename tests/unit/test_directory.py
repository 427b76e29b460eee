"""The directory dialect: tasks, run configurations, and platform files of every spelling."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlcube_cli.errors import UsageError
from tests.cubes import codes, options, parameter, platform, problems, read, task, write_tree
from tests.unit.test_seed_pages import DIRECTORY

ROOT = "schema_type: mlcube_root\nschema_version: 1.0.0\nname: n\nauthor: a\nversion: 0.1.0\n"
TASK = """
    schema_type: mlcube_task
    schema_version: 1.0.0
    inputs: [{name: a, type: directory, description: what}]
    outputs: [{name: b, type: file}]
    """
RUN = "schema_type: mlcube_invoke\nschema_version: 1.0.0\ntask_name: t\n"
SMALL = {
    "mlcube.yaml": ROOT + "tasks: [tasks/t.yaml]\n",
    "tasks/t.yaml": TASK,
    "run/t.yaml": RUN + "input_binding: {a: in}\noutput_binding: {b: $WORKSPACE/out}\n",
    "platforms/docker.yaml": "schema_type: mlcube_docker\nschema_version: 1.0.0\nimage: i\n",
    "build/Dockerfile": "",
}


def test_the_small_cube(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, SMALL))
    assert reading.problems == ()
    assert parameter(reading, "t", "a").description == "what"
    assert [group.name for group in task(reading, "t").groups] == ["t"]


def test_a_problem_has_the_path_of_its_own_file(tmp_path: Path) -> None:
    two = TASK.replace("[{name: b, type: file}]", "[{name: b, type: file}, {name: a, type: directory}]")
    run = RUN + "input_binding: {a: in}\noutput_binding: {b: out, a: in}\n"
    reading = read(write_tree(tmp_path, {**SMALL, "tasks/t.yaml": two, "run/t.yaml": run}))
    assert problems(reading) == ["warning tasks/t.yaml:4:34 both-directions outputs[1]"]


def test_a_misspelt_kind_of_platform(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {**SMALL, "platforms/p.yaml": "schema_type: mlcube_dokcer\nimage: i\n"}))
    assert [problem.hint for problem in reading.problems] == ["did you mean 'mlcube_docker'?"]


def test_run_configurations_in_directories_and_the_default_one(tmp_path: Path) -> None:
    more = RUN + "input_binding: {a: other}\noutput_binding: {b: out}\n"
    reading = read(write_tree(tmp_path, {**SMALL, "run/alice/hello.yaml": more, "run/.hidden.yaml": "x"}))
    assert reading.problems == ()
    assert [(group.name, group.binding("a").value, str(group.location)) for group in task(reading, "t").groups] == [
        ("alice/hello", "other", "run/alice/hello.yaml"), ("t", "in", "run/t.yaml")]
    assert parameter(reading, "t", "a").default == "in"
    (tmp_path / "run/t.yaml").unlink()
    assert parameter(read(tmp_path), "t", "a").default == "other"
    write_tree(tmp_path, {"run/b.yaml": more})
    assert parameter(read(tmp_path), "t", "a").default is None


def test_faults_of_a_run_configuration(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        **SMALL,
        "run/unknown.yaml": RUN.replace("task_name: t", "task_name: tt") + "input_binding: {}\noutput_binding: {}\n",
        "run/t.yaml": RUN + "input_binding:\n  aa: x\n  b: y\noutput_binding: {}\n",
    }))
    assert problems(reading) == [
        "warning run/t.yaml:4:1 unbound-parameter input_binding",
        "error run/t.yaml:5:3 unknown-parameter input_binding.aa",
        "error run/t.yaml:6:3 wrong-binding input_binding.b",
        "warning run/t.yaml:7:1 unbound-parameter output_binding",
        "error run/unknown.yaml:3:12 unknown-task task_name",
    ]
    hints = {problem.code: problem.hint for problem in reading.problems}
    assert hints["unknown-parameter"] == "did you mean 'a'?"
    assert hints["wrong-binding"] == "move it to output_binding"
    assert hints["unknown-task"] == "did you mean 't'?"
    assert parameter(reading, "t", "a").default is None


def test_a_name_on_both_sides_needs_one_path(tmp_path: Path) -> None:
    both = TASK.replace("name: b", "name: a")
    same = RUN + "input_binding: {a: x}\noutput_binding: {a: x}\n"
    reading = read(write_tree(tmp_path, {**SMALL, "tasks/t.yaml": both, "run/t.yaml": same}))
    assert codes(reading) == ["both-directions"]
    assert [(one.parameter, one.value) for one in task(reading, "t").groups[0].bindings] == [("a", "x")]
    write_tree(tmp_path, {"run/t.yaml": same.replace("{a: x}\n", "{a: y}\n", 1)})
    reading = read(tmp_path)
    assert "error run/t.yaml:5:18 bound-twice output_binding.a" in problems(reading)


def test_listed_and_unlisted_task_files(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        **SMALL, "mlcube.yaml": ROOT + "tasks:\n  - tasks/t.yaml\n  - tasks/tarin.yaml\n  - tasks/t.yaml\n",
        "tasks/train.yaml": TASK}))
    assert problems(reading) == [
        "error mlcube.yaml:8:5 missing-task tasks[1]",
        "warning mlcube.yaml:9:5 duplicate-task tasks[2]",
        "warning tasks/train.yaml unlisted-file",
    ]
    assert reading.problems[0].hint == "did you mean 'tasks/train.yaml'?"
    assert [one.name for one in reading.cube.tasks] == ["t", "train"]  # type: ignore[union-attr]


def test_a_task_file_elsewhere_and_two_of_one_name(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {**SMALL, "mlcube.yaml": ROOT + "tasks: [more/u.yaml, tasks/t.yaml, more/t.yaml]\n",
                                         "more/u.yaml": TASK, "more/t.yaml": TASK}))
    assert problems(reading) == ["error mlcube.yaml:6:36 duplicate-task tasks[2]"]
    assert [one.name for one in reading.cube.tasks] == ["u", "t"]  # type: ignore[union-attr]


def test_a_parameter_declared_twice(tmp_path: Path) -> None:
    twice = "schema_type: mlcube_task\ninputs:\n  - {name: a, type: file}\n  - {name: a, type: file}\noutputs: []\n"
    reading = read(write_tree(tmp_path, {**SMALL, "tasks/t.yaml": twice, "run/t.yaml": RUN + "input_binding: {a: x}\n"}))
    assert problems(reading) == ["error tasks/t.yaml:4:5 duplicate-parameter inputs[1].name"]


@pytest.mark.parametrize(("text", "runner", "expected"), [
    ("schema_type: mlcube_docker\nimage: i\ndocker_runtime: nvidia-docker", "docker",
     {"image": "i", "docker": "nvidia-docker"}),
    ("schema_type: mlbox_docker\nimage: i\ndocker_runtime: docker", "docker", {"image": "i", "docker": "docker"}),
    ("schema_type: mlcube_docker\nimage: i\nnetwork: none\nenv: {A: 1}\nbuild_context: src", "docker",
     {"image": "i", "network": "none", "env": {"A": "1"}, "build_context": "src"}),
    ("schema_type: mlcube_platform\nplatform: {name: docker, version: '>=18.01'}\ncontainer: {image: i, runtime: nvidia}",
     "docker", {"image": "i", "container_runtime": "nvidia"}),
    ("schema_type: mlcommons_box_platform\nplatform: {name: podman}\ncontainer: {image: i}", "docker",
     {"image": "i", "docker": "podman"}),
    ("schema_type: mlcube_platform\nplatform: {name: docker}\ncontainer: {image: i, command: sudo docker, run_args: -v a:b}",
     "docker", {"image": "i", "docker": "sudo docker", "run_args": "-v a:b"}),
    ("schema_type: mlcube_platform\nplatform: {name: podman}\ncontainer: {image: i, command: sudo podman}", "docker",
     {"image": "i", "docker": "sudo podman"}),
    ("schema_type: mlcube_platform\nplatform: {name: singularity}\ncontainer: {image: i.sif}", "singularity",
     {"image": "i.sif"}),
    ("schema_type: mlcube_singularity\nimage: i.simg", "singularity", {"image": "i.simg"}),
    ("schema_type: mlcube_local\nentrypoint: m.py\ninterpreter: conda\nconda: {version: 3.10}", "local",
     {"entrypoint": "m.py", "interpreter": "conda", "python": "3.10"}),
    ("schema_type: mlcube_ssh\nhost: h\nplatform: docker.yaml", "ssh", {"host": "h", "platform": "docker.yaml"}),
])
def test_platform_spellings(tmp_path: Path, text: str, runner: str, expected: dict[str, object]) -> None:
    reading = read(write_tree(tmp_path, {**SMALL, "platforms/sub/p.yaml": text + "\n", "src/x": "", "m.py": ""}))
    assert reading.problems == ()
    assert platform(reading, "sub/p").runner == runner
    found = {option.name: option.value for option in platform(reading, "sub/p").options if option.origin != "default"}
    assert found == expected


def test_defaults_of_the_dialect(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, SMALL))
    assert options(reading, "docker") == {"image": "i", "build_strategy": "build", "build_context": "build",
                                          "build_file": "Dockerfile"}


@pytest.mark.parametrize(("text", "expected"), [
    ("schema_type: mlcube_lsf\nx: 1", ["warning platforms/p.yaml:1:14 unknown-platform schema_type"]),
    ("image: i", ["error platforms/p.yaml:1:1 missing-key schema_type"]),
    ("schema_type: mlcube_runner\nplatform: {name: docker}", []),
    ("schema_type: mlcube_docker", ["error platforms/p.yaml:1:1 missing-key image"]),
    ("schema_type: mlcube_docker\nimage: [", ["error platforms/p.yaml:3:1 yaml"]),
])
def test_platform_files_that_cannot_be_used(tmp_path: Path, text: str, expected: list[str]) -> None:
    reading = read(write_tree(tmp_path, {**SMALL, "platforms/p.yaml": text + "\n"}))
    assert problems(reading) == expected
    assert reading.cube is not None


def test_the_first_stage_of_the_dialect(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        "mlbox.yaml": "schema_type: mlbox_root\nschema_version: 1.0.0\nname: n\nauthor: a\nversion: 0.1.0\n"
                      "mlbox_spec_version: 0.1.0\ntasks: [tasks/t.yaml]\n",
        "tasks/t.yaml": TASK.replace("mlcube_task", "mlbox_task"),
        "run/t.yaml": SMALL["run/t.yaml"].replace("mlcube", "mlbox"),
        "mlbox_docker.yaml": "schema_type: mlbox_docker\nschema_version: 1.0.0\nimage: i\ndocker_runtime: docker\n",
        "build/Dockerfile": ""}))
    assert reading.problems == ()
    assert reading.cube is not None
    assert reading.cube.dialect == "directory"
    assert options(reading, "docker")["image"] == "i"
    assert platform(reading, "docker").location.file == "mlbox_docker.yaml"


def test_what_lies_about_in_the_directories_is_named_and_never_waited_for(tmp_path: Path) -> None:
    write_tree(tmp_path, {**SMALL, "platforms/sub.yaml/x": "", "platforms/notes.txt": "x"})
    (tmp_path / "platforms/loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "platforms/up").symlink_to("..")
    os.mkfifo(tmp_path / "platforms/pipe.yaml")
    reading = read(tmp_path)
    assert [problem.location.file for problem in reading.problems] == ["platforms/loop.yaml", "platforms/pipe.yaml"]
    assert [one.name for one in reading.cube.platforms] == ["docker"]  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["data", "workspace/data"])
def test_kubernetes_bindings_are_read(tmp_path: Path, path: str) -> None:
    binding = f"input_binding: {{a: {{path: {path}, k8s: {{pvc: p}}}}}}\noutput_binding: {{b: o}}\n"
    reading = read(write_tree(tmp_path, {**SMALL, "run/kubernetes.yaml": RUN + binding}))
    assert codes(reading) == ["unused-section"]
    assert reading.problems[0].severity == "warning"
    assert task(reading, "t").groups[0].binding("a").value == "data"


def test_a_mapping_without_a_path_binds_nothing(tmp_path: Path) -> None:
    binding = "input_binding: {a: {k8s: {pvc: p}}}\noutput_binding: {b: o}\n"
    reading = read(write_tree(tmp_path, {**SMALL, "run/kubernetes.yaml": RUN + binding}))
    assert problems(reading) == ["error run/kubernetes.yaml:4:20 missing-key input_binding.a"]


def test_a_platform_by_name_by_file_and_from_outside(tmp_path: Path) -> None:
    cube = write_tree(tmp_path / "cube", {**SMALL, "platforms/gpu.yaml": "schema_type: mlcube_docker\nimage: g\n"})
    write_tree(tmp_path, {"mine.yaml": "schema_type: mlcube_docker\nimage: m\n", "docker": "no platform"})

    def chosen(text: str) -> tuple[str | None, object]:
        reading = read(cube, where="cube", cwd=tmp_path, platform=text)
        assert reading.problems == ()
        return reading.platform, options(reading, str(reading.platform))["image"]

    assert chosen("gpu") == ("gpu", "g")
    assert chosen("docker") == ("docker", "i")
    assert chosen("platforms/gpu.yaml") == ("gpu", "g")
    assert chosen("cube/platforms/gpu.yaml") == ("gpu", "g")
    assert chosen(str(cube / "platforms/gpu.yaml")) == ("gpu", "g")
    assert chosen("gpu.yaml") == ("gpu", "g")
    assert chosen("mine.yaml") == ("mine", "m")
    with pytest.raises(UsageError, match="no platform 'gup'") as caught:
        read(cube, platform="gup")
    assert caught.value.hint == "did you mean 'gpu'?"
    with pytest.raises(UsageError) as caught:
        read(cube, platform="tpu-pod")
    assert caught.value.hint.startswith("its platforms are: docker, gpu; there are also: podman,")


def test_a_broken_platform_file_that_was_asked_for(tmp_path: Path) -> None:
    write_tree(tmp_path, {**SMALL, "mine.yaml": "schema_type: mlcube_docker\nimage: [\n"})
    reading = read(tmp_path, platform="mine.yaml")
    assert reading.platform is None
    assert [problem.location.file for problem in reading.problems] == ["mine.yaml"]


def test_a_run_configuration_from_elsewhere(tmp_path: Path) -> None:
    cube = write_tree(tmp_path / "cube", SMALL)
    write_tree(tmp_path, {"my.yaml": RUN + "input_binding: {a: mine}\noutput_binding: {b: o}\n"})
    reading = read(cube, where="cube", cwd=tmp_path, run_files=("my.yaml", "t", "run/t.yaml", "absent.yaml"))
    assert reading.problems == ()
    assert [(group.name, group.binding("a").value, group.location.file) for group in task(reading, "t").groups] == [
        ("t", "in", "cube/run/t.yaml"), ("my", "mine", "my.yaml")]
    assert parameter(reading, "t", "a").default == "in"


def test_a_seed_cube_with_a_sample_task_and_a_local_platform(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        **DIRECTORY,
        "platforms/local.yaml": "schema_type: mlcube_local\nentrypoint: build/mnist.py\n"
                                "requirements: build/requirements.txt\ninterpreter: virtualenv\n"}))
    assert reading.problems == ()
    assert options(reading, "local") == {"entrypoint": "build/mnist.py", "requirements": "build/requirements.txt",
                                         "interpreter": "virtualenv"}
