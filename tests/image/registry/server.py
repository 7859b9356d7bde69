"""A registry on loopback that behaves, unless a rule of a test makes it misbehave.

Tests hand in rules: each takes a request and gives a `Reply`, or None to let the next one speak.
The server keeps a list of all requests it saw.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from vecache.image.manifest import OCI_IMAGE, OCI_INDEX

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.image.samples import Sample

    Rule = Callable[["Request"], "Reply | None"]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_blob(self) -> bool:
        return "/blobs/" in self.path

    @property
    def is_manifest(self) -> bool:
        return "/manifests/" in self.path

    @property
    def range(self) -> tuple[int, int] | None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Reply:
    """An answer; `Content-Length` is right unless given. `cut`: so many bytes, then hang up.

    With `drip` the body is all that is sent, status line and headers included, and then `drip`
    every hundredth of a second, for ever.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    endless: bool = False
    drip: bytes = b""
    seconds_before: float = 0.0


class Registry:
    """What the server serves, how it misbehaves, and what it saw."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self.n_connections = 0
        self.address = ""

    @property
    def reference(self) -> str:
        return f"docker://{self.address}/a/b:latest"

    def paths(self) -> list[str]:
        """The requested paths, without the check for plain http."""
        return [each.path for each in self.requests if each.path != "/v2/"]

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        for rule in self.rules:
            reply = rule(request)
            if reply is not None:
                return reply
        return self.behave(request)

    def behave(self, request: Request) -> Reply:
        name = request.path.partition("?")[0].rpartition("/")[2]
        digest = self.sample.digest if name == "latest" else name
        blob = self.sample.blobs.get(digest)
        if blob is None:
            return Reply(404, body=b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"m"}]}')
        if request.is_manifest:
            kind = OCI_INDEX if b'"manifests"' in blob else OCI_IMAGE
            return Reply(headers={"Content-Type": kind}, body=blob)
        if request.range is None:
            return Reply(headers={"Content-Type": "application/octet-stream"}, body=blob)
        first, last = request.range
        if last >= len(blob):
            return Reply(416)
        content_range = f"bytes {first}-{last}/{len(blob)}"
        return Reply(206, {"Content-Range": content_range}, blob[first : last + 1])


def once(rule: Rule, times: int = 1) -> Rule:
    """A rule that speaks only the first times it would."""
    left = [times]

    def limited(request: Request) -> Reply | None:
        reply = rule(request) if left[0] else None
        if reply is not None:
            left[0] -= 1
        return reply

    return limited


@contextmanager
def serve(registry: Registry, context: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """Run a registry on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # one packet an answer: two would wait for the client's delayed ACK

        def setup(self) -> None:
            registry.n_connections += 1
            super().setup()

        def do_GET(self) -> None:
            n_body = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(n_body))
            self._send(registry.answer(request))

        do_POST = do_GET  # noqa: N815 - http.server's name

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.seconds_before)
            if reply.drip:
                self.wfile.write(reply.body)
            while reply.drip:  # until the client hangs up
                self.wfile.write(reply.drip)
                self.wfile.flush()
                time.sleep(0.01)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                if value:  # an empty one only keeps the usual one out
                    self.send_header(name, value)
            if not reply.endless and "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            if reply.endless or reply.cut is not None:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(reply.body[: reply.cut])
            while reply.endless:
                self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up early is part of the test

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
