"""The MNIST example's own program, as far as it needs neither NumPy nor TensorFlow, and what ships beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUILD = EXAMPLES / "mnist" / "build"
BOXES = ("docker", "baremetal", "singularity")
CONTENT = bytes(range(256)) * 2000  # 512,000 bytes: several blocks
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def mnist() -> ModuleType:
    specification = importlib.util.spec_from_file_location("mnist_example", BUILD / "mnist.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # dataclasses look their module up by name, and it must not stay in the tests' way
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "mnist_example", module)
        specification.loader.exec_module(module)
    return module


@dataclass
class Mirror:
    """A server on loopback that answers each request as the next of `answers` says, and keeps the last for ever."""

    url: str
    answers: list[str]
    ranges: list[str | None] = field(default_factory=list)

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.ranges.append(wanted)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.isdigit():
            handler.send_error(int(answer))
            return
        start = int(wanted[len("bytes="):-1]) if wanted and answer != "no-range" else 0
        if start >= len(CONTENT):
            handler.send_error(416)
            return
        body = bytes(len(CONTENT)) if answer == "wrong" else CONTENT[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if answer == "cut" else body)


@pytest.fixture
def mirror() -> Iterator[Callable[..., Mirror]]:
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(*answers: str) -> Mirror:
        made = Mirror("", list(answers))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                made.respond(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        made.url = f"http://127.0.0.1:{server.server_address[1]}/mnist.npz"
        return made

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Fetched:
    target: Path
    pauses: list[float]
    error: str

    @property
    def right(self) -> bool:
        return self.target.read_bytes() == CONTENT and not self.part.exists()

    @property
    def part(self) -> Path:
        return self.target.with_name("mnist.npz.part")


@pytest.fixture
def fetch(mnist: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fetched]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def fetch(*urls: str, checksum: str = CHECKSUM) -> Fetched:
        done = Fetched(tmp_path / "mnist.npz", [], "")
        try:
            mnist.fetch(urls, checksum, str(done.target), done.pauses.append)
        except mnist.ExampleError as error:
            done.error = str(error)
        return done

    return fetch


# ---------- download


def test_download_gets_the_file_in_one_request(fetch: Callable[..., Fetched], mirror: Callable[..., Mirror]) -> None:
    server = mirror("ok")
    done = fetch(server.url)
    assert done.right and done.pauses == [] and server.ranges == [None]


def test_download_goes_on_where_a_cut_connection_ended(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror]
) -> None:
    server = mirror("cut", "cut", "ok")
    done = fetch(server.url)
    assert done.right and done.pauses == [1, 2]
    assert server.ranges == [None, "bytes=256000-", "bytes=384000-"]


def test_download_goes_on_with_the_part_of_an_earlier_run(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    (tmp_path / "mnist.npz.part").write_bytes(CONTENT[:1000])
    server = mirror("ok")
    assert fetch(server.url).right and server.ranges == ["bytes=1000-"]


def test_download_begins_anew_where_the_server_knows_no_ranges(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    (tmp_path / "mnist.npz.part").write_bytes(b"x" * 1000)
    assert fetch(mirror("no-range").url).right


@pytest.mark.parametrize("length", [1000, len(CONTENT), len(CONTENT) + 1])
def test_download_begins_anew_when_the_part_belongs_to_another_file(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror], tmp_path: Path, length: int
) -> None:
    (tmp_path / "mnist.npz.part").write_bytes(b"x" * length)
    server = mirror("ok")
    assert fetch(server.url).right and server.ranges == [f"bytes={length}-", None]


def test_download_asks_nobody_when_the_part_is_whole(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    (tmp_path / "mnist.npz.part").write_bytes(CONTENT)
    server = mirror("ok")
    assert fetch(server.url).right and server.ranges == []


def test_download_takes_the_next_mirror_after_404_at_once(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror]
) -> None:
    first, second = mirror("404"), mirror("ok")
    done = fetch(first.url, second.url)
    assert done.right and done.pauses == [] and len(first.ranges) == 1


def test_download_tries_a_busy_mirror_four_times(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror]
) -> None:
    first, second = mirror("503"), mirror("429", "ok")
    done = fetch(first.url, second.url)
    assert done.right and done.pauses == [1, 2, 4, 1] and len(first.ranges) == 4


def test_download_refuses_a_wrong_checksum_and_leaves_nothing(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror]
) -> None:
    server = mirror("wrong")
    done = fetch(server.url)
    assert f"{server.url}: wrong checksum" in done.error and f"expected {CHECKSUM}" in done.error
    assert not done.target.exists() and not done.part.exists() and len(server.ranges) == 1


def test_download_names_every_mirror_that_failed_and_what_to_do(
    fetch: Callable[..., Fetched], mirror: Callable[..., Mirror]
) -> None:
    first, second = mirror("404"), mirror("500")
    done = fetch(first.url, second.url, "http://127.0.0.1:1/mnist.npz")
    assert f"{first.url}: HTTP 404" in done.error and f"{second.url}: HTTP 500" in done.error
    assert "127.0.0.1:1" in done.error and "refused" in done.error
    assert "hint: set MNIST_URL" in done.error and "`sample`" in done.error


def run(mnist: ModuleType, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `mnist.py WORDS`."""
    try:
        code = mnist.main(list(words))
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("task", [("download",), ("--mlbox_task=downloaddata",), ("--mlbox_task", "downloaddata")])
def test_mnist_url_and_checksum_override_the_mirrors(
    mnist: ModuleType,
    mirror: Callable[..., Mirror],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task: tuple[str, ...],
) -> None:
    server = mirror("ok")
    monkeypatch.setenv("MNIST_URL", server.url)
    monkeypatch.setenv("MNIST_SHA256", CHECKSUM.upper())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    words = (f"--data_dir={tmp_path}/data", f"--log_dir={tmp_path}/logs", *task)
    code, out, err = run(mnist, capsys, *words)
    assert (code, err.split()[:2]) == (0, ["12", "%"]), "without a terminal a line for each quarter"
    assert (tmp_path / "data/mnist.npz").read_bytes() == CONTENT
    assert server.url in (tmp_path / "data/SOURCE.txt").read_text() and server.url in out
    assert server.url in (tmp_path / "logs/download.log").read_text()

    code, out, _ = run(mnist, capsys, *words)
    assert code == 0 and "nothing to download" in out and len(server.ranges) == 1


