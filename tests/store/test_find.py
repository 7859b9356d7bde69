"""A name refers to the image that Podman would use; every id of a layer refers to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import GOLDEN_SMALL
from tests.stores import copy_store
from vecache.errors import ImageError, ImageNotFoundError, LayerNotFoundError, StoreError
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.find import find_image, find_layer, find_layers
from vecache.store.open import open_store
from vecache.store.records import ImageRecord, LayerRecord

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


A, B, C, D = (letter * 64 for letter in "abcd")
LAYERS = (
    LayerRecord(A, diff_digest=f"sha256:{A}", toc_digest="sha256:" + "1" * 64),
    LayerRecord(B, A, ("top",), f"sha256:{A}", "sha256:" + "2" * 64, "sha256:" + "1" * 64),
    LayerRecord(
        C, B, diff_digest="sha256:" + "3a" * 32, compressed_diff_digest="sha512:" + "4" * 128
    ),
    LayerRecord(f"c0{D[2:]}"),
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (A, [0]),  # its id; the digest of another one's tar is equal
        (A[:12], [0]),
        (f"sha256:{A}", [0]),
        ("top", [1]),
        ("2" * 64, [1]),
        ("sha256:22", [1]),
        ("sha256:" + "1" * 64, [0, 1]),  # one TOC, two layers
        ("11", [0, 1]),
        ("3a3", [2]),
        ("sha512:44", [2]),
        ("cc", [2]),
        ("c0", [3]),
    ],
)
def test_each_form_of_a_name_finds_its_layers(name: str, wanted: list[int]) -> None:
    assert find_layers(LAYERS, name) == [LAYERS[n] for n in wanted]


def test_what_could_be_several_layers_is_an_error_that_lists_them() -> None:
    with pytest.raises(StoreError, match=rf"matches 2 layers \({C[:16]}, c0dd"):
        find_layers(LAYERS, "c")
    with pytest.raises(StoreError, match=r"the digest of 2 layers .*use the id of one"):
        find_layer(LAYERS, "1" * 64)
    many = [LayerRecord(f"ab{n}") for n in range(9)]
    with pytest.raises(StoreError, match=r"matches 9 layers \(ab0, ab1, ab2, ab3, ab4, …\)"):
        find_layers(many, "ab")


def test_an_unknown_layer_is_an_error_that_says_what_there_is() -> None:
    for name in ("", "sha256:", "nowhere", "sha256:top", "f" * 64, "x" * 10_000, "\x1b[2J"):
        with pytest.raises(LayerNotFoundError, match="none of the store's 4 layers") as caught:
            find_layers(LAYERS, name)
        assert str(caught.value).endswith("; `vecache layers` lists them")
        assert len(str(caught.value)) < 300
        assert "\x1b" not in str(caught.value)
    with pytest.raises(LayerNotFoundError, match=f"; similar: {A[:12]}$"):
        find_layers(LAYERS, A[:11] + "0")


@pytest.mark.parametrize("store_name", ["dir", "flat"])
def test_what_any_verb_shows_names_the_same_layer(store_name: str) -> None:
    store = open_store(GOLDEN_SMALL / "stores" / store_name)
    plan = plan_image(open_image("containers-storage:app2", store=store), LayersCache())
    app2 = [layer.id for layer in store.image_layers(store.find_image("app2"))]
    for layer_id, layer in zip(app2, plan.layers, strict=True):
        record = store.find_layers([layer_id])[0]
        for digest in (layer.blob, layer.layer.diff_id, record.toc_digest or "", layer_id):
            bare = digest.removeprefix("sha256:")
            for name in (digest, bare, bare[:12]):
                assert store.find_layers([name]) == (record,)
                assert LayersCache.load(store, present=[name]).records == (record,)
    for name in ("app2", "localhost:5001/small/app2:latest"):
        present = LayersCache.load(store, present=[name]).records
        assert {each.id for each in present} == set(app2)


def test_damaged_manifests_name_no_blob(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    store = open_store(root)
    blob = open_image("containers-storage:base", store=store).layers[0].blob
    assert store.find_layers([blob])[0].id == store.layers()[0].id
    for damage in (b"{", b"[]", b'{"layers": 1}', b'{"layers": [1]}', b'{"layers": []}', b"{}"):
        for path in (root / "overlay-images").rglob("*"):
            if path.parent.parent.name == "overlay-images":
                path.write_bytes(damage)
        with pytest.raises(LayerNotFoundError):
            store.find_layers([blob])
