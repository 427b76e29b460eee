"""Inputs that a workspace outside the cube lacks, copied there once from the cube's own workspace: the steps of the plan."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Plan, Step

if TYPE_CHECKING:
    from mlcube_cli.job import Copy, Job

# Words: source, target, the target's directory. The copy gets its name only when it is whole. The temporary name says whose
# it is: what a killed copy of this machine and user left is cleared away by the next one. -H: a link that *is* the input is
# followed, links inside it stay links; -p: modes and times.
_SCRIPT = """\
set -eu
temporary=$3/.mlcube-copy.$(uname -n).$(id -u)
clear() {
  if [ -d "$1" ] && [ ! -L "$1" ]; then chmod -R u+rwX "$1"; fi
  rm -rf "$1"
}
trap 'clear "$temporary.$$"' EXIT
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p "$3"
for old in "$temporary".*; do
  kill -0 "${old##*.}" 2>/dev/null || clear "$old"
done
cp -R -H -p "$1" "$temporary.$$"
if [ ! -e "$2" ] && [ ! -L "$2" ]; then mv "$temporary.$$" "$2"; fi"""


def with_copies(plan: Plan, job: Job) -> Plan:
    """The plan with the job's copies behind its preparation, each skipped where the input is there by then.

    They belong to no task, so that tasks of one command line that share an input copy it once (spec/dialects 3.6).
    """
    steps = tuple(_step(copy) for copy in job.copies)
    return replace(plan, steps=(*plan.preparation, *steps, *plan.own_steps))


def _step(copy: Copy) -> Step:
    above = os.path.dirname(copy.target)
    return Step(
        f"copy input {copy.name} from the cube's own workspace",
        Command(("sh", "-c", _SCRIPT, "mlcube", copy.source, copy.target, above)),
        unless=Command(("test", "-e", copy.target)),
        lock=f"copies into {above}",
        hint="free some space or check the permissions; or copy it yourself, or give another path: "
             f"{copy.name}=PATH")
