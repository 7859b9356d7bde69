"""The plan of one image: its layers, the sums of their figures, and what is computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vecache.arrays import ArrowExport
from vecache.plan.arrow import plan_to_arrow
from vecache.plan.best import find_best
from vecache.plan.curve import curve_by_gap, curve_by_ranges, wire_seconds
from vecache.plan.layer_plan import LayerState
from vecache.text import count, html_table, short_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.draw.picture import Picture
    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.best import Best
    from vecache.plan.curve import LimitName, RangeCurve
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions

__all__ = ["ImagePlan"]


@dataclass(frozen=True, eq=False, repr=False)
class ImagePlan(ArrowExport):
    """The pull of one image.

    Attributes
    ----------
    image : Image
        What is pulled.
    options : PlanOptions
        How it is pulled.
    layers : tuple of LayerPlan
        From the bottom up, each as it is expected to be pulled.
    cache_after : LayersCache
        The layers that count as present after the pull.
    least, most : tuple of LayerPlan
        The same layers, as if each found all layers before it, and as if it found none of them; the
        first twice where layers are copied one at a time.
    refused_bounds : tuple of int, optional
        Least and most bytes of data, whatever the timing, where the registry refuses some requests.
    layer_ids : tuple of str
        Ids of the layers in the store after the pull.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store, present=["dd95d764", "3492096a"])
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> plan = vecache.plan_image(image, cache, reflink=False)
    >>> plan.total_bytes, plan.missing_bytes, plan.fetch_bytes, plan.requests
    (2324135, 1683870, 914264, 5)
    >>> plan.best.missing_bytes
    602927
    """

    image: Image
    options: PlanOptions
    layers: tuple[LayerPlan, ...]
    cache_after: LayersCache
    least: tuple[LayerPlan, ...]
    most: tuple[LayerPlan, ...]
    refused_bounds: tuple[int, int] | None = None
    layer_ids: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Uncompressed bytes of all files in the layers that are pulled by their TOC."""
        return sum(layer.total_bytes or 0 for layer in self.layers)

    @property
    def missing_bytes(self) -> int:
        """Those of them that no local layer has."""
        return _missing_bytes(self.layers)

    @property
    def missing_bounds(self) -> tuple[int, int]:
        """Least and most of `missing_bytes`, whatever the timing and what unread layers hold."""
        unsure = _missing_bytes(layer for layer in self.least if layer.may_find_more)
        return self.missing_by_timing[0] - unsure, self.missing_by_timing[1]

    @property
    def fetch_bounds(self) -> tuple[int, int]:
        """Least and most of `fetch_bytes`, whatever the timing and what unread layers hold."""
        unsure = sum(layer.fetch_bytes for layer in self.least if layer.may_find_more)
        return max(self.fetch_by_timing[0] - unsure, 0), self.fetch_by_timing[1]

    @property
    def missing_by_timing(self) -> tuple[int, int]:
        """Least and most of `missing_bytes`, whatever the timing of the layers."""
        # With chunks larger than their file a layer that finds more may miss more.
        found = [_missing_bytes(layers) for layers in (self.least, self.layers, self.most)]
        return min(found), max(found)

    @property
    def fetch_by_timing(self) -> tuple[int, int]:
        """Least and most of `fetch_bytes`, whatever the timing of the layers."""
        if self.refused_bounds is not None:
            return self.refused_bounds
        tried = (self.least, self.layers, self.most)  # parts that overlap make the least uncertain
        found = [sum(layer.fetch_bytes for layer in layers) for layers in tried]
        return min(found), max(found)

    @property
    def whole_layers(self) -> int:
        """Layers that are fetched as whole blobs."""
        return sum(layer.state is LayerState.WHOLE for layer in self.layers)

    @property
    def whole_bytes(self) -> int:
        """Bytes over the wire for them."""
        return sum(layer.fetch_bytes for layer in self.layers if layer.state is LayerState.WHOLE)

    @property
    def fetch_bytes(self) -> int:
        """Bytes over the wire for data."""
        return sum(layer.fetch_bytes for layer in self.layers)

    @property
    def slack_bytes(self) -> int:
        """Bytes over the wire that lie in gaps between the parts that are needed."""
        return sum(layer.slack_bytes for layer in self.layers)

    @property
    def toc_bytes(self) -> int:
        """Bytes over the wire for TOCs."""
        return sum(layer.toc_bytes for layer in self.layers)

    @property
    def requests(self) -> int:
        """Requests for TOCs and data, the refused ones too; manifest and config do not count."""
        return sum(layer.requests for layer in self.layers)

    @cached_property
    def best(self) -> Best:
        """The least that any client could miss given the same layers, and the excess over it."""
        return find_best(self.least, self.options).with_parallel(self.layers)

    def to_arrow(self) -> Any:
        """Export every file and chunk.

        Returns
        -------
        pyarrow.Table of one row per file and chunk
            Columns as the module `vecache.plan.arrow` describes them.
        """
        return plan_to_arrow(self.image.reference, self.layers)

    def curve(self, by: LimitName = "max_ranges") -> RangeCurve:
        """Compute what fewer ranges would cost.

        Parameters
        ----------
        by : {"max_ranges", "gap_bytes"}
            What each point limits: the ranges of one request, or the gaps that are fetched.

        Returns
        -------
        RangeCurve
            `plot` draws it.

        Raises
        ------
        ValueError
            If `by` is neither.
        """
        if by not in ("max_ranges", "gap_bytes"):
            raise ValueError(f"by: found {by!r}, wanted 'max_ranges' or 'gap_bytes'")
        return curve_by_ranges(self.layers) if by == "max_ranges" else curve_by_gap(self.layers)

    def plot(self) -> Picture:
        """Draw a bar for each layer: what is here already, what is missing, and what need not be.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from vecache.plan.picture import plot_layers  # noqa: PLC0415 - matplotlib is an extra

        return plot_layers(self)

    def seconds(self, bytes_per_second: float, round_trip_seconds: float) -> float:
        """Estimate how long the pull waits for the network, as `RangeCurve.seconds` does.

        Parameters
        ----------
        bytes_per_second : float
            Bandwidth, above 0.
        round_trip_seconds : float
            From a request to the first byte of its answer, at least 0.

        Returns
        -------
        float
            Round trips of all requests, one after another, and the time for the bytes.

        Raises
        ------
        ValueError
            If a number is out of range.
        """
        header_bytes = sum(layer.header_bytes for layer in self.layers)
        n_bytes = self.fetch_bytes + self.toc_bytes + header_bytes
        return float(wire_seconds(n_bytes, self.requests, bytes_per_second, round_trip_seconds))

    def _repr_html_(self) -> str:
        titles = ("blob", "state", "bytes", "missing", "to fetch", "ranges", "created by")
        rows = (
            (
                layer.blob,
                str(layer.state),
                layer.total_bytes,
                layer.missing_bytes,
                layer.fetch_bytes,
                len(layer.ranges),
                short_command(layer.created_by),
            )
            for layer in self.layers
        )
        return html_table(repr(self)[1:-1], titles, rows, n_rows=len(self.layers))

    def __repr__(self) -> str:
        return (
            f"<ImagePlan {self.image.reference}: {self.missing_bytes:,} of {self.total_bytes:,} "
            f"bytes missing, {self.fetch_bytes:,} to fetch in {count(self.requests, 'request')}>"
        )


def _missing_bytes(layers: Iterable[LayerPlan]) -> int:
    return sum(layer.missing_bytes or 0 for layer in layers)
