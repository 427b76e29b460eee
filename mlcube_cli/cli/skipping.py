"""`run --skip-unchanged` and `--explain`: each task judged by its last record, before all of them and just before its turn."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mlcube_cli.archive import Found, newest_first
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.command import Plan
from mlcube_cli.errors import DefinitionError, MLCubeError
from mlcube_cli.graph import waits_for
from mlcube_cli.job import Job
from mlcube_cli.process import ask
from mlcube_cli.records import read_record
from mlcube_cli.report import on_one_line
from mlcube_cli.run_index import read_entry
from mlcube_cli.run_states import look_at
from mlcube_cli.runner import HOST, RUNNERS
from mlcube_cli.unchanged import Change, Image, Now, content_changes, decided_changes, last_run


@dataclass(frozen=True)
class Skipped:
    """A task that does not run. `job` has this machine's paths; `entry`: what the result says of it."""

    job: Job
    entry: Mapping[str, object]


@dataclass(frozen=True)
class Judged:
    """What was found of the tasks of a command line before it starts."""

    skipped: tuple[Skipped, ...] = ()
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)  # of those that run, by run id
    again: tuple[str, ...] = ()  # the tasks that are judged again before their turn, and may be left out then


def narrow(arguments: Arguments, prepared: Prepared, plans: Sequence[Plan]) -> tuple[Prepared, tuple[Plan, ...]]:
    """The command line without the tasks that need not run, and why the others do. Raises MLCubeError.

    A task that waits for one that runs, or for its image, is kept: it is judged again before its turn (`skipped_now`), or runs,
    where we do not see that end: in the background, and on another machine.
    """
    before = waits_for(prepared.cube, prepared.jobs_here, os.path.realpath)
    kept: list[int] = []
    skipped: list[Skipped] = []
    changes: dict[str, tuple[Change, ...]] = {}
    again: list[str] = []
    for number, job in enumerate(prepared.jobs_here):
        run, found = _judge(arguments, prepared, number, plans[number])
        earlier = [f"task '{prepared.jobs_here[other].task}'" for other in kept if other in before[number]]
        earlier += [step.title for step in plans[number].preparation]  # which may make another image
        if arguments.skip_unchanged and run and not found and not earlier:
            skipped.append(Skipped(job, _entry(job, run)))
            _say_skipped(arguments, job, run)
            continue
        kept.append(number)
        changes[job.run_id] = found
        again += [job.task] if earlier and arguments.skip_unchanged and _is_seen(arguments, prepared) else []
        if arguments.explain:
            _explain(arguments, prepared, job, found, earlier)
    prepared = replace(_of_tasks(prepared, kept), judged=Judged(tuple(skipped), changes, tuple(again)))
    left = tuple(plans[number] for number in kept)
    told = {note for plan in left for note in plan.notes}
    for note in dict.fromkeys(note for plan in plans for note in plan.notes if note not in told):
        output.warn(note)  # as where it runs: that its image is older than its build files, for one
    if arguments.dry_run and left:
        left = (replace(left[0], notes=(*left[0].notes, *_notes(prepared))), *left[1:])
    return prepared, left


def skipped_now(arguments: Arguments, prepared: Prepared, number: int, plan: Plan) -> tuple[Mapping[str, object] | None,
                                                                                           tuple[Change, ...]]:
    """Just before a task's turn, when those before it have ended: what the result says of it where it need not run, or None;
    and what has changed."""
    job = prepared.jobs_here[number]
    run, found = _judge(arguments, replace(prepared, facts=prepared.afresh()), number, plan)
    if arguments.skip_unchanged and run and not found:
        _say_skipped(arguments, job, run)
        return _entry(job, run), ()
    if arguments.explain and found and not (prepared.judged and prepared.judged.changes.get(job.run_id)):
        _explain(arguments, prepared, job, found)
    return None, found


def nothing_to_run(arguments: Arguments, prepared: Prepared) -> int:
    """All tasks are as they were: 0."""
    from mlcube_cli.cli.concluding import Result, conclude
    from mlcube_cli.cli.executing import finish_for_make
    from mlcube_cli.cli.running import show

    if arguments.dry_run:
        return show(Plan(prepared.platform_name, (), notes=_notes(prepared)), arguments.json)
    result = Result()
    with conclude(arguments, prepared, result):
        if arguments.stamp:
            finish_for_make(arguments, prepared, time.time(), result.tasks)
    return result.exit_code


