"""`mlcube create`: what it writes is valid without a warning, whatever the name; nothing is overwritten or half made."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from mlcube_cli.cli.create import NewCube, cube_files, next_commands
from mlcube_cli.cli.new_directory import make_directory
from tests.conftest import RunMLCube
from tests.cubes import options, read

DIALECTS = ("inline", "directory", "mlbox")
PLATFORMS = ("local", "docker", "podman", "singularity", "apptainer")


def written(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# --- what it writes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_new_cube_is_valid_without_a_warning(tmp_path: Path, dialect: str, platform: str) -> None:
    cube = NewCube(str(tmp_path), "new", "new", dialect, (platform,), "python:3-slim")
    for name, text in cube_files(cube).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    reading = read(tmp_path)
    assert reading.problems == ()
    assert reading.cube is not None
    assert (reading.cube.dialect, reading.cube.name) == (dialect, "new")
    assert [task.name for task in reading.cube.tasks] == ["prepare", "train"]
    (made,) = reading.cube.platforms
    assert made.runner == {"podman": "docker", "apptainer": "singularity"}.get(platform, platform)
    if made.runner == "docker":
        assert made.option("image") == "mlcube/new:0.1.0" and made.option("build_strategy") == "build"
        assert made.option("docker") == ("podman" if platform == "podman" else None)
        build_file = tmp_path / str(made.option("build_context")) / str(made.option("build_file"))
        copied = build_file.read_text().split("COPY ")[1].split()[0]
        assert (tmp_path / str(made.option("build_context")) / copied).is_file()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_recipe_of_singularity_copies_the_program_from_where_it_is_built(tmp_path: Path, dialect: str) -> None:
    files = cube_files(NewCube("/c", "c", "c", dialect, ("singularity",), "python:3-slim"))
    (recipe,) = (text for name, text in files.items() if name.endswith("Singularity.recipe"))
    program = recipe.split("%files\n")[1].split()[0]
    assert ("build/" if dialect == "directory" else "") + program in files


@pytest.mark.parametrize(("image", "bootstrap", "source"), [
    ("python:3.12", "docker", "python:3.12"),
    ("docker://python:3.12", "docker", "python:3.12"),
    ("docker-daemon:mine:1", "docker-daemon", "mine:1"),
    ("docker-archive:/data/mine.tar", "docker-archive", "/data/mine.tar"),
    ("/data/base.sif", "localimage", "/data/base.sif"),
])
def test_a_recipe_starts_from_the_image_in_every_spelling(image: str, bootstrap: str, source: str) -> None:
    recipe = cube_files(NewCube("/c", "c", "c", "inline", ("singularity",), image))["Singularity.recipe"]
    assert f"\nBootstrap: {bootstrap}\nFrom: {source}\n" in recipe


@pytest.mark.parametrize(("name", "slug"), [
    ("Mine", "mine"), ("My Cube (v2)", "my-cube-v2"), ("Größe_é", "grosse-e"), ("数字", "cube"), ("a..b--c__d", "a-b-c-d"),
    ("-x-", "x"), ("A" * 200, "a" * 60), ("9", "9"), ("1.10", "1-10"), ("true", "true"),
    ("don't", "don-t"), ("a: b #c", "a-b-c"),
])
def test_odd_names_are_the_cubes_name_and_give_a_valid_image_name(tmp_path: Path, name: str, slug: str) -> None:
    for dialect in DIALECTS:
        cube = NewCube(str(tmp_path), name, name, dialect, ("docker",), "python:3-slim")
        assert cube.slug == slug
        for path, text in cube_files(cube).items():
            (tmp_path / dialect / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / dialect / path).write_text(text)
        reading = read(tmp_path / dialect)
        assert reading.cube is not None and reading.cube.name == name and reading.problems == ()
        assert options(reading, "docker")["image"] == f"mlcube/{slug}:0.1.0"


def test_the_commands_to_type_next_quote_what_a_shell_would_take_apart() -> None:
    cube = NewCube("/a b", "a b", "a b", "inline", ("local", "docker"), "i")
    assert next_commands(cube, "a b") == (
        "mlcube validate 'a b'", "mlcube run 'a b' --platform local --task prepare,train",
        "mlcube run 'a b' --platform docker --task prepare,train", "cat 'a b/workspace/report.txt'")
    assert next_commands(cube, "-x")[0] == "mlcube validate ./-x"


def test_the_program_runs_on_every_python_that_somebody_has(tmp_path: Path) -> None:
    """It uses nothing newer than Python 3.6 and nothing but the standard library."""
    import ast

    for dialect in DIALECTS:
        files = cube_files(NewCube("/c", "c", "c", dialect, ("local",), "i"))
        (program,) = (text for name, text in files.items() if name.endswith("main.py"))
        parsed = ast.parse(program, feature_version=(3, 6))
        imported = {alias.name for node in ast.walk(parsed) if isinstance(node, ast.Import) for alias in node.names}
        assert imported <= set(sys.stdlib_module_names if sys.version_info >= (3, 10) else imported)
        assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(parsed))


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_commands_that_create_prints_work_as_printed(run_mlcube: RunMLCube, tmp_path: Path, dialect: str) -> None:
    done = run_mlcube("create", "My Cube", "--dialect", dialect, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["schema"] == "mlcube.create.v1" and document["dialect"] == dialect
    assert document["root"] == str(tmp_path / "My Cube") and sorted(document["files"]) == written(tmp_path / "My Cube")
    readme = (tmp_path / "My Cube/README.md").read_text()
    for line in document["next"]:
        assert line in readme
        shell = f'mlcube() {{ "{sys.executable}" -m mlcube_cli "$@"; }}\n{line}'
        last = run_mlcube("-c", shell, command=("sh",))
        assert last.exit_code == 0, last.stderr
    assert last.stdout == "y = 3.00 x + 1.99, found in 200 points\n"
    assert run_mlcube("validate", "--strict", "My Cube").exit_code == 0


def test_the_text_names_the_files_and_the_next_commands(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    done = run_mlcube("create", "sub/mine/", cwd=tmp_path)
    assert done.exit_code == 2 and "there is no directory sub" in done.stderr and "mkdir -p sub" in done.stderr
    (tmp_path / "sub").mkdir()
    done = run_mlcube("create", "sub/mine/")
    assert done.stdout.splitlines() == [
        "sub/mine/mlcube.yaml", "sub/mine/main.py", "sub/mine/workspace/parameters.json", "sub/mine/README.md",
        "sub/mine/.gitignore", "", "next", "  mlcube validate sub/mine/", "  mlcube run sub/mine/ --task prepare,train",
        "  cat sub/mine/workspace/report.txt"]


def test_the_current_directory_can_become_a_cube(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    here = tmp_path / "mine"
    here.mkdir()
    identity = here.stat().st_ino
    assert run_mlcube("create", ".", cwd=here).exit_code == 0
    assert here.stat().st_ino == identity, "a shell that stands in it stands in the cube"
    assert yaml.safe_load((here / "mlcube.yaml").read_text())["name"] == "mine"
    assert run_mlcube("run", "--task", "prepare,train", cwd=here).exit_code == 0


def test_modes_follow_the_umask(tmp_path: Path, run_mlcube: RunMLCube) -> None:
    shell = f'umask 027; exec "{sys.executable}" -m mlcube_cli create mine'
    assert run_mlcube("-c", shell, command=("sh",)).exit_code == 0
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "mine/main.py").stat().st_mode) == 0o640


@pytest.mark.parametrize(("words", "message"), [
    ((), "what is the new cube's name?"),
    (("a", "b"), "'b' is one word too many"),
    (("there",), "there is there already and is not empty"),
    (("file",), "file is there already and is not a directory"),
    (("dangling",), "dangling is there already and is not a directory"),
    (("/",), "the root of the file system"),
    (("a\nb",), "holds a character that is no text"),
    (("a\udc80b",), "holds a character that is no text"),
    ((" ",), "cannot be a cube's name"),
    (("new", "--platform", "dokcer"), "did you mean 'docker'?"),
    (("new", "--platform", ","), "--platform names none"),
    (("new", "--platform", "docker,podman"), "share one section"),
    (("new", "--dialect", "mlbox", "--platform", "local,docker"), "an MLBox has one implementation"),
    (("new", "--dialect", "old"), "inline"),
    (("new", "--image", "a"), "the local platform has none"),
    (("file/new",), "file is no directory"),
    (("a b/new",), "mkdir -p 'a b' first"),
    (("new", "--platform", "docker", "--image", "a b"), "an image's name holds no spaces"),
    (("new", "--platform", "docker", "--image", "MyImage"), "did you mean 'myimage'?"),
    (("new", "--platform", "docker", "--image=-x"), "'-x' cannot be an image's name"),
    (("new", "--platform", "singularity", "--image", "a\nb.sif"), "cannot stand on one line"),
    (("new", "--platform", "apptainer", "--image", "base.sif"), "there is no /"),
    (("new", "--platform", "apptainer", "--image", "docker-archive:x.tar"), "/x.tar"),
    (("new", "--platform", "docker", "--image", "base.sif"), "docker cannot start from 'base.sif'"),
])
def test_a_bad_command_line_creates_nothing(run_mlcube: RunMLCube, tmp_path: Path, words: tuple[str, ...],
                                                 message: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run_mlcube("create", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert written(tmp_path / "there") == ["a"]


def test_a_place_where_nothing_can_be_written_is_exit_5(run_mlcube: RunMLCube) -> None:
    done = run_mlcube("create", "/proc/mine")
    assert done.exit_code == 5 and "/proc/mine cannot be written" in done.stderr and "hint:" in done.stderr


def test_several_creates_of_one_name_leave_one_whole_cube(tmp_path: Path, home: Path) -> None:
    from tests.conftest import clean_environment

    started = [subprocess.Popen([sys.executable, "-m", "mlcube_cli", "create", "mine"], cwd=tmp_path,
                                env=clean_environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(4)]
    codes = [(child.communicate(timeout=60), child.returncode)[1] for child in started]
    assert sorted(codes) == [0, 2, 2, 2]
    assert len(written(tmp_path / "mine")) == 5
    assert not list(tmp_path.glob(".mlcube-new*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_signal_leaves_nothing_half_made(tmp_path: Path, number: int, there: bool) -> None:
    """The two signals come while files are being written: the second one does not stop the cleaning."""
    place = tmp_path / "new"
    if there:
        place.mkdir()
    script = ("import os, sys, time; from mlcube_cli.cli.new_directory import make_directory, write_file\n"
              "def fill(where):\n write_file(where, 'a', 'x'); print('ready', flush=True); time.sleep(60)\n"
              "make_directory(sys.argv[1], 'new', fill)")
    child = subprocess.Popen([sys.executable, "-c", script, str(place)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(number)
    child.send_signal(number)
    child.stdout.close()
    assert child.wait(timeout=30) == -number
    assert list(tmp_path.rglob("*")) == ([place] if there else [])


def test_an_empty_directory_takes_in_everything(tmp_path: Path) -> None:
    def fill(where: str) -> None:
        for number in range(10_050):
            (Path(where) / str(number)).touch()

    (tmp_path / "new").mkdir()
    make_directory(str(tmp_path / "new"), "new", fill)
    assert len(list((tmp_path / "new").iterdir())) == 10_050


def test_help_has_examples(run_mlcube: RunMLCube) -> None:
    done = run_mlcube("create", "--help")
    assert done.exit_code == 0 and done.stdout.count("mlcube create ") >= 2


def test_the_documents_are_as_their_schemas_say(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    from mlcube_cli.definition.bundled import schema_text

    def check(name: str, *words: str) -> Mapping[str, object]:
        document: Mapping[str, object] = json.loads(run_mlcube(*words, "--json").stdout)
        Draft202012Validator(json.loads(schema_text(name))).validate(document)
        return document

    check("mlcube.create.v1", "create", "mine", "--platform", "local,docker")
    check("mlcube.migrate.v1", "migrate", "mine", "--to", "directory")
    refused = json.loads(run_mlcube("create", "mine", "--json").stdout)
    assert refused["schema"] == "mlcube.validate.v1" and not refused["valid"]
