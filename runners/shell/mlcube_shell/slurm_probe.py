"""A look at a node, by a job of a few seconds: does it see the cube, may it write there, is what runs the tasks there? Pure."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, quote, shell_line
from mlcube_shell.slurm_requests import directives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcube_cli.definition.model import Platform
    from mlcube_cli.job import Job

# What is of batch jobs alone, of several ranks, or would make the look wait for longer than it has to.
_NOT_ASKED = ("--job-name", "--nodes", "--ntasks", "--ntasks-per-node", "--time", "--exclusive", "--signal", "--export",
              "--mail-type", "--mail-user", "--requeue", "--no-requeue", "--open-mode")
_SCRIPT = r"""
echo "node $(uname -n)"
number=0
for path in "$@"; do
  number=$((number + 1))
  if [ ! -e "$path" ]; then echo "absent $number"
  elif [ ! -r "$path" ]; then echo "unreadable $number"
  elif [ ! -w "$path" ]; then echo "readable $number"
  else echo "writable $number"
  fi
done
"""


def look_at_node(platform: Platform, job: Job, paths: Sequence[str], versions: Sequence[tuple[str, Command]]) -> Command:
    """The command that has a node answer, a line each: `node NAME`; of each path, by its number from 1 on, `absent N`,
    `unreadable N`, `readable N` or `writable N`; `version NAME TEXT` for the programs that answer `versions`.

    `job`: as a node runs it (`on_node`).
    """
    words = [word for name, value in directives(platform, job.requirements, f"{job.cube}-doctor", job.platform)
             if name not in _NOT_ASKED for word in ([f"{name}={value}"] if value is not None else [name])]
    asked = "".join(f'said=$({shell_line(command)} 2>&1 </dev/null) && echo "version "{quote(name)}" "$said\n'
                    for name, command in versions)
    return Command(("srun", "--quiet", f"--job-name={job.cube}-doctor", "--nodes=1", "--ntasks=1", "--time=2", *words,
                    "sh", "-c", f"{_SCRIPT}{asked}:", "mlcube", *paths))
