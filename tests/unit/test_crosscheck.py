"""What takes two places or a look at the disk; and whatever a definition holds, only errors of ours come out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcube_cli.definition.crosscheck import unset_variables
from mlcube_cli.errors import MLCubeError
from tests.cubes import codes, problems, read, read_inline, write_tree
from tests.unit.test_seed_pages import DIRECTORY, MLBOX


def test_names_that_cannot_be_options(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: a}
        tasks:
          t:
            parameters:
              inputs:
                a b: x
                c=d: x
                --e: x
                '': x
                "f\\n": x
                fine-_.9: x
        """)
    assert codes(reading) == ["bad-name"] * 5
    assert problems(reading)[0] == 'error mlcube.yaml:6:9 bad-name tasks.t.parameters.inputs["a b"]'


def test_names_that_the_command_line_cannot_say(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, "docker: {image: a}\ntasks: {'a,b': null, 'c d': null, 'e/f': null, '': null, ok: null}\n")
    assert [line.split()[0] for line in problems(reading)] == ["warning", "warning", "warning", "error"]
    assert set(codes(reading)) == {"bad-name"}


def test_an_output_whose_type_nothing_states(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: a}
        tasks: {t: {parameters: {inputs: {i: x}, outputs: {a: a/, b: {type: file}, c: c, d: }}}}
        """)
    assert problems(reading) == ["warning mlcube.yaml:2:76 unknown-type tasks.t.parameters.outputs.c",
                                 "warning mlcube.yaml:2:82 unknown-type tasks.t.parameters.outputs.d"]


def test_environment_variables_that_are_not_set(tmp_path: Path) -> None:
    values = {"a": "$HERE/$GONE/$GONE", "b": "$WORKSPACE/${WORKSPACE}/$$NOT/$AWAY"}
    write_tree(tmp_path / "box", {**MLBOX, "tasks/downloaddata/default.yaml": "data_dir: $GONE/x\nlog_dir: log\n"})
    write_tree(tmp_path / "inline", {"mlcube.yaml": f"""
        docker: {{image: a}}
        tasks: {{t: {{parameters: {{inputs: {json.dumps(values)}}}}}}}
        """})
    run = DIRECTORY["run/train.yaml"].replace("$WORKSPACE/model", "$GONE/model")
    write_tree(tmp_path / "directory", {**DIRECTORY, "run/train.yaml": run})
    assert run != DIRECTORY["run/train.yaml"]
    found = {}
    for dialect in ("mlbox", "inline", "directory"):
        reading = read(tmp_path / dialect.replace("mlbox", "box"))
        assert reading.problems == () and reading.effective is not None
        problems = unset_variables(dialect, reading.effective.resolved, {"HERE": "x"})
        found[dialect] = [f"{problem.location}" + f" {problem.path} {problem.message.split()[3]}" for problem in problems]
        assert {problem.severity for problem in problems} == {"warning"}
    assert found["mlbox"] == ["tasks/downloaddata/default.yaml:1:11 data_dir GONE"]
    assert found["inline"] == ["mlcube.yaml:2:40 tasks.t.parameters.inputs.a GONE",
                               "mlcube.yaml:2:66 tasks.t.parameters.inputs.b AWAY"]
    assert found["directory"] == ["run/train.yaml:12:20 output_binding.model_dir GONE"]


def test_an_input_that_is_an_output_too(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: a}
        tasks: {t: {parameters: {inputs: {d: x/}, outputs: {d: x/}}}}
        """)
    assert problems(reading) == ["warning mlcube.yaml:2:53 both-directions tasks.t.parameters.outputs.d"]


@pytest.mark.parametrize(("section", "expected"), [
    ("docker: {image: a}", []),
    ("docker:", ["error mlcube.yaml:1:1 missing-key docker.image"]),
    ("docker: {docker: podman}", ["error mlcube.yaml:1:1 missing-key docker.image"]),
    ("docker: {image: ''}", ["error mlcube.yaml:1:17 missing-key docker.image"]),
    ("docker: {image: a, build_context: src}", []),
    ("docker: {image: a, build_context: scr}", ["warning mlcube.yaml:1:35 missing-path docker.build_context"]),
    ("docker: {image: a, build_context: src, build_file: Nofile}",
     ["warning mlcube.yaml:1:52 missing-path docker.build_file"]),
    ("docker: {image: a, build_file: src/Dockerfile}", []),
    ("docker: {image: a, build_context: $X/src}", []),
    ("docker: {image: a, build_strategy: always}", ["warning mlcube.yaml:1:36 missing-path docker.build_strategy"]),
    ("docker: {image: a, build_strategy: auto}", []),
    ("local: {entrypoint: src/main.py, requirements: src/r.txt}", []),
    ("local: {entrypoint: src/man.py}", ["error mlcube.yaml:1:21 missing-path local.entrypoint"]),
    ("local: {entrypoint: [src/man.py, -x]}", ["error mlcube.yaml:1:21 missing-path local.entrypoint"]),
    ("local: {entrypoint: python -m x}", []),
    ("local: {entrypoint: torchrun, requirements: [numpy]}", []),
    ("local: {entrypoint: src/main.py, requirements: req.txt}",
     ["error mlcube.yaml:1:48 missing-path local.requirements"]),
    ("local:", ["error mlcube.yaml:1:1 missing-key local.entrypoint"]),
    ("local: {kind: exec, run: [ls]}", []),
])
def test_platforms_against_the_disk(tmp_path: Path, section: str, expected: list[str]) -> None:
    write_tree(tmp_path, {"src/main.py": "", "src/r.txt": "", "src/Dockerfile": ""})
    assert problems(read_inline(tmp_path, f"{section}\ntasks: {{t: null}}\n")) == expected


