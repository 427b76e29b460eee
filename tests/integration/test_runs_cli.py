"""Records as users see them: what a run leaves, and `mlcube runs` list, show, verify and rerun."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import CHECKOUT, TINY_IMAGE, RunMLCube, clean_environment
from tests.cubes import write_tree

CUBE = """
    name: told
    version: 1.2
    tasks:
      make:
        entrypoint: [sh, make.sh]
        parameters:
          inputs: {data: data, one: {type: file, default: one.txt}, word: {type: text, default: hello}}
          outputs: {out: out/, file: {type: file, default: made.txt}}
      read:
        entrypoint: [sh, read.sh]
        parameters: {inputs: {from: {type: directory, default: out}}}
    local: {}
    """
MAKE = """
    for word; do case $word in --out=*) out=${word#*=} ;; --file=*) file=${word#*=} ;; esac; done
    mkdir -p "$out/sub"; echo a > "$out/a"; echo b > "$out/sub/b"; echo made > "$file"; echo printed; echo said >&2
    """


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "cube", {"mlcube.yaml": CUBE, "make.sh": MAKE, "read.sh": 'cat "${1#*=}"/a\n',
                                          "workspace/data/x": "1\n",
                                          "workspace/one.txt": "one\n"})


def check_schema(name: str, text: str) -> Any:
    document = json.loads(text)
    jsonschema.Draft202012Validator(json.loads((CHECKOUT / "schemas" / f"{name}.json").read_text())).validate(document)
    return document


def records(cube: Path) -> list[Any]:
    found = [check_schema("mlcube.record.v1", path.read_text())
             for path in (cube / "workspace/.mlcube/runs").glob("*/record.json")]
    return sorted(found, key=lambda record: record["started"])  # ids of one second are in no order


def only(cube: Path) -> Any:
    (record,) = records(cube)
    return record


def sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def verdicts(run_mlcube: RunMLCube, cube: Path, *words: str) -> tuple[int, dict[str, str]]:
    done = run_mlcube("runs", "verify", *words, "--json", cwd=cube)
    (run,) = check_schema("mlcube.verify.v1", done.stdout)["runs"]
    return done.exit_code, {one["name"]: one["verdict"] for one in run["checked"]}


# --- the record ------------------------------------------------------------------------------------------------------


def test_a_record_says_what_ran_on_what_and_what_came_of_it(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", "--timeout", "1m", cwd=cube).exit_code == 0
    record = only(cube)
    assert record["cube"] == {"name": "told", "version": "1.2", "root": str(cube)}
    assert record["definition"]["files"] == [{"path": "mlcube.yaml", "sha256": sha256((cube / "mlcube.yaml").read_text())}]
    assert record["code"]["files"] == 3 and record["code"]["sha256"] and record["git"] is None
    assert (record["platform"], record["runner"], record["timeout"]) == ("local", "local", 60)
    assert [engine["name"] for engine in record["engines"]] == ["python"]
    assert {one["name"]: one["value"] for one in record["parameters"]} == {
        "data": f"{cube}/workspace/data", "one": f"{cube}/workspace/one.txt", "word": "hello",
        "out": f"{cube}/workspace/out", "file": f"{cube}/workspace/made.txt"}
    assert [(one["name"], one["size"], one["files"], one["hash"]) for one in (*record["inputs"], *record["outputs"])] == [
        ("data", 2, 1, "full"), ("one", 4, 1, "full"), ("out", 4, 2, "full"), ("file", 5, 1, "full")]
    assert record["inputs"][1]["sha256"] == sha256("one\n") and record["outputs"][1]["sha256"] == sha256("made\n")
    assert record["execution"] == {"place": "", "host": os.uname().nodename, "user": record["user"],
                                   "directory": f"{cube}/workspace/.mlcube/runs/{record['run_id']}"}
    assert Path(record["logs"]["stdout"]).read_text() == "printed\n" and Path(record["logs"]["stderr"]).read_text() == "said\n"
    assert record["asked"]["task"] == "make" and record["asked"]["options"]["timeout"] == 60
    argv = record["plan"]["tasks"][0]["steps"][-1]["argv"]
    assert argv[1:3] == ["make.sh", f"--data={cube}/workspace/data"]


def test_a_later_tasks_inputs_are_those_that_an_earlier_one_made(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make,read", cwd=cube).stdout == "printed\na\n"
    made, read = records(cube)
    assert made["outputs"][0]["sha256"] == read["inputs"][0]["sha256"] is not None
    shown = run_mlcube("runs", "show", cwd=cube).stdout
    assert shown.count("status      succeeded, exit code 0") == 2 and "\njob " not in shown


def test_a_record_of_a_batch_job_is_shown_with_its_job_and_node(run_mlcube: RunMLCube, cube: Path) -> None:
    run_mlcube("run", ".", "--task", "make", cwd=cube)
    (path,) = cube.glob("workspace/.mlcube/runs/*/record.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "execution": {**record["execution"], "job": "4712_7", "node": "node17"}}))
    assert "\njob         4712_7\nnode        node17\n" in run_mlcube("runs", "show", cwd=cube).stdout


@pytest.mark.parametrize(("hashing", "expected"), [("full", "full"), ("sizes", "sizes"), ("none", "none")])
def test_how_much_is_hashed_can_be_said(run_mlcube: RunMLCube, cube: Path, hashing: str, expected: str) -> None:
    assert run_mlcube("run", ".", "--task", "make", "--hash", hashing, cwd=cube).exit_code == 0
    record = only(cube)
    entries = [*record["inputs"], *record["outputs"], record["code"]]
    assert {entry["hash"] for entry in entries} == {expected} and record["hashing"] == hashing
    assert all(bool(entry["sha256"]) == (expected == "full") for entry in entries)
    assert (cube / "workspace/.mlcube/manifests").exists() == (expected != "none")


def test_an_unknown_way_of_hashing_is_refused(run_mlcube: RunMLCube, cube: Path) -> None:
    done = run_mlcube("run", ".", "--task", "make", "--hash", "md5", cwd=cube)
    assert done.exit_code == 2 and "--hash" in done.stderr


@pytest.mark.parametrize("word", ["-Plocal.env.TOKEN=hunter2", "-Plocal.env={TOKEN: hunter2}",
                                  "-Plocal={env: {TOKEN: hunter2}}", "-Prunner.env.TOKEN=hunter2"])
def test_a_secret_of_the_command_line_is_in_no_file_that_a_run_leaves(run_mlcube: RunMLCube, cube: Path, word: str) -> None:
    (cube / "make.sh").write_text('test "$TOKEN" = hunter2\n')
    assert run_mlcube("run", ".", "--task", "make", word, cwd=cube).exit_code == 0
    written = [path for path in (cube / "workspace/.mlcube").rglob("*") if path.is_file()]
    assert len(written) >= 3 and all(b"hunter2" not in path.read_bytes() for path in written)
    assert [text for text in only(cube)["asked"]["overrides"] if text.endswith("=***")]
    again = run_mlcube("runs", "rerun", cwd=cube)
    assert again.exit_code == 2 and "may be a secret" in again.stderr and "-P " in again.stderr
    assert run_mlcube("runs", "rerun", word, cwd=cube).exit_code == 0


def test_a_killed_mlcube_leaves_a_record_that_is_lost(run_mlcube: RunMLCube, cube: Path, home: Path) -> None:
    (cube / "make.sh").write_text("echo started; exec sleep 60\n")
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", ".", "--task", "make"], cwd=cube,
                             env=clean_environment(home), stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None and child.stdout.readline() == b"started\n"
    listed = json.loads(run_mlcube("runs", "list", "--json", cwd=cube).stdout)["runs"]
    assert [run["status"] for run in listed] == ["running"]
    until = time.monotonic() + 30
    while not (only(cube)["engines"] and only(cube)["code"]):
        assert time.monotonic() < until
    child.kill()
    child.wait()
    child.stdout.close()
    try:
        assert only(cube)["status"] == "running"
        listed = check_schema("mlcube.runs.v1", run_mlcube("runs", "list", "--json", cwd=cube).stdout)["runs"]
        assert [run["status"] for run in listed] == ["lost"]
        assert " lost " in run_mlcube("runs", cwd=cube).stdout
        assert "lost, exit code 4: " in run_mlcube("runs", "show", cwd=cube).stdout
        record = only(cube)
        assert (record["status"], record["exit_code"], record["ended"]) == ("lost", 4, None)
        assert record["engines"] and record["code"]["sha256"]  # learnt before mlcube was killed
        assert verdicts(run_mlcube, cube) == (0, {"data": "same", "one": "same", "out": "unknown", "file": "unknown"})
    finally:
        _end_sleeper(records(cube)[0]["run_id"])


def _end_sleeper(run_id: str) -> None:
    """The task that the killed mlcube left behind."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MLCUBE_RUN_ID={run_id}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


def test_a_cancelled_run_has_a_whole_record_at_once(run_mlcube: RunMLCube, cube: Path, home: Path) -> None:
    (cube / "make.sh").write_text(f"{MAKE}\necho started; exec sleep 60\n")
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", ".", "--task", "make"], cwd=cube,
                             env=clean_environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True)
    assert child.stdout is not None
    while b"started" not in child.stdout.readline():
        pass
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    child.communicate()
    assert child.returncode == -signal.SIGINT and time.monotonic() - began < 20
    record = only(cube)
    assert (record["status"], record["exit_code"]) == ("cancelled", 130)
    assert [(one["kind"], one["size"]) for one in record["outputs"]] == [("directory", 4), ("file", 5)]


