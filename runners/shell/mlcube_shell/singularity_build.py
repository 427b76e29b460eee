"""The step that builds an image: under another name, then renamed, so that nobody ever sees half of one.

And what goes into an image that a recipe describes, as a digest that the image keeps as a label (RULINGS 15).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mlcube_cli.command import Command, Step, Variable, shell_line
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job
from mlcube_shell.docker_engine import read_map
from mlcube_shell.options import flag_option, refuse, split_option
from mlcube_shell.passing import PROXIES
from mlcube_shell.singularity_engine import Engine
from mlcube_shell.singularity_storage import cache_variables, removal, stale_removal, tmp_directory, tmp_making
from mlcube_shell.singularity_trouble import BUILD_REASONS

INPUTS_LABEL = "org.mlcommons.mlcube.recipe"
# A recipe is built with a label more, which says what it was built from.
_LABELLED = """{ cat -- "$1"; printf '\\n\\n%%labels\\n  %s\\n' "$2"; } >"$3\""""


_TEMPORARY = "mlcube-build-"


@dataclass(frozen=True)
class Source:
    """What an image is made from, as the engine takes it; `recipe` is the path where it is one.

    `otherwise` is what to try when the engine cannot take it.
    """

    text: str
    recipe: str = ""
    otherwise: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Room:
    """Where one build works."""

    directory: str  # the image's
    work: str  # a directory beside the image: renaming works from there
    tmp: str  # where the engine's temporary files go
    stale: str  # fits the names of such directories as `work`, of other builds of this image by this user on this machine

    @property
    def image(self) -> str:
        return os.path.join(self.work, "image")

    @property
    def recipe(self) -> str:
        return os.path.join(self.work, "recipe")


def build_step(engine: Engine, image: str, source: Source, context: str | None, inputs: str, always: bool) -> Step:
    """Build the image where it is absent, or `always`, in the directory `context` (None: the caller's).

    `inputs`: the digest of what a recipe is built from, "" where it is not known. Raises facts.Missing, DefinitionError,
    MachineError.
    """
    facts, root = engine.facts, engine.as_root()
    room, words = _room(engine, image), _words(engine, bool(source.recipe))
    fakeroot = "--fakeroot" in words or "-f" in words
    variables = (*cache_variables(engine), Variable(f"{engine.prefix}_TMPDIR", room.tmp), *_proxies(engine))
    before = [
        Command((*root, "mkdir", "-p", "--", room.directory)), *tmp_making(engine),
        *_stale(engine, room, fakeroot),
        Command((*root, "mkdir", "--", room.work)), Command(("mkdir", "-m", "700", "--", room.tmp))]
    if inputs:
        label = f"{INPUTS_LABEL} {inputs}"
        before.append(Command((*root, "sh", "-c", _LABELLED, "sh", source.recipe, label, room.recipe)))
    build = engine.command("build", *words, room.image, room.recipe if inputs else source.text, env=variables, cwd=context)
    by_hand = Command((*engine.words, "build", *words, "/tmp/tried.sif", source.text), cwd=context)
    again = None
    if source.otherwise:  # over what the first attempt may have left
        again = engine.command("build", "--force", *words, room.image, source.otherwise, env=variables, cwd=context)
    return Step(
        f"build image {image}", build, unless=None if always else Command(("test", "-e", image)),
        before=tuple(before), otherwise=again, then=_put_in_place(engine, image, room),
        after=removal(engine, (room.work, room.tmp), fakeroot),
        lock=f"singularity-image-{facts.path(image).real or image}", makes=image, reasons=BUILD_REASONS,
        hint=f"try it by hand: {shell_line(by_hand)}; or take a finished image: -Prunner.image=FILE.sif")


def _room(engine: Engine, image: str) -> _Room:
    job, facts = engine.job, engine.facts
    directory, name = os.path.split(image)
    work = f".{name}.{facts.uid}@{facts.host}."
    return _Room(directory, os.path.join(directory, f"{work}{job.command_id}.partial"),
                 os.path.join(tmp_directory(engine), f"{_TEMPORARY}{job.command_id}"),
                 re.sub(r"([\\*?\[])", r"\\\1", work) + "*.partial")


def _stale(engine: Engine, room: _Room, fakeroot: bool) -> tuple[Command, ...]:
    """Remove what killed builds left: beside the image all that is of this image and not ours, since the step's lock is
    held; where temporary files go, what nobody has touched for two days."""
    facts, tmp = engine.facts, os.path.dirname(room.tmp)
    owner = 0 if engine.root else facts.uid
    found = ((room.directory, ("-user", str(owner), "-name", room.stale)),
             (tmp, ("-user", str(facts.uid), "-name", f"{_TEMPORARY}*", "-mtime", "+1")))
    return tuple(stale_removal(engine, place, tests, fakeroot) for place, tests in found if facts.path(place).readable)


