"""What an option is, and the options that several verbs have in common; those of `run` are nearly all `sweep`'s, too."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of a verb; `settings` are argparse's own, `help` is empty for what help does not show."""

    flags: tuple[str, ...]
    help: str
    settings: tuple[tuple[str, Any], ...] = ()  # argparse takes anything here

    @property
    def attribute(self) -> str:
        return str(self.setting("dest") or self.flags[0].lstrip("-").replace("-", "_"))

    @property
    def switch(self) -> bool:
        return bool(self.setting("action") == "store_true")

    def setting(self, name: str) -> Any:  # argparse takes anything here
        return dict(self.settings).get(name)


def option(*flags: str, help: str, **settings: Any) -> Option:  # argparse takes anything here
    """An option with argparse's settings."""
    return Option(flags, help, tuple(settings.items()))


JSON = option("--json", help="print one JSON document", action="store_true")
CUBE = option("--mlcube", metavar="CUBE", help="the cube: a directory or a definition file (same as CUBE)")
PLATFORM = option("--platform", metavar="P", help="a platform's name, or a platform file")
OVERRIDE = option("-P", "-p", "--override", dest="overrides", metavar="KEY=VALUE", action="append", default=[],
                  help="set any value of the definition or platform, typed as YAML (-Pdocker.image=NAME)")
WORKSPACE = option("--workspace", metavar="DIR", help="use this workspace instead of the cube's")
RUNNER = option("--runner", metavar="R", help="")  # the applets' restriction to one runner
DRY_RUN = option("--dry-run", action="store_true", help="print the plan as a shell script; start and write nothing")
QUIET = option("--quiet", action="store_true", help="no messages of ours, only errors")
DEBUG = option("--debug", action="store_true", help="show the Python traceback of an error")
LOG_LEVEL = option("--log-level", "--log_level", metavar="LEVEL", default="warning",
                   choices=("critical", "error", "warning", "info", "debug"),
                   help="as in earlier programs: error and critical mean --quiet, debug means --debug")
COMMON = (QUIET, DEBUG, LOG_LEVEL)

UNTRUSTED = option("--untrusted", action="store_true", help="refuse a cube that reaches beyond its inputs and outputs "
                   "(privileged, host network, setup lines, ...)")
TASK = option("--task", metavar="T[,T]", action="append", default=[],
              help="task names, or run configuration files; several run in this order")
OF_RUN = (
    TASK,
    option("--all", action="store_true", help="every task of the cube, each after those that write what it reads"),
    option("--skip-unchanged", action="store_true", help="leave out a task whose definition, parameters, image, inputs and "
           "outputs are as in its last run"),
    option("--explain", action="store_true", help="say of each task what has changed since its last run"),
    WORKSPACE,
    option("--timeout", metavar="D", help="end each task after this time (90, 30s, 30m, 2h, 1d); exit code 124"),
    option("--grace", metavar="D", default="10s", help="time between TERM and KILL (default 10s)"),
    option("--stamp", metavar="FILE", help="write FILE, only after success (for make)"),
    option("--deps", metavar="FILE", help="write a make dependency file of the inputs (with --stamp)"),
    option("--interactive", action="store_true", help="give the task our stdin and terminal"),
    option("--detach", action="store_true", help="start it in the background, print its id, and return (see mlcube ps)"),
    option("--on-interrupt", metavar="WHAT", choices=("cancel", "detach", "ask"), help="what Ctrl-C does to a run on another "
           "machine or in a batch system: cancel, detach, or ask (of a batch job on a terminal the default)"),
    UNTRUSTED,
    option("--hash", metavar="H", choices=("auto", "full", "sizes", "none"), default="auto",
           help="what the record says of inputs and outputs: full (sha256), sizes (and times), none, or auto: full up to 1 GB "
           "each (the default)"),
    option("--gpus", metavar="G", help="none, a number, all, or device ids"),
    option("--memory", metavar="SIZE", help="memory limit (8g)"),
    option("--cpu", metavar="CPUS", help="the CPUs to use (0-3)"),
    option("--network", metavar="N", help="the network (none, bridge, host)"),
    option("--security", metavar="OPT", help="a security option for the engine"),
    option("--mount", metavar="ro|rw", choices=("ro", "rw"), help="how inputs are mounted, whatever the definition says"),
)

_NOT_OF_SWEEPS = ("task", "all", "skip_unchanged", "explain", "stamp", "deps", "interactive")
OF_SWEEP = (option("--task", metavar="T", action="append", default=[], help="the task's name, or a run configuration file"),
            *(one for one in OF_RUN if one.attribute not in _NOT_OF_SWEEPS))
