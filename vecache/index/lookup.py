"""Which layer holds each digest? The whole batch against all layers at once.

1. The key column nominates a tag for each query; among equal prefixes in layer order.
2. One gather over all maps fetches the nominees' digests; all 32 bytes must be equal. Where they
   are not, the next key of the same prefix is asked, a few rounds at most.
3. Layers that a key search may not speak for are asked apart, the way Go asks: bloom filter, then
   its own binary search. These are files whose tags are out of order or missing from their filter,
   and files of another algorithm; real ones are neither.
4. The lowest layer wins, and in it the first tag of the file.

The answers are those of asking one digest at a time, layer by layer.
Source: containers/storage pkg/chunked/cache_linux.go findDigestInternal, findBinaryTag.

Layers that join later, as a pull's do, get a small key column of their own behind the first:
sorting all keys again for each would cost a second on a large store.

12 bytes a tag at most, beyond the maps. Does not look at locations: see `result.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.digest import PREFIX_BYTES, Algorithm
from vecache.files import release_pages
from vecache.index.address_view import RESIDENT_BYTES
from vecache.index.keys import build_keys
from vecache.index.tags import LayerMaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8, U64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.digest import Digests
    from vecache.index.keys import KeyColumn

__all__ = ["LayerIndex"]

_MAX_ROUNDS = 8
"""Keys of one prefix that are verified in bulk before the layers are asked apart. Two sha256
digests that share 30 bits are already rare; eight are somebody's work."""

_MATCHES_PER_BLOCK = 1 << 20


