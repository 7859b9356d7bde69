"""A data set gives the same figures as its store, and anything else is refused."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pyarrow import parquet

from tests.golden import GOLDEN_SMALL, golden_cache, layer_ids
from tests.image.samples import TOC
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from tests.stores import copy_store, nobody, readable_folder, toc_path
from vecache.arrays import binary_to_text
from vecache.cache.reader import CacheFile
from vecache.digest import format_digests
from vecache.errors import DatasetError
from vecache.sharing import dataset as dataset_module
from vecache.sharing import export
from vecache.sharing.dataset import open_dataset
from vecache.sharing.exclusive import shares
from vecache.sharing.export import export_dataset, tag_tables, write_tags
from vecache.sharing.gather import gather
from vecache.sharing.matrix import overlap
from vecache.sharing.occurrences import TAG_SCHEMA
from vecache.sharing.parquet import fitted
from vecache.sharing.removal import what_if
from vecache.sharing.repeated import repeated_files
from vecache.sharing.sources import read_contents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import Contents

each_form = pytest.mark.parametrize("form", ["folder", "parts", "file"])


def write(source: Any, folder: Path, form: str) -> Path:
    """Write a data set of either form into a folder; return its path."""
    if form != "file":
        with pytest.MonkeyPatch.context() as patch:
            if form == "parts":  # as of a store of more than a million tags
                patch.setattr(export, "SMALL_TAGS", 0)
            export_dataset(source, folder / "set")
        return folder / "set"
    with (folder / "set.parquet").open("wb") as file:
        write_tags(read_contents(source), file, ".parquet")
    return folder / "set.parquet"


def same_rows(one: Contents, other: Contents) -> bool:
    return all(
        np.array_equal(getattr(a, column), getattr(b, column))
        for x, y in zip(one.layers, other.layers, strict=True)
        for a, b in ((x.files, y.files), (x.chunks, y.chunks))
        for column in ("key", "size", "n_copies")
    )


@each_form
def test_all_figures_are_the_same_as_from_the_store(
    golden: Golden, tmp_path: Path, form: str
) -> None:
    store = golden.contents
    again = read_contents(write(store, tmp_path, form))
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


@each_form
@settings(max_examples=8)  # each writes and reads hundreds of files
@given(tocs=LAYERS)
def test_random_layers_come_back(
    tmp_path_factory: pytest.TempPathFactory, form: str, tocs: list[bytes]
) -> None:
    contents = contents_of(tocs)
    again = open_dataset(write(contents, tmp_path_factory.mktemp("random"), form))
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


def two_sizes() -> list[bytes]:
    """A damaged TOC that gives one digest two sizes, and one that gives it a third."""
    digest = f"sha256:{1:064x}"
    return [
        json.dumps(
            {
                "version": 1,
                "entries": [
                    {"type": "reg", "name": f"f{size}", "size": size, "digest": digest}
                    for size in sizes
                ],
            }
        ).encode()
        for sizes in ((7, 5, 7), (6,))
    ]


@pytest.mark.parametrize("source", ["golden", "damaged"])
def test_the_documented_query_gives_the_figures_of_overlap(tmp_path: Path, source: str) -> None:
    """Counting distinct rows of digest and size, as it once did, counted the damaged one twice."""
    contents = (
        read_contents(GOLDEN_SMALL / "stores" / "dir")
        if source == "golden"
        else contents_of(two_sizes())
    )
    query = re.search(r"WITH held AS \(.*? GROUP BY ALL", dataset_module.__doc__ or "", re.DOTALL)
    assert query
    folder = write(contents, tmp_path, "folder")
    tags = f"'{folder}/tags/*/*.parquet'"
    rows = duckdb.connect().execute(query[0].replace("'tags/*/*.parquet'", tags)).fetchall()
    found = overlap(contents)
    number = {label: row for row, label in enumerate(found.labels)}
    files, n_bytes = np.zeros_like(found.files), np.zeros_like(found.bytes)
    for a, b, n, size in rows:
        files[number[a], number[b]] += n
        n_bytes[number[a], number[b]] += size
    assert (files == found.files).all()
    assert (n_bytes == found.bytes).all()
    assert files.any()


@each_form
def test_layers_without_a_toc_are_in_it_with_the_reason(tmp_path: Path, form: str) -> None:
    root = copy_store("dir", tmp_path)
    toc_path(root, layer_ids("dir")[4]).unlink()
    toc_path(root, layer_ids("dir")[0]).write_bytes(b"{")
    again = open_dataset(write(root, tmp_path, form))
    unread, without = again.excluded
    assert (without.id, without.reason, without.is_unread) == (layer_ids("dir")[4], "no TOC", False)
    assert unread.id == layer_ids("dir")[0]
    assert unread.is_unread
    assert what_if(again, [again.images[0].label]).unknown_ids == ()
    assert len(again.images) == 5


@pytest.mark.parametrize(
    "spoil",
    ["no-layers", "garbage", "version", "columns", "ids", "null", "part", "no-part"],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, spoil: str) -> None:
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


@pytest.mark.parametrize(
    "spoil",
    [
        "garbage",
        "version",
        "tags only",
        "no images",
        "json",
        "nested",
        "rows",
        "number",
        "null",
        "ids",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, spoil: str) -> None:
    target = write(GOLDEN_SMALL / "stores" / "dir", tmp_path, "file")
    with parquet.ParquetFile(target) as file:
        table, metadata = file.read(), dict(file.metadata.metadata)
    layers = json.loads(metadata[b"vecache.layers"])
    match spoil:
        case "garbage":
            target.write_bytes(b"PAR1 and no more")
        case "version":
            metadata[b"vecache.dataset_file"] = b"2"
        case "tags only":
            metadata = {}
        case "no images":
            del metadata[b"vecache.images"]
        case "json":
            metadata[b"vecache.layers"] = b"[{"
        case "nested":
            metadata[b"vecache.images"] = b"[" * 100_000
        case "rows":
            metadata[b"vecache.images"] = b"[1]"
        case "number":
            layers[0]["diff_size"] = 1 << 70
        case "null":
            layers[0]["names"] = [None]
        case "ids":
            layers[1]["id"] = layers[0]["id"]
    if spoil in ("number", "null", "ids"):
        metadata[b"vecache.layers"] = json.dumps(layers).encode()
    if spoil != "garbage":
        parquet.write_table(table.replace_schema_metadata(metadata), target)
    with pytest.raises(DatasetError, match=str(target)):
        open_dataset(target)


@pytest.mark.parametrize("n_changed", [-1, 1])
def test_a_file_with_other_tags_than_its_layers_have_is_refused(
    tmp_path: Path, n_changed: int
) -> None:
    target = write(GOLDEN_SMALL / "stores" / "dir", tmp_path, "file")
    with parquet.ParquetFile(target) as file:
        table, metadata = file.read(), file.metadata.metadata
    changed = table[:-1] if n_changed < 0 else pa.concat_tables([table, table[:1]])
    parquet.write_table(changed.replace_schema_metadata(metadata), target)
    with pytest.raises(DatasetError, match="parts are missing or changed"):
        open_dataset(target)


@pytest.mark.parametrize(("n_bytes", "is_refused"), [(1 << 53, False), ((1 << 53) + 1, True)])
def test_sizes_with_an_inexact_sum_are_refused(
    tmp_path: Path, n_bytes: int, is_refused: bool
) -> None:
    """A guard that adds in floats lets one byte more pass."""
    files = [
        {"type": "reg", "name": f"f{n}", "size": 1, "digest": f"sha256:{n:064x}"} for n in (1, 2)
    ]
    toc = json.dumps({"version": 1, "entries": files}).encode()
    target = write(contents_of([toc]), tmp_path, "file")
    with parquet.ParquetFile(target) as file:
        table, metadata = file.read(), file.metadata.metadata
    is_first = np.array([text.endswith("1") for text in table["digest"].to_pylist()])
    size = pa.array(np.where(is_first, n_bytes - 1, 1))
    changed = table.set_column(table.column_names.index("size"), "size", size)
    parquet.write_table(changed.replace_schema_metadata(metadata), target)
    if is_refused:
        with pytest.raises(DatasetError, match="wanted at most 9,007,199,254,740,992"):
            open_dataset(target)
    else:
        assert open_dataset(target).layers[0].files.n_bytes == n_bytes


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    contents = read_contents(GOLDEN_SMALL / "stores" / "dir")
    export_dataset(contents, tmp_path / "set", progress=lambda *step: steps.append(step))
    assert steps == [*((number, 261) for number in range(1, 6)), (261, 261)]
    steps.clear()
    open_dataset(tmp_path / "set", progress=lambda *step: steps.append(step))
    assert steps == [(1, 1)]
    steps.clear()
    open_dataset(write(contents, tmp_path, "file"), progress=lambda *step: steps.append(step))
    assert steps == [(number, 5) for number in range(1, 6)]


COLUMNS: dict[str, Callable[[int, Any], Any]] = {
    "null": pa.nulls,
    "text": lambda n, _: pa.array(["\x1b[2J<b>"] * n),
    "bytes": lambda n, _: pa.array([b"\xff\0"] * n),
    "number": lambda n, _: pa.array(range(n)),
    "float": lambda n, _: pa.array([float("nan")] * n),
    "struct": lambda n, _: pa.array([{"a": 1}] * n),
    "list of null": lambda n, _: pa.array([[None]] * n, pa.list_(pa.string())),
    "untyped": lambda n, _: pa.nulls(n),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder of two layers and an image, with as few parts as possible."""
    export_dataset(contents_of([TOC, TOC], parents=[None, 0], tops=[1]), tmp_path / "set")
    return tmp_path / "set"


