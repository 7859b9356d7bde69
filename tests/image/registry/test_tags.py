"""Protects the list of tags of a registry: all pages are read, and no list is without an end."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.image.registry.cases import connect, require_basic, write_login
from tests.image.registry.clock import FakeTime
from tests.image.registry.server import Registry, Reply, Request, once
from tests.image.samples import TOC
from vecache.errors import ImageNotFoundError, RegistryError, VecacheError
from vecache.image.ahead import MAX_FETCHES
from vecache.image.registry import tags
from vecache.image.registry.tags import list_tags
from vecache.image.series import open_series

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.registry.server import Rule

ALL = [f"1.{number}" for number in range(25)]


def listed(registry: Registry, time: FakeTime, **options: Any) -> tuple[str, ...]:
    options.setdefault("retry", time.policy())
    image = connect(f"{registry.address}/a/b", **options)
    return list_tags(image.session, image.image.repository)


def page(tags_of_page: Any, link: str = "", **more: Any) -> Reply:
    body = json.dumps({"name": "a/b", "tags": tags_of_page, **more}).encode()
    return Reply(headers={"Content-Type": "application/json", "Link": link}, body=body)


def paginate(link: str, size: int = 10) -> Rule:
    """Answer as the distribution registry does; `link` has the form of its header."""

    def rule(request: Request) -> Reply | None:
        url = urlsplit(request.path)
        if not url.path.endswith("/tags/list"):
            return None
        last = parse_qs(url.query).get("last", [""])[0]
        start = ALL.index(last) + 1 if last else 0
        found = ALL[start : start + size]
        is_end = start + size >= len(ALL)
        return page(found, "" if is_end else link.format(last=found[-1]))

    return rule


@pytest.mark.parametrize(
    "link",
    [
        '</v2/a/b/tags/list?last={last}&n=10>; rel="next"',
        "</v2/a/b/tags/list?last={last}>; rel=next",
        "</v2/a/b/tags/list?last={last}>",
        '<list?last={last}>; title="x"; REL="Next"',
        '<https://elsewhere.test/v2/a/b/tags/list?last={last}>; rel="next"',
        '</v2/x>; rel="prev", </v2/a/b/tags/list?last={last}>; rel="next"',
    ],
)
def test_all_pages_are_read_from_the_same_host(
    registry: Registry, time: FakeTime, link: str
) -> None:
    registry.rules = [paginate(link)]
    assert listed(registry, time) == tuple(ALL)
    assert len(registry.paths()) == 3
    assert all(path.startswith("/v2/a/b/tags/list") for path in registry.paths())


def test_a_list_without_pages_is_one_request(registry: Registry, time: FakeTime) -> None:
    registry.rules = [paginate("", size=100)]
    assert listed(registry, time) == tuple(ALL)
    assert registry.paths() == ["/v2/a/b/tags/list"]


@pytest.mark.parametrize("found", [None, []])
def test_a_repository_may_have_no_tags(registry: Registry, time: FakeTime, found: Any) -> None:
    registry.rules = [lambda _: page(found)]
    assert listed(registry, time) == ()


def test_what_is_not_a_tag_is_left_out(registry: Registry, time: FakeTime) -> None:
    wrong: list[object] = [
        None,
        "",
        5,
        {},
        ["a"],
        "a b",
        "../x",
        "\x1b[2J",
        "x" * 129,
        "-a",
        "é",
        "a\n",
    ]
    registry.rules = [lambda _: page(["b", *wrong, "a", "b", "_x.1-2"])]
    assert listed(registry, time) == ("b", "a", "_x.1-2")


def test_the_list_needs_the_login_of_the_repository(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    registry.rules = [require_basic, paginate("<list?last={last}>")]
    with pytest.raises(RegistryError, match="needs a login"):
        listed(registry, time)
    path = write_login(tmp_path / "auth.json", registry)
    assert listed(registry, time, auth_file=path) == tuple(ALL)


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (Reply(404, body=b'{"errors":[{"code":"NAME_UNKNOWN"}]}'), ImageNotFoundError, "UNKNOWN"),
        (Reply(403), RegistryError, "not allowed, status 403"),
        (Reply(200), RegistryError, "an empty answer"),
        (Reply(body=b"[]"), RegistryError, "found an array, wanted an object"),
        (Reply(body=b"[" * 10_000), RegistryError, "nested too deeply|not JSON"),
        (Reply(body=b"x" * 65536, endless=True), RegistryError, "more than 4,194,304 bytes"),
        (page("1.0"), RegistryError, "found a string, wanted an array"),
        (page([], "<http://[>"), RegistryError, "wanted a path below /v2/"),
        (page([], "</other>"), RegistryError, "wanted a path below /v2/"),
        (page([], "</v2/a b>"), RegistryError, "wanted a path below /v2/"),
        (page([], "<" + "x" * 5_000 + ">"), RegistryError, "wanted a path below /v2/"),
        (page([], "<list>"), RegistryError, "the same page again and again"),
    ],
)
def test_wrong_answers_are_clear_errors(
    registry: Registry, time: FakeTime, reply: Reply, error: type[VecacheError], message: str
) -> None:
    registry.rules = [lambda request: reply if "/tags/" in request.path else None]
    with pytest.raises(error, match=message) as caught:
        listed(registry, time)
    assert "/a/b: list of tags" in str(caught.value) or "empty answer" in message


def test_a_busy_server_is_retried(registry: Registry, time: FakeTime) -> None:
    busy = once(lambda _: Reply(429, {"Retry-After": "7"}), times=2)
    registry.rules = [busy, paginate("<list?last={last}>")]
    assert listed(registry, time) == tuple(ALL)
    assert time.waits == [7.0, 7.0]


def endless(registry: Registry, size: int) -> Rule:
    def rule(request: Request) -> Reply | None:
        number = len(registry.requests)
        return page([f"{number}.{each}" for each in range(size)], f"<list?last={number}>")

    return rule


@pytest.mark.parametrize(("size", "n_requests"), [(5, 5), (0, 11)])
def test_an_endless_list_ends(
    registry: Registry,
    time: FakeTime,
    size: int,
    n_requests: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tags, "MAX_TAGS", 20)
    monkeypatch.setattr(tags, "MAX_PAGES", 10)
    registry.rules = [endless(registry, size)]
    with pytest.raises(RegistryError, match="more than 20 tags or 10 pages; name the tags instead"):
        listed(registry, time)
    assert len(registry.paths()) == n_requests


def test_a_slow_list_ends_with_the_deadline(registry: Registry) -> None:
    time = FakeTime(step=1.0)  # each look at the clock takes a second
    registry.rules = [endless(registry, 1)]
    with pytest.raises(RegistryError, match="took too long"):
        listed(registry, time, retry=time.policy(total_seconds=100.0))
    assert len(registry.requests) < 100


def serve_tags(registry: Registry) -> Rule:
    """Answer for every tag with the registry's one image."""

    def rule(request: Request) -> Reply | None:
        if not request.is_manifest or request.path.rpartition("/")[2] not in ALL:
            return None
        latest = "/v2/a/b/manifests/latest"
        return registry.behave(Request("GET", latest, request.headers, b""))

    return rule


