"""What a cube asks for beyond its inputs and outputs (RULINGS 25). Pure."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import OVERRIDE
from mlcube_cli.facts import PathKind

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from mlcube_cli.definition.model import Data, Option, Platform
    from mlcube_cli.facts import Facts
    from mlcube_cli.job import Job

# The user's words for the engine that give a task nothing more; every other word is named, known to us or not.
_SWITCHES = frozenset(("--rm", "--init", "--interactive", "--tty", "-i", "-t", "-it", "-ti", "--read-only", "--no-cache"))
_VALUES = frozenset((
    "--cpu-shares", "--cpus", "--cpuset-cpus", "--cpuset-mems", "--entrypoint", "--gpus", "--hostname", "--label",
    "--memory", "--memory-swap", "--pids-limit", "--platform", "--progress", "--shm-size", "--stop-signal", "--target",
    "--tmpfs", "--ulimit", "--user", "--workdir", "-h", "-l", "-m", "-u", "-w"))
_ASSIGNING = frozenset(("--build-arg", "--env", "-e"))  # harmless with a value; a name alone passes the caller's own
_NETWORKS = frozenset(("--net", "--network"))
# The same words mean other things to singularity: -e cleans the environment. What keeps the task in stays unnamed too.
_SINGULARITY_SWITCHES = frozenset((
    "-e", "-c", "-C", "-p", "-i", "-f", "-ec", "-ce", "-eC", "-Ce", "--cleanenv", "--compat", "--contain", "--containall",
    "--disable-cache", "--fakeroot", "--force", "--ignore-fakeroot-command", "--ipc", "--net", "--no-eval", "--no-home",
    "--no-privs", "--no-umask", "--nv", "--nvccli", "--pid", "--rocm", "--sandbox", "--unsquash", "--userns", "--uts",
    "--writable-tmpfs"))
_SINGULARITY_VALUES = frozenset((
    "--app", "--cpus", "--cpuset-cpus", "--cwd", "--hostname", "--memory", "--pids-limit", "--pwd"))
_RECIPES = {"mlbox": "implementation/singularity/recipes/Singularity.recipe"}
_OPENING = {"contain": "your home directory and /tmp", "cleanenv": "your environment"}  # what `false` lets the task see
# What an ssh platform says about the way to another machine: whatever is sent goes there, and ssh does as it is told.
# What a slurm platform says of who pays, of the job's place, and to sbatch.
_WAY = {("ssh", "host"): "another machine", ("ssh", "jump"): "a machine to go through",
        ("ssh", "identity_file"): "a key of yours", ("ssh", "ssh_options"): "words for ssh",
        ("slurm", "account"): "an account of the cluster", ("slurm", "qos"): "a quality of service of the cluster",
        ("slurm", "sbatch_args"): "words for sbatch", ("slurm", "work_dir"): "a directory for its runs"}
_OWN_NETWORKS = frozenset(("none", "bridge", "default"))
_USER_WORDS = ("run_args", "gpu_args", "cpu_args", "env_args", "build_args")
_SHELL_LINES = ("setup", "modules", "configure", "run")
_ENGINES = frozenset(("docker", "podman", "nvidia-docker", "singularity", "apptainer", "conda"))
_RUNTIMES = frozenset(("runc", "crun", "runsc", "nvidia"))
_CONFINING = ("no-new-privileges", "label=", "label:")


def platform_reach(platform: Platform) -> tuple[str, ...]:
    """One phrase for each thing that a platform asks for beyond the contract, with where it is written. What the user's own
    settings say, and what was typed (`-P`, flags), is no stranger's word."""
    whats = ((what, option) for option in _said_by_cube(platform)
             for what in (*_reach(platform.runner, option), *_way(platform.runner, option), *_passed(platform, option)))
    return tuple(f"{what} ({option.origin})" for what, option in whats)


def _said_by_cube(platform: Platform) -> Iterator[Option]:
    for option in platform.options:
        if _is_typed(option):
            continue
        if isinstance(option.value, dict) and option.own_keys and not option.own:
            yield replace(option, value={key: item for key, item in option.value.items() if key not in option.own_keys})
        elif not option.own:
            yield option


def _is_typed(option: Option) -> bool:
    return option.origin == OVERRIDE or (option.origin.startswith("--") and ":" not in option.origin)  # no file's line


def _reach(runner: str, option: Option) -> Iterator[str]:
    name, value = option.name, option.value
    words = _words(value)
    if name == "privileged" and value is True:
        yield "privileged containers"
    elif name == "network" and value == "host":
        yield "the host's network"
    elif name == "network" and str(value).startswith(("container:", "ns:")):
        yield "another container's network"
    elif name in _SHELL_LINES and value and not (runner == "slurm" and name == "configure"):
        yield f"shell lines of its own ('{name}')"
    elif name in ("docker", "singularity", "conda") and words and (len(words) > 1 or words[0] not in _ENGINES):
        yield f"another executable: {_shown(option, words)}"
    elif name == "container_runtime" and words and words[0] not in _RUNTIMES:
        yield f"another container runtime: {_shown(option, words)}"
    elif name in ("security_opt", "security") and not all(word.startswith(_CONFINING) for word in words):
        yield f"other confinement: {_shown(option, words)}"
    elif name in ("ports", "binds") and words:
        yield "ports of this machine" if name == "ports" else f"paths of this machine: {_shown(option, words)}"
    elif name in _OPENING and value is False:
        yield _OPENING[name]
    elif name in _USER_WORDS and (strange := _strange(runner, words)):
        yield f"words for the engine: {_shown(option, strange)}"


