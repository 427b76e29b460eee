"""What a platform's `gpus` means, for every runner: how many devices, or which, or none; within the caller's own share."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli.definition.model import Data, Option
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_shell.options import refuse, scalar

_NOTHING = ("none", "0", "", "false")
SHARES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")  # a batch system hands out devices in these
# Variables of a task that has no devices, and would see this machine's.
HIDDEN = (("CUDA_VISIBLE_DEVICES", ""), ("NVIDIA_VISIBLE_DEVICES", "void"), ("ROCR_VISIBLE_DEVICES", ""),
          ("HIP_VISIBLE_DEVICES", "-1"))


@dataclass(frozen=True)
class Request:
    """`count` -1: all, 0: none; `devices`: just these."""

    count: int = 0
    devices: tuple[str, ...] = ()
    forbidden: bool = False  # "none" was asked for, so that an image cannot take what it finds

    @property
    def wanted(self) -> bool:
        return bool(self.count or self.devices)


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


def share_of(facts: Facts, name: str) -> tuple[str, ...]:
    """The devices that this variable of the caller's environment allows; empty where it sets no limit."""
    share = tuple(item.strip() for item in facts.environment.get(name, "").split(",") if item.strip())
    return () if share and share[0].lower() in ("all", "void", "none", "-1") else share


def chosen_devices(request: Request, share: tuple[str, ...]) -> tuple[str, ...]:
    """The ids that a task gets of the caller's share, of the machine's where there is none; empty for all of them."""
    if request.devices or request.count < 0:
        return request.devices or share
    return share[:request.count] if share else tuple(str(number) for number in range(request.count))
