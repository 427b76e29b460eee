"""Where a run came from: git is asked without starting anything of the repository's, tools' answers are read, nobody waits."""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlcube_cli.command import Command
from mlcube_cli.facts import Observation
from mlcube_cli.process import ask
from mlcube_cli.provenance import (
    Gathering,
    code_data,
    definition_data,
    engine_data,
    git_data,
    gpu_data,
    parse_amd,
    parse_git,
    parse_nvidia,
    parse_version,
)


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", str(root), *identity, *words], capture_output=True, text=True, check=True,
                          env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"})
    return done.stdout.strip()


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """A cube two levels below the top of a repository."""
    root = tmp_path / "repository/cubes/mine"
    (root / "workspace/data").mkdir(parents=True)
    (root / "mlcube.yaml").write_text("name: mine\n")
    git(tmp_path / "repository", "init", "--quiet")
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "--quiet", "--message", "first")
    return root


def asked(cube: Path) -> dict[str, object] | None:
    return git_data(str(cube), str(cube / "workspace"), os.environ)


def test_the_commit_and_whether_the_cube_differs_from_it(cube: Path) -> None:
    commit = git(cube, "rev-parse", "HEAD")
    assert asked(cube) == {"commit": commit, "branch": "main", "dirty": False}
    (cube / "workspace/data/out").write_text("what runs write is no change of the cube")
    (cube.parent / "other").write_text("nor is another cube")
    assert asked(cube) == {"commit": commit, "branch": "main", "dirty": False}
    (cube / "train.py").write_text("a file that nobody has added")
    assert asked(cube) == {"commit": commit, "branch": "main", "dirty": True}
    (cube / "train.py").unlink()
    (cube / "mlcube.yaml").write_text("name: changed\n")
    git(cube, "checkout", "--quiet", "--detach")
    assert asked(cube) == {"commit": commit, "branch": None, "dirty": True}


def test_where_there_is_no_repository_or_no_git_there_is_no_commit(cube: Path, tmp_path: Path) -> None:
    assert git_data(str(tmp_path), str(tmp_path / "workspace"), os.environ) is None
    assert git_data(str(cube), str(cube / "workspace"), {"PATH": str(tmp_path)}) is None


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert asked(tmp_path) == {"commit": None, "branch": "main", "dirty": False}


def test_a_strangers_repository_starts_nothing(cube: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> {proof}\ncat\n")
    program.chmod(0o755)
    hooks = tmp_path / "repository/.git/hooks"
    for name in ("post-index-change", "post-checkout", "fsmonitor-watchman", "pre-commit"):
        (hooks / name).write_text(program.read_text())
        (hooks / name).chmod(0o755)
    configuration = tmp_path / "repository/.git/config"
    plain = configuration.read_text()
    configuration.write_text(f"{plain}[core]\n\tfsmonitor = {program}\n\thooksPath = {hooks}\n\tpager = {program}\n"
                             f"\tsshCommand = {program}\n[diff]\n\texternal = {program}\n[status]\n\tsubmoduleSummary = true\n")
    (cube / "mlcube.yaml").write_text("name: mine\n")  # its time has changed: git has to look into it
    assert asked(cube) == {"commit": git(cube, "rev-parse", "HEAD"), "branch": "main", "dirty": False}
    (cube / ".gitattributes").write_text("* filter=evil\n")
    for section in (f'[filter "evil"]\n\tclean = {program}\n', f"[include]\n\tpath = {tmp_path}/more\n",
                    f'[includeIf "gitdir:/"]\n\tpath = {tmp_path}/more\n', f'  [FILTER "evil"]\n\tprocess = {program}\n',
                    f'[core][filter "evil"]clean = {program}\n'):
        configuration.write_text(plain + section)
        (tmp_path / "more").write_text(f'[filter "evil"]\n\tclean = {program}\n')
        (cube / "mlcube.yaml").write_text("name: more\n")
        found = asked(cube)
        assert found is not None and found["dirty"] is None and found["commit"], section
    assert not proof.exists()
    git(cube, "status")
    assert proof.exists(), "asked without care, git does start it"


def test_a_worktree_has_the_configuration_of_its_repository(cube: Path, tmp_path: Path) -> None:
    git(cube, "worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    there = tmp_path / "tree/cubes/mine"
    assert (asked(there) or {})["dirty"] is False
    with open(tmp_path / "repository/.git/config", "a") as stream:
        stream.write('[filter "x"]\n\tclean = cat\n')
    assert (asked(there) or {})["dirty"] is None


@pytest.mark.parametrize(("text", "plain", "found"), [
    ("", True, None), ("", False, None), ("fatal: odd", True, None),
    ("# branch.oid abc\n# branch.head main\n? new\n", True, {"commit": "abc", "branch": "main", "dirty": True}),
])
def test_what_git_says(text: str, plain: bool, found: object) -> None:
    assert parse_git(text, plain) == found


# --- the cube --------------------------------------------------------------------------------------------------------


def test_a_cube_that_was_moved_has_the_same_digests(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "workspace").mkdir(parents=True)
        (tmp_path / name / "mlcube.yaml").write_text("name: c\n")
        (tmp_path / name / "train.py").write_text("print()\n")
        (tmp_path / name / "workspace/data").write_text(name)
        (tmp_path / name / "image.sif").write_text(name)
        (tmp_path / name / "__pycache__").mkdir()
        (tmp_path / name / f"__pycache__/{name}.pyc").write_text("")
    definitions = [definition_data([str(tmp_path / name / "mlcube.yaml")], str(tmp_path / name)) for name in ("here", "there")]
    digest = f"sha256:{hashlib.sha256(b'name: c' + bytes([10])).hexdigest()}"
    assert definitions[0] == definitions[1] and definitions[0]["files"] == [{"path": "mlcube.yaml", "sha256": digest}]
    codes = [code_data(str(tmp_path / name), str(tmp_path / name / "workspace"), "auto") for name in ("here", "there")]
    assert codes[0]["sha256"] == codes[1]["sha256"] and codes[0]["files"] == 2
    assert (tmp_path / "here/workspace/.mlcube/manifests" / str(codes[0]["manifest"])).is_file()
    (tmp_path / "there/train.py").write_text("print(1)\n")
    assert code_data(str(tmp_path / "there"), str(tmp_path / "there/workspace"), "auto")["sha256"] != codes[0]["sha256"]


def test_a_definition_file_that_is_gone_has_no_digest(tmp_path: Path) -> None:
    assert definition_data([str(tmp_path / "no")], str(tmp_path))["files"] == [{"path": "no", "sha256": None}]


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "version"), [
    ("27.3.1\n", "27.3.1"), ("apptainer version 1.4.5-2.el9\n", "1.4.5-2.el9"), ("<nil>\n", ""), ("", ""),
    ("singularity-ce version 4.3.1+dfsg", "4.3.1+dfsg"),
    ("Python 3.13.0rc2\n", "3.13.0rc2"),
    ("GNU bash, version 5.2.37(1)-release", "5.2.37"),
])
def test_versions_are_found_in_what_tools_say(text: str, version: str) -> None:
    assert parse_version(text) == version


