"""A private Slurm cluster: munged, slurmctld and three slurmd of this user's own on loopback, below one short directory.

`Cluster.environment` makes `sbatch`, `squeue` and the others know it (run_mlcube's `env`) and notes their words (`calls`).
What faults need (to stop a node or the controller, to kill a job's processes, to preempt it) are methods. There is no
accounting database, as on many sites. A keeper (cluster_keeper.py) ends all of it with the session, also a killed one.

What an ordinary user's slurmd cannot do is to read the user's login environment for `--export=NONE` (a real one does
`su -`): a task prolog gives the batch script HOME, USER, PATH and their like instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.slurm_conf import NODES, configuration, free_ports

WATCHED = ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "srun", "salloc", "sacct")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
USABLE = ("idle", "mixed", "allocated")  # as sinfo calls such nodes
PREFIX = "slurm-"
KEEPER = Path(__file__).with_name("cluster_keeper.py")
# Batch scripts only: tasks that srun starts get what it exports, as everywhere.
PROLOG = """\
#!/bin/sh
[ -z "$HOME" ] && [ "$ENVIRONMENT" = BATCH ] || exit 0
echo "export HOME=$(cat {room}/home)"
echo "export USER={user}"
echo "export LOGNAME={user}"
echo "export SHELL=/bin/sh"
echo "export PATH=/usr/local/bin:/usr/bin:/bin"
"""
SHIM = """\
#!/bin/sh
printf '%s\\0' {name} "$@" '
' >>{room}/calls
{end}
"""


@dataclass(frozen=True)
class Cluster:
    """One such cluster. `room` holds its configuration (slurm.conf), logs, state, and commands (bin)."""

    room: Path
    keeper: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """For run_mlcube's `env`: Slurm's commands on PATH speak to this cluster, and note their words."""
        return {"PATH": f"{self.room}/bin:{os.environ['PATH']}", "SLURM_CONF": str(self.room / "slurm.conf")}

    def without(self, *names: str) -> dict[str, str]:
        """The environment of a machine that has none of these commands."""
        place = self.room / f"without-{'-'.join(names)}"
        if not place.exists():
            place.mkdir()
            for directory in reversed(self.environment["PATH"].split(":")):
                for program in Path(directory).glob("*"):
                    (place / program.name).unlink(missing_ok=True)
                    (place / program.name).symlink_to(program)
            for name in names:
                (place / name).unlink(missing_ok=True)
        return {**self.environment, "PATH": str(place)}

    # --- as its user would look at it; none of this is in `calls` ---

    def run(self, *words: str, check: bool = True, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """This command of Slurm, such as `squeue`. AssertionError when it fails, unless check is False."""
        done = subprocess.run([_program(words[0]), *words[1:]], env={**os.environ, "SLURM_CONF": str(self.room / "slurm.conf")},
                              input=stdin, capture_output=True, text=True, errors="surrogateescape", check=False,
                              timeout=timeout, cwd=self.room)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def submit(self, script: str, *words: str, output: str = "/dev/null") -> str:
        """The number of a batch job that runs these shell lines."""
        words = ("sbatch", "--parsable", f"--output={output}", *words)
        return self.run(*words, stdin=f"#!/bin/sh\n{script}\n").stdout.strip()

    def show(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says: `show(job)["ExitCode"]`; nothing when the controller does not know the job."""
        done = self.run("scontrol", "--oneliner", "show", "job", job, check=False)
        return dict(re.findall(r"(\S+?)=(\S*)", done.stdout.splitlines()[0])) if done.returncode == 0 else {}

    def state(self, job: str) -> str:
        """PENDING, RUNNING, ...; an empty text when the controller does not know the job (any more)."""
        return self.show(job).get("JobState", "")

    def wait_for(self, job: str, *states: str, seconds: float = 60) -> str:
        """The state of the job once it is one of these (default: once it has ended). AssertionError after so many seconds."""
        wanted = states or ENDED
        self.until(lambda: self.state(job) in wanted, seconds, lambda: f"job {job} is {self.state(job)}, not {wanted}")
        return self.state(job)

    def node_state(self, node: str) -> str:
        """As sinfo has it: idle, mixed, allocated, drained, draining, down, down*, ..."""
        return self.run("sinfo", "--noheader", "--partition=debug", f"--nodes={node}", "--format=%T").stdout.strip()

    def log(self, daemon: str = "slurmctld") -> str:
        """What slurmctld, node1, ... or munged have logged."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted((self.room / "log").glob(f"{daemon}*")))

    def until(self, holds: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what()}\n{self.log()[-2000:]}"
            time.sleep(0.1)

    # --- what has happened ---

    def calls(self, *names: str) -> list[list[str]]:
        """The words of each of Slurm's commands that `environment` started, in order; of these commands only, if named."""
        log = self.room / "calls"
        text = log.read_text("utf-8", "surrogateescape") if log.exists() else ""
        calls = [call.split("\0") for call in text.split("\0\n\0")[:-1]]
        return [call for call in calls if not names or call[0] in names]

    def forget_calls(self) -> None:
        (self.room / "calls").unlink(missing_ok=True)

    def pretend(self, name: str, text: str, errors: str = "", code: int = 0) -> None:
        """From now on this command prints this text, for states that cannot be produced. Calls are noted as ever."""
        (self.room / f"{name}.text").write_text(text, "utf-8")
        (self.room / f"{name}.errors").write_text(errors, "utf-8")
        self.answer(name, f"cat {self.room}/{name}.text; cat {self.room}/{name}.errors >&2; exit {code}")

    def answer(self, name: str, script: str) -> None:
        """The same, by these shell lines."""
        self._shim(name, script)

    def stop_pretending(self, *names: str) -> None:
        """These commands, or all of them, are Slurm's own again."""
        for name in names or WATCHED:
            self._shim(name, f'exec {_program(name)} "$@"')

    def _shim(self, name: str, end: str) -> None:
        path = self.room / "bin" / name
        fresh = path.with_suffix(".new")
        fresh.write_text(SHIM.format(name=name, room=self.room, end=end), "utf-8")
        fresh.chmod(0o755)
        fresh.rename(path)

    # --- nodes ---

    def start_node(self, node: str) -> None:
        """Returns when Slurm can use the node."""
        self._start(node, "slurmd", "-D", "-N", node)
        self.resume(node)

    def stop_node(self, node: str, jobs: bool = True) -> None:
        """Its slurmd is killed, and all that its jobs run, unless `jobs` is False: they then go on without it."""
        self._ask({"end": node, "signal": int(signal.SIGKILL)})
        if jobs:
            for pid in self._processes(b"SLURMD_NODENAME=" + node.encode(), f"slurmstepd.{node}".encode()):
                _kill(pid)

    def down(self, node: str, reason: str = "test") -> None:
        """What Slurm does when a node has not answered for SlurmdTimeout: its jobs end, or are queued again."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", f"reason={reason}")

    def drain(self, node: str, reason: str = "test") -> None:
        """No new jobs there."""
        self.run("scontrol", "update", f"nodename={node}", "state=drain", f"reason={reason}")

    def resume(self, node: str) -> None:
        """Returns when Slurm can use the node; one that is only down comes back by itself, and then cannot be resumed."""
        self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self.until(lambda: self.node_state(node) in USABLE, 30, lambda: f"{node} is {self.node_state(node)}")

    # --- the controller ---

    def stop_controller(self, number: int = signal.SIGTERM) -> None:
        self._ask({"end": "slurmctld", "signal": int(number)})

    def start_controller(self, *words: str) -> None:
        """Returns when it answers."""
        self._start("slurmctld", "slurmctld", "-D", *words)
        self.until(lambda: self.run("scontrol", "ping", check=False).returncode == 0, 30, lambda: "slurmctld does not answer")

    def restart_controller(self) -> None:
        self.stop_controller()
        self.start_controller()

    def change(self, **settings: str) -> None:
        """Other values in slurm.conf, read again by all: `change(MinJobAge="2")`."""
        path = self.room / "slurm.conf"
        text = path.read_text("utf-8")
        for name, value in settings.items():
            text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
            text += "" if count else f"{name}={value}\n"
        path.write_text(text, "utf-8")
        self.run("scontrol", "reconfigure")

    # --- jobs ---

    def kill_job_processes(self, job: str, number: int = signal.SIGKILL) -> int:
        """A signal to what the job runs, behind Slurm's back; how many processes got it."""
        return sum(_kill(pid, number) for pid in self._processes(f"SLURM_JOB_ID={job}".encode()))

    def live_in(self, home: str | os.PathLike[str]) -> None:
        """The HOME of batch scripts that are submitted with `--export=NONE`, from now on; root's slurmd knows better."""
        (self.room / "home").write_text(f"{os.fspath(home)}\n", "utf-8")

    def hold(self, job: str) -> None:
        self.run("scontrol", "hold", job)

    def release(self, job: str) -> None:
        self.run("scontrol", "release", job)

    def start_now(self, job: str) -> None:
        """A job that was queued again otherwise waits for 20 seconds (for 120 on most sites)."""
        self.run("scontrol", "update", f"jobid={job}", "StartTime=now")

    def cancel(self, job: str, *words: str) -> None:
        """As somebody else would: not noted."""
        self.run("scancel", *words, job)

    def preempt(self, job: str, seconds: int = 3) -> str:
        """A job of `urgent` takes the nodes of this one (of `low` or `spot`, alone there) for so long; its number."""
        nodes = self.show(job)["NodeList"]
        return self.submit(f"sleep {seconds}", "--partition=urgent", f"--nodelist={nodes}", "--exclusive", "--mem=0")

    def end_soon(self, job: str) -> None:
        """The time of a running job is over now: Slurm looks for that every 30 seconds. A signal before the end gets lost."""
        self.run("scontrol", "update", f"jobid={job}", "EndTime=now")

    def cancel_all(self) -> None:
        """Nothing is queued or runs any more."""
        self.run("scancel", f"--user={os.getuid()}")
        self.until(lambda: not self.run("squeue", "--noheader").stdout, 60, lambda: self.run("squeue").stdout)

    # --- within ---

    def _processes(self, *texts: bytes) -> list[int]:
        """The processes of this cluster's jobs with one of these in their environment or name: not slurmctld and slurmd."""
        ours, found = f"SLURM_CONF={self.room}/".encode(), []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment, name = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
            except OSError:
                continue
            stepd = name.startswith(b"slurmstepd")
            words = name.split(b"\0") if stepd else environment.split(b"\0")
            if ours in environment and any(text in words or (stepd and text in name) for text in texts):
                found.append(int(place.name))
        return found

    def _start(self, name: str, *words: str) -> None:
        environment = {"SLURM_CONF": str(self.room / "slurm.conf"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        self._ask({"start": name, "words": [_program(words[0]), *words[1:]], "environment": environment})

    def _ask(self, request: Mapping[str, Any]) -> object:
        assert self.keeper.stdin and self.keeper.stdout
        self.keeper.stdin.write(json.dumps(request) + "\n")
        self.keeper.stdin.flush()
        line = self.keeper.stdout.readline()
        assert line, f"the keeper of {self.room} is gone"
        return json.loads(line)


@contextmanager
def start_cluster(**settings: str) -> Iterator[Cluster]:
    """A cluster of one's own, in two seconds; `settings` replace those of CONFIGURATION."""
    sweep()
    room = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-", dir="/tmp"))  # short: it holds sockets
    keeper = subprocess.Popen([sys.executable, "-I", str(KEEPER), str(room)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, start_new_session=True)
    try:
        (room / "keeper.new").write_text(str(keeper.pid), "utf-8")
        (room / "keeper.new").rename(room / "keeper")  # as a whole: another session may be looking for what is left
        cluster = Cluster(room, keeper)
        _furnish(cluster, settings)
        _start_all(cluster)
        yield cluster
    finally:
        assert keeper.stdin and keeper.stdout
        keeper.stdin.close()
        keeper.wait(60)
        keeper.stdout.close()


def sweep() -> None:
    """Ends what clusters have left whose keepers were killed."""
    for room in Path("/tmp").glob(f"{PREFIX}{os.getuid()}-*"):
        try:
            keeper = (room / "keeper").read_text("utf-8")
        except OSError:
            continue  # it is just being made, or removed
        if _words_of(keeper).endswith(f"\0{room}\0"):
            continue
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment = (place / "environ").read_bytes()
            except OSError:
                continue
            if f"SLURM_CONF={room}/slurm.conf".encode() in environment.split(b"\0"):
                _kill(int(place.name))
        shutil.rmtree(room, ignore_errors=True)


def _furnish(cluster: Cluster, settings: Mapping[str, str]) -> None:
    """Directories, key, configuration and commands."""
    room, user = cluster.room, _user()
    room.chmod(0o755)  # munged wants everybody to reach its socket
    for name in ("log", "state", "bin", "spool", *(f"spool/{node}" for node in NODES)):
        (room / name).mkdir()
    (room / "key").write_bytes(os.urandom(128))
    (room / "key").chmod(0o400)
    (room / "prolog").write_text(PROLOG.format(room=room, user=user), "utf-8")
    (room / "prolog").chmod(0o755)
    places = {
        "SlurmctldHost": "localhost(127.0.0.1)", "SlurmUser": user, "SlurmdUser": user,
        "AuthInfo": f"socket={room}/munge.socket,cred_expire=20",  # a job that is queued again waits for so long
        "StateSaveLocation": f"{room}/state", "SlurmdSpoolDir": f"{room}/spool/%n",
        "SlurmctldPidFile": f"{room}/slurmctld.pid", "SlurmdPidFile": f"{room}/%n.pid", "TaskProlog": f"{room}/prolog",
        "SlurmctldLogFile": f"{room}/log/slurmctld", "SlurmdLogFile": f"{room}/log/%n",
    }
    devices = [path for path in ("/dev/tty0", "/dev/tty1") if os.path.exists(path)]  # Slurm only looks whether they are devices
    text = configuration({**places, **settings}, NODES, free_ports(1 + len(NODES)), len(devices))
    (room / "slurm.conf").write_text(text, "utf-8")
    (room / "gres.conf").write_text(f"NodeName={NODES[-1]} Name=gpu File={','.join(devices)}\n" if devices else "", "utf-8")
    cluster.live_in(os.path.expanduser("~"))
    cluster.stop_pretending()


def _start_all(cluster: Cluster) -> None:
    """Returns when every node is idle."""
    room = cluster.room
    files = {"socket": "munge.socket", "key-file": "key", "pid-file": "munged.pid", "log-file": "log/munged",
             "seed-file": "seed"}
    words = (f"--{option}={room}/{file}" for option, file in files.items())
    cluster._start("munged", "munged", "--foreground", "--force", "--num-threads=4", *words)
    cluster.until((room / "munge.socket").exists, 20, lambda: f"munged does not start: {cluster.log('munged')}")
    cluster._start("slurmctld", "slurmctld", "-D", "-c")
    for node in NODES:
        cluster._start(node, "slurmd", "-D", "-N", node)
    listing = ("sinfo", "--noheader", "--Node", "--partition=debug", "--format=%T")
    cluster.until(lambda: cluster.run(*listing, check=False).stdout.split() == ["idle"] * len(NODES), 40,
                  lambda: f"not every node is idle: {cluster.run('sinfo', '-Nl', check=False)}")


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _program(name: str) -> str:
    found = _found(name)
    assert found, f"there is no {name} command"
    return found


def _words_of(pid: str) -> str:
    """The command line of this process, its words ended by NUL."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return ""


def _kill(pid: int, number: int = signal.SIGKILL) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
