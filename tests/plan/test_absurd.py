"""Protects against absurd numbers in a TOC: they are refused, or no figure is negative."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.sparse import digest_of, open_sparse, plan_with
from tests.plan.strategies import OPTIONS
from vecache.errors import TocError
from vecache.index.layers_cache import LayersCache
from vecache.plan.curve import curve_by_gap, curve_by_ranges
from vecache.plan.options import PlanOptions
from vecache.plan.planner import Planner
from vecache.report.documents import plan_document
from vecache.report.output import json_text
from vecache.report.plan import image_text
from vecache.report.terminal import Screen
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@given(st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=3), OPTIONS)
def test_absurd_numbers_can_be_written_in_every_form(
    layers: list[list[dict[str, Any]]], options: PlanOptions
) -> None:
    image = open_sparse(*((toc(entries), 100 + i) for i, entries in enumerate(layers)))
    try:
        plan = plan_with(image, LayersCache(), options)
    except TocError:
        return
    document = json.loads(json_text(plan_document(plan)))
    assert document["missing_bytes"] == plan.missing_bytes
    assert all(figure >= 0 for figure in numbers_of(document))
    assert plan.to_arrow().num_rows >= 0
    for curve in (curve_by_ranges(plan.layers), curve_by_gap(plan.layers)):
        assert curve.to_arrow().num_rows == len(curve)
        assert all(column.to_numpy().min(initial=0) >= 0 for column in curve.to_arrow().columns)


def numbers_of(value: Any) -> Iterator[int]:
    """All numbers of a document."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(inner)
    elif isinstance(value, int):
        yield value


FILE = {"type": "reg", "name": "a", "digest": digest_of(b"a"), "size": 5, "endOffset": 9}
MOST = 2**63 - 1
# Entries after a sound one, and what the error says. Podman's pull asks for what is not there, or
# does not get what the digest promises.
REFUSED = {
    "negative size": ([{**FILE, "size": -5}], "a negative size, -5"),
    "negative size of a device": ([{**FILE, "type": "char", "size": -5}], "a negative size, -5"),
    "negative offset": ([{**FILE, "offset": -100, "endOffset": -3}], "from -100 to -3"),
    "least offset": ([{**FILE, "offset": -MOST - 1, "endOffset": MOST}], "from -9,223"),
    "end before its begin": ([{**FILE, "offset": 80, "endOffset": 10}], "from 80 to 10"),
    "end behind the blob": (
        [{**FILE, "offset": 10**12, "endOffset": 10**12 + 5}],
        "wanted a part of its blob",
    ),
    "last end behind the blob": ([{**FILE, "endOffset": MOST}], "wanted a part of its blob"),
    "chunks not in order": (
        [{**FILE, "offset": 8, "chunkSize": 2}, {"type": "chunk", "name": "a", "offset": 3}],
        "from 8 to 3",
    ),
    "chunk larger than its file": ([{**FILE, "chunkSize": 6}], "larger than the file's, 5"),
    "hole larger than its file": (
        [{**FILE, "chunkType": "zeros", "chunkSize": MOST}],
        "larger than the file's, 5",
    ),
    "chunks larger than their file": (
        [
            {**FILE, "chunkSize": 3},
            {"type": "chunk", "name": "a", "offset": 3, "chunkSize": 3, "endOffset": 9},
        ],
        "larger than the file's, 5",
    ),
    "open chunk behind too large ones": (
        [
            {**FILE, "chunkSize": 6},
            {"type": "chunk", "name": "a", "offset": 3, "chunkSize": -7, "endOffset": 9},
        ],
        "a chunk of a negative size, -1",
    ),
    "sizes beyond 64 bits": ([{**FILE, "size": 2**62}] * 3, "bytes of files, wanted at most"),
    "size beyond what sums hold": ([{**FILE, "size": 2**48 + 1}], "bytes of files"),
}


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("case", REFUSED)
def test_numbers_that_no_sound_layer_has_are_refused(case: str, layout: Layout) -> None:
    entries, reason = REFUSED[case]
    if layout is Layout.FLAT and entries[0]["type"] == "char":
        return  # composefs keeps only regular files
    image = open_sparse(
        (toc([{**FILE, "name": "sound", "digest": digest_of(b"b")}, *entries]), 100)
    )
    with pytest.raises(
        TocError, match=r"^layer sha256:.*: (Podman's pull fails: )?(entry '|found)"
    ) as raised:
        plan_with(image, LayersCache(), PlanOptions(layout=layout))
    assert reason in str(raised.value)


