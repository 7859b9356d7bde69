"""Protects what a gate in CI relies on: limits, exit codes, bad images, lists of images."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_SMALL
from tests.recorded import RecordedPulls
from vecache.cli.main import main
from vecache.cli.values import parse_size

if TYPE_CHECKING:
    from pathlib import Path

STORE = str(GOLDEN_SMALL / "stores" / "dir")
APP1, APP2, NONE = (f"oci:{GOLDEN_SMALL / 'oci'}:{name}" for name in ("app1", "app2", "none"))
EMPTY = ("--store", STORE, "--present", "--reflink", "no")


def plan(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(["plan", *words]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def plan_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    return json.loads(plan(capsys, *words, "--json", code=code)[0])


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0),
        ("1500000", 1_500_000),
        ("7B", 7),
        ("200MB", 200_000_000),
        ("200 MB", 200_000_000),
        ("200mb", 200_000_000),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1GiB", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("0.1GB", 100_000_000),  # a float would be off, as in the next two
        ("0.3kB", 300),
        ("9007199254740993", (1 << 53) + 1),
        ("1.000000000001TB", 1_000_000_000_001),
        ("2TiB", 2 << 40),
        ("1PB", 10**15),
    ],
)
def test_sizes_are_exact(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize(
    "text",
    [
        *("", "MB", "-1", "+1", "1e6", "1_000", "1,000", "0x10", "nan", ".5MB", "1.MB", "1.2.3"),
        *("1M", "1 0", "1  MB", " 1", "1MB ", "1MBit", "1EB", "1iB", "\u0663", "1\n", "9" * 31),
        *("1.5", "0.5B", "1.0001kB", "0.1KiB"),
    ],
)
def test_what_is_not_a_size_in_whole_bytes_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"wanted bytes|whole number of bytes"):
        parse_size(text)
    assert "--fail-over" in plan(capsys, APP1, *EMPTY, f"--fail-over={text}", code=2)[1]


def test_the_limit_is_for_data_and_tocs_to_the_byte(capsys: pytest.CaptureFixture[str]) -> None:
    document = plan_json(capsys, APP1, *EMPTY)
    n_bytes = document["fetch_bytes"] + document["toc_bytes"]
    out, err = plan(capsys, APP1, *EMPTY, "--fail-over", str(n_bytes))
    assert "over the limit" not in err
    over, err = plan(capsys, APP1, *EMPTY, "--fail-over", str(n_bytes - 1), code=4)
    assert over == out
    found = f"{n_bytes:,} bytes of data and TOCs to fetch; --fail-over allows {n_bytes - 1:,}"
    assert err.endswith(f"vecache: over the limit: {found}\n")


def test_the_limit_is_for_all_images_together(capsys: pytest.CaptureFixture[str]) -> None:
    document = plan_json(capsys, APP1, APP2, *EMPTY)
    n_bytes = document["fetch_bounds"][1] + document["toc_bytes"]
    plan(capsys, APP1, APP2, *EMPTY, "--fail-over", str(n_bytes))
    plan(capsys, APP1, APP2, *EMPTY, "--fail-over", str(n_bytes - 1), code=4)


def test_the_limit_is_held_against_the_upper_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = RecordedPulls("layered", tmp_path)
    words = [recorded.reference("multi"), "--store", str(recorded.store("m-def1", None))]
    words += ["--reflink", "yes", "--parallel", "6", "--present"]
    document = plan_json(capsys, *words)
    expected, most = (
        n_bytes + document["toc_bytes"]
        for n_bytes in (document["fetch_bytes"], document["fetch_bounds"][1])
    )
    assert expected < most
    plan(capsys, *words, "--fail-over", str(most))
    text, err = plan(capsys, *words, "--fail-over", str(expected), code=4)
    assert f"up to {most:,} bytes of data and TOCs to fetch, depending on timing" in err
    assert f"({expected:,} expected); --fail-over allows {expected:,}" in err
    (line,) = [line for line in text.splitlines() if line.startswith("By timing:")]
    assert "3.84 MB to 27.5 MB missing and 1.81 MB to 12.1 MB of data, 6 layers" in line
    assert line.endswith("image_parallel_copies = 1 saves 11.4 MB.")


def test_a_bad_image_ends_the_run_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = plan(capsys, APP1, NONE, APP2, *EMPTY, code=1)
    assert out == ""
    assert "no image 'none'" in err


def test_a_bad_image_is_listed_and_the_others_are_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = plan_json(capsys, APP1, APP2, *EMPTY)
    assert good["errors"] == []
    words = [APP1, NONE, "oci:/no\x1bwhere", APP2, *EMPTY, "--keep-going"]
    document = plan_json(capsys, *words, code=3)
    errors = document.pop("errors")
    assert {**document, "errors": []} == good
    assert [error["image"] for error in errors] == [NONE, "oci:/no\x1bwhere"]
    assert "no image 'none'" in errors[0]["error"]
    out, err = plan(capsys, *words, code=3)
    assert "Pulls of 2 images" in out
    assert f"vecache: error: {NONE}: " in err
    assert r"oci:/no\x1bwhere: " in err
    assert err.endswith("2 of 4 images could not be planned; all figures are of the others\n")


def test_an_image_that_can_be_opened_but_not_planned_is_listed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its TOC is read by the plan; the image after it finds the layers of the one before."""
    shutil.copytree(GOLDEN_SMALL / "oci", tmp_path / "oci")
    bad = f"oci:{tmp_path / 'oci'}:other"
    blob = plan_json(capsys, bad, *EMPTY)["layers"][-1]["blob"]
    path = tmp_path / "oci" / "blobs" / "sha256" / blob[7:]
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    plan(capsys, bad, *EMPTY, code=3)
    good = plan_json(capsys, APP1, APP2, *EMPTY)
    for order in ([], ["--best-order"]):
        document = plan_json(capsys, APP1, bad, APP2, *EMPTY, "--keep-going", *order, code=3)
        assert [error["image"] for error in document["errors"]] == [bad]
        assert document["total_bytes"] == good["total_bytes"]
        assert order or document["images"] == good["images"]


