"""The variables that a local platform gives its task: `env`, and which GPUs it sees."""

from __future__ import annotations

from mlcube_cli.command import Variable
from mlcube_cli.definition.model import Data, Option
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.variables import NAME
from mlcube_shell.gpus import HIDDEN, chosen_devices, parse_gpus, share_of


def platform_variables(job: Job, facts: Facts) -> tuple[Variable, ...]:
    """The variables of `gpus` and `env`; a null in `env` passes the caller's value, which it has anyway.

    Raises DefinitionError for a name that no shell could set, and for a value that is not one text.
    """
    option = job.find_option("env")
    variables = list(_gpu_variables(job, facts))
    if option is None or option.value in (None, "", {}):
        return tuple(variables)
    if not isinstance(option.value, dict):
        raise DefinitionError(f"'env' must be a map of names and values ({option.origin})",
                              "write env:, and below it NAME: value")
    for name, value in option.value.items():
        if not NAME.match(name):
            raise DefinitionError(f"{name!r} cannot be a variable's name ({option.origin})",
                                  "use letters, digits and underscores")
        if value is not None:
            variables.append(Variable(name, _text(name, value, option), option.hides(name)))
        elif name in facts.environment and name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"):
            variables.append(Variable(name, facts.environment[name]))  # asked for by name: not taken away
    return tuple(variables)


def passed_but_unset(job: Job, facts: Facts) -> tuple[str, ...]:
    """Names that `env` passes on from a caller who does not have them."""
    env = job.option("env")
    pairs = env.items() if isinstance(env, dict) else ()
    return tuple(name for name, value in pairs if value is None and name not in facts.environment)


def _text(name: str, value: Data, option: Option) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise DefinitionError(f"the variable {name} must have one value ({option.origin})", f"write {name}: text")


def _gpu_variables(job: Job, facts: Facts) -> tuple[Variable, ...]:
    """`gpus` as CUDA_VISIBLE_DEVICES: ids, or the first N that the caller was given; `all` changes nothing, `none` hides."""
    option = job.find_option("gpus")
    if option is None or option.value in (None, "", []):
        return ()
    request = parse_gpus(option)
    if request.forbidden:
        return tuple(Variable(name, value) for name, value in HIDDEN)
    if request.count < 0:
        return ()
    return (Variable("CUDA_VISIBLE_DEVICES", ",".join(chosen_devices(request, share_of(facts, "CUDA_VISIBLE_DEVICES")))),)
