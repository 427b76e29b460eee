"""What a runner is, and the table from a runner's name to its module (imported only when it is chosen)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from mlcube_cli.batch import Batch
from mlcube_cli.command import Command, Plan, Step
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import UsageError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import Identity
from mlcube_cli.job import Job
from mlcube_cli.parcels import Listed, Load, Way
from mlcube_cli.supervision.state import CommandState


class Runner(Protocol):
    """A runner is a module with these functions. All are pure; any may raise `facts.Missing` or an MLCubeError.

    `configure(job, facts, force)`: the plan that prepares (build, pull, make the environment), whether or not it is there.
    `plan(job, facts)`: the plan of one task: preparation that is absent, then the task.
    `available(platform, facts)`: None when this machine can run the platform, else the reason in half a sentence.
    `identify(job, facts)`: what the platform's image on this machine is; under `job.pins`, the cube's lock, the first two
    raise PreparationError for another one.
    `versions(job, facts)`: what to ask for the versions of what runs the task, for its record: names, and commands whose
    output has the version as its first number.
    `image_commands(job, facts)`: what writes the image to stdout, and what takes it from stdin; of a runner whose images
    are files it is never asked.
    """

    def configure(self, job: Job, facts: Facts, force: bool) -> Plan: ...

    def plan(self, job: Job, facts: Facts) -> Plan: ...

    def available(self, platform: Platform, facts: Facts) -> str | None: ...

    def identify(self, job: Job, facts: Facts) -> Identity: ...

    def versions(self, job: Job, facts: Facts) -> tuple[tuple[str, Command], ...]: ...

    def image_commands(self, job: Job, facts: Facts) -> tuple[Command, Command]: ...


class Carrier(Protocol):
    """A WHERE runner is a module with these functions: it has another runner's plan carried out on another machine.

    All are pure and take facts of this machine; any may raise `facts.Missing` or an MLCubeError.
    `way(platform, facts)`: how the machine is reached. `root(platform, name, there)`: the directory there that `name`
    gets (of letters, digits, `.`, `_` and `-`); `there`: facts of that machine. `places(load)`: the paths that must be
    there before anything is sent; where one is not, `push(platform, facts, load)` makes them: the steps that send the code
    and the inputs. `pull(platform, facts, load, kept, suffix)`: the steps that bring the outputs home;
    what lies at or below the paths `kept` here stays as it is, and what came is saved beside it, with `suffix` at the end
    of its name. `told(step, doing)`: one of those steps, only told, or else done and told; None where it transfers nothing.
    `listed(step, text)`: what that says.
    """

    def way(self, platform: Platform, facts: Facts) -> Way: ...

    def root(self, platform: Platform, name: str, there: Facts) -> str: ...

    def places(self, load: Load) -> tuple[str, ...]: ...

    def push(self, platform: Platform, facts: Facts, load: Load) -> tuple[Step, ...]: ...

    def pull(self, platform: Platform, facts: Facts, load: Load, kept: tuple[str, ...], suffix: str) -> tuple[Step, ...]: ...

    def told(self, step: Step, doing: bool = False) -> Command | None: ...

    def listed(self, step: Step, text: str) -> tuple[Listed, ...]: ...


class Scheduler(Protocol):
    """A WHEN runner is a module with these functions: it has another runner's plans carried out as jobs of a batch system.

    All are pure; any with `facts` may raise `facts.Missing` or an MLCubeError. `platform`: the one that names the batch
    system. `on_node(platform, job)`: the job as a node runs it; `on_login(platform, job)`: as what prepares it runs before.
    `scratched(platform, job)`: the job with paths of a node's own disk, where the platform wants that, and then
    `staged(platform, job, plan)`: its plan with what copies there and back. `is_allocated(facts)`: does the caller hold
    nodes already, so that nothing needs to be queued? Then `for_allocation(platform, plan, facts)` is the plan to carry out
    here; else `for_batch(platform, plan, facts)` is what a job carries out, and `batch_file(platform, job, plan, directory,
    program, tasks)` the file that is handed over: the job's demands, then `program`; `tasks`: its tasks' directories.
    `array_file(platform, job, plan, directory, members, limit)`: the file of an array of jobs, where each member runs the
    program in the directory that is called by its number;
    `largest_array(platform, facts)`: how many members one array may have. `last_signal(platform)`: what the task gets when its
    time is nearly up, and how many seconds before; None where there is none. `check(platform, batch, jobs, facts)`: notes;
    raises where the batch system would not take it. `submit(batch, nonce)`: the script that hands it over; it answers
    `submitted ID...`, or `failed WHY` and then nothing is left, or `exists`; with `plain` it is one for a person to carry out.
    `queue_functions(jobs)`: what asks the batch system about these (a directory and a job's id each), for
    `supervision.requests`; `judge(state, job, said)`: how a run stands by its own state and by what was answered.
    `cancel(jobs, hard, nonce)`: the script that ends these. `look_at_node(platform, job, paths, versions)`: the command that
    has a node say what it has of these paths and of these programs.
    """

    def on_node(self, platform: Platform, job: Job, machine: Platform | None = None) -> Job: ...

    def on_login(self, platform: Platform, job: Job, machine: Platform | None = None) -> Job: ...

    def scratched(self, platform: Platform, job: Job) -> Job: ...

    def staged(self, platform: Platform, job: Job, plan: Plan) -> Plan: ...

    def is_allocated(self, facts: Facts) -> bool: ...

    def for_allocation(self, platform: Platform, plan: Plan, facts: Facts) -> Plan: ...

    def for_batch(self, platform: Platform, plan: Plan, facts: Facts) -> Plan: ...

    def batch_file(self, platform: Platform, job: Job, plan: Plan, directory: str, program: str,
                   tasks: Sequence[str] = ()) -> str: ...

    def array_file(self, platform: Platform, job: Job, plan: Plan, directory: str, members: Sequence[int],
                   limit: int | None = None) -> str: ...

    def largest_array(self, platform: Platform, facts: Facts) -> int | None: ...

    def last_signal(self, platform: Platform) -> tuple[str, int] | None: ...

    def check(self, platform: Platform, batch: Batch, jobs: Sequence[Job], facts: Facts) -> tuple[str, ...]: ...

    def submit(self, batch: Batch, nonce: str, plain: bool = False) -> str: ...

    def queue_functions(self, jobs: Sequence[tuple[str, str]]) -> str: ...

    def judge(self, state: CommandState, job: str, said: str) -> CommandState: ...

    def cancel(self, jobs: Sequence[tuple[str, str]], hard: bool, nonce: str) -> str: ...

    def look_at_node(self, platform: Platform, job: Job, paths: Sequence[str],
                     versions: Sequence[tuple[str, Command]]) -> Command: ...


CONTAINER, HOST, REMOTE, BATCH = "container", "host", "remote", "batch"


@dataclass(frozen=True)
class Entry:
    """Where a runner's module is, and where it runs tasks: in a container, on this host as it is, on another machine,
    or when and where a batch system has room."""

    module: str
    kind: str


RUNNERS = {
    "docker": Entry("mlcube_shell.docker", CONTAINER),
    "local": Entry("mlcube_shell.local", HOST),
    "singularity": Entry("mlcube_shell.singularity", CONTAINER),
    "slurm": Entry("mlcube_shell.slurm", BATCH),
    "ssh": Entry("mlcube_shell.ssh", REMOTE),
}


def load_runner(name: str) -> Runner:
    """The module that implements a runner. Raises UsageError for a runner that this version does not have."""
    return cast(Runner, _load(name))


def load_carrier(name: str) -> Carrier:
    """The module of a WHERE runner."""
    return cast(Carrier, _load(name))


def load_scheduler(name: str) -> Scheduler:
    """The module of a WHEN runner."""
    return cast(Scheduler, _load(name))


def _load(name: str) -> object:
    entry = RUNNERS.get(name)
    if entry is None:
        raise UsageError(f"this version has no runner '{name}'", f"it has: {', '.join(sorted(RUNNERS))}")
    return import_module(entry.module)
