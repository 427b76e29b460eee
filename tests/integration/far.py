"""A small cube whose tasks run on a machine behind ssh, as a user types it; each test writes its script."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.integration.gpu_box import Box

DEFINITION = r"""
    name: far
    tasks:
      work:
        entrypoint: sh -c 'script="\${1#*=}"; data="\${2#*=}"; result="\${3#*=}"; . "$script"' sh
        parameters:
          inputs: {script: {type: file, default: script.sh}, data: {type: directory, default: data}}
          outputs: {result: {type: directory, default: result}}
      again:
        entrypoint: sh -c 'script="\${1#*=}"; data="\${2#*=}"; result="\${3#*=}"; . "$script"' sh
        parameters:
          inputs: {script: {type: file, default: again.sh}, data: {type: directory, default: result}}
          outputs: {result: {type: directory, default: second}}
    docker: {image: mlcube-test/tiny:latest}
    singularity: {image: /images/tiny.sif}
    local: {interpreter: system}
    ssh: {host: HOST, platform: INSIDE}
"""
COPY = 'cp -R "$data/." "$result/"; echo copied\n'


@dataclass
class Far:
    """A cube here, and the user of a machine behind ssh who runs it."""

    box: Box
    user: str
    cube: Path
    run_mlcube: RunMLCube
    home: Path
    options: tuple[str, ...] = ()  # -P words for every command
    extra: dict[str, str] = field(default_factory=dict)  # environment

    @property
    def workspace(self) -> Path:
        return self.cube / "workspace"

    @property
    def result(self) -> Path:
        return self.workspace / "result"

    @property
    def environment(self) -> dict[str, str]:
        return {**self.box.environment, **self.extra}

    def script(self, text: str, name: str = "script.sh") -> None:
        """What the task does: $data and $result are its directories."""
        write_tree(self.workspace, {name: text})

    def __call__(self, verb: str, *words: str, timeout: float = 120) -> Outcome:
        """`mlcube VERB CUBE --platform ssh WORDS`."""
        return self.run_mlcube(verb, str(self.cube), "--platform", "ssh", *self.options, *words, env=self.environment,
                               timeout=timeout)

    def plain(self, *words: str, timeout: float = 120) -> Outcome:
        """`mlcube WORDS`, in the cube's directory."""
        return self.run_mlcube(*words, cwd=self.cube, env=self.environment, timeout=timeout)

    def run(self, *words: str, code: int = 0, timeout: float = 120) -> Outcome:
        """Runs the task `work`; the exit code must be that."""
        done = self("run", "--task", "work", *words, timeout=timeout)
        assert done.exit_code == code, f"{done.exit_code}\n{done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def started(self, *words: str, verb: str = "run") -> Iterator[Started]:
        """The same in the background, in a process group of its own; it is killed in the end."""
        command = [sys.executable, "-m", "mlcube_cli", verb, str(self.cube), "--platform", "ssh", *self.options, *words]
        process = subprocess.Popen(command, env={**clean_environment(self.home), **self.environment}, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=self.cube.parent)
        try:
            yield Started(process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    # --- the other side ---

    @property
    def far_home(self) -> str:
        return f"/home/{self.user}"

    @property
    def root(self) -> str:
        """The directory of the cube there, made by an earlier run."""
        roots = self.box.text('ls -d "$1"/.mlcube/cubes/*', self.far_home).splitlines()
        assert len(roots) == 1, roots
        return roots[0]

    def there(self, below: str = "") -> set[str]:
        """The files and directories in the cube's directory there, or below one of its directories."""
        found = self.box.root('cd "$1" && find . -mindepth 1 -print0', os.path.join(self.root, below))
        return {os.fsdecode(name[2:]) for name in found.split(b"\0") if name}

    def wait_for(self, path: str, seconds: float = 60) -> None:
        """Until this file is there, on the other machine."""
        until(lambda: self.box.exists(path), seconds, path)

    def record(self) -> dict[str, Any]:
        """The newest record of the workspace."""
        records = sorted(self.workspace.glob(".mlcube/runs/*/record.json"))
        found: dict[str, Any] = json.loads(records[-1].read_text("utf-8"))
        return found


@dataclass
class Started:
    """A child that runs beside the test."""

    process: subprocess.Popen[bytes]
    heard: bytes = b""  # of its stderr

    def hear(self, text: bytes, seconds: float = 60) -> None:
        """Until it has said this on stderr. Raises AssertionError after so many seconds."""
        deadline = time.monotonic() + seconds
        while text not in self.heard:
            assert select.select([self.process.stderr], [], [], max(0.0, deadline - time.monotonic()))[0], self.heard
            said = os.read(self.process.stderr.fileno(), 65536) if self.process.stderr else b""
            assert said, self.heard
            self.heard += said

    def interrupt(self) -> None:
        """Ctrl-C: to the whole group of the terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout: float = 120) -> Outcome:
        """Waits for it."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        return Outcome(self.process.returncode, os.fsdecode(stdout or b""), os.fsdecode(self.heard + stderr))


def until(holds: Callable[[], bool], seconds: float = 60, what: str = "it") -> None:
    """Waits until it holds. Raises AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def make_far(box: Box, user: str, run_mlcube: RunMLCube, base: Path, inside: str = "local",
             options: tuple[str, ...] = (), extra: Mapping[str, str] | None = None) -> Far:
    """The cube below `base`, with one file of data and a script that copies it."""
    cube = write_tree(base / "cube", {"mlcube.yaml": DEFINITION.replace("HOST", user).replace("INSIDE", inside),
                                      "workspace/script.sh": COPY, "workspace/data/one": "first\n"})
    return Far(box, user, cube, run_mlcube, base / "home", options, dict(extra or {}))
