"""Replay the pull of an image, layer by layer.

1. `presence.py` decides which layers are pulled, and which of those in part.
2. A layer that is pulled in part is replayed (`replay.py`) against the local layers and those of
   its own image that are committed when it looks: `schedule.py` says how many.
3. What is pulled is appended (`commit.py`).

Each layer is also replayed as if it found all layers before it, and as if it found none: the bounds
of the plan. Where nothing of the image's own layers is found, the three are one; so they are where
layers are copied one at a time. A layer that the image has twice is pulled twice if the second one
starts before the first is committed.

The same layer is planned many times: by several images, and in every order of them that is tried.
What does not depend on the store is computed once per `Planner`. Planning again with other options
shares the parsed TOCs. Reads no disk itself; an image reads its TOCs.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from vecache.errors import DigestError, TocError
from vecache.image.model import Image
from vecache.index.layers_cache import LayersCache
from vecache.plan.commit import Commits, pulled_layer
from vecache.plan.files import select_files
from vecache.plan.image_plan import ImagePlan
from vecache.plan.layer_plan import LayerPlan, LayerState
from vecache.plan.presence import state_of
from vecache.plan.replay import replay_layer
from vecache.plan.schedule import Transfer, visible_in_waves, visible_over_network
from vecache.plan.sound import require_distinct
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vecache.image.model import ImageLayer
    from vecache.index.load import CachedLayer, ExcludedLayer
    from vecache.plan.files import PullFiles
    from vecache.plan.options import PlanOptions
    from vecache.toc.layout import Layout

__all__ = ["Planner", "check_arguments", "check_image", "check_images"]

_Key: TypeAlias = tuple[str, str, str | None]
_Prepared: TypeAlias = "tuple[PullFiles, CachedLayer | ExcludedLayer]"


class Planner:
    """Plans pulls with the same options, and prepares each layer once."""

    def __init__(self, options: PlanOptions) -> None:
        self.options = options
        self._prepared: dict[tuple[_Key, Layout], _Prepared] = {}
        self._states: dict[_Key, LayerState] = {}

    def with_options(self, options: PlanOptions) -> Planner:
        """Return a planner with other options that shares what was prepared."""
        other = Planner(options)
        other._prepared = self._prepared
        return other

    def plan(
        self, image: Image, cache: LayersCache, progress: Callable[[], object] | None = None
    ) -> ImagePlan:
        """Plan the pull of one image."""
        check_arguments(image, cache)
        pull = _ImagePull(self, image, cache)
        least = pull.plan_one_by_one(progress)
        return ImagePlan(
            image,
            self.options,
            layers=pull.plan_visible(pull.visible()),
            cache_after=pull.commits.finish(image),
            least=least,
            most=least if self.options.parallel == 1 else pull.plan_visible([0] * pull.n_pulled),
            refused_bounds=pull.refused_bounds(),
            layer_ids=tuple(pull.commits.layer_ids),
        )

    def is_prepared(self, layer: ImageLayer) -> bool:
        """Return whether a layer's TOC has been read and parsed."""
        return (_key(layer), self.options.layout) in self._prepared

    def state(self, layer: ImageLayer) -> LayerState:
        """Return how a layer that is not present is pulled."""
        key = _key(layer)
        if key not in self._states:
            self._states[key] = state_of(layer, self.options)
        return self._states[key]

    def retain(self, layers: Iterable[ImageLayer]) -> None:
        """Drop what was prepared, but not of these layers."""
        keys = {_key(layer) for layer in layers}
        self._prepared = {key: each for key, each in self._prepared.items() if key[0] in keys}
        self._states = {key: self._states[key] for key in self._states.keys() & keys}

    def plan_pulled(self, layer: ImageLayer, cache: LayersCache) -> LayerPlan:
        """Plan a layer that is not present."""
        state, options = self.state(layer), self.options
        # Of a layer without tar-split only the TOC says that it has to come whole.
        reads_toc = options.partial and layer.toc_format is TocFormat.ZSTD_CHUNKED
        if state is LayerState.WHOLE:
            return LayerPlan(layer, state, None, cache, options.whole_blobs, reads_toc)
        files, _ = self.prepare(layer)
        with _layer_in_errors(layer):
            replay = replay_layer(files, cache, options)
        return LayerPlan(layer, state, replay, cache, options.whole_blobs, reads_toc=True)

    def plan_again(self, plan: LayerPlan, cache: LayersCache) -> LayerPlan:
        """Plan a layer that finds fewer of its image's layers: the first of those it found."""
        if plan.state is LayerState.PRESENT:  # for one that it does not find
            return self.plan_pulled(plan.layer, cache)
        # The first layer with a digest answers. So where no answer came from the layers that are
        # not visible, it is the same without them.
        if plan.replay is None or plan.replay.n_layers_used <= len(cache.layers):
            return plan
        with _layer_in_errors(plan.layer):
            replay = replay_layer(plan.replay.files, cache, self.options, plan.replay)
        return replace(plan, replay=replay, cache=cache)

    def prepare(self, layer: ImageLayer) -> _Prepared:
        """Return the files that a pull visits, and the layer as the store has it afterwards."""
        layout = self.options.layout
        key = _key(layer), layout
        if key not in self._prepared:
            assert layer.toc_format is not None  # others are pulled whole
            entries, toc_offset = layer.toc.entries, layer.toc_offset
            with _layer_in_errors(layer):
                if layer.toc_format is TocFormat.ZSTD_CHUNKED:
                    require_distinct(layer.toc)
                files = select_files(
                    entries, layer.toc_format, toc_offset, layout, layer.blob_bytes
                )
            self._prepared[key] = files, pulled_layer(layer, layout)
        return self._prepared[key]


