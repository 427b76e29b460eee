"""Which path of another machine stands for which path of this one, and a job moved over there. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from mlcube_cli.command import Command
from mlcube_cli.definition.model import Platform
from mlcube_cli.facts import Answer, FileDigest, FileText, PathFact, PathKind, Probe, Question, TreeDigest
from mlcube_cli.job import Argument, Job

IMAGES = (".sif", ".simg", ".img")  # made there, or asked for there: they do not travel with the code
Look = Callable[[tuple[Question, ...]], Mapping[Question, Answer]]


@dataclass(frozen=True)
class Relocation:
    """Pairs (path here, path there): the workspace, the cube's code, and what else travels. Absolute, normalised.

    `travelling`: the paths here that tasks read and write there. Of the workspace only those are the same on both sides;
    of the cube's code everything is, less images. `mirror`: what the code there is a copy of when the run begins.
    """

    workspace: tuple[str, str]
    code: tuple[str, str]
    elsewhere: tuple[tuple[str, str], ...] = ()
    travelling: tuple[str, ...] = ()
    mirror: str = ""

    def there(self, path: str) -> str:
        """The path there that stands for a path here; a path that nothing stands for means the same on both machines."""
        for here, there in (self.workspace, self.code, *self.elsewhere):
            if is_at_or_below(path, here):
                return _joined(there, path[len(here):])
        return path

    def here(self, path: str) -> str | None:
        """The path here whose content a path there will have once all has travelled; None where this machine cannot tell."""
        for here, there in (self.workspace, self.code, *self.elsewhere):
            if is_at_or_below(path, there):
                found = _joined(here, path[len(there):])
                return found if self._is_same(found, of_code=(here, there) == self.code) else None
        return None

    def moves(self, path: str) -> bool:
        """Does something else there stand for this path here?"""
        return any(is_at_or_below(path, here) for here, _ in (self.workspace, self.code, *self.elsewhere))

    def _is_same(self, path: str, of_code: bool) -> bool:
        if of_code:
            return not path.endswith(IMAGES)
        return any(is_at_or_below(path, other) or is_at_or_below(other, path) for other in self.travelling)


def is_at_or_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def meet(one: str, other: str) -> bool:
    """Are these paths the same, or does one lie in the other?"""
    return is_at_or_below(one, other) or is_at_or_below(other, one)


def _joined(base: str, rest: str) -> str:
    rest = rest.strip("/")
    return os.path.join(base, rest) if rest else base


def moved(job: Job, relocation: Relocation, platform: Platform) -> Job:
    """The job as the other machine sees it, on the platform that runs there. What is copied here was copied before."""
    arguments = tuple(argument if argument.text is not None else
                      replace(argument, host_path=relocation.there(argument.host_path)) for argument in job.arguments)
    return replace(job, arguments=arguments, root=relocation.code[1], workspace=relocation.workspace[1], platform=platform,
                   copies=())


def outputs_that_stay(jobs: Iterable[Job], relocation: Relocation) -> tuple[Argument, ...]:
    """The outputs at absolute paths of the other machine: they are not brought here."""
    return tuple(argument for job in jobs for argument in job.paths
                 if argument.direction == "output" and not relocation.moves(argument.host_path))


# --- looking at two machines -----------------------------------------------------------------------------------------


def looking_at_both(relocation: Relocation, here: Look, there: Look) -> Look:
    """Answers questions about the other machine as it will be once all has travelled: what travels is looked at here."""

    def look(questions: tuple[Question, ...]) -> Mapping[Question, Answer]:
        of_here = {question: moved_back for question in questions
                   if (moved_back := _question_here(question, relocation)) is not None}
        of_there = {question: _question_there(question, relocation) for question in questions if question not in of_here}
        found = here(tuple(of_here.values())) if of_here else {}
        answers: dict[Question, Answer] = {question: _moved_answer(found[asked], relocation)
                                           for question, asked in of_here.items()}
        absent = tuple(question for question in of_here if _is_absent(answers[question])
                       and not _is_of_code(question, relocation))  # of the code there is nothing there but what travels
        asked_there = tuple(dict.fromkeys((*of_there.values(), *absent)))
        said = there(asked_there) if asked_there else {}
        answers.update({question: _of_copy(said[asked], relocation) if asked != question else said[asked]
                        for question, asked in of_there.items()})
        answers.update({question: said[question] for question in absent if not _is_absent(said[question])})
        return answers

    return look


def looking_before_moving(is_here: Callable[[str], bool], here: Look, there: Look) -> Look:
    """Answers questions about paths as the definition means them: those of this machine, and those of the other one."""

    def look(questions: tuple[Question, ...]) -> Mapping[Question, Answer]:
        near = tuple(question for question in questions
                     if not isinstance(question, (PathKind, FileText)) or is_here(question.path))
        far = tuple(question for question in questions if question not in near)
        return {**(here(near) if near else {}), **(there(far) if far else {})}

    return look


def _question_here(question: Question, relocation: Relocation) -> Question | None:
    if isinstance(question, (PathKind, FileText, FileDigest)):
        path = relocation.here(question.path)
        return replace(question, path=path) if path is not None else None
    if isinstance(question, TreeDigest):
        paths = tuple(relocation.here(path) for path in question.paths)
        if None in paths:
            return None
        back = {path: relocation.here(path) or path for path in (*question.exclude, question.base)}
        return replace(question, paths=tuple(path for path in paths if path is not None),
                       exclude=tuple(back[path] for path in question.exclude), base=back[question.base])
    return None


def _question_there(question: Question, relocation: Relocation) -> Question:
    """What is asked of the run's own copy of the code is asked of the mirror, and a command that will run in it is asked
    elsewhere: the copy is not there yet."""
    if isinstance(question, Probe) and question.command.cwd and is_at_or_below(question.command.cwd, relocation.code[1]):
        return Probe(Command(question.command.argv, question.command.env, None, question.command.stdin))
    if isinstance(question, (PathKind, FileText, FileDigest)) and _is_of_code(question, relocation):
        return replace(question, path=_exchanged(question.path, relocation.code[1], relocation.mirror))
    return question


def _is_of_code(question: Question, relocation: Relocation) -> bool:
    return (isinstance(question, (PathKind, FileText, FileDigest)) and relocation.mirror != ""
            and is_at_or_below(question.path, relocation.code[1]))


def _of_copy(answer: Answer, relocation: Relocation) -> Answer:
    """What was said of the mirror, as it will hold for the copy."""
    if not isinstance(answer, PathFact):
        return answer
    real, ancestor = (_exchanged(path, relocation.mirror, relocation.code[1]) for path in (answer.real, answer.ancestor))
    return replace(answer, real=real, ancestor=ancestor)


def _exchanged(path: str, directory: str, other: str) -> str:
    return _joined(other, path[len(directory):]) if is_at_or_below(path, directory) else path


def _is_absent(answer: Answer) -> bool:
    return isinstance(answer, PathFact) and answer.kind == "absent"


def _moved_answer(answer: Answer, relocation: Relocation) -> Answer:
    if not isinstance(answer, PathFact):
        return answer
    return replace(answer, real=relocation.there(answer.real), ancestor=relocation.there(answer.ancestor))
