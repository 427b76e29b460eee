"""Measure mlcube.pyz and print a table: `make bench`, or `python benchmarks/bench.py --only start-up --rounds 50`.

Every group is measured in one go, its cases interleaved (but for `many`, where what was new becomes unchanged); ratios are
ratios of medians to the group's first case. CPU time counts a command and everything that it started and waited for. The
figures also go to benchmarks/results.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import groups
import report
from measure import Result

MEMORY_BUDGET = 40  # megabytes, for any command but `run` of a flood of output
DOCKER_CALLS = 2  # is the image there, and the run itself
FAR = ("ssh", "ssh-unchanged", "ssh-first")
JUDGING_BUDGET = 0.5  # seconds that judging 1,000 unchanged files may add to a dry run
GROUPS = ("start-up", "first-start", "many", "unchanged", "docker", "singularity", "stream", *FAR)


def main() -> int:
    """Measure the groups asked for; 0 unless something could not be run at all."""
    parser = argparse.ArgumentParser(description="Measure mlcube.pyz.")
    parser.add_argument("--only", choices=GROUPS, action="append", help="this group only (may be repeated)")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--python", default="python3", help="the interpreter to measure with and against")
    parser.add_argument("--pyz", type=Path, default=groups.CHECKOUT / "mlcube.pyz")
    parser.add_argument("--json", type=Path, default=groups.CHECKOUT / "benchmarks/results.json", help="where the figures go")
    arguments = parser.parse_args()
    python3 = real_python3(arguments.python)
    measured: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="mlcube-bench-") as room:
        bench = groups.Bench(arguments.pyz.resolve(), python3, Path(room), arguments.rounds)
        for name in arguments.only or GROUPS:
            data, text = measure_group(name, bench)
            measured[name] = data
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
    document = {"machine": report.machine(versions(python3)), "groups": measured}
    arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"figures: {arguments.json}\n")
    return 0


def real_python3(name: str) -> Path:
    """The interpreter behind this name on PATH, in a directory where it is called python3."""
    said = subprocess.run([name, "-c", "import os, sys; print(os.path.realpath(sys.executable))"],
                          capture_output=True, text=True, check=True).stdout.strip()
    return Path(said).parent / "python3"


def versions(python3: Path) -> dict[str, str]:
    """Versions of what was measured against."""
    said = {"python3": [str(python3), "--version"],
            "docker": ["docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}"],
            "apptainer": ["apptainer", "version"], "ssh": ["ssh", "-V"], "rsync": ["rsync", "--version"]}
    return {name: first_line(words) for name, words in said.items() if shutil.which(words[0])}


def first_line(words: list[str]) -> str:
    """The first line that a command prints; OpenSSH tells its version on stderr."""
    said = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    return said.strip().partition("\n")[0]


def measure_group(name: str, bench: groups.Bench) -> tuple[dict[str, object], str]:
    """The figures of one group as data and as text."""
    if name == "docker":
        return measure_docker(bench)
    if name == "singularity":
        return measure_singularity(bench)
    if name in FAR:
        return measure_far(name, bench)
    measured = {"start-up": groups.start_up, "first-start": groups.first_start, "many": groups.many_definitions,
                "unchanged": groups.unchanged, "stream": groups.stream}[name](bench)
    text = report.table(f"{name}", measured)
    if name == "many":
        text += linear(measured)
    if name == "unchanged":
        added = measured[1].cpu - measured[0].cpu
        over = "  over" if added > JUDGING_BUDGET else ""
        text += f"judging adds {1000 * added:.0f} ms of CPU (aim: {1000 * JUDGING_BUDGET:.0f}){over}\n"
    if name == "start-up":
        peak = max(result.peak for result in measured)
        text += f"peak memory: {peak:.0f} MB (aim: {MEMORY_BUDGET}){'  over' if peak > MEMORY_BUDGET else ''}\n"
    return {"results": report.as_data(measured)}, text


def measure_docker(bench: groups.Bench) -> tuple[dict[str, object], str]:
    if shutil.which("docker") is None or subprocess.run(
            ["docker", "image", "inspect", groups.TINY_IMAGE], capture_output=True, check=False).returncode:
        return left_out("docker", groups.TINY_IMAGE)
    measured, count, calls = groups.docker_run(bench)
    text = report.table("docker", measured, judged="wall")
    text += f"docker client calls of one run: {count} ({', '.join(calls)}){'  over' if count > DOCKER_CALLS else ''}\n"
    return {"results": report.as_data(measured, judged="wall"), "client_calls": calls}, text


def measure_singularity(bench: groups.Bench) -> tuple[dict[str, object], str]:
    engine = next((name for name in ("apptainer", "singularity") if shutil.which(name)), None)
    if engine is None or not groups.TINY_FILE.exists():
        return left_out(engine or "apptainer", str(groups.TINY_FILE))
    measured = groups.singularity_run(bench, engine)
    return {"results": report.as_data(measured, judged="wall")}, report.table("singularity", measured, judged="wall")


def measure_far(name: str, bench: groups.Bench) -> tuple[dict[str, object], str]:
    import remote

    absent = remote.absence()
    if absent:
        return {"left_out": absent}, f"{name}: left out, {absent} (as root: make engines)\n"
    measured = remote.GROUPS[name](bench)
    return {"results": report.as_data(measured, judged="wall")}, report.table(name, measured, judged="wall")


def left_out(engine: str, image: str) -> tuple[dict[str, object], str]:
    """What stands for the figures of an engine that is not here."""
    why = f"{engine} or its image {image} is not here (as root: make engines)"
    return {"left_out": why}, f"{engine}: left out, {why}\n"


def linear(measured: list[Result]) -> str:
    """How the time grows from 1,000 to 10,000: 10 is linear."""
    by_name = {result.case.name: result for result in measured}
    pairs = [(name, name.replace("1000", "10000", 1)) for name in by_name if name.startswith("1000 ")]
    return "".join(f"{small}: 10 times as many take {by_name[big].cpu / by_name[small].cpu:.1f} times as long, "
                   f"{1000 * by_name[big].cpu / 10000:.2f} ms each\n" for small, big in pairs)


if __name__ == "__main__":
    sys.exit(main())
