"""What the validator found, in plain words: one problem per fault, with its place and what to type instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import did_you_mean, nearest
from mlcube_cli.definition.schema import Schema, properties_of, schema_at
from mlcube_cli.definition.source import Document, Path, find_node, format_path
from mlcube_cli.errors import Problem

if TYPE_CHECKING:
    from jsonschema import ValidationError

    from mlcube_cli.definition.model import Data

MOST_GUESSES = 200  # unknown keys in one mapping for which the nearest name is looked up
_TYPES = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
          "boolean": "true or false", "null": "empty"}
# Keys of docker compose and others -> what says the same here: a key, or what to do; it holds where that key (or the one
# before the colon) is known.
_MOUNTS = "ports: declare an input or output for each path, or write run_args: -v HOST:CONTAINER"
_SECTION = "accelerator_count: an engine's settings stand in a section of its own, 'docker:'"
_COMMAND = ("entrypoint", "ports: a task's own command is its 'entrypoint'")
_OTHER_TOOLS = {
    **dict.fromkeys(("environment", "envs", "env_vars", "variables"), ("env",)),
    **dict.fromkeys(("volumes", "volume", "mounts", "mount", "binds"), (_MOUNTS,)),
    **dict.fromkeys(("command", "cmd"), _COMMAND),
    **dict.fromkeys(("context", "build"), ("build_context",)),
    "dockerfile": ("build_file",), "gpu": ("gpus",), "mem": ("memory",), "port": ("ports",), "mode": ("opts",),
    "value": ("default",), "args": ("run_args",), "image": (_SECTION,), "runner": (_SECTION,),
    # Options of docker in a section for singularity, and the other way round.
    "env_args": ("env",), "security_opt": ("security",), "security": ("security_opt",),
    "privileged": ("fakeroot: singularity runs a task with its caller's rights; 'fakeroot: true' makes it an apparent root",),
    "ports": ("contain: the task has this machine's own network, so that nothing needs publishing",),
}
# Words of sbatch, and of other batch systems, in a section for slurm.
_SBATCH = "sbatch_args: what else sbatch knows is a word of 'sbatch_args', such as --NAME=VALUE"
_OTHER_TOOLS.update({
    "queue": ("partition",), "walltime": ("time",), "project": ("account",), "features": ("constraint",),
    **dict.fromkeys(("mem_per_node", "ram"), ("memory",)), **dict.fromkeys(("cpus", "ncpus", "cpu"), ("cpus_per_task",)),
    **dict.fromkeys(("gpus_per_node", "gpu"), ("gpus",)), **dict.fromkeys(("tasks", "ranks"), ("ntasks",)),
    **dict.fromkeys(("begin", "comment", "exclude", "licenses", "mail_type", "mail_user", "mem_per_cpu", "nice", "nodelist",
                     "requeue", "reservation", "switches", "tmp"), (_SBATCH,)),
})
_SYNONYMS = {"folder": "directory", "dir": "directory", "path": "directory", "readonly": "ro", "read-only": "ro"}


def explain(error: ValidationError, document: Document, schema: Schema) -> Iterator[Problem]:
    """The problems behind one error of the validator."""
    path = cast("Path", tuple(error.absolute_path))
    fault = _Fault(error, document, schema, path)
    yield from _FAULTS.get(str(error.validator), _other)(fault)


class _Fault:
    """An error of the validator with all that its explanation needs."""

    def __init__(self, error: ValidationError, document: Document, schema: Schema, path: Path) -> None:
        self.document = document
        self.path = path
        self.schema = str(schema.get("$id", "")).rpartition(":")[2]
        self.rule = cast("Data", error.validator_value)
        self.value = find_node(document.data, path)
        self.near = cast("Schema", error.schema) if isinstance(error.schema, dict) else {}
        self.far = schema_at(schema, path)

    def problem(self, message: str, code: str, hint: str = "") -> Problem:
        severity = "warning" if self.annotation("x-for-people") else "error"  # what no run uses keeps none from running
        return Problem(self.document.location(self.path), message, code, hint, format_path(self.path), severity)

    def name(self) -> str:
        """The node as the subject of a sentence."""
        if not self.path:
            return "the document"
        last = self.path[-1]
        if isinstance(last, str):
            return f"'{last}'"
        names = [segment for segment in self.path if isinstance(segment, str)]
        return f"item {last + 1} of '{names[-1]}'" if names else f"item {last + 1}"

    def annotation(self, key: str) -> Data:
        """What the schema says beside the rule: at the property itself, else where the rule stands."""
        return self.far[key] if key in self.far else self.near.get(key)

    def example(self) -> str:
        """A hint that shows how the value is written."""
        examples = self.annotation("examples")
        if not isinstance(examples, list) or not examples:
            return ""
        import json

        last = self.path[-1] if self.path else ""
        text = examples[0] if isinstance(examples[0], str) else json.dumps(examples[0], ensure_ascii=False)
        return f"for example: {last}: {text}" if isinstance(last, str) and last else f"for example: {text}"


def _wrong_type(fault: _Fault) -> Iterator[Problem]:
    types = [str(one) for one in (fault.rule if isinstance(fault.rule, list) else [fault.rule])]
    # Where text will do a number does, too, and what may be left out may be empty: that need not be said.
    unsaid: tuple[str, ...] = ("null",)
    if "string" in types:
        unsaid = ("null", "number", "integer", "boolean") if "number" in types else ("null", "number", "integer")
    words = [_TYPES.get(one, one) for one in types if one not in unsaid or len(types) == 1]
    wanted = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    stated = str(fault.annotation("patternErrorMessage") or "")
    if stated and wanted == "text" and isinstance(fault.value, (bool, int, float)):
        yield fault.problem(f"{fault.name()} {stated}, not {describe(fault.value)}", "wrong-type", fault.example())
        return
    yield fault.problem(f"{fault.name()} must be {wanted}, not {describe(fault.value)}", "wrong-type",
                        _shape_hint(fault, types) or fault.example())


def _shape_hint(fault: _Fault, types: list[str]) -> str:
    """What to change where a mapping is wanted and something near to one stands there."""
    if "object" not in types:
        return ""
    if isinstance(fault.value, list):
        return str(fault.annotation("x-not-a-list") or "")
    key, colon, value = fault.value.partition(":") if isinstance(fault.value, str) else ("", "", "")
    return f"write '{key}: {value}', with a space behind the ':'" if colon and key and value and " " not in key else ""


def describe(value: Data) -> str:
    """A value as the end of a sentence."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 40 else value[:37] + '...'}'"
    return "a list" if isinstance(value, list) else "a mapping"


