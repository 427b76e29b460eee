"""How an image comes to be there: the steps that build or pull it, by the platform's strategy (RULINGS 8, 9)."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace

from mlcube_cli.command import Command, Step, Variable
from mlcube_cli.definition.model import OVERRIDE
from mlcube_cli.errors import DefinitionError
from mlcube_cli.facts import FileText, PathKind, Probe
from mlcube_cli.job import Job
from mlcube_shell.docker_engine import Engine, Image, find_image, presence
from mlcube_shell.options import refuse, text_option
from mlcube_shell.passing import given_build_args, pass_proxies, taken_names
from mlcube_shell.tools import docker_builder

INPUTS_LABEL = "org.mlcommons.mlcube.inputs"  # on images that we build: the digest of what went into them
_STRATEGIES = ("build", "fallback", "pull", "auto", "always")
_MLBOX_FILE = "implementation/docker/dockerfiles/Dockerfile"


@dataclass(frozen=True)
class Recipe:
    """What an image is built from: absolute paths of the context and the build file."""

    context: str
    file: str
    found: bool


@dataclass(frozen=True)
class Preparation:
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    starts_itself: bool = True  # as far as is known: the image has an entry point
    reference: str = ""  # what to run: the locked image itself; "": by the platform's name for it
    id: str = ""  # the image's, where it is here already


def image_name(job: Job) -> str:
    """The image that the platform names. Raises DefinitionError when it names none."""
    image = text_option(job, "image")
    if image is None or not image.strip():
        raise DefinitionError(f"platform '{job.platform.name}' names no image",
                              "add 'image: NAME', or -Prunner.image=NAME", job.platform.location)
    if image.startswith("-"):
        option = job.find_option("image")
        assert option is not None
        raise refuse(option, f"{image!r} would be taken for an option", "an image's name begins with a letter or digit")
    return image


def strategy_of(job: Job) -> str:
    """The build strategy; unset: `fallback` for an inline cube, else `build`. Raises DefinitionError for others."""
    option = job.find_option("build_strategy")
    if option is None or option.value is None:
        return "fallback" if job.dialect == "inline" else "build"
    if option.value not in _STRATEGIES:
        raise refuse(option, f"there is no strategy {option.value!r}", f"one of {', '.join(_STRATEGIES)}")
    return str(option.value)


def find_recipe(engine: Engine) -> Recipe:
    """Where the build file is, and whether it is there. Raises facts.Missing."""
    job = engine.job
    context = text_option(job, "build_context") or ("build" if job.dialect == "directory" else ".")
    file = text_option(job, "build_file") or (_MLBOX_FILE if job.dialect == "mlbox" else "Dockerfile")
    context = os.path.normpath(os.path.join(job.root, context))
    file = os.path.normpath(os.path.join(context, file))
    return Recipe(context, file, engine.facts.path(file).kind == "file")


def for_configure(engine: Engine, force: bool) -> Preparation:
    """Build where there is a build file, else pull; an image that only this machine has will do for a pull."""
    recipe, image = find_recipe(engine), image_name(engine.job)
    state = find_image(engine, image)  # shows an engine that does not answer before anything starts
    if strategy_of(engine.job) != "pull" and can_build(engine, recipe):
        build = _build(engine, recipe, image, force)
        return Preparation((build_step(engine, image, build),), _build_notes(engine, recipe, state))
    here = None if force else presence(engine, image)
    return Preparation((pull_step(engine, image, otherwise=here),), _assumption(engine, image, state))


def for_run(engine: Engine, never_pull: bool = False) -> Preparation:
    """What is missing before a run: nothing where the image is here, unless the strategy is `always`.

    `never_pull`: an absent image is built, since a registry's may be another one.
    """
    image, strategy = image_name(engine.job), strategy_of(engine.job)
    recipe, state = find_recipe(engine), find_image(engine, image)
    if state.present and strategy != "always":
        return Preparation((), _stale(engine, recipe, state, image), state.starts_itself, id=state.id)
    if strategy == "pull" or not can_build(engine, recipe):
        unless = None if strategy == "always" else presence(engine, image)
        return Preparation((pull_step(engine, image, unless=unless),), _assumption(engine, image, state))
    build, notes = _build(engine, recipe, image), _build_notes(engine, recipe, state)
    if strategy == "fallback" and not never_pull:
        note = f"image {image} is not here: it is pulled, and if that fails built from {recipe.file}"
        step = pull_step(engine, image, unless=presence(engine, image), otherwise=build)
        step = replace(step, hint=f"mend {recipe.file}, or check the image's name and the network")
        return Preparation((step,), (note, *notes))
    unless = None if strategy == "always" else presence(engine, image)
    return Preparation((build_step(engine, image, build, unless),), notes)


# --- steps ---------------------------------------------------------------------------------------------------------


def build_step(engine: Engine, image: str, build: Command, unless: Command | None = None) -> Step:
    return Step(f"build image {image}", build, unless=unless, lock=f"{engine.name}-image-{image}",
                hint="mend the build file, or take a finished image: -Prunner.build_strategy=pull")


def pull_step(engine: Engine, image: str, unless: Command | None = None, otherwise: Command | None = None) -> Step:
    return Step(f"pull image {image}", engine.command("pull", registry_name(engine, image)), unless=unless, otherwise=otherwise,
                lock=f"{engine.name}-image-{image}",
                hint=f"check the name and the network; a private image needs: {' '.join(engine.words)} login")


def registry_name(engine: Engine, image: str) -> str:
    """The name to pull by: a name without a registry means docker's own, on podman too, which else asks the registries of
    its configuration in turn, or none (https://docs.podman.io/en/latest/markdown/podman-pull.1.html)."""
    registry, slash, _ = image.partition("/")
    spelled_out = slash and (registry == "localhost" or "." in registry or ":" in registry)
    return image if spelled_out or engine.name != "podman" else f"docker.io/{image}"


def can_build(engine: Engine, recipe: Recipe) -> bool:
    """Whether there is a build file. One that the cube names and that did not come with it leaves the image to be pulled, as
    earlier programs did (spec/dialects 3.8). Raises DefinitionError where the strategy is `build`, or `-P` names the file."""
    option = engine.job.find_option("build_file")
    if recipe.found or option is None or option.value is None or option.origin == "default":
        return recipe.found
    if option.origin != OVERRIDE and strategy_of(engine.job) != "build":
        return False
    raise refuse(option, f"there is no file {recipe.file}", "build_file is relative to build_context")


def _build(engine: Engine, recipe: Recipe, image: str, force: bool = False) -> Command:
    given = given_build_args(engine.job, engine.facts)
    arguments = pass_proxies("--build-arg", engine.job, engine.facts, taken_names(given.words)) + given
    digest = build_digest(engine, recipe)
    words = (
        "build",
        "--tag", image,
        "--file", recipe.file,
        # podman's own format has no SHELL, HEALTHCHECK and ONBUILD, and leaves them out with a warning.
        *(("--format", "docker") if engine.name == "podman" else ()),
        *(("--no-cache",) if force else ()),
        *(("--label", f"{INPUTS_LABEL}={digest}") if digest else ()),
        *arguments.words,
        recipe.context,
    )
    switch = {"built-in": "1", "legacy": "0"}.get(_builder(engine), "")
    env = (Variable("DOCKER_BUILDKIT", switch),) if switch else ()
    return engine.command(*words, env=(*env, *arguments.variables), names=arguments.names)


def _builder(engine: Engine) -> str:
    """What `docker build` builds with: `buildx` | `built-in` | `legacy`; empty where that is not ours to choose."""
    facts = engine.facts
    if engine.name != "docker" or engine.assumed or facts.environment.get("DOCKER_BUILDKIT"):
        return ""
    version = engine.command("version", "--format", "{{.Client.Version}} {{.Server.Version}}")
    buildx = engine.command("buildx", "version")
    facts.need(Probe(version), Probe(buildx))
    client, _, daemon = facts.probe(version).stdout.strip().partition(" ")
    return docker_builder(client, daemon, facts.probe(buildx).exit_code == 0)


def build_digest(engine: Engine, recipe: Recipe) -> str | None:
    """The digest of all that goes into the image, secrets aside; None when the context is too big to tell."""
    import hashlib

    job = engine.job
    sources = copied_sources(engine.facts.text(recipe.file) or b"")
    paths = (recipe.file, *(os.path.normpath(os.path.join(recipe.context, source)) for source in sources))
    workspaces = dict.fromkeys((job.workspace, os.path.join(job.root, "workspace")))
    own, shared = f"{recipe.file}.dockerignore", os.path.join(recipe.context, ".dockerignore")
    engine.facts.need(FileText(own), FileText(shared))
    given = engine.facts.text(own)
    ignore = (given if given is not None else engine.facts.text(shared) or b"").decode("utf-8", "surrogateescape")
    tree = engine.facts.digest(paths, exclude=tuple(workspaces), base=recipe.context, ignore=tuple(ignore.splitlines()))
    if tree is None:
        return None
    arguments = given_build_args(job, engine.facts).words
    text = "\0".join((tree, os.path.relpath(recipe.file, recipe.context), *arguments))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def copied_sources(build_file: bytes) -> tuple[str, ...]:
    """What a build file copies out of its context, as paths relative to it; "." where that is all of it or cannot be told.

    So a stamp or a log beside the build file does not make an image look old
    (https://docs.docker.com/reference/dockerfile/, COPY and ADD).
    """
    text = re.sub(r"\\\s*\n(\s*#.*\n)*", " ", build_file.decode("utf-8", "surrogateescape"))
    sources: list[str] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() in ("COPY", "ADD"):
            sources += _sources(rest.strip())
        elif word.upper() == "RUN" and "--mount=" in rest and "type=bind" in rest:
            sources.append(".")
    return tuple(dict.fromkeys(sources))


def _sources(rest: str) -> list[str]:
    """The sources of one COPY or ADD; none for another stage's files, addresses and inline texts."""
    words = rest.split()
    while words and words[0].startswith("--"):
        if words[0].startswith("--from="):
            return []
        words.pop(0)
    if words and words[0].startswith("["):
        try:
            words = [str(word) for word in json.loads(" ".join(words))]
        except ValueError:
            return ["."]
    found = [word.strip("\"'") for word in words[:-1]]
    return [_fixed_part(word) for word in found if "://" not in word and not word.startswith("<<")]


def _fixed_part(source: str) -> str:
    """The path up to the first component with a wildcard or a variable."""
    parts: list[str] = []
    for part in source.strip("/").split("/"):
        if any(char in part for char in "*?[$"):
            break
        parts.append(part)
    return "/".join(parts) or "."


# --- notes ---------------------------------------------------------------------------------------------------------


def _stale(engine: Engine, recipe: Recipe, state: Image, image: str) -> tuple[str, ...]:
    """A warning where we built the image and its files changed since (RULINGS 9)."""
    built_from = state.labels.get(INPUTS_LABEL)
    if not built_from or not recipe.found or build_digest(engine, recipe) in (None, built_from):
        return ()
    return (f"image {image}: its build files or build arguments have changed since it was built; "
            f"to build it anew: mlcube configure",)


def _assumption(engine: Engine, image: str, state: Image) -> tuple[str, ...]:
    return (assumption(engine, image),) if state.assumed else ()


def assumption(engine: Engine, image: str) -> str:
    """What is said of an image that nobody could be asked about."""
    if engine.job.batch:
        return (f"whether image {image} is there is seen on the node; where it is not, the job begins with getting it: see to "
                "it that nodes have it, or reach its registry")
    return f"{engine.name} does not answer here; the plan assumes that it does and that image {image} is absent"


def _build_notes(engine: Engine, recipe: Recipe, state: Image) -> tuple[str, ...]:
    """Says when the old builder sends a workspace that lies in the context each time."""
    notes = _assumption(engine, image_name(engine.job), state)
    if not engine.job.workspace.startswith(recipe.context.rstrip("/") + "/") or _builder(engine) != "legacy":
        return notes
    ignore = os.path.join(recipe.context, ".dockerignore")
    engine.facts.need(PathKind(ignore))
    if engine.facts.path(ignore).kind != "absent":
        return notes
    return (*notes, f"this docker has no BuildKit: the workspace is sent to the daemon with {recipe.context}; "
                    "install docker-buildx, or name the workspace in .dockerignore")
