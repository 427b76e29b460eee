"""`mlcube sync`: what a run sends and brings home, by hand, as its user sees it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from tests.conftest import CHECKOUT, Outcome, clean_environment
from tests.cubes import write_tree
from tests.integration.far import Far

pytestmark = pytest.mark.ssh


def sync(far: Far, action: str, *words: str, code: int = 0) -> Outcome:
    done = far.run_mlcube("sync", action, str(far.cube), "--platform", "ssh", *words, env=far.environment)
    assert done.exit_code == code, done.stderr
    return done


def told(far: Far, action: str, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(sync(far, action, "--json", *words).stdout)
    jsonschema.validate(document, json.loads((CHECKOUT / "schemas/mlcube.sync.v1.json").read_text()))
    return document


def changes(far: Far, direction: dict[str, Any]) -> dict[str, str]:
    """Path in the cube: what becomes of it."""
    return {item["path"][len(str(far.cube)) + 1:]: item["change"] for item in direction["items"]}


def test_a_push_sends_code_and_inputs_and_a_dry_run_only_says_so(far: Far) -> None:
    write_tree(far.cube, {"build/Dockerfile": "FROM x\n", "workspace/other/x": "x", ".git/HEAD": "x"})
    listed = told(far, "push", "--task", "work", "--dry-run")
    expected = {"mlcube.yaml", "build/", "build/Dockerfile", "workspace/script.sh", "workspace/data/", "workspace/data/one"}
    assert changes(far, listed["push"]) == dict.fromkeys(expected, "new")
    assert (listed["dry_run"], listed["pull"], listed["push"]["files"]) == (True, None, 4)
    assert far.box.text('ls -A "$1"', far.far_home).split() == [".ssh"] or not far.box.exists(f"{far.far_home}/.mlcube")
    done = sync(far, "push", "--task", "work")
    assert done.stdout == "" and "4 files" in done.stderr
    assert {"code/mlcube.yaml", "code/build/Dockerfile", "workspace/script.sh", "workspace/data/one"} <= far.there()
    assert not [name for name in far.there() if "other" in name or ".git" in name]
    again = sync(far, "push", "--task", "work", "--dry-run")
    assert again.stdout == "push: nothing; all is as it should be\n"


def test_a_name_takes_one_line_of_the_list(far: Far) -> None:
    (far.workspace / "data/a\n  new  b").write_text("x")
    assert f"{far.workspace}/data/a\\n  new  b\n" in sync(far, "push", "--task", "work", "--dry-run").stdout


def test_a_push_looks_at_every_file_once(far: Far) -> None:
    sync(far, "push", "--task", "work")
    (far.workspace / "data/new\rname").write_text("x")
    far.box.forget_calls()
    done = sync(far, "push", "--task", "work")
    assert len([call for call in far.box.ssh_calls() if "--server" in " ".join(call)]) == 2  # the code, and the inputs
    assert "1 file, 1 B sent" in done.stderr


def test_a_push_on_a_terminal_shows_its_progress_and_tells_what_was_sent(far: Far) -> None:
    (far.workspace / "data/big").write_bytes(bytes(range(256)) * 12_000)
    code, shown = on_a_terminal(far, "sync", "push", "--task", "work", "-Pssh.sync.bandwidth=1m")
    assert code == 0, shown
    assert shown.endswith(b"\n") and re.search(rb"\r\x1b\[K\S*mlcube:", shown), shown  # the line is gone
    assert re.search(rb"send inputs to \S+: +[\d.,]+[A-Z]? +\d+%", shown), shown
    assert b"4 files, 3.1 MB sent to" in shown and b"<f+++" not in shown, shown


def on_a_terminal(far: Far, *words: str, answer: bytes = b"") -> tuple[int, bytes]:
    """The exit code and all that is shown; a question gets that answer."""
    main, terminal = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", *words, "--mlcube", str(far.cube), "--platform", "ssh"],
                             stdin=terminal, stdout=terminal, stderr=terminal,
                             env={**clean_environment(far.home), **far.environment})
    os.close(terminal)
    shown = b""
    while part := _read(main):
        shown += part
        if answer and shown.endswith(b"[y/N] "):
            os.write(main, answer)
    os.close(main)
    return child.wait(60), shown


def test_nothing_of_a_transfer_is_shown_where_that_is_asked_for_or_nobody_looks(far: Far) -> None:
    (far.workspace / "data/big").write_bytes(os.urandom(2_000_000))
    assert on_a_terminal(far, "--quiet", "sync", "push", "--task", "work", "-Pssh.sync.bandwidth=1m") == (0, b"")
    (far.workspace / "data/big").write_bytes(os.urandom(2_000_000))
    said = sync(far, "push", "--task", "work", "-Pssh.sync.bandwidth=1m").stderr
    assert said.endswith(f"mlcube: 1 file, 2.0 MB sent to {far.user}\n") and "\r" not in said and "%" not in said


def test_much_that_is_sent_for_the_first_time_is_asked_about(far: Far) -> None:
    for place in (far.workspace / "data/much", far.cube / "weights", far.cube / "left-out", far.workspace / "not-sent"):
        with place.open("wb") as file:
            file.truncate(600_000_000)
    (far.cube / ".mlcubeignore").write_text("left-out\n")
    for words in (("sync", "push"), ("run",), ("--quiet", "run")):
        code, shown = on_a_terminal(far, *words, "--task", "work", answer=b"n\n")
        assert code == 6 and b"send 1.2 GB to" in shown and b"nothing was sent" in shown, shown
        assert (b"1.2 GB in 6 files are to be sent" in shown) == ("--quiet" not in words)
    assert not far.box.exists(f"{far.far_home}/.mlcube")
    code, shown = on_a_terminal(far, "sync", "push", "--task", "work", answer=b"\x04")  # the end of the input is a no
    assert code == 6 and not far.box.exists(f"{far.far_home}/.mlcube"), shown
    (far.cube / "weights").unlink()
    code, shown = on_a_terminal(far, "sync", "push", "--task", "work", "--dry-run")
    assert code == 0 and b"[y/N]" not in shown, shown


def _read(terminal: int) -> bytes:
    """What comes next; nothing once the other side is closed."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_a_push_mirrors_deletions_of_code_alone(far: Far) -> None:
    write_tree(far.cube, {"gone.py": "x", "workspace/data/two": "2"})
    sync(far, "push")
    (far.cube / "gone.py").unlink()
    (far.workspace / "data/two").unlink()
    text = sync(far, "status").stdout
    assert "deleted" in text and "gone.py" in text and "data/two" not in text
    sync(far, "push")
    assert "code/gone.py" not in far.there() and "workspace/data/two" in far.there()


