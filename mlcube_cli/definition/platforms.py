"""Platform files of every spelling -> PlatformDraft: flat, nested, local, ssh, and MLBox files of named sections."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.draft import PlatformDraft
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.options import canonical_options
from mlcube_cli.definition.source import Document
from mlcube_cli.definition.tree import Node, entries, find, is_set, mapping, text_at, text_of
from mlcube_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNER_NAMES = ("docker", "singularity", "local", "ssh", "slurm")
CARRIERS = ("ssh", "slurm")  # they have another platform's tasks run elsewhere: on another machine, as batch jobs
# Other words for a runner: those of MLBox, of nested platform files, and engines that take another engine's words.
_SAME_RUNNER = {"podman": "docker", "nvidia-docker": "docker", "apptainer": "singularity",
                "python": "local", "exec": "local"}
# Platforms that every cube has, whether or not it names them: a runner, and the executable that the name stands for.
BUILT_IN: Mapping[str, tuple[str, str]] = {
    "docker": ("docker", ""), "podman": ("docker", "podman"), "singularity": ("singularity", ""),
    "apptainer": ("singularity", "apptainer"), "local": ("local", ""),
}
_IGNORED = ("runner",)  # a runner package's own kind of file
# Sections and platform files of runners that earlier programs had: named, and not used.
FORMER = {"k8s": "the Kubernetes runner of earlier versions", "kubeflow": "the Kubeflow runner of earlier versions",
          "gcp": "the Google Cloud runner of earlier versions"}


def runner_of(word: str) -> str:
    """The runner that a platform's or implementation's word means."""
    return _SAME_RUNNER.get(word, word)


def platform_schema(document: Document) -> str | None:
    """The schema that a platform file is checked with; None where its kind cannot be told."""
    data = document.data
    if not isinstance(data, dict):
        return "mlcube_platform"
    kind = _kind(str(data.get("schema_type", "")))
    if kind in (*RUNNER_NAMES, "platform"):
        return f"mlcube_{kind}"
    sections = [value for value in data.values() if isinstance(value, dict)]
    return "mlbox_platform" if not kind and any("runner" in section for section in sections) else None


def _kind(schema_type: str) -> str:
    """`mlcube_docker`, `mlbox_docker` -> docker; `mlcommons_box_platform` -> platform."""
    prefix, _, kind = schema_type.rpartition("_")
    return kind if prefix in ("mlcube", "mlbox", "mlcommons_box") else ""


def read_platform_file(files: Files, path: str, name: str, section: str = "") -> PlatformDraft | None:
    """The platform that a file defines, or None (problems are noted). `section` chooses in an MLBox file."""
    node = files.load(path, platform_schema)
    if node is None:
        return None
    kind = _kind(text_at(node, "schema_type"))
    former = _former(node, kind)
    if former:
        files.warn(node.location, f"this is a platform file for {FORMER[former]}, which this program does not have: it is "
                   "left out", "unused-platform", "use another platform file, or write one: mlcube schema mlcube_docker")
        return None
    if kind == "platform":
        return _nested(files, node, name, path)
    if kind in RUNNER_NAMES:
        return _flat(files, node, kind, name, path)
    if kind in _IGNORED:
        return None
    if not kind and any(is_set(find(item, "runner")) for item in entries(node).values()):
        return _sections(files, node, section, path)
    location = find(node, "schema_type")
    if location is not None:
        kinds = [f"mlcube_{kind}" for kind in (*RUNNER_NAMES, "platform")]
        guess = files.guesses.nearest(text_of(location) or "", kinds)
        files.warn(location.location, f"there is no runner for '{text_of(location)}'; the file is left out",
                   "unknown-platform", f"did you mean '{guess}'?" if guess else f"the kinds are: {', '.join(kinds)}",
                   "schema_type")
    else:
        files.note(node.location, "the kind of this platform cannot be told: it has no schema_type", "missing-key",
                   "add a line such as 'schema_type: mlcube_docker'", "schema_type")
    return None


def _flat(files: Files, node: Node, runner: str, name: str, path: str) -> PlatformDraft:
    options, problems = canonical_options(runner, node, "")
    files.problems += problems
    return PlatformDraft(name, runner, options, replace(node.location, line=0, column=0), path)


def _nested(files: Files, node: Node, name: str, path: str) -> PlatformDraft:
    """`platform: {name: docker}`, `container: {image, runtime | command, run_args}`."""
    beside = {key: item for key, item in entries(node).items() if key not in ("platform", "container")}
    platform = container_platform(files, find(node, "container") or mapping({}, node), name, path,
                                  find(node, "platform", "name"), beside)
    return replace(platform, location=replace(node.location, line=0, column=0))


def _former(node: Node, kind: str) -> str:
    """The runner of earlier programs that a platform file is for, or the empty string."""
    named = text_at(node, "platform", "name") if kind == "platform" else kind
    if not kind and is_set(find(node, "gcp")) and is_set(find(node, "instance")):
        named = "gcp"
    return named if named in FORMER else "k8s" if named == "kubernetes" else ""


def container_platform(files: Files, container: Node, name: str, path: str, engine: Node | None = None,
                       beside: Mapping[str, Node] | None = None) -> PlatformDraft:
    """The platform of a `container` section; `engine`: who runs it (docker), `beside`: further options."""
    word = text_of(engine) or "docker"
    runner = runner_of(word)
    renamed = {("docker" if runner == "docker" else runner) if key == "command" else key: item
               for key, item in entries(container).items()}
    if word != runner and engine is not None and not is_set(renamed.get(runner)):
        renamed[runner] = engine
    options, problems = canonical_options(runner, mapping({**(beside or {}), **renamed}, container), "container")
    files.problems += problems
    return PlatformDraft(name, runner, options, container.key, path)


def _sections(files: Files, node: Node, section: str, path: str) -> PlatformDraft | None:
    """An MLBox platform file: named sections, and `default: NAME`. Raises UsageError for a section that is not there."""
    names = [key for key, item in entries(node).items() if isinstance(item.value, dict)]
    chosen = section or text_at(node, "default") or (names[0] if len(names) == 1 else "")
    if section and section not in names:
        guess = files.guesses.nearest(section, names)
        raise UsageError(f"{files.shown(path)} has no section '{section}'", f"did you mean '{guess}'?" if guess else
                         f"its sections are: {', '.join(names)}")
    if chosen not in names:
        what = f"there is no section '{chosen}'" if chosen else "which section is meant?"
        place = find(node, "default") or node
        files.note(place.location, what, "unknown-platform",
                   f"the sections are: {', '.join(names)}; give one as FILE.yaml:NAME", "default")
        return None
    found = entries(node)[chosen]
    runner = runner_of(text_at(found, "runner"))
    renamed = {("env_args" if key == "run_args" and isinstance(item.value, dict) else key): item
               for key, item in entries(found).items()}
    options, problems = canonical_options(runner, mapping(renamed, found), chosen)
    files.problems += problems
    return PlatformDraft(chosen, runner, options, found.key, path)
