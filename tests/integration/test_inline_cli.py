"""What people really write in inline cubes, through the whole program: a small cube each, described, checked and planned."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.cli import main
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.flags import with_flags
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import Location, UsageError
from tests.conftest import RunMLCube, clean_environment
from tests.cubes import write_tree

FAKE = Path(__file__).resolve().parent.parent / "fakes" / "docker"
TINY = "mlcube-test/tiny:latest"


@dataclass
class Said:
    """How a command line ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def plan(self) -> dict[str, Any]:
        assert self.code == 0, self.stderr
        plan = json.loads(self.stdout)
        assert isinstance(plan, dict)
        return plan

    @property
    def task(self) -> dict[str, Any]:
        task: dict[str, Any] = self.plan["tasks"][0]
        return task

    @property
    def argv(self) -> list[str]:
        """The words of the task's own command."""
        argv: list[str] = self.task["steps"][-1]["argv"]
        return argv

    @property
    def behind_image(self) -> list[str]:
        return self.argv[self.argv.index("img") + 1:]


class Command:
    """Calls the program in this process, with a docker that only records on PATH."""

    def __init__(self, capfd: pytest.CaptureFixture[str], root: Path) -> None:
        self._capfd = capfd
        self.root = root

    def __call__(self, *words: str) -> Said:
        self._capfd.readouterr()
        code = main(words)
        out, err = self._capfd.readouterr()
        return Said(code, out, err)

    def plan(self, *words: str) -> Said:
        return self("run", "--dry-run", "--json", *words)


