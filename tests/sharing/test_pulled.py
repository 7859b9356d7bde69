"""What layers share after a plan is what they share in a store after that pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.golden import GOLDEN_SMALL
from tests.stores import copy_store, edit_images, edit_layers
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image, plan_images
from vecache.sharing.exclusive import shares
from vecache.sharing.gather import gather
from vecache.sharing.matrix import overlap
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.image.model import Image
    from vecache.sharing.contents import By, Grain

LAYOUTS = {"dir": "dir", "flat": "flat", "estargz": "dir"}
N_BEFORE = 2  # the layers of base and app1; app2 has the other three
REPOSITORY = {"dir": "small", "flat": "small", "estargz": "smallesgz"}


def app2(store: str) -> Image:
    folder = "oci-estargz" if store == "estargz" else "oci"
    return open_image(f"oci:{GOLDEN_SMALL / folder}:app2")


def before_pull(store: str, folder: Path) -> LayersCache:
    """A store as it was before app2 was pulled, and the images between."""
    root = copy_store(store, folder)
    edit_layers(root, lambda records: records.__delitem__(slice(N_BEFORE, None)))
    edit_images(root, lambda records: records.__delitem__(slice(N_BEFORE, None)))
    return LayersCache.load(root)


def after_pull(store: str, folder: Path) -> Path:
    """The store after the pull of app2, without the images between: Podman wrote it."""
    root = copy_store(store, folder)
    edit_images(root, lambda records: records.__delitem__(slice(N_BEFORE, -1)))
    return root


@pytest.fixture(params=sorted(LAYOUTS))
def pulled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LayersCache, Path, str]:
    """The layers after a plan of app2, the real store after that pull, and the store's name."""
    store = request.param
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    before = before_pull(store, tmp_path / "before")
    plan = plan_image(app2(store), before, layout=LAYOUTS[store])  # type: ignore[arg-type]
    return plan.cache_after, after_pull(store, tmp_path / "after"), store


@pytest.mark.parametrize("by", ["layer", "image"])
@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_overlap_and_shares_are_those_of_the_store_after_the_pull(
    pulled: tuple[LayersCache, Path, str], by: By, grain: Grain
) -> None:
    planned, real, store = pulled
    one, other = overlap(planned, by, grain), overlap(real, by, grain)
    assert len(one) == len(other) == (5 if by == "layer" else 3)
    for metric in ("files", "chunks", "bytes"):
        assert np.array_equal(getattr(one, metric), getattr(other, metric))
    if by == "layer":
        assert one.labels == other.labels or store == "estargz"  # its layers have other ids
    else:
        assert one.labels[-1] == "app2"
    mine, theirs = shares(planned, by, grain), shares(real, by, grain)
    assert mine.exclusive_bytes.tolist() == theirs.exclusive_bytes.tolist()
    assert mine.new_bytes.tolist() == theirs.new_bytes.tolist()
    paths = [row["path"] for row in mine.repeated_files().to_arrow().to_pylist()]
    assert paths == [row["path"] for row in theirs.repeated_files().to_arrow().to_pylist()]
    assert paths[0] is not None


def test_pulled_layers_are_named_as_those_of_the_store_after_the_pull(
    pulled: tuple[LayersCache, Path, str],
) -> None:
    cache, after, _ = pulled
    wanted = [each.created_by for each in read_contents(after).layer_names.values()]
    assert wanted == ["/bin/sh"] * 5
    assert [each.created_by for each in cache.layer_names.values()] == wanted


def test_gather_takes_layers_that_a_plan_has_pulled(
    pulled: tuple[LayersCache, Path, str],
) -> None:
    planned, real, store = pulled
    image = app2(store)
    one, other = gather(image, planned), gather(image, real)
    assert one.layer.tolist() == other.layer.tolist()
    assert one.added_bytes.tolist() == other.added_bytes.tolist()
    assert one.uncovered_bytes == 0


@pytest.mark.parametrize("removed", ["app2", "base", "4"])
def test_what_if_knows_the_pulled_image(
    pulled: tuple[LayersCache, Path, str], removed: str
) -> None:
    planned, real, _ = pulled
    contents = [read_contents(source) for source in (planned, real)]
    one, other = (
        what_if(each, [each.layers[4].id if removed == "4" else removed]) for each in contents
    )
    for attribute in ("stored_bytes", "freed_bytes", "orphaned_bytes"):
        assert getattr(one, attribute) == getattr(other, attribute)
    for column in ("exclusive_bytes", "pull_bytes", "in_turn_bytes"):
        assert getattr(one, column).tolist() == getattr(other, column).tolist()
    assert len(one.layer_ids) == len(other.layer_ids) == {"app2": 3, "base": 0, "4": 1}[removed]
    assert len(one.remaining) == len(other.remaining)


def test_the_pulled_image_has_the_name_that_it_was_planned_by(tmp_path: Path) -> None:
    image = app2("dir")
    planned = plan_image(image, before_pull("dir", tmp_path)).cache_after
    assert len(what_if(planned, [image.reference]).layer_ids) == 3


def test_an_image_that_is_there_does_not_count_twice(tmp_path: Path) -> None:
    store = open_store(copy_store("dir", tmp_path))
    cache = LayersCache.load(store)
    image = app2("dir")
    _, plan = plan_images([image, image], cache)
    assert [each.label for each in read_contents(plan.cache_after).images] == [
        each.label for each in read_contents(store).images
    ]


def test_an_image_pulled_twice_counts_once(tmp_path: Path) -> None:
    image = app2("dir")
    plans = plan_images([image, image], before_pull("dir", tmp_path))
    assert len(read_contents(plans[1].cache_after).images) == 3


def test_a_layer_that_was_pulled_whole_has_no_toc_afterwards(tmp_path: Path) -> None:
    cache = before_pull("dir", tmp_path)
    contents = read_contents(plan_image(app2("dir"), cache, partial=False).cache_after)
    assert [layer.id for layer in contents.layers] == [layer.id for layer in cache.layers]
    assert [layer.reason for layer in contents.excluded] == ["no TOC"] * 3
    assert contents.images[-1].label == "app2"


def test_pulled_layers_are_those_of_the_plan_not_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = app2("dir")
    cache = before_pull("dir", tmp_path)
    planned = plan_image(image, cache, partial=False).cache_after
    monkeypatch.chdir(GOLDEN_SMALL / "stores" / "dir")  # has TOCs of the same layers
    assert len(read_contents(planned).layers) == N_BEFORE
