"""Which of singularity's descendants a platform means, what it can do, and how its commands begin."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mlcube_cli.command import Command, Variable
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Facts, Observation, Probe, Tool
from mlcube_cli.job import Job
from mlcube_shell.batch_variables import DEVICES, JOB_NAMES
from mlcube_shell.options import split_option
from mlcube_shell.shell_setup import has_setup, with_setup
from mlcube_shell.tools import SINGULARITIES, parse_singularity, singularity_can

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NAMES = ("apptainer", "singularity")  # looked for in this order


@dataclass(frozen=True)
class Lines:
    """Lines of shell of ours before and after those of the platform."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __add__(self, other: Lines) -> Lines:
        return Lines(self.before + other.before, self.after + other.after)


NO_LINES = Lines()


@dataclass(frozen=True)
class Engine:
    """An engine as this machine has it. `words` start each of its commands."""

    job: Job
    facts: Facts
    words: tuple[str, ...]
    name: str  # as in tools.SINGULARITIES: whose rules hold
    version: tuple[int, ...] = ()  # empty: not known
    assumed: bool = False  # dry run without the engine

    @property
    def sudo(self) -> bool:
        return os.path.basename(self.words[0]) == "sudo"

    @property
    def root(self) -> bool:
        """Whether it works with root's rights."""
        return self.sudo or self.facts.uid == 0

    @property
    def prefix(self) -> str:
        """What its variables begin with."""
        return "APPTAINER" if self.name == "apptainer" else "SINGULARITY"

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.assumed:
            return ()
        where = " on the node" if self.job.batch else ""
        return (f"{self.words[-1]} is not here; the plan assumes a current one{where}",)

    def can(self, what: str) -> bool:
        return singularity_can(self.name, self.version, what)

    def command(self, *words: str, env: tuple[Variable, ...] = (), cwd: str | None = None, lines: Lines = NO_LINES) -> Command:
        """A command of the engine behind the platform's shell lines, and `lines` of ours around these; sudo has to be told
        which variables to keep."""
        command = Command((*self.start(env), *words), env, cwd)
        return with_setup(self.job, self.facts, command, lines.after, lines.before)

    def as_root(self) -> tuple[str, ...]:
        """The words before the engine's own that give it root's rights; none without sudo."""
        return self.words[:-1] if self.sudo else ()

    def start(self, env: tuple[Variable, ...] = ()) -> tuple[str, ...]:
        """The first words of a command that is given these variables."""
        later = tuple(f"{self.prefix}ENV_{name}" for name in (*DEVICES, *JOB_NAMES)) if env and self.job.batch else ()
        keep = tuple(dict.fromkeys((*(variable.name for variable in env if variable.value is not None), *later)))
        if self.sudo and keep:
            return (self.words[0], f"--preserve-env={','.join(keep)}", *self.words[1:])
        return self.words


def find_engine(job: Job, facts: Facts) -> Engine:
    """The platform's `singularity`, else the first of apptainer and singularity. Raises facts.Missing, DefinitionError,
    and MachineError when it is not there or too old (unless the job says that a plan may assume it, or is one that a batch
    system starts elsewhere)."""
    given = split_option(job, "singularity", facts)
    candidates = (given,) if given else tuple((name,) for name in NAMES)
    if not has_setup(job):
        facts.need(*(Tool(word) for words in candidates for word in _executables(words)))
        there = [words for words in candidates if all(facts.tool(word) for word in _executables(words))]
        if not there:
            return _absent(job, facts, given)
        candidates = (there[0],)
    probes = {words: with_setup(job, facts, Command((*words, "--version"))) for words in candidates}
    facts.need(*(Probe(command) for command in probes.values()))
    for words, command in probes.items():
        said = facts.probe(command)
        if said.exit_code == 0:
            return _known(job, facts, words, said)
    if job.assume or job.batch:
        return _absent(job, facts, given)
    raise _does_not_work(" ".join(candidates[-1]), facts.probe(probes[candidates[-1]]))


def _executables(words: tuple[str, ...]) -> tuple[str, ...]:
    """The first word, and behind sudo the engine itself."""
    engine = next((word for word in words if os.path.basename(word) in NAMES), words[-1])
    return tuple(dict.fromkeys((words[0], engine)))


def _named(words: tuple[str, ...]) -> str:
    """The name that the executable's own name suggests."""
    return "singularity-ce" if os.path.basename(words[-1]) == "singularity" else "apptainer"


def _known(job: Job, facts: Facts, words: tuple[str, ...], said: Observation) -> Engine:
    name, version = parse_singularity(said.stdout)
    engine = Engine(job, facts, words, name or _named(words), version if name else ())
    if not engine.can("least"):
        least = ".".join(str(number) for number in SINGULARITIES[engine.name]["least"] or ())
        raise MachineError(f"{' '.join(words)} is too old: {said.stdout.strip()}", f"install {engine.name} {least} or newer")
    return engine


def _absent(job: Job, facts: Facts, given: tuple[str, ...]) -> Engine:
    if job.assume or job.batch:
        words = given or (NAMES[0],)
        return Engine(job, facts, words, _named(words), assumed=True)
    what = f"'{' '.join(given)}' is not" if given else "neither apptainer nor singularity is"
    raise MachineError(f"{what} on PATH",
                       "install apptainer (https://apptainer.org), name the executable: -Prunner.singularity=PATH, or load "
                       "it: -Prunner.modules=apptainer")


def _does_not_work(words: str, said: Observation) -> MachineError:
    last = (_COLOURS.sub("", said.stderr).strip().splitlines() or ["it said nothing"])[-1]
    if "mlcube: setup ended" in said.stderr:
        return MachineError(f"the platform's setup lines failed: {last}", "try 'setup' and 'modules' in bash by hand")
    if "password is required" in said.stderr or "a terminal is required" in said.stderr:
        return MachineError("sudo asks for a password, and there is no terminal to type it on",
                            "type 'sudo --validate' first, or drop sudo from the platform")
    if "unknown userid" in said.stderr:
        return MachineError(f"{words} does not work here: your user id has no entry in /etc/passwd",
                            "run as a user that this machine knows")
    return MachineError(f"{words} does not work here: {last}", f"try it by hand: {words} --version")
