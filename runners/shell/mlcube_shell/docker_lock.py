"""What a docker or podman image is, and how a locked one comes to be there: that very image, or none (RULINGS 15)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from mlcube_cli.command import Command, Step
from mlcube_cli.errors import PreparationError
from mlcube_cli.facts import Facts
from mlcube_cli.identity import (
    FILE,
    IMAGE,
    INPUTS,
    MANIFEST,
    METHODS,
    Identity,
    Pin,
    different,
    find_pin,
    is_same,
    machine_architecture,
    prefixed,
    refuse_other_name,
    unlocked_notes,
    update_command,
)
from mlcube_shell.docker_engine import Engine, Image, find_image, presence
from mlcube_shell.docker_image import (
    INPUTS_LABEL,
    Preparation,
    Recipe,
    assumption,
    build_digest,
    find_recipe,
    for_configure,
    for_run,
    image_name,
    pull_step,
    registry_name,
    strategy_of,
)
from mlcube_shell.tools import REGISTRY_TOOLS, REGISTRY_TOOLS_TEXT

_OFFICIAL = ("index.docker.io/", "docker.io/", "library/")  # what docker leaves out of a name and podman spells out


def identify(engine: Engine) -> Identity:
    """The platform's image as the engine has it. Raises facts.Missing, and MachineError when the engine does not answer."""
    name = image_name(engine.job)
    state = find_image(engine, name)
    if not state.present:
        return Identity(name, "image", present=False)
    pin = _pin(engine, state)
    notes: tuple[str, ...] = ()
    if pin.method == IMAGE:
        notes = (f"image {name} came from no registry, and mlcube did not build it: it is locked by its id, and another "
                 "machine has to load the very same one",)
    found = _identity(name, state)
    held = _held(engine, name, state)
    return replace(found, pin=pin, notes=notes, held=held, same=held is not None and is_same(held, found))


def _identity(name: str, state: Image) -> Identity:
    return Identity(name, "image", state.present, prefixed(state.id), state.digests,
                    built_from(state.labels), architecture=state.architecture)


def _pin(engine: Engine, state: Image) -> Pin:
    """How to know the image again: built ones by their inputs, pulled ones by the manifest, others by their id.

    podman, and docker with containerd's store, have a "registry's digest" for what was built here too, so where the
    platform builds its image the inputs count.
    """
    name, inputs = image_name(engine.job), built_from(state.labels)
    manifest = registry_manifest(name, state)
    builds = bool(inputs) and strategy_of(engine.job) != "pull" and find_recipe(engine).found
    invented = manifest and (engine.name == "podman" or manifest == prefixed(state.id))
    architecture = state.architecture or machine_architecture(engine.facts)
    if builds and (invented or not manifest or strategy_of(engine.job) != "fallback"):
        return Pin(name, INPUTS, inputs, architecture)
    if manifest:
        return Pin(name, MANIFEST, manifest, architecture)
    return Pin(name, IMAGE, prefixed(state.id), architecture)


def registry_manifest(name: str, state: Image) -> str:
    """The digest under which the image's own repository has it; "" where it is from none."""
    own = short_repository(name)
    found = (digest.partition("@") for digest in state.digests if not digest.startswith("localhost/"))
    return next((digest for repository, _, digest in found if short_repository(repository) == own), "")


def built_from(labels: Mapping[str, str]) -> str:
    """The digest of what mlcube built the image from; "" where it did not."""
    return prefixed(labels.get(INPUTS_LABEL, ""))


def ask_registry(facts: Facts, image: str) -> tuple[str, str]:
    """The digest that the image's name has in its registry, and ""; or "" and why nobody here says it. Raises facts.Missing."""
    tried = []
    for tool, words in REGISTRY_TOOLS:
        if facts.tool(tool) is None:
            continue
        said = facts.probe(Command(tuple(word.replace("IMAGE", image) for word in words)))
        digest = _told(image, said.stdout) if said.exit_code == 0 else ""
        if digest:
            return digest, ""
        last = said.last_line("it said no digest")
        tried.append(f"{' '.join(words[:2])}: {last}")
    why = f" ({'; '.join(tried)})" if tried else f", which {REGISTRY_TOOLS_TEXT} could"
    return "", (f"nobody here says which digest {image} has in its registry{why}; write it into the image's name "
                f"({repository(image)}@sha256:...), or lock the docker platform on a machine with docker: mlcube lock "
                "--platform docker")


def _told(image: str, text: str) -> str:
    """The digest in what a tool said: alone, as `digest` of a manifest, or in a list of NAME@DIGEST."""
    import json

    try:
        data = json.loads(text) if text.lstrip()[:1] in ("{", "[") else text.strip()
    except ValueError:
        return ""
    if isinstance(data, list):
        data = registry_manifest(image, Image(present=True, digests=tuple(str(digest) for digest in data)))
    digest = str(data.get("digest")) if isinstance(data, dict) else data
    return digest if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else ""


def repository(name: str) -> str:
    """An image's name without tag and digest: `host:5000/group/name:tag` -> `host:5000/group/name`."""
    name = name.partition("@")[0]
    before, colon, tag = name.rpartition(":")
    return before if colon and "/" not in tag else name


