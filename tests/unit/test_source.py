"""YAML text -> Document: what values mean, where nodes stand, what is refused and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube_cli.definition.scalars import read_scalar
from mlcube_cli.definition.source import (
    LARGEST_FILE,
    Document,
    format_path,
    parse_document,
    read_document,
)
from mlcube_cli.errors import DefinitionError, Location, Problem

SEED_TASK = Path(__file__).parents[1] / "definitions" / "good" / "mlcube_task" / "seed.yaml"


def parse(text: str) -> Document:
    return parse_document(text.encode(), "f.yaml")


def problems(content: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(DefinitionError) as caught:
        parse_document(content if isinstance(content, bytes) else content.encode(), "f.yaml")
    assert caught.value.problems
    return caught.value.problems


def only(content: str | bytes) -> Problem:
    found = problems(content)
    assert len(found) == 1, found
    return found[0]


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [
    ("", None), ("~", None), ("null", None), ("Null", None), ("nULL", "nULL"),
    ("true", True), ("False", False), ("yes", "yes"), ("on", "on"), ("No", "No"), ("y", "y"),
    ("0", 0), ("-7", -7), ("+5", 5), ("0x10", 16), ("0o17", 15), ("0b1", "0b1"), ("1_000", "1_000"), ("0123", "0123"),
    ("1.10", 1.1), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("1e999", "1e999"), (".inf", ".inf"),
    (".nan", ".nan"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("1.2.3", "1.2.3"), ("0x", "0x"), ("+", "+"),
    ("-", "-"), ("1-2", "1-2"), ("e", "e"), ("1" * 41, "1" * 41), ("1" * 40, int("1" * 40)), ("٣", "٣"), ("0xg", "0xg"),
])
def test_what_a_plain_scalar_means(text: str, value: object) -> None:
    read = read_scalar(text)
    assert (read, type(read)) == (value, type(value))


def test_quoted_scalars_are_text() -> None:
    assert parse("[ '1', \"true\", '', '~' ]").data == ["1", "true", "", "~"]
    assert parse("a: |\n  1\nb: >-\n  true\n").data == {"a": "1\n", "b": "true"}


def test_keys_are_words_whatever_they_look_like() -> None:
    assert parse("on: 1\n5: 2\n1.10: 3\ntrue: 4\n~: 5\n").data == {"on": 1, "5": 2, "1.10": 3, "true": 4, "~": 5}


def test_a_value_can_be_had_as_it_was_written() -> None:
    document = parse("version: 1.10\nhex: 0x10\nflag: true\nword: a\nquoted: '1.10'\nnothing:\nlist: [1.50]\n")
    assert [document.text((key,)) for key in ("version", "hex", "flag", "word", "quoted", "nothing", "list")] == [
        "1.10", "0x10", "true", "a", "1.10", None, None]
    assert document.text(("list", 0)) == "1.50"
    assert document.text(("absent", 3)) is None


def test_standard_tags_are_honoured() -> None:
    assert parse("[!!str 1.10, !!int '7', !!float 1, !!null '', !!bool true, ! 5, !!map {a: !!seq [b]}]").data == [
        "1.10", 7, 1, None, True, "5", {"a": ["b"]}]


# --- places --------------------------------------------------------------------------------------------------------


def test_every_node_has_the_place_of_its_value_and_of_its_key() -> None:
    document = read_document(str(SEED_TASK), "tasks/train.yaml")
    assert document.location(("inputs", 0, "type")) == Location("tasks/train.yaml", 6, 17)
    assert document.location(("inputs", 0, "type"), key=True) == Location("tasks/train.yaml", 6, 11)
    assert document.location(("inputs", 1)) == document.location(("inputs", 1), key=True)
    assert document.location(()) == Location("tasks/train.yaml", 1, 1)


def test_a_node_that_is_not_there_stands_where_its_parent_does() -> None:
    document = parse("a:\n  b: {c: 1}\n")
    assert document.location(("a", "b", "x", 3, "y")) == document.location(("a", "b")) == Location("f.yaml", 2, 6)
    assert document.location(("z",)) == Location("f.yaml", 1, 1)


def test_what_an_alias_brings_stands_where_it_was_written() -> None:
    document = parse("a: &x\n  b: 1\nc: *x\n")
    assert document.location(("c",)) == Location("f.yaml", 3, 4)
    assert document.location(("c", "b")) == Location("f.yaml", 2, 6)


@pytest.mark.parametrize(("path", "text"), [
    ((), ""), (("tasks", "train", "inputs", 0, "type"), "tasks.train.inputs[0].type"), (("docker", "--gpus"), "docker.--gpus"),
    (("env", "a.b"), 'env["a.b"]'), (("",), '[""]'), ((0, "x"), "[0].x"), (('a"\\',), '["a\\"\\\\"]')])
def test_paths_in_messages(path: tuple[str | int, ...], text: str) -> None:
    assert format_path(path) == text


# --- anchors and merge keys ----------------------------------------------------------------------------------------


def test_merge_keys_lose_against_the_mappings_own_and_the_first_one_wins() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {z: 5, <<: [*a, *b]}\nd: {<<: *b, z: 6}\n"
    data = parse(text).data
    assert isinstance(data, dict)
    assert data["c"] == {"x": 1, "y": 2, "z": 5}
    assert data["d"] == {"y": 3, "z": 6}
    assert parse("'<<': {a: 1}").data == {"<<": {"a": 1}}


@pytest.mark.parametrize("kind", ["lists", "merges"])
def test_a_billion_laughs_are_an_error_at_once(kind: str) -> None:
    if kind == "lists":
        lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    else:
        lines = ["a0: &a0 {}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 40)]
    began = time.process_time()
    assert only("\n".join(lines)).code == "too-many-aliases"
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["[" * 50_000, "- " * 50_000, "{a: " * 50_000, "? " * 50_000])
def test_deep_nesting_is_an_error_at_once(text: str) -> None:
    began = time.process_time()
    assert only(text).code == "too-deep"
    assert time.process_time() - began < 5


def test_aliases_cannot_nest_deeper_than_the_document_may() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)]
    assert only("\n".join(lines)).code == "too-many-aliases"


def test_time_grows_with_the_files_length_only() -> None:
    def seconds(count: int) -> float:
        text = "".join(f"key{number}: {{a: [1, 2], b: text}}\n" for number in range(count)).encode()
        began = time.process_time()
        parse_document(text, "f")
        return time.process_time() - began

    seconds(100)
    assert seconds(5_000) < 30 * max(seconds(500), 0.02)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_all_refusals_of_a_file_come_at_once() -> None:
    found = problems("a: 1\nb: !x 2\na: 3\n[c]: 4\nd: *e\n")
    assert [(problem.code, problem.location.line) for problem in found] == [
        ("yaml-tag", 2), ("duplicate-key", 3), ("bad-key", 4), ("yaml", 5)]


def test_a_duplicate_key_names_both_places() -> None:
    problem = only("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert (problem.code, problem.path, problem.location) == ("duplicate-key", "a.b", Location("f.yaml", 4, 3))
    assert "line 2" in problem.message
    assert only("1: a\n'1': b\n").code == "duplicate-key"


@pytest.mark.parametrize(("text", "message", "hint"), [
    ("a: {b:c}", "no space behind", "write 'b: c'"),
    ("a:\n\t- b", "indented with a tab", "spaces"),
    ("a:\t[\"x\"]", "a tab stands where a space belongs", "space"),
    ("name: {{ cookiecutter.name }}", "template", "cookiecutter"),
    ("name: {{ x }}-y", "template", "cookiecutter"),
    ("{% if x %}\na: 1", "template", "cookiecutter"),
    ("a: @x", "cannot begin with '@'", "quote"),
    ("a: 'b", "line 1 is never closed", "closing quote"),
    ("a: [b\nc: d", "'[' of line 1 is not closed", "]"),
    ("a: \"\\q\"", "backslash", "single quotes"),
    ("a: \"\\xg\"", "escape", "\\x"),
    ("a: \"\\U00110000\"", "names no character", "\\U"),
    ("a: \"\\ud800\"", "U+D800", "escape"),
    ("a: \"\\0\"", "U+0000", "escape"),
    ("a: b\x01", "control character U+0001", "\\x01"),
    ("%YAML 3.0\n---\na: 1", "%YAML", "remove"),
    ("a: 1\n---\nb: 1", "second document", "file of its own"),
    ("a: !!int x", "not what its tag", "remove"),
    ("a: !e!x y", "tags are not allowed", "remove"),
    ("<<: 1", "'<<' takes", "<<: *anchor"),
    ("{: 1}", "missing", "key: value"), ("a: 1\n: 2", "missing", "key: value"), ("?\n: 1", "missing", "key: value"),
])
def test_a_refusal_says_what_and_what_to_do(text: str, message: str, hint: str) -> None:
    found = problems(text)
    assert message in found[0].message
    assert hint in found[0].hint


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!x", "!!binary", "!!set",
                                 "!<tag:example.org,2000:x>"])
@pytest.mark.parametrize("value", ["x", "[x]", "{x: y}"])
def test_language_tags_are_refused(tag: str, value: str) -> None:
    assert only(f"a: {tag} {value}").code == "yaml-tag"


@pytest.mark.parametrize("text", ["", "\n\n", "---\n", "---\n...\n"])
def test_an_empty_file(text: str) -> None:
    assert only(text).code == "empty-file"
    assert "empty" in only(text).message


def test_a_file_of_comments() -> None:
    assert "only comments" in only("# a: 1\n\n# b\n").message


def test_null_is_no_empty_file() -> None:
    assert parse("~").data is None
    assert parse("{}").data == {}


# --- bytes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_encodings_with_a_mark(encoding: str) -> None:
    document = parse_document("name: Zoë\n".encode(encoding), "f")
    assert document.data == {"name": "Zoë"}
    assert document.location(("name",)) == Location("f", 1, 7)


def test_line_endings_of_every_system() -> None:
    assert parse("a: 1\r\nb: 2\r\n").location(("b",)) == Location("f.yaml", 2, 4)


@pytest.mark.parametrize(("content", "what"), [
    (b"a: \xff\xe9", "not UTF-8"), (b"\x1f\x8b\x08\x00\x00", "gzip"), (b"PK\x03\x04\x00", "zip"),
    (b"\x7fELF\x02\x00", "program"), (b"a\x00b", "binary"), (b"\xff\xfea", "not UTF-16"), (b"\x89PNG\r\n\x1a\n", "picture")])
def test_what_is_no_text(content: bytes, what: str) -> None:
    problem = only(content)
    assert problem.code == "binary-file"
    assert what in problem.message


def test_undecodable_bytes_have_a_place() -> None:
    assert only("a: 1\nb: é\n".encode("latin-1")).location == Location("f.yaml", 2, 4)


def test_undecodable_bytes_can_be_written_as_escapes() -> None:
    data = parse('a: "x\\udcff"').data
    assert isinstance(data, dict)
    assert os.fsencode(str(data["a"])) == b"x\xff"


# --- files ---------------------------------------------------------------------------------------------------------


def refused(path: str) -> Problem:
    with pytest.raises(DefinitionError) as caught:
        read_document(path, "shown.yaml")
    assert caught.value.problems[0].location.file == "shown.yaml"
    return caught.value.problems[0]


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "named pipe" in refused(str(tmp_path / "pipe")).message


def test_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "socket" in refused(str(tmp_path / "s")).message
    assert "device" in refused("/dev/zero").message


def test_directories_absent_and_unreadable_files(tmp_path: Path) -> None:
    assert "directory" in refused(str(tmp_path)).message
    assert refused(str(tmp_path / "absent")).code == "no-file"
    (tmp_path / "file").write_text("a: 1")
    assert refused(str(tmp_path / "file" / "below")).code == "no-file"
    assert refused(f"{tmp_path}/a\0b").code == "unreadable"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(str(loop)).code == "unreadable"


def test_a_file_without_permission(tmp_path: Path) -> None:
    """Asked of a process that is not root, since root may read everything."""
    secret = tmp_path / "secret.yaml"
    secret.write_text("a: 1")
    secret.chmod(0)
    script = ("import os, sys\nfrom mlcube_cli.definition.source import read_bytes\n"
              "from mlcube_cli.errors import DefinitionError\n"
              "directory = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)\nos.fchdir(directory)\n"
              "os.geteuid() or os.setuid(65534)\n"
              "try:\n    read_bytes('secret.yaml')\nexcept DefinitionError as error:\n    print(error.message)\n")
    if os.geteuid() == 0:
        tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script, str(secret)], capture_output=True, text=True, check=True)
    assert done.stdout == "the file may not be read\n"


def test_a_file_of_more_than_ten_megabytes(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    with open(large, "wb") as stream:
        stream.truncate(LARGEST_FILE + 1)
    assert refused(str(large)).code == "too-large"


def test_names_hold_any_byte(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.yaml")
    with open(path, "w") as stream:
        stream.write("a: 1\n")
    assert read_document(path).file == path


# --- anything at all -----------------------------------------------------------------------------------------------

_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_trees = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner,
                                                                                         max_size=4), max_leaves=20)


@settings(max_examples=200, deadline=None)
@given(_trees)
def test_whatever_another_program_writes_is_read_or_refused(tree: object) -> None:
    import yaml

    try:
        document = parse_document(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"), "f")
    except DefinitionError as error:
        assert error.problems
    else:
        assert set(document.texts) <= set(document.marks)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", ":", ": ", "- ", "\n", "  ", "{", "}", "[", "]", "&a ", "*a", "<<", "!t ", "!!int ",
                                 "'", '"', "|\n", "#", "%", "? ", ",", "\t", "---\n", "...", "\\", "1", "~", "\x00"]),
                max_size=25))
def test_pieces_of_yaml_in_any_order(pieces: list[str]) -> None:
    try:
        parse_document("".join(pieces).encode(), "f")
    except DefinitionError as error:
        assert error.problems


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(content: bytes) -> None:
    try:
        parse_document(content, "f")
    except DefinitionError as error:
        assert error.problems


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 600), st.integers(0, 20), st.text(alphabet="ab:-{}[]&*!'\"\n\t #<", max_size=6))
def test_mutations_of_a_real_definition(start: int, length: int, insert: str) -> None:
    text = SEED_TASK.read_text()
    try:
        parse_document((text[:start] + insert + text[start + length:]).encode(), "f")
    except DefinitionError as error:
        assert error.problems
