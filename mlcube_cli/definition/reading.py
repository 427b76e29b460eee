"""The way from a ReadRequest to a Reading: detect, read, choose the platform, override, interpolate, assemble, check."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition import Effective, Reading, ReadRequest
from mlcube_cli.definition.assemble import build_cube
from mlcube_cli.definition.chosen import choose_inside, choose_platform
from mlcube_cli.definition.crosscheck import crosscheck
from mlcube_cli.definition.detect import absolute, detect_dialect, find_definition, named
from mlcube_cli.definition.directory import read_directory
from mlcube_cli.definition.draft import Draft, generated, with_options
from mlcube_cli.definition.inline import check_inline, read_inline
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.mlbox import read_mlbox
from mlcube_cli.definition.options import with_defaults
from mlcube_cli.definition.platforms import CARRIERS
from mlcube_cli.definition.source import Document, find_node
from mlcube_cli.definition.tree import Node, entries, find, from_data, is_set, mapping
from mlcube_cli.definition.workspace import chosen_workspace
from mlcube_cli.errors import NOWHERE, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlcube_cli.definition.settings import Settings

_SCHEMAS = {"mlbox": "mlbox", "directory": "mlcube_root", "inline": "mlcube", "compact": "mlcube_compact"}


def read(request: ReadRequest) -> Reading:
    """The reading; see `mlcube_cli.definition.read_cube`."""
    root, file = find_definition(request.where, request.cwd, request.environment)
    files = Files(root, request.cwd, request.cache)
    draft = _draft(request, files, file)
    if draft is None:
        return Reading(None, _sorted(files.problems))
    settings = _settings(request)
    chosen, draft = choose_platform(request, files, draft, settings)
    inside, draft = choose_inside(request, files, draft, settings, chosen)
    if request.overrides:
        from mlcube_cli.definition.overrides import apply_overrides

        draft = apply_overrides(draft, request.overrides, chosen)
    workspace = chosen_workspace(request, root, draft.tree)
    draft = _complete(draft)
    resolved = _interpolated(request, files, draft, workspace, chosen) if draft.dialect == "inline" else draft
    if settings is not None:
        from mlcube_cli.definition.layers import Wish, with_settings

        draft, resolved = with_settings(Wish(request, settings, workspace, chosen, inside), files, draft, resolved)
    draft, resolved = _with_carriers(draft, chosen, inside), _with_carriers(resolved, chosen, inside)
    if draft.dialect == "inline":
        check_inline(files, resolved.tree)
    cube = build_cube(_with_docker_image(resolved, files) if request.settings else resolved, files, workspace)
    crosscheck(resolved, files)
    effective = Effective(_effective(draft, root, workspace), _effective(resolved, root, workspace))
    return Reading(cube, _sorted(files.problems), chosen, effective, files.uses, tuple(inside))


def _settings(request: ReadRequest) -> Settings | None:
    """The settings that hold, or None where there are none: then looking for them was all that they cost."""
    if not request.settings:
        return None
    from mlcube_cli.definition.places import find_places

    places = [place for place in find_places(request.environment, request.cwd, request.cache) if place.counts]
    if not places:
        return None
    from mlcube_cli.definition.settings import load_settings

    return load_settings(places, request.cwd, request.cache)


def _draft(request: ReadRequest, files: Files, file: str) -> Draft | None:
    """The cube as its dialect's reader finds it; None when the main file cannot be used."""
    found: list[str] = []

    def choose(document: Document) -> str | None:
        found.append(detect_dialect(document.data, files.root, document.file))
        if found[-1] == "inline" and _looks_compact(document):
            found.append("compact")
        return _SCHEMAS[found[-1]]

    node = files.load(file, choose)
    if node is None:
        files.problems = named(files.problems, file, files.shown(file))
        return None
    if found[-1] == "directory":
        return read_directory(files, file, node, tuple(_run_files(request, files)))
    return read_mlbox(files, file, node) if found[-1] == "mlbox" else read_inline(files, file, node, found[-1] == "compact")


def _looks_compact(document: Document) -> bool:
    """True for the form of spec/dialects 2.11: parameters in lists of mappings that name them."""
    tasks = find_node(document.data, ("tasks",))
    sections = [find_node(task, (key,)) for task in (tasks.values() if isinstance(tasks, dict) else ())
                for key in ("parameters", "io")]
    listed = [item for section in sections if isinstance(section, list) for item in section]
    return any(isinstance(item, dict) and ("name" in item or "io" in item) for item in listed)


