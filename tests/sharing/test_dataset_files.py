"""Data sets come from anywhere: whatever is in their columns, the worst that comes is an error."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.image.samples import TOC
from tests.sharing.build import contents_of
from vecache.errors import DatasetError
from vecache.sharing.dataset import has_version, open_dataset
from vecache.sharing.exclusive import repeated_files
from vecache.sharing.export import export_dataset, tag_tables
from vecache.sharing.matrix import overlap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    """Two layers and an image, in as few parts as there can be."""
    export_dataset(contents_of([TOC, TOC], parents=[None, 0], tops=[1]), tmp_path / "set")
    return tmp_path / "set"


def use(folder: Path) -> None:
    contents = open_dataset(folder)
    assert repeated_files(contents)._repr_html_().isprintable()
    assert overlap(contents, "image").to_arrow().num_rows == len(contents.images)
    export_dataset(contents, folder.parent / "again")


@pytest.mark.parametrize("name", ["layers", "images", "tags"])
@pytest.mark.parametrize("what", COLUMNS)
def test_a_column_of_something_else_is_converted_or_refused(
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


def test_a_part_as_another_engine_writes_it_is_read(dataset: Path) -> None:
    """Texts instead of dictionaries, large ones, smaller numbers, another order of columns."""
    for part in dataset.glob("tags/*/*"):
        table = parquet.ParquetFile(part).read()
        types = {"path": pa.large_string(), "layer": pa.string(), "size": pa.int32()}
        fields = [pa.field(each.name, types.get(each.name, each.type)) for each in table.schema]
        changed = table.cast(pa.schema(fields))
        parquet.write_table(changed.select(changed.column_names[::-1]), part, store_schema=False)
    use(dataset)
    assert repeated_files(open_dataset(dataset)).path == ("etc/hosts",)


def test_only_a_file_of_a_data_set_has_a_version(dataset: Path, tmp_path: Path) -> None:
    assert has_version(dataset / "layers.parquet")
    parquet.write_table(pa.table({"layer": ["a"]}), tmp_path / "layers.parquet")
    assert not has_version(tmp_path / "layers.parquet")
    assert not has_version(tmp_path / "none.parquet")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(dataset: Path) -> None:
    (dataset / "images.parquet").unlink()
    os.mkfifo(dataset / "images.parquet")
    with pytest.raises(DatasetError, match="Not a regular file"):
        open_dataset(dataset)


def test_more_layers_than_files_may_be_open_are_exported(tmp_path: Path) -> None:
    contents = contents_of([TOC] * 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 100, hard))
    try:
        export_dataset(contents, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(open_dataset(tmp_path / "set").layers) == 200


@pytest.mark.parametrize("most", [1, 4, 5, 1000])
def test_layers_come_out_again_however_many_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    contents = contents_of([TOC] * 7)
    export_dataset(contents, tmp_path / "set")
    monkeypatch.setattr("vecache.sharing.dataset._TAGS_PER_BLOCK", most)
    again = list(tag_tables(open_dataset(tmp_path / "set")))
    assert [table.to_pylist() for table in again] == [
        table.to_pylist() for table in tag_tables(contents)
    ]
