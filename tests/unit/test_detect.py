"""Which file defines a cube, in which dialect, and what is said when none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.definition import read_cube
from mlcube_cli.definition.detect import absolute, detect_dialect, find_definition, shown_path
from mlcube_cli.errors import DefinitionError
from tests.cubes import codes, read, write_tree


@pytest.mark.parametrize(("data", "dialect"), [
    ({"schema_type": "mlcube_root", "tasks": []}, "directory"),
    ({"schema_type": "mlbox_root", "type": "mlbox", "tasks": {}}, "directory"),
    ({"schema_type": "mlcube_inputs", "tasks": ["tasks/a.yaml"]}, "directory"),
    ({"type": "mlbox", "tasks": {}}, "mlbox"),
    ({"tasks": {"a": None}}, "inline"),
    ({"tasks": ["tasks/a.yaml"]}, "directory"),
    ({"tasks": None, "name": "x"}, "inline"),
    ({"docker": None}, "inline"),
])
def test_the_content_decides(tmp_path: Path, data: dict, dialect: str) -> None:
    assert detect_dialect(data, str(tmp_path), "f.yaml") == dialect


def test_an_implementation_file_makes_an_mlbox(tmp_path: Path) -> None:
    write_tree(tmp_path, {"implementation/mlbox_implementation.yaml": "implementation_type: docker\n"})
    assert detect_dialect({"tasks": {"a": None}}, str(tmp_path), "f.yaml") == "mlbox"


@pytest.mark.parametrize(("text", "what"), [
    ("container_type: DockerImage\nimage: x\ntasks: {a: {}}\n", "MedPerf"),
    ("services: {web: {image: x}}\n", "docker compose"),
    ("name: x\nchannels: []\ndependencies: []\n", "conda environment"),
    ("on: push\njobs: {}\n", "GitHub workflow"),
    ("runners: {}\nplatforms: {}\n", "settings file"),
    ("apiVersion: v1\nkind: Pod\n", "Kubernetes"),
    ("schema_type: mlcube_task\ninputs: []\n", "a task file"),
    ("schema_type: mlbox_docker\nimage: x\n", "a docker platform file"),
    ("- a\n- b\n", "a list"),
    ("hello\n", "a single value"),
    ("a: 1\n", "no 'tasks'"),
])
def test_other_files_are_named_as_what_they_are(tmp_path: Path, text: str, what: str) -> None:
    reading = read(write_tree(tmp_path, {"f.yaml": text}), where="f.yaml")
    assert reading.cube is None
    assert codes(reading) == ["not-a-cube"]
    assert what in reading.problems[0].message
    assert reading.problems[0].location.file == "f.yaml"


@pytest.mark.parametrize(("name", "text", "what"), [
    ("Dockerfile", "# syntax=x\nARG A=1\nFROM debian\nRUN apt-get install -y x\n", "a Dockerfile"),
    ("Singularity.recipe", "Bootstrap: docker\nFrom: debian\n\n%post\n    apt-get update\n", "a singularity recipe"),
    ("MLproject", "name: x\nconda_env: c.yaml\nentry_points:\n  main: {command: python x.py}\n", "an MLflow project"),
    ("pods.yaml", "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\n", "a Kubernetes manifest"),
    ("Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n", "a Helm chart"),
    ("package.json", '{"name": "x", "version": "1.0.0", "dependencies": {"a": "1"}}\n', "a package.json of npm"),
    ("fault.json", '{"name": "x",\n "tasks": {"a": {}\n', "JSON with a fault in line 3"),
    ("settings.yaml", "platforms: {big: {runner: docker}}\n", "a settings file of mlcube"),
    ("pyproject.toml", "[project]\nname = 'x'\n", "a TOML file"),
    ("train.py", "import os\nprint(os.name)\n", "a Python program"),
    ("run.sh", "#!/bin/sh\necho hello: you\n", "a program"),
    ("requirements.txt", "numpy==1.26  # why\npandas[all]>=2\n", "a list of Python requirements"),
    ("page.yaml", "<!DOCTYPE html>\n<html>\n", "XML or a web page"),
    ("record.json", '{"schema": "mlcube.record.v1", "task": "x"}\n', "a document that mlcube wrote (mlcube.record.v1)"),
    ("gcp.yaml", "gcp: {zone: x}\ninstance: {name: y}\nplatform: ssh.yaml\n", "the Google Cloud runner"),
    ("config.yaml", "mlbox: spec.yaml\nio: {data: {path: x}}\nplatform: {}\n", "the first prototype of 2019"),
    ("spec.yaml", "container: {image: x, command: []}\nio: {data: {mountPath: /x}}\n", "the first prototype of 2019"),
    ("box.yaml", "box_name: x\nbox_implementation: docker\n", "a prototype of early 2020"),
    ("hello.yaml", "implementation_type: direct_python\nmain_file: a.py\n", "a prototype of early 2020"),
    ("impl.yaml", "implementation_type: docker\nimage: x\n", "an MLBox's implementation file"),
    ("platform.yaml", "default: d\nd: {runner: docker}\n", "an MLBox's platform file"),
    ("task.yaml", "inputs: {a: {desc: x}}\noutputs: {}\n", "a single task"),
])
def test_files_of_other_tools_are_named(tmp_path: Path, name: str, text: str, what: str) -> None:
    reading = read(write_tree(tmp_path, {name: text}), where=name)
    assert codes(reading) == ["not-a-cube"]
    assert f"it is {what}" in reading.problems[0].message or what in reading.problems[0].message.partition(": ")[2]
    assert reading.problems[0].hint


@pytest.mark.parametrize(("content", "what"), [
    (b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC", "a singularity image (SIF)"),
    (b"name" + b"\0" * 253 + b"ustar\0", "a tar archive"),
    (b"\x1f\x8b\x08\0\0", "a gzip archive"),
    (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
])
def test_images_and_archives_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "f").write_bytes(content)
    reading = read(tmp_path, where="f")
    assert [(one.code, one.message) for one in reading.problems] == [("binary-file", f"this is {what}, not text")]


@pytest.mark.parametrize("text", [
    "name: {{ cookiecutter.name }}\ndocker: {image: x}\ntasks: {a: null}\n",
    "name: '{{ cookiecutter.name }}'\ndocker: {image: x}\ntasks: {a: null}\n",
    "name: x\ntasks:\n{% if cookiecutter.train %}\n  train: null\n{% endif %}\n",
])
def test_a_template_is_named(tmp_path: Path, text: str) -> None:
    reading = read(write_tree(tmp_path, {"mlcube.yaml": text}))
    assert codes(reading) == ["template"]
    assert reading.problems[0].location.line == (1 if "name: x" not in text else 3)


def test_other_tags_in_texts_are_no_template(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {
        "mlcube.yaml": "docker: {image: x}\ntasks: {a: {entrypoint: \"docker inspect --format '{{.Id}}'\"}}\n"}))
    assert reading.problems == ()


def test_a_part_names_its_cube(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "cube/mlcube.yaml": "schema_type: mlcube_root\nname: x\ntasks: [tasks/a.yaml]\n",
        "cube/tasks/a.yaml": "schema_type: mlcube_task\ninputs: []\n",
        "box/mlbox.yaml": "type: mlbox\nname: x\ntasks: {t: {inputs: {a: {}}, outputs: {}}}\n",
        "box/tasks/t/default.yaml": "a: 1\n",
        "{{cookiecutter.name}}/mlcube.yaml": "tasks: {a: null}\n",
    })
    assert read(tmp_path, where="cube/tasks/a.yaml").problems[0].hint == "name the cube's directory instead: cube"
    assert read(tmp_path, where="a.yaml", cwd=tmp_path / "cube/tasks").problems[0].hint == (
        "name the cube's directory instead: ..")
    assert read(tmp_path, where="box/tasks/t/default.yaml").problems[0].hint == "name the cube's directory instead: box"


def test_a_list_of_tasks_with_mappings_is_a_mistake_of_the_inline_dialect(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {"mlcube.yaml": "name: x\ndocker: {image: a}\ntasks: [{train: null}]\n"}))
    assert codes(reading) == ["wrong-type"]
    assert reading.problems[0].message == "'tasks' must be a mapping, not a list"


@pytest.mark.parametrize("name", ["mlcube.yaml", "mlcube.yml", "mlbox.yaml", ".mlcube.yaml"])
def test_a_directory_is_searched_for_the_usual_names(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, {name: "tasks: {a: null}\n"})
    assert find_definition(str(tmp_path), "/", {}) == (str(tmp_path), str(tmp_path / name))


def test_the_first_usual_name_wins(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlbox.yaml": "", "mlcube.yaml": ""})
    assert find_definition(".", str(tmp_path), {})[1] == str(tmp_path / "mlcube.yaml")


def test_a_file_of_any_name_is_taken_and_its_directory_is_the_root(tmp_path: Path) -> None:
    write_tree(tmp_path, {"cubes/gpu.yaml": "tasks: {a: null}\n"})
    reading = read(tmp_path, where="cubes/gpu.yaml")
    assert reading.cube is not None
    assert (reading.cube.root, reading.cube.file) == (str(tmp_path / "cubes"), str(tmp_path / "cubes/gpu.yaml"))


def test_home_is_understood_where_no_shell_expanded_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"c/mlcube.yaml": ""})
    assert find_definition("~/c", "/", {"HOME": str(tmp_path)})[0] == str(tmp_path / "c")


@pytest.mark.parametrize(("files", "where", "message", "hint"), [
    ({}, ".", "no mlcube.yaml or mlbox.yaml", "name a directory"),
    ({"mlcub.yaml": ""}, ".", "no mlcube.yaml", "mlcub.yaml"),
    ({"mnist/mlcube.yaml": ""}, ".", "no mlcube.yaml", "mnist"),
    ({"mlcube.yaml": "", "build/x": ""}, "build", "there is no cube in build", "directory above"),
    ({"mnist/x": ""}, "mnits", "there is no mnits", "did you mean 'mnist'?"),
    ({"a/mnist/x": ""}, "a/mnits", "there is no a/mnits", "did you mean 'a/mnist'?"),
    ({}, "no/where", "there is no no/where", "does not exist"),
    ({}, "https://github.com/mlcommons/x", "is a URL", "clone"),
    ({}, "git@github.com:mlcommons/x", "is a URL", "clone"),
    ({}, "a\x00b", "NUL", ""),
])
def test_an_absent_cube_is_said_with_what_to_type_instead(tmp_path: Path, files: dict[str, str], where: str,
                                                          message: str, hint: str) -> None:
    write_tree(tmp_path, files)
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, where=where)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_places_are_shown_from_the_current_directory_where_they_lie_below_it(tmp_path: Path) -> None:
    assert shown_path("/a/b/c.yaml", "/a") == "b/c.yaml"
    assert shown_path("/a/b/c.yaml", "/") == "a/b/c.yaml"
    assert shown_path("/ab/c.yaml", "/a") == "/ab/c.yaml"
    write_tree(tmp_path, {"cube/mlcube.yaml": "tasks: {a: {entrypoint: \"'\"}}\n"})
    (tmp_path / "other").mkdir()
    below, beside = (read(tmp_path, where=str(tmp_path / "cube"), cwd=cwd) for cwd in (tmp_path, tmp_path / "other"))
    assert below.problems[0].location.file == "cube/mlcube.yaml"
    assert beside.problems[0].location.file == str(tmp_path / "cube/mlcube.yaml")


def test_dot_dot_after_a_link_means_what_the_kernel_means(tmp_path: Path) -> None:
    write_tree(tmp_path, {"far/inner/x": "", "far/mlcube.yaml": "", "near/x": ""})
    (tmp_path / "near/link").symlink_to(tmp_path / "far/inner")
    assert absolute("link/..", str(tmp_path / "near")) == str(tmp_path / "far")
    assert absolute("link", str(tmp_path / "near")) == str(tmp_path / "near/link")


def test_any_byte_may_be_in_a_path(tmp_path: Path) -> None:
    root = tmp_path / "caf\udce9 \n'$x"
    write_tree(root, {"mlcube.yaml": "docker: {image: a}\ntasks: {t: {parameters: {outputs: {o: '${workspace}/o/'}}}}\n"})
    reading = read(root)
    assert reading.problems == ()
    assert reading.cube is not None
    assert reading.cube.root == str(root)
    assert reading.cube.tasks[0].parameters[0].default == f"{root}/workspace/o/".replace("$", "$$")


def test_reading_needs_no_more_than_a_place() -> None:
    from mlcube_cli.definition import ReadRequest

    with pytest.raises(DefinitionError):
        read_cube(ReadRequest("/nonexistent"))


def test_definitions_of_other_names_are_listed(tmp_path: Path) -> None:
    for name in ("mlcube.cpu.yaml", "mlcube.gpu.yml", "notes.yaml"):
        (tmp_path / name).write_text("")
    with pytest.raises(DefinitionError) as caught:
        find_definition(".", str(tmp_path), {})
    assert caught.value.hint == "name the file itself, with --mlcube: mlcube.cpu.yaml, mlcube.gpu.yml"
