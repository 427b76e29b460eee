"""How supervised runs end otherwise than by themselves: time limits, requests, signals, a supervisor that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlcube_cli.command import Plan, Step, Stop, TaskPlan
from mlcube_cli.locks import lock
from mlcube_cli.place import Place
from mlcube_cli.supervision import requests
from mlcube_cli.supervision.program import program
from tests.supervised import OTHER, RUN, SHELLS, Supervised, gone, is_alive, one_task, sh, task, wait_for

IGNORING = "trap '' TERM; echo $$ >\"$0\"; while :; do sleep 0.1; done"


@pytest.fixture(params=SHELLS)
def run(request, tmp_path):
    return Supervised(tmp_path, request.param)


@pytest.fixture
def any_run(tmp_path):
    return Supervised(tmp_path, SHELLS[0])


@pytest.fixture
def pid_file(tmp_path):
    return tmp_path / "pid"


def started(run: Supervised, plan: Plan, *files: Path) -> list[int]:
    """Start it; the process ids that the task has written."""
    assert run.start(plan) == "started"
    return [int(wait_for(file)) for file in files]


def script(text: str, file: Path) -> Step:
    return task(sh(f"set -- {file}; {text}"))


def test_the_time_limit_counts_the_payload_only(run, pid_file):
    slow = Step("prepare", sh("sleep 1.2"))
    began = time.monotonic()
    state = run.run(one_task(script("echo $$ >$1; sleep 30", pid_file), slow, timeout=0.5))
    assert (state.status, state.exit_code, state.tasks[0].status) == ("timed_out", 124, "timed_out")
    assert state.message == "task 't' was ended: its time was up" and 1.6 < time.monotonic() - began < 25
    assert gone(int(pid_file.read_text()))


def test_a_task_has_its_grace_period(run, tmp_path):
    saving = task("trap 'sleep 0.4; echo saved; exit 0' TERM; echo began; sleep 30 & wait")
    state = run.run(one_task(saving, timeout=0.5, grace=5.0))
    assert (state.status, state.exit_code) == ("timed_out", 124)
    assert run.stream(f"o:{RUN}") == b"began\nsaved\n"


def test_a_task_that_ignores_term_is_killed_after_the_grace_period(run, pid_file):
    began = time.monotonic()
    state = run.run(one_task(task(sh(IGNORING.replace("$0", "$1"), str(pid_file))), timeout=0.3, grace=0.7))
    assert state.status == "timed_out" and 0.9 < time.monotonic() - began < 25 and gone(int(pid_file.read_text()))


def test_cancel_ends_the_whole_tree_also_what_left_the_session_and_ignores_term(run, tmp_path):
    files = [tmp_path / name for name in ("a", "b", "c")]
    tree = (f"echo $$ >{files[0]}; (trap '' TERM; sh -c 'echo $$ >{files[1]}; exec sleep 60') & "
            f"setsid sh -c \"trap '' TERM; echo \\$\\$ >{files[2]}; while :; do sleep 0.1; done\" & wait")
    pids = started(run, one_task(task(tree), grace=0.5), *files)
    assert all(is_alive(pid) for pid in pids)
    assert run.cancel() == "sent"
    state = run.wait()
    assert (state.status, state.exit_code, state.message) == ("cancelled", 143, "task 't' was cancelled")
    assert all(gone(pid) for pid in pids)


def test_cancel_by_interrupt_says_130(run, pid_file):
    started(run, one_task(script("echo $$ >$1; sleep 60", pid_file)), pid_file)
    assert run.cancel(signal=signal.SIGINT) == "sent"
    assert (run.wait().status, run.state().exit_code) == ("cancelled", 130)
    assert run.cancel() == "ended"


@pytest.mark.parametrize("way", ["twice", "hard", "term"])
def test_a_second_request_ends_it_at_once(run, pid_file, way):
    pids = started(run, one_task(task(sh(IGNORING.replace("$0", "$1"), str(pid_file))), grace=60.0), pid_file)
    began = time.monotonic()
    if way == "hard":
        assert run.cancel(hard=True) == "sent"
    elif way == "twice":
        assert run.cancel() == "sent"
        assert run.state().status == "running"
        assert run.cancel() == "sent"
    else:
        os.kill(run.owner(), signal.SIGTERM)
        time.sleep(1)
        assert run.state().status == "running"
        os.kill(run.owner(), signal.SIGTERM)
    assert run.wait().status == "cancelled" and time.monotonic() - began < 50 and gone(pids[0])


def test_a_task_that_was_ended_is_cancelled_whatever_its_exit_code(run, pid_file):
    started(run, one_task(script("trap 'exit 0' TERM; echo $$ >$1; sleep 60 & wait", pid_file)), pid_file)
    assert run.cancel() == "sent"
    assert (run.wait().status, run.state().exit_code) == ("cancelled", 143)


def test_after_a_cancelled_task_no_other_is_started(run, pid_file):
    run.runs = (RUN, OTHER)
    waiting = sh(f"trap 'exit 0' TERM; echo $$ >{pid_file}; sleep 60 & wait")
    steps = tuple(Step(f"run task {name}", waiting, task=name, payload=True) for name in ("a", "b"))
    started(run, Plan("local", steps, (TaskPlan("a", RUN, ()), TaskPlan("b", OTHER, ()))), pid_file)
    run.cancel()
    state = run.wait()
    assert state.status == "cancelled" and [one.status for one in state.tasks] == ["cancelled", "queued"]


def test_hang_up_and_interrupt_do_nothing_to_it(run, pid_file):
    started(run, one_task(script("echo $$ >$1; sleep 1; echo done", pid_file)), pid_file)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(run.owner(), number)
    assert run.wait().status == "succeeded"


def test_cancel_during_preparation(run, pid_file):
    step = Step("build it", sh("echo $$ >\"$1\"; sleep 60", str(pid_file)), after=(sh("echo tidied >\"$1\"", str(pid_file)),))
    pids = started(run, one_task(task("true"), step), pid_file)
    run.cancel()
    state = run.wait()
    assert (state.status, state.exit_code, state.message) == ("cancelled", 143, "cancelled: build it")
    assert gone(pids[0]) and pid_file.read_text() == "tidied\n" and state.tasks[0].status == "queued"


def test_cancel_while_waiting_for_a_lock(run, tmp_path):
    with lock(str(tmp_path / "locks"), "key", 1, print):
        assert run.start(one_task(task("true"), Step("build it", sh("true"), lock="key"))) == "started"
        wait_for(Path(run.directory, "said"))  # for whom it waits
        run.cancel()
        assert run.wait().status == "cancelled"
        assert len(list((tmp_path / "locks").rglob("pid=*"))) == 1


def test_what_a_task_leaves_in_the_background_does_not_outlive_it(run, tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    left = (f"sh -c 'echo $$ >{files[0]}; exec sleep 60' & setsid sh -c \"trap '' TERM; echo \\$\\$ >{files[1]}; "
            f"while :; do sleep 0.1; done\" & until [ -s {files[0]} ] && [ -s {files[1]} ]; do sleep 0.05; done; exit 3")
    state = run.run(one_task(task(left)))
    assert (state.status, state.exit_code) == ("failed", 3)
    assert all(gone(int(file.read_text())) for file in files)


def test_one_that_passes_term_on_gets_it_alone(run, tmp_path, pid_file):
    said = tmp_path / "said"
    helper = f"trap 'echo helper >>{said}; exit' TERM; echo ready >{pid_file}; while :; do sleep 0.05; done"
    engine = f"trap 'echo engine >>{said}; kill $helper; exit 1' TERM; sh -c \"{helper}\" & helper=$!; wait"
    run.start(one_task(task(engine, passes_on=True)))
    wait_for(pid_file)
    run.cancel()
    assert run.wait().status == "cancelled"
    assert said.read_text().split() in (["engine", "helper"], ["engine"])


class Engine:
    """An engine whose container is a process that its client knows by a file only: signals to the client do not reach it."""

    def __init__(self, folder: Path) -> None:
        self.container, self.log = folder / "container", folder / "log"
        client = (f"setsid env -u MLCUBE_RUN_ID sh -c 'echo $$ >{self.container}; exec sleep 60' </dev/null >/dev/null 2>&1 & "
                  f"while ! [ -s {self.container} ]; do sleep 0.05; done; p=$(cat {self.container}); "
                  "while kill -0 $p 2>/dev/null; do sleep 0.05; done; exit 137")
        end = f"echo NAME >>{self.log}; [ -s {self.container} ] && kill -9 $(cat {self.container})"
        remove = f"echo rm >>{self.log}; kill -9 $(cat {self.container}) 2>/dev/null; rm -f {self.container}"
        stop = Stop(sh(end.replace("NAME", "stop")), sh(end.replace("NAME", "kill")), sh(remove))
        self.step = task(f"exec 2>/dev/null; {client}", stop=stop)

    def pid(self) -> int:
        return int(wait_for(self.container))


@pytest.mark.parametrize("hard", [False, True])
def test_a_container_is_ended_through_its_engine_and_removed(run, tmp_path, hard):
    engine = Engine(tmp_path)
    run.start(one_task(engine.step, grace=1.0))
    pid = engine.pid()
    run.cancel(hard)
    assert run.wait().status == "cancelled" and gone(pid)
    assert engine.log.read_text().split() == (["kill", "rm"] if hard else ["stop", "rm"])


def test_a_container_is_ended_at_the_time_limit(run, tmp_path):
    engine = Engine(tmp_path)
    state = run.run(one_task(engine.step, timeout=1.0, grace=1.0))
    assert state.status == "timed_out" and engine.log.read_text().split() == ["stop", "rm"] and not engine.container.exists()


def test_a_container_outlives_no_client_that_was_killed(run, tmp_path):
    engine = Engine(tmp_path)
    run.start(one_task(engine.step))
    pid = engine.pid()
    client = int(Path(run.directory, "at").read_text().split()[0])
    os.kill(client, signal.SIGKILL)
    assert (run.wait().exit_code, gone(pid)) == (137, True)


def test_a_supervisor_that_was_killed_is_told_as_lost_and_cancel_ends_what_it_left(run, tmp_path, pid_file):
    after = tmp_path / "after"
    step = task(sh(IGNORING.replace("$0", "$1"), str(pid_file)), after=(sh('echo >"$1"', str(after)),))
    other = tmp_path / "other"
    pids = started(run, one_task(step, Step("prepare", sh("true"))), pid_file)
    os.kill(run.owner(), signal.SIGKILL)
    assert gone(run.owner())
    state = run.state()
    assert (state.status, state.exit_code, state.alive, state.tasks[0].status) == ("lost", 4, False, "lost")
    assert is_alive(pids[0]) and not other.exists()
    assert run.cancel() == "gone" and gone(pids[0]) and after.exists()
    assert run.state().status == "lost" and run.cancel() == "ended" and run.remove() == "removed"


def test_a_container_whose_supervisor_was_killed_is_ended_by_cancel(run, tmp_path):
    engine = Engine(tmp_path)
    run.start(one_task(engine.step))
    pid = engine.pid()
    os.kill(run.owner(), signal.SIGKILL)
    assert gone(run.owner()) and is_alive(pid)
    assert run.cancel() == "gone" and gone(pid) and "rm" in engine.log.read_text()


def test_preparation_whose_supervisor_was_killed_is_ended_by_cancel(any_run, pid_file):
    step = Step("build it", sh("echo $$ >\"$1\"; sleep 60", str(pid_file)))
    pids = started(any_run, one_task(task("true"), step), pid_file)
    os.kill(any_run.owner(), signal.SIGKILL)
    assert gone(any_run.owner())
    assert any_run.cancel() == "gone" and gone(pids[0])


def test_nobody_else_is_ended_when_the_supervisors_id_is_another_process_by_now(any_run, pid_file):
    started(any_run, one_task(script("echo $$ >$1; sleep 60", pid_file)), pid_file)
    pid = any_run.owner()
    os.kill(pid, signal.SIGKILL)
    owner = Path(any_run.directory, "owner")
    owner.write_text(owner.read_text().replace(f"pid={pid}", f"pid={os.getpid()}"))
    at = Path(any_run.directory, "at")
    words = at.read_text().split()
    at.write_text(f"{os.getpid()} {' '.join(words[1:])}\n")
    assert any_run.state().status == "lost"
    assert any_run.cancel() == "gone"
    assert gone(int(pid_file.read_text())) and is_alive(os.getpid())


def test_a_run_on_another_machine_that_shares_the_disk_is_let_alone(any_run, pid_file):
    started(any_run, one_task(script("echo $$ >$1; sleep 60", pid_file)), pid_file)
    owner = Path(any_run.directory, "owner")
    before = owner.read_text()
    owner.write_text(before.replace(f"host={os.uname().nodename}", "host=elsewhere"))
    assert (any_run.state().status, any_run.state().host, any_run.state().alive) == ("running", "elsewhere", True)
    assert any_run.cancel() == "foreign" and any_run.remove() == "foreign"
    owner.write_text(before)
    assert any_run.remove() == "busy"
    assert any_run.cancel(hard=True) == "sent" and any_run.wait().status == "cancelled" and any_run.remove() == "removed"


def test_only_what_bears_our_mark_is_removed(any_run, tmp_path):
    other = Path(any_run.directory)
    other.mkdir()
    (other / "precious").touch()
    assert any_run.remove() == "unmarked" and (other / "precious").exists()
    (other / "mlcube-run").symlink_to("/etc/passwd")
    assert any_run.remove() == "unmarked"
    shutil.rmtree(other)
    assert any_run.remove() == "absent"
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mlcube-run").write_text("mlcube-run\n")
    other.symlink_to("real")
    assert any_run.remove() == "unmarked" and (tmp_path / "real" / "mlcube-run").exists()


def test_removal_enters_directories_that_forbid_it_and_follows_no_link(any_run, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    fill = f'cd "{any_run.directory}"; mkdir -p a/b; touch a/b/c; ln -s "{kept}" link; chmod 0 a/b; chmod 500 a'
    any_run.run(one_task(task(fill)))
    assert any_run.remove() == "removed" and (kept / "file").exists() and not Path(any_run.directory).exists()


def test_without_setsid_everything_is_ended_all_the_same(any_run, tmp_path, pid_file):
    tools = tmp_path / "bin"
    for name in ("cat", "mkdir", "mv", "rm", "rmdir", "date", "id", "sleep", "grep", "sed", "tail", "head", "tr", "wc", "stat",
                 "uname", "readlink", "find", "chmod"):
        (tools / name).symlink_to(str(shutil.which(name)))
    any_run.variables["PATH"] = str(tools)
    tree = f"trap '' TERM; sh -c 'echo $$ >{pid_file}; while :; do sleep 0.1; done' & wait; wait"
    pids = started(any_run, one_task(task(tree), grace=0.5), pid_file)
    any_run.cancel()
    assert any_run.wait().status == "cancelled" and gone(pids[0])


def test_a_full_disk_does_not_keep_the_end_from_being_told(any_run):
    """The task's log may not grow beyond 100 kB: the task fails of that, and the run says so."""
    limit = ("import os, resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)); "
             "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); os.execvp('sh', ['sh', '-s'])")
    place = Place((sys.executable, "-c", limit))
    plan = one_task(task("while echo 0123456789012345678901234567890123456789; do :; done; exit 7"))
    command = place.command(requests.start(any_run.layout, program(plan, any_run.layout), {}, "n"))
    subprocess.run(command.argv, input=command.stdin, env=any_run.variables, check=True, capture_output=True)
    state = any_run.wait()
    assert (state.status, state.exit_code, state.tasks[0].stdout_size) == ("failed", 7, 100000)
