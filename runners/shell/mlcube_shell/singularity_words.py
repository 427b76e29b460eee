"""The words and variables between `run` and the image: what the task sees of this machine, and the user's own words."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli.command import Variable
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import PathKind
from mlcube_cli.job import Job
from mlcube_shell.gpus import accelerator_count, request_of
from mlcube_shell.mounts import Mount, csv_field, refuse_undecodable
from mlcube_shell.options import (
    expanded_texts,
    list_option,
    mapping_option,
    refuse,
    split_option,
    text_option,
)
from mlcube_shell.run_words import Flag, Grammar, scan_run_words
from mlcube_shell.singularity_engine import Engine
from mlcube_shell.singularity_variables import Words, escaped, is_on
from mlcube_shell.tools import has_virtual_machines

_GRAMMAR = Grammar(
    "singularity run",
    {"B": "--bind", "C": "--containall", "H": "--home", "S": "--scratch", "W": "--workdir", "c": "--contain",
     "e": "--cleanenv", "f": "--fakeroot", "h": "--help", "i": "--ipc", "n": "--net", "o": "--overlay", "p": "--pid",
     "u": "--userns", "w": "--writable"},
    {"--cwd": "--pwd", "--nohttps": "--no-https"},
    frozenset((
        "--allow-setuid", "--cleanenv", "--compat", "--contain", "--containall", "--disable-cache", "--docker-login",
        "--fakeroot", "--help", "--ignore-fakeroot-command", "--ignore-subuid", "--ignore-userns", "--ipc", "--keep-privs",
        "--net", "--no-eval", "--no-home", "--no-https", "--no-init", "--no-nv", "--no-oci", "--no-pid", "--no-privs",
        "--no-rocm", "--no-umask", "--nv", "--nvccli", "--oci", "--oom-kill-disable", "--passphrase", "--pid", "--rocm",
        "--sharens", "--underlay", "--unsquash", "--userns", "--uts", "--vm", "--vm-err", "--writable", "--writable-tmpfs",
    )),
    frozenset(("--env", "--env-file", "--pwd", "--home")),
)
_REFUSED = {
    "--help": "it prints help instead of running the task",
    "--sharens": "a task has name spaces of its own, so that nothing of it is left",
    "--oci": "that mode starts images in another way than the one that the run relies on",
}

# --- what it sees of this machine ------------------------------------------------------------------------------------


def isolation(engine: Engine, place: str) -> Words:
    """A /dev, /tmp and home of its own, in `place`; processes of its own, so that none is left; a clean environment."""
    job, facts = engine.job, engine.facts
    words: list[str] = []
    notes: tuple[str, ...] = ()
    if is_on(job, "cleanenv", True):
        words.append("--cleanenv")
    if is_on(job, "contain", True):
        home = dict(mapping_option(job, "env")).get("HOME") or (facts.home if len(facts.home) > 1 else "/home/task")
        own = ["--home", f"{place}/home:{home}"]
        if _is_another(engine):  # the engine gives none to a user whom this machine does not know
            own, home = ["--no-home"], "/tmp"
        words += ["--contain", "--workdir", place, *own]
        if text_option(job, "workdir") is None:
            words += ["--pwd", home]
    else:
        notes = ("'contain: false': the task sees your home directory and /tmp, and can write there",)
    words += ["--pid", *(("--no-eval",) if engine.can("no_eval") else ())]
    for option, word in (("fakeroot", "--fakeroot"), ("writable_tmpfs", "--writable-tmpfs")):
        words += [word] if is_on(job, option, False) else []
    return Words(tuple(words), notes=notes)


def settings(engine: Engine) -> Words:
    """The platform's options that are words of the engine each."""
    job = engine.job
    network, workdir = text_option(job, "network"), text_option(job, "workdir")
    words = ["--net", "--network", network] if network not in (None, "", "host") and network else []
    words += ["--pwd", workdir] if workdir is not None else []
    words += [word for text in list_option(job, "security") for word in ("--security", text)]
    return Words(tuple(words)) + _identity(engine) + _limits(engine) + _shared_memory(job)


