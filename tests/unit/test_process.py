"""Steps as real processes, driven in a Python of their own so that signals, exit codes and memory are the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from mlcube_cli.command import Command, Step, Stop, TaskPlan, Variable
from mlcube_cli.process import Session, ask
from mlcube_cli.streams import Tail, Tee

ROOT = Path(__file__).resolve().parents[2]
RUN = TaskPlan("t", "run-1", ())

DRIVER = r"""
import json, os, re, resource, sys, time
from mlcube_cli.command import Command, Step, Stop, TaskPlan
from mlcube_cli.process import Session, die_by

spec = json.load(open(sys.argv[1]))
def command(words):
    return Command(tuple(words)) if words else None
stop = Stop(*(command(spec["stop"][name]) for name in ("ask", "kill", "remove"))) if spec.get("stop") else None
step = Step("do it", command(spec["argv"]), payload=spec.get("payload", True), unless=command(spec.get("unless")),
            before=(command(spec["first"]),) if "first" in spec else (),
            otherwise=command(spec.get("otherwise")), lock=spec.get("lock"), stop=stop)
limits = TaskPlan("t", spec["run_id"], (), spec.get("grace", 10), spec.get("timeout"), spec.get("interactive", False))
told = []
with Session(spec.get("forward", False), spec.get("locks"), told.append) as session:
    if "inside" in spec:
        open(spec["inside"], "w").close()
    time.sleep(spec.get("before", 0))
    open(spec["ready"], "w").close()
    used = time.process_time()
    began = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    logs = tuple(os.open(name, os.O_CREAT | os.O_APPEND | os.O_WRONLY) for name in spec["logs"]) if "logs" in spec else None
    outcomes = [session.run(step, limits, spec.get("stdout"), logs) for _ in range(spec.get("times", 1))]
outcome = outcomes[0]
usage = resource.getrusage(resource.RUSAGE_SELF)
most = int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1])  # ru_maxrss counts the parent's before exec
json.dump({**vars(outcome), "rss": most, "told": told, "cpu": time.process_time() - used,
           "wakeups": usage.ru_nvcsw - began, "statuses": [one.status for one in outcomes]},
          open(spec["result"], "w"), default=vars)
if session.signal and spec.get("die", True):
    die_by(session.signal)
