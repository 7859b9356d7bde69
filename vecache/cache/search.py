"""Search tags as the Go code does, and tell whether they are in order.

The binary search takes the same steps as Go's `sort.Search`, for all digests together. On tags in
ascending order it ends at the first tag that is not below the digest. On other tags it ends
somewhere, so only the same steps give the answer of the Go code.

Source: Go sort/search.go Search; containers/storage pkg/chunked/cache_linux.go findBinaryTag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import I64, U8, Bool

__all__ = ["find_first", "is_ascending"]


def find_first(have: U8, wanted: U8) -> I64:
    """Find the row at which Go's search for each digest ends, if the digest is there.

    Parameters
    ----------
    have : (n, digest_len) uint8
        Digests of the tags, in file order; n and digest_len are not 0.
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


def is_ascending(have: U8) -> Bool:
    """(n - 1,) bool: whether each row equals the one before it or follows it in memcmp order."""
    if have.shape[1] == 0:
        return np.ones(len(have) - 1, np.bool_)
    text = _as_text(have)
    return text[:-1] <= text[1:]


def _as_text(packed: U8) -> npt.NDArray[Any]:
    """(n,) S view of (n, width) uint8 with contiguous rows."""
    # For comparisons only: S drops NULs from the end, which changes none at equal widths.
    return packed.view(f"S{packed.shape[1]}")[:, 0]
