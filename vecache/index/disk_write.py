"""Write the file of a run; `disk.py` has its format.

1. The tags are merged in order and written block by block.
2. Then the locations of all tags, file by file.
3. The pages are read back for their checksums, and the head is written last. The file takes its
   name when it is complete.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

from vecache.atomic import replace_file
from vecache.files import release_pages
from vecache.index.disk import (
    HEAD,
    MAGIC,
    PAGE_BYTES,
    SUMMED_FROM,
    VERSION,
    RunLayout,
    hash_pages,
    is_located,
)
from vecache.index.location_table import pack_location_rows
from vecache.index.merge import sorted_blocks
from vecache.index.run import count_buckets
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from vecache.arrays import U64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.index.disk import Layers

__all__ = ["write_run"]

_ROWS_PER_PART: Final = 1 << 16
_PARTS_PER_BLOCK: Final = 16
_PAGES_PER_BLOCK: Final = 1 << 15  # 128 MiB


def write_run(path: str, store: int, layers: Layers, files: Sequence[CacheFile]) -> None:
    """Sort the tags of cache files and write them, block by block.

    Parameters
    ----------
    path : str
        Takes its name when it is complete. It is not synced: checksums find what a crash has cut.
    store : int
        Key of the store, 64 bits.
    layers : (n_layers,) LAYER
        What tells each file from any other; those that are not sound get no tags.
    files : sequence of CacheFile
        The files.

    Raises
    ------
    OSError
        If it cannot be written. Nothing is left of it then.

    Notes
    -----
    Memory beyond the maps: a block of `sorted_blocks`, and 4 to 8 bytes a tag for the fan-out
    table; 175 MB for 20 million tags.
    """
    layout = RunLayout.of_layers(layers)
    with replace_file(path, mode=0o600, sync=False) as file:
        _write_tags(file, layout, _only(files, layers["is_sound"] == 1))
        _write_locations(file, layout, _only(files, is_located(layers)))
        file.truncate(layout.n_bytes)  # the rest of the last page is zeros
        head = np.zeros((), HEAD)
        head["magic"], head["version"], head["page_bytes"] = MAGIC, VERSION, PAGE_BYTES
        head["store"], head["time_ns"] = store, time.time_ns()
        names = ("n_layers", "n_tags", "n_located", "bucket_bits")
        for name, number in zip(names, layout.counts, strict=True):
            head[name] = number
        checksums = _read_checksums(file, layout)
        summed = head.tobytes()[SUMMED_FROM:] + layers.tobytes() + checksums.tobytes()
        head["checksum"] = xxhash.xxh3_64_intdigest(summed)
        file.seek(0)
        file.write(head.tobytes()[:SUMMED_FROM] + summed)


def _only(files: Sequence[CacheFile], mask: Bool) -> list[CacheFile | None]:
    return [file if is_in else None for file, is_in in zip(files, mask.tolist(), strict=True)]


def _write_tags(file: BinaryIO, layout: RunLayout, files: Sequence[CacheFile | None]) -> None:
    bucket_start = np.zeros(layout.columns["bucket_start"].n_rows, np.uint32)
    offsets = {name: layout.offset(name) for name in ("prefixes", "rows")}
    for prefixes, rows in sorted_blocks(files):
        count_buckets(bucket_start, prefixes)
        for name, block in (("prefixes", prefixes), ("rows", rows)):
            file.seek(offsets[name])
            offsets[name] += file.write(block.data)
    file.seek(layout.offset("bucket_start"))
    file.write(np.cumsum(bucket_start, out=bucket_start).data)


def _write_locations(file: BinaryIO, layout: RunLayout, files: Sequence[CacheFile | None]) -> None:
    file.seek(layout.offset("locations"))
    parts = [
        (member, first, min(first + _ROWS_PER_PART, member.n_tags))
        for member in files
        if member is not None
        for first in range(0, member.n_tags, _ROWS_PER_PART)
    ]
    for start in range(0, len(parts), _PARTS_PER_BLOCK):  # some at a time, on several threads
        block = parts[start : start + _PARTS_PER_BLOCK]
        for rows in map_blocks(lambda at: pack_location_rows(*block[at.start]), len(block), 1):  # noqa: B023 - called at once
            file.write(rows.data)
        for member, _, _ in block:
            release_pages(member.data)


def _read_checksums(file: BinaryIO, layout: RunLayout) -> U64:
    """(n_pages,) uint64: the checksums of what was written."""
    file.flush()
    data = np.memmap(file.name, np.uint8, mode="r").view(np.ndarray)
    checksums = np.empty(layout.n_pages, np.uint64)
    for start in range(0, layout.n_pages, _PAGES_PER_BLOCK):
        pages = np.arange(start, min(start + _PAGES_PER_BLOCK, layout.n_pages))
        checksums[pages] = hash_pages(data, layout.pages_offset + pages * PAGE_BYTES)
        release_pages(data)
    return checksums
