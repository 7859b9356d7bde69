"""A data set gives back the same figures, holds every tag, and is replaced in one step or not."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pyarrow import csv, ipc, parquet

from tests.golden import GOLDEN_SMALL, golden_cache, layer_ids
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from tests.stores import copy_store, toc_path
from vecache.arrays import binary_to_text
from vecache.cache.reader import CacheFile
from vecache.digest import format_digests
from vecache.errors import DatasetError, TocError
from vecache.sharing.dataset import open_dataset, part_path
from vecache.sharing.exclusive import repeated_files, shares
from vecache.sharing.export import export_dataset, tag_tables, write_tags
from vecache.sharing.gather import gather
from vecache.sharing.matrix import overlap
from vecache.sharing.occurrences import TAG_SCHEMA
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import Contents


def same_rows(one: Contents, other: Contents) -> bool:
    return all(
        np.array_equal(getattr(a, column), getattr(b, column))
        for x, y in zip(one.layers, other.layers, strict=True)
        for a, b in ((x.files, y.files), (x.chunks, y.chunks))
        for column in ("key", "size", "n_copies")
    )


def test_all_figures_are_the_same_as_from_the_store(golden: Golden, tmp_path: Path) -> None:
    store = golden.contents
    export_dataset(store, tmp_path / "set")
    again = read_contents(tmp_path / "set")
    assert [layer.record for layer in again.layers] == [layer.record for layer in store.layers]
    assert again.images == store.images
    assert same_rows(store, again)
    for by in ("layer", "image"):
        one, other = overlap(store, by, "chunk"), overlap(again, by, "chunk")
        assert one.to_arrow().equals(other.to_arrow())
        assert shares(store, by).to_arrow().equals(shares(again, by).to_arrow())
    app2 = store.images[4].label
    assert repr(what_if(store, [app2])) == repr(what_if(again, [app2]))
    assert repr(gather(store, again)) == repr(gather(again, store))
    one_file, other_file = repeated_files(store).to_arrow(), repeated_files(again).to_arrow()
    assert one_file.drop_columns("path").equals(other_file.drop_columns("path"))


@settings(max_examples=8)  # each writes and reads hundreds of files
@given(tocs=LAYERS)
def test_random_layers_come_back(
    tmp_path_factory: pytest.TempPathFactory, tocs: list[bytes]
) -> None:
    contents = contents_of(tocs)
    folder = tmp_path_factory.mktemp("random") / "set"
    export_dataset(contents, folder)
    again = open_dataset(folder)
    assert [layer.id for layer in again.layers] == [layer.id for layer in contents.layers]
    assert same_rows(contents, again)
    exported = pa.concat_tables([TAG_SCHEMA.empty_table(), *tag_tables(contents)])
    back = pa.concat_tables([TAG_SCHEMA.empty_table(), *tag_tables(again)])
    assert sorted(map(repr, exported.to_pylist())) == sorted(map(repr, back.to_pylist()))


def test_every_tag_of_the_caches_is_in_it(tmp_path: Path) -> None:
    export_dataset(GOLDEN_SMALL / "stores" / "dir", tmp_path / "set")
    table = parquet.read_table(tmp_path / "set" / "tags").to_pylist()
    rows = {(row["layer"], row["digest"], row["path"], row["offset"]) for row in table}
    n_tags = 0
    for layer in layer_ids("dir"):
        cache = CacheFile.parse(golden_cache("dir", layer))
        located = cache.locate(np.arange(cache.n_tags))
        paths = binary_to_text(cache.names(located.name_offset)).to_pylist()
        raw = np.frombuffer(cache.tags["digest"].tobytes(), np.uint8).reshape(-1, 39)[:, 7:]
        digests = format_digests(raw).to_pylist()
        n_tags += cache.n_tags
        tags = zip(digests, paths, located.offset.tolist(), strict=True)
        assert {(layer, *tag) for tag in tags} <= rows
    assert len(table) >= n_tags > 1000


def test_parts_are_sorted_encoded_and_in_their_folders(tmp_path: Path) -> None:
    export_dataset(GOLDEN_SMALL / "stores" / "flat", tmp_path / "set")
    n_rows = 0
    for first_byte in range(256):
        path = part_path(tmp_path / "set", first_byte)
        if path.exists():
            table = parquet.ParquetFile(path).read()
            digests = table["digest"].to_pylist()
            assert digests == sorted(digests)
            assert {int(digest[7:9], 16) for digest in digests} == {first_byte}
            assert table.schema.equals(TAG_SCHEMA)
            n_rows += len(digests)
    assert parquet.read_table(tmp_path / "set" / "tags").num_rows == n_rows
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "images.parquet",
        "layers.parquet",
        "tags",
    ]


def test_an_engine_that_joins_it_gets_the_same_figures(tmp_path: Path) -> None:
    """What an engine does: distinct rows of both, joined by digest."""
    found = overlap(GOLDEN_SMALL / "stores" / "dir")
    export_dataset(found.contents, tmp_path / "set")
    table = parquet.read_table(tmp_path / "set" / "tags")
    held = table.filter(table["in_files"]).select(["layer", "digest", "size"])
    held = held.set_column(0, "layer", held["layer"].cast(pa.string()))
    held = held.group_by(["layer", "digest", "size"]).aggregate([])
    others = held.rename_columns(["other", "digest", "bytes"])
    joined = held.join(others, "digest", join_type="inner")
    summed = joined.group_by(["layer", "other"]).aggregate([("size", "sum"), ("size", "count")])
    place = {label: number for number, label in enumerate(found.labels)}
    n_bytes = np.zeros_like(found.bytes)
    files = np.zeros_like(found.bytes)
    for row in summed.to_pylist():
        n_bytes[place[row["layer"]], place[row["other"]]] = row["size_sum"]
        files[place[row["layer"]], place[row["other"]]] = row["size_count"]
    assert (n_bytes == found.bytes).all()
    assert (files == found.files).all()


def test_one_file_of_each_kind_has_the_same_tags() -> None:
    contents = read_contents(GOLDEN_SMALL / "stores" / "estargz")
    files = {}
    for ending in (".parquet", ".arrow", ".csv"):
        files[ending] = io.BytesIO()
        write_tags(contents, files[ending], ending)
        files[ending].seek(0)
    plain = pa.schema(
        [(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in TAG_SCHEMA]
    )
    from_parquet = parquet.read_table(files[".parquet"]).cast(plain)
    from_arrow = ipc.open_file(files[".arrow"]).read_all()
    from_csv = csv.read_csv(files[".csv"]).cast(plain)
    assert from_parquet.num_rows > 1000
    assert from_parquet.to_pylist() == from_arrow.to_pylist() == from_csv.to_pylist()
    with pytest.raises(ValueError, match="wanted one of"):
        write_tags(contents, io.BytesIO(), ".txt")


def test_layers_without_a_toc_are_in_it_with_the_reason(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    toc_path(root, layer_ids("dir")[0]).unlink()
    export_dataset(root, tmp_path / "set")
    again = open_dataset(tmp_path / "set")
    assert [each.reason for each in again.excluded] == ["no TOC"]
    assert again.excluded[0].record.id == layer_ids("dir")[0]
    assert what_if(again, [again.images[0].label]).unknown_ids == ()
    assert len(again.images) == 5


def test_a_data_set_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    target = tmp_path / "set"
    target.mkdir()
    export_dataset(contents_of([]), target)
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    assert len(open_dataset(target).layers) == 5
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("keep")
    with pytest.raises(DatasetError, match="no data set"):
        export_dataset(contents_of([]), other)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".vecache")] == []


@pytest.mark.parametrize("beside", ["thesis.txt", "tags.bak"])
def test_what_stands_beside_a_data_set_is_never_lost(tmp_path: Path, beside: str) -> None:
    """Such as the user's own folder, after `vecache export -o .` in it."""
    export_dataset(contents_of([]), tmp_path / "set")
    (tmp_path / "set" / beside).write_text("keep")
    with pytest.raises(DatasetError, match="holds more than a data set"):
        export_dataset(contents_of([]), tmp_path / "set")
    assert (tmp_path / "set" / beside).read_text() == "keep"


