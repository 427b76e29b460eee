"""Which paths are whose, on a machine behind ssh: those of definitions, of the command line, of other workspaces; odd names,
other dialects, directories that are not ours, and what an earlier run has left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.integration.far import COPY, DEFINITION, Far, until

pytestmark = pytest.mark.ssh

ODD = "o'd \"d\" $(touch pwned) a:b\nx"  # a name that every quoting has to survive
BYTES = os.fsdecode(b"caf\xe9 \xff")  # and one that is no text


def define(far: Far, **replaced: str) -> None:
    """The cube's definition with some of its defaults changed: `data='~/x'`."""
    path = far.cube / "mlcube.yaml"
    text = path.read_text("utf-8", "surrogateescape")
    for name, value in replaced.items():
        assert f"default: {name}}}" in text, text
        text = text.replace(f"default: {name}}}", f"default: {json.dumps(value)}}}", 1)
    path.write_text(text, "utf-8", "surrogateescape")


def run_cube(far: Far, cube: Path, *words: str) -> Any:
    """The task `work` of another cube of the same user."""
    return far.run_mlcube("run", str(cube), "--platform=ssh", "--task=work", *words, env=far.environment)


# --- of which machine a path is ----------------------------------------------------------------------------------------


def test_home_and_variables_of_an_absolute_path_are_the_other_machines(far: Far) -> None:
    far.box.write(f"{far.far_home}/sets/one", b"at home there\n", owner=far.user)
    define(far, data="~/sets")
    far.run()
    assert (far.result / "one").read_text() == "at home there\n"
    far.extra = {"HOME": str(far.home)}
    text = (far.cube / "mlcube.yaml").read_text()
    (far.cube / "mlcube.yaml").write_text(text.replace('"~/sets"', '"$HOME/sets"'))
    far.run()
    assert not {"elsewhere", "workspace/data"} & far.there()


def test_an_absolute_path_that_is_absent_there_names_the_machine_and_says_how_to_send_ones_own(far: Far) -> None:
    here = far.cube.parent / "only here"
    write_tree(here, {"one": "x"})
    done = far("run", "--task=work", f"data={here}")
    assert done.exit_code == 3
    assert f"there is no {here} on {far.user}" in done.stderr
    assert "data=./PATH" in done.stderr and "absolute: push" in done.stderr
    assert not far.box.exists(f"{far.far_home}/.mlcube/cubes")


@pytest.mark.parametrize(("path", "message"), [
    ("/root/x", "output 'result' cannot be created: /root does not let you"),
    ("/etc/passwd/x", "output 'result' cannot be created: /etc/passwd is a file, not a directory"),
    ("/etc/passwd", "output 'result' must be a directory, but /etc/passwd is a file"),
])
def test_an_output_that_cannot_be_made_there_names_the_machine(far: Far, path: str, message: str) -> None:
    done = far("run", "--task=work", f"result={path}")
    assert done.exit_code == 3
    assert f"error: on {far.user}: {message}\n" in done.stderr and "absolute: push" not in done.stderr


def test_an_absent_path_of_this_machine_is_not_said_to_be_the_others(far: Far) -> None:
    done = far("run", "--task=work", "data=./no such directory")
    assert done.exit_code == 3
    assert "there is no " in done.stderr and f" on {far.user}" not in done.stderr


def test_absolute_inputs_are_sent_where_that_is_asked_for(far: Far) -> None:
    here = far.cube.parent / "the set"
    write_tree(here, {"one": "of this machine\n"})
    far.box.write(f"{here}/one", b"of that machine\n", owner=far.user)
    try:
        define(far, data=str(here))
        far.run()
        assert (far.result / "one").read_text() == "of that machine\n"
        far.options = ("-Pssh.sync.absolute=push",)
        far.run()
        assert (far.result / "one").read_text() == "of this machine\n"
        define(far, result="~/models")  # which stays there, and means that machine's home
        far.run("script=$WORKSPACE/script.sh")
        assert far.box.read(f"{far.far_home}/models/one") == b"of this machine\n"
    finally:
        far.box.root('rm -rf "$1"', str(here))


