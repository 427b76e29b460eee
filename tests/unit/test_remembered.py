"""Which questions were asked last time: kept word for word, never a secret, and never an obstacle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.command import Command, Variable
from mlcube_cli.facts import FileDigest, FileText, PathKind, Probe, Question, Tool, TreeDigest
from mlcube_cli.remembered import MOST, recall, remember
from tests.conftest import RunMLCube

_WORDS = st.binary(max_size=12).map(os.fsdecode)
_COMMANDS = st.builds(
    Command, st.lists(_WORDS, min_size=1, max_size=3).map(tuple),
    st.lists(st.builds(Variable, _WORDS, st.none() | _WORDS), max_size=2).map(tuple), st.none() | _WORDS,
    st.none() | st.binary(max_size=12))
_QUESTIONS = st.one_of(st.builds(Tool, _WORDS), st.builds(Probe, _COMMANDS), st.builds(PathKind, _WORDS),
                       st.builds(FileText, _WORDS), st.builds(FileDigest, _WORDS))


@given(questions=st.lists(_QUESTIONS, max_size=8, unique=True).map(tuple), key=_WORDS)
def test_questions_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, questions: tuple[Question, ...],
                                          key: str) -> None:
    cache = str(tmp_path_factory.mktemp("cache"))
    remember(cache, key, questions)
    assert recall(cache, key) == questions
    assert recall(cache, key + "x") == ()


def test_what_was_asked_last_counts_and_each_question_once(tmp_path: Path) -> None:
    remember(str(tmp_path), "k", (Tool("a"), Tool("b")))
    remember(str(tmp_path), "k", (Tool("c"), Tool("c")))
    assert recall(str(tmp_path), "k") == (Tool("c"),)
    remember(str(tmp_path), "k", (Tool(str(number)) for number in range(MOST + 10)))
    assert len(recall(str(tmp_path), "k")) == MOST


def test_secrets_and_what_nobody_there_can_answer_are_not_kept(tmp_path: Path) -> None:
    secret = Probe(Command(("login",), (Variable("TOKEN", "hush-hush", secret=True),)))
    remember(str(tmp_path), "k", (secret, TreeDigest(("/x",)), Tool("sh")))
    assert recall(str(tmp_path), "k") == (Tool("sh"),)
    (kept,) = (tmp_path / "questions").iterdir()
    assert "hush" not in kept.read_text()
    assert (tmp_path / "questions").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"\xff", b'{"format": 0, "key": "k", "questions": []}', b'{"format": 1, "key": "k"}',
    b'{"format": 1, "key": "k", "questions": [["rm", "x"]]}', b'{"format": 1, "key": "k", "questions": [["tool", 1]]}',
    b'{"format": 1, "key": "k", "questions": [[]]}',
    b'{"format": 1, "key": "k", "questions": [["probe", "sh", [], null, null]]}',
    b'{"format": 1, "key": "k", "questions": 7}',
    b'{"format": 1, "key": "k", "questions": [["probe", ["sh"], [["A"]], null, null]]}',
])
def test_a_spoilt_file_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    remember(str(tmp_path), "k", (Tool("a"),))
    (kept,) = (tmp_path / "questions").iterdir()
    kept.write_bytes(content)
    assert recall(str(tmp_path), "k") == ()
    remember(str(tmp_path), "k", (Tool("b"),))
    assert recall(str(tmp_path), "k") == (Tool("b"),)


def test_without_a_usable_cache_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "questions").write_text("in the way")
    for cache in (None, str(tmp_path), str(tmp_path / "questions")):
        remember(cache, "k", (Tool("a"),))
        assert recall(cache, "k") == ()


def test_old_ones_go_when_the_cache_is_pruned(tmp_path: Path, run_mlcube: RunMLCube) -> None:
    for key in ("old", "new"):
        remember(str(tmp_path), key, (Tool("a"),))
        if key == "old":
            (kept,) = (tmp_path / "questions").iterdir()
            os.utime(kept, (1, 1))
    here = {"MLCUBE_HOME": str(tmp_path)}
    listed = run_mlcube("cache", "list", env=here).stdout
    assert [line.split()[0] for line in listed.splitlines() if "what another machine was asked" in line] == ["questions"] * 2
    done = run_mlcube("cache", "prune", env=here)
    assert done.exit_code == 0, done.stderr
    assert (recall(str(tmp_path), "old"), recall(str(tmp_path), "new")) == ((), (Tool("a"),))
