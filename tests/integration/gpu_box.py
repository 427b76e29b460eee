"""A machine behind ssh: a container with its own file system, users, docker and apptainer, reached through a loopback port.

`Box.environment` makes `ssh` (and with it rsync and mlcube) know the machine's users as hosts: `ssh ada` logs in as ada.
OpenSSH takes its configuration from the home directory in the user database, whatever HOME says, so an `ssh` on PATH names our
file to the real one; it also notes its words. What faults need (to cut connections, restart sshd, fill a disk) are methods.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import CHECKOUT, GPU_BOX, IMAGE_FILES
from tests.integration.cluster import ENDED
from tests.integration.slurm_conf import configuration

IMAGE = "mlcube-test/ssh:latest"
LABEL = "mlcube-test.box"  # on every container that a test starts
# ada has bash, the next ones the login shell that they are called after; noisy's login scripts print; bare has no rsync, engine
# or Python; prompted is asked for PASSWORD after the key; skewed's programs think that it is three hours earlier.
SHELLS = ("ada", "dash", "zsh", "fish", "tcsh")
USERS = (*SHELLS, "noisy", "bare", "prompted", "skewed")
PASSWORD = "open sesame"
KEYS = "/etc/ssh/authorized_keys"  # there: for every user
# Slurm there, once it is a login node: two nodes, daemons as users of their own, jobs as the one who submitted.
SLURM = {"SlurmctldHost": "gpu-box(127.0.0.1)", "SlurmUser": "slurm", "SlurmdUser": "root", "AuthInfo": "cred_expire=20",
         "StateSaveLocation": "/var/spool/slurmctld", "SlurmdSpoolDir": "/var/spool/slurmd/%n",
         "SlurmctldPidFile": "/run/slurm/slurmctld.pid", "SlurmdPidFile": "/run/slurm/%n.pid",
         "SlurmctldLogFile": "/var/log/slurm/slurmctld", "SlurmdLogFile": "/var/log/slurm/%n", "GresTypes": ""}
PORT = '{{(index (index .NetworkSettings.Ports "22/tcp") 0).HostPort}}'
LOCK = "exec 9>/run/keys.lock; flock 9"  # sessions side by side change that file, and add and remove users
SHIM = """\
#!/bin/sh
printf '%s\\0' "$@" '
' >>{room}/ssh-calls
exec {ssh} -F {room}/config "$@"
"""
CONFIGURATION = """\
Host {name}
    HostName 127.0.0.1
    Port {port}
    User {user}
    HostKeyAlias {alias}
    IdentityFile {room}/key
    IdentitiesOnly yes
    UserKnownHostsFile {room}/known_hosts
    GlobalKnownHostsFile none
