"""mlcube.pyz on Debian's own Pythons, and on file systems that only root can make: in containers, as nobody in particular."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Callable

import pytest

pytestmark = pytest.mark.docker

SUITES = ("bullseye", "bookworm", "trixie", "sid")
USER = "12345:12345"  # in no password file
CHECKED = "/opt/mlcube.pyz --version && /opt/mlcube.pyz validate --json /cube"
Inside = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def inside(pyz: Path, cube: Path) -> Inside:
    """Runs a script in a container of an image, with the pyz at /opt/mlcube.pyz and a cube at /cube, both read-only."""
    for path in (cube, *cube.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    def run(script: str, *options: str, image: str = "mlcube-test/python:bookworm",
            user: str = USER) -> subprocess.CompletedProcess[str]:
        mounts = [f"--mount=type=bind,source={source},target={target},readonly"
                  for source, target in ((pyz, "/opt/mlcube.pyz"), (cube, "/cube"))]
        return subprocess.run(["docker", "run", "--rm", "--network=none", f"--user={user}", *mounts, *options, image,
                               "sh", "-euc", script], capture_output=True, text=True, check=False, timeout=180)

    return run


def assert_checked(done: subprocess.CompletedProcess[str], rest: str = "") -> None:
    """CHECKED went well and said nothing else; `rest` is what the script printed after it."""
    assert (done.returncode, done.stderr) == (0, ""), done
    version, verdict = done.stdout.split("\n", 1)
    document, end = json.JSONDecoder().raw_decode(verdict)
    assert version.startswith("mlcube ") and document["valid"] is True and verdict[end:].strip() == rest


@pytest.mark.parametrize("home", ["/tmp/home", "/nonexistent"])
@pytest.mark.parametrize("suite", SUITES)
def test_debians_python_does_the_whole_job(inside: Inside, suite: str, home: str) -> None:
    """With a cache, twice, and without one."""
    job = f"{CHECKED} && /opt/mlcube.pyz describe /tmp/cube >/tmp/described && grep -q greet /tmp/described && " \
          "/opt/mlcube.pyz run /tmp/cube 2>/tmp/log && cat /tmp/cube/workspace/greeting.txt"
    done = inside(f"mkdir /tmp/home; cp -r /cube /tmp/cube; {job}; cp /tmp/described /tmp/first; "
                  f"({job}) >/dev/null; cmp /tmp/first /tmp/described", "--env", f"HOME={home}",
                  image=f"mlcube-test/python:{suite}")
    assert_checked(done, "hello world")


def test_a_real_older_python_finds_a_newer_one(inside: Inside) -> None:
    done = inside("python2.7 /opt/mlcube.pyz --version && python2.7 /opt/mlcube.pyz validate --json /cube",
                  image="mlcube-test/python:bullseye")
    assert_checked(done)


def test_a_real_older_python_alone_gets_one_sentence(inside: Inside) -> None:
    done = inside("PATH=/nowhere; /usr/bin/python2.7 /opt/mlcube.pyz --version", image="mlcube-test/python:bullseye")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1 and "needs Python 3.9 or newer" in done.stderr and "2.7" in done.stderr


@pytest.mark.parametrize("options", ["size=256k", "size=1m", "size=3m", "nr_inodes=1", "nr_inodes=6", "nr_inodes=200"])
def test_a_home_that_is_full_or_out_of_inodes_is_left_as_it_was(inside: Inside, options: str) -> None:
    done = inside(f"{CHECKED}; find /full -path '*/pyz/*' -o -name '*.partial'",
                  f"--tmpfs=/full:uid=12345,mode=700,{options}", "--env=HOME=/full")
    assert_checked(done)


def test_a_read_only_home(inside: Inside) -> None:
    assert_checked(inside(CHECKED, "--read-only", "--env=HOME=/home"))


def test_a_home_of_another_owner_is_not_written(inside: Inside) -> None:
    assert_checked(inside(CHECKED, "--env=HOME=/root"))
    done = inside(f"{CHECKED}; ls -A /theirs", "--tmpfs=/theirs:uid=12345,mode=777", "--env=HOME=/theirs", user="0:0")
    assert_checked(done)


def test_home_unset_and_a_user_without_a_name(inside: Inside) -> None:
    assert_checked(inside(f"unset HOME; cd /; {CHECKED}"))


def test_a_noexec_mount(inside: Inside) -> None:
    script = "cp /opt/mlcube.pyz /noexec; cd /noexec; sh mlcube.pyz --version; sh mlcube.pyz validate --json /cube; " \
             "python3 mlcube.pyz --version >&2; ./mlcube.pyz --version 2>&1 | grep -o 'ermission denied'"
    done = inside(script, "--tmpfs=/noexec:uid=12345,mode=700,noexec", "--env=HOME=/noexec")
    said_by_python = done.stderr
    assert said_by_python.startswith("mlcube ") and said_by_python.count("\n") == 1
    done.stderr = ""
    assert_checked(done, "ermission denied")


def test_a_file_system_without_locks(inside: Inside, tmp_path: Path) -> None:
    """flock, and the record locks of fcntl, fail as they do on an NFS mount without a lock daemon."""
    failing = {"action": "SCMP_ACT_ERRNO", "errnoRet": 37}
    commands = [{"index": 1, "value": command, "op": "SCMP_CMP_EQ"} for command in (6, 7)]
    profile = {"defaultAction": "SCMP_ACT_ALLOW",
               "syscalls": [{"names": ["flock"], **failing},
                            *({"names": ["fcntl"], "args": [command], **failing} for command in commands)]}
    (tmp_path / "seccomp.json").write_text(json.dumps(profile))
    proof = "import fcntl\ntry: fcntl.flock(0, fcntl.LOCK_EX)\nexcept OSError as error: print(error.errno)"
    done = inside(f"cp -r /cube /tmp/cube; {CHECKED}; /opt/mlcube.pyz run /tmp/cube 2>/dev/null; "
                  f"cat /tmp/cube/workspace/greeting.txt; ls -d /own/.cache/mlcube/pyz/*cpython* | wc -l; "
                  f"python3 -c '{proof}'",
                  f"--security-opt=seccomp={tmp_path}/seccomp.json", "--env=HOME=/own",
                  "--tmpfs=/own:uid=12345,mode=700")
    assert_checked(done, "hello world\n1\n37")


def test_a_machine_without_python_is_told_in_one_sentence(inside: Inside) -> None:
    done = inside("/opt/mlcube.pyz --version", image="mlcube-test/tiny:latest")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done
    assert "needs Python 3.9 or newer" in done.stderr


def test_hostile_variables_and_modules(inside: Inside) -> None:
    done = inside("mkdir /tmp/foreign; cd /tmp/foreign; for name in yaml attr json jsonschema plumbum mlcube_cli; do "
                  f"echo 'raise SystemExit(1)' >$name.py; done; export PYTHONPATH=/tmp/foreign; {CHECKED}",
                  "--tmpfs=/own:uid=12345,mode=700", "--env=HOME=/own", "--env=PYTHONHOME=/nonexistent",
                  "--env=SHIV_ENTRY_POINT=this:that")
    assert_checked(done)
