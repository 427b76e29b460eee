"""What a command line sends to another machine and brings home, in rsync's words: parcels, and the user's rules. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mlcube_cli.command import Command
from mlcube_cli.definition.model import Data
from mlcube_cli.errors import DefinitionError, Location
from mlcube_cli.facts import Facts, PathKind
from mlcube_cli.parcels import Load, Parcel
from mlcube_shell.rsync import PARTIAL, Travel, includes, pull_file, pull_paths, pull_tree, push_code, push_paths

IGNORE_FILE = ".mlcubeignore"  # at the top of a cube
UNFINISHED = "partial"  # in the cube's directory there: files on their way

# A rule in rsync's words: a letter with modifiers, or a word. The others of its kinds, which read further files or take
# back what stands before them, are not for us.
_RULE = re.compile(r"(?:[-+PRHS](?:,?[!/srp]+)?|(?:exclude|include|hide|show|protect|risk)(?:,[!/srp]+)?) .+", re.DOTALL)
_OTHER_RULE = re.compile(r"!|(?:merge|dir-merge|clear)\b|[.:](?:,?[-+Cenw/!srp]+)? ")


def travel_of(shell: str, host: str, sync: Mapping[str, Data], rules: tuple[str, ...], here: str = "",
              there: str = "") -> Travel:
    """The way to `host`, with what the platform's `sync` says. `here`, `there`: what `rsync --version` says."""
    bandwidth = sync.get("bandwidth")
    return Travel(shell, host, rules, compress=sync.get("compress") is True, checksum=sync.get("checksum") is True,
                  bandwidth="" if bandwidth is None else str(bandwidth), here=here, there=there)


# --- parcels ---------------------------------------------------------------------------------------------------------


def send_code(travel: Travel, load: Load) -> Command:
    """The mirror of the cube's code; what of it is an input is there in any case."""
    inside = tuple(path for path in load.leave_out if path.startswith(_slashed(load.code[0])))
    inputs = [_relative(load.code[0], parcel.here) for parcel in load.inputs if load.is_of_code(parcel)]
    rules = (*includes(name for name in inputs if name), *travel.rules)
    return push_code(replace(_towards(travel, load), rules=rules), *load.code, inside)


def send_inputs(travel: Travel, load: Load, facts: Facts) -> tuple[Command, ...]:
    """The inputs that are no code, in as few transfers as there are directories that they lie in. Raises Missing."""
    inputs = [parcel for parcel in load.inputs if not load.is_of_code(parcel)]
    bases = [_base(parcel, load) for parcel in inputs]
    facts.need(*(PathKind(path) for path in dict.fromkeys((*(parcel.here for parcel in inputs),
                                                          *(here for here, _ in bases)))))
    commands: list[Command] = []
    for base in dict.fromkeys(bases):
        parcels = [parcel for parcel, of in zip(inputs, bases) if of == base]
        links = [parcel for parcel in parcels if _kind(parcel, facts) != "directory" and _is_led_to(parcel, base, facts)]
        plain = [parcel for parcel in parcels if parcel not in links]
        within = replace(_towards(travel, load), rules=rules_below(travel.rules, _relative(load.code[0], base[0])))
        commands += push_paths(within, *base, [_name(parcel, base, facts) for parcel in plain],
                               [_name(parcel, base, facts) for parcel in links])
    return tuple(commands)


def bring_outputs(travel: Travel, load: Load, facts: Facts, kept: Iterable[str], suffix: str) -> tuple[Command, ...]:
    """All outputs. What lies at or below the paths `kept` here stays; what came of it lies beside it, `suffix` in its name.

    Of a directory the kept part comes to a directory of its own: `model/a` to `model` + suffix + `/a`. Raises Missing.
    """
    travel = replace(travel, rules=())  # the user's rules say what is sent
    at_home = replace(travel, partial=os.path.join(load.workspace[0], PARTIAL))
    bases = [_base(parcel, load) for parcel in load.outputs]
    facts.need(*(PathKind(path) for path in dict.fromkeys((*(parcel.here for parcel in load.outputs),
                                                          *(here for here, _ in bases)))))
    kept = tuple(kept)
    commands: list[Command] = []
    for base in dict.fromkeys(bases):
        parcels = [parcel for parcel, of in zip(load.outputs, bases) if of == base and parcel.here not in kept]
        plain = [parcel for parcel in parcels if not _is_led_to(parcel, base, facts)]
        names = dict.fromkeys(_name(parcel, base, facts) for parcel in plain)
        keep = [name for path in kept if (name := _relative(base[0], path))]
        if names:
            commands.append(pull_paths(at_home if base == load.workspace else travel, base[1], base[0], names, keep))
        for parcel in parcels:
            if parcel not in plain:
                commands.append(_bring_elsewhere(travel, parcel, facts, kept))
    for parcel in dict.fromkeys(load.outputs):
        commands += _bring_beside(travel, parcel, facts, kept, suffix)
    return tuple(commands)


