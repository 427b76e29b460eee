"""What a job asks Slurm for, as sbatch's words: a slurm platform's options, and what the cube and the platform inside ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlcube_cli.definition.model import Data, Option, Platform
from mlcube_cli.quantities import find_bytes, find_time_limit, size_text, time_limit_text
from mlcube_shell.gpus import parse_gpus

# The task's notice before a time limit ends it, where the platform says none: seconds, and at most that part of the limit.
_SIGNAL, _NOTICE, _PART = "TERM", 60, 4
# sbatch's word that the supervisor of a job takes for "the time is nearly up"; which signal the task gets is `last_signal`.
NOTICE_SIGNAL = "XCPU"
# An option's words of its own, in sbatch's order of no meaning: ours.
_PLAIN: Mapping[str, str] = {
    "partition": "--partition", "account": "--account", "qos": "--qos", "nodes": "--nodes", "ntasks": "--ntasks",
    "ntasks_per_node": "--ntasks-per-node", "constraint": "--constraint",
}
# What says something of the same thing: where sbatch_args hold one of these, ours is not written (RULINGS 18).
_SAME: Mapping[str, tuple[str, ...]] = {
    "--gres": ("--gres", "--gpus", "--gpus-per-node", "--gpus-per-socket", "--gpus-per-task"),
    "--mem": ("--mem", "--mem-per-cpu", "--mem-per-gpu"),
    "--cpus-per-task": ("--cpus-per-task", "--cpus-per-gpu"),
}
_OF_GPUS = re.compile(r"--gpus(-per-\w+)?=(?!none\b|0\b)|--gres=(.*,)?gpu\b")
_SET = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
_CUBE = "as the cube asks"


@dataclass(frozen=True)
class Request:
    """An amount, and who asks for it in words; `value` None: nobody does."""

    value: int | str | None = None
    why: str = ""  # empty where the slurm platform itself says it


@dataclass(frozen=True)
class Requests:
    """What is asked of each node: `gpus` a number or `TYPE:N` (0: none, on purpose), `memory` in bytes (0: all that a node
    has), `cpus` of each rank."""

    gpus: Request
    memory: Request
    cpus: Request


def requests_of(platform: Platform, cube_requests: Mapping[str, Data], inner: Platform | None = None) -> Requests:
    """Who counts: a flag of the command line, the slurm platform, the options of the platform inside, the cube.

    `cube_requests`: the cube's `platform` section. Raises DefinitionError for `gpus` of the inner platform that mean nothing.
    """
    return Requests(_chosen(platform.find("gpus"), _inner_gpus(inner), _count(cube_requests, "accelerator_count")),
                    _chosen(platform.find("memory"), _inner_memory(inner), _cube_memory(cube_requests)),
                    _chosen(platform.find("cpus_per_task"), _inner_cpus(inner), Request()))


def directives(platform: Platform, cube_requests: Mapping[str, Data], name: str,
               inner: Platform | None = None) -> tuple[tuple[str, str | None], ...]:
    """sbatch's words in a fixed order, each with its value or None: nothing that nobody asks for, `sbatch_args` last.

    `name`: of the job, any text. `--export=NONE` always stands there, `--signal` only with a time limit (RULINGS 41).
    Raises DefinitionError as `requests_of`.
    """
    asked = requests_of(platform, cube_requests, inner)
    own = _own_words(platform)
    found: list[tuple[str, str | None]] = [("--job-name", _job_name(name))]
    found += [(word, str(platform.option(option))) for option, word in _PLAIN.items() if platform.option(option) is not None]
    limit = platform.option("time")
    if isinstance(limit, int):
        found.append(("--time", time_limit_text(limit)))
    if asked.cpus.value is not None:
        found.append(("--cpus-per-task", str(asked.cpus.value)))
    if isinstance(asked.memory.value, int):
        found.append(("--mem", size_text(asked.memory.value)))
    resources = _resources(platform, asked)
    if resources:
        found.append(("--gres", resources))
    sharing = platform.option("exclusive")
    if sharing:
        found.append(("--exclusive", None if sharing is True else str(sharing)))
    signal = last_signal(platform)
    if signal is not None:
        found.append(("--signal", f"B:{NOTICE_SIGNAL}@{signal[1]}"))
    found.append(("--export", "NONE"))
    return (*(one for one in found if not _is_replaced(one[0], own)), *own)


def last_signal(platform: Platform) -> tuple[str, int] | None:
    """The signal that the task gets before its time is up (`TERM`), and how many seconds before; None where there is none:
    no time limit is set, or none is wanted."""
    limit = _limit(platform)
    stated = str(platform.option("signal_before_end") or "")
    if limit is None or stated == "none":
        return None
    name, _, seconds = stated.partition("@")
    return (name, int(seconds)) if stated else (_SIGNAL, max(1, min(_NOTICE, limit // _PART)))


def _limit(platform: Platform) -> int | None:
    """Seconds that a job may take; None: as many as the partition gives, or without end."""
    own = next((value for word, value in _own_words(platform) if word == "--time"), None)
    limit = platform.option("time") if own is None else find_time_limit(own)
    return limit if isinstance(limit, int) and limit else None


def gpus_inside(platform: Platform, cube_requests: Mapping[str, Data], inner: Platform) -> str | None:
    """What `gpus` of the platform inside means in a job: `all` that Slurm gives it, `none`, or None: nobody says anything.
    How many these are, and which, is Slurm's matter."""
    if any(_OF_GPUS.match(f"{word}={value}") for word, value in _own_words(platform)):
        return "all"
    value = requests_of(platform, cube_requests, inner).gpus.value
    option = inner.find("gpus")
    if value is None:
        return "all" if option is not None and option.value is not None else None
    return "all" if value else "none"