def test_what_is_not_here_yet_is_said_and_the_rest_travels(far: Far) -> None:
    done = sync(far, "push", "--task", "again")
    assert "input 'script' is not sent" in done.stderr and "input 'data' is not sent" in done.stderr
    assert "code/mlcube.yaml" in far.there()


def test_after_a_run_nothing_is_left_to_sync(far: Far) -> None:
    far.run()
    assert sync(far, "status", "--task", "work").stdout == (
        "push: nothing; all is as it should be\npull: nothing; all is as it should be\n")


def test_a_pull_brings_outputs_and_keeps_what_was_changed_here(far: Far) -> None:
    write_tree(far.workspace, {"data/two": "second\n"})
    far.run()
    for name in ("one", "two"):
        far.box.write(f"{far.root}/workspace/result/{name}", b"made there later\n", owner=far.user)
    far.box.write(f"{far.root}/workspace/result/three", b"new\n", owner=far.user)
    (far.result / "one").write_text("mine, by hand\n")
    listed = told(far, "pull", "--task", "work", "--dry-run")["pull"]
    assert changes(far, listed) == {f"workspace/result/{name}": how for name, how in
                                    (("one", "changed"), ("two", "changed"), ("three", "new"))}
    assert listed["kept"] == [str(far.result / "one")]
    done = sync(far, "pull", "--task", "work")
    assert (far.result / "one").read_text() == "mine, by hand\n"
    assert [(far.result / name).read_text() for name in ("two", "three")] == ["made there later\n", "new\n"]
    (beside,) = far.workspace.glob("result.from-*")
    assert (beside / "one").read_text() == "made there later\n"
    assert "was changed here, and stays" in done.stderr
    (far.result / "one").unlink()
    sync(far, "pull", "--task", "work")
    assert (far.result / "one").read_text() == "made there later\n"


