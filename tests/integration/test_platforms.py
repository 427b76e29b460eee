"""One meaning on every platform: the same small cubes on local, docker, podman and apptainer, and the table that comes of it.

The table stands in docs/platforms.md, and is compared with what is seen, column by column: with an engine less, a column less.
`MLCUBE_GOLDEN=write` writes it anew, where all engines are there, as an ordinary user.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT, IMAGE_FILES, TINY_IMAGE, clean_environment
from tests.cubes import write_tree

PLATFORMS = {"local": "local", "docker": "docker", "podman": "docker", "apptainer": "singularity"}  # and the runner of each
SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "local": {"interpreter": "system"}, "docker": {"image": TINY_IMAGE},
    "singularity": {"image": str(IMAGE_FILES / "tiny.sif")},
}
MARKS = {"local": (), "docker": (pytest.mark.docker,), "podman": (pytest.mark.podman,), "apptainer": (pytest.mark.singularity,)}
TRIED = tuple(PLATFORMS) if os.getuid() else ("local",)  # the table is an ordinary user's
DOCS = CHECKOUT / "docs/platforms.md"
BEGIN, END = "<!-- seen by tests/integration/test_platforms.py -->\n", "<!-- end of what was seen -->\n"
CGROUPS_V1 = Path("/sys/fs/cgroup/memory").is_dir()
BY_CGROUPS_V1 = {"podman": "a warning", "apptainer": "error"}  # what becomes of `memory` there, without root

# Every task's first lines: $data, $out, ... are its parameters; `say NAME VALUE` notes what it sees.
PRELUDE = """\
for word; do case $word in --*=*) name=${word%%=*} value=${word#*=}; name=${name#--}; eval "$name=\\$value"; esac; done
say() { printf '%s=%s\\n' "$1" "$2" >>"$out/said"; }
"""
OUT = {"outputs": {"out": {"type": "directory"}}}
FILES = {"workspace/data/a": "in\n", "workspace/one.txt": "in\n", "workspace/all/kept/a": "in\n", "sub/x": ""}
INPUTS_AND_OUTPUTS = {
    "inputs": {"data": {"type": "directory"}, "one": {"type": "file", "default": "one.txt"},
               "kept": {"type": "directory", "default": "all/kept"}},
    "outputs": {"out": {"type": "directory"}, "all": {"type": "directory"},
                "result": {"type": "file", "default": "deep/result.txt"}},
}
LOOK = """\
(echo x >"$data/new") 2>/dev/null && say written data
(echo x >"$one") 2>/dev/null && say written one
(echo x >"$kept/a") 2>/dev/null || (echo x >"$all/kept/a") 2>/dev/null && say nested written
mkdir -p "$out/d/e" && echo x >"$out/d/e/f" && echo x >"$result" && echo x >"$all/g"
say env "$DECLARED"
say leaked "$PROBE$LEAK_A$LEAK_S"
say stdin "$(cat)"
say terminal "$([ -t 0 ] && echo yes)"
say user "$(id -u)"
[ -e "$1/private" ] && say home seen
pid=$(sh -c 'sleep 0.1 >/dev/null & echo $!')
for n in 1 2 3 4 5 6 7 8; do [ ! -e "/proc/$pid" ] || sleep 0.5; done
[ ! -e "/proc/$pid" ] || say zombie "$pid"
"""
SETTINGS = """\
say lo "$(sed -n 's/^ *\\([^: ]*\\):.*/\\1/p' /proc/net/dev | tr '\\n' ' ')"
say routes "$(($(wc -l </proc/net/route) - 1))"
say devices "[$CUDA_VISIBLE_DEVICES][$NVIDIA_VISIBLE_DEVICES]"
say pwd "$(pwd)"
say shm "$(df -k /dev/shm | tail -n 1 | awk '{print $2}')"
"""
# Ignores TERM; what it starts in the background, and in a session of its own, does too.
STUBBORN = """\
trap '' TERM INT HUP
(setsid sleep {mark}1 >/dev/null 2>&1 &)
sleep {mark}2 &
: >"$out/ready"
while :; do sleep 0.1; done
"""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its code (128+N where it died of a signal), its document, and what its task said."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    place: Path
    said: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def started(self) -> bool:
        return self.document["status"] in ("succeeded", "failed")


class Column:
    """A platform, and what is seen on it. Runs are children of ours, in a clean environment."""

    def __init__(self, platform: str, place: Path) -> None:
        self.platform, self.runner = platform, PLATFORMS[platform]
        self.place = place
        self.scratch, self.home = place / "scratch", place / "home"
        for path in (self.scratch, self.home):
            path.mkdir(parents=True)
        (self.home / "private").write_text("")
        self.marks: list[str] = []

    @property
    def contained(self) -> bool:
        return self.runner != "local"

    def run(self, text: str | Sequence[str], options: Mapping[str, Any] | None = None, *words: str,
            parameters: Mapping[str, Any] = OUT, env: Mapping[str, str] | None = None,
            meanwhile: Callable[[subprocess.Popen[bytes], Path], None] = lambda child, place: None) -> Ended:
        """Run a script, or these words, as the task of a cube of its own, whose section has these options too."""
        place = self.place / uuid.uuid4().hex[:8]
        shell = PRELUDE.replace("${", "\\${") + text if isinstance(text, str) else ""  # ${...} is the reader's
        entrypoint = ["sh", "-c", shell, "task", str(self.home)] if isinstance(text, str) else list(text)
        task = {"entrypoint": entrypoint, "parameters": parameters}
        section = {**SECTIONS[self.runner], **(options or {})}
        cube = {"name": "tried", self.runner: section, "tasks": {"main": task}}
        write_tree(place, {"mlcube.yaml": json.dumps(cube), **FILES})
        environment = {**clean_environment(self.home), "TMPDIR": str(self.scratch), **(env or {})}
        began = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", "mlcube_cli", "run", str(place), f"--platform={self.platform}", "--json", *words],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        meanwhile(child, place)
        out, err = child.communicate(b"typed\n", timeout=120)
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        said = place / "workspace/out/said"
        lines = said.read_text().splitlines() if said.exists() else []
        return Ended(code, out.decode(), err.decode(), time.monotonic() - began, place,
                     dict(line.split("=", 1) for line in lines))

    def words(self, options: Mapping[str, Any], env: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
        """The payload's words and variables in the plan of a dry run."""
        ended = self.run("true", options, "--dry-run", env=env)
        assert ended.exit_code == 0, ended.stderr
        step = ended.document["tasks"][0]["steps"][-1]
        return step["argv"], step["env"]

    def mark(self) -> str:
        """The first digits of a number that no other process sleeps for."""
        self.marks.append(str(int(uuid.uuid4().hex[:7], 16) + 10 ** 8))
        return self.marks[-1]

    def alive(self) -> list[str]:
        """Command lines of living processes that this column's tasks left."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if any(f"sleep {mark}" in line for mark in self.marks):
                found.append(line)
        return found


# --- what is looked at: each gives cells of the table ----------------------------------------------------------------

Cells = dict[str, str]


def yes(holds: bool, otherwise: str = "NO") -> str:
    return "yes" if holds else otherwise


def honoured(ended: Ended, option: str, holds: Callable[[Ended], bool]) -> str:
    """What became of an option: `yes`; it was refused, or something was said, by name; else SILENCE, which no cell may be."""
    named = re.search(rf"'{option}\b", ended.stderr)
    if not ended.started:
        return "error" if named else f"SILENCE: {ended.stderr}"
    if holds(ended):
        return "yes"
    return "a warning" if named else f"SILENCE: {ended.said}"


def see_files_and_variables(column: Column) -> Cells:
    caller = {"PROBE": "p", "APPTAINERENV_LEAK_A": "a", "SINGULARITYENV_LEAK_S": "s"}
    ended = column.run(LOOK, {"env": {"DECLARED": "a 'b' \"c\" $d"}}, parameters=INPUTS_AND_OUTPUTS, env=caller)
    assert ended.exit_code == 0, ended.stderr
    said, workspace = ended.said, ended.place / "workspace"
    made = [workspace / path for path in ("out", "out/d/e/f", "all/g", "deep", "deep/result.txt")]
    return {
        "writing to an input fails": yes("written" not in said, "no"),
        "so does it for an input inside an output": yes("nested" not in said, "no"),
        "outputs belong to the caller": yes(all((path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
                                              for path in made)),
        "`env` is seen": yes(said["env"] == "a 'b' \"c\" $d"),
        "the caller's environment is not": yes(said["leaked"] == "", "no: it is the task's"),
        "nor is the caller's home": yes("home" not in said, "no"),
        "stdin is empty, no terminal": yes((said["stdin"], said["terminal"]) == ("", "")),
        "`user: caller`, the default": yes(said["user"] == str(os.getuid())),
        "what it leaves orphaned does not stay as a zombie": yes("zombie" not in said),
    }


def see_settings(column: Column) -> Cells:
    """Together where all of them can be honoured, each for itself where one may be an error."""
    workdir = "/tmp" if column.contained else "sub"
    options = {"network": "none", "gpus": "none", "workdir": workdir, "shm_size": "7m"}
    holds: Mapping[str, Callable[[Ended], bool]] = {
        "network": lambda ended: (ended.said["lo"], ended.said["routes"]) == ("lo ", "0"),
        "gpus": lambda ended: ended.said["devices"] in ("[][]", "[][void]"),
        "workdir": lambda ended: ended.said["pwd"] == ("/tmp" if column.contained else str(ended.place / "sub")),
        "shm_size": lambda ended: ended.said["shm"] == str(7 * 1024),
    }
    names = {"network": "`network: none`: no interface but lo, no route", "workdir": "`workdir`", "shm_size": "`shm_size`",
             "gpus": "`gpus: none` hides the caller's devices"}
    devices = {"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "0"}
    together = column.run(SETTINGS, options, env=devices) if column.contained else None
    return {names[name]: honoured(together or column.run(SETTINGS, {name: value}, env=devices), name, holds[name])
            for name, value in options.items()}


def see_users(column: Column) -> Cells:
    cells = {}
    for user, uid in (("image", "0"), ("1234:1234", "1234")):
        # a moment longer: once, on a busy machine, what a container of podman 4.3 said just before its end was lost
        ended = column.run(["sh", "-c", "id -u; sleep 0.3"], {"user": user})
        cells[f"`user: {user}`"] = honoured(ended, "user", lambda ended, uid=uid: f"\n{uid}\n" in f"\n{ended.stderr}")
    return cells


def see_limits(column: Column) -> Cells:
    """A task that takes more memory than it may is killed; a privileged one has capabilities that others cannot get."""
    greedy = column.run("dd if=/dev/zero of=/dev/null bs=200M count=1", {"memory": "40m"})
    memory = honoured(greedy, "memory", lambda ended: ended.exit_code == 137)
    with_v1 = BY_CGROUPS_V1.get(column.platform)
    if with_v1 and memory == (with_v1 if CGROUPS_V1 else "yes"):
        memory = f"yes; cgroups v1: {with_v1}"
    look = "say caps \"$(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status)\""
    usual = int(column.run(look).said["caps"], 16)
    privileged = column.run(look, {"privileged": True})
    return {"`memory`": memory,
            "`privileged`": honoured(privileged, "privileged", lambda ended: int(ended.said["caps"], 16) & ~usual != 0)}


def see_ports(column: Column) -> Cells:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    heard: list[bytes] = []

    def listen(child: subprocess.Popen[bytes], place: Path) -> None:
        until = time.monotonic() + 30
        while not heard and child.poll() is None and time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", port), 2) as connection:
                    heard.extend(filter(None, [connection.recv(5)]))
            except OSError:
                pass
            time.sleep(0.1)

    inside = "8080" if column.runner == "docker" else str(port)
    ended = column.run(f"for n in 1 2 3 4 5; do echo hello | timeout 5 nc -l -p {inside}; done & sleep 4; kill $!",
                       {"ports": [f"127.0.0.1:{port}:8080"]}, meanwhile=listen)
    return {"`ports`": honoured(ended, "ports", lambda _: heard == [b"hello"] and column.runner == "docker")}


def see_gpus(column: Column) -> Cells:
    """How each wish is put to the engine, from the plan."""
    cells = {}
    for shown, value in (("none", "none"), ("2", 2), ("[0, 1]", [0, 1]), ("all", "all")):
        argv, env = column.words({"gpus": value})
        found = [word for word in argv if word in ("--nv", "--no-nv")]
        found += [f"{word} {after}" for word, after in zip(argv, argv[1:]) if word in ("--gpus", "--device")]
        found += [after for word, after in zip(argv, argv[1:]) if word == "--env" and "VISIBLE_DEVICES" in after]
        found += [f"{name.partition('ENV_')[2] or name}={text}" for name, text in env.items()
                  if name.endswith("CUDA_VISIBLE_DEVICES")]
        cells[f"`gpus: {shown}`"] = ", ".join(f"`{word}`" for word in found) or "as the caller"
    return cells


def see_entrypoints(column: Column) -> Cells:
    words = '"a  b" \'"c"\' $HOME'
    several = column.run(["sh", "-c", 'printf "[%s]" "$@"', "task", "a  b", '"c"', "$HOME"])
    text = {"name": "tried", column.runner: SECTIONS[column.runner], "tasks": {
        "one": {"entrypoint": "echo", "parameters": OUT},
        "several": {"entrypoint": f"sh -c 'printf \"[%s]\" \"$@\"' task {words.replace('$HOME', chr(39) + '$HOME' + chr(39))}",
                    "parameters": OUT}}}
    place = write_tree(column.place / "words", {"mlcube.yaml": json.dumps(text)})
    both = subprocess.run(
        [sys.executable, "-m", "mlcube_cli", "run", str(place), f"--platform={column.platform}", "--task=one,several"],
        env={**clean_environment(column.home), "TMPDIR": str(column.scratch)}, capture_output=True, text=True, check=False,
        timeout=120)
    expected = '[a  b]["c"][$HOME][--out='
    absent = column.run(["/no/such/program"])
    return {
        "`entrypoint` of one word": yes(both.stdout.startswith("--out="), both.stdout + both.stderr),
        "of several, inner quotes kept": yes(expected in both.stdout and expected in several.stderr, both.stdout + both.stderr),
        "a program that is not there": f"{absent.document['status']}, exit {absent.exit_code}",
    }


def see_exit_codes(column: Column) -> Cells:
    wrong = {}
    for code in (0, 1, 3, 125, 126, 127, 137):
        ended = column.run(f"exit {code}")
        found = (ended.exit_code, ended.document["status"], ended.document["tasks"][0]["exit_code"])
        if found != (code, "failed" if code else "succeeded", code):
            wrong[code] = found
    return {"exit codes 0, 1, 3, 125, 126, 127, 137 are the task's, by number and status": yes(not wrong, str(wrong))}


def see_ends(column: Column) -> Cells:
    """A payload that ignores TERM, ended by its time limit and by signals."""
    def sender(number: signal.Signals) -> Callable[[subprocess.Popen[bytes], Path], None]:
        def send(child: subprocess.Popen[bytes], place: Path) -> None:
            until = time.monotonic() + 60
            while not (place / "workspace/out/ready").exists() and child.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            child.send_signal(number)
        return send

    cells = {}
    text = STUBBORN.format(mark=column.mark())
    ended = column.run(text, None, "--timeout=2s", "--grace=1s")
    cells["gone after its time and the grace period"] = (
        yes((ended.exit_code, ended.document["status"], column.alive()) == (124, "timed_out", []), ended.stderr))
    for number, shown in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "TERM")):
        ended = column.run(text, None, "--grace=1s", meanwhile=sender(number))
        cells[f"and on {shown}"] = yes(
            (ended.exit_code, ended.document["status"], column.alive()) == (128 + number, "cancelled", []), ended.stderr)
    ended = column.run(f"(setsid sleep {column.mark()} >/dev/null 2>&1 &); sleep {column.mark()} & exit 5")
    cells["what a finished task left running is gone"] = yes((ended.exit_code, column.alive()) == (5, []), ended.stderr)
    return cells


def see_what_is_left(column: Column) -> Cells:
    """After all the others."""
    containers = ""
    if column.runner == "docker":
        listed = [column.platform, "ps", "--all", "--format", "{{.Names}}", "--filter", "label=org.mlcommons.mlcube.cube=tried"]
        everything = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout
        ours = [json.loads(path.read_text())["run_id"] for path in column.place.glob("*/workspace/.mlcube/runs/*/record.json")]
        assert ours
        containers = " ".join(run for run in ours if run in everything)
    left = [path.name for path in column.scratch.iterdir() if not path.name.endswith(f"-{os.getuid()}")]  # podman's own
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(column.place) in line]
    return {"nothing is left: processes, containers, mounts, temporary files": yes(
        not (column.alive() or containers or left or mounts), f"{column.alive()} {containers} {left} {mounts}")}


LOOKS = (see_files_and_variables, see_settings, see_users, see_limits, see_ports, see_gpus, see_entrypoints, see_exit_codes,
         see_ends)


def see(platform: str, place: Path) -> Cells:
    """The platform's column, from top to bottom."""
    column = Column(platform, place / platform)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda look: look(column), LOOKS))
    return {name: cell for cells in (*found, see_what_is_left(column)) for name, cell in cells.items()}


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Cells]]:
    """The columns of all platforms that this session asks for, side by side."""
    asked = {item.callspec.params["platform"] for item in request.session.items
             if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec")}
    place = tmp_path_factory.mktemp("platforms")
    with ThreadPoolExecutor(len(PLATFORMS)) as pool:
        columns = dict(zip(sorted(asked), pool.map(lambda platform: see(platform, place), sorted(asked))))
    if os.environ.get("MLCUBE_GOLDEN") == "write" and len(columns) == len(PLATFORMS):
        text = DOCS.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        DOCS.write_text(before + BEGIN + table(columns) + END + after, encoding="utf-8")
    yield columns


def table(columns: Mapping[str, Cells]) -> str:
    rows = [f"| {name} | {' | '.join(columns[platform][name] for platform in PLATFORMS)} |" for name in columns["local"]]
    return "\n".join((f"| | {' | '.join(PLATFORMS)} |", "|---" * (len(PLATFORMS) + 1) + "|", *rows)) + "\n"


def committed() -> dict[str, Cells]:
    """The columns of docs/platforms.md."""
    block = DOCS.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines() if line]
    assert rows and rows[0][1:] == list(PLATFORMS), "docs/platforms.md has no table between the markers"
    return {platform: {row[0]: row[number] for row in rows[2:]} for number, platform in enumerate(PLATFORMS, 1)}


@pytest.mark.parametrize("platform", [pytest.param(name, marks=MARKS[name]) for name in TRIED])
def test_the_table_in_the_docs_is_what_is_seen(seen: Mapping[str, Cells], platform: str) -> None:
    assert seen[platform] == committed()[platform]
    assert not [cell for cell in seen[platform].values() if cell.startswith(("NO", "SILENCE"))]
