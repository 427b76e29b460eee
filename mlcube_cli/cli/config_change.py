"""What `mlcube config` changes, and the words that say so."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cli.config import find_key
from mlcube_cli.cli.config_file import change_file
from mlcube_cli.definition import settings_edit as edit
from mlcube_cli.definition.hints import did_you_mean, nearest
from mlcube_cli.definition.options import canonical_name
from mlcube_cli.definition.places import SITE
from mlcube_cli.definition.platforms import BUILT_IN, RUNNER_NAMES, runner_of
from mlcube_cli.definition.settings import find_runner
from mlcube_cli.definition.source import find_node, format_path, parse_document
from mlcube_cli.definition.tree import from_data, from_document, text_of
from mlcube_cli.errors import DefinitionError, UsageError

if TYPE_CHECKING:
    from mlcube_cli.cli.arguments import Arguments
    from mlcube_cli.cli.config import Scene
    from mlcube_cli.cli.config_file import Content
    from mlcube_cli.definition.model import Data

PLATFORMS, RUNNERS = "platforms", "runners"


def change(action: str, arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    """Make the change; the lines that say what was done, and where. Raises UsageError, DefinitionError, MachineError."""
    return _CHANGES[action](arguments, scene)


# --- values ----------------------------------------------------------------------------------------------------------


def _set(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    """`--set K=V`, any number of them: all or none."""
    wanted = [_assignment(text) for text in arguments.set]
    paths: list[tuple[str, ...]] = []

    def made(content: Content) -> str:
        text, document = content.text, content.document
        for key, value, written in wanted:
            path = _spelt(document.data, tuple(map(str, find_key(from_document(document), key))))
            _refuse_through_values(document.data, path)
            text = edit.set_value(text, path, value, written)
            document = parse_document(text.encode("utf-8", "surrogateescape"), document.file)
            paths.append(path)
        return text

    after = change_file(scene.target, scene.shown(scene.target), made)
    return tuple(f"set {format_path(path)} in {after.document.location(path)}" for path in paths)


def _assignment(text: str) -> tuple[str, Data, str]:
    """(key, value, the value as it was written) of `K=V`; V is YAML, an empty one the empty text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: there is no '='", f"write --set {key}=VALUE")
    if not value.strip():
        return key, value, ""
    try:
        document = parse_document(value.encode("utf-8", "surrogateescape"), f"--set {key}")
    except DefinitionError as error:
        raise UsageError(f"--set {text}: {error.message}", error.hint or "put quotes around the value") from None
    return key, document.data, text_of(from_document(document)) or "null"


def _spelt(data: Data, path: tuple[str, ...]) -> tuple[str, ...]:
    """The path with an option as the file spells it already (`--network` where `network` is asked for)."""
    if len(path) < 3 or path[0] != PLATFORMS:
        return path
    section = find_node(data, path[:2])
    known = section if isinstance(section, dict) else {}
    runner = runner_of(find_runner(str(known.get("runner") or path[1]), from_data(find_node(data, (RUNNERS,)), "")))
    name = canonical_name(runner, path[2])
    same = [key for key in known if canonical_name(runner, key) == name]
    return (*path[:2], path[2] if path[2] in known or not same else same[0], *path[3:])


def _refuse_through_values(data: Data, path: tuple[str, ...]) -> None:
    for end in range(1, len(path)):
        held = find_node(data, path[:end])
        if held is not None and not isinstance(held, dict):
            kind = "a list" if isinstance(held, list) else "a single value"
            raise UsageError(f"'{format_path(path[:end])}' is {kind}, so nothing can be set below it",
                             f"set it as a whole: --set {format_path(path[:end])}=VALUE")


