"""Questions about another machine as one POSIX sh script, whose answers `there_answers` reads. Pure."""

from __future__ import annotations

import re

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, quote
from mlcube_cli.facts import FileDigest, FileText, PathKind, Probe, Question, Tool, TreeDigest
from mlcube_cli.place import answer_line
from mlcube_cli.there_functions import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOOLS = ("sh", "bash", "rsync", "setsid", "docker", "podman", "apptainer", "singularity", "python3", "nvidia-smi", "rocm-smi")
SECONDS = 60  # for a probe there
TOGETHER = 8  # probes that run at the same time
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHELLS_OWN = frozenset(("_", "UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"))  # bash lets nobody set them


def base_request(nonce: str, questions: tuple[Question, ...] = ()) -> str:
    """A script that says what is always to be known of a machine, and the answers to `questions`."""
    return _script(nonce, ("mlc_machine", *(f"mlc_tool {name} {name}" for name in TOOLS), *_lines(questions)))


def questions_request(nonce: str, questions: tuple[Question, ...], seconds: int = SECONDS) -> str:
    """A script that answers these questions; those that `is_answered_here` holds for are left out. `seconds`: for a probe."""
    return _script(nonce, _lines(questions), seconds)


def is_answered_here(question: Question) -> bool:
    """Whether it needs no asking: there is no digest of a tree, and nothing has a NUL byte in its name, nor none at all."""
    if isinstance(question, TreeDigest):
        return True
    if isinstance(question, Probe):
        command = question.command
        values = [part for variable in command.env for part in (variable.name, variable.value or "")]
        return not command.argv or not command.argv[0] or "\0" in "".join((*command.argv, *values, command.cwd or ""))
    name = question.name if isinstance(question, Tool) else question.path
    return not name or "\0" in name


def _script(nonce: str, lines: Iterable[str], seconds: int = SECONDS) -> str:
    """All in one function, called by the last line: of a script that is cut on its way nothing is done. No command can
    read the rest of the script, since stdin is empty."""
    begin = ("mlc_go_home", f"printf '%s\\n' {quote(answer_line(nonce))}")
    return "\n".join((f"mlc_nonce={quote(nonce)} mlc_seconds={seconds}", FUNCTIONS, "mlc_main() {", *begin, *lines,
                      "mlc_field end", "}", "mlc_main </dev/null", "exit 0", ""))


def _lines(questions: tuple[Question, ...]) -> Iterator[str]:
    asked = [(number, question) for number, question in enumerate(questions) if not is_answered_here(question)]
    if any(isinstance(question, (Probe, FileText)) for _, question in asked):
        yield "mlc_begin"
    probes = [(number, question.command) for number, question in asked if isinstance(question, Probe)]
    first, *later = [probes[start:start + TOGETHER] for start in range(0, len(probes), TOGETHER)] or [[]]
    yield from _start(first)  # they work while we look at files
    for number, question in asked:
        if not isinstance(question, Probe):
            yield _line(number, question)
    yield from _wait(first)
    for some in later:
        yield from (*_start(some), *_wait(some))


def _line(number: int, question: Question) -> str:
    if isinstance(question, Tool):
        return f"mlc_tool {number} {quote(question.name)}"
    assert isinstance(question, (PathKind, FileText, FileDigest))
    verb = {PathKind: "mlc_path", FileText: "mlc_text", FileDigest: "mlc_digest"}[type(question)]
    return f"{verb} {number} {quote(question.path)}"


# --- probes --------------------------------------------------------------------------------------------------------


def _start(probes: list[tuple[int, Command]]) -> Iterator[str]:
    if probes:
        yield "mlc_since=$(date +%s)"
    for number, command in probes:
        place = f'"$mlc_room"/{number}'
        if command.stdin:
            yield f"{_printed(command.stdin)} > {place}.in"
        stdin = f"{place}.in" if command.stdin else "/dev/null"
        yield f"( mlc_plain 2>/dev/null; exec <{stdin} >{place}.out 2>{place}.err || exit 125"
        yield from _probe_lines(command)
        yield f") & mlc_process_{number}=$!"


def _wait(probes: list[tuple[int, Command]]) -> Iterator[str]:
    for number, _ in probes:
        yield f'wait "$mlc_process_{number}"; mlc_said {number} $?'


def _probe_lines(command: Command) -> Iterator[str]:
    """What a probe's subshell does. Values of variables stay out of the words of any process, where all could read them;
    names that a shell cannot set go through env(1)."""
    if command.cwd is not None:
        yield f"mlc_enter {quote(command.cwd)} {quote(command.argv[0])}"
    settable = [variable for variable in command.env if _NAME.match(variable.name) and variable.name not in _SHELLS_OWN]
    others = [variable for variable in command.env if variable not in settable]
    for variable in settable:
        value = variable.value
        yield f"unset {variable.name}" if value is None else f"{variable.name}={quote(value)}; export {variable.name}"
    words = [word for variable in others if variable.value is None for word in ("-u", variable.name)]
    words += [f"{variable.name}={variable.value}" for variable in others if variable.value is not None]
    argv = ("env", *words, *command.argv) if words else command.argv
    yield "mlc_run " + " ".join(quote(word) for word in argv)


def _printed(data: bytes) -> str:
    """A command that writes these bytes: NUL, which no word can hold, as an escape of printf."""
    text = data.decode("utf-8", "surrogateescape")
    if "\0" not in text:
        return f"printf %s {quote(text)}"
    return "printf " + quote(text.replace("\\", "\\\\").replace("%", "%%").replace("\0", "\\000"))
