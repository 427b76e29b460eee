"""Every option on every runner: it has an effect, or is refused, or something is said. Never silence; no engine is needed.

The whole way is gone: a cube is read, planned, and printed by a dry run. A new option of the schemas or the docs has to get a
row here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.cli import main
from mlcube_cli.definition.draft import PlatformDraft
from mlcube_cli.definition.options import canonical_name
from mlcube_cli.definition.ssh_options import MOVED, NO_USE, with_machine
from mlcube_cli.definition.tree import from_data, mapping, plain
from mlcube_cli.errors import Location
from mlcube_cli.parcels import Load
from mlcube_shell import slurm_jobs, slurm_requests, ssh
from tests.conftest import CHECKOUT
from tests.cubes import write_tree
from tests.world import World, job_of

PLATFORMS = {"docker": "docker", "podman": "docker", "singularity": "singularity", "local": "local"}  # and the runner of each
# Another plan; the same one and something is said; the warning that the runner knows no such option; no plan.
EFFECT, NOTE, UNKNOWN, ERROR = "effect", "note", "unknown", "error"
Told = Mapping[str, str]


def told(docker: str, singularity: str, local: str, podman: str = "") -> Told:
    return {"docker": docker, "podman": podman or docker, "singularity": singularity, "local": local}


EVERYWHERE = told(EFFECT, EFFECT, EFFECT)
CONTAINERS = told(EFFECT, EFFECT, UNKNOWN)
DOCKER = told(EFFECT, UNKNOWN, UNKNOWN)
SINGULARITY = told(UNKNOWN, EFFECT, UNKNOWN)
LOCAL = told(UNKNOWN, UNKNOWN, EFFECT)
NOT_LOCAL = told(EFFECT, EFFECT, ERROR)  # there it would mean something: that nothing does it is an error (RULINGS 23)
NEEDS_DOCKER = told(EFFECT, UNKNOWN, ERROR)
NOT_CHOSEN = told("accelerator_count decides", "accelerator_count decides", UNKNOWN)


@dataclass(frozen=True)
class Row:
    """A value that is not the default, what each platform does about it, and what the section holds besides."""

    value: Any
    told: Told
    beside: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)  # of the cube


WITH_GPU = {"platform": {"accelerator_count": 1}}
FROM_DOCKER = {"build_strategy": "pull", "docker_image": "one:1"}
EXEC = {"kind": "exec", "run": ["true"], "entrypoint": None}

ROWS: Mapping[str, tuple[Row, ...]] = {
    # the image
    "image": (Row("other.sif", CONTAINERS),),
    "image_dir": (Row("images", SINGULARITY),),
    "docker": (Row("sudo docker", told(EFFECT, UNKNOWN, UNKNOWN, podman="--platform=podman names it")),),
    "singularity": (Row("sudo singularity", SINGULARITY),),
    "container_runtime": (Row("nvidia", NEEDS_DOCKER),),
    "build_strategy": (Row("always", CONTAINERS),),
    "build_context": (Row("other", CONTAINERS),),
    "build_file": (Row("other/Recipe", CONTAINERS),),
    "build_args": (Row("--no-cache", CONTAINERS),),
    "docker_image": (Row("another:1", SINGULARITY, FROM_DOCKER),),
    "tar_file": (Row("saved.tar", told("singularity reads it", EFFECT, UNKNOWN), FROM_DOCKER),),
    "tmpdir": (Row("/scratch", SINGULARITY),),
    "cachedir": (Row("/scratch", SINGULARITY),),
    # the environment
    "env": (Row({"A": "b"}, EVERYWHERE), Row({"ABSENT_HERE": None}, told(NOTE, NOTE, NOTE))),
    "env_args": (Row({"A": "b"}, DOCKER), Row("A=b", DOCKER)),
    "setup": (Row(["true"], EVERYWHERE),),
    "modules": (Row(["cuda"], EVERYWHERE),),
    # the user's own words
    "run_args": (Row("--uts=host", CONTAINERS),),
    "gpu_args": (Row("--uts=host", CONTAINERS, top=WITH_GPU), Row("--uts=host", NOT_CHOSEN)),
    "cpu_args": (Row("--uts=host", CONTAINERS), Row("--uts=host", NOT_CHOSEN, top=WITH_GPU)),
    # accelerators, network, limits
    "gpus": (Row("none", EVERYWHERE), Row(2, EVERYWHERE), Row([0, 1], EVERYWHERE), Row("device=1", EVERYWHERE),
             Row("all", told(EFFECT, EFFECT, "the default")), Row("some", told(ERROR, ERROR, ERROR))),
    "network": (Row("none", NOT_LOCAL), Row("bridge", NOT_LOCAL), Row("host", told(EFFECT, "the default", "the default"))),
    "security_opt": (Row("label=disable", NEEDS_DOCKER),),
    "security": (Row("no-new-privs", SINGULARITY),),
    "nv": (Row(True, SINGULARITY),),
    "rocm": (Row(True, SINGULARITY),),
    "memory": (Row("1g", NOT_LOCAL),),
    "cpuset_cpus": (Row("0", NOT_LOCAL),),
    "shm_size": (Row("1g", told(EFFECT, NOTE, ERROR)),),
    "vm_ram": (Row(2048, SINGULARITY),),
    "vm_cpu": (Row(2, SINGULARITY),),
    "ports": (Row(["8080:80"], NEEDS_DOCKER),),
    "privileged": (Row(True, NEEDS_DOCKER),),
    # who, where, and what is seen of this machine
    "user": (Row("image", told(EFFECT, NOTE, ERROR)), Row("1234:1234", told(EFFECT, ERROR, ERROR)),
             Row("0", told(EFFECT, ERROR, ERROR)), Row("caller", dict.fromkeys(PLATFORMS, "the default"))),
    "workdir": (Row("/tmp", EVERYWHERE),),
    "mount_opts": (Row("z", told(NOTE, NOTE, ERROR, podman=EFFECT)), Row("ro", told(ERROR, ERROR, ERROR)),
                   Row("bind-propagation=rslave", told(EFFECT, ERROR, ERROR))),
    "binds": (Row(["/opt:/opt"], SINGULARITY),),
    "contain": (Row(False, SINGULARITY),),
    "cleanenv": (Row(False, SINGULARITY),),
    "fakeroot": (Row(True, SINGULARITY),),
    "writable_tmpfs": (Row(True, SINGULARITY),),
    # a Python environment of this machine
    "entrypoint": (Row("other.py", LOCAL),),
    "requirements": (Row("requirements.txt", LOCAL),
                     Row("requirements.txt", told(UNKNOWN, UNKNOWN, NOTE), {"interpreter": "system"})),
    "interpreter": (Row("virtualenv", LOCAL),),
    "python": (Row("/bin/sh", LOCAL),),
    "conda": (Row("mamba", LOCAL, {"interpreter": "conda"}),),
    "kind": (Row("exec", LOCAL, {"run": ["true"]}),),
    "directories": (Row(["made"], LOCAL, EXEC),),
    "configure": (Row(["true"], told(ERROR, UNKNOWN, EFFECT), EXEC),),
    "run": (Row(["echo other"], LOCAL, EXEC),),
}
# Keys of the schemas that are no options: which runner a section is for; and what older files say of environments, which lie
# in mlcube's cache (docs/platforms.md).
NO_OPTIONS = {"runner", "system", "virtualenv", "pipenv", "force_reconfigure"}

FLAGS: Mapping[str, Told] = {
    "--gpus=none": EVERYWHERE, "--gpus=1": EVERYWHERE, "--gpus=0,1": EVERYWHERE,
    "--gpus=all": told(EFFECT, EFFECT, "the default"),
    "--memory=1g": NOT_LOCAL, "--cpu=1": NOT_LOCAL,
    "--network=none": NOT_LOCAL, "--network=host": told(EFFECT, "the default", "the default"),
    "--security=no-new-privs": NOT_LOCAL,
    "--mount=rw": told(EFFECT, EFFECT, "the default"), "--mount=ro": told("the default", "the default", NOTE),
}

RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
BEYOND = "mlcube: this cube asks for more than its inputs and outputs"  # said of a definition, whatever comes of it
PLACE = re.compile(r":\d+:\d+")  # of the definition's lines, which a further option moves

SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "docker": {"image": "one.sif"}, "singularity": {"image": "one.sif"}, "local": {"entrypoint": "main.py"},
}


class Desk:
    """A machine without engines, a cube, and the dry runs of it."""

    def __init__(self, place: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self._capture = capture

    def plan(self, platform: str, *words: str, options: Mapping[str, Any] | None = None,
             top: Mapping[str, Any] | None = None) -> tuple[int, str, str]:
        """Exit code, the steps, and what was said, for a section of these options and these words."""
        runner = PLATFORMS[platform]
        task = {"parameters": {"inputs": {"data": {"type": "directory"}}, "outputs": {"out": {"type": "directory"}}}}
        section = {name: value for name, value in {**SECTIONS[runner], **(options or {})}.items()
                   if value is not None or name == "env"}
        (self.place / "mlcube.yaml").write_text(json.dumps({"name": "c", **(top or {}), runner: section, "tasks": {"t": task}}))
        self._capture.readouterr()
        steps, notes = "", ""
        for verb in ("run", "configure"):
            given = words if verb == "run" else ()
            code = main([verb, str(self.place), f"--platform={platform}", "--dry-run", "--json", *given])
            said = self._capture.readouterr()
            notes += "".join(line for line in said.err.splitlines(True) if BEYOND not in line)
            if code:
                return code, "", notes
            document = json.loads(said.out)
            steps += RUN_ID.sub("RUN", json.dumps([document["steps"], document["tasks"]], indent=1))
            notes += "\n".join(document["notes"])
        return 0, steps, PLACE.sub("", notes)

    def tell(self, platform: str, *words: str, options: Mapping[str, Any] | None = None,
             beside: Mapping[str, Any] | None = None, top: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Whether the options, or the words, are an effect, a note, an error, or nothing; and what was said."""
        code, before, noted = self.plan(platform, options=beside, top=top)
        assert code == 0, noted
        code, after, said = self.plan(platform, *words, options={**(beside or {}), **(options or {})}, top=top)
        if code:
            return ERROR, said
        if "is not a key that" in said:
            return UNKNOWN, said
        if after != before:
            return EFFECT, said
        return (NOTE if said != noted else "nothing"), said


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    write_tree(tmp_path / "cube", {
        "main.py": "", "other.py": "", "requirements.txt": "x\n", "Dockerfile": "FROM scratch\n",
        "Singularity.recipe": "Bootstrap: docker\n", "other/Recipe": "", "other/Dockerfile": "", "other/Singularity.recipe": "",
        "saved.tar": "", "workspace/data/a": "a"})
    programs = {"python3": "printf 'cpython\\n3.11.2\\nlinux-x86_64\\ncpython-311\\nyes\\n%s' \"$0\"",
                "uname": "echo Linux x86_64", "conda": ":", "mamba": ":", "bash": ":"}
    for name, line in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    home = tmp_path / "home"
    (home / ".cache/mlcube").mkdir(parents=True)
    for name in [name for name in os.environ if not name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    for name, value in {"PATH": str(tmp_path / "bin"), "HOME": str(home), "LANG": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    if os.getuid() == 0:  # root may be anybody
        for path in (home, home / ".cache", home / ".cache/mlcube"):
            os.chown(path, 1000, 1000)
        for name in ("getuid", "geteuid", "getgid"):
            monkeypatch.setattr(os, name, lambda: 1000)
    yield Desk(tmp_path / "cube", capsys)


def is_told(expected: str, found: str) -> bool:
    """Whether it came as expected; what is none of the four is a reason why nothing has to be done."""
    return found == (expected if expected in (EFFECT, NOTE, UNKNOWN, ERROR) else "nothing")


@pytest.mark.parametrize("name", ROWS)
def test_an_option_is_never_passed_over_in_silence(desk: Desk, name: str) -> None:
    for row in ROWS[name]:
        for platform, expected in row.told.items():
            runner = PLATFORMS[platform]
            known = {key: value for key, value in row.beside.items() if key in schema_options(runner)}
            found, said = desk.tell(platform, options={name: row.value}, beside=known, top=row.top)
            assert is_told(expected, found), f"{name}: {row.value} on {platform}: {found}, not {expected}: {said}"
            assert found != ERROR or name in said or str(row.value) in said, said
            if found == UNKNOWN and platform != "podman":  # typed, it is an error
                code, _, said = desk.plan(platform, f"-Prunner.{name}={json.dumps(row.value)}")
                assert code == 2 and name in said, said


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_is_never_passed_over_in_silence(desk: Desk, flag: str) -> None:
    for platform, expected in FLAGS[flag].items():
        found, said = desk.tell(platform, flag)
        assert is_told(expected, found), f"{flag} on {platform}: {found}, not {expected}: {said}"


def test_every_option_of_the_schemas_and_of_the_docs_has_a_row() -> None:
    named = {name for runner in SECTIONS for name in schema_options(runner)}
    assert named == set(ROWS)
    for runner in SECTIONS:
        documented = docs_options(runner)
        assert documented <= schema_options(runner) | REFUSED_LOCALLY, "docs/platforms.md"
        assert schema_options(runner) - documented <= REFUSED_LOCALLY, "docs/platforms.md"


REFUSED_LOCALLY = {"network", "memory", "shm_size", "user"}  # local knows them, to say why they cannot be


def schema_options(runner: str) -> set[str]:
    """The canonical names of the options that a cube's section of this runner may hold."""
    schema = json.loads((CHECKOUT / "schemas/mlcube.json").read_text(encoding="utf-8"))
    return {canonical_name(runner, name) for name in schema["$defs"][runner]["properties"]} - NO_OPTIONS


def docs_options(runner: str) -> set[str]:
    """The options in the first column of the runner's table in docs/platforms.md."""
    text = (CHECKOUT / "docs/platforms.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {runner}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/platforms.md has no section on {runner}"
    cells = [line.split("|")[1] for line in section[0].splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


# --- another machine -------------------------------------------------------------------------------------------------

# Where each option of an ssh platform is seen: in the way there, in what is sent, in what runs there, ...
SSH: Mapping[str, tuple[tuple[Any, str], ...]] = {
    **{name: ((value, "way"),) for name, value in (
        ("host", "other"), ("user", "ada"), ("port", 2222), ("identity_file", "~/key"), ("jump", "login"),
        ("ssh_options", ["ForwardAgent=no"]), ("connect_timeout", 5), ("host_key", "strict"), ("control_persist", "1h"))},
    "remote_root": (("~/elsewhere", "root"),),
    "sync": tuple((value, "push") for value in (
        {"exclude": ["*.tmp"]}, {"include": "a"}, {"compress": True}, {"checksum": True}, {"bandwidth": "10m"})),
    **{name: ((value, "inside"),) for name, value in (("env", {"A": "b"}), ("setup", ["true"]), ("modules", ["cuda"]))},
    "platform": (("local", "tests/integration/test_ssh_platform.py"),),
    "reconnect": (("1s", "tests/integration/test_ssh_faults.py"),),
}


def seen_of_ssh(options: Mapping[str, Any], where: str) -> object:
    """What an ssh platform with these options comes to, in this place."""
    platform = job_of("ssh", {"host": "box", **options}).platform
    world = World(tools={"ssh": "/usr/bin/ssh", "rsync": "/usr/bin/rsync"},
                  paths={"/cube": "directory", "/cube/workspace": "directory"},
                  probes={"ssh -G": {}, "rsync --version": {"stdout": "rsync  version 3.2.7  protocol version 31\n"}})
    load = Load("/far/root", "id", ("/cube", "/far/root/code"), ("/cube/workspace", "/far/root/workspace"),
                ("/cube/workspace",))
    if where == "way":
        return world.decide(lambda facts: ssh.way(platform, facts))
    if where == "root":
        return ssh.root(platform, "cube-1", world.facts())
    if where == "push":
        return world.decide(lambda facts: ssh.push(platform, facts, load))
    nodes = {name: from_data(value, "f:1:1") for name, value in options.items()}
    drafts = [PlatformDraft(name, name, mapping(held), Location("f")) for name, held in (("ssh", nodes), ("docker", {}))]
    return plain(with_machine(*drafts).options)


@pytest.mark.parametrize("name", SSH)
def test_an_option_of_an_ssh_platform_is_never_passed_over_in_silence(name: str) -> None:
    for value, where in SSH[name]:
        if where.startswith("tests/"):
            assert f"ssh.{name}=" in (CHECKOUT / where).read_text(encoding="utf-8")
        else:
            assert seen_of_ssh({name: value}, where) != seen_of_ssh({}, where), (name, value)


def test_every_option_of_an_ssh_platform_has_a_row_and_is_documented() -> None:
    earlier = {section for section, _ in MOVED} | set(NO_USE)
    options = schema_options("ssh") - (earlier - set(SSH))
    assert set(SSH) == options == docs_options("ssh")
    schema = json.loads((CHECKOUT / "schemas/mlcube.json").read_text(encoding="utf-8"))
    rows = {key for value, _ in SSH["sync"] for key in value} | {"absolute", "image"}
    assert rows == set(schema["$defs"]["ssh_sync"]["properties"])
    text = (CHECKOUT / "docs/platforms.md").read_text(encoding="utf-8")
    assert all(f"`{key}" in text for key in rows)


# --- a batch system ----------------------------------------------------------------------------------------------------

# Where each option of a slurm platform is seen: in what a job asks for, in what runs inside, ... or the module that reads it.
SLURM: Mapping[str, tuple[tuple[Any, str], ...]] = {
    **{name: ((value, "directives"),) for name, value in (
        ("partition", "gpu"), ("account", "lab"), ("qos", "high"), ("time", 3600), ("nodes", "2-4"), ("ntasks", 4),
        ("ntasks_per_node", 2), ("cpus_per_task", 8), ("memory", 1 << 30), ("gpus", 2), ("gres", "lustre:1"),
        ("constraint", "a100"), ("exclusive", True), ("sbatch_args", ["--nice=5"]))},
    "signal_before_end": (("USR1@120", "signal"), ("none", "signal")),
    "env": (({"A": "b"}, "inside"),),
    "modules": ((["cuda"], "node"), (["cuda"], "login")),
    "setup": ((["true"], "node"),),
    "platform": (("docker", "mlcube_cli/cli/inside.py"),),
    "array_limit": ((3, "mlcube_cli/cli/sweep_queued.py"),),
    "work_dir": (("/scratch", "mlcube_cli/cli/queue.py"),),
    "configure": (("job", "mlcube_cli/cli/queue.py"),),
    "scratch": ((True, "runners/shell/mlcube_shell/slurm_scratch.py"),),
}


def seen_of_slurm(options: Mapping[str, Any], where: str) -> object:
    """What a slurm platform with these options comes to, in this place."""
    platform, job = job_of("slurm", options).platform, job_of("docker", {"image": "a"})
    if where == "directives":
        return slurm_requests.directives(platform, {}, "c-t")
    if where == "signal":
        return slurm_requests.last_signal(job_of("slurm", {"time": 3600, **options}).platform)
    if where in ("node", "login"):
        return (slurm_jobs.on_node if where == "node" else slurm_jobs.on_login)(platform, job)
    nodes = {name: from_data(value, "f:1:1") for name, value in options.items()}
    drafts = [PlatformDraft(name, name, mapping(held), Location("f")) for name, held in (("slurm", nodes), ("docker", {}))]
    return plain(with_machine(*drafts).options)


@pytest.mark.parametrize("name", SLURM)
def test_an_option_of_a_slurm_platform_is_never_passed_over_in_silence(name: str) -> None:
    for value, where in SLURM[name]:
        if where.endswith(".py"):
            text = (CHECKOUT / where).read_text(encoding="utf-8")
            assert f'option("{name}")' in text or f'find("{name}")' in text
        else:
            assert seen_of_slurm({name: value}, where) != seen_of_slurm({}, where), (name, value)


def test_every_option_of_a_slurm_platform_has_a_row_and_is_documented() -> None:
    assert set(SLURM) == schema_options("slurm") == docs_options("slurm")
