"""Plan images on classes of nodes: the figures of each image on each class.

1. Images are taken one after another until their layers have `DIGESTS_PER_PASS` digests. Only the
   TOCs of layers that some class lacks are read.
2. The caches of all layers are read once for these images (`index/matches.py`).
3. For each image and class a `Planner` plans as it does for a store, with an index that knows the
   matches (`index/ranked.py`): so a cell is what `vecache plan` gives for the node.
4. Classes in which the plan of an image depends on equal things are planned once: the layers that
   have any of its digests, in their order; what layers make its layers present; the ids that its
   layers get, as far as the store has them; and the options.

Memory is that of the images of one pass and of their matches, and about 1 KB a layer of a class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vecache.errors import DigestError, LocationError, VecacheError
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer
from vecache.index.matches import DigestTable, find_matches
from vecache.index.ranked import RankedIndex
from vecache.plan.layer_plan import LayerState
from vecache.plan.planner import Planner
from vecache.plan.presence import PresentLayers
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from vecache.arrays import I64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.digest import Digests
    from vecache.fleet.classes import ClassLayers, LoadedClasses
    from vecache.image.model import Image, ImageLayer
    from vecache.index.matches import TagMatches
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.options import PlanOptions
    from vecache.store.blob_info import BlobInfo

__all__ = ["FIGURES", "CellError", "ImageCells", "plan_cells"]

FIGURES: Final = (
    "total_bytes",
    "missing_bytes",
    "fetch_bytes",
    "toc_bytes",
    "requests",
    "whole_layers",
    "whole_bytes",
    "missing_least",
    "missing_most",
    "fetch_least",
    "fetch_most",
    "reflink_missing_bytes",
)
"""The figures of a cell, as `ImagePlan` has them; `_least` and `_most` are bounds, and the last one
is `missing_bytes` if the node's file system had reflinks."""

DIGESTS_PER_PASS: Final = 1 << 19
"""How many digests of images, at least, the caches of all layers are read for."""

_UNKNOWN: Final = -1


class CellError(NamedTuple):
    """Why an image cannot be planned on the nodes of a class."""

    class_no: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ImageCells:
    """The figures of one image on some classes.

    Attributes
    ----------
    image : str
        The image's reference.
    figures : (n_classes, n_figures) int64
        In the order of `FIGURES`; -1 where the image could not be planned.
    errors : tuple of CellError
        Why.
    failure : VecacheError or None
        Why it could be planned on no class, where the image itself is the reason.
    """

    image: str
    figures: I64
    errors: tuple[CellError, ...] = ()
    failure: VecacheError | None = None


def plan_cells(
    images: Iterable[Image],
    loaded: LoadedClasses,
    progress: Callable[[], object] | None = None,
) -> Iterator[ImageCells]:
    """Plan images on classes, one after another, each as if no other image had been pulled.

    Parameters
    ----------
    images : iterable of Image
        Taken one by one, and released after their pass.
    loaded : LoadedClasses
        The classes.
    progress : callable, optional
        Called after each image.

    Yields
    ------
    ImageCells
        In the order of the images.
    """
    views = [_ClassView(each) for each in loaded.classes]
    waiting: list[_ImageOnClasses] = []
    planners = _Planners()
    n_digests = 0
    for image in images:
        waiting.append(_ImageOnClasses(image, views, planners))
        n_digests += sum(map(len, waiting[-1].columns))
        if n_digests >= DIGESTS_PER_PASS:
            yield from _plan_pass(waiting, loaded, progress)
            waiting, planners, n_digests = [], _Planners(), 0
    if waiting:
        yield from _plan_pass(waiting, loaded, progress)


def _plan_pass(
    images: list[_ImageOnClasses],
    loaded: LoadedClasses,
    progress: Callable[[], object] | None,
) -> Iterator[ImageCells]:
    """Read all caches once for some images, and plan these."""
    columns = {id(column): column for image in images for column in image.columns}
    own = {id(file): file for image in images for file in image.files}
    matches = find_matches((*loaded.files, *own.values()), DigestTable(columns.values()))
    for number, image in enumerate(images):
        part = matches
        if len(images) > 1:
            part = matches.limited_to(DigestTable(image.columns), image.columns)
        yield image.plan(part)
        images[number] = None  # type: ignore[call-overload]  # its TOCs are not needed any more
        if progress is not None:
            progress()


class _Planners:
    """A planner for each set of options; they share what they prepare."""

    def __init__(self) -> None:
        self._planners: dict[PlanOptions, Planner] = {}

    def __getitem__(self, options: PlanOptions) -> Planner:
        if options not in self._planners:
            first = next(iter(self._planners.values()), None)
            self._planners[options] = (
                Planner(options) if first is None else first.with_options(options)
            )
        return self._planners[options]


class _ClassView:
    """What decides which layers of an image a class has."""

    def __init__(self, layers: ClassLayers) -> None:
        self.layers = layers
        cache = layers.cache
        self.blob_info: BlobInfo = cache.blob_info
        self._digests = [
            (record.diff_digest, record.compressed_diff_digest, record.toc_digest)
            for record in cache.records
        ]
        self._is_any_unpredictable = any(
            toc is not None and diff is None for diff, _, toc in self._digests
        )
        self.has_unread = any(each.is_unread for each in cache.excluded)

    def presence(self, image: Image) -> _Presence:
        """Return what decides which layers of an image are present."""
        known = tuple(
            (
                self.blob_info.uncompressed(layer.blob),
                layer.toc_digest and self.blob_info.uncompressed_for_toc(layer.toc_digest),
            )
            for layer in image.layers
        )
        wanted = {layer.blob for layer in image.layers}
        wanted |= {layer.diff_id for layer in image.layers}
        wanted |= {layer.toc_digest for layer in image.layers if layer.toc_digest}
        wanted |= {digest for pair in known for digest in pair if digest}
        records = tuple(each for each in self._digests if not wanted.isdisjoint(each))
        return _Presence(known, records, self._is_any_unpredictable)


