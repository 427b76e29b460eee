"""Runs on a machine behind ssh when something breaks: connections, sshd, disks, keys, tools, clocks, and mlcube itself."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.integration.far import COPY, Far, Started, make_far, until
from tests.integration.gpu_box import Box

pytestmark = pytest.mark.ssh
# Prints a line, lets itself be seen, waits for a file there, and prints the rest.
LONG = 'echo before; : >"$result/begun"; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo after; cp -R "$data/." "$result/"\n'


def begun(far: Far, started: Started) -> None:
    """Until the task there has begun."""
    seen = 'ls "$1"/.mlcube/cubes/*/workspace/result/begun >/dev/null 2>&1; echo $?'
    until(lambda: far.box.text(seen, far.far_home) == "0" or started.process.poll() is not None, 60, "the task")
    assert started.process.poll() is None, started.end().stderr


def let_go(far: Far) -> None:
    far.box.write(f"{far.far_home}/go", b"", owner=far.user)


# --- the connection, while the task runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Box.cut, Box.restart_sshd], ids=["cut", "sshd restarted"])
def test_a_task_survives_a_lost_connection_and_its_log_goes_on(broken_far: Far, fault: Callable[[Box], object]) -> None:
    far = broken_far
    far.script(LONG)
    with far.started("--task", "work") as started:
        begun(far, started)
        fault(far.box)
        time.sleep(0.5)
        let_go(far)
        done = started.end()
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == ["before", "after"]
    assert "lost" in done.stderr and (far.result / "one").exists()
    assert far.record()["status"] == "succeeded"


def test_a_machine_that_cannot_be_reached_again_leaves_the_run_alone_and_says_how_to_come_back(broken_far: Far) -> None:
    far = broken_far
    far.options = ("-Pssh.reconnect=1s", "-Pssh.connect_timeout=2")
    far.script(LONG)
    with far.started("--task", "work") as started:
        begun(far, started)
        far.box.stop_sshd()
        done = started.end()
    assert done.exit_code == 6, done.stderr
    seen, home = (re.search(rf"mlcube ({verb} \S+) ", done.stderr) for verb in ("logs -f", "fetch"))
    assert seen and home, done.stderr
    assert far.box.processes("begun") or far.box.processes("sleep 0.05") or far.box.processes("script.sh")
    let_go(far)
    far.box.start_sshd()
    logs = far.plain(*seen[1].split())
    assert logs.stdout.splitlines() == ["before", "after"]
    waited = far.plain("wait")
    assert waited.exit_code == 0, waited.stderr
    fetched = far.plain(*home[1].split())
    assert fetched.exit_code == 0 and (far.result / "one").read_text() == "first\n", fetched.stderr
    assert far.record()["status"] == "succeeded"


def test_ctrl_c_while_the_machine_is_away_is_no_promise_that_it_ends_there(broken_far: Far) -> None:
    far = broken_far
    far.script(LONG)
    with far.started("--task", "work", "--json") as started:
        begun(far, started)
        far.box.stop_sshd()
        time.sleep(1)
        started.interrupt()
        started.hear(b"cancelling on")
        time.sleep(2)
        started.interrupt()
        done = started.end()
    assert done.exit_code == -signal.SIGINT, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["exit_code"]) == ("running", 130) and "goes on" in result["message"]
    again = re.search(r"mlcube (cancel \S+) ", result["hint"])
    assert again, result
    far.box.start_sshd()
    assert far.plain(*again[1].split()).exit_code == 0
    assert far.plain("wait").exit_code == 143


def test_a_silent_network_is_noticed_and_waited_for(broken_far: Far) -> None:
    far = broken_far
    far.options = ("-Pssh.ssh_options=[ServerAliveInterval=1, ServerAliveCountMax=2]",)
    far.script(LONG)
    with far.started("--task", "work") as started:
        begun(far, started)
        with far.box.silent():
            time.sleep(4)
        let_go(far)
        done = started.end()
    assert done.exit_code == 0 and done.stdout.splitlines() == ["before", "after"], done.stderr


def test_mlcube_killed_while_the_task_runs(broken_far: Far) -> None:
    far = broken_far
    far.script(LONG)
    with far.started("--task", "work") as started:
        begun(far, started)
        os.killpg(started.process.pid, signal.SIGKILL)
        started.end()
    listed = json.loads(far.plain("ps", "--json").stdout)
    assert "running" in json.dumps(listed)
    let_go(far)
    assert far.plain("wait").exit_code == 0
    assert far.plain("fetch").exit_code == 0
    assert (far.result / "one").read_text() == "first\n"
    assert far.record()["status"] == "succeeded"


def test_a_container_survives_a_lost_connection_and_is_gone_at_the_end(broken_far: Far) -> None:
    far = broken_far
    far.box.root("docker-up tiny")
    far.options = ("-Pssh.platform=docker",)
    far.script('echo before; : >"$result/begun"; until [ -e "$result/go" ]; do sleep 0.1; done; echo after\n')
    with far.started("--task", "work") as started:
        begun(far, started)
        far.box.restart_sshd()
        far.box.root('for result in "$1"/.mlcube/cubes/*/workspace/result; do : >"$result/go"; done', far.far_home)
        done = started.end()
    assert done.exit_code == 0 and done.stdout.splitlines() == ["before", "after"], done.stderr
    assert far.box.text("docker ps --all --quiet") == ""


def test_a_closed_terminal_leaves_the_run_alone(broken_far: Far) -> None:
    far = broken_far
    far.script(LONG)
    with far.started("--task", "work") as started:
        begun(far, started)
        os.killpg(started.process.pid, signal.SIGHUP)
        assert started.end().exit_code == -signal.SIGHUP
    let_go(far)
    assert far.plain("wait").exit_code == 0
    assert far.plain("fetch").exit_code == 0 and (far.result / "one").exists()


def test_a_machine_that_died_has_lost_its_run(broken_far: Far) -> None:
    far = broken_far
    far.script(LONG)
    assert far("run", "--task", "work", "--detach").exit_code == 0
    far.box.until('ls "$1"/.mlcube/cubes/*/workspace/result/begun 2>/dev/null', far.far_home)
    far.box.root("pkill -KILL -u ada; :")
    assert far.plain("wait").exit_code == 4
    assert "lost" in far.plain("ps", "--all").stdout


# --- the connection, while files travel ------------------------------------------------------------------------------


def test_a_push_that_was_cut_leaves_no_half_file_and_resumes(broken_far: Far) -> None:
    far = broken_far
    content = os.urandom(6_000_000)
    (far.workspace / "data/big").write_bytes(content)
    far.options = ("-Pssh.sync.bandwidth=2m",)
    with far.started("--task", "work") as started:
        far.box.until('find "$1"/.mlcube -size +500k 2>/dev/null | grep -q .', far.far_home)
        far.box.cut()
        done = started.end()
    assert done.exit_code == 6, done.stderr
    assert not far.box.exists(f"{far.root}/workspace/data/big")
    assert not far.result.exists() or not list(far.result.iterdir())
    waiting = 'find "$1" -path "*partial*" -size +400k'
    assert far.box.text(waiting, far.root), "what has arrived waits for the next try"
    far.options = ()
    far.run()
    assert (far.result / "big").read_bytes() == content
    assert not far.box.text(waiting, far.root)


def test_ctrl_c_while_inputs_are_sent_starts_nothing_and_leaves_no_half_file(broken_far: Far) -> None:
    far = broken_far
    (far.workspace / "data/big").write_bytes(os.urandom(6_000_000))
    far.options = ("-Pssh.sync.bandwidth=1m",)
    with far.started("--task", "work") as started:
        far.box.until('find "$1"/.mlcube -size +300k 2>/dev/null | grep -q .', far.far_home)
        started.interrupt()
        done = started.end()
    assert done.exit_code in (130, -signal.SIGINT), done.stderr
    assert not far.box.exists(f"{far.root}/workspace/data/big") and not far.result.exists()
    assert "Traceback" not in done.stderr
    far.box.until("! pgrep -u ada rsync >/dev/null")


def test_a_pull_that_was_cut_leaves_no_half_file_and_is_fetched_later(broken_far: Far) -> None:
    far = broken_far
    far.script('head -c 10000000 /dev/urandom >"$result/model"\n')
    far.options = ("-Pssh.sync.bandwidth=2m",)
    with far.started("--task", "work") as started:
        far.box.until('pgrep -f "^rsync --server --sender" >/dev/null')
        time.sleep(0.7)
        far.box.cut()
        done = started.end()
    assert done.exit_code == 6, done.stderr
    assert not (far.result / "model").exists()
    assert "fetch" in done.stderr
    fetched = far.plain("fetch")
    assert fetched.exit_code == 0, fetched.stderr
    assert (far.result / "model").read_bytes() == far.box.read(f"{far.root}/workspace/result/model")


def test_a_failed_task_whose_outputs_cannot_come_home_gives_its_own_exit_code(broken_far: Far) -> None:
    far = broken_far
    far.script('head -c 10000000 /dev/urandom >"$result/model"; exit 9\n')
    far.options = ("-Pssh.sync.bandwidth=2m",)
    with far.started("--task", "work") as started:
        far.box.until('pgrep -f "^rsync --server --sender" >/dev/null')
        time.sleep(0.5)
        far.box.cut()
        done = started.end()
    assert done.exit_code == 9, done.stderr
    assert "fetch" in done.stderr


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_there(broken_far: Far) -> None:
    far = broken_far
    small = far.box.small_disk("/small", 8)
    far.options = (f"-Pssh.remote_root={small}/cube", "-Pssh.sync.bandwidth=2m")
    (far.workspace / "data/big").write_bytes(os.urandom(9_000_000))
    told = far("run", "--task", "work")
    assert told.exit_code == 6 and "free" in told.stderr and not far.box.exists(f"{small}/cube"), told.stderr

    (far.workspace / "data/big").write_bytes(os.urandom(6_000_000))
    with far.started("--task", "work") as started:
        far.box.until('find "$1" -size +500k | grep -q .', small)
        far.box.root('cat /dev/zero >"$1/somebody else" || :', small)
        done = started.end()
    assert done.exit_code == 6, done.stderr
    assert "no space" in done.stderr.lower() and "hint:" in done.stderr
    far.box.root('rm "$1/somebody else"', small)

    (far.workspace / "data/big").unlink()
    far.script('head -c 9000000 /dev/zero >"$result/model"\n')
    failed = far("run", "--task", "work")
    assert failed.exit_code == 1 and far.record()["status"] == "failed", failed.stderr


def test_a_disk_that_is_read_only_there(broken_far: Far) -> None:
    far = broken_far
    small = far.box.small_disk("/small", 4)
    far.options = (f"-Pssh.remote_root={small}/cube",)
    far.run()
    far.box.make_read_only(small)
    done = far("run", "--task", "work")
    assert done.exit_code in (4, 5, 6), done.stderr
    assert "ead-only" in done.stderr and "hint:" in done.stderr
    far.box.make_read_only(small, yes=False)
    far.run()


def test_outputs_that_cannot_be_written_here_are_fetched_later(broken_far: Far) -> None:
    far = broken_far
    far.script(LONG)
    far.result.mkdir()
    with far.started("--task", "work") as started:
        begun(far, started)
        far.result.rmdir()
        far.workspace.chmod(0o500)
        let_go(far)
        done = started.end()
    far.workspace.chmod(0o700)
    assert done.exit_code == 6 and "ermission denied" in done.stderr and "mlcube fetch" in done.stderr, done.stderr
    assert far.plain("fetch").exit_code == 0
    assert (far.result / "one").exists()


# --- keys and tools --------------------------------------------------------------------------------------------------


def test_a_changed_host_key_is_never_accepted(broken_far: Far) -> None:
    broken_far.box.change_host_key()
    for words in ((), ("-Pssh.host_key=accept-new",)):
        done = broken_far("run", "--task", "work", *words)
        assert done.exit_code == 4, done.stderr
        assert "host key" in done.stderr and "hint:" in done.stderr
    assert not broken_far.box.exists("/home/ada/.mlcube")


def test_an_unknown_host_is_accepted_only_when_that_is_asked_for(broken_far: Far) -> None:
    (broken_far.box.room / "known_hosts").write_text("")
    done = broken_far("run", "--task", "work")
    assert done.exit_code == 4 and "accept-new" in done.stderr, done.stderr
    broken_far.options = ("-Pssh.host_key=accept-new",)
    broken_far.run()
    broken_far.options = ("-Pssh.host_key=strict",)
    broken_far.run()


def test_a_key_that_is_not_known_there(broken_far: Far) -> None:
    broken_far.box.forget_key()
    done = broken_far("run", "--task", "work")
    assert done.exit_code == 4, done.stderr
    assert "ermission denied" in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr


def test_a_machine_that_does_not_answer(broken_far: Far) -> None:
    broken_far.options = ("-Pssh.connect_timeout=1",)
    with broken_far.box.silent():
        done = broken_far("run", "--task", "work")
    assert done.exit_code == 4 and "hint:" in done.stderr, done.stderr
    broken_far.box.stop_sshd()
    assert broken_far("run", "--task", "work").exit_code == 4


def test_a_machine_without_rsync(gpu_box: Box, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    far = make_far(gpu_box, "bare", run_mlcube, tmp_path)
    done = far("run", "--task", "work")
    assert done.exit_code in (4, 6) and "rsync" in done.stderr and "hint:" in done.stderr, done.stderr
    docker = far("run", "--task", "work", "-Pssh.platform=docker")
    assert docker.exit_code == 4, docker.stderr


def test_a_machine_whose_clock_is_behind(gpu_box: Box, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    """What counts as changed here is judged by what was here before, not by clocks (RULINGS 36)."""
    far = make_far(gpu_box, "skewed", run_mlcube, tmp_path)
    far.script('date +%s.%N >"$result/when"; touch -d "3 hours ago" "$result/when"\n')
    far.run()
    first = (far.result / "when").read_text()
    far.run()
    assert (far.result / "when").read_text() != first
    record = far.record()
    assert record["status"] == "succeeded" and 0 <= record["seconds"] < 60


# --- sizes (the big ones: tests/stress) ------------------------------------------------------------------------------


def test_many_small_files_and_a_big_one(far: Far) -> None:
    for number in range(3000):
        (far.workspace / f"data/{number % 50}").mkdir(exist_ok=True)
        (far.workspace / f"data/{number % 50}/{number}").write_text(str(number))
    (far.workspace / "data/large").write_bytes(os.urandom(64) * 1_000_000)
    far.script(COPY)
    far.run()
    assert sum(1 for path in far.result.rglob("*") if path.is_file()) == 3002
    assert (far.result / "large").read_bytes() == (far.workspace / "data/large").read_bytes()
