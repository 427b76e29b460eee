"""The singularity runner on a real apptainer: what the task may do, how it ends, and that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IMAGE_FILES, RunMLCube, clean_environment
from tests.cubes import write_tree

pytestmark = pytest.mark.singularity
TINY = str(IMAGE_FILES / "tiny.sif")
OUT = {"outputs": {"out": {"type": "directory"}}}
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, scratch: Path, run_mlcube: RunMLCube) -> Run:
    """Runs a shell line as the task of a cube with these options: `run("exit 3", {"network": "none"}, parameters=...)`."""

    def run(text: str, options: dict[str, Any] | None = None, *words: str, parameters: dict[str, Any] | None = None,
            env: dict[str, str] | None = None, entrypoint: Any = None) -> Any:
        write_cube(tmp_path / "cube", text, options, parameters, entrypoint)
        return run_mlcube("run", str(tmp_path / "cube"), *words, env={"TMPDIR": str(scratch), **(env or {})})

    return run


def write_cube(place: Path, text: str, options: dict[str, Any] | None = None, parameters: dict[str, Any] | None = None,
               entrypoint: Any = None) -> Path:
    task = {"entrypoint": entrypoint or ["sh", "-c", text], "parameters": parameters or OUT}
    cube = {"name": "tried", "singularity": {"image": TINY, **(options or {})}, "tasks": {"main": task}}
    return write_tree(place, {"mlcube.yaml": json.dumps(cube), "workspace/data/a": "in\n"})


# --- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 125, 126, 127, 137, 255])
def test_the_tasks_exit_code_is_the_tasks_own(run: Run, code: int) -> None:
    ended = run(f"exit {code}", None, "--json")
    status = "succeeded" if code == 0 else "failed"
    assert (ended.exit_code, json.loads(ended.stdout)["status"]) == (code, status), ended.stderr


@pytest.mark.parametrize(("options", "entrypoint", "said"), [
    ({}, ["/no/such/program"], "is there a program '/no/such/program' in"),
    ({}, ["./program"], "a docker image's WORKDIR is lost"),
    ({"workdir": "/no/such"}, None, "'workdir' is not in the image"),
    ({"run_args": "--no-such-option"}, None, "does not know one of the platform's words"),
    ({"network": "bridge"}, None, "gets the network 'none' or the machine's own"),
    ({"binds": ["/no/such/path:/x"]}, None, "a path to be mounted is not there"),
    ({"image": "/etc/hosts"}, None, "none that this engine knows"),
])
def test_an_engine_that_could_not_start_the_task_is_told_apart(run: Run, options: dict[str, Any], entrypoint: Any,
                                                               said: str) -> None:
    ended = run("exit 0", options, "--json", entrypoint=entrypoint)
    assert (ended.exit_code, json.loads(ended.stdout)["status"]) == (4, "environment")
    assert said in ended.stderr


# How long its sleeps would last is a word that no other process of this machine has in its command line.
LASTING = 10 ** 6 + uuid.uuid4().int % 10 ** 6
STUBBORN = (f"trap 'echo TERM >>/mlcube_io0/asked' TERM; (setsid sleep {LASTING}1 &); sleep {LASTING}2 & "
            ": >/mlcube_io0/ready; while true; do sleep 0.1; done")


def living(*patterns: str) -> list[str]:
    """Command lines of living processes that hold one of these texts."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if state != "Z" and any(pattern in line for pattern in patterns):
            found.append(line)
    return found


