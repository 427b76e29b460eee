"""`sync push|pull|status`: what a run sends and brings home, by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.choose import assign, choose_tasks
from mlcube_cli.cli.compared import VANISHED, listed_by, written_over
from mlcube_cli.cli.executing import why_failed
from mlcube_cli.cli.listed import here
from mlcube_cli.cli.preparing import Asked, read_request
from mlcube_cli.cli.remote import Remote, find_travelling
from mlcube_cli.cli.sending import alone, look_before_sending, look_for_links
from mlcube_cli.cli.transfer_line import run_told, run_transfer
from mlcube_cli.cli.used import Chosen, Used, judge_problems, used_files
from mlcube_cli.cli.words import Words, sort_out
from mlcube_cli.command import Step
from mlcube_cli.cube_id import keep_id
from mlcube_cli.definition import Reading, read_cube
from mlcube_cli.definition.model import Cube, Platform
from mlcube_cli.errors import DefinitionError, Interrupted, TransferError, UsageError
from mlcube_cli.facts import Facts, PathFact, PathKind
from mlcube_cli.manifest import SUFFIX, Manifest, last_known, renewed, save_manifest
from mlcube_cli.observe import home_of, machine, with_facts
from mlcube_cli.outcome import Outcome
from mlcube_cli.parcels import Listed
from mlcube_cli.process import Session
from mlcube_cli.report import on_one_line
from mlcube_cli.run_index import state_directory
from mlcube_cli.runner import REMOTE, RUNNERS, Carrier

ACTIONS = ("push", "pull", "status")
_SHOWN = 40  # lines of a list on a terminal


@dataclass(frozen=True)
class _Transfer:
    """One direction: what it takes, and what it would do. `kept`: what was changed here, and is not written over."""

    steps: tuple[Step, ...]
    items: tuple[Listed, ...]
    kept: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)

    @property
    def files(self) -> int:
        return len([item for item in self.items if item.kind == "file" and item.change != "deleted"])


def sync(arguments: Arguments) -> int:
    """`mlcube sync`: 0, or CONTRACT's code of what is wrong."""
    if not arguments.words or arguments.words[0] not in ACTIONS:
        raise UsageError("sync what?", "mlcube sync push, mlcube sync pull or mlcube sync status, then CUBE --platform P")
    action = arguments.words[0]
    arguments.mount, arguments.interactive, arguments.grace, arguments.timeout = None, False, 10.0, None
    remote = _remote(arguments, sort_out(arguments.words[1:], arguments.mlcube, arguments.task))
    only_told = arguments.dry_run or action == "status"
    if action == "push" and only_told:
        look_for_links(remote)
    push = _push(remote, only_told) if action in ("push", "status") else None
    pull = _pull(remote) if action in ("pull", "status") else None
    if not only_told:
        push = _transfer(remote, push, pull)
    if arguments.json:
        output.json_result(_document(action, remote, only_told, push, pull))
    elif only_told:
        output.result("".join(f"{line}\n" for line in (*_lines("push", push), *_lines("pull", pull))))
    else:
        for transfer, verb in ((push, "sent to"), (pull, "fetched from")):
            if transfer is not None:
                output.say(f"{_summary(transfer)} {verb} {remote.name}")
    return 0


def _transfer(remote: Remote, push: _Transfer | None, pull: _Transfer | None) -> _Transfer | None:
    """Do it; the push with what it did. Raises TransferError, Interrupted."""
    with Session(forward=output.on_terminal() and not output.QUIET, tell=output.say) as session:
        if push is not None:
            look_before_sending(remote)
            keep_id(remote.load.code[0], state_directory(os.environ, home_of(os.environ)), remote.load.identifier)
            with alone(session, remote):
                push = replace(push, items=_carry_out_telling(session, remote.carrier, push.steps))
        if pull is not None:
            _carry_out(session, pull.steps)
            _agree(remote, pull.kept)
    return push


def _carry_out_telling(session: Session, carrier: Carrier, steps: Sequence[Step]) -> tuple[Listed, ...]:
    """What the steps did; each thing once. To list it before would be to look at every file twice."""
    found: dict[Listed, None] = {}
    for step in steps:
        command = carrier.told(step, doing=True)
        if command is None:
            _carry_out(session, (step,))
            continue
        outcome, said = run_told(session, step.title, command)
        _judge(step, outcome)
        found.update(dict.fromkeys(carrier.listed(step, said)))
    return tuple(found)


def _carry_out(session: Session, steps: Sequence[Step]) -> None:
    for step in steps:
        _judge(step, run_transfer(session, step))


def _judge(step: Step, outcome: Outcome) -> None:
    """Raises TransferError for a failure, Interrupted."""
    if outcome.status == "cancelled":
        raise Interrupted(outcome.signal or 2)
    if outcome.status != "succeeded" and outcome.exit_code != VANISHED:
        raise why_failed(step, outcome, TransferError)


# --- what is meant -----------------------------------------------------------------------------------------------------


def _remote(arguments: Arguments, words: Words) -> Remote:
    """The machine, and what of this cube travels. Raises MLCubeError."""
    facts = machine(os.environ)
    reading = read_cube(read_request(arguments, words, facts))
    cube = reading.cube
    if cube is None:
        raise DefinitionError("this cube cannot be used", problems=reading.problems)
    platform = _platform(arguments, cube, reading)
    tasks = choose_tasks(cube, words.tasks, facts.cwd) if words.tasks else _all_tasks(cube)
    values = assign([task for task, _ in tasks], words.values)
    judge_problems(reading, Used(cube, platform, tasks, used_files(cube, platform, tasks), facts.cwd))
    return _there(arguments, cube, reading, Asked(platform, tasks, values), facts)


