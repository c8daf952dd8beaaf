"""A stand-in for the Hugging Face hub: the part of its HTTP interface that fetching a model uses."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories as {name: {file: contents}}, and what has been asked for."""

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut_after: dict[str, int] = field(default_factory=dict)
    """Files whose first transfer breaks off after so many bytes."""
    damaged: set[str] = field(default_factory=set)
    """Files whose first byte is flipped on the way."""
    down: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range header of each request."""
    tokens: dict[str, set[str]] = field(default_factory=lambda: {"hub": set(), "storage": set()})
    """Authorization headers that the hub and its storage, another host, have seen."""
    endpoint: str = ""


def is_large(name: str) -> bool:
    """Whether the hub keeps a file under its SHA-256 (LFS) and not under git's checksum."""
    return name.endswith(".safetensors")


def sibling(name: str, data: bytes) -> dict[str, Any]:
    """A file as the hub lists it: large ones with a SHA-256, small ones under git's checksum."""
    entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
    entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if is_large(name):
        entry["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
    return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path).strip("/")
        hub.requests.append((self.command, path, self.headers.get("Range") or ""))
        storage = path.startswith("storage/")
        hub.tokens["storage" if storage else "hub"].add(self.headers.get("Authorization") or "")
        if hub.down:
            return self._send(503, b"down")
        path = path.removeprefix("storage/")
        api = path.startswith("api/models/")
        owner, model, *rest = path.removeprefix("api/models/").split("/")
        name = f"{owner}/{model}"
        if name not in hub.repositories:
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        files = hub.repositories[name]
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if api:
            siblings = [sibling(f, d) for f, d in files.items()]
            gated = "manual" if name in hub.gated else False
            info = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "gated": gated, "tags": []}
            return self._send(200, json.dumps(info | {"siblings": siblings, "downloads": 0}).encode())
        if name in hub.gated:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        file = "/".join(rest[2:])
        if is_large(file) and not storage:
            place = f"http://localhost:{self.server.server_port}/storage/{path}"  # type: ignore[attr-defined]
            return self._send(302, b"", {"Location": place, "X-Repo-Commit": COMMIT})
        return self._file(file, files)

    def _file(self, name: str, files: dict[str, bytes]) -> None:
        if name not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = files[name]
        etag = hashlib.sha256(data).hexdigest() if is_large(name) else hashlib.sha1(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if is_large(name):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if name in self.hub.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.hub.cut_after.pop(name, None) if self.command == "GET" else None
        self._send(206 if start else 200, data[start:], headers, cut)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.hub.down = True  # and stays so until the test mends it
            self.close_connection = True


@contextmanager
def serve(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """Run the stand-in on a free port of this machine; `Hub.endpoint` is its address."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