def _put_in_place(engine: Engine, image: str, room: _Room) -> tuple[Command, ...]:
    """A sandbox is a directory, which no other is renamed over; a link to one is replaced. A directory moves only where its
    owner may write into it, and the root of some distributions' images is mode 555."""
    fact, root = engine.facts.path(image), engine.as_root()
    commands: list[Command] = []

    def move(source: str, target: str) -> None:
        commands.append(Command((*root, "chmod", "u+w", "--", source)))
        commands.append(Command((*root, "mv", "-f", "-T", "--", source, target)))

    if fact.kind == "directory" and fact.real in ("", image):
        move(image, os.path.join(room.work, "old"))
    move(room.image, image)
    return tuple(commands)


def _words(engine: Engine, recipe: bool) -> tuple[str, ...]:
    """The user's `build_args`, in place of `--fakeroot`, which recipes take where the caller is not root."""
    option = engine.job.find_option("build_args")
    if option is not None and option.value is not None:
        words = split_option(engine.job, "build_args", engine.facts)
        if option.secret and any(word.split("=")[0] == "--build-arg" for word in words):
            raise refuse(option, "a value of your environment would stand in a command line that everybody here can read",
                         "write it to a file of yours: --build-arg-file FILE")
        return words
    wanted = flag_option(engine.job, "fakeroot") or (recipe and not engine.root)
    return ("--fakeroot",) if wanted else ()


def _proxies(engine: Engine) -> tuple[Variable, ...]:
    """sudo has to be told; otherwise a build has them anyway."""
    environment = engine.facts.environment
    if not engine.sudo:
        return ()
    return tuple(Variable(name, environment[name], secret="@" in environment[name])
                 for name in PROXIES if environment.get(name))


# --- what a recipe is made from --------------------------------------------------------------------------------------


def recipe_digest(job: Job, facts: Facts, recipe: str, context: str, words: tuple[str, ...]) -> str:
    """`sha256:HEX` over the recipe, the files that it copies, and the words of the build; "" where there are too many.

    `words`: the build's arguments. The image itself may differ from build to build. Raises facts.Missing.
    """
    import hashlib

    sources = copied_files(facts.text(recipe) or b"")
    paths = (recipe, *(os.path.normpath(os.path.join(context, source)) for source in sources))
    tree = facts.digest(paths, exclude=tuple(dict.fromkeys((job.workspace, os.path.join(job.root, "workspace")))))
    if tree is None:
        return ""
    text = "\0".join((tree, *words))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def what_it_says(engine: Engine, image: str) -> tuple[dict[str, str], str]:
    """The image's labels, and the recipe that it was built from; empty where it does not say. Raises facts.Missing."""
    said = engine.facts.probe(engine.command("inspect", "--json", "--labels", "--deffile", image))
    data: object = read_map(said.stdout)
    for key in ("data", "attributes"):
        data = data.get(key) if isinstance(data, dict) else None
    attributes = data if isinstance(data, dict) else {}
    labels = attributes.get("labels")
    texts = {str(name): str(value) for name, value in labels.items()} if isinstance(labels, dict) else {}
    return texts, str(attributes.get("deffile"))


def copied_files(recipe: bytes) -> tuple[str, ...]:
    """What a recipe takes from this machine, relative to where it is built: `%files`, `From:` of a local image, and all
    (".") where it has a `%setup`, which runs here (https://apptainer.org/docs/user/main/definition_files.html)."""
    found: list[str] = []
    section, local = "", False
    for line in recipe.decode("utf-8", "surrogateescape").splitlines():
        line = line.strip()
        key, colon, value = line.partition(":")
        if line.startswith("%"):
            section = line.lower()
            found += ["."] if section.split()[0] == "%setup" else []
        elif not section and colon and key.strip().lower() == "bootstrap":
            local = value.strip().lower() == "localimage"
        elif not section and colon and key.strip().lower() == "from" and local:
            found.append(value.strip())
        elif section == "%files" and line and not line.startswith("#"):
            found.append(_first_word(line))
    return tuple(dict.fromkeys(source for source in found if source))


def _first_word(line: str) -> str:
    """The source of a `%files` line, up to the first component with a wildcard."""
    import shlex

    try:
        word = next(iter(shlex.split(line)), "")
    except ValueError:  # quotes that do not close
        word = line.split()[0]
    parts: list[str] = []
    for part in word.split("/"):
        if any(char in part for char in "*?[{"):
            break
        parts.append(part)
    return "/".join(parts) or "."
