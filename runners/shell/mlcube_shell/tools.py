"""Versions of the tools we call, and what each version can do, as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping

# How `docker build` gets BuildKit, from this client version on: by the buildx plugin alone; built in, switched on by a
# variable; not at all (https://docs.docker.com/build/buildkit/, https://docs.docker.com/engine/release-notes/23.0/).
DOCKER_BUILDERS = (
    ((23, 0), "buildx"),
    ((18, 9), "built-in"),
    ((0,), "legacy"),
)
DAEMON_BUILDKIT = (18, 9)  # the daemon has to know BuildKit too


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of a version: `20.10.24+dfsg1` is (20, 10, 24); empty where there are none."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def docker_builder(client: str, daemon: str, has_buildx: bool) -> str:
    """`buildx` | `built-in` | `legacy`: what builds images with these versions (empty text: version not known)."""
    version = parse_version(client)
    if daemon and parse_version(daemon) < DAEMON_BUILDKIT:
        return "legacy"
    builder = next((name for least, name in DOCKER_BUILDERS if version >= least), "legacy")
    return "legacy" if builder == "buildx" and not has_buildx else builder


# Who can say which digest an image's name has in its registry, without fetching it and with credentials of its own: the
# executable, and the question's words. podman knows of images that it has. `--no-tags`: skopeo 1.5, 2021; `.Manifest`:
# buildx 0.8, 2022; `docker manifest inspect` says no digest of an image for several architectures.
REGISTRY_TOOLS = (
    ("skopeo", ("skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", "docker://IMAGE")),
    ("docker", ("docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", "IMAGE")),
    ("podman", ("podman", "image", "inspect", "--format", "{{json .RepoDigests}}", "IMAGE")),
)
REGISTRY_TOOLS_TEXT = "skopeo, docker with buildx, or podman after a pull"


# What singularity's descendants call themselves in `--version`, and since which version each can do what; None: never.
# `mount`: --mount with CSV; `no_eval`: values and arguments are not evaluated by a shell; `limits`: --memory and
# --cpuset-cpus through cgroups; `unsquash`: images are mounted by FUSE unless --unsquash unpacks them, which came with it
# (apptainer 1.0, 1.1; SingularityCE 3.9, 3.10: CHANGELOG.md of each).
SINGULARITIES: Mapping[str, Mapping[str, tuple[int, ...] | None]] = {
    "apptainer": {"least": (1, 0), "mount": (1, 0), "no_eval": (1, 1), "limits": (1, 1), "unsquash": (1, 1)},
    "singularity-ce": {"least": (3, 0), "mount": (3, 9), "no_eval": (3, 10), "limits": (3, 10), "unsquash": None},
    "SingularityPRO": {"least": (3, 0), "mount": (3, 9), "no_eval": (3, 11), "limits": (3, 11), "unsquash": None},
    "singularity": {"least": (3, 0), "mount": None, "no_eval": None, "limits": None, "unsquash": None},
}
_VIRTUAL_MACHINES_UNTIL = (4, 0)  # of SingularityCE and PRO; apptainer has dropped them from its first version on


def parse_singularity(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and version out of `--version`: `singularity-ce version 3.11.4`; the name is empty where none of them speaks.

    Version 2 said nothing but its number.
    """
    found = re.search(r"^(\S+) version (.*)$", text.strip(), re.MULTILINE)
    if found is None:
        return ("singularity" if re.match(r"2\.\d", text.strip()) else ""), parse_version(text)
    name = next((name for name in SINGULARITIES if name.lower() == found[1].lower()), "")
    return name, parse_version(found[2])


def singularity_can(name: str, version: tuple[int, ...], what: str) -> bool:
    """Whether this version can do it; one whose version is not known is taken for a new one."""
    least = SINGULARITIES[name][what]
    return least is not None and (not version or version >= least)


def has_virtual_machines(name: str, version: tuple[int, ...]) -> bool:
    """Whether `--vm-ram` and `--vm-cpu` are there (https://docs.sylabs.io/guides/3.11/user-guide/cli/singularity_run.html)."""
    return name != "apptainer" and bool(version) and version < _VIRTUAL_MACHINES_UNTIL


# What calls itself rsync, and since which version it can do what; None: never. `secluded`: no word of a path goes through
# the login shell of the other side; `secluded_long`: under that name; `progress`: one line for the whole transfer;
# `ignore_missing`: what is not there is left out; `exact_times`: times are compared to the nanosecond (rsync's NEWS.md).
# Apple's rsync is 2.6.9, and since macOS 15 openrsync, which says that it is compatible with 2.6.9.
RSYNCS: Mapping[str, Mapping[str, tuple[int, ...] | None]] = {
    "rsync": {"least": (2, 6, 9), "secluded": (3, 0), "secluded_long": (3, 2, 6), "progress": (3, 1),
              "ignore_missing": (3, 1), "exact_times": (3, 1, 3)},
    "openrsync": {"least": (0,), "secluded": None, "secluded_long": None, "progress": None, "ignore_missing": None,
                  "exact_times": None},
}


def parse_rsync(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and version out of `--version`: `rsync  version 3.2.7  protocol version 31`; no name where it is neither."""
    if re.search(r"\bopenrsync\b", text):
        return "openrsync", ()
    found = re.search(r"^rsync\s+version\s+(\S+)", text, re.MULTILINE)
    return ("rsync", parse_version(found[1])) if found else ("", ())


def rsync_can(text: str, what: str) -> bool:
    """Whether the rsync that says `text` of itself can do it; one whose version is not known is taken for a new one."""
    name, version = parse_rsync(text)
    least = RSYNCS[name or "rsync"][what]
    return least is not None and (not version or version >= least)
