"""The image of a singularity platform: where its file is, what it is made from, and the step that makes it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlcube_cli.command import Command, Step
from mlcube_cli.errors import DefinitionError, Location, PreparationError
from mlcube_cli.facts import Probe
from mlcube_cli.job import Job
from mlcube_shell.options import expanded_option, refuse, split_option, text_option
from mlcube_shell.singularity_build import INPUTS_LABEL, Source, build_step, recipe_digest, what_it_says
from mlcube_shell.singularity_engine import Engine
from mlcube_shell.singularity_storage import tmp_notes

_STRATEGIES = ("build", "fallback", "pull", "auto", "always")
_RECIPES = {"mlbox": "implementation/singularity/recipes/Singularity.recipe"}
_MLBOX_IMAGE = "mlbox.simg"
_SOURCES = ("docker-archive:", "docker-daemon:", "oci:", "oci-archive:")  # besides SCHEME://...


@dataclass(frozen=True)
class Preparation:
    image: str  # the path of the image's file, or of its sandbox directory
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    id: str = ""  # the digest that a lock holds it to


def for_configure(engine: Engine, force: bool) -> Preparation:
    """Build what is absent; `force` builds in any case, where there is something to build from."""
    image, source = image_path(engine), find_source(engine)
    there = engine.facts.path(image).kind != "absent"
    if source is None:
        if not there:
            raise _nothing_to_build(engine, image)
        return Preparation(image, notes=(f"image {image} is here, and there is nothing to build it from",))
    always = force or strategy_of(engine.job) == "always"
    if there and not always:
        here = f"image {image} is here; to build it anew: mlcube configure --force"
        return Preparation(image, notes=_stale(engine, image, source.recipe) or (here,))
    return built(engine, image, source, always)


def for_run(engine: Engine) -> Preparation:
    """What is missing before a run: nothing where the image is here, unless the strategy is `always`."""
    image, always = image_path(engine), strategy_of(engine.job) == "always"
    there = engine.facts.path(image).kind != "absent"
    if there and not always:
        return Preparation(image, notes=_stale(engine, image, _recipe(engine)))
    source = find_source(engine)
    if source is None and there:
        return Preparation(image)
    if source is None:
        raise _nothing_to_build(engine, image)
    return built(engine, image, source, always)


def strategy_of(job: Job) -> str:
    """The build strategy; unset: `auto`. Raises DefinitionError for others."""
    option = job.find_option("build_strategy")
    if option is None or option.value is None:
        return "auto"
    if option.value not in _STRATEGIES:
        raise refuse(option, f"there is no strategy {option.value!r}", f"one of {', '.join(_STRATEGIES)}")
    return str(option.value)


# --- where it is -----------------------------------------------------------------------------------------------------


def image_path(engine: Engine) -> str:
    """The absolute path of the image's file or sandbox. Raises facts.Missing, and DefinitionError where nothing names one.

    A relative name is relative to `image_dir` in an inline cube, to the workspace in a directory cube (`image_dir` where
    it is set), to the recipe's directory in an MLBox (spec/dialects 1.6, 2.5, 3.9). Without a name it is made of the letters
    and digits of what the image is built from.
    """
    job, facts = engine.job, engine.facts
    name = expanded_option(job, "image", facts)
    if name is not None and not is_address(name):
        return os.path.normpath(os.path.join(image_directory(engine), name))
    if job.dialect == "mlbox" and name is None:
        return os.path.join(image_directory(engine), _MLBOX_IMAGE)
    source = find_source(engine)
    if source is None:
        raise DefinitionError(f"platform '{job.platform.name}' names no image, and there is no {_recipe_path(engine)[1]}",
                              "add 'image: NAME.sif', or -Prunner.image=NAME.sif", job.platform.location)
    text = text_option(job, "docker_image") or source.text if not source.recipe else os.path.basename(source.recipe)
    stem = "".join(char for char in (name or text) if char.isascii() and char.isalnum())
    return os.path.join(image_directory(engine, derived=True), f"{stem}.sif")


def image_directory(engine: Engine, derived: bool = False) -> str:
    """The directory that image names are relative to. `derived`: the name is one of ours."""
    job = engine.job
    if job.dialect == "mlbox":
        return os.path.dirname(_recipe_path(engine)[1])
    given = expanded_option(job, "image_dir", engine.facts)
    if given is None:
        given = ".image" if derived or job.dialect == "inline" else "."
    return os.path.normpath(os.path.join(job.workspace, given))


def is_address(text: str) -> bool:
    """Whether an image or build file is fetched by the engine: `docker://NAME`, `docker-archive:FILE`, ..."""
    return "://" in text or text.startswith(_SOURCES)


# --- what it is made from --------------------------------------------------------------------------------------------


def find_source(engine: Engine) -> Source | None:
    """What the image is built from: what `image` or `build_file` spell out, the recipe, the docker platform's image.

    `build_strategy: pull` leaves the recipe aside. Raises facts.Missing, and DefinitionError for a recipe that the platform
    names and that is not there.
    """
    job = engine.job
    address = _address(engine)
    if address:
        return Source(address)
    written, recipe = _recipe_path(engine)
    strategy, option = strategy_of(job), job.find_option("build_file")
    if _recipe(engine):
        return Source(written, recipe)
    stated = option is not None and option.value is not None and option.origin != "default"
    docker_image = text_option(job, "docker_image")
    if option is not None and strategy != "pull" and (strategy == "build" or (stated and not docker_image)):
        raise refuse(option, f"there is no file {recipe}", "build_file is relative to build_context")
    return _docker_source(engine, docker_image) if docker_image else None


def _address(engine: Engine) -> str:
    """What `image` or `build_file` spell out for the engine to fetch; "" where they are files."""
    given = (expanded_option(engine.job, name, engine.facts) for name in ("image", "build_file"))
    return next((text for text in given if text is not None and is_address(text)), "")


def _recipe(engine: Engine) -> str:
    """The recipe's path where there is one, and the platform does not leave it aside."""
    if _address(engine) or strategy_of(engine.job) == "pull":
        return ""
    recipe = _recipe_path(engine)[1]
    return recipe if engine.facts.path(recipe).kind == "file" else ""


