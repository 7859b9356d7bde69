"""The text of an overlap fits the screen, and each figure in it says what it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.golden import GOLDEN_SMALL
from tests.sharing.build import contents_of
from vecache.index.load import ExcludedLayer
from vecache.report.excluded import excluded_notes
from vecache.report.overlap import METRICS, overlap_text
from vecache.report.terminal import Screen
from vecache.sharing.contents import By, Contents
from vecache.sharing.exclusive import shares
from vecache.sharing.matrix import overlap
from vecache.sharing.repeated import repeated_files
from vecache.sharing.sources import read_contents
from vecache.text import display_width


def text_of(contents: Contents, metric: str = "bytes", by: By = "layer", **screen: Any) -> str:
    over, each = overlap(contents, by), shares(contents, by)
    return overlap_text(
        {"": "here"}, over, each, repeated_files(contents), metric, Screen(**screen)
    )


def toc(*values: int) -> bytes:
    files = [
        {"type": "reg", "name": f"f{value}", "digest": f"sha256:{value:064x}", "size": 1000 + value}
        for value in values
    ]
    return json.dumps({"version": 1, "entries": files}).encode()


def with_hex_ids(contents: Contents) -> Contents:
    """The same layers with ids as Podman makes them, too long for a matrix on a narrow screen."""
    layers = tuple(
        replace(each, record=replace(each.record, id=f"{number:02x}" * 32))
        for number, each in enumerate(contents.layers)
    )
    return Contents(layers)


@pytest.mark.parametrize("metric", METRICS)
def test_tables_fit_a_narrow_screen(metric: str) -> None:
    contents = with_hex_ids(contents_of([toc(0, n + 1) for n in range(40)]))
    text = text_of(contents, metric, width=40)
    rows = [line for line in text.split("\n") if re.match(r"([0-9a-f]{2})\1", line)]
    assert len(rows) == 20
    assert all(display_width(line) <= 40 for line in rows)
    n_shown = 12 if metric != "containment" else 7  # two figures, and so less room for ids
    assert f"\n{'00' * 6}"[: n_shown + 1] in text
    assert f"  {'01' * 6}"[: n_shown + 2] in text


def test_names_that_differ_in_their_folders_show_them() -> None:
    contents = contents_of([toc(1), toc(2)], tops=[0, 1])
    images = [
        replace(image, record=replace(image.record, names=(name,)))
        for image, name in zip(
            contents.images, ("docker.io/library/nginx:latest", "quay.io/me/nginx:1"), strict=True
        )
    ]
    text = text_of(replace(contents, images=tuple(images)), by="image")
    assert "#1  docker.io/library/nginx  1.00 kB" in text
    assert "#2  quay.io/me/nginx:1       1.00 kB" in text


def test_what_is_saved_is_a_share_of_all_bytes_in_files() -> None:
    """Holes count as saved: they are in files, and are not stored."""
    contents = read_contents(GOLDEN_SMALL / "stores" / "dir")
    files, chunks = shares(contents).dedup
    assert chunks.logical_bytes < files.logical_bytes
    text = text_of(contents)
    assert "4.96 MB in files." in text
    saved = 100 * (1 - chunks.unique_bytes / files.logical_bytes)
    assert f"chunks and holes 1.99 MB ({saved:.1f} % less)." in text


def test_an_empty_store_is_one_line() -> None:
    assert text_of(Contents(())) == "here: 0 layers, 0 images, 0 B in files."


def test_many_layers_without_a_toc_are_one_line() -> None:
    """As in a store of images that have no zstd:chunked layers."""
    records = [layer.record for layer in contents_of([toc()] * 9).layers]
    reasons = ["no TOC"] * 5 + ["broken"] + ["no TOC"] + ["odd"] * 2
    excluded = tuple(map(ExcludedLayer, records, reasons))
    contents = Contents((), excluded)
    assert excluded_notes(contents) == [
        ("6 layers", "not counted: no TOC"),
        ("layer5", "not counted: broken"),
        ("layer7", "not counted: odd"),
        ("layer8", "not counted: odd"),
    ]
    assert text_of(contents).startswith("here: 0 layers and 9 not counted, 0 images")
