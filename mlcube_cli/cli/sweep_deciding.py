"""A sweep, decided: its members, where their values go, what each reads and writes, and the plan of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.preparing import Asked, Prepared, jobs_of, prepare, wishes_of
from mlcube_cli.cli.queue import preparation_of
from mlcube_cli.command import Command, Plan, Step, merge, quote
from mlcube_cli.definition.model import Cube, Parameter
from mlcube_cli.errors import DefinitionError, MachineError, PreparationError, Problem, UsageError
from mlcube_cli.facts import Answer, Facts, FileText, PathFact, PathKind, Question
from mlcube_cli.job import Job
from mlcube_cli.lock_file import under
from mlcube_cli.observe import with_facts
from mlcube_cli.resolve import Wish, bind
from mlcube_cli.sweep.document import Member, Output, Sweep, sweep_directory
from mlcube_cli.sweep.targets import Editor, Source, Target, find_sources, find_targets
from mlcube_cli.sweep.values import shown

_END = "mlcube_end_of_file"


@dataclass(frozen=True)
class Decided:
    """A sweep with the jobs and plans of those of its members that are to run, in their order; nothing was started so far.

    `preparation`: what comes before all of them, once; then `files`, which writes their parameters files. The plans have the
    members' own steps.
    """

    sweep: Sweep
    members: tuple[Member, ...]
    prepared: Prepared  # its jobs and wishes are theirs
    plans: tuple[Plan, ...]
    preparation: Plan
    files: tuple[Step, ...]
    shared: Mapping[str, str]  # `name=value` of all members alike

    @property
    def identifier(self) -> str:
        """What the runs of this command line share."""
        return self.prepared.jobs[0].command_id

    def as_plan(self) -> Plan:
        """All of it as one plan to be shown, member after member."""
        plan = merge((replace(self.preparation, steps=(*self.preparation.steps, *self.files)), *self.plans))
        return replace(plan, notes=(*self.preparation.notes, *self.notes))

    @property
    def notes(self) -> tuple[str, ...]:
        """The members' values, for whoever reads the plan."""
        return tuple(f"member {member.number}: {shown(member.typed)}" for member in self.members)


