"""References between values: every form, what they keep, and what is said when they lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube_cli.definition.interpolate import interpolate
from mlcube_cli.definition.references import DEEPEST, parse_text
from mlcube_cli.definition.tree import entries, find, from_data, plain
from tests.cubes import codes, options, parameter, platform, problems, read_inline


def value_of(text: str, environment: dict[str, str] | None = None, **data: object) -> object:
    """The resolved value of `x: text` in a tree with these other values."""
    tree = from_data({"x": text, **data}, "f")  # type: ignore[dict-item]
    result = interpolate(tree, environment or {}, ())
    assert result.problems == ()
    return plain(entries(result.tree)["x"])


@pytest.mark.parametrize(("text", "value"), [
    ("${a}", 7),
    ("v${a}", "v7"),
    ("${a}${a}", "77"),
    ("${m.k}", "deep"),
    ("${m}", {"k": "deep", "l": [1, {"z": "last"}]}),
    ("${m.l.1.z}", "last"),
    ("${m.l[1].z}", "last"),
    ("${m[l][0]}", 1),
    ("${m.${which}}", "deep"),
    ("${.a}", 7),
    ("${ a }", 7),
    ("${t}", True),
    ("is ${t}", "is true"),
    ("${n}", None),
    ("is ${n}.", "is ."),
    ("\\${a}", "${a}"),
    ("\\\\${a}", "\\7"),
    ("\\\\\\${a}", "\\${a}"),
    ("a\\b $x {a} }", "a\\b $x {a} }"),
    ("${WORKSPACE}/d", "${WORKSPACE}/d"),
    ("$WORKSPACE/d", "$WORKSPACE/d"),
    ("${oc.env:HERE}", "here"),
    ("${oc.env:HERE,x}", "here"),
    ("${oc.env:GONE,x y}", "x y"),
    ("${oc.env:GONE, 'x, y'}", "x, y"),
    ("${oc.env:GONE,}", ""),
    ("${oc.env:GONE,null}", None),
    ("${oc.env:GONE,${m.k}}", "deep"),
    ("${oc.env:${name}}", "here"),
    ("${env:HERE}", "here"),
])
def test_every_form(text: str, value: object) -> None:
    assert value_of(text, {"HERE": "here"}, a=7, t=True, n=None, which="k", name="HERE",
                    m={"k": "deep", "l": [1, {"z": "last"}]}) == value


def test_relative_references_count_dots(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: 'a:${.tag}', tag: 1.10, env: {T: '${..tag}', N: '${...name}'}}
        name: cube
        tasks:
          t:
            parameters:
              inputs:
                data: d
                same: ${.data}
                typed: {type: file, default: '${..data}/x'}
              outputs: {out: '${..inputs.data}/out/', up: '${.out}'}
        """)
    assert [one for one in codes(reading) if one != "unknown-key"] == []
    assert options(reading, "docker")["image"] == "a:1.10"
    assert options(reading, "docker")["env"] == {"T": "1.10", "N": "cube"}
    assert parameter(reading, "t", "same").default == "d"
    assert parameter(reading, "t", "typed").default == "d/x"
    assert parameter(reading, "t", "out").default == "d/out/"
    assert parameter(reading, "t", "up").default == "d/out/"
    assert parameter(reading, "t", "up").type == "directory"


def test_generated_values_and_the_platform(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        name: n
        docker: {image: a, build_args: {STRATEGY: '${runner.build_strategy}', ROOT: '${runtime.root}'}}
        local: {entrypoint: x.py, env: {E: '${runner.entrypoint}'}}
        x.py: null
        tasks:
          t:
            parameters:
              inputs: {a: '${workspace}/a', b: '${runtime.workspace}/b', c: '${runner.image}'}
        """, workspace="/w", platform="docker")
    assert "unknown-reference" not in codes(reading)
    assert options(reading, "docker")["build_args"] == {"STRATEGY": "fallback", "ROOT": str(tmp_path)}
    assert options(reading, "local")["env"] == {"E": "x.py"}
    assert [parameter(reading, "t", name).default for name in "abc"] == ["/w/a", "/w/b", "a"]


def test_canonical_and_written_names_of_options_both_work(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker: {image: a, --network: none, env: {A: '${docker.--network}', B: '${docker.network}'}}
        tasks: {t: null}
        """)
    assert reading.problems == ()
    assert options(reading, "docker")["env"] == {"A": "none", "B": "none"}


def test_values_from_the_environment_are_secret(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        token: ${oc.env:TOKEN}
        docker: {image: a, env: {T: 'x-${token}'}, user: '${oc.env:GONE,caller}', memory: '${oc.env:GONE,${oc.env:TOKEN}}'}
        tasks: {t: null}
        """, environment={"TOKEN": "s3cret"})
    assert reading.problems == ()
    docker = platform(reading, "docker")
    assert {option.name for option in docker.options if option.secret} == {"env", "memory"}
    assert docker.option("env") == {"T": "x-s3cret"}
    assert reading.effective is not None
    assert "s3cret" not in str(plain(reading.effective.resolved, hide=True))
    assert "s3cret" not in str(reading.effective.raw)


def test_dollars_that_nobody_wrote_are_not_variables(tmp_path: Path) -> None:
    root = tmp_path / "a$HOME"
    root.mkdir()
    reading = read_inline(root, """
        base: ${runtime.root}/$USER
        docker: {image: a, env: {R: '${runtime.root}'}}
        tasks: {t: {parameters: {inputs: {i: '${workspace}/$X', j: '${base}', k: '${oc.env:D}'}}}}
        """, environment={"D": "$5"})
    assert reading.problems == ()
    literal = str(root).replace("$", "$$")
    assert [parameter(reading, "t", name).default for name in "ijk"] == [
        f"{literal}/workspace/$X", f"{literal}/$USER", "$$5"]
    assert options(reading, "docker")["env"] == {"R": str(root)}


def test_an_unset_variable_is_a_warning_with_its_place(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        docker:
          image: a
          env: {A: '${oc.env:GONE}'}
        tasks: {t: null}
        """)
    assert problems(reading) == ["warning mlcube.yaml:3:12 unset-variable docker.env.A"]
    assert "export GONE" in reading.problems[0].hint


