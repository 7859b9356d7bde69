"""The bloom filter of a cache file: whether a layer may contain a digest.

For seed s in 0 ... n_hashes-1 and a packed digest d of L bytes, the number of a bit is
`(crc32(d[:s mod L]) ^ crc32(d[s mod L:])) mod n_bits`, in 32 bits. Hence:

1. Only L seeds differ, whatever `n_hashes` is.
2. CRC-32 is affine, so for rows that share their first s bytes (all begin with `sha256:`) the hash
   of seed s differs from that of seed 0 by a constant. One CRC a row gives all three hashes.
3. For the same reason the hashes are not independent: where `n_words` is a power of two, about
   12 % of unknown digests pass, not the 1.7 % of the upstream comment. `false_positive_rate`
   measures it.

`crc32_rows` computes the CRC-32 of many rows at once; `zlib.crc32` takes one Python call a row. The
CRC of a row is the exclusive or of one table entry for each byte, selected by the byte and by the
number of bytes behind it, and of one constant for the length, which `zlib` gives for the first row.

The bits are read as bytes as the file has them: bit i is bit `i & 7` of byte `i >> 3`, which in
little-endian words is the same bit. About 50 ns a digest, of which the CRC of 32 bytes takes 30;
the tables take 0.04 ms and are not stored. A filter takes 10 bits a tag.

Source: containers/storage pkg/chunked/bloom_filter_linux.go.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.cache.format import N_HASHES
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm, Digests
from vecache.files import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vecache.arrays import I64, U8, U32, Bool

__all__ = ["BloomFilter", "crc32_rows", "digest_hashes", "random_hashes"]

_BITS_PER_TAG = 10  # upstream: bloomFilterScale
_POLYNOMIAL = 0xEDB88320  # of CRC-32 (IEEE), the lowest power in the highest bit
_BYTES_PER_BLOCK = 1 << 24
_ROWS_PER_BLOCK = 1 << 13  # 8,192 rows of 55 bytes stay in the second-level cache


class BloomFilter:
    """A bit array, and the number of hashes that each digest has in it."""

    __slots__ = ("bits", "n_hashes")

    def __init__(self, bits: U8, n_hashes: int = N_HASHES) -> None:
        # (8 * n_words,) uint8 at any alignment, not copied; n_words is not a multiple of 2 ** 26.
        self.bits = frozen(bits.view())
        self.n_hashes = n_hashes

    @classmethod
    def build(cls, packed: U8) -> BloomFilter:
        """Build a writer's filter for (n_tags, digest_len) uint8 digests in any order."""
        n_words = cls.words_for(len(packed))
        bloom = cls(np.zeros(8 * n_words, np.uint8))
        is_set = np.zeros(64 * n_words, np.bool_)
        for bit in bloom._bits_of(packed):  # three hashes
            is_set[bit] = True
        return cls(np.packbits(is_set, bitorder="little"))

    @staticmethod
    def words_for(n_tags: int) -> int:
        """Return the number of words that a writer gives a filter, at least 1."""
        return max(1, -(-_BITS_PER_TAG * n_tags // 64))

    @property
    def n_words(self) -> int:
        """Number of 64-bit words in the bit array."""
        return len(self.bits) // 8

    @property
    def fill(self) -> float:
        """Fraction of bits that are set, 0 to 1."""
        n_set = 0
        for start in range(0, len(self.bits), _BYTES_PER_BLOCK):  # up to 800 MB, in a sparse file
            block = self.bits[start : start + _BYTES_PER_BLOCK]
            n_set += int(np.bitwise_count(block).sum(dtype=np.int64))
            if start:
                release_pages(self.bits)
        return n_set / (8 * len(self.bits))

    def may_contain(self, packed: U8) -> Bool:
        """Query many digests.

        Parameters
        ----------
        packed : (m, digest_len) uint8
            Packed digests, at any strides.

        Returns
        -------
        (m,) bool
            False where the digest was certainly not added.
        """
        return self._are_set(self._bits_of(packed), len(packed))

    def may_contain_rows(self, hashes: Sequence[U32], rows: I64) -> Bool:
        """Query digests whose `digest_hashes` are at hand, where the filter has as many hashes.

        Parameters
        ----------
        hashes : sequence of (n,) uint32
            One for each hash of the filter.
        rows : (m,) int64
            Which of the n digests to query.

        Returns
        -------
        (m,) bool
            As `may_contain`.
        """
        return self._are_set((each.take(rows) % self._n_bits for each in hashes), len(rows))

    def false_positive_rate(self, hashes: Sequence[U32] | None = None) -> float:
        """Return the fraction of random sha256 digests that pass, from their `random_hashes`."""
        hashes = random_hashes(self.n_hashes) if hashes is None else hashes
        if not hashes:
            return 1.0
        bits = (each % self._n_bits for each in hashes)
        rate = float(self._are_set(bits, len(hashes[0])).mean())
        if len(self.bits) > _BYTES_PER_BLOCK:
            release_pages(self.bits)
        return rate

    @property
    def _n_bits(self) -> np.uint32:
        return np.uint32(8 * len(self.bits) % 2**32)  # upstream quirk: counted in 32 bits

    def _are_set(self, bits: Iterable[U32], n_rows: int) -> Bool:
        """(n_rows,) bool: whether all bits of each digest are set."""
        admitted = np.ones(n_rows, np.bool_)
        for bit in bits:  # three hashes, and never more than digest_len
            is_set = self.bits.take(bit >> 3) >> (bit & 7).astype(np.uint8) & 1
            admitted &= is_set.view(np.bool_)
        return admitted

    def _bits_of(self, packed: U8) -> Iterator[U32]:
        """(m,) uint32 for each seed that differs: the bit number of each digest."""
        if packed.shape[1] == 0:  # upstream quirk: an empty digest is the first bit
            yield np.zeros(len(packed), np.uint32)
            return
        for hashes in _hashes(packed, min(self.n_hashes, packed.shape[1])):
            yield hashes % self._n_bits

    def __repr__(self) -> str:
        return f"<BloomFilter: {self.n_words:,} words, {self.n_hashes} hashes, {self.fill:.0%} set>"


def random_hashes(
    n_hashes: int = N_HASHES, n_samples: int = 1 << 16, seed: int = 0
) -> tuple[U32, ...]:
    """Hash random sha256 digests, to measure filters with: (n_samples,) uint32 for each hash."""
    shape = (n_samples, RAW_BYTES[Algorithm.SHA256])
    raw = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    _, packed = Digests.from_raw(raw).packed(Algorithm.SHA256)
    return digest_hashes(packed, n_hashes)


def digest_hashes(packed: U8, n_hashes: int = N_HASHES) -> tuple[U32, ...]:
    """Hash (m, digest_len) packed digests as a filter does: (m,) uint32 for each hash."""
    n_hashes = min(n_hashes, packed.shape[1])
    nothing: U32 = np.empty(0, np.uint32)
    return tuple(_hashes(packed, n_hashes)) if len(packed) else (nothing,) * n_hashes


def _hashes(packed: U8, n_seeds: int) -> Iterator[U32]:
    """(m,) uint32 for each seed: the exclusive or of the CRCs of the two parts."""
    if len(packed) == 0:
        return
    first = packed[0].tobytes()
    heads = packed[:, :PREFIX_BYTES].T
    n_shared = len(heads) if (heads == heads[:, :1]).all() else 0
    whole = crc32_rows(packed, n_shared)
    for seed in range(n_seeds):
        if seed <= n_shared:
            change = zlib.crc32(first[:seed]) ^ zlib.crc32(first[seed:]) ^ zlib.crc32(first)
            yield whole ^ np.uint32(change)
        else:
            yield crc32_rows(packed[:, :seed]) ^ crc32_rows(packed[:, seed:])


def crc32_rows(rows: U8, n_shared: int = 0) -> U32:
    """Compute the CRC-32 (IEEE, as zlib) of each row.

    Parameters
    ----------
    rows : (n, n_columns) uint8
        Any strides: tags in a mapped file are read in place.
    n_shared : int
        Number of leading columns that are equal in all rows; they are skipped.

    Returns
    -------
    (n,) uint32
        `zlib.crc32` of each row.

    Examples
    --------
    >>> rows = np.frombuffer(b"hostname", np.uint8).reshape(2, 4)
    >>> crc32_rows(rows).tolist() == [zlib.crc32(b"host"), zlib.crc32(b"name")]
    True
    """
    n_rows, n_columns = rows.shape
    crc = np.zeros(n_rows, np.uint32)
    if n_rows == 0:
        return crc
    tables = _tables(n_columns - n_shared)
    for start in range(0, n_rows, _ROWS_PER_BLOCK):
        block = rows[start : start + _ROWS_PER_BLOCK, n_shared:]
        out = crc[start : start + _ROWS_PER_BLOCK]
        for table, column in zip(tables, block.T, strict=True):  # the bytes of a digest, not rows
            out ^= table.take(column)
    crc ^= crc[0] ^ np.uint32(zlib.crc32(rows[0].tobytes()))
    return crc


def _tables(n_columns: int) -> U32:
    """(n_columns, 256) uint32: what each byte adds to the CRC in each column."""
    # What one bit adds, from the last bit of a row to the first: each is a shift further.
    changes, change = [], _POLYNOMIAL
    for _ in range(8 * n_columns):
        changes.append(change)
        change = change >> 1 ^ (_POLYNOMIAL if change & 1 else 0)
    bits = np.array(changes, np.uint32).reshape(n_columns, 8)[::-1, ::-1]
    tables = np.zeros((n_columns, 256), np.uint32)
    for bit in range(8):
        half = 1 << bit
        tables[:, half : 2 * half] = tables[:, :half] ^ bits[:, bit : bit + 1]
    return tables