@pytest.mark.parametrize("form", ["table", "garbage"])
def test_a_file_named_as_in_a_data_set_makes_none(tmp_path: Path, form: str) -> None:
    """`vecache layers -o layers.parquet` writes another table of that name."""
    mine = tmp_path / "set" / "layers.parquet"
    mine.parent.mkdir()
    if form == "table":
        parquet.write_table(pa.table({"layer": ["a"]}), mine)
    else:
        mine.write_bytes(b"PAR1")
    before = mine.read_bytes()
    with pytest.raises(DatasetError, match="holds more than a data set"):
        export_dataset(contents_of([]), mine.parent)
    assert mine.read_bytes() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_export_that_ends_while_it_takes_its_name_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = tmp_path / "set"
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    rename = type(target).rename

    def fail(path: Path, to: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise error
        return rename(path, to)

    monkeypatch.setattr(type(target), "rename", fail)
    with pytest.raises((KeyboardInterrupt, OSError)) as caught:
        export_dataset(contents_of([]), target)
    assert getattr(caught.value, "filename", str(target)) == str(target)
    assert len(open_dataset(target).layers) == 5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".vecache")] == []


def test_a_failed_export_leaves_the_old_one(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    target = tmp_path / "set"
    contents = read_contents(root)
    export_dataset(contents, target)
    toc_path(root, layer_ids("dir")[2]).unlink()
    with pytest.raises(TocError, match="has gone"):
        export_dataset(contents, target)
    assert len(open_dataset(target).layers) == 5
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["dir", "set"]


@pytest.mark.parametrize(
    "spoil",
    ["no-layers", "garbage", "version", "columns", "ids", "null", "part", "no-part"],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, spoil: str) -> None:
    target = tmp_path / "set"
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    layers = target / "layers.parquet"
    part = next(target.glob("tags/*/*.parquet"))
    table = parquet.read_table(layers)
    match spoil:
        case "no-layers":
            layers.unlink()
        case "garbage":
            layers.write_bytes(b"PAR1 and no more")
        case "version":
            parquet.write_table(table.replace_schema_metadata({}), layers)
        case "columns":
            parquet.write_table(table.drop_columns("diff_size"), layers)
        case "ids":
            parquet.write_table(pa.concat_tables([table, table]), layers)
        case "null":
            names = pa.array([[None]] * len(table), pa.list_(pa.string()))
            parquet.write_table(table.set_column(2, "names", names), layers)
        case "part":
            part.write_bytes(b"")
        case "no-part":
            part.unlink()
    with pytest.raises(DatasetError, match=str(target)):
        open_dataset(target)


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    contents = read_contents(GOLDEN_SMALL / "stores" / "dir")
    export_dataset(contents, tmp_path / "set", progress=lambda *step: steps.append(step))
    assert steps == [(number, 261) for number in range(1, 262)]
    steps.clear()
    open_dataset(tmp_path / "set", progress=lambda *step: steps.append(step))
    assert steps[-1] == (256, 256)
