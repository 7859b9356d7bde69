"""An export holds every tag, and replaces a data set in one step or not at all."""

from __future__ import annotations

import io
import os
import resource
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, ipc, parquet

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.image.samples import TOC
from tests.sharing.build import contents_of
from tests.stores import copy_store, toc_path
from vecache.errors import DatasetError, TocError
from vecache.sharing import export
from vecache.sharing.dataset import open_dataset, part_path
from vecache.sharing.export import _has_version, _write_part, export_dataset, tag_tables, write_tags
from vecache.sharing.occurrences import TAG_SCHEMA, TAG_TYPES
from vecache.sharing.sources import read_contents

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.contents import Contents


def test_parts_are_sorted_and_dictionary_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_dataset(GOLDEN_SMALL / "stores" / "flat", tmp_path / "small")
    monkeypatch.setattr(export, "SMALL_TAGS", 0)
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
    (part,) = (tmp_path / "small" / "tags").rglob("*.parquet")  # up to a million tags
    small = parquet.ParquetFile(part).read()
    assert small.schema.equals(TAG_SCHEMA)
    assert small["digest"].to_pylist() == sorted(small["digest"].to_pylist())
    assert len(small) == n_rows
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "images.parquet",
        "layers.parquet",
        "tags",
    ]


def test_a_part_is_sorted_by_the_keys_of_its_own_rows(tmp_path: Path) -> None:
    """A slice of the only layer once was sorted by the keys of the layer's first rows."""
    table = next(tag_tables(read_contents(GOLDEN_SMALL / "stores" / "dir")))
    table = table.cast(TAG_TYPES).take(pa.array([*range(len(table))][::-1]))
    n_rows = len(table)
    assert n_rows > 100
    _write_part([table], np.array([[2, n_rows]]), tmp_path / "folder" / "part.parquet")
    digests = parquet.ParquetFile(tmp_path / "folder" / "part.parquet").read()["digest"]
    assert digests.to_pylist() == sorted(table["digest"].to_pylist()[2:])


def test_one_file_has_the_same_tags_in_every_format() -> None:
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


def test_csv_has_no_path_that_a_spreadsheet_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = read_contents(GOLDEN_SMALL / "stores" / "estargz")
    table = next(tag_tables(contents)).slice(0, 2)
    paths = pa.array(["=1+1", "a"]).dictionary_encode().cast(table["path"].type)
    table = table.set_column(table.schema.get_field_index("path"), table.field("path"), paths)
    monkeypatch.setattr("vecache.sharing.export.tag_tables", lambda _: iter([table]))
    file = io.BytesIO()
    write_tags(contents, file, ".csv")
    file.seek(0)
    assert csv.read_csv(file)["path"].to_pylist() == ["'=1+1", "a"]


def test_only_a_data_set_or_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "set"
    target.mkdir()
    export_dataset(contents_of([]), target)
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    assert len(open_dataset(target).layers) == 5
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("keep")
    with pytest.raises(DatasetError, match="is not a data set"):
        export_dataset(contents_of([]), other)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("beside", ["thesis.txt", "tags.bak"])
def test_other_files_in_the_folder_are_never_deleted(tmp_path: Path, beside: str) -> None:
    """Such as the user's own folder, after `vecache export -o .` in it."""
    export_dataset(contents_of([]), tmp_path / "set")
    (tmp_path / "set" / beside).write_text("keep")
    with pytest.raises(DatasetError, match="holds more than a data set"):
        export_dataset(contents_of([]), tmp_path / "set")
    assert (tmp_path / "set" / beside).read_text() == "keep"


@pytest.mark.parametrize("form", ["table", "garbage"])
def test_a_folder_with_another_layers_parquet_is_never_replaced(tmp_path: Path, form: str) -> None:
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
def test_an_interrupted_rename_leaves_the_old_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = tmp_path / "set"
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    rename = type(target).rename

    def fail(path: Path, to: Path) -> Path:
        if path.name.startswith(".tmp-vecache-"):
            raise error
        return rename(path, to)

    monkeypatch.setattr(export, "_exchange", lambda target, draft: False)
    monkeypatch.setattr(type(target), "rename", fail)
    with pytest.raises((KeyboardInterrupt, OSError)) as caught:
        export_dataset(contents_of([]), target)
    assert getattr(caught.value, "filename", str(target)) == str(target)
    assert len(open_dataset(target).layers) == 5
    assert not list(tmp_path.glob(".*"))


