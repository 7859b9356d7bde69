"""The bars of a plan add up to its figures, and name what is pulled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.draw.samples import png_size, svg
from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.sparse import open_sparse, plan_with
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.options import PlanOptions
from vecache.plan.picture import plot_images
from vecache.plan.pull import plan_image
from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.draw.picture import Picture
    from vecache.plan.image_plan import ImagePlan

STORE = GOLDEN_SMALL / "stores" / "dir"


@pytest.fixture(scope="module")
def plan() -> ImagePlan:
    cache = LayersCache.load(open_store(STORE), present=layer_ids("dir")[:2])
    return plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:app2"), cache, reflink=False, parallel=1)


def widths(picture: Picture) -> list[list[float]]:
    """The widths of the bars, for each part that is drawn."""
    return [[bar.get_width() for bar in bars] for bars in picture.figure.axes[-1].containers]


def test_parts_add_up(plan: ImagePlan) -> None:
    here, least, excess = widths(plan.plot())
    missing = [layer.missing_bytes or 0 for layer in plan.layers]
    assert [a + b for a, b in zip(least, excess, strict=True)] == missing
    assert [a + b for a, b in zip(here, missing, strict=True)] == [
        layer.total_bytes for layer in plan.layers
    ]
    assert sum(least) == plan.best.missing_bytes
    assert [sum(part) for part in widths(plan.plot())] == [
        part[0] for part in widths(plot_images([plan]))
    ]


def test_layers_are_named_and_say_what_is_fetched(plan: ImagePlan) -> None:
    drawn = svg(plan.plot())
    assert all(f">{layer.blob[7:19]}<" in drawn for layer in plan.layers)
    assert ">435.4 kB in 2 ranges<" in drawn
    again = plan_image(plan.image, plan.cache_after, reflink=False)
    assert svg(again.plot()).count(">present<") == len(plan.layers)


def test_what_made_a_layer_stands_beside_it(plan: ImagePlan) -> None:
    made = "/bin/sh -c #(nop) COPY <b>dir:0123456789abcdef $x$ in /usr/local/bin"
    layers = tuple(
        replace(each, layer=replace(each.layer, created_by=made)) for each in plan.layers
    )
    drawn = svg(replace(plan, layers=layers).plot())
    assert drawn.count(" COPY &lt;b&gt;") == len(layers)
    assert "/usr/local/bin" not in drawn


def test_a_blob_that_comes_whole_is_a_part_of_its_own(plan: ImagePlan) -> None:
    whole = plan_with(plan.image, LayersCache(), PlanOptions(partial=False))
    assert widths(whole.plot()) == [[layer.blob_bytes for layer in plan.image.layers]]
    assert ">whole blobs, compressed<" in svg(whole.plot())


def test_no_plans_and_plans_without_layers_have_a_picture() -> None:
    empty = plan_with(open_sparse(), LayersCache(), PlanOptions())
    assert all(map(png_size, (empty.plot(), plot_images([]), plot_images([empty]))))
