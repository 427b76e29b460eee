"""A command as a function of a shell that becomes it: its directory, its variables, its stdin, its words. Pure."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Variable, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_TAKEN = frozenset((  # what shells set or read themselves: assigning to them does not make them a child's, or is an error
    "IFS", "OPTIND", "OPTARG", "OPTERR", "PWD", "OLDPWD", "_", "UID", "EUID", "PPID", "SHELLOPTS", "GROUPS", "DIRSTACK",
    "FUNCNAME", "RANDOM", "SECONDS", "LINENO", "HISTCMD", "EPOCHSECONDS", "EPOCHREALTIME", "SRANDOM", "COMP_WORDBREAKS"))


def has_plain_name(variable: Variable) -> bool:
    """Can any shell export it by its name? Else only `env` can set it, in whose words its value stands."""
    name = variable.name
    return name.isidentifier() and name.isascii() and name not in _TAKEN and not name.startswith(("BASH", "mlc_"))


def function_text(command: Command, number: int, secrets: Mapping[str, str]) -> str:
    """The lines of the function. `mlc_enter` and `mlc_become` are the program's own (supervisor.EXECUTING).

    `secrets`: the value of a secret variable -> the name of the program's own variable that holds it. What goes to stdin is
    kept in a file called after `number`.
    """
    name = command.argv[0] if command.argv else ""
    lines = [] if command.cwd is None else [f"mlc_enter {quote(command.cwd)} {quote(name)}"]
    plain = [variable for variable in command.env if has_plain_name(variable)]
    lines += [f"unset {variable.name}" for variable in plain if variable.value is None]
    for variable in plain:
        if variable.value is not None:
            value = f'"${{{secrets[variable.value]}-}}"' if variable.secret else quote(variable.value)
            lines.append(f"{variable.name}={value}; export {variable.name}")
    if command.stdin is not None:
        text = command.stdin.decode("utf-8", "surrogateescape").replace("\\", "\\\\").replace("\0", "\\0000")
        place = f'"$mlc_directory/input.{number}"'
        lines.append(f"printf %b {quote(text)} >{place}; exec <{place}")
    odd = _by_env([variable for variable in command.env if variable not in plain])
    # `env` takes a word with `=` for an assignment
    argv = ("sh", "-c", 'exec "$@"', "sh", *command.argv) if odd and "=" in name else command.argv
    lines.append(" ".join(quote(word) for word in ("mlc_become", name, *odd, *argv)))
    return "\n".join(f"  {line}" for line in lines)


def _by_env(variables: list[Variable]) -> tuple[str, ...]:
    removed = [word for variable in variables if variable.value is None for word in ("-u", variable.name)]
    given = [f"{variable.name}={variable.value}" for variable in variables if variable.value is not None]
    return ("env", *removed, *given) if variables else ()
