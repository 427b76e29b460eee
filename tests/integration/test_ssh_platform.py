"""An ssh platform's options, as a user types them: each in its effect on a machine behind ssh, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunMLCube
from tests.cubes import write_tree
from tests.integration.far import Far
from tests.integration.gpu_box import Box

pytestmark = pytest.mark.ssh


def test_what_is_said_of_the_machine_reaches_the_task(far: Far) -> None:
    far.script('echo "$A $B $C"\n')
    far.options = ("-Pssh.env={A: machine, B: machine}", "-Plocal.env.B=platform", "-Pssh.setup=[export C=lines]")
    done = far.run("-Pssh.platform=local")
    assert done.stdout == "machine platform lines\n"


def test_the_first_platform_that_the_machine_can_run_is_taken(far: Far) -> None:
    far.script("echo \"$A\"\n")
    done = far.run("-Pssh.platform=", "-Pssh.env={A: b}")
    assert done.stdout == "b\n"
    assert f"running on {far.user}: " in done.stderr and "docker" in done.stderr


def test_earlier_spellings_run(far: Far, run_mlcube: RunMLCube, tmp_path: Path) -> None:
    cube = write_tree(tmp_path / "earlier", {
        "mlcube.yaml": "schema_type: mlcube_root\nname: earlier\nauthor: a\nversion: 0.1.0\ntasks: [tasks/say.yaml]\n",
        "tasks/say.yaml": "schema_type: mlcube_task\ninputs: []\noutputs: [{name: out, type: directory}]\n",
        "run/say.yaml": "schema_type: mlcube_invoke\ntask_name: say\ninput_binding: {}\n"
                        "output_binding: {out: $WORKSPACE/out}\n",
        "platforms/local.yaml": "schema_type: mlcube_local\nentrypoint: main.py\n",
        "main.py": "import os, sys\nprint(sys.argv[1], os.getcwd())\n"
                   "open(sys.argv[2].split('=', 1)[1] + '/x', 'w').write('x')\n",
        "platforms/ssh.yaml": f"""
            schema_type: mlcube_ssh
            host: {far.user}
            authentication: {{user: {far.user}, identify_file: {far.box.room}/key}}
            platform: local.yaml
            interpreter: {{type: system, python: python3.6, requirements: mlcube-docker}}
            mlcube: {{path: earlier cubes/small, sync: true}}
            """})
    done = run_mlcube("run", str(cube), "--platform=platforms/ssh.yaml", "--task=run/say.yaml", env=far.environment)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"say {far.far_home}/earlier cubes/small/")
    assert (cube / "workspace/out/x").read_text() == "x"
    assert "'interpreter' has no use any more" in run_mlcube("validate", str(cube)).stderr


def test_a_host_that_is_an_option_of_ssh_starts_nothing(far: Far, tmp_path: Path) -> None:
    far.box.forget_calls()
    for word in (f"-Pssh.host=-oProxyCommand=touch {tmp_path}/x", f"-Pssh.jump=-oProxyCommand=touch {tmp_path}/x",
                 f"-Pssh.user=-oProxyCommand=touch {tmp_path}/x", "-Pssh.ssh_options=StrictHostKeyChecking=no",
                 f"-Pssh.host=a;touch {tmp_path}/x"):
        done = far("run", "--task=work", word)
        assert done.exit_code == 3, done.stderr
        assert f"error: '{word[6:].partition('=')[0]}': " in done.stderr
    assert not (tmp_path / "x").exists()
    assert far.box.ssh_calls() == []


def test_a_strangers_machine_is_named_and_refused(far: Far) -> None:
    far.box.forget_calls()
    done = far("run", "--task=work", "--untrusted")
    assert done.exit_code == 3
    assert f"another machine: {far.user}" in done.stderr
    assert far.box.ssh_calls() == []


@pytest.mark.parametrize(("words", "sentence", "hint"), [
    (("-Pssh.host=no-such-host.invalid",), "there is no such host", "~/.ssh/config"),
    (("-Pssh.port=1",), "nothing listens there", "-Prunner.port=NUMBER"),
    (("-Pssh.user=nobody-here",), "the host does not let you in", "ssh nobody-here@"),
])
def test_a_machine_that_is_not_reached_is_exit_code_4(far: Far, words: tuple[str, ...], sentence: str, hint: str) -> None:
    done = far("run", "--task=work", *words)
    assert done.exit_code == 4, done.stderr
    assert sentence in done.stderr and hint in done.stderr


def test_a_second_factor_is_asked_for_only_where_there_is_a_terminal(gpu_box: Box, far: Far) -> None:
    done = far("run", "--task=work", "-Pssh.host=prompted")
    assert done.exit_code == 4
    assert "there was no terminal to ask for it on" in done.stderr


# --- the cube's directory there --------------------------------------------------------------------------------------


def test_a_directory_of_the_users_settings_serves_every_cube(far: Far, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"platforms:\n  box: {{runner: ssh, host: {far.user}, platform: local, remote_root: ~/cubes here}}\n")
    far.extra = {"MLCUBE_SYSTEM_SETTINGS": str(settings)}
    far.script("pwd\n")
    other = write_tree(tmp_path / "other", {"mlcube.yaml": (far.cube / "mlcube.yaml").read_text(),
                                            "workspace/script.sh": "pwd\n", "workspace/data/x": ""})
    for cube in (far.cube, other):
        done = far.run_mlcube("run", str(cube), "--platform=box", "--task=work", env=far.environment)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith(f"{far.far_home}/cubes here/far-")
    assert len(far.box.text('ls "$1"', f"{far.far_home}/cubes here").splitlines()) == 2


def test_a_directory_of_another_cube_is_left_alone(far: Far, tmp_path: Path) -> None:
    far.options = ("-Pssh.platform=local", "-Pssh.remote_root=~/one")
    far.script("echo one\n")
    far.run()
    far.run()
    other = tmp_path / "other"
    definition = (far.cube / "mlcube.yaml").read_text().replace("name: far", "name: other")
    write_tree(other, {"mlcube.yaml": definition, "workspace/script.sh": "echo other\n",
                       "workspace/data/x": ""})
    done = far.run_mlcube("run", str(other), "--platform=ssh", "--task=work", *far.options, env=far.environment)
    assert done.exit_code == 6, done.stderr
    assert f"{far.far_home}/one on {far.user} belongs to another cube: far" in done.stderr
    assert "-Prunner.remote_root=DIRECTORY" in done.stderr
    assert far.box.read(f"{far.far_home}/one/workspace/script.sh") == b"echo one\n"


@pytest.mark.parametrize("marker", ["far", None])
def test_a_directory_of_another_user_is_left_alone(far: Far, marker: str | None) -> None:
    """Whoever knows the cube's name can write our marker, and open a directory for everybody."""
    place = f"/tmp/planted-{far.user}"
    far.script("echo ran\n")
    far.box.root('mkdir -p "$1" && cd "$1" && mkdir code workspace runs partial && echo precious >code/precious', place)
    try:
        if marker is None:
            far.box.root('rm -r "$1"/*', place)
        else:
            far.box.root('printf %s "$2" >"$1/.mlcube-remote"', place, f"00000000\n{marker}\n")
        far.box.root('chown -R dash: "$1" && chmod -R 777 "$1"', place)
        before = far.box.root('find "$1" -ls', place)
        done = far("run", "--task=work", "-Pssh.platform=local", f"-Pssh.remote_root={place}")
        assert done.exit_code == 6, done.stderr
        assert f"{place} belongs to another user" in done.stderr
        assert far.box.root('find "$1" -ls', place) == before
    finally:
        far.box.root('rm -r "$1"', place)
