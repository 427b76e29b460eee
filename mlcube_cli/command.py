"""Commands, steps and plans as values, and the only code that quotes: rendering to shell words, a POSIX script, JSON data."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.job import Argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HIDDEN = "***"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")
_BLANKS = dict.fromkeys((*range(0x20), 0x7f), " ")  # for control characters


@dataclass(frozen=True)
class Variable:
    """An environment variable of a command. `value` None removes it; `secret` values are never printed or recorded."""

    name: str
    value: str | None
    secret: bool = False


@dataclass(frozen=True)
class Command:
    """Words for execve, never a shell string. Building one touches nothing (CONTRIBUTING, rule 1)."""

    argv: tuple[str, ...]
    env: tuple[Variable, ...] = ()  # on top of the caller's environment
    cwd: str | None = None  # None: the caller's
    stdin: bytes | None = None  # None: empty


@dataclass(frozen=True)
class Stop:
    """How something that the process group does not reach (a container) is ended.

    `ask` sends TERM, waits for the grace period and kills; `kill` ends it at once; `remove` makes sure that nothing is
    left, and must succeed when there is nothing. `find` changes nothing, and says something where something is left.
    """

    ask: Command
    kill: Command
    remove: Command
    find: Command | None = None


@dataclass(frozen=True)
class Sign:
    """How an engine's own failure is told from the task's, whatever the exit code (RULINGS 20).

    Where the exit code is one of `codes`, `started` is asked: output means that the task had started, and failed. Where
    it had not, `why` says on stderr what is wrong; without it, the engine's own message is all there is.
    """

    started: Command
    codes: tuple[int, ...] | None = (125, 126, 127)  # those that may be the engine's; None: any but 0
    why: Command | None = None


@dataclass(frozen=True)
class Reason:
    """What is meant when a tool's output holds `text` (case does not count): one sentence, and what to type."""

    text: str
    sentence: str
    hint: str


@dataclass(frozen=True)
class Step:
    """One command of a plan, with those that belong to it. `task` None: preparation, shared by the tasks of one command line.

    In order, under one lock: `before`, `command` (or `otherwise` when it fails), `then`; the first that fails ends the
    step. `after` comes in any case, when the step was begun: it removes what only the step needed.
    """

    title: str  # imperative, for progress and errors: "build image NAME"
    command: Command
    task: str | None = None
    payload: bool = False  # this is the task itself: its exit code is the task's, its stdout is the task's
    unless: Command | None = None  # skip when this succeeds, asked again under the lock
    before: tuple[Command, ...] = ()
    otherwise: Command | None = None  # run when `command` fails (a pull that falls back to a build)
    then: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()  # all of them, whatever becomes of each; when the last one fails, something is left
    lock: str | None = None  # steps with the same lock key never run at the same time on this machine
    keep: str | None = None  # what of the cache it uses: marked as being used meanwhile, so that pruning spares it
    makes: str | None = None  # the image that it makes, a file outside the cache: noted as ours, so that it can be pruned
    stop: Stop | None = None
    passes_on: bool = False  # TERM goes to the command alone: it ends the task itself, and needs its helpers until then
    sign: Sign | None = None  # of a payload behind an engine
    hint: str = ""  # what to do when this step fails
    reasons: tuple[Reason, ...] = ()  # what a failure's last lines mean; the first that fits replaces `hint`


@dataclass(frozen=True)
class TaskPlan:
    """A task of the plan: its arguments, with the path as the task sees it (by parameter name)."""

    task: str
    run_id: str
    arguments: tuple[tuple[Argument, str], ...]
    grace: float = 10.0  # seconds between TERM and KILL
    timeout: float | None = None  # seconds; counts the payload only
    interactive: bool = False
    image: tuple[str, str] | None = None  # what the task runs in: its name, and its id or digest where that is known


@dataclass(frozen=True)
class Plan:
    """Everything that will be started, in order."""

    platform: str
    steps: tuple[Step, ...]
    tasks: tuple[TaskPlan, ...] = ()
    notes: tuple[str, ...] = ()  # warnings and assumptions, for the user
    run_id: str = ""  # what names of temporary things have in them, where no task has one

    @property
    def preparation(self) -> tuple[Step, ...]:
        """The steps that belong to no task: what is made before."""
        return tuple(step for step in self.steps if step.task is None)

    @property
    def own_steps(self) -> tuple[Step, ...]:
        """The steps of its tasks."""
        return tuple(step for step in self.steps if step.task is not None)


