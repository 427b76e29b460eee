"""The verdict cache: what it keeps, when an entry counts, and that nothing it does can hurt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcube_cli.definition import store
from mlcube_cli.definition.source import Document
from mlcube_cli.definition.store import Checked, read_checked
from mlcube_cli.errors import DefinitionError

GOOD = "name: a\nversion: 1.10\ndocker: {image: a, env: {A: ~}}\ntasks: {t: }\n"


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    path = tmp_path / "mlcube.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "cache"
    path.mkdir()
    return path


def inline(_: Document) -> str | None:
    return "mlcube"


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "verdicts").glob("*")) if (cache / "verdicts").exists() else []


def read(cube: Path, cache: Path | None) -> Checked:
    return read_checked(str(cube), inline, str(cache) if cache else None, "shown.yaml")


def fails(*_: object) -> None:
    raise AssertionError("parsed afresh")


def test_what_was_valid_is_not_parsed_again(cube: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(cube, cache)
    monkeypatch.setattr(store, "parse_document", fails)
    assert read(cube, cache) == first
    assert first.problems == ()
    assert first.schema == "mlcube"
    assert first.document.text(("version",)) == "1.10"


def test_one_name_a_reader(cube: Path, cache: Path) -> None:
    read(cube, cache)
    again = read_checked(str(cube), inline, str(cache), "another name")
    assert again.document.file == "another name"
    assert len(entries(cache)) == 1


@pytest.mark.parametrize("text", [GOOD + "\n", GOOD.replace("1.10", "1.11"), GOOD + "x: 1\n"])
def test_another_byte_is_another_file(cube: Path, cache: Path, text: str) -> None:
    read(cube, cache)
    status = cube.stat()
    cube.write_text(text)
    os.utime(cube, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read(cube, cache) == read(cube, None)


@pytest.mark.parametrize("text", ["name: a\n", GOOD + "authrs: a\n"])
def test_problems_and_even_warnings_are_not_kept(cube: Path, cache: Path, text: str) -> None:
    cube.write_text(text)
    assert read(cube, cache).problems
    assert read(cube, cache).problems
    assert entries(cache) == []


def test_refusals_are_not_kept(cube: Path, cache: Path) -> None:
    cube.write_text("a: [")
    for _ in range(2):
        with pytest.raises(DefinitionError):
            read(cube, cache)
    assert entries(cache) == []


def test_a_document_without_a_schema_is_kept_too(cube: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube.write_text("anything: [1]\n")
    first = read_checked(str(cube), lambda _: None, str(cache))
    monkeypatch.setattr(store, "parse_document", fails)
    assert read_checked(str(cube), lambda _: None, str(cache)) == first


def test_another_choice_of_schema_is_checked(cube: Path, cache: Path) -> None:
    assert read(cube, cache).problems == ()
    assert read_checked(str(cube), lambda _: "mlcube_root", str(cache)).problems != ()


@pytest.mark.parametrize("change", ["version", "schema", "format"])
def test_another_version_or_schema_checks_again(cube: Path, cache: Path, change: str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    read(cube, cache)
    before = entries(cache)[0].read_bytes()
    if change == "version":
        monkeypatch.setattr(store, "__version__", "9")
    elif change == "format":
        monkeypatch.setattr(store, "FORMAT", 99)
    else:
        monkeypatch.setattr(store, "schema_bytes", lambda _: b"{}")
    assert read(cube, cache).problems == ()
    assert entries(cache)[0].read_bytes() != before


def test_without_a_cache_nothing_is_written(cube: Path, tmp_path: Path) -> None:
    read(cube, None)
    assert [path.name for path in tmp_path.iterdir()] == ["mlcube.yaml"]


@pytest.mark.parametrize("kind", ["file", "absent below a file", "link to nowhere"])
def test_an_unusable_cache_does_not_matter(cube: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "link to nowhere":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.write_text("")
    cache = place / "below" if kind.startswith("absent") else place
    assert read(cube, cache) == read(cube, None)


def test_an_unwritable_entry_leaves_no_rest(cube: Path, cache: Path) -> None:
    read(cube, cache)
    entry, = entries(cache)
    entry.unlink()
    entry.mkdir()
    (entry / "in the way").write_text("")
    assert read(cube, cache) == read(cube, None)
    assert entries(cache) == [entry]


def test_the_cache_is_the_callers_alone(cube: Path, cache: Path) -> None:
    read(cube, cache)
    assert (cache / "verdicts").stat().st_mode & 0o777 == 0o700


def test_large_files_are_not_kept(cube: Path, cache: Path) -> None:
    cube.write_text(GOOD + "# " + "x" * store.LARGEST_KEPT)
    read(cube, cache)
    assert entries(cache) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_entry_does_not_count(cube: Path, cache: Path, data: st.DataObject) -> None:
    first = read(cube, cache)
    entry, = entries(cache)
    content = bytearray(entry.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    entry.write_bytes(bytes(content))
    assert read(cube, cache) == first


@pytest.mark.parametrize("payload", [None, (1,), (b"", GOOD.encode(), "mlcube", {}, {}, {}), "text", (1, 2, 3, 4, 5, 6)])
def test_a_foreign_entry_does_not_count(cube: Path, cache: Path, payload: object) -> None:
    """Well-formed, with the right digest, yet not ours."""
    import marshal

    first = read(cube, cache)
    content = marshal.dumps(payload)
    entries(cache)[0].write_bytes(store.blake2b(content, digest_size=16).digest() + content)
    assert read(cube, cache) == first


def test_a_hit_imports_neither_parser_nor_validator(cube: Path, cache: Path) -> None:
    script = ("import sys\nfrom mlcube_cli.definition.store import read_checked\n"
              "checked = read_checked(sys.argv[1], lambda _: 'mlcube', sys.argv[2])\n"
              "assert checked.document.data['name'] == 'a' and not checked.problems\n"
              "print(*[name for name in ('yaml', 'jsonschema', 'json', 'pathlib', 'hashlib', 'urllib', 'tempfile', "
              "'mlcube_cli.definition.compose', 'mlcube_cli.definition.explain') if name in sys.modules])\n")

    def loaded() -> list[str]:
        done = subprocess.run([sys.executable, "-c", script, cube, cache], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert {"yaml", "jsonschema"} <= set(loaded())
    assert loaded() == []


def test_many_readers_at_once(cube: Path, cache: Path) -> None:
    script = ("import sys\nfrom mlcube_cli.definition.store import read_checked\n"
              "for _ in range(20):\n"
              "    assert not read_checked(sys.argv[1], lambda _: 'mlcube', sys.argv[2]).problems\n")
    running = [subprocess.Popen([sys.executable, "-c", script, cube, cache]) for _ in range(6)]
    assert [process.wait(timeout=120) for process in running] == [0] * 6
    assert len(entries(cache)) == 1
