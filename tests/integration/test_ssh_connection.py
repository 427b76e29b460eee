"""The way to another machine on real ssh: one login for all, whose master nothing of ours ends, and what goes wrong by name."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.cli.connecting import connect, let_go
from mlcube_cli.command import Command, rsync_shell, ssh_value
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.parcels import Way
from mlcube_cli.process import Session, ask
from mlcube_shell.ssh_connection import (
    Connection,
    check_command,
    connect_command,
    connect_step,
    connection_of,
    place_of,
    remote_shell,
    rsync_host,
    trouble,
)
from tests.integration.gpu_box import PASSWORD, SHELLS, Box
from tests.world import job_of

pytestmark = pytest.mark.ssh

SCRIPT = "cat <<'END'\n'single' \"double\" $NAME `x` \\ \nä\t*\nEND\nexit 3\n"
SAID = "'single' \"double\" $NAME `x` \\ \nä\t*\n"


@dataclass
class Desk:
    """This machine as one that reaches the box: its environment, and a `~/.ssh/config` of the test's own."""

    box: Box
    place: Path
    environment: Mapping[str, str]

    def connection(self, host: str, **options: Any) -> Connection:
        platform = job_of("ssh", {"host": host, **options}).platform
        facts = replace(machine(self.environment), home=str(self.place))
        return with_facts(lambda known: connection_of(platform, known), facts)[0]

    def run(self, command: Command | None, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        assert command is not None
        return subprocess.run(command.argv, input=(command.stdin or b"").decode(), env=dict(self.environment), text=True,
                              capture_output=True, check=False, timeout=timeout, start_new_session=True)

    def script(self, connection: Connection, text: str) -> subprocess.CompletedProcess[str]:
        return self.run(place_of(connection).command(text))

    def configured(self, name: str, *lines: str, **changed: str) -> tuple[str, ...]:
        """`ssh_options` with a configuration of the test's own, for a host of this name that is the box."""
        given = {"HostName": "127.0.0.1", "Port": str(self.box.port), "User": "ada", "HostKeyAlias": self.box.container,
                 "IdentityFile": f"{self.box.room}/key", "IdentitiesOnly": "yes",
                 "UserKnownHostsFile": f"{self.box.room}/known_hosts", "GlobalKnownHostsFile": "none", **changed}
        path = self.place / f"config-{name}"
        path.write_text("\n".join((*lines, f"Host {name}", *(f"  {key} {value}" for key, value in given.items()), "")))
        return ("-F", str(path))


@pytest.fixture
def desk(gpu_box: Box, tmp_path: Path) -> Iterator[Desk]:
    run = gpu_box.room / f"run-{os.getpid()}-{time.monotonic_ns() % 10**6}"  # short, as a runtime directory is
    run.mkdir(mode=0o700)
    yield Desk(gpu_box, tmp_path, {**os.environ, **gpu_box.environment, "XDG_RUNTIME_DIR": str(run), "LC_ALL": "C.UTF-8"})
    for line in masters_at(f"{run}/"):
        os.kill(int(line.split()[0]), signal.SIGTERM)


@pytest.fixture
def counted_user(gpu_box: Box) -> Iterator[str]:
    """A user of this test's own, whose logins nobody else adds to."""
    user = gpu_box.new_user(f"log{os.getpid()}-{time.monotonic_ns() % 10**6}", "dash")
    yield user
    gpu_box.remove_user(user)


def masters_at(path: str) -> list[str]:
    """`PID SESSION ARGUMENTS` of each ssh whose socket's path begins so; a master calls itself `ssh: PATH [mux]`."""
    lines = subprocess.run(["ps", "-eo", "pid,sid,args", "ww"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.strip() for line in lines if f" ssh: {path}" in line or (f"ControlPath={path}" in line and " -T " in line)]


# --- one master ------------------------------------------------------------------------------------------------------


def test_one_login_serves_all_that_follows(desk: Desk, counted_user: str) -> None:
    found = desk.connection(counted_user)
    assert desk.run(check_command(found)).returncode == 255 or desk.run(check_command(found)).returncode == 1
    done = desk.run(connect_command(found))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert desk.run(check_command(found)).returncode == 0
    for _ in range(3):
        said = desk.script(found, SCRIPT)
        assert (said.returncode, said.stdout, said.stderr) == (3, SAID, "")
    (desk.place / "a file").write_text("1")
    sent = subprocess.run(["rsync", "--secluded-args", f"--rsh={remote_shell(found)}", f"{desk.place}/a file",
                           f"{rsync_host(found)}:/tmp/{desk.place.name} $x"], env=dict(desk.environment), check=False,
                          capture_output=True, text=True)
    assert sent.returncode == 0, sent.stderr
    assert desk.script(found, f"cat '/tmp/{desk.place.name} $x'; rm '/tmp/{desk.place.name} $x'").stdout == "1"
    assert desk.box.logins(counted_user) == 1
    subprocess.run(["ssh", "-o", f"ControlPath={found.control_path}", "-O", "exit", counted_user], env=dict(desk.environment),
                   check=True, capture_output=True, timeout=60)
    assert desk.run(check_command(found)).returncode != 0
    assert masters_at(found.control_path) == []


@pytest.mark.parametrize("user", [*SHELLS, "noisy", "bare"])
def test_every_login_shell_carries_scripts_out(desk: Desk, user: str) -> None:
    found = desk.connection(user)
    assert desk.run(connect_command(found)).returncode == 0
    said = desk.script(found, SCRIPT)
    assert (said.returncode, said.stdout[-len(SAID):]) == (3, SAID)


def test_the_master_outlives_what_started_it_and_nothing_waits_for_it(desk: Desk) -> None:
    found = desk.connection("ada")
    began = time.monotonic()
    words = " ".join(shlex.quote(word) for word in connect_command(found).argv)
    done = subprocess.run(["sh", "-c", f"{words} 2>&1 | cat; kill -INT 0"], env=dict(desk.environment), start_new_session=True,
                          check=False, capture_output=True, text=True, timeout=60)  # the pipe ends with the words
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
    assert time.monotonic() - began < 20
    (line,) = masters_at(found.control_path)
    assert line.split()[0] == line.split()[1], "it leads a session of its own"
    assert desk.run(check_command(found)).returncode == 0


def test_an_unused_master_ends_by_itself_and_one_in_use_does_not(desk: Desk) -> None:
    found = desk.connection("ada", control_persist="1s")
    desk.run(connect_command(found))
    assert desk.script(found, "sleep 3; echo still\n").stdout == "still\n"
    until = time.monotonic() + 10
    while masters_at(found.control_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert masters_at(found.control_path) == []


def test_of_several_that_start_at_the_same_time_one_stays(desk: Desk) -> None:
    found = desk.connection("ada")
    command = connect_command(found)
    racing = [subprocess.Popen(command.argv, env=dict(desk.environment), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
              for _ in range(5)]
    assert [process.wait(60) for process in racing] == [0] * 5
    assert desk.run(check_command(found)).returncode == 0
    assert desk.run(command).returncode == 0, "and one more does no harm"
    assert len(masters_at(found.control_path)) == 1


def test_the_socket_of_a_killed_master_is_taken_over(desk: Desk) -> None:
    found = desk.connection("ada")
    desk.run(connect_command(found))
    (line,) = masters_at(found.control_path)
    os.kill(int(line.split()[0]), signal.SIGKILL)
    assert os.path.exists(found.control_path)
    assert desk.run(check_command(found)).returncode != 0
    assert desk.run(connect_command(found)).returncode == 0
    assert desk.run(check_command(found)).returncode == 0
    assert len(masters_at(found.control_path)) == 1


def test_the_master_stays_up_as_long_as_the_command_line_however_short_it_would_persist(
        desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in desk.environment.items():
        monkeypatch.setenv(name, value)
    found = desk.connection("ada", control_persist=0)
    way = Way(place_of(found), connect_step(found), socket=found.control_path)
    with Session() as session:
        for _ in range(2):  # as after a lost connection
            connect(way, session)
    time.sleep(2.5)
    assert desk.run(check_command(found)).returncode == 0, "nobody is asked for a password in the middle"
    let_go(found.control_path)
    time.sleep(2.5)
    assert desk.run(check_command(found)).returncode != 0


def test_without_a_master_the_words_still_lead_there(desk: Desk) -> None:
    said = desk.script(desk.connection("ada"), SCRIPT)
    assert (said.returncode, said.stdout) == (3, SAID)
    assert masters_at(desk.environment["XDG_RUNTIME_DIR"]) == []


def test_the_users_own_master_is_used_and_left_alone(desk: Desk, counted_user: str) -> None:
    socket = desk.box.room / f"own-{time.monotonic_ns() % 10**6}"
    options = list(desk.configured("mine", ControlMaster="auto", ControlPath=str(socket), ControlPersist="60",
                                   User=counted_user))
    theirs = ["ssh", *options, "-o", "ControlPersist=60", "-N", "-f", "mine"]
    assert desk.connection("mine", ssh_options=options).control_path != "", "it is not up yet"
    try:
        assert subprocess.run(theirs, env=dict(desk.environment), check=False, stdin=subprocess.DEVNULL).returncode == 0
        found = desk.connection("mine", ssh_options=options)
        assert found.control_path == ""
        assert desk.run(check_command(found)).returncode == 0
        assert desk.script(found, SCRIPT).stdout == SAID
        assert desk.box.logins(counted_user) == 1
    finally:
        subprocess.run(["ssh", *options, "-O", "exit", "mine"], env=dict(desk.environment), check=False, capture_output=True)


def test_settings_of_the_user_that_would_get_in_the_way(desk: Desk) -> None:
    options = list(desk.configured("rude", RemoteCommand="echo remote", RequestTTY="force", ForwardX11="yes", StdinNull="yes",
                                   LocalForward=f"127.0.0.1:{desk.box.port} localhost:1", ExitOnForwardFailure="yes",
                                   SessionType="none", ForkAfterAuthentication="yes", ControlMaster="yes", ControlPath="none"))
    found = desk.connection("rude", ssh_options=options)
    done = desk.run(connect_command(found))
    assert (done.returncode, done.stderr) == (0, "")
    said = desk.script(found, SCRIPT)
    assert (said.returncode, said.stdout, said.stderr) == (3, SAID, "")


# --- who asks for a password -----------------------------------------------------------------------------------------


def on_terminal(command: Command, environment: Mapping[str, str], answers: list[str]) -> tuple[int, str]:
    """Exit code, and what the terminal showed: after each prompt the next answer is typed."""
    pid, terminal = pty.fork()
    if pid == 0:  # what leads the terminal's session, as a shell does, is still there when ssh leaves it
        os.execvpe("sh", ("sh", "-c", '"$@"; code=$?; sleep 0.5; exit $code', "sh", *command.argv), dict(environment))
    seen, until = "", time.monotonic() + 30
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            seen += os.read(terminal, 4096).decode()
        except OSError:
            break
        if answers and seen.rstrip().endswith((":", "?")):
            seen += "\n"
            os.write(terminal, answers.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen


def test_a_password_is_asked_for_on_the_terminal_and_only_once(desk: Desk) -> None:
    found = desk.connection("prompted")
    refused = desk.script(found, ":\n")
    assert refused.returncode == 255
    assert "does not let you in" in str(trouble(ask(place_of(found).command(":\n"), environment=desk.environment), found))
    code, seen = on_terminal(connect_command(found), desk.environment, [PASSWORD])
    assert code == 0, seen
    assert "assword" in seen and PASSWORD not in seen
    assert desk.run(check_command(found)).returncode == 0, "the terminal is closed, and the master is up"
    assert desk.script(found, SCRIPT).stdout == SAID


def test_without_a_terminal_nobody_is_asked(desk: Desk) -> None:
    began = time.monotonic()
    done = desk.run(connect_command(desk.connection("prompted")))
    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    assert time.monotonic() - began < 15


# --- what goes wrong -------------------------------------------------------------------------------------------------


def error_of(desk: Desk, connection: Connection) -> str:
    """What the user reads when the master cannot be made; nothing of it is left."""
    done = desk.run(connect_command(connection))
    assert done.returncode != 0
    assert masters_at(connection.control_path) == []
    said = ask(connect_command(connection), environment={**desk.environment, "SSH_ASKPASS": "", "DISPLAY": ""})
    error = trouble(replace(said, stderr=done.stderr), connection)
    assert error.exit_code == 4
    return f"{error.message}\n{error.hint}"


def key_of(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return str(path)


def test_a_wrong_key(desk: Desk) -> None:
    options = list(desk.configured("wrong", IdentityFile=key_of(desk.place / "other")))
    error = error_of(desk, desk.connection("wrong", ssh_options=options))
    assert "wrong cannot be reached: the host does not let you in" in error and "try it by hand: ssh wrong" in error


def test_a_key_that_is_not_there_and_one_that_others_can_read(desk: Desk) -> None:
    options = list(desk.configured("host", IdentityFile="none"))
    absent = desk.connection("host", ssh_options=options, identity_file=str(desk.place / "absent"))
    assert "the private key is not there" in error_of(desk, absent)
    path = desk.place / "open"
    path.write_bytes((desk.box.room / "key").read_bytes())  # ssh reads it only once the host has said that it would do
    path.chmod(0o644)
    assert "others can read the private key" in error_of(desk, desk.connection("host", ssh_options=options,
                                                                               identity_file=str(path)))


def test_a_host_key_that_has_changed(desk: Desk) -> None:
    other = Path(key_of(desk.place / "hostkey") + ".pub").read_text().split()
    known = desk.place / "known"
    known.write_text(f"{desk.box.container} {other[0]} {other[1]}\n")
    options = list(desk.configured("changed", UserKnownHostsFile=str(known)))
    for host_key in (None, "strict", "accept-new"):
        error = error_of(desk, desk.connection("changed", ssh_options=options, host_key=host_key))
        assert "the host's key is another one than before" in error


def test_a_host_key_that_nobody_has_seen(desk: Desk) -> None:
    known = desk.place / "known"
    options = list(desk.configured("new", UserKnownHostsFile=str(known)))
    assert "there is no terminal to ask you on" in error_of(desk, desk.connection("new", ssh_options=options))
    assert "host_key is strict" in error_of(desk, desk.connection("new", ssh_options=options, host_key="strict"))
    code, seen = on_terminal(connect_command(desk.connection("new", ssh_options=options)), desk.environment, ["no"])
    assert code == 255 and "fingerprint" in seen
    assert not known.exists()
    found = desk.connection("new", ssh_options=options, host_key="accept-new")
    assert desk.run(connect_command(found)).returncode == 0
    assert desk.box.container in known.read_text()


@pytest.mark.parametrize(("changed", "sentence"), [
    ({"HostName": "no-such-host.invalid"}, "there is no such host"),
    ({"Port": "1"}, "nothing listens there"),
    ({"ProxyJump": "no-such-host.invalid"}, "the host to go through"),
    ({"ProxyCommand": "sleep 30", "ConnectTimeout": "1"}, "the host does not answer in time"),
    ({"ProxyCommand": "true"}, "the host to go through, or your ProxyCommand, does not get there"),
])
def test_a_host_that_is_not_reached(desk: Desk, changed: dict[str, str], sentence: str) -> None:
    options = list(desk.configured("host", **changed))
    assert f"host cannot be reached: {sentence}" in error_of(desk, desk.connection("host", ssh_options=options))


def test_too_many_keys(desk: Desk) -> None:
    keys = [f"  IdentityFile {key_of(desk.place / f'key{number}')}" for number in range(7)]
    options = list(desk.configured("many", "Host many", *keys))
    assert "your agent holds too many" in error_of(desk, desk.connection("many", ssh_options=options))


# --- words -----------------------------------------------------------------------------------------------------------

ODD = ("plain", "a b", "", "it's", '"', "'", "''", "\\", "\\ ", "a\nb", "\t", "$HOME", "`x`", "*", "ä", "%h", "--", "a'\"b c\\",
       "\udcff", " ", "'a b'")


def test_rsync_splits_its_shell_as_we_quote_it(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    show = tmp_path / "show words"
    show.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >'{shown}'\nexit 1\n")
    show.chmod(0o755)
    subprocess.run(["rsync", f"--rsh={rsync_shell((str(show), *ODD))}", str(show), "host:x"], check=False, capture_output=True)
    words = os.fsdecode(shown.read_bytes()).split("\0")
    assert words[:len(ODD)] == list(ODD)
    assert words[len(ODD)] == "host"


@pytest.mark.parametrize("name", [
    "plain", "a b", "100% mine", "it's", 'a"b', "back\\slash", "trailing ", "#x", "a=b", "$x", "ä~"])
def test_ssh_takes_keys_of_any_name(desk: Desk, name: str) -> None:
    key = Path(desk.place / name)
    key.write_bytes((desk.box.room / "key").read_bytes())
    key.chmod(0o600)
    options = list(desk.configured("host", IdentityFile="none"))
    found = desk.connection("host", ssh_options=options, identity_file=str(key).replace("$", "$$"))
    assert f"IdentityFile={ssh_value(str(key))}" in place_of(found).reach
    assert desk.script(found, SCRIPT).stdout == SAID
