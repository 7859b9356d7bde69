"""Protects loading and refreshing: store order, reasons, and that one bad layer stops nothing."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from tests.golden import GOLDEN_SMALL, STORES, golden_cache, layer_ids
from tests.stores import cache_path, copy_store, edit_layers, toc_path
from vecache.cache.writer import build_cache
from vecache.digest import parse_digests
from vecache.errors import DigestError, LayerNotFoundError, LocationError, StoreError
from vecache.index import load as load_module
from vecache.index.layers_cache import LayersCache
from vecache.index.load import BuildCache, CacheSource
from vecache.index.lookup import LayerIndex
from vecache.index.result import LookupState
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.arrays import U8
    from vecache.cache.reader import CacheFile


def load(root: Path, **options: object) -> LayersCache:
    return LayersCache.load(open_store(root), **options)  # type: ignore[arg-type]


def sources(cache: LayersCache) -> list[str]:
    return [str(layer.source) for layer in cache.layers]


@pytest.mark.parametrize("store", STORES)
def test_layers_are_in_store_order_and_the_last_is_built(store: str) -> None:
    cache = load(GOLDEN_SMALL / "stores" / store)
    assert [layer.id for layer in cache.layers] == layer_ids(store)
    assert sources(cache) == ["mapped"] * 4 + ["built"]
    assert cache.layers[-1].cache.data.tobytes() == golden_cache(store, layer_ids(store)[-1])
    assert cache.excluded == ()


def test_more_layers_than_files_may_be_open_are_loaded(tmp_path: Path) -> None:
    """A store of more than 1,024 layers, a common limit, once had layers that could not be read."""
    root = copy_store("dir", tmp_path)
    first = layer_ids("dir")[0]
    ids = [f"{number:064x}" for number in range(100)]
    for layer in ids:
        cache_path(root, layer).parent.mkdir()
        os.link(cache_path(root, first), cache_path(root, layer))
    edit_layers(root, lambda layers: layers.extend({"id": layer} for layer in ids))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 50, hard))
    try:
        cache = load(root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cache.excluded == ()
    assert len(cache.layers) == 5 + 100


def test_nothing_is_written_into_a_store(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    cache_path(root, layer_ids("dir")[0]).write_bytes(b"broken")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    load(root).lookup(["sha256:" + "0" * 64])
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "the file is empty"),
        (b"\x02" + bytes(67), "version"),
        (b"\x03" + bytes(20), "header at byte"),
        (bytes([3]) + bytes(100), "header at byte"),
    ],
)
def test_a_broken_cache_is_built_anew_in_memory(tmp_path: Path, data: bytes, problem: str) -> None:
    root = copy_store("dir", tmp_path)
    first = layer_ids("dir")[0]
    cache_path(root, first).write_bytes(data)
    layer = load(root).layers[0]
    assert layer.source == CacheSource.BUILT
    assert problem in layer.problem
    assert layer.cache.data.tobytes() == golden_cache("dir", first)
    excluded = load(root, build="never").excluded
    assert excluded[0].id == first
    assert "none was to be built" in excluded[0].reason


def test_a_layer_without_a_toc_is_excluded_with_the_reason(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    ids = layer_ids("dir")
    toc_path(root, ids[4]).unlink()
    toc_path(root, ids[1]).write_bytes(b'{"version":1,')
    cache_path(root, ids[1]).unlink()
    cache = load(root)
    assert [layer.id for layer in cache.layers] == [ids[0], ids[2], ids[3]]
    assert [layer.id for layer in cache.excluded] == [ids[1], ids[4]]
    assert "no TOC" in cache.excluded[1].reason
    assert len(cache.records) == 5


def test_build_store_writes_what_podman_would(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    last = layer_ids("dir")[-1]
    cache = load(root, build="store")
    assert sources(cache) == ["mapped"] * 5
    assert cache_path(root, last).read_bytes() == golden_cache("dir", last)
    assert sources(load(root, build="never")) == ["mapped"] * 5


def test_what_was_built_is_cached_and_checked_when_read_back(tmp_path: Path) -> None:
    root, folder = copy_store("dir", tmp_path), tmp_path / "cached"
    assert sources(load(root, build_cache=folder))[-1] == "built"
    cache = load(root, build_cache=folder)
    assert sources(cache)[-1] == "cached"
    assert cache.layers[-1].cache.data.tobytes() == golden_cache("dir", layer_ids("dir")[-1])
    (file,) = (folder / "built").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert sources(load(root, build_cache=folder))[-1] == "built"
    assert sources(load(root, build_cache=folder))[-1] == "cached"


def test_what_was_built_for_longest_is_removed_where_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, folder = copy_store("dir", tmp_path), tmp_path / "cached"
    load(root, build_cache=folder)
    (first,) = (folder / "built").iterdir()
    os.utime(first, (1, 1))
    n_bytes = len(golden_cache("dir", layer_ids("dir")[0])) + 16
    monkeypatch.setattr(load_module, "_MAX_BUILT_BYTES", n_bytes)
    cache_path(root, layer_ids("dir")[0]).unlink()
    toc_path(root, layer_ids("dir")[-1]).unlink()
    assert sources(load(root, build_cache=folder)).count("built") == 1
    (left,) = (folder / "built").iterdir()
    assert left != first


def test_a_folder_that_cannot_be_written_caches_nothing_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = load(GOLDEN_SMALL / "stores" / "dir", build_cache=tmp_path / "file" / "built")
    assert sources(cache)[-1] == "built"


def test_refresh_follows_changes_and_keeps_the_old_set_as_it_was(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    ids = layer_ids("dir")
    cache = load(root)
    assert cache.refresh() is cache
    first, index = cache.layers[0], cache.index
    edit_layers(root, lambda records: records.pop(1))
    shutil.rmtree(root / "overlay-layers" / ids[1])
    without = cache.refresh()
    assert [layer.id for layer in without.layers] == [ids[0], *ids[2:]]
    assert without.layers[0] is first
    assert [layer.id for layer in cache.layers] == ids
    assert cache.index is index
    assert without.index is not index
    cache_path(root, ids[4]).write_bytes(golden_cache("dir", ids[4]))  # Podman's next pull
    pulled = without.refresh()
    assert sources(pulled) == ["mapped"] * 4
    assert sources(without) == ["mapped"] * 3 + ["built"]
    assert pulled.refresh() is pulled


def test_refresh_maps_a_cache_file_that_was_replaced(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    first, second = layer_ids("dir")[:2]
    cache = load(root)
    status = cache_path(root, first).stat()
    draft = tmp_path / "draft"
    draft.write_bytes(golden_cache("dir", second))
    os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
    draft.replace(cache_path(root, first))
    fresh = cache.refresh()
    assert fresh.layers[0].cache.data.tobytes() == golden_cache("dir", second)
    assert cache.layers[0].cache.data.tobytes() == golden_cache("dir", first)
    assert fresh.layers[1] is cache.layers[1]


def test_refresh_takes_a_built_layer_over(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    cache = load(root)
    edit_layers(root, lambda records: records.pop(0))
    assert cache.refresh().layers[-1] is cache.layers[-1]


def test_refresh_does_not_call_the_progress_of_the_load(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    calls: list[int] = []
    cache = load(root, progress=lambda: calls.append(1))
    assert len(calls) == len(cache.records)
    cache_path(root, layer_ids("dir")[0]).unlink()
    assert cache.refresh() is not cache
    assert len(calls) == len(cache.records)


def test_only_a_loaded_set_can_be_refreshed() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    with pytest.raises(ValueError, match="loaded from a store"):
        cache.append(cache.layers[0]).refresh()


def test_an_unknown_way_to_build_is_refused() -> None:
    with pytest.raises(ValueError, match="build: found 'always', wanted one of 'memory'"):
        load(GOLDEN_SMALL / "stores" / "dir", build="always")


def test_a_digest_that_the_store_learns_later_counts_after_the_refresh(tmp_path: Path) -> None:
    root = copy_store("estargz", tmp_path)
    cache = load(root)
    edit_layers(root, lambda records: records[0].update({"diff-digest": "sha256:" + "1" * 64}))
    assert cache.refresh().records[0].diff_digest == "sha256:" + "1" * 64
    assert cache.refresh().layers[0].record.diff_digest == "sha256:" + "1" * 64


def test_a_layer_that_vanishes_stays_readable_until_the_refresh(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    ids = layer_ids("dir")
    cache = load(root)
    shutil.rmtree(root / "overlay-layers" / ids[0])
    digest = cache.layers[0].cache.packed[0, 7:].copy().reshape(1, 32)
    assert cache.lookup(digest).layer.tolist() == [0]
    assert load(root).excluded[0].id == ids[0]  # listed, but its files are gone


def test_present_limits_the_layers(tmp_path: Path) -> None:
    ids = layer_ids("dir")
    cache = load(GOLDEN_SMALL / "stores" / "dir", present={ids[2], ids[0]})
    assert [record.id for record in cache.records] == [ids[0], ids[2]]
    assert load(GOLDEN_SMALL / "stores" / "dir", present=()).layers == ()


def test_present_takes_the_beginning_of_an_id_and_refuses_what_is_not_there() -> None:
    root, first = GOLDEN_SMALL / "stores" / "dir", layer_ids("dir")[0]
    assert [layer.id for layer in load(root, present=iter([first[:12]])).layers] == [first]
    with pytest.raises(LayerNotFoundError, match=r"'nope': none of the store's 5 layers"):
        load(root, present=[first, "nope"])


@pytest.mark.parametrize("present", ["dd95d764c505", [5], [b"dd95d764c505"]])
def test_present_must_be_a_list_of_text(present: object) -> None:
    with pytest.raises(TypeError, match=r"present: found .*, wanted a list of ids as text"):
        load(GOLDEN_SMALL / "stores" / "dir", present=present)


def test_a_layer_of_present_that_goes_away_is_no_error_of_refresh(tmp_path: Path) -> None:
    root, ids = copy_store("dir", tmp_path), layer_ids("dir")
    cache = load(root, present=ids[:2])
    edit_layers(root, lambda records: records.pop(0))
    assert [layer.id for layer in cache.refresh().layers] == [ids[1]]


def test_load_opens_the_store_at_a_path() -> None:
    root = GOLDEN_SMALL / "stores" / "dir"
    for path in (root, str(root)):
        assert [layer.id for layer in LayersCache.load(path).layers] == layer_ids("dir")
    with pytest.raises(StoreError, match="there is no such folder"):
        LayersCache.load("no/such/store")


@pytest.mark.parametrize("threads", [0, -1, True, "2"])
def test_a_wrong_number_of_threads_is_refused_for_few_queries_too(threads: object) -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir", build="never")
    with pytest.raises((TypeError, ValueError), match=r"threads: found .*, wanted"):
        cache.lookup([], threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("store", [None, 5, LayersCache()])
def test_load_refuses_what_is_not_a_store(store: object) -> None:
    with pytest.raises(TypeError, match=r"store: found \w+, wanted a Store or a path"):
        LayersCache.load(store)  # type: ignore[arg-type]


def test_open_store_refuses_what_is_not_a_path() -> None:
    for path in (5, LayersCache()):
        with pytest.raises(TypeError, match=r"store: found \w+, wanted the path of a graph root"):
            open_store(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, bytes(32)])
def test_one_digest_that_is_not_in_a_list_is_refused(digest: str | bytes) -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    for find in (
        cache.lookup,
        cache.lookup_all,
        cache.holds,
        cache.find_files,
        cache.find_chunks,
    ):
        with pytest.raises(TypeError, match=r"digests: found one \w+, wanted a list: \[digest\]"):
            find(digest)


def test_layers_of_an_additional_store_are_present_and_nothing_is_reused_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_store("dir", tmp_path)
    extra = copy_store("estargz", tmp_path)
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver="overlay"\ngraphroot="{root}"\n'
        f'[storage.options]\nadditionalimagestores=["{extra}"]\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    cache = LayersCache.load(open_store())
    assert len(cache.records) == 10
    assert sources(cache) == ["mapped"] * 4 + ["built"]
    assert len(cache.excluded) == 5
    assert all("additional store" in layer.reason for layer in cache.excluded)
    assert not any(layer.is_unread for layer in cache.excluded)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/var/cache/me", "HOME": "/home/me"}, "/var/cache/me/vecache"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/vecache"),
        ({"HOME": "/home/me"}, "/home/me/.cache/vecache"),
        ({"HOME": ""}, "/home/of-the-password-file/.cache/vecache"),
        ({"HOME": "relative"}, "/dev/null/vecache"),
    ],
)
def test_the_build_cache_never_lands_outside_the_user_s_own_folder(
    environ: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda _: "/home/of-the-password-file")
    assert str(BuildCache.of_user(environ).folder) == folder


def test_a_fifo_in_the_build_cache_does_not_stop_the_load(tmp_path: Path) -> None:
    root, folder = copy_store("dir", tmp_path), tmp_path / "cached"
    load(root, build_cache=folder)
    (file,) = (folder / "built").iterdir()
    file.unlink()
    os.mkfifo(file)
    assert sources(load(root, build_cache=folder))[-1] == "built"


def test_a_read_only_store_is_built_for_in_memory_but_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_store("dir", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for another user, or a read-only mount
    cache = load(root)
    assert all(record.is_read_only for record in cache.records)
    assert sources(cache) == ["mapped"] * 4 + ["built"]
    written = LayersCache.load(open_store(root), build="store")
    assert "nothing was written" in written.excluded[0].reason


def test_strict_raises_what_marking_shows(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    first = layer_ids("dir")[0]
    cache = load(root)
    data = bytearray(golden_cache("dir", first))
    at = cache.layers[0].cache.header.tags_offset
    data[at + 39 : at + 47] = b"\xff" * 8  # the first tag's pointer
    cache_path(root, first).write_bytes(data)
    cache = load(root)
    raw = cache.layers[0].cache.packed[:2, 7:].copy()
    hits = cache.lookup(raw)
    assert hits.state[0] == LookupState.CORRUPT
    assert hits.state[1] == LookupState.FOUND
    with pytest.raises(LocationError, match="tag 0 of layer"):
        cache.lookup(raw, strict=True)
    with pytest.raises(DigestError, match="row 1: 'sha256:q' is not a digest"):
        cache.lookup(["", "sha256:q"], strict=True)


def test_queries_come_as_text_bytes_or_arrow() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    raw = cache.layers[0].cache.packed[:50, 7:].copy()
    texts = ["sha256:" + row.tobytes().hex() for row in raw]
    wanted = cache.lookup(raw).to_arrow()
    assert cache.lookup(texts).to_arrow() == wanted
    assert cache.lookup(pa.array(texts)).to_arrow() == wanted
    assert (
        cache.lookup(pa.chunked_array([texts[:7], texts[7:]], pa.large_string())).to_arrow()
        == wanted
    )
    with pytest.raises(ValueError, match=r"wanted \(n, 32\)"):
        cache.lookup(np.zeros((3, 20), np.uint8))
    with pytest.raises(TypeError, match="uint8"):
        cache.lookup(np.zeros((3, 32), np.int64))


def test_a_result_goes_to_arrow_with_nulls_where_absent() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    raw = np.vstack([cache.layers[0].cache.packed[0, 7:], np.zeros(32, np.uint8)])
    rows = cache.lookup(raw).to_arrow().to_pylist()
    assert rows[0]["layer_id"] == cache.layers[0].id
    assert rows[0]["target"].endswith(f"/overlay/{cache.layers[0].id}/diff")
    assert isinstance(rows[0]["path"], str)
    assert rows[1] == {
        "state": "absent",
        "layer": None,
        "layer_id": None,
        "target": None,
        "path": None,
        "offset": None,
        "length": None,
    }


def test_a_match_inside_a_file_is_no_file_and_ends_the_search() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    tags = [layer.cache for layer in cache.layers]
    raw = np.concatenate([file.packed[:, 7:] for file in tags if file.n_tags])
    chunks, files = cache.find_chunks(raw), cache.find_files(raw)
    inside = chunks.offset > 0
    assert inside.any()
    assert (files.state[inside] == LookupState.ABSENT).all()
    assert (files.layer[~inside] == chunks.layer[~inside]).all()


def test_reading_while_layers_come_and_go(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    folder = root / "overlay-layers"
    records = json.loads((folder / "layers.json").read_text())
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)
    digest = parse_digests(["sha256:" + "f3fae287d2a2911f" * 4])
    stop = threading.Event()

    def podman() -> None:
        """Remove and pull layers, with the list replaced by rename, as Podman does."""
        rng = random.Random(5)
        while not stop.is_set():
            remaining = [record for record in records if rng.random() < 0.7]
            draft = folder / "draft"
            draft.write_text(json.dumps(remaining))
            draft.replace(folder / "layers.json")
            for record in records:
                shutil.rmtree(folder / record["id"], ignore_errors=True)
                if record in remaining:
                    shutil.copytree(backup / record["id"], folder / record["id"])

    writer = threading.Thread(target=podman)
    writer.start()
    try:
        cache = load(root)
        wanted = {record["id"] for record in records}
        for _ in range(100):
            cache = cache.refresh()
            hits = cache.lookup(digest)
            assert (hits.layer < len(cache.layers)).all()
            assert {layer.id for layer in cache.layers} <= wanted
            assert len(cache.layers) + len(cache.excluded) == len(cache.records)
    finally:
        stop.set()
        writer.join()


def test_a_refresh_in_one_thread_leaves_look_ups_in_another_alone(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    listing = root / "overlay-layers" / "layers.json"
    records = json.loads(listing.read_text())
    current, stop, failures = [load(root)], threading.Event(), []
    digests = np.ascontiguousarray(all_digests(current[0])[::20])
    wanted = current[0].lookup(digests).to_arrow()["layer_id"].to_pylist()

    def look_up() -> None:
        while not stop.is_set():
            cache = current[0]
            found = cache.lookup(digests).to_arrow()["layer_id"].to_pylist()
            ids = {layer.id for layer in cache.layers}
            if any(id_ in ids and got != id_ for id_, got in zip(wanted, found, strict=True)):
                failures.append(sorted(ids))

    threads = [threading.Thread(target=look_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(20):  # the layers come and go, so their numbers change
        draft = listing.with_name("draft")
        draft.write_text(json.dumps(records[turn % 2 * 2 :]))
        draft.replace(listing)
        fresh = current[0].refresh()
        assert len(fresh.records) == len(records) - turn % 2 * 2
        current[0] = fresh
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def all_digests(cache: LayersCache) -> U8:
    tags = [layer.cache.packed[:, 7:] for layer in cache.layers if layer.cache.n_tags]
    return np.ascontiguousarray(np.concatenate(tags))


def test_threads_that_look_up_first_share_one_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    digests = all_digests(cache)
    wanted = load(GOLDEN_SMALL / "stores" / "dir").lookup(digests).to_arrow()
    build, built = LayerIndex.build, []

    def slow_build(files: list[CacheFile]) -> LayerIndex:
        built.append(1)
        time.sleep(0.05)  # all threads come while the first one builds
        return build(files)

    monkeypatch.setattr(LayerIndex, "build", slow_build)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.lookup(digests).to_arrow(), range(8)))
    assert all(table == wanted for table in found)
    assert len(built) == 1


def test_a_set_and_a_result_show_counts_and_bytes() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir", build="never")
    n_bytes = sum(layer.cache.n_bytes for layer in cache.layers)
    assert f"4 layers, {cache.n_tags:,} tags, {n_bytes:,} bytes, 1 excluded>" in repr(cache)
    assert "none was to be built" in cache._repr_html_()
    assert cache.layers[0].id in cache._repr_html_()
    hits = cache.lookup(["", "sha256:q", "sha256:" + "0" * 64])
    assert repr(hits) == "<LookupResult: 3 queries, 0 found, 1 not a digest, 0 bytes>"
    assert '<td>invalid</td><td style="text-align: right">1</td>' in hits._repr_html_()


def test_a_match_without_a_name_is_no_file_to_reuse(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    entry = {"type": "reg", "name": "", "size": 1, "digest": "sha256:" + "5" * 64}
    toc = json.dumps({"version": 1, "entries": [entry]}).encode()
    cache_path(root, layer_ids("dir")[0]).write_bytes(build_cache(toc))
    cache = load(root)
    assert cache.lookup([entry["digest"]]).layer.tolist() == [0]
    assert cache.find_files([entry["digest"]]).layer.tolist() == [-1]  # Go: `name == ""`