def _identity(engine: Engine) -> Words:
    """Whose the process is. It is the caller's by nature; only root can be another. Raises DefinitionError."""
    job, facts = engine.job, engine.facts
    user, option = text_option(job, "user"), job.find_option("user")
    caller = (f"{facts.uid}", f"{facts.uid}:{facts.gid}")
    if user in (None, "", "caller") or user in caller or option is None:
        own = ("--security", f"uid:{facts.uid},gid:{facts.gid}") if engine.sudo else ()
        return Words(own)
    if user == "image":
        return Words(notes=(f"'user: image': {engine.name} knows no user of an image, the task runs as you",))
    uid, _, gid = (user or "").partition(":")
    if uid.isdigit() and (gid or "0").isdigit() and engine.root:
        return Words(("--security", f"uid:{uid}" + (f",gid:{gid}" if gid else "")))
    if uid in ("0", "root"):
        raise refuse(option, f"{engine.name} runs a task as its caller", "write 'fakeroot: true' for an apparent root")
    raise refuse(option, f"{engine.name} runs a task as its caller, {caller[1]}", "leave 'user' out, or write 'caller'")


def _is_another(engine: Engine) -> bool:
    """Whether the platform's `user` is neither the caller nor the image's."""
    facts = engine.facts
    return text_option(engine.job, "user") not in (None, "", "caller", "image", f"{facts.uid}", f"{facts.uid}:{facts.gid}")


def _limits(engine: Engine) -> Words:
    """Memory and processors; of a batch job the batch system is asked for them, and holds the task to it: no engine could
    there, where users have no control groups of their own. Raises DefinitionError where this version cannot limit them."""
    job = engine.job
    machines = has_virtual_machines(engine.name, engine.version)
    flags = (("memory", "--memory"), ("cpuset_cpus", "--cpuset-cpus"),
             ("vm_ram", "--vm-ram" if machines else "--memory"), ("vm_cpu", "--vm-cpu" if machines else "--cpus"))
    words: list[str] = []
    for name, flag in flags:
        text, option = text_option(job, name), job.find_option(name)
        if text in (None, "") or option is None or not text or (job.batch and not flag.startswith("--vm")):
            continue
        if not flag.startswith("--vm") and not engine.can("limits"):
            version = ".".join(str(number) for number in engine.version)
            raise refuse(option, f"{engine.name} {version} cannot limit it", "leave it out, or use a newer one")
        words += [flag, f"{text}m" if name == "vm_ram" and not machines and text.isdigit() else text]
    return Words(tuple(words))


def _shared_memory(job: Job) -> Words:
    if text_option(job, "shm_size") in (None, ""):
        return Words()
    return Words(notes=("'shm_size' limits nothing here: /dev/shm may take half of the machine's memory",))


def unpacking(engine: Engine, image: str) -> Words:
    """Without FUSE, an ordinary user's image file has to be unpacked for each run."""
    facts = engine.facts
    facts.need(PathKind("/dev/fuse"), PathKind(image))
    device = facts.path("/dev/fuse")
    if not engine.can("unsquash") or engine.root or engine.assumed or facts.path(image).kind == "directory":
        return Words()
    if device.kind != "absent" and device.readable and device.writable:
        return Words()
    said = facts.probe(engine.command("buildcfg", "APPTAINER_SUID_INSTALL"))
    if said.stdout.strip().endswith("1"):  # it mounts images with root's rights
        return Words()
    note = (f"this machine has no usable /dev/fuse: the image is unpacked for each run; to do it once: apptainer build "
            f"--sandbox DIRECTORY {image}, and -Prunner.image=DIRECTORY")
    return Words(("--unsquash",), notes=(note,))


