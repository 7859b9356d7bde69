"""Protects `vecache fleet plan`: its figures are those of `plan --store FLEET#NODE`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
import pytest

from tests.golden import GOLDEN_SMALL
from tests.stores import cache_path, copy_store, edit_layers, toc_path
from vecache.cache.reader import CacheFile
from vecache.cli.main import main
from vecache.store.fleet import open_fleet

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = [f"oci:{GOLDEN_SMALL / 'oci'}:{name}" for name in ("base", "app1", "app2", "other")]
SUMS = ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests")
SAME = (*SUMS, "whole_layers", "whole_bytes", "missing_bounds", "fetch_bounds")


def drop_layers(root: Path, n_left: int) -> None:
    edit_layers(root, lambda records: records.__delitem__(slice(n_left, None)))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden stores with some of their layers; two nodes are equal to the first."""
    folder = tmp_path_factory.mktemp("fleet")
    for number, name in enumerate(("dir", "flat", "estargz", "dir")):
        root = copy_store(name, folder / str(number))
        drop_layers(root, 1 + number)
        add(folder / "fleet", root, f"node{number}")
    for copy in ("copy1", "copy2"):
        add(folder / "fleet", folder / "0" / "dir", copy)
    return folder / "fleet"


def add(fleet: Path, root: Path, name: str) -> None:
    assert main(["fleet", "add", str(fleet), "--store", str(root), "--name", name]) == 0


