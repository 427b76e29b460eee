"""A plan as a POSIX sh script that does what a run does: what `--dry-run` prints."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Plan, Step, assignments, commands_of, guarded, quote, stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHORT, _END = 5, "mlcube_text_ends"  # lines of a text that is quoted on the spot; the line behind a longer one
# Where the id stands in long texts, sed puts another one there.
_PLAIN_ID = "case $RUN_ID in ''|*[!A-Za-z0-9._-]*) echo 'RUN_ID: letters, digits, . _ and - alone' >&2; exit 2;; esac"
_BLANKS = dict.fromkeys((*range(0x20), 0x7f), " ")  # for control characters


def secrets(plan: Plan) -> tuple[str, ...]:
    """Names of the variables whose values the script does not state."""
    commands = (command for step in plan.steps for command in commands_of(step))
    names = [variable.name for command in commands for variable in command.env if variable.secret]
    return tuple(dict.fromkeys(names))


def script(plan: Plan) -> str:
    """The plan as a POSIX sh script that does what `run` does; RULINGS 29 names the two exceptions, stated in its head."""
    base = _common_run_id(plan)
    lines = ["#!/bin/sh", f"# mlcube: platform {_comment(plan.platform)}", "set -eu"]
    if base:
        lines += ["# RUN_ID names what this run creates; `mlcube run` makes a new one each time.",
                  'RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}']
    places = {**({base: '"$RUN_ID"'} if base else {}), **{stand_in(name): _quoted_in_shell(name) for name in secrets(plan)}}
    for name in secrets(plan):
        lines.append(f': "${{{name}:?its value is secret and not printed: export {name} first}}"; export {name}')
    for note in plan.notes:
        lines.append(f"# note: {_comment(note)}")
    interactive = any(task.interactive for task in plan.tasks)
    known, head = 0, len(lines)
    for step in plan.steps:
        texts = _Texts(places, base, known)
        written = _step_lines(step, texts, interactive)
        known += len(texts.functions)
        lines += ["", f"# {_comment(step.title)}", *texts.functions, *written]
    if any("$RUN_ID" in line and "() {\nsed " in line for line in lines[head:]):
        lines.insert(head, _PLAIN_ID)
    return "\n".join(lines) + "\n"


class _Texts:
    """What is only known when the script runs, and the long texts that a step's commands read: functions that print them, word
    for word but for the run's id, since a quoted text is hard to read."""

    def __init__(self, places: Mapping[str, str], base: str, known: int) -> None:
        self.places = places
        self.functions: list[str] = []
        self._base = base
        self._known = known

    def printing(self, text: str) -> str:
        """The command that prints this text."""
        fixed = not any(place in text for place in self.places if place != self._base)
        if not fixed or "\0" in text or not text.endswith("\n") or text.count("\n") < _SHORT or f"\n{_END}\n" in text:
            return _printing(text, self.places)
        name = f"text_{self._known + len(self.functions) + 1}"
        source = f"sed 's/{self._base}/'\"$RUN_ID\"'/g'" if self._base and self._base in text else "cat"
        self.functions.append(f"{name}() {{\n{source} <<'{_END}'\n{text}{_END}\n}}")
        return name


def _comment(text: str) -> str:
    return text.translate(_BLANKS)


def _common_run_id(plan: Plan) -> str:
    """The part of the run ids that all tasks of one command share: `ID` of `ID-1`, `ID-2`."""
    return plan.tasks[0].run_id.rsplit("-", 1)[0] if plan.tasks else plan.run_id


def _step_lines(step: Step, texts: _Texts, interactive: bool) -> list[str]:
    """The step's lines; what comes after them is done on the ways out as well."""
    line = _command_text(step.command, texts, interactive and step.payload)
    if step.otherwise:
        line = f"{{ {line} || {_command_text(step.otherwise, texts)}; }}"
    lines = [*(_command_text(command, texts) for command in step.before), line,
             *(_command_text(command, texts) for command in step.then)]
    if step.after:
        tidy = [f"  {_command_text(command, texts)} 2>/dev/null || :" for command in step.after]
        lines = ["tidy() {", *tidy, "}", "trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM", *lines,
                 "tidy; trap - EXIT INT TERM"]
    if step.unless:
        skip = f"{_command_text(step.unless, texts)} >/dev/null 2>&1 ||"
        lines = [f"{skip} {lines[0]}"] if len(lines) == 1 else [f"{skip} {{", *lines, "}"]
    return lines


def _command_text(command: Command, texts: _Texts, interactive: bool = False) -> str:
    words = [*_fixed_assignments(command, texts.places),
             *(_script_word(word, texts.places) for word in guarded(command.argv))]
    line = " ".join(words)
    if command.stdin is None:
        line += "" if interactive else " </dev/null"
    else:
        line = f"{texts.printing(command.stdin.decode('utf-8', 'surrogateescape'))} | {line}"
    return f"(cd {quote(command.cwd)} && {line})" if command.cwd else line


def _printing(text: str, places: Mapping[str, str]) -> str:
    """The command that prints this text. No word holds a NUL byte: a text with some is printed in parts that end with one."""
    if "\0" not in text:
        return f"printf %s {_script_word(text, places)}"
    *parts, last = text.split("\0")
    line = " ".join(("printf '%s\\0'", *(_script_word(part, places) for part in parts)))
    return f"{{ {line}; {_printing(last, places)}; }}" if last else line


def _fixed_assignments(command: Command, places: Mapping[str, str]) -> list[str]:
    shown = Command((), tuple(variable for variable in command.env if not variable.secret))
    return assignments(shown, lambda word: _script_word(word, places))


def _quoted_in_shell(name: str) -> str:
    """The variable's value, as it stands between the single quotes of a script inside the script."""
    return f"\"$(printf %s \"${name}\" | sed \"s/'/'\\\\\\\\''/g\")\""


def _script_word(word: str, places: Mapping[str, str]) -> str:
    """The word, with what is only known when the script runs in its place."""
    for place, instead in places.items():
        if place in word:
            rest = {other: text for other, text in places.items() if other != place}
            return instead.join(_script_word(part, rest) if part else "" for part in word.split(place))
    return quote(word)
