"""Protects plans of fleets: figures of real stores, what cannot be planned, and all forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_SMALL
from tests.recorded import RecordedPulls
from vecache.fleet.plan import plan_fleet
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.graphroot import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.fleet.fleet_plan import FleetPlan
    from vecache.image.model import Image
    from vecache.store.graphroot import Store

IMAGES = [f"oci:{GOLDEN_SMALL / 'oci'}:{name}" for name in ("base", "app1", "app2", "other")]
NAMES = ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests", "whole_layers")


def golden_stores() -> dict[str, Store]:
    folders = sorted((GOLDEN_SMALL / "stores").iterdir())
    return {folder.name: open_store(folder) for folder in folders}


def assert_equal(
    plan: FleetPlan, images: list[Image], stores: dict[str, Store], **options: Any
) -> None:
    """Each cell equals the plan of the store by itself."""
    assert plan.nodes == tuple(stores)
    assert plan.images == tuple(image.reference for image in images)
    assert sorted(n for nodes in plan.classes for n in nodes) == list(range(len(stores)))
    for node, store in enumerate(stores.values()):
        cache = LayersCache.load(store)
        for number, image in enumerate(images):
            wanted = plan_image(image, cache, **options)
            for name in (*NAMES, "whole_bytes"):
                assert getattr(plan, name)[node, number] == getattr(wanted, name), name
            for name in ("missing_bounds", "fetch_bounds"):
                assert tuple(getattr(plan, name)[node, number]) == getattr(wanted, name), name
            if not options["reflink"]:
                wanted = plan_image(image, cache, **{**options, "reflink": True})
            assert plan.reflink_missing_bytes[node, number] == wanted.missing_bytes
    assert plan.is_planned.all()


@pytest.mark.parametrize("hard_links", [None, True])
@pytest.mark.parametrize("layout", [None, "flat"])
@pytest.mark.parametrize("parallel", [1, 6])
def test_golden_stores(hard_links: bool | None, layout: Any, parallel: int) -> None:
    images = [open_image(each) for each in IMAGES]
    options = {
        "reflink": False,
        "hard_links": hard_links,
        "layout": layout,
        "parallel": parallel,
    }
    stores = golden_stores()
    assert_equal(plan_fleet(images, stores, **options), images, stores, **options)


@pytest.mark.parametrize("folder", ["layered", "presence"])
def test_recorded_images_on_all_recorded_stores(folder: str, tmp_path: Path) -> None:
    recorded = RecordedPulls(folder, tmp_path)
    roots = {}
    for pull in recorded.pulls:
        before = pull.get("layers_before", pull.get("before"))
        root = recorded.store(pull["config"], before, is_flat=pull["layout"] == "flat")
        roots[root.name] = open_store(root)
    images = [open_image(recorded.reference(name)) for name in recorded.images]
    options: dict[str, Any] = {"reflink": folder == "layered", "parallel": 6}
    assert_equal(plan_fleet(images, roots, **options), images, roots, **options)