def test_absolute_outputs_stay_there_and_that_is_said(far: Far) -> None:
    define(far, result="~/models/one")
    done = far.run()
    assert f"output 'result' stays on {far.user}: {far.far_home}/models/one" in done.stderr
    assert far.box.read(f"{far.far_home}/models/one/one") == b"first\n"
    assert not far.result.exists()


def test_paths_beside_the_cube_travel_both_ways(far: Far) -> None:
    work = far.cube.parent
    write_tree(work, {"data/two": "second\n", "single file": COPY})
    done = far.run_mlcube("run", "cube", "--platform=ssh", "--task=work", "data=./data", "script=./single file",
                          "result=../" + work.name + "/out", cwd=work, env=far.environment)
    assert done.exit_code == 0, done.stderr
    assert (work / "out/two").read_text() == "second\n"
    assert sorted(path.name for path in (work / "out").iterdir()) == ["two"]


def test_an_input_that_holds_the_whole_cube(far: Far) -> None:
    far.script('cp "$data/cube/workspace/data/one" "$data/cube/mlcube.yaml" "$data/beside" "$result"\n')
    (far.cube.parent / "beside").write_text("beside\n")
    shutil.rmtree(far.home, ignore_errors=True)
    done = far.plain("run", ".", "--platform=ssh", "--task=work", "data=..")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in far.result.iterdir()) == ["beside", "mlcube.yaml", "one"]


def test_an_output_within_an_input_from_outside(far: Far) -> None:
    outside = far.cube.parent / "outside"
    write_tree(outside, {"one": "first\n", "sub/old": "old\n"})
    far.script('cat "$data/sub/old"; cp "$data/one" "$result/new"\n')
    done = far.plain("run", ".", "--platform=ssh", "--task=work", "data=../outside", "result=../outside/sub")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "old\n" and (outside / "sub/new").read_text() == "first\n"


# --- workspaces --------------------------------------------------------------------------------------------------------


def test_an_empty_workspace_gets_the_cubes_own_inputs(far: Far) -> None:
    other = far.cube.parent / "other"
    far.run("--workspace", str(other))
    assert (other / "result/one").read_text() == "first\n" and not far.result.exists()
    assert not (far.workspace / ".mlcube/runs").exists()


def test_the_cubes_directory_as_the_workspace(far: Far) -> None:
    write_tree(far.cube, {"data/four": "fourth\n", "script.sh": COPY})
    far.run("--workspace", str(far.cube))
    assert (far.cube / "result/four").read_text() == "fourth\n"


# --- names -------------------------------------------------------------------------------------------------------------


def odd_cube(far: Far, name: str) -> Path:
    text = DEFINITION.replace("HOST", far.user).replace("INSIDE", "local")
    return write_tree(far.cube.parent / name, {"mlcube.yaml": text, "workspace/script.sh": COPY,
                                               f"workspace/{name}/in": "odd\n"})


@pytest.mark.parametrize("name", [ODD, BYTES])
def test_odd_names_of_cube_workspace_and_parameters(far: Far, name: str) -> None:
    cube = odd_cube(far, name)
    other = far.cube.parent / f"other {name}"
    write_tree(other, {f"{name}/in": "other\n", "script.sh": COPY})
    for words, workspace, text in (((), cube / "workspace", "odd\n"), ((f"--workspace={other}",), other, "other\n")):
        done = run_cube(far, cube, f"data={name}", f"result=out {name}", *words)
        assert done.exit_code == 0, done.stderr
        assert (workspace / f"out {name}" / "in").read_text() == text
    assert far.box.text("find / -xdev -name pwned 2>/dev/null || :") == ""
    assert not list(far.cube.parent.rglob("pwned"))


def test_a_path_that_is_no_text_is_refused_by_name_where_a_container_would_get_it(far: Far) -> None:
    cube = odd_cube(far, BYTES)
    done = run_cube(far, cube, "-Pssh.platform=docker", f"data={BYTES}")
    assert done.exit_code != 0
    assert "caf\\xe9" in done.stderr or "caf\\udce9" in done.stderr
    write_tree(cube, {"workspace/plain/in": "plain\n"})
    done = run_cube(far, cube, "-Pssh.platform=docker", "data=plain")
    assert done.exit_code == 0, done.stderr  # only the cube's own directory has such a name, and only here