def test_the_tasks_own_failure_is_known_in_a_plain_directory_of_files(run: Run, tmp_path: Path) -> None:
    """Not one that the engine made: it has no environment, and no PATH, of its own."""
    words = ["apptainer", "-q", "build", "--sandbox", str(tmp_path / "box"), TINY]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    shutil.rmtree(tmp_path / "box" / ".singularity.d")
    for link in (".exec", ".run", ".shell", ".test", "environment", "singularity"):
        (tmp_path / "box" / link).unlink(missing_ok=True)
    assert run("exit 1", {"image": str(tmp_path / "box")}).exit_code == 1
    assert run("", {"image": str(tmp_path / "box")}, entrypoint=["absent"]).exit_code == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_task_that_ignores_term_and_what_it_started(tmp_path: Path, scratch: Path, home: Path,
                                                                    number: signal.Signals) -> None:
    cube = write_cube(tmp_path / "cube", STUBBORN)
    out = cube / "workspace" / "out"
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(cube), "--grace", "1s"],
                             env={**clean_environment(home), "TMPDIR": str(scratch)}, stderr=subprocess.PIPE)
    until = time.monotonic() + 20
    while not (out / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == -number, said
    assert (out / "asked").read_text() == "TERM\n" and b"Bus error" not in said
    assert living(f"sleep {LASTING}") == []


def test_a_time_limit_ends_it_too_and_a_finished_task_leaves_no_children(run: Run) -> None:
    ended = run(STUBBORN, None, "--timeout", "1s", "--grace", "1s")
    assert ended.exit_code == 124
    assert run(f"(setsid sleep {LASTING}3 &); sleep {LASTING}4 & exit 5").exit_code == 5
    assert living(f"sleep {LASTING}") == []


# --- what the task sees ----------------------------------------------------------------------------------------------


def test_inputs_cannot_be_written_and_outputs_are_the_callers(run: Run, tmp_path: Path) -> None:
    parameters = {"inputs": {"data": {"type": "directory"}}, "outputs": {"out": {"type": "directory"},
                                                                       "all": {"type": "directory", "default": "./"}}}
    ended = run("cat /mlcube_io0/a; echo x >/mlcube_io0/a || echo x >/mlcube_io2/data/a || ls /mlcube_io2/.mlcube; "
                "mkdir /mlcube_io1/sub; echo y >/mlcube_io1/sub/b", parameters=parameters)
    assert (ended.exit_code, ended.stdout) == (0, "in\n"), ended.stderr
    workspace = tmp_path / "cube" / "workspace"
    assert (workspace / "data" / "a").read_text() == "in\n"
    assert (workspace / "out/sub/b").stat().st_uid == os.getuid()


def test_odd_paths_are_mounted(run: Run, tmp_path: Path) -> None:
    odd = 'a, "b":=\n\té'
    (tmp_path / odd).mkdir()
    (tmp_path / odd / "file").write_text("seen\n")
    ended = run("cat /mlcube_io0/file", None, f"data={tmp_path / odd}",
                parameters={"inputs": {"data": {"type": "directory"}}})
    assert ended.stdout == "seen\n", ended.stderr


def test_only_declared_variables_are_there_and_any_value_survives(run: Run) -> None:
    value = 'a,b="c" \'d\' $HOME `id` \\ \nlast'
    ended = run('printf "%s|" "$VALUE" "$MINE" "$LEAK" "$OTHER" "$CUDA_VISIBLE_DEVICES" "$SLURM_JOB_ID" "$PYTHONUNBUFFERED"',
                {"env": {"VALUE": value, "MINE": None}},
                env={"MINE": "mine", "APPTAINERENV_LEAK": "l", "SINGULARITYENV_LEAK": "l", "OTHER": "o",
                     "CUDA_VISIBLE_DEVICES": "3", "SLURM_JOB_ID": "7"})
    assert ended.stdout == f"{value}|mine|||3|7|1|", ended.stderr


def test_the_network_the_devices_and_the_home_are_the_tasks_own(run: Run, home: Path) -> None:
    (home / "private").write_text("x")
    ended = run('grep -c : /proc/net/dev; ls -A ~ /tmp; echo x >~/mine; echo "[$CUDA_VISIBLE_DEVICES]$NVIDIA_VISIBLE_DEVICES"; '
                'pwd; ls /dev/nvidia* /dev/kfd 2>/dev/null', {"network": "none", "gpus": "none"},
                env={"CUDA_VISIBLE_DEVICES": "0"})
    assert ended.stdout.splitlines()[0] == "1", "only lo"
    assert "private" not in ended.stdout and f"[]void\n{home}\n" in ended.stdout
    assert not (home / "mine").exists()


def test_what_run_args_say_and_no_containment_are_honoured(run: Run) -> None:
    ended = run("hostname; env | grep ^KEPT", {"run_args": "--uts --hostname box", "cleanenv": False, "contain": False},
                env={"KEPT": "1"})
    assert ended.stdout == "box\nKEPT=1\n", ended.stderr
    assert "sees your home directory" in ended.stderr
    assert run("id -u", {"fakeroot": True}).stdout == "0\n"


def test_what_a_task_with_fakeroot_gives_away_goes_too(run: Run) -> None:
    """`scratch` sees to it that nothing is left."""
    ended = run("mkdir ~/d /tmp/e; touch ~/d/f /tmp/e/f; chown -R 5:5 ~/d /tmp/e; chmod 0 ~/d; echo done", {"fakeroot": True})
    assert (ended.stdout, ended.stderr.count("something is left")) == ("done\n", 0), ended.stderr


def test_a_task_runs_wherever_its_caller_stands_and_whatever_tmpdir_is_called(run: Run, tmp_path: Path) -> None:
    odd, locked = tmp_path / "a b:c,d", tmp_path / "locked"
    odd.mkdir()
    locked.mkdir()
    ended = run("echo said", env={"TMPDIR": str(odd)})
    assert ended.stdout == "said\n" and "/tmp is used instead" in ended.stderr
    program = ("import os, sys; os.chdir(sys.argv.pop(1)); os.chmod('.', 0); from mlcube_cli.__main__ import main; "
               "sys.exit(main())")
    line = [sys.executable, "-c", program, str(locked), "run", str(tmp_path / "cube")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=clean_environment(tmp_path / "home"))
    locked.chmod(0o700)
    assert done.stdout == "said\n", done.stderr


def test_standard_input_is_empty_unless_it_is_asked_for(run: Run) -> None:
    assert run("cat; echo end").stdout == "end\n"


# --- images ----------------------------------------------------------------------------------------------------------


RECIPE = f"""
    Bootstrap: docker-archive
    From: {IMAGE_FILES}/tiny.tar
    %files
      greet.sh /greet.sh
    %post
      id -u >/built
    %runscript
      exec sh /greet.sh "$@\""""


def recipe_cube(place: Path, **options: Any) -> Path:
    cube = {"name": "built", "singularity": {"image": "greet.sif", **options}, "tasks": {"hello": {"parameters": OUT}}}
    return write_tree(place, {"mlcube.yaml": json.dumps(cube), "Singularity.recipe": RECIPE,
                              "greet.sh": 'echo "$@"; cat /built\n'})


def test_a_recipe_is_built_once_by_runs_that_start_together(tmp_path: Path, scratch: Path, home: Path) -> None:
    cube = recipe_cube(tmp_path / "a cube")
    environment = {**clean_environment(home), "TMPDIR": str(scratch)}
    runs = [subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(cube), f"out=out{number}"], env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for number in range(2)]
    said = [child.communicate(timeout=120) for child in runs]
    assert [stdout.splitlines() for stdout, _ in said] == [["hello --out=/mlcube_io0", "0"]] * 2, said
    assert sum("build image" in stderr for _, stderr in said) == 1
    assert [path.name for path in (cube / "workspace/.image").iterdir()] == ["greet.sif"]
    assert not (home / ".apptainer/cache").exists(), "a small home is not filled"


