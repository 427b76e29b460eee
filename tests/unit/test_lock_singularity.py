"""Image files under a lock, what a recipe is made from, digests of files and names: in an invented world, and on loopback."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube_cli.cache.digests import file_digest
from mlcube_cli.command import Plan
from mlcube_cli.errors import Location, PreparationError
from mlcube_cli.facts import FileDigest, Probe
from mlcube_cli.identity import FILE, IMAGE, INPUTS, MANIFEST, Identity, Pin
from mlcube_cli.observe import look
from mlcube_shell import singularity
from mlcube_shell.singularity_build import copied_files
from tests.world import World, job_of

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
IMAGE_PATH = "/cube/workspace/.image/x.sif"
RECIPE = {"/cube/Singularity.recipe": "file"}
PLACE = Location("mlcube.lock", 8, 19)


def said(recipe: str = "", **labels: str) -> dict[str, Any]:
    return {"stdout": json.dumps({"data": {"attributes": {"labels": labels, "deffile": recipe}}, "type": "container"})}


def world_of(inspect: Mapping[str, Any] | None = None, paths: Mapping[str, Any] | None = None, **fields: Any) -> World:
    there = {} if inspect is None else {IMAGE_PATH: "file"}
    probes = {"--version": {"stdout": "apptainer version 1.4.5"}, "inspect --json": inspect or {},
              **fields.pop("probes", {})}
    tools = {"apptainer": "/usr/bin/apptainer", **fields.pop("tools", {})}
    return World(tools=tools, probes=probes, paths={**there, "/cube": "directory", **(paths or {})},
                 machine={"processor": "x86_64"}, **fields)


def job(*pins: Pin, locking: bool = False, **options: Any) -> Any:
    return job_of("singularity", {"image": "x.sif", **options}, lock="mlcube.lock" if pins else "", pins=pins,
                  locking=locking)


def plan(world: World, *pins: Pin, **options: Any) -> Plan:
    return world.decide(lambda facts: singularity.plan(job(*pins, **options), facts))


def configure(world: World, *pins: Pin, force: bool = False, **options: Any) -> Plan:
    return world.decide(lambda facts: singularity.configure(job(*pins, **options), facts, force))


def pin(method: str, digest: str, name: str = "x.sif") -> Pin:
    return Pin(name, method, digest, "linux/amd64", PLACE)


def source_of(planned: Plan) -> str:
    """What the first step builds from."""
    return planned.steps[0].command.argv[-1]


FROM_REGISTRY = f"bootstrap: docker\nfrom: example.org/a/b@{A}\n"


@pytest.mark.parametrize(("inspect", "method", "digest", "source"), [
    (said(FROM_REGISTRY), MANIFEST, A, f"docker://example.org/a/b@{A}"),
    (said("bootstrap: docker\nfrom: a/b:1\n"), FILE, C, "docker://a/b:1"),
    (said(f"bootstrap: docker-daemon\nfrom: {B}\n"), IMAGE, B, f"docker-daemon:{B}"),
    (said("bootstrap: docker-daemon\nfrom: a/b:1\n"), FILE, C, "docker-daemon:a/b:1"),
    (said(FROM_REGISTRY + "%post\n  curl evil\n"), FILE, C, ""),  # a recipe of somebody's that starts there
    (said(FROM_REGISTRY, **{"org.mlcommons.mlcube.recipe": B}), INPUTS, B, ""),
    (said(FROM_REGISTRY, **{"org.mlcommons.mlcube.inputs": B}), MANIFEST, A, f"docker://example.org/a/b@{A}"),
    ({"exit_code": 255, "stderr": "FATAL"}, FILE, C, ""),
])
def test_what_an_image_file_says_of_itself(inspect: dict[str, Any], method: str, digest: str, source: str) -> None:
    world = world_of(inspect, digests={IMAGE_PATH: C})
    found = world.decide(lambda facts: singularity.identify(job(), facts))
    assert found.pin == Pin("x.sif", method, digest, "linux/amd64")
    assert (found.source, found.hash) == (source, "c" * 64)


def test_an_image_whose_recipe_changed_since_is_said_to_be_old() -> None:
    """RULINGS 9: a run uses what is there, and warns; only --force builds anew."""
    def world(label: str) -> World:
        labels = {"org.mlcommons.mlcube.recipe": label} if label else {}
        return world_of(said(**labels), RECIPE, texts={"/cube/Singularity.recipe": "Bootstrap: docker\nFrom: x"})

    def warned(planned: Plan) -> bool:
        return any("have changed since it was built" in note and "--force" in note for note in planned.notes)

    absent = world_of(None, RECIPE, texts={"/cube/Singularity.recipe": "Bootstrap: docker\nFrom: x"})
    build = next(step for step in plan(absent).steps if step.title.startswith("build"))
    label = next(word for command in build.before for word in command.argv if word.startswith("org.mlcommons.mlcube.recipe "))
    now = label.partition(" ")[2]
    assert now.startswith("sha256:")
    for decide in (plan, configure):
        assert not warned(decide(world(now))) and not warned(decide(world("")))
        assert warned(decide(world(A)))
        assert not warned(decide(world(A), build_strategy="pull")), "the recipe is left aside"



def test_an_absent_file_and_a_sandbox() -> None:
    absent = world_of().decide(lambda facts: singularity.identify(job(), facts))
    assert absent == Identity(IMAGE_PATH, "sif", present=False)
    sandbox = world_of(said(), {IMAGE_PATH: "directory"}).decide(lambda facts: singularity.identify(job(), facts))
    assert (sandbox.kind, sandbox.pin) == ("sandbox", None) and sandbox.notes


@pytest.mark.parametrize(("locked", "inspect"), [
    (pin(MANIFEST, A), said(FROM_REGISTRY)), (pin(IMAGE, B), said(f"bootstrap: docker-daemon\nfrom: {B}\n")),
    (pin(FILE, C), said()),
])
def test_the_locked_image_runs_and_only_a_file_digest_needs_its_bytes(locked: Pin, inspect: dict[str, Any]) -> None:
    world = world_of(inspect, digests={IMAGE_PATH: C})
    assert [step.payload for step in plan(world, locked).steps] == [True]
    assert (FileDigest(IMAGE_PATH) in world.asked) == (locked.method == FILE)


@pytest.mark.parametrize(("locked", "found"), [
    (pin(MANIFEST, B), A), (pin(FILE, B), A), (pin(IMAGE, B), A), (pin(MANIFEST, A, "y.sif"), A)])
def test_another_image_is_refused_with_both_digests(locked: Pin, found: str) -> None:
    world = world_of(said(FROM_REGISTRY), digests={IMAGE_PATH: C})
    with pytest.raises(PreparationError) as refused:
        plan(world, locked)
    assert locked.digest in refused.value.message and found in refused.value.message
    assert refused.value.location == PLACE and "--update-lock" in refused.value.hint


def test_an_absent_image_is_built_from_the_locked_digest_and_configure_replaces_another() -> None:
    there = {"docker_image": "example.org/a/b:1"}
    assert source_of(plan(world_of(), pin(MANIFEST, B), **there)) == f"docker://example.org/a/b@{B}"
    other = configure(world_of(said(FROM_REGISTRY)), pin(MANIFEST, B), **there)
    assert source_of(other) == f"docker://example.org/a/b@{B}" and other.steps[0].unless is None
    for locked in (pin(FILE, B), pin(IMAGE, B), pin(MANIFEST, B)):
        with pytest.raises(PreparationError, match=B):
            plan(world_of(digests={IMAGE_PATH: C}), locked, build_file="docker-archive:/x.tar")


def test_a_recipe_is_held_to_its_inputs() -> None:
    def world(inspect: Mapping[str, Any] | None, text: str = "Bootstrap: docker\nFrom: x") -> World:
        return world_of(inspect, RECIPE, texts={"/cube/Singularity.recipe": text})

    words = configure(world(None)).steps[0].before[-1].argv
    digest = next(word for word in words if word.startswith("org.mlcommons.mlcube.recipe ")).split()[1]
    labelled = said("Bootstrap: docker\nFrom: x\n%labels\n", **{"org.mlcommons.mlcube.recipe": digest})
    assert [step.payload for step in plan(world(labelled), pin(INPUTS, digest)).steps] == [True]
    assert source_of(plan(world(None), pin(INPUTS, digest))).endswith(".partial/recipe")
    assert source_of(configure(world(said()), pin(INPUTS, digest))).endswith(".partial/recipe")
    with pytest.raises(PreparationError, match="have changed since it was locked"):
        plan(world(labelled, "Bootstrap: docker\nFrom: x\n%files\n  new"), pin(INPUTS, digest))
    with pytest.raises(PreparationError, match="there is no recipe"):
        plan(world_of(labelled), pin(INPUTS, digest))


def test_what_is_to_be_locked_is_built_from_a_name_that_stays() -> None:
    registry = asking("skopeo", f"{B}\n")
    assert source_of(configure(registry, locking=True, docker_image="a/b:1")) == f"docker://a/b@{B}"
    unasked = asking("skopeo", f"{B}\n")
    for options in ({"docker_image": "a/b:1"}, {"docker_image": f"a/b@{A}", "locking": True}):
        assert source_of(configure(unasked, **options)) == f"docker://{options['docker_image']}"
    assert not [question for question in unasked.asked if isinstance(question, Probe) and "skopeo" in question.command.argv]
    loaded = {"tools": {"docker": "/usr/bin/docker"}, "probes": {"docker image inspect": {"stdout": json.dumps({"Id": C})}}}
    assert source_of(configure(world_of(**loaded), locking=True, docker_image="a/b:1")) == f"docker-daemon:{C}"
    pulled = {"Id": C, "RepoDigests": [f"a/b@{A}"]}
    loaded["probes"] = {"docker image inspect": {"stdout": json.dumps(pulled)}}
    assert source_of(configure(world_of(**loaded), locking=True, docker_image="a/b:1")) == f"docker://a/b@{A}"


def asking(tool: str, stdout: str, exit_code: int = 0, stderr: str = "") -> World:
    """A machine where this tool says something of an image's name."""
    said = {"stdout": stdout, "exit_code": exit_code, "stderr": stderr}
    return world_of(tools={tool: f"/usr/bin/{tool}"}, probes={"docker image inspect": {"exit_code": 1}, "a/b:1": said})


