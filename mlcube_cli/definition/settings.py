"""Settings files (places.py finds them) and the platforms in them, which layers.py lays beneath a cube's; spec/dialects 4.4.

A user's file lies over the site's. Values of a cube never see them: `${...}` of a cube cannot name what only a settings
file says, so that a stranger's cube can neither print nor pass on what the user keeps there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.options import canonical_options
from mlcube_cli.definition.platforms import RUNNER_NAMES, runner_of
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, entries, find, from_data, is_set, mapping, merge, plain, text_at, text_of
from mlcube_cli.errors import Location, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.places import Place

EARLIER_RUNNERS = ("k8s", "kubeflow", "gcp")  # runners of the earlier program that this one has not
# What the earlier program wrote into everybody's file for a runner: its own defaults, and nobody's wish. An entry is
# taken for such a one by its image, which nobody types (spec/dialects 3.8, 3.9).
_WRITTEN: Mapping[str, Mapping[str, Data]] = {
    "docker": {"image": "${docker.image}", "docker": "docker", "env_args": {}, "gpu_args": "", "cpu_args": "",
               "build_args": {}, "build_context": ".", "build_file": "Dockerfile", "build_strategy": "pull",
               "mount_opts": ""},
    "singularity": {"image": "${singularity.image}", "image_dir": "${runtime.workspace}/.image",
                    "singularity": "singularity", "build_args": "--fakeroot", "build_file": "Singularity.recipe",
                    "run_args": "", "mount_opts": ""},
}


@dataclass(frozen=True)
class Entry:
    """A platform of the settings: options under canonical names, not interpolated. `runner` is empty where it is wrong."""

    name: str
    runner: str
    options: Node
    location: Location
    file: str = ""  # absolute


@dataclass(frozen=True)
class Settings:
    """All settings that hold: the user's entries laid over the site's."""

    places: tuple[Place, ...] = ()  # of the files that were read
    trees: tuple[Node, ...] = ()  # as they stand in the files, one for each place
    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    broken: bool = False  # a file cannot be used at all

    def judged(self, used: Collection[str]) -> tuple[Problem, ...]:
        """The problems; errors in platforms that are not used are warnings (RULINGS 1)."""
        return tuple(replace(problem, severity="warning") if self._idle(problem.path, used) else problem
                     for problem in self.problems)

    def _idle(self, path: str, used: Collection[str]) -> bool:
        return path.startswith("platforms") and path != "platforms" and not any(
            (path + ".").startswith((f"{name}.", f"{name}["))
            for name in (format_path(("platforms", name)) for name in used))


# --- reading -------------------------------------------------------------------------------------------------------


def load_settings(places: Iterable[Place], cwd: str, cache: str | None = None) -> Settings:
    """The settings in these files, of which the later ones lie over the earlier ones; what is wrong with them is in
    `problems`. Raises nothing."""
    problems: list[Problem] = []
    read, trees = [], []
    found: dict[str, Entry] = {}
    broken = False
    for place in places:
        files = Files(os.path.dirname(place.path), cwd, cache)
        tree = read_settings(files, place)
        problems += files.problems
        if tree is None:
            broken = broken or place.exists
            continue
        read.append(place)
        trees.append(tree)
        for name, entry in find_entries(files, tree, place.path).items():
            found[name] = _over(found.get(name), entry)
        problems += [problem for problem in files.problems if problem not in problems]
    return Settings(tuple(read), tuple(trees), found, tuple(problems), broken)


def read_settings(files: Files, place: Place) -> Node | None:
    """The file's tree, empty where it holds nothing; None where it is absent or cannot be used. Problems are noted."""
    if not place.exists:
        files.warn(Location(files.shown(place.path)), f"${place.variable} names this settings file, but it is not there",
                   "no-file", f"unset {place.variable}, or let mlcube config --create-platform RUNNER NAME make it")
        return None
    tree = files.load(place.path, lambda _: "settings")
    if tree is None and files.problems and all(problem.code == "empty-file" for problem in files.problems):
        files.problems.clear()
        return from_data({}, "", Location(files.shown(place.path)))
    return tree


def find_entries(files: Files, tree: Node, path: str) -> dict[str, Entry]:
    """The platforms of one settings file by name; what the schema cannot see is noted."""
    runners = find(tree, "runners")
    found = {}
    for name, section in entries(find(tree, "platforms")).items():
        if section.value is None or isinstance(section.value, dict):
            found[name] = _entry(files, name, section, runners, path)
    return found


def _entry(files: Files, name: str, section: Node, runners: Node | None, path: str) -> Entry:
    where = format_path(("platforms", name))
    stated = text_at(section, "runner")
    word = find_runner(stated, runners) if stated else name
    runner = runner_of(word)
    if runner not in (*RUNNER_NAMES, *EARLIER_RUNNERS):
        node = find(section, "runner")
        known = (*RUNNER_NAMES, *entries(runners))
        guess = files.guesses.nearest(stated, known)
        if stated:
            files.note(node.location if node else section.key, f"there is no runner '{stated}'", "unknown-runner",
                       f"did you mean '{guess}'?" if guess else f"the runners are: {', '.join(RUNNER_NAMES)}",
                       f"{where}.runner")
        else:
            files.note(section.key, f"the platform '{name}' does not say its runner", "missing-key",
                       "add a line such as 'runner: docker'", f"{where}.runner")
        return Entry(name, "", mapping({}, section), section.key, path)
    options, problems = canonical_options(runner, section, where)
    files.problems += problems
    kept = {key: node for key, node in entries(options).items() if is_set(node)}
    written = _WRITTEN.get(runner, {})
    if "image" in kept and text_of(kept["image"]) == written.get("image"):
        kept = {key: node for key, node in kept.items() if key not in written or plain(node) != written[key]}
    if word in ("podman", "apptainer") and runner not in kept:
        kept[runner] = from_data(word, "", section.key)
    return Entry(name, runner, mapping(kept, section), section.key, path)


def find_runner(word: str, runners: Node | None) -> str:
    """The runner that a platform's `runner` means: a name below `runners` stands for what its package had."""
    package = text_at(runners, word, "pkg")
    return package[len("mlcube_"):] if package.startswith("mlcube_") else word


def _over(below: Entry | None, entry: Entry) -> Entry:
    """The user's entry laid over the site's of that name; of another runner it takes its place."""
    if below is None or below.runner != entry.runner:
        return entry
    beneath = entries(below.options)
    over = {name: merged_option(beneath.get(name), node) for name, node in entries(entry.options).items()}
    return replace(entry, options=mapping({**beneath, **over}, entry.options))


def merged_tree(settings: Settings) -> Node:
    """What all files state together, the user's over the site's; a platform of another runner takes the other's place."""
    result = from_data({}, "")
    for tree in settings.trees:
        above = entries(find(tree, "platforms"))
        below = find(result, "platforms")
        kept = {name: section for name, section in entries(below).items()
                if text_at(section, "runner") == text_at(above.get(name), "runner") or name not in above}
        result = merge(mapping({**entries(result), "platforms": mapping(dict(kept), below) if below else None}), tree)
    return result


def merged_option(below: Node | None, over: Node) -> Node:
    """`over` upon `below`: maps key by key; the place is that of `over`."""
    if below is None:
        return over
    return replace(merge(below, over), location=over.location, key=over.key, origin=over.origin, own=False)

