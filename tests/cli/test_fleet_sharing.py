"""`fleet overlap` and `fleet rm` give the same figures as text, JSON, tables and pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.stores import copy_store, toc_path
from vecache.cli.main import main
from vecache.fleet.overlap import overlap_fleet
from vecache.store.fleet import open_fleet
from vecache.store.open import open_store
from vecache.store.write_fleet import add_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.contents import Grain


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    return capsys.readouterr().out


def run_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    return json.loads(run(capsys, *words, "--json", code=code))


@pytest.fixture(scope="module")
def golden_fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three stores on four nodes."""
    fleet = tmp_path_factory.mktemp("fleets") / "fleet"
    for node, name in (("a", "dir"), ("b", "estargz"), ("c", "dir"), ("d", "converted")):
        add_store(fleet, open_store(GOLDEN_SMALL / "stores" / name), node)
    return str(fleet)


def damaged_fleet(folder: Path) -> str:
    """Two nodes with a layer that cannot be read, and one that cannot be opened."""
    root = copy_store("dir", folder)
    toc_path(root, layer_ids("dir")[1]).write_text("{")
    for node in ("a", "b", "c"):
        add_store(folder / "fleet", open_store(root), node)
    (folder / "fleet" / "nodes" / "b.json.zst").write_bytes(b"?")
    return str(folder / "fleet")


@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_overlap_documents_hold_the_matrices(
    golden_fleet: str, grain: Grain, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(capsys, "fleet", "overlap", "--fleet", golden_fleet, "--grain", grain)
    found = overlap_fleet(open_fleet(golden_fleet), grain)
    assert document["schema"] == "vecache.fleet-overlap/1"
    assert document["nodes"] == ["a", "b", "c", "d"]
    assert document["classes"] == [[0, 2], [1], [3]]
    for metric in ("files", "chunks", "bytes"):
        assert document[metric] == getattr(found, metric).tolist()
    assert document["dedup"][grain]["ratio"] > 2
    assert document["excluded"] == document["unread_nodes"] == []
    assert document["repeated_files"][0]["n_nodes"] == 4


def test_overlap_prints_a_matrix_of_classes(
    golden_fleet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, "fleet", "overlap", "--fleet", golden_fleet, "--grain", "chunk")
    assert "4 nodes with 20 layers, 15 of them distinct; 19.8 MB in files." in text
    assert "With each layer once it would be 14.9 MB (25.0 % less), without repeated" in text
    assert "Nodes with the same layers are one row, NAME +N: 3 rows." in text
    assert "Bytes of chunks in common; EXCLUSIVE is what no other row has:" in text
    assert "#1  a +1  1.99 MB" in text
    assert "1.80 MB  601 kB       4      4  usr/lib/big.bin" in text
    text = run(capsys, "fleet", "overlap", "--fleet", golden_fleet, "--metric", "files")
    assert "Number of files in common" in text


def test_overlap_writes_every_pair_and_a_heat_map(
    golden_fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fleet", "overlap", "--fleet", golden_fleet, "-o"]
    run(capsys, *words, str(tmp_path / "pairs.parquet"))
    expected = overlap_fleet(golden_fleet).to_arrow().to_pylist()
    assert parquet.read_table(tmp_path / "pairs.parquet").to_pylist() == expected
    for metric in ("jaccard", "containment"):
        run(capsys, *words, str(tmp_path / "map.svg"), "--metric", metric)
    assert "What is shared among 4 nodes" in (tmp_path / "map.svg").read_text()
    assert main([*words, str(tmp_path / "map.svg"), "--metric", "files"]) == 2
    assert main([*words, str(tmp_path / "pairs.csv"), "--metric", "files"]) == 2


def test_overlap_names_what_could_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fleet", "overlap", "--fleet", damaged_fleet(tmp_path)]
    assert main(words) == 3
    shown = capsys.readouterr()
    layer = layer_ids("dir")[1][:12]
    assert "1 of 3 nodes and 2 of 10 layers of nodes could not be read: exclusive" in shown.err
    assert "warning: node b: " in shown.err
    assert f"warning: layer {layer} of a, c: " in shown.err
    assert f"{layer}  not counted, on a, c: " in shown.out
    document = run_json(capsys, *words, "--incomplete-ok")
    assert [each["nodes"] for each in document["excluded"]] == [["a", "c"]]
    assert [each["node"] for each in document["unread_nodes"]] == ["b"]


def test_a_folder_that_is_no_fleet_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "overlap", "--fleet", str(tmp_path)]) == 3
    assert "not a fleet" in capsys.readouterr().err
    assert main(["fleet", "overlap"]) == 2


def test_rm_prints_what_each_node_frees(
    golden_fleet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, "fleet", "rm", "app2", "--fleet", golden_fleet)
    assert "4 layers and 4 images would go, from 4 of 4 nodes." in text
    assert "3.54 MB, what no remaining layer of the same node has" in text
    assert "886 kB, the files that no node has any more" in text
    assert "a +1       1       1      983 kB     983 kB  886 kB of files" in text
    assert "on a +1: image localhost:5001/small/dirs:latest needs it" in text
    text = run(capsys, "fleet", "rm", layer_ids("dir")[4], "--fleet", golden_fleet)
    assert "from 3 of 4 nodes." in text  # the estargz store has other layers


@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_rm_documents_hold_what_rm_of_each_node_says(
    golden_fleet: str, grain: Grain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rm", "app2", "app1", "--fleet", golden_fleet, "--grain", grain]
    document = run_json(capsys, "fleet", *words)
    assert document["schema"] == "vecache.fleet-rm/1"
    reflink = "yes" if grain == "chunk" else "no"
    for each in document["classes"]:
        store = f"{golden_fleet}#{each['nodes'][0]}"
        alone = run_json(capsys, "rm", "app2", "app1", "--store", store, "--reflink", reflink)
        for name in ("stored_bytes", "freed_bytes", "unknown_bytes", "kept_layers"):
            assert each[name] == alone[name]
        assert each["layers"] == [layer["layer"] for layer in alone["layers"]]
    freed = sum(len(each["nodes"]) * each["freed_bytes"] for each in document["classes"])
    assert document["freed_bytes"] == freed
    run(capsys, "fleet", *words, "-o", str(tmp_path / "nodes.parquet"))
    rows = parquet.read_table(tmp_path / "nodes.parquet").to_pylist()
    assert sum(row["freed_bytes"] for row in rows) == freed
    assert [row["node"] for row in rows] == [n for e in document["classes"] for n in e["nodes"]]


def test_rm_of_what_no_node_has_is_not_found(
    golden_fleet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "rm", "app7", "--fleet", golden_fleet]) == 1
    assert "on no node: image 'app7': not in the store; similar" in capsys.readouterr().err


def test_rm_names_what_could_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fleet", "rm", "app1", "--fleet", damaged_fleet(tmp_path)]
    assert main(words) == 3
    shown = capsys.readouterr()
    assert "what is freed is an upper bound" in shown.err
    assert "layers of unknown content" in shown.out
    run(capsys, *words, "--incomplete-ok")
