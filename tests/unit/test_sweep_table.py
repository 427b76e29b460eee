"""A sweep's document, how its members stand by what they left, and the table and the plot of them."""

from __future__ import annotations

import csv
import io
import json
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from mlcube_cli.errors import DefinitionError, UsageError
from mlcube_cli.locks import Owner, myself
from mlcube_cli.sweep.document import Attempt, Member, Output, Sweep, as_data, find_sweep, member_name, read_sweep, write_sweep
from mlcube_cli.sweep.plot import Labels, Point, plot, scale_of
from mlcube_cli.sweep.standing import Standing, code_of, counts_of, counts_text, standings_of
from mlcube_cli.sweep.table import flat, make_table, sorted_rows, table_csv, table_data, table_text
from mlcube_cli.sweep.values import members_of, parse_set
from tests.conftest import CHECKOUT

DEAD = Owner(2 ** 22 + 1, "1", myself().host, myself().boot, myself().space, "")


def sweep(root: Path, *sets: str, owner: Owner | None = DEAD) -> Sweep:
    """A sweep of which one attempt was made."""
    members = tuple(Member(number, values) for number, values in enumerate(members_of([parse_set(text) for text in sets]), 1))
    attempt = Attempt("20260102T030405-abcdef", str(root / ".mlcube/runs/20260102T030405-abcdef"), 1.5,
                      tuple(member.number for member in members), 2, owner)
    outputs = (Output("out", "out/", "out"), Output("scores", "metrics.json", "metrics.json"))
    return Sweep("20260102T030405-abcdef", str(root / "sweeps/20260102T030405-abcdef"), "c", "/c", "train", "local", outputs,
                 members, (attempt,), {"task": "train"})


def left(found: Sweep, number: int, state: str, metrics: object = None, stderr: str = "") -> None:
    """What a member's supervisor leaves."""
    (attempt,) = found.attempts
    for place in (Path(attempt.directory) / str(number), Path(found.run_directory(attempt, number)),
                  Path(found.member_directory(number))):
        place.mkdir(parents=True, exist_ok=True)
    (Path(attempt.directory) / str(number) / "state").write_text(state + "\n")
    (Path(found.run_directory(attempt, number)) / "state").write_text(state + "\n")
    (Path(found.run_directory(attempt, number)) / "stderr.log").write_text(stderr)
    if metrics is not None:
        (Path(found.member_directory(number)) / "metrics.json").write_text(
            metrics if isinstance(metrics, str) else json.dumps(metrics))


