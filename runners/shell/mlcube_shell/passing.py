"""Variables handed to an engine on its command line: as NAME=VALUE, or by name alone where the value is a secret."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from mlcube_cli.command import Variable
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_shell.batch_variables import JOB_NAMES, is_of_job
from mlcube_shell.options import is_map, is_secret, mapping_option, split_option

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# What the engine's client reads for itself: a value that it should only pass on cannot travel in these.
_OF_THE_CLIENT = frozenset(("PATH", "HOME", "USER", "SHELL", "TMPDIR", "TERM", "LD_LIBRARY_PATH", "LD_PRELOAD",
                            "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK"))
_CLIENT_PREFIXES = ("DOCKER_", "BUILDKIT_", "BUILDX_", "CONTAINER", "SUDO_")


@dataclass(frozen=True)
class Passed:
    """Words for the command line, values for the client's own environment, and names it reads from the caller's."""

    words: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Passed) -> Passed:
        return Passed(self.words + other.words, self.variables + other.variables, self.names + other.names,
                      self.notes + other.notes)


def pass_variable(flag: str, name: str, value: str | None, secret: bool = False) -> Passed:
    """One variable: `--env NAME=VALUE`; a secret as `--env NAME`, its value in the client's environment."""
    if value is None:
        return Passed((flag, name), names=(name,))
    if secret and name not in _OF_THE_CLIENT and not name.startswith(_CLIENT_PREFIXES):
        return Passed((flag, name), (Variable(name, value, secret=True),), (name,))
    return Passed((flag, f"{name}={value}"))


def pass_map(flag: str, job: Job, option: str, facts: Facts) -> Passed:
    """An option that is a map. A null passes the caller's value by name, and nothing where the caller has none; what a batch
    system starts no longer has the caller's, and gets it as a secret."""
    passed = Passed()
    found = job.find_option(option)
    for name, value in mapping_option(job, option):
        if value is None and job.batch and is_of_job(name):
            passed += pass_variable(flag, name, None)  # the job's own, not the caller's
        elif value is None and job.batch and name in facts.environment:
            passed += pass_variable(flag, name, facts.environment[name], secret=True)
        elif value is None and name not in facts.environment:
            passed += Passed(notes=(f"'{option}' passes {name} on, but it is not set here",))
        else:
            passed += pass_variable(flag, name, value, found is not None and found.hides(name))
    return passed


def pass_proxies(flag: str, job: Job, facts: Facts, taken: Iterable[str]) -> Passed:
    """The caller's proxies, by name; an empty one is not passed (RULINGS 12). What a batch system starts gets their values."""
    passed = Passed()
    for name in PROXIES:
        value = facts.environment.get(name)
        if value and name not in taken:
            passed += pass_variable(flag, name, value, secret="@" in value) if job.batch else pass_variable(flag, name, None)
    return passed


def pass_job(flag: str, job: Job, taken: Iterable[str]) -> Passed:
    """What a batch system says of a job and its processes, by name: its client has the values where the job runs."""
    passed = Passed()
    for name in JOB_NAMES if job.batch else ():
        if name not in taken:
            passed += pass_variable(flag, name, None)
    return passed


def given_build_args(job: Job, facts: Facts) -> Passed:
    """`build_args`: a map, a string of words, or a string of nothing but NAME=VALUE."""
    if is_map(job, "build_args"):
        return pass_map("--build-arg", job, "build_args", facts)
    words = split_option(job, "build_args", facts)
    if all(ASSIGNMENT.match(word) for word in words):
        words = tuple(part for word in words for part in ("--build-arg", word))
    return hide_values(words, "--build-arg", is_secret(job, "build_args"))


def taken_names(words: Iterable[str]) -> frozenset[str]:
    """The names in words such as `NAME=VALUE` and `--build-arg=NAME=VALUE`."""
    return frozenset(part for word in words for part in word.split("=")[:2])


def hide_values(words: tuple[str, ...], flag: str, secret: bool) -> Passed:
    """The user's own words; where they hold secrets, `FLAG NAME=VALUE` and `FLAG=NAME=VALUE` become `FLAG NAME`."""
    if not secret:
        return Passed(words)
    passed = Passed()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        apart = word == flag and bool(rest)
        text = rest.pop(0) if apart else word[len(flag) + 1:] if word.startswith(f"{flag}=") else ""
        name, equals, value = text.partition("=")
        if equals:
            passed += pass_variable(flag, name, value, secret=True)
        else:
            passed += Passed((word, text) if apart else (word,))
    return passed


def without(passed: Passed, names: Collection[str]) -> Passed:
    """`passed` less the variables of these names; its words are pairs of flag and text."""
    pairs = tuple(zip(passed.words[::2], passed.words[1::2]))
    kept = tuple(word for pair in pairs if pair[1].partition("=")[0] not in names for word in pair)
    return replace(passed, words=kept, variables=tuple(item for item in passed.variables if item.name not in names),
                   names=tuple(name for name in passed.names if name not in names))
