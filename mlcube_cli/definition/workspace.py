"""Which directory `--workspace` means: `~`, `$NAME` and `${key.of.the.cube}` in it expand once."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.tree import Node, entries, from_data, mapping, text_of
from mlcube_cli.errors import UsageError

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from mlcube_cli.definition import ReadRequest


def chosen_workspace(request: ReadRequest, root: str, tree: Node) -> str:
    """The absolute path of the workspace: the one that the command line names, else `ROOT/workspace`.

    A relative one is relative to the current directory. `${name}` is a value of the definition where it has such a key, as
    in earlier programs (spec/dialects 4.2), else a variable of the environment, as `$NAME` always is; `$WORKSPACE` is the
    cube's own. Raises UsageError for a name that is neither, and for a value that is no path.
    """
    text = request.workspace
    if text is None:
        return os.path.join(root, "workspace")
    if text.startswith("~"):
        user, slash, rest = text.partition("/")
        text = _home(user, request.environment).replace("$", "$$") + slash + rest
    if "$" in text:
        text = _expanded(text, root, request, tree)
    if "\x00" in text:
        raise _refused(text, "a path cannot hold a NUL byte", "give another directory")
    return os.path.normpath(os.path.join(request.cwd, text))


def _home(user: str, environment: Mapping[str, str]) -> str:
    """The home directory that `~` or `~name` means; the word itself where there is no such user, as shells have it."""
    home = environment.get("HOME", "")
    return home if user == "~" and os.path.isabs(home) else os.path.expanduser(user)


def _expanded(text: str, root: str, request: ReadRequest, tree: Node) -> str:
    from mlcube_cli.definition.interpolate import carried, interpolate
    from mlcube_cli.definition.references import reached
    from mlcube_cli.definition.source import format_path
    from mlcube_cli.variables import VARIABLE

    keys = entries(tree)

    def value(match: re.Match[str]) -> str:
        name = match["bare"] or match["braced"]
        if match["dollar"]:
            return carried("$")
        if name == "WORKSPACE":
            return carried(os.path.join(root, "workspace"))
        if match["braced"] and name in keys:
            return match[0]
        if name not in request.environment:
            known = f", and the cube has no key '{name}'" if match["braced"] else ""
            raise _refused(text, f"the environment variable {name} is not set{known}",
                           f"export {name}=... first, or write $$ where a dollar is meant")
        return carried(request.environment[name])

    written = VARIABLE.sub(value, text)
    place = Node(written, text=written)
    runtime = from_data({"root": carried(root)}, "generated")
    result = interpolate(mapping({**keys, "workspace": place, "runtime": runtime}, tree), request.environment, ())
    used = {format_path(path) for path in reached(result.uses, [("workspace",)])} if result.problems else ()
    for problem in result.problems:
        if problem.path in used:
            raise _refused(text, problem.message, problem.hint)
    found = entries(result.tree)["workspace"]
    if isinstance(found.value, (dict, tuple)) or not text_of(found):
        raise _refused(text, "this is no path", "name a value that is a text")
    return text_of(found) or ""


def _refused(text: str, message: str, hint: str) -> UsageError:
    return UsageError(f"--workspace {text}: {message}", hint)
