"""The supervisor with real processes, on each shell that is here: what becomes of plans, and what is told of it."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from mlcube_cli.command import Command, Plan, Reason, Sign, Step, TaskPlan, Variable
from mlcube_cli.errors import DefinitionError
from mlcube_cli.locks import file_name, lock
from mlcube_cli.supervision.program import Layout, program
from tests.supervised import OTHER, RUN, SHELLS, Supervised, one_task, sh, task, wait_for

EVERY_BYTE = "".join(chr(number) for number in range(1, 128)) + bytes(range(128, 256)).decode("utf-8", "surrogateescape")


@pytest.fixture(params=SHELLS)
def run(request, tmp_path):
    return Supervised(tmp_path, request.param)


@pytest.fixture
def any_run(tmp_path):
    """On one shell: for what does not depend on it."""
    return Supervised(tmp_path, SHELLS[0])


def test_a_task_that_succeeds(run):
    state = run.run(one_task(task("echo out; echo err >&2")))
    assert (state.status, state.exit_code, state.message, state.hint) == ("succeeded", 0, "", "")
    assert state.tasks[0].status == "succeeded" and state.tasks[0].stdout_size == 4
    assert (run.stream(f"o:{RUN}"), run.stream(f"e:{RUN}")) == (b"out\n", b"err\n")
    assert state.started <= state.tasks[0].started <= state.tasks[0].ended <= state.ended <= time.time() + 1


@pytest.mark.parametrize("code", [1, 126, 127, 143, 255])
def test_a_tasks_exit_code_is_its_own(run, code):
    state = run.run(one_task(task(f"exit {code}")))
    assert (state.status, state.exit_code, state.tasks[0].exit_code) == ("failed", code, code)
    assert state.message == f"task 't' failed with exit code {code}"


@pytest.mark.parametrize("number", [9, 15])
def test_a_task_that_dies_of_a_signal(run, number):
    state = run.run(one_task(task(f"kill -{number} $$; sleep 5")))
    assert (state.status, state.exit_code) == ("failed", 128 + number)


def test_a_task_has_an_empty_stdin_no_terminal_the_signals_of_a_program_and_its_mark(run):
    script = ("import os, signal, sys; print(sys.stdin.read() == '', os.isatty(0), os.getsid(0) == os.getpid(), "
              "signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15) is signal.SIG_DFL, "
              "signal.getsignal(1) is signal.SIG_DFL, os.environ['MLCUBE_RUN_ID'], oct(os.umask(0)))")
    before = os.umask(0o027)
    try:
        run.run(one_task(task(Command((sys.executable, "-c", script)))))
    finally:
        os.umask(before)
    assert run.stream(f"o:{RUN}") == b"True False True True True True " + RUN.encode() + b" 0o27\n"


def test_any_byte_in_words_paths_values_and_stdin(run, tmp_path):
    name = EVERY_BYTE.replace("/", "")[:200]
    place = os.path.join(str(tmp_path), name)
    os.mkdir(os.fsencode(place))
    show = ("import os, sys; words = map(os.fsencode, (sys.argv[1], os.getcwd(), os.environ['VALUE'])); "
            "sys.stdout.buffer.write(b'|'.join((*words, sys.stdin.buffer.read())))")
    variables = (Variable("VALUE", EVERY_BYTE), Variable("SECRET", EVERY_BYTE, True))
    command = Command((sys.executable, "-c", show, EVERY_BYTE), variables, place, os.fsencode(EVERY_BYTE) + b"\0\\end")
    there = Supervised(tmp_path, run.shell, name=name[:100])
    state = there.run(one_task(task(command)))
    whole = os.fsencode(EVERY_BYTE)
    assert there.stream(f"o:{RUN}") == whole + b"|" + os.fsencode(place) + b"|" + whole + b"|" + whole + b"\0\\end"
    assert state.directory == there.directory and state.status == "succeeded"
    assert there.remove() == "removed"


def test_names_of_variables_that_shells_take_for_themselves_and_such_that_no_shell_knows(run):
    names = ("IFS", "RANDOM", "UID", "PWD", "a.b", "BASHOPTS", "mlc_directory", "PATH", "ENV")
    values = {name: os.environ["PATH"] if name == "PATH" else "it's $1" for name in names}
    show = "import os, sys; print({name: os.environ.get(name) for name in sys.argv[1:]})"
    command = Command((sys.executable, "-c", show, *names, "HOME"),
                      (*(Variable(name, value) for name, value in values.items()), Variable("HOME", None)))
    run.run(one_task(task(command)))
    assert eval(run.stream(f"o:{RUN}")) == {**values, "HOME": None}


def test_a_word_with_an_equals_sign_is_a_program_all_the_same(run, tmp_path):
    odd = tmp_path / "a=b"
    odd.write_text("#!/bin/sh\necho ran $1\n")
    odd.chmod(0o755)
    run.run(one_task(task(Command(("a=b", "it"), (Variable("PATH", f"{tmp_path}:/usr/bin:/bin"), Variable("x.y", "1"))))))
    assert run.stream(f"o:{RUN}") == b"ran it\n"


@pytest.mark.parametrize(("argv", "cwd", "message"), [
    (("no-such-program",), None, "cannot start no-such-program: there is no such program on PATH"),
    (("/no/such/program",), None, "cannot start /no/such/program: it does not exist"),
    (("/etc/passwd",), None, "cannot start /etc/passwd: it is not executable for you"),
    (("true",), "/no/such", "cannot start true: its working directory /no/such does not exist"),
])
def test_a_task_that_cannot_be_started_is_the_machines_fault(run, argv, cwd, message):
    state = run.run(one_task(task(Command(argv, cwd=cwd))))
    assert (state.status, state.exit_code, state.message) == ("environment", 4, message)
    assert run.stream(f"e:{RUN}") == b""


def test_a_script_whose_interpreter_is_gone(run, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    state = run.run(one_task(task(Command((str(script),)))))
    assert (state.status, state.exit_code) == ("environment", 4) and "the system refused" in state.message


def test_steps_come_in_order_and_after_in_any_case(run, tmp_path):
    log = tmp_path / "log"
    note = lambda word, code=0: sh(f'echo {word} >>"$1"; echo said {word}; exit {code}', str(log))  # noqa: E731
    step = Step("make it", note("command"), before=(note("b1"), note("b2")), then=(note("t1", 3), note("t2")),
                after=(note("after"),), hint="try again")
    state = run.run(one_task(task("echo never"), step))
    assert log.read_text().split() == ["b1", "b2", "command", "t1", "after"]
    assert (state.status, state.exit_code, state.tasks[0].status) == ("preparation", 5, "queued")
    assert state.message.startswith("could not make it (exit code 3)\n  $ sh -c ")
    assert state.message.endswith("  | said t1") and state.hint.startswith("the lines above")
    assert run.stream("t") == b"make it\n" and run.stream("p") == b"said b1\nsaid b2\nsaid command\nsaid t1\n"


def test_unless_skips_a_step_with_all_that_belongs_to_it(run, tmp_path):
    step = Step("make it", sh("echo made"), unless=sh("exit 0"), after=(sh('echo gone >"$1"', str(tmp_path / "after")),))
    other = Step("make more", sh("echo more"), unless=sh("exit 1"))
    state = run.run(one_task(task("true"), step, other))
    assert state.status == "succeeded" and run.stream("p") == b"more\n" and run.stream("t") == b"make more\n"
    assert not (tmp_path / "after").exists()


def test_otherwise_is_run_when_the_command_fails_and_both_are_told_when_it_fails_too(run):
    good = Step("get it", sh("echo one; exit 1"), otherwise=sh("echo two"))
    bad = Step("get that", Command(("no-such-program", "pull")), otherwise=sh("echo built; exit 9"), hint="ask for it")
    state = run.run(one_task(task("true"), good, bad))
    assert (state.status, state.exit_code, state.hint) == ("preparation", 5, "ask for it")
    lines = state.message.splitlines()
    assert lines[0] == "could not get that (exit code 9)" and lines[1] == "  $ no-such-program pull"
    assert lines[2].startswith("  | cannot start no-such-program") and lines[4] == "  | built"


def test_a_known_reason_is_said_and_secrets_are_not(run):
    reasons = (Reason("No Space It's Left", "the disk is full", "make room"),)
    token = Variable("TOKEN", "sesame*", True)
    step = Step("pull it", sh('echo "no space it\'s LEFT for $TOKEN, $TOKEN"; exit 1', env=(token,)), reasons=reasons)
    state = run.run(one_task(task("true"), step))
    assert state.message.splitlines()[0] == "could not pull it (exit code 1): the disk is full" and state.hint == "make room"
    assert state.message.splitlines()[-1] == "  | no space it's LEFT for ***, ***" and "sesame" not in state.message


def test_of_long_output_the_last_lines_are_told_and_of_a_progress_bar_its_last_state(run):
    count = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); done; "
    step = Step("pull it", sh(count + "printf '10%%\\r55%%\\r\\nlast'; exit 1"))
    state = run.run(one_task(task("true"), step))
    lines = state.message.splitlines()
    assert lines[2] == "  | line 37" and lines[-2:] == ["  | 55%", "  | last"] and len(lines) == 27


@pytest.mark.parametrize(("started", "codes", "code", "status"), [
    ("echo yes", (125, 126, 127), 125, "failed"), ("true", (125, 126, 127), 125, "environment"),
    ("true", (125,), 3, "failed"), ("echo; echo", None, 3, "environment"),
])
def test_an_engines_failure_is_told_from_the_tasks(run, started, codes, code, status):
    step = task(f"exit {code}", sign=Sign(sh(started), codes), hint="look above")
    state = run.run(one_task(step))
    assert (state.status, state.exit_code) == (status, code if status == "failed" else 4)
    if status == "environment":
        assert state.message.startswith(f"the engine could not start task 't' (its exit code {code})\n  $ sh -c")
        assert state.hint == "look above"


def test_why_an_engine_could_not_start_it_is_asked(run):
    step = task("exit 125", sign=Sign(sh("true"), why=sh("echo GPU trouble >&2; exit 1")),
                reasons=(Reason("gpu", "it has no GPU", "buy one"),))
    state = run.run(one_task(step))
    assert state.message == "the engine could not start task 't' (its exit code 125): it has no GPU" and state.hint == "buy one"


def two_tasks(first: str, second: str) -> Plan:
    steps = tuple(Step(f"run task {name}", sh(script), task=name, payload=True)
                  for name, script in (("a", first), ("b", second)))
    return Plan("local", steps, (TaskPlan("a", RUN, ()), TaskPlan("b", OTHER, ())))


def test_tasks_come_one_after_the_other_and_a_failure_ends_it(run, tmp_path):
    run.runs = (RUN, OTHER)
    state = run.run(two_tasks("echo a", "echo b; exit 2"))
    assert [(one.status, one.exit_code) for one in state.tasks] == [("succeeded", 0), ("failed", 2)]
    assert (state.status, state.exit_code) == ("failed", 2) and run.stream(f"o:{OTHER}") == b"b\n"
    run.name = "other"
    state = run.run(two_tasks("exit 4", "echo b"))
    assert [(one.status, one.exit_code) for one in state.tasks] == [("failed", 4), ("queued", None)]
    assert (state.status, state.exit_code) == ("failed", 4)


def test_inputs_are_looked_at_just_before_their_task(run, tmp_path):
    made = tmp_path / "it's made"
    run.runs, run.layout_fields = (RUN, OTHER), {"needs": {OTHER: (str(made),)}}
    state = run.run(two_tasks("true", "echo b"))
    assert (state.status, state.exit_code) == ("invalid", 3) and str(made) in state.message
    assert [one.status for one in state.tasks] == ["succeeded", "invalid"]
    run.name = "other"
    assert run.run(two_tasks(f'echo >"{made}"', "echo b")).status == "succeeded"


def test_what_comes_first_is_done_before_everything(run, tmp_path):
    run.layout_fields = {"first": (sh("echo first"), sh("echo second; exit 1"))}
    state = run.run(one_task(task("true"), Step("prepare", sh("echo prepared"))))
    assert (state.status, run.stream("p")) == ("preparation", b"first\nsecond\n")


def test_secrets_are_in_no_command_line_no_file_and_only_where_they_are_wanted(run, tmp_path):
    script = ("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'open[-]sesame'; ls \"$1\"; "
              "grep -rl 'open[-]sesame' \"$1\"; env | grep -c sesame")
    wanting = Step("log in", sh("echo ${#TOKEN}; exit 0", env=(Variable("TOKEN", "open-sesame", True),)))
    state = run.run(one_task(task(sh(script, run.directory)), wanting))
    said = run.stream(f"o:{RUN}").decode().split()
    assert said[0] == "0" and "secrets" not in said and "open-sesame" not in said and said[-1] == "0"
    assert run.stream("p") == b"11\n" and state.exit_code == 1
    assert b"open-sesame" not in b"".join(path.read_bytes() for path in Path(run.directory).rglob("*") if path.is_file())


def test_a_secret_that_no_shell_can_pass_on_is_refused():
    plan = one_task(task(Command(("true",), (Variable("a.b", "secret", True),))))
    with pytest.raises(DefinitionError, match=r"'a\.b' cannot be passed on"):
        program(plan, Layout("/d", {RUN: f"/d/{RUN}"}))


def test_nothing_of_a_run_is_for_others_to_see(any_run):
    before = os.umask(0)
    try:
        any_run.run(one_task(task("true"), Step("prepare", sh("true", stdin=b"x"))))
    finally:
        os.umask(before)
    for path in (Path(any_run.directory), *Path(any_run.directory).rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_that_a_run_gets_a_directory_is_not_told(any_run):
    any_run.layout_fields = {"first": (sh(f"echo x >{any_run.directory}/made"),)}
    any_run.run(one_task(task(sh(f"cat {any_run.directory}/made")), Step("get it", sh("echo getting"))))
    assert any_run.stream("t") == b"get it\n" and any_run.stream(f"o:{RUN}") == b"x\n"


def test_that_a_run_gets_no_directory_is_told(any_run):
    any_run.layout_fields = {"first": (sh("echo no room; exit 11"),)}
    state = any_run.run(one_task(task("true")))
    assert (state.status, state.exit_code) == ("preparation", 5)
    assert state.message.startswith("could not prepare the directory of this run (exit code 11)")
    assert state.message.endswith("  | no room")


def test_a_lock_is_waited_for_and_given_back(run, tmp_path):
    step = Step("build it", sh("echo built"), lock="image:it's")
    with lock(str(tmp_path / "locks"), "image:it's", 1, print):
        assert run.start(one_task(task("true"), step)) == "started"
        assert wait_for(Path(run.directory, "said")).startswith("waiting for")
        assert run.state().status == "running"
    assert run.wait().status == "succeeded"
    said = Path(run.directory, "said").read_text()
    me = f"process {os.getpid()} on {os.uname().nodename}"
    assert said.splitlines() == [f"waiting for {me}, who is busy with image:it's", "build it"]
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_lock_of_ours_keeps_others_waiting_and_a_dead_owners_is_taken_over(run, tmp_path):
    place = tmp_path / "locks" / file_name("key")
    place.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    (place / f"pid=999999,start=1,host={os.uname().nodename},boot={boot},space=,token=1".replace(
        "space=", "space=" + os.readlink("/proc/self/ns/pid")[5:-1])).touch()
    step = Step("build it", sh('ls "$1"; sleep 0.5', str(place)), lock="key")
    assert run.start(one_task(task("true"), step)) == "started"
    until = time.monotonic() + 60
    while not Path(run.directory, "prepare.log").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    told: list[str] = []
    began = time.monotonic()
    with lock(str(tmp_path / "locks"), "key", 60, told.append):
        assert time.monotonic() - began > 0.1 and f"process {run.owner()} on" in told[0]
    assert run.wait().status == "succeeded" and Path(run.directory, "prepare.log").read_text().count("pid=") == 1


def test_without_a_place_for_locks_it_goes_on(any_run, tmp_path):
    (tmp_path / "file").touch()
    any_run.layout_fields = {"locks": str(tmp_path / "file" / "locks")}
    state = any_run.run(one_task(task("true"), Step("build it", sh("echo built"), lock="key")))
    assert state.status == "succeeded" and b"going on without a lock for 'build it'" in any_run.stream("t")


def test_a_directory_is_used_once(any_run):
    assert any_run.start(one_task(task("sleep 0.3; echo first"))) == "started"
    assert any_run.start(one_task(task("echo second"))) == "exists"
    assert any_run.wait().status == "succeeded"
    assert Path(any_run.directory, RUN, "stdout.log").read_text() == "first\n"


def test_a_directory_that_cannot_be_made_is_told(any_run, tmp_path):
    (tmp_path / "file").touch()
    any_run.name = "file/run"
    answer = any_run.start(one_task(task("true")))
    assert answer is not None and answer.startswith("failed mkdir")


def test_a_step_that_leaves_something_says_how_to_remove_it(any_run):
    state = any_run.run(one_task(task("true"), Step("make it", sh("true"), after=(sh("true"), Command(("false", "it's"))))))
    assert state.status == "succeeded"
    assert b"something is left of 'make it'; to remove it: false 'it'" in any_run.stream("t")