"""


@dataclass(frozen=True)
class Box:
    """One such machine. `room` is a directory of this machine with the key, the configuration and the sockets."""

    container: str
    room: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """For run_mlcube's `env`: `ssh` on PATH knows this machine, and sockets lie in a short path of our own."""
        return {"PATH": f"{self.room}/bin:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(self.room / "run")}

    # --- as its owner would look at it ---

    def root(self, script: str, *words: str, stdin: bytes = b"", check: bool = True) -> bytes:
        """What this shell script, with these words, prints when root runs it there. AssertionError when it fails."""
        done = subprocess.run(["docker", "exec", "--interactive", self.container, "sh", "-c", script, "sh", *words],
                              input=stdin, capture_output=True, check=False, timeout=300)
        assert not check or done.returncode == 0, f"{script}: {done.returncode}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def until(self, condition: str, *words: str, seconds: float = 60) -> None:
        """Waits until this shell command succeeds there, as root. Raises AssertionError after so many seconds."""
        self.root(f"left={int(seconds * 20)}; until {condition}; do left=$((left - 1)); [ $left -gt 0 ] || exit 9; "
                  "sleep 0.05; done", *words)

    def text(self, script: str, *words: str) -> str:
        """The same as text, without white space around it."""
        return self.root(script, *words).decode("utf-8", "surrogateescape").strip()

    def ssh(self, host: str, script: str, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        """This script, carried out there by sh as a user would: over the network."""
        return subprocess.run([str(self.room / "bin/ssh"), "-T", host, "exec sh -s"], capture_output=True, check=False,
                              input=script.encode("utf-8", "surrogateescape"), timeout=timeout)

    def exists(self, path: str) -> bool:
        return self.root('[ -e "$1" ] || [ -L "$1" ]; echo $?', path) == b"0\n"

    def write(self, path: str, content: bytes, owner: str = "ada") -> str:
        """A file there, with the directories above it, owned by that user; its path."""
        self.root('mkdir -p "${1%/*}" && cat >"$1" && chown -R "$2:" "${1%/*}"', path, owner, stdin=content)
        return path

    def read(self, path: str) -> bytes:
        return self.root('cat "$1"', path)

    def new_user(self, name: str, shell: str = "bash") -> str:
        """An ordinary user of this test's own, with an empty home directory: a host's name for ssh as well."""
        self.root(f'{LOCK}; add-user "$1" "$2"', name, shell)
        self._add_host(name)
        return name

    def remove_user(self, name: str) -> None:
        """Ends what this user runs there, and removes the user with the home directory."""
        self.root('pkill -KILL -u "$1"; while pgrep -u "$1" >/dev/null; do sleep 0.02; done; '
                  f'{LOCK}; userdel --force --remove "$1" 2>/dev/null', name, check=False)

    def processes(self, text: str, user: str = "") -> tuple[str, ...]:
        """The lines of `ps` there that hold this text, but for ps itself and what asks; of one user, where one is named."""
        lines = self.text("ps -eo user:20,pid,ppid,args ww").splitlines()
        return tuple(line for line in lines if text in line and "ps -eo" not in line and user in ("", line.split()[0]))

    # --- what has happened ---

    def logins(self, user: str) -> int:
        """How often this user has authenticated since the machine started."""
        return self.text("cat /var/log/sshd.log").count(f"Accepted publickey for {user} ")

    def ssh_calls(self) -> list[list[str]]:
        """The words of every `ssh` started with this box's environment, in order."""
        log = self.room / "ssh-calls"
        text = log.read_text("utf-8", "surrogateescape") if log.exists() else ""
        return [call.split("\0") for call in text.split("\0\n\0")[:-1]]

    def forget_calls(self) -> None:
        """Forget what `ssh_calls` has noted."""
        (self.room / "ssh-calls").unlink(missing_ok=True)

    # --- faults ---

    def cut(self, user: str = "ada") -> int:
        """Break every connection of this user; how many processes served them. What runs there goes on."""
        return int(self.text('set -- $(pgrep -f "^sshd: $1[ @]"); kill -KILL "$@" 2>/dev/null; echo $#', user))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """For a while, packets get lost: nothing answers and nothing is refused."""
        self.root("iptables -I INPUT -p tcp --dport 22 -j DROP && iptables -I OUTPUT -p tcp --sport 22 -j DROP")
        try:
            yield
        finally:
            self.root("iptables -D INPUT -p tcp --dport 22 -j DROP && iptables -D OUTPUT -p tcp --sport 22 -j DROP")

    def stop_sshd(self) -> None:
        """End sshd and every connection: new ones are refused."""
        self.root("kill $(cat /run/sshd.pid) 2>/dev/null; pkill -KILL -x sshd; rm -f /run/sshd.pid; :")

    def start_sshd(self) -> None:
        self.root("sshd-up")

    def restart_sshd(self) -> None:
        self.stop_sshd()
        self.start_sshd()

    def change_host_key(self) -> None:
        """The machine now has another host key than the one that the user's known_hosts names."""
        self.root("rm /etc/ssh/ssh_host_ed25519_key* && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")
        self.restart_sshd()

    def small_disk(self, path: str, megabytes: int, owner: str = "ada") -> str:
        """A file system of this size at that path, which the user owns; the path."""
        self.root('mkdir -p "$1" && mount -t tmpfs -o "size=$2m,mode=755" tmpfs "$1" && chown "$3:" "$1"',
                  path, str(megabytes), owner)
        return path

    def make_read_only(self, path: str, yes: bool = True) -> None:
        """What `small_disk` mounted cannot be written any more, as a disk after an error; or can again."""
        self.root('mount -o "remount,$2" "$1"', path, "ro" if yes else "rw")

    # --- a login node of a cluster ---

    def start_slurm(self, **settings: str) -> None:
        """Returns when its nodes, node1 and node2, are idle; quick when they are. `settings`: of slurm.conf."""
        text = configuration({**SLURM, **settings}, ("node1", "node2"), (6817, 6818, 6819))
        self.root("slurm-up", stdin=text.encode())

    def slurm(self, *words: str, user: str = "ada", check: bool = True) -> str:
        """What this command of Slurm prints when that user types it there. It is not in `slurm_calls`."""
        script = ('user=$1; shift; exec runuser -u "$user" -- env -i HOME="/home/$user" USER="$user" LOGNAME="$user" '
                  'PATH=/usr/bin:/bin "$@"')
        return self.root(script, user, *words, check=check).decode().strip()

    def submit(self, script: str, *words: str, user: str = "ada", output: str = "/dev/null") -> str:
        """The number of a batch job of this user that runs these shell lines."""
        file = f"/tmp/job-{time.monotonic_ns()}"
        self.root('cat >"$1"', file, stdin=f"#!/bin/sh\n{script}\n".encode())
        return self.slurm("sbatch", "--parsable", f"--output={output}", *words, file, user=user)

    def job_state(self, job: str) -> str:
        """PENDING, RUNNING, ...; an empty text when the controller does not know the job (any more)."""
        shown = self.slurm("scontrol", "--oneliner", "show", "job", job, check=False)
        return shown.partition(" JobState=")[2].partition(" ")[0]

    def wait_for_job(self, job: str, *states: str, seconds: float = 60) -> str:
        """The state of the job once it is one of these (default: once it has ended). AssertionError after so many seconds."""
        deadline = time.monotonic() + seconds
        while (state := self.job_state(job)) not in (states or ENDED):
            assert time.monotonic() < deadline, f"job {job} is {state}, not {states or ENDED}"
            time.sleep(0.2)
        return state

    def slurm_calls(self, user: str, *names: str) -> list[list[str]]:
        """The words of each of Slurm's commands that this user, or what ran for them, typed there; of these commands only."""
        calls = [call.split("\0") for call in os.fsdecode(self.root("cat /var/log/slurm-calls")).split("\0\n\0")[:-1]]
        return [call[1:] for call in calls if call[0] == user and (not names or call[1] in names)]

    # --- this machine's side ---

    def forget_key(self) -> None:
        """From now on the user offers a key that the machine does not know."""
        for name in ("key", "key.pub"):
            (self.room / name).unlink()
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{self.room.name}-other", "-f", str(self.room / "key"))

    def trust_host(self) -> None:
        """Write the machine's present host key into the user's known_hosts."""
        key = self.text("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub")
        (self.room / "known_hosts").write_text(f"{self.container} {key}\n", encoding="utf-8")

    def close_connections(self) -> None:
        """End the master connections that were left open for later commands."""
        for socket in (self.room / "run").rglob("*"):
            if socket.is_socket():
                subprocess.run([str(self.room / "bin/ssh"), "-o", f"ControlPath={socket}", "-O", "exit", "ada"],
                               capture_output=True, check=False, timeout=20)

    def _add_host(self, *names: str) -> None:
        for name in names:
            self.add_alias(name, name)

    def add_alias(self, name: str, user: str) -> None:
        """Make `ssh name` log in as this user."""
        with (self.room / "config").open("a", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(name=name, user=user, port=self.port, alias=self.container, room=self.room))

    def add_machine_behind(self, other: Box, name: str) -> None:
        """Make `name` a host that only this machine reaches: ada of the other one, through ada here (ProxyJump)."""
        address = other.text("hostname -i").split()[0]
        with (self.room / "config").open("a", encoding="utf-8") as file:
            file.write(f"Host {name}\n    HostName {address}\n    Port 22\n    User ada\n    ProxyJump ada\n"
                       f"    HostKeyAlias {other.container}\n    IdentityFile {other.room}/key\n    IdentitiesOnly yes\n"
                       f"    UserKnownHostsFile {other.room}/known_hosts\n    GlobalKnownHostsFile none\n")


@contextmanager
def shared_box() -> Iterator[Box]:
    """The machine that scripts/engines started, with a key of this session's. Its users are shared; see `new_user`."""
    with _reach(GPU_BOX) as box:
        yield box


@contextmanager
def own_box(docker: bool = False) -> Iterator[Box]:
    """A machine of the test's own, for faults; it starts in a second. With docker: a daemon with the image tiny in it."""
    words = [line for line in (CHECKOUT / "scripts/gpu-box/container").read_text("utf-8").splitlines() if line.startswith("-")]
    container = f"mlcube-test-box-{os.getpid()}-{time.monotonic_ns()}"
    _run("docker", "run", "--detach", "--rm", f"--name={container}", f"--label={LABEL}", "--env=DOCKER=no",
         f"--volume={IMAGE_FILES}:/images:ro", *words, IMAGE)
    try:
        with _reach(container) as box:
            if docker:
                box.root("docker-up tiny")
            yield box
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False, timeout=120)


@contextmanager
def _reach(container: str) -> Iterator[Box]:
    """A key, a configuration and a known_hosts for this container; in the end it forgets the key."""
    room = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))  # short: a socket's path has about a hundred bytes
    try:
        port = _run("docker", "container", "inspect", "--format", PORT, container)
        box = Box(container, room, int(port))
        _furnish(box)
        try:
            yield box
        finally:
            box.close_connections()
            box.root(f'{LOCK}; sed "/ $2\\$/d" "$1" >"$1.new"; cat "$1.new" >"$1"', KEYS, room.name, check=False)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _furnish(box: Box) -> None:
    room = box.room
    (room / "run").mkdir(mode=0o700)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", room.name, "-f", str(room / "key"))
    box.root(f'{LOCK}; cat >>"$1"', KEYS, stdin=(room / "key.pub").read_bytes())
    box._add_host(*USERS)
    box.until("[ -s /run/sshd.pid ]")
    box.trust_host()
    (room / "bin").mkdir()
    shim = room / "bin/ssh"
    shim.write_text(SHIM.format(ssh=_real_ssh(), room=room), encoding="utf-8")
    shim.chmod(0o755)


def _real_ssh() -> str:
    found = shutil.which("ssh")
    assert found, "there is no ssh command"
    return found


def _run(*words: str) -> str:
    """What this command of this machine prints. Raises AssertionError with its errors."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout.strip()
