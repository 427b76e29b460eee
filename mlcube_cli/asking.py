"""Asks a read-only command, and hears it out. Part of process: nothing else starts what is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from mlcube_cli.child import environment_of, exit_code, why_not_started
from mlcube_cli.command import Command
from mlcube_cli.facts import Observation

TIMED_OUT = 124
LONGEST = 60.0  # seconds for a question


def ask(command: Command, timeout: float = LONGEST, environment: Mapping[str, str] | None = None,
        meanwhile: Callable[[], None] = lambda: None, give_up: Callable[[], bool] | None = None) -> Observation:
    """What a read-only command says. Never raises for what the command does. `meanwhile` is done while it works.

    Exit code 127 when the program is absent, 126 when it cannot be executed, 124 after `timeout` seconds or soon after
    `give_up` says so, 128+n after signal n. The command stays in our process group: Ctrl-C reaches it, and `sudo` may ask.
    """
    import subprocess  # noqa: TID251 - this is the place

    try:
        process = subprocess.Popen(
            command.argv, env=environment_of(command, environment), cwd=command.cwd, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL)
    except (OSError, ValueError) as error:
        code = 126 if isinstance(error, PermissionError) else 127
        return Observation(code, "", why_not_started(command, error))
    try:
        meanwhile()
        stdin, until = command.stdin or None, time.monotonic() + timeout
        while True:
            try:
                stdout, stderr = process.communicate(stdin, 0.05 if give_up else timeout)
                break
            except subprocess.TimeoutExpired:
                if give_up is None or give_up() or time.monotonic() > until:
                    raise
                stdin = None  # it is being written
    except subprocess.TimeoutExpired:
        return Observation(TIMED_OUT, "", f"{command.argv[0]} gave no answer within {timeout:g} seconds")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return Observation(exit_code(process.returncode), stdout.decode("utf-8", "surrogateescape"),
                       stderr.decode("utf-8", "surrogateescape"))
