"""Protects against names in a cache file that take far more memory than the file."""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING

import pytest

from tests.oracle import OracleCache, build_bloom, n_words_for
from tests.stores import copy_store
from vecache.errors import LocationError
from vecache.files import COPIED_BYTES
from vecache.index.layers_cache import LayersCache
from vecache.index.result import LookupResult, LookupState
from vecache.store.bigdata import CACHE_FILE_NAME
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 4095  # PATH_MAX without the NUL


def digest(number: int) -> bytes:
    return b"sha256:" + hashlib.sha256(b"%d" % number).digest()


def cache_of(fnames: bytes, name_offsets: list[int]) -> bytes:
    """A cache file with one tag for each offset of a name; tag number n has the n-th digest."""
    cache = OracleCache(fnames=fnames, tag_len=55, digest_len=39)
    tags = [digest(n) + cache.add_location(at, 0, 1) for n, at in enumerate(name_offsets)]
    cache.tags = sorted(tags)
    cache.bloom = build_bloom((tag[:39] for tag in tags), n_words_for(len(tags)))
    return cache.pack()


def look_up(folder: Path, cache: bytes, n_queries: int, n_sparse: int = 0) -> LookupResult:
    """Look up in a store of one layer, whose cache ends with a hole of so many bytes."""
    root = copy_store("dir", folder)
    store = open_store(root)
    record = store.layers()[0]
    path = root / "overlay-layers" / record.id / CACHE_FILE_NAME
    path.write_bytes(cache)
    os.truncate(path, len(cache) + n_sparse)
    layers = LayersCache.load(store, present=[record.id])
    return layers.lookup([f"sha256:{digest(n)[7:].hex()}" for n in range(n_queries)])


@pytest.mark.parametrize(
    ("n_bytes", "state"),
    [
        (LONGEST, LookupState.FOUND),
        (LONGEST + 1, LookupState.CORRUPT),
        (300_000_000, LookupState.CORRUPT),
        (2**32 - 1, LookupState.CORRUPT),
    ],
)
def test_a_name_longer_than_a_path_is_corrupt(
    tmp_path: Path, n_bytes: int, state: LookupState
) -> None:
    """A file of 4 KB on the disk, with a hole, took 16 bytes of memory a byte of the name."""
    cache = cache_of(struct.pack("<I", n_bytes), [0])
    result = look_up(tmp_path, cache, 1, n_sparse=min(n_bytes, 300_000_000))
    assert result.state.tolist() == [state]
    name = bytes(n_bytes) if state is LookupState.FOUND else None
    assert result.paths().to_pylist() == [name]
    assert result.to_arrow()["state"].to_pylist() == [state.name.lower()]


def test_a_pull_that_would_open_a_name_longer_than_a_path_is_refused(tmp_path: Path) -> None:
    """Go reads the name, and `openat2` refuses it (ENAMETOOLONG): Podman's pull fails."""
    result = look_up(tmp_path, cache_of(struct.pack("<I", 5000) + bytes(5000), [0]), 1)
    with pytest.raises(LocationError, match="to no path; delete the cache"):
        result.require_sound()


def test_names_that_overlap_are_refused(tmp_path: Path) -> None:
    """Each four bytes are the head of a name: 80 times the file's size in all."""
    n_names = 500
    fnames = struct.pack("<I", LONGEST) * n_names + bytes(LONGEST)
    result = look_up(tmp_path, cache_of(fnames, list(range(0, 4 * n_names, 4))), n_names)
    assert result.is_found.all()
    with pytest.raises(LocationError, match="names overlap: found 2,047,500 bytes of them"):
        result.paths()
    with pytest.raises(LocationError, match="names overlap"):
        result.to_arrow()


def test_names_that_are_rewritten_in_place_are_our_error(tmp_path: Path) -> None:
    """Podman replaces cache files by renaming; whoever writes into one gets no nonsense back."""
    fnames = struct.pack("<I", 3) + b"abc"
    cache = cache_of(bytes(COPIED_BYTES) + fnames, [COPIED_BYTES])  # a smaller one is not mapped
    result = look_up(tmp_path, cache, 1)
    assert result.is_found.all()
    (path,) = tmp_path.glob(f"dir/overlay-layers/{result._layers[0].id}/{CACHE_FILE_NAME}")
    for length in (4, 100_000, 2**32 - 1):
        with path.open("r+b") as file:
            file.seek(-len(fnames), os.SEEK_END)
            file.write(struct.pack("<I", length))
        with pytest.raises(LocationError, match="changed since it was opened"):
            result.paths()
