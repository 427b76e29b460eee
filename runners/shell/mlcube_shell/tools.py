"""Versions of the tools we call, and what each version can do, as tables."""

from __future__ import annotations

import re

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
