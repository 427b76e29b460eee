"""The bundled JSON Schemas as they are: their names and their text."""

from __future__ import annotations

import os

import mlcube_cli
from mlcube_cli.errors import UsageError

_NAMES = (
    "mlbox", "mlbox_group", "mlbox_implementation", "mlbox_platform",
    "mlcube", "mlcube_compact", "mlcube_docker", "mlcube_invoke", "mlcube_local", "mlcube_platform", "mlcube_root",
    "mlcube_singularity", "mlcube_slurm", "mlcube_ssh", "mlcube_task",
    "mlcube.cache.v1", "mlcube.config.v1", "mlcube.create.v1", "mlcube.describe.v1", "mlcube.doctor.v1",
    "mlcube.inspect.v1", "mlcube.lock.v1", "mlcube.migrate.v1",
    "mlcube.plan.v1", "mlcube.ps.v1", "mlcube.reap.v1", "mlcube.record.v1", "mlcube.result.v1",
    "mlcube.runs.v1", "mlcube.show-config.v1",
    "mlcube.sweep.v1", "mlcube.sweep-status.v1", "mlcube.sweep-table.v1",
    "mlcube.sync.v1", "mlcube.validate.v1", "mlcube.verify.v1",
    "settings",
)


def schema_names() -> tuple[str, ...]:
    """The names of all bundled schemas."""
    return _NAMES


def schema_bytes(name: str) -> bytes:
    """The schema's file. Raises UsageError for a name that is not bundled."""
    if name not in _NAMES:
        from mlcube_cli.definition.hints import did_you_mean

        known = f"there are: {', '.join(_NAMES)}"
        raise UsageError(f"there is no schema '{name}'", did_you_mean(name, _NAMES) or known)
    package = os.path.dirname(mlcube_cli.__file__)
    loader = mlcube_cli.__spec__.loader if mlcube_cli.__spec__ else None
    read = getattr(loader, "get_data", None) or _read  # the loader reads from inside a zip, too
    try:
        content = read(os.path.join(package, "schemas", f"{name}.json"))
    except OSError:  # not installed: the checkout keeps them beside the package
        content = _read(os.path.join(os.path.dirname(package), "schemas", f"{name}.json"))
    assert isinstance(content, bytes)
    return content


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def schema_text(name: str) -> str:
    """The schema as JSON text. Raises UsageError for a name that is not bundled."""
    return schema_bytes(name).decode("utf-8")
