"""The bundled schemas, the problems found with them, the paths they know."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlcube_cli.definition.bundled import schema_names, schema_text
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.model import Data
from mlcube_cli.definition.schema import check, known_path, load_schema
from mlcube_cli.definition.source import parse_document, read_document
from mlcube_cli.errors import DefinitionError, Problem, UsageError

DEFINITIONS = Path(__file__).parents[1] / "definitions"
SCHEMAS = Path(__file__).parents[2] / "schemas"
PRINTED = tuple(name for name in schema_names() if name.endswith(".v1"))
READ = tuple(name for name in schema_names() if name not in PRINTED)


def definitions(kind: str) -> list[Any]:
    found = sorted((DEFINITIONS / kind).glob("*/*.yaml"))
    assert found
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in found]


def problems_of(path: Path) -> tuple[Problem, ...]:
    try:
        return check(read_document(str(path), path.name), path.parent.name)
    except DefinitionError as error:
        return error.problems


def found(text: str, schema: str) -> tuple[Problem, ...]:
    return check(parse_document(text.encode(), "f.yaml"), schema)


# --- definitions/{good,bad}: a folder a schema ---------------------------------------------------------------------


@pytest.mark.parametrize("path", definitions("good"))
def test_a_good_definition_has_no_problem(path: Path) -> None:
    assert problems_of(path) == ()


@pytest.mark.parametrize("path", definitions("bad"))
def test_a_bad_definition_has_the_expected_problems(path: Path) -> None:
    """The neighbour `.expect` holds one problem a line: `line:column severity code path`."""
    lines = [f"{problem.location.line}:{problem.location.column} {problem.severity} {problem.code} {problem.path}".rstrip()
             for problem in problems_of(path)]
    assert lines == path.with_suffix(".expect").read_text().splitlines()
    assert lines


@pytest.mark.parametrize("path", definitions("bad"))
def test_every_problem_is_a_sentence_with_a_hint(path: Path) -> None:
    for problem in problems_of(path):
        assert problem.message
        assert "\n" not in problem.message
        assert problem.hint or problem.path == ""


def test_every_schema_of_a_definition_has_good_and_bad_cases() -> None:
    for kind in ("good", "bad"):
        assert {path.name for path in (DEFINITIONS / kind).iterdir()} == set(READ)


# --- the schemas themselves ----------------------------------------------------------------------------------------


def properties(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property and every shared definition below `node`; conditions (`if`) state none."""
    if isinstance(node, dict):
        for keyword in ("properties", "$defs"):
            for name, inner in node.get(keyword, {}).items():
                yield f"{where}.{name}", inner
                yield from properties(inner, f"{where}.{name}")
        for keyword in ("additionalProperties", "items", "then"):
            yield from properties(node.get(keyword), f"{where}.{keyword}")
    for inner in node.get("allOf", ()) if isinstance(node, dict) else ():
        yield from properties(inner, where)


def test_the_list_of_names_is_the_folder() -> None:
    assert sorted(schema_names()) == sorted(path.name[:-len(".json")] for path in SCHEMAS.glob("*"))


@pytest.mark.parametrize("name", schema_names())
def test_a_schema_is_a_schema_and_self_contained(name: str) -> None:
    schema = json.loads(schema_text(name))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:mlcube:schema:{name}"
    assert schema["title"]
    assert schema["description"]
    used = {line.split('"')[3] for line in schema_text(name).splitlines() if '"$ref"' in line}
    assert used == {f"#/$defs/{key}" for key in schema.get("$defs", ())}


@pytest.mark.parametrize("name", schema_names())
def test_every_property_has_a_description_and_examples_that_are_valid(name: str) -> None:
    schema = json.loads(schema_text(name))
    every = list(properties(schema))
    assert every or name == "mlbox_group"
    for where, node in every:
        assert node.get("description"), where
        assert node.get("examples"), where
        for example in node["examples"]:
            errors = Draft202012Validator({"$defs": schema.get("$defs", {}), **node}).iter_errors(example)
            assert [error.message for error in errors] == [], where


