"""Looking at this machine: real files, real programs, real permissions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlcube_cli.command import Command
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Facts, FileText, Observation, PathKind, Probe, Tool, TreeDigest
from mlcube_cli.observe import look, machine, path_fact, with_facts
from mlcube_cli.tree_digest import tree_digest

ROOT = Path(__file__).resolve().parents[2]
FACTS = Facts(uid=1, gid=1, home="/home/u", cwd="/", environment={"PATH": "/usr/bin:/bin"})


def answer(question, environment=None):
    return look((question,), environment)[question]


# --- with_facts ------------------------------------------------------------------------------------------------------


def test_questions_are_answered_until_the_function_returns():
    asked = []

    def recorded(questions):
        asked.append(questions)
        return dict.fromkeys(questions, "/bin/x")

    def decide(facts):
        facts.need(Tool("a"), Tool("b"))
        return facts.tool("a"), facts.tool("c")

    value, facts = with_facts(decide, FACTS, recorded)
    assert value == ("/bin/x", "/bin/x")
    assert asked == [(Tool("a"), Tool("b")), (Tool("c"),)]
    assert facts.tool("b") == "/bin/x"


def test_a_known_fact_is_not_looked_up_again():
    facts = FACTS.learn({Tool("a"): "/known"})
    assert with_facts(lambda known: known.tool("a"), facts, lambda questions: pytest.fail("asked"))[0] == "/known"


def test_this_machine_answers_with_the_environment_of_the_facts(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho $A\n")
    (tmp_path / "tool").chmod(0o755)
    facts = Facts(uid=1, gid=1, home="/", cwd="/", environment={"PATH": str(tmp_path), "A": "one"})
    (path, said), _ = with_facts(lambda known: (known.tool("tool"), known.probe(Command(("tool",)))), facts)
    assert (path, said) == (str(tmp_path / "tool"), Observation(0, "one\n", ""))


def test_asking_without_end_is_an_error_and_no_hang():
    numbers = iter(range(10_000))
    with pytest.raises(RuntimeError, match="50 times"):
        with_facts(lambda facts: facts.tool(str(next(numbers))), FACTS)


# --- tools and probes ------------------------------------------------------------------------------------------------


def test_tools_are_found_on_path_as_a_shell_does(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    (first / "tool").write_text("not executable")
    (first / "dir").mkdir()
    for name in ("tool", "dir", "only"):
        (second / name).write_text("#!/bin/sh\n")
        (second / name).chmod(0o755)
    path = {"PATH": f"{first}:{second}"}
    assert answer(Tool("tool"), path) == str(second / "tool")
    assert answer(Tool("dir"), path) == str(second / "dir")
    assert answer(Tool(str(second / "only")), path) == str(second / "only")
    assert [answer(Tool(name), path) for name in ("absent", "", str(first / "tool"), str(first), "a\0b")] == [None] * 5
    monkeypatch.chdir(second)
    assert answer(Tool("only"), {"PATH": ""}) == str(second / "only")
    assert answer(Tool("./only"), {"PATH": "/bin"}) == str(second / "only")
    assert answer(Tool("sh"), {}) in ("/bin/sh", "/usr/bin/sh")


def test_an_absent_program_answers_127():
    assert answer(Probe(Command(("no-such-program",)))).exit_code == 127


def test_looking_without_probes_loads_no_process_machinery():
    script = """
