"""The way to another machine: a platform's options as a Connection, and the words of ssh that share one master. Pure.

One master authenticates on the terminal and then leaves it: it has a session of its own, so that neither Ctrl-C nor a closed
terminal ends it, and goes `control_persist` after its last use (RULINGS 38). All that follows goes through its socket. The
user's own master, where one is up, is used as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlcube_cli.command import Command, Reason, Step, find_reason, quote, rsync_shell
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import MachineError, MLCubeError
from mlcube_cli.facts import Facts, Observation, PathKind, Tool
from mlcube_cli.place import Place
from mlcube_shell import ssh_words
from mlcube_shell.ssh_trouble import REASONS as REASONS

SHELL = "exec sh -s"  # all that a login shell there sees of us (RULINGS 33); or, where more than a script is sent:
FED = """exec sh -c 'IFS= read -r n; eval "$(dd bs=1 count=$n 2>/dev/null)"'"""
_TIMEOUT = 30  # seconds to wait for a connection, where nobody says how long
_PERSIST = 600.0  # seconds that an unused master stays (RULINGS 38)
_LONGEST = 87  # bytes of a socket's path: macOS takes 104, and ssh binds it under a name that is 17 longer [tried]
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]*\Z")  # else ssh would find tokens (%), variables and blanks in it
# Settings of the user's that would turn our requests into something else, as `ssh -G` says them, and what keeps them away.
# Only where they are set: releases before 7.6 and 8.7 do not know all of these names.
_AGAINST: Mapping[str, tuple[str, str]] = {
    "remotecommand": ("none", "RemoteCommand=none"), "forwardx11": ("no", "ForwardX11=no"),
    "stdinnull": ("no", "StdinNull=no"), "forkafterauthentication": ("no", "ForkAfterAuthentication=no"),
    "sessiontype": ("default", "SessionType=default"), "localforward": ("", "ClearAllForwardings=yes"),
    "remoteforward": ("", "ClearAllForwardings=yes"), "dynamicforward": ("", "ClearAllForwardings=yes"),
}
# Another's directory could hold another's socket, and ssh sends through it whatever it is given: so it has to be ours alone.
_OWNED = '[ -n "$(find "$1" -prune -type d -user "$2" -perm 700 2>/dev/null)" ]'
_CHECK = f'{_OWNED} && shift 2 && exec "$@"'
_MAKE = (f'mkdir -m 700 "$1" 2>/dev/null; {_OWNED} || {{ echo "mlcube: others could write into $1" >&2; exit 1; }}; '
         'shift 2 && exec "$@"')


@dataclass(frozen=True)
class Connection:
    """All that ssh has to be told. Empty texts and 0: ssh's own configuration decides.

    `options` are further words for ssh, `control_path` the socket of our master, empty where the user's own is up.
    `control_persist` is in seconds, and 0 where the master should end with the command; `connect_timeout` is in seconds.
    """

    name: str  # as the user calls the machine
    host: str  # what ssh gets; an IPv6 address without brackets
    user: str = ""
    port: int = 0
    identity_file: str = ""  # absolute
    jump: str = ""
    options: tuple[str, ...] = ()
    connect_timeout: int = _TIMEOUT
    control_path: str = ""
    control_persist: int = int(_PERSIST)
    host_key: str = ""  # "strict" | "accept-new"
    uid: int = 0  # who we are on this machine, and whose the socket's directory has to be

    @property
    def by_hand(self) -> str:
        """What to type behind `ssh` to get there."""
        words = (*(("-p", str(self.port)) if self.port else ()), *(("-J", self.jump) if self.jump else ()),
                 *ssh_words.identity_words(self.identity_file), f"{self.user}@{self.host}" if self.user else self.host)
        return " ".join(map(quote, words))


def connection_of(platform: Platform, facts: Facts) -> Connection:
    """The connection that a platform's options describe; `facts` are those of this machine.

    Raises Missing; DefinitionError for an option that ssh could take for something else; MachineError where ssh is absent
    or does not understand its own configuration.
    """
    host, user = ssh_words.host_of(platform)
    said = Connection(
        host, host, user, ssh_words.port_of(platform), ssh_words.identity_of(platform, facts), ssh_words.jump_of(platform),
        ssh_words.option_words(platform, facts), ssh_words.timeout_of(platform), host_key=ssh_words.host_key_of(platform),
        control_persist=int(ssh_words.seconds_of(platform, "control_persist", _PERSIST)), uid=facts.uid)
    runtime = facts.environment.get("XDG_RUNTIME_DIR", "")
    facts.need(Tool("ssh"), *([PathKind(runtime)] if _PLAIN_PATH.match(runtime) else []))
    if facts.tool("ssh") is None:
        raise MachineError("'ssh' is not on PATH", "install OpenSSH's client (Debian: openssh-client)")
    answer = facts.probe(Command(("ssh", "-G", *_common(said), host)))
    if answer.exit_code != 0:
        raise trouble(answer, said)
    settings = _settings(answer.stdout)
    known = _completed(said, settings)
    if "controlpath" in settings and facts.probe(check_command(known)).exit_code == 0:
        return known
    digest = hashlib.sha256("\0".join((answer.stdout, *_common(known), host)).encode("utf-8", "surrogateescape"))
    return replace(known, control_path=_control_path(runtime, digest.hexdigest()[:16], facts))


def _settings(text: str) -> dict[str, str]:
    """What `ssh -G` says: lines of a name in lower case and a value."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: value for name, _, value in pairs}


