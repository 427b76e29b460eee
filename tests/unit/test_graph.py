"""The order of tasks by what they write and read, and what has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.errors import DefinitionError, Location
from mlcube_cli.graph import Node, Touched, order, upstream
from mlcube_cli.relocation import meet


def touched(path: str) -> Touched:
    return Touched(path.strip("/").replace("/", "_") or "root", path, path, Location("mlcube.yaml", 3, 5))


def node(name: str, reads: str = "", writes: str = "") -> Node:
    return Node(name, tuple(map(touched, reads.split())), tuple(map(touched, writes.split())))


def names(*nodes: Node) -> list[str]:
    return [nodes[number].task for number in order(nodes)]


def test_a_task_comes_after_those_that_write_what_it_reads() -> None:
    assert names(node("evaluate", "/w/model", "/w/report"), node("train", "/w/data", "/w/model"),
                 node("download", "", "/w/data")) == ["download", "train", "evaluate"]


def test_tasks_without_a_reason_keep_the_order_of_the_definition() -> None:
    assert names(node("c", "", "/w/c"), node("a", "", "/w/a"), node("b", "/w/a", "/w/b")) == ["c", "a", "b"]


@pytest.mark.parametrize(("written", "read"), [("/w/data", "/w/data"), ("/w/data", "/w/data/x"), ("/w/data/x", "/w/data")])
def test_a_path_above_or_below_counts(written: str, read: str) -> None:
    assert names(node("reads", read), node("writes", "", written)) == ["writes", "reads"]


def test_a_name_that_only_begins_alike_does_not_count() -> None:
    assert not meet("/w/data", "/w/data2")
    assert upstream((node("reads", "/w/data2"), node("writes", "", "/w/data"))) == (frozenset(), frozenset())


def test_a_task_that_reads_what_it_writes_does_not_wait_for_itself() -> None:
    assert names(node("refine", "/w/model", "/w/model")) == ["refine"]


def test_a_cycle_is_named() -> None:
    with pytest.raises(DefinitionError) as caught:
        order((node("first", "", "/w/x"), node("a", "/w/x /w/b", "/w/a"), node("b", "/w/a", "/w/b")))
    (problem,) = caught.value.problems
    assert problem.message == (
        "these tasks wait for each other: task 'a' reads /w/b (input 'w_b', mlcube.yaml:3:5), which task 'b' writes (output "
        "'w_b', mlcube.yaml:3:5); task 'b' reads /w/a (input 'w_a', mlcube.yaml:3:5), which task 'a' writes (output 'w_a', "
        "mlcube.yaml:3:5)")
    assert problem.hint == "say in which order they run: --task b,a"


def test_two_writers_of_a_path_that_one_reads_have_no_order() -> None:
    with pytest.raises(DefinitionError) as caught:
        order((node("download", "", "/w/data"), node("fake", "", "/w/data"), node("train", "/w/data/x")))
    (problem,) = caught.value.problems
    assert problem.message == ("tasks 'download' (output 'w_data', mlcube.yaml:3:5) and 'fake' (output 'w_data') both write "
                               "/w/data, which task 'train' reads (input 'w_data_x', mlcube.yaml:3:5)")
    assert str(problem.location) == "mlcube.yaml:3:5"
    assert problem.hint == ("say which tasks run, in their order (--task download,train or --task fake,train), or give one of "
                            "them another path")


@pytest.mark.parametrize("more", [node("third", "", "/w/data"), node("refine", "/w/data", "/w/data"),
                                  node("needs", "/w/model", "/w/model/more")], ids=["a third one", "one in place", "a circle"])
def test_which_of_two_writers_is_meant_is_only_guessed_where_that_is_all_there_is_to_tell(more: Node) -> None:
    with pytest.raises(DefinitionError) as caught:
        order((node("download", "", "/w/data"), node("fake", "", "/w/data"), node("train", "/w/data /w/model/more", "/w/model"),
               more))
    assert all("(--task A,B)" in problem.hint for problem in caught.value.problems)


def test_each_output_that_another_task_writes_is_named_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        order((*(node(f"t{number}", "", "/w/data") for number in range(20)), node("train", "/w/data")))
    assert len(caught.value.problems) == 19


def test_two_writers_of_what_nobody_reads_are_no_fault() -> None:
    assert names(node("a", "", "/w/log"), node("b", "", "/w/log")) == ["a", "b"]


def test_two_writers_beside_each_other_in_a_directory_that_one_reads_are_no_fault() -> None:
    assert names(node("joins", "/w/parts"), node("a", "", "/w/parts/a"), node("b", "", "/w/parts/b")) == ["a", "b", "joins"]


def test_a_writer_inside_of_what_another_one_writes_and_one_reads_is_a_fault() -> None:
    with pytest.raises(DefinitionError) as caught:
        order((node("a", "", "/w/out"), node("b", "", "/w/out/b"), node("c", "/w/out/b/x")))
    assert "/w/out and /w/out/b" in caught.value.problems[0].message
    assert names(node("c", "/w/out/c"), node("a", "", "/w/out"), node("b", "", "/w/out/b")) == ["a", "c", "b"]


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@st.composite
def nodes_without_cycles(draw: st.DrawFn) -> tuple[list[Node], list[int]]:
    """Tasks of which each writes a path of its own and reads those of some before it; and an order to give them in."""
    count = draw(st.integers(1, 7))
    nodes = []
    for number in range(count):
        read = draw(st.sets(st.integers(0, number - 1))) if number else set()
        inside = draw(PATHS)
        reads = tuple(touched(f"/w/{one}{inside}") for one in sorted(read))
        nodes.append(Node(f"t{number}", reads, (touched(f"/w/{number}"),)))
    return nodes, draw(st.permutations(range(count)))


@given(nodes_without_cycles())
def test_whatever_the_order_of_the_definition_nobody_runs_before_what_it_reads(drawn: tuple[list[Node], list[int]]) -> None:
    nodes, shuffled = drawn
    given_order = [nodes[number] for number in shuffled]
    found = order(given_order)
    assert sorted(found) == list(range(len(nodes))), "each once"
    for number, before in enumerate(upstream(given_order)):
        assert all(found.index(one) < found.index(number) for one in before)
    assert order([given_order[number] for number in found]) == tuple(range(len(nodes))), "what is in order stays"


@given(st.lists(st.tuples(st.sets(PATHS, max_size=2), st.sets(PATHS, max_size=2)), max_size=5))
def test_any_tasks_have_an_order_or_an_error_that_names_two_of_them(tasks: list[tuple[set[str], set[str]]]) -> None:
    nodes = [node(f"t{number}", " ".join(sorted(reads)), " ".join(sorted(writes)))
             for number, (reads, writes) in enumerate(tasks)]
    try:
        found = order(nodes)
    except DefinitionError as error:
        assert error.problems
        assert all(sum(f"'{one.task}'" in problem.message for one in nodes) >= 2 for problem in error.problems)
        return
    for number, before in enumerate(upstream(nodes)):
        assert all(found.index(one) < found.index(number) for one in before)
