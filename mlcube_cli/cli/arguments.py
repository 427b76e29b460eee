"""The command line: one table of verbs and options, and the quick reader for command lines that are plain.

argparse costs as much to import as an interpreter (on Python 3.14 twice that), so it is there for help, for errors and
for every command line that leaves room for doubt; parser.py builds it from the same table.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.cli.options import (
    COMMON,
    CUBE,
    DRY_RUN,
    JSON,
    OF_RUN,
    OF_SWEEP,
    OVERRIDE,
    PLATFORM,
    RUNNER,
    TASK,
    UNTRUSTED,
    WORKSPACE,
    Option,
    option,
)
from mlcube_cli.errors import UsageError

if TYPE_CHECKING:
    from typing import Any


class Arguments:
    """A command line, read: an attribute for each option of the verb, and the positional words."""

    words: list[str]

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...  # as argparse.Namespace

        def __setattr__(self, name: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Verb:
    """A command: its options, what its positional words are, its examples."""

    name: str
    summary: str
    options: tuple[Option, ...]
    words: str  # usage text of the positional words
    examples: tuple[str, ...]
    aliases: tuple[str, ...] = ()


VERBS = (
    Verb("describe", "show what is inside a cube", (CUBE, WORKSPACE, JSON, *COMMON), "[CUBE]",
         ("mlcube describe examples/mnist", "mlcube describe --json . | python3 -m json.tool")),
    Verb("validate", "check definitions: all problems at once, each with its place and a hint",
         (CUBE, option("--strict", action="store_true", help="warnings are errors too"), JSON, *COMMON), "[CUBE ...]",
         ("mlcube validate", "mlcube validate --strict cubes/*")),
    Verb("show-config", "print the effective definition as YAML, with where each value came from",
         (CUBE, PLATFORM, OVERRIDE, WORKSPACE,
          option("--resolve", action="store_true", help="replace ${...} by its value"), JSON, *COMMON),
         "[CUBE] [NAME=VALUE ...]",
         ("mlcube show-config . --platform docker", "mlcube show-config . --resolve -Pdocker.image=mine:1"),
         aliases=("show_config",)),
    Verb("configure", "prepare a cube: build or pull its image, make its Python environment",
         (CUBE, PLATFORM, RUNNER, OVERRIDE, WORKSPACE, DRY_RUN,
          option("--force", action="store_true", help="make it anew"),
          option("--update-lock", action="store_true", help="whatever the lock says; then lock what came of it"),
          UNTRUSTED, JSON, *COMMON),
         "[CUBE]",
         ("mlcube configure . --platform docker", "mlcube configure . --platform=platforms/docker.yaml --dry-run")),
    Verb("run", "run tasks of a cube", (CUBE, PLATFORM, RUNNER, OVERRIDE, *OF_RUN, DRY_RUN, JSON, *COMMON),
         "[CUBE[:TASK[/GROUP]]] [NAME=VALUE ...]",
         ("mlcube run examples/mnist --platform local --task sample,train",
          "mlcube run . --task train data_dir=/data/mnist -Pdocker.gpus=all",
          "mlcube run . --all --skip-unchanged --explain",
          "mlcube run . --task train --platform gpu-box --detach",
          "mlcube run . --task train --dry-run | less")),
    Verb("sweep", "run a task many times with values that differ, here or as one array of batch jobs; compare what came of it",
         (CUBE, PLATFORM, RUNNER, OVERRIDE,
          option("--set", dest="sets", metavar="NAME=V,V", action="append", default=[],
                 help="the values of a parameter, or of a key of its parameters file: 0.1,0.01 or 1..5 or 0..1..0.25; several "
                 "make all combinations"),
          option("--from", dest="table", metavar="FILE", help="a CSV table: a row of names, then a member a row"),
          option("-j", "--jobs", dest="jobs", metavar="N", help="how many members run at once (here: 1)"),
          option("--fail-fast", action="store_true", help="start no more members once one has failed"),
          *OF_SWEEP, DRY_RUN,
          option("--failed", action="store_true", help="retry: those, too, that failed"),
          option("--metric", metavar="M", help="table, plot: the number of metrics.json that counts (accuracy, test.loss)"),
          option("--max", dest="largest", action="store_true", help="table, plot: the largest is the best"),
          option("--min", dest="smallest", action="store_true", help="table, plot: the smallest is the best"),
          option("--sort", action="store_true", help="table: the best first"),
          option("--csv", action="store_true", help="table: print CSV"),
          option("--against", metavar="NAME", help="plot: the value, or metric, across"),
          option("--by", metavar="NAME", help="plot: what the colours stand for"),
          option("-o", "--output", dest="output", metavar="FILE", help="plot: write the SVG to FILE"),
          JSON, *COMMON),
         "[CUBE] [NAME=VALUE ...] | status | retry | table | plot [SWEEP]",
         ("mlcube sweep . --task train --set learning_rate=0.1,0.01 --set seed=1..5 -j 4",
          "mlcube sweep . --task train --from table.csv --platform cluster --detach",
          "mlcube sweep status",
          "mlcube sweep retry --failed",
          "mlcube sweep table --metric accuracy --sort",
          "mlcube sweep plot --metric accuracy --against learning_rate -o sweep.svg")),
    Verb("doctor", "could this cube's tasks run on this platform? Looks at its engine and image, and at a cluster's node",
         (CUBE, PLATFORM, RUNNER, OVERRIDE, WORKSPACE, UNTRUSTED,
          option("--timeout", metavar="D", help="how long to wait for a cluster's node to be free (5m)"), JSON, *COMMON),
         "[CUBE]",
         ("mlcube doctor . --platform docker", "mlcube doctor . --platform cluster --timeout 1h")),
    Verb("inspect", "show which image a platform has here: its id, digests, architecture, and whether it is the locked one",
         (CUBE, PLATFORM, RUNNER, OVERRIDE, UNTRUSTED, JSON,
          option("--format", metavar="F", choices=("text", "json", "yaml"), help="text, json or yaml (default text)"),
          option("--output-file", "--output_file", metavar="FILE", help="write it to FILE (as JSON, unless --format)"),
          option("--force", action="store_true", help="configure first where the image is not here"), *COMMON),
         "[CUBE]",
         ("mlcube inspect . --platform docker", "mlcube inspect . --platform docker --format yaml --output-file hash.yaml")),
    Verb("lock", "write which image each platform has into the cube's lock file, which run and configure then keep to",
         (CUBE, option("--platform", dest="platforms", metavar="P", action="append", default=[],
                       help="lock this platform; may be given several times (default: all whose image is here)"),
          UNTRUSTED, JSON, *COMMON),
         "[CUBE]",
         ("mlcube lock", "mlcube lock . --platform docker --platform singularity")),
    Verb("create", "write a small cube that works, to start from", (
        option("--dialect", metavar="D", choices=("inline", "directory", "mlbox"), default="inline",
               help="inline (one file, the default), directory, or mlbox"),
        option("--platform", metavar="P[,P]", default="local",
               help="local (the default), docker, podman, singularity, apptainer; several with commas"),
        option("--image", metavar="IMAGE", help="the base image of its build file: one with Python 3 in it"),
        JSON, *COMMON), "NAME",
         ("mlcube create mine", "mlcube create ./mine --dialect directory --platform local,docker --image debian-with-python")),
    Verb("migrate", "write the same cube in another dialect, into a directory of its own", (
        CUBE,
        option("--to", metavar="D", choices=("inline", "directory"), help="the dialect: inline or directory"),
        option("--output", metavar="DIR", help="the new directory (default: CUBE-DIALECT, beside the cube)"),
        option("--without-workspace", action="store_true", help="leave out what lies in the cube's workspace"),
        option("--dry-run", action="store_true", help="print the definition files; write nothing"),
        JSON, *COMMON), "[CUBE]",
         ("mlcube migrate examples/mnist --to inline --dry-run", "mlcube migrate . --to directory --output ../as-directory")),
    Verb("config", "show and change the settings: platforms of your own, for every cube",
         (option("--list", action="store_true", help="print what the settings say, yours over the site's (the default)"),
          option("--get", metavar="KEY", help="print one value or section (platforms.gpu-box.gpus)"),
          option("--set", metavar="KEY=VALUE", action="append", default=[], help="set a value, typed as YAML"),
          option("--unset", metavar="KEY", help="remove a value or section"),
          *(option(f"--{name}", f"--{name.replace('-', '_')}", nargs=2, metavar=words, help=text) for name, words, text in (
              ("create-platform", ("RUNNER", "NAME"), "make a platform (RUNNER: docker, singularity, ssh, ...)"),
              ("rename-platform", ("OLD", "NEW"), "give a platform another name"),
              ("copy-platform", ("OLD", "NEW"), "make a platform like another one"),
              ("rename-runner", ("OLD", "NEW"), "give an entry of 'runners' another name"))),
          option("--update-platforms", "--update_platforms", action="store_true",
                 help="with --rename-runner: in the platforms, too"),
          option("--remove-platform", "--remove_platform", metavar="NAME", help="remove a platform"),
          option("--remove-runner", "--remove_runner", metavar="NAME", help="remove an entry of 'runners'"),
          option("--remove-platforms", "--remove_platforms", action="store_true",
                 help="with --remove-runner: its platforms, too"),
          option("--show-origin", "--show_origin", action="store_true", help="with --list, --get: where each value stands"),
          option("--site", action="store_true", help="the site's file only (/etc/mlcube/settings.yaml)"), JSON, *COMMON),
         "", ("mlcube config --create-platform ssh gpu-box", "mlcube config --set platforms.gpu-box.platform=docker",
              "mlcube config --list --show-origin")),
    Verb("cache", "show what mlcube keeps and can make again, and free what nothing needs",
         (option("--older-than", metavar="D", help="prune: free environments and images, too, that were not used for this "
                 "time (1h, 30d)"),
          option("--kind", metavar="K[,K]", action="append", default=[],
                 help="only these: environment, image, build, verdict, digest, questions, lock"),
          option("--dry-run", action="store_true", help="prune: list what would go; remove nothing"), JSON, *COMMON),
         "list|prune", ("mlcube cache list", "mlcube cache prune --dry-run", "mlcube cache prune --older-than 30d")),
    Verb("ps", "list what runs, and what ran lately: here, on other machines, in a cluster's queue",
         (option("--all", action="store_true", help="all that are remembered"), JSON, *COMMON), "",
         ("mlcube ps", "mlcube ps --all --json")),
    Verb("logs", "show what a run printed (the newest one, unless RUN says which)",
         (option("-f", "--follow", dest="follow", action="store_true", help="and what it goes on to print, until it ends; "
                 "Ctrl-C leaves it alone"), *COMMON), "[RUN]",
         ("mlcube logs", "mlcube logs -f 3f9a2c")),
    Verb("wait", "wait until a run ends; the exit code is its task's", (JSON, *COMMON), "[RUN]",
         ("mlcube wait", "mlcube wait 3f9a2c && mlcube fetch 3f9a2c")),
    Verb("cancel", "end a run, its processes and its container, wherever it runs",
         (option("--now", action="store_true", help="at once, without the time between TERM and KILL"),
          option("--no-wait", action="store_true", help="do not wait until it has ended"), *COMMON), "[RUN]",
         ("mlcube cancel", "mlcube cancel 3f9a2c --now")),
    Verb("fetch", "bring home the outputs of a run on another machine, as they are now", (*COMMON,), "[RUN]",
         ("mlcube fetch", "mlcube fetch 3f9a2c")),
    Verb("sync", "send what tasks need to another machine, fetch what they made, or compare, by hand",
         (CUBE, PLATFORM, RUNNER, OVERRIDE, WORKSPACE, TASK, option("--dry-run", action="store_true", help="list files and "
          "bytes; send and fetch nothing"), UNTRUSTED, JSON, *COMMON), "push|pull|status [CUBE] [NAME=VALUE ...]",
         ("mlcube sync status . --platform gpu-box", "mlcube sync push . --platform gpu-box --task train --dry-run",
          "mlcube sync pull . --platform gpu-box --task train")),
    Verb("reap", "remove what killed runs left: containers, processes, directories of ours that nobody owns any more",
         (option("--yes", action="store_true", help="do not ask"),
          option("--dry-run", action="store_true", help="list it; remove nothing"), JSON, *COMMON), "",
         ("mlcube reap --dry-run", "mlcube reap --yes")),
    Verb("runs", "look at the records of runs: list them, show one, verify its inputs and outputs, run it again",
         (CUBE, WORKSPACE,
          option("--all", action="store_true", help="list: the runs of all cubes that were started from this account"),
          OVERRIDE,
          option("--strict", action="store_true",
                 help="rerun: refuse where anything differs from the record; verify: what cannot be told differs, too"),
          DRY_RUN, JSON, *COMMON),
         "[list | show RUN | verify RUN | rerun RUN]",
         ("mlcube runs", "mlcube runs show 20261122T041217-3f9a2c", "mlcube runs verify 3f9a2c --json",
          "mlcube runs rerun 3f9a2c --dry-run")),
    Verb("schema", "print a bundled JSON Schema, or list them", (*COMMON,), "[NAME]",
         ("mlcube schema", "mlcube schema mlcube_task")),
    Verb("links", "make links by which the spellings of earlier programs work", (*COMMON,), "DIR",
         ("mlcube links ~/.local/bin",)),
)


def find_verb(name: str) -> Verb:
    """The verb of that name or alias. Raises UsageError that names the nearest one."""
    for verb in VERBS:
        if name == verb.name or name in verb.aliases:
            return verb
    from mlcube_cli.definition.hints import nearest

    guess = nearest(name, [verb.name for verb in VERBS])
    raise UsageError(f"there is no command '{name}'",
                     f"did you mean 'mlcube {guess}'?" if guess else "mlcube --help lists the commands")


def parse(verb: Verb, argv: list[str]) -> Arguments:
    """The verb's arguments. Raises UsageError; an unknown option names what was probably meant."""
    arguments = read_plain(verb, argv)
    if arguments is None:
        from mlcube_cli.cli.parser import parse_all

        arguments = parse_all(verb, argv)
    _refuse_empty(verb, arguments)
    return arguments


