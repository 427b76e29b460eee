"""The private copy of mlcube.pyz: made once, never half-made, never a reason to fail, never somebody else's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.package.tools import CHECKOUT, PATH, Start, assert_valid, assert_version, copies

DAY = 24 * 3600


def only_copy(cache: Path) -> Path:
    """The one copy below this cache directory; nothing else may lie beside it."""
    names = copies(cache)
    assert len(names) == 1, names
    return cache / "pyz" / names[0]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home/.cache/mlcube"


def leave_unused(copy: Path, days: float) -> None:
    when = time.time() - days * DAY
    os.utime(copy / "complete", (when, when))


# --- where it is, and that it is used --------------------------------------------------------------------------------


def test_the_first_start_makes_one_copy_that_the_next_ones_use(pyz: Path, start: Start, cache: Path) -> None:
    assert_version(start(pyz, "--version"))
    copy = only_copy(cache)
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    (copy / "mlcube_cli/__init__.py").write_text("__version__ = 'from the copy'\n")
    shutil.rmtree(copy / "mlcube_cli/__pycache__")
    assert start(pyz, "--version").stdout == "mlcube from the copy\n"


def test_it_lies_in_mlcube_home_or_xdg_cache_home(pyz: Path, start: Start, tmp_path: Path) -> None:
    for name, place in (("MLCUBE_HOME", "own"), ("XDG_CACHE_HOME", "xdg/mlcube")):
        assert_version(start(pyz, "--version", env={name: str(tmp_path / place.split("/")[0])}))
        only_copy(tmp_path / place)
    assert not (tmp_path / "home/.cache").exists()


def test_the_copy_holds_bytecode_for_every_module_and_gets_no_more(pyz: Path, start: Start, cache: Path,
                                                                   cube: Path) -> None:
    assert_version(start(pyz, "--version"))
    copy = only_copy(cache)
    before = sorted(copy.rglob("*"))
    compiled = {path.name.split(".")[0] for path in before if path.suffix == ".pyc"}
    assert {path.stem for path in before if path.suffix == ".py"} == compiled
    assert_valid(start(pyz, "validate", "--json", cube))
    assert_valid(start(sys.executable, "-O", pyz, "validate", "--json", cube))
    assert sorted(copy.rglob("*")) == before


@pytest.mark.parametrize("home", [None, "", "relative", "/nonexistent/home", "/proc", "/dev/null"])
def test_it_works_without_a_usable_home(pyz: Path, cube: Path, start: Start, home: str | None, tmp_path: Path) -> None:
    for _ in range(2):
        assert_version(start(pyz, "--version", env={"HOME": home}))
        assert_valid(start(pyz, "validate", "--json", cube, env={"HOME": home}))
    assert not (tmp_path / "relative").exists() and not (tmp_path / ".cache").exists()


def test_it_works_where_home_cannot_be_written(pyz: Path, cube: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "home").chmod(0o500)
    assert_version(start(pyz, "--version"))
    assert_valid(start(pyz, "validate", "--json", cube))


@pytest.mark.parametrize("blocks", [0, 1, 20, 60])
def test_a_disk_that_fills_up_is_left_as_it_was(pyz: Path, cube: Path, start: Start, cache: Path, blocks: int) -> None:
    """A limit on the size of files stands for the full disk here; the docker tests have a real one."""
    for words in ("--version", f"validate --json {cube}"):
        done = start("bash", "-c", f"ulimit -f {blocks}; {pyz} {words} | cat")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert copies(cache) == []


def test_a_cache_that_others_can_write_into_is_not_used(pyz: Path, start: Start, tmp_path: Path) -> None:
    for place, mode in (("shared", 0o777), ("group", 0o770)):
        (tmp_path / place).mkdir()
        (tmp_path / place).chmod(mode)
        assert_version(start(pyz, "--version", env={"MLCUBE_HOME": str(tmp_path / place)}))
        assert list((tmp_path / place).iterdir()) == []


def test_a_room_for_copies_that_others_can_write_into_is_not_used(pyz: Path, start: Start, cache: Path) -> None:
    assert_version(start(pyz, "--version"))
    copy = only_copy(cache)
    (copy / "mlcube_cli/__main__.py").write_text("raise SystemExit('planted')\n")
    shutil.rmtree(copy / "mlcube_cli/__pycache__")
    copy.parent.chmod(0o777)
    assert_version(start(pyz, "--version"))


# --- many at once, and ends in the middle ----------------------------------------------------------------------------


def test_64_first_starts_at_once(pyz: Path, start: Start, cache: Path, tmp_path: Path) -> None:
    started = [subprocess.Popen([str(pyz), "--version"], env={"PATH": PATH, "HOME": str(tmp_path / "home")},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(64)]
    said = {process.communicate(timeout=120)[0] for process in started}
    assert len(said) == 1 and said.pop().startswith("mlcube ")
    assert {process.returncode for process in started} == {0}
    only_copy(cache)
    assert_version(start(pyz, "--version"))


def test_killed_in_the_middle_of_its_first_start(pyz: Path, cube: Path, start: Start, tmp_path: Path) -> None:
    """At each stage: as soon as so many files are there."""
    stages = (0, 1, 100, 200, 300, 350)
    for files in stages:
        cache = tmp_path / f"cache-{files}"
        process = subprocess.Popen([str(pyz), "--version"], stdout=subprocess.DEVNULL,
                                   env={"PATH": PATH, "MLCUBE_HOME": str(cache)})
        while process.poll() is None and sum(len(found) for _, _, found in os.walk(cache)) < files:
            time.sleep(0.002)
        process.kill()
        process.wait(timeout=60)
        assert_valid(start(pyz, "validate", "--json", cube, env={"MLCUBE_HOME": str(cache)}))
        assert_version(start(pyz, "--version", env={"MLCUBE_HOME": str(cache)}))
        copy = only_copy(cache)
        for line in (copy / "complete").read_text().splitlines():
            size, name = line.split(" ", 1)
            assert (copy / name).stat().st_size == int(size)


def test_a_copy_that_another_process_is_making_is_not_touched(pyz: Path, start: Start, cache: Path) -> None:
    assert_version(start(pyz, "--version"))
    copy = only_copy(cache)
    ours = copy.with_name(f"{copy.name}.elsewhere.1.partial")
    copy.rename(ours)
    assert_version(start(pyz, "--version"))
    assert copies(cache) == [ours.name]  # it ran from the zip
    old = time.time() - 3600
    os.utime(ours, (old, old))
    assert_version(start(pyz, "--version"))
    assert only_copy(cache) == copy  # whoever was at it has gone


def test_ctrl_c_during_the_first_start_leaves_nothing(pyz: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = subprocess.Popen([str(pyz), "--version"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               env={"PATH": PATH, "MLCUBE_HOME": str(cache)})
    while process.poll() is None and sum(len(found) for _, _, found in os.walk(cache)) < 50:
        time.sleep(0.002)
    process.send_signal(2)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == -2 and copies(cache) == []


# --- damage, age, change ---------------------------------------------------------------------------------------------


def test_a_damaged_copy_is_made_again_within_a_day(pyz: Path, cube: Path, start: Start, cache: Path) -> None:
    for damage in ("mlcube_cli/errors.py", "yaml/loader.py"):
        assert_version(start(pyz, "--version"))
        copy = only_copy(cache)
        (copy / damage).unlink()
        leave_unused(copy, days=1.1)
        assert_valid(start(pyz, "validate", "--json", cube))
        assert (only_copy(cache) / damage).exists()


def test_a_copy_without_its_list_is_made_again(pyz: Path, start: Start, cache: Path) -> None:
    assert_version(start(pyz, "--version"))
    (only_copy(cache) / "complete").unlink()
    assert_version(start(pyz, "--version"))
    assert (only_copy(cache) / "complete").exists()


def test_use_keeps_every_file_of_a_copy_young(pyz: Path, start: Start, cache: Path) -> None:
    """Scratch file systems purge what nobody has touched for some weeks."""
    assert_version(start(pyz, "--version"))
    copy = only_copy(cache)
    long_ago = time.time() - 20 * DAY
    for path in copy.rglob("*"):
        if path.is_file():
            os.utime(path, (long_ago, long_ago))
    assert_version(start(pyz, "--version"))
    assert all(path.stat().st_mtime > time.time() - DAY for path in copy.rglob("*") if path.is_file())


def test_copies_of_builds_unused_for_30_days_are_removed(pyz: Path, start: Start, cache: Path) -> None:
    assert_version(start(pyz, "--version"))
    copy = only_copy(cache)
    for name, days in (("old", 31), ("recent", 29)):
        shutil.copytree(copy, copy.with_name(name))
        leave_unused(copy.with_name(name), days)
    (copy.with_name("left.1.gone")).mkdir()
    leave_unused(copy, days=1.1)
    assert_version(start(pyz, "--version"))
    assert copies(cache) == sorted([copy.name, "recent"])


def test_nothing_is_locked() -> None:
    """File systems without flock, or with one that holds on one node only, are no matter then."""
    for name in ("packaging/boot.py", "packaging/unpack.py", "mlcube_cli/cache/__init__.py", "mlcube_cli/__main__.py"):
        assert not re.search(r"fcntl|flock|lockf", (CHECKOUT / name).read_text())


# --- replaced while it runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["own", "/proc"])
def test_replaced_by_mv_while_it_runs(pyz: Path, cube: Path, start: Start, tmp_path: Path, home: str) -> None:
    """The task replaces the very file it was started from; what mlcube imports afterwards is still the old build's."""
    (tmp_path / "own").mkdir()
    program = tmp_path / "program"
    shutil.copy(pyz, program)
    (tmp_path / "new").write_bytes(b"#!/bin/sh\necho a newer build\n" + b"\0" * 3_000_000)
    (tmp_path / "new").chmod(0o755)
    (cube / "greet.sh").write_text(f"mv '{tmp_path}/new' '{program}'\n" + (cube / "greet.sh").read_text())
    done = start(program, "run", cube, env={"HOME": str(tmp_path / home)})
    assert done.returncode == 0, done
    assert (cube / "workspace/greeting.txt").read_text() == "hello world\n"
    assert start(program, "--version").stdout == "a newer build\n"


def test_replaced_by_mv_before_anything_was_imported(pyz: Path, start: Start, tmp_path: Path) -> None:
    """Without a cache each import reads the file, and it must be the file that was opened."""
    program = tmp_path / "program"
    shutil.copy(pyz, program)
    (tmp_path / "new").write_bytes(b"\0" * 3_000_000)
    code = ('import os, sys; archive = open(sys.argv[1], "rb")\n'
            'exec(archive.read(16384).split(b"\\n#---\\n")[1], globals())\n'
            'os.replace(sys.argv[2], sys.argv[1])\n'
            'sys.path.insert(0, in_place(archive))\n'
            'import jsonschema, yaml, plumbum, mlcube_cli; print(mlcube_cli.__version__)')
    code = f"__name__ = 'boot'\n{code}"
    done = start(sys.executable, "-I", "-S", "-c", code, program, tmp_path / "new")
    assert (done.returncode, done.stderr) == (0, ""), done
