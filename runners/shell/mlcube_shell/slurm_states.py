"""How a batch job stands: what its run has told itself, and then what Slurm says of it (slurm_queue.py has it said). Pure.

The run's own word counts first. Slurm's is needed where there is none (a job that was killed says nothing any more), and where
a run was ended from outside, which may be Slurm's doing, and may not be the end: a job that was queued again starts over.
The texts are those of Slurm 22.05 [tried], RULINGS 42.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlcube_cli.supervision.state import LOST_CODE, CommandState, is_from_outside

_UNDER_WAY = frozenset(("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING",
                        "STAGE_OUT", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"))
_AT_WORK = frozenset(("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"))
_NEVER = "DependencyNeverSatisfied"
_SETTLED = 60.0  # seconds after its own end in which a job may be called running still; Slurm's word is waited for as long
_UNWRITTEN = 4  # what a job ends with that could not write down that it runs (supervision/carrying.py)
_LIMIT, _ENDED, _KILLED = 124, 143, 137
_OUT_OF_MEMORY = ("exceeded memory limit", "exceeded job memory limit", "oom-kill", "oom_kill", "oom kill", "out of memory")
# What slurm.log says of an end that Slurm itself has forgotten.
_LOGGED = (("DUE TO TIME LIMIT", "TIMEOUT"), ("DUE TO PREEMPTION", "PREEMPTED"), ("DUE TO NODE FAILURE", "NODE_FAIL"),
           ("CANCELLED AT", "CANCELLED"))
_FORGOTTEN = ("Invalid job id specified", " not found")  # the latter: of a member of an array that Slurm still knows


@dataclass(frozen=True)
class _Job:
    """One job in Slurm's words. `code`: its exit code and signal, where that is known."""

    state: str
    reason: str = ""
    node: str = ""
    started: float | None = None  # seconds since 1970
    code: tuple[int, int] | None = None
    ended: float | None = None  # seconds since 1970


@dataclass(frozen=True)
class _Report:
    """What was said: of the queue, and more of jobs that are not in it any more. `trouble`: why nothing was said."""

    asked: float = 0.0
    trouble: str = ""
    queue: Mapping[str, _Job] = field(default_factory=dict)
    more: Mapping[str, _Job | None] = field(default_factory=dict)  # None: Slurm does not know it
    logs: Mapping[str, str] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)  # why one was not told more of


def judge(state: CommandState, job: str, said: str) -> CommandState:
    """How the run stands, by its own `state` and by the report of `mlc_ask_queue` (empty: nothing was said).

    Of one that has not ended, `waiting` says in Slurm's words why it does not run, `node` where it is to, and `silence` why
    Slurm says nothing. A run that Slurm has ended without a word of its own gets one here, and so the tasks that it was at.
    """
    report = _read(said)
    if not job or (state.over and not is_from_outside(state.status, state.exit_code)):
        return state
    if report.trouble or not said:
        return _going_on(state, report.trouble) if said else state
    listed = report.queue.get(job)
    if listed is not None and listed.state in _UNDER_WAY:
        return _under_way(state, listed, report)
    if job not in report.more:
        return _with_node(_unmarked(state), listed)  # it has told its end meanwhile: that is what counts
    if job in report.troubles:
        return _going_on(state, report.troubles[job])
    return _dated(_ended(state, job, report), report.more[job])


# --- going on ------------------------------------------------------------------------------------------------------


def _under_way(state: CommandState, job: _Job, report: _Report) -> CommandState:
    if job.state == "PENDING" and job.reason == _NEVER:
        return _with_end(state, "cancelled", None, _never(job), "")
    if job.state not in _AT_WORK:
        reason = job.reason.replace("None", "") if job.state == "PENDING" else job.state.lower()
        return _again(state, f"queued again: {reason}" if state.status not in ("", "queued") and reason else reason, job)
    if not state.over:
        return _again(state, job.state.lower() if job.state in ("SUSPENDED", "STOPPED") else "", job)
    ended = state.ended or 0.0
    started_over = job.started is not None and job.started > ended and job.state != "COMPLETING"
    if state.status != "lost" and not started_over and report.asked - ended > _SETTLED:
        return state  # it is long over, and Slurm is still busy with what it leaves
    return _again(state, "", job)


