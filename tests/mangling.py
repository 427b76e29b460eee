"""Cubes that nobody would write: random trees, real definitions with something changed, bytes; and how we take them.

All of it comes from a `random.Random`, so that a seed says which cube it was. Run as a program
(`python -m tests.mangling FIRST LAST`) it tries the cubes of those seeds, and prints how much memory that took.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlcube_cli.cli import main
from mlcube_cli.definition.bundled import schema_names, schema_text
from mlcube_cli.definition.schema import load_schema
from mlcube_cli.definition.source import parse_document
from mlcube_cli.errors import MLCubeError
from tests.cubes import write_tree
from tests.unit.test_seed_pages import DIRECTORY, MLBOX

TESTS = Path(__file__).resolve().parent
LARGEST = 20_000  # bytes of a definition that is changed
OURS = (0, 2, 3, 4, 5)  # exit codes of commands that start nothing
Cube = dict[str, bytes]

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 1.5, 1e+308, -0.0, 10**39, "", " ", "x", "a" * 5000, [], {}, [[]], [None], {"": ""},
    {"a": {"b": {}}}, {"A": None, "B": 1, "C": True}, {"A": [1]}, ["a", 1, None], [{"name": "x"}], [{}], "${", "${}",
    "${a", "${.}", "${..x}", "${.x}", "${runner.image}", "${runner}", "${oc.env:}", "${oc.env:HOME}",
    "${oc.env:HOME,}", "${oc.env:NO_SUCH,${name}}", "${workspace}", "${runtime}", "${tasks}", "${docker}",
    "${local.env}", "${docker.image}", "${a[0]}", "\\${x}", "${${name}}", "$", "$$", "$HOME", "$WORKSPACE",
    "${WORKSPACE}/x", "$NO_SUCH_VARIABLE", "$(id -u)", "'", '"', "\\", "it's", '-e "A', "-", "--", "--x=", "-v", "*",
    "~", "~/x", "~nobody/x", "/", "//", "..", "../..", ".", "./", "\n", "a\nb", "\t", "\x7f", "\xe9", "\U0001f600",
    "\u202e", "=", "a=b", ",", ":", "x:y:z", "0x10", "1_000", "none", "all", "device=0", "device=", "1,2", ["0", "x"],
    [0, 1], "pull", "true", "yes", "exec", "conda", "system", "virtualenv", "python3", "3.11", "requirements.txt",
    "%", "{{", "{{ x }}", "{{ cookiecutter.x }}", "a b", "host", "caller", "0:0", "1000", "1g", "-1g", "8080:80",
    "sudo docker", "docker://x", "docker-archive:x", "library://x", "x.sif", "Bootstrap: docker", "C:\\x", "dir/",
    "dir\\",
)
UNSPEAKABLE = (
    "\x00", "\ud800", '"\\0"', '"\\ud800"', '"\\U00110000"', "!!python/object:x", "&a", "*a", "<<: *a",
    "{<<: {a: 1}}", "? a",
)


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Every key and every word that the schemas know."""
    words: set[str] = set()

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            words.update(node.get("properties", {}))
            words.update(word for word in node.get("x-values", ()) if isinstance(word, str))
            for item in node.values():
                collect(item)
        elif isinstance(node, list):
            for item in node:
                collect(item)

    for name in schema_names():
        if not re.search(r"\.v\d+$", name):
            collect(json.loads(schema_text(name)))
    return tuple(sorted(words))


