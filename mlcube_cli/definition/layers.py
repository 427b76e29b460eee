"""The settings' platforms laid beneath a cube's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.draft import Draft, generated, with_options
from mlcube_cli.definition.interpolate import carried, interpolate
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.model import OVERRIDE
from mlcube_cli.definition.settings import Settings, merged_option
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, entries, find, is_set, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.definition import ReadRequest

_ENVIRONMENT = ("env", "env_args")


@dataclass(frozen=True)
class Wish:
    """What decides on settings: the command line, the settings there are, the workspace, and the chosen platforms."""

    request: ReadRequest
    settings: Settings
    workspace: str
    chosen: str | None
    inside: Mapping[str, str] = field(default_factory=dict)  # what runs inside of the chosen one: as chosen.choose_inside

    def _asked(self, name: str) -> str | None:
        """What the command line calls a platform of the draft; None where the settings' of its name do not matter."""
        if name in self.inside:
            return self.inside[name]
        if self.chosen is None:
            return name
        return self.request.platform if name == self.chosen else None

    def layers(self, files: Files, draft: Draft) -> dict[str, Node]:
        """The settings' options for each platform in question; of a name that means another runner there, none."""
        found = {}
        for item in draft.platforms:
            asked = self._asked(item.name)
            if asked is None:
                continue
            entry = self.settings.entries.get(asked) or self.settings.entries.get(item.name)
            if entry is None:
                continue
            if entry.runner == item.runner:
                found[item.name] = entry.options
            elif entry.runner:
                files.warn(entry.location, f"this platform, with the runner '{entry.runner}', is not used: the cube has a "
                           f"'{item.name}' of its own, with the runner '{item.runner}'", "hidden-platform",
                           f"mlcube config --rename-platform {item.name} NAME", format_path(("platforms", item.name)))
        return found


def with_settings(wish: Wish, files: Files, draft: Draft, resolved: Draft) -> tuple[Draft, Draft]:
    """Both drafts with the settings beneath their platforms. What refers to something in them sees the cube, never the
    other way round."""
    asked = wish.request.platform
    used = [item.name for item in draft.platforms] if asked is None else [
        asked, wish.chosen or "", *wish.inside, *wish.inside.values()]
    files.problems += wish.settings.judged(used)
    layers = wish.layers(files, draft)
    if not layers:
        return draft, resolved
    names = tuple(item.name for item in resolved.platforms)
    whole = {**entries(resolved.tree), **{item.name: item.options for item in resolved.platforms},
             **generated(carried(files.root), carried(wish.workspace)), "platforms": mapping(dict(layers))}
    result = interpolate(mapping(whole, resolved.tree), wish.request.environment, names, wish.chosen or "", "platforms")
    files.problems += result.problems
    files.uses.update(result.uses)
    return _laid(draft, layers), _laid(resolved, entries(find(result.tree, "platforms")))


def _laid(draft: Draft, layers: Mapping[str, Node]) -> Draft:
    return with_options(draft, lambda item: lay_beneath(as_own(layers[item.name]), item.options, OVERRIDE)
                           if item.name in layers else item.options)


def as_own(layer: Node) -> Node:
    """The options marked as the user's own; environment values among them are neither shown nor recorded."""
    return mapping({name: _marked(node, hide=name in _ENVIRONMENT) for name, node in entries(layer).items()}, layer)


def _marked(node: Node, hide: bool) -> Node:
    if isinstance(node.value, dict):
        return replace(node, own=True, value={key: _marked(item, hide) for key, item in node.value.items()})
    if isinstance(node.value, tuple):
        return replace(node, own=True, value=tuple(_marked(item, hide) for item in node.value))
    return replace(node, own=True, secret=node.secret or (hide and node.value is not None))


def lay_beneath(layer: Node, options: Node, override: str) -> Node:
    """A platform's options with the layer beneath; defaults, and nulls that no `override` set, give way to it."""
    result = dict(entries(layer))
    for name, node in entries(options).items():
        gives_way = node.origin == "default" or (not is_set(node) and node.origin != override)
        if name not in result or not gives_way:
            result[name] = merged_option(result.get(name), node)
    return mapping(result, options)
