"""Protects the main promise: a plan equals every recorded pull, to the byte and to the range.

Through what users call: an OCI layout and a graph root, `open_image`, `LayersCache`, `plan_image`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, needs_debian, pulls
from tests.layouts import debian_layers_by_image, write_layout
from tests.stores import debian_store
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.layer_plan import LayerState
from vecache.plan.pull import plan_image
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.plan.layer_plan import LayerPlan
    from vecache.store.graphroot import Store

DEBIAN_PULLS = pulls(GOLDEN_DEBIAN)
SMALL_PULLS = pulls(GOLDEN_SMALL)


def name_of(pull: dict[str, Any]) -> str:
    return f"{pull['config']}-{pull['image']}"


def check(pull: dict[str, Any], layout: Path, store: Store) -> None:
    cache = LayersCache.load(store, present=pull["layers_before"])
    plan = plan_image(
        open_image(f"oci:{layout}:{pull['image']}"),
        cache,
        reflink=pull["reflink"],
        hard_links=pull["use_hard_links"],
        layout=pull["format"],
    )
    (layer,) = (each for each in plan.layers if each.blob == pull["blob"])
    assert layer.state is LayerState.PARTIAL
    assert str(layer.layer.toc_format) == pull["toc"]
    assert (layer.missing_bytes, layer.total_bytes) == (pull["missing"], pull["total"])
    assert [f"{first}-{last}" for first, last in layer.ranges.tolist()] == pull["ranges"]
    check_figures(layer)


def check_figures(layer: LayerPlan) -> None:
    lengths = (layer.ranges[:, 1] - layer.ranges[:, 0] + 1).sum()
    assert layer.fetch_bytes == lengths >= layer.slack_bytes >= 0
    assert layer.requests == layer.layer.toc_requests + (len(layer.ranges) > 0)


def test_all_recorded_pulls_are_here() -> None:
    assert len(SMALL_PULLS) == 35
    assert len(DEBIAN_PULLS) in (0, 10)


@pytest.mark.parametrize("pull", SMALL_PULLS, ids=name_of)
def test_a_plan_equals_every_small_pull(pull: dict[str, Any]) -> None:
    layout = GOLDEN_SMALL / ("oci-estargz" if pull["toc"] == "estargz" else "oci")
    check(pull, layout, open_store(GOLDEN_SMALL / "stores" / pull["store"]))


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An OCI layout of the five images, and a graph root of their layers."""
    folder = tmp_path_factory.mktemp("debian")
    images = {image: [layer] for image, layer in debian_layers_by_image().items()}
    return write_layout(folder / "layout", images), debian_store(folder)


@needs_debian
@pytest.mark.parametrize("pull", DEBIAN_PULLS, ids=name_of)
def test_a_plan_equals_every_debian_pull(pull: dict[str, Any], debian: tuple[Path, Path]) -> None:
    layout, root = debian
    check(pull, layout, open_store(root))
