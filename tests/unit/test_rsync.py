"""The words of rsync, by version, wish and path; what it says, read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlcube_cli.command import Command, Step, find_reason
from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Facts
from mlcube_cli.parcels import Listed, Load, Parcel
from mlcube_shell import rsync
from mlcube_shell.rsync import (
    Travel,
    list_command,
    literal,
    parse_listing,
    pull_file,
    pull_paths,
    pull_tree,
    push_code,
    push_paths,
)
from mlcube_shell.tools import parse_rsync, rsync_can
from mlcube_shell.travel import bring_outputs, rules_below, send_code, send_inputs, travel_of, user_rules
from tests.world import World

NEW = "rsync  version 3.2.7  protocol version 31"
TRAVEL = Travel("ssh -p 2222", "ada@box", here=NEW, there=NEW)
SHARED = ("rsync", "--recursive", "--links", "--perms", "--times", "--sparse", "--partial-dir=.mlcube-partial",
          "--secluded-args", "--modify-window=-1", "--rsh=ssh -p 2222")


def test_code_is_mirrored_and_what_is_no_code_stays_out() -> None:
    command = push_code(replace(TRAVEL, rules=("- *.log",)), "/cube", "/there/code", ["/cube/work space", "/cube/a*"])
    assert command == Command((
        *SHARED, "--delete", "--filter=- .git", "--filter=- .mlcube", "--filter=- .mlcube-partial", "--filter=- /work space",
        "--filter=- /a\\*", "--filter=- *.log", *(f"--filter=- {name}" for name in rsync.NO_CODE), "/cube/",
        "ada@box:/there/code/"))


def test_inputs_travel_by_a_list_and_the_users_rules_do_not_hold_for_them() -> None:
    travel = replace(TRAVEL, rules=("- *.csv",))
    plain, followed = push_paths(travel, "/ws", "/there/ws", ["data/", "a/b c.csv", "#x"], ["link"])
    assert plain == Command((
        *SHARED, "--relative", "--no-implied-dirs", "--filter=+ /data", "--filter=+ /a/", "--filter=+ /a/b c.csv",
        "--filter=+ /#x", "--filter=- .mlcube", "--filter=- .mlcube-partial", "--filter=- *.csv", "--filter=- .git",
        "/ws/./data/", "/ws/./a/b c.csv", "/ws/./#x", "ada@box:/there/ws/"))
    assert followed.argv[-2:] == ("/ws/./link", "ada@box:/there/ws/")
    assert ("--copy-links" in followed.argv, "--copy-links" in plain.argv) == (True, False)


def test_nothing_to_send_is_no_command() -> None:
    assert push_paths(TRAVEL, "/ws", "/there/ws", []) == ()


def test_outputs_come_by_name_and_what_is_kept_does_not() -> None:
    assert pull_paths(TRAVEL, "/there/ws", "/ws", ["model/", "x*"], ["model/a?", "y"]) == Command((
        *SHARED, "--ignore-missing-args", "--relative", "--no-implied-dirs", "--filter=- /model/a\\?", "--filter=- /y",
        "--filter=- .mlcube", "--filter=- .mlcube-partial", "ada@box:/there/ws/./model/", "ada@box:/there/ws/./x\\*", "/ws/"))


@pytest.mark.parametrize(("base", "count", "there"), [("/there/w[s]", 2, NEW), ("/there/ws", 600, NEW),
                                                     ("/there/ws", 2, "openrsync: protocol version 29")])
def test_outputs_come_by_a_list_where_names_cannot_be_words(base: str, count: int, there: str) -> None:
    command = pull_paths(replace(TRAVEL, there=there), base, "/ws", ["#a", *(f"n{number}" for number in range(count - 1))])
    assert {"--from0", "--files-from=-"} < set(command.argv) and command.stdin is not None
    assert command.stdin.startswith(b"./#a\0n0\0") and command.stdin.count(b"\0") == count
    assert command.argv[-2:] == (f"ada@box:{literal(base)}/", "/ws/")


def test_trees_and_files_come_to_other_names() -> None:
    assert pull_tree(TRAVEL, "/there/m", "/big/store", ["k"]).argv[len(SHARED):] == (
        "--filter=- /k", "--filter=- .mlcube", "--filter=- .mlcube-partial", "ada@box:/there/m/", "/big/store/")
    assert pull_file(TRAVEL, "/there/f*", "/big/f").argv[len(SHARED):] == (
        "--ignore-missing-args", "ada@box:/there/f\\*", "/big/f")


@pytest.mark.parametrize(("wish", "word"), [
    ({"compress": True}, "--compress"), ({"checksum": True}, "--checksum"), ({"bandwidth": "1.5m"}, "--bwlimit=1.5m"),
    ({"progress": True}, "--info=progress2")])
def test_each_wish_is_one_word(wish: dict[str, object], word: str) -> None:
    assert word not in push_code(TRAVEL, "/c", "/t").argv
    assert word in push_code(replace(TRAVEL, **wish), "/c", "/t").argv  # type: ignore[arg-type]


def test_options_of_the_platform_become_wishes() -> None:
    sync: dict[str, object] = {"compress": True, "checksum": True, "bandwidth": 2000}
    travel = travel_of("ssh", "box", sync, ("- x",), NEW, NEW)  # type: ignore[arg-type]
    assert travel == Travel("ssh", "box", ("- x",), True, "2000", True, NEW, NEW)
    assert travel_of("ssh", "box", {}, ()) == Travel("ssh", "box")


@pytest.mark.parametrize(("host", "written"), [("box", "box:/t/"), ("ada@2001:db8::1", "ada@[2001:db8::1]:/t/"),
                                              ("[::1]", "[::1]:/t/"), ("a@b@box", "a@b@box:/t/")])
def test_addresses_stand_in_brackets(host: str, written: str) -> None:
    assert push_code(replace(TRAVEL, host=host), "/c", "/t").argv[-1] == written


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "parsed"), [
    (NEW, ("rsync", (3, 2, 7))), ("rsync  version v3.2.3  protocol version 31", ("rsync", (3, 2, 3))),
    ("openrsync: protocol version 29\nrsync version 2.6.9 compatible", ("openrsync", ())), ("", ("", ())),
    ("rsync  version 2.6.9  protocol version 29", ("rsync", (2, 6, 9)))])
def test_versions_are_read(text: str, parsed: tuple[str, tuple[int, ...]]) -> None:
    assert parse_rsync(text) == parsed


@pytest.mark.parametrize(("version", "secluded", "others"), [
    ("3.2.6", "--secluded-args", True), ("3.2.5", "-s", True), ("3.1.3", "-s", True), ("3.0.9", "-s", False),
    ("", "--secluded-args", True)])
def test_older_versions_get_what_they_know(version: str, secluded: str, others: bool) -> None:
    travel = replace(TRAVEL, there=f"rsync  version {version}  protocol version 30" if version else "", progress=True)
    words = pull_paths(travel, "/there/it's", "/ws", ["a"]).argv
    assert secluded in words
    assert ("--ignore-missing-args" in words, "--modify-window=-1" in words) == (others, others)
    assert "--info=progress2" in words  # it is this machine's rsync that shows it
    assert not rsync_can("rsync  version 3.0.9", "progress")


@pytest.mark.parametrize("old", ["rsync  version 2.6.9  protocol version 29", "openrsync: protocol version 29"])
def test_an_rsync_that_shows_paths_to_the_login_shell_gets_plain_ones_only(old: str) -> None:
    travel = replace(TRAVEL, here=old, progress=True)
    words = push_code(travel, "/cube with spaces", "/home/ada/.mlcube/cubes/mnist-0a1b/code").argv
    assert not {"-s", "--secluded-args", "--info=progress2", "--modify-window=-1"} & set(words)
    with pytest.raises(MachineError, match="too old for a directory of this name") as caught:
        push_code(travel, "/cube", "/there/$(x)")
    assert "install rsync 3 here" in caught.value.hint
    with pytest.raises(MachineError) as caught:
        push_code(replace(TRAVEL, there=old), "/cube", "/there/a b")
    assert "install rsync 3 there" in caught.value.hint


@pytest.mark.parametrize(("path", "pattern"), [
    ("a b", "a b"), ("a\\b", "a\\b"), ("a*\\b", "a\\*\\\\b"), ("x[1]?", "x\\[1]\\?")])
def test_a_literal_pattern_fits_only_itself(path: str, pattern: str) -> None:
    assert literal(path) == pattern


# --- what rsync says -------------------------------------------------------------------------------------------------


def test_a_list_is_the_same_command_that_only_tells() -> None:
    command = push_code(replace(TRAVEL, progress=True), "/c", "/t")
    words = list_command(command).argv
    assert words[:4] == ("rsync", "--dry-run", "--8-bit-output", "--out-format=%i %l %M %n") and "--info=progress2" not in words
    assert set(command.argv) - set(words) == {"--info=progress2"}


def test_what_is_done_can_be_told_meanwhile_between_the_words_of_its_progress() -> None:
    command = push_code(replace(TRAVEL, progress=True), "/c", "/t")
    words = list_command(command, doing=True).argv
    assert "--dry-run" not in words and set(command.argv) < set(words)
    text = "\r        32,768   1%    0.00kB/s    0:00:00\r<f+++++++++ 12 1970/01/02-00:00:01 a\\#015b\n\r     3,072,000 100%\n"
    assert [(item.path, item.size) for item in parse_listing(text, command)] == [("/c/a\rb", 12)]


def test_a_list_is_read() -> None:
    when = "1970/01/02-00:00:01"
    text = "".join(f"{line}\n" for line in (
        f"<f+++++++++ 12 {when} a \\#012\\#134#b", f">f.st...... 7 {when} sub/x", f"cd+++++++++ 4096 {when} new/",
        f".d..t...... 4096 {when} old/", f".f...p..... 3 {when} m", f"cL+++++++++ 4 {when} link",
        f"*deleting   0 {when} gone/", f"*deleting   0 {when} gone/x y", "some other line"))
    (push,) = push_paths(TRAVEL, "/ws", "/there", ["a", "b/./c"])
    assert parse_listing(text, push) == (
        Listed("/ws/a \n\\#b", 12, "new", "file", 86401), Listed("/ws/sub/x", 7, "changed", "file", 86401),
        Listed("/ws/new/", 0, "new", "directory", 86401), Listed("/ws/link", 0, "new", "link", 86401),
        Listed("/ws/gone/", 0, "deleted", "directory"),
        Listed("/ws/gone/x y", 0, "deleted"))
    line = f">f+++++++++ 1 {when} x\ncd+++++++++ 4096 {when} ./\n"
    assert [parse_listing(line, command)[0].path for command in (
        push_code(TRAVEL, "/cube", "/t"), pull_paths(TRAVEL, "/t", "/ws", ["x"]), pull_tree(TRAVEL, "/t", "/big"),
        pull_file(TRAVEL, "/t/x", "/big/y"))] == ["/cube/x", "/ws/x", "/big/x", "/big/y"]


@pytest.mark.parametrize(("line", "sentence"), [
    ("protocol version mismatch -- is your shell clean?", "login shell there prints"),
    ("bash: line 1: rsync: command not found\nrsync error: error in rsync protocol data stream (code 12)", "there is no rsync"),
    ("sh: 1: rsync: not found", "there is no rsync"), ("fish: Unknown command: rsync", "there is no rsync"),
    ("write failed on \"/x\": No space left on device (28)\nrsync: connection unexpectedly closed", "a disk is full"),
    ('change_dir "/x" failed: No such file or directory (2)\nwrite error: Broken pipe (32)', "is not there"),
    ("mkstemp failed: Read-only file system (30)", "read-only"), ("Permission denied (13)", "may not be read"),
    ("rsync: connection unexpectedly closed (8 bytes received so far)", "the connection broke"),
    ("rsync: on remote machine: --secluded-args: unknown option", "too old"),
    ("rsync warning: some files vanished before they could be transferred (code 24)", "went away")])
def test_failures_have_a_sentence(line: str, sentence: str) -> None:
    reason = find_reason(Step("push", Command(("rsync",)), reasons=rsync.REASONS), line.splitlines())
    assert reason is not None and sentence in reason.sentence and reason.hint


# --- the user's rules ------------------------------------------------------------------------------------------------


def test_lines_become_rules() -> None:
    assert user_rules(["*.sif", "+ a"], ["*.tmp", "- b", "P c"], b"# no\n; no\n\n  \n*.log\r\n+ keep \n-/ d\nexclude e\n") == (
        "+ *.sif", "+ a", "- *.tmp", "- b", "P c", "- *.log", "+ keep ", "-/ d", "exclude e")


@pytest.mark.parametrize("line", ["!", "!keep", "merge /etc/passwd", ". /etc/passwd", ": .rules", ":- x", "dir-merge x",
                                  "clear"])
def test_rules_that_we_do_not_take_are_refused_by_line(line: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        user_rules([], [], f"*.log\n{line}\n".encode())
    assert str(caught.value.location) == ".mlcubeignore:2:1" and caught.value.hint


def test_an_exception_in_gits_words_says_how_rsync_has_it() -> None:
    with pytest.raises(DefinitionError) as caught:
        user_rules([], ["!keep"])
    assert "`+ keep`" in caught.value.hint and str(caught.value.location) == "sync.exclude"


def test_rules_read_differently_further_down() -> None:
    rules = ("- *.log", "- /workspace/data/tmp", "- /build", "+ workspace/x", "P /workspace")
    assert rules_below(rules, "workspace") == ("- *.log", "- /data/tmp", "+ /x", "+ workspace/x")
    assert rules_below(rules, "") == ("- *.log", "+ workspace/x")


# --- parcels ---------------------------------------------------------------------------------------------------------

LOAD = Load("/r", "id", ("/cube", "/r/code"), ("/cube/workspace", "/r/workspace"), ("/cube/workspace", "/elsewhere"))
WORLD = World(paths={
    "/cube/workspace": "directory", "/cube/workspace/data": "directory", "/cube/workspace/a": "file",
    "/cube/workspace/link": {"kind": "file", "real": "/big/a"},
    "/cube/workspace/tree": {"kind": "directory", "real": "/big/tree"},
    "/home": "directory", "/home/extra": "file"})


def ends(commands: tuple[Command, ...]) -> list[tuple[str, ...]]:
    """The words after the options."""
    return [tuple(word for word in command.argv[1:] if not word.startswith("-")) for command in commands]


def parcel(here: str, there: str, kind: str = "unknown") -> Parcel:
    return Parcel("p", here, there, kind)


def test_code_leaves_out_what_lies_in_it() -> None:
    words = send_code(TRAVEL, LOAD).argv
    assert "--filter=- /workspace" in words and not any("elsewhere" in word for word in words)


def test_an_input_that_is_part_of_the_code_travels_with_it_whatever_the_rules() -> None:
    load = replace(LOAD, inputs=(parcel("/cube/conf/a.sif", "/r/runs/1/code/conf/a.sif"),
                                 parcel("/cube/workspace/a", "/r/workspace/a")))
    words = send_code(replace(TRAVEL, rules=("- conf",)), load).argv
    order = [words.index(f"--filter={rule}") for rule in ("- /workspace", "+ /conf/", "+ /conf/a.sif", "- conf", "- *.sif")]
    assert order == sorted(order)
    commands = WORLD.decide(lambda facts: send_inputs(TRAVEL, load, facts))
    assert ends(commands) == [("/cube/workspace/./a", "ada@box:/r/workspace/")]


def test_inputs_travel_together_where_they_lie_together() -> None:
    load = Load(LOAD.root, LOAD.identifier, LOAD.code, LOAD.workspace, (), inputs=(
        parcel("/cube/workspace/data", "/r/workspace/data"), parcel("/cube/workspace/a", "/r/workspace/a"),
        parcel("/cube/workspace/link", "/r/workspace/link"), parcel("/cube/workspace/tree", "/r/workspace/tree"),
        parcel("/home/extra", "/r/elsewhere/1/extra"), parcel("/cube/workspace/later", "/r/workspace/later", "directory")))
    commands = WORLD.decide(lambda facts: send_inputs(TRAVEL, load, facts))
    there = "ada@box:/r/workspace/"
    assert ends(commands) == [
        (*(f"/cube/workspace/./{name}" for name in ("data/", "a", "tree/", "later/")), there),
        ("/cube/workspace/./link", there), ("/home/./extra", "ada@box:/r/elsewhere/1/")]
    assert all("--partial-dir=/r/partial" in command.argv for command in commands)


def test_outputs_that_are_links_here_come_to_where_they_lead() -> None:
    load = Load(LOAD.root, LOAD.identifier, LOAD.code, LOAD.workspace, (), outputs=(
        parcel("/cube/workspace/data", "/r/workspace/data"), parcel("/cube/workspace/link", "/r/workspace/link"),
        parcel("/cube/workspace/tree", "/r/workspace/tree"), parcel("/cube/workspace/new", "/r/workspace/new")))
    commands = WORLD.decide(lambda facts: bring_outputs(replace(TRAVEL, rules=("- *",)), load, facts, (), ".x"))
    assert ends(commands) == [
        ("ada@box:/r/workspace/./data/", "ada@box:/r/workspace/./new", "/cube/workspace/"),
        ("ada@box:/r/workspace/link", "/big/a"), ("ada@box:/r/workspace/tree/", "/big/tree/")]
    partial = [word for command in commands for word in command.argv if word.startswith("--partial-dir=")]
    assert partial == ["--partial-dir=/cube/workspace/.mlcube-partial", *["--partial-dir=.mlcube-partial"] * 2]
    assert not any("--filter=- *" in command.argv for command in commands)


def test_what_is_kept_here_comes_beside() -> None:
    load = Load(LOAD.root, LOAD.identifier, LOAD.code, LOAD.workspace, (), outputs=(
        parcel("/cube/workspace/data", "/r/workspace/data"), parcel("/cube/workspace/a", "/r/workspace/a"),
        parcel("/cube/workspace/tree", "/r/workspace/tree")))
    kept = ("/cube/workspace/data/x*", "/cube/workspace/a", "/cube/workspace/tree/y")
    first, tree, beside, whole, last = WORLD.decide(lambda facts: bring_outputs(TRAVEL, load, facts, kept, ".from-box-7"))
    assert "--filter=- /data/x\\*" in first.argv and ends((first,)) == [("ada@box:/r/workspace/./data/", "/cube/workspace/")]
    assert "--filter=- /y" in tree.argv and tree.argv[-1] == "/big/tree/"
    assert ends((beside,)) == [("ada@box:/r/workspace/data/./x\\*", "/cube/workspace/data.from-box-7/")]
    assert whole.argv[-2:] == ("ada@box:/r/workspace/a", "/cube/workspace/a.from-box-7")
    assert ends((last,)) == [("ada@box:/r/workspace/tree/./y", "/cube/workspace/tree.from-box-7/")]


def test_all_questions_are_asked_at_once() -> None:
    load = Load(LOAD.root, LOAD.identifier, LOAD.code, LOAD.workspace, (), inputs=(
        parcel("/cube/workspace/a", "/r/workspace/a"), parcel("/home/extra", "/r/elsewhere/1/extra")))
    rounds: list[int] = []

    def decide(facts: Facts) -> tuple[Command, ...]:
        rounds.append(1)
        return send_inputs(TRAVEL, load, facts)

    WORLD.decide(decide)
    assert len(rounds) == 2
