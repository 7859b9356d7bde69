"""Protects plans of images of several layers: they equal the recorded pulls, or bound them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.recorded import RecordedPulls
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.plan.replay import replay_layer
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.plan.image_plan import ImagePlan


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> RecordedPulls:
    return RecordedPulls("layered", tmp_path_factory.mktemp("layered"))


@pytest.fixture(scope="module")
def presence(tmp_path_factory: pytest.TempPathFactory) -> RecordedPulls:
    return RecordedPulls("presence", tmp_path_factory.mktemp("presence"))


def plan_of(recorded: RecordedPulls, pull: dict[str, Any], **options: Any) -> ImagePlan:
    root = recorded.store(pull["config"], pull["layers_before"], is_flat=pull["layout"] == "flat")
    return plan_image(
        open_image(recorded.reference(pull["image"])),
        LayersCache.load(open_store(root)),
        reflink=pull["reflink"],
        hard_links=pull["hard_links"],
        layout=pull["layout"],
        **{"parallel": pull["parallel"], **options},
    )


def figures(plan: ImagePlan) -> list[list[int | None]]:
    """`Missing M bytes out of T` of each layer with bytes, in the order of size."""
    pairs = ([layer.missing_bytes, layer.total_bytes] for layer in plan.layers)
    return sorted(pair for pair in pairs if pair[1])


def test_a_plan_equals_every_recorded_pull_but_two(layered: RecordedPulls) -> None:
    """Beyond six layers the timing decides: one pull came in waves, the other in between."""
    for pull in layered.pulls:
        plan = plan_of(layered, pull)
        missing = sum(least for least, _ in pull["missing"])
        least, most = plan.missing_bounds
        assert least <= missing <= most, pull["image"]
        assert least <= plan.missing_bytes <= most
        if len(plan.layers) > pull["parallel"] > 1:
            continue
        assert figures(plan) == pull["missing"], pull["image"]
        for layer in plan.layers:
            ranges = [f"{first}-{last}" for first, last in layer.ranges.tolist()]
            assert ranges == pull["ranges"][layer.blob], (pull["image"], layer.blob)


def test_twelve_layers_whose_neighbours_share(layered: RecordedPulls) -> None:
    pull = next(each for each in layered.pulls if each["image"] == "multi" and each["parallel"] > 1)
    plan = plan_of(layered, pull)
    one_by_one = plan_of(layered, pull, parallel=1)
    assert plan.missing_bounds == (
        one_by_one.missing_bytes,
        plan_of(layered, pull, parallel=12).missing_bytes,
    )
    assert one_by_one.missing_bounds[0] == one_by_one.missing_bytes
    excess = plan.best.excess["parallel"]
    assert excess == plan.missing_bytes - one_by_one.missing_bytes > 0
    assert plan.best.missing_bytes + sum(plan.best.excess.values()) == plan.missing_bytes
    assert one_by_one.best.excess["parallel"] == 0


def test_which_layers_are_pulled_and_how(
    presence: RecordedPulls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    different = Counter[str]()
    for pull in presence.pulls:
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(write_config(presence, pull, tmp_path)))
        plan = plan_image(
            open_image(presence.reference(pull["image"])),
            LayersCache.load(open_store()),
            reflink=pull["reflink"],
            parallel=pull["parallel"],
        )
        different[pull["config"]] += not is_equal(plan, pull)
    # Only the machine's blob-info cache, which was not recorded, explains one pull of c2.
    assert +different == {"c2": 1}


def is_equal(plan: ImagePlan, pull: dict[str, Any]) -> bool:
    converts = "convert_images" in (pull["pull_options"] or "")
    for layer in plan.layers:
        asked = pull["ranges"][layer.blob]
        if converts and layer.state == "whole" and asked == []:
            asked = "whole"  # recorded as one range that is all of the blob
        ranges = [f"{first}-{last}" for first, last in layer.ranges.tolist()]
        if {"present": None, "whole": "whole", "partial": ranges}[layer.state] != asked:
            return False
    mine, recorded = figures(plan), pull["missing"]
    if converts:  # Podman logs converted layers too; a plan cannot know their TOC
        recorded = [pair for pair in recorded if pair in mine]
    return mine == sorted(recorded)


def write_config(recorded: RecordedPulls, pull: dict[str, Any], folder: Path) -> Path:
    """Write the storage.conf with which a pull was recorded."""
    root = recorded.store(pull["config"], pull["before"])
    others = [str(recorded.store(name, None)) for name in pull["additional"]]
    path = folder / "storage.conf"
    options = pull["pull_options"]
    path.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{root}"\n[storage.options]\n'
        + (f"pull_options = {{{options}}}\n" if options else "")
        + f"additionalimagestores = {others}\n"
        + f'[storage.options.overlay]\nuse_composefs = "{str(pull["layout"] == "flat").lower()}"\n'
    )
    return path


@pytest.mark.parametrize("hard_links", [False, True])
@pytest.mark.parametrize("reflink", [False, True])
def test_a_layer_that_finds_fewer_is_planned_as_if_it_were_looked_up_anew(
    layered: RecordedPulls, *, reflink: bool, hard_links: bool
) -> None:
    n_layers = 0
    for name in layered.images:
        image = open_image(layered.reference(name))
        plan = plan_image(image, LayersCache(), reflink=reflink, hard_links=hard_links, parallel=2)
        for layer in (*plan.layers, *plan.most):
            assert layer.replay is not None
            again = replay_layer(layer.replay.files, layer.cache, plan.options)
            assert layer.replay.missing_bytes == again.missing_bytes
            assert layer.ranges.tolist() == again.ranges.bounds.tolist()
            for name_of_hits in ("file_hits", "chunk_hits"):
                found, anew = (getattr(each, name_of_hits) for each in (layer.replay, again))
                assert found.to_arrow().to_pylist() == anew.to_arrow().to_pylist()
            n_layers += 1
    assert n_layers == 2 * sum(map(len, layered.images.values()))
