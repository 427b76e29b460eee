"""The compact form of March 2021: one file, each task with a list of its parameters (spec/dialects 2.11)."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.directory import read_platforms
from mlcube_cli.definition.draft import GroupDraft, PlatformDraft
from mlcube_cli.definition.options import with_defaults
from mlcube_cli.definition.platforms import container_platform
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, entries, find, items, mapping, text_at

if TYPE_CHECKING:
    from mlcube_cli.definition.load import Files

_LISTS = ("parameters", "io")  # the second one in a sketch of the form


def compact_task(files: Files, name: str, task: Node, groups: list[GroupDraft]) -> Node:
    """`parameters: [{name, type, io}]` and `tasks: {RUN: {parameter: value}}` as everybody else writes them."""
    runs = entries(find(task, "tasks"))
    default = runs.get(name) or (next(iter(runs.values())) if len(runs) == 1 else None)
    sides: dict[str, dict[str, Node | None]] = {"inputs": {}, "outputs": {}}
    for written in _LISTS:
        for index, item in enumerate(items(find(task, written))):
            parameter, side = text_at(item, "name"), "outputs" if text_at(item, "io") == "output" else "inputs"
            if not parameter:
                continue  # the schema says so
            if parameter in sides[side]:
                files.note(item.location, f"'{parameter}' is declared twice", "duplicate-parameter", "remove one of them",
                           format_path(("tasks", name, written, index, "name")))
            value = find(default, parameter) or find(item, "default")
            kept = {key: value for key, value in entries(item).items() if key not in ("name", "io")}
            sides[side][parameter] = mapping({**kept, "default": value}, item)
    for run, values in runs.items():
        bound = _bound(files, (name, run), values, sides)
        groups.append(GroupDraft(run, name, bound, values.location, values is default))
    kept_task = {key: item for key, item in entries(task).items() if key not in ("tasks", *_LISTS)}
    sections = {side: mapping(known, task) for side, known in sides.items()}
    return mapping({**kept_task, "parameters": mapping(sections, task)}, task)


def _bound(files: Files, where: tuple[str, str], values: Node,
           sides: dict[str, dict[str, Node | None]]) -> tuple[tuple[str, str, Node], ...]:
    """What a run configuration binds; a name that the task does not have is an error, as in a file of its own."""
    task, run = where
    known = [parameter for side in sides.values() for parameter in side]
    for parameter, value in entries(values).items():
        if parameter not in known:
            guess = files.guesses.nearest(parameter, known)
            files.note(value.key, f"the task has no parameter '{parameter}'", "unknown-parameter", f"did you mean '{guess}'?"
                       if guess else f"its parameters are: {', '.join(known) or 'none'}",
                       format_path(("tasks", task, "tasks", run, parameter)))
    return tuple((side, parameter, entries(values)[parameter])
                 for side, parameters in sides.items() for parameter in parameters if parameter in entries(values))


def compact_platforms(files: Files, file: str, node: Node) -> list[PlatformDraft]:
    """The `container` section, and the files below platforms/; built as in the directory dialect."""
    found = []
    container = find(node, "container")
    if container is not None and "docker" not in entries(node):
        found.append(container_platform(files, container, "docker", file))
    taken = {*entries(node), *(platform.name for platform in found)}
    for platform in read_platforms(files):
        found.append(replace(platform, name=f"{platform.name}.yaml") if platform.name in taken else platform)
    return [replace(one, options=mapping(with_defaults("directory", one.runner, entries(one.options), one.location),
                                         one.options)) for one in found]
