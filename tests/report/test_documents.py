"""Protects the JSON documents of plans, which scripts read."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.sparse import digest_of, plan_with
from vecache.image.model import Image, ImageLayer
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.options import PlanOptions
from vecache.plan.pull import plan_image, plan_images
from vecache.report.documents import plan_document, plans_document
from vecache.sharing.sources import read_contents
from vecache.store.open import open_store


def golden(n_present: int = 0) -> LayersCache:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    return LayersCache.load(store, present=layer_ids("dir")[:n_present])


def test_the_document_has_the_promised_shape() -> None:
    plan = plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:app1"), golden(1), reflink=True)
    document = json.loads(json.dumps(plan_document(plan)))
    assert list(document) == [
        *("schema", "image", "read_from", "store", "options", "total_bytes", "missing_bytes"),
        "fetch_bytes",
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
            *("blob", "diff_id", "created_by", "toc", "state", "total_bytes"),
            *(
                "missing_bytes",
                "fetch_bytes",
                "slack_bytes",
                "toc_bytes",
                "ranges",
                "requests",
                "files",
                "chunks",
                "warnings",
            ),
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


def test_what_is_in_a_layer_that_comes_whole_is_not_known() -> None:
    plan = plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:base"), golden(), partial=False)
    (layer,) = plan_document(plan)["layers"]
    assert layer["state"] == "whole"
    assert (layer["total_bytes"], layer["missing_bytes"]) == (None, None)
    assert layer["files"] == dict.fromkeys(("reused", "fetched", "empty"))
    assert layer["chunks"] == dict.fromkeys(("reused", "fetched", "holes"))
    assert layer["fetch_bytes"] == plan.fetch_bytes > 0
    assert repr(plan.layers[0]).endswith(f": whole, {plan.fetch_bytes:,} bytes to fetch>")
    assert "<td>files reused</td><td></td>" in plan.layers[0]._repr_html_()


def test_a_layer_that_an_earlier_pull_converts_is_no_unreadable_one() -> None:
    """Its TOC cannot be known before: no exit code says so, and neither does `excluded`."""
    digests = [digest_of(b"1"), digest_of(b"2")]
    gzip = Image("gzip", "gzip", digest_of(b"3"), (ImageLayer(digests[0], 9, digests[1]),))
    later = open_image(f"oci:{GOLDEN_SMALL}/oci:base")
    options = PlanOptions(convert=True)
    plans = plan_images([gzip, later], golden(), options)
    assert plans[1].layers[0].may_find_more
    document = plan_document(plans[1])
    assert document["excluded"] == []
    assert document["missing_bounds"] == [0, plans[1].missing_bytes]


def test_layers_that_came_from_no_store_have_none_in_the_document() -> None:
    plan = plan_with(Image("empty", "empty", digest_of(b""), ()), LayersCache(), PlanOptions())
    document = plan_document(plan)
    assert (document["store"], document["layers"]) == (None, [])


def test_tables_in_notebooks_have_what_made_a_layer() -> None:
    image = open_image(f"oci:{GOLDEN_SMALL / 'oci'}:app2")
    layers = [replace(each, created_by="RUN <b>make</b>") for each in image.layers]
    named = replace(image, layers=tuple(layers))
    plan = plan_image(named, LayersCache())
    for shown in (named, plan):
        assert "<td>RUN &lt;b&gt;make&lt;/b&gt;</td>" in shown._repr_html_()
    contents = read_contents(GOLDEN_SMALL / "stores" / "dir")
    assert "localhost:5001/small/base:latest, localhost" in contents._repr_html_()
