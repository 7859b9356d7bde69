"""Layers for hypothesis: small TOCs over a few contents, so that they share, repeat and mislead."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.oracle import OracleCache, read_cache
from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource
from vecache.plan.options import PlanOptions
from vecache.store.records import LayerRecord
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc

CONTENTS = ["sha256:" + hashlib.sha256(b"%d" % n).hexdigest() for n in range(6)]
NAMES = ["a", "b", "", "usr/c", ".wh.a", "usr/.wh..wh..opq", ".wh./x", "d/.wh.e/"]
GAPS = [0, 0, 0, 1, 1024, 1025, 5000]
SIZES = [1, 500, 1024, 4096]
KINDS = ["reg"] * 6 + ["dir", "symlink", "hardlink", "char", "block", "fifo"]


@dataclass(frozen=True)
class StoredLayer:
    """A layer of a store: its TOC, its layout, and its cache file, sound or damaged."""

    toc: bytes
    layout: Layout
    cache: bytes

    @property
    def oracle(self) -> OracleCache:
        return read_cache(self.cache)

    @property
    def complete_oracle(self) -> OracleCache:
        """With all of its chunks."""
        is_flat = self.layout is Layout.FLAT
        return read_cache(packed(self.toc, Layout.DIR)) if is_flat else self.oracle


def packed(toc: bytes, layout: Layout) -> bytes:
    return pack_cache(Toc.parse(toc).entries, layout)


@st.composite
def tocs(draw: st.DrawFn, *, sound: bool = False) -> tuple[bytes, int]:
    """A TOC, and its offset in the blob; unless sound, with sizes larger than the chunks, or 0."""
    entries: list[dict[str, Any]] = []
    offset = draw(st.sampled_from([0, 100]))
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(KINDS))
        entry: dict[str, Any] = {"type": kind, "name": draw(st.sampled_from(NAMES))}
        if kind != "reg":
            is_device = kind in ("char", "block", "fifo")
            entries.append(entry | ({"size": draw(st.sampled_from([0, 9]))} if is_device else {}))
            continue
        entry |= {"digest": draw(st.sampled_from(CONTENTS)), "mode": draw(st.sampled_from([6, 7]))}
        chunks, offset = draw(_chunks(offset))
        size = sum(chunk.pop("_size") for chunk in chunks)
        wrong = [] if sound else [0, size + 3, size + 10]
        entry["size"] = draw(st.sampled_from([size, size, size, *wrong]))
        entries += [entry | chunks[0]]
        entries += [{"type": "chunk", "name": entry["name"], **chunk} for chunk in chunks[1:]]
    offset += draw(st.sampled_from(GAPS))
    return json.dumps({"version": 1, "entries": entries}).encode(), offset


@st.composite
def _chunks(draw: st.DrawFn, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The chunk fields of a file's entries, and where the file ends in the blob."""
    chunks: list[dict[str, Any]] = []
    n_chunks, file_offset = draw(st.sampled_from([1, 1, 1, 2, 4])), 0
    for number in range(n_chunks):
        size = draw(st.sampled_from(SIZES))
        offset += draw(st.sampled_from(GAPS)) if number == 0 else 0
        chunk: dict[str, Any] = {"offset": offset, "_size": size, "chunkOffset": file_offset}
        chunk["chunkDigest"] = draw(st.sampled_from([*CONTENTS, ""]))
        chunk["chunkType"] = draw(st.sampled_from(["", "", "", "", "zeros", "other"]))
        if n_chunks > 1 or draw(st.booleans()):
            chunk["chunkSize"] = size
        chunks.append(chunk)
        offset, file_offset = offset + draw(st.sampled_from([size, size // 2])), file_offset + size
    if draw(st.integers(0, 4)):
        chunks[-1]["endOffset"] = offset
    return chunks, offset


@st.composite
def stored_layers(draw: st.DrawFn, *, sound: bool = False) -> list[StoredLayer]:
    """Layers of a store; unless sound, with a corrupt location or two swapped tags."""
    layers = []
    for _ in range(draw(st.integers(0, 3))):
        toc, _ = draw(tocs())
        layout = draw(st.sampled_from(Layout))
        damage = "" if sound else draw(st.sampled_from(["", "", "", "location", "order"]))
        layers.append(StoredLayer(toc, layout, _damaged(draw, packed(toc, layout), damage)))
    return layers


def _damaged(draw: st.DrawFn, data: bytes, damage: str) -> bytes:
    cache = read_cache(data)
    if not damage or not cache.tags:
        return data
    row = draw(st.integers(0, len(cache.tags) - 1))
    if damage == "location":
        cache.tags[row] = cache.tags[row][: cache.digest_len] + struct.pack("<QQ", 2**40, 3)
    else:
        cache.tags[0], cache.tags[row] = cache.tags[row], cache.tags[0]
    return cache.pack()


OPTIONS = st.builds(
    PlanOptions,
    reflink=st.booleans(),
    hard_links=st.booleans(),
    layout=st.sampled_from(Layout),
    max_ranges=st.sampled_from([1, 2, 3, 1024]),
    gap_bytes=st.sampled_from([0, 1, 1024]),
)


def load_layers(layers: list[StoredLayer]) -> LayersCache:
    """The layers as one set: the plain ones at the start loaded, all others appended."""
    n_loaded = next((i for i, each in enumerate(layers) if each.layout is Layout.FLAT), len(layers))
    records = [make_record(number) for number in range(len(layers))]
    loaded = [
        CachedLayer(record, CacheFile.parse(layer.cache), CacheSource.MAPPED)
        for record, layer in zip(records[:n_loaded], layers, strict=False)
    ]
    cache = LayersCache(records[:n_loaded], loaded)
    for record, layer in zip(records[n_loaded:], layers[n_loaded:], strict=True):
        entries = Toc.parse(layer.toc).entries
        appended = CacheFile.parse(layer.cache)
        cache = cache.append(
            CachedLayer(
                record, appended, CacheSource.APPENDED, entries=entries, layout=layer.layout
            )
        )
    return cache


def make_record(number: int) -> LayerRecord:
    nothing = Path("/nowhere")
    return LayerRecord(
        id=f"{number:064x}",
        diff_digest=f"sha256:{number:064x}",
        store_root=nothing,
        files_root=nothing,
        is_read_only=False,
    )
