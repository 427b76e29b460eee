"""`mlcube cache`: what may go (pure), and list and prune of a cache directory that a test writes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlcube_cli import locks
from mlcube_cli.cache import contents, made, uses
from mlcube_cli.cache.pruning import DAY, WHOLE, Item, Wish, age_text, removable, size_text, why_removable
from tests.conftest import CHECKOUT, Outcome, RunMLCube

NOW = 1_800_000_000.0
AA, BB = "a" * 32, "b" * 32  # verdicts
OLD, NEW = ("0" * 20 + "-cpython-311-30b07f0", "1" * 20 + "-cpython-311-30b07f0")  # builds
KEY = "cpython-3.11.7-" + "0123456789abcdef0123"


def item(kind: str = "environment", idle_days: float = 100, **fields: Any) -> Item:
    return replace(Item(kind, f"/cache/{kind}", kind, 10, NOW - idle_days * DAY), **fields)


# --- deciding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one, older_than, reason", [
    (item("environment"), None, ""),
    (item("environment"), 30 * DAY, "not used for 100 days"),
    (item("environment", 29), 30 * DAY, ""),
    (item("environment", 2, state="unfinished"), None, "unfinished"),
    (item("environment", 0.001, state="unfinished"), None, ""),
    (item("environment", state="unfinished", used_by="process 1 on h"), 30 * DAY, ""),
    (item("environment", used_by="process 1 on h"), 1.0, ""),
    (item("image"), None, ""),
    (item("image"), 30 * DAY, "not used for 100 days"),
    (item("build", 29), 1 * DAY, ""),
    (item("build", 31), None, "not used for 31 days"),
    (item("build", 31, used_by="this process"), None, ""),
    (item("verdict", 29), None, ""),
    (item("verdict", 31), None, "not used for 31 days"),
    (item("verdict", 2), DAY, "not used for 2 days"),
    (item("lock", 0, state="its owner is gone"), None, "its owner is gone"),
    (item("lock", used_by="process 1 on h"), DAY, ""),
    (item("other"), 1.0, ""),
    (item("environment", -5), 30 * DAY, ""),  # a clock that was wrong
])
def test_what_may_go_and_why(one: Item, older_than: float | None, reason: str) -> None:
    assert why_removable(one, Wish(older_than), NOW) == reason


def test_only_the_kinds_that_were_asked_for_go() -> None:
    items = [item(kind) for kind in ("environment", "image", "build", "verdict")]
    chosen = removable(items, Wish(DAY, ("build", "image")), NOW)
    assert [found.kind for found, _ in chosen] == ["image", "build"]


@pytest.mark.parametrize("size, text", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4096, "4.1 kB"), (99_949, "99.9 kB"),
                                        (99_950, "100 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"),
                                        (1_234_567_890, "1.2 GB"), (5 * 10**15, "5000 TB")])
def test_sizes_are_readable(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize("seconds, text", [(-5, "less than a minute"), (59, "less than a minute"), (60, "1 minute"),
                                           (7199, "1 hour"), (7200, "2 hours"), (86400, "1 day"), (40 * DAY, "40 days")])
def test_ages_are_readable(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


# --- a cache on the disk -------------------------------------------------------------------------------------------


class Place:
    """A cache directory that a test fills; its things were last used `days` ago."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, mode=0o700)

    def file(self, path: str, text: str = "x" * 5000, days: float = 100) -> Path:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(text)
        return self.age(file, days)

    def age(self, path: Path, days: float = 100) -> Path:
        """Every entry at and below the path (links themselves, too) gets a time `days` ago."""
        when = time.time() - days * DAY
        below = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else []
        for entry in (*below, path):
            os.utime(entry, (when, when), follow_symlinks=False)
        return path

    def environment(self, key: str = KEY, made: str = "Ab12Cd", days: float = 100, published: bool = True) -> Path:
        room = self.directory / "environments"
        self.file(f"environments/{key}.{made}/environment/bin/python")
        self.file(f"environments/{key}.{made}/environment/mlcube-complete", "1 3.11.7\n")
        self.file(f"environments/{key}.{made}/requirements", "--index-url https://me:pw@host/simple numpy==2\n")
        if published:
            (room / key).symlink_to(f"{key}.{made}/environment")
        return self.age(room / f"{key}.{made}", days)

    def left(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.glob("*/*")}


