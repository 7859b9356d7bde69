"""Protects the curve: every point is what the pull would be with that limit, without replaying."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.sparse import digest_of, open_sparse, plan_with
from tests.plan.strategies import CONTENTS, load_layers, stored_layers, tocs
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.curve import RangeCurve, curve_by_gap, curve_by_ranges
from vecache.plan.image_plan import ImagePlan
from vecache.plan.options import PlanOptions
from vecache.plan.pull import plan_image
from vecache.plan.ranges import RANGE_HEADER_BYTES, merge_ranges
from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.plan.layer_plan import LayerPlan


def plan_golden(image: str = "app1", **options: object) -> ImagePlan:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    cache = LayersCache.load(store, present=layer_ids("dir")[:1])
    options = {"reflink": False, "parallel": 1, **options}
    return plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:{image}"), cache, **options)  # type: ignore[arg-type]


def figures(plan: ImagePlan | LayerPlan, max_ranges: int, gap_bytes: int) -> tuple[int, int, int]:
    """Ranges, bytes and slack of a replay with these limits."""
    layers = plan.layers if isinstance(plan, ImagePlan) else (plan,)
    ranges = [
        merge_ranges(layer.replay.parts, max_ranges, gap_bytes) for layer in layers if layer.replay
    ]
    slack = sum(each.slack_bytes for each in ranges)
    whole = sum(layer.fetch_bytes for layer in layers if not layer.replay)
    return sum(map(len, ranges)), whole + sum(each.fetch_bytes for each in ranges), slack


def points(curve: RangeCurve) -> dict[int, tuple[int, int, int]]:
    columns = (curve.n_ranges, curve.fetch_bytes, curve.slack_bytes)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(curve.limit.tolist(), rows, strict=True))


def goes_back(layer: LayerPlan) -> bool:
    """Whether a part lies before the one it follows, as a made-up TOC may have it."""
    return layer.replay is not None and bool((layer.replay.parts.gap >= 2**63).any())


PLANS = st.builds(
    lambda lower, upper, layers, reflink: plan_with(
        open_sparse(lower, upper), load_layers(layers), PlanOptions(reflink=reflink)
    ),
    tocs(),
    tocs(),
    stored_layers(sound=True),
    st.booleans(),
)


@given(PLANS)
def test_every_gap_threshold_costs_what_a_replay_with_it_costs(plan: ImagePlan) -> None:
    for limit, point in points(curve_by_gap(plan.layers)).items():
        assert point == figures(plan, 10**9, limit)


@given(PLANS)
def test_every_number_of_ranges_costs_what_a_replay_with_it_costs(plan: ImagePlan) -> None:
    """A request that may have `n + 1` parts has `n` in Go: see `merge_ranges`."""
    assume(not any(goes_back(layer) for layer in plan.layers))
    curve = curve_by_ranges(plan.layers)
    for limit, point in points(curve).items():
        assert point == figures(plan, limit + 1, 0)
    assert curve.limit.tolist() == list(range(1, len(curve) + 1))
    assert points(curve)[len(curve)] == figures(plan, 10**9, 0)


def test_the_curve_of_an_image_is_the_sum_of_its_layers() -> None:
    plan = plan_golden("app2", reflink=True)
    layers = [curve_by_ranges([layer]) for layer in plan.layers]
    image = curve_by_ranges(plan.layers)
    most = max(len(curve) for curve in layers)
    padded = [np.pad(c.fetch_bytes, (0, most - len(c)), mode="edge") for c in layers]
    assert image.fetch_bytes.tolist() == np.sum(padded, axis=0).tolist()
    assert (image.requests, image.toc_bytes) == (plan.requests, plan.toc_bytes)  # none is refused


def test_fewer_ranges_never_cost_fewer_bytes() -> None:
    curve = curve_by_ranges(plan_golden(reflink=True).layers)
    assert len(curve) > 10
    assert (np.diff(curve.fetch_bytes) <= 0).all()
    assert curve.slack_bytes[-1] == 0


def test_parts_that_go_back_in_the_blob_are_never_merged() -> None:
    """Their gap is nearly 2**64: no number of ranges makes it worth fetching."""
    files = [
        {"type": "reg", "name": name, "size": 1, "digest": CONTENTS[n], "offset": offset}
        for n, (name, offset) in enumerate([("a", 500), ("b", 100), ("c", 300)])
    ]
    entries = [{**file, "endOffset": file["offset"] + 50} for file in files]  # type: ignore[operator]
    toc = json.dumps({"version": 1, "entries": entries}).encode()
    plan = plan_with(open_sparse((toc, 1_000)), LayersCache(), PlanOptions(gap_bytes=0))
    curve = curve_by_ranges(plan.layers)
    assert (curve.n_ranges.tolist(), curve.slack_bytes.tolist()) == ([2, 2, 3], [150, 150, 0])
    assert curve_by_gap(plan.layers).limit.tolist() == [0, 150]


def test_whole_blobs_are_one_point() -> None:
    plan = plan_golden(partial=False)
    for curve in (curve_by_ranges(plan.layers), curve_by_gap(plan.layers)):
        assert curve.fetch_bytes.tolist() == [plan.fetch_bytes]
        assert (curve.n_ranges.tolist(), curve.requests) == ([0], 1)


def test_seconds_are_round_trips_and_bytes() -> None:
    curve = curve_by_ranges(plan_golden().layers)
    n_bytes = (
        curve.fetch_bytes
        + curve.toc_bytes
        + RANGE_HEADER_BYTES * np.where(curve.n_ranges > 1, curve.n_ranges, 0)
    )
    expected = n_bytes / 1e6 + 2 * 0.05
    np.testing.assert_allclose(curve.seconds(1e6, 0.05), expected)
    assert curve.requests == 2


@pytest.mark.parametrize(("bandwidth", "round_trip"), [(0, 1), (1, -1), (float("nan"), 1)])
def test_impossible_networks_are_refused(bandwidth: float, round_trip: float) -> None:
    with pytest.raises(ValueError, match="bandwidth above 0"):
        curve_by_gap(plan_golden().layers).seconds(bandwidth, round_trip)
    with pytest.raises(ValueError, match="bandwidth above 0"):
        plan_golden().seconds(bandwidth, round_trip)


def test_a_curve_goes_to_arrow_under_the_name_of_its_limit() -> None:
    table = curve_by_gap(plan_golden().layers).to_arrow()
    assert table.column_names[:3] == ["gap_bytes", "n_ranges", "fetch_bytes"]
    assert curve_by_ranges(plan_golden().layers).to_arrow().column_names[0] == "max_ranges"


def test_the_requests_of_each_layer_are_refused_separately() -> None:
    taken = plan_golden("app2", reflink=True, gap_bytes=0)
    refused = plan_golden("app2", reflink=True, gap_bytes=0, accepted_ranges=1)
    for one, other in zip(taken.layers, refused.layers, strict=True):
        n_more = max(len(halvings(len(one.ranges))) - 1, 0)
        assert other.requests == one.requests + n_more
        assert len(other.ranges) == min(len(one.ranges), 1)
        assert other.missing_bytes == one.missing_bytes
    assert refused.requests > taken.requests
    assert plan_golden("base", accepted_ranges=1).requests == 0  # present: no request


def test_no_point_of_a_curve_counts_refused_requests() -> None:
    """At one range per request nothing is refused, whatever the registry accepts."""
    files = [
        {"type": "reg", "name": f"{n}", "size": 10, "digest": digest_of(b"%d" % n)}
        for n in range(16)
    ]
    entries = [
        {**file, "offset": 100_000 * n + 1, "endOffset": 100_000 * n + 11}
        for n, file in enumerate(files)
    ]
    image = open_sparse((json.dumps({"version": 1, "entries": entries}).encode(), 10**7))
    one_range = plan_image(image, LayersCache(), max_ranges=2, gap_bytes=0)  # of 2 one remains
    assert (one_range.requests, len(one_range.layers[0].ranges)) == (2, 1)
    for accepted_ranges in (None, 16, 1):
        plan = plan_image(image, LayersCache(), accepted_ranges=accepted_ranges)
        for curve in (plan.curve(), plan.curve("gap_bytes"), curve_by_ranges(plan.layers)):
            assert curve.requests == 2
        assert plan.curve().seconds(1e6, 0.05)[0] == one_range.seconds(1e6, 0.05)
    assert plan.layers[0].n_refused == plan.requests - 2 > 0


def test_a_curve_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'bytes', wanted 'max_ranges' or 'gap_bytes'"):
        plan_golden().curve("bytes")  # type: ignore[arg-type]  # the mistake under test


def halvings(n_ranges: int) -> list[int]:
    counts = [n_ranges] if n_ranges else []
    while counts and counts[-1] > 1:
        counts.append(max(counts[-1] // 2 - 1, 1))
    return counts
