"""Looking at a real machine behind ssh: every login shell, one that prints, one with a wrong clock, one with little on it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlcube_cli.command import Command, quote
from mlcube_cli.errors import MachineError
from mlcube_cli.facts import Facts, FileDigest, FileText, Observation, PathFact, PathKind, Probe
from mlcube_cli.observe import with_facts
from mlcube_cli.place import Place
from mlcube_cli.process import ask
from mlcube_cli.remembered import recall, remember
from mlcube_cli.there import look_there, reach
from mlcube_shell.docker_engine import Image, find_engine, find_image
from mlcube_shell.ssh_trouble import REASONS
from tests.integration.gpu_box import SHELLS, Box
from tests.world import job_of

pytestmark = pytest.mark.ssh
EVERY_BYTE = bytes(range(256))


def place_of(box: Box, user: str) -> Place:
    return Place((str(box.room / "bin/ssh"), "-T", user, "exec sh -s"), user)


@pytest.mark.parametrize("user", [*SHELLS, "noisy", "bare"])
def test_facts_of_the_machine_there(gpu_box: Box, user: str) -> None:
    there = reach(place_of(gpu_box, user), ask, reasons=REASONS)
    uid, gid, home = gpu_box.text('id -u "$1"; id -g "$1"; getent passwd "$1" | cut -d: -f6', user).splitlines()
    facts = there.facts
    assert (facts.uid, facts.gid, facts.home, facts.cwd) == (int(uid), int(gid), home, home)
    assert (facts.host, facts.processor) == (gpu_box.text("uname -n"), os.uname().machine)
    assert facts.cache == f"{home}/.cache/mlcube"
    assert gpu_box.text('stat -c "%a %U" "$1"', facts.cache) == f"700 {user}"
    assert facts.environment["HOME"] == home and "SSH_CONNECTION" in facts.environment
    assert there.skew == 0.0
    assert bool(there.noise) == (user == "noisy")
    assert there.rsync.startswith("rsync  version") == (user != "bare")
    assert (there.tools["docker"] is None) == (user == "bare")


@pytest.mark.parametrize("user", [*SHELLS, "noisy", "bare"])
def test_answers_of_the_machine_there(gpu_box: Box, user: str) -> None:
    home = gpu_box.text('getent passwd "$1" | cut -d: -f6', user)
    name = os.fsdecode(b"a b\n'$(id)\xff")
    directory = f"{home}/look/{name}"
    file, link = f"{directory}/file", f"{home}/look/link"
    made = gpu_box.ssh(user, f"rm -rf ~/look; mkdir -p {quote(directory)}; ln -s {quote(name)} {link}; "
                             f"printf '{''.join(f'{chr(92)}{byte:03o}' for byte in EVERY_BYTE)}' >{quote(file)}")
    assert made.returncode == 0
    cat, absent = Probe(Command(("cat",), cwd=directory, stdin=EVERY_BYTE)), Probe(Command(("no-such-program",)))
    found = look_there(place_of(gpu_box, user), ask, (
        PathKind(f"{link}/file"), PathKind(f"{link}/new/file"), PathKind("/root/x"), FileText(file), FileDigest(file),
        cat, absent))
    gpu_box.ssh(user, "rm -rf ~/look")
    text = EVERY_BYTE.decode("utf-8", "surrogateescape")
    assert list(found.values()) == [
        PathFact("file", True, True, file, directory, True),
        PathFact("absent", True, True, f"{directory}/new/file", link, True),
        PathFact("absent", False, False, "/root/x", "/root", False), EVERY_BYTE,
        f"sha256:{hashlib.sha256(EVERY_BYTE).hexdigest()}",
        Observation(0, text), Observation(127, "", "cannot start no-such-program: there is no such program on PATH")]
    left = 'find /dev/shm /tmp /run/user -maxdepth 2 -name "mlcube-*" -user "$1"'
    gpu_box.until(f'[ -z "$({left})" ]', user, seconds=20)  # other tests ask the same user's machine at the same time


def test_a_clock_three_hours_behind(gpu_box: Box) -> None:
    assert abs(reach(place_of(gpu_box, "skewed"), ask).skew + 3 * 3600) < 60


def test_what_docker_there_is_asked_comes_in_one_round_trip_the_second_time(gpu_box: Box, tmp_path: os.PathLike[str]) -> None:
    trips: list[Command] = []

    def counted(command: Command, seconds: float) -> Observation:
        trips.append(command)
        return ask(command, seconds)

    decide: Callable[[Facts], Image] = lambda facts: find_image(  # noqa: E731
        find_engine(job_of("docker", {}), facts), "mlcube-test/tiny:latest")
    images = []
    for _ in range(2):
        trips.clear()
        there = reach(place_of(gpu_box, "ada"), counted, questions=recall(str(tmp_path), "ada"), reasons=REASONS)
        images.append(with_facts(decide, there.facts, there.look)[0])
        remember(str(tmp_path), "ada", there.look.asked)
    assert images[0] == images[1] and images[0].present
    assert len(trips) == 1


def test_a_user_who_is_not_there_is_told_in_a_sentence(gpu_box: Box) -> None:
    place = place_of(gpu_box, "ada")
    stranger = replace(place, reach=(*place.reach[:-2], "-l", "nobody-such", *place.reach[-2:]))
    with pytest.raises(MachineError, match=r"ada cannot be reached: the host does not let you in.*Permission denied") as caught:
        reach(stranger, ask, reasons=REASONS)
    assert "ssh HOST" in caught.value.hint
