"""What docs/clusters.md shows works as printed: one story, on a laptop and on the login node of a real Slurm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cubes import write_tree
from tests.examples import copy_example, one_epoch
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
