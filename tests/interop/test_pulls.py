"""Protects plans: they equal what a real Podman then asks for, on ext4 and xfs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.images import make_images
from tests.interop.podman import Settings
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections import Counter

    from tests.interop.conftest import NewStore
    from tests.interop.podman import PodmanStore
    from tests.interop.proxy import Proxy
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan

    Asked = list[str] | str | None

_MADE = [f"zstd-chunked:{tag}" for tag in make_images()]
_GZIP = [f"gzip:{tag}" for tag in make_images()]
_GOLDEN = [f"oci:{tag}" for tag in ("base", "app1", "other", "dirs", "app2")]
_ESTARGZ = [f"oci-estargz:{tag}" for tag in ("base", "app1", "other", "dirs", "app2")]
# By what is set: the images to pull, in this order. Then three are removed and pulled again.
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "plain": ({}, [*_MADE, *_GOLDEN, "gzip:same", "gzip:other"]),
    "hard_links": ({"hard_links": True}, [*_MADE, *_GOLDEN]),
    "composefs": ({"composefs": True}, [*_MADE, *_GOLDEN]),
    "convert_images": ({"convert_images": True}, [*_GZIP, *_MADE]),
    "estargz": ({"unpredictable": True}, [*_ESTARGZ, *_MADE[:3]]),
    "estargz_whole": ({}, [*_ESTARGZ, *_GOLDEN]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parallel", [1, 6])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_plans_equal_the_pulls(
    new_store: NewStore, registry: Proxy, tally: Counter[str], kind: str, parallel: int, case: str
) -> None:
    settings, images = CASES[case]
    store = new_store(kind, Settings(parallel=parallel, **settings))
    store.podman("info")  # makes the folders
    wrong = [compare(store, registry, image, tally) for image in images]
    again = images[1:6:2]
    store.remove(*(f"{registry.address}/{image}" for image in again))
    wrong += [compare(store, registry, image, tally) for image in reversed(again)]
    found = list(itertools.chain(*wrong))
    assert not found, "\n".join(found)


def compare(store: PodmanStore, registry: Proxy, name: str, tally: Counter[str]) -> list[str]:
    """Plan a pull, do it, and return the differences."""
    reference = f"docker://{registry.address}/{name}"
    plan = plan_image(open_image(reference, tls_verify=False), LayersCache.load(open_store()))
    assert plan.options.reflink == (store.root.parents[1].name == "xfs")
    assert plan.options.parallel == store.settings.parallel
    registry.forget()
    missing = store.pull(reference)
    asked = {layer.blob: asked_for(layer, registry) for layer in plan.layers}
    planned = sorted(pair for pair in map(missing_of, plan.layers) if pair[1])
    if store.settings.convert_images and plan.whole_layers:
        # Podman logs layers that it converts too; a plan cannot know their TOC.
        missing = [pair for pair in missing if pair in planned]
    found = [
        f"{layer.blob}: planned {planned_for(layer)}, Podman asked for {asked[layer.blob]}"
        for layer in plan.layers
        if planned_for(layer) != asked[layer.blob]
    ]
    if planned != missing:
        found.append(f"missing, total: planned {planned}, Podman {missing}")
    tally["pulls"] += 1
    tally["layers"] += len(plan.layers)
    tally["equal plans"] += not found
    if found and is_within_bounds(plan, missing, asked):
        tally["plans within bounds, where timing decides"] += 1
        found = []
    tally["differences"] += bool(found)
    return [f"{name}: {each}" for each in found]


def asked_for(layer: LayerPlan, registry: Proxy) -> Asked:
    # Of a layer that is present the offset would only now be asked for, over the same proxy.
    toc_offset = layer.layer.toc_offset if layer.state == "partial" else None
    asked = registry.ranges(layer.blob, toc_offset or layer.layer.blob_bytes)
    is_all = layer.state == "whole" and asked == [f"0-{layer.layer.blob_bytes - 1}"]
    return "whole" if is_all else asked


def planned_for(layer: LayerPlan) -> Asked:
    ranges = [f"{first}-{last}" for first, last in layer.ranges.tolist()]
    planned: dict[str, Asked] = {"present": None, "whole": "whole", "partial": ranges}
    return planned[layer.state]


def missing_of(layer: LayerPlan) -> list[int]:
    return [layer.missing_bytes or 0, layer.total_bytes or 0]


def is_within_bounds(plan: ImagePlan, missing: list[list[int]], asked: dict[str, Asked]) -> bool:
    """Return whether timing explains the figures: only which ranges are fetched may differ."""
    fetched = 0
    for layer in plan.layers:
        found = asked[layer.blob]
        if not isinstance(found, list):
            if found != planned_for(layer):
                return False
            fetched += layer.fetch_bytes
        elif layer.state != "partial":
            return False
        else:
            bounds = (each.split("-") for each in found)
            fetched += sum(int(last) + 1 - int(first) for first, last in bounds)
    totals = [sorted(pair[1] for pair in each) for each in (missing, map(missing_of, plan.layers))]
    least, most = plan.missing_bounds
    return (
        totals[0] == [total for total in totals[1] if total]
        and least <= sum(pair[0] for pair in missing) <= most
        and plan.fetch_bounds[0] <= fetched <= plan.fetch_bounds[1]
    )
