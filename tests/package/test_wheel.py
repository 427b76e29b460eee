"""The wheel and the source distribution: exactly these files, and the names that users install and call."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("wheel_files.txt")


def build(source: Path, output: Path, target: str) -> Path:
    """What hatchling makes of the project in `source`; target is `wheel` or `sdist`."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(output), "-t", target], cwd=source,
                   check=True, capture_output=True, timeout=300)
    made = sorted(output.iterdir())
    assert len(made) == 1
    return made[0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CHECKOUT, tmp_path_factory.mktemp("wheel"), "wheel")


def files(wheel: Path) -> list[str]:
    """The names in the wheel, its version taken out of them."""
    with zipfile.ZipFile(wheel) as packed:
        version = wheel.name.split("-")[1]
        return sorted(name.replace(f"-{version}.dist-info", ".dist-info") for name in packed.namelist())


def read(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(next(name for name in packed.namelist() if name.endswith(ending))).decode()


def metadata(wheel: Path) -> Message:
    return Parser().parsestr(read(wheel, ".dist-info/METADATA"))


def test_the_wheel_holds_exactly_the_listed_files(wheel: Path) -> None:
    found = files(wheel)
    if os.environ.get("MLCUBE_GOLDEN") == "write":
        LIST.write_text("".join(f"{name}\n" for name in found))
    listed = LIST.read_text().splitlines()
    assert found == listed, "when that is meant: MLCUBE_GOLDEN=write pytest tests/package/test_wheel.py"


def test_the_wheel_is_for_every_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_distribution_is_called_mlcube_cli(wheel: Path) -> None:
    assert metadata(wheel)["Name"] == "mlcube-cli"
    assert metadata(wheel)["Requires-Python"] == ">=3.9"


def test_the_version_is_the_one_that_the_program_prints(wheel: Path) -> None:
    printed = subprocess.run([sys.executable, "-m", "mlcube_cli", "--version"], cwd=CHECKOUT, check=True,
                             capture_output=True, text=True).stdout
    assert printed == f"mlcube {metadata(wheel)['Version']}\n"


def test_the_core_needs_three_libraries(wheel: Path) -> None:
    needed = [line for line in metadata(wheel).get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split(">")[0].split("<")[0].lower() for line in needed) == ["jsonschema", "plumbum", "pyyaml"]


def test_every_applet_is_a_console_script(wheel: Path) -> None:
    scripts = read(wheel, ".dist-info/entry_points.txt").split()
    for name in ("mlcube", "mlcube_docker", "mlcube_singularity", "mlcube_ssh", "mlbox"):
        assert scripts[scripts.index(name) : scripts.index(name) + 3] == [name, "=", "mlcube_cli.__main__:main"]


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(CHECKOUT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path)  # our own archive
    again = build(tmp_path / sdist.name[: -len(".tar.gz")], tmp_path / "wheel", "wheel")
    assert files(again) == files(wheel)
