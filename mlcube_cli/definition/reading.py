"""The way from a ReadRequest to a Reading: detect, read, choose the platform, override, interpolate, assemble, check."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition import Effective, Reading, ReadRequest
from mlcube_cli.definition.assemble import build_cube
from mlcube_cli.definition.crosscheck import crosscheck
from mlcube_cli.definition.detect import absolute, detect_dialect, find_definition
from mlcube_cli.definition.directory import read_directory
from mlcube_cli.definition.draft import Draft, PlatformDraft
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.inline import check_inline, read_inline
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.mlbox import merge_platform, read_mlbox
from mlcube_cli.definition.options import with_defaults
from mlcube_cli.definition.platforms import read_platform_file
from mlcube_cli.definition.source import Document, find_node
from mlcube_cli.definition.tree import Node, entries, find, from_data, mapping
from mlcube_cli.definition.workspace import chosen_workspace
from mlcube_cli.errors import Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCHEMAS = {"mlbox": "mlbox", "directory": "mlcube_root", "inline": "mlcube"}


def read(request: ReadRequest) -> Reading:
    """The reading; see `mlcube_cli.definition.read_cube`."""
    root, file = find_definition(request.where, request.cwd, request.environment)
    files = Files(root, request.cwd, request.cache)
    draft = _draft(request, files, file)
    if draft is None:
        return Reading(None, _sorted(files.problems))
    chosen, draft = _choose_platform(request, files, draft)
    if request.overrides:
        from mlcube_cli.definition.overrides import apply_overrides

        draft = apply_overrides(draft, request.overrides, chosen)
    workspace = chosen_workspace(request, root, draft.tree)
    draft = _complete(draft)
    resolved = _interpolated(request, files, draft, workspace, chosen) if draft.dialect == "inline" else draft
    if draft.dialect == "inline":
        check_inline(files, resolved.tree)
    cube = build_cube(resolved, files, workspace)
    crosscheck(resolved, files)
    effective = Effective(_effective(draft, root, workspace), _effective(resolved, root, workspace))
    return Reading(cube, _sorted(files.problems), chosen, effective)


def _draft(request: ReadRequest, files: Files, file: str) -> Draft | None:
    """The cube as its dialect's reader finds it; None when the main file cannot be used."""
    found: list[str] = []

    def choose(document: Document) -> str | None:
        found.append(detect_dialect(document.data, files.root, document.file))
        compact = found[-1] == "inline" and _looks_compact(document)
        return None if compact else _SCHEMAS[found[-1]]

    node = files.load(file, choose)
    if node is None:
        return None
    if found[-1] == "directory":
        return read_directory(files, file, node, tuple(_run_files(request, files)))
    return read_mlbox(files, file, node) if found[-1] == "mlbox" else read_inline(files, file, node)


def _looks_compact(document: Document) -> bool:
    """True for the form of spec/dialects 2.11: parameters in lists, each with its name."""
    tasks = find_node(document.data, ("tasks",))
    sections = [find_node(task, ("parameters",)) for task in (tasks.values() if isinstance(tasks, dict) else ())]
    listed = [item for section in sections if isinstance(section, list) for item in section]
    return bool(listed) and all(isinstance(item, dict) and item.get("name") for item in listed)


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
    """Without repetitions, file by file in the order they were read, and from top to bottom in each."""
    order = {file: index for index, file in enumerate(dict.fromkeys(problem.location.file for problem in problems))}
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (
        order[problem.location.file], problem.location.line, problem.location.column)))


# --- the platform that the command line names ----------------------------------------------------------------------