def test_file_inputs_and_outputs(far: Far) -> None:
    write_tree(far.cube, {"mlcube.yaml": rf"""
        name: files
        tasks:
          work:
            entrypoint: sh -c 'cat "\${{1#*=}}" >"\${{2#*=}}"; [ ! -e "\${{1#*=}}.other" ]' sh
            parameters:
              inputs: {{from: {{type: file, default: a b/in.txt}}}}
              outputs: {{to: {{type: file, default: deep/er/out.txt}}}}
        local: {{interpreter: system}}
        ssh: {{host: {far.user}, platform: local}}
        """, "workspace/a b/in.txt": "text\n", "workspace/a b/in.txt.other": "no input"})
    far.run()
    assert (far.workspace / "deep/er/out.txt").read_text() == "text\n"
    assert "workspace/a b/in.txt.other" not in far.there()
    (far.workspace / "a b/real").write_text("led to\n")
    (far.workspace / "a b/in.txt").unlink()
    (far.workspace / "a b/in.txt").symlink_to("real")
    far.run()
    assert (far.workspace / "deep/er/out.txt").read_text() == "led to\n"


def test_an_input_that_was_a_directory_and_is_a_file_now(far: Far) -> None:
    write_tree(far.workspace, {"data/thing/part": "x"})
    far.run()
    shutil.rmtree(far.workspace / "data/thing")
    (far.workspace / "data/thing").write_text("a file now\n")
    shutil.rmtree(far.result)
    done = far("run", "--task=work")
    assert done.exit_code == 6, done.stderr  # nothing there is deleted but code
    assert "could not make way for new regular file: data/thing" in done.stderr and "hint: remove the one" in done.stderr
    assert far.box.exists(f"{far.root}/workspace/data/thing/part")


# --- several tasks -----------------------------------------------------------------------------------------------------


def test_an_input_that_an_earlier_task_does_not_make_is_said_before_its_own_task(far: Far) -> None:
    far.script('rm -r "$result"; echo worked\n')
    far.script(COPY, "again.sh")
    done = far("run", "--task=work,again")
    assert done.exit_code == 3, done.stderr
    assert done.stdout == "worked\n" and "result" in done.stderr
    assert not (far.workspace / "second/one").exists()


def test_intermediate_results_of_an_earlier_run_are_not_sent(far: Far) -> None:
    write_tree(far.workspace, {"result/stale": "stale\n"})
    far.script(COPY, "again.sh")
    done = far("run", "--task=work,again")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in (far.workspace / "second").iterdir()) == ["one"]


# --- other dialects ------------------------------------------------------------------------------------------------------


def test_the_directory_dialect_and_an_output_in_the_cubes_own_directory(far: Far) -> None:
    cube = write_tree(far.cube.parent / "box", {
        "mlcube.yaml": "schema_type: mlcube_root\nname: old\nauthor: a\nversion: 0.1.0\ntasks: [tasks/say.yaml]\n",
        "tasks/say.yaml": "schema_type: mlcube_task\ninputs: [{name: data, type: directory}]\n"
                          "outputs: [{name: out, type: directory}]\n",
        "run/say.yaml": "schema_type: mlcube_invoke\ntask_name: say\ninput_binding: {data: $WORKSPACE/data}\n"
                        "output_binding: {out: $WORKSPACE/../results}\n",
        "platforms/local.yaml": "schema_type: mlcube_local\nentrypoint: main.py\n",
        "main.py": "import os, sys\nwords = dict(word[2:].split('=', 1) for word in sys.argv[2:])\n"
                   "assert os.path.exists('main.py')\n"
                   "open(words['out'] + '/x', 'w').write(open(words['data'] + '/one').read())\n",
        "workspace/data/one": "first\n",
        "platforms/ssh.yaml": f"schema_type: mlcube_ssh\nhost: {far.user}\nplatform: local.yaml\n"})
    for _ in range(2):
        done = far.run_mlcube("run", str(cube), "--platform=platforms/ssh.yaml", "--task=run/say.yaml", env=far.environment)
        assert done.exit_code == 0, done.stderr
        assert (cube / "results/x").read_text() == "first\n"


