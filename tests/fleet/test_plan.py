"""Protects plans of fleets: figures of real stores, what cannot be planned, and all forms."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_SMALL
from tests.layouts import SparseLayer, write_layout
from tests.recorded import RecordedPulls
from tests.stores import copy_store, edit_layers
from vecache.fleet import cells
from vecache.fleet.plan import cut_work, plan_fleet
from vecache.image.model import Image, ImageLayer
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.index.matches import find_matches
from vecache.plan.pull import plan_image
from vecache.store.open import open_store
from vecache.toc.entries import Entries

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.fleet.fleet_plan import FleetPlan
    from vecache.store.graphroot import Store

IMAGES = [f"oci:{GOLDEN_SMALL / 'oci'}:{name}" for name in ("base", "app1", "app2", "other")]
NAMES = ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests", "whole_layers")


def golden_stores() -> dict[str, Store]:
    folders = sorted((GOLDEN_SMALL / "stores").iterdir())
    return {folder.name: open_store(folder) for folder in folders}


def assert_equal(
    plan: FleetPlan, images: list[Image], stores: dict[str, Store], **options: Any
) -> None:
    """Each cell equals the plan of the store by itself."""
    assert plan.nodes == tuple(stores)
    assert plan.images == tuple(image.reference for image in images)
    assert sorted(n for nodes in plan.classes for n in nodes) == list(range(len(stores)))
    for node, store in enumerate(stores.values()):
        cache = LayersCache.load(store)
        for number, image in enumerate(images):
            wanted = plan_image(image, cache, **options)
            for name in (*NAMES, "whole_bytes"):
                assert getattr(plan, name)[node, number] == getattr(wanted, name), name
            for name in ("missing_bounds", "fetch_bounds"):
                assert tuple(getattr(plan, name)[node, number]) == getattr(wanted, name), name
            if not options["reflink"]:
                if (node + number) % 3:  # this other plan takes as long as the first
                    continue
                wanted = plan_image(image, cache, **{**options, "reflink": True})
            assert plan.reflink_missing_bytes[node, number] == wanted.missing_bytes
    assert plan.is_planned.all()


@pytest.mark.parametrize("hard_links", [None, True])
@pytest.mark.parametrize("layout", [None, "flat"])
@pytest.mark.parametrize("parallel", [1, 6])
def test_golden_stores(hard_links: bool | None, layout: Any, parallel: int) -> None:
    images = [open_image(each) for each in IMAGES]
    options = {
        "reflink": False,
        "hard_links": hard_links,
        "layout": layout,
        "parallel": parallel,
    }
    stores = golden_stores()
    assert_equal(plan_fleet(images, stores, **options), images, stores, **options)


@pytest.mark.parametrize("folder", ["layered", "presence"])
def test_recorded_images_on_all_recorded_stores(folder: str, tmp_path: Path) -> None:
    recorded = RecordedPulls(folder, tmp_path)
    roots = {}
    for pull in recorded.pulls[::3]:  # all of them take a minute
        before = pull.get("layers_before", pull.get("before"))
        root = recorded.store(pull["config"], before, is_flat=pull["layout"] == "flat")
        roots[root.name] = open_store(root)
    images = [open_image(recorded.reference(name)) for name in recorded.images]
    options: dict[str, Any] = {"reflink": folder == "layered", "parallel": 6}
    assert_equal(plan_fleet(images, roots, **options), images, roots, **options)


def absurd() -> Image:
    """An image whose layers are said to have more bytes than 64 bits can hold together."""
    layers = [ImageLayer(f"sha256:{n:064x}", 2**62, f"sha256:{n:064x}") for n in range(3)]
    return Image("absurd", "absurd", layers[0].blob, tuple(layers))


def test_sizes_beyond_64_bits_are_an_error_of_the_cell(tmp_path: Path) -> None:
    images = [absurd(), open_image(IMAGES[0])]
    stores = {"a": open_store(copy_store("dir", tmp_path))}
    plan = plan_fleet(images, stores)
    assert plan.is_planned.tolist() == [[False, True]]
    (error,) = plan.errors
    assert "63 bits" in error.reason
    rows = plan.to_arrow().to_pylist()
    assert [row["requests"] is None for row in rows] == [True, False]
    assert [row["reason"] is None for row in rows] == [False, True]


def test_what_a_plan_says_of_itself() -> None:
    stores = golden_stores()
    images = [absurd(), *map(open_image, IMAGES)]
    plan = plan_fleet(images, stores, reflink=False)
    assert (len(plan), len(plan.images)) == (len(stores), 5)
    assert repr(plan).startswith(f"<FleetPlan: {len(stores)} nodes in ")
    assert "cheapest node" in plan._repr_html_()
    assert plan.cheapest[0] == -1
    wire = plan.wire_bytes
    assert plan.cheapest[1:].tolist() == wire[:, 1:].argmin(axis=0).tolist()
    assert plan.image_sums("wire_bytes") == [0, *wire[:, 1:].sum(axis=0).tolist()]
    assert plan.dearest == 1 + int(wire[:, 1:].sum(axis=0).argmax())
    assert (plan.wire_bytes[:, 1:] == (plan.fetch_bytes + plan.toc_bytes)[:, 1:]).all()
    table = plan.to_arrow()
    assert table.num_rows == 5 * len(stores)
    assert table["missing_bytes"].to_pylist()[1::5] == plan.missing_bytes[:, 1].tolist()
    assert table["node"].to_pylist()[::5] == list(stores)
    for shown in ("wire_bytes", "fetch_bytes", "missing_bytes"):
        assert plan.plot(shown)._repr_png_()[0].startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="wanted one of"):
        plan.plot("requests")  # type: ignore[arg-type]


def test_tocs_are_released_once_an_image_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References are opened here, so nobody else holds the images."""
    monkeypatch.setattr(cells, "DIGESTS_PER_PASS", 1)
    held = []

    def find(*arguments: Any) -> Any:
        gc.collect()
        held.append(sum(isinstance(each, Entries) for each in gc.get_objects()))
        return find_matches(*arguments)

    monkeypatch.setattr(cells, "find_matches", find)
    gc.collect()
    before = sum(isinstance(each, Entries) for each in gc.get_objects())
    root = copy_store("dir", tmp_path)
    edit_layers(root, lambda records: records.clear())
    layers = [SparseLayer(toc_of(number)) for number in range(4)]
    folder = write_layout(tmp_path / "oci", {f"t{n}": [layer] for n, layer in enumerate(layers)})
    plan_fleet([f"oci:{folder}:t{number}" for number in range(4)], {"a": open_store(root)})
    assert [n - before for n in held] == [1] * 4


