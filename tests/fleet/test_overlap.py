"""What nodes have in common is what set arithmetic finds, however the work is cut up."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet.build import RandomFleet, fleets
from tests.golden import GOLDEN_SMALL, STORES, golden_toc, layer_ids
from tests.sharing import oracle
from tests.stores import copy_store, toc_path
from vecache.fleet.overlap import overlap_fleet
from vecache.sharing.contents import GRAINS
from vecache.store.fleet import open_fleet
from vecache.store.open import open_store
from vecache.store.sweep_fleet import remove_nodes
from vecache.store.write_fleet import add_store

if TYPE_CHECKING:
    from vecache.arrays import I64
    from vecache.fleet.overlap import FleetOverlap
    from vecache.sharing.contents import Grain
    from vecache.store.graphroot import Store


def golden_fleet() -> list[tuple[str, Store]]:
    """The golden stores, one of them on two nodes."""
    stores = [(name, open_store(GOLDEN_SMALL / "stores" / name)) for name in STORES]
    return [*stores, ("again", stores[0][1])]


def by_node(found: FleetOverlap, matrix: I64) -> list[list[int]]:
    """The matrix of nodes, of a matrix of classes."""
    class_of = {node: n for n, nodes in enumerate(found.contents.classes) for node in nodes}
    rows = [class_of[node] for node in range(len(found.contents.nodes))]
    result: list[list[int]] = matrix[np.ix_(rows, rows)].tolist()
    return result


def check(found: FleetOverlap, members: dict[str, list[oracle.Held]]) -> None:
    """Compare the sums with those over the sets of contents that the nodes hold."""
    for grain, held in members.items():
        sums = found.sums["file" if grain == "file" else "chunk"]
        counts, n_bytes = oracle.matrices(held)
        assert by_node(found, sums.n_contents) == counts
        assert by_node(found, sums.n_bytes) == n_bytes
        assert sums.unique_bytes.tolist() == [sum(oracle.union(held).values())]
        assert sums.exclusive_bytes.tolist() == [
            sum(
                size
                for digest, size in held[nodes[0]].items()
                if not any(digest in each for n, each in enumerate(held) if n not in nodes)
            )
            for nodes in found.contents.classes
        ]


@given(fleets(), st.sampled_from([1, 2, 7, 1 << 20]))
def test_random_fleets_share_what_sets_do(fleet: RandomFleet, max_rows: int) -> None:
    with fleet.stores() as stores:
        found = overlap_fleet(stores, max_rows=max_rows)
    check(found, {grain: fleet.members(grain) for grain in GRAINS})
    classes = Counter(tuple(sorted(fleet.pool[toc] for toc in node.tocs)) for node in fleet.nodes)
    assert sorted(map(len, found.contents.classes)) == sorted(classes.values())
    for dedup in found.dedup:
        assert dedup.logical_bytes == fleet.logical_bytes(dedup.grain)
    repeated = found.repeated.to_arrow().to_pylist()
    columns = ("size", "n_copies", "n_layers", "n_nodes")
    assert Counter(tuple(row[name] for name in columns) for row in repeated) == fleet.repeated()
    assert all(row["path"] for row in repeated)


@pytest.mark.parametrize("grain", GRAINS)
def test_golden_stores_share_what_sets_do(grain: Grain) -> None:
    found = overlap_fleet(golden_fleet(), grain)
    tocs = [[golden_toc(store, layer) for layer in layer_ids(store)] for store in (*STORES, "dir")]
    members = {
        name: [
            oracle.union([oracle.held(oracle.grains(toc)[number]) for toc in layers])
            for layers in tocs
        ]
        for number, name in enumerate(("file", "chunk"))
    }
    check(found, members)
    assert found.labels == ("dir +2", "estargz", "converted")  # the layout is not in the TOCs
    assert (found.bytes == found.sums[grain].n_bytes).all()
    assert found.files.diagonal().tolist() == [len(members["file"][n]) for n in (0, 2, 3)]
    table = pa.table(found)
    assert table.num_rows == 6
    assert table["n_nodes_a"].to_pylist()[0] == 3


def test_the_work_can_be_cut_up_and_done_in_processes() -> None:
    stores = golden_fleet()
    whole = overlap_fleet(stores)
    parts = overlap_fleet(stores, max_rows=150, processes=2)
    assert whole.repeated.to_arrow() == parts.repeated.to_arrow()
    assert whole.dedup == parts.dedup
    for grain in GRAINS:
        for name in ("n_contents", "n_bytes", "exclusive_bytes"):
            one, other = getattr(whole.sums[grain], name), getattr(parts.sums[grain], name)
            assert (one == other).all()


def test_a_fleet_folder_gives_what_its_stores_do(tmp_path: Path) -> None:
    stores = golden_fleet()
    for name, store in stores:
        add_store(tmp_path / "fleet", store, name)
    expected = overlap_fleet(sorted(stores))
    home = Path(os.environ["XDG_CACHE_HOME"])
    shutil.rmtree(home / "vecache" / "contents")
    fleet = open_fleet(tmp_path / "fleet")
    for source in (tmp_path / "fleet", fleet):  # the second time from the files beside the TOCs
        found = overlap_fleet(source)
        assert found.contents.nodes == ("again", "converted", "dir", "estargz", "flat")
        assert found.to_arrow() == expected.to_arrow()
        assert found.repeated.to_arrow() == expected.repeated.to_arrow()
        assert found.dedup == expected.dedup
    files = list((tmp_path / "fleet").rglob("*.contents"))
    assert len(files) == len(found.contents.layers) == 15
    assert not list(home.rglob("*.contents"))
    del fleet, source  # while a fleet is open nothing is removed
    remove_nodes(tmp_path / "fleet", ["estargz"])
    rest = [path for path in files if path.exists()]
    assert 0 < len(rest) < len(files)  # what was derived goes with what it was derived from


def test_a_damaged_file_of_contents_is_made_again(tmp_path: Path) -> None:
    for name, store in golden_fleet():
        add_store(tmp_path / "fleet", store, name)
    expected = overlap_fleet(tmp_path / "fleet")
    files = sorted((tmp_path / "fleet").rglob("*.contents"))
    sound = [path.read_bytes() for path in files]
    for number, (path, data) in enumerate(zip(files, sound, strict=True)):
        broken = (data[:-1], data[:9_000] + b"?" + data[9_001:], b"", data[:-1] + b"?")
        path.write_bytes(broken[number % 4])
    found = overlap_fleet(tmp_path / "fleet")
    assert found.to_arrow() == expected.to_arrow()
    assert [path.read_bytes() for path in files] == sound


def test_a_node_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for name, store in golden_fleet():
        add_store(tmp_path / "fleet", store, name)
    (tmp_path / "fleet" / "nodes" / "dir.json.zst").write_bytes(b"?")
    found = overlap_fleet(tmp_path / "fleet")
    assert found.contents.nodes == ("again", "converted", "estargz", "flat")
    ((name, reason),) = found.contents.unread_nodes
    assert name == "dir"
    assert "a damaged node" in reason


def test_names_of_nodes_are_their_own() -> None:
    with pytest.raises(ValueError, match="found 'dir' twice"):
        overlap_fleet([golden_fleet()[0]] * 2)


def test_unread_layers_are_named_with_their_nodes(tmp_path: Path) -> None:
    roots = [copy_store("dir", tmp_path / name) for name in "ab"]
    for root in roots:
        toc_path(root, layer_ids("dir")[1]).write_text("{")
        toc_path(
            root, layer_ids("dir")[4]
        ).unlink()  # it has no cache, so it may never have had one
    toc_path(roots[0], layer_ids("dir")[0]).unlink()
    found = overlap_fleet([("a", open_store(roots[0])), ("b", open_store(roots[1]))])
    assert found.contents.classes == ((0,), (1,))
    excluded = [
        (each.layer.id, each.layer.is_unread, each.nodes) for each in found.contents.excluded
    ]
    assert (layer_ids("dir")[4], False, (0, 1)) in excluded
    assert (layer_ids("dir")[0], True, (0,)) in excluded
    assert len(excluded) == 4  # the reason names the file, and so differs for the second layer


def test_a_fleet_without_nodes_or_layers_is_empty() -> None:
    found = overlap_fleet([])
    assert len(found) == 0
    assert found.to_arrow().num_rows == 0
    assert found.dedup[0].ratio == 1
    assert found.repeated.to_arrow().num_rows == 0
