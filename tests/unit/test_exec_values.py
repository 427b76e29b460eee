"""The keys of an `exec` task's parameters file become variables."""

from __future__ import annotations

import pytest

from mlcube_cli.errors import DefinitionError
from mlcube_cli.exec_values import with_variables
from mlcube_cli.job import Job
from tests.world import World, job_of

TEXT = "optimizer: adam\nrate: 1e-3\nversion: 1.10\nfast: true\nnothing: null\nlayers: [1, 2]\n"


def exec_job(kind: str = "exec") -> Job:
    return job_of("local", {"kind": kind}, [{"name": "parameters_file", "host_path": "/p.yaml", "type": "file"}],
                  dialect="mlbox")


def test_values_stay_as_written() -> None:
    world = World(texts={"/p.yaml": TEXT})
    job = world.decide(lambda facts: with_variables(exec_job(), facts))
    assert dict(job.variables) == {"optimizer": "adam", "rate": "1e-3", "version": "1.10", "fast": "true", "nothing": "",
                                   "layers": "[1, 2]"}


def test_another_kind_of_job_reads_no_file() -> None:
    world = World(texts={"/p.yaml": TEXT})
    assert world.decide(lambda facts: with_variables(exec_job("python"), facts)).variables == ()
    assert world.asked == []


@pytest.mark.parametrize("texts", [{}, {"/p.yaml": "- a list\n"}])
def test_without_keys_there_are_no_variables(texts: dict[str, str]) -> None:
    assert World(texts=texts).decide(lambda facts: with_variables(exec_job(), facts)).variables == ()


def test_a_file_that_is_no_yaml_is_an_error_that_names_it() -> None:
    with pytest.raises(DefinitionError) as caught:
        World(texts={"/p.yaml": "a: [1\n"}).decide(lambda facts: with_variables(exec_job(), facts))
    assert caught.value.problems[0].location.file == "/p.yaml"
