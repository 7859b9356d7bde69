"""How many bytes does each number of ranges cost, and how much time? Exactly, at every point.

Fewer ranges mean that more gaps are fetched along. With the gaps sorted, the sum of the first `k`
is what `k` ranges fewer cost: one sort and one running sum give every point of the curve exactly.

Two curves: by the number of ranges that a request may have, where each layer uses as many as help
it; and by the gap up to which gaps are fetched along. Over an image the layers are added, since
each is asked for by a request of its own.

Gaps of 0 bytes are always fetched along: nothing is gained by a range for what follows at once. A
part that lies *before* the one it follows is never joined to it, so a TOC in such an order, which
no known writer makes, has fewer points. 40 bytes a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import column
from vecache.plan.image_plan import ImagePlan
from vecache.plan.ranges import RANGE_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.arrays import F64, I64
    from vecache.draw.picture import Picture
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.ranges import Parts

__all__ = ["RangeCurve", "curve_by_gap", "curve_by_ranges", "require_line"]

_LIMIT_TITLES = MappingProxyType(
    {
        "max_ranges": "ranges that one request may have",
        "gap_bytes": "bytes up to which a gap is fetched along",
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class RangeCurve:
    """What each number of ranges costs, one row a point.

    Attributes
    ----------
    limit : (n,) int64
        What the point allows: ranges in one request, or the gap in bytes.
    n_ranges : (n,) int64
        Ranges asked for, of all layers.
    fetch_bytes : (n,) int64
        Bytes of them, over the wire. Blobs that are fetched whole count too.
    slack_bytes : (n,) int64
        How many of them are there only because gaps are fetched along.
    header_bytes : (n,) int64
        `RANGE_HEADER_BYTES` for each range that does not come alone in its answer.
    requests : int
        Requests at every point: those for TOCs and one for the data of each layer.
    toc_bytes : int
        Bytes of TOCs, over the wire.
    limit_name : str
        `max_ranges` or `gap_bytes`: what `limit` is.
    """

    limit: I64
    n_ranges: I64
    fetch_bytes: I64
    slack_bytes: I64
    header_bytes: I64
    requests: int
    toc_bytes: int
    limit_name: str

    def __post_init__(self) -> None:
        for name in ("limit", "n_ranges", "fetch_bytes", "slack_bytes", "header_bytes"):
            column(name, getattr(self, name), np.int64, len(self.limit))

    def seconds(self, bytes_per_second: float, round_trip_seconds: float) -> F64:
        """Estimate how long the pull waits for the network.

        Parameters
        ----------
        bytes_per_second : float
            What the line carries, above 0.
        round_trip_seconds : float
            From a request to the first byte of its answer, from 0.

        Returns
        -------
        (n,) float64
            Round trips of all requests, one after another, and the time for the bytes: data, TOCs
            and the headers of ranges. Not counted: logging in, the manifest, what the requests say
            themselves, redirects, and the time to unpack.

        Raises
        ------
        ValueError
            If a number is out of range.
        """
        require_line(bytes_per_second, round_trip_seconds)
        n_bytes = self.fetch_bytes + self.header_bytes + self.toc_bytes
        return self.requests * round_trip_seconds + n_bytes / bytes_per_second

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
            note="Blue is needed; orange lies between ranges, and is fetched along.",
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


def curve_by_ranges(plan: ImagePlan | LayerPlan) -> RangeCurve:
    """Count bytes for each number of ranges that one request may have."""
    layers = [_LayerGaps(parts) for parts in _parts_of(plan)]
    limit = np.arange(1, max((layer.most_ranges for layer in layers), default=1) + 1)
    return _curve(plan, "max_ranges", limit, [layer.merged_for(limit) for layer in layers], layers)


def curve_by_gap(plan: ImagePlan | LayerPlan) -> RangeCurve:
    """Count bytes for each size up to which gaps are fetched along."""
    layers = [_LayerGaps(parts) for parts in _parts_of(plan)]
    limit = np.unique(np.concatenate([np.zeros(1, np.int64), *(layer.gaps for layer in layers)]))
    n_merged = [np.searchsorted(layer.gaps, limit, side="right") for layer in layers]
    return _curve(plan, "gap_bytes", limit, n_merged, layers)


def require_line(bytes_per_second: float, round_trip_seconds: float) -> None:
    """Refuse a line that there cannot be."""
    if not bytes_per_second > 0 or not round_trip_seconds >= 0:
        raise ValueError("seconds: wanted a bandwidth above 0 and a round trip from 0")


class _LayerGaps:
    """One layer's gaps from small to large, and what the first `k` of them cost."""

    def __init__(self, parts: Parts) -> None:
        gaps: I64 = np.sort(parts.gap).view(np.int64)  # as uint64: those that go back come last
        self.gaps = gaps[gaps >= 0]
        self.cost = np.concatenate([[0], np.cumsum(self.gaps)])
        self.n_parts = len(parts)
        self.part_bytes = parts.fetch_bytes
        self.n_free = int(np.searchsorted(self.gaps, 0, side="right"))

    @property
    def most_ranges(self) -> int:
        """Ranges without any slack."""
        return self.n_parts - self.n_free

    def merged_for(self, max_ranges: I64) -> I64:
        """(n,) int64: gaps that must be fetched along for so many ranges at most."""
        return np.clip(self.n_parts - max_ranges, self.n_free, len(self.gaps))


def _layers_of(plan: ImagePlan | LayerPlan) -> Iterable[LayerPlan]:
    return plan.layers if isinstance(plan, ImagePlan) else (plan,)


def _parts_of(plan: ImagePlan | LayerPlan) -> Iterable[Parts]:
    replays = (layer.replay for layer in _layers_of(plan))
    return [replay.parts for replay in replays if replay and len(replay.parts)]


def _curve(
    plan: ImagePlan | LayerPlan,
    limit_name: str,
    limit: I64,
    n_merged: Iterable[I64],
    layers: Iterable[_LayerGaps],
) -> RangeCurve:
    """Add up the layers, given how many gaps each fetches along at every point."""
    n_ranges, slack_bytes, header_bytes = np.zeros((3, len(limit)), np.int64)
    for layer, merged in zip(layers, n_merged, strict=True):  # an image's few layers
        layer_ranges = layer.n_parts - merged
        n_ranges += layer_ranges
        slack_bytes += layer.cost[merged]
        header_bytes += np.where(layer_ranges > 1, layer_ranges * RANGE_HEADER_BYTES, 0)
    # Parts, and blobs that are fetched whole; of absurd sizes the sum wraps, as each of them does.
    whole = [layer.fetch_bytes - layer.slack_bytes for layer in _layers_of(plan)]
    fixed_bytes = np.array(whole, np.int64).sum()
    return RangeCurve(
        limit=limit,
        n_ranges=n_ranges,
        fetch_bytes=fixed_bytes + slack_bytes,
        slack_bytes=slack_bytes,
        header_bytes=header_bytes,
        requests=plan.requests,
        toc_bytes=plan.toc_bytes,
        limit_name=limit_name,
    )
