"""The conformance folder: small cubes that show each construct of the three dialects, with what we make of each.

A folder of tests/conformance/ a case: `cube/` is the definition, `case.yaml` says what it shows and what to do,
`describe.json`, `plan-PLATFORM.json` and `problems.txt` what must come. `make golden` writes the expected files anew; look at
the diff, and hold it against docs/dialects.md. The README there says what case.yaml may hold.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlcube_cli.cli import main
from mlcube_cli.definition import ReadRequest, read_cube
from mlcube_cli.definition.platforms import CARRIERS, RUNNER_NAMES
from tests.conftest import CHECKOUT

FOLDER = CHECKOUT / "tests/conformance"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/case.yaml"))
KEYS = {"shows", "inputs", "environment", "file", "runs", "refused", "shown"}
WRITE = os.environ.get("MLCUBE_GOLDEN") == "write"  # before the environment is made clean
_RUN = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{6}")
ORDINARY = (1000, 1000)  # user and group that root stands for
# The machine has no engine, and these programs, whose answers do not depend on the machine that the tests run on.
PROGRAMS = {
    "python3": "printf 'cpython\\n3.11.2\\nlinux-x86_64\\ncpython-311\\nyes\\n%s' \"$0\"",
    "uname": "echo Linux x86_64", "conda": ":", "bash": ":",
}


@dataclass(frozen=True)
class Case:
    """A copy of a case's folder, and how its cube is named on the command line."""

    name: str
    place: Path
    facts: Mapping[str, Any]

    @property
    def cube(self) -> str:
        return str(self.place / "cube" / self.facts.get("file", ""))

    def shown(self, text: str) -> str:
        """The text without what differs from run to run and from machine to machine."""
        places = {"cube": "$CUBE", "home": "$HOME", "bin": "$BIN", "": "$CASE"}
        for below, name in places.items():
            text = text.replace(str(self.place / below).rstrip("/"), name)
        text = text.replace(sys.executable, "$PYTHON")
        text = text.replace(f"uid:{os.getuid()},gid:{os.getgid()}", "uid:$UID,gid:$GID")
        text = text.replace(f"{os.getuid()}@{os.uname().nodename}.", "$UID@$HOST.")
        text = re.sub(rf'("-user",\s*)"{os.getuid()}"', r'\1"$UID"', text)
        return _RUN.sub("RUN_ID", text).replace(f'"{os.getuid()}:{os.getgid()}"', '"$UID:$GID"')


@dataclass(frozen=True)
class Said:
    """What one command line printed."""

    exit_code: int
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


