"""What was measured, as a table for people and as JSON data."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence

from measure import Result


def table(title: str, results: Sequence[Result], judged: str = "cpu") -> str:
    """The results with their ratios to the first one; `judged` (cpu or wall) is what budgets are about."""
    lines = [f"{title}", f"{'':34} {'wall':>9} {'ratio':>7} {'CPU':>9} {'ratio':>7} {'peak':>7} {'budget':>7}"]
    first = results[0]
    for result in results:
        ratios = {"wall": result.wall / first.wall, "cpu": result.cpu / first.cpu}
        budget, mark = "", ""
        if result.case.budget is not None:
            budget = f"{result.case.budget:g}x"
            mark = "  over" if ratios[judged] > result.case.budget else ""
        lines.append(f"{result.case.name:34} {1000 * result.wall:6.1f} ms {ratios['wall']:6.2f}x {1000 * result.cpu:6.1f} ms "
                     f"{ratios['cpu']:6.2f}x {result.peak:4.0f} MB {budget:>7}{mark}")
    return "\n".join(lines) + "\n"


def as_data(results: Sequence[Result], judged: str = "cpu") -> list[dict[str, object]]:
    """The same as data: seconds, megabytes, ratios of medians to the first case."""
    first = results[0]
    return [{
        "name": result.case.name,
        "rounds": len(result.samples),
        "wall_seconds": round(result.wall, 6),
        "cpu_seconds": round(result.cpu, 6),
        "peak_megabytes": round(result.peak, 1),
        "wall_ratio": round(result.wall / first.wall, 3),
        "cpu_ratio": round(result.cpu / first.cpu, 3),
        "budget": result.case.budget,
        "budget_is_for": judged,
        "samples": [[round(sample.wall, 6), round(sample.cpu, 6)] for sample in result.samples],
    } for result in results]


def machine(versions: Mapping[str, str]) -> dict[str, object]:
    """What it was measured on."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": [round(number, 2) for number in os.getloadavg()],
        **versions,
    }


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
