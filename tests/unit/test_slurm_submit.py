"""Handing jobs over, with a recording sbatch: all are queued or nothing is left; arrays larger than a cluster takes."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlcube_cli.batch import Batch, Part
from mlcube_cli.supervision.program import FUNCTIONS
from mlcube_cli.supervision.requests import answer_of
from mlcube_shell.slurm_submit import chunks, submit

NONCE = "0123abcd"
FAKE = """\
#!/bin/sh
printf '%s ' {name} "$@" >>"$CALLS"; echo "in $PWD umask $(umask) export=${{SBATCH_EXPORT-unset}}" >>"$CALLS"
{body}
"""
SBATCH = """\
number=$(grep -c '^sbatch' "$CALLS")
if [ "$number" -gt "${ACCEPT:-99}" ]; then echo 'sbatch: error: no more' >&2; exit 1; fi
echo "sbatch: a note" >&2
echo "$((100 + number));cluster"
"""


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    for name, body in (("sbatch", SBATCH), ("scancel", ""), ("scontrol", 'exit "${RELEASE:-0}"')):
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin" / name
        path.write_text(FAKE.format(name=name, body=body), "utf-8")
        path.chmod(0o755)
    return tmp_path / "calls"


def hand_over(calls: Path, batch: Batch, **variables: str) -> str:
    environment = {**os.environ, "PATH": f"{calls.parent}/bin:{os.environ['PATH']}", "CALLS": str(calls),
                   "SBATCH_EXPORT": "ALL", **variables}
    done = subprocess.run(["sh", "-s"], input=submit(batch, NONCE).encode("utf-8", "surrogateescape"), env=environment,
                          capture_output=True, check=True, timeout=60, umask=0o027, cwd="/")
    assert done.stderr == b""
    answer = answer_of(done.stdout.decode("utf-8", "surrogateescape"), NONCE)
    assert answer is not None
    return answer


def chain(directory: str, count: int) -> Batch:
    return Batch(directory, tuple(Part(f"{directory}/{number}", ((f"r-{number}", f"{directory}/{number}/r"),),
                                       f"#!/bin/sh\necho 'it is' {number}\n", {"mlc_secret_1": "it's"})
                                  for number in range(1, count + 1)))


def array(directory: str, count: int, largest: int | None = None, limit: int | None = None) -> Batch:
    return Batch(directory, tuple(Part(f"{directory}/{number}", (), f"# first\n{FUNCTIONS}\necho {number}\n")
                                  for number in range(1, count + 1)), "#!/bin/sh\n# the array\n", limit, largest)


def words(calls: Path, name: str = "sbatch") -> list[list[str]]:
    lines = calls.read_text("utf-8").splitlines() if calls.exists() else []
    return [line.split(" in ")[0].split() for line in lines if line.startswith(name)]


def test_one_job_is_one_call(calls: Path, tmp_path: Path) -> None:
    assert hand_over(calls, chain(f"{tmp_path}/run", 1)) == "submitted 101"
    assert words(calls) == [["sbatch", "--parsable", f"{tmp_path}/run/1/program"]]
    assert (tmp_path / "run/jobs").read_text("utf-8") == "101\n"


def test_a_job_starts_in_its_directory_with_the_callers_umask_and_nothing_of_his_variables(calls: Path, tmp_path: Path) -> None:
    hand_over(calls, chain(f"{tmp_path}/run", 1))
    assert calls.read_text("utf-8").endswith(f"in {tmp_path}/run/1 umask 0027 export=unset\n")


def test_the_files_are_there_and_secrets_are_for_us_alone(calls: Path, tmp_path: Path) -> None:
    hand_over(calls, chain(f"{tmp_path}/it's \udcff\nso", 2))
    place = Path(f"{tmp_path}/it's \udcff\nso/2")
    assert (place / "program").read_text("utf-8") == "#!/bin/sh\necho 'it is' 2\n"
    assert (place / "mlcube-run").read_text("utf-8") == "mlcube-run\n"
    assert (place / "secrets").read_text("utf-8") == "mlc_secret_1='it'\"'\"'s'\n"
    assert stat.S_IMODE((place / "secrets").stat().st_mode) == 0o600
    assert (place / "r").is_dir()


def test_several_jobs_wait_for_each_other_and_none_starts_before_all_are_queued(calls: Path, tmp_path: Path) -> None:
    assert hand_over(calls, chain(f"{tmp_path}/run", 3)) == "submitted 101 102 103"
    first, second, third = words(calls)
    assert "--hold" in first and "--hold" not in second
    assert "--dependency=afterok:101" in second and "--dependency=afterok:102" in third
    assert "--kill-on-invalid-dep=yes" in second
    assert words(calls, "scontrol") == [["scontrol", "release", "101"]]


def test_jobs_that_the_user_wants_held_are_not_released(calls: Path, tmp_path: Path) -> None:
    batch = chain(f"{tmp_path}/run", 2)
    held = replace(batch.parts[0], text=batch.parts[0].text.replace("#!/bin/sh\n", "#!/bin/sh\n#SBATCH --hold\n"))
    assert hand_over(calls, replace(batch, parts=(held, *batch.parts[1:]))) == "submitted 101 102"
    assert words(calls, "scontrol") == []


def test_a_refusal_leaves_nothing(calls: Path, tmp_path: Path) -> None:
    assert hand_over(calls, chain(f"{tmp_path}/run", 3), ACCEPT="1") == "failed sbatch: error: no more"
    assert words(calls, "scancel") == [["scancel", "101"]]
    assert not (tmp_path / "run").exists()


def test_a_first_job_that_cannot_be_released_leaves_nothing(calls: Path, tmp_path: Path) -> None:
    assert hand_over(calls, chain(f"{tmp_path}/run", 2), RELEASE="1").startswith("failed")
    assert words(calls, "scancel") == [["scancel", "101", "102"]]
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_there_is_not_touched(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine").touch()
    assert hand_over(calls, chain(f"{tmp_path}/run", 1)) == "exists"
    assert not words(calls) and [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


def test_without_sbatch_nothing_is_written(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "bin/sbatch").unlink()
    (tmp_path / "empty").mkdir()
    for name in ("sh", "mkdir", "cat", "rm"):
        (tmp_path / "empty" / name).symlink_to(f"/bin/{name}")
    assert hand_over(calls, chain(f"{tmp_path}/run", 1), PATH=str(tmp_path / "empty")) == "failed there is no sbatch command"
    assert not (tmp_path / "run").exists()


def test_an_array_is_one_call_whatever_its_count(calls: Path, tmp_path: Path) -> None:
    batch = array(f"{tmp_path}/run", 1000, largest=1000, limit=8)
    assert hand_over(calls, batch).split() == ["submitted", *(f"101_{number}" for number in range(1, 1001))]
    assert words(calls) == [["sbatch", "--parsable", f"{tmp_path}/run/program"]]
    member = (tmp_path / "run/1000/program").read_text("utf-8")
    assert member == f"# first\n. {tmp_path}/run/functions\n\necho 1000\n"
    assert (tmp_path / "run/functions").read_text("utf-8") == FUNCTIONS


def test_a_larger_one_is_several_with_the_limit_kept(calls: Path, tmp_path: Path) -> None:
    batch = array(f"{tmp_path}/100% run", 7, largest=3, limit=2)
    assert hand_over(calls, batch) == "submitted 101_1 101_2 101_3 102_1 102_2 102_3 103_1"
    text = calls.read_text("utf-8").splitlines()
    assert [line.split(" in ")[0].replace(str(tmp_path), "") for line in text] == [
        "sbatch --parsable --array=1-3%2 /100% run/program",
        "sbatch --parsable --array=1-3%2 --output=/100%% run/slurm-%A_%a.log --dependency=afterany:101 /100% run/program 3",
        "sbatch --parsable --array=1%2 --output=/100%% run/slurm-%A_%a.log --dependency=afterany:102 /100% run/program 6"]


def test_what_prepares_the_members_is_a_job_before_their_array(calls: Path, tmp_path: Path) -> None:
    batch = array(f"{tmp_path}/run", 4, largest=3, limit=2)
    first = Part(f"{tmp_path}/run/0", (), f"#!/bin/sh\n{FUNCTIONS}\necho first\n")
    batch = Batch(batch.directory, (first, *batch.parts), batch.array, batch.limit, batch.largest)
    assert hand_over(calls, batch) == "submitted 101 102_1 102_2 102_3 103_1"
    assert [call[1:-1] for call in words(calls)[:3]] == [
        ["--parsable", "--hold"],
        ["--parsable", "--array=1-3%2", "--dependency=afterok:101", "--kill-on-invalid-dep=yes"],
        ["--parsable", "--array=1%2", f"--output={tmp_path}/run/slurm-%A_%a.log", "--dependency=afterok:101,afterany:102",
         "--kill-on-invalid-dep=yes", f"{tmp_path}/run/program"]]
    assert "scontrol release 101 " in calls.read_text("utf-8")
    assert (tmp_path / "run/0/program").read_text("utf-8") == first.text


def test_secrets_are_quoted_once_so_that_what_stands_for_them_can_be_filled_in(calls: Path, tmp_path: Path) -> None:
    batch = array(f"{tmp_path}/run", 3)
    secrets = {"mlc_secret_1": "it's $5\n", "mlc_secret_2": "\\"}
    batch = Batch(batch.directory, tuple(Part(part.directory, (), part.text, secrets) for part in batch.parts), batch.array)
    assert submit(batch, NONCE).count("s $5") == 1  # members have the same
    hand_over(calls, batch)
    for number in (1, 2, 3):
        path = tmp_path / f"run/{number}/secrets"
        read = subprocess.run(["sh", "-c", '. "$1"; printf "%s|%s" "$mlc_secret_1" "$mlc_secret_2"', "sh", path],
                              capture_output=True, check=True, text=True)
        assert read.stdout == "it's $5\n|\\"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_members_by_arrays() -> None:
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [(0, [1, 2]), (2, [3, 4]), (4, [5])]
    assert list(chunks([4, 9], None)) == [(0, [4, 9])]


def by_hand(calls: Path, batch: Batch, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{calls.parent}/bin:{os.environ['PATH']}", "CALLS": str(calls), **variables}
    return subprocess.run(["sh", "-s"], input=submit(batch, NONCE, plain=True), env=environment, capture_output=True, text=True,
                          check=False, timeout=60)


def test_carried_out_by_hand_it_says_how_that_went(calls: Path, tmp_path: Path) -> None:
    batch = chain(f"{tmp_path}/run", 1)
    refused = by_hand(calls, batch, ACCEPT="0")
    assert (refused.returncode, refused.stdout) == (4, "") and refused.stderr == "not queued: sbatch: error: no more\n"
    done, again = by_hand(calls, batch), by_hand(calls, batch)
    assert (done.returncode, done.stdout, done.stderr) == (0, "submitted 102\n", "")
    assert (again.returncode, again.stderr) == (4, "not queued: exists\n")
