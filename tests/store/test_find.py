"""A name refers to the image that Podman would use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import GOLDEN_SMALL
from vecache.errors import ImageError, ImageNotFoundError
from vecache.store.find import find_image
from vecache.store.graphroot import open_store
from vecache.store.records import ImageRecord

DIGEST = "sha256:" + "d" * 64


def image(id_: str, *names: str, digest: str | None = None, also: str = "") -> ImageRecord:
    keys = (f"manifest-{also}",) if also else ()
    return ImageRecord(id_, digest, names, None, keys, Path("/s"), is_read_only=False)


IMAGES = (
    image("a1" * 32, "docker.io/library/debian:latest", "docker.io/library/debian:12"),
    image("a2" * 32, "localhost/debian:latest"),
    image("b1" * 32, "localhost:5001/small/base:latest"),
    image("b2" * 32, "quay.io/small/base:v1", digest=DIGEST, also="sha256:" + "e" * 64),
    image("c1" * 32, "registry.example/x/tool:latest"),
    image("c2" * 32, "other.example/y/tool:latest"),
    image("d1" * 32, "docker.io/ann/app:latest"),
    image("d2" * 32, "docker.io/library/abc:latest"),
    image("abc" + "0" * 61),
    image("f1" * 32, f"quay.io/pinned/one@{DIGEST}", digest=DIGEST),
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("docker.io/library/debian:latest", "a1"),
        ("docker.io/library/debian", "a1"),
        ("docker.io/debian", "a1"),
        ("index.docker.io/debian", "a1"),
        ("debian", "a2"),  # localhost comes first
        ("debian:12", "a1"),
        ("localhost:5001/small/base", "b1"),
        ("small/base", "b1"),
        ("base", "b1"),
        ("base:v1", "b2"),
        ("small/base:v1", "b2"),
        (f"base@{DIGEST}", "b2"),
        (f"quay.io/small/base:any@{DIGEST}", "b2"),
        ("quay.io/small/base@sha256:" + "e" * 64, "b2"),
        ("y/tool", "c2"),
        ("ann/app", "d1"),
        ("abc", "d2"),  # a short name comes before the beginning of an id
        ("abc0", "ab"),
        ("a1a1", "a1"),
        ("sha256:a1a1", "a1"),
        ("b1" * 32, "b1"),
        ("sha256:" + "b1" * 32, "b1"),
        (DIGEST, "b2"),
        (f"pinned/one@{DIGEST}", "f1"),
    ],
)
def test_each_form_of_a_name_finds_its_image(name: str, wanted: str) -> None:
    assert find_image(IMAGES, name).id[:2] == wanted


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "@", "/", "a1", "bas", "mall/base", "base:v2", "quay.io/base:v1"),
        *("localhost/base", f"debian@{DIGEST}", "f" * 64, "one", "example/tool"),
    ],
)
def test_a_name_without_an_image_is_an_error(name: str) -> None:
    with pytest.raises(ImageNotFoundError, match="not in the store"):
        find_image(IMAGES, name)


@pytest.mark.parametrize("name", ["tool", "tool:latest"])
def test_a_name_of_several_images_is_an_error_that_lists_them(name: str) -> None:
    with pytest.raises(
        ImageError, match=r"matches 2 images \(registry.example/x/tool:latest, other"
    ):
        find_image(IMAGES, name)


def test_the_beginning_of_an_id_must_match_one_image() -> None:
    with pytest.raises(ImageError, match="matches 2 images"):
        find_image([image("abcd1"), image("abcd2")], "abcd")


def test_similar_names_are_suggested() -> None:
    with pytest.raises(ImageNotFoundError, match=r"similar names: .*docker\.io/library/debian:"):
        find_image(IMAGES, "debain")
    with pytest.raises(ImageNotFoundError, match="podman images lists them"):
        find_image(IMAGES, "zzzzzzzz")
    with pytest.raises(ImageNotFoundError, match="has no images"):
        find_image((), "base")


def test_all_forms_of_the_golden_names_find_their_image() -> None:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    for each in store.images():
        (full,) = each.names
        path = full.removeprefix("localhost:5001/")
        short = path.removeprefix("small/")
        for name in (full, path, short, short.removesuffix(":latest"), each.id, each.id[:3]):
            assert store.find_image(name) == each
