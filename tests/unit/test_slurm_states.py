"""How a batch job stands by its own word and by Slurm's: the texts are those that Slurm 22.05 gave, unless a test says else."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.command import quote
from mlcube_cli.supervision.requests import parse_report, parse_states, states
from mlcube_cli.supervision.state import CommandState, TaskState
from mlcube_shell.slurm_queue import cancel, queue_functions
from mlcube_shell.slurm_states import judge

ASKED = 1795358000
BEGUN = CommandState("/d/1", "running", started=ASKED - 100.0, alive=True, host="node1", tasks=(TaskState("r", "running"),))
UNBEGUN = CommandState("/d/1", "", tasks=(TaskState("r", "queued"),))
ENDED = CommandState("/d/1", "cancelled", 143, ASKED - 100.0, ASKED - 5.0, message="task 't' was cancelled",
                     tasks=(TaskState("r", "cancelled", 143),))
LOG = "slurmstepd-node1: error: *** JOB 7 ON node1 CANCELLED AT 2026-11-22T14:20:46{} ***"
MEMORY = "slurmstepd-node3: error: StepId=7.batch exceeded memory limit (563994624 > 52428800), being killed"


def report(*lines: str, scontrol: str = "", sacct: str = "", log: str = "", code: int = 0) -> str:
    """What mlc_ask_queue prints. `scontrol`: its exit code and text."""
    parts = [f"== squeue {code} {ASKED}", *(f" {line}" for line in lines)]
    for name, said in (("scontrol", scontrol), ("sacct", sacct)):
        if said:
            number, _, text = said.partition(" ")
            parts += [f"== {name} 7 {number}", *(f" {line}" for line in text.split("\n"))]
    if log:
        parts += ["== log 7", *(f" {line}" for line in log.split("\n"))]
    return "\n".join((*parts, "== end"))


def shown(state: str, reason: str, code: str, node: str = "node1") -> str:
    """An excerpt of `scontrol --oneliner show job`."""
    return (f"0 JobId=7 JobName=a b=c UserId=ada(1003) JobState={state} Reason={reason} Dependency=(null) Requeue=1 Restarts=0 "
            f"ExitCode={code} RunTime=00:00:03 NodeList={node or '(null)'} BatchHost=node1 Command=(null) StdOut=/x Power= ")


def stands(state: CommandState) -> tuple[str, int | None, str, int | None]:
    return state.status, state.exit_code, state.tasks[0].status, state.tasks[0].exit_code


GONE = "1 slurm_load_jobs error: Invalid job id specified"
NO_ACCOUNTING = "1 Slurm accounting storage is disabled"


# --- its own word ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 3), ("timed_out", 124), ("preparation", 5)])
def test_an_end_of_its_own_stands_whatever_slurm_says(status: str, code: int) -> None:
    state = replace(ENDED, status=status, exit_code=code, tasks=())
    timeout = report("7|TIMEOUT|TimeLimit|node1|1", scontrol=shown("TIMEOUT", "TimeLimit", "0:15"))
    for said in ("", report("7|RUNNING|None|node1|1"), timeout):
        assert judge(state, "7", said) == state


def test_a_job_without_an_id_and_one_that_nobody_was_asked_about_stand_as_they_say() -> None:
    assert judge(BEGUN, "", report()) == BEGUN and judge(ENDED, "7", "") == ENDED


def test_one_that_has_told_its_end_meanwhile_is_looked_at_again_not_concluded() -> None:
    """Nothing more was asked of it, since its own word was there by then."""
    assert judge(BEGUN, "7", report("7|COMPLETED|None|node2|1")) == replace(BEGUN, node="node2")


# --- under way -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["Priority", "Resources", "ReqNodeNotAvail, UnavailableNodes:node1", "JobHeldUser"])
def test_why_it_waits_is_told(reason: str) -> None:
    state = judge(UNBEGUN, "7", report(f"7|PENDING|{reason}||N/A", "77|RUNNING|None|node9|1"))
    assert (state.status, state.waiting, state.node, state.over) == ("queued", reason, "", False)


def test_before_slurm_has_looked_at_it_there_is_no_reason() -> None:
    assert judge(UNBEGUN, "7", report("7|PENDING|None||N/A")).waiting == ""


def test_a_member_of_an_array_is_told_from_the_others() -> None:
    said = report("7_1|RUNNING|None|node1|1", "7_11|PENDING|Priority||N/A")
    assert judge(BEGUN, "7_1", said).node == "node1" and judge(UNBEGUN, "7_11", said).waiting == "Priority"


def test_a_node_that_is_made_ready_and_a_job_that_is_suspended_are_named() -> None:
    assert judge(UNBEGUN, "7", report("7|CONFIGURING|None|node1|1")).waiting == "configuring"
    assert judge(BEGUN, "7", report("7|SUSPENDED|None|node1|1")).waiting == "suspended"


def test_where_it_runs_is_told() -> None:
    state = judge(BEGUN, "7", report("7|RUNNING|None|node[1-2]|1795357990"))
    assert (state.status, state.node, state.waiting) == ("running", "node[1-2]", "")


def test_an_end_of_an_attempt_before_is_none() -> None:
    for said in (report("7|PENDING|BeginTime||1795358020"), report(f"7|RUNNING|None|node2|{ASKED - 1}")):
        state = judge(ENDED, "7", said)
        assert not state.over and state.exit_code is None and state.message == "" and state.tasks[0].status != "cancelled"
    assert judge(ENDED, "7", report("7|PENDING|BeginTime||1795358020")).waiting == "queued again: BeginTime"
    assert judge(BEGUN, "7", report("7|PENDING|BeginTime||1795358020")).tasks[0].status == "queued"


def test_an_end_from_outside_waits_for_slurms_word_but_not_for_ever() -> None:
    said = report(f"7|COMPLETING|None|node1|{ASKED - 100}")
    assert judge(ENDED, "7", said).status == "running", "it may be queued again"
    assert judge(replace(ENDED, ended=ASKED - 100.0), "7", said) == replace(ENDED, ended=ASKED - 100.0)


def test_a_dependency_that_is_never_satisfied_is_an_end() -> None:
    state = judge(UNBEGUN, "7", report("7|PENDING|DependencyNeverSatisfied||N/A"))
    assert (state.status, state.exit_code) == ("cancelled", None) and "did not succeed" in state.message
    state = judge(UNBEGUN, "7", report("7|CANCELLED|DependencyNeverSatisfied||1",
                                       scontrol=shown("CANCELLED", "DependencyNeverSatisfied", "0:0", "")))
    assert (state.status, state.exit_code) == ("cancelled", None) and "did not succeed" in state.message


def test_a_member_that_slurm_has_forgotten_while_it_knows_its_array_is_lost_and_not_waited_for() -> None:
    said = report(scontrol="1 Job 7_1 not found", sacct=NO_ACCOUNTING).replace(" 7 ", " 7_1 ")
    state = judge(BEGUN, "7_1", said)
    assert (state.status, state.exit_code) == ("lost", 4) and not state.silence


# --- nothing was said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [
    report("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", code=1),
    report(scontrol="1 slurm_load_jobs error: Unable to contact slurm controller (connect failure)"),
    "== squeue 0 1795358000\n 7|CANCEL", "noise",
])
def test_nothing_is_concluded_from_no_answer(said: str) -> None:
    state = judge(BEGUN, "7", said)
    assert state.status == "running" and state.silence
    assert not judge(ENDED, "7", said).over and not judge(UNBEGUN, "7", said).over


# --- ended by Slurm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "listed", "more", "log", "expected", "words"), [
    (BEGUN, "FAILED|JobLaunchFailure", shown("FAILED", "JobLaunchFailure", "0:9"), "", ("failed", 137), "killed by signal 9"),
    (UNBEGUN, "FAILED|JobLaunchFailure", shown("FAILED", "JobLaunchFailure", "0:53"), "", ("environment", 4), "could not be"),
    (BEGUN, "FAILED|NonZeroExitCode", shown("FAILED", "NonZeroExitCode", "3:0"), "", ("failed", 3), "without a result"),
    (BEGUN, "COMPLETED|None", shown("COMPLETED", "None", "0:0"), "", ("lost", 4), "left no result"),
    (BEGUN, "FAILED|JobLaunchFailure", shown("FAILED", "JobLaunchFailure", "0:9"), MEMORY, ("failed", 137), "more memory"),
    (BEGUN, "TIMEOUT|TimeLimit", shown("TIMEOUT", "TimeLimit", "0:15"), "", ("timed_out", 124), "time limit"),
    (ENDED, "TIMEOUT|TimeLimit", shown("TIMEOUT", "TimeLimit", "0:15"), "", ("timed_out", 124), "time limit"),
    (ENDED, "PREEMPTED|None", shown("PREEMPTED", "None", "0:15"), "", ("cancelled", 143), "preempted"),
    (BEGUN, "NODE_FAIL|NodeDown", shown("NODE_FAIL", "NodeDown", "0:15"), "", ("lost", 4), "NODE_FAIL (NodeDown)"),
    (BEGUN, "CANCELLED|None", shown("CANCELLED", "None", "0:0"), "", ("cancelled", 143), "from outside"),
    (ENDED, "CANCELLED|None", shown("CANCELLED", "None", "9:0"), "", ("cancelled", 143), "task 't' was cancelled"),
    (ENDED, "FAILED|NonZeroExitCode", shown("FAILED", "NonZeroExitCode", "143:0"), "", ("cancelled", 143), "task 't' was"),
    # not produced on the test machine: memory by cgroup, a node that does not boot, sites with other words
    (BEGUN, "OUT_OF_MEMORY|OutOfMemory", shown("OUT_OF_MEMORY", "OutOfMemory", "0:125"), "", ("failed", 137), "more memory"),
    (UNBEGUN, "BOOT_FAIL|None", shown("BOOT_FAIL", "None", "0:0"), "", ("lost", 4), "BOOT_FAIL"),
    (UNBEGUN, "DEADLINE|DeadLine", shown("DEADLINE", "DeadLine", "0:0"), "", ("timed_out", 124), "DEADLINE"),
])
def test_the_ends_are_told_apart(before: CommandState, listed: str, more: str, log: str, expected: tuple[str, int],
                                 words: str) -> None:
    state = judge(before, "7", report(f"7|{listed}|node1|1", scontrol=more, log=log))
    assert (state.status, state.exit_code) == expected and words in state.message
    assert not state.alive and state.waiting == ""
    if before is not UNBEGUN:
        assert stands(state)[2:] == expected, "and so its task"


def test_a_task_that_the_kernel_killed_is_explained_by_slurm() -> None:
    killed = replace(ENDED, status="failed", exit_code=137, message="task 't' failed with exit code 137")
    said = report("7|OUT_OF_MEMORY|OutOfMemory|node1|1", scontrol=shown("OUT_OF_MEMORY", "OutOfMemory", "0:125"))
    assert "more memory" in judge(killed, "7", said).message
    plain = report("7|FAILED|NonZeroExitCode|node1|1", scontrol=shown("FAILED", "NonZeroExitCode", "137:0"))
    assert judge(killed, "7", plain).message == killed.message


def test_what_the_task_prints_about_memory_is_no_word_of_slurms() -> None:
    killed = shown("FAILED", "JobLaunchFailure", "0:9")
    state = judge(BEGUN, "7", report("7|FAILED|JobLaunchFailure|node1|1", scontrol=killed, log="out of memory, I say"))
    assert "signal 9" in state.message and "out of memory, I say" in state.hint


@pytest.mark.parametrize(("log", "expected"), [
    ("", ("lost", 4)), (LOG.format(" DUE TO TIME LIMIT"), ("timed_out", 124)),
    (LOG.format(" DUE TO PREEMPTION"), ("cancelled", 143)), (LOG.format(""), ("cancelled", 143)),
    (LOG.format(" DUE TO JOB REQUEUE"), ("lost", 4)), (MEMORY, ("failed", 137)),
    (LOG.format(" DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"), ("lost", 4)),
])
def test_of_what_slurm_has_forgotten_the_jobs_log_may_tell(log: str, expected: tuple[str, int]) -> None:
    state = judge(BEGUN, "7", report(scontrol=GONE, sacct=NO_ACCOUNTING, log=log))
    assert (state.status, state.exit_code) == expected
    assert judge(ENDED, "7", report(scontrol=GONE, sacct=NO_ACCOUNTING)) == ENDED


@pytest.mark.parametrize(("text", "expected"), [
    ("TIMEOUT|0:0|node1", ("timed_out", 124)), ("CANCELLED by 1003|0:0|None assigned", ("cancelled", 143)),
    ("OUT_OF_MEMORY|0:125|node1", ("failed", 137)), ("FAILED|5:0|node1", ("failed", 5)), ("", ("lost", 4)),
])
def test_accounting_tells_of_what_the_controller_has_forgotten(text: str, expected: tuple[str, int]) -> None:
    """Not produced on the test machine, which has no accounting: the form is that of sacct(1)."""
    state = judge(BEGUN, "7", report(scontrol=GONE, sacct=f"0 {text}"))
    assert (state.status, state.exit_code) == expected


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_one_question_is_for_all_jobs_and_their_directories_may_have_any_name() -> None:
    text = queue_functions([("/a b/'1", "12_1"), ("/a b/2", "12_2"), ("/c", "13"), ("/d", "")])
    assert "mlc_bases='12|13'" in text and text.count("squeue --user=") == 1
    calls = text.rpartition("mlc_each_job() {")[2]
    assert f'"$1" {quote("/a b/" + chr(39) + "1")} 12_1' in calls and "/d" not in calls


def test_a_run_whose_directory_is_gone_is_lost_when_slurm_does_not_know_it_either(tmp_path: Path) -> None:
    for name, text in (("squeue", "exit 0"), ("scontrol", "echo 'Invalid job id specified' >&2; exit 1"), ("sacct", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    place = f"{tmp_path}/gone/1"
    script = states({place: ()}, "0a1b", queue_functions([(place, "7")]))
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True, timeout=60,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    (state,) = parse_states(done.stdout, "0a1b", [place])
    verdict = judge(state, "7", parse_report(done.stdout, "0a1b"))
    assert (verdict.status, verdict.silence) == ("lost", ""), done.stderr


def test_the_supervisor_of_a_running_job_is_asked_and_what_waits_leaves_the_queue() -> None:
    jobs = (("/d/1", "12"), ("/d/2", "13"))
    soft, hard = ([line for line in cancel(jobs, now, "n").splitlines() if line.startswith("mlc_scancel -")
                   or line == "mlc_scancel 12 13"] for now in (False, True))
    ask = "mlc_scancel --batch --signal=TERM --state=RUNNING 12 13"
    assert soft == ["mlc_scancel --state=PENDING 12 13", ask, "mlc_scancel --state=SUSPENDED 12 13"]
    assert hard == ["mlc_scancel --state=PENDING 12 13", ask, ask, "mlc_scancel 12 13"]


def test_a_job_that_is_just_starting_is_asked_once_it_listens(tmp_path: Path) -> None:
    part = tmp_path / "a part"
    part.mkdir()
    for name, body in (("squeue", 'echo 12; echo "running - 1 -" >"$PART/state"'),
                       ("scancel", 'echo "$1 $(cat "$PART/state")" >>"$PART/asked"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (part / "state").write_text("queued - - -\n")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "PART": str(part)}
    done = subprocess.run(["sh", "-s"], input=cancel(((str(part), "12"),), False, "n"), capture_output=True, text=True,
                          check=True, timeout=60, env=environment)
    assert done.stdout.endswith("\nsent\n") and done.stderr == ""
    assert (part / "asked").read_text().splitlines()[:2] == ["--state=PENDING queued - - -", "--batch running - 1 -"]


@pytest.mark.parametrize("status", ["", "lost"])
def test_a_job_that_could_not_write_down_that_it_runs_says_so_by_its_exit_code(status: str) -> None:
    said = report("7|FAILED|NonZeroExitCode|node1|1", scontrol=shown("FAILED", "NonZeroExitCode", "4:0"))
    state = judge(replace(UNBEGUN, status=status), "7", said)
    assert (state.status, state.exit_code) == ("environment", 4)
    assert "cannot write into /d/1" in state.message and "disk full" in state.hint
    assert judge(BEGUN, "7", said).status == "failed", "it had begun: that was its task"


def test_where_it_runs_is_known_from_itself_when_slurm_has_not_said_it() -> None:
    ended = replace(BEGUN, status="succeeded", exit_code=0, node="node2")
    assert judge(ended, "7", report()).node == "node2"
    assert judge(replace(BEGUN, node="node2"), "7", report("7|RUNNING|None||1")).node == "node2"