@pytest.fixture
def place(home: Path) -> Place:
    return Place(home / ".cache/mlcube")


def prune(run_mlcube: RunMLCube, *words: str) -> Outcome:
    outcome = run_mlcube("cache", "prune", *words)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def test_list_shows_what_is_there_and_keeps_passwords_to_itself(place: Place, run_mlcube: RunMLCube) -> None:
    place.environment(days=3)
    for name in (AA, BB):
        place.file(f"verdicts/{name}", days=1)
    place.file(f"pyz/{OLD}/complete", days=2)
    place.file("stranger/file", days=1)
    outcome = run_mlcube("cache", "list")
    assert outcome.exit_code == 0
    lines = outcome.stdout.splitlines()
    assert lines[0].split() == ["KIND", "SIZE", "LAST", "USED", "NAME"]
    assert any(line.startswith("environment") and "3 days ago" in line and line.endswith(
        "cpython-3.11.7 with --index-url https://***@host/simple numpy==2") for line in lines)
    assert any(line.startswith("build") and f"mlcube.pyz {'0' * 20} for cpython-311-30b07f0" in line for line in lines)
    assert any(line.startswith("verdict") and line.endswith("2 definitions found valid") for line in lines)
    assert any(line.startswith("other") and line.endswith("stranger") for line in lines)
    assert "pw" not in outcome.stdout
    assert "would free 0 B" in lines[-1]


def test_digests_of_image_files_are_shown_and_go_when_nobody_asked_for_them(place: Place, run_mlcube: RunMLCube) -> None:
    place.file(f"digests/{AA}", days=2)
    place.file(f"digests/{BB}", days=31)
    place.file("digests/my notes", days=99)
    shown = run_mlcube("cache", "list", "--kind", "digest").stdout
    assert shown.count("the sha256 of an image file") == 2 and "my notes" not in shown
    prune(run_mlcube, "--kind", "digest")
    assert place.left() == {f"digests/{AA}", "digests/my notes"}
    prune(run_mlcube, "--kind", "digest", "--older-than", "1d")
    assert place.left() == {"digests/my notes"}


def test_json_is_the_document_that_the_schema_describes(place: Place, run_mlcube: RunMLCube) -> None:
    place.environment()
    place.file(f"verdicts/{AA}")
    schema = json.loads((CHECKOUT / "schemas/mlcube.cache.v1.json").read_text())
    listed = json.loads(run_mlcube("cache", "list", "--json").stdout)
    jsonschema.validate(listed, schema)
    assert {found["kind"] for found in listed["items"]} == {"environment", "verdict"}
    assert listed["size"] == sum(found["size"] for found in listed["items"]) > 15000
    tried = json.loads(prune(run_mlcube, "--older-than", "30d", "--dry-run", "--json").stdout)
    jsonschema.validate(tried, schema)
    assert [found["removed"] for found in tried["items"]] == [False, False] and tried["freed"] == 0
    assert len(place.left()) == 3
    gone = json.loads(prune(run_mlcube, "--older-than", "30d", "--json").stdout)
    jsonschema.validate(gone, schema)
    assert [found["removed"] for found in gone["items"]] == [True, True] and gone["freed"] == listed["size"]
    assert {found["reason"] for found in gone["items"]} == {"not used for 100 days"}
    assert place.left() == set()