@functools.cache
def corpus() -> tuple[Cube, ...]:
    """The definitions that there are: conformance cases, examples, seed pages, files of the schemas' tests, mistakes."""
    roots = [*sorted((TESTS / "conformance").glob("*/cube")),
             *sorted({path.parent for pattern in ("*/mlcube.yaml", "mlbox/*/*/mlbox.yaml", "*/*/mlcube.yaml")
                      for path in (TESTS.parent / "examples").glob(pattern)})]
    cubes = [dict(_definitions(root)) for root in roots]
    cubes += [{name: text.encode() for name, text in seed.items()} for seed in (MLBOX, DIRECTORY)]
    directory = {name: text.encode() for name, text in DIRECTORY.items()}
    places = {"mlcube": "mlcube.yaml", "mlbox": "mlbox.yaml", "mlcube_compact": ".mlcube.yaml", "mlcube_root": "mlcube.yaml",
              "settings": "settings.yaml", "mlcube_task": "tasks/extra.yaml", "mlcube_invoke": "run/extra.yaml"}
    for path in sorted((TESTS / "definitions").glob("*/*/*.yaml")):
        place = places.get(path.parent.name, f"platforms/{path.stem}.yaml")
        main_file = place in ("mlcube.yaml", "mlbox.yaml", ".mlcube.yaml", "settings.yaml")
        cubes.append({**({} if main_file else directory), place: path.read_bytes()})
    cubes += [{"mlcube.yaml": path.read_bytes()} for path in sorted((TESTS / "definitions/mistakes").glob("*.yaml"))]
    return tuple(cube for cube in cubes if cube)


