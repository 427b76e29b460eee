"""`mlcube migrate`: every cube that the repository holds means the same afterwards, or is refused with all the reasons."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube_cli.cli import main, output
from mlcube_cli.definition.source import parse_document
from mlcube_cli.definition.write_yaml import yaml_text
from tests.cubes import write_tree
from tests.every_cube import CubeCase, names, write_case

CASES = names()
# Cubes whose definitions are invalid, or that one of the dialects cannot say: refused, and with which reasons is tested below.
MUST_MOVE = tuple(name for name in CASES if name.startswith(("example/", "page/")))


class Here:
    """The command line in this process, in a clean environment where no engine is."""

    def __init__(self, capsys: pytest.CaptureFixture[bytes]) -> None:
        self.capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        output.QUIET = output.DEBUG = False
        self.capsys.readouterr()
        try:
            code = main(list(words))
        except SystemExit as end:  # --help
            code = int(end.code or 0)
        out, err = self.capsys.readouterr()
        return code, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape")

    def data(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def here(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("sh", "bash", "env", "uname"):
        (programs / program).symlink_to(shutil.which(program) or program)
    (programs / "python3").symlink_to(sys.executable)
    (tmp_path / "home").mkdir()
    for name, value in {"PATH": str(programs), "HOME": str(tmp_path / "home"), "MLCUBE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Here(capsysbinary)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below the directory with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def set_up(case: CubeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)


# --- every cube ----------------------------------------------------------------------------------------------------


def described(here: Here, where: Path, root: Path) -> Mapping[str, Any]:
    """What describe says, without dialect, root and sources: the group that holds a task's defaults is a source, too."""
    data = here.data("describe", str(where))
    for task, known in data["tasks"].items():
        default = "default" if data["dialect"] == "mlbox" else task
        groups = known["groups"]
        only = len(groups) == 1 and data["dialect"] != "mlbox"
        known["groups"] = [name for name in groups if name != default and not only]
        for one in known["parameters"]:
            value = one["default"] or ""
            if one["type"] == "unknown" and value.endswith("/"):
                one["type"] = "directory"
            if value == data["workspace"] or value.startswith(data["workspace"] + "/"):
                one["default"] = "$WORKSPACE" + value[len(data["workspace"]):]
    data["platforms"] = sorted((one["name"], one["runner"]) for one in data["platforms"])
    assert data.pop("root") == str(root)
    return {key: value for key, value in data.items() if key not in ("dialect", "workspace")}


def planned(here: Here, where: Path, root: Path, platform: str, task: str) -> Any:
    """The plan without the cube's place, the definition's places and the run's identity; or the message why there is none."""
    code, out, err = here.run("run", str(where), "--platform", platform, "--task", task, "--dry-run", "--json")
    text = out if code == 0 else json.dumps([line for line in err.splitlines() if line.startswith("error:")])
    text = re.sub(r"\([^() ]+:\d+:\d+\)", "(PLACE)", re.sub(r"\d{8}T\d{6}-[0-9a-f]{6}", "ID", text))
    return json.loads(text.replace(f"{root}/", "ROOT/").replace(f'{root}"', 'ROOT"'))


@pytest.mark.parametrize("target", ["inline", "directory"])
@pytest.mark.parametrize("name", CASES)
def test_a_cube_means_the_same_in_another_dialect_or_is_refused(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                name: str, target: str) -> None:
    case = write_case(name, tmp_path / "case")
    set_up(case, monkeypatch)
    before, new = tree(case.root), case.root.parent / "migrated"

    code, out, err = here.run("migrate", str(case.where), "--to", target, "--output", str(new), "--json")

    assert tree(case.root) == before, "the old cube is only read"
    if code == 2:
        assert f"in the {target} dialect already" in err
    elif code == 3:
        assert name not in MUST_MOVE, err
        assert not new.exists()
        problems = [one for one in json.loads(out)["problems"] if one["severity"] == "error"]
        assert problems
        known_invalid = here.run("validate", str(case.where))[0] == 3
        assert known_invalid or {one["code"] for one in problems} == {"not-sayable"}
        assert all(one["file"] and one["hint"] for one in problems)
    else:
        assert code == 0, err
        agree(here, case, new)


def agree(here: Here, case: CubeCase, new: Path) -> None:
    """Descriptions and plans of the cube and of the migrated one are the same but for paths."""
    old = described(here, case.where, case.root)
    assert described(here, new, new) == old
    assert here.run("validate", str(new))[0] == 0
    for platform, runner in old["platforms"]:
        if runner in ("docker", "local", "singularity"):
            for task in old["tasks"]:
                plan = planned(here, case.where, case.root, platform, task)
                assert planned(here, new, new, platform, task) == plan


