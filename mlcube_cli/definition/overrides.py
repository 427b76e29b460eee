"""`-P a.b.c=value`: any place of the definition or of a platform, typed as YAML; an unknown place is an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlcube_cli.definition.draft import Draft, PlatformDraft, with_options
from mlcube_cli.definition.hints import did_you_mean
from mlcube_cli.definition.inline import fold
from mlcube_cli.definition.model import OVERRIDE, Data
from mlcube_cli.definition.options import canonical_name, canonical_options
from mlcube_cli.definition.platforms import RUNNER_NAMES
from mlcube_cli.definition.tree import Node, Path, entries, find, items, mapping, plain, put
from mlcube_cli.errors import DefinitionError, Location, UsageError

DEEPEST = 50  # names in one path
_ENVIRONMENT = ("env", "env_args")  # options that hold what a task finds in its environment
_SOURCES = {"image": "docker_image", "tar_file": "tar_file"}  # of docker's options, as singularity's (docs/platforms.md)
_SHAPE_CODES = ("wrong-type", "bad-value")


@dataclass(frozen=True)
class Override:
    """One `-P`: the place it names and the value, whose nodes have the origin `-P`."""

    text: str
    path: tuple[str, ...]
    value: Node


def apply_overrides(draft: Draft, texts: Iterable[str], platform: str | None) -> Draft:
    """The draft with the overrides laid over it, in their order. `platform` is the chosen one, which `runner.` means.

    Raises UsageError for a place that neither the cube nor the schema knows, and for a value that does not fit there.
    """
    for text in texts:
        draft = _apply(draft, parse_override(text), platform)
    return draft


def parse_override(text: str) -> Override:
    """The place and the value of one `-P`; the first `=` splits, `\\.` is a dot inside a name. Raises UsageError."""
    key, equals, value = text.partition("=")
    path = tuple(part.replace("\x00", ".") for part in key.strip().replace("\\.", "\x00").split("."))
    if not equals or not all(path) or len(path) > DEEPEST:
        raise UsageError(f"-P {text}: this does not say which value is set", "write -P NAME.NAME=VALUE, such as "
                                                                            "-P docker.image=mine:1")
    return Override(text, path, _parse_value(text, value))


def _parse_value(text: str, value: str) -> Node:
    """The value as YAML reads it; an empty one is the empty text, and so is one that YAML takes for a comment."""
    from mlcube_cli.definition.source import Document, parse_document
    from mlcube_cli.definition.tree import from_document

    place = f"-P {text.partition('=')[0]}"
    if not value.strip() or any("\ud800" <= char <= "\udfff" for char in value):  # undecodable bytes: a path
        return _mark(from_document(Document(place, value, {}, {})))
    try:
        return _mark(from_document(parse_document(value.encode(), place)))
    except DefinitionError as error:
        raise UsageError(f"-P {text}: {error.message}", error.hint or "put quotes around the value") from None


def _mark(node: Node) -> Node:
    """The same node with the origin `-P` everywhere."""
    place = Location(node.location.file)
    marked = replace(node, location=place, key=place, origin=OVERRIDE)
    if isinstance(node.value, dict):
        return replace(marked, value={key: _mark(item) for key, item in node.value.items()})
    if isinstance(node.value, tuple):
        return replace(marked, value=tuple(_mark(item) for item in node.value))
    return marked


def _apply(draft: Draft, override: Override, platform: str | None) -> Draft:
    first = override.path[0]
    names = {item.name for item in draft.platforms}
    if first == "runner" and "runner" not in entries(draft.tree):
        chosen = [item for item in draft.platforms if platform in (None, item.name)]
    elif first in RUNNER_NAMES:
        chosen = [item for item in draft.platforms if item.runner == first]
    elif first in names:
        chosen = [item for item in draft.platforms if item.name == first]
    else:
        return _on_tree(draft, override)
    if not chosen:
        runner = first if first in RUNNER_NAMES else "docker"
        steps = _check_option(PlatformDraft(first, runner, Node({}), Location("")), override)
        return _on_sources(draft, steps, override.value) if first == "docker" else draft
    if first == "runner" and len(chosen) > 1:  # each runner has options of its own; one of them must know this
        chosen = [item for item in chosen if _knows(item, override)] or chosen[:1]
    changed = {item.name: _on_platform(item, override) for item in chosen}
    return replace(draft, platforms=tuple(changed.get(item.name, item) for item in draft.platforms))


# --- platforms -----------------------------------------------------------------------------------------------------


def _on_platform(platform: PlatformDraft, override: Override) -> PlatformDraft:
    steps = _check_option(platform, override)
    value = override.value
    if not steps:
        named = entries(canonical_options(platform.runner, value, override.path[0])[0])
        value = mapping({key: _hidden(item) if key in _ENVIRONMENT else item for key, item in named.items()}, value)
    elif steps[0] in _ENVIRONMENT:
        value = _hidden(value)
    return replace(platform, options=put(platform.options, _indices(platform.options, steps), value))


def _on_sources(draft: Draft, steps: tuple[str, ...], value: Node) -> Draft:
    """`-Pdocker.image=NAME` where the cube has no docker platform: what its singularity platforms are made from."""
    given = entries(value) if not steps else {steps[0]: value}
    told = {_SOURCES[name]: node for name, node in given.items() if name in _SOURCES}
    return with_options(draft, lambda item: mapping({**entries(item.options), **told}, item.options)
                        if told and item.runner == "singularity" else item.options)


def _hidden(node: Node) -> Node:
    """The value as a secret: of environment values only those show that the definition itself states (CONTRIBUTING)."""
    if isinstance(node.value, dict):
        return replace(node, value={key: _hidden(item) for key, item in node.value.items()})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_hidden(item) for item in node.value))
    return replace(node, secret=node.value is not None)


def _knows(platform: PlatformDraft, override: Override) -> bool:
    try:
        _check_option(platform, override)
    except UsageError:
        return False
    return True


def _check_option(platform: PlatformDraft, override: Override) -> tuple[str, ...]:
    """The option's path under its canonical name. Raises UsageError when the platform has no such option."""
    steps = override.path[1:]
    if steps:
        steps = (canonical_name(platform.runner, steps[0]), *steps[1:])
    elif not isinstance(override.value.value, dict):
        raise UsageError(f"-P {override.text}: which option of '{override.path[0]}' is meant?",
                         f"write -P {override.path[0]}.OPTION=VALUE")
    _check(override, (platform.runner, *steps), {platform.runner: plain(platform.options)})
    return _moved(override, steps) if platform.runner == "ssh" else steps


