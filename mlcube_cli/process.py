"""Runs commands and steps: streams, signals, time limits, exit codes. The only code that starts processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from mlcube_cli.asking import LONGEST, TIMED_OUT
from mlcube_cli.asking import ask as ask
from mlcube_cli.child import Child, Manner, exit_code, manner_of, why_not_started
from mlcube_cli.command import Command, Step, Stop, TaskPlan
from mlcube_cli.errors import Interrupted, MachineError
from mlcube_cli.family import Family
from mlcube_cli.outcome import Outcome as Outcome
from mlcube_cli.signals import Watch
from mlcube_cli.signals import die_by as die_by
from mlcube_cli.starting import start
from mlcube_cli.streams import Tee

_SLACK = 10.0  # seconds that an engine may need beyond the grace period, and for any other of its commands
_LONGEST_TIDY = 600.0  # seconds for a command that removes what a step leaves
_BACKGROUND = 1.0  # seconds between TERM and KILL for what a finished task left running


class Session:
    """Context manager around everything that is run: while it is open, signals end what runs instead of us.

    `forward`: what preparation steps say goes to our stderr as it comes. `locks`: the directory of the locks between
    runs; by default below the cache. `tell` is told, in a sentence, whom we wait for; `announce` gets each step that is
    really started, before it is, `begun` the family of each payload. `signal` is the first signal that came, also after
    the end; whoever opened the session then calls `die_by`.
    """

    def __init__(self, forward: bool = False, locks: str | None = None,
                 tell: Callable[[str], None] = lambda sentence: None, lock_wait: float = 3600.0,
                 announce: Callable[[Step], None] = lambda step: None,
                 begun: Callable[[Family], None] = lambda family: None) -> None:
        self._forward = forward
        self._locks = locks
        self._tell = tell
        self._lock_wait = lock_wait
        self._announce = announce
        self._begun = begun
        self._watch = Watch()
        self._heeded = 0  # signals that were acted upon already, and end nothing more

    def __enter__(self) -> Session:
        self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.__exit__()

    @property
    def signal(self) -> int | None:
        return self._watch.received[0] if self._watch.received else None

    @property
    def interrupted(self) -> bool:
        """Has a signal come that nobody heeded yet?"""
        return len(self._watch.received) > self._heeded

    def heed(self) -> None:
        """From now on the signals that came so far end nothing that is run: what follows is the answer to them."""
        self._heeded = len(self._watch.received)

    def run(self, step: Step, limits: TaskPlan | None = None, stdout: int | None = None,
            logs: tuple[int, int] | None = None) -> Outcome:
        """Run a step to its end; skip it when `unless` succeeds, fall back on `otherwise`, hold its lock meanwhile.

        `limits`: grace period, and for the payload the time limit and whether it has the terminal. `stdout`: the
        descriptor that a payload writes its standard output to. `logs`: what a payload without the terminal writes to
        stdout and stderr goes to these descriptors, too; when nobody reads our own any more, it is ended as by SIGPIPE.
        Raises nothing for what commands do.
        """
        return self._timed(lambda: self._run(step, manner_of(step, limits, stdout, self._forward, logs)))

    def stream(self, command: Command, feed: Callable[[bytes], object], foreground: bool = False,
               outlets: tuple[Tee, ...] = (), spares: int = 0) -> Outcome:
        """Run a command whose stdout goes to `feed` as it comes; the outcome's tail is what it said on stderr.

        The first signal that nobody heeded ends it at once: "cancelled". What `feed` raises ends it, too, and is
        raised. `foreground`: it keeps the terminal, for questions; Ctrl-C is then its own affair. `outlets`: what `feed`
        writes to; when nobody reads there any more, that is a SIGPIPE of ours. `spares`: so many signals do not end it.
        """
        return self._timed(lambda: self._execute(
            command, Manner(feed=feed, interactive=foreground, grace=0.0, outlets=outlets, spares=spares)))

    def _timed(self, work: Callable[[], Outcome]) -> Outcome:
        began = time.monotonic()
        try:
            outcome = work()
        except Interrupted:
            outcome = Outcome("cancelled", 0, 0.0)
        except MachineError as error:
            outcome = Outcome("environment", 1, 0.0, tail=(error.message, *([error.hint] if error.hint else [])))
        if self.interrupted and outcome.status != "succeeded":
            number = self._watch.received[self._heeded]
            outcome = replace(outcome, status="cancelled", exit_code=128 + number, signal=number)
        return replace(outcome, seconds=time.monotonic() - began)

    def _run(self, step: Step, manner: Manner) -> Outcome:
        self._check()
        if step.unless and self._holds(step.unless):
            return Outcome("succeeded", 0, 0.0)
        from mlcube_cli.cache.uses import keeping

        with self._locked(step), keeping(step.keep):
            if step.lock and step.unless and self._holds(step.unless):
                return Outcome("succeeded", 0, 0.0)
            self._announce(step)
            return self._in_order(step, manner)

    def _in_order(self, step: Step, manner: Manner) -> Outcome:
        """What the step starts, up to the first that fails. Raises Interrupted."""
        outcome = Outcome("succeeded", 0, 0.0)
        for command in (*step.before, step.command, *step.then):
            own = command is step.command
            outcome = self._execute(command, manner if own else Manner(forward=manner.forward, grace=manner.grace))
            if own and step.otherwise and outcome.status in ("failed", "environment"):
                outcome = replace(self._execute(step.otherwise, manner), first=outcome)
            if outcome.status != "succeeded":
                break
        return outcome

    def tidy(self, step: Step) -> bool:
        """What comes after the step, whatever signals come meanwhile; False when its last command fails."""
        return all([self._succeeds(command, _LONGEST_TIDY, sys.maxsize) for command in step.after][-1:])

    def _check(self) -> None:
        if self.interrupted:
            raise Interrupted(self._watch.received[self._heeded])

    def _holds(self, question: Command) -> bool:
        """Does this command succeed? Raises Interrupted."""
        held = self._succeeds(question, LONGEST, 0)
        self._check()
        return held

    @contextlib.contextmanager
    def _locked(self, step: Step) -> Iterator[None]:
        """Hold the step's lock. Without a place for locks, go on without. Raises MachineError, Interrupted."""
        if not step.lock:
            yield
            return
        from mlcube_cli.cache import lock_directory
        from mlcube_cli.locks import lock

        with contextlib.ExitStack() as stack:
            try:
                place = self._locks or lock_directory(os.environ, os.getuid())
                stack.enter_context(lock(place, step.lock, self._lock_wait, self._tell, self._pause))
            except OSError as error:
                self._tell(f"going on without a lock for '{step.title}': {error}")
            yield

    def pause(self, seconds: float) -> None:
        """Sleep for so long, or until a signal comes."""
        self._watch.sleep(seconds, len(self._watch.received))

    def _pause(self, seconds: float) -> None:
        self._watch.sleep(seconds, self._heeded)
        self._check()

    def _execute(self, command: Command, manner: Manner) -> Outcome:
        self._check()
        try:
            child = start(command, manner)
        except (OSError, ValueError) as error:
            code = 126 if isinstance(error, PermissionError) else 127
            return Outcome("environment", code, 0.0, tail=(why_not_started(command, error),), command=command)
        with child:
            if manner.payload:
                self._begun(child.family)
            until = time.monotonic() + manner.timeout if manner.timeout is not None else float("inf")
            ended = self._await(child, until, manner.spares)
            if ended:
                self._tidy(child)
            else:
                self._end(child)
            self._hand_over(child, child.patience(ended, self._watch.received, _SLACK / 2))
        for fault in child.faults():
            self._tell(fault)
        code = exit_code(child.poll() or 0)
        if manner.foreground and code != 128 + signal.SIGINT:
            self._forgive_interrupts()
        if not ended and not self.interrupted:
            return Outcome("timed_out", TIMED_OUT, 0.0, tail=child.tail(), command=command)
        return Outcome("succeeded" if ended and code == 0 else "failed", code, 0.0, tail=child.tail(), command=command)

    # --- waiting ---------------------------------------------------------------------------------------------------

    def _count(self, manner: Manner) -> int:
        """How many signals came that this command is to be ended for.

        A command that has the terminal gets Ctrl-C from it, and decides itself: so do interactive Pythons.
        """
        received = self._watch.received[self._heeded:]
        return len([number for number in received if not (manner.foreground and number == signal.SIGINT)])

    def _forgive_interrupts(self) -> None:
        received = self._watch.received
        received[self._heeded:] = [number for number in received[self._heeded:] if number != signal.SIGINT]

    def _await(self, child: Child, until: float, known: int) -> bool:
        """Serve the child's streams until it ends; False when the time is up or more signals than `known` came."""
        while child.poll() is None:
            left = until - time.monotonic()
            if left <= 0 or self._count(child.manner) > known:
                return False
            child.serve(*self._watch.wait(left, child.readers, child.writers))
            if child.deserted and not self._watch.received:  # in a pipeline Ctrl-C ends the reader as well
                self._watch.received.append(signal.SIGPIPE)  # as if it had written there itself (RULINGS 26)
        return True

    def _hand_over(self, child: Child, seconds: float) -> None:
        """What an ended child wrote last, to whoever reads our streams: as long as that takes, or until a signal."""
        child.drain()
        until, known = time.monotonic() + seconds, len(self._watch.received)
        while child.waiting and time.monotonic() < until and len(self._watch.received) == known:
            child.serve(*self._watch.wait(until - time.monotonic(), (), child.waiting))

    # --- ending ----------------------------------------------------------------------------------------------------

    def _tidy(self, child: Child) -> None:
        """After its own end: nothing that a task started outlives it."""
        manner = child.manner
        if manner.stop is not None:
            if (child.poll() or 0) < 0:  # somebody killed the engine's client: the container may well go on
                self._end(child)
        elif manner.payload:
            if child.family.alive():
                self._end_family(child, _BACKGROUND, min(1, self._count(manner)))
            child.family.bury()

    def _end(self, child: Child) -> None:
        """TERM, the grace period, KILL. One more signal skips what is left of the grace period."""
        known = min(1, self._count(child.manner))  # the first one brought us here; a second may be there already
        if child.manner.stop is not None:
            self._end_container(child, child.manner.stop, known)
        self._end_family(child, 0.0 if child.manner.stop else child.manner.grace, known)

    def _end_family(self, child: Child, grace: float, known: int) -> None:
        family, until = child.family, time.monotonic() + grace
        if grace > 0:
            family.ask_to_end()
        pause = 0.01
        while time.monotonic() < until and self._count(child.manner) <= known:
            if not self._await(child, until, known):
                break
            if not family.alive():
                break
            self._watch.sleep(pause, len(self._watch.received))
            pause = min(0.2, pause * 2)
        if child.poll() is None or child.manner.stop is None:
            family.kill()
        self._await(child, time.monotonic() + _SLACK / 2, self._count(child.manner))
        child.drain()

    def _end_container(self, child: Child, stop: Stop, known: int) -> None:
        """Through the engine, since signals to its client do not reach what runs in the container."""
        manner = child.manner
        until = time.monotonic() + manner.grace
        existed = self._succeeds(stop.ask, manner.grace + _SLACK, known)
        while not existed and child.poll() is None and self._count(manner) <= known and time.monotonic() < until:
            self._await(child, time.monotonic() + 0.2, known)  # it is still being made
            existed = self._succeeds(stop.ask, manner.grace + _SLACK, known)
        if not existed:
            existed = self._succeeds(stop.kill, _SLACK, self._count(manner))
        if not self._await(child, time.monotonic() + (_SLACK / 2 if existed else 0), self._count(manner)):
            child.family.kill()
        self._remove(stop, existed)

    def _remove(self, stop: Stop, existed: bool) -> None:
        """Until it succeeds. A container that nobody saw may still be on its way: then once more, a second later."""
        wanted = 1 if existed else 2
        for pause in (0.0, 0.2, 0.8, 1.0, 1.0, 2.0, 2.0) if existed else (0.0, 1.0, 1.0, 2.0, 2.0):
            self._watch.sleep(pause, len(self._watch.received))
            if self._succeeds(stop.remove, _SLACK, len(self._watch.received)):
                wanted -= 1
            if not wanted:
                return

    def _succeeds(self, command: Command, limit: float, known: int) -> bool:
        """Run a command of ours; True when it succeeded within `limit` seconds. More signals than `known` give it up."""
        try:
            child = start(command, Manner())
        except (OSError, ValueError):
            return False
        with child:
            return self._await(child, time.monotonic() + limit, known) and child.poll() == 0