def test_there_are_cubes_of_all_dialects_to_try() -> None:
    assert len(CASES) > 40
    assert len(MUST_MOVE) == 7


# --- what a dialect cannot say -------------------------------------------------------------------------------------

DIRECTORY_CUBE = {
    "mlcube.yaml": "schema_type: mlcube_root\nname: n\ntasks: [tasks/a.yaml]\n",
    "tasks/a.yaml": "schema_type: mlcube_task\ninputs: [{name: data, type: directory}]\noutputs: []\n",
    "run/a.yaml": "schema_type: mlcube_invoke\ntask_name: a\ninput_binding: {data: data}\noutput_binding: {}\n",
    "platforms/docker.yaml": "schema_type: mlcube_docker\nimage: a\n",
}
BOX = {
    "mlbox.yaml": "type: mlbox\nname: n\ntasks: {a: {inputs: {data: {}}, outputs: {}}}\n",
    "implementation/mlbox_implementation.yaml": "implementation_type: docker\nimage: a\n",
    "tasks/a/default.yaml": "data: data\n",
}


def inline(*lines: str, task: str = "a: {}") -> dict[str, str]:
    return {"mlcube.yaml": "\n".join(("name: n", "docker: {image: a}", *lines, f"tasks: {{{task}}}")) + "\n"}


REFUSED: tuple[tuple[str, str, Mapping[str, str], tuple[str, ...]], ...] = (
    ("a second run configuration", "inline", {
        **DIRECTORY_CUBE, "run/big.yaml": DIRECTORY_CUBE["run/a.yaml"]}, ("run/big.yaml run configuration 'big'",)),
    ("a parameter without a value", "inline", {
        **DIRECTORY_CUBE, "run/a.yaml": "schema_type: mlcube_invoke\ntask_name: a\n"}, ("tasks/a.yaml:2:10 no value",)),
    ("a platform of another name", "inline", {
        **DIRECTORY_CUBE, "platforms/gpu.yaml": "schema_type: mlcube_docker\nimage: b\n"}, ("platforms/gpu.yaml 'gpu'",)),
    ("a Kubernetes volume", "inline", {
        **DIRECTORY_CUBE, "run/a.yaml": DIRECTORY_CUBE["run/a.yaml"].replace(
            "{data: data}", "{data: {path: data, k8s: {pvc: p}}}")}, ("run/a.yaml:3:36 Kubernetes",)),
    ("an implementation file in a directory cube", "inline", {
        **DIRECTORY_CUBE, "implementation/mlbox_implementation.yaml": "a: 1\n"},
     ("implementation/mlbox_implementation.yaml take implementation/mlbox_implementation.yaml for",)),
    ("a group of values", "inline", {**BOX, "tasks/a/big.yaml": "data: big\n"}, ("tasks/a/big.yaml group of values 'big'",)),
    ("a value that is skipped", "inline", {**BOX, "tasks/a/default.yaml": "data:\n"}, ("mlbox.yaml:3:22 no value",)),
    ("two groups that would be one file", "directory", {
        **BOX, "mlbox.yaml": "type: mlbox\nname: n\ntasks: {a: {inputs: {}, outputs: {}}, b: {inputs: {}, outputs: {}}}\n",
        "tasks/a/default.yaml": "{}\n", "tasks/b/default.yaml": "{}\n", "tasks/b/a.yaml": "{}\n"},
     ("tasks/b/a.yaml one file, run/a.yaml",)),
    ("the environment, in every place", "directory", inline(
        "description: for ${oc.env:WHO}", "platform: {accelerator_count: '${oc.env:N,0}'}",
        task="a: {parameters: {inputs: {p: '${oc.env:D}/x'}}}"),
     ("mlcube.yaml:3:14 environment", "mlcube.yaml:4:31 environment", "mlcube.yaml:5:38 environment")),
    ("the cube's place", "directory", {
        "a.py": "", **inline("local: {entrypoint: '${runtime.root}/a.py', workdir: '${workspace}'}")},
     ("mlcube.yaml:3:21 where the cube lies", "mlcube.yaml:3:54 where the cube lies")),
    ("a task that no file can be called", "directory", inline(task="a/b: {}, .c: {}"),
     ("mlcube.yaml:3:9 'a/b'", "mlcube.yaml:3:18 '.c'")),
    ("one name with two values", "directory", inline(
        task="a: {parameters: {inputs: {p: x/}, outputs: {p: y/}}}"), ("mlcube.yaml:3:56 two values",)),
    ("other YAML files where the reader looks", "directory", {
        **inline(), "platforms/notes.yaml": "a: 1\n", "tasks/deep/b.yaml": "a: 1\n", "tasks/b.yml": "a: 1\n"},
     ("platforms/notes.yaml take platforms/notes.yaml for", "tasks/b.yml take tasks/b.yml for")),
)


