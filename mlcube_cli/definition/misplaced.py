"""Sections of an inline cube that stand in the wrong place: a level is missing, or the indentation is wrong."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.source import format_path
from mlcube_cli.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.source import Document, Path

_ENGINES = ("docker", "singularity", "local", "ssh", "slurm")
_TASK_KEYS = ("entrypoint", "description", "desc", "parameters", "io", "tasks")
_SIDES = ("inputs", "outputs")


def misplaced(document: Document) -> Iterator[Problem]:
    """One error for each section of `tasks` that stands a level too high, or does not belong there at all; one where `tasks`
    itself stands inside of a platform's section."""
    data = document.data if isinstance(document.data, dict) else {}
    tasks = data.get("tasks")
    for name in _ENGINES:
        if "tasks" not in data and _holds(data.get(name), ("tasks",)):
            yield _at(document, (name, "tasks"), f"'tasks' stands inside of '{name}'",
                      f"begin 'tasks:' in the column of '{name}:'")
    for name, task in (tasks.items() if isinstance(tasks, dict) else ()):
        path: Path = ("tasks", name)
        if name in _ENGINES and _has_strange_keys(task):
            yield _at(document, path, f"'{name}' stands among the tasks, but it is a platform's section",
                      f"begin '{name}:' in the column of 'tasks:'")
        elif name == "parameters" and _holds(task, _SIDES):
            yield _at(document, path, "'parameters' stands directly below 'tasks': the task's name is missing",
                      "write the task's name, such as 'main:', below 'tasks:', and indent 'parameters:' below that")
        elif name in _SIDES and _has_strange_keys(task):
            yield _at(document, path, f"'{name}' stands directly below 'tasks': the task's name and 'parameters' are missing",
                      f"write 'tasks:', below it a name such as 'main:', then 'parameters:', then '{name}:'")
        elif isinstance(task, dict):
            yield from _in_task(document, path, task)


def _in_task(document: Document, path: Path, task: dict[str, Data]) -> Iterator[Problem]:
    """The errors of one task: a section or a parameter that stands a level too high."""
    for side in _SIDES:
        if side in task:
            yield _at(document, (*path, side), f"'{side}' stands directly below the task: 'parameters' is missing",
                      f"write 'parameters:' below '{path[-1]}:', and indent '{side}:' below that")
    parameters = task.get("parameters")
    if isinstance(parameters, dict) and not _holds(parameters, _SIDES) and not _holds(task, _SIDES):
        for name in (name for name in parameters if nearest(name, _SIDES) is None):
            yield _at(document, (*path, "parameters", name),
                      f"'{name}' stands directly below 'parameters': 'inputs' or 'outputs' is missing",
                      f"write 'inputs:' or 'outputs:' below 'parameters:', and indent '{name}:' below that")


def _holds(value: Data, keys: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and any(key in value for key in keys)


def _has_strange_keys(task: Data) -> bool:
    return isinstance(task, dict) and bool(task) and not any(key in _TASK_KEYS for key in task)


def _at(document: Document, path: Path, message: str, hint: str) -> Problem:
    return Problem(document.location(path, key=True), message, "misplaced", hint, format_path(path))
