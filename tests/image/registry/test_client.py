"""Protects: whatever a registry answers, the outcome is the image or one clear error.

The server is real HTTP on loopback; no test reaches further. Waiting is done on a fake clock.
"""

from __future__ import annotations

import pytest

from tests.image.registry.cases import (
    CONFIG,
    LAYERS,
    SAMPLE,
    only,
    read_all,
)
from tests.image.registry.clock import FakeTime
from tests.image.registry.server import Registry, Reply, Request, once, serve
from tests.image.samples import (
    digest_of,
    make_index,
)
from vecache.errors import (
    DigestError,
    ImageError,
    ImageNotFoundError,
    RegistryError,
    TocError,
    VecacheError,
)
from vecache.image.open import open_image
from vecache.image.registry import client


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
    assert registry.n_connections == 2  # the try with TLS, and one reused by all requests
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


WRONG_RANGE = "bytes 0-9/1000"
TWO_PARTS = {"Content-Type": "multipart/byteranges; boundary=x"}


@pytest.mark.parametrize(
    ("kind", "reply", "error", "message"),
    [
        ("manifest", Reply(404), ImageNotFoundError, "not found in the registry"),
        (
            "manifest",
            Reply(404, body=b'{"errors":[{"code":"NAME_UNKNOWN","message":"\\u001b[2J"}]}'),
            ImageNotFoundError,
            r"not found in the registry \(NAME_UNKNOWN\)",
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
        ("config", Reply(body=b"{}"), DigestError, "with the digest"),
        ("config", Reply(404), ImageNotFoundError, "not found in the registry"),
        ("range", Reply(404), ImageNotFoundError, "not found in the registry"),
        ("range", Reply(416), RegistryError, "the copy there is damaged"),
        ("range", Reply(206, body=b"x"), RegistryError, "the response has 'nothing'"),
        ("range", Reply(206, TWO_PARTS, b"x"), RegistryError, "the response has 'nothing'"),
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
            r"the response has 'bytes \*/5'",
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
def test_a_busy_server_is_retried(registry: Registry, time: FakeTime, status: int) -> None:
    registry.rules = [once(only("all", Reply(status, {"Retry-After": "7"})), times=2)]
    read_all(registry, time)
    assert time.waits == [7.0, 7.0]


@pytest.mark.parametrize("kind", ["manifest", "config", "range"])
def test_retries_of_a_busy_server_end(registry: Registry, time: FakeTime, kind: str) -> None:
    registry.rules = [only(kind, Reply(503))]
    with pytest.raises(RegistryError, match="status 503; tried 4 times"):
        read_all(registry, time)
    assert time.waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("kind", ["manifest", "config", "range"])
def test_a_truncated_body_is_retried(registry: Registry, time: FakeTime, kind: str) -> None:
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


def test_a_short_range_is_retried(registry: Registry, time: FakeTime) -> None:
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


def test_a_range_need_not_name_the_size_of_the_blob(registry: Registry, time: FakeTime) -> None:
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
def test_the_whole_blob_is_requested_where_ranges_are_refused(
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
    monkeypatch.setattr(client, "MAX_WHOLE_BYTES", 50)

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
    with pytest.raises(TocError, match="with the digest"):
        read_all(registry, time)


def test_a_manifest_requested_by_digest_is_hashed(registry: Registry, time: FakeTime) -> None:
    lying = {"Docker-Content-Digest": SAMPLE.digest}
    registry.rules = [only("manifest", Reply(headers=lying, body=SAMPLE.manifest + b" "))]
    with pytest.raises(DigestError):
        open_image(
            f"docker://{registry.address}/a/b@{SAMPLE.digest}",
            tls_verify=False,
            retry=time.policy(),
        )


def test_a_slow_body_ends_with_the_deadline(registry: Registry) -> None:
    time = FakeTime(step=1.0)  # each look at the clock takes a second
    registry.rules = [only("manifest", Reply(body=b"x", endless=True))]
    with pytest.raises(RegistryError, match="took too long"):
        read_all(registry, time, retry=time.policy(total_seconds=50.0))


def test_a_silent_server_is_a_clear_error(registry: Registry) -> None:
    # The time-outs of a socket are real, so this is the one test that waits, a tenth of a second.
    time = FakeTime()
    registry.rules = [only("manifest", Reply(seconds_before=1.0))]
    with pytest.raises(RegistryError, match="no answer in time"):
        read_all(registry, time, retry=time.policy(total_seconds=0.1))


def test_a_refused_connection_is_a_clear_error(time: FakeTime) -> None:
    with serve(Registry(SAMPLE)) as gone:
        pass
    with pytest.raises(RegistryError, match="cannot connect: connection refused; tried 4 times"):
        read_all(gone, time)


@pytest.mark.parametrize("tls_verify", [True, False])
@pytest.mark.parametrize(
    ("host", "message"),
    [("a" * 70 + ".test", "not a valid host name"), ("127.0.0.1:99999", "not a valid http or")],
)
def test_an_invalid_host_is_a_clear_error(
    time: FakeTime, host: str, message: str, *, tls_verify: bool
) -> None:
    with pytest.raises(RegistryError, match=message):
        open_image(f"docker://{host}/x", retry=time.policy(), tls_verify=tls_verify)


def test_a_whole_blob_that_is_too_short_is_a_clear_error(
    registry: Registry, time: FakeTime
) -> None:
    chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    registry.rules = [only("range", Reply(headers=chunked, body=b"2\r\nab\r\n0\r\n\r\n"))]
    with pytest.raises(RegistryError, match="0 bytes, wanted"):
        read_all(registry, time)
