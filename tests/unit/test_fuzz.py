"""Nothing that a definition can contain ends in a traceback, takes long, or takes much memory (`make stress`: more of it)."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import mangling
from tests.conftest import CHECKOUT
from tests.cubes import write_tree

MEGABYTES = 200
_texts = st.one_of(st.sampled_from([value for value in mangling.NASTY if isinstance(value, str)]), st.text(max_size=8))
_keys = st.one_of(st.sampled_from(mangling.vocabulary()), _texts)
_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _texts)
_values = st.recursive(_scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(_keys, inner, max_size=4)), max_leaves=8)
_parameters = st.dictionaries(st.sampled_from(["inputs", "outputs"]), st.dictionaries(_keys, _values, max_size=3), max_size=2)
_tasks = st.fixed_dictionaries({}, optional={"parameters": st.one_of(_parameters, _values), "entrypoint": _values})
_inline = st.fixed_dictionaries({"tasks": st.dictionaries(_keys, st.one_of(_tasks, _values), max_size=2)},
                                optional={"name": _values, "docker": _values, "local": _values, "singularity": _values,
                                          "platform": _values, "x": _values})
_files = st.sampled_from(["mlbox.yaml", "implementation/mlbox_implementation.yaml", "tasks/train/default.yaml",
                          "mlcube.yaml", "tasks/train.yaml", "run/train.yaml", "platforms/docker.yaml"])
_UNHURRIED = settings(deadline=None, derandomize=True, max_examples=40, database=None,
                      suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for cubes, on a machine without engines."""
    for name, value in dict(os.environ).items():
        monkeypatch.setenv(name, value)  # what set_up clears comes back
    mangling.set_up(tmp_path)
    return tmp_path


def _try(place: Path, cube: mangling.Cube) -> None:
    number = sum(1 for _ in place.iterdir())
    mangling.try_cube(place / f"cube{number}", cube, number)


@_UNHURRIED
@given(_inline)
def test_random_inline_cubes(place: Path, tree: object) -> None:
    _try(place, {"mlcube.yaml": mangling.dump(tree)})


@_UNHURRIED
@given(st.booleans(), _files, _values)
def test_random_files_of_the_other_dialects(place: Path, mlbox: bool, name: str, tree: object) -> None:
    seed = mangling.MLBOX if mlbox else mangling.DIRECTORY
    _try(place, {**{file: text.encode() for file, text in seed.items()}, name: mangling.dump(tree)})


@_UNHURRIED
@given(st.binary(max_size=200))
def test_random_bytes(place: Path, content: bytes) -> None:
    _try(place, {"mlcube.yaml": content})


def child(first: int, last: int, seconds: float) -> dict[str, int]:
    """The cubes of the seeds in a process of their own, which may neither hang nor grow."""
    limit = 2 * MEGABYTES * 1024 * 1024  # of address space, which is more than what is really used
    done = subprocess.run([sys.executable, "-m", "tests.mangling", str(first), str(last)], cwd=CHECKOUT, timeout=seconds,
                          capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_changed_real_definitions_take_neither_long_nor_much_memory() -> None:
    used = child(0, 120, 120)
    assert used["megabytes"] < MEGABYTES


@pytest.mark.parametrize(("name", "text"), [
    ("aliases", "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))),
    ("merges", "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 40))),
    ("depth", "tasks: " + "[" * 20_000),
    ("flow depth", "tasks: " + "{a: " * 20_000),
    ("block depth", "".join(f"{' ' * n}a:\n" for n in range(3000))),
    ("many keys", "tasks:\n" + "".join(f"  t{n}: {{paramters: 1}}\n" for n in range(1_500))),
    ("references", "x: y\ntasks: {a: null}\na0: ${x}\n" + "".join(f"a{n}: ${{a{n - 1}}}${{a{n - 1}}}\n" for n in range(1, 60))),
    ("one long line", "name: " + "x" * 500_000 + "\ntasks: {a: null}\n"),
    ("open references", "name: " + "${" * 30_000 + "\ntasks: {a: null}\n"),
    ("digits", "name: " + "9" * 300_000 + "\ntasks: {a: null}\n"),
    ("quotes", "docker: {image: a, run_args: '" + '"' * 100_000 + "a'}\ntasks: {a: null}\n"),
])
def test_what_could_blow_up_does_not(tmp_path: Path, name: str, text: str) -> None:
    """Each in a process of its own: the most that it used is its own."""
    write_tree(tmp_path, {"home/x": "", "cube/x": ""})
    (tmp_path / "cube/mlcube.yaml").write_text(text)
    program = ("import sys; from mlcube_cli.cli import main; code = main(sys.argv[1:]); "  # ru_maxrss counts the parent's too
               "print(code, next(int(line.split()[1]) for line in open('/proc/self/status') if 'VmHWM' in line) // 1024)")
    done = subprocess.run([sys.executable, "-c", program, "run", str(tmp_path / "cube"), "--platform=docker", "--dry-run"],
                          env={"HOME": str(tmp_path / "home"), "PATH": str(tmp_path)}, cwd=CHECKOUT, timeout=60,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    code, megabytes = map(int, done.stdout.split()[-2:])
    assert code in mangling.OURS
    assert megabytes < MEGABYTES, name
    assert len(done.stderr) < 5_000_000