def test_force_builds_anew_and_a_build_that_fails_keeps_the_old_image(tmp_path: Path, scratch: Path,
                                                                      run_mlcube: RunMLCube) -> None:
    cube = recipe_cube(tmp_path / "cube", build_args="--sandbox --fakeroot", image="box")
    environment = {"TMPDIR": str(scratch)}
    assert run_mlcube("configure", str(cube), env=environment).exit_code == 0
    image = cube / "workspace/.image/box"
    assert (image / "greet.sh").is_file()
    (cube / "greet.sh").write_text("echo new\n")
    assert run_mlcube("configure", str(cube), "--force", env=environment).exit_code == 0
    assert run_mlcube("run", str(cube), env=environment).stdout == "new\n"
    (cube / "Singularity.recipe").write_text("Bootstrap: docker-archive\nFrom: /no/such.tar\n")
    failed = run_mlcube("configure", str(cube), "--force", env=environment)
    assert failed.exit_code == 5 and "could not build image" in failed.stderr
    assert [path.name for path in image.parent.iterdir()] == ["box"]


def test_a_docker_archive_becomes_the_image(tmp_path: Path, scratch: Path, run_mlcube: RunMLCube) -> None:
    options = {"docker_image": "mlcube-test/tiny:latest", "tar_file": str(IMAGE_FILES / "tiny.tar")}
    task = {"entrypoint": ["echo", "made"], "parameters": OUT}
    write_tree(tmp_path / "cube", {"mlcube.yaml": json.dumps({"singularity": options, "tasks": {"main": task}})})
    ended = run_mlcube("run", str(tmp_path / "cube"), env={"TMPDIR": str(scratch)})
    assert ended.stdout == "made --out=/mlcube_io0\n", ended.stderr
    assert (tmp_path / "cube/workspace/.image/mlcubetesttinylatest.sif").is_file()


