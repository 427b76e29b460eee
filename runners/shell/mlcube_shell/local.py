"""HOW: a job on this machine itself ("bare metal"): a Python environment, or the shell lines of an MLBox `exec`.

Nothing is isolated (RULINGS 23): the task sees this machine, its inputs are not write-protected, and what would need a
container is an error.
"""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli.command import Command, Plan, Step, TaskPlan, Variable
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import DefinitionError, MLCubeError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import Identity
from mlcube_cli.job import Job
from mlcube_shell.environments import Environment, environment_step, find_environment, is_whole
from mlcube_shell.interpreters import CLEAN, interpreter_kind, locate_python, python_word, wanted_python
from mlcube_shell.local_entry import entry_words
from mlcube_shell.local_exec import configure_steps, directory_steps, run_command
from mlcube_shell.local_variables import passed_but_unset, platform_variables
from mlcube_shell.shell_setup import has_setup, with_setup

# Options that need a container or a scheduler, with the values that ask for nothing.
_NEEDS_A_CONTAINER = {
    "network": (None, "", "host"),
    "security_opt": (None, "", []),
    "memory": (None, ""),
    "cpuset_cpus": (None, ""),
    "shm_size": (None, ""),
    "user": (None, "", "caller"),
    "ports": (None, "", []),
    "mount_opts": (None, ""),
    "privileged": (None, "", False),
    "container_runtime": (None, ""),
}
_OF_THE_JOB = ("memory", "cpuset_cpus")  # in a batch job these are what the batch system is asked for, and holds the task to


def configure(job: Job, facts: Facts, force: bool = False) -> Plan:
    """The plan that makes the environment (`force`: anew), or runs the configure lines of an `exec` implementation.

    A cube that needs neither has a plan without steps.
    """
    _check(job)
    if _kind(job) == "exec":
        return Plan(job.platform.name, configure_steps(job, facts))
    environment = find_environment(job, facts)
    steps = (environment_step(environment, force),) if environment else ()
    return Plan(job.platform.name, steps, notes=_notes(job, facts))


def plan(job: Job, facts: Facts) -> Plan:
    """The plan of one task: the environment where it is absent, the output directories, the task."""
    _check(job)
    preparation: tuple[Step, ...] = ()
    environment = None
    if _kind(job) == "exec":
        preparation = directory_steps(job)
        command = run_command(job, facts)
    else:
        environment = find_environment(job, facts)
        if environment and not is_whole(environment, facts):
            preparation = (environment_step(environment),)
        command = _python_command(job, facts, environment)
    payload = Step(f"run task {job.task}", command, task=job.task, payload=True,
                   keep=environment.directory if environment else None)
    arguments = tuple((replace(argument, mode="rw" if argument.text is None else argument.mode), value)
                      for argument, value in job.seen(job.host_paths))
    task = TaskPlan(job.task, job.run_id, arguments, job.grace, job.timeout, job.interactive)
    return Plan(job.platform.name, (*preparation, *_make_directories(job), payload), (task,), _notes(job, facts))


def identify(job: Job, facts: Facts) -> Identity:
    """The Python environment, by its directory: interpreter, processor and requirements stand in its name. No image.

    `present` is False where it was not made yet. Raises facts.Missing, DefinitionError, MachineError.
    """
    _check(job)
    if _kind(job) == "exec":
        return Identity("bash", "interpreter", source="kind: exec")
    environment = find_environment(job, facts)
    if environment:
        key = os.path.basename(environment.directory).rpartition("-")[2]
        return Identity(environment.directory, "environment", is_whole(environment, facts), id=key)
    used = python_word(job, facts) if has_setup(job) else locate_python(job.platform, job.root, facts)
    return Identity(used, "interpreter", source=f"interpreter: {interpreter_kind(job.platform)}")


def versions(job: Job, facts: Facts) -> tuple[tuple[str, Command], ...]:
    """How to ask for the version of the Python that runs the task, or of bash. Raises facts.Missing, MachineError."""
    if _kind(job) == "exec":
        return (("bash", Command(("bash", "--version"))),)
    environment = find_environment(job, facts)
    if environment:
        return (("python", Command((environment.python, "--version"))),)
    if has_setup(job):
        return (("python", with_setup(job, facts, Command((python_word(job, facts), "--version"), cwd=job.root))),)
    return (("python", Command((locate_python(job.platform, job.root, facts), "--version"))),)


def available(platform: Platform, facts: Facts) -> str | None:
    """None when this machine can run the platform, else why not."""
    if platform.option("kind") == "exec" or platform.option("setup") or platform.option("modules"):
        return None
    try:
        if interpreter_kind(platform) == "conda":
            conda = str(platform.option("conda") or "conda")
            return None if facts.tool(conda) else f"there is no {conda} on PATH"
        if not _is_relative(wanted_python(platform)):  # relative to a cube that is not known here
            locate_python(platform, "/", facts)
    except MLCubeError as error:
        return error.message
    return None


