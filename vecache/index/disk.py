"""Write a run of sorted tags to a file, and map it.

The file says of which cache files the tags are. All numbers are in the byte order of the machine;
another order makes another magic.

===========  ==================================================================================
offset       head: read, and held against its checksum, when the file is opened
===========  ==================================================================================
0            u64 magic
8            u64 checksum: xxh3_64 of the head from offset 16
16           u32 version; u32 bytes of a page
24           u64 store: the key of the store that the layers are of
32           u64 time of writing, in ns since 1970
40           u64 n_layers; u64 n_tags; u64 bucket_bits
64           n_layers x 64 bytes, `LAYER`: the cache file of each layer
..           n_pages x u64: xxh3_64 of each page
===========  ==================================================================================

Pages follow from the next multiple of their size on. Each column of `Run` begins with a page, and
zeros fill its last one.

===========  ==================================================================================
rows         column
===========  ==================================================================================
2**bits + 1  u32 bucket_start
n_tags       u64 prefixes
n_tags       4 x u64 rows
===========  ==================================================================================

A page is held against its checksum before the first of its rows is read. So a process pays for what
it reads, and no byte that has changed since it was written is believed.

44 to 48 bytes a tag on disk. In memory, beyond the map, one for each page of 4 KiB: 0.012 a tag.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xxhash

from vecache.arrays import frozen
from vecache.errors import IndexDamagedError
from vecache.files import open_regular, release_pages, replace_file
from vecache.index.merge import sorted_blocks
from vecache.index.run import Run, bucket_bits, count_buckets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    import numpy.typing as npt

    from vecache.arrays import I64, U8, U64
    from vecache.cache.reader import CacheFile

    Layers = npt.NDArray[Any]

__all__ = ["LAYER", "VERSION", "StoredRun", "open_run", "run_bytes", "write_run"]

LAYER: Final = np.dtype(
    [
        ("id", "u8", 2),  # xxh3_128 of the layer's id and the digest of its TOC
        ("device", "u8"),
        ("inode", "u8"),
        ("n_bytes", "u8"),
        ("mtime_ns", "i8"),
        ("n_tags", "u8"),
        ("is_sound", "u8"),  # 1 where its tags are in the run; see `is_indexed`
    ]
)
"""One layer of a run, and what tells its cache file from any other."""

_HEAD: Final = np.dtype(
    [
        ("magic", "u8"),
        ("checksum", "u8"),
        ("version", "u4"),
        ("page_bytes", "u4"),
        ("store", "u8"),
        ("time_ns", "u8"),
        ("n_layers", "u8"),
        ("n_tags", "u8"),
        ("bucket_bits", "u8"),
    ]
)
VERSION: Final = 1
_MAGIC: Final = int.from_bytes(b"vecaidx\n", "little")
_SUMMED_FROM: Final = 16
_PAGE_BYTES: Final = 4096
_MAX_BUCKET_BITS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class StoredRun:
    """A run in a mapped file, and what the file says of it.

    Attributes
    ----------
    path : str
        The file.
    time_ns : int
        When it was written.
    n_bytes : int
        Size of the file.
    layers : (n_layers,) LAYER
        The cache files that the tags are of.
    columns : dict
        The columns of `Run` by name.
    guard : PageGuard
        Verifies them.
    """

    path: str
    time_ns: int
    n_bytes: int
    layers: Layers
    columns: dict[str, npt.NDArray[Any]]
    guard: PageGuard

    def as_run(self, layer_of: I64) -> Run:
        """Return it as a run of an index, of whose layers `layer_of` has the numbers."""
        return Run(**self.columns, layer_of=frozen(layer_of), guard=self.guard)


class PageGuard:
    """Verifies the pages of a mapped run before they are read, each once.

    Threads may share it: at worst two of them verify the same page.
    """

    __slots__ = (
        "_checksums",
        "_columns",
        "_data",
        "_first_byte",
        "_is_verified",
        "_n_left",
        "_path",
    )

    def __init__(self, path: str, data: U8, layout: _Layout, checksums: U64) -> None:
        self._path, self._data, self._checksums = path, data, checksums
        self._columns, self._first_byte = layout.columns, layout.pages_offset
        self._is_verified = np.zeros(len(checksums), np.bool_)
        self._n_left = len(checksums)

    def check(self, column: str, rows: I64) -> None:
        """Verify the pages with these rows of a column; raise `IndexDamagedError`."""
        if not self._n_left:
            return
        where = self._columns[column]
        pages = rows // where.rows_per_page
        pages += where.first_page
        pages = pages[~self._is_verified.take(pages)]
        if len(pages):
            pages.sort()  # not np.unique: that imports numpy.ma, 7 ms of a short run
            self._verify(pages[np.diff(pages, prepend=-1) > 0])

    def check_all(self) -> None:
        """Verify all pages."""
        self._verify(np.flatnonzero(~self._is_verified))

    def release(self) -> None:
        """Return the memory of pages that were read."""
        release_pages(self._data)

    def _verify(self, pages: I64) -> None:
        found = _hash_pages(self._data, self._first_byte + pages * _PAGE_BYTES)
        if (found != self._checksums[pages]).any():
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # or every process would find the damage again
            raise IndexDamagedError(f"{self._path}: a page is damaged")
        self._is_verified[pages] = True
        self._n_left = len(self._is_verified) - int(np.count_nonzero(self._is_verified))


class _Column(NamedTuple):
    dtype: str
    row_bytes: int
    n_rows: int
    first_page: int

    @property
    def rows_per_page(self) -> int:
        return _PAGE_BYTES // self.row_bytes

    @property
    def end_page(self) -> int:
        return self.first_page + -(-self.n_rows // self.rows_per_page)


class _Layout:
    """Where everything is in a file, by its counts."""

    __slots__ = ("checksums_offset", "columns", "head_bytes", "n_bytes", "n_pages", "pages_offset")

    def __init__(self, n_layers: int, n_tags: int, n_bucket_bits: int) -> None:
        buckets = _Column("u4", 4, (1 << n_bucket_bits) + 1, 0)
        prefixes = _Column("u8", 8, n_tags, buckets.end_page)
        rows = _Column("u8", 32, n_tags, prefixes.end_page)
        self.columns = {"bucket_start": buckets, "prefixes": prefixes, "rows": rows}
        self.n_pages = rows.end_page
        self.checksums_offset = _HEAD.itemsize + n_layers * LAYER.itemsize
        self.head_bytes = self.checksums_offset + 8 * self.n_pages
        self.pages_offset = -(-self.head_bytes // _PAGE_BYTES) * _PAGE_BYTES
        self.n_bytes = self.pages_offset + self.n_pages * _PAGE_BYTES

    def offset(self, column: str) -> int:
        """Return where a column begins."""
        return self.pages_offset + self.columns[column].first_page * _PAGE_BYTES


def run_bytes(n_layers: int, n_tags: int) -> int:
    """Return the size of the file that `write_run` writes."""
    return _Layout(n_layers, n_tags, bucket_bits(n_tags)).n_bytes


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
    is_sound = layers["is_sound"] == 1
    members = [
        file if sound else None for file, sound in zip(files, is_sound.tolist(), strict=True)
    ]
    n_tags = int(layers["n_tags"][is_sound].sum())
    bits = bucket_bits(n_tags)
    layout = _Layout(len(layers), n_tags, bits)
    with replace_file(path, mode=0o600, sync=False) as file:
        _write_columns(file, layout, members)
        head = np.zeros((), _HEAD)
        head["magic"], head["version"], head["page_bytes"] = _MAGIC, VERSION, _PAGE_BYTES
        head["store"], head["time_ns"] = store, time.time_ns()
        head["n_layers"], head["n_tags"], head["bucket_bits"] = len(layers), n_tags, bits
        checksums = _read_checksums(file, layout)
        summed = head.tobytes()[_SUMMED_FROM:] + layers.tobytes() + checksums.tobytes()
        head["checksum"] = xxhash.xxh3_64_intdigest(summed)
        file.seek(0)
        file.write(head.tobytes()[:_SUMMED_FROM] + summed)


def _write_columns(file: BinaryIO, layout: _Layout, files: Sequence[CacheFile | None]) -> None:
    bucket_start = np.zeros(layout.columns["bucket_start"].n_rows, np.uint32)
    at = {name: layout.offset(name) for name in layout.columns}
    for prefixes, rows in sorted_blocks(files):
        count_buckets(bucket_start, prefixes)
        for name, block in (("prefixes", prefixes), ("rows", rows)):
            file.seek(at[name])
            at[name] += file.write(block.data)
    file.seek(at["bucket_start"])
    file.write(np.cumsum(bucket_start, out=bucket_start).data)
    file.truncate(layout.n_bytes)  # longer: the rest of the last page of each column is zeros


def _read_checksums(file: BinaryIO, layout: _Layout) -> U64:
    """(n_pages,) uint64: the checksums of what was written."""
    file.flush()
    data = np.memmap(file.name, np.uint8, mode="r").view(np.ndarray)
    pages = np.arange(layout.n_pages, dtype=np.int64)
    return _hash_pages(data, layout.pages_offset + pages * _PAGE_BYTES)


def _hash_pages(data: U8, offsets: I64) -> U64:
    """(n,) uint64: the checksum of the page at each offset."""
    # A loop over pages: 0.3 us each, of which most is hashing.
    slices = map(slice, offsets.tolist(), (offsets + _PAGE_BYTES).tolist())
    checksums = map(xxhash.xxh3_64_intdigest, map(data.data.__getitem__, slices))
    return np.fromiter(checksums, np.uint64, len(offsets))


def open_run(path: str, store: int) -> StoredRun:
    """Map the file of a run.

    Parameters
    ----------
    path : str
        The file.
    store : int
        Key of the store that it should be of.

    Returns
    -------
    StoredRun
        Its head is verified, and its pages when they are read.

    Raises
    ------
    OSError
        If it cannot be opened.
    IndexDamagedError
        If it is not a file that this version wrote for this store and this user.
    """
    with open_regular(path) as (file, n_bytes):
        owner = os.fstat(file.fileno()).st_uid
        if owner != os.geteuid() or n_bytes < _HEAD.itemsize:
            raise IndexDamagedError(f"{path}: not an index of this user")
        data = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    head = data[: _HEAD.itemsize].view(_HEAD)[0]
    wanted = _MAGIC, VERSION, _PAGE_BYTES, store
    if tuple(int(head[name]) for name in ("magic", "version", "page_bytes", "store")) != wanted:
        raise IndexDamagedError(f"{path}: not an index of this version and store")
    n_layers, n_tags, bits = (int(head[name]) for name in ("n_layers", "n_tags", "bucket_bits"))
    layout = _Layout(n_layers, n_tags, min(bits, _MAX_BUCKET_BITS))
    if layout.n_bytes != n_bytes:
        raise IndexDamagedError(f"{path}: found {n_bytes:,} bytes, wanted {layout.n_bytes:,}")
    if xxhash.xxh3_64_intdigest(data[_SUMMED_FROM : layout.head_bytes].data) != head["checksum"]:
        raise IndexDamagedError(f"{path}: its head is damaged")
    layers = data[_HEAD.itemsize : layout.checksums_offset].view(LAYER)
    checksums = data[layout.checksums_offset : layout.head_bytes].view("u8")
    guard = PageGuard(path, data, layout, checksums)
    columns = {}
    for name, column in layout.columns.items():
        start = layout.offset(name)
        columns[name] = data[start : start + column.n_rows * column.row_bytes].view(column.dtype)
    columns["rows"] = columns["rows"].reshape(-1, 4)
    return StoredRun(path, int(head["time_ns"]), n_bytes, layers, columns, guard)