def toc_of(number: int) -> bytes:
    digest = "sha256:" + f"{number:064x}"
    entry = {"type": "reg", "name": "a", "size": 9, "digest": digest, "endOffset": 9}
    return json.dumps({"version": 1, "entries": [entry]}).encode()


@pytest.mark.parametrize("n_classes", [0, 1, 5, 513, 5000])
@pytest.mark.parametrize("n_images", [0, 1, 3, 4, 5, 20])
@pytest.mark.parametrize("n_workers", [1, 2, 16])
def test_work_is_cut_for_all_workers(n_classes: int, n_images: int, n_workers: int) -> None:
    class_blocks, image_blocks = cut_work(n_classes, n_images, n_workers)
    for blocks, n_rows, most in ((class_blocks, n_classes, 512), (image_blocks, n_images, 4)):
        rows = [row for block in blocks for row in range(n_rows)[block]]
        assert rows == list(range(n_rows))
        sizes = [block.stop - block.start for block in blocks]
        assert max(sizes) <= min(most, min(sizes) + 1)
    assert len(class_blocks) * len(image_blocks) >= min(n_workers, n_classes * n_images)


def test_stores_cannot_be_read_by_other_processes(tmp_path: Path) -> None:
    stores = {"a": open_store(copy_store("dir", tmp_path))}
    with pytest.raises(TypeError, match="wanted a fleet folder"):
        plan_fleet(IMAGES, stores, processes=2)
