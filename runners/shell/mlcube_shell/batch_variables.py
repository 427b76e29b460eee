"""What a batch system says to a job of its devices and processes: which variables, and the shell lines that pass them on.

Their values are known only where the job runs. So lines in front of an engine's command look there, by name; no value
becomes text of a script. The names of what is looked at come from `env`, cut down to what a shell can take for a name.
"""

from __future__ import annotations

from collections.abc import Iterable

# Indices or ids of devices (RULINGS 21).
DEVICES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
           "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
PREFIXES = ("SLURM_", "PMI_", "PMIX_")
KEPT_BACK = ("SLURM_JWT",)  # a key to the batch system
# Who a process is among those of its task, as torchrun and its like name it.
RANKS = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK")
NODE = "SLURMD_NODENAME"

# For engines that are told names one by one: what sbatch(1) and srun(1) set, of use to a task.
JOB_NAMES = (*RANKS, NODE, *(f"SLURM_{name}" for name in (
    "ARRAY_JOB_ID", "ARRAY_TASK_COUNT", "ARRAY_TASK_ID", "ARRAY_TASK_MAX", "ARRAY_TASK_MIN", "CLUSTER_NAME", "CPUS_ON_NODE",
    "CPUS_PER_TASK", "GPUS_ON_NODE", "JOB_ACCOUNT", "JOB_CPUS_PER_NODE", "JOB_END_TIME", "JOB_ID", "JOB_NAME", "JOB_NODELIST",
    "JOB_NUM_NODES", "JOB_PARTITION", "JOB_QOS", "JOB_START_TIME", "LOCALID", "MEM_PER_CPU", "MEM_PER_NODE", "NNODES", "NODEID",
    "NPROCS", "NTASKS", "NTASKS_PER_NODE", "PROCID", "RESTART_COUNT", "STEP_ID", "SUBMIT_DIR", "TASKS_PER_NODE")))

_EVERY_NAME = r"env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"


def is_of_job(name: str) -> bool:
    """Whether a batch system sets this variable for a job or for its processes, and a task may know it."""
    return name in (*DEVICES, *RANKS, NODE) or (name.startswith(PREFIXES) and name not in KEPT_BACK)


def passing_lines(start: str, given: Iterable[str], escaped: bool = False) -> tuple[str, ...]:
    """Lines that give a container the job's variables, as `start` and the variable's name: APPTAINERENV_SLURM_PROCID.

    `given`: names whose value is settled already. `escaped`: for an engine that has a shell evaluate the values between
    double quotes.
    """
    settled = sorted(name for name in given if is_of_job(name))
    escape = (r"""      mlcube_value=$(printf %s "$mlcube_value" | sed 's/[\\"$`]/\\&/g')""",) if escaped else ()
    text = "\n".join((
        f"for mlcube_name in $({_EVERY_NAME}); do",
        "  case $mlcube_name in",
        f"    {'|'.join((*settled, *KEPT_BACK))}) ;;",
        f"    {'|'.join((*(f'{prefix}*' for prefix in PREFIXES), *DEVICES, *RANKS, NODE))})",
        '      eval "mlcube_value=\\$$mlcube_name"',
        *escape,
        f'      eval "{start}$mlcube_name=\\$mlcube_value; export {start}$mlcube_name" ;;',
        "  esac",
        "done",
        "unset mlcube_name mlcube_value"))
    return (text,)


def removing_lines(starts: Iterable[str], kept: Iterable[str]) -> tuple[str, ...]:
    """Lines that remove all variables that begin so, except these."""
    cases = (f"    {'|'.join(sorted(kept))}) ;;",) if kept else ()
    text = "\n".join((
        f"for mlcube_name in $({_EVERY_NAME}); do",
        "  case $mlcube_name in",
        *cases,
        f"    {'|'.join(f'{start}*' for start in starts)}) unset \"$mlcube_name\" ;;",
        "  esac",
        "done",
        "unset mlcube_name"))
    return (text,)


def inserting_lines(at: int, devices: Iterable[str], insertion: Iterable[str]) -> tuple[str, ...]:
    """Lines that put words behind the first `at` words of the command. `insertion`: lines of shell that append them to `$@`,
    knowing the job's devices as $mlcube_devices: the first of the variables `devices` that says something."""
    found = ""
    for name in reversed(tuple(devices)):
        found = f"${{{name}:-{found}}}"
    text = "\n".join((
        f"mlcube_devices={found} mlcube_at=0",
        "for mlcube_word do",
        '  [ "$mlcube_at" -gt 0 ] || set --',
        '  set -- "$@" "$mlcube_word"',
        "  mlcube_at=$((mlcube_at + 1))",
        f'  if [ "$mlcube_at" -eq {at} ]; then',
        *(f"    {line}" for line in insertion),
        "  fi",
        "done",
        "unset mlcube_devices mlcube_at mlcube_word"))
    return (text,)