def test_engines_that_do_not_answer_are_left_out() -> None:
    answers = {"good": Observation(0, "version 1.2\n"), "bad": Observation(1, "", "cannot connect to 1.2.3.4"),
               "old": Observation(0, "", "Python 2.7.18\n")}
    questions = [(name, Command((name,))) for name in answers]
    assert engine_data(questions, lambda command, _: answers[command.argv[0]]) == [
        {"name": "good", "version": "1.2"}, {"name": "old", "version": "2.7.18"}]


NVIDIA = "0, NVIDIA H100 80GB HBM3, GPU-1, 81559, 550.54.15\n1, NVIDIA H100 80GB HBM3, GPU-2, [N/A], 550.54.15\n"
AMD = '{"card0": {"Unique ID": "0x1", "Card Series": "AMD Instinct MI250X"}, "system": {"Driver version": "6.2.4"}}'


def test_gpus_and_their_driver() -> None:
    assert parse_nvidia(NVIDIA) == {"vendor": "nvidia", "driver": "550.54.15", "devices": [
        {"index": "0", "name": "NVIDIA H100 80GB HBM3", "id": "GPU-1", "memory_mib": 81559},
        {"index": "1", "name": "NVIDIA H100 80GB HBM3", "id": "GPU-2", "memory_mib": None}]}
    assert parse_amd(AMD) == {"vendor": "amd", "driver": "6.2.4", "devices": [
        {"index": "0", "name": "AMD Instinct MI250X", "id": "0x1", "memory_mib": None}]}
    for text in ("", "No devices were found\n", "[]", "{", '{"system": {}}'):
        assert parse_nvidia(text) is None and parse_amd(text) is None


def test_a_machine_without_their_tools_has_no_gpus() -> None:
    def never(command: Command, seconds: float) -> Observation:
        raise AssertionError(command)

    assert gpu_data(lambda name: None, never) is None
    assert gpu_data(lambda name: name, lambda command, _: Observation(9, "", "no driver")) is None
    assert (gpu_data(lambda name: name == "rocm-smi", lambda command, _: Observation(0, AMD)) or {})["vendor"] == "amd"


def test_a_tool_that_hangs_is_ended_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    began, mark = time.monotonic(), tmp_path / "started"

    def is_written() -> bool:
        return mark.exists() and mark.read_text().endswith("\n")

    said = ask(Command(("sh", "-c", f"echo $$ >{mark}; exec sleep 60")), 50, give_up=is_written)
    assert said.exit_code == 124 and time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    whole = ask(Command(("sh", "-c", "echo one; sleep 0.3; cat"), stdin=b"two"), 50, give_up=lambda: False)
    assert (whole.exit_code, whole.stdout) == (0, "one\ntwo")


# --- in the background -----------------------------------------------------------------------------------------------


def test_what_is_learnt_comes_together_and_a_failure_is_left_out() -> None:
    def fail(stop: Callable[[], bool]) -> object:
        raise OSError("no")

    gathering = Gathering([("one", lambda stop: 1), ("two", fail), ("three", lambda stop: None)])
    gathering.start()
    assert gathering.results(lambda: False) == {"one": 1, "three": None}


def test_what_is_learnt_of_a_long_run_is_kept_while_it_goes_on() -> None:
    kept: queue.Queue[object] = queue.Queue()
    gathering = Gathering([("one", lambda stop: 1)], kept.put)
    gathering.start()
    assert kept.get(timeout=30) == {"one": 1} == gathering.results(lambda: False)
    short = Gathering([("one", lambda stop: 1)], kept.put)
    short.start()
    assert short.results(lambda: False) == {"one": 1} and kept.empty()


@pytest.mark.parametrize("patient", [True, False])
def test_nobody_waits_for_what_takes_too_long(patient: bool) -> None:
    def slow(stop: Callable[[], bool]) -> object:
        until = time.monotonic() + 30
        while not stop() and time.monotonic() < until:
            time.sleep(0.01)
        return "stopped"

    gathering = Gathering([("quick", lambda stop: 1), ("slow", slow), ("never", lambda stop: 1)])
    gathering.start()
    began = time.monotonic()
    found = gathering.results(lambda: not patient, 0.2 if patient else float("inf"))
    assert time.monotonic() - began < 5 and found["slow"] == "stopped" and "never" not in found
