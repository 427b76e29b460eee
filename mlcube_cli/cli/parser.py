"""argparse, built for one verb from the table in arguments.py: help, errors, and whatever its quick reader leaves."""

from __future__ import annotations

import argparse

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cli.arguments import Arguments, Verb
from mlcube_cli.cli.options import Option
from mlcube_cli.definition.hints import nearest
from mlcube_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: UsageError with the nearest option that exists."""

    verb: Verb

    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].lower() + message[1:], f"mlcube {self.verb.name} --help shows what it takes")


def build_parser(verb: Verb, program: str = "mlcube") -> argparse.ArgumentParser:
    """The parser of one verb; it prints help itself and raises UsageError for anything else."""
    parser = _Parser(
        prog=f"{program} {verb.name}", allow_abbrev=False, description=verb.summary,
        usage=" ".join(filter(None, (program, verb.name, verb.words, "[options]"))),
        epilog="examples:\n" + "\n".join(f"  {line}" for line in verb.examples),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=100))
    parser.verb = verb
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    for option in verb.options:
        parser.add_argument(*option.flags, help=option.help or argparse.SUPPRESS, **dict(option.settings))
    return parser


def parse_all(verb: Verb, argv: list[str]) -> Arguments:
    """The verb's arguments. Raises UsageError; an unknown option names what was probably meant."""
    # A word after `--` is never an option; argparse's intermixed mode loses that, so it is cut off here.
    rest = argv[argv.index("--") + 1:] if "--" in argv else []
    head = argv[:argv.index("--")] if "--" in argv else argv
    arguments, unknown = build_parser(verb).parse_known_intermixed_args(head, Arguments())
    strange = [word for word in unknown if word.startswith("-")]
    if strange:
        raise UsageError(f"'{strange[0].split('=')[0]}' is not an option of mlcube {verb.name}",
                         _nearest_option(strange[0], verb.options))
    arguments.words += rest
    return arguments


def _nearest_option(word: str, options: Iterable[Option]) -> str:
    name = word.split("=")[0]
    if name.startswith("--") and "=" in word:
        return f"did you mean '{guess}'?" if (guess := _guess(name, options)) else (
            f"a task parameter is set without dashes: {word[2:]}")
    guess = _guess(name, options)
    return f"did you mean '{guess}'?" if guess else "see --help for the options"


def _guess(name: str, options: Iterable[Option]) -> str | None:
    flags = [flag for option in options for flag in option.flags if flag.startswith("--")]
    return next((flag for flag in flags if flag.replace("-", "_") == name.replace("-", "_")), None) or nearest(name, flags)
