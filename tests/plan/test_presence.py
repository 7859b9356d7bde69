"""Protects ids and presence of layers: they are those that Podman gives, layer by layer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.oracle import read_cache
from tests.plan.oracle import OraclePull, file_list, replay
from tests.plan.sparse import TocBytes, digest_of, open_sparse
from tests.plan.store_oracle import OracleLayer, OracleStore
from tests.plan.strategies import (
    OPTIONS,
    StoredLayer,
    load_layers,
    make_record,
    packed,
    stored_layers,
    tocs,
)
from vecache.image.model import Image, ImageLayer
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.options import PlanOptions
from vecache.plan.planner import Planner
from vecache.plan.pull import plan_images
from vecache.plan.schedule import Transfer, visible_in_waves, visible_over_network
from vecache.store.blob_info import BlobInfo
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from vecache.plan.image_plan import ImagePlan
    from vecache.store.records import LayerRecord

IMAGES = ("base", "app1", "other", "dirs", "app2")  # in the order in which they were pulled


def toc_of(name: str, *, has_tar_split: bool) -> bytes:
    """A TOC of one file of 7 bytes, whose content is its name."""
    entry = {"type": "reg", "name": name, "size": 7, "digest": digest_of(name.encode())}
    more = {"tarSplitDigest": digest_of(b"split")} if has_tar_split else {}
    return json.dumps({"version": 1, "entries": [{**entry, "endOffset": 50}], **more}).encode()


PREDICTABLE = (toc_of("a", has_tar_split=True), 100)
UNPREDICTABLE = (toc_of("b", has_tar_split=False), 100)


def plan(image: Image, cache: LayersCache | None = None, **options: bool | int) -> ImagePlan:
    return Planner(PlanOptions(**options)).plan(image, cache or LayersCache())  # type: ignore[arg-type]


def states(found: ImagePlan) -> list[str]:
    return [str(layer.state) for layer in found.layers]


def twice(layer: ImageLayer, *between: ImageLayer) -> Image:
    """An image with a layer at the bottom and on top; each has a TOC of its own to parse."""
    return Image("twice", "twice", digest_of(b"twice"), (layer, *between, replace(layer)))


def hexes(digest: str) -> str:
    return digest.partition(":")[2]


@pytest.mark.parametrize(("layout", "store"), [("oci", "dir"), ("oci-estargz", "estargz")])
def test_ids_of_pulled_layers_are_those_that_podman_gave(layout: str, store: str) -> None:
    images = [open_image(f"oci:{GOLDEN_SMALL / layout}:{name}") for name in IMAGES]
    pulled = plan_images(images, LayersCache(), PlanOptions())[-1].cache_after
    assert [record.id for record in pulled.records] == layer_ids(store)


def test_where_unpredictable_contents_are_allowed_the_toc_identifies_a_layer() -> None:
    image = open_sparse(PREDICTABLE)
    layer = image.layers[0]
    by_toc = hashlib.sha256(f"+@TOC={hexes(layer.toc_digest or '')}".encode()).hexdigest()
    found = plan(image, unpredictable=True).cache_after.records[0]
    assert (found.id, found.diff_digest, found.toc_digest) == (by_toc, None, layer.toc_digest)
    assert found.expected_diff_digest == layer.diff_id
    # Other layers of the store tell where the setting is not known.
    other = replace(make_record(0), diff_digest=None, toc_digest=digest_of(b"other"))
    for cache in (LayersCache(), LayersCache([make_record(1)]), LayersCache([other])):
        found = plan(image, cache).cache_after.records[-1]
        assert found.id == (by_toc if other in cache.records else hexes(layer.diff_id))
    # So does what Podman has written down of the TOC: then it knows the diff-id.
    known = LayersCache(blob_info=BlobInfo({}, {layer.toc_digest or "": layer.diff_id}))
    found = plan(image, known, unpredictable=True).cache_after.records[0]
    assert (found.id, found.diff_digest) == (hexes(layer.diff_id), layer.diff_id)


def test_a_layer_that_its_toc_identifies_joins_although_its_content_is_there() -> None:
    """It was pulled as gzip before: the same diff-id, but not the same layer."""
    layer = open_sparse(PREDICTABLE).layers[0]
    plain = Image(
        "gzip", "gzip", digest_of(b"gzip"), (replace(layer, blob=digest_of(b"gz"), reader=None),)
    )
    cache = plan(plain).cache_after
    checked, unchecked = (
        plan(open_sparse(PREDICTABLE), cache, unpredictable=choice) for choice in (False, True)
    )
    assert states(checked) == states(unchecked) == ["partial"]
    assert (len(checked.cache_after.layers), len(unchecked.cache_after.layers)) == (0, 1)
    # What was dropped is known for the next pull all the same.
    assert states(plan(open_sparse(PREDICTABLE), checked.cache_after)) == ["present"]


def test_the_layers_on_top_are_named_after_the_layer_below() -> None:
    image = open_sparse(UNPREDICTABLE, PREDICTABLE)
    lower, upper = image.layers
    below = hashlib.sha256(f"+@TOC={hexes(lower.toc_digest or '')}".encode()).hexdigest()
    top = hashlib.sha256(f"{below}+{hexes(upper.diff_id)}".encode()).hexdigest()
    after = plan(image, unpredictable=False).cache_after
    assert [record.id for record in after.records] == [below, top]
    # A later image with the same bottom finds it by its TOC, and gets the same id.
    again = plan(image, after, unpredictable=False)
    assert states(again) == ["present", "present"]
    assert again.cache_after.records == after.records


def test_a_layer_without_tar_split_is_fetched_whole_once_its_toc_has_been_read() -> None:
    image = open_sparse(UNPREDICTABLE)
    layer = plan(image, estargz=False).layers[0]
    assert str(layer.state) == "whole"
    assert (layer.toc_bytes, layer.requests) == (len(UNPREDICTABLE[0]), 2)
    assert layer.fetch_bytes == image.layers[0].blob_bytes
    layer = plan(image, estargz=False, partial=False).layers[0]
    assert (layer.toc_bytes, layer.requests) == (0, 1)


@pytest.mark.parametrize("has_toc", [True, False])
def test_a_layer_that_an_image_has_twice_is_pulled_twice_if_both_start_at_once(
    *, has_toc: bool
) -> None:
    image = twice(open_sparse(PREDICTABLE if has_toc else None).layers[0])
    state = "partial" if has_toc else "whole"
    n_bytes = image.layers[0].blob_bytes if not has_toc else plan(image, parallel=1).fetch_bytes
    at_once = plan(image, parallel=6)
    assert states(at_once) == [state, state]
    assert at_once.fetch_bounds == (n_bytes, 2 * n_bytes)
    assert at_once.fetch_bytes == 2 * n_bytes
    one_by_one = plan(image, parallel=1)
    assert states(one_by_one) == [state, "present"]
    assert one_by_one.fetch_bounds == (n_bytes, n_bytes)
    assert len(at_once.cache_after.records) == 2  # two parents, two ids
    if has_toc:
        assert at_once.missing_bounds == (7, 14)
        assert at_once.best.missing_bytes + sum(at_once.best.excess.values()) == 14
        assert at_once.best.excess["parallel"] == 7


def test_a_layer_that_an_image_has_twice_is_present_once_the_first_is_committed() -> None:
    image = twice(open_sparse(PREDICTABLE).layers[0], *open_sparse(UNPREDICTABLE, None).layers)
    assert states(plan(image, parallel=3)) == ["partial", "partial", "whole", "present"]
    assert states(plan(image, parallel=4)) == ["partial", "partial", "whole", "partial"]
    for slots in (1, 2, 3, 4, 6):
        options = {"parallel": slots, "bytes_per_second": 1e3, "round_trip_seconds": 0.0}
        found = plan(image, **options)  # type: ignore[arg-type]
        assert states(found)[3] == ("present" if slots < 3 else "partial")
        assert found.cache_after.records[0].toc_digest == image.layers[0].toc_digest


def test_layers_that_are_present_when_they_start_take_no_slot() -> None:
    def is_present(layer: int, committed: int) -> bool:
        return layer in (2, 3) and committed > 0

    assert visible_in_waves(6, 2, is_present) == [0, 0, None, None, 2, 2]
    assert visible_in_waves(6, 4, is_present) == [0, 0, 0, 0, 4, 4]
    each = [Transfer(1, 1)] * 6
    found = visible_over_network(each, lambda *_: Transfer(9, 1), 2, 10.0, 0.1, is_present)
    assert found == [0, 0, None, None, 4, 4]
    assert visible_over_network([], lambda *_: Transfer(0, 0), 2, 1.0, 0.0) == []


@st.composite
def shared_layers(draw: st.DrawFn) -> list[tuple[bytes, int]]:
    """TOCs of up to four layers that share contents; some of them twice."""
    pool = [draw(tocs(sound=True)) for _ in range(3)]
    return [pool[n] for n in draw(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=4))]


@given(shared_layers(), stored_layers(sound=True), OPTIONS, st.integers(1, 5))
def test_no_schedule_is_outside_the_bounds(
    layers: list[tuple[bytes, int]], stored: list[StoredLayer], options: PlanOptions, slots: int
) -> None:
    """Each layer may find any number of those before it; one that is among them may be present."""
    local = [layer.oracle for layer in stored]
    pulled = [read_cache(packed(toc, options.layout)) for toc, _ in layers]
    missing, fetch = [], []
    for number, layer in enumerate(layers):
        files = file_list(*layer, estargz=False, layout=str(options.layout))
        pulls = [
            replay(
                files,
                local + pulled[:visible],
                reflink=options.reflink,
                hard_links=options.hard_links,
                max_ranges=options.max_ranges,
                gap_bytes=options.gap_bytes,
            )
            for visible in range(number + 1)
        ]
        if layer in layers[:number]:
            pulls.append(OraclePull())
        missing.append([pull.missing for pull in pulls])
        fetch.append([sum(last - first + 1 for first, last in pull.ranges) for pull in pulls])
    image, cache = open_sparse(*layers), load_layers(stored)
    found = Planner(replace(options, parallel=1 + slots)).plan(image, cache)
    assert found.missing_bounds == (sum(map(min, missing)), sum(map(max, missing)))
    assert found.fetch_bounds == (sum(map(min, fetch)), sum(map(max, fetch)))
    assert found.missing_bounds[0] <= found.missing_bytes <= found.missing_bounds[1]
    assert found.fetch_bounds[0] <= found.fetch_bytes <= found.fetch_bounds[1]
    assert all(n_bytes >= 0 for n_bytes in found.best.excess.values())
    assert found.best.missing_bytes + sum(found.best.excess.values()) == found.missing_bytes
    alone = Planner(replace(options, parallel=1)).plan(image, cache)
    assert alone.missing_bounds == (alone.missing_bytes,) * 2 == (sum(map(min, missing)),) * 2
    assert alone.fetch_bounds == (alone.fetch_bytes,) * 2 == (sum(map(min, fetch)),) * 2


@given(st.integers(2, 40), st.integers(1, 8), st.sets(st.integers(0, 39)))
def test_bounds_hold_where_a_registry_refuses_requests(
    n_files: int, n_accepted: int, shared: set[int]
) -> None:
    """Podman then asks for half as many ranges: who misses less may have to fetch more."""
    shared = {number for number in shared if number < n_files}
    lower, upper = (scattered(name, n_files, shared) for name in ("lower", "upper"))
    image = open_sparse((lower, 10**9), (upper, 10**9))
    options = PlanOptions(accepted_ranges=n_accepted, max_ranges=n_files, parallel=2)
    found = Planner(options).plan(image, LayersCache())
    orders = [Planner(replace(options, parallel=n)).plan(image, LayersCache()) for n in (1, 2)]
    sizes = [plan.fetch_bytes for plan in orders]
    assert found.fetch_bounds == (min(sizes), max(sizes))
    assert found.missing_bounds == (orders[0].missing_bytes, orders[1].missing_bytes)


def scattered(name: str, n_files: int, shared: set[int]) -> bytes:
    """A TOC of files far from each other; some of them are those of every other such TOC."""
    entries = [
        {
            "type": "reg",
            "name": f"{number}",
            "size": 10,
            "digest": digest_of(f"{'' if number in shared else name}{number}".encode()),
            "offset": number * (10_000 + number),
            "endOffset": number * (10_000 + number) + 10,
        }
        for number in range(n_files)
    ]
    more = {"tarSplitDigest": digest_of(b"split")}
    return json.dumps({"version": 1, "entries": entries, **more}).encode()


def variants(content: str) -> list[ImageLayer]:
    """One tar in all forms in which a registry may have it, two of them with the same TOC."""
    diff_id = digest_of(content.encode())

    def layer(form: str, toc: TocBytes | None = None) -> ImageLayer:
        return ImageLayer(digest_of(f"{form} of {content}".encode()), 900, diff_id, toc)

    split, no_split = (toc_of(content, has_tar_split=has) for has in (True, False))
    return [
        ImageLayer(diff_id, 1_000, diff_id),
        layer("gzip -1"),
        layer("gzip -9"),
        layer("zstd:chunked", TocBytes(split, 100)),
        layer("zstd:chunked again", TocBytes(split, 100)),
        layer("zstd:chunked -9", TocBytes(split + b" ", 100)),
        layer("zstd:chunked of old", TocBytes(no_split, 100)),
        layer("estargz", TocBytes(no_split + b" ", 100, TocFormat.ESTARGZ)),
    ]


FORMS = [form for content in "abc" for form in variants(content)]


def as_dict(layer: ImageLayer) -> dict[str, Any]:
    """A layer as the oracle takes it."""
    found: dict[str, Any] = {"blob": layer.blob, "diff_id": layer.diff_id}
    if layer.toc_format is not None:
        has_split = layer.toc.tar_split_digest is not None
        kind = str(layer.toc_format)
        found |= {"toc": layer.toc_digest, "kind": kind, "has_split": has_split}
    return found


STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(FORMS), min_size=1, max_size=4),
        st.sets(st.integers(0, 8), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@given(STEPS, st.booleans(), st.booleans(), st.booleans())
def test_any_pulls_leave_the_layers_that_podman_leaves(
    steps: list[list[ImageLayer] | set[int]], partial: bool, insecure: bool, convert: bool
) -> None:
    """Images of the same contents in many forms, one after the other, and layers removed."""
    store = OracleStore(partial=partial, insecure=insecure, convert=convert)
    options = PlanOptions(
        partial=partial, estargz=insecure, unpredictable=insecure, convert=convert, parallel=1
    )
    planner, cache = Planner(options), LayersCache()
    for step in steps:
        if isinstance(step, set):
            store.layers = [layer for n, layer in enumerate(store.layers) if n not in step]
            ids = {layer.id for layer in store.layers}
            cache = LayersCache(
                [record for record in cache.records if record.id in ids],
                [layer for layer in cache.layers if layer.id in ids],
                blob_info=cache.blob_info,
            )
            continue
        image = Image("image", "image", digest_of(b"image"), tuple(step))
        found = planner.plan(image, cache)
        cache = found.cache_after
        assert states(found) == store.pull([as_dict(layer) for layer in step])
        assert [as_oracle(record, cache) for record in cache.records] == [
            replace(layer, has_toc=layer.has_toc and bool(layer.toc)) for layer in store.layers
        ]
        assert dict(cache.blob_info.tocs) == store.toc_pairs
        assert dict(cache.blob_info.blobs) == store.blob_pairs


def as_oracle(record: LayerRecord, cache: LayersCache) -> OracleLayer:
    """A record in the oracle's terms; a converted layer has a TOC that nobody knows."""
    return OracleLayer(
        record.id,
        record.parent or "",
        record.diff_digest or "",
        record.compressed_diff_digest or "",
        record.toc_digest or "",
        has_toc=record.id in {layer.id for layer in cache.layers},
    )
