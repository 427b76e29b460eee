"""(Cube, wishes, Facts) -> Job: absolute paths, kinds, read-only or not. Pure; all problems of a task at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlcube_cli.definition.model import OVERRIDE, TEXT, Cube, Group, Parameter, Platform, Task
from mlcube_cli.errors import DefinitionError, Location, Problem
from mlcube_cli.facts import Facts, PathFact, PathKind
from mlcube_cli.job import Argument, Copy, Job
from mlcube_cli.variables import expand_variables

COMMAND_LINE = Location("the command line")


@dataclass(frozen=True)
class Wish:
    """What the command line asks of one task, on top of the definition."""

    task: Task
    group: Group | None = None
    values: Mapping[str, str] = field(default_factory=dict)  # `name=value`
    mount: str | None = None  # `--mount ro|rw`: for inputs, instead of the definition's `opts`
    run_id: str = ""
    interactive: bool = False
    grace: float = 10.0
    timeout: float | None = None
    assume: bool = False  # dry run: an engine that does not answer is assumed, and said so


@dataclass(frozen=True)
class Bound:
    """A parameter with its value as an absolute path, before the disk was asked; a text has no path."""

    parameter: Parameter
    text: str
    path: str
    location: Location

    @property
    def is_path(self) -> bool:
        return self.parameter.type != TEXT


def resolve(cube: Cube, platform: Platform, wish: Wish, facts: Facts, earlier: tuple[Job, ...] = ()) -> Job:
    """The task with everything decided that does not depend on the engine.

    `earlier`: the tasks before it in the same command, whose outputs count as present (RULINGS 4).
    Raises DefinitionError with every problem: an unset variable, a missing input, an input of the wrong kind, an output
    that cannot be made, one path read-only and written. Raises facts.Missing for paths not looked at yet.
    """
    problems: list[Problem] = []
    bound = [item for parameter in wish.task.parameters for item in bind(cube, parameter, wish, facts, problems)]
    facts.need(*(PathKind(item.path) for item in bound if item.is_path))
    made = tuple(argument for job in earlier for argument in job.paths if argument.direction == "output")
    written = {item.path: item for item in bound if item.is_path and item.parameter.direction == "output"}
    copies = _copies(cube, wish, [item for item in bound if item.is_path and item.path not in written], facts, made)
    arguments = []
    for item in bound:
        if not item.is_path:
            arguments.append(Argument(item.parameter.name, item.parameter.direction, TEXT, "ro", "", item.text))
            continue
        kind, faults = _judge(item, cube.calling, facts, made, copies.get(item.path))
        faults += _conflicts(item, wish, written)
        problems += faults
        mode = "rw" if item.path in written else _input_mode(item.parameter, wish)
        arguments.append(Argument(item.parameter.name, item.parameter.direction, kind, mode, item.path))
    if problems:
        raise DefinitionError(f"task '{wish.task.name}' cannot start", problems=problems)
    return Job(run_id=wish.run_id, cube=cube.name, root=cube.root, workspace=cube.workspace, dialect=cube.calling,
               task=wish.task.name, entrypoint=wish.task.entrypoint, arguments=_once(arguments), platform=platform,
               requirements=cube.requirements, interactive=wish.interactive, grace=wish.grace, timeout=wish.timeout,
               assume=wish.assume, copies=tuple(copies.values()))


def _input_mode(parameter: Parameter, wish: Wish) -> str:
    return wish.mount or parameter.mode


def _once(arguments: list[Argument]) -> tuple[Argument, ...]:
    """A name that is both an input and an output is passed once, read-write (RULINGS 1)."""
    by_name: dict[str, Argument] = {}
    for argument in arguments:
        by_name[argument.name] = argument
    return tuple(by_name.values())


# --- values to paths -----------------------------------------------------------------------------------------------


def bind(cube: Cube, parameter: Parameter, wish: Wish, facts: Facts, problems: list[Problem]) -> list[Bound]:
    """The parameter's path: `name=value`, else `-P`, else the group's, else the default; none of them: left out."""
    typed = wish.values.get(parameter.name)
    if typed is not None:
        text, location = typed, COMMAND_LINE
    elif wish.group is not None and parameter.location.file != OVERRIDE:
        binding = wish.group.binding(parameter.name)
        if binding is None or binding.value is None:
            return []
        text, location = binding.value, binding.location
    elif parameter.default is not None:
        text, location = parameter.default, parameter.location
    else:
        return []
    if parameter.type == TEXT:
        return [Bound(parameter, text, "", location)]
    try:
        path = absolute_path(text, cube.workspace, facts, from_command_line=typed is not None)
    except DefinitionError as error:
        problems.append(Problem(location, f"parameter '{parameter.name}': {error.message}", "bad-path", error.hint,
                                path=parameter.name))
        return []
    return [Bound(parameter, text, path, location)]


def absolute_path(text: str, workspace: str, facts: Facts, from_command_line: bool = False) -> str:
    """The path that a value means (CONTRACT, "Rules on paths"): `~` and `$NAME` expand once, relative is relative to the
    workspace, `./x` and `../x` on the command line to the current directory. Raises DefinitionError."""
    expanded = expand(text, workspace, facts)
    if "\x00" in expanded:
        raise DefinitionError("a path cannot hold a NUL byte")
    near = from_command_line and (text in (".", "..") or text.startswith(("./", "../")))
    return os.path.normpath(os.path.join(facts.cwd if near else workspace, expanded))


def expand(text: str, workspace: str, facts: Facts) -> str:
    """`text` with `~`, `$NAME`, `${NAME}` and `$$` replaced, once; `$WORKSPACE` is always ours (RULINGS 1)."""

    def unset(name: str) -> DefinitionError:
        return DefinitionError(f"the environment variable {name} is not set",
                               f"export {name}=... first, or write $$ where a dollar is meant")

    tilde = ""
    if text == "~" or text.startswith("~/"):
        tilde, text = facts.home, text[1:]
        if not tilde:
            raise DefinitionError("'~' has no meaning here: HOME is not set", "write the whole path")
    return tilde + expand_variables(text, workspace, facts.environment, unset)


# --- inputs that a workspace elsewhere lacks -----------------------------------------------------------------------


def _copies(cube: Cube, wish: Wish, inputs: list[Bound], facts: Facts, made: tuple[Argument, ...]) -> dict[str, Copy]:
    """The inputs to copy from the cube's own workspace into the one that was asked for, by target (spec/dialects 3.6).

    Those that lie in the workspace, are there in the cube's own and absent in this one, and that no task of the cube
    writes. MLBox knows no other workspace, so there is nothing to copy.
    """
    own = os.path.join(cube.root, "workspace")
    if cube.dialect == "mlbox" or cube.workspace == own:
        return {}
    outputs = [*(argument.host_path for argument in made), *_all_outputs(cube, wish, facts)]
    found: dict[str, Copy] = {}
    for item in inputs:
        below = item.path[len(cube.workspace.rstrip("/")) + 1:] if _at_or_below(item.path, cube.workspace) else ""
        typed_whole = item.location == COMMAND_LINE and os.path.isabs(item.text)
        if below and not typed_whole and not any(_at_or_below(item.path, output) for output in outputs):
            found[item.path] = Copy(item.parameter.name, os.path.join(own, below), item.path)
    facts.need(*(PathKind(copy.source) for copy in found.values()))
    return {target: copy for target, copy in found.items()
            if facts.path(target).kind == "absent" and facts.path(copy.source).kind != "absent"
            and not _at_or_below(target, copy.source)}  # a directory is not copied into itself


def find_copies(cube: Cube, facts: Facts) -> tuple[Copy, ...]:
    """What runs of the cube's tasks with their defaults would copy into its workspace, each once. Raises facts.Missing."""
    found: dict[str, Copy] = {}
    for task in cube.tasks:
        wish, faults = Wish(task), list[Problem]()
        bound = [item for parameter in task.parameters for item in bind(cube, parameter, wish, facts, faults)]
        inputs = [item for item in bound if item.is_path and item.parameter.direction == "input"]
        facts.need(*(PathKind(item.path) for item in inputs))
        found.update(_copies(cube, wish, inputs, facts, ()))
    return tuple(found.values())


