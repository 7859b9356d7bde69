"""A store in which each rule can be broken alone, and the ways to break it."""

from __future__ import annotations

import json
import shutil
import struct
from typing import TYPE_CHECKING, Any

from tests.golden import golden_cache, layer_ids
from tests.oracle import OracleCache, build_bloom, read_cache, uvarint
from tests.stores import cache_path, copy_store, edit_images, edit_layers, toc_path
from vecache.doctor.rules import Rule
from vecache.store.bigdata import CACHE_KEY, LAYER_DATA_KEY, big_data_file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAYERS = layer_ids("dir")
LAYER, NEWEST = LAYERS[0], LAYERS[-1]
NOBODY = "0" * 64


def whole_store(folder: Path, name: str = "dir") -> Path:
    """A copy of a golden store, with the folders of files that the golden one lacks."""
    root = copy_store(name, folder)
    for layer in layer_ids(name):
        (root / "overlay" / layer / "diff").mkdir(parents=True)
    for other in ("l", "staging", "tempdirs", "compat1234567"):
        (root / "overlay" / other).mkdir()
    (root / "overlay" / ".has-mount-program").write_text("false")
    (root / "overlay-layers" / "tmp").mkdir()
    (root / "overlay-layers" / f"{layer_ids(name)[0]}.tar-split.gz").touch()
    return root


def in_cache(change: Callable[[OracleCache], object]) -> Callable[[Path], None]:
    """Change the parts of a cache file."""

    def damage(root: Path) -> None:
        cache = read_cache(golden_cache("dir", LAYER))
        change(cache)
        cache_path(root, LAYER).write_bytes(cache.pack())

    return damage


def in_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of a cache file."""
    return lambda root: _write(cache_path(root, LAYER), change(golden_cache("dir", LAYER)))


def in_record(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the record of a layer."""
    return lambda root: edit_layers(root, lambda records: change(records[0]))


def _swap(cache: OracleCache) -> None:
    cache.tags[0], cache.tags[1] = cache.tags[1], cache.tags[0]


