"""What has changed since a task last ran: its record against how things are now (`run --skip-unchanged`, `runs rerun`).

What a record cannot tell counts as changed: a task is only left out where all of it was compared.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlcube_cli.archive import Found
from mlcube_cli.command import Plan
from mlcube_cli.job import Argument
from mlcube_cli.measures import OURS, Measure, differences, load_manifest
from mlcube_cli.provenance import measure_code
from mlcube_cli.relocation import meet
from mlcube_cli.report import plan_data
from mlcube_cli.verification import SAME, UNKNOWN, Verdict, verify_some

NEVER, LAST_RUN, PARAMETER, PLATFORM, IMAGE, DEFINITION, CODE, INPUT, OUTPUT = (
    "never-ran", "last-run", "parameter", "platform", "image", "definition", "code", "input", "output")
_MAKE = ["mkdir", "-p", "--"]
_FEW = 5  # names of files in a sentence


@dataclass(frozen=True)
class Change:
    """Something that is not as the record says, or cannot be compared. `name`: of the parameter, where it is one's."""

    kind: str  # of the constants above
    message: str
    name: str = ""
    files: tuple[tuple[str, str], ...] = ()  # of an input or output that is a directory: (path in it, changed | gone | new)

    def as_data(self) -> dict[str, object]:
        """As it stands in mlcube.result.v1."""
        return {"kind": self.kind, "name": self.name, "message": self.message,
                "files": [{"path": path, "change": change} for path, change in self.files]}


@dataclass(frozen=True)
class Image:
    """An image that is here. `sha256`: of its file; `ids`: what else it is known by; neither: it is not here."""

    name: str
    sha256: str = ""
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Now:
    """A task as it would run now, with this machine's paths."""

    cube: str
    task: str
    platform: str  # as the user knows it
    arguments: tuple[Argument, ...]
    plan: Plan
    image: Image | None  # None: it runs in none
    runs_code: bool  # it runs the cube's files, and not an image's
    others: tuple[str, ...] = ()  # paths that tasks of the command read and write: they are no code

    @property
    def outputs(self) -> frozenset[str]:
        return frozenset(argument.host_path for argument in self.arguments
                         if argument.text is None and argument.direction == "output")


def last_run(runs: Iterable[Found], now: Now) -> Found | None:
    """Of these runs, the newest first: the task's newest into the same outputs; else its newest at all; None: it never ran."""
    newest: Found | None = None
    for run in runs:
        if run.text("task") != now.task or run.text("name", "cube") != now.cube:
            continue
        newest = newest or run
        if frozenset(run.here(str(entry.get("path"))) for entry in _entries(run, "outputs")) == now.outputs:
            return run
    return newest


def decided_changes(run: Found | None, now: Now) -> list[Change]:
    """What differs of what was asked for and decided; nothing of the disk is looked at. Pure."""
    if run is None:
        return [Change(NEVER, "it never ran here")]
    found: list[Change] = []
    if run.status != "succeeded":
        code = run.record.get("exit_code")
        ended = f"is {run.status}" if run.status in ("running", "queued") else f"ended as '{run.status}'"
        found.append(Change(LAST_RUN, f"its last run ({run.run_id}) {ended}" + (f", exit code {code}" if code else "")))
    if run.text("platform") != now.platform:
        found.append(Change(PLATFORM, f"the platform was '{run.text('platform')}', and is '{now.platform}'"))
    found += _parameter_changes(run, now)
    found += _image_changes(run, now)
    if not found:  # else the words differ for that reason
        found += [Change(DEFINITION, sentence) for sentence in plan_differences(run, now.plan)]
    return found


def content_changes(run: Found, now: Now, which: str) -> list[Change]:
    """What differs of the `code`, the `inputs` or the `outputs`: the disk is read, but for files that are known to be what
    they were when they were read last."""
    if which == "code":
        return _code_changes(run, now) if now.runs_code else []
    return [change for verdict in verify_some(run, which, known=True) for change in _told(verdict)]


# --- what was asked for and decided ----------------------------------------------------------------------------------


def _entries(run: Found, which: str) -> list[Mapping[str, object]]:
    listed = run.record.get(which)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _parameter_changes(run: Found, now: Now) -> list[Change]:
    before = {str(one.get("name")): _value(run, one) for one in _entries(run, "parameters")}
    after = {one.name: one.host_path if one.text is None else one.text for one in now.arguments}
    return [Change(PARAMETER, f"parameter '{name}' {_was_and_is(before.get(name), after.get(name))}", name)
            for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]


def _value(run: Found, parameter: Mapping[str, object]) -> str:
    value = str(parameter.get("value"))
    return value if parameter.get("type") == "text" else run.here(value)


def _was_and_is(before: str | None, after: str | None) -> str:
    if before is None:
        return f"was not given, and is '{after}'"
    return f"was '{before}', and is {'not given' if after is None else repr(after)}"


def _image_changes(run: Found, now: Now) -> list[Change]:
    image = now.image
    if image is None:
        return []  # of a record that has one the platform differs, or the words do
    record = run.record.get("image")
    kept = {key: str(record.get(key) or "") for key in ("id", "sha256")} if isinstance(record, dict) else {}
    before = {one for one in kept.values() if one}
    after = {one for one in (image.sha256, *image.ids) if one}
    if not after:
        return [Change(IMAGE, f"image {image.name} is not here")]
    if not before:
        return [Change(IMAGE, f"which image {image.name} was, the record does not say")]
    if kept.get("sha256") and image.sha256:
        before, after = {kept["sha256"]}, {image.sha256}
    if before & after:
        return []
    return [Change(IMAGE, f"image {image.name} is another one: it was {min(before)}, and is {min(after)}")]


