"""What a runner is, and the table from a runner's name to its module (imported only when it is chosen)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from mlcube_cli.command import Plan
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import UsageError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import Identity
from mlcube_cli.job import Job


class Runner(Protocol):
    """A runner is a module with these functions. All are pure; any may raise `facts.Missing` or an MLCubeError.

    `configure(job, facts, force)`: the plan that prepares (build, pull, make the environment), whether or not it is there.
    `plan(job, facts)`: the plan of one task: preparation that is absent, then the task.
    `available(platform, facts)`: None when this machine can run the platform, else the reason in half a sentence.
    `identify(job, facts)`: what the platform's image on this machine is; under `job.pins`, the cube's lock, the first two
    raise PreparationError for another one.
    """

    def configure(self, job: Job, facts: Facts, force: bool) -> Plan: ...

    def plan(self, job: Job, facts: Facts) -> Plan: ...

    def available(self, platform: Platform, facts: Facts) -> str | None: ...

    def identify(self, job: Job, facts: Facts) -> Identity: ...


CONTAINER, HOST = "container", "host"


@dataclass(frozen=True)
class Entry:
    """Where a runner's module is, and what it isolates: a container, or nothing (this host)."""

    module: str
    kind: str


RUNNERS = {
    "docker": Entry("mlcube_shell.docker", CONTAINER),
    "local": Entry("mlcube_shell.local", HOST),
    "singularity": Entry("mlcube_shell.singularity", CONTAINER),
}


def load_runner(name: str) -> Runner:
    """The module that implements a runner. Raises UsageError for a runner that this version does not have."""
    entry = RUNNERS.get(name)
    if entry is None:
        raise UsageError(f"this version has no runner '{name}'", f"it has: {', '.join(sorted(RUNNERS))}")
    return cast(Runner, import_module(entry.module))