def _moved(override: Override, steps: tuple[str, ...]) -> tuple[str, ...]:
    """The place of an ssh platform's value that earlier programs had elsewhere. Raises UsageError for what has no use."""
    from mlcube_cli.definition.ssh_options import MOVED, NO_USE, no_use

    if steps[:2] in MOVED:
        return (MOVED[steps[0], steps[1]], *steps[2:])
    section = steps[0] if steps else ""
    used = section in ("env", "sync") and (len(steps) > 1 or isinstance(override.value.value, dict))
    if section in NO_USE and not used:
        names = [f"-P {override.path[0]}.{name}=VALUE" for (old, _), name in MOVED.items() if old == section]
        raise UsageError(f"-P {override.text}: {no_use(section)}", " or ".join(dict.fromkeys(names)))
    return steps


# --- the definition ------------------------------------------------------------------------------------------------


def _on_tree(draft: Draft, override: Override) -> Draft:
    data = plain(draft.tree)
    if override.path[0] in ("workspace", "runtime") and override.path[0] not in entries(draft.tree):
        raise UsageError(f"-P {override.text}: '{override.path[0]}' is no value of the definition",
                         "another workspace is given with --workspace DIR")
    extra = draft.dialect == "inline" and _is_extra(draft.tree, override.path)
    if not extra:
        _check(override, override.path, data, (*entries(draft.tree), "runner", *(p.name for p in draft.platforms)))
    steps = _indices(draft.tree, override.path)
    changed = put(draft.tree, steps, _folded(override.value, override.path))
    if override.path[0] == "tasks" and draft.dialect == "inline":
        changed = put(changed, (), mapping({"tasks": _with_names(find(changed, "tasks"))}, changed))
    return replace(draft, tree=changed)


def _is_extra(tree: Node, path: tuple[str, ...]) -> bool:
    """True for a place in a key of the user's own (interpolation uses them): all of it but the last name is there."""
    from mlcube_cli.definition.schema import known_path

    if path[0] not in entries(tree) or known_path("mlcube", path[:1], {}) is None:
        return False
    steps = _indices(tree, path)
    held = find(tree, *steps[:-1])
    return find(tree, *steps) is not None or isinstance(getattr(held, "value", None), dict)


def _folded(value: Node, path: tuple[str, ...]) -> Node:
    """The value with every parameter in it a mapping: a bare value given to a parameter is its default."""
    shape = ("tasks", None, "parameters", None, None)[:len(path)]
    if len(path) > 5 or any(wanted not in (None, step) for wanted, step in zip(shape, path)):
        return value
    if len(path) == 5:
        return value if isinstance(value.value, dict) else fold(path[4], value)
    if not isinstance(value.value, dict):
        return value
    return mapping({key: _folded(item, (*path, key)) for key, item in value.value.items()}, value)


def _with_names(tasks: Node | None) -> Node:
    """The tasks with each parameter's own name as its default where `-P` added one without."""
    assert tasks is not None
    changed = {}
    for name, task in entries(tasks).items():
        for side in ("inputs", "outputs"):
            section = find(task, "parameters", side)
            if section is not None:
                folded = {parameter: fold(parameter, node) for parameter, node in entries(section).items()}
                task = put(task, ("parameters", side), mapping(folded, section))
        changed[name] = task
    return mapping(changed, tasks)


def _indices(tree: Node, path: tuple[str, ...]) -> Path:
    """The path with numbers where it goes through a list that has such an item."""
    steps: Path = ()
    for step in path:
        held = find(tree, *steps)
        inside = isinstance(getattr(held, "value", None), tuple)
        steps = (*steps, int(step) if inside and step.isdecimal() and int(step) < len(items(held)) else step)
    return steps


# --- what the schema says ------------------------------------------------------------------------------------------


def _check(override: Override, path: tuple[str, ...], data: Data, more: Iterable[str] = ()) -> None:
    """Raises UsageError when the schema of an inline cube has no such place, or no such value there."""
    from mlcube_cli.definition.schema import check, known_path
    from mlcube_cli.definition.source import Document

    unknown = known_path("mlcube", path, data)
    if unknown is not None:
        what, _, hint = unknown.partition("; ")
        hint = did_you_mean(path[0], more) if len(path) == 1 and not hint.startswith("did") else hint
        raise UsageError(f"-P {override.text}: {what}", hint or "mlcube show-config lists what there is")
    value = plain(override.value)
    if isinstance(value, str) and "${" in value:
        return
    nested: Data = value
    for step in reversed(path):
        if step.isdecimal():
            return
        nested = {step: nested}
    for problem in check(Document(OVERRIDE, nested, {}, {}), "mlcube"):
        if problem.code in _SHAPE_CODES:
            raise UsageError(f"-P {override.text}: {problem.message}", problem.hint)
