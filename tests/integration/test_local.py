"""The local runner on this machine: real environments, from a wheel that the test writes, so without any network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("drive_local.py")
SHOW = """\
import json, os, sys
import tiny
names = ("PYTHONPATH", "VIRTUAL_ENV", "PATH", "PYTHONUNBUFFERED", "FROM_SETUP", "GREETING")
print(json.dumps({"argv": sys.argv, "prefix": sys.prefix, "tiny": tiny.VERSION, "cwd": os.getcwd(),
                  "env": {name: os.environ.get(name) for name in names}}))
"""


def write_wheel(directory: Path, version: str = "1.0") -> Path:
    """A wheel of a package `tiny` with a program `tiny-tool`."""
    directory.mkdir(exist_ok=True)
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny/__init__.py": f"VERSION = {version!r}\n\n\ndef main():\n    print('tiny tool')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntiny-tool = tiny:main\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
               for name, text in files.items()}
    record = "".join(f"{name},sha256={digests[name]},{len(text)}\n" for name, text in files.items())
    path = directory / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, text)
    return path


class World:
    """A cube, a wheelhouse and a cache below one directory, and processes that run the cube there."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.cube, self.cache, self.wheels = base / "my cube", base / "cache", base / "wheels"
        self.cube.mkdir(parents=True)
        self.cache.mkdir(mode=0o700)
        write_wheel(self.wheels)
        (self.cube / "main.py").write_text(SHOW)
        self.options: dict[str, Any] = {"entrypoint": "main.py", "requirements": ["tiny"]}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
        self.environment = {**kept, "HOME": str(base), "MLCUBE_HOME": str(self.cache), "PIP_NO_INDEX": "1",
                            "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull,
                            "PATH": os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep)
                                                    if not (Path(p) / "uv").exists()),
                            "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'runners/shell'}"}
        self.fields: dict[str, Any] = {}

    def start(self, verb: str = "run", **environment: str) -> subprocess.Popen[bytes]:
        job = {"verb": verb, "root": str(self.cube), "options": self.options, **self.fields}
        process = subprocess.Popen([sys.executable, str(DRIVER)], cwd=self.base, env={**self.environment, **environment},
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
        stdout, stderr = process.communicate(timeout=180)
        return process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")

    def run(self, verb: str = "run", **environment: str) -> tuple[int, str, str]:
        return self.end(self.start(verb, **environment))

    def shown(self, **environment: str) -> dict[str, Any]:
        """What the cube's script says of itself, after a run that must succeed."""
        code, stdout, stderr = self.run(**environment)
        assert code == 0, stderr
        said = json.loads(stdout)
        assert isinstance(said, dict)
        return said

    @property
    def links(self) -> list[Path]:
        """The environments that count."""
        directory = self.cache / "environments"
        return sorted(path for path in directory.iterdir() if path.is_symlink()) if directory.is_dir() else []

    @property
    def made(self) -> list[Path]:
        """The directories that environments were made in, whole or not."""
        directory = self.cache / "environments"
        return sorted(path for path in directory.iterdir() if not path.is_symlink()) if directory.is_dir() else []


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose environment is there; tests that share it leave it whole."""
    world = World(tmp_path_factory.mktemp("used"))
    assert world.run("configure")[0] == 0
    return world


# --- what runs ----------------------------------------------------------------------------------------------------


def test_a_run_makes_the_environment_and_the_next_one_uses_it(used: World) -> None:
    used.fields = {"arguments": [["out", "output", "directory", "rw", str(used.cube / "workspace/out dir")]]}
    (link,) = used.links
    said = used.shown()
    assert said["argv"] == [str(used.cube / "main.py"), "train", f"--out={used.cube}/workspace/out dir"]
    assert (said["prefix"], said["tiny"], said["cwd"]) == (str(link), "1.0", str(used.cube))
    assert said["env"]["VIRTUAL_ENV"] == str(link) and said["env"]["PATH"].startswith(f"{link}/bin:")
    assert (used.cube / "workspace/out dir").is_dir()
    assert "[make the Python environment" not in used.run()[2]


def test_a_hostile_pythonpath_does_not_reach_the_task(used: World, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text("raise SystemExit('not the package that was asked for')")
    (tmp_path / "json.py").write_text("raise SystemExit('not the standard library')")
    path = f"{used.environment['PYTHONPATH']}{os.pathsep}{tmp_path}"
    (tmp_path / "json.py").unlink()  # the driver itself would read it
    assert used.shown(PYTHONPATH=path)["env"]["PYTHONPATH"] is None


def test_a_program_of_the_environment_runs_by_its_name(used: World) -> None:
    used.options = {**used.options, "entrypoint": "tiny-tool"}
    try:
        assert used.run()[:2] == (0, "tiny tool\n")
    finally:
        used.options = {**used.options, "entrypoint": "main.py"}


def test_the_printed_script_does_what_a_run_does(world: World) -> None:
    code, script, stderr = world.run("plan")
    assert code == 0, stderr
    assert world.made == []
    done = subprocess.run(["sh"], input=script, env=world.environment, cwd=world.base, capture_output=True, text=True,
                          check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["tiny"], said["prefix"]) == ("1.0", str(world.links[0]))
    assert "[make the Python environment" not in world.run()[2]


def test_a_task_keeps_its_exit_code(used: World) -> None:
    (used.cube / "fail.py").write_text("raise SystemExit(41)")
    used.options = {**used.options, "entrypoint": "fail.py"}
    try:
        assert used.run()[0] == 41
    finally:
        used.options = {**used.options, "entrypoint": "main.py"}


# --- environments are made once, and only whole ones count --------------------------------------------------------


def test_runs_that_start_together_make_it_once(world: World) -> None:
    ended = [world.end(process) for process in [world.start() for _ in range(3)]]
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    assert len({json.loads(stdout)["prefix"] for _, stdout, _ in ended}) == 1
    assert len(world.made) == 1


def test_an_installer_that_is_killed_leaves_nothing_that_counts(world: World) -> None:
    process = world.start("configure")
    installer = wait_for(lambda: find_process("pip", str(world.cache)))
    os.kill(installer, signal.SIGKILL)
    assert world.end(process)[0] != 0
    assert world.links == []
    assert world.shown()["tiny"] == "1.0"
    assert len(world.made) == 1


def test_a_killed_mlcube_leaves_nothing_that_counts_and_its_installer_spoils_nothing(world: World) -> None:
    process = world.start("configure")
    wait_for(lambda: find_process("venv", str(world.cache)))
    process.kill()
    world.end(process)
    assert world.shown()["tiny"] == "1.0"
    wait_for(lambda: find_process("mlcube", str(world.cache)) is None)
    assert world.shown()["tiny"] == "1.0"
    assert len(world.links) == 1


def test_an_installation_that_fails_says_why_and_counts_for_nothing(world: World) -> None:
    world.options["requirements"] = ["tiny==9"]
    code, _, stderr = world.run()
    assert code == 1 and "tiny==9" in stderr
    assert world.links == []
    write_wheel(world.wheels, "9")
    assert world.shown()["tiny"] == "9"


@pytest.mark.parametrize("harm", ["a file is gone", "python is gone", "the marker is gone", "everything is gone"])
def test_a_purged_environment_is_noticed_and_made_again(used: World, tmp_path: Path, harm: str) -> None:
    (link,) = used.links
    if harm == "a file is gone":
        next(link.glob("lib/python*/site-packages/tiny/__init__.py")).unlink()
    elif harm == "python is gone":
        (link / "bin/python").unlink()
    elif harm == "the marker is gone":
        (link / "mlcube-complete").unlink()
    else:
        shutil.rmtree(used.cache / "environments")
    assert used.shown()["tiny"] == "1.0"
    assert "[make the Python environment" not in used.run()[2]
    assert len(used.made) == 1


def test_what_a_task_adds_does_no_harm(used: World) -> None:
    (link,) = used.links
    (link / "cache of a package").write_text("x")
    assert "[make the Python environment" not in used.run()[2]


def test_a_moved_cache_is_noticed(world: World) -> None:
    assert world.shown()["tiny"] == "1.0"
    moved = world.base / "moved"
    world.cache.rename(moved)
    world.cache = moved
    said = world.shown(MLCUBE_HOME=str(moved))
    assert said["prefix"] == str(world.links[0]) and said["prefix"].startswith(str(moved))
    script = next(world.links[0].glob("bin/tiny-tool")).read_text()
    assert str(moved) in script


def test_force_makes_it_anew(used: World) -> None:
    before = os.readlink(used.links[0])
    assert used.run("configure")[0] == 0
    assert os.readlink(used.links[0]) == before
    assert used.run("force")[0] == 0
    assert os.readlink(used.links[0]) != before
    assert used.shown()["tiny"] == "1.0"


def test_requirements_in_files_with_includes_and_a_local_package(world: World) -> None:
    (world.cube / "build").mkdir()
    (world.cube / "build/requirements.txt").write_text("-r more/base.txt\n./packages/tiny-1.0-py3-none-any.whl\n")
    (world.cube / "build/more").mkdir()
    (world.cube / "build/more/base.txt").write_text("-c limits.txt\n")
    (world.cube / "build/more/limits.txt").write_text("tiny<2\n")
    (world.cube / "build/packages").mkdir()
    write_wheel(world.cube / "build/packages")
    world.options["requirements"] = "build/requirements.txt"
    assert world.shown(PIP_FIND_LINKS="")["tiny"] == "1.0"
    (world.cube / "build/more/limits.txt").write_text("tiny<3\n")
    assert "make the Python environment for build/requirements.txt" in world.run("plan")[1]


def test_settings_that_send_packages_elsewhere_do_not(world: World) -> None:
    target = world.base / "elsewhere"
    assert world.shown(PIP_USER="1", PIP_TARGET=str(target))["tiny"] == "1.0"
    assert not target.exists()


# --- shell lines --------------------------------------------------------------------------------------------------


def test_setup_lines_reach_installer_and_task(world: World) -> None:
    (world.cube / "site.sh").write_text(f"export FROM_SETUP='two words' PIP_FIND_LINKS='{world.wheels}'\n")
    world.options["setup"] = ["source ./site.sh", 'export GREETING="hello $FROM_SETUP"']
    world.options["workdir"] = "src"
    (world.cube / "src").mkdir()
    said = world.shown(PIP_FIND_LINKS="")
    assert (said["env"]["FROM_SETUP"], said["env"]["GREETING"]) == ("two words", "hello two words")
    assert (said["prefix"], said["cwd"]) == (str(world.links[0]), str(world.cube / "src"))
    assert said["env"]["PATH"].startswith(f"{world.links[0]}/bin:")


def test_modules_are_loaded_with_the_sites_own_initialisation(used: World, tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init/bash").write_text('module() { export FROM_SETUP="$*"; }\n')
    before, used.options = used.options, {**used.options, "interpreter": "system", "modules": ["cuda/12.4"],
                                          "entrypoint": ["sh", "-c", 'echo "$FROM_SETUP"']}
    try:
        code, stdout, stderr = used.run(MODULESHOME=str(tmp_path))
    finally:
        used.options = before
    assert (code, stdout) == (0, "load cuda/12.4\n"), stderr


def test_a_setup_line_that_fails_ends_the_task_and_is_named(used: World) -> None:
    before, used.options = used.options, {"entrypoint": "main.py", "setup": ["true", "ls /no/such/place", "echo on"]}
    try:
        code, stdout, stderr = used.run()
    finally:
        used.options = before
    assert code == 2 and stdout == ""
    assert "setup ended with exit code 2 at: ls /no/such/place" in stderr


# --- MLBox exec ---------------------------------------------------------------------------------------------------


def test_exec_lines_run_with_values_that_stay_values(world: World) -> None:
    world.options = {"kind": "exec", "directories": ["build/x"], "configure": ["echo configured > build/x/done"],
                     "run": ["cd build && pwd", 'echo "$out|${optimizer}|$mlbox_task"', "pwd",
                             'mkdir -p "$out" && cat build/x/done > "$out/seen"']}
    out = world.cube / "workspace/o u't"
    world.fields = {"dialect": "mlbox", "arguments": [["out", "output", "unknown", "rw", str(out)]],
                    "variables": {"optimizer": '"; echo harm; $(echo harm) `echo harm`'}}
    assert world.run("configure")[0] == 0
    code, stdout, stderr = world.run()
    assert code == 0, stderr
    assert stdout.splitlines() == [f"{world.cube}/build", f'{out}|"; echo harm; $(echo harm) `echo harm`|train',
                                   str(world.cube)]
    assert (out / "seen").read_text() == "configured\n"


def test_exec_stops_at_the_first_line_that_fails(world: World) -> None:
    world.options = {"kind": "exec", "run": ["echo one", "(exit 9)", "echo three"]}
    world.fields = {"dialect": "mlbox"}
    assert world.run()[:2] == (9, "one\n")


# --- conda and uv -----------------------------------------------------------------------------------------------------------


def test_conda_makes_the_environment_and_pip_installs_into_it(world: World) -> None:
    """A stand-in for conda that keeps what it was told, and makes what conda would make."""
    binaries = world.base / "bin"
    binaries.mkdir()
    conda = binaries / "conda"
    conda.write_text(f'''#!/bin/sh
printf '%s\\n' "$@" >"{world.base}/conda.words"
[ "$1 $2 $3" = "create --yes --prefix" ] && exec "{sys.executable}" -m venv "$4"
''')
    conda.chmod(0o755)
    world.options.update(interpreter="conda", python=f"3.{sys.version_info[1]}")
    said = world.shown(PATH=f"{binaries}{os.pathsep}{world.environment['PATH']}")
    assert (said["tiny"], said["prefix"]) == ("1.0", str(world.links[0]))
    words = (world.base / "conda.words").read_text().splitlines()
    assert words[4:] == [f"python=3.{sys.version_info[1]}", "pip"]


@pytest.mark.slow
def test_uv_makes_the_environment_with_pips_settings(world: World, tmp_path: Path) -> None:
    """Needs the package registry, for uv itself."""
    tools = tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True, timeout=120)
    subprocess.run([str(tools / "bin/python"), "-m", "pip", "install", "--quiet", "uv"], check=True, timeout=300)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "uv").symlink_to(tools / "bin/uv")
    path = f"{binaries}{os.pathsep}{world.environment['PATH']}"
    said = world.shown(PATH=path, UV_CACHE_DIR=str(tmp_path / "uv-cache"))
    assert (said["tiny"], said["prefix"]) == ("1.0", str(world.links[0]))
    assert "uv" in (world.links[0] / "pyvenv.cfg").read_text()
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nno-index = true\nfind-links = {world.wheels}\n")
    world.environment.update(PIP_CONFIG_FILE=str(settings))
    del world.environment["PIP_NO_INDEX"], world.environment["PIP_FIND_LINKS"]
    assert world.run("force", PATH=path, UV_CACHE_DIR=str(tmp_path / "uv-cache"))[0] == 0


# --- helpers ------------------------------------------------------------------------------------------------------


def find_process(*words: str) -> int | None:
    """A process whose command line holds all the words in different arguments or one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if all(word in line for word in words) and not line.startswith("sh\0"):
                return int(entry.name)
    return None


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """What `condition` returns once it is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")