sys.exit(outcome.exit_code)
"""


class Driven:
    """A driver process: what it was told to do, and how it went."""

    def __init__(self, folder: Path, **spec: object) -> None:
        name = uuid.uuid4().hex
        self.mark = f"MARK_{name}"
        self.ready, self.result = folder / f"{name}.ready", folder / f"{name}.result"
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"run_id": f"id-{name}", "ready": str(self.ready), "result": str(self.result), **spec}))
        self.words = [sys.executable, "-c", DRIVER, str(file)]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), self.mark: "1"}

    def start(self, **options: object) -> Driven:
        self.process = subprocess.Popen(self.words, env=self.environment, stdout=subprocess.PIPE,  # type: ignore[call-overload]
                                        stderr=subprocess.PIPE, start_new_session=True, **options)
        return self

    def send(self, *numbers: int) -> None:
        for number in numbers:
            os.kill(self.process.pid, number)

    def end(self, within: float = 30) -> dict:
        self.stdout, self.stderr = self.process.communicate(timeout=within)
        assert self.result.exists(), self.stderr.decode()
        return json.loads(self.result.read_text())

    def left(self, within: float = 0) -> list[str]:
        """The command lines of all living processes that came from this driver, at the latest after some seconds."""
        until = time.monotonic() + within
        while (found := self._left()) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def _left(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


def drive(folder: Path, **spec: object) -> Driven:
    driven = Driven(folder, **spec).start()
    driven.outcome = driven.end()  # type: ignore[attr-defined]
    return driven


def wait_for(path: Path, within: float = 20) -> None:
    until = time.monotonic() + within
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def run(step: Step, limits: TaskPlan | None = RUN, **options: object):
    with Session(**options) as session:  # type: ignore[arg-type]
        return session.run(step, limits)


# --- streams and words -----------------------------------------------------------------------------------------------


def test_payload_writes_to_our_own_stdout_and_stderr_byte_for_byte(tmp_path):
    driven = drive(tmp_path, argv=shell(r"printf '10%%\r20%%\r\377\376\n'; printf 'e\377' >&2"))
    assert driven.stdout == b"10%\r20%\r\xff\xfe\n"
    assert driven.stderr == b"e\xff"
    assert driven.outcome["tail"] == []


def test_payload_stdout_goes_to_the_descriptor_that_is_asked_for(tmp_path):
    driven = drive(tmp_path, argv=shell("echo result"), stdout=2)
    assert (driven.stdout, driven.stderr) == (b"", b"result\n")


def test_payload_stdin_is_empty_unless_interactive(tmp_path):
    for interactive, seen in ((False, b""), (True, b"typed")):
        driven = Driven(tmp_path, argv=["cat"], interactive=interactive).start(stdin=subprocess.PIPE)
        out, _ = driven.process.communicate(b"typed", timeout=60)
        assert out == seen


# --- logs ------------------------------------------------------------------------------------------------------------


def logs_in(folder: Path) -> list[str]:
    return [str(folder / "stdout.log"), str(folder / "stderr.log")]


def test_what_a_task_prints_goes_to_our_streams_and_to_its_logs_byte_for_byte(tmp_path):
    driven = drive(tmp_path, argv=shell(r"printf '10%%\r\377'; printf 'e\376' >&2; exit 3"), logs=logs_in(tmp_path))
    assert (driven.stdout, driven.stderr, driven.outcome["exit_code"]) == (b"10%\r\xff", b"e\xfe", 3)
    assert [Path(name).read_bytes() for name in logs_in(tmp_path)] == [b"10%\r\xff", b"e\xfe"]


def test_the_log_has_it_before_the_task_ends(tmp_path):
    driven = Driven(tmp_path, argv=shell("echo early; sleep 30"), logs=logs_in(tmp_path)).start()
    until = time.monotonic() + 20
    while not (tmp_path / "stdout.log").exists() or (tmp_path / "stdout.log").read_bytes() != b"early\n":
        assert time.monotonic() < until
        time.sleep(0.01)
    driven.send(signal.SIGTERM)
    assert driven.end()["status"] == "cancelled"


def test_50_mb_of_output_pass_through_us_whole_and_in_little_memory(tmp_path):
    script = "i=0; while [ $i -lt 50 ]; do head -c 1048576 /dev/zero; i=$((i+1)); done"
    driven = drive(tmp_path, argv=shell(script), logs=logs_in(tmp_path))
    assert len(driven.stdout) == 50 << 20 == (tmp_path / "stdout.log").stat().st_size
    assert driven.outcome["rss"] < 60_000


def test_a_task_with_a_log_is_ended_when_nobody_reads_our_stdout_any_more(tmp_path):
    driven = Driven(tmp_path, argv=shell("echo 1; while :; do echo more; sleep 0.01; done"), logs=logs_in(tmp_path)).start()
    driven.process.stdout.readline()
    driven.process.stdout.close()
    driven.process.stdout = None
    outcome = driven.end()
    assert (outcome["status"], outcome["exit_code"], driven.process.returncode) == ("cancelled", 141, -signal.SIGPIPE)
    assert driven.left(5) == []


def test_a_reader_who_dies_of_the_same_ctrl_c_leaves_the_task_its_grace_period(tmp_path):
    script = "trap 'echo saving; sleep 0.5; echo saved >>{}; exit 1' TERM; echo 1; while :; do sleep 0.05; done"
    driven = Driven(tmp_path, argv=shell(script.format(tmp_path / "saved")), logs=logs_in(tmp_path)).start()
    driven.process.stdout.readline()
    driven.send(signal.SIGTERM)
    driven.process.stdout.close()
    driven.process.stdout = None
    assert driven.end()["exit_code"] == 143
    assert (tmp_path / "saved").read_text() == "saved\n"


def test_a_reader_that_does_not_read_keeps_nobody_from_ending_a_task_with_a_log(tmp_path):
    driven = Driven(tmp_path, argv=shell("yes"), logs=logs_in(tmp_path), timeout=1).start()
    driven.process.wait(timeout=30)  # and nobody has read stdout so far
    assert json.loads(driven.result.read_text())["status"] == "timed_out"
    driven.end()


def test_with_a_log_too_nothing_waits_for_who_holds_the_pipes_after_the_task(tmp_path):
    began = time.monotonic()
    driven = drive(tmp_path, argv=shell("sleep 60 & echo done"), logs=logs_in(tmp_path))
    assert (driven.stdout, driven.outcome["status"]) == (b"done\n", "succeeded")
    assert time.monotonic() - began < 20
    assert driven.left(5) == []


def test_a_log_on_a_full_disk_is_said_and_the_task_goes_on(tmp_path):
    driven = drive(tmp_path, argv=shell("echo all"), logs=["/dev/full", str(tmp_path / "stderr.log")])
    assert (driven.stdout, driven.outcome["status"]) == (b"all\n", "succeeded")
    assert driven.outcome["told"] == ["the log of the task ends early: No space left on device"]


def test_a_full_disk_behind_our_stdout_is_said_and_the_log_is_whole(tmp_path):
    driven = Driven(tmp_path, argv=shell("echo all"), logs=logs_in(tmp_path))
    with open("/dev/full", "wb") as full:
        driven.process = subprocess.Popen(driven.words, env=driven.environment, stdout=full, stderr=subprocess.PIPE)
    outcome = driven.end()
    assert outcome["told"] == ["what the task prints cannot be passed on: No space left on device"]
    assert (tmp_path / "stdout.log").read_bytes() == b"all\n"


def test_an_interactive_task_has_our_streams_themselves_and_no_log(tmp_path):
    driven = drive(tmp_path, argv=shell("echo all"), logs=logs_in(tmp_path), interactive=True)
    assert (driven.stdout, (tmp_path / "stdout.log").read_bytes()) == (b"all\n", b"")


# --- streaming -------------------------------------------------------------------------------------------------------


def test_stream_feeds_stdout_as_it_comes_and_keeps_the_last_lines_of_stderr(tmp_path):
    got: list[bytes] = []
    with Session() as session:
        outcome = session.stream(Command(("sh", "-s"), stdin=b"echo one; echo why >&2; exit 6"), got.append)
    assert (b"".join(got), outcome.status, outcome.exit_code, outcome.tail) == (b"one\n", "failed", 6, ("why",))


def test_a_signal_ends_a_stream_and_what_answers_it_goes_on_once_it_is_heeded():
    with Session() as session:
        outcome = session.stream(Command(("sh", "-c", "echo; sleep 60")), lambda data: os.kill(os.getpid(), signal.SIGTERM))
        assert (outcome.status, outcome.exit_code, outcome.seconds < 20) == ("cancelled", 143, True)
        assert session.stream(Command(("true",)), bytes).status == "cancelled"
        session.heed()
        assert session.stream(Command(("true",)), bytes).status == "succeeded"
        assert session.run(Step("x", Command(("sh", "-c", "exit 4")))).exit_code == 4
        os.kill(os.getpid(), signal.SIGINT)
        assert session.run(Step("x", Command(("true",)))).exit_code == 130
        assert session.signal == signal.SIGTERM


def test_a_stream_whose_reader_has_gone_is_ended_as_by_sigpipe():
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Tee(writer)
    with Session() as session:
        outcome = session.stream(Command(("sh", "-c", "echo; sleep 60")), outlet.take, outlets=(outlet,))
        assert (outcome.status, outcome.exit_code, session.signal) == ("cancelled", 141, signal.SIGPIPE)
        session.heed()
        assert session.stream(Command(("echo", "more")), outlet.take, outlets=(outlet,)).status == "succeeded"
    os.close(writer)


def test_a_reader_that_does_not_read_holds_a_stream_up_until_a_signal_comes_and_then_gets_the_rest():
    reader, writer = os.pipe()
    outlet, got = Tee(writer), []

    def take(data: bytes) -> None:
        got.append(data)
        outlet.take(data)

    with Session() as session:
        alarm = threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM))
        alarm.start()
        outcome = session.stream(Command(("sh", "-c", "yes | head -c 5000000; sleep 60")), take, outlets=(outlet,))
        assert (outcome.status, outcome.seconds < 20) == ("cancelled", True)
        held = sum(map(len, got))
        assert held < 5_000_000
        session.heed()
        outlet.hurried = True
        outcome = session.stream(Command(("sh", "-c", "yes | head -c 5000000")), take, outlets=(outlet,))
        assert (outcome.status, sum(map(len, got))) == ("succeeded", held + 5_000_000)
    os.set_blocking(reader, False)
    assert os.read(reader, 4) == b"y\ny\n"
    os.close(reader)
    os.close(writer)


def test_what_the_feed_of_a_stream_raises_ends_its_command(tmp_path):
    def feed(data: bytes) -> None:
        raise BrokenPipeError

    with Session() as session, pytest.raises(BrokenPipeError):
        session.stream(Command(("sh", "-c", f"echo $$ >{tmp_path}/pid; echo; exec sleep 60")), feed)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 127", 127), ("kill -9 $$", 137)])
def test_exit_code_is_the_tasks_own(tmp_path, script, code):
    driven = drive(tmp_path, argv=shell(script))
    assert driven.outcome["exit_code"] == code == driven.process.returncode
    assert driven.outcome["status"] == ("succeeded" if code == 0 else "failed")


def test_stdin_bytes_are_written_also_when_there_are_many_of_them():
    data = bytes(range(256)) * 8000
    outcome = run(Step("count", Command(("sh", "-c", "cksum; sleep 0.1; wc -c </dev/null"), stdin=data)))
    expected = subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout.decode().strip()
    assert outcome.tail == (expected, "0")


def test_a_command_that_does_not_read_its_stdin_is_no_error():
    assert run(Step("ignore", Command(("true",), stdin=b"x" * 1_000_000))).status == "succeeded"


def test_environment_is_ours_with_variables_added_and_removed(monkeypatch):
    monkeypatch.setenv("KEPT", "k")
    monkeypatch.setenv("GONE", "g")
    name = os.fsdecode(b"v\xff\n")
    variables = (Variable("GONE", None), Variable("NEW", name))
    outcome = run(Step("show", Command(("sh", "-c", 'printf "%s,%s," "$KEPT" "${GONE-unset}"; printf %s "$NEW" | od -An -tx1'),
                                       variables)))
    assert outcome.tail == ("k,unset, 76 ff 0a",)


def test_words_reach_the_command_unchanged(tmp_path):
    words = ["", " a b ", "q'\"$x*", "new\nline", os.fsdecode(b"\xff\xfe"), "~", "--x=~/y"]
    record = tmp_path / "words"
    script = 'for word; do printf "%s\\0" "$word"; done > "$0"'
    assert run(Step("record", Command(("sh", "-c", script, str(record), *words)))).status == "succeeded"
    assert record.read_bytes().split(b"\0")[:-1] == [os.fsencode(word) for word in words]


def test_the_program_is_found_on_the_commands_own_path(tmp_path):
    (tmp_path / "my-tool").write_text("#!/bin/sh\necho wrong\n")
    (tmp_path / "tool").write_text("#!/bin/sh\necho found\n")
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    path = (Variable("PATH", f"{tmp_path}:/usr/bin:/bin"),)
    assert run(Step("x", Command(("tool",), path))).tail == ("found",)
    assert run(Step("x", Command(("my_tool",), path))).status == "environment"


def test_a_relative_program_is_relative_to_the_commands_directory(tmp_path):
    (tmp_path / "go.sh").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "go.sh").chmod(0o755)
    assert run(Step("x", Command(("./go.sh",), cwd=str(tmp_path)))).tail == (str(tmp_path),)


def test_captured_step_keeps_the_last_25_lines_of_both_streams():
    outcome = run(Step("x", Command(("sh", "-c", "seq 1 1000; echo oops >&2; printf 'a\\rb\\rc'; exit 4"))))
    assert outcome.exit_code == 4
    assert outcome.tail == (*(str(number) for number in range(978, 1001)), "oops", "c")


def test_tail_is_bounded_whatever_comes():
    tail = Tail()
    for _ in range(1000):
        tail.feed(b"x" * 65536)
    tail.feed(b"\nlast\n")
    assert [len(line) for line in tail.lines()] == [4096, 4]


@pytest.mark.parametrize("forward", [True, False])
def test_captured_output_is_forwarded_to_stderr_only_when_asked(tmp_path, forward):
    driven = drive(tmp_path, argv=shell(r"printf '1\r2\377\n'; echo e >&2"), payload=False, forward=forward)
    assert driven.stdout == b""
    assert driven.stderr == (b"1\r2\xff\ne\n" if forward else b"")


@pytest.mark.slow
def test_a_gigabyte_goes_through_and_costs_no_memory(tmp_path):
    driven = Driven(tmp_path, argv=["head", "-c", "1000000000", "/dev/zero"]).start()
    assert driven.process.stdout is not None
    size = 0
    while data := os.read(driven.process.stdout.fileno(), 1 << 20):
        size += len(data)
    assert size == 1_000_000_000
    assert driven.end()["rss"] < 60_000


def test_captured_output_of_any_length_costs_no_memory(tmp_path):
    driven = drive(tmp_path, argv=["head", "-c", "200000000", "/dev/zero"], payload=False)
    assert driven.outcome["rss"] < 60_000


def test_waiting_costs_next_to_nothing(tmp_path):
    driven = drive(tmp_path, argv=["sleep", "3"])
    assert driven.outcome["cpu"] < 0.6  # plumbum's import is most of it
    assert driven.outcome["wakeups"] < 60


# --- what cannot be started ------------------------------------------------------------------------------------------


def test_what_cannot_be_started_is_said_in_one_sentence(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    nothing = tmp_path / "nothing"
    nothing.write_text("no program")
    nothing.chmod(0o755)
    cases = [
        (Command(("no-such-program",)), 127, "there is no such program on PATH"),
        (Command((str(tmp_path / "absent"),)), 127, "it does not exist"),
        (Command((str(plain),)), 126, "it is not executable"),
        (Command((str(nothing),)), 127, "no '#!' line"),
        (Command(("true",), cwd=str(tmp_path / "gone")), 127, f"{tmp_path / 'gone'} does not exist"),
        (Command(("true", "x" * 3_000_000)), 127, "longer than the system allows"),
        (Command(("true", "a\0b")), 127, "null"),
    ]
    for command, code, reason in cases:
        for payload in (True, False):
            outcome = run(Step("x", command, payload=payload))
            assert (outcome.status, outcome.exit_code) == ("environment", code)
            assert reason in outcome.tail[0], outcome
        said = ask(command)
        assert said.exit_code == code
        assert reason in said.stderr


# --- unless, otherwise, lock -----------------------------------------------------------------------------------------


def test_a_step_is_skipped_when_its_question_succeeds(tmp_path):
    made = tmp_path / "made"
    step = Step("make", Command(("touch", str(made))), unless=Command(("true",)))
    assert run(step).status == "succeeded"
    assert not made.exists()


def test_a_question_that_cannot_be_asked_skips_nothing(tmp_path):
    made = tmp_path / "made"
    assert run(Step("make", Command(("touch", str(made))), unless=Command(("no-such-program",)))).status == "succeeded"
    assert made.exists()


def test_otherwise_is_run_when_the_command_fails_or_is_absent():
    for first in ("false", "no-such-program"):
        assert run(Step("x", Command((first,)), otherwise=Command(("echo", "second")))).tail == ("second",)
    assert run(Step("x", Command(("echo", "first")), otherwise=Command(("echo", "second")))).tail == ("first",)


def test_a_steps_commands_run_in_order_up_to_the_first_that_fails_and_the_outcome_names_it(tmp_path):
    said = tmp_path / "said"

    def say(word, code=0):
        return Command(("sh", "-c", f"echo {word} >>'{said}'; echo {word}; exit {code}"))

    for failing, words in (("", "before own then"), ("before", "before"), ("own", "before own"), ("then", "before own then")):
        said.unlink(missing_ok=True)
        before, own, then = (say(word, 3 if word == failing else 0) for word in ("before", "own", "then"))
        outcome = run(Step("x", own, payload=True, before=(before,), then=(then,)))
        assert (outcome.exit_code, said.read_text().split()) == (3 if failing else 0, words.split())
        assert outcome.command == {"": then, "before": before, "own": own, "then": then}[failing]


def test_what_comes_after_is_done_whatever_fails_and_says_whether_anything_is_left(tmp_path):
    made = tmp_path / "made"
    with Session() as session:
        assert session.tidy(Step("x", Command(("true",))))
        assert session.tidy(Step("x", Command(("true",)), after=(Command(("false",)), Command(("touch", str(made))))))
        assert not session.tidy(Step("x", Command(("true",)), after=(Command(("true",)), Command(("false",)))))
    assert made.exists()


def test_two_runs_at_once_make_a_thing_once_and_say_for_whom_they_wait(tmp_path):
    made = tmp_path / "made"
    spec = {"argv": shell(f"echo x >> {made}.log; sleep 0.7; touch {made}"), "unless": ["test", "-e", str(made)],
            "lock": "thing", "locks": str(tmp_path / "locks"), "payload": False}
    both = [Driven(tmp_path, **spec).start() for _ in range(2)]
    outcomes = [one.end() for one in both]
    assert [outcome["status"] for outcome in outcomes] == ["succeeded", "succeeded"]
    assert Path(f"{made}.log").read_text() == "x\n"
    told = [sentence for outcome in outcomes for sentence in outcome["told"]]
    assert len(told) == 1
    assert told[0] in [f"waiting for process {one.process.pid} on {os.uname().nodename}, who is busy with thing"
                       for one in both]
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_signal_ends_the_waiting_for_a_lock(tmp_path):
    spec = {"argv": ["sleep", "60"], "lock": "thing", "locks": str(tmp_path / "locks"), "payload": False}
    first = Driven(tmp_path, **spec).start()
    until = time.monotonic() + 10
    while not list(tmp_path.glob("locks/*/*")):
        assert time.monotonic() < until
        time.sleep(0.01)
    second = Driven(tmp_path, **spec).start()
    wait_for(second.ready)
    time.sleep(0.3)
    second.send(signal.SIGTERM)
    assert second.end(5)["status"] == "cancelled"
    assert first.process.poll() is None
    first.send(signal.SIGTERM)
    assert first.end()["status"] == "cancelled"
    assert first.left() == []
    assert list((tmp_path / "locks").iterdir()) == []


def test_without_a_place_for_locks_the_step_runs_and_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    driven = drive(tmp_path, argv=["true"], lock="thing", locks=str(tmp_path / "file" / "locks"), payload=False)
    assert driven.outcome["status"] == "succeeded"
    assert "without a lock for 'do it'" in driven.outcome["told"][0]


# --- signals ---------------------------------------------------------------------------------------------------------

STUBBORN = "trap '' TERM INT HUP; echo up > {up}; while :; do sleep 0.1; done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_task_and_we_die_by_it(tmp_path, number):
    up = tmp_path / "up"
    driven = Driven(tmp_path, argv=shell(f"echo up > {up}; sleep 60 & sleep 60")).start()
    wait_for(up)
    began = time.monotonic()
    driven.send(number)
    outcome = driven.end()
    assert (outcome["status"], outcome["exit_code"], outcome["signal"]) == ("cancelled", 128 + number, number)
    assert driven.process.returncode == -number
    assert driven.left() == []
    assert time.monotonic() - began < 3


def test_the_task_gets_term_and_time_to_clean_up(tmp_path):
    up, clean = tmp_path / "up", tmp_path / "clean"
    driven = Driven(tmp_path, argv=shell(
        f"trap 'sleep 0.5; echo clean > {clean}; exit 0' TERM; echo > {up}; while :; do sleep 0.05; done")).start()
    wait_for(up)
    driven.send(signal.SIGINT)
    assert driven.end()["status"] == "cancelled"
    assert clean.exists()


def test_who_ignores_term_is_killed_after_the_grace_period(tmp_path):
    up = tmp_path / "up"
    driven = Driven(tmp_path, argv=shell(STUBBORN.format(up=up)), grace=1).start()
    wait_for(up)
    began = time.monotonic()
    driven.send(signal.SIGTERM)
    assert driven.end()["exit_code"] == 143
    assert 0.9 < time.monotonic() - began < 4
    assert driven.left() == []


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills_at_once(tmp_path, second):
    up = tmp_path / "up"
    driven = Driven(tmp_path, argv=shell(STUBBORN.format(up=up)), grace=60).start()
    wait_for(up)
    driven.send(signal.SIGINT)
    time.sleep(0.5)
    assert driven.process.poll() is None
    began = time.monotonic()
    driven.send(second)
    outcome = driven.end(10)
    assert (outcome["status"], outcome["signal"]) == ("cancelled", signal.SIGINT)
    assert time.monotonic() - began < 3
    assert driven.left() == []


@pytest.mark.parametrize("script", [
    "setsid sh -c \"{stubborn}\" & wait",  # leaves session and process group
    "(setsid sh -c \"{stubborn}\" &) ; sleep 60",  # and its parent
    "bash -mc \"({stubborn}) & wait\"",  # job control: a process group of its own
    "sh -c \"{stubborn}\" & sh -c 'exit 0'; wait",
])
def test_nobody_escapes_by_leaving_the_process_group(tmp_path, script):
    up = tmp_path / "up"
    driven = Driven(tmp_path, argv=shell(script.format(stubborn=STUBBORN.format(up=up))), grace=0.5).start()
    wait_for(up)
    driven.send(signal.SIGTERM)
    assert driven.end()["status"] == "cancelled"
    assert driven.left() == []


def test_one_who_left_the_group_gets_term_too(tmp_path):
    up, clean = tmp_path / "up", tmp_path / "clean"
    inner = f"trap 'echo > {clean}; exit' TERM; echo > {up}; while :; do sleep 0.05; done"
    driven = Driven(tmp_path, argv=shell(f'(setsid sh -c "{inner}" &) ; sleep 60')).start()
    wait_for(up)
    driven.send(signal.SIGTERM)
    assert driven.end()["status"] == "cancelled"
    assert clean.exists()
    assert driven.left() == []


@pytest.mark.parametrize("script", ["sleep 60 & exit 3", "setsid sleep 60 & exit 3", "trap '' TERM; sleep 60 & exit 3"])
def test_background_children_do_not_outlive_a_task_that_ends_itself(tmp_path, script):
    driven = drive(tmp_path, argv=shell(script))
    assert driven.outcome["exit_code"] == 3
    assert driven.outcome["seconds"] < 3
    assert driven.left() == []


def test_a_run_inside_a_run_is_ended_with_it(tmp_path):
    up = tmp_path / "up"
    inner = Driven(tmp_path, argv=shell(STUBBORN.format(up=up)), grace=60)
    outer = Driven(tmp_path, argv=inner.words, grace=1).start()
    wait_for(up)
    outer.send(signal.SIGTERM)
    assert outer.end()["status"] == "cancelled"
    assert outer.left() == []


def test_a_signal_that_came_before_the_start_starts_nothing(tmp_path):
    made, inside = tmp_path / "made", tmp_path / "inside"
    driven = Driven(tmp_path, argv=["touch", str(made)], inside=str(inside), before=0.5, times=2).start()
    wait_for(inside)
    driven.send(signal.SIGTERM)
    assert driven.end()["statuses"] == ["cancelled", "cancelled"]
    assert not made.exists()
    assert driven.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.03, 0.06, 0.1, 0.15])
def test_no_signal_is_lost_around_the_start(tmp_path, delay):
    driven = Driven(tmp_path, argv=["sleep", "30"]).start()
    wait_for(driven.ready)
    time.sleep(delay)
    driven.send(signal.SIGINT)
    assert driven.end(10)["status"] == "cancelled"
    assert driven.left() == []


@pytest.mark.parametrize("part", ["argv", "unless", "otherwise", "first"])
def test_a_signal_during_preparation_ends_it(tmp_path, part):
    up = tmp_path / "up"
    spec = {"argv": ["false"], part: shell(STUBBORN.format(up=up))}
    driven = Driven(tmp_path, payload=False, grace=0.5, **spec).start()
    wait_for(up)
    driven.send(signal.SIGINT)
    outcome = driven.end(10)
    assert (outcome["status"], outcome["exit_code"]) == ("cancelled", 130)
    assert driven.left() == []


def test_a_signal_inherited_as_ignored_stays_ignored_for_us_and_the_task(tmp_path):
    up = tmp_path / "up"
    driven = Driven(tmp_path, argv=shell(f"cat /proc/self/status; echo > {up}; sleep 0.6; echo done"))
    driven.words = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *driven.words]
    driven.start()
    wait_for(up)
    driven.send(signal.SIGHUP)
    assert driven.end()["status"] == "succeeded"
    assert driven.stdout.endswith(b"done\n")
    assert _mask(driven.stdout, "SigIgn") == {signal.SIGHUP}


def test_the_task_starts_with_default_actions_and_nothing_blocked(tmp_path):
    driven = drive(tmp_path, argv=["cat", "/proc/self/status"])
    assert _mask(driven.stdout, "SigIgn") == set()  # SIGPIPE too, which Python itself ignores
    assert _mask(driven.stdout, "SigBlk") == set()
    assert _mask(driven.stdout, "SigCgt") == set()


def _mask(status: bytes, name: str) -> set[int]:
    line = next(line for line in status.decode().splitlines() if line.startswith(name))
    bits = int(line.split()[1], 16)
    return {number for number in range(1, 32) if bits >> (number - 1) & 1}


def test_exit_codes_survive_an_inherited_ignored_sigchld(tmp_path):
    driven = Driven(tmp_path, argv=shell("exit 5"))
    driven.words = [sys.executable, "-c", "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
                                          "os.execv(sys.argv[1], sys.argv[1:])", *driven.words]
    assert driven.start().end()["exit_code"] == 5


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    run(Step("x", Command(("true",))))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_no_descriptors_and_no_zombies_are_left():
    run(Step("x", Command(("true",))))
    before, children = len(list(Path("/proc/self/fd").iterdir())), children_of_ours()
    for script, payload in (("sleep 60 & exit 0", True), ("sleep 1 & exit 0", False)):
        run(Step("x", Command(("sh", "-c", script), stdin=b"x"), payload=payload))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert children_of_ours() == children, "those of other tests, which share this process, are there as before"


def children_of_ours() -> list[str]:
    """The ids of all children of this process, zombies among them."""
    found = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False)
    return sorted(line for line in found.stdout.splitlines() if not line.endswith(" ps"))


# --- the terminal ----------------------------------------------------------------------------------------------------


def _on_a_terminal(driven: Driven, keys: list[tuple[Path, bytes]]) -> bytes:
    """Run the driver with a terminal of its own; type each key once its file is there. Returns what was shown."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(driven.words[0], driven.words, driven.environment)
    for file, key in keys:
        wait_for(file)
        os.write(terminal, key)
    shown = b""
    try:
        while data := os.read(terminal, 4096):
            shown += data
    except OSError:
        pass
    driven.status = os.waitpid(pid, 0)[1]  # type: ignore[attr-defined]
    return shown