def _there(arguments: Arguments, cube: Cube, reading: Reading, asked: Asked, facts: Facts) -> Remote:
    """The machine; of the inputs, those that are here."""
    remote = find_travelling(arguments, cube, reading, asked, facts)
    absent = [parcel for parcel in remote.load.inputs if not os.path.lexists(parcel.here)]
    if arguments.words[0] == "push":
        for parcel in absent:
            output.say(f"input '{parcel.name}' is not sent: there is no {parcel.here}")
    inputs = tuple(parcel for parcel in remote.load.inputs if parcel not in absent)
    return replace(remote, load=replace(remote.load, inputs=inputs))


def _platform(arguments: Arguments, cube: Cube, reading: Reading) -> Platform:
    """The one that is named, else the only one of the cube's that is another machine. Raises UsageError, DefinitionError."""
    others = [platform for platform in cube.platforms if _is_elsewhere(platform)]
    if arguments.platform is not None:
        platform = cube.platform(reading.platform) if reading.platform else None
        if platform is None:
            raise DefinitionError("this platform cannot be used", problems=reading.problems)
        if not _is_elsewhere(platform):
            raise UsageError(f"platform '{platform.name}' (runner {platform.runner}) is this machine: nothing travels",
                             "name a platform of the runner ssh")
        return platform
    if len(others) != 1:
        names = ", ".join(platform.name for platform in others)
        raise UsageError("which machine?", f"--platform with one of: {names}" if names else
                         "the cube names none: give --platform, a platform of your settings or a platform file")
    return others[0]


def _is_elsewhere(platform: Platform) -> bool:
    return platform.runner in RUNNERS and RUNNERS[platform.runner].kind == REMOTE


def _all_tasks(cube: Cube) -> Chosen:
    """Every task with each of its run configurations, or with its defaults where it has none."""
    return [(task, group) for task in cube.tasks for group in (task.groups or (None,))]


# --- what would travel -------------------------------------------------------------------------------------------------


def _push(remote: Remote, only_told: bool) -> _Transfer:
    """What it takes; where it is only told, what it would do."""
    steps, _ = with_facts(lambda known: remote.carrier.push(remote.platform, known, remote.load), remote.here)
    return _Transfer(steps, listed_by(remote.carrier, steps) if only_told else ())


def _pull(remote: Remote) -> _Transfer:
    """What was changed here since it last was as it is there stays; no clock is asked (RULINGS 36)."""
    fact = remote.look_there(PathKind(remote.load.workspace[1]))
    if isinstance(fact, PathFact) and fact.kind == "absent":
        return _Transfer((), ())  # nothing was ever sent there
    items = listed_by(remote.carrier, _pull_steps(remote, ()))
    outputs = remote.load.outputs
    kept = written_over(items, outputs, _last_known(remote))
    return _Transfer(_pull_steps(remote, kept), items, kept)


def _pull_steps(remote: Remote, kept: tuple[str, ...]) -> tuple[Step, ...]:
    suffix = f".from-{''.join(char if char.isalnum() or char in '.-_' else '-' for char in remote.name)}"
    return with_facts(lambda known: remote.carrier.pull(remote.platform, known, remote.load, kept, suffix), remote.here)[0]


# --- afterwards --------------------------------------------------------------------------------------------------------


def _last_known(remote: Remote) -> Manifest:
    return last_known(here(), [parcel.here for parcel in remote.load.outputs])


def _agree(remote: Remote, kept: tuple[str, ...]) -> None:
    """The outputs are here as they are there, but for what was kept."""
    for path in kept:
        output.warn(f"{path} was changed here, and stays; the one from {remote.name} lies beside it")
    directory = here()
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        save_manifest(os.path.join(directory, f"sync-{remote.load.identifier}{SUFFIX}"),
                      renewed(_last_known(remote), kept))
    except OSError as error:
        output.warn(f"what has come home cannot be noted ({error.strerror or error}): the next pull keeps what differs here")


# --- shown -------------------------------------------------------------------------------------------------------------


def _summary(transfer: _Transfer) -> str:
    gone = len([item for item in transfer.items if item.change == "deleted"])
    files = f"{transfer.files} file{'' if transfer.files == 1 else 's'}, {_size(transfer.size)}"
    return f"{files}{f', {gone} deleted' if gone else ''}"


def _lines(name: str, transfer: _Transfer | None) -> list[str]:
    if transfer is None:
        return []
    if not transfer.items:
        return [f"{name}: nothing; all is as it should be"]
    kept = frozenset(transfer.kept)
    lines = [f"  {'kept' if item.path in kept else item.change:<8} {_size(item.size) if item.kind == 'file' else '':>9}  "
             f"{on_one_line(item.path)}" for item in transfer.items]
    if os.isatty(1) and len(lines) > _SHOWN:
        lines = [*lines[:_SHOWN], f"  ... and {len(lines) - _SHOWN} more (all of them with --json, or in a pipe)"]
    return [f"{name}: {_summary(transfer)}", *lines]


def _size(size: int) -> str:
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size} B"


def _document(action: str, remote: Remote, only_told: bool, push: _Transfer | None,
              pull: _Transfer | None) -> dict[str, object]:
    """The document mlcube.sync.v1."""
    return {"schema": "mlcube.sync.v1", "action": action, "platform": remote.platform.name, "host": remote.name,
            "dry_run": only_told, "root": remote.load.root, "push": _direction(push), "pull": _direction(pull)}


def _direction(transfer: _Transfer | None) -> dict[str, object] | None:
    if transfer is None:
        return None
    return {"files": transfer.files, "bytes": transfer.size, "kept": list(transfer.kept), "items": [
        {"path": item.path, "change": item.change, "kind": item.kind, "size": item.size} for item in transfer.items]}
