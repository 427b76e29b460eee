"""`mlcube doctor`: could this cube's tasks run on this platform? Everything is looked at, and a cluster's node, too."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from mlcube_cli.batch import Batch, Part
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.lock import identify
from mlcube_cli.cli.preparing import Prepared, preparation_job, prepare
from mlcube_cli.command import Command, Plan
from mlcube_cli.durations import find_seconds
from mlcube_cli.errors import MachineError, MLCubeError, UsageError
from mlcube_cli.facts import Observation, PathFact, PathKind, Probe
from mlcube_cli.process import ask
from mlcube_cli.provenance import engine_data
from mlcube_cli.records import run_directory
from mlcube_cli.report import printable
from mlcube_cli.there import look_there

_PATIENCE = "5m"  # for a node to be free
_FILES = ("sif", "sandbox")  # kinds of images that nodes must see


@dataclass(frozen=True)
class Finding:
    """What one look has shown. `status`: "ok", "note" or "fault"; `hint`: what to do about it."""

    subject: str
    status: str
    text: str
    hint: str = ""


def doctor(arguments: Arguments) -> int:
    """0 when nothing is at fault, else 4; what cannot be decided at all raises as `run` does."""
    patience = find_seconds(arguments.timeout or _PATIENCE)
    if patience is None:
        raise UsageError(f"--timeout {arguments.timeout}: this is no length of time", "write 90, 30s, 5m or 1h")
    prepared = prepare(Arguments(**{**vars(arguments), "dry_run": True, "doing": "looking at"}))
    findings = []
    for finding in _findings(prepared, patience):
        findings.append(finding)
        if not arguments.json:
            _show(finding)
    if arguments.json:
        output.json_result({"schema": "mlcube.doctor.v1", "platform": prepared.platform_name,
                            "well": all(one.status != "fault" for one in findings),
                            "findings": [vars(one) for one in findings]})
    return MachineError.exit_code if any(one.status == "fault" for one in findings) else 0


def _show(finding: Finding) -> None:
    hint = f"\n       hint: {finding.hint}" if finding.hint else ""
    output.result(printable(f"{finding.status:<5}  {finding.subject}: {finding.text}{hint}\n"))


def _findings(prepared: Prepared, patience: float) -> Iterator[Finding]:
    cube = prepared.cube
    yield Finding("cube", "ok", f"{cube.name}, {os.path.join(cube.root, cube.file)}")
    where = f" on {prepared.remote.name}" if prepared.remote else ""
    yield Finding("platform", "ok", f"{prepared.platform_name}: {prepared.platform.name} (runner {prepared.platform.runner})"
                  + (f" in jobs of {prepared.queue.name}" if prepared.queue else "") + where)
    yield from _engine(prepared)
    image = yield from _image(prepared)
    if prepared.queue:
        yield from _cluster(prepared)
        yield from _node(prepared, image, patience)


def _engine(prepared: Prepared) -> Iterator[Finding]:
    reason, _ = prepared.decide(lambda known: prepared.runner.available(prepared.platform, known))
    subject = "engine" if not prepared.queue else "engine on the machine that jobs are submitted from"
    if reason:
        yield Finding(subject, "note" if prepared.queue else "fault", reason)
        return
    try:
        questions, _ = prepared.decide(lambda known: prepared.runner.versions(preparation_job(prepared), known))
    except MLCubeError as error:
        yield Finding(subject, "note", error.message, error.hint or "")
        return
    found = engine_data(questions, lambda command, seconds: _ask(prepared, command, seconds))
    yield Finding(subject, "ok", ", ".join(f"{one['name']} {one['version']}" for one in found) or "it is there")


def _image(prepared: Prepared) -> Generator[Finding, None, str]:
    """Returns the path of the image, where it is a file that is there."""
    try:
        image = identify(prepared, renewing=False)
    except MLCubeError as error:
        yield Finding("image", "fault", error.message, error.hint or "")
        return ""
    if image.present:
        yield Finding("image", "ok", image.name)
    else:
        yield Finding("image", "note", f"{image.name} is not there yet",
                      f"mlcube configure --platform {prepared.platform_name} makes it, and so does the first run")
    return image.name if image.present and image.kind in _FILES else ""


def _cluster(prepared: Prepared) -> Iterator[Finding]:
    """Would the batch system take a job of this platform?"""
    queue = prepared.queue
    assert queue is not None
    job = preparation_job(prepared)
    directory = run_directory(job.workspace, job.command_id)
    text = queue.scheduler.batch_file(queue.platform, job, Plan(queue.name, ()), directory, "")
    batch = Batch(directory, (Part(directory, (), text),))
    try:
        notes, _ = prepared.decide(lambda known: queue.scheduler.check(queue.platform, batch, (job,), known))
    except MLCubeError as error:
        yield Finding("batch system", "fault", error.message, error.hint or "")
        return
    yield from (Finding("batch system", "note", note) for note in notes)
    yield Finding("batch system", "ok", "it would take a job of this platform")


def _node(prepared: Prepared, image: str, patience: float) -> Iterator[Finding]:
    """What a node sees, by a job of a few seconds."""
    queue = prepared.queue
    assert queue is not None
    job = queue.on_node(preparation_job(prepared))
    wanted = [path for path in dict.fromkeys((image, job.root, job.workspace)) if path]
    paths = _there_by_now(prepared, wanted)
    try:
        versions, _ = prepared.decide(lambda known: prepared.runner.versions(job, known))
    except MLCubeError:
        versions = ()
    command = queue.scheduler.look_at_node(queue.platform, job, paths, versions)
    yield from _read(_ask(prepared, command, patience), paths, [name for name, _ in versions])


def _there_by_now(prepared: Prepared, paths: list[str]) -> list[str]:
    """The paths, or the directory above one that the first run makes: nodes can be asked for what is there."""
    questions, remote = tuple(PathKind(path) for path in paths), prepared.remote
    if remote is None:
        found, _ = prepared.decide(lambda known: [known.path(path) for path in paths])
    else:  # not through the facts, for which what is to be sent is there already
        answers = look_there(remote.way.place, ask, questions, remote.way.reasons)
        found = [answer for answer in map(answers.get, questions) if isinstance(answer, PathFact)]
    return list(dict.fromkeys(fact.ancestor or path if fact.kind == "absent" else path for path, fact in zip(paths, found)))


def _ask(prepared: Prepared, command: Command, seconds: float) -> Observation:
    """What this command says on the machine that runs the tasks, or that jobs are submitted from."""
    remote = prepared.remote
    if remote is None:
        return ask(command, seconds)
    answer = look_there(remote.way.place, ask, (Probe(command),), remote.way.reasons, int(seconds))[Probe(command)]
    assert isinstance(answer, Observation)
    return answer


def _read(said: Observation, paths: list[str], wanted: list[str]) -> Iterator[Finding]:
    answers = [line.split(" ", 2) for line in said.stdout.splitlines()]
    node = next((words[1] for words in answers if words[0] == "node" and len(words) > 1), "")
    if not node:
        yield Finding("node", "fault", f"none has answered: {said.last_line(f'exit code {said.exit_code}')}",
                      "sinfo shows whether nodes are free; --timeout 1h waits longer for one")
        return
    yield Finding("node", "ok", f"{node} has answered")
    for state, number in [words[:2] for words in answers if len(words) == 2 and words[1].isdigit()]:
        path = paths[int(number) - 1]
        if state in ("absent", "unreadable"):
            yield Finding("node", "fault", f"{node} does not see {path}" if state == "absent" else f"{node} cannot read {path}",
                          "put the cube, --workspace and the image on a file system that all nodes have, too")
        elif state == "readable" and path == paths[-1]:
            yield Finding("node", "fault", f"{node} cannot write into {path}", "a workspace is written to: name another one")
        else:
            yield Finding("node", "ok", f"{node} sees {path}")
    found = {words[1]: words[2] for words in answers if words[0] == "version" and len(words) == 3}
    for name in wanted:
        if name in found:
            yield Finding("node", "ok", f"{node} has {name}: {found[name]}")
        else:
            yield Finding("node", "fault", f"{node} has no {name} that answers",
                          "is it a module? Name it in the slurm platform's 'modules', or in 'setup'")
