"""Every picture has its title, labels its rows at 5 and at 200, and is the same on every run."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from unittest import mock
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from tests.draw.samples import Sets, five_layers, make_sets, many_layers, png_size, svg
from vecache.draw.curves import limit_curve, unique_curve
from vecache.draw.heatmap import heatmap
from vecache.draw.picture import Picture, bytes_text
from vecache.draw.treemap import treemap
from vecache.draw.upset import upset
from vecache.text import printable, short_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def draw_heatmap(sets: Sets) -> Picture:
    share = sets.jaccard
    return heatmap(share, 1 - share, sets.total_bytes, sets.labels, title="Alike", note="Per cent.")


def draw_upset(sets: Sets) -> Picture:
    return upset(*sets, title="With whom", note="Bytes.")


def draw_treemap(sets: Sets) -> Picture:
    return treemap(*sets, title="Who owns", note="Bytes.")


def draw_unique(sets: Sets) -> Picture:
    new = np.zeros(len(sets.labels), np.int64)
    np.add.at(new, sets.member[sets.start[:-1]], sets.n_bytes)
    return unique_curve(sets.total_bytes, new, sets.labels, title="Unique", note="Bytes.")


PICTURES = (draw_heatmap, draw_upset, draw_treemap, draw_unique)


def texts(picture: Picture) -> list[str]:
    """All texts of the SVG, which is read as XML."""
    root = ET.fromstring(svg(picture))
    return [
        (element.text or "").strip() for element in root.iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("sets", [five_layers(), many_layers(200)], ids=["5", "200"])
def test_pictures_are_deterministic_and_of_a_usable_size(
    draw: Callable[[Sets], Picture], sets: Sets
) -> None:
    picture = draw(sets)
    first, second = svg(picture), svg(draw(sets))
    assert first == second
    assert "dc:date" not in first
    width, height = png_size(picture)
    assert 800 <= width <= 6_000  # two dots a pixel
    assert 800 <= height <= 6_000


@pytest.mark.parametrize("draw", PICTURES)
def test_the_title_is_text_and_read_aloud(draw: Callable[[Sets], Picture]) -> None:
    picture = draw(five_layers())
    assert picture.title in texts(picture)
    assert picture.title in repr(picture)
    root = ET.fromstring(svg(picture))
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert title.tag.endswith("}title")
    assert description.tag.endswith("}desc")
    assert (title.text, description.text) == (picture.title, picture.note)


def test_the_heat_map_labels_rows_and_columns_in_the_order_of_the_tree() -> None:
    sets = five_layers()
    found = texts(draw_heatmap(sets))
    names = [text for text in found if re.fullmatch("[0-9a-f]{12}", text)]
    assert len(names) == 10
    ids = [sets.labels[row][:12] for row in (0, 1, 2, 3, 4)]
    assert names[:5] == names[5:] == ids  # 0 and 1 are similar, then 2 and 3; 4 has nothing
    assert {"16.0 MB", "12.0 MB", "0 B", "65", "0 %", "100 %"} <= set(found)


@pytest.mark.parametrize(("n_layers", "n_labelled"), [(200, 200), (600, 200)])
def test_a_large_heat_map_labels_as_many_rows_as_are_readable(
    n_layers: int, n_labelled: int
) -> None:
    found = texts(draw_heatmap(many_layers(n_layers)))
    names = [text for text in found if re.fullmatch("[0-9a-f]{12}", text)]
    assert len(names) == 2 * n_labelled
    assert not {"1", "5", "10"} & set(found)  # no numbers in cells that small


def test_the_upset_chart_has_the_sets_largest_first() -> None:
    found = texts(draw_upset(five_layers()))
    assert [text for text in found if " in " in text] == [
        "9.0 MB in 2",
        "7.0 MB in 2",
        "2.0 MB in 3",
    ]
    assert sum(bool(re.fullmatch("[0-9a-f]{12}", text)) for text in found) == 4
    assert {"alone", "shared"} <= set(found)


@pytest.mark.parametrize(
    ("module", "draw"), [("heatmap", draw_heatmap), ("upset", draw_upset)], ids=["heatmap", "upset"]
)
def test_labels_are_shortened_once_for_all_rows(
    module: str, draw: Callable[[Sets], Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a row would be quadratic: shortening compares all labels."""
    calls = []

    def count(labels: list[str]) -> list[str]:
        calls.append(len(labels))
        return short_labels(labels)

    monkeypatch.setattr(f"vecache.draw.{module}.short_labels", count)
    draw(many_layers(50))
    assert calls == [50]