# --- mounts ----------------------------------------------------------------------------------------------------------


def mounts_of(engine: Engine, mounts: tuple[Mount, ...], empty: str) -> Words:
    """The task's paths; `empty` is an empty directory, shown where something is hidden. Raises DefinitionError."""
    words = [word for mount in mounts for word in _mount(engine, replace(mount, source=mount.source or empty))]
    for option, text in expanded_texts(engine.job, "binds", engine.facts):
        if text.startswith(":") or not text:
            raise refuse(option, f"{text!r} names no path", "write HOST:CONTAINER, or HOST:CONTAINER:ro")
        words += ["--bind", text if text.startswith("/") else os.path.join(engine.job.workspace, text)]
    return Words(tuple(words), notes=_mount_notes(engine.job))


def _mount(engine: Engine, mount: Mount) -> tuple[str, str]:
    source = mount.source or ""
    if engine.can("mount"):
        fields = ("type=bind", csv_field(f"source={source}"), csv_field(f"destination={mount.target}"))
        return ("--mount", ",".join((*fields, *(("ro",) if mount.read_only else ()))))
    return ("--bind", f"{source}:{mount.target}{':ro' if mount.read_only else ''}")


def refuse_paths(job: Job, engine: Engine) -> None:
    """Raises DefinitionError for paths that the engine would get wrong (RULINGS 16)."""
    refuse_undecodable(job, engine.name)
    bad = (("\r\n", "a carriage return and a newline"),) if engine.can("mount") else ((":", "a colon"), (",", "a comma"))
    for argument in job.paths:
        for text, what in bad:
            if text in argument.host_path:
                raise DefinitionError(f"parameter '{argument.name}': this {engine.name} cannot mount "
                                      f"{argument.host_path!r}: its name holds {what}",
                                      "rename it, or use a platform with the runner 'local'")


def _mount_notes(job: Job) -> tuple[str, ...]:
    """`mount_opts` are docker's; what has no counterpart is said. Raises DefinitionError for what would do harm."""
    option = job.find_option("mount_opts")
    words = [word.strip() for word in (text_option(job, "mount_opts") or "").split(",") if word.strip()]
    for word in words:
        if option is not None and word in ("ro", "rw"):
            raise refuse(option, f"'{word}' would hold for inputs and outputs alike",
                         "write 'opts: ro' or 'opts: rw' at a parameter, or type --mount=ro|rw")
        if option is not None and word not in ("z", "Z"):
            raise refuse(option, f"a bind knows no option '{word}'", "leave it out")
    return (f"'mount_opts': {','.join(words)} is left out, this engine relabels nothing",) if words else ()


# --- the user's own words --------------------------------------------------------------------------------------------


def user_words(engine: Engine) -> Words:
    """`gpu_args` or `cpu_args`, then `run_args`; they stand last, so that they replace ours. Raises DefinitionError."""
    job = engine.job
    with_gpus = accelerator_count(job) > 0 and not request_of(job).forbidden
    found = Words()
    for name in ("gpu_args" if with_gpus else "cpu_args", "run_args"):
        option = job.find_option(name)
        if option is None:
            continue
        for flag in scan_run_words(option, split_option(job, name, engine.facts), _GRAMMAR):
            if flag.name in _REFUSED and (flag.value or "").lower() not in ("false", "f", "0"):
                raise refuse(option, f"{flag.words[0]} cannot be given: {_REFUSED[flag.name]}", f"remove it from {name}")
            found += _secret(engine, flag) if option.secret else Words(flag.words)
    return found


def _secret(engine: Engine, flag: Flag) -> Words:
    """`--env NAME=SECRET` through the environment, so that the secret stands in no argv."""
    name, equals, value = (flag.value or "").partition("=")
    if flag.name != "--env" or not equals:
        return Words(flag.words)
    return Words(variables=(Variable(f"{engine.prefix}ENV_{name}", escaped(engine, value), secret=True),))
