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
from vecache.store.graphroot import open_store

if TYPE_CHECKING:
    from collections import Counter

    from tests.interop.conftest import NewStore
    from tests.interop.podman import PodmanStore
    from tests.interop.proxy import Proxy
    from vecache.plan.image_plan import ImagePlan

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
    assert list(itertools.chain(*wrong)) == []


def compare(store: PodmanStore, registry: Proxy, name: str, tally: Counter[str]) -> list[str]:
    """Plan a pull, do it, and return the differences."""
    reference = f"docker://{registry.address}/{name}"
    plan = plan_image(open_image(reference, tls_verify=False), LayersCache.load(open_store()))
    assert plan.options.reflink == (store.root.parents[1].name == "xfs")
    assert plan.options.parallel == store.settings.parallel
    registry.forget()
    missing = store.pull(reference)
    found = differences(plan, missing, registry, converts=store.settings.convert_images)
    least, most = plan.missing_bounds
    decided = least == most and len(set(plan.fetch_bounds)) == 1
    tally["pulls"] += 1
    tally["layers"] += len(plan.layers)
    tally["equal plans"] += not found
    if found and not decided:  # timing decides
        tally["plans within bounds, where timing decides"] += 1
        inside = least <= sum(pair[0] for pair in missing) <= most
        found = [] if inside else [f"outside {least}-{most}", *found]
    tally["differences"] += bool(found)
    return [f"{name}: {each}" for each in found]


def differences(
    plan: ImagePlan, missing: list[list[int]], registry: Proxy, *, converts: bool
) -> list[str]:
    """Compare missing and total bytes, and what was asked for, layer by layer."""
    found = []
    for layer in plan.layers:
        # Of a layer that is present the offset would only now be asked for, over the same proxy.
        toc_offset = layer.layer.toc_offset if layer.state == "partial" else None
        asked = registry.ranges(layer.blob, toc_offset or layer.layer.blob_bytes)
        if asked == [f"0-{layer.layer.blob_bytes - 1}"] and layer.state == "whole":
            asked = "whole"
        ranges = [f"{first}-{last}" for first, last in layer.ranges.tolist()]
        planned = {"present": None, "whole": "whole", "partial": ranges}[layer.state]
        if planned != asked:
            found.append(f"{layer.blob}: planned {planned}, Podman asked for {asked}")
    pairs = ([layer.missing_bytes, layer.total_bytes] for layer in plan.layers)
    planned_missing = sorted(pair for pair in pairs if pair[1])
    if converts:  # Podman logs layers that it converts too; a plan cannot know their TOC
        missing = [pair for pair in missing if pair in planned_missing]
    if planned_missing != missing:
        found.append(f"missing, total: planned {planned_missing}, Podman {missing}")
    return found
