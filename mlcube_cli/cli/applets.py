"""The spellings of the earlier programs, turned into ours; and the links by which they are called (CONTRACT, Commands)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments, find_verb
from mlcube_cli.cli.words import split_address
from mlcube_cli.errors import MachineError, UsageError

APPLETS = ("mlcube_docker", "mlcube_singularity", "mlcube_ssh", "mlbox")
MLBOX_HELP = """\
usage: mlbox describe|configure|run [PLATFORM.yaml[:NAME]] BOX[:TASK[/GROUP]] [--param=value ...]

examples:
  mlbox describe examples/mlbox/mnist/docker
  mlbox configure examples/mlbox/mnist/docker
  mlbox run examples/mlbox/mnist/docker:train/default --data_dir=/data/mnist

The same as: mlcube describe|configure|run BOX[:TASK[/GROUP]] [--platform PLATFORM.yaml[:NAME]] [param=value ...]
"""


def translate(applet: str, words: Sequence[str]) -> list[str]:
    """Our command line for an applet's; empty where its help was asked for. Raises UsageError for an unknown applet."""
    if applet == "mlbox":
        return _translate_mlbox(list(words))
    if applet in APPLETS:
        runner = applet.split("_", 1)[1]
        restrict = [f"--runner={runner}"] if words and words[0] in ("configure", "run") else []
        return [*words[:1], *restrict, *words[1:]]
    raise UsageError(f"mlcube does not know the name '{applet}'", f"call it mlcube, or one of: {', '.join(APPLETS)}")


def _translate_mlbox(words: list[str]) -> list[str]:
    if not words or words[0] in ("-h", "--help", "help"):
        return ["help", "mlbox"]
    if words[0] not in ("describe", "configure", "run"):
        raise UsageError(f"mlbox has no command '{words[0]}'", "it has: describe, configure, run")
    if {"-h", "--help"} & set(words[1:]):
        return ["help", "mlbox"]
    places, rest = _sort_mlbox_words(words[0], words[1:])
    if len(places) > 2:
        raise UsageError(f"'{places[2]}' is one word too many", "mlbox run [PLATFORM.yaml[:NAME]] BOX[:TASK[/GROUP]]")
    if words[0] == "describe":  # the usage allows the whole address and values there, too
        return ["describe", *(f"--mlcube={split_address(place)[0]}" for place in places[-1:]),
                *(word for word in rest if word.startswith("-"))]
    platform = [f"--platform={places[0]}"] if len(places) == 2 else []
    box = [f"--mlcube={places[-1]}"] if places else []
    return [words[0], *box, *platform, *rest]


def _sort_mlbox_words(verb: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The words that are places, and the rest: options as they are, `--param=value` and `param=value` as ours."""
    ours = {flag: option for option in find_verb(verb).options for flag in option.flags}
    places: list[str] = []
    rest: list[str] = []
    following = iter(words)
    for word in following:
        name, equals, _ = word.partition("=")
        if word in ours and not ours[word].switch:
            value = next(following, None)
            rest.append(word if value is None else f"{word}={value}" if word.startswith("--") else word + value)
        elif word.startswith("--") and name not in ours and equals:
            rest.append(word[2:])
        elif word.startswith("--") and name not in ours and verb == "run":
            raise UsageError(f"'{word}' has no value", f"write {word}=PATH")
        elif word.startswith("-") or (equals and not os.path.lexists(word) and name.isidentifier()):
            rest.append(word)
        else:
            places.append(word)
    return places, rest


def links(arguments: Arguments) -> int:
    """`mlcube links DIR`: one symbolic link for each applet; links of ours that are there already are renewed."""
    if len(arguments.words) != 1:
        raise UsageError("mlcube links takes one directory", "mlcube links ~/.local/bin")
    directory = os.path.abspath(os.path.expanduser(arguments.words[0]))
    program = os.path.abspath(sys.argv[0])
    if not os.path.isfile(program) or program.endswith(".py"):
        raise MachineError("links are made to mlcube.pyz, or to an installed mlcube command",
                           "call it by its file: /path/to/mlcube.pyz links DIR")
    if not os.path.isdir(directory):
        raise UsageError(f"{directory} is not a directory", f"mkdir -p {directory} first")
    for name in APPLETS:
        path = os.path.join(directory, name)
        if os.path.lexists(path) and not _is_ours(path):
            raise UsageError(f"{path} is there already and is no link of ours", "move it away, or choose another directory")
        _link(program, path)
        output.result(f"{path}\n")
    return 0


def _is_ours(path: str) -> bool:
    """Is it a link to an mlcube, under whatever name the program has there?"""
    return os.path.islink(path) and "mlcube" in os.path.basename(os.readlink(path))


def _link(program: str, path: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.symlink(program, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise MachineError(f"cannot make the link {path}: {error.strerror}", "choose a directory that you can write") from None