def merge(plans: Iterable[Plan]) -> Plan:
    """One plan out of several for the same platform: preparation that stands in several is done once, and first."""
    everything = tuple(plans)
    return Plan(
        platform=everything[0].platform,
        steps=(*dict.fromkeys(step for plan in everything for step in plan.preparation),
               *(step for plan in everything for step in plan.own_steps)),
        tasks=tuple(task for plan in everything for task in plan.tasks),
        notes=tuple(dict.fromkeys(note for plan in everything for note in plan.notes)),
        run_id=everything[0].run_id,
    )


def find_reason(step: Step, lines: Iterable[str]) -> Reason | None:
    """What these lines of a tool's output mean, as far as the step knows; None where it knows nothing of them."""
    text = "\n".join(lines).lower()
    return next((reason for reason in step.reasons if reason.text.lower() in text), None)


def in_shell(lines: tuple[str, ...], command: Command, shell: str = "bash") -> Command:
    """`command` after the user's shell lines (`setup`), in the same shell: its words travel as arguments, not as text."""
    if not lines:
        return command
    script = "\n".join((*lines, 'exec "$@"'))
    return Command((shell, "-c", script, "mlcube", *command.argv), command.env, command.cwd, command.stdin)


# --- rendering -----------------------------------------------------------------------------------------------------


def quote(word: str) -> str:
    """One word for a POSIX shell; newlines, quotes and undecodable bytes (surrogateescape) survive."""
    if word and _PLAIN.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def rsync_shell(argv: Iterable[str]) -> str:
    """Words for rsync's `--rsh`: it splits at spaces alone, keeps what stands in quotes, and takes a doubled quote in quotes
    for one; a backslash means nothing [tried with rsync 3.2]."""
    return " ".join(word if word and _PLAIN.issuperset(word) else "'" + word.replace("'", "''") + "'" for word in argv)


def ssh_value(path: str) -> str:
    """A path as the value of an option of ssh (`-o IdentityFile=...`): `%` begins a token there, a backslash keeps a quote in
    quotes [tried with OpenSSH 9.2]. Such an option holds no `${`, which nothing keeps from being a variable."""
    doubled = path.replace("%", "%%")
    return doubled if _PLAIN.issuperset(path) else '"' + doubled.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shell_line(command: Command) -> str:
    """The command ready to paste, in one line, secrets as `NAME=***`."""
    words = [*assignments(command, quote), *(quote(word) for word in guarded(command.argv))]
    line = " ".join(words)
    return f"cd {quote(command.cwd)} && {line}" if command.cwd else line


def guarded(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The words such that the first one is started: the shell, and `env`, take a first word with `=` for an assignment."""
    return ("sh", "-c", 'exec "$@"', "sh", *argv) if argv and "=" in argv[0] else argv


def assignments(command: Command, word_of: Callable[[str], str]) -> list[str]:
    removed = [word for variable in command.env if variable.value is None for word in ("-u", variable.name)]
    given = [f"{variable.name}={HIDDEN if variable.secret else word_of(variable.value)}"
             for variable in command.env if variable.value is not None]
    return (["env", *removed] if removed else []) + given


def commands_of(step: Step) -> tuple[Command, ...]:
    """All that a step starts, in the order in which it does so."""
    found = (step.unless, *step.before, step.command, step.otherwise, *step.then, *step.after)
    return tuple(command for command in found if command is not None)


def task_steps(plan: Plan) -> tuple[tuple[Step, ...], ...]:
    """The steps of each task of the plan, in their order; a task's own command is the last of its steps."""
    found: list[tuple[Step, ...]] = [()]
    for step in plan.steps:
        if step.task is not None:
            found[-1] += (step,)
            found += [()] if step.payload else []
    return tuple(steps for steps in found if steps)


def stand_in(name: str) -> str:
    """What stands inside a script that a command reads for the value of a secret variable: text that `quote` quotes."""
    return f"<the value of {name}>"


def as_data(step: Step) -> dict[str, object]:
    """A step as JSON data (CONTRACT: mlcube.plan.v1)."""
    command = step.command
    data: dict[str, object] = {
        "title": step.title,
        "argv": list(command.argv),
        "env": {variable.name: HIDDEN if variable.secret else variable.value for variable in command.env},
        "cwd": command.cwd,
        "stdin": None if command.stdin is None else command.stdin.decode("utf-8", "replace"),
    }
    if step.unless:
        data["unless"] = list(step.unless.argv)
    if step.otherwise:
        data["otherwise"] = list(step.otherwise.argv)
    for name in ("before", "then", "after"):
        if getattr(step, name):
            data[name] = [list(command.argv) for command in getattr(step, name)]
    return data
