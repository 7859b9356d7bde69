"""Go's binary search over the tags of one file, for many digests at once.

`sort.Search` halves a range until it is empty. On tags in ascending order it ends at the first one
that is not below the digest. On tags that are out of order it still ends somewhere, and whoever
wants to say what the Go code would find has to end there too: so every query here takes the very
steps that Go takes, all queries together, one halving after another.

Digests are compared as runs of bytes of one length (numpy's `S`, only inside array expressions,
where the NULs that it drops from the end make no difference).

Source: Go sort/search.go Search; containers/storage pkg/chunked/cache_linux.go findBinaryTag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import I64, U8, Bool

__all__ = ["find_first", "steps_up"]


def find_first(have: U8, wanted: U8) -> I64:
    """Find the row at which Go's search for each digest ends, where that row is equal.

    Parameters
    ----------
    have : (n, digest_len) uint8
        Digests of the tags, in the order of the file; n and digest_len are not 0.
    wanted : (m, digest_len) uint8
        Digests to find.

    Returns
    -------
    (m,) int64
        Row in `have`; -1 where absent.

    Examples
    --------
    >>> have = np.array([[1, 0], [2, 0], [2, 0]], np.uint8)
    >>> find_first(have, np.array([[2, 0], [1, 1]], np.uint8)).tolist()
    [1, -1]
    """
    tags, queries = _as_text(have), _as_text(wanted)
    low = np.zeros(len(queries), np.int64)
    high = np.full(len(queries), len(tags), np.int64)
    for _ in range(len(tags).bit_length()):  # halvings
        middle = (low + high) >> 1
        is_open = low < high
        is_below = tags[np.minimum(middle, len(tags) - 1)] < queries
        low = np.where(is_open & is_below, middle + 1, low)
        high = np.where(is_open & ~is_below, middle, high)
    is_found = tags[np.minimum(low, len(tags) - 1)] == queries
    return np.where(is_found & (low < len(tags)), low, -1)


def steps_up(have: U8) -> Bool:
    """Compare each row with the one before it.

    Parameters
    ----------
    have : (n, n_columns) uint8
        Runs of bytes; n is not 0.

    Returns
    -------
    (n - 1,) bool
        True where a row is equal to the one before it, or above it in memcmp order.
    """
    if have.shape[1] == 0:
        return np.ones(len(have) - 1, np.bool_)
    text = _as_text(have)
    return text[:-1] <= text[1:]


def _as_text(packed: U8) -> npt.NDArray[Any]:
    """(n,) S view of (n, width) uint8 whose rows are whole, at any distance."""
    return packed.view(f"S{packed.shape[1]}")[:, 0]
