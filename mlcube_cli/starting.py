"""Starts one child process, for process.py."""

from __future__ import annotations

import os
from typing import cast

from mlcube_cli.child import Child, Manner, Process, environment_of, unusable
from mlcube_cli.command import Command
from mlcube_cli.executables import find_executable
from mlcube_cli.family import MARKER


def get_ready() -> None:
    """Import what starting a step takes: 30 ms that pass unnoticed while a tool is being waited for."""
    import plumbum.machines.local  # noqa: F401, TID251 - this is the place


def start(command: Command, manner: Manner) -> Child:
    """Start it through plumbum, with all that plumbum's own defaults would change said outright.

    plumbum puts its copy of our environment below the one it is given, so that nothing could be removed: hence the
    scoped, emptied copy. Its own lookup knows only our PATH and takes `my-tool` for `my_tool`: hence ours, in the
    command's PATH and directory. Raises OSError or ValueError (`why_not_started` makes the sentence).
    """
    import subprocess  # noqa: TID251 - this is the place

    from plumbum.machines.local import LocalCommand, local  # noqa: TID251 - this is the place

    environment = environment_of(command)
    environment.setdefault("PATH", os.defpath)
    if manner.run_id:
        environment[MARKER] = manner.run_id
    executable = find_executable(command.argv[0], environment, command.cwd)
    if executable is None:
        raise unusable(command)
    captured = not manner.payload
    here = "." if os.access(".", os.X_OK) else "/"  # a directory that we may not enter cannot be started in
    apart = manner.logs is not None or manner.feed is not None  # stdout and stderr each in a pipe of its own
    with local.env():
        local.env.clear()
        process = LocalCommand(executable).popen(
            command.argv[1:], cwd=command.cwd or here, env=environment, bufsize=0,
            stdin=subprocess.PIPE if command.stdin else None if manner.interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE if captured or apart else manner.stdout,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT if captured else None,
            start_new_session=not manner.foreground)
    return Child(cast("Process", process), manner, command.stdin)
