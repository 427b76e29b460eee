"""The way to another machine: what a platform's options become in ssh's words, what is refused, and what ssh's errors mean."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Command, find_reason, rsync_shell, ssh_value
from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Observation
from mlcube_shell.ssh_connection import (
    REASONS,
    Connection,
    check_command,
    connect_command,
    connect_step,
    connection_of,
    place_of,
    reasons_of,
    remote_shell,
    rsync_host,
    trouble,
)
from tests.world import World, job_of

# What `ssh -G` says of a host that nobody configured (OpenSSH 9.2), as far as it matters.
PLAIN = {"user": "me", "port": "22", "serveraliveinterval": "0", "connecttimeout": "none", "sessiontype": "default",
         "stdinnull": "no", "forkafterauthentication": "no", "forwardx11": "no", "controlpersist": "no"}
ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
LAST = (*ALIVE, "-o", "ConnectTimeout=30")


def world_of(settings: Mapping[str, str] | None = None, master: bool = False, **fields: Any) -> World:
    """A machine with ssh, whose configuration says this; `master`: one is up on the user's own socket."""
    text = "".join(f"{name} {value}\n" for name, value in {**PLAIN, **(settings or {})}.items())
    probes = {"^ssh -G ": {"stdout": text}, "^ssh -O check": {"exit_code": 0 if master else 255}}
    return World(**{"tools": {"ssh": "/usr/bin/ssh"}, "probes": probes, **fields})


def connection(options: Mapping[str, Any], world: World | None = None, secret: tuple[str, ...] = ()) -> Connection:
    platform = job_of("ssh", {"host": "box", **options}, secret=secret).platform
    return (world or world_of()).decide(lambda facts: connection_of(platform, facts))


def words_of(options: Mapping[str, Any], world: World | None = None) -> tuple[str, ...]:
    """The words that the options add in front of the host, behind those that are always there."""
    reach = place_of(connection(options, world)).reach
    assert reach[:6] == ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no")
    assert reach[6] == "-o" and reach[7].startswith("ControlPath=")
    assert reach[-1] == "exec sh -s"
    return reach[8:-2]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({}, LAST),
    ({"user": "ada"}, ("-l", "ada", *LAST)),
    ({"user": "DOM\\ada b"}, ("-l", "DOM\\ada b", *LAST)),
    ({"host": "ada@box"}, ("-l", "ada", *LAST)),
    ({"host": "ada@box", "user": "eve"}, ("-l", "eve", *LAST)),
    ({"port": 2222}, ("-p", "2222", *LAST)),
    ({"port": "22"}, ("-p", "22", *LAST)),
    ({"identity_file": "/k"}, ("-o", "IdentityFile=/k", *LAST)),
    ({"identity_file": "~/.ssh/k"}, ("-o", "IdentityFile=/home/user/.ssh/k", *LAST)),
    ({"identity_file": "$KEYS/k"}, ("-o", "IdentityFile=/keys/k", *LAST)),
    ({"identity_file": "k"}, ("-o", "IdentityFile=/home/user/k", *LAST)),
    ({"identity_file": "/a b%'\"\\"}, ("-o", 'IdentityFile="/a b%%\'\\"\\\\"', *LAST)),
    ({"jump": "login.example.org"}, ("-J", "login.example.org", *LAST)),
    ({"jump": "ada@one:22,[::1]:23"}, ("-J", "ada@one:22,[::1]:23", *LAST)),
    ({"host_key": "strict"}, ("-o", "StrictHostKeyChecking=yes", *LAST)),
    ({"host_key": "accept-new"}, ("-o", "StrictHostKeyChecking=accept-new", *LAST)),
    ({"connect_timeout": 5}, (*ALIVE, "-o", "ConnectTimeout=5")),
    ({"ssh_options": "ForwardAgent=no"}, ("-o", "ForwardAgent=no", *LAST)),
    ({"ssh_options": ["ForwardAgent=no", "Compression yes"]}, ("-o", "ForwardAgent=no", "-o", "Compression yes", *LAST)),
    ({"ssh_options": ["-F", "~/conf", "-4", "-A"]}, ("-F", "/home/user/conf", "-4", "-A", *LAST)),
    ({"ssh_options": ["-F/conf", "-vC"]}, ("-F/conf", "-vC", *LAST)),
    ({"ssh_options": ["-4F", "a=b"]}, ("-4F", "/home/user/a=b", *LAST)), ({"ssh_options": "-4Fc"}, ("-4F/home/user/c", *LAST)),
    ({"ssh_options": ["-F", "none"]}, ("-F", "none", *LAST)), ({"ssh_options": "-Fnone"}, ("-Fnone", *LAST)),
    ({"ssh_options": ["-o", "ForwardAgent=no", "-oCompression=yes"]},
     ("-o", "ForwardAgent=no", "-o", "Compression=yes", *LAST)),
    ({"ssh_options": []}, LAST), ({"ssh_options": ""}, LAST),
    ({"ssh_options": ["ConnectTimeout=3", "ServerAliveInterval=1"]},
     ("-o", "ConnectTimeout=3", "-o", "ServerAliveInterval=1", *LAST)),  # ssh takes the first
    ({"user": None, "port": None, "ssh_options": None, "jump": "", "host_key": ""}, LAST),
])
def test_what_the_options_become(options: dict[str, Any], words: tuple[str, ...]) -> None:
    world = world_of(machine={"environment": {"KEYS": "/keys"}})
    assert words_of(options, world) == words


