"""The singularity runner's words, one test an option; the world is invented (tests/world.py)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Plan, Step, find_reason
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import DefinitionError, Location, MachineError, PreparationError
from mlcube_cli.script import script
from mlcube_shell import singularity
from mlcube_shell.singularity_trouble import BUILD_REASONS, RUN_REASONS
from mlcube_shell.tools import has_virtual_machines, parse_singularity, singularity_can
from tests.world import RUN_ID, World, job_of

IMAGE = "/cube/workspace/.image/tiny.sif"
PLACE = f"/tmp/mlcube-{RUN_ID}"
DATA = {"name": "data", "host_path": "/cube/workspace/data"}
MODEL = {"name": "model", "direction": "output", "host_path": "/cube/workspace/model"}
FUSE = {"/dev/fuse": "other"}


def world_of(version: str = "apptainer version 1.4.5", **fields: Any) -> World:
    given = {"tools": {"apptainer": "/usr/bin/apptainer"}, **fields}
    given["machine"] = {"host": "here", **given.get("machine", {})}
    probes = {**given.pop("probes", {}), "--version": {"stdout": version + "\n"}}
    paths = {**FUSE, IMAGE: "file", **given.pop("paths", {})}
    return World(**{"probes": probes, "paths": paths, **given})


def plan_of(options: dict[str, Any], world: World | None = None, arguments: Sequence[dict[str, str]] = (),
            **fields: Any) -> Plan:
    job = job_of("singularity", {"image": "tiny.sif", **options}, list(arguments), **fields)
    return (world or world_of()).decide(lambda facts: singularity.plan(job, facts))


def configured(options: dict[str, Any], world: World, force: bool = False, **fields: Any) -> Plan:
    job = job_of("singularity", options, **fields)
    return world.decide(lambda facts: singularity.configure(job, facts, force))


def payload_of(plan: Plan) -> Step:
    return next(step for step in plan.steps if step.payload)


def words_of(options: dict[str, Any], world: World | None = None, **fields: Any) -> tuple[str, ...]:
    """The engine's own words."""
    return payload_of(plan_of(options, world, **fields)).command.argv


def variables_of(options: dict[str, Any], world: World | None = None, **fields: Any) -> dict[str, str | None]:
    step = payload_of(plan_of(options, world, **fields))
    return {variable.name: variable.value for variable in step.command.env}


def after(words: Sequence[str], flag: str) -> list[str]:
    """The values that a flag was given."""
    return [following for word, following in zip(words, words[1:]) if word == flag]


# --- the engine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "name", "version"), [
    ("apptainer version 1.3.2", "apptainer", (1, 3, 2)),
    ("apptainer version 1.4.5-2.el9", "apptainer", (1, 4, 5)),
    ("singularity-ce version 3.11.4", "singularity-ce", (3, 11, 4)),
    ("singularity-ce version 4.1.0-jammy", "singularity-ce", (4, 1, 0)),
    ("SingularityPRO version 3.9-5.el8", "SingularityPRO", (3, 9)),
    ("singularity version 3.8.7-1.el8", "singularity", (3, 8, 7)),
    ("2.6.0-dist", "singularity", (2, 6, 0)),
    ("a wrapper of ours", "", ()),
])
def test_versions_of_all_descendants_are_read(text: str, name: str, version: tuple[int, ...]) -> None:
    assert parse_singularity(f"{text}\n") == (name, version)


@pytest.mark.parametrize(("name", "version", "what", "can"), [
    ("apptainer", (1, 0, 3), "mount", True), ("apptainer", (1, 0, 3), "no_eval", False), ("apptainer", (1, 1), "limits", True),
    ("singularity-ce", (3, 8), "mount", False), ("singularity-ce", (3, 9), "mount", True),
    ("singularity-ce", (3, 10), "no_eval", True), ("SingularityPRO", (3, 9), "no_eval", False),
    ("singularity", (3, 8, 7), "mount", False), ("apptainer", (), "no_eval", True),
])
def test_what_each_version_can(name: str, version: tuple[int, ...], what: str, can: bool) -> None:
    assert singularity_can(name, version, what) is can


def test_only_older_singularities_have_virtual_machines() -> None:
    assert has_virtual_machines("singularity-ce", (3, 11)) and not has_virtual_machines("singularity-ce", (4, 0))
    assert not has_virtual_machines("apptainer", (1, 0))


def test_apptainer_comes_before_singularity_and_the_platforms_own_word_before_both() -> None:
    both = {"apptainer": "/usr/bin/apptainer", "singularity": "/usr/bin/singularity", "sudo": "/usr/bin/sudo"}
    assert words_of({}, world_of(tools=both))[0] == "apptainer"
    alone = world_of("singularity-ce version 3.11.4", tools={"singularity": "/usr/bin/singularity"})
    assert words_of({}, alone)[0] == "singularity"
    assert words_of({"singularity": "singularity"}, world_of("singularity version 3.8.7", tools=both))[0] == "singularity"