@dataclass
class _Layout:
    """What is found out with the first member, and holds for all."""

    members: tuple[Member, ...]  # of the whole sweep
    before: Sweep | None  # a sweep that some members are run again of
    base: Wish | None = None
    sweep: Sweep | None = None
    sources: tuple[Source, ...] = ()
    targets: tuple[Target, ...] = ()
    copies: dict[str, str] = field(default_factory=dict)  # parameter -> the name of its file's copy in a member's directory
    editors: dict[str, Editor] = field(default_factory=dict)

    def find_out(self, arguments: Arguments, cube: Cube, asked: Asked, facts: Facts) -> Facts:
        """Raises UsageError, DefinitionError."""
        if len(asked.tasks) > 1:
            raise UsageError(f"a sweep runs one task, and {len(asked.tasks)} are named",
                             "sweep them one after the other; what they share is an input")
        (base,) = wishes_of(arguments, asked)
        _refuse_own_outputs(base)
        self.base = base
        names = tuple(dict.fromkeys(name for member in self.members for name in member.values))
        taken = [one.name for one in base.task.parameters if one.name in base.values]
        for name in names:
            if name in taken:
                raise UsageError(f"'{name}' is set for all members, and for each by --set or the table",
                                 "leave one of them out")
        outputs, facts = with_facts(lambda known: _outputs(cube, base, known), facts)
        self.sources, facts = with_facts(lambda known: find_sources(cube, base, known), facts)
        self.targets = find_targets(names, base.task, self.sources)
        self._name_copies(outputs)
        identifier = self.before.id if self.before else base.run_id.rpartition("-")[0]
        directory = self.before.directory if self.before else sweep_directory(cube.workspace, identifier)
        self.sweep = Sweep(identifier, directory, cube.name, cube.root, base.task.name, asked.platform.name, outputs,
                           self.members, self.before.attempts if self.before else ())
        return facts

    def _name_copies(self, outputs: Sequence[Output]) -> None:
        taken = {output.file for output in outputs}
        for parameter in dict.fromkeys(target.parameter for target in self.targets if target.key):
            source = next(source for source in self.sources if source.parameter == parameter)
            self.copies[parameter] = _free_name(os.path.basename(source.path), parameter, taken)
            self.editors[parameter] = Editor(source)

    def wish(self, member: Member) -> Wish:
        """What is asked of the task for this member."""
        assert self.base is not None and self.sweep is not None
        base, directory = self.base, self.sweep.member_directory(member.number)
        values = {output.name: _as_value(os.path.join(directory, output.file)) for output in self.sweep.outputs}
        values.update({parameter: _as_value(os.path.join(directory, name)) for parameter, name in self.copies.items()})
        values.update({target.parameter: self._typed(member, target) for target in self.targets
                       if not target.key and target.name in member.values})
        return replace(base, values={**base.values, **values}, run_id=f"{base.run_id.rpartition('-')[0]}-{member.number}")

    def _typed(self, member: Member, target: Target) -> str:
        value = member.values[target.name]
        if isinstance(value.data, (dict, list)):
            raise UsageError(f"'{target.name}' is a parameter of task '{self.base.task.name if self.base else ''}': "
                             f"it takes no list or mapping, and member {member.number} gives it one", "give single values")
        return value.text

    def files(self, member: Member) -> dict[str, str]:
        """The copies of parameters files that the member gets: paths and texts."""
        assert self.sweep is not None
        directory = self.sweep.member_directory(member.number)
        return {os.path.join(directory, name): self.editors[parameter].text(
            {target.key: member.values[target.name].data for target in self.targets
             if target.key and target.parameter == parameter and target.name in member.values})
            for parameter, name in self.copies.items()}

    def known(self, member: Member) -> dict[Question, Answer]:
        """What is known of this member's files before they are there."""
        found: dict[Question, Answer] = {}
        for path, text in self.files(member).items():
            found[PathKind(path)] = PathFact("file", real=path, ancestor=os.path.dirname(path))
            found[FileText(path)] = text.encode("utf-8", "surrogateescape")
        return found


def decide(arguments: Arguments, members: tuple[Member, ...], only: Sequence[int] | None = None,
           before: Sweep | None = None) -> Decided:
    """What the command line means for these members, or for the numbers in `only`. `before`: the sweep that they belong to
    already. Raises MLCubeError; nothing is started and nothing written."""
    layout = _Layout(members, before)
    wanted = tuple(member for member in members if only is None or member.number in only)

    def first(line: Arguments, cube: Cube, asked: Asked, facts: Facts) -> tuple[tuple[Wish, ...], tuple[Job, ...], Facts]:
        facts = layout.find_out(line, cube, asked, facts)
        wish = layout.wish(wanted[0])
        jobs, _ = with_facts(lambda known: jobs_of(cube, asked.platform, (wish,), known), facts.learn(layout.known(wanted[0])))
        return (wish,), jobs, facts

    prepared = prepare(arguments, first)
    jobs, plans, facts = _each(prepared, layout, wanted)
    sweep, base = layout.sweep, layout.base
    assert sweep is not None and base is not None
    for argument in jobs[0].paths:
        if argument.direction == "input" and argument.mode == "rw":
            output.warn(f"input '{argument.name}' may be written: all members share {argument.host_path}")
    preparation = preparation_of(plans)
    files = _writing([layout.files(member) for member in wanted])
    own = tuple(replace(plan, steps=plan.own_steps) for plan in plans)
    wishes = tuple(layout.wish(member) for member in wanted)
    return Decided(replace(sweep, platform=prepared.platform_name), wanted,
                   replace(prepared, jobs=jobs, wishes=wishes, facts=facts), own, preparation,
                   files, base.values)


