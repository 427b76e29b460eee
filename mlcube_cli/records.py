"""What each run leaves behind: `WORKSPACE/.mlcube/runs/<id>/record.json`, written at start and end by rename (RULINGS 30).

A record is JSON data (schemas/mlcube.record.v1.json). `begin_record` writes it before the task starts, `finish_record`
completes what it finds on the disk: so whoever sees the end of a run may finish its record, not only who began it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING, __version__
from mlcube_cli.atomic import write_text
from mlcube_cli.errors import DefinitionError

if TYPE_CHECKING:
    from mlcube_cli.command import Plan
    from mlcube_cli.definition.model import Cube
    from mlcube_cli.job import Argument, Job
    from mlcube_cli.locks import Owner

RUNS = os.path.join(".mlcube", "runs")  # below the workspace
SCHEMA = "mlcube.record.v1"
RECORD = "record.json"
REMOTE = "remote"  # the kind of an input or output that stays on the machine where the task runs
QUEUED, RUNNING, LOST = "queued", "running", "lost"


def new_run_id(now: float, salt: bytes) -> str:
    """`20261122T041217-3f9a2c`: sorts by time (seconds, UTC), unique by six hexadecimal digits. Pure."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + "-" + salt.hex()[:6]


def rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def run_directory(workspace: str, run_id: str) -> str:
    return os.path.join(workspace, RUNS, run_id)


