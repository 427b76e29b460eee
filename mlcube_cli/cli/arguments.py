"""The command line: one table of verbs and options; argparse is built for the chosen verb only."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn

from mlcube_cli.definition.hints import nearest
from mlcube_cli.errors import UsageError
from mlcube_cli.values import dataclass


@dataclass(frozen=True)
class Option:
    """An option of a verb; `settings` are argparse's own."""

    flags: tuple[str, ...]
    help: str
    settings: tuple[tuple[str, Any], ...] = ()  # argparse takes anything here

    @property
    def long(self) -> str:
        return self.flags[-1]


def _option(*flags: str, help: str, **settings: Any) -> Option:  # argparse takes anything here
    return Option(flags, help, tuple(settings.items()))


JSON = _option("--json", help="print one JSON document", action="store_true")
CUBE = _option("--mlcube", metavar="CUBE", help="the cube: a directory or a definition file (same as CUBE)")
PLATFORM = _option("--platform", metavar="P", help="a platform's name, or a platform file")
OVERRIDE = _option("-P", "-p", "--override", dest="overrides", metavar="KEY=VALUE", action="append", default=[],
                   help="set any value of the definition or platform, typed as YAML (-Pdocker.image=NAME)")
WORKSPACE = _option("--workspace", metavar="DIR", help="use this workspace instead of the cube's")
RUNNER = _option("--runner", metavar="R", help=argparse.SUPPRESS)  # the applets' restriction to one runner
DRY_RUN = _option("--dry-run", action="store_true", help="print the plan as a shell script; start and write nothing")
QUIET = _option("--quiet", action="store_true", help="no messages of ours, only errors")
DEBUG = _option("--debug", action="store_true", help="show the Python traceback of an error")
LOG_LEVEL = _option("--log-level", "--log_level", metavar="LEVEL", default="warning",
                    choices=("critical", "error", "warning", "info", "debug"), help="as in earlier programs")

RUN_ONLY = (
    _option("--task", metavar="T[,T]", action="append", default=[],
            help="task names, or run configuration files; several run in this order"),
    WORKSPACE,
    _option("--timeout", metavar="D", help="end each task after this time (90, 30s, 30m, 2h, 1d); exit code 124"),
    _option("--grace", metavar="D", default="10s", help="time between TERM and KILL (default 10s)"),
    _option("--stamp", metavar="FILE", help="write FILE, only after success (for make)"),
    _option("--deps", metavar="FILE", help="write a make dependency file of the inputs (with --stamp)"),
    _option("--interactive", action="store_true", help="give the task our stdin and terminal"),
    _option("--untrusted", action="store_true",
            help="refuse a cube that reaches beyond its inputs and outputs (privileged, host network, setup lines, ...)"),
    _option("--gpus", metavar="G", help="none, a number, all, or device ids"),
    _option("--memory", metavar="SIZE", help="memory limit (8g)"),
    _option("--cpu", metavar="CPUS", help="the CPUs to use (0-3)"),
    _option("--network", metavar="N", help="the network (none, bridge, host)"),
    _option("--security", metavar="OPT", help="a security option for the engine"),
    _option("--mount", metavar="ro|rw", choices=("ro", "rw"), help="how inputs are mounted, whatever the definition says"),
)


@dataclass(frozen=True)
class Verb:
    """A command: its options, what its positional words are, its examples."""

    name: str
    summary: str
    options: tuple[Option, ...]
    words: str  # usage text of the positional words
    examples: tuple[str, ...]
    aliases: tuple[str, ...] = ()


