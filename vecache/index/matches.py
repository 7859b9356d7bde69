"""Find every match of some digests in many cache files, without an index over the files.

A fleet has more tags than fit into memory, and an image has few digests. So the digests are put
into a table, and the tags of one file after another are read once and compared with it.

1. `DigestTable` gives each distinct digest of some columns a number, its code. The sha256 ones are
   a `Run`: sorted by prefix, with a fan-out table.
2. Most tags are none of them. Some bits of a tag's prefix select an entry of a table of booleans,
   which rules out all but a few per cent; the others are searched in the run and compared in full.
3. What such a search finds in a file whose tags are in order is the first tag of each digest. That
   is where Go's binary search ends; its bloom filter is asked for these few. In any other file, and
   for other algorithms, Go's search itself is asked (`CacheFile.find_tags`).
4. The location of each match is read once.

Measured on 40 M tags: 35 ns a tag for the 99,000 digests of an image, with a million matches, 80
for those of four images. 32 bytes a match, 60 bytes a digest. Files are read by several threads,
and their pages are released.
Source: containers/storage pkg/chunked/cache_linux.go findDigestInternal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.arrays import frozen, ragged_arange
from vecache.cache.bloom import digest_hashes
from vecache.cache.format import N_HASHES
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.files import RESIDENT_BYTES, release_pages
from vecache.index.location_table import LOCATION_ROW, LocationTable, pack_locations
from vecache.index.merge import read_prefixes
from vecache.index.run import Run, fan_out, take_rows
from vecache.index.tags import LayerTags
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    import numpy.typing as npt

    from vecache.arrays import I64, U8, U32, U64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.digest import Digests

    _Found: TypeAlias = tuple[list[int], I64, I64, npt.NDArray[np.void]]

__all__ = ["DigestTable", "TagMatches", "find_matches"]

_FILES_PER_BLOCK = 8
_MAX_ROUNDS = 64
"""Digests of one prefix that a tag is compared with in bulk; see `lookup.py`."""
_BITS_PER_DIGEST = 4  # log2 of how many entries of the table of booleans there are for each digest
_WORDS_PER_ROW = RAW_BYTES[Algorithm.SHA256] // 8
_SHA256_WORD = np.frombuffer(Algorithm.SHA256.prefix.tobytes() + b"\0", "<u8")[0]
_PREFIX_MASK = np.uint64(2 ** (8 * PREFIX_BYTES) - 1)


class DigestTable:
    """The distinct digests of some columns, each with a number: its code.

    Parameters
    ----------
    columns : iterable of Digests
        Whole columns, no rows of others. Rows that are empty or not a digest have no code.

    Attributes
    ----------
    run : Run
        The sha256 digests; the address of a row is its code.
    packed : dict of Algorithm to (n, digest_len) uint8
        The digests of each algorithm; codes count through them, sha256 first.
    first_code : dict of Algorithm to int
        Code of the first digest of each algorithm.
    """

    def __init__(self, columns: Iterable[Digests]) -> None:
        self._columns = {id(column): column for column in columns}
        self._codes: dict[int, I64] = {
            key: np.full(len(column), -1, np.int64) for key, column in self._columns.items()
        }
        self.packed: dict[Algorithm, U8] = {}
        self.first_code: dict[Algorithm, int] = {}
        self._n_codes = 0
        for algorithm in RAW_BYTES:  # three
            self._add(algorithm)
        self.run, self._is_used = _sorted_run(self.packed[Algorithm.SHA256])
        self._hashes = digest_hashes(self.packed[Algorithm.SHA256])

    def _add(self, algorithm: Algorithm) -> None:
        """Give a code to the distinct digests of one algorithm, in the order of the columns."""
        found = {key: column.packed(algorithm) for key, column in self._columns.items()}
        width = PREFIX_BYTES + RAW_BYTES[algorithm]
        packed = np.concatenate(
            [np.empty((0, width), np.uint8), *(each for _, each in found.values())]
        )
        distinct, numbers = _distinct_rows(packed)
        self.packed[algorithm], self.first_code[algorithm] = distinct, self._n_codes
        code = self._n_codes + numbers
        self._n_codes += len(distinct)
        start = 0
        for key, (rows, _) in found.items():
            self._codes[key][rows] = code[start : start + len(rows)]
            start += len(rows)

    def codes(self, digests: Digests) -> I64:
        """(n,) int64: the code of each row of a column, or of rows taken from one; -1 for none."""
        column, rows = digests.source or (digests, None)
        codes = self._codes.get(id(column))
        if codes is None:
            raise ValueError("digests: found a column that this table was not made of")
        return codes if rows is None else codes.take(rows)

    def may_have(self, prefixes: U64) -> Bool:
        """(n,) bool: False where no sha256 digest has the prefix."""
        bucket = prefixes >> np.uint64(65 - len(self._is_used).bit_length())
        return self._is_used.take(bucket.view(np.int64))

    def admitted(self, file: CacheFile, codes: I64) -> Bool:
        """(n,) bool: whether the bloom filter of a file admits the sha256 digests."""
        if file.bloom.n_hashes == N_HASHES:
            return file.bloom.may_contain_rows(self._hashes, codes)
        return file.bloom.may_contain(self.packed[Algorithm.SHA256][codes])

    def __len__(self) -> int:
        return self._n_codes

    def __repr__(self) -> str:
        return f"<DigestTable: {len(self):,} digests of {len(self._columns):,} columns>"


class TagMatches:
    """The tag that Go would answer with, for each digest in each file that has it.

    Attributes
    ----------
    files : tuple of CacheFile
        Where was searched.
    table : DigestTable
        The digests.
    start : (n_files + 1,) int64
        The matches in a file are the rows from `start[i]` to before `start[i + 1]`.
    code : (n,) int64
        Code of each match's digest; each comes once a file.
    tag : (n,) uint32
        Row of the tag in the file.
    locations : LocationTable
        The location of each match: tag `row` of layer 0 is that of match `row`.
    """

    def __init__(
        self,
        files: tuple[CacheFile, ...],
        table: DigestTable,
        start: I64,
        code: I64,
        tag: U32,
        rows: npt.NDArray[np.void],
    ) -> None:
        self.files, self.table = files, table
        self.start, self.code, self.tag = frozen(start), frozen(code), frozen(tag)
        self._numbers = {id(file): number for number, file in enumerate(files)}
        self.locations = LocationTable(frozen(rows), frozen(np.zeros(1, np.int64)))

    def rows_of(self, files: I64) -> I64:
        """(m,) int64: the matches in some files, in the given order of the files."""
        return ragged_arange(self.start[files], self.start[files + 1] - self.start[files])

    def number_of(self, file: CacheFile) -> int:
        """Return the number of a file; of the last one, where it was given several times."""
        return self._numbers[id(file)]

    def limited_to(self, table: DigestTable, columns: Iterable[Digests]) -> TagMatches:
        """Return the matches of some of the columns, with the codes of a table of them alone."""
        number = np.full(len(self.table), -1, np.int64)
        for column in columns:
            codes = self.table.codes(column)
            is_digest = codes >= 0
            number[codes[is_digest]] = table.codes(column)[is_digest]
        code = number[self.code]
        rows = np.flatnonzero(code >= 0)
        start = np.searchsorted(rows, self.start)
        return TagMatches(
            self.files, table, start, code[rows], self.tag[rows], self.locations.rows[rows]
        )

    def __len__(self) -> int:
        return len(self.code)

    def __repr__(self) -> str:
        return f"<TagMatches: {len(self):,} matches in {len(self.start) - 1:,} files>"


def find_matches(
    files: Sequence[CacheFile], table: DigestTable, threads: int | None = None
) -> TagMatches:
    """Find the tag of each digest in each file.

    Parameters
    ----------
    files : sequence of CacheFile
        Each is read once.
    table : DigestTable
        What to find.
    threads : int, optional
        How many to use; see `thread_count`.

    Returns
    -------
    TagMatches
        By file, in each in no order.
    """
    is_large = sum(file.n_bytes for file in files) > RESIDENT_BYTES

    def search(block: slice) -> _Found:
        members = files[block]
        found = [_search_file(file, table) for file in members]
        counts = [len(code) for code, _ in found]
        code, tag = (np.concatenate(part) for part in zip(*found, strict=True))
        layer = np.repeat(np.arange(len(members)), counts)
        rows = pack_locations(LayerTags.of_files(members).locate(layer, tag, 1))
        if is_large:
            for file in members:
                release_pages(file.data)
        return counts, code, tag, rows

    nothing = np.empty(0, np.int64)
    empty: _Found = ([], nothing, nothing, np.empty(0, LOCATION_ROW))
    parts = [empty]
    parts += map_blocks(search, len(files), _FILES_PER_BLOCK, threads)
    start = np.cumsum([0, *(n for counts, *_ in parts for n in counts)])
    code, tag, rows = (np.concatenate([part[n] for part in parts]) for n in (1, 2, 3))
    return TagMatches(tuple(files), table, start, code, tag.astype(np.uint32), rows)


def _search_file(file: CacheFile, table: DigestTable) -> tuple[I64, I64]:
    """Return the code and the tag of each digest that Go would find in a file."""
    nothing = np.empty(0, np.int64)
    if not file.n_tags or file.algorithm is Algorithm.INVALID:
        return nothing, nothing
    if file.algorithm is not Algorithm.SHA256:
        n_codes = len(table.packed[file.algorithm])
        return _ask_file(file, table, table.first_code[file.algorithm] + np.arange(n_codes))
    prefixes = read_prefixes(file.packed, PREFIX_BYTES)
    code, tag, pending = _search_tags(file, prefixes, table)
    if not _is_in_order(file, prefixes):
        return _ask_file(file, table, np.union1d(code, pending))
    is_first = np.ones(len(code), np.bool_)
    is_first[1:] = code[1:] != code[:-1]  # tags of one digest are adjacent
    code, tag = code[is_first], tag[is_first]
    is_answer = table.admitted(file, code)
    if len(pending):
        is_answer &= ~np.isin(code, pending)
    code, tag = code[is_answer], tag[is_answer]
    asked, tag_asked = _ask_file(file, table, pending) if len(pending) else (nothing, nothing)
    return np.concatenate([code, asked]), np.concatenate([tag, tag_asked])


def _search_tags(file: CacheFile, prefixes: U64, table: DigestTable) -> tuple[I64, I64, I64]:
    """Return the code and the row of each tag that is in the table; and the codes not compared."""
    run = table.run
    tag = np.flatnonzero(table.may_have(prefixes))
    row = run.find_prefixes(prefixes[tag])
    tag, row = tag[row >= 0], row[row >= 0]
    raw = file.packed[:, PREFIX_BYTES:].view(f"V{8 * _WORDS_PER_ROW}")[:, 0]
    words = raw[tag].view(np.uint64).reshape(-1, _WORDS_PER_ROW)
    codes, tags = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for _ in range(_MAX_ROUNDS):
        if not len(tag):
            break
        is_equal, _, code = run.compare(row, words)
        codes.append(code[is_equal])
        tags.append(tag[is_equal])
        rest = np.flatnonzero(~is_equal)
        row = run.next_of_prefix(row[rest], prefixes[tag[rest]])
        rest, row = rest[row >= 0], row[row >= 0]
        tag, words = tag[rest], words[rest]
    code, found = np.concatenate(codes), np.concatenate(tags)
    if len(codes) > 2:  # several rounds
        order = np.argsort(found, kind="stable")
        code, found = code[order], found[order]
    pending = row[:0]
    if len(tag):
        pending = (run.rows[np.isin(run.prefixes, prefixes[tag]), 0]).view(np.int64)
    return code, found, pending


def _ask_file(file: CacheFile, table: DigestTable, codes: I64) -> tuple[I64, I64]:
    """Search a file Go's way; return the codes that it has, and the tag of each."""
    packed = table.packed[file.algorithm][codes - table.first_code[file.algorithm]]
    tag = file.find_tags(packed)
    is_found = tag >= 0
    return codes[is_found], tag[is_found]


