"""A plan as the program of a supervisor: the functions of a POSIX shell, and what they are to do in which order. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import Command, Plan, Step, commands_of, quote, shell_line, task_steps
from mlcube_cli.errors import DefinitionError
from mlcube_cli.locks import file_name
from mlcube_cli.supervision.carrying import COMMAND, STEPS
from mlcube_cli.supervision.functions import function_text, has_plain_name
from mlcube_cli.supervision.locking import LOCKS
from mlcube_cli.supervision.shared import COMMON
from mlcube_cli.supervision.supervisor import EXECUTING
from mlcube_cli.supervision.waiting import FAMILY, WAITING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLANKS = dict.fromkeys((*range(0x20), 0x7f), " ")  # for control characters
FUNCTIONS = COMMON + WAITING + FAMILY + EXECUTING + LOCKS + STEPS + COMMAND


@dataclass(frozen=True)
class Layout:
    """Where a supervised run keeps its files, on the machine where it runs. All paths are absolute ones there."""

    directory: str  # the command's: program, owner, state, said, prepare.log, message, hint
    tasks: Mapping[str, str]  # run id -> the task's: stdout.log, stderr.log, state
    locks: str = ""  # of the locks between runs there (locks.py); empty: there are none
    first: tuple[Command, ...] = ()  # before everything else, as preparation
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # run id -> inputs that must be there just before it
    batch: bool = False  # a batch system starts it, perhaps more than once: the secrets stay, the exit code is the run's
    last_signal: str = "TERM@60"  # of a batch job: what the task gets when its time there is nearly up, how many seconds before


def secrets_of(plan: Plan, layout: Layout | None = None) -> Mapping[str, str]:
    """What the program reads from a file that it removes at once: names of its own, and the values."""
    return {name: value for value, name in _secret_names(plan, layout).items()}


def program(plan: Plan, layout: Layout) -> str:
    """The text of the run's program, which holds no secret. Raises DefinitionError for a secret that no shell can pass on."""
    return "".join(f"{line}\n" for line in _lines(plan, layout))


def _secret_names(plan: Plan, layout: Layout | None) -> Mapping[str, str]:
    """Value -> the name of the program's variable that holds it."""
    commands = [command for step in _all_steps(plan, layout) for command in _all_commands(step)]
    values = dict.fromkeys(variable.value for command in commands for variable in command.env
                           if variable.secret and variable.value is not None)
    return {value: f"mlc_secret_{number}" for number, value in enumerate(values, 1)}


def _all_steps(plan: Plan, layout: Layout | None) -> tuple[Step, ...]:
    if layout is None or not layout.first:
        return plan.steps
    *before, last = layout.first
    return (Step("prepare the directory of this run", last, before=tuple(before)), *plan.steps)


def _all_commands(step: Step) -> tuple[Command, ...]:
    """What the step may start, with what belongs to its end."""
    stop = (step.stop.ask, step.stop.kill, step.stop.remove) if step.stop else ()
    sign = (step.sign.started, *((step.sign.why,) if step.sign.why else ())) if step.sign else ()
    return (*commands_of(step), *stop, *sign)