@pytest.mark.parametrize("engine", [pytest.param(name, marks=getattr(pytest.mark, name))
                                    for name in ("docker", "podman", "singularity")])
def test_a_container_runs_record_names_its_image_and_engine(run_mlcube: RunMLCube, tmp_path: Path, engine: str) -> None:
    from tests.conftest import IMAGE_FILES

    image = {"image": TINY_IMAGE} if engine != "singularity" else {"image": str(IMAGE_FILES / "tiny.sif")}
    runner = "singularity" if engine == "singularity" else "docker"
    cube = write_tree(tmp_path / "cube", {"workspace/data/x": "1\n", "mlcube.yaml": json.dumps({
        "name": "c", runner: {**image, "env": {"TOKEN": "${oc.env:TOKEN}"}}, "tasks": {"t": {
            "entrypoint": "sh -c 'cat /mlcube_io0/x > /mlcube_io1/y; echo $TOKEN'", "parameters": {
                "inputs": {"data": {"type": "directory"}}, "outputs": {"out": {"type": "directory"}}}}}})})
    done = run_mlcube("run", str(cube), f"--platform={engine}", env={"TOKEN": "hunter2"})
    assert (done.exit_code, done.stdout) == (0, "hunter2\n"), done.stderr
    record = only(cube)
    assert record["image"]["name"] == image["image"] and len(record["image"]["id"]) == 71
    if engine == "singularity":
        with open(image["image"], "rb") as stream:
            assert record["image"]["sha256"] == f"sha256:{hashlib.sha256(stream.read()).hexdigest()}"
    ((name, version),) = [(one["name"], one["version"]) for one in record["engines"]]
    assert name in (engine, "apptainer") and version[0].isdigit()
    assert record["inputs"][0]["sha256"] and record["outputs"][0]["files"] == 1
    assert "hunter2" not in json.dumps(record)
    assert verdicts(run_mlcube, cube) == (0, {"data": "same", "out": "same"})
    again = run_mlcube("runs", "rerun", "--strict", cwd=cube, env={"TOKEN": "hunter2"})
    assert again.exit_code == 0 and "not as in run" not in again.stderr, again.stderr
    assert len(records(cube)) == 2


