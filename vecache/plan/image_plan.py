"""What will the pull of a whole image cost? Its layers, the sums of their figures, and more forms.

A frozen value, made by `pull.py`. What a plan can do without (the gap to the best possible, tables,
curves, stories) stands in modules of its own and is imported when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.best import Best
    from vecache.plan.curve import RangeCurve
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions

__all__ = ["ImagePlan"]


@dataclass(frozen=True, eq=False, repr=False)
class ImagePlan:
    """The pull of one image.

    Attributes
    ----------
    image : Image
        What is pulled.
    options : PlanOptions
        How.
    layers : tuple of LayerPlan
        From the bottom up.
    cache_after : LayersCache
        The layers that the next image is held against.
    """

    image: Image
    options: PlanOptions
    layers: tuple[LayerPlan, ...]
    cache_after: LayersCache

    @property
    def total_bytes(self) -> int:
        """Uncompressed bytes of all files in the layers that are pulled by their TOC."""
        return sum(layer.total_bytes for layer in self.layers)

    @property
    def missing_bytes(self) -> int:
        """Uncompressed bytes of them that no local layer gives."""
        return sum(layer.missing_bytes for layer in self.layers)

    @property
    def fetch_bytes(self) -> int:
        """Bytes over the wire for data."""
        return sum(layer.fetch_bytes for layer in self.layers)

    @property
    def slack_bytes(self) -> int:
        """Bytes over the wire that are there only because gaps are fetched along."""
        return sum(layer.slack_bytes for layer in self.layers)

    @property
    def toc_bytes(self) -> int:
        """Bytes over the wire for TOCs."""
        return sum(layer.toc_bytes for layer in self.layers)

    @property
    def requests(self) -> int:
        """Requests for TOCs and data; manifest and config not counted."""
        return sum(layer.requests for layer in self.layers)

    @cached_property
    def best(self) -> Best:
        """The least that any client could fetch given the same layers, and the gap to it."""
        from vecache.plan.best import find_best  # noqa: PLC0415 - a plan does without

        return find_best(self)

    def to_arrow(self) -> Any:
        """Export every file and chunk.

        Returns
        -------
        pyarrow.Table of one row a file and chunk
            As `plan.table` describes.
        """
        from vecache.plan.table import plan_to_arrow  # noqa: PLC0415 - a plan does without

        return plan_to_arrow(self)

    def to_json_dict(self) -> dict[str, Any]:
        """Describe the plan as `vecache plan --json` prints it.

        Returns
        -------
        dict
            Dicts, lists, texts and numbers.
        """
        from vecache.plan.document import plan_to_json_dict  # noqa: PLC0415 - a plan does without

        return plan_to_json_dict(self)

    def curve(self) -> RangeCurve:
        """Count the bytes for each number of ranges that one request may have.

        Returns
        -------
        RangeCurve
            `plot` draws it. `curve_by_gap` of `vecache.plan.curve` gives the one by gaps.
        """
        from vecache.plan.curve import curve_by_ranges  # noqa: PLC0415 - a plan does without

        return curve_by_ranges(self)

    def seconds(self, bytes_per_second: float, round_trip_seconds: float) -> float:
        """Estimate how long the pull waits for the network, as `RangeCurve.seconds` does.

        Parameters
        ----------
        bytes_per_second : float
            What the line carries, above 0.
        round_trip_seconds : float
            From a request to the first byte of its answer, from 0.

        Returns
        -------
        float
            Round trips of all requests, one after another, and the time for the bytes.

        Raises
        ------
        ValueError
            If a number is out of range.
        """
        from vecache.plan.curve import require_line  # noqa: PLC0415 - a plan does without

        require_line(bytes_per_second, round_trip_seconds)
        header_bytes = sum(layer.header_bytes for layer in self.layers)
        n_bytes = self.fetch_bytes + self.toc_bytes + header_bytes
        return self.requests * round_trip_seconds + n_bytes / bytes_per_second

    def explain(self, path: str | bytes) -> list[str]:
        """Tell the story of one file.

        Parameters
        ----------
        path : str or bytes
            Path in the image; where it begins makes no difference: `/`, `./` or neither.

        Returns
        -------
        list of str
            Plain sentences, layer by layer from the bottom up.

        Raises
        ------
        PathNotFoundError
            If no layer has the path; the message has similar ones.
        """
        from vecache.plan.explain import explain  # noqa: PLC0415 - a plan does without

        return explain(self, path)

    def _repr_html_(self) -> str:
        titles = ("layer", "state", "bytes", "missing", "to fetch", "ranges")
        rows = (
            (
                layer.layer.blob[:19],
                str(layer.state),
                layer.total_bytes,
                layer.missing_bytes,
                layer.fetch_bytes,
                len(layer.ranges),
            )
            for layer in self.layers
        )
        return html_table(repr(self)[1:-1], titles, rows, n_rows=len(self.layers))

    def __repr__(self) -> str:
        return (
            f"<ImagePlan {self.image.reference}: {self.missing_bytes:,} of {self.total_bytes:,} "
            f"bytes missing, {self.fetch_bytes:,} to fetch in {self.requests} requests>"
        )
