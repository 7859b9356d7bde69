"""What is a layer to a plan, whatever it is held against? Its files, and the cache it leaves.

The same layer is planned many times over: by several images, and by every order of them that is
tried. What does not depend on the layers of the store is worked out once.

How is the pull of a whole image planned? Layer after layer, each joining what the next can use.

1. A layer that the store has, by diff-id, blob digest or TOC digest, is not pulled. If it has
   another parent there, Podman makes a copy that has no TOC and no cache: nothing joins.
2. A layer without a TOC is fetched whole, and nothing of it can be reused by chunk or file.
3. Any other layer is replayed (`replay.py`), and then joins the layers that the next one is held
   against, with the cache file that Podman will write for it.

Planning again with other options shares the parsed TOCs. Reads nothing from disk itself; an image
gives its TOCs when asked.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import DigestError, TocError
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

    from vecache.image.model import Image, ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.files import LayerFiles

__all__ = [
    "PreparedLayer",
    "Preparer",
    "joining_record",
    "naming",
    "plan_image",
    "plan_images",
    "plan_with",
]


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A layer with a TOC, ready to be replayed and to join."""

    files: LayerFiles  # what a pull walks through
    # what it is to the next layers: the cache file that Podman will write, or why it cannot
    joining: CachedLayer | ExcludedLayer


class Preparer:
    """Prepares layers, each once."""

    __slots__ = ("_prepared", "layout")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._prepared: dict[tuple[str, str, str | None], PreparedLayer] = {}

    def prepare(self, layer: ImageLayer) -> PreparedLayer:
        """Prepare a layer that has a TOC, or give what was prepared."""
        key = (layer.blob, layer.diff_id, layer.toc_digest)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(layer)
        return self._prepared[key]

    def _prepare(self, layer: ImageLayer) -> PreparedLayer:
        assert layer.toc_format is not None  # others are pulled whole
        entries, record = layer.toc.entries, joining_record(layer)
        with naming(layer):
            files = select_files(entries, layer.toc_format, layer.toc_offset, self.layout)
        try:
            cache = CacheFile.parse(pack_cache(entries, self.layout))
        except (DigestError, TocError) as error:
            # The pull itself does not look at each digest. The next one fails to write this cache,
            # logs that, and goes on without: source containers/storage cache_linux.go load.
            return PreparedLayer(files, ExcludedLayer(record, str(error)))
        flat_entries = entries if self.layout is Layout.FLAT else None
        joining = CachedLayer(record, cache, CacheSource.APPENDED, flat_entries=flat_entries)
        return PreparedLayer(files, joining)


@contextmanager
def naming(layer: ImageLayer) -> Iterator[None]:
    """Let an error about an entry or a digest say in which layer it is."""
    try:
        yield
    except (DigestError, TocError) as error:
        raise type(error)(f"layer {layer.blob}: {error}") from error


def joining_record(layer: ImageLayer) -> LayerRecord:
    """Make the record that the store will have of a pulled layer, as far as a plan needs it."""
    return LayerRecord(
        id=layer.diff_id.partition(":")[2],
        diff_digest=layer.diff_id,
        compressed_diff_digest=layer.blob,
        toc_digest=layer.toc_digest,
        is_read_only=False,
    )


def plan_image(
    image: Image,
    cache: LayersCache,
    *,
    reflink: bool = False,
    hard_links: bool = False,
    layout: str = Layout.DIR,
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
        Whether the store's file system can reflink; `vecache.store.reflink.can_reflink` asks it.
    hard_links : bool
        Whether files are reused by hard link.
    layout : {"dir", "flat"}
        How pulled layers are stored; flat is composefs.
    max_ranges : int
        Ranges that one request may ask for, at least 1.
    gap_bytes : int
        Gaps between ranges up to this size are fetched along.
    whole_blobs : bool
        Whether the registry sends nothing but whole blobs.
    accepted_ranges : int, optional
        Ranges that the registry takes in one request before it answers 400; all by default.

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
    return plan_with(image, cache, options)


def plan_with(
    image: Image,
    cache: LayersCache,
    options: PlanOptions,
    preparer: Preparer | None = None,
    progress: Callable[[], object] | None = None,
) -> ImagePlan:
    """Plan the pull of an image, as `plan_image` does, with options made beforehand."""
    preparer = preparer or Preparer(options.layout)
    plans = []
    for layer in image.layers:  # each is held against what the ones before it left
        plan, cache = _plan_layer(layer, cache, options, preparer)
        plans.append(plan)
        if progress is not None:
            progress()
    return ImagePlan(image, options, tuple(plans), cache)


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


def _plan_layer(
    layer: ImageLayer, cache: LayersCache, options: PlanOptions, preparer: Preparer
) -> tuple[LayerPlan, LayersCache]:
    if _is_present(layer, cache):
        return LayerPlan(layer, LayerState.PRESENT, None, cache), cache
    if layer.toc_format is None or options.whole_blobs:
        after = cache.append(ExcludedLayer(joining_record(layer), "no TOC: pulled whole"))
        return LayerPlan(layer, LayerState.WHOLE, None, cache), after
    prepared = preparer.prepare(layer)
    with naming(layer):
        replay = replay_layer(prepared.files, cache, options)
    return LayerPlan(layer, LayerState.PARTIAL, replay, cache), cache.append(prepared.joining)


def _is_present(layer: ImageLayer, cache: LayersCache) -> bool:
    return any(
        record.diff_digest == layer.diff_id
        or record.compressed_diff_digest == layer.blob
        or (layer.toc_digest is not None and record.toc_digest == layer.toc_digest)
        for record in cache.records
    )