def test_a_definition_of_one_name_is_the_same_in_every_schema() -> None:
    seen: dict[str, Any] = {}
    for name in schema_names():
        definitions_here = load_schema(name).get("$defs", {})
        assert isinstance(definitions_here, dict)
        for key, node in definitions_here.items():
            assert seen.setdefault(key, node) == node, (name, key)


def test_only_what_both_lines_of_jsonschema_share_is_used() -> None:
    for name in schema_names():
        for word in ('"format"', '"oneOf"', '"anyOf"', '"$dynamicRef"', '"unevaluatedProperties"', '"http://'):
            assert word not in schema_text(name), name


def test_every_option_of_the_documentation_is_known_everywhere() -> None:
    """docs/platforms.md names the options; the schemas of platform files and sections know all of them."""
    runner, documented = "", {"docker": set[str](), "local": set[str]()}
    for line in (SCHEMAS.parent / "docs" / "platforms.md").read_text().splitlines():
        if line.startswith("## "):
            runner = line[3:].split()[0]
        cell = line.split("|")[1].strip() if line.startswith("| `") else ""
        if runner in documented:
            documented[runner] |= {word.strip().strip("`") for word in cell.split(",") if word.strip()}
    assert len(documented["docker"]) > 20
    assert len(documented["local"]) > 8
    for name, options in documented.items():
        for option in options:
            assert known_path("mlcube", (name, option), {}) is None, option
            assert known_path(f"mlcube_{name}", (option,), {}) is None, option