def test_sudo_is_told_which_variables_to_keep_and_the_task_is_still_the_callers() -> None:
    both = {"singularity": "/usr/bin/singularity", "sudo": "/usr/bin/sudo"}
    world = world_of("singularity-ce version 4.0", tools=both)
    step = payload_of(plan_of({"singularity": "sudo singularity", "env": {"A": "b"}}, world))
    argv = step.command.argv
    kept = "--preserve-env=SINGULARITYENV_PYTHONUNBUFFERED,SINGULARITYENV_A,SINGULARITY_TMPDIR"
    assert argv[:3] == ("sudo", kept, "singularity")
    assert after(argv, "--security") == ["uid:1000,gid:1000"]
    assert [command.argv[:2] for command in step.after] == [("sudo", "chmod"), ("sudo", "rm")]


@pytest.mark.parametrize(("options", "tools", "fault"), [
    ({}, {}, "neither apptainer nor singularity is on PATH"),
    ({"singularity": "apptainer"}, {"singularity": "/s"}, "'apptainer' is not on PATH"),
    ({"singularity": "sudo apptainer"}, {"apptainer": "/a"}, "'sudo apptainer' is not on PATH"),
])
def test_an_absent_engine_is_an_error_and_a_dry_run_assumes_one(options: dict[str, str], tools: dict[str, str],
                                                                fault: str) -> None:
    with pytest.raises(MachineError, match=fault):
        plan_of(options, World(tools=tools, paths={IMAGE: "file"}))
    notes = plan_of(options, World(tools=tools, paths={IMAGE: "file"}), assume=True).notes
    assert any("the plan assumes" in note for note in notes)


def test_an_engine_that_is_too_old_says_so() -> None:
    with pytest.raises(MachineError, match=r"too old: 2\.6\.0-dist"):
        plan_of({}, world_of("2.6.0-dist"))


def test_an_engine_that_does_not_know_its_caller_says_so_without_colours() -> None:
    said = "\x1b[31mFATAL:  \x1b[0m Couldn't determine user account information: user: unknown userid 54321\n"
    world = World(tools={"apptainer": "/a"}, probes={"--version": {"exit_code": 255, "stderr": said}}, paths={IMAGE: "file"})
    with pytest.raises(MachineError, match="no entry in /etc/passwd"):
        plan_of({}, world)
    world.probes = {"--version": {"exit_code": 255, "stderr": "\x1b[31mFATAL:\x1b[0m it is broken"}}
    with pytest.raises(MachineError, match="does not work here: FATAL: it is broken"):
        plan_of({}, world)


def test_with_setup_the_engine_is_asked_behind_it() -> None:
    world = World(tools={"bash": "/bin/bash"}, paths={IMAGE: "file", **FUSE},
                  probes={"(?s)module load apptainer.* apptainer --version": {"stdout": "apptainer version 1.3.0\n"}})
    plan = plan_of({"modules": ["apptainer"]}, world)
    step = payload_of(plan)
    assert step.command.argv[:2] == ("bash", "-c") and "module load apptainer" in step.command.argv[2]
    assert step.sign is not None and step.sign.codes is None, "a line that fails has any exit code"


def test_available_gives_a_reason() -> None:
    platform = Platform("p", "singularity", (Option("image", "a.sif", "f:1:1"),), Location("f"))
    assert world_of().decide(lambda facts: singularity.available(platform, facts)) is None
    reason = World().decide(lambda facts: singularity.available(platform, facts))
    assert reason is not None and "on PATH" in reason


# --- the task's words ------------------------------------------------------------------------------------------------


def test_a_task_is_contained_in_a_place_of_its_own_that_is_removed() -> None:
    plan = plan_of({})
    step, words = payload_of(plan), words_of({})
    assert words[:3] == ("apptainer", "--quiet", "run")
    assert after(words, "--workdir") == [PLACE] and after(words, "--home") == [f"{PLACE}/home:/home/user"]
    assert {"--cleanenv", "--contain", "--pid", "--no-eval"} <= set(words)
    assert words[-2:] == (IMAGE, "train")
    assert [command.argv for command in step.before] == [
        ("mkdir", "-p", "--", "/tmp"), ("mkdir", "-m", "700", "--", PLACE, f"{PLACE}/home", f"{PLACE}/empty"),
        ("install", "-m", "666", "--", "/dev/stdin", f"{PLACE}/started.sh")]
    assert step.after[-1].argv == ("rm", "-rf", "--", PLACE)
    assert variables_of({})["APPTAINER_TMPDIR"] == PLACE, "what the engine unpacks goes with it"