@pytest.mark.parametrize("place", [(-100, -3), (80, 10), (0, MOST), (-MOST - 1, MOST)])
def test_data_that_the_blob_does_not_have_is_no_matter_where_a_layer_has_the_file(
    place: tuple[int, int],
) -> None:
    offset, end = place
    absurd = {**FILE, "offset": offset, "endOffset": end}
    image = open_sparse((toc([FILE]), 100), (toc([absurd]), 100))
    plan = plan_with(image, LayersCache(), PlanOptions())
    sound, odd = plan.layers
    assert (sound.missing_bytes, odd.missing_bytes, odd.total_bytes) == (5, 0, 5)
    assert sound.warnings == ()
    (warning,) = odd.warnings
    assert warning.startswith("1 of its files are at places that its blob does not have")
    document = json.loads(json_text(plan_document(plan)))
    assert [layer["warnings"] for layer in document["layers"]] == [[], [warning]]
    assert f"Layer {odd.blob[7:19]}: {warning}." in image_text(plan, "store", Screen(100, False))
    rows = plan.to_arrow().to_pylist()
    assert [row["blob_last"] for row in rows if row["action"] == "reused"] == [None] * 2
    with pytest.raises(TocError, match="Podman's pull fails: entry 'a'"):
        Planner(PlanOptions(parallel=6)).plan(image, LayersCache())  # none finds another


def test_a_path_that_is_twice_in_a_toc_with_a_tar_split_is_refused() -> None:
    entries: list[dict[str, Any]] = [
        {**FILE, "size": 0},
        {**FILE, "type": "chunk"},
        {"type": "dir", "name": "a"},
    ]
    assert plan_with(open_sparse((toc(entries), 100)), LayersCache(), PlanOptions()).layers
    document = {"version": 1, "entries": entries, "tarSplitDigest": digest_of(b"split")}
    image = open_sparse((json.dumps(document).encode(), 100))
    with pytest.raises(TocError, match="Podman's pull fails: the TOC has the path 'a' twice"):
        plan_with(image, LayersCache(), PlanOptions())
    del entries[2]  # chunks have the path of their file
    image = open_sparse((json.dumps(document).encode(), 100))
    assert plan_with(image, LayersCache(), PlanOptions()).layers


@pytest.mark.parametrize("kind", ["dir", "symlink", "hardlink"])
def test_numbers_at_which_a_pull_does_not_look_are_accepted(kind: str) -> None:
    absurd = {"size": -5, "offset": -1, "endOffset": MOST, "chunkSize": MOST}
    entries = [{**FILE, **absurd, "type": kind}, {**FILE, **absurd, "size": 0}]
    plan = plan_with(open_sparse((toc(entries), 100)), LayersCache(), PlanOptions())
    assert (plan.total_bytes, plan.missing_bytes, plan.fetch_bytes) == (0, 0, 0)


def test_too_many_gaps_for_sums_of_64_bits_are_refused() -> None:
    offsets = [0 if n % 2 else 2**46 for n in range(20)]
    entries = [
        {**FILE, "digest": digest_of(bytes([n])), "offset": offset, "endOffset": offset + 1}
        for n, offset in enumerate(offsets)
    ]
    with pytest.raises(TocError, match="bytes of data to fetch"):
        plan_with(open_sparse((toc(entries), 2**47)), LayersCache(), PlanOptions())


def test_parts_that_are_merged_backwards_are_refused() -> None:
    entries = [
        {**FILE, "digest": digest_of(bytes([n])), "offset": offset, "endOffset": offset + 1}
        for n, offset in enumerate([9_000, 5_000, 1_000])
    ]
    image = open_sparse((toc(entries), 10_000))
    assert plan_with(image, LayersCache(), PlanOptions()).fetch_bytes == 3
    with pytest.raises(TocError, match="3 parts in another order"):
        plan_with(image, LayersCache(), PlanOptions(max_ranges=1))


def test_many_layers_of_the_largest_size_have_sums_of_64_bits() -> None:
    size = {"size": 2**48, "endOffset": 2**48}
    tocs = [toc([{**FILE, **size, "digest": digest_of(bytes([n]))}]) for n in range(50)]
    image = open_sparse(*((each, 2**48) for each in tocs))
    plan = plan_with(image, LayersCache(), PlanOptions())
    assert plan.missing_bytes == plan.fetch_bytes == 50 * 2**48
    for curve in (curve_by_ranges(plan.layers), curve_by_gap(plan.layers)):
        assert curve.fetch_bytes.tolist() == [50 * 2**48] * len(curve)
