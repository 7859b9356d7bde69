"""Protects both programs when they use a store at the same time: neither fails, nothing is hurt."""

from __future__ import annotations

import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.interop.images import small_files
from tests.interop.podman import Settings
from tests.interop.test_pulls import compare
from vecache.doctor.check import diagnose
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from tests.interop.conftest import NewStore
    from tests.interop.podman import PodmanStore
    from tests.interop.proxy import Proxy
    from vecache.index.load import Build

_ROUNDS = int(os.environ.get("VECACHE_INTEROP_ROUNDS", "30"))
_IMAGES = ("zstd-chunked:base", "zstd-chunked:edited", "zstd-chunked:same", "oci:app1")
_FILES = [hashlib.sha256(data).hexdigest() for data in small_files(1, 150).values() if data]
_DIGESTS = [f"sha256:{digest}" for digest in _FILES]  # of the lowest layer of `edited`


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_podman_pulls_and_removes_beside_loads_and_writes(
    new_store: NewStore, registry: Proxy, tally: Counter[str], tmp_path: Path, kind: str
) -> None:
    store = new_store(kind, Settings(parallel=6))
    store.podman("info")  # makes the folders
    edited = open_image(f"docker://{registry.address}/zstd-chunked:edited", tls_verify=False)
    lowest = edited.layers[0].diff_id.removeprefix("sha256:")
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        podman = pool.submit(pull_and_remove, store, registry, tally, stop)
        try:
            use_store(lowest, podman.done, tally)
        finally:
            stop.set()
        podman.result()
    wrong = [each for image in _IMAGES for each in compare(store, registry, image, tally)]
    assert not wrong, "\n".join(wrong)
    store.podman("system", "check", "--quick")
    LayersCache.load(open_store(), build="store")
    assert diagnose(open_store(), tmp_path / "cache").wrong == []


def pull_and_remove(store: PodmanStore, registry: Proxy, tally: Counter[str], stop: Event) -> None:
    """Pull all images and remove them, many times; the last two stay for the next round."""
    names = [f"{registry.address}/{image}" for image in _IMAGES]
    for number in range(_ROUNDS):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order:
            if stop.is_set():
                return
            store.pull(name)
        store.remove(*order[number % 2 * 2 :])
        tally["pulls side by side"] += len(order)
        tally["removals side by side"] += len(order[number % 2 * 2 :])
    store.remove("--all")


def use_store(lowest: str, is_done: Callable[[], bool], tally: Counter[str]) -> None:
    """Load, refresh and write until Podman is done; what was found stays readable."""
    kept = LayersCache()
    builds: tuple[Build, ...] = ("store", "never", "memory")
    for build in itertools.cycle(builds):
        loaded = LayersCache.load(open_store(), build=build)
        tally[f'loads with build="{build}" side by side'] += 1
        refreshed = loaded.refresh()
        tally["refreshes side by side"] += 1
        for cache in (kept, loaded, refreshed):
            is_there = lowest in {layer.id for layer in cache.layers}
            assert cache.lookup(_DIGESTS).is_found.all() or not is_there
        check_excluded(refreshed, build)
        kept = loaded  # whose layers may be gone by the next time
        if is_done():
            return


def check_excluded(cache: LayersCache, build: Build) -> None:
    """Check that a layer has no cache only because it is gone, or was not to get one."""
    if build == "never":
        return
    there = {layer.id for layer in open_store().layers()}
    assert [layer for layer in cache.excluded if layer.is_unread and layer.id in there] == []