def use(folder: Path) -> None:
    contents = open_dataset(folder)
    assert repeated_files(contents)._repr_html_().isprintable()
    assert overlap(contents, "image").to_arrow().num_rows == len(contents.images)
    export_dataset(contents, folder.parent / "again")


@pytest.mark.parametrize("name", ["layers", "images", "tags"])
@pytest.mark.parametrize("what", COLUMNS)
def test_a_column_of_another_type_is_converted_or_refused(
    dataset: Path, name: str, what: str
) -> None:
    file = next(dataset.glob("tags/*/*")) if name == "tags" else dataset / f"{name}.parquet"
    table = parquet.ParquetFile(file).read()
    n_refused = 0
    for number, field in enumerate(table.schema):
        kind: Any = pa.string() if pa.types.is_dictionary(field.type) else field.type
        column = COLUMNS[what](len(table), kind)
        parquet.write_table(table.set_column(number, field.name, column), file)
        try:
            use(dataset)
        except DatasetError:
            n_refused += 1
    assert 0 < n_refused <= len(table.schema)


def test_a_part_written_by_another_engine_is_read(dataset: Path) -> None:
    """Texts instead of dictionaries, large ones, smaller numbers, another order of columns."""
    for part in dataset.glob("tags/*/*"):
        table = parquet.ParquetFile(part).read()
        types = {"path": pa.large_string(), "layer": pa.string(), "size": pa.int32()}
        fields = [pa.field(each.name, types.get(each.name, each.type)) for each in table.schema]
        changed = table.cast(pa.schema(fields))
        parquet.write_table(changed.select(changed.column_names[::-1]), part, store_schema=False)
    use(dataset)
    assert repeated_files(open_dataset(dataset)).path == ("etc/hosts",)


