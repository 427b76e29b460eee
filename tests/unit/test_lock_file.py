"""The lock file and the docker runner under a lock: what is refused, what is pulled, what stays as it was written."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.command import Plan
from mlcube_cli.definition.model import Platform
from mlcube_cli.errors import NOWHERE, DefinitionError, Location, PreparationError
from mlcube_cli.identity import FILE, IMAGE, INPUTS, MANIFEST, Identity, Pin, find_pin, is_same, machine_architecture
from mlcube_cli.lock_file import lock_path, read_lock, with_pins
from mlcube_cli.tree_digest import Ignored, tree_digest
from mlcube_shell import docker
from mlcube_shell.docker_lock import repository, short_repository
from tests.world import World, job_of

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
NAME = "registry.example.org:5000/group/mnist:1"
REPOSITORY = "registry.example.org:5000/group/mnist"
PLACE = Location("mlcube.lock", 8, 19)


def image(**fields: Any) -> dict[str, Any]:
    data = {"Id": A, "RepoDigests": [f"{REPOSITORY}@{B}"], "Os": "linux", "Architecture": "amd64",
            "Config": {"Labels": {}, "Entrypoint": ["x"]}}
    return {"stdout": json.dumps({**data, **fields})}


ABSENT = {"exit_code": 1, "stderr": "Error: No such image"}
LABELLED = {"Labels": {"org.mlcommons.mlcube.inputs": "c" * 64}, "Entrypoint": ["x"]}


def world_of(said: dict[str, Any], engine: str = "docker", **fields: Any) -> World:
    return World(tools={engine: f"/usr/bin/{engine}"}, probes={"image inspect": said},
                 machine={"processor": "x86_64", **fields.pop("machine", {})}, **fields)


def pin(method: str, digest: str, name: str = NAME, architecture: str = "linux/amd64") -> Pin:
    return Pin(name, method, digest, architecture, PLACE)


def job(*pins: Pin, **options: Any) -> Any:
    return job_of("docker", {"image": NAME, **options}, lock="mlcube.lock", pins=pins)


def plan(world: World, *pins: Pin, **options: Any) -> Plan:
    return world.decide(lambda facts: docker.plan(job(*pins, **options), facts))


def configure(world: World, *pins: Pin, **options: Any) -> Plan:
    return world.decide(lambda facts: docker.configure(job(*pins, **options), facts, False))


def argvs(planned: Plan) -> list[str]:
    return [" ".join(step.command.argv) for step in planned.steps]


# --- the docker runner under a lock --------------------------------------------------------------------------------


@pytest.mark.parametrize("locked", [pin(MANIFEST, B), pin(IMAGE, A)])
def test_the_locked_image_runs_by_its_id(locked: Pin) -> None:
    ran, = argvs(plan(world_of(image()), locked))
    assert f" {A} train" in ran and NAME not in ran


@pytest.mark.parametrize(("locked", "found"), [(pin(MANIFEST, C), B), (pin(IMAGE, C), A)])
def test_another_image_is_refused_with_both_digests_and_the_place(locked: Pin, found: str) -> None:
    with pytest.raises(PreparationError) as refused:
        plan(world_of(image()), locked)
    assert C in refused.value.message and found in refused.value.message
    assert (refused.value.location, refused.value.exit_code) == (PLACE, 5)
    assert "mlcube configure --platform docker --update-lock" in refused.value.hint


def test_an_absent_image_is_pulled_by_digest_named_and_run_by_digest() -> None:
    pull, tag, run = argvs(plan(world_of(ABSENT), pin(MANIFEST, B)))
    assert pull == f"docker pull {REPOSITORY}@{B}"
    assert tag == f"docker tag {REPOSITORY}@{B} {NAME}"
    assert f" {REPOSITORY}@{B} train" in run


def test_configure_gets_the_locked_image_in_place_of_another() -> None:
    assert argvs(configure(world_of(image()), pin(MANIFEST, C)))[0] == f"docker pull {REPOSITORY}@{C}"


def test_an_image_known_by_its_id_alone_cannot_be_fetched() -> None:
    for call in (plan, configure):
        with pytest.raises(PreparationError, match=f"{C}.*\n.*no image of that name") as refused:
            call(world_of(ABSENT), pin(IMAGE, C))
        assert refused.value.hint.startswith("load the locked image")


def test_another_name_than_the_locked_one_is_refused() -> None:
    with pytest.raises(PreparationError, match="asks for another image"):
        plan(world_of(image()), pin(MANIFEST, B, "other:1"))


BUILT = {"paths": {"/cube/Dockerfile": "file"}, "texts": {"/cube/Dockerfile": "FROM x"}}


def built_world(said: dict[str, Any]) -> tuple[World, str]:
    """A world with a build file, and the digest of what would be built there now."""
    world = world_of(said, **BUILT)
    planned = world.decide(lambda facts: docker.configure(job_of("docker", {"image": NAME}), facts, False))
    argv = planned.steps[0].command.argv
    return world, "sha256:" + argv[argv.index("--label") + 1].partition("=")[2]


def test_a_built_image_is_built_where_it_is_absent_and_never_pulled() -> None:
    world, digest = built_world(ABSENT)
    build, _ = argvs(plan(world, pin(INPUTS, digest)))
    assert build.startswith("docker build") and "pull" not in build
    with pytest.raises(PreparationError, match="strategy is 'pull'"):
        plan(built_world(ABSENT)[0], pin(INPUTS, digest), build_strategy="pull")


def test_a_built_image_from_other_inputs_is_refused() -> None:
    world, digest = built_world(image(Config=LABELLED))
    with pytest.raises(PreparationError, match=C) as refused:
        plan(world, pin(INPUTS, digest))
    assert digest in refused.value.message
    for call in (plan, configure):
        with pytest.raises(PreparationError, match="have changed since it was locked") as refused:
            call(world, pin(INPUTS, B))
        assert digest in refused.value.message and B in refused.value.message


def test_the_lock_of_another_architecture_says_nothing_and_that_is_said() -> None:
    planned = plan(world_of(image()), pin(MANIFEST, C, architecture="linux/arm64"))
    assert any("not checked" in note and "linux/arm64" in note for note in planned.notes)
    assert any("platform 'docker'" in note for note in plan(world_of(image())).notes)
    assert not plan(world_of(image()), pin(MANIFEST, B)).notes


def test_a_platform_without_an_entry_is_held_to_that_of_another_one_with_the_same_image() -> None:
    def planned(*pins: Pin) -> Plan:
        bound = job_of("docker", {"image": NAME}, lock="mlcube.lock", other_pins=pins)
        return world_of(image()).decide(lambda facts: docker.plan(bound, facts))

    podmans = Pin(NAME, MANIFEST, B, "linux/amd64", PLACE, "podman")
    ran, = argvs(planned(podmans))
    assert f" {A} train" in ran
    with pytest.raises(PreparationError, match="locked for platform 'podman'\n"):
        planned(Pin(NAME, MANIFEST, C, "linux/amd64", PLACE, "podman"))
    for other in (pin(MANIFEST, C, "other:1"), pin(FILE, C)):
        assert any("not checked" in note for note in planned(other).notes)


# --- identity and pin ----------------------------------------------------------------------------------------------


def identity(said: dict[str, Any], engine: str = "docker", with_recipe: bool = False, **options: Any) -> Identity:
    world = world_of(said, engine, **(BUILT if with_recipe else {}))
    given = {"docker": engine, "image": NAME, **options}
    return world.decide(lambda facts: docker.identify(job_of("docker", given), facts))


@pytest.mark.parametrize(("said", "options", "method", "digest"), [
    (image(), {}, MANIFEST, B),
    (image(RepoDigests=[]), {}, IMAGE, A),
    (image(RepoDigests=[f"elsewhere/mnist@{B}"]), {}, IMAGE, A),
    (image(Config=LABELLED), {"with_recipe": True}, MANIFEST, B),  # built here once, then pushed or pulled
    (image(Config=LABELLED), {"with_recipe": True, "build_strategy": "build"}, INPUTS, C),
    (image(Config=LABELLED, Id=B), {"with_recipe": True}, INPUTS, C),  # a store that has a manifest for every image
    (image(Config=LABELLED), {"with_recipe": True, "engine": "podman"}, INPUTS, C),
    (image(Config=LABELLED, RepoDigests=None), {"with_recipe": True}, INPUTS, C),
    (image(Config=LABELLED, RepoDigests=[]), {}, IMAGE, A),
    (image(Id="a" * 64, RepoDigests=[f"localhost/{REPOSITORY}@{B}"]), {"engine": "podman"}, IMAGE, A),
])
def test_how_an_image_is_locked(said: dict[str, Any], options: dict[str, Any], method: str, digest: str) -> None:
    found = identity(said, **options)
    assert found.pin == Pin(NAME, method, digest, "linux/amd64")
    assert is_same(found.pin, found)


def test_an_absent_image_has_no_identity() -> None:
    assert identity(ABSENT) == Identity(NAME, "image", present=False)


@pytest.mark.parametrize(("name", "own", "short"), [
    ("debian", "debian", "debian"),
    ("debian:12", "debian", "debian"),
    ("docker.io/library/debian:12", "docker.io/library/debian", "debian"),
    ("host:5000/a/b", "host:5000/a/b", "host:5000/a/b"),
    ("host:5000/a/b:c", "host:5000/a/b", "host:5000/a/b"),
    (f"a/b:c@{A}", "a/b", "a/b"),
])
def test_repository(name: str, own: str, short: str) -> None:
    assert (repository(name), short_repository(name)) == (own, short)


def test_which_pin_holds() -> None:
    facts = World(machine={"processor": "aarch64"}).facts()
    arm, amd, inputs = (pin(MANIFEST, A, architecture="linux/arm64"), pin(MANIFEST, B), pin(INPUTS, C, architecture="linux/x"))
    assert machine_architecture(facts) == "linux/arm64"
    assert find_pin(job(amd, arm).pins, facts, "linux/amd64") is arm
    assert find_pin(job(amd).pins, facts, "linux/amd64") is amd
    assert find_pin(job(amd).pins, facts) is None
    assert find_pin(job(amd, inputs).pins, facts) is inputs  # build inputs are the same everywhere


# --- the file ------------------------------------------------------------------------------------------------------


def written(place: Path, text: str) -> Path:
    (place / "mlcube.lock").write_text(textwrap.dedent(text).lstrip())
    return place / "mlcube.yaml"


def platform(name: str, runner: str = "docker") -> Platform:
    return Platform(name, runner, (), NOWHERE)


def test_the_lock_lies_beside_the_definition() -> None:
    assert [lock_path(name) for name in ("/c/mlcube.yaml", "/c/mlbox.yml", "/c/mlcube.cpu.yaml")] == [
        "/c/mlcube.lock", "/c/mlbox.lock", "/c/mlcube.cpu.lock"]


def test_entries_are_written_in_order_and_read_with_their_places(tmp_path: Path) -> None:
    definition = str(tmp_path / "mlcube.yaml")
    text = with_pins(read_lock(definition, str(tmp_path), None), [("z", pin(FILE, C)), ("docker", pin(MANIFEST, A))])
    (tmp_path / "mlcube.lock").write_text(text)
    lock = read_lock(definition, str(tmp_path), None)
    found, = lock.pins(platform("docker"))
    assert found == Pin(NAME, MANIFEST, A, "linux/amd64", Location("mlcube.lock", 8, 19), "docker")
    assert text.splitlines()[7] == f'        "digest": "{A}"'
    assert list(json.loads(text)["platforms"]) == ["docker", "z"]
    assert with_pins(lock, [("docker", found)]) == text


def test_a_platform_without_an_entry_is_held_to_its_runners(tmp_path: Path) -> None:
    definition = str(tmp_path / "mlcube.yaml")
    (tmp_path / "mlcube.lock").write_text(with_pins(read_lock(definition, str(tmp_path), None), [("docker", pin(MANIFEST, A))]))
    lock = read_lock(definition, str(tmp_path), None)
    assert lock.pins(platform("podman")) == lock.pins(platform("docker")) != ()
    assert lock.pins(platform("singularity", "singularity")) == ()
    assert lock.other_pins(platform("singularity", "singularity")) == lock.pins(platform("docker"))
    assert lock.other_pins(platform("podman")) == ()


def test_what_a_later_version_wrote_is_kept(tmp_path: Path) -> None:
    definition = written(tmp_path, '{"schema": "mlcube.lock.v1", "new": 1, "platforms": {"docker": {"linux/amd64": '
                         f'{{"image": "a", "method": "image", "digest": "{A}", "more": 2}}}}}}}}')
    data = json.loads(with_pins(read_lock(str(definition), "/", None), [("docker", pin(MANIFEST, B))]))
    assert data["new"] == 1
    assert data["platforms"]["docker"]["linux/amd64"] == {"image": NAME, "method": MANIFEST, "digest": B, "more": 2}


@pytest.mark.parametrize(("text", "line", "message"), [
    ('{"schema": "mlcube.lock.v2", "platforms": {}}', 1, "later version"),
    ('{"platforms": {}}', 1, "no lock of mlcube"),
    ("[]", 1, "no lock of mlcube"),
    ("", 0, "the file is empty"),
    ('{"schema": "mlcube.lock.v1",\n "platforms": [1]}', 2, "platforms"),
    ('{"schema": "mlcube.lock.v1"}', 1, "platforms"),
    ('{"schema": "mlcube.lock.v1", "platforms":\n{"docker":\n{"linux/amd64": {"image": "a", "method": "image",\n'
     '"digest": "sha256:12"}}}}', 4, "64 hexadecimal digits"),
    ('{"schema": "mlcube.lock.v1",\n<<<<<<< ours\n"platforms": {}}', 3, ""),
])
def test_a_damaged_lock_is_an_error_with_its_place(tmp_path: Path, text: str, line: int, message: str) -> None:
    definition = written(tmp_path, text)
    with pytest.raises(DefinitionError) as refused:
        read_lock(str(definition), str(tmp_path), None)
    problems = refused.value.problems
    assert problems and problems[0].location.file == "mlcube.lock"
    assert message in problems[0].message
    assert abs(problems[0].location.line - line) <= 1
    assert "lock again: mlcube lock" in problems[0].hint or "update mlcube" in problems[0].hint


def test_a_lock_that_cannot_be_read_is_no_absent_lock(tmp_path: Path) -> None:
    (tmp_path / "mlcube.lock").mkdir()
    with pytest.raises(DefinitionError):
        read_lock(str(tmp_path / "mlcube.yaml"), str(tmp_path), None)


def test_a_lock_of_ours_does_not_change_the_digest_of_what_it_locks(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("pass")
    before = tree_digest((str(tmp_path),))
    (tmp_path / "mlcube.lock").write_text(with_pins(read_lock(str(tmp_path / "mlcube.yaml"), "/", None), []))
    assert tree_digest((str(tmp_path),)) == before
    (tmp_path / "poetry.lock").write_text("[[package]]")
    assert tree_digest((str(tmp_path),)) != before


@pytest.mark.parametrize(("patterns", "ignored", "kept"), [
    (["logs"], ["logs", "logs/a/b"], ["log", "a/logs", "logs2"]),
    (["/logs/", "./tmp"], ["logs/x", "tmp"], ["a/tmp"]),
    (["*.pyc"], ["a.pyc"], ["a/b.pyc"]),
    (["**/*.pyc", "**/__pycache__"], ["a.pyc", "a/b.pyc", "x/__pycache__/y"], ["a.py"]),
    (["*", "!src", "src/*.log"], ["a", "src/x.log"], ["src", "src/main.py"]),
    (["data/**", "!data/keep.txt"], ["data/a", "data/b/c"], ["data/keep.txt", "dat"]),
    (["a?c", "[xy].txt", r"\*.md"], ["abc", "x.txt", "*.md"], ["a/c", "z.txt", "b.md"]),
    (["[z-a]"], [], ["z", "a"]),
])
def test_what_a_dockerignore_keeps_out(patterns: list[str], ignored: list[str], kept: list[str]) -> None:
    judge = Ignored(["\ufeff# a comment", "", *patterns])
    assert [path for path in (*ignored, *kept) if judge(path)] == ignored


def test_ignored_files_do_not_change_what_a_build_is_made_of(tmp_path: Path) -> None:
    root = str(tmp_path)

    def digest(*patterns: str) -> str | None:
        return tree_digest((root,), base=root, ignore=patterns)

    (tmp_path / "logs").mkdir()
    (tmp_path / "main.py").write_text("pass")
    (tmp_path / "logs/keep").write_text("1")
    before, with_exception = digest("logs"), digest("logs", "!logs/keep")
    assert before != with_exception
    (tmp_path / "logs/a").write_text("2")
    assert (digest("logs"), digest("logs", "!logs/keep")) == (before, with_exception)
    assert digest() != before
    (tmp_path / "logs/keep").write_text("3")
    assert digest("logs") == before and digest("logs", "!logs/keep") != with_exception
