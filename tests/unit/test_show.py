"""show-config's text and data: what stands in them for which platform, and that it reads back."""

from __future__ import annotations

import json
from pathlib import Path

from mlcube_cli.definition.show import config_text, only_platform, without_secrets
from mlcube_cli.definition.source import parse_document
from mlcube_cli.report import describe_data, describe_text
from tests.cubes import read, write_tree

CUBE = """
    name: "dígits"
    platform: {accelerator_count: 2}
    docker: {image: a:1}
    singularity: {image: a.sif}
    tasks: {t: null}
    """
FILE = "schema_type: mlcube_docker\nschema_version: 1.0.0\nimage: other:1\n"


def test_a_platform_file_leaves_the_cubes_own_keys_alone(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": CUBE, "platform.yaml": FILE, "tasks.yaml": FILE, "gpu.yaml": FILE})
    for file, name in (("platform.yaml", "platform.yaml"), ("tasks.yaml", "tasks.yaml"), ("gpu.yaml", "gpu")):
        reading = read(tmp_path, platform=file)
        assert reading.cube is not None and reading.platform == name
        assert reading.cube.requirements == {"accelerator_count": 2}
        assert [task.name for task in reading.cube.tasks] == ["t"]
        chosen = reading.cube.platform(name)
        assert chosen is not None and chosen.option("image") == "other:1"


def test_only_the_chosen_platform_of_an_inline_cube_with_its_origins(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": CUBE, "gpu.yaml": FILE})
    reading = read(tmp_path, platform="gpu.yaml")
    assert reading.cube is not None and reading.effective is not None
    text = config_text(reading.cube, only_platform(reading.cube, reading.effective.raw, reading.platform))
    data = parse_document(text.encode(), "shown").data
    assert isinstance(data, dict) and "docker" not in data and "singularity" not in data
    assert any(line.split() == ["image:", '"other:1"', "#", "gpu.yaml:3:8"] for line in text.splitlines())


def test_printable_text_is_shown_as_it_is(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, {"mlcube.yaml": CUBE}))
    assert reading.cube is not None and reading.effective is not None
    assert 'name: "dígits"\n' in config_text(reading.cube, reading.effective.raw)


def test_describe_shows_values_from_the_environment_as_they_are_written(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mlcube.yaml": """
        name: n
        description: for ${oc.env:WHO}
        words: [run, '${oc.env:WHO}']
        docker: {image: 'a:${oc.env:WHO}'}
        tasks:
          t:
            entrypoint: run --key ${oc.env:WHO} ${name}
            parameters: {inputs: {data: '${oc.env:WHO}/', plain: '${name}/'}}
          u: {entrypoint: '${words}'}
        """})
    reading = read(tmp_path, environment={"WHO": "hunter2"})
    assert reading.cube is not None and reading.effective is not None
    shown = without_secrets(reading.cube, reading.effective)
    assert "hunter2" not in json.dumps(describe_data(shown)) + describe_text(shown, ".")
    assert shown.description == "for ${oc.env:WHO}"
    assert [parameter.default for parameter in shown.tasks[0].parameters] == ["${oc.env:WHO}/", "n/"]
    assert reading.cube.description == "for hunter2"