def notes(platform: Platform, cube_requests: Mapping[str, Data], inner: Platform | None = None) -> tuple[str, ...]:
    """Where a request came from that the slurm platform does not state itself, and what Slurm cannot be asked for. Raises
    DefinitionError as `requests_of`."""
    asked = requests_of(platform, cube_requests, inner)
    own = _own_words(platform)
    found = []
    if asked.gpus.why and asked.gpus.value and not _is_replaced("--gres", own):
        found.append(f"Slurm is asked for {_gpus_text(asked.gpus.value)} on each node, {asked.gpus.why}")
    if asked.memory.why and isinstance(asked.memory.value, int) and not _is_replaced("--mem", own):
        found.append(f"Slurm is asked for {size_text(asked.memory.value)} of memory on each node, {asked.memory.why}")
    if asked.cpus.why and asked.cpus.value and not _is_replaced("--cpus-per-task", own):
        found.append(f"Slurm is asked for {asked.cpus.value} processors a rank, {asked.cpus.why}")
    return (*found, *_unasked(platform, cube_requests))


def _unasked(platform: Platform, cube_requests: Mapping[str, Data]) -> tuple[str, ...]:
    """What has no word of Slurm's that means the same on every cluster."""
    found = []
    disk, memory = cube_requests.get("host_disk_space_gb"), cube_requests.get("host_memory_gb")
    if disk not in (None, "", 0, "0"):
        found.append(f"the cube asks for {disk} GB of disk, which Slurm is not asked for: see to it that 'work_dir' or the "
                     "workspace has room")
    if memory not in (None, "") and _cube_memory(cube_requests).value is None and platform.option("memory") is None:
        found.append(f"the cube's 'host_memory_gb' is no number of gigabytes: {memory}; Slurm is not asked for it")
    if cube_requests.get("need_internet_access") is True:
        found.append("the cube needs the internet, which nodes often do not reach: 'partition' or 'constraint' may name some "
                     "that do")
    signal, last, limit = platform.find("signal_before_end"), last_signal(platform), _limit(platform)
    if signal is not None and signal.value != "none" and last is None:
        found.append(f"'signal_before_end' ({signal.origin}) has no effect without 'time'")
    elif last is not None and limit is not None and last[1] >= limit:
        found.append(f"'signal_before_end' comes {last[1]} seconds before the end of a job that may take {limit}: at once")
    return tuple(found)


# --- who asks for what -------------------------------------------------------------------------------------------------


def _chosen(option: Option | None, inside: tuple[Request, bool], cube: Request) -> Request:
    """`inside`: what the platform inside asks for, and whether that was typed as a flag."""
    asked, typed = inside
    if typed and asked.value is not None:
        return asked
    if option is not None and option.value is not None:
        return Request(option.value if isinstance(option.value, (int, str)) else str(option.value))
    return asked if asked.value is not None else cube