def _each(prepared: Prepared, layout: _Layout, members: Sequence[Member]) -> tuple[tuple[Job, ...], tuple[Plan, ...], Facts]:
    """The job and the plan of each. What is looked up for the first one is known for all, what is looked up for another one
    is its own matter: so a thousand members need one look at the engine."""
    jobs, plans, base = list[Job](), list[Plan](), prepared.facts
    for member in members:
        wish = layout.wish(member)

        def both(known: Facts, wish: Wish = wish) -> tuple[Job, Plan]:
            (job,) = jobs_of(prepared.cube, prepared.platform, (wish,), known)
            job = under(prepared.lock, prepared.queue.on_node(job) if prepared.queue else job)
            return job, prepared.plan(job, known)

        try:
            (job, plan), facts = with_facts(both, base.learn(layout.known(member)), prepared.look)
        except (DefinitionError, MachineError, PreparationError) as error:
            error.message = f"member {member.number} ({shown(member.typed)}): {error.message}"
            raise
        base = facts if member is members[0] else base
        jobs.append(job)
        plans.append(plan)
    return tuple(jobs), tuple(plans), base


# --- outputs ---------------------------------------------------------------------------------------------------------


def _refuse_own_outputs(base: Wish) -> None:
    for parameter in base.task.parameters:
        if parameter.direction == "output" and parameter.name in base.values:
            raise UsageError(f"'{parameter.name}' is an output of task '{base.task.name}': each member has outputs of its own",
                             f"leave {parameter.name}=... out")


def _outputs(cube: Cube, base: Wish, facts: Facts) -> tuple[Output, ...]:
    """The outputs of each member: those that the task would have. A file keeps its name, a directory gets the parameter's."""
    faults: list[Problem] = []
    inputs = {parameter.name for parameter in base.task.parameters if parameter.direction == "input"}
    found: list[Output] = []
    taken: set[str] = set()
    for parameter in base.task.parameters:
        for item in bind(cube, parameter, base, facts, faults) if parameter.direction == "output" else ():
            if not item.is_path:
                continue
            if parameter.name in inputs:
                faults.append(Problem(
                    parameter.location, f"task '{base.task.name}' changes '{parameter.name}' in place, which all members would "
                    "do at once", "shared-output", "give the task an output of another name", path=parameter.name))
            home = os.path.basename(item.path)
            file = _is_file(parameter, item.text)
            found.append(Output(parameter.name, _free_name(home if file else parameter.name, parameter.name, taken)
                                + ("" if file else "/"), home))
    if faults:
        raise DefinitionError(f"task '{base.task.name}' cannot be swept", problems=faults)
    return tuple(found)


def _is_file(parameter: Parameter, text: str) -> bool:
    return parameter.type == "file" or (parameter.type == "unknown" and not text.endswith(("/", "\\")))


def _free_name(wanted: str, parameter: str, taken: set[str]) -> str:
    """A name that nothing else in a member's directory has."""
    name, number = wanted, 1
    while name in taken:
        name = f"{parameter}-{wanted}" if number == 1 else f"{parameter}-{number}-{wanted}"
        number += 1
    taken.add(name)
    return name


def _as_value(path: str) -> str:
    """An absolute path as `name=value` has it: a dollar is a dollar."""
    return path.replace("$", "$$")


# --- before all of them ----------------------------------------------------------------------------------------------


def _writing(members: Sequence[Mapping[str, str]]) -> tuple[Step, ...]:
    """The step that writes these files of each member, in one go; none where there are no files."""
    files = {path: text for member in members for path, text in member.items()}
    if not files:
        return ()
    lines = ["set -eu"]
    for directory in dict.fromkeys(os.path.dirname(path) for path in files):
        lines.append(f"mkdir -p -- {quote(directory)}")
    for path, text in files.items():
        end = _END
        while end in text:
            end += "_"
        lines += [f"cat >{quote(path)} <<'{end}'", *text.split("\n")[:-1 if text.endswith("\n") else None], end]
    script = "\n".join((*lines, "")).encode("utf-8", "surrogateescape")
    count = f"{len(members)} members" if len(members) > 1 else "one member"
    return (Step(f"write the parameters files of {count}", Command(("sh", "-s"), stdin=script),
                 hint="is the disk full, or may the workspace not be written?"),)
