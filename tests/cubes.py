"""Cubes for tests: trees of files written into a directory, and read back."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.definition.model import Group, Parameter, Platform, Task


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write the files (name below root -> text, dedented) and return the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return root


def read(root: Path, *overrides: str, where: str = ".", platform: str | None = None, workspace: str | None = None,
         environment: Mapping[str, str] | None = None, cwd: Path | None = None,
         run_files: tuple[str, ...] = ()) -> Reading:
    """Read the cube as if the command had been typed in `cwd` (default: the cube's root)."""
    return read_cube(ReadRequest(where, overrides, platform, workspace, run_files, environment or {},
                                 str(cwd or root), None))


def read_inline(root: Path, text: str, *overrides: str, **settings: object) -> Reading:
    """Read a cube of one mlcube.yaml."""
    write_tree(root, {"mlcube.yaml": text})
    return read(root, *overrides, **settings)  # type: ignore[arg-type]


def problems(reading: Reading) -> list[str]:
    """The problems as `severity file:line:column code path`."""
    return [" ".join((problem.severity, str(problem.location), problem.code, problem.path)).rstrip()
            for problem in reading.problems]


def codes(reading: Reading) -> list[str]:
    """The problems' codes."""
    return [problem.code for problem in reading.problems]


def task(reading: Reading, name: str) -> Task:
    """The cube's task of that name."""
    assert reading.cube is not None
    found = reading.cube.task(name)
    assert found is not None, [one.name for one in reading.cube.tasks]
    return found


def parameter(reading: Reading, task_name: str, name: str) -> Parameter:
    """The task's parameter of that name (its first one)."""
    found = task(reading, task_name).parameter(name)
    assert found is not None
    return found


def platform(reading: Reading, name: str) -> Platform:
    """The cube's platform of that name."""
    assert reading.cube is not None
    found = reading.cube.platform(name)
    assert found is not None, [one.name for one in reading.cube.platforms]
    return found


def options(reading: Reading, name: str) -> dict[str, object]:
    """The platform's options by name."""
    return {option.name: option.value for option in platform(reading, name).options}


def bound(group: Group) -> tuple[tuple[str, str | None], ...]:
    """What the group binds, without the places."""
    return tuple((binding.parameter, binding.value) for binding in group.bindings)