def test_an_interactive_task_has_the_terminal_and_ctrl_c_is_its_own(tmp_path):
    up, again = tmp_path / "up", tmp_path / "again"
    script = f"trap 'echo caught; echo > {again}' INT; echo > {up}; read line; read line; test -t 0 && echo got $line"
    driven = Driven(tmp_path, argv=shell(script), interactive=True)
    shown = _on_a_terminal(driven, [(up, b"\x03"), (again, b"hello\n"), (again, b"hello\n")])
    assert b"caught" in shown
    assert b"got hello" in shown
    assert json.loads(driven.result.read_text())["status"] == "succeeded"


def test_ctrl_c_on_a_terminal_ends_a_task_without_it(tmp_path):
    up = tmp_path / "up"
    driven = Driven(tmp_path, argv=shell(f"echo > {up}; sleep 60"))
    _on_a_terminal(driven, [(up, b"\x03")])
    assert json.loads(driven.result.read_text())["status"] == "cancelled"
    assert os.WTERMSIG(driven.status) == signal.SIGINT
    assert driven.left() == []


# --- time limits -----------------------------------------------------------------------------------------------------


def test_a_time_limit_ends_the_task_with_124(tmp_path):
    driven = drive(tmp_path, argv=shell("trap '' TERM; sleep 60 & while :; do sleep 0.1; done"), timeout=0.5, grace=0.5)
    assert (driven.outcome["status"], driven.outcome["exit_code"]) == ("timed_out", 124)
    assert driven.process.returncode == 124
    assert driven.outcome["seconds"] < 4
    assert driven.left() == []


