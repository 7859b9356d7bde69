"""Protects plans of images of several layers: they equal the recorded pulls of `layered`."""

from __future__ import annotations

import pytest

from tests.recorded import RecordedPulls
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.graphroot import open_store


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedPulls:
    return RecordedPulls("layered", tmp_path_factory.mktemp("layered"))


def test_a_plan_equals_every_pull_of_one_layer_at_a_time(recorded: RecordedPulls) -> None:
    sequential = [pull for pull in recorded.pulls if pull["parallel"] == 1]
    assert len(sequential) == 5
    for pull in sequential:
        store = open_store(recorded.store(pull["config"], pull["layers_before"]))
        plan = plan_image(
            open_image(recorded.reference(pull["image"])),
            LayersCache.load(store),
            reflink=pull["reflink"],
            hard_links=pull["hard_links"],
            layout=pull["layout"],
        )
        pulled = [layer for layer in plan.layers if layer.state == "partial"]
        missing = sorted([layer.missing_bytes, layer.total_bytes] for layer in pulled)
        assert [pair for pair in missing if pair[1]] == pull["missing"], pull["image"]
        for layer in pulled:
            ranges = [f"{first}-{last}" for first, last in layer.ranges.tolist()]
            assert ranges == pull["ranges"][layer.blob], (pull["image"], layer.blob)
