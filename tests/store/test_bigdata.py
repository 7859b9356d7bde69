"""Big data is found under the file names that Podman gives it, and only in its folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, STORES
from vecache.errors import StoreError
from vecache.store.bigdata import (
    CACHE_KEY,
    LAYER_DATA_KEY,
    TOC_KEY,
    big_data_file_name,
    layer_layout,
    read_big_data,
)
from vecache.store.open import open_store
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.store.records import ImageRecord, LayerRecord


@pytest.fixture
def layer(golden_copy: Path) -> LayerRecord:
    return open_store(golden_copy).layers()[0]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("manifest", "manifest"),
        ("a.1z", "a.1z"),
        (CACHE_KEY, "=Y2h1bmtlZC1tYW5pZmVzdC1jYWNoZQ=="),
        (TOC_KEY, "=enN0ZC1jaHVua2VkLW1hbmlmZXN0"),
        (LAYER_DATA_KEY, "=enN0ZC1jaHVua2VkLWxheWVyLWRhdGE="),
        ("Manifest", "=TWFuaWZlc3Q="),
        ("é.x", "=w6kueA=="),
        ("toC", "toC"),  # upstream does not count the last character
        ("=", "="),
    ],
)
def test_file_names_are_those_of_upstream(key: str, name: str) -> None:
    assert big_data_file_name(key) == name


@pytest.mark.parametrize("key", ["", ".", "..", "../", "a/", "x\0", "--?"])
def test_a_key_that_cannot_name_a_file_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="big data"):
        big_data_file_name(key)


@given(key=st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_no_key_leaves_the_folder(key: str) -> None:
    try:
        name = big_data_file_name(key)
    except ValueError:
        return
    assert os.path.dirname(name) == ""
    assert name not in ("", ".", "..")


@pytest.mark.parametrize("name", STORES)
def test_every_listed_item_of_the_golden_stores_is_found(name: str) -> None:
    root = GOLDEN_SMALL / "stores" / name
    store = open_store(root)
    owners: list[LayerRecord | ImageRecord] = [*store.layers(), *store.images()]
    listed = {o.big_data_path(key) for o in owners for key in o.big_data_names}
    files = {p for p in root.glob("overlay-*/*/*") if p.is_file()}
    assert listed == files
    assert all(read_big_data(o, key) for o in owners for key in o.big_data_names)


def test_a_missing_item_or_layer_is_none(layer: LayerRecord) -> None:
    assert read_big_data(layer, "no-such-item") is None
    folder = layer.big_data_path(TOC_KEY).parent
    folder.rename(folder.with_name("gone"))
    assert read_big_data(layer, TOC_KEY) is None
    folder.touch()
    assert read_big_data(layer, TOC_KEY) is None


def test_an_item_that_is_too_large_or_not_a_file_is_an_error(layer: LayerRecord) -> None:
    size = layer.big_data_path(TOC_KEY).stat().st_size
    assert len(read_big_data(layer, TOC_KEY, size) or b"") == size
    with pytest.raises(StoreError, match=f"{size:,} bytes, more than the {size - 1:,}"):
        read_big_data(layer, TOC_KEY, size - 1)
    os.mkfifo(layer.big_data_path("pipe"))
    layer.big_data_path("folder").mkdir()
    for key in ("pipe", "folder"):
        with pytest.raises(StoreError, match=key):
            read_big_data(layer, key)


@pytest.mark.parametrize("name", STORES)
def test_layouts_of_the_golden_stores(name: str) -> None:
    wanted = Layout.FLAT if name == "flat" else Layout.DIR
    store = open_store(GOLDEN_SMALL / "stores" / name)
    assert {layer_layout(layer) for layer in store.layers()} == {wanted}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"format":1}', Layout.FLAT),
        ('{"format":0,"more":[]}', Layout.DIR),
        ("{}", Layout.DIR),
        ("null", Layout.DIR),
        ('{"format":null}', Layout.DIR),
        *((bad, None) for bad in ("", "{", "[]", "1", "true", '"x"', "\xff", "[" * 60_000)),
        *((f'{{"format":{bad}}}', None) for bad in ("2", "-1", "true", "0.0", '"1"', "[1]")),
    ],
)
def test_the_layer_data_names_the_layout(
    layer: LayerRecord, text: str, wanted: Layout | None
) -> None:
    path = layer.big_data_path(LAYER_DATA_KEY)
    path.write_bytes(text.encode("latin-1"))
    if wanted is not None:
        assert layer_layout(layer) is wanted
        return
    with pytest.raises(StoreError, match=r'wanted \{"format": 0\}') as caught:
        layer_layout(layer)
    assert str(path) in str(caught.value)


def test_without_layer_data_the_layout_is_dir(layer: LayerRecord) -> None:
    layer.big_data_path(LAYER_DATA_KEY).unlink()
    assert layer_layout(layer) is Layout.DIR