def _again(state: CommandState, waiting: str, job: _Job) -> CommandState:
    """It goes on, or will: an end that was told is one of an attempt before."""
    status = "running" if job.state in _AT_WORK else "queued"
    if state.over or (status == "queued" and state.status):
        tasks = tuple(dataclasses.replace(task, status=status, exit_code=None, ended=None)
                      if task.status in (state.status, "running") else task for task in state.tasks)
        state = dataclasses.replace(state, exit_code=None, ended=None, message="", hint="", tasks=tasks)
    elif job.state in _AT_WORK:
        status = state.status or "queued"  # the first words of its own are still to come
    return dataclasses.replace(state, status=status, alive=True, waiting=waiting,
                               node=job.node or (state.node if job.state in _AT_WORK else ""))


def _going_on(state: CommandState, silence: str) -> CommandState:
    """Nothing is concluded from no answer: what seemed to be its end is looked at again."""
    state = _again(state, "", _Job("RUNNING", node=state.node)) if state.over else state
    return dataclasses.replace(state, alive=True, silence=silence)


def _unmarked(state: CommandState) -> CommandState:
    return dataclasses.replace(state, waiting="")


def _with_node(state: CommandState, job: _Job | None) -> CommandState:
    return dataclasses.replace(state, node=(job.node if job else "") or state.node)


# --- ended ---------------------------------------------------------------------------------------------------------


def _ended(state: CommandState, job: str, report: _Report) -> CommandState:
    """Slurm has done with it: what it says of its end, where the run itself says nothing that stands."""
    known = report.more[job]
    log = report.logs.get(job, "")
    listed = report.queue.get(job)
    state = _with_node(state, known if known is not None and known.node else listed)
    where = f" on {state.node}" if state.node else ""
    hint = _last_lines(log)
    if _says_memory(known, log) and (not state.over or state.exit_code == _KILLED or state.status == "lost"):
        return _with_end(state, "failed", _KILLED, f"job {job} was killed{where}: it used more memory than it had asked for",
                         "give the platform more `memory`")
    word = known.state.partition(" ")[0] if known is not None else _from_log(log)
    if word in ("TIMEOUT", "DEADLINE"):
        return _with_end(state, "timed_out", _LIMIT, f"job {job} was ended{where}: its time limit was over ({word})",
                         "give the platform more `time`")
    if word == "PREEMPTED":
        return _with_end(state, "cancelled", _ENDED, f"job {job} was preempted{where}: another job took its place", "")
    if word in ("NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"):
        return _with_end(state, "lost", LOST_CODE, f"job {job} was lost{where}: {_words(known, word)}", hint)
    if state.over and state.status != "lost":
        return state  # cancelled by us, or from outside: that is what it said
    if word == "CANCELLED":
        never = known is not None and known.reason == _NEVER
        begun = bool(state.status) or any(task.status != "queued" for task in state.tasks)
        how = "from outside" if begun or state.node else "before it began"
        message = _never(known) if known is not None and never else f"job {job} was cancelled {how}{where}"
        return _with_end(state, "cancelled", None if never else _ENDED, message, "")
    if known is None:
        return _with_end(state, "lost", LOST_CODE, f"Slurm does not know job {job} any more, and it left no result{where}",
                         hint)
    return _failed(state, job, known, where, hint)


def _dated(state: CommandState, known: _Job | None) -> CommandState:
    """With the time of an end that the run could not tell itself."""
    if known is None or known.ended is None:
        return state
    tasks = tuple(dataclasses.replace(task, ended=max(task.started, known.ended))
                  if task.started is not None and task.ended is None else task for task in state.tasks)
    return dataclasses.replace(state, ended=state.ended or known.ended, tasks=tasks)


def _failed(state: CommandState, job: str, known: _Job, where: str, hint: str) -> CommandState:
    """Ended by its processes' end, without a result: killed, or never really begun."""
    code, signal = known.code or (0, 0)
    said = _words(known, known.state)
    if (code, signal) == (_UNWRITTEN, 0) and all(task.status == "queued" for task in state.tasks):
        return _with_end(state, "environment", 4, f"job {job} could not begin{where}: it cannot write into {state.directory}",
                         hint or "is the disk full? run it again once there is room")
    if not state.status and signal not in (9, 15) and known.state != "COMPLETED":
        return _with_end(state, "environment", 4, f"job {job} could not be started{where}: {said}", hint)
    if known.state == "COMPLETED":
        return _with_end(state, "lost", LOST_CODE, f"job {job} has ended{where}, and left no result", hint)
    if signal:
        return _with_end(state, "failed", 128 + signal, f"job {job} was killed by signal {signal}{where}: {said}", hint)
    return _with_end(state, "failed", code or 1, f"job {job} failed{where} without a result: {said}", hint)


