"""Protects: an image in a store has the layers and TOCs that its manifest names."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from tests.stores import edit_images, set_manifest
from vecache.errors import (
    DigestError,
    ImageError,
    ImageNotFoundError,
    StoreError,
    TocError,
    VecacheError,
)
from vecache.image.open import open_image
from vecache.image.toc import read_toc
from vecache.store.bigdata import TOC_KEY, big_data_file_name
from vecache.store.open import open_store
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from pathlib import Path

TAGS = ("base", "app1", "other", "dirs", "app2")
STORES = GOLDEN_SMALL / "stores"


@pytest.mark.parametrize("tag", TAGS)
def test_zstd_images_are_the_same_in_the_store(tag: str) -> None:
    pulled = open_image(f"containers-storage:[overlay@{STORES}/dir]localhost:5001/small/{tag}")
    origin = open_image(f"oci:{GOLDEN_SMALL}/oci:{tag}")
    assert pulled.digest == origin.digest
    for here, there in zip(pulled.layers, origin.layers, strict=True):
        assert (here.blob, here.blob_bytes, here.diff_id) == (
            there.blob,
            there.blob_bytes,
            there.diff_id,
        )
        assert (here.toc_offset, here.toc_bytes, here.toc_requests) == (
            there.toc_offset,
            there.toc_bytes,
            there.toc_requests,
        )
        assert here.reader is not None
        assert there.reader is not None
        assert read_toc(here.reader) == read_toc(there.reader)


@pytest.mark.parametrize("tag", TAGS)
def test_estargz_offsets_are_estimated(tag: str) -> None:
    store = open_store(STORES / "estargz")
    pulled = open_image(f"containers-storage:localhost:5001/smallesgz/{tag}", store=store)
    origin = open_image(f"oci:{GOLDEN_SMALL}/oci-estargz:{tag}")
    assert pulled.digest == origin.digest
    for here, there in zip(pulled.layers, origin.layers, strict=True):
        assert here.reader is not None
        assert there.reader is not None
        assert read_toc(here.reader) == read_toc(there.reader)
        assert here.toc_bytes == pytest.approx(there.toc_bytes, rel=0.1)
        assert here.toc_offset + here.toc_bytes == here.blob_bytes
        assert here.toc_requests == 2


def test_converted_images_have_no_tocs() -> None:
    store = STORES / "converted"
    image = open_image("containers-storage:localhost:5001/smallgz/app2", store=store)
    assert [layer.toc_format for layer in image.layers] == [None] * 3


def test_images_are_found_by_id_too() -> None:
    record = open_store(STORES / "dir").images()[0]
    image = open_image(f"containers-storage:[{STORES}/dir]@{record.id}")
    assert image.name == record.names[0]
    with pytest.raises(ImageNotFoundError):
        open_image(f"containers-storage:[{STORES}/dir]nope")
    with pytest.raises(StoreError):
        open_image(f"containers-storage:[overlay@{STORES}/nope]app")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return shutil.copytree(STORES / "dir", tmp_path / "store")


def open_base(store: Path) -> None:
    image = open_image("containers-storage:localhost:5001/small/base", store=store)
    for layer in image.layers:
        _ = layer.toc


def image_folder(store: Path) -> Path:
    record = open_store(store).find_image("localhost:5001/small/base")
    return store / "overlay-images" / record.id


def test_a_damaged_document_is_a_vecache_error(store: Path) -> None:
    open_base(store)
    folder = image_folder(store)
    manifest = (folder / "manifest").read_bytes()
    config = folder / big_data_file_name(json.loads(manifest)["config"]["digest"])
    for path in (folder / "manifest", config):
        original = path.read_bytes()
        path.write_bytes(original + b" ")
        with pytest.raises(VecacheError, match="with the digest"):
            open_base(store)
        path.write_bytes(bytes(5 << 20))
        with pytest.raises(ImageError, match="at most"):
            open_base(store)
        path.unlink()
        with pytest.raises(ImageError, match="missing in the store"):
            open_base(store)
        path.write_bytes(original)


def layer_record(store: Path) -> tuple[Path, list[dict[str, object]]]:
    path = store / "overlay-layers" / "layers.json"
    return path, json.loads(path.read_text())


def test_a_damaged_or_missing_toc_is_a_vecache_error(store: Path) -> None:
    _, records = layer_record(store)
    path = store / "overlay-layers" / str(records[0]["id"]) / big_data_file_name(TOC_KEY)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(TocError, match="damaged, pull it again"):
        open_base(store)
    path.unlink()
    with pytest.raises(ImageError, match="no such file"):
        open_base(store)


@pytest.mark.parametrize(
    "change", [{"big-data-names": []}, {"toc-digest": "sha256:" + "0" * 64}, {"toc-digest": ""}]
)
def test_a_layer_not_made_from_that_toc_has_none(store: Path, change: dict[str, object]) -> None:
    path, records = layer_record(store)
    records[0].update(change)
    path.write_text(json.dumps(records))
    image = open_image("containers-storage:localhost:5001/small/base", store=store)
    assert image.layers[0].toc_format is None


def test_a_store_with_fewer_layers_than_the_manifest_is_an_image_error(store: Path) -> None:
    path = store / "overlay-images" / "images.json"
    records = json.loads(path.read_text())
    layers = json.loads((store / "overlay-layers" / "layers.json").read_text())
    app1 = next(each for each in records if each["names"][0].endswith("app1:latest"))
    app1["layer"] = layers[0]["id"]
    path.write_text(json.dumps(records))
    with pytest.raises(ImageError, match="the manifest names more"):
        open_image("containers-storage:localhost:5001/small/app1", store=store)


def test_an_image_pulled_through_a_list_is_read(store: Path) -> None:
    instance = open_image("containers-storage:base", store=store).digest
    listed = set_manifest(store, "base", of_list=True)
    assert open_store(store).find_image("base").digest == listed
    for name in ("localhost:5001/small/base", f"localhost:5001/small/base@{instance}", listed):
        image = open_image(f"containers-storage:{name}", store=store)
        assert image.digest == instance
        assert [layer.toc_format for layer in image.layers] == [TocFormat.ZSTD_CHUNKED]
        open_base(store)


@pytest.mark.parametrize("platform", [None, "linux/amd64"])
def test_the_digest_of_a_list_names_the_image_that_was_chosen_from_it(
    store: Path, platform: str | None
) -> None:
    instance = open_image("containers-storage:base", store=store).digest
    name = f"localhost:5001/small/base@{set_manifest(store, 'base', of_list=True)}"
    assert (
        open_image(f"containers-storage:{name}", store=store, platform=platform).digest == instance
    )
    with pytest.raises(ImageError, match=r"manifest-sha256:.* is missing in the store"):
        open_image(f"containers-storage:{name}", store=store, platform="linux/s390x")


def test_an_image_under_two_manifests_has_the_latest_one(store: Path) -> None:
    first = open_image("containers-storage:base", store=store).digest
    document = json.loads((image_folder(store) / "manifest").read_bytes())
    again = json.dumps({**document, "annotations": {"pulled": "again"}}).encode()
    second = set_manifest(store, "base", manifest=again)
    record = open_store(store).find_image("base")
    assert record.digest == first
    assert record.manifest_digest == second
    open_base(store)
    for name, digest in (("", second), (f"@{first}", first), (f"@{second}", second)):
        image = open_image(f"containers-storage:localhost:5001/small/base{name}", store=store)
        assert image.digest == digest


@pytest.mark.parametrize("of_list", [True, False])
def test_a_damaged_manifest_is_found_however_many_there_are(store: Path, of_list: bool) -> None:
    document = json.loads((image_folder(store) / "manifest").read_bytes())
    again = b"" if of_list else json.dumps({**document, "annotations": {"a": "b"}}).encode()
    set_manifest(store, "base", of_list=of_list, manifest=again)
    path = image_folder(store) / "manifest"
    path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha256:0", 1))
    with pytest.raises(DigestError, match="the copy is damaged or was changed"):
        open_base(store)


@pytest.mark.parametrize("removed", ["big-data-digests", "big-data-names", "both"])
def test_records_of_old_stores_are_still_checked(store: Path, removed: str) -> None:
    def edit(records: list[dict[str, object]]) -> None:
        for record in records:
            for key in ("big-data-digests", "big-data-names"):
                if removed in (key, "both"):
                    del record[key]

    edit_images(store, edit)
    open_base(store)
    path = image_folder(store) / "manifest"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DigestError, match="the copy is damaged or was changed"):
        open_base(store)


def test_an_image_with_a_malformed_digest_is_a_digest_error(store: Path) -> None:
    def edit(records: list[dict[str, object]]) -> None:
        for record in records:
            record["big-data-digests"] = {"manifest": "md5:../.."}

    edit_images(store, edit)
    with pytest.raises(DigestError, match=r"digest: 'md5:\.\./\.\.' is not a digest"):
        open_image("containers-storage:base", store=open_store(store))
