"""What an image file is, and how a locked one comes to be there: that very image, or none (RULINGS 15).

The image itself says what it was made from: the engine keeps the source in its labels, and we the digest of a recipe's
inputs (singularity_recipe.py). So a file that was moved or copied is still known, and nothing big is read.
"""

from __future__ import annotations

import os
from dataclasses import replace

from mlcube_cli.command import Command
from mlcube_cli.errors import PreparationError
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
from mlcube_shell.docker_engine import read_image, read_map
from mlcube_shell.docker_lock import registry_manifest, repository
from mlcube_shell.singularity_engine import Engine
from mlcube_shell.singularity_image import (
    Preparation,
    Source,
    build_inputs,
    built,
    find_source,
    for_configure,
    for_run,
    image_path,
)
from mlcube_shell.singularity_recipe import INPUTS_LABEL


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
    pin = _pin(engine, found)
    return replace(found, pin=pin, notes=_notes(engine, found, pin))


def _look(engine: Engine, image: str) -> Identity:
    """What the image says of itself, without reading all of it."""
    kind = engine.facts.path(image).kind
    if kind == "absent":
        return Identity(image, "sif", present=False)
    said = engine.facts.probe(engine.command("inspect", "--json", "--labels", "--deffile", image))
    data: object = read_map(said.stdout)
    for key in ("data", "attributes"):
        data = data.get(key) if isinstance(data, dict) else None
    attributes = data if isinstance(data, dict) else {}
    labels, recipe = attributes.get("labels"), attributes.get("deffile")
    inputs = str(labels.get(INPUTS_LABEL, "")) if isinstance(labels, dict) else ""
    bootstrap, origin = ("", "") if inputs else _origin(str(recipe))
    address = f"{bootstrap}:{'//' if bootstrap == 'docker' else ''}{origin}" if origin else ""
    return Identity(
        image, "sandbox" if kind == "directory" else "sif", inputs=inputs, source=address,
        id=origin if bootstrap == "docker-daemon" and origin.startswith("sha256:") else "",
        digests=(origin,) if bootstrap == "docker" and "@sha256:" in origin else (),
        architecture=machine_architecture(engine.facts))


def _origin(recipe: str) -> tuple[str, str]:
    """What an image is a plain copy of, as the engine keeps it: the kind of source, and its name. Empty for an image of a
    recipe, which starts with such lines too and then changes what it has got."""
    lines = [line.partition(":") for line in recipe.splitlines() if line.strip()]
    fields = {key.strip().lower(): value.strip() for key, colon, value in lines if colon}
    return (fields["bootstrap"], fields["from"]) if len(lines) == 2 and fields.keys() == {"bootstrap", "from"} else ("", "")


def _pin(engine: Engine, found: Identity) -> Pin | None:
    name = os.path.basename(found.name)
    ways = ((INPUTS, found.inputs), (MANIFEST, "".join(found.digests).partition("@")[2]), (IMAGE, found.id),
            (FILE, found.sha256))
    method, digest = next(((method, digest) for method, digest in ways if digest), ("", ""))
    return Pin(name, method, digest, found.architecture) if method else None


def _notes(engine: Engine, found: Identity, pin: Pin | None) -> tuple[str, ...]:
    name = found.name
    if pin is None:
        return (f"sandbox {name} does not say what it was made from, and its files may change",)
    if pin.method == FILE and found.source.startswith("docker://"):
        return (f"{name} does not say which image {found.source} was: it is locked by its file, and one that is built "
                f"elsewhere will differ; to lock the registry's image: {update_command(engine.job)} --force",)
    if pin.method == FILE:
        return (f"mlcube does not know what {name} was made from: it is locked by its file, which other machines need to "
                "have a copy of",)
    return ()


# --- what a lock asks for ------------------------------------------------------------------------------------------


def prepare(engine: Engine, configuring: bool, force: bool = False) -> Preparation:
    """The steps before a run, or of `configure`; under a lock they bring the locked image.

    Raises PreparationError, before anything starts, where the image that is here, or that would be, is another one.
    """
    job = engine.job
    pin = find_pin(job, engine.facts)
    if pin is None:
        found = _to_be_locked(engine, force) if configuring and job.locking else None
        found = found or (for_configure(engine, force) if configuring else for_run(engine))
        return replace(found, notes=(*found.notes, *unlocked_notes(job, engine.facts)))
    image = image_path(engine)
    here = _look(engine, image)
    if pin.method == FILE and here.kind == "sif" and here.present:
        here = replace(here, sha256=engine.facts.file_digest(image) or "")
    refuse_other_name(job, pin, os.path.basename(image), _shown(engine, here))
    if pin.method == INPUTS:
        _same_inputs(engine, pin)
    same = here.present and is_same(pin, here)
    again = configuring and pin.method in (MANIFEST, INPUTS)
    if same and not (again and force):
        return Preparation(image)
    if here.present and not same and not again:
        remedy = f"to get the locked one: mlcube configure --platform {job.platform.name}"
        raise different(job, pin, image, _shown(engine, here), remedy * (pin.method in (MANIFEST, INPUTS)))
    return built(engine, image, _locked_source(engine, pin, image), always=here.present)


def _shown(engine: Engine, here: Identity) -> str:
    """The digest of what is here, in words."""
    if not here.present:
        return "no such file"
    pin = _pin(engine, here)
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


def _locked_source(engine: Engine, pin: Pin, image: str) -> Source:
    """What the locked image is built from. Raises PreparationError for one that can only be copied."""
    source = find_source(engine)
    if pin.method == INPUTS and source is not None:
        return source
    name = _registry_name(source)
    if pin.method == MANIFEST and name:
        return Source(f"docker://{repository(name)}@{pin.digest}")
    if pin.method == IMAGE and source is not None and source.text.startswith("docker-daemon:"):
        return Source(f"docker-daemon:{pin.digest}")
    way = {FILE: "copy the locked file there", IMAGE: "load the locked image into docker first"}.get(
        pin.method, "name the docker image that it is made from")
    raise different(engine.job, pin, image, "no such file", way)


def _registry_name(source: Source | None) -> str:
    """The image's name in a registry, where the source is one; "" otherwise."""
    for text in (source.text, source.otherwise) if source else ():
        if text.startswith("docker://"):
            return text[len("docker://"):]
    return ""


def _to_be_locked(engine: Engine, force: bool) -> Preparation | None:
    """Build what is to be locked from a source that can be named again: by the registry's digest, or by docker's id.

    None where there is nothing to build, or no such name.
    """
    image, source = image_path(engine), find_source(engine)
    there = engine.facts.path(image).kind != "absent"
    if source is None or source.recipe or (there and not force):
        return None
    name = _registry_name(source)
    if source.text.startswith("docker-daemon:") and name:
        return built(engine, image, _of_docker(engine, source, name), force)
    digest = engine.facts.registry_digest(name) if name and "@" not in name else None
    return built(engine, image, Source(f"docker://{repository(name)}@{digest}"), force) if digest else None


def _of_docker(engine: Engine, source: Source, name: str) -> Source:
    """Docker's own image by the digest that a registry has it under, else by its id."""
    said = engine.facts.probe(Command(("docker", "image", "inspect", "--format", "{{json .}}", name)))
    state = read_image(said.stdout)
    manifest = registry_manifest(name, state)
    if said.exit_code != 0 or not state.id:
        return source
    invented = manifest == state.id  # docker's newer store has one for every image
    return Source(f"docker://{repository(name)}@{manifest}" if manifest and not invented else f"docker-daemon:{state.id}")