def test_prune_frees_what_nothing_can_need_and_nothing_else(place: Place, run_mlcube: RunMLCube) -> None:
    place.environment()  # whole, unused for long: costly, so it stays
    place.environment(made="Old123", published=False)
    unfinished = place.environment("cpython-3.12.1-" + "f" * 20, published=False)
    (unfinished / "making").touch()
    place.age(unfinished)
    damaged = place.environment("cpython-3.9.2-" + "e" * 20)
    (damaged / "environment/mlcube-complete").unlink()
    place.age(damaged)
    (place.directory / "environments" / ("cpython-3.8.1-" + "d" * 20)).symlink_to("gone/environment")
    place.age(place.directory / "environments" / ("cpython-3.8.1-" + "d" * 20))
    for strange in ("environments/my notes", "verdicts/my notes", "pyz/my-notes"):
        place.file(strange)
    place.file(f"verdicts/{AA}")
    place.file(f"verdicts/{AA}.123.tmp")
    place.file(f"verdicts/{BB}", days=3)
    place.age(place.file(f"pyz/{OLD}/complete").parent)
    place.file(f"pyz/{NEW}/complete", days=3)
    place.age(place.file(f"pyz/{OLD}.host.12.partial/x").parent)
    place.file("stranger/file")
    before = place.left()
    shown = prune(run_mlcube, "--dry-run").stdout
    assert place.left() == before and shown.count("would remove") == 7
    gone = prune(run_mlcube).stdout
    assert gone == shown.replace("would remove", "removed").replace("would free", "freed")
    assert place.left() == {
        f"environments/{KEY}", f"environments/{KEY}.Ab12Cd", "environments/my notes", f"verdicts/{BB}", "verdicts/my notes",
        f"pyz/{NEW}", "pyz/my-notes", "stranger/file"}
    assert prune(run_mlcube).stdout == "freed 0 B\n"


def test_older_than_frees_environments_and_their_links(place: Place, run_mlcube: RunMLCube) -> None:
    place.environment(days=40)
    place.environment("cpython-3.12.1-" + "f" * 20, days=20)
    assert "environment cpython-3.11.7 with" in prune(run_mlcube, "--older-than=30d").stdout
    assert place.left() == {f"environments/cpython-3.12.1-{'f' * 20}", f"environments/cpython-3.12.1-{'f' * 20}.Ab12Cd"}


