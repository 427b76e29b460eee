"""Files that are something else than a cube, named as what they are. Imported only where a file is no cube."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.detect import MAIN_FILES
from mlcube_cli.definition.hints import NO_CUBE_HINT as HINT

if TYPE_CHECKING:
    from mlcube_cli.definition.model import Data

DEEPEST = 8  # directories above a file in which its cube is looked for
_OLD = "this early form was never released; write its image and its parameters into an mlcube.yaml"
_CUBE_BESIDE = "name the cube's mlcube.yaml, or the directory that holds it"


@dataclass(frozen=True)
class Stranger:
    """What a file is, as the end of the sentence "it is ..."; and what to do instead."""

    what: str
    hint: str = HINT


# --- by the keys of a mapping ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Keys:
    """A mapping that has all of `keys`, with `test` true of it."""

    keys: tuple[str, ...]
    stranger: Stranger
    test: Callable[[dict[str, Data]], bool] = lambda data: True


def _is_map(key: str) -> Callable[[dict[str, Data]], bool]:
    return lambda data: isinstance(data[key], dict) and "tasks" not in data


def _is_list(key: str) -> Callable[[dict[str, Data]], bool]:
    return lambda data: isinstance(data[key], list) and "tasks" not in data


def _has_no_tasks(data: dict[str, Data]) -> bool:
    return "tasks" not in data


def _is_settings(data: dict[str, Data]) -> bool:
    platforms = data["platforms"]
    return "tasks" not in data and isinstance(platforms, dict) and any(
        isinstance(section, dict) and "runner" in section for section in platforms.values())


def _are_sections(data: dict[str, Data]) -> bool:
    return "tasks" not in data and any(isinstance(section, dict) and "runner" in section for section in data.values())


_SETTINGS = Stranger("a settings file of mlcube", "settings need not be named; name the cube's directory")
_MEDPERF = Stranger("a MedPerf container configuration", "MedPerf itself runs it; a cube has a file with 'tasks' of its own")
_MANIFEST = Stranger("a Kubernetes manifest", _CUBE_BESIDE)
_IMPLEMENTATION = Stranger("an MLBox's implementation file, a part of one", "name the MLBox's directory instead")
# Files of other programs that carry the same name or are given by mistake; the first that fits counts.
_BY_KEYS = (
    _Keys(("container_type", "image"), _MEDPERF),
    _Keys(("container_type", "tasks"), _MEDPERF),
    _Keys(("runners", "platforms"), _SETTINGS, _has_no_tasks),
    _Keys(("platforms",), _SETTINGS, _is_settings),
    _Keys(("apiVersion", "kind"), _MANIFEST, _has_no_tasks),
    _Keys(("apiVersion", "name", "version"), Stranger("a Helm chart", _CUBE_BESIDE), _has_no_tasks),
    _Keys(("jobs", "on"), Stranger("a GitHub workflow", _CUBE_BESIDE), _has_no_tasks),
    _Keys(("entry_points",), Stranger("an MLflow project", "a cube lists its tasks under 'tasks', with inputs and outputs"),
          _has_no_tasks),
    _Keys(("dependencies", "channels"), Stranger("a conda environment", _CUBE_BESIDE), _has_no_tasks),
    _Keys(("dependencies",), Stranger("a conda environment", _CUBE_BESIDE), _is_list("dependencies")),
    _Keys(("dependencies", "version"), Stranger("a package.json of npm", _CUBE_BESIDE), _is_map("dependencies")),
    _Keys(("services",), Stranger("a docker compose file", _CUBE_BESIDE), _is_map("services")),
    _Keys(("implementation_type",), _IMPLEMENTATION, lambda data: "tasks" not in data and data["implementation_type"] in (
        "docker", "singularity", "python", "exec")),
    _Keys(("docker_runtime", "image"), _IMPLEMENTATION, _has_no_tasks),
    _Keys(("gcp", "instance"), Stranger("a platform file of the Google Cloud runner of earlier versions, a part of a cube",
                                        "name the cube's directory instead"), _has_no_tasks),
    _Keys(("mlbox", "io"), Stranger("a run configuration of the first prototype of 2019", _OLD), _has_no_tasks),
    _Keys(("container", "io"), Stranger("a box of the first prototype of 2019", _OLD), _has_no_tasks),
    _Keys(("box_name",), Stranger("a box of a prototype of early 2020", _OLD), _has_no_tasks),
    _Keys(("main_file",), Stranger("a box of a prototype of early 2020", _OLD), _has_no_tasks),
    _Keys(("commandline_config",), Stranger("a part of a box of a prototype of early 2020", _OLD), _has_no_tasks),
    _Keys(("inputs", "outputs"), Stranger("a single task, a part of a cube", "name the cube's directory instead"),
          _has_no_tasks),
)
_PARTS = {
    "task": "a task file", "invoke": "a run configuration", "docker": "a docker platform file",
    "singularity": "a singularity platform file", "ssh": "an ssh platform file", "slurm": "a slurm platform file",
    "platform": "a platform file",
    "local": "a local platform file", "runner": "a runner's own file", "k8s": "a Kubernetes platform file",
    "kubeflow": "a Kubeflow platform file", "gcp": "a Google Cloud platform file",
}


def by_keys(data: dict[str, Data]) -> Stranger | None:
    """What a mapping is that is no cube; None where nothing is known."""
    written = data.get("schema")
    if isinstance(written, str) and written.startswith("mlcube."):
        return Stranger(f"a document that mlcube wrote ({written})", _CUBE_BESIDE)
    return next((one.stranger for one in _BY_KEYS if all(key in data for key in one.keys) and one.test(data)), None)


def as_part(data: dict[str, Data], root: str, file: str) -> Stranger | None:
    """A part of a cube: by its `schema_type`, or by its shape and its place; None where it is none.

    `root` is the directory that the file lies in, `file` its name as shown.
    """
    if "tasks" in data:
        return None
    what = _PARTS.get(str(data.get("schema_type", "")).rpartition("_")[2], "")
    directory = os.path.dirname(root)
    if not what and os.path.basename(directory) == "tasks" and os.path.lexists(os.path.join(directory, "..", "mlbox.yaml")):
        what = "a group of values of an MLBox"
    if not what and "schema_type" not in data and _are_sections(data):
        return Stranger("an MLBox's platform file", "name the box behind it: mlcube run FILE:NAME BOX:TASK")
    return Stranger(f"{what}, a part of one", _cube_above(root, file)) if what else None


def _cube_above(root: str, file: str) -> str:
    shown = os.path.dirname(file)
    for _ in range(DEEPEST):
        if any(os.path.isfile(os.path.join(root, name)) for name in MAIN_FILES):
            return f"name the cube's directory instead: {os.path.normpath(shown or '.')}"
        root, shown = os.path.dirname(root), os.path.join(shown, "..")
    return "name the cube's directory instead"


# --- by its text -----------------------------------------------------------------------------------------------------

_DOCKERFILE = re.compile(r"(?:ARG [^\n]*\n+)*FROM [^\n]+\n", re.IGNORECASE)
_RECIPE = re.compile(r"^bootstrap *: *\S+$.*^%(?:post|runscript|environment|files|setup|labels|test|help)\b",
                     re.IGNORECASE | re.MULTILINE | re.DOTALL)
_BARE_RECIPE = re.compile(r"\s*bootstrap *: *\S+\s+from *: *\S+\s*\Z", re.IGNORECASE)
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(?:\[[\w,. -]+\])?\s*(?:(?:[=~<>!]=|[<>])[^#\n]+)?(?:#.*)?\Z")
_TEMPLATE_TAG = re.compile(r"\{\{-?\s*cookiecutter\.|^\s*\{%-?\s*(?:if|for|set|raw)\b", re.MULTILINE)
_DOCUMENTS = re.compile(r"^apiVersion:.*^kind:|^kind:.*^apiVersion:", re.MULTILINE | re.DOTALL)


def by_text(text: str) -> Stranger | None:
    """What a text is that is no mapping in YAML; None where nothing is known."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    plain = "\n".join(lines) + "\n"
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    if _DOCKERFILE.match(plain):
        return Stranger("a Dockerfile", "the cube that it builds has an mlcube.yaml; name that file's directory")
    if _RECIPE.search(text) or _BARE_RECIPE.match(plain):
        return Stranger("a singularity recipe", "the cube that it builds has an mlcube.yaml; name that file's directory")
    if first.startswith("#!"):
        return Stranger("a program", "a cube is a YAML file that names programs; mlcube create makes one")
    if _DOCUMENTS.search(text):
        return _MANIFEST
    if _is_toml(lines):
        return Stranger("a TOML file", "a cube is written in YAML: name its mlcube.yaml")
    if _is_python(lines):
        return Stranger("a Python program", "a cube is a YAML file that names programs")
    if len(lines) > 1 and any("==" in line or ">=" in line for line in lines) and all(
            _REQUIREMENT.match(line) or line.startswith("-") for line in lines):
        return Stranger("a list of Python requirements", "a cube names it under 'requirements' of its 'local' section")
    if text.lstrip().startswith(("{", "[")) and not text.lstrip().startswith(("{{", "{%")):
        return _json(text)
    if text.lstrip().startswith("<"):
        return Stranger("XML or a web page", "was an error page saved instead of the file? Look into it")
    return None


def _is_toml(lines: list[str]) -> bool:
    return bool(lines) and re.match(r"\[\[?[\w.\"' -]+\]\]?\Z", lines[0]) is not None and any(
        re.match(r"[\w.-]+ *= *\S", line) for line in lines)


def _is_python(lines: list[str]) -> bool:
    return any(re.match(r"(?:import [\w.]+(?: as \w+)?|from [\w.]+ import .+|def \w+\(.*\).*:)\Z", line) for line in lines)


def _json(text: str) -> Stranger | None:
    """JSON with a fault, told by JSON's own words; JSON without one is YAML."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return Stranger(f"JSON with a fault in line {error.lineno}: {error.msg[:1].lower()}{error.msg[1:]}",
                        "mend it, or write the cube in YAML")
    except (ValueError, RecursionError):
        return None
    return None


def template_line(text: str) -> int:
    """The line (from 1) of the first tag of a cookiecutter template, 0 where there is none."""
    found = _TEMPLATE_TAG.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else 0
