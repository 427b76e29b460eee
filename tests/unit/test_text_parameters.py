"""Parameters that are no paths: the task gets their text, word for word, and nothing is mounted, made or looked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlcube_cli.definition.model import Parameter
from tests.conftest import RunMLCube
from tests.cubes import bound, parameter, problems, read, read_inline, task, write_tree

CUBE = """
    name: text
    local: {entrypoint: /bin/echo, interpreter: system}
    docker: {image: a:1}
    tasks:
      main:
        parameters:
          inputs:
            n: {type: int, default: 3}
            rate: {type: float, default: 1.10}
            flag: {type: bool, default: true}
            odd: {type: string, default: '$HOME ~/$$ ${oc.env:SIGN}'}
            unset: {type: string}
            data: {type: file, default: data}
          outputs:
            out: {type: file, default: out}
    """


@pytest.mark.parametrize("word", ["string", "str", "text", "int", "integer", "float", "number", "bool", "boolean"])
def test_words_for_a_value_that_is_no_path(tmp_path: Path, word: str) -> None:
    reading = read_inline(tmp_path, f"docker: {{image: a}}\ntasks: {{a: {{parameters: {{inputs: {{n: {{type: {word}, "
                                    "default: dir/}}}}}\n")
    assert reading.problems == ()
    assert parameter(reading, "a", "n").type == "text"
    assert parameter(reading, "a", "n").default == "dir/"


def test_a_value_is_the_text_that_the_definition_writes(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, CUBE, environment={"SIGN": "5$"})
    shown = {one.name: (one.type, one.default) for one in task(reading, "main").parameters if one.direction == "input"}
    assert shown == {"n": ("text", "3"), "rate": ("text", "1.10"), "flag": ("text", "true"), "unset": ("text", None),
                     "odd": ("text", "$HOME ~/$$ 5$"), "data": ("file", "data")}
    assert problems(reading) == ["warning mlcube.yaml:11:38 secret-argument tasks.main.parameters.inputs.odd"]


def test_the_task_gets_texts_word_for_word(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": CUBE, "workspace/data": ""})
    done = run_mlcube("run", str(tmp_path), "--platform=local", "n=", "unset=a=b $HOME/*", env={"SIGN": "x"})
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ("main --n= --rate=1.10 --flag=true --odd=$HOME ~/$$ x --unset=a=b $HOME/* "
                           f"--data={tmp_path}/workspace/data --out={tmp_path}/workspace/out\n")
    assert sorted(path.name for path in (tmp_path / "workspace").iterdir()) == [".mlcube", "data"]


def test_the_plan_shows_texts_and_mounts_only_paths(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": CUBE, "workspace/data": ""})
    done = run_mlcube("run", str(tmp_path), "--platform=docker", "--dry-run", "--json", "n=7", env={"SIGN": "x"})
    assert done.exit_code == 0, done.stderr
    planned = json.loads(done.stdout)["tasks"][0]
    assert planned["arguments"][0] == {"name": "n", "direction": "input", "type": "text", "mode": "ro", "host_path": "",
                                       "task_path": "", "text": "7"}
    assert [one["name"] for one in planned["arguments"]] == ["n", "rate", "flag", "odd", "data", "out"]
    words = planned["steps"][-1]["argv"]
    assert "--n=7" in words
    assert sum(word.startswith("type=bind") for word in words) == 3  # data, the directory of out, data again inside it


def test_run_configurations_bind_texts(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "mlcube.yaml": "schema_type: mlcube_root\nname: n\ntasks: [tasks/train.yaml]\n",
        "tasks/train.yaml": """
            schema_type: mlcube_task
            inputs: [{name: epochs, type: int}, {name: fast, type: bool, default: false}, {name: data, type: dir}]
            outputs: []
            """,
        "run/train.yaml": "schema_type: mlcube_invoke\ntask_name: train\ninput_binding: {epochs: 010, data: d}\n",
        "platforms/docker.yaml": "schema_type: mlcube_docker\nimage: a\n",
    })
    reading = read(tmp_path)
    assert [(one.name, one.type, one.default) for one in task(reading, "train").parameters] == [
        ("epochs", "text", "010"), ("fast", "text", "false"), ("data", "directory", "d")]
    assert bound(task(reading, "train").groups[0]) == (("epochs", "010"), ("data", "d"))
    assert problems(reading) == ["warning run/train.yaml:3:1 unbound-parameter input_binding",
                                 "warning tasks/train.yaml:2:98 unusual-type inputs[2]"]


def test_an_mlbox_may_state_types_too(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "mlbox.yaml": "type: mlbox\nname: n\ntasks: {a: {inputs: {n: {type: int}}, outputs: {o: {type: directory}}}}\n",
        "tasks/a/default.yaml": "n: 4\no: o\n",
        "implementation/mlbox_implementation.yaml": "implementation_type: docker\nimage: a\n",
    })
    reading = read(tmp_path)
    assert reading.problems == ()
    assert [(one.type, one.default) for one in task(reading, "a").parameters] == [("text", "4"), ("directory", "o")]


def _only(tmp_path: Path, side: str, text: str) -> tuple[Parameter, list[str], list[str]]:
    reading = read_inline(tmp_path, f"docker: {{image: a}}\ntasks: {{a: {{parameters: {{{side}: {{p: {text}}}}}}}}}\n")
    return parameter(reading, "a", "p"), problems(reading), [problem.hint for problem in reading.problems]


def test_unusual_words_are_read_and_reported(tmp_path: Path) -> None:
    found, said, hints = _only(tmp_path, "inputs", "{type: folder, default: d}")
    assert (found.type, hints) == ("directory", ["write 'type: directory'"])
    assert said == ["warning mlcube.yaml:2:45 unusual-type tasks.a.parameters.inputs.p"]
    found, _, hints = _only(tmp_path, "inputs", "{type: path, default: d/}")
    assert (found.type, hints) == ("directory", ["write 'type: file' or 'type: directory'"])


def test_a_truth_value_without_a_type_is_a_path_and_reported(tmp_path: Path) -> None:
    found, said, _ = _only(tmp_path, "inputs", "true")
    assert (found.type, found.default) == ("unknown", "true")
    assert said == ["warning mlcube.yaml:2:38 value-as-path tasks.a.parameters.inputs.p"]


def test_an_output_is_never_a_text(tmp_path: Path) -> None:
    _, said, _ = _only(tmp_path, "outputs", "{type: string, default: d}")
    assert said == ["error mlcube.yaml:2:46 bad-value tasks.a.parameters.outputs.p"]
