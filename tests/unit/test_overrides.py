"""`-P`: what it reaches, in which dialect, how values are typed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.definition.overrides import parse_override
from mlcube_cli.definition.tree import origins, plain
from mlcube_cli.errors import UsageError
from tests.cubes import options, parameter, platform, read, read_inline, task, write_tree
from tests.unit.test_seed_pages import DIRECTORY, MLBOX

CUBE = """
    name: n
    base: data
    extra: {a: {b: 1}}
    docker: {image: a:1, --network: host, env: {A: '1'}, ports: ['1:1', '2:2']}
    local: {entrypoint: [sh]}
    tasks:
      t:
        parameters:
          inputs: {data: '${base}/', config: {type: file, default: c.yaml}}
          outputs: {out: o/}
      empty:
    """


@pytest.mark.parametrize(("text", "name", "value"), [
    ("docker.image=b:2", "image", "b:2"),
    ("docker.--network=none", "network", "none"),
    ("docker.network=none", "network", "none"),
    ("docker.network=null", "network", None),
    ("docker.network=", "network", ""),
    ("docker.docker_runtime=podman", "docker", "podman"),
    ("docker.memory=8g", "memory", "8g"),
    ("docker.gpus=2", "gpus", 2),
    ("docker.gpus=[0,1]", "gpus", [0, 1]),
    ("docker.privileged=true", "privileged", True),
    ("docker.cpu_args=-e A=b --x", "cpu_args", "-e A=b --x"),
    ("docker.env.B=2", "env", {"A": "1", "B": "2"}),
    ("docker.env={B: 2}", "env", {"A": "1", "B": "2"}),
    ("docker.env.A=1.10", "env", {"A": "1.10"}),
    ("docker.ports.1=3:3", "ports", ["1:1", "3:3"]),
    ("docker={image: c, --memory: 1g}", "memory", "1g"),
    ("runner.image=d", "image", "d"),
    ("docker.image=${base}", "image", "data"),
    ("docker.image=caf\udce9", "image", "caf\udce9"),
    (" docker.image =x", "image", "x"),
])
def test_platform_options_are_reached_and_typed(tmp_path: Path, text: str, name: str, value: object) -> None:
    reading = read_inline(tmp_path, CUBE, text, platform="docker")
    assert options(reading, "docker").get(name) == value


def test_the_origin_says_so(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, CUBE, "docker.image=b", "docker.env.B=2")
    image = platform(reading, "docker").find("image")
    assert image is not None
    assert image.origin == "-P"
    where = dict(origins(reading.effective.resolved))  # type: ignore[union-attr]
    assert where["docker", "env", "A"] == "mlcube.yaml:4:48"
    assert where["docker", "env", "B"] == "-P"
    assert where["docker", "build_file"] == "default"


def test_later_ones_win_and_runner_means_the_chosen_or_every_platform(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, CUBE, "docker.image=b", "runner.image=c", "runner.workdir=/x")
    assert options(reading, "docker")["image"] == "c"
    assert options(reading, "local")["workdir"] == "/x"
    chosen = read_inline(tmp_path, CUBE, "runner.workdir=/x", platform="docker")
    assert "workdir" not in options(chosen, "local")


@pytest.mark.parametrize(("text", "name", "value"), [
    ("tasks.t.parameters.inputs.data.default=/d", "data", ("/d", "unknown", "ro")),
    ("tasks.t.parameters.inputs.data=/d/", "data", ("/d/", "directory", "ro")),
    ("tasks.t.parameters.inputs.data.opts=rw", "data", ("data/", "directory", "rw")),
    ("tasks.t.parameters.inputs.config={type: directory}", "config", ("c.yaml", "directory", "ro")),
    ("tasks.t.parameters.inputs={data: x, config: y}", "config", ("y", "file", "ro")),
    ("base=other", "data", ("other/", "directory", "ro")),
])
def test_parameters_are_reached(tmp_path: Path, text: str, name: str, value: tuple[str, str, str]) -> None:
    found = parameter(read_inline(tmp_path, CUBE, text), "t", name)
    assert (found.default, found.type, found.mode) == value


def test_the_rest_of_the_definition_is_reached(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, CUBE, "name=m", "version=1.10", "platform.accelerator_count=2",
                          "tasks.empty.entrypoint=sh -c ls", "extra.a.b=2", "extra.new=3")
    cube = reading.cube
    assert cube is not None
    assert (cube.name, cube.version, dict(cube.requirements)) == ("m", "1.10", {"accelerator_count": 2})
    assert task(reading, "empty").entrypoint == ("sh", "-c", "ls")
    assert plain(reading.effective.raw)["extra"] == {"a": {"b": 2}, "new": 3}  # type: ignore[union-attr, index, call-overload]


@pytest.mark.parametrize("text", ["singularity.image=x", "ssh.host=h", "slurm.partition=p"])
def test_a_known_place_that_this_cube_has_not_is_fine_and_unused(tmp_path: Path, text: str) -> None:
    reading = read_inline(tmp_path, CUBE, text)
    assert [one.name for one in reading.cube.platforms] == ["docker", "local"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("text", "message", "hint"), [
    ("docker.imagee=x", "'docker' has no 'imagee'", "did you mean 'image'?"),
    ("singularity.imagee=x", "has no 'imagee'", "did you mean 'image'?"),
    ("tasks.tt.entrypoint=x", "'tasks' has no 'tt'", "did you mean 't'?"),
    ("tasks.t.parameters.inputs.dta.opts=ro", "has no 'dta'", "did you mean 'data'?"),
    ("tasks.t.parameters.inputs.data.opt=ro", "has no 'opt'", "did you mean 'opts'?"),
    ("tasks.t.parameters.inputs.new=x", "has no 'new'", ""),
    ("workspace=/x", "no value of the definition", "--workspace DIR"),
    ("runtime.root=/x", "no value of the definition", "--workspace DIR"),
    ("dokcer.image=x", "there is no 'dokcer'", "did you mean 'docker'?"),
    ("extra.z.y=1", "", ""),
    ("foo.bar=1", "there is no 'foo'", ""),
    ("docker.image", "does not say which value", "-P NAME.NAME=VALUE"),
    ("=x", "does not say which value", ""),
    ("slurm" + ".a" * 3000 + "=1", "does not say which value", ""),
    ("docker..image=x", "does not say which value", ""),
    ("docker=x", "which option", "docker.OPTION=VALUE"),
    ("docker.image=[a", "-P docker.image=[a", ""),
    ("docker.image=@x", "cannot begin with '@'", "quote"),
    ("docker.build_strategy=alwyas", "must be pull, auto", "did you mean 'always'?"),
    ("docker.env=[a]", "'env' must be", ""),
    ("tasks.t.parameters.inputs.data.opts=read", "must be ro or rw", ""),
])
def test_what_is_refused(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_inline(tmp_path, CUBE, text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_dot_in_a_name_is_written_with_a_backslash() -> None:
    assert parse_override("docker.env.a\\.b=1=2").path == ("docker", "env", "a.b")
    assert parse_override("docker.env.a\\.b=1=2").value.value == "1=2"


def test_mlbox_and_directory_cubes_are_addressed_alike(tmp_path: Path) -> None:
    box = read(write_tree(tmp_path / "box", MLBOX), "docker.image=x", "docker.docker_runtime=docker",
               "tasks.train.parameters.inputs.data_dir.default=/d", "name=B")
    assert (options(box, "docker")["image"], options(box, "docker")["docker"], box.cube.name) == ("x", "docker", "B")  # type: ignore[union-attr]
    assert parameter(box, "train", "data_dir").default == "/d"
    assert task(box, "train").groups[0].binding("data_dir").value == "/d"

    cube = read(write_tree(tmp_path / "cube", DIRECTORY), "docker.--network=none", "singularity.image=s.sif",
                "tasks.train.parameters.inputs.data_dir=/d", "platform.accelerator_count=1")
    assert options(cube, "docker")["network"] == "none"
    assert options(cube, "singularity")["image"] == "s.sif"
    assert parameter(cube, "train", "data_dir").default == "/d"
    assert task(cube, "train").groups[0].binding("data_dir").value == "/d"
    assert task(cube, "train").groups[0].binding("model_dir").value == "$WORKSPACE/model"
    assert cube.cube.requirements == {"accelerator_count": 1}  # type: ignore[union-attr]


def test_a_platform_is_addressed_by_its_own_name_too(tmp_path: Path) -> None:
    files = {**DIRECTORY, "platforms/gpu.yaml": "schema_type: mlcube_docker\nimage: g\n"}
    reading = read(write_tree(tmp_path, files), "gpu.gpus=all", "docker.memory=1g")
    assert options(reading, "gpu")["gpus"] == "all"
    assert "gpus" not in options(reading, "docker")
    assert options(reading, "gpu")["memory"] == options(reading, "docker")["memory"] == "1g"
    with pytest.raises(UsageError, match="no 'gpuss'"):
        read(tmp_path, "gpu.gpuss=all")
