"""What the package tests share: one freshly built mlcube.pyz, the Pythons of this machine, a small cube, a clean run."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CUBE = """\
name: tiny
tasks:
  greet:
    parameters:
      inputs: {names: {type: file, default: names.txt}}
      outputs: {greeting: {type: file, default: greeting.txt}}
local:
  entrypoint: [sh, greet.sh]
"""
# The task says what of its environment the interpreter of mlcube could have spoilt.
GREET = """\
for word in "$@"; do
    case $word in
    --names=*) names=${word#*=} ;;
    --greeting=*) greeting=${word#*=} ;;
    esac
done
{ printf 'hello '; cat "$names"; } >"$greeting"
"""
Start = Callable[..., "subprocess.CompletedProcess[str]"]


@functools.cache
def interpreters() -> dict[str, str]:
    """A Python of each version from 3.9 on: of PATH, of the system, and of the directories in MLCUBE_TEST_PYTHONS."""
    places = os.environ.get("MLCUBE_TEST_PYTHONS", "").split(os.pathsep) + os.environ["PATH"].split(os.pathsep)
    names = [*(f"python3.{minor}" for minor in range(9, 15)), "python3"]
    candidates = [os.path.join(place, name) for place in places if place for name in names]
    found: dict[str, str] = {}
    for candidate in ["/usr/bin/python3", sys.executable, *candidates]:
        if os.access(candidate, os.X_OK) and "shims" not in candidate:
            asked = subprocess.run([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                                   capture_output=True, text=True, check=False)
            version = asked.stdout.strip()
            if asked.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 9):
                found.setdefault(version, candidate)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", interpreters().values(), ids=interpreters().keys())


def build(output: Path, **options: str) -> None:
    """Build the pyz with the wheels that the checkout has downloaded already; `options` change the environment."""
    subprocess.run([sys.executable, str(CHECKOUT / "packaging/build_pyz.py"), "-o", str(output)],
                   env={**os.environ, **options}, check=True, capture_output=True, timeout=300)


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
def start(tmp_path: Path) -> Start:
    """Runs words with nothing in the environment but PATH and a cache of its own; a value of None removes a name."""

    def run(*words: object, env: Mapping[str, str | None] | None = None, cwd: Path | None = None,
            timeout: float = 120) -> subprocess.CompletedProcess[str]:
        merged: dict[str, str | None] = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "LANG": "C.UTF-8",
                                         **(env or {})}
        (tmp_path / "home").mkdir(exist_ok=True)
        kept = {name: value for name, value in merged.items() if value is not None}
        return subprocess.run([str(word) for word in words], env=kept, cwd=cwd or tmp_path, timeout=timeout,
                              capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    return run


def assert_version(done: subprocess.CompletedProcess[str]) -> None:
    """`--version` said what it should, and nothing else was said."""
    assert (done.returncode, done.stdout.split(" ")[0], done.stderr) == (0, "mlcube", ""), done


def assert_valid(done: subprocess.CompletedProcess[str]) -> None:
    """`validate --json` found nothing wrong."""
    assert (done.returncode, done.stderr) == (0, ""), done
    assert json.loads(done.stdout)["valid"] is True


def copies(cache: Path) -> list[str]:
    """The names of what lies among the copies of the pyz below a cache directory."""
    room = cache / "pyz"
    return sorted(path.name for path in room.iterdir()) if room.exists() else []
