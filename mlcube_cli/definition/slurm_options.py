"""A slurm platform's options as values of one kind each, whatever the spelling; what no job could have is noted."""

from __future__ import annotations

import re
from dataclasses import replace

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.hints import did_you_mean
from mlcube_cli.definition.tree import Node, is_secret, is_set, items, text_of
from mlcube_cli.errors import Problem
from mlcube_cli.quantities import find_bytes, find_time_limit, size_text, time_limit_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    from mlcube_cli.definition.model import Data

    Plain: TypeAlias = "bool | int | str | list[str]"
    Fault: TypeAlias = "tuple[str, str]"  # what is wrong, and what to write instead

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2")
NOTICE = 60  # seconds before the end, where a signal is named without
LONGEST_NOTICE = 65535  # seconds (sbatch(1), --signal)
_LINE = re.compile(r"[\s\"'\\#\x00-\x1f\x7f]")  # what ends a word, or a line, of a batch file's directives
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NODES = re.compile(r"([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?", re.ASCII)
_GPUS = re.compile(r"(?:(?P<type>[A-Za-z][A-Za-z0-9_.-]*)(?::|\Z))?(?P<count>\d{1,6})?", re.ASCII)
_SIGNAL = re.compile(r"(?:SIG)?([A-Z0-9]+)(?:@(\d+(?:\.\d+)?[smh]?))?", re.ASCII | re.IGNORECASE)
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_SHARING = ("user", "mcs", "topo")  # who else may be on the node (sbatch(1), --exclusive)
# sbatch's letters (22.05); what stands in sbatch_args is kept in long words.
LETTERS: Mapping[str, str] = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus", "H": "hold",
    "I": "immediate", "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit", "Q": "quiet",
    "S": "core-spec", "V": "version", "W": "wait", "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency",
    "e": "error", "h": "help", "i": "input", "k": "no-kill", "m": "distribution", "n": "ntasks", "o": "output",
    "p": "partition", "q": "qos", "s": "oversubscribe", "t": "time", "u": "usage", "v": "verbose", "w": "nodelist",
    "x": "exclude",
}
_WITHOUT_VALUE = ("hold", "overcommit", "quiet", "version", "wait", "help", "usage", "verbose")
# What a job of ours cannot have said otherwise, and why; a long word may be cut short, as sbatch has it.
_FILES = "what the task prints is kept with its run: mlcube logs shows it"
_VARIABLES = "variables are declared in 'env', here or of what runs inside"
_OURS: Mapping[str, str] = {
    "job-name": "a job is called after its cube and task, by which it is found again",
    "output": _FILES, "error": _FILES, "open-mode": _FILES, "input": "a batch job reads nothing: declare an input",
    "wrap": "the job is the task", "array": "mlcube sweep makes arrays; how many run at once says 'array_limit'",
    "dependency": "several tasks of one command line wait for each other: --task first,second",
    "kill-on-invalid-dep": "several tasks of one command line wait for each other: --task first,second",
    "parsable": "sbatch's answer is read by mlcube", "test-only": "mlcube run asks for that itself; --dry-run shows the job",
    "export": _VARIABLES, "export-file": _VARIABLES, "get-user-env": _VARIABLES,
    "wait": "mlcube run waits by itself, and --detach does not",
    "chdir": "where a task works says 'workdir' of what runs inside",
    "signal": "write 'signal_before_end'", "clusters": "name the cluster's own login node in an ssh platform",
    "help": "it submits nothing", "usage": "it submits nothing", "version": "it submits nothing",
}
_DIRECTIVE_TEXTS = ("partition", "account", "qos", "gres", "constraint")
_COUNTS = ("ntasks", "ntasks_per_node", "cpus_per_task", "array_limit")


def typed_slurm(options: Mapping[str, Node], path: str, said: Callable[[Node], bool]) -> tuple[dict[str, Node],
                                                                                              tuple[Problem, ...]]:
    """The options, all of one kind (docs/platforms.md): `time` in seconds (0: no limit), `memory` in bytes a node (0: all of
    it), counts as numbers, `nodes` a number or `MIN-MAX`, `gpus` a number or `TYPE:N`, `signal_before_end` `NAME@SECONDS` or
    `none`, `sbatch_args` one `--word[=value]` an item. A value that means nothing is left out, with an error.

    `path`: of the platform in its file. `said`: was something said of this node before?
    """
    typed: dict[str, Node] = {}
    problems: list[Problem] = []
    for name, node in options.items():
        text = text_of(node)
        unresolved = text is not None and "${" in text
        value = _value(name, node) if is_set(node) and not unresolved else None
        if isinstance(value, tuple):
            what = f"'{name}' has a value that it cannot have" if is_secret(node) else value[0]
            if not said(node):
                problems.append(Problem(node.location, what, "bad-value", value[1], f"{path}.{name}" if path else name))
        elif value is not None:
            typed[name] = _with_value(node, value)
        elif not unresolved:
            typed[name] = node
    problems += _together(typed, path)
    return typed, tuple(problems)


