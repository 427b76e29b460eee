"""What is looked at before jobs are queued: what Slurm says of the demands, which nodes there are, who sees the files."""

from __future__ import annotations

from typing import Any

import pytest

from mlcube_cli.batch import Batch, Part
from mlcube_cli.command import Command, Plan, Step, TaskPlan
from mlcube_cli.errors import DefinitionError, MachineError, MLCubeError
from mlcube_shell.slurm_batch import batch_file
from mlcube_shell.slurm_checks import check, largest_array, limits
from mlcube_shell.slurm_sharing import mount_of, read_mounts
from tests.world import World, job_of

CONFIG = "KillWait                = 30 sec\nMaxArraySize            = 1001\n"
NODES = """\
debug*|node1|idle|4|16000|(null)|infinite|node1
debug*|node2|mixed|4|16000|gpu:a100:2(S:0-1)|infinite|node2
short|node1|idle|4|16000|(null)|1:00:00|node1
"""
NOT_AVAILABLE = "allocation failure: Requested node configuration is not available\n"
SHARED = "30 1 0:5 / / rw - ext4 /dev/sda1 rw\n31 30 0:6 / /shared rw - nfs4 server:/x rw\n"
STEP = Step("run task train", Command(("true",)), task="train", payload=True)
PLAN = Plan("cluster", (STEP,), (TaskPlan("train", "r-1", ()),))


def notes_of(said: str = "", sinfo: str = NODES, root: str = "/shared/cube", text: str = "", mounts: str = SHARED,
             tools: Any = None, assume: bool = False, requirements: Any = None, **options: object) -> tuple[str, ...]:
    platform = job_of("slurm", options).platform
    job = job_of("local", {}, root=root, workspace=f"{root}/workspace", assume=assume,
                 requirements=requirements or {})
    directory = f"{root}/workspace/.mlcube/runs/1"
    file = batch_file(platform, job, PLAN, directory, "mlc_go\n") + text
    world = World(tools={"sbatch": "/usr/bin/sbatch"} if tools is None else tools, machine={"host": "login"},
                  probes={"scontrol show config": {"stdout": CONFIG}, "sinfo": {"stdout": sinfo},
                          "sbatch --test-only": {"exit_code": 1 if said else 0, "stderr": said}},
                  texts={"/proc/self/mountinfo": mounts})
    batch = Batch("/shared/runs", (Part(directory, (), file),))
    return world.decide(lambda facts: check(platform, batch, (job,), facts))


def refusal(*arguments: str, **options: Any) -> MLCubeError:
    with pytest.raises(MLCubeError) as caught:
        notes_of(*arguments, **options)
    return caught.value


def test_nothing_to_say_of_a_job_that_would_start() -> None:
    assert notes_of() == ()


def test_a_dry_run_assumes_a_slurm_where_there_is_none() -> None:
    assert "no sbatch on PATH" in refusal(tools={"sbatch": None}).message
    (note,) = notes_of(tools={"sbatch": None}, assume=True)
    assert note.endswith("assumed: a Slurm that takes these jobs") and "no sbatch on PATH" in note


def test_what_slurm_is_asked_holds_nothing_of_this_run() -> None:
    world = World(tools={"sbatch": "/usr/bin/sbatch"}, probes={"sbatch": {}, "scontrol": {}, "sinfo": {}})
    platform = job_of("slurm", {"partition": "gpu"}).platform
    text = batch_file(platform, job_of("local", {}), PLAN, "/shared/runs/unique", "mlc_go\n")
    batch = Batch("/shared/runs", (Part("/shared/runs/unique", (), text),))
    world.decide(lambda facts: check(platform, batch, (), facts))
    asked = [question.command for question in world.asked if getattr(question, "command", None)]  # type: ignore[union-attr]
    trial = next(command for command in asked if command.argv == ("sbatch", "--test-only"))
    assert trial.stdin == b"#!/bin/sh\n#SBATCH --job-name=mnist-train\n#SBATCH --partition=gpu\n#SBATCH --export=NONE\nexit 0\n"
    assert ("SBATCH_EXPORT", None) in [(variable.name, variable.value) for variable in trial.env]


def test_a_machine_without_sbatch_is_no_login_node() -> None:
    error = refusal(tools={})
    assert isinstance(error, MachineError) and "no sbatch on PATH" in error.message and "ssh" in error.hint


@pytest.mark.parametrize(("said", "options", "message", "hint"), [
    ("sbatch: error: invalid partition specified: gpu\nallocation failure: Invalid partition name specified\n",
     {"partition": "gpu"}, "'partition': Slurm would not take the job: invalid partition specified: gpu", "debug, short"),
    ("allocation failure: Invalid account or account/partition combination specified\n", {"account": "x"}, "'account'",
     "sacctmgr"),
    ("allocation failure: Invalid qos specification\n", {"qos": "x"}, "'qos'", "sacctmgr"),
    ("allocation failure: Invalid feature specification\n", {"constraint": "x"}, "'constraint'", "sinfo"),
    ("sbatch: error: Invalid generic resource (gres) specification\n", {"gres": "foo:1"}, "'gres'", "gpu:a100:2"),
    ("sbatch: unrecognized option '--foo'\n", {"sbatch_args": ["--foo"]}, "'sbatch_args'", "--dry-run"),
    (NOT_AVAILABLE, {"memory": 1 << 40}, "'memory'", "partition 'debug' has 1 x 4 processors, 16000 MB; 1 x 4"),
    (NOT_AVAILABLE, {"gpus": 9}, "'gpus'", "gpu:a100:2"),
])
def test_what_the_cluster_has_not_is_refused_where_it_is_asked_for(said: str, options: dict[str, Any], message: str,
                                                                   hint: str) -> None:
    error = refusal(said, **options)
    assert isinstance(error, DefinitionError) and message in error.message and hint in error.hint
    assert str(error.location) == "platform.yaml:1:3"


