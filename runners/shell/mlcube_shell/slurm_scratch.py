"""`scratch`: inputs copied to a directory of the node's own before the task, outputs copied back after it. Pure.

The task gets paths below a link in the node's /tmp, which leads to that directory: only the node knows where it is.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Plan, Step, quote
from mlcube_cli.relocation import is_at_or_below
from mlcube_shell.options import refuse
from mlcube_shell.slurm_ranks import ranks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlcube_cli.definition.model import Option, Platform
    from mlcube_cli.job import Argument, Job

_DEFAULT = '"${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"'
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*)|\$)", re.ASCII)

# $1: the link; then for each path: `in` or `out`, its number, where it really is, its name. What a killed try left goes first.
_FETCH = """\
set -eu
umask 077
place=%s
link=$1
shift
if [ ! -d "$place" ] || [ ! -w "$place" ]; then
  echo "scratch: $place is no directory that can be written to on $(uname -n)" >&2
  exit 1
fi
room=$place/mlcube-staged-${link##*/mlcube-scratch-}
rm -rf -- "$room" "$link"
mkdir -- "$room"
ln -s -- "$room" "$link"
needed=0
number=$#
while [ "$number" -gt 0 ]; do
  if [ -e "$3" ]; then
    size=$(du -s -k -H -- "$3" | { read -r size rest; echo "$size"; })
    needed=$((needed + size))
  fi
  set -- "$@" "$1" "$2" "$3" "$4"
  shift 4
  number=$((number - 4))
done
free=$(df -P -k -- "$room" | { read -r line; read -r a b c free rest; echo "$free"; })
if [ "$needed" -gt "$free" ]; then
  rm -rf -- "$room" "$link"
  echo "scratch: $needed KiB are needed in $place on $(uname -n), and $free KiB are free" >&2
  exit 1
fi
while [ "$#" -gt 0 ]; do
  mkdir -p -- "$link/$2"
  if [ -e "$3" ]; then cp -R -H -p -- "$3" "$link/$2/$4"; elif [ "$1" = in ]; then echo "$3 is not there" >&2; exit 1; fi
  shift 4
done
"""
# $1: the link; then for each output: where it is below the link, where it belongs. A half copied one never replaces a whole
# one: it gets its name when it is whole, and what was there before goes last.
_BRING = """\
set -eu
link=$1
shift
[ ! -e "$link/brought" ] || exit 0
trap '[ -e "$link/brought" ] || echo "what the task wrote is still in $(readlink "$link") on $(uname -n)" >&2' EXIT
while [ "$#" -gt 0 ]; do
  fresh=$2.mlcube-partial old=$2.mlcube-old
  if [ -e "$link/$1" ] || [ -L "$link/$1" ]; then
    rm -rf -- "$fresh"
    mkdir -p -- "${2%/*}/"
    cp -R -P -p -- "$link/$1" "$fresh"
    if [ -d "$2" ] && [ ! -L "$2" ]; then
      rm -rf -- "$old"
      mv -- "$2" "$old"
      mv -- "$fresh" "$2" || { mv -- "$old" "$2"; exit 1; }
      rm -rf -- "$old"
    else
      if [ -L "$2" ]; then target=$(readlink -f -- "$2"); else target=$2; fi
      mv -f -- "$fresh" "$target"
    fi
  fi
  shift 2
done
: >"$link/brought"
"""
_REMOVE = """\
room=$(readlink -- "$1") || exit 0
[ -e "$room/brought" ] || exit 1  # the only copy of what the task wrote
case $room in */mlcube-staged-*) chmod -R u+rwX -- "$room" 2>/dev/null; rm -rf -- "$room" "$1";; esac
"""


def scratched(platform: Platform, job: Job) -> Job:
    """The job with the paths that it has on a node's own disk; unchanged where `scratch` is not set. Raises DefinitionError
    where the platform asks for several nodes, or where an output holds the runs' own directory."""
    option = _option(platform)
    if option is None:
        return job
    several = ranks(platform)
    if several:
        raise refuse(option, f"a node's own disk is no place for several ranks ({several})", "take one of both away")
    moved = _moved(job, option)
    arguments = tuple(argument if argument.text is not None else replace(argument, host_path=moved[argument.host_path])
                      for argument in job.arguments)
    return replace(job, arguments=arguments)


