"""A key of 32 bytes for each digest, by which contents are compared and sorted.

The key of a sha256 digest is its raw bytes. Digests of other algorithms are longer; their key is
the sha256 of their text, so that they count too and equal ones stay equal. containers/storage
itself never writes them.

Keys are sorted by their first bytes, packed with the number of the row into one native number.
All 32 bytes of neighbours with the same first ones are compared. Only where two different keys have
these in common do the other bytes decide their order: with real digests that is rare, and with
forged ones it costs time, never correctness.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from vecache.digest import RAW_BYTES, Algorithm

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, U64, Bool
    from vecache.digest import Digests

__all__ = ["KEY_BYTES", "content_keys", "find_keys", "order_keys", "order_words"]

KEY_BYTES = RAW_BYTES[Algorithm.SHA256]
_ROWS_PER_BLOCK = 1 << 15


def content_keys(digests: Digests) -> tuple[U8, Bool]:
    """Return the key of each digest.

    Parameters
    ----------
    digests : Digests of n rows
        Of any algorithm.

    Returns
    -------
    key : (n, 32) uint8
        Zeros where there is none.
    has_key : (n,) bool
        False for an empty text and for one that is not a digest.
    """
    has_key = np.isin(digests.algorithm, list(RAW_BYTES))
    others = np.flatnonzero(has_key & ~digests.is_sha256)
    if not len(others):
        return digests.raw, has_key
    key = digests.raw.copy()
    text = digests.to_text()
    for row in others.tolist():  # hashlib takes one text a call, and such rows are rare
        key[row] = np.frombuffer(hashlib.sha256(text[row].as_py()).digest(), np.uint8)
    return key, has_key


def order_keys(key: U8) -> tuple[I64, Bool]:
    """Sort keys; equal keys stay in the order of their rows.

    Parameters
    ----------
    key : (n, 32) uint8, C-contiguous
        Any order.

    Returns
    -------
    order : (n,) int64
        Rows in ascending order of the key.
    is_first : (n,) bool
        Whether row `order[i]` has another key than row `order[i - 1]`.

    Examples
    --------
    >>> key = np.zeros((3, 32), np.uint8)
    >>> key[0] = 7
    >>> [column.tolist() for column in order_keys(key)]
    [[1, 2, 0], [True, False, True]]
    """
    order, is_alike = _order_high_bits(_native_word(key, 0))
    is_first = _differs_from_previous(key, order, is_alike)
    rows = _rows_in_disorder(is_alike, is_first)
    if len(rows):
        there = order[rows]
        words = [_native_word(key[there], word) for word in (3, 2, 1, 0)]
        order[rows] = there[np.lexsort(words)]
        is_first = _differs_from_previous(key, order, is_alike)
    return order, is_first


def order_words(word: U64) -> tuple[I64, Bool]:
    """Sort numbers that are distributed like a hash; equal ones stay in the order of their rows.

    Parameters
    ----------
    word : (n,) uint64
        Any order.

    Returns
    -------
    order : (n,) int64
        Rows in ascending order of the number.
    is_first : (n,) bool
        Whether row `order[i]` has another number than row `order[i - 1]`.

    Examples
    --------
    >>> [column.tolist() for column in order_words(np.array([9, 8, 9], np.uint64))]
    [[1, 0, 2], [True, True, False]]
    """
    order, is_alike = _order_high_bits(word)
    is_first = _changes(word.take(order))
    rows = _rows_in_disorder(is_alike, is_first)
    if len(rows):
        there = order[rows]
        order[rows] = there[np.argsort(word[there], kind="stable")]
        is_first = _changes(word.take(order))
    return order, is_first


def find_keys(key: U8, queries: U8) -> I64:
    """Find the lowest row with each key, or -1.

    Parameters
    ----------
    key : (n, 32) uint8, C-contiguous
        In any order, repeats allowed.
    queries : (m, 32) uint8, C-contiguous
        Any order.

    Returns
    -------
    (m,) int64
        Row in `key`; -1 where absent.
    """
    order, is_first = order_keys(np.concatenate([key, queries]))
    first = order[np.flatnonzero(is_first)][np.cumsum(is_first) - 1]  # lowest row with that key
    row = np.empty(len(order), np.int64)
    row[order] = np.where(first < len(key), first, -1)
    return row[len(key) :]


def _order_high_bits(word: U64) -> tuple[I64, Bool]:
    """Sort by all but the lowest ``(n - 1).bit_length()`` bits, then by row.

    Also return whether each row has the same high bits as the one before.
    """
    # The row's number takes the place of the low bits, so one column is sorted, by a plain sort: in
    # all 9 ns a row, where a stable argsort takes 86.
    row_bits = np.uint64(max(len(word) - 1, 0).bit_length())
    packed = word >> row_bits
    packed <<= row_bits
    packed |= np.arange(len(word), dtype=np.uint64)
    packed.sort()
    order = (packed & ((np.uint64(1) << row_bits) - np.uint64(1))).view(np.int64)
    packed >>= row_bits
    return order, ~_changes(packed)


def _rows_in_disorder(is_alike: Bool, is_first: Bool) -> I64:
    """Find all positions of the runs of equal high bits in which not all numbers are equal."""
    is_mixed = is_alike & is_first
    if not is_mixed.any():
        return np.empty(0, np.int64)
    run_no = np.cumsum(~is_alike) - 1
    is_in_run = np.zeros(run_no[-1] + 1, np.bool_)
    is_in_run[run_no[is_mixed]] = True
    return np.flatnonzero(is_in_run[run_no])


def _changes(ordered: U64) -> Bool:
    """(n,) bool: whether each row differs from the one before."""
    changes = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return changes


def _native_word(key: U8, number: int) -> U64:
    """(n,) uint64: 8 bytes of each key, as a number that has their order."""
    word: U64 = key.view(">u8")[:, number].astype(np.uint64)
    return word


def _differs_from_previous(key: U8, order: I64, is_alike: Bool) -> Bool:
    """(n,) bool: whether row `order[i]` has another key than row `order[i - 1]`."""
    words = key.view(np.uint64)
    differs = ~is_alike
    for start in range(0, len(order), _ROWS_PER_BLOCK):  # what a block needs stays in the cache
        block = slice(max(start, 1), start + _ROWS_PER_BLOCK)
        if not is_alike[block].any():
            continue
        there = words.take(order[block.start - 1 : block.stop], axis=0)
        # Of four words each; `any(axis=1)` is ten times slower than one number of their four bytes.
        differs[block] |= (there[1:] != there[:-1]).view(np.uint32)[:, 0] != 0
    return differs