def _choose_platform(request: ReadRequest, files: Files, draft: Draft) -> tuple[str | None, Draft]:
    """The name of the platform that `--platform` means, and the draft with that platform in it. Raises UsageError."""
    text = request.platform
    if text is None or any(platform.name == text for platform in draft.platforms):
        return text, draft
    found = _platform_file(request, files, text)
    if found is None:
        raise _no_platform(draft, text)
    path, section = found
    same = next((platform for platform in draft.platforms if not section and _same(platform.file, path)), None)
    if same is not None and draft.dialect != "inline":
        return same.name, draft
    platform = read_platform_file(files, path, os.path.splitext(os.path.basename(path))[0], section)
    if platform is None:
        return None, draft
    if draft.dialect == "mlbox":
        platform = merge_platform(draft.platforms, platform)
    if draft.dialect == "inline" and platform.name in (*entries(draft.tree), "workspace", "runtime"):
        platform = replace(platform, name=os.path.basename(path))  # its options stand beside the cube's own keys
    others = tuple(other for other in draft.platforms if other.name != platform.name)
    return platform.name, replace(draft, platforms=(*others, platform))


def _same(left: str, right: str) -> bool:
    try:
        return os.path.samefile(left, right)
    except OSError:
        return False


def _platform_file(request: ReadRequest, files: Files, text: str) -> tuple[str, str] | None:
    """(absolute path, section) of the file that the text names: from the current directory, else from the cube."""
    name, colon, section = text.rpartition(":")
    for spelled, chosen in ((text, ""), (name, section)) if colon else ((text, ""),):
        for base in (request.cwd, files.root, os.path.join(files.root, "platforms")):
            path = absolute(spelled, base) if spelled else ""
            if path and "\x00" not in path and os.path.isfile(path):
                return path, chosen
    return None


def _no_platform(draft: Draft, text: str) -> UsageError:
    names = [platform.name for platform in draft.platforms]
    stem = os.path.splitext(os.path.basename(text))[0]
    guess = nearest(text, names) or nearest(stem, names) or (stem if stem in names else None)
    file = text.endswith((".yaml", ".yml")) or "/" in text
    what = f"there is no platform file '{text}'" if file else f"this cube has no platform '{text}'"
    return UsageError(what, f"did you mean '{guess}'?" if guess else f"its platforms are: {', '.join(names) or 'none'}")


# --- defaults and references ---------------------------------------------------------------------------------------


def _with_platforms(draft: Draft, change: Callable[[PlatformDraft], Node]) -> Draft:
    return replace(draft, platforms=tuple(replace(item, options=change(item)) for item in draft.platforms))


def _complete(draft: Draft) -> Draft:
    """The draft with what the dialect sets by itself."""
    return _with_platforms(draft, lambda item: mapping(
        with_defaults(draft.dialect, item.runner, entries(item.options), item.location), item.options))


def _interpolated(request: ReadRequest, files: Files, draft: Draft, workspace: str, chosen: str | None) -> Draft:
    from mlcube_cli.definition.interpolate import carried, interpolate

    names = tuple(platform.name for platform in draft.platforms)
    generated = _generated(carried(files.root), carried(workspace))
    whole = mapping({**entries(draft.tree), **{item.name: item.options for item in draft.platforms}, **generated},
                    draft.tree)
    result, problems = interpolate(whole, request.environment, names, chosen or (names[0] if len(names) == 1 else ""))
    files.problems += problems
    values = entries(result)
    tree = mapping({key: node for key, node in values.items() if key in entries(draft.tree)}, draft.tree)
    return _with_platforms(replace(draft, tree=tree), lambda item: values[item.name])


def _generated(root: str, workspace: str) -> Mapping[str, Node]:
    return {"workspace": from_data(workspace, "generated"),
            "runtime": from_data({"root": root, "workspace": workspace}, "generated")}


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
    top = {**entries(draft.tree), **_generated(root, workspace)}
    if draft.groups:
        top["tasks"] = _tasks_with_groups(draft)
    if draft.dialect == "inline":
        return mapping({**top, **{item.name: item.options for item in draft.platforms}}, draft.tree)
    platforms = {item.name: mapping({"runner": from_data(item.runner, str(item.location)), **entries(item.options)},
                                    item.options) for item in draft.platforms}
    return mapping({**top, "platforms": mapping(platforms, draft.tree)}, draft.tree)
