"""Look up digests in all layers at once.

The tags of a cache file are an array of records on its map (`np.memmap`, see `cache/reader.py`):
a digest of 39 bytes (`sha256:` and the raw ones), and where its location is. The tags of all layers
are sorted by digest once, into runs (`run.py`). A batch of digests is looked up in four steps.

1. Search. The first 8 raw bytes of a digest are its prefix. A fan-out table and a step or two in
   the column of prefixes find the first tag of the same prefix, of equal ones the first layer's.
2. Verify. The other 24 bytes must be equal too; where they are not, the next tag of the same prefix
   is compared, for some rounds.
3. Fall back. Files in which this search may not find what Go's search finds are searched one by
   one, as Go does: bloom filter, then binary search. Their tags are out of order, missing from the
   filter, or of another algorithm; real files are not like that.
4. The first layer wins, and in it the first tag of the file.

Only step 3 needs bloom filters. A sound file's filter was checked to admit all of its tags, so all
that it could rule out is digests that the search does not find either.

Queries are taken in blocks whose arrays stay in the processor's cache, on several threads. Each row
is answered by itself, so the answers do not depend on blocks or threads. They are those of looking
up one digest at a time, layer by layer.
Source: containers/storage pkg/chunked/cache_linux.go findDigestInternal, findBinaryTag.

44 to 48 bytes a tag in memory, beyond the maps. Locations and names are read later: see
`result.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.digest import Algorithm
from vecache.errors import IndexDamagedError
from vecache.index.merge import is_indexed, read_prefixes
from vecache.index.run import MAPPED_BYTES, build_run, merge_runs, split_sorted, take_rows
from vecache.index.tags import LayerTags
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.digest import Digests
    from vecache.index.run import Run
    from vecache.index.tags import Tags

__all__ = ["LayerIndex"]

_QUERIES_PER_BLOCK = 1 << 15

_MAX_ROUNDS = 64
"""Tags of one prefix that are verified in bulk before each layer is searched. Two sha256 digests
that share 30 bits are already rare; more were made to, or are of layers that are gone."""

_MATCHES_PER_BLOCK = 1 << 20


class LayerIndex:
    """All tags of an ordered set of cache files, to look up in bulk.

    Parameters
    ----------
    files : sequence of CacheFile
        A layer's number is its index here.
    runs : sequence of Run
        The tags of all sound layers, each layer in one run.
    is_sound : (n_layers,) bool
        Layers in which a search of sorted digests finds what Go's search finds.
    tags : Tags, optional
        The tags of the files, where they are at hand.
    """

    __slots__ = ("files", "is_sound", "runs", "tags")

    def __init__(
        self,
        files: Sequence[CacheFile],
        runs: Sequence[Run],
        is_sound: Bool,
        tags: Tags | None = None,
    ) -> None:
        self.files = tuple(files)
        self.runs = tuple(runs)
        self.is_sound = is_sound
        self.tags: Tags = LayerTags.of_files(files) if tags is None else tags

    @classmethod
    def build(cls, files: Sequence[CacheFile]) -> LayerIndex:
        """Sort the tags of all files in memory, and check which files are sound."""
        run = build_run(files, np.arange(len(files)))
        return cls(
            files,
            [run] if len(run) else [],
            np.array([is_indexed(file) for file in files], np.bool_),
        )

    def append(self, file: CacheFile) -> LayerIndex:
        """Return an index with one more layer at the end; this one stays as it is."""
        runs = [*self.runs, build_run([file], np.array([len(self.files)]))]
        # A run is merged with the one before it unless that is more than twice as long: each tag
        # is moved a few times, and runs stay few. A mapped run is left as it is.
        while len(runs) > 1 and runs[-2].guard is None and len(runs[-2]) <= 2 * len(runs[-1]):
            runs[-2:] = [merge_runs(*runs[-2:])]
        is_sound = np.append(self.is_sound, is_indexed(file))
        return LayerIndex((*self.files, file), runs, is_sound, self.tags.append(file))

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds beyond the maps."""
        return sum(run.nbytes for run in self.runs if run.guard is None)

    def find_first(self, digests: Digests, threads: int | None = None) -> tuple[I64, I64]:
        """Find the tag that Go would answer with.

        Parameters
        ----------
        digests : Digests
            n queries.
        threads : int, optional
            How many to use; see `thread_count`.

        Returns
        -------
        layer_no, tag_row : (n,) int64
            The first layer that holds the digest and the first such tag in it; -1 where absent.
        """
        layer_no, tag_row = np.full((2, len(digests)), -1, np.int64)
        rows, words = _sha256_words(digests)
        try:
            undecided = self._search_runs(rows, words, layer_no, tag_row, threads)
        except IndexDamagedError:
            self._rebuild_mapped()
            return self.find_first(digests, threads)
        for number in np.flatnonzero(~self.is_sound).tolist():
            self._search_layer(number, digests, layer_no, tag_row)
        if len(undecided):
            rest, layer, tag = digests.take(undecided), layer_no[undecided], tag_row[undecided]
            for number in range(len(self.files)):
                self._search_layer(number, rest, layer, tag)
            layer_no[undecided], tag_row[undecided] = layer, tag
        return layer_no, tag_row

    def _search_runs(
        self, rows: I64, words: U64, layer_no: I64, tag_row: I64, threads: int | None
    ) -> I64:
        """Find the first tags in sound layers; fill in place, and return the undecided rows."""
        runs = [run for run in self.runs if len(run)]
        order, n_queries = _query_order(runs, words)
        is_every_row = len(rows) == len(layer_no)

        def search(block: slice) -> I64:
            if is_every_row and order is None:
                undecided = _search_block(runs, words[block], layer_no[block], tag_row[block])
                undecided += block.start
                return undecided
            picked = np.arange(block.start, block.stop) if order is None else order[block]
            here = rows[picked]
            layer, tag = np.full((2, len(here)), -1, np.int64)
            undecided = here[_search_block(runs, take_rows(words, picked), layer, tag)]
            layer_no[here], tag_row[here] = layer, tag
            if order is not None:
                _release(runs)
            return undecided

        is_short = len(rows) <= _QUERIES_PER_BLOCK
        undecided = map_blocks(search, len(rows), n_queries, 1 if is_short else threads)
        return np.concatenate([np.empty(0, np.int64), *undecided])

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

    def _rebuild_mapped(self) -> None:
        """Replace the mapped runs, one of which is damaged, by one that is built from the files."""
        runs = self.runs  # another thread may do the same, so this is read once
        mapped = [run.layer_of for run in runs if run.guard is not None]
        if not mapped:
            return
        layer_of = np.sort(np.concatenate(mapped))
        layer_of = layer_of[layer_of >= 0]
        run = build_run([self.files[number] for number in layer_of.tolist()], layer_of)
        self.runs = (run, *(run for run in runs if run.guard is None))

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
        rows, words = _sha256_words(digests)
        try:
            runs = self.runs
            found = [_find_matches(run, words) for run in runs]
        except IndexDamagedError:
            self._rebuild_mapped()
            runs = self.runs
            found = [_find_matches(run, words) for run in runs]
        for run, (query, first, n_rows) in zip(runs, found, strict=True):
            for block, row in _iter_ranges(first, n_rows):
                wanted = words[query[block]]
                is_equal, layer_no, tag_row = run.compare(row, wanted)
                is_equal &= run.prefixes[row] == read_prefixes(wanted.view(np.uint8))
                yield rows[query[block[is_equal]]], layer_no[is_equal], tag_row[is_equal]
        for number in np.flatnonzero(~self.is_sound).tolist():
            file = self.files[number]
            if file.n_tags and file.algorithm is not Algorithm.INVALID:
                yield from _iter_file(file, number, digests)


