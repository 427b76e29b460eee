"""Batch files: the job's demands as directives, what runs in words, then the program that carries it out. Pure.

A batch file runs by hand, with plain `sbatch`, as it does when we hand it over; what it demands stands in it, and nothing
comes from the caller's variables (RULINGS 41).
"""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import quote, shell_line
from mlcube_cli.errors import DefinitionError
from mlcube_shell.slurm_requests import directives

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlcube_cli.command import Command, Plan
    from mlcube_cli.definition.model import Platform
    from mlcube_cli.job import Job

LOG = "slurm.log"  # in a part's directory: what Slurm itself says of the job, and what goes wrong before the program begins
MARK = "mlcube-run"
DIRECTORY = "MLCUBE_JOB_DIRECTORY"  # what the job's own processes know of it: its directory, which all its nodes see
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-[]()|&*!~{}<>^?;$")
_BLANKS = dict.fromkeys((*range(0x20), 0x7f), " ")  # for control characters
_UNSAYABLE = ("\n", "\r", "\\")  # in the name of a job's output: a directive ends there, or Slurm takes the backslashes out [T]

# What sbatch takes from the caller's environment, which counts more than directives [T]: what is never the caller's to say.
OVERRIDING = ("SBATCH_EXPORT", "SBATCH_GET_USER_ENV", "SBATCH_ARRAY_INX", "SBATCH_OPEN_MODE", "SBATCH_SIGNAL", "SBATCH_WAIT",
              "SBATCH_NO_KILL", "SBATCH_INPUT", "SBATCH_OUTPUT", "SBATCH_ERROR", "SBATCH_JOB_NAME", "SBATCH_CLUSTERS")

# What directives are called there, where that is not their own name; what says the same in other words goes with it.
_CALLED = {"--time": ("TIMELIMIT",), "--no-requeue": ("REQUEUE", "NO_REQUEUE"), "--requeue": ("REQUEUE", "NO_REQUEUE")}
_MEMORY, _DEVICES = ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"), ("GRES", "GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK")

# Where the directories of a member are, by its number: the one of the array, behind those of the arrays before (submit).
_MEMBER = """\
mlc_member=$((SLURM_ARRAY_TASK_ID + ${{1:-0}}))
if [ "${{1:-0}}" -gt 0 ]; then
  ln -s "../slurm-${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID.log" {directory}/"$mlc_member"/{log} 2>/dev/null
fi
{variable}={directory}/$mlc_member; export {variable}
set -- "$(umask)"
. {directory}/"$mlc_member"/program
"""
_END = 'exit "${mlc_exit:-0}"  # what the next job waits for\n'


def batch_file(platform: Platform, job: Job, plan: Plan, directory: str, program: str, tasks: Sequence[str] = ()) -> str:
    """The file of one job that carries out `plan` in `directory`; `program`: supervision.program.program's text of it.

    `tasks`: its tasks' directories, which the job makes where somebody submits the file by hand. Raises DefinitionError for
    what no directive can say.
    """
    lines = ["#!/bin/sh", *_demands(platform, job, plan), *_output(os.path.join(directory, LOG)),
             "", *_comments(plan, directory), "[ $# -gt 0 ] || set -- \"$(umask)\"",
             f"{DIRECTORY}={quote(directory)}; export {DIRECTORY}"]
    if not _is_sayable(directory):
        lines.append(f"exec >>{quote(os.path.join(directory, LOG))} 2>&1  # no directive can name it")
    if tasks:
        lines.append(f"(umask 077; mkdir -p -- {' '.join(quote(place) for place in tasks)})")
    return "\n".join((*lines, program + _END))


