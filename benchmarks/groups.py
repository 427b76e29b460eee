"""The groups of cases: start-up, many definitions, local, docker and apptainer runs, a stream of output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from measure import Case, Result, measure, run_once

CHECKOUT = Path(__file__).resolve().parent.parent
TINY_IMAGE = "mlcube-test/tiny:latest"
TINY_FILE = Path(os.environ.get("MLCUBE_TEST_CACHE", "/var/cache/mlcube-test")) / "images/tiny.sif"

NO_OP = """\
name: no-op
tasks:
  nothing:
    entrypoint: "{entrypoint}"
    parameters:
      inputs: {{data: {{type: directory, default: data}}}}
      outputs: {{result: {{type: directory, default: result}}}}
docker:
  image: {image}
singularity:
  image: {file}
local:
  entrypoint: "{entrypoint}"
  interpreter: system
"""
INVALID = """\
name: invalid
tasks:
  train:
    parameters:
      inputs: {data: {typ: directory}}
      outputs: [model]
"""
SMALL = """\
name: cube-{number}
description: one of many
authors: [{{name: Nobody, email: nobody@example.org}}]
tasks:
  prepare:
    parameters:
      outputs: {{data: data/}}
  train:
    parameters:
      inputs: {{data: data/, settings: {{type: file, default: settings-{number}.yaml}}}}
      outputs: {{model: model/}}
docker:
  image: example/cube:{number}
"""
TASK = """\
  task{number}:
    parameters:
      inputs: {{data: data/, settings: {{type: file, default: settings-{number}.yaml}}}}
      outputs: {{model: model-{number}/}}
