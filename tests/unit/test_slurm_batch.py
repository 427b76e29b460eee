"""Batch files: directives, how they are quoted, arrays' numbers; what is shown of a job in its file."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube_cli.command import Command, Plan, Step, TaskPlan, Variable
from mlcube_cli.errors import DefinitionError
from mlcube_shell.slurm_batch import array_file, batch_file, demands_of, directive, overriding, ranges
from tests.world import job_of

PLAN = Plan("cluster", (Step("run task train", Command(("sh", "-c", "true")), task="train", payload=True),),
            (TaskPlan("train", "r-1", ()),))


def text_of(directory: str = "/shared/runs/1", plan: Plan = PLAN, **options: object) -> str:
    return batch_file(job_of("slurm", options).platform, job_of("local", {}), plan, directory, "mlc_go\n")


@pytest.mark.parametrize(("name", "value", "line"), [
    ("--time", "01:00:00", "#SBATCH --time=01:00:00"),
    ("--exclusive", None, "#SBATCH --exclusive"),
    ("--comment", "two words", '#SBATCH --comment="two words"'),
    ("--comment", "it's \"so\"", '#SBATCH --comment="it\'s \\"so\\""'),
    ("--comment", "# none", '#SBATCH --comment="# none"'),
])
def test_directives_are_quoted_as_sbatch_reads_them(name: str, value: str | None, line: str) -> None:
    assert directive(name, value) == line


@pytest.mark.parametrize("value", ["two\nlines", "back\\slash", "a\rb"])
def test_what_no_directive_can_say_is_refused(value: str) -> None:
    with pytest.raises(DefinitionError, match="no batch file can say"):
        directive("--comment", value)


def test_nothing_is_demanded_that_nobody_asks_for() -> None:
    assert demands_of(text_of()) == ("#SBATCH --job-name=mnist-train", "#SBATCH --export=NONE")


def test_what_slurm_judges_is_all_but_where_output_goes() -> None:
    demands = demands_of(text_of(partition="gpu", time=600))
    assert "#SBATCH --partition=gpu" in demands and "#SBATCH --time=00:10:00" in demands
    assert not any("output" in line or "open-mode" in line for line in demands)


def test_a_percent_sign_in_the_directory_is_no_pattern() -> None:
    assert '#SBATCH --output="/a b/100%%j/slurm.log"' in text_of("/a b/100%j").splitlines()


@pytest.mark.parametrize("directory", ["/back\\slash", "/new\nline"])
def test_a_log_that_no_directive_can_name_is_written_by_the_job(directory: str) -> None:
    text = text_of(directory)
    assert "#SBATCH --output=/dev/null" in text
    assert f"exec >>{shlex.quote(directory + '/slurm.log')} 2>&1" in text


def test_no_comment_leaves_its_line() -> None:
    step = Step("run\ntask", Command(("x", "a\nrm -rf /")), task="train", payload=True)
    plan = Plan("cl\nuster", (step,), PLAN.tasks, ("a\nb",))
    above = text_of("/a\nb", plan).partition("[ $#")[0].splitlines()
    assert all(not line or line.startswith("#") for line in above)


def test_secrets_are_not_shown() -> None:
    step = Step("run", Command(("x",), (Variable("TOKEN", "hunter2", secret=True),)), task="train", payload=True)
    assert "hunter2" not in text_of(plan=Plan("c", (step,), PLAN.tasks))


def test_the_job_ends_as_its_task_did() -> None:
    assert text_of().splitlines()[-1].startswith('exit "${mlc_exit:-0}"')


@given(st.sets(st.integers(1, 400), min_size=1))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    parts = [part.split("-") for part in ranges(numbers).split(",")]
    assert [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)] == sorted(numbers)


def test_an_array_says_its_members_and_its_limit() -> None:
    platform = job_of("slurm", {}).platform
    text = array_file(platform, job_of("local", {}), PLAN, "/shared/a b", [1, 2, 3, 9], 2)
    assert "#SBATCH --array=1-3,9%2" in text
    assert '#SBATCH --output="/shared/a b/%a/slurm.log"' in text
    assert "#SBATCH --array=1-3,9\n" in array_file(platform, job_of("local", {}), PLAN, "/shared/a b", [1, 2, 3, 9])


@pytest.mark.parametrize(("options", "names"), [
    ({"partition": "gpu"}, {"PARTITION"}), ({"time": 60}, {"TIMELIMIT"}), ({"account": "a", "qos": "q"}, {"ACCOUNT", "QOS"}),
    ({"memory": 1 << 30}, {"MEM", "MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"}), ({"exclusive": True}, {"EXCLUSIVE"}),
    ({"gpus": 1}, {"GRES", "GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK"}), ({"sbatch_args": ["--requeue", "--wckey=x"]},
                                                                      {"REQUEUE", "NO_REQUEUE", "WCKEY"}),
])
def test_what_a_platform_says_counts_more_than_the_callers_variables(options: dict[str, object], names: set[str]) -> None:
    always = set(overriding(demands_of(text_of())))
    assert "SBATCH_PARTITION" not in always and "SBATCH_EXPORT" in always
    more = set(overriding(demands_of(text_of(**options)))) - always  # type: ignore[arg-type]
    assert more == {f"SBATCH_{name}" for name in names}
