"""Where a member's values go, and the copies of parameters files that they make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.definition.model import Data
from mlcube_cli.definition.source import parse_document
from mlcube_cli.errors import UsageError
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.resolve import Wish
from mlcube_cli.sweep.targets import Editor, Key, Source, Target, find_key, find_sources, find_targets, flow_text
from tests.cubes import read_inline, task, write_tree

CUBE = """
    name: c
    tasks:
      train:
        entrypoint: sh t.sh
        parameters:
          inputs:
            settings: {type: file, default: settings.yaml}
            more: {type: file, default: more.json}
            text: {type: file, default: notes.txt}
            steps: {type: int, default: 3}
          outputs: {out: {type: directory, default: out}}
    local: {}
"""
SETTINGS = """\
# how it learns
learning_rate: 0.1   # a step
net: {size: 3, names: [a, b]}
"x.y": 1
seed:
long: |
  text
anchored: &one 5
again: *one
"""


def source(text: str = SETTINGS, path: str = "/w/settings.yaml") -> Source:
    found = json.loads(text) if path.endswith(".json") else parse_document(text.encode(), path).data
    assert isinstance(found, dict)
    return Source("settings", path, text, found)


def sources(root: Path) -> tuple[Source, ...]:
    write_tree(root, {"workspace/settings.yaml": "rate: 1\nshared: 1\nnet: {size: 2}\n",
                      "workspace/more.json": '{"shared": 2, "only": 3}',
                      "workspace/notes.txt": "rate: 2\n"})
    reading = read_inline(root, CUBE)
    assert reading.cube is not None
    cube = reading.cube
    return with_facts(lambda known: find_sources(cube, Wish(task(reading, "train")), known), machine({}))[0]


def test_parameters_files_are_inputs_with_a_mapping_in_them(tmp_path: Path) -> None:
    assert [one.parameter for one in sources(tmp_path)] == ["settings", "more"]
    (tmp_path / "workspace/more.json").write_text("[1]")
    reading = read_inline(tmp_path, CUBE)
    assert reading.cube is not None
    cube = reading.cube
    (only,), _ = with_facts(lambda known: find_sources(cube, Wish(task(reading, "train")), known), machine({}))
    assert only.parameter == "settings"


def test_a_name_is_a_parameter_else_the_key_of_the_one_file_that_has_it(tmp_path: Path) -> None:
    found = sources(tmp_path)
    train = task(read_inline(tmp_path, CUBE), "train")
    assert find_targets(["steps", "rate", "net.size", "only", "more:shared"], train, found) == (
        Target("steps", "steps"), Target("rate", "settings", ("rate",)), Target("net.size", "settings", ("net", "size")),
        Target("only", "more", ("only",)), Target("more:shared", "more", ("shared",)))


@pytest.mark.parametrize(("names", "words", "hint"), [
    (["shared"], "key of several files", "settings:shared"),
    (["rat"], "neither a parameter of task 'train'", "did you mean 'rate'?"),
    (["net.sise"], "neither", "did you mean 'net.size'?"), (["out"], "is an output", "leave it out"),
    (["more", "only"], "is set, too", "one or the other"), (["only", "more:only"], "set twice, under two names", "leave one"),
    (["zzzzzz"], "neither", "there are: settings, more, text, steps, rate")])
def test_a_name_that_has_no_one_place_is_refused(tmp_path: Path, names: list[str], words: str, hint: str) -> None:
    found = sources(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_targets(names, task(read_inline(tmp_path, CUBE), "train"), found)
    assert words in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(("name", "key"), [
    ("learning_rate", ("learning_rate",)), ("net.size", ("net", "size")), ("x.y", ("x.y",)),
    ("net.names.1", ("net", "names", 1)),
    ("net.names.2", ()), ("net.size.deeper", ()), ("", ())])
def test_a_dotted_name_finds_its_node(name: str, key: Key) -> None:
    assert find_key(source().data, name) == key


def test_a_copy_has_other_values_and_is_the_same_text() -> None:
    text = Editor(source()).text({("learning_rate",): 1e-05, ("net", "size"): 7, ("net", "names", 0): "yes, no", ("seed",): 3,
                                  ("x.y",): True})
    assert text == SETTINGS.replace("0.1 ", "1.0e-05 ").replace("size: 3", "size: 7").replace("[a,", '["yes, no",').replace(
        "seed:", "seed: 3").replace('"x.y": 1', '"x.y": true')
    assert yaml.safe_load(text)["learning_rate"] == 1e-05, "a number for every YAML program"


@pytest.mark.parametrize("changes", [{("long",): "x"}, {("anchored",): 6}, {("again",): 6}, {("net",): 1}])
def test_where_the_text_cannot_be_kept_the_data_is(changes: dict[Key, Data]) -> None:
    text = Editor(source()).text(changes)
    (key, value), = changes.items()
    assert yaml.safe_load(text) == {**yaml.safe_load(SETTINGS), key[0]: value}


@pytest.mark.parametrize("text", ['{"a": 1, "b": {"c": "x"}}', '{\n\t"a": 1,\n\t"b": {"c": "x"}\n}\n'])
def test_a_json_file_stays_one(text: str) -> None:
    copy = Editor(source(text, "/w/more.json")).text({("a",): 1e-07, ("b", "c"): 'a "b"'})
    assert json.loads(copy) == {"a": 1e-07, "b": {"c": 'a "b"'}}


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-10**9, 10**9), st.floats(allow_nan=False, allow_infinity=False),
                    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20))


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text("abc", min_size=1, max_size=3), inner, max_size=3), max_leaves=8))
def test_whatever_is_set_is_what_is_read(data: Data) -> None:
    text = Editor(source()).text({("learning_rate",): data})
    read = parse_document(text.encode(), "copy").data
    assert isinstance(read, dict)
    assert read["learning_rate"] == data
    assert type(read["learning_rate"]) is type(data)
    assert parse_document(f"x: {flow_text(data)}".encode(), "flow").data == {"x": data}
