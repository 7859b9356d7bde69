"""Plan the pull of whole images, layer by layer.

1. A layer that the store has, by diff-id, blob digest or TOC digest, is not pulled. If it has
   another parent there, Podman makes a copy without TOC and cache: nothing is appended.
2. A layer without a TOC is fetched whole, and nothing of it can be reused later.
3. Any other layer is replayed (`replay.py`) and then appended, with the cache file that Podman will
   write for it, to the layers that the next one is planned against.

The same layer is planned many times: by several images, and in every order of them that is tried.
What does not depend on the store is computed once per `Planner`. Planning again with other options
shares the parsed TOCs. Reads no disk itself; an image reads its TOCs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import DigestError, TocError
from vecache.image.model import Image
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource, ExcludedLayer
from vecache.plan.files import select_files
from vecache.plan.image_plan import ImagePlan
from vecache.plan.layer_plan import LayerPlan, LayerState
from vecache.plan.options import GAP_BYTES, MAX_RANGES, PlanOptions
from vecache.plan.replay import replay_layer
from vecache.store.records import LayerRecord
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vecache.image.model import ImageLayer
    from vecache.plan.files import PullFiles

__all__ = ["Planner", "plan_image", "plan_images"]


def plan_image(
    image: Image,
    cache: LayersCache,
    *,
    reflink: bool = False,
    hard_links: bool = False,
    layout: Literal["dir", "flat"] = "dir",
    max_ranges: int = MAX_RANGES,
    gap_bytes: int = GAP_BYTES,
    whole_blobs: bool = False,
    accepted_ranges: int | None = None,
) -> ImagePlan:
    """Plan the pull of an image.

    Parameters
    ----------
    image : Image
        From `open_image`.
    cache : LayersCache
        The layers that count as present.
    reflink : bool
        Whether the store's file system can reflink; `vecache.store.reflink.can_reflink` tests it.
    hard_links : bool
        Whether files are reused by hard link.
    layout : {"dir", "flat"}
        How pulled layers are stored; flat is composefs.
    max_ranges : int
        Most ranges that one request asks for, at least 1.
    gap_bytes : int
        Gaps between ranges of at most this size are fetched too.
    whole_blobs : bool
        Whether the registry sends whole blobs only.
    accepted_ranges : int, optional
        Most ranges that the registry accepts in one request before it answers 400; any number by
        default.

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
    TypeError
        If `image` is not an Image, or `cache` not a LayersCache.
    ValueError
        If an option is out of range.
    """
    options = PlanOptions(
        reflink=reflink,
        hard_links=hard_links,
        layout=Layout(layout),
        max_ranges=max_ranges,
        gap_bytes=gap_bytes,
        whole_blobs=whole_blobs,
        accepted_ranges=accepted_ranges,
    )
    return Planner(options).plan(image, cache)


def plan_images(
    images: Iterable[Image],
    cache: LayersCache,
    options: PlanOptions | None = None,
    *,
    progress: Callable[[], object] | None = None,
) -> tuple[ImagePlan, ...]:
    """Plan the pulls of several images, one after another.

    Parameters
    ----------
    images : iterable of Image
        In the order of the pulls.
    cache : LayersCache
        The layers that count as present before the first.
    options : PlanOptions, optional
        Machine and registry.
    progress : callable, optional
        Called after each layer.

    Returns
    -------
    tuple of ImagePlan
        Each planned against the layers that the ones before it left.

    Raises
    ------
    ImageError, TocError, DigestError, LocationError
        As `plan_image`.
    """
    planner = Planner(options or PlanOptions())
    plans = []
    for image in images:
        plans.append(planner.plan(image, cache, progress))
        cache = plans[-1].cache_after
    return tuple(plans)


class Planner:
    """Plans pulls with the same options, and prepares each layer once."""

    def __init__(self, options: PlanOptions) -> None:
        self._options = options
        self._prepared: dict[
            tuple[str, str, str | None], tuple[PullFiles, CachedLayer | ExcludedLayer]
        ] = {}

    def plan(
        self, image: Image, cache: LayersCache, progress: Callable[[], object] | None = None
    ) -> ImagePlan:
        """Plan the pull of one image, each layer against what the ones before it left."""
        _check_types(image, cache)
        if not self._options.whole_blobs:
            image.read_ahead(
                layer
                for layer in image.layers
                if _key(layer) not in self._prepared and not _is_present(layer, cache)
            )
        plans = []
        for layer in image.layers:
            plan, cache = self._plan_layer(layer, cache)
            plans.append(plan)
            if progress is not None:
                progress()
        return ImagePlan(image, self._options, tuple(plans), cache)

    def _plan_layer(self, layer: ImageLayer, cache: LayersCache) -> tuple[LayerPlan, LayersCache]:
        if _is_present(layer, cache):
            return LayerPlan(layer, LayerState.PRESENT, None, cache), cache
        if layer.toc_format is None or self._options.whole_blobs:
            without_toc = ExcludedLayer(_pulled_record(layer), "no TOC: pulled whole")
            return LayerPlan(layer, LayerState.WHOLE, None, cache), cache.append(without_toc)
        files, pulled = self._prepare(layer)
        with _layer_in_errors(layer):
            replay = replay_layer(files, cache, self._options)
        return LayerPlan(layer, LayerState.PARTIAL, replay, cache), cache.append(pulled)

    def _prepare(self, layer: ImageLayer) -> tuple[PullFiles, CachedLayer | ExcludedLayer]:
        """Return the files that a pull visits, and the layer as the store has it afterwards."""
        key = _key(layer)
        if key not in self._prepared:
            assert layer.toc_format is not None  # others are pulled whole
            entries, toc_offset = layer.toc.entries, layer.toc_offset
            layout = self._options.layout
            with _layer_in_errors(layer):
                files = select_files(entries, layer.toc_format, toc_offset, layout)
            self._prepared[key] = files, _pulled_layer(layer, layout)
        return self._prepared[key]


def _check_types(image: object, cache: object) -> None:
    if not isinstance(image, Image):
        found = type(image).__name__
        raise TypeError(f"image: found {found}, wanted an Image, from vecache.open_image(NAME)")
    if not isinstance(cache, LayersCache):
        found = type(cache).__name__
        raise TypeError(
            f"cache: found {found}, wanted a LayersCache, from vecache.LayersCache.load(STORE)"
        )


def _key(layer: ImageLayer) -> tuple[str, str, str | None]:
    return layer.blob, layer.diff_id, layer.toc_digest


def _is_present(layer: ImageLayer, cache: LayersCache) -> bool:
    return any(
        record.diff_digest == layer.diff_id
        or record.compressed_diff_digest == layer.blob
        or (layer.toc_digest is not None and record.toc_digest == layer.toc_digest)
        for record in cache.records
    )


def _pulled_layer(layer: ImageLayer, layout: Layout) -> CachedLayer | ExcludedLayer:
    """Return a pulled layer with the cache file that Podman will write for it."""
    record, entries = _pulled_record(layer), layer.toc.entries
    try:
        cache = CacheFile.parse(pack_cache(entries, layout))
    except (DigestError, TocError) as error:
        # The pull itself does not check each digest. The next one fails to write this cache,
        # logs that, and goes on without: source containers/storage cache_linux.go load.
        return ExcludedLayer(record, str(error))
    flat_entries = entries if layout is Layout.FLAT else None
    return CachedLayer(record, cache, CacheSource.APPENDED, flat_entries=flat_entries)


def _pulled_record(layer: ImageLayer) -> LayerRecord:
    """Return the record that the store will have of a pulled layer, as far as a plan needs it."""
    return LayerRecord(
        id=layer.diff_id.partition(":")[2],
        diff_digest=layer.diff_id,
        compressed_diff_digest=layer.blob,
        toc_digest=layer.toc_digest,
        is_read_only=False,
    )


@contextmanager
def _layer_in_errors(layer: ImageLayer) -> Iterator[None]:
    """Prefix the message of an error about an entry or a digest with its layer."""
    try:
        yield
    except (DigestError, TocError) as error:
        raise type(error)(f"layer {layer.blob}: {error}") from error
