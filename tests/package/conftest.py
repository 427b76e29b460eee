"""Fixtures of the package tests: one freshly built mlcube.pyz, a small cube, a run in a clean environment."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.package.tools import CUBE, GREET, PATH, Start, build, interpreters


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", interpreters().values(), ids=interpreters().keys())


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlcube.pyz of this checkout; not to be changed."""
    output = tmp_path_factory.mktemp("pyz") / "mlcube.pyz"
    build(output)
    output.parent.chmod(0o755)
    return output


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """A valid inline cube with one task for the local platform, and its input."""
    directory = tmp_path / "cube"
    (directory / "workspace").mkdir(parents=True)
    (directory / "mlcube.yaml").write_text(CUBE)
    (directory / "greet.sh").write_text(GREET)
    (directory / "workspace/names.txt").write_text("world\n")
    return directory


@pytest.fixture
def own_home(tmp_path: Path) -> Path:
    """The home that `start` gives: empty at first, unless a module shares one among its tests."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def start(tmp_path: Path, own_home: Path) -> Start:
    """Runs words with nothing in the environment but PATH and a home; a value of None removes a name."""

    def run(*words: object, env: Mapping[str, str | None] | None = None, cwd: Path | None = None,
            timeout: float = 120) -> subprocess.CompletedProcess[str]:
        merged: dict[str, str | None] = {"PATH": PATH, "HOME": str(own_home), "LANG": "C.UTF-8",
                                         **(env or {})}
        kept = {name: value for name, value in merged.items() if value is not None}
        return subprocess.run([str(word) for word in words], env=kept, cwd=cwd or tmp_path, timeout=timeout,
                              capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    return run