def test_a_file_address_works(
    mnist: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "copy.npz").write_bytes(CONTENT)
    monkeypatch.setenv("MNIST_URL", f"file://{tmp_path}/copy.npz")
    monkeypatch.setenv("MNIST_SHA256", CHECKSUM)
    code, _, _ = run(mnist, capsys, "download", f"--data_dir={tmp_path}/data", f"--log_dir={tmp_path}/logs")
    assert code == 0 and (tmp_path / "data/mnist.npz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "value"), [("MNIST_URL", "mirror.example/mnist.npz"), ("MNIST_URL", "ftp://x/y"), ("MNIST_SHA256", "abc")]
)
def test_a_bad_override_is_a_usage_error_that_names_it(
    mnist: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    code, _, err = run(mnist, capsys, "download", f"--data_dir={tmp_path}/data", f"--log_dir={tmp_path}/logs")
    assert code == 2 and f"{name}: '{value}'" in err
    assert name in (tmp_path / "logs/download.log").read_text(), "the log tells why the task failed"


def test_a_failure_to_write_is_one_sentence(
    mnist: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file where a directory should be")
    code, _, err = run(mnist, capsys, "download", f"--data_dir={tmp_path}/data", f"--log_dir={tmp_path}/logs")
    assert (code, err) == (1, f"error: {tmp_path}/data: File exists\n")


def test_the_real_checksum_and_two_mirrors_are_built_in(mnist: ModuleType) -> None:
    urls, checksum = mnist.download_source({})
    assert len(urls) == 2 and all(url.startswith("https://") and url.endswith("/mnist.npz") for url in urls)
    assert checksum == "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


# ---------- command line


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name one task: download, sample, train"),
        (("train", "--mlbox_task=train"), "name one task"),
        (("fly",), "invalid choice: 'fly'"),
        (("--mlbox_task=fly",), "invalid choice: 'fly'"),
        (("train", "--data_dir=d", "--log_dir=l"), "train needs --model_dir=PATH"),
        (("sample", "--data_dir=d", "--log_dir=l", "--model_dir=m"), "sample takes no --model_dir"),
        (("sample", "--data_dir=d", "--log_dir="), "sample needs --log_dir=PATH"),
        (("sample", "--data_dir=d", "--log=l"), "unrecognized arguments: --log=l"),
    ],
)
def test_a_wrong_command_line_is_refused(
    mnist: ModuleType, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    code, _, err = run(mnist, capsys, *words)
    assert code == 2 and sentence in err


# ---------- parameters


def problems(mnist: ModuleType, tmp_path: Path, text: str) -> list[str]:
    """What the parameters file is told to be wrong, without the file's name, which each line bears."""
    file = tmp_path / "parameters.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(mnist.ExampleError) as caught:
        mnist.read_parameters(str(file))
    assert caught.value.exit_code == 2
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line[len(f"{file}: "):] for line in lines]


