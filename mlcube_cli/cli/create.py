"""`mlcube create`: a small cube that validates and runs at once, to start from. It needs no network."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from mlcube_cli.cli import create_files as texts
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.new_directory import check_new, make_directory, write_file
from mlcube_cli.command import quote
from mlcube_cli.definition.hints import nearest
from mlcube_cli.definition.images import image_fault
from mlcube_cli.definition.write_yaml import scalar_text
from mlcube_cli.errors import UsageError

DEFAULT_IMAGE = "python:3-slim"
_RUNNERS = {"local": "local", "docker": "docker", "podman": "docker", "singularity": "singularity",
            "apptainer": "singularity"}
_PROGRAMS = {"inline": "main.py", "directory": "build/main.py", "mlbox": "implementation/src/main.py"}
_BUILD_FILES = {
    ("inline", "docker"): "Dockerfile",
    ("inline", "singularity"): "Singularity.recipe",
    ("directory", "docker"): "build/Dockerfile",
    ("directory", "singularity"): "build/Singularity.recipe",
    ("mlbox", "docker"): "implementation/docker/dockerfiles/Dockerfile",
    ("mlbox", "singularity"): "implementation/singularity/recipes/Singularity.recipe",
}
_BOOTSTRAPS = {"docker://": "docker", "docker-archive:": "docker-archive", "docker-daemon:": "docker-daemon",
               "oras://": "oras", "library://": "library"}
_FILES = ("docker-archive", "localimage")


@dataclass(frozen=True)
class NewCube:
    """A cube to be: where, what it is called, in which dialect, on which platforms (as asked for), from which image."""

    path: str  # absolute
    shown: str  # as typed
    name: str
    dialect: str
    platforms: tuple[str, ...]
    image: str

    @property
    def slug(self) -> str:
        """The name as a part of an image's name: lower case letters, digits and single dashes."""
        plain = unicodedata.normalize("NFKD", self.name.casefold()).encode("ascii", "ignore").decode()
        return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "cube"


def create(arguments: Arguments) -> int:
    """`mlcube create`: 0; 2 for a name or place that will not do; 5 when it cannot be written."""
    cube = _wanted(arguments)
    check_new(cube.path, cube.shown)
    files = cube_files(cube)
    make_directory(cube.path, cube.shown, partial(_fill, files))
    commands = next_commands(cube, cube.shown)
    if arguments.json:
        output.json_result({"schema": "mlcube.create.v1", "root": cube.path, "name": cube.name, "dialect": cube.dialect,
                            "platforms": list(cube.platforms), "files": list(files), "next": list(commands)})
    else:
        lines = [*(os.path.join(cube.shown, name) for name in files), "", "next", *(f"  {line}" for line in commands)]
        output.result("\n".join(lines) + "\n")
    return 0


def _fill(files: Mapping[str, str], directory: str) -> None:
    for name, text in files.items():
        write_file(directory, name, text)


# --- what is asked for ---------------------------------------------------------------------------------------------


def _wanted(arguments: Arguments) -> NewCube:
    if not arguments.words:
        raise UsageError("what is the new cube's name?", "mlcube create NAME")
    if len(arguments.words) > 1:
        raise UsageError(f"'{arguments.words[1]}' is one word too many", "put a name with spaces in quotes")
    shown = arguments.words[0]
    path = os.path.abspath(os.path.expanduser(shown))
    name = os.path.basename(path)
    if not name:
        raise UsageError(f"'{shown}' is the root of the file system", "name a directory below it")
    if not name.isprintable() or not name.strip():
        raise UsageError(f"'{shown}' cannot be a cube's name: it holds a character that is no text",
                         "use letters, digits, '-' and '_'")
    platforms = _platforms(arguments.platform, arguments.dialect)
    return NewCube(path, shown, name, arguments.dialect, platforms, _image(arguments.image, platforms))


