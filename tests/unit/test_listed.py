"""The entry of a command line in the index, as the process that attends to it writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.cli.listed import Listed
from mlcube_cli.run_index import Entry, RunTask, read_index

ID = "20260102T030405-3f9a2c"


def test_a_job_that_is_queued_again_waits_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def seen() -> tuple[str, str, str]:
        (entry,) = read_index(str(tmp_path / "mlcube/runs")).entries
        return entry.tasks[0].status, entry.tasks[0].node, entry.tasks[0].waiting

    task = RunTask("train", f"{ID}-1", "/nowhere", "queued")
    listed = Listed(Entry(ID, 1.5, "cube", "/c", "/w", "cluster", "local", (task,)))
    listed.stand(task.run_id, "running", "node1", "")
    assert seen() == ("queued", "node1", ""), "its own word that it runs is still to come"
    listed.begin(task.run_id)
    listed.stand(task.run_id, "queued", "", "queued again: BeginTime")
    assert seen() == ("queued", "", "queued again: BeginTime")
    listed.stand(task.run_id, "running", "node2", "")
    assert seen() == ("running", "node2", "")
    listed.stand(task.run_id, "", "node2", "")
    assert seen() == ("running", "node2", ""), "nothing was said of it"