def test_a_run_in_the_background_has_the_same_record(run_mlcube: RunMLCube, cube: Path) -> None:
    (cube / "make.sh").write_text(f"{MAKE}\nwhile test ! -e go; do sleep 0.1; done\n")
    assert run_mlcube("run", ".", "--task", "make", "--detach", cwd=cube).exit_code == 0
    listed = json.loads(run_mlcube("runs", "--json", cwd=cube).stdout)["runs"]
    assert [run["status"] for run in listed] == ["running"]
    early = only(cube)
    assert early["owner"] is None and [one["hash"] for one in early["inputs"]] == ["full", "full"]
    (cube / "workspace/one.txt").write_text("changed after the start\n")
    (cube / "go").touch()
    until = time.monotonic() + 30
    while json.loads(run_mlcube("runs", "--json", cwd=cube).stdout)["runs"][0]["status"] == "running":
        assert time.monotonic() < until
    record = only(cube)
    assert (record["status"], record["exit_code"], record["inputs"]) == ("succeeded", 0, early["inputs"])
    assert [one["hash"] for one in record["outputs"]] == ["full", "full"] and record["engines"] and record["code"]["sha256"]
    assert verdicts(run_mlcube, cube) == (3, {"data": "same", "one": "changed", "out": "same", "file": "same"})


