"""`mlcube inspect`: which image a platform has here (spec/dialects 4.1, 4.3)."""

from __future__ import annotations

import json

from mlcube_cli.atomic import write_text
from mlcube_cli.cli import output
from mlcube_cli.cli.arguments import Arguments
from mlcube_cli.cli.lock import identify
from mlcube_cli.cli.preparing import Prepared, preparation_job, prepare
from mlcube_cli.errors import PreparationError, UsageError
from mlcube_cli.identity import METHODS, Identity
from mlcube_cli.report import printable


def inspect(arguments: Arguments) -> int:
    """The identity of the platform's image. 0; 5 where it is not here and `--force` was not given."""
    if any("=" in word for word in arguments.words):
        raise UsageError("inspect takes a cube and no parameters", "mlcube inspect CUBE --platform P")
    if arguments.json and arguments.format not in (None, "json"):
        raise UsageError(f"--json and --format {arguments.format} contradict each other", "give one of them")
    prepared = prepare(Arguments(**{**vars(arguments), "dry_run": not arguments.force, "doing": "inspecting"}))
    identity = identify(prepared, renewing=False)
    if not identity.present and arguments.force:
        code = _configure(arguments, prepared)
        if code:
            return code
        identity = identify(prepared, renewing=False)
    if not identity.present:
        what = "the environment" if identity.kind == "environment" else "image"
        raise PreparationError(f"{what} {identity.name} of platform '{prepared.platform_name}' is not here",
                               f"mlcube configure --platform {prepared.platform_name}, or mlcube inspect --force")
    _show(arguments, prepared, identity)
    return 0


def _configure(arguments: Arguments, prepared: Prepared) -> int:
    job = preparation_job(prepared)
    plan, _ = prepared.decide(lambda known: prepared.runner.configure(job, known, False))
    without = Arguments(**{**vars(arguments), "json": False, "dry_run": False})
    if prepared.remote:
        from mlcube_cli.cli.attending import configure_there

        code = configure_there(without, prepared, plan)
    else:
        from mlcube_cli.cli.executing import execute

        code = execute(without, prepared, (plan,))
    if code and arguments.json:
        from mlcube_cli.report import result_data

        output.json_result(result_data("preparation", code, prepared.platform_name, message="the platform cannot be prepared"))
    return code


def _show(arguments: Arguments, prepared: Prepared, identity: Identity) -> None:
    form = "json" if arguments.json else arguments.format or ("json" if arguments.output_file else "text")
    data = inspect_data(prepared, identity)
    if form == "text":
        text = _text(prepared, identity)
    elif form == "json":
        text = json.dumps(data, indent=2) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(data, sort_keys=False, width=1000)
    if arguments.output_file is None:
        output.result(text)
        return
    try:
        write_text(arguments.output_file, text)
    except OSError as error:
        raise PreparationError(f"{arguments.output_file} cannot be written: {error.strerror or error}",
                               "name another file with --output-file") from None


def inspect_data(prepared: Prepared, identity: Identity) -> dict[str, object]:
    """The document mlcube.inspect.v1."""
    pin = identity.held
    locked = {"file": prepared.lock.shown, "platform": pin.platform, "method": pin.method, "digest": pin.digest,
              "same": identity.same} if pin else None
    return {
        "schema": "mlcube.inspect.v1", "hash": identity.hash, "cube": prepared.cube.name,
        "platform": prepared.platform_name, "runner": prepared.platform.runner, "kind": identity.kind, "name": identity.name,
        "id": identity.id, "digests": list(identity.digests), "inputs": identity.inputs, "sha256": identity.sha256,
        "source": identity.source, "architecture": identity.architecture, "lock": locked,
    }


def _text(prepared: Prepared, identity: Identity) -> str:
    lines = [("platform", f"{prepared.platform_name} ({prepared.platform.runner})"), (identity.kind, identity.name)]
    lines += [("id", identity.id), *(("digest", digest) for digest in identity.digests),
              ("built here", f"from inputs {identity.inputs}" if identity.inputs else ""),
              ("sha256", identity.sha256), ("source", identity.source), ("architecture", identity.architecture),
              ("hash", identity.hash)]
    pin = identity.held
    if pin:
        verdict = "the locked image" if identity.same else "NOT the locked image"
        lines.append(("lock", f"{verdict}: {pin.digest}, {METHODS[pin.method]} ({pin.location})"))
    elif prepared.lock.document:
        lines.append(("lock", f"{prepared.lock.shown} does not speak of this image"))
    width = max(len(label) for label, text in lines)
    return printable("".join(f"{label:<{width}}  {text}\n" for label, text in lines if text))
