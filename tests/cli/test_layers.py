"""The layers of a store as Podman left it: all there, in order, with the truth about each."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from tests.golden import GOLDEN_SMALL, STORES, golden_cache, layer_ids
from tests.stores import copy_store, toc_path
from vecache.cli.main import main
from vecache.report.output import json_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A copy of a golden store, with one layer more that has neither TOC nor cache."""
    root = tmp_path / "store"
    shutil.copytree(GOLDEN_SMALL / "stores" / "dir", root, copy_function=shutil.copyfile)
    path = root / "overlay-layers" / "layers.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([*records, {"id": "f" * 64, "parent": records[0]["id"]}]))
    return root


def layers(store: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run the verb and give its rows."""
    assert main(["layers", "--store", str(store), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["store"] == str(store)
    rows: list[dict[str, Any]] = document["layers"]
    return rows


@pytest.mark.parametrize("name", STORES)
def test_every_layer_stands_in_store_order(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = layers(GOLDEN_SMALL / "stores" / name, capsys)
    assert [row["layer"] for row in rows] == layer_ids(name)
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert [row["cache"] for row in rows] == ["mapped"] * (len(rows) - 1) + ["built"]
    for row in rows:
        assert row["cache_bytes"] == len(golden_cache(name, row["layer"]))
        assert 0 <= row["false_positive_rate"] <= 1


def test_what_was_built_is_kept_for_the_next_time(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row["cache"] for row in layers(store, capsys)][-2:] == ["built", "none"]
    assert [row["cache"] for row in layers(store, capsys)][-2:] == ["cached", "none"]
    (store / "overlay-layers" / layer_ids("dir")[1]).joinpath(
        "=Y2h1bmtlZC1tYW5pZmVzdC1jYWNoZQ=="
    ).write_bytes(b"\x04" + bytes(100))
    row = layers(store, capsys)[1]
    assert row["cache"] == "built"
    assert "version" in row["reason"]


def test_a_layer_without_a_cache_says_why(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = layers(store, capsys)[-1]
    assert row["index"] is None
    assert row["n_tags"] is None
    assert "no TOC" in row["reason"]
    assert main(["layers", "--store", str(store)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "6 layers, 5 with a cache" in shown[0]
    assert shown[2].split()[:3] == ["LAYER", "CACHE", "TAGS"]
    assert [line[:12] for line in shown[3:8]] == [layer[:12] for layer in layer_ids("dir")]
    assert shown[-1].startswith("ffffffffffff  no TOC")


def test_jsonl_and_parquet_hold_the_same_rows(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers(store, capsys)  # keeps what is built, so that all three see the same
    rows = layers(store, capsys)
    assert main(["layers", "--store", str(store), "--jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert main(["layers", "--store", str(store), "-o", str(tmp_path / "a.parquet")]) == 0
    table = json_rows(parquet.read_table(tmp_path / "a.parquet"))
    assert table.to_pylist() == rows
    assert capsys.readouterr().out == ""


def test_an_empty_store_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "overlay-layers").mkdir()
    assert layers(tmp_path, capsys) == []
    assert main(["layers", "--store", str(tmp_path)]) == 0
    assert "0 layers" in capsys.readouterr().out


def test_caches_of_an_additional_store_are_shown_and_never_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own" / "overlay-layers").mkdir(parents=True)
    conf = tmp_path / "storage.conf"
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    extra = copy_store("dir", tmp_path)
    toc_path(extra, layer_ids("dir")[4]).write_bytes(b"{")  # nobody reads it
    conf.write_text(
        f"[storage]\ngraphroot = '{tmp_path / 'own'}'\n"
        f"[storage.options]\nadditionalimagestores = ['{extra}']\n"
    )
    assert main(["layers", "--json"]) == 0
    shown = capsys.readouterr()
    rows = json.loads(shown.out)["layers"]
    assert [row["cache"] for row in rows] == ["unused"] * 4 + ["none"]
    assert rows[0]["n_tags"] > 0
    assert all("a pull never uses its cache" in row["reason"] for row in rows)
    assert main(["layers"]) == 0
    text = capsys.readouterr().out
    assert text.endswith(
        "\n5 layers  in an additional store: a pull never uses its cache or its files\n"
    )
    # `overlap` reads the TOCs there, and says which one it cannot read; no pull would use it.
    assert main(["gather", f"oci:{GOLDEN_SMALL / 'oci'}:app2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["excluded"] == []
    assert main(["rm", "app2"]) == 3
    assert "in an additional store, which is only read" in capsys.readouterr().err
    assert main(["overlap", "--json"]) == 3
    (excluded,) = json.loads(capsys.readouterr().out)["excluded"]
    assert excluded["layer"] == layer_ids("dir")[4]


def test_no_store_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers"]) == 3
    assert capsys.readouterr().err.endswith("; --store names another\n")
    assert main(["layers", "--store", str(tmp_path / "no\x1bwhere")]) == 3
    assert r"no\x1bwhere" in capsys.readouterr().err
