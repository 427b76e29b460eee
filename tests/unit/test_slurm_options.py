"""The options of a slurm platform: one value whatever the spelling, and what no job could have, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.definition import Reading, ReadRequest, read_cube
from mlcube_cli.trust import platform_reach
from tests.conftest import RunMLCube
from tests.cubes import options, platform, write_tree
from tests.unit.test_directory import SMALL
from tests.unit.test_mlbox import SMALL as BOX

INLINE = "name: c\ndocker: {{image: a}}\nslurm: {{{}}}\ntasks: {{t: {{entrypoint: x}}}}\n"


def inline(root: Path, section: str, *overrides: str, **environment: str) -> Reading:
    write_tree(root, {"mlcube.yaml": INLINE.format(section)})
    return read_cube(ReadRequest(str(root), overrides, "slurm", cwd=str(root), environment=environment))


@pytest.mark.parametrize(("written", "value"), [
    ("time: 2h", 7200), ("time: 120", 7200), ("time: '2:00:00'", 7200), ("time: 2:00:00", 7200), ("time: 0-2", 7200),
    ("time: unlimited", 0), ("memory: 16G", 16 << 30), ("memory: 16384", 16 << 30), ("memory: 16 GiB", 16 << 30),
    ("memory: 0", 0), ("nodes: 2", 2), ("nodes: '2'", 2), ("nodes: 2-2", 2), ("nodes: 2-4", "2-4"), ("ntasks: '8'", 8),
    ("gpus: 2", 2), ("gpus: '2'", 2), ("gpus: none", 0), ("gpus: 0", 0), ("gpus: 'a100:2'", "a100:2"),
    ("exclusive: yes", True), ("exclusive: false", False), ("exclusive: user", "user"), ("array_limit: 3", 3),
    ("signal_before_end: TERM@60", "TERM@60"), ("signal_before_end: SIGUSR1@2m", "USR1@120"),
    ("signal_before_end: USR2", "USR2@60"), ("signal_before_end: none", "none"), ("scratch: true", True),
    ("scratch: off", False), ("scratch: /local", "/local"), ("work_dir: ~/runs", "~/runs"), ("configure: job", "job"),
    ("sbatch_args: [--nice=5, -w, node1, -Cib, -H]", ["--nice=5", "--nodelist=node1", "--constraint=ib", "--hold"]),
    ("sbatch_args: --mail-type END --requeue", ["--mail-type=END", "--requeue"]), ("partition: 10", "10"),
])
def test_equal_values_are_one(tmp_path: Path, written: str, value: object) -> None:
    reading = inline(tmp_path, written)
    name = written.partition(":")[0]
    assert reading.problems == ()
    assert options(reading, "slurm")[name] == value
    typed = inline(tmp_path, "", f"slurm.{name}={written.partition(': ')[2]}")
    assert options(typed, "slurm")[name] == value


@pytest.mark.parametrize(("written", "says", "hint"), [
    ("nodes: 4-2", "begins with the greater number", "write 2-4"),
    ("sbatch_args: [--output=x]", "'--output' is for mlcube to say", "what the task prints is kept with its run"),
    ("sbatch_args: [-ox]", "'-ox' is for mlcube to say", "what the task prints"),
    ("sbatch_args: --arr=1-3", "'--arr' is for mlcube to say", "array_limit"),
    ("sbatch_args: [-d, 'afterok:1']", "'-d' is for mlcube to say", "--task first,second"),
    ("sbatch_args: [--export=ALL]", "'--export' is for mlcube to say", "'env'"),
    ("sbatch_args: [--signal=B:USR1@10]", "'--signal' is for mlcube to say", "signal_before_end"),
    ("sbatch_args: [-J, mine]", "'-J' is for mlcube to say", "its cube and task"),
    ("sbatch_args: [--wait]", "'--wait' is for mlcube to say", "--detach"),
    ("sbatch_args: [--wrap=ls]", "'--wrap' is for mlcube to say", "the job is the task"),
    ("sbatch_args: [script.sh]", "'script.sh' is no option", "--NAME=VALUE"),
    ("sbatch_args: [-H, script.sh]", "'script.sh' is no option", "--NAME=VALUE"),
    ("sbatch_args: [-Z1]", "sbatch has no option '-Z'", "--NAME=VALUE"),
    ("sbatch_args: ['--comment=two words']", "holds a space", "one word an item"),
    ('sbatch_args: ["--comment=a\\nrm -rf ~"]', "holds the character U+000A", "one word an item"),
    ("sbatch_args: \"'open\"", "cannot be split into words", "close the quotes"),
    ('work_dir: "/a\\nb"', "character that cannot be printed", "take it out"),
    ("gres: 'gpu:2'", "asks for GPUs", "'gpus'"), ("gres: 'lustre:1,gpu'", "asks for GPUs", "'gpus'"),
    ("time: 30s, signal_before_end: TERM@60", "60 seconds before the end is before the beginning", "more time"),
    ("signal_before_end: TERM@1000h", "is not between 1 and 65535 seconds", "TERM@60"),
    ("signal_before_end: TERM@0", "is not between 1 and 65535 seconds", "TERM@60"),
])
def test_what_no_job_could_have_is_an_error_with_its_place(tmp_path: Path, written: str, says: str, hint: str) -> None:
    found = inline(tmp_path, written).problems
    assert [(problem.severity, problem.code) for problem in found] == [("error", "bad-value")], found
    name = written.rpartition(", ")[2].partition(":")[0] if written.startswith("time") else written.partition(":")[0]
    assert says in found[0].message and hint in found[0].hint and found[0].path == f"slurm.{name}"
    assert (found[0].location.file, found[0].location.line) == ("mlcube.yaml", 3)


@pytest.mark.parametrize("written", ["time: tomorrow", "gpus: all", "nodes: 0", "memory: much", "work_dir: runs",
                                     "scratch: local", "configure: jobs", "exclusive: perhaps",
                                     "signal_before_end: KILL@60", "ntasks: many",
                                     "account: two words", 'partition: "a\\n#SBATCH --account=b"'])
def test_a_fault_is_said_once(tmp_path: Path, written: str) -> None:
    assert [problem.severity for problem in inline(tmp_path, written).problems] == ["error"]


@pytest.mark.parametrize(("written", "value"), [
    ("time", "tomorrow"), ("account", "two words"), ("partition", "a\nb"), ("sbatch_args", "--wrap=ls"), ("gpus", "all"),
    ("memory", "much"), ("ntasks", "0"), ("exclusive", "perhaps"), ("configure", "here"), ("scratch", "local"), ("qos", ""),
    ("signal_before_end", "TRM@60"), ("nodes", "x"), ("work_dir", "runs")])
def test_values_of_the_environment_are_judged_and_not_shown(tmp_path: Path, written: str, value: str) -> None:
    found = inline(tmp_path, f"{written}: '${{oc.env:MINE}}'", MINE=value).problems
    assert [problem.path for problem in found] == [f"slurm.{written}"]
    assert f"'{written}' has a value that it cannot have" == found[0].message


def test_a_value_of_the_environment_that_fits(tmp_path: Path) -> None:
    reading = inline(tmp_path, "account: '${oc.env:MINE}', time: '${oc.env:LONG}'", MINE="lab", LONG="1-0")
    assert (reading.problems, options(reading, "slurm")) == ((), {"account": "lab", "time": 86400})


def test_a_platform_file_and_a_section_say_the_same(tmp_path: Path) -> None:
    files = {**SMALL, "platforms/cluster.yaml": "schema_type: mlcube_slurm\ntime: 1-0\nnodes: 3-2\n"}
    reading = read_cube(ReadRequest(".", platform="cluster", cwd=str(write_tree(tmp_path / "d", files))))
    assert options(reading, "cluster") == {"time": 86400}
    assert [(str(problem.location), problem.path) for problem in reading.problems] == [("platforms/cluster.yaml:3:8", "nodes")]
    files = {**BOX, "p.yaml": "far: {runner: slurm, time: 1-0, nodes: 3-2, platfrom: x}\n"}
    reading = read_cube(ReadRequest(".", platform="p.yaml", cwd=str(write_tree(tmp_path / "b", files))))
    assert options(reading, "far")["time"] == 86400
    assert [(problem.severity, problem.hint) for problem in reading.problems if "p.yaml" in problem.location.file] == [
        ("error", "write 2-3"), ("warning", "did you mean 'platform'?")]


@pytest.mark.parametrize(("key", "hint"), [
    ("queue", "'partition'"), ("walltime", "'time'"), ("cpus", "'cpus_per_task'"), ("project", "'account'"),
    ("mem", "'memory'"),
    ("gpus_per_node", "'gpus'"), ("gpu", "'gpus'"), ("cpus-per-task", "'cpus_per_task'"), ("tasks", "'ntasks'"),
    ("reservation", "'sbatch_args'"), ("mail_type", "'sbatch_args'"), ("nodelist", "'sbatch_args'")])
def test_words_of_sbatch_and_of_other_batch_systems(tmp_path: Path, key: str, hint: str) -> None:
    found = inline(tmp_path, f"{key}: 1").problems
    assert [(problem.severity, problem.code) for problem in found] == [("warning", "unknown-key")]
    assert hint in found[0].hint


def test_what_a_stranger_says_of_the_cluster_is_named(tmp_path: Path) -> None:
    section = ("partition: gpu, time: 1h, account: yours, qos: high, sbatch_args: [--nice=5], work_dir: /data, modules: [m], "
               "setup: [theirs], configure: job, env: {TOKEN: null}, scratch: true")
    reach = " ".join(platform_reach(platform(inline(tmp_path, section), "slurm")))
    for phrase in ("an account of the cluster: yours", "a quality of service of the cluster: high",
                   "words for sbatch: --nice=5", "a directory for its runs: /data",
                   "shell lines of its own ('modules')", "shell lines of its own ('setup')",
                   "values of your environment ('env')"):
        assert phrase in reach
    assert reach.count("mlcube.yaml:") == 7
    assert platform_reach(platform(inline(tmp_path, "", "slurm.account=mine", "slurm.setup=[mine]"), "slurm")) == ()


def test_a_strangers_words_for_a_cluster_keep_an_untrusted_cube_from_running(run_mlcube: RunMLCube, tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": INLINE.format("platform: docker, sbatch_args: --nice=5, account: yours")})
    for verb in ("run", "configure"):
        done = run_mlcube(verb, ".", "--platform", "slurm", "--untrusted", "--dry-run")
        assert (done.exit_code, done.stdout) == (3, "")
        assert "words for sbatch: --nice=5 (mlcube.yaml:3:40)" in done.stderr
        assert "an account of the cluster: yours (mlcube.yaml:3:59)" in done.stderr
    done = run_mlcube("validate", ".")
    assert done.exit_code == 0 and "an account of the cluster: yours" in done.stderr
