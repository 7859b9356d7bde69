"""Plan a series of images, each on nodes that have another one of them and nothing else.

1. Each image is planned on a node that has nothing. What that leaves is a node that has it.
2. On the node that has the first image it is planned again.
3. On the node that has it the next image is planned, and with `between` all others.

So the figures are those of `Planner.plan`, one pull after the other. TOCs are read and parsed once,
also of layers that several images have. Plans are dropped when their figures are taken, and TOCs
after the last image that has them. So memory is that of about three images, however long the series
is; with `between`, or where the caller holds the images, which retain their TOCs, that of all. With
`between` the number of pulls is the square of that of the images.
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
from vecache.plan.planner import Planner, check_image, check_images
from vecache.store.settings import DEFAULT_PARALLEL
from vecache.toc.files import TocFormat
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
        In the order of the series, from `open_series` or `open_image`. Images retain their TOCs;
        those of an iterator are dropped on the way.
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

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> names = ("base", "app1", "app2")
    >>> images = [vecache.open_image(f"containers-storage:{name}", store=store) for name in names]
    >>> found = vecache.history(images, reflink=True)
    >>> found.figures("missing_bytes").tolist(), found.saved().round(2).tolist()
    ([1079348, 338131, 730665], [0.0, 0.85, 0.61])
    """
    series = dict(enumerate(_share_layers(images)))
    names = tuple(image.reference for image in series.values())
    planner = Planner(PlanOptions(reflink, hard_links, Layout(layout), parallel=parallel))
    nodes = {NOTHING: LayersCache()}
    found = _Figures()
    for number in range(len(names)):
        for image, after in _pulls(number, len(names), between=between):
            plan = planner.plan(series[image], nodes[after], progress)
            found.add(image, after, plan)
            if after == NOTHING:
                nodes[number] = plan.cache_after
        if number:
            del nodes[number]
        if not between:
            del series[number]
            planner.retain(layer for image in series.values() for layer in image.layers)
    return found.history(names, planner.options)


def count_layers(images: Sequence[Image], *, between: bool = False) -> int:
    """Count the layers that `history` plans, for a progress line."""
    n_images = len(images)
    return sum(
        len(images[image])
        for number in range(n_images)
        for image, _ in _pulls(number, n_images, between=between)
    )


def _pulls(number: int, n_images: int, *, between: bool) -> Iterator[tuple[int, int]]:
    """Yield what is planned once it is an image's turn: an image, and the one that the node has."""
    yield number, NOTHING
    if between:
        yield from ((each, number) for each in range(n_images) if each != number)
        return
    if number > 1:
        yield number, 0
    if number + 1 < n_images:
        yield number + 1, number


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

    def history(self, names: tuple[str, ...], options: PlanOptions) -> History:
        """Put all pulls in the order of their images."""
        tables = []
        for dtype, parts in ((PULL, self._pulls), (LAYER, self._layers)):
            table = np.concatenate([np.empty(0, dtype), *parts])
            order = np.lexsort((table["after"], table["image"]))  # stable: layers stay in order
            tables.append(frozen(table[order]))
        return History(names, options, tuple(self._blobs), *tables)


def _figures(plan: ImagePlan | LayerPlan, best: Best) -> list[int]:
    figures = [getattr(plan, name) or 0 for name in FIGURES[:6]]
    return [*map(_limit, (*figures, best.missing_bytes, *(best.excess[c] for c in Cause)))]


def _limit(number: int) -> int:
    """Return the number of 64 bits that is nearest: absurd sizes of TOCs may exceed them."""
    return min(max(number, -(2**63)), 2**63 - 1)


def _share_layers(images: Iterable[Image]) -> list[Image]:
    """Let images share their equal layers, so that a TOC is read once for all of them."""
    check_images(images)
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
