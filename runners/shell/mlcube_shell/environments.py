"""Python environments of local runs: where they live, how each is made once and whole, how a broken one is noticed.

They live below mlcube's cache, one for each interpreter and content of the requirements (RULINGS 13). Each is made in a
directory of its own and, once it is whole, published by a link under its key; a marker file inside says how it was. So
an interrupted one never counts, an installer whose mlcube was killed can spoil nothing, and one that was purged or moved
is noticed and made again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlcube_cli.command import Command, Step, Variable
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Facts, Tool
from mlcube_cli.job import Job
from mlcube_shell.interpreters import CLEAN, interpreter_kind, look_at_python, python_word, wanted_version
from mlcube_shell.requirements import Requirements, find_requirements
from mlcube_shell.shell_setup import has_setup, setup_lines, with_setup

# The marker holds the number of files, the version and the place. Files that a run may add or leave out do not count.
_COUNT = """find "$1/" -type f ! -name '*.pyc' ! -name mlcube-complete | wc -l"""
_VERSION = """"$1/bin/python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'"""
_PLACE = """cd -P -- "$1" && pwd -P"""

# $1 is the environment. Succeeds when it is whole, where it was made, and its Python starts. It counts as used from then
# on, so that it is not pruned under those who are about to use it.
CHECK = f"""\
touch -c "$1/mlcube-complete" 2>/dev/null
{{ read -r count version && place=$(cat); }} 2>/dev/null <"$1/mlcube-complete" || exit 1
[ "$place" = "$({_PLACE})" ] && [ "$({_COUNT})" -ge "$count" ] && [ "$({_VERSION})" = "$version" ]"""

# $1 is the environment, $2 the Python or its version, $3 uv or conda, $4 where relative requirements start; the rest
# are the installer's words. What an interrupted one left is removed, and one that is not whole; where a whole one is
# made anew, the old one stays for the tasks that use it. Without its file `making`, an installer that goes on after its
# mlcube was killed publishes nothing.
_START = f"""\
set -e
link=$1 python=$2 tool=$3
mkdir -p -- "${{1%/*}}"
[ -L "$1" ] && ({CHECK}) 2>/dev/null || rm -rf -- "$1"
for old in "$1".*; do
  [ "$(readlink "$1")" = "${{old##*/}}/environment" ] || rm -rf -- "$old"
done
made=$(mktemp -d "$1.XXXXXX")
environment=$made/environment
: >"$made/making"
cd -- "$4"
shift 4
printf '%s\\n' "$*" >"$made/requirements\""""
_FINISH = f"""\
set -- "$environment"
count=$({_COUNT})
version=$({_VERSION})
place=$({_PLACE})
rm -- "$made/making"
printf '%s %s\\n%s\\n' "$count" "$version" "$place" >"$1/mlcube-complete"
ln -sfn "${{made##*/}}/environment" "$link\""""
_PIP_INSTALL = """[ "$#" -eq 0 ] || "$environment/bin/python" -m pip install "$@\""""

WITH_PIP = "\n".join((_START, '"$python" -m venv "$environment"', _PIP_INSTALL, _FINISH))
WITH_CONDA = "\n".join((_START, '"$tool" create --yes --prefix "$environment" "$python" pip', _PIP_INSTALL, _FINISH))
# uv does not read pip's settings; sites keep their mirrors there, so what uv was not told comes from pip.
WITH_UV = "\n".join((_START, """\
settings=$("$python" -I -m pip config list 2>/dev/null) || settings=
setting() {
  [ -z "$2" ] || { printf %s "$2"; return; }
  printf '%s\\n' "$settings" | sed -n "s/^[a-z]*\\.$1='\\(.*\\)'\\$/\\1/p" | sed 's/\\\\n/ /g' | head -n 1
}
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
  UV_INDEX_URL=$(setting index-url "${PIP_INDEX_URL:-}")
  UV_EXTRA_INDEX_URL=$(setting extra-index-url "${PIP_EXTRA_INDEX_URL:-}")
  [ -z "$UV_INDEX_URL" ] || export UV_INDEX_URL
  [ -z "$UV_EXTRA_INDEX_URL" ] || export UV_EXTRA_INDEX_URL UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
fi
[ -n "${UV_FIND_LINKS:-}" ] || UV_FIND_LINKS=$(setting find-links "${PIP_FIND_LINKS:-}" | tr -s ' ' ,)
[ -z "$UV_FIND_LINKS" ] || export UV_FIND_LINKS
[ -n "${UV_CONSTRAINT:-}" ] || UV_CONSTRAINT=$(setting constraint "${PIP_CONSTRAINT:-}")
[ -z "$UV_CONSTRAINT" ] || export UV_CONSTRAINT
[ -n "${UV_INSECURE_HOST:-}" ] || UV_INSECURE_HOST=$(setting trusted-host "${PIP_TRUSTED_HOST:-}")
[ -z "$UV_INSECURE_HOST" ] || export UV_INSECURE_HOST
[ -n "${SSL_CERT_FILE:-}" ] || SSL_CERT_FILE=$(setting cert "${PIP_CERT:-}")
[ -z "$SSL_CERT_FILE" ] || export SSL_CERT_FILE
case $(setting no-index "${PIP_NO_INDEX:-}") in 1|true|True|yes|on) [ "$#" -eq 0 ] || set -- --no-index "$@" ;; esac
"$tool" venv --python "$python" "$environment"
[ "$#" -eq 0 ] || "$tool" pip install --python "$environment/bin/python" "$@\"""", _FINISH))

