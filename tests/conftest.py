"""What all tests share: the real engines that are here or demanded, and mlcube as a child process in a clean world.

A test that needs a real engine bears the engine's name as a marker. Without `MLCUBE_TEST_ENGINES` the tests of an
absent engine are left out, and one line says so; `MLCUBE_TEST_ENGINES=docker` (names with commas, or `all`) turns
absence into failures.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from tests.integration.gpu_box import Box

CHECKOUT = Path(__file__).resolve().parent.parent
BASE_IMAGE = "mlcube-test/base:latest"  # Debian, Python, pip that reaches the registry; made by scripts/engines
TINY_IMAGE = "mlcube-test/tiny:latest"  # busybox
# Files that scripts/engines makes: NAME.tar as `docker save` writes it, NAME.sif for apptainer; NAME is tiny or base.
IMAGE_FILES = Path(os.environ.get("MLCUBE_TEST_CACHE", "/var/cache/mlcube-test")) / "images"
GPU_BOX = "mlcube-test-ssh"  # the container behind ssh that the tests share (tests/integration/gpu_box.py)
SET_UP = "as root: make engines"


def docker_absence(engine: str = "docker") -> str | None:
    """None when the engine and its test images are there, else what is absent, in half a sentence."""
    if shutil.which(engine) is None:
        return f"there is no {engine} command"
    asked = subprocess.run([engine, "image", "inspect", "--format", "{{.Id}}", BASE_IMAGE, TINY_IMAGE],
                           capture_output=True, text=True, check=False, timeout=60)
    if asked.returncode == 0:
        return None
    if any(text in asked.stderr for text in ("o such image", "image not known", "failed to find image")):
        return "its test images are not there" + ("" if engine == "docker" else f" for the user with the number {os.getuid()}")
    lines = asked.stderr.strip().splitlines()
    return lines[-1] if lines else f"{engine} image inspect ended with exit code {asked.returncode}"


def podman_absence() -> str | None:
    """As for docker; podman's images belong to a user, and scripts/engines loads them for the user mlcube-test."""
    return docker_absence("podman")


def singularity_absence() -> str | None:
    """None when apptainer or singularity starts and its test images are there, else what is absent."""
    name = shutil.which("apptainer") or shutil.which("singularity")
    if name is None:
        return "there is no apptainer or singularity command"
    asked = subprocess.run([name, "version"], capture_output=True, text=True, check=False, timeout=60)
    if asked.returncode != 0:
        return f"'{name} version' ended with exit code {asked.returncode}: {asked.stderr.strip()[-200:]}"
    absent = [str(path) for path in (IMAGE_FILES / "tiny.sif", IMAGE_FILES / "base.sif") if not os.access(path, os.R_OK)]
    return f"{' and '.join(absent)} cannot be read" if absent else None


def ssh_absence() -> str | None:
    """None when the machine behind ssh runs and this user can start others like it, else what is absent."""
    absent = [name for name in ("docker", "ssh", "ssh-keygen", "rsync") if shutil.which(name) is None]
    if absent:
        return f"there is no {' and no '.join(absent)} command"
    asked = subprocess.run(["docker", "container", "inspect", "--format", "{{.State.Running}}", GPU_BOX], capture_output=True,
                           text=True, check=False, timeout=60)
    if asked.stdout.strip() == "true":
        return None
    lines = asked.stderr.strip().splitlines()
    unknown = lines and "o such" not in lines[-1]
    return lines[-1] if unknown else f"the container {GPU_BOX} does not run"


def slurm_absence() -> str | None:
    """None when this user can start a Slurm cluster here (tests/integration/cluster.py), else what is absent."""
    place = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # daemons are not on everybody's PATH
    absent = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "sinfo") if shutil.which(name, path=place) is None]
    return f"there is no {' and no '.join(absent)} command" if absent else None


ENGINES = {"docker": docker_absence, "podman": podman_absence, "singularity": singularity_absence, "ssh": ssh_absence,
           "slurm": slurm_absence}


# For tests of what docker and podman share, or do not: @pytest.mark.parametrize("engine", DOCKER_AND_PODMAN).
DOCKER_AND_PODMAN = tuple(pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("docker", "podman"))


@functools.cache
def absence(engine: str) -> str | None:
    """Why this engine cannot be used here; None when it can."""
    return ENGINES[engine]()


def demanded_engines() -> tuple[str, ...]:
    """The engines that MLCUBE_TEST_ENGINES names. Raises UsageError for a name that no test knows."""
    names = tuple(os.environ.get("MLCUBE_TEST_ENGINES", "").replace(",", " ").split())
    if "all" in names:
        return tuple(ENGINES)
    for name in names:
        if name not in ENGINES:
            raise pytest.UsageError(f"MLCUBE_TEST_ENGINES names '{name}'; the tests know: {', '.join(ENGINES)}, all")
    return names


def needed_engines(item: pytest.Item) -> Iterator[str]:
    return (engine for engine in ENGINES if item.get_closest_marker(engine))


# --- leaving out, or demanding ---------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    demanded_engines()  # a wrong name is an error before anything runs


