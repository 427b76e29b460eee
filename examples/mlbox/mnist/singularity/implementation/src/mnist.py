#!/usr/bin/env python3
"""The MNIST example: get handwritten digits, train a small network on them.

    python mnist.py download --data_dir=PATH --log_dir=PATH
    python mnist.py sample   --data_dir=PATH --log_dir=PATH
    python mnist.py train    --data_dir=PATH --log_dir=PATH --model_dir=PATH --parameters_file=PATH

`download` fetches the real MNIST (11 MB). `sample` writes 1,797 real digits that ship with this example, in the same
layout, for machines without internet. `train` reads what either of them wrote. An MLBox names its task with
`--mlbox_task=NAME`, and calls the download `downloaddata`.

Exit codes: 0 done, 1 the task failed, 2 the command line, the environment or the parameters file is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gzip
import hashlib
import http.client
import json
import logging
import math
import os
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LOG = logging.getLogger("mnist")

# Where Keras publishes MNIST as one NumPy file, the two places it has used, and the file's checksum.
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "https://s3.amazonaws.com/img-datasets/mnist.npz",
)
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SAMPLE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "digits.csv.gz")
SAMPLE_SOURCE = (
    "1,797 digits of Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998),\n"
    "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0; scaled from 8x8 to 28x28.\n"
)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")

ATTEMPTS = 4  # on each mirror; the pauses between them are 1, 2 and 4 seconds
TIMEOUT_SECONDS = 30
BLOCK_BYTES = 1 << 16
OPTIMIZERS = ("adam", "adamw", "nadam", "rmsprop", "sgd")


class ExampleError(Exception):
    """What went wrong, in words for the user, and the exit code it deserves."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TransferError(Exception):
    """One attempt at one mirror failed; `permanent` when another attempt there would fail in the same way."""

    def __init__(self, message: str, permanent: bool = False, too_long: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.too_long = too_long  # the part that we have is longer than the file that is there


# ---------- files


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A name beside `path` to write to; it becomes `path` only when the block ends well, so nobody sees half a file."""
    stem, extension = os.path.splitext(path)
    part = f"{stem}.part{extension}"
    try:
        yield part
        os.replace(part, path)
    finally:
        remove(part)


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def sha256_of(path: str) -> str | None:
    """The file's checksum in hexadecimal, or None where there is no such file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(BLOCK_BYTES), b""):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def describe_data(data_dir: str, text: str) -> None:
    """Write beside the data where it comes from; the checksum says which file the words are about."""
    with replacing(os.path.join(data_dir, "SOURCE.txt")) as part, open(part, "w", encoding="utf-8") as stream:
        stream.write(text + f"mnist.npz sha256: {sha256_of(os.path.join(data_dir, 'mnist.npz'))}\n")


# ---------- download


def download_source(environment: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The addresses to try in turn and the checksum to expect; MNIST_URL and MNIST_SHA256 override them."""
    url = environment.get("MNIST_URL", "").strip()
    if url and urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ExampleError(f"MNIST_URL: '{url}' is no http, https or file address", exit_code=2)
    checksum = environment.get("MNIST_SHA256", "").strip().lower() or MNIST_SHA256
    if len(checksum) != 64 or set(checksum) - set("0123456789abcdef"):
        raise ExampleError(f"MNIST_SHA256: '{checksum}' is no sha256 checksum (64 hexadecimal digits)", exit_code=2)
    return ((url,) if url else MIRRORS), checksum


class Progress:
    """A bar on a terminal; elsewhere, such as in a log, one line for each quarter."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.terminal = sys.stderr.isatty()
        self.shown = -1

    def update(self, done: int) -> None:
        percent = min(100, 100 * done // self.total) if self.total else 0
        step = percent if self.terminal else percent // 25
        if step == self.shown or not self.total:
            return
        self.shown = step
        text = f"{percent:3d} %  {done / 1e6:.1f} of {self.total / 1e6:.1f} MB"
        bar = f"\r[{'#' * (percent * 30 // 100):30s}] "
        sys.stderr.write(bar + text + "\n" * (percent == 100) if self.terminal else text + "\n")
        sys.stderr.flush()


def ask(url: str, have: int) -> Any:
    """The server's answer, for the bytes behind the first `have` where it can. Raises TransferError."""
    headers = {"User-Agent": "mlcube-mnist-example/1.0"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        permanent = 400 <= error.code < 500 and error.code not in (408, 416, 429)
        raise TransferError(f"HTTP {error.code} {error.reason}", permanent, too_long=error.code == 416) from error
    except urllib.error.URLError as error:
        hopeless = url.startswith("file:") or type(error.reason).__name__ == "SSLCertVerificationError"
        raise TransferError(str(error.reason), hopeless) from error
    except (http.client.HTTPException, OSError) as error:
        raise TransferError(str(error) or type(error).__name__) from error


def blocks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(BLOCK_BYTES)
        except (http.client.HTTPException, OSError) as error:
            raise TransferError(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block


def transfer(url: str, part: str) -> bool:
    """Fetch `url` into `part`, going on where an earlier attempt ended; True when it could. Raises TransferError."""
    have = os.stat(part).st_size if os.path.exists(part) else 0
    with ask(url, have) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0  # 0: the server does not say
        progress = Progress(total)
        with open(part, "ab" if resumed else "wb") as stream:
            for block in blocks(response):
                stream.write(block)
                have += len(block)
                progress.update(have)
    if have < total:
        raise TransferError(f"the connection ended after {have} of {total} bytes")
    return resumed


def attempt(url: str, part: str, checksum: str) -> None:
    """Fetch `url` and check it. A wrong file is removed; where it came in one go, trying again would not help."""
    resumed = transfer(url, part)
    found = sha256_of(part)
    if found != checksum:
        remove(part)
        raise TransferError(f"wrong checksum: sha256 {found}, expected {checksum}", permanent=not resumed)


def fetch(urls: tuple[str, ...], checksum: str, target: str, pause: Callable[[float], None] = time.sleep) -> None:
    """Put the file with this checksum at `target`, from the first address that gives it."""
    part = target + ".part"
    failures = []
    if sha256_of(part) == checksum:  # complete already, and only the last step was missing
        os.replace(part, target)
        return
    for url in urls:
        LOG.info("downloading %s", url)
        for number in range(1, ATTEMPTS + 1):
            try:
                attempt(url, part, checksum)
            except TransferError as error:
                LOG.info("attempt %d of %d failed: %s", number, ATTEMPTS, error)
                if error.too_long:
                    remove(part)
                if error.permanent or number == ATTEMPTS:
                    failures.append(f"  {url}: {error}")
                    break
                pause(2.0 ** (number - 1))
            else:
                os.replace(part, target)
                return
    raise ExampleError(
        "cannot download MNIST:\n" + "\n".join(failures) + "\n"
        "hint: set MNIST_URL to a copy of mnist.npz, or run the task `sample`, which needs no internet"
    )


def run_download(options: argparse.Namespace) -> None:
    urls, checksum = download_source(os.environ)
    os.makedirs(options.data_dir, exist_ok=True)
    target = os.path.join(options.data_dir, "mnist.npz")
    if sha256_of(target) == checksum:
        LOG.info("%s is there already and its checksum is right: nothing to download", target)
    else:
        fetch(urls, checksum, target)
        LOG.info("wrote %s", target)
    describe_data(options.data_dir, f"MNIST as published for Keras, from {' or '.join(urls)}\n")


# ---------- sample


def enlarge(images: np.ndarray) -> np.ndarray:
    """Images of 8x8 with values 0 to 16, as 28x28 with values 0 to 255: bilinear to 20x20, centred, as in MNIST."""
    import numpy as np

    places = np.clip((np.arange(20) + 0.5) * 8 / 20 - 0.5, 0, 7)
    lower = np.minimum(places.astype(int), 6)
    weights = np.zeros((20, 8))
    weights[np.arange(20), lower] = 1 - (places - lower)
    weights[np.arange(20), lower + 1] = places - lower
    large = np.zeros((len(images), 28, 28), dtype=np.uint8)
    large[:, 4:24, 4:24] = np.rint(weights @ images @ weights.T * (255 / 16))
    return large


def run_sample(options: argparse.Namespace) -> None:
    import numpy as np

    with gzip.open(SAMPLE_FILE, "rt", encoding="ascii") as stream:
        table = np.loadtxt(stream, delimiter=",")
    images, labels = enlarge(table[:, :64].reshape(-1, 8, 8)), table[:, 64].astype(np.uint8)
    test = np.arange(len(labels)) % 6 == 5  # every sixth digit: the same 299 on every machine
    arrays = dict(zip(ARRAYS, (images[~test], labels[~test], images[test], labels[test])))
    os.makedirs(options.data_dir, exist_ok=True)
    target = os.path.join(options.data_dir, "mnist.npz")
    if os.path.exists(target):
        LOG.info("replacing the data set that is there")
    with replacing(target) as part:
        np.savez_compressed(part, **arrays)
    describe_data(options.data_dir, SAMPLE_SOURCE)
    LOG.info("wrote %s: %d digits to train on, %d to test on", target, np.sum(~test), np.sum(test))


# ---------- train


@dataclass(frozen=True)
class Parameters:
    """What the parameters file says; `seed` is the only key that may be left out."""

    optimizer: str
    train_epochs: int
    batch_size: int
    seed: int = 0


def parameter_problems(data: Mapping[object, object]) -> list[str]:
    """One sentence, beginning with the key, for everything that is wrong."""
    known = list(Parameters.__dataclass_fields__)
    names = ", ".join(known)
    problems = []
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            problems.append(f"{key}: unknown key; {f'did you mean {near[0]!r}?' if near else f'known are {names}'}")
    problems += [f"{key}: missing" for key in known if key not in data and key != "seed"]
    optimizer = data.get("optimizer")
    if "optimizer" in data and optimizer not in OPTIMIZERS:
        problems.append(f"optimizer: must be one of {', '.join(OPTIMIZERS)}, not {optimizer!r}")
    for key in ("train_epochs", "batch_size"):
        value = data.get(key, 1)
        if type(value) is not int or value < 1:
            problems.append(f"{key}: must be a whole number of at least 1, not {value!r}")
    seed = data.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**32:
        problems.append(f"seed: must be a whole number from 0 to {2**32 - 1}, not {seed!r}")
    return problems


def read_parameters(path: str) -> Parameters:
    """The parameters in the YAML file. Raises ExampleError that names the file and every key that is wrong."""
    import yaml

    try:
        with open(path, "rb") as stream:
            data = yaml.safe_load(stream)
    except OSError as error:
        raise ExampleError(f"{path}: cannot be read: {error.strerror}", exit_code=2) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ExampleError(f"{path}: is no YAML: {' '.join(str(error).split())}", exit_code=2) from error
    if not isinstance(data, dict):
        raise ExampleError(f"{path}: must hold 'key: value' lines, such as 'train_epochs: 5'", exit_code=2)
    problems = parameter_problems(data)
    if problems:
        raise ExampleError("\n".join(f"{path}: {problem}" for problem in problems), exit_code=2)
    return Parameters(**data)


def load_data(data_dir: str) -> dict[str, np.ndarray]:
    """The four arrays of mnist.npz, checked."""
    import zipfile

    import numpy as np

    path = os.path.join(data_dir, "mnist.npz")
    if not os.path.exists(path):
        raise ExampleError(f"{path}: not there\nhint: run the task `download` first, or `sample` without internet")
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = {name: stored[name] for name in ARRAYS}
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ExampleError(f"{path}: is no MNIST file: {error}\nhint: run `download` or `sample` again") from error
    for part in ("train", "test"):
        images, labels = data[f"x_{part}"], data[f"y_{part}"]
        fits = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1] and len(labels)
        if not fits or images.dtype != np.uint8 or labels.max() > 9:
            raise ExampleError(f"{path}: x_{part} and y_{part} are not 28x28 images with labels from 0 to 9")
    return data


def build_model(optimizer: str) -> Any:
    """A small convolutional network that takes the images as they are in mnist.npz."""
    from keras import Sequential, layers

    model = Sequential([layers.Input((28, 28)), layers.Rescaling(1 / 255), layers.Reshape((28, 28, 1))])
    for filters in (32, 64, 128):
        if filters > 32:
            model.add(layers.MaxPooling2D())
        model.add(layers.Conv2D(filters, 3, use_bias=False))
        # The small sample has only 47 steps in an epoch, so the running averages must follow quickly.
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.Activation("relu"))
    for layer in (layers.Flatten(), layers.Dropout(0.3), layers.Dense(10, activation="softmax")):
        model.add(layer)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model: Any, data: Mapping[str, np.ndarray], parameters: Parameters) -> dict[str, list[float]]:
    """Train, saying after each epoch how it went; the learning rate falls from the optimizer's own to near zero."""
    from keras.callbacks import LambdaCallback, LearningRateScheduler

    epochs = parameters.train_epochs
    start = float(model.optimizer.learning_rate)

    def say(epoch: int, logs: Mapping[str, float]) -> None:
        LOG.info(
            "epoch %d/%d: loss %.4f, accuracy %.4f, test loss %.4f, test accuracy %.4f",
            epoch + 1, epochs, logs["loss"], logs["accuracy"], logs["val_loss"], logs["val_accuracy"],
        )  # fmt: skip

    falling = LearningRateScheduler(lambda epoch, rate: start * (1 + math.cos(math.pi * epoch / epochs)) / 2)
    history = model.fit(
        data["x_train"],
        data["y_train"],
        batch_size=parameters.batch_size,
        epochs=epochs,
        validation_data=(data["x_test"], data["y_test"]),  # only to draw the curve: nothing is chosen by it
        callbacks=[falling, LambdaCallback(on_epoch_end=say)],
        verbose=0,
    ).history
    return {name: [float(value) for value in values] for name, values in history.items()}


def draw_curve(history: Mapping[str, list[float]], path: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        epochs = range(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], marker="o", label="training")
        axes.plot(epochs, history[f"val_{name}"], marker="o", label="test")
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, format="png", dpi=100)


def write_results(model: Any, history: Mapping[str, list[float]], metrics: Mapping[str, Any], model_dir: str) -> None:
    os.makedirs(model_dir, exist_ok=True)
    with replacing(os.path.join(model_dir, "model.keras")) as part:
        model.save(part)
    with replacing(os.path.join(model_dir, "training-curve.png")) as part:
        draw_curve(history, part)
    with replacing(os.path.join(model_dir, "metrics.json")) as part, open(part, "w", encoding="utf-8") as stream:
        json.dump(metrics, stream, indent=2)
        stream.write("\n")


def run_train(options: argparse.Namespace) -> None:
    parameters = read_parameters(options.parameters_file)
    data = load_data(options.data_dir)
    LOG.info("%d digits to train on, %d to test on", len(data["y_train"]), len(data["y_test"]))
    with tempfile.TemporaryDirectory(prefix="mnist-") as scratch:
        # Keras and matplotlib keep settings and caches in the home directory, which a container's user may not have.
        os.environ.setdefault("KERAS_HOME", scratch)
        os.environ.setdefault("MPLCONFIGDIR", scratch)
        # Quiet, and the same numbers on every processor; what really fails comes as an exception.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        import keras
        import tensorflow

        keras.utils.set_random_seed(parameters.seed)
        tensorflow.config.experimental.enable_op_determinism()
        started = time.monotonic()
        model = build_model(parameters.optimizer)
        history = fit(model, data, parameters)
        metrics = {
            "accuracy": history["val_accuracy"][-1],
            "loss": history["val_loss"][-1],
            "epochs": parameters.train_epochs,
            "seconds": round(time.monotonic() - started, 2),
            "parameters": asdict(parameters),
            "digits": {"train": len(data["y_train"]), "test": len(data["y_test"])},
            "weights": model.count_params(),
            "versions": {"tensorflow": tensorflow.__version__, "keras": keras.__version__},
            "history": history,
        }
        write_results(model, history, metrics, options.model_dir)
    LOG.info("wrote model.keras, metrics.json and training-curve.png to %s", options.model_dir)
    LOG.info("test accuracy: %.4f", metrics["accuracy"])


# ---------- command line

TASKS: dict[str, tuple[Callable[[argparse.Namespace], None], tuple[str, ...]]] = {
    "download": (run_download, ("data_dir", "log_dir")),
    "sample": (run_sample, ("data_dir", "log_dir")),
    "train": (run_train, ("data_dir", "log_dir", "model_dir", "parameters_file")),
}


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """The options, with the task's name in `task`. Ends with exit code 2 and a sentence where they do not fit it."""
    about = "Get handwritten digits, train a small network on them."
    parser = argparse.ArgumentParser(prog="mnist.py", description=about, allow_abbrev=False)
    parser.add_argument("task", nargs="?", choices=list(TASKS), help="what to do")
    parser.add_argument("--mlbox_task", choices=["downloaddata", *TASKS], help="the same, as an MLBox says it")
    parser.add_argument("--data_dir", help="directory of mnist.npz")
    parser.add_argument("--log_dir", help="directory for the log file, TASK.log")
    parser.add_argument("--model_dir", help="directory for the model, its metrics and the training curve")
    parser.add_argument("--parameters_file", help="YAML file: optimizer, train_epochs, batch_size, and seed if wanted")
    options = parser.parse_args(words)
    if bool(options.task) == bool(options.mlbox_task):
        parser.error(f"name one task: {', '.join(TASKS)}")
    options.task = {"downloaddata": "download"}.get(options.mlbox_task, options.task or options.mlbox_task)
    wanted = TASKS[options.task][1]
    for name in ("data_dir", "log_dir", "model_dir", "parameters_file"):
        if name in wanted and not getattr(options, name):
            parser.error(f"{options.task} needs --{name}=PATH")
        if name not in wanted and getattr(options, name):
            parser.error(f"{options.task} takes no --{name}")
    return options


@contextlib.contextmanager
def logging_to(log_dir: str, task: str) -> Iterator[None]:
    """Send what the task says to stdout and, with the time, to `log_dir`/TASK.log; errors to the file alone."""
    os.makedirs(log_dir, exist_ok=True)
    console = logging.StreamHandler(sys.stdout)
    console.addFilter(lambda record: record.levelno < logging.ERROR)
    file = logging.FileHandler(os.path.join(log_dir, f"{task}.log"), encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    LOG.handlers[:] = [console, file]
    try:
        yield
    finally:
        LOG.handlers.clear()
        file.close()


def fail(message: str, exit_code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return exit_code


def main(words: list[str] | None = None) -> int:
    """Run one task and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a path may hold bytes that are no text
    options = parse_arguments(words)
    try:
        with logging_to(options.log_dir, options.task):
            try:
                TASKS[options.task][0](options)
            except Exception as error:
                LOG.error("%s", error)
                raise
    except ExampleError as error:
        return fail(str(error), error.exit_code)
    except OSError as error:
        return fail(f"{error.filename or options.task}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    return 0


if __name__ == "__main__":
    sys.exit(main())
