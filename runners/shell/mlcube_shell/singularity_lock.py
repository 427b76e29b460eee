"""What an image file is, and how a locked one comes to be there: that very image, or none (RULINGS 15).

The image itself says what it was made from: the engine keeps the source in its labels, and we the digest of a recipe's
inputs (singularity_build.py). So a file that was moved or copied is still known, and nothing big is read. A platform
without an entry of its own, whose image is made from a docker image, is held to that image's entry.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from mlcube_cli.command import Command
from mlcube_cli.errors import DefinitionError, PreparationError
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
    refuse_other_name,
    unlocked_notes,
    update_command,
)
from mlcube_shell.docker_engine import Image, read_image
from mlcube_shell.docker_lock import ask_registry, built_from, registry_manifest, repository
from mlcube_shell.options import text_option
from mlcube_shell.singularity_build import INPUTS_LABEL, Source, what_it_says
from mlcube_shell.singularity_engine import Engine
from mlcube_shell.singularity_image import (
    Preparation,
    build_inputs,
    built,
    find_source,
    for_configure,
    for_run,
    image_path,
)

_REGISTRY = "docker://"


@dataclass(frozen=True)
class _Binding:
    """The entry of a lock that the platform is held to. `name`: the docker image that it is made from, where the entry is
    docker's; "" where it is the platform's own."""

    pin: Pin
    name: str = ""


def identify(engine: Engine) -> Identity:
    """The platform's image as its file says it, with the file's sha256. Raises facts.Missing, DefinitionError."""
    found = _look(engine, image_path(engine))
    if not found.present:
        return found
    if found.kind == "sif":
        digest = engine.facts.file_digest(found.name)
        if digest is None:
            raise PreparationError(f"image {found.name} cannot be read", "check its permissions")
        found = replace(found, sha256=digest)
    pin, binding = _pin(found), _binding(engine)
    found = replace(found, pin=pin, notes=_notes(engine, found, pin))
    if binding is None:
        return found
    return replace(found, held=binding.pin, same=is_same(binding.pin, _as_bound(engine, binding, found)))


def _look(engine: Engine, image: str) -> Identity:
    """What the image says of itself, without reading all of it."""
    kind = engine.facts.path(image).kind
    if kind == "absent":
        return Identity(image, "sif", present=False)
    labels, recipe = what_it_says(engine, image)
    inputs = labels.get(INPUTS_LABEL, "")
    bootstrap, origin = ("", "") if inputs else _origin(recipe)
    address = f"{bootstrap}:{'//' if bootstrap == 'docker' else ''}{origin}" if origin else ""
    architecture = labels.get("org.label-schema.build-arch", "")
    return Identity(
        image, "sandbox" if kind == "directory" else "sif", inputs=inputs, source=address,
        id=origin if bootstrap == "docker-daemon" and origin.startswith("sha256:") else "",
        digests=(origin,) if bootstrap == "docker" and "@sha256:" in origin else (),
        architecture=f"linux/{architecture}" if architecture else machine_architecture(engine.facts))


def _origin(recipe: str) -> tuple[str, str]:
    """What an image is a plain copy of, as the engine keeps it: the kind of source, and its name. Empty for an image of a
    recipe, which starts with such lines too and then changes what it has got."""
    lines = [line.partition(":") for line in recipe.splitlines() if line.strip()]
    fields = {key.strip().lower(): value.strip() for key, colon, value in lines if colon}
    return (fields["bootstrap"], fields["from"]) if len(lines) == 2 and fields.keys() == {"bootstrap", "from"} else ("", "")


def _pin(found: Identity) -> Pin | None:
    name = os.path.basename(found.name)
    ways = ((INPUTS, found.inputs), (MANIFEST, "".join(found.digests).partition("@")[2]), (IMAGE, found.id),
            (FILE, found.sha256))
    method, digest = next(((method, digest) for method, digest in ways if digest), ("", ""))
    return Pin(name, method, digest, found.architecture) if method else None


def _notes(engine: Engine, found: Identity, pin: Pin | None) -> tuple[str, ...]:
    name = found.name
    if pin is None:
        return (f"sandbox {name} does not say what it was made from, and its files may change",)
    if pin.method == FILE and found.source.startswith(_REGISTRY):
        return (f"{name} does not say which image {found.source} was: it is locked by its file, which other machines need a "
                f"copy of; to lock the registry's image, with skopeo, docker's buildx or podman here: "
                f"{update_command(engine.job)} --force",)
    if pin.method == FILE:
        return (f"mlcube does not know what {name} was made from: it is locked by its file, which other machines need to "
                "have a copy of",)
    return ()


# --- what a lock asks for ------------------------------------------------------------------------------------------


def prepare(engine: Engine, configuring: bool, force: bool = False) -> Preparation:
    """The steps before a run, or of `configure`; under a lock they bring the locked image.

    Raises PreparationError, before anything starts, where the image that is here, or that would be, is another one.
    """
    job, binding = engine.job, _binding(engine)
    if binding is None:
        found = _to_be_locked(engine, force) if configuring and job.locking else None
        found = found or (for_configure(engine, force) if configuring else for_run(engine))
        return replace(found, notes=(*found.notes, *unlocked_notes(job, engine.facts)))
    image, pin = image_path(engine), binding.pin
    here = _as_bound(engine, binding, _look(engine, image))
    if pin.method == FILE and here.kind == "sif" and here.present:
        here = replace(here, sha256=engine.facts.file_digest(image) or "")
    refuse_other_name(job, pin, binding.name or os.path.basename(image), _shown(engine, here))
    if pin.method == INPUTS and not binding.name:
        _same_inputs(engine, pin)
    same = here.present and is_same(pin, here)
    again = configuring and pin.method != FILE
    if same and not (again and force):
        return Preparation(image, id=pin.digest)
    if here.present and not same and not again:
        remedy = f"to get the locked one: mlcube configure --platform {job.platform.name}"
        raise different(job, pin, image, _shown(engine, here), remedy * (pin.method != FILE))
    source = _locked_source(engine, binding, here)
    return replace(built(engine, image, source, always=here.present), id=pin.digest)


def _binding(engine: Engine) -> _Binding | None:
    """What the platform's image is held to: its own entry, else that of the docker image which it is made from."""
    job, facts = engine.job, engine.facts
    own = find_pin(job.pins, facts)
    if own is not None or job.pins or not job.other_pins:
        return _Binding(own) if own is not None else None
    given = text_option(job, "docker_image")
    try:
        source = find_source(engine)
    except DefinitionError:  # said where something has to be built
        return None
    name = _registry_name(source) or (given or "")
    if source is None or source.recipe or not name or source.text.startswith("docker-archive:"):
        return None
    locked = [pin for pin in job.other_pins if pin.method != FILE]
    of_name = find_pin((pin for pin in locked if pin.image == name), facts)
    if of_name is None and name == given:
        of_name = find_pin((pin for pin in locked if pin.platform == "docker" and pin.image != name), facts)
    return _Binding(of_name, name) if of_name is not None else None


