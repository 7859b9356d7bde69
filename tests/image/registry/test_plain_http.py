"""Protects: plain http needs permission, and a server that answers TLS in plain text."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from tests.image.registry.cases import SAMPLE, connect
from tests.image.registry.server import Registry, serve
from vecache.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.image.registry.clock import FakeTime
    from vecache.image.registry.client import RegistryImage
    from vecache.image.registry.http import RetryPolicy

TLS_ALERT = bytes.fromhex("15030300020228")  # fatal: handshake failure
TLS_HANDSHAKE = b"\x16"


def connect_unverified(address: str, policy: RetryPolicy) -> RegistryImage:
    return connect(f"{address}/a/b", retry=policy)


@contextlib.contextmanager
def peer(answer: Callable[[socket.socket], object]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield an address whose connections are answered so, and the first byte each one sent."""
    first_bytes: list[bytes] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    first_bytes.append(connection.recv(65536)[:1])
                    answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", first_bytes


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("answer", "seconds", "message"),
    [
        (lambda connection: connection.recv(1), 0.2, "no answer in time"),
        (lambda connection: connection.shutdown(socket.SHUT_RDWR), 60.0, "TLS failed"),
        (lambda connection: connection.sendall(TLS_ALERT), 60.0, "TLS failed"),
        (reset, 60.0, "the connection broke"),
    ],
    ids=["silent", "closed", "alert", "reset"],
)
def test_a_tls_failure_does_not_lead_to_plain_http(
    time: FakeTime,
    answer: Callable[[socket.socket], object],
    seconds: float,
    message: str,
) -> None:
    with peer(answer) as (address, first_bytes):
        image = connect_unverified(address, time.policy(total_seconds=seconds))
        with pytest.raises(RegistryError, match=message):
            image.read_root()
    assert set(first_bytes) == {TLS_HANDSHAKE}
    assert image.session._scheme == ""


def test_a_refused_connection_does_not_lead_to_plain_http(time: FakeTime) -> None:
    with serve(Registry(SAMPLE)) as gone:
        pass
    image = connect_unverified(gone.address, time.policy())
    with pytest.raises(RegistryError, match="cannot connect: connection refused; tried 4 times"):
        image.read_root()
    assert image.session._scheme == ""


def test_a_plain_text_answer_leads_to_plain_http(registry: Registry, time: FakeTime) -> None:
    image = connect_unverified(registry.address, time.policy())
    assert image.read_root().data == SAMPLE.manifest
    assert image.session._scheme == "http"
    assert time.waits == []


def test_tls_is_used_where_the_server_has_it(tls_registry: Registry, time: FakeTime) -> None:
    image = connect_unverified(tls_registry.address, time.policy())
    assert image.read_root().data == SAMPLE.manifest
    assert image.session._scheme == "https"
