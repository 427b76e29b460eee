"""What a job asks Slurm for: sbatch's words in their order, and who asks where the slurm platform does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import DefinitionError, Location
from mlcube_shell.slurm_requests import Request, directives, gpus_inside, last_signal, notes, requests_of

EVERY = {
    "platform": "docker", "partition": "gpu,short", "account": "lab", "qos": "high", "time": 129600, "nodes": "2-4",
    "ntasks": 8, "ntasks_per_node": 2, "cpus_per_task": 4, "memory": 64 << 30, "gpus": "a100:2", "gres": "lustre:1",
    "constraint": "a100|h100", "exclusive": "user", "array_limit": 10, "signal_before_end": "USR1@300",
    "modules": ["cuda"], "setup": ["true"],
    "work_dir": "/scratch", "scratch": True, "configure": "job", "sbatch_args": ["--nice=5", "--requeue"],
}


def platform(runner: str = "slurm", origin: str = "f:1:1", **options: Any) -> Platform:
    return Platform(runner, runner, tuple(Option(name, value, origin) for name, value in options.items()), Location("f"))


def lines(one: Platform, requests: Mapping[str, Any] | None = None, inner: Platform | None = None) -> list[str]:
    """The words but the job's name and the environment, which are always there."""
    found = directives(one, requests or {}, "c-t", inner)
    assert (found[0], found.count(("--export", "NONE"))) == (("--job-name", "c-t"), 1)
    return [name + (f"={value}" if value is not None else "") for name, value in found[1:] if name != "--export"]


def test_every_option_in_its_order() -> None:
    assert directives(platform(**EVERY), {"accelerator_count": 1, "host_memory_gb": 1}, "c-t") == (
        ("--job-name", "c-t"), ("--partition", "gpu,short"), ("--account", "lab"), ("--qos", "high"), ("--nodes", "2-4"),
        ("--ntasks", "8"), ("--ntasks-per-node", "2"), ("--constraint", "a100|h100"), ("--time", "1-12:00:00"),
        ("--cpus-per-task", "4"), ("--mem", "64G"), ("--gres", "gpu:a100:2,lustre:1"), ("--exclusive", "user"),
        ("--signal", "B:XCPU@300"), ("--export", "NONE"), ("--nice", "5"), ("--requeue", None))
    assert notes(platform(**EVERY), {"accelerator_count": 1, "host_memory_gb": 1}) == ()


def test_what_is_not_set_is_not_written() -> None:
    assert directives(platform(), {}, "c-t") == (("--job-name", "c-t"), ("--export", "NONE"))
    assert notes(platform(), {}) == ()


@pytest.mark.parametrize(("options", "expected"), [
    ({"exclusive": True}, ["--exclusive"]), ({"exclusive": False}, []), ({"gpus": 0}, []), ({"gpus": 1}, ["--gres=gpu:1"]),
    ({"gpus": 0, "gres": "lustre:1"}, ["--gres=lustre:1"]), ({"memory": 0}, ["--mem=0"]),
    ({"memory": 500 << 20}, ["--mem=500M"]),
    ({"time": 0}, ["--time=UNLIMITED"]), ({"time": 3600}, ["--time=01:00:00", "--signal=B:XCPU@60"]),
    ({"time": 3600, "signal_before_end": "none"}, ["--time=01:00:00"]), ({"signal_before_end": "TERM@60"}, []),
    ({"sbatch_args": ["--time=10"]}, ["--signal=B:XCPU@60", "--time=10"]),
])
def test_single_options(options: Mapping[str, Any], expected: list[str]) -> None:
    assert lines(platform(**options)) == expected


@pytest.mark.parametrize(("name", "shown"), [
    ("mnist-train", "mnist-train"), ("a b\nc\"d", "a-b-c-d"), ("", "mlcube"), ("\u00e9\udcff", "mlcube"),
    ("x" * 100, "x" * 60)])
def test_the_name_of_a_job_fits_into_a_line(name: str, shown: str) -> None:
    assert directives(platform(), {}, name)[0] == ("--job-name", shown)


