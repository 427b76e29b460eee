"""What a supervised run sends, and how it is read: whole after any cut, from noisy shells, until nobody listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.command import Command, Step
from mlcube_cli.frames import Frame, Frames
from mlcube_cli.place import HERE
from mlcube_cli.supervision import requests
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.state import parse_end, parse_state, parse_states
from tests.supervised import NONCE, RUN, SHELLS, Supervised, gone, joined, one_task, sh, task, wait_for

STREAM = (b"noise\n" + f"mlcube-answer {NONCE}\n".encode()
          + b"@a 7\nstarted@p 3\n\n\0@@o:run-1 5\nab\ncd@k 0\n@s:run-1 11\nrunning - 1@S 3\nend")
WHOLE = [Frame("a", b"started"), Frame("s:run-1", b"running - 1"), Frame("S", b"end")]


@pytest.fixture(params=SHELLS)
def run(request, tmp_path):
    return Supervised(tmp_path, request.param)


@pytest.fixture
def any_run(tmp_path):
    return Supervised(tmp_path, SHELLS[0])


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_frames_do_not_depend_on_how_the_stream_is_cut(cuts):
    frames, found = Frames(NONCE), []
    at = 0
    for cut in [*sorted(cuts), len(STREAM)]:
        found += frames.feed(STREAM[at:cut])
        at = cut
    assert [one for one in found if one.name in ("a", "s:run-1", "S")] == WHOLE
    assert joined(found, "p") == b"\n\0@" and joined(found, "o:run-1") == b"ab\ncd"
    assert frames.offsets == {"p": 3, "o:run-1": 5} and not frames.broken


def test_frames_of_another_answer_are_noise_and_what_is_no_frame_is_told():
    frames = Frames("other")
    assert frames.feed(STREAM) == [] and not frames.begun
    frames = Frames(NONCE)
    assert frames.feed(f"no newline mlcube-answer {NONCE}\n@a 1\nxbad\n".encode()) == [Frame("a", b"x")] and frames.broken


def test_states_are_parsed_and_so_is_the_end():
    assert parse_state("running - 12.5 -\n") == ("running", None, 12.5, None)
    assert parse_state("") == ("", None, None, None)
    end = parse_end("/d", b"preparation 5 1 2.5 dead box 1234\ncould not do it\n  | hint: no\nhint: do that\nand this")
    assert (end.status, end.exit_code, end.ended, end.alive, end.host) == ("preparation", 5, 2.5, False, "box")
    assert (end.message, end.hint) == ("could not do it\n  | hint: no", "do that\nand this")
    assert parse_end("/d", b"lost 4 - -").message == "its directory is gone"


def test_what_is_said_comes_whole_after_any_cut(run):
    """Cut at any byte and asked again from the offsets: the same bytes."""
    step = Step("get it", sh("printf 12345"))
    plan = one_task(task("printf 'a\\nb\\0c'; printf 'x\\377y' >&2; sleep 0.3; printf last"), step)
    run.run(plan)
    whole = run.follow({})
    names = ("p", "t", f"o:{RUN}", f"e:{RUN}")
    complete = Frames(NONCE).feed(whole)
    wanted = {name: joined(complete, name) for name in names}
    assert wanted == {"p": b"12345", "t": b"get it\n", f"o:{RUN}": b"a\nb\0clast", f"e:{RUN}": b"x\377y"}
    for cut in range(0, len(whole), 7):
        first = Frames(NONCE)
        before = first.feed(whole[:cut])
        after = Frames(NONCE, first.offsets).feed(run.follow(first.offsets))
        assert {name: joined(before, name) + joined(after, name) for name in names} == wanted
        assert after[-1].name == "S"


def test_output_comes_while_the_task_runs_and_its_end_after_all_of_it(run, tmp_path):
    go_on = tmp_path / "go on"
    plan = one_task(task(f"echo first; until [ -e '{go_on}' ]; do sleep 0.02; done; echo second"))
    script = requests.start_and_follow(run.layout, program(plan, run.layout), {}, NONCE)
    command = HERE.command(script)
    with subprocess.Popen(command.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=run.variables) as process:
        assert process.stdin and process.stdout
        process.stdin.write(command.stdin or b"")
        process.stdin.close()
        frames, found = Frames(NONCE), []
        while not joined(found, f"o:{RUN}"):
            found += frames.feed(os.read(process.stdout.fileno(), 65536))
        assert joined(found, f"o:{RUN}") == b"first\n"
        go_on.touch()
        found += frames.feed(process.stdout.read())
    assert joined(found, f"o:{RUN}") == b"first\nsecond\n"
    assert [one.name for one in found][-1] == "S" and found[0] == Frame("a", b"started")
    ended = next(number for number, one in enumerate(found) if one.data.startswith(b"succeeded"))
    assert all(one.name != f"o:{RUN}" for one in found[ended:])


def test_fifty_megabytes_of_every_byte_come_as_they_are(any_run):
    data = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 204800)"
    state = any_run.run(one_task(task(Command((sys.executable, "-c", data)))))
    assert any_run.stream(f"o:{RUN}") == bytes(range(256)) * 204800 and state.tasks[0].stdout_size == 52428800


def test_what_there_is_now(any_run, tmp_path):
    any_run.start(one_task(task(f"echo now; echo >{tmp_path}/ready; sleep 60")))
    wait_for(tmp_path / "ready")
    frames = Frames(NONCE).feed(any_run.follow({}, until_end=False))
    assert joined(frames, f"o:{RUN}") == b"now\n" and frames[-1].name == f"s:{RUN}" and b"running" in frames[-1].data
    any_run.cancel(hard=True)
    any_run.wait()


def test_following_ends_with_whom_it_is_for_and_the_run_does_not(run, tmp_path):
    """As when an ssh connection is cut: the parent of the shell goes, and nothing is printed that could fail."""
    plan = one_task(task(f"echo $$ >{tmp_path}/task; sleep 60"))
    (tmp_path / "script").write_text(requests.start_and_follow(run.layout, program(plan, run.layout), {}, NONCE))
    parent = f"sh -s <'{tmp_path}/script' >'{tmp_path}/out' & echo $! >'{tmp_path}/shell'; wait"
    with subprocess.Popen(["sh", "-c", parent], env=run.variables, start_new_session=True) as process:
        pid, shell = int(wait_for(tmp_path / "task")), int(wait_for(tmp_path / "shell"))
        process.kill()
    assert gone(shell) and run.state().status == "running"
    assert run.cancel() == "sent" and run.wait().status == "cancelled" and gone(pid)


def test_following_tells_when_the_supervisor_was_killed(run, tmp_path):
    run.start(one_task(task(f"echo $$ >{tmp_path}/task; sleep 60")))
    pid = int(wait_for(tmp_path / "task"))
    os.kill(run.owner(), signal.SIGKILL)
    last = Frames(NONCE).feed(run.follow({}))[-1]
    end = parse_end(run.directory, last.data)
    assert (last.name, end.status, end.exit_code, end.message) == ("S", "lost", 4, "whoever supervised it is gone")
    assert run.cancel() == "gone" and gone(pid)


def test_following_what_is_not_there(any_run):
    last = Frames(NONCE).feed(any_run.follow({}))[-1]
    assert parse_end(any_run.directory, last.data).status == "lost"
    assert any_run.state().status == "lost" and any_run.state().message == "its directory is gone"


def test_states_of_several_runs_come_in_one_answer_from_a_noisy_shell(any_run, tmp_path):
    other = Supervised(tmp_path, any_run.shell, name="other it's")
    any_run.run(one_task(task("exit 3")))
    other.run(one_task(task("true")))
    wanted = {one.directory: tuple(one.tasks.items()) for one in (any_run, other)}
    noise = "echo 'Welcome!'; printf '@d 3\\nabc'\n"
    said = any_run.ask(noise + requests.states({**wanted, "/no/such": ()}, NONCE))
    states = parse_states(said.stdout.decode(), NONCE)
    assert [(one.directory, one.status, one.exit_code) for one in states] == [
        (any_run.directory, "failed", 3), (other.directory, "succeeded", 0), ("/no/such", "lost", 4)]
    assert [one.run_id for one in states[0].tasks] == [RUN]


def test_the_plain_form_of_the_script_is_for_people(run):
    plan = one_task(task("echo out; echo err >&2; exit 9"), Step("get it", sh("echo getting")))
    script = requests.start_and_follow(run.layout, program(plan, run.layout), secrets_of(plan, run.layout), "0", plain=True)
    said = run.ask(script)
    assert (said.returncode, said.stdout) == (9, b"out\n")
    assert sorted(said.stderr.split(b"\n")) == sorted((b"get it", b"getting", b"err", b"task 't' failed with exit code 9", b""))


def test_a_script_that_names_no_user_text_is_all_that_is_quoted():
    layout = Layout("/d/it's $(touch /tmp/mlc-injected)", {RUN: "/d/`touch /tmp/mlc-injected`"})
    text = program(one_task(task("true")), layout)
    subprocess.run(["sh", "-n"], input=text.encode(), check=True)
    script = requests.states({layout.directory: tuple(layout.tasks.items())}, NONCE)
    subprocess.run(["sh", "-s"], input=script.encode(), check=True, capture_output=True)
    assert not Path("/tmp/mlc-injected").exists()


def test_starting_and_following_costs_little(any_run):
    """Against the same task by hand; generous, since the machine may be busy (docs tell the figure)."""
    best = 9.0
    for number in range(5):
        any_run.name = f"run-{number}"
        began = time.monotonic()
        any_run.run(one_task(task("true")))
        best = min(best, time.monotonic() - began)
    assert best < 1.0
