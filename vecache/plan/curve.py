"""What each number of ranges costs, in bytes and in time: exactly, at every point.

Fewer ranges mean that more gaps are fetched. With the gaps sorted, the sum of the first `k` is what
`k` ranges fewer cost: one sort and one running sum give every point of the curve exactly.

Two curves: by the number of ranges that a request may have, where each layer uses as many as help
it; and by the size up to which gaps are fetched. The layers of an image are added up, because each
is fetched by its own request. Every point is a pull from a registry that accepts its requests, so
no refused request counts.

Gaps of 0 bytes are always fetched: to split there saves nothing. A part that lies *before* its
predecessor is never merged with it, so a TOC in such an order, which no known writer makes, has
fewer points. 40 bytes per point.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, column
from vecache.plan.ranges import RANGE_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecache.arrays import F64, I64
    from vecache.draw.picture import Picture
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.ranges import Parts

__all__ = ["LimitName", "RangeCurve", "curve_by_gap", "curve_by_ranges", "wire_seconds"]

LimitName: TypeAlias = Literal["max_ranges", "gap_bytes"]

_LIMIT_TITLES = MappingProxyType(
    {
        "max_ranges": "ranges that one request may have",
        "gap_bytes": "bytes up to which a gap is fetched",
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class RangeCurve(ArrowExport):
    """What each number of ranges costs, one row per point.

    Attributes
    ----------
    limit : (n,) int64
        What the point allows: ranges in one request, or bytes of a gap.
    n_ranges : (n,) int64
        Ranges asked for, of all layers.
    fetch_bytes : (n,) int64
        Bytes over the wire for them. Blobs that are fetched whole count too.
    slack_bytes : (n,) int64
        Those of them that lie in gaps.
    header_bytes : (n,) int64
        `RANGE_HEADER_BYTES` for each range of an answer that has several.
    requests : int
        Requests at every point: those for TOCs and one for the data of each layer; none refused.
    toc_bytes : int
        Bytes over the wire for TOCs.
    limit_name : {"max_ranges", "gap_bytes"}
        What `limit` is.
    """

    limit: I64
    n_ranges: I64
    fetch_bytes: I64
    slack_bytes: I64
    header_bytes: I64
    requests: int
    toc_bytes: int
    limit_name: LimitName

    def __post_init__(self) -> None:
        for name in ("limit", "n_ranges", "fetch_bytes", "slack_bytes", "header_bytes"):
            column(name, getattr(self, name), np.int64, len(self.limit))

    def seconds(self, bytes_per_second: float, round_trip_seconds: float) -> F64:
        """Estimate how long the pull waits for the network.

        Parameters
        ----------
        bytes_per_second : float
            Bandwidth, above 0.
        round_trip_seconds : float
            From a request to the first byte of its answer, at least 0.

        Returns
        -------
        (n,) float64
            Round trips of all requests, one after another, and the time for the bytes: data, TOCs
            and the headers of ranges. Not counted: login, the manifest, the requests' own bytes,
            redirects, and the time to unpack.

        Raises
        ------
        ValueError
            If a number is out of range.
        """
        n_bytes = self.fetch_bytes + self.header_bytes + self.toc_bytes
        seconds: F64 = wire_seconds(n_bytes, self.requests, bytes_per_second, round_trip_seconds)
        return seconds

    def plot(self, title: str = "Bytes on the wire") -> Picture:
        """Draw the curve.

        Parameters
        ----------
        title : str
            What it is of.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from vecache.draw.curves import limit_curve  # noqa: PLC0415 - matplotlib is an extra

        return limit_curve(
            self.limit,
            self.fetch_bytes,
            self.slack_bytes,
            limit_name=_LIMIT_TITLES[self.limit_name],
            title=title,
            note="Blue is needed; orange lies in gaps, which are fetched too.",
        )

    def to_arrow(self) -> Any:
        """Export all columns.

        Returns
        -------
        pyarrow.Table of n rows
            The first column is called `max_ranges` or `gap_bytes`.
        """
        return pa.table(
            {
                self.limit_name: self.limit,
                "n_ranges": self.n_ranges,
                "fetch_bytes": self.fetch_bytes,
                "slack_bytes": self.slack_bytes,
                "header_bytes": self.header_bytes,
                "toc_bytes": np.full(len(self), self.toc_bytes),
                "requests": np.full(len(self), self.requests),
            }
        )

    def __len__(self) -> int:
        return len(self.limit)

    def __repr__(self) -> str:
        return f"<RangeCurve: {len(self):,} points by {self.limit_name}>"