def _way(runner: str, option: Option) -> Iterator[str]:
    """Where a platform of another machine, or of a batch system, leads, and what that is told."""
    words = _words(option.value)
    if (runner, option.name) in _WAY and words:
        yield f"{_WAY[runner, option.name]}: {_shown(option, words)}"
    if runner != "ssh":
        return
    if option.name == "host_key" and option.value == "accept-new":
        yield "the key of a host that you never saw"
    elif option.name == "sync" and isinstance(option.value, dict) and option.value.get("absolute") == "push":
        yield "files of this machine sent there"


def _passed(platform: Platform, option: Option) -> Iterator[str]:
    """Values of the caller's environment that the cube asks for. Without a container the task has them all."""
    value = option.value
    by_name = option.name in ("env", *_USER_WORDS) and isinstance(value, dict) and None in value.values()
    if platform.runner != "local" and (option.secret or by_name):
        yield f"values of your environment ('{option.name}')"


def job_reach(job: Job, facts: Facts, typed: Container[str] = ()) -> tuple[str, ...]:
    """The same for a job: its platform's reach, and places outside the cube and its workspace that the user did not type.

    `typed`: the parameters, and `--workspace`, that the user gave. Links are followed. Raises facts.Missing.
    """
    facts.need(*(PathKind(path) for path in (job.root, job.workspace, *(one.host_path for one in job.paths))))
    root, workspace = _real(job.root, facts), _real(job.workspace, facts)
    found = [f"{argument.direction} '{argument.name}' outside the workspace: {argument.host_path}"
             for argument in job.paths
             if argument.name not in typed and not _within(_real(argument.host_path, facts), workspace)]
    own = os.path.join(job.root, "workspace")
    facts.need(*(PathKind(path) for path in (own, *(copy.source for copy in job.copies)) if job.copies))
    found += [f"a copy of input '{copy.name}' from outside the cube's workspace: {_real(copy.source, facts)}"
              for copy in job.copies if not _within(_real(copy.source, facts), _real(own, facts))]
    if "--workspace" not in typed and not _within(workspace, root):
        found.append(f"a workspace outside the cube: {job.workspace}")
    base = job.root
    for name in ("build_context", "build_file"):
        base = os.path.normpath(os.path.join(base, str(job.option(name) or "")))
        option = job.find_option(name)
        if option and option.value and not option.own and not _is_typed(option) and not _within(_real(base, facts), root):
            found.append(f"a '{name}' outside the cube: {base}")
    return (*platform_reach(job.platform), *found, *_image_reach(job, facts, (root, workspace)))


def _image_reach(job: Job, facts: Facts, places: tuple[str, str]) -> Iterator[str]:
    """An image's file that is written elsewhere, and lines of a recipe that run on this machine itself (%setup)."""
    if job.platform.runner != "singularity":
        return
    for name in ("image", "image_dir"):
        option, text = job.find_option(name), str(job.option(name) or "")
        path = os.path.join(job.workspace, facts.home + text[1:] if text.startswith("~") else text)
        if option and text and not option.own and not _is_typed(option) and "://" not in text:
            real = _real(os.path.normpath(path), facts)
            if not any(_within(real, place) for place in places):
                yield f"an image outside the cube: {path} ({option.origin})"
    recipe = os.path.join(job.root, str(job.option("build_context") or ("build" if job.dialect == "directory" else ".")),
                          str(job.option("build_file") or _RECIPES.get(job.dialect, "Singularity.recipe")))
    text_of_recipe = facts.text(os.path.normpath(recipe)) or b""
    if any(line.strip().lower().startswith(b"%setup") for line in text_of_recipe.splitlines()):
        yield f"a recipe whose %setup lines run on this machine: {os.path.normpath(recipe)}"


def _real(path: str, facts: Facts) -> str:
    return facts.path(path).real or path


def _within(path: str, directory: str) -> bool:
    return (path + "/").startswith(directory.rstrip("/") + "/")


def _strange(runner: str, words: list[str]) -> list[str]:
    """The words that are not known to be harmless; a value goes with its option. No value can hide an option."""
    singularity = runner == "singularity"
    switches, values = (_SINGULARITY_SWITCHES, _SINGULARITY_VALUES) if singularity else (_SWITCHES, _VALUES)
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in switches or (equals and not name.startswith("-")):  # the latter: build_args of bare NAME=VALUE
            continue
        if not equals and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
            word = f"{word} {value}"
        if not (name in values or (name in _ASSIGNING and "=" in value) or (name in _NETWORKS and value in _OWN_NETWORKS)):
            found.append(word)
    return found


def _shown(option: Option, words: list[str]) -> str:
    return " ".join(words) if not option.secret else "***"


def _words(value: Data) -> list[str]:
    if isinstance(value, str):
        if not any(char in value for char in "'\"\\"):
            return value.split()
        import shlex  # only here: it is slow to import

        try:
            return shlex.split(value)
        except ValueError:
            return [value]
    return [str(item) for item in value] if isinstance(value, list) else []
