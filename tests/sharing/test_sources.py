"""Contents of stores, folders, images and values; one bad layer never stops the rest."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from tests.golden import (
    GOLDEN_SMALL,
    debian_layers,
    debian_toc,
    golden_toc,
    layer_ids,
    needs_debian,
)
from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import TOCS
from tests.stores import cache_path, copy_store, toc_path
from tests.toc.strategies import ODD_DOCUMENTS, SENSIBLE
from vecache.digest import parse_digests
from vecache.errors import StoreError, TocError
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.sharing.exclusive import shares
from vecache.sharing.gather import gather
from vecache.sharing.keys import content_keys
from vecache.sharing.matrix import overlap
from vecache.sharing.occurrences import OccurrenceKind, find_occurrences
from vecache.sharing.removal import what_if
from vecache.sharing.repeated import repeated_files
from vecache.sharing.sources import read_contents
from vecache.store.open import open_store
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.content_table import ContentTable
    from vecache.sharing.contents import Contents


def as_dict(content_table: ContentTable) -> dict[bytes, int]:
    return {
        key.tobytes(): int(n) for key, n in zip(content_table.key, content_table.size, strict=True)
    }


def expected(rows: list[tuple[str, int]]) -> dict[bytes, int]:
    held = oracle.held(rows)
    keys, has_key = content_keys(parse_digests(list(held)))
    assert has_key.all()
    return {key.tobytes(): n for key, n in zip(keys, held.values(), strict=True)}


def same(one: Contents, other: Contents) -> bool:
    return [layer.id for layer in one.layers] == [layer.id for layer in other.layers] and all(
        as_dict(a.files) == as_dict(b.files) and as_dict(a.chunks) == as_dict(b.chunks)
        for a, b in zip(one.layers, other.layers, strict=True)
    )


@given(TOCS)
def test_a_layer_has_the_contents_that_the_oracle_finds(toc: bytes) -> None:
    (layer,) = contents_of([toc]).layers
    files, chunks = oracle.grains(toc)
    assert as_dict(layer.files) == expected(files)
    assert as_dict(layer.chunks) == expected(chunks)
    assert layer.files.logical_bytes == sum(size for _, size in files)
    assert layer.chunks.logical_bytes == sum(size for _, size in chunks)


@needs_debian
def test_real_layers_have_the_contents_that_the_oracle_finds() -> None:
    for layer in debian_layers()[:2]:
        toc = debian_toc(layer)
        (found,) = contents_of([toc]).layers
        files, chunks = map(expected, oracle.grains(toc))
        assert (as_dict(found.files), as_dict(found.chunks)) == (files, chunks)


@given(SENSIBLE | ODD_DOCUMENTS)
def test_any_toc_that_parses_can_be_counted(data: bytes) -> None:
    """Numbers at the limits of 64 bits, malformed digests, chunks without a file."""
    try:
        toc = Toc.parse(data)
    except TocError:
        return
    contents = read_contents({"layer": toc})
    assert len(contents.layers) + len(contents.excluded) == 1
    for layer in contents.layers:
        assert (layer.files.size > 0).all()
        assert (layer.chunks.size > 0).all()
        assert layer.files.logical_bytes >= layer.files.n_bytes


def test_a_store_a_path_and_a_cache_give_equal_contents() -> None:
    root = GOLDEN_SMALL / "stores" / "dir"
    store = open_store(root)
    from_path = read_contents(str(root))
    assert same(from_path, read_contents(store))
    assert same(from_path, read_contents(LayersCache.load(store)))
    assert read_contents(from_path) is from_path
    assert [image.label for image in from_path.images] == [
        image.label for image in read_contents(LayersCache.load(store)).images
    ]


def test_contents_can_be_limited_to_present_layers() -> None:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    ids = layer_ids("dir")
    limited = read_contents(store).limited_to(ids[2:])
    for contents in (read_contents(LayersCache.load(store, present=ids[2:])), limited):
        assert [layer.id for layer in contents.layers] == ids[2:]
        assert [image.label.split("/")[-1] for image in contents.images] == [
            "other:latest",
            "dirs:latest",
            "app2:latest",
        ]


def test_an_image_has_the_contents_of_its_layers() -> None:
    image = open_image(f"oci:{GOLDEN_SMALL / 'oci'}:app2")
    contents = read_contents(image)
    assert [layer.id for layer in contents.layers] == [layer.diff_id for layer in image.layers]


def test_layers_of_a_folder_of_tocs_are_named_after_its_files(tmp_path: Path) -> None:
    for number, layer in enumerate(layer_ids("dir")[:2]):
        (tmp_path / f"registry-{number}.json").write_bytes(golden_toc("dir", layer))
    (tmp_path / "registry-9.json").write_bytes(b"{")
    (tmp_path / "notes.txt").write_text("no TOC")
    steps: list[tuple[int, int]] = []
    contents = read_contents(tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert contents.labels("layer") == ("registry-0", "registry-1")
    assert contents.excluded[0].record.id == "registry-9"
    assert "registry-9.json" in contents.excluded[0].reason
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert repr(contents).startswith("<Contents: 2 layers, 1 excluded, 0 images")
    assert "registry-0" in contents._repr_html_()


def test_pipes_devices_and_folders_among_tocs_are_excluded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to("nowhere")
    contents = read_contents(tmp_path)
    assert {each.record.id: each.reason.partition(": ")[2] for each in contents.excluded} == {
        "endless": "Not a regular file",
        "folder": "Is a directory",
        "gone": "No such file or directory",
        "pipe": "Not a regular file",
    }


def test_a_path_without_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file or folder; wanted a graph root, a f") as no:
        read_contents(str(tmp_path / "no"))
    assert "--" not in str(no.value)  # a word of the command line, which this is not
    with pytest.raises(StoreError, match="not a graph root"):
        read_contents(tmp_path)
    with pytest.raises(StoreError):
        read_contents(tmp_path / "missing")
    with pytest.raises(TypeError, match="found int"):
        read_contents(7)


@pytest.mark.parametrize("name", [f"oci:{GOLDEN_SMALL / 'oci'}:app2", "docker://host/app", "dir:x"])
def test_the_name_of_an_image_is_refused_with_what_to_pass(name: str) -> None:
    message = f"{name}: found the name of an image, wanted .*; pass what vecache.open_image"
    for call in (overlap, shares, read_contents, lambda source: what_if(source, ["app2"])):
        with pytest.raises(ValueError, match=message):
            call(name)
    for image, source in ((name, {}), ({}, name)):
        with pytest.raises(ValueError, match=message):
            gather(image, source)


@pytest.mark.parametrize("toc", ["a.json", b"{}", None])
def test_what_is_not_a_parsed_toc_is_refused(toc: object) -> None:
    with pytest.raises(TypeError, match=r"TOC of a: found \w+, wanted vecache.Toc.parse\(data\)"):
        read_contents({"a": toc, "b": Toc.parse(b'{"version":1,"entries":[]}')})
    with pytest.raises((TypeError, StoreError), match=r"Toc objects by layer id|no such file"):
        read_contents({"a": toc})  # may be several stores, by name


def test_layers_without_a_good_toc_are_excluded_with_the_reason(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    ids = layer_ids("dir")
    toc_path(root, ids[0]).unlink()
    toc_path(root, ids[1]).write_bytes(b'{"version":1,"entries":[{"type":"chunk","name":"a"}]}')
    contents = read_contents(root)
    assert [layer.id for layer in contents.layers] == ids[2:]
    assert [each.record.id for each in contents.excluded] == ids[:2]
    assert "there is no such file, but a cache" in contents.excluded[0].reason
    assert all(each.is_unread for each in contents.excluded)
    for layer in ids:
        cache_path(root, layer).unlink(missing_ok=True)
    (without, _) = read_contents(root).excluded
    assert (without.reason, without.is_unread) == ("no TOC", False)  # it may never have had one
    assert "does not follow" in contents.excluded[1].reason
    assert [image.label.split("/")[-1] for image in contents.images] == [
        "base:latest",
        "app1:latest",
        "other:latest",
        "dirs:latest",
        "app2:latest",
    ]


def toc_of(files: list[tuple[int, int]]) -> Toc:
    """A TOC of files, each given by a number for its digest and by its size."""
    entries = [
        {"type": "reg", "name": f"file{number}", "size": size, "digest": f"sha256:{number:064x}"}
        for number, size in files
    ]
    return Toc.parse(json.dumps({"version": 1, "entries": entries}).encode())


def test_a_toc_that_claims_bytes_beyond_int64_is_excluded() -> None:
    contents = read_contents({"huge": toc_of([(1, 1 << 62)] * 3)})
    assert contents.layers == ()
    assert "claims 13,835,058,055,282,163,712 bytes" in contents.excluded[0].reason


@pytest.mark.parametrize("sizes", [[2**53 + 1], [2**53 - 1, 2], [2**53, *[1] * 6]])
def test_a_layer_with_more_bytes_than_a_float_counts_is_excluded(sizes: list[int]) -> None:
    """The sum in floats would be 2**53 itself."""
    toc = toc_of(list(enumerate(sizes)))
    contents = read_contents({"large": toc, "empty": toc_of([])})
    assert [each.id for each in contents.excluded] == ["large"]
    assert [layer.id for layer in contents.layers] == ["empty"]


def test_layers_with_as_many_bytes_as_a_float_counts_are_summed_exactly() -> None:
    one, other = toc_of([(1, 2**53 - 2), (2, 1)]), toc_of([(2, 1)])
    contents = read_contents({"one": one, "other": other, "empty": toc_of([]), "more": other})
    assert [each.id for each in contents.excluded] == ["more"]
    assert overlap(contents).bytes.tolist() == [[2**53 - 1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert shares(contents).bytes.tolist() == [2**53 - 1, 1, 0]


def test_a_digest_with_two_sizes_counts_once_with_the_smallest() -> None:
    """Only a damaged TOC has two; no number of small copies makes a large one overflow a sum."""
    one, other = toc_of([(1, 2**52), (2, 7), (2, 5)]), toc_of([(1, 1)] * 5000)
    contents = read_contents({"one": one, "other": other})
    assert overlap(contents).bytes.tolist() == [[6, 1], [1, 1]]
    assert repeated_files(contents).repeated_bytes.tolist() == [5000, 5]


def test_paths_of_a_toc_that_lost_its_files_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "layer.json"
    path.write_bytes(golden_toc("dir", layer_ids("dir")[0]))
    contents = read_contents(tmp_path)
    path.write_bytes(b'{"version":1,"entries":[]}')
    assert set(repeated_files(contents).path) == {None}


def test_an_empty_layer_is_a_layer() -> None:
    contents = contents_of([b'{"version":1,"entries":[]}'])
    assert len(contents.layers) == 1
    assert len(contents.layers[0].files) == 0
    assert contents.layers[0].files.key.shape == (0, 32)


@given(TOCS)
def test_fingerprints_are_places_that_are_not_counted(toc: bytes) -> None:
    entries = Toc.parse(toc).entries
    plain, full = find_occurrences(entries), find_occurrences(entries, with_fingerprints=True)
    n_files = int((plain.kind == OccurrenceKind.FILE).sum())
    assert len(full) == len(plain) + n_files
    assert (full.key[: len(plain)] == plain.key).all()
    assert (full.kind[len(plain) :] == OccurrenceKind.FINGERPRINT).all()
    assert not (full.is_in_files | full.is_in_chunks)[len(plain) :].any()
