"""A registry on loopback that answers with the bytes of an input: status lines, headers, bodies.

An input is the answers, one a connection, with a line of `----` between them; behind the last the
server hangs up. Every host name leads to it, wherever a redirect or a token server may point.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.image import samples
from vecache.image.manifest import OCI_INDEX
from vecache.image.name import parse_registry_name
from vecache.image.registry.access import Access
from vecache.image.registry.client import connect
from vecache.image.registry.http import RetryPolicy
from vecache.image.registry.registries import Endpoint
from vecache.image.registry.tags import list_tags
from vecache.image.source import load_image
from vecache.image.toc import MANIFEST_POSITION

if TYPE_CHECKING:
    from collections.abc import Iterator

_BETWEEN = b"\n----\n"
_WAIT_SECONDS = 2.0


def _answer(status: str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _chunked(body: bytes) -> bytes:
    half = len(body) // 2
    parts = (body[:half], body[half:], b"")
    data = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts[:2])
    return _answer("200 OK", b"", "Transfer-Encoding: chunked", length=False) + data + b"0\r\n\r\n"


def _seeds() -> list[bytes]:
    layer = samples.zstd_layer()
    image = samples.make_image([layer])
    config = image.blobs[json.loads(image.manifest)["config"]["digest"]]
    manifest = _answer("200 OK", image.manifest, f"Content-Type: {image.media_type}")
    start, length, *_ = map(int, layer.annotations[MANIFEST_POSITION].split(":"))
    span = f"Content-Range: bytes {start}-{start + length - 1}/{len(layer.blob)}"
    toc = _answer("206 Partial Content", layer.blob[start : start + length], span)
    challenge = 'WWW-Authenticate: Bearer realm="http://auth.example/token",service="s",scope="a"'
    away = _answer("307 Temporary Redirect", b"", "Location: http://cdn.example/blob?sig=1")
    tags = _answer("200 OK", b'{"name":"a/b","tags":["1","2"]}')
    listed = samples.make_index([(image, {"platform": {"os": "linux", "architecture": "amd64"}})])
    listing = _answer("200 OK", listed.manifest, f"Content-Type: {OCI_INDEX}")
    whole = _answer("200 OK", layer.blob)
    rest = [_answer("200 OK", config), toc, tags]
    login = [_answer("401 Unauthorized", b"{}", challenge), _answer("200 OK", b'{"token":"t"}')]
    exchanges = [
        [manifest, *rest],
        [*login, listing, manifest, *rest],
        [_chunked(image.manifest), _chunked(config), away, toc, _chunked(b'{"tags":["1"]}')],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + manifest, rest[0], whole, tags],
        [_answer("429 Too Many Requests", b"", "Retry-After: 1"), manifest, *rest],
        [manifest, _answer("404 Not Found", b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'), toc, tags],
    ]
    return [_BETWEEN.join(each) for each in exchanges]


class _Handler(socketserver.BaseRequestHandler):
    """Read a request, send the next answer, and hang up."""

    def handle(self) -> None:
        connection: socket.socket = self.request
        server: Any = self.server
        connection.settimeout(_WAIT_SECONDS)
        with contextlib.suppress(OSError):
            request = connection.recv(1 << 16)
            is_tls = request.startswith(b"\x16\x03")
            while not is_tls and request and b"\r\n\r\n" not in request:
                request += (more := connection.recv(1 << 16))
                if not more:
                    break
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" if is_tls else server.next())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):  # else what was sent may be lost with a reset
                pass


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self.start([])
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def start(self, answers: list[bytes]) -> None:
        self.answers = iter(answers)

    def next(self) -> bytes:
        with self._lock:
            return next(self.answers, b"")

    def handle_error(self, *_: object) -> None:
        pass


class Registries:
    """An image and the tags of a repository, in a registry that sends anything."""

    def __init__(self) -> None:
        self.server: _Server | None = None  # not before it is needed: its thread stays
        self.seeds = _seeds()
        self.name = parse_registry_name("registry.example/a/b:latest")

    def read(self, data: bytes) -> None:
        self.server = self.server or _Server()
        self.server.start(data.split(_BETWEEN))
        retry = RetryPolicy(n_attempts=2, total_seconds=30.0, sleep=lambda _: None)
        with self._every_name_is_the_server():
            access = Access(tls_verify=False, retry=retry)
            source = connect(Endpoint(self.name), self.name, os.environ, access)
            image = load_image(source, "here", None)
            for layer in image.layers:
                if layer.toc_format:
                    assert layer.toc.n_bytes
            list_tags(source.session, self.name.repository)

    @contextlib.contextmanager
    def _every_name_is_the_server(self) -> Iterator[None]:
        assert self.server is not None
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", self.server.server_address)]
        with mock.patch("socket.getaddrinfo", return_value=found):
            yield
