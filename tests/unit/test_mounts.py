"""What a container sees: shared mounts, read-only islands in writable directories, and paths that CSV must carry."""

from __future__ import annotations

import csv
import io
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlcube_shell.docker_engine import Engine
from mlcube_shell.docker_mounts import mount_words
from mlcube_shell.mounts import Mount, View, output_directories, view_of
from tests.world import World, job_of

W = "/cube/workspace"


def view(*arguments: dict[str, str], paths: dict[str, Any] | None = None) -> View:
    job = job_of("docker", {}, list(arguments))
    return World(paths=paths or {}).decide(lambda facts: view_of(job, facts))


def an(name: str, path: str, direction: str = "input", type: str = "directory", mode: str = "") -> dict[str, str]:
    return {"name": name, "host_path": path, "direction": direction, "type": type, "mode": mode}


def test_directories_and_files_are_mounted_alone_and_read_only() -> None:
    seen = view(an("data", f"{W}/data"), an("settings", f"{W}/s.yaml", type="file"))
    assert seen.mounts == (Mount(f"{W}/data", "/mlcube_io0", True), Mount(f"{W}/s.yaml", "/mlcube_io1/s.yaml", True))
    assert seen.paths == {"data": "/mlcube_io0", "settings": "/mlcube_io1/s.yaml"}


def test_inputs_that_say_so_are_writable() -> None:
    assert view(an("data", f"{W}/data", mode="rw")).mounts == (Mount(f"{W}/data", "/mlcube_io0", False),)


def test_an_output_file_is_mounted_with_its_directory() -> None:
    seen = view(an("model", "/out/model.bin", "output", "file"))
    assert seen.mounts == (Mount("/out", "/mlcube_io0", False),)
    assert seen.paths == {"model": "/mlcube_io0/model.bin"}


def test_an_output_of_unknown_type_is_mounted_with_its_directory() -> None:
    assert view(an("log", f"{W}/log", "output", "unknown")).paths == {"log": "/mlcube_io0/log"}


def test_equal_paths_share_a_mount() -> None:
    seen = view(an("a", "/d"), an("b", "/d"), an("x", "/o", "output"), an("y", "/o/f", "output", "file"))
    assert seen.mounts == (Mount("/d", "/mlcube_io0", True), Mount("/o", "/mlcube_io1", False))
    assert seen.paths == {"a": "/mlcube_io0", "b": "/mlcube_io0", "x": "/mlcube_io1", "y": "/mlcube_io1/f"}


def test_one_path_as_input_and_output_is_writable_and_shared() -> None:
    seen = view(an("a", "/d"), an("b", "/d", "output"))
    assert seen.mounts == (Mount("/d", "/mlcube_io0", False),)


def test_inputs_below_an_output_stay_read_only_there_too() -> None:
    seen = view(an("raw", "/o/in/raw"), an("settings", "/o/s.yaml", type="file"), an("out", "/o", "output"))
    assert seen.mounts == (
        Mount("/o/in/raw", "/mlcube_io0", True), Mount("/o/s.yaml", "/mlcube_io1/s.yaml", True),
        Mount("/o", "/mlcube_io2", False), Mount("/o/s.yaml", "/mlcube_io2/s.yaml", True),
        Mount("/o/in/raw", "/mlcube_io2/in/raw", True))


def test_an_output_below_an_input_has_its_own_mount() -> None:
    seen = view(an("data", "/d"), an("out", "/d/out", "output"))
    assert seen.mounts == (Mount("/d", "/mlcube_io0", True), Mount("/d/out", "/mlcube_io1", False))


def test_links_are_followed_before_saying_what_lies_below_what() -> None:
    seen = view(an("data", "/link"), an("out", "/o", "output"),
                paths={"/link": {"kind": "directory", "real": "/o/real"}})
    assert seen.mounts[-1] == Mount("/link", "/mlcube_io1/real", True)


def test_an_input_directory_that_an_output_file_is_written_into_is_noted() -> None:
    seen = view(an("data", "/d"), an("report", "/d/report.json", "output", "file"))
    assert seen.mounts == (Mount("/d", "/mlcube_io0", True), Mount("/d", "/mlcube_io1", False))
    assert len(seen.notes) == 1 and "'data'" in seen.notes[0] and "'report'" in seen.notes[0]


