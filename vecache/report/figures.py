"""Figures of a cache file, a TOC and a store's layers, behind `inspect` and `layers`.

A cache file has no list of files. A name is stored once, so the names that its locations point at
are the files, and a file ends where the last of its locations does: one pass over all locations,
about 0.2 us a tag.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.cache.bloom import random_hashes
from vecache.cache.validate import validate
from vecache.cache.writer import pack_cache
from vecache.errors import VecacheError
from vecache.index.load import open_cache
from vecache.store.names import LayerNames
from vecache.toc.entries import ChunkKind, EntryKind
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.arrays import U32
    from vecache.cache.reader import CacheFile
    from vecache.index.layers_cache import LayersCache
    from vecache.toc.parse import Toc

__all__ = ["cache_figures", "describe_cache", "describe_toc", "layers_table"]


def cache_figures(cache: CacheFile, hashes: Sequence[U32] | None = None) -> dict[str, Any]:
    """Count what a cache file holds; with `random_hashes` given, they are not made once a file."""
    located = cache.locate(np.arange(cache.n_tags))
    sound = ~located.is_corrupt
    names, end = located.name_offset[sound], (located.offset + located.length)[sound]
    order = np.argsort(names)
    first = np.flatnonzero(np.diff(names[order], prepend=-1))
    file_bytes = np.maximum.reduceat(end[order], first) if len(first) else end
    if hashes is not None and cache.bloom.n_hashes != len(hashes):  # as no writer has ever set it
        hashes = None
    return {
        "n_tags": cache.n_tags,
        "n_files": len(first),
        "file_bytes": int(file_bytes.sum()),
        "cache_bytes": cache.n_bytes,
        "bloom_fill": cache.bloom.fill,
        "false_positive_rate": cache.bloom.false_positive_rate(hashes),
    }


def describe_cache(cache: CacheFile) -> dict[str, Any]:
    """Return the document that `inspect` prints of a cache file."""
    return {
        "kind": "cache",
        **asdict(cache.header),
        "algorithm": cache.algorithm.name.lower() if cache.n_tags else None,
        **cache_figures(cache),
        "problems": [asdict(problem) for problem in validate(cache)],
    }


def describe_toc(toc: Toc) -> dict[str, Any]:
    """Return the document that `inspect` prints of a TOC."""
    entries = toc.entries
    is_file = entries.kind == EntryKind.REG
    is_chunk = (is_file & (entries.size > 0)) | (entries.kind == EntryKind.CHUNK)
    by_kind = np.bincount(entries.kind, minlength=len(EntryKind))
    cache_bytes, problems = _cache_sizes(toc)
    if toc.is_blank:
        problems.append({"reason": "it is not a TOC: it has neither a version nor entries"})
    return {
        "kind": "toc",
        "version": toc.version,
        "toc_bytes": toc.n_bytes,
        "n_entries": len(entries),
        "entries": {kind.name.lower(): int(by_kind[kind]) for kind in EntryKind if by_kind[kind]},
        "n_files": int(is_file.sum()),
        "file_bytes": int(entries.size[is_file].sum()),
        "n_chunks": int(is_chunk.sum()),
        "n_holes": int((is_chunk & (entries.chunk_kind == ChunkKind.ZEROS)).sum()),
        "n_xattrs": len(entries.xattrs),
        "tar_split_digest": toc.tar_split_digest,
        "cache_bytes_by_layout": cache_bytes,
        "problems": problems,
    }


def _cache_sizes(toc: Toc) -> tuple[dict[str, int | None], list[dict[str, str]]]:
    sizes: dict[str, int | None] = {}
    problems = []
    for layout in Layout:  # two, not rows
        try:
            sizes[str(layout)] = len(pack_cache(toc.entries, layout))
        except VecacheError as error:
            sizes[str(layout)] = None
            problems.append({"reason": f"no cache file in the {layout} layout: {error}"})
    return sizes, problems


_SCHEMA = {
    "layer": pa.int64(),
    "layer_id": pa.string(),
    "parent": pa.string(),
    "image_names": pa.list_(pa.string()),
    "created_by": pa.string(),
    "cache": pa.string(),
    "n_tags": pa.int64(),
    "n_files": pa.int64(),
    "file_bytes": pa.int64(),
    "cache_bytes": pa.int64(),
    "bloom_fill": pa.float64(),
    "false_positive_rate": pa.float64(),
    "reason": pa.string(),
    "diff_digest": pa.string(),
    "compressed_diff_digest": pa.string(),
    "toc_digest": pa.string(),
    "target": pa.string(),
    "is_read_only": pa.bool_(),
}


def layers_table(cache: LayersCache) -> Any:
    """Return one row for each layer that counts as present, in store order."""
    numbers = {layer.record: number for number, layer in enumerate(cache.layers)}
    reasons = {layer.record: layer.reason for layer in cache.excluded}
    hashes = random_hashes()
    rows = []
    unnamed = LayerNames()
    for record in cache.records:  # layers, not rows of data
        number = numbers.get(record)
        names = cache.layer_names.get(record.id, unnamed)
        row: dict[str, Any] = {
            "layer": number,
            "layer_id": record.id,
            "parent": record.parent,
            "image_names": list(names.image_names),
            "created_by": names.created_by or None,
            "cache": "none",
            "reason": reasons.get(record),
            "diff_digest": record.diff_digest,
            "compressed_diff_digest": record.compressed_diff_digest,
            "toc_digest": record.toc_digest,
            "target": str(record.target),
            "is_read_only": record.is_read_only,
        }
        if number is not None:
            layer = cache.layers[number]
            row |= cache_figures(layer.cache, hashes)
            row |= {"cache": str(layer.source), "reason": layer.problem or None}
        elif cache.store is not None and record.store_root != cache.store.root:
            with contextlib.suppress(VecacheError):  # no cache, or a damaged one: never used either
                row |= cache_figures(open_cache(record))
                row["cache"] = "unused"
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=pa.schema(_SCHEMA))
