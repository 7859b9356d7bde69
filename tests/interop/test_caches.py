"""Protects cache files that vecache writes into a store: Podman accepts them as its own."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.interop.podman import Settings
from tests.interop.test_pulls import compare
from tests.stores import cache_path
from vecache.index.layers_cache import LayersCache
from vecache.store.bigdata import CACHE_KEY
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from tests.interop.conftest import NewStore
    from tests.interop.podman import PodmanStore
    from tests.interop.proxy import Proxy

_FIRST = ("zstd-chunked:base", "zstd-chunked:large", "oci:base", "oci:app1")
_NEXT = ("zstd-chunked:edited", "zstd-chunked:copies", "oci:app2")


def pulled(new_store: NewStore, registry: Proxy, kind: str, composefs: bool) -> PodmanStore:
    store = new_store(kind, Settings(composefs=composefs))
    for image in _FIRST:
        store.pull(f"docker://{registry.address}/{image}")
    return store


def cached_layers(root: Path) -> list[str]:
    """Ids of the layers whose record lists a cache, once for each time."""
    records = json.loads((root / "overlay-layers" / "layers.json").read_text())
    return [each["id"] for each in records for key in each["big-data-names"] if key == CACHE_KEY]


@pytest.mark.parametrize("composefs", [False, True])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_podman_reuses_from_caches_of_vecache_and_does_not_rewrite_them(
    new_store: NewStore, registry: Proxy, tally: Counter[str], kind: str, *, composefs: bool
) -> None:
    store = pulled(new_store, registry, kind, composefs)
    podmans = store.cache_files()
    assert podmans
    for layer in podmans:
        cache_path(store.root, layer).unlink()
    LayersCache.load(open_store(), build="store")
    written = store.cache_files()
    # Those of Podman once more, and the one of the last layer, which no record lists yet.
    assert len(written) == len(podmans) + 1
    assert {layer: written[layer].content for layer in podmans} == {
        layer: file.content for layer, file in podmans.items()
    }
    assert sorted(cached_layers(store.root)) == sorted(written)
    wrong = [each for image in _NEXT for each in compare(store, registry, image, tally)]
    assert not wrong, "\n".join(wrong)
    after = store.cache_files()
    assert {layer: after.get(layer) for layer in written} == written
    assert len(after) > len(written)
    store.podman("system", "check", "--quick")
    tally["caches written by vecache, none rewritten by Podman"] += len(written)


def test_podman_rewrites_a_cache_that_it_does_not_accept(
    new_store: NewStore, registry: Proxy, tally: Counter[str]
) -> None:
    """So that a cache is the same file afterwards means that it was accepted."""
    store = pulled(new_store, registry, "ext4", composefs=False)
    before = store.cache_files()
    for layer in before:
        os.truncate(cache_path(store.root, layer), 100)
    assert compare(store, registry, _NEXT[0], tally) == []
    after = store.cache_files()
    for layer, file in before.items():
        assert after[layer].content == file.content
        assert after[layer].inode != file.inode
