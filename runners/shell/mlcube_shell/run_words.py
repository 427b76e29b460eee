"""The words that users write for `docker run` themselves, read as flags, so that what clashes with ours is seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlcube_cli.command import Variable
from mlcube_cli.definition.model import OVERRIDE, Option
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_shell.options import refuse, split_option
from mlcube_shell.passing import ASSIGNMENT, pass_variable

_SHORT = {
    "a": "--attach", "c": "--cpu-shares", "d": "--detach", "e": "--env", "h": "--hostname", "i": "--interactive",
    "l": "--label", "m": "--memory", "p": "--publish", "P": "--publish-all", "q": "--quiet", "t": "--tty",
    "u": "--user", "v": "--volume", "w": "--workdir",
}
_SAME = {"--net": "--network", "--net-alias": "--network-alias", "--dns-opt": "--dns-option"}
_SWITCHES = frozenset((
    "--detach", "--disable-content-trust", "--env-host", "--help", "--http-proxy", "--init", "--interactive",
    "--no-healthcheck", "--no-hosts", "--no-hostname", "--oom-kill-disable", "--privileged", "--publish-all", "--quiet",
    "--read-only", "--read-only-tmpfs", "--replace", "--rm", "--rmi", "--sig-proxy", "--tls-verify", "--tty",
    "--use-api-socket",
))
_TAKES_ANYTHING = frozenset(("--env", "--label", "--entrypoint", "--annotation", "--hostname", "--name", "--cidfile"))
_OPTION_LIKE = re.compile(r"-[-A-Za-z]")


@dataclass(frozen=True)
class Flag:
    """One option that the user wrote, under its long name, with the words as written."""

    name: str
    value: str | None
    words: tuple[str, ...]
    variables: tuple[Variable, ...] = ()  # secrets that travel by name

    @property
    def off(self) -> bool:
        """Whether a switch is switched off (`--rm=false`, as Go reads it)."""
        return self.name in _SWITCHES and (self.value or "").lower() in ("false", "f", "0")


# Options of the platform that one flag of the engine sets: typed, they win over what the definition's words say of it.
_SET_BY = {"--network": "network", "--memory": "memory", "--cpuset-cpus": "cpuset_cpus", "--gpus": "gpus", "--user": "user",
           "--shm-size": "shm_size", "--workdir": "workdir", "--runtime": "container_runtime"}


@dataclass(frozen=True)
class Grammar:
    """How the words of one program are read."""

    program: str
    short: Mapping[str, str]
    same: Mapping[str, str]
    switches: frozenset[str]
    takes_anything: frozenset[str]  # options whose value may look like an option


DOCKER = Grammar("docker run", _SHORT, _SAME, _SWITCHES, _TAKES_ANYTHING)

# Options that would take from us what we have to know: that the container ends with its client, under our name.
_REFUSED = {
    "--detach": "the run has to wait for the task",
    "--name": "the container is named after the run",
    "--cidfile": "the container is found by its name",
    "--help": "it prints help instead of running the task",
}


def user_flags(job: Job, facts: Facts, options: tuple[str, ...]) -> tuple[tuple[Flag, ...], tuple[str, ...]]:
    """The user's own words in these options as flags, and notes on what was left out.

    They replace what the platform's options say of the same thing (RULINGS 18), unless that was typed: a flag of the
    command line wins over `-P`, and `-P` over the definition (`--network=none` holds whatever `cpu_args` say).
    Raises DefinitionError for options that we need ourselves (RULINGS 18) and for words that are no options.
    """
    flags: list[Flag] = []
    notes: list[str] = []
    for name in options:
        option = job.find_option(name)
        if option is None:
            continue
        for flag in scan_run_words(option, split_option(job, name, facts)):
            fault = _fault(option, flag)
            if fault:
                raise fault
            if flag.name == "--tty" and not flag.off and not (job.interactive and facts.terminal):
                notes.append(f"'{name}': {flag.words[0]} is left out, since there is no terminal without --interactive")
                continue
            winner = job.find_option(_SET_BY.get(flag.name, ""))
            if winner is not None and winner.value is not None and _rank(winner) > _rank(option):
                notes.append(f"'{name}': {' '.join(flag.words)} is left out, since {winner.name} is given by {winner.origin}")
                continue
            flags.append(_by_name(flag) if option.secret else flag)
    return tuple(flags), tuple(notes)


def _rank(option: Option) -> int:
    """Whose word an option is: the definition's or the settings', that of `-P`, that of a flag."""
    return 2 if option.origin.startswith("--") and ":" not in option.origin else 1 if option.origin == OVERRIDE else 0


def _fault(option: Option, flag: Flag) -> DefinitionError | None:
    if flag.name in _REFUSED and not flag.off:
        return refuse(option, f"{flag.words[0]} cannot be given: {_REFUSED[flag.name]}",
                      f"remove it from {option.name}")
    if flag.name == "--rm" and flag.off:
        return refuse(option, f"{flag.words[0]} cannot be given: containers are removed when they end",
                      f"remove it from {option.name}")
    return None


def _by_name(flag: Flag) -> Flag:
    """`--env NAME=SECRET` as `--env NAME`, so that the secret stands in no argv."""
    name, equals, value = (flag.value or "").partition("=")
    if flag.name != "--env" or not equals:
        return flag
    passed = pass_variable("--env", name, value, secret=True)
    return Flag(flag.name, flag.value, passed.words, passed.variables)


def scan_run_words(option: Option, words: tuple[str, ...], grammar: Grammar = DOCKER) -> tuple[Flag, ...]:
    """The user's words for `docker run`, or another program, as flags; grouped short ones (`-it`) are taken apart.

    Raises DefinitionError for a word that is no option, since docker would take it for the image.
    """
    flags: list[Flag] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            flags.append(_long_flag(word, rest, grammar))
        elif word.startswith("-") and len(word) > 1 and word != "--":
            flags.extend(_short_flags(option, word, rest, grammar))
        elif option.name == "env_args" and ASSIGNMENT.match(word):
            flags.append(Flag("--env", word, ("--env", word)))
        else:
            raise refuse(option, f"the word {word!r} is not an option; the engine would take it for the image",
                         "quote a value that has spaces, or write a list with one word each")
    return tuple(flags)


def _long_flag(word: str, rest: list[str], grammar: Grammar) -> Flag:
    name, equals, value = word.partition("=")
    name = grammar.same.get(name, name)
    if equals:
        return Flag(name, value, (word,))
    if name in grammar.switches or not rest or (name not in grammar.takes_anything and _OPTION_LIKE.match(rest[0])):
        return Flag(name, None, (word,))
    value = rest.pop(0)
    return Flag(name, value, (word, value))


def _short_flags(option: Option, word: str, rest: list[str], grammar: Grammar) -> list[Flag]:
    flags = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        name = grammar.short.get(letter)
        if name is None:
            raise refuse(option, f"{grammar.program} has no option '-{letter}' (in {word!r})", "write its long name")
        if name in grammar.switches and not letters.startswith("="):
            flags.append(Flag(name, None, (f"-{letter}",)))
        elif letters:
            flags.append(Flag(name, letters[1:] if letters.startswith("=") else letters, (f"-{letter}{letters}",)))
            break
        elif rest:
            value = rest.pop(0)
            flags.append(Flag(name, value, (f"-{letter}", value)))
        else:
            flags.append(Flag(name, None, (f"-{letter}",)))
    return flags