def _other_algorithm(cache: OracleCache) -> None:
    cache.tags[0] = b"SHA256:" + cache.tags[0][7:]
    cache.bloom = build_bloom(cache.digests(), len(cache.bloom) // 8)


def _without_a_bit(cache: OracleCache) -> None:
    row = next(n for n, byte in enumerate(cache.bloom) if byte)
    cache.bloom = bytes([*cache.bloom[:row], 0, *cache.bloom[row + 1 :]])


def _lost_location(cache: OracleCache) -> None:
    cache.tags[3] = cache.tags[3][:39] + struct.pack("<QQ", 2**40, 3)


def _other_file(cache: OracleCache) -> None:
    digests = cache.digests()
    row = next(n for n, digest in enumerate(digests) if digests.count(digest) == 1)
    tag = cache.tags[row]
    cache.tags[row] = tag[:38] + bytes([tag[38] ^ 1]) + tag[39:]  # the last byte of its digest
    cache.bloom = build_bloom(cache.digests(), len(cache.bloom) // 8)


def _longer_file(cache: OracleCache) -> None:
    assert cache.vdata[:1] == uvarint(0)  # the offset of a name; the file's size is behind it
    cache.vdata = cache.vdata[:1] + b"\1" + cache.vdata[2:]


def _unlist(record: dict[str, Any], key: str = CACHE_KEY) -> None:
    record["big-data-names"].remove(key)


def _write(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _unlisted_toc(root: Path) -> None:
    edit_layers(root, lambda records: _unlist(records[0], LAYER_DATA_KEY))


def _image_item(root: Path) -> None:
    (image, *_) = json.loads((root / "overlay-images" / "images.json").read_text())
    (root / "overlay-images" / image["id"] / "manifest").unlink()


CACHE_DAMAGE: dict[str, tuple[Rule, Callable[[Path], None]]] = {
    "hashes": (Rule.CACHE_FILTER_SIZE, in_cache(lambda cache: setattr(cache, "n_hashes", 2))),
    "words": (
        Rule.CACHE_FILTER_SIZE,
        in_cache(lambda cache: setattr(cache, "bloom", b"\xff" * (len(cache.bloom) + 8))),
    ),
    "sections": (Rule.CACHE_SECTIONS, in_bytes(lambda data: data + b"more")),
    "order": (Rule.CACHE_ORDER, in_cache(_swap)),
    "algorithm": (Rule.CACHE_ALGORITHM, in_cache(_other_algorithm)),
    "filter": (Rule.CACHE_FILTER, in_cache(_without_a_bit)),
    "full filter": (
        Rule.CACHE_FILTER_FILL,
        in_cache(lambda cache: setattr(cache, "bloom", b"\xff" * len(cache.bloom))),
    ),
    "location": (Rule.CACHE_LOCATIONS, in_cache(_lost_location)),
    "cut": (Rule.CACHE_READABLE, in_bytes(lambda data: data[:1000])),
    "empty file": (Rule.CACHE_READABLE, in_bytes(lambda _: b"")),
    "no cache at all": (Rule.CACHE_READABLE, in_bytes(lambda _: b"neither of the two")),
    "of another layer": (
        Rule.CACHE_OF_TOC,
        in_bytes(lambda _: golden_cache("dir", LAYERS[1])),
    ),
    "of another layout": (Rule.CACHE_OF_TOC, in_bytes(lambda _: golden_cache("flat", LAYER))),
    "other digest": (Rule.CACHE_OF_TOC, in_cache(_other_file)),
    "other offset": (Rule.CACHE_OF_TOC, in_cache(_longer_file)),
    "listed and gone": (Rule.ITEM_MISSING, lambda root: cache_path(root, LAYER).unlink()),
    "unlisted": (Rule.ITEM_UNLISTED, in_record(_unlist)),
}
"""Damage to the cache file of LAYER: name -> (rule, what does it). `--fix` mends all of it."""

LEFTOVERS: dict[str, str] = {
    "in a layer's folder": f"overlay-layers/{LAYER}/.tmp-vecache-0011",
    "beside the list": "overlay-layers/.tmp-vecache-2233",
}
"""Temporary files of this package."""

DAMAGE: dict[str, tuple[Rule, Callable[[Path], None]]] = {
    "TOC": (Rule.TOC, lambda root: _write(toc_path(root, LAYER), b"{")),
    "TOC without digests": (
        Rule.TOC,
        lambda root: _write(
            toc_path(root, NEWEST),
            b'{"entries":[{"type":"reg","name":"a","size":1,"digest":"sha256:0"}]}',
        ),
    ),
    "layout": (
        Rule.LAYOUT,
        lambda root: _write(
            toc_path(root, NEWEST).with_name(big_data_file_name(LAYER_DATA_KEY)), b"[]"
        ),
    ),
    "list of layers": (
        Rule.LISTS,
        lambda root: _write(root / "overlay-layers" / "layers.json", b"[{]"),
    ),
    "list of images": (
        Rule.LISTS,
        lambda root: _write(root / "overlay-images" / "images.json", b'{"a":1}'),
    ),
    "listed TOC": (Rule.ITEM_MISSING, lambda root: toc_path(root, NEWEST).unlink()),
    "impossible key": (
        Rule.ITEM_MISSING,
        in_record(lambda record: record["big-data-names"].append("..")),
    ),
    "item of an image": (Rule.ITEM_MISSING, _image_item),
    "unlisted layout": (Rule.ITEM_UNLISTED, _unlisted_toc),
    "stranger": (
        Rule.ITEM_UNLISTED,
        lambda root: _write(root / "overlay-layers" / LAYER / "\x1bstranger"),
    ),
    "big data of no layer": (
        Rule.BIG_DATA_ORPHANED,
        lambda root: _write(root / "overlay-layers" / NOBODY / "x"),
    ),
    "tar-split of no layer": (
        Rule.BIG_DATA_ORPHANED,
        lambda root: _write(root / "overlay-layers" / f"{NOBODY}.tar-split.gz"),
    ),
    "big data of no image": (
        Rule.BIG_DATA_ORPHANED,
        lambda root: _write(root / "overlay-images" / NOBODY / "manifest"),
    ),
    "no files": (Rule.FOLDER_MISSING, lambda root: shutil.rmtree(root / "overlay" / LAYER)),
    "no diff": (Rule.FOLDER_MISSING, lambda root: (root / f"overlay/{LAYER}/diff").rmdir()),
    "files of no layer": (
        Rule.FOLDER_ORPHANED,
        lambda root: _write(root / "overlay" / NOBODY / "link"),
    ),
    "parent": (Rule.PARENT, in_record(lambda record: record.update(parent=NOBODY))),
    "top layer": (
        Rule.TOP_LAYER,
        lambda root: edit_images(root, lambda records: records[0].update(layer=NOBODY)),
    ),
    "temporary file of Podman": (
        Rule.LEFTOVER,
        lambda root: _write(root / f"overlay-layers/{LAYER}/.tmp-=abc123"),
    ),
}
"""Damage that only Podman's own commands mend."""

HINTS: dict[str, tuple[Rule, Callable[[Path], None]]] = {
    "version": (Rule.CACHE_VERSION, in_bytes(lambda data: b"\2" + data[1:])),
    "no overlay": (Rule.FOLDERS, lambda root: shutil.rmtree(root / "overlay")),
    "incomplete": (
        Rule.INCOMPLETE,
        lambda root: edit_layers(
            root, lambda records: records.append({"id": NOBODY, "flags": {"incomplete": True}})
        ),
    ),
}