def plan_differences(run: Found, plan: Plan) -> list[str]:
    """Where the commands of the task differ from the record's, run ids aside: a sentence, or none. Pure."""
    recorded = run.record.get("plan")
    old = _steps(recorded, run.run_id, _moved(run)) if isinstance(recorded, dict) else []
    new = _steps(plan_data(plan), plan.tasks[0].run_id, {})
    for before, now in zip(old, new):
        if before != now:
            return [f"step '{now.get('title')}' is another one: {_first_difference(before, now)}"]
    return [] if len(old) == len(new) else [f"the task has {len(new)} steps, and had {len(old)}"]


def _moved(run: Found) -> dict[str, str]:
    """Directories of the run that are elsewhere now, with where."""
    pairs = ((run.text("workspace"), run.workspace), (run.text("root", "cube"), run.root))
    return {before: now for before, now in pairs if before and before != now}


def _steps(data: Mapping[str, object], run_id: str, moved: Mapping[str, str]) -> list[dict[str, object]]:
    """The steps of the task, with nothing in them that each run has of its own, and with paths as they are now."""
    tasks = data.get("tasks")
    steps = tasks[0].get("steps") if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) else []
    text = json.dumps(steps).replace(run_id, "RUN").replace(run_id.rpartition("-")[0], "RUN")
    if moved:
        words = {json.dumps(before)[1:-1]: json.dumps(now)[1:-1] for before, now in moved.items()}
        names = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        text = re.sub(rf"(?<![\w./-])(?:{names})(?![\w.-])", lambda found: words[found[0]], text)
    found = json.loads(text)
    listed = [_without_ours(step) for step in found if isinstance(step, dict)] if isinstance(found, list) else []
    return [step for step in listed if step.get("argv") != _MAKE]


def _without_ours(step: Mapping[str, object]) -> dict[str, object]:
    """The step, without our own directory: it is made by the first run in a workspace, where a mount hides it."""
    argv = step.get("argv")
    if not isinstance(argv, list) or argv[:len(_MAKE)] != _MAKE:
        return dict(step)
    return {**step, "argv": [word for word in argv if os.path.basename(str(word)) != OURS]}


def _first_difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    for key in (*before, *(key for key in now if key not in before)):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            gone, added = [word for word in old if word not in new], [word for word in new if word not in old]
            old, new = gone or old, added or new
        if isinstance(old, dict) and isinstance(new, dict):
            names = [name for name in (*old, *new) if old.get(name, "") != new.get(name, "")]
            old, new = {name: old.get(name) for name in names}, {name: new.get(name) for name in names}
        return f"{key} was {json.dumps(old)}, and is {json.dumps(new)}"
    return "in its order"


# --- contents --------------------------------------------------------------------------------------------------------


def _told(verdict: Verdict) -> list[Change]:
    if verdict.verdict == SAME:
        return []
    what = f"{verdict.direction} '{verdict.name}'"
    kind = INPUT if verdict.direction == "input" else OUTPUT
    if verdict.verdict == UNKNOWN:
        return [Change(kind, f"{what} cannot be compared: {verdict.reason}", verdict.name, verdict.files)]
    told = {"changed": "has changed", "gone": "is gone", "new": "was not there"}[verdict.verdict]
    return [Change(kind, f"{what} {told}: {_named(verdict.files) or verdict.path}", verdict.name, verdict.files)]


def _code_changes(run: Found, now: Now) -> list[Change]:
    code = run.record.get("code")
    if not isinstance(code, dict) or not code.get("manifest"):
        note = str(code.get("note") or "") if isinstance(code, dict) else ""
        return [Change(CODE, f"the cube's files cannot be compared: {note or 'the record does not have them'}")]
    measured = measure_code(run.root, run.workspace, str(code.get("hash")))
    note = measured.note or str(code.get("note") or "")
    names = code_differences(run, measured, now.others) if measured.manifest else None
    if names is None:
        return [Change(CODE, f"the cube's files cannot be compared: {note or 'which they were is not known any more'}")]
    if not names:
        return [Change(CODE, f"the cube's files cannot be compared: {note}")] if note else []
    return [Change(CODE, f"the cube's files have changed: {_named(names)}", files=tuple(names))]


def code_differences(run: Found, measured: Measure, others: Iterable[str] = ()) -> list[tuple[str, str]] | None:
    """(path in the cube, `changed` | `gone` | `new`) of the cube's files that are not as in the record; None where its list of
    them is not kept any more. Those of the definition do not count: its words do. Nor does what is at, above or below `others`.

    `measured`: the cube's files now.
    """
    code = run.record.get("code")
    kept = str(code.get("manifest")) if isinstance(code, dict) else ""
    if measured.manifest_name == kept:
        return []
    before = load_manifest(run.workspace, kept)
    if before is None:
        return None
    stated = file_digests(run.record.get("definition"))
    return [(path, change) for path, change in differences(before, measured.manifest)
            if path not in stated and not any(meet(os.path.join(run.root, path), other) for other in others)]


def file_digests(definition: object) -> dict[str, object]:
    """The sha256 of each file of a record's `definition`, by name."""
    files = definition.get("files") if isinstance(definition, dict) else None
    return {str(file.get("path")): file.get("sha256") for file in files} if isinstance(files, list) else {}


def _named(files: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{path} ({change})" for path, change in files[:_FEW]) + (", ..." if len(files) > _FEW else "")