def _unknown_key(fault: _Fault) -> Iterator[Problem]:
    if not isinstance(fault.value, dict):
        return
    known = properties_of(fault.near)
    absent = [name for name in known if name not in fault.value]
    title = str(fault.near.get("title") or "this mapping")
    for count, key in enumerate(key for key in fault.value if key not in known):
        hint = _meant(key, known) or did_you_mean(key, absent) or did_you_mean(key, known) if count < MOST_GUESSES else ""
        if not hint:
            hint = f"it knows {', '.join(known)}" if len(known) <= 8 else f"'mlcube schema {fault.schema}' lists its keys"
        yield _at_key(fault.document, (*fault.path, key), f"'{key}' is not a key that {title} knows", hint)


def _meant(key: str, known: Schema) -> str:
    """A hint for a key that other tools have."""
    for meaning in _OTHER_TOOLS.get(key, ()):
        name, _, advice = meaning.partition(": ")
        if name in known:
            return advice or f"the key for this is '{name}'"
    return ""


def _at_key(document: Document, path: Path, message: str, hint: str) -> Problem:
    return Problem(document.location(path, key=True), message, "unknown-key", hint, format_path(path), "warning")


def _missing_key(fault: _Fault) -> Iterator[Problem]:
    if not isinstance(fault.value, dict) or not isinstance(fault.rule, list):
        return
    title = str(fault.near.get("title") or fault.name())
    known = properties_of(fault.near)
    unknown = [key for key in fault.value if key not in known][:MOST_GUESSES]
    for key in (str(name) for name in fault.rule if name not in fault.value):
        wanted = known.get(key)
        examples = wanted.get("examples") if isinstance(wanted, dict) else None
        example = examples[0] if isinstance(examples, list) and isinstance(examples[0], str) else "..."
        guess = nearest(key, unknown)
        hint = f"is '{guess}' meant to be '{key}'?" if guess else f"add '{key}: {example}'"
        yield Problem(fault.document.location(fault.path, key=True), f"{title} lacks the key '{key}'", "missing-key", hint,
                      format_path((*fault.path, key)))