def _said_inside(inner: Platform | None, *names: str) -> tuple[Option | None, str, bool]:
    """The first of these options that is set, who says it in words, and whether it is a flag of the command line."""
    options = (inner.find(name) for name in names) if inner else ()
    found = next((option for option in options if option and option.value is not None), None)
    if found is None or inner is None:
        return None, "", False
    typed = found.origin.startswith("--") and ":" not in found.origin
    return found, f"as {found.origin} asks" if typed else f"as '{inner.name}.{found.name}' asks ({found.origin})", typed


def _inner_gpus(inner: Platform | None) -> tuple[Request, bool]:
    """How many devices; `all` is what Slurm gives, and asks for nothing."""
    option, why, typed = _said_inside(inner, "gpus")
    if option is None:
        return Request(), False
    asked = parse_gpus(option)
    if asked.count < 0:
        return Request(), False
    return Request(len(asked.devices) or asked.count, why), typed


def _inner_memory(inner: Platform | None) -> tuple[Request, bool]:
    """A container's limit, which engines write in bytes where no unit stands there, and virtual machines in MiB."""
    option, why, typed = _said_inside(inner, "memory", "vm_ram")
    if option is None:
        return Request(), False
    text = str(option.value).strip()
    plain = text[:-1] if text[-1:] in ("b", "B") else text
    if option.name == "memory" and plain[-1:].isdigit():
        return Request(int(plain) if plain.isdecimal() else None, why), typed
    return Request(find_bytes(text), why), typed


def _inner_cpus(inner: Platform | None) -> tuple[Request, bool]:
    """A number of processors, or how many a list such as `0-3,8` names."""
    option, why, typed = _said_inside(inner, "vm_cpu", "cpuset_cpus")
    if option is None:
        return Request(), False
    text = str(option.value).strip()
    if option.name == "vm_cpu":
        return Request(int(text) if text.isdecimal() and int(text) else None, why), typed
    parts = [_SET.fullmatch(part.strip()) for part in text.split(",")]
    count = sum(max(int(part[2] or part[1]) - int(part[1]) + 1, 0) for part in parts if part)
    return Request(count or None, why), typed


def _count(cube_requests: Mapping[str, Data], name: str) -> Request:
    text = str(cube_requests.get(name) or "").strip()
    return Request(int(text), f"{_CUBE} ('platform.{name}')") if text.isdecimal() and int(text) else Request()


def _cube_memory(cube_requests: Mapping[str, Data]) -> Request:
    """`host_memory_gb`; Slurm's gigabytes are of 1024^3 bytes, so that a node of that size has them."""
    text = str(cube_requests.get("host_memory_gb") or "").strip()
    size = find_bytes(f"{text}G") if text[-1:].isdigit() else find_bytes(text)
    return Request(size, f"{_CUBE} ('platform.host_memory_gb')") if size else Request()


# --- words ---------------------------------------------------------------------------------------------------------------


def _resources(platform: Platform, asked: Requests) -> str:
    """`--gres` in one word: sbatch takes the last one alone."""
    others = platform.option("gres")
    return ",".join([*([f"gpu:{asked.gpus.value}"] if asked.gpus.value else []), *([str(others)] if others else [])])


def _own_words(platform: Platform) -> tuple[tuple[str, str | None], ...]:
    value = platform.option("sbatch_args")
    words = [str(item) for item in value] if isinstance(value, list) else []
    return tuple((name, text if equals else None) for name, equals, text in (word.partition("=") for word in words))


def _is_replaced(word: str, own: tuple[tuple[str, str | None], ...]) -> bool:
    return any(name in _SAME.get(word, (word,)) for name, _ in own)


def _gpus_text(value: int | str) -> str:
    return f"{value} GPU{'' if str(value).rpartition(':')[2] == '1' else 's'}"


def _job_name(name: str) -> str:
    """A name that squeue shows and that no line of a batch file can trip over."""
    return re.sub(r"[^A-Za-z0-9._+:@-]+", "-", name).strip("-")[:60] or "mlcube"
