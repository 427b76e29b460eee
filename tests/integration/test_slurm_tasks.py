"""What a task knows of its batch job, and what is done for it before: each platform inside of a real Slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import IMAGE_FILES, TINY_IMAGE, RunMLCube
from tests.cubes import write_tree
from tests.integration.cluster import Cluster

CUBE = f"""\
name: shown
tasks:
  show:
    entrypoint: sh -c 'for one in "$@"; do case $one in --seen=*) env >"$(echo "$one" | cut -d= -f2)";; esac; done' show
    parameters: {{outputs: {{seen: {{type: file, default: seen.txt}}}}}}
docker: {{image: {TINY_IMAGE}}}
singularity: {{image: {IMAGE_FILES}/tiny.sif}}
local: {{}}
slurm: {{platform: local, time: 5m, setup: [export OF_NODE=1], env: {{TOKEN: null}}}}
"""
SECRET = "zq6-secret"
LOGIN = {"TOKEN": SECRET, "SLURM_PROCID": "99", "CUDA_VISIBLE_DEVICES": "9", "RANK": "99", "OTHER": "x",
         "https_proxy": "http://proxy:3128", "APPTAINERENV_STRANGE": "x"}


def seen(cube: Path) -> dict[str, str]:
    lines = (cube / "workspace/seen.txt").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.slurm
@pytest.mark.parametrize(("inside", "of_node"), [
    pytest.param("docker", None, marks=pytest.mark.docker),
    pytest.param("singularity", None, marks=pytest.mark.singularity),
    ("local", "1"),
])
def test_a_task_knows_its_job_and_nothing_of_the_login_nodes(
        run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster, inside: str, of_node: str | None) -> None:
    write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE})
    done = run_mlcube("run", "cube", "--platform=slurm", f"-Pslurm.platform={inside}", env={**LOGIN, **cluster.environment})
    assert done.exit_code == 0, done.stderr
    found = seen(tmp_path / "cube")
    assert (found["SLURM_PROCID"], found["TOKEN"], found["https_proxy"]) == ("0", SECRET, "http://proxy:3128")
    assert found["SLURMD_NODENAME"].startswith("node") and found["SLURM_JOB_ID"].isdigit()
    assert not {"RANK", "CUDA_VISIBLE_DEVICES", "OTHER", "STRANGE", "APPTAINERENV_STRANGE"} & set(found)
    assert found.get("OF_NODE") == of_node, "what a shell line exports, a container does not inherit"
    assert SECRET not in "".join(path.read_text("utf-8", "replace") for path in (tmp_path / "cube").rglob("*")
                                 if path.is_file() and path.name != "seen.txt"), "the secret is gone with the job"


@pytest.mark.slurm
@pytest.mark.singularity
@pytest.mark.parametrize(("words", "devices"), [
    (["-Pslurm.gpus=2"], "0,1"), (["--gpus=1"], "0"), (["-Pslurm.sbatch_args=--gpus=1"], "0"), (["-Pslurm.gpus=none"], "")])
def test_a_container_has_the_gpus_that_the_job_was_given(
        run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster, words: list[str], devices: str) -> None:
    write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE})
    done = run_mlcube("run", "cube", "--platform=slurm", "-Pslurm.platform=singularity", *words,
                      env={**LOGIN, **cluster.environment})
    assert done.exit_code == 0, done.stderr
    assert seen(tmp_path / "cube")["CUDA_VISIBLE_DEVICES"] == devices


@pytest.mark.slurm
def test_a_python_environment_is_made_before_and_found_on_the_node(
        run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> None:
    """Its name depends on the shell lines, those of the cluster among them."""
    program = "import json, os, sys\njson.dump([sys.prefix, os.environ['PATH'].split(':')[0]], open('prefix.json', 'w'))\n"
    write_tree(tmp_path / "cube", {"show.py": program, "mlcube.yaml": """\
name: shown
tasks: {show: {parameters: {}}}
local: {entrypoint: show.py, interpreter: virtualenv}
slurm: {platform: local, setup: [touch on-the-node]}
"""})
    for times in (1, 2):
        done = run_mlcube("run", "cube", "--platform=slurm", env=cluster.environment, timeout=120)
        assert done.exit_code == 0, done.stderr
        prefix, first = json.loads((tmp_path / "cube/prefix.json").read_text())
        assert "/environments/" in prefix and first == f"{prefix}/bin"
        environments = [path for path in Path(prefix).resolve().parents[1].iterdir() if path.is_symlink()]
        assert len(environments) == 1, times
    assert (tmp_path / "cube/on-the-node").exists()


@pytest.mark.slurm
@pytest.mark.singularity
def test_an_engine_that_only_the_nodes_have_is_enough(run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> None:
    write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE})
    done = run_mlcube("run", "cube", "--platform=slurm", "-Pslurm.platform=singularity",
                      env=cluster.without("apptainer", "singularity"))
    assert done.exit_code == 0, done.stderr
    assert "warning: apptainer is not here; the plan assumes a current one on the node" in done.stderr
    assert seen(tmp_path / "cube")["SLURM_PROCID"] == "0"


@pytest.mark.slurm
@pytest.mark.docker
def test_an_image_that_no_node_has_is_what_the_job_begins_with(
        run_mlcube: RunMLCube, tmp_path: Path, cluster: Cluster) -> None:
    write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE})
    done = run_mlcube("run", "cube", "--platform=slurm", "-Pslurm.platform=docker", "-Pdocker.image=localhost:1/absent:1",
                      env=cluster.environment)
    assert done.exit_code == 5, done.stderr
    assert "could not pull image localhost:1/absent:1" in done.stderr and "queued on slurm as job" in done.stderr
