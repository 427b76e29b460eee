"""The singularity runner, for apptainer too: a job as the words of the engine. Pure: the engine is asked through facts."""

from __future__ import annotations

from mlcube_cli.command import Command, Plan, Step, TaskPlan, Variable
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import MLCubeError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import Identity
from mlcube_cli.job import Job
from mlcube_shell.mounts import Mount, View, output_directories, view_of
from mlcube_shell.shell_setup import has_setup
from mlcube_shell.singularity_engine import Engine, find_engine
from mlcube_shell.singularity_image import Preparation, storage_variables
from mlcube_shell.singularity_lock import identify as identify_image
from mlcube_shell.singularity_lock import prepare
from mlcube_shell.singularity_trouble import RUN_REASONS
from mlcube_shell.singularity_variables import Words, accelerators, environment
from mlcube_shell.singularity_words import (
    isolation,
    mounts_of,
    refuse_paths,
    settings,
    tmp_directory,
    unpacking,
    user_words,
)

# Makes the run's own place for /tmp and home. The engine comes in its stead, so that signals reach it.
_START = """\
mkdir -p -- "${1%/*}" && mkdir -m 700 -- "$1" && mkdir -m 700 -- "$1/home" && mkdir -m 500 -- "$1/empty" || exit 1
printf '%s\\n' "$2" >"$1/started.sh"
shift 2
exec "$@\""""

# The engine reads scripts of this directory in the container, before it starts the task: a sign that it got so far.
# `exec` has the program as its first word; one that is not there is no failure of the task's (RULINGS 20).
_SIGN = "/.singularity.d/env/zz-mlcube.sh"
_RUN_SIGN = f"echo '# started' >{_SIGN}"
_EXEC_SIGN = f'if command -v "$1" >/dev/null; then echo "# started" >{_SIGN}; else echo "# absent" >{_SIGN}; fi'

# Where the image has no such directory of its own, the engine reads none: then it had started when it can start at all.
_STARTED = """\
read -r sign <"$1/started.sh" || exit 0
shift
case $sign in '# started') echo started ;; '# absent') ;; *) "$@" >/dev/null 2>&1 </dev/null && echo started ;; esac"""
_TIDY = """trap '' INT TERM HUP; chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1\""""


def configure(job: Job, facts: Facts, force: bool) -> Plan:
    """The plan that builds the image where it is absent; `force` builds it anew.

    Raises facts.Missing, DefinitionError, PreparationError where the image can be neither found nor made, and
    MachineError when there is no engine.
    """
    engine = find_engine(job, facts)
    prepared = prepare(engine, configuring=True, force=force)
    return Plan(job.platform.name, prepared.steps, notes=(*engine.notes, *prepared.notes))


def plan(job: Job, facts: Facts) -> Plan:
    """The plan of one task: the image where it is absent, the output directories, the container.

    Raises facts.Missing, DefinitionError for what cannot be passed on, PreparationError, and MachineError.
    """
    engine = find_engine(job, facts)
    refuse_paths(job, engine)
    view = view_of(job, facts)
    prepared = prepare(engine, configuring=False)
    payload, notes = _payload(engine, view, prepared)
    directories = (*output_directories(job), *view.covered)
    make = Step("make output directories", Command(("mkdir", "-p", "--", *directories)), task=job.task,
                hint="check the permissions, or give another path")
    task = TaskPlan(job.task, job.run_id, job.seen(view.paths), grace=job.grace, timeout=job.timeout,
                    interactive=job.interactive, image=(prepared.image, prepared.id))
    steps = (*prepared.steps, *((make,) if directories else ()), payload)
    said = (*engine.notes, *prepared.notes, *notes, *view.notes)
    return Plan(job.platform.name, steps, (task,), tuple(dict.fromkeys(said)))


def available(platform: Platform, facts: Facts) -> str | None:
    """None when there is an engine, else the reason."""
    job = Job(run_id="", cube="", root="/", workspace="/", dialect="inline", task="", entrypoint=None, arguments=(),
              platform=platform)
    try:
        find_engine(job, facts)
    except MLCubeError as error:
        return error.message
    return None


def identify(job: Job, facts: Facts) -> Identity:
    """What the platform's image is. Raises facts.Missing, DefinitionError, and MachineError when there is no engine."""
    return identify_image(find_engine(job, facts))


# --- the container ---------------------------------------------------------------------------------------------------


def _payload(engine: Engine, view: View, prepared: Preparation) -> tuple[Step, tuple[str, ...]]:
    """The task itself, with how to learn whether it had started, and what is to be removed when it has ended."""
    job = engine.job
    place = f"{tmp_directory(engine).rstrip('/')}/mlcube-{job.run_id}"
    mounts = (*view.mounts, Mount(f"{place}/started.sh", _SIGN, read_only=False))
    gpu, devices = accelerators(engine)
    given = (isolation(engine, place) + settings(engine) + gpu + unpacking(engine, prepared.image)
             + environment(engine, devices) + mounts_of(engine, mounts, f"{place}/empty") + user_words(engine))
    given += Words(variables=_storage(engine))
    verb = ("exec", *job.entrypoint) if job.entrypoint else ("run",)
    own = ("--quiet", verb[0], *given.words)
    command = engine.behind_setup(Command((
        "sh", "-c", _START, "sh", place, _EXEC_SIGN if job.entrypoint else _RUN_SIGN,
        *engine.start(given.variables), *own, prepared.image, *verb[1:], *job.words(view.paths)),
        given.variables))
    trial = engine.command("--quiet", "exec", *given.words, prepared.image, "true", env=given.variables)
    started = Command(("sh", "-c", _STARTED, "sh", place, *trial.argv), trial.env)
    step = Step(
        f"run task {job.task}", command, task=job.task, payload=True, passes_on=True, keep=prepared.image, started=started,
        why=trial, reasons=RUN_REASONS,
        engine_codes=None if has_setup(job) else (1, 126, 127, 255),
        after=Command((*engine.as_root(), "sh", "-c", _TIDY, "sh", place)), hint=_hint(job, prepared.image))
    return step, given.notes


def _hint(job: Job, image: str) -> str:
    if job.entrypoint:
        return f"the engine's own message stands above; is there a program '{job.entrypoint[0]}' in {image}?"
    return "the engine's own message stands above"


def _storage(engine: Engine) -> tuple[Variable, ...]:
    """An image is at hand when a task runs: only where the engine may write matters."""
    return tuple(variable for variable in storage_variables(engine) if variable.name.endswith("_TMPDIR"))