def _as_bound(engine: Engine, binding: _Binding, found: Identity) -> Identity:
    """The image as that entry judges it: one made from a docker image keeps what docker's was built from, as a label."""
    if not binding.name or binding.pin.method != INPUTS or not found.present:
        return found
    return replace(found, inputs=built_from(what_it_says(engine, found.name)[0]))


def _shown(engine: Engine, here: Identity) -> str:
    """The digest of what is here, in words."""
    if not here.present:
        return "no such file"
    pin = _pin(here)
    if pin is not None:
        return f"{pin.digest}, {METHODS[pin.method]}"
    digest = engine.facts.file_digest(here.name) if here.kind == "sif" else None
    made = f"made from {here.source}" if here.source else "which does not say what it was made from"
    return f"{digest}, {METHODS[FILE]}, {made}" if digest else f"a {here.kind} {made}"


def _same_inputs(engine: Engine, pin: Pin) -> None:
    """Raises PreparationError where the recipe, its files or the build arguments have changed, or are not there."""
    source = find_source(engine)
    if source is None or not source.recipe:
        raise PreparationError(f"image {pin.image} is locked as one of a recipe ({pin.digest}), and there is no recipe",
                               f"put it back, or renew the lock: {update_command(engine.job)}", pin.location)
    now = build_inputs(engine, source.recipe)
    if now != pin.digest:
        raise PreparationError(
            f"the recipe, its files or the build arguments of image {pin.image} have changed since it was locked\n"
            f"  locked: {pin.digest}\n  now:    {now or 'too many files to tell'}",
            f"undo the change, or build it anew and renew the lock: {update_command(engine.job)}", pin.location)