def array_file(platform: Platform, job: Job, plan: Plan, directory: str, members: Sequence[int],
               limit: int | None = None) -> str:
    """The file of an array whose members, by their numbers, run the programs in `directory`/NUMBER. `limit`: how many at once.

    `job`, `plan`: those of any member. More members than one array may have are handed over as several (`submit`).
    """
    at_once = f"%{limit}" if limit else ""
    lines = ["#!/bin/sh", *_demands(platform, job, plan), f"#SBATCH --array={ranges(members)}{at_once}",
             *_output(os.path.join(directory, "\0", LOG)), "",
             f"# mlcube: {_comment(_titles(plan))}, {len(members)} times, each as its own directory says",
             f"# by hand: sbatch {_comment(quote(os.path.join(directory, 'program')))}"]
    return "\n".join((*lines, _MEMBER.format(directory=quote(directory), log=LOG, variable=DIRECTORY) + _END))


def directive(name: str, value: str | None) -> str:
    """One line of demands. sbatch takes words in double quotes as they are, and knows no other quoting [T]."""
    option = name if name.startswith("-") else f"--{name}"
    if value is None:
        return f"#SBATCH {option}"
    if any(odd in value for odd in _UNSAYABLE):
        raise DefinitionError(f"sbatch's {option}: {value!r} holds a character that no batch file can say", "take it out")
    return f"#SBATCH {option}={value if _PLAIN.issuperset(value) else _quoted(value)}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as `--array` has them: `1-3,7`."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def demands_of(text: str) -> tuple[str, ...]:
    """The directives of a batch file, less where its output goes: what Slurm judges (`sbatch --test-only`)."""
    found = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        if line.startswith("#SBATCH ") and not line.startswith(("#SBATCH --output=", "#SBATCH --open-mode=")):
            found.append(line)
    return tuple(found)


def overriding(demands: Iterable[str]) -> tuple[str, ...]:
    """The caller's variables that would be stronger than these directives, and those that are never the caller's to set."""
    found = dict.fromkeys(OVERRIDING)
    for line in demands:
        word = line[len("#SBATCH "):].partition("=")[0]
        family = _MEMORY if word.startswith("--mem") else _DEVICES if word.startswith(("--gres", "--gpus")) else ()
        name = word.lstrip("-").replace("-", "_").upper()
        found.update(dict.fromkeys(f"SBATCH_{one}" for one in (*_CALLED.get(word, (name,)), *family)))
    return tuple(name for name in found if name.replace("_", "").isalnum())


def _demands(platform: Platform, job: Job, plan: Plan) -> Iterator[str]:
    task = plan.tasks[0].task if plan.tasks else "configure"
    for name, value in directives(platform, job.requirements, f"{job.cube}-{task}", job.platform):
        yield directive(name, value)


def _output(path: str) -> tuple[str, str]:
    """Where what Slurm says goes; NUL stands for the member's number. `%` begins a pattern there."""
    if not _is_sayable(path):
        return ("#SBATCH --output=/dev/null", "#SBATCH --open-mode=append")
    name = path.replace("%", "%%").replace("\0", "%a")
    return (f"#SBATCH --output={name if _PLAIN.issuperset(name) else _quoted(name)}", "#SBATCH --open-mode=append")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _is_sayable(path: str) -> bool:
    return not any(odd in path for odd in _UNSAYABLE)


def _titles(plan: Plan) -> str:
    return ", ".join(f"task '{task.task}'" for task in plan.tasks) or "the preparation"


def _comments(plan: Plan, directory: str) -> Iterator[str]:
    """What the job does, for whoever reads the file."""
    where = _comment(quote(directory))
    yield f"# mlcube: {_comment(_titles(plan))} on {_comment(plan.platform)}, in {where}"
    yield f"# by hand: mkdir -p {where}, then sbatch this file"
    for note in plan.notes:
        yield f"# note: {_comment(note)}"
    for step in plan.steps:
        yield f"# {_comment(step.title)}:"
        for command in (*step.before, step.command, *step.then, *step.after):
            yield f"#   {_comment(shell_line(_shown(command)))}"


def _shown(command: Command) -> Command:
    """The command without the shell's texts that stand in it: the program below has them."""
    return replace(command, argv=tuple("..." if "\n" in word else word for word in command.argv))


def _comment(text: str) -> str:
    return text.translate(_BLANKS)