def test_in_the_background_too_a_later_tasks_inputs_are_what_an_earlier_one_made(run_mlcube: RunMLCube, cube: Path) -> None:
    write_tree(cube, {"workspace/out/a": "of an earlier run\n"})
    (cube / "make.sh").write_text(f"sleep 1{MAKE}")
    assert run_mlcube("run", ".", "--task", "make,read", "--detach", cwd=cube).exit_code == 0
    assert run_mlcube("wait", cwd=cube).exit_code == 0
    made, read = records(cube)
    assert made["outputs"][0]["sha256"] == read["inputs"][0]["sha256"] is not None
    assert verdicts(run_mlcube, cube, read["run_id"]) == (0, {"from": "same"})


def test_in_the_background_a_task_waits_and_never_starts_after_a_failure(run_mlcube: RunMLCube, cube: Path) -> None:
    def listed() -> list[tuple[str, str, int | None]]:
        runs = check_schema("mlcube.runs.v1", run_mlcube("runs", "--json", cwd=cube).stdout)["runs"]
        return sorted((run["task"], run["status"], run["exit_code"]) for run in runs)

    (cube / "workspace/out").mkdir()
    (cube / "make.sh").write_text("while test ! -e go; do sleep 0.1; done; exit 7\n")
    assert run_mlcube("run", ".", "--task", "make,read", "--detach", cwd=cube).exit_code == 0
    assert listed() == [("make", "running", None), ("read", "queued", None)]
    (cube / "go").touch()
    assert run_mlcube("wait", cwd=cube).exit_code == 7
    assert listed() == [("make", "failed", 7), ("read", "cancelled", None)]
    assert "the task never started" in run_mlcube("runs", "verify", cwd=cube).stdout


# --- list and show ---------------------------------------------------------------------------------------------------