def test_what_a_dry_run_prints_does_the_same_and_leaves_nothing(run: Run, scratch: Path) -> None:
    script = run("echo said; exit 3", None, "--dry-run").stdout
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (3, "said\n"), done.stderr
    assert list(scratch.iterdir()) == []


def test_the_seed_pages_commands_build_and_run(tmp_path: Path, scratch: Path, run_mlcube: RunMLCube) -> None:
    """`mlcube_singularity configure|run --mlcube=. --platform=platforms/singularity.yaml --task=run/hello.yaml`."""
    image = tmp_path / "opt/singularity/hello-0.01.simg"
    head = "schema_version: 1.0.0\n"
    cube = write_tree(tmp_path / "cube", {
        "mlcube.yaml": f"{head}schema_type: mlcube_root\nname: hello\nauthor: a\nversion: 0.1.0\n"
                       "mlcube_spec_version: 0.1.0\ntasks:\n  - tasks/hello.yaml\n",
        "tasks/hello.yaml": f"{head}schema_type: mlcube_task\ninputs: []\noutputs:\n  - name: out\n    type: directory\n",
        "run/hello.yaml": f"{head}schema_type: mlcube_invoke\ntask_name: hello\ninput_binding: {{}}\n"
                          "output_binding:\n  out: $WORKSPACE/out\n",
        "platforms/singularity.yaml": f"{head}schema_type: mlcube_singularity\nimage: {image}\n",
        "build/Singularity.recipe": RECIPE, "build/greet.sh": 'echo "$@"; touch "${2#--out=}/done"\n',
    })
    applet = [sys.executable, "-c", "import sys; sys.argv[0] = 'mlcube_singularity'; from mlcube_cli.__main__ import main; "
                                    "sys.exit(main())"]
    words = ("--mlcube=.", "--platform=platforms/singularity.yaml")
    configured = run_mlcube("configure", *words, cwd=cube, command=applet, env={"TMPDIR": str(scratch)})
    assert configured.exit_code == 0, configured.stderr
    assert image.is_file()
    ended = run_mlcube("run", *words, "--task=run/hello.yaml", cwd=cube, command=applet, env={"TMPDIR": str(scratch)})
    assert ended.stdout == "hello --out=/mlcube_io0\n", ended.stderr
    assert (cube / "workspace/out/done").is_file()
