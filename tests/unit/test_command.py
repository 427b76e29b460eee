"""Quoting and scripts: what is printed does what would run, for any bytes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube_cli.command import (
    Command,
    Plan,
    Reason,
    Step,
    TaskPlan,
    Variable,
    as_data,
    find_reason,
    in_shell,
    merge,
    quote,
    shell_line,
)
from mlcube_cli.report import plan_data
from mlcube_cli.script import script

WORDS = st.binary(max_size=40).filter(lambda raw: b"\0" not in raw).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def run_sh(text: str, **env: str) -> bytes:
    done = subprocess.run(["sh"], input=text.encode("utf-8", "surrogateescape"), capture_output=True, check=False,
                          env={**os.environ, "PYTHONUTF8": "1", **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


@given(st.lists(WORDS, min_size=1, max_size=4))
def test_quoted_words_reach_a_program_unchanged(words: list[str]) -> None:
    text = "printf '%s\\0' " + " ".join(quote(word) for word in words)
    expected = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    assert run_sh(text) == expected


def plan_of(*steps: Step) -> Plan:
    return Plan("local", steps, (TaskPlan("train", "20260101T000000-abcdef-1", ()),))


def test_a_script_runs_its_steps_with_env_cwd_and_stdin(tmp_path) -> None:
    command = Command(("sh", "-c", 'cat; printf "%s|%s" "$PWD" "$GREETING"'), (Variable("GREETING", "it's a \n day"),),
                      str(tmp_path), b"typed\n")
    assert run_sh(script(plan_of(Step("do it", command, "train")))) == f"typed\n{tmp_path}|it's a \n day".encode()


def test_the_run_id_is_set_once_and_used_everywhere() -> None:
    step = Step("run", Command(("echo", "mlcube-20260101T000000-abcdef-1", "a b")), "train")
    text = script(plan_of(step))
    assert "20260101T000000-abcdef" not in text
    assert run_sh(text, RUN_ID="mine") == b"mlcube-mine-1 a b\n"


def test_a_secret_is_named_but_not_printed() -> None:
    command = Command(("sh", "-c", 'printf %s "$TOKEN"'), (Variable("TOKEN", "hunter2", secret=True),))
    plan = plan_of(Step("use it", command, "train"))
    text = script(plan)
    assert "hunter2" not in text and "hunter2" not in shell_line(command)
    assert as_data(plan.steps[0])["env"] == {"TOKEN": "***"}
    assert run_sh(text, TOKEN="from outside") == b"from outside"


@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
@settings(max_examples=30, deadline=None)
def test_a_script_prints_nul_bytes_to_a_command(parts: list[str], rest: str) -> None:
    text = "".join(f"{part}\0" for part in parts) + rest
    plan = Plan("p", (Step("feed", Command(("cat",), stdin=text.encode("utf-8", "surrogateescape"))),))
    assert run_sh(script(plan)) == text.encode("utf-8", "surrogateescape")


def test_a_script_without_its_secret_says_so() -> None:
    command = Command(("true",), (Variable("MLCUBE_TEST_SECRET", "x", secret=True),))
    done = subprocess.run(["sh"], input=script(plan_of(Step("s", command))).encode(), capture_output=True, check=False)
    assert done.returncode != 0 and b"MLCUBE_TEST_SECRET" in done.stderr


def test_unless_and_otherwise_have_their_meaning() -> None:
    good, bad = Command(("true",)), Command(("false",))
    say = Command(("echo", "said"))
    assert run_sh(script(plan_of(Step("skipped", say, unless=good)))) == b""
    assert run_sh(script(plan_of(Step("done", say, unless=bad)))) == b"said\n"
    assert run_sh(script(plan_of(Step("second", bad, otherwise=say)))) == b"said\n"


def test_a_removed_variable_is_absent_in_the_script() -> None:
    command = Command(("sh", "-c", 'echo "${HOME-gone}"'), (Variable("HOME", None),))
    assert run_sh(script(plan_of(Step("s", command)))) == b"gone\n"


def test_a_program_whose_path_holds_an_equals_sign_is_started(tmp_path) -> None:
    program = tmp_path / "date=2024.sh"
    program.write_text("#!/bin/sh\nprintf '%s|%s' \"$GREETING\" \"$1\"\n")
    program.chmod(0o755)
    for gone in ((), (Variable("MLCUBE_TEST_GONE", None),)):
        command = Command((str(program), "a=b c"), (Variable("GREETING", "hi"), *gone))
        assert run_sh(shell_line(command)) == b"hi|a=b c"
        assert run_sh(script(plan_of(Step("do it", command, "train")))) == b"hi|a=b c"


def test_a_script_leaves_its_stdin_to_an_interactive_task_only(tmp_path) -> None:
    steps = (Step("look", Command(("cat",)), "train"), Step("talk", Command(("cat",)), "train", payload=True))
    for interactive, said in ((True, b"hello"), (False, b"")):
        plan = Plan("local", steps, (TaskPlan("train", "20260101T000000-abcdef-1", (), interactive=interactive),))
        path = tmp_path / "plan.sh"
        path.write_text(script(plan))
        assert subprocess.run(["sh", str(path)], input=b"hello", capture_output=True, check=True).stdout == said


def test_a_task_given_twice_has_its_own_steps_each_time() -> None:
    def once(number: int) -> Plan:
        return Plan("local", (Step("make directories", Command(("mkdir", str(number))), "train"),
                              Step("run", Command(("train", str(number))), "train", payload=True)),
                    (TaskPlan("train", f"20260101T000000-abcdef-{number}", ()),))

    tasks = plan_data(merge((once(1), once(2))))["tasks"]
    assert isinstance(tasks, list)
    assert [[step["argv"][-1] for step in task["steps"]] for task in tasks] == [["1", "1"], ["2", "2"]]


def test_setup_lines_run_first_and_words_stay_words() -> None:
    command = in_shell(("export A=1",), Command(("sh", "-c", 'printf "%s:%s" "$A" "$1"', "x", "$(touch no); `id`")))
    assert run_sh(script(plan_of(Step("s", command)))) == b"1:$(touch no); `id`"


def test_no_setup_lines_leave_the_command_alone() -> None:
    command = Command(("true",))
    assert in_shell((), command) is command


def test_merging_does_shared_preparation_once_and_first() -> None:
    build = Step("build", Command(("build",)))
    first = Plan("docker", (build, Step("one", Command(("a",)), "one")), (TaskPlan("one", "id-1", ()),), ("note",))
    second = Plan("docker", (build, Step("two", Command(("b",)), "two")), (TaskPlan("two", "id-2", ()),), ("note",))
    merged = merge((first, second))
    assert [step.title for step in merged.steps] == ["build", "one", "two"]
    assert [task.task for task in merged.tasks] == ["one", "two"] and merged.notes == ("note",)


def test_a_title_cannot_break_out_of_its_comment() -> None:
    assert run_sh(script(plan_of(Step("name\necho broken out", Command(("true",)))))) == b""


@pytest.mark.parametrize(("text", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $PPID; exec sleep 0.2", 143)])
def test_what_comes_after_a_step_is_done_however_it_ends(tmp_path: Path, text: str, code: int) -> None:
    place = tmp_path / "it's 20260101T000000-abcdef-1"
    place.mkdir()
    step = Step("run", Command(("sh", "-c", text)), "train", payload=True, before=(Command(("mkdir", f"{place}/x")),),
                then=(Command(("touch", f"{place}.done")),), after=(Command(("rm", "-r", str(place), "/no/such")),
                                                                   Command(("rmdir", str(place)))))
    done = subprocess.run(["sh"], input=script(plan_of(step)).encode(), capture_output=True, check=False,
                          env={**os.environ, "RUN_ID": "20260101T000000-abcdef"})
    assert (done.returncode, place.exists()) == (code, False), done.stderr
    assert Path(f"{place}.done").exists() is (code == 0)
    assert as_data(step)["before"] == [["mkdir", f"{place}/x"]] and as_data(step)["then"] == [["touch", f"{place}.done"]]


def test_a_reason_is_found_in_what_a_tool_said() -> None:
    known = Reason("no space left", "the disk is full", "make room")
    step = Step("build", Command(("true",)), reasons=(Reason("else", "", ""), known))
    assert find_reason(step, ("FATAL: write: No space", "left", "write: No Space Left on device")) is known
    assert find_reason(step, ("fine",)) is None
