"""The cubes of the two seed pages, typed in as printed and run with the commands printed there.

The pages print no program and no requirements, so `build/` and `implementation/src` are those of the examples. Nothing
can be downloaded from inside a container here: where a download runs, words are added that let it fetch a small data set
from this machine. All other commands are the pages', letter by letter.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.examples import (
    EXAMPLES,
    QUICK_SQUASH,
    Served,
    containers_of,
    docker,
    image_id,
    owners,
    rebase,
    records,
    trained,
    without_image,
)
from tests.integration.test_docker_words import Fake
from tests.unit.test_seed_pages import DIRECTORY, MLBOX

US = {(os.getuid(), os.getgid())}
BOX_CONFIGURE = "https_proxy=${http_proxy} python -m mlbox configure ./examples/mnist/docker"
DOCKERFILE = textwrap.dedent("""\
    # Define the base OS and image tags
    FROM ubuntu:18.04
    MAINTAINER MLPerf MLBox Working Group

    # Install required packages
    RUN apt-get update && \\
        apt-get install -y --no-install-recommends \\
                software-properties-common \\
                python3-dev \\
                curl && \\
        rm -rf /var/lib/apt/lists/*

    # Install pip
    RUN curl -fSsL -O https://bootstrap.pypa.io/get-pip.py && \\
        python3 get-pip.py && \\
        rm get-pip.py

    # Copy MNIST training implementation script and install its python dependencies.
    # Use relative paths that are relative to the MLBox root directory!
    COPY implementation/src/requirements.txt /requirements.txt
    RUN pip3 install --no-cache-dir -r /requirements.txt

    # Make sure entry point is defined!
    COPY implementation/src/mnist.py /workspace/mnist.py
    ENTRYPOINT ["python3", "/workspace/mnist.py"]
    """)
TypeIn = Callable[[str], Outcome]


def shell(cwd: Path, environment: Mapping[str, str]) -> TypeIn:
    """Somebody who types lines into a shell, in this directory."""
    def type_in(line: str) -> Outcome:
        done = subprocess.run(["bash", "-c", line], cwd=cwd, env=dict(environment), capture_output=True, text=True,
                              check=False, timeout=900)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return type_in


def succeeded(done: Outcome) -> Outcome:
    assert done.exit_code == 0, done.stderr
    return done


# --- the directory cube ------------------------------------------------------------------------------------------------


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """The page's cube, in a directory that was empty."""
    root = tmp_path / "mnist"
    shutil.copytree(EXAMPLES / "mnist/build", root / "build")
    return write_tree(root, {name: text for name, text in DIRECTORY.items() if not name.startswith("build/")})


@pytest.fixture
def cube_shell(cube: Path, home: Path, tmp_path: Path, built_pyz: Path, run_mlcube: RunMLCube) -> TypeIn:
    """A shell in the cube, with mlcube.pyz and the links that it made on PATH, and no other mlcube."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = shutil.copy(built_pyz, programs / "mlcube")
    Path(program).chmod(0o755)
    succeeded(run_mlcube("links", str(programs), command=[program]))
    environment = clean_environment(home)
    others = [place for place in environment["PATH"].split(os.pathsep) if not os.path.exists(f"{place}/mlcube")]
    return shell(cube, {**environment, "PATH": os.pathsep.join((str(programs), *others))})


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("default_base")
def test_the_directory_cube_runs_with_the_printed_commands(cube: Path, cube_shell: TypeIn, digits: Served) -> None:
    workspace = cube / "workspace"
    download = "mlcube_docker run --mlcube=. --platform=platforms/docker.yaml --task=run/download.yaml"
    with without_image("mlcommons/mlcube:mnist") as image:
        succeeded(cube_shell("mlcube_docker configure --mlcube=. --platform=platforms/docker.yaml"))
        assert image_id(image)
        plan = succeeded(cube_shell(f"{download} --dry-run")).stdout
        assert f"source={workspace}/data," in plan and "docker run" in plan and "docker build" not in plan
        succeeded(cube_shell(" ".join((download, *digits.docker_words))))
        done = succeeded(cube_shell(
            "mlcube_docker run --mlcube=. --platform=platforms/docker.yaml --task=run/train.yaml"))
        assert "test accuracy" in done.stdout and done.stderr == ""
    assert trained(workspace / "model", workspace / "train_logs").digits == {"train": 64, "test": 16}
    assert sorted(path.name for path in workspace.iterdir() if path.name != ".mlcube") == [
        "data", "download_logs", "model", "parameters", "train_logs"]
    assert (owners(workspace), containers_of("mnist")) == (US, "")


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("default_base")
def test_the_directory_cube_runs_with_our_own_command(cube: Path, cube_shell: TypeIn, digits: Served) -> None:
    """`configure` is optional, as the page says: the first run builds the image."""
    with without_image("mlcommons/mlcube:mnist") as image:
        done = succeeded(cube_shell(" ".join(
            ("mlcube run --platform=docker --task=download,train", *digits.docker_words))))
        assert f"build image {image}" in done.stderr
    assert records(cube / "workspace") == {"download": "succeeded", "train": "succeeded"}
    assert trained(cube / "workspace/model", cube / "workspace/train_logs").digits == {"train": 64, "test": 16}


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("default_base")
def test_the_build_directory_does_not_depend_on_mlcube(cube: Path, cube_shell: TypeIn) -> None:
    built = succeeded(cube_shell("cd build && docker build --quiet .")).stdout.strip()
    try:
        assert "--parameters_file" in succeeded(cube_shell(f"docker run --rm {built} --help")).stdout
    finally:
        docker("image", "rm", built)


@pytest.fixture
def quick_shell(cube_shell: TypeIn, scratch: Path) -> TypeIn:
    """The same, where image files are packed quickly and what is needed for a while lies in a directory of its own."""
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in {"TMPDIR": str(scratch), **QUICK_SQUASH}.items())
    return lambda line: cube_shell(f"export {words}; {line}")


CONFIGURE_SINGULARITY = "mlcube_singularity configure --mlcube=. --platform=platforms/singularity.yaml"
RUN_SINGULARITY = "mlcube_singularity run --mlcube=. --platform=platforms/singularity.yaml --task=run/{}.yaml"
PRINTED_IMAGE = "/opt/singularity/mlcommons_mlcube_mnist-0.01.simg"


@pytest.mark.singularity
@pytest.mark.slow
def test_the_directory_cube_runs_with_the_printed_singularity_commands(cube: Path, quick_shell: TypeIn, digits: Served,
                                                                       mnist_sif: Path) -> None:
    """The path is updated, as the page says. The recipe starts from an image that has TensorFlow, to save a minute."""
    rebase(cube / "build/Singularity.recipe", "localimage", mnist_sif)
    platform, workspace = cube / "platforms/singularity.yaml", cube / "workspace"
    platform.write_text(platform.read_text().replace(PRINTED_IMAGE, os.path.basename(PRINTED_IMAGE)))
    image = workspace / os.path.basename(PRINTED_IMAGE)

    download = RUN_SINGULARITY.format("download")
    assert " build --fakeroot" in succeeded(quick_shell(f"{download} --dry-run")).stdout
    assert f"build image {image}" in succeeded(quick_shell(CONFIGURE_SINGULARITY)).stderr
    assert " build --fakeroot" not in succeeded(quick_shell(f"{download} --dry-run")).stdout
    succeeded(quick_shell(" ".join((download, *digits.singularity_words))))
    done = succeeded(quick_shell(RUN_SINGULARITY.format("train")))

    assert "test accuracy" in done.stdout and done.stderr == ""
    assert trained(workspace / "model", workspace / "train_logs").digits == {"train": 64, "test": 16}
    assert records(workspace) == {"download": "succeeded", "train": "succeeded"}
    assert sorted(path.name for path in workspace.iterdir() if path.name != ".mlcube") == [
        "data", "download_logs", image.name, "model", "parameters", "train_logs"]
    assert owners(workspace) == US


@pytest.mark.singularity
def test_the_printed_image_path_is_made_or_its_line_is_named(cube: Path, quick_shell: TypeIn) -> None:
    """Before the path is updated. Root may make the directory; an ordinary user is told which line to edit (RULINGS 11)."""
    if os.access("/opt", os.W_OK):
        assert PRINTED_IMAGE in succeeded(quick_shell(f"{CONFIGURE_SINGULARITY} --dry-run")).stdout
        return
    for line in (CONFIGURE_SINGULARITY, RUN_SINGULARITY.format("download")):
        done = quick_shell(line)
        assert (done.exit_code, done.stdout) == (5, "")
        assert f"error: image {PRINTED_IMAGE} cannot be made: /opt does not let you write" in done.stderr
        assert "--> platforms/singularity.yaml:4:8" in done.stderr and "-Prunner.image=NAME.sif" in done.stderr


# --- the MLBox ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The page's MLBox, at the place where its commands look for it; the Dockerfile is a current one."""
    ours, root = EXAMPLES / "mlbox/mnist/docker/implementation", tmp_path / "examples/mnist/docker"
    shutil.copytree(ours / "src", root / "implementation/src")
    shutil.copytree(ours / "docker", root / "implementation/docker")
    return write_tree(root, {name: text for name, text in MLBOX.items()
                             if not name.startswith(("implementation/src/", "implementation/docker/"))})


@pytest.fixture
def box_shell(tmp_path: Path, home: Path) -> TypeIn:
    """A shell above `examples/`, where `python` is one that mlcube is installed for."""
    environment = clean_environment(home)
    programs = f"{os.path.dirname(sys.executable)}{os.pathsep}{environment['PATH']}"
    return shell(tmp_path, {**environment, "PATH": programs})


@pytest.fixture
def pyz_shell(tmp_path: Path, home: Path, built_pyz: Path) -> TypeIn:
    """A shell above `examples/`, where `python` knows mlcube only from `PYTHONPATH=mlcube.pyz`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").symlink_to(os.path.realpath(sys.executable))
    shutil.copy(built_pyz, tmp_path / "mlcube.pyz")
    environment = clean_environment(home)
    bare = shell(tmp_path, {**environment, "PATH": f"{programs}{os.pathsep}{environment['PATH']}"})
    assert bare("python -m mlbox").exit_code == 1
    return lambda line: bare(f"export PYTHONPATH=mlcube.pyz; {line}")


@pytest.fixture
def box_image() -> Iterator[str]:
    with without_image("mlperf/mlbox-example-mnist") as name:
        yield name


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("default_base")
def test_the_mlbox_runs_with_the_printed_commands(box: Path, pyz_shell: TypeIn, digits: Served, box_image: str) -> None:
    said = succeeded(pyz_shell("python -m mlbox describe ./examples/mnist/docker")).stdout
    assert all(word in said for word in ("MNIST", "downloaddata", "train", "parameters_file"))
    succeeded(pyz_shell(BOX_CONFIGURE))
    assert image_id(box_image)

    download = "python -m mlbox run ./examples/mnist/docker:downloaddata"
    succeeded(pyz_shell(" ".join((download, *digits.docker_words))))
    done = succeeded(pyz_shell("python -m mlbox run ./examples/mnist/docker:train"))
    if shutil.which("nvidia-docker") is None and "nvidia" not in docker("info", "--format", "{{.Runtimes}}"):
        assert "the task runs on the CPU" in done.stderr, "the page names nvidia-docker"

    workspace = box / "workspace"
    assert trained(workspace / "model", workspace / "log").digits == {"train": 64, "test": 16}
    assert records(workspace) == {"downloaddata": "succeeded", "train": "succeeded"}
    assert (owners(workspace), containers_of("MNIST")) == (US, "")


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("default_base", "box_image")
def test_the_mlbox_runs_with_the_printed_commands_that_name_groups(box: Path, box_shell: TypeIn, digits: Served) -> None:
    download = "python -m mlbox run ./examples/mnist/docker:downloaddata/default"
    succeeded(box_shell(" ".join((download, *digits.docker_words))))
    succeeded(box_shell("python -m mlbox run ./examples/mnist/docker:train/default"))
    workspace = box / "workspace"
    assert trained(workspace / "model", workspace / "log").digits == {"train": 64, "test": 16}


def test_the_printed_dockerfile_reaches_docker_with_the_right_context(box: Path, tmp_path: Path, home: Path) -> None:
    """Nothing builds it any more (its base has gone out of support), so a docker that only records is asked."""
    file = box / "implementation/docker/dockerfiles/Dockerfile"
    file.write_text(DOCKERFILE)
    fake = Fake(tmp_path)
    environment = {**clean_environment(home), **{name: fake.environment[name] for name in ("PATH", "FAKE_LOG")}}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{environment['PATH']}"

    succeeded(shell(tmp_path, {**environment, "http_proxy": "http://proxy:8080"})(BOX_CONFIGURE))

    (call,) = (call for call in fake.calls() if call[0] == "build")
    assert call[call.index("--file") + 1] == str(file) and file.read_text() == DOCKERFILE
    assert call[-1] == str(box), "the box is the context, as the page says"
    assert call[call.index("--tag") + 1] == "mlperf/mlbox-example-mnist"
    forwarded = [call[index + 1] for index, word in enumerate(call) if word == "--build-arg"]
    assert {"http_proxy", "https_proxy"} <= set(forwarded), "by name: the values stay out of the process list"
    assert not any(word.startswith("FROM") for word in call)


def test_the_printed_files_are_those_of_the_examples() -> None:
    """What ships is the page's, file for file; the examples only add to it."""
    same = [name for name in DIRECTORY if name.startswith(("run/", "platforms/", "workspace/", "tasks/"))]
    assert len(same) == 7
    for name in same:
        assert (CHECKOUT / "examples/mnist" / name).read_text() == textwrap.dedent(DIRECTORY[name]).lstrip("\n")