class _ImagePull:
    """The pull of one image; its layers that the store lacks at first are counted from 0."""

    def __init__(self, planner: Planner, image: Image, cache: LayersCache) -> None:
        self.commits = Commits(cache, planner.options)
        self._planner = planner
        self._image = image
        self._one_by_one: list[LayerPlan] = []
        self._rows = [
            row for row, layer in enumerate(image.layers) if not self.commits.present.have(layer, 0)
        ]
        self._plans: dict[tuple[int, int], LayerPlan] = {}

    @property
    def n_pulled(self) -> int:
        """How many layers the store lacks at first."""
        return len(self._rows)

    def plan_one_by_one(self, progress: Callable[[], object] | None) -> tuple[LayerPlan, ...]:
        """Plan each layer as if it found all before it."""
        commits, planner = self.commits, self._planner
        layers, lacking = self._image.layers, set(self._rows)
        if planner.options.partial:  # so that TOCs are fetched side by side
            self._image.read_ahead(
                layers[row] for row in self._rows if not planner.is_prepared(layers[row])
            )
        for row, layer in enumerate(layers):
            cache = commits.caches[-1]
            if commits.present.have(layer, len(commits.caches) - 1):
                plan = LayerPlan(layer, LayerState.PRESENT, None, cache)
                commits.add_present(layer, may_be_pulled=row in lacking)
            else:
                plan = planner.plan_pulled(layer, cache)
                if plan.state is LayerState.WHOLE:
                    commits.add_whole(layer)
                else:
                    commits.add_partial(layer, planner.prepare(layer)[1])
            self._one_by_one.append(plan)
            if progress is not None:
                progress()
        return tuple(self._one_by_one)

    def plan_visible(self, visible: Sequence[int | None]) -> tuple[LayerPlan, ...]:
        """Plan each layer as if it found so many of the image's; None means that it is present."""
        plans = self._one_by_one.copy()
        for number, n_layers in enumerate(visible):
            if n_layers is not None:
                plans[self._rows[number]] = self._plan(number, n_layers)
        return tuple(plans)

    def visible(self) -> list[int | None]:
        """Return how many of the image's layers each one finds committed."""
        options = self._planner.options
        if options.bytes_per_second is None:
            return visible_in_waves(self.n_pulled, options.parallel, self._is_present)
        alone = [self._plan(number, 0) for number in range(self.n_pulled)]
        return visible_over_network(
            [Transfer(plan.toc_bytes, plan.toc_requests) for plan in alone],
            lambda number, n_layers: self._plan(number, n_layers).data_transfer,
            options.parallel,
            options.bytes_per_second,
            options.round_trip_seconds,
            self._is_present,
        )

    def refused_bounds(self) -> tuple[int, int] | None:
        """Return the least and most bytes of data, where refused requests make both hard to tell.

        Podman asks again with half as many ranges, whatever the registry would accept. So a layer
        that misses less may fetch more, and only all numbers of layers to find give the bounds.
        """
        options = self._planner.options
        if options.accepted_ranges is None or options.parallel == 1:
            return None
        pulled = {row: number for number, row in enumerate(self._rows)}
        least = most = 0
        for row, found in enumerate(self._one_by_one):
            plan, sizes = found, [found.fetch_bytes]
            for n_layers in reversed(range(pulled.get(row, -1) + 1)):
                plan = self._planner.plan_again(plan, self.commits.caches[n_layers])
                sizes.append(plan.fetch_bytes)
            least, most = least + min(sizes), most + max(sizes)
        return least, most

    def _is_present(self, number: int, n_committed: int) -> bool:
        layer = self._image.layers[self._rows[number]]
        return self.commits.present.have(layer, n_committed)

    def _plan(self, number: int, n_layers: int) -> LayerPlan:
        """Plan a layer that is pulled, and finds so many of the image's."""
        key = number, n_layers
        if key not in self._plans:
            plan, cache = self._one_by_one[self._rows[number]], self.commits.caches[n_layers]
            self._plans[key] = self._planner.plan_again(plan, cache)
        return self._plans[key]


def check_images(images: object) -> None:
    """Raise TypeError for one image, or one name, where several are wanted."""
    if isinstance(images, (Image, str)):
        raise TypeError(f"images: found one {type(images).__name__}, wanted a list: [image]")


def check_image(image: object) -> None:
    """Raise TypeError for what is not an image."""
    if not isinstance(image, Image):
        found = type(image).__name__
        name = repr(image[:200]) if isinstance(image, str) else "NAME"
        raise TypeError(f"image: found {found}, wanted an Image, from vecache.open_image({name})")


def check_arguments(image: object, cache: object) -> None:
    """Raise TypeError for what is not an image, or not a cache."""
    check_image(image)
    if not isinstance(cache, LayersCache):
        found = type(cache).__name__
        raise TypeError(
            f"cache: found {found}, wanted a LayersCache, from vecache.LayersCache.load(STORE)"
        )


def _key(layer: ImageLayer) -> _Key:
    return layer.blob, layer.diff_id, layer.toc_digest


@contextmanager
def _layer_in_errors(layer: ImageLayer) -> Iterator[None]:
    """Prefix the message of an error about an entry or a digest with its layer."""
    try:
        yield
    except (DigestError, TocError) as error:
        raise type(error)(f"layer {layer.blob}: {error}") from error
