"""`--stamp` and `--deps`, judged by a real make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mlcube_cli.cli.make import escape, write_deps, write_stamp
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import Location
from mlcube_cli.job import Argument, Job


def job(*arguments: Argument) -> Job:
    return Job("id-1", "c", "/c", "/c/workspace", "inline", "t", None, arguments, Platform("p", "local", (), Location("f")))


def make(directory: Path) -> str:
    done = subprocess.run(["make", "-s"], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_rebuilds_when_an_input_changes_appears_or_goes(tmp_path: Path) -> None:
    odd = tmp_path / "in put $x#1%"
    odd.mkdir()
    (odd / "a:b c").write_text("1")
    (odd / "new\nline").write_text("1")
    for path in (odd / "a:b c", odd / "new\nline", odd):
        os.utime(path, (1000, 1000))
    (tmp_path / "Makefile").write_text("all: stamp\nstamp:\n\t@echo built; touch -d @5000 stamp\n-include deps\n")
    write_stamp(str(tmp_path / "stamp"), 2000.0, ["id-1"])
    assert (tmp_path / "stamp").stat().st_mtime == 2000
    write_deps(str(tmp_path / "deps"), "stamp", [job(Argument("i", "input", "directory", "ro", str(odd)))], [])
    assert make(tmp_path) == ""
    os.utime(odd / "a:b c", (3000, 3000))
    assert make(tmp_path) == "built\n"
    assert make(tmp_path) == ""
    (odd / "a:b c").unlink()
    os.utime(odd, (4000, 4000))
    assert make(tmp_path) == "built\n"


def test_no_name_of_an_input_is_read_as_anything_but_a_name(tmp_path: Path) -> None:
    names = ["a;touch pwned", ";b", "x|y", "tail\\", "a\\#b", "a\\:b", "ends ", "a&", "lib(member)", "$(shell touch x)"]
    known = ["date=2024", "=b", "a b=c", "file (1).csv", "part[1]", "a*b?", "a&b", "%", "~x", "-x", "a'b\"c", "a,b!c@d^e+"]
    for name in names + known:
        (tmp_path / "in").mkdir(exist_ok=True)
        path = tmp_path / "in" / name
        path.write_text("1")
        for old in (path, path.parent):
            os.utime(old, (1000, 1000))
        (tmp_path / "Makefile").write_text("stamp:\n\t@echo built; touch -d @5000 stamp\n-include deps\n")
        write_stamp(str(tmp_path / "stamp"), 2000.0, ["id-1"])
        write_deps(str(tmp_path / "deps"), "stamp", [job(Argument("i", "input", "file", "ro", str(path)))], [])
        assert make(tmp_path) == "", name
        path.unlink()
        os.utime(path.parent, (1000, 1000))
        assert make(tmp_path) == ("built\n" if name in known else ""), name
    assert not (tmp_path / "pwned").exists()


def test_what_the_command_writes_itself_is_no_prerequisite(tmp_path: Path) -> None:
    jobs = [job(Argument("o", "output", "directory", "rw", "/w/data")),
            job(Argument("i", "input", "directory", "ro", "/w/data/part"), Argument("p", "input", "file", "ro", "/w/p"))]
    write_deps(str(tmp_path / "d"), "s", jobs, ["/c/mlcube.yaml"])
    text = (tmp_path / "d").read_text()
    assert "/w/p" in text and "/c/mlcube.yaml" in text and "/w/data" not in text


def test_escaping() -> None:
    assert escape("a b$c#d%e:f") == "a\\ b$$c\\#d%e\\:f"
    assert escape("%", target=True) == "\\%"
