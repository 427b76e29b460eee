"""`sync.image: push`: an image of this machine goes to one that has none, for machines without the internet."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli.cli.preparing import Prepared, preparation_job
from mlcube_cli.command import Command, Plan, Step, shell_line
from mlcube_cli.errors import DefinitionError, PreparationError
from mlcube_cli.identity import Identity
from mlcube_cli.observe import with_facts
from mlcube_cli.parcels import Parcel

# Words: the script of the other side, the command here, and what reaches that side. A shell there reads the script, whose
# length goes in front of it, and the image is what is left on its stdin.
_PIPE = """\
LC_ALL=C
script=$1 save=$2
shift 2
{ printf '%s\\n%s' "${#script}" "$script" && sh -c "$save" | gzip -1; } | "$@\""""


def with_image(prepared: Prepared) -> Prepared:
    """The same, with what brings the image there where it has none. Raises PreparationError where none is here either."""
    remote = prepared.remote
    sync = remote.platform.option("sync") if remote else None
    if remote is None or not isinstance(sync, dict) or sync.get("image") != "push":
        return prepared
    job = prepared.jobs[0] if prepared.jobs else preparation_job(prepared)
    here = remote.jobs[0] if remote.jobs else preparation_job(replace(prepared, remote=None))
    found, _ = with_facts(lambda known: prepared.runner.identify(job, known), remote.facts, prepared.look)
    if found.present or found.kind in ("environment", "interpreter"):
        return prepared
    own, _ = with_facts(lambda known: prepared.runner.identify(here, known), remote.here)
    if not own.present:
        raise PreparationError(f"image {own.name} is neither on {remote.name} nor here, so it cannot be sent",
                               f"make it here first: mlcube configure --platform {prepared.platform.name}")
    if found.kind == "image":
        return replace(prepared, remote=replace(remote, shipping=(_stream(prepared, own),), shipped=found.name))
    if own.kind != "sif":
        raise DefinitionError(f"'image: push' sends image files; {own.name} is a directory", "make a SIF of it")
    parcel = Parcel("image", own.name, found.name, "file")
    load = replace(remote.load, made=False, inputs=(*remote.load.inputs, parcel))
    return replace(prepared, remote=replace(remote, load=load, shipped=found.name))


def _stream(prepared: Prepared, image: Identity) -> Step:
    remote = prepared.remote
    assert remote is not None
    here = remote.jobs[0] if remote.jobs else preparation_job(replace(prepared, remote=None))
    there = prepared.jobs[0] if prepared.jobs else preparation_job(prepared)
    save = with_facts(lambda known: prepared.runner.image_commands(here, known), remote.here)[0][0]
    load = with_facts(lambda known: prepared.runner.image_commands(there, known), remote.facts, prepared.look)[0][1]
    words = ("sh", "-c", _PIPE, "mlcube", f"gzip -dc | {shell_line(load)}", shell_line(save), *remote.way.feed)
    return Step(f"send image {image.name} to {remote.name}", Command(words), reasons=remote.way.reasons,
                hint="the connection was cut, or there is no room for it on the other machine")


def without_making(plan: Plan, image: str) -> Plan:
    """The plan for a machine that gets the image from here: it neither pulls nor builds it."""
    return replace(plan, steps=plan.own_steps, notes=tuple(note for note in plan.notes if image not in note))
