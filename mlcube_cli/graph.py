"""The order of a cube's tasks, by what they read and write. Pure; RULINGS 32, 4.

A task comes after those that write what it reads: the same path, one above it or one below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlcube_cli.bound import bound_paths
from mlcube_cli.definition.model import Cube
from mlcube_cli.errors import DefinitionError, Location, Problem
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.relocation import is_at_or_below, meet
from mlcube_cli.resolve import Bound, Wish


@dataclass(frozen=True)
class Touched:
    """A path that a task reads or writes. `path`: absolute, with links resolved; `shown`: as the definition means it."""

    parameter: str
    path: str
    shown: str
    location: Location  # where the path is stated


@dataclass(frozen=True)
class Node:
    """A task, with what it reads and writes."""

    task: str
    reads: tuple[Touched, ...] = ()
    writes: tuple[Touched, ...] = ()


def node_of(cube: Cube, wish: Wish, facts: Facts) -> Node:
    """What the task reads and writes, whether or not it could start.

    Raises DefinitionError for values that mean no path, facts.Missing for paths not looked at yet.
    """
    paths = bound_paths(cube, wish, facts)
    return Node(wish.task.name, *(tuple(_touched(item, facts) for item in paths if item.parameter.direction == direction)
                                  for direction in ("input", "output")))


def _touched(item: Bound, facts: Facts) -> Touched:
    return Touched(item.parameter.name, facts.path(item.path).real or item.path, item.path, item.location)


def waits_for(cube: Cube, jobs: Sequence[Job], real: Callable[[str], str]) -> tuple[frozenset[int], ...]:
    """Of each of these jobs, in the order in which they run, the numbers of the earlier ones that write what it reads.

    `real`: a path with its links resolved. A path that a task writes through a link is what another one reads without it.
    """
    read = [[real(path) for path in _read_by(cube, job)] for job in jobs]
    written = [[real(argument.host_path) for argument in job.paths if argument.direction == "output"] for job in jobs]
    return tuple(frozenset(other for other in range(number) if any(meet(one, path) for one in written[other] for path in paths))
                 for number, paths in enumerate(read))


def _read_by(cube: Cube, job: Job) -> list[str]:
    """The paths that it reads; a name that is an input and an output stands among its arguments once."""
    task = cube.task(job.task)
    names = {parameter.name for parameter in task.parameters if parameter.direction == "input"} if task else set()
    return [argument.host_path for argument in job.paths if argument.name in names]


def order(nodes: Sequence[Node]) -> tuple[int, ...]:
    """The numbers of the tasks, each after those that write what it reads; else as they are given.

    Raises DefinitionError for two tasks that write a path which one reads, and for tasks that wait for each other.
    """
    problems = _written_twice(nodes)
    if problems:
        raise DefinitionError("the tasks have no order of their own", problems=problems)
    return _in_order(nodes)


def _in_order(nodes: Sequence[Node]) -> tuple[int, ...]:
    before = upstream(nodes)
    done: dict[int, None] = {}  # in their order
    while len(done) < len(nodes):
        ready = next((number for number in range(len(nodes)) if number not in done and before[number] <= done.keys()), None)
        if ready is None:
            raise DefinitionError("tasks wait for each other", problems=[_cycle(nodes, before, frozenset(done))])
        done[ready] = None
    return tuple(done)


def upstream(nodes: Sequence[Node]) -> tuple[frozenset[int], ...]:
    """Of each task the numbers of those that write what it reads, itself aside."""
    return tuple(frozenset(other for other, writer in enumerate(nodes) if other != number and _links(writer, node))
                 for number, node in enumerate(nodes))


def _links(writer: Node, reader: Node) -> list[tuple[Touched, Touched]]:
    """What the one writes, with what the other reads of it."""
    return [(written, read) for written in writer.writes for read in reader.reads if meet(written.path, read.path)]


# --- what has no order ---------------------------------------------------------------------------------------------


def _written_twice(nodes: Sequence[Node]) -> list[Problem]:
    """RULINGS 32: which of the two should come last, and be read, nobody can tell. Each output is named with one other."""
    found = (next((problem for one in nodes[:number] for first in one.writes
                   for problem in _both_write(nodes, (one, first), (other, second))), None)
             for number, other in enumerate(nodes) for second in other.writes)
    return [problem for problem in found if problem]


def _both_write(nodes: Sequence[Node], first: tuple[Node, Touched], second: tuple[Node, Touched]) -> list[Problem]:
    (one, written), (other, again) = first, second
    if not meet(written.path, again.path):
        return []
    deeper = again if is_at_or_below(again.path, written.path) else written
    reader = next(((node, read) for node in nodes for read in node.reads if meet(read.path, deeper.path)), None)
    if reader is None:
        return []
    node, read = reader
    shared = deeper.shown if written.shown == again.shown else f"{written.shown} and {again.shown}"
    return [Problem(again.location, f"tasks '{one.task}' (output '{written.parameter}', {written.location}) and '{other.task}' "
                    f"(output '{again.parameter}') both write {shared}, which task '{node.task}' reads "
                    f"(input '{read.parameter}', {read.location})", "written-twice",
                    f"say which tasks run, in their order ({_one_of(nodes, one, other)}), or give one of them another path",
                    path=again.parameter)]


def _one_of(nodes: Sequence[Node], *writers: Node) -> str:
    """What to type for all tasks with only one of these two that write the same, where it is as simple as that."""
    ways = []
    for writer in writers:
        rest = [node for node in nodes if node is writer or node not in writers]
        alone = not any(meet(one.path, other.path) for node in rest if node is not writer
                        for one in node.writes for other in writer.writes)
        if alone and not any(meet(one.path, other.path) for one in writer.writes for other in writer.reads):
            try:
                ways.append("--task " + ",".join(rest[number].task for number in _in_order(rest)))
            except DefinitionError:  # they wait for each other
                break
    return " or ".join(ways) if len(ways) == len(writers) else "--task A,B"


def _cycle(nodes: Sequence[Node], before: Sequence[frozenset[int]], done: frozenset[int]) -> Problem:
    """The shortest way to say which tasks wait for each other."""
    at = next(number for number in range(len(nodes)) if number not in done)
    way: list[int] = []
    while at not in way:
        way.append(at)
        at = min(number for number in before[at] if number not in done)  # each that is left waits for one that is left
    circle = way[way.index(at):]
    sentences, place = [], None
    for reader, writer in zip(circle, (*circle[1:], circle[0])):
        written, read = _links(nodes[writer], nodes[reader])[0]
        place = place or read.location
        sentences.append(f"task '{nodes[reader].task}' reads {read.shown} (input '{read.parameter}', {read.location}), "
                         f"which task '{nodes[writer].task}' writes (output '{written.parameter}', {written.location})")
    assert place is not None
    return Problem(place, "these tasks wait for each other: " + "; ".join(sentences), "cycle",
                   "say in which order they run: --task " + ",".join(nodes[number].task for number in reversed(circle)))
