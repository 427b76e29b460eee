"""A run behind ssh in the background: seen, followed, ended, fetched and reaped from other terminals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import clean_environment
from tests.cubes import write_tree
from tests.integration.far import Far, until

pytestmark = pytest.mark.ssh


def detach(far: Far, script: str, *words: str) -> str:
    far.script(script)
    done = far.run("--detach", *words)
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout.strip()


def status(far: Far) -> list[object]:
    runs = json.loads(far.plain("ps", "--json").stdout)["runs"]
    return [runs[0]["status"], runs[0]["exit_code"], runs[0]["place"]]


def test_a_detached_run_is_followed_waited_for_and_fetched(far: Far) -> None:
    run = detach(far, 'echo early; while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo made >"$result/file"; echo late; exit 3')
    until(lambda: far.plain("logs", run).stdout == "early\n")
    assert status(far)[:2] == ["running", None] and status(far)[2]
    assert not (far.result / "file").exists()
    far.box.root('touch "$1/go"', far.far_home)
    assert far.plain("wait", run).exit_code == 3
    assert far.plain("logs", "-f", run).stdout == "early\nlate\n"
    done = far.plain("fetch", run)
    assert done.exit_code == 0, done.stderr
    assert (far.result / "file").read_text() == "made\n"
    assert status(far)[:2] == ["failed", 3]
    record = far.record()
    assert (record["status"], record["exit_code"], record["outputs"][0]["kind"]) == ("failed", 3, "directory")
    assert far.there("runs") == set(), "what is ours there is gone once all is here"
    assert far.plain("logs", run).stdout == "early\nlate\n"
    again = far.plain("fetch", run)
    assert again.exit_code == 0, again.stderr


def test_a_way_that_the_environment_and_the_current_directory_name_is_found_again(far: Far) -> None:
    """Later commands are given without the variable, and elsewhere; what is secret is not kept for them."""
    configuration = (far.box.room / "config").read_text("utf-8").replace(f"Host {far.user}\n", "Host by-configuration\n")
    (far.cube.parent / "way").write_text(configuration, "utf-8")
    definition = (far.cube / "mlcube.yaml").read_text().replace(
        f"host: {far.user}", 'host: "${oc.env:WHERE}", ssh_options: [-F, way], env: {PLAIN: shown, TOKEN: "${oc.env:TOKEN}"}')
    (far.cube / "mlcube.yaml").write_text(definition)
    far.script('test "$TOKEN$GIVEN $PLAIN" = "s3""cret-ones3""cret-two shown" && echo well >"$result/file"\n')
    words = ("run", str(far.cube), "--platform=ssh", "--task=work", "--detach", "-Pssh.env.GIVEN=s3cret-two",
             "-Pssh.platform=local")
    done = far.run_mlcube(*words, cwd=far.cube.parent,
                          env={**far.environment, "WHERE": "by-configuration", "TOKEN": "s3cret-one"})
    assert done.exit_code == 0, done.stderr
    far.box.close_connections()
    done = far.plain("wait")
    assert done.exit_code == 0, done.stderr
    done = far.plain("fetch")
    assert done.exit_code == 0, done.stderr
    assert (far.result / "file").read_text() == "well\n"
    kept = [path for place in (far.home, far.cube) for path in place.rglob("*") if path.is_file()]
    assert any(path.parent.name == "runs" and path.suffix == ".json" for path in kept)
    assert [path for path in kept if b"s3cret" in path.read_bytes()] == []


def test_a_run_that_cannot_be_started_there_is_said_not_to_run(far: Far) -> None:
    far.run()
    far.box.root('chmod 500 "$1/runs"', far.root)
    for words in ((), ("--detach",)):
        done = far.run(*words, code=4)
        assert done.stdout == "" and "could not be started" in done.stderr and "Permission denied" in done.stderr
    assert far.record()["status"] == "environment"
    far.box.root('chmod 700 "$1/runs"', far.root)
    assert [run["status"] for run in json.loads(far.plain("ps", "--json").stdout)["runs"]] == ["environment", "succeeded"]


def test_checkpoints_are_fetched_in_the_middle_of_a_run(far: Far) -> None:
    run = detach(far, 'echo one >"$result/checkpoint"; echo up; sleep 300')
    until(lambda: far.plain("logs", run).stdout == "up\n")
    assert far.plain("fetch").exit_code == 0
    assert (far.result / "checkpoint").read_text() == "one\n"
    assert status(far)[:2] == ["running", None]
    assert far.plain("cancel", run).exit_code == 0


def test_cancel_ends_the_whole_tree_there(far: Far) -> None:
    run = detach(far, 'setsid sleep 974 & echo up; sleep 974')
    until(lambda: far.plain("logs", run).stdout == "up\n")
    done = far.plain("cancel", run)
    assert done.exit_code == 0, done.stderr
    assert status(far)[:2] == ["cancelled", 143] and far.plain("wait").exit_code == 143
    assert far.box.text("pgrep -u \"$1\" -f 'sleep 97[4]' || echo none", far.user).strip() == "none"


def test_a_killed_supervisor_there_is_lost_and_reap_ends_what_it_left(far: Far) -> None:
    run = detach(far, 'echo kept >"$result/file"; echo up; sleep 975')
    until(lambda: far.plain("logs", run).stdout == "up\n")
    far.box.root('kill -KILL "$(sed -n s/^pid=//p "$1/owner")"', f"{far.root}/runs/{run}")
    until(lambda: status(far)[:2] == ["lost", 4])
    listed = far.plain("reap", "--dry-run")
    assert f"{far.root}/runs/{run}" in listed.stdout
    done = far.plain("reap", "--yes")
    assert done.exit_code == 0, done.stderr
    assert far.box.text("pgrep -u \"$1\" -f 'sleep 97[5]' || echo none", far.user).strip() == "none"
    assert far.there("runs") == set() and "workspace/result/file" in far.there()
    assert far.plain("logs", run).stdout == "up\n", "its log has come home before it went there"


def test_what_prepares_a_run_is_not_in_the_log_of_its_task(far: Far) -> None:
    write_tree(far.cube, {"build/Dockerfile": "FROM mlcube-test/tiny:latest\nENV A=1\n"})
    far.options = ("-Pssh.platform=docker", f"-Pdocker.image=mlcube-test/built-{far.user}:1", "-Pdocker.build_context=build",
                   "-Pdocker.build_strategy=always")
    run = detach(far, "echo out; echo err >&2")
    assert far.plain("wait").exit_code == 0
    assert "Dockerfile" in far.plain("logs", run).stderr
    assert far.plain("fetch").exit_code == 0
    logs = far.workspace / f".mlcube/runs/{run}-1"
    assert ((logs / "stdout.log").read_text(), (logs / "stderr.log").read_text()) == ("out\n", "err\n")
    far.box.root('docker rmi "$1"', f"mlcube-test/built-{far.user}:1")


def test_a_run_whose_command_is_killed_goes_on_and_is_found_again(far: Far) -> None:
    far.script('echo early; while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo made >"$result/file"; echo late')
    with far.started("--task", "work") as attended:
        assert attended.process.stdout is not None and attended.process.stdout.readline() == b"early\n"
        attended.process.kill()
        attended.process.wait()
    assert status(far)[:2] == ["running", None]
    far.box.root('touch "$1/go"', far.far_home)
    assert far.plain("logs", "-f").stdout == "early\nlate\n"
    assert far.plain("wait").exit_code == 0
    assert far.plain("fetch").exit_code == 0
    assert (far.result / "file").read_text() == "made\n"


def test_a_lost_connection_interrupts_neither_the_run_nor_who_follows_it(far: Far) -> None:
    script = 'for i in 1 2 3; do echo "line $i"; done; while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo end; exit 5'
    run = detach(far, script)
    command = [sys.executable, "-m", "mlcube_cli", "logs", "-f", run]
    child = subprocess.Popen(command, env={**clean_environment(far.home), **far.environment}, cwd=far.cube,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(3)] == [b"line 1\n", b"line 2\n", b"line 3\n"]
    assert far.box.cut(far.user)
    far.box.root('touch "$1/go"', far.far_home)
    stdout, stderr = child.communicate(timeout=60)
    assert (stdout, child.returncode) == (b"end\n", 0), stderr
    assert b"is lost; the run goes on there" in stderr
    assert far.plain("wait", run).exit_code == 5


def test_a_machine_that_is_down_is_said_to_be_and_nothing_is_forgotten(broken_far: Far) -> None:
    far = broken_far
    run = detach(far, "echo up; sleep 300")
    until(lambda: far.plain("logs", run).stdout == "up\n")
    far.box.stop_sshd()
    shown = far.plain("ps")
    assert (shown.exit_code, "running?" in shown.stdout) == (0, True), shown
    for words in (("logs", run), ("wait", run), ("cancel", run), ("fetch", run)):
        done = far.plain(*words)
        assert done.exit_code == 4 and "hint:" in done.stderr, (words, done)
    assert far.plain("reap", "--yes").stdout == ""
    far.box.start_sshd()
    assert far.plain("cancel", run).exit_code == 0
    assert status(far)[:2] == ["cancelled", 143]
