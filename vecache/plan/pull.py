"""Plan the pull of whole images, layer by layer.

1. `presence.py` decides which layers are pulled, and which of those in part.
2. A layer that is pulled in part is replayed (`replay.py`) against the local layers and those of
   its own image that are committed when it looks: `schedule.py` says how many.
3. What is pulled is appended, with the cache file that Podman will write for it. A layer that was
   fetched whole has no TOC, and nothing of it is reused later; one that Podman converts gets a TOC
   that nobody knows before the pull.

Each layer is also replayed as if it found all layers before it, and as if it found none: the bounds
of the plan. Where nothing of the image's own layers is found, the three are one.

The same layer is planned many times: by several images, and in every order of them that is tried.
What does not depend on the store is computed once per `Planner`. Planning again with other options
shares the parsed TOCs. Reads no disk itself; an image reads its TOCs.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
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
from vecache.plan.options import GAP_BYTES, MAX_RANGES, PlanOptions, pull_options
from vecache.plan.presence import ImageStack, PresentLayers, state_of
from vecache.plan.replay import replay_layer
from vecache.plan.schedule import Transfer, visible_in_waves, visible_over_network
from vecache.store.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vecache.image.model import ImageLayer
    from vecache.plan.files import PullFiles
    from vecache.toc.layout import Layout

__all__ = ["Planner", "plan_image", "plan_images"]


def plan_image(
    image: Image,
    cache: LayersCache,
    *,
    reflink: bool | Literal["auto"] | None = None,
    hard_links: bool | None = None,
    layout: Literal["dir", "flat"] | None = None,
    parallel: int | None = None,
    partial: bool | None = None,
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
    reflink : bool or "auto", optional
        Whether the store's file system can reflink; "auto" tests it.
    hard_links : bool, optional
        Whether files are reused by hard link.
    layout : {"dir", "flat"}, optional
        How pulled layers are stored; flat is composefs.
    parallel : int, optional
        Layers that are copied at a time.
    partial : bool, optional
        Whether layers are pulled in part at all. None for this, and for the four above, is what
        the store's machine does (`Store.pull_settings`); where the layers came from no store, it
        is False, False, "dir", 6 and True.
    max_ranges : int
        Most ranges that one request asks for, at least 1.
    gap_bytes : int
        Gaps between ranges of at most this size are fetched too.
    whole_blobs : bool
        Whether the registry ignores which range is asked for, and sends the blob from its start.
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
        If `image` is not an Image, `cache` not a LayersCache, or an option not a bool.
    ValueError
        If an option is out of range.
    """
    _check_types(image, cache)
    options = pull_options(
        cache.store,
        reflink=reflink,
        hard_links=hard_links,
        layout=layout,
        parallel=parallel,
        partial=partial,
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
        Machine and registry; by default those of the store's machine.
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
    planner = Planner(options or pull_options(getattr(cache, "store", None)))
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
        """Plan the pull of one image."""
        _check_types(image, cache)
        one_by_one, caches = self._plan_one_by_one(image, cache, progress)
        pulled = [plan for plan in one_by_one if plan.state is not LayerState.PRESENT]
        plans: dict[tuple[int, int], LayerPlan] = {}

        def plan_with(number: int, visible: int) -> LayerPlan:
            """Plan a pulled layer that finds so many of the pulled layers before it."""
            key = number, visible
            if key not in plans:
                plans[key] = self._plan_again(pulled[number], caches[visible])
            return plans[key]

        def plan_all(visible: Sequence[int]) -> tuple[LayerPlan, ...]:
            planned = iter([plan_with(*each) for each in enumerate(visible)])
            return tuple(
                plan if plan.state is LayerState.PRESENT else next(planned) for plan in one_by_one
            )

        return ImagePlan(
            image,
            self._options,
            layers=plan_all(self._visible(pulled, plan_with)),
            cache_after=caches[-1],
            least=one_by_one,
            most=plan_all([0] * len(pulled)),
        )

    def _plan_one_by_one(
        self, image: Image, cache: LayersCache, progress: Callable[[], object] | None
    ) -> tuple[tuple[LayerPlan, ...], list[LayersCache]]:
        """Plan each layer as if it found all before it.

        Also return the layers that are there before the pull, and after each pulled layer.
        """
        present = PresentLayers(cache)
        stack = ImageStack(present)
        self._read_ahead(image, present)
        plans, caches = [], [cache]
        for layer in image.layers:
            plan = self._plan_layer(layer, caches[-1], present)
            after = self._commit(plan, present, stack)
            if plan.state is LayerState.PRESENT:
                caches[-1] = after
            else:
                caches.append(after)
            plans.append(plan)
            if progress is not None:
                progress()
        caches[-1] = caches[-1].with_image(_image_record(image, stack.top))
        return tuple(plans), caches

    def _plan_layer(
        self, layer: ImageLayer, cache: LayersCache, present: PresentLayers
    ) -> LayerPlan:
        if present.have(layer):
            return LayerPlan(layer, LayerState.PRESENT, None, cache)
        if state_of(layer, self._options) is LayerState.WHOLE:
            return LayerPlan(layer, LayerState.WHOLE, None, cache)
        files, _ = self._prepare(layer)
        with _layer_in_errors(layer):
            replay = replay_layer(files, cache, self._options)
        return LayerPlan(
            layer, LayerState.PARTIAL, replay, cache, ignores_ranges=self._options.whole_blobs
        )

    def _plan_again(self, plan: LayerPlan, cache: LayersCache) -> LayerPlan:
        """Plan a layer that finds fewer of its image's layers: the first of those it found."""
        # The first layer with a digest answers. So where no answer came from the layers that are
        # not visible, it is the same without them.
        if plan.replay is None or plan.replay.n_layers_used <= len(cache.layers):
            return plan
        with _layer_in_errors(plan.layer):
            replay = replay_layer(plan.replay.files, cache, self._options, plan.replay)
        return LayerPlan(plan.layer, plan.state, replay, cache, ignores_ranges=plan.ignores_ranges)

    def _commit(self, plan: LayerPlan, present: PresentLayers, stack: ImageStack) -> LayersCache:
        """Return the layers that are there once this one is committed."""
        layer, cache, parent = plan.layer, plan.cache, stack.top or None
        layer_id, exists = stack.add(layer, by_toc=self._options.estargz)
        if exists:
            if plan.state is LayerState.PRESENT:
                return cache
            return cache.with_blob_info(present.learn(layer, plan.state))
        committed = self._committed_layer(plan, layer_id)
        committed = replace(committed, record=replace(committed.record, parent=parent))
        present.add(committed.record)
        return cache.append(committed)

    def _committed_layer(self, plan: LayerPlan, layer_id: str) -> CachedLayer | ExcludedLayer:
        layer = plan.layer
        if plan.state is LayerState.PARTIAL:
            pulled = self._prepare(layer)[1]
            return replace(pulled, record=replace(pulled.record, id=layer_id))
        if plan.state is LayerState.PRESENT:
            # Only under another parent. Podman makes the layer from local data.
            record = LayerRecord(layer_id, diff_digest=layer.diff_id, is_read_only=False)
            return ExcludedLayer(record, "no TOC: made from a local layer")
        record = LayerRecord(
            layer_id,
            diff_digest=layer.diff_id,
            compressed_diff_digest=layer.blob,
            is_read_only=False,
        )
        if self._options.convert and self._options.partial:
            reason = "converted: its TOC is not known before the pull"
            return ExcludedLayer(record, reason, is_unread=True)
        return ExcludedLayer(record, "no TOC: pulled whole")

    def _visible(
        self, pulled: list[LayerPlan], plan_with: Callable[[int, int], LayerPlan]
    ) -> list[int]:
        """Return how many of the pulled layers before it each one finds committed."""
        options = self._options
        if options.bytes_per_second is None:
            return visible_in_waves(len(pulled), options.parallel)
        return visible_over_network(
            [Transfer(plan.toc_bytes, plan.toc_requests) for plan in pulled],
            lambda number, visible: plan_with(number, visible).data_transfer,
            options.parallel,
            options.bytes_per_second,
            options.round_trip_seconds,
        )

    def _read_ahead(self, image: Image, present: PresentLayers) -> None:
        """Announce the TOCs that the plan will read, so that they are fetched side by side."""
        if self._options.partial:
            image.read_ahead(
                layer
                for layer in image.layers
                if _key(layer) not in self._prepared and not present.have(layer)
            )

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


def _image_record(image: Image, top_layer: str) -> ImageRecord:
    """Return the record of a pulled image; its id depends on the config, which is not retained."""
    return ImageRecord(
        id=image.digest.partition(":")[2],
        digest=image.digest,
        names=tuple(dict.fromkeys(filter(None, (image.name, image.reference)))),
        top_layer=top_layer or None,
        big_data_names=(),
        store_root=Path(),
        is_read_only=False,
        manifest_digest=image.digest,
    )


def _key(layer: ImageLayer) -> tuple[str, str, str | None]:
    return layer.blob, layer.diff_id, layer.toc_digest


def _pulled_layer(layer: ImageLayer, layout: Layout) -> CachedLayer | ExcludedLayer:
    """Return a layer pulled in part, with the cache file that Podman will write for it."""
    record = LayerRecord(
        layer.diff_id.partition(":")[2],
        diff_digest=layer.diff_id,
        toc_digest=layer.toc_digest,
        is_read_only=False,
    )
    entries = layer.toc.entries
    try:
        cache = CacheFile.parse(pack_cache(entries, layout))
    except (DigestError, TocError) as error:
        # The pull itself does not check each digest. The next one fails to write this cache,
        # logs that, and goes on without: source containers/storage cache_linux.go load.
        return ExcludedLayer(record, str(error))
    return CachedLayer(record, cache, CacheSource.APPENDED, entries=entries, layout=layout)


@contextmanager
def _layer_in_errors(layer: ImageLayer) -> Iterator[None]:
    """Prefix the message of an error about an entry or a digest with its layer."""
    try:
        yield
    except (DigestError, TocError) as error:
        raise type(error)(f"layer {layer.blob}: {error}") from error
