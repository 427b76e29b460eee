"""`mlcube cache prune` beside real runs: real environments, real processes, a real mlcube.pyz; without any network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlcube_cli.cache.contents import look_at, remove
from mlcube_cli.cache.pruning import DAY, Wish, removable
from tests.conftest import IMAGE_FILES, Outcome, RunMLCube
from tests.integration.test_local import World
from tests.integration.test_local import world as world

WAIT = """\
import os, sys, time
open(os.environ["SIGN"], "w").close()
while os.path.exists(os.environ["SIGN"]):
    time.sleep(0.02)
import tiny
print(tiny.VERSION)
"""


def cache(world: World, *words: str) -> Outcome:
    child = subprocess.run([sys.executable, "-m", "mlcube_cli", "cache", *words], env=world.environment, cwd=world.base,
                           capture_output=True, text=True, check=False, timeout=120)
    return Outcome(child.returncode, child.stdout, child.stderr)


def prune(world: World) -> str:
    outcome = cache(world, "prune", "--older-than", "30d")
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.stdout


def age(world: World) -> None:
    """The environments look as if nothing had used them for 40 days."""
    when = time.time() - 40 * DAY
    for path in world.made:
        for entry in (path, path / "environment", path / "environment/mlcube-complete"):
            if entry.exists():
                os.utime(entry, (when, when))


def start_waiting(world: World, sign: Path) -> subprocess.Popen[bytes]:
    """A task that runs until `sign` is removed."""
    (world.cube / "main.py").write_text(WAIT)
    process = world.start(SIGN=str(sign))
    until = time.monotonic() + 60
    while not sign.exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    return process


def test_list_says_what_an_environment_is_and_a_run_notes_its_use(world: World) -> None:
    world.shown()
    age(world)
    assert "40 days ago" in cache(world, "list").stdout
    world.shown()
    listed = cache(world, "list").stdout
    assert "with tiny" in listed and "less than a minute ago" in listed and "40 days" not in listed
    assert "freed 0 B" in prune(world)


def test_an_environment_goes_and_is_made_again(world: World) -> None:
    world.shown()
    age(world)
    assert "not used for 40 days" in prune(world)
    assert world.made == [] and world.links == []
    assert world.shown()["tiny"] == "1.0"


@pytest.mark.parametrize("killed", [False, True], ids=["mlcube waits", "mlcube was killed"])
def test_the_environment_of_a_running_task_stays(world: World, tmp_path: Path, killed: bool) -> None:
    sign = tmp_path / "sign"
    process = start_waiting(world, sign)
    if killed:  # the task goes on without it
        process.kill()
        process.wait()
    age(world)
    assert "removed environment" not in prune(world)
    assert len(world.made) == 1
    sign.unlink()
    if killed:
        until = time.monotonic() + 30
        while "in use" in cache(world, "list", "--kind", "environment").stdout:
            assert time.monotonic() < until
            time.sleep(0.1)
    else:
        assert world.end(process)[:2] == (0, "1.0\n")
    age(world)
    prune(world)
    assert world.made == []


def test_a_replaced_environment_stays_for_the_task_that_uses_it(world: World, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    process = start_waiting(world, sign)
    assert world.run("force")[0] == 0
    age(world)
    prune(world)
    assert len(world.made) == 2, "the task names the link, by which it may mean either"
    sign.unlink()
    assert world.end(process)[:2] == (0, "1.0\n")
    age(world)
    assert "replaced by a newer one" in prune(world)
    assert world.made == []


def test_an_interrupted_installation_goes(world: World) -> None:
    world.shown()
    (link,) = world.links
    half = world.cache / "environments" / f"{link.name}.Half12"
    (half / "environment/lib").mkdir(parents=True)
    (half / "making").touch()
    assert "freed 0 B" in prune(world), "it may be somebody's whom we cannot see"
    when = time.time() - 3600
    for path in (half / "environment", half):
        os.utime(path, (when, when))
    assert ": unfinished" in prune(world)
    assert not half.exists() and world.shown()["tiny"] == "1.0"


def test_runs_and_prunes_at_the_same_time_do_not_break_each_other(world: World) -> None:
    """Somebody prunes without a pause while runs begin to use what nobody used for long; each time from another moment on."""
    removed: list[str] = []

    def keep_pruning(over: threading.Event, delay: float) -> None:
        over.wait(delay)
        while not over.is_set():
            items, _ = look_at(str(world.cache))
            for item, _ in removable(items, Wish(30 * DAY), time.time()):
                if not remove(str(world.cache), item):
                    removed.append(item.path)
            over.wait(0.01)

    for number in range(3):
        world.shown()
        age(world)
        over = threading.Event()
        pruning = threading.Thread(target=keep_pruning, args=(over, 0.15 * number))
        pruning.start()
        try:
            for process in [world.start() for _ in range(2)]:
                code, _, stderr = world.end(process)
                assert code == 0, stderr
        finally:
            over.set()
            pruning.join()
    assert removed


def test_old_builds_go_and_the_running_one_stays(built_pyz: Path, run_mlcube: RunMLCube, home: Path) -> None:
    pyz = (sys.executable, str(built_pyz))
    assert run_mlcube("--version", command=pyz).exit_code == 0
    room = home / ".cache/mlcube/pyz"
    (own,) = room.iterdir()
    shutil.copytree(own, room / ("0" * 20 + own.name[20:]))
    when = time.time() - 31 * DAY
    for copy in room.iterdir():
        os.utime(copy / "complete", (when, when))
        os.utime(copy, (when, when))
    # The sweep of the start itself removes old builds once a day; this one is done for today.
    os.utime(own / "complete")
    outcome = run_mlcube("cache", "prune", command=pyz)
    assert "not used for 31 days" in outcome.stdout and outcome.exit_code == 0, outcome.stderr
    assert list(room.iterdir()) == [own]
    assert "in use by this process" in run_mlcube("cache", "list", command=pyz).stdout


@pytest.mark.singularity
def test_an_image_that_a_run_made_is_listed_goes_and_is_made_again(tmp_path: Path, run_mlcube: RunMLCube, home: Path) -> None:
    cube = tmp_path / "cube"
    cube.mkdir()
    (cube / "mlcube.yaml").write_text(
        f"name: small\ndocker: {{image: 'tiny:1', tar_file: {IMAGE_FILES / 'tiny.tar'}}}\nsingularity: {{}}\n"
        "tasks: {a: {entrypoint: [sh, -c, 'echo ran']}}\n")
    image = cube / "workspace/.image/tiny1.sif"
    words = ("run", str(cube), "--platform", "singularity")
    first = run_mlcube(*words)
    assert (first.exit_code, first.stdout) == (0, "ran\n"), first.stderr
    assert str(image) in run_mlcube("cache", "list", "--kind", "image").stdout
    for note in (home / ".cache/mlcube/images").iterdir():
        os.utime(note, (time.time() - 40 * DAY,) * 2)
    assert run_mlcube(*words).exit_code == 0
    assert run_mlcube("cache", "prune", "--older-than", "30d").stdout == "freed 0 B\n", "the run noted its use"
    for note in (home / ".cache/mlcube/images").iterdir():
        os.utime(note, (time.time() - 40 * DAY,) * 2)
    assert f"removed image {image}" in run_mlcube("cache", "prune", "--older-than", "30d").stdout
    assert not image.exists()
    again = run_mlcube(*words)
    assert (again.exit_code, again.stdout) == (0, "ran\n"), again.stderr
