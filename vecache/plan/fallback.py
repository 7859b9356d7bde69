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
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.options import PlanOptions
    from vecache.plan.ranges import Parts, Ranges

__all__ = ["Fallback", "fall_back", "plan_fallback"]


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


def fall_back(parts: Parts, options: PlanOptions, n_accepted: int) -> Fallback:
    """Follow Podman's requests for one layer.

    Parameters
    ----------
    parts : Parts
        What must come over the wire.
    options : PlanOptions
        How the first request is made.
    n_accepted : int
        Ranges that the registry takes in one request, at least 1.

    Returns
    -------
    Fallback
        The requests.

    Raises
    ------
    ValueError
        If `n_accepted` is below 1.
    """
    if n_accepted < 1:
        raise ValueError(f"n_accepted: found {n_accepted}, wanted at least 1")
    ranges = merge_ranges(parts, options.max_ranges, options.gap_bytes)
    n_ranges = [len(ranges)] if len(ranges) else []
    while len(ranges) > n_accepted:  # halves each time
        # Merging what was merged is merging the parts: the gaps that are left stay as they are.
        ranges = merge_ranges(parts, len(ranges) // 2, options.gap_bytes)
        n_ranges.append(len(ranges))
    return Fallback(tuple(n_ranges), ranges)


def plan_fallback(plan: ImagePlan, n_accepted: int) -> tuple[Fallback | None, ...]:
    """Follow Podman's requests for an image.

    Parameters
    ----------
    plan : ImagePlan
        The plan.
    n_accepted : int
        Ranges that the registry takes in one request, at least 1.

    Returns
    -------
    tuple of Fallback or None
        One a layer; None for those that are not asked for by ranges.
    """
    return tuple(
        fall_back(layer.replay.parts, plan.options, n_accepted) if layer.replay else None
        for layer in plan.layers
    )
