"""The local runner decides: which Python, which environment, which words, which variables; on invented machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlcube_cli.command import Command, Plan, Variable
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.errors import DefinitionError, Location, MachineError
from mlcube_cli.facts import (
    Facts,
    FileText,
    Missing,
    Observation,
    PathFact,
    PathKind,
    Probe,
    Question,
    Tool,
    TreeDigest,
)
from mlcube_cli.job import Argument, Job
from mlcube_cli.runner import load_runner
from mlcube_cli.script import script
from mlcube_shell import local

PYTHON = "cpython\n3.11.7\nlinux-x86_64\ncpython-311-x86_64-linux-gnu\nyes\n/usr/bin/python3.11"
TOOLS = {"python3": "/usr/bin/python3", "bash": "/bin/bash"}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/ann"}


class Machine:
    """An invented machine: files by path (None: a directory), tools by name, and what its probes say."""

    def __init__(self, files: dict[str, str | None] | None = None, tools: dict[str, str] | None = None,
                 python: str = PYTHON, whole: bool = False, **facts: Any) -> None:
        self.files = {"/cube": None, "/cube/main.py": "", **(files or {})}
        self.tools = TOOLS if tools is None else tools
        self.python, self.whole = python, whole
        self.asked: list[Question] = []
        self.facts = Facts(uid=1000, gid=1000, home="/home/ann", cwd="/home/ann", python="/opt/mlcube/bin/python",
                           **{"environment": ENVIRONMENT, "cache": "/cache", **facts})

    def answer(self, question: Question) -> Any:
        self.asked.append(question)
        if isinstance(question, Tool):
            return self.tools.get(question.name)
        if isinstance(question, PathKind):
            kind = "absent" if question.path not in self.files else "file"
            return PathFact("directory" if kind == "file" and self.files[question.path] is None else kind)
        if isinstance(question, FileText):
            text = self.files.get(question.path)
            return None if text is None else text.encode("utf-8", "surrogateescape")
        if isinstance(question, TreeDigest):
            return "digest of " + " ".join(question.paths)
        assert isinstance(question, Probe)
        return self._probe(question.command)

    def _probe(self, command: Command) -> Observation:
        if command.argv[0] == "uname":
            return Observation(0, "Linux x86_64\n")
        if command.argv[0] == "sh":
            return Observation(0 if self.whole else 1)
        if not self.python:
            return Observation(1, "", "Traceback\nno module named encodings\n")
        return Observation(0, self.python)

    def decide(self, function: Any, *arguments: Any) -> Any:
        facts = self.facts
        for _ in range(50):
            try:
                return function(*arguments[:1], facts, *arguments[1:])
            except Missing as missing:
                facts = facts.learn({question: self.answer(question) for question in missing.questions})
        raise AssertionError("the runner asks for ever")

    def plan(self, job: Job) -> Plan:
        plan = self.decide(local.plan, job)
        assert isinstance(plan, Plan)
        return plan

    def payload(self, job: Job) -> Command:
        return self.plan(job).steps[-1].command


def a_job(options: dict[str, Any] | None = None, secret: tuple[str, ...] = (), **fields: Any) -> Job:
    given = {"entrypoint": "main.py", **(options or {})}
    platform = Platform("local", "local", tuple(Option(name, value, "local.yaml:3:1", name in secret)
                                                for name, value in given.items()), Location("local.yaml"))
    arguments = (Argument("data", "input", "directory", "ro", "/ws/data"),
                 Argument("model", "output", "directory", "rw", "/ws/model"),
                 Argument("log", "output", "file", "rw", "/ws/logs/a.txt"))
    job = Job("20260101T000000-abc-1", "cube", "/cube", "/ws", "inline", "train", None, arguments, platform)
    return replace(job, **fields)


def variables(command: Command) -> dict[str, str | None]:
    return {variable.name: variable.value for variable in command.env}


WORDS = ("train", "--data=/ws/data", "--model=/ws/model", "--log=/ws/logs/a.txt")
REQUIREMENTS = {"requirements": ["numpy", "PyYAML>=6"]}


# --- the words of the task ----------------------------------------------------------------------------------------


def test_it_is_a_runner() -> None:
    assert load_runner("local") is local


def test_a_script_runs_with_the_python_on_path_in_the_cubes_root() -> None:
    command = Machine().payload(a_job())
    assert command.argv == ("/usr/bin/python3", "/cube/main.py", *WORDS)
    assert command.cwd == "/cube"
    assert command.stdin is None


def test_a_task_with_its_own_entry_point_gets_no_task_name() -> None:
    job = a_job({"entrypoint": None}, entrypoint=("main.py", "--fast"))
    assert Machine().payload(job).argv == ("/usr/bin/python3", "/cube/main.py", "--fast", *WORDS[1:])


def test_mlbox_gets_its_flag_and_task_as_two_words_unsorted() -> None:
    argv = Machine().payload(a_job(dialect="mlbox")).argv
    assert argv == ("/usr/bin/python3", "/cube/main.py", "--mlbox_task", "train", *WORDS[1:])


@pytest.mark.parametrize(("entrypoint", "expected"), [
    ("main.py --fast 'two words'", ("/usr/bin/python3", "/cube/main.py", "--fast", "two words")),
    (["main.py", "a b"], ("/usr/bin/python3", "/cube/main.py", "a b")),
    ("my script.py", ("/usr/bin/python3", "/cube/my script.py")),
    ("./main.py", ("/usr/bin/python3", "/cube/main.py")),
    ("bin/tool", ("/cube/bin/tool",)),
    ("bin/plain", ("/usr/bin/python3", "/cube/bin/plain")),
    ("bin/plain.sh", ("bash", "/cube/bin/plain.sh")),
    ("python -m package", ("/usr/bin/python3", "-m", "package")),
    ("python3 main.py", ("/usr/bin/python3", "main.py")),
    ("torchrun main.py", ("/usr/bin/torchrun", "main.py")),
    ("/opt/app/run.py", ("/usr/bin/python3", "/opt/app/run.py")),
])
def test_entry_points(entrypoint: Any, expected: tuple[str, ...]) -> None:
    files = dict.fromkeys(("/cube/my script.py", "/cube/bin/tool", "/cube/bin/plain", "/cube/bin/plain.sh",
                           "/opt/app/run.py"), "")
    tools = {**TOOLS, "/cube/bin/tool": "/cube/bin/tool", "torchrun": "/usr/bin/torchrun"}
    argv = Machine(files, tools).payload(a_job({"entrypoint": entrypoint})).argv
    assert argv == (*expected, *WORDS)


@pytest.mark.parametrize(("entrypoint", "message"), [
    ("gone.py", "the entry point /cube/gone.py is not there (local.yaml:3:1)"),
    ("src/gone", "the entry point /cube/src/gone is not there"),
    ("src/", "the entry point /cube/src is not a file"),
    (None, "task 'train' has no entry point on the platform 'local'"),
    ("'open", "cannot be split into words"),
    ({"a": 1}, "must be a script or a list of words"),
    ("''", "the entry point is empty"),
])
def test_entry_points_that_cannot_be(entrypoint: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Machine({"/cube/src": None}).plan(a_job({"entrypoint": entrypoint}))
    assert message in caught.value.message
    assert caught.value.hint


def test_a_program_that_is_not_on_path_is_the_machines_fault() -> None:
    with pytest.raises(MachineError, match="'torchrun' is neither a file of the cube nor a program on PATH"):
        Machine().plan(a_job({"entrypoint": "torchrun main.py"}))


# --- the plan -----------------------------------------------------------------------------------------------------


def test_output_directories_are_made_and_inputs_never() -> None:
    steps = Machine().plan(a_job()).steps
    assert steps[0].command.argv == ("mkdir", "-p", "--", "/ws/model", "/ws/logs")
    assert steps[0].task == "train"
    assert [step.payload for step in steps] == [False, True]


def test_of_an_output_of_unknown_type_only_the_parent_is_made() -> None:
    job = a_job(arguments=(Argument("out", "output", "unknown", "rw", "/ws/deep/out"),))
    assert Machine().plan(job).steps[0].command.argv == ("mkdir", "-p", "--", "/ws/deep")


def test_without_outputs_nothing_is_made() -> None:
    assert len(Machine().plan(a_job(arguments=())).steps) == 1


def test_the_plan_says_that_inputs_are_not_protected() -> None:
    plan = Machine().plan(a_job(grace=3.0, timeout=60.0))
    (task,) = plan.tasks
    assert {argument.name: (argument.mode, path) for argument, path in task.arguments} == {
        "data": ("rw", "/ws/data"), "model": ("rw", "/ws/model"), "log": ("rw", "/ws/logs/a.txt")}
    assert (task.grace, task.timeout, task.run_id) == (3.0, 60.0, "20260101T000000-abc-1")
    assert plan.notes == ()


def test_a_cube_without_requirements_has_nothing_to_prepare() -> None:
    assert Machine().decide(local.configure, a_job(), False).steps == ()


@pytest.mark.parametrize(("name", "value"), [
    ("network", "none"), ("shm_size", "1g"), ("memory", "4g"), ("cpuset_cpus", "0,1"), ("ports", ["80:80"]),
    ("security_opt", "x"), ("user", "image"), ("mount_opts", "z"), ("privileged", True)])
def test_what_only_a_container_can_do_is_an_error_with_its_origin(name: str, value: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        Machine().plan(a_job({name: value}))
    assert f"cannot honour '{name}: {value}' (local.yaml:3:1)" in caught.value.message
    with pytest.raises(DefinitionError):
        Machine().decide(local.configure, a_job({name: value}), False)


@pytest.mark.parametrize(("name", "value"), [
    ("network", "host"), ("privileged", False), ("user", "caller"), ("image", "some/image"), ("memory", None)])
def test_what_asks_for_nothing_is_let_through(name: str, value: Any) -> None:
    assert Machine().payload(a_job({name: value})).argv[0] == "/usr/bin/python3"


# --- variables ----------------------------------------------------------------------------------------------------


def test_the_callers_python_settings_do_not_reach_the_task() -> None:
    command = Machine().payload(a_job())
    assert variables(command) == {"PYTHONHOME": None, "PYTHONPATH": None, "VIRTUAL_ENV": None, "PYTHONUNBUFFERED": "1"}


def test_env_wins_and_null_passes_the_callers_value() -> None:
    env = {"PYTHONUNBUFFERED": "", "SEED": 7, "RATE": 0.5, "FAST": True, "HOME": None, "PYTHONPATH": None}
    machine = Machine(environment={**ENVIRONMENT, "PYTHONPATH": "/lib/mine"})
    given = variables(machine.payload(a_job({"env": env})))
    assert given == {"PYTHONHOME": None, "PYTHONPATH": "/lib/mine", "VIRTUAL_ENV": None, "PYTHONUNBUFFERED": "",
                     "SEED": "7", "RATE": "0.5", "FAST": "true"}


def test_a_variable_that_is_passed_on_but_unset_is_noted() -> None:
    plan = Machine().plan(a_job({"env": {"TOKEN": None}}))
    assert plan.notes == ("TOKEN is passed to the task, but is not set here",)


def test_a_secret_is_marked_and_not_printed() -> None:
    plan = Machine().plan(a_job({"env": {"TOKEN": "s3cret"}}, secret=("env",)))
    assert Variable("TOKEN", "s3cret", secret=True) in plan.steps[-1].command.env
    assert "s3cret" not in script(plan)


@pytest.mark.parametrize(("env", "message"), [
    ({"a-b": "1"}, "'a-b' cannot be a variable's name"), ({"A": [1]}, "variable A must have one value"),
    (["A=1"], "'env' must be a map")])
def test_env_that_cannot_be(env: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Machine().plan(a_job({"env": env}))


@pytest.mark.parametrize(("gpus", "visible"), [
    ("none", ""), (0, ""), (2, "0,1"), ("device=1,3", "1,3"), ([0, 2], "0,2"), ("0,1", "0,1"),
    ("GPU-1a2b", "GPU-1a2b"), ("count=1", "0")])
def test_gpus(gpus: Any, visible: str) -> None:
    assert variables(Machine().payload(a_job({"gpus": gpus})))["CUDA_VISIBLE_DEVICES"] == visible


def test_no_gpus_hides_those_of_every_maker() -> None:
    machine = Machine(environment={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "0"})
    found = variables(machine.payload(a_job({"gpus": "none"})))
    assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
    assert (found["ROCR_VISIBLE_DEVICES"], found["HIP_VISIBLE_DEVICES"]) == ("", "-1")


def test_a_number_of_gpus_is_taken_from_those_that_a_scheduler_gave() -> None:
    machine = Machine(environment={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": "4,6,7"})
    assert variables(machine.payload(a_job({"gpus": 2})))["CUDA_VISIBLE_DEVICES"] == "4,6"


def test_all_gpus_changes_nothing_and_nonsense_is_refused() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in variables(Machine().payload(a_job({"gpus": "all"})))
    with pytest.raises(DefinitionError, match="'gpus': 'many' names no devices"):
        Machine().plan(a_job({"gpus": "many"}))


def test_workdir_is_relative_to_the_cube_and_must_be_there() -> None:
    assert Machine({"/cube/src": None}).payload(a_job({"workdir": "src"})).cwd == "/cube/src"
    with pytest.raises(DefinitionError, match="working directory /cube/src is not there"):
        Machine().plan(a_job({"workdir": "src"}))


# --- interpreters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "expected"), [
    ({"python": "3.9"}, "/opt/bin/python3.9"),
    ({"python": 3.9}, "/opt/bin/python3.9"),
    ({"python": "3.9.18"}, "/opt/bin/python3.9"),
    ({"python": "pypy"}, "/opt/bin/pypy"),
    ({"python": "tools/python"}, "/cube/tools/python"),
    ({"python": "~/python"}, "/home/ann/python"),
    ({"interpreter": "current"}, "/opt/mlcube/bin/python"),
    ({"interpreter": "system", "requirements": ["numpy"]}, "/usr/bin/python3"),
])
def test_which_python(options: dict[str, Any], expected: str) -> None:
    tools = {**TOOLS, "python3.9": "/opt/bin/python3.9", "pypy": "/opt/bin/pypy",
             "/cube/tools/python": "/cube/tools/python", "/home/ann/python": "/home/ann/python"}
    assert Machine(tools=tools).payload(a_job(options)).argv[0] == expected


def test_python_is_used_where_there_is_no_python3() -> None:
    assert Machine(tools={"python": "/usr/bin/python"}).payload(a_job()).argv[0] == "/usr/bin/python"


def test_an_absent_python_is_named_with_its_origin() -> None:
    with pytest.raises(MachineError) as caught:
        Machine().plan(a_job({"python": 3.1}))
    assert caught.value.message == "there is no python3.1 on PATH (local.yaml:3:1)"
    assert "python: '3.10'" in caught.value.hint


def test_requirements_with_a_system_python_are_noted() -> None:
    (note,) = Machine().plan(a_job({"interpreter": "system", **REQUIREMENTS})).notes
    assert "not installed or checked: the interpreter is 'system' (local.yaml:3:1)" in note


def test_pipenv_is_refused_naming_the_alternative() -> None:
    with pytest.raises(MachineError) as caught:
        Machine().plan(a_job({"interpreter": "pipenv"}))
    assert "virtualenv" in caught.value.hint


def test_an_unknown_interpreter_is_a_fault_of_the_definition() -> None:
    with pytest.raises(DefinitionError, match="there is no interpreter 'venv'"):
        Machine().plan(a_job({"interpreter": "venv"}))


def test_a_python_that_does_not_work_says_so() -> None:
    with pytest.raises(MachineError, match="/usr/bin/python3 does not work: no module named encodings"):
        Machine(python="").plan(a_job(REQUIREMENTS))


def test_another_patch_version_than_asked_for() -> None:
    machine = Machine(tools={**TOOLS, "python3.11": "/usr/bin/python3.11"})
    with pytest.raises(MachineError, match=r"is Python 3\.11\.7, but 3\.11\.4 is asked for"):
        machine.plan(a_job({**REQUIREMENTS, "python": "3.11.4"}))


def test_debian_without_ensurepip_gets_one_sentence_naming_the_package() -> None:
    without = PYTHON.replace("\nyes\n", "\nno\n")
    with pytest.raises(MachineError, match="python3-venv"):
        Machine(python=without).plan(a_job(REQUIREMENTS))
    with_uv = Machine(python=without, tools={**TOOLS, "uv": "/usr/bin/uv"})
    assert "/usr/bin/uv" in with_uv.plan(a_job(REQUIREMENTS)).steps[0].command.argv


@pytest.mark.parametrize(("options", "reason"), [
    ({}, None), ({"python": "3.9"}, "there is no python3.9 on PATH"),
    ({"interpreter": "conda"}, "there is no conda on PATH"),
    ({"python": "3.9", "modules": ["python"]}, None), ({"kind": "exec"}, None), ({"python": "bin/python"}, None),
    ({"interpreter": "pipenv"}, "'pipenv' is not supported")])
def test_available(options: dict[str, Any], reason: str | None) -> None:
    said = Machine().decide(local.available, a_job(options).platform)
    assert said is None if reason is None else reason in said


# --- environments -------------------------------------------------------------------------------------------------


def environment_of(machine: Machine, options: dict[str, Any], **fields: Any) -> str:
    directory = machine.plan(a_job(options, **fields)).steps[0].lock
    assert directory is not None
    return directory


def test_the_environment_is_made_first_under_a_lock_unless_it_is_whole() -> None:
    steps = Machine().plan(a_job(REQUIREMENTS)).steps
    step = steps[0]
    assert step.task is None
    assert step.lock is not None and step.lock.startswith("/cache/environments/cpython-3.11.7-")
    assert step.command.argv[:2] == ("sh", "-c")
    assert step.command.argv[3:] == ("mlcube", step.lock, "/usr/bin/python3.11", "", "/cube", "numpy", "PyYAML>=6")
    assert step.unless is not None and step.unless.argv[-1] == step.lock
    assert steps[-1].command.argv == (f"{step.lock}/bin/python", "/cube/main.py", *WORDS)


def test_a_whole_environment_is_used_as_it_is() -> None:
    steps = Machine(whole=True).plan(a_job(REQUIREMENTS)).steps
    assert [step.title for step in steps] == ["make the output directories", "run task train"]


def test_configure_makes_it_when_needed_and_force_always() -> None:
    (step,) = Machine(whole=True).decide(local.configure, a_job(REQUIREMENTS), False).steps
    assert step.unless is not None
    (forced,) = Machine(whole=True).decide(local.configure, a_job(REQUIREMENTS), True).steps
    assert forced.unless is None and forced.command == step.command and forced.lock == step.lock


def test_no_user_text_stands_in_a_script() -> None:
    hostile = '$(touch /tmp/x)"; rm -rf /'
    command = Machine().plan(a_job({"requirements": [hostile]})).steps[0].command
    assert hostile in command.argv[4:] and hostile not in command.argv[2]


def test_the_payload_has_the_environment_in_front_of_path() -> None:
    machine = Machine(environment={**ENVIRONMENT, "VIRTUAL_ENV": "/other"})
    steps = machine.plan(a_job(REQUIREMENTS)).steps
    given = variables(steps[-1].command)
    assert given["VIRTUAL_ENV"] == steps[0].lock
    assert given["PATH"] == f"{steps[0].lock}/bin:/usr/bin:/bin"
    own_path = variables(machine.payload(a_job({**REQUIREMENTS, "env": {"PATH": "/mine"}})))["PATH"]
    assert own_path == f"{steps[0].lock}/bin:/mine"


def test_a_program_of_the_environment_is_found_on_its_path() -> None:
    argv = Machine().payload(a_job({**REQUIREMENTS, "entrypoint": "torchrun main.py"})).argv
    assert argv == ("env", "torchrun", "main.py", *WORDS)


def test_virtualenv_without_requirements_is_an_empty_environment() -> None:
    step = Machine().plan(a_job({"interpreter": "virtualenv"})).steps[0]
    assert step.command.argv[3:] == ("mlcube", step.lock, "/usr/bin/python3.11", "", "/cube")


def test_the_installer_can_not_be_sent_elsewhere() -> None:
    given = variables(Machine().plan(a_job(REQUIREMENTS)).steps[0].command)
    assert given["PIP_USER"] == "0" and given["PIP_TARGET"] is None and given["PYTHONPATH"] is None


def test_without_a_cache_the_error_names_mlcube_home() -> None:
    with pytest.raises(MachineError) as caught:
        Machine(cache=None).plan(a_job(REQUIREMENTS))
    assert "MLCUBE_HOME" in caught.value.hint


def test_the_key_is_the_interpreter_and_the_content() -> None:
    first = environment_of(Machine(), REQUIREMENTS)
    assert environment_of(Machine(), {"requirements": ["numpy", "PyYAML>=6"]}, cube="another", root="/cube") == first
    assert environment_of(Machine(), {"requirements": ["numpy"]}) != first
    newer = PYTHON.replace("3.11.7", "3.11.8")
    assert environment_of(Machine(python=newer), REQUIREMENTS) != first
    other = PYTHON.replace("x86_64", "aarch64")
    assert environment_of(Machine(python=other), REQUIREMENTS) != first


def test_a_file_and_a_list_of_the_same_content_share_an_environment() -> None:
    machine = Machine({"/cube/r.txt": "# what it needs\nnumpy   # arrays\n\nPyYAML>=6\n"})
    assert environment_of(machine, {"requirements": "r.txt"}) == environment_of(machine, REQUIREMENTS)
    argv = machine.plan(a_job({"requirements": "r.txt"})).steps[0].command.argv
    assert argv[-3:] == ("/cube", "--requirement", "/cube/r.txt")


@pytest.mark.parametrize("line", ["-r more/base.txt", "--requirement=more/base.txt", "-rmore/base.txt",
                                  "-c more/base.txt", "--constraint more/base.txt", "-r \\\n more/base.txt"])
def test_what_a_requirements_file_includes_counts(line: str) -> None:
    def key(text: str) -> str:
        files: dict[str, str | None] = {"/cube/r.txt": f"numpy\n{line}\n", "/cube/more/base.txt": "-c deep.txt\nscipy",
                                        "/cube/more/deep.txt": text}
        return environment_of(Machine(files), {"requirements": "r.txt"})

    assert key("scipy==1.0") == key("scipy==1.0  # pinned\n")
    assert key("scipy==1.0") != key("scipy==1.1")


def test_includes_that_go_in_a_circle_end() -> None:
    machine = Machine({"/cube/a.txt": "-r b.txt", "/cube/b.txt": "-r a.txt\nnumpy"})
    assert environment_of(machine, {"requirements": "a.txt"}).startswith("/cache/environments/")


def test_included_urls_are_left_to_the_installer() -> None:
    machine = Machine({"/cube/r.txt": "-r https://example.org/r.txt\n--extra-index-url https://example.org/simple\n"})
    assert environment_of(machine, {"requirements": "r.txt"})
    assert not any(isinstance(question, FileText) and "example" in question.path for question in machine.asked)


@pytest.mark.parametrize("item", ["-e ./package", "./package", "package @ file:///cube/package",
                                  "--find-links ./package"])
def test_a_local_package_counts_with_its_place_and_what_it_declares(item: str) -> None:
    def key(text: str, root: str = "/cube") -> str:
        files: dict[str, str | None] = {f"{root}/package/pyproject.toml": text, f"{root}/main.py": ""}
        return environment_of(Machine(files), {"requirements": [item.replace("/cube", root)]}, root=root)

    assert key("one") == key("one")
    assert key("one") != key("two")
    assert key("one") != key("one", "/copy")


def test_a_local_wheel_counts_with_its_content() -> None:
    machine = Machine()
    environment_of(machine, {"requirements": ["wheels/a-1.0-py3-none-any.whl"]})
    assert TreeDigest(("/cube/wheels/a-1.0-py3-none-any.whl",)) in machine.asked


def test_variables_in_requirements_count() -> None:
    def key(version: str) -> str:
        machine = Machine({"/cube/r.txt": "numpy==${NUMPY_VERSION}\n"}, environment={"NUMPY_VERSION": version})
        return environment_of(machine, {"requirements": "r.txt"})

    assert key("1.26") != key("2.0")


def test_options_in_a_list_become_words() -> None:
    job = a_job({"requirements": ["-e ./my\\ package", "a; python_version > '3'"]})
    argv = Machine().plan(job).steps[0].command.argv
    assert argv[-3:] == ("-e", "./my package", "a; python_version > '3'")


@pytest.mark.parametrize(("value", "message"), [
    ("gone.txt", "requirements file /cube/gone.txt cannot be read (local.yaml:3:1)"),
    ("bad.txt", "the requirements name /cube/gone.txt, which cannot be read"),
    ({"numpy": 1}, "must be a file's name or a list of texts"),
    ([["numpy"]], "must be a file's name or a list of texts"),
    (["-e 'open"], "cannot be split into words")])
def test_requirements_that_cannot_be(value: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Machine({"/cube/bad.txt": "-r gone.txt"}).plan(a_job({"requirements": value}))
    assert message in caught.value.message


def test_uv_is_used_when_it_is_on_path() -> None:
    step = Machine(tools={**TOOLS, "uv": "/usr/bin/uv"}).plan(a_job(REQUIREMENTS)).steps[0]
    assert '"$tool" pip install --python "$environment/bin/python"' in step.command.argv[2]
    assert step.command.argv[4:7] == (step.lock, "/usr/bin/python3.11", "/usr/bin/uv")


def test_conda_makes_its_environment_and_pip_the_rest() -> None:
    tools = {**TOOLS, "mamba": "/opt/mamba"}
    job = a_job({**REQUIREMENTS, "interpreter": "conda", "conda": "mamba", "python": "3.10"})
    steps = Machine(tools=tools).plan(job).steps
    assert steps[0].command.argv[4:] == (steps[0].lock, "python=3.10", "mamba", "/cube", "numpy", "PyYAML>=6")
    assert '"$tool" create --yes --prefix "$environment" "$python" pip' in steps[0].command.argv[2]
    given = variables(steps[-1].command)
    assert given["CONDA_PREFIX"] == steps[0].lock and given["VIRTUAL_ENV"] is None


def test_conda_absent_is_the_machines_fault() -> None:
    with pytest.raises(MachineError, match="there is no conda on PATH"):
        Machine().plan(a_job({"interpreter": "conda"}))


# --- shell lines --------------------------------------------------------------------------------------------------


def test_setup_lines_come_before_the_environment_and_the_task() -> None:
    options = {**REQUIREMENTS, "modules": ["cuda/12"], "setup": ["export A=1"]}
    steps = Machine().plan(a_job(options)).steps
    for step in (steps[0], steps[-1]):
        assert step.command.argv[:2] == ("bash", "-c")
        assert "\nmodule load cuda/12\nexport A=1\n" in step.command.argv[2]
    assert steps[-1].command.argv[3:] == ("mlcube", f"{steps[0].lock}/bin/python", "/cube/main.py", *WORDS)
    assert steps[0].unless is not None and steps[0].unless.argv[0] == "bash"


def test_looking_at_a_cube_does_not_run_its_setup_lines() -> None:
    machine = Machine()
    machine.plan(a_job({**REQUIREMENTS, "setup": "touch /tmp/seen"}))
    probes = [question.command for question in machine.asked if isinstance(question, Probe)]
    assert probes and not any("seen" in word for command in probes for word in command.argv)


def test_other_setup_lines_are_another_environment() -> None:
    first = environment_of(Machine(), {**REQUIREMENTS, "modules": ["python/3.11"]})
    assert first.startswith("/cache/environments/setup-")
    assert first != environment_of(Machine(), {**REQUIREMENTS, "modules": ["python/3.12"]})


def test_a_python_that_setup_brings_is_not_looked_for_on_path() -> None:
    argv = Machine(tools={"bash": "/bin/bash"}).payload(a_job({"setup": "module load python", "python": "3.9"})).argv
    assert argv[3:5] == ("mlcube", "python3.9")


def test_sh_where_there_is_no_bash() -> None:
    assert Machine(tools={"python3": "/usr/bin/python3"}).payload(a_job({"setup": "true"})).argv[0] == "sh"


def test_a_secret_in_setup_is_not_printed() -> None:
    plan = Machine().plan(a_job({"setup": ["export TOKEN=s3cret"]}, secret=("setup",)))
    assert "s3cret" not in script(plan)
    assert not any("s3cret" in word for word in plan.steps[-1].command.argv)


@pytest.mark.parametrize("name", ["cuda; rm -rf /", "$(x)", "a b"])
def test_a_modules_name_is_only_a_name(name: str) -> None:
    with pytest.raises(DefinitionError, match="is not a module's name"):
        Machine().plan(a_job({"modules": [name]}))


def test_setup_must_be_text() -> None:
    with pytest.raises(DefinitionError, match="'setup' must be a text or a list of texts"):
        Machine().plan(a_job({"setup": [{"a": "b"}]}))


# --- MLBox exec ---------------------------------------------------------------------------------------------------

EXEC = {"kind": "exec", "entrypoint": None, "directories": ["build", "/opt/x"], "configure": ["make -C $root"],
        "run": ["./train $data", "echo ${optimizer}"]}


def test_exec_lines_run_in_the_root_with_values_as_variables() -> None:
    job = a_job(EXEC, dialect="mlbox", variables=(("optimizer", "adam; rm -rf /"), ("data", "not this")))
    steps = Machine().plan(job).steps
    assert steps[0].command.argv == ("mkdir", "-p", "--", "/cube/build", "/opt/x")
    command = steps[-1].command
    assert command.argv[0] == "bash" and command.cwd == "/cube"
    assert "./train $data\n" in command.argv[2] and "rm -rf" not in command.argv[2]
    given = variables(command)
    assert (given["optimizer"], given["data"], given["mlbox_task"]) == ("adam; rm -rf /", "/ws/data", "train")


def test_exec_configure_makes_directories_and_runs_its_lines() -> None:
    steps = Machine().decide(local.configure, a_job(EXEC, dialect="mlbox"), False).steps
    assert [step.title for step in steps] == ["make the implementation's directories", "run the configure lines"]
    assert "make -C $root" in steps[1].command.argv[2]


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_ENV", "IFS", "not-a-name"])
def test_a_parameters_file_cannot_set_what_the_shell_obeys(name: str) -> None:
    job = a_job(EXEC, dialect="mlbox", variables=((name, "/evil"),))
    assert variables(Machine().payload(job)).get(name) != "/evil"


def test_exec_without_lines_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="has no 'run' lines"):
        Machine().plan(a_job({"kind": "exec"}, dialect="mlbox"))


def test_exec_lines_that_hold_a_secret_are_not_printed() -> None:
    plan = Machine().plan(a_job({**EXEC, "run": ["login s3cret"]}, secret=("run",), dialect="mlbox"))
    assert "s3cret" not in script(plan)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DefinitionError, match="there is no kind 'java'"):
        Machine().plan(a_job({"kind": "java"}))
