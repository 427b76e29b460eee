"""MLBox implementations of the kind `exec`: directories and shell lines, with the task's values as variables.

The lines were written for `$name` replaced in their text; here the values are variables of the shell that runs them, so
no value can become shell text (RULINGS 24). Each line starts in the cube's root, and the first that fails ends it all.
"""

from __future__ import annotations

import os
import re

from mlcube_cli.command import Command, Step, Variable
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.variables import NAME
from mlcube_shell.interpreters import CLEAN
from mlcube_shell.local_variables import platform_variables
from mlcube_shell.shell_setup import find_shell, text_lines, with_setup

_HIDDEN_LINES = "MLCUBE_LINES"
# A parameters file may hold any key; one that a shell or the loader obeys must not reach them.
_OBEYED = re.compile(r"(PATH|HOME|IFS|ENV|BASH_.*|SHELLOPTS|BASHOPTS|PS4|LD_.*|DYLD_.*|PYTHON.*|CDPATH|PWD|OLDPWD)\Z")


def configure_steps(job: Job, facts: Facts) -> tuple[Step, ...]:
    """The directories and the `configure` lines, as preparation."""
    lines = text_lines(job, "configure")
    steps = directory_steps(job)
    if lines:
        steps += (Step("run the configure lines", _shell(job, facts, "configure"), lock=f"exec {job.root}",
                       hint="the lines stand under 'configure' in the implementation file"),)
    return steps


def run_command(job: Job, facts: Facts) -> Command:
    """The `run` lines as one command. Raises DefinitionError when there are none."""
    lines = text_lines(job, "run")
    if not lines:
        raise DefinitionError(f"the platform '{job.platform.name}' has no 'run' lines",
                              "list the shell lines under run:", job.platform.location)
    return _shell(job, facts, "run")


def directory_steps(job: Job) -> tuple[Step, ...]:
    """The step that makes the implementation's `directories`, as preparation; none where it lists none."""
    names = text_lines(job, "directories")
    paths = dict.fromkeys(os.path.normpath(os.path.join(job.root, name)) for name in names)
    return (Step("make the implementation's directories", Command(("mkdir", "-p", "--", *paths))),) if paths else ()


def _shell(job: Job, facts: Facts, name: str) -> Command:
    """The lines of an option as one command; lines that hold a value taken from the environment stand in no argv."""
    body = "\ncd -- \"$mlcube_root\"\n".join(text_lines(job, name))
    script = f"set -e\nmlcube_root=$PWD\n{body}"
    variables, option = _variables(job, facts, name), job.find_option(name)
    if option and option.secret:
        variables += (Variable(_HIDDEN_LINES, script, secret=True),)
        script = f'eval "${_HIDDEN_LINES}"'
    return with_setup(job, facts, Command((find_shell(facts), "-c", script, "mlcube"), variables, job.root))


def _variables(job: Job, facts: Facts, name: str) -> tuple[Variable, ...]:
    values = {key: text for key, text in job.variables if NAME.match(key) and not _OBEYED.match(key)}
    if name == "run":
        values["mlbox_task"] = job.task
    values.update((argument.name, value) for argument, value in job.seen(job.host_paths) if NAME.match(argument.name))
    own = {variable.name: variable for variable in (*CLEAN, Variable("PYTHONUNBUFFERED", "1"))}
    own.update((variable.name, variable) for variable in platform_variables(job, facts))
    own.update((key, Variable(key, text)) for key, text in values.items())
    return tuple(own.values())