def test_root_may_run_a_task_as_another_who_has_no_home() -> None:
    root = world_of(machine={"uid": 0, "gid": 0})
    words = words_of({"user": "1234:5678"}, root)
    assert after(words, "--security") == ["uid:1234,gid:5678"] and after(words, "--pwd") == ["/tmp"]
    assert "--no-home" in words and "--home" not in words and after(words, "--workdir") == [PLACE]
    assert "--home" in words_of({"user": "0:0"}, root)


def test_an_entrypoint_is_executed_and_the_task_is_not_named() -> None:
    words = words_of({}, entrypoint=["python", "a b.py"], arguments=[DATA])
    assert words[2] == "exec" and words[-4:] == (IMAGE, "python", "a b.py", "--data=/mlcube_io0")


def test_an_mlbox_gets_its_own_words() -> None:
    recipe = "/cube/implementation/singularity/recipes"
    world = world_of(paths={f"{recipe}/mlbox.simg": "file"})
    job = job_of("singularity", {}, [DATA], dialect="mlbox")
    plan = world.decide(lambda facts: singularity.plan(job, facts))
    assert payload_of(plan).command.argv[-3:] == (f"{recipe}/mlbox.simg", "--data=/mlcube_io0", "--mlbox_task=train")


@pytest.mark.parametrize(("options", "present", "absent"), [
    ({"cleanenv": False}, [], ["--cleanenv"]),
    ({"contain": False}, ["--pid"], ["--contain", "--workdir", "--home"]),
    ({"fakeroot": True}, ["--fakeroot"], []),
    ({"writable_tmpfs": True}, ["--writable-tmpfs"], []),
    ({"nv": True}, ["--nv"], []),
    ({"rocm": True}, ["--rocm"], []),
    ({"nv": ""}, [], ["--nv"]),
    ({"network": "none"}, ["--net"], []),
    ({"network": "host"}, [], ["--net", "--network"]),
    ({"gpus": "none"}, ["--no-nv", "--no-rocm"], ["--nv"]),
])
def test_switches(options: dict[str, Any], present: list[str], absent: list[str]) -> None:
    words = words_of(options)
    assert set(present) <= set(words) and not set(absent) & set(words)


@pytest.mark.parametrize(("options", "flag", "values"), [
    ({"network": "none"}, "--network", ["none"]),
    ({"network": "bridge"}, "--network", ["bridge"]),
    ({"workdir": "/work"}, "--pwd", ["/work"]),
    ({}, "--pwd", ["/home/user"]),
    ({"env": {"HOME": "/h"}}, "--home", [f"{PLACE}/home:/h"]),
    ({"security": ["seccomp:/x", "uid:0"]}, "--security", ["seccomp:/x", "uid:0"]),
    ({"memory": "4g"}, "--memory", ["4g"]),
    ({"vm_ram": 2048}, "--memory", ["2048m"]),
    ({"vm_ram": "4g"}, "--memory", ["4g"]),
    ({"vm_cpu": 2}, "--cpus", ["2"]),
    ({"cpuset_cpus": "0-1"}, "--cpuset-cpus", ["0-1"]),
    ({"tmpdir": "/scratch"}, "--workdir", [f"/scratch/mlcube-{RUN_ID}"]),
    ({"binds": ["/a:/b:ro", "x:/y", "~/z:/z"]}, "--bind", ["/a:/b:ro", "/cube/workspace/x:/y", "/home/user/z:/z"]),
    ({"user": "caller"}, "--security", []),
    ({"user": "1000:1000"}, "--security", []),
])
def test_option_becomes_words(options: dict[str, Any], flag: str, values: list[str]) -> None:
    assert after(words_of(options), flag) == values


def test_older_engines_get_their_own_words() -> None:
    old = world_of("singularity version 3.8.7-1.el8", tools={"singularity": "/usr/bin/singularity"})
    words = words_of({"vm_ram": 2048}, old, arguments=[DATA, MODEL])
    assert after(words, "--vm-ram") == ["2048"] and "--no-eval" not in words
    assert after(words, "--bind")[:2] == ["/cube/workspace/data:/mlcube_io0:ro", "/cube/workspace/model:/mlcube_io1"]
    assert variables_of({"env": {"A": 'a"$`\\'}}, old)["SINGULARITYENV_A"] == 'a\\"\\$\\`\\\\'
    with pytest.raises(DefinitionError, match="cannot limit it"):
        words_of({"memory": "1g"}, old)
    with pytest.raises(DefinitionError, match="holds a colon"):
        words_of({}, old, arguments=[{"name": "data", "host_path": "/a:b"}])


