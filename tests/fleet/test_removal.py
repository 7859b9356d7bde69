"""What a removal frees on each node is what it frees there alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet.build import Node, RandomFleet, fleets, write_node
from tests.golden import GOLDEN_SMALL, STORES, golden_toc, layer_ids
from tests.sharing import oracle
from tests.stores import copy_part, copy_store, edit_layers, toc_path
from vecache.errors import LayerNotFoundError, StoreError, VecacheError
from vecache.fleet.removal import what_if_fleet
from vecache.sharing.contents import GRAINS
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents
from vecache.store.fleet import open_fleet
from vecache.store.open import open_store
from vecache.store.write_fleet import add_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vecache.fleet.removal import FleetRemoval, NodeRemoval
    from vecache.sharing.contents import Contents, Grain
    from vecache.store.graphroot import Store


def check(found: FleetRemoval, stores: Sequence[tuple[str, Store]], names: Sequence[str]) -> None:
    """Compare each node with what `what_if` finds for it."""
    by_node = {node: each for each in found.removals for node in each.nodes}
    assert sorted(by_node) == sorted(name for name, _ in stores)
    for node, store in stores:
        check_node(by_node[node], read_contents(store), names)


def has(source: Store | Contents, name: str) -> bool:
    try:
        what_if(source, [name])
    except VecacheError:
        return False
    return True


def check_node(found: NodeRemoval, contents: Contents, names: Sequence[str]) -> None:
    here = [name for name in names if has(contents, name)]
    alone = what_if(contents, here, found.grain)
    assert found.layer_ids == alone.layer_ids
    assert found.image_names == tuple(image.label for image in alone.images)
    assert found.remaining == alone.remaining
    assert found.stored_bytes == alone.stored_bytes
    assert found.freed_bytes == alone.freed_bytes
    assert found.unknown_ids == alone.unknown_ids
    assert found.unknown_bytes == alone.unknown_bytes


NAMES = st.sampled_from(["app", "base", "db", "layer0", "layer1", "layer3"])


@given(fleets(), st.sets(NAMES, max_size=3), st.sampled_from(GRAINS), st.sampled_from([1, 5, 99]))
def test_each_node_frees_what_it_does_alone(
    fleet: RandomFleet, chosen: set[str], grain: Grain, max_rows: int
) -> None:
    names = sorted(chosen)
    with fleet.stores() as stores:
        try:
            found = what_if_fleet(stores, names, grain, max_rows=max_rows)
        except LayerNotFoundError:
            assert any(all(not has(store, name) for _, store in stores) for name in names)
            return
        check(found, stores, names)
    by_node = {node: each for each in found.removals for node in each.nodes}
    gone: list[oracle.Held] = []
    remaining: list[oracle.Held] = []
    for number, node in enumerate(fleet.nodes):
        for layer, rows in enumerate(fleet.rows(node, grain)):
            is_gone = f"layer{layer}" in by_node[f"node{number}"].layer_ids
            (gone if is_gone else remaining).append(oracle.held(rows))
    held = oracle.union(remaining)
    lost = {digest: size for digest, size in oracle.union(gone).items() if digest not in held}
    assert found.lost_bytes == ({grain: sum(lost.values())})


def golden_fleet(folder: Path) -> list[tuple[str, Store]]:
    """Golden stores on five nodes, one of them with a layer that cannot be read."""
    root = copy_store("dir", folder)
    toc_path(root, layer_ids("dir")[4]).write_text("{")
    edit_layers(root, lambda records: records[4].update({"diff-size": 1234}))
    stores = [(name, open_store(GOLDEN_SMALL / "stores" / name)) for name in STORES]
    return [*stores, ("again", stores[0][1]), ("damaged", open_store(root))]


def test_a_fleet_folder_frees_what_its_stores_do(tmp_path: Path) -> None:
    stores = golden_fleet(tmp_path)
    for name, store in stores:
        add_store(tmp_path / "fleet", store, name)
    fleet = open_fleet(tmp_path / "fleet")
    for names in (
        ["app2"],
        ["app2", "base"],
        [layer_ids("dir")[1][:12]],
        ["dirs", "other", "app1"],
    ):
        for grain in GRAINS:
            processes = 2 if (names, grain) == (["app2"], "file") else None
            found = what_if_fleet(fleet, names, grain, processes=processes)
            check(found, stores, names)
            assert ("again", "dir", "flat") in [each.nodes for each in found.removals]
            assert found.stored_bytes == sum(
                each.stored_bytes * len(each.nodes) for each in found.removals
            )
        assert pa.table(found)["node"].to_pylist() == [
            n for each in found.removals for n in each.nodes
        ]


def test_an_additional_store_loses_nothing_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, app1, other, *_ = layer_ids("dir")
    own = copy_part(tmp_path / "own", [app1, other], ["app1", "other"])
    extra = copy_part(tmp_path / "extra", [base, other], ["base"])
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f"[storage]\ndriver = 'overlay'\ngraphroot = '{own}'\n"
        f"[storage.options]\nadditionalimagestores = ['{extra}']\n"
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    stores = [("mixed", open_store()), ("plain", open_store(GOLDEN_SMALL / "stores" / "dir"))]
    for name, store in stores:
        add_store(tmp_path / "fleet", store, name)
    for source in (stores, tmp_path / "fleet"):
        for names in (["app1"], [app1], ["app1", "other"], ["base"]):
            found = what_if_fleet(source, names, "file")
            check(found, stores, names)
        (mixed,) = (each for each in found.removals if each.nodes == ("mixed",))
        assert "in an additional store" in mixed.problems[0]


def test_each_node_decides_its_own_grain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(GOLDEN_SMALL / "stores" / "dir")
    monkeypatch.setattr("vecache.store.settings.can_reflink", lambda _: True)
    add_store(tmp_path / "fleet", store, "xfs")
    monkeypatch.setattr("vecache.store.settings.can_reflink", lambda _: False)
    add_store(tmp_path / "fleet", store, "ext4")
    found = what_if_fleet(tmp_path / "fleet", ["app2"])
    by_node = {each.nodes[0]: each for each in found.removals}
    xfs, ext4 = by_node["xfs"], by_node["ext4"]
    assert (xfs.grain, xfs.shares, ext4.grain, ext4.shares) == ("chunk", True, "file", False)
    assert xfs.freed_now_bytes == what_if(store, ["app2"], "chunk").freed_bytes
    assert ext4.freed_now_bytes == what_if(store, ["app2"], "file").stored_bytes
    assert found.freed_now_bytes == xfs.freed_now_bytes + ext4.freed_now_bytes
    assert sorted(found.lost_bytes) == ["chunk", "file"]
    same = what_if_fleet(tmp_path / "fleet", ["app2"], "file")
    assert sorted((each.nodes, each.shares) for each in same.removals) == [
        (("ext4",), False),
        (("xfs",), True),
    ]


def test_nodes_that_differ_only_in_contents_are_apart(tmp_path: Path) -> None:
    tocs = tuple(golden_toc("dir", layer) for layer in layer_ids("dir")[:2])
    nodes = [Node((toc,), (None,), {"app": 0}) for toc in (0, 1, 0)]
    stores = [(str(n), write_node(tmp_path / str(n), node, tocs)) for n, node in enumerate(nodes)]
    found = what_if_fleet(stores, ["app"], "file")
    check(found, stores, ["app"])
    assert found.removals[0].freed_bytes != found.removals[1].freed_bytes


def test_a_name_that_no_node_has_is_not_found(tmp_path: Path) -> None:
    stores = golden_fleet(tmp_path)
    with pytest.raises(LayerNotFoundError, match=r"on no node: image 'app22': .*similar names"):
        what_if_fleet(stores, ["app1", "app22"])
    with pytest.raises(LayerNotFoundError, match="the fleet has no nodes"):
        what_if_fleet([], ["app1"])
    with pytest.raises(TypeError, match="wanted a list of names"):
        what_if_fleet(stores, "app1")


def test_an_ambiguous_name_is_a_problem_of_the_node(tmp_path: Path) -> None:
    toc = golden_toc("dir", layer_ids("dir")[0])
    one, two = Node((0,), (None,), {}), Node((0, 0), (None, None), {})
    stores = [
        (str(n), write_node(tmp_path / str(n), node, (toc,))) for n, node in enumerate((one, two))
    ]
    found = what_if_fleet(stores, ["layer"], "file")
    assert [each.layer_ids for each in found.removals] == [("layer0",), ()]
    assert found.removals[0].problems == ()
    assert "matches 2 layers" in found.removals[1].problems[0]
    assert found.lost_bytes == {"file": 0}  # the other node has them still
    with pytest.raises(StoreError, match=r"on all nodes that may have it: .*matches 2 layers"):
        what_if_fleet(stores[1:], ["layer"])
