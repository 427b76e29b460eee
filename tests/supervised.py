"""Supervised runs for tests: plans of a few commands, carried out by a real supervisor on each shell that is here."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcube_cli.command import Command, Plan, Step, TaskPlan
from mlcube_cli.frames import Frame, Frames
from mlcube_cli.place import HERE
from mlcube_cli.supervision import requests
from mlcube_cli.supervision.program import Layout, program, secrets_of
from mlcube_cli.supervision.state import CommandState

SHELLS = tuple(name for name in ("dash", "bash", "busybox") if shutil.which(name))
NONCE = "abc123"
RUN, OTHER = f"run-{os.getpid()}-1", f"run-{os.getpid()}-2"  # what processes bear: no other test run's may be the same


def sh(script: str, *words: str, **fields: Any) -> Command:
    return Command(("sh", "-c", script, "sh", *words), **fields)


def task(script: str | Command, **fields: Any) -> Step:
    """The payload of the task `t`."""
    return Step("run task t", sh(script) if isinstance(script, str) else script, task="t", payload=True, **fields)


def one_task(step: Step, *preparation: Step, **limits: Any) -> Plan:
    return Plan("local", (*preparation, step), (TaskPlan("t", RUN, (), **limits),))


@dataclass
class Supervised:
    """A run's place: its directory, its layout, and requests to it through the chosen shell."""

    folder: Path
    shell: str
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "run"
    runs: tuple[str, ...] = (RUN,)
    layout_fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        if not (tools / "sh").exists():
            (tools / "sh").symlink_to(str(shutil.which(self.shell)))
        self.variables = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", **self.environment}

    @property
    def directory(self) -> str:
        return str(self.folder / self.name)

    @property
    def tasks(self) -> dict[str, str]:
        return {run: os.path.join(self.directory, run) for run in self.runs}

    @property
    def layout(self) -> Layout:
        return Layout(self.directory, self.tasks, **{"locks": str(self.folder / "locks"), **self.layout_fields})

    def ask(self, script: str, within: float = 60) -> subprocess.CompletedProcess[bytes]:
        command = HERE.command(script)
        return subprocess.run(command.argv, input=command.stdin, capture_output=True, env=self.variables, timeout=within,
                              check=False)

    def start(self, plan: Plan) -> str | None:
        script = requests.start(self.layout, program(plan, self.layout), secrets_of(plan, self.layout), NONCE)
        return requests.answer_of(self.ask(script).stdout.decode(), NONCE)

    def run(self, plan: Plan, within: float = 60) -> CommandState:
        """Start it and follow it to its end."""
        script = requests.start_and_follow(self.layout, program(plan, self.layout), secrets_of(plan, self.layout), NONCE)
        said = self.ask(script, within)
        assert said.stderr == b"", said.stderr.decode()
        self.frames = Frames(NONCE).feed(said.stdout)
        assert self.frames[-1].name == "S"
        log = Path(self.directory, "supervisor.log").read_text()
        assert log == "" or (self.shell == "bash" and " Killed " in log)  # which bash says, whatever it is told
        return self.state()

    def follow(self, offsets: Mapping[str, int], until_end: bool = True) -> bytes:
        return self.ask(requests.follow(self.directory, self.tasks.items(), offsets, NONCE, until_end)).stdout

    def state(self) -> CommandState:
        said = self.ask(requests.states({self.directory: tuple(self.tasks.items())}, NONCE))
        assert said.stderr == b"", said.stderr.decode()
        return requests.parse_states(said.stdout.decode("utf-8", "surrogateescape"), NONCE)[0]

    def cancel(self, hard: bool = False, signal: int = 15) -> str | None:
        script = requests.cancel(self.directory, hard, os.urandom(6).hex(), signal)
        said = self.ask(script).stdout.decode()
        return said.splitlines()[-1]

    def remove(self) -> str | None:
        return requests.answer_of(self.ask(requests.remove((self.directory,), NONCE)).stdout.decode(), NONCE)

    def wait(self, within: float = 60) -> CommandState:
        until = time.monotonic() + within
        while not (state := self.state()).over:
            assert time.monotonic() < until, state
            time.sleep(0.05)
        return state

    def stream(self, name: str) -> bytes:
        """What came of a stream."""
        return joined(self.frames, name)

    def owner(self) -> int:
        lines = Path(self.directory, "owner").read_text().splitlines()
        return int(dict(line.split("=", 1) for line in lines)["pid"])


def joined(frames: list[Frame], name: str) -> bytes:
    return b"".join(frame.data for frame in frames if frame.name == name)


def wait_for(path: Path, within: float = 60) -> str:
    """The first line of a file, once it is there."""
    until = time.monotonic() + within
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)
    return path.read_text().splitlines()[0]


def is_alive(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return words[0] not in ("Z", "X")


def gone(pid: int, within: float = 5) -> bool:
    until = time.monotonic() + within
    while is_alive(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def leftovers(mark: str) -> Iterator[int]:
    """Living processes that have this text among their words."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in words and int(entry.name) != os.getpid() and is_alive(int(entry.name)):
                yield int(entry.name)