@pytest.mark.parametrize(("tool", "stdout"), [
    ("skopeo", f"{B}\n"), ("docker", json.dumps({"mediaType": "x", "digest": B, "manifests": [{"digest": C}]})),
    ("podman", json.dumps([f"other/b@{C}", f"docker.io/a/b@{B}", f"docker.io/a/b@{C}"])),
])
def test_the_tools_that_are_here_say_what_a_name_means(tool: str, stdout: str) -> None:
    world = asking(tool, stdout)
    planned = configure(world, locking=True, docker_image="a/b:1")
    assert source_of(planned) == f"docker://a/b@{B}" and not planned.notes
    asked = [question.command.argv for question in world.asked if isinstance(question, Probe)][-1]
    assert asked[0] == tool and asked[-1].endswith("a/b:1")


@pytest.mark.parametrize(("world", "why"), [
    (world_of(), "skopeo, docker with buildx, or podman after a pull could"),
    (asking("skopeo", "", 1, "level=fatal\nunauthorized"), "(skopeo inspect: unauthorized)"),
    (asking("docker", "null"), "(docker buildx: it said no digest)"),
    (asking("skopeo", "sha256:12"), "(skopeo inspect: it said no digest)"),
    (asking("podman", "["), "(podman image: it said no digest)"),
])
def test_where_nobody_says_what_a_name_means_that_is_said_with_the_ways_out(world: World, why: str) -> None:
    planned = configure(world, locking=True, docker_image="a/b:1")
    assert source_of(planned) == "docker://a/b:1"
    note, = planned.notes
    assert why in note and "a/b@sha256:..." in note and "mlcube lock --platform docker" in note


