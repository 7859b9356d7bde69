"""Look up digests in all layers at once.

The tags of a cache file are an array of records on its map (`np.memmap`, see `cache/reader.py`):
a digest of 39 bytes (`sha256:` and the raw ones), and where its location is. A batch of digests
is looked up in four steps.

1. Key. The first 8 raw bytes of all tags' digests are packed into one sorted column of numbers
   (`keys.py`). A search in it nominates a tag for each query, of equal ones the first layer's.
2. Verify. One gather over all maps (`tags.py`) reads the digests of the nominees. All 32 bytes must
   be equal; where they are not, the next key of the same prefix is nominated, for a few rounds.
3. Fall back. Files in which a key search may not find what Go's search finds are searched one by
   one, as Go does: bloom filter, then binary search. Their tags are out of order, missing from the
   filter, or of another algorithm; real files are not like that.
4. The first layer wins, and in it the first tag of the file.

Only step 3 needs bloom filters. A sound file's filter was checked to admit all of its tags, so all
that it could rule out is digests that the key search does not find either.

The answers are those of looking up one digest at a time, layer by layer.
Source: containers/storage pkg/chunked/cache_linux.go findDigestInternal, findBinaryTag.

12 bytes a tag at most, beyond the maps. Locations and names are read later: see `result.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.files import release_pages
from vecache.index.keys import build_keys
from vecache.index.tags import RESIDENT_BYTES, LayerTags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8, U64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.digest import Digests
    from vecache.index.keys import KeyColumn

__all__ = ["LayerIndex"]

_MAX_ROUNDS = 8
"""Keys of one prefix that are verified in bulk before each layer is searched. Two sha256 digests
that share 30 bits are already rare; eight were made to."""

_MATCHES_PER_BLOCK = 1 << 20
_BIG_ENDIAN = np.dtype(">u8")
_DIGEST_BYTES = PREFIX_BYTES + RAW_BYTES[Algorithm.SHA256]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LayerIndex:
    """All tags of an ordered set of cache files, to look up in bulk.

    Attributes
    ----------
    files : tuple of CacheFile
        A layer's number is its index here.
    tags : LayerTags
        Their tags, on the maps.
    columns : (KeyColumn, KeyColumn)
        Keys of the layers that were there from the start, and of those that were appended: sorting
        all keys for each appended layer would cost a second on a large store.
    is_sound : (n_layers,) bool
        Layers in which a key search finds what Go's search finds.
    """

    files: tuple[CacheFile, ...]
    tags: LayerTags
    columns: tuple[KeyColumn, KeyColumn]
    is_sound: Bool

    @classmethod
    def build(cls, files: Sequence[CacheFile]) -> LayerIndex:
        """Read the keys of all files, and check which files are sound."""
        counts = [file.n_tags if _is_sha256(file) else 0 for file in files]
        columns = build_keys(_read_keys(files), counts), build_keys([], [])
        is_sound = np.array([_is_sound(file) for file in files], np.bool_)
        return cls(tuple(files), LayerTags.of_files(files), columns, is_sound)

    def append(self, file: CacheFile) -> LayerIndex:
        """Return an index with one more layer at the end; this one stays as it is."""
        loaded, appended = self.columns
        return LayerIndex(
            (*self.files, file),
            self.tags.append(file),
            (loaded, appended.append(len(self.files), _tag_prefixes(file))),
            np.append(self.is_sound, _is_sound(file)),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds beyond the maps."""
        return sum(column.nbytes for column in self.columns)

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
        tag_row = layer_no.copy()
        undecided = self._search_keys(digests, layer_no, tag_row)
        for number in np.flatnonzero(~self.is_sound).tolist():
            self._search_layer(number, digests, layer_no, tag_row)
        if len(undecided):
            rest, layer, tag = digests.take(undecided), layer_no[undecided], tag_row[undecided]
            for number in range(len(self.files)):
                self._search_layer(number, rest, layer, tag)
            layer_no[undecided], tag_row[undecided] = layer, tag
        return layer_no, tag_row

    def _search_keys(self, digests: Digests, layer_no: I64, tag_row: I64) -> I64:
        """Find the first tags in sound layers; fill in place, and return the undecided rows."""
        rows = np.flatnonzero(digests.is_sha256)
        raw = digests.raw if len(rows) == len(digests) else digests.raw[rows]
        undecided = [np.empty(0, np.int64)]
        for column in filter(len, self.columns):  # the second has later layers only
            prefix = column.prefix(_raw_prefixes(raw))
            key_row = column.find_first(prefix)
            active = np.flatnonzero(key_row >= 0)
            active = active[layer_no[rows[active]] < 0]
            for _ in range(_MAX_ROUNDS):
                if not len(active):
                    break
                layer, tag = column.unpack(key_row[active])
                is_answer = self._is_equal(layer, tag, raw, active) & self.is_sound[layer]
                found = rows[active[is_answer]]
                layer_no[found], tag_row[found] = layer[is_answer], tag[is_answer]
                active = active[~is_answer]
                key_row[active] = column.next_of_prefix(key_row[active], prefix[active])
                active = active[key_row[active] >= 0]
            undecided.append(rows[active])
        return np.concatenate(undecided)

    def _is_equal(self, layer_no: I64, tag_row: I64, raw: U8, query: I64) -> Bool:
        """(n,) bool: whether all 32 bytes of each tag's digest are those of its query."""
        is_equal = np.empty(len(query), np.bool_)
        for rows in self.tags.blocks(layer_no, tag_row):
            found = self.tags.raw_digests(layer_no[rows], tag_row[rows])
            wanted = raw[query[rows]].view(np.uint64)
            block = found[:, 0] == wanted[:, 0]
            for word in range(1, found.shape[1]):  # four words a digest
                block &= found[:, word] == wanted[:, word]
            is_equal[rows] = block
        return is_equal

    def _search_layer(self, number: int, digests: Digests, layer_no: I64, tag_row: I64) -> None:
        """Search one layer Go's way for what no earlier layer has; fill in place."""
        file = self.files[number]
        if not file.n_tags or file.algorithm is Algorithm.INVALID:
            return
        rows, packed = digests.packed(file.algorithm)
        is_open = (layer_no[rows] < 0) | (layer_no[rows] > number)
        rows = rows[is_open]
        found = file.find_tags(packed[is_open])  # bloom filter, then binary search
        layer_no[rows[found >= 0]] = number
        tag_row[rows[found >= 0]] = found[found >= 0]

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
        for column in filter(len, self.columns):
            for query, layer_no, tag_row in self._iter_column(column, raw):
                yield rows[query], layer_no, tag_row
        for number in np.flatnonzero(~self.is_sound).tolist():
            file = self.files[number]
            if file.algorithm in (Algorithm.SHA384, Algorithm.SHA512):
                yield from _iter_file(file, number, digests)

    def _iter_column(self, column: KeyColumn, raw: U8) -> Iterator[tuple[I64, I64, I64]]:
        prefix = column.prefix(_raw_prefixes(raw))
        first = column.find_first(prefix)
        hit = np.flatnonzero(first >= 0)
        n_keys = column.find_end(prefix[hit]) - first[hit]
        for run, key_row in _iter_runs(first[hit], n_keys):
            query = hit[run]
            layer_no, tag_row = column.unpack(key_row)
            is_equal = self._is_equal(layer_no, tag_row, raw, query)
            # A sound layer's tags were seen to be sha256; another's may begin with anything.
            is_equal &= self.is_sound[layer_no] | self.tags.is_sha256(layer_no, tag_row)
            yield query[is_equal], layer_no[is_equal], tag_row[is_equal]


