"""Every example runs for real on every platform that it names: which test does it, and that none is forgotten."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import CHECKOUT
from tests.cubes import read
from tests.examples import EXAMPLES

# (example, platform that it names) -> the test that runs it there.
RUNS = {
    ("hello", "docker"): "test_examples_docker.test_hello",
    ("hello", "local"): "test_examples_local.test_hello",
    ("mlbox/mnist/baremetal", "local"): "test_examples_local.test_the_mlbox_on_bare_metal_trains_in_the_same_environment",
    ("mlbox/mnist/docker", "docker"): "test_examples_docker.test_the_mlbox_is_built_by_its_first_run",
    ("mlbox/mnist/singularity", "singularity"): "test_examples_singularity.test_the_mlbox_is_built_by_its_first_run",
    ("mnist", "docker"): "test_examples_docker.test_the_mnist_cube_is_built_and_trains_in_its_container",
    ("mnist", "local"): "test_examples_local.test_the_mnist_cube_trains_a_model_that_reads_digits",
    ("mnist", "singularity"): "test_examples_singularity.test_the_mnist_cube_trains_in_the_image_of_its_recipe",
    ("mnist", "slurm"): "test_examples_slurm.test_mnist_trains_as_a_job",
    ("sweep", "docker"): "test_examples_training.test_the_digits_are_read_in_a_container",
    ("sweep", "local"): "test_examples_training.test_the_digits_are_read",
    ("sweep", "singularity"): "test_examples_training.test_the_digits_are_read_in_the_image_of_the_recipe",
    ("sweep", "slurm"): "test_examples_slurm.test_a_sweep_of_twenty_trainings_is_one_array_and_shows_the_best",
    ("two_ranks", "docker"): "test_examples_training.test_one_rank_in_a_container",
    ("two_ranks", "local"): "test_examples_training.test_one_rank_is_enough",
    ("two_ranks", "singularity"): "test_examples_training.test_one_rank_in_the_image_of_the_recipe",
    ("two_ranks", "slurm"): "test_examples_training.test_two_ranks_on_two_nodes_train_one_model",
}


def named() -> set[tuple[str, str]]:
    """Each example and platform, as the examples' own files say it."""
    found = set()
    for path in sorted(EXAMPLES.rglob("ml*.yaml")):
        if path.name in ("mlcube.yaml", "mlbox.yaml"):
            cube = read(path.parent).cube
            assert cube is not None, path
            found |= {(str(path.parent.relative_to(EXAMPLES)), platform.name) for platform in cube.platforms}
    return found


def test_each_platform_that_an_example_names_has_a_test() -> None:
    assert named() == set(RUNS)


@pytest.mark.parametrize(("example", "platform"), RUNS)
def test_that_test_is_there_and_runs_the_example_on_the_real_thing(example: str, platform: str) -> None:
    module, _, name = RUNS[example, platform].partition(".")
    text = (CHECKOUT / "tests/integration" / f"{module}.py").read_text()
    tree = ast.parse(text)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    words = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)}
    assert example in words, "it copies this example"
    marks = {node.attr for one in function.decorator_list for node in ast.walk(one) if isinstance(node, ast.Attribute)}
    everywhere = any(line.startswith("pytestmark = ") and f"pytest.mark.{platform}" in line for line in text.splitlines())
    assert platform == "local" or platform in marks or everywhere
