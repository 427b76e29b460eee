"""What a machine behind ssh costs: the container of scripts/engines, against rsync and ssh by hand over one connection."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from groups import CHECKOUT, Bench, write
from measure import Case, Result, measure

sys.path.insert(0, str(CHECKOUT))
from tests.conftest import ssh_absence
from tests.integration.gpu_box import Box, shared_box

USER = "bench"
FILES, BYTES = 100_000, 1 << 30
FAR_NO_OP = """\
name: far
tasks:
  nothing:
    entrypoint: "true"
    parameters:
      inputs: {data: {type: directory, default: data}}
      outputs: {result: {type: directory, default: result}}
local:
  interpreter: system
ssh: {host: bench, platform: local}
"""


class Remote:
    """A cube here, a user there, and both ways to it: `mlcube.pyz`, and `ssh` over a connection that is there already."""

    def __init__(self, bench: Bench, box: Box) -> None:
        self.bench, self.box = bench, box
        self.cube = write(bench.room / "far/mlcube.yaml", FAR_NO_OP).parent
        self.data = self.cube / "workspace/data"
        self.data.mkdir(parents=True, exist_ok=True)
        (self.cube / "workspace/result").mkdir(exist_ok=True)
        self.master = f"{box.room}/by-hand"

    @property
    def environment(self) -> dict[str, str]:
        ours = self.box.environment
        return {**self.bench.environment, **ours, "PATH": f"{self.box.room}/bin:{self.bench.environment['PATH']}",
                "BY_HAND": f"ssh -o ControlPath={self.master}"}

    def ours(self, name: str, *words: str, budget: float | None = None, prepare: Callable[[], None] | None = None) -> Case:
        case = self.bench.case(name, *words, str(self.cube), "--platform", "ssh", environment=self.environment, budget=budget)
        return case if prepare is None else Case(case.name, case.argv, case.environment, case.cwd, prepare, budget=budget)

    def by_hand(self, name: str, script: str, prepare: Callable[[], None] | None = None) -> Case:
        case = Case(name, ("sh", "-ec", script), self.environment, str(self.cube))
        return case if prepare is None else Case(case.name, case.argv, case.environment, case.cwd, prepare)

    def forget(self) -> None:
        """As before the first push: what was sent is not there, by hand or by mlcube."""
        self.box.root('rm -rf "/home/$1/by-hand" "/home/$1/.mlcube"; sync', USER)


@contextmanager
def remote(bench: Bench) -> Iterator[Remote]:
    """The machine with a fresh user, and a connection for what is typed by hand."""
    with shared_box() as box:
        box.new_user(USER)
        try:
            far = Remote(bench, box)
            subprocess.run(["ssh", "-M", "-N", "-f", "-o", f"ControlPath={far.master}", USER], env=far.environment, check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            yield far
            subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={far.master}", USER], env=far.environment, check=False,
                           capture_output=True)
        finally:
            box.remove_user(USER)


def no_op(bench: Bench) -> list[Result]:
    """A run of nothing, all of it, with a connection that is there (aim: 1.3)."""
    with remote(bench) as far:
        (far.data / "one").write_text("first\n", encoding="utf-8")
        script = f'rsync -a --rsh="$BY_HAND" ./ {USER}:by-hand/ && $BY_HAND {USER} "cd by-hand && true" && ' \
                 f'rsync -a --rsh="$BY_HAND" {USER}:by-hand/workspace/result/ workspace/result/'
        return measure([far.by_hand("rsync && ssh && rsync, by hand", script),
                        far.ours("mlcube.pyz run", "run", budget=1.3),
                        far.by_hand("ssh HOST true", f"$BY_HAND {USER} true")], bench.rounds)


def unchanged(bench: Bench, files: int = FILES) -> list[Result]:
    """An input of many small files, all of which are there already (aim: 1.1)."""
    with remote(bench) as far:
        for number in range(files):
            folder = far.data / str(number // 1000)
            if number % 1000 == 0:
                folder.mkdir()
            os.close(os.open(folder / str(number), os.O_CREAT | os.O_WRONLY))
        script = f'rsync -a --rsh="$BY_HAND" ./ {USER}:by-hand/'
        return measure([far.by_hand(f"rsync of {files} files, by hand", script),
                        far.ours("mlcube.pyz sync push", "sync", "push", budget=1.1)], max(3, bench.rounds // 5))


def first_push(bench: Bench, size: int = BYTES) -> list[Result]:
    """A gigabyte that is not there yet (aim: 1.05)."""
    with remote(bench) as far:
        with Path(far.data / "big").open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        script = f'rsync -a --rsh="$BY_HAND" ./ {USER}:by-hand/'
        return measure([far.by_hand(f"rsync of {size >> 20} MB, by hand", script, prepare=far.forget),
                        far.ours("mlcube.pyz sync push", "sync", "push", budget=1.05, prepare=far.forget)],
                       max(3, bench.rounds // 5))


GROUPS = {"ssh": no_op, "ssh-unchanged": unchanged, "ssh-first": first_push}
absence = ssh_absence
