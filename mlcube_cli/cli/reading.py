"""The commands that only read: describe, validate, show-config, schema. They import neither plumbum nor a runner."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cache import find_cache
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.words import Words, sort_out
from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.errors import DefinitionError, MachineError, Problem, UsageError

if TYPE_CHECKING:
    from mlcube_cli.definition.model import Cube
    from mlcube_cli.job import Copy


def describe(arguments: Arguments) -> int:
    """`mlcube describe`: what is inside a cube. Of a cube with errors only the problems are shown; exit 3."""
    from mlcube_cli.definition.tree import is_secret
    from mlcube_cli.report import describe_data, describe_text

    words = _only_a_cube(arguments)
    reading = _read(arguments, words)
    errors = _errors(reading)
    if reading.cube is None or errors:
        raise DefinitionError("this cube cannot be used", problems=reading.problems)
    output.show_problems(reading.problems)
    cube = reading.cube
    if reading.effective is not None and is_secret(reading.effective.resolved):
        from mlcube_cli.definition.show import without_secrets

        cube = without_secrets(cube, reading.effective)
    copies = _copies(cube) if arguments.workspace else None
    if arguments.json:
        output.json_result(describe_data(cube, copies))
    else:
        output.result(describe_text(cube, words.cube, copies or ()))
    return 0


def _copies(cube: Cube) -> tuple[Copy, ...]:
    """What runs would copy into the workspace that was asked for, since it lacks it."""
    from mlcube_cli.observe import machine, with_facts
    from mlcube_cli.resolve import find_copies

    return with_facts(lambda known: find_copies(cube, known), machine(os.environ))[0]


def validate(arguments: Arguments) -> int:
    """`mlcube validate`: 0 when no cube has an error (with --strict: nor a warning), else 3."""
    from mlcube_cli.report import printable, validate_data

    places = [*([arguments.mlcube] if arguments.mlcube else []), *arguments.words] or ["."]
    found: list[Problem] = []
    for place in places:
        problems = _validate_one(arguments, place)
        found += problems
        if not arguments.json:
            output.show_problems([_strict(problem) if arguments.strict else problem for problem in problems])
            output.result(f"{printable(place)}: {_verdict(problems, arguments.strict)}\n")
    document = validate_data(found, arguments.strict)
    if arguments.json:
        output.json_result(document)
    return 0 if document["valid"] else DefinitionError.exit_code


def _validate_one(arguments: Arguments, place: str) -> tuple[Problem, ...]:
    from mlcube_cli.trust import platform_reach

    try:
        reading = _read(arguments, Words(place, (), ()))
    except DefinitionError as error:
        return error.problems or (output.as_problem(error),)
    if reading.cube is not None and not arguments.json:
        for platform in reading.cube.platforms:
            for phrase in platform_reach(platform):
                output.say(f"{place}: platform '{platform.name}' asks for {phrase}")
    if reading.cube is None or reading.effective is None:
        return reading.problems
    from mlcube_cli.definition.crosscheck import unset_variables

    return (*reading.problems, *unset_variables(reading.cube.dialect, reading.effective.resolved, os.environ))


def _strict(problem: Problem) -> Problem:
    from dataclasses import replace

    return replace(problem, severity="error")


def _verdict(problems: tuple[Problem, ...], strict: bool) -> str:
    errors = sum(problem.severity == "error" or strict for problem in problems)
    warnings = len(problems) - errors
    counts = [f"{number} {word}{'s' if number > 1 else ''}" for number, word in ((errors, "error"), (warnings, "warning"))
              if number]
    return ("invalid" if errors else "valid") + (f" ({', '.join(counts)})" if counts else "")


def show_config(arguments: Arguments) -> int:
    """`mlcube show-config`: the effective definition, with --resolve every `${...}` replaced."""
    from mlcube_cli.cli.choose import assign
    from mlcube_cli.definition.show import config_data, config_text, only_platform, with_values

    words = sort_out(arguments.words, arguments.mlcube)
    reading = _read(arguments, words, settings=True)
    if reading.cube is None or reading.effective is None or _errors(reading):
        raise DefinitionError("this cube cannot be used", problems=reading.problems)
    values = assign(reading.cube.tasks, words.values)
    output.show_problems(reading.problems)
    tree = reading.effective.resolved if arguments.resolve else reading.effective.raw
    shown = only_platform(reading.cube, with_values(tree, values), reading.platform, reading.inside)
    if arguments.json:
        output.json_result(config_data(reading.cube, shown, arguments.resolve))
    else:
        output.result(config_text(reading.cube, shown))
    return 0


def schema(arguments: Arguments) -> int:
    """`mlcube schema`: the names of the bundled schemas, or one of them as it is."""
    from mlcube_cli.definition.bundled import schema_names, schema_text
    from mlcube_cli.definition.hints import nearest

    names = schema_names()
    if len(arguments.words) > 1:
        raise UsageError(f"'{arguments.words[1]}' is one word too many", "mlcube schema takes one name")
    if not arguments.words:
        output.result("".join(f"{name}\n" for name in names))
        return 0
    name = arguments.words[0].removesuffix(".json")
    if name not in names:
        guess = nearest(name, names)
        raise UsageError(f"there is no schema '{name}'", f"did you mean '{guess}'?" if guess else "mlcube schema lists them")
    output.result(schema_text(name))
    return 0


def _only_a_cube(arguments: Arguments) -> Words:
    words = sort_out(arguments.words[:1], arguments.mlcube)
    if words.values or words.tasks or len(arguments.words) > (0 if arguments.mlcube else 1):
        raise UsageError("describe takes a cube and nothing else", "mlcube describe CUBE")
    return words


def _errors(reading: Reading) -> list[Problem]:
    return [problem for problem in reading.problems if problem.severity == "error"]


def _read(arguments: Arguments, words: Words, settings: bool = False) -> Reading:
    try:
        cwd = os.getcwd()
    except OSError as error:
        raise MachineError(f"the current directory cannot be used: {error.strerror}", "cd to another directory") from None
    return read_cube(ReadRequest(
        where=words.cube, overrides=tuple(getattr(arguments, "overrides", ())), platform=getattr(arguments, "platform", None),
        workspace=getattr(arguments, "workspace", None),
        environment=os.environ, cwd=cwd, cache=find_cache(os.environ, os.getuid()), settings=settings))