def test_a_time_limit_does_not_count_for_preparation(tmp_path):
    driven = drive(tmp_path, argv=["sleep", "0.6"], timeout=0.1, payload=False)
    assert driven.outcome["status"] == "succeeded"


def test_a_task_that_ends_within_its_limit_has_succeeded(tmp_path):
    assert drive(tmp_path, argv=["true"], timeout=20).outcome["status"] == "succeeded"


# --- make ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_make_j_stops_and_nothing_is_left(tmp_path, number):
    drivers = [Driven(tmp_path, argv=shell(f"echo > {tmp_path}/up{index}; sleep 60")) for index in range(2)]
    rules = [f"t{index}:\n\t@PYTHONPATH={ROOT} {one.mark}=1 {one.words[0]} -c \"$$DRIVER\" {one.words[3]}\n"
             for index, one in enumerate(drivers)]
    (tmp_path / "Makefile").write_text("all: t0 t1 after\nafter: t0 t1\n\ttouch after\n" + "".join(rules))
    make = subprocess.Popen(["make", "-j", "2"], cwd=tmp_path, env={**os.environ, "DRIVER": DRIVER},
                            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(tmp_path / "up0")
    wait_for(tmp_path / "up1")
    os.killpg(make.pid, number)  # as a terminal does
    make.communicate(timeout=60)
    assert make.returncode in (2, -number)
    assert not (tmp_path / "after").exists()
    assert [one.left() for one in drivers] == [[], []]


def test_make_sees_the_exit_code(tmp_path):
    driven = Driven(tmp_path, argv=shell("exit 7"))
    (tmp_path / "Makefile").write_text(f"all:\n\tPYTHONPATH={ROOT} {driven.words[0]} -c \"$$DRIVER\" {driven.words[3]}\n")
    done = subprocess.run(["make", "-j"], cwd=tmp_path, env={**os.environ, "DRIVER": DRIVER}, capture_output=True)
    assert done.returncode == 2
    assert b"Error 7" in done.stderr


# --- containers ------------------------------------------------------------------------------------------------------

ENGINE = r"""#!/bin/sh
# An engine in small: `run` is a client that ignores TERM and INT; its container lives in a session of its own.
state=$(dirname "$0")/state; verb=$1; name=$2
echo "$verb" >> "$state/calls"
there() { test -e "$state/$name" && kill -0 "$(cat "$state/$name")" 2>/dev/null; }
case $verb in
run)
    trap '' TERM INT HUP
    sleep "${SLOW_CREATE:-0}"
    setsid sh -c 'echo $$ > "$0"; trap "exit 143" TERM; test -n "$DEAF" && trap "" TERM
        echo > "$0.up"; while :; do sleep 0.1; done' "$state/$name" &
    while ! test -e "$state/$name.up"; do sleep 0.02; done
    while there; do sleep 0.05; done
    rm -f "$state/$name"; exit 137 ;;
stop)
    test -n "$BLOCKED" && exec sleep 600
    there || { echo "no such container" >&2; exit 1; }
    kill -TERM "$(cat "$state/$name")"
    n=0; while there && test $n -lt 10; do sleep 0.1; n=$((n+1)); done
    there && kill -KILL "$(cat "$state/$name")"; exit 0 ;;
kill) there && kill -KILL "$(cat "$state/$name")" ;;
rm) there && kill -KILL "$(cat "$state/$name")"; rm -f "$state/$name"
    n=$(grep -c '^rm$' "$state/calls"); test "$n" -ge "${RM_WORKS_AT:-1}" ;;
esac
"""


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "state").mkdir()
    program = tmp_path / "engine"
    program.write_text(ENGINE)
    program.chmod(0o755)

    def start(**spec: object) -> Driven:
        stop = {name: [str(program), verb, "box"] for name, verb in (("ask", "stop"), ("kill", "kill"), ("remove", "rm"))}
        driven = Driven(tmp_path, argv=[str(program), "run", "box"], stop=stop, **{"grace": 1, **spec})
        return driven

    start.up = tmp_path / "state" / "box.up"  # type: ignore[attr-defined]
    start.calls = lambda: (tmp_path / "state" / "calls").read_text().split()  # type: ignore[attr-defined]
    return start


