"""`mlcube config` and platforms of the settings, through the whole program."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mlcube_cli.cli import main
from mlcube_cli.definition.bundled import schema_text
from tests.conftest import TINY_IMAGE, Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree

CUBE = """
    name: c
    docker: {image: some/image:1}
    local: {entrypoint: main.py}
    tasks:
      t: {entrypoint: echo hello, parameters: {outputs: {o: o/}}}
    """
SHOWN = "home/.config/mlcube/settings.yaml"  # the user's file, as seen from the tests' directory


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE, "main.py": ""})


@pytest.fixture
def file(home: Path) -> Path:
    """The user's settings file, not there yet."""
    return home / ".config/mlcube/settings.yaml"


@pytest.fixture
def run_here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
             capsysbinary: pytest.CaptureFixture[bytes]) -> RunMLCube:
    """As run_mlcube, but inside of this process: for many small cases."""
    def run(*words: str, env: Mapping[str, str] | None = None, **_: object) -> Outcome:
        for name in ("MLCUBE_SYSTEM_SETTINGS", "MLCUBE_SITE_SETTINGS", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {**clean_environment(home), **(env or {})}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        code = main(words)
        seen = capsysbinary.readouterr()
        return Outcome(code, seen.out.decode(), seen.err.decode())

    return run


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def document(outcome: Outcome) -> dict[str, object]:
    found = json.loads(outcome.stdout)
    Draft202012Validator(json.loads(schema_text("mlcube.config.v1"))).validate(found)
    assert isinstance(found, dict)
    return found


# --- making and using a platform ---------------------------------------------------------------------------------------


def test_from_nothing_to_a_run_on_a_platform_of_ones_own(run_mlcube: RunMLCube, cube: Path, file: Path) -> None:
    for words in (("--create-platform", "docker", "gpu-box"), ("--set", "platforms.gpu-box.shm_size=1g"),
                  ("--set=platforms.gpu-box.cpuset_cpus=0-1", "--set=platforms.gpu-box.env.TOKEN=mine")):
        done = run_mlcube("config", *words)
        assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert f"set platforms.gpu-box.env.TOKEN in {SHOWN}:7:14" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert names(file.parent) == ["settings.yaml"]
    plan = run_mlcube("run", str(cube), "--platform=gpu-box", "--gpus=none", "--memory=2g", "--dry-run")
    assert plan.exit_code == 0, plan.stderr
    for words in ("platform gpu-box", "--shm-size 1g", "--cpuset-cpus 0-1", "--memory 2g", "NVIDIA_VISIBLE_DEVICES=void",
                  "--env TOKEN ", "some/image:1"):
        assert words in plan.stdout
    assert "mine" not in plan.stdout
    assert "asks for more" not in plan.stderr
    lone = run_mlcube("run", str(cube), "--platform=gpu-box", "--cpu=3", "--dry-run")
    assert "--cpuset-cpus 3" in lone.stdout


@pytest.mark.parametrize(("runner", "flag", "option"), [
    ("docker", "--cpu=3", "--cpuset-cpus"), ("podman", "--network=none", "--network none")])
def test_flags_act_by_the_platforms_runner(run_mlcube: RunMLCube, cube: Path, runner: str, flag: str, option: str) -> None:
    assert run_mlcube("config", "--create-platform", runner, "elsewhere").exit_code == 0
    plan = run_mlcube("run", str(cube), "--platform=elsewhere", flag, "--dry-run")
    assert option in plan.stdout, plan.stderr
    assert f"{runner} run " in plan.stdout


def test_what_looks_at_a_cube_by_itself_does_not_see_the_settings(run_mlcube: RunMLCube, cube: Path, file: Path) -> None:
    write_tree(file.parent, {file.name: "platforms: {docker: {runner: docker, memory: 1g}, x: {runner: nonsense}}\n"})
    for verb in ("describe", "validate"):
        done = run_mlcube(verb, str(cube), "--json")
        assert (done.exit_code, done.stderr) == (0, "")
        assert "nonsense" not in done.stdout
    shown = run_mlcube("show-config", str(cube), "--platform=docker")
    assert f"memory: \"1g\"{' ' * 48}# {SHOWN}:1:46" in shown.stdout
    assert "there is no runner 'nonsense'" in shown.stderr
    origins = json.loads(run_mlcube("show-config", str(cube), "--platform=docker", "--resolve", "--json").stdout)["origins"]
    assert origins["docker.memory"] == f"{SHOWN}:1:46"


def test_settings_with_errors_stop_what_uses_them(run_mlcube: RunMLCube, cube: Path, file: Path) -> None:
    write_tree(file.parent, {file.name: "platforms: [\n"})
    for words in (("run", str(cube), "--platform=docker", "--dry-run"), ("show-config", str(cube)), ("config", "--list"),
                  ("config", "--get", "platforms"), ("config", "--create-platform", "docker", "x")):
        done = run_mlcube(*words)
        assert (done.exit_code, done.stdout) == (3, ""), words
        assert f"{SHOWN}:2:1" in done.stderr
    assert file.read_text() == "platforms: [\n"


@pytest.mark.docker
def test_a_real_run_on_a_platform_of_the_settings(run_mlcube: RunMLCube, cube: Path, home: Path) -> None:
    (home / "mlcube.yaml").write_text(
        f"platforms:\n  mine: {{runner: docker, image: '{TINY_IMAGE}', env: {{TOKEN: secret, SITE: '${{oc.env:SITE}}'}}}}\n")
    write_tree(cube, {"mlcube.yaml": "name: c\ntasks: {t: {entrypoint: \"sh -c 'echo $TOKEN $SITE'\"}}\n"})
    done = run_mlcube("run", str(cube), "--platform=mine", env={"SITE": "there"})
    assert (done.exit_code, done.stdout) == (0, "secret there\n"), done.stderr
    (record,) = (cube / "workspace/.mlcube/runs").glob("*/record.json")
    assert "secret" not in record.read_text()


# --- looking -----------------------------------------------------------------------------------------------------------

SITE = "platforms:\n  big: {runner: docker, memory: 1g, env: {A: site}}\n  far: {runner: ssh, host: h}\n"
USER = "platforms:\n  big:\n    runner: docker\n    memory: 2g  # mine\n    version: 1.10\n  'odd.name': {runner: local}\n"


@pytest.fixture
def both(home: Path, file: Path) -> dict[str, str]:
    """A site's and a user's file."""
    write_tree(file.parent, {file.name: USER})
    (home / "site.yaml").write_text(SITE)
    return {"MLCUBE_SITE_SETTINGS": str(home / "site.yaml")}


def test_list_shows_both_files_as_one(run_mlcube: RunMLCube, both: dict[str, str], home: Path, file: Path) -> None:
    listed = run_mlcube("config", "--list", env=both)
    assert listed.exit_code == 0
    assert listed.stdout == (
        'platforms:\n  big:\n    runner: docker\n    memory: "2g"\n    env:\n      A: site\n    version: 1.10\n'
        "  far:\n    runner: ssh\n    host: h\n  odd.name:\n    runner: local\n")
    assert "'version' is not a key that the docker section knows" in listed.stderr
    assert run_mlcube("config", env=both).stdout == listed.stdout
    origin = run_mlcube("config", "--list", "--show-origin", env=both).stdout
    assert f"# {SHOWN}:4:13" in origin
    assert "# home/site.yaml:2:46" in origin
    found = document(run_mlcube("config", "--list", "--json", env=both))
    assert [entry["scope"] for entry in found["files"]] == ["site", "user"]  # type: ignore[attr-defined]
    assert found["file"] == str(file)
    assert 'memory: "1g"' in run_mlcube("config", "--list", "--site", env=both).stdout
    assert run_mlcube("config", "--list").stdout.count("far") == 0


@pytest.mark.parametrize(("key", "shown"), [
    ("platforms.big.memory", "2g\n"), ("platforms.big.version", "1.10\n"), ("platforms.big.env", "A: site\n"),
    ("platforms.odd.name.runner", "local\n"), (r"platforms.odd\.name.runner", "local\n")])
def test_get(run_here: RunMLCube, both: dict[str, str], key: str, shown: str) -> None:
    done = run_here("config", "--get", key, env=both)
    assert (done.exit_code, done.stdout, done.stderr) == (0, shown, "")
    assert document(run_here("config", f"--get={key}", "--json", env=both))["key"] == key


@pytest.mark.parametrize(("key", "message", "hint"), [
    ("platform.big", "the settings have no 'platform'", "did you mean 'platforms'?"),
    ("platforms.bgi.memory", "'platforms' has no 'bgi'", "did you mean 'big'?"),
    ("platforms.big.memroy", "'platforms.big' has no 'memroy'", "did you mean 'memory'?"),
    ("platforms.big.memory.x", "'platforms.big.memory' has no 'x'", "mlcube config --list shows all of them"),
    ("platforms..x", "'platforms..x' names no key", "write NAME.NAME")])
def test_get_of_what_is_not_there(run_here: RunMLCube, both: dict[str, str], key: str, message: str, hint: str) -> None:
    done = run_here("config", "--get", key, env=both)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"error: {message}\n" in done.stderr
    assert f"hint: {hint}" in done.stderr


# --- changing ----------------------------------------------------------------------------------------------------------


def test_every_change_does_what_it_says(run_mlcube: RunMLCube, file: Path) -> None:
    write_tree(file.parent, {file.name: "# mine\nrunners:\n  d: {pkg: mlcube_docker}  # renamed\nplatforms:\n"
                                        "  a:  # first\n    runner: d\n    memory: 1g\n  b: {runner: local}\n"})
    old, second, third = file.read_text(), "  b: {runner: local}\n", "  c:  # first\n    runner: d\n    memory: 1g\n"
    copied = old.replace(second, third.replace("c:", "b:"))
    steps = [
        (("--copy-platform", "a", "c"), old + third),
        (("--remove_platform", "b"), old.replace(second, third)),
        (("--rename_platform", "c", "b"), copied),
        (("--rename-runner", "d", "e", "--update-platforms"), copied.replace("runner: d", "runner: e").replace("d: {", "e: {")),
        (("--unset", "platforms.a.memory"), copied.replace("runner: d", "runner: e").replace("d: {", "e: {")
         .replace("    memory: 1g\n", "", 1)),
        (("--remove-runner", "e", "--remove-platforms"), "# mine\nrunners:\nplatforms:\n"),
        (("--copy-platform", "podman", "p"), "# mine\nrunners:\nplatforms:\n  p:\n    runner: docker\n    docker: podman\n")]
    for words, expected in steps:
        done = run_mlcube("config", *words)
        assert (done.exit_code, done.stdout) == (0, ""), done.stderr
        assert SHOWN in done.stderr
        assert file.read_text() == expected, words


def test_a_change_as_json(run_mlcube: RunMLCube, file: Path) -> None:
    found = document(run_mlcube("config", "--create-platform", "apptainer", "hpc", "--json"))
    assert found["action"] == "create_platform"
    assert found["config"] == {"platforms": {"hpc": {"runner": "singularity", "singularity": "apptainer"}}}
    assert found["changes"] == [f"made platform 'hpc' in {SHOWN}:2:3"]


def test_a_machine_is_called_as_ssh_calls_it(run_mlcube: RunMLCube, file: Path) -> None:
    assert run_mlcube("config", "--create-platform", "ssh", "gpu-box").exit_code == 0
    assert file.read_text() == "platforms:\n  gpu-box:\n    runner: ssh\n    host: gpu-box\n"


KNOWN = "runners: {mine: {pkg: mlcube_docker}}\nplatforms:\n  a: {runner: mine, --network: host}\n  gpu: {runner: docker}\n"


@pytest.mark.parametrize(("words", "message", "hint"), [
    (("--set", "platforms.gpu.imgae=x"), "'imgae' is not a key", "did you mean 'image'?"),
    (("--set", "platforms.gpu.ports={}"), "'ports' must be", "for example"),
    (("--set", "platforms.gpu.runner=dokcer"), "there is no runner 'dokcer'", "did you mean 'docker'?"),
    (("--set", "platforms.new.memory=1g"), "the platform 'new' does not say its runner", "add a line such as"),
    (("--set", "platfroms.x.runner=docker"), "'platfroms' is not a key", "did you mean 'platforms'?"),
    (("--set", "platforms.gpu.runner.x=1"), "'platforms.gpu.runner' is a single value", "--set platforms.gpu.runner=VALUE"),
    (("--set", "platforms.gpu.env={"), "--set platforms.gpu.env={", "{"), (("--set", "x"), "there is no '='", "--set x=VALUE"),
    (("--unset", "platforms.gpu.x"), "there is no 'platforms.gpu.x'", "there are: runner"),
    (("--create-platform", "dokcer", "x"), "there is no runner 'dokcer'", "did you mean 'docker'?"),
    (("--create-platform", "docker", "gpu"), "there is a platform 'gpu' already", "mlcube config --remove-platform gpu"),
    (("--create-platform", "docker", "x/y.yaml"), "'x/y.yaml' cannot be a platform's name", "letters, digits"),
    (("--create-platform", "docker"), "expected 2 arguments", "mlcube config --help"),
    (("--remove-platform", "gup"), "there is no platform 'gup'", "did you mean 'gpu'?"),
    (("--rename-platform", "gup", "x"), "there is no platform 'gup'", "did you mean 'gpu'?"),
    (("--rename-platform", "a", "gpu"), "there is a platform 'gpu' already", "choose another name"),
    (("--copy-platform", "gup", "x"), "there is no platform 'gup'", "did you mean 'gpu'?"),
    (("--copy-platform", "a", "gpu"), "there is a platform 'gpu' already", "choose another name"),
    (("--rename-runner", "mine", "other"), "there is no runner 'mine'", "--update-platforms renames it"),
    (("--rename-runner", "docker", "other"), "there is no runner 'docker'", "mine"),
    (("--remove-runner", "mine"), "there is no runner 'mine'", "--remove-platforms removes"),
    (("--list", "--unset", "x"), "one thing at a time: --list and --unset", "one after the other"),
    (("--list", "--update-platforms"), "--update-platforms belongs to --rename-runner", ""),
    (("list",), "'list' is one word too many", "mlcube config --help"), (("--lst",), "'--lst' is not an option", "'--list'"),
    (("--get=",), "--get has an empty value", "")])
def test_what_cannot_be_done_is_said_and_nothing_is_written(run_here: RunMLCube, file: Path, words: tuple[str, ...],
                                                            message: str, hint: str) -> None:
    write_tree(file.parent, {file.name: KNOWN})
    done = run_here("config", *words)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
    assert hint in done.stderr
    assert file.read_text() == KNOWN


def test_an_option_keeps_the_spelling_that_the_file_has(run_mlcube: RunMLCube, file: Path) -> None:
    write_tree(file.parent, {file.name: KNOWN})
    assert run_mlcube("config", "--set", "platforms.a.network=none").exit_code == 0
    assert file.read_text() == KNOWN.replace("--network: host", "--network: none")
    assert run_mlcube("config", "--unset", "platforms.a.network").exit_code == 0
    assert file.read_text() == KNOWN.replace(", --network: host", "")


def test_a_file_with_old_faults_can_be_mended_and_unknown_keys_stay(run_mlcube: RunMLCube, file: Path) -> None:
    write_tree(file.parent, {file.name: "own: {x: 1}\nplatforms:\n  a: {runner: dokcer}\n  b: {runner: docker, oops: 1}\n"})
    listed = run_mlcube("config", "--list")
    assert listed.exit_code == 3
    assert "oops: 1" in listed.stdout
    assert run_mlcube("config", "--set", "platforms.a.runner=docker").exit_code == 0
    assert file.read_text() == "own: {x: 1}\nplatforms:\n  a: {runner: docker}\n  b: {runner: docker, oops: 1}\n"
    assert run_mlcube("config", "--list").exit_code == 0


def test_the_sites_file_is_written_only_when_asked_for(run_mlcube: RunMLCube, both: dict[str, str], home: Path,
                                                       file: Path) -> None:
    absent = run_mlcube("config", "--remove-platform", "far", env=both)
    assert absent.exit_code == 2
    assert "it is in the site's file, home/site.yaml; --site changes that one" in absent.stderr
    assert run_mlcube("config", "--remove-platform", "far", "--site", env=both).exit_code == 0
    assert (home / "site.yaml").read_text() == SITE.replace("  far: {runner: ssh, host: h}\n", "")
    assert file.read_text() == USER
    copied = run_mlcube("config", "--copy-platform", "big", "huge", "--site", env=both)
    assert copied.exit_code == 0
    assert run_mlcube("config", "--copy-platform", "huge", "mine", env=both).exit_code == 0
    assert "  mine:\n    runner: docker\n    memory: 1g\n    env:\n      A: site\n" in file.read_text().replace('"', "")


def test_a_new_site_file_is_there_for_everybody(run_mlcube: RunMLCube, home: Path) -> None:
    there = home / "etc/mlcube/settings.yaml"
    made = run_mlcube("config", "--site", "--create-platform", "docker", "big", env={"MLCUBE_SITE_SETTINGS": str(there)})
    assert made.exit_code == 0, made.stderr
    assert stat.S_IMODE(there.stat().st_mode) == 0o644
    assert [stat.S_IMODE(path.stat().st_mode) for path in (there.parent, there.parent.parent)] == [0o755, 0o755]


def test_a_link_and_the_files_mode_are_kept(run_mlcube: RunMLCube, home: Path, file: Path) -> None:
    real = home / "dotfiles/mlcube.yaml"
    write_tree(real.parent, {real.name: "platforms: {a: {runner: docker}}\n"})
    real.chmod(0o640)
    file.parent.mkdir(parents=True)
    file.symlink_to("../../dotfiles/mlcube.yaml")
    assert run_mlcube("config", "--create-platform", "local", "b").exit_code == 0
    assert file.is_symlink()
    assert real.read_text() == "platforms: {a: {runner: docker}, b: {runner: local}}\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert names(real.parent) == ["mlcube.yaml"]
    (home / "dotfiles/mlcube.yaml").unlink()  # now the link leads nowhere: a file to be made
    assert run_mlcube("config", "--create-platform", "local", "b").exit_code == 0
    assert "runner: local" in real.read_text()


def test_a_file_that_cannot_be_written_is_left_as_it_is(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run_mlcube("config", "--create-platform", "docker", "x", env={"MLCUBE_SYSTEM_SETTINGS": str(blocked / "s.yaml")})
    assert done.exit_code == 4
    assert "cannot be written" in done.stderr
    done = run_mlcube("config", "--create-platform", "docker", "x", env={"MLCUBE_SYSTEM_SETTINGS": "/dev/null"})
    assert done.exit_code == 3
    assert "not a file" in done.stderr
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_writers_that_come_together_all_have_their_say(home: Path, tmp_path: Path, file: Path) -> None:
    wanted = [f"p{number}" for number in range(6)]
    writers = [subprocess.Popen([sys.executable, "-m", "mlcube_cli", "config", "--create-platform", "docker", name],
                                cwd=tmp_path, env=clean_environment(home), stderr=subprocess.DEVNULL) for name in wanted]
    assert [writer.wait(60) for writer in writers] == [0] * len(wanted)
    for name in wanted:
        assert f"  {name}:\n    runner: docker\n" in file.read_text()
    assert names(file.parent) == ["settings.yaml"]


def test_without_a_cache_nothing_is_left_beside_the_file(run_mlcube: RunMLCube, home: Path, file: Path) -> None:
    (home / "cache").mkdir(mode=0o777)
    (home / "cache").chmod(0o777)
    assert run_mlcube("config", "--create-platform", "docker", "x", env={"MLCUBE_HOME": str(home / "cache")}).exit_code == 0
    assert names(file.parent) == ["settings.yaml"]


def test_nothing_is_written_by_anything_else(run_mlcube: RunMLCube, cube: Path, home: Path, file: Path) -> None:
    for words in (("show-config", str(cube)), ("run", str(cube), "--platform=podman", "--dry-run"), ("config", "--list"),
                  ("describe", str(cube))):
        assert run_mlcube(*words).exit_code == 0
    assert not file.parent.exists()
    assert not (home / "mlcube.yaml").exists()
