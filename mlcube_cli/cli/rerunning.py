"""The command line of a run as its record keeps it, without secrets, and the same command line again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mlcube_cli.cli.arguments import Arguments, find_verb, parse
from mlcube_cli.cli.running import Prepared
from mlcube_cli.command import HIDDEN, Plan
from mlcube_cli.definition.overrides import parse_override
from mlcube_cli.definition.tree import Node
from mlcube_cli.errors import UsageError

# The options of `run` with a value, and the switches, that a plan depends on.
_VALUES = ("timeout", "grace", "gpus", "memory", "cpu", "network", "security", "mount", "hash")
_SWITCHES = ("untrusted", "interactive")
_ENVIRONMENT = "env"  # what an option's name holds that sets a task's environment, in all spellings


def asked(arguments: Arguments, prepared: Prepared, number: int, plan: Plan) -> dict[str, object]:
    """What the command line asked of the task of that number (from 0), for its record. Secret values are left out."""
    wish, group = prepared.wishes[number], prepared.wishes[number].group
    task = f"{wish.task.name}/{group.name}" if group else wish.task.name
    secrets = _secret_values(plan)
    return {
        "cube": os.path.normpath(os.path.join(os.getcwd(), prepared.cube.file)), "cwd": os.getcwd(),
        "task": task, "platform": arguments.platform or prepared.platform_name, "values": dict(wish.values),
        "overrides": [_without_secrets(text, secrets) for text in arguments.overrides],
        "workspace": arguments.workspace,
        "options": {name: getattr(arguments, name, None) for name in _VALUES if getattr(arguments, name, None) is not None},
        "switches": [name for name in _SWITCHES if getattr(arguments, name, False)],
    }


def _secret_values(plan: Plan) -> frozenset[str]:
    commands = [command for step in plan.steps
                for command in (step.command, *step.before, *step.then, *step.after, step.otherwise, step.unless) if command]
    return frozenset(variable.value for command in commands for variable in command.env
                     if variable.secret and variable.value and len(variable.value) > 3)


def _without_secrets(text: str, secrets: frozenset[str]) -> str:
    """A `-P`, with `***` where it sets what a task finds in its environment, or holds a value that the plan keeps secret."""
    override = parse_override(text)
    key, _, value = text.partition("=")
    names = any(_ENVIRONMENT in part.lower() for part in override.path[1:])
    hidden = names or _sets_environment(override.value) or any(secret in value for secret in secrets)
    return f"{key}={HIDDEN}" if hidden else text


def _sets_environment(node: Node) -> bool:
    if isinstance(node.value, dict):
        return any(_ENVIRONMENT in str(key).lower() or _sets_environment(item) for key, item in node.value.items())
    return isinstance(node.value, tuple) and any(_sets_environment(item) for item in node.value)


# --- again ---------------------------------------------------------------------------------------------------------


def again(run_asked: Mapping[str, object], cube: str, overrides: Sequence[str]) -> Arguments:
    """The command line of a record's `asked`, for the cube whose definition file is `cube`. `overrides` come after its own,
    and give the values that it leaves out. Raises UsageError where such a value is not given."""
    words = ["--mlcube", cube, "--task", str(run_asked.get("task")), "--platform", str(run_asked.get("platform"))]
    workspace = run_asked.get("workspace")
    words += ["--workspace", workspace] if isinstance(workspace, str) else []
    options = run_asked.get("options")
    for name, value in (options if isinstance(options, dict) else {}).items():
        if name in _VALUES:
            words.append(f"--{name}={value}")
    words += [f"--{name}" for name in _texts(run_asked.get("switches")) if name in _SWITCHES]
    given = {parse_override(text).path for text in overrides}
    for text in _texts(run_asked.get("overrides")):
        key, _, value = text.partition("=")
        if value != HIDDEN:
            words.append(f"-P{text}")
        elif parse_override(text).path not in given:
            raise UsageError(f"the value of -P {key} is not in the record: it may be a secret",
                             f"give it again: -P {key}=VALUE")
    words += [f"-P{text}" for text in overrides]
    values = run_asked.get("values")
    words += ["--", *(f"{name}={value}" for name, value in (values if isinstance(values, dict) else {}).items())]
    return parse(find_verb("run"), words)


def _texts(data: object) -> list[str]:
    return [str(item) for item in data] if isinstance(data, list) else []
