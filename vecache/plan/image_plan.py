"""What will the pull of a whole image cost? Layer after layer, each joining what the next can use.

1. A layer that the store has, by diff-id, blob digest or TOC digest, is not pulled. If it has
   another parent there, Podman makes a copy that has no TOC and no cache: nothing joins.
2. A layer without a TOC is fetched whole, and nothing of it can be reused by chunk or file.
3. Any other layer is replayed (`replay.py`), and then joins the layers that the next one is held
   against, with the cache file that Podman will write for it.

Frozen values: planning again with other options shares the parsed TOCs. Reads nothing from disk
itself; an image gives its TOCs when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vecache.index.layers import ExcludedLayer
from vecache.plan.layer_plan import LayerPlan, LayerState
from vecache.plan.options import PlanOptions
from vecache.plan.prepare import Preparer, joining_record
from vecache.plan.replay import replay_layer
from vecache.text import html_table
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.image.model import Image, ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.best import Best
    from vecache.plan.curve import RangeCurve

__all__ = ["ImagePlan", "plan_image", "plan_images", "plan_with"]


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
        """
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


def plan_image(
    image: Image,
    cache: LayersCache,
    *,
    reflink: bool = False,
    hard_links: bool = False,
    layout: str = Layout.DIR,
    **options: Any,
) -> ImagePlan:
    """Plan the pull of an image.

    Parameters
    ----------
    image : Image
        From `open_image`.
    cache : LayersCache
        The layers that count as present.
    reflink : bool
        Whether the store's file system can reflink; `vecache.store.reflink.can_reflink` asks it.
    hard_links : bool
        Whether files are reused by hard link.
    layout : {"dir", "flat"}
        How pulled layers are stored; flat is composefs.
    **options
        `max_ranges`, `gap_bytes` and `whole_blobs` of `PlanOptions`.

    Returns
    -------
    ImagePlan
        What Podman will reuse, fetch and ask for.

    Raises
    ------
    ImageError, TocError, DigestError
        If a layer's TOC cannot be read or breaks a rule.
    LocationError
        If a cache file is corrupt where the pull would look: Podman's pull fails.
    """
    return plan_with(image, cache, PlanOptions(reflink, hard_links, Layout(layout), **options))


def plan_with(
    image: Image,
    cache: LayersCache,
    options: PlanOptions,
    preparer: Preparer | None = None,
    progress: Callable[[], object] | None = None,
) -> ImagePlan:
    """Plan the pull of an image, as `plan_image` does, with options made beforehand.

    Parameters
    ----------
    image : Image
        From `open_image`.
    cache : LayersCache
        The layers that count as present.
    options : PlanOptions
        Machine and registry.
    preparer : Preparer, optional
        Of the same layout; spares the work on layers that it has prepared already.
    progress : callable, optional
        Called after each layer.

    Returns
    -------
    ImagePlan
        What Podman will reuse, fetch and ask for.

    Raises
    ------
    ImageError, TocError, DigestError, LocationError
        As `plan_image`.
    """
    preparer = preparer or Preparer(options.layout)
    plans = []
    for layer in image.layers:  # each is held against what the ones before it left
        plan, cache = _plan_layer(layer, cache, options, preparer)
        plans.append(plan)
        if progress is not None:
            progress()
    return ImagePlan(image, options, tuple(plans), cache)


def _plan_layer(
    layer: ImageLayer, cache: LayersCache, options: PlanOptions, preparer: Preparer
) -> tuple[LayerPlan, LayersCache]:
    if _is_present(layer, cache):
        return LayerPlan(layer, LayerState.PRESENT, None, cache), cache
    if layer.toc_format is None or options.whole_blobs:
        after = cache.join(ExcludedLayer(joining_record(layer), "no TOC: pulled whole"))
        return LayerPlan(layer, LayerState.WHOLE, None, cache), after
    prepared = preparer.prepare(layer)
    replay = replay_layer(prepared.files, cache, options)
    return LayerPlan(layer, LayerState.PARTIAL, replay, cache), cache.join(prepared.joining)


def plan_images(
    images: Iterable[Image],
    cache: LayersCache,
    options: PlanOptions,
    progress: Callable[[], object] | None = None,
) -> tuple[ImagePlan, ...]:
    """Plan the pulls of several images, one after another.

    Parameters
    ----------
    images : iterable of Image
        In the order of the pulls.
    cache : LayersCache
        The layers that count as present before the first.
    options : PlanOptions
        Machine and registry.
    progress : callable, optional
        Called after each layer.

    Returns
    -------
    tuple of ImagePlan
        Each held against what the ones before it left.

    Raises
    ------
    ImageError, TocError, DigestError, LocationError
        As `plan_image`.
    """
    preparer = Preparer(options.layout)
    plans = []
    for image in images:
        plans.append(plan_with(image, cache, options, preparer, progress))
        cache = plans[-1].cache_after
    return tuple(plans)


def _is_present(layer: ImageLayer, cache: LayersCache) -> bool:
    return any(
        record.diff_digest == layer.diff_id
        or record.compressed_diff_digest == layer.blob
        or (layer.toc_digest is not None and record.toc_digest == layer.toc_digest)
        for record in cache.records
    )