def test_an_older_engine_says_that_a_shell_may_evaluate_arguments() -> None:
    old = world_of("singularity version 3.8.7-1.el8", tools={"singularity": "/usr/bin/singularity"})
    odd = {"name": "data", "type": "file", "host_path": "/cube/workspace/$x"}
    noted = [any("lets a shell evaluate" in note for note in plan_of({}, world, [argument], **fields).notes)
             for world, argument, fields in ((old, odd, {}), (old, DATA, {}), (world_of(), odd, {}),
                                             (old, odd, {"entrypoint": ["run"]}))]
    assert noted == [True, False, False, False]


def test_any_path_is_mounted() -> None:
    words = words_of({}, arguments=[{"name": "data", "host_path": '/a,"b":\n'}])
    assert after(words, "--mount")[0] == 'type=bind,"source=/a,""b"":\n",destination=/mlcube_io0,ro'
    with pytest.raises(DefinitionError, match="not valid UTF-8"):
        words_of({}, arguments=[{"name": "data", "host_path": "/a\udcff"}])


def test_records_of_ours_are_hidden_by_an_empty_directory() -> None:
    whole = {"name": "all", "direction": "output", "host_path": "/cube/workspace"}
    hidden = f"type=bind,source={PLACE}/empty,destination=/mlcube_io0/.mlcube,ro"
    assert hidden in after(words_of({}, arguments=[whole]), "--mount")


@pytest.mark.parametrize(("options", "fault"), [
    ({"user": "0"}, "runs a task as its caller"), ({"user": "5:6"}, "runs a task as its caller, 1000:1000"),
    ({"mount_opts": "ro"}, "inputs and outputs alike"), ({"mount_opts": "idmap"}, "no option 'idmap'"),
    ({"binds": [":/x"]}, "names no path"), ({"gpus": "none", "nv": True}, "ask for GPUs"),
    ({"run_args": "--help"}, "prints help"), ({"run_args": "--sharens"}, "name spaces of its own"),
    ({"run_args": "stray"}, "not an option"), ({"run_args": "-Z"}, "singularity run has no option '-Z'"),
    ({"env": {"a-b": 1}}, "letters, digits and '_' for a variable's name"),
    ({"contain": "perhaps"}, "expected true or false"), ({"build_strategy": "never"}, "no strategy"),
])
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault):
        words_of(options)


@pytest.mark.parametrize(("options", "note"), [
    ({"contain": False}, "sees your home directory"), ({"shm_size": "1g"}, "limits nothing here"),
    ({"user": "image"}, "the task runs as you"), ({"mount_opts": "z"}, "relabels nothing"),
    ({"gpus": 1}, "this machine shows none"), ({"env": {"UNSET": None}}, "UNSET on, but it is not set"),
])
def test_what_is_not_quite_honoured_is_said(options: dict[str, Any], note: str) -> None:
    assert any(note in said for said in plan_of(options).notes)


def test_the_users_words_stand_last() -> None:
    words = words_of({"run_args": "-eC --pwd ~/x", "cpu_args": "--uts", "gpu_args": "--nvccli"})
    assert words[-7:-2] == ("--uts", "-e", "-C", "--pwd", "/home/user/x")
    with_gpus = words_of({"cpu_args": "--uts", "gpu_args": "--nvccli"}, requirements={"accelerator_count": 1})
    assert "--nvccli" in with_gpus and "--uts" not in with_gpus


# --- variables -------------------------------------------------------------------------------------------------------


def test_variables_stand_in_the_engines_environment_and_the_callers_own_do_not_get_in() -> None:
    caller = {"APPTAINERENV_X": "1", "SINGULARITYENV_Y": "2", "http_proxy": "http://p", "https_proxy": "http://me:key@p",
              "SLURM_JOB_ID": "7", "SLURM_JWT": "key", "PMI_RANK": "0", "CUDA_VISIBLE_DEVICES": "3", "OTHER": "o", "TOKEN": "t"}
    step = payload_of(plan_of({"env": {"A": "b,c\nd", "TOKEN": None}}, world_of(machine={"environment": caller})))
    found = {variable.name: variable for variable in step.command.env}
    assert {name: one.value for name, one in found.items()} == {
        "APPTAINERENV_X": None, "SINGULARITYENV_Y": None, "APPTAINERENV_http_proxy": "http://p",
        "APPTAINERENV_https_proxy": "http://me:key@p", "APPTAINERENV_SLURM_JOB_ID": "7", "APPTAINERENV_PMI_RANK": "0",
        "APPTAINERENV_CUDA_VISIBLE_DEVICES": "3", "APPTAINERENV_PYTHONUNBUFFERED": "1", "APPTAINERENV_A": "b,c\nd",
        "APPTAINERENV_TOKEN": "t", "APPTAINER_TMPDIR": PLACE}
    assert [name for name, one in found.items() if one.secret] == ["APPTAINERENV_https_proxy", "APPTAINERENV_TOKEN"]


