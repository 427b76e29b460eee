"""The paths that the parameters of a task are bound to, whether or not it could start. Pure."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli.definition.model import Cube
from mlcube_cli.errors import DefinitionError, Problem
from mlcube_cli.facts import Facts, PathKind
from mlcube_cli.job import Argument
from mlcube_cli.resolve import Bound, Wish, bind, expand


def paths_of_here(cube: Cube, wish: Wish, facts: Facts, absolute_inputs: bool = False) -> tuple[str, ...]:
    """The paths that the task's relative values mean: they lie on this machine, wherever the task runs (RULINGS 35).

    `facts`: with the environment of the machine that absolute paths lie on. `absolute_inputs`: those, too. Raises nothing
    for faults; `resolve` does.
    """
    faults: list[Problem] = []
    bound = [item for parameter in wish.task.parameters for item in bind(cube, parameter, wish, facts, faults)]
    return tuple(item.path for item in bound
                 if item.is_path and ((absolute_inputs and item.parameter.direction == "input")
                                      or not os.path.isabs(expand(item.text, cube.workspace, facts))))


def with_outputs_of(cube: Cube, wish: Wish, there: Facts) -> Wish:
    """The wish with `~` and `$NAME` in its outputs' values read as on the machine that absolute outputs lie on (RULINGS 35)."""
    faults: list[Problem] = []
    outputs = [item for parameter in wish.task.parameters if parameter.direction == "output"
               for item in bind(cube, parameter, wish, there, faults)]
    named = {item.parameter.name: item.path.replace("$", "$$") + "/" * item.text.endswith("/") for item in outputs
             if item.is_path and (item.text.startswith("~") or "$" in item.text)}
    return replace(wish, values={**wish.values, **named})


def of_machine(problem: Problem, machine: str) -> Problem:
    """The problem of a path, with the name of the other machine that the path lies on, and how one of this machine is named."""
    own = f"absolute paths mean {machine}'s own"
    if problem.code == "missing-input":
        return replace(problem, message=f"{problem.message} on {machine}",
                       hint=f"{own}; to send yours write {problem.path}=./PATH, or say 'absolute: push' in the platform's sync "
                            "section")
    return replace(problem, message=f"on {machine}: {problem.message}", hint=f"{problem.hint} ({own})")


def bound_paths(cube: Cube, wish: Wish, facts: Facts) -> tuple[Bound, ...]:
    """The paths that the task's parameters are bound to; their kinds are in `facts`.

    Raises DefinitionError for values that mean no path, facts.Missing for paths not looked at yet.
    """
    faults: list[Problem] = []
    bound = [item for parameter in wish.task.parameters for item in bind(cube, parameter, wish, facts, faults)]
    if faults:
        raise DefinitionError(f"what task '{wish.task.name}' reads and writes cannot be told", problems=faults)
    paths = tuple(item for item in bound if item.is_path)
    facts.need(*(PathKind(item.path) for item in paths))
    return paths


def arguments_of(cube: Cube, wish: Wish, facts: Facts) -> tuple[Argument, ...]:
    """The paths that the task would get, whether or not it could start: nothing is asked of them but their kind.

    Raises as bound_paths does.
    """
    return tuple(Argument(item.parameter.name, item.parameter.direction, _kind_of(item, facts), "rw", item.path)
                 for item in bound_paths(cube, wish, facts))


def _kind_of(item: Bound, facts: Facts) -> str:
    if item.parameter.type == "unknown":
        found = facts.path(item.path).kind
        return found if found in ("file", "directory") else "directory" if item.text.endswith("/") else "unknown"
    return item.parameter.type