def test_an_mlbox_on_the_other_machines_docker(far: Far) -> None:
    settings = far.cube.parent / "settings.yaml"
    settings.write_text(f"platforms:\n  box: {{runner: ssh, host: {far.user}, platform: docker}}\n")
    far.extra = {"MLCUBE_SYSTEM_SETTINGS": str(settings)}
    cube = write_tree(far.cube.parent / "mlbox", {
        "mlbox.yaml": """
            type: mlbox
            mlbox_spec_version: 0.1
            name: Box
            version: 0.1
            author: a
            implementation: docker
            tasks:
              copy:
                inputs: {data_dir: {description: d}}
                outputs: {log_dir: {description: l}, file: {description: f}}
            """,
        "tasks/copy/default.yaml": "data_dir: data\nlog_dir: log/\nfile: made/one.txt\n",
        "implementation/mlbox_implementation.yaml": "implementation_type: docker\nimage: mlcube-test/made-for-mlbox\n"
                                                    "docker_runtime: docker\nconfigure: build\n",
        "implementation/docker/dockerfiles/Dockerfile":
            "FROM mlcube-test/tiny:latest\nCOPY implementation/src/copy.sh /copy.sh\nENTRYPOINT [\"sh\", \"/copy.sh\"]\n",
        "implementation/src/copy.sh": """
            for word; do
              case $word in --data_dir=*) data=${word#*=};; --log_dir=*) log=${word#*=};; --file=*) file=${word#*=};; esac
            done
            cp "$data/one" "$log/log"
            cp "$data/one" "$file"
            """,
        "workspace/data/one": "first\n"})
    try:
        done = far.run_mlcube("run", str(cube), "--platform=box", "--task=copy", env=far.environment)
        assert done.exit_code == 0, done.stderr
        assert (cube / "workspace/log/log").read_text() == (cube / "workspace/made/one.txt").read_text() == "first\n"
    finally:
        far.box.root("docker image rm --force mlcube-test/made-for-mlbox || :")


# --- whose directory it is -----------------------------------------------------------------------------------------------


def test_a_copied_cube_and_one_of_the_same_name_have_directories_of_their_own(far: Far) -> None:
    far.run()
    copied, same = far.cube.parent / "copied", far.cube.parent / "same"
    shutil.copytree(far.cube, copied, symlinks=True)
    shutil.copytree(far.cube, same, ignore=shutil.ignore_patterns(".mlcube"))
    for cube in (copied, same):
        write_tree(cube, {"workspace/data/one": f"{cube.name}\n"})
        done = run_cube(far, cube)
        assert done.exit_code == 0, done.stderr
        assert (cube / "workspace/result/one").read_text() == f"{cube.name}\n"
    assert len(far.box.text('ls "$1"/.mlcube/cubes', far.far_home).splitlines()) == 3


def test_clones_of_a_cube_may_share_a_directory_and_another_cube_may_not(far: Far) -> None:
    far.options = ("-Pssh.remote_root=~/shared",)
    far.run()
    clone, other = far.cube.parent / "clone", far.cube.parent / "other"
    shutil.copytree(far.cube, clone, ignore=shutil.ignore_patterns(".mlcube", "result"))
    shutil.copytree(far.cube, other)
    write_tree(other, {"mlcube.yaml": (other / "mlcube.yaml").read_text().replace("name: far", "name: near")})
    write_tree(clone, {"workspace/data/one": "of the clone\n"})
    home = far.cube.parent / "other laptop"
    home.mkdir()
    for _ in range(2):
        far.box.forget_calls()
        done = far.run_mlcube("run", str(clone), "--platform", "ssh", "--task", "work", *far.options,
                              env={**far.environment, "HOME": str(home)})
        assert done.exit_code == 0, done.stderr
        assert (clone / "workspace/result/one").read_text() == "of the clone\n"
    assert len([call for call in far.box.ssh_calls() if "exec sh -s" in call]) == 3  # look, run, tidy: nothing is made anew
    before = far.box.root('find "$1/shared" -printf "%p %T@\\n"', far.far_home)
    for words in (("run", "--task", "work"), ("run", "--task", "work", "--dry-run"), ("sync", "push"), ("sync", "pull"),
                  ("sync", "status")):
        done = far.run_mlcube(*words, "--mlcube", str(other), "--platform", "ssh", *far.options, env=far.environment)
        assert (done.exit_code, done.stdout) == (6, "") and "belongs to another cube: far" in done.stderr, words
    assert far.box.root('find "$1/shared" -printf "%p %T@\\n"', far.far_home) == before