def _not_in_list(fault: _Fault) -> Iterator[Problem]:
    allowed = fault.rule if isinstance(fault.rule, list) else [fault.rule]
    names = [str(one) for one in allowed if isinstance(one, (str, int)) and not isinstance(one, bool)]
    shown = ", ".join(names) or "that"
    message = f"{fault.name()} is {describe(fault.value)}; it can be {shown}"
    yield fault.problem(message, "bad-value", did_you_mean(str(fault.value), names) or fault.example())


def _pattern(fault: _Fault) -> Iterator[Problem]:
    wanted = fault.annotation("patternErrorMessage") or fault.near.get("patternErrorMessage")
    words = str(wanted) if wanted else "cannot be this"
    allowed = fault.annotation("x-values")
    names = [str(one) for one in allowed] if isinstance(allowed, list) else []
    meant = _SYNONYMS.get(str(fault.value).lower())
    guess = f"did you mean '{meant}'?" if meant in names else did_you_mean(str(fault.value), names)
    yield fault.problem(f"{fault.name()} {words}, not {describe(fault.value)}", "bad-value", guess or fault.example())


def _too_small(fault: _Fault) -> Iterator[Problem]:
    yield fault.problem(f"{fault.name()} must be {fault.rule} or more, not {fault.value}", "bad-value", fault.example())


def _too_big(fault: _Fault) -> Iterator[Problem]:
    yield fault.problem(f"{fault.name()} must be {fault.rule} or less, not {fault.value}", "bad-value", fault.example())


def _empty(fault: _Fault) -> Iterator[Problem]:
    yield fault.problem(f"{fault.name()} must not be empty", "bad-value", fault.example())


def _other(fault: _Fault) -> Iterator[Problem]:
    yield fault.problem(f"{fault.name()} cannot be {describe(fault.value)}", "bad-value", fault.example())


_FAULTS: dict[str, Callable[[_Fault], Iterator[Problem]]] = {
    "type": _wrong_type, "additionalProperties": _unknown_key, "required": _missing_key, "enum": _not_in_list,
    "const": _not_in_list, "pattern": _pattern, "minimum": _too_small, "maximum": _too_big, "minItems": _empty,
    "minLength": _empty, "minProperties": _empty,
}


def similar_keys(document: Document, schema: Schema) -> Iterator[Problem]:
    """Warnings for top-level keys of a document that takes any (they serve in `${...}`), yet look like a mistake."""
    if not schema.get("x-similar-keys") or not isinstance(document.data, dict):
        return
    known = properties_of(schema)
    strange = [key for key in document.data if key not in known][:MOST_GUESSES]
    absent = [name for name in known if name not in document.data]
    for key in strange:
        value = document.data[key]
        if isinstance(value, dict) and ("parameters" in value or "entrypoint" in value):
            yield _at_key(document, (key,), f"'{key}' looks like a task, but it stands outside of 'tasks'",
                          "indent it below 'tasks:'")
        elif (hint := did_you_mean(key, absent) or did_you_mean(key, known)) and not _is_used(key, document.data):
            yield _at_key(document, (key,), f"'{key}' is not a key that {schema.get('title')} knows", hint)


def _is_used(key: str, data: Data) -> bool:
    """True when some text of the document refers to the key, as in `${key}` or `${key.part}`."""
    if isinstance(data, str):
        return "${" + key in data
    inner = list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else []
    return any(_is_used(key, item) for item in inner)
