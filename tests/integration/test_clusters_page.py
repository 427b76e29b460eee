"""What docs/clusters.md shows works as printed: one story, on a laptop and on the login node of a real Slurm; and the settings
that docs/cluster-admins.md shows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunMLCube
from tests.cubes import write_tree
from tests.examples import copy_example, one_epoch
from tests.integration.cluster import Cluster
from tests.integration.gpu_box import Box
from tests.integration.test_docs import CLUSTERS, blocks


@pytest.mark.ssh
@pytest.mark.slurm
@pytest.mark.singularity
@pytest.mark.slow
def test_the_page_is_a_story_that_works(login_node: Box, laptop: dict[str, str], mnist_there: str, built_pyz: Path,
                                                    tmp_path: Path) -> None:
    """All its lines in their order, each where it says; then its platform file. The image is there: nothing can be pulled."""
    place = tmp_path / "story"
    place.mkdir()
    for name in ("mnist", "sweep", "two_ranks"):
        copy_example(name, place / "examples" / name)
    one_epoch(place / "examples/mnist")
    shutil.copy(built_pyz, place / "mlcube.pyz")
    home = login_node.ssh("login", "pwd").stdout.decode().strip()
    login_node.root('mkdir "$1/images" && ln "$2" "$1/images/mnist.simg"', home, mnist_there)
    told = ""
    for block in blocks(CLUSTERS, "sh"):
        where, _, lines = block.partition("\n")
        assert where in ("# on the laptop", "# on the login node"), where
        if where == "# on the laptop":
            done = subprocess.run(["sh", "-eux", "-c", lines], cwd=place, env=laptop, stdin=subprocess.DEVNULL,
                                  capture_output=True, check=False, timeout=300)
        else:
            done = login_node.ssh("login", f"PATH=$HOME/bin:$PATH; set -eux\n{lines}", timeout=300)
        told += done.stdout.decode()
        assert done.returncode == 0, f"{done.stderr.decode()}\n{told}"
    assert told.count('"accuracy": 0.') >= 3 and '"ranks": 2' in told
    assert "largest accuracy: member" in told and "#SBATCH --time=01:00:00" in told and "#SBATCH --partition=debug" in told
    (platform,) = blocks(CLUSTERS, "yaml")
    write_tree(place, {"cluster.yaml": platform})
    done = subprocess.run(["sh", "-eux", "-c", "mlcube run examples/mnist --platform login --task sample "
                           "-Plogin.platform=./cluster.yaml"], cwd=place, env=laptop, stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slurm
def test_the_settings_of_a_site_count_for_all_of_its_users(cluster: Cluster, run_mlcube: RunMLCube, home: Path,
                                                           tmp_path: Path) -> None:
    cluster_side, laptop_side = blocks(CHECKOUT / "docs/cluster-admins.md", "yaml")
    write_tree(tmp_path, {"site.yaml": cluster_side, "laptop.yaml": laptop_side})
    site = {**cluster.environment, "MLCUBE_SITE_SETTINGS": str(tmp_path / "site.yaml")}
    copy_example("sweep", tmp_path / "sweep")
    write_tree(tmp_path / "sweep", {"count.sh": 'echo "$OMP_NUM_THREADS threads"\n'})
    (tmp_path / "sweep/count.sh").chmod(0o755)
    done = run_mlcube("run", "sweep", "--platform=slurm", "-Pslurm.platform=local", env=site)
    assert done.exit_code == 0, done.stderr
    (directory,) = (home / ".mlcube-jobs").iterdir()
    program = (directory / "1/program").read_text()
    assert "#SBATCH --partition=debug\n" in program and "#SBATCH --time=00:10:00\n" in program, "the cube's own time counts"
    shown = run_mlcube("show-config", "sweep", "--platform=gpu", env=site)
    assert shown.exit_code == 0 and "partition: urgent" in shown.stdout, shown.stdout + shown.stderr
    threads = run_mlcube("run", "sweep", "--platform=gpu", "-Pgpu.platform=local", "-Pgpu.gpus=none",
                         "-Plocal.entrypoint=count.sh", env=site)
    assert (threads.exit_code, threads.stdout) == (0, "4 threads\n"), threads.stderr
    listed = run_mlcube("config", "--list", env={"MLCUBE_SITE_SETTINGS": str(tmp_path / "laptop.yaml")})
    assert listed.exit_code == 0 and "host: login.example.org" in listed.stdout, listed.stderr
