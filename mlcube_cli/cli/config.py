"""`mlcube config`: look at the settings, and change them; spec/dialects 4.4."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cache import find_cache
from mlcube_cli.cli import output
from mlcube_cli.definition.detect import shown_path
from mlcube_cli.definition.hints import did_you_mean
from mlcube_cli.definition.places import find_places
from mlcube_cli.definition.settings import load_settings, merged_tree
from mlcube_cli.definition.show import tree_text
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import entries, find, items, origins, plain
from mlcube_cli.errors import DefinitionError, MachineError, UsageError

if TYPE_CHECKING:
    from mlcube_cli.cli.arguments import Arguments
    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.places import Place
    from mlcube_cli.definition.settings import Settings
    from mlcube_cli.definition.tree import Node, Path

ACTIONS = ("list", "get", "set", "unset", "create_platform", "remove_platform", "rename_platform", "copy_platform",
           "rename_runner", "remove_runner")


@dataclass(frozen=True)
class Scene:
    """The settings as they are, and the file that changes go to."""

    settings: Settings
    places: tuple[Place, Place]  # the site's, the user's
    target: Place
    cwd: str

    def shown(self, place: Place) -> str:
        return shown_path(place.path, self.cwd)

    def stated(self) -> tuple[Data, ...]:
        """What each file that was read holds."""
        return tuple(plain(tree) for tree in self.settings.trees)


def config(arguments: Arguments) -> int:
    """`mlcube config`: 0; 2 for a name that is not there, 3 for settings with errors, 4 where they cannot be written."""
    action = _action(arguments)
    scene = _scene(arguments)
    if action == "list":
        return _list(arguments, scene)
    if action == "get":
        return _get(arguments, scene)
    from mlcube_cli.cli.config_change import change

    done = change(action, arguments, scene)
    for line in done:
        output.say(line)
    if arguments.json:
        output.json_result({**_document(action, _scene(arguments)), "changes": list(done)})
    return 0


def _action(arguments: Arguments) -> str:
    given = [name for name in ACTIONS if getattr(arguments, name)]
    flags = [f"--{name.replace('_', '-')}" for name in given]
    if arguments.words:
        raise UsageError(f"'{arguments.words[0]}' is one word too many", "mlcube config --help shows what it takes")
    if len(given) > 1:
        raise UsageError(f"one thing at a time: {' and '.join(flags)}", "give them to mlcube config one after the other")
    action = given[0] if given else "list"
    for extra, needed in (("update_platforms", "rename_runner"), ("remove_platforms", "remove_runner")):
        if getattr(arguments, extra) and action != needed:
            raise UsageError(f"--{extra.replace('_', '-')} belongs to --{needed.replace('_', '-')}", "mlcube config --help")
    return action


def _scene(arguments: Arguments) -> Scene:
    try:
        cwd = os.getcwd()
    except OSError as error:
        raise MachineError(f"the current directory cannot be used: {error.strerror}", "cd to another directory") from None
    cache = find_cache(os.environ, os.getuid())
    places = find_places(os.environ, cwd, cache)
    wanted = [place for place in (places[:1] if arguments.site else places) if place.counts]
    return Scene(load_settings(wanted, cwd, cache), places, places[0] if arguments.site else places[1], cwd)


# --- looking ---------------------------------------------------------------------------------------------------------


def _list(arguments: Arguments, scene: Scene) -> int:
    """What the files state, the user's over the site's. Settings with errors are listed as far as they can be read."""
    for place in scene.settings.places:
        output.say(f"the {place.scope}'s settings: {scene.shown(place)}")
    if not scene.settings.places and not scene.settings.broken:
        output.say(f"there are no settings; the {scene.target.scope}'s would be in {scene.shown(scene.target)}")
    errors = [problem for problem in scene.settings.problems if problem.severity == "error"]
    if scene.settings.broken or (arguments.json and errors):
        raise DefinitionError("the settings have errors", problems=scene.settings.problems)
    output.show_problems(scene.settings.problems)
    if arguments.json:
        output.json_result(_document("list", scene))
    else:
        output.result(tree_text(merged_tree(scene.settings), arguments.show_origin))
    return DefinitionError.exit_code if errors else 0


def _get(arguments: Arguments, scene: Scene) -> int:
    if scene.settings.broken:
        raise DefinitionError("the settings cannot be read", problems=scene.settings.problems)
    output.show_problems([problem for problem in scene.settings.problems if problem.severity == "error"])
    tree = merged_tree(scene.settings)
    path = find_key(tree, arguments.get)
    node = find(tree, *path)
    if node is None:
        raise _no_such_key(tree, arguments.get, path)
    if arguments.json:
        output.json_result({**_document("get", scene), "key": arguments.get, "value": plain(node)})
    else:
        output.result(tree_text(node, arguments.show_origin))
    return 0


def _document(action: str, scene: Scene) -> dict[str, Data]:
    """The document mlcube.config.v1."""
    tree = merged_tree(scene.settings)
    read = [place.path for place in scene.settings.places]
    files: list[Data] = [{"scope": place.scope, "path": place.path, "exists": place.path in read} for place in scene.places]
    return {"schema": "mlcube.config.v1", "action": action, "file": scene.target.path, "files": files, "config": plain(tree),
            "origins": {format_path(path): origin for path, origin in origins(tree) if path}}


# --- keys ------------------------------------------------------------------------------------------------------------


def find_key(tree: Node, text: str) -> Path:
    """The path that `a.b.c` means. A name that holds dots itself is found as a whole; `\\.` is always a dot of a name.

    What is not in the tree is taken word by word. Raises UsageError for an empty name.
    """
    words = tuple(part.replace("\x00", ".") for part in text.strip().replace("\\.", "\x00").split("."))
    if not all(words):
        raise UsageError(f"'{text}' names no key", "write NAME.NAME, such as platforms.docker.gpus")
    return _follow(tree, words)


def _follow(node: Node | None, words: tuple[str, ...]) -> Path:
    if not words:
        return ()
    if items(node) and words[0].isascii() and words[0].isdigit() and len(words[0]) < 7:
        return (int(words[0]), *_follow(find(node, int(words[0])), words[1:]))
    for count in range(1, len(words) + 1):
        name = ".".join(words[:count])
        if name in entries(node):
            return (name, *_follow(entries(node)[name], words[count:]))
    return words


def _no_such_key(tree: Node, text: str, path: Path) -> UsageError:
    known = next((end for end in range(len(path)) if find(tree, *path[:end + 1]) is None), 0)
    names = list(entries(find(tree, *path[:known])))
    where = f"'{format_path(path[:known])}' has no '{path[known]}'" if known else f"the settings have no '{path[0]}'"
    hint = did_you_mean(str(path[known]), names) or (f"it has: {', '.join(names)}" if names and known else
                                                     "mlcube config --list shows all of them")
    return UsageError(where, hint)
