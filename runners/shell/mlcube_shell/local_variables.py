"""The variables that a local platform gives its task: `env`, and which GPUs it sees."""

from __future__ import annotations

from mlcube_cli.command import Variable
from mlcube_cli.definition.model import Data, Option
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_cli.variables import NAME
from mlcube_shell.batch_variables import is_of_job
from mlcube_shell.gpus import HIDDEN, chosen_devices, parse_gpus, share_of
from mlcube_shell.passing import PROXIES


def platform_variables(job: Job, facts: Facts) -> tuple[Variable, ...]:
    """The variables of `gpus` and `env`; a null in `env` passes the caller's value, which it has anyway. What a batch system
    starts has the caller's proxies, and what `env` names, from us.

    Raises DefinitionError for a name that no shell could set, and for a value that is not one text.
    """
    option = job.find_option("env")
    variables = [*_gpu_variables(job, facts), *_proxies(job, facts)]
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
        elif job.batch and name in facts.environment and not is_of_job(name):
            variables.append(Variable(name, facts.environment[name], secret=True))
        elif name in facts.environment and name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"):
            variables.append(Variable(name, facts.environment[name]))  # asked for by name: not taken away
    return tuple(variables)


def passed_but_unset(job: Job, facts: Facts) -> tuple[str, ...]:
    """Names that `env` passes on from a caller who does not have them."""
    env = job.option("env")
    pairs = env.items() if isinstance(env, dict) else ()
    return tuple(name for name, value in pairs
                 if value is None and name not in facts.environment and not (job.batch and is_of_job(name)))


def _proxies(job: Job, facts: Facts) -> tuple[Variable, ...]:
    """The caller's proxies for what does not inherit them (RULINGS 12)."""
    found = ((name, facts.environment.get(name)) for name in PROXIES) if job.batch else ()
    return tuple(Variable(name, value, secret="@" in value) for name, value in found if value)


def _text(name: str, value: Data, option: Option) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise DefinitionError(f"the variable {name} must have one value ({option.origin})", f"write {name}: text")


def _gpu_variables(job: Job, facts: Facts) -> tuple[Variable, ...]:
    """`gpus` as CUDA_VISIBLE_DEVICES: ids, or the first N that the caller was given; `all` changes nothing, `none` hides.
    A batch system has chosen them itself."""
    option = job.find_option("gpus")
    if option is None or option.value in (None, "", []):
        return ()
    request = parse_gpus(option)
    if request.forbidden:
        return tuple(Variable(name, value) for name, value in HIDDEN)
    if request.count < 0 or job.batch:
        return ()
    return (Variable("CUDA_VISIBLE_DEVICES", ",".join(chosen_devices(request, share_of(facts, "CUDA_VISIBLE_DEVICES")))),)
