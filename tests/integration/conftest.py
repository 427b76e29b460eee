"""What the integration tests share: a built mlcube.pyz, a data set on loopback, a docker that is watched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BASE_IMAGE
from tests.examples import Served, WatchedDocker, docker, image_id, serve_digits
from tests.package.tools import build

DEFAULT_BASE = "python:3.11-slim"  # what the examples' Dockerfiles start from unless they are told another


@pytest.fixture(scope="session")
def built_pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlcube.pyz of this checkout; not to be changed."""
    output = tmp_path_factory.mktemp("built") / "mlcube.pyz"
    build(output)
    return output


@pytest.fixture
def digits(tmp_path: Path) -> Iterator[Served]:
    """A small data set that a server on loopback gives."""
    with serve_digits(tmp_path / "served") as served:
        yield served


@pytest.fixture
def watched_docker(tmp_path: Path) -> WatchedDocker:
    return WatchedDocker(tmp_path / "watched")


@pytest.fixture
def default_base() -> Iterator[None]:
    """The examples' default base image; where nothing can be pulled, the test base bears its name for a while."""
    if image_id(DEFAULT_BASE):
        yield
        return
    docker("image", "tag", BASE_IMAGE, DEFAULT_BASE)
    try:
        yield
    finally:
        docker("image", "rm", DEFAULT_BASE)