@pytest.mark.parametrize(("text", "code", "hint"), [
    ("x: ${nmae}", "unknown-reference", "did you mean 'name'?"),
    ("x: ${docker.imag}", "unknown-reference", "did you mean 'image' in 'docker'?"),
    ("x: ${HOME}", "unknown-reference", "${oc.env:HOME}"),
    ("x: ${runner.image}", None, ""),
    ("x: ${1#*=}", "unknown-reference", "write \\${1#*=}"),
    ("x: ${......name}", "unknown-reference", ""),
    ("x: ${}", "unknown-reference", ""),
    ("x: ${now:}", "bad-interpolation", "oc.env"),
    ("x: ${SLURM_NTASKS:-1}", "bad-interpolation", "write \\${SLURM_NTASKS:-1}"),
    ("x: ${name", "bad-interpolation", "\\${"),
    ("x: a ${docker} b", "bad-interpolation", "name one of the values"),
    ("x: ${y}\ny: ${x}", "cyclic-reference", "value of its own"),
    ("x: ${x}", "cyclic-reference", "value of its own"),
    ("x: {y: '${x}'}", "cyclic-reference", "value of its own"),
    ("x: [1, '${x.1}']", "cyclic-reference", "value of its own"),
])
def test_what_leads_nowhere(tmp_path: Path, text: str, code: str | None, hint: str) -> None:
    reading = read_inline(tmp_path, f"name: n\n{text}\ndocker: {{image: a}}\ntasks: {{t: null}}\n")
    wrong = [problem for problem in reading.problems if problem.code != "unknown-key"]
    assert {problem.code for problem in wrong} == ({code} if code else set())
    assert all(hint in problem.hint for problem in wrong[:1])
    assert all(problem.location.line >= 2 and problem.path for problem in wrong)


def test_a_fault_is_reported_once_and_where_it_stands(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, """
        first: ${second}
        second: a${third}
        third: ${gone}
        docker: {image: a}
        tasks: {t: null}
        """)
    assert [line for line in problems(reading) if "unknown-key" not in line] == [
        "error mlcube.yaml:3:8 unknown-reference third"]


def test_a_value_of_several_platforms_needs_a_chosen_one(tmp_path: Path) -> None:
    text = """
        docker: {image: a}
        local: {entrypoint: [sh]}
        tasks: {t: {parameters: {inputs: {i: '${runner.image}'}}}}
        """
    assert codes(read_inline(tmp_path, text)) == ["unknown-reference"]
    assert parameter(read_inline(tmp_path, text, platform="docker"), "t", "i").default == "a"


def test_growth_is_bounded(tmp_path: Path) -> None:
    laughs = "\n".join(f"a{i}: '${{a{i + 1}}}${{a{i + 1}}}${{a{i + 1}}}${{a{i + 1}}}'" for i in range(30))
    lists = "\n".join(f"b{i}: ['${{b{i + 1}}}', '${{b{i + 1}}}', '${{b{i + 1}}}']" for i in range(30))
    reading = read_inline(tmp_path, f"{laughs}\na30: lol\n{lists}\nb30: [lol]\ndocker: {{image: a}}\ntasks: {{t: null}}\n")
    assert "bad-interpolation" in codes(reading)


def test_long_chains_and_deep_nests_are_errors() -> None:
    chain = {f"a{i}": f"${{a{i + 1}}}" for i in range(2000)}
    found = interpolate(from_data({**chain, "a2000": "x"}, "f"), {}, ()).problems
    assert {problem.code for problem in found} == {"cyclic-reference"}
    found = interpolate(from_data({"x": "${" * (DEEPEST + 1) + "}" * (DEEPEST + 1)}, "f"), {}, ()).problems
    assert [problem.code for problem in found] == ["bad-interpolation"]
    deep: object = "${x}"
    for _ in range(90):
        deep = {"a": [deep]}
    found = interpolate(from_data({"x": deep, "y": "${x}"}, "f"), {}, ()).problems  # type: ignore[arg-type]
    assert {problem.code for problem in found} == {"cyclic-reference"}


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("${}\\.:,'ab[] ~"), max_size=24), st.text(st.sampled_from("${}\\.:ab"), max_size=12))
def test_any_text_is_resolved_or_reported(first: str, second: str) -> None:
    tree = from_data({"a": first, "b": {"a": second, "b": [first]}}, "f")
    result = interpolate(tree, {"a": "x"}, ("b",), "b")
    assert all(problem.message and problem.path for problem in result.problems)
    if "${" not in first:
        assert plain(find(result.tree, "a")) == first  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "${" not in text))
def test_text_without_references_is_one_part(text: str) -> None:
    assert parse_text(text) == ((text,) if text else ())


def test_a_reference_to_no_variable_is_named(tmp_path: Path) -> None:
    reading = read_inline(tmp_path, "name: '${oc.env:}'\ndocker: {image: a}\ntasks: {a: null}\n")
    assert [(one.code, one.message) for one in reading.problems] == [
        ("bad-interpolation", "${oc.env:} names no environment variable")]
