"""Protects the text and the document of a history: all of its figures, and what is not known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_SMALL
from tests.plan.sparse import open_sparse
from tests.plan.test_absurd import toc
from tests.recorded import RecordedPulls
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.plan.series import history
from vecache.report.documents import plan_document
from vecache.report.history import history_document, history_lines, history_text
from vecache.report.output import json_text
from vecache.report.terminal import Screen, human_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.image.model import Image
    from vecache.plan.history import History

NAMES = ("base", "app1", "app2")


def images() -> list[Image]:
    return [open_image(f"oci:{GOLDEN_SMALL}/oci:{name}") for name in NAMES]


def mixed() -> History:
    """The second image comes whole, the third has a layer of each kind."""
    text = toc([{"type": "reg", "name": "a", "size": 9, "digest": "sha256:" + "ab" * 32}])
    return history([open_sparse(), open_sparse(None), open_sparse(None, (text, 100))])


def document_of(found: History) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json_text(history_document(found)))
    return document


def test_the_document_has_the_promised_shape() -> None:
    document = document_of(history(images(), between=True))
    assert list(document) == ["schema", "images", "options", "steps"]
    assert document["schema"] == "vecache.history/1"
    assert document["options"]["reflink"] is False
    step = document["steps"][1]
    assert list(step) == ["image", "nothing", "previous", "first", "between"]
    assert list(step["previous"]) == [
        *("after", "total_bytes", "missing_bytes", "fetch_bytes", "slack_bytes", "toc_bytes"),
        *("requests", "missing_bounds", "fetch_bounds", "whole_bytes", "states", "best", "saved"),
        "layers",
    ]
    assert [step["previous"]["after"] for step in document["steps"]] == [
        *(None, document["images"][0], document["images"][1])
    ]
    assert {step["first"]["after"] for step in document["steps"][1:]} == {document["images"][0]}


def test_the_figures_are_named_and_valued_as_in_a_plan() -> None:
    """What `plan --json` says of the same pull, but for what only a store or a pull has."""
    document = document_of(history(images(), reflink=True))
    cache = LayersCache()
    for number, image in enumerate(images()):
        if number:
            cache = plan_image(images()[number - 1], LayersCache(), reflink=True).cache_after
        plan = plan_document(plan_image(image, cache, reflink=True))
        found = document["steps"][number]["previous"]
        for name in found.keys() & plan.keys() - {"layers", "best"}:
            assert found[name] == plan[name]
        assert found["best"] == {name: plan["best"][name] for name in found["best"]}
        for layer, planned in zip(found["layers"], plan["layers"], strict=True):
            shared = layer.keys() & planned.keys()
            assert len(shared) == 8
            assert {name: layer[name] for name in shared} == {
                name: planned[name] for name in shared
            }


def test_each_line_is_a_step() -> None:
    found = history(images())
    assert [{**line} for line in history_lines(found)] == [
        {"schema": "vecache.history/1", **step} for step in history_document(found)["steps"]
    ]


def test_what_is_not_known_of_a_whole_layer_is_null() -> None:
    layers = document_of(mixed())["steps"][2]["nothing"]["layers"]
    assert [layer["state"] for layer in layers] == ["whole", "partial"]
    assert [layer["missing_bytes"] for layer in layers] == [None, 9]
    assert layers[0]["best"] is None


def test_the_text_has_all_three_tables_and_the_sums() -> None:
    text = history_text(history(images()), Screen())
    assert text.startswith(
        "What each of 3 images fetches, by what the node has\nnodes without refl"
    )
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    found = "oci:app1 1 1 0 1.24 MB 618 kB 50.3 % 618 kB 50.3 %"
    assert found.split() in [line.split() for line in text.splitlines()]
    assert "NO REFLINK" in text
    assert "a file system with reflinks (xfs, btrfs): 1.90 MB" in text
    assert "After the previous: 1.53 MB of data (33.5 % less than an empty node)" in text
    assert lines["1"][1:3] == ["1", "1"]  # the lowest layer is present once, and pulled once
    assert "row's image" not in text


def test_a_matrix_of_a_few_images_is_shown() -> None:
    text = history_text(history(images(), between=True), Screen())
    assert "Fetched for the row's image" in text
    assert "#2  oci:app1  618 kB  1.24 MB  1.12 MB" in text
    many = history([open_sparse() for _ in range(13)], between=True)
    assert "row's image" not in history_text(many, Screen())


def test_what_timing_decides_is_said(tmp_path: Path) -> None:
    """Twelve layers of which each shares with its neighbour, six of them copied at a time."""
    recorded = RecordedPulls("layered", tmp_path)
    found = history([open_sparse(), open_image(recorded.reference("multi"))])
    least, most = (found.figures(f"{end}_fetch_bytes")[1] for end in ("least", "most"))
    assert least < most
    text = history_text(found, Screen())
    bounds = f"{human_bytes(int(least))} to {human_bytes(int(most))}"
    assert (
        f"By timing:          {bounds} of data after the previous one, 6 layers at a time" in text
    )
    one_by_one = history([open_sparse(), open_image(recorded.reference("multi"))], parallel=1)
    assert "By timing" not in history_text(one_by_one, Screen())


def test_nothing_is_missing_of_what_comes_whole() -> None:
    text = history_text(mixed(), Screen())
    assert "Whole blobs:        1 of 1.00 kB after the previous, not in MISSING." in text
    assert ["1", "1", "0", "1", "1.00", "kB", "-", "-"] in [
        each.split() for each in text.splitlines()
    ]


@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_images_without_layers_have_a_text(n_images: int) -> None:
    text = history_text(history([open_sparse()] * n_images), Screen(80))
    assert f"What each of {n_images} image" in text
    assert "%" not in text.partition("\n\n")[2].replace("0.0 %", "")


def test_many_layers_are_those_that_fetch_most() -> None:
    layers = [None] * 40
    text = history_text(history([open_sparse(), open_sparse(*layers)]), Screen())
    assert "(25 of 40, which fetch most)" in text