@pytest.mark.parametrize(("settings", "words"), [
    ({"serveraliveinterval": "30"}, ("-o", "ConnectTimeout=30")),
    ({"connecttimeout": "7"}, (*ALIVE, "-o", "ConnectTimeout=7")),
    ({"remotecommand": "tmux attach"}, ("-o", "RemoteCommand=none", *LAST)),
    ({"localforward": "8080 x:1", "dynamicforward": "9"}, ("-o", "ClearAllForwardings=yes", *LAST)),
    ({"forwardx11": "yes", "stdinnull": "yes"}, ("-o", "ForwardX11=no", "-o", "StdinNull=no", *LAST)),
    ({"sessiontype": "none", "forkafterauthentication": "yes"},
     ("-o", "ForkAfterAuthentication=no", "-o", "SessionType=default", *LAST)),
])
def test_what_the_users_configuration_would_turn_into_something_else(settings: dict[str, str], words: tuple[str, ...]) -> None:
    assert words_of({}, world_of(settings)) == words


@pytest.mark.parametrize(("host", "ssh_host", "rsync"), [
    ("box", "box", "box"), ("192.0.2.1", "192.0.2.1", "192.0.2.1"), ("::1", "::1", "[::1]"), ("[fe80::1%eth0]", "fe80::1%eth0",
     "[fe80::1%eth0]"), ("a_b-c.example", "a_b-c.example", "a_b-c.example"), ("höst", "höst", "höst"),
])
def test_hosts(host: str, ssh_host: str, rsync: str) -> None:
    found = connection({"host": host})
    assert place_of(found).reach[-2] == ssh_host
    assert rsync_host(found) == rsync
    assert place_of(found).name == found.name == ssh_host


HOSTS = ("", "  ", None, "-oProxyCommand=touch x", "-", "a b", "a;b", "a$(b)", "a`b`", "a'b", 'a"b', "a|b", "a&b", "a<b", "a>b",
         "a\\b", "a/b", "ssh://box", "a\nb", "a\x01b", "a\u202eb", "a,b", "a@b@c;d", "u@", "@box", "-u@box", "u;x@box",
         "[::1", "(a)")


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_that_ssh_could_take_for_something_else(host: str | None) -> None:
    with pytest.raises(DefinitionError) as caught:
        connection({"host": host})
    assert str(caught.value.location).startswith("platform.yaml:1")


