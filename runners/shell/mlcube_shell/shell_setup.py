"""The user's shell lines (`modules`, `setup`) in front of a command: the same for every runner (RULINGS 24)."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli.command import Command, Variable, in_shell
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job

# Carries lines that hold a value taken from the environment, so that it stands in no argv and no printed script.
HIDDEN_LINES = "MLCUBE_SETUP"

# `module` is a shell function that login shells define; a job started otherwise does not have it. The places are those
# of Environment Modules and Lmod as distributed, the site's own (MODULESHOME, LMOD_PKG) first.
_FIND_MODULES = """\
if ! command -v module >/dev/null 2>&1; then
  for mlcube_init in "${LMOD_PKG:-}/init/${BASH_VERSION:+ba}sh" "${MODULESHOME:-}/init/${BASH_VERSION:+ba}sh" \\
      /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh \\
      "/usr/share/lmod/lmod/init/${BASH_VERSION:+ba}sh" "/usr/share/modules/init/${BASH_VERSION:+ba}sh"; do
    if [ -f "$mlcube_init" ]; then . "$mlcube_init"; break; fi
  done
  unset mlcube_init
fi"""
_WATCH = """trap 'echo "mlcube: setup ended with exit code $? at: ${BASH_COMMAND:-one of its lines}" >&2' EXIT
set -e"""
_UNWATCH = "set +e; trap - EXIT"


def has_setup(job: Job) -> bool:
    """Whether the platform asks for shell lines; what is on PATH is then only known once they have run."""
    return bool(text_lines(job, "modules") or text_lines(job, "setup"))


def setup_lines(job: Job) -> tuple[str, ...]:
    """Shell lines (bash, or any POSIX sh) to run before a command: find `module`, load the modules, the user's lines.

    A line that fails ends the shell with its exit code and names itself. Empty where the platform asks for nothing.
    Raises DefinitionError when an option is not made of text.
    """
    modules, lines = text_lines(job, "modules"), text_lines(job, "setup")
    if not modules and not lines:
        return ()
    loads = tuple(f"module load {_module(job, name)}" for name in modules)
    own = (f'eval "${HIDDEN_LINES}"; unset {HIDDEN_LINES}',) if _hidden(job) else loads + lines
    return (_FIND_MODULES, _WATCH, *own, _UNWATCH)


def with_setup(job: Job, facts: Facts, command: Command, after: tuple[str, ...] = (),
               before: tuple[str, ...] = ()) -> Command:
    """`command` behind the platform's shell lines, or as it is where there are none; `before` and `after` them are lines of
    ours.

    The lines run in bash, in sh where the machine has no bash.
    """
    lines = (*before, *setup_lines(job), *after)
    if not lines:
        return command
    if _hidden(job):
        loads = tuple(f"module load {_module(job, name)}" for name in text_lines(job, "modules"))
        text = "\n".join((*loads, *text_lines(job, "setup")))
        command = replace(command, env=(*command.env, Variable(HIDDEN_LINES, text, secret=True)))
    return in_shell(lines, command, find_shell(facts))


def find_shell(facts: Facts) -> str:
    """`bash` where the machine has one, else `sh`."""
    return "bash" if facts.tool("bash") else "sh"


def text_lines(job: Job, name: str) -> tuple[str, ...]:
    """The option as lines of text: one text is one item, null is none. Raises DefinitionError for anything else."""
    option = job.find_option(name)
    if option is None or option.value is None:
        return ()
    value = option.value
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, (str, int, float)) for item in items):
        raise DefinitionError(f"'{name}' must be a text or a list of texts ({option.origin})",
                              f"write one line each:\n  {name}:\n  - first line\n  - second line")
    return tuple(str(item) for item in items if str(item).strip())


def _hidden(job: Job) -> bool:
    options = (job.find_option("modules"), job.find_option("setup"))
    return any(option is not None and option.secret for option in options)


def _module(job: Job, name: str) -> str:
    """A module's name; it goes into shell text, so it may hold nothing that a shell would read."""
    if all(character.isalnum() or character in "._+-/@:" for character in name) and name.isascii():
        return name
    option = job.find_option("modules")
    raise DefinitionError(f"{name!r} is not a module's name ({option.origin if option else 'modules'})",
                          "list names such as 'cuda/12.4' in 'modules'; other shell lines belong in 'setup'")
