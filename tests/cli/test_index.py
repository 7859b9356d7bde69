"""The index of a store on disk: written when asked for, and what happens to it is told."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.golden import GOLDEN_SMALL, golden_cache, layer_ids
from tests.oracle import read_cache
from tests.stores import copy_store, edit_layers
from vecache.cli.main import main
from vecache.index import disk_folder
from vecache.index.layers_cache import LayersCache
from vecache.index.load import BuildCache


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return copy_store("dir", tmp_path / "store")


def index(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """Run the verb and give its document."""
    assert main(["index", "--store", str(store), "--json", *options]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    document: dict[str, Any] = json.loads(shown.out)
    assert document["schema"] == "vecache.index/1"
    return document


def files() -> list[Path]:
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "vecache" / "index"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_the_index_is_written_once_and_says_what_is_there(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = index(store, capsys)
    n_tags = [len(read_cache(golden_cache("dir", layer)).tags) for layer in layer_ids("dir")]
    (run,) = document["runs"]
    assert (run["n_layers"], run["n_tags"]) == (len(list(filter(None, n_tags))), sum(n_tags))
    assert (run["masked_layers"], run["masked_tags"]) == (0, 0)
    assert document["n_bytes"] == run["n_bytes"] == Path(run["path"]).stat().st_size
    assert files() == [Path(run["path"])]
    assert index(store, capsys) == document


def test_a_layer_that_is_gone_is_masked(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = index(store, capsys)
    edit_layers(store, lambda records: records.pop())
    after = index(store, capsys)
    assert after["masked_layers"] == 1
    assert after["masked_tags"] > 0
    assert after["runs"][0]["path"] == before["runs"][0]["path"]
    rebuilt = index(store, capsys, "--rebuild")
    assert (rebuilt["masked_layers"], rebuilt["n_layers"]) == (0, before["n_layers"] - 1)
    assert len(files()) == 1
    assert str(files()[0]) != before["runs"][0]["path"]


def test_the_index_can_be_removed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index(store, capsys)
    assert index(store, capsys, "--remove")["removed"] == 1
    assert not files()
    assert index(store, capsys, "--remove")["removed"] == 0


def test_look_ups_use_the_index_and_answer_the_same(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [
        digest[:7].decode() + digest[7:].hex()
        for layer in layer_ids("dir")
        for digest in read_cache(golden_cache("dir", layer)).digests()[:20]
    ]
    lookup = ["lookup", "--store", str(store), "--jsonl", *digests, "sha256:" + "0" * 64]
    assert main(lookup) == 1
    wanted = capsys.readouterr().out
    index(store, capsys)
    monkeypatch.setattr(disk_folder, "build_run", None)  # nothing is sorted in memory
    assert main(lookup) == 1
    assert capsys.readouterr().out == wanted


def test_people_read_a_table(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert " 4 layers in the index" in shown
    assert files()[0].name[-16:] in shown
    assert main(["index", "--store", str(store), "--remove"]) == 0
    assert capsys.readouterr().out.endswith("no index, 1 file removed\n")


def test_tables_have_a_row_a_file(store: Path, tmp_path: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    path = tmp_path / "index.parquet"
    assert main(["index", "--store", str(store), "-o", str(path)]) == 0
    assert parquet.read_table(path).num_rows == 1


def test_the_indexes_of_other_stores_give_way(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_store("flat", tmp_path / "other")
    index(other, capsys)
    (old,) = files()
    os.utime(old, (1, 1))
    document = index(store, capsys, "--cache-size", "100kB")
    assert files() == [Path(document["runs"][0]["path"])]
    assert main(["index", "--store", str(store), "--cache-size", "5kB"]) == 3
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "more than the 5,000 allowed" in message
    assert not files()


@pytest.mark.parametrize("what", ["folder", "disk"])
def test_an_index_that_cannot_be_written_is_one_line_and_stops_no_other_verb(
    store: Path, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", 1)
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "vecache" / "index"
    if what == "folder":
        folder.parent.mkdir(parents=True)
        folder.write_bytes(b"not a folder")
    else:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

        monkeypatch.setattr(disk_folder, "write_run", full)
    assert main(["index", "--store", str(store)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert str(folder) in shown.err
    (digest, *_) = read_cache(golden_cache("dir", layer_ids("dir")[0])).digests()
    text = digest[:7].decode() + digest[7:].hex()
    assert main(["lookup", "--store", str(store), text]) == 0
    assert capsys.readouterr().err == ""


def test_a_store_without_tags_has_no_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty" / "overlay-layers").mkdir(parents=True)
    assert main(["index", "--store", str(tmp_path / "empty")]) == 0
    assert capsys.readouterr().out.endswith("no index, no layer has tags\n")


@pytest.fixture
def large_store(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", 1)
    return GOLDEN_SMALL / "stores" / "dir"


def test_python_keeps_the_index_of_a_large_store_as_the_command_line_does(
    large_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LayersCache.load(large_store)
    assert cache.index.runs[0].guard is not None
    (written,) = files()
    assert LayersCache.load(large_store).index.runs[0].guard is not None
    assert files() == [written]
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", cache.n_tags + 1)
    small = copy_store("dir", tmp_path)
    assert LayersCache.load(small).index.runs[0].guard is None
    assert files() == [written]


def test_python_keeps_an_index_in_the_folder_that_it_is_given(
    large_store: Path, tmp_path: Path
) -> None:
    cache = LayersCache.load(large_store, build_cache=tmp_path / "mine")
    assert cache.index.runs[0].guard is not None
    assert len(list((tmp_path / "mine" / "index").iterdir())) == 1
    assert cache.refresh() is cache


def test_a_part_of_the_layers_neither_writes_nor_spoils_the_index(
    large_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = BuildCache.of_user(os.environ).folder
    present = layer_ids("dir")[:1]
    part = LayersCache.load(large_store, present=present, build_cache=folder)
    assert part.index.runs[0].guard is None
    assert not files()
    before = index(large_store, capsys)
    part = LayersCache.load(large_store, present=present, build_cache=folder)
    assert part.index.runs[0].guard is not None
    assert index(large_store, capsys) == before


def test_sets_of_the_same_layers_share_the_folder(large_store: Path, tmp_path: Path) -> None:
    cache = LayersCache.load(large_store, build_cache=tmp_path)
    same = cache.with_blob_info(cache.blob_info)
    assert same.index.runs[0].guard is not None
    assert cache.index.runs[0].guard is not None