def test_a_pipe_instead_of_a_file_does_not_block(dataset: Path) -> None:
    (dataset / "images.parquet").unlink()
    os.mkfifo(dataset / "images.parquet")
    with pytest.raises(DatasetError, match="Not a regular file"):
        open_dataset(dataset)


@pytest.mark.parametrize("name", ["layers.parquet", "tags"])
def test_what_may_not_be_read_is_an_error_that_says_what_to_do(name: str) -> None:
    with readable_folder() as folder:
        export_dataset(GOLDEN_SMALL / "stores" / "dir", folder / "set")
        open_dataset(folder / "set")  # imports what nobody may not read
        (folder / "set" / name).chmod(0)
        with (
            nobody(),
            pytest.raises(DatasetError, match=r"cannot be read: Permission denied; run as the ow"),
        ):
            open_dataset(folder / "set")


def test_a_data_set_from_before_there_were_additional_stores(tmp_path: Path) -> None:
    path = write(GOLDEN_SMALL / "stores" / "dir", tmp_path, "folder")
    for name in ("layers.parquet", "images.parquet"):
        table = parquet.read_table(path / name)
        parquet.write_table(table.drop_columns(["is_additional"]), path / name)
    assert open_dataset(path).additional_ids == frozenset()


@each_form
def test_what_made_layers_is_in_a_data_set(tmp_path: Path, form: str) -> None:
    path = write(GOLDEN_SMALL / "stores" / "dir", tmp_path, form)
    wanted = read_contents(GOLDEN_SMALL / "stores" / "dir").layer_names
    assert {names.created_by for names in wanted.values()} == {"/bin/sh"}
    assert open_dataset(path).layer_names == wanted


def test_a_data_set_from_before_that_names_layers_by_images(tmp_path: Path) -> None:
    path = write(GOLDEN_SMALL / "stores" / "dir", tmp_path, "folder")
    table = parquet.read_table(path / "images.parquet")
    parquet.write_table(table.drop_columns(["created_by"]), path / "images.parquet")
    names = list(open_dataset(path).layer_names.values())
    assert [each.created_by for each in names] == [""] * 5
    assert all(each.image_names for each in names)


@each_form
@pytest.mark.parametrize("most", [1, 4, 5, 1000])
def test_all_layers_are_exported_again_however_many_fit_into_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, form: str
) -> None:
    contents = contents_of([TOC] * 7)
    path = write(contents, tmp_path, form)
    monkeypatch.setattr("vecache.sharing.dataset._TAGS_PER_BLOCK", most)
    again = list(tag_tables(open_dataset(path)))
    assert [table.to_pylist() for table in again] == [
        table.to_pylist() for table in tag_tables(contents)
    ]


def test_a_block_reads_only_the_parts_of_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a data set that is one file; each of five blocks would read the five parts otherwise."""
    contents = open_dataset(write(GOLDEN_SMALL / "stores" / "dir", tmp_path, "file"))
    monkeypatch.setattr("vecache.sharing.dataset._TAGS_PER_BLOCK", 1)
    n_read = []

    def count(table: Any, schema: Any) -> Any:
        if schema.names != ["layer"]:  # which is read of every part, to choose those
            n_read.append(len(table))
        return fitted(table, schema)

    monkeypatch.setattr("vecache.sharing.dataset.fitted", count)
    assert [len(table) for table in tag_tables(contents) if len(table)] == n_read
