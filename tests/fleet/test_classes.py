"""Protects classes of nodes: who is in one, and that its layers are loaded as a store's are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.stores import cache_path, copy_store, edit_layers, toc_path
from vecache.errors import LocationError
from vecache.fleet.classes import PullChoices, group_nodes, load_classes
from vecache.fleet.plan import plan_fleet
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.fleet import open_fleet
from vecache.store.graphroot import Store
from vecache.store.open import open_store
from vecache.store.write_fleet import add_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.fleet.classes import LoadedClasses
    from vecache.image.model import Image
    from vecache.plan.image_plan import ImagePlan

NAMES = ("base", "app1", "other", "dirs", "app2")
DAMAGES = ("", "", "no cache", "cache cut", "cache of tags out of order", "TOC cut")


class Stores(dict[str, Store]):
    """Stores by name, as `group_nodes` takes them."""

    def nodes(self) -> list[str]:
        return list(self)

    def open_node(self, name: str) -> Store:
        return self[name]


def write_node(root: Path, kinds: list[str], order: list[int], damages: list[str]) -> Path:
    """A graph root of golden layers: of each number one, in its plain or flat form."""
    copy_store(kinds[0], root.parent / f"{root.name}-copy").rename(root)
    for number, (kind, damage) in enumerate(zip(kinds, damages, strict=True)):
        layer = layer_ids(kind)[number]
        assert layer == layer_ids("dir")[number]
        source = GOLDEN_SMALL / "stores" / kind / "overlay-layers" / layer
        shutil.rmtree(root / "overlay-layers" / layer)
        shutil.copytree(source, root / "overlay-layers" / layer)
        damage_layer(root, layer, damage)
    edit_layers(root, lambda records: records.__setitem__(slice(None), [records[n] for n in order]))
    return root


def damage_layer(root: Path, layer: str, damage: str) -> None:
    cache = cache_path(root, layer)
    if damage == "no cache":
        cache.unlink(missing_ok=True)
    elif damage == "cache cut" and cache.exists():
        cache.write_bytes(cache.read_bytes()[:1000])
    elif damage == "cache of tags out of order" and cache.exists():
        data = bytearray(cache.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 55], data[-55:] = data[-55:], data[middle : middle + 55]
        cache.write_bytes(data)
    elif damage == "TOC cut":
        toc_path(root, layer).write_bytes(b'{"version":1,')


NODES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["dir", "flat"]), min_size=5, max_size=5),
        st.lists(st.integers(0, 4), max_size=5, unique=True),
        st.lists(st.sampled_from(DAMAGES), min_size=5, max_size=5),
    ),
    min_size=1,
    max_size=3,
)
CHOICES = st.builds(
    PullChoices,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["dir", "flat"]),
    st.sampled_from([1, 6]),
)


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(NODES, CHOICES)
def test_any_fleet_plans_as_its_stores_do(
    tmp_path_factory: pytest.TempPathFactory, nodes: list[Any], choices: PullChoices
) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    stores = Stores()
    for number, node in enumerate(nodes):
        stores[f"node{number}"] = open_store(write_node(folder / str(number), *node))
        add_store(folder / "fleet", stores[f"node{number}"], name=f"node{number}")
    options: dict[str, Any] = {
        name: getattr(choices, name) for name in ("reflink", "hard_links", "layout", "parallel")
    }
    images = [open_image(f"oci:{GOLDEN_SMALL / 'oci'}:{name}") for name in NAMES[1::2]]
    found = plan_fleet(images, open_fleet(folder / "fleet"), **options)
    plain = plan_fleet(images, stores, **options)
    for number, store in enumerate(stores.values()):
        cache = LayersCache.load(store)
        unread = [each.id for each in cache.excluded if each.is_unread]
        for plan in (found, plain):
            class_no = int(plan.class_of[number])
            assert [each.layer for each in plan.unread if each.class_no == class_no] == unread
            assert plan.n_layers[class_no] == len(cache.records)
        for column, image in enumerate(images):
            wanted = plan_or_reason(image, cache, options)
            if isinstance(wanted, str):
                assert not found.is_planned[number, column]
                assert [r for *which, r in plain.errors if which == [number, column]] == [wanted]
                continue
            for name in ("missing_bytes", "fetch_bytes", "toc_bytes", "requests"):
                assert getattr(found, name)[number, column] == getattr(wanted, name)
                assert getattr(plain, name)[number, column] == getattr(wanted, name)
            for name in ("missing_bounds", "fetch_bounds"):
                assert tuple(getattr(found, name)[number, column]) == getattr(wanted, name)
                assert tuple(getattr(plain, name)[number, column]) == getattr(wanted, name)


def plan_or_reason(image: Image, cache: LayersCache, options: Any) -> ImagePlan | str:
    try:
        return plan_image(image, cache, **options)
    except LocationError as error:
        return str(error)


def load(stores: Stores) -> LoadedClasses:
    return load_classes(stores, stores.nodes(), PullChoices())


def test_layers_are_loaded_as_those_of_a_store(tmp_path: Path) -> None:
    damages = ["no cache", "cache cut", "", "TOC cut", ""]
    stores = Stores(
        one=open_store(write_node(tmp_path / "one", ["dir"] * 5, [4, 2, 0, 1, 3], damages)),
        two=open_store(write_node(tmp_path / "two", ["flat"] * 5, [0, 1], [""] * 5)),
    )
    loaded = load(stores)
    for found, store in zip(loaded.classes, stores.values(), strict=True):
        wanted = LayersCache.load(store)
        assert found.cache.records == wanted.records
        assert found.cache.excluded == wanted.excluded
        assert [(each.id, each.source, each.problem) for each in found.cache.layers] == [
            (each.id, each.source, each.problem) for each in wanted.layers
        ]
        for layer, number in zip(found.cache.layers, found.numbers.tolist(), strict=True):
            assert layer.cache is loaded.files[number]
        assert found.ids == {record.id for record in wanted.records}


def test_a_layer_of_an_additional_store_takes_no_part(tmp_path: Path) -> None:
    first, second = (copy_store(kind, tmp_path) for kind in ("dir", "flat"))
    edit_layers(first, lambda records: records.__delitem__(slice(2, None)))
    store = open_store(first)
    both = replace(store, additional_stores=(second,))
    stores = Stores(one=both, two=open_store(second))
    loaded = load(stores)
    for found, each in zip(loaded.classes, stores.values(), strict=True):
        wanted = LayersCache.load(each)
        assert found.cache.records == wanted.records
        assert found.cache.excluded == wanted.excluded
    assert [len(each.cache.layers) for each in loaded.classes] == [2, 5]
    images = [open_image(f"oci:{GOLDEN_SMALL / 'oci'}:{name}") for name in NAMES]
    plan = plan_fleet(images, stores, reflink=True)
    for number, each in enumerate(stores.values()):
        cache = LayersCache.load(each)
        wanted_bytes = [plan_image(image, cache, reflink=True).missing_bytes for image in images]
        assert plan.missing_bytes[number].tolist() == wanted_bytes


def test_layers_that_nodes_share_are_opened_once(tmp_path: Path) -> None:
    orders = {"all": [0, 1, 2, 3, 4], "some": [3, 1], "none": [], "copy": [0, 1, 2, 3, 4]}
    for name, order in orders.items():
        root = write_node(tmp_path / name, ["dir"] * 5, order, [""] * 5)
        add_store(tmp_path / "fleet", open_store(root), name=name)
    fleet = open_fleet(tmp_path / "fleet")
    names = fleet.nodes()
    assert names == ("all", "copy", "none", "some")
    classes = group_nodes(fleet, names, PullChoices(reflink=True))
    assert [each.nodes for each in classes] == [(0, 1), (2,), (3,)]
    loaded = load_classes(fleet, [names[each.nodes[0]] for each in classes], PullChoices())
    assert len(loaded.files) == 5
    assert [each.numbers.tolist() for each in loaded.classes] == [[0, 1, 2, 3, 4], [], [3, 1]]


CHANGES: dict[str, Any] = {
    "order": lambda records: records.reverse(),
    "diff-id": lambda records: records[0].update({"diff-digest": "sha256:" + "0" * 64}),
    "blob": lambda records: records[0].update({"compressed-diff-digest": "sha256:" + "0" * 64}),
    "TOC": lambda records: records[0].update({"toc-digest": "sha256:" + "0" * 64}),
    "parent": lambda records: records[1].update({"parent": ""}),
    "layers": lambda records: records.pop(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nodes_that_differ_are_of_different_classes(change: str, tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    for name in ("a", "b"):
        add_store(tmp_path / "fleet", open_store(root), name=name)
    edit_layers(root, CHANGES[change])
    add_store(tmp_path / "fleet", open_store(root), name="c")
    fleet = open_fleet(tmp_path / "fleet")
    classes = group_nodes(fleet, fleet.nodes(), PullChoices())
    assert [each.nodes for each in classes] == [(0, 1), (2,)]


def test_nodes_of_different_settings_are_of_one_class_where_these_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_store("dir", tmp_path)
    for name, parallel in (("a", 1), ("b", 2)):
        path = tmp_path / "containers.conf"
        path.write_text(f"[engine]\nimage_parallel_copies = {parallel}\n")
        monkeypatch.setenv("CONTAINERS_CONF", str(path))
        add_store(tmp_path / "fleet", open_store(root), name=name)
    fleet = open_fleet(tmp_path / "fleet")
    own = group_nodes(fleet, fleet.nodes(), PullChoices())
    assert [each.options.parallel for each in own if each.options] == [1, 2]
    assert len(group_nodes(fleet, fleet.nodes(), PullChoices(parallel=3))) == 1
