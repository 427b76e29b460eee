"""The quick reader of plain command lines says what argparse says, or leaves it to argparse."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.cli.arguments import VERBS, Verb, find_verb, parse, read_plain
from mlcube_cli.cli.parser import parse_all
from mlcube_cli.errors import UsageError

FLAGS = sorted({flag for verb in VERBS for option in verb.options for flag in option.flags})
WORDS = ("", "-", "--", "---", "-x", "-1", "- a", "a", "a b", "train", "data=x=y", "-Pa.b=c", "-pa", "-P=c", "-Pa=-b",
         "--plat", "--platform", "--help", "-h", "-hP", "--no-such", "info", "ro", "10s", "ü", "\udcff", "@file")


@given(verb=st.sampled_from(VERBS), argv=st.lists(st.one_of(
    st.sampled_from(WORDS), st.sampled_from(FLAGS),
    st.builds("{}={}".format, st.sampled_from(FLAGS), st.sampled_from([word for word in WORDS if word != "--"])),
), max_size=6))
def test_a_plain_line_is_read_as_argparse_reads_it(verb: Verb, argv: list[str]) -> None:
    """But for `--option=--`, which argparse before 3.13 takes for an empty list."""
    plain = read_plain(verb, argv)
    if plain is not None:
        assert vars(plain) == vars(parse_all(verb, argv))


@pytest.mark.parametrize(("line", "attribute", "value"), [
    ("describe", "words", []),
    ("describe --json cube", "json", True),
    ("show-config cube --platform docker -Pa.b=c -P d=e --override=f=g", "overrides", ["a.b=c", "d=e", "f=g"]),
    ("run --mlcube=. --task a --task b name=value", "words", ["name=value"]),
    ("run --task a --task=b", "task", ["a", "b"]),
    ("run --log_level info", "log_level", "info"),
    ("run", "grace", "10s"),
    ("run --dry-run -- --not-an-option", "words", ["--not-an-option"]),
])
def test_what_is_plain(line: str, attribute: str, value: object) -> None:
    name, *argv = line.split()
    plain = read_plain(find_verb(name), argv)
    assert plain is not None and getattr(plain, attribute) == value


@pytest.mark.parametrize(("line", "message"), [
    ("run --no-such", "'--no-such' is not an option of mlcube run"),
    ("run --platform", "argument --platform: expected one argument"),
    ("run --platform --json", "argument --platform: expected one argument"),
    ("run --mount wo", "argument --mount: invalid choice: 'wo'"),
    ("run --dry-run=yes", "argument --dry-run: ignored explicit argument 'yes'"),
])
def test_what_is_not_plain_gets_its_error_from_argparse(line: str, message: str) -> None:
    name, *argv = line.split()
    assert read_plain(find_verb(name), argv) is None
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse(find_verb(name), argv)


def test_two_command_lines_share_no_list() -> None:
    first = parse(find_verb("run"), ["-Pa=b", "--task", "x"])
    second = parse(find_verb("run"), [])
    assert (first.overrides, second.overrides, second.task, second.words) == (["a=b"], [], [], [])


def test_a_plain_line_needs_no_argparse() -> None:
    code = "import sys; from mlcube_cli.cli.arguments import *; parse(find_verb('run'), ['.', '-Pa=b', '--task', 'x'])\n" \
           "print(*{'argparse', 'typing'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stdout == "\n"