def _all_outputs(cube: Cube, wish: Wish, facts: Facts) -> list[str]:
    """The paths that any task of the cube writes, as far as they can be told: its defaults, its groups', those typed."""
    texts = []
    for task in cube.tasks:
        names = [parameter.name for parameter in task.parameters if parameter.direction == "output"]
        texts += [(parameter.default, False) for parameter in task.parameters if parameter.direction == "output"]
        texts += [(binding.value, False) for group in task.groups for binding in group.bindings if binding.parameter in names]
        texts += [(wish.values[name], True) for name in names if name in wish.values]
    paths = []
    for text, typed in texts:
        try:
            paths += [absolute_path(text, cube.workspace, facts, typed)] if text is not None else []
        except DefinitionError:
            continue  # a fault of that task, and said where it runs
    return paths


def _at_or_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


# --- what the disk says --------------------------------------------------------------------------------------------


def _judge(item: Bound, dialect: str, facts: Facts, made: tuple[Argument, ...],
           copy: Copy | None = None) -> tuple[str, list[Problem]]:
    """The artefact's kind (file, directory, unknown) and what is wrong with it. One that will be copied: its source's."""
    fact = facts.path(item.path)
    wanted = item.parameter.type
    if wanted == "unknown" and item.text.endswith(("/", "\\")):
        wanted = "directory"
    if copy is not None and not fact.creatable:
        return wanted, [_problem(item, f"input '{item.parameter.name}' cannot be copied from {_shown(copy.source)}: "
                                       f"{_obstacle(item.path, fact, facts)}", "not-creatable",
                                 f"give another path: {item.parameter.name}=PATH, or check the permissions")]
    if copy is not None:
        return _judge_input(replace(item, path=copy.source), wanted, facts.path(copy.source), facts, made)
    if item.parameter.direction == "input":
        return _judge_input(item, wanted, fact, facts, made)
    return _judge_output(item, wanted, facts, dialect)


