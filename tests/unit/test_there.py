"""Looking at another machine: the same answers as looking at this one, whatever shell is there and whatever it prints."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube_cli.command import Command, Reason, Variable
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import (
    Facts,
    FileDigest,
    FileText,
    Observation,
    PathFact,
    PathKind,
    Probe,
    Question,
    Tool,
    TreeDigest,
)
from mlcube_cli.observe import look, machine, with_facts
from mlcube_cli.place import HERE, Place, new_nonce
from mlcube_cli.process import ask
from mlcube_cli.there import Looker, look_there, reach
from mlcube_cli.there_script import base_request, questions_request

NOISE = "printf 'Welcome, \\377\\0 friend\\nmlcube-answer 0123\\nno newline'; echo warned >&2; exec sh -s"
# A bare machine has sh and bash; the other shells are installed where ssh is tested.
SHELLS = [
    pytest.param(("sh", "-s"), id="sh"),
    pytest.param(("bash", "--posix", "-s"), id="bash"),
    pytest.param(("sh", "-c", NOISE), id="noise"),
    *(pytest.param(words, id=words[0], marks=pytest.mark.ssh) for words in (
        ("dash", "-s"), ("busybox", "sh", "-s"), ("fish", "-c", "exec sh -s"), ("tcsh", "-c", "exec sh -s"),
        ("zsh", "-c", "exec sh -s"))),
]
every_shell = pytest.mark.parametrize("words", SHELLS)


def answers_of(questions: tuple[Question, ...], words: tuple[str, ...] = HERE.reach, **more: int) -> dict[Question, object]:
    return dict(look_there(Place(words, "box"), ask, questions, **more))


def say(*argv: str, **more: object) -> Probe:
    return Probe(replace(Command(argv), **more))


def answer(question: Question, words: tuple[str, ...] = HERE.reach) -> object:
    return answers_of((question,), words)[question]


# --- the same answers as here ----------------------------------------------------------------------------------------

NAMES = (b"plain", b"two words", b"quo'te", b'dou"ble', b"new\nline", b"newline at the end\n", b"-dash", b"--", b"$HOME",
         b"`id`", b"$(id)", b"back\\slash\\n", b"\xff\xfe", b"\x81\x82\x88", b"caf\xc3\xa9", b"*", b"[a]", b"~", b"#", b"a=b",
         b"%s%n", b"\x01\x1b[0m\x7f", b"\t", b"\r", b" ", b"...", b"x" * 200)


@pytest.fixture
def awkward(tmp_path: Path) -> Iterator[bytes]:
    """Files, directories, links, pipes, and what may not be looked at, under every name that is hard on shells."""
    top = os.fsencode(tmp_path) + b"/top \n'$x"
    for name in NAMES:
        place = os.path.join(top, name)
        os.makedirs(os.path.join(place, b"inner"))
        for content in (b"file", b"run"):
            Path(os.fsdecode(os.path.join(place, content))).write_bytes(name + b"\0\n\n")
        os.chmod(os.path.join(place, b"run"), 0o755)
        for link, target in ((b"to file", b"file"), (b"to inner", b"inner"), (b"out", b"../.."), (b"dangling", b"nowhere"),
                             (b"far", b"nowhere/at/all"), (b"loop", b"loop"), (b"round", b"inner/back"), (b"abs", place)):
            os.symlink(target, os.path.join(place, link))
        os.symlink(b"../round", os.path.join(place, b"inner", b"back"))
        os.mkfifo(os.path.join(place, b"pipe"))
    for name, mode in ((b"closed", 0o000), (b"readonly", 0o555), (b"listed", 0o444), (b"entered", 0o111)):
        os.makedirs(os.path.join(top, name, b"inner"))
        Path(os.fsdecode(os.path.join(top, name, b"file"))).write_bytes(b"x")
        os.chmod(os.path.join(top, name, b"file"), mode)
        os.chmod(os.path.join(top, name), mode)
    yield top
    for name in (b"closed", b"readonly", b"listed", b"entered"):
        os.chmod(os.path.join(top, name), 0o755)


def paths_below(top: bytes) -> list[str]:
    inside = (b"", b"file", b"run", b"inner", b"to file", b"to inner", b"out", b"dangling", b"far", b"loop", b"round", b"abs",
              b"pipe", b"inner/back", b"absent", b"absent/deep/er", b"file/below", b"dangling/x", b"loop/x", b"to inner/new",
              b"abs/abs/file", b"out/plain/../plain/run", b"inner//", b"./file", b"file/")
    kinds = (b"closed", b"readonly", b"listed", b"entered")
    found = [os.path.join(top, name, part) for name in NAMES for part in (b"file", b"to inner", b"absent")]
    found += [os.path.join(top, name, part) for name in (b"plain", b"new\nline", b"\xff\xfe") for part in inside]
    found += [os.path.join(top, name, part) for name in kinds for part in (b"", b"file", b"inner", b"new", b"inner/x")]
    found += [b"/", b"/dev/null", b"/dev/zero", b"/proc/self", b"/nowhere", b"/" + b"x" * 5000, b"//tmp/.", b"/tmp/.."]
    return [os.fsdecode(path) for path in found]


def known_of(question: Question, found: object) -> object:
    """What is compared: where links go round for ever, no path is the real one."""
    going_round = isinstance(question, PathKind) and {"loop", "round", "back"} & set(question.path.split("/")[-2:])
    return replace(found, real="") if going_round and isinstance(found, PathFact) else found


@every_shell
def test_paths_and_contents_are_what_they_are_here(awkward: bytes, words: tuple[str, ...]) -> None:
    paths = paths_below(awkward)
    questions = (*map(PathKind, paths), *map(FileText, paths[::3]), *(FileDigest(path.rstrip("/")) for path in paths[::9]))
    wrong_for_root = ("/closed", "/listed") if words[0] == "busybox" and os.getuid() == 0 else ()  # busybox looks at the bits
    questions = tuple(one for one in questions if not any(part in one.path for part in ("/proc/self", *wrong_for_root)))
    there, here = answers_of(questions, words), look(questions)
    wrong = [(question, there[question], here[question]) for question in questions
             if known_of(question, there[question]) != known_of(question, here[question])]
    assert wrong == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")),
                min_size=1, max_size=20, unique=True))
def test_any_name_of_a_file_and_any_content_arrives(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        paths = [os.path.join(os.fsencode(directory), name) for name in names]
        for number, path in enumerate(paths):
            if number % 3 == 2:
                os.symlink(names[number - 1], path)
            else:
                Path(os.fsdecode(path)).write_bytes(path[::-1] * number)
        found = [os.fsdecode(path) for path in paths]
        questions = tuple(kind(path) for path in found for kind in (PathKind, FileText))
        assert answers_of(questions) == look(questions)


@every_shell
def test_texts_up_to_one_megabyte(tmp_path: Path, words: tuple[str, ...]) -> None:
    sizes = {"none": 0, "edge": 1 << 20, "more": (1 << 20) + 1}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    paths = [*(tmp_path / name for name in sizes), Path("/proc/self/status"), Path("/dev/zero"), tmp_path]
    found = [answer(FileText(str(path)), words) for path in paths]
    assert found[:3] == [b"", (tmp_path / "edge").read_bytes(), None]
    assert b"Pid:" in found[3]  # of a file whose size is said to be 0
    assert found[4:] == [None, None]


def test_what_can_be_told_without_asking_is_not_asked() -> None:
    questions = (PathKind("/a\0b"), FileText("/a\0b"), FileDigest("/a\0b"), Tool("a\0b"), Tool(""), TreeDigest(("/etc",)),
                 say("a\0b"), say("true", cwd="/a\0b"), say(""), say())

    def nobody(command: Command, seconds: float) -> Observation:
        raise AssertionError(command)

    found = look_there(HERE, nobody, questions)
    assert {question: found[question] for question in questions[:5]} == look(questions[:5])
    assert found[questions[5]] is None
    assert {found[question].exit_code for question in questions[6:]} == {127}


@every_shell
def test_tools_are_found_as_execvp_finds_them(tmp_path: Path, words: tuple[str, ...]) -> None:
    first, second, home = tmp_path / "first\n", tmp_path / "sec ond", tmp_path / "home"
    for directory in (first, second, home, first / "dir"):
        directory.mkdir()
    for place in (first / "plain", second / "tool", second / "dir", second / "-x", home / "own", home / "$(id)"):
        place.write_text("#!/bin/sh\n")
        place.chmod(0o644 if place.name == "plain" else 0o755)
    questions = tuple(Tool(name) for name in ("tool", "plain", "dir", "own", "./own", "absent", "-x", "$(id)", "cd",
                                              str(second / "tool"), str(first), "*"))
    path = f"{first}:{second}:{os.environ['PATH']}:"  # an empty entry is the current directory
    found = answers_of(questions, ("env", f"PATH={path}", f"HOME={home}", *words))
    assert [found[question] for question in questions] == [
        f"{second}/tool", None, f"{second}/dir", f"{home}/own", f"{home}/own", None, f"{second}/-x", f"{home}/$(id)", None,
        f"{second}/tool", None, None]


# --- probes ----------------------------------------------------------------------------------------------------------


@every_shell
def test_probes_say_what_they_say_here(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "plain").write_text("x")
    odd = tmp_path / "a b\n'"
    odd.mkdir()
    every_byte = bytes(range(256)) * 20
    awkward = tuple(os.fsdecode(name) for name in NAMES)
    questions = (
        say("sh", "-c", 'printf "out\\n\\n"; printf err >&2; exit 7'),
        say("printf", "%s|", *awkward, ""),
        say("cat"), say("cat", stdin=b""), say("cat", stdin=every_byte), say("cat", stdin=b"no NUL \xff % \\n '"),
        say("wc", "-c", stdin=b"%d\\" * 100_000), say("head", "-c", "3", stdin=b"x" * 1_000_000),
        say("sh", "-c", "kill -9 $$"), say("sh", "-c", "kill $$"), say("no-such-program"), say(str(tmp_path / "plain")),
        say(str(tmp_path / "absent")), say("pwd", cwd=str(odd)), say("true", cwd=str(tmp_path / "absent")),
        say("sh", "-c", 'printf "%s|%s|%s" "$A" "${PATH+x}" "${HOME-gone}"',
            env=(Variable("A", "".join(awkward)), Variable("HOME", None), Variable("NOT-THERE", None))),
        say("sh", "-c", "env | grep odd; exit 0", env=(Variable("odd.name", "x"), Variable("B.C", None), Variable("UID", "7"))),
        say("sh", "-c", "echo $LC_ALL; umask"), say("echo", "-n"), say("true"), say("test", "a", "=", "b"),
    )
    there, here = answers_of(questions, words), look(questions)
    assert [(question, there[question], here[question]) for question in questions if there[question] != here[question]] == []


@every_shell
def test_a_big_answer_arrives_whole(words: tuple[str, ...]) -> None:
    found = answer(say("sh", "-c", "head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2"), words)
    assert (found.exit_code, found.stdout, found.stderr) == (0, "\0" * 3_000_000, "\0" * 100_000)


@every_shell
def test_the_environment_and_the_directory_of_probes_are_those_of_a_login(tmp_path: Path, words: tuple[str, ...]) -> None:
    own = ("env", f"HOME={tmp_path}", "LC_ALL=C.UTF-8", "mlc=1", "n=2", "IFS=x", *words)
    found = answer(say("sh", "-c", 'printf "%s|" "$LC_ALL" "$n" "$PWD" "$HOME"'), own)
    assert found.stdout == f"C.UTF-8|2|{tmp_path}|{tmp_path}|"
    assert answer(say("sh", "-c", "echo ${LC_ALL-unset}"), ("env", "-u", "LC_ALL", *words)).stdout == "unset\n"


@every_shell
def test_probes_work_at_the_same_time_and_end_in_time(words: tuple[str, ...]) -> None:
    questions = tuple(say("sh", "-c", f"sleep 1; echo {number}") for number in range(16))
    began = time.monotonic()
    found = answers_of(questions, words)
    assert [found[question].stdout for question in questions] == [f"{number}\n" for number in range(16)]
    assert time.monotonic() - began < 12  # 16 s one after the other
    slow, quick = say("sh", "-c", "echo begun; exec sleep 30"), say("echo", "quick")
    began = time.monotonic()
    found = answers_of((slow, quick), words, seconds=1)
    assert time.monotonic() - began < 25
    assert found == {slow: Observation(124, "", "sh gave no answer within 1 seconds"), quick: Observation(0, "quick\n")}


def test_what_a_probe_leaves_running_does_not_garble_the_answers() -> None:
    writer = say("sh", "-c", "( i=0; while [ $i -lt 300000 ]; do echo more; i=$((i + 1)); done ) &")
    found = answers_of((writer, say("sleep", "0.1"), say("echo", "after")))
    assert found[say("echo", "after")] == Observation(0, "after\n")
    assert set(found[writer].stdout) <= set("more\n")


def test_digests_of_files_are_kept_there_and_forgotten_when_the_file_changes(tmp_path: Path) -> None:
    image, cache = tmp_path / "i m.sif", tmp_path / "cache"
    one, two = (text * 10_000_000 for text in (b"1", b"2"))
    image.write_bytes(one)
    os.utime(image, (1, 1))
    words = ("env", f"MLCUBE_HOME={cache}", "sh", "-s")
    assert answer(FileDigest(str(image)), words) == f"sha256:{hashlib.sha256(one).hexdigest()}"
    assert list(cache.iterdir()) == []  # it changed just now
    time.sleep(4)
    answer(FileDigest(str(image)), words)
    (kept,) = (cache / "digests").iterdir()
    assert kept.stat().st_mode & 0o77 == 0
    kept.write_text(f"sha256:{'a' * 64}\n")
    assert answer(FileDigest(str(image)), words) == f"sha256:{'a' * 64}"
    image.write_bytes(two)
    os.utime(image, (1, 1))  # the time can be set back, the change of the entry cannot
    assert answer(FileDigest(str(image)), words) == f"sha256:{hashlib.sha256(two).hexdigest()}"
    for place in (cache / "digests").iterdir():
        place.write_text("nonsense")
    time.sleep(4)
    assert answer(FileDigest(str(image)), words) == f"sha256:{hashlib.sha256(two).hexdigest()}"


@pytest.mark.parametrize("tool", ["shasum", "openssl", None])
def test_digests_without_sha256sum(tmp_path: Path, tool: str | None) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("sh", "env", "mkdir", "rm", "head", "cat", "wc", "ls", "date", "perl", *([tool] if tool else [])):
        if found := shutil.which(name):
            (bin_ / name).symlink_to(found)
    (tmp_path / "file").write_text("x")
    if tool and not (bin_ / tool).exists():
        (bin_ / tool).write_text(f"#!{shutil.which('sh')}\n{shutil.which('sha256sum')}\n")
        (bin_ / tool).chmod(0o755)
    found = answer(FileDigest(str(tmp_path / "file")), ("env", f"PATH={bin_}", "sh", "-s"))
    assert found == (f"sha256:{hashlib.sha256(b'x').hexdigest()}" if tool else None)


# --- nothing is left, nothing is shown, nothing of the user's is carried out --------------------------------------------


@every_shell
def test_what_is_written_meanwhile_is_ours_alone_and_goes_again(tmp_path: Path, words: tuple[str, ...]) -> None:
    own = ("sh", "-c", f"umask 000; XDG_RUNTIME_DIR='{tmp_path}'; export XDG_RUNTIME_DIR; exec \"$@\"", "sh", *words)
    said = answer(say("sh", "-c", f"ls -ld {tmp_path}/*", stdin=b"x"), own).stdout
    assert said.startswith("drwx------") and str(tmp_path) in said
    assert list(tmp_path.iterdir()) == []


def test_a_place_for_what_commands_say_is_found_where_the_first_ones_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("env", f"XDG_RUNTIME_DIR={tmp_path}/file", f"TMPDIR={tmp_path}/absent", "sh", "-s")
    assert answer(say("echo", "x"), words) == Observation(0, "x\n")


def test_secrets_stand_in_no_command_line() -> None:
    probe = say("sh", "-c", 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " "; printf "%s" "$TOKEN" >&2',
                env=(Variable("TOKEN", "hush-hush-7261", secret=True),))
    found = answer(probe)
    assert found.stderr == "hush-hush-7261"
    assert "hush-hush" not in found.stdout and "sh -c" in found.stdout


@every_shell
def test_nothing_of_the_questions_is_carried_out(tmp_path: Path, words: tuple[str, ...]) -> None:
    evil = f"'; touch {tmp_path}/pwned; $(touch {tmp_path}/pwned) `touch {tmp_path}/pwned`\ntouch {tmp_path}/pwned\n\""
    questions = (Tool(evil), PathKind(f"/{evil}"), FileText(f"/{evil}"), FileDigest(f"/{evil}"), say(evil, evil),
                 say("true", env=(Variable("A", evil), Variable(evil, evil)), cwd=f"/{evil}", stdin=evil.encode()))
    reach(Place(words, evil), ask, questions)
    answers_of(questions, words)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_of_a_script_that_is_cut_nothing_is_done(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        script = base_request("0", (say("touch", f"{directory}/done"),)).encode()
        end = script.index(b"mlc_main </dev/null")
        cut = data.draw(st.integers(0, end))
        done = subprocess.run(["sh", "-s"], input=script[:cut], capture_output=True, check=False)
        assert (done.stdout, list(Path(directory).iterdir())) == (b"", [])


# --- the machine -----------------------------------------------------------------------------------------------------


@every_shell
def test_the_machine_there_is_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ODD", "a\nB=c\n")
    monkeypatch.chdir(tmp_path)
    here = machine(os.environ)
    there = reach(Place(words, "box"), ask, (Tool("no-such"),))
    same = ("uid", "gid", "home", "cwd", "cache", "processor", "host", "terminal")
    assert [getattr(there.facts, name) for name in same] == [getattr(here, name) for name in same]
    ours = {name: value for name, value in here.environment.items() if name not in ("_", "SHLVL")}
    assert {**there.facts.environment, **ours} == {**ours, **{name: value for name, value in there.facts.environment.items()
                                                             if name not in here.environment or name == "SHLVL"}}
    assert there.facts.environment["ODD"] == "a\nB=c\n"
    assert (there.skew, there.facts.python) == (0.0, "")
    assert there.facts.tool("sh") == there.tools["sh"] == shutil.which("sh")
    assert stat.S_IMODE(os.stat(there.facts.cache).st_mode) == 0o700


@every_shell
def test_noise_of_a_login_shell_is_told(words: tuple[str, ...]) -> None:
    noise = reach(Place(words, "box"), ask).noise
    assert noise == (os.fsdecode(b"Welcome, \xff\0 friend\nmlcube-answer 0123\nno newline") if NOISE in words else "")


@pytest.mark.parametrize(("home", "cache", "wanted"), [
    ("HOME=", "A=", None), ("HOME=relative", "A=", None), ("HOME={top}/h", "XDG_CACHE_HOME=relative", "{top}/h/.cache/mlcube"),
    ("A=", "MLCUBE_HOME={top}/own", "{top}/own"), ("A=", "XDG_CACHE_HOME={top}/x//", "{top}/x/mlcube"),
    ("HOME={top}/h/", "A=", "{top}/h/.cache/mlcube"), ("A=", "MLCUBE_HOME={top}/open", None),
    ("A=", "MLCUBE_HOME={top}/file/x", None),
])
def test_the_cache_there_is_where_mlcube_there_would_have_it(tmp_path: Path, home: str, cache: str, wanted: str | None) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").write_text("")
    given_ = [word.format(top=tmp_path) for word in (home, cache)]
    there = reach(Place(("env", *given_, "sh", "-s"), "box"), ask)
    assert there.facts.cache == (wanted and wanted.format(top=tmp_path))
    changed = dict(os.environ, **dict(word.split("=", 1) for word in given_))
    assert there.facts.cache == machine(changed).cache
    assert os.path.isabs(there.facts.home) and there.facts.cwd == os.path.realpath(there.facts.home)


@pytest.mark.parametrize("hours", [-2, 3])
def test_a_clock_that_goes_wrong_is_told(tmp_path: Path, hours: int) -> None:
    (tmp_path / "date").write_text(f"#!/bin/sh\necho $(($({shutil.which('date')} +%s) + 3600 * {hours}))\n")
    (tmp_path / "date").chmod(0o755)
    skew = reach(Place(("env", f"PATH={tmp_path}:{os.environ['PATH']}", "sh", "-s"), "box"), ask).skew
    assert abs(skew - hours * 3600) < 10


@pytest.mark.ssh
def test_busybox_alone_is_enough(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    busybox = shutil.which("busybox")
    assert busybox
    subprocess.run([busybox, "--install", "-s", str(bin_)], check=True)
    (tmp_path / "link").symlink_to("bin")
    words = (busybox, "env", "-i", f"PATH={bin_}", f"HOME={tmp_path}", busybox, "sh", "-s")
    questions = (PathKind(f"{tmp_path}/link/sh"), PathKind(f"{tmp_path}/new/x"), FileText("/etc/passwd"),
                 FileDigest("/etc/passwd"))
    there = reach(Place(words, "box"), ask, questions)
    assert there.look(questions) == look(questions)
    assert there.look((say("cat", stdin=b"\0x"), say("sh", "-c", "exit 3"))) == {
        say("cat", stdin=b"\0x"): Observation(0, "\0x"), say("sh", "-c", "exit 3"): Observation(3)}
    assert there.facts.environment["HOME"] == str(tmp_path)
    assert there.tools["rsync"] is None and there.rsync == ""
    slow = say("sleep", "20")
    assert answers_of((slow,), words, seconds=1)[slow].exit_code == 124


# --- how often is asked ----------------------------------------------------------------------------------------------


def counted() -> tuple[list[Command], Callable[[Command, float], Observation]]:
    trips: list[Command] = []

    def asked(command: Command, seconds: float) -> Observation:
        trips.append(command)
        return ask(command, seconds)

    return trips, asked


def test_a_decision_takes_one_trip_when_its_questions_were_expected() -> None:
    def decide(facts: Facts) -> tuple[object, ...]:
        facts.need(Tool("cat"), PathKind("/etc"))
        first = facts.probe(Command(("cat",), stdin=b"1"))
        return first, facts.probe(Command(("echo", first.stdout))), facts.text("/etc/passwd")

    trips, asked = counted()
    there = reach(HERE, asked)
    value, _ = with_facts(decide, there.facts, there.look)
    assert len(trips) == 5
    trips.clear()
    again = reach(HERE, asked, questions=(*there.look.asked, Tool("expected in vain")))
    assert with_facts(decide, again.facts, again.look)[0] == value
    assert len(trips) == 1
    assert again.look.asked == there.look.asked  # what was expected in vain is not expected again


def test_an_expected_answer_counts_once(tmp_path: Path) -> None:
    question = PathKind(str(tmp_path / "new"))
    look_ = reach(HERE, ask, questions=(question,)).look
    (tmp_path / "new").write_text("")
    assert look_((question,))[question].kind == "absent"
    assert look_((question,))[question].kind == "file"


# --- places that do not answer ---------------------------------------------------------------------------------------

REASONS = (Reason("permission denied (", "the host does not let you in", "try it by hand: ssh HOST"),)


@pytest.mark.parametrize(("words", "message", "hint"), [
    (("sh", "-c", "echo 'u@h: Permission denied (publickey).' >&2; exit 255"),
     "gpu-box cannot be reached: the host does not let you in: u@h: Permission denied (publickey).",
     "try it by hand: ssh HOST"),
    (("no-such-ssh", "h"), "does not carry out commands: cannot start no-such-ssh: there is no such program on PATH", ""),
    (("sh", "-c", "echo This account is currently not available.; exit 1"),
     "gpu-box does not carry out commands: it said: This account is currently not available.", "echo true | sh -c"),
    (("sh", "-c", "exit 3"), "gpu-box does not carry out commands (exit code 3)", ""),
    (("sh", "-c", "echo a >&2; echo b >&2; echo; echo c >&2; echo d >&2; exit 255"), "commands: b / c / d", ""),
    (("sh", "-c", "sh -s | head -c 300"), "the answer of gpu-box stopped in the middle", "try again"),
    (("sh", "-c", "cat >/dev/null"), "gpu-box does not carry out commands (exit code 0)", ""),
])
def test_a_place_that_does_not_answer(words: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(MachineError) as caught:
        reach(Place(words, "gpu-box"), ask, reasons=REASONS)
    assert message in caught.value.message and hint in caught.value.hint
    with pytest.raises(MachineError):
        Looker(Place(words, "gpu-box"), ask)((FileText("/etc/passwd"), *map(Tool, "abcdefghijklmnopqrstuvwxyz" * 10)))


def test_a_place_that_hangs_is_given_up() -> None:
    with pytest.raises(MachineError, match="gave no answer"):
        look_there(Place(("sleep", "20"), "box"), lambda command, seconds: ask(command, 0.2), (Tool("x"),))


def test_an_answer_that_is_cut_anywhere_is_an_error_and_never_half_believed() -> None:
    questions = (Tool("sh"), PathKind("/etc"), FileText("/etc/hostname"), say("echo", "x"))
    length = len(ask(HERE.command(questions_request(new_nonce(), questions))).stdout)
    for cut in range(0, length, 7):

        def stopped(command: Command, seconds: float, cut: int = cut) -> Observation:
            said = ask(command, seconds)
            return replace(said, stdout=said.stdout[:cut])

        with pytest.raises(MachineError):
            look_there(HERE, stopped, questions)


PIECES = (b"", b"\0", b" ", b"-1", b"x", b"99999999", b"\xff")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_back_is_an_answer_or_an_error(data: st.DataObject) -> None:
    questions = (PathKind("/etc"), FileText("/etc/hostname"), FileDigest("/etc/hostname"), say("echo", "x"))

    def spoilt(command: Command, seconds: float) -> Observation:
        (nonce,) = re.findall(rb"mlc_nonce=([0-9a-f]+)", command.stdin or b"")
        text = bytearray(_spoken().replace(b"NONCE", nonce))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text) - 1))
            text[at:at + data.draw(st.integers(0, 9))] = data.draw(st.sampled_from(PIECES))
        return Observation(0, text.decode("utf-8", "surrogateescape"))

    try:
        assert set(reach(HERE, spoilt, questions).look(questions)) == set(questions)
    except MachineError as error:
        assert "this machine" in error.message


@functools.cache
def _spoken() -> bytes:
    """What this machine says to a first request."""
    questions = (PathKind("/etc"), FileText("/etc/hostname"), FileDigest("/etc/hostname"), say("echo", "x"))
    return ask(HERE.command(base_request("NONCE", questions))).stdout.encode("utf-8", "surrogateescape")
