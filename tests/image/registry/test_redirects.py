"""Protects: a few redirects are followed, and a login reaches no other server."""

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
from vecache.errors import ImageNotFoundError, RegistryError

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


def test_another_server_that_wants_a_login_gets_none(
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


def test_the_body_of_a_redirect_is_not_read(registry: Registry, time: FakeTime) -> None:
    target = {"Location": f"/v2/a/b/manifests/{SAMPLE.digest}"}
    endless = Reply(302, target, b"x" * 65536, endless=True)
    registry.rules = [lambda request: endless if request.path.endswith("/latest") else None]
    read_all(registry, time)


def test_a_url_that_names_two_hosts_does_not_get_the_login(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    # urllib.parse takes the last host, urllib3, which connects, the first.
    with serve(Registry(SAMPLE)) as other:
        target = {"Location": f"http://{other.address}\\@{registry.address}/x"}
        registry.rules = [
            lambda request: Reply(302, target) if "authorization" in request.headers else None,
            require_basic,
        ]
        auth = write_login(tmp_path / "auth", registry)
        with pytest.raises(ImageNotFoundError):
            read_all(registry, time, auth_file=auth)
        assert len(other.requests) == 1
        assert "authorization" not in other.requests[0].headers


def test_a_token_server_that_redirects_does_not_pass_the_login_on(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    with serve(Registry(SAMPLE)) as other:
        other.rules = [lambda _: Reply(body=b'{"token":"good"}')]

        def want_token(request: Request) -> Reply | None:
            if request.path.startswith("/token"):
                assert "authorization" in request.headers
                return Reply(307, {"Location": f"http://{other.address}/token"})
            if request.headers.get("authorization") == "Bearer good":
                return None
            realm = f"http://{registry.address}/token"
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})

        registry.rules = [want_token]
        read_all(registry, time, auth_file=write_login(tmp_path / "auth", registry))
        assert len(other.requests) == 1
        assert "authorization" not in other.requests[0].headers
