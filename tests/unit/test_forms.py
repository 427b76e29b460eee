"""Older and stranger forms of a cube: each is read as it was meant, or named as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.cubes import bound, codes, options, parameter, platform, problems, read, task, write_tree

STAGE_2A = {
    "mlbox.yaml": """
        schema_version: 1.0.0
        schema_type: mlbox_root
        name: mnist
        author: MLPerf
        version: 0.1.0
        mlbox_spec_version: 0.1.0
        tasks: [tasks/train.yaml]
        """,
    "tasks/train.yaml": """
        schema_version: 1.0.0
        schema_type: mlbox_task
        inputs: [{name: data_dir, type: directory}]
        outputs: [{name: model_dir, type: directory}]
        """,
    "run/train.yaml": """
        schema_type: mlbox_invoke
        schema_version: 1.0.0
        task_name: train
        input_binding: {data_dir: $WORKSPACE/data}
        output_binding: {model_dir: $WORKSPACE/model}
        """,
    "mlbox_docker.yaml": """
        schema_version: 1.0.0
        schema_type: mlbox_docker
        image: mlperf/mnist:0.0.1
        docker_runtime: docker
        """,
    "build/Dockerfile": "FROM scratch\n",
    "workspace/data/x": "",
}
COMPACT = """
    name: mnist
    author: Ada
    tasks:
      train:
        parameters:
          - {name: data_dir, type: directory, io: input, description: the data}
          - {name: epochs, type: int, io: input}
          - {name: model_dir, type: directory, io: output}
        tasks:
          train: {data_dir: data, epochs: 3, model_dir: model}
          small: {data_dir: $WORKSPACE/small, model_dir: small_model}
    """


def test_stage_2a_with_its_docker_file_at_the_root(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, STAGE_2A))
    assert reading.problems == ()
    assert reading.cube is not None and reading.cube.dialect == "directory"
    assert options(reading, "docker")["docker"] == "docker"
    done = run_mlcube("run", str(tmp_path), "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "docker build --tag mlperf/mnist:0.0.1" in done.stdout
    assert done.stdout.rstrip().endswith("train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null")


def test_a_root_that_calls_itself_inputs_with_versions_that_are_numbers(tmp_path: Path) -> None:
    root = "schema_version: 0.1\nschema_type: mlcube_inputs\nname: transformer\nauthor: a\nversion: 0.1\n"
    reading = read(write_tree(tmp_path, {
        **{name: text for name, text in STAGE_2A.items() if name != "mlbox.yaml"},
        "mlcube.yaml": root + "mlcube_spec_version: 0.1\ntasks: [tasks/train.yaml]\n",
        "tasks/train.yaml": "schema_version: 0.1\nschema_type: mlcube_task\ndesc: d\n"
                            "inputs: [{name: data_dir, type: directory, desc: the data}]\n"
                            "outputs: [{name: model_dir, type: directory}]\n"}))
    assert reading.problems == ()
    assert reading.cube is not None and reading.cube.version == "0.1"
    assert parameter(reading, "train", "data_dir").description == "the data"


def test_interim_platform_files(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        **STAGE_2A,
        "platforms/box.yaml": """
            schema_type: mlcommons_box_platform
            schema_version: 1.0.0
            platform: {name: docker, version: ">=18.01"}
            container: {image: a/b, runtime: nvidia}
            """,
        "platforms/runner.yaml": "schema_type: mlcommons_box_runner\nschema_version: 1.0.0\nplatform: {name: docker}\n"}))
    assert reading.problems == ()
    assert options(reading, "box")["container_runtime"] == "nvidia"
    assert [one.name for one in reading.cube.platforms] == ["box", "docker"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("text", "runner"), [
    ("schema_type: mlcube_platform\nplatform: {name: k8s}\ncontainer: {image: x}\n", "Kubernetes"),
    ("schema_type: mlcube_k8s\nimage: x\npvc: y\n", "Kubernetes"),
    ("schema_type: mlcube_kubeflow\nimage: x\n", "Kubeflow"),
    ("schema_type: mlcube_gcp\nplatform: ssh.yaml\n", "Google Cloud"),
    ("gcp: {project_id: x, zone: y}\ninstance: {name: gcp-f1-micro}\nplatform: ssh.yaml\n", "Google Cloud"),
])
def test_platform_files_of_runners_of_old_are_named_and_left_out(run_mlcube: RunMLCube, tmp_path: Path, text: str,
                                                                 runner: str) -> None:
    cube = write_tree(tmp_path / "cube", {**STAGE_2A, "platforms/old.yaml": text})
    reading = read(cube)
    assert problems(reading) == ["warning platforms/old.yaml:1:1 unused-platform"]
    assert f"the {runner} runner of earlier versions" in reading.problems[0].message
    assert [one.name for one in reading.cube.platforms] == ["docker"]  # type: ignore[union-attr]
    done = run_mlcube("run", str(cube), "--platform=platforms/old.yaml", "--dry-run")
    assert done.exit_code == 3
    assert f"the {runner} runner of earlier versions" in done.stderr


@pytest.mark.parametrize(("text", "expected", "unused"), [
    ("host: h\nuser: u\nplatform: docker.yaml\nenv: {path: ./mlbox, sync: true, interpreter: {type: system, "
     "python: python3.6}, variables: {A: 1}}\nmlbox: {path: x, sync: true}\n",
     {"host": "h", "user": "u", "platform": "docker.yaml", "env": {"A": "1"}, "remote_root": "x"}, ["5:1 env"]),
    ("host: h\nuser: u\nplatform: docker.yaml\nenv: {variables: {}}\nmlcube: {path: x, sync: false}\n",
     {"host": "h", "user": "u", "platform": "docker.yaml", "env": {}, "remote_root": "x"}, ["6:1 mlcube"]),
    ("host: h\nauthentication: {user: u, identify_file: k}\nplatform: docker.yaml\ninterpreter: {type: virtualenv, "
     "python: python3, requirements: 'a b', location: '${HOME}/x', name: y}\n",
     {"host": "h", "user": "u", "identity_file": "k", "platform": "docker.yaml"}, ["5:1 interpreter"]),
    ("host: h\nauthentication: {user: u, identity_file: k}\ninterpreter: {}\nplatform: ''\n",
     {"host": "h", "user": "u", "identity_file": "k", "platform": ""}, []),
    ("host: h\nauthentication: {}\nenv: {A: b}\nsync: {exclude: x}\n",
     {"host": "h", "env": {"A": "b"}, "sync": {"exclude": "x"}}, []),
    ("host: h\nauthentication: null\nsync: false\n", {"host": "h"}, ["4:1 sync"]),
    ("host: h\nauthentication: null\nsync: true\n", {"host": "h"}, ["4:1 sync"]),
])
def test_old_ssh_files_are_read(tmp_path: Path, text: str, expected: dict[str, object], unused: list[str]) -> None:
    reading = read(write_tree(tmp_path, {**STAGE_2A, "platforms/ssh.yaml": f"schema_type: mlcube_ssh\n{text}"}))
    assert problems(reading) == [f"warning platforms/ssh.yaml:{place.split()[0]} unused-section {place.split()[1]}"
                                 for place in unused]
    assert platform(reading, "ssh").runner == "ssh"
    assert options(reading, "ssh") == expected


@pytest.mark.parametrize("text", ["user: a\nauthentication: {user: b}", "remote_root: a\nmlcube: {path: b}",
                                  "authentication: {identity_file: a, identify_file: b}"])
def test_an_ssh_platform_that_says_one_thing_in_two_places(tmp_path: Path, text: str) -> None:
    reading = read(write_tree(tmp_path, {**STAGE_2A, "platforms/ssh.yaml": f"schema_type: mlcube_ssh\nhost: h\n{text}\n"}))
    assert [problem.code for problem in reading.problems] == ["duplicate-key"]
    assert "both are the option" in reading.problems[0].message


@pytest.mark.parametrize(("text", "message"), [
    ("port: 0", "'port' must be 1 or more, not 0"), ("port: 65536", "'port' must be 65535 or less, not 65536"),
    ("reconnect: -1", "'reconnect' must be 0 or more, not -1"),
    ("control_persist: -0.5", "'control_persist' must be 0 or more, not -0.5"),
    ("sync: {bandwidth: lots}", "'bandwidth' must be a number a second, such as 500k, 20m or 1.5g, not the text 'lots'"),
    ("sync: {bandwidth: 10m/s}", "'bandwidth' must be a number a second, such as 500k, 20m or 1.5g, not the text '10m/s'"),
    ("authentication: {user: a, key: b}", "'key' is not a key that the 'authentication' section knows"),
])
def test_an_ssh_platform_whose_values_mean_nothing(tmp_path: Path, text: str, message: str) -> None:
    reading = read(write_tree(tmp_path, {**STAGE_2A, "platforms/ssh.yaml": f"schema_type: mlcube_ssh\nhost: h\n{text}\n"}))
    assert [problem.message for problem in reading.problems] == [message]


@pytest.mark.parametrize("text", ["port: 65535", "reconnect: 0", "sync: {bandwidth: 100}", "sync: {bandwidth: 1.5MiB}"])
def test_an_ssh_platform_at_the_ends_of_what_is_taken(tmp_path: Path, text: str) -> None:
    reading = read(write_tree(tmp_path, {**STAGE_2A, "platforms/ssh.yaml": f"schema_type: mlcube_ssh\nhost: h\n{text}\n"}))
    assert problems(reading) == []


def test_sections_of_runners_of_old_are_named(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        "mlcube.yaml": "docker: {image: '${k8s.image}'}\nk8s: {pvc: data, image: x}\ngcp: {}\ntasks: {a: null}\n"}))
    assert problems(reading) == ["warning mlcube.yaml:2:1 unused-section k8s", "warning mlcube.yaml:3:1 unused-section gcp"]
    assert options(reading, "docker")["image"] == "x"


# --- the compact form ------------------------------------------------------------------------------------------------


def test_the_compact_form_runs_as_what_it_unpacks_to(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {".mlcube.yaml": COMPACT, "platforms/docker.yaml": "schema_type: mlcube_docker\nimage: m\n",
                          "build/Dockerfile": "FROM scratch\n", "workspace/small/x": ""})
    reading = read(tmp_path)
    assert reading.problems == ()
    assert [(one.name, one.direction, one.type, one.default) for one in task(reading, "train").parameters] == [
        ("data_dir", "input", "directory", "data"), ("epochs", "input", "text", "3"),
        ("model_dir", "output", "directory", "model")]
    assert options(reading, "docker")["build_context"] == "build"
    done = run_mlcube("run", str(tmp_path), "--task=small", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert f"docker build --tag m --file {tmp_path}/build/Dockerfile" in done.stdout
    assert done.stdout.rstrip().endswith("m train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null")


def test_the_sketch_with_io_lists_and_a_container(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {"mlcube.yaml": """
        name: mnist
        container: {image: m, command: sudo docker, run_args: --ipc=host}
        tasks:
          train:
            io:
              - {name: data_dir, type: directory, io: input, default: $WORKSPACE/data}
              - {name: log, type: file, io: output, default: $WORKSPACE/log.txt}
        """}))
    assert reading.problems == ()
    assert [(one.name, one.direction, one.type, one.default) for one in task(reading, "train").parameters] == [
        ("data_dir", "input", "directory", "$WORKSPACE/data"), ("log", "output", "file", "$WORKSPACE/log.txt")]
    assert {**options(reading, "docker")}.items() >= {"image": "m", "docker": "sudo docker", "run_args": "--ipc=host"}.items()


def test_a_platform_file_named_as_a_key_of_the_cube_keeps_out_of_its_way(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        "mlcube.yaml": COMPACT, "platforms/name.yaml": "schema_type: mlcube_docker\nimage: m\n"}))
    assert reading.cube is not None
    assert (reading.cube.name, [one.name for one in reading.cube.platforms]) == ("mnist", ["name.yaml"])


def test_typing_errors_of_the_compact_form_are_named(tmp_path: Path) -> None:
    text = COMPACT.replace("small_model}", "small_model, mode_dir: x}").replace("io: output", "io: ouput")
    reading = read(write_tree(tmp_path, {"mlcube.yaml": text + "container: {imag: m}\n"}))
    assert [(one.code, one.hint) for one in reading.problems] == [
        ("bad-value", "did you mean 'output'?"), ("unknown-parameter", "did you mean 'model_dir'?"),
        ("missing-key", "is 'imag' meant to be 'image'?"), ("unknown-key", "did you mean 'image'?")]


def test_a_parameter_declared_twice(tmp_path: Path) -> None:
    text = COMPACT.replace("epochs, type: int", "data_dir, type: int").replace("epochs: 3, ", "")
    assert codes(read(write_tree(tmp_path, {"mlcube.yaml": text}))) == ["duplicate-parameter"]


def test_values_of_a_run_configuration_are_its_groups(tmp_path: Path) -> None:
    groups = task(read(write_tree(tmp_path, {"mlcube.yaml": COMPACT})), "train").groups
    assert [(group.name, bound(group)) for group in groups] == [
        ("train", (("data_dir", "data"), ("epochs", "3"), ("model_dir", "model"))),
        ("small", (("data_dir", "$WORKSPACE/small"), ("model_dir", "small_model")))]