_COMMON = (QUIET, DEBUG, LOG_LEVEL)
VERBS = (
    Verb("describe", "show what is inside a cube", (CUBE, JSON, *_COMMON), "[CUBE]",
         ("mlcube describe examples/mnist", "mlcube describe --json . | python3 -m json.tool")),
    Verb("validate", "check definitions: all problems at once, each with its place and a hint",
         (CUBE, _option("--strict", action="store_true", help="warnings are errors too"), JSON, *_COMMON), "[CUBE ...]",
         ("mlcube validate", "mlcube validate --strict cubes/*")),
    Verb("show-config", "print the effective definition as YAML, with where each value came from",
         (CUBE, PLATFORM, OVERRIDE, WORKSPACE,
          _option("--resolve", action="store_true", help="replace ${...} by its value"), JSON, *_COMMON),
         "[CUBE] [NAME=VALUE ...]",
         ("mlcube show-config . --platform docker", "mlcube show-config . --resolve -Pdocker.image=mine:1"),
         aliases=("show_config",)),
    Verb("configure", "prepare a cube: build or pull its image, make its Python environment",
         (CUBE, PLATFORM, RUNNER, OVERRIDE, DRY_RUN,
          _option("--force", action="store_true", help="make it anew"), JSON, *_COMMON),
         "[CUBE]",
         ("mlcube configure . --platform docker", "mlcube configure . --platform=platforms/docker.yaml --dry-run")),
    Verb("run", "run tasks of a cube", (CUBE, PLATFORM, RUNNER, OVERRIDE, *RUN_ONLY, DRY_RUN, JSON, *_COMMON),
         "[CUBE[:TASK[/GROUP]]] [NAME=VALUE ...]",
         ("mlcube run examples/mnist --platform local --task sample,train",
          "mlcube run . --task train data_dir=/data/mnist -Pdocker.gpus=all",
          "mlcube run . --task train --dry-run | less")),
    Verb("schema", "print a bundled JSON Schema, or list them", (*_COMMON,), "[NAME]",
         ("mlcube schema", "mlcube schema mlcube_task")),
    Verb("links", "make links by which the spellings of earlier programs work", (*_COMMON,), "DIR",
         ("mlcube links ~/.local/bin",)),
)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: UsageError with the nearest option that exists."""

    verb: Verb

    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].lower() + message[1:], f"mlcube {self.verb.name} --help shows what it takes")


def find_verb(name: str) -> Verb:
    """The verb of that name or alias. Raises UsageError that names the nearest one."""
    for verb in VERBS:
        if name == verb.name or name in verb.aliases:
            return verb
    guess = nearest(name, [verb.name for verb in VERBS])
    raise UsageError(f"there is no command '{name}'",
                     f"did you mean 'mlcube {guess}'?" if guess else "mlcube --help lists the commands")


def build_parser(verb: Verb, program: str = "mlcube") -> argparse.ArgumentParser:
    """The parser of one verb; it prints help itself and raises UsageError for anything else."""
    parser = _Parser(
        prog=f"{program} {verb.name}", allow_abbrev=False, description=verb.summary,
        usage=f"{program} {verb.name} {verb.words} [options]",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in verb.examples),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=100))
    parser.verb = verb
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    for option in verb.options:
        parser.add_argument(*option.flags, help=option.help, **dict(option.settings))
    return parser


def parse(verb: Verb, argv: list[str]) -> argparse.Namespace:
    """The verb's arguments. Raises UsageError; an unknown option names what was probably meant."""
    # A word after `--` is never an option; argparse's intermixed mode loses that, so it is cut off here.
    rest = argv[argv.index("--") + 1:] if "--" in argv else []
    head = argv[:argv.index("--")] if "--" in argv else argv
    namespace, unknown = build_parser(verb).parse_known_intermixed_args(head)
    strange = [word for word in unknown if word.startswith("-")]
    if strange:
        raise UsageError(f"'{strange[0].split('=')[0]}' is not an option of mlcube {verb.name}",
                         _nearest_option(strange[0], verb.options))
    namespace.words += rest
    return namespace


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


def overview(version: str) -> str:
    """The text of `mlcube --help`."""
    width = max(len(verb.name) for verb in VERBS)
    lines = [f"mlcube {version}: run machine-learning cubes on docker, podman or plain Python", "",
             "usage: mlcube COMMAND [CUBE] [options]      CUBE: a directory or a definition file, default .", "", "commands:"]
    lines += [f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS]
    lines += ["", "examples:", "  mlcube describe examples/mnist",
              "  mlcube run examples/mnist --platform local --task sample,train",
              "  mlcube run . --task train --dry-run", "", "mlcube COMMAND --help shows a command's options and examples."]
    return "\n".join(lines) + "\n"