def _is_relative(python: str) -> bool:
    return "/" in python and not python.startswith(("/", "~/"))


def _kind(job: Job) -> str:
    option = job.find_option("kind")
    kind = option.value if option and option.value else "python"
    if kind not in ("python", "exec"):
        raise DefinitionError(f"there is no kind {kind!r} ({option.origin if option else ''})", "use python or exec")
    return str(kind)


def _check(job: Job) -> None:
    """Raises DefinitionError for an option that only a container can honour (RULINGS 23), or a batch system."""
    for option in job.platform.options:
        if job.batch and option.name in _OF_THE_JOB:
            continue
        if option.value not in _NEEDS_A_CONTAINER.get(option.name, (option.value,)):
            raise DefinitionError(
                f"the local platform cannot honour '{option.name}: {option.value}' ({option.origin})",
                f"take '{option.name}' away, or run in a container: "
                + ("singularity or docker may run in the job" if job.batch else "--platform=docker"))


def _notes(job: Job, facts: Facts) -> tuple[str, ...]:
    """What a user of this platform would otherwise be surprised by."""
    notes = []
    option = job.find_option("requirements")
    kind = interpreter_kind(job.platform)
    if kind in ("system", "current") and option and option.value:
        notes.append(f"the requirements are not installed or checked: the interpreter is '{kind}' ({option.origin}); "
                     "with 'interpreter: virtualenv' they are")
    notes += [f"{name} is passed to the task, but is not set here" for name in passed_but_unset(job, facts)]
    return tuple(notes)


def _make_directories(job: Job) -> tuple[Step, ...]:
    """One step that makes the output directories, and the parents of output files (RULINGS 6 for unknown types)."""
    outputs = (argument for argument in job.paths if argument.direction == "output")
    wanted = dict.fromkeys(argument.host_path if argument.type == "directory" else os.path.dirname(argument.host_path)
                           for argument in outputs)
    if not wanted:
        return ()
    return (Step("make the output directories", Command(("mkdir", "-p", "--", *wanted)), task=job.task),)


# --- the task itself -----------------------------------------------------------------------------------------------


def _python_command(job: Job, facts: Facts, environment: Environment | None) -> Command:
    if environment:
        python, found = environment.python, True
    elif has_setup(job) and interpreter_kind(job.platform) != "current":
        python, found = python_word(job, facts), True
    else:
        python, found = locate_python(job.platform, job.root, facts), False
    words = entry_words(job, facts, python, searched_later=found)
    variables, workdir = _variables(job, facts, environment), _workdir(job, facts)
    argv = (*words, *_task_words(job))
    if not has_setup(job) and not (job.batch and environment):
        return Command(argv, variables, workdir)
    # The lines run in the cube's root, and may set PATH themselves, as nodes of a cluster do: the environment goes in front.
    after = ('cd -- "$MLCUBE_WORK"; PATH="${MLCUBE_BIN:+$MLCUBE_BIN:}$PATH"; unset MLCUBE_BIN MLCUBE_WORK',)
    binaries = os.path.dirname(environment.python) if environment else ""
    variables += (Variable("MLCUBE_BIN", binaries), Variable("MLCUBE_WORK", workdir))
    return with_setup(job, facts, Command(argv, variables, job.root), after)


def _task_words(job: Job) -> tuple[str, ...]:
    """The task's arguments, with paths of this machine. MLBox on bare metal: unsorted, the flag and the task two words
    (spec/dialects 1.6)."""
    if job.dialect != "mlbox":
        return job.words(job.host_paths)
    arguments = tuple(f"--{argument.name}={value}" for argument, value in job.seen(job.host_paths))
    return ("--mlbox_task", job.task, *arguments)


def _variables(job: Job, facts: Facts, environment: Environment | None) -> tuple[Variable, ...]:
    """The task's environment on top of the caller's; the platform's own `env` wins over what we set."""
    given = platform_variables(job, facts)
    variables = {variable.name: variable for variable in (*CLEAN, Variable("PYTHONUNBUFFERED", "1"))}
    variables.update((variable.name, variable) for variable in given)
    if environment:
        if "PATH" in variables or not job.batch:  # that of a node is known there alone: MLCUBE_BIN
            path = variables.get("PATH") or Variable("PATH", facts.environment.get("PATH") or os.defpath)
            variables["PATH"] = replace(path, value=f"{os.path.dirname(environment.python)}:{path.value}")
        variables.update((variable.name, variable) for variable in environment.variables)
    return tuple(variables.values())


def _workdir(job: Job, facts: Facts) -> str:
    option = job.find_option("workdir")
    if option is None or option.value in (None, ""):
        return job.root
    directory = os.path.normpath(os.path.join(job.root, str(option.value)))
    if facts.path(directory).kind != "directory":
        raise DefinitionError(f"the working directory {directory} is not there {_at(option)}",
                              "name a directory, relative to the cube, or leave 'workdir' out")
    return directory


def _at(option: Option) -> str:
    return f"({option.origin})"