@pytest.mark.parametrize(("words", "left"), [
    (["--gpus=2"], ["--cpus-per-task=4", "--mem=1G"]), (["--gres=lustre:1"], ["--cpus-per-task=4", "--mem=1G"]),
    (["--gpus-per-node=2"], ["--cpus-per-task=4", "--mem=1G"]), (["--mem-per-cpu=1G"], ["--cpus-per-task=4", "--gres=gpu:1"]),
    (["--cpus-per-gpu=1"], ["--mem=1G", "--gres=gpu:1"]), (["--nodes=2"], ["--cpus-per-task=4", "--mem=1G", "--gres=gpu:1"])])
def test_sbatch_args_replace_what_we_say_of_the_same(words: list[str], left: list[str]) -> None:
    own = platform(cpus_per_task=4, memory=1 << 30, gpus=1, **({"nodes": 3} if "--nodes=2" in words else {}), sbatch_args=words)
    assert lines(own) == [*left, *words]


# --- who asks ------------------------------------------------------------------------------------------------------------


def test_what_the_cube_asks_for_counts_where_the_platform_is_silent() -> None:
    asked = {"accelerator_count": "2", "host_memory_gb": 12.5}
    assert lines(platform(), asked) == ["--mem=12800M", "--gres=gpu:2"]
    assert notes(platform(), asked) == (
        "Slurm is asked for 2 GPUs on each node, as the cube asks ('platform.accelerator_count')",
        "Slurm is asked for 12800M of memory on each node, as the cube asks ('platform.host_memory_gb')")
    assert lines(platform(gpus=0, memory=0), asked) == ["--mem=0"]
    assert notes(platform(gpus=0, memory=0), asked) == ()
    assert notes(platform(sbatch_args=["--gpus=1", "--mem-per-cpu=1G"]), asked) == ()


@pytest.mark.parametrize("value", [0, "", None, "0", "many", [1]])
def test_what_is_no_number_of_accelerators_asks_for_none(value: object) -> None:
    assert lines(platform(), {"accelerator_count": value}) == []


def test_what_slurm_is_not_asked_for_is_said() -> None:
    asked = {"host_disk_space_gb": 50, "need_internet_access": True, "host_memory_gb": "much"}
    assert lines(platform(), asked) == []
    disk, memory, internet = notes(platform(), asked)
    assert "50 GB of disk" in disk and "much" in memory and "internet" in internet
    assert notes(platform(), {"host_disk_space_gb": 0, "need_internet_access": False}) == ()
    assert notes(platform(signal_before_end="TERM@60"), {}) == ("'signal_before_end' (f:1:1) has no effect without 'time'",)
    assert notes(platform(signal_before_end="none"), {}) == ()


@pytest.mark.parametrize(("runner", "options", "expected"), [
    ("docker", {"gpus": 2}, ["--gres=gpu:2"]), ("docker", {"gpus": "device=0,1"}, ["--gres=gpu:2"]),
    ("singularity", {"gpus": ["0", "3", "4"]}, ["--gres=gpu:3"]), ("local", {"gpus": "none"}, []),
    ("docker", {"gpus": "all"}, ["--gres=gpu:1"]),  # of what the cube asks for
    ("docker", {"memory": "16g", "gpus": "none"}, ["--mem=16G"]),
    ("docker", {"memory": "1073741824b", "gpus": 0}, ["--mem=1G"]),
    ("docker", {"memory": 1073741824, "gpus": 0}, ["--mem=1G"]), ("singularity", {"vm_ram": 2048, "gpus": 0}, ["--mem=2G"]),
    ("docker", {"cpuset_cpus": "0-3,8", "gpus": 0}, ["--cpus-per-task=5"]),
    ("singularity", {"vm_cpu": 2, "gpus": 0}, ["--cpus-per-task=2"]), ("docker", {"memory": "much", "gpus": 0}, []),
    ("docker", {"cpuset_cpus": "x", "gpus": 0}, []),
])
def test_what_the_platform_inside_asks_for_comes_before_the_cube(runner: str, options: Mapping[str, Any],
                                                               expected: list[str]) -> None:
    inner = platform(runner, **options)
    assert lines(platform(), {"accelerator_count": 1}, inner) == expected
    said = notes(platform(), {"accelerator_count": 1}, inner)
    assert len(said) == len(expected) and all("asks" in one for one in said)


