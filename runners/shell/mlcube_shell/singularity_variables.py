"""The variables of a singularity task, its accelerators among them, as the engine gets them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlcube_cli.command import Variable
from mlcube_cli.facts import PathKind
from mlcube_cli.job import Job
from mlcube_shell.batch_variables import NODE, RANKS, is_of_job, passing_lines, removing_lines
from mlcube_shell.gpus import HIDDEN, Request, chosen_devices, request_of, share_of
from mlcube_shell.options import flag_option, mapping_option, refuse
from mlcube_shell.passing import PROXIES
from mlcube_shell.singularity_engine import NO_LINES, Engine, Lines

_OF_THE_CALLER = ("APPTAINERENV_", "SINGULARITYENV_")
# --nvccli reads this one, from the engine's own environment
_NVIDIA = '[ -z "${CUDA_VISIBLE_DEVICES-}" ] || export NVIDIA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"'
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")  # with another one, the engine sets none of them, and goes on ([T] 1.4)

@dataclass(frozen=True)
class Words:
    """Words of the command line, variables of the engine's own environment, what is to be said, and what a shell does
    where the command runs."""

    words: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    lines: Lines = NO_LINES

    def __add__(self, other: Words) -> Words:
        return Words(self.words + other.words, self.variables + other.variables, self.notes + other.notes,
                     self.lines + other.lines)


def is_on(job: Job, name: str, default: bool) -> bool:
    """An option that is true or false; blank (`--nv: ''`) is not set."""
    option = job.find_option(name)
    if option is None or option.value in (None, ""):
        return default
    return flag_option(job, name)


# --- environment -----------------------------------------------------------------------------------------------------


def environment(engine: Engine, gpus: tuple[tuple[str, str], ...]) -> Words:
    """The task's variables as APPTAINERENV_NAME, which hold any value and stand in no argv; the caller's own are taken out.

    Later ones win: what devices and batch jobs say, proxies, defaults of ours, what the platform says. Of a job that a batch
    system starts, lines of shell do the first of these where it runs. Raises DefinitionError for a name that the engine does
    not take.
    """
    job, caller = engine.job, engine.facts.environment
    found: dict[str, Variable] = {}
    for name in sorted(caller):
        if not _NAME.match(name):
            continue
        if is_of_job(name) and name not in (*RANKS, NODE) and not job.batch:
            found[name] = Variable(name, caller[name])
        elif name in PROXIES and caller[name]:
            found[name] = Variable(name, caller[name], secret="@" in caller[name])
    found["PYTHONUNBUFFERED"] = Variable("PYTHONUNBUFFERED", "1")
    found.update((name, Variable(name, value)) for name, value in gpus)
    notes: list[str] = []
    option = job.find_option("env")
    for name, value in mapping_option(job, "env"):
        if option is not None and not _NAME.match(name):
            raise refuse(option, f"{name!r}: {engine.name} takes letters, digits and '_' for a variable's name",
                         "call it otherwise, or use docker")
        if value is None and job.batch and is_of_job(name):
            continue  # the job's own, not the caller's
        if value is None and name not in caller:
            notes.append(f"'env' passes {name} on, but it is not set here")
        elif name != "HOME" or not is_on(job, "contain", True):
            secret = value is None or (option is not None and option.hides(name))
            found[name] = Variable(name, caller[name] if value is None else value, secret)
    given = tuple(Variable(f"{engine.prefix}ENV_{name}", escaped(engine, one.value or ""), one.secret)
                  for name, one in found.items())
    names = {one.name for one in given}
    if job.batch:
        lines = Lines(removing_lines(_OF_THE_CALLER, names),
                      passing_lines(f"{engine.prefix}ENV_", found, escaped=not engine.can("no_eval")))
        return Words(variables=given, notes=tuple(notes), lines=lines)
    return Words(variables=(*stripped(engine, names), *given), notes=tuple(notes))


def stripped(engine: Engine, kept: set[str]) -> tuple[Variable, ...]:
    """The caller's APPTAINERENV_ and SINGULARITYENV_ variables, removed: they would pass --cleanenv (RULINGS 21)."""
    return tuple(Variable(name, None) for name in sorted(engine.facts.environment)
                 if name.startswith(_OF_THE_CALLER) and name not in kept)


def escaped(engine: Engine, value: str) -> str:
    """The value as the engine has to get it: before --no-eval a shell evaluates it between double quotes."""
    if engine.can("no_eval"):
        return value
    return "".join(f"\\{char}" if char in '\\"$`' else char for char in value)


# --- accelerators ----------------------------------------------------------------------------------------------------


def accelerators(engine: Engine) -> tuple[Words, tuple[tuple[str, str], ...]]:
    """The words for the platform's `gpus`, `nv` and `rocm`, and the variables that say which devices the task may use."""
    job, facts = engine.job, engine.facts
    request = request_of(job)
    nv, rocm = is_on(job, "nv", False), is_on(job, "rocm", False)
    if request.forbidden:
        option = job.find_option("gpus")
        if (nv or rocm) and option is not None:
            raise refuse(option, "'nv' and 'rocm' ask for GPUs", "leave one of them out")
        return Words(("--no-nv", "--no-rocm")), HIDDEN
    if not request.wanted:
        return Words((*(("--nv",) if nv else ()), *(("--rocm",) if rocm else ()))), ()
    if job.batch:  # which devices, the batch system says where the job runs
        return Words(("--rocm",)) if rocm else Words(("--nv",), lines=Lines(after=(_NVIDIA,))), ()
    nodes = {"--nv": ("/dev/nvidiactl", "/dev/dxg"), "--rocm": ("/dev/kfd",)}
    facts.need(*(PathKind(path) for paths in nodes.values() for path in paths))
    there = [word for word, paths in nodes.items() if any(facts.path(path).kind != "absent" for path in paths)]
    word = "--rocm" if rocm or (not nv and there == ["--rocm"]) else "--nv"
    notes = () if word in there or engine.assumed else ("the platform asks for GPUs, but this machine shows none",)
    name = "ROCR_VISIBLE_DEVICES" if word == "--rocm" else "CUDA_VISIBLE_DEVICES"
    devices, more = _devices(engine, request, name)
    variables = ((name, devices),) if devices else ()
    if devices and word == "--nv":  # --nvccli reads this one, from the engine's own environment
        return Words((word,), (Variable("NVIDIA_VISIBLE_DEVICES", devices),), (*notes, *more)), (
            *variables, ("NVIDIA_VISIBLE_DEVICES", devices))
    return Words((word,), notes=(*notes, *more)), variables


def _devices(engine: Engine, request: Request, name: str) -> tuple[str, tuple[str, ...]]:
    """The ids that the task gets, within what the caller was given; empty for all."""
    share = share_of(engine.facts, name)
    all_of_them = request.count < 0 or request.devices
    chosen = ",".join(chosen_devices(request, share))
    return chosen, () if all_of_them or not share else (f"{name} allows {','.join(share)}: the task gets {chosen}",)