def _towards(travel: Travel, load: Load) -> Travel:
    """Half of a file waits in a directory of its own there: no task sees it, nor does another transfer that runs at the same
    time take it for a file to delete; and to look for it costs least."""
    place = os.path.join(load.root, UNFINISHED)
    return replace(travel, partial=place, unfinished=place)


def _bring_elsewhere(travel: Travel, parcel: Parcel, facts: Facts, kept: tuple[str, ...]) -> Command:
    """An output that is a link here, or lies behind one: the link stays, and what it leads to changes."""
    real = facts.path(parcel.here).real
    if _kind(parcel, facts) == "directory":
        return pull_tree(travel, parcel.there, real, [name for path in kept if (name := _relative(parcel.here, path))])
    return pull_file(travel, parcel.there, real)


def _bring_beside(travel: Travel, parcel: Parcel, facts: Facts, kept: tuple[str, ...], suffix: str) -> list[Command]:
    if parcel.here in kept and _kind(parcel, facts) == "directory":
        return [pull_tree(travel, parcel.there, parcel.here + suffix)]
    if parcel.here in kept:
        return [pull_file(travel, parcel.there, parcel.here + suffix)]
    names = [name for path in kept if (name := _relative(parcel.here, path))]
    return [pull_paths(travel, parcel.there, parcel.here + suffix, names)] if names else []


def _base(parcel: Parcel, load: Load) -> tuple[str, str]:
    """The directories that the parcel's name is relative to: the workspaces where it lies there, else its parents."""
    here, there = load.workspace
    name = "" if parcel.here == here else _relative(here, parcel.here)
    if (name or parcel.here == here) and parcel.there == os.path.join(there, name).rstrip("/"):
        return load.workspace
    return os.path.dirname(parcel.here), os.path.dirname(parcel.there)


def _name(parcel: Parcel, base: tuple[str, str], facts: Facts) -> str:
    """Relative to the base; a directory's ends with a slash, so that it travels as one even where it is a link."""
    name = _relative(base[0], parcel.here) or "."
    return f"{name}/" if _kind(parcel, facts) == "directory" else name


def _kind(parcel: Parcel, facts: Facts) -> str:
    found = facts.path(parcel.here).kind
    return parcel.kind if parcel.kind != "unknown" or found == "absent" else found


def _is_led_to(parcel: Parcel, base: tuple[str, str], facts: Facts) -> bool:
    """Is the parcel here, or a directory between it and its base, a link?"""
    name = _relative(base[0], parcel.here)
    real = facts.path(base[0]).real
    return facts.path(parcel.here).real != (os.path.join(real, name) if name else real)


def _relative(base: str, path: str) -> str:
    """The path below the base; empty where it is not below it."""
    base = _slashed(base)
    return path[len(base):] if path.startswith(base) else ""


def _slashed(path: str) -> str:
    return path.rstrip("/") + "/"


# --- the user's rules ------------------------------------------------------------------------------------------------


def user_rules(include: Iterable[str], exclude: Iterable[str], ignore: bytes | None = None,
               file: str = IGNORE_FILE) -> tuple[str, ...]:
    """What the platform's `sync.include` and `sync.exclude`, and then the lines of .mlcubeignore say, as rules of rsync.

    A line is a pattern to leave out, or a whole rule (`+ PATTERN`, `P PATTERN`); the first rule that fits counts. Patterns
    that begin with a slash start at the cube's directory. Raises DefinitionError for rules of kinds that we do not take.
    """
    lines = enumerate((ignore or b"").decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n"), 1)
    return (*(_rule(text, "+", Location("sync.include")) for text in include),
            *(_rule(text, "-", Location("sync.exclude")) for text in exclude),
            *(_rule(text, "-", Location(file, number, 1)) for number, text in lines
              if text.strip() and text[0] not in "#;"))


def _rule(text: str, sign: str, location: Location) -> str:
    if _RULE.fullmatch(text):
        return text
    if text.startswith("!") and len(text) > 1:
        raise DefinitionError(f"'{text}' is no rule of rsync", f"write `+ {text[1:].strip()}`, before the rules that it is an "
                              "exception of: the first rule that fits counts", location)
    if _OTHER_RULE.match(text):
        raise DefinitionError(f"'{text}': rules that read files, or clear the list, are not taken",
                              "write the patterns themselves", location)
    return f"{sign} {text}"


def rules_below(rules: Iterable[str], prefix: str) -> tuple[str, ...]:
    """The rules as they read in the directory `prefix` below the one that they were made for; empty: elsewhere.

    A pattern that starts at the top is cut, or falls away; one with slashes in it may also begin with `prefix`.
    """
    found: dict[str, None] = {}
    for rule in rules:
        word, _, pattern = rule.partition(" ")
        below = _pattern_below(pattern.lstrip("/"), prefix)
        if below:
            found[f"{word} /{below}"] = None
        if not pattern.startswith("/"):
            found[rule] = None
    return tuple(found)


def _pattern_below(pattern: str, prefix: str) -> str:
    beginning = _slashed(prefix) if prefix else ""
    return pattern[len(beginning):] if beginning and pattern.startswith(beginning) else ""
