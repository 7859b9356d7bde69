"""Which byte ranges does a pull ask for? The chunks to fetch, joined where that saves ranges.

1. Chunks of one file that follow each other in the blob become one part.
2. Gaps between a part and the next are taken from small to large. A gap is fetched along if it is
   at most `gap_bytes`, or if there would be too many parts without it.
3. What is left is one range each, all asked for in one request.

A gap that is fetched along may hold chunks that were found locally: they come over the wire after
all, and the bytes counted as missing do not change.

Source: containers/storage pkg/chunked/storage_linux.go mergeMissingChunks.

What if the registry refuses so many ranges? Podman asks again, with half as many parts.

A registry that answers 400 is asked again until it takes the request or there is one range left,
which it must take. Each time, the smallest gaps that are left are fetched along. Go counts down
from the parts that are too many and merges once more at zero, so of `n` parts not `n // 2` remain
but one fewer, and never less than one.

Source: containers/storage pkg/chunked/storage_linux.go retrieveMissingFiles, mergeMissingChunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen

if TYPE_CHECKING:
    from vecache.arrays import I64, U64, Bool
    from vecache.plan.options import PlanOptions

__all__ = [
    "RANGE_HEADER_BYTES",
    "Fallback",
    "Parts",
    "Ranges",
    "fall_back",
    "join_parts",
    "merge_ranges",
]

RANGE_HEADER_BYTES = 160
"""About what a multipart answer says before each range: boundary, type, and the range itself."""


@dataclass(frozen=True, slots=True, repr=False)
class Parts:
    """What must come over the wire, before gaps are fetched along.

    Attributes
    ----------
    first, end : (n_parts,) int64
        Byte range in the blob, `end` not included.
    gap : (n_parts - 1,) uint64
        Bytes between each part and the next. A part that lies before the one it follows has a gap
        of nearly 2**64, as in Go: nobody fetches that along.
    part_of : (n_chunks,) int64
        Part of each chunk; -1 for chunks that are not fetched.
    """

    first: I64
    end: I64
    gap: U64
    part_of: I64

    @property
    def fetch_bytes(self) -> int:
        """Bytes of all parts: what must be fetched whatever the ranges."""
        return int((self.end - self.first).sum())

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, repr=False)
class Ranges:
    """What is asked for.

    Attributes
    ----------
    bounds : (n_ranges, 2) int64
        First and last byte of each range, both included, as HTTP writes them.
    fetch_bytes : int
        Bytes of all ranges.
    slack_bytes : int
        How many of them are there only because gaps were fetched along.
    range_of : (n_chunks,) int64
        Range that each chunk comes in; -1 for chunks that are not fetched.
    """

    bounds: I64
    fetch_bytes: int
    slack_bytes: int
    range_of: I64

    def __len__(self) -> int:
        return len(self.bounds)


def join_parts(first: I64, end: I64, file_row: I64, is_fetched: Bool) -> Parts:
    """Join neighbouring chunks of one file.

    Parameters
    ----------
    first, end : (n_chunks,) int64
        Byte range of each chunk in the blob, `end` not included, in the order of the TOC. Chunks
        of all files that were not found, whether they are fetched or not.
    file_row : (n_chunks,) int64
        The file each belongs to.
    is_fetched : (n_chunks,) bool
        Whether it is fetched, and not a hole or found locally.

    Returns
    -------
    Parts
        In the order of the TOC.
    """
    is_joined = np.zeros(len(first), np.bool_)
    is_joined[1:] = (
        is_fetched[1:] & is_fetched[:-1] & (file_row[1:] == file_row[:-1]) & (first[1:] == end[:-1])
    )
    starts = np.flatnonzero(is_fetched & ~is_joined)
    part_of = np.where(is_fetched, np.cumsum(is_fetched & ~is_joined) - 1, -1)
    part_end = np.zeros(len(starts), np.int64)
    part_end[part_of[is_fetched]] = end[is_fetched]  # the last chunk of a part is written last
    part_first = first[starts]
    gap = (part_first[1:] - part_end[:-1]).view(np.uint64)
    return Parts(frozen(part_first), frozen(part_end), frozen(gap), frozen(part_of))


def merge_ranges(parts: Parts, max_ranges: int, gap_bytes: int) -> Ranges:
    """Choose the gaps that are fetched along.

    Go's sort is not stable, so which of several equal gaps is the last to be merged is not
    defined there; here it is the earliest. Only an image that exceeds `max_ranges` can show it.
    """
    if not len(parts):
        return Ranges(np.empty((0, 2), np.int64), 0, 0, parts.part_of)
    is_merged = parts.gap <= np.uint64(gap_bytes)
    n_forced = min(max(len(parts) - max_ranges + 1, 0), len(parts.gap))
    is_merged[np.argsort(parts.gap, kind="stable")[:n_forced]] = True
    starts = np.flatnonzero(np.concatenate([[True], ~is_merged]))
    ends = np.concatenate([starts[1:] - 1, [len(parts) - 1]])
    bounds = np.column_stack([parts.first[starts], parts.end[ends] - 1])
    range_of_part = np.concatenate([[0], np.cumsum(~is_merged)])
    range_of = np.where(parts.part_of < 0, -1, range_of_part[parts.part_of])
    fetch_bytes = int((bounds[:, 1] - bounds[:, 0] + 1).sum())
    return Ranges(frozen(bounds), fetch_bytes, fetch_bytes - parts.fetch_bytes, frozen(range_of))


@dataclass(frozen=True, slots=True)
class Fallback:
    """How a layer's data is asked for until the registry takes the request."""

    # ranges of each request, the refused ones and the last; none where nothing is fetched
    n_ranges: tuple[int, ...]
    ranges: Ranges  # what the last one asks for

    @property
    def requests(self) -> int:
        """Requests for data, the refused ones included."""
        return len(self.n_ranges)


def fall_back(parts: Parts, options: PlanOptions) -> Fallback:
    """Follow Podman's requests for one layer."""
    n_accepted = options.accepted_ranges or options.max_ranges
    ranges = merge_ranges(parts, options.max_ranges, options.gap_bytes)
    n_ranges = [len(ranges)] if len(ranges) else []
    while len(ranges) > n_accepted:  # halves each time
        # Merging what was merged is merging the parts: the gaps that are left stay as they are.
        ranges = merge_ranges(parts, len(ranges) // 2, options.gap_bytes)
        n_ranges.append(len(ranges))
    return Fallback(tuple(n_ranges), ranges)