def test_two_runs_that_send_code_at_the_same_time_each_have_their_own(far: Far) -> None:
    write_tree(far.cube, {"version": "first\n"})
    (far.workspace / "data/big").write_bytes(os.urandom(3_000_000))
    far.script('cp version "$result/$(cat version)"\n')
    with far.started("--task", "work", "-Pssh.sync.bandwidth=1m") as slow:
        far.box.until('[ -e "$1"/.mlcube/cubes/*/code/version ]', far.far_home)  # the code is there, the input is on its way
        write_tree(far.cube, {"version": "second\n"})
        done = far.run_mlcube("run", str(far.cube), "--platform", "ssh", "--task", "work", "result=other", env=far.environment)
        assert done.exit_code == 0 and "waiting for process" in done.stderr, done.stderr
        ended = slow.end()
    assert ended.exit_code == 0, ended.stderr
    found = [*far.result.iterdir(), *(far.workspace / "other").iterdir()]
    assert {path.name: path.read_text() for path in found} == {"first": "first\n", "second": "second\n"}


def test_two_clones_that_send_code_at_the_same_time_do_not_break_each_others_transfers(far: Far) -> None:
    far.options = ("-Pssh.remote_root=~/shared",)
    (far.cube / "weights").write_bytes(os.urandom(3_000_000))
    far.script('cksum <weights >"$result/sum"\n')
    home = far.cube.parent / "other laptop"
    home.mkdir()
    with far.started("--task", "work", "-Pssh.sync.bandwidth=1m") as slow:
        far.box.until('[ "$(find "$1/shared" -type f -size +100k | wc -l)" -gt 0 ]', far.far_home)
        assert far.box.text('ls -A "$1/shared/code"', far.far_home) == "mlcube.yaml"  # no task sees it by any name
        done = far.run_mlcube("run", str(far.cube), "--platform", "ssh", "--task", "work", *far.options,
                              env={**far.environment, "HOME": str(home)})
        assert done.exit_code == 0, done.stderr
        ended = slow.end()
    assert ended.exit_code == 0, ended.stderr
    assert (far.result / "sum").read_text().split()[1] == "3000000"
    assert far.box.text('ls -A "$1/shared/partial"', far.far_home) == ""


def test_a_moved_cube_keeps_its_directory(far: Far) -> None:
    far.run()
    far.cube.rename(far.cube.parent / "moved")
    done = run_cube(far, far.cube.parent / "moved")
    assert done.exit_code == 0, done.stderr
    assert far.root


def test_a_cube_that_cannot_be_written_runs_and_keeps_its_directory_all_the_same(far: Far) -> None:
    shutil.rmtree(far.workspace / ".mlcube", ignore_errors=True)
    other = far.cube.parent / "other"
    readonly = [far.cube, far.workspace]
    for path in readonly:
        path.chmod(0o555)
    try:
        far.run(f"--workspace={other}")
        moved = far.cube.parent / "moved"
        for path in readonly:
            path.chmod(0o555)
        assert (other / "result/one").read_text() == "first\n"
        assert not (far.workspace / ".mlcube").exists() or os.getuid() == 0
        assert far.root and not moved.exists()
    finally:
        for path in readonly:
            path.chmod(0o755)


def test_an_empty_directory_of_the_users_becomes_ours_alone_and_others_cannot_look_in(far: Far) -> None:
    far.box.root('install -d -m 755 -o "$1" "$2"', far.user, f"{far.far_home}/space")
    far.options = ("-Pssh.remote_root=~/space",)
    far.run()
    assert far.box.text('stat -c %a "$1"', f"{far.far_home}/space") == "700"
    assert (far.result / "one").exists()