def test_schemas_are_read_from_inside_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    package = SCHEMAS.parent / "mlcube_cli"
    with zipfile.ZipFile(archive, "w") as target:
        for source in [*package.glob("*.py"), *(package / "definition").glob("*.py")]:
            target.write(source, source.relative_to(SCHEMAS.parent))
        for source in SCHEMAS.glob("*.json"):
            target.write(source, f"mlcube_cli/schemas/{source.name}")
    script = ("import sys; sys.path.insert(0, sys.argv[1])\nimport mlcube_cli; assert sys.argv[1] in mlcube_cli.__file__\n"
              "from mlcube_cli.definition.bundled import schema_names, schema_text\n"
              "print(sum(len(schema_text(name)) for name in schema_names()))")
    done = subprocess.run([sys.executable, "-c", script, str(archive)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(len(schema_text(name)) for name in schema_names())


def test_an_unknown_schema() -> None:
    with pytest.raises(UsageError) as caught:
        schema_text("mlcub")
    assert caught.value.hint == "did you mean 'mlcube'?"
    with pytest.raises(UsageError) as caught:
        schema_text("../x")
    assert "mlbox_group" in caught.value.hint


# --- messages ------------------------------------------------------------------------------------------------------


def test_the_nearest_name_is_offered() -> None:
    problem, = found("tasks: {a: {parameters: {output: {p: q}}}}", "mlcube")
    assert (problem.severity, problem.code, problem.path) == ("warning", "unknown-key", "tasks.a.parameters.output")
    assert problem.hint == "did you mean 'outputs'?"
    assert problem.location.column == 26


def test_a_missing_key_points_at_what_was_probably_meant() -> None:
    missing = found("schema_type: mlcube_task\ninputs: [{nam: x}]", "mlcube_task")[0]
    assert (missing.code, missing.path, missing.hint) == ("missing-key", "inputs[0].name", "is 'nam' meant to be 'name'?")


def test_top_level_keys_of_an_inline_cube_are_free_unless_they_look_like_a_mistake() -> None:
    assert found("tasks: {a: }\ncommon: {x: 1}\n", "mlcube") == ()
    assert found("tasks: {a: {entrypoint: '${naem}'}}\nnaem: x\n", "mlcube") == ()
    problem, = found("tasks: {a: }\nnaem: x\n", "mlcube")
    assert problem.hint == "did you mean 'name'?"


@pytest.mark.parametrize("word", ["true", "false", "yes", "No", "on", "off", "'true'", "~", "${x}"])
def test_words_that_are_flags(word: str) -> None:
    assert found(f"tasks: {{a: }}\ndocker: {{image: a, privileged: {word!s}}}\n".replace("${x}", '"${x}"'), "mlcube") == ()


def test_problems_come_in_the_order_of_the_file() -> None:
    lines = [problem.location.line for problem in found("docker: {imag: 1}\nname: []\ntasks:\n  a: 1\n  b: {x: }\n", "mlcube")]
    assert lines == [1, 2, 4, 5]


@pytest.mark.parametrize(("word", "known", "guess"), [
    ("output", ["inputs", "outputs"], "outputs"), ("Image", ["image"], "image"), ("build-file", ["build_file"], "build_file"),
    ("tpye", ["type", "tape"], "type"), ("img", ["image", "x"], None), ("desc", ["description", "default"], "description"),
    ("zzz", ["image"], None), ("", ["a"], None), ("a" * 100, ["a" * 99], None), ("same", ["same"], None),
    ("q", ["n", "a"], None), ("A", ["a"], "a"), ("cp", ["cpu", "xy"], "cpu")])
def test_the_nearest_name(word: str, known: list[str], guess: str | None) -> None:
    assert nearest(word, known) == guess


# --- paths of -P ---------------------------------------------------------------------------------------------------

CUBE: Data = {"tasks": {"train": {"parameters": {"inputs": {"data": "x/"}}}}, "common": {"a": {"b": 1}},
              "authors": [{"name": "Ada"}], "docker": None}


@pytest.mark.parametrize("path", [
    "docker.image", "docker.--network", "singularity.image", "platform.accelerator_count", "name", "docker.env.ANYTHING",
    "tasks.train.entrypoint", "tasks.train.parameters.inputs.data.opts", "common.a.b", "authors.0.name", "slurm.partition",
    "runner.build_strategy"])
def test_known_paths(path: str) -> None:
    assert known_path("mlcube", tuple(path.split(".")), CUBE) is None


@pytest.mark.parametrize(("path", "message"), [
    ("docker.imagee", "'docker' has no 'imagee'; did you mean 'image'?"),
    ("tasks.trian.entrypoint", "'tasks' has no 'trian'; did you mean 'train'?"),
    ("tasks.train.parameters.inputs.dat.opts", "did you mean 'data'?"),
    ("nonsense.x", "there is no 'nonsense'"), ("common.b", "'common' has no 'b'"), ("common.a.b.c", "'common.a.b' has no 'c'"),
    ("docker.image.x", "'docker.image' has no 'x'"), ("authors.1.name", "'authors' has no '1'"),
    ("authors.x", "'authors' has no 'x'")])
def test_unknown_paths(path: str, message: str) -> None:
    said = known_path("mlcube", tuple(path.split(".")), CUBE)
    assert said is not None
    assert message in said


# --- cost and robustness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["tasks:\n{}", "docker:\n{}"])
def test_time_grows_with_the_number_of_problems_only(text: str) -> None:
    def seconds(count: int) -> float:
        lines = "".join(f"  imge{number}: {{parameter: 1}}\n" for number in range(count))
        document = parse_document(text.format(lines).encode(), "f")
        began = time.process_time()
        assert len(check(document, "mlcube")) >= count
        return time.process_time() - began

    seconds(10)
    assert seconds(5_000) < 30 * max(seconds(500), 0.02)


_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "a", "ro", "docker"])
_keys = st.sampled_from(["tasks", "inputs", "outputs", "parameters", "docker", "image", "type", "name", "runner", "env", "x",
                         "implementation_type", "authors", "entrypoint", "platform", "schema_type"])
_trees = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=5),
                      max_leaves=15)


@settings(max_examples=300, deadline=None)
@given(_trees, st.sampled_from(READ))
def test_any_tree_gives_problems_with_places(tree: Data, schema: str) -> None:
    document = parse_document(json.dumps(tree).encode(), "f")
    for problem in check(document, schema):
        assert problem.location.line == 1
        assert problem.severity in ("error", "warning")
        assert problem.code in ("unknown-key", "wrong-type", "missing-key", "bad-value")