def _is_in_order(file: CacheFile, prefixes: U64) -> bool:
    """Return whether all tags of a file are sha256 digests in ascending order."""
    if not (prefixes[1:] >= prefixes[:-1]).all():
        return False
    packed = file.packed
    equal = np.flatnonzero(prefixes[1:] == prefixes[:-1])
    text = f"S{packed.shape[1]}"
    first, second = (packed[rows].view(text)[:, 0] for rows in (equal, equal + 1))
    if not (first <= second).all():
        return False
    head = packed[:, :8].view("<u8")[:, 0] & _PREFIX_MASK
    return bool((head == _SHA256_WORD).all())


def _distinct_rows(packed: U8) -> tuple[U8, I64]:
    """Return the distinct rows of (n, width) uint8, and (n,) int64: the number of each row."""
    width = packed.shape[1]
    array = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(packed), [None, pa.py_buffer(np.ascontiguousarray(packed))]
    )
    encoded = array.dictionary_encode()
    buffer = encoded.dictionary.buffers()[1] or b""
    distinct = np.frombuffer(buffer, np.uint8, len(encoded.dictionary) * width)
    return distinct.reshape(-1, width), encoded.indices.to_numpy().astype(np.int64)


def _sorted_run(packed: U8) -> tuple[Run, Bool]:
    """Make a run of distinct sha256 digests, the address of each its index, and the booleans."""
    n_digests = len(packed)
    raw = np.ascontiguousarray(packed[:, PREFIX_BYTES:])
    prefixes = read_prefixes(raw)
    order = np.argsort(prefixes, kind="stable")
    prefixes, rows = prefixes[order], take_rows(raw.view(np.uint64), order)
    rows[:, 0] = order
    n_bits = n_digests.bit_length() + _BITS_PER_DIGEST
    is_used = np.zeros(1 << n_bits, np.bool_)
    is_used[(prefixes >> np.uint64(64 - n_bits)).view(np.int64)] = True
    run = Run(frozen(prefixes), frozen(rows), frozen(fan_out(prefixes)), np.zeros(1, np.int64))
    return run, is_used