@pytest.mark.parametrize("root", ["/", "'~'", "$HOME", "~/..", "/home"])
def test_directories_that_can_never_be_ours(far: Far, root: str) -> None:
    far.extra = {}
    before = far.box.text('ls -A "$1"', far.far_home)
    done = far("run", "--task=work", f"-Pssh.remote_root={root}")
    assert done.exit_code in (3, 6), done.stderr
    assert far.box.text('ls -A "$1"', far.far_home).replace(".cache", "").split() == before.replace(".cache", "").split()
    assert not far.box.exists("/home/.mlcube-remote") and not far.box.exists("/.mlcube-remote")


def test_a_directory_with_odd_characters(far: Far) -> None:
    far.options = (f"-Pssh.remote_root={json.dumps('~/' + ODD)}",)
    far.run()
    assert far.box.exists(f"{far.far_home}/{ODD}/.mlcube-remote")
    assert (far.result / "one").read_text() == "first\n"


# --- one run beside another ----------------------------------------------------------------------------------------------


def test_a_later_push_does_not_change_the_code_of_a_run(far: Far) -> None:
    (far.cube / "version").write_text("1\n")
    far.script('echo ready >"$result/ready"; until [ -e ~/go ]; do sleep 0.1; done; cat version\n')
    far.script("cat version\n", "again.sh")
    with far.started("--task", "work") as started:
        far.box.until('ls "$1"/.mlcube/cubes/*/workspace/result/ready 2>/dev/null', far.far_home)
        (far.cube / "version").write_text("2\n")
        write_tree(far.workspace, {"given/x": ""})
        other = far("run", "--task=again", "data=given")
        far.box.write(f"{far.far_home}/go", b"", owner=far.user)
        done = started.end()
    assert (done.exit_code, done.stdout, other.stdout) == (0, "1\n", "2\n"), done.stderr + other.stderr


def test_runs_that_start_together_do_not_get_in_each_others_way(far: Far) -> None:
    """As under `make -j`: the same code and input, sent by each of them."""
    def write(text: str) -> None:
        write_tree(far.cube, {f"src/{number}.py": f"{text} {number}\n" * 50 for number in range(300)})
        write_tree(far.workspace, {f"data/{number}": f"{text} {number}\n" * 50 for number in range(100)})

    far.script('ls -A src | wc -l; ls -A "$data" | wc -l\n')
    for text in ("first", "second time"):
        write(text)
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(far.started("--task=work", f"result=result {number}")) for number in range(4)]
            ends = [run.end() for run in runs]
        assert [(end.exit_code, end.stdout.split()) for end in ends] == [(0, ["300", "101"])] * 4, [end.stderr for end in ends]
    assert far.box.text('ls -A "$1/partial" "$1/runs"', far.root).split() == [f"{far.root}/partial:", f"{far.root}/runs:"]


def test_ctrl_c_while_outputs_come_home_says_how_they_do_later(far: Far) -> None:
    far.script('head -c 60000000 /dev/zero | tr "\\0" x >"$result/big"; echo small >"$result/small"\n')
    far.options = ("-Pssh.sync.bandwidth=10m",)
    with far.started("--task", "work") as started:
        until(lambda: bool(far.box.processes("rsync --server --sender", far.user)), 60)
        started.interrupt()
        done = started.end()
    assert done.exit_code == -signal.SIGINT, done.stderr
    assert "mlcube fetch" in done.stderr and not (far.result / "big").exists()
    assert far.record()["status"] == "succeeded"
    fetched = far.plain("fetch")
    assert fetched.exit_code == 0, fetched.stderr
    assert (far.result / "big").stat().st_size == 60_000_000 and (far.result / "small").read_text() == "small\n"


def test_ctrl_c_that_never_got_there_says_so(broken_far: Far) -> None:
    broken_far.script("sleep 614\n")
    broken_far.options = ("-Pssh.reconnect=4s",)
    with broken_far.started("--task", "work") as started:
        until(lambda: bool(broken_far.box.processes("sleep 614")), 60, "the task")
        broken_far.box.stop_sshd()
        time.sleep(1)
        started.interrupt()
        done = started.end()
    assert done.exit_code == -signal.SIGINT, done.stderr
    assert "the run goes on there" in done.stderr and "mlcube cancel" in done.stderr
    broken_far.box.start_sshd()
    broken_far.plain("cancel")
    until(lambda: not broken_far.box.processes("sleep 614"), what="the end of the task")


