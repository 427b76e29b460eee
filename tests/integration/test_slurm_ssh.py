"""A cluster behind its login node: pushed, queued, followed or left, and fetched, from a machine that has no Slurm."""

from __future__ import annotations

import pytest

from tests.integration.far import COPY, Far
from tests.integration.gpu_box import Box

pytestmark = [pytest.mark.ssh, pytest.mark.slurm]


@pytest.fixture
def cluster_far(login_node: Box, far: Far) -> Far:
    """The small cube, on a user's account of the login node; slurm is between ssh and what runs in the job."""
    definition = far.cube / "mlcube.yaml"
    text = definition.read_text().replace("ssh: {host:", "slurm: {platform: local, time: 10}\nssh: {host:")
    definition.write_text(text)
    far.options = (*far.options, "-Pssh.platform=slurm")
    return far


@pytest.mark.parametrize("inside", ["local", "singularity", "docker"])
def test_an_input_travels_a_job_runs_and_its_output_comes_home(cluster_far: Far, inside: str) -> None:
    cluster_far.script(COPY + 'echo "job $SLURM_JOB_ID" >"$result/job"\n')
    done = cluster_far.run(f"-Pslurm.platform={inside}")
    assert done.stdout == "copied\n", done.stderr
    assert (cluster_far.result / "job").read_text().split()[1].isdigit()


def test_doctor_has_a_node_look_before_anything_was_sent(cluster_far: Far) -> None:
    done = cluster_far("doctor", "-Pslurm.platform=local")
    assert done.exit_code == 0, done.stdout + done.stderr
    assert f"sees {cluster_far.far_home}\n" in done.stdout and "has python: Python 3." in done.stdout
    assert not cluster_far.box.exists(f"{cluster_far.far_home}/.mlcube/cubes")
