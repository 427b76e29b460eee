"""What runs inside of what: ssh -> slurm -> an engine, read as one chain, and chosen level by level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.cli.inside import Layer, read_inside
from mlcube_cli.cli.used import Used, judge_problems
from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.errors import DefinitionError, MachineError, UsageError
from mlcube_cli.facts import Answer, Question
from tests.cubes import options, platform, problems, write_tree
from tests.unit.test_directory import SMALL
from tests.world import World

CUBE = """
    name: c
    docker: {image: a:1, env: {A: cube}}
    singularity: {image: a.sif, setup: own, env: {A: cube}}
    slurm: {partition: p, setup: node, modules: [m], env: {A: slurm, B: slurm}}
    ssh: {host: h, setup: login, env: {A: ssh, B: ssh, C: ssh}, platform: slurm}
    tasks: {t: {entrypoint: x}}
"""


def request_for(root: Path, files: Mapping[str, str], name: str, *overrides: str, user: str = "") -> ReadRequest:
    write_tree(root, {**files, "user.yaml": user or "platforms: {}\n"})
    return ReadRequest(str(root), overrides, name, cwd=str(root), settings=True,
                       environment={"MLCUBE_SYSTEM_SETTINGS": str(root / "user.yaml")})


def read_chain(root: Path, name: str, *overrides: str, cube: str = CUBE, user: str = "") -> Reading:
    return read_cube(request_for(root, {"mlcube.yaml": cube}, name, *overrides, user=user))


def layer_of(request: ReadRequest) -> Layer:
    reading = read_cube(request)
    return Layer(request, reading, platform(reading, reading.platform or ""))


def enter(layer: Layer, world: World | None = None, where: str = "there") -> Layer:
    machine = world or World()

    def look(questions: tuple[Question, ...]) -> Mapping[Question, Answer]:
        return {question: machine.answer(question) for question in questions}

    return read_inside(layer, machine.facts(), look, where)


# --- reading -------------------------------------------------------------------------------------------------------------


def test_a_chain_is_read_at_once_and_addressed_at_every_level(tmp_path: Path) -> None:
    reading = read_chain(tmp_path, "ssh", "slurm.platform=singularity", "slurm.partition=x", "singularity.image=b.sif",
                         "runner.user=me", "slurm.time=2h")
    assert (problems(reading), reading.platform, reading.inside) == ([], "ssh", ("slurm", "singularity"))
    assert (options(reading, "ssh")["user"], options(reading, "slurm")["partition"]) == ("me", "x")
    assert (options(reading, "singularity")["image"], options(reading, "slurm")["time"]) == ("b.sif", 7200)


def test_what_is_said_of_a_machine_reaches_what_runs_innermost(tmp_path: Path) -> None:
    """A batch system's lines are of its nodes alone: its own runner adds them. Its variables lie over the machine's."""
    reading = read_chain(tmp_path, "ssh", "slurm.platform=singularity")
    found = options(reading, "singularity")
    assert (found["setup"], found.get("modules")) == (["login", "own"], None)
    assert found["env"] == {"A": "cube", "B": "slurm", "C": "ssh"}
    assert options(reading, "slurm")["setup"] == "node"
    assert options(reading, "docker")["env"] == {"A": "cube"}
    alone = read_chain(tmp_path, "slurm", "slurm.platform=docker")
    assert (alone.inside, options(alone, "docker")["env"]) == (("docker",), {"A": "cube", "B": "slurm"})
    assert "setup" not in options(alone, "docker")


def test_a_chain_of_the_settings(tmp_path: Path) -> None:
    user = ("platforms:\n  login: {runner: ssh, host: l, platform: cluster}\n"
            "  cluster: {runner: slurm, account: mine, platform: gpu}\n  gpu: {runner: singularity, nv: true}\n")
    reading = read_chain(tmp_path, "login", "cluster.qos=high", "gpu.nv=false", user=user)
    assert (problems(reading), reading.platform, reading.inside) == ([], "login", ("cluster", "gpu"))
    assert options(reading, "cluster") == {"account": "mine", "platform": "gpu", "qos": "high"}  # nothing of the cube's own
    assert (options(reading, "gpu")["nv"], options(reading, "gpu")["image"]) == (False, "a.sif")


def test_a_cluster_of_the_cube_that_the_settings_know_by_name(tmp_path: Path) -> None:
    reading = read_chain(tmp_path, "slurm", user="platforms: {slurm: {runner: slurm, account: mine, partition: theirs}}\n")
    assert options(reading, "slurm") == {"account": "mine", "partition": "p", "setup": "node", "modules": ["m"],
                                         "env": {"A": "slurm", "B": "slurm"}}


def test_files_of_a_chain_stand_beside_each_other(tmp_path: Path) -> None:
    files = {**SMALL, "platforms/login.yaml": "schema_type: mlcube_ssh\nhost: h\nplatform: cluster.yaml\n",
             "platforms/cluster.yaml": "schema_type: mlcube_slurm\nplatform: docker.yaml\ntime: 90\n",
             "platforms/docker.yaml": "schema_type: mlcube_docker\nimage: i\n"}
    reading = read_cube(request_for(tmp_path, files, "login", "slurm.partition=x"))
    assert (problems(reading), reading.inside) == ([], ("cluster", "docker"))
    assert options(reading, "cluster") == {"platform": "docker.yaml", "time": 5400, "partition": "x"}


@pytest.mark.parametrize("override", ["ssh.platform=ssh", "slurm.platform=ssh", "slurm.platform=slurm",
                                      "slurm.platform=absent"])
def test_a_chain_that_leads_nowhere_ends_where_it_does(tmp_path: Path, override: str) -> None:
    reading = read_chain(tmp_path, "ssh", override)
    assert reading.inside == (("slurm",) if override.startswith("slurm") else ())


# --- choosing ------------------------------------------------------------------------------------------------------------


def test_each_level_is_entered_by_itself(tmp_path: Path) -> None:
    outer = layer_of(request_for(tmp_path, {"mlcube.yaml": CUBE}, "ssh", "slurm.platform=singularity", "slurm.qos=q"))
    batch = enter(outer)
    assert (batch.platform.name, batch.platform.option("qos"), batch.request.inside) == ("slurm", "q", ("slurm",))
    engine = enter(batch)
    assert (engine.platform.name, engine.request.inside) == ("singularity", ("slurm", "singularity"))
    assert engine.platform.option("env") == {"A": "cube", "B": "slurm", "C": "ssh"}


def test_the_first_that_the_machine_can_run_where_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outer = layer_of(request_for(tmp_path, {"mlcube.yaml": CUBE}, "slurm"))
    node = World(tools={"singularity": "/usr/bin/singularity"}, probes={
        "singularity (--version|version)": {"stdout": "singularity-ce version 3.11.4\n"}})
    found = enter(outer, node, "in the jobs of 'slurm'")
    assert (found.platform.name, found.request.inside) == ("singularity", ("singularity",))
    assert found.platform.option("env") == {"A": "cube", "B": "slurm"}
    assert "running in the jobs of 'slurm': platform 'singularity' (docker: " in capsys.readouterr().err


def test_what_a_stranger_names_is_not_asked_whether_it_is_there(tmp_path: Path) -> None:
    """RULINGS 25."""
    cube = CUBE.replace("image: a:1,", "image: a:1, docker: ./theirs,")
    outer = replace(layer_of(request_for(tmp_path, {"mlcube.yaml": cube}, "slurm")), untrusted=True)
    world = World()
    with pytest.raises(MachineError) as caught:
        enter(outer, world)
    assert "another executable: ./theirs" in caught.value.message
    assert not any("theirs" in repr(question) for question in world.asked)


def test_none_that_the_machine_can_run(tmp_path: Path) -> None:
    outer = layer_of(request_for(tmp_path, {"mlcube.yaml": CUBE}, "slurm"))
    with pytest.raises(MachineError) as caught:
        enter(outer, where="in the jobs of 'slurm'")
    assert "-Pslurm.platform=NAME" in caught.value.hint


def test_nothing_to_run_inside(tmp_path: Path) -> None:
    cube = "name: c\nslurm: {}\ntasks: {t: {entrypoint: x}}\n"
    with pytest.raises(UsageError) as caught:
        enter(layer_of(request_for(tmp_path, {"mlcube.yaml": cube}, "slurm")), where="in the jobs of 'slurm'")
    assert caught.value.message == "what should run in the jobs of 'slurm'? The cube has no platform but 'slurm'"
    assert "-Pslurm.platform=docker" in caught.value.hint


@pytest.mark.parametrize(("name", "overrides", "says", "hint"), [
    ("slurm", ("slurm.platform=ssh", "ssh.platform=docker"),
     "platform 'ssh' (runner ssh) cannot run inside of 'slurm' (runner slurm)",
     "it is the other way round: -Pssh.platform=slurm --platform=ssh"),
    ("slurm", ("slurm.platform=other",), "platform 'other' (runner slurm) cannot run inside of 'slurm' (runner slurm)",
     "name one of docker, singularity, local"),
    ("ssh", ("ssh.platform=far",), "platform 'far' (runner ssh) cannot run inside of 'ssh' (runner ssh)", "'jump'"),
    ("slurm", ("slurm.platform=slurm",), "platform 'slurm' cannot run inside of itself", "name one of docker, singularity"),
    ("ssh", ("ssh.platform=ssh",), "platform 'ssh' cannot run inside of itself", "name one of docker, singularity, local"),
    ("slurm", ("slurm.platform=singulraity",), "what should run inside of 'slurm': ", "did you mean 'singularity'?"),
])
def test_what_cannot_run_inside_of_what(tmp_path: Path, name: str, overrides: tuple[str, ...], says: str, hint: str) -> None:
    user = "platforms: {other: {runner: slurm}, far: {runner: ssh, host: f}}\n"
    outer = layer_of(request_for(tmp_path, {"mlcube.yaml": CUBE}, name, *overrides, user=user))
    with pytest.raises(UsageError) as caught:
        enter(outer)
    assert says in caught.value.message and hint in caught.value.hint


def test_a_platform_that_cannot_be_used(tmp_path: Path) -> None:
    files = {**SMALL, "platforms/cluster.yaml": "schema_type: mlcube_slurm\nplatform: broken.yaml\n",
             "platforms/broken.yaml": "schema_type: mlcube_docker\nimage: [\n"}
    with pytest.raises(DefinitionError) as caught:
        enter(layer_of(request_for(tmp_path, files, "cluster")), where="in the jobs of 'cluster'")
    assert caught.value.message == "the platform that runs in the jobs of 'cluster' cannot be used"
    assert any(problem.location.file == "platforms/broken.yaml" for problem in caught.value.problems)


# --- faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "matters"), [
    ("slurm", True), ("docker", True), ("singularity", False), ("ssh", False)])
def test_faults_of_what_a_run_passes_through_count(tmp_path: Path, section: str, matters: bool,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    cube = CUBE.replace(f"{section}: {{", f"{section}: {{modules: {{no: list}}, ").replace("modules: [m], ", "")
    outer = layer_of(request_for(tmp_path, {"mlcube.yaml": cube}, "slurm", "slurm.platform=docker"))
    inner = enter(outer)
    assert inner.reading.cube is not None
    used = Used(inner.reading.cube, inner.platform, ((inner.reading.cube.tasks[0], None),), ("mlcube.yaml",), str(tmp_path),
                (outer.platform,))
    if matters:
        with pytest.raises(DefinitionError) as caught:
            judge_problems(inner.reading, used)
        assert [problem.path for problem in caught.value.problems] == [f"{section}.modules"]
    else:
        judge_problems(inner.reading, used)
        assert f"({section}.modules)" in capsys.readouterr().err