def test_a_series_takes_one_list_and_one_login(
    registry: Registry, time: FakeTime, tmp_path: Path
) -> None:
    registry.rules = [require_basic, paginate("<list?last={last}>"), serve_tags(registry)]
    path = write_login(tmp_path / "auth.json", registry)
    images = open_series(
        f"docker://{registry.address}/a/b",
        "1.8..1.11,latest",
        tls_verify=False,
        auth_file=path,
        retry=time.policy(),
    )
    versions = ["1.8", "1.9", "1.10", "1.11", "latest"]
    assert [image.name for image in images] == [f"{registry.address}/a/b:{v}" for v in versions]
    assert images[1].reference == f"docker://{registry.address}/a/b:1.9"
    manifests = Counter(each.path for each in registry.requests if each.is_manifest)
    assert manifests == {f"/v2/a/b/manifests/{version}": 1 for version in versions}
    assert images[0].layers[0].toc.n_bytes == len(TOC)
    assert registry.n_connections <= 2 + MAX_FETCHES  # the try with TLS, and the refusal
    n_refused = sum("authorization" not in each.headers for each in registry.requests)
    assert n_refused == 1


def test_a_list_of_tags_is_not_looked_up(registry: Registry, time: FakeTime) -> None:
    registry.rules = [serve_tags(registry)]
    reference = f"docker://{registry.address}/a/b"
    images = open_series(reference, "1.9,1.2", tls_verify=False, retry=time.policy())
    assert [image.name[-4:] for image in images] == [":1.9", ":1.2"]
    assert not any("/tags/" in path for path in registry.paths())
    with pytest.raises(ImageNotFoundError, match="a/b:none: not found in the registry"):
        open_series(reference, "1.9,none", tls_verify=False, retry=time.policy())
