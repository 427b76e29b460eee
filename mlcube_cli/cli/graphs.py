"""`run --all`: which tasks a cube's graph has, and their order."""

from __future__ import annotations

from collections.abc import Sequence

from mlcube_cli.cli import output
from mlcube_cli.cli.choose import assign, choose_tasks
from mlcube_cli.cli.used import Chosen
from mlcube_cli.cli.words import Words
from mlcube_cli.definition import Reading
from mlcube_cli.definition.model import Cube, Task
from mlcube_cli.errors import DefinitionError, Problem, UsageError
from mlcube_cli.facts import Facts, for_each
from mlcube_cli.graph import Node, node_of, order
from mlcube_cli.observe import with_facts
from mlcube_cli.resolve import Wish


def every_task(reading: Reading, words: Words, facts: Facts) -> Chosen:
    """All tasks of the cube, each once with its default values, after those that write what it reads (RULINGS 4, 32).

    Raises UsageError, and DefinitionError where there is no order, or a task cannot run without being told more.
    """
    cube = reading.cube
    assert cube is not None
    if words.tasks:
        raise UsageError(f"--all runs every task, and '{words.tasks[0]}' names one of them", "leave out one or the other")
    tasks = [task for task in cube.tasks if not _is_unlisted(reading, task)]
    if not tasks:
        choose_tasks(cube, (), facts.cwd)  # which says that there are none
        raise UsageError("this cube lists no task", "name one that it does not list: --task")
    for task in cube.tasks:
        if task not in tasks:
            output.say(f"task '{task.name}' is left out: the cube does not list {task.location.file}")
    chosen = _each_once(cube, tasks, facts.cwd)
    values = assign(tasks, words.values)
    wishes = [Wish(task, group, {name: value for name, value in values.items() if task.parameter(name)})
              for task, group in chosen]
    nodes, _ = with_facts(lambda known: _nodes(cube, wishes, known), facts)
    return [chosen[number] for number in order(nodes)]


def _is_unlisted(reading: Reading, task: Task) -> bool:
    """Such a one runs when it is named (RULINGS 1)."""
    return any(problem.code == "unlisted-file" and problem.location.file == task.location.file
               for problem in reading.problems)


def _each_once(cube: Cube, tasks: Sequence[Task], cwd: str) -> Chosen:
    """The tasks with their default values; those that have none are named, all at once."""
    problems: list[Problem] = []
    for task in tasks:
        try:
            choose_tasks(cube, (task.name,), cwd)
        except UsageError as error:
            problems.append(Problem(task.location, error.message, "which-values", error.hint))
    if problems:
        raise DefinitionError("--all cannot tell which values tasks get", problems=problems)
    return [(task, None) for task in tasks]


def _nodes(cube: Cube, wishes: Sequence[Wish], facts: Facts) -> tuple[Node, ...]:
    """Raises DefinitionError with every problem, facts.Missing."""
    problems: list[Problem] = []

    def node(wish: Wish) -> Node:
        try:
            return node_of(cube, wish, facts)
        except DefinitionError as error:
            problems.extend(error.problems)
            return Node(wish.task.name)

    nodes = for_each(node, wishes)
    if problems:
        raise DefinitionError("the tasks' order cannot be told", problems=dict.fromkeys(problems))
    return nodes
