"""`mlcube run` on a machine behind ssh, as its user sees it: what travels, what runs, what comes home, what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.integration.far import COPY, Far, make_far, until
from tests.integration.gpu_box import SHELLS, Box, own_box

pytestmark = pytest.mark.ssh


@pytest.mark.parametrize("inside", ["local", "docker", "singularity"])
def test_an_input_travels_the_task_runs_there_and_its_output_comes_home(far: Far, inside: str) -> None:
    far.options = (f"-Pssh.platform={inside}",)
    far.script('uname -n; cp -R "$data/." "$result/"; echo problem >&2\n')
    done = far.run()
    assert done.stdout.splitlines()[-1] == ("gpu-box" if inside != "docker" else done.stdout.split()[-1])
    assert "problem" in done.stderr
    assert (far.result / "one").read_text() == "first\n"
    record = far.record()
    assert (record["status"], record["exit_code"], record["task"]) == ("succeeded", 0, "work")


def test_of_the_workspace_only_inputs_travel_and_of_the_cube_only_what_it_is_made_of(far: Far) -> None:
    for name in ("workspace/other/big", "workspace/result/old", ".git/config", "build/Dockerfile", "notes.txt", "image.sif"):
        path = far.cube / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    far.run()
    there = far.there()
    assert {"workspace/data/one", "workspace/script.sh", "workspace/result/one", "code/mlcube.yaml", "code/build/Dockerfile",
            "code/notes.txt"} <= there
    assert not [name for name in there if name.startswith(("workspace/other", "code/.git", "code/workspace"))
                or name.endswith((".sif", "old"))]


def test_what_is_deleted_here_is_deleted_from_the_code_there_and_nothing_else_is(far: Far) -> None:
    (far.cube / "gone.py").write_text("")
    far.run()
    kept = [f"{far.root}/workspace/data/of-the-machine", f"{far.far_home}/mine", f"{far.root}/workspace/result/one"]
    for path in kept[:2]:
        far.box.write(path, b"kept", owner=far.user)
    (far.cube / "gone.py").unlink()
    far.script(COPY + 'ls "$data" >"$result/list"\n')
    far.run()
    assert "code/gone.py" not in far.there()
    assert all(far.box.exists(path) for path in kept)


def test_only_one_login_a_command_and_none_while_the_connection_is_kept(far: Far) -> None:
    far.run()
    assert far.box.logins(far.user) == 1
    far.run()
    assert far.box.logins(far.user) == 1


@pytest.mark.parametrize("shell", SHELLS[1:])
def test_every_login_shell_will_do(gpu_box: Box, run_mlcube: RunMLCube, tmp_path: Path, shell: str) -> None:
    user = gpu_box.new_user(f"x{os.getpid()}-{shell}", shell)
    try:
        far = make_far(gpu_box, user, run_mlcube, tmp_path)
        (far.workspace / "data/it's $(HOME) \"x\"").write_text("odd")
        far.run()
        assert (far.result / "it's $(HOME) \"x\"").read_text() == "odd"
    finally:
        gpu_box.remove_user(user)


def test_login_scripts_that_print_are_explained_where_they_break_rsync(gpu_box: Box, run_mlcube: RunMLCube,
                                                                      tmp_path: Path) -> None:
    far = make_far(gpu_box, "noisy", run_mlcube, tmp_path)
    done = far("run", "--task", "work")
    assert done.exit_code != 0
    assert "prints" in done.stderr and "noisy" in done.stderr
    assert not list(far.workspace.glob("result/*"))


def test_a_failing_task_gives_its_exit_code_and_what_it_has_written(far: Far) -> None:
    far.script('echo half >"$result/checkpoint"; exit 9\n')
    done = far.run(code=9)
    assert (far.result / "checkpoint").read_text() == "half\n"
    assert "failed with exit code 9" in done.stderr
    assert far.record()["status"] == "failed"


@pytest.mark.parametrize("inside", ["local", "docker"])
def test_a_time_limit_ends_the_task_there(far: Far, inside: str) -> None:
    far.options = (f"-Pssh.platform={inside}",)
    far.script('echo half >"$result/checkpoint"; sleep 612; echo late >"$result/late"\n')
    far.run("--timeout", "2", code=124)
    assert {path.name for path in far.result.iterdir()} == {"checkpoint"}
    until(lambda: not far.box.processes("sleep 612", far.user), what="the end of the task")


@pytest.mark.parametrize("inside", ["local", "docker", "singularity"])
def test_ctrl_c_ends_the_task_there_and_fetches_what_is_there(far: Far, inside: str) -> None:
    far.options = (f"-Pssh.platform={inside}",)
    far.script('echo half >"$result/checkpoint"; sleep 613; echo late >"$result/late"\n')
    with far.started("--task", "work") as started:
        until(lambda: bool(far.box.processes("sleep 613", far.user)), 60, "the task")
        started.interrupt()
        done = started.end()
    assert done.exit_code in (130, -signal.SIGINT), done.stderr
    assert {path.name for path in far.result.iterdir()} == {"checkpoint"}
    until(lambda: not far.box.processes("sleep 613", far.user), what="the end of the task")
    assert far.record()["status"] == "cancelled"


def test_when_nobody_reads_what_it_prints_the_task_there_is_ended_and_its_outputs_come_home(far: Far) -> None:
    far.script('trap \'echo 1 >"$result/ended"; exit 1\' TERM\nwhile :; do echo line; sleep 0.1; done\n')
    with far.started("--task", "work") as started:
        assert started.process.stdout and started.process.stdout.readline() == b"line\n"
        started.process.stdout.close()
        started.process.stdout = None
        done = started.end()
    assert done.exit_code == -signal.SIGPIPE and "cancel" not in done.stderr
    assert (far.result / "ended").exists()
    assert (far.record()["status"], far.record()["exit_code"]) == ("cancelled", 141)
    assert far.there("runs") == set()


def test_two_tasks_travel_once_and_what_is_between_them_stays(far: Far) -> None:
    far.script(COPY, "again.sh")
    far.run("--task", "again")
    assert (far.workspace / "second/one").read_text() == "first\n" and (far.result / "one").exists()
    assert far.box.logins(far.user) == 1


def test_names_links_modes_and_holes_survive_both_ways(far: Far) -> None:
    data = far.workspace / "data"
    names = [b"two words", b"it's", b'"quoted"', b"new\nline", b"a:b", b"caf\xe9 \xff", b"-rf", b"back\\slash", b"*",
             b"$(id)", b"@o:x 3"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(data) + b"/" + name))).write_bytes(name)
    (data / "empty directory").mkdir()
    (data / "empty").touch()
    (data / "link").symlink_to("one")
    (data / "tool").write_text("#!/bin/sh\n")
    (data / "tool").chmod(0o750)
    with (data / "holes").open("wb") as file:
        file.truncate(50_000_000)
    far.script('cp -a "$data/." "$result/"\n')
    far.run()
    assert {os.fsencode(path.name) for path in far.result.iterdir()} == {os.fsencode(path.name) for path in data.iterdir()}
    assert all(Path(os.fsdecode(os.fsencode(far.result) + b"/" + name)).read_bytes() == name for name in names)
    assert os.readlink(far.result / "link") == "one"
    assert stat.S_IMODE((far.result / "tool").stat().st_mode) == 0o750
    assert (far.result / "empty directory").is_dir() and (far.result / "empty").stat().st_size == 0
    assert (far.result / "holes").stat().st_size == 50_000_000 and (far.result / "holes").stat().st_blocks < 1000
    assert int(far.box.text('stat -c %b "$1"', f"{far.root}/workspace/data/holes")) < 1000


def test_a_link_out_of_an_input_is_an_error_before_anything_travels(far: Far) -> None:
    secret = far.cube.parent / "secret"
    secret.write_text("mine")
    (far.workspace / "data/out").symlink_to(secret)
    done = far("run", "--task", "work")
    assert done.exit_code == 3 and "data/out" in done.stderr
    assert far.box.text('find "$1" -name secret -o -name out', far.far_home) == ""


def test_an_input_that_is_itself_a_link_is_followed(far: Far) -> None:
    (far.workspace / "data").rename(far.cube.parent / "the data")
    (far.workspace / "data").symlink_to(far.cube.parent / "the data")
    far.run()
    assert (far.result / "one").read_text() == "first\n"


def test_an_absolute_path_of_a_definition_is_the_other_machines(far: Far) -> None:
    there = far.box.write(f"{far.far_home}/shared set/one", b"of the machine\n", owner=far.user)
    definition = far.cube / "mlcube.yaml"
    definition.write_text(definition.read_text().replace("default: data}", f"default: '{os.path.dirname(there)}'}}"))
    far.run()
    assert (far.result / "one").read_text() == "of the machine\n"
    definition.write_text(definition.read_text().replace("shared set", "no such set"))
    done = far("run", "--task", "work")
    assert done.exit_code == 3 and "no such set" in done.stderr and far.user in done.stderr


def test_a_path_of_the_command_line_is_this_machines(far: Far) -> None:
    other = far.cube.parent / "elsewhere"
    other.mkdir()
    (other / "two").write_text("second\n")
    done = far.plain("run", ".", "--platform", "ssh", "--task", "work", "data=../elsewhere")
    assert done.exit_code == 0, done.stderr
    assert (far.result / "two").read_text() == "second\n"


def test_another_workspace_is_its_own_there_too(far: Far, tmp_path: Path) -> None:
    other = tmp_path / "other workspace"
    (other / "data").mkdir(parents=True)
    (other / "data/three").write_text("third\n")
    (other / "script.sh").write_text(COPY)
    done = far("run", "--task", "work", "--workspace", str(other))
    assert done.exit_code == 0, done.stderr
    assert (other / "result/three").read_text() == "third\n" and not far.result.exists()


def test_files_that_are_left_out_by_rule_stay_here(far: Far) -> None:
    (far.cube / ".mlcubeignore").write_text("*.log\n/drafts/\n")
    for name in ("a.log", "drafts/x", "keep.txt", "notes.md"):
        (far.cube / name).parent.mkdir(exist_ok=True)
        (far.cube / name).write_text("x")
    far.options = ("-Pssh.sync.exclude=[notes.md]",)
    far.run()
    assert {name for name in far.there("code") if name in ("a.log", "drafts", "keep.txt", "notes.md")} == {"keep.txt"}


def test_an_output_that_was_changed_here_meanwhile_is_kept(far: Far) -> None:
    far.script('echo there >"$result/model"; until [ -e "$result/../../go" ] || [ -e "$HOME/go" ]; do sleep 0.1; done\n')
    far.result.mkdir()
    (far.result / "model").write_text("old\n")
    with far.started("--task", "work") as started:
        far.box.until('ls "$1"/.mlcube/cubes/*/workspace/result/model 2>/dev/null', far.far_home)
        (far.result / "model").write_text("changed here\n")
        far.box.write(f"{far.far_home}/go", b"", owner=far.user)
        done = started.end()
    assert done.exit_code == 0, done.stderr
    assert (far.result / "model").read_text() == "changed here\n"
    beside = [path for path in far.result.rglob("*model*") if path.name != "model"] + list(far.workspace.glob("result.from*"))
    assert beside and "model" in done.stderr


def test_a_directory_that_is_not_ours_is_refused(far: Far) -> None:
    mine = far.box.write(f"{far.far_home}/papers/thesis.tex", b"years", owner=far.user)
    done = far("run", "--task", "work", "-Pssh.remote_root=~/papers")
    assert done.exit_code == 6 and "did not make it" in done.stderr
    assert far.box.text('ls -A "$1"', os.path.dirname(mine)) == "thesis.tex"


def test_nothing_there_is_readable_by_others(far: Far) -> None:
    far.run()
    assert far.box.text('stat -c %a "$1"', far.root) == "700"
    assert far.box.text('find "$1/runs" -perm /077 ! -type l ! -path "*/code/*" ! -path "*/code"', far.root) == ""


def test_secrets_are_in_no_word_no_log_and_no_record(far: Far) -> None:
    far.extra = {"TOKEN": "s3cr3t-value"}
    far.options = ("-Plocal.env={TOKEN: null}",)
    far.script('[ "$TOKEN" = "s3cr3t""-value" ] && echo known >"$result/it"; sleep 2\n')
    with far.started("--task", "work") as started:
        until(lambda: bool(far.box.processes("sleep 2", far.user)), 30, "the task")
        assert not far.box.processes("s3cr3t-value", far.user)
        done = started.end()
    assert done.exit_code == 0 and (far.result / "it").exists(), done.stderr
    assert far.box.text('grep -rl s3cr3t-value "$1" || :', far.far_home) == ""
    assert not any("s3cr3t-value" in word for call in far.box.ssh_calls() for word in call)
    assert not any(b"s3cr3t-value" in path.read_bytes() for path in far.cube.parent.rglob("*") if path.is_file())
    assert "s3cr3t-value" not in done.stdout + done.stderr


def test_hostile_names_run_nothing_on_either_side(far: Far) -> None:
    evil = "x'; touch ~/pwned; $(touch ~/pwned) `touch ~/pwned` \""
    definition = far.cube / "mlcube.yaml"
    text = definition.read_text().replace("name: far", f"name: {json.dumps(evil)}")
    definition.write_text(text.replace("default: result}", f"default: {json.dumps(evil)}}}", 1))
    (far.workspace / "data" / evil.replace("/", "_")).write_text("odd")
    done = far("run", "--task", "work", f"-Pssh.remote_root=~/root {evil.replace('/', '_').replace('$', '')}")
    assert done.exit_code == 0, done.stderr
    assert far.box.text('find / -xdev -name pwned 2>/dev/null') == ""
    assert not list(far.cube.parent.rglob("pwned"))
    hostile = far("run", "--task", "work", "-Pssh.host=-oProxyCommand=touch pwned")
    assert hostile.exit_code == 3 or hostile.exit_code == 2, hostile.stderr
    assert not list(far.cube.parent.rglob("pwned"))


def test_a_machine_behind_another_one(broken_far: Far) -> None:
    with own_box() as other:
        broken_far.box.add_machine_behind(other, "behind")
        broken_far.options = ("-Pssh.host=behind",)
        broken_far.run()
        assert (broken_far.result / "one").read_text() == "first\n"
        assert other.exists("/home/ada/.mlcube/cubes") and not broken_far.box.exists("/home/ada/.mlcube")


def test_a_dry_run_writes_nothing_there_and_its_script_does_what_a_run_does(far: Far) -> None:
    shown = far.run("--dry-run")
    assert not far.box.exists(f"{far.far_home}/.mlcube") and not far.result.exists()
    assert re.search(r"^rsync ", shown.stdout, re.MULTILINE)
    script = far.cube.parent / "script.sh"
    script.write_text(shown.stdout)
    ran = subprocess.run(["sh", str(script)], env={**os.environ, **far.environment}, capture_output=True, check=False,
                         timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert (far.result / "one").read_text() == "first\n" and ran.stdout == b"copied\n"
    assert far.there("runs") == set()


def test_a_second_ctrl_c_lets_go_and_fetch_brings_home_what_is_there(far: Far) -> None:
    far.script('trap "" TERM INT; echo half >"$result/checkpoint"; echo begun; while :; do sleep 1; done\n')
    with far.started("--task", "work", "--grace", "60") as started:
        far.wait_for(f"{far.far_home}/.mlcube/cubes/far-{_identifier(far)}/workspace/result/checkpoint")
        time.sleep(1)
        started.interrupt()
        started.hear(b"cancelling on")
        time.sleep(1)
        started.interrupt()
        done = started.end()
    assert done.exit_code == -signal.SIGINT and "nothing was fetched; mlcube fetch" in done.stderr, done.stderr
    assert far.there("runs") and not (far.result / "checkpoint").exists()
    waited = far.plain("wait")
    assert waited.exit_code == 130, waited.stderr
    assert far.plain("fetch").exit_code == 0
    assert (far.result / "checkpoint").read_text() == "half\n"
    assert far.record()["status"] == "cancelled" and not far.there("runs")


def _identifier(far: Far) -> str:
    """The id of the cube, once it is known."""
    file = far.workspace / ".mlcube/id"
    until(file.exists, what="the id")
    return file.read_text().split()[0]


def test_make_is_told_of_the_inputs_that_lie_here(far: Far, tmp_path: Path) -> None:
    far.box.write(f"{far.far_home}/set/one", b"shared\n", owner=far.user)
    far.run("--stamp", str(tmp_path / "stamp"), "--deps", str(tmp_path / "deps"))
    inputs = {str(far.workspace / name) for name in ("script.sh", "data", "data/one")}
    words = (tmp_path / "deps").read_text().split("\n\n")[0].replace("\\", "").split()
    assert inputs < set(words) and all(os.path.exists(word) for word in words[1:]), words
    far.run("--stamp", str(tmp_path / "stamp"), "--deps", str(tmp_path / "deps"), f"data={far.far_home}/set")
    assert far.far_home not in (tmp_path / "deps").read_text()


def test_an_image_that_is_made_there_is_inspected_and_locked(far: Far) -> None:
    far.options = ("-Pssh.platform=docker", f"-Pdocker.image={far.user}:1", "-Pdocker.build_strategy=build")
    (far.cube / "Dockerfile").write_text("FROM mlcube-test/tiny\nCOPY mlcube.yaml /mlcube.yaml\n")
    try:
        inspected = far("inspect", "--force", "--json")
        assert inspected.exit_code == 0, inspected.stderr
        assert json.loads(inspected.stdout)["name"] == f"{far.user}:1"
        (far.cube / "Dockerfile").write_text("FROM mlcube-test/tiny\nCOPY mlcube.yaml /other.yaml\n")
        lock = far.cube / "mlcube.lock"
        for _ in range(2):
            done = far("configure", "--update-lock")
            assert done.exit_code == 0, done.stderr
            (image,) = json.loads(lock.read_text())["platforms"]["docker"].values()
            assert (image["image"], image["method"]) == (f"{far.user}:1", "inputs")
        assert far("run", "--task", "work").exit_code == 0
        (far.cube / "Dockerfile").write_text("FROM mlcube-test/tiny\n")
        refused = far("run", "--task", "work")
        assert refused.exit_code == 5 and "lock" in refused.stderr, refused.stderr
    finally:
        far.box.root('docker image rm --force "$1"', f"{far.user}:1")


def test_what_is_not_there_is_said_of_the_machine_that_lacks_it(far: Far) -> None:
    far.options = ("-Pssh.platform=docker", "-Pdocker.docker=podman")
    done = far("run", "--task", "work")
    assert done.exit_code == 4 and f"error: on {far.user}: 'podman' is not on PATH" in done.stderr, done.stderr
    far.options = ("-Pssh.platform=docker", "-Pdocker.image=localhost:1/none:1", "-Pdocker.build_strategy=pull")
    done = far("run", "--task", "work", "--json")
    assert done.exit_code == 5 and json.loads(done.stdout)["message"].startswith(f"on {far.user}: could not pull"), done.stderr


def test_configure_finds_nothing_strange_in_where_the_cube_lies_there(far: Far) -> None:
    far.options = ("-Pssh.platform=docker",)
    definition = far.cube / "mlcube.yaml"
    definition.write_text(definition.read_text().replace(f"ssh: {{host: {far.user}, ", "ssh: {"))  # the cube names no machine
    done = far("configure", f"-Pssh.host={far.user}", "--untrusted")
    assert done.exit_code == 0 and "outside the cube" not in done.stderr, done.stderr
