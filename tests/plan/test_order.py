"""Protects the order of several pulls: the best there is for few, never worse for many."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, needs_debian
from tests.layouts import debian_layers_by_image
from tests.plan.sparse import open_sparse
from tests.plan.strategies import tocs
from tests.stores import copy_store
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.options import PlanOptions
from vecache.plan.order import EXACT_IMAGES, OrderResult, best_order
from vecache.plan.pull import plan_images
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from vecache.image.model import Image


def fetch_bytes(images: list[Image], order: tuple[int, ...], options: PlanOptions) -> int:
    plans = plan_images([images[index] for index in order], LayersCache(), options)
    return sum(plan.fetch_bytes for plan in plans)


def check(images: list[Image], options: PlanOptions, found: OrderResult) -> None:
    given_order = tuple(range(len(images)))
    assert sorted(found.order) == list(given_order)
    assert found.fetch_bytes == fetch_bytes(images, found.order, options)
    assert found.given_fetch_bytes == fetch_bytes(images, given_order, options)
    assert found.fetch_bytes <= found.given_fetch_bytes


@settings(max_examples=20)
@given(st.lists(tocs(), min_size=0, max_size=3), st.booleans())
def test_few_images_get_the_first_of_the_best_orders(
    layers: list[tuple[bytes, int]], hard_links: bool
) -> None:
    images = [open_sparse(layer) for layer in layers]
    options = PlanOptions(reflink=True, hard_links=hard_links, gap_bytes=0)
    costs = {
        order: fetch_bytes(images, order, options) for order in permutations(range(len(images)))
    }
    found = best_order(images, LayersCache(), options)
    assert found.order == min(costs, key=lambda order: (costs[order], order))
    assert found.method == "exact"
    check(images, options, found)


@settings(max_examples=10)
@given(st.lists(tocs(), min_size=EXACT_IMAGES + 1, max_size=EXACT_IMAGES + 1))
def test_many_images_get_no_worse_an_order(layers: list[tuple[bytes, int]]) -> None:
    images = [open_sparse(layer) for layer in layers]
    options = PlanOptions(gap_bytes=0)
    found = best_order(images, LayersCache(), options)
    assert found.method == "greedy"
    check(images, options, found)


def test_shared_layers_are_pulled_once_and_every_plan_is_reported() -> None:
    names = ("app1", "base", "app2", "dirs", "other")
    images = [open_image(f"oci:{GOLDEN_SMALL}/oci:{name}") for name in names]
    calls = []
    options = PlanOptions(reflink=True)
    found = best_order(images, LayersCache(), options, progress=lambda: calls.append(1))
    check(images, options, found)
    assert len(calls) <= len(images) + 325


def test_without_options_the_pulls_are_those_of_the_stores_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one does not pull in part: blobs come whole, as `plan_images` says too."""
    root = copy_store("converted", tmp_path)
    conf = tmp_path / "storage.conf"
    conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{root}"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    images = [open_image(f"oci:{GOLDEN_SMALL}/oci:{name}") for name in ("app1", "base")]
    cache = LayersCache.load(open_store())
    found = best_order(images, cache)
    assert found.given_fetch_bytes == sum(plan.fetch_bytes for plan in plan_images(images, cache))
    assert found.given_fetch_bytes == images[0].blob_bytes  # all layers of `base` are in `app1`


@needs_debian
def test_a_better_order_of_real_images_is_found() -> None:
    layers = [*debian_layers_by_image().values()][: EXACT_IMAGES - 1]  # 64 plans, not 325
    images = [open_sparse((layer.toc or b"", layer.toc_offset)) for layer in layers]
    options = PlanOptions(reflink=True)
    found = best_order(images, LayersCache(), options)
    check(images, options, found)
    assert found.fetch_bytes < found.given_fetch_bytes