def test_a_pull_without_a_run_overwrites_nothing_that_differs(far: Far) -> None:
    sync(far, "push")
    far.box.write(f"{far.root}/workspace/result/one", b"there\n", owner=far.user)
    write_tree(far.workspace, {"result/one": "here\n"})
    sync(far, "pull", "--task", "work")
    assert (far.result / "one").read_text() == "here\n"


@pytest.mark.parametrize(("words", "message"), [
    (("sync",), "sync what?"), (("sync", "fetch"), "sync what?"),
    (("sync", "push", "CUBE", "--platform", "local"), "is this machine: nothing travels"),
    (("sync", "push", "CUBE", "--platform", "nothing"), "nothing"),
    (("sync", "push", "CUBE", "--task", "wrok"), "there is no task 'wrok'")])
def test_what_cannot_be_meant_is_refused(far: Far, words: tuple[str, ...], message: str) -> None:
    done = far.run_mlcube(*(str(far.cube) if word == "CUBE" else word for word in words), env=far.environment)
    assert done.exit_code == 2 and message in done.stderr, done.stderr


def test_the_only_other_machine_need_not_be_named(far: Far) -> None:
    done = far.run_mlcube("sync", "push", str(far.cube), env=far.environment)
    assert done.exit_code == 0, done.stderr
    assert "code/mlcube.yaml" in far.there()


def test_an_input_beside_the_workspace_is_part_of_the_code(far: Far) -> None:
    definition = (far.cube / "mlcube.yaml").read_text()
    (far.cube / "mlcube.yaml").write_text(definition.replace("default: data}", "default: ../settings}", 1))
    write_tree(far.cube, {"settings/rate": "0.1", ".mlcubeignore": "settings\n"})
    assert sync(far, "status", "--task", "work").stdout.count("settings/rate") == 1
    far.run()
    assert (far.result / "rate").read_text() == "0.1"


def test_a_link_that_leads_out_is_refused_unless_it_is_left_out(far: Far) -> None:
    (far.workspace / "data/secret").symlink_to("/etc/passwd")
    for done in (far.run(code=3), far.run("--dry-run", code=3), sync(far, "push", "--task", "work", code=3),
                 sync(far, "push", "--task", "work", "--dry-run", code=3)):
        assert "data/secret" in done.stderr and "sync.exclude" in done.stderr and done.stdout == ""
    assert not far.box.exists(f"{far.far_home}/.mlcube")
    (far.cube / ".mlcubeignore").write_text("secret\n")
    far.run()
    assert sorted(path.name for path in far.result.iterdir()) == ["one"]


def test_what_a_broken_fetch_has_brought_is_no_change_of_the_users(far: Far) -> None:
    write_tree(far.workspace, {"result/one": "old\n", "result/two": "old\n"})
    far.script('cp -R "$data/." "$result/"; echo new >"$result/two"\n')
    run = far.run("--detach").stdout.strip()
    assert far.plain("wait", run).exit_code == 0
    source = f"{far.user}:{far.root}/workspace/result/one"
    subprocess.run(["rsync", "--times", f"--rsh={far.box.room}/bin/ssh", source, f"{far.result}/"], check=True)
    assert (far.result / "one").read_text() == "first\n"
    (far.result / "two").write_text("mine\n")
    assert far.plain("fetch", run).exit_code == 0
    assert ((far.result / "one").read_text(), (far.result / "two").read_text()) == ("first\n", "mine\n")
    (beside,) = far.workspace.glob("result.from-*")
    assert {path.name: path.read_text() for path in beside.iterdir()} == {"two": "new\n"}


def test_what_was_changed_here_before_a_run_that_fails_is_not_replaced_by_what_is_old_there(far: Far) -> None:
    far.run()
    (far.result / "one").write_text("mine, after the first run\n")
    for _ in range(2):
        far.script("exit 9\n")
        far.run(code=9)
        assert (far.result / "one").read_text() == "mine, after the first run\n"
    far.script('echo later >"$result/one"\n')
    far.run()
    assert (far.result / "one").read_text() == "later\n"
