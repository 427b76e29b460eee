"""The task's command in a job of several ranks, and in nodes that the caller holds already: through srun. Pure."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Plan, Step, Stop, Variable
from mlcube_cli.errors import DefinitionError
from mlcube_shell.slurm_batch import DIRECTORY
from mlcube_shell.slurm_checks import limits
from mlcube_shell.slurm_requests import directives

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.definition.model import Platform
    from mlcube_cli.facts import Facts

_SHAPE = ("--nodes", "--ntasks", "--ntasks-per-node", "--cpus-per-task")
ENDING = 2  # seconds of KillWait that are kept for what comes after the grace period: to kill, to tidy up, to say how it ended

# Where the ranks meet: the first node of the job, by its name where that is known, else by its address.
_MEET = """\
if [ -z "${MASTER_ADDR:-}" ]; then
  MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  if command -v getent >/dev/null 2>&1 && ! getent hosts "$MASTER_ADDR" >/dev/null; then
    MASTER_ADDR=$(scontrol show node "$MASTER_ADDR" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
  fi
fi
MASTER_PORT=${MASTER_PORT:-$((20000 + ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} % 10000 + ${SLURM_ARRAY_TASK_ID:-0} % 2000))}
export MASTER_ADDR MASTER_PORT
"""
# srun ends with the highest exit code, which is that of the ranks that it ended: the one that failed first is noted.
_START = """\
failed=${MLCUBE_JOB_DIRECTORY:+$MLCUBE_JOB_DIRECTORY/failed-rank}
[ -z "$failed" ] || rm -f -- "$failed"
srun "$@"
code=$?
if [ "$code" -ne 0 ] && [ -n "$failed" ] && read -r rank first size 2>/dev/null <"$failed"; then
  [ "$size" = 1 ] || echo "rank $rank was the first that failed, with exit code $first" >&2
  code=$first
fi
exit "$code"
"""
_RANK = """\
RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS NODE_RANK=$SLURM_NODEID
rest=$SLURM_STEP_TASKS_PER_NODE seen=0  # such as 2(x3),1
while [ "$seen" -le "$NODE_RANK" ]; do
  one=${rest%%,*} rest=${rest#*,} times=1
  case $one in *"(x"*) times=${one#*x} times=${times%")"};; esac
  LOCAL_WORLD_SIZE=${one%%"("*} seen=$((seen + times))
done
export RANK LOCAL_RANK WORLD_SIZE NODE_RANK LOCAL_WORLD_SIZE
trap : HUP INT QUIT TERM USR1 USR2 XCPU
"$@"
code=$?
[ "$code" -eq 0 ] || [ -z "${MLCUBE_JOB_DIRECTORY:-}" ] ||
  (set -C; echo "$RANK $code $WORLD_SIZE" >"$MLCUBE_JOB_DIRECTORY/failed-rank") 2>/dev/null
exit "$code"
"""
_ONCE_A_NODE = 'exec srun --export=ALL --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" ' \
               '--ntasks-per-node=1 --cpus-per-task=1 sh -c "$@"'
# On each node: once more, a moment later, where nodes got into each other's way in a directory that they share (`tmpdir`).
_ON_NODE = """\
given=$(cat; echo .)
for try in 1 2 3 last; do
  printf %s "${given%.}" | "$@" && exit 0
  code=$?
  [ "$try" = last ] || sleep "0.$((SLURM_NODEID % 9 + 1))"
done
exit "$code"
"""
# srun ends its ranks at once when it gets TERM [T], so they are asked through Slurm: by their step, which is called after the
# run. $1: its name, $2: seconds between TERM and KILL.
_FIND = """\
step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='%i %j' | sed -n "s/ $1 *\\$//p")
"""
_ASK = _FIND + """\
[ -n "$step" ] || exit 1
scancel --signal=TERM "$step"
while [ "$2" -gt 0 ] && sleep 1; do
  set -- "$1" $(($2 - 1))
  squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format=%j | grep -q -x -F -e "$1" || exit 0
done
scancel --signal=KILL "$step"
"""
_KILL = _FIND + """\
[ -n "$step" ] || exit 1
scancel --signal=KILL "$step"
"""
_REMOVE = _FIND + """\
[ -z "$step" ] || scancel --signal=KILL "$step"
"""


def is_allocated(facts: Facts) -> bool:
    """Does the caller hold nodes already (`salloc`, or a job that somebody wrote by hand)?"""
    return facts.environment.get("SLURM_JOB_ID", "").isdigit()


def for_batch(platform: Platform, plan: Plan, facts: Facts) -> Plan:
    """The plan as a batch job carries it out, on the first of its nodes: ranks are started by srun, and a grace period ends
    before Slurm's own does (RULINGS 40). Raises DefinitionError where what runs there cannot be several."""
    plan = _in_time(plan, facts)
    shape = _shape(platform)
    if not _is_several(shape):
        return plan
    cpus = shape.get("--cpus-per-task")  # not taken over from the job since Slurm 22.05
    words = (f"--cpus-per-task={cpus}",) if cpus else ()
    return _ranked(platform, plan, words, shape.get("--nodes", "1") != "1")


