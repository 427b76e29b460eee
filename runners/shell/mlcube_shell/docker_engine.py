"""Which container engine a platform means, whether it answers, and what it says when it does not."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlcube_cli.command import Command, Variable
from mlcube_cli.errors import DefinitionError, MachineError, MLCubeError
from mlcube_cli.facts import Facts, FileText, Observation, Tool
from mlcube_cli.job import Job
from mlcube_shell.batch_variables import inserting_lines
from mlcube_shell.options import refuse, split_option
from mlcube_shell.shell_setup import has_setup, with_setup

_NAMES = {"docker": "docker", "nvidia-docker": "docker", "nerdctl": "docker", "podman": "podman"}
_SYSTEM_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Inserted:
    """Words that are known only where a batch job runs, from the first of the variables `devices` that says something: shell
    lines that append them to `$@`."""

    devices: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Engine:
    """An engine as this machine has it. `words` start each of its commands."""

    job: Job
    facts: Facts
    words: tuple[str, ...]
    name: str  # "docker" | "podman": whose rules hold
    rootless: bool = False
    remote: bool = False  # the daemon is on another machine
    nvidia: bool = False  # `nvidia-docker` was asked for and is not there
    assumed: bool = False  # dry run without the engine
    notes: tuple[str, ...] = ()

    @property
    def sudo(self) -> bool:
        return os.path.basename(self.words[0]) == "sudo"

    def command(self, *words: str, env: tuple[Variable, ...] = (), names: tuple[str, ...] = (),
                inserted: Inserted | None = None) -> Command:
        """A command of the engine behind the platform's shell lines.

        `names`: variables that the command passes by name; sudo has to be told to keep them. `inserted`: what a shell puts
        behind the first of `words`.
        """
        start = self.words
        keep = tuple(dict.fromkeys((*names, *(variable.name for variable in env))))
        if self.sudo and keep:
            start = (start[0], f"--preserve-env={','.join(keep)}", *start[1:])
        lines = inserting_lines(len(start) + 1, inserted.devices, inserted.lines) if inserted else ()
        return with_setup(self.job, self.facts, Command((*start, *words), env), lines)


@dataclass(frozen=True)
class Image:
    """What the engine knows of an image."""

    present: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    starts_itself: bool = True  # it has an entry point
    id: str = ""  # as the engine writes it
    digests: tuple[str, ...] = ()  # NAME@sha256:... in registries, as the engine remembers them
    architecture: str = ""  # "linux/amd64"
    assumed: bool = False  # dry run: nobody could be asked


def find_engine(job: Job, facts: Facts) -> Engine:
    """The engine that the platform names. Raises facts.Missing, DefinitionError, and MachineError when it is not there
    (unless the job says that a plan may assume it). Of the machine where a batch job runs nothing is known: it is assumed."""
    words = split_option(job, "docker", facts) or ("docker",)
    nvidia = "nvidia-docker" in words and not has_setup(job) and facts.tool("nvidia-docker") is None
    if nvidia:
        words = tuple("docker" if word == "nvidia-docker" else word for word in words)
    executable = next((word for word in words if os.path.basename(word) in _NAMES), words[-1])
    name = _NAMES.get(os.path.basename(executable), "docker")
    facts.need(Tool(words[0]), Tool(executable), *(FileText(path) for path in _texts(facts)))
    found = facts.tool(executable)
    absent = next((word for word in dict.fromkeys((words[0], executable)) if facts.tool(word) is None), None)
    if absent and not has_setup(job) and not job.assume and not job.batch:
        raise _absent(absent, nvidia)
    if found and name == "docker" and b"podman" in (facts.text(found) or b""):
        name = "podman"  # Debian's podman-docker: a script named docker
    engine = Engine(job, facts, words, name, nvidia=nvidia, assumed=job.batch or (bool(absent) and not has_setup(job)))
    return _located(engine)


def _absent(executable: str, nvidia: bool) -> MachineError:
    asked = " (nor nvidia-docker)" if nvidia else ""
    return MachineError(
        f"'{executable}' is not on PATH{asked}",
        "install docker or podman, or name the executable: -Prunner.docker=podman; a platform 'local' needs no engine")


def _texts(facts: Facts) -> tuple[str, ...]:
    return ("/sys/fs/selinux/enforce", os.path.join(_configuration(facts), "config.json"))


def _configuration(facts: Facts) -> str:
    return facts.environment.get("DOCKER_CONFIG") or os.path.join(facts.home or "/", ".docker")


def _located(engine: Engine) -> Engine:
    """The engine with what follows from where its daemon is and whose it is."""
    if engine.name == "podman":
        return _located_podman(engine)
    host = _SYSTEM_SOCKET if engine.sudo else docker_host(engine.words, engine.facts)
    if not host.startswith("unix://"):
        note = f"docker's daemon is at {host}: the mounted paths are those of that machine"
        return replace(engine, remote=host != "", notes=(note,) if host else ())
    runtime = engine.facts.environment.get("XDG_RUNTIME_DIR")
    places = ("/run/user/", *((runtime.rstrip("/") + "/",) if runtime else ()))
    return replace(engine, rootless=host[len("unix://"):].startswith(places) and engine.facts.uid != 0)


def _located_podman(engine: Engine) -> Engine:
    """podman works by itself, or asks a service (https://docs.podman.io/en/latest/markdown/podman.1.html, --url); root's has
    one well-known socket."""
    rootless = engine.facts.uid != 0 and not engine.sudo
    service = _given(engine.words, "--url") or ("" if engine.sudo else engine.facts.environment.get("CONTAINER_HOST", ""))
    if not service:
        return replace(engine, rootless=rootless)
    rootless = not service.partition("://")[2].partition("?")[0].endswith("/run/podman/podman.sock")
    if service.startswith("unix://"):
        return replace(engine, rootless=rootless and engine.facts.uid != 0)
    note = f"podman's service is at {service}: the mounted paths are those of that machine"
    return replace(engine, rootless=rootless, remote=True, notes=(note,))


def docker_host(words: tuple[str, ...], facts: Facts) -> str:
    """The address of docker's daemon, as the client finds it: options, DOCKER_HOST, the current context; empty where a
    context does not tell (https://docs.docker.com/engine/manage-resources/contexts/)."""
    import hashlib

    given = _given(words, "--host", "-H") or ("" if _given(words, "--context", "-c") else
                                              facts.environment.get("DOCKER_HOST", ""))
    if given:
        return given
    context = (_given(words, "--context", "-c") or facts.environment.get("DOCKER_CONTEXT")
               or _text(read_map(facts.text(_texts(facts)[1])), "currentContext"))
    if context in ("", "default"):
        return _SYSTEM_SOCKET
    key = hashlib.sha256(context.encode("utf-8", "surrogateescape")).hexdigest()
    meta = read_map(facts.text(os.path.join(_configuration(facts), "contexts", "meta", key, "meta.json")))
    endpoints = meta.get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    return _text(endpoint, "Host") if isinstance(endpoint, dict) else ""


def _given(words: tuple[str, ...], *names: str) -> str:
    for word, following in zip(words, (*words[1:], "")):
        for name in names:
            if word == name:
                return following
            if word.startswith(f"{name}="):
                return word[len(name) + 1:]
    return ""


def read_map(text: bytes | str | None) -> dict[str, object]:
    """A JSON document that is a map, or a list of one (podman's way); empty for anything else."""
    import json

    try:
        data = json.loads(text or "")
    except ValueError:
        return {}
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    return data if isinstance(data, dict) else {}


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def enforces_selinux(engine: Engine) -> bool:
    """Whether this machine's SELinux would keep a container from the directories mounted into it (RULINGS 39)."""
    text = engine.facts.text("/sys/fs/selinux/enforce")
    return not engine.remote and (text or b"").strip() == b"1"


def has_further_ids(facts: Facts) -> bool:
    """Whether the caller has user ids besides his own, which podman needs to keep his (subuid(5)); True where the files do
    not tell. Network accounts often have none: podman then maps the caller alone, and only the namespace's root is he."""
    known, nsswitch = facts.text("/etc/subuid"), facts.text("/etc/nsswitch.conf")
    if known is None or re.search(rb"^\s*subid\s*:", nsswitch or b"", re.MULTILINE):
        return True
    entries = (line.split(":") for line in _lines(facts.text("/etc/passwd")))
    names = {entry[0] for entry in entries if entry[2:3] == [str(facts.uid)]}
    names |= {facts.environment.get(name, "") for name in ("USER", "LOGNAME")} - {""}
    return not names or any(line.split(":")[0] in {*names, str(facts.uid)} for line in _lines(known))


def _lines(text: bytes | None) -> list[str]:
    return (text or b"").decode("utf-8", "surrogateescape").splitlines()


# --- asking it -----------------------------------------------------------------------------------------------------


def presence(engine: Engine, image: str) -> Command:
    """A command that succeeds when the image is here."""
    return engine.command("image", "inspect", "--format", "{{.Id}}", image)


def find_image(engine: Engine, image: str) -> Image:
    """What the engine knows of the image. Raises facts.Missing, DefinitionError for a name that cannot be one, and
    MachineError when the engine does not answer (unless the job says that a plan may assume it)."""
    if engine.assumed:
        return Image(present=False, assumed=True)
    said = engine.facts.probe(engine.command("image", "inspect", "--format", "{{json .}}", image))
    if said.exit_code == 0:
        return read_image(said.stdout)
    if "invalid reference format" in said.stderr or "parsing reference" in said.stderr:
        option = engine.job.find_option("image")
        reason = said.stderr.strip().rpartition("invalid reference format: ")[2].splitlines()[0]
        message = f"{image!r} is not an image's name ({reason})"
        hint = "write it like registry.example.org/group/name:tag, in lower case"
        raise refuse(option, message, hint) if option else DefinitionError(message, hint)
    if _says(said, "no such image", "no such object", "image not known", "failed to find image"):
        return Image(present=False)
    trouble = why_unreachable(engine, said)
    if engine.job.assume:
        return Image(present=False, assumed=True)
    raise trouble


def read_image(text: str) -> Image:
    """What `image inspect` said of one image."""
    data = read_map(text)
    config = data.get("Config")
    config = config if isinstance(config, dict) else {}
    labels = config.get("Labels") or data.get("Labels")
    digests = data.get("RepoDigests")
    place = [_text(data, key) for key in ("Os", "Architecture", "Variant")]
    return Image(present=True, labels=labels if isinstance(labels, dict) else {},
                 starts_itself=bool(config.get("Entrypoint")) if config else True, id=_text(data, "Id"),
                 digests=tuple(str(digest) for digest in digests) if isinstance(digests, list) else (),
                 architecture="/".join(part for part in place if part))


def _says(said: Observation, *texts: str) -> bool:
    return any(text in said.stderr.lower() for text in texts)


def why_unreachable(engine: Engine, said: Observation) -> MLCubeError:
    """The error for an engine that did not answer, with what to type next."""
    name, words = engine.name, " ".join(engine.words)
    last = said.last_line("it said nothing")
    if "mlcube: setup ended" in said.stderr:
        return MachineError(f"the platform's setup lines failed: {last}", "try 'setup' and 'modules' in bash by hand")
    if said.exit_code == 127:
        return MachineError(f"'{words}' cannot be started: {last}",
                            "install it, or name another: -Prunner.docker=podman")
    if engine.sudo and _says(said, "password is required", "a terminal is required"):
        return MachineError("sudo asks for a password, and there is no terminal to type it on",
                            "type 'sudo --validate' first, or join the group docker and drop sudo from the platform")
    if name == "podman":
        return _podman_trouble(words, said, last)
    if _says(said, "permission denied"):
        return MachineError(f"you may not talk to {name}'s daemon: permission denied on its socket",
                            "type: sudo usermod --append --groups docker \"$USER\", and log in again; or use podman")
    if _says(said, "cannot connect", "is the docker daemon running", "error during connect", "dial ", "no such host"):
        return MachineError(f"{name}'s daemon does not answer: {last}",
                            "start it (sudo systemctl start docker), or say where it is: export DOCKER_HOST=...")
    return MachineError(f"{name} does not work here: {last}", f"try it by hand: {words} version")


# What podman says when it cannot work without root, or cannot reach its other machine, and what helps.
_PODMAN_TROUBLES = (
    (("cannot find uid/gid for user", "no subuid ranges", "no subgid ranges", "not enough ids available"),
     "your user has no further user ids, which containers without root need",
     "an administrator types: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER; then you: "
     "podman system migrate"),
    (("newuidmap", "newgidmap"), "the programs newuidmap and newgidmap do not work here, which containers without root need",
     "install them (Debian: uidmap, Fedora: shadow-utils)"),
    (("cannot connect", "unable to connect", "connection refused", "dial ", "no such host"),
     "the podman service that it is to talk to does not answer",
     "start it (podman machine start, or systemctl --user start podman.socket), or name another: "
     "export CONTAINER_HOST=..."),
)


def _podman_trouble(words: str, said: Observation, last: str) -> MachineError:
    for texts, reason, hint in _PODMAN_TROUBLES:
        if _says(said, *texts):
            return MachineError(f"podman does not work here: {reason}: {last}", hint)
    return MachineError(f"podman does not work here: {last}", f"try it by hand: {words} info")
