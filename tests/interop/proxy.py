"""Forward requests to a registry, and keep what was asked for of each blob.

`docker-registry` does not log the `Range` header, so Podman pulls through this.
"""

from __future__ import annotations

import http.client
import shutil
import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASKED = ("Accept", "Range", "User-Agent")
_ANSWERED = ("Content-Length", "Content-Range", "Content-Type", "Docker-Content-Digest", "ETag")


class Proxy:
    """The address to pull from, and the `Range` headers seen since `forget`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.address = ""
        self._ranges: defaultdict[str, list[str | None]] = defaultdict(list)
        self._lock = threading.Lock()

    def forget(self) -> None:
        with self._lock:
            self._ranges.clear()

    def note(self, blob: str, header: str | None) -> None:
        with self._lock:
            self._ranges[blob].append(header)

    def ranges(self, blob: str, end: int) -> list[str] | str | None:
        """Return what was asked for of a blob before `end`, where its TOC starts.

        None is nothing at all, "whole" a request without ranges, [] the TOC alone.
        """
        with self._lock:
            headers = self._ranges.get(blob)
        if headers is None:
            return None
        if None in headers:
            return "whole"
        each = [part for header in headers for part in str(header)[len("bytes=") :].split(",")]
        return [part for part in each if int(part.partition("-")[0] or end) < end]


@contextmanager
def serve(upstream: str) -> Iterator[Proxy]:
    """Run a proxy on a free port of loopback."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # one packet an answer: two would wait for the client's delayed ACK

        def do_GET(self) -> None:
            path, _, name = self.path.rpartition("/")
            if self.command == "GET" and path.endswith("/blobs"):
                proxy.note(name, self.headers["Range"])
            upstream = http.client.HTTPConnection(proxy.upstream, timeout=60)
            try:
                asked = {key: self.headers[key] for key in _ASKED if self.headers[key]}
                upstream.request(self.command, self.path, headers=asked)
                self._answer(upstream.getresponse())
            except OSError:  # either side hung up; a pull may, when it has what it wants
                self.close_connection = True
            finally:
                upstream.close()

        do_HEAD = do_GET  # noqa: N815 - the name that the base class looks for

        def _answer(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for key in _ANSWERED:
                if answer.headers[key]:
                    self.send_header(key, answer.headers[key])
            if not answer.headers["Content-Length"]:
                self.send_header("Connection", "close")
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile, 1 << 16)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
