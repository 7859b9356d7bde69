"""Protects: redirects are followed, a few, and a login goes to nobody it was not meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.image.registry.cases import (
    SAMPLE,
    SECRET,
    only,
    read_all,
    require_basic,
    write_login,
)
from tests.image.registry.server import Registry, Reply, Request, serve
from vecache.errors import (
    RegistryError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.registry.clock import FakeTime


def test_redirects_are_followed_without_the_login(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    registry.rules = [require_basic]
    with serve(Registry(SAMPLE)) as store:

        def elsewhere(request: Request) -> Reply | None:
            if not request.is_blob or "authorization" not in request.headers:
                return None
            return Reply(307, {"Location": f"http://{store.address}{request.path}?Signature=x"})

        registry.rules = [elsewhere, require_basic]
        read_all(registry, time, auth_file=write_login(tmp_path / "auth", registry))
        assert len(store.requests) == 4
        assert all("authorization" not in each.headers for each in store.requests)
        assert [each.range is not None for each in store.requests] == [False, True, True, True]


def test_a_relative_redirect_stays_and_keeps_the_login(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    def move(request: Request) -> Reply | None:
        if "/manifests/" in request.path and "moved" not in request.path:
            return Reply(301, {"Location": f"/v2/moved/manifests/{SAMPLE.digest}"})
        return None

    registry.rules = [move, require_basic]
    read_all(registry, time, auth_file=write_login(tmp_path / "auth", registry))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("", "without a Location"),
        ("file:///etc/passwd", "not an http or https"),
        ("ftp://host/x", "not an http or https"),
        ("http://[::1/x", "not an http or https"),
        ("http://host:99999/x", "not an http or https"),
        ("/v2/a/b/manifests/latest", "more than 5 redirects"),
    ],
)
def test_bad_redirects_are_clear_errors(
    registry: Registry, time: FakeTime, location: str, message: str
) -> None:
    registry.rules = [only("manifest", Reply(302, {"Location": location}))]
    with pytest.raises(RegistryError, match=message):
        read_all(registry, time)


def test_a_store_that_wants_a_login_gets_none(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    with serve(Registry(SAMPLE)) as store:
        store.rules = [require_basic]
        target = f"http://{store.address}/blob?Signature={SECRET}"
        registry.rules = [only("config", Reply(307, {"Location": target}))]
        auth = write_login(tmp_path / "auth", registry)
        with pytest.raises(RegistryError, match="not allowed, status 401") as caught:
            read_all(registry, time, auth_file=auth)
        assert SECRET not in str(caught.value)
        assert len(store.requests) == 1