def _read_keys(files: Sequence[CacheFile]) -> Iterator[U64]:
    """Read the prefixes of each file's tags, and check the file while its pages are in memory."""
    is_large = sum(file.n_bytes for file in files) > RESIDENT_BYTES
    for file in files:
        prefixes = _tag_prefixes(file)
        file.is_sound()
        if is_large:
            release_pages(file.data)
        yield prefixes


def _tag_prefixes(file: CacheFile) -> U64:
    """(n_tags,) uint64: the first 8 raw digest bytes of each tag; none of other algorithms."""
    if not _is_sha256(file) or not file.n_tags:
        return np.empty(0, np.uint64)
    return _raw_prefixes(file.packed, PREFIX_BYTES)


def _raw_prefixes(raw: U8, start: int = 0) -> U64:
    """(n,) uint64: 8 bytes of each row, read big-endian."""
    prefixes: U64 = raw[:, start : start + 8].view(_BIG_ENDIAN)[:, 0].astype(np.uint64)
    return prefixes


def _is_sha256(file: CacheFile) -> bool:
    return file.digest_len == _DIGEST_BYTES


def _is_sound(file: CacheFile) -> bool:
    return file.n_tags == 0 or (_is_sha256(file) and file.is_sound())


def _iter_file(file: CacheFile, number: int, digests: Digests) -> Iterator[tuple[I64, I64, I64]]:
    """Yield every match in one file of another algorithm; both sides are sorted for that."""
    rows, packed = digests.packed(file.algorithm)
    width = file.digest_len
    queries = np.ascontiguousarray(packed).view(f"S{width}").reshape(-1)
    tags = np.ascontiguousarray(file.tags["digest"]).view(f"S{width}").reshape(-1)
    order = np.argsort(tags, kind="stable")
    start = np.searchsorted(tags, queries, side="left", sorter=order).astype(np.int64)
    n_found = np.searchsorted(tags, queries, side="right", sorter=order).astype(np.int64) - start
    for run, sorted_row in _iter_runs(start, n_found):
        yield rows[run], np.full(len(run), number, np.int64), order[sorted_row]


def _iter_runs(starts: I64, lengths: I64) -> Iterator[tuple[I64, I64]]:
    """Yield (run, value) of all `arange(start, start + length)`, a block of rows at a time."""
    ends = np.cumsum(lengths)
    n_rows = int(ends[-1]) if len(ends) else 0
    for begin in range(0, n_rows, _MATCHES_PER_BLOCK):
        row = np.arange(begin, min(begin + _MATCHES_PER_BLOCK, n_rows))
        run = np.searchsorted(ends, row, side="right")
        yield run, starts[run] + row - (ends[run] - lengths[run])