def test_a_secret_stands_in_no_argv() -> None:
    plan = plan_of({"env": {"TOKEN": "hunter2"}, "run_args": "--env OTHER=hunter3"}, secret=("env", "run_args"))
    assert "hunter" not in script(plan)
    values = {variable.name: variable.value for variable in payload_of(plan).command.env}
    assert (values["APPTAINERENV_TOKEN"], values["APPTAINERENV_OTHER"]) == ("hunter2", "hunter3")


@pytest.mark.parametrize(("options", "caller", "devices"), [
    ({"gpus": "all"}, {}, None), ({"gpus": 2}, {}, "0,1"), ({"gpus": [1, "GPU-9f1c"]}, {}, "1,GPU-9f1c"),
    ({"gpus": "all"}, {"CUDA_VISIBLE_DEVICES": "3,5"}, "3,5"), ({"gpus": 1}, {"CUDA_VISIBLE_DEVICES": "3,5"}, "3"),
    ({"gpus": "none"}, {"CUDA_VISIBLE_DEVICES": "3,5"}, ""),
])
def test_gpus_become_the_devices_that_the_task_may_use(options: dict[str, Any], caller: dict[str, str],
                                                       devices: str | None) -> None:
    world = world_of(machine={"environment": caller}, paths={"/dev/nvidiactl": "other"})
    assert variables_of(options, world).get("APPTAINERENV_CUDA_VISIBLE_DEVICES") == devices
    assert ("--nv" in words_of(options, world)) is (options["gpus"] != "none")


def test_gpus_are_amds_where_only_those_are_there() -> None:
    world = world_of(paths={"/dev/kfd": "other"})
    assert "--rocm" in words_of({"gpus": 1}, world)
    assert variables_of({"gpus": 1}, world)["APPTAINERENV_ROCR_VISIBLE_DEVICES"] == "0"


# --- the image -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fields", "options", "image"), [
    ({}, {"image": "a.sif"}, "/cube/workspace/.image/a.sif"),
    ({}, {"image": "a.sif", "image_dir": "images"}, "/cube/workspace/images/a.sif"),
    ({}, {"image": "a.sif", "image_dir": "~/images"}, "/home/user/images/a.sif"),
    ({}, {"image": "/opt/a.sif"}, "/opt/a.sif"),
    ({"dialect": "directory"}, {"image": "a.sif"}, "/cube/workspace/a.sif"),
    ({"dialect": "directory"}, {"image": "$HOME/a.sif"}, "/home/user/a.sif"),
    ({"dialect": "mlbox"}, {}, "/cube/implementation/singularity/recipes/mlbox.simg"),
    ({}, {"docker_image": "org/img:1"}, "/cube/workspace/.image/orgimg1.sif"),
    ({"dialect": "directory"}, {"docker_image": "org/img:1"}, "/cube/workspace/.image/orgimg1.sif"),
    ({}, {"build_file": "docker://debian:12"}, "/cube/workspace/.image/dockerdebian12.sif"),
    ({}, {"image": "docker://debian:12"}, "/cube/workspace/.image/dockerdebian12.sif"),
])
def test_where_the_image_is(fields: dict[str, Any], options: dict[str, Any], image: str) -> None:
    world = world_of(paths={image: "file"}, machine={"environment": {"HOME": "/home/user"}})
    job = job_of("singularity", options, **fields)
    assert image in payload_of(world.decide(lambda facts: singularity.plan(job, facts))).command.argv


def test_a_sandbox_directory_is_an_image() -> None:
    plan = plan_of({"image": "box"}, world_of(paths={"/cube/workspace/.image/box": "directory"}))
    assert [step.title for step in plan.steps] == ["run task train"]


WORK = "/cube/workspace/.image/.a.sif.1000@here.20260102T030405-77.partial"
LABELLED = f"{WORK}/recipe"


def source_of(step: Step) -> str:
    assert step.command.argv[-2] == f"{WORK}/image"
    return step.command.argv[-1]


RECIPE = {"/cube/Singularity.recipe": "file", "/cube": "directory", "/cube/workspace/.image": "directory"}
DOCKER = {"apptainer": "/a", "docker": "/d"}
INSPECT = {"docker image inspect": {"stdout": "sha256:1"}}