def _definitions(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        kept = path.suffix in (".yaml", ".yml", ".txt") or path.name in ("Dockerfile", "Singularity.recipe")
        if kept and path.is_file() and ".mlcube" not in path.parts and path.stat().st_size <= LARGEST:
            yield str(path.relative_to(root)), path.read_bytes()
        elif path.suffix in (".py", ".sh"):
            yield str(path.relative_to(root)), b""


# --- changing ------------------------------------------------------------------------------------------------------------


def random_value(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(8)
    if depth and kind == 0:
        return [random_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    if depth and kind in (1, 2):
        return {random_key(chance): random_value(chance, depth - 1) for _ in range(chance.randrange(5))}
    return chance.choice(NASTY) if kind < 6 else chance.choice(vocabulary())


def random_key(chance: random.Random) -> str:
    if chance.randrange(5):
        return chance.choice(vocabulary())
    return chance.choice([str(value) for value in NASTY if isinstance(value, (str, int))])


def random_tree(chance: random.Random) -> Cube:
    """An inline cube made of known words and odd values, more or less in the places where they belong."""
    def parameters() -> Any:
        return {chance.choice(("inputs", "outputs")): {random_key(chance): random_value(chance, 2) for _ in range(3)}}

    tasks = {random_key(chance): {"parameters": parameters(), random_key(chance): random_value(chance, 2)} for _ in range(2)}
    data = {random_key(chance): random_value(chance) for _ in range(chance.randrange(3))}
    return {"mlcube.yaml": dump({"name": "x", **data, "docker": {"image": "x"}, "tasks": tasks})}


def well_shaped(chance: random.Random) -> Cube:
    """An inline cube that has the shape of one, with any options of a platform, and a few odd values."""
    tree: dict[str, Any] = {"name": "x", "platform": {"accelerator_count": _sometimes_odd(chance, [0, 1, "2"])}}
    for section, must in REQUIRED.items():
        options = _options(section)
        names = chance.sample(sorted(options), chance.randrange(7))
        if chance.randrange(3):
            tree[section] = {**must, **{name: _sometimes_odd(chance, options[name]["examples"]) for name in names}}
    sides = {side: {str(_sometimes_odd(chance, ["data", "model", "p-q"], 20)): _sometimes_odd(chance, PARAMETERS, 15)
                    for _ in range(chance.randrange(4))} for side in ("inputs", "outputs")}
    tree["tasks"] = {"train": {"parameters": sides, "entrypoint": _sometimes_odd(chance, ENTRY_POINTS, 12)}}
    return {"mlcube.yaml": dump(tree), "run.sh": b"", "Dockerfile": b"FROM x", "main.py": b"", "requirements.txt": b"six",
            "workspace/.image/x.sif": b""}


def _options(section: str) -> dict[str, Any]:
    found: dict[str, Any] = load_schema("mlcube")["$defs"][section]["properties"]  # type: ignore[index,call-overload,assignment]
    return found


REQUIRED = {"docker": {"image": "x"}, "local": {"entrypoint": "/bin/true"}, "singularity": {"image": "x.sif"}}
ENTRY_POINTS = (None, "run.sh -a", ["a", "b c"])
PARAMETERS: tuple[Any, ...] = (
    "data/", "data", None, 3, True, {"type": "file"}, {"type": "directory", "default": "d", "opts": "rw"}, "../x/", "~/x", "m/",
    {"type": "directory"}, {"type": "file", "default": "f"}, {"type": "directory", "default": "data"},
    {"type": "string", "default": "a b"}, {"type": "int"}, {"type": "file", "default": "$WORKSPACE/a"}, "/tmp", ".", "${name}/",
)


def _sometimes_odd(chance: random.Random, usual: Any, one_in: int = 15) -> Any:
    return random_value(chance, 1) if not chance.randrange(one_in) else chance.choice(list(usual))


def dump(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")


def mangle(chance: random.Random) -> Cube:
    """A cube of the corpus with one to three changes in its files."""
    cube = dict(chance.choice(corpus()))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        name = chance.choice(sorted(cube))
        change = chance.choice((_change_tree,) * 6 + (_change_lines, _change_words, _change_words, _change_bytes))
        cube[name] = change(cube[name], chance)
    return cube


def _change_tree(content: bytes, chance: random.Random) -> bytes:
    try:
        data: Any = parse_document(content, "f").data
    except MLCubeError:
        return _change_lines(content, chance)
    places = list(_places(data))
    if not places:
        return dump(random_value(chance))
    holder, key = chance.choice(places)
    action = chance.randrange(4)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[random_key(chance)] = holder.pop(key)
    elif action == 2 and isinstance(holder, dict):
        holder[random_key(chance)] = random_value(chance)
    else:
        holder[key] = _like(holder[key], chance)
    return dump(data)


def _like(value: Any, chance: random.Random) -> Any:
    """Another value, more often than not of the same kind."""
    texts = [text for text in NASTY if isinstance(text, str) and text.isprintable()]
    return chance.choice(texts) if isinstance(value, str) and chance.randrange(3) else random_value(chance)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield data, key
        yield from _places(value)


def _change_lines(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = chance.randrange(len(lines))
    action = chance.randrange(5)
    if action == 0:
        del lines[at]
    elif action == 1:
        lines.insert(chance.randrange(len(lines)), lines[at])
    elif action == 2:
        lines[at] = chance.choice((b" ", b"  ", b"\t", b"- ", b"# ")) + lines[at]
    elif action == 3:
        lines[at] = lines[at].lstrip()
    else:
        lines[at] = lines[at][:chance.randrange(len(lines[at]) + 1)]
    return b"\n".join(lines)


def _change_words(content: bytes, chance: random.Random) -> bytes:
    words = list(re.finditer(rb"[\w./$-]+", content))
    if not words:
        return content
    word = chance.choice(words)
    new = chance.choice((*vocabulary(), *(value for value in NASTY if isinstance(value, str)), *UNSPEAKABLE))
    return content[:word.start()] + new.encode("utf-8", "surrogatepass") + content[word.end():]


def _change_bytes(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    odd = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 4)))
    return content[:at] + odd + content[at + chance.randrange(3):]


def some_bytes(chance: random.Random) -> Cube:
    signs = b"{}[]:,-#&*!|>'\"%@`\n\t a0\xff\x00$<"
    return {"mlcube.yaml": bytes(chance.choice(signs) for _ in range(chance.randrange(60)))}


def a_cube(seed: int) -> Cube:
    """The cube of a seed: mostly a changed real one, else a random tree, seldom bytes."""
    chance = random.Random(seed)
    makers: tuple[Callable[[random.Random], Cube], ...] = (mangle,) * 3 + (well_shaped,) * 2 + (random_tree, some_bytes)
    return chance.choice(makers)(chance)


# --- trying --------------------------------------------------------------------------------------------------------------


def run(*words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command line of ours in this process; whatever it raises comes out."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(words)
    texts = [stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in streams]  # type: ignore[attr-defined]
    return code, texts[0], texts[1]


def try_cube(place: Path, cube: Cube, seed: int) -> None:
    """Describe, validate, show, plan and migrate the cube, and take a settings file of it for the user's own. Raises
    AssertionError for an answer that is not ours."""
    for name, content in cube.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    root = str(place)
    os.environ.pop("MLCUBE_SYSTEM_SETTINGS", None)
    if "settings.yaml" in cube:
        os.environ["MLCUBE_SYSTEM_SETTINGS"] = str(place / "settings.yaml")
        _hold(run("config", "--list"), ("config --list", root))
    _hold(run("validate", "--json", root), ("validate", root))
    _hold(run("show-config", "--resolve", root), ("show-config", root))
    _hold(run("describe", root), ("describe", root))
    code, text, _ = _hold(run("describe", "--json", root), ("describe --json", root))
    described = json.loads(text) if code == 0 else {}
    _make_inputs(place, described)
    chance = random.Random(seed)
    platforms = [one["name"] for one in described.get("platforms", ())] or ["docker", "local", "singularity"]
    tasks = list(described.get("tasks", ()))
    for platform in platforms[:3]:
        task = (f"--task={chance.choice(tasks)}",) if tasks else ()
        line = ("run", root, f"--platform={platform}", *task, "--dry-run", *(_words(described, chance) if tasks else ()))
        _hold(run(*line), line)
    _hold(run("configure", root, f"--platform={chance.choice(platforms)}", "--dry-run", "--json"), ("configure", root))
    target = "inline" if described.get("dialect") in ("directory", "mlbox") else "directory"
    _hold(run("migrate", root, "--to", target, "--dry-run"), ("migrate", root))


def _make_inputs(place: Path, described: Any) -> None:
    """What the tasks read, where that is a plain name below the workspace."""
    workspace = place / "workspace"
    for task in described.get("tasks", {}).values():
        for one in task["parameters"]:
            default = one["default"] or ""
            if one["direction"] == "input" and re.fullmatch(r"[\w./ -]{1,50}", default) and ".." not in default:
                path = workspace / default.lstrip("/")
                with contextlib.suppress(OSError):
                    (path.parent if one["type"] == "file" else path).mkdir(parents=True, exist_ok=True)
                    if one["type"] == "file":
                        path.touch()


def _words(described: Any, chance: random.Random) -> list[str]:
    names = [one["name"] for task in described.get("tasks", {}).values() for one in task["parameters"]] or ["data"]
    texts = [str(value) for value in NASTY if isinstance(value, (str, int)) and "\x00" not in str(value)]
    words = [f"{chance.choice(names)}={chance.choice(texts)}"] if not chance.randrange(3) else []
    if not chance.randrange(4):
        section = chance.choice(tuple(REQUIRED))
        option = chance.choice(sorted(_options(section))) if chance.randrange(5) else chance.choice(vocabulary())
        words.append(f"-P{section}.{option}={chance.choice(texts)}")
    return [word.encode("utf-8", "replace").decode() for word in words]


def _hold(outcome: tuple[int, str, str], words: tuple[str, ...]) -> tuple[int, str, str]:
    code, stdout, stderr = outcome
    assert code in OURS, (words, outcome)
    assert "Traceback" not in stderr, (words, stderr)
    assert code == 0 or "error: " in stderr or '"' in stdout, (words, outcome)
    return outcome


def set_up(place: Path) -> None:
    """An environment with an empty home, and without engines, for this process."""
    write_tree(place, {"bin/python3": "#!/bin/sh\nprintf 'cpython\\n3.11.2\\nlinux-x86_64\\ncpython-311\\nyes\\n%s' \"$0\"\n",
                       "home/empty": ""})
    (place / "bin/python3").chmod(0o755)
    os.environ.clear()
    os.environ.update({"PATH": str(place / "bin"), "HOME": str(place / "home"), "LANG": "C.UTF-8"})


def try_seeds(first: int, last: int) -> int:
    """Try the cubes of the seeds from `first` to before `last`; the slowest one's milliseconds."""
    slowest = 0.0
    with tempfile.TemporaryDirectory() as directory:
        set_up(Path(directory))
        for seed in range(first, last):
            began = time.perf_counter()
            try:
                try_cube(Path(directory) / f"cube{seed}", a_cube(seed), seed)
            except BaseException:
                sys.stderr.write(f"the cube of seed {seed}\n")
                raise
            slowest = max(slowest, time.perf_counter() - began)
    return round(slowest * 1000)


def peak_megabytes() -> int:
    """The most memory that this process had. Not `ru_maxrss`, which counts what its parent had before the exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    milliseconds = try_seeds(int(sys.argv[1]), int(sys.argv[2]))
    json.dump({"slowest_ms": milliseconds, "megabytes": peak_megabytes()}, sys.stdout)