def write_record(directory: str, record: Mapping[str, object]) -> str:
    """Write `record.json` into `directory` (made if absent, for its owner alone) by rename; returns its path.

    Raises OSError.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, RECORD)
    write_text(path, json.dumps({**record, "mlcube": __version__}, indent=2, ensure_ascii=True) + "\n")
    return path


def read_record(path: str) -> dict[str, object]:
    """The record in this file, or in this run directory. Raises DefinitionError for one that is absent, cut short or
    no record."""
    if os.path.isdir(path):
        path = os.path.join(path, RECORD)
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except OSError as error:
        raise DefinitionError(f"{path} cannot be read: {error.strerror or error}",
                              "mlcube runs list shows the runs of a cube") from None
    except ValueError as error:
        raise DefinitionError(f"{path} is not a whole record: {error}",
                              "the run that it tells of cannot be looked up any more; remove its directory") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise DefinitionError(f"{path} is no record of a run that this version reads ({SCHEMA})",
                              "take the version of mlcube that wrote it")
    return data


# --- beginning -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Execution:
    """Where a task runs. `place` names the machine as the user does (its platform); "" is this one."""

    place: str
    host: str  # as `uname -n` names it there
    user: str
    directory: str  # of the run, there; on this machine its run directory


@dataclass(frozen=True)
class Beginning:
    """What is known of a task's run before it starts. `job` has this machine's paths, `plan` those of where it runs."""

    job: Job
    plan: Plan
    cube: Cube
    started: float  # seconds since the epoch
    execution: Execution
    owner: Owner | None = None  # the process here that ends with the run; None: something else looks after it
    status: str = RUNNING  # or QUEUED: another task of the command comes first, or a batch system starts it
    definition: Mapping[str, object] = field(default_factory=dict)  # provenance.definition_data
    asked: Mapping[str, object] = field(default_factory=dict)  # the command line, as `mlcube runs rerun` gives it again
    hashing: str = "auto"  # of measures.HASHINGS
    elsewhere: frozenset[str] = frozenset()  # the parameters whose paths stay on the other machine
    measured: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # inputs, by name, where that is done
    logs: Mapping[str, str] | None = None  # {"stdout": path, "stderr": path} on this machine
    found: Mapping[str, object] = field(default_factory=dict)  # what else is known already: engines, gpus, git, code


@dataclass(frozen=True)
class Ending:
    """How a run ended, and what was learnt meanwhile."""

    status: str  # of RULINGS 27
    exit_code: int
    seconds: float | None  # None: from start to end
    ended: float  # seconds since the epoch
    found: Mapping[str, object] = field(default_factory=dict)  # as in Beginning
    measured: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # inputs and outputs, by name
    job: str = ""  # of a batch system, which carried it out
    node: str = ""  # the machine that it gave the job


def made_before(jobs: Sequence[Job], number: int) -> frozenset[str]:
    """The inputs of the job of that number (from 0) that an earlier one of the same command writes, or writes into, by name
    (RULINGS 4). Pure."""
    from mlcube_cli.relocation import is_at_or_below

    outputs = [argument.host_path for job in jobs[:number] for argument in job.paths if argument.direction == "output"]
    return frozenset(argument.name for argument in jobs[number].paths if argument.direction == "input" and any(
        is_at_or_below(argument.host_path, output) or is_at_or_below(output, argument.host_path) for output in outputs))


def begin_record(beginning: Beginning) -> str:
    """Write the record of a run that is about to start; returns its path. Raises OSError."""
    return write_record(run_directory(beginning.job.workspace, beginning.job.run_id), _begun(beginning))


def finish_record(directory: str, ending: Ending, give_up: Callable[[], bool] = lambda: False) -> str:
    """Complete the record in the run directory; returns its path. Raises OSError, DefinitionError for a broken record.

    Inputs and outputs that `ending.measured` does not have are measured here and now, but for inputs that the task may
    have changed; of a cancelled run sizes only, so that nobody waits. `give_up` is asked all the while.
    """
    from mlcube_cli.measures import lighter

    record = read_record(directory)
    hashing = lighter(_text(record, "hashing")) if ending.status == "cancelled" else _text(record, "hashing")
    began = seconds_of(_text(record, "started"))
    ended = max(ending.ended, began + (ending.seconds or 0.0))  # another machine's clock is known to a second
    record.update(
        status=ending.status, exit_code=ending.exit_code, ended=rfc3339(ended),
        seconds=round(ending.ended - began if ending.seconds is None else ending.seconds, 3),
        inputs=_measured(record, "inputs", ending, hashing, give_up),
        outputs=_measured(record, "outputs", ending, hashing, give_up),
        **ending.found)
    execution = record.get("execution")
    if ending.job and isinstance(execution, dict):
        record["execution"] = {**execution, "job": ending.job, **({"node": ending.node} if ending.node else {})}
    return write_record(directory, record)


def start_record(directory: str, started: float | None) -> str:
    """Note that the task of a record, queued so far, has begun; `started`: seconds since the epoch, None: not known.

    Returns its path. Raises OSError, DefinitionError for a broken record.
    """
    record = read_record(directory)
    if record.get("status") != QUEUED:
        return os.path.join(directory, RECORD)
    return write_record(directory, {**record, "status": RUNNING, **({} if started is None else {"started": rfc3339(started)})})


def close_record(directory: str, status: str, exit_code: int | None, why: str) -> str:
    """End the record of a run of which nothing more can be learnt: when it ended, and what it left. What is known stays.

    `why`: for what was not measured. A record that has ended is left alone. Returns its path. Raises OSError,
    DefinitionError for a broken record.
    """
    record = read_record(directory)
    if record.get("status") not in (QUEUED, RUNNING):
        return os.path.join(directory, RECORD)
    for entry in (*entries_of(record, "inputs"), *entries_of(record, "outputs")):
        if not entry.get("kind"):
            entry["note"] = why
    return write_record(directory, {**record, "status": status, "exit_code": exit_code})


def _begun(beginning: Beginning) -> dict[str, object]:
    from mlcube_cli.report import plan_data

    job, task, execution = beginning.job, beginning.plan.tasks[0], beginning.execution
    return {
        "schema": SCHEMA, "run_id": job.run_id,
        "cube": {"name": job.cube, "version": beginning.cube.version, "root": job.root},
        "workspace": job.workspace, "definition": dict(beginning.definition), "task": job.task,
        "parameters": [_parameter(argument) for argument in job.arguments],
        "platform": beginning.plan.platform, "runner": job.platform.runner,
        "status": beginning.status, "exit_code": None, "started": rfc3339(beginning.started), "ended": None, "seconds": None,
        "timeout": job.timeout, "image": {"name": task.image[0], "id": task.image[1]} if task.image else None,
        "host": execution.host, "user": execution.user, "execution": vars(execution).copy(),
        "owner": _owner_data(beginning.owner), "engines": [], "gpus": None, "git": None, "code": None,
        "hashing": beginning.hashing,
        "inputs": [_unmeasured(argument, beginning) for argument in job.paths if argument.direction == "input"],
        "outputs": [_unmeasured(argument, beginning) for argument in job.paths if argument.direction == "output"],
        "logs": dict(beginning.logs) if beginning.logs else None, "asked": dict(beginning.asked),
        **beginning.found, "plan": plan_data(beginning.plan),
    }


def _parameter(argument: Argument) -> dict[str, object]:
    value = argument.host_path if argument.text is None else argument.text
    return {"name": argument.name, "direction": argument.direction, "type": argument.type, "mode": argument.mode,
            "value": value}


def _unmeasured(argument: Argument, beginning: Beginning) -> dict[str, object]:
    from mlcube_cli.measures import Measure

    away = argument.name in beginning.elsewhere
    known = beginning.measured.get(argument.name, Measure(REMOTE if away else "").as_data())
    return {"name": argument.name, "path": argument.host_path, "mode": argument.mode, **known}


def _owner_data(owner: Owner | None) -> dict[str, object] | None:
    return {name: value for name, value in vars(owner).items() if name != "token"} if owner else None


# --- ending --------------------------------------------------------------------------------------------------------


def _measured(record: Mapping[str, object], which: str, ending: Ending, hashing: str,
              give_up: Callable[[], bool]) -> list[dict[str, object]]:
    """The inputs or outputs of a record with what they are, each measured once."""
    from mlcube_cli.measures import Measure, Want, keep_manifest, measure

    entries = []
    for entry in entries_of(record, which):
        known = ending.measured.get(_text(entry, "name"))
        if known is None and not entry.get("kind"):
            if which == "inputs" and entry.get("mode") == "rw":
                found = Measure("", note="not measured before the task could change it")
            else:
                found = measure(_text(entry, "path"), Want(hashing, give_up=give_up))
                keep_manifest(_text(record, "workspace"), found)
            known = found.as_data()
        entries.append({**entry, **(known or {})})
    return entries


# --- reading -------------------------------------------------------------------------------------------------------


def entries_of(record: Mapping[str, object], which: str) -> list[dict[str, object]]:
    """The `inputs` or `outputs` of a record; none for a record of an older version."""
    found = record.get(which)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def status_of(record: Mapping[str, object]) -> str:
    """How the run ended, or goes on: `lost` where the process that looked after it is gone for sure (RULINGS 27).

    On another machine it goes on without that process, and only that machine can tell.
    """
    from mlcube_cli.locks import myself

    status, execution = _text(record, "status"), record.get("execution")
    if status != RUNNING or (isinstance(execution, dict) and execution.get("place")):
        return status
    owner = owner_of(record)
    return LOST if owner is not None and owner.is_dead(myself()) else status


def owner_of(record: Mapping[str, object]) -> Owner | None:
    """The process that looks after a run, as its record names it."""
    from mlcube_cli.locks import Owner

    data = record.get("owner")
    if not isinstance(data, dict) or not isinstance(data.get("pid"), int):
        return None
    start, host, boot, space = (_text(data, name) for name in ("start", "host", "boot", "space"))
    return Owner(int(data["pid"]), start, host, boot, space, token="")


def seconds_of(text: str) -> float:
    """The seconds since the epoch of a time that `rfc3339` wrote; 0 for any other text."""
    import calendar

    try:
        whole = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        return whole + float(f"0{text[19:-1]}")
    except ValueError:
        return 0.0


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
