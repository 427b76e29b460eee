"""What the tests of the examples share: copies of them, a data set on loopback, real engines and what they were asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.conftest import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


def copy_example(name: str, target: Path) -> Path:
    """A copy of the example as it is in a fresh clone: without what earlier runs left in its workspace."""
    source = EXAMPLES / name

    def leftovers(directory: str, names: list[str]) -> set[str]:
        in_workspace = Path(directory).name == "workspace"
        return {name for name in names if name in (".make", ".mlcube", "__pycache__")
                or (in_workspace and name != "parameters")}

    shutil.copytree(source, target, ignore=leftovers)
    return target


def one_epoch(cube: Path) -> None:
    """Let the cube's training take as little time as it can."""
    (cube / "workspace/parameters/default.parameters.yaml").write_text(
        'optimizer: "adam"\ntrain_epochs: 1\nbatch_size: 32\n')


@dataclass(frozen=True)
class Trained:
    """What a training leaves in its directories."""

    accuracy: float
    digits: Mapping[str, int]


def trained(model: Path, logs: Path) -> Trained:
    """Checks that everything is there that the example promises, and returns its figures."""
    metrics = json.loads((model / "metrics.json").read_text())
    assert (model / "training-curve.png").read_bytes().startswith(PNG)
    with zipfile.ZipFile(model / "model.keras") as stored:
        assert "model.weights.h5" in stored.namelist()
    assert f"test accuracy: {metrics['accuracy']:.4f}" in (logs / "train.log").read_text()
    return Trained(metrics["accuracy"], metrics["digits"])


def records(workspace: Path) -> dict[str, str]:
    """The status of each task that ran in this workspace, by the task's name; the last run of each counts."""
    found = sorted((workspace / ".mlcube/runs").glob("*/record.json"))
    read = [json.loads(path.read_text()) for path in found]
    return {record["task"]: record["status"] for record in read}


def owners(directory: Path) -> set[tuple[int, int]]:
    """Everybody (user, group) who owns something at or below the directory."""
    paths = (directory, *directory.rglob("*"))
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in paths}


# --- a data set on loopback --------------------------------------------------------------------------------------------


def _array(shape: tuple[int, ...], content: bytes) -> bytes:
    """A .npy file of bytes (format version 1.0: magic, header length, header padded to 64 bytes)."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def write_digits(path: Path, train: int = 64, test: int = 16) -> None:
    """A file like mnist.npz, of images that are all one shade for each label: enough to be trained on."""
    with zipfile.ZipFile(path, "w") as stored:
        for part, count in (("train", train), ("test", test)):
            labels = bytes(number % 10 for number in range(count))
            images = b"".join(bytes([25 * label]) * (28 * 28) for label in labels)
            stored.writestr(f"x_{part}.npy", _array((count, 28, 28), images))
            stored.writestr(f"y_{part}.npy", _array((count,), labels))


@dataclass(frozen=True)
class Served:
    """An address that gives a small mnist.npz, and the file's checksum."""

    url: str
    sha256: str

    @property
    def environment(self) -> dict[str, str]:
        return {"MNIST_URL": self.url, "MNIST_SHA256": self.sha256}

    @property
    def docker_words(self) -> tuple[str, ...]:
        """For a container, which reaches the host's loopback only through the host's network (docs/platforms.md)."""
        return ("-Pdocker.network=host", *(f"-Pdocker.env.{name}={value}" for name, value in self.environment.items()))

    @property
    def singularity_words(self) -> tuple[str, ...]:
        """For apptainer, whose tasks are in the host's network unless they are told otherwise."""
        return tuple(f"-Psingularity.env.{name}={value}" for name, value in self.environment.items())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serve_digits(directory: Path) -> Iterator[Served]:
    directory.mkdir()
    write_digits(directory / "mnist.npz")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{server.server_port}/mnist.npz",
                     hashlib.sha256((directory / "mnist.npz").read_bytes()).hexdigest())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- real docker -------------------------------------------------------------------------------------------------------


def docker(*words: str) -> str:
    """What this docker command prints. It must succeed."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def image_id(name: str) -> str:
    """The image's id, or nothing where there is no image of that name."""
    asked = subprocess.run(["docker", "image", "inspect", "--format", "{{.Id}}", name], capture_output=True, text=True,
                           check=False, timeout=120)
    return asked.stdout.strip() if asked.returncode == 0 else ""


@contextlib.contextmanager
def without_image(name: str) -> Iterator[str]:
    """No image has this name at first; afterwards the name stands for what it stood for before."""
    before, aside = image_id(name), f"{name.partition(':')[0]}:set-aside-{os.getpid()}"
    if before:
        docker("image", "tag", before, aside)
        docker("image", "rm", "--force", name)
    try:
        yield name
    finally:
        if image_id(name):
            docker("image", "rm", "--force", name)
        if before:
            docker("image", "tag", before, name)
            docker("image", "rm", aside)


def containers_of(cube: str) -> str:
    """The containers, running or not, that runs of the cube of this name have left."""
    return docker("ps", "--all", "--quiet", "--filter", f"label=org.mlcommons.mlcube.cube={cube}")


class WatchedDocker:
    """A directory for PATH with a docker that writes down what it is asked, then asks the real one."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.log = place / "calls"
        real = shutil.which("docker")
        (place / "docker").write_text(f'#!/bin/sh\necho "$*" >>"{self.log}"\nexec "{real}" "$@"\n')
        (place / "docker").chmod(0o755)
        self.environment = {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}

    def calls(self, verb: str) -> list[str]:
        """The calls that begin with this word since the last question."""
        text = self.log.read_text() if self.log.exists() else ""
        return [line for line in text.splitlines() if line.split(" ")[0] == verb]


# --- real apptainer ----------------------------------------------------------------------------------------------------

# Image files of 1.9 GB packed in a twentieth of the processor time, and hardly bigger.
QUICK_SQUASH = {"APPTAINER_MKSQUASHFS_ARGS": "-comp zstd -Xcompression-level 1"}


def rebase(recipe: Path, bootstrap: str, source: Path) -> None:
    """Let an example's recipe start from what is on this machine: its two header lines change, and nothing else."""
    header = "Bootstrap: docker\nFrom: python:3.11-slim\n"
    text = recipe.read_text()
    assert text.count(header) == 1
    recipe.write_text(text.replace(header, f"Bootstrap: {bootstrap}\nFrom: {source}\n"))
