"""Would Slurm take the jobs, and could they work there? Asked before anything is queued (RULINGS 41). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Variable
from mlcube_cli.errors import DefinitionError, MachineError
from mlcube_cli.facts import Probe, Tool
from mlcube_cli.quantities import find_bytes, find_time_limit, time_limit_text
from mlcube_shell.options import refuse
from mlcube_shell.slurm_batch import demands_of, overriding
from mlcube_shell.slurm_requests import directives, notes
from mlcube_shell.slurm_sharing import unshared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcube_cli.batch import Batch
    from mlcube_cli.definition.model import Option, Platform
    from mlcube_cli.errors import MLCubeError
    from mlcube_cli.facts import Facts
    from mlcube_cli.job import Job

_CONFIG = Command(("scontrol", "show", "config"))
_NODES = Command(("sinfo", "--noheader", "--Node", "--format=%P|%N|%T|%c|%m|%G|%l|%n"))
_LATER = "try again later; sinfo shows whether it answers"
_EVER = 1 << 40  # seconds
_LARGEST_FILE = 4 << 20  # bytes of a batch file that Slurm takes (max_script_size)
# What Slurm's words are about, and the options that say something of it.
_ABOUT = (
    ("account", ("account", "partition")), ("partition", ("partition",)), ("qos", ("qos",)),
    ("feature", ("constraint",)), ("gres", ("gres", "gpus")), ("generic resource", ("gres", "gpus")),
    ("memory", ("memory",)), ("time limit", ("time",)), ("--time", ("time",)), ("node count", ("nodes",)),
    ("reservation", ("sbatch_args",)), ("license", ("sbatch_args",)), ("unrecognized option", ("sbatch_args",)),
    ("invalid --", ("sbatch_args",)), ("node configuration", ("gpus", "memory", "cpus_per_task", "nodes", "ntasks", "gres")),
)
_WORDS = {"gpus": "--g", "memory": "--mem", "cpus_per_task": "--cpus", "nodes": "--nodes"}
_PROGRAM = re.compile(r"^(sbatch|srun|scontrol|sinfo|slurm_load_\w+): (error|fatal): ")
_NOT_READY = re.compile(r"drain|down|fail|maint|unk|power|inval|not?_?resp|boot|[*~#!%$@^-]", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What of the cluster's configuration matters to us; None where it does not say."""

    kill_wait: int | None = None  # seconds between TERM and KILL when Slurm ends a job
    largest_array: int | None = None  # members of one array, numbered from 1 on


@dataclass(frozen=True)
class Node:
    """One node in one partition, as sinfo has it."""

    partition: str
    name: str
    state: str
    cpus: str
    memory: str  # MB
    gres: str
    limit: int  # seconds that a job may take in the partition; 0: as long as it likes
    default: bool
    host: str

    @property
    def ready(self) -> bool:
        """May jobs start there, now or when others have ended?"""
        return not _NOT_READY.search(self.state)


def check(platform: Platform, batch: Batch, jobs: Sequence[Job], facts: Facts) -> tuple[str, ...]:
    """What the user should know of these jobs. Raises what keeps them from ever working: MachineError where Slurm is not
    there or does not answer (a dry run assumes one that would take them), DefinitionError where the cluster has not what the
    platform asks for. Raises facts.Missing."""
    absence = _absence(platform, facts)
    if absence is not None and not (jobs and all(job.assume for job in jobs)):
        raise absence
    asked = [note for job in jobs for note in notes(platform, job.requirements, job.platform)]
    if absence is not None:
        return tuple(dict.fromkeys((*asked, f"{absence.message}; assumed: a Slurm that takes these jobs")))
    _refuse_large(batch)
    demands = tuple(dict.fromkeys(demands_of(text) for text in batch.files))
    trials = tuple(_trial(lines) for lines in demands)
    facts.need(Probe(_NODES), *(Probe(command) for command in trials))
    nodes, found = nodes_of(facts), list(asked)
    for command, lines in zip(trials, demands):
        said = facts.probe(command)
        if said.exit_code:
            try:
                found.append(_judged(platform, said.stderr or said.stdout, lines, nodes))
            except MachineError as error:  # no option of the platform's is to blame: who else asks for something?
                error.hint = "; ".join((error.hint, *asked))
                raise
    _refuse_long(platform, jobs, nodes)
    return tuple(dict.fromkeys((*found, *unshared(batch, jobs, {node.host for node in nodes}, facts))))