@pytest.fixture
def image(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image in a workspace, made by a step of ours, and not used for 100 days."""
    monkeypatch.setenv("MLCUBE_HOME", str(place.directory))
    path = tmp_path / "cube/workspace/.image/org.sif"
    path.parent.mkdir(parents=True)
    with made.noting(str(path)):
        path.write_text("x" * 5000)
    place.age(place.directory / "images")
    return path


def test_an_image_that_we_made_goes_when_it_was_not_used_for_long(image: Path, place: Place, run_mlcube: RunMLCube) -> None:
    assert str(image) in run_mlcube("cache", "list").stdout
    assert prune(run_mlcube).stdout == "freed 0 B\n"
    with uses.keeping(str(image)):
        place.age(place.directory / "images")
        assert prune(run_mlcube, "--older-than=1d").stdout == "freed 0 B\n"
    assert prune(run_mlcube, "--older-than=1d").stdout == "freed 0 B\n", "it was used just now"
    place.age(place.directory / "images")
    assert f"removed image {image}, 8.2 kB: not used for 100 days" in prune(run_mlcube, "--older-than=1d").stdout
    assert not image.exists() and place.left() == set()


@pytest.mark.parametrize("change", ["another content", "another file", "a link", "nothing"])
def test_an_image_that_is_not_as_we_made_it_stays(image: Path, place: Place, run_mlcube: RunMLCube, change: str) -> None:
    if change == "another content":
        image.write_text("y" * 5000)
    else:
        image.rename(image.with_name("mine.sif"))
        if change == "another file":
            image.write_text("x" * 5000)
        elif change == "a link":
            image.symlink_to("other.sif")
            image.with_name("other.sif").write_text("x" * 5000)
    before = {path: path.read_text() for path in image.parent.iterdir()}
    said = prune(run_mlcube, "--older-than=1d").stdout
    assert f"removed image (the note about {image})" in said and "the image is gone, or another one" in said
    assert {path: path.read_text() for path in image.parent.iterdir()} == before and place.left() == set()


def test_only_a_file_that_the_step_made_is_noted(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCUBE_HOME", str(place.directory))
    there = tmp_path / "there.sif"
    there.write_text("x")
    for path in (None, str(there), str(tmp_path / "absent.sif")):
        with made.noting(path):
            pass
    with made.noting(str(tmp_path / "sandbox")):
        (tmp_path / "sandbox").mkdir()
    assert place.left() == set()


def test_kinds_can_be_chosen(place: Place, run_mlcube: RunMLCube) -> None:
    place.environment()
    place.file(f"verdicts/{AA}")
    prune(run_mlcube, "--older-than", "1d", "--kind", "verdict,build")
    assert place.left() == {f"environments/{KEY}", f"environments/{KEY}.Ab12Cd"}
    assert AA not in run_mlcube("cache", "list", "--kind=verdict").stdout


def test_what_a_run_uses_stays(place: Place, run_mlcube: RunMLCube, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place.environment()
    monkeypatch.setenv("MLCUBE_HOME", str(place.directory))
    with uses.keeping(str(place.directory / "environments" / KEY)):
        place.age(found)
        listed = run_mlcube("cache", "list").stdout
        assert f"in use by process {os.getpid()} on " in listed
        prune(run_mlcube, "--older-than", "1d")
        assert found.is_dir()
    place.age(found)
    assert (found / "environment").stat().st_mtime < time.time() - 90 * DAY
    prune(run_mlcube, "--older-than", "1d")
    assert not found.exists()
    assert list((place.directory / "uses").iterdir()) == []


def test_use_is_noted_at_the_end_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place.environment()
    monkeypatch.setenv("MLCUBE_HOME", str(place.directory))
    with uses.keeping(str(place.directory / "environments" / KEY)):
        assert time.time() - contents.last_used("environment", str(found)) < 60
        place.age(found)
    assert time.time() - contents.last_used("environment", str(found)) < 60


def test_what_a_process_of_this_machine_names_stays(place: Place, run_mlcube: RunMLCube) -> None:
    import subprocess

    found = place.environment()
    sleeping = subprocess.Popen(["sleep", "60"], env={**os.environ, "VIRTUAL_ENV": str(place.directory / "environments" / KEY)})
    try:
        prune(run_mlcube, "--older-than", "1d")
        assert found.is_dir()
    finally:
        sleeping.kill()
        sleeping.wait()
    prune(run_mlcube, "--older-than", "1d")
    assert not found.exists()


def test_an_environment_that_is_being_made_stays(place: Place, run_mlcube: RunMLCube) -> None:
    unfinished = place.environment(published=False)
    (unfinished / "making").touch()
    place.age(unfinished)
    with locks.lock(str(place.directory / "locks"), str(place.directory / "environments" / KEY), 1, print):
        assert prune(run_mlcube).stdout == "freed 0 B\n"
        assert unfinished.is_dir()
    prune(run_mlcube)
    assert not unfinished.exists()


@pytest.mark.parametrize("room", ["locks", "uses"])
def test_what_a_dead_owner_left_goes_and_a_living_ones_stays(place: Place, run_mlcube: RunMLCube, room: str) -> None:
    dead = replace(locks.myself(), start="1")  # our pid, but a process that started at another time
    for name, owner in (("dead.lock", dead), ("living.lock", locks.myself())):
        place.file(f"{room}/{name}/{owner.name()}", "")
    assert "1 " not in prune(run_mlcube, "--kind=build").stdout
    assert "dead.lock" in prune(run_mlcube).stdout
    assert place.left() == {f"{room}/living.lock"}


def test_links_are_never_followed(place: Place, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "data").write_text("x")
    inside = place.environment()
    (inside / "environment/link").symlink_to(outside)
    (place.directory / "pyz").symlink_to(outside)
    (place.directory / "environments" / f"{KEY}.Zz99Zz").symlink_to(outside)
    place.age(inside)
    outcome = prune(run_mlcube, "--older-than", "1d")
    assert not inside.exists() and (outside / "data").read_text() == "x"
    assert (place.directory / "environments" / f"{KEY}.Zz99Zz").is_symlink()
    assert f"warning: {place.directory}/pyz is left alone" in outcome.stderr


def test_odd_names_stay_on_their_line(place: Place, run_mlcube: RunMLCube) -> None:
    (place.directory / "a\nlock  9 GB\x1b[31m").mkdir()
    assert r"a\nlock  9 GB\x1b[31m" in run_mlcube("cache", "list").stdout


def test_directories_that_nobody_may_write_into_go_too(place: Place, run_mlcube: RunMLCube) -> None:
    found = place.environment()
    (found / "environment/bin").chmod(0o500)
    (found / "environment").chmod(0o500)
    prune(run_mlcube, "--older-than", "1d")
    assert place.left() == set()


def test_what_an_interrupted_prune_left_goes(place: Place, run_mlcube: RunMLCube) -> None:
    place.age(place.file(f"environments/{KEY}.Ab12Cd.77.gone/environment/bin/python").parents[2])
    prune(run_mlcube)
    assert place.left() == set()


def test_one_that_a_plan_is_about_to_use_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the cache and the removal, and before the run has marked what it uses."""
    monkeypatch.setenv("MLCUBE_HOME", str(place.directory))
    found = place.environment()
    link = str(place.directory / "environments" / KEY)
    items, _ = contents.look_at(str(place.directory))
    (one,) = [one for one in items if one.kind == "environment"]
    assert uses.claim(link)
    assert contents.remove(str(place.directory), one) == "somebody used it just now"
    assert found.is_dir()
    found.rename(found.with_name("gone"))
    assert os.path.lexists(link) and not uses.claim(link)


def test_one_that_is_used_in_the_very_moment_is_named_back(place: Place) -> None:
    found = place.environment()
    items, _ = contents.look_at(str(place.directory))
    (one,) = [item for item in items if item.kind == "environment"]
    assert (one.state, one.used_by) == (WHOLE, "")
    os.utime(found / "environment/mlcube-complete")  # as the check of a run does
    assert contents.remove(str(place.directory), one) == "somebody used it just now"
    assert (found / "environment/bin/python").is_file() and (place.directory / "environments" / KEY).is_dir()


# --- what can be typed wrong, and caches that cannot be used -----------------------------------------------------------


@pytest.mark.parametrize("words, said", [
    ((), "takes one word: list or prune"),
    (("purge",), "takes one word: list or prune"),
    (("list", "--dry-run"), "removes nothing"),
    (("prune", "--older-than", "5m"), "within the last hour"),
    (("prune", "--older-than", "soon"), "not a length of time"),
    (("prune", "--kind", "environments"), "there is no kind 'environments'"),
])
def test_wrong_words_are_exit_2(run_mlcube: RunMLCube, words: tuple[str, ...], said: str) -> None:
    outcome = run_mlcube("cache", *words)
    assert outcome.exit_code == 2 and said in outcome.stderr and "hint: " in outcome.stderr


@pytest.mark.parametrize("env, said", [
    ({"MLCUBE_HOME": "/proc/none"}, "/proc/none is not there, and cannot be made"),
    ({"MLCUBE_HOME": "/dev/null"}, "a directory of your own"),
    ({"MLCUBE_HOME": "", "HOME": ""}, "HOME is not set"),
])
def test_a_cache_that_cannot_be_used_is_exit_4(run_mlcube: RunMLCube, env: dict[str, str], said: str) -> None:
    outcome = run_mlcube("cache", "list", env=env)
    assert outcome.exit_code == 4 and said in outcome.stderr and "MLCUBE_HOME" in outcome.stderr


def test_a_cache_that_others_can_write_into_is_not_touched(place: Place, run_mlcube: RunMLCube) -> None:
    place.file(f"verdicts/{AA}")
    place.directory.chmod(0o777)
    assert run_mlcube("cache", "prune", "--older-than", "1d").exit_code == 4
    assert place.left() == {f"verdicts/{AA}"}