@pytest.mark.parametrize(("target", "files", "reasons"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_what_cannot_be_said_is_listed_with_its_place_and_refused(here: Here, tmp_path: Path, target: str,
                                                                  files: Mapping[str, str], reasons: tuple[str, ...]) -> None:
    write_tree(tmp_path / "cube", files)
    code, out, _ = here.run("migrate", "cube", "--to", target, "--json")
    assert code == 3
    problems = json.loads(out)["problems"]
    found = [(f"{one['file']}:{one['line']}:{one['column']}" if one["line"] else one["file"], one) for one in problems]
    for reason in reasons:
        place, _, words = reason.partition(" ")
        assert any(where.endswith(f"cube/{place}") and words in one["message"] and one["code"] == "not-sayable" and one["hint"]
                   for where, one in found), (reason, found)
    assert {one["code"] for one in problems} == {"not-sayable"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("cube")) == ["cube"]


# --- what goes along ------------------------------------------------------------------------------------------------


def test_the_new_cube_has_the_old_ones_files_but_not_its_definition_records_and_history(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", {
        **DIRECTORY_CUBE, "platforms/other.yaml": "schema_type: mlcube_gcp\n", "build/run.sh": "exit 0\n", "README.md": "hi\n",
        "workspace/data/x.csv": "1\n", "workspace/.mlcube/runs/1/record.json": "{}\n", ".git/config": "\n",
        "build/__pycache__/a.pyc": "\n"})
    (tmp_path / "cube/build/run.sh").chmod(0o755)
    (tmp_path / "cube/empty").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "cube/link").symlink_to("build/run.sh")
    (tmp_path / "cube/workspace/out").symlink_to("../../shared")

    code, out, err = here.run("migrate", "cube", "--to", "inline")

    new = tmp_path / "cube-inline"
    assert code == 0 and err.count("warning: ") == 1 and "--> cube/platforms/other.yaml:1:1" in err
    assert out.splitlines()[0] == "cube-inline/mlcube.yaml" and "mlcube validate cube-inline" in out
    assert sorted(tree(new)) == ["README.md", "build/run.sh", "link", "mlcube.yaml", "platforms/other.yaml",
                                 "workspace/data/x.csv"]
    assert (new / "build/run.sh").stat().st_mode & 0o777 == 0o755
    assert (new / "empty").is_dir()
    assert (new / "link").readlink() == Path("build/run.sh")
    assert (new / "workspace/out").resolve() == tmp_path / "shared"
    assert here.run("migrate", "cube", "--to", "inline", "--output", "lean", "--without-workspace")[0] == 0
    assert not (tmp_path / "lean/workspace").exists()