def test_the_printed_parameters_are_read(mnist: ModuleType) -> None:
    file = EXAMPLES / "mnist/workspace/parameters/default.parameters.yaml"
    assert mnist.read_parameters(str(file)) == mnist.Parameters("adam", 5, 32, 0)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("optimizer: Adam", "optimizer: must be one of adam, adamw, nadam, rmsprop, sgd, not 'Adam'"),
        ("optimizer: [adam]", "optimizer: must be one of adam, adamw, nadam, rmsprop, sgd, not ['adam']"),
        ("train_epochs: 0", "train_epochs: must be a whole number of at least 1, not 0"),
        ("train_epochs: 2.5", "train_epochs: must be a whole number of at least 1, not 2.5"),
        ("train_epochs: true", "train_epochs: must be a whole number of at least 1, not True"),
        ("batch_size: '32'", "batch_size: must be a whole number of at least 1, not '32'"),
        ("batch_size:", "batch_size: must be a whole number of at least 1, not None"),
        ("seed: -1", "seed: must be a whole number from 0 to 4294967295, not -1"),
        ("seed: 4294967296", "seed: must be a whole number from 0 to 4294967295, not 4294967296"),
        ("batchsize: 32", "batchsize: unknown key; did you mean 'batch_size'?"),
        ("zzz: 1", "zzz: unknown key; known are optimizer, train_epochs, batch_size, seed"),
    ],
)
def test_a_wrong_parameter_is_named(mnist: ModuleType, tmp_path: Path, line: str, problem: str) -> None:
    given = {"optimizer": "optimizer: adam", "train_epochs": "train_epochs: 5", "batch_size": "batch_size: 32"}
    given[line.partition(":")[0]] = line
    assert problems(mnist, tmp_path, "\n".join(given.values())) == [problem]


def test_all_wrong_parameters_are_named_at_once(mnist: ModuleType, tmp_path: Path) -> None:
    assert problems(mnist, tmp_path, "epochs: 5\nbatch_size: many\n") == [
        "epochs: unknown key; did you mean 'train_epochs'?",
        "optimizer: missing",
        "train_epochs: missing",
        "batch_size: must be a whole number of at least 1, not 'many'",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold 'key: value' lines"),
        ("- adam", "must hold 'key: value' lines"),
        ("optimizer: [", "is no YAML: "),
        ("optimizer: !!python/object:os.system x", "is no YAML: "),
    ],
)
def test_a_file_that_holds_no_parameters_is_one_line(
    mnist: ModuleType, tmp_path: Path, text: str, sentence: str
) -> None:
    (found,) = problems(mnist, tmp_path, text)
    assert sentence in found


def test_train_reports_the_parameters_before_anything_slow(
    mnist: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [f"--{name}={tmp_path}/{name}" for name in ("data_dir", "log_dir", "model_dir", "parameters_file")]
    code, _, err = run(mnist, capsys, "train", *words)
    assert (code, err) == (2, f"error: {tmp_path}/parameters_file: cannot be read: No such file or directory\n")
    assert not (tmp_path / "model_dir").exists()


# ---------- files


def test_a_file_appears_whole_or_not_at_all(mnist: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "metrics.json"
    target.write_text("old")
    with pytest.raises(KeyError), mnist.replacing(str(target)) as part:
        Path(part).write_text("half")
        raise KeyError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with mnist.replacing(str(target)) as part:
        Path(part).write_text(json.dumps({}))
        assert Path(part).suffix == ".json", "Keras chooses the format by the extension"
    assert target.read_text() == "{}" and list(tmp_path.iterdir()) == [target]


def test_the_digits_are_those_of_scikit_learn(mnist: ModuleType) -> None:
    stated = re.search(r"sha256: `([0-9a-f]{64})`", (BUILD / "data/README.md").read_text(encoding="utf-8"))
    assert stated is not None and stated.group(1) == mnist.sha256_of(mnist.SAMPLE_FILE)


def files_of(directory: Path, *names: str) -> dict[str, bytes]:
    found = [path for name in names for path in sorted(directory.glob(name)) if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.mark.parametrize("box", BOXES)
def test_the_boxes_carry_the_sources_of_the_cube(box: str) -> None:
    sources = files_of(BUILD, "mnist.py", "requirements.txt", "data/*")
    copies = files_of(EXAMPLES / "mlbox/mnist" / box / "implementation/src", "*.*", "data/*")
    assert len(sources) == 4
    assert copies == sources, "run examples/mlbox/mnist/copy-sources.sh"


def test_the_boxes_differ_only_in_their_implementation() -> None:
    def definition(box: str) -> dict[str, bytes]:
        files = files_of(EXAMPLES / "mlbox/mnist" / box, "mlbox.yaml", "tasks/*/*", "workspace/parameters/*")
        files["mlbox.yaml"] = re.sub(rb"(?m)^implementation: \w+$", b"", files["mlbox.yaml"])
        return files

    assert definition("docker") == definition("baremetal") == definition("singularity")
