"""What if the registry refuses so many ranges? Podman asks again, with half as many parts.

A registry that answers 400 is asked again until it takes the request or there is one range left,
which it must take. Each time, the smallest gaps that are left are fetched along. Go counts down
from the parts that are too many and merges once more at zero, so of `n` parts not `n // 2` remain
but one fewer, and never less than one.

Source: containers/storage pkg/chunked/storage_linux.go retrieveMissingFiles, mergeMissingChunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.plan.ranges import merge_ranges

if TYPE_CHECKING:
    from vecache.plan.options import PlanOptions
    from vecache.plan.ranges import Parts, Ranges

__all__ = ["Fallback", "fall_back"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """How a layer's data is asked for until the registry takes the request.

    Attributes
    ----------
    n_ranges : tuple of int
        Ranges of each request, the refused ones and the last; none where nothing is fetched.
    ranges : Ranges
        What the last one asks for.
    """

    n_ranges: tuple[int, ...]
    ranges: Ranges

    @property
    def requests(self) -> int:
        """Requests for data, the refused ones included."""
        return len(self.n_ranges)


def fall_back(parts: Parts, options: PlanOptions) -> Fallback:
    """Follow Podman's requests for one layer.

    Parameters
    ----------
    parts : Parts
        What must come over the wire.
    options : PlanOptions
        How the first request is made, and what the registry takes.

    Returns
    -------
    Fallback
        The requests.
    """
    n_accepted = options.accepted_ranges or options.max_ranges
    ranges = merge_ranges(parts, options.max_ranges, options.gap_bytes)
    n_ranges = [len(ranges)] if len(ranges) else []
    while len(ranges) > n_accepted:  # halves each time
        # Merging what was merged is merging the parts: the gaps that are left stay as they are.
        ranges = merge_ranges(parts, len(ranges) // 2, options.gap_bytes)
        n_ranges.append(len(ranges))
    return Fallback(tuple(n_ranges), ranges)