def written_slurm(name: str, value: Data) -> Data:
    """An option's value as a definition says it, such that it reads back as the same."""
    if isinstance(value, int) and not isinstance(value, bool):
        if name == "time":
            return time_limit_text(value)
        if name == "memory":
            return size_text(value)
    return value


def _with_value(node: Node, value: Plain) -> Node:
    if isinstance(value, list):
        return replace(node, value=tuple(replace(node, value=item, text=item) for item in value), text=None)
    return replace(node, value=value, text=None)


def _value(name: str, node: Node) -> Plain | Fault | None:
    """The value of one option; a fault is a tuple; None: as it is."""
    if name == "sbatch_args":
        return _words(node)
    text = text_of(node)
    if text is None:
        return None
    if name in _VALUES:
        return _VALUES[name](text.strip())
    if name in _DIRECTIVE_TEXTS:
        return _directive_text(name, text.strip())
    return _count(name, text.strip()) if name in _COUNTS else None


# --- single values -----------------------------------------------------------------------------------------------------


def _time(text: str) -> Plain | Fault:
    seconds = find_time_limit(text)
    if seconds is None:
        return f"'time': '{text}' is no time limit", "write 2h, or as Slurm has it: MINUTES, HH:MM:SS, DAYS-HH:MM:SS"
    return seconds


def _memory(text: str) -> Plain | Fault:
    size = find_bytes(text)
    return size if size is not None else (f"'memory': '{text}' is no size", "for example: memory: 16G")


def _nodes(text: str) -> Plain | Fault:
    match = _NODES.fullmatch(text)
    if match is None:
        return f"'nodes': '{text}' is no number of nodes", "write a number, or the least and the most: 2-4"
    least, most = int(match[1]), int(match[2] or match[1])
    if most < least:
        return f"'nodes': '{text}' begins with the greater number", f"write {most}-{least}"
    return least if least == most else f"{least}-{most}"


def _gpus(text: str) -> Plain | Fault:
    match = _GPUS.fullmatch(text)
    if text in ("none", "false"):
        return 0
    if match is None or not text or text.endswith(":") or text in ("all", "true"):
        return (f"'gpus': '{text}' does not say how many", "write a number, TYPE:NUMBER such as a100:2, or none; "
                "'exclusive: true' takes a node whole")
    count = int(match["count"] or 1)
    return f"{match['type']}:{count}" if match["type"] and count else count


def _count(name: str, text: str) -> Plain | Fault:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    return number or (f"'{name}' must be a whole number from 1 on, not '{text}'", f"for example: {name}: 4")


def _exclusive(text: str) -> Plain | Fault:
    word = text.lower()
    if word in (*_TRUE, *_FALSE):
        return word in _TRUE
    return word if word in _SHARING else (f"'exclusive' must be true or false, not '{text}'",
                                          f"Slurm knows these words, too: {', '.join(_SHARING)}")


def _signal(text: str) -> Plain | Fault:
    if text.lower() in ("none", *_FALSE):
        return "none"
    match = _SIGNAL.fullmatch(text)
    name = match[1].upper() if match else ""
    if match is None or name not in SIGNALS:
        return (f"'signal_before_end': '{text}' names no signal that a task can act on",
                did_you_mean(name, SIGNALS) or f"write none, or NAME@SECONDS with one of {', '.join(SIGNALS)}")
    seconds = find_time_limit(match[2] + "s" if match[2][-1:].isdigit() else match[2]) if match[2] else NOTICE
    if not seconds or seconds > LONGEST_NOTICE:
        return f"'signal_before_end': '{text}' is not between 1 and {LONGEST_NOTICE} seconds", "for example: TERM@60"
    return f"{name}@{seconds}"


def _work_dir(text: str) -> Plain | Fault:
    return _place("work_dir", text)


def _scratch(text: str) -> Plain | Fault:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    return _place("scratch", text)