@pytest.mark.parametrize(("name", "value", "says"), [
    ("user", "-oProxyCommand=x", "cannot be the name of a user"), ("user", "a;b", "cannot be"), ("user", "a`b", "cannot be"),
    ("user", "a -b", "cannot be"), ("user", "a\\", "cannot be"), ("user", "a\nb", "cannot be"), ("user", "$x", "cannot be"),
    ("port", 0, "no port 0"), ("port", 65536, "no port 65536"), ("port", "ssh", "whole number"), ("port", "٣", "whole number"),
    ("port", -1, "whole number"), ("port", [22], "found a list"),
    ("jump", "-oProxyCommand=x", "no host to go through"), ("jump", "a b", "no host"), ("jump", "a;b", "no host"),
    ("jump", "$(x)", "no host"), ("jump", "a\nb", "no host"),
    ("host_key", "no", "strict or accept-new"), ("host_key", "off", "strict or accept-new"), ("host_key", True, "strict or"),
    ("connect_timeout", "soon", "whole number"), ("control_persist", "long", "not a length of time"),
    ("control_persist", -1, "not a length of time"),
    ("identity_file", "/a\nb", "another name"), ("identity_file", "/a$${b}", "another name"),
    ("identity_file", "$ABSENT/k", "not set"), ("identity_file", "`x`", "run a command"), ("identity_file", "/a\0b", "NUL"),
    ("ssh_options", "ForwardAgent", "no setting"), ("ssh_options", ["A=b", ""], "no setting"),
    ("ssh_options", "A=b\nC=d", "no setting"),
    ("ssh_options", {"A": "b"}, "found a map"), ("ssh_options", ["-F"], "wants a value"),
    ("ssh_options", "--help", "no option"), ("ssh_options", "-", "no option"), ("ssh_options", "ControlPath=x", "not for you"),
    ("ssh_options", "controlmaster no", "not for you"),
    ("ssh_options", "ControlPersist=1", "control_persist"), ("ssh_options", "-oRemoteCommand=x", "not for you"),
    ("ssh_options", ["-o", "BatchMode=no"], "not for you"), ("ssh_options", "RequestTTY=force", "not for you"),
    *(("ssh_options", f"-{letter}", "not for you") for letter in "fGMNnOQsStVWDLRlpJi"),
    ("ssh_options", "-4N", "not for you"), ("ssh_options", ["-l", "ada"], "'user'"), ("ssh_options", "-p22", "'port'"),
    ("ssh_options", "StrictHostKeyChecking=no", "accept-new"), ("ssh_options", "stricthostkeychecking = OFF", "accept-new"),
    ("ssh_options", 'StrictHostKeyChecking "no"', "accept-new"),
    ("ssh_options", ["-o", "StrictHostKeyChecking no"], "accept-new"),
    ("ssh_options", "-oStrictHostKeyChecking=no", "accept-new"), ("ssh_options", "UserKnownHostsFile=/dev/null", "accept-new"),
])
def test_what_is_refused_before_anything_starts(name: str, value: Any, says: str) -> None:
    world = world_of()
    with pytest.raises(DefinitionError) as caught:
        connection({name: value}, world)
    error = caught.value
    assert says in f"{error.message} {error.hint}"
    assert error.message.startswith(f"'{name}'")
    assert str(error.location) == "platform.yaml:2:3"
    assert world.asked == []


def test_a_key_of_the_environment_is_not_expanded_again() -> None:
    found = connection({"identity_file": "/keys/$HOME~"}, secret=("identity_file",))
    assert found.identity_file == "/keys/$HOME~"


# --- the master ------------------------------------------------------------------------------------------------------

RUNTIME = {"machine": {"environment": {"XDG_RUNTIME_DIR": "/run/user/1000"}}, "paths": {"/run/user/1000": "directory"}}


