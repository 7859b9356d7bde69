"""What `inspect` says must be true of golden files, and of broken ones."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.golden import golden_cache, golden_toc, small_layers
from vecache.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

STORE, LAYER = small_layers()[0]
TAR = tarfile.TarInfo("snapshot.json").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def inspect(path: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    """Run the verb and give its document."""
    assert main(["inspect", str(path), "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(
    ("data", "verb"), [(pa.compress(TAR, "zstd", asbytes=True), "layers"), (b"PAR1...", "overlap")]
)
def test_files_for_other_verbs_are_named(
    data: bytes, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert main(["inspect", str(tmp_path / "file")]) == 3
    assert f"`vecache {verb} --store FILE` takes that of" in capsys.readouterr().err


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_cache_and_toc_tell_of_the_same_files(
    store: str, layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(golden_cache(store, layer))
    cache = inspect(path, capsys)
    path.write_bytes(golden_toc(store, layer))
    toc = inspect(path, capsys)
    document = json.loads(golden_toc(store, layer))
    files = {e["name"]: e.get("size", 0) for e in document["entries"] if e["type"] == "reg"}
    contents = {
        e.get("digest"): e.get("size", 0) for e in document["entries"] if e["type"] == "reg"
    }
    kept = contents if store == "flat" else files
    assert (toc["n_files"], toc["file_bytes"]) == (len(files), sum(files.values()))
    assert (cache["n_files"], cache["file_bytes"]) == (len(kept), sum(kept.values()))
    assert toc["n_entries"] == len(document["entries"]) == sum(toc["entries"].values())
    layout = "flat" if store == "flat" else "dir"
    assert toc["cache_bytes_by_layout"][layout] == cache["cache_bytes"]
    assert cache["problems"] == toc["problems"] == []


def test_a_bad_cache_file_is_shown_and_is_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cache"
    path.write_bytes(golden_cache(STORE, LAYER)[:-100])
    document = inspect(path, capsys, code=3)
    assert document["n_tags"] > 0
    assert {"sizes", "vdata"} <= {problem["section"] for problem in document["problems"]}
    assert main(["inspect", str(path)]) == 3
    shown = capsys.readouterr().out
    assert f"{len(document['problems'])} problems:" in shown
    assert document["problems"][0]["reason"] in shown


def test_a_toc_without_a_cache_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "toc.json"
    path.write_bytes(
        b'{"entries":[{"type":"reg","name":"a","size":1,"digest":"sha512:' + b"0" * 128 + b'"}]}'
    )
    document = inspect(path, capsys, code=3)
    assert document["cache_bytes_by_layout"]["flat"] is None
    assert [problem["reason"].split(":")[0] for problem in document["problems"]] == [
        "no cache file in the dir layout",
        "no cache file in the flat layout",
    ]


def test_what_is_neither_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd\x1b"
    path.write_bytes(b"neither of the two")
    assert main(["inspect", str(path)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert r"odd\x1b: " in shown.err
    assert "not a cache file: it begins with 'neither '" in shown.err
    assert main(["inspect", str(tmp_path / "missing")]) == 3
    assert "missing: No such file" in capsys.readouterr().err


def test_a_pipe_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = golden_cache(STORE, LAYER)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert main(["inspect", "-"]) == 0
    shown = capsys.readouterr().out
    assert "cache file, version 3" in shown
    assert shown.endswith("No problems.\n")


def test_a_pipe_without_end_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/zero", encoding="utf-8") as zeros:
        monkeypatch.setattr("sys.stdin", zeros)
        assert main(["inspect", "-"]) == 2
    assert "name the file" in capsys.readouterr().err


def test_a_toc_can_become_one_row(tmp_path: Path) -> None:
    toc, out = tmp_path / "toc.json", tmp_path / "out.parquet"
    toc.write_bytes(golden_toc(STORE, LAYER))
    assert main(["inspect", str(toc), "-o", str(out)]) == 0
    (row,) = parquet.read_table(out).to_pylist()
    assert row["kind"] == "toc"
    assert row["entries"]["reg"] == row["n_files"]
