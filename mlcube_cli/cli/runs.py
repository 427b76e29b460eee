"""`mlcube runs`: the records of runs, listed, shown, verified, and run again (docs/records.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlcube_cli.archive import Found, choose, load_all, load_one, runs_of
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.definition import ReadRequest, read_cube
from mlcube_cli.errors import DefinitionError, MLCubeError, UsageError
from mlcube_cli.observe import machine
from mlcube_cli.records import LOST, entries_of
from mlcube_cli.report import printable
from mlcube_cli.run_index import index_directory, read_index
from mlcube_cli.verification import Verdict, verify

_FEW = 20  # files of a directory that are named to a person
_SIGNS = {"same": "same", "changed": "CHANGED", "gone": "GONE", "new": "NEW", "unknown": "unknown"}


def runs(arguments: Arguments) -> int:
    """`mlcube runs [list | show RUN | verify RUN | rerun RUN]`. RUN: an id, a part of one, or the path of a run directory;
    without it the newest. 0, or 3 where verify finds a difference; rerun: as `mlcube run`."""
    verb = arguments.words[0] if arguments.words else "list"
    if verb not in _VERBS or len(arguments.words) > (1 if verb == "list" else 2):
        raise UsageError("mlcube runs takes one of list, show RUN, verify RUN, rerun RUN", "mlcube runs list")
    options = (("-P", arguments.overrides, ("rerun",)), ("--dry-run", arguments.dry_run, ("rerun",)),
               ("--strict", arguments.strict, ("rerun", "verify")), ("--all", arguments.all, ("list",)))
    foreign = [flag for flag, given, verbs in options if given and verb not in verbs]
    if foreign:
        raise UsageError(f"mlcube runs {verb} does not take {', '.join(foreign)}", f"mlcube runs {verb}")
    return _VERBS[verb](arguments)


# --- finding -------------------------------------------------------------------------------------------------------


def _known(arguments: Arguments) -> tuple[list[Found], str]:
    """The runs that the command line means, the newest first, and the workspace that they are of; "" for those of all cubes
    (--all, or no cube here). What is broken is a warning."""
    workspace = "" if getattr(arguments, "all", False) else _workspace(arguments)
    _settle_here()
    found, broken = runs_of(workspace) if workspace else load_all(_indexed())
    for sentence in broken:
        output.warn(sentence)
    return found, workspace


def _settle_here() -> None:
    """The records of what ran on this machine, and has ended unseen, are completed. Other machines are not asked: `mlcube ps`
    does that."""
    facts = machine(os.environ)
    directory = index_directory(facts.environment, facts.home)
    waiting = [entry for entry in read_index(directory).entries
               if not entry.settled and not (entry.supervised and entry.supervised.place)]
    if waiting:
        from mlcube_cli.process import ask
        from mlcube_cli.run_states import look_at

        look_at(directory, waiting, ask)


def _indexed() -> list[str]:
    """The run directories that the index of runs knows, the newest first."""
    facts = machine(os.environ)
    entries = read_index(index_directory(facts.environment, facts.home)).entries
    return list(dict.fromkeys(task.directory for entry in entries for task in reversed(entry.tasks)))


def _workspace(arguments: Arguments) -> str:
    """The workspace of the cube that is meant; "" where none was named, and none is here. Raises MLCubeError."""
    facts = machine(os.environ)
    request = ReadRequest(
        where=arguments.mlcube or ".", overrides=(), platform=None, workspace=arguments.workspace, run_files=(),
        environment=facts.environment, cwd=facts.cwd, cache=facts.cache, settings=False)
    try:
        reading = read_cube(request)
        if reading.cube is None:
            raise DefinitionError("this cube cannot be used", problems=reading.problems)
    except MLCubeError:
        if arguments.mlcube or arguments.workspace:
            raise
        return os.path.join(facts.cwd, "workspace") if os.path.isdir(os.path.join("workspace", ".mlcube")) else ""
    return reading.cube.workspace


def _chosen(arguments: Arguments) -> list[Found]:
    """The run, or the tasks of a command, that the second word means. Raises UsageError, DefinitionError."""
    word = arguments.words[1] if len(arguments.words) > 1 else None
    one = load_one(word) if word else None
    if one is not None:
        return [one]
    found, workspace = _known(arguments)
    try:
        return choose(found, word)
    except UsageError:
        if not workspace or word is None:
            raise
        return choose(load_all(_indexed())[0] or found, word)  # of another cube, or of another workspace


# --- list and show -------------------------------------------------------------------------------------------------


def _list(arguments: Arguments) -> int:
    found, workspace = _known(arguments)
    if arguments.json:
        output.json_result(_runs_data(found, workspace))
        return 0
    if not found:
        output.say(f"no run has left a record in {workspace}" if workspace else "no cube is here, and no run is known")
        return 0
    rows = [("RUN", "TASK", "STATUS", "STARTED", "SECONDS", "PLATFORM"), *(_row(run) for run in found)]
    if not workspace:
        rows = [(*row, cube) for row, cube in zip(rows, ("CUBE", *(run.text("root", "cube") for run in found)))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    _print(["  ".join(f"{word:<{width}}" for word, width in zip(row, widths)).rstrip() for row in rows])
    return 0


def _row(run: Found) -> tuple[str, ...]:
    seconds, place = run.record.get("seconds"), run.text("place", "execution")
    platform = run.text("platform") + (f" ({place})" if place and place != run.text("platform") else "")
    code = run.record.get("exit_code")
    status = run.status + (f" {code}" if run.status == "failed" else "")
    return (run.run_id, _line(run.text("task")), status, run.text("started")[:19].replace("T", " ") + "Z",
            f"{seconds:.1f}" if isinstance(seconds, (int, float)) else "-", _line(platform))


def _runs_data(found: Sequence[Found], workspace: str) -> dict[str, object]:
    """The document mlcube.runs.v1. `workspace`: "" where they are of several."""
    return {"schema": "mlcube.runs.v1", "workspace": workspace or None, "runs": [_row_data(run) for run in found]}


def _row_data(run: Found) -> dict[str, object]:
    keys = ("run_id", "cube", "task", "platform", "exit_code", "started", "ended", "seconds", "host", "user")
    return {**{key: run.record.get(key) for key in keys}, "status": run.status, "place": run.text("place", "execution"),
            "record": run.path}


def _show(arguments: Arguments) -> int:
    chosen = _chosen(arguments)
    if arguments.json:
        documents = [{**run.record, "status": run.status} for run in chosen]
        output.json_result(documents[0] if len(documents) == 1 else _runs_data(chosen, chosen[0].workspace))
        return 0
    for number, run in enumerate(chosen):
        _print([*([""] if number else []), *_details(run)])
    return 0


def _details(run: Found) -> list[str]:
    """A record for a person."""
    record, code = run.record, run.record.get("exit_code")
    image, git, gpus = record.get("image"), record.get("git"), record.get("gpus")
    engines, place, job = record.get("engines"), run.text("place", "execution"), run.text("job", "execution")
    pairs = [
        ("run", run.run_id),
        ("status", run.status + (f", exit code {code}" if code is not None else "") + _aside(run)),
        ("cube", f"{run.text('name', 'cube')} {run.text('version', 'cube')}".rstrip() + f"  {run.root}"),
        ("task", run.text("task")),
        ("platform", run.text("platform") + (f" on {place}" if place else "")),
        ("started", run.text("started")), ("ended", run.text("ended") or "-"), ("seconds", str(record.get("seconds") or "-")),
        ("job", job), ("node", run.text("node", "execution") if job else ""),
        ("by", f"{run.text('user')} on {run.text('host')}"),
        ("image", f"{image.get('name')}  {image.get('id')}" if isinstance(image, dict) else ""),
        ("engine", ", ".join(f"{one.get('name')} {one.get('version')}" for one in engines if isinstance(one, dict))
         if isinstance(engines, list) else ""),
        ("GPUs", _gpus(gpus) if isinstance(gpus, dict) else ""),
        ("definition", run.text("sha256", "definition")), ("code", run.text("sha256", "code")),
        ("commit", f"{git.get('commit') or 'none yet'}{_DIRT.get(git.get('dirty'), '')}" if isinstance(git, dict) else ""),
        *((which[:-1], _entry_line(entry)) for which in ("inputs", "outputs") for entry in entries_of(record, which)),
        *(("text", f"{one.get('name')} = {one.get('value')}") for one in _parameters(run) if one.get("type") == "text"),
        ("stdout", run.here(run.text("stdout", "logs"))), ("stderr", run.here(run.text("stderr", "logs"))),
        ("record", run.path),
    ]
    return [f"{name:<11} {_line(value)}" for name, value in pairs if value]


def _aside(run: Found) -> str:
    """What is to be said of a status that is nobody's last word."""
    if run.status == LOST:
        return f": {run.text('host')} has restarted, or what looked after it was killed"
    place = run.text("place", "execution")
    return f" when {place} was last heard of; mlcube ps asks it" if run.status == "running" and place else ""


