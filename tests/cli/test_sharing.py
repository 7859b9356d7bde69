"""`overlap`, `gather`, `rm` and `export` give the same figures as text, JSON and tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import csv, parquet

from tests.golden import GOLDEN_SMALL, layer_ids, needs_debian
from tests.stores import copy_store, debian_store, set_manifest, toc_path
from vecache.cli.main import main
from vecache.report.overlap import overlap_text
from vecache.report.terminal import Screen
from vecache.sharing.exclusive import shares
from vecache.sharing.gather import gather
from vecache.sharing.matrix import overlap
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.contents import By, Grain
STORE = str(GOLDEN_SMALL / "stores" / "dir")
APP2 = f"oci:{GOLDEN_SMALL / 'oci'}:app2"


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    return capsys.readouterr().out


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(run(capsys, *words, "--json"))


def make_tocs(folder: Path, n_layers: int) -> None:
    """Layers that all have one file in common, and one that is exclusive."""
    folder.mkdir()
    for number in range(n_layers):
        files = [
            {"type": "reg", "name": name, "digest": f"sha256:{value:064x}", "size": size}
            for name, value, size in (("bin/sh", 999, 5000), ("etc/own", number, 100 + number))
        ]
        document = {"version": 1, "entries": files}
        (folder / f"layer{number:03}.json").write_text(json.dumps(document))


@pytest.mark.parametrize("by", ["layer", "image"])
@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_overlap_documents_hold_the_matrices(
    by: By, grain: Grain, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(capsys, "overlap", "--store", STORE, "--by", by, "--grain", grain)
    found = overlap(STORE, by, grain)
    assert document["labels"] == list(found.labels)
    for metric in ("files", "chunks", "bytes"):
        assert document[metric] == getattr(found, metric).tolist()
    assert document["dedup"]["file"]["ratio"] > 1
    assert document["excluded"] == []


def test_overlap_prints_a_matrix_with_a_title(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = run(capsys, "overlap", "--store", STORE)
    assert "5 layers, 5 images, 4.96 MB in files." in text
    assert "Of 10 pairs of layers, 5 have files in common." in text
    assert "Bytes of files in common; EXCLUSIVE is what no other layer has:" in text
    assert (
        "#1  dd95d764c505  1.42 MB    1.20 MB        ·  31.3 kB  143 kB   -  40.0 kB  base +1\n"
        in text
    )
    assert "80.0 kB  40.0 kB       3       2  usr/bin/su" in text


@pytest.mark.parametrize(
    ("metric", "title", "cell"),
    [
        ("files", "Number of files in common", "60"),
        ("chunks", "Number of chunks in common", "114"),
        ("jaccard", "Bytes of chunks in common, of what either has", "41.9 %"),
        ("containment", "How much of each row its column has, by chunks", "55.9 %"),
    ],
)
def test_overlap_shows_the_requested_metric(
    metric: str, title: str, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["overlap", "--store", STORE, "--by", "image", "--grain", "chunk"]
    text = run(capsys, *words, "--metric", metric)
    assert f"{title}; EXCLUSIVE is what no other image has:" in text
    assert cell in text
    assert "#3  other" in text


def test_many_layers_are_shown_as_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tocs(tmp_path / "tocs", 200)
    for metric in ("bytes", "containment"):
        text = run(capsys, "overlap", "--store", str(tmp_path / "tocs"), "--metric", metric)
        assert "Layers with most exclusive bytes, 10 of 200:" in text
        assert "layer199" in text
        assert "10 of 19,900:" in text
        assert "layer000  layer001  5.00 kB      1       1" in text
    assert max(map(len, text.splitlines())) <= 110


def test_overlap_writes_every_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("parquet", "csv"):
        run(capsys, "overlap", "--store", STORE, "-o", str(tmp_path / f"pairs.{ending}"))
    expected = overlap(STORE).to_arrow().to_pylist()
    assert parquet.read_table(tmp_path / "pairs.parquet").to_pylist() == expected
    assert csv.read_csv(tmp_path / "pairs.csv").num_rows == len(expected)


def test_excluded_layers_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_store("dir", tmp_path)
    toc_path(root, layer_ids("dir")[4]).unlink()
    text = run(capsys, "overlap", "--store", str(root))
    assert "4008ba2865b7  not counted: no TOC" in text


def test_gather_prints_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["gather", APP2, "--store", STORE, "--reflink", "yes"]
    text = run(capsys, *words, "--present", *layer_ids("dir")[:2])
    assert "1.36 MB in distinct chunks." in text
    assert "2 of 2 local layers hold 758 kB of it (55.7 %), 603 kB is in none." in text
    assert "   1  dd95d764c505  628 kB    46.2 %  732 kB" in text
    assert "No fewer layers can hold as much." in text
    assert "0 of 0 local layers hold 0 B" in run(capsys, *words, "--present")


def test_gather_takes_an_image_that_was_pulled_through_a_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    words = ["gather", "containers-storage:app2", "--store", str(root), "--reflink", "no"]
    before = run_json(capsys, *words)
    set_manifest(root, "app2", of_list=True)
    assert run_json(capsys, *words) == before
    assert before["uncovered_bytes"] == 0


def test_gather_documents_hold_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "gather", APP2, "--store", STORE, "--reflink", "no")
    found = gather(read_contents(STORE), STORE)
    assert document["grain"] == "file"
    assert document["uncovered_bytes"] == 0
    layers = [row["layer"] for row in document["layers"]]
    assert layers == [layer for layer in found.layer_ids if layer in layers]


def test_rm_prints_what_goes_what_remains_and_what_it_costs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = run(capsys, "rm", "app2", "--store", STORE, "--reflink", "no")
    assert "Nothing is removed. 1 layer and 1 image would go, 4 images would remain." in text
    assert "Freed here, without reflinks  983 kB, all files of these layers" in text
    assert "886 kB, the files that no remaining layer has" in text
    assert "4008ba2865b7  983 kB     886 kB" in text
    assert "cf738b6d7c37  image localhost:5001/small/dirs:latest needs it" in text
    assert "localhost:5001/small/app2:latest  886 kB   886 kB  479 kB" in text


def test_rm_documents_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rm", "app2", "app1", "base", "--store", STORE]
    document = run_json(capsys, *words, "--reflink", "yes")
    found = what_if(STORE, ["app2", "app1", "base"], "chunk")
    assert document["freed_now_bytes"] == document["freed_bytes"] == found.freed_bytes
    in_turn = sum(image["in_turn_bytes"] for image in document["images"])
    assert in_turn + document["orphaned_bytes"] == document["freed_bytes"]
    assert [image["fetch_bytes"] > 0 for image in document["images"]] == [
        image["is_removed"] for image in document["images"]
    ]
    without = run_json(capsys, *words, "--reflink", "no")
    assert without["freed_now_bytes"] == without["stored_bytes"] == found.stored_bytes
    linked = run_json(capsys, *words, "--reflink", "no", "--hard-links")
    assert linked["freed_now_bytes"] == linked["freed_bytes"]


def test_options_of_pulls_are_said_to_do_nothing_where_none_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "set")  # without manifests, so no pull of its images can be planned
    run(capsys, "export", "--store", STORE, "-o", target)
    for words in (["gather", APP2, "--store", STORE], ["rm", "app2", "--store", target]):
        assert main([*words, "--layout", "flat", "--parallel", "1"]) == 0
        shown = capsys.readouterr().err
        assert "--layout does nothing here" in shown
        assert "--parallel does nothing here" in shown


def test_a_heatmap_shows_the_requested_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for metric in ("jaccard", "containment"):
        path = tmp_path / f"{metric}.svg"
        run(capsys, "overlap", "--store", STORE, "--metric", metric, "-o", str(path))
    assert "which both have" in (tmp_path / "jaccard.svg").read_text()
    assert "which both have" not in (tmp_path / "containment.svg").read_text()


def test_rm_leaves_the_store_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_store("dir", tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    run(capsys, "rm", "app2", layer_ids("dir")[0], "--store", str(root))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_rm_of_an_unknown_name_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "nothing", "--store", STORE]) == 1
    assert "layers has this id, digest or name" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["rm", "gather"])
def test_a_data_set_does_not_say_how_its_store_shares(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "set")
    run(capsys, "export", "--store", STORE, "-o", path)
    words = [verb, "app2" if verb == "rm" else APP2, "--store", path]
    assert main(words) == 0
    assert "no reflinks are assumed" in capsys.readouterr().err
    assert main([*words, "--reflink", "no"]) == 0
    assert "assumed" not in capsys.readouterr().err


def test_rm_says_that_present_limits_images_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rm", "app2", "--store", STORE, "--present", layer_ids("dir")[2]]
    assert main(words) == 1
    assert "image 'app2': in the store, but hidden by --present" in capsys.readouterr().err
    words[1] = layer_ids("dir")[0][:12]
    assert main(words) == 1
    assert "layer 'dd95d764c505': in the store, but hidden by" in capsys.readouterr().err
    assert main([*words, "app2", "nowhere"]) == 1
    assert main([*words[:1], "nowhere", *words[2:]]) == 1
    assert "none of the store's 5 layers" in capsys.readouterr().err
    assert main(["rm", "app2", "--store", STORE, "--present", "app2", "--reflink", "no"]) == 0


def test_rm_counts_layers_without_a_toc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_store("dir", tmp_path)
    toc_path(root, layer_ids("dir")[4]).unlink()
    text = run(capsys, "rm", "app2", "--store", str(root))
    assert "1 layer of unknown content, 1.0" in text
    assert "4008ba2865b7  unknown    unknown" in text


@pytest.mark.parametrize("ending", ["parquet", "csv", "arrow"])
def test_export_writes_one_file(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"tags.{ending}"
    assert (
        run(capsys, "export", "--store", STORE, "-o", str(path))
        == f"{path}: all tags of 5 layers\n"
    )
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize("name", ["set", "set.parquet"])
def test_export_writes_a_data_set_that_other_verbs_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / name)
    run(capsys, "export", "--store", STORE, "-o", target)
    for words in (["overlap"], ["rm", "app2"], ["gather", APP2]):
        one = run_json(capsys, *words, "--store", STORE, *_without_reflinks(words))
        other = run_json(capsys, *words, "--store", target, *_without_reflinks(words))
        for document in (one, other):
            document.pop("store", None)
            for image in document.get("images", []):
                image.pop("fetch_bytes")  # a data set has no manifests to plan with
        assert one == other


def _without_reflinks(words: list[str]) -> list[str]:
    return [] if words == ["overlap"] else ["--reflink", "no"]


def test_export_refuses_an_unknown_ending_and_a_folder_with_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "export", "--store", STORE, "-o", str(tmp_path / "tags.txt"), code=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    run(capsys, "export", "--store", STORE, "-o", str(tmp_path / "mine"), code=3)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


@needs_debian
def test_the_overlap_of_real_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "overlap", "--store", str(debian_store(tmp_path)))
    assert "5 layers, 0 images, 934 MB in files." in text
    row = "#4  8d666a2dca60  208 MB     199 MB  9.32 MB  4.42 kB  2.57 kB        ·   281 kB"
    assert row in text


@pytest.mark.parametrize(
    ("picture", "title"),
    [
        ("heatmap", "What is shared among 5 images"),
        ("upset", "Who shares what among 5 images"),
        ("treemap", "Who owns the bytes of 5 images"),
        ("curve", "Unique bytes of 5 images"),
    ],
)
def test_overlap_is_drawn(
    picture: str, title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("overlap", "--store", STORE, "--by", "image", "--picture", picture, "-o")
    assert run(capsys, *words, str(tmp_path / "a.svg")) == ""
    run(capsys, *words, str(tmp_path / "a.png"))
    assert f">{title}<" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_several_stores_are_rows_of_their_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stores, and a data set of two of them, beside each other."""
    web, db = copy_store("dir", tmp_path / "web"), copy_store("dir", tmp_path / "db")
    toc_path(db, layer_ids("dir")[4]).unlink()
    stores = ["--store", str(web), "--store", str(db)]
    text = run(capsys, "overlap", *stores)
    assert text.startswith("web, db: 9 layers and 1 not counted, 10 images")
    assert "web: dd95d764c505" in text
    assert "web   4.66 MB     886 kB  " in text
    assert "Both have 3.77 MB of files in common, 81.0 % of the largest." in text
    assert "db: 4008ba2865b7  not counted" in text
    document = run_json(capsys, "overlap", *stores, "--by", "host", "--incomplete-ok")
    assert document["stores"] == {"web": str(web), "db": str(db)}
    assert document["labels"] == document["hosts"] == ["web", "db"]
    assert [each["host"] for each in document["excluded"]] == ["db"]
    assert "store" not in document
    steps = run_json(capsys, "gather", APP2, *stores, "--incomplete-ok")["layers"]
    assert [step["host"] for step in steps] == ["web", "web"]
    folder = str(tmp_path / "set")
    run(capsys, "export", *stores, "-o", folder, "--incomplete-ok")
    words = ["gather", "containers-storage:app2", "--store", folder, "--store", STORE]
    assert run_json(capsys, *words)["layers"][0]["host"] == "db"  # the image is of a later store
    words = ["overlap", "--store", folder, "--store", STORE, "--by", "host", "--incomplete-ok"]
    assert run_json(capsys, *words)["labels"] == ["db", "web", "dir"]


