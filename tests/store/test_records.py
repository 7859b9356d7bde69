"""Records are read as Podman reads them, and a broken list never passes for a short one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, STORES
from vecache.errors import StoreError
from vecache.store.open import open_store
from vecache.store.records import parse_images, parse_layers

if TYPE_CHECKING:
    from tests.store.conftest import MakeStore
    from vecache.store.records import ImageRecord, LayerRecord

LIST = Path("/store/overlay-layers/layers.json")
ID = "a" * 64


def layers_of(text: str) -> list[LayerRecord]:
    root = Path("/store")
    return list(parse_layers(text, LIST, store_root=root, files_root=root, is_read_only=False))


def images_of(text: str) -> list[ImageRecord]:
    return list(parse_images(text, LIST, store_root=Path("/store"), is_read_only=False))


@pytest.mark.parametrize("name", STORES)
def test_golden_layers_field_by_field(name: str) -> None:
    root = GOLDEN_SMALL / "stores" / name
    records = json.loads((root / "overlay-layers" / "layers.json").read_text())
    layers = open_store(root).layers()
    assert len(layers) == len(records) == 5
    for layer, record in zip(layers, records, strict=True):
        assert layer.id == record["id"]
        assert layer.parent == record.get("parent")
        assert layer.names == tuple(record.get("names", ()))
        assert layer.diff_digest == record.get("diff-digest")
        assert layer.compressed_diff_digest == record.get("compressed-diff-digest")
        assert layer.toc_digest == record.get("toc-digest")
        assert layer.diff_size == record.get("diff-size", -1)
        assert layer.big_data_names == tuple(record["big-data-names"])
        expected = record.get("flags", {}).get("expected-layer-diffid")
        assert layer.expected_diff_digest == expected
        assert layer.target == root / "overlay" / layer.id / "diff"
        assert (layer.store_root, layer.is_read_only) == (root, False)


@pytest.mark.parametrize("name", STORES)
def test_golden_images_field_by_field(name: str) -> None:
    root = GOLDEN_SMALL / "stores" / name
    records = json.loads((root / "overlay-images" / "images.json").read_text())
    images = open_store(root).images()
    assert len(images) == len(records) == 5
    for image, record in zip(images, records, strict=True):
        assert image.id == record["id"]
        assert image.digest == record["digest"]
        assert image.names == tuple(record["names"])
        assert image.top_layer == record["layer"]
        assert image.big_data_names == tuple(record["big-data-names"])
        assert image.manifest_digest == record["big-data-digests"]["manifest"]


@pytest.mark.parametrize("text", ["", "null", "[]", " [ ] \n"])
def test_an_empty_list_is_no_error(text: str) -> None:
    assert layers_of(text) == []
    assert images_of(text) == []


def test_missing_null_and_unknown_fields() -> None:
    text = f'[{{"id":"{ID}","parent":null,"names":null,"flags":null,"new":{{"x":1e400}}}}]'
    (layer,) = layers_of(text)
    assert (layer.parent, layer.names, layer.diff_size, layer.toc_digest) == (None, (), -1, None)
    (image,) = images_of(text)
    assert (image.top_layer, image.digest, image.names) == (None, None, ())


@pytest.mark.parametrize(
    ("flags", "n_read"),
    [({"incomplete": True}, 0), ({"incomplete": False}, 1), ({"incomplete": "true"}, 1), ({}, 1)],
)
def test_only_incomplete_layers_are_skipped(flags: dict[str, Any], n_read: int) -> None:
    assert len(layers_of(json.dumps([{"id": ID, "flags": flags}]))) == n_read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "line 1, column 3: .*; Podman cannot read this list either"),
        ('[\n{"id": "a"} {}]', "line 2, column 13"),
        ("{}", "found an object, wanted an array"),
        ("3", "found an integer, wanted an array"),
        ("[null]", "layer 0: found null"),
        (f'[{{"id":"{ID}"}}, []]', "layer 1: found an array"),
        ("[NaN]", "NaN"),
        ("[" * 100_000, "nested too deeply"),
        (f"[{'9' * 5000}]", "limit"),
        ("[{}]", "layer 0: id"),
        ('[{"id":7}]', "id: found an integer, wanted a string"),
        (f'[{{"id":"{ID}"}},{{"id":"{ID}","diff-size":"7"}}]', "layer 1: diff-size: found a str"),
        (f'[{{"id":"{ID}","diff-size":true}}]', "found a boolean"),
        (f'[{{"id":"{ID}","diff-size":1.5}}]', "found a number, wanted an integer"),
        (f'[{{"id":"{ID}","names":"x"}}]', "names: found a string"),
        (f'[{{"id":"{ID}","big-data-names":["x",1]}}]', r"big-data-names\[1\]: found an integer"),
        (f'[{{"id":"{ID}","flags":[]}}]', "flags: found an array"),
        (f'[{{"id":"{ID}","parent":1}}]', "parent: found an integer"),
    ],
)
def test_a_broken_list_is_an_error_that_says_where(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        layers_of(text)
    assert str(caught.value).startswith(f"{LIST}: ")


def test_a_diff_size_that_go_cannot_read_is_refused() -> None:
    for size in (2**63 - 1, -(2**63)):
        (layer,) = layers_of(f'[{{"id":"{ID}","diff-size":{size}}}]')
        assert layer.diff_size == size
    for size in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(StoreError, match=f"diff-size: found {size}, wanted an integer of 64"):
            layers_of(f'[{{"id":"{ID}","diff-size":{size}}}]')


@pytest.mark.parametrize(
    "bad", ["", "..", ".hidden", "../../etc", "a/b", "/etc", "a\0b", "a\n", "ä", "a" * 256]
)
def test_an_id_that_could_leave_its_folder_is_refused(bad: str) -> None:
    text = json.dumps([{"id": bad}])
    for read in (layers_of, images_of):
        with pytest.raises(StoreError, match="wanted the id of a record"):
            read(text)


@given(
    text=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "parent", "names", "flags", "diff-size", "incomplete", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(json.dumps)
    | st.text(max_size=40)
)
def test_any_text_is_a_list_or_a_store_error(text: str) -> None:
    for read in (layers_of, images_of):
        with contextlib.suppress(StoreError):
            assert all("/" not in record.id for record in read(text))


def test_a_list_that_is_not_utf_8_or_too_large_is_refused(make_store: MakeStore) -> None:
    root = make_store([])
    lists = root / "overlay-layers" / "layers.json"
    lists.write_bytes(b'[{"id": "\xff"}]')
    with pytest.raises(StoreError, match="not UTF-8 at byte 9"):
        open_store(root).layers()
    with lists.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StoreError, match="more than the"):
        open_store(root).layers()
