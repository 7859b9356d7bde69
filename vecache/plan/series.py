"""Plan a series of images, each on nodes that have another one of them and nothing else.

1. Each image is planned on a node that has nothing. What that leaves is a node that has it.
2. There the next image of the series is planned; where it was the first image, all others are; and
   with `between` all others in any case.

So the figures are those of `Planner.plan`, one pull after the other. TOCs are read and parsed once,
also of layers that several images have, and retained; a plan is dropped when its figures are taken.
With `between` the number of pulls is the square of that of the images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vecache.arrays import frozen
from vecache.index.layers_cache import LayersCache
from vecache.plan.best import Cause
from vecache.plan.history import FIGURES, LAYER, NOTHING, PULL, STATES, History
from vecache.plan.options import PlanOptions
from vecache.plan.pull import Planner, check_image
from vecache.store.settings import DEFAULT_PARALLEL
from vecache.toc.files import TocFormat
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vecache.image.model import Image, ImageLayer
    from vecache.plan.best import Best
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan

__all__ = ["count_layers", "history"]


def history(
    images: Iterable[Image],
    *,
    reflink: bool = False,
    hard_links: bool = False,
    layout: Literal["dir", "flat"] = "dir",
    parallel: int = DEFAULT_PARALLEL,
    between: bool = False,
    progress: Callable[[], object] | None = None,
) -> History:
    """Plan what each image of a series costs a node that has the one before, or the first.

    Parameters
    ----------
    images : iterable of Image
        In the order of the series, from `open_series` or `open_image`.
    reflink : bool
        Whether the node's file system can reflink.
    hard_links : bool
        Whether files are reused by hard link.
    layout : {"dir", "flat"}
        How the node stores layers; flat is composefs.
    parallel : int
        Layers that are copied at a time.
    between : bool
        Also plan each image on a node that has any one of the others, for `History.matrix`.
    progress : callable, optional
        Called after each layer that is planned.

    Returns
    -------
    History
        The figures of all these pulls, and of each image on a node that has nothing.

    Raises
    ------
    ImageError, TocError, DigestError
        If a layer's TOC cannot be read or breaks a rule.
    TypeError
        If an image is not an Image, or an option not a bool.
    ValueError
        If an option is out of range.
    """
    series = _share_layers(images)
    options = PlanOptions(reflink, hard_links, Layout(layout), parallel=parallel)
    planner, empty = Planner(options), LayersCache()
    found = _Figures()
    for number, image in enumerate(series):
        alone = planner.plan(image, empty, progress)
        found.add(number, NOTHING, alone)
        for later in _planned_after(number, len(series), between=between):
            found.add(later, number, planner.plan(series[later], alone.cache_after, progress))
    return found.history(series, options)


def count_layers(images: Sequence[Image], *, between: bool = False) -> int:
    """Count the layers that `history` plans, for a progress line."""
    return sum(len(image) for image in images) + sum(
        len(images[later])
        for number in range(len(images))
        for later in _planned_after(number, len(images), between=between)
    )


class _Figures:
    """The figures of pulls, in the order in which they are planned."""

    def __init__(self) -> None:
        self._pulls: list[Any] = []
        self._layers: list[Any] = []
        self._blobs: dict[str, int] = {}

    def add(self, image: int, after: int, plan: ImagePlan) -> None:
        """Take the figures of one pull."""
        states = [layer.state for layer in plan.layers]
        pull = (
            *(image, after, *(states.count(state) for state in STATES)),
            *_figures(plan, plan.best),
            *map(_limit, (*plan.missing_bounds, *plan.fetch_bounds, plan.whole_bytes)),
        )
        layers = [
            (
                *(image, after, number, self._blobs.setdefault(layer.blob, len(self._blobs))),
                *(STATES.index(layer.state), *_figures(layer, best)),
            )
            for number, (layer, best) in enumerate(
                zip(plan.layers, plan.best.layers, strict=True), 1
            )
        ]
        self._pulls.append(np.array([pull], PULL))
        self._layers.append(np.array(layers, LAYER))

    def history(self, series: Sequence[Image], options: PlanOptions) -> History:
        """Put all pulls in the order of their images."""
        tables = []
        for dtype, parts in ((PULL, self._pulls), (LAYER, self._layers)):
            table = np.concatenate([np.empty(0, dtype), *parts])
            order = np.lexsort((table["after"], table["image"]))  # stable: layers stay in order
            tables.append(frozen(table[order]))
        names = tuple(image.reference for image in series)
        return History(names, options, tuple(self._blobs), *tables)


def _figures(plan: ImagePlan | LayerPlan, best: Best) -> list[int]:
    figures = [getattr(plan, name) or 0 for name in FIGURES[:6]]
    return [*map(_limit, (*figures, best.missing_bytes, *(best.excess[c] for c in Cause)))]


def _limit(number: int) -> int:
    """Return the number of 64 bits that is nearest: absurd sizes of TOCs may exceed them."""
    return min(max(number, -(2**63)), 2**63 - 1)


def _planned_after(number: int, n_images: int, *, between: bool) -> list[int]:
    """Return which images are planned on a node that has this one."""
    is_first = number == 0
    return [
        each
        for each in range(n_images)
        if each != number and (between or is_first or each == number + 1)
    ]


def _share_layers(images: Iterable[Image]) -> list[Image]:
    """Let images share their equal layers, so that a TOC is read once for all of them."""
    known: dict[tuple[object, ...], ImageLayer] = {}
    series = []
    for image in images:
        check_image(image)
        layers = tuple(known.setdefault(_identity(layer), layer) for layer in image.layers)
        series.append(replace(image, layers=layers))
    return series


def _identity(layer: ImageLayer) -> tuple[object, ...]:
    """Return all that a plan may depend on; equal for equal layers."""
    reader = layer.reader
    is_chunked = reader is not None and reader.toc_format is TocFormat.ZSTD_CHUNKED
    return (
        *(layer.blob, layer.blob_bytes, layer.diff_id, type(reader), layer.toc_digest),
        # Of an eStargz layer the blob says where the TOC is; of the other kind the manifest does.
        *((reader.offset(), reader.wire_bytes()) if reader is not None and is_chunked else ()),
    )