def test_options_for_several_stores_are_refused_for_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["overlap", "--by", "host", "--store", STORE]) == 2
    assert "name several" in capsys.readouterr().err
    words = ["gather", APP2, "--store", STORE, "--store", STORE, "--present", "dd9"]
    assert main(words) == 2
    assert "--present names layers of one store" in capsys.readouterr().err


def test_layers_have_the_names_of_their_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    for image in open_store(root).images():
        path = image.big_data_path(f"sha256:{image.id}")
        config = path.read_text().replace("/bin/sh", "/bin/sh -c #(nop) COPY \\u001b[2J a")
        path.write_text(config)
    for words in (["overlap"], ["rm", "app2"], ["gather", APP2]):
        words += ["--store", str(root), *_without_reflinks(words)]
        text = run(capsys, *words)
        assert "IMAGES" in text
        assert r"COPY \x1b[2J a" in text
        (layer,) = [
            each for each in run_json(capsys, *words)["layers"] if each["layer"][:4] == "4008"
        ]
        assert layer["image_names"] == ["localhost:5001/small/app2:latest"]
        assert layer["created_by"] == "/bin/sh -c #(nop) COPY \x1b[2J a"
    path = tmp_path / "steps.parquet"
    run(capsys, "gather", APP2, "--store", str(root), "--reflink", "no", "-o", str(path))
    table = parquet.read_table(path)
    assert table["created_by"].to_pylist() == ["/bin/sh -c #(nop) COPY \x1b[2J a"] * 2
    assert table["image_names"].to_pylist()[1] == ["localhost:5001/small/app2:latest"]
    contents = read_contents(root)
    titles = contents.titles("layer")
    assert titles[0] == r"dd95d764c505 COPY \x1b[2J a"
    assert contents.titles("image") == contents.labels("image")
    assert overlap(contents).labels == contents.labels("layer")
    pytest.importorskip("matplotlib")
    for words in (["heatmap"], ["upset"], ["treemap"], ["curve"]):
        path = tmp_path / f"{words[0]}.svg"
        run(capsys, "overlap", "--store", str(root), "--picture", *words, "-o", str(path))
        assert r"4008ba2865b7 COPY \x1b[2J a" in path.read_text()


def test_names_are_shown_with_pairs_and_below_a_narrow_matrix() -> None:
    over = overlap(STORE)
    found = shares(STORE)
    repeated = found.repeated_files(0)
    text = overlap_text({"": STORE}, over, found, repeated, "bytes", Screen(80))
    assert "\n    LAYER         IMAGES\n#1  dd95d764c505  base +1\n" in text
    text = overlap_text({"": STORE}, over, found, repeated, "bytes", Screen(60))
    assert "SHARED  IMAGES" in text
    over = overlap(STORE, "image")
    found = shares(STORE, "image")
    text = overlap_text({"": STORE}, over, found, repeated, "bytes", Screen(80))
    assert "IMAGES" not in text
