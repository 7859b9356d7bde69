"""Protects the cells of a fleet: each is the plan of the node by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.sparse import open_sparse
from tests.plan.strategies import CONTENTS, OPTIONS, StoredLayer, make_record, stored_layers, tocs
from vecache.cache.reader import CacheFile
from vecache.errors import VecacheError
from vecache.fleet import cells as cells_module
from vecache.fleet.cells import FIGURES, ImageCells, plan_cells
from vecache.fleet.classes import ClassLayers, LoadedClasses
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource, ExcludedLayer
from vecache.plan.options import PlanOptions
from vecache.plan.planner import Planner
from vecache.plan.presence import layer_id
from vecache.store.blob_info import BlobInfo

if TYPE_CHECKING:
    from vecache.image.model import Image
    from vecache.plan.image_plan import ImagePlan
    from vecache.store.records import LayerRecord

IMAGE_OPTIONS = st.builds(
    replace,
    OPTIONS,
    parallel=st.sampled_from([1, 2, 6]),
    partial=st.sampled_from([True, True, True, False]),
    estargz=st.booleans(),
    unpredictable=st.sampled_from([None, True, False]),
    convert=st.booleans(),
)


@st.composite
def image_tocs(draw: st.DrawFn) -> list[list[tuple[bytes, int] | None]]:
    """TOCs of the layers of up to three images, some of them shared, or without a TOC."""
    pool = [draw(tocs(sound=draw(st.booleans()))) for _ in range(3)]
    layer = st.sampled_from([*pool, *pool, None])
    return draw(st.lists(st.lists(layer, min_size=1, max_size=4), min_size=1, max_size=3))


@st.composite
def records(draw: st.DrawFn, number: int, images: list[Image]) -> LayerRecord:
    """A record that may make a layer of an image present, by any of its digests, or by its id."""
    layer = draw(st.sampled_from([layer for image in images for layer in image.layers]))
    record = make_record(number)
    changes: list[dict[str, Any]] = [
        {},
        {},
        {"diff_digest": layer.diff_id},
        {"compressed_diff_digest": layer.blob, "diff_digest": layer.diff_id},
        {"toc_digest": layer.toc_digest},
        {"toc_digest": layer.toc_digest, "diff_digest": None},
        {"diff_digest": layer.blob},
        {"id": layer_id("", layer, by_toc=False)},
        {"id": layer_id("", layer, by_toc=True)},
        {"id": layer_id("", layer, by_toc=True)},
    ]
    return replace(record, **draw(st.sampled_from(changes)))


@st.composite
def blob_infos(draw: st.DrawFn, image: Image) -> BlobInfo:
    layer = draw(st.sampled_from(image.layers))
    values = st.sampled_from(["", layer.diff_id, *(each.diff_id for each in image.layers)])
    return BlobInfo({layer.blob: draw(values)}, {layer.toc_digest or "": draw(values)})


def make_class(
    chosen: dict[str, Any], each_record: list[LayerRecord], files: tuple[CacheFile, ...]
) -> ClassLayers:
    order, others = chosen["order"], chosen["others"]
    layers = [
        CachedLayer(each_record[number], files[number], CacheSource.MAPPED) for number in order
    ]
    cache = LayersCache(
        [*(layer.record for layer in layers), *others],
        layers,
        [ExcludedLayer(record, "reason", chosen["is_unread"]) for record in others],
        blob_info=chosen["blob_info"],
    )
    ids = frozenset(record.id for record in cache.records)
    return ClassLayers(cache, np.array(order, np.int64), chosen["options"], ids)


@st.composite
def fleets(draw: st.DrawFn, images: list[Image]) -> LoadedClasses:
    """Classes whose layers are some of a few, in any order; some cannot be read."""
    pool: list[StoredLayer] = draw(stored_layers()) + draw(stored_layers(sound=True))
    files = tuple(CacheFile.parse(layer.cache) for layer in pool)
    n_layers = len(pool)
    each_record = [draw(records(number, images)) for number in range(n_layers + 3)]
    choices = {
        "order": st.permutations(range(n_layers)).map(lambda order: order[:3]),
        "others": st.lists(st.sampled_from(each_record[n_layers:]), max_size=2, unique=True),
        "is_unread": st.booleans(),
        "options": IMAGE_OPTIONS,
        "blob_info": st.one_of(st.just(BlobInfo()), blob_infos(images[0])),
    }
    chosen: dict[str, Any] = {name: draw(choice) for name, choice in choices.items()}
    classes = []
    for _ in range(draw(st.integers(1, 6))):
        # Each class differs in one thing from the one before: what was planned then must not count.
        name = draw(st.sampled_from(sorted(choices)))
        chosen[name] = draw(choices[name])
        classes.append(make_class(chosen, each_record, files))
    return LoadedClasses(tuple(classes), files)


def figures_of(image: Image, cache: LayersCache, options: PlanOptions) -> list[int] | str:
    """What `vecache plan` says for a store; or why it says nothing."""
    try:
        plan = Planner(options).plan(image, cache)
    except VecacheError as error:
        return str(error)
    try:
        reflinked = Planner(replace(options, reflink=True)).plan(image, cache).missing_bytes
    except VecacheError:
        reflinked = -1
    return [*plain_figures(plan), reflinked]


def plain_figures(plan: ImagePlan) -> list[int]:
    bounds = (*plan.missing_bounds, *plan.fetch_bounds)
    return [*(getattr(plan, name) for name in FIGURES[:7]), *bounds]


def check(cells: list[ImageCells], images: list[Image], loaded: LoadedClasses) -> None:
    assert [each.image for each in cells] == [image.reference for image in images]
    for image, found in zip(images, cells, strict=True):
        reasons = dict(found.errors)
        for number, layers in enumerate(loaded.classes):
            wanted = figures_of(image, layers.cache, layers.options)
            if found.failure is not None:
                assert isinstance(wanted, str)
            elif isinstance(wanted, str):
                assert reasons.pop(number) == wanted
                assert set(found.figures[number].tolist()) == {-1}
            else:
                assert dict(zip(FIGURES, found.figures[number].tolist(), strict=True)) == dict(
                    zip(FIGURES, wanted, strict=True)
                )
        assert not reasons


@given(st.data(), st.sampled_from([cells_module.DIGESTS_PER_PASS, 1]))  # one pass, or several
def test_each_cell_is_the_plan_of_the_node_by_itself(
    data: st.DataObject, digests_per_pass: int
) -> None:
    layers = data.draw(image_tocs())
    images = [open_sparse(*each, name=f"image {n}") for n, each in enumerate(layers)]
    loaded = data.draw(fleets(images))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "DIGESTS_PER_PASS", digests_per_pass)
        cells = list(plan_cells(images, loaded))
    check(cells, images, loaded)


def test_bounds_are_those_of_each_class_where_only_one_has_an_unread_layer() -> None:
    entry = {"type": "reg", "name": "a", "size": 9, "digest": CONTENTS[0], "endOffset": 9}
    toc = json.dumps({"version": 1, "entries": [entry]}).encode()
    image = open_sparse((toc, 100))
    chosen: dict[str, Any] = {"order": [], "others": [make_record(7)], "options": PlanOptions()}
    chosen["blob_info"] = BlobInfo()
    classes = tuple(
        make_class({**chosen, "is_unread": is_unread}, [], ()) for is_unread in (False, True, False)
    )
    loaded = LoadedClasses(classes, ())
    (cells,) = plan_cells([image], loaded)
    check([cells], [image], loaded)
    assert cells.figures[:, FIGURES.index("missing_least")].tolist() == [9, 0, 9]
