"""The mistakes that people make: for each file below definitions/mistakes, all that `mlcube validate` says, on one screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.cli import main
from tests.cubes import codes, read, task, write_tree

MISTAKES = Path(__file__).resolve().parent.parent / "definitions/mistakes"
SCREEN = 24  # lines


@pytest.mark.parametrize("name", sorted(path.stem for path in MISTAKES.glob("*.yaml")))
def test_a_mistake_is_answered_with_its_place_and_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str], name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLCUBE_HOME", str(tmp_path))
    monkeypatch.chdir(MISTAKES)
    exit_code = main(["validate", f"{name}.yaml"])
    stdout, stderr = capsys.readouterr()
    said = stderr + stdout
    assert said == (MISTAKES / f"{name}.txt").read_text()
    assert len(said.splitlines()) <= SCREEN
    assert exit_code == (3 if "error: " in said else 0)
    assert f"{name}.yaml:" in said
    assert "hint: " in said


def test_every_answer_has_its_question() -> None:
    assert {path.stem for path in MISTAKES.glob("*.txt")} == {path.stem for path in MISTAKES.glob("*.yaml")}


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    text = "name: mnist\r\ndocker:\r\n  image: mnist\r\ntasks:\r\n  train:\r\n    parameters:\r\n      inputs: {a: a/}\r\n"
    (tmp_path / "mlcube.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    reading = read(tmp_path)
    assert reading.problems == ()
    assert [one.default for one in task(reading, "train").parameters] == ["a/"]


@pytest.mark.parametrize("image", [
    "mnist", "mnist:1.0-RC1", "org/mnist", "MyHost/org/mnist", "localhost:5000/mnist:x", "registry.example.org/a/b-c__d.e:1",
    "a@sha256:" + "0" * 64, "0" * 64, "sha256:" + "0" * 64, "[::1]:5000/a",
])
def test_good_names_of_images(tmp_path: Path, image: str) -> None:
    assert read(write_tree(tmp_path, {"mlcube.yaml": f"docker: {{image: '{image}'}}\ntasks: {{a: null}}\n"})).problems == ()


@pytest.mark.parametrize(("image", "hint"), [
    ("MNIST", "did you mean 'mnist'?"),
    ("org/MNIST:Latest", "did you mean 'org/mnist:Latest'?"),
    ("host:5000/My Image", "did you mean 'host:5000/my-image'?"),
    ("docker://org/mnist", "did you mean 'org/mnist'?"),
    ("org//mnist", "for example: org/mnist:0.1.0"),
    ("mnist:", "for example: org/mnist:0.1.0"),
    ("mnist;rm", "for example: org/mnist:0.1.0"),
])
def test_names_that_no_image_can_have(tmp_path: Path, image: str, hint: str) -> None:
    reading = read(write_tree(tmp_path, {"mlcube.yaml": f"docker: {{image: '{image}'}}\ntasks: {{a: null}}\n"}))
    assert codes(reading) == ["bad-image"]
    assert reading.problems[0].hint == hint