def short_repository(name: str) -> str:
    """The repository as docker shortens it: `docker.io/library/debian` -> `debian`."""
    short = repository(name)
    for prefix in _OFFICIAL:
        short = short[len(prefix):] if short.startswith(prefix) else short
    return short


# --- what a lock asks for ------------------------------------------------------------------------------------------


def prepare(engine: Engine, configuring: bool, force: bool = False) -> Preparation:
    """The steps before a run, or of `configure`; under a lock they bring the locked image, and `reference` names it.

    Raises PreparationError, before anything starts, where the image that is here, or that would be, is another one.
    """
    job, facts, name = engine.job, engine.facts, image_name(engine.job)
    state = find_image(engine, name) if job.lock else Image(present=False)
    pin = _held(engine, name, state)
    if pin is None:
        steps = for_configure(engine, force) if configuring else for_run(engine)
        return replace(steps, notes=(*steps.notes, *unlocked_notes(job, facts, state.architecture)))
    refuse_other_name(job, pin, name, prefixed(state.id) if state.present else "which is not here")
    if pin.method == INPUTS:
        return _built(engine, pin, state, configuring, force)
    if state.present and not configuring:
        if not is_same(pin, _identity(name, state)):
            remedy = f"to get the locked one: mlcube configure --platform {job.platform.name}" * (pin.method == MANIFEST)
            manifest = registry_manifest(name, state) if pin.method == MANIFEST else ""
            found = f"{manifest}, {METHODS[MANIFEST]}" if manifest else f"{prefixed(state.id)}, {METHODS[IMAGE]}"
            raise different(job, pin, name, found, remedy)
        return Preparation((), (), state.starts_itself, state.id, state.id)
    if pin.method == MANIFEST:
        return _pulled(engine, pin, state)
    if pin.method == IMAGE and state.present and is_same(pin, _identity(name, state)):
        return Preparation(())
    here = f"{prefixed(state.id)}, {METHODS[IMAGE]}" if state.present else "no image of that name"
    raise different(job, pin, name, here, "load the locked image into the engine, as its maker did")


def _held(engine: Engine, name: str, state: Image) -> Pin | None:
    """The entry that holds: the platform's own, else that of another platform with this very image (podman's for docker)."""
    others = (pin for pin in engine.job.other_pins if pin.image == name and pin.method != FILE)
    return find_pin(engine.job.pins or others, engine.facts, state.architecture)


def _pulled(engine: Engine, pin: Pin, state: Image) -> Preparation:
    """Pull by digest, which no registry can answer with another image, and give it the name that the platform uses."""
    name = pin.image
    reference = f"{registry_name(engine, repository(name))}@{pin.digest}"
    notes = (assumption(engine, name),)
    steps: tuple[Step, ...] = (pull_step(engine, reference, unless=presence(engine, reference)),)
    if "@" not in name:
        steps += (Step(f"name the locked image {name}", engine.command("tag", reference, name)),)
    return Preparation(steps, notes if state.assumed else (), reference=reference, id=pin.digest)


def _built(engine: Engine, pin: Pin, state: Image, configuring: bool, force: bool) -> Preparation:
    """Build from the locked inputs. An image that is here must have been built from them."""
    job, name, recipe = engine.job, pin.image, find_recipe(engine)
    if not recipe.found or strategy_of(job) == "pull":
        why = "the strategy is 'pull'" if recipe.found else f"{recipe.file} is not there"
        raise PreparationError(f"image {name} is locked as one that is built here ({pin.digest}), but {why}",
                               f"build it, or renew the lock: {update_command(job)}", pin.location)
    notes = _same_inputs(engine, pin, recipe)
    if configuring:
        return _with_notes(for_configure(engine, force), notes)
    if state.present and strategy_of(job) != "always":
        inputs = built_from(state.labels)
        if inputs != pin.digest:
            found = f"{inputs}, {METHODS[INPUTS]}" if inputs else \
                f"{prefixed(state.id)}, {METHODS[IMAGE]} (mlcube did not build it)"
            raise different(job, pin, name, found,
                            f"to build it from the locked files: mlcube configure --platform {job.platform.name}")
        return Preparation((), notes, state.starts_itself, state.id, state.id)
    return _with_notes(for_run(engine, never_pull=True), notes)


def _same_inputs(engine: Engine, pin: Pin, recipe: Recipe) -> tuple[str, ...]:
    """Raises PreparationError where the build files or build arguments have changed since the image was locked."""
    digest = build_digest(engine, recipe)
    if digest is None:
        return (f"the build of image {pin.image} has too many files to compare them with the lock",)
    if prefixed(digest) != pin.digest:
        raise PreparationError(
            f"the build files or build arguments of image {pin.image} have changed since it was locked\n"
            f"  locked: {pin.digest}\n  now:    {prefixed(digest)}",
            f"undo the change, or build it anew and renew the lock: {update_command(engine.job)}", pin.location)
    return ()


def _with_notes(preparation: Preparation, notes: tuple[str, ...]) -> Preparation:
    return replace(preparation, notes=(*preparation.notes, *notes))
