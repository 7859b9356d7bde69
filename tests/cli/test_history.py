"""Protects `vecache history`: which images it takes, every form of output, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow.parquet
import pytest

from tests.golden import GOLDEN_SMALL
from tests.image.registry.cases import SAMPLE
from tests.image.registry.server import Registry, Reply, Request, serve
from tests.image.samples import make_image, write_layout, zstd_layer
from vecache.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT = f"oci:{GOLDEN_SMALL / 'oci'}"
IMAGES = [f"{LAYOUT}:{name}" for name in ("base", "app1", "app2")]


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(["history", *words]) == code
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_images_come_in_the_given_order(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(capsys, *IMAGES, "--json")[0])
    assert document["images"] == IMAGES
    assert document["options"] == {
        "reflink": False,
        "hard_links": False,
        "layout": "dir",
        "parallel": 6,
    }
    tags = json.loads(run(capsys, LAYOUT, "--tags", "base,app1,app2", "--json")[0])
    assert tags == document
    text, notes = run(capsys, *IMAGES)
    assert "SAVED" in text
    assert notes == ""


def test_the_node_is_as_the_options_say(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--reflink", "yes", "--hard-links", "--layout", "flat", "--parallel", "2", "--json"]
    document = json.loads(run(capsys, *IMAGES, *words)[0])
    assert document["options"] == {
        "reflink": True,
        "hard_links": True,
        "layout": "flat",
        "parallel": 2,
    }


def test_the_machine_makes_no_difference(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(capsys, *IMAGES, "--json")
    (tmp_path / "containers.conf").write_text("[engine]\nimage_parallel_copies = 1\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", "/dev/null")
    assert run(capsys, *IMAGES, "--json") == expected


def test_what_a_range_takes_and_leaves_out_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tags = ["1.9", "1.10", "1.9.1", "1.8", *(f"2.{n}" for n in range(20))]
    samples = {tag: make_image([zstd_layer(data=tag.encode())]) for tag in tags}
    layout = f"oci:{write_layout(tmp_path / 'oci', samples)}"
    out, err = run(capsys, layout, "--tags", "1.8..1.10", "--jsonl")
    images = [json.loads(line)["image"] for line in out.splitlines()]
    assert images == [f"{layout}:{tag}" for tag in ("1.8", "1.9", "1.10")]
    assert "note: 3 of 24 tags taken: 1.8, 1.9, 1.10\n" in err
    assert "1 tag of another form between them left out, such as 1.9.1; --tags takes" in err
    assert (
        "2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8, 2.9, 2.10, ..., 2.19\n"
        in run(capsys, layout, "--tags", "2.0..2.19")[1]
    )


def test_tags_of_a_registry_are_listed_and_planned(capsys: pytest.CaptureFixture[str]) -> None:
    samples = {f"1.{n}": make_image([zstd_layer(data=b"d" * n)]) for n in (8, 9, 10)}
    registry = Registry(SAMPLE)

    def rule(request: Request) -> Reply | None:
        name = request.path.rpartition("/")[2]
        if name.startswith("list"):
            last = "last" in name
            body = json.dumps({"tags": ["latest"] if last else list(samples)}).encode()
            return Reply(headers={"Link": "" if last else '<list?last=1>; rel="next"'}, body=body)
        for tag, sample in samples.items():
            if name == tag or name in sample.blobs:
                path = request.path.replace(name, sample.digest if name == tag else name)
                return Registry(sample).behave(Request("GET", path, request.headers, b""))
        return None

    registry.rules = [rule]
    with serve(registry):
        words = [f"docker://{registry.address}/a/b", "--tls-verify", "false"]
        out, err = run(capsys, *words, "--tags", "1.8..1.10", "--json")
        _, missing = run(capsys, *words, "--tags", "1.8..1.11", code=1)
    document = json.loads(out)
    assert document["images"] == [f"{words[0]}:{tag}" for tag in samples]
    assert [step["nothing"]["states"]["partial"] for step in document["steps"]] == [1, 1, 1]
    assert "3 of 4 tags taken: 1.8, 1.9, 1.10" in err
    assert "no tag '1.11' among 4; tags there: '1.9', '1.10'\n" in missing


def test_tables_and_pictures_go_to_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "history.parquet"
    assert run(capsys, *IMAGES, "-o", str(path)) == ("", "")
    table = pyarrow.parquet.read_table(path)
    assert table.num_rows == 1 + 2 * 2 + 3 * 3  # layers, on nodes with nothing, previous, first
    assert {"image", "after", "layer", "state", "fetch_bytes"} <= set(table.column_names)
    for words, text in (([], b"What each image fetches"), (["--between"], b"after one another")):
        run(capsys, *IMAGES, *words, "-o", str(tmp_path / "x.svg"))
        assert text in (tmp_path / "x.svg").read_bytes()
    run(capsys, *IMAGES, "-o", str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    run(capsys, *IMAGES, "-o", str(tmp_path / "x.csv"))
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 15


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "name an IMAGE"),
        (IMAGES[:1], 2, "found one image, wanted several in their order, or --tags"),
        ([*IMAGES, "--tags", "a..b"], 2, "--tags: found 3 images, wanted one without a tag"),
        ([IMAGES[0], "--tags", "app1..app2"], 2, "found a tag or digest, wanted none"),
        ([LAYOUT, "--tags", "app1"], 2, "--tags: found one tag, wanted several"),
        ([LAYOUT, "--tags", "app2..app1"], 2, "found the later tag first, wanted app1..app2"),
        ([LAYOUT, "--tags", ".."], 2, "wanted tags and ranges such as 1.20..1.30,latest"),
        ([LAYOUT, "--tags", "app1..app9"], 1, "no tag 'app9' among 5"),
        (["dir:x", "--tags", "a,b"], 2, "has no tags to choose"),
        ([*IMAGES, "--reflink", "auto"], 2, "found 'auto', wanted yes or no"),
        ([*IMAGES, "--parallel", "0"], 2, "wanted a number from 1"),
        ([*IMAGES, "--store", "x"], 2, "no option"),
        (["sif:ever", "oci:x"], 2, "unsupported transport"),
        (["oci:/nowhere", IMAGES[0]], 1, "there is no such file"),
    ],
)
def test_refusals(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(capsys, *words, code=code)
    assert message in err
    assert out == ""


def test_tags_of_a_layout_cannot_act_on_a_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = make_image([zstd_layer()])
    layout = write_layout(tmp_path / "oci", {"a\x1b[2J": image, "b": image})
    out, err = run(capsys, f"oci:{layout}", "--tags", "a\x1b[2J..b")
    assert "\x1b" not in out + err