def _refuse_empty(verb: Verb, arguments: Arguments) -> None:
    """An empty value is what a shell makes of an unset variable, as in `--workspace=$DIR`: never what was meant."""
    for one in verb.options:
        value = getattr(arguments, one.attribute)
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(f"{one.flags[0]} has an empty value", "leave it out, or check the variable that it comes from")
    if "" in arguments.words:
        raise UsageError("one of the words is empty", "leave it out, or check the variable that it comes from")


def read_plain(verb: Verb, argv: list[str]) -> Arguments | None:
    """The same as argparse makes of it, as long as each word is clearly an option, its value, or neither; else None."""
    known = {flag: option for option in verb.options for flag in option.flags}
    values: dict[str, Any] = {option.attribute: False if option.switch else option.setting("default")
                              for option in verb.options}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--":
            words += rest
            break
        if not word.startswith("-"):
            words.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in known and not word.startswith("--"):  # -Pname=value
            flag, equals, value = word[:2], word[2:], word[2:]
        option = known.get(flag)
        if option is None or (option.switch and equals) or option.setting("nargs"):
            return None
        if not option.switch and not equals:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        if option.setting("choices") and value not in option.setting("choices"):
            return None
        many = option.setting("action") == "append"
        values[option.attribute] = option.switch or ([*values[option.attribute], value] if many else value)
    return Arguments(**values, words=words)


def overview(version: str) -> str:
    """The text of `mlcube --help`."""
    width = max(len(verb.name) for verb in VERBS)
    lines = [f"mlcube {version}: run machine-learning cubes in containers (docker, podman, apptainer) or in plain Python,",
             "on this machine, on another one over ssh, or as jobs of a Slurm cluster", "",
             "usage: mlcube COMMAND [CUBE] [options]      CUBE: a directory or a definition file, default .", "", "commands:"]
    lines += [f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS]
    lines += ["", "examples:", "  mlcube describe examples/mnist",
              "  mlcube run examples/mnist --platform local --task sample,train",
              "  mlcube run . --task train --dry-run", "", "mlcube COMMAND --help shows a command's options and examples."]
    return "\n".join(lines) + "\n"
