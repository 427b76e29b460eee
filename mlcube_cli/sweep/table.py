"""What came of each member, side by side: its values, how it ended, and the numbers in its metrics.json. Text, CSV, data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import nearest
from mlcube_cli.errors import UsageError
from mlcube_cli.report import on_one_line
from mlcube_cli.sweep.document import Sweep
from mlcube_cli.sweep.standing import SUCCEEDED, Standing

if TYPE_CHECKING:
    from mlcube_cli.definition.model import Data

METRICS = "metrics.json"
_DEEPEST = 2  # directories below a member's own that are looked through, where no output says where the metrics are
_LARGEST = 10_000_000  # bytes
_LESS_IS_BETTER = ("loss", "error", "err", "perplexity", "mse", "rmse", "mae", "seconds", "time", "latency", "cost", "wer")


@dataclass(frozen=True)
class Row:
    """A member of the table. `trouble`: why its metrics cannot be read."""

    standing: Standing
    metrics: Mapping[str, float] = field(default_factory=dict)
    trouble: str = ""

    @property
    def number(self) -> int:
        return self.standing.member.number


@dataclass(frozen=True)
class Table:
    """All rows, and which of them is the best by which metric (none: `best` is None)."""

    sweep: Sweep
    rows: tuple[Row, ...]
    metric: str = ""
    largest: bool = True  # is the largest value the best one?
    best: Row | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that members set."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.standing.member.values))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for row in self.rows for name in row.metrics))


def make_table(sweep: Sweep, standings: Sequence[Standing], metric: str | None = None, largest: bool | None = None) -> Table:
    """The table of a sweep; the metric by which the best is found: the one that is named, else the only one there is.

    `largest`: what is best; None: by its name (a loss is the better the smaller). Raises UsageError for a metric that no
    member has. Only members that succeeded can be the best.
    """
    rows = tuple(_row(sweep, standing) for standing in standings)
    table = Table(sweep, rows)
    if metric is not None and metric not in table.metrics:
        guess = nearest(metric, table.metrics)
        raise UsageError(f"no member has a metric '{metric}'", f"did you mean '{guess}'?" if guess else
                         f"there are: {', '.join(table.metrics) or f'none; a task writes {METRICS} into one of its outputs'}")
    if metric is None and len(table.metrics) != 1:
        return table
    metric = metric or table.metrics[0]
    if largest is None:
        largest = not any(word in metric.rpartition(".")[2].lower().replace("-", "_").split("_") for word in _LESS_IS_BETTER)
    ended = [row for row in rows if row.standing.status == SUCCEEDED and _is_number(row.metrics.get(metric))]
    best = (max if largest else min)(ended, key=lambda row: row.metrics[metric]) if ended else None
    return Table(sweep, rows, metric, largest, best)


def sorted_rows(table: Table) -> tuple[Row, ...]:
    """The best first; rows without the metric last, by number."""
    def rank(row: Row) -> tuple[bool, float]:
        value = row.metrics.get(table.metric)
        return (False, -value if table.largest else value) if value is not None and _is_number(value) else (True, 0.0)

    return tuple(sorted(table.rows, key=rank))


def _is_number(value: float | None) -> bool:
    return value is not None and value == value  # nan is none


# --- metrics ---------------------------------------------------------------------------------------------------------


def _row(sweep: Sweep, standing: Standing) -> Row:
    if standing.status == "queued" or standing.gone:
        return Row(standing)
    found: dict[str, float] = {}
    files = find_metrics(sweep, standing.member.number)
    for name, path in files.items():
        try:
            data = _read(path)
        except (OSError, ValueError) as error:
            return Row(standing, found, f"{path}: {getattr(error, 'strerror', None) or error}")
        found.update(flat(data, f"{name}." if len(files) > 1 else ""))
    return Row(standing, found)


def find_metrics(sweep: Sweep, number: int) -> dict[str, str]:
    """The metrics.json of a member, by the output that they belong to: among its outputs, else the first one below them."""
    base = sweep.member_directory(number)
    found = {}
    for output in sweep.outputs:
        path = os.path.join(base, output.file)
        inside = os.path.join(path, METRICS)
        if output.home == METRICS or output.file == METRICS:
            inside = path
        if os.path.isfile(inside):
            found[output.name] = inside
    return found or dict(zip(("",), _below(base, _DEEPEST)))


def _below(directory: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name == METRICS and entry.is_file():
            yield entry.path
            return
    for entry in entries:
        if depth and entry.is_dir(follow_symlinks=False):
            deeper = list(_below(entry.path, depth - 1))
            if deeper:
                yield deeper[0]
                return


def _read(path: str) -> Data:
    if os.stat(path).st_size > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1_000_000} MB")
    with open(path, encoding="utf-8") as stream:
        data: Data = json.load(stream)
    return data


def flat(data: Data, before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in the data under dotted names; texts, truth values and lists are none."""
    if isinstance(data, dict):
        for key, item in data.items():
            if isinstance(item, dict):
                yield from flat(item, f"{before}{key}.")
            elif isinstance(item, (int, float)) and not isinstance(item, bool):
                yield f"{before}{key}", item


