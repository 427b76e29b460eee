"""What a name means in its registry: one question over the OCI distribution API, and its token where it asks for one.

https://github.com/opencontainers/distribution-spec. Credentials come from where the engines take them.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

_PATIENCE = 10.0  # seconds for an answer
_KINDS = ", ".join(("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
                    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"))
_DOCKER_HUB = "registry-1.docker.io"


def registry_digest(image: str, environment: Mapping[str, str]) -> str | None:
    """`sha256:HEX` of the manifest that `image` names now; None when its registry does not say."""
    host, repository, tag = split_image(image)
    scheme = "http" if host.split(":")[0] in ("127.0.0.1", "localhost") else "https"
    address = f"{scheme}://{host}/v2/{repository}/manifests/{tag}"
    login = _login(host, environment)
    try:
        try:
            return _ask(address, f"Basic {login}" if login and scheme == "https" else "")
        except HTTPError as refused:
            if refused.code != 401:
                return None
            token = _token(refused.headers.get("WWW-Authenticate") or "", repository, login)
            return _ask(address, f"Bearer {token}") if token else None
    except (OSError, ValueError):
        return None


def split_image(image: str) -> tuple[str, str, str]:
    """Registry, repository and tag of an image's name, by docker's rules (`debian` -> registry-1.docker.io, library/debian,
    latest)."""
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        name, tag = image, "latest"
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = _DOCKER_HUB, name
    if host in ("docker.io", "index.docker.io", _DOCKER_HUB):
        host, rest = _DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
    return host, rest, tag


def _ask(address: str, authorization: str) -> str | None:
    headers = {"Accept": _KINDS, **({"Authorization": authorization} if authorization else {})}
    with urlopen(Request(address, headers=headers, method="HEAD"), timeout=_PATIENCE) as answer:
        digest = answer.headers.get("Docker-Content-Digest") or ""
    return digest if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else None


def _token(challenge: str, repository: str, login: str) -> str | None:
    """The token for pulling, from where the registry's challenge says."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.get("realm", "")
    if not challenge.lower().startswith("bearer ") or not realm.startswith("https://"):
        return None
    query = urlencode({"service": fields.get("service", ""), "scope": f"repository:{repository}:pull"})
    headers = {"Authorization": f"Basic {login}"} if login else {}
    with urlopen(Request(f"{realm}?{query}", headers=headers), timeout=_PATIENCE) as answer:
        data = json.loads(answer.read(1 << 20))
    token = data.get("token") or data.get("access_token") if isinstance(data, dict) else None
    return token if isinstance(token, str) else None


def _login(host: str, environment: Mapping[str, str]) -> str:
    """`user:password` in base64: apptainer's variables, else docker's configuration; "" without one."""
    for prefix in ("APPTAINER", "SINGULARITY"):
        user, password = (environment.get(f"{prefix}_DOCKER_{name}") for name in ("USERNAME", "PASSWORD"))
        if user and password:
            return base64.b64encode(f"{user}:{password}".encode()).decode()
    directory = environment.get("DOCKER_CONFIG") or os.path.join(environment.get("HOME", ""), ".docker")
    try:
        with open(os.path.join(directory, "config.json"), "rb") as stream:
            auths = json.load(stream).get("auths", {})
        names = (host, f"https://{host}", *(("https://index.docker.io/v1/",) if host == _DOCKER_HUB else ()))
        return next((str(auths[name]["auth"]) for name in names if "auth" in auths.get(name, {})), "")
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return ""