def all_entries(prepared: Prepared, tasks: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The tasks of the result, those that did not run among them, in the order of the command line; and what has changed."""
    if prepared.judged is None:
        return list(tasks)
    changes = prepared.judged.changes
    pairs = [(_place(one.job.run_id), one.entry) for one in prepared.judged.skipped]
    for job, entry in zip(prepared.jobs_here, tasks):  # they come in their order
        found = entry.get("changes", [change.as_data() for change in changes.get(job.run_id, ())])
        pairs.append((_place(job.run_id), {**entry, "changes": found}))
    return [entry for _, entry in sorted(pairs, key=lambda pair: pair[0])]


# --- judging ---------------------------------------------------------------------------------------------------------


def _judge(arguments: Arguments, prepared: Prepared, number: int, plan: Plan) -> tuple[Found | None, tuple[Change, ...]]:
    """The task's last run, and what has changed since; without --explain no more than the first thing that has."""
    jobs = prepared.jobs_here
    job = jobs[number]
    others = tuple(argument.host_path for one in jobs for argument in one.paths)
    now = Now(job.cube, job.task, prepared.platform_name, job.arguments, plan, _image(prepared, number, plan),
              RUNNERS[prepared.platform.runner].kind == HOST, (job.workspace, *others))
    run = last_run(newest_first(job.workspace), now)
    if run is not None:
        run = _as_it_stands(run)
        now = replace(now, plan=_with_kinds_of(run, prepared, number, plan))
    found = decided_changes(run, now)
    for which in ("inputs", "outputs", "code") if run else ():
        if found and not arguments.explain:
            break
        found += content_changes(run, now, which) if run else []
    return run, tuple(found)


def _image(prepared: Prepared, number: int, plan: Plan) -> Image | None:
    image = plan.tasks[0].image
    if image is None:
        return None
    name, identifier = image
    ids = {identifier} - {""}
    if identifier and not os.path.isabs(name):
        return Image(name, ids=frozenset(ids))
    try:
        found, _ = prepared.decide(partial(prepared.runner.identify, prepared.jobs[number]))
    except MLCubeError:
        return Image(name, ids=frozenset(ids))
    if not found.present:
        return Image(name)
    return Image(name, found.sha256, frozenset(ids | ({found.id, found.inputs} - {""})))


def _as_it_stands(run: Found) -> Found:
    """The run with its record completed, where it has ended in the background since."""
    if run.status not in ("running", "queued"):
        return run
    entry = read_entry(os.path.join(here(), f"{run.command_id}.json"))
    if entry is None:
        return run
    (standing,) = look_at(here(), (entry,), ask)
    try:
        run = Found(run.directory, read_record(run.directory))
    except DefinitionError:
        return run
    task = next((one for one in standing.entry.tasks if one.run_id == run.run_id and not one.over), None)
    return run if task is None else replace(run, record={**run.record, "status": task.status})  # the record's is older


def _with_kinds_of(run: Found, prepared: Prepared, number: int, plan: Plan) -> Plan:
    """The plan as it would be if outputs whose kind nobody knew then were not here (RULINGS 6): the words are others."""
    recorded = run.record.get("parameters")
    unknown = {one.get("name") for one in recorded if isinstance(one, dict) and one.get("type") == "unknown"} \
        if isinstance(recorded, list) else set()
    job = prepared.jobs[number]
    if all(argument.name not in unknown or argument.type == "unknown" for argument in job.paths):
        return plan
    as_then = replace(job, arguments=tuple(replace(argument, type="unknown") if argument.name in unknown else argument
                                           for argument in job.arguments))
    return prepared.decide(partial(prepared.plan, as_then))[0]


def _of_tasks(prepared: Prepared, numbers: Sequence[int]) -> Prepared:
    """The command line with these of its tasks only."""
    remote = prepared.remote
    if remote is not None:
        from mlcube_cli.cli.remote import with_jobs

        remote = with_jobs(remote, prepared.cube, tuple(remote.jobs[number] for number in numbers))
    return replace(prepared, jobs=tuple(prepared.jobs[number] for number in numbers), remote=remote,
                   wishes=tuple(prepared.wishes[number] for number in numbers))


# --- saying ----------------------------------------------------------------------------------------------------------


def _entry(job: Job, run: Found) -> dict[str, object]:
    return {"task": job.task, "status": "succeeded", "exit_code": 0, "seconds": 0.0, "run_id": run.run_id, "record": run.path,
            "image": run.record.get("image"), "skipped": True, "changes": []}


def _say_skipped(arguments: Arguments, job: Job, run: Found) -> None:
    how = "would be" if arguments.dry_run else "is"
    output.say(f"task '{job.task}' {how} skipped: nothing has changed since run {run.run_id}")


def _explain(arguments: Arguments, prepared: Prepared, job: Job, found: Sequence[Change], earlier: Sequence[str] = ()) -> None:
    runs = "would run" if arguments.dry_run else "runs"
    after = ", ".join(dict.fromkeys(earlier))
    for change in found:
        output.say(f"task '{job.task}' {runs}: {on_one_line(change.message)}")
    if found:
        return
    if not after or not arguments.skip_unchanged:
        output.say(f"task '{job.task}' {runs}, though nothing has changed")
    elif _is_seen(arguments, prepared):
        output.say(f"task '{job.task}' {runs} unless all is as it was after: {after}; so far nothing has changed")
    else:
        output.say(f"task '{job.task}' {runs}, since this comes before it: {after}")


def _is_seen(arguments: Arguments, prepared: Prepared) -> bool:
    """Do we see a task end before the next one begins?"""
    return not arguments.detach and prepared.remote is None and (prepared.queue is None or prepared.queue.allocated)


def _notes(prepared: Prepared) -> tuple[str, ...]:
    """Of a dry run: what is not in its plan."""
    judged = prepared.judged or Judged()
    left_out = [f"task '{one.job.task}' is left out: nothing has changed since run {one.entry['run_id']}"
                for one in judged.skipped]
    return (*left_out, *(f"mlcube run judges task '{task}' again before its turn, which this script does not do"
                         for task in judged.again))


def _place(run_id: str) -> int:
    last = run_id.rpartition("-")[2]
    return int(last) if last.isdigit() else 0