def _lines(plan: Plan, layout: Layout) -> Iterator[str]:
    secrets = _secret_names(plan, layout)
    token = hashlib.sha256(layout.directory.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    yield "# mlcube: supervises one run, until its end"
    yield FUNCTIONS
    yield f"mlc_directory={quote(layout.directory)} mlc_locks={quote(layout.locks)} mlc_token={token}"
    if layout.batch:
        name, _, notice = layout.last_signal.partition("@")
        yield f"mlc_batch=1 mlc_last_signal={name} mlc_notice={notice or 60}"
    if secrets:
        gone = "" if layout.batch else ' rm -f -- "$mlc_directory/secrets";'
        yield f'if [ -e "$mlc_directory/secrets" ]; then . "$mlc_directory/secrets";{gone} fi'
    calls = [f'"$1" "${{{name}-}}"' for name in secrets.values()]
    yield f"mlc_each_secret() {{ {'; '.join((*calls, ':'))}; }}"
    tasks = [f'"$1" {quote(run)} {quote(directory)}' for run, directory in layout.tasks.items()]
    yield f"mlc_each_task() {{ {'; '.join((*tasks, ':'))}; }}"
    body = _Body(secrets)
    first = len(_all_steps(plan, layout)) - len(plan.steps)
    calls = [f"{body.step(step, silent=number < first)} || return"
             for number, step in enumerate(_all_steps(plan, layout)) if step.task is None]
    for task, steps in zip(plan.tasks, task_steps(plan)):
        values = (task.run_id, layout.tasks[task.run_id], task.task, f"{task.grace:g}", str(int(-(-task.grace // 1))),
                  "" if task.timeout is None else f"{task.timeout:g}")
        needed = layout.needs.get(task.run_id, ())
        inner = [f"mlc_need {' '.join(quote(path) for path in needed)}"] if needed else []
        inner += [body.step(step) for step in steps]
        calls += [f"mlc_begin_task {' '.join(quote(value) for value in values)}", " && ".join(inner) or ":",
                  "mlc_end_task || return"]
    yield from body.lines
    yield "\n".join(("mlc_everything() {", *(f"  {call}" for call in calls), "  :", "}"))
    yield 'mlc_go "$@"'


class _Body:
    """The functions of commands and steps, numbered as they come."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._secrets = secrets
        self._known: dict[Command, str] = {}
        self._steps = 0

    def step(self, step: Step, silent: bool = False) -> str:
        """Define the step's functions; returns the call that carries it out. `silent`: nobody is told that it begins."""
        self._steps += 1
        number = self._steps
        values = {
            "title": step.title.translate(_BLANKS), "step": str(number), "fallback": step.hint,
            "unless": self._names(step.unless), "before": self._names(*step.before), "command": self._names(step.command),
            "otherwise": self._names(step.otherwise), "then": self._names(*step.then), "after": self._names(*step.after),
            "payload": "1" if step.payload else "", "passes_on": "1" if step.passes_on else "", "silent": "1" if silent else "",
        }
        if step.lock:
            values.update(lock_name=file_name(step.lock), lock_key=step.lock.translate(_BLANKS))
        if step.stop:
            values.update(ask=self._names(step.stop.ask), kill=self._names(step.stop.kill),
                          remove=self._names(step.stop.remove))
        if step.sign:
            values.update(sign=self._names(step.sign.started), why=self._names(step.sign.why),
                          codes=" ".join(str(code) for code in step.sign.codes or ()))
        if step.reasons:
            values["reasons"] = f"mlc_reasons_{number}"
            self._reasons(number, step)
        assigned = " ".join(f"mlc_{name}={quote(value)}" for name, value in values.items() if value)
        self.lines.append(f"mlc_set_{number}() {{ mlc_new_step; {assigned}; }}")
        return f"mlc_set_{number} && mlc_carry_out"

    def _reasons(self, number: int, step: Step) -> None:
        cases = [f"    *{quote(reason.text.lower())}*) mlc_reason={quote(reason.sentence)} mlc_help={quote(reason.hint)};;"
                 for reason in step.reasons]
        self.lines += [f"mlc_reasons_{number}() {{", '  case $1 in', *cases, "  esac", "}"]

    def _names(self, *commands: Command | None) -> str:
        return " ".join(self._name(command) for command in commands if command is not None)

    def _name(self, command: Command) -> str:
        if command not in self._known:
            number = len(self._known) + 1
            self._known[command] = f"mlc_c{number}"
            for variable in command.env:
                if variable.secret and variable.value is not None and not has_plain_name(variable):
                    raise DefinitionError(f"the secret variable '{variable.name}' cannot be passed on without being shown",
                                          "give it a name of letters, digits and _ that no shell uses itself")
            self.lines.append(f"mlc_c{number}() {{\n{function_text(command, number, self._secrets)}\n}}")
            self.lines.append(f"mlc_text_{number}() {{ mlc_text={quote('$ ' + shell_line(command))}; }}")
        return self._known[command]

