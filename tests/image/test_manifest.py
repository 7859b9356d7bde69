"""Protects: manifests of all four kinds are read, and each wrong field is named in the error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.image.samples import descriptor, digest_of, make_image, zstd_layer
from vecache.errors import ImageError, ImageNotFoundError, VecacheError
from vecache.image.manifest import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    OCI_IMAGE,
    OCI_INDEX,
    Descriptor,
    ImageManifest,
    Platform,
    choose_image,
    machine_platform,
    parse_config,
    parse_manifest,
    parse_platform,
    require_platform,
)

ENTRY = descriptor(b"x", OCI_IMAGE)


def image_document() -> dict[str, Any]:
    document = json.loads(make_image([zstd_layer()]).manifest)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("kind", [OCI_IMAGE, DOCKER_IMAGE])
def test_oci_and_docker_images_are_parsed(kind: str) -> None:
    layer = zstd_layer()
    manifest = parse_manifest(make_image([layer], media_type=kind).manifest, "", "m")
    assert isinstance(manifest, ImageManifest)
    assert manifest.layers[0].digest == digest_of(layer.blob)
    assert manifest.layers[0].n_bytes == len(layer.blob)
    # Upstream has no annotations in Docker's format, so there is no TOC here either.
    assert manifest.layers[0].annotations == (layer.annotations if kind == OCI_IMAGE else {})


def test_the_fields_say_what_a_manifest_without_a_media_type_is() -> None:
    for kind in ("", "application/octet-stream"):
        image = make_image([], mediaType="").manifest
        assert isinstance(parse_manifest(image, kind, "m"), ImageManifest)
        assert parse_manifest(b'{"manifests": []}', kind, "m") == ()


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
@pytest.mark.parametrize("is_inside", [True, False], ids=["in the document", "from the carrier"])
def test_oci_and_docker_lists_are_parsed(kind: str, is_inside: bool) -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"}
    document: dict[str, Any] = {"schemaVersion": 2, "manifests": [{**ENTRY, "platform": platform}]}
    if is_inside:
        document["mediaType"] = kind
    manifest = parse_manifest(json.dumps(document).encode(), "" if is_inside else kind, "m")
    assert isinstance(manifest, tuple)
    assert manifest[0].platform == Platform("linux", "arm64", "v8")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schemaVersion"], 1, "schemaVersion is 1"),
        (["schemaVersion"], "2", "schemaVersion: found a string, wanted an integer"),
        (["mediaType"], 5, "mediaType: found an integer"),
        (["config"], None, "config is missing|not an image"),
        (["config"], [], "config: found an array, wanted an object"),
        (["config", "digest"], "sha256:AB", "config: digest"),
        (["config", "digest"], None, "config: digest is missing"),
        (["config", "size"], -1, "config: size: found -1"),
        (["config", "size"], 2**63, "size: found 9223372036854775808"),
        (["config", "size"], True, "config: size: found a boolean"),
        (["config", "size"], 1.0, "config: size: found a number"),
        (["layers"], {}, "layers: found an object, wanted an array"),
        (["layers", 0], "x", r"layers\[0\]: found a string"),
        (["layers", 0, "digest"], "../../etc/passwd", r"layers\[0\]: digest"),
        (["layers", 0, "size"], "5", r"layers\[0\]: size: found a string"),
        (["layers", 0, "annotations"], [], r"layers\[0\]: annotations: found an array"),
        (["layers", 0, "annotations", "a"], 5, "annotations: a: found an integer"),
    ],
)
def test_each_wrong_field_is_named(path: list[str | int], value: Any, message: str) -> None:
    document: Any = image_document()
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(VecacheError, match=message) as caught:
        parse_manifest(json.dumps(document).encode(), OCI_IMAGE, "the manifest")
    assert "the manifest" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON at line 1, column 2"),
        (b"\xff{}", "not JSON"),
        (b"[]", "found an array, wanted an object"),
        (b"null", "found null, wanted an object"),
        (b"1" * 5000, "not JSON|number"),
        (b'{"a":' * 100_000, "nested too deeply|not JSON"),
        (b"{}", "not an image"),
        (b'{"schemaVersion": 2, "manifests": [{}]}', r"manifests\[0\]: digest is missing"),
        (b'{"schemaVersion": 1, "name": "a", "fsLayers": []}', "such old images"),
    ],
)
def test_anything_else_is_an_image_error(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse_manifest(data, "", "the manifest")


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0123esd', max_size=60).map(str.encode))
def test_any_bytes_raise_only_vecache_errors(data: bytes) -> None:
    with pytest.raises(VecacheError):
        parse_manifest(data, OCI_IMAGE, "m")
    with pytest.raises(VecacheError):
        parse_config(data, 1, "c")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "rootfs is missing"),
        ({"rootfs": {}}, "0 diff_ids, but the manifest has 2"),
        ({"rootfs": {"diff_ids": [digest_of(b"")]}}, "1 diff_ids, but the manifest has 2"),
        ({"rootfs": {"diff_ids": [digest_of(b""), 5]}}, r"diff_ids\[1\]: found an integer"),
        ({"rootfs": {"diff_ids": [digest_of(b""), "x"]}}, r"diff_ids\[1\]: 'x' is not a digest"),
    ],
)
def test_a_config_must_match_the_manifest(config: dict[str, Any], message: str) -> None:
    with pytest.raises(VecacheError, match=message):
        parse_config(json.dumps(config).encode(), 2, "c")


def choice(platform: str | None, mark: str = "", name: str = "") -> Descriptor:
    annotations = {"io.github.containers.compression.zstd": mark} if mark else {}
    parsed = parse_platform(platform) if platform else None
    return Descriptor(name or digest_of(f"{platform}{mark}".encode()), 1, "", annotations, parsed)


@pytest.mark.parametrize(
    ("wanted", "choices", "best"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/amd64", [None, "linux/amd64"], 1),
        ("linux/amd64", [None, "linux/arm64"], 0),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64", ["linux/arm64/v8", "linux/arm64"], 1),
        ("linux/arm/v7", ["linux/arm/v8", "linux/arm/v5", "linux/arm/v6"], 2),
        ("linux/arm/v7", ["linux/arm"], 0),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v8"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], 0),
    ],
)
def test_the_best_platform_wins(wanted: str, choices: list[str | None], best: int) -> None:
    offered = [choice(each, name=digest_of(bytes([i]))) for i, each in enumerate(choices)]
    assert choose_image(offered, parse_platform(wanted), "list") == offered[best]


def test_of_two_for_one_platform_zstd_wins_only_if_marked_true() -> None:
    gzip, zstd = choice("linux/amd64"), choice("linux/amd64", "true")
    false = choice("linux/amd64", "false")
    wanted = Platform("linux", "amd64")
    assert choose_image([gzip, zstd], wanted, "list") is zstd
    assert choose_image([zstd, gzip], wanted, "list") is zstd
    assert choose_image([gzip, false], wanted, "list") is gzip
    # A better platform is worth more than a better compression.
    assert (
        choose_image(
            [choice("linux/arm64/v8", "true"), choice("linux/arm64")],
            Platform("linux", "arm64"),
            "list",
        ).annotations
        == {}
    )


def test_an_error_lists_the_platforms_that_the_list_has() -> None:
    with pytest.raises(ImageNotFoundError, match="linux/s390x; wanted one of 'linux/amd64'"):
        choose_image([choice("linux/amd64")], Platform("linux", "s390x"), "list")
    with pytest.raises(ImageNotFoundError):
        choose_image([], machine_platform(), "list")


@pytest.mark.parametrize("text", ["", "linux", "linux/", "a/b/c/d", "linux//v8"])
def test_a_malformed_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted OS/ARCHITECTURE"):
        parse_platform(text)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64"),
        ({"os": "linux", "architecture": "amd64", "variant": "v2"}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v6"}, "linux/arm/v7"),
        ({"os": "linux", "architecture": "arm64"}, "linux/arm64/v8"),
    ],
)
def test_a_config_may_name_any_platform_that_runs_there(
    config: dict[str, str], wanted: str
) -> None:
    require_platform(json.dumps(config).encode(), parse_platform(wanted), "config")


@pytest.mark.parametrize(
    ("config", "wanted", "message"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/arm64", "for linux/amd64 only, wanted"),
        ({"os": "windows", "architecture": "amd64"}, "linux/amd64", "for windows/amd64 only"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v6", "arm/v7 only"),
        ({}, "linux/amd64", "for no platform that it names, wanted linux/amd64"),
    ],
)
def test_an_image_for_another_platform_is_refused(
    config: dict[str, str], wanted: str, message: str
) -> None:
    with pytest.raises(ImageNotFoundError, match=message):
        require_platform(json.dumps(config).encode(), parse_platform(wanted), "config")