def test_the_slurm_platform_comes_before_the_one_inside_and_a_flag_before_both() -> None:
    inner = platform("docker", gpus=2, memory="2g", cpuset_cpus="0-1")
    outer = platform(gpus=1, memory=1 << 30, cpus_per_task=1)
    assert lines(outer, {}, inner) == ["--cpus-per-task=1", "--mem=1G", "--gres=gpu:1"]
    typed = Platform("docker", "docker", (Option("gpus", "2", "--gpus"), Option("memory", "2g", "--memory"),
                                          Option("cpuset_cpus", "0-1", "--cpu")), Location("f"))
    assert lines(outer, {}, typed) == ["--cpus-per-task=2", "--mem=2G", "--gres=gpu:2"]
    assert notes(outer, {}, typed) == (
        "Slurm is asked for 2 GPUs on each node, as --gpus asks",
        "Slurm is asked for 2G of memory on each node, as --memory asks",
        "Slurm is asked for 2 processors a rank, as --cpu asks")
    named = requests_of(outer, {}, typed)
    assert (named.gpus, named.memory) == (Request(2, "as --gpus asks"), Request(2 << 30, "as --memory asks"))


def test_a_value_inside_that_means_nothing_is_refused_with_its_place() -> None:
    with pytest.raises(DefinitionError) as caught:
        directives(platform(), {}, "c-t", platform("docker", gpus="some"))
    assert str(caught.value.location) == "f:1:1"


@pytest.mark.parametrize(("outer", "asked", "inner", "expected"), [
    ({}, {}, {}, None), ({}, {"accelerator_count": 2}, {}, "all"), ({"gpus": "a100:1"}, {}, {}, "all"),
    ({"gpus": 0}, {}, {}, "none"),
    ({"gpus": 0}, {"accelerator_count": 2}, {}, "none"), ({}, {}, {"gpus": "none"}, "none"), ({}, {}, {"gpus": 2}, "all"),
    ({}, {}, {"gpus": "all"}, "all"), ({"sbatch_args": ["--gpus=2"]}, {}, {}, "all"),
    ({"sbatch_args": ["--gres=lustre:1,gpu:2"]}, {}, {}, "all"), ({"sbatch_args": ["--gres=lustre:1"]}, {}, {}, None),
    ({"sbatch_args": ["--gpus=0"]}, {}, {}, None)])
def test_the_platform_inside_gets_the_devices_that_slurm_gives(outer: Mapping[str, Any], asked: Mapping[str, Any],
                                                             inner: Mapping[str, Any], expected: str | None) -> None:
    assert gpus_inside(platform(**outer), asked, platform("docker", **inner)) == expected


@pytest.mark.parametrize(("options", "expected"), [
    ({}, None), ({"time": 3600}, ("TERM", 60)), ({"time": 60}, ("TERM", 15)), ({"time": 1}, ("TERM", 1)),
    ({"time": 600, "signal_before_end": "USR2@30"}, ("USR2", 30)),
    ({"time": 0}, None),
    ({"time": 600, "signal_before_end": "none"}, None), ({"sbatch_args": ["--time=9"]}, ("TERM", 60)),
    ({"time": 3600, "sbatch_args": ["--time=1"]}, ("TERM", 15)), ({"time": 3600, "sbatch_args": ["--time=UNLIMITED"]}, None)])
def test_the_signal_that_a_task_gets_before_its_time_is_up(options: Mapping[str, Any], expected: object) -> None:
    assert last_signal(platform(**options)) == expected


def test_a_notice_that_comes_at_once_is_told() -> None:
    (note,) = notes(platform(signal_before_end="USR1@120", sbatch_args=["--time=2"]), {})
    assert "120 seconds before the end of a job that may take 120" in note
