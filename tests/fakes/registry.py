"""A container registry on loopback, in memory: as much of the OCI distribution API as `docker push` and `pull` need.

https://github.com/opencontainers/distribution-spec. Engines take a registry on 127.0.0.1 for one without TLS. It ends
with the `with` block, and keeps a count of the manifests that were fetched by tag and by digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    """What was pushed. `fetched`: the references (tags, digests) by which manifests were asked for, in order."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}  # (repository, tag or digest) -> (type, bytes)
        self.uploads: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.address = ""

    def digest(self, repository: str, tag: str) -> str:
        return digest_of(self.manifests[repository, tag][1])


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def serve_registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(_Handler):
        kept = registry

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kept: Registry

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: pytest shows what matters."""

    def do_GET(self) -> None:
        self._give()

    def do_HEAD(self) -> None:
        self._give()

    def _give(self) -> None:
        if self.path == "/v2/":
            return self._answer(200, b"{}", "application/json")
        if found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", self.path):
            blob = self.kept.blobs.get(found[2])
            return self._absent() if blob is None else self._answer(200, blob, digest=found[2])
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", self.path):
            manifest = self.kept.manifests.get((found[1], found[2]))
            self.kept.fetched.append(found[2])
            return self._absent() if manifest is None else self._answer(200, manifest[1], manifest[0], digest_of(manifest[1]))
        return self._absent()

    def do_POST(self) -> None:
        found = re.fullmatch(r"/v2/(.+)/blobs/uploads/(\?.*)?", self.path)
        if found is None:
            return self._absent()
        self._body()
        upload = uuid.uuid4().hex
        self.kept.uploads[upload] = b""
        return self._answer(202, location=f"/v2/{found[1]}/blobs/uploads/{upload}")

    def do_PATCH(self) -> None:
        upload = self.path.rpartition("/")[2]
        self.kept.uploads[upload] += self._body()
        self._answer(202, location=self.path, more={"Range": f"0-{len(self.kept.uploads[upload]) - 1}"})

    def do_PUT(self) -> None:
        body = self._body()
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", self.path):
            manifest = (self.headers.get("Content-Type", ""), body)
            for reference in (found[2], digest_of(body)):
                self.kept.manifests[found[1], reference] = manifest
            return self._answer(201, digest=digest_of(body), location=self.path)
        place, _, query = self.path.partition("?")
        content = self.kept.uploads.pop(place.rpartition("/")[2]) + body
        assert digest_of(content) in query.replace("%3A", ":")
        self.kept.blobs[digest_of(content)] = content
        return self._answer(201, digest=digest_of(content), location="/")

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _absent(self) -> None:
        self._answer(404, json.dumps({"errors": [{"code": "NOT_FOUND", "message": "not here"}]}).encode(), "application/json")

    def _answer(self, status: int, content: bytes = b"", kind: str = "application/octet-stream", digest: str = "",
                location: str = "", more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Docker-Content-Digest": digest,
                   "Location": location, "Docker-Distribution-Api-Version": "registry/2.0", **(more or {})}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