# The fake's container leaves its last `sleep 0.1` when it is killed: hence left(1).


def _with(driven: Driven, **environment: str) -> Driven:
    driven.environment.update(environment)
    return driven.start()


def test_a_container_is_ended_through_its_engine(engine):
    driven = engine().start()
    wait_for(engine.up)
    driven.send(signal.SIGINT)
    outcome = driven.end()
    assert (outcome["status"], outcome["exit_code"]) == ("cancelled", 130)
    assert engine.calls() == ["run", "stop", "rm"]
    assert driven.left(1) == []


def test_a_container_whose_payload_ignores_term_is_killed_by_its_engine(engine):
    driven = _with(engine(), DEAF="1")
    wait_for(engine.up)
    driven.send(signal.SIGTERM)
    assert driven.end()["exit_code"] == 143
    assert driven.left(1) == []


def test_a_time_limit_ends_a_container(engine):
    driven = engine(timeout=0.7).start()
    outcome = driven.end()
    assert (outcome["status"], outcome["exit_code"]) == ("timed_out", 124)
    assert driven.left(1) == []


def test_a_second_signal_kills_the_container_at_once(engine):
    driven = _with(engine(grace=60), BLOCKED="1", DEAF="1")
    wait_for(engine.up)
    driven.send(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    driven.send(signal.SIGINT)
    assert driven.end()["status"] == "cancelled"
    assert time.monotonic() - began < 4
    assert engine.calls() == ["run", "stop", "kill", "rm"]
    assert driven.left(1) == []


@pytest.mark.slow
def test_a_stop_command_that_hangs_is_given_up(engine):
    driven = _with(engine(grace=0.2), BLOCKED="1")
    wait_for(engine.up)
    driven.send(signal.SIGINT)
    assert driven.end(25)["status"] == "cancelled"
    assert driven.left(1) == []


def test_a_container_that_is_still_being_made_is_waited_for_and_ended(engine):
    driven = _with(engine(grace=5), SLOW_CREATE="1")
    wait_for(driven.ready)
    time.sleep(0.4)
    driven.send(signal.SIGTERM)
    assert driven.end()["status"] == "cancelled"
    assert engine.up.exists()
    assert driven.left(1) == []


def test_a_container_that_nobody_saw_is_removed_twice(engine):
    driven = _with(engine(grace=0.3), SLOW_CREATE="30")
    wait_for(driven.ready)
    time.sleep(0.4)
    driven.send(signal.SIGTERM)
    assert driven.end()["status"] == "cancelled"
    assert engine.calls()[-2:] == ["rm", "rm"]
    assert driven.left(1) == []


def test_removing_is_tried_until_it_succeeds(engine):
    driven = _with(engine(), RM_WORKS_AT="3")
    wait_for(engine.up)
    driven.send(signal.SIGTERM)
    assert driven.end()["status"] == "cancelled"
    assert engine.calls() == ["run", "stop", "rm", "rm", "rm"]


def test_a_container_does_not_outlive_its_killed_client(engine):
    driven = engine().start()
    wait_for(engine.up)
    children = Path(f"/proc/{driven.process.pid}/task/{driven.process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    outcome = driven.end()
    assert (outcome["status"], outcome["exit_code"]) == ("failed", 137)
    assert engine.calls()[:2] == ["run", "stop"]
    assert driven.left(1) == []


def test_the_engines_client_is_not_marked(tmp_path):
    """Else daemons that it starts for all containers (podman's pause process) would be ended with this run."""
    stop = Stop(*(Command(("true",)) for _ in range(3)))
    for given, seen in ((None, "run-1"), (stop, "")):
        out = tmp_path / f"out{seen}"
        run(Step("x", Command(("sh", "-c", f'printf %s "$MLCUBE_RUN_ID" > {out}')), payload=True, stop=given))
        assert out.read_text() == seen


# --- ask -------------------------------------------------------------------------------------------------------------


def test_ask_tells_what_a_command_says(tmp_path):
    script = "cat; echo $A >&2; pwd; printf '\\377'; exit 3"
    said = ask(Command(("sh", "-c", script), (Variable("A", "1"),), str(tmp_path), b"in "))
    assert (said.exit_code, said.stdout, said.stderr) == (3, f"in {tmp_path}\n\udcff", "1\n")
    assert ask(Command(("sh", "-c", "kill -TERM $$"))).exit_code == 143
    assert ask(Command(("cat",))).stdout == ""


def test_ask_takes_the_environment_that_it_is_given(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho $A\n")
    (tmp_path / "tool").chmod(0o755)
    assert ask(Command(("tool",)), environment={"PATH": str(tmp_path), "A": "1"}).stdout == "1\n"


def test_ask_gives_up_after_its_time():
    began = time.monotonic()
    said = ask(Command(("sh", "-c", "echo part; sleep 60")), timeout=0.3)
    assert (said.exit_code, said.stdout) == (124, "")
    assert "no answer within 0.3 seconds" in said.stderr
    assert time.monotonic() - began < 3
