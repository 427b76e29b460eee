"""The flags of `run` as options of the platform that it runs on."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import UsageError

# Flags of `run` set options of the platform by its runner, whatever the platform is called (spec/dialects 3.9, 4.1). What
# of a container's options local cannot honour, it says itself, and names the flag.
_CONTAINER_FLAGS = {"gpus": "gpus", "memory": "memory", "cpu": "cpuset_cpus", "network": "network", "security": "security_opt"}
_FLAGS = {
    "docker": _CONTAINER_FLAGS,
    "singularity": {"gpus": "gpus", "memory": "vm_ram", "cpu": "vm_cpu", "network": "network", "security": "security"},
    "local": _CONTAINER_FLAGS,
}
_ALL_FLAGS = tuple(dict.fromkeys(flag for flags in _FLAGS.values() for flag in flags))


def with_flags(platform: Platform, arguments: Arguments) -> Platform:
    """The platform with what `run`'s flags say put over its own options. Raises UsageError for a flag that the platform's
    runner has no option for."""
    known = _FLAGS.get(platform.runner, {})
    given = {flag: getattr(arguments, flag) for flag in _ALL_FLAGS if getattr(arguments, flag, None) is not None}
    for flag in given:
        if flag not in known:
            raise UsageError(f"--{flag}: platform '{platform.name}' (runner {platform.runner}) cannot honour it",
                             "leave it out, or choose another platform with --platform")
    added = tuple(Option(known[flag], value, f"--{flag}") for flag, value in given.items())
    kept = tuple(option for option in platform.options if option.name not in {one.name for one in added})
    return replace(platform, options=kept + added)