def test_the_upset_chart_counts_members_that_have_no_row() -> None:
    found = texts(draw_upset(many_layers(200)))
    assert "3.0 GB in 100" in found
    assert any(re.fullmatch(r"\+\d+", text) for text in found)
    disjoint = make_sets({(0,): 5, (1,): 7}, ["a", "b"])
    assert "Bytes. Nothing is shared." in texts(draw_upset(disjoint))


def test_the_treemap_has_every_byte_once() -> None:
    found = texts(draw_treemap(five_layers()))
    assert {"in one only: 6.0 MB, 25 %", "in 2: 16.0 MB, 67 %", "in 3 or 4: 2.0 MB, 8 %"} <= set(
        found
    )
    sets = many_layers(200)
    tiles = [
        patch for patch in draw_treemap(sets).figure.axes[0].patches if isinstance(patch, Rectangle)
    ]
    area = sum(tile.get_width() * tile.get_height() for tile in tiles)
    assert area == pytest.approx(10 * 6)
    assert any("more" in text for text in texts(draw_treemap(sets)))


def test_the_curve_ends_with_both_sums() -> None:
    found = texts(draw_unique(five_layers()))
    assert {"each its own copy", "44.0 MB", "each content once", "24.0 MB, 45.5 % less"} <= set(
        found
    )


def test_the_curve_of_limits_labels_both_ends() -> None:
    slack = np.array([900, 300, 0], np.int64)
    picture = limit_curve(
        np.arange(1, 4), 5_000 + slack, slack, limit_name="ranges", title="Wire", note="Bytes."
    )
    assert {"5.9 kB", "5.0 kB", "ranges", "Wire"} <= set(texts(picture))


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("n_layers", [0, 1])
def test_an_empty_store_has_a_picture(draw: Callable[[Sets], Picture], n_layers: int) -> None:
    sets = make_sets({}, ["only"] * n_layers)
    assert draw(sets).title in texts(draw(sets))


def test_untrusted_names_are_neither_formulas_nor_markup() -> None:
    names = ["$a_b$", "<b>&", "日本語", "\x1b[2J", "$x", "café"]
    sets = make_sets({(row,): 10**6 for row in range(6)} | {tuple(range(6)): 10**7}, names)
    for draw in PICTURES:
        found = " ".join(texts(draw(sets)))
        assert "$a_b$" in found or draw is draw_treemap  # where tiles are small
        assert "\x1b" not in found
        png_size(draw(sets))  # and no warning, whether a font here has Japanese or not


def test_fonts_without_a_bold_face_are_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("matplotlib.font_manager")

    def draw(_picture: Picture) -> bytes:
        log.warning("findfont: Failed to find font weight bold")  # once a process, so made up here
        return b""

    with mock.patch.object(Picture, "_png", draw):
        Picture(2, 1, "日本語", "Bytes.").write(io.BytesIO(), "png")
    assert not caplog.records
    log.warning("as before")
    assert len(caplog.records) == 1


def test_titles_are_shown_whole_or_cut_and_never_markup() -> None:
    long = "日本語 <b> & \x1b " * 40
    picture = Picture(2, 1, long, "Bytes.")
    assert ET.fromstring(svg(picture))[0].text == picture.title == printable(long)
    assert all(len(text) <= 120 for text in texts(picture))


def test_an_svg_is_the_same_before_and_after_a_png() -> None:
    """Only a PNG depends on the fonts of the machine."""
    picture = draw_heatmap(five_layers())
    first = svg(picture)
    png_size(picture)
    assert svg(picture) == first
    assert "Noto Sans CJK JP" in first


def test_a_notebook_shows_two_dots_a_pixel() -> None:
    picture = draw_unique(five_layers())
    _, shown = picture._repr_png_()
    width, height = png_size(picture)
    assert abs(width - 2 * shown["width"]) <= 1
    assert abs(height - 2 * shown["height"]) <= 1


def test_the_ending_of_a_path_selects_the_form(tmp_path: Path) -> None:
    picture = draw_unique(five_layers())
    picture.save(tmp_path / "a.SVG")
    assert (tmp_path / "a.SVG").read_text() == svg(picture)
    picture.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == picture._repr_png_()[0]
    with pytest.raises(ValueError, match="found 'pdf'"):
        picture.save(tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, numpy as np; from vecache.draw.curves import unique_curve as draw;"
        "draw(np.ones(2, int), np.ones(2, int), ['a', 'b'], title='t', note='n')._repr_png_();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import importlib.util, vecache\n"
        "importlib.util.find_spec = lambda name: None\n"
        "try: import vecache.draw.heatmap\n"
        "except vecache.VecacheError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "pictures need matplotlib: pip install 'vecache[plot]'\n"


def test_bytes_have_units() -> None:
    assert [bytes_text(n) for n in (1, 1_000, 999_999, 10**15)] == [
        "1 B",
        "1.0 kB",
        "1.0 MB",
        "1.0 PB",
    ]
