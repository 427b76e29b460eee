"""Which Python a local platform asks for, and what it is: version, build and whether it can make environments."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mlcube_cli.command import Command, Variable
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job

KINDS = ("system", "virtualenv", "conda", "current")
# Settings of the caller's own Python that would reach into another one (RULINGS 23).
CLEAN = (Variable("PYTHONHOME", None), Variable("PYTHONPATH", None), Variable("VIRTUAL_ENV", None))

_VERSION = re.compile(r"\d+(\.\d+){0,2}\Z")
_QUESTION = """\
import importlib.util as u, os, sys, sysconfig as s
f = [sys.implementation.name, "%d.%d.%d" % sys.version_info[:3], s.get_platform(), str(s.get_config_var("SOABI")),
     "yes" if u.find_spec("venv") and u.find_spec("ensurepip") else "no", sys.executable]
sys.stdout.buffer.write(os.fsencode(chr(10).join(f)))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine. `build` tells processors, systems and binary interfaces apart."""

    executable: str
    implementation: str
    version: str  # "3.11.7"
    build: str
    makes_environments: bool  # venv and ensurepip are there


def interpreter_kind(platform: Platform) -> str:
    """One of KINDS: what the platform says, else a virtual environment where it has requirements.

    Raises DefinitionError for an unknown word, MachineError for pipenv (RULINGS 6).
    """
    option = platform.find("interpreter")
    if option is None or option.value in (None, ""):
        return "virtualenv" if platform.option("requirements") else "system"
    if option.value == "pipenv":
        raise MachineError(f"the interpreter 'pipenv' is not supported ({option.origin})",
                           "use 'interpreter: virtualenv' with 'requirements'; "
                           "'pipenv requirements > requirements.txt' writes that file")
    if option.value not in KINDS:
        raise DefinitionError(f"there is no interpreter {option.value!r} ({option.origin})",
                              f"use one of: {', '.join(KINDS)}")
    return str(option.value)


def wanted_python(platform: Platform) -> str:
    """The `python` option as an executable's name or path; a version (`3.11`) is `python3.11`."""
    value = platform.option("python")
    text = "python3" if value in (None, "") else str(value)
    if _VERSION.match(text):
        return "python" + ".".join(text.split(".")[:2])
    return text


def wanted_version(platform: Platform) -> str | None:
    """The `python` option where it is a version, else None."""
    text = str(platform.option("python"))
    return text if _VERSION.match(text) else None


def locate_python(platform: Platform, root: str, facts: Facts) -> str:
    """The absolute path of the Python that the platform names. Raises MachineError when it is not there."""
    if interpreter_kind(platform) == "current":
        if not facts.python:
            raise MachineError("it is not known which Python runs mlcube", "set 'interpreter: system'")
        return facts.python
    name = wanted_python(platform)
    found = facts.tool(_path(name, root, facts))
    if found is None and platform.option("python") in (None, ""):
        found = facts.tool("python")
    if found is None:
        raise MachineError(absence(platform), f"install it, or name another one: -P{platform.runner}.python=PATH; "
                                              "put a version in quotes: python: '3.10'")
    return found


def absence(platform: Platform) -> str:
    """Why there is no interpreter, in half a sentence."""
    name, option = wanted_python(platform), platform.find("python")
    where = "at that path" if "/" in name else "on PATH"
    return f"there is no {name} {where}" + (f" ({option.origin})" if option else "")


def python_word(job: Job, facts: Facts) -> str:
    """The `python` option as a word for a command: a name for PATH, or an absolute path."""
    return _path(wanted_python(job.platform), job.root, facts)


def _path(name: str, root: str, facts: Facts) -> str:
    if name.startswith("~/") and facts.home:
        return facts.home + name[1:]
    return os.path.normpath(os.path.join(root, name)) if "/" in name else name


def look_at_python(job: Job, facts: Facts) -> Interpreter:
    """The platform's Python with its version and build. Raises MachineError when it is absent or does not work."""
    executable = locate_python(job.platform, job.root, facts)
    said = facts.probe(Command((executable, "-I", "-c", _QUESTION), cwd=job.root))
    fields = said.stdout.split("\n", 5)
    if said.exit_code != 0 or len(fields) != 6:
        last = said.last_line("it says nothing")
        raise MachineError(f"{executable} does not work: {last}", "name a Python 3 that works with 'python'")
    implementation, version, platform, soabi, makes, real = fields
    wanted = wanted_version(job.platform)
    if wanted and not (version + ".").startswith(wanted + "."):
        raise MachineError(f"{executable} is Python {version}, but {wanted} is asked for",
                           f"install Python {wanted}, or ask for '{version.rsplit('.', 1)[0]}'")
    return Interpreter(real or executable, implementation, version, f"{platform} {soabi}", makes == "yes")
