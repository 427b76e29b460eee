"""Looks at a machine behind a Place, as `observe` looks at this one: many questions, one script, one round trip.

A probe there has 60 seconds; up to eight run at the same time. What a login shell prints is kept apart from the answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlcube_cli.command import Command, Reason
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Answer, Facts, Observation, Question, Tool
from mlcube_cli.place import Place, new_nonce
from mlcube_cli.there_answers import TIMED_OUT, Cut, Said, match_answers, read_answer
from mlcube_cli.there_script import SECONDS, base_request, is_answered_here, questions_request

Ask = Callable[[Command, float], Observation]  # process.ask: the command, and the seconds that it has

LONGEST = 1800.0  # seconds for an answer: the digest of an image of many gigabytes takes its time
_LAST = 3  # lines of ssh that an error repeats


class Looker:
    """Answers questions from behind a Place: an `observe.Look` for `with_facts`.

    `asked`: all questions so far, for `remembered.remember`. `known`: answers that came along with the first round trip;
    each of them counts once, since the same question asked again wants to know what has changed. `reasons`: what the
    words of the connection's own tool mean, for errors.
    """

    def __init__(self, place: Place, ask: Ask, reasons: tuple[Reason, ...] = (),
                 known: Mapping[Question, Answer] | None = None) -> None:
        self.place = place
        self.asked: tuple[Question, ...] = ()
        self._ask = ask
        self._reasons = reasons
        self._known = dict(known or {})

    def __call__(self, questions: tuple[Question, ...]) -> Mapping[Question, Answer]:
        self.asked = tuple(dict.fromkeys((*self.asked, *questions)))
        found = {question: self._known.pop(question) for question in dict.fromkeys(questions) if question in self._known}
        rest = tuple(question for question in questions if question not in found)
        return {**found, **look_there(self.place, self._ask, rest, self._reasons)}


@dataclass(frozen=True)
class There:
    """What the first round trip told of a machine. `look` answers what else is asked, and knows what was asked along."""

    place: Place
    facts: Facts
    look: Looker
    tools: Mapping[str, str | None] = field(default_factory=dict)  # there_script.TOOLS: absolute path, or None
    rsync: str = ""  # the first line of `rsync --version`; empty where there is none
    skew: float = 0.0  # seconds that its clock is ahead of ours, beyond what the round trip took
    noise: str = ""  # what its login shell prints before anything runs: rsync breaks of it (RULINGS 33)


def look_there(place: Place, ask: Ask, questions: tuple[Question, ...],
               reasons: tuple[Reason, ...] = (), seconds: int = SECONDS) -> dict[Question, Answer]:
    """The answers of the machine there, in one round trip; in none where they can be told without.

    `ask` is `process.ask`. `seconds`: for a probe. Raises MachineError when the place does not answer: `reasons` say what
    its last lines mean.
    """
    if all(is_answered_here(question) for question in questions):
        return match_answers(questions, Said())
    nonce = new_nonce()
    said, _ = _exchange(place, ask, questions_request(nonce, questions, seconds), nonce, reasons)
    try:
        return match_answers(questions, said, seconds)
    except Cut as cut:
        raise _unanswered(place, Observation(0), cut, reasons) from None


def reach(place: Place, ask: Ask, questions: tuple[Question, ...] = (), reasons: tuple[Reason, ...] = ()) -> There:
    """The first round trip: what is always to be known, and the answers to `questions`, which are those that the caller
    expects to need (`remembered.recall`). Raises MachineError as `look_there`."""
    nonce = new_nonce()
    began = time.time()
    said, observation = _exchange(place, ask, base_request(nonce, questions), nonce, reasons)
    try:
        look = Looker(place, ask, reasons, match_answers(questions, said))
        return _there(look, said, (began, time.time()))
    except (Cut, KeyError, ValueError):
        raise _unanswered(place, observation, Cut(True), reasons) from None


def _there(look: Looker, said: Said, window: tuple[float, float]) -> There:
    """Raises KeyError or ValueError for an answer that lacks something."""
    values = said.values
    uid, gid = (int(word) for word in values["ids"].split())
    *host, processor = values["uname"].split()
    facts = Facts(
        uid=uid, gid=gid, home=os.path.normpath(values["home"]), cwd=values["cwd"], environment=said.environment,
        cache=os.path.normpath(values["cache"]) if values["cache"] else None, processor=processor, host=" ".join(host),
        answers={Tool(name): path for name, path in said.tools.items()})
    return There(look.place, facts, look, said.tools, values.get("rsync", ""), _skew(int(values["time"]), window), said.noise)


def _skew(second: int, window: tuple[float, float]) -> float:
    """How far the clock there is ahead (behind: negative), for sure: it said `second`, whole, at a time within `window`."""
    began, ended = window
    return second - ended if second > ended else min(0.0, second + 1 - began)


def _exchange(place: Place, ask: Ask, script: str, nonce: str, reasons: tuple[Reason, ...]) -> tuple[Said, Observation]:
    observation = ask(place.command(script), LONGEST)
    try:
        return read_answer(observation.stdout, nonce), observation
    except Cut as cut:
        raise _unanswered(place, observation, cut, reasons) from None


# --- when nothing, or not all, comes back ----------------------------------------------------------------------------


def _unanswered(place: Place, said: Observation, cut: Cut, reasons: tuple[Reason, ...]) -> MachineError:
    """The error for a place that did not answer, with what its own tool said last."""
    name = place.name or "this machine"
    lines = [line for line in said.stderr.splitlines() if line.strip()][-_LAST:]
    spoken = said.stderr.lower()
    known = next((reason for reason in reasons if reason.text.lower() in spoken), None)
    if known:
        return MachineError(f"{name} cannot be reached: {known.sentence}: {lines[-1].strip()}", known.hint)
    if said.exit_code == TIMED_OUT:
        return MachineError(f"{name} gave no answer: {said.stderr}", "look whether it is overloaded, or a disk of it hangs")
    words = f": {' / '.join(line.strip() for line in lines)}" if lines else ""
    if cut.begun:
        return MachineError(f"the answer of {name} stopped in the middle{words}",
                            "the connection was cut, or its disks are full: try again")
    noise = [line for line in cut.noise.splitlines() if line.strip()]
    words = words or (f": it said: {noise[-1].strip()}" if noise else f" (exit code {said.exit_code})")
    by_hand = " ".join(place.reach) if place.name else "sh"
    return MachineError(f"{name} does not carry out commands{words}",
                        f"try by hand what mlcube does: echo true | {by_hand}")
