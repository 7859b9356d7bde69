"""Protects: the client of a registry can be used from several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.image.registry.cases import LAYERS, connect
from tests.image.registry.server import Registry, Reply, Request
from tests.image.samples import digest_of
from vecache.image.registry.client import RemoteBlob

if TYPE_CHECKING:
    import pytest

    from tests.image.registry.clock import FakeTime
    from vecache.image.registry.client import RegistrySession

N_THREADS = 6


def read_in_threads(session: RegistrySession) -> None:
    """Read from all layers at once, and check what comes back."""
    layers = [LAYERS[i % len(LAYERS)].blob for i in range(N_THREADS)]
    blobs = [RemoteBlob(session, "a/b", digest_of(each), len(each)) for each in layers]
    with ThreadPoolExecutor(N_THREADS) as pool:
        read = list(pool.map(lambda blob: blob.read(3, 10), blobs))
    assert read == [each[3:13] for each in layers]


def test_concurrent_401s_cause_one_login(registry: Registry, time: FakeTime) -> None:
    all_refused = threading.Barrier(N_THREADS)

    def want_token(request: Request) -> Reply | None:
        if request.path.startswith("/token"):
            return Reply(body=b'{"token":"good"}', seconds_before=0.05)
        if request.headers.get("authorization") == "Bearer good":
            return None
        all_refused.wait(10)  # no thread logs in before all were refused
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{registry.address}/token"'})

    registry.rules = [want_token]
    session = connect(f"{registry.address}/a/b", retry=time.policy()).session
    read_in_threads(session)
    assert sum(path.startswith("/token") for path in registry.paths()) == 1
    assert len(registry.requests) == 2 * N_THREADS + 1


def test_the_scheme_is_found_once_and_connections_are_reused(
    tls_registry: Registry, time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    session = connect(f"{tls_registry.address}/a/b", retry=time.policy()).session
    for _ in range(3):
        read_in_threads(session)
    assert [each.path for each in tls_registry.requests].count("/v2/") == 1
    assert tls_registry.n_connections <= 1 + N_THREADS
    assert caplog.records == []  # urllib3 warns of connections that its pool has no room for