# --- as text, CSV and data -------------------------------------------------------------------------------------------


def number_text(value: float) -> str:
    """A number for a person: up to six digits that count."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _columns(table: Table) -> list[str]:
    """The metrics' columns: those that would bear a name twice have one in front."""
    taken = {"member", "status", "exit_code", "seconds", *table.names}
    return [f"metrics.{name}" if name in taken else name for name in table.metrics]


def table_text(table: Table, rows: Sequence[Row]) -> str:
    """The table with `*` before the best row, and a line below it that names it."""
    lines = [["", "member", *table.names, "status", "seconds", *_columns(table)]]
    for row in rows:
        standing = row.standing
        seconds = "" if standing.seconds is None else f"{standing.seconds:.1f}"
        status = f"{standing.status} ({standing.exit_code})" if standing.status == "failed" else standing.status
        lines.append(["*" if row is table.best else "", str(row.number),
                      *(standing.member.typed.get(name, "") for name in table.names), status, seconds,
                      *("" if row.metrics.get(name) is None else number_text(row.metrics[name]) for name in table.metrics)])
    shown = [[on_one_line(cell) for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in shown) for column in range(len(shown[0]))]
    text = "".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() + "\n" for line in shown)
    return text + (best_text(table) + "\n" if table.best else "")


def best_text(table: Table) -> str:
    """Which member is the best, by what, and its values."""
    assert table.best is not None
    best = table.best
    values = " ".join(f"{name}={text}" for name, text in best.standing.member.typed.items())
    return on_one_line(f"{'largest' if table.largest else 'smallest'} {table.metric}: member {best.number} with "
                       f"{number_text(best.metrics[table.metric])} ({values})")


def table_csv(table: Table, rows: Sequence[Row]) -> str:
    """The table as CSV, numbers in full."""
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["member", *table.names, "status", "exit_code", "seconds", *_columns(table)])
    for row in rows:
        standing = row.standing
        writer.writerow([row.number, *(standing.member.typed.get(name, "") for name in table.names), standing.status,
                         standing.exit_code, None if standing.seconds is None else round(standing.seconds, 3),
                         *(row.metrics.get(name) for name in table.metrics)])
    return stream.getvalue()


def table_data(table: Table, rows: Sequence[Row]) -> dict[str, object]:
    """The document mlcube.sweep-table.v1."""
    return {
        "schema": "mlcube.sweep-table.v1", "sweep_id": table.sweep.id, "directory": table.sweep.directory,
        "names": list(table.names), "metrics": list(table.metrics), "metric": table.metric or None,
        "best_is": ("largest" if table.largest else "smallest") if table.metric else None,
        "best": table.best.number if table.best else None,
        "rows": [{
            "number": row.number, "directory": table.sweep.member_directory(row.number), "run_id": row.standing.run_id or None,
            "values": {name: value.data for name, value in row.standing.member.values.items()}, "status": row.standing.status,
            "exit_code": row.standing.exit_code,
            "seconds": None if row.standing.seconds is None else round(row.standing.seconds, 3),
            "metrics": {name: value if abs(value) < float("inf") else None for name, value in row.metrics.items()},
        } for row in rows],
    }