def plan_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "more", [(), ("--reflink", "no"), ("--reflink", "no", "--hard-links", "--parallel", "1")]
)
def test_each_cell_is_the_plan_of_the_node(
    more: tuple[str, ...], fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan_json(capsys, "fleet", "plan", *IMAGES, "--fleet", str(fleet), *more)
    assert found["schema"] == "vecache.fleet-plan/1"
    assert found["nodes"] == ["copy1", "copy2", "node0", "node1", "node2", "node3"]
    assert found["classes"] == [[0, 1, 2], [3], [4], [5]]
    assert found["images"] == IMAGES
    assert found["errors"] == found["excluded"] == []
    for node, name in enumerate(found["nodes"]):
        for number, image in enumerate(IMAGES):
            wanted = plan_json(capsys, "plan", image, "--store", f"{fleet}#{name}", *more)
            assert {key: found[key][node][number] for key in SAME} == {
                key: wanted[key] for key in SAME
            }
    for number in range(len(IMAGES)):
        wire = [found["fetch_bytes"][n][number] + found["toc_bytes"][n][number] for n in range(6)]
        assert found["sums"]["wire_bytes"][number] == sum(wire)
        assert found["cheapest"][number] == wire.index(min(wire))
    sums = found["sums"]["wire_bytes"]
    assert found["dearest"] == sums.index(max(sums))


def test_processes_give_the_same(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fleet", "plan", *IMAGES, "--fleet", str(fleet)]
    here = plan_json(capsys, *words)
    assert plan_json(capsys, *words, "--processes", "2") == here


def test_tables_and_pictures(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fleet", "plan", *IMAGES[:2], "--fleet", str(fleet)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "Pulls of 2 images, each by itself, on 6 nodes, 4 classes" in text
    assert "copy1 +2 " in text
    assert "Dearest image:" in text
    all_nodes = text[text.index("All nodes together") :]
    assert max(map(len, all_nodes.splitlines())) <= 80
    assert main([*words, "-o", str(tmp_path / "plan.parquet")]) == 0
    rows = pyarrow.parquet.read_table(tmp_path / "plan.parquet").to_pylist()
    found = plan_json(capsys, *words)
    assert [row["missing_bytes"] for row in rows] == [
        n_bytes for node in found["missing_bytes"] for n_bytes in node
    ]
    assert [row["fetch_most"] for row in rows] == [
        bounds[1] for node in found["fetch_bounds"] for bounds in node
    ]
    assert {row["reason"] for row in rows} == {None}
    for ending, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        assert main([*words, "-o", str(tmp_path / f"plan{ending}")]) == 0
        assert (tmp_path / f"plan{ending}").read_bytes().startswith(start)


def damaged_fleet(folder: Path, damage: Any) -> Path:
    """A fleet of two nodes; something is wrong with what one of them has."""
    for name in ("good", "bad"):
        root = copy_store("dir", folder / name)
        drop_layers(root, 2)
        if name == "bad":
            damage(root)
        add_quietly(folder / "fleet", root, name)
    return folder / "fleet"


def add_quietly(fleet: Path, root: Path, name: str) -> None:
    words = ["fleet", "add", str(fleet), "--store", str(root), "--name", name, "--incomplete-ok"]
    assert main(words) == 0


def first_layer(root: Path) -> str:
    records = json.loads((root / "overlay-layers" / "layers.json").read_text())
    return str(records[0]["id"])


def test_where_a_plan_of_the_node_fails_the_cell_is_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(root: Path) -> None:
        path = cache_path(root, first_layer(root))
        data = bytearray(path.read_bytes())
        header = open_header(bytes(data))
        for row in range(header.n_tags):  # all locations lie outside the file
            at = header.tags_offset + row * header.tag_len + header.digest_len
            data[at : at + 8] = b"\xff" * 8
        path.write_bytes(data)

    fleet = damaged_fleet(tmp_path, damage)
    image = IMAGES[3]
    found = plan_json(capsys, "fleet", "plan", image, "--fleet", str(fleet), code=3)
    assert found["nodes"] == ["bad", "good"]
    assert found["missing_bytes"][0] == [None]
    assert found["missing_bounds"][0] == [None]
    assert found["missing_bytes"][1] != [None]
    assert found["cheapest"] == [1]
    (error,) = found["errors"]
    assert (error["node"], error["image"]) == ("bad", image)
    assert main(["plan", image, "--store", f"{fleet}#bad"]) == 3
    assert error["error"] in capsys.readouterr().err
    assert main(["fleet", "plan", image, "--fleet", str(fleet)]) == 3
    out, err = capsys.readouterr()
    assert "Not planned:     1 of 2 pulls" in out
    assert f"vecache: error: bad: {image}: " in err


def open_header(data: bytes) -> Any:
    return CacheFile.parse(data).header


def test_layers_that_cannot_be_read_make_upper_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(root: Path) -> None:
        cache_path(root, first_layer(root)).unlink(missing_ok=True)
        toc_path(root, first_layer(root)).write_bytes(b"{")

    fleet = damaged_fleet(tmp_path, damage)
    words = ("fleet", "plan", IMAGES[2], "--fleet", str(fleet), "--reflink", "no")
    found = plan_json(capsys, *words, code=3)
    (excluded,) = found["excluded"]
    assert found["classes"][excluded["class"]] == [0]
    least, most = found["missing_bounds"][0][0]
    assert least < most == found["missing_bytes"][0][0]
    assert found == plan_json(capsys, *words, "--incomplete-ok")
    assert main([*words]) == 3
    assert "1 of 4 layers of nodes could not be read" in capsys.readouterr().err


def test_a_node_that_cannot_be_opened_is_a_row_of_nulls(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "fleet"
    shutil.copytree(fleet, copy)
    (copy / "nodes" / "node1.json.zst").write_bytes(b"broken")
    found = plan_json(capsys, "fleet", "plan", *IMAGES, "--fleet", str(copy), code=3)
    assert found["missing_bytes"][3] == [None] * 4
    assert found["options"][1] is None
    assert [(each["node"], each["image"]) for each in found["errors"]] == [("node1", None)]


def test_an_image_that_is_not_there(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = f"oci:{GOLDEN_SMALL / 'oci'}:nope"
    words = ("fleet", "plan", missing, IMAGES[0], "--fleet", str(fleet))
    assert main([*words]) == 1
    found = plan_json(capsys, *words, "--keep-going", code=3)
    assert found["images"] == IMAGES[:1]
    (error,) = found["errors"]
    assert (error["node"], error["image"]) == (None, missing)


def test_a_toc_that_cannot_be_read(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(GOLDEN_SMALL / "oci", tmp_path / "oci")
    for blob in (tmp_path / "oci" / "blobs" / "sha256").iterdir():
        if blob.stat().st_size > 20_000:
            blob.write_bytes(bytes(blob.stat().st_size))
    bad = f"oci:{tmp_path / 'oci'}:app2"
    words = ("fleet", "plan", bad, IMAGES[0], "--fleet", str(fleet))
    assert main([*words]) == 3
    found = plan_json(capsys, *words, "--keep-going", code=3)
    errors = {(each["node"], each["image"]) for each in found["errors"]}
    # A node that has its layers plans it, as `plan --store` does.
    nodes = {node for node, image in errors if image == bad}
    assert nodes
    for number, name in enumerate(found["nodes"]):
        is_planned = found["missing_bytes"][number][0] is not None
        assert is_planned == (None not in nodes and name not in nodes)
        code = main(["plan", bad, "--store", f"{fleet}#{name}"])
        assert (code == 0) == is_planned


def test_an_empty_fleet(tmp_path: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "fleet"
    shutil.copytree(fleet, copy)
    for path in (copy / "nodes").iterdir():
        path.unlink()
    assert open_fleet(copy).nodes() == ()
    found = plan_json(capsys, "fleet", "plan", IMAGES[0], "--fleet", str(copy))
    assert found["missing_bytes"] == []
    assert found["cheapest"] == [None]
    assert main(["fleet", "plan", IMAGES[0], "--fleet", str(copy)]) == 0
    assert "no nodes" in capsys.readouterr().out
    assert (
        main(["fleet", "plan", IMAGES[0], "--fleet", str(copy), "-o", str(tmp_path / "a.svg")]) == 0
    )
