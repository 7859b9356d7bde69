"""Protects: servers prove who they are, and proxies are used as the environment says."""

from __future__ import annotations

import base64
import shutil
import ssl
from typing import TYPE_CHECKING

import pytest
from urllib3 import ProxyManager

from tests.image.registry.cases import (
    SAMPLE,
    SECRET,
    only,
    read_all,
    write_login,
)
from tests.image.registry.server import Registry, Reply, serve
from vecache.errors import (
    ConfigError,
    RegistryError,
)
from vecache.image.open import open_image
from vecache.image.registry.http import HttpClient
from vecache.image.registry.urls import find_proxy, show_url

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.registry.clock import FakeTime


def set_proxies(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def test_an_unknown_certificate_is_refused_at_once(tls_registry: Registry, time: FakeTime) -> None:
    with pytest.raises(RegistryError, match=r"TLS failed: self.signed certificate; .*certs.d"):
        open_image(tls_registry.reference, retry=time.policy())
    assert time.waits == []


def test_an_unknown_certificate_is_accepted_where_verification_is_off(
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


def test_a_named_folder_of_certificates_replaces_certs_d(
    tls_registry: Registry, time: FakeTime, certificate: Path, tmp_path: Path
) -> None:
    shutil.copy(certificate / "cert.pem", tmp_path / "ca.crt")
    image = open_image(tls_registry.reference, retry=time.policy(), cert_dir=tmp_path)
    assert image.digest == SAMPLE.digest
    with pytest.raises(ConfigError, match=r"a certificate cannot be read: .*No such file"):
        open_image(tls_registry.reference, cert_dir=tmp_path / "missing")


def test_the_clients_certificate_goes_to_the_registry_alone(
    certificate: Path, tmp_path: Path, time: FakeTime
) -> None:
    for name, copy in (("cert.pem", "ca.crt"), ("cert.pem", "me.cert"), ("key.pem", "me.key")):
        shutil.copy(certificate / name, tmp_path / copy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    context.load_verify_locations(certificate / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with serve(Registry(SAMPLE), context) as mine, serve(Registry(SAMPLE), context) as cdn:
        image = open_image(mine.reference, retry=time.policy(), cert_dir=tmp_path)
        assert image.digest == SAMPLE.digest
        target = f"https://{cdn.address}/v2/a/b/manifests/latest"
        mine.rules = [only("manifest", Reply(307, {"Location": target}))]
        with pytest.raises(RegistryError):  # the other host wants a certificate too, and gets none
            open_image(mine.reference, retry=time.policy(), cert_dir=tmp_path)
        assert cdn.requests == []


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
        ("https://cdn.quay.io/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x, *.quay.io"}, None),
        ("https://notquay.io/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "quay.io"}, "http://p:1"),
        ("https://quay.io/", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, None),
        ("https://localhost:5000/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://127.0.0.9/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://[::1]:5000/", {"HTTPS_PROXY": "http://p:1"}, None),
    ],
)
def test_proxies_are_found_as_go_programs_do(
    url: str, environ: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_proxies(monkeypatch, environ)
    assert find_proxy(url) == proxy


@pytest.mark.parametrize("proxy", ["socks5://user:{}@proxy:1", "http://user:{}@[::1", "ftp://p"])
def test_a_proxy_that_is_not_http_is_a_clear_error(
    time: FakeTime, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_proxies(monkeypatch, {"HTTPS_PROXY": proxy.format(SECRET)})
    with pytest.raises(ConfigError, match="not the URL of an http or https proxy") as caught:
        open_image("docker://registry.test/x", retry=time.policy())
    assert SECRET not in str(caught.value)


def test_a_proxy_is_used_with_its_own_login(monkeypatch: pytest.MonkeyPatch) -> None:
    set_proxies(monkeypatch, {"HTTPS_PROXY": f"http://user:{SECRET}%40%E2%82%AC@proxy:3128"})
    manager = HttpClient(())._manager("https://quay.io/v2/")
    assert isinstance(manager, ProxyManager)
    assert manager.proxy is not None
    assert manager.proxy.host == "proxy"
    login = base64.b64decode(manager.proxy_headers["Proxy-Authorization"].removeprefix("Basic "))
    assert login.decode() == f"user:{SECRET}@€"


def test_a_proxy_that_refuses_connections_is_a_clear_error(
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
        ("https://host/\x1b[2J", "https://host/%1B%5B2J"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert show_url(url) == shown