@pytest.mark.parametrize(("options", "fields", "source"), [
    ({}, {"paths": RECIPE}, LABELLED),
    ({"docker_image": "img"}, {"paths": RECIPE}, LABELLED),
    ({"docker_image": "img", "build_strategy": "pull"}, {"paths": RECIPE}, "docker://img"),
    ({"docker_image": "img"}, {}, "docker://img"),
    ({"docker_image": "img", "tar_file": "i.tar"}, {"paths": {"/cube/i.tar": "file"}}, "docker-archive:/cube/i.tar"),
    ({"docker_image": "img", "tar_file": "i.tar"}, {}, "docker://img"),
    ({"docker_image": "img"}, {"tools": DOCKER, "probes": INSPECT}, "docker-daemon:img:latest"),
    ({"docker_image": "h:5/img:1"}, {"tools": DOCKER, "probes": INSPECT}, "docker-daemon:h:5/img:1"),
    ({"docker_image": "img"}, {"tools": DOCKER}, "docker://img"),
    ({"build_file": "docker-archive:i.tar"}, {"paths": RECIPE}, "docker-archive:i.tar"),
])
def test_what_the_image_is_made_from(options: dict[str, Any], fields: dict[str, Any], source: str) -> None:
    (step,) = configured({"image": "a.sif", **options}, world_of(**fields)).steps
    assert source_of(step) == source


def build_words(options: dict[str, Any], secret: tuple[str, ...] = (), **fields: Any) -> tuple[str, ...]:
    (step,) = configured({"image": "a.sif", **options}, world_of(**fields), secret=secret).steps
    argv = step.command.argv
    return argv[argv.index("build") + 1:-2]


def test_the_users_build_args_replace_fakeroot_which_is_for_recipes() -> None:
    assert build_words({}, paths=RECIPE) == ("--fakeroot",)
    assert build_words({"build_args": "--sandbox"}, paths=RECIPE) == ("--sandbox",)
    assert build_words({"build_args": ""}, paths=RECIPE) == ()
    assert build_words({"docker_image": "img"}) == ()
    assert build_words({}, paths=RECIPE, machine={"uid": 0}) == ()


def test_a_build_starts_where_a_recipe_expects_it() -> None:
    (inline,) = configured({"image": "a.sif"}, world_of(paths=RECIPE)).steps
    assert inline.command.cwd == "/cube"
    paths = {"/cube/build/Singularity.recipe": "file"}
    (directory,) = configured({"image": "a.sif"}, world_of(paths=paths), dialect="directory").steps
    assert directory.command.cwd == "/cube/build"
    paths = {"/cube/implementation/singularity/recipes/Singularity.recipe": "file"}
    (box,) = configured({}, world_of(paths=paths), dialect="mlbox").steps
    assert box.command.cwd == "/cube" and "/cube/implementation/singularity/recipes/Singularity.recipe" in box.before[-1].argv


def test_an_image_is_built_once_and_anew_only_by_force() -> None:
    (step,) = plan_of({"image": "a.sif"}, world_of(paths=RECIPE)).steps[:1]
    assert step.unless is not None and step.unless.argv == ("test", "-e", "/cube/workspace/.image/a.sif")
    assert step.lock == "singularity-image-/cube/workspace/.image/a.sif"
    there = world_of(paths={**RECIPE, "/cube/workspace/.image/a.sif": "file"})
    assert configured({"image": "a.sif"}, there).steps == ()
    (forced,) = configured({"image": "a.sif"}, there, force=True).steps
    assert forced.unless is None


def test_an_image_that_is_nowhere_says_what_to_do() -> None:
    with pytest.raises(PreparationError, match=r"a\.sif is not here, and there is nothing to build it from") as caught:
        plan_of({"image": "a.sif"}, world_of())
    assert caught.value.location == Location("platform.yaml", 1, 3)


def test_a_place_that_cannot_be_written_names_the_line() -> None:
    paths = {**RECIPE, "/opt/s/a.sif": {"kind": "absent", "creatable": False, "ancestor": "/opt"}}
    with pytest.raises(PreparationError, match="/opt does not let you write") as caught:
        configured({"image": "/opt/s/a.sif"}, world_of(paths=paths))
    assert caught.value.location == Location("platform.yaml", 1, 3)
    assert configured({"image": "/opt/s/a.sif"}, world_of(paths=paths), assume=True).steps


def test_a_link_that_leads_nowhere_is_called_so() -> None:
    link = {"kind": "absent", "creatable": False, "real": "/gone/a.sif"}
    with pytest.raises(PreparationError, match=r"it is a link to /gone/a\.sif, which is not there"):
        configured({"image": "a.sif"}, world_of(paths={**RECIPE, "/cube/workspace/.image/a.sif": link}))


