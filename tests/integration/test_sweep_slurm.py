"""mlcube sweep on a real Slurm: one array, one call of sbatch, whatever the number of members."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.conftest import Outcome, RunMLCube, clean_environment
from tests.cubes import write_tree
from tests.integration.cluster import Cluster

pytestmark = pytest.mark.slurm

CUBE = """
    name: fit
    tasks:
      train:
        entrypoint: sh train.sh
        parameters:
          inputs: {settings: {type: file, default: settings.yaml}}
          outputs: {out: {type: directory, default: out}}
    slurm: {platform: local}
    local: {}
"""
TRAIN = """\
for word; do case $word in --settings=*) settings=${word#*=};; --out=*) out=${word#*=};; esac; done
rate=$(sed -n 's/^rate: //p' "$settings") seed=$(sed -n 's/^seed: //p' "$settings")
echo "rate $rate seed $seed on $(hostname)"
[ ! -e wait ] || sleep 60
[ "$seed" != 13 ] || [ -e lucky ] || { echo 'bad luck' >&2; exit 3; }
printf '{"score": %s.%s}' "$seed" 5 >"$out/metrics.json"
"""


class Bench:
    """A cube whose task is a shell script, on the cluster."""

    def __init__(self, run_mlcube: RunMLCube, base: Path, home: Path, cluster: Cluster) -> None:
        self.cluster, self.home, self._run = cluster, home, run_mlcube
        self.cube = write_tree(base / "a cube's", {"mlcube.yaml": CUBE, "train.sh": TRAIN, "workspace/settings.yaml":
                                                   "rate: 0.1\nseed: 1\n"})
        self.children: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        return {**clean_environment(self.home), **self.cluster.environment}

    def run(self, *words: str) -> Outcome:
        return self._run(*words, cwd=self.cube, env=self.cluster.environment)

    def start(self, *words: str) -> subprocess.Popen[str]:
        child = subprocess.Popen([sys.executable, "-m", "mlcube_cli", *words], cwd=self.cube, env=self.environment,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        return child

    def status(self) -> dict[str, int]:
        done = self.run("sweep", "status", "--json")
        return json.loads(done.stdout)["counts"] if done.exit_code == 0 else {done.stderr: done.exit_code}

    def until(self, **counts: int) -> None:
        end = time.monotonic() + 60
        while self.status() != counts:
            assert time.monotonic() < end, self.status()
            time.sleep(0.5)


@pytest.fixture
def bench(run_mlcube: RunMLCube, tmp_path: Path, home: Path, cluster: Cluster) -> Iterator[Bench]:
    found = Bench(run_mlcube, tmp_path, home, cluster)
    cluster.forget_calls()
    yield found
    for child in found.children:
        child.kill()
        child.communicate()
    cluster.cancel_all()


def test_members_are_one_array_and_a_table_shows_the_best(bench: Bench) -> None:
    done = bench.run("sweep", ".", "--platform", "slurm", "--set", "rate=0.1,0.2", "--set", "seed=1..3", "-j", "4")
    assert done.exit_code == 0, done.stderr
    submitted = [call for call in bench.cluster.calls("sbatch") if "--test-only" not in call]
    assert len(submitted) == 1
    directory = next((bench.cube / "workspace/sweeps").iterdir())
    assert done.stdout == f"{directory.name}\n"
    assert (directory / "0006/settings.yaml").read_text() == "rate: 0.2\nseed: 3\n"
    assert (bench.cube / "workspace/settings.yaml").read_text() == "rate: 0.1\nseed: 1\n"
    assert "#SBATCH --array=1-6%4" in (bench.cube / f"workspace/.mlcube/runs/{directory.name}/program").read_text()
    table = bench.run("sweep", "table", "--json")
    assert json.loads(table.stdout)["best"] == 3
    assert bench.run("logs", f"{directory.name}-5").stdout.startswith("rate 0.2 seed 2 on")
    record = json.loads((bench.cube / f"workspace/.mlcube/runs/{directory.name}-5/record.json").read_text())
    assert (record["status"], record["exit_code"]) == ("succeeded", 0)
    ps = bench.run("ps")
    assert ps.stdout.count(directory.name) == 1
    assert "6 succeeded" in ps.stdout


def test_failed_members_are_told_and_run_again(bench: Bench) -> None:
    done = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=12..14")
    assert done.exit_code == 3, done.stderr
    assert "member 2 (seed=13): failed, exit code 3: bad luck" in done.stderr
    (bench.cube / "lucky").touch()
    bench.cluster.forget_calls()
    again = bench.run("sweep", "retry", "--failed")
    assert again.exit_code == 0, again.stderr
    assert len([call for call in bench.cluster.calls("sbatch") if "--test-only" not in call]) == 1
    assert bench.status() == {"succeeded": 3}
    assert bench.run("sweep", "retry", "--failed").stderr.count("nothing to run again") == 1


def test_waiting_has_the_exit_code_of_the_sweep(bench: Bench) -> None:
    (bench.cube / "train.sh").write_text(f"case $* in *0001*) sleep 60;; esac\n{TRAIN}")
    left = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=12,13", "--detach")
    bench.until(running=1, failed=1)
    assert bench.run("cancel", left.stdout.strip()).exit_code == 0
    waited = bench.run("wait", left.stdout.strip())
    assert waited.exit_code == 3, waited.stderr
    assert bench.status() == {"cancelled": 1, "failed": 1}


def test_a_sweep_is_left_to_itself_and_waited_for(bench: Bench) -> None:
    left = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=1..4", "--detach")
    assert left.exit_code == 0, left.stderr
    identifier = left.stdout.strip()
    waited = bench.run("wait", identifier)
    assert waited.exit_code == 0, waited.stderr
    assert bench.status() == {"succeeded": 4}


def test_a_member_that_slurm_ends_without_a_word_is_known(bench: Bench) -> None:
    (bench.cube / "wait").touch()
    left = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=1..2", "--detach")
    assert left.exit_code == 0, left.stderr
    bench.until(running=2)
    numbers = bench.cluster.run("squeue", "--noheader", "--array", "--format=%A").stdout.split()
    assert bench.cluster.kill_job_processes(numbers[0]) > 0
    bench.cluster.cancel(numbers[1])
    end = time.monotonic() + 90
    while any(status in bench.status() for status in ("running", "queued")):
        assert time.monotonic() < end, bench.status()
        time.sleep(2)
    assert "succeeded" not in bench.status()
    (bench.cube / "wait").unlink()
    assert bench.run("sweep", "retry", "--failed").exit_code == 0


def test_a_sweep_that_runs_is_not_run_again_and_stands_as_before(bench: Bench) -> None:
    (bench.cube / "wait").touch()
    left = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=1..2", "--detach")
    assert left.exit_code == 0, left.stderr
    bench.until(running=2)
    bench.cluster.cancel(bench.cluster.run("squeue", "--noheader", "--array", "--format=%i").stdout.split()[0])
    bench.until(cancelled=1, running=1)
    again = bench.run("sweep", "retry")
    assert again.exit_code == 4 and f"is being written by run {left.stdout.strip()}" in again.stderr
    assert bench.status() == {"cancelled": 1, "running": 1}


def test_ctrl_c_cancels_the_array(bench: Bench) -> None:
    (bench.cube / "wait").touch()
    child = bench.start("sweep", ".", "--platform", "slurm", "--set", "seed=1..3", "--on-interrupt", "cancel")
    bench.until(running=3)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT, said
    bench.cluster.until(lambda: not bench.cluster.run("squeue", "--noheader").stdout.strip(), 30, lambda: "still queued")
    assert bench.status() == {"cancelled": 3}


def test_more_members_than_one_array_may_have_are_handed_over_in_several(
        run_mlcube: RunMLCube, tmp_path: Path, home: Path, own_cluster: Callable[..., Cluster]) -> None:
    cluster = own_cluster(MaxArraySize="4")
    bench = Bench(run_mlcube, tmp_path, home, cluster)
    done = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=1..7")
    assert done.exit_code == 0, done.stderr
    assert len([call for call in cluster.calls("sbatch") if "--test-only" not in call]) == 3
    assert bench.status() == {"succeeded": 7}


def test_a_dry_run_shows_the_batch_file_and_queues_nothing(bench: Bench) -> None:
    done = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=1..3", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "#SBATCH --array=1-3" in done.stdout
    assert "# note: member 3: seed=3" in done.stdout
    assert not (bench.cube / "workspace/sweeps").exists()
    assert [call for call in bench.cluster.calls("sbatch") if "--test-only" not in call] == []


def test_a_dry_run_keeps_a_secret_and_is_a_script_that_does_it(bench: Bench) -> None:
    (bench.cube / "train.sh").write_text('for word; do case $word in --out=*) out=${word#*=};; esac; done\n'
                                         'printf %s "$TOKEN" >"$out/token"\n')
    secret = "it's s3cr3t, $5"
    done = bench.run("sweep", ".", "--platform", "slurm", "--set", "seed=1..2", "--dry-run", f"-Plocal.env.TOKEN={secret}")
    assert done.exit_code == 0, done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr
    subprocess.run(["sh"], input=done.stdout, text=True, check=True,
                   env={**bench.environment, "TOKEN": secret, "RUN_ID": "by-hand"})
    tokens = [bench.cube / f"workspace/sweeps/by-hand/000{number}/out/token" for number in (1, 2)]
    bench.cluster.until(lambda: all(path.exists() and path.read_text() == secret for path in tokens), 30, lambda: "no token")
    said = [path for path in (bench.cube / "workspace").rglob("*") if path.is_file() and path not in tokens
            and path.name != "secrets" and "s3cr3t" in path.read_text(errors="replace")]
    assert said == []


def test_what_prepares_the_members_may_be_a_job_before_them(bench: Bench) -> None:
    (bench.cube / "mlcube.yaml").write_text(dedent(CUBE).replace("local: {}", "local: {requirements: some.txt}"))
    (bench.cube / "some.txt").write_text("nothing @ file:///nowhere\n")
    done = bench.run("sweep", ".", "--platform", "slurm", "-Pslurm.configure=job", "--set", "seed=1..3")
    submitted = [call for call in bench.cluster.calls("sbatch") if "--test-only" not in call]
    assert [any(word.startswith("--dependency=afterok:") for word in call) for call in submitted] == [False, True]
    assert done.exit_code == 5, done.stderr
    assert "error: on slurm: " in done.stderr and "ERROR: Could not install packages" in done.stderr, done.stderr
    assert bench.status() == {"cancelled": 3}
