"""Protects against absurd numbers in a TOC: figures wrap as in Go, and no output fails on them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.sparse import digest_of, open_sparse, plan_with
from tests.plan.strategies import OPTIONS
from vecache.errors import TocError
from vecache.index.layers_cache import LayersCache
from vecache.plan.curve import curve_by_gap, curve_by_ranges
from vecache.plan.options import PlanOptions
from vecache.plan.pull import Planner
from vecache.report.documents import plan_document
from vecache.report.output import json_text

EDGES = st.sampled_from([0, 1, -1, 1024, 2**31, 2**32, 2**62, -(2**62), 2**63 - 1, -(2**63)])
NUMBERS = ("size", "offset", "endOffset", "chunkSize", "chunkOffset")
ENTRIES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["reg", "reg", "chunk", "char"]),
        "name": st.sampled_from(["a", "b"]),
        "digest": st.sampled_from([digest_of(b"a"), digest_of(b"b")]),
        "chunkDigest": st.sampled_from([digest_of(b"c"), ""]),
    },
    optional=dict.fromkeys(NUMBERS, EDGES) | {"chunkType": st.just("zeros")},
)


def toc(entries: list[dict[str, Any]]) -> bytes:
    return json.dumps({"version": 1, "entries": entries}).encode()


def wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


@given(st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=3), OPTIONS)
def test_absurd_numbers_can_be_written_in_every_form(
    layers: list[list[dict[str, Any]]], options: PlanOptions
) -> None:
    image = open_sparse(*((toc(entries), 100 + i) for i, entries in enumerate(layers)))
    try:
        plan = plan_with(image, LayersCache(), options)
    except TocError:  # a chunk without a file
        return
    document = json.loads(json_text(plan_document(plan)))
    assert document["missing_bytes"] == plan.missing_bytes
    assert plan.to_arrow().num_rows >= 0
    for curve in (curve_by_ranges(plan.layers), curve_by_gap(plan.layers)):
        assert curve.to_arrow().num_rows == len(curve)
    assert all(-(2**63) <= (layer.missing_bytes or 0) < 2**63 for layer in plan.layers)


def test_missing_bytes_wrap_as_in_go() -> None:
    sizes = [2**63 - 1, 2**62, 5]
    entries = [
        {"type": "reg", "name": f"{i}", "size": size, "digest": digest_of(bytes([i]))}
        for i, size in enumerate(sizes)
    ]
    hole = {"type": "reg", "name": "hole", "size": 7, "chunkType": "zeros", "chunkSize": -(2**63)}
    plan = plan_with(open_sparse((toc([*entries, hole]), 100)), LayersCache(), PlanOptions())
    assert plan.missing_bytes == plan.layers[0].missing_bytes == wrapped(sum(sizes))


@pytest.mark.parametrize("limit", [curve_by_ranges, curve_by_gap])
def test_layers_that_exceed_64_bits_together_still_have_a_curve(limit: Any) -> None:
    entry = {"type": "reg", "name": "a", "size": 1, "endOffset": 2**63 - 1}
    tocs = [toc([{**entry, "digest": digest_of(content)}]) for content in (b"a", b"b")]
    image = open_sparse((tocs[0], 100), (tocs[1], 100))
    curve = limit(plan_with(image, LayersCache(), PlanOptions()).layers)
    assert curve.fetch_bytes.tolist() == [wrapped(2 * (2**63 - 1))] * len(curve)


def test_bounds_and_causes_hold_where_chunks_are_larger_than_their_file() -> None:
    """A layer that finds its file misses nothing; one that does not misses less than that."""
    found = {"type": "reg", "name": "a", "size": 3, "digest": digest_of(b"a"), "endOffset": 9}
    hole = {**found, "chunkType": "zeros", "chunkSize": 500}
    image = open_sparse((toc([found]), 100), (toc([hole]), 100))
    plan = Planner(PlanOptions(parallel=2)).plan(image, LayersCache())
    assert plan.missing_bytes == 3 - 497
    assert plan.missing_bounds == (3 - 497, 3)
    assert all(n_bytes >= 0 for n_bytes in plan.best.excess.values())
    assert plan.best.missing_bytes + sum(plan.best.excess.values()) == plan.missing_bytes
