"""mlcube.pyz starts everywhere: under each Python, by each way of calling it, in each hostile environment."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.package.tools import CHECKOUT, PATH, Start, assert_valid, assert_version, interpreters

SEPARATOR = b"\n#---\n"


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all of this module: the first start has its own tests."""
    return tmp_path_factory.mktemp("home")


def one_liner(pyz: Path) -> str:
    """What the sh header gives to `python3 -c`."""
    found = re.search(rb"set -- '(import sys;.*)' \"\$@\"\n", pyz.read_bytes().split(SEPARATOR)[0])
    assert found
    return found[1].decode()


# --- the file --------------------------------------------------------------------------------------------------------


def test_two_builds_are_the_same_bytes(pyz: Path, tmp_path: Path) -> None:
    """Other directory, umask, time zone, hash seed and times of files; and the second asks no package index."""
    one, other = tmp_path / "one", tmp_path / "two/deeper"
    for name in ("mlcube_cli", "runners", "mlbox", "schemas", "packaging", "build-pyz", "LICENSE"):
        copy_of(CHECKOUT / name, one / name)
    copy_of(one, other)
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    environments = {one: {"umask": "022", "TZ": "UTC"},
                    other: {"umask": "077", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "PIP_NO_INDEX": "1",
                            "PIP_FIND_LINKS": "/nonexistent"}}
    for sources, env in environments.items():
        command = f"umask $umask; exec '{sys.executable}' packaging/build_pyz.py -o out.pyz"
        subprocess.run(["sh", "-c", command], cwd=sources, check=True, capture_output=True, timeout=300,
                       env={**os.environ, **env})
    assert (one / "out.pyz").read_bytes() == (other / "out.pyz").read_bytes()