def _judge_input(item: Bound, wanted: str, fact: PathFact, facts: Facts,
                 made: tuple[Argument, ...]) -> tuple[str, list[Problem]]:
    name = item.parameter.name
    if fact.kind == "absent" and not fact.readable:
        return wanted, [_problem(item, f"input '{name}': {_shown(item.path)} cannot be looked at", "unreadable",
                                 "check the permissions of the directories above it, and for links in a circle")]
    if fact.kind == "absent":
        path = _real(item.path, facts)
        promised = next((argument for argument in made if _at_or_below(path, _real(argument.host_path, facts))), None)
        if promised is None:
            return wanted, [_missing_input(item, facts)]
        if wanted == "unknown":
            wanted = promised.type if _real(promised.host_path, facts) == path else "unknown"
        if wanted != "unknown":
            return wanted, []
        return wanted, [_problem(item, f"input '{name}' is not there yet and its type is not stated",
                                 "unknown-type", "add 'type: file' or 'type: directory' to the parameter")]
    if wanted not in ("unknown", fact.kind):
        return wanted, [_problem(item, f"input '{name}' must be a {wanted}, but {_shown(item.path)} is {_a(fact.kind)}",
                                 "wrong-kind", f"give a {wanted}: {name}=PATH")]
    if fact.kind == "other":
        return wanted, [_problem(item, f"input '{name}': {_shown(item.path)} is neither a file nor a directory",
                                 "wrong-kind", f"give a file or a directory: {name}=PATH")]
    if not fact.readable:
        return wanted, [_problem(item, f"input '{name}': {_shown(item.path)} cannot be read", "unreadable",
                                 "check its permissions")]
    return fact.kind, []


def _real(path: str, facts: Facts) -> str:
    """The path with links resolved, as far as that is known."""
    return facts.path(path).real or path


def _missing_input(item: Bound, facts: Facts) -> Problem:
    name = item.parameter.name
    hint = f"run the task that makes it, or give another path: {name}=PATH"
    if item.location == COMMAND_LINE and not os.path.isabs(item.text) and not item.text.startswith(("./", "../", "~", "$")):
        near = os.path.normpath(os.path.join(facts.cwd, item.text))
        if facts.path(near).kind != "absent":
            hint = f"a relative value is relative to the workspace; for the current directory write {name}=./{item.text}"
    return _problem(item, f"input '{name}' is missing: there is no {_shown(item.path)}", "missing-input", hint)


def _judge_output(item: Bound, wanted: str, facts: Facts, dialect: str) -> tuple[str, list[Problem]]:
    name, fact = item.parameter.name, facts.path(item.path)
    if wanted == "unknown":
        if fact.kind in ("file", "directory"):
            wanted = fact.kind
        elif dialect != "mlbox":
            return wanted, [_problem(item, f"the type of output '{name}' is not stated", "unknown-type",
                                     "add 'type: file' or 'type: directory', or end a directory's path with '/'")]
    if fact.kind == "absent":
        if fact.creatable:
            return wanted, []
        return wanted, [_problem(item, f"output '{name}' cannot be created: {_obstacle(item.path, fact, facts)}",
                                 "not-creatable", f"give another path: {name}=PATH, or check the permissions")]
    if wanted not in ("unknown", fact.kind):
        return wanted, [_problem(item, f"output '{name}' must be a {wanted}, but {_shown(item.path)} is {_a(fact.kind)}",
                                 "wrong-kind", "move it away, or give another path")]
    if not fact.writable:
        return wanted, [_problem(item, f"output '{name}': {_shown(item.path)} cannot be written", "not-writable",
                                 f"check its permissions, or give another path: {name}=PATH")]
    return wanted, []


def _obstacle(path: str, fact: PathFact, facts: Facts) -> str:
    """Why nothing can be made at a path that is absent: something is in the way, or the directory above is not ours."""
    first = os.path.join(fact.ancestor, os.path.relpath(path, fact.ancestor).split(os.sep)[0])
    kind = facts.path(first).kind
    if first != path and kind != "absent":
        return f"{_shown(first)} is {_a(kind)}, not a directory"
    return f"{_shown(fact.ancestor)} does not let you"


def _conflicts(item: Bound, wish: Wish, written: Mapping[str, Bound]) -> list[Problem]:
    """An input that is asked to be read-only in so many words, and an output at the same path."""
    output = written.get(item.path)
    stated = wish.mount == "ro" or (wish.mount is None and item.parameter.mode_stated and item.parameter.mode == "ro")
    if output is None or item.parameter.direction != "input" or not stated:
        return []
    return [_problem(item, f"input '{item.parameter.name}' is read-only, but output '{output.parameter.name}' "
                           f"({output.location}) writes the same path {_shown(item.path)}",
                     "mode-conflict", "give one of them another path, or allow writing with 'opts: rw'")]


def _problem(item: Bound, message: str, code: str, hint: str) -> Problem:
    return Problem(item.location, message, code, hint, path=item.parameter.name)


def _a(kind: str) -> str:
    return "something else" if kind == "other" else f"a {kind}"


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