@pytest.mark.parametrize(("options", "guilty"), [
    ({"gpus": 1, "nodes": 9}, "'nodes'"), ({"gpus": 0, "memory": 1 << 40}, "'memory'"),
    ({"memory": 1 << 20, "cpus_per_task": 9}, "'cpus_per_task'"),
])
def test_the_option_that_asks_for_too_much_is_named(options: dict[str, Any], guilty: str) -> None:
    assert refusal(NOT_AVAILABLE, **options).message.startswith(guilty)


@pytest.mark.parametrize(("said", "word", "requirements", "guilty"), [
    ("allocation failure: Invalid node name specified\n", "--nodelist=n9", {}, True), (NOT_AVAILABLE, "--mem=900G", {}, True),
    (NOT_AVAILABLE, "--nice=3", {"host_memory_gb": 900}, False),
])
def test_words_for_sbatch_are_named_where_they_are_what_is_refused(said: str, word: str, requirements: dict[str, int],
                                                                  guilty: bool) -> None:
    assert refusal(said, sbatch_args=[word], requirements=requirements).message.startswith("'sbatch_args'") is guilty


def test_what_the_cube_asks_for_is_told_as_its_wish() -> None:
    error = refusal(NOT_AVAILABLE, requirements={"host_memory_gb": 900})
    assert isinstance(error, MachineError) and "platform.host_memory_gb" in error.hint


def test_a_request_that_no_option_made_is_the_machines_matter() -> None:
    error = refusal("allocation failure: User's group not permitted to use this partition\n")
    assert isinstance(error, MachineError) and "not permitted" in error.message


@pytest.mark.parametrize("said", [
    "sbatch: error: Unable to contact slurm controller (connect failure)\n",
    "allocation failure: Unable to contact slurm controller (connect failure)\n",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
    "allocation failure: Zero Bytes were transmitted or received: communication failure\n",
])
def test_a_controller_that_does_not_answer_is_no_fault_of_the_definition(said: str) -> None:
    error = refusal(said, partition="debug")
    assert isinstance(error, MachineError) and "does not answer" in error.message


def test_drained_nodes_may_come_back() -> None:
    nodes = NODES.replace("node2|mixed", "node2|drained")
    (note,) = notes_of(NOT_AVAILABLE, nodes, gpus=2)
    assert "node2" in note and "drained" in note and "waits" in note


@pytest.mark.parametrize("options", [{"memory": 1 << 40}, {"gpus": 3}, {"cpus_per_task": 5}, {"nodes": 3}, {"gpus": "a100:3"}])
def test_what_no_node_has_is_refused_also_while_some_are_away(options: dict[str, Any]) -> None:
    assert "would not take" in refusal(NOT_AVAILABLE, NODES.replace("node2|mixed", "node2|down*"), **options).message


def test_nodes_of_other_partitions_do_not_excuse() -> None:
    nodes = NODES.replace("node2|mixed", "node2|drained")
    assert "would not take" in refusal(NOT_AVAILABLE, nodes, partition="short", gpus=1).message


@pytest.mark.parametrize("time", [7200, 0])
def test_more_time_than_a_partition_gives_would_wait_for_ever(time: int) -> None:
    error = refusal(partition="short", time=time)
    assert "01:00:00" in error.message and "debug" in error.hint
    assert str(error.location) == "platform.yaml:2:3"


def test_as_much_as_it_gives_is_fine() -> None:
    assert notes_of(partition="short", time=3600) == ()
    assert notes_of(partition="debug", time=0) == ()


def test_a_batch_file_that_sbatch_would_not_take_is_refused() -> None:
    assert "carriage return" in refusal(text="echo a\r\n").message
    assert "bytes" in refusal(text="#" * (5 << 20)).message


def test_files_that_only_this_machine_has_are_named_by_their_file_system() -> None:
    (note,) = notes_of(root="/home/me/cube")
    assert note.startswith("/home/me/cube lies on a file system of this machine alone (ext4 at /)")


@pytest.mark.parametrize("hosts", [("login", "login"), ("localhost", "localhost")])
def test_a_cluster_of_one_machine_sees_everything(hosts: tuple[str, str]) -> None:
    nodes = NODES.replace("|node1\n", f"|{hosts[0]}\n").replace("|node2\n", f"|{hosts[1]}\n")
    assert notes_of(sinfo=nodes, root="/home/me/cube") == ()


def test_mounts_as_the_kernel_writes_them() -> None:
    mounts = read_mounts("1 0 8:1 / / rw shared:1 - xfs /dev/sda rw\n2 1 0:7 / /my\\040data rw - lustre x rw\nnonsense\n")
    assert mounts == (("/", "xfs"), ("/my data", "lustre"))
    assert mount_of("/my data/x", mounts) == ("/my data", "lustre")
    assert mount_of("/my database", mounts) == ("/", "xfs")
    assert mount_of("/x", ()) is None


def test_the_limits_of_the_cluster() -> None:
    world = World(probes={"scontrol": {"stdout": CONFIG}})
    assert world.decide(limits).kill_wait == 30
    assert world.decide(lambda facts: largest_array(job_of("slurm", {}).platform, facts)) == 1000
    assert World().decide(limits).kill_wait is None
