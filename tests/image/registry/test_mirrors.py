"""Protects: mirrors and search registries are tried in order, and each gets only its own login."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.image.registry.cases import SAMPLE, SECRET, only, require_basic
from tests.image.registry.server import Registry, Reply, serve
from vecache.cli.main import main
from vecache.errors import ConfigError, ImageNameError, ImageNotFoundError, RegistryError
from vecache.image.open import open_image
from vecache.image.series import open_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.image.registry.clock import FakeTime

NOT_FOUND = only("all", Reply(404, body=b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'))


@pytest.fixture
def mirror() -> Iterator[Registry]:
    with serve(Registry(SAMPLE)) as running:
        yield running


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    return path


def mirrored(registry: Registry, mirror: Registry) -> str:
    return (
        f'[[registry]]\nprefix="a.io/team"\nlocation="{registry.address}/a"\ninsecure=true\n'
        f'[[registry.mirror]]\nlocation="{mirror.address}/copy"\ninsecure=true\n'
    )


def test_a_mirror_is_read_and_the_registry_is_not_asked(
    registry: Registry, mirror: Registry, conf: Path
) -> None:
    conf.write_text(mirrored(registry, mirror))
    image = open_image("a.io/team/b:latest")
    assert image.digest == SAMPLE.digest
    assert image.layers[0].toc.n_bytes > 0
    assert image.name == "a.io/team/b:latest"
    assert image.read_from == image.origin == f"{mirror.address}/copy/b:latest"
    assert mirror.paths()[0] == "/v2/copy/b/manifests/latest"
    assert registry.requests == []


def test_a_mirror_that_fails_is_skipped_without_a_wait(
    registry: Registry, mirror: Registry, conf: Path, time: FakeTime
) -> None:
    conf.write_text(mirrored(registry, mirror))
    for reply in (Reply(404), Reply(503), Reply(401), Reply(200, body=b"<html>"), Reply(200)):
        mirror.rules = [only("all", reply)]
        image = open_image("a.io/team/b:latest", retry=time.policy())
        assert image.read_from == f"{registry.address}/a/b:latest"
    assert time.waits == []


def test_where_all_fail_all_are_named_and_the_last_one_counts(
    registry: Registry, mirror: Registry, conf: Path, time: FakeTime
) -> None:
    conf.write_text(mirrored(registry, mirror))
    mirror.rules = [only("all", Reply(503))]
    registry.rules = [NOT_FOUND]
    with pytest.raises(ImageNotFoundError) as caught:
        open_image("a.io/team/b:latest", retry=time.policy())
    message = str(caught.value)
    assert message.startswith(f"{registry.address}/a/b:latest: not found in the registry")
    assert f"; before that: {mirror.address}: the server failed, status 503" in message


def test_a_login_goes_to_its_own_host_only(
    registry: Registry, mirror: Registry, conf: Path, tmp_path: Path
) -> None:
    conf.write_text(mirrored(registry, mirror))
    mirror.rules = [only("manifest", Reply(401, {"WWW-Authenticate": "Basic"}))]
    registry.rules = [require_basic]
    auths = {}
    for host, user in (
        (mirror.address, "of-mirror"),
        (registry.address, "user"),
        ("a.io", "named"),
    ):
        auths[host] = {"auth": base64.b64encode(f"{user}:{SECRET}".encode()).decode()}
    (tmp_path / "auth").write_text(json.dumps({"auths": auths}))
    open_image("a.io/team/b:latest", auth_file=tmp_path / "auth")
    for server, user in ((mirror, "of-mirror"), (registry, "user")):
        sent = {each.headers.get("authorization") for each in server.requests} - {None}
        assert sent == {f"Basic {base64.b64encode(f'{user}:{SECRET}'.encode()).decode()}"}


def test_a_given_login_is_not_sent_to_a_mirror(
    registry: Registry, mirror: Registry, conf: Path
) -> None:
    text = mirrored(registry, mirror).replace("a.io/team", f"{registry.address}/a")
    conf.write_text(text)
    mirror.rules = [only("manifest", Reply(401, {"WWW-Authenticate": "Basic"}))]
    registry.rules = [require_basic]
    image = open_image(f"{registry.address}/a/b:latest", credentials=("user", SECRET))
    assert image.read_from == f"{registry.address}/a/b:latest"
    assert not any("authorization" in each.headers for each in mirror.requests)
    registry.requests.clear()
    conf.write_text(mirrored(registry, mirror))  # the name's own host is never asked
    with pytest.raises(RegistryError, match="needs a login"):
        open_image("a.io/team/b:latest", credentials=("user", SECRET))
    assert not any("authorization" in each.headers for each in registry.requests)


def test_a_wrong_login_that_was_given_is_named(registry: Registry) -> None:
    registry.rules = [require_basic]
    with pytest.raises(RegistryError, match="the login of user 'user' from credentials") as e:
        open_image(registry.reference, tls_verify=False, credentials=("user", "mistyped"))
    assert "mistyped" not in str(e.value)


def test_the_first_search_registry_that_has_a_short_name_is_taken(
    registry: Registry, mirror: Registry, conf: Path
) -> None:
    domains = [registry.address, mirror.address]
    tables = "".join(f'[[registry]]\nlocation="{each}"\ninsecure=true\n' for each in domains)
    conf.write_text(f"unqualified-search-registries={domains}\n{tables}")
    registry.rules = [NOT_FOUND]
    image = open_image("b:latest")
    assert image.read_from == image.name == f"{mirror.address}/b:latest"
    with pytest.raises(ImageNameError, match="a login is for one registry; name one of 127"):
        open_image("b:latest", credentials=("user", SECRET))
    conf.write_text(conf.read_text().replace("insecure=true", "blocked=true", 1))
    n_requests = len(registry.requests)
    assert open_image("b:latest").name == f"{mirror.address}/b:latest"
    assert len(registry.requests) == n_requests
    conf.write_text(conf.read_text().replace("insecure=true", "blocked=true"))
    with pytest.raises(RegistryError, match=r"is blocked in .*registries\.conf"):
        open_image("b:latest")


def test_what_the_caller_says_of_tls_comes_before_the_file(
    registry: Registry, conf: Path, time: FakeTime
) -> None:
    table = f'[[registry]]\nlocation="{registry.address}"\ninsecure=true\n'
    conf.write_text(table)
    open_image(registry.reference)
    with pytest.raises(RegistryError, match="TLS failed"):
        open_image(registry.reference, tls_verify=True, retry=time.policy())
    conf.write_text(table.replace("true", "false"))
    with pytest.raises(RegistryError, match="TLS failed"):
        open_image(registry.reference, retry=time.policy())
    open_image(registry.reference, tls_verify=False)


def test_tags_are_listed_by_the_registry_and_read_from_the_mirror(
    registry: Registry, mirror: Registry, conf: Path
) -> None:
    conf.write_text(mirrored(registry, mirror))
    body = json.dumps({"tags": ["1.0", "1.1"]}).encode()
    index = SAMPLE.blobs[SAMPLE.digest]
    for server in (registry, mirror):
        server.rules = [
            lambda request: Reply(body=body) if request.path.endswith("/list") else None,
            lambda request: Reply(body=index) if "/manifests/1." in request.path else None,
        ]
    images = open_series("a.io/team/b", "1.0..1.1")
    assert [image.reference for image in images] == ["a.io/team/b:1.0", "a.io/team/b:1.1"]
    assert {image.read_from.partition("/")[0] for image in images} == {mirror.address}
    assert [each for each in registry.paths() if "tags" not in each] == []
    assert not any("tags" in each for each in mirror.paths())


def test_a_malformed_file_stops_before_any_request(registry: Registry, conf: Path) -> None:
    conf.write_text("x = ")
    with pytest.raises(ConfigError, match=r"registries\.conf: "):
        open_image(registry.reference, tls_verify=False)
    assert registry.requests == []


def test_a_plan_says_where_the_image_was_read(
    registry: Registry,
    mirror: Registry,
    conf: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    conf.write_text(mirrored(registry, mirror) + '[aliases]\nshort="a.io/team/b"\n')
    (tmp_path / "store/overlay-layers").mkdir(parents=True)
    (tmp_path / "store/overlay-images").mkdir()
    words = ["short:latest", "--store", str(tmp_path / "store")]
    place = f"{mirror.address}/copy/b:latest"
    assert main(["plan", *words]) == 0
    assert f"Pull of short:latest\nread from {place}\ninto" in capsys.readouterr().out
    assert main(["plan", "a.io/team/b:latest", *words]) == 0
    assert f"short:latest was read from {place}." in capsys.readouterr().out
    assert main(["plan", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["read_from"] == place
    assert main(["gather", *words]) == 0
    assert f"note: short:latest was read from {place}" in capsys.readouterr().err
