"""The command line as a user meets it, on the local platform: exit codes, streams, files, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import CHECKOUT, RunMLCube, clean_environment
from tests.cubes import write_tree

CUBE = """
    name: paths
    version: 1.10
    tasks:
      write:
        entrypoint: sh write.sh
        parameters:
          outputs: {out: {type: directory, default: made}}
      read:
        entrypoint: sh read.sh
        parameters:
          inputs: {in: {type: file, default: made/file}, code: {type: file, default: code}}
    local:
      env: {GREETING: hello}
"""
WRITE = 'for word; do out=${word#--out=}; done; echo "$GREETING" > "$out/file"; echo wrote; echo progress >&2'
READ = """
    for word; do case $word in --in=*) in=${word#--in=};; --code=*) code=${word#--code=};; esac; done
    cat "$in"; exit "$(cat "$code")"
"""


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "my cube", {"mlcube.yaml": CUBE, "write.sh": WRITE, "read.sh": READ,
                                             "workspace/code": "0\n"})


def check_schema(name: str, text: str) -> dict:
    document = json.loads(text)
    schema = json.loads((CHECKOUT / "schemas" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["schema"] == name
    return document


def test_tasks_run_in_order_and_their_output_streams_through(run_mlcube: RunMLCube, cube: Path) -> None:
    done = run_mlcube("run", "my cube", "--task", "write,read")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "wrote\nhello\n", "progress\n")


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 124, 125, 126, 127, 137])
def test_a_tasks_own_exit_code_comes_through(run_mlcube: RunMLCube, cube: Path, code: int) -> None:
    (cube / "workspace/code").write_text(str(code))
    done = run_mlcube("run", "my cube", "--task=write,read", "--json")
    result = check_schema("mlcube.result.v1", done.stdout)
    assert done.exit_code == result["exit_code"] == code
    assert (result["status"], [task["status"] for task in result["tasks"]]) == ("failed", ["succeeded", "failed"])
    assert "wrote" in done.stderr


def test_the_first_failure_stops_the_rest(run_mlcube: RunMLCube, cube: Path) -> None:
    (cube / "write.sh").write_text("exit 9")
    done = run_mlcube("run", "my cube", "--task", "write,read")
    assert done.exit_code == 9 and "task 'write' failed with exit code 9" in done.stderr and "hello" not in done.stdout


@pytest.mark.parametrize(("words", "code", "says"), [
    (["run", "my cube"], 2, "--task with one or more of: write, read"),
    (["run", "my cube", "--task", "wriet"], 2, "did you mean 'write'?"),
    (["run", "my cube", "--task", "write", "ou=x"], 2, "did you mean 'out'?"),
    (["run", "my cube", "--task", "write", "--platform", "locla"], 2, "did you mean 'local'?"),
    (["run", "my cube", "--task", "write", "-Plocal.evn.A=1"], 2, "did you mean 'env'?"),
    (["run", "my cube", "--tsak", "write"], 2, "did you mean '--task'?"),
    (["run", "my cube", "--task", "write", "--timeout", "soon"], 2, "--timeout 30m"),
    (["runn", "my cube"], 2, "did you mean 'mlcube run'?"),
    (["schema", "mlcube", "mlbox"], 2, "'mlbox' is one word too many"),
    (["describe", "my cube", "write"], 2, "describe takes a cube and nothing else"),
    (["run", "my cube", "--task", "read"], 3, "input 'in' is missing"),
    (["run", "my cube", "--task", "write", "out=code"], 3, "must be a directory"),
    (["run", "no cube", "--task", "write"], 3, "no cube"),
    (["run", "my cube", "--task", "write", "--network", "none"], 3, "cannot honour"),
    (["run", "my cube", "--task", "write", "-Plocal.python=python9.99", "-Plocal.requirements=[six]"], 4, "python9.99"),
])
def test_what_is_refused_says_what_to_type(run_mlcube: RunMLCube, cube: Path, words: list, code: int, says: str) -> None:
    done = run_mlcube(*words)
    assert done.exit_code == code and says in done.stderr and done.stdout == "", done
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (cube / "workspace").iterdir()) == ["code"], "nothing is created before all is checked"
    document = run_mlcube(*words, "--json")
    assert document.exit_code == code
    if words[0] == "run":
        assert check_schema("mlcube.result.v1", document.stdout)["exit_code"] == code


def test_a_failed_preparation_shows_the_command_and_its_last_lines(run_mlcube: RunMLCube, cube: Path) -> None:
    done = run_mlcube("run", "my cube", "--task", "write", '-Plocal.requirements=["no-such-package==1"]',
                      env={"PIP_NO_INDEX": "1", "PATH": "/usr/bin:/bin"})
    assert done.exit_code == 5 and "no-such-package" in done.stderr and "hint:" in done.stderr


def test_when_the_pull_and_the_build_fail_both_are_shown_without_secrets(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    fake = 'case $1 in image) echo "No such image" >&2; exit 1;; pull) echo "no route to registry" >&2; exit 1;;' \
           ' build) echo "built with $KEY" >&2; exit 2;; esac'
    write_tree(tmp_path, {"bin/docker": f"#!/bin/sh\n{fake}\n", "c/Dockerfile": "FROM scratch\n", "c/mlcube.yaml": """
        docker: {image: "mine:1", build_args: {KEY: "${oc.env:KEY}"}}
        tasks: {t: {}}
    """})
    (tmp_path / "bin/docker").chmod(0o755)
    done = run_mlcube("run", "c", env={"KEY": "hunter2", "PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert done.exit_code == 5 and "hunter2" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(("  $ ", "  | ", "hint: "))]
    assert said[:2] == ["  $ docker pull mine:1", "  | no route to registry"] and "KEY=*** docker build" in said[2]
    assert said[3] == "  | built with ***" and said[4].startswith("hint: mend ")


def test_a_dry_run_writes_nothing_and_its_script_does_the_same(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    done = run_mlcube("run", "my cube", "--task", "write,read", "--dry-run")
    assert done.exit_code == 0 and done.stdout.startswith("#!/bin/sh\n")
    assert sorted(path.name for path in (cube / "workspace").iterdir()) == ["code"]
    script = subprocess.run(["sh"], input=done.stdout, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (script.returncode, script.stdout) == (0, "wrote\nhello\n"), script.stderr
    plan = check_schema("mlcube.plan.v1", run_mlcube("run", "my cube", "--task", "write,read", "--dry-run", "--json").stdout)
    assert [task["task"] for task in plan["tasks"]] == ["write", "read"]
    assert plan["tasks"][1]["arguments"][0]["host_path"] == str(cube / "workspace/made/file")


def test_each_task_leaves_a_record(run_mlcube: RunMLCube, cube: Path) -> None:
    result = json.loads(run_mlcube("run", "my cube", "--task", "write", "--json", env={"TOKEN": "hunter2"}).stdout)
    text = Path(result["tasks"][0]["record"]).read_text()
    record = check_schema("mlcube.record.v1", text)
    assert (record["task"], record["status"], record["exit_code"]) == ("write", "succeeded", 0)
    assert record["cube"] == {"name": "paths", "version": "1.10", "root": str(cube)}
    assert record["run_id"] == result["tasks"][0]["run_id"] and "hunter2" not in text
    assert [path.name for path in (cube / "workspace/.mlcube/runs").iterdir()] == [record["run_id"]]


def test_a_workspace_that_takes_no_record_is_only_a_warning(run_mlcube: RunMLCube, cube: Path) -> None:
    (cube / "workspace/.mlcube").write_text("in the way")
    done = run_mlcube("run", "my cube", "--task", "write")
    assert done.exit_code == 0 and "leaves no record" in done.stderr


def test_values_from_the_command_line(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    assert run_mlcube("run", "my cube", "--task", "write", "out=./near", "-Plocal.env.GREETING=a=b c").exit_code == 0
    assert (tmp_path / "near/file").read_text() == "a=b c\n"
    assert run_mlcube("run", "my cube:write", "out=elsewhere", "--workspace", "ws").exit_code == 0
    assert (tmp_path / "ws/elsewhere/file").read_text() == "hello\n"
    done = run_mlcube("run", "--mlcube=my cube", "--task=read", "in=near/file")
    assert done.exit_code == 3 and "in=./near/file" in done.stderr


def test_stamp_and_deps_appear_only_after_success(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    (cube / "workspace/code").write_text("1")
    words = ("run", "my cube", "--task", "write,read", "--stamp", "s/stamp", "--deps", "s/deps")
    assert run_mlcube(*words).exit_code == 1 and not (tmp_path / "s").exists()
    (cube / "workspace/code").write_text("0")
    assert run_mlcube(*words).exit_code == 0
    assert (tmp_path / "s/stamp").exists()
    deps = (tmp_path / "s/deps").read_text()
    assert "my\\ cube/workspace/code" in deps and "made" not in deps and "mlcube.yaml" in deps


@pytest.mark.parametrize(("number", "words"), [
    (signal.SIGTERM, ()), (signal.SIGINT, ()), (signal.SIGHUP, ()), (signal.SIGTERM, ("--json",))])
def test_a_signal_ends_a_task_that_ignores_it(cube: Path, home: Path, tmp_path: Path, number: int, words: tuple) -> None:
    (cube / "write.sh").write_text("trap '' TERM INT HUP; (trap '' TERM; sleep 61) & echo started; sleep 61; sleep 61")
    child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", "run", str(cube), "--task=write", "--grace=1s", *words],
                             env={**clean_environment(home), "MARK": str(tmp_path)}, cwd=tmp_path, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stream = child.stderr if words else child.stdout
    assert stream is not None and stream.readline() == "started\n"
    before = time.monotonic()
    child.send_signal(number)
    stdout, _ = child.communicate(timeout=30)
    assert child.returncode == -number, "it dies by the signal, so that shells and make stop too"
    assert 0.5 < time.monotonic() - before < 10
    assert not processes_with(f"MARK={tmp_path}")
    record = json.loads(next((cube / "workspace/.mlcube/runs").glob("*/record.json")).read_text())
    assert (record["status"], record["exit_code"]) == ("cancelled", 128 + number)
    if words:
        assert check_schema("mlcube.result.v1", stdout)["status"] == "cancelled"


def test_an_input_that_an_earlier_task_did_not_make_is_a_problem_in_the_document(run_mlcube: RunMLCube, cube: Path) -> None:
    (cube / "write.sh").write_text("exit 0\n")
    done = run_mlcube("run", "my cube", "--task", "write,read", "--json")
    document = check_schema("mlcube.result.v1", done.stdout)
    assert (done.exit_code, document["status"], [task["status"] for task in document["tasks"]]) == (3, "invalid", ["succeeded"])
    assert document["problems"][0]["code"] == "missing-input" and "made/file" in document["problems"][0]["message"]


def test_a_time_limit_ends_a_task_with_124(run_mlcube: RunMLCube, cube: Path, tmp_path: Path) -> None:
    (cube / "write.sh").write_text("trap '' TERM; sleep 61; sleep 61")
    done = run_mlcube("run", "my cube", "--task=write", "--timeout=1s", "--grace=0.5s", env={"MARK": str(tmp_path)})
    assert done.exit_code == 124 and "its time was up" in done.stderr
    assert not processes_with(f"MARK={tmp_path}")


def processes_with(mark: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, (path.name for path in Path("/proc").iterdir())):
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("words", [
    ["--help"], ["run", "--help"], ["describe", "-h"], ["help", "validate"], ["links", "--help"]])
def test_help_has_examples(run_mlcube: RunMLCube, words: list) -> None:
    done = run_mlcube(*words)
    assert done.exit_code == 0 and "examples:" in done.stdout and done.stderr == ""


def test_describe_for_a_person_and_for_a_program(run_mlcube: RunMLCube, cube: Path) -> None:
    text = run_mlcube("describe", "my cube").stdout
    for part in ("paths 1.10", "write", "directory out = made", "local", "mlcube run 'my cube' --task write"):
        assert part in text
    document = check_schema("mlcube.describe.v1", run_mlcube("describe", "--json", "my cube").stdout)
    assert (document["version"], document["dialect"], document["root"]) == ("1.10", "inline", str(cube))


def test_validate_gives_a_verdict_for_each_cube(run_mlcube: RunMLCube, cube: Path) -> None:
    write_tree(cube.parent / "other", {
        "mlcube.yaml": "name: x\ntaks: {}\ntasks: {t: {entrypoint: 'true', paramters: {}}}\nlocal:\n"})
    done = run_mlcube("validate", "my cube", "other")
    assert done.stdout.splitlines() == ["my cube: valid", "other: valid (2 warnings)"] and done.exit_code == 0
    assert "warning:" in done.stderr and "other/mlcube.yaml:3:" in done.stderr and "did you mean 'parameters'?" in done.stderr
    strict = run_mlcube("validate", "--strict", "--json", "other")
    document = check_schema("mlcube.validate.v1", strict.stdout)
    assert strict.exit_code == 3 and not document["valid"] and {one["severity"] for one in document["problems"]} == {"error"}


def test_a_verdict_never_steers_the_terminal(run_mlcube: RunMLCube) -> None:
    done = run_mlcube("validate", "odd\x1b[31m")
    assert done.exit_code == 3 and done.stdout == "odd\\x1b[31m: invalid (1 error)\n"


def test_show_config_reads_back_and_names_origins(run_mlcube: RunMLCube, cube: Path) -> None:
    import yaml

    done = run_mlcube("show-config", "my cube", "-Plocal.env.A=1", "out=x", "--resolve")
    data = yaml.safe_load(done.stdout)
    assert data["tasks"]["write"]["parameters"]["outputs"]["out"]["default"] == "x"
    assert data["version"] == "1.10" or "1.10" in done.stdout
    assert "# -P" in done.stdout and "mlcube.yaml:13" in done.stdout
    check_schema("mlcube.show-config.v1", run_mlcube("show_config", "my cube", "--json").stdout)


def test_schemas_are_listed_and_printed(run_mlcube: RunMLCube) -> None:
    names = run_mlcube("schema").stdout.split()
    assert "mlcube_task" in names and len(names) >= 18
    assert json.loads(run_mlcube("schema", "mlcube_task").stdout)["properties"]


def test_colour_only_on_a_terminal_and_never_with_no_color(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    assert "\x1b" not in run_mlcube("rnu").stderr
    import pty

    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        main, terminal = pty.openpty()
        subprocess.run([sys.executable, "-m", "mlcube_cli", "rnu"], stderr=terminal, cwd=tmp_path, check=False,
                       env={**clean_environment(tmp_path), "TERM": "xterm", **env})
        os.close(terminal)
        assert (b"\x1b" in os.read(main, 4096)) is coloured
        os.close(main)


def test_a_closed_stdout_ends_quietly(cube: Path, home: Path) -> None:
    line = f'"{sys.executable}" -m mlcube_cli schema mlcube | head -c 1 >/dev/null; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=clean_environment(home))
    assert "Traceback" not in done.stderr and done.stderr == ""


@pytest.mark.parametrize("end", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "--json >&-", "--json 2>&-", "--json <&- >&- 2>&-"])
def test_a_task_has_its_three_streams_whatever_we_were_given(cube: Path, home: Path, tmp_path: Path, end: str) -> None:
    seen = tmp_path / "seen"
    (cube / "write.sh").write_text(f"{{ echo out && echo err >&2 && cat && echo all; }} || exit 9; echo all >{seen}\n")
    command = f'exec "{sys.executable}" -m mlcube_cli run "{cube}" --task write {end}'
    done = subprocess.run(["sh", "-c", command], env=clean_environment(home), stdin=subprocess.DEVNULL, check=False, timeout=60,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CHECKOUT)
    assert (done.returncode, seen.read_text()) == (0, "all\n")


@pytest.mark.parametrize("word", ["--workspace=", "--task=", "--platform=", "--stamp=", "-P", "--mlcube=", ""])
def test_an_empty_value_is_refused(run_mlcube: RunMLCube, cube: Path, word: str) -> None:
    words = [word, ""] if word == "-P" else [word]
    done = run_mlcube("run", *([] if word in ("", "--mlcube=") else ["my cube"]), "--task", "write", *words)
    assert done.exit_code == 2 and "empty" in done.stderr


def test_reading_commands_import_neither_plumbum_nor_a_runner(cube: Path, home: Path) -> None:
    program = ("import sys; from mlcube_cli.cli import main; code = main(sys.argv[1:]); "
               "print([name for name in sys.modules if name.split('.')[0] in ('plumbum', 'mlcube_shell', 'jsonschema', 'yaml')"
               " or name == 'mlcube_cli.process'], file=sys.stderr); sys.exit(code)")
    for verb in ("validate", "describe", "validate", "show-config"):
        done = subprocess.run([sys.executable, "-c", program, verb, str(cube)], capture_output=True, text=True, check=True,
                              env=clean_environment(home))
        loaded = done.stderr.splitlines()[-1]
        assert "plumbum" not in loaded and "mlcube_shell" not in loaded and "process" not in loaded
    assert loaded == "[]", "an unchanged cube needs neither yaml nor jsonschema"


def test_the_applets_and_python_m_mlbox(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path / "box", {
        "mlbox.yaml": "type: mlbox\nname: b\ntasks:\n  greet: {inputs: {}, outputs: {dir: {description: d}}}\n",
        "tasks/greet/default.yaml": "dir: given\n",
        "implementation/mlbox_implementation.yaml":
            "implementation_type: python\ninterpreter: system\nentrypoint: implementation/src/main.py\n",
        "implementation/src/main.py": "import sys; print(sys.argv[1:])\n",
        "workspace/keep": ""})
    mlbox = (sys.executable, "-m", "mlbox")
    done = run_mlcube("run", "box:greet/default", "--dir=other", command=mlbox)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"['--mlbox_task', 'greet', '--dir={tmp_path}/box/workspace/other']\n"
    (tmp_path / "pc.yaml").write_text("here: {runner: python}\n")
    for words in (["box"], ["box:greet"], ["pc.yaml:here", "box:greet/default", "--dir=other"]):
        described = run_mlcube("describe", *words, command=mlbox)
        assert described.exit_code == 0 and "output           dir = given" in described.stdout, described
    valueless = run_mlcube("run", "box:greet", "--dir", command=mlbox)
    assert valueless.exit_code == 2 and "write --dir=PATH" in valueless.stderr
    for words in ([], ["run", "--help"], ["describe", "-h"], ["--help"]):
        assert run_mlcube(*words, command=mlbox).stdout.startswith("usage: mlbox")
    for words in (["--timeout", "60", "box:greet", "dir=other"], ["box:greet", "--dir=other", "-P", "local.env.A=b"]):
        assert "box/workspace/other" in run_mlcube("run", *words, command=mlbox).stdout
    nothing = run_mlcube("run", "box:greet", "--dri=x", command=mlbox)
    assert nothing.exit_code == 2 and "did you mean 'dir'?" in nothing.stderr
    program = "import sys; from mlcube_cli.cli import main; sys.exit(main(sys.argv[1:], 'mlcube_docker'))"
    docker = (sys.executable, "-c", program)
    refused = run_mlcube("run", "--mlcube=box", "--platform=local", "--task=greet", command=docker)
    assert refused.exit_code == 2 and "docker" in refused.stderr


def test_a_broken_platform_file_is_not_replaced_by_another_platform(run_mlcube: RunMLCube, cube: Path) -> None:
    (cube / "bad.yaml").write_text("schema_type: mlcube_local\nenv: [\n")
    done = run_mlcube("run", "my cube", "--task", "write", "--platform", "my cube/bad.yaml")
    assert done.exit_code == 3 and "bad.yaml:" in done.stderr and done.stdout == ""


def test_a_value_of_a_run_configuration_is_named_with_its_line(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path / "c", {
        "mlcube.yaml": "schema_type: mlcube_root\nname: c\ntasks: [tasks/t.yaml]\n",
        "tasks/t.yaml": "schema_type: mlcube_task\ninputs: [{name: i, type: file}]\noutputs: []\n",
        "run/t.yaml": "schema_type: mlcube_invoke\ntask_name: t\ninput_binding:\n  i: absent\noutput_binding: {}\n",
        "platforms/local.yaml": "schema_type: mlcube_local\nentrypoint: [echo]\n"})
    for words in (("--task=t",), ("--task=c/run/t.yaml",), ("--task=t/t",)):
        done = run_mlcube("run", "c", *words)
        assert done.exit_code == 3 and "--> c/run/t.yaml:4:6 (i)" in done.stderr


@pytest.mark.parametrize("verb", ["validate", "describe", "run", "configure", "show-config"])
def test_an_empty_word_is_not_the_current_directory(run_mlcube: RunMLCube, cube: Path, verb: str) -> None:
    done = run_mlcube(verb, "", cwd=cube)
    assert done.exit_code == 2 and "is empty" in done.stderr


def test_an_environment_value_of_the_command_line_is_used_but_never_shown(run_mlcube: RunMLCube, cube: Path) -> None:
    words = ("run", "my cube", "--task", "write", "-Plocal.env.GREETING=hunter2")
    assert run_mlcube(*words).exit_code == 0
    assert (cube / "workspace/made/file").read_text() == "hunter2\n"
    shown = [run_mlcube(*words, "--dry-run").stdout, run_mlcube(*words, "--dry-run", "--json").stdout,
             run_mlcube("show-config", "my cube", "-Plocal.env.GREETING=hunter2").stdout,
             *(path.read_text() for path in (cube / "workspace/.mlcube").glob("**/record.json"))]
    assert all("hunter2" not in text and "GREETING" in text for text in shown)


def test_an_untrusted_cubes_own_executable_is_never_started(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "c", {"mlcube.yaml": """
        name: c
        tasks: {t: {entrypoint: [echo]}}
        docker: {image: i, docker: ./evil}
        local: {}
        """})
    (root / "evil").write_text(f"#!/bin/sh\necho ran >> {tmp_path}/proof\n")
    (root / "evil").chmod(0o755)
    for words in (("run", "."), ("run", ".", "--platform=docker"), ("configure", ".", "--platform=docker"),
                  ("run", ".", "--dry-run", "--platform=docker")):
        done = run_mlcube(*words, "--untrusted", cwd=root)
        assert done.exit_code in (3, 4) and "another executable" in done.stderr + done.stdout, done
    assert not (tmp_path / "proof").exists()


def test_a_wrong_time_limit_is_refused_before_the_machine_is_asked(run_mlcube: RunMLCube, cube: Path) -> None:
    done = run_mlcube("run", "no such cube", "--timeout", "0")
    assert done.exit_code == 2 and "--timeout" in done.stderr


def test_the_log_level_of_earlier_programs_means_something(run_mlcube: RunMLCube, cube: Path) -> None:
    (cube / "mlcube.yaml").write_text((cube / "mlcube.yaml").read_text() + "  envv: {}\n")
    for words, warned, traced in (((), True, False), (("--log-level", "error"), False, False),
                                  (("--log_level=debug",), True, True)):
        done = run_mlcube(*words, "run", "my cube", "--task", "read")
        assert done.exit_code == 3 and "input 'in' is missing" in done.stderr
        assert ("did you mean 'env'?" in done.stderr, "Traceback" in done.stderr) == (warned, traced)
