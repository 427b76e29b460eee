"""What the package tests share: building the pyz, the Pythons of this machine, a small cube, what is expected."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
PATH = f"/usr/bin:/bin:{os.path.dirname(sys.executable)}"  # the system's Python where there is one
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


def build(output: Path) -> None:
    """Build the pyz with the wheels that the checkout has downloaded already."""
    subprocess.run([sys.executable, str(CHECKOUT / "packaging/build_pyz.py"), "-o", str(output)], check=True,
                   capture_output=True, timeout=300)


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