def _search_block(runs: Sequence[Run], words: U64, layer_no: I64, tag_row: I64) -> I64:
    """Find the first tags of a block of queries; fill in place, and return the undecided rows."""
    prefixes = read_prefixes(words.view(np.uint8))
    undecided = [np.empty(0, np.int64)]
    for run in runs:
        key_row = run.find_prefixes(prefixes)
        active = np.flatnonzero(key_row >= 0)
        key_row = key_row.take(active)
        for _ in range(_MAX_ROUNDS):
            if not len(active):
                break
            is_equal, layer, tag = run.compare(key_row, words.take(active, axis=0))
            before = layer_no.take(active)
            is_answer = is_equal & ((before < 0) | (layer < before))
            found = active[is_answer]
            layer_no[found], tag_row[found] = layer[is_answer], tag[is_answer]
            active, key_row = active[~is_equal], key_row[~is_equal]
            key_row = run.next_of_prefix(key_row, prefixes.take(active))
            is_left = key_row >= 0
            active, key_row = active[is_left], key_row[is_left]
        undecided.append(active)
    return np.concatenate(undecided)


def _find_matches(run: Run, words: U64) -> tuple[I64, I64, I64]:
    """Return the queries whose prefix the run has, the first row of each, and how many to compare.

    What is compared then was checked here, so a mapped run is read to its end or not at all.
    """
    prefixes = read_prefixes(words.view(np.uint8))
    order, n_queries = _query_order([run], words)

    def find(block: slice) -> tuple[I64, I64, I64]:
        picked = np.arange(block.start, block.stop) if order is None else order[block]
        first = run.find_prefixes(prefixes[picked])
        hit = np.flatnonzero(first >= 0)
        query, first = picked[hit], first[hit]
        n_rows = run.bucket_ends(prefixes[query]) - first
        if run.guard is not None:
            for _, row in _iter_ranges(first, n_rows):
                run.check("prefixes", row)
                run.check("rows", row)
        if order is not None:
            _release([run])
        return query, first, n_rows

    empty = np.empty(0, np.int64)
    parts = [(empty, empty, empty), *map_blocks(find, len(words), n_queries)]
    query, first, n_rows = (np.concatenate(part) for part in zip(*parts, strict=True))
    return query, first, n_rows


