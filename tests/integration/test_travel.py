"""What travels arrives as it was, both ways, and nothing else changes: real rsync, over sshd and over what stands for it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlcube_cli.command import Command, Plan, Step, find_reason
from mlcube_cli.manifest import changed_since, take_manifest
from mlcube_cli.observe import machine, with_facts
from mlcube_cli.parcels import Load, Parcel
from mlcube_cli.script import script
from mlcube_shell import rsync
from mlcube_shell.rsync import Travel, list_command, parse_listing, pull_paths, push_code, push_paths
from mlcube_shell.travel import bring_outputs, send_code, send_inputs, user_rules
from tests.integration.gpu_box import Box

pytestmark = pytest.mark.ssh

# Any byte but `/` and NUL may be in a name.
NAMES = [b"a b", b"q\"'x", b"nl\nx", b"c:d", b"\xff\xfe", b"st*r[1]?", b"back\\slash", b"-dash", b"#hash", b" lead", b"trail ",
         b"; touch pwned", b"$(touch pwned)", b"`touch pwned`", b"*", b"a\\*b", b"\\#012", b"tab\t", b"+ plus",
         b"~", "ä€".encode()]

SHELL = """\
#!/bin/sh
# Stands for ssh: notes its words, drops the host, carries out the rest as a login shell elsewhere would.
printf '%s\\0' "$@" >>"{log}"
while [ "$1" = -l ]; do shift 2; done
shift
cd "{home}" && exec sh -c "$*"
"""


@dataclass(frozen=True)
class Other:
    """A directory of this machine that stands for another machine's."""

    root: Path
    travel: Travel
    log: Path

    def words(self) -> list[str]:
        return self.log.read_text("utf-8", "surrogateescape").split("\0")[:-1] if self.log.exists() else []


@pytest.fixture
def other(tmp_path: Path) -> Other:
    root, shell, log = tmp_path / "there", tmp_path / "shell", tmp_path / "log"
    root.mkdir()
    shell.write_text(SHELL.format(log=log, home=root), encoding="utf-8")
    shell.chmod(0o755)
    return Other(root, Travel(str(shell), "ada@other"), log)


def carry(*commands: Command, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    """Run them in order; the last one's end."""
    for command in commands:
        done = subprocess.run([os.fsencode(word) for word in command.argv], input=command.stdin or b"", capture_output=True,
                              check=False, timeout=timeout)
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
    return done


def fill(top: Path) -> Path:
    """One of everything that a file system holds and that travels."""
    top.mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "none").touch()
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o750)
    (top / "closed").mkdir()
    (top / "closed/inside").write_text("x")
    (top / "closed").chmod(0o555)
    (top / "link").symlink_to("program")
    (top / "dangling").symlink_to("gone")
    with (top / "sparse").open("wb") as stream:
        stream.seek(64 << 20)
        stream.write(b"end")
    for name in NAMES:
        inner = os.path.join(os.fsencode(top), b"dir " + name)
        os.mkdir(inner)
        for path in (os.path.join(inner, name), os.path.join(os.fsencode(top), name)):
            with open(path, "wb") as stream:
                stream.write(name)
    return top