def variables(options: dict[str, Any], caller: dict[str, str]) -> dict[str, str | None]:
    (step,) = configured({"image": "a.sif", **options}, world_of(paths=RECIPE, machine={"environment": caller})).steps
    return {variable.name: variable.value for variable in step.command.env}


def test_no_cache_fills_a_home_unless_somebody_says_where_it_is() -> None:
    name = "mlcube-build-20260102T030405-77"
    own = {"APPTAINER_TMPDIR": f"/tmp/{name}"}
    assert variables({}, {}) == {"APPTAINER_DISABLE_CACHE": "true", **own}
    assert variables({}, {"APPTAINER_CACHEDIR": "/big"}) == variables({}, {"SINGULARITY_CACHEDIR": "/big"}) == own
    assert variables({"cachedir": "/c", "tmpdir": "t"}, {"APPTAINER_CACHEDIR": "/big"}) == {
        "APPTAINER_CACHEDIR": "/c", "APPTAINER_TMPDIR": f"/cube/workspace/t/{name}"}


def test_an_engine_before_unsquash_is_not_asked_for_it() -> None:
    assert "--unsquash" not in words_of({}, world_of("apptainer version 1.0.3", paths={"/dev/fuse": "absent"}))


@pytest.mark.parametrize(("device", "suid", "unpacked"), [
    ("other", "0", False), ("absent", "0", True), ({"kind": "other", "writable": False}, "0", True), ("absent", "1", False),
])
def test_without_fuse_the_image_is_unpacked(device: Any, suid: str, unpacked: bool) -> None:
    world = world_of(paths={"/dev/fuse": device}, probes={"buildcfg": {"stdout": f"{suid}\n"}})
    plan = plan_of({}, world)
    assert ("--unsquash" in payload_of(plan).command.argv) is unpacked
    assert any("apptainer build --sandbox DIRECTORY" in note for note in plan.notes) is unpacked


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reasons", "said", "sentence"), [
    (RUN_REASONS, "ERROR  : Failed to create user namespace: maximum number of user namespaces exceeded, check "
                  "/proc/sys/user/max_user_namespaces", "no user namespaces"),
    (RUN_REASONS, "ERROR  : Failed to create container process: No space left on device", "no user namespaces"),
    (RUN_REASONS, "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited "
                  "with error: squashfuse_ll exited: fuse: mount failed: Invalid argument", "FUSE does not work here"),
    (RUN_REASONS, "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited "
                  "with error: squashfuse_ll exited: fusermount3: mount failed: Operation not permitted", "FUSE"),
    (RUN_REASONS, "FATAL:   While checking container encryption: could not open image /e: image format not recognized",
     "none that this engine knows"),
    (RUN_REASONS, "FATAL:   container creation failed: network requires root or a suid installation with /etc/subuid "
                  "--fakeroot; non-root users can only use --network=none unless permitted by the administrator", "'none'"),
    (RUN_REASONS, "FATAL:   container creation failed: while applying cgroups config: cannot use cgroups - cannot use systemd "
                  "cgroups manager, systemd not running as init on this host", "no limits on memory"),
    (RUN_REASONS, "FATAL:   failed to set working directory: chdir /work: no such file or directory", "'workdir' is not in"),
    (RUN_REASONS, 'Error for command "exec": unknown flag: --shm-size', "does not know one of"),
    (BUILD_REASONS, "/.singularity.d/libs/fakeroot: eval: line 140: /.singularity.d/libs/faked: not found", "/etc/subuid"),
    (BUILD_REASONS, "FATAL:   could not use fakeroot: no mapping entry found in /etc/subuid for me", "/etc/subuid"),
    (BUILD_REASONS, "FATAL:   You must be the root user, however you can use --remote or --fakeroot to build from a "
                    "Singularity recipe file", "only with --fakeroot"),
    (BUILD_REASONS, "FATAL:   While performing build: while creating SIF: while creating container: write /t5.sif: no space "
                    "left on device", "the disk is full"),
    (BUILD_REASONS, "FATAL:   While performing build: conveyor failed to get: Get \"https://localhost:1/v2/\": dial tcp "
                    "127.0.0.1:1: connect: connection refused", "does not answer"),
    (BUILD_REASONS, "FATAL:   While performing build: conveyor failed to get: error saving the docker archive file: Error "
                    "response from daemon: reference does not exist", "docker does not have this image"),
    (BUILD_REASONS, "FATAL: conveyor failed to get: reading manifest 9 in docker.io/library/debian: manifest unknown",
     "no such image"),
])
def test_what_engines_say_is_explained(reasons: Any, said: str, sentence: str) -> None:
    step = Step("x", payload_of(plan_of({})).command, reasons=reasons)
    reason = find_reason(step, ["INFO:    Starting build...", said])
    assert reason is not None and sentence in reason.sentence and reason.hint