# --- the lock of the docker image that it is made from ---------------------------------------------------------------


def borrowed(method: str, digest: str, name: str = "a/b:1", architecture: str = "linux/amd64") -> Pin:
    return Pin(name, method, digest, architecture, PLACE, "docker")


def under_docker(call: Any, world: World, *pins: Pin, **options: Any) -> Plan:
    bound = job_of("singularity", {"image": "x.sif", "docker_image": "a/b:1", **options}, lock="mlcube.lock", other_pins=pins)
    given = (False,) if call is singularity.configure else ()
    return world.decide(lambda facts: call(bound, facts, *given))


DOCKER = {"docker": "/usr/bin/docker"}
BUILT = json.dumps({"Id": C, "Config": {"Labels": {"org.mlcommons.mlcube.inputs": "b" * 64}}})


def test_an_image_made_from_a_locked_docker_image_is_held_to_its_digest() -> None:
    locked = borrowed(MANIFEST, A)
    assert source_of(under_docker(singularity.plan, world_of(), locked)) == f"docker://a/b@{A}"
    planned = under_docker(singularity.plan, world_of(said(f"bootstrap: docker\nfrom: a/b@{A}\n")), locked)
    assert [step.payload for step in planned.steps] == [True] and planned.tasks[0].image == (IMAGE_PATH, A)
    for other in (f"bootstrap: docker\nfrom: a/b@{B}\n", "bootstrap: docker\nfrom: a/b:1\n"):
        world = world_of(said(other), digests={IMAGE_PATH: C})
        with pytest.raises(PreparationError, match="locked for platform 'docker'\n") as refused:
            under_docker(singularity.plan, world, locked)
        assert A in refused.value.message and (B if "@" in other else C) in refused.value.message
        again = under_docker(singularity.configure, world, locked)
        assert source_of(again) == f"docker://a/b@{A}" and again.steps[0].unless is None