def test_no_file_of_somebody_elses_is_overwritten(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", DIRECTORY_CUBE)
    write_tree(tmp_path / "cube-inline", {"a.txt": "mine"})
    write_tree(tmp_path, {"file": "mine"})
    before = [tree(tmp_path / "cube"), tree(tmp_path / "cube-inline"), (tmp_path / "file").read_text()]
    for words, message in (((), "is there already and is not empty"), (("--output", "file"), "not a directory"),
                           (("--output", "cube/new"), "lies in the cube itself"), (("--output", "cube"), "in the cube itself"),
                           (("--output", "no/where"), "there is no directory no")):
        code, out, err = here.run("migrate", "cube", "--to", "inline", *words)
        assert (code, out) == (2, "") and message in err and "hint:" in err, err
    assert [tree(tmp_path / "cube"), tree(tmp_path / "cube-inline"), (tmp_path / "file").read_text()] == before


def test_an_empty_directory_is_filled_and_stays_the_same_one(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", DIRECTORY_CUBE)
    (tmp_path / "new").mkdir()
    identity = (tmp_path / "new").stat().st_ino
    assert here.run("migrate", "cube", "--to", "inline", "--output", "new")[0] == 0
    assert (tmp_path / "new").stat().st_ino == identity
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mlcube.yaml"]


def test_a_dry_run_prints_the_files_and_writes_none(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", BOX)
    before = tree(tmp_path / "cube")
    code, out, err = here.run("migrate", "cube", "--to", "directory", "--dry-run")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("--- ")] == [
        f"--- cube-directory/{name}" for name in ("mlcube.yaml", "tasks/a.yaml", "run/a.yaml", "platforms/docker.yaml")]
    assert tree(tmp_path / "cube") == before and not (tmp_path / "cube-directory").exists()
    document = here.data("migrate", "cube", "--to", "directory", "--dry-run")
    assert document["dry_run"] is True and document["files"][0]["text"] in out


def test_paths_that_lead_out_of_the_cube_need_the_new_one_beside_the_old(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", {
        "mlcube.yaml": "docker: {image: a, build_context: ../project, build_file: ../../D}\nlocal: {entrypoint: ../x.py}\n"
                       "tasks: {a: {parameters: {inputs: {p: ../../up/, q: ../in/, r: $WORKSPACE/../../up/, s: /abs/}}}}\n",
        "../x.py": "", "../project/.keep": "", "../D": ""})
    (tmp_path / "elsewhere").mkdir()
    assert here.run("migrate", "cube", "--to", "directory")[0] == 0
    code, out, _ = here.run("migrate", "cube", "--to", "directory", "--output", "elsewhere/new", "--json")
    assert code == 3
    found = {one["message"].split("'")[1]: one["line"] for one in json.loads(out)["problems"]}
    assert found == {"../project": 1, "../project/../../D": 1, "../x.py": 2, "../../up/": 3, "$WORKSPACE/../../up/": 3}


def test_keys_that_only_references_use_are_named_and_left_out(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", inline("common: {tag: b}", "gcp: {zone: z}", "version: '${common.tag}'"))
    code, _, err = here.run("migrate", "cube", "--to", "directory")
    assert code == 0
    for key in ("common", "gcp"):
        assert f"'{key}' is not written" in err
    assert here.data("describe", "cube-directory")["version"] == "b"
    document = here.data("migrate", "cube", "--to", "directory", "--output", "again")
    assert [(one["path"], one["line"]) for one in document["left_out"]] == [("common", 3), ("gcp", 4)]


def test_what_gets_lost_is_listed_when_it_does(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", {
        **DIRECTORY_CUBE,
        "run/a.yaml": "schema_type: mlcube_invoke\ndescription: mine\ntask_name: a\ninput_binding: {data: data}\n"
                      "output_binding: {}\n",
        "tasks/a.yaml": "schema_type: mlcube_task\ndesc: reads\n"
                        "inputs: [{name: data, type: directory, desc: all}]\noutputs: []\n",
        "platforms/docker.yaml": "schema_type: mlcube_platform\nplatform: {name: docker, version: '>=18.01'}\n"
                                 "container: {image: a}\n",
        "platforms/gcp.yaml": "gcp: {zone: z}\ninstance: {name: i}\n"})
    document = here.data("migrate", "cube", "--to", "inline")
    assert {(one["file"], one["line"], one["path"]) for one in document["left_out"]} == {
        ("cube/run/a.yaml", 2, "description"), ("cube/platforms/docker.yaml", 2, "platform.version"),
        ("cube/platforms/gcp.yaml", 1, "")}
    text = document["files"][0]["text"]
    assert "description: reads" in text and "description: all" in text
    _, _, err = here.run("migrate", "cube", "--to", "inline", "--dry-run", "--output", "again")
    assert err.count("warning: ") == 3 and "--> cube/run/a.yaml:2:1 (description)" in err


def test_keys_that_the_old_cubes_reader_passes_over_are_listed(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", inline("authors: [{name: A, url: u}]", "platform: {mine: 1}",
                                         task="a: {desc: reads, parameters: {inputs: {p: {default: x/, note: 1}}}}"))
    document = here.data("migrate", "cube", "--to", "directory")
    assert [one["path"] for one in document["left_out"]] == ["authors[0].url", "tasks.a.parameters.inputs.p.note"]
    assert all("not written" in one["message"] for one in document["left_out"])
    texts = {file["path"]: file["text"] for file in document["files"]}
    assert "description: reads" in texts["tasks/a.yaml"] and "mine: 1" in texts["mlcube.yaml"]
    write_tree(tmp_path / "box", {**BOX, "tasks/a/default.yaml": "data: data\nother: x\n"})
    document = here.data("migrate", "box", "--to", "directory")
    assert [(one["file"], one["path"]) for one in document["left_out"]] == [("box/tasks/a/default.yaml", "other")]