def staged(platform: Platform, job: Job, plan: Plan) -> Plan:
    """The plan of `scratched(platform, job)` with what copies there before and back after the task, whichever way it ends;
    unchanged where `scratch` is not set."""
    option = _option(platform)
    if option is None or not plan.tasks:
        return plan
    link = _link(job)
    fetch = Step("copy inputs to the node", _script(_FETCH % _place(option), link, *_fetched(job, option)), task=job.task,
                 hint="-Pslurm.scratch=false leaves the files where they are; -Pslurm.scratch=DIRECTORY names another place")
    bring = _script(_BRING, link, *_brought(job, option))
    payload = [replace(step, then=(*step.then, bring), after=(*step.after, bring, _script(_REMOVE, link)))
               if step.payload else step for step in plan.steps]
    first = next((number for number, step in enumerate(payload) if step.task is not None), 0)
    back = {new: old for old, new in _moved(job, option).items()}
    tasks = tuple(replace(task, arguments=tuple(
        (replace(argument, host_path=back.get(argument.host_path, argument.host_path)), seen)
        for argument, seen in task.arguments)) for task in plan.tasks)
    return replace(plan, steps=(*payload[:first], fetch, *payload[first:]), tasks=tasks)


def _option(platform: Platform) -> Option | None:
    option = platform.find("scratch")
    return None if option is None or option.value in (None, False, "") else option


def _link(job: Job) -> str:
    return f"/tmp/mlcube-scratch-{job.run_id}"


def _script(text: str, *words: str) -> Command:
    return Command(("sh", "-c", text, "mlcube", *words))


def _place(option: Option) -> str:
    """Where the directory is, as a word of a shell on the node: nothing but `~` and `$NAME` means anything to it."""
    if option.value is True:
        return _DEFAULT
    text = str(option.value)
    found, at = [], 0
    if text == "~" or text.startswith("~/"):
        found, at = ['"$HOME"'], 1
    for match in _VARIABLE.finditer(text, at):
        name = match[1] or match[2]
        found += [quote(text[at:match.start()])] if match.start() > at else []
        found.append(f'"${{{name}:?scratch: it is not set on the node}}"' if name else "'$'")
        at = match.end()
    return "".join((*found, *([quote(text[at:])] if text[at:] else [])))


def _roots(job: Job, option: Option) -> tuple[str, ...]:
    """The paths that are copied: those of the task that lie in no other one of it."""
    paths = dict.fromkeys(argument.host_path for argument in job.paths)
    ours = os.path.join(job.workspace, ".mlcube")
    for argument in job.paths:
        if is_at_or_below(ours, argument.host_path):
            raise refuse(option, f"'{argument.name}' is {argument.host_path}, which holds what mlcube keeps of runs",
                         "name a directory below it")
    return tuple(path for path in paths if not any(path != other and is_at_or_below(path, other) for other in paths))


def _moved(job: Job, option: Option) -> Mapping[str, str]:
    """Each path of the task -> its path on the node's disk."""
    found = {}
    for number, root in enumerate(_roots(job, option)):
        place = os.path.join(_link(job), str(number), os.path.basename(root) or "root")
        for argument in job.paths:
            if is_at_or_below(argument.host_path, root):
                rest = argument.host_path[len(root):].strip("/")
                found[argument.host_path] = os.path.join(place, rest) if rest else place
    return found


def _fetched(job: Job, option: Option) -> Iterator[str]:
    inputs = {argument.host_path for argument in job.paths if argument.direction == "input"}
    for number, root in enumerate(_roots(job, option)):
        yield from ("in" if root in inputs else "out", str(number), root, os.path.basename(root) or "root")


def _brought(job: Job, option: Option) -> Iterator[str]:
    """What the task may have changed: outputs, and inputs that it may write to; those inside of another come with that."""
    moved, link = _moved(job, option), _link(job)
    changed: list[Argument] = [one for one in job.paths if one.direction == "output" or one.mode == "rw"]
    for argument in changed:
        if not any(argument.host_path != other.host_path and is_at_or_below(argument.host_path, other.host_path)
                   for other in changed):
            yield from (moved[argument.host_path][len(link) + 1:], argument.host_path)
