"""Outputs as they were before a run elsewhere, links that lead out of inputs, sizes."""

from __future__ import annotations

import os
from pathlib import Path

from mlcube_cli.manifest import (
    Escape,
    changed_since,
    find_escaping_links,
    last_known,
    load_manifest,
    measure,
    renewed,
    save_manifest,
    take_manifest,
    with_changes_since,
)


def make(top: Path, *names: str) -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    return top


def test_what_changes_is_named_and_what_is_gone_is_not(tmp_path: Path) -> None:
    model = make(tmp_path / "model", "a", "b", "c", "sub/d", ".mlcube/x")
    score = make(tmp_path, "score") / "score"
    manifest = take_manifest([str(model), str(score), str(tmp_path / "absent")])
    assert changed_since(manifest) == ()
    (model / "a").write_text("other")
    os.utime(model / "b", ns=(1, 1))
    (model / "c").unlink()
    (model / "new").symlink_to("b")
    (model / ".mlcube/y").write_text("ours")
    (tmp_path / "absent").write_text("now there")
    expected = (tmp_path / "absent", model / "a", model / "b", model / "new")
    assert changed_since(manifest) == tuple(str(path) for path in expected)


def test_an_output_that_is_a_link_is_looked_into(tmp_path: Path) -> None:
    make(tmp_path / "store", "a")
    (tmp_path / "model").symlink_to("store")
    manifest = take_manifest([str(tmp_path / "model")])
    (tmp_path / "store/a").write_text("changed")
    assert changed_since(manifest) == (str(tmp_path / "model/a"),)


def test_what_was_brought_here_counts_as_unchanged_and_what_was_kept_stays_changed(tmp_path: Path) -> None:
    make(tmp_path, "mine", "brought")
    manifest = take_manifest([str(tmp_path)])
    (tmp_path / "mine").write_text("edited")
    (tmp_path / "added").write_text("new")
    kept = changed_since(manifest)
    (tmp_path / "brought").write_text("from elsewhere")
    assert changed_since(renewed(manifest, kept)) == kept == (str(tmp_path / "added"), str(tmp_path / "mine"))


def test_what_was_changed_before_a_run_is_known_with_how_it_came(tmp_path: Path) -> None:
    out, kept = make(tmp_path / "out", "a", "b"), tmp_path / "kept"
    kept.mkdir()
    first = take_manifest([str(out)])
    save_manifest(str(kept / "1.manifest"), first)
    (out / "a").write_text("edited")
    path = str(out / "a")
    second = with_changes_since(take_manifest([str(out)]), last_known(str(kept), [str(out)]))
    assert second.came == {path: first.marks[path]} and changed_since(second) == ()
    save_manifest(str(kept / "2.manifest"), renewed(second, [path]))
    os.utime(kept / "1.manifest", (1, 1))
    third = with_changes_since(take_manifest([str(out)]), last_known(str(kept), [str(out)]))
    assert third.came == {path: first.marks[path]}
    assert last_known(str(kept), [str(tmp_path / "other")]).marks == {}
    assert last_known(str(tmp_path / "nothing"), [str(out)]).marks == {}


def test_it_survives_between_commands_with_any_name(tmp_path: Path) -> None:
    top = os.fsencode(make(tmp_path / "out", "a"))
    with open(os.path.join(top, b"\xff \n"), "wb"):
        pass
    manifest = take_manifest([os.fsdecode(top)])
    save_manifest(str(tmp_path / "kept"), manifest)
    assert load_manifest(str(tmp_path / "kept")) == manifest
    schema = '"schema": "mlcube.manifest.v1"'
    for text in ("", "[]", f"{{{schema}}}", f'{{{schema}, "paths": [], "marks": {{"a": 1}}}}'):
        (tmp_path / "kept").write_text(text)
        assert load_manifest(str(tmp_path / "kept")) is None
    assert load_manifest(str(tmp_path / "nothing")) is None


def test_links_that_lead_out_of_what_travels_are_found(tmp_path: Path) -> None:
    data = make(tmp_path / "store/data", "a", "sub/b")
    make(tmp_path / "ws/raw", "x")
    (tmp_path / "ws/data").symlink_to("../store/data")
    links = {"inside": "a", "sub/up": "../a", "gone": "nothing", "out": "../secret", "sub/far": "../../../etc/passwd",
             "absolute": "/etc/passwd", "self": str(data / "a"), "other": "../../ws/raw/x"}
    for name, target in links.items():
        (data / name).symlink_to(target)
    inputs = [str(tmp_path / "ws/data"), str(tmp_path / "ws/raw")]
    assert {os.path.relpath(escape.path, inputs[0]): escape.target for escape in find_escaping_links(inputs)} == {
        name: links[name] for name in ("out", "sub/far", "absolute", "self")}
    assert find_escaping_links([str(data / "absolute"), str(tmp_path / "absent")]) == ()
    assert Escape(str(tmp_path / "ws/data/out"), "../secret") in find_escaping_links(inputs)


def test_sizes_count_files_and_not_what_links_lead_to(tmp_path: Path) -> None:
    make(tmp_path / "data", "aa", "b/cc")
    (tmp_path / "data/link").symlink_to("aa")
    make(tmp_path, "sole")
    assert measure([str(tmp_path / "data"), str(tmp_path / "sole"), str(tmp_path / "sole")]) == 2 + 4 + 4