def test_an_image_without_a_plan_comes_before_the_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [APP1, NONE, *EMPTY, "--keep-going", "--fail-over", "1kB"]
    err = plan(capsys, *words, code=3)[1]
    assert "over the limit" in err
    assert "could not be planned" in err


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"], ["--explain", "x"]])
def test_a_single_bad_image_is_an_answer_too(
    form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = plan(capsys, NONE, *EMPTY, "--keep-going", "--fail-over", "0", *form, code=3)
    assert "1 of 1 image could not be planned; there are no figures" in err
    if form == ["--json"]:
        document = json.loads(out)
        assert (document["schema"], document["images"]) == ("vecache.plan/1", [])
        assert [error["image"] for error in document["errors"]] == [NONE]
        assert (document["fetch_bytes"], document["fetch_bounds"]) == (0, [0, 0])
    elif form == ["--jsonl"]:
        assert json.loads(out) == {
            "schema": "vecache.plan/1",
            "image": NONE,
            "error": json.loads(out)["error"],
        }
    elif not form:
        assert out == "No image could be planned.\n"


@pytest.mark.parametrize("more", [[], ["--keep-going"]])
def test_an_image_without_the_path_does_not_lose_what_is_said_of_others(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [APP2, APP1, *EMPTY, "--explain", "usr/bin/su", *more]
    out, err = plan(capsys, *words, code=1)
    assert out.startswith(f"{APP1}:\nLayer 1 of 2 (5c7d262a6db1) has usr/bin/su: a file of ")
    assert f"error: {APP2}: no layer has 'usr/bin/su'; did you mean 'data/su'?\n" in err
    document = plan_json(capsys, *words, code=1)
    assert [each["image"] for each in document["images"]] == [APP1]
    assert [each["image"] for each in document["errors"]] == [APP2]
    lines = [json.loads(line) for line in plan(capsys, *words, "--jsonl", code=1)[0].splitlines()]
    assert [each["image"] for each in lines] == [APP1, APP2]
    for images in ([APP2], [APP2, APP2]):
        out, err = plan(capsys, *images, *EMPTY, "--explain", "usr/bin/su", *more, code=1)
        assert err.count("no layer has 'usr/bin/su'") == len(images)
        assert "Layer" not in out


def test_a_bad_image_and_one_without_the_path_are_3(capsys: pytest.CaptureFixture[str]) -> None:
    words = [NONE, APP2, APP1, *EMPTY, "--explain", "usr/bin/su", "--keep-going"]
    document = plan_json(capsys, *words, code=3)
    assert [each["image"] for each in document["errors"]] == [NONE, APP2]


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow", "json", "jsonl"])
def test_files_are_written_without_any_plan(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"plan.{ending}"
    plan(capsys, NONE, *EMPTY, "--keep-going", "-o", str(path), code=3)
    assert path.stat().st_size


def test_every_document_of_several_images_has_the_figures_of_the_wire(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = plan_json(capsys, APP1, APP2, *EMPTY)
    lines = plan(capsys, APP1, APP2, *EMPTY, "--jsonl")[0].splitlines()
    assert [json.loads(line) for line in lines] == document["images"]
    assert {each["schema"] for each in (document, *document["images"])} == {"vecache.plan/1"}
    for name in (
        *("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests"),
        *("whole_layers", "whole_bytes"),
    ):
        assert document[name] == sum(image[name] for image in document["images"])
    for name in ("missing_bounds", "fetch_bounds"):
        bounds = zip(*(image[name] for image in document["images"]), strict=True)
        assert document[name] == [sum(ends) for ends in bounds]


def test_images_come_from_a_file_beside_those_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"# what we deploy\r\n\r\n  {APP2}\t# the second\n\n#{NONE}\n{APP1}"
    path = tmp_path / "images.txt"
    path.write_text(text)
    document = plan_json(capsys, f"oci:{GOLDEN_SMALL / 'oci'}:base", *EMPTY, "--images", str(path))
    assert [image["image"] for image in document["images"]][1:] == [APP2, APP1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    piped = plan_json(capsys, *EMPTY, "--images", "-")
    assert [image["image"] for image in piped["images"]] == [APP2, APP1]


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"# nothing\n\n", 2, "found no image in"),
        (b"\n# x\n./foo\n", 2, "line 3: './foo': no transport"),
        (b"oci:x\nwhat:e\x1bver\n", 2, "line 2: "),
        (b"\xff\n", 2, "line 1: "),
        (b"oci:x\n" * 200_000, 3, "above 1,048,576 bytes"),
    ],
)
def test_a_bad_list_of_images_is_refused_before_the_store_is_opened(
    data: bytes, code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "images.txt"
    path.write_bytes(data)
    words = ["--images", str(path), "--store", "/nowhere", "--keep-going"]
    out, err = plan(capsys, *words, code=code)
    assert out == ""
    assert message in err
    assert "\x1b" not in err


def test_a_list_that_is_not_there_is_unreadable_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/nowhere: No such file" in plan(capsys, "--images", "/nowhere", *EMPTY, code=3)[1]


@pytest.mark.parametrize("verb", ["plan", "gather"])
@pytest.mark.parametrize("store", [STORE, "/nowhere"])
def test_a_malformed_reference_is_wrong_usage_whatever_the_store_is(
    verb: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for reference in ("./foo", "sif:ever", "docker://A/b:c:d", "oci:"):
        assert main([verb, reference, "--store", store]) == 2
        assert capsys.readouterr().out == ""


def test_the_curve_of_one_image_cannot_keep_going(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--curve" in plan(capsys, APP1, *EMPTY, "--curve", "--keep-going", code=2)[1]


def test_exit_codes_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "4 over the limit of --fail-over; 130 interrupted" in capsys.readouterr().out
    assert main(["plan", "--help"]) == 0
    assert "4 over the limit of --fail-over" in capsys.readouterr().out


@pytest.fixture
def presence(tmp_path: Path) -> RecordedPulls:
    return RecordedPulls("presence", tmp_path)


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of each row by the row's first word."""
    table = text.split("\n\n")[1].splitlines()[1:]
    table = [line for line in table if not line.startswith("BLOB: ")]  # what the columns are
    return {line.split("  ")[0]: line.split()[len(line.split("  ")[0].split()) :] for line in table}


def test_a_layer_without_a_toc_has_no_figures_but_what_is_fetched(
    presence: RecordedPulls, capsys: pytest.CaptureFixture[str]
) -> None:
    image = presence.reference("mx/py11a")  # gzip, then zstd:chunked
    document = plan_json(capsys, image, *EMPTY)
    whole, partial = document["layers"]
    assert (whole["state"], whole["toc"]) == ("whole", None)
    assert (whole["total_bytes"], whole["missing_bytes"]) == (None, None)
    assert (document["whole_layers"], document["whole_bytes"]) == (1, whole["fetch_bytes"])
    for name in ("total_bytes", "missing_bytes"):
        assert document[name] == partial[name] > 0
    for ranges in ([], ["--ranges", "whole"]):
        rows = rows_of(plan(capsys, image, *EMPTY, *ranges)[0])
        first, second, in_all = rows.values()
        assert first[1:5] == ["-"] * 4
        assert first[-1] == "-"
        counts = slice(1, 3)
        assert second[counts] == in_all[0:2]
        assert second[-1] == in_all[-1]


def test_where_all_comes_whole_nothing_else_is_known(
    presence: RecordedPulls, capsys: pytest.CaptureFixture[str]
) -> None:
    image = presence.reference("gz/py13")
    for words in ([image], [image, APP1]):
        text = plan(capsys, *words, *EMPTY)[0]
        assert "Whole blobs:  2 of " in text
        assert "nothing is reused in a layer that is fetched whole" in text
    for row in rows_of(text).items():
        if row[0] == image:
            assert row[1][2:4] == ["-", "-"]
            assert row[1][-2:] == ["-", "-"]
    assert rows_of(plan(capsys, image, *EMPTY)[0])["in all"][:4] == ["-"] * 4


def test_whole_ranges_show_the_same_counts_in_rows_and_sum(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [APP2, "--store", STORE, "--present", "--reflink", "yes", "--ranges"]
    rows = [rows_of(plan(capsys, *words, ranges)[0]) for ranges in ("1024", "whole")]
    for ranges in rows:
        *layers, total = ranges.values()
        for column in (0, 1):
            reused, of_all = zip(
                *(cells[column + 1].replace(",", "").split("/") for cells in layers), strict=True
            )
            assert total[column] == f"{sum(map(int, reused))}/{sum(map(int, of_all)):,}"
    assert [cells[:3] for cells in rows[0].values()] == [cells[:3] for cells in rows[1].values()]