def copy_of(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_the_checksum_beside_it_is_right(pyz: Path) -> None:
    digest, name = (pyz.parent / "mlcube.pyz.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(pyz.read_bytes()).hexdigest(), "mlcube.pyz")


def test_it_is_a_whole_zip_of_pure_python_with_every_licence(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
    assert not [name for name in names if name.endswith((".so", ".pyc", ".pyd"))]
    for library in ("attrs", "jsonschema", "mlcube", "plumbum", "pyrsistent", "pyyaml", "typing_extensions"):
        assert [name for name in names
                if re.match(rf"licences/{library}(-[0-9.]+)?/(LICENSE|COPYING)", name)], library


def test_everything_needed_is_locked_by_hash() -> None:
    lock = (CHECKOUT / "packaging/requirements.lock").read_text()
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


# --- each Python, each way of calling it -----------------------------------------------------------------------------


def test_each_python_validates_from_a_copy_and_in_place(pyz: Path, cube: Path, python: str, start: Start) -> None:
    for env in ({"MLCUBE_PYTHON": python}, {"MLCUBE_PYTHON": python},  # makes the copy, uses it
                {"MLCUBE_PYTHON": python, "HOME": "/proc"}):  # no cache: imports from inside the zip
        assert_version(start(pyz, "--version", env=env))
        assert_valid(start(pyz, "validate", "--json", cube, env=env))
        described = start(pyz, "describe", cube, env=env)
        assert (described.returncode, described.stderr) == (0, "") and "greet" in described.stdout


def test_each_python_runs_a_task(pyz: Path, cube: Path, python: str, start: Start) -> None:
    for home in ("home", "/proc"):
        done = start(pyz, "run", cube, env={"MLCUBE_PYTHON": python, **({"HOME": home} if home == "/proc" else {})})
        assert done.returncode == 0, done
        assert (cube / "workspace/greeting.txt").read_text() == "hello world\n"
        (cube / "workspace/greeting.txt").unlink()


def test_each_python_runs_it_as_an_argument(pyz: Path, cube: Path, python: str, start: Start) -> None:
    assert_version(start(python, pyz, "--version"))
    assert_valid(start(python, pyz, "validate", "--json", cube))


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh", "sh"])
def test_each_shell_starts_it(pyz: Path, start: Start, shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        shell = "sh"  # the system's own
    assert_version(start(*shell.split(), pyz, "--version"))
    assert_version(start(*shell.split(), pyz.name, "--version", cwd=pyz.parent))


@pytest.mark.parametrize("directory", ["with space", "it's", 'a "quote"', "new\nline", "$HOME", "-dash", "*", "ünïcode"])
def test_any_path_holds_it(pyz: Path, start: Start, tmp_path: Path, directory: str) -> None:
    place = tmp_path / directory
    place.mkdir()
    shutil.copy(pyz, place / "my mlcube")
    assert_version(start(place / "my mlcube", "--version"))
    assert_version(start("./my mlcube", "--version", cwd=place))
    assert_version(start("sh", "my mlcube", "--version", cwd=place))


def test_a_path_that_is_not_utf8_holds_it(pyz: Path, start: Start, tmp_path: Path) -> None:
    place = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    os.mkdir(place)
    shutil.copy(pyz, place)
    assert_version(start(f"{place}/mlcube.pyz", "--version"))


def test_it_is_found_on_path(pyz: Path, start: Start) -> None:
    path = {"PATH": f"{PATH}:{pyz.parent}"}
    assert_version(start("sh", "-c", "mlcube.pyz --version", env=path))
    if shutil.which("bash"):
        assert_version(start("bash", "mlcube.pyz", "--version", env=path))


def test_another_name_is_mlcube_and_an_applets_name_is_the_applet(pyz: Path, start: Start, tmp_path: Path) -> None:
    shutil.copy(pyz, tmp_path / "cubes")
    usage = start(tmp_path / "cubes", "--help").stdout
    assert usage == start(pyz, "--help").stdout and usage
    (tmp_path / "mlbox").symlink_to(pyz)
    applet = start(tmp_path / "mlbox", "--help").stdout
    assert "mlbox" in applet and applet != usage
    assert start("sh", "-c", "mlbox --help", env={"PATH": f"{tmp_path}:{PATH}"}).stdout == applet
    (tmp_path / "link").symlink_to(tmp_path / "cubes")
    assert start(tmp_path / "link", "--help").stdout == usage


def test_python_m_mlbox_works_from_the_file(pyz: Path, start: Start, tmp_path: Path, python: str) -> None:
    (tmp_path / "mlbox").symlink_to(pyz)
    done = start(python, "-m", "mlbox", "--help", env={"PYTHONPATH": str(pyz)}, cwd=Path("/"))
    assert (done.returncode, done.stdout) == (0, start(tmp_path / "mlbox", "--help").stdout)


def test_the_file_on_pythonpath_gives_tasks_none_of_its_libraries(pyz: Path, start: Start) -> None:
    done = start(sys.executable, "-S", "-c", "import mlbox, yaml", env={"PYTHONPATH": str(pyz)})
    assert "No module named 'yaml'" in done.stderr


# --- hostile environments --------------------------------------------------------------------------------------------


def test_foreign_modules_are_not_imported(pyz: Path, cube: Path, start: Start, tmp_path: Path) -> None:
    names = ("yaml", "attr", "jsonschema", "plumbum", "pyrsistent", "mlcube_cli", "mlcube_shell", "mlcube_unpack")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('foreign {name} imported')\n")
    for env in ({"PYTHONPATH": str(tmp_path)}, {"PYTHONPATH": str(tmp_path), "HOME": "/proc"}):
        assert_valid(start(pyz, "validate", "--json", cube, env=env))
        assert_valid(start(sys.executable, pyz, "validate", "--json", cube, env=env))


def test_variables_for_python_and_shiv_do_not_reach_it(pyz: Path, cube: Path, start: Start, tmp_path: Path) -> None:
    env = {"PYTHONHOME": "/nonexistent", "PYTHONSTARTUP": "/nonexistent", "PYTHONINSPECT": "1", "PYTHONOPTIMIZE": "2",
           "PYTHONWARNINGS": "error", "PYTHONPYCACHEPREFIX": str(tmp_path / "pycache"), "SHIV_ROOT": "/nonexistent",
           "SHIV_ENTRY_POINT": "this:that", "SHIV_INTERPRETER": "1", "SHIV_FORCE_EXTRACT": "1"}
    for _ in range(2):
        assert_valid(start(pyz, "validate", "--json", cube, env=env))
    assert not (tmp_path / "pycache").exists()


def test_they_do_reach_the_task(pyz: Path, cube: Path, start: Start) -> None:
    (cube / "greet.sh").write_text('echo "$PYTHONHASHSEED $self $python $start"\n' + (cube / "greet.sh").read_text())
    done = start(pyz, "run", cube, env={"PYTHONHASHSEED": "11", "self": "a", "python": "b", "start": "c"})
    assert (done.returncode, done.stdout) == (0, "11 a b c\n"), done


def test_an_older_python_first_on_path_finds_a_newer_one(pyz: Path, start: Start, tmp_path: Path) -> None:
    newest = max(interpreters(), key=lambda version: int(version.split(".")[1]))
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (bin_directory / f"python{newest}").symlink_to(interpreters()[newest])
    for minor in range(int(newest.split(".")[1]) + 1, 15):  # what a version manager leaves for one that is not there
        (bin_directory / f"python3.{minor}").write_text("#!/bin/sh\necho 'this is a stand-in' >&2\nexit 127\n")
        (bin_directory / f"python3.{minor}").chmod(0o755)
    for older in older_pythons(tmp_path):
        assert_version(start(pyz, "--version", env={"PATH": f"{older}:{bin_directory}:/bin"}))
        assert_version(start(older / "python3", pyz, "--version", env={"PATH": f"{bin_directory}:/bin"}))


def test_an_older_python_alone_is_told_in_one_sentence(pyz: Path, start: Start, tmp_path: Path) -> None:
    for older in older_pythons(tmp_path):
        done = start(pyz, "--version", env={"PATH": str(older)})
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done
        assert "needs Python 3.9 or newer" in done.stderr
        done = start(pyz, "--version", env={"MLCUBE_PYTHON": str(older / "python3")})
        assert (done.returncode, done.stderr.count("\n")) == (4, 1) and "MLCUBE_PYTHON" in done.stderr, done


def test_what_an_older_python_reads_is_in_its_syntax() -> None:
    """The stand-in is a new Python, and would read anything."""
    tree = ast.parse((CHECKOUT / "packaging/older.py").read_text(), feature_version=(3, 7))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef)
    assert [node for node in ast.walk(tree) if isinstance(node, newer)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions and not [node.name for node in functions if node.returns or node.args.kwonlyargs]
    assert [node for node in ast.walk(tree) if isinstance(node, ast.arg) and node.annotation] == []


def test_no_python_at_all_is_told_in_one_sentence(pyz: Path, start: Start) -> None:
    for env in ({"PATH": "/nonexistent"}, {"MLCUBE_PYTHON": "/nonexistent/python"}, {"MLCUBE_PYTHON": "/"}):
        done = start(pyz, "--version", env=env)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done


def older_pythons(tmp_path: Path) -> list[Path]:
    """Directories whose python3 is too old: a stand-in for one, and the real ones on PATH."""
    stand_in = tmp_path / "stand-in"
    stand_in.mkdir()
    pretend = 'import sys; sys.version_info = (3, 6, 15, "final", 0); exec(sys.argv.pop(1))'
    run_file = 'import sys; sys.argv.pop(0); exec(open(sys.argv[0], "rb").read().split(b"\\n#---\\n")[2], ' \
               '{"__name__": "__main__", "archive": open(sys.argv[0], "rb")})'
    (stand_in / "python3").write_text(f"""#!/bin/sh
case $1 in
-I) code=$4; shift 4; exec {sys.executable} -I -S -c '{pretend}' "$code" "$@" ;;
*) exec {sys.executable} -I -S -c '{run_file}' "$@" ;;
esac
""")
    (stand_in / "python3").chmod(0o755)
    found = [stand_in]
    for name in ("python3.8", "python3.7", "python3.6"):
        real = shutil.which(name)
        if real and subprocess.run([real, "-c", ""], capture_output=True, check=False).returncode == 0:
            directory = tmp_path / name
            directory.mkdir()
            (directory / "python3").symlink_to(real)
            found.append(directory)
    return found


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_a_closed_stdout_ends_it_quietly(pyz: Path, cube: Path, start: Start) -> None:
    for words in ("--version", f"describe {cube}", "schema mlcube"):
        done = start("bash", "-c", f"(sleep 0.3; {pyz} {words}; echo $? >&2) | true")
        assert done.stderr == f"{128 + signal.SIGPIPE}\n", done
        done = start("sh", "-c", f"{pyz} {words} >&-")
        assert (done.returncode, done.stderr) == (0, ""), done


def test_a_full_disk_under_stdout_is_an_error_without_traceback(pyz: Path, start: Start) -> None:
    done = start("sh", "-c", f"{pyz} --version >/dev/full")
    assert done.returncode == 4 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done


def test_a_cut_off_file_says_so(pyz: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(pyz.read_bytes()[:200_000])
    (tmp_path / "cut").chmod(0o755)
    for env in ({"HOME": str(tmp_path)}, {"HOME": "/proc"}):
        done = start(tmp_path / "cut", "--version", env=env)
        assert (done.returncode, done.stderr.count("\n")) == (4, 1) and "is damaged" in done.stderr, done


# --- what a start imports --------------------------------------------------------------------------------------------


def imported(pyz: Path, start: Start, *words: str) -> set[str]:
    """The modules that a second start with the same words imports; those that import_module names are not told."""
    start(pyz, *words, env={"MLCUBE_PYTHON": sys.executable})  # makes the copy, and the verdicts
    done = start(sys.executable, "-I", "-S", "-X", "importtime", "-c", one_liner(pyz), pyz, *words)
    assert done.returncode == 0, done
    return {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_version_imports_nothing_of_weight(pyz: Path, start: Start) -> None:
    found = imported(pyz, start, "--version")
    denied = {"argparse", "json", "re", "typing", "dataclasses", "subprocess", "zipfile", "shutil", "logging", "enum",
              "pathlib", "yaml", "jsonschema", "plumbum", "mlcube_cli.cli", "collections"}
    assert not found & denied and "mlcube_cli.__main__" in found


@pytest.mark.parametrize("verb", ["describe", "validate", "show-config"])
def test_reading_an_unchanged_cube_imports_no_validator_and_nothing_that_runs(pyz: Path, cube: Path, start: Start,
                                                                              verb: str) -> None:
    found = imported(pyz, start, verb, str(cube))
    denied = {"jsonschema", "plumbum", "attr", "yaml", "subprocess", "urllib.request", "logging", "zipfile", "pathlib",
              "typing", "argparse", "gettext", "locale", "shutil", "tempfile",
              "shlex", "hashlib", "traceback", "mlcube_cli.definition.schema", "mlcube_cli.runner", "mlcube_cli.process",
              "mlcube_shell.environments", "mlcube_shell.mounts"}
    if verb != "show-config":  # it quotes with json
        denied |= {"json"}
    assert found & denied == set() and "mlcube_cli.cli" in found


def test_a_dry_run_imports_no_validator_and_nothing_that_starts_processes(pyz: Path, cube: Path, start: Start) -> None:
    found = imported(pyz, start, "run", "--dry-run", str(cube))
    denied = {"jsonschema", "plumbum", "attr", "yaml", "subprocess", "urllib.request", "logging", "zipfile", "pathlib",
              "argparse", "gettext", "locale", "shutil"}
    assert found & denied == set() and "mlcube_shell.environments" in found