def test_runs_are_found_by_id_by_part_and_by_path(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make,read", cwd=cube).exit_code == 0
    first, second = records(cube)
    command = first["run_id"].rpartition("-")[0]
    listed = run_mlcube("runs", "list", cwd=cube).stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [[second["run_id"], "read", "succeeded"],
                                                         [first["run_id"], "make", "succeeded"]]
    place = first["execution"]["directory"]
    for word in (first["run_id"], f"{command[-6:]}-1", place, f"{place}/record.json"):
        shown = json.loads(run_mlcube("runs", "show", word, "--json", cwd=cube).stdout)
        assert shown == first, word
    both = json.loads(run_mlcube("runs", "show", command, "--json", cwd=cube).stdout)
    assert [run["task"] for run in both["runs"]] == ["make", "read"]
    unknown = run_mlcube("runs", "show", "nothing-like-it", cwd=cube)
    assert unknown.exit_code == 2 and "there is no run 'nothing-like-it'" in unknown.stderr


def test_where_no_cube_is_all_runs_are_listed(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", cwd=cube).exit_code == 0
    (tmp_path / "empty").mkdir()
    for words in (["runs"], ["runs", "list", "--all"]):
        listed = run_mlcube(*words, cwd=tmp_path / "empty")
        assert only(cube)["run_id"] in listed.stdout and str(cube) in listed.stdout
    assert run_mlcube("runs", "verify", only(cube)["run_id"], cwd=tmp_path / "empty").exit_code == 0


def test_a_broken_record_is_named_and_in_nobodys_way(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", cwd=cube).exit_code == 0
    good = only(cube)["run_id"]
    for name, text in {"aaaaaa": '{"schema": "mlcube.rec', "bbbbbb": '{"schema": "other"}', "cccccc": "[]",
                       "dddddd": '{"schema": "mlcube.record.v1"}'}.items():
        write_tree(cube / f"workspace/.mlcube/runs/20990101T000000-{name}-1", {"record.json": text})
    listed = run_mlcube("runs", cwd=cube)
    assert listed.exit_code == 0 and good in listed.stdout and listed.stderr.count("warning: ") == 3
    assert "aaaaaa-1/record.json is not a whole record" in listed.stderr
    broken = run_mlcube("runs", "verify", str(cube / "workspace/.mlcube/runs/20990101T000000-aaaaaa-1"), cwd=cube)
    assert broken.exit_code == 3 and "not a whole record" in broken.stderr
    for verb in ("show", "verify", "rerun"):
        bare = run_mlcube("runs", verb, str(cube / "workspace/.mlcube/runs/20990101T000000-dddddd-1"), cwd=cube)
        assert "Traceback" not in bare.stderr and bare.exit_code in (0, 3), bare


@pytest.mark.parametrize("words", [["nonsense"], ["list", "x"], ["show", "a", "b"], ["list", "--strict"], ["show", "--dry-run"],
                                   ["verify", "-Pa=b"]])
def test_what_runs_does_not_take_is_refused(run_mlcube: RunMLCube, cube: Path, words: list[str]) -> None:
    done = run_mlcube("runs", *words, cwd=cube)
    assert done.exit_code == 2 and "hint: mlcube runs" in done.stderr and done.stdout == ""


def test_a_name_cannot_steer_the_terminal(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", "out=o\x1b[31m\nx", cwd=cube).exit_code == 0
    for verb in ("list", "show", "verify"):
        shown = run_mlcube("runs", verb, cwd=cube).stdout
        assert "\x1b" not in shown and "\nx" not in shown
    assert verdicts(run_mlcube, cube)[0] == 0


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_names_what_differs(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", cwd=cube).exit_code == 0
    assert verdicts(run_mlcube, cube) == (0, {"data": "same", "one": "same", "out": "same", "file": "same"})
    workspace = cube / "workspace"
    before = (workspace / "out/a").stat()
    (workspace / "out/a").write_text("A\n")
    os.utime(workspace / "out/a", ns=(before.st_atime_ns, before.st_mtime_ns))  # one byte, with size and time as they were
    (workspace / "out/new").write_text("")
    (workspace / "out/sub/b").unlink()
    (workspace / "one.txt").write_text("two\n")
    (workspace / "made.txt").unlink()
    assert verdicts(run_mlcube, cube) == (3, {"data": "same", "one": "changed", "out": "changed", "file": "gone"})
    told = run_mlcube("runs", "verify", cwd=cube).stdout
    assert [line.split()[:2] for line in told.splitlines()[4:7]] == [["CHANGED", "a"], ["NEW", "new"], ["GONE", "sub/b"]]
    shutil.rmtree(workspace / ".mlcube/manifests")
    assert "which of its files cannot be told" in run_mlcube("runs", "verify", cwd=cube).stdout


def test_verify_says_what_it_cannot_tell(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", "--hash", "none", cwd=cube).exit_code == 0
    code, found = verdicts(run_mlcube, cube)
    assert code == 3 and set(found.values()) == {"unknown"}
    told = run_mlcube("runs", "verify", cwd=cube)
    assert "hashing was turned off" in told.stdout and "nothing could be compared" in told.stderr
    (cube / "workspace/made.txt").unlink()
    assert verdicts(run_mlcube, cube)[1]["file"] == "gone"


def test_sizes_and_times_tell_less_and_say_so(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", "--hash", "sizes", cwd=cube).exit_code == 0
    done = run_mlcube("runs", "verify", cwd=cube)
    assert done.exit_code == 0 and done.stdout.count("by size and time only") == 4
    (cube / "workspace/out/a").write_text("longer\n")
    assert verdicts(run_mlcube, cube)[1]["out"] == "changed"


def test_a_record_of_another_machine(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "far", {"x": "1\n"})
    assert run_mlcube("run", ".", "--task", "make", f"data={tmp_path}/far", cwd=cube).exit_code == 0
    path = Path(only(cube)["execution"]["directory"]) / "record.json"
    record = json.loads(path.read_text())
    record["host"] = record["owner"]["host"] = "elsewhere"
    path.write_text(json.dumps(record))
    shutil.rmtree(tmp_path / "far")
    (cube / "workspace/made.txt").unlink()
    code, found = verdicts(run_mlcube, cube)
    assert code == 3 and found == {"data": "unknown", "one": "same", "out": "same", "file": "gone"}
    assert run_mlcube("runs", "verify", "--strict", cwd=cube).exit_code == 3


def test_what_stays_on_another_machine_is_not_looked_at(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", cwd=cube).exit_code == 0
    path = Path(only(cube)["execution"]["directory"]) / "record.json"
    record = json.loads(path.read_text())
    record["inputs"][0].update(kind="remote", sha256=None, manifest=None, hash="none")
    record["execution"].update(place="gpu-box", host="far.example.org")
    path.write_text(json.dumps(record))
    assert verdicts(run_mlcube, cube) == (0, {"data": "unknown", "one": "same", "out": "same", "file": "same"})
    assert "it stays on far.example.org" in run_mlcube("runs", "verify", cwd=cube).stdout
    assert run_mlcube("runs", "verify", "--strict", cwd=cube).exit_code == 3


# --- rerun -----------------------------------------------------------------------------------------------------------


def plans(cube: Path) -> list[str]:
    """The plans of the records, with nothing in them that each run has of its own."""
    return [json.dumps(record["plan"]).replace(record["run_id"], "RUN") for record in records(cube)]


def test_rerun_makes_the_same_plan_from_wherever_it_is_typed(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    write_tree(tmp_path, {"near/x": "1\n"})
    words = ("--task", "make", "data=./near", "out=other", "word=a b\n", "-Plocal.workdir=.",
             "--timeout", "2m", "--workspace", "cube/elsewhere", "--grace", "3s")
    write_tree(cube, {"elsewhere/one.txt": "one\n"})
    done = run_mlcube("run", "cube", *words, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    run_id = next((cube / "elsewhere/.mlcube/runs").iterdir()).name
    again = run_mlcube("runs", "rerun", str(cube / "elsewhere/.mlcube/runs" / run_id), "--strict", cwd=cube / "workspace")
    assert again.exit_code == 0 and again.stderr == "said\n", again.stderr
    found = [json.loads(path.read_text()) for path in (cube / "elsewhere/.mlcube/runs").glob("*/record.json")]
    first, second = sorted(found, key=lambda record: str(record["started"]))
    assert json.dumps(first["plan"]).replace(first["run_id"], "") == json.dumps(second["plan"]).replace(second["run_id"], "")
    assert {**first["asked"], "rerun_of": first["run_id"]} == second["asked"] and second["timeout"] == 120


def test_rerun_of_a_command_runs_its_tasks_in_order(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make,read", cwd=cube).exit_code == 0
    command = records(cube)[0]["run_id"].rpartition("-")[0]
    again = run_mlcube("runs", "rerun", command, cwd=cube)
    assert (again.exit_code, again.stdout) == (0, "printed\na\n")
    assert [record["task"] for record in records(cube)] == ["make", "read", "make", "read"]
    assert run_mlcube("runs", "rerun", f"{command}-2", cwd=cube).stdout == "a\n"
    assert json.loads(run_mlcube("runs", "rerun", "--json", cwd=cube).stdout)["tasks"][0]["task"] == "read"
    shutil.rmtree(cube / "workspace/out")  # the first one makes it again
    strict = run_mlcube("runs", "rerun", command, "--strict", cwd=cube)
    assert (strict.exit_code, strict.stdout) == (0, "printed\na\n"), strict.stderr


def test_rerun_says_what_differs_and_runs_it_as_it_is_now(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", cwd=cube).exit_code == 0
    (cube / "make.sh").write_text(MAKE + "# changed\n")
    (cube / "mlcube.yaml").write_text((cube / "mlcube.yaml").read_text().replace("[sh, make.sh]", "[sh, -e, make.sh]"))
    (cube / "workspace/data/x").write_text("2\n")
    strict = run_mlcube("runs", "rerun", "--strict", cwd=cube)
    assert strict.exit_code == 3 and len(records(cube)) == 1
    for part in ("the definition has changed: mlcube.yaml", "the cube's files have changed: make.sh",
                 "input 'data' has changed", "step 'run task make' is another one"):
        assert part in strict.stderr
    dry = run_mlcube("runs", "rerun", "--dry-run", cwd=cube)
    assert dry.exit_code == 0 and "sh -e make.sh" in dry.stdout and len(records(cube)) == 1
    again = run_mlcube("runs", "rerun", cwd=cube)
    assert again.exit_code == 0 and again.stderr.count("warning: not as in run") == 4, again.stderr


def test_a_cube_that_was_moved_runs_again_where_it_is(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", "one=./workspace/data/x", cwd=cube).exit_code == 0
    moved = tmp_path / "moved here"
    cube.rename(moved)
    assert verdicts(run_mlcube, moved)[0] == 0
    again = run_mlcube("runs", "rerun", "--strict", cwd=moved)
    assert again.exit_code == 0 and again.stderr == "said\n", again.stderr
    assert [record["cube"]["root"] for record in records(moved)] == [str(cube), str(moved)]
    shutil.rmtree(moved / "workspace/out")
    (moved / "mlcube.yaml").rename(moved / "other.yaml")
    run_id = next((moved / "workspace/.mlcube/runs").iterdir()).name
    gone = run_mlcube("runs", "rerun", run_id, cwd=moved)
    assert gone.exit_code == 3 and "hint: " in gone.stderr


def test_a_record_of_an_older_version_cannot_be_run_again(run_mlcube: RunMLCube, cube: Path) -> None:
    assert run_mlcube("run", ".", "--task", "make", cwd=cube).exit_code == 0
    path = Path(only(cube)["execution"]["directory"]) / "record.json"
    record = json.loads(path.read_text())
    for key in ("asked", "inputs", "outputs", "owner", "execution", "definition", "code", "engines"):
        record.pop(key)
    path.write_text(json.dumps(record))
    assert run_mlcube("runs", cwd=cube).exit_code == run_mlcube("runs", "show", cwd=cube).exit_code == 0
    done = run_mlcube("runs", "rerun", cwd=cube)
    assert done.exit_code == 3 and "an older version wrote it" in done.stderr
    assert verdicts(run_mlcube, cube) == (3, dict.fromkeys(("data", "one", "out", "file"), "unknown"))
