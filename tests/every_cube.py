"""Every cube that the repository holds, for tests that must hold for all of them: examples, the pages' cubes, definitions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.conftest import CHECKOUT
from tests.cubes import write_tree
from tests.examples import copy_example
from tests.unit.test_seed_pages import DIRECTORY, MLBOX

GOOD = CHECKOUT / "tests/definitions/good"
CONFORMANCE = CHECKOUT / "tests/conformance"
EXAMPLES = ("hello", "mnist", "mlbox/mnist/docker", "mlbox/mnist/baremetal", "mlbox/mnist/singularity")
ROOT = "schema_type: mlcube_root\nname: around\ntasks: [tasks/a.yaml]\n"
TASK = "schema_type: mlcube_task\ninputs: [{name: data, type: directory}]\noutputs: []\n"
RUN = "schema_type: mlcube_invoke\ntask_name: a\ninput_binding: {data: data}\noutput_binding: {}\n"
BOX = "type: mlbox\nname: around\ntasks: {a: {inputs: {data: {}}, outputs: {}}}\n"
IMPLEMENTATION = "implementation_type: docker\nimage: a/b:1\n"


@dataclass(frozen=True)
class CubeCase:
    """A cube written into a directory: what to name on the command line, and the environment that it wants."""

    where: Path
    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def names() -> list[str]:
    """The names of all cases: KIND/NAME."""
    parts = sorted(str(path.relative_to(GOOD).with_suffix("")) for path in GOOD.glob("*/*.yaml")
                   if _around(path, "") is not None)
    cases = sorted(path.parent.name for path in CONFORMANCE.glob("*/case.yaml"))
    return [*(f"example/{name}" for name in EXAMPLES), "page/mlbox", "page/directory", *(f"good/{name}" for name in parts),
            *(f"conformance/{name}" for name in cases)]


def write_case(name: str, place: Path) -> CubeCase:
    """Write the cube of that name below `place`, with everything that its tasks read."""
    kind, _, rest = name.partition("/")
    root = place / "cube"
    if kind == "conformance":
        return _conformance(rest, place)
    if kind == "example":
        copy_example(rest, root)
    elif kind == "page":
        write_tree(root, MLBOX if rest == "mlbox" else DIRECTORY)
    else:
        files = _around(GOOD / f"{rest}.yaml", (GOOD / f"{rest}.yaml").read_text())
        assert files is not None
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    return CubeCase(root, root)


def _conformance(name: str, place: Path) -> CubeCase:
    shutil.copytree(CONFORMANCE / name, place, dirs_exist_ok=True)
    case = yaml.safe_load((place / "case.yaml").read_text())
    root = place / "cube"
    for path in case.get("inputs", ()):
        made = root / path
        made.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            made.mkdir(exist_ok=True)
        else:
            made.write_text("a: 1\n")
    environment = json.loads(json.dumps(case.get("environment", {})).replace("$CASE", str(place)))
    definitions = [path for path in sorted(root.iterdir()) if path.suffix in (".yaml", ".yml") and path.name != "platform.yaml"]
    usual = [path for path in definitions if path.name in ("mlcube.yaml", "mlcube.yml", "mlbox.yaml")]
    return CubeCase(root if usual or len(definitions) != 1 else definitions[0], root, environment)


def _around(path: Path, text: str) -> Mapping[str, str] | None:
    """The part of a definition in a cube that has all the others; None where it is part of no cube."""
    kind = path.parent.name
    directory = {"mlcube.yaml": ROOT, "tasks/a.yaml": TASK, "run/a.yaml": RUN}
    if kind == "mlcube":
        return {"mlcube.yaml": text, "a.py": ""}
    if kind == "mlcube_task":
        return {"mlcube.yaml": ROOT, "tasks/a.yaml": text, "platforms/docker.yaml": "schema_type: mlcube_docker\nimage: a\n"}
    if kind in ("mlcube_docker", "mlcube_singularity", "mlcube_local", "mlcube_platform", "mlcube_ssh", "mlcube_slurm"):
        return {**directory, f"platforms/{kind[7:]}.yaml": text, "build/mnist.py": "", "build/requirements.txt": ""}
    if kind == "mlbox":
        return {"mlbox.yaml": text, "implementation/mlbox_implementation.yaml": IMPLEMENTATION}
    if kind == "mlbox_implementation":
        return {"mlbox.yaml": BOX, "tasks/a/default.yaml": "data: data\n",
                "implementation/mlbox_implementation.yaml": text}
    return None
