"""Protects `vecache plan`: recorded figures, every form of output, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
import pytest

from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, layer_ids, needs_debian, pulls
from tests.image import samples
from tests.layouts import SparseLayer, debian_layers_by_image, write_layout
from tests.stores import debian_store
from vecache.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

STORE = str(GOLDEN_SMALL / "stores" / "dir")
APP1 = f"oci:{GOLDEN_SMALL / 'oci'}:app1"
BASE_ID = "dd95d764c505"


def plan(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["plan", *words]) == code
    return capsys.readouterr().out


def plan_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(plan(capsys, *words, "--json"))


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of the real Debian layers, and a layout of sparse blobs."""
    folder = tmp_path_factory.mktemp("debian")
    images = {image: [layer] for image, layer in debian_layers_by_image().items()}
    write_layout(folder / "oci", images)
    return debian_store(folder).parent


@pytest.mark.parametrize("pull", pulls(GOLDEN_SMALL), ids=lambda p: f"{p['config']}-{p['image']}")
def test_the_verb_equals_recorded_pulls(
    pull: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = "oci-estargz" if pull["toc"] == "estargz" else "oci"
    store = GOLDEN_SMALL / "stores" / pull["store"]
    check_pull(pull, f"oci:{GOLDEN_SMALL / folder}:{pull['image']}", store, capsys)


@needs_debian
@pytest.mark.parametrize("pull", pulls(GOLDEN_DEBIAN), ids=lambda p: f"{p['config']}-{p['image']}")
def test_the_verb_equals_recorded_debian_pulls(
    pull: dict[str, Any], debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_pull(pull, f"oci:{debian / 'oci'}:{pull['image']}", debian / "debian", capsys)


def check_pull(
    pull: dict[str, Any], image: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = plan_json(
        capsys,
        image,
        "--store",
        str(store),
        "--reflink",
        "yes" if pull["reflink"] else "no",
        "--hard-links" if pull["use_hard_links"] else "--no-hard-links",
        "--layout",
        pull["format"],
        "--present",
        *pull["layers_before"],
    )
    (layer,) = [layer for layer in document["layers"] if layer["blob"] == pull["blob"]]
    assert layer["state"] == "partial"
    assert layer["toc"] == pull["toc"]
    assert (layer["missing_bytes"], layer["total_bytes"]) == (pull["missing"], pull["total"])
    assert [f"{first}-{last}" for first, last in layer["ranges"]] == pull["ranges"]
    assert document["missing_bytes"] == pull["missing"]  # all other layers are present


def test_the_document_has_the_promised_shape(capsys: pytest.CaptureFixture[str]) -> None:
    document = plan_json(capsys, APP1, "--store", STORE, "--present", BASE_ID, "--reflink", "no")
    assert document["schema"] == "vecache.plan/1"
    assert document["options"] == {
        "reflink": False,
        "hard_links": False,
        "layout": "dir",
        "parallel": 6,
    }
    present, partial = document["layers"]
    assert present["state"] == "present"
    assert present["ranges"] == []
    assert list(partial) == [
        "blob",
        "diff_id",
        "created_by",
        "toc",
        "state",
        "total_bytes",
        "missing_bytes",
        "fetch_bytes",
        "slack_bytes",
        "toc_bytes",
        "ranges",
        "requests",
        "files",
        "chunks",
        "warnings",
    ]
    gap = document["best"]["gap"]
    assert sorted(gap) == [
        *("first_match", "flat_layout", "hard_links", "no_reflink", "parallel", "repeated")
    ]
    assert document["missing_bytes"] - document["best"]["missing_bytes"] == sum(gap.values())


def test_several_images_are_planned_in_order_and_summed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [APP1, f"oci:{GOLDEN_SMALL / 'oci'}:base", "--store", STORE, "--present"]
    document = plan_json(capsys, *words)
    assert [image["image"] for image in document["images"]] == words[:2]
    assert [layer["state"] for layer in document["images"][1]["layers"]] == ["present"]
    for figure in ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests"):
        assert document[figure] == sum(image[figure] for image in document["images"])
    assert "Pulls of 2 images" in plan(capsys, *words)


def test_present_takes_digests_and_may_come_twice(capsys: pytest.CaptureFixture[str]) -> None:
    records = (GOLDEN_SMALL / "stores" / "dir" / "overlay-layers" / "layers.json").read_text()
    digest = json.loads(records)[0]["diff-digest"]
    words = ["--store", STORE, "--present", digest, "--present", layer_ids("dir")[1]]
    document = plan_json(capsys, APP1, *words)
    assert [layer["state"] for layer in document["layers"]] == ["present", "present"]


def test_images_after_present_are_images(capsys: pytest.CaptureFixture[str]) -> None:
    document = plan_json(capsys, "--store", STORE, "--present", BASE_ID, APP1)
    assert document["image"] == APP1
    assert [layer["state"] for layer in document["layers"]] == ["present", "partial"]


def test_the_text_has_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(capsys, APP1, "--store", STORE, "--present", BASE_ID, "--reflink", "no")
    assert "7fa05f8c43dc  partial" in text
    assert "Here already: 31.3 kB of 1.19 MB (2.6 %)" in text
    assert "a file system with reflinks (xfs, btrfs): 817 kB" in text
    assert "nothing is pulled" in plan(capsys, APP1, "--store", STORE)


def test_one_range_and_whole_blobs(capsys: pytest.CaptureFixture[str]) -> None:
    words = [APP1, "--store", STORE, "--present", BASE_ID, "--reflink", "yes"]
    many = plan_json(capsys, *words)["layers"][1]
    one = plan_json(capsys, *words, "--ranges", "one")["layers"][1]
    whole = plan_json(capsys, *words, "--ranges", "whole")["layers"][1]
    assert len(many["ranges"]) == 3
    assert one["ranges"] == [[many["ranges"][0][0], many["ranges"][-1][1]]]
    assert one["fetch_bytes"] > many["fetch_bytes"]
    assert one["missing_bytes"] == many["missing_bytes"]
    assert (whole["state"], whole["ranges"]) == ("partial", many["ranges"])
    assert whole["missing_bytes"] == many["missing_bytes"]
    assert whole["fetch_bytes"] == many["ranges"][-1][1] + 1  # the blob from its start
    assert whole["toc_bytes"] == 644_204  # to the end of the tar-split
    gap = plan_json(capsys, *words, "--gap", "200000")["layers"][1]
    assert gap["ranges"] == one["ranges"]


def test_a_registry_that_refuses_many_ranges_is_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [APP1, "--store", STORE, "--present", BASE_ID, "--reflink", "yes"]
    taken = plan_json(capsys, *words)["layers"][1]
    refused = plan_json(capsys, *words, "--accepts", "1")["layers"][1]
    assert (len(taken["ranges"]), taken["requests"]) == (3, 2)
    assert (len(refused["ranges"]), refused["requests"]) == (1, 3)


def test_a_curve_ends_at_what_must_be_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    words = [APP1, "--store", STORE, "--present", BASE_ID, "--reflink", "yes", "--curve"]
    points = plan_json(capsys, *words, "--bandwidth", "80", "--rtt", "100")["by_ranges"]
    assert points[0]["n_ranges"] == 1
    assert points[-1]["slack_bytes"] == 0
    assert points[0]["seconds"] >= 0.2
    assert "RANGES ALLOWED" in plan(capsys, *words)


def test_best_order_finds_the_better_one(capsys: pytest.CaptureFixture[str]) -> None:
    images = [f"oci:{GOLDEN_SMALL / 'oci'}:{name}" for name in ("app2", "app1", "other")]
    words = [*images, "--store", STORE, "--present", "--reflink", "yes"]
    given = plan_json(capsys, *words)["fetch_bytes"]
    assert plan_json(capsys, *words, "--best-order")["fetch_bytes"] <= given
    assert "All orders were tried" in plan(capsys, *words, "--best-order")


def test_tables_go_to_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    words = [APP1, "--store", STORE, "--present", BASE_ID, "--reflink", "yes"]
    assert plan(capsys, *words, "-o", str(path)) == ""
    table = pyarrow.parquet.read_table(path)
    fetched = table.filter(pyarrow.compute.field("action") == "fetched")
    assert {"image", "layer", "path", "kind", "digest", "size"} <= set(table.column_names)
    assert fetched.num_rows > 0


def test_a_path_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    words = [APP1, "--store", STORE, "--present", BASE_ID, "--explain"]
    assert "a file of 600,560 bytes" in plan(capsys, *words, "usr/lib/big.bin")
    assert plan(capsys, *words, "no/such", code=1) == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "name an IMAGE"),
        (["--present"], 2, "name an IMAGE"),
        ([APP1, "--accepts", "0"], 2, "wanted"),
        (["oci:x", "--present", "zz"], 1, "zz"),
        ([f"oci:{GOLDEN_SMALL / 'oci'}:none"], 1, "no image 'none'"),
        (["oci:/nowhere"], 1, "there is no such file"),
        (["-"], 2, "`--images -` reads images from standard input"),
        (["sif:ever"], 2, "unsupported transport"),
        ([APP1, "--platform", "linux"], 2, "wanted OS/ARCHITECTURE"),
        ([APP1, "--platform", "linux/arm64"], 1, "for linux/amd64 only, wanted linux/arm64"),
        ([APP1, "--hard-links", "--no-hard-links"], 2, "found both, wanted one of them"),
        ([APP1, "--no-hard-links", "--hard-links"], 2, "found both, wanted one of them"),
        ([APP1, "--ranges", "none"], 2, "wanted"),
        ([APP1, "--gap", "9" * 19], 2, "wanted a whole number"),
        ([APP1, "--gap", "\u0663"], 2, "wanted a whole number"),
        ([APP1, "--bandwidth", "0"], 2, "wanted a number above 0"),
        ([APP1, "--bandwidth", "1", "--rtt", "nan"], 2, "wanted a number from 0"),
        ([APP1, APP1, "--curve"], 2, "--curve: found several images"),
        ([APP1, "--best-order"], 2, "--best-order: found one image"),
        ([APP1, "--rtt", "5"], 2, "--rtt needs --bandwidth"),
        ([APP1, "--curve", "--explain", "etc"], 2, "exclude each other"),
        ([APP1, "--curve", "--ranges", "whole"], 2, "--curve shows all limits"),
        ([APP1, "--curve", "--gap", "0"], 2, "--curve shows all limits"),
        ([APP1, "--gap", "0", "--ranges", "whole"], 2, "--gap does nothing with --ranges whole"),
        ([APP1, "--accepts", "9", "--ranges", "whole"], 2, "--accepts does nothing with"),
    ],
)
def test_refusals(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words, "--store", STORE]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_options_for_registries_are_said_to_do_nothing_without_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [APP1, "--store", STORE, "--authfile", "x", "--tls-verify", "false"]
    assert main(["plan", *words]) == 0
    shown = capsys.readouterr()
    assert "--authfile does nothing here: no image is in a registry" in shown.err
    assert "--tls-verify does nothing here" in shown.err
    assert "does nothing" not in shown.out