def _platforms(text: str, dialect: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in _RUNNERS:
            guess = nearest(name, list(_RUNNERS))
            raise UsageError(f"create knows no platform '{name}'", f"did you mean '{guess}'?" if guess else
                             f"one or more of: {', '.join(_RUNNERS)}")
    runners = [_RUNNERS[name] for name in names]
    if dialect == "mlbox" and len(names) > 1:
        raise UsageError("an MLBox has one implementation", f"choose one of: {', '.join(names)}")
    if dialect == "inline" and len(set(runners)) < len(runners):
        raise UsageError(f"{' and '.join(names)} share one section of an inline cube", "choose one, or --dialect directory")
    if not names:
        raise UsageError("--platform names none", f"one or more of: {', '.join(_RUNNERS)}")
    return names


def _image(text: str | None, platforms: tuple[str, ...]) -> str:
    """The base image. Raises UsageError where it is of no use, or where the platform cannot start from it."""
    runners = {_RUNNERS[name] for name in platforms}
    if text is None:
        return DEFAULT_IMAGE
    if runners == {"local"}:
        raise UsageError("--image is the base of a container's image, and the local platform has none",
                         "add --platform docker, or another one with containers")
    if any(char in text for char in "\n\r\0"):
        raise UsageError(f"--image: '{text}' cannot stand on one line", "write NAME, or NAME:TAG")
    source, image = _bootstrap(text)
    if "docker" in runners and source != "docker":
        raise UsageError(f"docker cannot start from '{text}'", "write NAME, or NAME:TAG")
    if source in _FILES and not os.path.exists(image):
        raise UsageError(f"--image: there is no {image}", "check the path; it begins at the current directory")
    fault = image_fault(image) if source in ("docker", "docker-daemon") else None
    if fault:
        raise UsageError(f"--image: {fault[0]}", fault[1])
    return image if "docker" in runners else text


def _bootstrap(text: str) -> tuple[str, str]:
    """What a recipe says under `Bootstrap` and `From` for an image: a docker name, `docker-archive:FILE`, `FILE.sif`, ..."""
    for prefix, kind in _BOOTSTRAPS.items():
        if text.startswith(prefix):
            rest = text[len(prefix):]
            return kind, os.path.abspath(os.path.expanduser(rest)) if kind == "docker-archive" else rest
    if text.endswith((".sif", ".simg", ".img")) or text.startswith(("/", "./", "../", "~/")):
        return "localimage", os.path.abspath(os.path.expanduser(text))
    return "docker", text


# --- the files -----------------------------------------------------------------------------------------------------


def cube_files(cube: NewCube) -> dict[str, str]:
    """The cube's files: name below its root -> text."""
    build = {"inline": _inline_files, "directory": _directory_files, "mlbox": _mlbox_files}[cube.dialect]
    files = build(cube)
    files[_PROGRAMS[cube.dialect]] = texts.PROGRAM.format(
        TASK_ARGUMENT=texts.TASK_AS_OPTION if cube.dialect == "mlbox" else texts.TASK_FIRST)
    files["workspace/parameters.json"] = texts.PARAMETERS
    for runner in dict.fromkeys(_RUNNERS[name] for name in cube.platforms):
        files.update(_build_file(cube, runner))
    files["README.md"] = texts.README.format(
        TITLE=cube.name, COMMANDS="\n".join(next_commands(cube, cube.name)), LAYOUT=texts.LAYOUTS[cube.dialect])
    files[".gitignore"] = texts.GITIGNORE
    return files


def _values(cube: NewCube, platform: str = "") -> dict[str, str]:
    engine = ""
    if platform == "podman":
        key = "docker_runtime" if cube.dialect == "mlbox" else "docker"
        engine = f"\n{'  ' if cube.dialect == 'inline' else ''}{key}: podman"
    return {"NAME": scalar_text(cube.name), "PROGRAM": _PROGRAMS[cube.dialect], "TAG": f"mlcube/{cube.slug}:0.1.0",
            "SIF": f"{cube.slug}.sif", "ENGINE": engine}


def _inline_files(cube: NewCube) -> dict[str, str]:
    sections = [texts.INLINE_PLATFORMS[_RUNNERS[name]].format(**_values(cube, name)) for name in cube.platforms]
    return {"mlcube.yaml": texts.INLINE.format(**_values(cube), PLATFORMS="\n".join(sections))}


def _directory_files(cube: NewCube) -> dict[str, str]:
    return {
        "mlcube.yaml": texts.ROOT.format(**_values(cube)),
        **{f"tasks/{name}.yaml": text for name, text in texts.TASKS.items()},
        **{f"run/{name}.yaml": text for name, text in texts.RUNS.items()},
        **{f"platforms/{name}.yaml": texts.DIRECTORY_PLATFORMS[_RUNNERS[name]].format(**_values(cube, name))
           for name in cube.platforms},
    }


def _mlbox_files(cube: NewCube) -> dict[str, str]:
    (platform,) = cube.platforms
    runner = _RUNNERS[platform]
    return {
        "mlbox.yaml": texts.BOX.format(**_values(cube), KIND="python" if runner == "local" else runner),
        **{f"tasks/{name}/default.yaml": text for name, text in texts.BOX_GROUPS.items()},
        "implementation/mlbox_implementation.yaml": texts.IMPLEMENTATIONS[runner].format(**_values(cube, platform)),
    }


def _build_file(cube: NewCube, runner: str) -> dict[str, str]:
    """The Dockerfile or recipe; the paths in it start where the dialect builds (spec/dialects 1.6, 2.7, 3.8)."""
    if runner == "local":
        return {}
    program = _PROGRAMS[cube.dialect] if cube.dialect == "mlbox" else "main.py"
    name = _BUILD_FILES[cube.dialect, runner]
    if runner == "singularity":
        kind, image = _bootstrap(cube.image)
        return {name: texts.RECIPE.format(BOOTSTRAP=kind, IMAGE=image, PROGRAM=program)}
    ignore = {} if cube.dialect == "directory" else {".dockerignore": texts.DOCKERIGNORE}
    return {name: texts.DOCKERFILE.format(IMAGE=cube.image, PROGRAM=program), **ignore}


def next_commands(cube: NewCube, place: str) -> tuple[str, ...]:
    """What to type next, with the cube's directory as `place`."""
    place = f"./{place}" if place.startswith("-") else os.path.expanduser(place)
    where = quote(place)
    chosen = [f" --platform {name}" for name in cube.platforms] if len(cube.platforms) > 1 else [""]
    # The outputs of an MLBox have no type, so what the second task reads has to be there when it is planned (RULINGS 4, 6).
    tasks = ("prepare", "train") if cube.dialect == "mlbox" else ("prepare,train",)
    runs = [f"mlcube run {where}{platform} --task {task}" for platform in chosen for task in tasks]
    return (f"mlcube validate {where}", *runs, f"cat {quote(os.path.join(place, 'workspace/report.txt'))}")
