"""The docker runner, for podman too: a job as the words of the engine. Pure: the engine is asked through facts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcube_cli.command import Command, Plan, Sign, Step, Stop, TaskPlan
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import MLCubeError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import Identity, prefixed
from mlcube_cli.job import Job
from mlcube_shell.docker_engine import Engine, enforces_selinux, find_engine, find_image, has_further_ids
from mlcube_shell.docker_gpus import Gpus, gpus_of, own_gpus
from mlcube_shell.docker_image import image_name
from mlcube_shell.docker_lock import identify as identify_image
from mlcube_shell.docker_lock import prepare
from mlcube_shell.docker_mounts import dropped_mount_options, mount_words, refuse_paths
from mlcube_shell.gpus import accelerator_count, request_of
from mlcube_shell.mounts import View, output_directories, view_of
from mlcube_shell.options import flag_option, is_map, list_option, mapping_option, text_option
from mlcube_shell.passing import Passed, pass_job, pass_map, pass_proxies, pass_variable, without
from mlcube_shell.run_words import Flag, user_flags

LABEL = "org.mlcommons.mlcube"


def configure(job: Job, facts: Facts, force: bool) -> Plan:
    """The plan that builds or pulls the image; `force` builds without the layer cache.

    Raises facts.Missing, DefinitionError, and MachineError when the engine does not answer.
    """
    engine = find_engine(job, facts)
    prepared = prepare(engine, configuring=True, force=force)
    return Plan(job.platform.name, prepared.steps, notes=(*engine.notes, *prepared.notes))


def plan(job: Job, facts: Facts) -> Plan:
    """The plan of one task: the image where it is absent, the output directories, the container.

    Raises facts.Missing, DefinitionError for what cannot be passed on, MachineError when the engine does not answer.
    """
    image_name(job)
    run = _read(job, facts)
    prepared = prepare(run.engine, configuring=False)
    directories = (*output_directories(job), *run.view.covered)
    make = Step("make output directories", Command(("mkdir", "-p", "--", *directories)), task=job.task,
                hint="check the permissions, or give another path")
    preparation = prepared.steps
    if job.batch:  # a node has its own images: each job looks for the image, and gets it
        preparation = tuple(replace(step, task=job.task) for step in preparation)
    steps = (*preparation, *((make,) if directories else ()), _payload(run, prepared.reference))
    arguments = job.seen(run.view.paths)
    task = TaskPlan(job.task, job.run_id, arguments, grace=job.grace, timeout=job.timeout, interactive=job.interactive,
                    image=(image_name(job), prefixed(prepared.id)))
    notes = (*run.engine.notes, *prepared.notes, *_no_start(run, prepared.starts_itself), *run.notes)
    return Plan(job.platform.name, steps, (task,), tuple(dict.fromkeys(notes)))


def available(platform: Platform, facts: Facts) -> str | None:
    """None when the engine answers, else the reason. Asks what `plan` asks too, so that it costs nothing more."""
    job = Job(run_id="", cube="", root="/", workspace="/", dialect="inline", task="", entrypoint=None, arguments=(),
              platform=platform)
    try:
        find_image(find_engine(job, facts), image_name(job))
    except MLCubeError as error:
        return error.message
    return None


def identify(job: Job, facts: Facts) -> Identity:
    """What the platform's image is. Raises facts.Missing, DefinitionError, MachineError when the engine does not answer."""
    return identify_image(find_engine(job, facts))


def versions(job: Job, facts: Facts) -> tuple[tuple[str, Command], ...]:
    """How to ask for the engine's version: docker's daemon, podman itself. Raises facts.Missing, MachineError."""
    engine = find_engine(job, facts)
    field = "{{.Client.Version}}" if engine.name == "podman" else "{{.Server.Version}}"
    return ((engine.name, engine.command("version", "--format", field)),)


def image_commands(job: Job, facts: Facts) -> tuple[Command, Command]:
    """What writes the platform's image to stdout, and what takes one from stdin. Raises facts.Missing, MachineError."""
    engine = find_engine(job, facts)
    return engine.command("save", image_name(job)), engine.command("load")


# --- the container -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """All that goes between `run` and the image's name."""

    engine: Engine
    view: View
    flags: tuple[Flag, ...]  # the user's own
    gpus: Gpus
    environment: Passed
    words: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"mlcube-{self.engine.job.run_id}"