class Machine:
    """Runs command lines of ours in a clean environment."""

    def __init__(self, case: Case, capture: pytest.CaptureFixture[bytes]) -> None:
        self.case = case
        self._capture = capture

    def run(self, *words: str) -> Said:
        self._capture.readouterr()
        code = main(words)
        return Said(code, self.case.shown(self._capture.readouterr().out.decode("utf-8", "surrogateescape")))


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
            capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Machine]:
    """The machine of the case whose name is the fixture's parameter."""
    place = tmp_path / "case"
    shutil.copytree(FOLDER / request.param, place)
    facts = yaml.safe_load((place / "case.yaml").read_text(encoding="utf-8"))
    for name in facts.get("inputs", ()):
        path = place / "cube" / name
        directory = path if name.endswith("/") else path.parent
        directory.mkdir(parents=True, exist_ok=True)
        if directory != path:
            path.write_text("", encoding="utf-8")
    for directory in ("home/.cache/mlcube", "bin"):
        (place / directory).mkdir(parents=True, exist_ok=True)
    for program, line in PROGRAMS.items():
        (place / "bin" / program).write_text(f"#!/bin/sh\n{line}\n")
        (place / "bin" / program).chmod(0o755)
    for name in [name for name in os.environ if not name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    given = {name: value.replace("$CASE", str(place)) for name, value in facts.get("environment", {}).items()}
    for name, value in {"PATH": str(place / "bin"), "HOME": str(place / "home"), "LANG": "C.UTF-8", **given}.items():
        monkeypatch.setenv(name, value)
    if os.getuid() == 0:  # root's plans differ: it has no need to map users
        for path in (place / "home", place / "home/.cache", place / "home/.cache/mlcube"):
            os.chown(path, *ORDINARY)
        for name, number in zip(("getuid", "geteuid", "getgid"), (ORDINARY[0], *ORDINARY)):
            monkeypatch.setattr(os, name, lambda number=number: number)
    monkeypatch.chdir(place / "cube")
    yield Machine(Case(request.param, place, facts), capsysbinary)


# --- what comes ----------------------------------------------------------------------------------------------------


def expected(machine: Machine) -> dict[str, str]:
    """The expected files of the case by their names, as they come out now."""
    files = {}
    judged = machine.run("validate", machine.case.cube, "--json")
    problems = judged.document["problems"]
    if problems:
        files["problems.txt"] = "\n".join(map(_problem, problems))
    described = machine.run("describe", machine.case.cube, "--json")
    assert (described.exit_code, judged.exit_code) in ((0, 0), (3, 3))
    if described.exit_code:
        return files
    _check(described.document, "mlcube.describe.v1")
    files["describe.json"] = described.text
    chosen = [words for words in machine.case.facts.get("runs", []) if any("--platform" in word for word in words)]
    if chosen:
        files["plan-file.json"] = _text({" ".join(words): _plan(machine, words) for words in chosen})
    if "shown" in machine.case.facts:
        files["options.json"] = _text({" ".join(words): _options(machine, words) for words in machine.case.facts["shown"]})
    for platform in described.document["platforms"]:
        if runs_here(platform) and not chosen:
            runs = machine.case.facts.get("runs") or [[f"--task={task}"] for task in described.document["tasks"]]
            plans = {" ".join(words): _plan(machine, [f"--platform={platform['name']}", *words]) for words in runs}
            files[f"plan-{platform['name']}.json"] = _text(plans)
    return files


def runs_here(platform: Mapping[str, Any]) -> bool:
    """Whether a dry run needs no other machine."""
    return platform["runner"] in RUNNER_NAMES and platform["runner"] not in CARRIERS


def _options(machine: Machine, words: list[str]) -> Any:
    """What the platforms come to that have the tasks of the chosen one run elsewhere, under canonical names."""
    said = machine.run("show-config", machine.case.cube, *words, "--json")
    assert said.exit_code == 0, said.text
    chosen = next(word.partition("=")[2] for word in words if word.startswith("--platform="))
    reading = read_cube(ReadRequest(machine.case.cube, tuple(word[2:] for word in words if word.startswith("-P")), chosen,
                                    environment=os.environ, cwd=os.getcwd()))
    assert reading.cube is not None
    return {platform.name: {"runner": platform.runner, **{option.name: option.value for option in platform.options}}
            for platform in map(reading.cube.platform, (reading.platform or "", *reading.inside))
            if platform is not None and platform.runner in CARRIERS}


def _plan(machine: Machine, words: list[str]) -> Any:
    """The plan of a dry run; or why there is none, where the case says that this platform refuses it."""
    said = machine.run("run", machine.case.cube, *words, "--dry-run", "--json")
    refused = any(f"--platform={name}" in words for name in machine.case.facts.get("refused", ()))
    assert (said.exit_code != 0) == refused, said.text
    if refused:
        document = said.document
        return {"exit_code": said.exit_code, "message": document["message"], "hint": document["hint"],
                "problems": [_problem(problem).splitlines() for problem in document["problems"]]}
    _check(said.document, "mlcube.plan.v1")
    return _without_scripts(said.document)


def _without_scripts(data: Any) -> Any:
    """The plan without the texts of long shell scripts, which are the subject of tests/golden."""
    if isinstance(data, dict):
        return {name: _without_scripts(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_without_scripts(value) for value in data]
    return "$SCRIPT" if isinstance(data, str) and "\n" in data and len(data) > 250 else data


def _check(document: Any, schema: str) -> None:
    jsonschema.validate(document, json.loads((CHECKOUT / f"schemas/{schema}.json").read_text(encoding="utf-8")))


def _problem(problem: Mapping[str, Any]) -> str:
    place = f"{problem['file']}:{problem['line']}:{problem['column']}" if problem["line"] else problem["file"]
    lines = [f"{problem['severity']}: {problem['message']}", f"  --> {place} ({problem['path']}) {problem['code']}"]
    return "\n".join([*lines, f"hint: {problem['hint']}"] if problem["hint"] else lines) + "\n"


def _text(document: object) -> str:
    return json.dumps(document, indent=2) + "\n"


# --- the tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", CASES, indirect=True)
def test_a_case_comes_out_as_written(machine: Machine) -> None:
    folder = FOLDER / machine.case.name
    found = expected(machine)
    if WRITE:
        for path in written(folder):
            (folder / path).unlink()
        for name, text in found.items():
            (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    assert written(folder) == set(found), "`make golden` writes them, then look at what they say"
    for name, text in found.items():
        assert text == (folder / name).read_text(encoding="utf-8", errors="surrogateescape"), f"{folder / name}"


@pytest.mark.parametrize("name", [path.parent.name for path in sorted(FOLDER.glob("*/describe.json"))])
def test_every_task_has_a_plan(name: str) -> None:
    described = json.loads((FOLDER / name / "describe.json").read_text(encoding="utf-8"))
    if not any(map(runs_here, described["platforms"])) or _facts(name).get("refused"):
        return
    plans = [json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / name).glob("plan-*.json")]
    planned = [{task["task"] for plan in plan.values() for task in plan["tasks"]} for plan in plans]
    assert planned and all(tasks == set(described["tasks"]) for tasks in planned)


def written(folder: Path) -> set[str]:
    """The expected files that the case has."""
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != "case.yaml"}


def test_the_index_names_each_case_and_what_it_shows() -> None:
    rows = [f"| [{name}]({name}/cube) | {_facts(name)['shows']} |" for name in CASES]
    readme = FOLDER / "README.md"
    head = readme.read_text(encoding="utf-8").partition("| case |")[0]
    text = head + "\n".join(("| case | shows |", "|---|---|", *rows)) + "\n"
    if WRITE:
        readme.write_text(text, encoding="utf-8")
    assert text == readme.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_small_and_says_what_it_shows(name: str) -> None:
    facts = _facts(name)
    assert set(facts) <= KEYS and facts["shows"]
    files = [path for path in (FOLDER / name / "cube").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4096


def test_every_dialect_has_its_cases() -> None:
    found = [json.loads(path.read_text(encoding="utf-8"))["dialect"] for path in FOLDER.glob("*/describe.json")]
    assert len(CASES) >= 45
    assert {dialect: found.count(dialect) >= 10 for dialect in ("mlbox", "directory", "inline")} == dict.fromkeys(
        ("mlbox", "directory", "inline"), True)


def _facts(name: str) -> Any:
    return yaml.safe_load((FOLDER / name / "case.yaml").read_text(encoding="utf-8"))