def test_another_docker_image_than_the_locked_one_is_refused() -> None:
    with pytest.raises(PreparationError, match="asks for another image"):
        under_docker(singularity.plan, world_of(), borrowed(MANIFEST, A, "a/b:2"))
    elsewhere = borrowed(MANIFEST, A, "a/b:2"), borrowed(MANIFEST, B)
    assert source_of(under_docker(singularity.plan, world_of(), *elsewhere)) == f"docker://a/b@{B}"


@pytest.mark.parametrize("options", [
    {"image": "docker://c/d:1", "docker_image": None}, {"tar_file": "x.tar"}, {"build_file": "Recipe"},
    {"build_file": "Absent", "build_strategy": "build"},
])
def test_an_image_made_from_something_else_is_not_held_to_dockers_and_that_is_said(options: dict[str, Any]) -> None:
    paths = {"/cube/x.tar": "file", "/cube/Recipe": "file", "/cube/workspace/.image/dockercd1.sif": "file"}
    planned = under_docker(singularity.plan, world_of(said(), paths), borrowed(MANIFEST, A), **options)
    assert any("not checked" in note for note in planned.notes)


def test_an_own_entry_and_one_of_another_architecture_come_before_dockers() -> None:
    own = job_of("singularity", {"image": "x.sif", "docker_image": "a/b:1"}, lock="mlcube.lock", pins=(pin(MANIFEST, B),),
                 other_pins=(borrowed(MANIFEST, A),))
    assert source_of(world_of().decide(lambda facts: singularity.plan(own, facts))) == f"docker://a/b@{B}"
    planned = under_docker(singularity.plan, world_of(), borrowed(MANIFEST, A, architecture="linux/arm64"))
    assert any("not checked" in note for note in planned.notes)


def test_an_image_of_a_built_docker_image_is_held_to_what_docker_built_it_from() -> None:
    locked = borrowed(INPUTS, B)
    there = said("bootstrap: docker-daemon\nfrom: a/b:1\n", **{"org.mlcommons.mlcube.inputs": "b" * 64})
    assert [step.payload for step in under_docker(singularity.plan, world_of(there), locked).steps] == [True]
    with pytest.raises(PreparationError, match="no such image in docker here") as refused:
        under_docker(singularity.plan, world_of(), locked)
    assert "mlcube configure --platform docker" in refused.value.hint
    here = {"tools": DOCKER, "probes": {"docker image inspect": {"stdout": BUILT}}}
    assert source_of(under_docker(singularity.plan, world_of(**here), locked)) == f"docker-daemon:{C}"
    with pytest.raises(PreparationError, match=f"in docker {B}"):
        under_docker(singularity.plan, world_of(**here), borrowed(INPUTS, A))


