"""Paths of this machine as they read on another one, and questions that are asked of the machine that can answer them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mlcube_cli.command import Command
from mlcube_cli.facts import (
    Answer,
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
from mlcube_cli.relocation import (
    Relocation,
    is_at_or_below,
    looking_at_both,
    looking_before_moving,
    moved,
    outputs_that_stay,
)
from tests.world import job_of

ROOT = "/far/cube-1"
RELOCATION = Relocation(
    ("/cube/workspace", f"{ROOT}/workspace"), ("/cube", f"{ROOT}/runs/R/code"),
    (("/else/set", f"{ROOT}/elsewhere/abc/set"),), ("/cube/workspace/data", "/else/set"), f"{ROOT}/code")


@pytest.mark.parametrize(("here", "there"), [
    ("/cube/workspace", f"{ROOT}/workspace"),
    ("/cube/workspace/data/a b", f"{ROOT}/workspace/data/a b"),
    ("/cube/workspaces", f"{ROOT}/runs/R/code/workspaces"),
    ("/cube", f"{ROOT}/runs/R/code"),
    ("/else/set/x\ny", f"{ROOT}/elsewhere/abc/set/x\ny"),
    ("/else/set.2", "/else/set.2"),
    ("/shared/imagenet", "/shared/imagenet"),
    ("/", "/"),
])
def test_each_path_has_one_counterpart(here: str, there: str) -> None:
    assert RELOCATION.there(here) == there
    assert RELOCATION.moves(here) == (here != there)


def test_of_nested_directories_the_inner_one_counts() -> None:
    around = Relocation(("/a/cube/workspace", "/far/workspace"), ("/a/cube", "/far/code"), (("/a", "/far/elsewhere/a"),))
    assert around.there("/a/cube/mlcube.yaml") == "/far/code/mlcube.yaml"
    assert around.there("/a/cube/workspace/x") == "/far/workspace/x"
    assert around.there("/a/x") == "/far/elsewhere/a/x"
    of_itself = Relocation(("/cube", "/far/workspace-1"), ("/cube", "/far/code"))
    assert of_itself.there("/cube/data") == "/far/workspace-1/data"


def test_a_workspace_at_the_top_of_a_machine() -> None:
    top = Relocation(("/", "/far/workspace"), ("/cube", "/far/code"))
    assert top.there("/") == "/far/workspace" and top.there("/data") == "/far/workspace/data"


@pytest.mark.parametrize(("there", "here"), [
    (f"{ROOT}/workspace/data/x", "/cube/workspace/data/x"),
    (f"{ROOT}/workspace", "/cube/workspace"),  # above what travels
    (f"{ROOT}/workspace/result", None),  # does not travel: only that machine knows
    (f"{ROOT}/runs/R/code/train.py", "/cube/train.py"),
    (f"{ROOT}/runs/R/code/image.sif", None),  # images are made there
    (f"{ROOT}/elsewhere/abc/set", "/else/set"),
    ("/shared/imagenet", None),
    ("/cube/workspace/data", None),  # a path there that only looks like one of ours
])
def test_what_this_machine_can_tell_of_a_path_there(there: str, here: str | None) -> None:
    assert RELOCATION.here(there) == here


def test_at_or_below() -> None:
    assert is_at_or_below("/a/b", "/a") and is_at_or_below("/a", "/a") and is_at_or_below("/a", "/")
    assert not is_at_or_below("/ab", "/a") and not is_at_or_below("/a", "/a/b")


def test_a_job_moves_with_its_paths_and_texts_stay() -> None:
    arguments: list[Mapping[str, str]] = [
        {"name": "data", "host_path": "/cube/workspace/data"}, {"name": "set", "host_path": "/shared/set"},
        {"name": "model", "host_path": "/shared/model", "direction": "output"}]
    job = job_of("ssh", {"host": "box"}, arguments)
    inner = job_of("docker", {"image": "tiny"}).platform
    far = moved(job, RELOCATION, inner)
    assert [argument.host_path for argument in far.arguments] == [f"{ROOT}/workspace/data", "/shared/set", "/shared/model"]
    assert (far.root, far.workspace, far.platform) == (f"{ROOT}/runs/R/code", f"{ROOT}/workspace", inner)
    assert [argument.name for argument in outputs_that_stay([job], RELOCATION)] == ["model"]


# --- two machines ----------------------------------------------------------------------------------------------------


class Machine:
    """Answers from a map; what is not in it is absent. Notes what it was asked."""

    def __init__(self, answers: Mapping[Question, Answer]) -> None:
        self.answers = answers
        self.asked: list[Question] = []

    def __call__(self, questions: tuple[Question, ...]) -> Mapping[Question, Answer]:
        self.asked += questions
        return {question: self.answers.get(question, PathFact("absent") if isinstance(question, PathKind) else None)
                for question in questions}


def test_what_travels_is_looked_at_here_and_reads_as_there() -> None:
    here = Machine({PathKind("/cube/workspace/data"): PathFact("directory", real="/cube/workspace/data"),
                    FileText("/cube/requirements.txt"): b"numpy",
                    PathKind("/else/set"): PathFact("file", real="/disk/the set")})
    there = Machine({PathKind("/shared"): PathFact("directory", real="/shared"), Tool("docker"): "/usr/bin/docker"})
    data, text, outside = (PathKind(f"{ROOT}/workspace/data"), FileText(f"{ROOT}/runs/R/code/requirements.txt"),
                           PathKind(f"{ROOT}/elsewhere/abc/set"))
    said = looking_at_both(RELOCATION, here, there)((data, text, outside, PathKind("/shared"), Tool("docker")))
    assert said[data] == PathFact("directory", real=f"{ROOT}/workspace/data")
    assert (said[text], said[outside]) == (b"numpy", PathFact("file", real="/disk/the set"))
    assert (said[PathKind("/shared")], said[Tool("docker")]) == (PathFact("directory", real="/shared"), "/usr/bin/docker")
    assert there.asked == [PathKind("/shared"), Tool("docker")]


def test_what_is_absent_here_may_be_there_from_an_earlier_run_but_not_in_the_code() -> None:
    left = PathKind(f"{ROOT}/workspace/data")
    there = Machine({left: PathFact("directory", real=left.path)})
    look = looking_at_both(RELOCATION, Machine({}), there)
    script = PathKind(f"{ROOT}/runs/R/code/sh")
    said = look((left, script))
    assert said[left] == PathFact("directory", real=left.path)
    assert said[script] == PathFact("absent") and there.asked == [left]


def test_an_image_beside_the_code_is_looked_for_in_the_mirror() -> None:
    there = Machine({PathKind(f"{ROOT}/code/box/image.simg"): PathFact("file", real=f"{ROOT}/code/box/image.simg"),
                     FileDigest(f"{ROOT}/code/box/image.simg"): "sha256:1"})
    here = Machine({})
    image, digest = (kind(f"{ROOT}/runs/R/code/box/image.simg") for kind in (PathKind, FileDigest))
    said = looking_at_both(RELOCATION, here, there)((image, digest))
    assert said == {image: PathFact("file", real=image.path), digest: "sha256:1"}
    assert here.asked == []


def test_a_probe_in_a_directory_that_is_not_there_yet_is_made_elsewhere() -> None:
    inside = Probe(Command(("python3", "-V"), cwd=f"{ROOT}/runs/R/code"))
    outside = Probe(Command(("python3", "-V")))
    there = Machine({outside: Observation(0, "Python 3.11.2\n")})
    assert looking_at_both(RELOCATION, Machine({}), there)((inside,)) == {inside: Observation(0, "Python 3.11.2\n")}


def test_a_digest_of_a_tree_is_taken_where_all_of_it_is() -> None:
    own = TreeDigest(("/cube/build", "/cube/requirements.txt"), ("/cube/build/cache",), "/cube")
    asked = TreeDigest((f"{ROOT}/runs/R/code/build", f"{ROOT}/runs/R/code/requirements.txt"),
                       (f"{ROOT}/runs/R/code/build/cache",), f"{ROOT}/runs/R/code")
    mixed = TreeDigest((f"{ROOT}/runs/R/code/build", "/shared/wheels"), (), "/")
    here, there = Machine({own: "d"}), Machine({})
    said = looking_at_both(RELOCATION, here, there)((asked, mixed))
    assert said == {asked: "d", mixed: None} and there.asked == [mixed]


def test_before_anything_moves_paths_are_asked_of_their_machine() -> None:
    here, there = Machine({PathKind("/cube/x"): PathFact("file")}), Machine({PathKind("/shared"): PathFact("directory")})
    look = looking_before_moving(lambda path: path.startswith("/cube"), here, there)
    assert look((PathKind("/cube/x"), PathKind("/shared"), Tool("ssh"))) == {
        PathKind("/cube/x"): PathFact("file"), PathKind("/shared"): PathFact("directory"), Tool("ssh"): None}
    assert there.asked == [PathKind("/shared")]
