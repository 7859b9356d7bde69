"""A key of 32 bytes for each digest, by which contents are compared and sorted.

The key of a sha256 digest is its raw bytes. Digests of other algorithms are longer; their key is
the sha256 of their text, so that they count too and equal ones stay equal. containers/storage
itself never writes them.

Keys are sorted by their first 8 bytes, as one native number. Only where two different keys have
these in common do the other 24 bytes decide: with real digests that does not happen, and with
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

__all__ = ["KEY_BYTES", "content_keys", "find_keys", "order_keys"]

KEY_BYTES = RAW_BYTES[Algorithm.SHA256]


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
    words = key.view(">u8")
    first_word: U64 = words[:, 0].astype(np.uint64)
    order = np.argsort(first_word, kind="stable")
    is_first, has_other_word = _compare_neighbours(words, first_word, order)
    if (is_first & ~has_other_word).any():
        order = np.lexsort([words[:, word].astype(np.uint64) for word in (3, 2, 1, 0)])
        is_first, _ = _compare_neighbours(words, first_word, order)
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


def _compare_neighbours(words: U64, first_word: U64, order: I64) -> tuple[Bool, Bool]:
    """Return which rows differ from the one before, in the whole key and in its first word."""
    ordered = first_word[order]
    has_other_word = np.ones(len(order), np.bool_)
    has_other_word[1:] = ordered[1:] != ordered[:-1]
    is_first = has_other_word.copy()
    alike = np.flatnonzero(~has_other_word)
    is_first[alike] = (words[order[alike], 1:] != words[order[alike - 1], 1:]).any(axis=1)
    return is_first, has_other_word
