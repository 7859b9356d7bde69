"""Protects the whole image: which layers are pulled, what later layers find, the notebook."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.layouts import SparseLayer, write_layout
from tests.plan.sparse import TocBytes, digest_of, open_sparse, plan_with
from tests.plan.strategies import make_record
from vecache.image.model import Image, ImageLayer
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.layer_plan import LayerState
from vecache.plan.options import PlanOptions
from vecache.plan.pull import plan_image, plan_images
from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.plan.image_plan import ImagePlan

STORE = GOLDEN_SMALL / "stores" / "dir"
APP2 = f"oci:{GOLDEN_SMALL / 'oci'}:app2"
TOC = json.dumps(
    {
        "version": 1,
        "entries": [
            {"type": "reg", "name": "a", "size": 7, "digest": digest_of(b"a"), "endOffset": 50},
            {"type": "reg", "name": "empty"},
        ],
    }
).encode()


def golden(n_present: int = 0) -> LayersCache:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    return LayersCache.load(store, present=layer_ids("dir")[:n_present])


def states(plan: ImagePlan) -> list[str]:
    return [str(layer.state) for layer in plan.layers]


@pytest.mark.parametrize("name", ["hard_links", "partial", "whole_blobs"])
def test_an_option_that_is_no_boolean_is_refused(name: str) -> None:
    for value in ("no", "yes", 2):
        with pytest.raises(TypeError, match=f"{name}: found .*, wanted True or False"):
            plan_image(Image("", "", "", ()), LayersCache(), **{name: value})  # type: ignore[arg-type]


def test_a_layer_whose_cache_cannot_be_written_is_pulled_and_then_offers_nothing() -> None:
    document = json.loads(TOC)
    document["entries"][0]["chunkDigest"] = "sha512:" + "a" * 128  # no pull checks its length
    image = open_sparse((json.dumps(document).encode(), 100), (TOC, 200))
    plan = plan_with(image, golden(), PlanOptions())
    assert states(plan) == ["partial", "partial"]
    assert [layer.missing_bytes for layer in plan.layers] == [7, 7]
    assert "digests of one length" in plan.cache_after.excluded[0].reason
    assert len(plan.cache_after.records) == 2


@pytest.mark.parametrize(
    ("image", "cache", "message"),
    [
        (
            APP2,
            LayersCache(),
            r"image: found str, wanted .*, from vecache.open_image\('oci:.*:app2'\)",
        ),
        (Path("images"), LayersCache(), r"image: found PosixPath, wanted an Image"),
        (LayersCache(), LayersCache(), r"image: found LayersCache, wanted an Image"),
        (Image("", "", "", ()), STORE, r"cache: found PosixPath, wanted a LayersCache, from"),
        (Image("", "", "", ()), open_store(STORE), r"cache: found Store, .*LayersCache.load"),
    ],
)
def test_what_is_not_an_image_or_a_cache_is_refused(
    image: object, cache: object, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        plan_image(image, cache)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=message):
        plan_images([image], cache)  # type: ignore[list-item, arg-type]


@pytest.mark.parametrize(
    ("field", "digest", "state"),
    [
        ("diff_digest", "blob", "present"),
        ("compressed_diff_digest", "blob", "present"),
        ("toc_digest", "toc_digest", "present"),
        ("diff_digest", "diff_id", "partial"),
        ("compressed_diff_digest", "diff_id", "partial"),
    ],
)
def test_blob_and_toc_make_a_layer_present_and_its_diff_id_does_not(
    field: str, digest: str, state: str
) -> None:
    image = open_sparse((TOC, 100))
    record = replace(make_record(0), diff_digest=None)
    other = LayersCache([record])
    same = LayersCache([replace(record, **{field: getattr(image.layers[0], digest)})])
    assert states(plan_with(image, other, PlanOptions())) == ["partial"]
    plan = plan_with(image, same, PlanOptions())
    assert states(plan) == [state]
    if state == "partial":
        return
    assert (plan.fetch_bytes, plan.toc_bytes, plan.requests, plan.total_bytes) == (0, 0, 0, 0)


def test_a_layer_without_a_toc_is_not_present_because_another_has_none() -> None:
    """Neither has a TOC digest, and nothing is not equal to nothing."""
    cache = LayersCache([replace(make_record(0), diff_digest=None)])
    assert states(plan_with(open_sparse(None), cache, PlanOptions())) == ["whole"]


def test_a_whole_layer_is_fetched_once_and_then_present() -> None:
    image = open_sparse(None)
    first, second = plan_images([image, image], LayersCache(), PlanOptions())
    assert (states(first), first.fetch_bytes, first.requests) == (["whole"], 1_000, 1)
    assert (states(second), second.fetch_bytes) == (["present"], 0)
    assert first.layers[0].state is LayerState.WHOLE


def test_a_pulled_layer_counts_as_present_for_the_next() -> None:
    """The same file in a second layer, under another name, costs nothing more."""
    other = TOC.replace(b'"name": "a"', b'"name": "b"')
    plan = plan_with(open_sparse((TOC, 100), (other, 100)), LayersCache(), PlanOptions())
    assert [layer.missing_bytes for layer in plan.layers] == [7, 0]
    assert len(plan.cache_after.layers) == 2


@dataclass(frozen=True)
class MeetingToc(TocBytes):
    """A TOC whose fetch returns only when others are fetched at the same time."""

    barrier: Barrier = field(default_factory=lambda: Barrier(1))
    fetched: list[str] = field(default_factory=list)

    def fetch(self) -> bytes:
        self.fetched.append(self.digest)
        self.barrier.wait(timeout=10)
        return self.data


def test_the_tocs_of_the_layers_to_pull_are_fetched_side_by_side_and_no_other() -> None:
    barrier, fetched = Barrier(3), list[str]()
    tocs = [TOC.replace(b'"a"', b'"%d"' % n) for n in range(4)]
    readers = [MeetingToc(toc, 100, barrier=barrier, fetched=fetched) for toc in tocs]
    layers = [
        replace(layer, reader=reader)
        for layer, reader in zip(
            open_sparse(*((t, 100) for t in tocs)).layers, readers, strict=True
        )
    ]
    present = replace(make_record(0), compressed_diff_digest=layers[1].blob)
    image = Image("a", "a", "", (*layers, layers[3]))
    plan = plan_with(image, LayersCache([present]), PlanOptions())
    assert states(plan) == ["partial", "present", "partial", "partial", "present"]
    assert sorted(fetched) == sorted(readers[n].digest for n in (0, 2, 3))
    assert states(plan_with(image, LayersCache(), PlanOptions(partial=False)))[0] == "whole"
    assert len(fetched) == 3


def test_a_plan_does_not_change_the_set_it_is_given() -> None:
    cache = golden(1)
    plan = plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:app1"), cache)
    assert len(cache.layers) == 1
    assert (len(plan.cache_after.layers), plan.cache_after.store) == (2, cache.store)


def test_a_notebook_shows_untrusted_names_as_text() -> None:
    plan = plan_with(open_sparse((TOC, 100), name="<script>"), LayersCache(), PlanOptions())
    assert "<script>" not in plan._repr_html_()
    assert "&lt;script&gt;: 7 of 7 bytes missing" in plan._repr_html_()
    evil = ImageLayer("sha256:<b>", 100, "sha256:00", TocBytes(TOC, 100))
    layer = plan_with(Image("a", "a", "", (evil,)), LayersCache(), PlanOptions()).layers[0]
    assert "<b>" not in layer._repr_html_()
    assert repr(layer) == "<LayerPlan sha256:<b>: partial, 7 of 7 bytes missing>"


def test_an_image_in_a_layout_of_sparse_files_costs_no_more_than_its_toc(tmp_path: Path) -> None:
    layer = SparseLayer(TOC, toc_offset=1 << 34)
    layout = write_layout(tmp_path / "layout", {"huge": [layer, SparseLayer(None)]})
    plan = plan_image(open_image(f"oci:{layout}:huge"), LayersCache())
    assert states(plan) == ["partial", "whole"]
    assert plan.layers[0].toc_bytes == len(layer.frame)
