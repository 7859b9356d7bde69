"""Protects: a login is sent after a challenge, in the scheme it names, and never shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.registry.cases import (
    SECRET,
    connect,
    only,
    read_all,
    require_basic,
    write_login,
)
from tests.image.registry.server import Registry, Reply, Request, once
from tests.image.samples import (
    TOC,
)
from vecache.errors import (
    ConfigError,
    RegistryError,
)
from vecache.image.open import open_image
from vecache.image.registry.login import Login

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.image.registry.clock import FakeTime
    from tests.image.registry.server import Rule


def test_basic_credentials_are_sent_after_a_challenge(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    registry.rules = [require_basic]
    read_all(registry, time, auth_file=write_login(tmp_path / "auth", registry))
    sent = ["authorization" in each.headers for each in registry.requests if each.path != "/v2/"]
    assert sent == [False, True, True, True, True, True]


def test_no_repr_shows_a_login(registry: Registry, time: FakeTime, tmp_path: Path) -> None:
    registry.rules = [require_basic]
    auth = write_login(tmp_path / "auth", registry)
    image = connect(f"{registry.address}/a/b", auth_file=auth, retry=time.policy())
    image.read_root()
    sent = registry.requests[-1].headers["authorization"].removeprefix("Basic ")
    assert "RegistrySession" in repr(image)
    assert SECRET not in repr(image)
    assert sent not in repr(image)


def test_a_missing_basic_login_says_what_to_do(registry: Registry, time: FakeTime) -> None:
    registry.rules = [require_basic]
    with pytest.raises(RegistryError, match=f"run podman login {registry.address}"):
        read_all(registry, time)


@pytest.mark.parametrize("headers", [{}, {"WWW-Authenticate": "Negotiate"}])
def test_an_unknown_login_scheme_is_a_clear_error(
    registry: Registry, time: FakeTime, headers: dict[str, str]
) -> None:
    registry.rules = [only("all", Reply(401, headers))]
    with pytest.raises(RegistryError, match="needs a login, but not Basic or Bearer"):
        read_all(registry, time)


def test_challenges_without_end_are_refused() -> None:
    nothing: Any = None
    login = Login(nothing, lambda: None, "repository:a/b:pull")
    with pytest.raises(RegistryError, match="100,010 characters of WWW-Authenticate"):
        login.respond("https://a.example/v2/", ["B" + "," * 10_000] * 10, {}, nothing)


def test_a_wrong_login_is_tried_once(registry: Registry, time: FakeTime, tmp_path: Path) -> None:
    reply = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}, b'{"errors":[{"code":"DENIED"}]}')
    registry.rules = [only("all", reply)]
    auth = write_login(tmp_path / "auth", registry)
    with pytest.raises(RegistryError, match=r"status 401 \(DENIED\)") as caught:
        read_all(registry, time, auth_file=auth)
    assert len(registry.paths()) == 2
    assert f"the login of user 'user' from {auth} is wrong" in str(caught.value)
    assert SECRET not in str(caught.value)


def require_token(registry: Registry, answer: Callable[[Request], Reply]) -> Rule:
    """Want a bearer token, and hand it out at /token."""

    def rule(request: Request) -> Reply | None:
        if request.path.startswith("/token"):
            return answer(request)
        if request.headers.get("authorization") == "Bearer good":
            return None
        realm = f'Bearer realm="http://{registry.address}/token?x=1",service="srv"'
        return Reply(401, {"WWW-Authenticate": f'{realm},scope="repository:a/b:pull"'})

    return rule


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_a_token_is_fetched_anonymously(registry: Registry, time: FakeTime, name: str) -> None:
    registry.rules = [
        require_token(registry, lambda _: Reply(body=json.dumps({name: "good"}).encode()))
    ]
    read_all(registry, time)
    token = [each for each in registry.requests if each.path.startswith("/token")]
    assert [each.path for each in token] == [
        "/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=srv"
    ]
    assert "authorization" not in token[0].headers


def test_a_token_is_fetched_with_the_login(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    def answer(request: Request) -> Reply:
        return require_basic(request) or Reply(body=b'{"token":"good"}')

    registry.rules = [require_token(registry, answer)]
    read_all(registry, time, auth_file=write_login(tmp_path / "auth", registry))
    assert any("account=user" in path for path in registry.paths())


def test_an_identity_token_is_exchanged(registry: Registry, time: FakeTime, tmp_path: Path) -> None:
    registry.rules = [require_token(registry, lambda _: Reply(body=b'{"access_token":"good"}'))]
    auth = write_login(tmp_path / "auth", registry, identitytoken=SECRET)
    read_all(registry, time, auth_file=auth)
    posted = [each for each in registry.requests if each.method == "POST"]
    assert len(posted) == 1
    form = posted[0].body.decode()
    assert f"grant_type=refresh_token&refresh_token={SECRET}" in form
    assert "scope=repository%3Aa%2Fb%3Apull&service=srv" in form
    assert "authorization" not in posted[0].headers


def test_a_token_that_expires_is_fetched_again(registry: Registry, time: FakeTime) -> None:
    registry.rules = [
        require_token(registry, lambda _: Reply(body=b'{"token":"good"}')),
    ]
    image = open_image(registry.reference, tls_verify=False, retry=time.policy())
    expired = Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{registry.address}/token"'})
    registry.rules.insert(0, once(only("range", expired)))
    assert image.layers[0].toc.n_bytes == len(TOC)
    tokens = [path for path in registry.paths() if path.startswith("/token")]
    assert tokens[1:] == ["/token?scope=repository%3Aa%2Fb%3Apull"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(403), "sent no token, status 403; the login of user 'user' from .*auth was refused"),
        (Reply(401, {"WWW-Authenticate": "Basic"}), "sent no token, status 401; the login of user"),
        (Reply(body=b"{}"), "sent no usable token"),
        (Reply(body=b'{"token":"a\\r\\nX-Evil: 1"}'), "sent no usable token"),
        (Reply(body='{"token":"é"}'.encode()), "sent no usable token"),
        (Reply(body=b'{"token":5}'), "token: found an integer"),
        (Reply(body=b"<html>"), "not JSON"),
        (Reply(body=b" " * 2_000_000), "more than 1,048,576 bytes"),
        (Reply(503), "status 503; tried 4 times"),
    ],
)
def test_a_token_server_that_fails_is_a_clear_error(
    registry: Registry, time: FakeTime, tmp_path: Path, reply: Reply, message: str
) -> None:
    registry.rules = [require_token(registry, lambda _: reply)]
    auth = write_login(tmp_path / "auth", registry)
    with pytest.raises(RegistryError, match=message) as caught:
        read_all(registry, time, auth_file=auth)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("realm", ["", "ftp://host/", "file:///etc/passwd", "http://[", "nonsense"])
def test_a_token_server_must_be_a_url(registry: Registry, time: FakeTime, realm: str) -> None:
    registry.rules = [only("all", Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}))]
    with pytest.raises(RegistryError, match="not an http or https URL"):
        read_all(registry, time)


def test_a_broken_auth_file_is_read_only_when_a_login_is_wanted(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    auth = tmp_path / "auth"
    auth.write_text("{")
    read_all(registry, time, auth_file=auth)
    registry.rules = [require_basic]
    with pytest.raises(ConfigError, match="not JSON"):
        read_all(registry, time, auth_file=auth)