def _place(name: str, text: str) -> Plain | Fault:
    if _CONTROL.search(text):
        return f"'{name}' holds a character that cannot be printed", "take it out"
    if text.startswith(("/", "$")) or text == "~" or text.startswith("~/"):
        return text
    return (f"'{name}': '{text}' is relative, and a node has no directory of yours to start from",
            "begin with /, ~/ or $NAME" + ("; or write true" if name == "scratch" else ""))


def _configure(text: str) -> Plain | Fault:
    word = text.lower()
    return word if word in ("login", "job") else (f"'configure' must be login or job, not '{text}'",
                                                  did_you_mean(word, ("login", "job")) or "login is the default")


def _directive_text(name: str, text: str) -> Plain | Fault:
    odd = _LINE.search(text)
    if odd or not text:
        what = f"holds {_shown(odd[0])}" if odd else "is empty"
        return f"'{name}' {what}, which no line of a batch file can carry", "leave it out"
    if name == "gres" and any(item.strip().split(":")[0] == "gpu" for item in text.split(",")):
        return f"'gres: {text}' asks for GPUs", "write them as 'gpus': a number, or TYPE:NUMBER"
    return text


def _shown(char: str) -> str:
    return "a space" if char == " " else f"'{char}'" if char.isprintable() else f"the character U+{ord(char):04X}"


_VALUES: Mapping[str, Callable[[str], Plain | Fault]] = {
    "time": _time, "memory": _memory, "nodes": _nodes, "gpus": _gpus, "exclusive": _exclusive, "signal_before_end": _signal,
    "work_dir": _work_dir, "scratch": _scratch, "configure": _configure,
}


# --- the user's own words ------------------------------------------------------------------------------------------------


def _words(node: Node) -> Plain | Fault:
    """One `--word[=value]` an item, in long words. A value may stand behind its word, as on a command line."""
    written = [text_of(item) or "" for item in items(node)] if isinstance(node.value, tuple) else _split(text_of(node) or "")
    if isinstance(written, tuple):
        return written
    found: list[str] = []
    waiting = False  # may the next word be the value of the last one?
    for word in written:
        odd = _LINE.search(word)
        if odd:
            return (f"'sbatch_args': '{word}' holds {_shown(odd[0])}, which no line of a batch file can carry",
                    "one word an item, without spaces and quotes")
        if waiting and not word.startswith("-"):
            found[-1] += f"={word}"
            waiting = False
            continue
        long = _long_word(word)
        if isinstance(long, tuple):
            return long
        found.append(long)
        waiting = "=" not in long and long[2:] not in _WITHOUT_VALUE
    return list(found)


def _split(text: str) -> list[str] | Fault:
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        return f"'sbatch_args' cannot be split into words: {error}", "close the quotes, or write a list of words"


def _long_word(word: str) -> str | Fault:
    """The word as `--NAME[=VALUE]`; a fault for one that is ours, and for one that is no option."""
    name, equals, value = word[2:].partition("=")
    if not word.startswith("-") or word in ("-", "--"):
        return (f"'sbatch_args': '{word}' is no option: sbatch would take it for the file to run",
                "write --NAME=VALUE, one an item")
    if not word.startswith("--"):
        known = LETTERS.get(word[1])
        if known is None:
            return f"'sbatch_args': sbatch has no option '-{word[1]}'", "write the long word: --NAME=VALUE"
        name, value = known, word[2:].lstrip("=")
        equals = "=" if value else ""
    owner = next((one for one in _OURS if one == name), None) or next(
        (one for one in _OURS if one.startswith(name) and name not in LETTERS.values()), None)
    if owner:
        return f"'sbatch_args': '{word.partition('=')[0]}' is for mlcube to say", _OURS[owner]
    return f"--{name}{equals}{value}"


# --- what does not go together -------------------------------------------------------------------------------------------


def _together(typed: Mapping[str, Node], path: str) -> Iterator[Problem]:
    time, signal = typed.get("time"), typed.get("signal_before_end")
    seconds = time.value if time is not None else None
    notice = (text_of(signal) or "").partition("@")[2]
    if signal is not None and notice and isinstance(seconds, int) and 0 < seconds <= int(notice):
        yield Problem(signal.location, f"'signal_before_end': {notice} seconds before the end is before the beginning, with a "
                      f"time limit of {seconds} seconds", "bad-value", "name fewer seconds, or more time",
                      f"{path}.signal_before_end" if path else "signal_before_end")