def test_our_own_records_in_the_workspace_are_hidden() -> None:
    there = {f"{W}/.mlcube": "directory"}
    seen = view(an("all", W), an("log", f"{W}/log", "output"), paths=there)
    assert seen.mounts[-1] == Mount(None, "/mlcube_io0/.mlcube", True)
    assert view(an("above", "/cube"), paths=there).mounts[-1].target == "/mlcube_io0/workspace/.mlcube"
    assert seen.covered == ()
    assert len(view(an("data", f"{W}/data"), paths=there).mounts) == 1


def test_records_that_the_first_run_is_about_to_write_are_hidden_from_it() -> None:
    seen = view(an("all", W))
    assert seen.mounts[-1] == Mount(None, "/mlcube_io0/.mlcube", True) and seen.covered == (f"{W}/.mlcube",)
    never = view(an("all", W), paths={f"{W}/.mlcube": {"kind": "absent", "creatable": False}})
    assert len(never.mounts) == 1 and never.covered == ()


def test_output_directories_are_made_and_inputs_never() -> None:
    job = job_of("docker", {}, [an("data", "/d"), an("o", "/o", "output"), an("f", "/p/f", "output", "file"),
                                an("u", "/q/u", "output", "unknown"), an("o2", "/o", "output")])
    assert output_directories(job) == ("/o", "/p", "/q")


# --- properties ------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters="/\0\r", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda name: name not in (".", ".."))
FEW = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(FEW, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
ARGUMENTS = st.lists(st.tuples(PATHS, st.sampled_from(["input", "output"]), st.sampled_from(["file", "directory"]),
                               st.booleans()), min_size=1, max_size=5)


def at(seen: View, path: str) -> tuple[str, bool]:
    """The path of this machine behind a path of the container, and whether it is read-only: the innermost mount rules."""
    inner = max((mount for mount in seen.mounts if (path + "/").startswith(mount.target + "/")),
                key=lambda mount: len(mount.target))
    return os.path.normpath(f"{inner.source}/{path[len(inner.target):]}"), inner.read_only


@given(ARGUMENTS)
def test_every_argument_is_its_own_path_with_its_own_right(drawn: list[tuple[str, str, str, bool]]) -> None:
    listed = [an(f"p{number}", path, direction, type, "rw" if writable or direction == "output" else "ro")
              for number, (path, direction, type, writable) in enumerate(drawn)]
    seen = view(*listed)
    written = {argument["host_path"] for argument in listed if argument["mode"] == "rw"}
    targets = [mount.target for mount in seen.mounts]
    assert len(set(targets)) == len(targets)
    for argument in listed:
        path, read_only = at(seen, seen.paths[argument["name"]])
        assert path == argument["host_path"]
        assert read_only is (path not in written)


@given(ARGUMENTS)
def test_no_way_through_the_mounts_leads_to_a_writable_input(drawn: list[tuple[str, str, str, bool]]) -> None:
    listed = [an(f"p{number}", path, direction, type) for number, (path, direction, type, _) in enumerate(drawn)]
    seen = view(*listed)
    written = {argument["host_path"] for argument in listed if argument["direction"] == "output"}
    folders = set(output_directories(job_of("docker", {}, listed)))
    for argument in listed:
        path = argument["host_path"]
        if argument["direction"] == "output" or path in written or path in folders:
            continue
        for mount in seen.mounts:
            if mount.source and (path + "/").startswith(mount.source.rstrip("/") + "/"):
                way = os.path.normpath(mount.target + "/" + path[len(mount.source.rstrip("/")):])
                assert at(seen, way)[1], f"{way} is writable"


@given(NAMES, NAMES)
def test_mounts_survive_csv(folder: str, name: str) -> None:
    job = job_of("docker", {})
    engine = World().decide(lambda facts: Engine(job, facts, ("docker",), "docker"))
    flag, text = mount_words(engine, (Mount(f"/{folder}/{name}", f"/io/{name}", True),))
    (fields,) = csv.reader(io.StringIO(text + "\n", newline=""), strict=True)
    assert flag == "--mount"
    assert fields == ["type=bind", f"source=/{folder}/{name}", f"target=/io/{name}", "readonly"]
