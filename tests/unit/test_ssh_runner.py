"""The ssh runner as a pure function: the way, the cube's directory there, what is sent and fetched; the script that makes the
directories, carried out here."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Step, quote
from mlcube_cli.errors import DefinitionError, MachineError, TransferError
from mlcube_cli.facts import Facts
from mlcube_cli.parcels import Load, Parcel
from mlcube_shell import ssh
from tests.world import World, job_of

RSYNC = "rsync  version 3.2.7  protocol version 31\n"
FAR = "/home/ada/.mlcube/cubes/cube-1"
HOSTILE = "it's $(touch pwned) `touch pwned` \"; touch pwned\n-rf a:b \\ *"


def platform(**options: Any) -> Any:
    return job_of("ssh", {"host": "box", **options}).platform


def world(**fields: Any) -> World:
    paths = {"/cube": "directory", "/cube/workspace": "directory", "/cube/workspace/data": "directory",
             "/cube/workspace/in.txt": "file", **fields.pop("paths", {})}
    probes = {"ssh -G": {}, "rsync --version": {"stdout": RSYNC}, **fields.pop("probes", {})}
    return World(tools={"ssh": "/usr/bin/ssh", "rsync": "/usr/bin/rsync"}, paths=paths, probes=probes, **fields)


def load(*, root: str = FAR, **fields: Any) -> Load:
    return Load(root, "1a2b3c4d", ("/cube", f"{root}/code"), ("/cube/workspace", f"{root}/workspace"), ("/cube/workspace",),
                **{"name": "digits", **fields})


def pushed(some: Load, here: World | None = None, **options: Any) -> tuple[Step, ...]:
    return (here or world()).decide(lambda facts: ssh.push(platform(**options), facts, some))


# --- its directory there ---------------------------------------------------------------------------------------------


def there(**environment: str) -> Facts:
    return World(machine={"home": "/home/ada", "environment": {"HOME": "/home/ada", **environment}}).facts()


@pytest.mark.parametrize(("text", "path"), [
    (None, "/home/ada/.mlcube/cubes/cube-1"),
    ("~/far", "/home/ada/far"),
    ("far/./x/../y", "/home/ada/far/y"),
    ("/scratch/ada", "/scratch/ada"),
    ("$SCRATCH/a b", "/scratch/u/a b"),
    ("${SCRATCH}x", "/scratch/ux"),
    ("/price/$$5", "/price/$5"),
    ("~ada", "/home/ada/~ada"),
])
def test_the_directory_is_named_as_it_reads_there(text: str | None, path: str) -> None:
    options = {} if text is None else {"remote_root": text}
    assert ssh.root(platform(**options), "cube-1", there(SCRATCH="/scratch/u")) == path


def test_a_home_directory_with_a_dollar_in_its_name() -> None:
    facts = World(machine={"home": "/home/a$HOME", "environment": {"HOME": "/x"}}).facts()
    assert ssh.root(platform(remote_root="~/far"), "cube-1", facts) == "/home/a$HOME/far"


@pytest.mark.parametrize("text", ["/", "~", "~/", ".", "//", "~/..//ada", "$HOME", "/home/ada/x/.."])
def test_directories_that_hold_more_than_a_cube(text: str) -> None:
    with pytest.raises(DefinitionError, match="cannot be a directory of ours"):
        ssh.root(platform(remote_root=text), "cube-1", there())


def test_a_variable_that_is_not_set_there() -> None:
    with pytest.raises(DefinitionError, match="SCRATCH is not set there"):
        ssh.root(platform(remote_root="$SCRATCH/x"), "cube-1", there())


# --- making it -------------------------------------------------------------------------------------------------------


def make(some: Load, shell: str = "sh") -> subprocess.CompletedProcess[bytes]:
    script = pushed(some)[0].command.stdin
    return subprocess.run([shell, "-s"], input=script, capture_output=True, check=False, cwd=Path(some.root).parent)


@pytest.mark.parametrize("name", ["far", HOSTILE, os.fsdecode(b"caf\xe9")])
def test_the_directory_is_made_ours_alone_and_once_more_is_the_same(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    some = load(root=str(root), outputs=(Parcel("model", "/cube/workspace/out/model", f"{root}/workspace/out/model"),))
    for _ in range(2):
        done = make(some)
        assert done.returncode == 0, done.stderr
    assert (root / ".mlcube-remote").read_text() == "1a2b3c4d\ndigits\n"
    assert sorted(path.name for path in root.iterdir()) == [".mlcube-remote", "code", "partial", "runs", "workspace"]
    assert (root / "workspace/out").is_dir() and not (root / "workspace/out/model").exists()
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in (root, *root.rglob("*")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_an_empty_directory_becomes_ours_and_nobody_else_looks_in(tmp_path: Path) -> None:
    root = tmp_path / "far"
    root.mkdir(mode=0o755)
    assert make(load(root=str(root))).returncode == 0
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.parametrize(("file", "text", "said"), [
    ("thesis.tex", "years", "did not make it"),
    (".hidden", "years", "did not make it"),
    (".mlcube-remote", "ffffffff\nfaces\n", "belongs to another cube: faces\n"),
    (".mlcube-remote", "ffffffff\ndigits 2\n", "belongs to another cube: digits 2\n"),
    (".mlcube-remote", "ffffffff\n", "belongs to another cube"),
])
def test_somebody_elses_directory_is_left_as_it_is(tmp_path: Path, file: str, text: str, said: str) -> None:
    root = tmp_path / "far"
    root.mkdir(mode=0o755)
    (root / file).write_text(text)
    done = make(load(root=str(root)))
    assert done.returncode == 3 and said in done.stderr.decode()
    assert [path.name for path in root.iterdir()] == [file] and (root / file).read_text() == text
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


@pytest.mark.parametrize(("text", "name", "left"), [
    ("ffffffff\ndigits\n", "digits", "ffffffff\ndigits\n"),  # a clone of the cube has made it
    ("1a2b3c4d\ndigits\n", "numbers", "1a2b3c4d\nnumbers\n"),  # this one has, and was given another name
    ("1a2b3c4d\n", "digits", "1a2b3c4d\ndigits\n"),
    ("ffffffff\n  it's $(touch pwned)\\n\n", "  it's $(touch pwned)\\n", "ffffffff\n  it's $(touch pwned)\\n\n"),
])
def test_a_clone_of_the_cube_and_the_cube_by_another_name_may_use_it(tmp_path: Path, text: str, name: str, left: str) -> None:
    root = tmp_path / "far"
    root.mkdir(mode=0o700)
    (root / ".mlcube-remote").write_text(text)
    some = load(root=str(root), name=name)
    done = make(some)
    assert done.returncode == 0, done.stderr
    assert (root / ".mlcube-remote").read_text() == left
    assert some.is_marked(left.encode(), "box") and some.is_marked(text.encode(), "box") == (left == text)
    assert not some.is_marked(None, "box")
    with pytest.raises(TransferError, match="on box belongs to another cube: faces"):
        some.is_marked(b"ffffffff\nfaces\n", "box")


def test_a_file_in_its_place_stays(tmp_path: Path) -> None:
    (tmp_path / "far").write_text("a file")
    assert make(load(root=str(tmp_path / "far"))).returncode != 0
    assert (tmp_path / "far").read_text() == "a file"


def test_a_disk_that_was_full_when_the_marker_was_written(tmp_path: Path) -> None:
    root = tmp_path / "far"
    root.mkdir()
    (root / ".mlcube-remote").write_text("")
    assert make(load(root=str(root))).returncode == 0
    assert (root / ".mlcube-remote").read_text() == "1a2b3c4d\ndigits\n"


# --- sending and fetching ----------------------------------------------------------------------------------------------


def words(step: Step) -> str:
    return " ".join(step.command.argv)


def test_code_then_inputs_and_no_directories_where_they_are_known_to_be_there() -> None:
    some = load(inputs=(Parcel("data", "/cube/workspace/data", f"{FAR}/workspace/data", "directory"),
                        Parcel("in", "/cube/workspace/in.txt", f"{FAR}/workspace/in.txt", "file")))
    titles = [step.title for step in pushed(some)]
    assert titles == ["make the cube's directory there", "send the cube to box", "send inputs to box"]
    known = load(inputs=some.inputs, made=True)
    assert [step.title for step in pushed(known)] == titles[1:]
    code, inputs = pushed(known)
    assert "--delete" in code.command.argv and "--delete" not in inputs.command.argv
    assert code.command.argv[-2:] == ("/cube/", f"box:{FAR}/code/")
    assert inputs.command.argv[-1] == f"box:{FAR}/workspace/"


def test_no_inputs_are_no_transfer_and_an_input_among_the_code_travels_with_it() -> None:
    assert len(pushed(load(made=True))) == 1
    inside = Parcel("settings", "/cube/settings.yaml", f"{FAR}/runs/R/code/settings.yaml", "file")
    assert len(pushed(load(made=True, inputs=(inside,)), world(paths={"/cube/settings.yaml": "file"}))) == 1


def test_the_marker_and_the_directories_that_are_looked_for() -> None:
    some = load(outputs=(Parcel("m", "/cube/workspace/a/m", f"{FAR}/workspace/a/m"),
                         Parcel("x", "/else/x", f"{FAR}/elsewhere/1/x"),
                         Parcel("c", "/cube/results", f"{FAR}/runs/R/code/results")))
    assert ssh.places(some) == (f"{FAR}/.mlcube-remote", f"{FAR}/code", f"{FAR}/workspace", f"{FAR}/runs", f"{FAR}/partial",
                                f"{FAR}/workspace/a", f"{FAR}/elsewhere/1")


def test_names_are_single_words_whatever_stands_in_them() -> None:
    here = f"/cube/workspace/{HOSTILE}"
    some = load(inputs=(Parcel("data", here, f"{FAR}/workspace/{HOSTILE}", "directory"),), made=True)
    inputs = pushed(some, world(paths={here: "directory"}))[1].command
    assert [word for word in inputs.argv if "pwned" in word and not word.startswith("--")] == [
        f"/cube/workspace/./{HOSTILE}/"]
    assert "--secluded-args" in inputs.argv or "-s" in inputs.argv
    assert not any("pwned" in word for word in ssh_words(inputs.argv))


def ssh_words(argv: tuple[str, ...]) -> list[str]:
    return [word for word in argv if word.startswith("--rsh")]


def test_outputs_come_in_one_transfer_and_kept_ones_come_beside() -> None:
    outputs = (Parcel("m", "/cube/workspace/model", f"{FAR}/workspace/model", "directory"),
               Parcel("l", "/cube/workspace/log", f"{FAR}/workspace/log", "file"))
    some = load(outputs=outputs)
    here = world(paths={"/cube/workspace/model": "directory", "/cube/workspace/log": "file"})
    steps = here.decide(lambda facts: ssh.pull(platform(), facts, some, (), ".from-box-R"))
    assert [step.title for step in steps] == ["fetch outputs from box"]
    kept = here.decide(lambda facts: ssh.pull(platform(), facts, some, ("/cube/workspace/log",), ".from-box-R"))
    assert [step.command.argv[-1] for step in kept] == ["/cube/workspace/", "/cube/workspace/log.from-box-R"]
    assert "--delete" not in words(kept[0]) + words(kept[1])
    assert here.decide(lambda facts: ssh.pull(platform(), facts, load(), (), "")) == ()


def test_no_rsync_on_this_machine() -> None:
    with pytest.raises(MachineError, match="rsync"):
        pushed(load(), world(probes={"rsync --version": {"exit_code": 127}}))


def test_only_transfers_can_be_told() -> None:
    make_it, code = pushed(load())
    assert ssh.told(make_it) is None
    told = ssh.told(code)
    assert told is not None and "--dry-run" in told.argv


def test_the_login_shell_there_gets_one_line_whatever_the_cube_is_called() -> None:
    some = load(root=f"/home/ada/{HOSTILE}")
    step = pushed(some)[0].command
    assert step.argv[-1] == "exec sh -s" and not any("pwned" in word for word in step.argv)
    assert quote(f"/home/ada/{HOSTILE}").encode() in (step.stdin or b"")