def _query_order(runs: Sequence[Run], words: U64) -> tuple[I64 | None, int]:
    """Return the order to take queries in, None for their own, and how many at a time."""
    n_mapped = sum(run.nbytes for run in runs if run.guard is not None)
    if n_mapped <= MAPPED_BYTES:
        return None, _QUERIES_PER_BLOCK
    # Each page of a large mapped run is read once, and released.
    first_bits = (read_prefixes(words.view(np.uint8)) >> np.uint64(48)).astype(np.uint16)
    order = np.argsort(first_bits, kind="stable")
    return order, split_sorted(len(words), n_mapped, _QUERIES_PER_BLOCK)


def _release(runs: Sequence[Run]) -> None:
    """Return the memory of the pages of mapped runs."""
    for run in runs:
        if run.guard is not None:
            run.guard.release()


def _sha256_words(digests: Digests) -> tuple[I64, U64]:
    """Return the rows with a sha256 digest, and (n, 4) uint64: their raw bytes."""
    rows = np.flatnonzero(digests.is_sha256)
    raw = digests.raw if len(rows) == len(digests) else digests.raw[rows]
    return rows, raw.view(np.uint64)


def _iter_file(file: CacheFile, number: int, digests: Digests) -> Iterator[tuple[I64, I64, I64]]:
    """Yield every match in one file that has no tags in a run; both sides are sorted for that."""
    rows, packed = digests.packed(file.algorithm)
    width = file.digest_len
    queries = np.ascontiguousarray(packed).view(f"S{width}").reshape(-1)
    tags = np.ascontiguousarray(file.tags["digest"]).view(f"S{width}").reshape(-1)
    order = np.argsort(tags, kind="stable")
    first = np.searchsorted(tags, queries, side="left", sorter=order).astype(np.int64)
    n_rows = np.searchsorted(tags, queries, side="right", sorter=order).astype(np.int64) - first
    for query, sorted_row in _iter_ranges(first, n_rows):
        yield rows[query], np.full(len(query), number, np.int64), order[sorted_row]


def _iter_ranges(starts: I64, lengths: I64) -> Iterator[tuple[I64, I64]]:
    """Yield (range, value) of all `arange(start, start + length)`, a block of rows at a time."""
    ends = np.cumsum(lengths)
    n_rows = int(ends[-1]) if len(ends) else 0
    for begin in range(0, n_rows, _MATCHES_PER_BLOCK):
        row = np.arange(begin, min(begin + _MATCHES_PER_BLOCK, n_rows))
        number = np.searchsorted(ends, row, side="right")
        yield number, starts[number] + row - (ends[number] - lengths[number])