class LayerIndex:
    """All tags of an ordered set of cache files, ready to be asked in bulk."""

    __slots__ = ("_apart", "_base", "_is_trusted", "_joined", "_n_base", "files", "maps")

    def __init__(
        self, files: Sequence[CacheFile], base: KeyColumn | None = None, n_base: int = 0
    ) -> None:
        self.files = tuple(files)
        self.maps = LayerMaps(self.files)
        if base is None:
            base, n_base = _index_files(self.files), len(files)
        self._base, self._n_base = base, n_base
        self._joined = _index_files(self.files[n_base:])
        self._is_trusted = np.array([_is_sha256(f) and f.is_sound() for f in self.files], np.bool_)
        self._apart = [
            number
            for number, file in enumerate(self.files)
            if file.n_tags and not self._is_trusted[number]
        ]

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds beyond the maps."""
        return self._base.nbytes + self._joined.nbytes

    def append(self, file: CacheFile) -> LayerIndex:
        """Return an index with one more layer at the end, which shares this one's column."""
        return LayerIndex((*self.files, file), self._base, self._n_base)

    def find_first(self, digests: Digests) -> tuple[I64, I64]:
        """Find the tag that Go would answer with.

        Parameters
        ----------
        digests : Digests
            n queries.

        Returns
        -------
        layer_no, tag_row : (n,) int64
            The first layer that holds the digest and the first such tag in it; -1 where absent.
        """
        layer_no = np.full(len(digests), -1, np.int64)
        tag_row = np.full(len(digests), -1, np.int64)
        rows = np.flatnonzero(digests.is_sha256)
        raw = digests.raw if len(rows) == len(digests) else digests.raw[rows]
        layer_no[rows], tag_row[rows], unsettled = self._find_by_key(raw)
        for number in self._apart:  # over the few layers that keys cannot speak for
            self._ask_apart(digests, number, layer_no, tag_row)
        if len(unsettled):
            rows = rows[unsettled]
            rest, layer, tag = digests.take(rows), layer_no[rows], tag_row[rows]
            for number in range(len(self.files)):
                self._ask_apart(rest, number, layer, tag)
            layer_no[rows], tag_row[rows] = layer, tag
        return layer_no, tag_row

    def find_all(self, digests: Digests) -> tuple[I64, I64, I64]:
        """Find every tag with each digest, whatever bloom filters and tag order say.

        Parameters
        ----------
        digests : Digests
            n queries.

        Returns
        -------
        query_row, layer_no, tag_row : (n_matches,) int64
            Ordered by query, then layer, then tag.
        """
        empty = np.empty(0, np.int64)
        blocks = [(empty, empty, empty), *self.iter_all(digests)]
        query_row, layer_no, tag_row = (np.concatenate(part) for part in zip(*blocks, strict=True))
        order = np.lexsort((tag_row, layer_no, query_row))
        return query_row[order], layer_no[order], tag_row[order]

    def iter_all(self, digests: Digests) -> Iterator[tuple[I64, I64, I64]]:
        """Find every tag with each digest, a block at a time.

        Parameters
        ----------
        digests : Digests
            n queries.

        Yields
        ------
        query_row, layer_no, tag_row : (n_matches,) int64
            A bounded number of matches, in no order.
        """
        rows = np.flatnonzero(digests.is_sha256)
        raw = digests.raw[rows]
        for column, first_layer in ((self._base, 0), (self._joined, self._n_base)):
            yield from self._iter_by_key(column, first_layer, rows, raw)
        for number, file in enumerate(self.files):  # hardly ever a layer
            if file.n_tags and file.algorithm in (Algorithm.SHA384, Algorithm.SHA512):
                yield from _iter_apart(digests, number, file)

    def _find_by_key(self, raw: U8) -> tuple[I64, I64, I64]:
        """First verified tag in the trusted layers, and the queries left open after all rounds."""
        layer_no, tag_row, unsettled = self._verify_rounds(self._base, 0, raw)
        if len(self._joined):
            is_open = layer_no < 0
            is_open[unsettled] = False
            rows = np.flatnonzero(is_open)
            layer, tag, more = self._verify_rounds(self._joined, self._n_base, raw[rows])
            layer_no[rows], tag_row[rows] = layer, tag
            unsettled = np.concatenate([unsettled, rows[more]])
        return layer_no, tag_row, unsettled

    def _verify_rounds(self, column: KeyColumn, first_layer: int, raw: U8) -> tuple[I64, I64, I64]:
        layer_no = np.full(len(raw), -1, np.int64)
        tag_row = np.full(len(raw), -1, np.int64)
        prefixes = column.prefix(_read_prefixes(raw))
        key_row = column.find_first(prefixes)
        active = np.flatnonzero(key_row >= 0)
        for _ in range(_MAX_ROUNDS):
            if not len(active):
                break
            layer, tag = column.unpack(key_row[active])
            layer += first_layer
            is_answer = self._is_equal(layer, tag, raw[active]) & self._is_trusted[layer]
            settled = active[is_answer]
            layer_no[settled], tag_row[settled] = layer[is_answer], tag[is_answer]
            active = active[~is_answer]
            key_row[active] = column.next_of_prefix(key_row[active], prefixes[active])
            active = active[key_row[active] >= 0]
        return layer_no, tag_row, active

    def _iter_by_key(
        self, column: KeyColumn, first_layer: int, rows: I64, raw: U8
    ) -> Iterator[tuple[I64, I64, I64]]:
        prefixes = column.prefix(_read_prefixes(raw))
        first = column.find_first(prefixes)
        hit = np.flatnonzero(first >= 0)
        n_keys = column.find_end(prefixes[hit]) - first[hit]
        for run, key_row in _iter_runs(first[hit], n_keys):
            query = hit[run]
            layer_no, tag_row = column.unpack(key_row)
            layer_no += first_layer
            is_equal = self._is_equal(layer_no, tag_row, raw[query])
            # A trusted layer's tags were seen to be sha256; another's may say anything in front.
            is_equal &= self._is_trusted[layer_no] | self.maps.is_sha256(layer_no, tag_row)
            yield rows[query[is_equal]], layer_no[is_equal], tag_row[is_equal]

    def _is_equal(self, layer_no: I64, tag_row: I64, raw: U8) -> Bool:
        """(n,) bool: whether each tag's whole digest is the query's."""
        found = self.maps.raw_digests(layer_no, tag_row)
        wanted = np.ascontiguousarray(raw).view(np.uint64)
        is_equal: Bool = found[:, 0] == wanted[:, 0]
        for word in range(1, found.shape[1]):  # four words a digest
            is_equal &= found[:, word] == wanted[:, word]
        return is_equal

    def _ask_apart(self, digests: Digests, number: int, layer_no: I64, tag_row: I64) -> None:
        """Ask one layer Go's way for what no earlier layer answered; fill in place."""
        file = self.files[number]
        if not file.n_tags or file.algorithm is Algorithm.INVALID:
            return
        rows, packed = digests.packed(file.algorithm)
        is_open = (layer_no[rows] < 0) | (layer_no[rows] > number)
        rows = rows[is_open]
        found = file.find_tags(packed[is_open])
        layer_no[rows[found >= 0]] = number
        tag_row[rows[found >= 0]] = found[found >= 0]


