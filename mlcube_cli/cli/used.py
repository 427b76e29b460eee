"""Which faults of a definition touch a command line: what it does not use is a warning (RULINGS 1)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlcube_cli.cli import output
from mlcube_cli.definition import Reading
from mlcube_cli.definition.model import OVERRIDE, TYPED, Cube, Group, Platform, Task
from mlcube_cli.definition.platforms import FORMER
from mlcube_cli.definition.references import FAULTS, reached
from mlcube_cli.definition.source import format_path
from mlcube_cli.errors import DefinitionError, Problem

Chosen = Sequence[tuple[Task, "Group | None"]]


@dataclass(frozen=True)
class Used:
    """What of a cube a command line uses."""

    cube: Cube
    platform: Platform
    tasks: Chosen  # none for configure, which holds for all of them
    files: tuple[str, ...]
    cwd: str
    outer: tuple[Platform, ...] = ()  # what the platform runs inside of: another machine, a batch job

    @property
    def sections(self) -> tuple[tuple[str, ...], ...]:
        """The sections of an inline cube, and of the settings, that its values come from."""
        tasks: list[tuple[str, ...]] = [("tasks", task.name) for task, _ in self.tasks] or [("tasks",)]
        platforms = [path for one in (*self.outer, self.platform)
                     for path in ((one.name,), (one.runner,), ("platforms", one.name))]
        return (("name",), ("platform",), *platforms, *tasks)

    def matters(self, problem: Problem) -> bool:
        """Does a fault there touch this run? Other platforms', tasks' and run configurations' faults do not."""
        path = os.path.normpath(os.path.join(self.cwd, problem.location.file))
        used = {os.path.normpath(os.path.join(self.cwd, file)) for file in self.files}
        if path in used or problem.location.file == TYPED:
            section = problem.path.split(".")
            if section[0] == "tasks" and len(section) > 1 and self.tasks:
                return section[1].split("[")[0] in {task.name for task, _ in self.tasks}
            needed = {platform.runner for platform in (*self.outer, self.platform)}
            unused = {*FORMER, *(platform.runner for platform in self.cube.platforms)} - needed
            return section[0] not in unused
        inside = os.path.relpath(path, self.cube.root).split(os.sep)[0]
        return inside not in ("platforms", "run", "tasks")


def used_files(cube: Cube, platform: Platform, tasks: Chosen) -> tuple[str, ...]:
    """The definition files that a command line uses, as shown to the user."""
    places = [cube.file, platform.location.file]
    places += [option.origin.rsplit(":", 2)[0] for option in platform.options if option.origin.count(":") >= 2]
    places += [place for task, group in tasks for place in (task.location.file, group.location.file if group else "")]
    places += [parameter.location.file for task, group in tasks if not group for parameter in task.parameters]
    return tuple(dict.fromkeys(place for place in places if place not in ("", OVERRIDE, TYPED)))


def judge_problems(reading: Reading, used: Used) -> None:
    """Show warnings; raise DefinitionError where a fault touches this run. An unset variable is a fault then."""
    matter: list[Problem] = []
    other: list[Problem] = []
    unused = _unused_references(reading, used)
    for problem in reading.problems:
        touches = problem.path not in unused if problem.code in FAULTS else used.matters(problem)
        if touches and problem.code == "unset-variable":
            problem = replace(problem, severity="error")
        (matter if touches else other).append(problem if touches else replace(problem, severity="warning"))
    errors = [problem for problem in matter if problem.severity == "error"]
    output.show_problems([problem for problem in (*matter, *other) if problem.severity == "warning"])
    if errors:
        raise DefinitionError("the definition is invalid", problems=errors)


def _unused_references(reading: Reading, used: Used) -> frozenset[str]:
    """Where values with references stand that no value of this run comes from, near or far."""
    if not any(problem.code in FAULTS for problem in reading.problems):
        return frozenset()
    needed = reached(reading.uses, used.sections)
    return frozenset(format_path(path) for path in reading.uses if path not in needed)