def _completed(said: Connection, settings: Mapping[str, str]) -> Connection:
    """The connection with what ssh's configuration leaves open, and without what would get in our way."""
    against = [setting for name, (harmless, setting) in _AGAINST.items() if settings.get(name, harmless) != harmless]
    words = [word for setting in dict.fromkeys(against) for word in ("-o", setting)]
    if settings.get("serveraliveinterval", "0") == "0":
        words += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    configured = settings.get("connecttimeout", "none")
    timeout = said.connect_timeout or (int(configured) if configured.isdecimal() else 0) or _TIMEOUT
    return replace(said, options=(*said.options, *words), connect_timeout=timeout)


def _control_path(runtime: str, name: str, facts: Facts) -> str:
    """The socket in a directory of ours, with a name that is new when the way there is another one."""
    for base in (f"{runtime.rstrip('/')}/mlcube" if runtime else "", f"/tmp/mlcube-{facts.uid}"):
        path = f"{base}/{name}"
        if not _PLAIN_PATH.match(base) or len(path) > _LONGEST:
            continue
        if base.startswith("/tmp/") or (facts.path(runtime).kind == "directory" and facts.path(runtime).writable):
            return path
    raise AssertionError("/tmp/mlcube-UID always fits")


# --- words -----------------------------------------------------------------------------------------------------------


def connect_command(connection: Connection) -> Command:
    """The master: asks for passwords on the terminal, and is in the background once it is let in and `true` was said there.

    `auto`, and no `-N`: so a socket that a killed master left is taken over, and of several that start at the same time one
    becomes the master and the others just end (with `yes`, or `-N`, ssh stays for nothing [tried]).
    """
    words = ("ssh", "-T", "-o", "ControlMaster=auto", *_socket(connection),
             "-o", f"ControlPersist={max(connection.control_persist, 1)}", *_common(connection), connection.host, "true")
    return _guarded(connection, words, _MAKE)


def check_command(connection: Connection) -> Command:
    """Succeeds where the master is up and, when it is ours, nobody else can have put it there. No network is involved."""
    return _guarded(connection, ("ssh", "-O", "check", *_socket(connection), *_common(connection), connection.host), _CHECK)


def connect_step(connection: Connection) -> Step:
    """The step that makes the master where it is not up: once, when several runs start together."""
    return Step(f"connect to {connection.name}", connect_command(connection), unless=check_command(connection),
                lock=f"ssh {connection.control_path or connection.by_hand}", reasons=reasons_of(connection),
                hint=f"try it by hand: ssh {connection.by_hand}")


def place_of(connection: Connection) -> Place:
    """The shell there. It goes through the master and never asks: without one, and where that takes a password, it fails."""
    return Place((*_client(connection), connection.host, SHELL), connection.name)


def feed_of(connection: Connection) -> tuple[str, ...]:
    """Words that reach a shell there which reads the length of a script, then the script, and leaves the rest of stdin."""
    return (*_client(connection), connection.host, FED)


def remote_shell(connection: Connection) -> str:
    """What rsync's `--rsh` takes."""
    return rsync_shell(_client(connection))


def rsync_host(connection: Connection) -> str:
    """What stands before the colon of rsync's other side; user and port are among the words of `remote_shell`."""
    return f"[{connection.host}]" if ":" in connection.host else connection.host


def _client(connection: Connection) -> tuple[str, ...]:
    return ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", *_socket(connection), *_common(connection))


def _socket(connection: Connection) -> tuple[str, ...]:
    return ("-o", f"ControlPath={connection.control_path}") if connection.control_path else ()


def _guarded(connection: Connection, words: tuple[str, ...], script: str) -> Command:
    if not connection.control_path:
        return Command(words)
    directory = connection.control_path.rpartition("/")[0]
    return Command(("sh", "-c", script, "sh", directory, str(connection.uid), *words))


def _common(connection: Connection) -> tuple[str, ...]:
    """Who, where and how; ssh takes the first that it hears of a setting, so these go before its own configuration."""
    check = {"strict": "yes", "accept-new": "accept-new"}.get(connection.host_key)
    return (*(("-l", connection.user) if connection.user else ()),
            *(("-p", str(connection.port)) if connection.port else ()),
            *ssh_words.identity_words(connection.identity_file),
            *(("-J", connection.jump) if connection.jump else ()),
            *(("-o", f"StrictHostKeyChecking={check}") if check else ()),
            *connection.options,
            *(("-o", f"ConnectTimeout={connection.connect_timeout}") if connection.connect_timeout else ()))


# --- what went wrong -------------------------------------------------------------------------------------------------


def reasons_of(connection: Connection) -> tuple[Reason, ...]:
    """What ssh's last lines mean, with this host's name in what to type."""
    return tuple(replace(reason, hint=reason.hint.replace("HOST", connection.by_hand)) for reason in REASONS)


def trouble(observation: Observation, connection: Connection) -> MLCubeError:
    """The error for a machine that did not answer: what ssh's words mean, its last line, and what to type."""
    last = observation.last_line(f"ssh ended with exit code {observation.exit_code} and said nothing")
    found = find_reason(Step("", Command(()), reasons=reasons_of(connection)), observation.stderr.strip().splitlines())
    if found is None:
        return MachineError(f"{connection.name} cannot be reached: {last}", f"try it by hand: ssh {connection.by_hand}")
    return MachineError(f"{connection.name} cannot be reached: {found.sentence} ({last})", found.hint)
