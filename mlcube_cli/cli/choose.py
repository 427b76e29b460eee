"""Which tasks and which platform a command line means; pure, with the nearest names where something does not exist."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.model import TEXT, Cube, Group, Platform, Task
from mlcube_cli.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def choose_tasks(cube: Cube, spelled: Sequence[str], cwd: str) -> list[tuple[Task, Group | None]]:
    """The tasks in the order given; a cube with one task needs none. Raises UsageError before anything runs."""
    if not cube.tasks:
        raise UsageError("this cube has no tasks", "mlcube validate says why")
    if not spelled:
        if len(cube.tasks) == 1:
            return [(cube.tasks[0], None)]
        names = ", ".join(task.name for task in cube.tasks)
        raise UsageError("which task?", f"--task with one or more of: {names}")
    return [_choose_task(cube, text, cwd) for text in spelled]


def _choose_task(cube: Cube, text: str, cwd: str) -> tuple[Task, Group | None]:
    """RULINGS 3: a run configuration file, a task's name, TASK/GROUP, or a run configuration's name."""
    groups = [(task, group) for task in cube.tasks for group in task.groups]
    for base in (cwd, cube.root):
        path = os.path.normpath(os.path.join(base, text))
        for task, group in groups:
            if os.path.normpath(os.path.join(cwd, group.location.file)) == path:
                return task, group
    found = cube.task(text)
    if found is not None:
        _check_default(cube, found)
        return found, None
    name, slash, group_name = text.partition("/")
    found = cube.task(name)
    if found is not None and slash:
        return found, _choose_group(found, group_name)
    for task, group in groups:
        if cube.dialect != "mlbox" and text in (group.name, f"run/{group.name}.yaml"):
            return task, group
    names = [task.name for task in cube.tasks]
    files = [group.location.file for _, group in groups] + [f"run/{group.name}.yaml" for _, group in groups]
    guess = nearest(text, files) if text.endswith((".yaml", ".yml")) else nearest(name, names)
    raise UsageError(f"there is no task '{text}'",
                     f"did you mean '{guess}'?" if guess else f"the tasks are: {', '.join(names)}")


def _check_default(cube: Cube, task: Task) -> None:
    """A task named alone runs with its parameters' defaults; several run configurations of other names leave none."""
    if cube.dialect == "directory" and len(task.groups) > 1 and task.name not in [group.name for group in task.groups]:
        names = ", ".join(f"run/{group.name}.yaml" for group in task.groups)
        raise UsageError(f"task '{task.name}' has several run configurations", f"--task with one of: {names}")


def _choose_group(task: Task, name: str) -> Group:
    found = next((group for group in task.groups if group.name == name), None)
    if found is None:
        names = [group.name for group in task.groups]
        guess = nearest(name, names)
        raise UsageError(f"task '{task.name}' has no group '{name}'",
                         f"did you mean '{guess}'?" if guess else f"its groups are: {', '.join(names) or 'none'}")
    return found


def assign(tasks: Sequence[Task], values: Sequence[tuple[str, str]]) -> dict[str, str]:
    """`name=value` as a mapping. Raises UsageError for a name that none of the tasks has, or one given twice."""
    known = [parameter.name for task in tasks for parameter in task.parameters]
    paths = {parameter.name for task in tasks for parameter in task.parameters if parameter.type != TEXT}
    chosen: dict[str, str] = {}
    for name, value in values:
        if name not in known:
            guess = nearest(name, known)
            names = ", ".join(dict.fromkeys(f"'{task.name}'" for task in tasks))
            which = f"tasks {names} have" if "," in names else f"task {names} has"
            raise UsageError(f"{which} no parameter '{name}'", f"did you mean '{guess}'?" if guess else
                             f"the parameters are: {', '.join(dict.fromkeys(known)) or 'none'}")
        if not value and name in paths:
            raise UsageError(f"parameter '{name}' is given an empty path", f"write {name}=PATH")
        if name in chosen:
            raise UsageError(f"parameter '{name}' is given twice", f"give {name}=PATH once")
        chosen[name] = value
    return chosen


def choose_platform(cube: Cube, named: str | None, runner: str | None,
                    unavailable: Callable[[Platform], str | None]) -> tuple[Platform, str]:
    """The platform and, where it was our choice among several, a sentence that says which and why (else "").

    `named` is a platform of the cube; `runner` restricts the choice (applets). RULINGS 7: the only one; else the first
    container platform that this machine can run, then a host platform; never a remote one.
    `unavailable` gives the reason why this machine cannot run a platform, or None. Raises UsageError, MachineError.
    """
    from mlcube_cli.runner import CONTAINER, HOST, RUNNERS

    platforms = [platform for platform in cube.platforms if runner in (None, platform.runner)]
    if named is not None:
        chosen = cube.platform(named)
        if chosen is None or chosen not in platforms:
            names = ", ".join(platform.name for platform in platforms) or "none"
            raise UsageError(f"there is no {runner + ' ' if runner else ''}platform '{named}'", f"the platforms are: {names}")
        return chosen, ""
    if not platforms:
        kind = f"{runner} platform" if runner else "platform"
        name = runner or "docker"
        if _is_remote(name):
            raise UsageError(f"this cube has no {kind}", "name one of your settings, or a platform file: --platform NAME")
        raise UsageError(f"this cube has no {kind}", f"name one, and what it runs: --platform {name} -P{name}.image=NAME; "
                                                     "or give a platform file: --platform FILE")
    distant = [platform.name for platform in platforms if _is_remote(platform.runner)]
    if len(platforms) == 1 and (runner or not distant):
        return platforms[0], ""
    if len(distant) == len(platforms):
        raise UsageError("which machine is meant? Tasks run on another one, or on a cluster, only where it is named",
                         "one of: " + ", ".join(f"--platform {name}" for name in distant))
    reasons: list[str] = []
    for kind in (CONTAINER, HOST):
        for platform in platforms:
            entry = RUNNERS.get(platform.runner)
            if entry is None or entry.kind != kind:
                continue
            reason = unavailable(platform)
            if reason is None:
                why = "; ".join(reasons) or f"the first that this machine can run of {', '.join(p.name for p in platforms)}"
                return platform, f"platform '{platform.name}' ({why})"
            reasons.append(f"{platform.name}: {reason}")
    raise MachineError("this machine can run none of the cube's platforms: " + ("; ".join(reasons) or ", ".join(
        f"{platform.name} needs the runner '{platform.runner}'" for platform in platforms)),
        "install an engine, or choose with --platform")


def _is_remote(runner: str) -> bool:
    from mlcube_cli.runner import BATCH, REMOTE, RUNNERS

    return runner in RUNNERS and RUNNERS[runner].kind in (REMOTE, BATCH)
