"""Measuring child processes: wall time, CPU time and peak memory, cases interleaved so that drift hits all of them alike."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def nothing() -> None:
    """The preparation of a case that needs none."""


@dataclass(frozen=True)
class Case:
    """A command to measure. `budget` is the highest ratio to the group's first case that we aim for."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str
    prepare: Callable[[], None] = nothing  # runs before each round, outside the measurement
    expect: int = 0  # the exit code; anything else ends the benchmark
    budget: float | None = None


@dataclass(frozen=True)
class Sample:
    """One run. CPU counts the process and what it waited for; peak memory is that of the largest of them."""

    wall: float  # seconds
    cpu: float  # seconds
    peak: float  # megabytes


@dataclass(frozen=True)
class Result:
    """The samples of one case, summed up."""

    case: Case
    samples: tuple[Sample, ...]

    @property
    def wall(self) -> float:
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def peak(self) -> float:
        return max(sample.peak for sample in self.samples)


def run_once(case: Case) -> Sample:
    """Run the case with its output thrown away. Raises SystemExit when it ends with another code than expected."""
    case.prepare()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _become(case)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(status)
    if code != case.expect:
        sys.exit(f"bench: '{case.name}' ended with {code}, expected {case.expect}: {' '.join(case.argv[:12])}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _become(case: Case) -> None:
    """In the child: stdin and stdout nowhere, stderr to a file that is shown when the case fails; then exec."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        if not os.environ.get("MLCUBE_BENCH_SHOW"):
            os.dup2(null, 2)
        os.chdir(case.cwd)
        os.execvpe(case.argv[0], case.argv, dict(case.environment))
    finally:
        os._exit(127)


def measure(cases: Sequence[Case], rounds: int, warm: bool = True) -> list[Result]:
    """Run every case once to warm up, then `rounds` times, interleaved and each round starting with another case."""
    for case in cases if warm else ():
        run_once(case)
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    for number in range(rounds):
        turn = number % len(cases)
        for case in (*cases[turn:], *cases[:turn]):
            samples[case.name].append(run_once(case))
    return [Result(case, tuple(samples[case.name])) for case in cases]