def _unset(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    paths: list[tuple[str, ...]] = []

    def made(content: Content) -> str:
        path = _spelt(content.data, tuple(map(str, find_key(from_document(content.document), arguments.unset))))
        if not content.has(*path):
            raise _absent(scene, content, path)
        paths.append(path)
        return edit.remove(content.text, path)

    change_file(scene.target, scene.shown(scene.target), made)
    return (f"removed {format_path(paths[0])} from {scene.shown(scene.target)}",)


# --- platforms -------------------------------------------------------------------------------------------------------


def _create(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    word, name = arguments.create_platform
    _refuse_odd_name(name)

    def made(content: Content) -> str:
        _refuse_taken(scene, content, PLATFORMS, name)
        return edit.set_value(content.text, (PLATFORMS, name), _new_section(content.data, word, name))

    after = change_file(scene.target, scene.shown(scene.target), made)
    return (_made(f"made platform '{name}'", after, name),)


def _new_section(data: Data, word: str, name: str) -> dict[str, Data]:
    """The section of a new platform; one for another machine is called as ssh calls it.

    Raises UsageError for a runner that there is not.
    """
    runners = find_node(data, (RUNNERS,))
    known = tuple(dict.fromkeys((*BUILT_IN, *RUNNER_NAMES, *(runners if isinstance(runners, dict) else ()))))
    if word not in known:
        raise UsageError(f"there is no runner '{word}'", did_you_mean(word, known) or f"the runners are: {', '.join(known)}")
    runner, executable = BUILT_IN.get(word, (word, ""))
    if runner == "ssh":
        return {"runner": runner, "host": name}
    return {"runner": runner, runner: executable} if executable else {"runner": runner}


def _remove(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    name = arguments.remove_platform

    def made(content: Content) -> str:
        if not content.has(PLATFORMS, name):
            raise _absent(scene, content, (PLATFORMS, name))
        return edit.remove(content.text, (PLATFORMS, name))

    change_file(scene.target, scene.shown(scene.target), made)
    return (f"removed platform '{name}' from {scene.shown(scene.target)}",)


def _rename(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    old, new = arguments.rename_platform
    _refuse_odd_name(new)

    def made(content: Content) -> str:
        if not content.has(PLATFORMS, old):
            raise _absent(scene, content, (PLATFORMS, old))
        _refuse_taken(scene, content, PLATFORMS, new)
        return edit.rename(content.text, (PLATFORMS, old), new)

    after = change_file(scene.target, scene.shown(scene.target), made, _name_hint(new))
    return (_made(f"renamed platform '{old}' to '{new}'", after, new),)


def _copy(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    """A platform of this file with its comments; one of the site's file, or a built-in name, as a new section."""
    old, new = arguments.copy_platform
    _refuse_odd_name(new)

    def made(content: Content) -> str:
        _refuse_taken(scene, content, PLATFORMS, new)
        if content.has(PLATFORMS, old):
            return edit.copy(content.text, (PLATFORMS, old), new)
        section = [found for found in (find_node(data, (PLATFORMS, old)) for data in scene.stated()) if found]
        if not section and old not in BUILT_IN:
            raise _absent(scene, content, (PLATFORMS, old))
        return edit.set_value(content.text, (PLATFORMS, new), section[0] if section else _new_section(content.data, old, new))

    after = change_file(scene.target, scene.shown(scene.target), made, _name_hint(new))
    return (_made(f"copied platform '{old}' to '{new}'", after, new),)


def _made(what: str, after: Content, name: str) -> str:
    return f"{what} in {after.document.location((PLATFORMS, name), key=True)}"


def _name_hint(name: str) -> str:
    return f"its section does not say its runner: mlcube config --set platforms.{name}.runner=RUNNER"


# --- runners ---------------------------------------------------------------------------------------------------------


def _rename_runner(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    old, new = arguments.rename_runner
    changed: list[str] = []

    def made(content: Content) -> str:
        if not content.has(RUNNERS, old):
            raise _absent(scene, content, (RUNNERS, old))
        _refuse_taken(scene, content, RUNNERS, new)
        text = edit.rename(content.text, (RUNNERS, old), new)
        changed.extend(_platforms_of(content.data, old) if arguments.update_platforms else ())
        for name in changed:
            text = edit.set_value(text, (PLATFORMS, name, "runner"), new)
        return text

    change_file(scene.target, scene.shown(scene.target), made, "" if arguments.update_platforms else
                "--update-platforms renames it in the platforms, too")
    where = scene.shown(scene.target)
    return (f"renamed runner '{old}' to '{new}' in {where}",
            *(f"platform '{name}' has the runner '{new}' now" for name in changed))


def _remove_runner(arguments: Arguments, scene: Scene) -> tuple[str, ...]:
    name = arguments.remove_runner
    gone: list[str] = []

    def made(content: Content) -> str:
        if not content.has(RUNNERS, name):
            raise _absent(scene, content, (RUNNERS, name))
        text = edit.remove(content.text, (RUNNERS, name))
        gone.extend(_platforms_of(content.data, name) if arguments.remove_platforms else ())
        for platform in gone:
            text = edit.remove(text, (PLATFORMS, platform))
        return text

    change_file(scene.target, scene.shown(scene.target), made, "" if arguments.remove_platforms else
                "--remove-platforms removes the platforms that use it, too")
    where = scene.shown(scene.target)
    return (f"removed runner '{name}' from {where}", *(f"removed platform '{platform}' from {where}" for platform in gone))


def _platforms_of(data: Data, runner: str) -> list[str]:
    sections = find_node(data, (PLATFORMS,))
    return [name for name, section in (sections.items() if isinstance(sections, dict) else ())
            if isinstance(section, dict) and section.get("runner") == runner]


# --- refusing --------------------------------------------------------------------------------------------------------


def _refuse_odd_name(name: str) -> None:
    """A name that --platform could not mean, or would take for a file."""
    if not name.strip() or name.startswith("-") or name.endswith((".yaml", ".yml")) or any(
            char in "/:=," or char.isspace() or not char.isprintable() for char in name):
        raise UsageError(f"'{name}' cannot be a platform's name", "use letters, digits, '_', '-' and '.'")


def _refuse_taken(scene: Scene, content: Content, section: str, name: str) -> None:
    if content.has(section, name):
        place = content.document.location((section, name), key=True)
        raise UsageError(f"there is a {section[:-1]} '{name}' already, in {place}",
                         f"choose another name, or remove it first: mlcube config --remove-{section[:-1]} {name}")


def _absent(scene: Scene, content: Content, path: tuple[str, ...]) -> UsageError:
    """What is asked for is not in this file; perhaps in the other one."""
    section = find_node(content.data, path[:-1])
    names = list(section) if isinstance(section, dict) else []
    what = f"'{format_path(path)}'" if len(path) != 2 else f"{path[0][:-1]} '{path[1]}'"
    other = next((place for place, data in zip(scene.settings.places, scene.stated())
                  if place.path != scene.target.path and find_node(data, path) is not None), None)
    if other is not None:
        hint = f"it is in the {other.scope}'s file, {scene.shown(other)}"
        hint += "; --site changes that one" if other.scope == SITE else ""
    else:
        guess = nearest(path[-1], names)
        hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(names)}" if names else \
            "mlcube config --list shows what there is"
    return UsageError(f"there is no {what} in {scene.shown(scene.target)}", hint)


_CHANGES = {
    "set": _set, "unset": _unset, "create_platform": _create, "remove_platform": _remove, "rename_platform": _rename,
    "copy_platform": _copy, "rename_runner": _rename_runner, "remove_runner": _remove_runner,
}