def socket_of(options: Mapping[str, Any], world: World | None = None) -> str:
    return connection(options, world).control_path


def test_the_socket_lies_in_the_runtime_directory() -> None:
    assert re.fullmatch(r"/run/user/1000/mlcube/[0-9a-f]{16}", socket_of({}, world_of(**RUNTIME)))


@pytest.mark.parametrize("fields", [
    {}, {"machine": {"environment": {"XDG_RUNTIME_DIR": ""}}}, {"machine": {"environment": {"XDG_RUNTIME_DIR": "relative"}}},
    {**RUNTIME, "paths": {}}, {**RUNTIME, "paths": {"/run/user/1000": {"kind": "directory", "writable": False}}},
    *({"machine": {"environment": {"XDG_RUNTIME_DIR": path}}, "paths": {path: "directory"}}
      for path in ("/run/a b", "/run/%h", "/run/${HOME}", "/" + "r" * 70)),
])
def test_where_that_is_none_it_lies_below_tmp(fields: dict[str, Any]) -> None:
    assert re.fullmatch(r"/tmp/mlcube-1000/[0-9a-f]{16}", socket_of({}, world_of(**fields)))


def test_the_longest_socket_fits() -> None:
    path = "/" + "r" * 62
    fields = {"machine": {"environment": {"XDG_RUNTIME_DIR": path}}, "paths": {path: "directory"}}
    assert len(os.fsencode(socket_of({}, world_of(**fields)))) == 87


def test_another_way_has_another_socket() -> None:
    ways = [socket_of({}), socket_of({"user": "ada"}), socket_of({"port": 23}), socket_of({"host": "bix"}),
            socket_of({"jump": "j"}), socket_of({"identity_file": "/k"}), socket_of({"ssh_options": "Compression=yes"}),
            socket_of({}, world_of({"hostname": "elsewhere"})), socket_of({"host_key": "strict"})]
    assert len(set(ways)) == len(ways)
    assert socket_of({"control_persist": "1h", "reconnect": "1m"}) == ways[0] == socket_of({})


def test_the_masters_words() -> None:
    found = connection({"user": "ada", "control_persist": "1h"})
    path = found.control_path
    common = ("-l", "ada", *LAST)
    command = connect_command(found)
    assert command.argv[:2] == ("sh", "-c")
    assert command.argv[3:] == ("sh", "/tmp/mlcube-1000", "1000", "ssh", "-T", "-o", "ControlMaster=auto", "-o",
                                f"ControlPath={path}", "-o", "ControlPersist=3600", *common, "box", "true")
    assert check_command(found).argv[3:] == ("sh", "/tmp/mlcube-1000", "1000", "ssh", "-O", "check", "-o",
                                             f"ControlPath={path}", *common, "box")
    step = connect_step(found)
    assert (step.title, step.unless, step.command) == ("connect to box", check_command(found), command)
    assert step.lock is not None and path in step.lock


@pytest.mark.parametrize(("text", "words"), [
    (0, "1"), ("0", "1"), ("90", "90"), ("1.5m", "90"), ("1D", "86400"), (None, "600")])
def test_how_long_the_master_stays(text: Any, words: str) -> None:
    assert f"ControlPersist={words}" in connect_command(connection({"control_persist": text})).argv


def test_the_users_own_master_is_used_as_it_is() -> None:
    found = connection({"port": 23}, world_of({"controlpath": "/home/user/.ssh/cm-1"}, master=True, **RUNTIME))
    assert found.control_path == ""
    assert place_of(found).reach == ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-p", "23", *LAST, "box",
                                     "exec sh -s")
    assert check_command(found) == Command(("ssh", "-O", "check", "-p", "23", *LAST, "box"))
    assert connect_command(found).argv[:4] == ("ssh", "-T", "-o", "ControlMaster=auto")
    assert not any("ControlPath" in word for word in connect_command(found).argv)


