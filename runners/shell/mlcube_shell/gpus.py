"""Which accelerators a container gets, from the platform's wishes and the caller's own share of the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcube_cli.definition.model import Data, Option
from mlcube_cli.facts import PathKind, Probe, Tool
from mlcube_cli.job import Job
from mlcube_shell.docker_engine import Engine, read_map
from mlcube_shell.options import refuse, scalar
from mlcube_shell.run_words import Flag

_NOTHING = ("none", "0", "", "false")
_SHARES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")  # a batch system hands out devices in these


@dataclass(frozen=True)
class Request:
    """`count` -1: all, 0: none; `devices`: just these."""

    count: int = 0
    devices: tuple[str, ...] = ()
    forbidden: bool = False  # "none" was asked for, so that an image cannot take what it finds

    @property
    def wanted(self) -> bool:
        return bool(self.count or self.devices)


@dataclass(frozen=True)
class Gpus:
    words: tuple[str, ...] = ()
    forbidden: bool = False
    notes: tuple[str, ...] = ()


def accelerator_count(job: Job) -> int:
    """`platform.accelerator_count`; 0 where it is not a number."""
    value = job.requirements.get("accelerator_count")
    text = "" if value is None or isinstance(value, (list, dict, bool)) else str(value).strip()
    return int(text) if text.isdigit() else 0


def request_of(job: Job) -> Request:
    """What the platform asks for: `gpus`, else `platform.accelerator_count`. Raises DefinitionError."""
    option = job.find_option("gpus")
    if option is None or option.value is None:
        return Request(count=accelerator_count(job))
    return parse_gpus(option)


def parse_gpus(option: Option) -> Request:
    """`none`, a number, `all`, `device=0,1`, or ids in a list or with commas between. Raises DefinitionError."""
    value: Data = option.value
    if isinstance(value, list):
        return _devices(option, tuple(scalar(option, item) for item in value))
    text = "all" if value is True else scalar(option, value).strip().strip('"')
    if text.lower() in _NOTHING:
        return Request(forbidden=True)
    if text in ("all", "-1"):
        return Request(count=-1)
    if text.isdigit():
        return Request(count=int(text))
    if text.startswith("count="):
        return parse_gpus(Option(option.name, text[len("count="):], option.origin))
    return _devices(option, tuple(text[len("device="):].split(",") if text.startswith("device=") else text.split(",")))


def _devices(option: Option, devices: tuple[str, ...]) -> Request:
    devices = tuple(device.strip() for device in devices)
    if not devices or not all(device and device.replace("-", "").replace(":", "").isalnum() for device in devices):
        raise refuse(option, f"{option.value!r} names no devices", "one of: none, a number, all, device=0,1")
    if not all(device.isdigit() or device.startswith(("GPU-", "MIG-")) or ":" in device for device in devices):
        raise refuse(option, f"{option.value!r} names no devices", "one of: none, a number, all, device=0,1")
    return Request(devices=devices)


def gpus_of(engine: Engine) -> Gpus:
    """The words that give the container its devices. Raises facts.Missing and DefinitionError."""
    request = request_of(engine.job)
    if request.forbidden:
        return Gpus(forbidden=True)
    if not request.wanted and engine.nvidia:
        if not has_device(engine):
            note = "nvidia-docker is not here, and docker has no GPU: the task runs on the CPU"
            return Gpus(notes=(note,))
        request = Request(count=-1)
    if not request.wanted:
        return Gpus()
    request, notes = _within_share(engine, request)
    return Gpus(_podman_words(request) if engine.name == "podman" else _docker_words(request), notes=notes)


def _within_share(engine: Engine, request: Request) -> tuple[Request, tuple[str, ...]]:
    """A count becomes the devices that the caller's own environment allows (a batch job's, RULINGS 21)."""
    for name in _SHARES:
        share = tuple(item.strip() for item in engine.facts.environment.get(name, "").split(",") if item.strip())
        if request.devices or engine.remote or not share or share[0].lower() in ("all", "void", "none", "-1"):
            continue
        devices = share if request.count < 0 else share[:request.count]
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
    counted = ("all",) if request.count < 0 else tuple(str(number) for number in range(request.count))
    names = request.devices or counted
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
