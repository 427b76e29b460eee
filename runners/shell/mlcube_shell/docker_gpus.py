"""The words that give a container of docker or podman its accelerators."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcube_cli.definition.model import Option
from mlcube_cli.facts import PathKind, Probe, Tool
from mlcube_shell.docker_engine import Engine, Inserted, read_map
from mlcube_shell.gpus import SHARES, Request, chosen_devices, parse_gpus, request_of, share_of
from mlcube_shell.run_words import Flag

# Numbers that hold outside of a job's own group of processes, too; then what holds inside (srun(1), OUTPUT ENVIRONMENT).
_GLOBAL_DEVICES = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Gpus:
    words: tuple[str, ...] = ()
    forbidden: bool = False
    notes: tuple[str, ...] = ()
    inserted: Inserted | None = None  # instead of words, in a batch job


def gpus_of(engine: Engine) -> Gpus:
    """The words that give the container its devices. Raises facts.Missing and DefinitionError."""
    request = request_of(engine.job)
    if request.forbidden:
        return Gpus(forbidden=True)
    if engine.job.batch:
        return Gpus(inserted=_of_job(engine, request.wanted)) if request.wanted or engine.nvidia else Gpus()
    if not request.wanted and engine.nvidia:
        if not has_device(engine):
            note = "nvidia-docker is not here, and docker has no GPU: the task runs on the CPU"
            return Gpus(notes=(note,))
        request = Request(count=-1)
    if not request.wanted:
        return Gpus()
    request, notes = _within_share(engine, request)
    return Gpus(_podman_words(request) if engine.name == "podman" else _docker_words(request), notes=notes)


def _of_job(engine: Engine, wanted: bool) -> Inserted:
    """The devices that a batch job has, by their numbers on the whole node: a daemon is in no job's group of processes. Where
    the batch system names none, all of them, if any are `wanted` at all."""
    given = 'set -- "$@" --gpus "\\"device=$mlcube_devices\\""'
    if engine.name == "podman":
        given = ('for mlcube_word in $(printf %s "$mlcube_devices" | tr , " "); do '
                 'set -- "$@" --device "nvidia.com/gpu=$mlcube_word"; done')
    whole = _podman_words(Request(count=-1)) if engine.name == "podman" else _docker_words(Request(count=-1))
    otherwise = (f'else set -- "$@" {" ".join(whole)}',) if wanted else ()
    return Inserted(_GLOBAL_DEVICES, ('if [ -n "$mlcube_devices" ]; then', f"  {given}", *otherwise, "fi"))


def _within_share(engine: Engine, request: Request) -> tuple[Request, tuple[str, ...]]:
    """A count becomes the devices that the caller's own environment allows (a batch job's, RULINGS 21)."""
    for name in SHARES:
        share = share_of(engine.facts, name)
        if request.devices or engine.remote or not share:
            continue
        devices = chosen_devices(request, share)
        return Request(devices=devices), (f"{name} allows {','.join(share)}: the task gets {','.join(devices)}",)
    return request, ()


def _docker_words(request: Request) -> tuple[str, ...]:
    """`--gpus` takes CSV, so that a list of devices carries its own quotes."""
    if request.devices:
        listed = f"device={','.join(request.devices)}"
        return ("--gpus", f'"{listed}"' if len(request.devices) > 1 else listed)
    return ("--gpus", "all" if request.count < 0 else str(request.count))


def _podman_words(request: Request) -> tuple[str, ...]:
    """podman names devices by CDI (https://docs.podman.io/en/latest/markdown/podman-run.1.html, --device)."""
    names = ("all",) if request.count < 0 else chosen_devices(request, ())
    return tuple(word for name in names for word in ("--device", f"nvidia.com/gpu={name}"))


def own_gpus(engine: Engine, flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """The user's flags; on podman their `--gpus` by CDI, as ours: podman 4 takes `--gpus`, does nothing, and says nothing.

    Raises DefinitionError for a value of `--gpus` that has no counterpart there.
    """
    if engine.name != "podman":
        return flags
    return tuple(replace(flag, words=_podman_words(parse_gpus(Option("--gpus", flag.value or ""))))
                 if flag.name == "--gpus" else flag for flag in flags)


def has_device(engine: Engine) -> bool:
    """Whether docker could give a container a GPU: asked only where that decides something (RULINGS 10)."""
    facts = engine.facts
    if engine.assumed:
        return False
    probe = Probe(engine.command("info", "--format", "{{json .}}"))
    hook, nodes = Tool("nvidia-container-runtime-hook"), (PathKind("/dev/nvidiactl"), PathKind("/dev/dxg"))
    facts.need(probe, hook, *nodes)
    known = read_map(facts.probe(probe.command).stdout)
    runtimes, devices = known.get("Runtimes"), known.get("DiscoveredDevices")
    listed = (isinstance(runtimes, dict) and "nvidia" in runtimes) or "nvidia.com/gpu" in str(devices)
    here = any(facts.path(node.path).kind != "absent" for node in nodes)
    return (listed and (here or engine.remote)) or (here and facts.tool(hook.name) is not None and not engine.remote)