def curve_by_ranges(plans: Sequence[LayerPlan]) -> RangeCurve:
    """Compute the curve of some layers by the number of ranges that one request may have."""
    layers = _gaps_of(plans)
    limit = np.arange(1, max((layer.max_ranges for layer in layers), default=1) + 1)
    n_merged = [layer.merged_for(limit) for layer in layers]
    return _add_up(plans, "max_ranges", limit, layers, n_merged)


def curve_by_gap(plans: Sequence[LayerPlan]) -> RangeCurve:
    """Compute the curve of some layers by the size up to which gaps are fetched."""
    layers = _gaps_of(plans)
    limit = np.unique(np.concatenate([np.zeros(1, np.int64), *(layer.gaps for layer in layers)]))
    n_merged = [np.searchsorted(layer.gaps, limit, side="right") for layer in layers]
    return _add_up(plans, "gap_bytes", limit, layers, n_merged)


def wire_seconds(
    n_bytes: Any, requests: int, bytes_per_second: float, round_trip_seconds: float
) -> Any:
    """Return the seconds that requests and bytes take, for one number of bytes or a column."""
    if not bytes_per_second > 0 or not round_trip_seconds >= 0:
        raise ValueError(
            f"seconds: found {bytes_per_second} bytes per second and a round trip of "
            f"{round_trip_seconds} s, wanted a bandwidth above 0 and a round trip from 0"
        )
    return requests * round_trip_seconds + n_bytes / bytes_per_second


class _LayerGaps:
    """The gaps of one layer from small to large, and the bytes of the first `k` of them."""

    def __init__(self, parts: Parts) -> None:
        gaps: I64 = np.sort(parts.gap).view(np.int64)  # as uint64: those that go back come last
        self.gaps = gaps[gaps >= 0]
        self.cost = np.concatenate([[0], np.cumsum(self.gaps)])
        self.n_parts = len(parts)
        self.n_free = int(np.searchsorted(self.gaps, 0, side="right"))

    @property
    def max_ranges(self) -> int:
        """Ranges without any slack."""
        return self.n_parts - self.n_free

    def merged_for(self, max_ranges: I64) -> I64:
        """(n,) int64: gaps that must be fetched to have at most so many ranges."""
        return np.clip(self.n_parts - max_ranges, self.n_free, len(self.gaps))


def _gaps_of(plans: Iterable[LayerPlan]) -> list[_LayerGaps]:
    replays = (plan.replay for plan in plans)
    return [_LayerGaps(replay.parts) for replay in replays if replay and len(replay.parts)]


def _add_up(
    plans: Sequence[LayerPlan],
    limit_name: LimitName,
    limit: I64,
    layers: Iterable[_LayerGaps],
    n_merged: Iterable[I64],
) -> RangeCurve:
    """Add up the layers, given how many gaps each fetches at every point."""
    n_ranges, slack_bytes, header_bytes = np.zeros((3, len(limit)), np.int64)
    for layer, merged in zip(layers, n_merged, strict=True):  # an image's few layers
        layer_ranges = layer.n_parts - merged
        n_ranges += layer_ranges
        slack_bytes += layer.cost[merged]
        header_bytes += np.where(layer_ranges > 1, layer_ranges * RANGE_HEADER_BYTES, 0)
    # Parts, and blobs that are fetched whole; of absurd sizes the sum wraps, as each of them does.
    needed_bytes = np.array([plan.fetch_bytes - plan.slack_bytes for plan in plans], np.int64).sum()
    return RangeCurve(
        limit=limit,
        n_ranges=n_ranges,
        fetch_bytes=needed_bytes + slack_bytes,
        slack_bytes=slack_bytes,
        header_bytes=header_bytes,
        requests=sum(plan.requests - plan.n_refused for plan in plans),
        toc_bytes=sum(plan.toc_bytes for plan in plans),
        limit_name=limit_name,
    )
