"""The platform that `--platform` names: the cube's, one of the settings, a built-in name, or a platform file."""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.detect import absolute
from mlcube_cli.definition.draft import Draft, PlatformDraft
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.mlbox import merge_platform
from mlcube_cli.definition.model import TYPED
from mlcube_cli.definition.platforms import BUILT_IN, CARRIERS, read_platform_file
from mlcube_cli.definition.tree import entries, from_data, mapping, text_at
from mlcube_cli.errors import Location, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.definition import ReadRequest
    from mlcube_cli.definition.load import Files
    from mlcube_cli.definition.settings import Entry, Settings
    from mlcube_cli.definition.tree import Node


def choose_platform(request: ReadRequest, files: Files, draft: Draft,
                    settings: Settings | None) -> tuple[str | None, Draft]:
    """The name of the platform that `--platform` means, and the draft with that platform in it.

    None for the name: nothing was asked for, or what defines the platform is broken and noted. Raises UsageError.
    """
    if request.platform is None:
        return None, draft
    return _found(files, draft, settings, request.platform, (request.cwd, files.root, os.path.join(files.root, "platforms")))


def choose_inside(request: ReadRequest, files: Files, draft: Draft, settings: Settings | None,
                  chosen: str | None) -> tuple[Mapping[str, str], Draft]:
    """The same for the platform that runs on the machine which the chosen one names, for what runs inside of that, and so on:
    their names, outermost first, each with the words that ask for it. A definition says it, so a file is looked for in the cube
    before the current directory.

    Raises UsageError for what `request.inside` asks for; what a platform says by itself may be wrong meanwhile.
    """
    chain: dict[str, str] = {}
    outer, asked = chosen, request.platform or ""
    while True:
        typed = "".join(request.inside[len(chain):len(chain) + 1])
        text = typed or _named_inside(request, draft, settings, (outer, asked), not chain)
        if not text:
            return chain, draft
        try:
            name, draft = _found(files, draft, settings, text, (files.root, os.path.join(files.root, "platforms"), request.cwd))
        except UsageError as error:
            if typed:
                raise UsageError(f"what should run inside of '{outer}': {error.message}", error.hint) from None
            return chain, draft
        if name is None or name == chosen or name in chain:
            if typed and name:
                raise UsageError(f"what should run inside of '{outer}': platform '{name}' cannot run inside of itself",
                                 "name one of docker, singularity, local")
            return chain, draft
        chain[name] = text
        outer, asked = name, text


def _named_inside(request: ReadRequest, draft: Draft, settings: Settings | None, outer: tuple[str | None, str],
                  outermost: bool) -> str:
    """The option `platform` of a platform that has one, given with the words that ask for it; the last `-P` of it counts."""
    name, asked = outer
    carrier = next((item for item in draft.platforms if item.name == name), None)
    if carrier is None or carrier.runner not in CARRIERS:
        return ""
    keys = [f"{word}.platform" for word in (carrier.runner, carrier.name, *(("runner",) if outermost else ()))]
    typed = [text.partition("=")[2] for text in request.overrides if text.partition("=")[0].strip() in keys]
    entry = settings.entries.get(asked) if settings else None
    stated = text_at(carrier.options, "platform") or (text_at(entry.options, "platform") if entry else "")
    return typed[-1].strip() if typed else stated


def _found(files: Files, draft: Draft, settings: Settings | None, text: str,
           bases: tuple[str, ...]) -> tuple[str | None, Draft]:
    if any(platform.name == text for platform in draft.platforms):
        return text, draft
    entry = settings.entries.get(text) if settings else None
    if entry is not None and not entry.runner:
        return None, draft
    if entry is not None or text in BUILT_IN:
        platform = _named(draft, text, entry)
        return _with(draft, platform, f"{text} ({platform.runner})")
    found = _platform_file(bases, text)
    if found is not None:
        return _from_file(files, draft, *found)
    if settings and settings.broken:
        return None, draft
    raise _no_platform(draft, text, settings)