def _read(job: Job, facts: Facts) -> _Run:
    """Everything that the container's command line is made of, judged."""
    engine = find_engine(job, facts)
    refuse_paths(job, engine)
    flags, flag_notes = user_flags(job, facts, _user_options(job))
    flags, given = own_gpus(engine, flags), frozenset(flag.name for flag in flags)
    gpus = gpus_of(engine) if "--gpus" not in given else Gpus()
    environment = _environment(engine, gpus, flags)
    view = view_of(job, facts)
    words = (*_identity(engine, given), *_settings(engine, given, bool(view.mounts)))
    notes = (*flag_notes, *gpus.notes, *environment.notes, *view.notes, *_reach(engine, flags, bool(view.mounts)))
    return _Run(engine, view, flags, gpus, environment, words, notes)


def _payload(run: _Run, image: str) -> Step:
    """The task itself, with how to stop it and how to learn whether it had started. `image`: a locked one; else ""."""
    engine, job = run.engine, run.engine.job
    entrypoint = job.entrypoint or ()
    terminal = ("--interactive", *(("--tty",) if engine.facts.terminal else ())) if job.interactive else ()
    words = (
        "run",
        "--rm",
        "--init",
        "--name", run.name,
        "--label", f"{LABEL}.run={job.run_id}",
        "--label", f"{LABEL}.cube={job.cube}",
        "--label", f"{LABEL}.task={job.task}",
        "--stop-timeout", str(_whole_seconds(job.grace)),
        *terminal,
        *run.words,
        *run.gpus.words,
        *run.environment.words,
        *mount_words(engine, run.view.mounts),
        *(word for flag in run.flags for word in flag.words),
        *((f"--entrypoint={entrypoint[0]}",) if entrypoint else ()),
        image or image_name(job),
        *entrypoint[1:],
        *job.words(run.view.paths),
    )
    secrets = tuple(variable for flag in run.flags for variable in flag.variables)
    names = (*run.environment.names, *(variable.name for variable in secrets))
    command = engine.command(*words, env=(*run.environment.variables, *secrets), names=names, inserted=run.gpus.inserted)
    return Step(f"run task {job.task}", command, task=job.task, payload=True, stop=_stop(engine, run.name, job.run_id),
                sign=Sign(_started(engine, run.name)), hint=_hint(engine, words))


def _hint(engine: Engine, words: tuple[str, ...]) -> str:
    """What helps against podman's usual refusals; docker's own messages tell enough."""
    if engine.name != "podman":
        return ""
    if any(word.startswith("nvidia.com/gpu=") for word in words):
        return "podman learns of GPUs by: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    return "podman's own message stands above; its container-init comes with the package catatonit"


