"""Results as text and as JSON; pure. Only `cli/` prints what these functions return."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import DefinitionError, MLCubeError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlcube_cli.command import Plan
    from mlcube_cli.definition.model import Cube, Parameter, Task
    from mlcube_cli.job import Argument, Copy


def printable(text: str) -> str:
    """`text` without control characters and undecodable bytes, so that a name can never steer the terminal."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in safe)


def on_one_line(text: str) -> str:
    """`printable`, where a line is one thing and a name must not pass for two."""
    return printable(text).replace("\n", "\\n")


# --- errors --------------------------------------------------------------------------------------------------------


def problem_lines(problem: Problem) -> list[str]:
    """`error: what`, `  --> file:line:column (path)`, `hint: what to do next` (CONTRACT, Streams)."""
    where = str(problem.location) + (f" ({problem.path})" if problem.path else "")
    lines = [f"{problem.severity}: {printable(problem.message)}", f"  --> {printable(where)}"]
    return lines + ([f"hint: {printable(problem.hint)}"] if problem.hint else [])


def error_lines(error: MLCubeError) -> list[str]:
    """The error as the user sees it; a definition's problems one after the other."""
    if isinstance(error, DefinitionError) and error.problems:
        return [line for problem in error.problems for line in problem_lines(problem)]
    lines = [f"error: {printable(error.message)}"]
    if error.location is not None:
        lines.append(f"  --> {printable(str(error.location))}")
    return lines + ([f"hint: {printable(error.hint)}"] if error.hint else [])


def validate_data(problems: Iterable[Problem], strict: bool = False) -> dict[str, object]:
    """The document mlcube.validate.v1."""
    found = tuple(problems)
    bad = any(problem.severity == "error" or strict for problem in found)
    return {
        "schema": "mlcube.validate.v1",
        "valid": not bad,
        "problems": [{
            "file": problem.location.file, "line": problem.location.line, "column": problem.location.column,
            "path": problem.path, "severity": "error" if strict else problem.severity, "code": problem.code,
            "message": problem.message, "hint": problem.hint,
        } for problem in found],
    }


# --- describe ------------------------------------------------------------------------------------------------------


def describe_data(cube: Cube, copies: Iterable[Copy] | None = None) -> dict[str, object]:
    """The document mlcube.describe.v1. `copies`: what runs would copy into the workspace; None where nobody asked for one."""
    return {
        "schema": "mlcube.describe.v1",
        "root": cube.root, "dialect": cube.dialect, "name": cube.name, "version": cube.version,
        "description": cube.description,
        "authors": [{"name": author.name, "email": author.email, "org": author.org} for author in cube.authors],
        "workspace": cube.workspace,
        "tasks": {task.name: _task_data(task) for task in cube.tasks},
        "platforms": [{"name": platform.name, "runner": platform.runner, "source": platform.location.file}
                      for platform in cube.platforms],
        **({} if copies is None else {"copies": [
            {"name": copy.name, "source": copy.source, "target": copy.target} for copy in copies]}),
    }


def _task_data(task: Task) -> dict[str, object]:
    return {
        "entrypoint": list(task.entrypoint) if task.entrypoint else None,
        "parameters": [{
            "name": parameter.name, "direction": parameter.direction, "type": parameter.type,
            "default": parameter.default, "mode": parameter.mode, "description": parameter.description,
        } for parameter in task.parameters],
        "groups": [group.name for group in task.groups],
    }


def describe_text(cube: Cube, spelled: str, copies: Iterable[Copy] = ()) -> str:
    """The cube for a person: what it is, its tasks, its platforms, the commands to type next. `spelled`: as typed;
    `copies`: what runs would copy into the workspace."""
    title = cube.name or "(no name)"
    lines = [f"{title} {cube.version}".rstrip()]
    lines += [f"  {line}" for line in cube.description.strip().splitlines()]
    for author in cube.authors:
        rest = " ".join(part for part in (f"<{author.email}>" if author.email else "", author.org) if part)
        lines.append(f"  by {author.name} {rest}".rstrip())
    lines += ["", f"  dialect    {cube.dialect}", f"  root       {cube.root}", f"  workspace  {cube.workspace}", "", "tasks"]
    for task in cube.tasks:
        lines += _task_lines(task)
    copied = [f"  {copy.name}: {copy.source} -> {copy.target}" for copy in copies]
    lines += ["", "copied by the first run, since this workspace lacks it", *copied] if copied else []
    lines += ["", "platforms"]
    lines += [f"  {platform.name:<12} {platform.runner:<12} {platform.location.file}" for platform in cube.platforms]
    if not cube.platforms:
        lines.append("  none")
    return printable("\n".join(lines + _next_lines(cube, spelled)) + "\n")


def _task_lines(task: Task) -> list[str]:
    from mlcube_cli.command import quote

    lines = [f"  {task.name}"]
    if task.entrypoint:
        lines.append(f"    entrypoint  {' '.join(quote(word) for word in task.entrypoint)}")
    lines += [_parameter_line(parameter) for parameter in task.parameters]
    if task.groups:
        lines.append(f"    groups      {', '.join(group.name for group in task.groups)}")
    return lines


def _parameter_line(parameter: Parameter) -> str:
    default = "(not bound)" if parameter.default is None else parameter.default
    kind = f"{parameter.direction:<6} {'' if parameter.type == 'unknown' else parameter.type:<9}"
    mode = " rw" if parameter.direction == "input" and parameter.mode == "rw" else ""
    note = f"  # {' '.join(parameter.description.split())}" if parameter.description else ""
    return f"    {kind} {parameter.name} = {default}{mode}{note}"


def _next_lines(cube: Cube, spelled: str) -> list[str]:
    from mlcube_cli.command import quote

    where = "" if spelled in ("", ".") else f" {quote(spelled)}"
    platform = f" --platform {quote(cube.platforms[0].name)}" if len(cube.platforms) > 1 else ""
    lines = ["", "next", f"  mlcube validate{where}"]
    if not cube.platforms:
        platform = " --platform docker -Pdocker.image=NAME"
    return lines + [f"  mlcube run{where}{platform} --task {quote(task.name)}" for task in cube.tasks[:4]]


# --- plans and results ---------------------------------------------------------------------------------------------


def plan_data(plan: Plan) -> dict[str, object]:
    """The document mlcube.plan.v1: steps under their task, the shared ones (preparation) at the top."""
    from mlcube_cli.command import as_data, task_steps

    return {
        "schema": "mlcube.plan.v1",
        "platform": plan.platform,
        "notes": list(plan.notes),
        "steps": [as_data(step) for step in plan.preparation],
        "tasks": [{
            "task": task.task,
            "run_id": task.run_id,
            "arguments": [_argument(argument, value) for argument, value in task.arguments],
            "steps": [as_data(step) for step in steps],
        } for task, steps in zip(plan.tasks, task_steps(plan))],
    }


def _argument(argument: Argument, value: str) -> dict[str, str]:
    """An argument of the plan; `value` is its path as the task sees it, or its text."""
    text = argument.text is not None
    data = {"name": argument.name, "direction": argument.direction, "type": argument.type, "mode": argument.mode,
            "host_path": argument.host_path, "task_path": "" if text else value}
    return {**data, "text": value} if text else data


def result_data(status: str, exit_code: int, platform: str | None, tasks: Iterable[Mapping[str, object]] = (),
                message: str = "", hint: str = "") -> dict[str, object]:
    """The document mlcube.result.v1."""
    return {
        "schema": "mlcube.result.v1", "status": status, "exit_code": exit_code, "platform": platform,
        "message": message, "hint": hint, "tasks": [dict(task) for task in tasks],
    }