def test_where_the_users_own_master_is_not_up_there_is_one_of_ours() -> None:
    assert socket_of({}, world_of({"controlpath": "/home/user/.ssh/cm-1"}, master=False)).startswith("/tmp/mlcube-1000/")


def test_nobody_asks_for_a_master_where_none_is_configured() -> None:
    world = world_of()
    connection({}, world)
    assert not [question for question in world.asked if "-O" in str(question)]


# --- the directory of the sockets ------------------------------------------------------------------------------------


def guard(directory: Path, command: Command, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    """What comes of the command where its directory is this one, and `echo` stands for ssh."""
    argv = (*command.argv[:4], str(directory), str(os.getuid() if uid is None else uid), "echo", "ssh")
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def test_the_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    found = connection({})
    for _ in range(2):
        done = guard(tmp_path / "new dir", connect_command(found))
        assert (done.returncode, done.stdout) == (0, "ssh\n"), done.stderr
        assert (tmp_path / "new dir").stat().st_mode & 0o7777 == 0o700
    assert guard(tmp_path / "new dir", check_command(found)).stdout == "ssh\n"


def test_a_directory_that_could_be_anothers_is_not_used(tmp_path: Path) -> None:
    found = connection({})
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    for name, mode in (("open", 0o777), ("group", 0o770), ("readable", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "file").write_text("")
    for name in ("open", "group", "readable", "link", "file"):
        done = guard(tmp_path / name, connect_command(found))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"mlcube: others could write into {tmp_path}/{name}\n"
        assert find_reason(connect_step(found), done.stderr.splitlines()) is not None
        assert guard(tmp_path / name, check_command(found)).stdout == ""
    assert guard(mine, connect_command(found), uid=os.getuid() + 1).stdout == ""
    assert guard(tmp_path / "absent", check_command(found)).stdout == ""
    assert not (tmp_path / "absent").exists()


# --- quoting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "text"), [
    (("ssh", "-o", "A=b"), "ssh -o A=b"), (("a b",), "'a b'"), (("",), "''"), (("it's",), "'it''s'"), (('"',), "'\"'"),
    (("a\\b",), "'a\\b'"), (("a\nb\tc",), "'a\nb\tc'"), (("~",), "'~'"),
])
def test_words_for_rsync(words: tuple[str, ...], text: str) -> None:
    assert rsync_shell(words) == text


def test_rsync_gets_the_same_words_without_host_and_script() -> None:
    found = connection({"identity_file": "/a b", "user": "ada"})
    assert remote_shell(found) == rsync_shell(place_of(found).reach[:-2])
    assert "'IdentityFile=\"/a b\"'" in remote_shell(found)


def test_values_for_ssh() -> None:
    assert [ssh_value(path) for path in ("/plain", "/a%b", "/a b", '/a"b\\c%', "/ä")] == [
        "/plain", "/a%%b", '"/a b"', '"/a\\"b\\\\c%%"', '"/ä"']


# --- trouble ---------------------------------------------------------------------------------------------------------


def test_without_ssh_nothing_goes() -> None:
    with pytest.raises(MachineError) as caught:
        connection({}, World())
    assert caught.value.message == "'ssh' is not on PATH"
    assert "openssh-client" in caught.value.hint


def test_a_configuration_that_ssh_does_not_understand() -> None:
    said = {"exit_code": 255, "stderr": "/home/user/.ssh/config: line 3: Bad configuration option: hosst\n"
                                        "/home/user/.ssh/config: terminating, 1 bad configuration options\n"}
    with pytest.raises(MachineError) as caught:
        connection({}, world_of(probes={"ssh -G": said}))
    assert "does not understand its settings" in caught.value.message
    assert "terminating, 1 bad configuration options" in caught.value.message


CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Host key for [127.0.0.1]:22 has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(("stderr", "sentence", "hint"), [  # as OpenSSH 9.2 says it
    (CHANGED, "another one than before", "ssh-keygen -R"),
    ("No ED25519 host key is known for box and you have requested strict checking.\nHost key verification failed.",
     "host_key is strict", "ssh ada@box"),
    ("Host key verification failed.", "nobody has seen this host's key", "ssh ada@box"),
    ("no such identity: /k: No such file or directory\nada@box: Permission denied (publickey).", "not there", "identity_file"),
    ("Permissions 0644 for '/k' are too open.\nada@box: Permission denied (publickey).", "others can read", "chmod 600"),
    ("Permission denied, please try again.\nada@box: Permission denied (password).", "no terminal", "control_persist"),
    ("ada@box: Permission denied (publickey,password).", "does not let you in", "ssh ada@box"),
    ("Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\nDisconnected from 127.0.0.1 port 22",
     "too many", "IdentitiesOnly"),
    ("ssh: Could not resolve hostname box: Name or service not known", "no such host", "~/.ssh/config"),
    ("ssh: Could not resolve hostname j: Name or service not known\nkex_exchange_identification: Connection closed by remote "
     "host\nConnection closed by UNKNOWN port 65535", "no such host", "~/.ssh/config"),
    ("channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\nkex_exchange_identification: "
     "Connection closed by remote host", "the host to go through does not reach", "as they are seen from there"),
    ("ssh: connect to host box port 22: Connection refused", "nothing listens", "port"),
    ("ssh: connect to host box port 22: No route to host", "no way leads", "VPN"),
    ("Connection timed out during banner exchange\nConnection to 10.255.255.1 port 22 timed out", "does not answer", "VPN"),
    ("Bad owner or permissions on /home/ada/.ssh/config", "others can write", "chmod 600"),
    ("Bad port '99999'", "does not understand", "ssh_options"),
    ("Can't open user config file /x: No such file or directory", "does not understand", "ssh_options"),
    ('unix_listener: path "/x" too long for Unix domain socket', "too long", "XDG_RUNTIME_DIR"),
    ("client_loop: send disconnect: Broken pipe", "was cut", "network"),
    ("Timeout, server box not responding.", "was cut", "network"),
    ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 127.0.0.1 port 22",
     "closed the connection", "ssh -v"),
    ("Connection closed by UNKNOWN port 65535", "the host to go through", "ssh ada@box"),
    ("Unable to negotiate with 127.0.0.1 port 22: no matching host key type found. Their offer: ssh-rsa", "no kind", "ssh-rsa"),
    ("mux_client_request_session: session request failed: Session open refused by peer", "no further session", "MaxSessions"),
    ("something new", "something new", "ssh ada@box"), ("", "exit code 255", "ssh ada@box"),
])
def test_what_ssh_means(stderr: str, sentence: str, hint: str) -> None:
    error = trouble(Observation(255, "", stderr), connection({"user": "ada"}))
    assert isinstance(error, MachineError)
    assert error.message.startswith("box cannot be reached: ") and sentence in error.message
    assert hint in error.hint
    assert (stderr.strip().splitlines() or [""])[-1] in error.message
    assert "HOST" not in error.hint


def test_every_reason_can_be_found_and_names_the_host() -> None:
    found = connection({})
    assert [reason.text for reason in reasons_of(found)] == [reason.text for reason in REASONS]
    for reason in reasons_of(found):
        assert find_reason(connect_step(found), [reason.text.upper()]) is not None
        assert reason.text == reason.text.lower()
    assert any("ssh box" in reason.hint for reason in reasons_of(found))


def test_what_to_try_by_hand_leads_to_the_same_machine() -> None:
    found = connection({"user": "ada", "port": 2222, "jump": "login", "identity_file": "/a b"})
    words = """ssh -p 2222 -J login -o 'IdentityFile="/a b"' ada@box"""
    assert connect_step(found).hint == f"try it by hand: {words}"
    assert words in (trouble(Observation(255, "", "never heard of"), found).hint or "")
    assert any(words in reason.hint for reason in reasons_of(found))