def _absence(platform: Platform, facts: Facts) -> MachineError | None:
    """Why Slurm cannot be asked; None where it can. Raises facts.Missing."""
    facts.need(Tool("sbatch"), Probe(_CONFIG))
    if facts.tool("sbatch") is None:
        return MachineError("there is no sbatch on PATH: this machine is none that jobs are submitted from",
                            f"go through one that is: an ssh platform with 'platform: {platform.name}'")
    config = facts.probe(_CONFIG)
    if config.exit_code in (0, 127):
        return None
    return _unanswered(config.stderr) or MachineError(f"Slurm does not answer: {_words(config.stderr)}", _LATER)


def limits(facts: Facts) -> Limits:
    """The cluster's limits, as far as it tells. Raises facts.Missing."""
    text = facts.probe(_CONFIG).stdout
    largest = _number(text, "MaxArraySize")
    return Limits(_number(text, "KillWait"), largest - 1 if largest else None)


def largest_array(platform: Platform, facts: Facts) -> int | None:
    """How many members one array may have (`Batch.largest`); None where the cluster does not say. Raises facts.Missing."""
    del platform
    return limits(facts).largest_array


def nodes_of(facts: Facts) -> tuple[Node, ...]:
    """The nodes that Slurm has, once for each of their partitions. Raises facts.Missing."""
    found = []
    for line in facts.probe(_NODES).stdout.splitlines():
        words = line.strip().split("|")
        if len(words) == 8:
            partition, name, state, cpus, memory, gres, limit, host = words
            found.append(Node(partition.rstrip("*"), name, state, cpus.rstrip("+"), memory.rstrip("+"), gres,
                              find_time_limit(limit) or 0, partition.endswith("*"), host))
    return tuple(found)


def _number(text: str, name: str) -> int | None:
    found = re.search(rf"(?m)^{name}\s*=\s*(\d+)", text)
    return int(found[1]) if found else None


def _trial(demands: tuple[str, ...]) -> Command:
    """The demands alone, for Slurm to judge."""
    text = "\n".join(("#!/bin/sh", *demands, "exit 0", ""))
    return Command(("sbatch", "--test-only"), tuple(Variable(name, None) for name in overriding(demands)),
                   stdin=text.encode("utf-8", "surrogateescape"))


def _refuse_large(batch: Batch) -> None:
    """Raises DefinitionError for a batch file that sbatch would not take."""
    for text in batch.files:
        data = text.encode("utf-8", "surrogateescape")
        if len(data) > _LARGEST_FILE:
            raise DefinitionError(f"the batch file would have {len(data)} bytes, and Slurm takes {_LARGEST_FILE}",
                                  "write long values into a file, and make it an input")
        if b"\r\n" in data:
            raise DefinitionError("the batch file would hold a line that ends with a carriage return, which sbatch refuses",
                                  "take carriage returns out of 'setup' and of the values")


# --- what Slurm says -----------------------------------------------------------------------------------------------------


def _judged(platform: Platform, said: str, demands: tuple[str, ...], nodes: tuple[Node, ...]) -> str:
    """A note where it is only that nodes are away for the time being; else raises what Slurm refuses."""
    text = _words(said)
    low = text.lower()
    unanswered = _unanswered(said)
    if unanswered:
        raise unanswered
    partition = _partition(demands, nodes)
    there = [node for node in nodes if node.partition == partition]
    away = sorted({node.name for node in there if not node.ready})
    if away and "node configuration" in low and not _too_much(demands, there):
        return (f"no node could take the job just now: {', '.join(away[:8])}{', ...' if len(away) > 8 else ''} of partition "
                f"'{partition}' cannot be used ({', '.join(sorted({node.state for node in there if not node.ready}))}); "
                "the job waits for them")
    raise _refused(platform, text, _too_much(demands, there) if "node configuration" in low else (), partition, nodes)


def _unanswered(said: str) -> MachineError | None:
    """Where Slurm does not answer, or not us: no fault of what is asked for."""
    low = said.lower()
    if any(words in low for words in ("unable to contact", "connection refused", "socket timed out", "communication")):
        return MachineError(f"Slurm does not answer: {_words(said)}", _LATER)
    if any(words in low for words in ("munge", "authentication", "protocol")):
        return MachineError(f"Slurm does not take requests from here: {_words(said)}", "ask whoever looks after the cluster")
    return None


def _too_much(demands: tuple[str, ...], nodes: Sequence[Node]) -> tuple[str, ...]:
    """The options that ask for more of one node than any has, or for more nodes than there are, used or not."""
    asked = dict(line[len("#SBATCH "):].partition("=")[::2] for line in demands)
    count = asked.get("--nodes", "1").partition("-")[0]
    wanted = {"gpus": _gpus(asked.get("--gres", "")), "memory": find_bytes(asked.get("--mem", "")) or 0,
              "cpus_per_task": int(asked.get("--cpus-per-task", "0")), "nodes": int(count) if count.isdigit() else 0}
    most = {"gpus": max((_gpus(node.gres) for node in nodes), default=0),
            "memory": max((int(node.memory) for node in nodes if node.memory.isdigit()), default=0) << 20,
            "cpus_per_task": max((int(node.cpus) for node in nodes if node.cpus.isdigit()), default=0),
            "nodes": len({node.name for node in nodes})}
    return tuple(name for name, amount in wanted.items() if amount > most[name])