def test_an_image_of_a_loaded_docker_image_is_made_where_docker_has_it() -> None:
    locked = borrowed(IMAGE, C)
    here = {"tools": DOCKER, "probes": {"docker image inspect": {"stdout": BUILT}}}
    assert source_of(under_docker(singularity.plan, world_of(**here), locked)) == f"docker-daemon:{C}"
    other = world_of(said(f"bootstrap: docker-daemon\nfrom: {B}\n"), **here)
    assert source_of(under_docker(singularity.configure, other, locked)) == f"docker-daemon:{C}"
    with pytest.raises(PreparationError, match="no such file") as refused:
        under_docker(singularity.plan, world_of(), locked)
    assert "load the locked image" in refused.value.hint


def test_inspect_names_dockers_entry() -> None:
    world = world_of(said(f"bootstrap: docker\nfrom: a/b@{A}\n"), digests={IMAGE_PATH: C})
    for digest in (A, B):
        locked = borrowed(MANIFEST, digest)
        bound = job_of("singularity", {"image": "x.sif", "docker_image": "a/b:1"}, lock="mlcube.lock", other_pins=(locked,))
        found = world.decide(lambda facts, bound=bound: singularity.identify(bound, facts))
        assert (found.held, found.same) == (locked, digest == A)


# --- what a recipe is made from --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "files"), [
    ("Bootstrap: docker\nFrom: debian\n", ()),
    ("Bootstrap: localimage\nFrom: base.sif\n", ("base.sif",)),
    ("Bootstrap: docker\nFrom: x\n%files\n  a /a\n  # no\n  'b c' /b\n  d/*.py /d\n\n%post\n  cp e f\n", ("a", "b c", "d")),
    ("Bootstrap: docker\nFrom: x\n%files from build\n  /a /b\n", ()),
    ("Bootstrap: docker\nFrom: x\n%setup\n  cp a b\n", (".",)),
    ("Bootstrap: docker\nFrom: x\n%files\n  *\n  it's\n", (".", "it's")),
])
def test_what_a_recipe_takes_from_this_machine(recipe: str, files: tuple[str, ...]) -> None:
    assert copied_files(recipe.encode()) == files


# --- digests of files ----------------------------------------------------------------------------------------------


def digest(path: Path, home: Path) -> str | None:
    question = FileDigest(str(path))
    found = look((question,), {"HOME": str(home), "MLCUBE_HOME": str(home / "cache")})[question]
    assert found is None or isinstance(found, str)
    return found


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_files_digest_is_kept_until_the_file_changes(tmp_path: Path, home: Path) -> None:
    settled, path = Path(os.__file__), tmp_path / "big.sif"
    assert digest(settled, home) == sha256(settled)
    kept, = (home / "cache/digests").iterdir()
    kept.write_text(C + "\n")
    os.utime(kept, (0, 0))
    assert digest(settled, home) == C  # it is not read again
    assert kept.stat().st_mtime > 0  # pruning sees that it was used
    path.write_bytes(b"one" * 1000)
    assert digest(path, home) == sha256(path)
    assert [*(home / "cache/digests").iterdir()] == [kept]  # it changed just now, and may do so again without a sign
    times = os.stat(path)
    path.write_bytes(b"two" * 1000)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(path, home) == sha256(path)  # same place, size and time, another content


def test_a_damaged_or_impossible_cache_only_costs_time(tmp_path: Path, home: Path) -> None:
    path = Path(os.__file__)
    digest(path, home)
    kept, = (home / "cache/digests").iterdir()
    for text in ("", "sha256:12", "\udcff"):
        kept.write_text(text, errors="surrogateescape")
        assert digest(path, home) == sha256(path)
    assert file_digest(str(path), {"MLCUBE_HOME": "/proc/nowhere", "HOME": "/proc/nowhere"}) == sha256(path)


def test_what_has_no_digest(tmp_path: Path, home: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "fifo"):
        assert digest(path, home) is None
