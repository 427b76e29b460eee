"""A run elsewhere, followed from here: connections that are cut, machines that are away, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlcube_cli.cli import following
from mlcube_cli.cli.following import LET_GO, Following
from mlcube_cli.command import Command, Plan, Step
from mlcube_cli.errors import MachineError
from mlcube_cli.parcels import Way
from mlcube_cli.place import Place
from mlcube_cli.process import Session
from mlcube_cli.supervision import requests
from mlcube_cli.supervision.program import program, secrets_of
from mlcube_cli.supervision.state import TaskState
from tests.supervised import RUN, Supervised, one_task, task, wait_for

# Stands for ssh: carries a script to `Machine`, and the answer back. `mode`: up, down (nothing gets there), mute (what is
# asked is done, and no answer comes back).
LINE = """\
#!{python} -IS
import os, socket, sys
with open("{room}/calls", "a") as calls:
    print(os.getpid(), file=calls)
mode = open("{room}/mode").read().strip()
if mode == "down":
    sys.exit("no route to box")
if mode == "mute":
    open("{room}/mode", "w").write("up")
with socket.socket(socket.AF_UNIX) as line:
    os.chdir("{room}")
    line.connect("s")
    line.sendall(sys.stdin.buffer.read())
    line.shutdown(socket.SHUT_WR)
    while data := line.recv(65536):
        if mode != "mute":
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
sys.exit(255 if mode == "mute" else 0)
"""


class Machine(socketserver.StreamRequestHandler):
    """The other side: what it starts belongs to nobody here."""

    def handle(self) -> None:
        subprocess.run(["sh", "-s"], input=self.rfile.read(), stdout=self.connection.fileno(), stderr=subprocess.DEVNULL,
                       start_new_session=True, check=False)


@dataclass
class Line:
    """A machine that is this one, behind a connection that can be cut."""

    room: Path
    run: Supervised
    patience: float = 20.0
    written: dict[str, bytes] = field(default_factory=dict)
    states: list[TaskState] = field(default_factory=list)
    following: Following | None = None

    def set(self, mode: str) -> None:
        (self.room / "new").write_text(f"{mode}\n")
        (self.room / "new").replace(self.room / "mode")

    @property
    def calls(self) -> list[int]:
        """The process of each request so far."""
        file = self.room / "calls"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def cut(self) -> None:
        """The connection that is open now is gone."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(self.calls[-1], signal.SIGKILL)

    def go(self, plan: Plan, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Start it there and follow it, while another thread does something."""
        connected = Command(("grep", "-qv", "down", str(self.room / "mode")))
        way = Way(Place((str(self.room / "line"),), "box"), Step("connect", Command(("false",)), unless=connected))
        layout = self.run.layout
        worker = threading.Thread(target=meanwhile, daemon=True)
        with Session() as session:
            self.following = Following(session, way, layout.directory, tuple(layout.tasks.items()), self._write,
                                       lambda data: None, self.states.append, self.patience)
            worker.start()
            how = self.following.go(lambda nonce: requests.start_and_follow(
                layout, program(plan, layout), secrets_of(plan, layout), nonce))
        worker.join(20)
        return how

    def until_told(self, what: Callable[[Following], bool] = lambda following: following.started) -> None:
        """Until this is known here, such as that it was started: a task may begin before that."""
        deadline = time.monotonic() + 60
        while (self.following is None or not what(self.following)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _write(self, run_id: str, stream: str, data: bytes) -> None:
        assert run_id == RUN
        self.written[stream] = self.written.get(stream, b"") + data


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.05)
    room = tmp_path / "line"
    room.mkdir()
    (room / "line").write_text(LINE.format(room=room, python=sys.executable))
    (room / "line").chmod(0o755)
    line = Line(room, Supervised(tmp_path, "sh"))
    line.set("up")
    monkeypatch.chdir(room)  # a socket's path is short
    with socketserver.ThreadingUnixStreamServer("s", Machine) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield line
        if Path(line.run.directory, "state").exists():
            line.run.cancel(hard=True)
            line.run.wait()
        server.shutdown()


def interrupt(number: int = signal.SIGINT, once: Path | None = None) -> None:
    if once:
        wait_for(once)
    os.kill(os.getpid(), number)


def until_more_than(line: Line, calls: int) -> None:
    deadline = time.monotonic() + 60
    while len(line.calls) <= calls and time.monotonic() < deadline:
        time.sleep(0.01)


def test_what_it_prints_comes_as_it_is_and_the_end_is_told(line: Line) -> None:
    assert line.go(one_task(task("printf 'a\\377\\n@S 3\\n'; echo b >&2; exit 5"))) == "ended"
    assert line.written == {"stdout": b"a\xff\n@S 3\n", "stderr": b"b\n"}
    assert line.following is not None and line.following.end is not None
    assert (line.following.end.status, line.following.end.exit_code) == ("failed", 5)
    assert [state.status for state in line.states][-2:] == ["running", "failed"]
    assert len(line.calls) == 1


def test_every_byte_comes_once_however_often_the_connection_is_cut(line: Line, tmp_path: Path) -> None:
    script = f"for i in $(seq 300); do echo line $i; sleep 0.01; done; echo over; echo ran >>{tmp_path}/ran"

    def cut() -> None:
        wait_for(Path(line.run.tasks[RUN], "stdout.log"))
        for number in range(1, 5):
            until = time.monotonic() + 20
            while len(line.calls) < number and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.4)
            line.cut()

    assert line.go(one_task(task(script)), cut) == "ended"
    assert line.written["stdout"] == b"".join(b"line %d\n" % number for number in range(1, 301)) + b"over\n"
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert len(line.calls) >= 4


def test_a_start_whose_answer_is_lost_starts_once(line: Line, tmp_path: Path) -> None:
    line.set("mute")
    assert line.go(one_task(task(f"echo ran >>{tmp_path}/ran; echo said"))) == "ended"
    assert (tmp_path / "ran").read_text() == "ran\n" and line.written["stdout"] == b"said\n"


def test_a_machine_that_is_away_at_first_is_tried_again(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.set("down")

    def meanwhile() -> None:
        until_more_than(line, 2)
        line.set("up")

    assert line.go(one_task(task("echo said")), meanwhile) == "ended"
    assert line.written["stdout"] == b"said\n"
    said = capsys.readouterr().err
    assert "the connection to box is lost (no route to box)" in said and "goes on there" not in said


def test_what_cannot_be_started_is_an_error_with_the_reason(line: Line, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line.run.name = "file/run"
    with pytest.raises(MachineError, match=r"could not be started on box: mkdir: .*file"):
        line.go(one_task(task("echo said")))


def test_the_directory_of_another_run_is_not_taken_over(line: Line, tmp_path: Path) -> None:
    Path(line.run.directory).mkdir()
    with pytest.raises(MachineError, match="could not be started on box: exists"):
        line.go(one_task(task(f"echo ran >{tmp_path}/ran")))
    assert not (tmp_path / "ran").exists() and list(Path(line.run.directory).iterdir()) == []


def test_the_first_signal_cancels_and_the_end_is_waited_for(line: Line, tmp_path: Path) -> None:
    script = f"trap 'sleep 0.3; echo saved; exit 1' TERM; echo here >{tmp_path}/here; while :; do sleep 0.02; done"
    assert line.go(one_task(task(script)), lambda: interrupt(once=tmp_path / "here")) == "ended"
    assert line.following is not None and line.following.end is not None
    assert (line.following.end.status, line.following.end.exit_code, line.following.signal) == ("cancelled", 130, signal.SIGINT)
    assert line.written["stdout"] == b"saved\n"


def test_a_second_signal_lets_go_and_ends_it_at_once(line: Line, tmp_path: Path) -> None:
    script = f"trap '' TERM; echo here >{tmp_path}/here; while :; do sleep 0.02; done"

    def twice() -> None:
        wait_for(tmp_path / "here")
        interrupt()
        line.until_told(lambda following: following.signal is not None)
        time.sleep(1)
        interrupt()

    began = time.monotonic()
    assert line.go(one_task(task(script), grace=60), twice) == LET_GO
    assert line.run.wait().status == "cancelled" and time.monotonic() - began < 50


def test_a_hang_up_leaves_it_alone(line: Line, tmp_path: Path) -> None:
    script = f"echo here >{tmp_path}/here; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    assert line.go(one_task(task(script)), lambda: interrupt(signal.SIGHUP, tmp_path / "here")) == LET_GO
    assert line.run.state().status == "running"
    (tmp_path / "go").write_text("")
    assert line.run.wait().status == "succeeded"


def test_patience_ends(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line.patience = 0.5

    def away() -> None:
        wait_for(tmp_path / "here")
        line.set("down")
        line.cut()

    began = time.monotonic()
    assert line.go(one_task(task(f"echo here >{tmp_path}/here; sleep 60")), away) == "unreachable"
    assert 0.5 < time.monotonic() - began < 50
    assert line.run.state().status == "running"
    assert "the run goes on there" in capsys.readouterr().err


def test_a_signal_while_the_machine_is_away_counts_when_it_is_back(line: Line, tmp_path: Path) -> None:
    def away() -> None:
        wait_for(tmp_path / "here")
        line.until_told()
        line.set("down")
        line.cut()
        until_more_than(line, len(line.calls))
        interrupt()
        until_more_than(line, len(line.calls) + 1)
        line.set("up")

    assert line.go(one_task(task(f"echo here >{tmp_path}/here; sleep 60")), away) == "ended"
    assert line.following is not None and line.following.end is not None
    assert (line.following.end.status, line.following.end.exit_code) == ("cancelled", 130)


def test_a_second_signal_leaves_a_machine_that_is_away(line: Line, tmp_path: Path) -> None:
    def away() -> None:
        wait_for(tmp_path / "here")
        line.until_told()
        line.set("down")
        line.cut()
        for _ in range(2):
            until_more_than(line, len(line.calls) + 1)
            interrupt()

    assert line.go(one_task(task(f"echo here >{tmp_path}/here; sleep 60")), away) == LET_GO
    assert line.following is not None and line.following.owed
    assert line.run.state().status == "running"


def test_a_signal_before_it_was_ever_there_ends_the_waiting(line: Line) -> None:
    line.set("down")

    def meanwhile() -> None:
        until_more_than(line, 2)
        interrupt()

    assert line.go(one_task(task("echo said")), meanwhile) == LET_GO
    assert not Path(line.run.directory).exists()