def _with_end(state: CommandState, status: str, code: int | None, message: str, hint: str) -> CommandState:
    """The state with this end, and so the task that it was at."""
    at_work = ("running", "lost", state.status) if state.over else ("running", "lost")
    tasks = tuple(dataclasses.replace(task, status=status, exit_code=code) if task.status in at_work else task
                  for task in state.tasks)
    return dataclasses.replace(state, status=status, exit_code=code, alive=False, message=message, hint=hint, tasks=tasks,
                               waiting="")


def _words(job: _Job | None, word: str) -> str:
    """Slurm's own words for it."""
    if job is None:
        return f"Slurm says {word}"
    code = f", exit code {job.code[0]}:{job.code[1]}" if job.code and any(job.code) else ""
    return f"Slurm says {job.state}{f' ({job.reason})' if job.reason not in ('', 'None') else ''}{code}"


def _never(job: _Job) -> str:
    return f"it was never started: the job before it did not succeed ({job.reason})"


def _says_memory(job: _Job | None, log: str) -> bool:
    if job is not None and job.state.startswith("OUT_OF_MEMORY"):
        return True
    if job is not None and not (job.state in ("FAILED", "CANCELLED") and job.code and (job.code[1] or job.code[0] == _KILLED)):
        return False
    lines = [line.lower() for line in log.splitlines() if line.startswith("slurmstepd")]
    return any(text in line for line in lines for text in _OUT_OF_MEMORY)


def _from_log(log: str) -> str:
    lines = [line for line in log.splitlines() if line.startswith("slurmstepd") and "DUE TO JOB REQUEUE" not in line]
    return next((state for line in reversed(lines) for text, state in _LOGGED if text in line), "")


def _last_lines(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return "\n".join(("its last words:", *lines[-5:])) if lines else ""


# --- reading -------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _read(said: str) -> _Report:
    """The report; one that is cut short says nothing."""
    if not said:
        return _Report()
    sections: list[tuple[list[str], list[str]]] = []
    for line in said.split("\n"):
        if line.startswith("== "):
            sections.append((line.split()[1:], []))
        elif sections:
            sections[-1][1].append(line[1:])
    if not sections or sections[-1][0] != ["end"] or sections[0][0][:1] != ["squeue"]:
        return _Report(trouble="its answer was cut short")
    code, asked = (*sections[0][0][1:], "1", "0")[:2]
    if code != "0":
        return _Report(trouble=next((line for line in sections[0][1] if line.strip()), f"exit code {code}"))
    queue = dict(_listed(line) for line in sections[0][1] if line.count("|") >= 4)
    more: dict[str, _Job | None] = {}
    logs: dict[str, str] = {}
    troubles: dict[str, str] = {}
    for (name, *words), lines in sections[1:-1]:
        text = "\n".join(lines)
        if name == "scontrol":
            more[words[0]] = _shown(text) if words[1] == "0" else None
            if words[1] != "0" and not any(sign in text for sign in _FORGOTTEN):
                troubles[words[0]] = text.strip().partition("\n")[0]
        elif name == "sacct" and words[1] == "0":
            more[words[0]] = more.get(words[0]) or _accounted(text)
        elif name == "log":
            logs[words[0]] = text
    return _Report(float(asked) if asked.isdigit() else 0.0, "", queue, more, logs, troubles)


def _listed(line: str) -> tuple[str, _Job]:
    """A line of squeue. A reason may hold anything but `|`."""
    job, state, reason, node, started = (*line.split("|"), "", "", "", "")[:5]
    return job, _Job(state, reason, node, float(started) if started.isdigit() else None)


def _shown(text: str) -> _Job | None:
    """What `scontrol --oneliner show job` says: NAME=VALUE, where a value may have blanks in it."""
    values: dict[str, str] = {}
    for word in text.replace("\n", " ").split(" "):
        name, found, value = word.partition("=")
        if found and name.isidentifier():
            values.setdefault(name, value)
    if "JobState" not in values:
        return None
    ended = values.get("EndTime", "")
    return _Job(values["JobState"], values.get("Reason", ""), values.get("NodeList", "").replace("(null)", ""), None,
                _code(values.get("ExitCode", "")), float(ended) if ended.isdigit() else None)


def _accounted(text: str) -> _Job | None:
    """The last line of sacct: STATE|CODE:SIGNAL|NODES, where a state may be `CANCELLED by 1000`."""
    lines = [line.split("|") for line in text.split("\n") if line.count("|") >= 2]
    if not lines:
        return None
    state, code, node = lines[-1][:3]
    return _Job(state, "", "" if node == "None assigned" else node, None, _code(code))


def _code(text: str) -> tuple[int, int] | None:
    code, _, signal = text.partition(":")
    return (int(code), int(signal)) if code.isdigit() and signal.isdigit() else None
