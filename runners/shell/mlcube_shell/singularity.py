"""The singularity runner, for apptainer too: a job as the words of the engine. Pure: the engine is asked through facts."""

from __future__ import annotations

import os

from mlcube_cli.command import Command, Plan, Sign, Step, TaskPlan, Variable
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import MLCubeError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import Identity
from mlcube_cli.job import Job
from mlcube_shell.mounts import Mount, View, output_directories, view_of
from mlcube_shell.options import text_option
from mlcube_shell.shell_setup import has_setup
from mlcube_shell.singularity_engine import Engine, find_engine
from mlcube_shell.singularity_image import Preparation
from mlcube_shell.singularity_lock import identify as identify_image
from mlcube_shell.singularity_lock import prepare
from mlcube_shell.singularity_storage import removal, tmp_directory, tmp_making, tmp_notes
from mlcube_shell.singularity_trouble import RUN_REASONS
from mlcube_shell.singularity_variables import accelerators, environment
from mlcube_shell.singularity_words import (
    isolation,
    mounts_of,
    refuse_paths,
    settings,
    unpacking,
    user_words,
)

# The engine reads the scripts of this directory in the container before it starts the task: a sign that it got so far.
# `exec` has the program as its first word; one that is not there is no failure of the task's (RULINGS 20). Where an image
# says nothing of PATH, the engine sets it only afterwards.
_SIGN = "/.singularity.d/env/zz-mlcube.sh"
_STARTED = "# started"
_RUN_SIGN = f"echo '{_STARTED}' >{_SIGN}\n"
_PATH = "PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
_EXEC_SIGN = f"if ({_PATH}; command -v \"$1\" >/dev/null); then echo '{_STARTED}' >{_SIGN}; fi\n"
# Several of a cluster's nodes may be one machine, too.
_MAKE = """\
mkdir -m 700 -- "$1" 2>/dev/null || { [ -O "$1" ] && [ ! -L "$1" ]; } || mkdir -m 700 -- "$1" || exit
mkdir -p -m 700 -- "$@\""""


def configure(job: Job, facts: Facts, force: bool) -> Plan:
    """The plan that builds the image where it is absent; `force` builds it anew.

    Raises facts.Missing, DefinitionError, PreparationError where the image can be neither found nor made, and
    MachineError when there is no engine.
    """
    engine = find_engine(job, facts)
    prepared = prepare(engine, configuring=True, force=force)
    return Plan(job.platform.name, prepared.steps, notes=(*engine.notes, *prepared.notes), run_id=job.command_id)


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
    said = (*engine.notes, *prepared.notes, *notes, *view.notes, *_evaluated(engine, job.words(view.paths)))
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


def versions(job: Job, facts: Facts) -> tuple[tuple[str, Command], ...]:
    """How to ask for the engine's version. Raises facts.Missing, and MachineError when there is no engine."""
    engine = find_engine(job, facts)
    return ((engine.name, engine.command("--version")),)


# --- the container ---------------------------------------------------------------------------------------------------


def _payload(engine: Engine, view: View, prepared: Preparation) -> tuple[Step, tuple[str, ...]]:
    """The task itself: a place of its own for its home and /tmp before it, removed after it, and a sign that it had started."""
    job = engine.job
    place = os.path.join(tmp_directory(engine), f"mlcube-{job.run_id}")
    sign, empty = os.path.join(place, "started.sh"), os.path.join(place, "empty")
    mounts = (*view.mounts, Mount(sign, _SIGN, read_only=False))
    gpu, devices = accelerators(engine)
    given = (isolation(engine, place) + settings(engine) + gpu + unpacking(engine, prepared.image)
             + environment(engine, devices) + mounts_of(engine, mounts, empty) + user_words(engine))
    variables = (*given.variables, Variable(f"{engine.prefix}_TMPDIR", place))
    verb = ("exec", *job.entrypoint) if job.entrypoint else ("run",)
    command = engine.command("--quiet", verb[0], *given.words, prepared.image, *verb[1:], *job.words(view.paths), env=variables,
                             lines=given.lines)
    trial = engine.command("--quiet", "exec", *given.words, prepared.image, "true", env=variables, lines=given.lines)
    text = _EXEC_SIGN if job.entrypoint else _RUN_SIGN
    before = (*tmp_making(engine), _making(job, (place, os.path.join(place, "home"), empty)),
              Command(("install", "-m", "666", "--", "/dev/stdin", sign), stdin=text.encode()))
    step = Step(
        f"run task {job.task}", command, task=job.task, payload=True, before=before, passes_on=True, keep=prepared.image,
        after=removal(engine, (place,), bool({"--fakeroot", "-f"}.intersection(given.words))),
        sign=Sign(Command(("grep", "-s", "-x", _STARTED, sign)), None if has_setup(job) else (1, 126, 127, 255), trial),
        reasons=RUN_REASONS, hint=_hint(job, prepared.image))
    return step, (*given.notes, *tmp_notes(engine))


def _making(job: Job, directories: tuple[str, ...]) -> Command:
    """Makes directories that nobody has made before; a batch job that was killed and starts again finds its own."""
    if job.batch:
        return Command(("sh", "-c", _MAKE, "mlcube", *directories))
    return Command(("mkdir", "-m", "700", "--", *directories))


def _evaluated(engine: Engine, words: tuple[str, ...]) -> tuple[str, ...]:
    """What older engines do to the words of a task: the run script that they make for a docker image is a shell's."""
    if engine.job.entrypoint or engine.can("no_eval") or not any(char in word for word in words for char in "\\\"$`"):
        return ()
    return (f"this {engine.name} makes images of docker's whose run script lets a shell evaluate the arguments: what they "
            "hold of $, `, \" and \\ may arrive changed; an 'entrypoint' at the task avoids it",)


def _hint(job: Job, image: str) -> str:
    if job.entrypoint:
        program = job.entrypoint[0]
        hint = f"the engine's own message stands above; is there a program '{program}' in {image}?"
        if "/" in program and not program.startswith("/") and text_option(job, "workdir") is None:
            return f"{hint} It is looked for in the task's home: a docker image's WORKDIR is lost; write 'workdir: DIRECTORY'"
        return hint
    return "the engine's own message stands above"
