"""At any size no text is cut off, none lies on another, and all have a contrast of 4.5 to 1.

Looked up in what matplotlib draws: where each text is, and which colours are behind it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from tests.draw.samples import Sets, five_layers, make_sets, many_layers
from tests.draw.test_pictures import PICTURES
from tests.draw.test_series import draw as draw_series
from vecache.draw.bars import stacked_bars
from vecache.draw.curves import limit_curve
from vecache.draw.grid import byte_grid
from vecache.draw.picture import _installed_fonts, contrast, ink_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecache.draw.picture import Picture

JAPANESE = [f"localhost/箱/画像の名前-{number}:最新" for number in range(6)]
SAMPLES = {
    "one": many_layers(1),
    "two": many_layers(2),
    "five": five_layers(),
    "sixty": many_layers(60),
    "many": many_layers(300),
    "japanese": make_sets(
        {(row,): 10**6 for row in range(6)} | {tuple(range(6)): 10**7, (0, 1): 10**6}, JAPANESE
    ),
    "large": make_sets(
        {tuple(range(n)): 888_800_000_000 for n in (1, 2, 4, 8, 16)},
        [f"swarm-manager-worker-image:{n}" for n in range(16)],
    ),
}


def check(picture: Picture) -> None:
    picture._set_fonts(_installed_fonts())
    canvas = FigureCanvasAgg(picture.figure)
    drawn = draw_texts(canvas)
    assert drawn
    width, height = canvas.get_width_height()
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    boxes = np.array([text.get_window_extent(renderer).extents for text in drawn])
    low, high = boxes[:, :2], boxes[:, 2:]
    is_cut = (low < 0).any(axis=1) | (high > (width, height)).any(axis=1)
    assert not [drawn[row].get_text() for row in np.flatnonzero(is_cut)]
    common = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).min(axis=2)
    pairs = np.argwhere(np.triu(common > 0.5, 1))  # half a pixel
    assert not [(drawn[a].get_text(), drawn[b].get_text()) for a, b in pairs]
    for text in drawn:
        text.set_visible(False)
    canvas.draw()  # type: ignore[no-untyped-call]
    buffer = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    pixels = np.asarray(buffer)[::-1].copy().view(np.uint32)[:, :, 0]
    for text, box in zip(drawn, boxes.astype(int), strict=True):
        behind = np.unique(pixels[box[1] : box[3] + 1, box[0] : box[2] + 1])
        if text.get_text() != "■":  # the colour of a key, which is no text
            colours = behind.view(np.uint8).reshape(-1, 4)[:, :3] / 255
            assert min(contrast(text.get_color(), each) for each in colours) >= 4.5, text.get_text()


def draw_texts(canvas: FigureCanvasAgg) -> list[Text]:
    """Draw all, and return the texts that were drawn: of an axis those within its limits."""
    drawn: list[Text] = []
    original = Text.draw

    def draw(self: Text, renderer: object) -> None:
        if self.get_visible() and self.get_text().strip():
            drawn.append(self)
        original(self, renderer)  # type: ignore[arg-type]

    with mock.patch.object(Text, "draw", draw), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        canvas.draw()  # type: ignore[no-untyped-call]
    return drawn


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("sets", SAMPLES.values(), ids=SAMPLES)
def test_pictures_of_members(draw: Callable[[Sets], Picture], sets: Sets) -> None:
    check(draw(sets))


@pytest.mark.parametrize("n_members", [1, 2, 60, 300])
def test_a_series(n_members: int) -> None:
    check(draw_series(n_members))


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (2, 3), (60, 6), (300, 20)])
def test_a_table_of_bytes(n_rows: int, n_columns: int) -> None:
    values = np.random.default_rng(0).integers(-1, 10**9, (n_rows, n_columns))
    rows = [f"node-{row}" for row in range(n_rows)]
    columns = [f"localhost/image:{column}" for column in range(n_columns)]
    check(byte_grid(values, rows, columns, title="Fleet", note="Bytes."))


@pytest.mark.parametrize("n_rows", [0, 1, 2, 60, 300])
def test_bars(n_rows: int) -> None:
    values = np.random.default_rng(0).integers(0, 10**9, (4, n_rows)).astype(np.float64)
    parts = dict(zip(("here already", "missing", "missing beyond", "whole"), values, strict=True))
    labels, ends = [f"localhost/image:{n}" for n in range(n_rows)], ["888 kB in 6 ranges"] * n_rows
    check(stacked_bars(parts, labels, ends, title="A plan", note="Bytes."))


@pytest.mark.parametrize("n_limits", [1, 2, 60, 300])
def test_a_curve_of_limits(n_limits: int) -> None:
    slack = np.arange(n_limits)[::-1] * 10**6
    limits = np.arange(1, n_limits + 1)
    for limit_name in ("ranges", "bytes of a gap"):
        check(limit_curve(limits, slack + 10**7, slack, limit_name=limit_name, title="t", note="n"))


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)  # the palest of its greys
    assert contrast("red", "red") == 1
    greys = np.linspace(0, 1, 256)
    assert min(contrast(ink_on((grey,) * 3), (grey,) * 3) for grey in greys) >= 4.5
