"""The inline dialect: one file, every spelling of its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcube_cli.definition.model import Author
from tests.cubes import bound, codes, options, parameter, problems, read_inline, task


def test_parameters_as_text_null_and_mapping(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        name: hello
        docker: {image: a:1}
        tasks:
          greet:
            parameters:
              inputs:
                data: data/
                data_file:
                config: {type: file, default: c.yaml, opts: rw, description: settings}
                bare: {type: directory}
                number: 10
                windows: 'd\\'
              outputs:
                model: {default: model/}
                log: {type: file}
                file_with_slash: {type: file, default: foo/}
        """)
    assert reading.problems == ()
    shown = {one.name: (one.direction, one.type, one.default, one.mode, one.mode_stated)
             for one in task(reading, "greet").parameters}
    assert shown == {
        "data": ("input", "directory", "data/", "ro", False),
        "data_file": ("input", "unknown", "data_file", "ro", False),
        "config": ("input", "file", "c.yaml", "rw", True),
        "bare": ("input", "directory", "bare", "ro", False),
        "number": ("input", "unknown", "10", "ro", False),
        "windows": ("input", "directory", "d\\", "ro", False),
        "model": ("output", "directory", "model/", "rw", False),
        "log": ("output", "file", "log", "rw", False),
        "file_with_slash": ("output", "file", "foo/", "rw", False),
    }
    assert next(iter(shown)) == "data"
    assert parameter(reading, "greet", "config").description == "settings"
    assert str(parameter(reading, "greet", "config").location) == "mlcube.yaml:9:39"
    assert str(parameter(reading, "greet", "data").location) == "mlcube.yaml:7:15"
    assert str(parameter(reading, "greet", "bare").location) == "mlcube.yaml:10:9"


@pytest.mark.parametrize("text", ["a: null", "a: {}", "a: {parameters: null}", "a: {parameters: {inputs: null}}"])
def test_missing_levels_are_empty(tmp_path: Path, text: str) -> None:
    reading = read_inline(tmp_path, f"docker: {{image: a}}\ntasks: {{{text}}}\n")
    assert reading.problems == ()
    assert task(reading, "a").parameters == ()
    assert task(reading, "a").entrypoint is None


@pytest.mark.parametrize(("text", "words"), [
    ("python3 main.py", ("python3", "main.py")),
    ("main.sh", ("main.sh",)),
    ("sh -c 'echo \"a b\"'", ("sh", "-c", 'echo "a b"')),
    ("\"['python3', '-m', 'x y']\"", ("[python3,", "-m,", "x y]")),
    ("[python3, -m, 'x y', 3]", ("python3", "-m", "x y", "3")),
    ("null", None),
])
def test_entry_points(tmp_path: Path, text: str, words: tuple[str, ...] | None) -> None:
    reading = read_inline(tmp_path, f"docker: {{image: a}}\ntasks:\n  a:\n    entrypoint: {text}\n")
    assert reading.problems == ()
    assert task(reading, "a").entrypoint == words


@pytest.mark.parametrize("text", ["''", "' '", "[]"])
def test_an_empty_entry_point_is_none_and_said_so(tmp_path: Path, text: str) -> None:
    reading = read_inline(tmp_path, f"docker: {{image: a}}\ntasks:\n  a:\n    entrypoint: {text}\n")
    assert problems(reading) == ["warning mlcube.yaml:4:17 empty-entrypoint tasks.a.entrypoint"]
    assert task(reading, "a").entrypoint is None


def test_an_entry_point_that_no_rule_can_split(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, "docker: {image: a}\ntasks: {a: {entrypoint: \"sh -c 'x\"}}\n")
    assert problems(reading) == ["error mlcube.yaml:2:25 bad-value tasks.a.entrypoint"]


@pytest.mark.parametrize(("text", "authors"), [
    ("- {name: Ada, email: a@b, org: X}\n- {name: Bob}", (Author("Ada", "a@b", "X"), Author("Bob"))),
    ("- Ada <a@b.c>\n- Bob", (Author("Ada", "a@b.c"), Author("Bob"))),
    ("Ada", (Author("Ada"),)),
    ("{name: Ada}", (Author("Ada"),)),
    ("- {email: a@b}", (Author("a@b", "a@b"),)),
    ("null", ()), ("[]", ()), ("''", ()), ("[null, {}]", ()),
])
def test_authors_in_odd_shapes(tmp_path: Path, text: str, authors: tuple[Author, ...]) -> None:
    indented = text.replace("\n", "\n  ")
    reading = read_inline(tmp_path, f"authors:\n  {indented}\ndocker: {{image: a}}\ntasks: {{a: null}}\n")
    assert reading.cube is not None
    assert reading.cube.authors == authors


