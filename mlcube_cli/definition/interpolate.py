"""Interpolation of the inline dialect (`${a.b}`, `${.x}`, `${oc.env:X,default}`, ...) over the tree; spec/dialects 3.3.

A dollar that comes out of the environment or a directory's name is carried as NUL until the end, so that in a
parameter's value it becomes `$$` and is not taken for a variable when the value is expanded before a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.kinds import is_text
from mlcube_cli.definition.load import Guesses
from mlcube_cli.definition.references import DEEPEST, Part, Reference, Uses, parse_text
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, Path, entries, find, items, text_of
from mlcube_cli.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_CHARACTERS = 10_000_000  # that references may add to a file's values
NODE_COST = 100  # characters that a copied node counts
_DOLLAR = "\x00"


@dataclass(frozen=True)
class Interpolated:
    """A tree with every reference replaced; a value in which one could not be stays as it was written."""

    tree: Node
    problems: tuple[Problem, ...]
    uses: Uses


@dataclass
class _Scope:
    """What references can name, and what was found so far."""

    root: Node
    environment: Mapping[str, str]
    runner: str  # the platform that `${runner.x}` means; "" where none is chosen
    platforms: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)
    uses: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    done: dict[Path, Node] = field(default_factory=dict)
    under_way: list[Path] = field(default_factory=list)
    failed: set[Path] = field(default_factory=set)
    sizes: dict[int, int] = field(default_factory=dict)  # by id of a resolved node
    left: int = MOST_CHARACTERS
    reported: set[tuple[Path, str]] = field(default_factory=set)
    guesses: Guesses = field(default_factory=Guesses)


class _Unresolved(Exception):  # noqa: N818 - it ends the resolving of one value, whose problem is already noted
    pass


def interpolate(root: Node, environment: Mapping[str, str], platforms: tuple[str, ...],
                runner: str = "", only: str | None = None) -> Interpolated:
    """The tree (`only`: just that key of it) interpolated, and what is wrong with it.

    `root` holds the generated `workspace` and `runtime` too, and a section for each of `platforms`.
    """
    scope = _Scope(root, environment, runner, platforms)
    resolved = {}
    for key, node in entries(root).items() if only is None else ((only, entries(root)[only]),):
        try:
            resolved[key] = _resolve(scope, (key,))
        except RecursionError:
            _note(scope, (key,), "the values refer to each other too deeply", "cyclic-reference",
                  "write the value itself")
            resolved[key] = node
    return Interpolated(_finish(replace(root, value=resolved), ()), tuple(scope.problems), scope.uses)


def carried(text: str) -> str:
    """The text with its dollars carried, for a value that nobody wrote (a directory's name)."""
    return text.replace("$", _DOLLAR)


# --- resolving -----------------------------------------------------------------------------------------------------


def _resolve(scope: _Scope, path: Path) -> Node:
    """The node at `path` with its references replaced; each is resolved once."""
    if path in scope.failed and scope.under_way:
        raise _Unresolved
    if path in scope.done:
        return scope.done[path]
    node = find(scope.root, *path)
    assert node is not None
    if isinstance(node.value, dict):
        result = replace(node, value={key: _resolve(scope, (*path, key)) for key in node.value})
    elif isinstance(node.value, tuple):
        result = replace(node, value=tuple(_resolve(scope, (*path, index)) for index in range(len(node.value))))
    else:
        result = _resolve_scalar(scope, node, path)
    scope.done[path] = result
    return result


def _resolve_scalar(scope: _Scope, node: Node, path: Path) -> Node:
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    scope.uses.setdefault(path, ())
    try:
        parts = parse_text(node.value)
    except ValueError as error:
        _note(scope, path, str(error), "bad-interpolation", "write \\${ where these two characters are meant")
        return node
    if path in scope.under_way:
        chain = " -> ".join(format_path(step) for step in (*scope.under_way[scope.under_way.index(path):], path))
        _note(scope, path, f"the values refer to each other in a circle: {chain}", "cyclic-reference",
              "give one of them a value of its own")
        raise _Unresolved
    if len(scope.under_way) >= DEEPEST:
        _note(scope, path, f"more than {DEEPEST} references follow one another", "cyclic-reference",
              "write the value itself")
        raise _Unresolved
    scope.under_way.append(path)
    try:
        return _joined(scope, node, parts, path)
    except _Unresolved:
        if len(scope.under_way) > 1:
            raise
        scope.failed.add(path)
        return node
    finally:
        scope.under_way.pop()


def _joined(scope: _Scope, node: Node, parts: tuple[Part, ...], path: Path) -> Node:
    """The parts' values as one text; a single reference keeps its value's type."""
    if len(parts) == 1 and isinstance(parts[0], Reference):
        found = _look_up(scope, parts[0], path)
        return replace(found, location=node.location, key=node.key, origin=node.origin)
    text, secret = _text(scope, parts, path)
    return replace(node, value=text, text=text, secret=secret)


def _text(scope: _Scope, parts: tuple[Part, ...], path: Path) -> tuple[str, bool]:
    pieces: list[str] = []
    secret = False
    for part in parts:
        if isinstance(part, str):
            pieces.append(part)
            continue
        found = _look_up(scope, part, path)
        if isinstance(found.value, (dict, tuple)):
            _note(scope, path, f"{part.written} is {_kind(found)}, which has no place in a text", "bad-interpolation",
                  "name one of the values in it")
            raise _Unresolved
        added = text_of(found) or ""
        _spend(scope, len(added), path)
        pieces.append(added)
        secret = secret or found.secret
    return "".join(pieces), secret


def _kind(node: Node) -> str:
    return "a list" if isinstance(node.value, tuple) else "a mapping"


def _look_up(scope: _Scope, reference: Reference, path: Path) -> Node:
    """The value that a reference means."""
    inside, secret = _text(scope, reference.parts, path)
    inside = inside.strip()
    resolver, colon, rest = inside.partition(":")
    if colon:
        if resolver not in ("oc.env", "env"):
            shell = rest[:1] in ("-", "=", "+", "?")  # as in ${NAME:-text}
            _note(scope, path, f"there is no resolver '{resolver}'", "bad-interpolation",
                  f"for what a shell is to read write \\{reference.written}" if shell else
                  "${oc.env:NAME,default} is the only one")
            raise _Unresolved
        found = _environment(scope, rest, reference, path)
        return replace(found, secret=found.secret or secret)
    if inside == "WORKSPACE":
        return Node("${WORKSPACE}", text="${WORKSPACE}")
    target = _target(scope, inside, path)
    named = find(scope.root, *target) if target else None
    if named is None:
        raise _unknown(scope, reference, inside, target, path)
    scope.uses[path] += (target,)
    result = _resolve(scope, (*target, "default") if named.folded else target)
    if isinstance(result.value, (dict, tuple)):
        _spend(scope, NODE_COST * _size(scope, result), path)
    return result


def _environment(scope: _Scope, rest: str, reference: Reference, path: Path) -> Node:
    name, comma, default = rest.partition(",")
    name, default = name.strip(), default.strip()
    if not name:
        _note(scope, path, f"{reference.written} names no environment variable", "bad-interpolation",
              "write ${oc.env:NAME} or ${oc.env:NAME,DEFAULT}")
        raise _Unresolved
    if name in scope.environment:
        value = carried(scope.environment[name])
        return Node(value, text=value, secret=True)
    if comma:
        if len(default) > 1 and default[0] == default[-1] and default[0] in "'\"":
            default = default[1:-1]
        return Node(default, text=default) if default != "null" else Node(None)
    _note(scope, path, f"the environment variable {name} is not set", "unset-variable",
          f"export {name}=..., or give a default: ${{oc.env:{name},DEFAULT}}")
    return Node(reference.written, text=reference.written)


def _target(scope: _Scope, inside: str, path: Path) -> Path:
    """The absolute path that a reference names: `.x` beside this value, `..x` one level up, `a[0].b`, `runner.x`."""
    dots = len(inside) - len(inside.lstrip("."))
    steps = inside[dots:].replace("]", "").replace("[", ".").split(".")
    base: Path = ()
    if dots:
        parent = path[:-1]
        holder = find(scope.root, *parent)
        parent = parent[:-1] if holder is not None and holder.folded else parent
        if dots - 1 > len(parent):
            return ()
        base = parent[:len(parent) - dots + 1]
    elif steps[0] == "runner" and "runner" not in entries(scope.root):
        platform = path[0] if path[0] in scope.platforms else scope.runner
        if not platform:
            return ()
        base, steps = (platform,), steps[1:]
    target: Path = base
    for step in steps:
        held = find(scope.root, *target)
        inner = entries(held)
        if isinstance(getattr(held, "value", None), tuple) and step.isdigit():
            target = (*target, int(step))
        elif step not in inner and target and target[0] in scope.platforms:
            target = (*target, step.lstrip("-").replace("-", "_"))
        else:
            target = (*target, step)
    return target


def _spend(scope: _Scope, characters: int, path: Path) -> None:
    """Count what references add. Raises _Unresolved when a file's values grow beyond all bounds."""
    scope.left -= characters
    if scope.left < 0:
        _note(scope, path, "the values of this file grow beyond all bounds through their references",
              "bad-interpolation", "let fewer values refer to each other")
        raise _Unresolved


def _size(scope: _Scope, node: Node) -> int:
    if not isinstance(node.value, (dict, tuple)):
        return 1
    known = scope.sizes.get(id(node))
    if known is None:
        inner = node.value.values() if isinstance(node.value, dict) else node.value
        known = scope.sizes[id(node)] = 1 + sum(_size(scope, item) for item in inner)
    return known


# --- problems ------------------------------------------------------------------------------------------------------


def _unknown(scope: _Scope, reference: Reference, inside: str, target: Path, path: Path) -> _Unresolved:
    """Note a reference to nothing, with the name nearest to where it goes astray; the exception to raise."""
    if inside.startswith("runner.") and not target:
        hint = f"choose a platform, or name one of: {', '.join(scope.platforms) or 'none'}"
    elif inside.isidentifier() and inside.isupper():
        hint = f"for an environment variable write ${{oc.env:{inside}}}, for a literal text \\{reference.written}"
    elif any(sign in inside for sign in "@#*%!?=/$"):
        hint = f"for what a shell is to read write \\{reference.written}"
    else:
        hint = _nearest_step(scope, target)
    _note(scope, path, f"{reference.written} names nothing in this file", "unknown-reference", hint)
    return _Unresolved()


def _nearest_step(scope: _Scope, target: Path) -> str:
    for end in range(len(target)):
        held = find(scope.root, *target[:end])
        known = list(entries(held))
        step = str(target[end])
        if step not in known and not items(held):
            guess = scope.guesses.nearest(step, known)
            where = f" in '{format_path(target[:end])}'" if end else ""
            return f"did you mean '{guess}'{where}?" if guess else f"there is no '{step}'{where}"
    return "name a value of this file, or one of workspace, runtime.root, oc.env:NAME"


def _note(scope: _Scope, path: Path, message: str, code: str, hint: str) -> None:
    """Note a problem at the value under way that is nearest to the user: the one that holds the reference."""
    if (path, message) in scope.reported:
        return
    scope.reported.add((path, message))
    node = find(scope.root, *path)
    assert node is not None
    severity = "warning" if code == "unset-variable" else "error"  # RULINGS 1; `run` makes an error of it
    scope.problems.append(Problem(node.location, message, code, hint, format_path(path), severity))


# --- the end -------------------------------------------------------------------------------------------------------


def _finish(node: Node, path: Path, dollar: str = "$") -> Node:
    """Carried dollars become `$$` in what is expanded before a run, the paths of parameters, and `$` elsewhere."""
    if isinstance(node.value, dict):
        parameter = len(path) == 5 and path[0] == "tasks" and path[2] == "parameters" and not is_text(node)
        return replace(node, value={
            key: _finish(item, (*path, key), "$$" if parameter and key == "default" else "$")
            for key, item in node.value.items()})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_finish(item, (*path, index)) for index, item in enumerate(node.value)))
    if not isinstance(node.value, str) or _DOLLAR not in node.value:
        return node
    text = node.value.replace(_DOLLAR, dollar)
    return replace(node, value=text, text=text)