# --- a build's commands, with an engine that only writes -------------------------------------------------------------


IMAGE_NAME = "it's *[1].sif"


def build_with(tmp_path: Path, engine: str, force: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the build step, and what comes after it, with this script for an engine: `$new` is what it is to make."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\nfor new; do last=$before before=$new; done; new=$last\n{engine}\n")
    program.chmod(0o755)
    image = str(tmp_path / "images" / IMAGE_NAME)
    recipe = tmp_path / "cube" / "Singularity.recipe"
    recipe.parent.mkdir(exist_ok=True)
    recipe.write_text("Bootstrap: docker\n")
    paths = {str(recipe): "file", str(recipe.parent): "directory", image: "directory" if os.path.isdir(image) else "absent"}
    options = {"image": image, "build_args": "", "tmpdir": str(tmp_path)}
    plan = configured(options, world_of(paths=paths, machine={"uid": os.getuid()}), force, root=str(tmp_path / "cube"))
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["sh"], input=script(plan), capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_an_image_is_made_under_another_name_and_renamed(tmp_path: Path) -> None:
    done = build_with(tmp_path, 'echo made >"$new"; test ! -e "${new%/*/*}/it\'s *[1].sif" && tail -n 1 "$before" >>"$new"')
    assert done.returncode == 0, done.stderr
    ((name, text),) = [(path.name, path.read_text()) for path in (tmp_path / "images").iterdir()]
    assert name == "it's *[1].sif" and text.startswith("made\n  org.mlcommons.mlcube.recipe sha256:")


def test_a_sandbox_takes_the_place_of_a_sandbox(tmp_path: Path) -> None:
    for content in ("one", "two"):
        done = build_with(tmp_path, f'mkdir "$new" && echo {content} >"$new/file" && chmod 500 "$new"', force=True)
        assert done.returncode == 0, done.stderr
    (image,) = (tmp_path / "images").iterdir()
    assert (image.name, (image / "file").read_text()) == ("it's *[1].sif", "two\n")


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    assert build_with(tmp_path, 'echo half >"$new"; exit 9').returncode == 9
    assert list((tmp_path / "images").iterdir()) == []


def test_what_a_killed_build_left_is_removed_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / f".it's *[1].sif.{os.getuid()}@here.20250101T000000-abcdef.partial").mkdir(parents=True)
    uid = os.getuid()
    kept = {f".it's *[1].sif.{uid}@there.20250101T000000-abcdef.partial", f".it's 51.sif.{uid}@here.x.partial", "other.sif"}
    for name in kept:
        (images / name).mkdir()
    temporary, fresh = tmp_path / "mlcube-build-1", tmp_path / "mlcube-build-2"
    temporary.mkdir()
    fresh.mkdir()
    os.utime(temporary, (0, 0))
    assert build_with(tmp_path, 'echo made >"$new"').returncode == 0
    assert fresh.exists() and not temporary.exists()
    assert {path.name for path in images.iterdir()} == {"it's *[1].sif", *kept}


# --- temporary files -------------------------------------------------------------------------------------------------


def test_temporary_files_go_where_the_engine_can_use_them() -> None:
    plan = plan_of({}, world_of(machine={"environment": {"TMPDIR": "/scratch/a:b"}}))
    assert after(payload_of(plan).command.argv, "--workdir") == [PLACE]
    assert any("TMPDIR=/scratch/a:b: the engine cannot use" in note for note in plan.notes)
    with pytest.raises(DefinitionError, match="holds a colon, a comma"):
        plan_of({"tmpdir": "/scratch/a,b"})


def test_where_no_temporary_files_can_be_written_nothing_is_begun() -> None:
    paths = {"/scratch": {"kind": "absent", "creatable": False}}
    with pytest.raises(MachineError, match="temporary files cannot be written to /scratch"):
        plan_of({"tmpdir": "/scratch"}, world_of(paths=paths))
    assert plan_of({"tmpdir": "/scratch"}, world_of(paths=paths), assume=True).steps


def test_a_secret_is_no_build_argument() -> None:
    with pytest.raises(DefinitionError, match="everybody here can read"):
        build_words({"build_args": "--build-arg TOKEN=hunter2"}, paths=RECIPE, secret=("build_args",))


def test_with_fakeroot_what_belongs_to_further_user_ids_is_removed_too() -> None:
    after_run, after_build = payload_of(plan_of({"fakeroot": True})).after, configured(
        {"image": "a.sif"}, world_of(paths=RECIPE)).steps[0].after
    assert [commands[0].argv[:3] for commands in (after_run, after_build)] == [
        ("unshare", "--map-root-user", "--map-auto")] * 2
