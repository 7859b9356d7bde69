"""Protects: whatever a registry does, the outcome is the image or one clear error.

The server is real HTTP on loopback; no test reaches further. Waiting is done on a fake clock.
"""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.registry.clock import FakeTime
from tests.image.registry.server import Registry, Reply, Request, once, serve
from tests.image.samples import (
    TOC,
    digest_of,
    estargz_layer,
    make_image,
    make_index,
    plain_layer,
    zstd_layer,
)
from vecache.errors import (
    ConfigError,
    DigestError,
    ImageError,
    ImageNotFoundError,
    RegistryError,
    TocError,
    VecacheError,
)
from vecache.image.open import open_image
from vecache.image.registry import ranges
from vecache.image.registry.pools import Pools, find_proxy
from vecache.image.registry.wire import show_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.image.registry.server import Rule
    from vecache.image.model import Image

LAYERS = [zstd_layer(), estargz_layer(), plain_layer()]
SAMPLE = make_image(LAYERS)
CONFIG = json.loads(SAMPLE.manifest)["config"]["digest"]
SECRET = "hunter2"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve(Registry(SAMPLE)) as running:
        yield running


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def read_all(registry: Registry, time: FakeTime, **options: Any) -> Image:
    options.setdefault("retry", time.policy())
    image = open_image(registry.reference, tls_verify=False, **options)
    for layer in image.layers:
        if layer.toc_format:
            assert layer.toc.n_bytes == len(TOC)
    return image


def write_login(path: Path, registry: Registry, **entry: str) -> Path:
    packed = base64.b64encode(f"user:{SECRET}".encode()).decode()
    auths = {registry.address: entry or {"auth": packed}}
    path.write_text(json.dumps({"auths": auths}))
    return path


def test_an_image_costs_one_request_a_document_and_one_or_two_a_toc(
    registry: Registry, time: FakeTime
) -> None:
    image = read_all(registry, time)
    assert image.digest == SAMPLE.digest
    assert image.name == f"{registry.address}/a/b:latest"
    zstd, estargz, _ = (f"/v2/a/b/blobs/{digest_of(each.blob)}" for each in LAYERS)
    assert registry.paths() == [
        "/v2/a/b/manifests/latest",
        f"/v2/a/b/blobs/{CONFIG}",
        zstd,
        estargz,
        estargz,
    ]
    asked = [each.range for each in registry.requests if each.is_blob][1:]
    n_packed = image.layers[0].toc_bytes - len(b"tar-split")
    size, start = len(LAYERS[1].blob), image.layers[1].toc_offset
    assert asked == [(100, 99 + n_packed), (size - 51, size - 1), (start, size - 52)]
    assert time.waits == []
    assert registry.n_connections == 2  # the try with TLS, and one kept open for all requests
    accept = next(each for each in registry.requests if each.is_manifest).headers["accept"]
    assert "application/vnd.oci.image.index.v1+json" in accept
    assert all("authorization" not in each.headers for each in registry.requests)


def test_an_image_is_found_by_digest_and_in_a_list(registry: Registry, time: FakeTime) -> None:
    registry.sample = make_index(
        [(SAMPLE, {"platform": {"os": "linux", "architecture": "riscv64"}})]
    )
    for version in (":latest", f"@{registry.sample.digest}"):
        reference = f"docker://{registry.address}/a/b{version}"
        image = open_image(
            reference, tls_verify=False, platform="linux/riscv64", retry=time.policy()
        )
        assert image.digest == SAMPLE.digest


def only(kind: str, reply: Reply) -> Rule:
    """Give this reply to manifests, blobs, ranges of blobs, or everything."""

    def rule(request: Request) -> Reply | None:
        fits = {
            "manifest": request.is_manifest,
            "config": request.path.endswith(CONFIG),
            "range": request.range is not None,
            "all": request.path != "/v2/",
        }
        return reply if fits[kind] else None

    return rule


WRONG_RANGE = "bytes 0-9/1000"
TWO_PARTS = {"Content-Type": "multipart/byteranges; boundary=x"}


