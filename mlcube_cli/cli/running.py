"""`run` and `configure`: read, decide, then show or start; everything is checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.preparing import Prepared, preparation_job, prepare
from mlcube_cli.cli.words import parse_duration
from mlcube_cli.command import Plan, merge
from mlcube_cli.errors import UsageError
from mlcube_cli.facts import Facts, for_each
from mlcube_cli.runner import HOST, RUNNERS

if TYPE_CHECKING:
    pass


def run(arguments: Arguments) -> int:
    """`mlcube run`: 0, the task's own exit code, or one of CONTRACT's."""
    if arguments.deps and not arguments.stamp:
        raise UsageError("--deps needs --stamp: the stamp is the target whose prerequisites it lists", "add --stamp FILE")
    if arguments.detach:
        from mlcube_cli.cli.words import refuse_attendance

        refuse_attendance(arguments)
    if arguments.deps:
        from mlcube_cli.cli.make import can_hold

        if not can_hold(arguments.stamp):
            raise UsageError(f"--stamp: no make rule can mean a file called {arguments.stamp!r}", "give it a simpler name")
    arguments.timeout = parse_duration(arguments.timeout, "--timeout") if arguments.timeout else None
    arguments.grace = parse_duration(arguments.grace, "--grace")
    prepared = prepare(arguments)
    plans, facts = _plans(arguments, prepared)
    if judge := getattr(arguments, "judge", None):  # of `runs rerun`
        judge(prepared, plans)
    if getattr(arguments, "skip_unchanged", False) or getattr(arguments, "explain", False):
        from mlcube_cli.cli.skipping import narrow, nothing_to_run

        prepared, plans = narrow(arguments, replace(prepared, facts=facts), plans)
        if not plans:
            return nothing_to_run(arguments, prepared)
    if prepared.remote or (prepared.queue and not prepared.queue.allocated):
        from mlcube_cli.cli.attending import run_there

        return run_there(arguments, replace(prepared, facts=facts), plans)
    if arguments.dry_run:
        return show(merge(plans), arguments.json)
    from mlcube_cli.cli.executing import execute
    from mlcube_cli.cli.interrupts import refuse_detaching

    refuse_detaching(arguments, prepared.platform_name)
    if not _claimed(plans):  # somebody pruned the cache in the very moment
        plans, facts = _plans(arguments, prepared)
    if arguments.detach:
        from mlcube_cli.cli.detaching import detach

        return detach(arguments, replace(prepared, facts=facts), plans)
    return execute(arguments, replace(prepared, facts=facts), plans)


def _plans(arguments: Arguments, prepared: Prepared) -> tuple[tuple[Plan, ...], Facts]:
    """The plan of each task, and what was looked up for it. Raises MLCubeError."""
    plans, facts = prepared.decide(
        lambda known: for_each(lambda job: prepared.plan(job, known), prepared.jobs))
    return _with_flag_notes(arguments, prepared, plans), facts


def _claimed(plans: Sequence[Plan]) -> bool:
    """Note the use of what the plans take from the cache; whether it is there, or they make it themselves."""
    from mlcube_cli.cache.uses import claim

    there = [claim(step.keep) for plan in plans for step in plan.steps if step.keep]
    return all(there) or any(plan.preparation for plan in plans)


def _with_flag_notes(arguments: Arguments, prepared: Prepared, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """The plans, and what of the command line their platform cannot hold its task to."""
    protected = any(argument.direction == "input" for job in prepared.jobs for argument in job.paths)
    if arguments.mount != "ro" or RUNNERS[prepared.platform.runner].kind != HOST or not protected:
        return plans
    note = f"--mount=ro: platform '{prepared.platform.name}' cannot keep a task from writing to its inputs"
    return tuple(replace(plan, notes=(*plan.notes, note)) for plan in plans)


def configure(arguments: Arguments) -> int:
    """`mlcube configure`: prepares the platform, whether or not it was prepared before."""
    if "=" in "".join(word for word in arguments.words if not os.path.lexists(word)):
        raise UsageError("configure takes no task parameters", "give them to mlcube run")
    prepared = prepare(arguments)
    job = preparation_job(prepared, arguments.dry_run, arguments.update_lock)
    plan, facts = prepared.decide(lambda known: prepared.runner.configure(job, known, arguments.force))
    prepared = replace(prepared, facts=facts)
    if arguments.update_lock and RUNNERS[prepared.platform.runner].kind == HOST:
        raise UsageError(f"--update-lock: platform '{prepared.platform.name}' has no image to lock",
                         "leave it out, or choose a platform that runs containers")
    if arguments.update_lock and arguments.dry_run:
        plan = replace(plan, notes=(*plan.notes, f"then {prepared.lock.shown} is renewed: this script does not do that"))
    afterwards = _renewal(prepared) if arguments.update_lock and not arguments.dry_run else None
    if prepared.remote or (prepared.queue and prepared.queue.prepares_in_job and plan.steps):
        from mlcube_cli.cli.attending import configure_there

        return configure_there(arguments, replace(prepared, jobs=(job,)), plan, afterwards)
    if arguments.dry_run:
        return show(plan, arguments.json)
    from mlcube_cli.cli.executing import execute

    return execute(arguments, prepared, (plan,), afterwards)


def _renewal(prepared: Prepared) -> Callable[[], object]:
    """What renews the lock in the end. Raises MLCubeError where that could not be written."""
    from mlcube_cli.cli.lock import refuse_unwritable, renew

    refuse_unwritable(prepared.lock.path)
    return lambda: renew(prepared)


def show(plan: Plan, as_json: bool) -> int:
    """Print the plan, as a script or as JSON; nothing is started."""
    if as_json:
        from mlcube_cli.report import plan_data

        output.json_result(plan_data(plan))
    else:
        from mlcube_cli.script import script

        output.result(script(plan))
    return 0