def _whole_seconds(seconds: float) -> int:
    return int(-(-seconds // 1))


def _stop(engine: Engine, name: str, run_id: str) -> Stop:
    """The container waits out its own --stop-timeout; `docker stop --time` is on its way out (deprecated in 28)."""
    absent_is_fine = ("--ignore",) if engine.name == "podman" else ()
    return Stop(ask=engine.command("stop", name), kill=engine.command("kill", name),
                remove=engine.command("rm", "--force", "--volumes", *absent_is_fine, name),
                find=engine.command("ps", "--all", "--quiet", "--filter", f"label={LABEL}.run={run_id}"))


def _started(engine: Engine, name: str) -> Command:
    """Says something when the container's process had started (RULINGS 20).

    A container that could not be started has neither event. Daemons forget old events, so the end is asked for as well
    as the start. docker cuts `until` down to a whole second, hence one second ahead; it then waits for that second.
    """
    events = ("--filter", f"container={name}", "--filter", "event=start", "--filter", "event=die")
    if engine.name == "podman":
        return engine.command("events", "--stream=false", "--since=240h", *events, "--format", "{{.Status}}")
    return engine.command("events", "--since=0", "--until=-1s", *events, "--format", "{{.Status}}")


def _identity(engine: Engine, given: frozenset[str]) -> tuple[str, ...]:
    """Whose the process is: `user` is `caller`, `image`, or UID[:GID]; outputs belong to the caller."""
    if "--user" in given or "--userns" in given:
        return ()
    user, facts = text_option(engine.job, "user") or "caller", engine.facts
    if user == "image":
        return ()
    if user != "caller":
        return ("--user", user)
    if engine.rootless:  # there the caller is the namespace's root; podman can keep him as he is
        return ("--userns", "keep-id") if engine.name == "podman" and has_further_ids(facts) else ("--user", "0:0")
    return ("--user", f"{facts.uid}:{facts.gid}")


def _settings(engine: Engine, given: frozenset[str], has_mounts: bool) -> tuple[str, ...]:
    """The platform's options that are one option of the engine each."""
    job = engine.job
    single = (("container_runtime", "--runtime"), ("network", "--network"), ("memory", "--memory"),
              ("cpuset_cpus", "--cpuset-cpus"), ("shm_size", "--shm-size"), ("workdir", "--workdir"))
    words = []
    for option, flag in single:
        value = text_option(job, option)
        if value is not None and flag not in given:
            words += [flag, value]
    security = list_option(job, "security_opt")
    if has_mounts and enforces_selinux(engine) and not any(text.startswith("label") for text in security):
        security = (*security, "label=disable")
    words += [word for text in security for word in ("--security-opt", text)]
    words += [word for text in list_option(job, "ports") for word in ("--publish", text)]
    return (*words, *(("--privileged",) if flag_option(job, "privileged") else ()))


def _environment(engine: Engine, gpus: Gpus, flags: tuple[Flag, ...]) -> Passed:
    """Defaults of ours, the caller's proxies, then the platform's `env` and `env_args`; each name once."""
    job, facts = engine.job, engine.facts
    own = pass_map("--env", job, "env", facts)
    arguments = pass_map("--env", job, "env_args", facts) if is_map(job, "env_args") else Passed()
    by_flags = {flag.value.partition("=")[0] for flag in flags if flag.name == "--env" and flag.value}
    later = by_flags | set(_names(job, "env_args"))
    own, arguments = without(own, later), without(arguments, by_flags)
    taken = later | set(_names(job, "env"))
    defaults = Passed()
    if text_option(job, "user") != "image":
        defaults += pass_variable("--env", "HOME", "/tmp")
    defaults += pass_variable("--env", "PYTHONUNBUFFERED", "1")
    if gpus.forbidden:
        defaults += pass_variable("--env", "NVIDIA_VISIBLE_DEVICES", "void")
    return (without(defaults, taken) + pass_proxies("--env", job, facts, taken) + pass_job("--env", job, taken) + own
            + arguments)


def _names(job: Job, option: str) -> tuple[str, ...]:
    return tuple(name for name, _ in mapping_option(job, option)) if is_map(job, option) else ()


def _user_options(job: Job) -> tuple[str, ...]:
    """The options that hold the user's own words, in the order in which they are given."""
    environment = () if is_map(job, "env_args") else ("env_args",)
    with_gpus = accelerator_count(job) > 0 and not request_of(job).forbidden
    return (*environment, "gpu_args" if with_gpus else "cpu_args", "run_args")


# --- notes ---------------------------------------------------------------------------------------------------------


def _reach(engine: Engine, flags: tuple[Flag, ...], has_mounts: bool) -> tuple[str, ...]:
    """What the container may do beyond the contract, said each time."""
    job = engine.job
    networks = [text_option(job, "network"), *(flag.value for flag in flags if flag.name == "--network")]
    notes = []
    if flag_option(job, "privileged") or any(flag.name == "--privileged" and not flag.off for flag in flags):
        notes.append("the platform asks for a privileged container: the task can do on this machine what root can")
    if "host" in networks[-1:]:
        notes.append("the platform puts the task on this machine's own network")
    dropped = dropped_mount_options(engine)
    if dropped:
        notes.append(f"'mount_opts': {','.join(dropped)} is left out, docker's --mount cannot relabel")
    limits = [f"'{name}'" for name in ("memory", "cpuset_cpus") if text_option(job, name)]
    if limits and engine.name == "podman" and engine.rootless and not engine.remote and not _has_cgroups_v2(engine):
        notes.append(f"no effect here: {', '.join(limits)}; podman without root needs cgroups v2 to limit anything")
    if has_mounts and enforces_selinux(engine):
        notes.append("SELinux: the container runs with label=disable, since mounted directories keep their labels")
    return tuple(notes)


def _has_cgroups_v2(engine: Engine) -> bool:
    """Whether the machine's groups of processes are of the kind that its users can limit."""
    return engine.facts.path("/sys/fs/cgroup/cgroup.controllers").kind != "absent"


def _no_start(run: _Run, starts_itself: bool) -> tuple[str, ...]:
    job = run.engine.job
    if starts_itself or job.entrypoint or any(flag.name == "--entrypoint" for flag in run.flags):
        return ()
    return (f"image {image_name(job)} has no entry point: it takes the task's first word for a command",)