def _gpus(resources: str) -> int:
    """How many of them `gpu:2` or `lscratch:100,gpu:a100:4(S:0-1)` are."""
    found = re.findall(r"(?:^|,)gpu(?::[^:,(]*[A-Za-z][^:,(]*)?:(\d+)", resources)
    return sum(int(number) for number in found)


def _refused(platform: Platform, text: str, guilty: tuple[str, ...], partition: str, nodes: tuple[Node, ...]) -> MLCubeError:
    """`guilty`: the options that are known to ask for too much."""
    message, low = f"Slurm would not take the job: {text}", text.lower()
    names = guilty or next((names for word, names in _ABOUT if word in low), ())
    option = next((found for name in names if (found := platform.find(name)) and found.value is not None), None)
    if "account" in low or "qos" in low:
        hint = "sacctmgr show associations user=$USER lists yours, where the cluster keeps accounts"
    elif "partition" in low and nodes:
        hint = f"it has: {', '.join(sorted({node.partition for node in nodes}))}"
    elif "node configuration" in low and nodes:
        hint = f"partition '{partition}' has {_offer([node for node in nodes if node.partition == partition])}"
    elif "gres" in low or "generic resource" in low:
        hint = f"the nodes have: {', '.join(sorted({node.gres for node in nodes if node.gres != '(null)'})) or 'none'}"
    else:
        hint = "sinfo shows what the cluster has; --dry-run shows what is asked for"
    words = platform.find("sbatch_args")
    if option is None and words is not None and _says(words, guilty):
        option = words
    return MachineError(message, hint) if option is None else refuse(option, message, hint)


def _says(words: Option, guilty: tuple[str, ...]) -> bool:
    """May the user's own words be what Slurm refuses? Those that ask for what is too much, if that is known."""
    starts = tuple(_WORDS[name] for name in guilty)
    return any(not starts or str(word).startswith(starts) for word in (words.value if isinstance(words.value, list) else ()))


def _offer(nodes: Sequence[Node]) -> str:
    kinds = dict.fromkeys((node.cpus, node.memory, node.gres) for node in nodes)
    shown = [f"{len({node.name for node in nodes if (node.cpus, node.memory, node.gres) == kind})} x {kind[0]} processors, "
             f"{kind[1]} MB" + (f", {kind[2]}" if kind[2] != "(null)" else "") for kind in list(kinds)[:6]]
    return "; ".join(shown) or "no nodes"


def _words(said: str) -> str:
    """What Slurm's programs print, in one line."""
    lines = [_PROGRAM.sub("", line).strip() for line in said.splitlines()]
    return "; ".join(line for line in lines if line) or "it does not say why"


def _partition(demands: tuple[str, ...], nodes: tuple[Node, ...]) -> str:
    """The partition that is asked for, else Slurm's default one."""
    asked = next((line.partition("=")[2].strip('"') for line in demands if line.startswith("#SBATCH --partition=")), "")
    return asked or next((node.partition for node in nodes if node.default), "")


def _refuse_long(platform: Platform, jobs: Sequence[Job], nodes: tuple[Node, ...]) -> None:
    """Slurm queues a job whose time is longer than its partition allows, and never starts it [T]. Raises DefinitionError."""
    for job in jobs[:1]:
        words = dict(directives(platform, job.requirements, "", job.platform))
        limit = words.get("--time")
        asked = (find_time_limit(limit) or _EVER) if limit else 0
        partitions = (words.get("--partition") or "").split(",")
        allowed = {node.partition: node.limit for node in nodes
                   if node.partition in partitions or (partitions == [""] and node.default)}
        option = platform.find("time") or platform.find("sbatch_args")
        if asked and option and allowed and all(most and asked > most for most in allowed.values()):
            most = max(allowed.values())
            wanted = "no limit" if asked == _EVER else time_limit_text(asked)
            raise refuse(option, f"partition '{next(iter(allowed))}' lets a job take {time_limit_text(most)}, and "
                         f"{wanted} is asked for", f"-Pslurm.time={time_limit_text(most)}, or another partition"
                         + _longer(nodes, asked))


def _longer(nodes: tuple[Node, ...], seconds: int) -> str:
    found = list(dict.fromkeys(node.partition for node in nodes if not node.limit or node.limit >= seconds))
    return f": {', '.join(found)}" if found else ""
