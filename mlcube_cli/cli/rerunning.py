"""The command line of a run as its record keeps it, without secrets, and the same command line again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mlcube_cli.archive import Found
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments, find_verb, parse
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.command import HIDDEN, Plan
from mlcube_cli.definition.overrides import parse_override
from mlcube_cli.definition.tree import Node
from mlcube_cli.errors import DefinitionError, UsageError
from mlcube_cli.provenance import definition_data, measure_code
from mlcube_cli.records import made_before
from mlcube_cli.unchanged import code_differences, file_digests, plan_differences
from mlcube_cli.verification import verify_some

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
        "rerun_of": getattr(arguments, "rerun_of", None),
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


def rerun(arguments: Arguments, found: Sequence[Found]) -> int:
    """Run again what these records tell of, tasks of one command, as `mlcube run` would: its exit codes.

    What differs from the records is a warning; with --strict an error, before anything starts. Raises MLCubeError.
    """
    from mlcube_cli.cli.running import run

    first = found[0]
    merged = _merged(found)
    _go_to(first)
    cube = arguments.mlcube or first.here(str(merged.get("cube")))
    if not os.path.lexists(cube):
        raise DefinitionError(f"the cube of this run is not at {cube} any more", "name it where it is now: --mlcube CUBE")
    line = again(merged, cube, arguments.overrides)
    if arguments.workspace:
        line.workspace = arguments.workspace
    elif first.workspace != first.text("workspace") and line.workspace:
        line.workspace = first.workspace
    for name in ("json", "dry_run", "quiet", "debug", "log_level"):
        setattr(line, name, getattr(arguments, name))
    line.rerun_of = first.run_id if len(found) == 1 else first.command_id
    line.judge = lambda prepared, plans: _judge(found, prepared, plans, arguments.strict)
    return run(line)


def _merged(found: Sequence[Found]) -> dict[str, object]:
    """What was asked, for all tasks of the command together. Raises DefinitionError for records that do not tell."""
    parts = [run.record.get("asked") for run in found]
    known = [part for part in parts if isinstance(part, dict) and part.get("task")]
    if len(known) < len(parts):
        raise DefinitionError(f"the record of run {found[0].run_id} does not say what was asked: an older version wrote it",
                              "mlcube runs show has its plan")
    values = {name: value for part in known for name, value in (part.get("values") or {}).items()}
    return {**known[0], "task": ",".join(str(part["task"]) for part in known), "values": values}


def _go_to(first: Found) -> None:
    """Names on a command line mean what they meant where it was typed."""
    there = first.here(first.text("cwd", "asked"))
    try:
        os.chdir(there)
    except OSError:
        output.warn(f"this run was started in {there}, which is not there any more: names relative to it have another meaning")


def again(run_asked: Mapping[str, object], cube: str, overrides: Sequence[str]) -> Arguments:
    """The command line of a record's `asked`, for the cube whose definition file is `cube`. `overrides` come after its own,
    and give the values that it leaves out. Raises UsageError where such a value is not given."""
    words = ["--mlcube", cube, f"--task={run_asked.get('task')}", f"--platform={run_asked.get('platform')}"]
    workspace = run_asked.get("workspace")
    words += [f"--workspace={workspace}"] if isinstance(workspace, str) else []
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
        elif parse_override(f"{key}=").path not in given:
            raise UsageError(f"the value of -P {key} is not in the record: it may be a secret",
                             f"give it again: -P {key}=VALUE")
    words += [f"-P{text}" for text in overrides]
    values = run_asked.get("values")
    words += ["--", *(f"{name}={value}" for name, value in (values if isinstance(values, dict) else {}).items())]
    return parse(find_verb("run"), words)


def _texts(data: object) -> list[str]:
    return [str(item) for item in data] if isinstance(data, list) else []


# --- what differs --------------------------------------------------------------------------------------------------


def _judge(found: Sequence[Found], prepared: Prepared, plans: Sequence[Plan], strict: bool) -> None:
    """Say what differs from the records. Raises DefinitionError where that is to be refused."""
    jobs = prepared.jobs_here
    different = list(dict.fromkeys(
        sentence for number, (run, plan) in enumerate(zip(found, plans))
        for sentence in _differences(run, prepared, plan, made_before(jobs, number))))
    if different and strict:
        raise DefinitionError("this would not be the same run: " + "; ".join(different),
                              "leave --strict out to run it as it is now")
    for sentence in different:
        output.warn(f"not as in run {found[0].run_id}: {sentence}")


def _differences(run: Found, prepared: Prepared, plan: Plan, made: frozenset[str]) -> list[str]:
    """What is not as in the record. `made`: the inputs that an earlier task of this very command makes anew."""
    sentences = _definition_differences(run, prepared)
    sentences += _code_differences(run)
    before, now = run.record.get("image"), plan.tasks[0].image
    if isinstance(before, dict) and now and before.get("id") and now[1] and before["id"] != now[1]:
        sentences.append(f"image {now[0]} is another one: it was {before['id']}, and is {now[1]}")
    sentences += [f"{one.direction} '{one.name}' {_VERBS[one.verdict]}: {one.path}"
                  for one in verify_some(run, "inputs") if one.differs and one.name not in made]
    return sentences + plan_differences(run, plan)


_VERBS = {"changed": "has changed", "gone": "is gone", "new": "was not there"}


def _definition_differences(run: Found, prepared: Prepared) -> list[str]:
    here = os.getcwd()
    now = definition_data([os.path.join(here, file) for file in prepared.files], prepared.cube.root)
    if now["sha256"] == run.text("sha256", "definition"):
        return []
    before, after = file_digests(run.record.get("definition")), file_digests(now)
    names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    return [f"the definition has changed: {', '.join(names)}"]


def _code_differences(run: Found) -> list[str]:
    code = run.record.get("code")
    if not isinstance(code, dict) or not code.get("manifest"):
        return []
    now = measure_code(run.root, run.workspace, str(code.get("hash")))
    found = code_differences(run, now) if now.manifest else []
    if found == []:
        return []  # or it is the definition, which is told already
    names = [path for path, _ in found or ()]
    return ["the cube's files have changed" + (f": {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "")]
