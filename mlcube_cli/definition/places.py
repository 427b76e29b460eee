"""Where settings files are: a few looks at the disk, and cheap to import, since every run asks; spec/dialects 4.4."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.detect import absolute
from mlcube_cli.definition.load import Files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.source import Document

USER, SITE = "user", "site"
SITE_FILE = "/etc/mlcube/settings.yaml"
SECTIONS = ("platforms", "runners", "storage")


class Place:
    """Where a settings file is or would be. `variable` is the environment variable that names it, or empty."""

    def __init__(self, path: str, scope: str, variable: str = "") -> None:
        self.path = path  # absolute
        self.scope = scope  # USER | SITE
        self.variable = variable

    @property
    def exists(self) -> bool:
        return os.path.lexists(self.path)

    @property
    def counts(self) -> bool:
        """Is something there to be read, or to be told? /dev/null means that there are no settings."""
        return self.path != os.devnull and (self.exists or bool(self.variable))


def find_places(environment: Mapping[str, str], cwd: str, cache: str | None = None) -> tuple[Place, Place]:
    """The site's place and the user's, whether or not a file is there.

    User: `$MLCUBE_SYSTEM_SETTINGS`, else `~/mlcube.yaml` when it is a settings file by its content, else
    `$XDG_CONFIG_HOME/mlcube/settings.yaml` (default `~/.config`). Site: `$MLCUBE_SITE_SETTINGS`, else /etc/mlcube.
    """
    named = environment.get("MLCUBE_SITE_SETTINGS", "")
    site = Place(_named(named, environment, cwd), SITE, "MLCUBE_SITE_SETTINGS") if named else Place(SITE_FILE, SITE)
    named = environment.get("MLCUBE_SYSTEM_SETTINGS", "")
    if named:
        return site, Place(_named(named, environment, cwd), USER, "MLCUBE_SYSTEM_SETTINGS")
    home = environment.get("HOME", "")
    old = os.path.join(home, "mlcube.yaml")
    if os.path.isabs(home) and os.path.isfile(old) and _is_settings_file(old, cwd, cache):
        return site, Place(old, USER)
    base = environment.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(home if os.path.isabs(home) else "/", ".config")
    return site, Place(os.path.join(base, "mlcube", "settings.yaml"), USER)


def _named(text: str, environment: Mapping[str, str], cwd: str) -> str:
    home = environment.get("HOME", "")
    if home and text.startswith("~/"):
        text = home + text[1:]
    return absolute(text, cwd)


def looks_like_settings(data: Data) -> bool:
    """Is this the content of a settings file, and not of a cube?"""
    if not isinstance(data, dict) or "tasks" in data or "schema_type" in data or data.get("type") == "mlbox":
        return False
    return any(name in data and isinstance(data[name], (dict, type(None))) for name in SECTIONS)


def _is_settings_file(path: str, cwd: str, cache: str | None) -> bool:
    """Told by its content; a cube as most are written, and what cannot be read as YAML, by the words that begin its lines."""
    import re  # only here: it is slow to import

    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            words = set(re.findall(r"^([a-z_]+)\s*:", stream.read(1 << 20), re.MULTILINE))
    except OSError:
        return False
    if words & {"tasks", "schema_type"}:
        return False
    found: list[bool] = []

    def choose(document: Document) -> str | None:
        found.append(looks_like_settings(document.data))
        return "settings" if found[-1] else None

    Files(os.path.dirname(path), cwd, cache).load(path, choose)
    return found[-1] if found else bool(words & set(SECTIONS))