class _Presence(NamedTuple):
    """What decides which layers of one image are present."""

    known: tuple[tuple[str | None, str | None], ...]
    records: tuple[tuple[str | None, str | None, str | None], ...]
    is_any_unpredictable: bool


class _Planned(NamedTuple):
    """The figures of a plan, and what else they depend on."""

    layer_ids: tuple[str, ...]
    is_there: tuple[bool, ...]  # of each id, whether the store has it
    figures: list[int]


class _ImageOnClasses:
    """One image, to be planned on all classes."""

    def __init__(self, image: Image, views: Sequence[_ClassView], planners: _Planners) -> None:
        self._image, self._views, self._planners = image, views, planners
        self._presence = [view.presence(image) for view in views]
        self._planned: dict[Hashable, list[_Planned]] = {}
        self.columns: list[Digests] = []
        """Columns of the digests that a plan may look up."""
        self.files: list[CacheFile] = []
        """The caches that the image's own layers get."""
        self._failures: dict[tuple[int, PlanOptions], VecacheError] = {}
        self._lacking = [tuple(rows) for rows in self._find_lacking()]
        self._prepare()

    def _prepare(self) -> None:
        """Read the TOCs of layers that some class lacks."""
        layers = self._image.layers
        wanted = {
            (row, view.layers.options): None
            for view, rows in zip(self._views, self._lacking, strict=True)
            for row in rows
        }
        rows = sorted({row for row, options in wanted if options.partial})
        self._image.read_ahead(layers[row] for row in rows)
        for row, options in sorted(wanted, key=lambda pair: pair[0]):
            try:
                self._prepare_layer(layers[row], options)
            except VecacheError as error:
                self._failures[row, options] = error

    def _prepare_layer(self, layer: ImageLayer, options: PlanOptions) -> None:
        planner = self._planners[options]
        if planner.state(layer) is not LayerState.PARTIAL:
            return
        files, pulled = planner.prepare(layer)
        self.columns += [files.entries.digest, files.entries.chunk_digest]
        if options.hard_links:
            self.columns.append(files.fingerprints)
        if isinstance(pulled, CachedLayer):
            self.files.append(pulled.cache)

    def _find_lacking(self) -> Iterator[list[int]]:
        """Yield for each class the layers that it lacks before the pull."""
        known: dict[_Presence, list[int]] = {}
        for view, presence in zip(self._views, self._presence, strict=True):
            if presence not in known:
                records = [
                    LayerRecord("", diff_digest=diff, compressed_diff_digest=blob, toc_digest=toc)
                    for diff, blob, toc in presence.records
                ]
                present = PresentLayers(LayersCache(records, blob_info=view.blob_info))
                known[presence] = [
                    row
                    for row, layer in enumerate(self._image.layers)
                    if not present.have(layer, 0)
                ]
            yield known[presence]

    def plan(self, matches: TagMatches) -> ImageCells:
        """Plan the image on each class."""
        figures = np.full((len(self._views), len(FIGURES)), _UNKNOWN, np.int64)
        errors = []
        has_match = np.diff(matches.start) > 0
        failures = [self._failure(number) for number in range(len(self._views))]
        if failures and all(failures):
            return ImageCells(self._image.reference, figures, failure=failures[0])
        for number, view in enumerate(self._views):
            try:
                if (failure := failures[number]) is not None:
                    raise failure
                figures[number] = self._plan_class(view, self._presence[number], matches, has_match)
            except OverflowError:
                errors.append(CellError(number, "the sizes that it states exceed 63 bits"))
            except VecacheError as error:
                errors.append(CellError(number, str(error)))
        return ImageCells(self._image.reference, figures, tuple(errors))

    def _failure(self, number: int) -> VecacheError | None:
        """Return why a layer that a class lacks could not be read."""
        options = self._views[number].layers.options
        for row in self._lacking[number]:
            if (row, options) in self._failures:
                return self._failures[row, options]
        return None

    def _plan_class(
        self, view: _ClassView, presence: _Presence, matches: TagMatches, has_match: Bool
    ) -> list[int]:
        layers = view.layers
        numbers = layers.numbers[has_match[layers.numbers]]
        key = numbers.tobytes(), presence, layers.options, view.has_unread
        planned = self._planned.setdefault(key, [])
        for each in planned:
            if _are_there(each.layer_ids, layers) == each.is_there:
                return each.figures
        cache = layers.cache.with_index(RankedIndex.of_layers(matches, layers.numbers))
        plan = self._planners[layers.options].plan(self._image, cache)
        is_there = _are_there(plan.layer_ids, layers)
        figures = [*_figures(plan), self._missing_with_reflinks(plan, cache)]
        planned.append(_Planned(plan.layer_ids, is_there, figures))
        return figures

    def _missing_with_reflinks(self, plan: ImagePlan, cache: LayersCache) -> int:
        options = plan.options
        if options.reflink or not options.partial:
            return plan.missing_bytes
        try:
            planner = self._planners[replace(options, reflink=True)]
            return planner.plan(self._image, cache).missing_bytes
        except (LocationError, DigestError):  # of chunks, which are not looked up without
            return _UNKNOWN


def _are_there(layer_ids: Sequence[str], layers: ClassLayers) -> tuple[bool, ...]:
    return tuple(each in layers.ids for each in layer_ids)


def _figures(plan: ImagePlan) -> list[int]:
    """Return all figures but the last."""
    return [
        *(getattr(plan, name) for name in FIGURES[:7]),
        *plan.missing_bounds,
        *plan.fetch_bounds,
    ]