@pytest.mark.parametrize(("sections", "listed"), [
    ("singularity: {image: a.sif}\ndocker: {image: a}", True), ("docker: {image: a}\nsingularity: {image: a.sif}", False),
    ("local: {entrypoint: x.py}\ndocker: {image: a}", False)])
def test_another_order_of_the_platforms_is_told(here: Here, tmp_path: Path, sections: str, listed: bool) -> None:
    write_tree(tmp_path / "cube", {"mlcube.yaml": f"{sections}\ntasks: {{a: {{}}}}\n", "x.py": ""})
    code, _, err = here.run("migrate", "cube", "--to", "directory")
    assert code == 0
    assert ("mlcube tries 'docker' first in the new cube, and 'singularity' in this one" in err) is listed
    assert bool(here.data("migrate", "cube", "--to", "directory", "--output", "again")["left_out"]) is listed


def test_a_bad_command_line_is_refused_with_what_to_type(here: Here, tmp_path: Path) -> None:
    write_tree(tmp_path / "cube", DIRECTORY_CUBE)
    for words, message in (((), "to which dialect?"), (("--to", "directory"), "directory dialect already"),
                           (("--to", "inline", "a=b"), "takes a cube and nothing else"), (("--to", "mlbox"), "mlbox")):
        code, out, err = here.run("migrate", "cube", *words)
        assert (code, out) == (2, "") and message in err
    assert here.run("migrate", "nowhere", "--to", "inline")[0] == 3
    assert here.run("migrate", "--help")[1].count("mlcube migrate ") >= 2


def test_what_cannot_be_written_or_read_ends_with_5_and_leaves_nothing(here: Here, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "cube", {**DIRECTORY_CUBE, "a/b.bin": "x"})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    for there in (False, True):
        if there:
            (tmp_path / "new").mkdir()
        code, out, err = here.run("migrate", "cube", "--to", "inline", "--output", "new")
        assert (code, out) == (5, "") and "No space left on device" in err
        assert not list((tmp_path / "new").iterdir()) if there else not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".mlcube-new*"))


# --- what is written reads back ------------------------------------------------------------------------------------

ODD = ("", " ", "true", "No", "null", "~", "1.10", "0x1F", "1e3", "1:30", "2020-01-01", "- a", "a: b", "#", "${a.b}", "\\${a}",
       "\\\\${", "${WORKSPACE}/x", "$HOME", "$$", "a\nb", "é\u2028", "\udc80", "😀\x07", "<<", "*a", "&a", "!x", "---", "...",
       "%a", "@", "`", "'", '"', "a #b")
TEXTS = st.one_of(st.sampled_from(ODD),
                  st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=30))
VALUES = st.recursive(st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-10**9, 10**9),
                                st.floats(allow_nan=False, allow_infinity=False)),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(data=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_written_data_reads_back_as_it_was(data: Any) -> None:
    assert parse_document(yaml_text(data, "a comment").encode(), "f").data == data


@pytest.mark.parametrize("text", ["1.10", "true", "null", "a: b #c", "é",
                                  "\\udc80", "${name}", "\\\\${name}", "${WORKSPACE}/x", "$HOME/$$"])
def test_a_text_is_the_same_text_afterwards(here: Here, tmp_path: Path, text: str) -> None:
    quoted = '"' + text.replace("\\\\", "\\\\\\\\") + '"'
    write_tree(tmp_path / "cube", {
        **DIRECTORY_CUBE,
        "mlcube.yaml": f"schema_type: mlcube_root\nname: {quoted}\nversion: {quoted}\ntasks: [tasks/a.yaml]\n",
        "run/a.yaml": f"schema_type: mlcube_invoke\ntask_name: a\ninput_binding: {{data: {quoted}}}\noutput_binding: {{}}\n"})
    assert here.run("migrate", "cube", "--to", "inline")[0] == 0
    old, new = here.data("describe", "cube"), here.data("describe", "cube-inline")
    assert (new["name"], new["version"]) == (old["name"], old["version"])
    assert new["tasks"]["a"]["parameters"] == old["tasks"]["a"]["parameters"]


def test_a_value_of_the_environment_is_never_written(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "cube", inline("common: '${oc.env:TOKEN}'", "ssh: {host: '${common}'}"))
    monkeypatch.setenv("TOKEN", "geheim")
    code, out, err = here.run("migrate", "cube", "--to", "directory", "--json")
    assert code == 3 and "geheim" not in out + err
