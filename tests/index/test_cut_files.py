"""Protects against another process that cuts or rewrites a cache file while it is mapped.

Podman replaces such files by renaming, so this is no normal use: but it is an error of our own, not
SIGBUS, an IndexError or a bug.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.stores import copy_store
from vecache.cache.reader import CacheFile
from vecache.cache.writer import build_cache
from vecache.errors import TruncatedError, VecacheError
from vecache.files import COPIED_BYTES
from vecache.index.layers_cache import LayersCache
from vecache.store.bigdata import CACHE_FILE_NAME
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_FILES = 3_000
DIGESTS = [f"sha256:{hashlib.sha256(b'%d' % n).hexdigest()}" for n in range(N_FILES)]
CUT = "another process has cut the file"


def packed(n_files: int = N_FILES) -> bytes:
    entries = [
        {"type": "reg", "name": f"usr/{n}", "size": 5, "digest": digest}
        for n, digest in enumerate(DIGESTS[:n_files])
    ]
    return build_cache(json.dumps({"version": 1, "entries": entries}).encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A large cache file of the first layer of a store."""
    root = copy_store("dir", tmp_path)
    record = open_store(root).layers()[0]
    path = root / "overlay-layers" / record.id / CACHE_FILE_NAME
    path.write_bytes(packed())
    assert path.stat().st_size > COPIED_BYTES
    return path


def load(path: Path) -> LayersCache:
    return LayersCache.load(open_store(path.parent.parent.parent), present=[path.parent.name])


def test_a_file_that_is_cut_before_its_first_use_is_refused(path: Path) -> None:
    cache = load(path)
    os.truncate(path, 100)
    with pytest.raises(TruncatedError, match=f"found 100 bytes, .*{CUT}"):
        cache.lookup(DIGESTS)


def test_a_file_that_is_cut_between_two_uses_is_refused(path: Path) -> None:
    cache = load(path)
    found = cache.lookup(DIGESTS)
    os.truncate(path, 4096)
    reads: list[Callable[[], object]] = [lambda: found.state, found.paths, found.to_arrow]
    for read in reads:
        with pytest.raises(TruncatedError, match=CUT):
            read()


def test_what_was_read_before_a_cut_stays(path: Path) -> None:
    found = load(path).lookup(DIGESTS)
    assert found.is_found.all()
    assert found.length.tolist() == [5] * N_FILES
    os.truncate(path, 100)
    assert found.length.tolist() == [5] * N_FILES


def test_one_file_that_is_cut_is_refused_by_every_method(path: Path) -> None:
    cache = CacheFile.open(path)
    digests, rows = np.array(cache.packed[:5]), np.arange(5)
    os.truncate(path, 0)
    calls: list[Callable[[], object]] = [
        cache.is_sound,
        lambda: cache.find_tags(digests),
        lambda: cache.locate(rows),
        lambda: cache.names(rows),
    ]
    for call in calls:
        with pytest.raises(TruncatedError, match=CUT):
            call()


def test_a_small_file_is_copied_so_a_cut_changes_nothing(path: Path) -> None:
    path.write_bytes(packed(50))
    assert path.stat().st_size <= COPIED_BYTES
    cache = load(path)
    os.truncate(path, 0)
    assert cache.lookup(DIGESTS[:50]).paths().to_pylist() == [b"usr/%d" % n for n in range(50)]


@pytest.mark.parametrize("seed", range(8))
def test_a_file_that_is_rewritten_gives_answers_or_our_own_error(path: Path, seed: int) -> None:
    cache = load(path)
    found = cache.lookup(DIGESTS)
    if seed % 2:
        assert found.is_found.all()
    chance = random.Random(seed)
    data = path.read_bytes()
    begin = chance.choice([36, len(data) // 2, len(data) - 20_000])
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(chance.choice([b"\xff", b"\0", b"\0\0\x04\0", b"\x80"]) * len(data[begin:]))
        file.truncate(len(data))
    for read in (found.paths, found.to_arrow, lambda: cache.lookup(DIGESTS).to_arrow()):
        with contextlib.suppress(VecacheError):
            read()