@pytest.fixture
def mlcube(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The program, called in an empty directory `c` that a test puts its cube into."""
    root = tmp_path / "c"
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ("MLCUBE_SYSTEM_SETTINGS", "MLCUBE_SITE_SETTINGS", "XDG_CONFIG_HOME", "DOCKER_HOST", "CUDA_VISIBLE_DEVICES",
                 "NVIDIA_VISIBLE_DEVICES", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLCUBE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{FAKE}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE_IMAGE", "there")
    return Command(capfd, root)


# --- parameters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """The parameters of a task, what lies beside the cube, and what becomes of them: (type, path from the workspace)."""

    parameters: str
    there: Sequence[str] = ()  # below the workspace; a directory ends in a slash
    expected: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    made: Sequence[str] = ()  # the directories that the run makes


FORMS = {
    "only inputs": Form("{inputs: {data: data/}}", ["data/"], {"data": ("directory", "data")}),
    "only outputs": Form("{outputs: {log: log/}}", [], {"log": ("directory", "log")}, ["log"]),
    "short forms and mappings in one task": Form(
        "{inputs: {a: a.txt, b: {type: directory, default: d}, n: null}, outputs: {c: {type: file, default: new/dir/c.txt}}}",
        ["a.txt", "d/", "n/"],
        {"a": ("file", "a.txt"), "b": ("directory", "d"), "n": ("directory", "n"), "c": ("file", "new/dir/c.txt")},
        ["new/dir"]),
    "the disk decides": Form("{inputs: {a: x, b: y}}", ["x/", "y"], {"a": ("directory", "x"), "b": ("file", "y")}),
    "a mapping without a default": Form("{inputs: {data: {type: directory}, x: {}}, outputs: {out: {type: directory}}}",
                                        ["data/", "x"], {"data": ("directory", "data"), "x": ("file", "x"),
                                                         "out": ("directory", "out")}, ["out"]),
    "the workspace itself": Form("{inputs: {a: {type: directory, default: ''}}, outputs: {b: {type: directory, default: ./}}}",
                                 ["x"], {"a": ("directory", "."), "b": ("directory", ".")}, [".", ".mlcube"]),
    "names with dashes": Form("{inputs: {my-data: d/}, outputs: {the-log-file: {type: file}}}", ["d/"],
                              {"my-data": ("directory", "d"), "the-log-file": ("file", "the-log-file")}, [".", ".mlcube"]),
    "places elsewhere": Form("{inputs: {a: ~/.cache/x, b: ../../shared/data, c: ../configs/x.yaml, d: $HOME/y}}",
                             ["../../.cache/x/", "../../shared/data/", "../configs/x.yaml", "../../y"],
                             {"a": ("directory", "../../.cache/x"), "b": ("directory", "../../shared/data"),
                              "c": ("file", "../configs/x.yaml"), "d": ("file", "../../y")}),
    "slashes": Form("{inputs: {a: d//e/}, outputs: {b: out/./x/}}", ["d/e/"], {"a": ("directory", "d/e"),
                                                                              "b": ("directory", "out/x")}, ["out/x"]),
    "text": Form("{inputs: {n: {type: int, default: 3}, flag: {type: bool, default: true}}}", [], {"n": ("text", "3"),
                                                                                                  "flag": ("text", "true")}),
}


def place(workspace: Path, names: Sequence[str]) -> None:
    for name in names:
        path = workspace / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("x")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_parameters_in_every_form(mlcube: Command, form: Form) -> None:
    text = f"name: c\ndocker: {{image: img}}\ntasks: {{t: {{parameters: {form.parameters}}}}}\n"
    write_tree(mlcube.root, {"mlcube.yaml": text})
    workspace = mlcube.root / "workspace"
    workspace.mkdir()
    place(workspace, form.there)
    assert mlcube("describe").code == 0
    checked = mlcube("validate")
    assert (checked.code, checked.stdout, checked.stderr) == (0, ".: valid\n", "")
    task = mlcube.plan("-Pdocker.image=img").task
    found = {one["name"]: (one["type"], os.path.relpath(one["host_path"], workspace) if one.get("host_path") else one["text"])
             for one in task["arguments"]}
    assert found == form.expected
    made = [step["argv"][3:] for step in task["steps"] if step["argv"][0] == "mkdir"]
    assert made == ([[os.path.normpath(workspace / name) for name in form.made]] if form.made else [])


def test_an_input_that_nothing_tells_the_type_of_is_missing(mlcube: Command) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": "docker: {image: img}\ntasks: {t: {parameters: {inputs: {a: nowhere}}}}\n"})
    assert mlcube("validate").code == 0
    said = mlcube.plan()
    assert said.code == 3 and "input 'a' is missing: there is no " in said.stderr and "--> mlcube.yaml:2:38 (a)" in said.stderr


# --- entry points ------------------------------------------------------------------------------------------------------

SCRIPT = "#!/bin/sh\nprintf '<%s>' \"$0\" \"$@\"\n"


@pytest.mark.parametrize(("written", "first", "rest"), [
    ("python3 train.py", "python3", ["train.py"]),
    ("main", "main", []),
    ("./run.sh -a", "./run.sh", ["-a"]),
    ("../scripts/x.sh", "../scripts/x.sh", []),
    ("sh -c 'echo \"a  b\" $0'", "sh", ["-c", 'echo "a  b" $0']),
    ("[sh, -c, 'exit 3', 7]", "sh", ["-c", "exit 3", "7"]),
    ("''", None, ["t"]),
    ("null", None, ["t"]),
])
def test_entry_points_on_docker(mlcube: Command, written: str, first: str | None, rest: list[str]) -> None:
    write_tree(mlcube.root, {"workspace/d/x": "", "mlcube.yaml": f"""
        docker: {{image: img}}
        tasks:
          t:
            entrypoint: {written}
            parameters: {{inputs: {{data-dir: d/}}}}
        """})
    said = mlcube.plan()
    words = [word for word in said.argv if word.startswith("--entrypoint")]
    assert words == ([f"--entrypoint={first}"] if first else [])
    assert said.behind_image == [*rest, "--data-dir=/mlcube_io0"]


@pytest.mark.parametrize(("written", "said"), [
    ("./run.sh -a 'b  c'", "<ROOT/run.sh><-a><b  c><--x=3>"),
    ("run.sh", "<ROOT/run.sh><--x=3>"),
    ("../scripts/x.sh", "<ABOVE/scripts/x.sh><--x=3>"),
    ("[../scripts/x.sh, 'q r']", "<ABOVE/scripts/x.sh><q r><--x=3>"),
    ("sh -c 'printf \"<%s>\" \"$@\"' zero", "<--x=3>"),
    ("''", "<ROOT/own.sh><t><--x=3>"),
])
def test_entry_points_on_this_machine(mlcube: Command, tmp_path: Path, written: str, said: str) -> None:
    write_tree(tmp_path, {"c/run.sh": SCRIPT, "c/own.sh": SCRIPT, "scripts/x.sh": SCRIPT, "c/mlcube.yaml": f"""
        local: {{entrypoint: ./own.sh}}
        tasks:
          t:
            entrypoint: {written}
            parameters: {{inputs: {{x: {{type: int, default: 3}}}}}}
        """})
    for script in ("c/run.sh", "c/own.sh", "scripts/x.sh"):
        (tmp_path / script).chmod(0o755)
    ran = mlcube("run")
    assert (ran.code, ran.stdout) == (0, said.replace("ROOT", str(mlcube.root)).replace("ABOVE", str(tmp_path))), ran.stderr


# --- the words of the engine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "expected"), [
    ("env_args: {A: B, N: 3}", ["--env A=B", "--env N=3"]),
    ("env_args: '-e A=B -e C=\"d e\"'", ["-e A=B", "-e 'C=d e'"]),
    ("env_args: A=B", ["--env A=B"]),
    ("env_args: A=B C=D", ["--env A=B", "--env C=D"]),
    ("env_args: [-e, A=b c, D=1.10, --env, E=yes], run_args: [--cpus, 1.10, --label, yes]",
     ["-e 'A=b c' --env D=1.10 --env E=yes", "--cpus 1.10 --label yes"]),
    ("gpu_args: '--gpus=all --shm-size=1g -v ~/.ssh:/keys/.ssh -e TOKEN'",
     ["--gpus=all", "--shm-size=1g", "-v HOME/.ssh:/keys/.ssh", "-e TOKEN"]),
    ("gpu_args: -v $HOME/x:/y:ro, cpu_args: --never", ["--gpus 1", "-v HOME/x:/y:ro"]),
    ("gpu_args: '', cpu_args: --never", ["--gpus 1"]),
    ("--network: none, --shm-size: 1g, --gpus: null", ["--gpus 1", "--network none", "--shm-size 1g"]),
])
def test_words_for_the_engine(mlcube: Command, section: str, expected: list[str]) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": f"""
        platform: {{accelerator_count: 1, accelerator_maker: NVIDIA, colour: red}}
        docker: {{image: img, {section}}}
        tasks: {{t: null}}
        """})
    said = mlcube.plan()
    line = " ".join(shlex.quote(word) for word in said.argv)
    for words in expected:
        assert f" {words.replace('HOME', os.environ['HOME'])} " in line
    assert sum(word.startswith("--gpus") for word in said.argv) == 1 and "--never" not in line
    assert "warning: 'colour' is not a key that the 'platform' section knows" in said.stderr


@pytest.mark.parametrize("typed", ["{A: hunter2}", "-e A=hunter2", "[-e, A=hunter2]"])
def test_typed_environment_values_are_not_shown(mlcube: Command, typed: str) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": "docker: {image: img}\ntasks: {t: null}\n"})
    for words in ("run --dry-run", "run --dry-run --json", "show-config", "show-config --json --resolve"):
        said = mlcube(*words.split(), f"-Pdocker.env_args={typed}")
        assert said.code == 0 and "hunter2" not in said.stdout + said.stderr


@pytest.mark.parametrize(("runner", "flag", "option"), [
    ("docker", "gpus", "gpus"), ("docker", "memory", "memory"), ("docker", "cpu", "cpuset_cpus"),
    ("docker", "network", "network"), ("docker", "security", "security_opt"),
    ("singularity", "gpus", "gpus"), ("singularity", "memory", "vm_ram"), ("singularity", "cpu", "vm_cpu"),
    ("singularity", "network", "network"), ("singularity", "security", "security"),
    ("local", "gpus", "gpus"),
])
def test_flags_act_by_the_platforms_runner(runner: str, flag: str, option: str) -> None:
    own = Option(option, "of the cube", "mlcube.yaml:1:1")
    platform = Platform("whatever it is called", runner, (own,), Location("mlcube.yaml", 1, 1))
    changed = with_flags(platform, Arguments(**{flag: "typed"}))
    assert changed.options == (Option(option, "typed", f"--{flag}"),)


def test_a_flag_that_no_runner_takes_is_named() -> None:
    with pytest.raises(UsageError, match="--memory: platform 'far'"):
        with_flags(Platform("far", "elsewhere", (), Location("mlcube.yaml", 1, 1)), Arguments(memory="1g"))


@pytest.mark.parametrize("words", [["--network=none"], ["--memory", "1g"], ["--cpu=0"], ["--security=x"]])
def test_flags_that_plain_python_cannot_honour_are_errors(mlcube: Command, words: list[str]) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": "docker: {image: img}\ntasks: {t: {entrypoint: [echo]}}\n"})
    said = mlcube.plan("--platform=local", *words)
    assert said.code == 3 and "the local platform cannot honour" in said.stderr and f"({words[0].split('=')[0]})" in said.stderr
    assert mlcube.plan("--platform=local", "--gpus=none").task["steps"][-1]["env"]["CUDA_VISIBLE_DEVICES"] == ""


def test_a_network_that_is_typed_holds_whatever_the_cube_says(mlcube: Command) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": "docker: {image: img, cpu_args: --network=host}\ntasks: {t: null}\n"})
    said = mlcube.plan("--network", "none")
    assert "--network=host" not in said.argv and said.argv[said.argv.index("--network") + 1] == "none"
    assert any("--network=host is left out" in note for note in said.plan["notes"])


# --- files, names, places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("authors", "expected"), [
    ("[{name: A B, email: a@b.c, org: X}, only a name, {email: m@x}]", ["A B", "only a name", "m@x"]),
    ("Ada <ada@x>", ["Ada"]), ("{name: Ada}", ["Ada"]), ("null", []), ("[]", []),
])
def test_authors_in_odd_shapes(mlcube: Command, authors: str, expected: list[str]) -> None:
    text = f"name: My Cube (final)\nauthors: {authors}\ndocker: {{image: img}}\ntasks: {{t: }}\n"
    write_tree(mlcube.root, {"mlcube.yaml": text})
    document = json.loads(mlcube("describe", "--json").stdout)
    assert [author["name"] for author in document["authors"]] == expected
    assert "org.mlcommons.mlcube.cube=My Cube (final)" in mlcube.plan().argv


def test_what_no_run_uses_keeps_no_cube_from_running(mlcube: Command) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": """
        authors: [[a, b], {name: [x]}, null, 3]
        description: [a, b]
        docker: {image: img}
        tasks: {t: {description: {a: b}}}
        """})
    checked = mlcube("validate")
    assert (checked.code, checked.stdout) == (0, ".: valid (6 warnings)\n")
    assert mlcube.plan().behind_image == ["t"]


def test_a_description_of_several_lines_is_shown_indented(mlcube: Command) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": """
        name: c
        description: |
          one
          two
        tasks: {t: {parameters: {inputs: {i: {type: file, description: "a\\nb"}}}}}
        """})
    said = mlcube("describe")
    assert said.stdout.startswith("c\n  one\n  two\n\n  dialect") and "i = i  # a b\n" in said.stdout
    assert "--platform docker -Pdocker.image=NAME" in said.stdout
    refused = mlcube("run")
    assert refused.code == 2 and "--platform docker -Pdocker.image=NAME" in refused.stderr


def test_a_fault_in_a_section_of_a_runner_that_there_is_not_keeps_no_cube_from_running(mlcube: Command) -> None:
    text = "docker: {image: img}\nkubeflow: {pvc: '${no.where}'}\ntasks: {t: null}\n"
    write_tree(mlcube.root, {"mlcube.yaml": text})
    said = mlcube.plan()
    assert said.behind_image == ["t"] and "warning: ${no.where} names nothing" in said.stderr
    assert mlcube("validate").code == 3


def test_several_definitions_lie_side_by_side_in_a_path_with_spaces(mlcube: Command, tmp_path: Path) -> None:
    for kind in ("cpu", "gpu"):
        text = f"name: {kind}\ndocker: {{image: img}}\ntasks: {{t: null}}\n"
        write_tree(tmp_path / "my cube (2)", {f"mlcube.{kind}.yaml": text})
    for words in (("--mlcube=../my cube (2)/mlcube.gpu.yaml",), ("../my cube (2)/mlcube.gpu.yaml:t",)):
        assert "org.mlcommons.mlcube.cube=gpu" in mlcube.plan(*words).argv
    document = json.loads(mlcube("describe", "--json", "--mlcube", "../my cube (2)/mlcube.cpu.yaml").stdout)
    assert (document["name"], document["root"]) == ("cpu", str(tmp_path / "my cube (2)"))
    said = mlcube("describe", "../my cube (2)")
    assert said.code == 3 and "mlcube.cpu.yaml, " in said.stderr and "--mlcube" in said.stderr


def test_a_build_context_may_lie_outside_the_cube_and_a_build_file_need_not_be_there(
        mlcube: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_IMAGE", "absent")
    write_tree(tmp_path, {"project/docker/Dockerfile.cpu": "FROM img\n", "c/mlcube.yaml": """
        docker: {image: img, build_context: ../project, build_file: docker/Dockerfile.cpu, build_strategy: always}
        tasks: {t: null}
        """})
    build = mlcube.plan().plan["steps"][0]["argv"]
    assert build[:4] == ["docker", "build", "--tag", "img"] and build[-1] == str(tmp_path / "project")
    assert build[build.index("--file") + 1] == str(tmp_path / "project/docker/Dockerfile.cpu")
    write_tree(mlcube.root, {"mlcube.yaml": "docker: {image: img}\ntasks: {t: null}\n"})
    assert mlcube("validate").stdout == ".: valid\n"
    assert mlcube.plan().plan["steps"][0]["argv"] == ["docker", "pull", "img"]


def test_the_command_line_of_other_programs(mlcube: Command, tmp_path: Path) -> None:
    write_tree(mlcube.root, {"some.yaml": """
        name: c
        platform: {accelerator_count: 1}
        docker: {image: img, gpu_args: --never}
        tasks: {T: {parameters: {inputs: {k: k/}, outputs: {o: o/}}}, other: null}
        """, "a value/x": ""})
    said = mlcube("--log-level", "error", "run", "--mlcube=some.yaml", "--task=T", "--platform=docker", "--network=none",
                  "--mount=ro", "k=./a value", "-Pdocker.cpu_args=-u 1000:1000", "-Pdocker.env_args=-e X=Y",
                  "-Psingularity.run_args=-eC", "-Pplatform.accelerator_count=0", "--dry-run", "--json")
    line = " ".join(said.argv)
    assert " --network none " in line and " -u 1000:1000 " in line and "--never" not in line and "--user" not in line
    assert f" type=bind,source={mlcube.root}/a value,target=/mlcube_io0,readonly " in line
    assert said.task["steps"][-1]["env"] == {"X": "***"} and " --env X " in line
    assert said.behind_image == ["T", "--k=/mlcube_io0", "--o=/mlcube_io1"]
    assert said.stderr == ""


def test_a_cube_that_came_without_its_project_runs_from_the_registry_and_says_so_once(
        mlcube: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_IMAGE", "absent")
    write_tree(mlcube.root, {"mlcube.yaml": """
        docker: {image: org/prep:0.0.1, build_context: ../project, build_file: Dockerfile}
        tasks: {t: null}
        """})
    assert mlcube.plan().plan["steps"][0]["argv"] == ["docker", "pull", "org/prep:0.0.1"]
    said = mlcube("show-config", "--platform", "podman")
    assert said.code == 0 and said.stderr.count("there is no directory") == 1
    refused = mlcube("run", "--dry-run", "-Pdocker.build_file=Dockerfile.typo")
    assert refused.code == 3 and "there is no file" in refused.stderr


def test_a_local_platform_without_entrypoint_runs_the_tasks_that_have_their_own(mlcube: Command) -> None:
    write_tree(mlcube.root, {"mlcube.yaml": "docker: {image: i}\ntasks: {own: {entrypoint: sh -c true}, other: null}\n"})
    assert mlcube("run", ".:own", "--platform=local", "--dry-run").code == 0
    refused = mlcube("run", "--task=own,other", "--platform=local", "--dry-run")
    assert refused.code == 3 and "the task 'other' has none of its own" in refused.stderr
    assert "-Plocal.entrypoint=" in refused.stderr and "'own'" not in refused.stderr


@pytest.mark.parametrize("words", [
    ["--platform=singularity", "-Pdocker.image=org/img:1"], ["--platform=apptainer", "-Pdocker={image: 'org/img:1'}"]])
def test_a_docker_image_that_is_typed_makes_a_singularity_image_where_the_cube_has_no_docker_section(
        mlcube: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setenv("FAKE_IMAGE", "absent")
    write_tree(mlcube.root, {"mlcube.yaml": "tasks: {t: null}\n"})
    assert "docker://org/img:1" in mlcube.plan(*words).plan["steps"][0]["argv"]


# --- another workspace -------------------------------------------------------------------------------------------------

STAGED = """
    name: staged
    local: {}
    tasks:
      make:
        entrypoint: [sh, -c, 'echo made >"${1#--out=}/x"', sh]
        parameters: {outputs: {out: made/}}
      use:
        entrypoint: [sh, -c, 'for word; do cat "${word#*=}/x" 2>/dev/null || cat "${word#*=}"; done', sh]
        parameters:
          inputs: {data: data/, config: '${workspace}/configs/a.yaml', made: {type: directory, default: made}}
      read:
        entrypoint: [sh, -c, 'cat "${1#--config=}"', sh]
        parameters: {inputs: {config: configs/a.yaml}}
""".replace("${1#", "\\${1#").replace("${word#", "\\${word#")


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """A cube with inputs of its own: links, an empty directory, permissions."""
    root = write_tree(tmp_path / "cube", {
        "mlcube.yaml": STAGED, "workspace/data/x": "data\n", "workspace/configs/a.yaml": "config\n",
        "workspace/made/x": "of the cube's own workspace\n"})
    data = root / "workspace/data"
    (data / "empty").mkdir()
    (data / "link").symlink_to("x")
    (data / "closed").mkdir(mode=0o500)
    (data / "x").chmod(0o640)
    return root


def test_another_workspace_gets_the_inputs_that_it_lacks_once(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    words = ("run", "cube", "--task=make,use,read", "--workspace", "$PLACE/${name}")
    env = {"PLACE": str(tmp_path / "else where")}
    other = tmp_path / "else where/staged"
    shown = run_mlcube(*words, "--dry-run", env=env)
    assert shown.exit_code == 0 and not other.exists()
    assert shown.stdout.count("# copy input data from ") == shown.stdout.count("# copy input config from ") == 1
    assert "copy input made" not in shown.stdout
    done = run_mlcube(*words, env=env)
    assert (done.exit_code, done.stdout) == (0, "data\nconfig\nmade\nconfig\n"), done.stderr
    assert sorted(str(path.relative_to(other)) for path in other.glob("[a-z]*/*")) == [
        "configs/a.yaml", "data/closed", "data/empty", "data/link", "data/x", "made/x"]
    assert os.readlink(other / "data/link") == "x"
    assert [oct(os.stat(other / name).st_mode & 0o777) for name in ("data/closed", "data/x")] == ["0o500", "0o640"]
    assert sorted(path.name for path in other.iterdir()) == [".mlcube", "configs", "data", "made"]
    (other / "data/x").write_text("changed there\n")
    assert run_mlcube("run", "cube", "--task=use", "--workspace", str(other)).stdout.startswith("changed there\n")
    assert (staged / "workspace/data/x").read_text() == "data\n"


def test_the_printed_script_copies_too(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    odd = "-o'd\n\"`x` \udcff$NOT"
    words = ("run", "cube", "--task=read", "--workspace", odd.replace("$", "$$"))
    done = run_mlcube("-c", run_mlcube(*words, "--dry-run").stdout, command=("sh",))
    assert (done.exit_code, done.stdout) == (0, "config\n"), done.stderr
    assert [path.name for path in (tmp_path / odd / "configs").iterdir()] == ["a.yaml"]
    shutil.rmtree(tmp_path / odd)
    assert run_mlcube(*words).stdout == "config\n"


def test_what_a_task_makes_is_not_copied_but_asked_for(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    done = run_mlcube("run", "cube", "--task=use", "--workspace=other")
    assert done.exit_code == 3 and f"input 'made' is missing: there is no {tmp_path}/other/made" in done.stderr
    assert not (tmp_path / "other").exists()


def test_describe_says_what_a_run_would_copy(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    done = run_mlcube("describe", "cube", "--workspace=other")
    assert f"\n  data: {staged}/workspace/data -> {tmp_path}/other/data\n" in done.stdout
    document = json.loads(run_mlcube("describe", "cube", "--workspace=other", "--json").stdout)
    assert [copy["name"] for copy in document["copies"]] == ["data", "config"]
    assert "copies" not in json.loads(run_mlcube("describe", "cube", "--json").stdout)


def slow_copy(place: Path) -> dict[str, str]:
    """An environment whose `cp` writes the first bytes, says so, and takes its time."""
    real = subprocess.run(["sh", "-c", "command -v cp"], capture_output=True, text=True, check=True).stdout.strip()
    place.mkdir()
    script = place / "cp"
    script.write_text(f'#!/bin/sh\nfor last; do :; done\nmkdir "$last"; echo half >"$last/x"; echo >>{place}/started\n'
                      f'sleep ${{SLOW:-0.5}}\nrm -r "$last"; exec {real} "$@"\n')
    script.chmod(0o755)
    return {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def start(home: Path, cwd: Path, env: Mapping[str, str], *words: str) -> subprocess.Popen[bytes]:
    words = (sys.executable, "-m", "mlcube_cli", "run", "cube", "--task=make,use", "--workspace=other", *words)
    return subprocess.Popen(words, cwd=cwd, env={**clean_environment(home), **env}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def test_runs_that_start_together_copy_once(staged: Path, home: Path, tmp_path: Path) -> None:
    environment = slow_copy(tmp_path / "bin")
    runs = [start(home, tmp_path, environment, f"out=made-{number}", f"made=made-{number}") for number in range(3)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [(run.returncode, out) for run, (out, _) in zip(runs, said)] == [(0, b"data\nconfig\nmade\n")] * 3, said
    assert (tmp_path / "bin/started").read_text() == "\n" * 2, "one copy of each input"


@pytest.mark.parametrize(("number", "slow"), [(signal.SIGTERM, 30), (signal.SIGKILL, 2)])
def test_a_copy_that_is_ended_leaves_nothing_under_the_inputs_name(staged: Path, home: Path, tmp_path: Path, number: int,
                                                                   slow: int) -> None:
    other = tmp_path / "other"
    run = start(home, tmp_path, {**slow_copy(tmp_path / "bin"), "SLOW": str(slow)})
    wait_for(lambda: (tmp_path / "bin/started").exists())
    run.send_signal(number)
    assert run.wait(60) == -number and not (other / "data").exists()
    assert number == signal.SIGKILL or list(other.iterdir()) == [], "nothing is left of a copy that was told to end"
    again = start(home, tmp_path, {"PATH": os.environ["PATH"]})
    out, err = again.communicate(timeout=120)
    assert (again.returncode, out) == (0, b"data\nconfig\nmade\n"), err
    left = [".mlcube", "configs", "data", "made"]  # the killed run's own copy may go on for a while
    wait_for(lambda: sorted(path.name for path in other.iterdir()) == left)
    assert sorted(path.name for path in (other / "data").iterdir()) == ["closed", "empty", "link", "x"]
    assert (other / "data/x").read_text() == "data\n"


def test_what_a_killed_copy_left_is_cleared_away_by_the_next(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    owner = f".mlcube-copy.{os.uname().nodename}.{os.getuid()}"
    left = tmp_path / f"other/configs/{owner}.{dead.pid}/closed"
    write_tree(left, {"x": "half"})
    left.chmod(0o500)
    (tmp_path / f"other/configs/{owner}.{os.getpid()}").write_text("somebody's who is still at it")
    assert run_mlcube("run", "cube", "--task=read", "--workspace=other").stdout == "config\n"
    assert sorted(path.name for path in (tmp_path / "other/configs").iterdir()) == [f"{owner}.{os.getpid()}", "a.yaml"]


def test_a_copy_that_fails_says_what_to_do(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    failing = tmp_path / "bin/cp"
    failing.parent.mkdir()
    failing.write_text("#!/bin/sh\necho 'cp: no space left' >&2; exit 1\n")
    failing.chmod(0o755)
    done = run_mlcube("run", "cube", "--task=read", "--workspace=other",
                      env={"PATH": f"{failing.parent}{os.pathsep}{os.environ['PATH']}"})
    assert done.exit_code == 5 and "could not copy input config from the cube's own workspace" in done.stderr
    assert "cp: no space left" in done.stderr and "hint: free some space" in done.stderr
    assert list((tmp_path / "other/configs").iterdir()) == []


def test_a_strangers_link_is_named_before_it_is_copied(run_mlcube: RunMLCube, staged: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key\n")
    (staged / "workspace/configs/a.yaml").unlink()
    (staged / "workspace/configs/a.yaml").symlink_to(tmp_path / "secret")
    done = run_mlcube("run", "cube", "--task=read", "--workspace=other")
    assert f"a copy of input 'config' from outside the cube's workspace: {tmp_path}/secret" in done.stderr
    assert run_mlcube("run", "cube", "--task=read", "--workspace=third", "--untrusted").exit_code == 3


# --- on a real docker --------------------------------------------------------------------------------------------------


@pytest.mark.docker
def test_relative_entry_points_start_in_the_images_working_directory(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path / "c", {"mlcube.yaml": f"""
        docker: {{image: {TINY}, workdir: /bin}}
        tasks:
          near: {{entrypoint: "./sh -c 'echo \\"$@\\"' zero 'a  b'", parameters: {{inputs: {{x: {{type: int, default: 3}}}}}}}}
          above: {{entrypoint: ../bin/sh -c pwd}}
          one: {{entrypoint: ./pwd}}
        """})
    for task, said in (("near", "a  b --x=3\n"), ("above", "/bin\n"), ("one", "/bin\n")):
        done = run_mlcube("run", "c", "--task", task)
        assert (done.exit_code, done.stdout) == (0, said), done.stderr


@pytest.mark.docker
def test_the_command_line_of_other_programs_on_docker(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    script = """echo $X; ls /sys/class/net
                for w; do case $w in --k=*) cat "${w#*=}/x";; --o=*) echo done >"${w#*=}/y";; esac; done"""
    cube = {"name": "c", "docker": {"image": TINY}, "platform": {"accelerator_count": 1},
            "tasks": {"T": {"entrypoint": ["sh", "-c", script.replace("${", "\\${"), "sh"],
                            "parameters": {"inputs": {"k": "k/"}, "outputs": {"o": "o/"}}}}}
    write_tree(tmp_path / "a cube", {"some.yaml": json.dumps(cube), "workspace/own data/x": "input\n"})
    done = run_mlcube("--log-level", "error", "run", "--mlcube=a cube/some.yaml", "--task=T", "--platform=docker",
                      "--network=none", "--mount=ro", "k=own data", f"-Pdocker.cpu_args=-u {os.getuid()}:{os.getgid()}",
                      "-Pdocker.env_args=-e X=Y", "-Psingularity.run_args=-eC", "-Pplatform.accelerator_count=0",
                      "--workspace=other")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Y\nlo\ninput\n", ""), done
    assert (tmp_path / "other/o/y").read_text() == "done\n" and (tmp_path / "other/own data/x").read_text() == "input\n"
