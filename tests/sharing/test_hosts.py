"""Several stores give the figures of the oracle over all their layers, each with its host."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from pyarrow import csv, parquet

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from tests.stores import copy_part
from vecache.errors import DatasetError, StoreError
from vecache.fleet.overlap import overlap_fleet
from vecache.sharing import export
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import MAX_BYTES, Contents
from vecache.sharing.dataset import SMALL_TAGS, open_dataset
from vecache.sharing.exclusive import shares
from vecache.sharing.export import export_dataset, write_tags
from vecache.sharing.gather import gather
from vecache.sharing.hosts import merge_hosts, name_hosts, split_hosts
from vecache.sharing.matrix import overlap
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents
from vecache.store.open import open_store
from vecache.store.write_fleet import add_snapshot
from vecache.store.write_snapshot import write_snapshot

if TYPE_CHECKING:
    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import By, Grain

STORE = GOLDEN_SMALL / "stores" / "dir"


def check(found: Contents, members: list[oracle.Held], by: By, grain: Grain = "file") -> None:
    exclusive, _, new = oracle.sharing(members)
    each = shares(found, by, grain)
    assert each.exclusive_bytes.tolist() == exclusive
    assert each.new_bytes.tolist() == new
    for a, one in enumerate(members):
        for b, other in enumerate(members):
            common = sum(size for key, size in one.items() if key in other)
            assert overlap(found, by, grain).bytes[a, b] == common


@given(LAYERS, LAYERS)
def test_random_stores_have_the_shares_that_the_oracle_finds(
    one: list[bytes], other: list[bytes]
) -> None:
    found = merge_hosts({"a": contents_of(one), "b": contents_of(other)})
    layers = [oracle.held(oracle.grains(toc)[0]) for toc in (*one, *other)]
    check(found, layers, "layer")
    check(found, [oracle.union(layers[: len(one)]), oracle.union(layers[len(one) :])], "host")


@pytest.mark.parametrize("by", ["layer", "image", "host"])
@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_a_store_beside_itself(golden: Golden, by: By, grain: Grain) -> None:
    found = merge_hosts({"a": golden.contents, "b": golden.contents})
    if by == "host":
        check(found, [oracle.union(golden.members("layer", grain))] * 2, by, grain)
        assert found.labels(by) == ("a", "b")
    else:
        check(found, golden.members(by, grain) * 2, by, grain)
        one = golden.contents.labels(by)
        assert found.labels(by) == tuple(f"{host}: {each}" for host in "ab" for each in one)
        assert overlap(found, by, grain).hosts == ("a",) * len(one) + ("b",) * len(one)


def test_tables_have_a_column_of_hosts_where_there_are_several() -> None:
    alone, several = read_contents(STORE), read_contents({"a": STORE, "b": STORE})
    for source, new in ((alone, set()), (several, {"host", "host_a", "host_b"})):
        names = {
            name
            for table in (
                overlap(source).to_arrow(),
                shares(source).to_arrow(),
                gather(STORE, source).to_arrow(),
            )
            for name in table.column_names
        }
        assert {name for name in names if name.startswith("host")} == new
    pairs = overlap(several).to_arrow().to_pylist()
    assert all(pair["a"].startswith(f"{pair['host_a']}: ") for pair in pairs)


def test_layers_of_any_store_cover_an_image() -> None:
    contents = read_contents(STORE)
    first, *others = layer_ids("dir")
    named = {"a": contents.limited_to([first]), "b": contents.limited_to(others)}
    cover, whole = gather(STORE, named), gather(STORE, contents)
    steps = cover.to_arrow().to_pylist()
    assert [row.pop("host") for row in steps] == [
        "a" if row["layer_id"] == first else "b" for row in steps
    ]
    assert steps == whole.to_arrow().to_pylist()
    assert f'<td title="b: {others[1]}">b: {others[1][:12]}</td>' in cover._repr_html_()


def test_each_host_comes_back_as_it_was() -> None:
    contents = read_contents(STORE)
    first = contents.layers[0].id
    named = {"a": replace(contents, additional_ids=frozenset([first])), "b": contents}
    merged = merge_hosts(named)
    assert len(merged.without_additional().layers) == 2 * len(contents.layers) - 1
    for host, part in split_hosts(merged).items():
        assert part.layers == named[host].layers
        assert part.images == contents.images
        assert part.source is contents.source
        assert part.additional_ids == named[host].additional_ids
    again = merge_hosts({"x": merged, "b": contents})  # it keeps the names that it has
    assert again.hosts == ("a", "b", "b-2")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["web1", "web2"], ["web1", "web2"]),
        (["web1/storage", "web2/storage"], ["web1", "web2"]),
        (["a/u/storage", "b/u/storage", "db"], ["a", "b", "db"]),
        (["x/storage", "x/storage"], ["storage", "storage-2"]),
        (["storage", "y/storage"], ["storage", "y"]),
        (["tags.parquet"], ["tags"]),
        (["a/tags.parquet", "b/tags.parquet"], ["a", "b"]),
    ],
)
def test_hosts_are_named_by_what_differs(paths: list[str], names: list[str]) -> None:
    assert name_hosts([Path("/mnt") / path for path in paths]) == names


def test_a_list_of_stores_is_named_by_their_folders() -> None:
    flat = GOLDEN_SMALL / "stores" / "flat"
    assert read_contents([str(STORE), open_store(flat)]).hosts == ("dir", "flat")
    assert read_contents([STORE]).hosts == ("dir",)


@pytest.mark.parametrize("source", [[], [STORE, 5], {"a": 5}, {"": STORE}, ["oci:nothing"]])
def test_what_is_not_a_store_is_refused(source: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_contents(source)


def test_snapshots_and_nodes_are_named_after_their_machines(tmp_path: Path) -> None:
    snapshots = [tmp_path / name for name in ("one.snapshot", "two.snapshot")]
    for path in snapshots:
        with path.open("wb") as file:
            write_snapshot(open_store(STORE), file)
    add_snapshot(tmp_path / "fleet", snapshots[0], "db1")
    host = platform.node()
    node = f"{tmp_path / 'fleet'}#db1"
    assert read_contents([snapshots[0], node]).hosts == (host, "db1")
    assert read_contents(snapshots).hosts == ("one", "two")  # of one machine


@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_hosts_have_in_common_what_nodes_of_a_fleet_have(tmp_path: Path, grain: Grain) -> None:
    ids = layer_ids("dir")
    stores = {
        "a": open_store(copy_part(tmp_path / "a", ids[:3], [])),
        "b": open_store(copy_part(tmp_path / "b", ids[2:], [])),
        "c": open_store(GOLDEN_SMALL / "stores" / "flat"),
    }
    found, fleet = overlap(stores, "host", grain), overlap_fleet(stores.items(), grain)
    rows = [found.labels.index(label) for label in fleet.labels]
    for metric in ("files", "chunks", "bytes"):
        assert (getattr(found, metric)[np.ix_(rows, rows)] == getattr(fleet, metric)).all()
    exclusive = shares(stores, "host", grain).exclusive_bytes[rows]
    assert exclusive.tolist() == fleet.exclusive_bytes.tolist()


def test_nothing_is_removed_from_several_stores_at_once() -> None:
    with pytest.raises(ValueError, match="found several stores"):
        what_if([STORE, STORE], ["app2"])


def test_sums_of_several_stores_stay_exact() -> None:
    contents = read_contents(STORE)
    size = np.array([MAX_BYTES // 2 + 1])
    large = ContentTable(np.zeros((1, 32), np.uint8), size, np.ones(1, np.int64))
    one = replace(contents, layers=(replace(contents.layers[0], files=large),))
    with pytest.raises(StoreError, match="compare fewer stores at once"):
        merge_hosts({"a": one, "b": one})


@pytest.mark.parametrize("most", [SMALL_TAGS, 0])
def test_a_data_set_of_several_stores_is_read_as_they_are(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SMALL_TAGS", most)
    named = {"a/b": STORE, "db": GOLDEN_SMALL / "stores" / "flat"}
    for _ in range(2):  # the second replaces the first
        export_dataset(named, tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["host=a%2Fb", "host=db"]
    one, other = read_contents(named), open_dataset(tmp_path / "set")
    assert other.hosts == one.hosts
    for by in ("layer", "image", "host"):
        assert overlap(one, by).to_arrow() == overlap(other, by).to_arrow()
    n_files = sum(path.is_file() for path in (tmp_path / "set").rglob("*"))
    assert n_files == 6 if most else n_files > 100
    files = [shares(each).repeated_files().to_arrow() for each in (one, other)]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", ["host=%61", "host="])
def test_two_folders_of_one_host_are_refused(name: str, tmp_path: Path) -> None:
    export_dataset({"a": STORE, "b": STORE}, tmp_path / "set")
    (tmp_path / "set" / "host=b").rename(tmp_path / "set" / name)
    with pytest.raises(DatasetError, match="of one host"):
        open_dataset(tmp_path / "set")


def test_a_folder_with_anything_else_is_not_replaced(tmp_path: Path) -> None:
    export_dataset({"a": STORE, "b": STORE}, tmp_path / "set")
    (tmp_path / "set" / "host=b" / "mine").touch()
    with pytest.raises(DatasetError, match="name another folder"):
        export_dataset(STORE, tmp_path / "set")


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_one_file_of_several_stores_has_a_column_of_hosts(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"tags{ending}"
    with path.open("wb") as file:
        write_tags(read_contents({"a": STORE, "b": STORE}), file, ending)
    table = parquet.read_table(path) if ending == ".parquet" else csv.read_csv(path)
    assert table.column_names[0] == "host"
    rows = table["host"].value_counts().to_pylist()
    assert [row["values"] for row in rows] == ["a", "b"]
    assert rows[0]["counts"] == rows[1]["counts"]
    if ending == ".parquet":
        with pytest.raises(DatasetError, match="damaged, or not of a data set"):
            open_dataset(path)