@pytest.mark.parametrize(
    ("kind", "reply", "error", "message"),
    [
        ("manifest", Reply(404), ImageNotFoundError, "the registry has none"),
        (
            "manifest",
            Reply(404, body=b'{"errors":[{"code":"NAME_UNKNOWN","message":"\\u001b[2J"}]}'),
            ImageNotFoundError,
            r"none \(NAME_UNKNOWN\)",
        ),
        ("manifest", Reply(403), RegistryError, "not allowed, status 403"),
        ("manifest", Reply(400), RegistryError, "status 400"),
        ("manifest", Reply(418, body=b"x" * 100_000), RegistryError, "status 418"),
        ("manifest", Reply(204), RegistryError, "status 204"),
        ("manifest", Reply(200), RegistryError, "an empty answer"),
        ("manifest", Reply(body=b"{}"), ImageError, "not an image"),
        ("manifest", Reply(body=b"[" * 10_000), ImageError, "nested too deeply|not JSON"),
        (
            "manifest",
            Reply(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<html>"),
            RegistryError,
            "a web page",
        ),
        (
            "manifest",
            Reply(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b"),
            RegistryError,
            "encoding 'gzip', not asked for",
        ),
        ("manifest", Reply(body=b" " * 5_000_000), RegistryError, "more than 4,194,304 bytes"),
        ("manifest", Reply(body=b"x" * 65536, endless=True), RegistryError, "more than 4,194,304"),
        ("config", Reply(body=b"{}"), DigestError, "have the digest"),
        ("config", Reply(404), ImageNotFoundError, "the registry has none"),
        ("range", Reply(404), ImageNotFoundError, "the registry has none"),
        ("range", Reply(416), RegistryError, "the copy there is damaged"),
        ("range", Reply(206, body=b"x"), RegistryError, "the answer says 'nothing'"),
        ("range", Reply(206, TWO_PARTS, b"x"), RegistryError, "the answer says 'nothing'"),
        (
            "range",
            Reply(206, {"Content-Range": WRONG_RANGE}, b"x" * 10),
            RegistryError,
            WRONG_RANGE,
        ),
        (
            "range",
            Reply(206, {"Content-Range": "bytes */5"}, b"x"),
            RegistryError,
            r"says 'bytes \*/5'",
        ),
        ("range", Reply(200, body=b"short"), RegistryError, "sends '5' bytes"),
        ("range", Reply(205), RegistryError, "status 205"),
    ],
)
def test_wrong_answers_are_clear_errors(
    registry: Registry,
    time: FakeTime,
    kind: str,
    reply: Reply,
    error: type[VecacheError],
    message: str,
) -> None:
    registry.rules = [only(kind, reply)]
    with pytest.raises(error, match=message) as caught:
        read_all(registry, time)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(registry: Registry, time: FakeTime, status: int) -> None:
    registry.rules = [once(only("all", Reply(status, {"Retry-After": "7"})), times=2)]
    read_all(registry, time)
    assert time.waits == [7.0, 7.0]


@pytest.mark.parametrize("kind", ["manifest", "config", "range"])
def test_a_server_that_stays_busy_is_given_up(
    registry: Registry, time: FakeTime, kind: str
) -> None:
    registry.rules = [only(kind, Reply(503))]
    with pytest.raises(RegistryError, match="status 503; asked 4 times"):
        read_all(registry, time)
    assert time.waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("kind", ["manifest", "config", "range"])
def test_a_body_that_is_cut_is_asked_for_again(
    registry: Registry, time: FakeTime, kind: str
) -> None:
    def cut(request: Request) -> Reply | None:
        fits = only(kind, Reply())(request)
        if fits is None:
            return None
        whole = registry.behave(request)
        return Reply(whole.status, whole.headers, whole.body, cut=len(whole.body) // 2)

    registry.rules = [once(cut)]
    read_all(registry, time)
    assert time.waits == [0.5]
    registry.rules = [cut]
    with pytest.raises(RegistryError, match="ended in the middle"):
        read_all(registry, time)


def test_a_range_that_is_shorter_than_it_says_is_asked_for_again(
    registry: Registry, time: FakeTime
) -> None:
    def short(request: Request) -> Reply | None:
        if request.range is None:
            return None
        whole = registry.behave(request)
        return Reply(whole.status, whole.headers, whole.body[:-1])

    registry.rules = [once(short)]
    read_all(registry, time)
    registry.rules = [short]
    with pytest.raises(RegistryError, match=r"bytes, wanted"):
        read_all(registry, time)


def test_a_range_may_say_nothing_of_the_blobs_size(registry: Registry, time: FakeTime) -> None:
    def silent(request: Request) -> Reply | None:
        if request.range is None:
            return None
        whole = registry.behave(request)
        text = whole.headers["Content-Range"].rpartition("/")[0] + "/*"
        return Reply(206, {"Content-Range": text}, whole.body)

    registry.rules = [silent]
    read_all(registry, time)


def without_range(registry: Registry, request: Request) -> Reply:
    headers = {name: text for name, text in request.headers.items() if name != "range"}
    return registry.behave(Request(request.method, request.path, headers, b""))


def test_a_server_that_ignores_ranges_is_read_as_far_as_needed(
    registry: Registry, time: FakeTime
) -> None:
    registry.rules = [lambda request: without_range(registry, request)]
    image = read_all(registry, time)
    assert [each.toc_requests for each in image.layers] == [1, 2, 0]


@pytest.mark.parametrize("status", [400, 501])
def test_a_server_that_refuses_ranges_is_asked_for_the_blob(
    registry: Registry, time: FakeTime, status: int
) -> None:
    registry.rules = [only("range", Reply(status))]
    read_all(registry, time)
    registry.rules = [
        lambda request: Reply(status) if request.is_blob and CONFIG not in request.path else None
    ]
    with pytest.raises(RegistryError, match="refuses to send it"):
        read_all(registry, time)


@pytest.mark.parametrize("status", [200, 400, 501])
def test_a_large_blob_is_not_fetched_for_its_toc(
    registry: Registry, time: FakeTime, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "MAX_WHOLE_BYTES", 50)

    def refuse(request: Request) -> Reply | None:
        if request.range is None:
            return None
        return without_range(registry, request) if status == 200 else Reply(status)

    registry.rules = [refuse]
    with pytest.raises(RegistryError, match=r"too many to read .*skopeo copy docker://"):
        read_all(registry, time)


def test_wrong_bytes_in_a_range_are_noticed(registry: Registry, time: FakeTime) -> None:
    def spoiled(request: Request) -> Reply | None:
        if request.range is None:
            return None
        whole = registry.behave(request)
        return Reply(206, whole.headers, b"?" * len(whole.body))

    registry.rules = [spoiled]
    with pytest.raises(TocError, match="have the digest"):
        read_all(registry, time)


def test_a_manifest_asked_for_by_digest_is_hashed(registry: Registry, time: FakeTime) -> None:
    lying = {"Docker-Content-Digest": SAMPLE.digest}
    registry.rules = [only("manifest", Reply(headers=lying, body=SAMPLE.manifest + b" "))]
    with pytest.raises(DigestError):
        open_image(
            f"docker://{registry.address}/a/b@{SAMPLE.digest}",
            tls_verify=False,
            retry=time.policy(),
        )


def test_a_body_that_trickles_ends_with_the_deadline(registry: Registry) -> None:
    time = FakeTime(step=1.0)  # each look at the clock takes a second
    registry.rules = [only("manifest", Reply(body=b"x", endless=True))]
    with pytest.raises(RegistryError, match="took too long"):
        read_all(registry, time, retry=time.policy(total_seconds=50.0))


def test_a_silent_server_is_given_up(registry: Registry) -> None:
    # The time-outs of a socket are real, so this is the one test that waits, a tenth of a second.
    time = FakeTime()
    registry.rules = [only("manifest", Reply(seconds_before=1.0))]
    with pytest.raises(RegistryError, match="no answer in time"):
        read_all(registry, time, retry=time.policy(total_seconds=0.1))


def test_nobody_listening_is_a_clear_error(time: FakeTime) -> None:
    with serve(Registry(SAMPLE)) as gone:
        pass
    with pytest.raises(RegistryError, match="cannot connect: connection refused; asked 4 times"):
        read_all(gone, time)


def test_a_host_that_cannot_be_is_a_clear_error(time: FakeTime) -> None:
    with pytest.raises(RegistryError, match="not a URL that can be asked"):
        open_image(f"docker://{'a' * 70}.test/x", retry=time.policy())


def test_a_whole_blob_that_is_too_short_is_a_clear_error(
    registry: Registry, time: FakeTime
) -> None:
    chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    registry.rules = [only("range", Reply(headers=chunked, body=b"2\r\nab\r\n0\r\n\r\n"))]
    with pytest.raises(RegistryError, match="the answer is shorter than the blob"):
        read_all(registry, time)


# Redirects


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
        ("", "does not say where"),
        ("file:///etc/passwd", "no http or https"),
        ("ftp://host/x", "no http or https"),
        ("http://[::1/x", "no http or https"),
        ("http://host:99999/x", "no http or https"),
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


# Logins


def require_basic(request: Request) -> Reply | None:
    packed = base64.b64encode(f"user:{SECRET}".encode()).decode()
    if request.headers.get("authorization") == f"Basic {packed}":
        return None
    return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})


def test_a_basic_login_is_sent_once_asked_for(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    registry.rules = [require_basic]
    read_all(registry, time, auth_file=write_login(tmp_path / "auth", registry))
    sent = ["authorization" in each.headers for each in registry.requests if each.path != "/v2/"]
    assert sent == [False, True, True, True, True, True]


def test_a_basic_login_without_credentials_says_what_to_do(
    registry: Registry, time: FakeTime
) -> None:
    registry.rules = [require_basic]
    with pytest.raises(RegistryError, match=f"run podman login {registry.address}"):
        read_all(registry, time)


@pytest.mark.parametrize("headers", [{}, {"WWW-Authenticate": "Negotiate"}])
def test_a_login_of_another_kind_is_a_clear_error(
    registry: Registry, time: FakeTime, headers: dict[str, str]
) -> None:
    registry.rules = [only("all", Reply(401, headers))]
    with pytest.raises(RegistryError, match="wants a login, but not Basic or Bearer"):
        read_all(registry, time)


def test_a_wrong_login_is_tried_once(registry: Registry, time: FakeTime, tmp_path: Path) -> None:
    reply = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}, b'{"errors":[{"code":"DENIED"}]}')
    registry.rules = [only("all", reply)]
    auth = write_login(tmp_path / "auth", registry)
    with pytest.raises(RegistryError, match=r"status 401 \(DENIED\)") as caught:
        read_all(registry, time, auth_file=auth)
    assert len(registry.paths()) == 2
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
def test_a_token_is_fetched_as_nobody(registry: Registry, time: FakeTime, name: str) -> None:
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
        (Reply(403), "gave no token, status 403"),
        (Reply(401, {"WWW-Authenticate": "Basic"}), "gave no token, status 401"),
        (Reply(body=b"{}"), "gave no token that can be sent"),
        (Reply(body=b'{"token":"a\\r\\nX-Evil: 1"}'), "gave no token that can be sent"),
        (Reply(body='{"token":"é"}'.encode()), "gave no token that can be sent"),
        (Reply(body=b'{"token":5}'), "token is integer"),
        (Reply(body=b"<html>"), "not JSON"),
        (Reply(body=b" " * 2_000_000), "more than 1,048,576 bytes"),
        (Reply(503), "status 503; asked 4 times"),
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
    with pytest.raises(RegistryError, match="no http or https URL"):
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


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1 that only itself vouches for."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext"]
    command += ["subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def tls_registry(certificate: Path) -> Iterator[Registry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with serve(Registry(SAMPLE), context) as running:
        yield running


def test_an_unknown_certificate_is_refused_at_once(tls_registry: Registry, time: FakeTime) -> None:
    with pytest.raises(RegistryError, match=r"TLS failed: self.signed certificate; .*certs.d"):
        open_image(tls_registry.reference, retry=time.policy())
    assert time.waits == []


def test_an_unknown_certificate_is_taken_where_verification_is_off(
    tls_registry: Registry, time: FakeTime
) -> None:
    read_all(tls_registry, time)
    assert tls_registry.requests[0].path == "/v2/"


def test_a_certificate_in_certs_d_is_trusted(
    tls_registry: Registry,
    time: FakeTime,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / ".config/containers/certs.d" / tls_registry.address
    folder.mkdir(parents=True)
    shutil.copy(certificate / "cert.pem", folder / "ca.crt")
    monkeypatch.setenv("HOME", str(tmp_path))
    image = open_image(tls_registry.reference, retry=time.policy())
    assert image.digest == SAMPLE.digest
    (folder / "ca.crt").write_text("rubbish")
    with pytest.raises(ConfigError, match="certificate cannot be read"):
        open_image(tls_registry.reference, retry=time.policy())


def test_a_redirect_from_https_to_http_is_not_followed(
    tls_registry: Registry,
    registry: Registry,
    time: FakeTime,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / ".config/containers/certs.d" / tls_registry.address
    folder.mkdir(parents=True)
    shutil.copy(certificate / "cert.pem", folder / "ca.crt")
    monkeypatch.setenv("HOME", str(tmp_path))
    target = {"Location": f"http://{registry.address}/x"}
    tls_registry.rules = [only("manifest", Reply(307, target))]
    with pytest.raises(RegistryError, match="from https to plain http"):
        open_image(tls_registry.reference, retry=time.policy())
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.address}/token"'}
    tls_registry.rules = [only("manifest", Reply(401, challenge))]
    auth = write_login(tmp_path / "auth", tls_registry)
    with pytest.raises(RegistryError, match="no credentials are sent there"):
        open_image(tls_registry.reference, retry=time.policy(), auth_file=auth)
    assert registry.requests == []


def test_plain_http_is_not_tried_where_verification_is_on(
    registry: Registry, time: FakeTime
) -> None:
    with pytest.raises(RegistryError, match="turn tls_verify off"):
        open_image(registry.reference, retry=time.policy())
    assert registry.requests == []


# Surroundings


def test_without_urllib3_it_says_what_to_install(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(ImageError, match=r"pip install 'vecache\[registry\]'"):
        open_image("docker://127.0.0.1:1/x", retry=time.policy())


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://quay.io/", {}, None),
        ("https://quay.io/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://quay.io/", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://quay.io/", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://quay.io/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://quay.io/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x,quay.io"}, None),
        ("https://cdn.quay.io/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".quay.io"}, None),
        ("https://notquay.io/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "quay.io"}, "http://p:1"),
        ("https://quay.io/", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, None),
        ("https://localhost:5000/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://127.0.0.9/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://[::1]:5000/", {"HTTPS_PROXY": "http://p:1"}, None),
    ],
)
def test_proxies_are_found_as_go_programs_do(
    url: str, environ: dict[str, str], proxy: str | None
) -> None:
    assert find_proxy(url, environ) == proxy


def test_a_proxy_is_used_with_its_own_login() -> None:
    environ = {"HTTPS_PROXY": f"http://user:{SECRET}@proxy:3128"}
    manager = Pools(True, (), environ).manager("https://quay.io/v2/")
    assert manager.proxy is not None
    assert manager.proxy.host == "proxy"


def test_a_proxy_that_is_gone_is_a_clear_error(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Registry(SAMPLE)) as gone:
        pass
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@{gone.address}")
    with pytest.raises(RegistryError, match="the proxy refused or failed") as caught:
        open_image("docker://registry.test/x", retry=time.policy())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:1/a/b?Signature=x#y", "https://host:1/a/b"),
        ("http://[::1/x", "a malformed URL"),
        ("https://host/\x1b[2J", r"https://host/\x1b[2J"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert show_url(url) == shown
