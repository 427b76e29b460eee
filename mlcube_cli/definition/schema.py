"""The bundled schemas as data, and Document -> problems of its shape (two fields or the disk are checked elsewhere)."""

from __future__ import annotations

from functools import cache

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.bundled import schema_bytes
from mlcube_cli.definition.hints import did_you_mean
from mlcube_cli.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import Draft202012Validator

    from mlcube_cli.definition.model import Data
    from mlcube_cli.definition.source import Document, Path

Schema = dict[str, "Data"]


@cache
def load_schema(name: str) -> Schema:
    """The schema as data, to be read only. Raises UsageError for a name that is not bundled."""
    import json

    loaded: Schema = json.loads(schema_bytes(name))
    return loaded


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    # jsonschema 4.17 joins local references to an `$id` that is a urn wrongly: it looks for them on the network.
    return Draft202012Validator({key: value for key, value in load_schema(name).items() if key != "$id"})


def check(document: Document, schema: str) -> tuple[Problem, ...]:
    """All problems of the document's shape, in the order of the file. Unknown keys are warnings."""
    from mlcube_cli.definition.explain import explain, similar_keys

    found: dict[tuple[str, str, str], Problem] = {}
    for error in _validator(schema).iter_errors(document.data):
        for problem in explain(error, document, load_schema(schema)):
            found.setdefault((problem.code, problem.path, problem.message), problem)
    problems = [*found.values(), *similar_keys(document, load_schema(schema))]
    if schema == "mlcube":
        from mlcube_cli.definition.misplaced import misplaced

        wrong = list(misplaced(document))
        said = tuple(problem.path + sign for problem in wrong for sign in ".[")
        elsewhere = any(problem.path.endswith(".tasks") for problem in wrong)
        problems = [*wrong, *(one for one in problems if not (one.code == "unknown-key" and f"{one.path}.".startswith(said))
                              and not (one.code == "missing-key" and one.path == "tasks" and elsewhere))]
    return tuple(sorted(problems, key=lambda problem: (problem.location.line, problem.location.column)))


# --- walking through a schema --------------------------------------------------------------------------------------


def resolve_reference(root: Schema, node: Data) -> Schema:
    """The schema that `node` stands for: a local `$ref` followed, with what stands beside it laid on top."""
    while isinstance(node, dict) and "$ref" in node:
        target: Data = root
        for part in str(node["$ref"])[2:].split("/"):
            target = target[part] if isinstance(target, dict) else None
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**target, **beside} if isinstance(target, dict) else beside
    return node if isinstance(node, dict) else {}


def properties_of(node: Schema) -> Schema:
    found = node.get("properties")
    return found if isinstance(found, dict) else {}


def schema_at(root: Schema, path: Path) -> Schema:
    """The schema of the node at `path`; empty where the schema says nothing of it."""
    node = root
    for segment in path:
        inner = node.get("items") if isinstance(segment, int) else \
            properties_of(node).get(segment, node.get("additionalProperties"))
        node = resolve_reference(root, inner)
    return node


def known_path(schema: str, path: tuple[str, ...], data: Data) -> str | None:
    """None when the schema allows something at `path`, else which segment is unknown and what was probably meant.

    Fixed keys count whether or not they are present. Names that the user gives (tasks, parameters) must be present in
    `data`, maps of plain values (`env`) take new names.
    """
    root = load_schema(schema)
    node = root
    for index, segment in enumerate(path):
        names = properties_of(node)
        inner = _child(data, segment)
        if segment in names:
            node = resolve_reference(root, names[segment])
        elif inner is not None or (isinstance(data, dict) and segment in data):
            inner_rule = "items" if isinstance(data, list) else "additionalProperties"
            node = resolve_reference(root, node.get(inner_rule))
        else:
            rule = node.get("additionalProperties")
            if rule is True and "x-similar-keys" not in node:
                return None  # a section whose keys nobody knows here
            entry = resolve_reference(root, rule)
            if not entry or "object" in _types(entry):
                return _unknown(path, index, [*names, *_names(data)])
            node = entry
        data = inner
    return None


def _child(data: Data, segment: str) -> Data:
    if isinstance(data, dict):
        return data.get(segment)
    if isinstance(data, list) and segment.isascii() and segment.isdigit() and len(segment) < 7:
        return data[int(segment)] if int(segment) < len(data) else None
    return None


def _names(data: Data) -> Iterator[str]:
    return iter(data if isinstance(data, dict) else map(str, range(len(data))) if isinstance(data, list) else ())


def _types(node: Schema) -> tuple[str, ...]:
    types = node.get("type")
    return tuple(str(one) for one in types) if isinstance(types, list) else (str(types),)


def _unknown(path: tuple[str, ...], index: int, names: list[str]) -> str:
    segment, parent = path[index], ".".join(path[:index])
    where = f"'{parent}' has no '{segment}'" if parent else f"there is no '{segment}'"
    guess = did_you_mean(segment, names)
    if guess:
        return f"{where}; {guess}"
    known = sorted(set(names))
    return where + (f"; it has: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}" if known else "")