def _locked_source(engine: Engine, binding: _Binding, here: Identity) -> Source:
    """What the locked image is built from, in place of what is `here`. Raises PreparationError for one that can only be
    copied."""
    pin, source = binding.pin, find_source(engine)
    if binding.name and pin.method == INPUTS:
        return _built_by_docker(engine, pin, here.name)
    if pin.method == INPUTS and source is not None:
        return source
    name = _registry_name(source)
    if pin.method == MANIFEST and name:
        return Source(f"{_REGISTRY}{repository(name)}@{pin.digest}")
    if pin.method == IMAGE and _in_docker(engine, pin.digest).present:
        return Source(f"docker-daemon:{pin.digest}")
    way = {FILE: "copy the locked file there", IMAGE: "load the locked image into docker first"}.get(
        pin.method, "name the docker image that it is made from")
    raise different(engine.job, pin, here.name, _shown(engine, here), way)


def _built_by_docker(engine: Engine, pin: Pin, image: str) -> Source:
    """Docker's own image, where it was built from the locked inputs."""
    state = _in_docker(engine, pin.image)
    inputs = built_from(state.labels)
    if inputs == pin.digest:
        return Source(f"docker-daemon:{state.id}")
    found = f"in docker {inputs or state.id}" if state.present else "no such image in docker here"
    raise different(engine.job, pin, image, found, f"build it with docker: mlcube configure --platform {pin.platform}; where "
                    f"there is no docker, copy an image file that was made from it to {image}")


def _in_docker(engine: Engine, name: str) -> Image:
    """Docker's own copy of the image. Not present where docker is not here."""
    if engine.facts.tool("docker") is None:
        return Image(present=False)
    said = engine.facts.probe(Command(("docker", "image", "inspect", "--format", "{{json .}}", name)))
    return read_image(said.stdout) if said.exit_code == 0 else Image(present=False)


def _registry_name(source: Source | None) -> str:
    """The image's name in a registry, where the source is one; "" otherwise."""
    for text in (source.text, source.otherwise) if source else ():
        if text.startswith(_REGISTRY):
            return text[len(_REGISTRY):]
    return ""


# --- what is to be locked --------------------------------------------------------------------------------------------


def _to_be_locked(engine: Engine, force: bool) -> Preparation | None:
    """Build what is to be locked from a source that can be named again: by the registry's digest, or by docker's id.

    None where there is nothing to build, or where the name will do as it is.
    """
    image, source = image_path(engine), find_source(engine)
    there = engine.facts.path(image).kind != "absent"
    if source is None or source.recipe or (there and not force):
        return None
    name = _registry_name(source)
    if source.text.startswith("docker-daemon:") and name:
        return built(engine, image, _of_docker(engine, source, name), force)
    if not name or "@" in name:
        return None
    digest, trouble = ask_registry(engine.facts, name)
    if digest:
        return built(engine, image, Source(f"{_REGISTRY}{repository(name)}@{digest}", notes=source.notes), force)
    found = built(engine, image, source, force)
    return replace(found, notes=(*found.notes, trouble))


def _of_docker(engine: Engine, source: Source, name: str) -> Source:
    """Docker's own image by the digest that a registry has it under, else by its id."""
    state = _in_docker(engine, name)
    manifest = registry_manifest(name, state)
    if not state.id:
        return source
    invented = manifest == state.id  # docker's newer store has one for every image
    return Source(f"{_REGISTRY}{repository(name)}@{manifest}" if manifest and not invented else f"docker-daemon:{state.id}")
