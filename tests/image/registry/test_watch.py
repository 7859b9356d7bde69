"""Protects: no server holds a request up past its deadline, whatever it goes on sending."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread, Timer
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.image.registry.cases import SAMPLE, only
from tests.image.registry.server import Registry, Reply, Request, serve
from vecache.errors import RegistryError
from vecache.image.open import open_image
from vecache.image.registry import http
from vecache.image.registry.connections import Watch
from vecache.image.registry.http import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 0.3  # of real time, for a request with all its attempts
PATIENCE = 10.0  # after which a test fails: far more than a busy machine needs

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"

DRIPS = {
    "interim responses": Reply(drip=b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
    "a status line": Reply(body=b"HTTP/1.1 200 ", drip=b"a"),
    "a header": Reply(body=_OK + b"X: ", drip=b"a"),
    "a body": Reply(body=_OK + b"Content-Length: 100000\r\n\r\n", drip=b"a"),
    "a body of unknown length": Reply(body=_OK + b"\r\n", drip=b"a"),
    "the size of a chunk": Reply(body=_CHUNKED, drip=b"0"),
    "an extension of a chunk": Reply(body=_CHUNKED + b"1;", drip=b"a"),
    "trailers": Reply(body=_CHUNKED + b"2\r\n{}\r\n0\r\n", drip=b"X: y\r\n"),
}


def assert_given_up(reference: str, message: str = "took too long", **options: object) -> None:
    """Open an image in a thread, since on failure it would never return."""
    retry = RetryPolicy(n_attempts=2, first_wait=0.01, total_seconds=SECONDS)
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            open_image(reference, retry=retry, **options)  # type: ignore[arg-type]
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    started = Thread(target=run, daemon=True)
    started.start()
    started.join(PATIENCE)
    assert outcome, f"still waiting after {PATIENCE} s, with a deadline of {SECONDS} s"
    assert isinstance(outcome[0], RegistryError), outcome
    assert message in str(outcome[0])


@pytest.mark.parametrize("drip", DRIPS)
def test_endless_answers_end_with_the_deadline(registry: Registry, drip: str) -> None:
    registry.rules = [only("manifest", DRIPS[drip])]
    assert_given_up(registry.reference, tls_verify=False)


@pytest.mark.parametrize("drip", DRIPS)
def test_so_they_do_inside_tls(
    tls_registry: Registry,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    drip: str,
) -> None:
    folder = tmp_path / ".config/containers/certs.d" / tls_registry.address
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes((certificate / "cert.pem").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    tls_registry.rules = [only("manifest", DRIPS[drip])]
    assert_given_up(tls_registry.reference)


@pytest.mark.parametrize("drip", DRIPS)
def test_so_do_those_of_a_token_server(registry: Registry, drip: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.address}/token"'}

    def rule(request: Request) -> Reply | None:
        if request.path.startswith("/token"):
            return DRIPS[drip]
        return Reply(401, challenge) if request.is_manifest else None

    registry.rules = [rule]
    assert_given_up(registry.reference, tls_verify=False)


@pytest.mark.parametrize("drip", DRIPS)
def test_so_do_those_behind_a_redirect(registry: Registry, drip: str) -> None:
    with serve(Registry(SAMPLE)) as other:
        other.rules = [only("all", DRIPS[drip])]
        registry.rules = [only("manifest", Reply(307, {"Location": f"http://{other.address}/x"}))]
        assert_given_up(registry.reference, tls_verify=False)


def test_so_do_those_of_a_proxy(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # the client hangs up
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                end = monotonic() + PATIENCE
                while monotonic() < end and connection.send(b"X: y\r\n"):
                    pass

        Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert_given_up("docker://registry.test/x")


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: one more waits until it gives up."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for each in waiting:
            each.close()


def test_a_name_of_many_addresses_that_do_not_answer_ends_too(
    full_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", full_port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [address] * 5000)
    monkeypatch.setattr(http, "_CONNECT_SECONDS", 0.05)
    assert_given_up(f"docker://registry.test:{full_port}/x")


def test_headers_have_a_limit_of_their_own(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_HEADER_SECONDS", 0.05)
    registry.rules = [only("manifest", DRIPS["a header"])]
    assert_given_up(registry.reference, "no answer in time; tried 2 times", tls_verify=False)


def test_the_next_address_of_a_name_is_tried(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = registry.address.split(":")
    with socket.create_server((host, 0)) as gone:
        closed = gone.getsockname()
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    unusable = (12345, socket.SOCK_STREAM, 6, "")
    found = [(*unusable, closed), (*kind, closed), (*kind, (host, int(port)))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    image = open_image(f"docker://registry.test:{port}/a/b:latest", tls_verify=False)
    assert image.digest == SAMPLE.digest


@pytest.mark.parametrize("n_threads", [0, 1])
def test_a_system_without_threads_is_a_clear_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    left = [n_threads]
    start = Timer.start

    def start_some(timer: Timer) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        start(timer)

    monkeypatch.setattr(Timer, "start", start_some)
    with pytest.raises(RegistryError, match="no more threads"):
        open_image(registry.reference, tls_verify=False)


def test_a_connection_that_comes_too_late_is_shut_down_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watch = Watch(0.0)
        watch._timer.join()
        watch.add(ours.fileno())
        assert theirs.recv(1) == b""
        watch.close()


def test_a_closed_watch_leaves_the_connection_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watch = Watch(0.01)
        watch.add(ours.fileno())
        watch.close()
        watch._timer.join()
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
