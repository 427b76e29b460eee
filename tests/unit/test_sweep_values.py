"""What --set and a table say, and which members that makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.errors import UsageError
from mlcube_cli.sweep.values import MOST, Axis, Value, members_of, parse_set, parse_table, shown


def data(text: str) -> list[object]:
    return [value.data for value in parse_set(f"x={text}").values]


@pytest.mark.parametrize(("text", "expected"), [
    ("0.1,0.01", [0.1, 0.01]), ("1", [1]), ("1..4", [1, 2, 3, 4]), ("4..2", [4, 3, 2]), ("-1..1", [-1, 0, 1]),
    ("0..1..0.25", [0.0, 0.25, 0.5, 0.75, 1.0]), ("0.1..0.3..0.1", [0.1, 0.2, 0.3]), ("1..2,10", [1, 2, 10]),
    ("1..6..2", [1, 3, 5]),
    ("true,yes,null", [True, "yes", None]), ('["a, b", c]', ["a, b", "c"]), ('"a,b",c', ["a,b", "c"]), ("'1..3'", ["1..3"]),
    ("[1,2],[3]", [[1, 2], [3]]), ("[[1,2]]", [[1, 2]]), ("{a: 1, b: 2}", [{"a": 1, "b": 2}]), ("v1..2", ["v1..2"]),
    ("../a,./b", ["../a", "./b"]), ('""', [""]), ("1e-3", [0.001])])
def test_values_are_read_as_yaml(text: str, expected: list[object]) -> None:
    found = data(text)
    assert found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]


def test_a_parameter_gets_what_was_typed() -> None:
    typed = parse_set("x=1e-3, 1.10,0x10,~,a b,[1]").values
    assert [value.text for value in typed] == ["1e-3", "1.10", "0x10", "null", "a b", "[1]"]
    assert [value.text for value in parse_set("x=0..1..0.5").values] == ["0", "0.5", "1"]


def test_a_path_that_no_text_can_hold_is_split_at_commas() -> None:
    assert parse_set("x=a\udcff,b") == Axis("x", (Value("a\udcff", "a\udcff"), Value("b", "b")))


@pytest.mark.parametrize(("text", "words"), [
    ("x", "which name"), ("=1", "which name"), ("x=", "no value"), ("x=1,,2", "missing"), ("x=1...3", "no range"),
    ("x=0.1..0.5", "needs a step"), ("x=1..5..-1", "do not lead"), ("x=1..5..0", "do not lead"), ("x=1..99999", "more than"),
    ("x=a]", "end of the document"), ("x=#fff", "missing")])
def test_what_cannot_be_meant_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_set(text)
    assert words in caught.value.message
    assert text in caught.value.message
    assert caught.value.hint


@given(st.text(max_size=30))
def test_no_text_does_harm(text: str) -> None:
    try:
        assert parse_set(f"x={text}").values
    except UsageError as error:
        assert error.hint
    try:
        parse_table(text, "t.csv")
    except UsageError as error:
        assert error.location is not None


def axes(*texts: str) -> list[Axis]:
    return [parse_set(text) for text in texts]


def test_the_last_name_varies_fastest() -> None:
    found = members_of(axes("a=1,2", "b=x,y"))
    assert [shown({name: value.text for name, value in one.items()}) for one in found] == [
        "a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]


def test_rows_of_a_table_are_members_and_go_with_lists() -> None:
    rows = parse_table("\ufeffrate, name\r\n0.1,\"a, b\"\r\n\r\n0.2,\n", "t.csv")
    assert rows == ({"rate": Value(0.1, "0.1"), "name": Value("a, b", "a, b")}, {"rate": Value(0.2, "0.2")})
    assert len(members_of(axes("seed=1..3"), rows)) == 6
    assert members_of((), rows) == rows
    assert parse_table('a\n"[1, 2]"\n', "t.csv")[0]["a"].data == [1, 2]


@pytest.mark.parametrize(("text", "line", "words"), [
    ("", 0, "row of names"), ("a,b\n", 0, "row of names"), ("a,a\n1,2\n", 1, "twice"), ("a,\n1,2\n", 1, "no name"),
    ("a,b\n1,2\n1\n", 3, "1 cells"), ('a\n"1', 2, "no CSV"), ("a\n[1\n", 2, "[1")])
def test_a_bad_table_is_refused_with_its_place(text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_table(text, "t.csv")
    assert words in caught.value.message
    assert str(caught.value.location) == (f"t.csv:{line}:1" if line else "t.csv")


@pytest.mark.parametrize(("sets", "table", "words"), [
    ((), "", "values that differ"), (("a=1", "a=2"), "", "set twice"), (("a=1",), "a\n2\n", "set twice"),
    (("a=1,2,1",), "", "members 1 and 3 are the same: a=1"), (("a=1,1.0,true",), "", ""), (("a=0.1,0.10",), "", "are the same"),
    (("a=1..101", "b=1..100"), "", f"10,100 members: a sweep has at most {MOST:,}")])
def test_members_that_cannot_be_meant_are_refused(sets: tuple[str, ...], table: str, words: str) -> None:
    rows = parse_table(table, "t.csv") if table else ()
    if not words:
        assert len(members_of(axes(*sets), rows)) == 3, "values of different types are different values"
        return
    with pytest.raises(UsageError) as caught:
        members_of(axes(*sets), rows)
    assert words in caught.value.message