def _index_files(files: Sequence[CacheFile]) -> KeyColumn:
    counts = [file.n_tags if _is_sha256(file) else 0 for file in files]
    is_much = sum(file.n_bytes for file in files) > RESIDENT_BYTES
    return build_keys(_read_prefixes_of(files, is_much=is_much), counts)


def _read_prefixes_of(files: Sequence[CacheFile], *, is_much: bool) -> Iterator[U64]:
    """Read what the key column takes, file by file; check each while its pages are at hand."""
    for file in files:
        prefixes = _key_prefixes(file)
        file.is_sound()
        if is_much:
            release_pages(file.data)
        yield prefixes


def _is_sha256(file: CacheFile) -> bool:
    return file.algorithm is Algorithm.SHA256


def _key_prefixes(file: CacheFile) -> U64:
    """(n_tags,) uint64: what the key column takes from a file; nothing from other algorithms."""
    if not _is_sha256(file) or not file.n_tags:
        return np.empty(0, np.uint64)
    stored: U64 = np.ndarray(
        file.n_tags, ">u8", file.data, file.header.tags_offset + PREFIX_BYTES, (file.tag_len,)
    )
    return stored.astype(np.uint64)


def _read_prefixes(raw: U8) -> U64:
    prefixes: U64 = np.ascontiguousarray(raw).view(np.dtype(">u8"))[:, 0].astype(np.uint64)
    return prefixes


def _iter_apart(digests: Digests, number: int, file: CacheFile) -> Iterator[tuple[I64, I64, I64]]:
    """Every match in one file of another algorithm: a sort of both sides, rare and small."""
    rows, packed = digests.packed(file.algorithm)
    width = file.digest_len
    queries = np.ascontiguousarray(packed).view(f"S{width}").reshape(-1)
    tags = np.ascontiguousarray(file.tags["digest"]).view(f"S{width}").reshape(-1)
    order = np.argsort(tags, kind="stable")
    start = np.searchsorted(tags, queries, side="left", sorter=order).astype(np.int64)
    n_found = np.searchsorted(tags, queries, side="right", sorter=order).astype(np.int64) - start
    for run, place in _iter_runs(start, n_found):
        yield rows[run], np.full(len(run), number, np.int64), order[place]


def _iter_runs(starts: I64, lengths: I64) -> Iterator[tuple[I64, I64]]:
    """Yield (run, value) of all `arange(start, start + length)`, a block of rows at a time."""
    ends = np.cumsum(lengths)
    n_rows = int(ends[-1]) if len(ends) else 0
    for begin in range(0, n_rows, _MATCHES_PER_BLOCK):
        row = np.arange(begin, min(begin + _MATCHES_PER_BLOCK, n_rows))
        run = np.searchsorted(ends, row, side="right")
        yield run, starts[run] + row - (ends[run] - lengths[run])