def test_a_data_set_has_its_name_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed between two renames once left nothing under the name."""
    target = tmp_path / "set"
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)

    def refuse(path: Path, to: Path) -> Path:
        raise AssertionError(f"{path} is renamed to {to}")

    monkeypatch.setattr(type(target), "rename", refuse)
    export_dataset(contents_of([]), target)
    assert len(open_dataset(target).layers) == 0
    assert not list(tmp_path.glob(".*"))


def test_what_a_kill_between_two_renames_left_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system exchanges no names, such as NFS."""
    monkeypatch.setattr(export, "_exchange", lambda target, draft: False)
    target, aside = tmp_path / "set", tmp_path / ".set.vecache-old"
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    target.rename(aside)
    export_dataset(contents_of([]), tmp_path / "another")
    assert aside.exists(), "it is not of this one"
    with pytest.raises(TocError):
        export_dataset(_broken(tmp_path), target)
    assert len(open_dataset(target).layers) == 5
    target.rename(aside)
    export_dataset(contents_of([]), target)
    assert len(open_dataset(target).layers) == 0
    assert not list(tmp_path.glob(".*"))


def test_the_new_name_is_on_the_disk_before_the_old_data_set_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may lose a rename, and not what was removed after it."""
    seen: list[bool] = []
    monkeypatch.setattr(export, "_exchange", lambda target, draft: False)
    monkeypatch.setattr(
        export, "sync_folder", lambda folder: seen.append((folder / ".set.vecache-old").exists())
    )
    export_dataset(contents_of([]), tmp_path / "set")
    assert not seen.pop(0)
    export_dataset(contents_of([]), tmp_path / "set")
    assert True in seen


def _broken(folder: Path) -> Contents:
    """Contents whose tags cannot be read."""
    root = copy_store("dir", folder)
    contents = read_contents(root)
    toc_path(root, layer_ids("dir")[2]).unlink()
    return contents


def test_a_failed_export_leaves_the_old_data_set(tmp_path: Path) -> None:
    target = tmp_path / "set"
    export_dataset(GOLDEN_SMALL / "stores" / "dir", target)
    with pytest.raises(TocError, match="there is no such file"):
        export_dataset(_broken(tmp_path), target)
    assert len(open_dataset(target).layers) == 5
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["dir", "set"]


def test_only_a_data_set_has_a_version(tmp_path: Path) -> None:
    export_dataset(contents_of([]), tmp_path / "set")
    assert _has_version(tmp_path / "set" / "layers.parquet")
    parquet.write_table(pa.table({"layer": ["a"]}), tmp_path / "layers.parquet")
    assert not _has_version(tmp_path / "layers.parquet")
    assert not _has_version(tmp_path / "none.parquet")
    with (tmp_path / "layers.parquet").open("wb") as file:  # one file is no part of a folder
        write_tags(contents_of([]), file, ".parquet")
    assert not _has_version(tmp_path / "layers.parquet")
    os.mkfifo(tmp_path / "pipe.parquet")
    assert not _has_version(tmp_path / "pipe.parquet")


def test_more_layers_than_files_may_be_open_are_exported(tmp_path: Path) -> None:
    contents = contents_of([TOC] * 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 100, hard))
    try:
        export_dataset(contents, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(open_dataset(tmp_path / "set").layers) == 200


def test_the_path_of_a_store_need_not_be_utf8(tmp_path: Path) -> None:
    """Arrow's text is UTF-8, so it once ended in UnicodeEncodeError."""
    root = tmp_path / os.fsdecode(b"graph\xff")
    copy_store("dir", tmp_path).rename(root)
    export_dataset(root, tmp_path / "set")
    (store_root,) = {layer.record.store_root for layer in open_dataset(tmp_path / "set").layers}
    assert store_root == tmp_path / "graph\\udcff"