def _recipe_path(engine: Engine) -> tuple[str, str]:
    """The recipe's name as the build gets it, relative to `build_context`, and its path."""
    job = engine.job
    written = expanded_option(job, "build_file", engine.facts) or _RECIPES.get(job.dialect, "Singularity.recipe")
    return written, os.path.normpath(os.path.join(build_context(engine), written))


def build_context(engine: Engine) -> str:
    """The directory that a build starts in: what a recipe's `%files` are relative to."""
    job = engine.job
    given = expanded_option(job, "build_context", engine.facts)
    return os.path.normpath(os.path.join(job.root, given or ("build" if job.dialect == "directory" else ".")))


def _docker_source(engine: Engine, image: str) -> Source:
    """The docker platform's image: its archive, docker's own copy, or the registry's."""
    job, facts = engine.job, engine.facts
    if image.startswith("-"):
        raise DefinitionError(f"docker image {image!r} would be taken for an option", "name it as registries do: GROUP/NAME")
    remote = Source(f"docker://{image}")
    archive = expanded_option(job, "tar_file", facts)
    if archive is not None:
        path = os.path.normpath(os.path.join(job.root, archive))
        if facts.path(path).kind == "file":
            return Source(f"docker-archive:{path}")
        remote = Source(remote.text, notes=(f"'tar_file': there is no {path}, so the image is taken from docker",))
    if facts.tool("docker") is None:
        return remote
    question = Probe(Command(("docker", "image", "inspect", "--format", "{{.Id}}", image)))
    if facts.probe(question.command).exit_code != 0:
        return remote
    return Source(f"docker-daemon:{_with_tag(image)}", otherwise=remote.text, notes=remote.notes)


def _with_tag(image: str) -> str:
    """`docker-daemon:` takes no name without a tag."""
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


# --- making it -------------------------------------------------------------------------------------------------------


def built(engine: Engine, image: str, source: Source, always: bool) -> Preparation:
    """Build the image where it is absent, or `always`. Raises PreparationError where it cannot be put there."""
    _refuse_place(engine, image)
    context: str | None = build_context(engine)
    if not source.recipe and engine.facts.path(build_context(engine)).kind != "directory":
        context = None
    inputs = build_inputs(engine, source.recipe) if source.recipe else ""
    step = build_step(engine, image, source, context, inputs, always)
    return Preparation(image, (step,), (*source.notes, *tmp_notes(engine)))


def _stale(engine: Engine, image: str, recipe: str) -> tuple[str, ...]:
    """A warning where we built the image from this recipe, and what goes into it changed since (RULINGS 9)."""
    if not recipe:
        return ()
    built_from = what_it_says(engine, image)[0].get(INPUTS_LABEL)
    if not built_from or build_inputs(engine, recipe) in ("", built_from):
        return ()
    return (f"image {image}: its recipe, the files that it copies, or its build arguments have changed since it was built; "
            "to build it anew: mlcube configure --force",)


def build_inputs(engine: Engine, recipe: str) -> str:
    """The digest of what the recipe would be built from now; "" where that cannot be told. Raises facts.Missing."""
    option = engine.job.find_option("build_args")
    words = split_option(engine.job, "build_args", engine.facts) if option is not None and option.value is not None else ()
    return recipe_digest(engine.job, engine.facts, recipe, build_context(engine), words)


def _refuse_place(engine: Engine, image: str) -> None:
    """Raises PreparationError where the image's directory cannot be made or written (RULINGS 11), naming the line."""
    if engine.sudo:
        return
    fact = engine.facts.path(image)
    may = fact.writable if fact.kind == "directory" else fact.creatable
    if may or engine.job.assume:
        return
    option, directory = engine.job.find_option("image"), engine.facts.path(os.path.dirname(image))
    why = f"{fact.ancestor or os.path.dirname(image)} does not let you write"
    if directory.kind == "directory" and directory.writable:
        why = f"it is a link to {fact.real}, which is not there"
    raise PreparationError(f"image {image} cannot be made: {why}",
                           "give a path that you can write: edit 'image', or -Prunner.image=NAME.sif",
                           option_place(engine.job, "image") if option else None)


def option_place(job: Job, name: str) -> Location | None:
    """Where an option's value was written, as errors show it."""
    option = job.find_option(name)
    return refuse(option, "").location if option is not None else None


def _nothing_to_build(engine: Engine, image: str) -> PreparationError:
    return PreparationError(
        f"image {image} is not here, and there is nothing to build it from",
        f"put it there, write {_recipe_path(engine)[1]}, or name a docker image: -Prunner.docker_image=NAME",
        option_place(engine.job, "image"))
