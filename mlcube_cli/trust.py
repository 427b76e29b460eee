"""What a cube asks for beyond its inputs and outputs (RULINGS 25). Pure."""

from __future__ import annotations

import shlex

from mlcube_cli.definition.model import Data, Platform
from mlcube_cli.job import Job
from mlcube_cli.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

_WORDS = ("--privileged", "--cap-add", "--device", "--volume", "-v", "--mount", "--pid", "--ipc", "--userns", "--network=host",
          "--net=host", "--security-opt", "--volumes-from", "--bind", "-B", "--env-file")
_USER_WORDS = ("run_args", "gpu_args", "cpu_args", "env_args", "build_args")
_ENGINES = ("docker", "podman", "nvidia-docker", "singularity", "apptainer")


def platform_reach(platform: Platform) -> tuple[str, ...]:
    """One phrase for each thing that a platform asks for beyond the contract, with where it is written."""
    found = []
    if platform.option("privileged") is True:
        found.append(_phrase(platform, "privileged", "privileged containers"))
    if platform.option("network") == "host":
        found.append(_phrase(platform, "network", "the host's network"))
    for name in ("setup", "modules", "configure", "run"):
        if platform.option(name):
            found.append(_phrase(platform, name, f"shell lines of its own ('{name}')"))
    for name in ("docker", "singularity", "conda"):
        words = _words(platform.option(name))
        if words and (len(words) > 1 or words[0] not in (*_ENGINES, "conda")):
            found.append(_phrase(platform, name, f"another executable: {' '.join(words)}"))
    for name in _USER_WORDS:
        strange = [word for word in _words(platform.option(name)) if word.startswith(_WORDS)]
        if strange:
            found.append(_phrase(platform, name, f"words for the engine: {' '.join(strange)}"))
    return tuple(found)


def job_reach(job: Job, typed: Container[str] = ()) -> tuple[str, ...]:
    """The same for a job: its platform's reach, and paths outside the workspace but for those that the user typed."""
    base = job.workspace.rstrip("/") + "/"
    outside = [f"{argument.direction} '{argument.name}' outside the workspace: {argument.host_path}"
               for argument in job.arguments
               if argument.name not in typed and not (argument.host_path + "/").startswith(base)]
    return (*platform_reach(job.platform), *outside)


def _phrase(platform: Platform, name: str, what: str) -> str:
    option = platform.find(name)
    return f"{what} ({option.origin})" if option else what


def _words(value: Data) -> list[str]:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError:
            return [value]
    return [str(item) for item in value] if isinstance(value, list) else []
