"""Map a file of sorted tags, a run on disk, and verify what is read of it.

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
40           u64 n_layers; u64 n_tags; u64 n_located; u64 bucket_bits
72           n_layers x 64 bytes, `LAYER`: the cache file of each layer
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
n_located    `LOCATION_ROW` locations: of the tags of each layer, in the order of its file
===========  ==================================================================================

Locations have all layers whose tags are in the run, but for files of 4 GiB and more.

A page is held against its checksum before the first of its rows is read. So a process pays for what
it reads, and no byte that has changed since it was written is believed.

68 to 72 bytes a tag on disk. In memory, beyond the map, one for each page of 4 KiB: 0.018 a tag.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xxhash

from vecache.arrays import frozen
from vecache.errors import IndexDamagedError
from vecache.files import open_regular, release_pages
from vecache.index.location_table import LOCATION_ROW, LocationTable
from vecache.index.run import Run, bucket_bits

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import I64, U8, U64, Bool

    Layers = npt.NDArray[Any]

__all__ = [
    "HEAD",
    "LAYER",
    "MAGIC",
    "PAGE_BYTES",
    "SUMMED_FROM",
    "VERSION",
    "RunLayout",
    "StoredRun",
    "hash_pages",
    "is_located",
    "open_run",
]

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

HEAD: Final = np.dtype(
    [
        ("magic", "u8"),
        ("checksum", "u8"),
        ("version", "u4"),
        ("page_bytes", "u4"),
        ("store", "u8"),
        ("time_ns", "u8"),
        ("n_layers", "u8"),
        ("n_tags", "u8"),
        ("n_located", "u8"),
        ("bucket_bits", "u8"),
    ]
)
VERSION: Final = 1
MAGIC: Final = int.from_bytes(b"vecaidx\n", "little")
SUMMED_FROM: Final = 16
PAGE_BYTES: Final = 4096
_MAX_BUCKET_BITS: Final = 32
_MAX_LOCATED_BYTES: Final = 2**32
_PAGES_PER_BLOCK: Final = 1 << 14  # 64 MiB


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
        """Return the sorted tags, for an index that has the layers by the numbers `layer_of`."""
        columns = {name: self.columns[name] for name in ("bucket_start", "prefixes", "rows")}
        return Run(**columns, layer_of=frozen(layer_of), guard=self.guard)

    def as_table(self, layer_of: I64, n_layers: int) -> LocationTable:
        """Return the locations, for an index of `n_layers` that has the layers by `layer_of`."""
        mask = is_located(self.layers)
        counts = np.where(mask, self.layers["n_tags"], 0).astype(np.int64)
        is_here = mask & (layer_of >= 0)
        start = np.full(n_layers, -1, np.int64)
        start[layer_of[is_here]] = (np.cumsum(counts) - counts)[is_here]
        return LocationTable(self.columns["locations"], frozen(start), self.guard)


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

    def __init__(self, path: str, data: U8, layout: RunLayout, checksums: U64) -> None:
        self._path, self._data, self._checksums = path, data, checksums
        self._columns, self._first_byte = layout.columns, layout.pages_offset
        self._is_verified = np.zeros(len(checksums), np.bool_)
        self._n_left = len(checksums)

    def check(self, column: str, rows: I64) -> None:
        """Verify the pages with these rows of a column; raise `IndexDamagedError`."""
        if not self._n_left:
            return
        where = self._columns[column]
        starts = rows * where.row_bytes
        pages = starts // PAGE_BYTES
        if PAGE_BYTES % where.row_bytes:  # a row may end in the next page
            ends = (starts + (where.row_bytes - 1)) // PAGE_BYTES
            pages = np.concatenate([pages, ends[ends > pages]])
        pages += where.first_page
        pages = pages[~self._is_verified.take(pages)]
        if len(pages):
            pages.sort()  # not np.unique: that imports numpy.ma, 7 ms of a short run
            self._verify(pages[np.diff(pages, prepend=-1) > 0])

    def check_all(self) -> None:
        """Verify all pages."""
        self._verify(np.flatnonzero(~self._is_verified))

    def count_damaged(self) -> int:
        """Count the pages that are not as they were written; nothing is removed."""
        n_damaged = 0
        for start in range(0, len(self._checksums), _PAGES_PER_BLOCK):
            wanted = self._checksums[start : start + _PAGES_PER_BLOCK]
            pages = np.arange(start, start + len(wanted))
            found = hash_pages(self._data, self._first_byte + pages * PAGE_BYTES)
            n_damaged += int(np.count_nonzero(found != wanted))
            self.release()
        return n_damaged

    def release(self) -> None:
        """Return the memory of pages that were read."""
        release_pages(self._data)

    def _verify(self, pages: I64) -> None:
        found = hash_pages(self._data, self._first_byte + pages * PAGE_BYTES)
        if (found != self._checksums[pages]).any():
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # or every process would find the damage again
            raise IndexDamagedError(f"{self._path}: a page is damaged")
        self._is_verified[pages] = True
        self._n_left = len(self._is_verified) - int(np.count_nonzero(self._is_verified))


class _Column(NamedTuple):
    dtype: str | np.dtype[Any]
    row_bytes: int
    n_rows: int
    first_page: int

    @property
    def n_bytes(self) -> int:
        return self.n_rows * self.row_bytes

    @property
    def end_page(self) -> int:
        return self.first_page + -(-self.n_bytes // PAGE_BYTES)


class RunLayout:
    """Where everything is in a file, by its counts."""

    __slots__ = (
        "checksums_offset",
        "columns",
        "counts",
        "head_bytes",
        "n_bytes",
        "n_pages",
        "pages_offset",
    )

    def __init__(self, n_layers: int, n_tags: int, n_located: int, n_bucket_bits: int) -> None:
        self.counts = n_layers, n_tags, n_located, n_bucket_bits
        buckets = _Column("u4", 4, (1 << n_bucket_bits) + 1, 0)
        prefixes = _Column("u8", 8, n_tags, buckets.end_page)
        rows = _Column("u8", 32, n_tags, prefixes.end_page)
        locations = _Column(LOCATION_ROW, LOCATION_ROW.itemsize, n_located, rows.end_page)
        self.columns = {
            "bucket_start": buckets,
            "prefixes": prefixes,
            "rows": rows,
            "locations": locations,
        }
        self.n_pages = locations.end_page
        self.checksums_offset = HEAD.itemsize + n_layers * LAYER.itemsize
        self.head_bytes = self.checksums_offset + 8 * self.n_pages
        self.pages_offset = -(-self.head_bytes // PAGE_BYTES) * PAGE_BYTES
        self.n_bytes = self.pages_offset + self.n_pages * PAGE_BYTES

    @classmethod
    def of_layers(cls, layers: Layers) -> RunLayout:
        """Return that of a file that is to be written."""
        n_tags = int(layers["n_tags"][layers["is_sound"] == 1].sum())
        n_located = int(layers["n_tags"][is_located(layers)].sum())
        return cls(len(layers), n_tags, n_located, bucket_bits(n_tags))

    def offset(self, column: str) -> int:
        """Return where a column begins."""
        return self.pages_offset + self.columns[column].first_page * PAGE_BYTES


def is_located(layers: Layers) -> Bool:
    """(n_layers,) bool: layers that have their locations in the file."""
    mask: Bool = (layers["is_sound"] == 1) & (layers["n_bytes"] < _MAX_LOCATED_BYTES)
    return mask


def hash_pages(data: U8, offsets: I64) -> U64:
    """(n,) uint64: the checksum of the page at each offset."""
    # A loop over pages: 0.3 us each, of which most is hashing.
    slices = map(slice, offsets.tolist(), (offsets + PAGE_BYTES).tolist())
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
        if owner != os.geteuid() or n_bytes < HEAD.itemsize:
            raise IndexDamagedError(f"{path}: not an index of this user")
        data = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    head = data[: HEAD.itemsize].view(HEAD)[0]
    wanted = MAGIC, VERSION, PAGE_BYTES, store
    if tuple(int(head[name]) for name in ("magic", "version", "page_bytes", "store")) != wanted:
        raise IndexDamagedError(f"{path}: not an index of this version and store")
    names = ("n_layers", "n_tags", "n_located", "bucket_bits")
    n_layers, n_tags, n_located, bits = (int(head[name]) for name in names)
    layout = RunLayout(n_layers, n_tags, n_located, min(bits, _MAX_BUCKET_BITS))
    if layout.n_bytes != n_bytes:
        raise IndexDamagedError(f"{path}: found {n_bytes:,} bytes, wanted {layout.n_bytes:,}")
    if xxhash.xxh3_64_intdigest(data[SUMMED_FROM : layout.head_bytes].data) != head["checksum"]:
        raise IndexDamagedError(f"{path}: its head is damaged")
    layers = data[HEAD.itemsize : layout.checksums_offset].view(LAYER)
    checksums = data[layout.checksums_offset : layout.head_bytes].view("u8")
    guard = PageGuard(path, data, layout, checksums)
    columns = {}
    for name, column in layout.columns.items():
        start = layout.offset(name)
        columns[name] = data[start : start + column.n_bytes].view(column.dtype)
    columns["rows"] = columns["rows"].reshape(-1, 4)
    return StoredRun(path, int(head["time_ns"]), n_bytes, layers, columns, guard)