def _with(draft: Draft, platform: PlatformDraft, otherwise: str) -> tuple[str, Draft]:
    """The draft with the platform in it, called `otherwise` where an inline cube has a key of that name: they stand
    beside each other."""
    if draft.dialect == "inline" and platform.name in (*entries(draft.tree), "workspace", "runtime"):
        platform = replace(platform, name=otherwise)
    others = tuple(other for other in draft.platforms if other.name != platform.name)
    return platform.name, replace(draft, platforms=(*others, platform))


# --- a name that the cube need not know ------------------------------------------------------------------------------


def _named(draft: Draft, name: str, entry: Entry | None) -> PlatformDraft:
    """A platform of the settings or a built-in one: the cube's section of that runner under this name. A machine or cluster of
    the user's is nobody else's: what a cube says of one of its own does not lie over it."""
    runner = entry.runner if entry else BUILT_IN[name][0]
    base = _section_of(draft, name, runner) if runner not in CARRIERS else None
    options = dict(entries(base.options)) if base else {}
    engine, executable = BUILT_IN.get(name, ("", ""))
    if executable and engine == runner:
        options[runner] = _executable(entry, runner, executable)
    location = entry.location if entry else base.location if base else Location(TYPED)
    like = base.options if base else mapping({}, from_data({}, "", location))
    return PlatformDraft(name, runner, mapping(options, like), location, entry.file if entry else base.file if base else "")


def _executable(entry: Entry | None, runner: str, name: str) -> Node:
    """What `podman` and `apptainer` stand for; the cube's own executable does not count there, the user's does."""
    stated = entries(entry.options).get(runner) if entry else None
    return replace(stated, own=True) if stated else from_data(name, TYPED)


def _section_of(draft: Draft, name: str, runner: str) -> PlatformDraft | None:
    """The cube's platform that lies beneath a name of the settings. Raises UsageError where several could."""
    same = [platform for platform in draft.platforms if platform.runner == runner]
    called = [platform for platform in same if platform.name == runner]
    if len(same) > 1 and not called:
        names = ", ".join(platform.name for platform in same)
        raise UsageError(f"--platform {name}: the cube has several platforms of the runner '{runner}': {names}",
                         f"choose one of them: --platform {same[0].name}")
    return next(iter(called or same), None)


# --- a file ----------------------------------------------------------------------------------------------------------


def _from_file(files: Files, draft: Draft, path: str, section: str) -> tuple[str | None, Draft]:
    """The platform of a file. MLBox and inline: laid over the cube's section of that runner; a directory cube's platforms
    are files themselves, each for itself."""
    same = next((platform for platform in draft.platforms if not section and _same(platform.file, path)), None)
    if same is not None and draft.dialect != "inline":
        return same.name, draft
    platform = read_platform_file(files, path, os.path.splitext(os.path.basename(path))[0], section)
    if platform is None:
        return None, draft
    if draft.dialect != "directory":
        platform = merge_platform(draft.platforms, platform)
    return _with(draft, replace(platform, file=path), os.path.basename(path))


def _same(left: str, right: str) -> bool:
    try:
        return os.path.samefile(left, right)
    except OSError:
        return False


def _platform_file(bases: tuple[str, ...], text: str) -> tuple[str, str] | None:
    """(absolute path, section) of the file that the text names, from the first of the directories that has it."""
    name, colon, section = text.rpartition(":")
    for spelled, chosen in ((text, ""), (name, section)) if colon else ((text, ""),):
        for base in bases:
            path = absolute(spelled, base) if spelled else ""
            if path and "\x00" not in path and os.path.isfile(path):
                return path, chosen
    return None


def _no_platform(draft: Draft, text: str, settings: Settings | None) -> UsageError:
    own = [platform.name for platform in draft.platforms]
    others = [name for name in dict.fromkeys((*(settings.entries if settings else ()), *BUILT_IN)) if name not in own]
    stem = os.path.splitext(os.path.basename(text))[0]
    names = (*own, *others)
    guess = nearest(text, own) or nearest(stem, own) or nearest(text, names) or nearest(stem, names) or (
        stem if stem in names else None)
    file = text.endswith((".yaml", ".yml")) or "/" in text
    what = f"there is no platform file '{text}'" if file else f"this cube has no platform '{text}'"
    return UsageError(what, f"did you mean '{guess}'?" if guess else
                      f"its platforms are: {', '.join(own) or 'none'}; there are also: {', '.join(others)}")