def seen(top: Path) -> dict[bytes, tuple[object, ...]]:
    """Names, kinds, permissions, times and contents of all that lies below."""
    found: dict[bytes, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(os.fsencode(top)):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            state = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(state.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(state.st_mode):
                with open(path, "rb") as stream:
                    content = stream.read()
            time_of = state.st_mtime_ns if stat.S_ISREG(state.st_mode) else 0
            found[os.path.relpath(path, os.fsencode(top))] = (state.st_mode, content, time_of)
    return found


def load_of(here: Path, there: Path, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> Load:
    """A cube in `here`, whose workspace lies beside its code there. A name that ends in `/`: a directory."""

    def parcels(names: Iterable[str]) -> tuple[Parcel, ...]:
        return tuple(Parcel("p", str(here / "workspace" / name), str(there / "workspace" / name),
                            "directory" if name.endswith("/") else "file") for name in names)

    return Load(str(there), "id", (str(here), str(there / "code")), (str(here / "workspace"), str(there / "workspace")),
                (str(here / "workspace"),), parcels(inputs), parcels(outputs))


def push(travel: Travel, load: Load) -> None:
    for directory in ("code", "workspace", "partial"):
        (Path(load.root) / directory).mkdir(exist_ok=True)
    facts = machine(os.environ)
    carry(send_code(travel, load), *with_facts(lambda known: send_inputs(travel, load, known), facts)[0])


def pull(travel: Travel, load: Load, kept: tuple[str, ...] = (), suffix: str = ".from-box-1") -> None:
    commands, _ = with_facts(lambda known: bring_outputs(travel, load, known, kept, suffix), machine(os.environ))
    carry(*commands)


# --- what arrives ----------------------------------------------------------------------------------------------------


def test_everything_survives_both_ways(tmp_path: Path, other: Other) -> None:
    source = fill(tmp_path / "ws/data")
    carry(*push_paths(other.travel, str(tmp_path / "ws"), str(other.root / "ws"), ["data/"]))
    assert seen(other.root / "ws/data") == seen(source)
    (tmp_path / "home").mkdir()
    carry(pull_paths(other.travel, str(other.root / "ws"), str(tmp_path / "home"), ["data/"]))
    assert seen(tmp_path / "home/data") == seen(source)
    assert (tmp_path / "home/data/sparse").stat().st_blocks * 512 < 1 << 20


def test_named_one_by_one_every_name_travels_and_nothing_of_it_is_executed(tmp_path: Path, other: Other) -> None:
    fill(tmp_path / "ws")
    names = [os.fsdecode(b"dir " + name + b"/" + name) for name in NAMES] + [os.fsdecode(name) for name in NAMES]
    base = other.root / "ba*se [x] $(touch pwned); \\ '\"\n"
    wrong = other.root / "baZse x $(touch pwned); \\ '\"\n"
    (wrong / "a b").mkdir(parents=True)
    carry(*push_paths(other.travel, str(tmp_path / "ws"), str(base), names))
    (tmp_path / "home").mkdir()
    carry(pull_paths(other.travel, str(base), str(tmp_path / "home"), names))
    assert {os.path.relpath(path, tmp_path / "home") for path in (tmp_path / "home").rglob("*") if path.is_file()} == set(names)
    assert {path.name for path in other.root.iterdir()} == {base.name, wrong.name}
    assert not any(path.name == "pwned" for path in tmp_path.rglob("*"))


def test_the_login_shell_sees_nothing_of_the_users(tmp_path: Path, other: Other) -> None:
    (tmp_path / "ws/data set").mkdir(parents=True)
    travel = replace(other.travel, rules=("- secret*",))
    carry(*push_paths(travel, str(tmp_path / "ws"), str(other.root / "target"), ["data set/"]))
    assert re.fullmatch(r"(-l|ada|other|rsync|--server|-s|-\S*e\.[A-Za-z.]+|\.| )+", " ".join(other.words()))


def test_a_file_that_was_changed_within_the_second_travels(tmp_path: Path, other: Other) -> None:
    (tmp_path / "ws").mkdir()
    path, second = tmp_path / "ws/rate", 1_700_000_000 * 10**9
    for count, text in enumerate(("0.1", "0.2")):
        path.write_text(text)
        os.utime(path, ns=(second, second + count))
        carry(*push_paths(other.travel, str(tmp_path / "ws"), str(other.root / "ws"), ["rate"]))
    assert (other.root / "ws/rate").read_text() == "0.2"


def test_contents_are_compared_on_request(tmp_path: Path, other: Other) -> None:
    (tmp_path / "ws").mkdir()
    path = tmp_path / "ws/rate"
    for text in ("0.1", "0.2"):
        path.write_text(text)
        os.utime(path, ns=(10**18, 10**18))
        carry(*push_paths(replace(other.travel, checksum=text == "0.2", compress=True), str(tmp_path / "ws"),
                          str(other.root / "ws"), ["rate"]))
    assert (other.root / "ws/rate").read_text() == "0.2"


# --- code ------------------------------------------------------------------------------------------------------------


def test_the_codes_mirror_follows_deletions_and_holds_code_only(tmp_path: Path, other: Other) -> None:
    cube = tmp_path / "cu[b]e"
    for name in ("mlcube.yaml", "build/Dockerfile", "build/gone.py", "app.sif", ".git/HEAD", "workspace/data", ".mlcube/id",
                 "lib/__pycache__/x.pyc", "lib/x.py", "lib/workspace/y.py"):
        (cube / name).parent.mkdir(parents=True, exist_ok=True)
        (cube / name).write_text(name)
    load = load_of(cube, other.root)
    push(other.travel, load)
    assert files(other.root / "code") == {"mlcube.yaml", "build/Dockerfile", "build/gone.py", "lib/x.py", "lib/workspace/y.py"}
    (cube / "build/gone.py").unlink()
    (other.root / "code/workspace").mkdir()
    (other.root / "code/stray").write_text("x")
    (other.root / "code/image.sif").write_text("x")
    (other.root / "beside").write_text("x")
    push(other.travel, load)
    assert files(other.root / "code") == {"mlcube.yaml", "build/Dockerfile", "lib/x.py", "lib/workspace/y.py", "image.sif"}
    assert (other.root / "beside").exists()


def test_the_users_rules_come_in_order_and_may_bring_back_what_we_leave_out(tmp_path: Path, other: Other) -> None:
    cube = tmp_path / "cube"
    for name in ("a.log", "keep.log", "image.sif", "notes/x.md", "sub/notes/y.md", "top", "sub/top", ".git/x", "# odd"):
        (cube / name).parent.mkdir(parents=True, exist_ok=True)
        (cube / name).write_text(name)
    ignore = b"# a comment\n\n+ keep.log\r\n*.log\n/notes/\n- /top\n[#] odd\n"
    rules = user_rules(["image.sif"], [".git"], ignore)
    push(replace(other.travel, rules=rules), load_of(cube, other.root))
    assert files(other.root / "code") == {"keep.log", "image.sif", "sub/notes/y.md", "sub/top"}


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_inputs_that_are_links_are_followed_and_links_inside_stay(tmp_path: Path, other: Other) -> None:
    workspace = tmp_path / "cube/workspace"
    workspace.mkdir(parents=True)
    (tmp_path / "store/set").mkdir(parents=True)
    (tmp_path / "store/set/a").write_text("a")
    (tmp_path / "store/set/b").symlink_to("a")
    (tmp_path / "store/weights").write_text("w")
    (workspace / "set").symlink_to("../../store/set")
    (workspace / "weights").symlink_to(tmp_path / "store/weights")
    (workspace / "raw").symlink_to("../../store")
    push(other.travel, load_of(tmp_path / "cube", other.root, ["set/", "weights", "raw/weights"]))
    there = other.root / "workspace"
    assert files(there) == {"set/a", "set/b", "weights", "raw/weights"}
    assert [path.is_symlink() for path in (there / "set", there / "set/b", there / "weights", there / "raw")] == [
        False, True, False, False]


def test_only_the_inputs_travel_and_nothing_there_is_deleted(tmp_path: Path, other: Other) -> None:
    workspace = tmp_path / "cube/workspace"
    for name in ("data/a.csv", "data/skip.log", "data/.git/HEAD", "data/cache/x", "model/out", ".mlcube/runs/1", "sole.log"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(name)
    (other.root / "workspace/data").mkdir(parents=True)
    (other.root / "workspace/data/earlier").write_text("x")
    rules = user_rules([], ["*.log", "/workspace/data/cache", "/data"])
    push(replace(other.travel, rules=rules), load_of(tmp_path / "cube", other.root, ["data/", "sole.log"]))
    assert files(other.root / "workspace") == {"data/a.csv", "data/earlier", "sole.log"}


def test_the_whole_workspace_as_an_input_leaves_ours_out(tmp_path: Path, other: Other) -> None:
    workspace = tmp_path / "cube/workspace"
    for name in ("data/a", ".mlcube/runs/1/record.json"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(name)
    load = load_of(tmp_path / "cube", other.root)
    whole = (Parcel("p", str(workspace), str(other.root / "workspace"), "directory"),)
    push(other.travel, replace(load, inputs=whole))
    assert files(other.root / "workspace") == {"data/a"}


def test_what_lies_outside_the_workspace_gets_a_place_of_its_own(tmp_path: Path, other: Other) -> None:
    (tmp_path / "cube/workspace").mkdir(parents=True)
    (tmp_path / "extra").write_text("x")
    (other.root / "elsewhere").mkdir()
    parcel = Parcel("p", str(tmp_path / "extra"), str(other.root / "elsewhere/0a1b/extra"), "file")
    push(other.travel, replace(load_of(tmp_path / "cube", other.root), inputs=(parcel,)))
    assert (other.root / "elsewhere/0a1b/extra").read_text() == "x"


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_outputs_come_home_and_links_here_stay_links(tmp_path: Path, other: Other) -> None:
    workspace, there = tmp_path / "cube/workspace", other.root / "workspace"
    (tmp_path / "big/store").mkdir(parents=True)
    (tmp_path / "big/best.pt").write_text("old")
    workspace.mkdir(parents=True)
    (workspace / "model").symlink_to(tmp_path / "big/store")
    (workspace / "best.pt").symlink_to(tmp_path / "big/best.pt")
    (there / "model/step 1").mkdir(parents=True)
    (there / "model/step 1/x").write_text("x")
    (there / "best.pt").write_text("new")
    (there / "deep/er").mkdir(parents=True)
    (there / "deep/er/metrics").write_text("1")
    (there / "other").write_text("of another task")
    pull(other.travel, load_of(tmp_path / "cube", other.root, outputs=["model/", "best.pt", "deep/er/", "absent/", "missing"]))
    assert files(tmp_path / "big") == {"store/step 1/x", "best.pt"}
    assert (tmp_path / "big/best.pt").read_text() == "new"
    assert (workspace / "model").is_symlink() and (workspace / "best.pt").is_symlink()
    assert files(workspace) == {"best.pt", "deep/er/metrics"}


def test_what_was_changed_here_meanwhile_is_kept_and_what_came_lies_beside_it(tmp_path: Path, other: Other) -> None:
    workspace, there = tmp_path / "cube/workspace", other.root / "workspace"
    for top, text in ((workspace, "old"), (there, "new")):
        for name in ("model/a*b", "model/c", "model/aXb", "score", "plain"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
    load = load_of(tmp_path / "cube", other.root, outputs=["model/", "score", "plain"])
    manifest = take_manifest(parcel.here.rstrip("/") for parcel in load.outputs)
    for name in ("model/a*b", "score"):
        (workspace / name).write_text("mine")
    kept = changed_since(manifest)
    load = replace(load, outputs=tuple(replace(parcel, here=parcel.here.rstrip("/"), there=parcel.there.rstrip("/"))
                                       for parcel in load.outputs))
    pull(other.travel, load, kept)
    assert {name: (workspace / name).read_text() for name in sorted(files(workspace))} == {
        "model/a*b": "mine", "model/aXb": "new", "model/c": "new", "model.from-box-1/a*b": "new", "plain": "new",
        "score": "mine", "score.from-box-1": "new"}


# --- lists, and the dry run ------------------------------------------------------------------------------------------


def test_a_list_says_what_would_travel_and_nothing_does(tmp_path: Path, other: Other) -> None:
    cube = tmp_path / "cube"
    cube.mkdir()
    for name in NAMES:
        with open(os.path.join(os.fsencode(cube), name), "wb") as stream:
            stream.write(name)
    (cube / "link").symlink_to("x")
    (cube / "dir").mkdir()
    (other.root / "code/old").mkdir(parents=True)
    (other.root / "code/old/x").write_text("x")
    before = seen(other.root)
    command = push_code(replace(other.travel, progress=True), str(cube), str(other.root / "code"))
    listed = parse_listing(carry(list_command(command)).stdout.decode("utf-8", "surrogateescape"), command)
    assert {(os.fsencode(item.path)[len(os.fsencode(cube)) + 1:], item.size, item.change, item.kind) for item in listed} == {
        *((name, len(name), "new", "file") for name in NAMES), (b"link", 0, "new", "link"), (b"dir/", 0, "new", "directory"),
        (b"old/", 0, "deleted", "directory"), (b"old/x", 0, "deleted", "file")}
    assert seen(other.root) == before


def test_the_printed_plan_does_the_same(tmp_path: Path, other: Other) -> None:
    source = fill(tmp_path / "ws/data")
    names = ["data/" + os.fsdecode(name) for name in NAMES]
    steps = tuple(Step("push inputs", command) for command in push_paths(
        other.travel, str(tmp_path / "ws"), str(other.root / "ws"), names))
    text = script(Plan("p", steps))
    subprocess.run(["sh"], input=text.encode("utf-8", "surrogateescape"), check=True, capture_output=True)
    assert {path.name for path in (other.root / "ws/data").iterdir()} == {os.fsdecode(name) for name in NAMES}
    assert source.exists()


def test_progress_is_told_on_the_way(tmp_path: Path, other: Other) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/data").write_bytes(os.urandom(3 << 20))
    travel = replace(other.travel, progress=True)
    done = carry(*push_paths(travel, str(tmp_path / "ws"), str(other.root / "ws"), ["data"]))
    assert re.search(rb"3,145,728 +100% +\S+/s", done.stdout)


def files(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()
            and not any(above.is_symlink() for above in path.relative_to(top).parents[:-1])}


# --- over a real sshd ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["ada", "dash", "zsh", "fish", "tcsh"])
def test_any_login_shell_will_do(tmp_path: Path, gpu_box: Box, shell: str) -> None:
    source = fill(tmp_path / "ws/data")
    travel = Travel(str(gpu_box.room / "bin/ssh"), shell)
    base = gpu_box.text('mktemp -d "/tmp/tr avel-$$(x)*.XXXXXX"')
    gpu_box.root('chown "$1:" "$2"', shell, base)
    carry(*push_paths(travel, str(tmp_path / "ws"), base, ["data/"]))
    (tmp_path / "home").mkdir()
    carry(pull_paths(travel, base, str(tmp_path / "home"), ["data/"]))
    assert seen(tmp_path / "home/data") == seen(source)
    gpu_box.root('rm -rf "$1"', base)


def reason_of(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode != 0
    step = Step("push inputs", Command(("rsync",)), reasons=rsync.REASONS)
    reason = find_reason(step, done.stderr.decode(errors="replace").splitlines())
    assert reason is not None, done.stderr
    return reason.sentence


def try_to_push(box: Box, user: str, tmp_path: Path, target: str, size: int = 10) -> subprocess.CompletedProcess[bytes]:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/data").write_bytes(os.urandom(size))
    travel = Travel(str(box.room / "bin/ssh"), user)
    return carry(*push_paths(travel, str(tmp_path / "ws"), target, ["data"]), check=False)


def test_without_rsync_there_it_is_said(tmp_path: Path, gpu_box: Box) -> None:
    assert reason_of(try_to_push(gpu_box, "bare", tmp_path, "/tmp/x")) == "there is no rsync on the other machine"


def test_a_login_shell_that_prints_is_explained(tmp_path: Path, gpu_box: Box) -> None:
    assert "login shell there prints" in reason_of(try_to_push(gpu_box, "noisy", tmp_path, "/tmp/x"))


def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path: Path, broken_box: Box) -> None:
    target = broken_box.small_disk("/home/ada/small", 2)
    assert reason_of(try_to_push(broken_box, "ada", tmp_path, target, 8 << 20)) == "a disk is full"
    assert broken_box.text('cd "$1" && find . -name data -size +0 ! -path "*partial*"', target) == ""


def test_a_read_only_target_is_named(tmp_path: Path, broken_box: Box) -> None:
    target = broken_box.small_disk("/home/ada/small", 2)
    broken_box.make_read_only(target)
    assert "read-only" in reason_of(try_to_push(broken_box, "ada", tmp_path, target))


def test_what_may_not_be_written_is_named(tmp_path: Path, gpu_box: Box) -> None:
    assert "may not be" in reason_of(try_to_push(gpu_box, "ada", tmp_path, "/etc"))


# --- a connection that breaks ----------------------------------------------------------------------------------------


@pytest.fixture
def cut_user(gpu_box: Box) -> Iterator[str]:
    """A user whose connections are this test's own."""
    user = gpu_box.new_user(f"cut{os.getpid()}")
    yield user
    gpu_box.remove_user(user)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_transfer_that_was_cut_leaves_no_half_file_and_goes_on_where_it_stopped(
        tmp_path: Path, gpu_box: Box, cut_user: str, direction: str) -> None:
    user = cut_user
    content = os.urandom(24 << 20)
    (tmp_path / "ws").mkdir()
    there = gpu_box.text('mkdir "/home/$1/ws"; chown "$1:" "/home/$1/ws"; echo "/home/$1/ws"', user)
    if direction == "push":
        (tmp_path / "ws/weights").write_bytes(content)
    else:
        gpu_box.write(f"{there}/weights", content, user)

    def command(travel: Travel) -> Command:
        if direction == "push":
            return push_paths(travel, str(tmp_path / "ws"), there, ["weights"])[0]
        return pull_paths(travel, there, str(tmp_path / "ws"), ["weights"])

    def arrived() -> list[str]:
        """What lies at the receiving side: size and name."""
        find = 'cd "$1" && find . -type f -printf "%s %P\\n"'
        if direction == "push":
            return gpu_box.text(find, there).splitlines()
        return subprocess.run(["sh", "-c", find, "sh", tmp_path / "ws"], capture_output=True, text=True,
                              check=True).stdout.splitlines()

    travel = Travel(str(gpu_box.room / "bin/ssh"), user)
    slow = command(replace(travel, bandwidth="6000"))
    with subprocess.Popen(slow.argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stderr is not None
        child.stdin.write(slow.stdin or b"")
        child.stdin.close()
        wait_for(lambda: any(int(line.split()[0]) > 4 << 20 for line in arrived()))
        assert gpu_box.cut(user) > 0
        words = child.stderr.read()
    assert reason_of(subprocess.CompletedProcess([], child.returncode, b"", words)) == "the connection broke"
    wait_for(lambda: len(arrived()) == 1 and arrived()[0].endswith(f"{rsync.PARTIAL}/weights"))
    again = command(travel)
    done = carry(replace(again, argv=(again.argv[0], "--stats", *again.argv[1:])))
    sent = int(re.sub(r"\D", "", re.findall(r"Literal data: ([\d,]+)", done.stdout.decode())[0]))
    assert sent < len(content) - (3 << 20)
    assert arrived() == [f"{len(content)} weights"]
    assert (gpu_box.read(f"{there}/weights") if direction == "push" else (tmp_path / "ws/weights").read_bytes()) == content


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