def test_the_head_of_the_cube(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        name: n
        description: d
        version: 1.10
        platform: {accelerator_count: 1, host_memory_gb: 16}
        docker: {image: a}
        tasks: {t: null}
        """)
    cube = reading.cube
    assert cube is not None
    assert (cube.name, cube.description, cube.version) == ("n", "d", "1.10")
    assert cube.requirements == {"accelerator_count": 1, "host_memory_gb": 16}
    assert cube.workspace == str(tmp_path / "workspace")
    assert read_inline(tmp_path, "tasks: {t: null}").cube.name == tmp_path.name  # type: ignore[union-attr]
    assert read_inline(tmp_path, "tasks: {t: null}", workspace="/w").cube.workspace == "/w"  # type: ignore[union-attr]


def test_sections_become_platforms_with_canonical_names(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker:
          image: org/img:1
          runner: docker
          --network: none
          --cpuset-cpus: 0-3
          --gpus: null
          --mount_opts: z
          gpu_args: --gpus all
          env_args: -e A=1
          build_args: {VERSION: 1.10, FLAG: true, EMPTY: null}
          ports: ["8080:80"]
          gpus: 2
        local:
        singularity: {image: a.sif, --nv: ''}
        tasks: {t: null}
        """)
    assert [platform.name for platform in reading.cube.platforms] == ["docker", "local", "singularity"]  # type: ignore[union-attr]
    assert options(reading, "docker") == {
        "image": "org/img:1", "network": "none", "cpuset_cpus": "0-3", "mount_opts": "z", "gpu_args": "--gpus all",
        "env_args": "-e A=1", "build_args": {"VERSION": "1.10", "FLAG": "true", "EMPTY": None}, "ports": ["8080:80"],
        "gpus": 2, "build_strategy": "fallback", "build_context": ".", "build_file": "Dockerfile",
    }
    docker = reading.cube.platform("docker")  # type: ignore[union-attr]
    assert docker.find("network").origin == "mlcube.yaml:4:14"  # type: ignore[union-attr]
    assert docker.find("build_strategy").origin == "default"  # type: ignore[union-attr]
    assert options(reading, "local") == {}
    assert options(reading, "singularity") == {"image": "a.sif", "nv": ""}


def test_two_spellings_of_one_option(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, "docker: {image: a, --network: host, network: none}\ntasks: {t: null}\n")
    assert problems(reading) == ["error mlcube.yaml:1:37 duplicate-key docker.network"]


def test_a_read_only_output_is_a_warning_and_stays_writable(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: a}
        tasks: {t: {parameters: {outputs: {o: {type: file, opts: ro}}}}}
        """)
    assert problems(reading) == ["warning mlcube.yaml:2:58 readonly-output tasks.t.parameters.outputs.o.opts"]
    assert parameter(reading, "t", "o").mode == "rw"


def test_python_versions_and_sizes_stay_as_written(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: a, shm_size: 1_000, env: {A: 0x10, B: 1.10, C: null, D: on}}
        local: {entrypoint: [sh, -c, ls], python: 3.10}
        tasks: {t: {entrypoint: sh}}
        """)
    assert reading.problems == ()
    assert options(reading, "docker")["shm_size"] == "1_000"
    assert options(reading, "docker")["env"] == {"A": "0x10", "B": "1.10", "C": None, "D": "on"}
    assert options(reading, "local") == {"entrypoint": ["sh", "-c", "ls"], "python": "3.10"}


def test_the_compact_form(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        name: mnist
        author: Ada
        docker: {image: a}
        tasks:
          train:
            parameters:
              - {name: data_dir, type: directory, io: input, description: data}
              - {name: model_dir, type: directory, io: output}
            tasks:
              train: {data_dir: $WORKSPACE/data, model_dir: $WORKSPACE/model}
              other: {data_dir: more}
        """)
    assert reading.problems == ()
    train = task(reading, "train")
    assert [(one.name, one.direction, one.type, one.default) for one in train.parameters] == [
        ("data_dir", "input", "directory", "$WORKSPACE/data"), ("model_dir", "output", "directory", "$WORKSPACE/model")]
    assert [(group.name, bound(group)) for group in train.groups] == [
        ("train", (("data_dir", "$WORKSPACE/data"), ("model_dir", "$WORKSPACE/model"))),
        ("other", (("data_dir", "more"),))]


def test_typing_errors_are_named(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {imagee: a}
        tasks: {t: {paramaters: {inputs: {}}}}
        """)
    assert "unknown-key" in codes(reading)
    assert any("did you mean 'parameters'?" in problem.hint for problem in reading.problems)


def test_of_a_map_only_the_values_from_the_environment_are_secret(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        name: x
        tasks: {t: {entrypoint: [a]}}
        docker: {image: i, env: {A: plain, B: "${oc.env:B}"}}
        """, environment={"B": "hunter2"})
    assert reading.cube is not None
    option = reading.cube.platforms[0].find("env")
    assert option is not None and option.hides("B") and not option.hides("A")


def test_a_list_of_parameters_does_not_switch_the_schema_off(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        name: [1]
        docker: {image: a:1}
        tasks: {t: {parameters: [data, model]}}
        """)
    assert problems(reading) == ["error mlcube.yaml:1:7 wrong-type name",
                                 "error mlcube.yaml:3:25 wrong-type tasks.t.parameters"]
