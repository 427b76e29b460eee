"""The options of a platform under their canonical names (docs/platforms.md), and what a dialect sets by itself."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.tree import Node, entries, is_set, items, mapping, text_of
from mlcube_cli.errors import Location, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALIASES: Mapping[str, Mapping[str, str]] = {
    "docker": {"docker_runtime": "docker", "docker_args": "run_args", "configure": "build_strategy",
               "runtime": "container_runtime"},
}
_NOT_OPTIONS = ("schema_version", "schema_type", "runner")
_TEXTS = ("image", "python", "entrypoint", "shm_size", "memory", "cpuset_cpus", "user")  # 3.10 is no number there
_WORDS = ("run_args", "gpu_args", "cpu_args", "env_args", "build_args", "entrypoint")  # lists of them: each as written
_MAPS_OF_TEXT = ("env", "env_args", "build_args")

# Where an interpreter's own section (MLBox `virtualenv: {base_interpreter: python3.8}`) says what `python` says here.
# `virtualenv.location`, `conda.name` and `force_reconfigure` are accepted and have no use: environments live in
# mlcube's cache, keyed by their content.
_INTERPRETERS: Mapping[str, Mapping[str, str]] = {
    "system": {"interpreter": "python"},
    "virtualenv": {"base_interpreter": "python"},
    "conda": {"version": "python", "conda": "conda"},
    "pipenv": {},
}

_DEFAULTS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("mlbox", "docker"): {"build_strategy": "build", "build_context": ".",
                          "build_file": "implementation/docker/dockerfiles/Dockerfile"},
    ("directory", "docker"): {"build_strategy": "build", "build_context": "build", "build_file": "Dockerfile"},
    ("inline", "docker"): {"build_strategy": "fallback", "build_context": ".", "build_file": "Dockerfile"},
}


def canonical_name(runner: str, name: str) -> str:
    """The option's name in docs/platforms.md: `--cpuset-cpus` is `cpuset_cpus`, `docker_runtime` is `docker`."""
    plain = (name[2:] if name.startswith("--") else name).replace("-", "_")
    return _ALIASES.get(runner, {}).get(plain, plain)


def canonical_options(runner: str, section: Node, path: str) -> tuple[Node, tuple[Problem, ...]]:
    """A platform's section with canonical names; a problem where two spellings of one option stand side by side."""
    options: dict[str, Node] = {}
    problems = []
    for written, node in entries(section).items():
        if written in _NOT_OPTIONS:
            continue
        name = canonical_name(runner, written)
        if name in options and is_set(options[name]) and is_set(node):
            problems.append(Problem(
                node.key, f"'{written}' says again what {options[name].key} says: both are the option '{name}'",
                "duplicate-key", "keep one of them", f"{path}.{written}" if path else written))
        if name not in options or is_set(node):
            options[name] = node
    if runner == "local":
        options = _interpreter(options)
    elif runner == "ssh":
        from mlcube_cli.definition.ssh_options import canonical_ssh

        options, more = canonical_ssh(options, path)
        problems += more
    return mapping(options, section), tuple(problems)


def typed_options(options: Mapping[str, Node]) -> dict[str, Node]:
    """The options that are set, with texts as they were written (`python: 3.10` is not 3.1, `FLAG: true` not True)."""
    typed = {}
    for name, node in options.items():
        if name in _WORDS and isinstance(node.value, tuple):
            node = replace(node, value=tuple(_as_text(item) for item in node.value))
        elif name in _TEXTS:
            node = _as_text(node)
        elif name in _MAPS_OF_TEXT and isinstance(node.value, dict):
            node = replace(node, value={key: _as_text(item) for key, item in node.value.items()})
        if is_set(node):
            typed[name] = node
    return typed


def _as_text(node: Node) -> Node:
    text = text_of(node)
    return node if text is None or text == node.value else replace(node, value=text)


def _interpreter(options: dict[str, Node]) -> dict[str, Node]:
    """`interpreter: virtualenv` with its own section below it -> `python`, `conda`; the sections themselves go."""
    chosen = text_of(options.get("interpreter")) or ""
    kept = {name: node for name, node in options.items()
            if name != "force_reconfigure" and not (name in _INTERPRETERS and isinstance(node.value, dict))}
    section = entries(options.get(chosen)) if chosen in _INTERPRETERS else {}
    for written, name in _INTERPRETERS.get(chosen, {}).items():
        if is_set(section.get(written)) and name not in kept:
            kept[name] = section[written]
    return kept


def package_list(node: Node | None) -> Node | None:
    """MLBox requirements: a `.txt` path stays text, packages with spaces between them become a list."""
    text = text_of(node)
    if node is None or text is None or text.endswith(".txt"):
        return node
    return replace(node, value=tuple(replace(node, value=word, text=word) for word in text.split()), text=None)


def dialect_defaults(dialect: str, runner: str) -> Mapping[str, str]:
    """The options that the dialect itself sets on a platform of this runner."""
    return _DEFAULTS.get((dialect, runner), {})


def with_defaults(dialect: str, runner: str, options: Mapping[str, Node], location: Location) -> dict[str, Node]:
    """The options with what the dialect sets by itself, origin `default`; null means the default too."""
    defaults = {name: Node(value, location, location, value, "default")
                for name, value in dialect_defaults(dialect, runner).items() if not is_set(options.get(name))}
    return {**options, **defaults}


def is_empty_list(node: Node | None) -> bool:
    """True for `[]` (older MLBoxes write `docker_args: []` where they mean nothing)."""
    return node is not None and isinstance(node.value, tuple) and not items(node)
