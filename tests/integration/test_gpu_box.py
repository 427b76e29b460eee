"""The machine behind ssh that other tests use is what they take it for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.gpu_box import PASSWORD, SHELLS, USERS, Box, own_box

pytestmark = pytest.mark.ssh


def test_every_login_shell_starts_sh_and_reads_a_script(gpu_box: Box) -> None:
    for user in (*SHELLS, "bare", "skewed"):
        done = gpu_box.ssh(user, "id -un; echo \"it's <$HOME>\"\n")
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{user}\nit's </home/{user}>\n", b"")
    shells = gpu_box.text("getent passwd " + " ".join(SHELLS[1:]) + " | cut -d: -f7 | sed 's/.*\\///'").split()
    assert shells == list(SHELLS[1:])


def test_the_noisy_one_prints_before_the_script_and_the_bare_one_has_nothing(gpu_box: Box) -> None:
    noisy = gpu_box.ssh("noisy", "echo script\n")
    assert noisy.stdout.endswith(b"marsscript\n") and b"Welcome" in noisy.stdout and b"maintenance" in noisy.stderr
    absent = " || ".join(f"command -v {name}" for name in ("rsync", "docker", "python3", "apptainer"))
    bare = gpu_box.ssh("bare", f"{absent} || ls -d /\n")
    assert bare.stdout == b"/\n"


def test_the_clock_of_one_is_behind(gpu_box: Box) -> None:
    now = int(gpu_box.text("date +%s"))
    assert (now - int(gpu_box.ssh("skewed", "date +%s\n").stdout) + 60) // 3600 == 3


def test_docker_and_apptainer_are_its_own(gpu_box: Box) -> None:
    user = gpu_box.new_user(f"engines{os.getpid()}")
    try:
        gpu_box.write(f"/home/{user}/here/file", b"of the box\n", owner=user)
        for words in ("docker run --rm --mount type=bind,src=$HOME/here,dst=/in mlcube-test/tiny:latest",
                      "apptainer exec --bind $HOME/here:/in /images/tiny.sif"):
            done = gpu_box.ssh(user, f"{words} cat /in/file\n")
            assert (done.returncode, done.stdout) == (0, b"of the box\n"), done.stderr
    finally:
        gpu_box.remove_user(user)


def test_logins_and_calls_are_counted(gpu_box: Box) -> None:
    user = gpu_box.new_user(f"calls{os.getpid()}")
    try:
        gpu_box.forget_calls()
        gpu_box.ssh(user, ":\n")
        assert gpu_box.logins(user) == 1
        assert gpu_box.ssh_calls() == [["-T", user, "exec sh -s"]]
    finally:
        gpu_box.remove_user(user)


def test_a_machine_of_ones_own_is_cut_restarted_filled_and_renamed(broken_box: Box) -> None:
    assert {user: broken_box.ssh(user, ":\n").returncode for user in USERS if user != "prompted"} == dict.fromkeys(
        (user for user in USERS if user != "prompted"), 0)
    words = [broken_box.room / "bin/ssh", "ada", "sleep 60"]
    hanging = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    broken_box.until("pgrep -f '^sleep 60' >/dev/null")
    assert broken_box.cut() == 2 and hanging.wait(10) == 255
    hanging.communicate()
    broken_box.stop_sshd()
    assert b"refused" in (refused := broken_box.ssh("ada", ":\n").stderr) or b"closed" in refused or b"reset" in refused
    broken_box.start_sshd()
    assert broken_box.ssh("ada", ":\n").returncode == 0

    small = broken_box.small_disk("/small", 1)
    full = broken_box.ssh("ada", f"head -c 2000000 /dev/zero >{small}/big; rm {small}/big\n")
    assert b"No space left" in full.stderr
    broken_box.make_read_only(small)
    assert b"Read-only" in broken_box.ssh("ada", f": >{small}/new\n").stderr

    broken_box.change_host_key()
    assert b"IDENTIFICATION HAS CHANGED" in broken_box.ssh("ada", ":\n").stderr
    broken_box.trust_host()
    broken_box.forget_key()
    assert b"Permission denied" in broken_box.ssh("ada", ":\n").stderr


def test_a_silent_network_and_a_machine_behind_the_machine(broken_box: Box) -> None:
    with broken_box.silent(), pytest.raises(subprocess.TimeoutExpired):
        broken_box.ssh("ada", ":\n", timeout=1)
    assert broken_box.ssh("ada", ":\n").returncode == 0
    with own_box() as other:
        broken_box.add_machine_behind(other, "behind")
        other.write("/home/ada/name", b"the other one")
        assert broken_box.ssh("behind", "cat name\n").stdout == b"the other one"


def test_a_second_factor_is_asked_for(broken_box: Box, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    asked.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n", encoding="utf-8")
    asked.chmod(0o755)
    words = [broken_box.room / "bin/ssh", "prompted", "echo in"]
    with_it = {"SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force", **broken_box.environment}
    done = subprocess.run(words, env=with_it, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    assert done.stdout == b"in\n", done.stderr
    assert broken_box.ssh("prompted", ":\n").returncode == 255