def for_allocation(platform: Platform, plan: Plan, facts: Facts) -> Plan:
    """The plan carried out in nodes that the caller holds: the task is started there by srun, in front of us."""
    asked = _shape(platform)
    shape = {**({} if _is_several(asked) else {"--nodes": "1", "--ntasks": "1"}), **asked}
    words = tuple(f"{name}={shape[name]}" for name in _SHAPE if name in shape)
    if any(task.interactive for task in plan.tasks):
        words += ("--pty",)
    note = (f"in the nodes that you hold (job {facts.environment.get('SLURM_JOB_ID', '')}): nothing is queued, and what they "
            "were given for counts")
    notes = [note]
    if platform.option("scratch"):
        notes.append("'scratch' is not used there: the task has its files where they are")
    plan = _ranked(platform, plan, words, True)
    steps = tuple(_with_room(step, plan, facts) for step in plan.steps) if facts.cache else plan.steps
    return replace(plan, steps=steps, notes=(*notes, *plan.notes))


def ranks(platform: Platform) -> str:
    """How many of the task run at once, in words; empty where it is one."""
    shape = _shape(platform)
    return ", ".join(f"{name[2:]} {shape[name]}" for name in _SHAPE[:3] if name in shape) if _is_several(shape) else ""


def _shape(platform: Platform) -> Mapping[str, str]:
    """The nodes and ranks that are asked for, the user's own words among them."""
    return {name: value for name, value in directives(platform, {}, "") if name in _SHAPE and value is not None}


def _is_several(shape: Mapping[str, str]) -> bool:
    return any(shape.get(name, "1") != "1" for name in _SHAPE[:3])


def _in_time(plan: Plan, facts: Facts) -> Plan:
    wait = limits(facts).kill_wait
    if wait is None or all(task.grace <= max(wait - ENDING, 1) for task in plan.tasks):
        return plan
    longest = float(max(wait - ENDING, 1))
    note = (f"the grace period is {longest:g} s here: Slurm kills a job {wait} s after it has asked it to end (KillWait), "
            f"and {ENDING} s of these are for tidying up")
    tasks = tuple(replace(task, grace=min(task.grace, longest)) for task in plan.tasks)
    return replace(plan, tasks=tasks, notes=(*plan.notes, note))


def _ranked(platform: Platform, plan: Plan, words: tuple[str, ...], elsewhere: bool) -> Plan:
    """The plan with the task's command started by srun. `elsewhere`: not, or not only, on the machine that does so: then
    what belongs to the command is done on each node, too."""
    graces = {task.task: task for task in plan.tasks}

    def change(step: Step) -> Step:
        if not step.payload or step.task is None:
            return step
        if step.stop is not None:
            raise DefinitionError(
                f"platform '{platform.name}': {ranks(platform) or 'a task in nodes that you hold'}: the engine inside starts "
                "and ends containers by their names, each on one node",
                "let singularity or local run inside: -Pslurm.platform=singularity")
        task = graces[step.task]
        argv = ("sh", "-c", _MEET + _START, "mlcube", "--export=ALL", "--kill-on-bad-exit=1", f"--job-name={task.run_id}",
                *words, "sh", "-c", _RANK, "mlcube", *step.command.argv)
        changed = replace(step, command=replace(step.command, argv=argv), stop=_stop(task.run_id, task.grace))
        return _on_nodes(changed) if elsewhere else changed

    return replace(plan, steps=tuple(change(step) for step in plan.steps))


def _with_room(step: Step, plan: Plan, facts: Facts) -> Step:
    """The task's step with a directory that its ranks know, as a batch job has one: in our cache, which nodes mostly see."""
    if not step.payload or facts.cache is None:
        return step
    run = next(task.run_id for task in plan.tasks if task.task == step.task)
    place = os.path.join(facts.cache, f"ranks-{run}")
    command = replace(step.command, env=(*step.command.env, Variable(DIRECTORY, place)))
    return replace(step, command=command, before=(Command(("mkdir", "-p", "--", place)), *step.before),
                   after=(*step.after, Command(("rm", "-rf", "--", place))))


def _stop(name: str, grace: float) -> Stop:
    def script(text: str) -> Command:
        return Command(("sh", "-c", text, "mlcube", name, str(int(-(-grace // 1)))))

    return Stop(script(_ASK), script(_KILL), script(_REMOVE))


def _on_nodes(step: Step) -> Step:
    sign = step.sign and replace(step.sign, started=_once_a_node(step.sign.started),
                                 why=step.sign.why and _once_a_node(step.sign.why))
    before, then, after = (tuple(map(_once_a_node, commands)) for commands in (step.before, step.then, step.after))
    return replace(step, before=before, then=then, after=after, sign=sign)


def _once_a_node(command: Command) -> Command:
    return replace(command, argv=("sh", "-c", _ONCE_A_NODE, "mlcube", _ON_NODE, "mlcube", *command.argv))