# --- secrets, flags ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["docker", "singularity"])
def test_a_secret_of_this_machine_is_in_no_word_and_no_file_there(far: Far, inside: str) -> None:
    far.extra = {"TOKEN": "tok'en $x\nsecond"}
    far.options = (f"-Pssh.platform={inside}", f"-P{inside}.env={{TOKEN: null}}")
    far.script('[ "${#TOKEN}" -eq 16 ] && printf "%s" "$TOKEN" | tr "a-z" "A-Z" >"$result/it"; sleep 3\n')
    with far.started("--task", "work") as started:
        until(lambda: bool(far.box.processes("sleep 3", far.user)), 60, "the task")
        seen = far.box.root("cat /proc/[0-9]*/cmdline 2>/dev/null || :")
        kept = far.box.text('grep -rl "tok.en" "$1" 2>/dev/null || :', far.far_home)
        done = started.end()
    assert done.exit_code == 0, done.stderr
    assert (far.result / "it").read_text() == "TOK'EN $X\nSECOND"
    assert b"tok'en" not in seen and kept == ""
    assert not any("tok'en" in word for call in far.box.ssh_calls() for word in call)
    assert not any(b"tok'en" in path.read_bytes() for path in far.cube.parent.rglob("*") if path.is_file())
    shown = far.run("--dry-run")
    assert "tok'en" not in shown.stdout and "TOKEN:?" in shown.stdout


@pytest.mark.parametrize("token", ["tok'en $x\nsecond", "''", "-n \\0 %s <the value of TOKEN>"])
def test_the_script_of_a_dry_run_passes_a_secret_on(far: Far, token: str) -> None:
    far.extra = {"TOKEN": token}
    far.options = ("-Plocal.env={TOKEN: null}",)
    far.script('printf "%s" "$TOKEN" >"$result/it"\n')
    script = far.cube.parent / "script.sh"
    script.write_text(far.run("--dry-run").stdout)
    assert token not in script.read_text() or token == "''"
    ran = subprocess.run(["sh", str(script)], env={**os.environ, **far.environment}, capture_output=True, check=False,
                         timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert (far.result / "it").read_text() == token
    assert not any(token in word for call in far.box.ssh_calls() for word in call)


def test_overrides_and_flags_mean_what_runs_there(far: Far) -> None:
    far.options = ("-Pssh.platform=docker",)
    far.script('echo "$A"; cat /sys/fs/cgroup/memory.max 2>/dev/null || :\n')
    done = far.run("-Pdocker.env={A: b}", "--memory=64m", "--dry-run")
    assert "--memory 64m" in done.stdout and "--env A" in done.stdout


def test_the_exit_code_is_the_tasks_and_a_cube_that_asks_for_more_says_so(far: Far) -> None:
    command = [sys.executable, "-m", "mlcube_cli", "run", str(far.cube), "--platform=ssh", "--task=work", "--json"]
    far.script("echo out; exit 41\n")
    done = subprocess.run(command, env={**clean_environment(far.home), **far.environment}, capture_output=True, check=False,
                          timeout=120)
    assert done.returncode == 41
    document = json.loads(done.stdout)
    assert (document["status"], document["exit_code"], document["tasks"][0]["exit_code"]) == ("failed", 41, 41)


def test_a_run_on_an_unchanged_cube_takes_few_round_trips(far: Far, run_mlcube: RunMLCube) -> None:
    far.run()
    far.box.forget_calls()
    far.run()
    calls = far.box.ssh_calls()
    there = [call for call in calls if call[-1] == "exec sh -s"]
    copies = [call for call in calls if "rsync" in call]
    assert (len(there), len(copies)) == (3, 3), calls  # look, run, tidy; code, inputs, outputs
    assert len(calls) - len(there) - len(copies) <= 3, calls  # the configuration, the master
