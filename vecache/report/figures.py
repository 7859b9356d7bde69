"""What does a cache file or a TOC hold, in figures? The numbers behind `inspect` and `layers`.

A cache file has no list of files: a name is stored once, so the names that its locations point at
are the files, and a file ends where the last of its locations does. That costs one pass over all
locations, about 0.2 us a tag.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.cache.validate import validate
from vecache.cache.writer import pack_cache
from vecache.errors import VecacheError
from vecache.toc.entries import ChunkKind, EntryKind
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from vecache.cache.reader import CacheFile
    from vecache.toc.parse import Toc

__all__ = ["cache_figures", "describe_cache", "describe_toc"]


def cache_figures(cache: CacheFile) -> dict[str, Any]:
    """Count what a cache file holds."""
    located = cache.locate(np.arange(cache.n_tags))
    sound = ~located.is_corrupt
    names, end = located.name_offset[sound], (located.offset + located.length)[sound]
    order = np.lexsort((end, names))
    names, end = names[order], end[order]
    is_last = np.ones(len(names), np.bool_)
    is_last[:-1] = names[1:] != names[:-1]
    return {
        "n_tags": cache.n_tags,
        "n_files": int(is_last.sum()),
        "file_bytes": int(end[is_last].sum()),
        "cache_bytes": cache.n_bytes,
        "bloom_fill": cache.bloom.fill,
        "false_positive_rate": cache.bloom.false_positive_rate(),
    }


def describe_cache(cache: CacheFile) -> dict[str, Any]:
    """Say all there is to say about one cache file."""
    return {
        "kind": "cache",
        **asdict(cache.header),
        "algorithm": cache.algorithm.name.lower() if cache.n_tags else None,
        **cache_figures(cache),
        "problems": [asdict(problem) for problem in validate(cache)],
    }


def describe_toc(toc: Toc) -> dict[str, Any]:
    """Say all there is to say about one TOC."""
    entries = toc.entries
    is_file = entries.kind == EntryKind.REG
    is_chunk = (is_file & (entries.size > 0)) | (entries.kind == EntryKind.CHUNK)
    by_kind = np.bincount(entries.kind, minlength=len(EntryKind))
    cache_bytes, problems = _cache_sizes(toc)
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
