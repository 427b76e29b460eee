"""Mounts as words of docker and podman: always `--mount`, whose CSV takes every path that these engines can hold."""

from __future__ import annotations

from mlcube_cli.errors import DefinitionError
from mlcube_cli.job import Job
from mlcube_shell.docker_engine import Engine
from mlcube_shell.mounts import Mount, csv_field, refuse_undecodable
from mlcube_shell.options import refuse, text_option

_RELABEL = {"z": "relabel=shared", "Z": "relabel=private"}  # podman's words for --volume's z and Z


def refuse_paths(job: Job, engine: Engine) -> None:
    """Raises DefinitionError for paths that the engine would get wrong (RULINGS 16).

    `--mount` is read as CSV by Go: it drops a carriage return before a newline; podman takes no newline at all.
    """
    refuse_undecodable(job, engine.name)
    bad, what = ("\n", "a newline") if engine.name == "podman" else ("\r\n", "a carriage return and a newline")
    for argument in job.paths:
        if bad in argument.host_path:
            raise DefinitionError(f"parameter '{argument.name}': {engine.name} cannot mount {argument.host_path!r}: "
                                  f"its name holds {what}", "rename it, or use a platform with the runner 'local'")


def mount_words(engine: Engine, mounts: tuple[Mount, ...]) -> tuple[str, ...]:
    """`--mount` and its CSV for each mount."""
    extra = _extra(engine)
    return tuple(word for mount in mounts
                 for word in ("--mount", _bind(mount, extra) if mount.source else _nothing(engine, mount)))


def _nothing(engine: Engine, mount: Mount) -> str:
    """An empty directory; podman (4.3) knows `readonly` for binds only, and copies what is there unless told not to."""
    options = ("ro=true", "notmpcopyup") if engine.name == "podman" else ("readonly",)
    return ",".join(("type=tmpfs", csv_field(f"destination={mount.target}"), "tmpfs-mode=0555", *options))


def _bind(mount: Mount, extra: tuple[str, ...]) -> str:
    fields = ("type=bind", csv_field(f"source={mount.source}"), csv_field(f"target={mount.target}"))
    return ",".join((*fields, *(("readonly",) if mount.read_only else ()), *extra))


def _extra(engine: Engine) -> tuple[str, ...]:
    """`mount_opts`, put behind every mount. Raises DefinitionError for what would make inputs or outputs useless."""
    option, words = engine.job.find_option("mount_opts"), _mount_options(engine)
    for word in ("ro", "rw"):
        if option is not None and word in words:
            raise refuse(option, f"'{word}' would hold for inputs and outputs alike",
                         "write 'opts: ro' or 'opts: rw' at a parameter, or type --mount=ro|rw")
    dropped = dropped_mount_options(engine)
    return tuple(_RELABEL.get(word, word) for word in words if word not in dropped)


def dropped_mount_options(engine: Engine) -> tuple[str, ...]:
    """Words of `mount_opts` that docker's `--mount` has no counterpart for (RULINGS 39)."""
    return () if engine.name == "podman" else tuple(word for word in _mount_options(engine) if word in _RELABEL)


def _mount_options(engine: Engine) -> tuple[str, ...]:
    text = text_option(engine.job, "mount_opts") or ""
    return tuple(word.strip() for word in text.split(",") if word.strip())