@pytest.mark.parametrize("verb", ["plan", "gather"])
def test_a_platform_is_said_to_choose_nothing_where_there_is_one_only(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--store", STORE, "--platform", "linux/amd64"]
    assert main([verb, APP1, *words]) == 0
    assert "--platform chooses nothing here: no image is one of sev" in capsys.readouterr().err
    each = {"platform": {"os": "linux", "architecture": "amd64"}}
    listed = samples.make_index([(samples.make_image([]), each)])
    layout = samples.write_layout(tmp_path / "layout", {"app": listed})
    assert main([verb, f"oci:{layout}:app", *words]) == 0
    assert "--platform" not in capsys.readouterr().err


def test_the_demo_is_the_same_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "containers.conf").write_text("[engine]\nimage_parallel_copies = 1\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    assert main(["demo"]) == 0
    text = capsys.readouterr().out
    assert "Here already: 640 kB of 2.32 MB (27.5 %)" in text
    assert "at a time" not in text
    assert "vecache plan docker://" in text
    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing_bytes"] == 1_683_870


def test_a_note_says_where_the_machine_pulls_whole_blobs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "storage.conf"
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    words = ["plan", APP1, "--present", BASE_ID]
    head = f'[storage]\ngraphroot = "{STORE}"\n[storage.options]\n'
    conf.write_text(head + 'pull_options = {enable_partial_images = "false"}\n')
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "does not set enable_partial_images" in err
    assert [layer["state"] for layer in json.loads(out)["layers"]] == ["present", "whole"]
    assert json.loads(out)["layers"][1]["missing_bytes"] is None
    conf.write_text(head + 'pull_options = {enable_partial_images = "true"}\n')
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    write_layout(tmp_path / "oci", {"t": [SparseLayer(b'{"version":1,"entries":[]}')]})
    words[1] = f"oci:{tmp_path / 'oci'}:t"  # its TOC names no tar-split
    assert main(words) == 0
    assert "does not set insecure_allow_unpredictable" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_curve_is_drawn(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"curve.{ending}"
    plan(capsys, APP1, "--store", STORE, "--present", "--curve", "-o", str(path))
    begins, holds = {"svg": (b"<?xml", b">Bytes on the wire"), "png": (b"\x89PNG", b"IEND")}[ending]
    drawn = path.read_bytes()
    assert drawn.startswith(begins)
    assert holds in drawn


def test_a_plan_is_drawn_as_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.svg"
    for images, title in (
        ([APP1], b">Pull of oci:"),
        ([APP1, APP1], b">Pulls of 2 images, one after another<"),
    ):
        plan(capsys, *images, "--store", STORE, "--present", "-o", str(path))
        assert title in path.read_bytes()
        assert b">here already<" in path.read_bytes()
    path.unlink()
    plan(capsys, APP1, "--store", STORE, "--explain", "etc", "-o", str(path), code=2)
    assert not path.exists()