import os, sys
from mlcube_cli.facts import FileText, PathKind, Tool
from mlcube_cli.observe import look, machine
machine(os.environ)
look((Tool("sh"), PathKind("/"), FileText("/etc/passwd")))
print([name for name in ("subprocess", "plumbum", "mlcube_cli.process", "hashlib", "pathlib") if name in sys.modules])
"""
    # -S: else what an editable install puts on the path is loaded too
    done = subprocess.run([sys.executable, "-S", "-c", script], env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
                          capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


# --- paths -----------------------------------------------------------------------------------------------------------


def test_kinds_of_paths(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    odd = os.path.join(str(tmp_path), os.fsdecode(b"\xff\n'"))
    Path(odd).mkdir()
    kinds = {path.name: answer(PathKind(str(path))).kind for path in tmp_path.iterdir()}
    assert kinds == {"file": "file", "link": "file", "dangling": "absent", "loop": "absent", "fifo": "other",
                     os.fsdecode(b"\xff\n'"): "directory"}
    assert path_fact(str(tmp_path / "link")).real == str(tmp_path / "file")
    assert path_fact("/nul\0byte").kind == "absent"
    assert path_fact("/" + "x" * 5000).kind == "absent"


def test_the_nearest_directory_and_whether_something_can_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    seen = {name: path_fact(str(tmp_path / name)) for name in ("new", "a/b/c", "file", "file/x", "dangling", "dangling/x")}
    assert {fact.ancestor for fact in seen.values()} == {str(tmp_path)}
    assert {name: fact.creatable for name, fact in seen.items()} == {
        "new": True, "a/b/c": True, "file": True, "file/x": False, "dangling": False, "dangling/x": False}
    assert path_fact(str(tmp_path)).ancestor == str(tmp_path)
    assert path_fact("/").kind == "directory"


@pytest.mark.parametrize("name", ["closed", "closed/inner", "readonly", "readonly/new"])
def test_permissions(tmp_path, name):
    """Asked in a child without root's rights over files."""
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "readonly").mkdir()
    (tmp_path / "closed").chmod(0o000)
    (tmp_path / "readonly").chmod(0o555)
    script = ("import os, sys; from mlcube_cli.observe import path_fact\n"
              "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
              "fact = path_fact(sys.argv[1]); print(fact.kind, fact.readable, fact.writable, fact.creatable)")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == "root" and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], env={"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    (tmp_path / "closed").chmod(0o755)
    assert done.stdout.strip() == {
        "closed": "directory False False False", "closed/inner": "absent False False False",
        "readonly": "directory True False False", "readonly/new": "absent True False False"}[name], done.stderr


# --- contents --------------------------------------------------------------------------------------------------------


def test_text_of_small_regular_files_only(tmp_path):
    (tmp_path / "small").write_bytes(b"\xff\n")
    (tmp_path / "edge").write_bytes(b"x" * (1 << 20))
    (tmp_path / "big").write_bytes(b"x" * ((1 << 20) + 1))
    os.mkfifo(tmp_path / "fifo")
    assert answer(FileText(str(tmp_path / "small"))) == b"\xff\n"
    assert len(answer(FileText(str(tmp_path / "edge")))) == 1 << 20
    began = time.monotonic()
    for name in ("big", "fifo", "absent", "."):
        assert answer(FileText(str(tmp_path / name))) is None
    assert answer(FileText("/dev/zero")) is None
    assert time.monotonic() - began < 2


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "a").write_text("1")
    (top / "sub" / "b").write_text("2")
    (top / "link").symlink_to("a")
    return top


def test_a_digest_does_not_depend_on_place_order_or_time(tree, tmp_path):
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    (other / "sub" / "b").write_text("2")
    (other / "link").symlink_to("a")
    (other / "a").write_text("1")
    assert answer(TreeDigest((str(tree),))) == answer(TreeDigest((str(other),))) is not None


@pytest.mark.parametrize("change", [
    lambda top: (top / "a").write_text("2"),
    lambda top: (top / "a").rename(top / "c"),
    lambda top: (top / "a").chmod(0o755),
    lambda top: (top / "new").touch(),
    lambda top: (top / "empty").mkdir(),
    lambda top: (top / "sub" / "b").unlink(),
    lambda top: ((top / "link").unlink(), (top / "link").symlink_to("sub")),
    lambda top: ((top / "link").unlink(), (top / "link").write_text("1")),
    lambda top: ((top / "sub" / "b").unlink(), (top / "sub" / "b").mkdir()),
    lambda top: os.mkfifo(top / "fifo"),
])
def test_a_digest_tells_every_change(tree, change):
    before = tree_digest((str(tree),))
    change(tree)
    assert tree_digest((str(tree),)) not in (before, None)


def test_a_digest_leaves_out_what_it_is_told_and_our_own(tree):
    before = tree_digest((str(tree),), (str(tree / "workspace"), f"{tree}/sub/skip"))
    for name in ("workspace/x", ".git/x", "sub/.mlcube/x", "sub/skip"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("x")
    assert tree_digest((str(tree),), (str(tree / "workspace"), f"{tree}/sub/skip")) == before


def test_a_digest_of_several_paths_tells_them_apart(tree):
    a, b = str(tree / "a"), str(tree / "sub" / "b")
    assert len({tree_digest(paths) for paths in ((a,), (b,), (a, b), (b, a), (a, str(tree / "absent")), ())}) == 6


def test_a_digest_is_bounded(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(2001):
        (tmp_path / "many" / str(number)).touch()
    assert tree_digest((str(tmp_path / "many"),)) is None
    (tmp_path / "big").mkdir()
    with open(tmp_path / "big" / "sparse", "wb") as file:
        file.truncate((64 << 20) + 1)
    assert tree_digest((str(tmp_path / "big"),)) is None


# --- the machine -----------------------------------------------------------------------------------------------------


def test_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = machine({"HOME": str(tmp_path), "A": "1"})
    assert (facts.uid, facts.gid, facts.cwd, facts.home) == (os.getuid(), os.getgid(), str(tmp_path), str(tmp_path))
    assert facts.environment == {"HOME": str(tmp_path), "A": "1"}
    assert facts.python == sys.executable
    assert facts.terminal is False


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_home_without_a_usable_home_variable(environment):
    assert os.path.isabs(machine({**environment, "MLCUBE_HOME": "/nonexistent/x"}).home)


def test_a_deleted_current_directory_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(MachineError, match="current directory") as caught:
        machine(os.environ)
    assert "cd" in caught.value.hint