"""


@dataclass(frozen=True)
class Bench:
    """Where and with what everything is measured. `room` is a scratch directory of ours."""

    pyz: Path
    python3: Path
    room: Path
    rounds: int

    @property
    def environment(self) -> dict[str, str]:
        """A clean environment with a cache of its own; docker is the caller's, python3 what stands behind the caller's.

        (On PATH there may be a launcher, such as pyenv's, that costs ten times what the interpreter does.)
        """
        kept = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "LD_LIBRARY_PATH")
        return {**{name: os.environ[name] for name in kept if name in os.environ},
                "PATH": f"{self.python3.parent}:{os.environ['PATH']}",
                "HOME": str(self.room), "MLCUBE_HOME": str(self.cache), "LANG": "C.UTF-8"}

    @property
    def cache(self) -> Path:
        return self.room / "cache"

    def case(self, name: str, *words: str, **settings: object) -> Case:
        return replace(Case(name, (str(self.pyz), *words), self.environment, str(self.room)), **settings)

    def python(self) -> Case:
        return Case("python3 -c pass", ("python3", "-c", "pass"), self.environment, str(self.room))

    def forget(self) -> None:
        """Make the cache empty, as before the first start of this build."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def forget_verdicts(self) -> None:
        """Leave only the unpacked build in the cache: no definition was ever seen."""
        for entry in self.cache.iterdir():
            if entry.name != "pyz":
                shutil.rmtree(entry, ignore_errors=True)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def no_op_cube(bench: Bench, name: str, entrypoint: str) -> Path:
    text = NO_OP.format(image=TINY_IMAGE, file=TINY_FILE, entrypoint=entrypoint)
    cube = write(bench.room / name / "mlcube.yaml", text).parent
    (cube / "workspace/data").mkdir(parents=True, exist_ok=True)
    return cube


def changing(path: Path) -> Callable[[], None]:
    """A preparation that changes a definition's bytes (not its meaning), so that no earlier verdict holds."""
    text = path.read_text(encoding="utf-8")
    count = iter(range(10**9))

    def change() -> None:
        path.write_text(f"{text}# {next(count)}\n", encoding="utf-8")

    return change


def start_up(bench: Bench) -> list[Result]:
    """What each command costs before it does anything, against a bare interpreter (budgets are for CPU time)."""
    example = bench.room / "mnist"
    shutil.copytree(CHECKOUT / "examples/mnist", example, dirs_exist_ok=True)
    changed = bench.room / "changed"
    shutil.copytree(example, changed, dirs_exist_ok=True)
    invalid = write(bench.room / "invalid/mlcube.yaml", INVALID)
    local = no_op_cube(bench, "local-no-op", "true")
    return measure([
        bench.python(),
        bench.case("--version", "--version", budget=2),
        bench.case("--help", "--help"),
        bench.case("describe", "describe", str(example), budget=5),
        bench.case("show-config", "show-config", str(example), "--platform", "docker", budget=5),
        bench.case("validate, unchanged", "validate", str(example), budget=5),
        bench.case("validate, changed", "validate", str(changed), prepare=changing(changed / "mlcube.yaml"), budget=12),
        bench.case("validate, invalid", "validate", str(invalid.parent), expect=3, budget=12),
        bench.case("run --dry-run, local", "run", str(local), "--platform", "local", "--dry-run", budget=13),
        bench.case("run, no-op, local", "run", str(local), "--platform", "local"),
    ], bench.rounds)


def first_start(bench: Bench) -> list[Result]:
    """The first start of a build, with an empty cache, and with no usable cache at all."""
    nowhere = {**bench.environment, "MLCUBE_HOME": "/dev/null/none", "HOME": "/dev/null"}
    example = str(CHECKOUT / "examples/mnist")
    return measure([
        bench.python(),
        bench.case("--version, empty cache", "--version", prepare=bench.forget),
        bench.case("describe, empty cache", "describe", example, prepare=bench.forget),
        bench.case("--version, no cache", "--version", environment=nowhere),
        bench.case("describe, no cache", "describe", example, environment=nowhere),
    ], max(3, bench.rounds // 3))


def many_definitions(bench: Bench) -> list[Result]:
    """1,000 and 10,000 cubes in one `validate`, and one cube of as many tasks; each new, and again unchanged."""
    cases = []
    for count in (1000, 10000):
        room = bench.room / f"many-{count}"
        cubes = [str(write(room / f"c{number}/mlcube.yaml", SMALL.format(number=number)).parent.relative_to(bench.room))
                 for number in range(count)]
        head = SMALL.format(number=0).partition("tasks:")[0] + "tasks:\n"
        tasks = "".join(TASK.format(number=number) for number in range(count))
        one = write(bench.room / f"one-{count}/mlcube.yaml", f"{head}{tasks}docker: {{image: example/cube}}\n").parent
        for name, words in ((f"{count} cubes", cubes), (f"{count} tasks in one cube", [str(one)])):
            cases += [bench.case(f"{name}, new", "validate", *words, prepare=bench.forget_verdicts),
                      bench.case(f"{name}, unchanged", "validate", *words)]
    measure([bench.case("unpack", "--version")], 0)
    results: list[Result] = []
    for case in cases:  # in this order: what was new becomes unchanged
        results += measure([case], 1 if "10000" in case.name else 3, warm=False)
    return results


def unchanged(bench: Bench, files: int = 1000) -> list[Result]:
    """`run --skip-unchanged` of a task with an input directory of so many files, against the same with nothing judged."""
    cube = no_op_cube(bench, "unchanged", "true")
    for number in range(files):
        path = write(cube / f"workspace/data/{number % 10}/{number}", f"{number}\n" * 100)
        os.utime(path, (1.6e9, 1.6e9))
    words = ("run", str(cube), "--platform", "local")
    first = bench.case("run", *words)
    run_once(first)
    time.sleep(2.5)  # what was changed just now is read again
    run_once(first)
    return measure([
        bench.case("run --dry-run", *words, "--dry-run"),
        bench.case(f"run --skip-unchanged, {files:,} files", *words, "--skip-unchanged"),
        bench.case("the same, explained", *words, "--skip-unchanged", "--explain"),
        bench.case("the same, as a dry run", *words, "--skip-unchanged", "--dry-run"),
    ], bench.rounds)


def docker_run(bench: Bench) -> tuple[list[Result], int, list[str]]:
    """A no-op on docker against the same `docker run` typed by hand (budget: wall time), and mlcube's docker calls."""
    cube = no_op_cube(bench, "docker-no-op", "true")
    words = ("run", str(cube), "--platform", "docker")
    warm = subprocess.run([str(bench.pyz), *words], env=bench.environment, capture_output=True, check=False)
    if warm.returncode:
        raise SystemExit(f"bench: a no-op does not run on docker:\n{warm.stderr.decode(errors='replace')}")
    plan = json.loads(subprocess.run([str(bench.pyz), *words, "--dry-run", "--json"], env=bench.environment,
                                     capture_output=True, check=True).stdout)
    typed = next(step["argv"] for step in plan["tasks"][0]["steps"] if step["argv"][1:2] == ["run"])
    by_hand = Case("docker run, by hand", tuple(typed), bench.environment, str(bench.room))
    bare = Case("docker run --rm IMAGE true", ("docker", "run", "--rm", TINY_IMAGE, "true"), bench.environment, str(bench.room))
    results = measure([by_hand, bare, bench.case("mlcube.pyz run", *words, budget=1.5),
                       Case("docker version", ("docker", "version"), bench.environment, str(bench.room))], bench.rounds)
    calls = docker_calls(bench, words)
    return results, len(calls), calls


def docker_calls(bench: Bench, words: tuple[str, ...]) -> list[str]:
    """The docker client calls of one run, counted by a `docker` on PATH that notes its words and becomes the real one."""
    real = shutil.which("docker")
    log = bench.room / "docker-calls"
    shim = write(bench.room / "shim/docker", f'#!/bin/sh\nprintf "%s\\n" "$1 $2" >>{log}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    log.write_text("", encoding="utf-8")
    path = f"{shim.parent}:{bench.environment['PATH']}"
    subprocess.run([str(bench.pyz), *words], env={**bench.environment, "PATH": path}, capture_output=True, check=True)
    return log.read_text(encoding="utf-8").splitlines()


def singularity_run(bench: Bench, engine: str) -> list[Result]:
    """A no-op from an image file: the bare engine, the script that a dry run prints, and ours (budget: wall time)."""
    cube = no_op_cube(bench, "singularity-no-op", "true")
    words = ("run", str(cube), "--platform", "singularity")
    script = subprocess.run([str(bench.pyz), *words, "--dry-run"], env=bench.environment, capture_output=True, check=True)
    by_hand = write(bench.room / "by-hand.sh", script.stdout.decode())
    return measure([
        Case(f"{engine} exec IMAGE true", (engine, "exec", str(TINY_FILE), "true"), bench.environment, str(bench.room)),
        Case("the script of --dry-run", ("sh", str(by_hand)), bench.environment, str(bench.room)),
        bench.case("mlcube.pyz run", *words, budget=2.5),
        Case(f"{engine} version", (engine, "version"), bench.environment, str(bench.room)),
    ], bench.rounds)


def stream(bench: Bench, megabytes: int = 1024) -> list[Result]:
    """A task that writes much output: what passing it through costs, in time and in our memory."""
    command = f"head -c {megabytes << 20} /dev/zero"
    cube = no_op_cube(bench, "stream", f"sh -c '{command}' sh")
    by_hand = Case(f"{megabytes} MB from head to cat", ("sh", "-c", f"{command} | cat"), bench.environment, str(bench.room))
    words = ("sh", "-c", '"$@" | cat', "sh", str(bench.pyz), "run", str(cube), "--platform", "local")
    ours = Case(f"{megabytes} MB through mlcube to cat", words, bench.environment, str(bench.room))
    return measure([by_hand, ours], 3)
