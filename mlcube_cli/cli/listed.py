"""A command line's entry in the index of runs, from its start to its end; and where the index is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from mlcube_cli.cli import output
from mlcube_cli.cli.preparing import Prepared
from mlcube_cli.command import Plan
from mlcube_cli.errors import MachineError
from mlcube_cli.family import Family
from mlcube_cli.holding import hold, refuse_held
from mlcube_cli.locks import myself, start_time
from mlcube_cli.observe import home_of
from mlcube_cli.process import ask
from mlcube_cli.records import run_directory
from mlcube_cli.run_index import (
    Entry,
    RunTask,
    Started,
    Supervised,
    concluded,
    forget,
    index_directory,
    leftovers_of,
    make_room,
    with_tasks,
    write_entry,
)


def here() -> str:
    """The directory of the index of whoever calls."""
    return index_directory(os.environ, home_of(os.environ))


def entry_for(prepared: Prepared, plan: Plan | None = None, supervised: Supervised | None = None,
              fetch: dict[str, object] | None = None) -> Entry:
    """The entry of a command line with tasks, all of them queued. `plan`: what this very process is to carry out."""
    jobs = prepared.jobs_here
    tasks = tuple(RunTask(job.task, job.run_id, run_directory(job.workspace, job.run_id)) for job in jobs)
    cube = prepared.cube
    carrier = (prepared.remote or prepared.queue or prepared).platform.runner
    return Entry(jobs[0].command_id, time.time(), cube.name, cube.root, jobs[0].workspace, prepared.platform_name, carrier,
                 tasks, None, supervised, fetch, leftovers=leftovers_of(plan) if plan else (), writes=_writes(prepared))


def _writes(prepared: Prepared) -> dict[str, tuple[str, ...]]:
    """The outputs' paths by the machine that has them, links resolved where that is this one."""
    remote, found = prepared.remote, dict[str, dict[str, None]]()
    for job in remote.jobs if remote else prepared.jobs:
        for argument in job.paths:
            if argument.direction == "output":
                stays = remote is not None and not remote.relocation.moves(argument.host_path)
                path = argument.host_path if stays else os.path.realpath(argument.host_path)
                found.setdefault(remote.way.place.name if remote and stays else "", {})[path] = None
    return {place: tuple(paths) for place, paths in found.items()}


def refuse_busy_outputs(prepared: Prepared) -> None:
    """Raises MachineError where another run writes into an output of these tasks: before anything is sent anywhere."""
    refuse_held(here(), entry_for(prepared), ask)


def keep_entry(entry: Entry) -> None:
    """Write the entry of a run that is about to be started and left. Raises MachineError when that is impossible, and where
    another run writes into one of its outputs (RULINGS 32).

    As long as we live it counts as attended to: whoever looks before it is started does not take it for lost.
    """
    directory = here()
    try:
        make_room(directory)
        hold(directory, replace(entry, owner=replace(myself(), token="")), ask)
    except OSError as error:
        raise MachineError(f"the run cannot be remembered: {directory}: {error.strerror or error}",
                           "set XDG_STATE_HOME to a directory of your own, or run it without --detach") from error


class Listed:
    """The entry of a command line that this process attends to. Where there is no place for it, that is said once.

    Making it raises MachineError where another run writes into an output of this one (RULINGS 32)."""

    def __init__(self, entry: Entry) -> None:
        self._entry: Entry | None = replace(entry, owner=replace(myself(), token=""))
        self._directory = here()
        make_room(self._directory)
        self._write(lambda directory, first: hold(directory, first, ask))

    def find(self, supervised: Supervised) -> None:
        """Where it is has turned out."""
        if self._entry is not None:
            self._entry = replace(self._entry, supervised=supervised)
            self._write()

    def begin(self, run_id: str, started: float | None = None) -> None:
        """The task starts now, or did then (seconds since 1970)."""
        self._change(run_id, status="running", started=time.time() if started is None else started)

    def stand(self, run_id: str, status: str, node: str, waiting: str) -> None:
        """Where a batch system has the task run, and why it does not start it; one that has begun may wait again."""
        task = next((task for task in self._entry.tasks if task.run_id == run_id), None) if self._entry is not None else None
        if task is None:
            return
        if task.started is None or task.over or status not in ("queued", "running"):
            status = task.status
        if (task.status, task.node, task.waiting) != (status, node, waiting):
            self._change(run_id, status=status, node=node, waiting=waiting)

    def begun(self, family: Family) -> None:
        """The process that the task which runs just now began with."""
        if self._entry is None:
            return
        running = next((task.run_id for task in self._entry.tasks if task.status == "running"), "")
        one = Started(family.leader, start_time(family.leader)[0], family.passes_on)
        self._entry = replace(self._entry, processes={running: one})
        self._write()

    def finish(self, run_id: str, status: str, exit_code: int, ended: float | None = None) -> None:
        """The task has ended, now or then (seconds since 1970)."""
        self._change(run_id, status=status, exit_code=exit_code, ended=time.time() if ended is None else ended)

    def leave_out(self, run_id: str) -> None:
        """The task need not run. A command line of which nothing runs is no run."""
        if self._entry is None:
            return
        left = tuple(task for task in self._entry.tasks if task.run_id != run_id)
        if left:
            self._entry = replace(self._entry, tasks=left)
            self._write()
        else:
            forget(self._directory, self._entry.id)
            self._entry = None

    def end(self, status: str, exit_code: int, message: str) -> None:
        """The command line has ended; or ("running") a run elsewhere goes on without us."""
        if self._entry is None:
            return
        if status == "running":
            self._entry = replace(self._entry, owner=None, message=message)
        else:
            self._entry = replace(concluded(self._entry, status, exit_code, message), settled=True, leftovers=(), processes={})
        self._write()

    def _change(self, run_id: str, **values: object) -> None:
        if self._entry is None:
            return
        task = next(task for task in self._entry.tasks if task.run_id == run_id)
        self._entry = with_tasks(self._entry, {run_id: replace(task, **values)})  # type: ignore[arg-type] # fields of it
        self._write()

    def _write(self, write: Callable[[str, Entry], object] = write_entry) -> None:
        if self._entry is None:
            return
        try:
            write(self._directory, self._entry)
        except OSError as error:
            self._entry = None
            output.warn(f"mlcube ps will not know this run: {self._directory}: {error.strerror or error}")