# Settings that would send an installation somewhere else than into the environment.
_INSTALLER = (*CLEAN, Variable("PIP_USER", "0"), Variable("PIP_TARGET", None), Variable("PIP_PREFIX", None),
              Variable("PIP_ROOT", None), Variable("PIP_PYTHON", None), Variable("UV_SYSTEM_PYTHON", None),
              Variable("PIP_NO_INPUT", "1"), Variable("PIP_DISABLE_PIP_VERSION_CHECK", "1"))


@dataclass(frozen=True)
class Environment:
    """An environment that a job needs, whether it is there or not."""

    directory: str
    conda: bool
    title: str
    make: Command
    check: Command  # succeeds when the environment is whole
    checked_as_is: Command  # the same without the platform's shell lines, for looking

    @property
    def python(self) -> str:
        return os.path.join(self.directory, "bin", "python")

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What activating the environment would set, without PATH."""
        return (Variable("CONDA_PREFIX" if self.conda else "VIRTUAL_ENV", self.directory),)


def find_environment(job: Job, facts: Facts) -> Environment | None:
    """The environment that the platform asks for; None where it runs a Python as it is.

    Raises DefinitionError for bad requirements, MachineError when nothing on this machine can make the environment.
    """
    kind = interpreter_kind(job.platform)
    if kind not in ("virtualenv", "conda"):
        return None
    requirements = find_requirements(job, facts)
    if kind == "conda":
        return _conda_environment(job, facts, requirements)
    facts.need(Tool("uv"), Tool(python_word(job, facts)))
    uv = facts.tool("uv")
    if has_setup(job):  # the lines may bring the Python: it is known only once they have run
        python = python_word(job, facts)
        identity = ("setup", _machine(facts), python, *setup_lines(job))
        name = "setup"
    else:
        interpreter = look_at_python(job, facts)
        if not (uv or interpreter.makes_environments):
            raise MachineError(
                f"{interpreter.executable} cannot make virtual environments: it lacks the package python3-venv",
                f"sudo apt install python3-venv, or install uv, or say -P{job.platform.runner}.interpreter=system")
        python = interpreter.executable
        identity = ("virtualenv", interpreter.implementation, interpreter.version, interpreter.build)
        name = f"{interpreter.implementation}-{interpreter.version}"
    directory = _directory(facts, name, identity, requirements)
    return _environment(job, facts, (WITH_UV if uv else WITH_PIP, directory, python, uv or ""), requirements)


def _conda_environment(job: Job, facts: Facts, requirements: Requirements | None) -> Environment:
    option = job.find_option("conda")
    conda = str(option.value) if option and option.value else "conda"
    if not has_setup(job) and facts.tool(conda) is None:
        raise MachineError(f"there is no {conda} on PATH",
                           f"install it, or use a virtual environment: -P{job.platform.runner}.interpreter=virtualenv")
    version = wanted_version(job.platform)
    python = f"python={version}" if version else "python"
    identity = ("conda", _machine(facts), python, *setup_lines(job))
    directory = _directory(facts, "conda", identity, requirements)
    return _environment(job, facts, (WITH_CONDA, directory, python, conda), requirements)


def _environment(job: Job, facts: Facts, how: tuple[str, str, str, str],
                 requirements: Requirements | None) -> Environment:
    script, directory, python, tool = how
    words = (requirements.cwd, *requirements.words) if requirements else (job.root,)
    make = Command(("sh", "-c", script, "mlcube", directory, python, tool, *words), _INSTALLER, job.root)
    check = Command(("sh", "-c", CHECK, "mlcube", directory), CLEAN, job.root)
    for_what = f" for {requirements.shown}" if requirements else ""
    return Environment(
        directory=directory,
        conda=interpreter_kind(job.platform) == "conda",
        title=f"make the Python environment{for_what}",
        make=with_setup(job, facts, make),
        check=with_setup(job, facts, check),
        checked_as_is=check)


def _directory(facts: Facts, name: str, identity: tuple[str, ...], requirements: Requirements | None) -> str:
    import hashlib

    if facts.cache is None:
        raise MachineError("there is no directory that can hold Python environments",
                           "set MLCUBE_HOME to a directory of your own that can be written")
    content = (*identity, "requirements", *(requirements.content if requirements else ()))
    text = "".join(f"{len(part)}:{part}" for part in content)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return os.path.join(facts.cache, "environments", f"{name}-{digest[:20]}")


def _machine(facts: Facts) -> str:
    return facts.probe(Command(("uname", "-sm"))).stdout.strip()


def is_whole(environment: Environment, facts: Facts) -> bool:
    """Whether the environment is there and complete, as far as can be told without the platform's shell lines."""
    return facts.probe(environment.checked_as_is).exit_code == 0


def environment_step(environment: Environment, force: bool = False) -> Step:
    """The step that makes the environment, once for all who ask at the same time; `force` makes it anew."""
    return Step(
        title=environment.title,
        command=environment.make,
        unless=None if force else environment.check,
        lock=environment.directory,
        hint="the installer's own words are above; check the names and versions of the requirements, and the network")
