"""Protects the best possible: never more than the plan, the causes add up, equal to brute force."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.oracle import CAUSES, PullFailedError, best, file_list
from tests.plan.sparse import open_sparse, plan_with
from tests.plan.strategies import OPTIONS, StoredLayer, load_layers, stored_layers, tocs
from tests.stores import copy_store, toc_path
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.best import Cause
from vecache.plan.pull import plan_image
from vecache.report.documents import plan_document
from vecache.report.plan import advice, image_text, images_text
from vecache.report.terminal import Screen, human_bytes
from vecache.store.open import open_store
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.options import PlanOptions


@given(tocs(), stored_layers(), OPTIONS)
def test_each_share_is_that_of_brute_force(
    toc: tuple[bytes, int], layers: list[StoredLayer], options: PlanOptions
) -> None:
    files = file_list(*toc, estargz=False, layout=str(options.layout))
    try:
        steps = best(
            files,
            [layer.oracle for layer in layers],
            [layer.complete_oracle for layer in layers],
            reflink=options.reflink,
            hard_links=options.hard_links,
        )
    except PullFailedError:
        return  # the pull fails; test_replay checks that the plan does too
    plan = plan_with(open_sparse(toc), load_layers(layers), options)
    shares = [more - less for more, less in pairwise(steps)]
    assert plan.best.missing_bytes == steps[-1]
    assert plan.best.excess == {**dict(zip(CAUSES, shares, strict=True)), "parallel": 0}


@given(tocs(), tocs(), stored_layers(sound=True), OPTIONS)
def test_the_causes_add_up_over_several_layers(
    lower: tuple[bytes, int],
    upper: tuple[bytes, int],
    layers: list[StoredLayer],
    options: PlanOptions,
) -> None:
    plan = plan_with(open_sparse(lower, upper), load_layers(layers), options)
    check_sums(plan)


def check_sums(plan: ImagePlan) -> None:
    for layer, least in zip(plan.layers, plan.best.layers, strict=True):
        assert list(least.excess) == [str(cause) for cause in Cause]
        assert all(n_bytes >= 0 for n_bytes in least.excess.values())
        assert least.missing_bytes + sum(least.excess.values()) == (layer.missing_bytes or 0)
    assert plan.best.missing_bytes + sum(plan.best.excess.values()) == plan.missing_bytes
    assert len(advice(plan.best)) == sum(n_bytes > 0 for n_bytes in plan.best.excess.values())


def plan_golden(store: str, image: str, n_present: int, **options: object) -> ImagePlan:
    present = layer_ids(store)[:n_present]
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / store), present=present)
    options = {"reflink": False, "parallel": 1, **options}
    return plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:{image}"), cache, **options)  # type: ignore[arg-type]


def test_the_tocs_of_a_flat_store_give_all_of_its_chunks() -> None:
    """With them the least is the same as for the plain store, however the two lie on disk."""
    flat = plan_golden("flat", "other", 2, reflink=True, layout="flat")
    plain = plan_golden("dir", "other", 2, reflink=True)
    assert flat.best.missing_bytes == plain.best.missing_bytes == plain.missing_bytes
    assert flat.best.excess["flat_layout"] == flat.missing_bytes - plain.missing_bytes > 0


def test_a_missing_reflink_costs_what_the_plan_with_it_saves() -> None:
    without, with_it = (plan_golden("dir", "app1", 1, reflink=reflink) for reflink in (False, True))
    assert without.best.excess["no_reflink"] == without.missing_bytes - with_it.missing_bytes > 0
    assert without.best.missing_bytes == with_it.best.missing_bytes
    shown = human_bytes(without.best.excess["no_reflink"])
    assert advice(without.best) == [f"a file system with reflinks (xfs, btrfs): {shown}"]


def test_hard_links_cost_what_other_owners_and_modes_cost() -> None:
    linked = plan_golden("dir", "app2", 4, reflink=True, hard_links=True)
    assert (
        linked.best.excess["hard_links"]
        == linked.missing_bytes - plan_golden("dir", "app2", 4, reflink=True).missing_bytes
    )


@pytest.mark.parametrize("layout", Layout)
def test_all_layers_of_a_pull_count_with_all_chunks(layout: Layout) -> None:
    """The second layer of an image is planned against the first, which was appended flat."""
    plan = plan_golden("dir", "app1", 0, reflink=True, layout=layout)
    check_sums(plan)
    assert plan.best.missing_bytes == 1_390_479


def test_a_present_or_whole_image_has_no_excess() -> None:
    for plan in (plan_golden("dir", "app2", 5), plan_golden("dir", "app2", 0, partial=False)):
        check_sums(plan)
        assert (plan.best.missing_bytes, advice(plan.best)) == (0, [])


def test_a_flat_layer_whose_toc_cannot_be_read_still_has_its_cached_chunks(tmp_path: Path) -> None:
    root = copy_store("flat", tmp_path)
    toc_path(root, layer_ids("flat")[0]).write_bytes(b"broken")
    cache = LayersCache.load(open_store(root), present=layer_ids("flat")[:2])
    complete = cache.with_all_chunks()
    assert complete.layers[0].cache is cache.layers[0].cache
    (unread,) = complete.unread
    assert unread.id == layer_ids("flat")[0]
    assert "TOC" in unread.reason
    assert cache.unread == ()
    assert complete.layers[1].cache.n_tags > cache.layers[1].cache.n_tags
    assert (complete.records, complete.store) == (cache.records, cache.store)


def plan_with_broken_toc(tmp_path: Path) -> ImagePlan:
    root = copy_store("flat", tmp_path)
    toc_path(root, layer_ids("flat")[0]).write_bytes(b"broken")
    cache = LayersCache.load(open_store(root), present=layer_ids("flat")[:2])
    return plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:other"), cache, layout="flat")


def test_the_best_possible_names_the_layers_whose_toc_could_not_be_read(tmp_path: Path) -> None:
    plan = plan_with_broken_toc(tmp_path)
    (unread,) = plan.best.unread
    assert unread.id == layer_ids("flat")[0]
    assert plan_golden("flat", "other", 2, layout="flat").best.unread == ()
    best = plan_document(plan)["best"]
    assert best["unread"] == [{"layer": unread.id, "reason": unread.reason}]
    text = image_text(plan, "store", Screen())
    line = f"It may be less: the TOC of 1 flat layer could not be read; {unread.id[:12]}: "
    assert line in text
    both = images_text([plan, plan], "store", Screen())
    assert both.count(line) == 1


def test_nothing_to_pull_reads_no_toc(tmp_path: Path) -> None:
    plan = plan_with_broken_toc(tmp_path)
    again = plan_image(plan.image, plan.cache_after, layout="flat")
    assert (again.best.unread, again.best.missing_bytes) == ((), 0)
    assert len(again.best.layers) == len(again.layers)


def test_plain_layers_have_all_chunks_already() -> None:
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / "dir"))
    assert cache.with_all_chunks() is cache
    assert cache.unread == ()