def _run_files(request: ReadRequest, files: Files) -> list[str]:
    """The run configuration files that `--task` names: from the current directory, else from the cube (RULINGS 3)."""
    found = []
    for text in request.run_files:
        for base in (request.cwd, files.root):
            path = absolute(text, base)
            if text.endswith((".yaml", ".yml")) and os.path.isfile(path):
                found.append(path)
                break
    return found


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    """Without repetitions, file by file in the order they were read, and from top to bottom in each. What is said of a
    section once is not said again of a platform that is made from it (`podman`)."""
    order = {file: index for index, file in enumerate(dict.fromkeys(problem.location.file for problem in problems))}
    once: dict[tuple[object, ...], Problem] = {}
    for problem in problems:
        at = problem.path if problem.location == NOWHERE else ""
        once.setdefault((problem.location, problem.message, problem.severity, at), problem)
    return tuple(sorted(once.values(), key=lambda problem: (
        order[problem.location.file], problem.location.line, problem.location.column)))


# --- defaults and references ---------------------------------------------------------------------------------------


def _complete(draft: Draft) -> Draft:
    """The draft with what the dialect sets by itself."""
    return with_options(draft, lambda item: mapping(
        with_defaults(draft.dialect, item.runner, entries(item.options), item.location), item.options))


def _interpolated(request: ReadRequest, files: Files, draft: Draft, workspace: str, chosen: str | None) -> Draft:
    from mlcube_cli.definition.interpolate import carried, interpolate

    names = tuple(platform.name for platform in draft.platforms)
    whole = mapping({**entries(draft.tree), **{item.name: item.options for item in draft.platforms},
                     **generated(carried(files.root), carried(workspace))}, draft.tree)
    result = interpolate(whole, request.environment, names, chosen or (names[0] if len(names) == 1 else ""))
    files.problems += result.problems
    files.uses.update(result.uses)
    values = entries(result.tree)
    tree = mapping({key: node for key, node in values.items() if key in entries(draft.tree)}, draft.tree)
    return with_options(replace(draft, tree=tree), lambda item: values[item.name])


def _with_carriers(draft: Draft, chosen: str | None, inside: Iterable[str]) -> Draft:
    """The draft whose innermost platform of the chain knows what is said of all that it runs on, the nearest first."""
    *outer, innermost = (chosen, *inside)
    platforms = {item.name: item for item in draft.platforms}
    if not outer or innermost is None or platforms[innermost].runner in CARRIERS:
        return draft
    from mlcube_cli.definition.ssh_options import with_machine

    for name in reversed(outer):
        platforms[innermost] = with_machine(platforms[name or ""], platforms[innermost])
    return replace(draft, platforms=tuple(platforms.values()))


def _with_docker_image(draft: Draft, files: Files) -> Draft:
    """The draft whose singularity platforms know the image and the archive of the cube's docker platform, which they can be
    made from (spec/dialects 3.9); what is wrong there is a docker platform's matter."""
    docker = [item for item in draft.platforms if item.runner == "docker"]
    if not docker or not any(item.runner == "singularity" for item in draft.platforms):
        return draft
    source = entries(next((item for item in docker if item.name == "docker"), docker[0]).options)
    told = {"docker_image": source.get("image"), "tar_file": source.get("tar_file")}
    faulty = {problem.location for problem in files.problems if problem.severity == "error" or problem.code == "unset-variable"}
    found = {name: node for name, node in told.items() if node is not None and is_set(node) and node.location not in faulty}
    return with_options(draft, lambda item: mapping({**found, **entries(item.options)}, item.options)
                           if item.runner == "singularity" else item.options)


def _tasks_with_groups(draft: Draft) -> Node:
    """The tasks, each with the run configurations or groups it has: `groups.NAME.PARAMETER`."""
    tasks = find(draft.tree, "tasks") or draft.tree
    changed = {}
    for name, task in entries(tasks).items():
        groups = {group.name: mapping({parameter: value for _, parameter, value in group.values}, task)
                  for group in draft.groups if group.task == name}
        changed[name] = mapping({**entries(task), "groups": mapping(groups, task) if groups else None}, task)
    return mapping(changed, tasks)


def _effective(draft: Draft, root: str, workspace: str) -> Node:
    """The definition as one tree; platforms by name: at the top in the inline dialect, else under `platforms`."""
    top = {**entries(draft.tree), **generated(root, workspace)}
    if draft.groups:
        top["tasks"] = _tasks_with_groups(draft)
    if draft.dialect == "inline":
        return mapping({**top, **{item.name: item.options for item in draft.platforms}}, draft.tree)
    platforms = {item.name: mapping({"runner": from_data(item.runner, str(item.location)), **entries(item.options)},
                                    item.options) for item in draft.platforms}
    return mapping({**top, "platforms": mapping(platforms, draft.tree)}, draft.tree)