@pytest.fixture
def four(tmp_path: Path) -> Sweep:
    found = sweep(tmp_path, "rate=0.1,0.2", "seed=1..2")
    left(found, 1, "succeeded 0 100.0 101.5", {"accuracy": 0.5, "test": {"loss": 2.0}, "name": "x", "ok": True, "epochs": [1]})
    left(found, 2, "succeeded 0 100.0 103.0", {"accuracy": 0.75, "test": {"loss": 1.0}})
    left(found, 3, "failed 3 100.0 101.0", {"accuracy": 0.99}, stderr="Traceback\nValueError: bad\n")
    return found


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = sweep(tmp_path / "odd \udcff", "rate=0.1,1e-3", "tag=a,[1]")
    write_sweep(found)
    assert read_sweep(found.directory) == found
    schema = json.loads((CHECKOUT / "schemas/mlcube.sweep.v1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(as_data(found))
    for text in ("", "{}", '{"schema": "mlcube.sweep.v1"}', "[1]"):
        (Path(found.directory) / "sweep.json").write_text(text)
        with pytest.raises(DefinitionError):
            read_sweep(found.directory)


def test_a_sweep_is_found_by_a_part_of_its_id(tmp_path: Path) -> None:
    for name in ("20260102T030405-abcdef", "20260102T030405-abcxyz", "not-one"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        if name != "not-one":
            (tmp_path / "sweeps" / name / "sweep.json").write_text("{}")
    assert find_sweep(str(tmp_path), None).endswith("abcxyz")
    assert find_sweep(str(tmp_path), "abcd").endswith("abcdef")
    for word in ("abc", "zzz"):
        with pytest.raises(UsageError):
            find_sweep(str(tmp_path), word)
    with pytest.raises(UsageError):
        find_sweep(str(tmp_path / "elsewhere"), None)


def test_names_of_members_sort() -> None:
    assert [member_name(7, 20), member_name(7, 10_000)] == ["0007", "00007"]


def test_members_stand_as_what_they_left_says(four: Sweep) -> None:
    found = standings_of(four)
    assert [(one.status, one.exit_code, one.seconds, one.reason) for one in found] == [
        ("succeeded", 0, 1.5, ""), ("succeeded", 0, 3.0, ""), ("failed", 3, 1.0, "exit code 3: ValueError: bad"),
        ("cancelled", None, None, "it never started")]
    assert counts_text(counts_of(found)) == "2 succeeded, 1 failed, 1 cancelled"
    assert code_of(found) == ("failed", 3)


def test_who_is_gone_has_lost_what_he_ran_and_nothing_that_others_do(tmp_path: Path) -> None:
    found = sweep(tmp_path, "seed=1..3", owner=replace(myself(), token=""))
    for number, owner in ((1, DEAD), (2, myself())):
        left(found, number, "running - 100.0 -")
        place = Path(found.attempts[0].directory) / str(number)
        (place / "owner").write_text("".join(f"{name}={value}\n" for name, value in vars(owner).items()))
    assert [one.status for one in standings_of(found)] == ["lost", "running", "queued"]
    assert [one.status for one in standings_of(found, found.attempts[0].id)] == ["lost", "running", "cancelled"]
    assert code_of(standings_of(found)) == ("lost", 4)


@pytest.mark.parametrize(("statuses", "code"), [
    (["succeeded"], ("succeeded", 0)), (["cancelled", "failed"], ("failed", 7)),
    (["succeeded", "cancelled"], ("cancelled", 143)),
    (["running", "failed"], ("running", 0)), (["succeeded", "lost"], ("lost", 4))])
def test_the_first_that_did_not_succeed_gives_the_code(statuses: list[str], code: tuple[str, int]) -> None:
    assert code_of(tuple(Standing(Member(number, {}), status, 7 if status == "failed" else None)
                         for number, status in enumerate(statuses, 1))) == code


def test_the_best_is_one_that_succeeded(four: Sweep) -> None:
    table = make_table(four, standings_of(four), "accuracy")
    assert table.best is not None
    assert table.best.number == 2
    assert table.metrics == ("accuracy", "test.loss")
    assert [row.number for row in sorted_rows(table)] == [3, 2, 1, 4]
    least = make_table(four, standings_of(four), "test.loss")
    assert not least.largest, "a loss is the better the smaller"
    assert least.best is not None
    assert least.best.number == 2
    assert make_table(four, standings_of(four), "accuracy", False).best.number == 1  # type: ignore[union-attr]
    assert make_table(four, standings_of(four)).best is None, "which of the two metrics counts, nobody said"
    with pytest.raises(UsageError, match="accurcy"):
        make_table(four, standings_of(four), "accurcy")


def test_the_table_is_text_csv_and_data(four: Sweep) -> None:
    table = make_table(four, standings_of(four), "accuracy")
    assert table_text(table, table.rows) == """\
   member  rate  seed  status      seconds  accuracy  test.loss
   1       0.1   1     succeeded   1.5      0.5       2
*  2       0.1   2     succeeded   3.0      0.75      1
   3       0.2   1     failed (3)  1.0      0.99
   4       0.2   2     cancelled
largest accuracy: member 2 with 0.75 (rate=0.1 seed=2)
"""
    rows = list(csv.DictReader(io.StringIO(table_csv(table, table.rows))))
    assert rows[1] == {"member": "2", "rate": "0.1", "seed": "2", "status": "succeeded", "exit_code": "0", "seconds": "3.0",
                       "accuracy": "0.75", "test.loss": "1.0"}
    data = table_data(table, table.rows)
    jsonschema.Draft202012Validator(json.loads((CHECKOUT / "schemas/mlcube.sweep-table.v1.json").read_text())).validate(data)
    assert data["best"] == 2


def test_metrics_that_cannot_be_read_are_told_and_nan_is_no_number(tmp_path: Path) -> None:
    found = sweep(tmp_path, "accuracy=1..3")
    for number, metrics in ((1, "{"), (2, '{"accuracy": NaN}'), (3, {"accuracy": 0.5})):
        left(found, number, "succeeded 0 1 2", metrics)
    table = make_table(found, standings_of(found))
    assert "metrics.json" in table.rows[0].trouble
    assert table.best is table.rows[2]
    assert "metrics.accuracy" in table_csv(table, table.rows).partition("\n")[0], "what a member sets has the name already"
    assert json.loads(json.dumps(table_data(table, table.rows), allow_nan=False))["rows"][1]["metrics"] == {"accuracy": None}


def test_metrics_are_found_in_outputs_else_below_them(tmp_path: Path) -> None:
    found = replace(sweep(tmp_path, "seed=1"), outputs=(Output("one", "one/", "one"), Output("two", "two/", "two")))
    left(found, 1, "succeeded 0 1 2")
    base = Path(found.member_directory(1))
    (base / "metrics.json").unlink(missing_ok=True)
    (base / "one/deep").mkdir(parents=True)
    (base / "one/deep/metrics.json").write_text('{"a": 1}')
    assert make_table(found, standings_of(found)).metrics == ("a",)
    for name in ("one", "two"):
        (base / name).mkdir(exist_ok=True)
        (base / name / "metrics.json").write_text('{"a": 1}')
    assert make_table(found, standings_of(found)).metrics == ("one.a", "two.a")


def test_numbers_are_flat() -> None:
    assert dict(flat({"a": 1, "b": {"c": 2.5, "d": {"e": -1}}, "t": "x", "n": None, "y": True, "l": [1]})) == {
        "a": 1, "b.c": 2.5, "b.d.e": -1}


# --- the plot --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "logarithmic", "texts"), [
    ([0.0, 10.0], False, ["0", "2", "4", "6", "8", "10"]), ([0.001, 0.01, 0.1], True, ["0.001", "0.01", "0.1"]),
    ([5.0], False, ["4.4", "4.6", "4.8", "5", "5.2", "5.4", "5.6"]), ([], False, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ([-1.0, 1000.0], False, ["-200", "0", "200", "400", "600", "800", "1000"]), ([1.0, 40.0], True, ["1", "10", "100"]),
    ([0.0], False, ["-1", "-0.5", "0", "0.5", "1"]),
    ([1e-300, 1e300], True, ["1e-300", "1e-200", "1e-100", "1", "1e+100", "1e+200", "1e+300"])])
def test_scales_hold_all_values(values: list[float], logarithmic: bool, texts: list[str]) -> None:
    scale = scale_of(values)
    assert scale.logarithmic == logarithmic
    assert all(-1e-9 <= scale.share(value) <= 1 + 1e-9 for value in values)
    assert [text for _, text in scale.ticks] == texts


def test_a_plot_is_xml_whatever_names_hold() -> None:
    odd = 'a <b> & "c" \x00 \udcff'
    points = [Point(0.1, 1.0, odd, odd), Point(0.2, float("nan"), "", ""), Point(0.2, float("inf")),
              Point(0.3, 2.0, "1", "", best="member 3 & more")]
    text = plot(points, Labels(odd, odd, odd, odd))
    document = xml.dom.minidom.parseString(text.encode())
    assert len(document.getElementsByTagName("circle")) == 2 + 1 + 2, "points, the ring of the best, the legend"
    assert "prefers-color-scheme: dark" in text
    assert ">member 3 &amp; more</text>" in text


def test_words_have_places_of_their_own_and_many_groups_two_ends() -> None:
    text = plot([Point("adam", 1.0), Point("sgd", 2.0), Point("adam", 3.0)], Labels("t", "optimiser", "loss"))
    assert text.count(">adam<") == 1
    many = plot([Point(float(number), 1.0, str(number)) for number in range(20)], Labels("t", "x", "y", "seed"))
    assert "hsl(240 " in many
    assert "hsl(0 " in many
    assert ">19<" in many
    assert plot([], Labels("t", "x", "y")).startswith("<svg")
