"""The docker runner's words, one test an option; the world is invented (tests/world.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mlcube_cli.command import HIDDEN, Plan, Step, as_data, merge
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import DefinitionError, Location, MachineError
from mlcube_cli.facts import Probe
from mlcube_cli.script import script
from mlcube_shell import docker
from mlcube_shell.docker_image import copied_sources
from tests.world import World, job_of

THERE = {"stdout": '{"Config": {"Entrypoint": ["main"]}}'}
ABSENT = {"exit_code": 1, "stderr": "Error: No such image: mnist"}
DATA = {"name": "data", "host_path": "/cube/workspace/data"}
MODEL = {"name": "model", "direction": "output", "host_path": "/cube/workspace/model"}


def world_of(image: dict[str, Any] | None = None, **fields: Any) -> World:
    given = {"tools": {"docker": "/usr/bin/docker", "podman": "/usr/bin/podman", "sudo": "/usr/bin/sudo"}, **fields}
    probes = {**given.pop("probes", {}), "image inspect": THERE if image is None else image}
    return World(**{"probes": probes, **given})


def plan_of(options: dict[str, Any], world: World | None = None, arguments: Sequence[dict[str, str]] = (),
            **fields: Any) -> Plan:
    job = job_of("docker", {"image": "mnist", **options}, list(arguments), **fields)
    return (world or world_of()).decide(lambda facts: docker.plan(job, facts))


def payload_of(plan: Plan) -> Step:
    return next(step for step in plan.steps if step.payload)


def words_of(options: dict[str, Any], world: World | None = None, **fields: Any) -> tuple[str, ...]:
    return payload_of(plan_of(options, world, **fields)).command.argv


def after(words: Sequence[str], flag: str) -> list[str]:
    """The values that a flag was given."""
    return [following for word, following in zip(words, words[1:]) if word == flag]


# --- one option each -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "flag", "values"), [
    ({"network": "none"}, "--network", ["none"]),
    ({"memory": "4g"}, "--memory", ["4g"]),
    ({"cpuset_cpus": "0-3"}, "--cpuset-cpus", ["0-3"]),
    ({"shm_size": "1g"}, "--shm-size", ["1g"]),
    ({"workdir": "/work"}, "--workdir", ["/work"]),
    ({"container_runtime": "nvidia"}, "--runtime", ["nvidia"]),
    ({"ports": ["80:80", 8080]}, "--publish", ["80:80", "8080"]),
    ({"security_opt": "seccomp=unconfined"}, "--security-opt", ["seccomp=unconfined"]),
    ({"security_opt": ["a=b", "c=d"]}, "--security-opt", ["a=b", "c=d"]),
    ({}, "--user", ["1000:1000"]),
    ({"user": "caller"}, "--user", ["1000:1000"]),
    ({"user": "image"}, "--user", []),
    ({"user": "5:6"}, "--user", ["5:6"]),
    ({"user": 5}, "--user", ["5"]),
    ({}, "--env", ["HOME=/tmp", "PYTHONUNBUFFERED=1"]),
    ({"user": "image"}, "--env", ["PYTHONUNBUFFERED=1"]),
    ({"env": {"PYTHONUNBUFFERED": "", "HOME": "/h"}}, "--env", ["PYTHONUNBUFFERED=", "HOME=/h"]),
    ({"env": {"A": "b c", "N": 1.5, "T": True}}, "--env", ["HOME=/tmp", "PYTHONUNBUFFERED=1", "A=b c", "N=1.5", "T=true"]),
    ({"env_args": {"A": "b"}, "env": {"A": "c"}}, "--env", ["HOME=/tmp", "PYTHONUNBUFFERED=1", "A=b"]),
    ({"env_args": "--env HOME=/h"}, "--env", ["PYTHONUNBUFFERED=1", "HOME=/h"]),
    ({"env_args": "A=B C='d e' --env HOME=/h"}, "--env", ["PYTHONUNBUFFERED=1", "A=B", "C=d e", "HOME=/h"]),
    ({"env_args": ["A=B", "-e", "C=D"]}, "--env", ["HOME=/tmp", "PYTHONUNBUFFERED=1", "A=B"]),
    ({"gpus": "all"}, "--gpus", ["all"]),
    ({"gpus": 2}, "--gpus", ["2"]),
    ({"gpus": "device=0"}, "--gpus", ["device=0"]),
    ({"gpus": "0,1"}, "--gpus", ['"device=0,1"']),
    ({"gpus": [1, "GPU-9f1c"]}, "--gpus", ['"device=1,GPU-9f1c"']),
    ({"gpus": "none"}, "--gpus", []),
    ({"gpus": 0}, "--gpus", []),
    ({}, "--gpus", []),
    ({}, "--network", []),
])
def test_option_becomes_words(options: dict[str, Any], flag: str, values: list[str]) -> None:
    assert after(words_of(options), flag) == values


@pytest.mark.parametrize(("options", "there"), [({}, False), ({"privileged": False}, False), ({"privileged": True}, True)])
def test_a_container_is_privileged_only_when_the_platform_says_so(options: dict[str, Any], there: bool) -> None:
    plan = plan_of(options)
    assert ("--privileged" in payload_of(plan).command.argv) is there
    assert any("privileged" in note for note in plan.notes) is there


def test_host_network_is_noted() -> None:
    assert any("own network" in note for note in plan_of({"network": "host"}).notes)
    assert any("own network" in note for note in plan_of({"run_args": "--net=host"}).notes)


def test_the_container_is_named_labelled_removed_and_has_an_init() -> None:
    words = words_of({})
    assert words[:4] == ("docker", "run", "--rm", "--init")
    assert after(words, "--name") == ["mlcube-20260102T030405-77-1"]
    assert after(words, "--label") == ["org.mlcommons.mlcube.run=20260102T030405-77-1",
                                       "org.mlcommons.mlcube.cube=mnist", "org.mlcommons.mlcube.task=train"]


def test_gpus_none_hides_the_devices_from_images_that_look_for_them() -> None:
    assert "NVIDIA_VISIBLE_DEVICES=void" in after(words_of({"gpus": "none"}), "--env")


@pytest.mark.parametrize(("count", "expected"), [(2, ["--never-cpu"]), (0, ["--never-gpu"]), (None, ["--never-gpu"])])
def test_the_number_of_accelerators_chooses_the_users_words(count: int | None, expected: list[str]) -> None:
    words = words_of({"gpu_args": "--never-cpu=1", "cpu_args": "--never-gpu=1"},
                     requirements={"accelerator_count": count})
    assert [word.partition("=")[0] for word in words if word.startswith("--never")] == expected
    assert after(words, "--gpus") == ([str(count)] if count else [])


def test_a_batch_job_gets_only_its_own_devices() -> None:
    world = world_of(machine={"environment": {"CUDA_VISIBLE_DEVICES": "3,5,7"}})
    assert after(words_of({"gpus": 2}, world), "--gpus") == ['"device=3,5"']
    assert after(words_of({"gpus": "all"}, world), "--gpus") == ['"device=3,5,7"']
    assert after(words_of({"gpus": "device=9"}, world), "--gpus") == ["device=9"]


@pytest.mark.parametrize("value", ["some", "device=", "-3", [["x"]], "a b"])
def test_gpus_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(DefinitionError, match="gpus"):
        words_of({"gpus": value})


# --- the user's own words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "origins", "flag", "values"), [
    ({"network": "none", "cpu_args": "--network=host"}, {}, "--network", []),
    ({"network": "none", "cpu_args": "--network=host"}, {"network": "-P"}, "--network", ["none"]),
    ({"network": "none", "cpu_args": "--net host"}, {"network": "--network", "cpu_args": "-P"}, "--network", ["none"]),
    ({"network": "none", "cpu_args": "--network=host"}, {"network": "-P", "cpu_args": "-P"}, "--network", []),
    ({"gpus": "1", "run_args": "--gpus=all"}, {"gpus": "--gpus"}, "--gpus", ["1"]),
    ({"memory": "1g", "run_args": "-m 8g"}, {"memory": "--memory"}, "--memory", ["1g"]),
])
def test_what_is_typed_wins_over_the_definitions_words(options: dict[str, Any], origins: dict[str, str], flag: str,
                                                       values: list[str]) -> None:
    job = job_of("docker", {"image": "mnist", **options})
    typed = tuple(replace(option, origin=origins.get(option.name, option.origin)) for option in job.platform.options)
    job = replace(job, platform=replace(job.platform, options=typed))
    plan = world_of().decide(lambda facts: docker.plan(job, facts))
    words = payload_of(plan).command.argv
    others = {"--network=host", "--net", "--gpus=all", "-m"} & set(words)
    assert (after(words, flag), bool(others)) == (values, not values)
    assert any("is left out, since" in note for note in plan.notes) is bool(values)


def test_string_options_are_split_by_shell_rules_and_stand_last() -> None:
    words = words_of({"run_args": "--hostname 'a b' -v ~/.ssh:/keys --add-host=$NAME:1 --label x=$$1"},
                     world_of(machine={"environment": {"NAME": "h h"}}))
    start = words.index("--hostname")
    assert words[start:] == ("--hostname", "a b", "-v", "/home/user/.ssh:/keys", "--add-host=h h:1",
                             "--label", "x=$1", "mnist", "train")


def test_lists_are_one_word_each_and_do_not_expand() -> None:
    assert words_of({"run_args": ["--label", "a $b ~"]})[-4:-2] == ("--label", "a $b ~")


def test_workspace_means_ours_in_the_users_words() -> None:
    world = world_of(machine={"environment": {"WORKSPACE": "/elsewhere"}})
    assert after(words_of({"run_args": "--label w=${WORKSPACE}"}, world), "--label")[-1] == "w=/cube/workspace"


@pytest.mark.parametrize(("options", "flag", "ours", "users"), [
    ({"network": "none", "run_args": "--network host"}, "--network", "none", "host"),
    ({"network": "none", "run_args": "--net=host"}, "--network", "none", None),
    ({"run_args": "--user 0"}, "--user", "1000:1000", "0"),
    ({"run_args": "-u 0"}, "--user", "1000:1000", None),
    ({"gpus": 1, "cpu_args": "--gpus all"}, "--gpus", "1", "all"),
    ({"memory": "1g", "run_args": "-m2g"}, "--memory", "1g", None),
])
def test_the_users_words_replace_ours(options: dict[str, Any], flag: str, ours: str, users: str | None) -> None:
    values = after(words_of(options), flag)
    assert ours not in values
    assert values == ([users] if users else [])


@pytest.mark.parametrize("text", ["-d", "--detach", "-id", "--name x", "--name=x", "--cidfile f", "--rm=false", "--help",
                                  "--detach=true", "-d=true"])
def test_words_that_take_the_container_from_us_are_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="'run_args': -") as caught:
        words_of({"run_args": text})
    assert caught.value.location == Location("platform.yaml", 2, 3)


@pytest.mark.parametrize("text", ["--rm", "--detach=false", "--env --name", "-e -d", "--rm=true", "--label=--name",
                                  "--cpu-shares -1", "--oom-score-adj -500", "-v/a:/b"])
def test_words_that_only_look_alike_pass(text: str) -> None:
    words = words_of({"run_args": text})
    assert words[-2 - len(text.split()):-2] == tuple(text.split())


def test_a_terminal_is_for_interactive_runs_at_a_terminal() -> None:
    terminal = world_of(machine={"terminal": True})
    assert "--interactive" not in words_of({})
    assert "--tty" not in words_of({}, interactive=True)
    assert "--interactive" in words_of({}, interactive=True)
    assert "--tty" in words_of({}, terminal, interactive=True)
    plan = plan_of({"run_args": "-it"})
    assert "-t" not in payload_of(plan).command.argv and "-i" in payload_of(plan).command.argv
    assert plan.notes == ("'run_args': -t is left out, since there is no terminal without --interactive",)
    assert "-t" in words_of({"run_args": "-t"}, terminal, interactive=True)


@pytest.mark.parametrize(("text", "fault"), [
    ("--label 'x", "cannot be split"), ("stray", "not an option"), ("-- x", "not an option"), ("$UNSET", "UNSET is not set"),
    ("-u $(id -u)", "run a command"), ("-u `id -u`", "run a command"), ("-Z", "no option '-Z'"),
])
def test_words_that_cannot_be_passed_on_are_refused_with_their_place(text: str, fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault) as caught:
        words_of({"run_args": text})
    assert caught.value.location == Location("platform.yaml", 2, 3)
    assert caught.value.hint


@pytest.mark.parametrize(("options", "fault"), [
    ({"network": ["a"]}, "expected a text"), ({"privileged": "yes"}, "true or false"), ({"env": {"A": []}}, "a list"),
    ({"env": ["A"]}, "expected a map"), ({"env": {"A=B": 1}}, "name of a variable"), ({"memory": {}}, "a map"),
    ({"image": ""}, "no image"), ({"image": "-x"}, "for an option"), ({"build_strategy": "often"}, "often"),
    ({"mount_opts": "ro"}, "alike"), ({"env": {"A": "\0"}}, "NUL"),
])
def test_values_of_the_wrong_kind_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault):
        plan_of(options, arguments=[DATA])


# --- variables and secrets -------------------------------------------------------------------------------------------


def test_secrets_travel_by_name() -> None:
    plan = plan_of({"env": {"TOKEN": "geheim", "HOME": "/h"}, "run_args": "-e KEY=geheim --env=KEZ=geheim --label a=b"},
                   secret=("env", "run_args"))
    step = payload_of(plan)
    assert "geheim" not in " ".join(step.command.argv)
    assert after(step.command.argv, "--env") == ["PYTHONUNBUFFERED=1", "TOKEN", "HOME=/h", "KEY", "KEZ"]
    assert {variable.name: variable.value for variable in step.command.env} == {
        "TOKEN": "geheim", "KEY": "geheim", "KEZ": "geheim"}
    assert "geheim" not in script(plan)
    assert as_data(step)["env"] == {"TOKEN": HIDDEN, "KEY": HIDDEN, "KEZ": HIDDEN}


def test_values_from_the_environment_do_not_expand_again() -> None:
    assert after(words_of({"run_args": "--label a=$X"}, secret=("run_args",)), "--label")[-1] == "a=$X"


def test_sudo_is_told_which_variables_to_keep() -> None:
    words = words_of({"docker": "sudo docker", "env": {"TOKEN": "x", "LANG": None}}, secret=("env",),
                     world=world_of(machine={"environment": {"LANG": "C"}}))
    assert words[:3] == ("sudo", "--preserve-env=TOKEN,LANG", "docker")


def test_null_passes_the_callers_value_by_name() -> None:
    plan = plan_of({"env": {"HAVE": None, "LACK": None}}, world_of(machine={"environment": {"HAVE": "1"}}))
    assert after(payload_of(plan).command.argv, "--env")[2:] == ["HAVE"]
    assert plan.notes == ("'env' passes LACK on, but it is not set here",)


def test_proxies_are_passed_by_name_to_runs_and_builds() -> None:
    environment = {"http_proxy": "http://u:p@proxy", "HTTPS_PROXY": "x", "no_proxy": ""}
    world = world_of(ABSENT, paths={"/cube/Dockerfile": "file"}, machine={"environment": environment})
    plan = plan_of({"build_strategy": "build"}, world)
    assert after(payload_of(plan).command.argv, "--env")[2:] == ["http_proxy", "HTTPS_PROXY"]
    assert after(plan.steps[0].command.argv, "--build-arg") == ["http_proxy", "HTTPS_PROXY"]
    assert "u:p" not in script(plan)
    assert after(words_of({"env": {"http_proxy": "mine"}}, world), "--env")[2:] == ["HTTPS_PROXY", "http_proxy=mine"]


# --- the task's words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entrypoint", "tail"), [
    (None, ["mnist", "train", "--data=/mlcube_io0"]),
    (["python3"], ["--entrypoint=python3", "mnist", "--data=/mlcube_io0"]),
    (["python3", "a b.py", "-x"], ["--entrypoint=python3", "mnist", "a b.py", "-x", "--data=/mlcube_io0"]),
])
def test_entry_points_keep_their_arguments(entrypoint: list[str] | None, tail: list[str]) -> None:
    assert list(words_of({}, arguments=[DATA], entrypoint=entrypoint)[-len(tail):]) == tail


def test_an_image_without_an_entry_point_is_noted() -> None:
    world = world_of({"stdout": '{"Config": {"Cmd": ["/bin/sh"]}}'})
    assert any("no entry point" in note for note in plan_of({}, world).notes)
    assert not plan_of({}, world, entrypoint=["x"]).notes
    assert not plan_of({"run_args": "--entrypoint x"}, world).notes


# --- the engine ------------------------------------------------------------------------------------------------------


def test_rootless_engines_map_the_caller_in_their_own_way() -> None:
    assert after(words_of({"docker": "podman"}), "--userns") == ["keep-id"]
    assert "--user" not in words_of({"docker": "podman"})
    root = world_of(machine={"uid": 0, "gid": 0})
    assert after(words_of({"docker": "podman"}, root), "--user") == ["0:0"]
    assert after(words_of({"docker": "sudo podman"}), "--user") == ["1000:1000"]
    rootless = world_of(machine={"environment": {"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}})
    assert after(words_of({}, rootless), "--user") == ["0:0"]
    key = hashlib.sha256(b"mine").hexdigest()
    context = world_of(texts={
        "/home/user/.docker/config.json": '{"currentContext": "mine"}',
        f"/home/user/.docker/contexts/meta/{key}/meta.json":
            '{"Endpoints": {"docker": {"Host": "unix:///run/user/1000/docker.sock"}}}'})
    assert after(words_of({}, context), "--user") == ["0:0"]


@pytest.mark.parametrize(("service", "identity", "elsewhere"), [
    ("unix:///run/user/1000/podman/podman.sock", "keep-id", False), ("unix:///run/podman/podman.sock", "1000:1000", False),
    ("ssh://me@far/run/user/1000/podman/podman.sock", "keep-id", True),
    ("ssh://root@far:22/run/podman/podman.sock?secure=True", "1000:1000", True),
])
def test_podmans_service_tells_whose_it_is(service: str, identity: str, elsewhere: bool) -> None:
    world = world_of(machine={"environment": {"CONTAINER_HOST": service}})
    plan = plan_of({"docker": "podman"}, world)
    words = payload_of(plan).command.argv
    assert after(words, "--userns") + after(words, "--user") == [identity]
    assert any(service in note for note in plan.notes) is elsewhere
    assert plan_of({"docker": f"podman --url {service}"}).notes == plan.notes


def test_a_current_context_tells_where_the_daemon_is() -> None:
    key = hashlib.sha256(b"far").hexdigest()
    texts = {"/home/user/.docker/config.json": '{"currentContext": "far"}',
             f"/home/user/.docker/contexts/meta/{key}/meta.json": '{"Endpoints": {"docker": {"Host": "ssh://me@far"}}}'}
    assert any("ssh://me@far" in note for note in plan_of({}, world_of(texts=texts)).notes)
    assert not plan_of({"docker": "docker --context default"}, world_of(texts=texts)).notes


def test_podmans_answers_are_lists_of_one() -> None:
    world = world_of({"stdout": '[{"Config": {"Cmd": ["sh"], "Labels": {"org.mlcommons.mlcube.inputs": "old"}}}]'},
                     paths={"/cube/Dockerfile": "file", "/cube/workspace/.mlcube": "directory"})
    plan = plan_of({"docker": "podman"}, world, [{"name": "all", "host_path": "/cube/workspace"}])
    assert "changed since" in plan.notes[0] and "no entry point" in plan.notes[1] and len(plan.notes) == 2
    assert after(payload_of(plan).command.argv, "--mount")[1].startswith("type=tmpfs,destination=/mlcube_io0/.mlcube,")
    assert after(payload_of(plan).command.argv, "--mount")[1].endswith(",ro=true,notmpcopyup")


def test_podmans_script_named_docker_is_podman() -> None:
    world = world_of(texts={"/usr/bin/docker": "#!/bin/sh\nexec /usr/bin/podman \"$@\"\n"})
    assert after(words_of({}, world), "--userns") == ["keep-id"]


def test_podman_keeps_no_user_who_has_no_further_ids() -> None:
    def identity(**world: Any) -> list[str]:
        words = words_of({"docker": "podman"}, world_of(**world))
        return after(words, "--userns") + after(words, "--user")

    others = {"/etc/subuid": "someone:100000:65536\n10001:165536:65536\n"}
    named = {"environment": {"USER": "someone"}}
    passwd = "root:x:0:0::/root:/bin/sh\n{}:x:1000:1000::/home/me:/bin/sh\n"
    assert identity(texts=others) == ["keep-id"]  # nobody knows the caller's name
    assert identity(texts={**others, "/etc/passwd": passwd.format("me")}) == ["0:0"]
    assert identity(texts={**others, "/etc/passwd": passwd.format("someone")}) == ["keep-id"]
    assert identity(texts=others, machine={"environment": {"LOGNAME": "me"}}) == ["0:0"]
    assert identity(texts=others, machine=named) == ["keep-id"]
    assert identity(texts={"/etc/subuid": "1000:100000:65536\n"}) == ["keep-id"]
    assert identity(texts={**others, "/etc/nsswitch.conf": "passwd: files\nsubid: sss\n"}) == ["keep-id"]


@pytest.mark.parametrize(("image", "name"), [
    ("mnist", "docker.io/mnist"), ("group/mnist:1", "docker.io/group/mnist:1"), ("quay.io/g/m", "quay.io/g/m"),
    ("localhost/m", "localhost/m"), ("host:5000/m", "host:5000/m"),
])
def test_podman_pulls_from_dockers_registry_where_none_is_named(image: str, name: str) -> None:
    absent = {"exit_code": 125, "stderr": "Error: inspecting object: mnist: image not known"}
    plan = plan_of({"docker": "podman", "image": image}, world_of(absent))
    assert plan.steps[0].command.argv == ("podman", "pull", name)
    assert image in payload_of(plan).command.argv
    assert plan_of({"image": image}, world_of(ABSENT)).steps[0].command.argv == ("docker", "pull", image)


def test_podman_builds_in_dockers_format() -> None:
    world = world_of(ABSENT, paths={"/cube/Dockerfile": "file"}, probes={"version": {"stdout": "28.0.0 28.0.0"}})
    built = {engine: plan_of({"docker": engine, "build_strategy": "build"}, world).steps[0].command.argv
             for engine in ("docker", "podman")}
    assert after(built["podman"], "--format") == ["docker"] and "--format" not in built["docker"]


@pytest.mark.parametrize(("value", "devices"), [
    ("all", ["nvidia.com/gpu=all"]), ("2", ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
    ('"device=1,3"', ["nvidia.com/gpu=1", "nvidia.com/gpu=3"]), ("0", []),
])
def test_podman_gets_the_users_own_gpus_as_devices(value: str, devices: list[str]) -> None:
    given = {"gpu_args": f"--gpus='{value}' --ipc=host", "docker": "podman"}
    words = words_of(given, requirements={"accelerator_count": 1})
    assert after(words, "--device") == devices and "--ipc=host" in words
    assert not any(word.startswith("--gpus") for word in words)


def test_a_container_that_podman_could_not_make_has_a_hint_of_its_own() -> None:
    def hint(options: dict[str, Any]) -> str:
        return payload_of(plan_of(options)).hint

    assert "catatonit" in hint({"docker": "podman"}) and "nvidia-ctk" in hint({"docker": "podman", "gpus": "all"})
    assert hint({"gpus": "all"}) == ""


def test_podman_without_root_says_what_it_cannot_limit() -> None:
    def notes(options: dict[str, Any], **fields: Any) -> tuple[str, ...]:
        return plan_of({"docker": "podman", **options}, world_of(**fields)).notes

    assert notes({"memory": "1g", "cpuset_cpus": 0}) == (
        "no effect here: 'memory', 'cpuset_cpus'; podman without root needs cgroups v2 to limit anything",)
    assert notes({"memory": "1g"}, paths={"/sys/fs/cgroup/cgroup.controllers": "file"}) == ()
    assert notes({"memory": "1g"}, machine={"uid": 0}) == notes({}) == notes({"memory": "1g", "docker": "docker"}) == ()


def test_podman_says_what_the_users_own_gpus_cannot_be() -> None:
    with pytest.raises(DefinitionError, match="names no devices"):
        words_of({"docker": "podman", "run_args": "--gpus=all,capabilities=video"})


@pytest.mark.parametrize(("stderr", "sentence", "hint"), [
    ('cannot find UID/GID for user me: no subuid ranges found for user "me" in /etc/subuid', "no further user ids", "usermod"),
    ('Error: exec: "newuidmap": executable file not found in $PATH', "newuidmap", "uidmap"),
    ("Error: unable to connect to Podman socket: dial unix /s: connect: no such file", "does not answer", "CONTAINER_HOST"),
    ("Error: mkdir /home/user/.local: permission denied", "mkdir /home/user/.local", "podman info"),
])
def test_what_podman_says_is_explained_in_its_own_terms(stderr: str, sentence: str, hint: str) -> None:
    with pytest.raises(MachineError) as raised:
        plan_of({"docker": "podman"}, world_of({"exit_code": 125, "stderr": stderr}))
    assert sentence in raised.value.message and hint in raised.value.hint and "daemon" not in str(raised.value)


def test_podman_names_devices_and_labels_by_its_own_words() -> None:
    words = words_of({"docker": "podman", "gpus": 2, "mount_opts": "Z"}, arguments=[DATA])
    assert after(words, "--device") == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert after(words, "--mount")[0].endswith(",relabel=private")


def test_selinux_hosts_get_a_container_without_labels() -> None:
    world = world_of(texts={"/sys/fs/selinux/enforce": "1"})
    plan = plan_of({"mount_opts": "z"}, world, [DATA])
    assert after(payload_of(plan).command.argv, "--security-opt") == ["label=disable"]
    assert [note.partition(":")[0] for note in plan.notes] == ["'mount_opts'", "SELinux"]
    assert after(words_of({"security_opt": "label=type:x"}, world, arguments=[DATA]), "--security-opt") == ["label=type:x"]
    assert "--security-opt" not in words_of({}, world)


@pytest.mark.parametrize(("stderr", "code", "fault"), [
    ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", 1, "does not answer"),
    ("permission denied while trying to connect to the Docker daemon socket", 1, "permission denied"),
    ("error during connect: ssh", 1, "does not answer"),
    ("strange", 1, "does not work here: strange"),
    ("", 1, "said nothing"),
    ("docker: not found", 127, "cannot be started"),
])
def test_an_engine_that_does_not_answer_is_an_error_of_the_machine(stderr: str, code: int, fault: str) -> None:
    world = world_of({"exit_code": code, "stderr": stderr})
    with pytest.raises(MachineError, match=fault) as caught:
        plan_of({}, world)
    assert caught.value.hint and caught.value.exit_code == 4
    assert fault in str(world.decide(lambda facts: docker.available(job_of("docker", {"image": "x"}).platform, facts)))
    assumed = plan_of({}, world, assume=True)
    assert any("assumes" in note for note in assumed.notes) and payload_of(assumed)


def test_sudo_without_a_terminal_has_its_own_sentence() -> None:
    with pytest.raises(MachineError, match="sudo asks for a password"):
        plan_of({"docker": "sudo docker"}, world_of({"exit_code": 1, "stderr": "sudo: a password is required"}))


def test_an_executable_that_is_not_there_is_an_error_of_the_machine() -> None:
    world = World()
    with pytest.raises(MachineError, match="'docker' is not on PATH"):
        plan_of({}, world)
    assert not any(isinstance(question, Probe) for question in world.asked)
    assert world.decide(lambda facts: docker.available(job_of("docker", {"image": "x"}).platform, facts)) == (
        "'docker' is not on PATH")
    plan = plan_of({}, world, assume=True)
    assert plan.steps[0].title == "pull image mnist" and any("assumes" in note for note in plan.notes)


def test_an_engine_that_answers_is_available() -> None:
    platform = Platform("docker", "docker", (Option("image", "x"),), Location("f"))
    assert world_of(ABSENT).decide(lambda facts: docker.available(platform, facts)) is None


@pytest.mark.parametrize(("info", "paths", "tools", "gpus"), [
    ('{"Runtimes": {"runc": {}}}', {}, {}, []),
    ('{"Runtimes": {"nvidia": {}}}', {}, {}, []),
    ('{"Runtimes": {"nvidia": {}}}', {"/dev/nvidiactl": "other"}, {}, ["all"]),
    ('{"DiscoveredDevices": [{"ID": "nvidia.com/gpu=0"}]}', {"/dev/dxg": "other"}, {}, ["all"]),
    ("{}", {"/dev/nvidiactl": "other"}, {"nvidia-container-runtime-hook": "/usr/bin/hook"}, ["all"]),
    ("{}", {"/dev/nvidiactl": "other"}, {}, []),
])
def test_nvidia_docker_that_is_absent_is_docker_with_the_devices_it_has(
        info: str, paths: dict[str, str], tools: dict[str, str], gpus: list[str]) -> None:
    world = world_of(probes={"docker info": {"stdout": info}}, paths=paths,
                     tools={"docker": "/usr/bin/docker", **tools})
    plan = plan_of({"docker": "nvidia-docker"}, world)
    words = payload_of(plan).command.argv
    assert words[0] == "docker" and after(words, "--gpus") == gpus
    assert any("runs on the CPU" in note for note in plan.notes) is not bool(gpus)


def test_nvidia_docker_that_is_there_is_called() -> None:
    world = world_of(tools={"nvidia-docker": "/usr/bin/nvidia-docker"})
    assert words_of({"docker": "nvidia-docker"}, world)[0] == "nvidia-docker"


def test_setup_lines_stand_before_every_command_of_the_engine() -> None:
    world = world_of(ABSENT, tools={"bash": "/bin/bash"}, paths={"/cube/Dockerfile": "file"})
    plan = plan_of({"setup": ["module load x"], "build_strategy": "build"}, world)
    step = payload_of(plan)
    assert step.stop and step.sign and plan.steps[0].unless
    for command in (step.command, step.sign.started, step.stop.ask, step.stop.kill, step.stop.remove,
                    plan.steps[0].command, plan.steps[0].unless):
        assert command.argv[:2] == ("bash", "-c") and "module load x" in command.argv[2]
        assert command.argv[3:5] == ("mlcube", "docker")


def test_a_present_image_takes_one_question_and_one_run() -> None:
    world = world_of()
    plan = plan_of({}, world, [DATA, MODEL])
    assert sum(isinstance(question, Probe) for question in world.asked) == 1
    assert [step.command.argv[0] for step in plan.steps] == ["mkdir", "docker"]


# --- ending ----------------------------------------------------------------------------------------------------------


def test_a_container_is_stopped_killed_and_removed_by_name() -> None:
    name = "mlcube-20260102T030405-77-1"
    step = payload_of(plan_of({}, grace=2.1))
    assert after(step.command.argv, "--stop-timeout") == ["3"]
    assert step.stop is not None and step.sign is not None
    assert step.stop.ask.argv == ("docker", "stop", name)
    assert step.stop.kill.argv == ("docker", "kill", name)
    assert step.stop.remove.argv == ("docker", "rm", "--force", "--volumes", name)
    assert step.sign.started.argv[:2] == ("docker", "events") and f"container={name}" in step.sign.started.argv
    podman = payload_of(plan_of({"docker": "podman"}))
    assert podman.stop is not None and "--ignore" in podman.stop.remove.argv


# --- images ----------------------------------------------------------------------------------------------------------

FILE = {"/cube/Dockerfile": "file"}


@pytest.mark.parametrize(("strategy", "file", "here", "expected"), [
    ("build", True, False, "build image mnist"),
    ("build", False, False, "pull image mnist"),
    ("build", True, True, None),
    ("auto", True, False, "build image mnist"),
    ("auto", False, False, "pull image mnist"),
    ("auto", True, True, None),
    ("pull", True, False, "pull image mnist"),
    ("pull", True, True, None),
    ("fallback", True, False, "pull image mnist"),
    ("fallback", True, True, None),
    ("always", True, True, "build image mnist"),
    ("always", False, True, "pull image mnist"),
])
def test_strategy_decides_what_is_missing(strategy: str, file: bool, here: bool, expected: str | None) -> None:
    plan = plan_of({"build_strategy": strategy}, world_of(THERE if here else ABSENT, paths=FILE if file else {}))
    steps = [step for step in plan.steps if step.task is None]
    assert [step.title for step in steps] == ([expected] if expected else [])
    for step in steps:
        assert step.lock == "docker-image-mnist"
        assert (step.unless is None) is (strategy == "always")
        assert (step.otherwise is not None) is (strategy == "fallback")


@pytest.mark.parametrize(("dialect", "expected"), [("inline", "pull"), ("directory", "build"), ("mlbox", "build")])
def test_unset_strategy_follows_the_dialect(dialect: str, expected: str) -> None:
    paths = {"/cube/Dockerfile": "file", "/cube/build/Dockerfile": "file",
             "/cube/implementation/docker/dockerfiles/Dockerfile": "file"}
    plan = plan_of({}, world_of(ABSENT, paths=paths), dialect=dialect)
    assert plan.steps[0].command.argv[1] == expected


def test_always_builds_once_for_several_tasks() -> None:
    world = world_of(paths=FILE)
    plans = [plan_of({"build_strategy": "always"}, world, task=task, run_id=f"r-{task}") for task in ("one", "two")]
    assert [step.task for step in merge(plans).steps] == [None, "one", "two"]


@pytest.mark.parametrize(("strategy", "file", "expected", "otherwise"), [
    ("build", True, "build", False), ("fallback", True, "build", False), ("auto", True, "build", False),
    ("always", True, "build", False), ("pull", True, "pull", True), ("build", False, "pull", True),
    ("fallback", False, "pull", True),
])
def test_configure_builds_or_pulls_and_is_content_with_a_local_image(
        strategy: str, file: bool, expected: str, otherwise: bool) -> None:
    job = job_of("docker", {"image": "mnist", "build_strategy": strategy})
    plan = world_of(paths=FILE if file else {}).decide(lambda facts: docker.configure(job, facts, False))
    (step,) = plan.steps
    assert step.command.argv[1] == expected and step.unless is None and step.task is None
    assert (step.otherwise is not None) is otherwise
    if step.otherwise:
        assert step.otherwise.argv[:3] == ("docker", "image", "inspect")


def test_configure_by_force_uses_no_cache_and_wants_the_pull_to_work() -> None:
    job = job_of("docker", {"image": "mnist"})
    (built,) = world_of(paths=FILE).decide(lambda facts: docker.configure(job, facts, True)).steps
    (pulled,) = world_of().decide(lambda facts: docker.configure(job, facts, True)).steps
    assert "--no-cache" in built.command.argv and pulled.otherwise is None


@pytest.mark.parametrize(("versions", "buildx", "environment", "switch"), [
    ("28.2.2 28.2.2", True, {}, None), ("28.2.2 28.2.2", False, {}, "0"), ("20.10.24 20.10.24", False, {}, "1"),
    ("20.10.24 18.06.1", False, {}, "0"), ("17.12.1 17.12.1", False, {}, "0"),
    ("20.10.24 20.10.24", False, {"DOCKER_BUILDKIT": "0"}, None),
])
def test_buildkit_builds_where_the_tool_has_it(versions: str, buildx: bool, environment: dict[str, str],
                                               switch: str | None) -> None:
    probes = {"version --format": {"stdout": f"{versions}\n"}, "buildx version": {"exit_code": 0 if buildx else 1}}
    world = world_of(ABSENT, paths=FILE, probes=probes, machine={"environment": environment})
    step = plan_of({"build_strategy": "build"}, world).steps[0]
    assert [variable.value for variable in step.command.env if variable.name == "DOCKER_BUILDKIT"] == (
        [switch] if switch else [])


@pytest.mark.parametrize(("build_args", "secret", "expected", "hidden"), [
    ("A=1 B='two words'", False, ["A=1", "B=two words"], {}),
    ({"A": "b c", "N": 1}, False, ["A=b c", "N=1"], {}),
    ("--build-arg A=b --build-arg 'C=d e'", False, ["A=b", "C=d e"], {}),
    ({"A": "b"}, True, ["A"], {"A": "b"}),
    ("--build-arg A=b", True, ["A"], {"A": "b"}),
])
def test_build_args_are_words(build_args: Any, secret: bool, expected: list[str], hidden: dict[str, str]) -> None:
    plan = plan_of({"build_args": build_args, "build_strategy": "build"}, world_of(ABSENT, paths=FILE),
                   secret=("build_args",) if secret else ())
    command = plan.steps[0].command
    assert after(command.argv, "--build-arg") == expected
    assert {variable.name: variable.value for variable in command.env if variable.secret} == hidden


def test_context_and_file_are_where_the_platform_says() -> None:
    world = world_of(ABSENT, paths={"/cube/docker/sub/Dockerfile.cpu": "file"})
    options = {"build_context": "docker", "build_file": "sub/Dockerfile.cpu", "build_strategy": "build"}
    argv = plan_of(options, world).steps[0].command.argv
    assert after(argv, "--file") == ["/cube/docker/sub/Dockerfile.cpu"] and argv[-1] == "/cube/docker"
    with pytest.raises(DefinitionError, match="there is no file /cube/docker/absent"):
        plan_of({**options, "build_file": "absent"}, world)


@pytest.mark.parametrize("strategy", [None, "fallback", "auto", "always", "pull"])
def test_a_build_file_that_did_not_come_with_the_cube_leaves_its_image_to_be_pulled(strategy: str | None) -> None:
    options = {"build_context": "../project", "build_file": "Dockerfile", **({"build_strategy": strategy} if strategy else {})}
    step = plan_of(options, world_of(ABSENT), dialect="inline").steps[0]
    assert step.command.argv[:2] == ("docker", "pull") and step.otherwise is None


def test_an_image_whose_files_changed_since_is_noted_and_others_are_not() -> None:
    labels = '{"Config": {"Entrypoint": ["x"], "Labels": {"org.mlcommons.mlcube.inputs": "%s"}}}'
    built = plan_of({"build_strategy": "build"}, world_of(ABSENT, paths=FILE)).steps[0].command.argv
    digest = after(built, "--label")[0].partition("=")[2]
    same = world_of({"stdout": labels % digest}, paths=FILE)
    assert plan_of({"build_strategy": "build"}, same).notes == ()
    changed = plan_of({"build_strategy": "build", "build_args": {"A": 1}}, same)
    assert any("changed since" in note for note in changed.notes)
    assert plan_of({"build_strategy": "build"}, world_of(THERE, paths=FILE)).notes == ()
    too_big = world_of({"stdout": labels % "x"}, paths=FILE, digests={"/cube/Dockerfile": None})
    assert plan_of({"build_strategy": "build"}, too_big).notes == ()


def test_a_name_that_no_image_can_have_is_an_error_of_the_definition() -> None:
    stderr = "no such image: Bad Name: invalid reference format: repository name must be lowercase"
    with pytest.raises(DefinitionError, match="repository name must be lowercase") as caught:
        plan_of({"image": "Bad Name"}, world_of({"exit_code": 1, "stderr": stderr}))
    assert caught.value.location == Location("platform.yaml", 1, 3)


# --- paths -----------------------------------------------------------------------------------------------------------


def test_what_an_engine_cannot_mount_is_refused_by_name() -> None:
    for engine, path, fault in (("docker", "/w/a\udcff", "not valid UTF-8"), ("podman", "/w/a\udcff", "not valid UTF-8"),
                                ("podman", "/w/a\nb", "newline"), ("docker", "/w/a\r\nb", "carriage return")):
        with pytest.raises(DefinitionError, match=fault) as caught:
            plan_of({"docker": engine}, arguments=[{"name": "data", "host_path": path}])
        assert "'data'" in caught.value.message and engine in caught.value.message
    assert plan_of({}, arguments=[{"name": "data", "host_path": "/w/a\nb"}])


@pytest.mark.parametrize(("text", "sources"), [
    ("FROM a\nRUN b\n", ()),
    ("COPY requirements.txt /r\ncopy --chown=1:1 src/a.py lib /x/\n", ("requirements.txt", "src/a.py", "lib")),
    ("COPY . /x\n", (".",)),
    ("COPY ./ /x\n", (".",)),
    ("COPY --from=base /a /b\nADD https://example.org/x /x\nCOPY <<EOF /x\nhi\nEOF\n", ()),
    ('COPY ["two words", "/x"]\nCOPY [broken\n', ("two words", ".")),
    ("COPY src/*.py a$B/c /x/\n", ("src", ".")),
    ("COPY \\\n  # why\n  /abs/x \\\n  /y\n", ("abs/x",)),
    ("RUN --mount=type=bind,source=.,target=/s make\n", (".",)),
    ("RUN --mount=type=cache,target=/cache pip install x\n", ()),
])
def test_what_a_build_file_copies_out_of_its_context(text: str, sources: tuple[str, ...]) -> None:
    assert copied_sources(text.encode()) == sources