def test_a_local_platform_needs_no_entrypoint_where_each_task_has_its_own(tmp_path: Path) -> None:
    assert problems(read_inline(tmp_path, "local:\ntasks: {t: {entrypoint: sh -c ls}}\n")) == []


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    files = {**DIRECTORY, "mlcube.yaml": DIRECTORY["mlcube.yaml"].replace("tasks/train", "tasks/trian"),
             "run/train.yaml": DIRECTORY["run/train.yaml"].replace("model_dir:", "modeldir:"),
             "platforms/docker.yaml": "schema_type: mlcube_docker\nimag: x\n", "platforms/bad.yaml": "a: [\n",
             "run/empty.yaml": "", "tasks/odd.yaml": "inputs: 3\nschema_type: mlcube_task\n"}
    reading = read(write_tree(tmp_path, files))
    assert reading.cube is not None
    found = {(problem.location.file, problem.code) for problem in reading.problems}
    assert {("mlcube.yaml", "missing-task"), ("run/train.yaml", "unknown-parameter"),
            ("run/train.yaml", "unbound-parameter"), ("platforms/docker.yaml", "missing-key"),
            ("tasks/odd.yaml", "wrong-type"), ("tasks/odd.yaml", "unlisted-file")} <= found
    assert {"platforms/bad.yaml", "run/empty.yaml"} <= {file for file, _ in found}
    assert len(reading.problems) == len(set(reading.problems))
    for problem in reading.problems:
        assert problem.message
        assert problem.severity in ("error", "warning")


def test_reading_does_not_import_what_it_does_not_need(tmp_path: Path) -> None:
    import subprocess
    import sys

    write_tree(tmp_path, DIRECTORY)
    (tmp_path / "cache").mkdir(mode=0o700)
    code = ("import sys; from mlcube_cli.definition import *\n"
            "r = read_cube(ReadRequest('.', cwd=sys.argv[1], cache=sys.argv[1] + '/cache')); assert r.cube\n"
            "print(*sorted({'yaml', 'jsonschema', 'pathlib', 'subprocess', 'plumbum', 'shlex'} & set(sys.modules)))")
    for expected in ("yaml", ""):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert (expected in done.stdout) if expected else done.stdout.strip() == ""


# --- whatever stands there -----------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.sampled_from(
        ["", " ", "x", "a b", "a=b", "${x}", "${docker.image}", "${oc.env:X}", "../..", "/", "~", "$HOME", "'", "\x07",
         "tasks/train.yaml", "docker", "mlcube_docker", "directory", "rw", "é\u202e"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["name", "type", "default", "inputs", "outputs", "parameters", "image", "runner", "platform", "container", "", "a.b",
         "=", "tasks", "entrypoint", "data_dir", "train"]), inner, max_size=3), max_leaves=6)
INLINE = {"mlcube.yaml": """
    name: n
    authors: [{name: a}]
    platform: {accelerator_count: 1}
    docker: {image: 'a:${version}', env: {A: '${oc.env:B,c}'}, --network: none}
    local: {entrypoint: x.py, requirements: r.txt}
    version: 1.0
    tasks:
      t: {entrypoint: sh -c ls, parameters: {inputs: {i: x/}, outputs: {o: {type: file, default: y, opts: rw}}}}
    """}


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for step, item in inner for place in _places(item, (*path, step)))]


def _mutate(data: Any, path: tuple[Any, ...], change: str, junk: Any) -> Any:
    if not path:
        return junk
    data = copy.deepcopy(data)
    holder = data
    for step in path[:-1]:
        holder = holder[step]
    if change == "remove":
        del holder[path[-1]]
    elif change == "rename" and isinstance(holder, dict):
        holder[f"{path[-1]}x"] = holder.pop(path[-1])
    else:
        holder[path[-1]] = junk
    return data


@pytest.mark.parametrize("files", [INLINE, DIRECTORY, MLBOX], ids=["inline", "directory", "mlbox"])
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_definitions_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str],
                                                 data: st.DataObject) -> None:
    root = write_tree(tmp_path_factory.mktemp("cube"), files)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from([name for name in files if name.endswith(".yaml")]))
        tree = yaml.safe_load((root / name).read_text())
        place = data.draw(st.sampled_from(_places(tree)))
        change = data.draw(st.sampled_from(["replace", "remove", "rename"]))
        (root / name).write_text(yaml.safe_dump(_mutate(tree, place, change, data.draw(JUNK))))
    override = data.draw(st.sampled_from([(), ("name=x",), ("docker.image=x",), ("tasks.t.entrypoint=[a]",),
                                          ("runner.env={A: 1}",), ("tasks.train.parameters.inputs.data_dir.opts=rw",)]))
    try:
        reading = read(root, *override, platform=data.draw(st.sampled_from([None, "docker", "platforms/docker.yaml"])))
    except MLCubeError as error:
        assert error.message
        return
    assert reading.cube is not None or any(problem.severity == "error" for problem in reading.problems)
    for problem in reading.problems:
        assert problem.location.file


@pytest.mark.parametrize(("section", "said"), [
    ("build_file: Nope.def", ["warning mlcube.yaml:1:27 missing-path singularity.build_file"]),
    ("build_file: There.def, build_context: sub", []), ("build_file: 'docker://a'", []),
    ("build_file: docker-archive:a.tar", []),
    ("build_file: $HOME/a.def", []), ("image: a.sif", []), ("build_file: null", []),
])
def test_a_recipe_that_is_named_and_not_there(tmp_path: Path, section: str, said: list[str]) -> None:
    write_tree(tmp_path, {"sub/There.def": "x", "mlcube.yaml": f"singularity: {{{section}}}\ntasks: {{t: null}}\n"})
    assert problems(read(tmp_path)) == said