_DIRT = {True: ", and changes that are not committed", False: "", None: " (changes were not looked for)"}


def _gpus(gpus: dict[str, object]) -> str:
    devices = gpus.get("devices")
    names = [str(one.get("name")) for one in devices if isinstance(one, dict)] if isinstance(devices, list) else []
    counted = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{counted}, driver {gpus.get('driver')}"


def _parameters(run: Found) -> list[dict[str, object]]:
    found = run.record.get("parameters")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _entry_line(entry: dict[str, object]) -> str:
    size, files = entry.get("size"), entry.get("files")
    told = [str(entry.get("kind") or "not measured")]
    told += [f"{size} bytes"] if size is not None else []
    told += [f"{files} files"] if entry.get("kind") == "directory" and files is not None else []
    told += [str(entry.get(key)) for key in ("sha256", "note") if entry.get(key)]
    return f"{entry.get('name')} = {entry.get('path')}  ({', '.join(told)})"


# --- verify --------------------------------------------------------------------------------------------------------


def _verify(arguments: Arguments) -> int:
    judged = [(run, verify(run)) for run in _chosen(arguments)]
    verdicts = [verdict for _, found in judged for verdict in found]
    differs = any(verdict.differs or (arguments.strict and verdict.verdict == "unknown") for verdict in verdicts)
    blind = bool(verdicts) and all(verdict.verdict == "unknown" for verdict in verdicts)
    if arguments.json:
        output.json_result({"schema": "mlcube.verify.v1", "same": not differs and not blind, "runs": [{
            "run_id": run.run_id, "task": run.text("task"), "status": run.status, "record": run.path,
            "checked": [_verdict_data(verdict) for verdict in found]} for run, found in judged]})
    else:
        for run, found in judged:
            _print([f"{run.run_id} {run.text('task')} ({run.status})", *_verdict_lines(found)])
    if blind and not differs:
        output.warn("nothing could be compared: the record does not say what the inputs and outputs were")
    return DefinitionError.exit_code if differs or blind else 0


def _verdict_data(verdict: Verdict) -> dict[str, object]:
    return {"name": verdict.name, "direction": verdict.direction, "path": verdict.path, "verdict": verdict.verdict,
            "how": verdict.how, "reason": verdict.reason,
            "files": [{"path": path, "change": change} for path, change in verdict.files]}


def _verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for one in verdicts:
        reason = f" ({one.reason})" if one.reason else ""
        lines.append(f"  {_SIGNS[one.verdict]:<8} {one.direction} {_line(f'{one.name} = {one.path}')}{_line(reason)}")
        lines += [f"             {_SIGNS[change]:<8} {_line(path)}" for path, change in one.files[:_FEW]]
        if len(one.files) > _FEW:
            lines.append(f"             and {len(one.files) - _FEW} more; --json lists all")
    return lines or ["  it has no inputs or outputs"]


def _rerun(arguments: Arguments) -> int:
    from mlcube_cli.cli.rerunning import rerun

    return rerun(arguments, _chosen(arguments))


def _line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def _print(lines: Sequence[str]) -> None:
    output.result("".join(printable(line) + "\n" for line in lines))


_VERBS = {"list": _list, "show": _show, "verify": _verify, "rerun": _rerun}
