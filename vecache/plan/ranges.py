"""The byte ranges that a pull asks for: chunks coalesced into parts, parts merged into ranges.

1. Adjacent chunks of one file become one part.
2. Take the gaps between each part and the next from small to large. A gap is fetched too if it is
   at most `gap_bytes`, or if there would be too many ranges without it.
3. The rest is one range each, all in one request.
4. A registry that answers 400 to so many ranges is asked again with half as many, until it accepts
   the request or one range is left, which it must accept.

A gap that is fetched may hold chunks that were found locally: they come over the wire after all,
and the bytes counted as missing do not change.
Source: containers/storage pkg/chunked/storage_linux.go mergeMissingChunks, retrieveMissingFiles.
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
    "Parts",
    "Ranges",
    "coalesce_chunks",
    "fit_ranges",
    "merge_ranges",
]

RANGE_HEADER_BYTES = 160
"""Approximate size of what a multipart answer puts before each range: boundary, type, range."""


@dataclass(frozen=True, slots=True, repr=False)
class Parts:
    """What must come over the wire, before gaps are fetched too.

    Attributes
    ----------
    first, end : (n_parts,) int64
        Byte range in the blob, `end` not included.
    gap : (n_parts - 1,) uint64
        Bytes between each part and the next. A part that lies before its predecessor has a gap of
        nearly 2**64, as in Go, and so is never merged with it.
    part_of : (n_chunks,) int64
        Part of each chunk; -1 for chunks that are not fetched.
    """

    first: I64
    end: I64
    gap: U64
    part_of: I64

    @property
    def fetch_bytes(self) -> int:
        """Bytes of all parts: what is fetched whatever the ranges."""
        return int((self.end - self.first).sum())

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, repr=False)
class Ranges:
    """What one request asks for.

    Attributes
    ----------
    bounds : (n_ranges, 2) int64
        First and last byte of each range, both included, as HTTP writes them.
    fetch_bytes : int
        Bytes of all ranges.
    slack_bytes : int
        Those of them that lie in gaps between parts.
    range_of : (n_chunks,) int64
        Range that brings each chunk; -1 for chunks that are not fetched.
    """

    bounds: I64
    fetch_bytes: int
    slack_bytes: int
    range_of: I64

    def __len__(self) -> int:
        return len(self.bounds)


def fit_ranges(parts: Parts, options: PlanOptions) -> tuple[Ranges, tuple[int, ...]]:
    """Return the ranges of the accepted request, and the number of ranges of each refused one."""
    n_accepted = options.accepted_ranges or options.max_ranges
    ranges = merge_ranges(parts, options.max_ranges, options.gap_bytes)
    refused = []
    while len(ranges) > n_accepted:
        refused.append(len(ranges))
        # Go merges the ranges again. To merge the parts anew gives the same: the gaps are equal.
        ranges = merge_ranges(parts, len(ranges) // 2, options.gap_bytes)
    return ranges, tuple(refused)


def coalesce_chunks(first: I64, end: I64, file_row: I64, is_fetched: Bool) -> Parts:
    """Coalesce adjacent chunks of one file into parts.

    Parameters
    ----------
    first, end : (n_chunks,) int64
        Byte range of each chunk in the blob, `end` not included, in the order of the TOC. All
        chunks of the files that were not found, whether they are fetched or not.
    file_row : (n_chunks,) int64
        File of each chunk.
    is_fetched : (n_chunks,) bool
        Whether it is fetched: neither a hole nor found locally.

    Returns
    -------
    Parts
        In the order of the TOC.
    """
    continues = np.zeros(len(first), np.bool_)
    continues[1:] = (
        is_fetched[1:] & is_fetched[:-1] & (file_row[1:] == file_row[:-1]) & (first[1:] == end[:-1])
    )
    starts = np.flatnonzero(is_fetched & ~continues)
    part_of = np.where(is_fetched, np.cumsum(is_fetched & ~continues) - 1, -1)
    part_end = np.zeros(len(starts), np.int64)
    part_end[part_of[is_fetched]] = end[is_fetched]  # the last chunk of a part is written last
    part_first = first[starts]
    gap = (part_first[1:] - part_end[:-1]).view(np.uint64)
    return Parts(frozen(part_first), frozen(part_end), frozen(gap), frozen(part_of))


def merge_ranges(parts: Parts, max_ranges: int, gap_bytes: int) -> Ranges:
    """Choose the gaps that are fetched too, and merge the parts beside them.

    Parameters
    ----------
    parts : Parts
        `n_parts` rows.
    max_ranges : int
        Parts that may remain. Go counts down from `n_parts - max_ranges` and merges once more at
        zero, so one fewer remains where there were as many or more, and never less than one.
    gap_bytes : int
        A gap of at most this size is always fetched.

    Returns
    -------
    Ranges
        In the order of the TOC.

    Notes
    -----
    Go's sort is not stable, so which of several equal gaps is merged last is not defined there;
    here it is the earliest. Only an image that exceeds `max_ranges` can show the difference.
    """
    if not len(parts):
        return Ranges(np.empty((0, 2), np.int64), 0, 0, parts.part_of)
    is_merged = parts.gap <= np.uint64(gap_bytes)
    n_forced = min(max(len(parts) - max_ranges + 1, 0), len(parts.gap))
    if n_forced:
        is_merged[np.argsort(parts.gap, kind="stable")[:n_forced]] = True
    starts = np.flatnonzero(np.concatenate([[True], ~is_merged]))
    ends = np.concatenate([starts[1:] - 1, [len(parts) - 1]])
    bounds = np.column_stack([parts.first[starts], parts.end[ends] - 1])
    range_of_part = np.concatenate([[0], np.cumsum(~is_merged)])
    range_of = np.where(parts.part_of < 0, -1, range_of_part[parts.part_of])
    fetch_bytes = int((bounds[:, 1] - bounds[:, 0] + 1).sum())
    return Ranges(frozen(bounds), fetch_bytes, fetch_bytes - parts.fetch_bytes, frozen(range_of))
