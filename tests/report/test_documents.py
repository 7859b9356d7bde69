"""Protects the JSON documents of plans, which scripts read."""

from __future__ import annotations

import json

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.sparse import digest_of, plan_with
from vecache.image.model import Image
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.options import PlanOptions
from vecache.plan.pull import plan_image, plan_images
from vecache.report.documents import plan_document, plans_document
from vecache.store.graphroot import open_store


def golden(n_present: int = 0) -> LayersCache:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    return LayersCache.load(store, present=layer_ids("dir")[:n_present])


def test_the_document_has_the_promised_shape() -> None:
    plan = plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:app1"), golden(1), reflink=True)
    document = json.loads(json.dumps(plan_document(plan)))
    assert list(document) == [
        *("schema", "image", "store", "options", "total_bytes", "missing_bytes", "fetch_bytes"),
        *("toc_bytes", "requests", "missing_bounds", "fetch_bounds", "whole_layers"),
        *("whole_bytes", "excluded", "layers", "best"),
    ]
    assert document["store"] == str(GOLDEN_SMALL / "stores" / "dir")
    assert document["options"] == {
        "reflink": True,
        "hard_links": False,
        "layout": "dir",
        "parallel": 6,
    }
    assert document["missing_bounds"] == [document["missing_bytes"]] * 2
    present, pulled = document["layers"]
    assert (
        list(present)
        == list(pulled)
        == [
            *("blob", "diff_id", "toc", "state", "total_bytes", "missing_bytes", "fetch_bytes"),
            *("slack_bytes", "toc_bytes", "ranges", "requests", "files", "chunks"),
        ]
    )
    assert (present["state"], present["ranges"]) == ("present", [])
    assert pulled["ranges"] == [[16540, 20633], [147708, 317415], [422641, 435681]]
    assert pulled["files"] == {"reused": 4, "fetched": 33, "empty": 0}
    assert pulled["chunks"] == {"reused": 82, "fetched": 67, "holes": 0}
    gap = ["no_reflink", "flat_layout", "hard_links", "first_match", "repeated", "parallel"]
    assert list(document["best"]["gap"]) == gap


def test_several_documents_come_with_their_sums() -> None:
    images = [open_image(f"oci:{GOLDEN_SMALL}/oci:{name}") for name in ("base", "app2")]
    plans = plan_images(images, golden(), PlanOptions())
    document = plans_document(plans)
    assert document["images"] == [plan_document(plan) for plan in plans]
    for name in ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests"):
        assert document[name] == sum(each[name] for each in document["images"])


def test_layers_that_came_from_no_store_have_none_in_the_document() -> None:
    plan = plan_with(Image("empty", "empty", digest_of(b""), ()), LayersCache(), PlanOptions())
    document = plan_document(plan)
    assert (document["store"], document["layers"]) == (None, [])