# The files that one process alone works through, where several share the tests, and why; files with the same reason go to the
# same process. (`--dist=loadgroup` and its mark would do, but pytest-xdist 3.8 passes the mark over with pytest 9.)
TOGETHER = {
    **dict.fromkeys(("test_examples_docker", "test_examples_singularity", "test_examples_slurm", "test_clusters_page",
                     "test_seed_pages_run"),
                    "the images of MNIST have one name, and take long to build"),
    **dict.fromkeys(("test_examples_local", "test_make_pipeline"), "one environment with TensorFlow is enough"),
    "test_platforms": "all columns are seen at once, side by side",
    "test_docs": "the command lines of a page build on one another",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `--numprocesses=auto`: more than there are processors, since a test waits for half of its time."""
    return (3 * len(os.sched_getaffinity(0)) + 1) // 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One test after the other goes to whichever process is free, but what is TOGETHER to one, and first."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(Path(nodeid.partition("::")[0]).stem, nodeid)

    return Sharing(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """Coverage measures the children of `run_mlcube` only: it imports much, and some tests look at what was imported.

    Before the workers are started, which are no such children; and after coverage has begun, which in a worker is now.
    """
    set_measuring_aside()
    yield
    set_measuring_aside()


def set_measuring_aside() -> None:
    if MEASURE in os.environ:
        os.environ[SET_ASIDE] = os.environ.pop(MEASURE)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    demanded = demanded_engines()
    left_out: dict[str, int] = {}
    kept, dropped = [], []
    for item in items:
        absent = [engine for engine in needed_engines(item) if engine not in demanded and absence(engine)]
        (dropped if absent else kept).append(item)
        for engine in absent:
            left_out[engine] = left_out.get(engine, 0) + 1
    if dropped:
        items[:] = kept
        config.hook.pytest_deselected(items=dropped)
    config.stash[LEFT_OUT] = left_out


LEFT_OUT: pytest.StashKey[dict[str, int]] = pytest.StashKey()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where several processes share the tests, each worker tells the one process that prints what was left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended; all of them collected the same tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    parts = [f"{engine} ({count} tests: {absence(engine)}; {SET_UP})"
             for engine, count in config.stash.get(LEFT_OUT, {}).items()]
    if parts:
        terminalreporter.write_line(f"engines left out: {', '.join(parts)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for engine in needed_engines(item):
        reason = absence(engine)
        if reason:
            pytest.fail(f"{engine} is demanded by MLCUBE_TEST_ENGINES, but {reason} ({SET_UP})", pytrace=False)


# --- mlcube as a child process ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a child process ended. The texts are UTF-8 with surrogateescape."""

    exit_code: int
    stdout: str
    stderr: str


class RunMLCube(Protocol):
    def __call__(self, *words: str, cwd: os.PathLike[str] | None = None, env: Mapping[str, str] | None = None,
                 stdin: str = "", timeout: float = 300, command: Iterable[str] = ...) -> Outcome: ...


# What of the caller's environment a test needs: how to reach the package registry, and which docker and podman.
KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_BUILDKIT",
        "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF", "XDG_RUNTIME_DIR",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
KEPT_PREFIXES = ("PIP_", "UV_")
MEASURE = "COVERAGE_PROCESS_CONFIG"  # by this variable coverage starts itself in child processes
SET_ASIDE = "MLCUBE_TEST_COVERAGE"


def clean_environment(home: Path) -> dict[str, str]:
    """An environment with an empty home, no settings of the caller's, and the caller's way to packages and engines."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    configurations = {
        "PIP_CONFIG_FILE": Path.home() / ".config/pip/pip.conf",
        "DOCKER_CONFIG": Path.home() / ".docker",
        "CONTAINERS_CONF": Path.home() / ".config/containers/containers.conf",
        "CONTAINERS_STORAGE_CONF": Path.home() / ".config/containers/storage.conf",
    }
    for name, path in configurations.items():
        if name not in kept and path.exists():
            kept[name] = str(path)
    if "DOCKER_CONFIG" not in os.environ and not (Path.home() / ".docker/config.json").exists():
        kept.pop("DOCKER_CONFIG", None)  # podman reads it too, and pulls nothing where the file is absent
    if SET_ASIDE in os.environ:
        kept[MEASURE] = os.environ[SET_ASIDE]
    return {**kept, "HOME": str(home), "MLCUBE_HOME": str(home / ".cache/mlcube"), "LANG": "C.UTF-8"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home directory; mlcube's cache lies in it."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def run_mlcube(home: Path, tmp_path: Path) -> RunMLCube:
    """Runs `python -m mlcube_cli WORDS` in a clean environment: `run_mlcube("validate", cube).exit_code`.

    `env` adds to the environment, `cwd` defaults to the test's temporary directory, `command` replaces the interpreter
    and module (to run a pyz). A run that takes longer than `timeout` seconds is killed and fails the test.
    """
    ours = (sys.executable, "-m", "mlcube_cli")

    def run(*words: str, cwd: os.PathLike[str] | None = None, env: Mapping[str, str] | None = None,
            stdin: str = "", timeout: float = 300, command: Iterable[str] = ours) -> Outcome:
        child = subprocess.run([*command, *words], cwd=cwd or tmp_path, env={**clean_environment(home), **(env or {})},
                               input=stdin.encode(), capture_output=True, check=False, timeout=timeout)
        return Outcome(child.returncode, child.stdout.decode("utf-8", "surrogateescape"),
                       child.stderr.decode("utf-8", "surrogateescape"))

    return run


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that lasts the session, for environments too big to make in each test: env={"MLCUBE_HOME": ...}."""
    return tmp_path_factory.mktemp("mlcube-home")


# --- a machine behind ssh --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def gpu_box() -> Iterator[Box]:
    """The machine behind ssh that scripts/engines started: run_mlcube(..., env=gpu_box.environment), hosts ada, dash, ..."""
    from tests.integration.gpu_box import shared_box
    with shared_box() as box:
        yield box


@pytest.fixture
def broken_box() -> Iterator[Box]:
    """A machine of this test's own, to cut, fill and restart: without a docker daemon, until `box.root("docker-up tiny")`."""
    from tests.integration.gpu_box import own_box
    with own_box() as box:
        yield box
