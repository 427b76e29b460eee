"""Words in, text or JSON out: the only code that prints results. A module a verb family, imported when it is called."""

from __future__ import annotations

from importlib import import_module

from mlcube_cli import TYPE_CHECKING, __version__
from mlcube_cli.cli import output
from mlcube_cli.errors import MLCubeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HANDLERS = {
    "describe": ("mlcube_cli.cli.reading", "describe"),
    "validate": ("mlcube_cli.cli.reading", "validate"),
    "show-config": ("mlcube_cli.cli.reading", "show_config"),
    "config": ("mlcube_cli.cli.config", "config"),
    "ps": ("mlcube_cli.cli.ps", "ps"),
    "logs": ("mlcube_cli.cli.logs", "logs"),
    "wait": ("mlcube_cli.cli.ending", "wait"),
    "cancel": ("mlcube_cli.cli.ending", "cancel"),
    "fetch": ("mlcube_cli.cli.ending", "fetch"),
    "sync": ("mlcube_cli.cli.sync", "sync"),
    "reap": ("mlcube_cli.cli.reap", "reap"),
    "schema": ("mlcube_cli.cli.reading", "schema"),
    "configure": ("mlcube_cli.cli.running", "configure"),
    "run": ("mlcube_cli.cli.running", "run"),
    "sweep": ("mlcube_cli.cli.sweep", "sweep"),
    "cache": ("mlcube_cli.cli.cache", "cache"),
    "doctor": ("mlcube_cli.cli.doctor", "doctor"),
    "inspect": ("mlcube_cli.cli.inspect", "inspect"),
    "lock": ("mlcube_cli.cli.lock", "lock"),
    "create": ("mlcube_cli.cli.create", "create"),
    "migrate": ("mlcube_cli.cli.migrate", "migrate"),
    "runs": ("mlcube_cli.cli.runs", "runs"),
    "links": ("mlcube_cli.cli.applets", "links"),
}
_BEFORE_THE_VERB = ("--log-level", "--log_level")


def main(argv: Sequence[str], applet: str = "mlcube") -> int:
    """Run one command line (without the program's name) and return the exit code."""
    words = list(argv)
    try:
        if applet != "mlcube":
            from mlcube_cli.cli.applets import translate

            words = translate(applet, words)
        return _dispatch(words)
    except MLCubeError as error:
        return output.fail(error, verb=next((word for word in words if word in _HANDLERS), ""), words=words)


def _dispatch(words: list[str]) -> int:
    leading: list[str] = []
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-h", "--help"):
            words = ["help"]
        elif word == "--version":
            output.result(f"mlcube {__version__}\n")
            return 0
        elif word.split("=")[0] in _BEFORE_THE_VERB:
            leading += [word] if "=" in word else [word, *words[:1]]
            words = words if "=" in word else words[1:]
        elif word in ("--debug", "--quiet"):
            leading.append(word)
        else:
            raise UsageError(f"'{word}' is not an option of mlcube", "options come after the command: mlcube run --help")
    if not words or words == ["help"]:
        from mlcube_cli.cli.arguments import overview

        output.result(overview(__version__))
        return 0
    return _call(words, leading)


def _call(words: list[str], leading: list[str]) -> int:
    from mlcube_cli.cli.arguments import find_verb, parse

    if words == ["help", "mlbox"]:
        from mlcube_cli.cli.applets import MLBOX_HELP

        output.result(MLBOX_HELP)
        return 0
    if words[0] == "help":
        words = [words[1], "--help"]
    verb = find_verb(words[0])
    arguments = parse(verb, [*leading, *words[1:]])
    output.QUIET = arguments.quiet or arguments.log_level in ("error", "critical")
    output.DEBUG = arguments.debug or arguments.log_level == "debug"
    module, function = _HANDLERS[verb.name]
    code = getattr(import_module(module), function)(arguments)
    assert isinstance(code, int)
    return code
